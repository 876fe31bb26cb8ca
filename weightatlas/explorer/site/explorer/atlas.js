/** An atlas, read with nothing but fetch: JSON documents and raw chunks of Zarr arrays. docs/format.md is the contract. */

import { addressOf, counted, familiesInAddress, unfolded, within } from "./addresses.js";
import { crc32c } from "./checksum.js";
import { pathOf } from "./names.js";
import { Missing, fetched, overview, parsed } from "./reading.js";

export { Missing };

const HELD = 96e6; // bytes of documents and chunks that are remembered
const BEST = ["display", "max", "quick"];
const [COLUMNS, ON_ONE] = [32, 1024]; // tiles of a row and of a sheet, as weightatlas/store/walls.py lays them

export class Atlas {
  /** @param root where atlas.json lies, e.g. "atlas" */
  constructor(root, manifest) {
    this.root = root;
    this.kept = new Map(); // path → promise of its content, the one used last at the end
    this.sizes = new Map();
    this.held = 0; // bytes
    this.troubles = [];
    this.take(manifest);
  }

  static async open(root) {
    const manifest = overview(parsed(await (await fetched(`${root}/atlas.json`)).text(), `${root}/atlas.json`), root);
    const atlas = new Atlas(root, manifest);
    await atlas.readFamilies();
    return atlas;
  }

  take(manifest) {
    this.manifest = manifest;
    this.layers = manifest.layers;
    this.sheets = new Map(); // where tiles lie, by layer and recipe
    this.rows = new Map(manifest.layers.map((row, number) => [row.name, { ...row, number }]));
    this.made = manifest.pairs.filter((pair) => pair.made);
    this.pairs = new Map(this.made.map((pair) => [`${pair.source}\n${pair.target}`, pair]));
    this.named ??= [];
  }

  /** Reads the overview again while a build goes on; true if it has changed. */
  async refresh() {
    const manifest = overview(parsed(await (await fetched(`${this.root}/atlas.json`)).text(), `${this.root}/atlas.json`), this.root);
    await this.readFamilies();
    if (manifest.sha256 === this.manifest.sha256) return false;
    this.kept.clear();
    this.held = 0;
    this.take(manifest);
    return true;
  }

  /** families.json is there only once people have named some; `site.families` tells without a failed request. */
  async readFamilies() {
    const answer = await fetch("site.json", { cache: "no-cache" });
    this.site = answer.ok ? await answer.json() : { live: false, can: {}, recipes: [] };
    this.named = this.site.families ?? [];
  }

  /** Families: those named in the address, those that people named, those found by rule. */
  get families() {
    return [...familiesInAddress(), ...this.named, ...this.manifest.families];
  }

  /** What the overview says of a layer. Throws Missing for one that is not there. */
  layer(name) {
    const row = this.rows.get(name);
    if (!row) throw new Missing(`this atlas of ${this.manifest.model.name} has no layer ${name}`);
    return row;
  }

  /** Checks that a unit exists, and returns its layer's row. */
  unit({ layer, unit }) {
    const row = this.layer(layer);
    if (!(unit < row.units)) throw new Missing(`${layer} has units 0 to ${row.units - 1}; there is no ${addressOf(layer, unit)}`);
    return row;
  }

  /** Pairs into or out of a layer, nearest layer first. */
  into = (layer) => this.near(this.made.filter((pair) => pair.target === layer));
  from = (layer) => this.near(this.made.filter((pair) => pair.source === layer));
  near = (pairs) => [...pairs].sort((a, b) => (a.span || 9) - (b.span || 9));
  pair = (source, target) => this.pairs.get(`${source}\n${target}`) ?? null;

  /** A file's address on this site. */
  url = (path) => `${this.root}/${path}`;

  remember(key, make) {
    const known = this.kept.get(key);
    this.kept.delete(key);
    const value = known ?? make();
    this.kept.set(key, value);
    if (!known) value.catch(() => this.forget(key)); // another try may do better
    for (const oldest of this.kept.keys()) {
      if (this.held <= HELD || oldest === key) break;
      this.forget(oldest);
    }
    return value;
  }

