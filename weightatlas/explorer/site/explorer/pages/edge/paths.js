/** The paths from one unit to another through a layer between them, and what their sum hides: Figures 11 and 12. */

import { addressOf } from "../../addresses.js";
import { largest } from "../../atlas.js";
import { colour, palette } from "../../colours.js";
import { h, s } from "../../dom.js";
import { count, counting, percent, signed } from "../../numbers.js";
import { choice, empty, heading, legend, mapPicture, mapWords, note, to, unitPicture } from "../../parts.js";

/** Everything that is stored of the paths from a source to a target unit through a middle layer. */
async function read(atlas, pair, [middle, path], unit, source) {
  const about = (await atlas.json(`${path}/zarr.json`)).attributes.weightatlas;
  if (about.none) return { middle, none: about.none };
  const each = about.quantities.length;
  const values = await atlas.chunk(`${path}/paths/c.${unit}.0.0`);
  const row = values.length / each === pair.source_units ? source : atlas.seen(pair, unit).indexOf(source);
  const named = Object.fromEntries(about.quantities.map((name, i) => [name, values[row * each + i]]));
  const bypass = (await atlas.chunk(`${path}/bypass_share/c.0`))[unit];
  const middles = [];
  for (let k = 1; `middle unit ${k}` in named; k++) {
    if (named[`middle unit ${k}`] >= 0) middles.push({ unit: named[`middle unit ${k}`], adds: named[`adds ${k}`] });
  }
  const [sum, net, all] = ["sum", "magnitude of the sum", "sum of magnitudes"].map((name) => named[name]);
  const rest = sum - middles.reduce((total, m) => total + m.adds, 0);
  return {
    middle, middles, sum, rest, bypass, of: about.middle_units, replaced: about.replaced ?? [],
    lost: all > 0 ? Math.min(1, Math.max(0, 1 - net / all)) : 0, best: (all + sum) / 2, worst: (sum - all) / 2, any: all > 0,
  };
}

/** The maps on both sides of the middle units, where the atlas has these weights: {before: [map…], after: [map…]}. */
async function sides(atlas, found, target, source) {
  const [before, after] = [atlas.pair(source.layer, found.middle), atlas.pair(found.middle, target.layer)];
  const through = found.middles.map(({ unit }) => unit);
  return {
    before: before && (await Promise.all(through.map((unit) => atlas.map(before, unit, source.unit)))),
    after: after && (await Promise.all(through.map((unit) => atlas.map(after, target.unit, unit)))),
    pairs: { before, after },
  };
}

export async function pathsSection(here, pair, target, source) {
  const { atlas, params } = here;
  if (!pair.paths.length) {
    return section("Paths", null, [empty(pair.span > 2
      ? `Paths are told between neighbouring layers and those two back; ${pair.target} lies ${pair.span} layers behind ${pair.source}.`
      : `No layer between ${pair.source} and ${pair.target} has had its paths computed: either nothing lies between them, or the atlas has not come to it yet.`)]);
  }
  const asked = params.get("via");
  const chosen = pair.paths.find(([middle]) => middle === asked) ?? (asked ? null : pair.paths[0]);
  const switches = pair.paths.length > 1 || !chosen
    ? choice("via", pair.paths.map(([middle]) => [middle, middle]), chosen?.[0], "middle layer") : null;
  if (!chosen) return section("Paths", null, [empty(`There are no paths through ${asked} here.`)], switches);
  const found = await read(atlas, pair, chosen, target.unit, source.unit);
  if (found.none) return section("Paths", `through ${chosen[0]}`, [empty(`Paths through ${chosen[0]} cannot be told: ${found.none}`)], switches);
  if (!found.any) return section("Paths", `through ${chosen[0]}`, [empty(`No path leads from ${name(source)} to ${name(target)} through ${chosen[0]}.`)], switches);
  const maps = await sides(atlas, found, target, source);
  return section("Paths", `through ${found.middle}`, [
    note(leads(found), found.replaced.length ? ` · ${found.replaced.join(" · ")}` : ""),
    flow(atlas, found, maps, target, source), legends(maps),
    h("h3", null, "What the sum hides"), cases(found, target, pair),
  ], switches);
}

const name = ({ layer, unit }) => addressOf(layer, unit);
const section = (title, beside, body, tools = null) => h("section", { class: "paths" }, heading(title, beside, tools), body);

const leads = ({ middles, of }) => middles.length < of
  ? `${counting(middles.length, "middle unit")} of ${count(of)} through which most runs, whichever its sign; bars are what each adds, over all positions.`
  : `All ${counting(of, "middle unit")}; bars are what each adds, over all positions.`;

/** Source, middle units with their maps, target; and what each adds, on one scale. */
function flow(atlas, found, maps, target, source) {
  const rows = [...found.middles, { rest: true, adds: found.rest }].filter((row) => !row.rest || found.middles.length < found.of);
  const scale = Math.max(...rows.map((row) => Math.abs(row.adds)), Math.abs(found.sum));
  const end = (unit, side) => h("div", { class: `end ${side}` }, linked(atlas, unit), h("code", null, name(unit)));
  return h("div", { class: "flow", style: { "--rows": rows.length } },
    end(source, "from"), strands(rows, scale, "in"),
    h("ol", { class: "middles" }, rows.map((row, i) => (row.rest ? restRow(found, row, scale) : middleRow(atlas, found, maps, row, i, scale, target, source)))),
    strands(rows, scale, "out"), end(target, "into"),
    h("p", { class: "total" }, h("span", null, "all paths"), bar(found.sum, scale, `all paths add ${signed(found.sum)}`), h("b", null, signed(found.sum))));
}

