/** The large picture of a unit, and its varieties: what excites it, what it fires against, and so on. */

import { addressOf, within } from "./addresses.js";
import { h } from "./dom.js";
import { described } from "./exif.js";
import { count, percent, short } from "./numbers.js";
import { choice, note } from "./parts.js";

/** What each kind of picture shows: [name, words]. Those over the units of an earlier layer end in "@LAYER". */
const KINDS = {
  display: ["full", "what excites it"],
  max: ["max", "what excites it, with many steps"],
  quick: ["quick", "what excites it, in few steps"],
  "display.negative": ["against", "what it fires against"],
  "display.diverse": ["varied", "four unlike pictures that excite it"],
  "display.positions": ["positions", "what it looks for at each position of its weights"],
  "display.factors": ["factors", "the directions of its factors"],
  examples: ["photos", "crops of the images that excite it most, around what its position sees"],
};
const ORDER = Object.keys(KINDS);
const kind = (folder) => folder.split("@")[0];
const ASKABLE = ["display", "negative", "diverse", "positions", "factors"];

/** The pictures that there are of a unit, best first: [{recipe, name, words}]. */
export function variants(atlas, layer, unit) {
  const row = atlas.layer(layer);
  const there = Object.keys(row.pictures).filter((folder) => within(row.pictures[folder].made, unit));
  const place = (folder) => (ORDER.includes(kind(folder)) ? ORDER.indexOf(kind(folder)) : 2.5);
  return there.sort((a, b) => place(a) - place(b)).map((recipe) => {
    const [name, words] = KINDS[kind(recipe)] ?? [recipe, "what excites it, by a recipe of one's own"];
    return { recipe, name, words };
  });
}

/** The big picture with its switch; `shown` fills in what the file says of itself. */
export function largePicture(here, layer, unit) {
  const { atlas, params } = here;
  const found = variants(atlas, layer, unit);
  const chosen = found.find((v) => v.recipe === params.get("picture")) ?? found[0];
  const facts = h("p", { class: "note", id: "picture-facts" });
  const parts = [
    chosen ? big(atlas, layer, unit, chosen) : h("div", { class: "pic none big", role: "img", "aria-label": `no picture of ${addressOf(layer, unit)} yet` }),
    found.length > 1 ? choice("picture", found.map((v) => [v.recipe, v.name, v.words]), chosen.recipe, "which picture") : null,
    chosen ? facts : note("No picture yet. ", here.live.can("pictures") ? "" : here.live.why),
    ask(here, layer, unit, found),
  ];
  return { parts, shown: () => chosen && tell(atlas, layer, unit, chosen, facts) };
}

function big(atlas, layer, unit, { recipe, words }) {
  const name = addressOf(layer, unit);
  const url = atlas.url(`images/${atlas.layer(layer).path}/${recipe}/${unit}.webp`);
  const image = h("img", { class: `big ${kind(recipe).replace(".", "-")}`, src: url, alt: `${name}: ${words}`, decoding: "async" });
  return image;
}

/** How the picture was made and how far it can be trusted, from the file itself. */
async function tell(atlas, layer, unit, { recipe, words }, box) {
  try {
    const about = described(await atlas.bytes(`images/${atlas.layer(layer).path}/${recipe}/${unit}.webp`));
    if (about) box.replaceChildren(`${words[0].toUpperCase()}${words.slice(1)}. `, ...told(about, recipe));
  } catch (error) {
    box.replaceChildren(error.message);
  }
}

function told(about, recipe) {
  if (kind(recipe) === "examples") {
    const rows = (about.examples ?? []).map((e) => `${e.image} at (${e.at.join(", ")}): ${short(e.activation)}`);
    return [h("span", { class: "lines" }, rows.join(" · "))];
  }
  const first = (value) => (Array.isArray(value) ? value[0] : value);
  const [reached, viewed, alive] = [first(about.reached), first(about.viewed), first(about.alive)];
  if (alive === false) return [h("b", null, "No result: nothing excites this unit.")];
  const words = [
    reached === undefined || reached === null ? null : `Its objective reached ${short(reached)}`,
    reached && viewed !== undefined && viewed !== null ? `${percent(viewed / reached)} of it in other views` : null,
    about.settings?.steps ? `${count(about.settings.steps)} steps` : null,
  ];
  const tip = [about.settings?.name && `recipe ${about.settings.name}`, about.seed !== undefined && `seed ${first(about.seed)}`].filter(Boolean).join("\n");
  return [h("span", { "data-tip": tip || null }, `${words.filter(Boolean).join(" · ")}.`)];
}

/** Buttons that ask for pictures that are not there, where there is somebody to make them. */
function ask(here, layer, unit, found) {
  if (!here.live.can("pictures")) return null;
  const there = new Set(found.map((v) => kind(v.recipe).replace("display.", "")));
  if (found.length === 0) there.delete("quick");
  const wanted = (here.live.site.recipes ?? ASKABLE).filter((r) => (ASKABLE.includes(r) || (r === "quick" && !found.length)) && !there.has(r));
  const buttons = wanted.map((recipe) => {
    const request = { what: "picture", layer, unit, recipe };
    const about = here.live.about(request);
    const name = (KINDS[recipe] ?? KINDS[`display.${recipe}`])[0];
    const trouble = about?.error ? h("p", { class: "error", role: "alert" }, `${name}: ${about.error}`) : null;
    return [trouble, h("button", { type: "button", disabled: Boolean(about?.ask), "data-key": `ask ${recipe}`, "data-tip": (KINDS[recipe] ?? KINDS[`display.${recipe}`])[1], on: { click: () => here.live.ask(request) } }, about?.ask ? `${name} …` : trouble ? `${name}: try again` : name)];
  });
  return buttons.length ? h("div", { class: "asks" }, h("span", { class: "note" }, "compute"), buttons) : null;
}
