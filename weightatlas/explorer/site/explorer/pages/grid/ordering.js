/** In which order units of a family stand; by_similarity is that of weightatlas/figures/ordering.py. */

const UNLIKE = 1e-6; // a cosine below this is that of rows that share nothing

/**
 * Places in which neighbours are alike: along the second eigenvector of the similarities' graph Laplacian. Groups that share
 * nothing stand one after another, rows of zeros last. Of an order and its reverse, the one that begins with the smaller place.
 * Source: Atkins, Boman & Hendrickson, "A Spectral Algorithm for Seriation", 1998.
 */
export function bySimilarity(profiles) {
  const length = profiles.map((row) => Math.hypot(...row.map((part) => Math.sqrt(dot(part, part)))));
  const alike = profiles.map((a, i) => profiles.map((b, j) => {
    const both = length[i] && length[j] ? a.reduce((sum, part, k) => sum + dot(part, b[k]), 0) / (length[i] * length[j]) : 0;
    return both < UNLIKE ? 0 : both;
  }));
  const parts = connected(alike).map((group) => along(alike, group));
  return [...parts.filter((part) => length[part[0]]), ...parts.filter((part) => !length[part[0]])].flat();
}

/** A row of maps (null: all zero) times another. */
function dot(a, b) {
  if (!a || !b) return 0;
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function connected(alike) {
  const left = new Set(alike.keys());
  const found = [];
  while (left.size) {
    const group = new Set();
    const waiting = [Math.min(...left)];
    while (waiting.length) {
      const place = waiting.pop();
      group.add(place);
      alike[place].forEach((value, n) => value && !group.has(n) && waiting.push(n));
    }
    group.forEach((place) => left.delete(place));
    found.push([...group].sort((a, b) => a - b));
  }
  return found;
}

function along(alike, group) {
  if (group.length < 3) return group;
  const laplacian = group.map((i) => group.map((j) => -alike[i][j]));
  group.forEach((i, r) => { laplacian[r][r] += group.reduce((sum, j) => sum + alike[i][j], 0); });
  const { values, vectors } = eigen(laplacian);
  const second = [...values.keys()].sort((a, b) => values[a] - values[b])[1];
  const along_ = group.map((_, r) => Math.round(vectors[r][second] * 1e12));
  const order = [...group.keys()].sort((a, b) => along_[a] - along_[b] || a - b).map((r) => group[r]);
  return order[0] <= order.at(-1) ? order : order.reverse();
}

/** Eigenvalues and -vectors (columns) of a symmetric matrix by Jacobi's rotations: exact, and quick for families. */
export function eigen(matrix) {
  const n = matrix.length;
  const a = matrix.map((row) => Float64Array.from(row));
  const v = a.map((_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));
  const size = Math.hypot(...a.map((row) => Math.hypot(...row))) || 1;
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p][q] ** 2;
    if (Math.sqrt(off) < 1e-15 * size) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) if (a[p][q]) rotate(a, v, p, q);
  }
  return { values: a.map((row, i) => row[i]), vectors: v };
}

function rotate(a, v, p, q) {
  const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let k = 0; k < a.length; k++) [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
  for (let k = 0; k < a.length; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
  for (let k = 0; k < a.length; k++) [v[k][p], v[k][q]] = [c * v[k][p] - s * v[k][q], s * v[k][p] + c * v[k][q]];
}

const falling = (strengths) => [...strengths.keys()].sort((a, b) => strengths[b] - strengths[a] || a - b);
const norm = (row) => row.reduce((sum, part) => sum + dot(part, part), 0);

/** A grid with its targets and sources in another order. */
export function ordered(grid, order) {
  const across = grid.sources.map((_, j) => grid.cells.map((row) => row[j]));
  const by = {
    given: (units) => [...units.keys()],
    index: (units) => [...units.keys()].sort((a, b) => units[a] - units[b]),
    strength: (_, rows) => falling(rows.map(norm)),
    similarity: (_, rows) => bySimilarity(rows),
  }[order];
  const [down, right] = [by(grid.targets, grid.cells), by(grid.sources, across)];
  return {
    ...grid, targets: down.map((i) => grid.targets[i]), sources: right.map((j) => grid.sources[j]),
    cells: down.map((i) => right.map((j) => grid.cells[i][j])),
  };
}
