"""The different ways in which one unit comes to fire: gradients of many examples in a few cases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class GradientCases(Record):
    """Gradients of one target unit on many examples, as non-negative mixtures of a few cases.

    ``G ≈ L C``: G ``[N, I·H·W]`` the gradients, L ``[N, K]`` ≥ 0, C ``[K, I·H·W]``.

    Args:
        cases: float32 ``[K, I, H, W]``: each case's gradient over source units and relative positions, largest
            share first.
        shares: float32 ``[K]``: each case's part of the gradients' squared norm; they add up to ``explained``.
        loadings: float32 ``[N, K]``: how much of each case is in an example's gradient, ≥ 0.
        explained: share of the gradients' squared norm that the cases hold.
        bound: the same for a truncated singular value decomposition of equal rank.
        source, target: names of the layers.
        unit: the target unit's number.
        origin, stride: as in :class:`Weights`: element (0, 0) lies at ``t · stride + origin`` on the source grid.
        images: int32 ``[N]``: places of the examples' images in ``names``.
        places: int32 ``[N, 2]``: positions (y, x) of the examples on the target grid.
        values: float32 ``[N]``: the target unit's activations there.
        names: of the images.
        alike: float32 ``[K, K]``: cosines between the cases.
        seed: of the factorization.
        provenance: model, hash, version, notes.
    """

    cases: np.ndarray
    shares: np.ndarray
    loadings: np.ndarray
    explained: float
    bound: float
    source: str
    target: str
    unit: int
    origin: tuple[float, float]
    stride: tuple[float, float]
    images: np.ndarray
    places: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    alike: np.ndarray
    seed: int = 0
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        k, _, h, w = self.cases.shape
        shares = ", ".join(f"{s:.0%}" for s in self.shares)
        return (
            f"GradientCases({self.source} → {self.target}:{self.unit}: {k} cases of {h} × {w}, shares {shares}, of "
            f"{len(self.loadings)} examples)"
        )
