/** A map with a number on each square, and axes that say where each lies from the target's position. */

import { colour, inkOn, palette } from "../../colours.js";
import { h } from "../../dom.js";
import { short, signed } from "../../numbers.js";
import { mapPicture } from "../../parts.js";
import { roving } from "../../roving.js";

const MOST = 441; // squares that get an element of their own
const ROOMY = 2.6; // rem of a square's side that a number needs, and a small one
const TIGHT = 2;

/**
 * The squares at the target's own position t, from t · stride to just before (t + 1) · stride, as [row, column, rows,
 * columns]; null where none begins there or they are all there are. As weightatlas/figures/cards.py has it.
 */
export function ownBlock(shape, { origin, stride, dilation }) {
  const found = shape.map((size, i) => {
    const at = -origin[i] / dilation[i];
    if (at < 0 || at >= size || at !== Math.floor(at)) return null;
    return [at, Math.min(Math.max(1, Math.ceil(stride[i] / dilation[i])), size - at)];
  });
  if (!found[0] || !found[1]) return null;
  const block = [found[0][0], found[1][0], found[0][1], found[1][1]];
  return block[2] === shape[0] && block[3] === shape[1] ? null : block;
}

/** Where a row or column of squares lies, in steps of the source grid. */
export const place = (pair, axis, i) => pair.origin[axis] + i * pair.dilation[axis];

/** Numbers as short as they can be told apart: {of: value → text, unit: "" or "10⁻⁵"}, with equal decimals. */
export function decimals(scale, digits) {
  const size = scale > 0 ? Math.floor(Math.log10(scale)) : 0;
  const power = size < -3 || size > 4 ? size : 0;
  const after = Math.max(0, digits - 1 - (size - power));
  const text = (value) => {
    const plain = (Math.abs(value) / 10 ** power).toFixed(after);
    return (value < 0 && Number(plain) ? "−" : "") + plain;
  };
  return { of: text, unit: power ? `10${[...String(power)].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[c === "-" ? 0 : Number(c) + 1]).join("")}` : "" };
}

/** {element, unit}: the map as a grid that keys can walk, or, of very many squares, as one picture. */
export function numberedMap(pair, { values, rows, columns }, scale, own, label) {
  return rows * columns > MOST ? plainMap(pair, { values, rows, columns }, scale, own, label) : squares(pair, { values, rows, columns }, scale, own, label);
}

function squares(pair, { values, rows, columns }, scale, own, label) {
  const written = decimals(scale, columns > 5 ? 2 : 3);
  const cells = Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => square(pair, values[r * columns + c], r, c, scale, written)));
  const axis = (i, kind, at) => h("div", { role: kind, class: "axis", style: { "grid-area": at ? `1 / ${i + 2}` : `${i + 2} / 1` } }, signed(place(pair, at, i)));
  const box = h("div", { class: "numbered", role: "grid", "aria-label": label, "aria-readonly": "true", style: shape(rows, columns) },
    h("div", { role: "row" }, h("div", { role: "columnheader", class: "axis corner", "aria-label": "y down, x right" }, "y ↓ x →"),
      Array.from({ length: columns }, (_, c) => axis(c, "columnheader", 1))),
    cells.map((line, r) => h("div", { role: "row" }, axis(r, "rowheader", 0), line)),
    own && h("div", { class: "own", role: "presentation", style: { "grid-area": `${own[0] + 2} / ${own[1] + 2} / span ${own[2]} / span ${own[3]}` } }));
  roving(box, cells, [Math.floor(rows / 2), Math.floor(columns / 2)]);
  fitting(box, cells[0][0]);
  return { element: box, unit: written.unit };
}

function square(pair, value, r, c, scale, written) {
  const at = `(${signed(place(pair, 0, r))}, ${signed(place(pair, 1, c))})`;
  return h("div", {
    role: "gridcell", class: "square", "data-tip": `${at}  ${signed(value, 4)}`, "data-key": `square ${r} ${c}`,
    style: { "grid-area": `${r + 2} / ${c + 2}`, background: colour(value, scale, palette()), color: inkOn(value, scale, palette()) },
  }, h("span", null, written.of(value)));
}

/** Few squares are large, many are small; never more than the place there is. */
const shape = (rows, columns) => ({ "--rows": rows, "--columns": columns, "--side": `${Math.min(rows * columns === 1 ? 8 : 5.4, 30 / Math.max(rows, columns))}rem` });

/** Numbers become smaller, and then hide, where squares are too small for them; the tip goes on telling. */
function fitting(box, cell) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  new ResizeObserver(() => {
    const side = cell.offsetWidth / rem;
    box.dataset.room = side >= ROOMY ? "roomy" : side >= TIGHT ? "tight" : "none";
  }).observe(box);
}

function plainMap(pair, { values, rows, columns }, scale, own, label) {
  const share = (part, all) => `${(100 * part) / all}%`;
  const ends = (axis, size) => `${signed(place(pair, axis, 0))} to ${signed(place(pair, axis, size - 1))}`;
  const map = mapPicture({ values, rows, columns, scale, label, origin: pair.origin, dilation: pair.dilation });
  const frame = own && h("div", { class: "own", style: { left: share(own[1], columns), top: share(own[0], rows), width: share(own[3], columns), height: share(own[2], rows) } });
  return { unit: "", element: h("figure", { class: "plainmap" }, h("div", { class: "ground" }, map, frame),
    h("figcaption", { class: "note" }, `y down ${ends(0, rows)}, x right ${ends(1, columns)}: ${short(rows * columns)} squares, too many for numbers; hover tells each`)) };
}
