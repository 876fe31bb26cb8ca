/** Where what is shown came from, and how to cite it. */

import { h } from "./dom.js";
import { facts } from "./parts.js";

const ARTICLE = "Voss et al., Visualizing Weights, Distill 2021, doi 10.23915/distill.00024.007";

const versions = (atlas) => (atlas.manifest.made_with ?? []).map((m) => `weightatlas ${m.weightatlas}, torch ${m.torch}, ${m.device}`).join("; ");

/** How non-linearities were read, in words. */
export function gatesWords({ manifest: { gates, images } }) {
  if (gates.rule !== "expected" && gates.rule !== "measured") return `non-linearities read as ${gates.rule}`;
  return `non-linearities read by their expected derivative, ${gates.measured ? `measured on ${images?.count ?? "the"} images` : "from batch norm's own parameters"}`;
}

export function provenance(atlas) {
  const { model, images, seed } = atlas.manifest;
  return h("details", { class: "provenance" }, h("summary", null, "provenance"), facts([
    ["network", model.name], ["weights", h("code", { "data-tip": model.weights_hash }, model.weights_hash.slice(0, 12))], ["made with", versions(atlas)],
    ["gates", gatesWords(atlas)], ["images", images ? `${images.count}, hash ${images.hash.slice(0, 12)}` : "none"], ["seed", String(seed)],
  ]));
}

export const citation = (atlas, address) =>
  `${atlas.manifest.model.name}, unit ${address}, in an atlas of its weights (SHA-256 ${atlas.manifest.model.weights_hash.slice(0, 16)}…) made with ${versions(atlas)}; ${location.href}. Method: ${ARTICLE}.`;
