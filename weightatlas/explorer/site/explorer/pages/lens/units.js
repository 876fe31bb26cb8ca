/** The units of a layer that are most active on the image, anywhere or at a position. */

import { addressOf } from "../../addresses.js";
import { h } from "../../dom.js";
import { short } from "../../numbers.js";
import { empty, heading, note, turn, unitPicture } from "../../parts.js";
import { placeWords } from "../../seen.js";
import { withSteps } from "./steps.js";

const BARS = 12;

/** @param layer as layerOf gives it; `found` the server's answer for it; `at` a position or null */
export function unitList(here, seen, layer, found, at) {
  const top = found.top.filter(([, value]) => value !== null);
  const tools = [at && turn({ at: null }, { class: "button", "data-key": "anywhere" }, "anywhere"), layerChoice(here, seen, layer.name)];
  const pictured = here.atlas.rows.has(layer.name);
  return h("section", { class: "most", data: { layer: layer.name } },
    heading("Most active units", at ? placeWords(at, layer) : layer.rows * layer.columns > 1 ? "anywhere on the image" : null, tools),
    note(`Of ${layer.units} units of ${layer.name}. A click tells why a unit is active${at || layer.rows * layer.columns === 1 ? "" : ", where it is so most"}.`),
    !top.length ? empty(`No unit of ${layer.name} gives a number here.`) : pictured ? h("div", { class: "tiles" }, top.map((one) => activeTile(here, layer, one))) : bars(layer.name, top.slice(0, BARS)));
}

/** The strongest units of the last layer: what the network takes the image for. */
export const classes = ({ last }) => h("section", { class: "classes" }, heading("What it takes the image for", last.layer), note("The strongest units of the last layer. A click tells why."), bars(last.layer, last.top));

/** Units without pictures, as bars. */
function bars(layer, top) {
  const scale = top.reduce((m, [, value]) => Math.max(m, Math.abs(value)), 0) || 1;
  return h("ol", { class: "bars" }, top.map(([unit, value, y, x]) => {
    const name = addressOf(layer, unit);
    return h("li", null, turn({ ...withSteps([{ layer, unit, at: [y, x] }]), at: null }, { "data-key": `why ${name}`, data: { unit: name } },
      h("code", null, name), h("span", { class: "ground" }, h("span", { class: "length", style: { width: `${(100 * Math.max(value, 0)) / scale}%` } })), h("span", { class: "num" }, short(value))));
  }));
}

function activeTile(here, layer, [unit, value, y, x]) {
  const name = addressOf(layer.name, unit);
  const at = [y, x];
  const step = { layer: layer.name, unit, at };
  return h("div", { class: "tile", data: { unit: name } },
    turn({ ...withSteps([step]), at: null }, { class: "up", "data-key": `why ${name}`, "data-tip": `why ${name} is ${short(value)} at (${y}, ${x})` }, unitPicture(here.atlas, layer.name, unit)),
    h("code", null, String(unit)), h("span", { class: "value" }, short(value)));
}

function layerChoice(here, seen, now) {
  const known = seen.layers.map(([name]) => name);
  const own = known.filter((name) => here.atlas.rows.has(name));
  const option = (name) => h("option", { value: name, selected: name === now }, name);
  const rest = known.filter((name) => !here.atlas.rows.has(name));
  const change = (event) => here.change({ of: event.target.value, at: null });
  return h("select", { "aria-label": "layer", "data-key": "of", on: { change } },
    own.length ? h("optgroup", { label: "in this atlas" }, own.map(option)) : null, rest.length ? h("optgroup", { label: own.length ? "further layers" : "layers" }, rest.map(option)) : null);
}
