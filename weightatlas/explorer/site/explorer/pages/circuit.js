/** The circuit board: pinned units by layer, with the weights between all of them. */

import { addressOf, link as address } from "../addresses.js";
import { largest } from "../atlas.js";
import { board, lighting, lineColours, linkWords, measures } from "../board.js";
import { circuit, example, growth } from "../circuits.js";
import { thickness } from "../circuitlayout.js";
import { combobox } from "../combobox.js";
import { copyButton } from "../copying.js";
import { h, s, say } from "../dom.js";
import { downloads } from "../downloads.js";
import { addressCode } from "../edgetables.js";
import { counting, percent, short, signed } from "../numbers.js";
import { choice, empty, heading, icon, legend, note, shareBar, to, turn, unitPicture } from "../parts.js";
import { MOST_PINS, addPins, pinned, pinnedAddresses, setPins } from "../pins.js";
import { unitSuggestions } from "../searchbox.js";

const SHARES = ["0", "0.005", "0.01", "0.05", "0.1"];
const ROWS = 60; // of the table, at a time
const FEW = 6; // pairs of layers that are listed at once
const CROSS = "M4 4l8 8M12 4l-8 8";
const UP = "M8 13V4M4.5 7.5L8 4l3.5 3.5";
const DOWN = "M8 3v9M4.5 8.5L8 12l3.5-3.5";

export async function render(here) {
  const all = pinned(here.params);
  const pins = all.slice(0, MOST_PINS);
  if (!pins.length) return { title: "circuit", body: await nothingPinned(here) };
  const found = await circuit(here.atlas, pins);
  const least = SHARES.includes(here.params.get("min")) ? here.params.get("min") : "0";
  for (const one of found.links) one.faded = one.share < Number(least);
  const scale = largest(found.links.filter((one) => !one.faded).map((one) => one.values)) || largest(found.links.map((one) => one.values)) || 1;
  const each = here.params.get("scale") === "each";
  const drawn = found.nodes.length ? board(here, found, each ? null : scale, (node) => tools(here, node)) : null;
  const table = connections(here, found);
  const drawing = h("section", { class: "board-section" }, drawn && [drawn.element, keyOf(found, each ? null : scale), drawn.told], problems(here, found, all.length - pins.length));
  const whole = h("div", null, drawing, table);
  lighting(whole);
  return {
    title: "circuit",
    body: [
      h("div", { class: "head" }, h("h1", null, "Circuit"), controls(here, found, drawn, least, each)),
      note(`${counting(found.nodes.length, "unit")}, ${found.links.length} ${found.links.length === 1 ? "connection" : "connections"} for which the atlas has weights. Later layers lie above earlier ones. Point at a picture to add what it reads most or acts on most, or to take it away.${pins.length >= MOST_PINS ? ` The board is full: ${MOST_PINS} units at most.` : ""}`),
      adding(here), whole, missing(here, found),
    ],
    shown: () => {
      if (!drawn) return;
      const watcher = new ResizeObserver(() => (drawn.element.isConnected ? drawn.fit() : watcher.disconnect()));
      watcher.observe(drawn.element);
    },
  };
}

function controls(here, found, drawn, least, each) {
  return h("div", { class: "tools" },
    found.links.length > 1 ? choice("min", SHARES.map((share) => [share, share === "0" ? "all" : `≥ ${percent(Number(share))}`, share === "0" ? "all connections" : `fade connections under ${percent(Number(share))} of their target's squared norm`]), least, "connections by share of the target's squared norm") : null,
    found.links.length > 1 ? choice("scale", [["one", "one scale", "one colour scale for all maps"], ["each", "each its own", "each map in its own colour scale: patterns can be compared, strengths cannot"]], each ? "each" : "one", "colour scale of the maps") : null,
    copyButton("copy link", () => location.href, { "data-tip": "the address holds the whole circuit" }),
    drawn ? downloads(drawn.file) : null,
    turn({ pin: [], min: null }, { class: "button", "data-key": "clear", "data-tip": "take all units from the board" }, "clear"));
}


