/** Choosing units on a wall, and what can be done with those that are chosen. */

import { numbers, link, written } from "../../addresses.js";
import { h, say } from "../../dom.js";
import { counting } from "../../numbers.js";
import { turn } from "../../parts.js";
import { nameForm } from "./families.js";

const MOST = 500; // more would not fit into an address that every server takes

/** The units that the address says are chosen. */
export const chosen = (params, units) => new Set((numbers(params.get("sel")) ?? []).filter((unit) => unit < units).slice(0, MOST));

let last = { layer: null, index: 0 }; // the tile where a range would begin

/** A click or the space key chooses a tile, with shift all from the last one. */
export function selecting(here, wall, view) {
  const choose = (index, range) => {
    const units = range && last.layer === view.layer && last.index < wall.units.length ? wall.units.slice(Math.min(last.index, index), Math.max(last.index, index) + 1) : [wall.units[index]];
    const now = new Set(view.chosen);
    const on = range || !now.has(wall.units[index]);
    for (const unit of units) now[on ? "add" : "delete"](unit);
    last = { layer: view.layer, index };
    if (now.size > MOST) return say(`at most ${MOST} units can be chosen`);
    return here.change({ sel: written([...now].sort((a, b) => a - b)) || null }, { replace: true });
  };
  const at = (event) => event.target.closest?.("a[data-at]")?.dataset.at;
  wall.element.classList.add("selecting");
  wall.element.addEventListener("click", (event) => {
    const index = at(event);
    if (index === undefined || event.ctrlKey || event.metaKey || event.altKey || event.detail === 0) return; // Enter opens the unit
    event.preventDefault();
    choose(Number(index), event.shiftKey);
  });
  wall.element.addEventListener("keydown", (event) => {
    const index = at(event);
    if (event.key !== " " || index === undefined) return;
    event.preventDefault();
    choose(Number(index), event.shiftKey);
  });
}

/** What can be done with the chosen units. Stays at the lower edge of the window while the wall is there. */
export function selectionBar(here, row, { chosen: set, units }) {
  const list = [...set].sort((a, b) => a - b);
  const visible = units.length <= MOST;
  return h("div", { class: "selection", role: "region", "aria-label": "chosen units" },
    h("p", null, list.length ? [h("b", null, counting(list.length, "unit")), " chosen: ", h("code", null, shortened(written(list)))] : "Click tiles to choose units; with shift, all from the last one. The space key does the same."),
    list.length ? [
      nameForm(here, { layer: row.name, units: list, key: "new", words: "name the family", done: { sel: null, select: null } }),
      h("a", { class: "button", href: link({ grid: `${row.name}:${written(list)}` }), "data-key": "togrid" }, "see as a grid"),
      turn({ sel: null }, { class: "button", "data-key": "clear" }, "clear"),
    ] : visible ? turn({ sel: written([...units].sort((a, b) => a - b)) }, { class: "button", "data-key": "all" }, `choose all ${units.length}`) : null);
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, text.lastIndexOf(",", 56))}, …` : text);
