/** What a picture says of itself: JSON in the EXIF field "image description" of a WebP file. */

const DESCRIPTION = 0x010e;

/** The JSON in a WebP file's bytes; null if there is none. */
export function described(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || name(0) !== "RIFF" || name(8) !== "WEBP") return null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "EXIF") return fromTiff(bytes.subarray(at + 8, at + 8 + size));
    at += 8 + size + (size % 2);
  }
  return null;
}

function fromTiff(data) {
  const exif = String.fromCharCode(...data.subarray(0, 4)) === "Exif" ? data.subarray(6) : data;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = view.getUint16(0) === 0x4949;
  const first = view.getUint32(4, little);
  const entries = view.getUint16(first, little);
  for (let i = 0; i < entries; i++) {
    const at = first + 2 + 12 * i;
    if (view.getUint16(at, little) !== DESCRIPTION) continue;
    const length = view.getUint32(at + 4, little);
    const start = length > 4 ? view.getUint32(at + 8, little) : at + 8;
    const text = new TextDecoder().decode(exif.subarray(start, start + length)).replace(/\0+$/, "");
    return JSON.parse(text);
  }
  return null;
}
