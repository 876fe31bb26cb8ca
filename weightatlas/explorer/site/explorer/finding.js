/** Finding units, layers and families by what one types. No index is kept: layers are few, and units are counted, not listed. */

import { addressOf } from "./addresses.js";

export const TABLES = [
  { name: "strongest edges", key: "strongest", words: "connections that hold the largest share of their target's weights" },
  { name: "most cancelled edges", key: "cancelled", words: "connections whose paths through the layer between cancel" },
];

const LONGEST = 200; // characters of a text that are looked at
const folded = (text) => text.toLowerCase().slice(0, LONGEST);

/**
 * How well a name fits a text; 0 is the same, null is not at all. A piece that begins or ends where a word of the name
 * does ("4.1" in "blocks.4.1") fits better than one from the midst of a word.
 */
export function fit(name, text) {
  const at = name.indexOf(text);
  if (at < 0) return null;
  if (name.length === text.length) return 0;
  const starts = at === 0 || !/[a-z0-9]/.test(name[at - 1]);
  const end = at + text.length;
  const ends = end === name.length || !/[a-z0-9]/.test(name[end]);
  return (starts && ends && end === name.length ? 1 : starts && ends ? 2 : starts ? 3 : 4) + (at === 0 ? 0 : 0.5);
}

/** All words of a text must fit; how well the worst of them does. */
function fitAll(name, words) {
  let worst = 0;
  for (const word of words) {
    const one = fit(name, word);
    if (one === null) return null;
    worst = Math.max(worst, words.length > 1 ? one + 1 : one);
  }
  return worst;
}

function best(entries, nameOf, text) {
  const words = text.split(/\s+/).filter(Boolean);
  const found = [];
  entries.forEach((entry, order) => {
    const name = folded(nameOf(entry));
    const rank = fit(name, text) ?? fitAll(name, words);
    if (rank !== null) found.push({ entry, rank, order });
  });
  found.sort((a, b) => a.rank - b.rank || a.order - b.order);
  return found;
}

/** "4.1:45", "4.1 45", "45" as {layer: "4.1" or "", unit: 45}; null if there is no number at the end. */
export function halves(text) {
  const match = /^(?:(.*?)\s*[:\s/]\s*)?([0-9]{1,9})$/.exec(text.trim());
  return match && { layer: folded(match[1] ?? "").trim(), unit: Number(match[2]) };
}

/** Units that a text can mean, best first: {layer, unit}. `near` is a layer whose units come first for a bare number. */
export function unitsFor(atlas, text, { near = null, most = 8 } = {}) {
  const given = halves(text.trim());
  if (!given) return [];
  const rows = given.layer ? best(atlas.layers, (row) => row.name, given.layer) : atlas.layers.map((entry, order) => ({ entry, rank: entry.name === near ? 0 : 1, order }));
  rows.sort((a, b) => a.rank - b.rank || a.order - b.order);
  const found = [];
  for (const { entry } of rows) {
    if (given.unit < entry.units) found.push({ layer: entry.name, unit: given.unit });
    if (found.length >= most) break;
  }
  return found;
}

/** What a text can mean: {units, layers, families, tables}; each list best first. */
export function found(atlas, text, { near = null, most = 8 } = {}) {
  const short = folded(text.trim());
  if (!short) return { units: [], layers: [], families: [], tables: TABLES };
  return {
    units: unitsFor(atlas, short, { near, most }),
    layers: best(atlas.layers, (row) => row.name, short).slice(0, most).map(({ entry }) => entry),
    families: best(atlas.families, (family) => family.name, short).slice(0, most).map(({ entry }) => entry),
    tables: TABLES.filter((table) => fit(table.name, short) !== null || fitAll(table.name, short.split(/\s+/)) !== null),
  };
}

/** Where a family is drawn as a grid. */
export const familyPage = ({ layer, units }, written) => ({ grid: addressOf(layer, written(units)) });

/** Letters that have to be put in, taken out or changed to get from one text to another; more than `most` is `most + 1`. */
export function distance(a, b, most = 12) {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let before = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const now = [i];
    for (let j = 1; j <= b.length; j++) {
      now[j] = Math.min(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    before = now;
  }
  return Math.min(before[b.length], most + 1);
}

/** The names nearest to a text, if any is near: for "did you mean". */
export function nearest(names, text, most = 4) {
  const short = folded(text).slice(0, 80);
  const far = Math.max(2, Math.ceil(short.length * 0.5));
  return names
    .map((name) => ({ name, far: distance(short, folded(name).slice(0, 80), far) }))
    .filter((one) => one.far <= far)
    .sort((a, b) => a.far - b.far)
    .slice(0, most)
    .map((one) => one.name);
}
