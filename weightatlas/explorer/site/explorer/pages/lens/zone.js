/** Where an image can be dropped, and what is said where none can. */

import { coming, take } from "../../dropping.js";
import { copyButton } from "../../copying.js";
import { h } from "../../dom.js";
import { count } from "../../numbers.js";
import { note } from "../../parts.js";

/** What the server reads, whatever a file is called; some systems know the last two by their endings alone. */
const TAKEN = "image/png,image/jpeg,image/webp,image/gif,image/bmp,image/tiff,image/jp2,image/x-portable-anymap,.jp2,.j2k,.ppm,.pgm,.pbm,.pnm";

/** A field to choose a file with. */
function chooser(here, words) {
  const input = h("input", { type: "file", accept: TAKEN, id: "image-file", class: "unseen", "data-key": "file", on: { change: () => take(here, input.files[0]) } });
  return [input, h("label", { class: "button", for: "image-file" }, words)];
}

/** The place to drop an image on; `why` says first what has happened. */
export function zone(here, why = "") {
  const { bytes, pixels } = here.live.site.images ?? {};
  return h("section", { class: "zone" },
    coming.error ? h("p", { class: "error", role: "alert" }, coming.error) : why && h("p", { class: "why" }, why),
    coming.words ? h("p", { class: "reading", role: "status" }, coming.words) : h("p", { class: "ask" }, h("b", null, "Drop an image"), " anywhere on this page, paste one, or ", chooser(here, "choose a file")),
    note(`Up to ${bytes / 2 ** 20} MiB and ${count(pixels / 1e6)} megapixels. It goes to the server that shows this page and stays in its memory, with the last few others, until that ends; nothing is written. The address of this page then holds a hash of the file.`));
}

/** The same where an image is there already. */
export const another = (here) => h("div", { class: "another" }, coming.words ? h("span", { role: "status" }, coming.words) : chooser(here, "another image"), coming.error && h("span", { class: "error", role: "alert" }, coming.error));

/** What it would need where no image can be looked at, with the command. */
export function without(here) {
  const { atlas, live } = here;
  const command = `weightatlas open ${live.site.live ? "DIR" : quoted(atlas.manifest.model.name)}`;
  const words = live.site.live
    ? ["This explorer looks at no images: ", live.site.images?.why ?? live.why]
    : [`What ${atlas.manifest.model.name} does on an image of yours has to be computed by the network itself; an exported copy has only what is in its atlas. With weightatlas installed, this opens the same pages with the network behind them:`];
  return h("section", { class: "zone" }, h("p", { class: "why" }, words),
    live.site.live ? null : h("p", { class: "command" }, h("code", null, command), " ", copyButton("copy command", () => command)));
}

const quoted = (name) => (/^[\w@%+=:,./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`);
