/** The page of one unit: what it detects, what it reads, what it acts on, and how far each picture can be trusted. */

import { addressOf, link, parsedUnit, within, written } from "../addresses.js";
import { Missing, largest } from "../atlas.js";
import { drawnRow, row } from "../connections.js";
import { copyButton } from "../copying.js";
import { h } from "../dom.js";
import { factorSection } from "../factors.js";
import { onImage } from "../onimage.js";
import { percent, short } from "../numbers.js";
import { choice, empty, facts, heading, note, to, unitLink, unitPicture } from "../parts.js";
import { pinButton, togglePin } from "../pins.js";
import { citation, provenance } from "../provenance.js";
import { largePicture } from "../variants.js";

const AHEAD = 60; // milliseconds: the unit that was asked for comes first

const SORTS = [["l2", "L2", "by the norm of the map"], ["excite", "excite", "by the norm of its positive part"], ["inhibit", "inhibit", "by the norm of its negative part"]];

export async function render(here) {
  const { atlas, params } = here;
  const at = parsedUnit(params.get("unit"));
  if (!at) throw new Missing(`“${params.get("unit")}” is no address of a unit, such as ${addressOf(atlas.layers[0]?.name ?? "layer", 0)}`);
  const about = atlas.unit(at);
  const by = SORTS.some(([name]) => name === params.get("sort")) ? params.get("sort") : "l2";
  const [inputs, outputs, known, seen, image] = await Promise.all([
    Promise.all(atlas.into(at.layer).map((pair) => row(here, pair, "in", at.unit, by))),
    Promise.all(atlas.from(at.layer).map((pair) => row(here, pair, "out", at.unit, by))),
    about.described ? atlas.quietly(atlas.about(at.layer, "units")) : null,
    about.activations === true ? atlas.quietly(atlas.about(at.layer, "activations")) : null,
    onImage(here, at),
  ]);
  const nearest = inputs.find((r) => !r.error && r.pair.span === 1) ?? inputs.find((r) => !r.error);
  const factors = nearest ? await factorSection(here, nearest.pair, at.unit).catch(failed("Factors")) : null;
  const picture = largePicture(here, at.layer, at.unit);
  const name = addressOf(at.layer, at.unit);
  return {
    title: name,
    body: h("div", { class: "unit" }, identity(here, at, about, known, seen, picture, nearest, image), h("div", { class: "rows" },
      rowsOf(here, at, inputs, by, "in"), factors, rowsOf(here, at, outputs, by, "out"), alike(here, at, known))),
    keys: keys(here, at, about, by),
    shown: picture.shown,
    depends: () => [
      Object.keys(atlas.layer(at.layer).pictures).filter((folder) => within(atlas.layer(at.layer).pictures[folder].made, at.unit)),
      [...atlas.into(at.layer), ...atlas.from(at.layer)].map(({ source, target, factors: f, agreement, bytes }) => [source, target, f, agreement, bytes]),
      atlas.layer(at.layer).described, atlas.layer(at.layer).activations, atlas.families.filter((f) => f.layer === at.layer),
    ],
  };
}

const failed = (title) => (error) => {
  if (error instanceof Missing) return h("section", null, heading(title), empty(error.message));
  throw error;
};

const TITLES = { in: ["Inputs", "One layer further back"], out: ["Outputs", "One layer further on"] };

function rowsOf(here, at, rows, by, direction) {
  const shared = here.params.get("scale") === "shared";
  const all = rows.filter((r) => !r.error).flatMap((r) => r.found.maps);
  const scale = shared ? largest(all) || 1 : null;
  const [first, next] = TITLES[direction];
  const title = (r, i) => (i === 0 ? first : r.pair.span === 2 ? next : `${direction === "in" ? "From" : "To"} ${r.other}`);
  const drawn = rows.map((r, i) => drawnRow(here, at, r, by, scale, title(r, i)));
  if (!rows.length) {
    const why = direction === "in" ? "The atlas has no weights into this layer." : "The atlas has no weights from this layer: it is the last one, or they were left out.";
    return h("section", null, heading(first), empty(why, " ", h("a", { href: link({ layer: at.layer }) }, "The layer's page"), " tells more."));
  }
  if (direction === "in") {
    drawn[0].querySelector(".tools")?.prepend(choice("sort", SORTS, by, "sort by"), choice("scale", [["row", "row", "a scale for each row"], ["shared", "shared", "one scale for all rows of the page"]], shared ? "shared" : "row", "colour scale"));
  }
  return drawn;
}