function adding(here) {
  const taken = pinnedAddresses(here.params);
  const { input, list } = combobox({
    id: "add-unit", label: "add a unit to the circuit", placeholder: "add a unit: layer:number", key: "add-unit",
    suggest: (text) => unitSuggestions(here, text, taken),
    choose: ({ layer, unit }) => addPins(here, [addressOf(layer, unit)]),
    enter: (text, field) => {
      const [first] = unitSuggestions(here, text, taken);
      if (first) addPins(here, [first.words]);
      else {
        field.setAttribute("aria-invalid", "true");
        told.textContent = `no unit is called like “${text}”, or it is on the board already`;
      }
    },
  });
  const told = h("span", { class: "error", role: "status" });
  return h("form", { class: "finder adder", on: { submit: (event) => event.preventDefault(), input: () => told.replaceChildren() } }, input, list, told);
}

/** What can be done with a unit on the board. */
function tools(here, { layer, unit, address: name }) {
  const taken = pinnedAddresses(here.params);
  const grow = async (direction) => {
    const next = await growth(here.atlas, { layer, unit }, direction, taken).catch(() => null);
    if (next) addPins(here, [addressOf(next.layer, next.unit)]);
    else say(direction === "input" ? `the atlas has no more inputs of ${name}` : `the atlas has no more outputs of ${name}`);
  };
  const button = (shape, words, key, click) =>
    h("button", { type: "button", "aria-label": `${words}: ${name}`, "data-tip": words, "data-key": `${key} ${name}`, on: { click } }, icon(shape));
  return [
    layer === "input" ? null : button(DOWN, "add its strongest input that is not here yet", "input", () => grow("input")),
    button(UP, "add the unit it acts on most that is not here yet", "output", () => grow("output")),
    button(CROSS, "take it from the board", "remove", async () => {
      await setPins(here, taken.filter((one) => one !== name), `${name} is unpinned`);
      if (document.activeElement === document.body) (document.querySelector(".board a.face") ?? document.getElementById("main")).focus({ preventScroll: true });
    }),
  ];
}

/** What curves and maps mean. */
function keyOf({ links }, scale) {
  if (!links.length) return null;
  const most = links[0].norm;
  const times = measures().rem / 16;
  const line = (side, norm, words) => h("span", { class: "line-key" },
    s("svg", { width: 34 * times, height: 12 * times, viewBox: "0 0 34 12", "aria-hidden": "true" }, s("path", { class: `curve ${side}`, d: "M1 6H33", "stroke-width": thickness(norm, most) })), words);
  const sides = [["excites", "excites"], ["inhibits", "inhibits"], ["balanced", "both about equally"]].filter(([side]) => links.some((one) => one.side === side));
  return h("div", { class: "keys", style: lineColours() },
    scale ? legend(scale, "weights, one scale for all maps") : h("p", { class: "legend" }, "each map in its own scale: widths of curves tell strengths"),
    h("p", { class: "legend" }, sides.map(([side, words]) => line(side, most / 3, words)), h("span", { class: "words" }, "sign of the sum")),
    h("p", { class: "legend" }, line("plain", most, short(most, 2)), line("plain", most / 3, short(most / 3, 2)), h("span", { class: "words" }, "norm of the map")));
}

/** Everything that is drawn, for those who read rather than look. */
function connections(here, { links, nodes, blind }) {
  if (nodes.length < 2) return null;
  const rows = Math.max(ROWS, Number.parseInt(here.params.get("n"), 10) || 0);
  const unseen = blind ? note(`${counting(blind, "more pair")} ${blind === 1 ? "has" : "have"} weights of zero: the target cannot see the source.`) : null;
  if (!links.length) return h("section", null, heading("Connections"), empty("Among these units the atlas has no connection. Two units of one layer are never connected; between others it holds weights of neighbouring layers and those two back."), unseen);
  return h("section", null, heading("Connections", `${links.length}, largest norm first`),
    h("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": "table of connections" },
      h("table", { class: "links" },
        h("thead", null, h("tr", null, [["source"], ["target"], ["norm", "L2 norm of the map"], ["sum", "of the weights at all positions"], ["share", "of the target's squared norm over all units of the source's layer"], ["agreement", "cosine between the target's weights and the network's mean gradient on images"], ["map"]].map(([name, why], i) =>
          h("th", { scope: "col", class: i === 2 || i === 3 || i === 5 ? "num" : null, "data-tip": why ?? null }, name)))),
        h("tbody", null, links.slice(0, rows).map(connection)))),
    rows < links.length ? h("p", { class: "note more" }, `${rows} of ${links.length} connections. `, turn({ n: rows + ROWS }, { class: "button", "data-key": "more" }, "show more")) : null, unseen, readings(links));
}

