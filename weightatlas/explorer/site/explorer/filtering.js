/** Which units of a layer are shown: by numbers, by family, or those without a result. */

import { numbers } from "./addresses.js";

/**
 * The units that a text means, of those from 0 to count − 1: "3", "10-20", "dead", part of a family's name, or several
 * with commas between. `families` are those of the layer, `dead` the units that never fire. null for an empty text.
 */
export function filtered(text, count, families, dead) {
  const words = (text ?? "").trim().toLowerCase();
  if (!words) return null;
  const named = families.filter((family) => family.name.toLowerCase() === words);
  const found = new Set(named.length ? named.flatMap((family) => family.units) : words.split(",").flatMap((part) => one(part.trim(), families, dead)));
  return new Set([...found].filter((unit) => unit < count));
}

function one(word, families, dead) {
  if (!word) return [];
  if (word === "dead") return dead;
  return numbers(word) ?? families.filter((family) => family.name.toLowerCase().includes(word)).flatMap((family) => family.units);
}

/** How walls can be sorted, and by what: [parameter, words, numbers or an order, tip]. Only what is known of the layer. */
export function orders({ about, activity, wall }) {
  return [
    ["index", "index", null, "by number"],
    about?.norms && ["norm", "norm", about.norms, "by the L2 norm of all that a unit reads"],
    about?.order?.length && ["similarity", "similarity", null, "alike units stand together: those that read alike sources"],
    activity?.rate && ["rate", "firing rate", activity.rate, "by the share of positions at which it fires"],
    wall?.reached && ["reached", "reached", null, "by how far its picture drives the unit"],
  ].filter(Boolean);
}

/** All units of a layer in an order; those of which a number is not known come last. */
export function sorted(by, count, { about, activity, wall }) {
  const all = Array.from({ length: count }, (_, i) => i);
  if (by === "similarity" && about?.order?.length === count) return about.order;
  const values = { norm: about?.norms, rate: activity?.rate, reached: wall && spread(wall, count) }[by];
  if (!values) return all;
  const known = (unit) => values[unit] ?? -Infinity;
  return all.sort((a, b) => known(b) - known(a) || a - b);
}

/** The numbers of a wall's pictures at the numbers of their units. */
export function spread(wall, count) {
  const values = new Array(count).fill(null);
  wall.units.forEach((unit, i) => (values[unit] = wall.reached[i]));
  return values;
}
