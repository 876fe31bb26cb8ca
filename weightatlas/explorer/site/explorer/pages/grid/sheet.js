/** A grid as a drawing: pictures along both sides, maps, labels inside. */

import { addressOf } from "../../addresses.js";
import { diverging, palette } from "../../colours.js";
import { h, s } from "../../dom.js";
import { legendOf, mapImage, picture, sheet, text } from "../../downloads.js";

const MARGIN = 24;
const MANY = 30000; // squares: beyond, maps are pixel images, else drawings become too large to open
const GREY = "#62626a";
const mono = { "font-family": "ui-monospace, Menlo, 'DejaVu Sans Mono', monospace", fill: GREY, "font-size": 11 };

/** What `downloads` takes: a tile for every cell, row by row as they are seen, and a layout of its own. */
export function gridView(view, caption) {
  const [down, across] = view.transposed ? ["targets", "sources"] : ["sources", "targets"];
  const at = (r, c) => (view.transposed ? [r, c] : [c, r]);
  const tiles = view[down].flatMap((_, r) => view[across].map((__, c) => {
    const [t, i] = at(r, c);
    return {
      from: addressOf(view.source, view.sources[i]), into: addressOf(view.target, view.targets[t]), label: "", picture: null,
      values: view.cells[t][i] ?? new Float32Array(view.rows * view.columns).fill(NaN), rows: view.rows, columns: view.columns,
      origin: view.pair.origin, dilation: view.pair.dilation, blind: !view.cells[t][i],
    };
  }));
  const told = { name: `${view.source}_to_${view.target}_grid`, title: `${view.source} → ${view.target}`, caption, scale: view.scale, tiles, lead: [view[down].length, view[across].length] };
  return { ...told, svg: () => drawn(view, told, down, across) };
}

async function drawn(view, told, down, across) {
  const layer = { targets: view.target, sources: view.source };
  const [rows, columns] = [view[down].length, view[across].length];
  const side = Math.max(36, Math.min(84, 900 / Math.max(rows, columns)));
  const [left, top] = [MARGIN + side + 44, 96 + side + 18];
  const width = Math.max(left + columns * side + MARGIN, 2 * MARGIN + 5.8 * told.caption.length, 2 * MARGIN + 7 * Math.max(layer[down].length, layer[across].length) + 90);
  const url = (which, unit) => view.atlas.picture(layer[which], unit)?.url ?? null;
  const many = told.tiles.length * view.rows * view.columns > MANY;
  const heads = await Promise.all([
    ...view[across].map(async (unit, c) => s("g", null, await picture(url(across, unit), left + c * side + 1, 96, side - 2), text(String(unit), left + (c + 0.5) * side, 96 + side + 12, { ...mono, "text-anchor": "middle" }))),
    ...view[down].map(async (unit, r) => s("g", null, await picture(url(down, unit), left - side - 6, top + r * side + 1, side - 2), text(String(unit), left - side - 12, top + (r + 0.5) * side + 4, { ...mono, "text-anchor": "end" }))),
  ]);
  const cells = told.tiles.map((tile, n) => {
    const [x, y] = [left + (n % columns) * side, top + Math.floor(n / columns) * side];
    if (tile.blind) return s("rect", { x, y, width: side, height: side, fill: "none", stroke: "#d9d9de", "stroke-dasharray": "3 3" });
    return s("g", null, s("title", null, `${tile.from} → ${tile.into}`), (many ? pixels : mapImage)(tile, x, y, side, side, view.scale));
  });
  const bottom = top + rows * side;
  return sheet(width, bottom + 52, told,
    text(`${across}: ${layer[across]} →`, MARGIN, 72, mono), text(`${down}: ${layer[down]} ↓`, MARGIN, 87, mono),
    ...heads, ...cells, ...legendOf(view.scale, left, bottom + 20));
}

/** A map as an image, each square several pixels wide so that every viewer keeps it sharp. */
function pixels({ values, rows, columns }, x, y, width, height, scale) {
  const small = h("canvas", { width: columns, height: rows });
  small.getContext("2d").putImageData(new ImageData(diverging(values, scale, palette()), columns, rows), 0, 0);
  const times = Math.max(1, Math.ceil((2 * width) / Math.max(rows, columns)));
  const large = h("canvas", { width: columns * times, height: rows * times });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, large.width, large.height);
  return s("g", null, s("image", { x, y, width, height, href: large.toDataURL("image/png") }), s("rect", { x, y, width, height, fill: "none", stroke: "#d9d9de" }));
}
