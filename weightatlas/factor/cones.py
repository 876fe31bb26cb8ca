"""Rows as non-negative mixtures of as few rays as possible: which of all equally good factorizations is taken.

Many pairs L ≥ 0, C give the same product L C: any wider cone around the rows does. Of these the one is looked for whose
mixtures are short,

    min  ½ ‖Y − L C‖²  +  λ Σ l          L [N, K] ≥ 0,  rays C [K, D] of length 1

so that a row that one ray explains is not written as a sum of several, and two opposite rays never cancel.
"""

from __future__ import annotations

import numpy as np

PENALTY = 0.02  # of mixtures, for rows of length 1
STARTS, ROUNDS, SWEEPS = 8, 60, 40
SETTLED = 1e-7


def rays(rows: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Loadings L ``[N, K]`` ≥ 0 and rays C ``[K, D]`` of length 1 (or 0, where fewer do).

    Args:
        rows: float64 ``[N, D]``, about of length 1.
        count: number of rays K.
        seed: of the random starts; the best of eight is kept.

    Source: Hoyer, "Non-negative sparse coding", 2002 (here the rays may have either sign); starts after k-means++
    (Arthur & Vassilvitskii 2007).
    """
    generator = np.random.default_rng(seed)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for number in range(STARTS):
        found = _settled(rows, _start(rows, count, generator, first=number == 0))
        if best is None or found[0] < best[0] - SETTLED * max(len(rows), 1):
            best = found
    cases = best[2] if best is not None else np.zeros((count, rows.shape[1]))
    sparse = best[1] if best is not None else np.zeros((len(rows), count))
    return mixtures(rows, cases, 0.0, sparse, support=sparse > 0), cases


def _start(rows: np.ndarray, count: int, generator: np.random.Generator, first: bool) -> np.ndarray:
    """Directions of rows far from each other: the longest row first, then by what those before leave over."""
    lengths = np.linalg.norm(rows, axis=1)
    chosen = [int(lengths.argmax()) if first else int(generator.integers(len(rows)))]
    while len(chosen) < count:
        cases = _unit(rows[chosen])
        left = np.square(rows - mixtures(rows, cases, 0.0) @ cases).sum(1)
        total = left.sum()
        if total <= SETTLED * np.square(lengths).sum():
            break
        chosen.append(int(left.argmax()) if first else int(generator.choice(len(rows), p=left / total)))
    cases = np.zeros((count, rows.shape[1]))
    cases[: len(chosen)] = _unit(rows[chosen])
    return cases


def _settled(rows: np.ndarray, cases: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The penalised error with mixtures and rays improved in turn."""
    loadings, last = None, np.inf
    for _ in range(ROUNDS):
        loadings = mixtures(rows, cases, PENALTY, loadings)
        error = 0.5 * np.square(rows - loadings @ cases).sum() + PENALTY * loadings.sum()
        if last - error <= SETTLED * len(rows):
            break
        last = error
        gram = loadings.T @ loadings
        gram[np.diag_indices_from(gram)] += 1e-9 * max(gram.trace(), 1e-300)
        cases = _unit(np.linalg.solve(gram, loadings.T @ rows))
    loadings = mixtures(rows, cases, PENALTY, loadings)
    error = 0.5 * np.square(rows - loadings @ cases).sum() + PENALTY * loadings.sum()
    return float(error), loadings, cases


def mixtures(
    rows: np.ndarray,
    cases: np.ndarray,
    penalty: float,
    start: np.ndarray | None = None,
    support: np.ndarray | None = None,
) -> np.ndarray:
    """Loadings ``[N, K]`` ≥ 0 of rays, one ray at a time until nothing changes; only those in the support if given."""
    target, gram = rows @ cases.T - penalty, cases @ cases.T
    size = gram.diagonal()
    loadings = np.zeros((len(rows), len(cases))) if start is None else start.copy()
    for _ in range(SWEEPS * max(len(cases), 1)):
        change = 0.0
        for k in np.flatnonzero(size > 0):
            new = np.maximum(loadings[:, k] + (target[:, k] - loadings @ gram[:, k]) / size[k], 0)
            if support is not None:
                new = np.where(support[:, k], new, 0)
            change = max(change, float(np.abs(new - loadings[:, k]).max(initial=0)))
            loadings[:, k] = new
        if change < SETTLED:
            break
    loadings[:, size == 0] = 0
    return loadings


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
