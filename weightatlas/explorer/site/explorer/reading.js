/** Files of an atlas as they come, and what is wrong with them, in words for the reader. */

/** What cannot be shown, with words for the reader. */
export class Missing extends Error {}

export const SCHEMA = 2;

export async function fetched(path, how) {
  const answer = await fetch(path, { cache: "no-cache", ...how }).catch((error) => {
    throw new Missing(`${path} cannot be read: ${error.message}`);
  });
  if (!answer.ok) throw new Missing(`${path} cannot be read: ${answer.status} ${answer.statusText}`);
  return answer;
}

/** JSON in a file of the atlas. */
export function parsed(text, path) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Missing(`${path} is damaged: ${error.message}. weightatlas check DIR --repair, then build again`);
  }
}

/** The content of atlas.json, if it is that. */
export function overview(manifest, root) {
  if (manifest?.format !== "weightatlas" || !Array.isArray(manifest.layers) || !Array.isArray(manifest.pairs)) {
    throw new Missing(`${root}/atlas.json is no overview of an atlas, or damaged; weightatlas check DIR tells`);
  }
  if (manifest.schema > SCHEMA) throw new Missing(`this explorer reads atlases of schema ${SCHEMA}, this one is ${manifest.schema}: update weightatlas`);
  return manifest;
}
