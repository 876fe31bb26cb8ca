/** What can be said in numbers about one connection, and how far to trust it. */

import { strength } from "../../atlas.js";
import { h } from "../../dom.js";
import { count, percent, short, signed } from "../../numbers.js";
import { facts, note, readAs, shareBar } from "../../parts.js";
import { place } from "./map.js";

/** Numbers of one map. Of a uniform one each value stands for `positions` positions. */
export function measured(map, positions = 1) {
  let [excite, inhibit, most] = [0, 0, 0];
  map.forEach((value, i) => {
    if (value > 0) excite += value;
    else inhibit += value;
    if (Math.abs(value) > Math.abs(map[most])) most = i;
  });
  return {
    norm: strength(map) * Math.sqrt(positions), sum: (excite + inhibit) * positions, excite: excite * positions,
    inhibit: inhibit * positions, mean: (excite + inhibit) / map.length, most,
  };
}

/** The source units of a target by strength: {order: [source units], share of each, rank of one}. */
export function ranked({ units, maps }, source) {
  const squares = maps.map((map) => strength(map) ** 2);
  const total = squares.reduce((a, b) => a + b, 0);
  const places = units.map((_, i) => i).sort((a, b) => squares[b] - squares[a] || units[a] - units[b]);
  const at = units.indexOf(source);
  return {
    order: places.map((i) => units[i]), rank: places.indexOf(at), of: squares.filter((v) => v > 0).length,
    share: total ? squares[at] / total : 0, largest: Math.max(0, ...maps.map((map) => map.reduce((m, v) => Math.max(m, Math.abs(v)), 0))),
  };
}

export function edgeFacts(pair, map, columns, rank) {
  const found = measured(map, pair.uniform[0] * pair.uniform[1]);
  const [y, x] = [Math.floor(found.most / columns), found.most % columns].map((i, axis) => signed(place(pair, axis, i)));
  const standing = found.norm === 0 ? "none: all weights are zero" : `${count(rank.rank + 1)} of ${count(rank.of)}`;
  return facts([
    ["L2 norm", short(found.norm), "the square root of all squared weights of this map, added up"],
    ["rank among its sources", standing, "by L2 norm, of the source units that the target gives any weight"],
    ["share of its squared norm", h("span", null, shareBar(rank.share), " ", percent(rank.share)), "of all squared weights with which the target reads this layer"],
    ["strongest square", h("span", null, `${signed(map[found.most])} `, h("span", { class: "at" }, map.length > 1 ? `at (${y}, ${x})` : "")), "y down, x right, from the position under the target"],
    ["sum", signed(found.sum), "what the target gets if the source is equally active everywhere"],
    ["exciting squares add", signed(found.excite)],
    ["inhibiting squares add", signed(found.inhibit)],
    ["mean of a square", map.length > 1 ? signed(found.mean) : null],
  ]);
}

/** What the map is of, and what was read as what. */
export function mapNote(pair) {
  const [h_, w] = pair.uniform;
  const direct = pair.replaced?.length ? null : "every step on the way is linear";
  return note([
    h_ * w > 1 ? `The same number at all ${h_} × ${w} positions` : null,
    pair.at ? `The map of target position (${pair.at.join(", ")}), which depends on the position, clipped to the source grid` : null,
    readAs(pair) || direct,
  ].filter(Boolean).join(" · "));
}

/** In words: how far the weights of this target agree with what the network does on images. */
export function trust(pair, about, unit, target) {
  const at = about?.units ? about.units.indexOf(unit) : -1;
  const cosine = at < 0 ? null : about.cosine[at];
  if (cosine === null || cosine === undefined) return note("Agreement with what the network does on images: not measured. Read these numbers as the weights say, no more.");
  const halves = about.halves?.[at];
  const ceiling = halves > 0 ? Math.sqrt((2 * halves) / (1 + halves)) : null;
  const many = about.images?.used ?? about.images?.count;
  return h("div", { class: "trust" },
    facts([
      ["agreement", `cosine ${short(cosine)}`, "1: the weights point where the network's own mean gradient does; 0: nowhere near"],
      ["the most that could be told", ceiling === null ? "—" : `cosine ${short(ceiling)}`, "from how far two halves of the measured positions agree: √(2r / (1 + r))"],
      ["halves agree", halves === null || halves === undefined ? "—" : `cosine ${short(halves)}`, "two halves of the measurement with one another"],
      ["strongest sources shared", about.overlap ? `${about.overlap[at]} of ${about.k}` : null, "of the strongest sources by these weights, how many are among the strongest by the gradient"],
    ]),
    note(`For all that ${target} reads from this layer: these weights against the gradient of the real network`,
      many ? `, the mean of ${about.samples ? `${count(about.samples)} positions on ` : ""}${count(many)} image${many === 1 ? "" : "s"}` : "", ". Few images tell little: a low number for the halves means that the measurement, not the weights, is the limit."));
}
