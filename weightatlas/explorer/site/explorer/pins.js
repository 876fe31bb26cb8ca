/** Pinned units: repeated `pin=LAYER:UNIT` in the address, which every link carries along; the circuit page draws them. */

import { addressOf, parsedUnit } from "./addresses.js";
import { h, say } from "./dom.js";

/** More than these would be neither seen on one board nor fit into every address. */
export const MOST_PINS = 40;

/** The pinned units [{layer, unit}], each once, in the order in which they were pinned. What is no address is left out. */
export const pinned = (params) => [...new Set(params.getAll("pin"))].map(parsedUnit).filter(Boolean);

/** Addresses of the pinned units. */
export const pinnedAddresses = (params) => pinned(params).map(({ layer, unit }) => addressOf(layer, unit));

/** Pins a unit, or takes it from the board if it is there. The page stays as it is otherwise. */
export function togglePin(here, address) {
  const now = pinnedAddresses(here.params);
  if (now.includes(address)) return setPins(here, now.filter((one) => one !== address), `${address} is unpinned`);
  return addPins(here, [address]);
}

/** Pins units as far as there is room, and says so. */
export function addPins(here, addresses) {
  const now = pinnedAddresses(here.params);
  const more = addresses.filter((one) => !now.includes(one));
  const fit = more.slice(0, MOST_PINS - now.length);
  if (fit.length < more.length) say(`at most ${MOST_PINS} units can be pinned; take some away first`);
  if (!fit.length) return undefined;
  return setPins(here, [...now, ...fit], fit.length === more.length ? `${fit.join(", ")} pinned` : null);
}

/** Pins exactly these. */
export async function setPins(here, addresses, words = null) {
  await here.change({ pin: addresses });
  if (words) say(words);
}

/** A button that pins a unit or unpins it. */
export function pinButton(here, layer, unit) {
  const address = addressOf(layer, unit);
  const now = pinnedAddresses(here.params);
  const on = now.includes(address);
  const full = !on && now.length >= MOST_PINS;
  return h("button", {
    type: "button", class: "pin", "aria-pressed": String(on), "aria-disabled": full ? "true" : null, "data-key": `pin=${address}`,
    "data-tip": full ? `at most ${MOST_PINS} units can be pinned` : on ? "take it from the circuit  (p)" : "put it on the circuit board  (p)",
    on: { click: () => togglePin(here, address) },
  }, "pin", h("span", { class: "unseen" }, ` ${address}`));
}
