/** The board of a circuit: pictures by layer, curves between them, maps on the curves. What is pointed at is lit. */

import { largest } from "./atlas.js";
import { DIVERGING, palette } from "./colours.js";
import { circuitFile } from "./circuitfile.js";
import { layout, thickness } from "./circuitlayout.js";
import { h, s } from "./dom.js";
import { percent, short, signed } from "./numbers.js";
import { mapPicture, mapWords, to, unitPicture } from "./parts.js";

const MOST_MAPS = 36;

/** What is told of a connection. */
export const linkWords = (link) => [
  link.key, `${{ excites: "excites", inhibits: "inhibits", balanced: "excites and inhibits about equally" }[link.side]}: sum ${signed(link.sum)}, norm ${short(link.norm)}`,
  `${percent(link.share)} of the target's squared norm`,
].join("\n");

/** Sizes in pixels for a board of some width. */
export function sizesFor(width, { tile, rem }, circuit) {
  const across = Math.max(...circuit.layers.map((layer) => circuit.nodes.filter((one) => one.layer === layer).length));
  const node = Math.round(Math.max(Math.min(tile * (circuit.nodes.length > 14 ? 0.95 : 1.15), width / 4.6, width / (1.32 * across)), tile * 0.8));
  const wide = width > 44 * rem;
  return {
    width, node, map: Math.round(node * 0.62), knot: Math.max(16, Math.round(rem)), line: rem / 16, caption: Math.round(1.25 * rem), label: Math.round(1.3 * rem),
    labelSide: wide ? Math.round(8.5 * rem) : 0, most: MOST_MAPS,
  };
}

/** Lengths that the style sheet gives: a tile's side and the size of letters. */
export function measures() {
  const style = getComputedStyle(document.documentElement);
  return { tile: Number.parseFloat(style.getPropertyValue("--tile")) || 88, rem: Number.parseFloat(style.fontSize) || 16 };
}

/** The colours of curves for light and dark pages, as properties that circuit.css takes up. */
export function lineColours() {
  const stops = DIVERGING[palette()];
  return { "--inhibits-light": stops[0], "--inhibits-dark": stops[1], "--excites-light": stops.at(-1), "--excites-dark": stops.at(-2) };
}

/**
 * The board. `scale` is that of all maps; null for each its own. `tools(node)` gives buttons for a unit. Returns {element, told, fit, file}: `fit()` draws again if the width has changed.
 */
export function board(here, circuit, scale, tools) {
  const sheet = h("div", { class: "sheet" });
  const element = h("div", { class: "board", style: lineColours() }, sheet);
  const told = h("p", { class: "note" });
  let drawnAt = 0;
  const draw = (width) => {
    drawnAt = width;
    const sizes = sizesFor(width, measures(), circuit);
    const places = layout(circuit, sizes);
    const wide = places.width > width + 1;
    for (const [name, value] of Object.entries(wide ? { role: "region", tabindex: "0", "aria-label": "circuit board, scrolls sideways" } : { role: "group", tabindex: null, "aria-label": "circuit board" })) {
      if (value === null) element.removeAttribute(name);
      else element.setAttribute(name, value);
    }
    sheet.style.width = `${places.width}px`;
    sheet.style.height = `${places.height}px`;
    sheet.replaceChildren(...drawnSheet(here, circuit, places, sizes, scale, tools));
    told.textContent = mapsWords(places, circuit);
    told.hidden = !told.textContent;
  };
  draw(mainWidth());
  const fit = () => {
    const width = element.clientWidth;
    if (!width || Math.abs(width - drawnAt) < 2 || element.contains(document.activeElement)) return;
    draw(width);
  };
  return { element, told, fit, file: () => circuitFile(here, circuit, scale) };
}

function mainWidth() {
  const main = document.getElementById("main");
  const style = getComputedStyle(main);
  return main.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
}

function mapsWords({ curves }, { links }) {
  const open = links.filter((one) => !one.faded).length;
  const maps = curves.filter((one) => one.map).length;
  if (maps === open) return "";
  return `Maps of the strongest ${maps} of ${open} connections; where there is no room a knot stands for one, and opens when it is pointed at or focused. The table below has all.`;
}

function drawnSheet(here, circuit, places, sizes, scale, tools) {
  const most = circuit.links[0]?.norm ?? 0;
  const items = [curvesPicture(places, most, sizes)];
  places.rows.forEach((row, i) => {
    items.push(label(row, sizes));
    items.push(...row.nodes.map((at) => unitOnBoard(here, at, sizes, tools)));
    const next = places.rows[i + 1]?.y ?? Infinity; // in reading order: what lies under this row and above the next
    const under = places.curves.filter((one) => { const at = one.map ?? one.knot; return at && at.y > row.y && at.y < next; });
    under.sort((a, b) => lineOf(a) - lineOf(b) || (a.map ?? a.knot).x - (b.map ?? b.knot).x);
    items.push(...under.map((one) => mapOnBoard(one, sizes, scale)));
  });
  return items;
}

