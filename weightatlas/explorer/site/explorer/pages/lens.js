/** What the network does on an image of the reader's: what is active where, and why, down to the pixels. */

import { addressOf } from "../addresses.js";
import { Missing } from "../atlas.js";
import { h } from "../dom.js";
import { holding } from "../holding.js";
import { Gone, asked, seen as seenOn, soon } from "../images.js";
import { short } from "../numbers.js";
import { choice, facts, legend, note, to, unitPicture } from "../parts.js";
import { activationWords, layerOf, most, numbersOf, placeWords, seenPicture } from "../seen.js";
import { stepSection } from "./lens/step.js";
import { stepsIn, trail, withSteps } from "./lens/steps.js";
import { classes, unitList } from "./lens/units.js";
import { checked, existing, placeIn, wrongs } from "./lens/wrong.js";
import { another, without, zone } from "./lens/zone.js";

const TITLE = "On an image";
const LOST = "The image of this address is not in the server's memory: it was started again, or other images came after. Drop it again, and the view is as it was.";

export async function render(here) {
  const { live, params } = here;
  const depends = () => [live.can("images"), live.site.images?.why];
  const bare = (part) => ({ title: TITLE, body: [h("h1", null, TITLE), lead(), part], depends });
  if (!live.can("images")) return bare(without(here));
  if (!params.get("image")) return bare(zone(here));
  try {
    const seen = await seenOn(live, params.get("image"));
    return { ...(await shown(here, seen)), depends };
  } catch (error) {
    if (error instanceof Gone) return bare(zone(here, LOST));
    throw error;
  }
}

const lead = () => note("What the network saw (activations), how it computes (weights), and why a unit fired (attributions), for one unit at one position of one image: which units of an earlier layer pushed it up and down there, and through which weights; then the same for these, down to the pixels.");

async function shown(here, seen) {
  const { live, params } = here;
  const image = seen.image;
  const steps = existing(stepsIn(params), seen);
  const step = checked(steps.at(-1), seen);
  const of = known(seen, params.get("of") ?? firstOf(here, seen));
  const at = step ? null : placeIn(params.get("at"), of);
  const layer = step ? known(seen, step.layer) : of;
  const [list, unit] = await Promise.all([
    asked(live, { what: "layer", image, layer: of.name, ...(at && { at }) }),
    step && asked(live, { what: "unit", image, layer: step.layer, unit: step.unit }),
  ]);
  const explain = step && asked(live, { what: "explain", image, ...step }); // after what is quick: one question is answered at a time
  const first = step && (await soon(explain));
  if (first?.error instanceof Gone) throw first.error;
  const section = step && stepSection(here, seen, steps, layer, first ?? {});
  const aside = h("aside", { class: "on" });
  const fill = (told) => aside.replaceChildren(...picturePart(here, seen, { steps, step, layer, at, list, unit, told }));
  fill(first?.told);
  const name = step && addressOf(step.layer, step.unit);
  return {
    title: step ? `${name} on an image` : TITLE,
    body: [
      h("h1", null, step ? [h("span", { class: "faint" }, `${step.layer}:`), String(step.unit), h("span", { class: "faint" }, " on an image")] : TITLE),
      wrongs(here, seen, of),
      h("div", { class: "lens" }, aside, h("div", { class: "rows" }, step && trail(here, steps), section, step ? null : classes(seen), unitList(here, seen, of, list, at))),
    ],
    keys: step ? { u: () => here.change(withSteps(steps.slice(0, -1))) } : {},
    shown: () => first === null && later(explain, section, (done) => {
      fill(done.told);
      return stepSection(here, seen, steps, layer, done);
    }, here),
  };
}

/** What takes longer is put in its place when it comes, if that is still there. */
function later(promise, place, made, here) {
  const put = (done) => {
    if (!place.isConnected) return;
    if (done.error instanceof Gone) return here.rerender();
    const held = holding(document.getElementById("main"));
    place.replaceWith(made(done));
    held();
  };
  promise.then((told) => put({ told }), (error) => put({ error }));
}

/** The layer whose units are shown if nobody says: the last of the atlas that has positions. */
const firstOf = ({ atlas }, seen) => seen.layers.findLast(([name, , rows, columns]) => atlas.rows.has(name) && rows * columns > 1)?.[0] ?? seen.last.layer;

function known(seen, name) {
  const layer = layerOf(seen, name);
  if (!layer) throw new Missing(`the network has no layer ${name} whose units can be told apart`);
  return layer;
}

function picturePart(here, seen, { steps, step, layer, at, list, unit, told }) {
  const positions = layer.rows * layer.columns > 1;
  const overlaid = positions && here.params.get("overlay") !== "off";
  const map = step ? unit.map : list.strength;
  const values = numbersOf(map);
  const scale = most(values.filter((v) => !Number.isNaN(v)));
  const words = step ? activationWords(addressOf(step.layer, step.unit), values, layer) : `how strong ${layer.name} is as a whole, at most ${short(scale)}`;
  const place = step ? step.at : at;
  const choose = (next, keys) => here.change(step ? withSteps([...steps.slice(0, -1), { ...step, at: next }]) : { at: next.join(",") }, { replace: keys });
  const now = () => {
    const params = new URLSearchParams(location.search);
    return step ? stepsIn(params).at(-1)?.at : placeIn(params.get("at"), layer);
  };
  return [
    seenPicture(seen, { layer, values: overlaid ? values : null, words, at: place, box: told?.box, choose, now }),
    positions && h("div", { class: "under" },
      choice("overlay", [["on", "activations"], ["off", "image alone"]], overlaid ? "on" : "off", "laid over the image"), rowAndColumn(layer, place, choose)),
    overlaid ? legend(scale, step ? addressOf(step.layer, step.unit) : `${layer.name}, all units together`, { colours: "activation", ends: ["negative", "positive"], least: step ? -scale : 0 }) : null,
    step && targetPart(here, step, layer, unit, told),
    facts([["file", `${seen.file[1]} × ${seen.file[0]}`], ["seen as", `${seen.size[1]} × ${seen.size[0]}`]]),
    seen.notes.length ? note(seen.notes.join("; ")) : null,
    another(here),
  ].filter(Boolean);
}

/** The unit that is explained: its picture, if there is one, and how active it is. */
function targetPart({ atlas }, step, layer, unit, told) {
  const name = addressOf(step.layer, step.unit);
  const pictured = atlas.picture(step.layer, step.unit);
  const positions = layer.rows * layer.columns > 1;
  return h("div", { class: `target${pictured ? " pictured" : ""}` },
    pictured && to({ unit: name }, { "data-tip": `the page of ${name}` }, unitPicture(atlas, step.layer, step.unit)),
    facts([["here", told ? short(told.value) : null], ["most", positions ? `${short(unit.most)} at (${unit.at.join(", ")})` : null], ["position", positions ? placeWords(step.at, layer) : null]]));
}

/** The position in numbers, for those who do not point. */
function rowAndColumn(layer, at, choose) {
  const field = (words, axis, count) => {
    const input = h("input", { type: "number", min: 0, max: count - 1, value: at ? at[axis] : "", placeholder: "–", "data-key": words, on: { change: () => {
      const value = Math.round(Number(input.value));
      if (input.value === "" || !(value >= 0 && value < count)) return;
      const next = at ? [...at] : [0, 0];
      next[axis] = value;
      choose(next, false);
    } } });
    return h("label", null, `${words} `, input);
  };
  return h("div", { class: "place" }, field("y", 0, layer.rows), field("x", 1, layer.columns));
}
