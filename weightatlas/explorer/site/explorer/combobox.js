/** A text field with suggestions, as the ARIA pattern "combobox with listbox" has it: arrows, Enter, Escape, and a mouse. */

import { h, say } from "./dom.js";

const PAUSE = 70; // milliseconds without a key before suggestions are looked for

/**
 * @param id of the field; that of its list is made from it
 * @param suggest gives, for a text, options [{words, about?, picture?, ...}]; may be a promise
 * @param choose is called with the option that was taken
 * @param enter is called with the text where Enter is pressed and no option is marked
 * @returns the field and its list, to be put into a form
 */
export function combobox({ id, label, placeholder, key = null, suggest, choose, enter }) {
  const list = h("ul", { id: `${id}-list`, class: "options", role: "listbox", "aria-label": `${label}: suggestions`, hidden: true });
  let options = [];
  let marked = -1;
  let timer = null;
  let asked = 0;

  const close = () => {
    clearTimeout(timer);
    asked++;
    list.hidden = true;
    mark(-1);
    input.setAttribute("aria-expanded", "false");
  };

  const mark = (at) => {
    list.children[marked]?.setAttribute("aria-selected", "false");
    marked = at;
    const now = list.children[marked];
    if (now) {
      now.setAttribute("aria-selected", "true");
      now.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", now.id);
    } else input.removeAttribute("aria-activedescendant");
  };

  const take = (option) => {
    close();
    input.value = "";
    choose(option);
  };

  const option = (one, at) =>
    h("li", {
      id: `${id}-${at}`, role: "option", "aria-selected": "false",
      on: { pointerdown: (event) => event.preventDefault(), click: () => take(one), pointermove: () => marked !== at && mark(at) },
    }, h("span", { class: "thumb", "aria-hidden": "true" }, one.picture?.()), h("span", { class: "words" }, one.words), one.about && h("span", { class: "about" }, one.about));

  const open = async () => {
    const own = ++asked;
    const text = input.value.trim();
    const found = text ? await suggest(text) : [];
    if (own !== asked || !input.isConnected) return;
    options = found;
    marked = -1;
    list.replaceChildren(...options.map(option));
    list.hidden = !options.length;
    input.setAttribute("aria-expanded", String(options.length > 0));
    input.removeAttribute("aria-activedescendant");
    if (text) say(options.length ? `${options.length} suggestion${options.length > 1 ? "s" : ""}` : "no suggestions");
  };

  const step = async (by) => {
    if (list.hidden) await open();
    if (!options.length || list.hidden) return;
    const places = options.length + 1; // the last is the text itself
    mark(((marked + 1 + by + places) % places) - 1);
  };

  const heard = (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const text = input.value.trim();
      if (marked >= 0 && !list.hidden) take(options[marked]);
      else if (text) {
        close();
        enter(text, input);
      }
    }
  };

  const input = h("input", {
    id, type: "text", role: "combobox", "aria-label": label, "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list", "data-key": key ?? id,
    placeholder, autocomplete: "off", autocapitalize: "none", spellcheck: "false", enterkeyhint: "go", maxlength: 400,
    on: {
      keydown: heard,
      input: () => {
        clearTimeout(timer);
        timer = setTimeout(open, PAUSE);
      },
      focusout: close,
    },
  });
  return { input, list, close };
}
