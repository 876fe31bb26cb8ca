/** Layer names as paths, as weightatlas/store/names.py writes them; docs/format.md has the table. */

const LONGEST = 180; // characters of one component
const KEPT = /[a-z0-9._-]/;
const RESERVED = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)/;
const bytes = new TextEncoder();

const escaped = (byte) => "~" + String(byte).padStart(3, "0");

function tokens(character) {
  if (KEPT.test(character)) return [character];
  if (/[A-Z]/.test(character)) return ["~" + character.toLowerCase()];
  return [...bytes.encode(character)].map(escaped);
}

function component(parts) {
  const found = [...parts];
  if (found[0] === "." || RESERVED.test(found.join(""))) found[0] = escaped(found[0].charCodeAt(0));
  if (found.length > 1 && found.at(-1) === ".") found[found.length - 1] = escaped(46);
  return found.join("");
}

/**
 * The path of a layer's name: one component, or several joined by "/" for a very long name.
 * pathOf("relu#2") is "relu~0352", pathOf("Mixed_5b") is "~mixed_5b".
 */
export function pathOf(name) {
  const pieces = [[]];
  let length = 0;
  for (const token of [...name].flatMap(tokens)) {
    if (length + token.length > LONGEST) {
      pieces.push([]);
      length = 0;
    }
    pieces.at(-1).push(token);
    length += token.length;
  }
  return pieces.map((piece, i) => component(piece) + (i < pieces.length - 1 ? "~" : "")).join("/");
}