const linked = (atlas, unit) => {
  const picture = unitPicture(atlas, unit.layer, unit.unit, { small: true });
  return atlas.rows.has(unit.layer) ? to({ unit: name(unit) }, { "data-tip": name(unit) }, picture) : picture;
};

function middleRow(atlas, found, maps, { unit, adds }, i, scale, target, source) {
  const middle = { layer: found.middle, unit };
  const known = atlas.rows.has(found.middle);
  return h("li", { class: "middle" },
    h("div", { class: "chain" },
      oneMap(maps.pairs.before, maps.before, i, source, middle),
      known ? linked(atlas, middle) : null,
      oneMap(maps.pairs.after, maps.after, i, middle, target),
      h("code", null, known ? String(unit) : name(middle))),
    bar(adds, scale, `${name(middle)} adds ${signed(adds)}`), h("span", { class: "adds" }, signed(adds)));
}

function oneMap(pair, maps, i, from, into) {
  if (!maps) return null;
  const map = maps[i];
  if (!map) return h("span", { class: "blind", "data-tip": `${name(into)} cannot see ${name(from)}` });
  const words = mapWords(map.map, map.rows, map.columns, name(from), name(into));
  return to({ edge: name(into), from: name(from) }, { "data-tip": `${name(from)} → ${name(into)}` },
    mapPicture({ values: map.map, rows: map.rows, columns: map.columns, scale: scaleOf(maps), label: words, origin: pair.origin, dilation: pair.dilation }));
}

const scaleOf = (maps) => largest(maps.filter(Boolean).map(({ map }) => map));

const restRow = (found, { adds }, scale) => {
  const words = `the other ${counting(found.of - found.middles.length, "unit")}`;
  return h("li", { class: "middle rest" }, h("div", { class: "chain" }, h("span", null, words)), bar(adds, scale, `${words} add ${signed(adds)}`), h("span", { class: "adds" }, signed(adds)));
};

/** A signed bar around zero. */
function bar(value, scale, words) {
  const part = scale > 0 ? (50 * Math.abs(value)) / scale : 0;
  return h("span", { class: "signed", role: "img", "aria-label": words, "data-tip": words },
    h("span", { class: "length", style: { left: `${value < 0 ? 50 - part : 50}%`, width: `${part}%`, background: colour(value < 0 ? -0.85 : 0.85, 1, palette()) } }));
}

/** Lines from the source to every row, or from every row to the target; as wide as what the row adds. */
function strands(rows, scale, side) {
  const lines = rows.map(({ adds }, i) => {
    const y = ((i + 0.5) / rows.length) * 100;
    const [a, b] = side === "in" ? [50, y] : [y, 50];
    return s("path", {
      d: `M0 ${a} C5 ${a} 5 ${b} 10 ${b}`, fill: "none", stroke: colour(adds < 0 ? -0.7 : 0.7, 1, palette()),
      "stroke-width": 1 + (scale > 0 ? (4 * Math.abs(adds)) / scale : 0), "vector-effect": "non-scaling-stroke",
    });
  });
  return s("svg", { class: `strands ${side}`, viewBox: "0 0 10 100", preserveAspectRatio: "none", "aria-hidden": "true" }, lines);
}

function legends({ before, after, pairs }) {
  const each = [before && [scaleOf(before), `maps ${pairs.before.source} → ${pairs.before.target}`], after && [scaleOf(after), `maps ${pairs.after.source} → ${pairs.after.target}`]];
  const shown = each.filter(Boolean);
  return shown.length ? h("div", { class: "legends" }, shown.map(([scale, words]) => legend(scale, words)))
    : note("Weights to and from the middle layer are not in this atlas of their own; what each unit adds is.");
}

/** All paths, the best and the worst case on one scale, each explained in a line. */
function cases(found, target, pair) {
  const scale = Math.max(Math.abs(found.best), Math.abs(found.worst), Math.abs(found.sum));
  const line = (words, value, why) => h("li", null, h("b", null, words), bar(value, scale, `${words}: ${signed(value)}`), h("span", { class: "adds" }, signed(value)), h("span", { class: "why" }, why));
  return h("div", { class: "cases" },
    h("p", { class: "lost" }, h("b", { class: "figure" }, percent(found.lost)), h("span", null, " of the influence cancels when paths are added up",
      found.lost > 0.8 ? ": the expanded weight shows little of what this source can do." : found.lost < 0.2 ? ": the expanded weight tells nearly all." : ".")),
    h("ul", null,
      line("best case", found.best, "if only the paths that excite were open"),
      line("all paths", found.sum, "if all are open alike: what expanded weights add up to"),
      line("worst case", found.worst, "if only the paths that inhibit were open")),
    note(found.bypass > 0
      ? `${percent(found.bypass)} of what ${name(target)} reads from ${pair.source} runs around ${found.middle} and is not among these paths.`
      : `Nothing of what ${name(target)} reads from ${pair.source} runs around ${found.middle}.`));
}
