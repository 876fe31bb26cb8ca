/** One tip for the whole page: what is hovered or focused says its address and value. */

const GAP = 14;

export function tips(box) {
  let shown = null;

  const place = (x, y) => {
    const { width, height } = box.getBoundingClientRect();
    const left = Math.max(4, Math.min(x + GAP, innerWidth - width - 4));
    const above = y + GAP + height > innerHeight - 4;
    box.style.left = `${left}px`;
    box.style.top = `${Math.max(4, above ? y - height - GAP : y + GAP)}px`;
  };

  const words = (element, event) => {
    const told = element.dataset.tip ?? "";
    const canvas = event?.target?.told ? event.target : null;
    if (!canvas) return told;
    const frame = canvas.getBoundingClientRect();
    return [told, canvas.told((event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height)].filter(Boolean).join("\n");
  };

  const hide = () => {
    shown = null;
    box.hidden = true;
  };

  const show = (element, event) => {
    const text = words(element, event);
    if (!text) return hide();
    shown = element;
    if (box.textContent !== text) box.textContent = text;
    box.hidden = false;
    const frame = element.getBoundingClientRect();
    if (event?.clientX !== undefined) place(event.clientX, event.clientY);
    else place(frame.left, frame.bottom - GAP / 2);
  };

  const target = (node) => node?.closest?.("[data-tip]") ?? (node?.told ? node : null);
  const heard = (event) => {
    if (event.pointerType === "touch") return;
    const element = target(event.target);
    if (element) show(element, event);
    else if (shown) hide();
  };
  document.addEventListener("pointermove", heard, { passive: true });
  document.addEventListener("focusin", (event) => {
    const element = target(event.target);
    if (element && event.target.matches(":focus-visible")) show(element);
    else hide();
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", hide);
  return { hide };
}
