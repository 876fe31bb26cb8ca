/** What pages are made of: pictures, maps, both glued together, legends, switches. */

import { addressOf, changed, link } from "./addresses.js";
import { colour, diverging, palette } from "./colours.js";
import { h, s } from "./dom.js";
import { percent, short, signed } from "./numbers.js";
import { sharpened } from "./sharpen.js";

/** For a handful of squares the way to a graphics card and back costs more than drawing them. */
export const ON_CPU = { willReadFrequently: true };

/** A link to a page of the explorer; `parameters` as for `link`. */
export const to = (parameters, attributes, ...children) => h("a", { href: link(parameters), ...attributes }, ...children);

/** A link that changes the view of this page and nothing else. */
export const turn = (changes, attributes, ...children) =>
  h("a", { href: changed(changes), "data-turn": "", ...attributes }, ...children);

export const unitLink = (layer, unit, attributes, ...children) =>
  to({ unit: addressOf(layer, unit) }, attributes, ...(children.length ? children : [h("code", null, addressOf(layer, unit))]));

/**
 * A map as squares: `values` [rows · columns], signed; `scale` gets the full colour. Hovering tells each square's value.
 * `origin` is the place of its first square, y down and x right, in steps of the source grid: relative to the target, unless
 * it is `absolute`. `colours` names other ones than those of weights.
 */
export function mapPicture({ values, rows, columns, scale, label, origin = [0, 0], dilation = [1, 1], decorative = false, colours = palette(), absolute = false }) {
  const canvas = h("canvas", {
    class: "map", width: columns, height: rows,
    ...(decorative ? { "aria-hidden": "true" } : { role: "img", "aria-label": label }),
    style: { "aspect-ratio": `${columns} / ${rows}` },
  });
  canvas.getContext("2d", ON_CPU).putImageData(new ImageData(diverging(values, scale, colours), columns, rows), 0, 0);
  canvas.told = (x, y) => {
    const [column, row] = [Math.min(Math.floor(x * columns), columns - 1), Math.min(Math.floor(y * rows), rows - 1)];
    const at = [origin[0] + row * dilation[0], origin[1] + column * dilation[1]].map((v) => (absolute ? String(v) : signed(v)));
    return `(${at[0]}, ${at[1]})  ${signed(values[row * columns + column])}`;
  };
  return canvas;
}

/** Words on a map for those who do not see it. */
export function mapWords(values, rows, columns, from, into) {
  let most = 0;
  let sum = 0;
  values.forEach((v, i) => {
    if (Math.abs(v) > Math.abs(values[most])) most = i;
    sum += v;
  });
  const at = `row ${Math.floor(most / columns) + 1}, column ${(most % columns) + 1} of ${rows} by ${columns}`;
  return `weights from ${from} to ${into}: strongest ${signed(values[most])} at ${at}, sum ${signed(sum)}`;
}

/** A tile of a sprite sheet as a background: for walls, and under a picture until that is there. */
export function spriteStyle(place) {
  if (!place) return {};
  const share = (at, of) => (of > 1 ? `${(100 * at) / (of - 1)}%` : "0%");
  return {
    "background-image": `url("${new URL(place.url, document.baseURI).href}")`,
    "background-size": `${place.columns * 100}% ${place.rows * 100}%`,
    "background-position": `${share(place.x, place.columns)} ${share(place.y, place.rows)}`,
  };
}

/**
 * A unit's picture at any size, its sprite underneath until it is there. Without a picture, a quiet box that says so.
 * `recipe` asks for one; default the best there is.
 */
export function unitPicture(atlas, layer, unit, { recipe = null, small = false } = {}) {
  const name = addressOf(layer, unit);
  const found = atlas.picture(layer, unit, recipe);
  const sprites = recipe ? null : atlas.sprites(layer);
  const place = sprites?.of(unit);
  if (layer === "input") return inputPicture(atlas, unit);
  if (!found || (small && place)) {
    const words = found || place ? `what excites ${name}` : `no picture of ${name} yet`;
    return h("span", { class: place ? "pic sprite" : "pic none", role: "img", "aria-label": words, style: spriteStyle(place) });
  }
  const words = `what excites ${name}${found.recipe === "quick" ? ", a quick picture" : ""}`;
  const image = h("img", { class: "pic", alt: words, width: 112, height: 112, decoding: "async" });
  if (place) return sharpened(h("span", { class: "pic sprite", role: "img", "aria-label": words, style: spriteStyle(place) }), image, found.url);
  image.loading = "lazy";
  image.src = found.url;
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "pic none", role: "img", "aria-label": `the picture of ${name} cannot be shown` })));
  return image;
}

