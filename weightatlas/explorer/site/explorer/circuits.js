/** A circuit: pinned units, the weights between all of them that the atlas has, and the units that would make it grow. */

import { addressOf } from "./addresses.js";
import { Missing, strength, strongest, sum } from "./atlas.js";

const BALANCED = 0.1; // a sum under this share of the sum of magnitudes is no side
const INPUT = "input";

const size = (values) => values.reduce((total, value) => total + Math.abs(value), 0);

/** A pinned unit with its place in the reading order; null if this atlas has no such unit. The network's input comes first. */
function node(atlas, { layer, unit }) {
  const row = atlas.rows.get(layer);
  const channels = atlas.manifest.input?.shape?.[0] ?? 0;
  const known = row ? unit < row.units : layer === INPUT && unit < channels;
  return known ? { layer, unit, address: addressOf(layer, unit), order: row ? row.number : -1 } : null;
}

/** All that the atlas knows between units: {nodes, unknown, links, missing, blind, errors}. */
export async function circuit(atlas, pins) {
  const nodes = pins.map((pin) => node(atlas, pin)).filter(Boolean);
  const unknown = pins.filter((pin) => !node(atlas, pin)).map(({ layer, unit }) => addressOf(layer, unit));
  const layers = [...new Map(nodes.map((one) => [one.layer, one.order]))].sort((a, b) => a[1] - b[1]).map(([layer]) => layer);
  const found = { nodes, unknown, layers, links: [], missing: [], blind: 0, errors: [] };
  const reads = feeds(atlas);
  const tasks = [];
  for (const [i, source] of layers.entries()) {
    for (const target of layers.slice(i + 1)) {
      const pair = atlas.pair(source, target);
      const [from, into] = [source, target].map((layer) => nodes.filter((one) => one.layer === layer));
      if (pair) tasks.push(...into.map((one) => linksInto(atlas, pair, from, one, found)));
      else if (reads(source, target)) found.missing.push({ source, target, count: from.length * into.length, coming: atlas.manifest.pairs.some((p) => p.source === source && p.target === target) });
    }
  }
  await Promise.all(tasks);
  found.links.sort((a, b) => b.norm - a.norm || a.key.localeCompare(b.key));
  return found;
}

/** Whether anything runs from one layer to another. */
function feeds(atlas) {
  const next = new Map();
  for (const [a, b] of atlas.manifest.edges) next.set(a, [...(next.get(a) ?? []), b]);
  const reached = new Map();
  const from = (start) => {
    const seen = new Set();
    const open = [start];
    while (open.length) for (const b of next.get(open.pop()) ?? []) if (!seen.has(b)) open.push(b) && seen.add(b);
    return seen;
  };
  return (a, b) => {
    if (!reached.has(a)) reached.set(a, from(a));
    return reached.get(a).has(b);
  };
}

async function linksInto(atlas, pair, sources, target, found) {
  try {
    const [all, about] = await Promise.all([
      atlas.inputs(pair, target.unit),
      pair.agreement?.mean_cosine === undefined ? null : atlas.quietly(atlas.connections(pair, "agreement")),
    ]);
    const whole = all.maps.reduce((total, map) => total + strength(map) ** 2, 0);
    const place = new Map(all.units.map((unit, i) => [unit, i]));
    const positions = (pair.uniform?.[0] ?? 1) * (pair.uniform?.[1] ?? 1);
    for (const source of sources) {
      const at = place.get(source.unit);
      const values = all.maps[at];
      if (at === undefined) found.blind++;
      else if (strength(values) > 0) found.links.push(link(pair, source, target, { ...all, values }, whole, positions, about?.cosine?.[target.unit] ?? null));
      else found.blind++;
    }
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    found.errors.push(error.message);
  }
}

function link(pair, source, target, { values, rows, columns }, whole, positions, cosine) {
  const norm = strength(values);
  const total = sum(values);
  return {
    key: `${source.address} → ${target.address}`, source, target, pair, values, rows, columns, positions, cosine,
    norm: norm * Math.sqrt(positions), sum: total * positions, share: whole ? norm ** 2 / whole : 0,
    side: Math.abs(total) < BALANCED * size(values) ? "balanced" : total > 0 ? "excites" : "inhibits",
  };
}

/** The unit that acts most on a unit, or on which it acts most, and that is not taken: {layer, unit}, or null. */
export async function growth(atlas, { layer, unit }, direction, taken) {
  const pairs = direction === "input" ? atlas.into(layer) : atlas.from(layer);
  for (const span of [...new Set(pairs.map((pair) => pair.span))]) {
    const offers = await Promise.all(pairs.filter((pair) => pair.span === span).map(async (pair) => {
      const other = direction === "input" ? pair.source : pair.target;
      if (other !== INPUT && !atlas.rows.has(other)) return null; // a layer without pages
      const { units, strengths } = strongest(await (direction === "input" ? atlas.inputs(pair, unit) : atlas.outputs(pair, unit)), "l2", Infinity);
      const at = units.findIndex((one) => !taken.includes(addressOf(other, one)));
      return at < 0 ? null : { layer: other, unit: units[at], strength: strengths[at] };
    }));
    const best = offers.filter(Boolean).sort((a, b) => b.strength - a.strength)[0];
    if (best) return best;
  }
  return null;
}

/** A circuit to begin with: where the atlas says to start, what it reads most, and what the first of these reads. */
export async function example(atlas) {
  const start = atlas.manifest.start.filter((one) => one.page === "unit").map((one) => /^([^]+):([0-9]+)$/.exec(one.address)).find(Boolean);
  const last = [...atlas.made].reverse().find((pair) => pair.span === 1 && atlas.rows.has(pair.target) && atlas.rows.has(pair.source));
  const root = start ? { layer: start[1], unit: Number(start[2]) } : last ? { layer: last.target, unit: 0 } : null;
  if (!root || !atlas.rows.has(root.layer)) return null;
  const taken = [addressOf(root.layer, root.unit)];
  const grown = async (from, times) => {
    for (let i = 0; i < times; i++) {
      const next = await growth(atlas, from, "input", taken);
      if (next) taken.push(addressOf(next.layer, next.unit));
      if (i === 0 && times > 2 && next) await grown(next, 2);
    }
  };
  await grown(root, 4);
  return taken.length > 1 ? taken : null;
}
