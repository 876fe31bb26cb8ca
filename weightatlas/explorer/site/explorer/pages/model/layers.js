/** All layers, top to bottom in order of execution, with lanes for their branches and what there is of each. */

import { addressOf, counted, link, unfolded } from "../../addresses.js";
import { bandPicture } from "../../bands.js";
import { h } from "../../dom.js";
import { laid, lanePicture } from "../../lanes.js";
import { count, counting, percent, short } from "../../numbers.js";
import { empty, heading, note, spriteStyle, unitPicture } from "../../parts.js";

const MARGIN = "600px 0px"; // strips are drawn this far before they are seen
const UNSPRITED = 12; // pictures of a strip that has no sprite sheet yet: each is a file of its own

export function layerTable(here) {
  const { atlas } = here;
  const { edges = [], input } = atlas.manifest;
  if (!atlas.layers.length) return h("section", null, heading("Layers", null), empty("No layers yet: the build has only begun."));
  const fed = edges.some(([source]) => source === "input");
  const names = [...(fed ? ["input"] : []), ...atlas.layers.map((row) => row.name)];
  const { rows, width } = laid(names, edges);
  const lane = (i) => h("div", { role: "cell", class: "lane" }, lanePicture(rows[i], width));
  const first = fed ? 1 : 0;
  return h("section", { class: "layers" },
    heading("Layers", null),
    note("In order of execution, each line a layer's output on its way to those that read it. ", h("span", { class: "bandlegend" }, "Banding: ", h("i", { class: "bandkey point" }), " the share of the kernels' variance that lies between rows, ",
      h("i", { class: "bandkey interval" }), " what chance gives.")),
    h("div", { class: "graph", role: "table", "aria-label": "layers in order of execution", style: { "--lanes": Math.min(width, 48), "--pitch": pitch(width) } },
      h("div", { role: "row", class: "titles" }, ["", "layer", "units", "banding", "pictures", "weights in", "agreement"].map((words, i) =>
        h("div", { role: "columnheader", class: `c${i}` }, words || h("span", { class: "unseen" }, "branches")))),
      fed && h("div", { role: "row", class: "layer input" }, lane(0), h("div", { role: "cell", class: "what" }, h("code", null, "input"), h("p", { class: "sub" }, input?.shape?.join(" × ") ?? ""))),
      atlas.layers.map((row, i) => layerRow(here, row, lane(first + i), readWords(names, rows, edges, row.name, first + i)))));
}

/** Lanes stand closer the more there are. */
const pitch = (lanes) => `${Math.max(0.22, Math.min(1.05, 9 / lanes))}rem`;

/** What a layer reads, said where it is not just the layer above. */
function readWords(names, rows, edges, name, at) {
  const sources = edges.filter(([, target]) => target === name).map(([source]) => source);
  return sources.length === 1 && names[at - 1] === sources[0] ? [] : sources;
}

function layerRow(here, row, lane, sources) {
  const { atlas } = here;
  const cell = (name, label, ...inside) => h("div", { role: "cell", class: name }, h("span", { class: "lab", "aria-hidden": "true" }, label), inside);
  const about = [counting(row.units, "unit"), row.grid ? row.grid.join(" × ") : null, fieldWords(row)].filter(Boolean).join(" · ");
  return h("div", { role: "row", class: "layer", data: { layer: row.name } },
    lane,
    h("div", { role: "cell", class: "what" },
      h("a", { href: link({ layer: row.name }), "data-key": `layer=${row.name}` }, h("code", null, row.name)),
      h("p", { class: "sub", "data-tip": `${row.kind ?? ""} ${row.type ?? ""}`.trim() || null }, about),
      sources.length ? h("p", { class: "sub reads", "data-tip": `reads\n${sources.slice(0, 30).join("\n")}` }, `reads ${sources.slice(0, 6).join(" + ")}${sources.length > 6 ? ` + ${sources.length - 6} more` : ""}`) : null),
    h("div", { role: "cell", class: "thumbs", "aria-label": `pictures of ${counting(shownOf(row).length, "unit")}` }),
    cell("banding", "banding", bandPicture(row.banding), h("span", { class: "num", "aria-hidden": row.banding?.row_share == null ? "true" : null }, percent(row.banding?.row_share)),
      row.banding?.banded ? h("span", { class: "flag" }, "banded") : null),
    cell("n pictures", "pictures", pictureWords(row)),
    cell("n weights", "weights", weightWords(atlas, row.name)),
    cell("n agreement", "agreement", agreementOf(atlas, row.name)));
}

