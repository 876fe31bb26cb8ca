/**
 * Where everything of a circuit lies: later layers above earlier ones, curves from the top of a source to the foot of its
 * target, and maps on their own curves, so that no map covers a picture, a name or another map. Numbers in, numbers out.
 */

const STOPS = Array.from({ length: 19 }, (_, i) => 0.5 + (i % 2 ? 1 : -1) * Math.ceil(i / 2) * 0.04); // where on a curve its map may lie: best in the middle
const KNOT_STOPS = STOPS.filter((_, i) => i % 4 < 2);
const AIR = 6; // pixels between things
const SWEEPS = 6;
const TRIES = 5;
const [THIN, THICK] = [1.25, 9]; // pixels of the weakest and the strongest curve

/** How wide the curve of a connection is: in proportion to its norm, never too thin to be seen. */
export const thickness = (norm, most) => THIN + (THICK - THIN) * (most ? norm / most : 0);

/**
 * @param circuit {nodes, links, layers}; links that are `faded` get no map
 * @param sizes {width, node, map, knot, caption, label, labelSide, line, most}: pixels; `line` scales widths, `most` maps at most
 * @returns {width, height, rows: [{layer, y, label, nodes: [{node, x, y}]}], curves: [{link, path, map, knot}]}
 */
export function layout(circuit, sizes) {
  const rows = ordered(circuit);
  const level = new Map(rows.flatMap((row, i) => row.nodes.map((one) => [one.address, i])));
  const rooms = rows.map(() => 1); // how much wider than at first the gap under each row is
  for (let attempt = 1; ; attempt++) {
    const done = drawn(circuit, rows, sizes, level, rooms);
    if (!done.crowded.length || attempt === TRIES) return knotted(done, sizes);
    const tight = new Set(done.crowded.map(({ link }) => level.get(link.target.address)));
    tight.forEach((gap) => (rooms[gap] *= 1.3));
  }
}

/** Rows from the last layer to the first; in each, units near those that they are connected to. */
function ordered({ nodes, links, layers }) {
  const rows = [...layers].reverse().map((layer) => ({ layer, nodes: nodes.filter((one) => one.layer === layer) }));
  const place = new Map();
  const settle = (row) => row.nodes.forEach((one, i) => place.set(one.address, (i + 0.5) / row.nodes.length));
  rows.forEach(settle);
  const near = new Map(nodes.map((one) => [one.address, []]));
  for (const one of links) {
    near.get(one.source.address).push([one.target.address, one.norm]);
    near.get(one.target.address).push([one.source.address, one.norm]);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      const middle = new Map(row.nodes.map((one) => {
        const around = near.get(one.address);
        const weight = around.reduce((total, [, norm]) => total + norm, 0);
        return [one.address, weight ? around.reduce((total, [other, norm]) => total + norm * place.get(other), 0) / weight : place.get(one.address)];
      }));
      row.nodes.sort((a, b) => middle.get(a.address) - middle.get(b.address));
      settle(row);
    }
  }
  return rows;
}

function drawn({ links }, rows, sizes, level, rooms) {
  const { node, caption, label, labelSide, most } = sizes;
  const left = labelSide || AIR;
  const needed = Math.max(...rows.map((row) => row.nodes.length)) * node * 1.3;
  const width = Math.max(sizes.width, left + needed + AIR);
  const shown = new Set(links.filter((one) => !one.faded).slice(0, most));
  const gaps = gapHeights(rows, shown, level, sizes, width - left, rooms);
  const placed = new Map();
  const obstacles = [];
  let y = AIR;
  const lines = rows.map((row, i) => {
    const step = Math.min((width - left) / row.nodes.length, node * 3);
    const first = left + (width - left - step * row.nodes.length) / 2;
    const mark = labelSide ? { x: 0, y: y + node / 2 - label, width: labelSide - 2 * AIR, height: 2 * label } : { x: 0, y, width: Math.min(sizes.width, row.layer.length * label * 0.38 + AIR), height: label };
    const top = labelSide ? y : y + label + AIR;
    const nodes = row.nodes.map((one, n) => ({ node: one, x: first + (n + 0.5) * step, y: top, step }));
    nodes.forEach((at) => {
      placed.set(at.node.address, at);
      obstacles.push(box(at.x, top + (node + caption) / 2, node, node + caption + node / 6)); // its curves are seen to leave it
    });
    obstacles.push({ left: mark.x, top: mark.y, right: mark.x + mark.width, bottom: mark.y + mark.height });
    y = top + node + caption + (gaps[i] ?? 0);
    return { layer: row.layer, y: top, foot: top + node + caption, label: mark, nodes };
  });
  const curves = routes(links, lines, placed, level, sizes, width, left);
  onCurves(curves, shown, obstacles, sizes, width, left);
  return { width, height: y + AIR, rows: lines, curves, crowded: curves.filter((one) => shown.has(one.link) && !one.map), obstacles, left };
}

