/** One tile of a layer's wall: a link to the unit, its picture or its factors, and its numbers in the tip. */

import { addressOf, link } from "../../addresses.js";
import { h } from "../../dom.js";
import { percent, short } from "../../numbers.js";
import { spriteStyle } from "../../parts.js";

/** unit → {link, cell} for the wall. */
export function tiles(here, row, view) {
  const { atlas } = here;
  const sprites = atlas.sprites(row.name);
  const marks = markedBy(view.families);
  const picture = (unit) => (view.tiles === "factors" ? view.factors.picture(unit) : seen(atlas, row.name, unit, sprites));
  return (unit) => {
    const name = addressOf(row.name, unit);
    const mark = marks.get(unit);
    const selected = view.chosen.has(unit);
    const words = describe(name, unit, view, mark);
    return {
      cell: { class: selected ? "cell selected" : "cell", "aria-selected": view.select ? String(selected) : null },
      link: h("a", { href: link({ unit: name }), "aria-label": words[0] + (mark ? `, in ${mark.names.join(", ")}` : ""), "data-tip": words.join("\n"), "data-key": `wall:${unit}`, data: { unit } },
        picture(unit) ?? h("span", { class: "pic none" }),
        mark ? h("b", { class: "letter", "aria-hidden": "true" }, mark.letters.join("")) : null,
        view.size === "s" ? null : h("code", { "aria-hidden": "true", class: view.dead.has(unit) ? "dead" : null }, String(unit))),
    };
  };
}

function seen(atlas, layer, unit, sprites) {
  const place = sprites?.of(unit);
  if (place) return h("span", { class: "pic", style: spriteStyle(place) });
  const found = atlas.picture(layer, unit);
  return found ? h("img", { class: "pic", src: found.url, alt: "", loading: "lazy", decoding: "async" }) : null;
}

function describe(name, unit, view, mark) {
  const { about, activity, reached, factors } = view;
  const explained = view.tiles === "factors" ? factors.explained(unit) : null;
  return [
    name,
    about?.norms?.[unit] != null ? `norm ${short(about.norms[unit])}` : null,
    view.dead.has(unit) ? "dead: it never fires" : activity?.rate?.[unit] != null ? `fires at ${percent(activity.rate[unit])} of positions` : null,
    view.tiles === "pictures" && reached?.[unit] != null ? `its picture reaches ${short(reached[unit])}` : null,
    explained != null ? `factors hold ${percent(explained)} of its squared weights` : null,
    ...(mark?.names ?? []),
  ].filter(Boolean);
}

/** The letters that families wear on the wall: a, b, … */
export const letterOf = (number) => (number < 26 ? String.fromCharCode(97 + number) : String(number + 1));

function markedBy(families) {
  const marks = new Map();
  families.forEach(({ name, units }, number) => {
    for (const unit of units) {
      if (!marks.has(unit)) marks.set(unit, { letters: [], names: [] });
      marks.get(unit).letters.push(letterOf(number));
      marks.get(unit).names.push(name);
    }
  });
  return marks;
}
