/** A reader's image as the network saw it, with a map laid over it and a position that can be chosen. */

import { ON_CPU } from "./parts.js";
import { veil } from "./colours.js";
import { h } from "./dom.js";
import { short } from "./numbers.js";

/** What the network says of a layer: {name, units, rows, columns, type, centres}; null for one that it does not have. */
export function layerOf(seen, name) {
  const row = seen.layers.find(([own]) => own === name);
  if (!row) return null;
  const [own, units, rows, columns, type, centres] = row;
  return { name: own, units, rows, columns, type, centres };
}

/** A map from the server as numbers: what is no number there is none here. */
export const numbersOf = (map) => map.values.map((v) => (v === null ? NaN : v));
export const most = (values) => values.reduce((m, v) => (Math.abs(v) > m ? Math.abs(v) : m), 0);

/** Where the positions of a layer are on the image, as shares of it: position i covers first + i · step. */
function cells({ rows, columns, centres }, [height, width]) {
  const axis = (count, size, at, by) => (by ? { first: (at - by / 2) / size, step: by / size } : { first: 0, step: 1 / count });
  const [y, x, dy, dx] = centres ?? [];
  return { y: axis(rows, height, y, dy), x: axis(columns, width, x, dx) };
}

const placed = (top, left, bottom, right) => ({ top: `${100 * top}%`, left: `${100 * left}%`, height: `${100 * (bottom - top)}%`, width: `${100 * (right - left)}%` });
const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));

/** Positions are counted from 0, as everywhere in this package: "y 3, x 4 of 14 × 14". */
export const placeWords = ([y, x], { rows, columns }) => `y ${y}, x ${x} of ${rows} × ${columns}`;

/**
 * The image. `layer` says where positions are; `values` of its map are laid over it, `words` say what they are; `at` is marked,
 * `box` framed (top, left, bottom, right in pixels). `choose(at, keys)` is called with a position that was clicked, or gone to with keys from where `now()` says
 * that one is: the next key may come before the page is drawn again.
 */
export function seenPicture(seen, { layer = null, values = null, words = "", at = null, box = null, choose = null, now = () => at }) {
  const [height, width] = seen.size;
  const parts = [h("img", { src: seen.picture, alt: `the image as the network saw it, ${width} by ${height} pixels`, width, height })];
  const where = layer && cells(layer, seen.size);
  if (layer && values) parts.push(overlay(layer, where, values, words));
  if (box?.length) parts.push(h("span", { class: "sees", "aria-hidden": "true", style: placed(box[0] / height, box[1] / width, box[2] / height, box[3] / width) }));
  const one = layer && layer.rows * layer.columns === 1;
  if (at && layer && !one) {
    const edge = ({ first, step }, i) => [Math.max(0, first + i * step), Math.min(1, first + (i + 1) * step)];
    const [[top, bottom], [left, right]] = [edge(where.y, at[0]), edge(where.x, at[1])];
    parts.push(h("span", { class: "here", "aria-hidden": "true", style: placed(top, left, bottom, right) }));
  }
  if (choose && layer && !one) parts.push(chooser(layer, where, at, choose, now));
  return h("div", { class: "seen", style: { "aspect-ratio": `${width} / ${height}` } }, parts);
}

function overlay({ rows, columns }, { y, x }, values, words) {
  const canvas = h("canvas", {
    class: "over", width: columns, height: rows, role: "img", "aria-label": words,
    style: placed(y.first, x.first, y.first + rows * y.step, x.first + columns * x.step),
  });
  canvas.getContext("2d", ON_CPU).putImageData(new ImageData(veil(values, most(values.filter((v) => !Number.isNaN(v)))), columns, rows), 0, 0);
  return canvas;
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** All of the picture is one button: where it is pressed is the position; arrows go on from there. */
function chooser(layer, { y, x }, at, choose, now) {
  const middle = [layer.rows, layer.columns].map((count) => Math.floor(count / 2));
  const told = at ? `position: ${placeWords(at, layer)}` : `choose a position of ${layer.rows} by ${layer.columns}`;
  const click = (event) => {
    if (!event.detail) return choose(now() ?? middle, true); // pressed by a key
    const frame = event.currentTarget.getBoundingClientRect();
    const on = ({ first, step }, share, count) => clamp(Math.floor((share - first) / step), count);
    choose([on(y, (event.clientY - frame.top) / frame.height, layer.rows), on(x, (event.clientX - frame.left) / frame.width, layer.columns)], false);
  };
  const keydown = (event) => {
    const by = MOVES[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const from = now() ?? middle;
    choose([clamp(from[0] + by[0], layer.rows), clamp(from[1] + by[1], layer.columns)], true);
  };
  return h("button", { type: "button", class: "choose", "aria-label": `${told}; arrow keys move it`, "data-key": "position", on: { click, keydown } });
}

/** Words on a map of activations for those who do not see it. */
export function activationWords(name, values, { rows, columns }) {
  const finite = values.map((v) => (Number.isNaN(v) ? -Infinity : v));
  const at = finite.indexOf(finite.reduce((m, v) => Math.max(m, v), -Infinity));
  const positive = values.filter((v) => v > 0).length;
  return `${name} on the image: at most ${short(values[at])} at ${placeWords([Math.floor(at / columns), at % columns], { rows, columns })}, above zero at ${positive} of ${values.length} positions`;
}
