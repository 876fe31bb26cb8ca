/** Two families as a matrix of maps: pictures along both sides stay in view, one tab stop, arrows walk. */

import { addressOf } from "../../addresses.js";
import { strength } from "../../atlas.js";
import { h } from "../../dom.js";
import { short, signed } from "../../numbers.js";
import { to, unitPicture } from "../../parts.js";
import { roving } from "../../roving.js";
import { drawn, toldOf } from "./drawing.js";

/**
 * @param view {atlas, pair, target, source, targets, sources, cells, rows, columns, scale, transposed}: `target` and `source`
 *   are layers.
 * @param remove called with ("targets" or "sources", unit) when a unit is taken away; gives a promise of the page without it
 */
export function matrix(view, remove) {
  const [down, across] = view.transposed ? ["targets", "sources"] : ["sources", "targets"];
  const heads = view[across].map((unit, c) => head(view, across, unit, remove, "columnheader", c));
  const lines = view[down].map((unit, r) => ({
    side: head(view, down, unit, remove, "rowheader", r),
    cells: view[across].map((other, c) => cell(view, ...(view.transposed ? [r, c] : [c, r]), r, c)),
  }));
  const size = side(view[down].length, view[across].length);
  const box = h("div", {
    role: "grid", class: "matrix", "aria-label": `weights from ${view.source} to ${view.target}: ${down} down, ${across} across`,
    "aria-rowcount": view[down].length + 1, "aria-colcount": view[across].length + 1,
    style: { "--across": view[across].length, "--down": view[down].length, "--cell": `${size}rem` },
  },
  drawn(view, size),
  h("div", { role: "row" }, corner(view, down, across), heads),
  lines.map(({ side: first, cells }) => h("div", { role: "row" }, first, cells)));
  const stops = [[null, ...heads.map(stop)], ...lines.map(({ side: first, cells }) => [stop(first), ...cells.map(stop)])];
  roving(box, stops, [1, 1], (event, r, c) => {
    if (!["Delete", "Backspace"].includes(event.key) || (r && c)) return;
    event.preventDefault();
    const at = `.headcell[role="${r ? "rowheader" : "columnheader"}"]`;
    const gone = remove(r ? down : across, r ? view[down][r - 1] : view[across][c - 1]);
    gone?.then(() => [...document.querySelectorAll(at)].slice(0, r || c).at(-1)?.querySelector("a, [data-stop]").focus());
  });
  crosshair(box, heads, lines);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "grid of weights; arrows walk in it" }, box);
}

const stop = (element) => element.querySelector("a, [data-stop]");

/** Cells are large where they are few. */
const side = (down, across) => Math.max(2.75, Math.min(7, 42 / Math.max(across * 0.8, down)));

const corner = (view, down, across) => {
  const layer = { targets: view.target, sources: view.source };
  return h("div", { role: "columnheader", class: "corner", style: { "grid-area": "1 / 1" }, "data-tip": `across: ${across}, units of ${layer[across]}\ndown: ${down}, units of ${layer[down]}` },
    h("span", { class: "across" }, h("code", null, layer[across]), " →"), h("span", { class: "down" }, h("code", null, layer[down]), " ↓"));
};

function head(view, which, unit, remove, role, at) {
  const layer = which === "targets" ? view.target : view.source;
  const name = addressOf(layer, unit);
  const picture = unitPicture(view.atlas, layer, unit, { small: true });
  const tip = `${name}\n${which === "targets" ? "target" : "source"}; Delete takes it away`;
  const words = [picture, h("code", null, String(unit))];
  const shown = layer === "input" ? h("span", { class: "unit", "data-stop": "", "data-tip": tip, "aria-label": name, role: "img" }, words)
    : to({ unit: name }, { class: "unit", "data-tip": tip, "aria-label": name, "data-key": `${role} ${unit}`, "aria-keyshortcuts": "Delete" }, words);
  const gone = h("button", { type: "button", class: "gone", tabindex: "-1", "aria-label": `take ${name} away`, "data-tip": `take ${name} away`, on: { click: () => remove(which, unit) } }, "×");
  const place = role === "columnheader" ? `1 / ${at + 2}` : `${at + 2} / 1`;
  return h("div", { role, class: "headcell", style: { "grid-area": place }, [role === "columnheader" ? "aria-colindex" : "aria-rowindex"]: at + 2 }, shown, view[which].length > 1 ? gone : null);
}

/** A cell is a link over its part of the one drawing. */
function cell(view, t, s, r, c) {
  const place = { "grid-area": `${r + 2} / ${c + 2}` };
  const [from, into] = [addressOf(view.source, view.sources[s]), addressOf(view.target, view.targets[t])];
  const map = view.cells[t][s];
  if (!map) {
    const words = `${into} cannot see ${from}: it is in another group`;
    return h("div", { role: "gridcell", class: "cell", style: place }, h("span", { class: "blind", "data-stop": "", "data-tip": words, "aria-label": words, role: "img" }));
  }
  const norm = short(strength(map) * view.spread);
  const words = `${from} → ${into}\nL2 ${norm}${map.length === 1 ? `, weight ${signed(map[0])}` : ""}`;
  const label = `${from} to ${into}: L2 ${norm}, sum ${signed(map.reduce((a, b) => a + b, 0))}`;
  const anchor = to({ edge: into, from }, { "data-tip": words, "aria-label": label, "data-key": `cell ${from} ${into}` });
  if (map.length > 1) anchor.told = toldOf(view, map);
  return h("div", { role: "gridcell", class: "cell", style: place }, anchor);
}

/** The headers of the cell that is hovered or focused light up. */
function crosshair(box, heads, lines) {
  const place = new Map();
  lines.forEach(({ side: first, cells }) => cells.forEach((element, c) => place.set(element, [first, heads[c]])));
  let lit = [];
  const light = (event) => {
    const found = place.get(event.target.closest?.(".cell")) ?? [];
    if (found[0] === lit[0] && found[1] === lit[1]) return;
    lit.forEach((element) => element.classList.remove("lit"));
    found.forEach((element) => element.classList.add("lit"));
    lit = found;
  };
  for (const name of ["pointerover", "focusin", "pointerleave", "focusout"]) box.addEventListener(name, light);
}
