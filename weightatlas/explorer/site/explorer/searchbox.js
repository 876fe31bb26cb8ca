/** The search of every page: a field whose suggestions are units, layers, families, and the tables of notable edges. */

import { addressOf, parsedUnit, written } from "./addresses.js";
import { combobox } from "./combobox.js";
import { h } from "./dom.js";
import { familyPage, found, unitsFor } from "./finding.js";
import { counting } from "./numbers.js";
import { unitPicture } from "./parts.js";

const MOST = 9; // suggestions at a time

const unitOption = (atlas) => ({ layer, unit }) => ({
  words: addressOf(layer, unit), about: "unit", layer, unit,
  go: { unit: addressOf(layer, unit) }, picture: () => unitPicture(atlas, layer, unit, { small: true }),
});

const layerOption = (atlas) => (row) => ({
  words: row.name, about: `layer, ${counting(row.units, "unit")}`, go: { layer: row.name }, picture: () => unitPicture(atlas, row.name, 0, { small: true }),
});
const familyOption = (atlas) => (family) => ({
  words: family.name, about: `family, ${counting(family.units.length, "unit")}`, go: familyPage(family, written), picture: () => unitPicture(atlas, family.layer, family.units[0] ?? 0, { small: true }),
});
const tableOption = (table) => ({ words: table.name, about: "table", go: { search: table.name } });

/** The layer of the page that is shown: its units come first. */
export const layerHere = (params) => params.get("layer") ?? (parsedUnit(params.get("unit")) ?? parsedUnit(params.get("edge")))?.layer ?? null;

/** Suggestions for a text: what fits best of each kind, so that no kind hides another. */
export function suggestions(here, text) {
  const { atlas } = here;
  const { units, layers, families, tables } = found(atlas, text, { near: layerHere(here.params), most: MOST });
  const kinds = [units.map(unitOption(atlas)), layers.map(layerOption(atlas)), families.map(familyOption(atlas)), tables.map(tableOption)];
  const rooms = kinds.map(() => 0);
  for (let left = MOST; left > 0; ) {
    const open = kinds.findIndex((kind, i) => rooms[i] < kind.length && rooms[i] === Math.min(...kinds.map((k, j) => (rooms[j] < k.length ? rooms[j] : Infinity))));
    if (open < 0) break;
    rooms[open]++;
    left--;
  }
  return kinds.flatMap((kind, i) => kind.slice(0, rooms[i]));
}

/** Units that can be pinned, for the field of the circuit page: those that the text names, or the first of the layers it fits. */
export function unitSuggestions(here, text, taken = []) {
  const { atlas } = here;
  const named = unitsFor(atlas, text, { most: MOST });
  const first = named.length ? [] : found(atlas, text, { most: MOST }).layers.map((row) => ({ layer: row.name, unit: 0 }));
  return [...named, ...first].filter(({ layer, unit }) => !taken.includes(addressOf(layer, unit))).map(unitOption(atlas));
}

/** Goes to what a text names, if it is one thing alone; else shows all that was found. */
function enter(here, text) {
  const all = suggestions(here, text);
  const one = all.find(({ words }) => words === text) ?? (all.length === 1 ? all[0] : null);
  return here.go(one ? one.go : { search: text });
}

/** The form in the header. */
export function searchBox(here) {
  const { input, list } = combobox({
    id: "find", label: "search units, layers, families and edges", placeholder: "unit, layer, family …",
    suggest: (text) => suggestions(here, text),
    choose: (option) => here.go(option.go),
    enter: (text) => enter(here, text),
  });
  if (here.page === "search") input.value = here.params.get("search") ?? "";
  return h("form", { class: "finder", role: "search", on: { submit: (event) => event.preventDefault() } }, input, list);
}
