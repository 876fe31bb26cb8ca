/** All maps of a grid in one canvas: a thousand small ones would not scroll smoothly. */

import { diverging, palette } from "../../colours.js";
import { h } from "../../dom.js";
import { signed } from "../../numbers.js";

const MOST = 4000; // pixels of the canvas on a side: more is not drawn everywhere
const LINE = 1; // CSS pixels between cells, on each side

/** The canvas; `size` is that of a cell, in rem. Where units cannot see each other it is left empty. */
export function drawn(view, size) {
  const [down, across] = view.transposed ? [view.targets, view.sources] : [view.sources, view.targets];
  const cells = down.map((_, r) => across.map((__, c) => (view.transposed ? view.cells[r][c] : view.cells[c][r])));
  const pixel = parseFloat(getComputedStyle(document.documentElement).fontSize) * (devicePixelRatio || 1);
  const side = Math.max(1, Math.floor(Math.min(size * pixel, MOST / Math.max(down.length, across.length))));
  const canvas = h("canvas", { class: "maps", width: across.length * side, height: down.length * side, "aria-hidden": "true" });
  const small = squares(view, cells);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const inner = side - 2 * LINE * (side / ((size * pixel) / (devicePixelRatio || 1)));
  const [w, height] = fitted(view, inner);
  cells.forEach((row, r) => row.forEach((map, c) => map && context.drawImage(
    small, c * view.columns, r * view.rows, view.columns, view.rows,
    Math.round(c * side + (side - w) / 2), Math.round(r * side + (side - height) / 2), Math.round(w), Math.round(height))));
  return canvas;
}

/** Every square one pixel, all maps side by side. */
function squares(view, cells) {
  const { rows, columns } = view;
  const across = cells[0].length * columns;
  const values = new Float32Array(cells.length * rows * across);
  cells.forEach((row, r) => row.forEach((map, c) => {
    for (let y = 0; map && y < rows; y++) values.set(map.subarray(y * columns, (y + 1) * columns), (r * rows + y) * across + c * columns);
  }));
  const small = h("canvas", { width: across, height: cells.length * rows });
  small.getContext("2d").putImageData(new ImageData(diverging(values, view.scale, palette()), across, cells.length * rows), 0, 0);
  return small;
}

/** Width and height of a map in a square cell. */
const fitted = ({ rows, columns }, side) => [side * Math.min(1, columns / rows), side * Math.min(1, rows / columns)];

/** What a square says when it is pointed at, for the tip. */
export function toldOf(view, map) {
  const [w, height] = fitted(view, 1);
  return (x, y) => {
    const [column, row] = [Math.floor(((x - (1 - w) / 2) / w) * view.columns), Math.floor(((y - (1 - height) / 2) / height) * view.rows)];
    if (row < 0 || column < 0 || row >= view.rows || column >= view.columns) return "";
    const at = [row, column].map((i, axis) => signed(view.pair.origin[axis] + i * view.pair.dilation[axis]));
    return `(${at.join(", ")})  ${signed(map[row * view.columns + column])}`;
  };
}
