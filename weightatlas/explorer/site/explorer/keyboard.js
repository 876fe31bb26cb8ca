/** Keys: "/" searches, arrows and j k go to neighbours, u up, p pins, c shows the circuit, i takes an image, ? helps. */

import { link, changed } from "./addresses.js";

/** What keys do, for the help page: [keys, words]. */
export const KEYS = [
  ["/", "search"],
  ["← →  or  k j", "previous and next unit of the layer"],
  ["u", "up: from a unit to its layer, from a layer to the model"],
  ["p", "pin or unpin the unit of this page, or both units of an edge"],
  ["c", "the circuit of all pinned units"],
  ["i", "on an image: what the network does there, and why; on that page, choose a file"],
  ["s", "sort by the next rule: inputs of a unit, or a grid"],
  ["t", "transpose a grid"],
  ["x", "red/blue or orange/blue"],
  ["?", "this page"],
];

/** Keys that belong to something else: what is written, and in a grid all that are no letters. */
const busy = (event) =>
  event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=file]), select, textarea, dialog, [role=listbox]")
  || ((event.key.length > 1 || event.key === " ") && event.target.closest?.("[role=grid]"));

/** The button that chooses an image has the focus; `open` opens the choice as well. */
function chooseImage(open) {
  const file = document.getElementById("image-file");
  file?.focus();
  if (open) file?.click();
}

/** @param current gives the page that is shown, with `keys` of its own: {key: function} */
export function keyboard(current, go) {
  document.addEventListener("keydown", (event) => {
    if (busy(event)) return;
    const { keys = {}, params, page } = current();
    const own = { ArrowLeft: keys.k, ArrowRight: keys.j, ...keys }[event.key];
    const action = own ?? {
      "/": () => document.getElementById("find")?.focus(),
      "?": () => go(link({ help: "keys" })),
      c: () => go(link({ circuit: "board" })),
      i: () => (page === "lens" ? chooseImage(true) : go(link({ lens: "image" })).then(() => chooseImage(false))),
      x: () => go(changed({ palette: params?.get("palette") === "colorblind" ? null : "colorblind" }), { same: true }),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
