/** Family by family: every map between two groups of units on one scale, as in Figure 5. */

import { addressOf } from "../addresses.js";
import { strength } from "../atlas.js";
import { h } from "../dom.js";
import { downloads } from "../downloads.js";
import { count, counting, percent, short } from "../numbers.js";
import { empty, facts, legend, note, readAs, to } from "../parts.js";
import { ORDERS, controls } from "./grid/controls.js";
import { matrix } from "./grid/matrix.js";
import { ordered } from "./grid/ordering.js";
import { FIRST, MOST, asked, familyText, readGrid } from "./grid/reading.js";
import { gridView } from "./grid/sheet.js";

export async function render(here) {
  const { atlas, params } = here;
  const wanted = asked(atlas, params);
  const title = `${wanted.source} → ${wanted.targets.layer}, grid`;
  if (!wanted.pair) return { title, body: [head(wanted), ...missing(here, wanted)] };
  const k = Math.min(Math.max(1, Number(params.get("k")) || FIRST), MOST);
  const order = ORDERS.some(([name]) => name === params.get("order")) ? params.get("order") : "given";
  const grid = await readGrid(atlas, wanted, k);
  const scaled = params.get("scale") === "layers" ? "layers" : "shown";
  const view = {
    ...ordered(grid, order), atlas, pair: wanted.pair, target: wanted.targets.layer, source: wanted.source, order, k, scaled,
    asked: wanted.targets.units, askedSources: grid.sources, strongest: !wanted.units, cut: wanted.cut, transposed: params.get("transpose") === "1",
    scale: (scaled === "layers" ? wanted.pair.largest : grid.largest) || 1, spread: Math.sqrt(wanted.pair.uniform[0] * wanted.pair.uniform[1]),
  };
  const about = view.pair.agreement === "not measured" ? null : await atlas.connections(view.pair, "agreement").catch(() => null);
  return {
    title, body: [head(wanted, downloads(() => gridView(view, caption(view)))), controls(here, view), ...shown(here, view, about)],
    keys: { t: () => here.change({ transpose: view.transposed ? null : "1" }), s: () => here.change({ order: next(order) }), u: () => here.go({ layer: view.target }) },
    depends: () => [atlas.pair(wanted.source, view.target), atlas.families],
  };
}

const next = (order) => {
  const names = ORDERS.map(([name]) => name);
  const found = names[(names.indexOf(order) + 1) % names.length];
  return found === "given" ? null : found;
};

const head = ({ source, targets }, ...tools) => h("div", { class: "head gridhead" },
  h("h1", null, layerLink(source), h("span", { class: "faint" }, " → "), layerLink(targets.layer)), h("div", { class: "tools" }, tools));

const layerLink = (layer) => (layer === "input" ? layer : to({ layer }, null, layer));

function shown(here, view, about) {
  if (!view.sources.length) return [empty(`None of these units reads anything from ${view.source}: all weights are zero.`)];
  const remove = (which, unit) => {
    const left = { targets: view.asked, sources: view.askedSources };
    if (left[which].length < 2) return null;
    left[which] = left[which].filter((one) => one !== unit);
    const sources = view.strongest && which === "targets" ? { layer: view.source, units: null } : { layer: view.source, units: left.sources };
    return here.change({ grid: familyText({ layer: view.target, units: left.targets }), by: familyText(sources) });
  };
  return [
    view.cut ? note(`${counting(view.cut, "unit")} more than the ${MOST} along a side that a grid shows are left out.`) : null,
    h("p", { class: "note" }, sentence(view)),
    matrix(view, remove),
    legend(view.scale, view.scaled === "layers" ? "one scale, that of all weights between these layers" : "one scale for the grid"),
    numbersOf(view, about),
  ];
}

function sentence(view) {
  const [n, many] = [view.sources.length, view.targets.length];
  const whose = many === 1 ? "the target reads" : `the ${count(many)} targets read`;
  return `${n === 1 ? `This one of ${counting(view.of, "source")} holds` : `These ${count(n)} of ${counting(view.of, "source")} hold`} ${percent(view.share)} of the squared norm with which ${whose} ${view.source}.`;
}

function numbersOf(view, about) {
  const cells = view.cells.flatMap((row, t) => row.map((map, i) => ({ map, t, i, norm: map ? strength(map) * view.spread : -1 })));
  const best = cells.reduce((a, b) => (b.norm > a.norm ? b : a));
  const seen = cells.filter(({ map }) => map);
  const measured = about?.units ? view.targets.map((unit) => about.cosine[about.units.indexOf(unit)]).filter((v) => v !== null && v !== undefined) : [];
  const [from, into] = [addressOf(view.source, view.sources[best.i]), addressOf(view.target, view.targets[best.t])];
  return h("div", { class: "sums" },
    facts([
      ["share of squared norm", percent(view.share), "of all weights with which these targets read this layer"],
      ["maps", `${count(view.targets.length)} targets × ${count(view.sources.length)} sources, ${view.rows} × ${view.columns} squares each`],
      ["strongest map", best.map ? h("span", null, to({ edge: into, from }, null, `${from} → ${into}`), `  L2 ${short(best.norm)}`) : "—"],
      ["cannot see each other", seen.length < cells.length ? `${counting(cells.length - seen.length, "pair")}` : null],
      ["agreement with the network's gradient", measured.length ? `cosine ${short(measured.reduce((a, b) => a + b, 0) / measured.length)}, mean of ${counting(measured.length, "target")}` : "not measured", "of all that each target reads from this layer, with its mean gradient on images"],
    ]),
    note([view.pair.uniform[0] * view.pair.uniform[1] > 1 ? `the same at all ${view.pair.uniform.join(" × ")} positions` : null, readAs(view.pair)].filter(Boolean).join(" · ")));
}

const caption = (view) => `${view.targets.length} targets, ${view.sources.length} sources holding ${percent(view.share)} of the squared norm; one scale${readAs(view.pair) ? `; ${readAs(view.pair)}` : ""}`;

/** Weights that the atlas does not have: computed where a server can, else said. */
function missing({ atlas, live }, { source, targets }) {
  const ask = { what: "weights", source, target: targets.layer };
  const about = live.about(ask);
  const words = `The weights from ${source} to ${targets.layer} are not in this atlas. `;
  const known = atlas.into(targets.layer).map((pair) => pair.source);
  const others = known.length ? h("p", { class: "note" }, "What it reads that is here: ", known.flatMap((layer, i) => [i ? ", " : "", to({ grid: familyText(targets), by: layer }, null, layer)])) : null;
  const button = live.can("weights") ? h("button", { type: "button", "data-key": "ask", on: { click: () => live.ask(ask) } }, "compute them") : live.why;
  const told = about?.error ? [h("span", { class: "error" }, `They could not be computed: ${about.error} `), button] : about ? "They are being computed; the page will show them." : button;
  return [empty(words, told), others];
}
