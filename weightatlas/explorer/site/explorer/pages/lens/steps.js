/** The path of a walk in the address: step=LAYER:UNIT:Y,X, with the source and the method where they were chosen. */

import { addressOf } from "../../addresses.js";
import { h } from "../../dom.js";
import { turn, unitPicture } from "../../parts.js";

export const METHODS = { exact: "exact", gradient: "gradient × activation", integrated_gradients: "integrated gradients", conductance: "conductance" };
const encoded = encodeURIComponent;

/** {layer, unit, at, source?, method?} as it is written in the address. */
export function writtenStep({ layer, unit, at, source, method }) {
  const rest = [source ? encoded(source) : "", method ?? ""];
  while (rest.length && !rest.at(-1)) rest.pop();
  return [encoded(layer), unit, at.join(","), ...rest].join(":");
}

/** The same read; null for what is none. */
export function parsedStep(text) {
  const match = /^([^:]+):([0-9]{1,9}):([0-9]{1,6}),([0-9]{1,6})(?::([^:]*)(?::([a-z_]*))?)?$/.exec(text ?? "");
  if (!match) return null;
  try {
    const [layer, source] = [decodeURIComponent(match[1]), decodeURIComponent(match[5] ?? "")];
    return { layer, unit: Number(match[2]), at: [Number(match[3]), Number(match[4])], source: source || null, method: Object.hasOwn(METHODS, match[6] ?? "") ? match[6] : null };
  } catch {
    return null; // a broken escape
  }
}

export const stepsIn = (params) => params.getAll("step").map(parsedStep).filter(Boolean);
export const withSteps = (steps) => ({ step: steps.map(writtenStep) });

/** Where the walk has come from: each unit, the first one first; a click goes back to it. */
export function trail(here, steps) {
  if (steps.length < 2) return null;
  return h("nav", { class: "trail", "aria-label": "the walk so far" }, h("ol", null, steps.map((step, i) => {
    const name = addressOf(step.layer, step.unit);
    const last = i === steps.length - 1;
    const pictured = here.atlas.picture(step.layer, step.unit);
    const inner = [pictured && h("span", { class: "thumb", "aria-hidden": "true" }, unitPicture(here.atlas, step.layer, step.unit, { small: true })), h("code", null, name)];
    return h("li", null, last ? h("span", { "aria-current": "step" }, inner) : turn({ ...withSteps(steps.slice(0, i + 1)) }, { "data-key": `back to ${i}`, "data-tip": `back to ${name}` }, inner));
  })));
}