function connection(one) {
  const { source, target } = one;
  const code = ({ layer, unit }) => addressCode(layer, unit);
  const end = (node) => h("td", null, node.layer === "input" ? code(node) : to({ unit: node.address }, null, code(node)));
  return h("tr", { class: one.faded ? "faded" : null, data: { link: one.key, source: source.address, target: target.address } },
    end(source), end(target), h("td", { class: "num" }, short(one.norm)), h("td", { class: "num" }, signed(one.sum)),
    h("td", null, shareBar(one.share, percent(one.share)), h("span", { "aria-hidden": "true" }, ` ${percent(one.share)}`)),
    h("td", { class: "num" }, one.cosine === null ? "not measured" : short(one.cosine, 2)),
    h("td", null, to({ edge: target.address, from: source.address }, { "data-tip": linkWords(one), "aria-label": `edge ${one.key}` }, "edge")));
}

/** What was read as what on the way between layers. */
function readings(links) {
  const told = [...new Set(links.flatMap(({ pair }) => [...(pair.replaced ?? []).map((words) => `${pair.source} → ${pair.target}: ${words}`), ...(pair.skip ? [`${pair.source} → ${pair.target}: the skip path is left out`] : []), ...((pair.uniform?.[0] ?? 1) * (pair.uniform?.[1] ?? 1) > 1 ? [`${pair.source} → ${pair.target}: the same at all ${pair.uniform.join("×")} positions`] : [])]))];
  return told.length ? h("details", { class: "readings" }, h("summary", null, "what was read as what"), h("ul", null, told.map((words) => h("li", null, words)))) : null;
}

/** What of the address cannot be drawn. */
function problems(here, { unknown, errors }, over) {
  const now = pinnedAddresses(here.params);
  return [
    unknown.length ? h("p", { class: "empty" }, "Not in this atlas: ", unknown.map((one, i) => [i ? ", " : "", h("code", null, one)]), ". ",
      turn({ pin: now.filter((one) => !unknown.includes(one)) }, { "data-key": "drop-unknown" }, "take them away")) : null,
    over > 0 ? h("p", { class: "empty" }, `The board draws ${MOST_PINS} units at most; ${counting(over, "more unit")} in the address ${over === 1 ? "is" : "are"} left out.`) : null,
    [...new Set(errors)].map((words) => empty(words)),
  ];
}

/** Pairs of layers on the board of which the atlas has no weights. */
function missing(here, { missing: pairs }) {
  if (!pairs.length) return null;
  const { live } = here;
  const able = live.can("weights");
  const state = ({ source, target, coming }) => {
    const ask = { what: "weights", source, target };
    const about = live.about(ask);
    const again = (words) => h("button", { type: "button", "data-key": `ask ${source} ${target}`, on: { click: () => live.ask(ask) } }, words);
    if (about?.error) return [h("span", { class: "error" }, `${about.error} `), able ? again("try again") : null];
    if (about) return h("span", { class: "note" }, "being computed …");
    if (coming) return h("span", { class: "note" }, live.site.live ? "will be made in this build" : "not made yet");
    return able ? again("compute") : null;
  };
  const list = h("ul", { class: "absent" }, pairs.map((pair) => h("li", null, h("code", null, `${pair.source} → ${pair.target}`), ` ${counting(pair.count, "pair")} of units `, state(pair))));
  return h("section", { class: "missing" }, heading("Without weights in the atlas"),
    note("Between these layers the network has paths, but the atlas has no weights, so nothing is drawn. ", able ? "" : live.why),
    pairs.length > FEW ? h("details", null, h("summary", null, `${pairs.length} pairs of layers`), list) : list);
}

async function nothingPinned(here) {
  const { atlas } = here;
  const pins = await example(atlas).catch(() => null);
  const offered = pins && h("section", null, heading("An example"),
    note(h("code", null, pins[0]), ", the units it reads most, and what the first of these reads:"),
    h("a", { class: "example", href: address({ circuit: "board", pin: pins }), "data-key": "example" },
      h("span", { class: "strip", "aria-hidden": "true" }, pinned(new URLSearchParams(pins.map((one) => ["pin", one]))).map(({ layer, unit }) => unitPicture(atlas, layer, unit))),
      h("span", null, "open this circuit →")));
  return [
    h("h1", null, "Circuit"),
    note("A board for units of several layers and all the weights between them. Pin a unit on its page (", h("kbd", null, "p"), "), or add one here; then let the board grow by strongest inputs and outputs. The address holds the whole circuit, so it can be shared."),
    adding(here), offered,
  ];
}
