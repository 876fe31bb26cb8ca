/** What a grid is asked to show, and the weights it needs. */

import { addressOf, numbers, written } from "../../addresses.js";
import { Missing, largest, strength } from "../../atlas.js";

export const MOST = 40; // units along a side
export const FIRST = 8; // strongest sources, where none are named

/** "LAYER:1-3,7" as {layer, units}; "LAYER" alone as {layer, units: null}; null for what is neither. */
export function parsedFamily(atlas, text) {
  if (!text) return null;
  if (atlas.rows.has(text) || text === "input") return { layer: text, units: null };
  const at = text.lastIndexOf(":");
  const units = at > 0 ? numbers(text.slice(at + 1)) : null;
  return units ? { layer: text.slice(0, at), units } : null;
}

export const familyText = ({ layer, units }) => (units ? `${layer}:${written(units)}` : layer);

/** Families whose layer reads something that is here. */
export const targetFamilies = (atlas) => atlas.families.filter(({ layer }) => atlas.rows.has(layer) && atlas.into(layer).length);

/** Families of a source layer. */
export const sourceFamilies = (atlas, layer) => atlas.families.filter((family) => family.layer === layer);

/** {targets: {layer, units}, source layer, units or null for the strongest, pair, cut: units left out, family: by rule or null}. */
export function asked(atlas, params) {
  const text = params.get("grid");
  const wanted = parsedFamily(atlas, text);
  if (!wanted && text && text !== "1") throw new Missing(`${text} names no units; a grid is like ?grid=LAYER:1-3,7&by=LAYER:4,5`);
  const { layer, units, family } = wanted?.units ? wanted : someUnits(atlas, wanted?.layer);
  units.forEach((unit) => atlas.unit({ layer, unit }));
  const by = parsedFamily(atlas, params.get("by"));
  if (!by && params.get("by")) throw new Missing(`by=${params.get("by")} names no units; sources are like by=LAYER:4,5`);
  const pair = by ? atlas.pair(by.layer, layer) : pairOf(atlas, layer, family);
  if (!by && !pair) throw new Missing(`nothing that ${layer} reads is in this atlas yet`);
  if (by && by.layer !== "input") atlas.layer(by.layer);
  const sources = by?.units ?? null;
  const wrong = pair && sources?.find((unit) => unit >= pair.source_units);
  if (wrong !== undefined && wrong !== null) throw new Missing(`${by.layer} has units 0 to ${pair.source_units - 1}; there is no ${addressOf(by.layer, wrong)}`);
  return {
    targets: { layer, units: units.slice(0, MOST) }, source: by?.layer ?? pair.source, units: sources?.slice(0, MOST) ?? null, pair, family,
    cut: Math.max(0, units.length - MOST) + Math.max(0, (sources?.length ?? 0) - MOST),
  };
}

/** Without units: the first family by rule (of that layer) whose weights are here, else its first units. */
function someUnits(atlas, layer) {
  const families = targetFamilies(atlas).filter((family) => !layer || family.layer === layer);
  const told = families.filter(({ by }) => by === "rule");
  const family = told.find((one) => atlas.pair(one.source, one.layer)) ?? told[0] ?? families[0];
  if (family) return { layer: family.layer, units: family.units, family };
  const chosen = layer ?? atlas.made[0]?.target;
  if (!chosen) throw new Missing("no weights are in this atlas yet, so there is nothing to draw as a grid");
  return { layer: chosen, units: Array.from({ length: Math.min(FIRST, atlas.layer(chosen).units) }, (_, i) => i), family: null };
}

const pairOf = (atlas, layer, family) => (family?.source && atlas.pair(family.source, layer)) || atlas.into(layer)[0];

/**
 * {targets, sources, cells[target][source]: Float32Array or null where it cannot be seen, rows, columns, share, chosen: how many of
 * the strongest were taken, of: how many sources have any weight}.
 */
export async function readGrid(atlas, { targets, units, pair }, k) {
  const read = await Promise.all(targets.units.map((unit) => atlas.inputs(pair, unit)));
  const power = new Map(); // source → squared norm over all targets
  let all = 0;
  for (const { units: seen, maps } of read) {
    seen.forEach((unit, i) => {
      const square = strength(maps[i]) ** 2;
      all += square;
      power.set(unit, (power.get(unit) ?? 0) + square);
    });
  }
  const strong = [...power].filter(([, square]) => square > 0).sort(([a, x], [b, y]) => y - x || a - b);
  const sources = units ?? strong.slice(0, k).map(([unit]) => unit);
  const cells = read.map(({ units: seen, maps }) => {
    const place = new Map(seen.map((unit, i) => [unit, i]));
    return sources.map((unit) => maps[place.get(unit)] ?? null);
  });
  const held = sources.reduce((sum, unit) => sum + (power.get(unit) ?? 0), 0);
  return {
    targets: targets.units, sources, cells, rows: read[0]?.rows ?? 1, columns: read[0]?.columns ?? 1, of: strong.length,
    share: all ? held / all : 0, largest: largest(cells.flat().filter(Boolean)),
  };
}
