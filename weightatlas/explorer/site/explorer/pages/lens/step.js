/** One step of an explanation: why a unit has its value at a position, and which units of an earlier layer made it so. */

import { addressOf } from "../../addresses.js";
import { h } from "../../dom.js";
import { percent, short, signed } from "../../numbers.js";
import { empty, heading, legend, mapPicture, mapWords, note, to, turn, unitPicture } from "../../parts.js";
import { most, numbersOf } from "../../seen.js";
import { METHODS, withSteps } from "./steps.js";

const MAPS = { own: "weights", expanded: "expanded weights", gradient: "gradient on this image" };
const NEAR = 0.01; // error of a sum that is as good as complete
const BASES = { exact: "bias", gradient: "where the source is 0", integrated_gradients: "on the baseline", conductance: "on the baseline" };

/** The section of a step. `told` is the server's answer, `error` why there is none; without both it is still on its way. */
export function stepSection(here, seen, steps, layer, { told = null, error = null } = {}) {
  const step = steps.at(-1);
  const name = addressOf(step.layer, step.unit);
  const head = heading("Why", told && layer.rows * layer.columns > 1 ? `${name} at (${told.at.join(", ")})` : name, tools(here, seen, steps, told));
  if (error) return h("section", { class: "reason" }, head, h("p", { class: "error", role: "alert" }, error.message));
  if (!told) return h("section", { class: "reason", "aria-busy": "true" }, head, h("p", { class: "note", role: "status" }, `following ${name} back …`));
  const shown = scales(told);
  return h("section", { class: "reason", data: { unit: name, at: told.at.join(","), method: told.method } }, head, equation(told), trust(told),
    side(here, steps, told, shown, "up", "Pushed it up"), side(here, steps, told, shown, "down", "Pushed it down"), told.up.length + told.down.length ? legends(told, shown) : null, rest(told), ended(told));
}

/** Why none of the sources can be explained in turn. What the server says of source= is chosen above. */
const ended = (told) => (told.ended ? h("p", { class: "note ended" }, `The walk ends here: ${told.ended.split("; ")[0]}. Another source layer, chosen above, goes on.`) : null);

function tools(here, seen, steps, told) {
  const step = steps.at(-1);
  const before = seen.layers.findIndex(([name]) => name === step.layer);
  const sources = ["input", ...seen.layers.slice(0, Math.max(before, 0)).map(([name]) => name).filter((name) => here.atlas.rows.has(name) || name === step.source)];
  const changed = (change) => withSteps([...steps.slice(0, -1), { ...step, ...change }]);
  const read = told && !step.source ? told.source : "what it reads";
  const choose = (event) => here.change(changed({ source: event.target.value || null, method: null }));
  const auto = told && !step.method ? METHODS[told.method] : "as fits";
  const methods = Object.keys(METHODS).filter((name) => name !== "exact" || step.method === "exact").filter((name) => step.method || name !== told?.method);
  return [
    h("span", { class: "from" }, "from ", h("select", { "aria-label": "source layer", "data-key": "source", on: { change: choose } },
      h("option", { value: "", selected: !step.source }, read), sources.filter((name) => step.source || name !== told?.source).map((name) => h("option", { value: name, selected: name === step.source }, name)))),
    h("nav", { class: "seg", "aria-label": "method" },
      turn(changed({ method: null }), { "aria-current": step.method ? null : "true", "data-key": "method" }, auto),
      methods.map((method) => turn(changed({ method }), { "aria-current": step.method === method ? "true" : null, "data-key": `method ${method}` }, METHODS[method]))),
  ];
}

/** value = base + contributions + residual */
function equation(told) {
  const term = (sign, value, words, kind) => [sign && h("span", { class: "sign" }, sign), h("span", { class: "addend", data: { term: kind, value: String(value) } }, h("b", null, short(value, 4)), h("small", null, words))];
  return h("p", { class: "sum" },
    term("", told.value, "value here", "value"), term("=", told.base, BASES[told.method], "base"), term("+", told.total, `from ${told.units} of ${told.source}`, "total"), term("+", told.residual, "not accounted for", "residual"));
}

function trust(told) {
  const { method, error, steps } = told;
  const missing = error < 5e-5 ? "Nothing is missing from the sum. " : `The sum misses the value by ${percent(error)}${error > NEAR ? ": what comes by ways around the source, or is curved" : ""}. `;
  const how = method === "exact" ? "Everything between is linear, so each contribution is weight × activation. " : method === "gradient" ? "Each contribution is gradient × activation, as if all between were linear around this image. " : `${METHODS[method]}, ${steps} steps from ${told.baseline}. `.replace(/^./, (c) => c.toUpperCase());
  return note(how, missing, alikeWords(told));
}

function alikeWords({ weights, alike, why }) {
  if (weights === "expanded" && alike === null) return "The weight maps are expanded weights; the gradient on this image is 0.";
  if (weights === "own") return "The weight maps are the layer's own weights.";
  if (weights === "gradient") return `The first maps are the gradient on this image, for there are no weights to show: ${why}.`.replace("..", ".");
  return ["The weight maps are expanded weights. They and the gradient on this image have a cosine of ", h("b", { class: "alike" }, short(alike)), alike > 0.8 ? ": here the weights tell what happened." : alike > 0.4 ? ": the weights tell a part of what happened here." : ": the weights tell little of what happened here."];
}