/** Room between rows for the maps that have to lie there. */
function gapHeights(rows, shown, level, { map, node }, width, rooms) {
  const load = rows.slice(1).map(() => 0);
  for (const one of shown) {
    const [above, below] = [level.get(one.target.address), level.get(one.source.address)];
    for (let gap = above; gap < below; gap++) load[gap] += 1 / (below - above);
  }
  return load.map((maps, gap) => {
    const lanes = Math.ceil((maps * (map + 2 * AIR)) / (0.62 * Math.min(width, node * 14)));
    return Math.round(rooms[gap] * Math.max(node * 0.9, node * 0.45 + lanes * (map + 2 * AIR)));
  });
}

const box = (x, y, width, height = width) => ({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });
const apart = (a, b, air) => a.right + air <= b.left || b.right + air <= a.left || a.bottom + air <= b.top || b.bottom + air <= a.top;

/** Curves as lists of spans: across a gap a curve, past a row a line between two of its pictures. */
function routes(links, lines, placed, level, sizes, width, left) {
  const { node } = sizes;
  const ports = portsOf(links, placed, sizes);
  const used = new Map();
  return links.map((link) => {
    const [above, below] = [level.get(link.target.address), level.get(link.source.address)];
    const [from, into] = [placed.get(link.source.address), placed.get(link.target.address)];
    let [x, y] = [from.x + ports.get(link).up, from.y - 2];
    const endX = into.x + ports.get(link).down;
    const endY = lines[above].foot + 2;
    const spans = [];
    for (let row = below - 1; row > above; row--) {
      const line = lines[row];
      const along = (line.y - endY) / (y - endY);
      const way = passing(line, endX + (x - endX) * along, used, row, node, width, left);
      spans.push({ x0: x, y0: y, x1: way, y1: line.foot + 4 });
      [x, y] = [way, line.y - 4];
    }
    spans.push({ x0: x, y0: y, x1: endX, y1: endY });
    return { link, spans, path: written(spans), map: null, knot: null };
  });
}

/** Where curves leave and reach a picture: beside each other, in the order of where they go. */
function portsOf(links, placed, { node, line }) {
  const ports = new Map(links.map((one) => [one, { up: 0, down: 0 }]));
  const spread = (end, other, side) => {
    for (const group of grouped(links, end).values()) {
      const sorted = [...group].sort((a, b) => placed.get(a[other].address).x - placed.get(b[other].address).x);
      const step = Math.min(12 * line, (node * 0.7) / sorted.length);
      sorted.forEach((one, i) => (ports.get(one)[side] = (i - (sorted.length - 1) / 2) * step));
    }
  };
  spread("source", "target", "up");
  spread("target", "source", "down");
  return ports;
}

function grouped(links, end) {
  const groups = new Map();
  for (const one of links) groups.set(one[end].address, [...(groups.get(one[end].address) ?? []), one]);
  return groups;
}

/** The way past a row that is nearest to a place: between two pictures or beside them; several keep a little apart. */
function passing(line, x, used, row, node, width, left) {
  const centres = line.nodes.map((at) => at.x);
  const outer = node / 2 + 16;
  const ways = [Math.max(left + 8, centres[0] - outer), ...centres.slice(1).map((c, i) => (c + centres[i]) / 2), Math.min(width - 8, centres.at(-1) + outer)];
  const best = ways.reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
  const open = x < centres[0] - outer || x > centres.at(-1) + outer; // beside all pictures there is room enough
  if (open) return Math.max(left + 8, Math.min(width - 8, x));
  const key = `${row} ${best}`;
  const count = used.get(key) ?? 0;
  used.set(key, count + 1);
  return best + (count % 2 ? 1 : -1) * Math.ceil(count / 2) * 5;
}

const round = (value) => Math.round(value * 10) / 10;

function written(spans) {
  const parts = spans.map(({ x0, y0, x1, y1 }, i) => {
    const middle = (y0 + y1) / 2;
    return `${i ? "L" : "M"}${round(x0)} ${round(y0)}C${round(x0)} ${round(middle)} ${round(x1)} ${round(middle)} ${round(x1)} ${round(y1)}`;
  });
  return parts.join("");
}

/** A place on a curve. */
function on({ x0, y0, x1, y1 }, t) {
  const middle = (y0 + y1) / 2;
  const [a, b, c, d] = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3];
  return { x: (a + b) * x0 + (c + d) * x1, y: a * y0 + (b + c) * middle + d * y1 };
}

/** The first free place for a square on a curve, which is taken from then on; null if there is none. */
function put({ spans }, side, stops, air, obstacles, left, width) {
  for (const t of stops) {
    for (const span of spans) {
      const at = on(span, t);
      const frame = box(at.x, at.y, side);
      if (frame.left < left - AIR || frame.right > width || obstacles.some((one) => !apart(frame, one, air))) continue;
      obstacles.push(frame);
      return at;
    }
  }
  return null;
}

/** Maps, strongest first. */
function onCurves(curves, shown, obstacles, { map }, width, left) {
  for (const curve of curves) if (shown.has(curve.link)) curve.map = put(curve, map, STOPS, AIR, obstacles, left, width);
}

/** Knots on the curves that have no map. */
function knotted(done, { knot }) {
  for (const curve of done.curves) {
    if (!curve.map && !curve.link.faded) curve.knot = put(curve, knot, KNOT_STOPS, 2, done.obstacles, done.left, done.width);
  }
  return done;
}
