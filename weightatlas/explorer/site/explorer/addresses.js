/** Addresses of units, lists of numbers, and the state of every view as a query that can be shared. */

/** What goes along from page to page: pinned units, families named in the address, the image that is looked at, colours. */
export const CARRIED = ["pin", "family", "image", "palette"];

/** Half of a pair of UTF-16, which no address can hold. */
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** The page whose main parameter comes first in this list is shown; without any, the model. */
export const PAGES = ["lens", "layer", "unit", "edge", "grid", "circuit", "search", "help"];

export const addressOf = (layer, unit) => `${layer}:${unit}`;

/** "blocks.4.1:45" as {layer, unit}; null for what is no address. A layer's name may hold colons itself. */
export function parsedUnit(text) {
  const match = /^([^]+):([0-9]{1,9})$/.exec(text ?? "");
  return match && { layer: match[1], unit: Number(match[2]) };
}

/** [1, 2, 3, 7] as "1-3,7". The order is kept: [3, 1] is "3,1". */
export function written(units) {
  const runs = [];
  for (const unit of units) {
    const last = runs.at(-1);
    if (last && unit === last[1] + 1) last[1] = unit;
    else runs.push([unit, unit]);
  }
  return runs.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a},${b}` : `${a}-${b}`)).join(",");
}

/** "1-3,7" as [1, 2, 3, 7], each once; null for what is no such list, or one of more than `most` numbers. */
export function numbers(text, most = 20000) {
  const found = new Set();
  for (const part of (text ?? "").split(",")) {
    const match = /^\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?$/.exec(part);
    if (!match) return null;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (last < first || last - first >= most) return null;
    for (let unit = first; unit <= last; unit++) found.add(unit);
    if (found.size > most) return null;
  }
  return [...found];
}

/** Whether a number is in runs [[first, last], ...] that are sorted. */
export function within(runs, number) {
  let low = 0;
  let high = (runs?.length ?? 0) - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (number < runs[middle][0]) high = middle - 1;
    else if (number > runs[middle][1]) low = middle + 1;
    else return true;
  }
  return false;
}

/** Numbers in runs [[first, last], ...], and how many. */
export const unfolded = (runs) => (runs ?? []).flatMap(([a, b]) => Array.from({ length: b - a + 1 }, (_, i) => a + i));
export const counted = (runs) => (runs ?? []).reduce((sum, [a, b]) => sum + b - a + 1, 0);

const readable = (text) => encodeURIComponent(text.replace(LONE, "\ufffd")).replace(/%(3A|2C|2F|40|20)/g, (c) => (c === "%20" ? "+" : decodeURIComponent(c)));

/** Parameters (an object or URLSearchParams; values may be lists; null and "" are left out) as "?a=b&c=d". */
export function query(parameters) {
  const pairs = parameters instanceof URLSearchParams ? [...parameters] : Object.entries(parameters);
  const parts = pairs
    .flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one) => [name, one]))
    .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
    .map(([name, value]) => `${readable(name)}=${readable(String(value))}`);
  return "?" + parts.join("&");
}

/** The address of a page: its parameters first, then what is carried along from the page that is shown now. */
export function link(parameters, now = new URLSearchParams(location.search)) {
  const own = query(parameters);
  const carried = CARRIED.filter((name) => !(name in parameters)).flatMap((name) => now.getAll(name).map((v) => [name, v]));
  const rest = query(new URLSearchParams(carried)).slice(1);
  return own + (rest && own.length > 1 ? "&" : "") + rest;
}

/** The address of this page with some parameters changed; null takes one away. */
export function changed(changes, now = new URLSearchParams(location.search)) {
  const next = new URLSearchParams(now);
  for (const [name, value] of Object.entries(changes)) {
    if (Array.isArray(value)) {
      next.delete(name);
      for (const one of value) next.append(name, one);
    } else if (value === null || value === undefined || value === "") next.delete(name);
    else next.set(name, value);
  }
  return query(next);
}

/** Families that are named in the address: family=NAME:LAYER:UNITS, name and layer percent-encoded once more. */
export function familiesInAddress(now = new URLSearchParams(location.search)) {
  return now.getAll("family").flatMap((text) => {
    const parts = text.split(":");
    const units = parts.length === 3 ? numbers(parts[2]) : null;
    try {
      return units ? [{ name: decodeURIComponent(parts[0]), layer: decodeURIComponent(parts[1]), units, by: "address" }] : [];
    } catch {
      return []; // a broken escape
    }
  });
}

export const familyInAddress = ({ name, layer, units }) =>
  `${encodeURIComponent(name.replace(LONE, "\ufffd"))}:${encodeURIComponent(layer)}:${written(units)}`;
