/** Buttons that copy words: the address of a view, a citation. */

import { h, say } from "./dom.js";

/** A button that copies what `text` gives; where there is no clipboard, a field to copy from by hand takes its place. */
export function copyButton(words, text, attributes = {}) {
  const click = async (event) => {
    const button = event.currentTarget;
    const told = text();
    try {
      await navigator.clipboard.writeText(told);
      button.textContent = "copied";
      say("copied");
    } catch {
      const field = h("input", { type: "text", readonly: true, value: told, "aria-label": words });
      button.replaceWith(field);
      field.select();
    }
  };
  return h("button", { type: "button", "data-key": words, ...attributes, on: { click } }, words);
}
