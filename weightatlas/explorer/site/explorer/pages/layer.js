/** A layer: its facts, what it reads and what reads it, and a wall of all its units, as pictures or as factors. */

import { numbers } from "../addresses.js";
import { h } from "../dom.js";
import { filtered, orders, sorted, spread } from "../filtering.js";
import { count, counting } from "../numbers.js";
import { choice, empty, heading, note, to, turn } from "../parts.js";
import { Wall } from "../wall.js";
import { aboutLayer, neighbours } from "./layer/aside.js";
import { familiesSection } from "./layer/families.js";
import { factorsOf } from "./layer/factors.js";
import { chosen, selectionBar, selecting } from "./layer/selection.js";
import { tiles } from "./layer/tiles.js";

const SIZES = { s: 2.6, m: 4.3, l: 7.4 }; // rem
const CAPTION = 1.3;
const TYPING = 250; // milliseconds from a letter to what it finds
const reader = { layer: null, unit: 0 }; // the tile that the Tab key comes back to

export async function render(here) {
  const { atlas, params } = here;
  const row = atlas.layer(params.get("layer"));
  const known = await knowledge(atlas, row);
  const factors = params.get("tiles") === "factors" ? await factorsOf(atlas, row.name, params.get("over")) : null;
  const view = state(here, row, known, factors);
  if (reader.layer !== row.name) Object.assign(reader, { layer: row.name, unit: view.units[0] ?? 0 });
  const wall = view.units.length ? new Wall({
    units: view.units, side: SIZES[view.size], caption: view.size === "s" ? 0 : CAPTION, many: view.select,
    label: `${counting(view.units.length, "unit")} of ${row.name}`, tile: tiles(here, row, view),
    active: reader.unit, moved: (unit) => (reader.unit = unit),
  }) : null;
  if (wall && view.select) selecting(here, wall, view);
  const [before, after] = [atlas.layers[row.number - 1], atlas.layers[row.number + 1]];
  return {
    title: row.name,
    body: [title(row, before, after), h("div", { class: "sides" },
      aboutLayer(row), h("div", { class: "walls" }, wallSection(here, row, view, wall), familiesSection(here, row, view)), neighbours(here, row))],
    keys: { k: before && (() => here.go({ layer: before.name })), j: after && (() => here.go({ layer: after.name })), u: () => here.go({}) },
    shown: (main) => {
      wall?.begin();
      atEnd(main.querySelector("#only"));
    },
  };
}

/** What is known of all units; null for what is not there (yet). */
async function knowledge(atlas, row) {
  const recipe = atlas.wallRecipe(row.name);
  const [about, activity, wall] = await Promise.all([
    row.described ? atlas.quietly(atlas.about(row.name, "units")) : null,
    row.activations === true ? atlas.quietly(atlas.about(row.name, "activations")) : null,
    recipe ? atlas.quietly(atlas.json(`walls/${row.path}/${recipe}/wall.json`)) : null,
  ]);
  return { about, activity, wall, recipe };
}

/** The view as the address tells it. */
function state({ atlas, params }, row, known, factors) {
  const families = atlas.families.filter((family) => family.layer === row.name);
  const sorts = orders(known);
  const sort = sorts.some(([name]) => name === params.get("sort")) ? params.get("sort") : "index";
  const silent = Object.values(row.pictures ?? {}).flatMap((about) => about.without_result ?? []);
  const dead = known.activity?.dead ?? numbers(silent.map(([a, b]) => `${a}-${b}`).join(",")) ?? [];
  const only = params.get("only") ?? "";
  const found = filtered(only, row.units, families, dead);
  const all = sorted(sort, row.units, known);
  return {
    ...known, layer: row.name, families, sorts, sort, dead: new Set(dead), only, factors,
    reached: known.wall?.reached ? spread(known.wall, row.units) : null,
    tiles: factors ? "factors" : "pictures",
    size: Object.hasOwn(SIZES, params.get("size") ?? "") ? params.get("size") : "m",
    select: params.has("select"), chosen: chosen(params, row.units),
    units: found ? all.filter((unit) => found.has(unit)) : all,
  };
}

