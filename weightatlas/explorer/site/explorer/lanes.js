/** Layers in reading order as a graph with lanes, as a version history is drawn: one lane for each layer's output that is still to be read. */

import { s } from "./dom.js";

const OVER = 0.02; // of a row's height, by which lines reach into the next row so that none shows a gap

/**
 * Where everything lies. `names` in order of execution, `edges` [[source, target], ...] among them.
 *
 * Returns {rows, width}; a row is {lane, read, through, on}: the lane of its layer, the lanes that come in, those that run
 * past, and whether anything later reads it. A layer takes the place of an input that nobody reads after it, so a plain
 * chain is one straight line, a skip path runs straight beside what it skips, and branches end where they are joined.
 */
export function laid(names, edges) {
  const { reads, last } = connected(names, edges);
  const lanes = []; // the row whose output each lane carries, or null
  const laneOf = [];
  const rows = names.map((_, row) => {
    const before = [...lanes];
    const read = reads[row].map((source) => laneOf[source]).sort((a, b) => a - b);
    const ended = reads[row].filter((source) => last[source] === row).map((source) => laneOf[source]);
    for (const lane of ended) lanes[lane] = null;
    const free = lanes.findIndex((carried) => carried === null);
    const lane = ended.length ? Math.min(...ended) : free < 0 ? lanes.length : free;
    const on = last[row] > row;
    const through = before.map((_, i) => i).filter((i) => before[i] !== null && before[i] === lanes[i]);
    laneOf[row] = lane;
    lanes[lane] = on ? row : null;
    return { lane, read, through, on };
  });
  return { rows, width: Math.max(1, lanes.length) };
}

/** Which rows each row reads, and the last row that reads it. */
function connected(names, edges) {
  const at = new Map(names.map((name, row) => [name, row]));
  const reads = names.map(() => []);
  const last = names.map(() => -1);
  for (const [source, target] of edges) {
    const [a, b] = [at.get(source), at.get(target)];
    if (a === undefined || b === undefined || a >= b || reads[b].includes(a)) continue;
    reads[b].push(a);
    last[a] = Math.max(last[a], b);
  }
  return { reads, last };
}

/** One row of it, stretched to whatever height its row has. Strokes keep their width; the dot is a round end of a line of no length. */
export function lanePicture({ lane, read, through, on }, width) {
  const x = (number) => number + 0.5;
  const line = (path, name = "wire") => s("path", { d: path, class: name, "vector-effect": "non-scaling-stroke" });
  return s("svg", { class: "lanes", viewBox: `0 0 ${width} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    through.map((i) => line(`M${x(i)} ${-OVER}V${1 + OVER}`)),
    read.map((i) => line(`M${x(i)} 0C${x(i)} .34 ${x(lane)} .16 ${x(lane)} .5`)),
    on && line(`M${x(lane)} .5V${1 + OVER}`),
    line(`M${x(lane)} .5h.0001`, "dot"));
}
