/** The explorer: one page over the folder of an atlas. The address says everything about the view; pages are functions of it. */

import { PAGES, changed, link, parsedUnit } from "./addresses.js";
import { Atlas, Missing } from "./atlas.js";
import { h, say } from "./dom.js";
import { dropping } from "./dropping.js";
import { header } from "./header.js";
import { holding } from "./holding.js";
import { keyboard } from "./keyboard.js";
import { Live } from "./live.js";
import { note } from "./parts.js";
import { tips } from "./tips.js";

const pages = {
  model: () => import("./pages/model.js"),
  layer: () => import("./pages/layer.js"),
  unit: () => import("./pages/unit.js"),
  edge: () => import("./pages/edge.js"),
  grid: () => import("./pages/grid.js"),
  circuit: () => import("./pages/circuit.js"),
  search: () => import("./pages/search.js"),
  help: () => import("./pages/help.js"),
  lens: () => import("./pages/lens.js"),
};
const SETTLE = 400; // milliseconds between something new and the page that shows it
const PLACED = 250; // milliseconds between scrolling and noting where

const main = document.getElementById("main");
const top_ = document.getElementById("top");
let turnNumber = 0;
let atlas;
let live;
let tip;

/** What a page is given: the atlas, the server, the address, and ways to go elsewhere. */
function context() {
  const params = new URLSearchParams(location.search);
  return {
    atlas, live, params,
    page: PAGES.find((name) => params.has(name)) ?? "model",
    go: (parameters) => go(link(parameters)),
    change: (changes, how) => go(changed(changes), { same: true, ...how }),
    rerender: () => show({ same: true }),
  };
}

/** The place on the page is part of the step in the history that shows it. */
let placing = null;
function placed(now = false) {
  clearTimeout(placing);
  placing = null;
  if (now) history.replaceState({ ...history.state, scroll: scrollY }, "");
  else placing = setTimeout(placed, PLACED, true);
}

/** Shows another address. `same`: the same page in another state, so place and focus stay; `replace`: no step back. */
function go(href, { same = false, replace = false } = {}) {
  placed(true);
  history[replace ? "replaceState" : "pushState"]({ scroll: same ? scrollY : 0 }, "", href === "?" ? location.pathname : href);
  return show({ same });
}

/** Draws the page of the address; a page that is overtaken by another is dropped. */
async function show({ same = false, scroll = null } = {}) {
  const own = ++turnNumber;
  const here = context();
  const held = same ? holding(main) : null;
  const late = setTimeout(() => own === turnNumber && main.setAttribute("aria-busy", "true"), 150);
  let made;
  atlas.troubles = [];
  try {
    made = await (await pages[here.page]()).render(here);
  } catch (error) {
    made = { title: "not found", body: [h("h1", null, "This cannot be shown"), note(error instanceof Missing ? error.message : `the explorer failed: ${error.message}`)] };
    if (!(error instanceof Missing)) console.error(error);
  } finally {
    clearTimeout(late);
  }
  if (own !== turnNumber) return;
  tip.hide();
  main.removeAttribute("aria-busy");
  main.className = `page-${here.page}`;
  const place = same ? scrollY : scroll;
  const troubles = [...new Set(atlas.troubles)].map((words) => h("p", { class: "error", role: "alert" }, `Part of this page is missing: ${words}`));
  main.replaceChildren(...[troubles, made.body].flat(Infinity).filter(Boolean));
  if (location.href !== drawn) top_.replaceChildren(...header(here)); // else somebody may be writing there
  drawn = location.href;
  document.title = `${made.title} · weightatlas`;
  current = { ...here, ...made };
  made.shown?.(main);
  print = printed();
  if (held) held();
  else if (own > 1) main.focus({ preventScroll: true });
  scrollTo(0, place ?? 0);
  if (!same && own > 1) say(made.title);
}

let current = {};
let drawn = null; // the address for which the bar above was drawn
let print = "";

/** What of the atlas the page that is shown depends on: if that has not changed, there is no need to draw it anew. */
function printed() {
  const own = current.depends ? current.depends() : atlas.manifest.sha256;
  const tiles = [...main.querySelectorAll("[data-unit]")].map(({ dataset: { unit } }) => parsedUnit(unit)).filter(Boolean);
  return JSON.stringify([own, tiles.map(({ layer, unit }) => atlas.picture(layer, unit)?.recipe ?? null)]);
}

const busy = () => {
  const selection = getSelection();
  const chosen = selection && !selection.isCollapsed && main.contains(selection.anchorNode);
  return chosen || document.querySelector("dialog[open]") || document.activeElement?.matches?.("main input:not([type=file]), main select");
};

/** Something new may be there: read the overview, and draw the page again if it shows any of it, once nobody is in the midst of something. */
let pending = null;
let due = false;
function later(turned) {
  due ||= turned;
  pending ??= setTimeout(async () => {
    pending = null;
    if (busy()) return later(false);
    try {
      await atlas.refresh();
    } catch {
      return; // the overview is read again at the next event
    }
    live.told(atlas.site);
    if (!due && print === printed()) return;
    due = false;
    await show({ same: true });
  }, SETTLE);
}

function listen() {
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest?.("a[href^='?']");
    if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(anchor.getAttribute("href"), { same: "turn" in anchor.dataset });
  });
  addEventListener("popstate", (event) => {
    clearTimeout(placing); // what it would note belongs to the step that was left
    show({ scroll: event.state?.scroll ?? 0 });
  });
  addEventListener("scroll", () => placed(), { passive: true });
  history.scrollRestoration = "manual";
  for (const name of ["made", "updated", "back"]) live.addEventListener(name, () => later(false));
  live.addEventListener("turned", () => later(true));
  live.addEventListener("state", () => top_.querySelector("#state")?.replaceWith(header.state(live)));
  keyboard(() => current, go);
  dropping(context);
}

async function begin() {
  pages[context().page]().catch(() => {}); // on its way while the overview is; show() tells what is wrong with it
  try {
    atlas = await Atlas.open("atlas");
  } catch (error) {
    main.replaceChildren(h("h1", null, "This atlas cannot be opened"), note(error.message));
    if (!(error instanceof Missing)) console.error(error);
    return;
  }
  live = new Live(atlas.site);
  tip = tips(document.getElementById("tip"));
  listen();
  await show({ scroll: history.state?.scroll ?? 0 });
}

begin();