function identity(here, at, about, known, seen, picture, nearest, image) {
  const { atlas } = here;
  const field = about.receptive_field?.size;
  const families = atlas.families.filter((f) => f.layer === at.layer && f.units.includes(at.unit));
  return h("aside", { class: "id" },
    h("div", { class: "portrait" }, picture.parts),
    h("div", { class: "who" },
      h("h1", null, h("span", { class: "faint" }, `${at.layer}:`), String(at.unit)),
      steps(here, at, about),
      facts([
        ["layer", to({ layer: at.layer }, null, `${about.type}, ${about.units} units`)],
        ["grid", about.grid ? about.grid.join(" × ") : null],
        ["receptive field", field ? `${field.map((v) => Math.round(v)).filter((v, i, a) => !i || v !== a[0]).join(" × ")} px` : about.receptive_note || "—"],
        ["norm of its weights", known ? short(known.norms[at.unit]) : null, "L2 norm of all it reads from the nearest layers"],
        ["input norm shown", nearest ? percent(nearest.found.share) : null, "share of the squared norm that the first row shows"],
        ["firing rate", seen ? percent(seen.rate[at.unit]) : "not measured", seen ? `share of positions above zero on ${seen.images?.count ?? "the"} images` : null],
        ["activation", seen ? `${short(seen.mean[at.unit])} ± ${short(seen.deviation[at.unit])}` : null, "mean and standard deviation over positions of the images"],
        ["least, most", seen ? `${short(seen.least[at.unit])}, ${short(seen.most[at.unit])}` : null],
        ["families", families.length ? families.map((f, i) => [i ? ", " : "", to({ grid: `${f.layer}:${written(f.units)}` }, null, f.name)]) : null],
      ]),
      h("div", { class: "actions" }, pinButton(here, at.layer, at.unit), copyButton("copy link", () => location.href), copyButton("copy citation", () => citation(atlas, addressOf(at.layer, at.unit)))),
      image, provenance(atlas)));
}

/** Previous and next unit of the layer. */
function steps({ params }, at, about) {
  const step = (unit, words, arrow) =>
    unit < 0 || unit >= about.units ? h("span", { class: "button off", "aria-hidden": "true" }, arrow) : to({ unit: addressOf(at.layer, unit), ...kept(params) }, { class: "button", rel: unit < at.unit ? "prev" : "next", "aria-label": words, "data-tip": addressOf(at.layer, unit), "data-key": words }, arrow);
  return h("nav", { class: "steps", "aria-label": "neighbours in the layer" }, step(at.unit - 1, "previous unit", "←"), step(at.unit + 1, "next unit", "→"), to({ layer: at.layer }, { class: "button" }, "all units"));
}

function alike(here, at, known) {
  const similar = known?.similar?.[at.unit] ?? [];
  if (!similar.length) return null;
  return h("section", null, heading("Similar units", at.layer),
    note("Those that read the most alike sources: cosine between their strengths over the units they read."),
    h("div", { class: "tiles similar" }, similar.map(([unit, cosine]) => h("div", { class: "tile" },
      unitLink(at.layer, unit, { "data-tip": `${addressOf(at.layer, unit)}\ncosine ${short(cosine)}` }, unitPicture(here.atlas, at.layer, unit)),
      h("code", null, `${unit} · ${short(cosine, 2)}`)))));
}

function keys(here, at, about, by) {
  const exists = (unit) => unit >= 0 && unit < about.units;
  const beside = (step) => () => {
    if (!exists(at.unit + step)) return;
    here.go({ unit: addressOf(at.layer, at.unit + step), ...kept(here.params) });
    if (exists(at.unit + 2 * step)) setTimeout(() => ahead(here.atlas, at.layer, at.unit + 2 * step), AHEAD);
  };
  const order = SORTS.map(([name]) => name);
  return {
    j: beside(1), k: beside(-1), u: () => here.go({ layer: at.layer }), p: () => togglePin(here, addressOf(at.layer, at.unit)),
    s: () => here.change({ sort: order[(order.indexOf(by) + 1) % order.length] }),
  };
}

/** Who steps through a layer will want the unit after the next one: what its rows are made of is read beforehand. */
function ahead(atlas, layer, unit) {
  const readings = [...atlas.into(layer).map((pair) => atlas.inputs(pair, unit)), ...atlas.from(layer).map((pair) => atlas.outputs(pair, unit))];
  for (const reading of readings) reading.catch(() => {}); // its own page tells
}

/** What of the view stays when one goes to a neighbour. */
const kept = (params) => Object.fromEntries(["sort", "scale", "picture"].filter((n) => params.has(n)).map((n) => [n, params.get(n)]));
