/** The explorer: one page over the folder of an atlas. The address says everything about the view; pages are functions of it. */

import { PAGES, changed, link } from "./addresses.js";
import { Atlas, Missing } from "./atlas.js";
import { h, say } from "./dom.js";
import { header } from "./header.js";
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
};
const SETTLE = 400; // milliseconds between something new and the page that shows it

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

/** Shows another address. `same`: the same page in another state, so place and focus stay; `replace`: no step back. */
function go(href, { same = false, replace = false } = {}) {
  if (!replace) history.replaceState({ ...history.state, scroll: scrollY }, "");
  history[replace ? "replaceState" : "pushState"]({ scroll: same ? scrollY : 0 }, "", href === "?" ? location.pathname : href);
  return show({ same });
}

/** Draws the page of the address; a page that is overtaken by another is dropped. */
async function show({ same = false, scroll = null } = {}) {
  const own = ++turnNumber;
  const here = context();
  const focused = same ? document.activeElement?.dataset?.key : null;
  const late = setTimeout(() => own === turnNumber && main.setAttribute("aria-busy", "true"), 150);
  let made;
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
  main.replaceChildren(...[made.body].flat(Infinity).filter(Boolean));
  top_.replaceChildren(...header(here));
  document.title = `${made.title} · weightatlas`;
  current = { ...here, ...made };
  made.shown?.(main);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  else if (!same && own > 1) main.focus({ preventScroll: true });
  scrollTo(0, place ?? 0);
  if (!same && own > 1) say(made.title);
}

let current = {};

/** Something new is there: read the overview, and draw the page again once nobody is in the midst of something. */
let pending = null;
function later() {
  pending ??= setTimeout(async () => {
    pending = null;
    if (document.querySelector("dialog[open]") || document.activeElement?.matches?.("main input, main select, #find:not(:placeholder-shown)")) return later();
    try {
      await atlas.refresh();
    } catch {
      return; // the overview is read again at the next event
    }
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
  addEventListener("popstate", (event) => show({ scroll: event.state?.scroll ?? 0 }));
  history.scrollRestoration = "manual";
  for (const name of ["made", "updated", "failed", "asked"]) live.addEventListener(name, later);
  live.addEventListener("state", () => top_.querySelector("#state")?.replaceWith(header.state(live)));
  keyboard(() => current, go);
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
  await show();
}

begin();