function fieldWords({ receptive_field: field, receptive_note: why }) {
  if (!field) return why ? "field: see the layer" : null;
  const [high, wide] = field.size;
  return `sees ${high === wide ? short(high, 4) : `${short(high, 4)} × ${short(wide, 4)}`} px`;
}

/** Of the recipe of which most is made: how many of how many. */
function pictureWords(row) {
  const all = Object.entries(row.pictures ?? {}).filter(([recipe]) => !recipe.includes(".") && recipe !== "examples");
  if (!all.length) return h("span", { "data-tip": "no pictures were asked for" }, "—");
  const numbers = all.map(([recipe, { made, wanted }]) => [recipe, counted(made), counted(wanted)]);
  const [, made, of] = numbers.reduce((best, one) => (one[1] > best[1] ? one : best));
  return h("span", { "data-tip": numbers.map(([recipe, a, b]) => `${recipe}: ${count(a)} of ${count(b)}`).join("\n") }, made === of ? count(of) : `${count(made)} of ${count(of)}`);
}

function weightWords(atlas, name) {
  const pairs = atlas.manifest.pairs.filter((pair) => pair.target === name);
  if (!pairs.length) return "—";
  const made = pairs.filter((pair) => pair.made).length;
  const tip = pairs.map((pair) => `from ${pair.source}${pair.made ? `: ${pair.shape.slice(2).join(" × ")}` : ": not yet"}`).join("\n");
  return h("span", { "data-tip": tip }, made === pairs.length ? count(made) : `${count(made)} of ${count(pairs.length)}`);
}

function agreementOf(atlas, name) {
  const [pair] = atlas.into(name);
  const known = pair && typeof pair.agreement === "object" ? pair.agreement : null;
  if (!known) return h("span", { "data-tip": "agreement with the network's gradient: not measured" }, "—");
  return h("span", { "data-tip": `mean cosine of the weights from ${pair.source} with the network's mean gradient on ${known.images?.count ?? "some"} images` }, known.mean_cosine.toFixed(2).replace("-", "−"));
}

/** Units with a picture, or all where there are none. */
function shownOf(row) {
  const made = ["quick", "display", "max"].map((recipe) => row.pictures?.[recipe]?.made).find((runs) => runs?.length);
  return made ? unfolded(made) : [];
}

/** Draws each strip with as many pictures as fit, once it is about to be seen. */
export function fillStrips(here, main) {
  const { atlas } = here;
  const strips = [...main.querySelectorAll(".graph .thumbs")];
  if (!strips.length) return;
  const fit = (strip) => {
    const name = strip.parentElement.dataset.layer;
    const size = parseFloat(getComputedStyle(strip).height) || 40;
    const room = Math.max(1, Math.floor((strip.clientWidth + 3) / (size + 3)));
    if (strip.room === room) return;
    strip.room = room;
    strip.replaceChildren(...thumbs(atlas, atlas.layer(name), room));
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) fit(target);
  }, { rootMargin: MARGIN });
  const sized = new ResizeObserver((entries) => {
    if (!main.contains(strips[0])) return stop();
    for (const { target } of entries) if (target.room) fit(target);
  });
  const stop = () => {
    seen.disconnect();
    sized.disconnect();
  };
  for (const strip of strips) {
    seen.observe(strip);
    sized.observe(strip);
  }
}

function thumbs(atlas, row, room) {
  const units = shownOf(row);
  const sprites = atlas.sprites(row.name);
  const shown = Math.min(sprites ? room : Math.min(room, UNSPRITED), units.length);
  return Array.from({ length: shown }, (_, i) => {
    const unit = units[Math.floor((i * units.length) / shown)]; // evenly from all of the layer
    const name = addressOf(row.name, unit);
    const place = sprites?.of(unit);
    const picture = place ? h("span", { class: "pic", style: spriteStyle(place) }) : unitPicture(atlas, row.name, unit);
    return h("a", { href: link({ unit: name }), tabindex: "-1", "aria-label": name, "data-tip": name }, picture);
  });
}
