/** Images come in: dropped anywhere on a page, pasted, or chosen. */

import { say } from "./dom.js";
import { upload } from "./images.js";

/** What became of the last image: `words` while it is read, `error` if it cannot be. */
export const coming = { words: "", error: "" };

/**
 * Takes an image in. A page of a unit stays and shows it there; any other gives way to the page for images.
 * @param here what pages are given
 */
export async function take(here, file) {
  if (!file) return;
  if (!here.live.can("images")) return here.go({ lens: "image" });
  Object.assign(coming, { words: `looking at ${file.name || "the image"} …`, error: "" });
  say(coming.words);
  const stays = ["lens", "unit"].includes(here.page);
  if (here.page === "lens") here.rerender();
  try {
    const { image } = await upload(here.live, file);
    Object.assign(coming, { words: "", error: "" });
    say("the network has seen the image");
    if (stays) here.change({ image });
    else here.go({ lens: "image", image });
  } catch (error) {
    Object.assign(coming, { words: "", error: error.message });
    say(error.message);
    if (here.page === "lens") here.rerender();
    else here.go({ lens: "image" });
  }
}

const withFiles = (transfer) => [...(transfer?.types ?? [])].includes("Files");
const fileOf = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? transfer?.files?.[0];

/** @param context gives what pages are given */
export function dropping(context) {
  const root = document.documentElement;
  let deep = 0; // elements that the file is dragged over
  const over = (by) => {
    deep = by ? Math.max(0, deep + by) : 0;
    root.toggleAttribute("data-dropping", deep > 0);
  };
  document.addEventListener("dragenter", (event) => withFiles(event.dataTransfer) && over(1));
  document.addEventListener("dragleave", (event) => withFiles(event.dataTransfer) && over(-1));
  document.addEventListener("dragover", (event) => {
    if (withFiles(event.dataTransfer)) event.preventDefault(); // else the browser would open the file in place of the page
  });
  document.addEventListener("drop", (event) => {
    if (!withFiles(event.dataTransfer)) return;
    event.preventDefault();
    over(0);
    take(context(), fileOf(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    if (!withFiles(event.clipboardData) || event.target.closest?.("input, textarea")) return;
    event.preventDefault();
    take(context(), fileOf(event.clipboardData));
  });
}
