/** Numbers as text. */

const MINUS = "−";

/** Three significant digits, with a real minus: 0.0312, −1.5, 12 400, 3.1e−7. */
export function short(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "—";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text =
    size >= 1e6 || size < 1e-4
      ? size.toExponential(digits - 1).replace("+", "").replace("-", MINUS)
      : size >= 10 ** digits
        ? Math.round(size).toLocaleString("en").replaceAll(",", "\u2009")
        : String(Number(size.toPrecision(digits)));
  return (value < 0 ? MINUS : "") + text;
}

export const signed = (value, digits = 3) => (value > 0 ? "+" : "") + short(value, digits);

/** A share as percent: 35 %, 0.4 %. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "—";
  const value = share * 100;
  return `${Math.abs(value) >= 1 || value === 0 ? Math.round(value) : short(value, 1)}\u202f%`;
}

export const count = (number) => number.toLocaleString("en").replaceAll(",", "\u2009");

/** "1 unit", "12 units". */
export const counting = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
