/** What a reader holds while a page, or a part of it, is drawn anew. */

/** Notes where the reader is and what is unfolded; the function that is returned brings it back on the page drawn anew. */
export function holding(main) {
  const { activeElement: focus } = document;
  const key = focus?.dataset?.key;
  const selector = key ? `[data-key="${CSS.escape(key)}"]` : focus?.matches("main a[href]") ? `main a[href="${CSS.escape(focus.getAttribute("href"))}"]` : null;
  const place = selector ? [...document.querySelectorAll(selector)].indexOf(focus) : -1;
  const folds = [...main.querySelectorAll("details")];
  const open = folds.map((one) => one.open);
  return () => {
    const now = [...main.querySelectorAll("details")];
    if (now.length === folds.length) now.forEach((one, i) => open[i] && (one.open = true));
    if (place >= 0) document.querySelectorAll(selector)[place]?.focus({ preventScroll: true });
  };
}
