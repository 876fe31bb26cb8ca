/**
 * Pictures in full where they are looked at: a tile begins as a part of its layer's sprite sheet, which is there at once,
 * and gets its own file when it is in the window and the page stays for a moment. Who only passes by asks for nothing.
 */

const STILL = 150; // milliseconds
const NEAR = "120px";
const there = new Set(); // addresses that were loaded before: the browser has them
const waiting = new WeakMap(); // element → what to show in its place

const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    setTimeout(() => target.isConnected && load(target), STILL);
  }
}, { rootMargin: NEAR });

async function load(rough) {
  const sharp = waiting.get(rough);
  sharp.src = sharp.dataset.src;
  try {
    await sharp.decode();
  } catch {
    return; // the tile stays as it is
  }
  there.add(sharp.dataset.src);
  if (rough.isConnected) rough.replaceWith(sharp);
}

/** The element to show now: `sharp` itself if its file is known to be at hand, else `rough` until it is. */
export function sharpened(rough, sharp, url) {
  if (there.has(url)) {
    sharp.src = url;
    return sharp;
  }
  sharp.dataset.src = url;
  waiting.set(rough, sharp);
  observer.observe(rough);
  return rough;
}
