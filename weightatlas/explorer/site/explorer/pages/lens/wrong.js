/** What an address says that does not exist, told in one sentence: else another view would be taken for the one that was meant. */

import { CARRIED, addressOf } from "../../addresses.js";
import { h } from "../../dom.js";
import { Missing } from "../../reading.js";
import { layerOf } from "../../seen.js";
import { METHODS, parsedStep, writtenStep } from "./steps.js";

const READ = new Set(["lens", "of", "at", "step", "overlay", ...CARRIED]);
const STEP = "step=LAYER:UNIT:Y,X:SOURCE:METHOD";
const HINTS = { layer: "a layer is chosen with of=LAYER", unit: `a unit is explained by ${STEP}`, source: `it belongs to ${STEP}`, method: `it belongs to ${STEP}` };
const LONGEST = 60; // characters of a value that are repeated

/** "3,4" as [3, 4] where the layer has such a position; else null. */
export function placeIn(text, { rows, columns }) {
  const match = /^([0-9]{1,6}),([0-9]{1,6})$/.exec(text ?? "");
  const at = match && [Number(match[1]), Number(match[2])];
  return at && at[0] < rows && at[1] < columns ? at : null;
}

/** @param of the layer whose units are listed, as layerOf gives it; null if nothing is wrong */
export function wrongs({ params }, seen, of) {
  const parts = [...params].map(([name, value]) => [`${cut(name)}=${cut(value)}`, why(name, value, params, seen, of)]).filter(([, words]) => words);
  const found = [...parts, ...params.getAll("step").map(methodWords).filter(Boolean)];
  if (!found.length) return null;
  const told = found.map(([part, words]) => `${part} (${words})`).join(", ");
  return h("p", { class: "error wrong", role: "status" }, `This address names what does not exist here: ${told}; what is shown is the page without ${found.length > 1 ? "these" : "it"}.`);
}

/** Why a part of the address has no meaning; "" if it has one. */
function why(name, value, params, seen, of) {
  if (!READ.has(name)) return Object.hasOwn(HINTS, name) ? HINTS[name] : "this page reads no such parameter";
  if (name === "overlay") return ["on", "off"].includes(value) ? "" : "it is on or off";
  if (name === "at") return atWords(value, params, of);
  return name === "step" ? stepWords(value, seen) : "";
}

function atWords(value, params, of) {
  if (params.getAll("step").some(parsedStep)) return "a step has its own position";
  return placeIn(value, of) ? "" : positions(of);
}

const positions = ({ name, rows, columns }) => `${name} has positions 0,0 to ${rows - 1},${columns - 1}`;

function stepWords(value, seen) {
  const step = parsedStep(value);
  if (!step) return `a step is like ${STEP}, without the last two if they are left to choose`;
  const layer = layerOf(seen, step.layer);
  if (!layer) return `the network has no layer ${cut(step.layer)} whose units can be told apart`;
  if (step.unit >= layer.units) return `${layer.name} has units 0 to ${layer.units - 1}`;
  return placeIn(step.at.join(","), layer) ? "" : positions(layer);
}

/** What is wrong with the method of a step that is shown all the same, by the method that fits; null if nothing is. */
function methodWords(value) {
  const method = parsedStep(value) && value.split(":")[4]; // layers and sources are encoded, so that they hold no colon
  return method && !Object.hasOwn(METHODS, method) ? [`the method ${cut(method)} of a step`, `there are ${Object.keys(METHODS).join(", ")}`] : null;
}

/** The steps without those on the way that do not exist; the last one is what is asked for. */
export const existing = (steps, seen) => steps.filter((step, i) => i === steps.length - 1 || !stepWords(writtenStep(step), seen));

/** The step that is asked for, if it exists. Throws what is wrong with it. */
export function checked(step, seen) {
  const words = step && stepWords(writtenStep(step), seen);
  if (words) throw new Missing(`there is no ${addressOf(step.layer, step.unit)} at (${step.at.join(", ")}): ${words}`);
  return step;
}

const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);
