/** The bar above every page: where one is, what is pinned, what the builder does, search. */

import { changed, link, parsedUnit } from "./addresses.js";
import { h } from "./dom.js";
import { count } from "./numbers.js";
import { searchBox } from "./searchbox.js";

const mark = h("img", { src: "explorer/icon.svg", alt: "", width: 18, height: 18 }); // one for all pages: asked for once

export function header(here) {
  const { atlas, live, params } = here;
  const pins = params.getAll("pin").length;
  const other = params.get("palette") === "colorblind" ? null : "colorblind";
  return [
    h("a", { class: "brand", href: link({}) }, mark, h("b", null, "weightatlas")),
    h("nav", { class: "crumbs", "aria-label": "where you are" }, crumbs(here)),
    searchBox(here),
    h("nav", { class: "side", "aria-label": "tools" },
      h("a", { href: link({ lens: "image" }), "data-tip": "what the network does on an image of yours, and why" }, "on an image"),
      h("a", { href: link({ circuit: "board" }), "data-tip": "units that you pinned, and the weights between them" }, "circuit", h("span", { class: "badge", "aria-label": `${pins} pinned` }, String(pins))),
      h("a", { href: changed({ palette: other }), "data-turn": "", "data-key": "palette", "data-tip": other ? "orange and blue, for colour-blind readers" : "red and blue" }, other ? "red/blue" : "orange/blue"),
      h("a", { href: link({ help: "keys" }), "aria-label": "keys and help" }, "?")),
    header.state(live),
  ].filter(Boolean);
}

/** What the builder does; empty in an exported copy. */
header.state = (live) => {
  const { builder, about, done, of, waiting } = live.state;
  if (builder === "none" && !about) return h("span", { id: "state", hidden: true });
  const words = { starting: "opening the network", building: "building", asked: "computing what you asked for", idle: "all is built", stopped: "builder stopped", failed: "builder failed", lost: "server lost", none: "reading only" }[builder] ?? builder;
  const numbers = builder === "building" && of ? ` ${count(done ?? 0)} of ${count(of)}` : waiting ? `, ${waiting} waiting` : "";
  return h("span", { id: "state", data: { builder }, ...(about ? { "data-tip": about, tabindex: "0" } : {}) }, words + numbers);
};

function crumbs({ atlas, params, page }) {
  const model = h("a", { href: link({}) }, atlas.manifest.model.name);
  const address = parsedUnit(params.get("unit")) ?? parsedUnit(params.get("edge"));
  const layer = params.get("layer") ?? address?.layer;
  const parts = [model];
  if (page === "layer" && layer) parts.push(h("span", { "aria-current": "page" }, layer));
  else if (layer && atlas.rows.has(layer)) parts.push(h("a", { href: link({ layer }) }, layer));
  if (page === "unit" && address) parts.push(h("span", { "aria-current": "page" }, String(address.unit)));
  if (page === "edge" && address) parts.push(h("a", { href: link({ unit: params.get("edge") }) }, String(address.unit)), h("span", { "aria-current": "page" }, "edge"));
  if (page === "lens") parts.push(h("span", { "aria-current": "page" }, "on an image"));
  if (["grid", "circuit", "search", "help"].includes(page)) parts.push(h("span", { "aria-current": "page" }, page));
  return parts.flatMap((part, i) => (i ? [h("span", { class: "slash", "aria-hidden": "true" }, "/"), part] : [part]));
}
