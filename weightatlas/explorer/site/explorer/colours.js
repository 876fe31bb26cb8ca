/** Colours of maps: those of weightatlas/figures/theme.py, to which a test holds them. */

export const DIVERGING = {
  classic: ["#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"],
  colorblind: ["#0b4f9e", "#3f83c4", "#8cb8dd", "#cfe0ee", "#f7f7f7", "#fde2bf", "#f9b266", "#e07b12", "#a14a00"],
};
/** Activations: purple above 0, green below. */
export const ACTIVATION = ["#00441b", "#1b7837", "#5aae61", "#a6dba0", "#d9f0d3", "#f7f7f7", "#e7d4e8", "#c2a5cf", "#9970ab", "#762a83", "#40004b"];
const NOT_A_NUMBER = [0xe8, 0x3e, 0xe8]; // nothing else in any picture is magenta
const STEPS = 512;

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

const tables = Object.fromEntries(
  Object.entries({ ...DIVERGING, activation: ACTIVATION }).map(([name, stops]) => {
    const table = new Uint8ClampedArray((2 * STEPS + 1) * 3);
    const colours = stops.map(rgb);
    for (let i = 0; i <= 2 * STEPS; i++) {
      const at = (i / (2 * STEPS)) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      for (let c = 0; c < 3; c++) table[3 * i + c] = colours[low][c] + (colours[low + 1][c] - colours[low][c]) * (at - low);
    }
    return [name, table];
  }),
);

/** Signed values as RGBA bytes; `scale` is the magnitude that gets the full colour; `palette` may be "activation". */
export function diverging(values, scale, palette = "classic") {
  const table = tables[palette] ?? tables.classic;
  const out = new Uint8ClampedArray(values.length * 4);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (Number.isNaN(value)) out.set(NOT_A_NUMBER, 4 * i);
    else {
      const step = Math.round((Math.max(-1, Math.min(1, value / (scale || 1))) + 1) * STEPS);
      out.set(table.subarray(3 * step, 3 * step + 3), 4 * i);
    }
    out[4 * i + 3] = 255;
  }
  return out;
}

/** Activations as a veil over a picture, RGBA bytes: the larger, the denser. */
export function veil(values, scale) {
  const out = diverging(values.map((v) => Math.sign(v) * scale * 0.8), scale, "activation");
  values.forEach((v, i) => (out[4 * i + 3] = Number.isNaN(v) ? 255 : Math.round(185 * Math.min(1, Math.abs(v) / (scale || 1)))));
  return out;
}

/** One value as "rgb(…)". */
export function colour(value, scale, palette) {
  const [r, g, b] = diverging([value], scale, palette);
  return `rgb(${r},${g},${b})`;
}

/** Ink that can be read on the colour of a value: black or white, whichever has more contrast (never less than 4.5). */
export function inkOn(value, scale, palette) {
  const [r, g, b] = diverging([value], scale, palette);
  const linear = [r, g, b].map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000000" : "#ffffff"; // where both have 4.6
}

export const palette = () =>
  new URLSearchParams(location.search).get("palette") === "colorblind" ? "colorblind" : "classic";
