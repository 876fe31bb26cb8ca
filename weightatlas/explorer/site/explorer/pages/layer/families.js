/** The families of a layer: seen, named, renamed, dropped. Where they are kept, the page says. */

import { familiesInAddress, familyInAddress } from "../../addresses.js";
import { h, say } from "../../dom.js";
import { familyGroups } from "../../familystrips.js";
import { heading, note } from "../../parts.js";
import { letterOf } from "./tiles.js";

const LONGEST = 200; // characters of a name, as weightatlas/store/families.py takes them

export function familiesSection(here, row, { families }) {
  const kept = here.live.can("families");
  const where = kept ? "Names are kept in this atlas, in families.json." : "Names are kept in this page's address: its link holds them.";
  return h("section", { class: "own-families" },
    heading("Families", null),
    note(families.length ? "Their letters are on the tiles. " : "None yet: select units above and name them. ", where),
    familyGroups(here, families, (family) => ({ badge: letterOf(families.indexOf(family)), tools: tools(here, family) })));
}

function tools(here, family) {
  if (family.by === "rule" || (family.by === "people" && !here.live.can("families"))) return null;
  return h("div", { class: "familytools" },
    h("details", null, h("summary", { class: "button", "data-key": `rename=${family.name}` }, "rename"),
      nameForm(here, { layer: family.layer, units: family.units, key: family.name, words: "rename", before: family })),
    h("button", { type: "button", "data-key": `drop=${family.name}`, "aria-label": `drop the family ${family.name}`, on: { click: (event) => tried(event.target.parentElement, () => drop(here, family)) } }, "drop"));
}

/** A field for a name and a button. `before` is the family that gets another name; `done` changes the address afterwards. */
export function nameForm(here, { layer, units, key, words, before = null, done = {} }) {
  const field = h("input", { type: "text", value: before?.name ?? "", maxlength: LONGEST, required: true, placeholder: "curves, fur, …", "aria-label": "name of the family", autocomplete: "off", "data-key": `name=${key}` });
  return h("form", { class: "naming", on: { submit: (event) => {
    event.preventDefault();
    const name = field.value.trim();
    field.blur(); // a page is not drawn anew while somebody writes
    if (name) tried(event.target, () => name_(here, { name, layer, units }, before, done));
  } } }, field, h("button", { "data-key": `givename=${key}` }, words));
}

async function tried(place, action) {
  try {
    await action();
  } catch (error) {
    place.querySelector(".error")?.remove();
    place.append(h("span", { class: "error", role: "alert" }, error.message));
  }
}

async function name_(here, family, before, done) {
  if (before?.by === "people" || (!before && here.live.can("families"))) {
    here.atlas.named = await here.live.name(family);
    if (before && before.name !== family.name) here.atlas.named = await here.live.drop(before.name);
    await here.change(done);
  } else {
    const others = familiesInAddress(here.params).filter((one) => one.name !== family.name && one.name !== before?.name);
    await here.change({ ...done, family: [...others, family].map(familyInAddress) });
  }
  say(`${family.name} is named`);
}

async function drop(here, family) {
  if (family.by === "people") {
    here.atlas.named = await here.live.drop(family.name);
    await here.rerender();
  } else {
    await here.change({ family: familiesInAddress(here.params).filter((one) => one.name !== family.name).map(familyInAddress) });
  }
  say(`${family.name} is dropped`);
}