const lineOf = (curve) => Math.round((curve.map ?? curve.knot).y / 60);

const frame = (x, y, width, height) => ({ left: `${x}px`, top: `${y}px`, width: `${width}px`, ...(height ? { height: `${height}px` } : {}) });

const label = ({ layer, label: { x, y, width } }, { labelSide }) =>
  h("h2", { class: labelSide ? "layer-name" : "layer-name one", style: { left: `${x}px`, top: `${y}px`, "max-width": `${width}px` }, "data-tip": layer }, layer === "input" ? "input" : to({ layer }, null, layer));

function curvesPicture(places, most, { line }) {
  const strong = [...places.curves].sort((a, b) => a.link.norm - b.link.norm);
  return s("svg", { class: "curves", width: places.width, height: places.height, viewBox: `0 0 ${places.width} ${places.height}`, "aria-hidden": "true" },
    strong.map(({ link, path }) => s("path", { class: `curve ${link.side}${link.faded ? " faded" : ""}`, d: path, "stroke-width": line * thickness(link.norm, most), data: ends(link) })),
    strong.map(({ link, path }) => s("path", { class: "reach", d: path, data: ends(link), "data-tip": linkWords(link) })));
}

const ends = (link) => ({ link: link.key, source: link.source.address, target: link.target.address });

function unitOnBoard(here, { node, x, y, step }, sizes, tools) {
  const { layer, unit, address } = node;
  const letters = 0.62 * 0.75 * measures().rem;
  const whole = address.length * letters < step - 4;
  const words = layer === "input" ? "" : whole ? [h("span", { class: "faint" }, `${layer}:`), String(unit)] : `${unit}`;
  const picture = unitPicture(here.atlas, layer, unit);
  const wide = Math.max(sizes.node, Math.min(step, address.length * letters + 4));
  return h("div", { class: "pinned", data: { node: address }, style: { ...frame(x - wide / 2, y, wide), "--side": `${sizes.node}px` } },
    layer === "input"
      ? h("span", { class: "face", tabindex: "0", role: "img", "aria-label": address, "data-tip": address }, picture)
      : to({ unit: address }, { class: "face", "data-tip": whole ? null : address, "data-key": `unit ${address}` }, picture),
    h("div", { class: "grow" }, tools(node)),
    h("code", { "aria-hidden": "true" }, words));
}

function mapOnBoard({ link, map, knot }, sizes, scale) {
  const { values, rows, columns, pair } = link;
  const at = map ?? knot;
  const side = map ? sizes.map : sizes.knot;
  const picture = () => mapPicture({ values, rows, columns, scale: scale ?? (largest([values]) || 1), origin: pair.origin, dilation: pair.dilation, decorative: true });
  const open = (event) => event.currentTarget.firstChild || event.currentTarget.append(picture()); // a knot has its map once somebody looks
  const [from, into] = [link.source.address, link.target.address];
  return to({ edge: into, from }, {
    class: map ? "on-curve" : `on-curve knot ${link.side}`, style: { ...frame(at.x - side / 2, at.y - side / 2, side, side), "--opened": `${Math.round(sizes.node * 0.9)}px` },
    "aria-label": `${mapWords(values, rows, columns, from, into)}. ${percent(link.share)} of the target's squared norm`, "data-tip": linkWords(link), "data-key": `edge ${link.key}`, data: ends(link),
    on: map ? {} : { pointerenter: open, focus: open },
  }, map ? picture() : null);
}

/** What is pointed at or focused, anywhere in an element, is lit with its ends; all else steps back. */
export function lighting(of) {
  const light = (target) => {
    const one = target?.closest?.("[data-link], [data-node]");
    of.toggleAttribute("data-lit", Boolean(one));
    for (const old of of.querySelectorAll(".lit")) old.classList.remove("lit");
    if (!one) return;
    const { link, node } = one.dataset;
    for (const part of of.querySelectorAll("[data-link]")) {
      const on = link ? part.dataset.link === link : part.dataset.source === node || part.dataset.target === node;
      if (!on) continue;
      part.classList.add("lit");
      for (const unit of of.querySelectorAll("[data-node]")) if ([part.dataset.source, part.dataset.target].includes(unit.dataset.node)) unit.classList.add("lit");
    }
    if (node) for (const unit of of.querySelectorAll("[data-node]")) if (unit.dataset.node === node) unit.classList.add("lit");
  };
  of.addEventListener("pointerover", (event) => event.pointerType !== "touch" && light(event.target));
  of.addEventListener("pointerleave", () => light(null));
  of.addEventListener("focusin", (event) => light(event.target));
  of.addEventListener("focusout", () => light(null));
}
