/** Tables of notable connections, from edges.json: those that hold most of their target's weights, and those that cancel. */

import { addressOf } from "./addresses.js";
import { Missing, largest } from "./atlas.js";
import { h } from "./dom.js";
import { count, percent, short, signed } from "./numbers.js";
import { empty, mapPicture, mapWords, note, shareBar, to, turn, unitPicture } from "./parts.js";

const STEP = 20; // rows at a time
const MOST = 2000;

const WORDS = {
  strongest: "Connections that hold the largest share of all that their target reads from the layer before: its squared norm. Each map has its own scale.",
  cancelled: "Connections whose paths through the layer between excite and inhibit at once, so that little is left of their sum: the weight hides what may be a strong influence in each case.",
};
const EMPTY = {
  strongest: "No weights have been computed yet, so no edge can be told from another.",
  cancelled: "No paths have been computed yet: what cancels is told of neighbouring layers and those two back, where a layer lies between.",
};

/** One row as {target, unit, source, "source unit", …}, by the names of the columns. */
const named = (columns, row) => Object.fromEntries(columns.map((name, i) => [name, row[i]]));

/** A table of edges.json: "strongest" or "cancelled". With words about it, a filter by layer, and "show more". */
export async function edgeTable(here, kind) {
  const { atlas, params } = here;
  const { columns, rows } = (await atlas.json("edges.json"))[kind];
  const within = (params.get("in") ?? "").trim();
  const all = rows.map((row) => named(columns, row)).filter((row) => here.atlas.rows.has(row.target));
  const fits = within ? all.filter((row) => [row.target, row.source].some((name) => name.toLowerCase().includes(within.toLowerCase()))) : all;
  const shown = fits.slice(0, Math.min(Math.max(1, Number.parseInt(params.get("n"), 10) || STEP), MOST));
  if (!all.length) return [empty(EMPTY[kind])];
  return [
    note(WORDS[kind]),
    filter(here, all, within),
    fits.length ? table(here, kind, shown) : empty(`None of the ${count(all.length)} edges is of a layer that is called like “${within}”.`),
    fits.length ? more(shown.length, fits.length, within) : null,
  ];
}

function filter(here, all, within) {
  const layers = [...new Set(all.flatMap((row) => [row.source, row.target]))].filter((name) => here.atlas.rows.has(name) || name === "input");
  layers.sort((a, b) => (here.atlas.rows.get(a)?.number ?? -1) - (here.atlas.rows.get(b)?.number ?? -1));
  const input = h("input", {
    type: "text", id: "within", value: within, list: "within-names", placeholder: "any layer", autocomplete: "off", spellcheck: "false", "data-key": "in",
    on: { change: (event) => here.change({ in: event.target.value.trim() || null, n: null }, { replace: true }) },
  });
  return h("p", { class: "within" }, h("label", { for: "within" }, "from or to "), input, h("datalist", { id: "within-names" }, layers.map((name) => h("option", { value: name }))),
    within ? turn({ in: null, n: null }, { class: "button", "data-key": "in-all" }, "all layers") : null);
}

function more(shown, of, within) {
  const words = `${count(shown)} of ${count(of)} edges${within ? ` from or to “${within}”` : ""} that the atlas lists. `;
  return h("p", { class: "note more" }, words, shown < of ? turn({ n: shown + STEP * 2 }, { class: "button", "data-key": "more" }, "show more") : null);
}

const HEADS = {
  strongest: ["source", "weights", "target", ["share", "of the target's squared norm"], ["norm", "L2 norm of the map"], ["sum", "of the weights at all positions"]],
  cancelled: ["source", "through", "target", ["lost", "share of the sum of magnitudes that cancels"], ["|sum|", "magnitude of the sum over paths, summed over positions"], ["magnitudes", "sum of the paths' magnitudes"]],
};

