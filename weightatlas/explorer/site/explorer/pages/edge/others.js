/** Other connections between the same two layers: what else the target reads, and what else the source acts on. */

import { addressOf, numbers, written } from "../../addresses.js";
import { largest, strongest } from "../../atlas.js";
import { h } from "../../dom.js";
import { count, percent, short } from "../../numbers.js";
import { heading, legend, tile, to } from "../../parts.js";

const SHOWN = 10;

/** Rows of tiles; the connection of this page is marked in both. */
export async function othersSections({ atlas }, pair, target, source, inputs) {
  const read = strongest(inputs, "l2", SHOWN);
  const acted = strongest(await atlas.outputs(pair, source.unit), "l2", SHOWN);
  const [a, b] = [addressOf(source.layer, source.unit), addressOf(target.layer, target.unit)];
  const listed = (units) => written([...units].sort((x, y) => x - y));
  return [
    row(atlas, pair, read, (unit) => ({ from: { ...source, unit }, into: target }), source.unit, "from",
      heading("Other sources", `${pair.source} → ${b}`, to({ grid: b, by: `${source.layer}:${listed(read.units)}` }, { class: "button" }, "as a grid")),
      `${read.units.length === 1 ? "the strongest" : `${count(read.units.length)} strongest`} of ${count(read.of)} hold${read.units.length === 1 ? "s" : ""} ${percent(read.share)} of the squared norm that ${b} reads here`),
    row(atlas, pair, acted, (unit) => ({ from: source, into: { ...target, unit } }), target.unit, "into",
      heading("Other targets", `${a} → ${pair.target}`, to({ grid: `${target.layer}:${listed(acted.units)}`, by: a }, { class: "button" }, "as a grid")),
      `the ${acted.units.length === 1 ? "only unit" : `${count(acted.units.length)} units`} that ${a} acts on${acted.units.length === 1 ? "" : " most"}`),
  ].filter(Boolean);
}

function row(atlas, pair, found, ends, current, side, head, words) {
  if (!found.units.length) return null;
  const scale = largest(found.maps);
  const tiles = found.units.map((unit, i) => {
    const { from, into } = ends(unit);
    const map = { values: found.maps[i], rows: found.rows, columns: found.columns, scale, origin: pair.origin, dilation: pair.dilation };
    const made = tile(atlas, side === "from" ? from : into, map, { from, into }, `L2 ${short(found.strengths[i] * Math.sqrt(pair.uniform[0] * pair.uniform[1]))}`);
    if (unit === current) made.classList.add("now");
    return made;
  });
  return h("section", null, head, h("p", { class: "note" }, words), h("div", { class: "tiles" }, tiles), legend(scale, "one scale for the row"));
}

/** Fields that take the numbers of another pair of units of the same layers. */
export function chooser(here, pair, target, source) {
  const field = (label, unit, most, key) => h("label", null, h("span", null, label),
    h("input", { type: "number", min: 0, max: most - 1, value: unit, name: key, "data-key": `unit ${key}`, required: true }));
  const heard = (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const [from, into] = ["from", "into"].map((key) => numbers(form.elements[key].value)?.[0]);
    if (form.reportValidity()) here.go(edgeQuery(here, { ...target, unit: into }, { ...source, unit: from }));
  };
  return h("form", { class: "chooser", "aria-label": "another pair of units of these layers", on: { submit: heard } },
    field("from", source.unit, pair.source_units, "from"), field("to", target.unit, pair.shape[0], "into"), h("button", null, "show"));
}

/** The same view of another pair of units. */
export const edgeQuery = ({ params }, target, source) => ({
  edge: addressOf(target.layer, target.unit), from: addressOf(source.layer, source.unit), via: params.get("via"), scale: params.get("scale"),
});
