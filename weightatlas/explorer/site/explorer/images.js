/** Readers' images: asked of the server, which holds them in its memory, and remembered while the page is open. */

import { Missing } from "./reading.js";

const HELD = 96; // answers
const SOON = 300; // milliseconds within which a page waits for an answer before it is drawn without
const GONE = 410;
const answers = new Map(); // question → {promise, stop}
let explaining = null; // the question that the reader waits for; another one takes its place

/** An image is not in the server's memory (any more). */
export class Gone extends Error {}

/** Sends the file of an image; what the network saw of it. Throws with the reason where that is impossible. */
export async function upload(live, file) {
  const limit = live.site.images?.bytes ?? Infinity;
  if (file.size > limit) throw new Error(`the file has ${(file.size / 2 ** 20).toFixed(1)} MiB; an image may have ${limit / 2 ** 20}`);
  const told = await live.send("api/image", "POST", file);
  forget(); // another process may hold it, with none of the others
  remember(keyOf({ what: "image", image: told.image }), Promise.resolve(told), null);
  return told;
}

/** What the network saw of an image: {image, picture, size, layers, last, …}. Throws Gone where it is not there. */
export async function seen(live, image) {
  const told = await asked(live, { what: "image", image });
  if (told.image) return told;
  forget();
  throw new Gone(told.why);
}

/** The answer to a question about an image, see weightatlas/explorer/imaging.py. */
export function asked(live, ask) {
  const key = keyOf(ask);
  if (ask.what === "explain" && explaining !== key) {
    answers.get(explaining)?.stop?.abort();
    explaining = key;
  }
  const known = answers.get(key);
  if (known) {
    answers.delete(key);
    answers.set(key, known);
    return known.promise;
  }
  const stop = new AbortController();
  const promise = live.send("api/look", "POST", ask, stop.signal).then(
    (told) => {
      const about = answers.get(key);
      if (about) about.stop = null;
      return told;
    },
    (error) => {
      answers.delete(key);
      if (error.status === GONE) forget();
      throw error.status === GONE ? new Gone(error.message) : new Missing(error.name === "AbortError" ? "something else was asked for" : error.message);
    },
  );
  return remember(key, promise, stop);
}

function remember(key, promise, stop) {
  answers.set(key, { promise, stop });
  for (const oldest of answers.keys()) {
    if (answers.size <= HELD) break;
    answers.delete(oldest);
  }
  return promise;
}

/** What comes of a question if that comes soon: {told}, {error}, or null. */
export const soon = (promise) => Promise.race([
  promise.then((told) => ({ told }), (error) => ({ error })),
  new Promise((resolve) => setTimeout(resolve, SOON, null)),
]);

const forget = () => answers.clear();
const keyOf = (ask) => JSON.stringify(ask, Object.keys(ask).sort());
