/** Weight banding of a layer as a dot against what chance gives. */

import { h } from "./dom.js";
import { percent } from "./numbers.js";

const at = (share) => `${Math.max(0, Math.min(1, share)) * 100}%`;

/** In words, with the interval that chance gives. */
export function bandWords(band) {
  if (!band) return "no kernels larger than one position, so no banding";
  if (band.row_share === null || band.row_share === undefined) return `banding of ${band.layer} cannot be told`;
  const by = band.interval ? `, by chance ${percent(band.chance)} (95 % within ${percent(band.interval[0])} to ${percent(band.interval[1])})` : "";
  const verdict = band.apart ? band.apart : band.banded ? "banded" : "not banded";
  return `${percent(band.row_share)} of the variance of ${band.layer}'s kernels lies between rows${by}: ${verdict}`;
}

/** Row share from 0 to 1: a dot, on the grey interval that chance gives. Filled where a layer is banded, hollow where it is not. */
export function bandPicture(band) {
  if (!band || band.row_share === null || band.row_share === undefined) {
    return h("span", { class: "band none" }, h("span", { class: "unseen" }, bandWords(band)));
  }
  const [low, high] = band.interval ?? [band.chance, band.chance];
  return h("span", { class: `band${band.banded ? " banded" : ""}${band.apart ? " apart" : ""}`, role: "img", "aria-label": bandWords(band), "data-tip": bandWords(band) },
    h("span", { class: "interval", style: { left: at(low), width: at(high - low) } }),
    h("span", { class: "chance", style: { left: at(band.chance) } }),
    h("span", { class: "point", style: { left: at(band.row_share) } }));
}
