/** Rows of what a unit reads and what it acts on: pictures glued to maps, one row a layer. */

import { addressOf, parsedUnit } from "./addresses.js";
import { Missing, largest, strongest, sum } from "./atlas.js";
import { h } from "./dom.js";
import { downloads } from "./downloads.js";
import { percent, short, signed } from "./numbers.js";
import { agreementWords, empty, heading, legend, note, readAs, shareBar, tile, turn } from "./parts.js";

const FIRST = 18; // tiles of a row before "show more"
const STEP = 28;
const PARTS = { l2: "norm", excite: "norm of the exciting part", inhibit: "norm of the inhibiting part" };
const WORDS = { l2: "strongest", excite: "most exciting", inhibit: "most inhibiting" };

/** How many tiles of a row the address asks for: in=LAYER:28, out=LAYER:42. */
function asked(params, direction, layer) {
  const found = params.getAll(direction).map(parsedUnit).find((row) => row?.layer === layer);
  return Math.max(1, found?.unit || FIRST);
}

function withMore(params, direction, layer, count) {
  const others = params.getAll(direction).filter((text) => parsedUnit(text)?.layer !== layer);
  return { [direction]: [...others, addressOf(layer, count)] };
}

/**
 * Everything of one row, read and sorted: {pair, direction, other, found, all}. `direction` is "in" (sources) or "out"
 * (targets). A row that cannot be read holds the error instead.
 */
export async function row(here, pair, direction, unit, by) {
  const { atlas, params } = here;
  const other = direction === "in" ? pair.source : pair.target;
  try {
    const all = await (direction === "in" ? atlas.inputs(pair, unit) : atlas.outputs(pair, unit));
    const extra = direction === "in" && pair.agreement?.mean_cosine !== undefined ? await atlas.quietly(atlas.connections(pair, "agreement")) : null;
    const top = direction === "out" ? await atlas.quietly(atlas.connections(pair, "top")) : null;
    const found = strongest(all, by, asked(params, direction, other));
    return { pair, direction, other, found, cosine: extra?.cosine?.[unit], top };
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    return { pair, direction, other, error };
  }
}

/** The row on the page. `scale` is shared by the page, or that of the row. */
export function drawnRow(here, { layer, unit }, about, by, scale, title) {
  const { pair, direction, other, found, error } = about;
  const [, , rows, columns] = pair.shape;
  const positions = pair.uniform[0] * pair.uniform[1];
  const size = `${other}, ${uniformWords(pair) ?? `${rows}×${columns}`}`;
  if (error) return h("section", null, heading(title, size), empty(error.message));
  const own = scale ?? (largest(found.maps) || 1);
  return h("section", { class: "connections", data: { layer: other, direction } },
    heading(title, size, downloads(() => view(here, { layer, unit }, about, by, own))),
    note(...words(about, by, unit)),
    h("div", { class: "tiles" }, found.units.map((number, i) => {
      const ends = direction === "in"
        ? { from: { layer: other, unit: number }, into: { layer, unit } }
        : { from: { layer, unit }, into: { layer: other, unit: number } };
      const map = { values: found.maps[i], rows, columns, scale: own, origin: pair.origin, dilation: pair.dilation };
      return tile(here.atlas, { layer: other, unit: number }, map, ends, `${PARTS[by]} ${short(found.strengths[i] * Math.sqrt(positions))}, sum ${signed(sum(found.maps[i]) * positions)}`);
    })),
    found.units.length ? legend(own, scale ? "one scale for the page" : "one scale for the row") : null,
    more(here, about));
}

/** Behind a global pooling a map is the same at all positions, and kept once. */
export const uniformWords = ({ uniform: [rows, columns] }) => (rows * columns > 1 ? `the same at all ${rows}×${columns} positions` : null);

function words({ pair, direction, found, cosine, top }, by, unit) {
  const shown = found.units.length;
  const word = shown === 1 ? "unit" : "units";
  if (direction === "out") {
    const all = top?.outputs?.shares?.[unit];
    const kept = all === undefined || all === null ? "" : ` All that are kept hold ${percent(all)} of what it sends there.`;
    return [`The ${shown} ${word} of ${pair.target} that it acts on most${by === "l2" ? "" : `, ${WORDS[by]} first`}.${kept} ${pair.replaced?.length ? "Expanded: " : "Exact, everything between is linear. "}`, readAs(pair)];
  }
  return [
    `${shown} ${WORDS[by]} of ${found.of} hold `, shareBar(found.share), ` ${percent(found.share)} of the squared norm. `,
    pair.replaced?.length ? "Expanded: " : "Exact, everything between is linear. ", readAs(pair), readAs(pair) ? " · " : "", agreementWords(cosine, pair.agreement),
  ];
}

function more(here, { direction, other, found }) {
  const { params } = here;
  const [shown, all] = [found.units.length, found.sortable];
  const links = [];
  if (shown < all) {
    const next = Math.min(all, shown + STEP);
    links.push(turn(withMore(params, direction, other, next), { class: "button", "data-key": `more ${direction} ${other}` }, `show ${next - shown} more of ${all - shown}`));
  }
  if (shown > FIRST) links.push(turn(withMore(params, direction, other, FIRST), { class: "button", "data-key": `less ${direction} ${other}` }, "show fewer"));
  return links.length ? h("p", { class: "more" }, links) : null;
}

/** A row as downloads take it. */
function view(here, { layer, unit }, { pair, direction, other, found, cosine }, by, scale) {
  const [, , rows, columns] = pair.shape;
  const name = addressOf(layer, unit);
  const tiles = found.units.map((number, i) => {
    const far = addressOf(other, number);
    return {
      label: String(number), from: direction === "in" ? far : name, into: direction === "in" ? name : far,
      picture: here.atlas.picture(other, number)?.url ?? null, values: found.maps[i], rows, columns, origin: pair.origin, dilation: pair.dilation,
    };
  });
  const caption = `${found.units.length} ${WORDS[by]}; they hold ${percent(found.share)}. ${readAs(pair)}. ${direction === "in" ? agreementWords(cosine, pair.agreement) : ""}`;
  return { name: `${name}_${direction === "in" ? "from" : "to"}_${other}`, title: direction === "in" ? `${name} ← ${other}` : `${name} → ${other}`, caption, scale, tiles };
}

