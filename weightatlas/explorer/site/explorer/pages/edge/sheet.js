/** One connection as a drawing: both pictures, the map between them with its numbers, positions along it. */

import { colour, inkOn, palette } from "../../colours.js";
import { s } from "../../dom.js";
import { legendOf, mapImage, picture, sheet, text } from "../../downloads.js";
import { signed } from "../../numbers.js";
import { decimals, place } from "./map.js";

const [MARGIN, SIDE, TOP, MAP] = [24, 150, 84, 400];
const MONO = "ui-monospace, Menlo, 'DejaVu Sans Mono', monospace";
const small = { "font-family": MONO, fill: "#62626a", "font-size": 11, "text-anchor": "middle" };

/** `ends` are {name, url} of the source and the target; `own` is the block under the target, or null. */
export async function edgeSheet(view, pair, map, own, ends) {
  const square = Math.min(90, MAP / Math.max(map.rows, map.columns));
  const [x, y] = [MARGIN + SIDE + 74, TOP + 18];
  const [wide, high] = [square * map.columns, square * map.rows];
  const right = x + wide + 40;
  const bottom = Math.max(y + high, y + SIDE + 20);
  const width = Math.max(right + SIDE + MARGIN, 2 * MARGIN + 5.8 * view.caption.length, 2 * MARGIN + 9.5 * view.title.length);
  const end = async ({ name, url }, left) => [await picture(url, left, y, SIDE), text(name, left + SIDE / 2, y + SIDE + 18, small)];
  return sheet(width, bottom + 60, view,
    await end(ends[0], MARGIN), text("→", MARGIN + SIDE + 12, y + SIDE / 2, { "font-size": 18, fill: "#8a8a93" }),
    square >= 24 ? squares(pair, map, view.scale, own, x, y, square) : mapImage(map, x, y, wide, high, view.scale),
    text("→", right - 28, y + SIDE / 2, { "font-size": 18, fill: "#8a8a93" }), await end(ends[1], right),
    ...legendOf(view.scale, x, bottom + 24));
}

function squares(pair, { values, rows, columns }, scale, own, x, y, side) {
  const written = decimals(scale, columns > 5 ? 2 : 3);
  const size = Math.min(12, side / 3.9);
  const drawn = Array.from(values, (value, i) => {
    const [left, top] = [x + (i % columns) * side, y + Math.floor(i / columns) * side];
    return [s("rect", { x: left, y: top, width: side, height: side, fill: colour(value, scale, palette()) }),
      size >= 8 ? text(written.of(value), left + side / 2, top + side / 2 + size / 3, { "font-family": MONO, "font-size": size, "text-anchor": "middle", fill: inkOn(value, scale, palette()) }) : null];
  });
  return s("g", null, drawn,
    Array.from({ length: columns }, (_, c) => text(signed(place(pair, 1, c)), x + (c + 0.5) * side, y - 7, { ...small, "font-size": 10 })),
    Array.from({ length: rows }, (_, r) => text(signed(place(pair, 0, r)), x - 8, y + (r + 0.5) * side + 4, { ...small, "font-size": 10, "text-anchor": "end" })),
    s("rect", { x, y, width: side * columns, height: side * rows, fill: "none", stroke: "#d9d9de" }),
    own && s("rect", { x: x + own[1] * side, y: y + own[0] * side, width: own[3] * side, height: own[2] * side, fill: "none", stroke: "#1b1b1f", "stroke-width": 2 }),
    written.unit && text(`numbers in ${written.unit}`, x, y + rows * side + 16, { ...small, "text-anchor": "start" }));
}
