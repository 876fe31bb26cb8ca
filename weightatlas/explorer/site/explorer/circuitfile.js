/** A circuit as a file: its board drawn anew as one SVG with pictures, maps and words inside. */

import { largest } from "./atlas.js";
import { layout, thickness } from "./circuitlayout.js";
import { DIVERGING, palette } from "./colours.js";
import { s } from "./dom.js";
import { legendOf, mapImage, picture, sheet, text } from "./downloads.js";
import { count, short } from "./numbers.js";

const SIZES = { width: 960, node: 96, map: 56, knot: 10, caption: 20, label: 20, labelSide: 130, line: 1, most: 60 };
const [TOP, SIDE] = [70, 24];
const QUIET = "#62626a";
const BALANCED = "#8a8a93";
const MONO = "ui-monospace, Menlo, 'DejaVu Sans Mono', monospace";

/** What `downloads` takes: tables of all connections, and a drawing of its own. */
export function circuitFile({ atlas }, circuit, scale) {
  const model = atlas.manifest.model.name;
  const caption = `${count(circuit.links.length)} connections among ${count(circuit.nodes.length)} units of ${model}; later layers above. Width: norm; colour: sign of the sum.`;
  return {
    name: `circuit-${model}`, title: "Circuit", caption, scale,
    tiles: circuit.links.map((one) => ({ from: one.source.address, into: one.target.address, values: one.values, rows: one.rows, columns: one.columns, origin: one.pair.origin, dilation: one.pair.dilation })),
    svg: () => drawing(atlas, circuit, scale, caption),
  };
}

async function drawing(atlas, circuit, scale, caption) {
  const places = layout(circuit, SIZES);
  const most = circuit.links[0]?.norm ?? 0;
  const stops = DIVERGING[palette()];
  const inks = { excites: stops.at(-1), inhibits: stops[0], balanced: BALANCED };
  const curves = [...places.curves].sort((a, b) => a.link.norm - b.link.norm).map(({ link, path }) =>
    s("path", { d: path, fill: "none", stroke: inks[link.side], "stroke-width": thickness(link.norm, most), "stroke-opacity": link.faded ? 0.15 : 0.65 }, s("title", null, `${link.key}  norm ${short(link.norm)}`)));
  const pictures = await Promise.all(places.rows.flatMap((row) => row.nodes).map(async ({ node, x, y }) => [
    await face(atlas, node, x - SIZES.node / 2, y),
    text(node.address.length > 18 ? String(node.unit) : node.address, x, y + SIZES.node + 15, { "text-anchor": "middle", "font-family": MONO, "font-size": 11, fill: QUIET }),
  ]));
  const names = places.rows.map((row) => text(cut(row.layer, 16), 0, row.y + SIZES.node / 2 + 4, { "font-family": MONO, "font-size": 12, "font-weight": 600 }));
  const maps = places.curves.filter((one) => one.map).map(({ link, map }) => {
    const [x, y] = [map.x - SIZES.map / 2, map.y - SIZES.map / 2];
    return s("g", null, s("title", null, link.key), s("rect", { x, y, width: SIZES.map, height: SIZES.map, fill: "#f7f7f7" }), mapImage(link, x, y, SIZES.map, SIZES.map, scale ?? (largest([link.values]) || 1)));
  });
  const [width, height] = [places.width + 2 * SIDE, TOP + places.height + 56];
  return sheet(width, height, { title: "Circuit", caption },
    s("g", { transform: `translate(${SIDE} ${TOP})` }, curves, names, pictures, maps), ...(scale ? legendOf(scale, SIDE, height - 30) : [text("each map in its own scale   weightatlas", SIDE, height - 21, { "font-size": 11, fill: QUIET })]), ...lineLegend(width, height, inks, most));
}

/** A picture; without one, or for a channel of the input, a box with its name. */
async function face(atlas, { layer, unit }, x, y) {
  const found = atlas.picture(layer, unit);
  if (found) return picture(found.url, x, y, SIZES.node);
  const name = layer === "input" ? (atlas.manifest.input.channel_names?.[unit] ?? `channel ${unit}`) : "no picture";
  return [s("rect", { x, y, width: SIZES.node, height: SIZES.node, rx: 6, fill: "#e9e9ed" }), text(name, x + SIZES.node / 2, y + SIZES.node / 2 + 4, { "text-anchor": "middle", "font-size": 11, fill: QUIET })];
}

const cut = (words, most) => (words.length > most ? `…${words.slice(1 - most)}` : words);

function lineLegend(width, height, inks, most) {
  const y = height - 25;
  const entries = [...Object.entries(inks).map(([side, ink]) => [side, ink, most / 3]), [`norm ${short(most, 2)}`, BALANCED, most]];
  return entries.flatMap(([words, stroke, norm], i) => {
    const x = width - SIDE - 430 + i * 108;
    return [s("line", { x1: x, y1: y, x2: x + 26, y2: y, stroke, "stroke-width": thickness(norm, most) }), text(words, x + 32, y + 4, { "font-size": 11, fill: QUIET })];
  });
}
