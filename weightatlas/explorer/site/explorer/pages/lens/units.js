/** The units of a layer that are most active on the image, anywhere or at a position. */

import { addressOf } from "../../addresses.js";
import { h } from "../../dom.js";
import { short } from "../../numbers.js";
import { empty, heading, note, turn, unitPicture } from "../../parts.js";
import { placeWords } from "../../seen.js";
import { withSteps } from "./steps.js";

/** @param layer as layerOf gives it; `found` the server's answer for it; `at` a position or null */
export function unitList(here, seen, layer, found, at) {
  const shown = found.top.filter(([, value]) => value !== null);
  const last = layer.name === seen.last.layer;
  const tools = [layerChoice(here, seen, layer.name), at && turn({ at: null }, { class: "button", "data-key": "anywhere" }, "anywhere")];
  return h("section", { class: "most", data: { layer: layer.name } },
    heading("Most active units", at ? placeWords(at, layer) : "anywhere", tools),
    note(last ? "The last layer: what the network takes the image for. A unit tells why." : `Of ${layer.units} units of ${layer.name}. A click tells why a unit is active where it is so most.`),
    shown.length ? h("div", { class: "tiles" }, shown.map((one) => activeTile(here, layer, one))) : empty(`No unit of ${layer.name} gives a number here.`));
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
  return h("label", null, h("span", { class: "unseen" }, "layer"), h("select", { "data-key": "of", on: { change } },
    own.length ? h("optgroup", { label: "in this atlas" }, own.map(option)) : null, rest.length ? h("optgroup", { label: own.length ? "further layers" : "layers" }, rest.map(option)) : null));
}