function title(row, before, after) {
  const step = (other, words, sign) => other
    ? to({ layer: other.name }, { class: "step", "data-tip": `${words} layer: ${other.name}`, "aria-label": `${words} layer, ${other.name}`, "data-key": words }, sign)
    : h("span", { class: "step", "aria-hidden": "true" }, sign);
  return h("div", { class: "head layertitle" }, h("h1", null, row.name), h("nav", { class: "layersteps", "aria-label": "layers" }, step(before, "previous", "←"), step(after, "next", "→")));
}

function wallSection(here, row, view, wall) {
  return h("section", { class: "units" },
    heading("Units", view.units.length === row.units ? count(row.units) : `${count(view.units.length)} of ${count(row.units)}`),
    h("div", { class: "wallhead" },
      choice("tiles", [["pictures", "pictures", "what excites each unit"], ["factors", "factors", "its weights in a few colours"]], view.tiles, "what tiles show"),
      view.sorts.length > 1 ? h("span", { class: "by" }, "by ", choice("sort", view.sorts.map(([name, words, , tip]) => [name, words, tip]), view.sort, "order of units")) : null,
      choice("size", [["s", "S", "small tiles"], ["m", "M", "middling tiles"], ["l", "L", "large tiles"]], view.size, "size of tiles", "m"),
      filter(here, view),
      turn({ select: view.select ? null : "on" }, { class: "button", role: "button", "aria-pressed": String(view.select), "data-key": "select", "data-tip": "choose units, to name them as a family or to see them as a grid" }, "select")),
    view.tiles === "factors" ? view.factors.caption : pictureWords(here, row, view),
    wall ? wall.element : empty("No unit of this layer is meant by that: a number, 10-20, dead, or part of a family's name."),
    view.select || view.chosen.size ? selectionBar(here, row, view) : null);
}

/** What the pictures are, and how many there are. */
function pictureWords({ live }, row, { recipe, wall }) {
  if (!recipe) {
    const some = Object.values(row.pictures ?? {}).some((about) => about.made?.length);
    return note(some ? "No sprite sheet yet; pictures one by one." : `No pictures yet. ${live.can("pictures") ? "On a unit's page they can be asked for." : live.why}`);
  }
  const made = wall ? wall.units.length - (wall.missing?.length ?? 0) : null;
  const few = made !== null && made < row.units ? ` ${count(made)} of ${count(row.units)} are made.` : "";
  const kept = median(wall?.kept);
  return note(`What excites each unit, by the recipe ${recipe}.${few}`, kept !== null ? ` Seen from elsewhere, a picture keeps ${Math.round(100 * kept)} % of what it reaches (median).` : "");
}

function median(values) {
  const known = (values ?? []).filter((value) => value !== null).sort((a, b) => a - b);
  return known.length ? known[known.length >> 1] : null;
}

function filter(here, { only }) {
  let waiting = 0;
  const take = (field) => {
    clearTimeout(waiting);
    const now = new URLSearchParams(location.search).get("only") ?? ""; // a field that leaves the page tells of a change once more
    if (field.isConnected && field.value.trim() !== now) here.change({ only: field.value.trim() || null }, { replace: true });
  };
  return h("input", { id: "only", type: "search", value: only, placeholder: "3, 10-20, dead, family", "aria-label": "show only these units: numbers, ranges, dead, or a family", autocomplete: "off", spellcheck: "false", "data-key": "only", on: {
    input: ({ target }) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => take(target), TYPING);
    },
    change: ({ target }) => take(target),
  } });
}

/** A field that was drawn anew gets the cursor behind its last letter, where it was. */
function atEnd(field) {
  field?.setSelectionRange(field.value.length, field.value.length);
}

