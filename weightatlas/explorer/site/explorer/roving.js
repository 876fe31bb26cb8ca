/** One tab stop for a grid of cells: arrows, Home and End move within it, as role=grid promises. */

const MOVES = {
  ArrowUp: (r, c) => [r - 1, c],
  ArrowDown: (r, c) => [r + 1, c],
  ArrowLeft: (r, c) => [r, c - 1],
  ArrowRight: (r, c) => [r, c + 1],
  PageUp: (r, c) => [r - 10, c],
  PageDown: (r, c) => [r + 10, c],
};

const clamp = (value, most) => Math.max(0, Math.min(most, value));

/**
 * Makes `box` (role=grid) walkable. `stops[row][column]` are elements that take focus; rows may hold null where there is
 * nothing to stop at. `first` is [row, column] of the tab stop to begin with, and that of Control+Home; `more(event, row, column)` hears other keys.
 */
export function roving(box, stops, first = [0, 0], more = null) {
  const places = new Map();
  stops.forEach((row, r) => row.forEach((stop, c) => {
    if (!stop) return;
    stop.tabIndex = -1;
    places.set(stop, [r, c]);
  }));
  let current = stops[first[0]]?.[first[1]] ?? places.keys().next().value;
  if (current) current.tabIndex = 0;

  const stopAt = (r, c) => {
    const row = stops[clamp(r, stops.length - 1)];
    return row[clamp(c, row.length - 1)];
  };
  box.addEventListener("focusin", (event) => {
    if (!places.has(event.target)) return;
    if (current) current.tabIndex = -1;
    current = event.target;
    current.tabIndex = 0;
  });
  box.addEventListener("keydown", (event) => {
    const place = places.get(event.target);
    if (!place || event.metaKey || event.altKey) return;
    const [r, c] = place;
    const ends = { Home: event.ctrlKey ? first : [r, 0], End: event.ctrlKey ? [Infinity, Infinity] : [r, Infinity] };
    const to = ends[event.key] ?? (event.ctrlKey ? null : MOVES[event.key]?.(r, c));
    if (!to) return more?.(event, r, c);
    event.preventDefault();
    const next = stopAt(...to);
    next?.focus();
    next?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}