  forget(key) {
    this.kept.delete(key);
    this.held -= this.sizes.get(key) ?? 0;
    this.sizes.delete(key);
  }

  weigh(key, size) {
    if (this.kept.has(key) && !this.sizes.has(key)) {
      this.sizes.set(key, size);
      this.held += size;
    }
  }

  /** What a page can do without: null if it cannot be read, and the page says so. */
  quietly = (reading) => reading.catch((error) => {
    if (!(error instanceof Missing)) throw error;
    this.troubles.push(error.message);
    return null;
  });

  /** A JSON document of the atlas. */
  json = (path) => this.remember(path, async () => {
    const text = await (await fetched(this.url(path))).text();
    this.weigh(path, 4 * text.length);
    return parsed(text, path);
  });

  /** The bytes of a file. */
  bytes = (path) => this.remember(path, async () => {
    const data = new Uint8Array(await (await fetched(this.url(path))).arrayBuffer());
    this.weigh(path, data.length);
    return data;
  });

  /** A chunk of an array: little-endian numbers, then CRC-32C. Throws Missing for one that is torn. */
  async chunk(path, Kind = Float32Array) {
    const data = await this.bytes(path);
    const end = data.byteLength - 4;
    const sum = end >= 0 ? new DataView(data.buffer).getUint32(end, true) : 0;
    if (end < 0 || end % 4 || crc32c(data.subarray(0, end)) !== sum) {
      throw new Missing(`${path} is damaged: its checksum does not fit. weightatlas check DIR --repair, then build again`);
    }
    return new Kind(data.buffer, 0, end / 4); // every machine that runs a browser is little-endian
  }

  about = (layer, name) => this.json(`layers/${pathOf(layer)}/${name}.json`);
  connections = (pair, name) => this.json(`${pair.about}/${name}.json`);

  /** The numbers of the source units that a target unit can see: all, or those of its group. */
  seen(pair, unit) {
    const each = pair.shape[1];
    const group = Math.floor(unit / Math.max(Math.floor(pair.shape[0] / pair.groups), 1));
    return Array.from({ length: each }, (_, i) => group * each + i);
  }

  /** What a target unit reads: {units, maps}, a Float32Array [h · w] for every source unit that it sees. */
  async inputs(pair, unit) {
    const [, each, rows, columns] = pair.shape;
    const values = await this.chunk(`${pair.path}/values/c.${unit}.0.0.0`);
    if (values.length !== each * rows * columns) throw new Missing(`${pair.path}/values/c.${unit}.0.0.0 has another size than atlas.json tells`);
    return maps(this.seen(pair, unit), values, rows, columns);
  }

  /** What a source unit acts on most: {units, maps} of up to 24 target units, largest norm first. */
  async outputs(pair, unit) {
    const [, , rows, columns] = pair.shape;
    const values = await this.chunk(`${pair.path}/outgoing_maps/c.${unit}.0.0.0`);
    const ranks = values.length / (rows * columns);
    const numbers = await this.chunk(`${pair.path}/outgoing_units/c.0.0`, Int32Array);
    const own = [...numbers.subarray(unit * ranks, (unit + 1) * ranks)];
    const all = maps(own, values, rows, columns);
    const kept = own.map((number, i) => i).filter((i) => own[i] >= 0);
    return { ...all, units: kept.map((i) => own[i]), maps: kept.map((i) => all.maps[i]) };
  }

  /** The map from one unit to another: {map, rows, columns}; null if the target cannot see the source. */
  async map(pair, unit, source) {
    const found = await this.inputs(pair, unit);
    const at = found.units.indexOf(source);
    return at < 0 ? null : { map: found.maps[at], rows: found.rows, columns: found.columns };
  }

