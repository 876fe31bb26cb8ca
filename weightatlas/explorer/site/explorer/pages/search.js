/** Search: units, layers and families that a text can mean, each with pictures; and the tables of notable edges. */

import { addressOf, parsedUnit, written } from "../addresses.js";
import { Missing } from "../atlas.js";
import { h } from "../dom.js";
import { drawMaps, edgeTable } from "../edgetables.js";
import { TABLES, familyPage, found, nearest } from "../finding.js";
import { counting } from "../numbers.js";
import { empty, heading, note, to, turn, unitPicture } from "../parts.js";
import { layerHere } from "../searchbox.js";

const FIRST = 24; // results of a kind before "show more"
const STRIP = 9; // pictures of a layer or family

export async function render(here) {
  const text = (here.params.get("search") ?? "").trim();
  const table = TABLES.find((one) => one.name === text.toLowerCase());
  if (table) {
    return {
      title: table.name,
      body: [h("h1", null, capital(table.name)), others(table), await edgeTable(here, table.key)],
      shown: (main) => drawMaps(here, main, parsedUnit),
    };
  }
  const most = Math.max(FIRST, Math.min(2000, Number.parseInt(here.params.get("n"), 10) || FIRST));
  const all = found(here.atlas, text, { near: layerHere(here.params), most: most + 1 });
  const kinds = text ? [unitResults(here, all.units, most), layerResults(here, all.layers, most), familyResults(here, all.families, most), tableResults(all.tables)].filter(Boolean) : [];
  return {
    title: text ? `search: ${text}` : "search",
    body: [
      h("h1", null, "Search ", text && h("span", { class: "faint" }, `“${text}”`)),
      ...(kinds.length ? kinds : [text ? await nothing(here, text) : null, whatThereIs(here)]),
    ],
  };
}

const capital = (words) => words[0].toUpperCase() + words.slice(1);

const others = (table) => h("p", { class: "note" }, "See also ", TABLES.filter((one) => one !== table).map((one) => to({ search: one.name }, null, one.name)), ".");

const shownOf = (list, most) => list.slice(0, most);
const moreOf = (list, most) => (list.length > most ? h("p", { class: "note more" }, turn({ n: most + 4 * FIRST }, { class: "button", "data-key": "more" }, "show more")) : null);

function unitResults({ atlas }, units, most) {
  if (!units.length) return null;
  return h("section", null, heading("Units"),
    h("div", { class: "tiles" }, shownOf(units, most).map(({ layer, unit }) => {
      const name = addressOf(layer, unit);
      return h("div", { class: "tile" }, to({ unit: name }, { "data-tip": name }, unitPicture(atlas, layer, unit), h("code", null, name)));
    })), moreOf(units, most));
}

/** A row with some pictures: of a layer or of a family. */
function strip({ atlas }, layer, units, address, name, about) {
  return h("li", null, to(address, { class: "found" },
    h("span", { class: "strip", "aria-hidden": "true" }, units.slice(0, STRIP).map((unit) => unitPicture(atlas, layer, unit, { small: true }))),
    h("span", { class: "what" }, h("b", { class: "mono" }, name), h("span", { class: "note" }, about))));
}

function layerResults(here, rows, most) {
  if (!rows.length) return null;
  return h("section", null, heading("Layers"), h("ul", { class: "results" }, shownOf(rows, most).map((row) =>
    strip(here, row.name, Array.from({ length: Math.min(STRIP, row.units) }, (_, i) => i), { layer: row.name }, row.name,
      [row.type, counting(row.units, "unit"), row.grid ? `grid ${row.grid.join("×")}` : null].filter(Boolean).join(" · ")))),
    moreOf(rows, most));
}

const BY = { rule: "found by rule", address: "named in the address" };

function familyResults(here, families, most) {
  if (!families.length) return null;
  return h("section", null, heading("Families"), h("ul", { class: "results" }, shownOf(families, most).map((family) =>
    strip(here, family.layer, family.units, familyPage(family, written), family.name, `${counting(family.units.length, "unit")} of ${family.layer} · ${BY[family.by] ?? "named by people"}`))),
    moreOf(families, most));
}

const tableResults = (tables) =>
  tables.length ? h("section", null, heading("Edges"), h("ul", { class: "results plain" }, tables.map((one) => h("li", null, to({ search: one.name }, null, one.name), h("span", { class: "note" }, ` ${one.words}`))))) : null;

/** Why nothing was found, and what is near: a number that is too large, a layer that the atlas leaves out, a slip. */
async function nothing(here, text) {
  const { atlas } = here;
  const at = /^(.*?)\s*[:\s]\s*([0-9]{1,9})$/.exec(text);
  const layer = at?.[1] ?? text;
  const row = atlas.rows.get(layer);
  if (row) return empty(`${layer} has units 0 to ${row.units - 1}; there is no `, h("code", null, addressOf(layer, at[2])), ". ", to({ layer }, null, "All units of the layer"), ".");
  const inNetwork = await knownLayer(atlas, layer);
  if (inNetwork) return empty(h("code", null, layer), ` is a layer of this network (${counting(inNetwork.units ?? 0, "unit")}), but the atlas has no pages of it. To add it: `, h("code", null, `weightatlas build … --layers ${layer}`), ".");
  const near = nearest([...atlas.layers.map((one) => one.name), ...atlas.families.map((one) => one.name), ...TABLES.map((one) => one.name)], layer);
  return empty("Nothing here is called like ", h("code", null, text), ".", near.length ? [" Near to it: ", near.map((name, i) => [i ? ", " : "", to({ search: at && atlas.rows.has(name) ? addressOf(name, at[2]) : name }, null, name)]), "."] : null);
}

async function knownLayer(atlas, name) {
  try {
    return (await atlas.json("layers.json")).layers.find((row) => row.name === name) ?? null;
  } catch (error) {
    if (error instanceof Missing) return null;
    throw error;
  }
}

function whatThereIs(here) {
  const { atlas } = here;
  const first = atlas.layers[Math.floor(atlas.layers.length / 2)];
  if (!first) return note("This atlas has no layers yet.");
  const short = first.name.split(/[.:/]/).slice(-2).join(".");
  const example = (text, words) => h("li", null, to({ search: text }, null, h("code", null, text)), h("span", { class: "note" }, ` ${words}`));
  return h("section", null, heading("What can be searched for"), h("ul", { class: "results plain" },
    example(addressOf(first.name, Math.min(17, first.units - 1)), "a unit by its address"),
    example(`${short} ${Math.min(17, first.units - 1)}`, "or by a part of the layer's name, and its number"),
    example(short, "layers by a part of their names"),
    atlas.families[0] ? example(atlas.families[0].name, "families by a part of theirs") : null,
    TABLES.map((one) => example(one.name, one.words))));
}
