/** Which families, which source layer, in which order: the switches above a grid. */

import { numbers, written } from "../../addresses.js";
import { h, say } from "../../dom.js";
import { choice, turn } from "../../parts.js";
import { FIRST, MOST, familyText, sourceFamilies, targetFamilies } from "./reading.js";

export const ORDERS = [
  ["given", "as given"],
  ["similarity", "similarity", "units with like maps side by side: along the second eigenvector of their similarities' graph Laplacian"],
  ["strength", "strength", "those with the largest weights in this grid first"],
  ["index", "index", "by their numbers"],
];
const COUNTS = [4, 8, 16, 32];

/** The address with these families; `changes` are {layer, units} or null for the default. */
const sides = (grid, by) => ({ grid: familyText(grid), by: by && familyText(by) });

export function controls(here, view) {
  const { atlas } = here;
  const targets = { layer: view.target, units: view.asked };
  const sources = { layer: view.source, units: view.strongest ? null : view.askedSources };
  return h("div", { class: "controls", role: "group", "aria-label": "what the grid shows" },
    fieldset("targets", "across", [
      chooser("family of targets", "targets", targetFamilies(atlas), targets, (family) => here.change({ ...sides(family, followed(atlas, family, view)), order: view.order === "given" ? null : view.order })),
      field(here, "units", "target units", targets, atlas.layer(view.target).units, (units) => here.change(sides({ ...targets, units }, sources))),
    ], view),
    fieldset("sources", "down", [
      layers(here, view, targets),
      chooser("family of sources", "sources", sourceFamilies(atlas, view.source), sources, (family) => here.change(sides(targets, family ?? { layer: view.source, units: null }))),
      view.strongest ? choice("k", COUNTS.map((k) => [String(k), String(k)]), String(view.k), "how many of the strongest sources", String(FIRST)) : null,
      field(here, "units", "source units", { layer: view.source, units: view.askedSources }, view.pair.source_units, (units) => here.change(sides(targets, { layer: view.source, units }))),
    ], view),
    h("div", { class: "arrange" },
      h("span", { class: "label", "aria-hidden": "true" }, "order"), choice("order", ORDERS, view.order, "order"),
      turn({ transpose: view.transposed ? null : "1" }, { class: "button", "data-key": "transpose", "data-tip": "rows become columns (t)" }, "transpose"),
      h("span", { class: "label", "aria-hidden": "true" }, "colours"), choice("scale", [["shown", "shown", "the largest weight of this grid gets the full colour"], ["layers", "layers", "the same colours for all units of these two layers"]], view.scaled, "scale of colours")));
}

/** A family of another layer keeps the sources it was found over, or takes the nearest layer's strongest. */
function followed(atlas, family, view) {
  if (family.layer === view.target) return { layer: view.source, units: view.strongest ? null : view.askedSources };
  return family.source && atlas.pair(family.source, family.layer) ? { layer: family.source, units: null } : null;
}

const fieldset = (name, where, parts, view) =>
  h("div", { class: "side", role: "group", "aria-label": name }, h("span", { class: "label" }, name, h("span", { class: "where" }, ` ${view.transposed ? (where === "across" ? "down" : "across") : where}`)), parts);

const same = (a, b) => a.layer === b.layer && a.units.length === b.units?.length && a.units.every((unit, i) => unit === b.units[i]);

/** A list of families; for sources, the strongest come first. */
function chooser(label, key, families, now, chosen) {
  const at = now.units ? families.findIndex((family) => same(family, now)) : -1;
  const strongest = key === "sources" ? h("option", { value: "strongest", selected: !now.units }, "the strongest of these targets") : null;
  const own = now.units && at < 0 ? h("option", { value: "own", selected: true }, "own choice") : null;
  const named = (family, i) => h("option", { value: i, selected: i === at }, family.by === "rule" ? family.name : `${family.name} (${family.layer})`);
  const heard = (event) => {
    if (event.target.value === "own") return;
    chosen(event.target.value === "strongest" ? null : families[Number(event.target.value)]);
  };
  return h("select", { "aria-label": label, "data-key": `family ${key}`, on: { change: heard } }, own, strongest, families.map(named));
}

function layers(here, view, targets) {
  const pairs = here.atlas.into(view.target);
  if (pairs.length < 2) return h("code", null, view.source);
  return h("select", { "aria-label": "layer of the sources", "data-key": "source layer", on: { change: (event) => here.change(sides(targets, { layer: pairs[Number(event.target.value)].source, units: null })) } },
    pairs.map((pair, i) => h("option", { value: i, selected: pair.source === view.source }, pair.source)));
}

/** Numbers and ranges; what cannot be taken is said, and nothing changes. */
function field(here, label, name, { units }, count, chosen) {
  const error = h("span", { class: "error", role: "alert" });
  const input = h("input", { type: "text", value: written(units), "aria-label": `${name}, like 1-3,7`, "data-key": `field ${name}`, spellcheck: "false", autocomplete: "off", inputmode: "text", size: 16 });
  const heard = (event) => {
    event.preventDefault();
    const text = written(numbers(input.value) ?? []);
    const found = numbers(input.value);
    const wrong = !found ? "numbers and ranges, like 1-3,7" : found.some((unit) => unit >= count) ? `units are 0 to ${count - 1}` : found.length > MOST ? `${MOST} units at most` : "";
    error.textContent = wrong;
    input.toggleAttribute("aria-invalid", Boolean(wrong));
    if (wrong) return say(`${name}: ${wrong}`);
    if (text !== written(units)) chosen(found);
  };
  return h("form", { class: "field", on: { submit: heard } }, input, h("button", { "aria-label": `show these ${name}` }, "set"), error);
}
