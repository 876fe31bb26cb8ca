/** Help: what is shown and how far to trust it, keys, how to cite, where this atlas came from. */

import { ACTIVATION, DIVERGING, palette } from "../colours.js";
import { h } from "../dom.js";
import { KEYS } from "../keyboard.js";
import { count, short } from "../numbers.js";
import { facts, heading, legend, to } from "../parts.js";
import { gatesWords } from "../provenance.js";

const DOI = "10.23915/distill.00024.007";

export async function render(here) {
  const { atlas, live } = here;
  return {
    title: "help",
    depends: () => atlas.manifest.made_with,
    body: [
      h("h1", null, "Help"),
      h("div", { class: "help" },
        h("section", { class: "meaning" }, heading("What is shown"), meaning()),
        h("section", null, heading("Keys"), keys()),
        h("section", null, heading("Where this atlas came from"), origin(atlas)),
        h("section", null, heading("What this page can compute"), able(live)),
        h("section", null, heading("How to cite"), citing(atlas))),
    ],
  };
}

const term = (word, ...words) => h("div", null, h("dt", null, word), h("dd", null, words));

const inColour = (at, word) => h("b", null, h("span", { class: "swatch", style: { background: DIVERGING[palette()].at(at) }, "aria-hidden": "true" }), ` ${word}`);

const inActivation = (word) => h("b", null, h("span", { class: "swatch", style: { background: ACTIVATION.at(-2) }, "aria-hidden": "true" }), ` ${word}`);

function meaning() {
  return [
    h("p", { class: "motto" }, "A weight means nothing until both of its ends mean something."),
    h("dl", { class: "terms" },
      term("picture", "An image made from noise to excite a unit: a name for what it detects, and no proof of it. A unit may answer to other things as well; its varieties and examples tell."),
      term("map", "The weights from one unit to another by relative position. ", inColour(-1, "Excite"), " and ", inColour(0, "inhibit"), " are the two colours, white is zero; the legend has the scale.", legend(1, "a legend: the scale is always told")),
      term("expanded weights", "The linear map between two layers through all that lies between. What is not linear is read by its expected derivative, as is told beside each row."),
      term("agreement", "The cosine between these weights and the network's mean gradient on images. 1 is the same direction, 0 is none in common; “not measured” means that nothing is known."),
      term("share", "The part of all squared weights of a row that is shown. What is left out may still matter."),
      term("on an image", "What units do on an image of yours. ", inActivation("Activations"), " have colours of their own, purple above zero and green below. A unit's value is a sum: of what each unit of an earlier layer contributed, of what does not depend on these, and of what the method misses; all three are told. ", to({ lens: "image" }, null, "Drop an image"), "."),
      term("cancellation", "Paths through a layer between can excite and inhibit at once, and their sum hides both. ", to({ search: "most cancelled edges" }, null, "The most cancelled edges"), ".")),
  ];
}

const keys = () => h("dl", { class: "keylist" }, KEYS.map(([names, words]) =>
  h("div", null, h("dt", null, names.split(/\s+/).map((name) => (name === "or" ? " or " : [h("kbd", null, name), " "]))), h("dd", null, words))));

function origin(atlas) {
  const { model, input, images, made_with: made, seed } = atlas.manifest;
  return facts([
    ["network", model.name],
    ["parameters", count(model.parameters)],
    ["input", `${input.shape.join(" × ")}, values ${input.value_range.map((v) => short(v)).join(" to ")}`],
    ["weights, SHA-256", h("code", null, model.weights_hash)],
    ["non-linearities", gatesWords(atlas).replace(/^non-linearities /, "")],
    ["images", images ? [`${count(images.count)}, hash `, h("code", null, images.hash.slice(0, 16))] : "none: nothing was measured on images"],
    ["seed", String(seed)],
    ...(made ?? []).map((one, i) => [i ? "" : "made with", `weightatlas ${one.weightatlas}, torch ${one.torch}, ${one.device}`]),
  ]);
}

function able(live) {
  const names = [["pictures", "pictures of units"], ["weights", "weights between layers"], ["families", "families that you name, kept in the atlas"]];
  const now = names.filter(([what]) => live.can(what)).map(([, words]) => words);
  return [
    h("p", null, now.length ? `On request: ${now.join("; ")}. ` : "It shows what is in the atlas, and computes nothing. ", now.length === names.length ? "" : live.why),
    h("p", { class: "note" }, "The state of each view is in its address: pins, families that you name, colours. Nothing is sent anywhere, and nothing is loaded from elsewhere."),
  ];
}

const citing = (atlas) => [
  h("p", null, "The method: Voss, Cammarata, Goh, Petrov, Schubert, Egan, Lim, Olah, “Visualizing Weights”, Distill, 2021, doi ", h("code", null, DOI), "."),
  h("p", null, `This atlas: ${atlas.manifest.model.name}, weights `, h("code", null, atlas.manifest.model.weights_hash.slice(0, 16)), `, weightatlas ${atlas.manifest.made_with?.[0]?.weightatlas ?? ""}. Each unit's page has a citation with its address.`),
];
