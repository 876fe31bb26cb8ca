/** A unit on the image that the reader looks at: where it is active, what it sees there, and a way to why. */

import { addressOf } from "./addresses.js";
import { h } from "./dom.js";
import { Gone, asked, seen as seenOn } from "./images.js";
import { percent, short } from "./numbers.js";
import { facts, note, to } from "./parts.js";
import { activationWords, layerOf, numbersOf, seenPicture } from "./seen.js";
import { writtenStep } from "./pages/lens/steps.js";
import { Missing } from "./reading.js";

/** The part of a unit's page; null without an image, or where none can be looked at. */
export async function onImage({ live, params }, { layer, unit }) {
  const image = params.get("image");
  if (!image || !live.can("images")) return null;
  const part = (...inner) => h("section", { class: "on-image" }, h("h2", null, "On this image"), inner);
  try {
    const seen = await seenOn(live, image);
    const found = await asked(live, { what: "unit", image, layer, unit });
    const where = layerOf(seen, layer);
    const values = numbersOf(found.map);
    const name = addressOf(layer, unit);
    return part(
      h("div", { class: "pair" },
        seenPicture(seen, { layer: where, values, words: activationWords(name, values, where), at: found.at, box: found.box }),
        patch(seen, found.box, name)),
      facts([["most", `${short(found.most)} at (${found.at.join(", ")})`], ["above zero", `${percent(found.active)} of positions`]]),
      to({ lens: "image", step: writtenStep({ layer, unit, at: found.at }) }, { class: "button", "data-key": "why" }, "why is it active there?"));
  } catch (error) {
    if (error instanceof Gone) return part(note("The image is not in the server's memory any more. ", to({ lens: "image" }, null, "Drop it again"), "."));
    if (error instanceof Missing) return part(note(error.message));
    throw error;
  }
}

/** What the unit sees where it is most active, cut out. */
function patch(seen, [top, left, bottom, right], name) {
  const [width, height] = [right - left, bottom - top];
  const canvas = h("canvas", { class: "patch", width, height, role: "img", "aria-label": `what ${name} sees where it is most active: ${width} by ${height} pixels`, style: { "aspect-ratio": `${width} / ${height}` } });
  const image = new Image();
  image.addEventListener("load", () => canvas.getContext("2d").drawImage(image, -left, -top));
  image.src = seen.picture;
  return canvas;
}