  /** The best picture of a unit: {url, recipe}, or null. A recipe can be asked for. */
  picture(layer, unit, recipe = null) {
    const row = this.rows.get(layer);
    if (!row) return null;
    const own = Object.keys(row.pictures).filter((name) => !name.includes(".") && name !== "examples" && !BEST.includes(name));
    const found = (recipe ? [recipe] : [...BEST, ...own]).find((name) => within(row.pictures[name]?.made, unit));
    return found ? { url: this.url(`images/${row.path}/${found}/${unit}.webp`), recipe: found } : null;
  }

  /** The recipe whose sprite sheets show most of a layer; null without any. */
  wallRecipe(layer) {
    const known = Object.entries(this.rows.get(layer)?.pictures ?? {}).filter(([, about]) => about.wall);
    known.sort(([a, x], [b, y]) => counted(y.made) - counted(x.made) || rank(a) - rank(b));
    return known[0]?.[0] ?? null;
  }

  /** Where tiles of a layer lie: {of(unit) → {url, x, y, columns, rows}, or null without a picture}; null without a wall. */
  sprites(layer, recipe = this.wallRecipe(layer)) {
    const key = `${layer}\n${recipe}`;
    if (!this.sheets.has(key)) this.sheets.set(key, this.laidOut(layer, recipe)); // of 10,000 units that takes a while
    return this.sheets.get(key);
  }

  laidOut(layer, recipe) {
    const row = this.rows.get(layer);
    const about = row?.pictures[recipe];
    if (!about?.wall) return null;
    const units = unfolded(about.wanted);
    const place = new Map(units.map((unit, i) => [unit, i]));
    const columns = Math.min(COLUMNS, units.length);
    const version = counted(about.made);
    return {
      of: (unit) => {
        const at = place.get(unit);
        if (at === undefined || !within(about.made, unit)) return null;
        const sheet = Math.floor(at / ON_ONE);
        const on = Math.min(units.length - sheet * ON_ONE, ON_ONE);
        const wide = Math.min(columns, on);
        const rest = at % ON_ONE;
        return {
          url: `${this.url(`walls/${row.path}/${recipe}/${sheet}.webp`)}?made=${version}`,
          x: rest % wide, y: Math.floor(rest / wide), columns: wide, rows: Math.ceil(on / wide),
        };
      },
    };
  }
}

const rank = (recipe) => (BEST.includes(recipe) ? BEST.indexOf(recipe) : BEST.length);

function maps(units, values, rows, columns) {
  const size = rows * columns;
  return { units, rows, columns, maps: units.map((_, i) => values.subarray(i * size, (i + 1) * size)) };
}

/** L2 norm of a map, of its positive or of its negative part: what weightatlas.Weights.top sorts by. */
export function strength(map, by = "l2") {
  let sum = 0;
  for (const value of map) {
    const part = by === "excite" ? Math.max(value, 0) : by === "inhibit" ? Math.max(-value, 0) : value;
    sum += part * part;
  }
  return Math.sqrt(sum);
}

/**
 * The strongest of {units, maps} by "l2", "excite" or "inhibit": {units, maps, strengths, share, of}; `share` is the part
 * of the total squared norm that the first k hold, `of` how many there are with any weight. Of equals the smaller number first.
 */
export function strongest({ units, maps: all, ...rest }, by, k) {
  const strengths = all.map((map) => strength(map, by));
  const squares = all.map((map) => strength(map) ** 2);
  const order = units.map((_, i) => i).filter((i) => strengths[i] > 0);
  order.sort((a, b) => strengths[b] - strengths[a] || units[a] - units[b]);
  const top = order.slice(0, k);
  const total = squares.reduce((a, b) => a + b, 0);
  return {
    ...rest,
    units: top.map((i) => units[i]),
    maps: top.map((i) => all[i]),
    strengths: top.map((i) => strengths[i]),
    share: total ? top.reduce((sum, i) => sum + squares[i], 0) / total : 1,
    of: squares.filter((v) => v > 0).length,
    sortable: order.length,
  };
}

export const sum = (map) => map.reduce((total, value) => total + value, 0);

/** The magnitude of the largest of some maps. */
export const largest = (list) => list.reduce((most, map) => map.reduce((m, v) => (Math.abs(v) > m ? Math.abs(v) : m), most), 0);