function table(here, kind, rows) {
  const cells = kind === "strongest" ? strongestCells : cancelledCells;
  return h("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": `table: ${kind === "strongest" ? "strongest" : "most cancelled"} edges` },
    h("table", { class: `edges ${kind}` },
      h("thead", null, h("tr", null, HEADS[kind].map((head, i) => {
        const [name, why] = Array.isArray(head) ? head : [head];
        return h("th", { scope: "col", class: i > 3 ? "num" : null, "data-tip": why ?? null }, name);
      }))),
      h("tbody", null, rows.map((row) => h("tr", null, cells(here, row))))));
}

const ends = (row) => [{ layer: row.source, unit: row["source unit"] }, { layer: row.target, unit: row.unit }];

/** An address that breaks before its number, not within it. */
export const addressCode = (layer, unit) => h("code", null, layer, h("wbr"), h("span", { class: "whole" }, `:${unit}`));

function unitCell({ atlas }, { layer, unit }) {
  const name = addressOf(layer, unit);
  const inside = [unitPicture(atlas, layer, unit, { small: true }), addressCode(layer, unit)];
  return h("td", { class: "end" }, layer === "input" ? inside : to({ unit: name }, { "data-tip": name }, inside));
}

const bar = (value, words = percent(value)) => h("td", { class: "share-cell" }, h("span", { class: "bar-and-number" }, shareBar(value, words), h("span", { "aria-hidden": "true" }, words)));

function strongestCells(here, row) {
  const [from, into] = ends(row);
  const [a, b] = [addressOf(from.layer, from.unit), addressOf(into.layer, into.unit)];
  const holder = h("span", { class: "map-here", data: { source: a, target: b } });
  const opens = to({ edge: b, from: a }, { class: "edge-map", "aria-label": `edge ${a} → ${b}`, "data-tip": `${a} → ${b}\nnorm ${short(row.strength)}, sum ${signed(row.sum)}` }, holder);
  return [
    unitCell(here, from), h("td", { class: "between" }, opens), unitCell(here, into), bar(row.share),
    h("td", { class: "num" }, short(row.strength)), h("td", { class: "num" }, signed(row.sum)),
  ];
}

function cancelledCells(here, row) {
  const [from, into] = ends(row);
  const [a, b] = [addressOf(from.layer, from.unit), addressOf(into.layer, into.unit)];
  return [
    unitCell(here, from),
    h("td", { class: "between" }, to({ edge: b, from: a, via: row.middle }, { class: "through", "aria-label": `edge ${a} → ${b} through ${row.middle}`, "data-tip": `${a} → ${b}\nthrough ${row.middle}` }, h("code", null, row.middle))),
    unitCell(here, into), bar(row["share lost"], `${short(100 * row["share lost"])}\u202f%`),
    h("td", { class: "num" }, short(row["magnitude of the sum"])), h("td", { class: "num" }, short(row["sum of magnitudes"])),
  ];
}

/** Draws the maps of a table once they come into view: each is read from its target's chunk. */
export function drawMaps(here, main, units) {
  const places = [...main.querySelectorAll(".map-here")];
  if (!places.length) return;
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    watcher.unobserve(entry.target);
    drawMap(here, entry.target, units).catch((error) => {
      if (!(error instanceof Missing)) throw error;
      entry.target.dataset.missing = error.message; // the row's numbers stay
    });
  }), { rootMargin: "300px" });
  places.forEach((place) => watcher.observe(place));
}

async function drawMap({ atlas }, place, parsed) {
  const [from, into] = [parsed(place.dataset.source), parsed(place.dataset.target)];
  const pair = atlas.pair(from.layer, into.layer);
  const found = pair && (await atlas.map(pair, into.unit, from.unit));
  if (!found) return;
  const { map: values, rows, columns } = found;
  place.replaceChildren(mapPicture({
    values, rows, columns, scale: largest([values]) || 1, origin: pair.origin, dilation: pair.dilation,
    label: mapWords(values, rows, columns, place.dataset.source, place.dataset.target),
  }));
}
