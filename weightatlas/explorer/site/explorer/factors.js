/** A unit's factors as an equation, as in Figure 8 of "Visualizing Weights": each a map, a direction, and what that is made of. */

import { largest } from "./atlas.js";
import { h } from "./dom.js";
import { percent, short } from "./numbers.js";
import { addressOf } from "./addresses.js";
import { heading, legend, mapPicture, note, shareBar, unitLink, unitPicture } from "./parts.js";

const TERMS = 5;

/** The factors of a unit over a layer; null where there are none. */
export async function factorSection(here, pair, unit) {
  const [, sources, rows, columns] = pair.shape;
  if (!pair.factors || sources < 2 || rows * columns < 2) return null;
  const { atlas } = here;
  const own = await atlas.json(`${pair.about}/factors/${unit}.json`);
  const maps = own.space.map((map) => Float32Array.from(map.flat()));
  const scale = largest(maps) || 1;
  const whole = own.strength.reduce((a, b) => a + b, 0) || 1;
  const recipe = `display.factors@${pair.path.split("/").slice(-1)}`;
  const mosaic = atlas.picture(pair.target, unit, recipe)?.url ?? null;
  const group = atlas.seen(pair, unit);
  const seen = own.channels[0].length === group.length ? group : own.channels[0].map((_, i) => i); // of groups, over all units
  return h("section", { class: "factors" },
    heading("Factors", `${pair.source} → ${own.rank}`),
    note(`Its weights as ${own.rank} maps times ${own.rank} directions over ${pair.source} (one-sided NMF, channels ≥ 0): `, shareBar(own.explained),
      ` ${percent(own.explained)} of the squares; no ${own.rank} factors of any kind hold more than ${percent(own.bound)}.`),
    h("div", { class: "equations" }, maps.map((map, k) => h("div", { class: "equation", role: "group", "aria-label": `factor ${k + 1} of ${own.rank}` },
      h("div", { class: "term first" },
        mosaic ? h("span", { class: "pic", role: "img", "aria-label": `picture of factor ${k + 1}`, style: cut(mosaic, k, own.rank) }) : null,
        mapPicture({ values: map, rows, columns, scale, origin: pair.origin, dilation: pair.dilation, label: `where factor ${k + 1} acts` }),
        h("span", { class: "weight" }, h("span", { class: "line", style: { width: `${(100 * own.strength[k]) / whole}%` } })),
        h("code", { "data-tip": `factor ${k + 1}: norm ${short(own.strength[k])}` }, `f${k + 1} · ${short(own.strength[k], 2).replace(/^0\./, ".")}`)),
      terms(atlas, pair, own.channels[k], seen)))),
    legend(scale, "maps of factors, one scale; bars: how much of each"));
}

/** What a direction is made of: = .55 unit + .44 unit + … of its length 1. */
function terms(atlas, pair, channels, seen) {
  const length = Math.hypot(...channels) || 1;
  const order = channels.map((value, i) => i).filter((i) => channels[i]).sort((a, b) => Math.abs(channels[b]) - Math.abs(channels[a]));
  const most = Math.abs(channels[order[0]]) / length || 1;
  const shown = order.slice(0, TERMS);
  return shown.flatMap((i, n) => {
    const value = channels[i] / length;
    const sign = n ? (value < 0 ? "−" : "+") : value < 0 ? "= −" : "=";
    return [
      h("span", { class: "sign", "aria-hidden": "true" }, sign),
      h("div", { class: "term" },
        unitLink(pair.source, seen[i], { "data-tip": `${addressOf(pair.source, seen[i])}\n${short(value)} of the direction's length` }, unitPicture(atlas, pair.source, seen[i])),
        h("span", { class: "weight" }, h("span", { class: "line", style: { width: `${(100 * Math.abs(value)) / most}%` } })),
        h("code", null, `${short(Math.abs(value), 2).replace(/^0\./, ".")} · ${seen[i]}`)),
    ];
  }).concat(order.length > TERMS ? [h("span", { class: "sign" }, "+ …")] : []);
}

const cut = (url, k, of) => ({
  "background-image": `url("${new URL(url, document.baseURI).href}")`, "background-size": `${of * 100}% 100%`, "background-position": `${of > 1 ? (100 * k) / (of - 1) : 0}% 0`,
});
