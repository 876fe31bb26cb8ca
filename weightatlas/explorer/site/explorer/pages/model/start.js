/** Where a reader may begin: the places that the build found by rule, each with its reason. */

import { addressOf, link, parsedUnit, written } from "../../addresses.js";
import { h } from "../../dom.js";
import { heading, unitPicture } from "../../parts.js";

const PICTURES = 3;

export function startHere(here) {
  const cards = (here.atlas.manifest.start ?? []).map((entry) => card(here, entry)).filter(Boolean);
  if (!cards.length) return null;
  return h("section", { class: "starthere" }, heading("Start here", null), h("ul", null, cards));
}

function card(here, { page, address, source, why }) {
  const found = { unit: aUnit, edge: anEdge, family: aFamily, layer: aLayer }[page]?.(here, address, source);
  if (!found) return null;
  return h("li", null, h("a", { href: link(found.to) },
    h("span", { class: "strip", "aria-hidden": "true" }, found.pictures),
    h("span", { class: "name" }, h("span", { class: "what" }, page), " ", h("code", null, found.name))),
    h("p", { class: "note" }, why));
}

function aUnit({ atlas }, address, source) {
  const at = known(atlas, address);
  return at && { to: { unit: address, from: atlas.pair(source, at.layer) ? source : null }, name: address, pictures: [unitPicture(atlas, at.layer, at.unit)] };
}

function anEdge({ atlas }, address, source) {
  const [into, from] = [known(atlas, address), known(atlas, source)];
  if (!into || !from) return null;
  const arrow = h("span", { class: "arrowto" }, "→");
  return { to: { edge: address, from: source }, name: `${source} → ${address}`, pictures: [unitPicture(atlas, from.layer, from.unit), arrow, unitPicture(atlas, into.layer, into.unit)] };
}

function aFamily({ atlas }, name) {
  const family = atlas.families.find((one) => one.name === name && atlas.rows.has(one.layer));
  return family && { to: { grid: `${family.layer}:${written(family.units)}` }, name, pictures: several(atlas, family.layer, family.units) };
}

/** The layer may be a module inside one that the atlas has: whose kernels are banded, say. */
function aLayer({ atlas }, name) {
  const row = atlas.rows.get(name) ?? atlas.layers.find((one) => one.banding?.layer === name);
  return row && { to: { layer: row.name }, name: row.name, pictures: several(atlas, row.name, Array.from({ length: Math.min(row.units, PICTURES) }, (_, i) => i)) };
}

const several = (atlas, layer, units) => units.slice(0, PICTURES).map((unit) => unitPicture(atlas, layer, unit, { small: true }));

function known(atlas, address) {
  const at = parsedUnit(address);
  const row = at && atlas.rows.get(at.layer);
  return row && at.unit < row.units && addressOf(at.layer, at.unit) === address ? at : null;
}
