/** Factors as light, drawn as weightatlas/figures/grids.py draws Figure 1: a colour a factor, none is dark. */

import { h } from "./dom.js";

const CLIPPED = 0.97; // share of the squares that stay below full light, for each factor
const HUES = { 1: [0], 2: [0, 0.55] };
const ACROSS = 32; // tiles of a sheet side by side, and on all of it
const ON_ONE = 1024;
const sheets = new WeakMap(); // a document of factors → where its tiles lie

/** One colour a factor, [r, g, b] in 0 … 1: red, green, blue for three, hues around the circle otherwise. */
export function factorColours(rank) {
  const hues = HUES[rank] ?? Array.from({ length: rank }, (_, k) => k / rank);
  return hues.map((hue) => {
    const part = (n) => {
      const k = (n + hue * 6) % 6;
      return 1 - Math.max(0, Math.min(k, 4 - k, 1));
    };
    return [part(5), part(3), part(1)];
  });
}

export const asRgb = (colour) => `rgb(${colour.map((c) => Math.round(255 * c)).join(",")})`;

/** Numpy's quantile, linear between neighbours. */
function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  const next = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (next - sorted[low]) * (place - low);
}

/** For each factor the value that gets full light, and its colour. */
export function lightOf(factors) {
  const peaks = Array.from({ length: factors.rank }, (_, k) => {
    if (!factors.channels[k].some((v) => v !== 0)) return Infinity; // it points nowhere, so it stays dark
    const values = factors.space.flatMap((rows) => rows.flatMap((row) => row.map((square) => square[k])));
    const peak = quantile(values, CLIPPED);
    return peak > 0 ? peak : values.reduce((a, b) => Math.max(a, b), 0) || 1;
  });
  return { peaks, colours: factorColours(factors.rank) };
}

/** A unit's squares as RGBA bytes. More than three hues may add up to more than white; then the mix is dimmed. */
export function mixed(squares, { peaks, colours }) {
  const out = new Uint8ClampedArray(squares.length * 4);
  squares.forEach((square, i) => {
    const sum = [0, 0, 0];
    square.forEach((value, k) => {
      const light = Math.max(0, Math.min(1, value / peaks[k]));
      for (let c = 0; c < 3; c++) sum[c] += light * colours[k][c];
    });
    const over = Math.max(1, ...sum);
    out.set([...sum.map((v) => Math.round((255 * v) / over)), 255], 4 * i);
  });
  return out;
}

/**
 * Factors of all units on a few sheets, as pictures are: unit → a style that shows it. A canvas for every tile would make a
 * wall of thousands stutter. Around each tile its outermost squares are repeated, so that none shines through at an edge.
 */
export async function factorSheets(factors) {
  if (!sheets.has(factors)) sheets.set(factors, drawn(factors));
  return sheets.get(factors);
}

async function drawn(factors) {
  const light = lightOf(factors);
  const [rows, columns] = [factors.space[0].length, factors.space[0][0].length];
  const [high, wide] = [rows + 2, columns + 2];
  const urls = [];
  for (let first = 0; first < factors.space.length; first += ON_ONE) {
    const here = factors.space.slice(first, first + ON_ONE);
    const sheet = h("canvas", { width: ACROSS * wide, height: Math.ceil(ON_ONE / ACROSS) * high });
    const context = sheet.getContext("2d");
    here.forEach((space, i) => {
      const padded = [space[0], ...space, space.at(-1)].flatMap((row) => [row[0], ...row, row.at(-1)]);
      context.putImageData(new ImageData(mixed(padded, light), wide, high), (i % ACROSS) * wide, Math.floor(i / ACROSS) * high);
    });
    urls.push(URL.createObjectURL(await new Promise((done) => sheet.toBlob(done))));
  }
  const place = (at, of, size) => `${(100 * (at * (size + 2) + 1)) / (of * (size + 2) - size)}%`;
  const style = (unit) => ({
    "background-image": `url("${urls[Math.floor(unit / ON_ONE)]}")`,
    "background-size": `${(100 * ACROSS * wide) / columns}% ${(100 * (ON_ONE / ACROSS) * high) / rows}%`,
    "background-position": `${place(unit % ACROSS, ACROSS, columns)} ${place(Math.floor((unit % ON_ONE) / ACROSS), ON_ONE / ACROSS, rows)}`,
  });
  return { rows, columns, style };
}

/** A unit's factors as one small picture of squares. */
export function factorPicture({ rows, columns, style }, unit) {
  if (rows === columns) return h("span", { class: "nmf", style: style(unit) });
  const most = Math.max(rows, columns);
  return h("span", { class: "nmf oblong" }, h("span", { style: { ...style(unit), width: `${(100 * columns) / most}%`, height: `${(100 * rows) / most}%` } }));
}

/** Weights on the three colours of an input in colours of their own: grey is zero, each unit has its own scale. */
export function pixelPicture({ maps, rows, columns }) {
  const most = Math.max(...maps.map((map) => map.reduce((m, v) => Math.max(m, Math.abs(v)), 0))) || 1;
  const out = new Uint8ClampedArray(rows * columns * 4).fill(255);
  maps.forEach((map, c) => map.forEach((value, i) => (out[4 * i + c] = Math.round(255 * (0.5 + value / most / 2)))));
  return pixels(out, rows, columns);
}

function pixels(bytes, rows, columns) {
  const canvas = h("canvas", { class: "nmf", width: columns, height: rows, "aria-hidden": "true" });
  canvas.getContext("2d").putImageData(new ImageData(bytes, columns, rows), 0, 0);
  return canvas;
}
