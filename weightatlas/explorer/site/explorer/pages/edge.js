/** One connection: two units, the map between them with its numbers, and the paths through a layer in between. */

import { addressOf, parsedUnit } from "../addresses.js";
import { Missing, strongest } from "../atlas.js";
import { h } from "../dom.js";
import { downloads } from "../downloads.js";
import { short } from "../numbers.js";
import { choice, empty, legend, mapWords, note, readAs, to, unitPicture } from "../parts.js";
import { addPins, pinnedAddresses, setPins } from "../pins.js";
import { edgeFacts, mapNote, ranked, trust } from "./edge/facts.js";
import { numberedMap, ownBlock } from "./edge/map.js";
import { chooser, edgeQuery, othersSections } from "./edge/others.js";
import { pathsSection } from "./edge/paths.js";
import { edgeSheet } from "./edge/sheet.js";

export async function render(here) {
  const { atlas, params } = here;
  const target = parsedUnit(params.get("edge"));
  if (!target) throw new Missing("an edge needs the addresses of two units: ?edge=TARGET_LAYER:UNIT&from=SOURCE_LAYER:UNIT");
  atlas.unit(target);
  const source = params.has("from") ? parsedUnit(params.get("from")) : await strongestSource(atlas, target);
  if (!source) throw new Missing(`“${params.get("from")}” is no address of a unit; one is like ${addressOf(target.layer, 0)}`);
  checkSource(atlas, source);
  const pair = atlas.pair(source.layer, target.layer);
  const title = `${addressOf(source.layer, source.unit)} → ${addressOf(target.layer, target.unit)}`;
  const up = { u: () => here.go({ unit: addressOf(target.layer, target.unit) }), p: () => pinning(here, source, target).act() };
  if (!pair) return { title, keys: up, body: [head(here, source, target), ...(await withoutWeights(here, source, target))] };
  if (source.unit >= pair.source_units) throw new Missing(`${source.layer} has units 0 to ${pair.source_units - 1}; there is no ${addressOf(source.layer, source.unit)}`);

  const inputs = await atlas.inputs(pair, target.unit);
  const rank = ranked(inputs, source.unit);
  const step = steps(here, rank, target, source);
  const keys = { ...up, ...(step.next && { j: step.next.act }), ...(step.previous && { k: step.previous.act }) };
  const at = inputs.units.indexOf(source.unit);
  const body = at < 0 ? [blind(pair, target, source)] : await seen(here, pair, target, source, inputs, at, rank);
  return { title, keys, body: [head(here, source, target, [step.previous?.link, step.next?.link, chooser(here, pair, target, source)]), ...body, ...((await atlas.quietly(othersSections(here, pair, target, source, inputs))) ?? [])] };
}

/** Without `from`: the strongest source in the nearest layer. */
async function strongestSource(atlas, target) {
  const pair = atlas.into(target.layer)[0];
  if (!pair) throw new Missing(`nothing that ${target.layer} reads is in this atlas yet; an edge needs &from=SOURCE_LAYER:UNIT`);
  const found = strongest(await atlas.inputs(pair, target.unit), "l2", 1);
  return { layer: pair.source, unit: found.units[0] ?? atlas.seen(pair, target.unit)[0] };
}

function checkSource(atlas, source) {
  if (source.layer !== "input") return atlas.unit(source);
  const channels = atlas.manifest.input.shape[0];
  if (source.unit >= channels) throw new Missing(`the input has channels 0 to ${channels - 1}; there is no ${addressOf("input", source.unit)}`);
}

function head(here, source, target, tools = []) {
  const end = ({ layer, unit }) => (layer === "input" ? h("span", null, addressOf(layer, unit)) : to({ unit: addressOf(layer, unit) }, null, h("span", { class: "faint" }, `${layer}:`), String(unit)));
  return h("div", { class: "head edgehead" }, h("h1", null, end(source), h("span", { class: "faint" }, " → "), end(target)),
    h("div", { class: "tools" }, tools, pinning(here, source, target).button));
}

/** Pins both units, or takes them off the board. */
function pinning(here, source, target) {
  const own = [source, target].filter(({ layer }) => layer !== "input").map(({ layer, unit }) => addressOf(layer, unit));
  const pins = pinnedAddresses(here.params);
  const both = own.every((name) => pins.includes(name));
  const act = () => (both ? setPins(here, pins.filter((name) => !own.includes(name)), `${own.join(", ")} unpinned`) : addPins(here, own));
  const tip = both ? "take both from the circuit  (p)" : "put both on the circuit board  (p)";
  const button = h("button", { type: "button", "aria-pressed": String(both), "data-key": "pin", "data-tip": tip, on: { click: act } }, own.length > 1 ? "pin both" : "pin target");
  return { act, button };
}

/** The next stronger and next weaker source of the same target. */
function steps(here, { order, rank }, target, source) {
  const to_ = (at, key, words, tip) => {
    const unit = order[at];
    if (unit === undefined) return null;
    const parameters = edgeQuery(here, target, { ...source, unit });
    return { act: () => here.go(parameters), link: to(parameters, { class: "button", "data-key": key, "data-tip": `${addressOf(source.layer, unit)}: ${tip}` }, words) };
  };
  if (rank < 0) return { previous: null, next: to_(0, "next", "strongest source →", "the strongest that the target can see") };
  return { previous: to_(rank - 1, "previous", "← stronger", "the next stronger source (k)"), next: to_(rank + 1, "next", "weaker →", "the next weaker source (j)") };
}