function scales(told) {
  const all = [...told.up, ...told.down];
  const scale = (name) => all.reduce((m, one) => Math.max(m, most(one[name].values)), 0) || 1;
  return { weights: scale("weights"), patch: scale("patch"), product: scale("product") };
}

function side(here, steps, told, shown, which, title) {
  const rows = told[which];
  const sum = rows.reduce((total, one) => total + one.sum, 0);
  const whole = which === "up" ? told.raised : told.lowered;
  return h("section", { class: "side-of", data: { side: which } },
    h("h3", null, title, " ", h("span", { class: "faint" }, rows.length ? `${signed(sum)} of ${signed(whole)} by these ${rows.length}` : "")),
    rows.length ? h("div", { class: "tiles" }, labels(told), rows.map((one) => column(here, steps, told, shown, one))) : empty(`Nothing in ${told.source} did.`));
}

/** What the rows of maps are, where there is room for it; the legends say it as well. */
const labels = (told) => h("div", { class: "labels", "aria-hidden": "true" }, ["", MAPS[told.weights], told.source === "input" ? "pixels" : "activation", "contribution"].map((words) => h("span", null, words)));

/** A source unit: its picture, the weights, what it did on the image below them, and both multiplied. */
function column(here, steps, told, shown, one) {
  const { atlas } = here;
  const into = addressOf(told.layer, told.unit);
  const input = told.source === "input";
  const known = atlas.rows.has(told.source);
  const picture = known || input ? unitPicture(atlas, told.source, one.unit) : h("span", { class: "pic nameless" }, String(one.unit)); // of a layer that the atlas does not have there are none
  const origin = told.window.slice(0, 2);
  const map = (name, words, extra) => {
    const { rows, columns } = one[name];
    const values = numbersOf(one[name]);
    const picture = mapPicture({ values, rows, columns, scale: shown[name], origin, absolute: true, label: mapWords(values, rows, columns, one.name, into).replace("weights from", `${words}, from`), ...extra });
    if (rows * columns === 1) picture.style.aspectRatio = "3"; // one colour needs no more
    return picture;
  };
  const next = { layer: told.further, unit: one.unit, at: one.place }; // of an activation, the convolution behind it
  const tip = `${one.name}\ncontributed ${signed(one.sum)}, most at (${one.place.join(", ")})`;
  const top = told.further ? turn(withSteps([...steps, next]), { class: "face", "data-key": `down ${one.name}`, "data-tip": `${tip}\nexplain ${told.further === told.source ? "it" : addressOf(told.further, one.unit)}`, "aria-label": `explain ${one.name}, which contributed ${signed(one.sum)}` }, picture) : h("span", { class: "face", "data-tip": tip }, picture);
  const weights = map("weights", MAPS[told.weights]);
  const pair = known || input ? atlas.pair(told.source, told.layer) : null;
  return h("div", { class: "tile source", data: { unit: one.name, sum: String(one.sum) } }, top,
    pair && told.weights !== "gradient" ? to({ edge: into, from: addressOf(told.source, one.unit) }, { class: "glued", "data-tip": `${MAPS[told.weights]} ${one.name} → ${into}` }, weights) : h("span", { class: "glued", "data-tip": MAPS[told.weights] }, weights),
    h("span", { class: "glued", "data-tip": `${one.name} on the image` }, map("patch", "activations", { colours: "activation" })),
    h("span", { class: "glued last", "data-tip": "contributions" }, map("product", "contributions")),
    h("b", { class: "adds" }, signed(one.sum)),
    known ? to({ unit: addressOf(told.source, one.unit) }, { class: "address", "data-tip": `${one.name}: its page, on this image` }, h("code", null, String(one.unit))) : input ? h("code", { class: "address" }, one.name) : null);
}

const legends = (told, shown) => h("div", { class: "legends" },
  legend(shown.weights, MAPS[told.weights]),
  legend(shown.patch, told.source === "input" ? "pixels, as the network takes them" : `activations of ${told.source}`, { colours: "activation", ends: ["negative", "positive"] }),
  legend(shown.product, told.method === "exact" ? "contributions: weight × activation" : "contributions", { ends: ["pushes down", "pushes up"] }));

function rest(told) {
  const shown = [...told.up, ...told.down];
  const sum = shown.reduce((total, one) => total + one.sum, 0);
  const [top, left, bottom, right] = told.window;
  const around = bottom - top < told.grid[0] || right - left < told.grid[1] ? ` Maps show y ${top} to ${bottom - 1} and x ${left} to ${right - 1} of ${told.grid.join(" × ")}: all that contributed.` : "";
  return note(`Shown are ${shown.length} of ${told.units} units, ${signed(sum)} of ${signed(told.total)}; the others add ${signed(told.total - sum)}.${around}`, ...told.notes.map((words) => ` ${words[0].toUpperCase()}${words.slice(1)}.`));
}
