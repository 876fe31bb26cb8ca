/** Families as small strips of pictures, each a link to the grid of its units over what they read. */

import { written } from "./addresses.js";
import { h } from "./dom.js";
import { counting } from "./numbers.js";
import { to, unitPicture } from "./parts.js";

const SHOWN = 6; // pictures of a strip
const KINDS = [
  ["people", "named by people"],
  ["address", "in the address of this page"],
  ["rule", "found by rule"],
];

/** What a family shows. `badge` marks it where units wear the same mark, `tools` are put below. */
export function familyStrip(here, family, { badge = null, tools = null } = {}) {
  const { atlas } = here;
  const row = atlas.rows.get(family.layer);
  const units = row ? family.units.filter((unit) => unit < row.units) : [];
  const gone = family.units.length - units.length;
  const words = [family.layer, counting(units.length, "unit"), gone ? `${gone} not in this atlas` : null].filter(Boolean).join(" · ");
  const inside = [
    h("span", { class: "strip", "aria-hidden": "true" }, units.slice(0, SHOWN).map((unit) => unitPicture(atlas, family.layer, unit, { small: true })),
      units.length > SHOWN && h("span", { class: "more" }, `+${units.length - SHOWN}`)),
    h("span", { class: "name" }, badge && h("b", { class: "letter" }, badge), family.name),
  ];
  return h("li", { class: "family" },
    units.length ? to({ grid: `${family.layer}:${written(units)}` }, { "data-tip": `grid of ${family.name} over what it reads` }, inside) : h("div", null, inside),
    h("p", { class: "of" }, words), tools);
}

/** All of some families, by who named them. `each` gives what belongs to one: {badge, tools}. */
export function familyGroups(here, families, each = () => ({})) {
  return KINDS.map(([by, words]) => [words, families.filter((family) => family.by === by)])
    .filter(([, found]) => found.length)
    .map(([words, found]) => h("div", { class: "kind" }, h("h3", null, words), h("ul", { class: "families" }, found.map((family) => familyStrip(here, family, each(family))))));
}
