/** A wall of thousands of tiles of which only those near the window are in the page: a grid that scrolls with the page itself. */

import { h } from "./dom.js";

const AROUND = 600; // pixels above and below the window that are drawn as well
const GAP = 0.4; // rem
let before = 0; // height of the wall that was drawn last: with it a page that is drawn anew does not lose its place

/**
 * A wall of units.
 *
 * options: units, in the order shown; side and caption, in rem; label; tile(unit) → {link, cell}: the link to put into a
 * cell and the cell's attributes; active, the unit that the Tab key comes to; moved(unit), told where the reader is.
 * `element` is put on the page, then `begin()` called.
 */
export class Wall {
  constructor(options) {
    Object.assign(this, options);
    this.rows = new Map(); // number of a row → its element
    this.at = Math.max(0, this.units.indexOf(this.active));
    this.element = h("div", { class: "wall", role: "grid", "aria-label": this.label, "aria-multiselectable": this.many ? "true" : null, style: { height: `${before}px` }, on: {
      keydown: (event) => this.key(event),
      focusin: (event) => this.focused(event),
    } });
  }

  begin() {
    this.lay();
    let drawn = 0;
    const later = () => {
      if (!this.element.isConnected) return end();
      drawn ||= requestAnimationFrame(() => {
        drawn = 0;
        if (this.element.isConnected) this.draw();
      });
    };
    const sized = new ResizeObserver(() => this.element.clientWidth !== this.wide && this.lay());
    const end = () => {
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
      sized.disconnect();
    };
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later, { passive: true });
    sized.observe(this.element);
    later(); // the page may still be scrolled to its place
  }

  /** How many columns there is room for, and how high all rows are. */
  lay() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = GAP * rem;
    this.wide = this.element.clientWidth;
    this.columns = Math.max(1, Math.floor((this.wide + gap) / (this.side * rem + gap)));
    const side = (this.wide + gap) / this.columns - gap;
    this.pitch = side + this.caption * rem + gap;
    this.count = Math.ceil(this.units.length / this.columns);
    const { style } = this.element;
    before = this.count * this.pitch - gap;
    style.height = `${before}px`;
    style.setProperty("--columns", this.columns);
    this.element.setAttribute("aria-rowcount", this.count);
    this.element.setAttribute("aria-colcount", this.columns);
    this.rows.clear();
    this.element.replaceChildren();
    this.draw();
  }

  /** The rows near the window, and that of the tile which has the focus or would get it, in order. */
  wanted() {
    const { top } = this.element.getBoundingClientRect();
    const first = Math.max(0, Math.floor((-top - AROUND) / this.pitch));
    const last = Math.min(this.count - 1, Math.floor((innerHeight - top + AROUND) / this.pitch));
    const numbers = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
    const own = Math.floor(this.at / this.columns);
    if (own < first) numbers.unshift(own);
    else if (own > last) numbers.push(own);
    return numbers;
  }

  draw() {
    const wanted = this.wanted();
    const kept = new Set(wanted);
    for (const [number, row] of this.rows) {
      if (kept.has(number)) continue;
      row.remove();
      this.rows.delete(number);
    }
    let next = this.element.firstElementChild;
    for (const number of wanted) {
      const row = this.rows.get(number);
      if (row) next = row.nextElementSibling;
      else this.element.insertBefore(this.row(number), next);
    }
  }

  row(number) {
    const first = number * this.columns;
    const cells = this.units.slice(first, first + this.columns).map((unit, i) => {
      const { link, cell } = this.tile(unit);
      link.dataset.at = first + i;
      link.tabIndex = first + i === this.at ? 0 : -1;
      return h("div", { role: "gridcell", "aria-colindex": i + 1, ...cell }, link);
    });
    const row = h("div", { class: "wallrow", role: "row", "aria-rowindex": number + 1, style: { top: `${number * this.pitch}px` } }, cells);
    this.rows.set(number, row);
    return row;
  }

  link = (index) => this.element.querySelector(`a[data-at="${index}"]`);

  focused({ target }) {
    const link = target.closest("a[data-at]");
    if (link) this.enter(Number(link.dataset.at));
  }

  enter(index) {
    const before = this.link(this.at);
    if (before) before.tabIndex = -1;
    this.at = index;
    const now = this.link(index);
    if (now) now.tabIndex = 0;
    this.moved?.(this.units[index]);
  }

  /** Goes to a tile, wherever it is. */
  go(index) {
    this.enter(Math.max(0, Math.min(this.units.length - 1, index)));
    this.draw();
    const link = this.link(this.at);
    link.tabIndex = 0;
    link.focus({ preventScroll: true });
    link.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const { at, columns, units } = this;
    if (event.altKey || event.metaKey) return;
    const page = columns * Math.max(1, Math.floor(innerHeight / this.pitch) - 1);
    const start = at - (at % columns);
    const within = (to) => (to < 0 || to >= units.length ? at : to);
    const paged = (by) => Math.max(at % columns, Math.min(at + by, at + columns * Math.floor((units.length - 1 - at) / columns)));
    const to = {
      ArrowLeft: within(at - 1), ArrowRight: within(at + 1), ArrowUp: within(at - columns), ArrowDown: within(at + columns),
      Home: event.ctrlKey ? 0 : start, End: event.ctrlKey ? units.length - 1 : Math.min(start + columns, units.length) - 1,
      PageUp: paged(-page), PageDown: paged(page),
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.go(to);
  }
}
