/** What is seen, as files: SVG and PNG pictures with labels inside, CSV tables, NPY arrays. Made in the browser, sent nowhere. */

import { DIVERGING, diverging, palette } from "./colours.js";
import { h, s } from "./dom.js";
import { signed } from "./numbers.js";

const CELL = 96; // pixels of a picture's side
const MARGIN = 24;
const LETTER = 6.2; // pixels of a letter of 11
const LINE = 15;
const INK = "#1b1b1f";
const QUIET = "#62626a";
const MOST_COLUMNS = 10;
const SHARP = 2; // pixels of a PNG per pixel of its SVG
const MONO = "ui-monospace, Menlo, 'DejaVu Sans Mono', monospace";
const SANS = "system-ui, 'DejaVu Sans', sans-serif";

/** A button that opens the four formats. `view` is called when one is chosen: see `svgOf` for what it gives. */
export function downloads(view, label = "download") {
  const item = (words, make) =>
    h("button", { type: "button", on: { click: (event) => { event.target.closest("details").open = false; run(make, view()); } } }, words);
  return h("details", { class: "menu", on: { focusout: closeAfter, keydown: closeOnEscape, toggle: fit } },
    h("summary", { class: "button" }, label),
    h("div", { class: "list" },
      item("SVG", async (v) => save(new Blob([await svgText(v)], { type: "image/svg+xml" }), `${v.name}.svg`)),
      item("PNG", async (v) => save(await png(await svgText(v)), `${v.name}.png`)),
      item("CSV", async (v) => save(new Blob([csv(v)], { type: "text/csv" }), `${v.name}.csv`)),
      item("NPY", async (v) => save(new Blob([npy(v)], { type: "application/octet-stream" }), `${v.name}.npy`))));
}

/** A list that would reach over the window's left edge begins where its button does. */
const fit = ({ currentTarget: menu }) => {
  menu.classList.remove("leftmost");
  menu.classList.toggle("leftmost", menu.open && menu.querySelector(".list").getBoundingClientRect().left < 0);
};

const closeAfter = (event) => event.currentTarget.contains(event.relatedTarget) || (event.currentTarget.open = false);
const closeOnEscape = (event) => {
  if (event.key !== "Escape") return;
  event.currentTarget.open = false;
  event.currentTarget.querySelector("summary").focus();
};

