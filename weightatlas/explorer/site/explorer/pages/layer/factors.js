/** What tiles of factors show: one factorization of a whole layer, or the weights themselves where they read red, green and blue. */

import { h } from "../../dom.js";
import { asRgb, factorColours, factorPicture, factorSheets, pixelPicture } from "../../nmf.js";
import { counting, percent } from "../../numbers.js";
import { choice, empty, note } from "../../parts.js";

const HOW = { posneg: "one-sided NMF", semi: "semi-NMF" };

/**
 * {picture(unit), explained(unit), caption} of a layer over the nearest source that has factors, or over `source`. The
 * picture is null where there is none, and the caption says why.
 */
export async function factorsOf(atlas, layer, source) {
  const pairs = atlas.into(layer);
  const able = pairs.filter((pair) => pair.factors);
  const pair = able.find((one) => one.source === source) ?? able[0];
  if (pair) {
    const factors = await atlas.connections(pair, "factors");
    return joint(pair, able, factors, await factorSheets(factors));
  }
  const coloured = pairs.find((one) => inColour(atlas, one));
  if (coloured) return inOwnColours(atlas, coloured);
  const words = pairs.length ? "No factors: its units read a single unit each, or those of another layer's factors are not made yet." : "No factors: the atlas has no weights into this layer.";
  return { picture: () => null, explained: () => null, caption: empty(words) };
}

function joint(pair, able, factors, sheets) {
  const colours = factorColours(factors.rank);
  const [, , rows, columns] = pair.shape;
  return {
    picture: (unit) => (factors.space[unit] ? factorPicture(sheets, unit) : null),
    explained: (unit) => factors.unit_explained?.[unit] ?? null,
    caption: h("div", { class: "factorwords" },
      able.length > 1 ? choice("over", able.map((one) => [one.source, one.source]), pair.source, "factors over") : null,
      note(`One factorization of ${counting(pair.shape[0], "unit")} together, ${rows} × ${columns} over ${pair.source}: a colour is the same mix of its units everywhere, at full light in the strongest 3 % of squares; black is none. `,
        `${counting(factors.rank, "factor")} (${HOW[factors.method] ?? factors.method}) hold ${percent(factors.explained)} of the squared weights; no ${factors.rank} factors hold more than ${percent(factors.bound)}.`),
      h("ul", { class: "chips" }, (factors.shares ?? []).map((share, k) => h("li", null,
        h("span", { class: "swatch", "aria-hidden": "true", style: { background: asRgb(colours[k]) } }), ` factor ${k + 1}: ${percent(share)}`)))),
  };
}

const RGB = ["red", "green", "blue"];

const inColour = (atlas, pair) =>
  pair.sees_pixels && pair.shape[1] === 3 && RGB.every((name, i) => atlas.manifest.input?.channel_names?.[i] === name);

/** Units that read pixels need no factors: their weights are pictures already (Figure 1 of the article). */
function inOwnColours(atlas, pair) {
  return {
    picture: (unit) => {
      const box = h("span", { class: "nmf waits" });
      atlas.inputs(pair, unit).then((found) => box.replaceWith(pixelPicture(found)), () => box.replaceWith(h("span", { class: "pic none" })));
      return box;
    },
    explained: () => null,
    caption: note(`Weights on the input's channels (red, green, blue) in their own colours, ${pair.shape[2]} × ${pair.shape[3]}: grey is zero, and every tile has its own scale.`),
  };
}
