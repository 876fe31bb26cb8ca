/** The facts of a layer, and its pairs with other layers. */

import { link } from "../../addresses.js";
import { bandPicture, bandWords } from "../../bands.js";
import { h } from "../../dom.js";
import { count, counting, percent, short } from "../../numbers.js";
import { facts, note, readAs } from "../../parts.js";

const square = (list, digits = 4) => (list ? [...new Set(list)].length === 1 && list.length > 1 ? `${short(list[0], digits)} × ${short(list[0], digits)}` : list.map((v) => short(v, digits)).join(" × ") : null);

/** What the layer is. */
export function aboutLayer(row) {
  return h("div", { class: "layerabout" },
    facts([
      ["kind", [row.kind, row.type && row.type !== row.kind ? ` ${row.type}` : ""].filter(Boolean).join(",")],
      ["units", count(row.units)],
      ["grid", row.grid ? square(row.grid) : "none"],
      ["kernel", square(row.kernel)], ["stride", square(row.stride)], ["groups", row.groups > 1 ? count(row.groups) : null],
      ["receptive field", row.receptive_field ? `${square(row.receptive_field.size)} px` : row.receptive_note || "—", row.receptive_field ? `a step on its grid is ${square(row.receptive_field.stride)} px of the input` : null],
      ["parameters", row.parameters != null ? count(row.parameters) : null],
    ]));
}

/** Its banding, what it reads and what reads it. */
export function neighbours(here, row) {
  const { pairs } = here.atlas.manifest;
  return h("div", { class: "layermore" },
    bandFacts(row.banding),
    pairTable(here, "Reads", pairs.filter((pair) => pair.target === row.name), "source"),
    pairTable(here, "Is read by", pairs.filter((pair) => pair.source === row.name), "target"));
}

function bandFacts(band) {
  if (!band) return null;
  return h("div", { class: "bandfacts" },
    h("h2", null, "Banding"),
    h("p", { class: "bandline" }, bandPicture(band), h("span", { class: "num" }, percent(band.row_share)), band.banded ? h("span", { class: "flag" }, "banded") : null),
    note(`${bandWords(band)}.`));
}

const near = (pairs) => [...pairs].sort((a, b) => (a.span || 9) - (b.span || 9));

function pairTable(here, words, pairs, end) {
  if (!pairs.length) return h("div", { class: "pairs" }, h("h2", null, words), note(end === "source" ? "no weights into this layer were asked for" : "no weights out of this layer were asked for"));
  return h("div", { class: "pairs" }, h("h2", null, words), h("ul", null, near(pairs).map((pair) => pairRow(here, pair, end))));
}

function pairRow(here, pair, end) {
  const { atlas } = here;
  const other = pair[end];
  const name = atlas.rows.has(other) ? h("a", { href: link({ layer: other }), "data-key": `pair=${other}` }, h("code", null, other)) : h("code", null, other);
  const span = pair.span > 1 ? `${pair.span} layers` : pair.span === 1 ? "next to it" : "";
  if (!pair.made) return h("li", null, name, h("span", { class: "words" }, "not made yet ", ask(here, pair)));
  const [, , rows, columns] = pair.shape;
  const same = pair.uniform?.some((n) => n > 1) ? "same everywhere" : `${rows} × ${columns}`;
  const known = typeof pair.agreement === "object" && pair.agreement;
  return h("li", { "data-tip": [readAs(pair), pair.groups > 1 ? counting(pair.groups, "group") : ""].filter(Boolean).join("\n") || null }, name,
    h("span", { class: "words" }, [span, same].filter(Boolean).join(" · ")),
    h("span", { class: "words" }, known ? `agreement ${known.mean_cosine.toFixed(2)}` : "agreement not measured"));
}

/** Offers to compute weights that are not there. */
function ask({ live }, { source, target }) {
  if (!live.can("weights")) return null;
  const wanted = { what: "weights", source, target };
  const state = live.about(wanted);
  if (state?.error) return h("span", { class: "error" }, state.error);
  if (state) return "· asked for";
  return h("button", { type: "button", "data-key": `ask=${source}→${target}`, on: { click: () => live.ask(wanted) } }, "compute");
}