async function seen(here, pair, target, source, inputs, at, rank) {
  const { atlas, params } = here;
  const map = { values: inputs.maps[at], rows: inputs.rows, columns: inputs.columns };
  const own = map.values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const scales = { map: own, target: rank.largest, pair: pair.largest };
  const chosen = Object.hasOwn(scales, params.get("scale") ?? "") ? params.get("scale") : "map";
  const scale = scales[chosen] || own || 1;
  const [a, b] = [source, target].map(({ layer, unit }) => addressOf(layer, unit));
  const alone = !pair.at && !single(atlas.layer(target.layer)) ? ownBlock([map.rows, map.columns], pair) : null;
  const { element, unit } = numberedMap(pair, map, scale, alone, mapWords(map.values, map.rows, map.columns, a, b));
  const about = pair.agreement === "not measured" ? null : await atlas.quietly(atlas.connections(pair, "agreement"));
  const words = { map: "scale of this map alone", target: `scale of all that ${b} reads here`, pair: "scale of all weights between these layers" }[chosen];
  return [
    h("section", { class: "edge" },
      end(atlas, source, "from", "acts on"), h("span", { class: "arrow one", "aria-hidden": "true" }, "→"),
      h("div", { class: "between" }, element, h("div", { class: "under" }, legend(scale, words), mapTools(here, pair, target, source, map, scale, chosen, alone)),
        note([unit ? `numbers in ${unit}` : null, alone ? "framed: the position under the target" : null, map.values.length > 1 ? "positions in steps of the source grid" : null].filter(Boolean).join(" · "))),
      h("span", { class: "arrow two", "aria-hidden": "true" }, "→"), end(atlas, target, "into", "reads"),
      h("div", { class: "numbers" }, edgeFacts(pair, map.values, map.columns, rank), mapNote(pair), h("h2", null, "How far to trust it"), trust(pair, about, target.unit, b))),
    await here.atlas.quietly(pathsSection(here, pair, target, source)),
  ];
}

const single = ({ grid }) => !grid || grid.every((size) => size === 1);

function end(atlas, { layer, unit }, side, words) {
  const name = addressOf(layer, unit);
  const picture = unitPicture(atlas, layer, unit);
  return h("div", { class: `end ${side}` }, layer === "input" ? picture : to({ unit: name }, { "data-tip": name }, picture), h("code", null, name), h("span", { class: "role" }, words));
}

function mapTools({ atlas }, pair, target, source, map, scale, chosen, own) {
  const ends = [source, target].map(({ layer, unit }) => ({ name: addressOf(layer, unit), url: atlas.picture(layer, unit)?.url ?? null }));
  const [{ name: a, url }, { name: b }] = ends;
  const norm = Math.hypot(...map.values) * Math.sqrt(pair.uniform[0] * pair.uniform[1]);
  const told = {
    name: `${a}_to_${b}`, title: `${a} → ${b}`, caption: [`L2 ${short(norm)}`, readAs(pair)].filter(Boolean).join(" · "), scale,
    tiles: [{ ...map, label: a, from: a, into: b, picture: url, origin: pair.origin, dilation: pair.dilation }],
  };
  return h("div", { class: "tools" },
    choice("scale", [["map", "this map"], ["target", "target", "the same colours for all that this target reads from this layer"], ["pair", "layers", "the same colours for all units of these two layers"]], chosen, "scale of colours"),
    downloads(() => ({ ...told, svg: () => edgeSheet(told, pair, map, own, ends) })));
}

function blind(pair, target, source) {
  const each = pair.shape[1];
  const first = Math.floor(target.unit / Math.max(Math.floor(pair.shape[0] / pair.groups), 1)) * each;
  return empty(`${addressOf(target.layer, target.unit)} cannot see ${addressOf(source.layer, source.unit)}: of ${pair.source} it reads `,
    each === 1 ? `only unit ${first}` : `units ${first} to ${first + each - 1}`, `, its own of ${pair.groups} groups.`);
}

/** Weights that the atlas does not have: computed where a server can, else said. */
async function withoutWeights(here, source, target) {
  const { atlas, live } = here;
  const [a, b] = [source, target].map(({ layer, unit }) => addressOf(layer, unit));
  const pictures = h("section", { class: "edge bare" }, end(atlas, source, "from", "acts on"), h("span", { class: "arrow one", "aria-hidden": "true" }, "→"), end(atlas, target, "into", "reads"));
  if (atlas.pair(target.layer, source.layer)) {
    return [pictures, empty(`Weights run forward: ${target.layer} acts on ${source.layer}. `, to({ edge: a, from: b }, null, `Show ${b} → ${a}`))];
  }
  const ask = { what: "weights", source: source.layer, target: target.layer };
  const about = live.about(ask);
  const words = `The weights from ${source.layer} to ${target.layer} are not in this atlas. `;
  if (about?.error) return [pictures, empty(words, h("span", { class: "error" }, `They could not be computed: ${about.error} `), live.can("weights") && asking(live, ask, "try again"))];
  if (about) return [pictures, empty(words, "They are being computed; the page will show them.")];
  return [pictures, live.can("weights") ? empty(words, asking(live, ask, "compute them")) : empty(words, live.why)];
}

const asking = (live, ask, words) => h("button", { type: "button", "data-key": "ask", on: { click: () => live.ask(ask) } }, words);