async function run(make, view) {
  try {
    await make(await view);
  } catch (error) {
    document.getElementById("said").textContent = `the download failed: ${error.message}`;
    console.error(error);
  }
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const anchor = h("a", { href: url, download: name.replace(/[^\w.\-,+]+/g, "_") });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * An SVG of a view:
 * {name, title, caption, scale, tiles: [{label, from, into, picture: url or null, values, rows, columns}]}, or, with a layout
 * of its own, {svg: async () => an SVG element, …}. `from` and `into` are addresses.
 */
export async function svgOf(view) {
  if (view.svg) return view.svg();
  const across = Math.min(MOST_COLUMNS, Math.max(view.tiles.length, 4));
  const step = { x: CELL + 12, y: 2 * CELL + 30 };
  const lines = Math.ceil(view.tiles.length / across);
  const [width, height] = [2 * MARGIN + across * step.x - 12, 70 + lines * step.y + 40];
  const parts = await Promise.all(view.tiles.map(async (tile, i) => {
    const [x, y] = [MARGIN + (i % across) * step.x, 64 + Math.floor(i / across) * step.y];
    return s("g", { transform: `translate(${x} ${y})` },
      s("title", null, `${tile.from} → ${tile.into}`),
      await picture(tile.picture, 0, 0, CELL),
      mapImage(tile, 0, CELL, CELL, CELL, view.scale),
      text(tile.label, CELL / 2, 2 * CELL + 16, { "text-anchor": "middle", "font-family": MONO, fill: QUIET }));
  }));
  return sheet(width, height, view, ...parts, ...legendOf(view.scale, MARGIN, height - 28));
}

/** An SVG with a ground, a title and a caption, which goes on in further lines where it is longer than the drawing is wide. */
export function sheet(width, height, { title, caption }, ...children) {
  const lines = broken(caption, Math.floor((width - 2 * MARGIN) / LETTER));
  const more = LINE * (lines.length - 1);
  return s("svg", { xmlns: "http://www.w3.org/2000/svg", width, height: height + more, viewBox: `0 0 ${width} ${height + more}`, role: "img", "aria-label": `${title}. ${caption}` },
    s("rect", { width, height: height + more, fill: "#ffffff" }),
    text(title, MARGIN, 30, { "font-size": 16, "font-weight": 600 }),
    lines.map((line, i) => text(line, MARGIN, 50 + i * LINE, { fill: QUIET, "font-size": 11 })),
    s("g", { transform: `translate(0 ${more})` }, children));
}

/** Words in lines of at most so many letters; a longer word has a line of its own. */
function broken(words, most) {
  const lines = [""];
  for (const word of words.split(/\s+/)) {
    if (lines.at(-1) && lines.at(-1).length + 1 + word.length > most) lines.push(word);
    else lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}

export const text = (words, x, y, attributes = {}) => s("text", { x, y, "font-family": SANS, "font-size": 12, fill: INK, ...attributes }, words);

/** A map as crisp squares: one path a colour would be many; rectangles stay sharp in every viewer. */
export function mapImage({ values, rows, columns }, x, y, width, height, scale) {
  const pixels = diverging(values, scale, palette());
  const [w, d] = [width / columns, height / rows];
  const square = Math.min(w, d);
  const [left, top] = [x + (width - square * columns) / 2, y + (height - square * rows) / 2];
  const squares = Array.from(values, (value, i) =>
    s("rect", {
      x: round(left + (i % columns) * square), y: round(top + Math.floor(i / columns) * square), width: round(square), height: round(square),
      fill: `#${[0, 1, 2].map((c) => pixels[4 * i + c].toString(16).padStart(2, "0")).join("")}`,
    }));
  return s("g", { "shape-rendering": "crispEdges" }, squares, s("rect", { x, y, width, height, fill: "none", stroke: "#d9d9de" }));
}

const round = (value) => Math.round(value * 100) / 100;

/** A unit's picture, its bytes inside the drawing. */
export async function picture(url, x, y, side) {
  if (!url) return s("rect", { x, y, width: side, height: side, fill: "#e9e9ed" });
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob());
  const canvas = h("canvas", { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return s("image", { x, y, width: side, height: side, preserveAspectRatio: "xMidYMid slice", href: canvas.toDataURL("image/jpeg", 0.92) });
}

export function legendOf(scale, x, y) {
  const stops = DIVERGING[palette()];
  const width = 120;
  return [
    text(signed(-scale, 2), x + 42, y + 9, { fill: QUIET, "font-size": 11, "text-anchor": "end" }),
    ...stops.map((fill, i) => s("rect", { x: x + 46 + (i * width) / stops.length, y, width: width / stops.length + 0.5, height: 10, fill })),
    text(`${signed(scale, 2)}   weightatlas`, x + 52 + width, y + 9, { fill: QUIET, "font-size": 11 }),
  ];
}

const svgText = async (view) => new XMLSerializer().serializeToString(await svgOf(view));

async function png(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = h("canvas", { width: image.width * SHARP, height: image.height * SHARP });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("the picture is too large"))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

const quoted = (value) => (/[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));

/** A line for every weight: source, target, y, x (steps of the source grid from the target's position), weight. */
export function csv(view) {
  const lines = view.tiles.flatMap((tile) =>
    Array.from(tile.values, (value, i) => {
      const [y, x] = [Math.floor(i / tile.columns), i % tile.columns];
      const at = [(tile.origin?.[0] ?? 0) + y * (tile.dilation?.[0] ?? 1), (tile.origin?.[1] ?? 0) + x * (tile.dilation?.[1] ?? 1)];
      return [tile.from, tile.into, ...at, value].map(quoted).join(",");
    }));
  return ["source,target,y,x,weight", ...lines].join("\r\n") + "\r\n";
}

/** float32 [tiles, rows, columns] (`lead` in the place of tiles, if the view has it) in NumPy's format 1.0; all tiles of a view are of one size, else the largest with NaN around. */
export function npy(view) {
  const [rows, columns] = [Math.max(0, ...view.tiles.map((t) => t.rows)), Math.max(0, ...view.tiles.map((t) => t.columns))];
  const values = new Float32Array(view.tiles.length * rows * columns).fill(NaN);
  view.tiles.forEach((tile, i) => tile.values.forEach((value, j) => {
    values[i * rows * columns + Math.floor(j / tile.columns) * columns + (j % tile.columns)] = value;
  }));
  const shape = [...(view.lead ?? [view.tiles.length]), rows, columns];
  const words = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
  const padded = words + " ".repeat(63 - ((10 + words.length) % 64)) + "\n";
  const head = new Uint8Array(10 + padded.length);
  head.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  head.set(new TextEncoder().encode(padded), 10);
  const out = new Uint8Array(head.length + values.byteLength);
  out.set(head);
  out.set(new Uint8Array(values.buffer), head.length);
  return out;
}