function inputPicture(atlas, channel) {
  const names = atlas.manifest.input.channel_names ?? [];
  const name = names[channel] ?? `channel ${channel}`;
  return h("span", { class: "pic channel", role: "img", "aria-label": `input channel ${name}`, data: { channel: name } }, name);
}

/**
 * A picture glued to its map. A click on the picture opens the unit, on the map the connection.
 * tile(atlas, {layer, unit}, {values, rows, columns, scale, origin, dilation}, {from, into}, note)
 * where from and into are {layer, unit} of the connection; `note` is shown when the tile is hovered.
 */
export function tile(atlas, other, map, { from, into }, note = "") {
  const [a, b] = [addressOf(from.layer, from.unit), addressOf(into.layer, into.unit)];
  const name = addressOf(other.layer, other.unit);
  const picture = unitPicture(atlas, other.layer, other.unit);
  const label = mapWords(map.values, map.rows, map.columns, a, b);
  return h("div", { class: "tile", data: { unit: name } },
    other.layer === "input" ? h("span", { class: "up" }, picture) : to({ unit: name }, { class: "up", "data-tip": [name, note].filter(Boolean).join("\n") }, picture),
    to({ edge: b, from: a }, { class: "down", "data-tip": `${a} → ${b}\n${note}` }, mapPicture({ ...map, label })),
    h("code", { "aria-hidden": "true" }, other.layer === "input" ? "" : String(other.unit)));
}

/** What colours mean, in numbers. `ends` says what the two ends do; with `least` 0 there is only the upper half. */
export function legend(scale, words = "one scale", { colours = palette(), ends = ["inhibits", "excites"], least = -scale } = {}) {
  const half = least === 0;
  const from = half ? "white, zero," : `${signed(least)}, ${ends[0]}, through white, zero,`;
  const bar = h("span", { class: `bar ${colours}${half ? " half" : ""}`, role: "img", "aria-label": `colours from ${from} to ${signed(scale)}, ${ends[1]}` });
  return h("p", { class: "legend" }, h("span", null, signed(least, 2)), bar, h("span", null, signed(scale, 2)), h("span", { class: "words" }, words));
}

/** Alternatives of which one is chosen, as links that change one parameter: choice("sort", [["l2", "L2"], …], now). */
export function choice(parameter, options, now, label, fallback = options[0][0]) {
  return h("nav", { class: "seg", "aria-label": label }, options.map(([value, words, why]) =>
    turn({ [parameter]: value === fallback ? null : value }, {
      "aria-current": value === now ? "true" : null, "data-key": `${parameter}=${value}`, "data-tip": why ?? null,
    }, words)));
}

/** Pairs of words and values. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value, why]) =>
    h("div", why ? { "data-tip": why } : null, h("dt", null, name), h("dd", null, value))));

/** A heading with what belongs beside it. */
export const heading = (title, beside, ...tools) =>
  h("div", { class: "head" }, h("h2", null, title), beside && h("code", null, beside), tools.length ? h("div", { class: "tools" }, tools) : null);

export const note = (...words) => h("p", { class: "note" }, words);

/** How far weights agree with the real network on images. */
export function agreementWords(cosine, about) {
  if (cosine === null || cosine === undefined) return "agreement with the network's gradient: not measured";
  const from = about?.images?.count ? ` on ${about.images.count} images` : "";
  return `agreement with the network's mean gradient${from}: cosine ${short(cosine)}`;
}

/** What was read as what, and what is left out. */
export const readAs = (pair) =>
  [...(pair.replaced ?? []), pair.skip ? "the skip path is left out" : null, pair.sees_pixels ? "input channels as the network takes them" : null].filter(Boolean).join(" · ");

/** A bar of a share, with its number for everybody. */
export const shareBar = (share, words) =>
  h("span", { class: "share", role: "img", "aria-label": words ?? percent(share) }, h("span", { style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } }));

/** A small square in the colour of a value. */
export const swatch = (value, scale) => h("span", { class: "swatch", style: { background: colour(value, scale, palette()) }, "aria-hidden": "true" });

/** Where there is nothing to show, why, and how to get it. */
export const empty = (...words) => h("p", { class: "empty" }, words);

/** An icon; `shape` is SVG path data on a 16 × 16 ground. */
export const icon = (shape) => s("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "icon" }, s("path", { d: shape, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round" }));
