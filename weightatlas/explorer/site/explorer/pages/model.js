/** The model: what it is, where to begin, its layers in reading order, its families, and what of all this is there. */

import { h } from "../dom.js";
import { familyGroups } from "../familystrips.js";
import { count, counting, percent } from "../numbers.js";
import { empty, heading, note, shareBar } from "../parts.js";
import { layerTable, fillStrips } from "./model/layers.js";
import { startHere } from "./model/start.js";

export async function render(here) {
  const { atlas } = here;
  return {
    title: atlas.manifest.model.name,
    body: [title(here), startHere(here), layerTable(here), families(here), coverage(here), remarks(atlas.manifest, atlas.site.trouble)],
    keys: { j: () => here.go({ layer: atlas.layers[0]?.name }) },
    shown: (main) => fillStrips(here, main),
  };
}

function title({ atlas }) {
  const { model, input, made_with: made, images } = atlas.manifest;
  const [last] = (made ?? []).slice(-1);
  const hash = model.weights_hash ?? "";
  const pairs = [
    ["input", input ? `${input.shape.join(" × ")}${input.channel_names?.length ? `, ${input.channel_names.join(" ")}` : ""}` : null, input?.mean ? `values ${input.value_range?.join(" to ")}, mean ${input.mean.join(" ")}, deviation ${input.std?.join(" ")}` : null],
    ["parameters", model.parameters ? count(model.parameters) : null],
    ["layers here", count(atlas.layers.length)],
    ["units here", count(atlas.layers.reduce((sum, row) => sum + row.units, 0))],
    ["weights", hash && h("code", null, hash.slice(0, 12)), hash && `SHA-256 of the network's weights: ${hash}`],
    ["images", images?.count ? count(images.count) : "none", images?.hash ? `measured on images with the hash ${images.hash}` : "nothing was measured on images"],
    ["non-linear operators", gateWords(atlas.manifest)],
    ["made with", last ? `weightatlas ${last.weightatlas}, torch ${last.torch}, ${last.device}` : null],
  ];
  return [
    h("h1", null, model.name, " ", model.type && model.type !== model.name ? h("span", { class: "faint" }, model.type) : null),
    h("dl", { class: "modelline" }, pairs.filter(([, value]) => value).map(([name, value, why]) =>
      h("div", why ? { "data-tip": why, tabindex: "0" } : null, h("dt", null, name), h("dd", null, value)))),
  ];
}

/** What non-linear operators are taken for. */
function gateWords({ gates, images }) {
  if (!gates) return null;
  if (gates.rule !== "expected") return typeof gates.rule === "string" ? gates.rule : JSON.stringify(gates.rule);
  return `their expected derivative, ${gates.measured ? `measured on ${images?.count ?? "some"} images` : "from batch norm"}`;
}

function families(here) {
  const all = here.atlas.families;
  return h("section", { class: "all-families" },
    heading("Families", null),
    all.length ? note("Units of one layer that belong together. Each opens as a grid over what its layer reads.") : null,
    all.length ? familyGroups(here, all) : empty("No families yet. On a layer's page, select units and name them."));
}

function coverage(here) {
  const { coverage: done } = here.atlas.manifest;
  const rows = [
    ["weights of pairs of layers", done.weights], ["paths through a middle layer", done.paths], ["layers described", done.units],
    ["agreement with the network", done.agreement], ["weight banding", done.banding],
    ...Object.entries(done.pictures ?? {}).map(([recipe, numbers]) => [`pictures: ${recipe}`, numbers]),
  ];
  const missing = rows.some(([, numbers]) => numbers && numbers[0] < numbers[1]);
  return h("section", { class: "coverage" },
    heading("What is there", null),
    h("dl", { class: "coveragebars" }, rows.filter(([, numbers]) => numbers).map(([words, [made, of]]) => h("div", null,
      h("dt", null, words),
      h("dd", null, of ? [shareBar(made / of, `${percent(made / of)} of ${words}`), h("span", { class: "of" }, made === of ? count(of) : `${count(made)} of ${count(of)}`)] : h("span", { class: "of" }, "not measured"))))),
    missing && !here.live.site.live && here.live.why ? note(here.live.why) : null);
}

/** What failed, what the budget left out, and what else the build had to say. */
function remarks({ failures = [], left_out: left = [], notes = [], model }, trouble) {
  const all = [...(trouble ? [trouble] : []), ...(model.notes ?? []), ...notes];
  if (!failures.length && !left.length && !all.length) return null;
  const megabytes = (bytes) => `${count(Math.round(bytes / 2 ** 20))} MiB`;
  const units = (list) => (list?.length ? `, ${counting(list.length, "unit")}` : "");
  return h("section", { class: "remarks" },
    heading("Remarks", null),
    failures.length ? h("details", { open: failures.length < 4 }, h("summary", null, `${count(failures.length)} failed`),
      h("ul", null, failures.map((f) => h("li", null, h("code", null, f.job), `${units(f.units)}: ${f.error}${f.attempts > 1 ? ` (tried ${f.attempts} times)` : ""}`)))) : null,
    left.length ? h("details", null, h("summary", null, `${counting(left.length, "pair")} of layers without room in the budget`),
      h("ul", null, left.map((p) => h("li", null, h("code", null, `${p.source} → ${p.target}`), ` ${megabytes(p.bytes)}`)))) : null,
    all.length ? h("details", { open: all.length < 4 }, h("summary", null, "notes of the build"), h("ul", null, all.map((text) => h("li", null, String(text))))) : null);
}

