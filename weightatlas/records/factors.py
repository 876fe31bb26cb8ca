"""Factors of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class Factors(Record):
    """A one-sided factorization ``X ≈ S Cᵀ`` of weights: spatial maps times channel directions.

    Args:
        space: float32 ``[O, H, W, K]``: S, each factor's map for every target unit, scaled so that its largest
            magnitude is 1 (over all units, or within each unit if ``per_unit``).
        channels: float32 ``[K, I]``: Cᵀ, each factor's direction over source units; ``[O, K, I]`` if ``per_unit``.
        explained: share of the weights' squared norm that the factors hold, ``1 − ‖X − S Cᵀ‖² / ‖X‖²``; 1 if all
            weights are zero.
        bound: the same share for the truncated singular value decomposition of equal rank, which no factorization
            of that rank exceeds.
        shares: float32 ``[K]``: each factor's part of ``explained``; they add up to it (Shapley values: half of what
            two overlapping factors hold together is given to each; negative for one that mostly cancels others).
            Factors are ordered by it.
        unit_explained, unit_bound: float32 ``[O]``: the same two numbers for every unit's own weights; jointly
            factorized units share their directions, so ``unit_bound`` is NaN there.
        source, target, units, source_units: as in :class:`Weights`.
        nonnegative: ``"space"`` (S ≥ 0), ``"channels"`` (C ≥ 0) or ``"none"`` (singular vectors).
        method: ``"posneg"``, ``"semi"`` or ``"svd"``.
        per_unit: each unit has directions of its own, so colours do not compare across units.
        seed, restarts: of the random starts; the best is kept.
        provenance: of the weights.
    """

    space: np.ndarray
    channels: np.ndarray
    explained: float
    bound: float
    shares: np.ndarray
    unit_explained: np.ndarray
    unit_bound: np.ndarray
    source: str
    target: str
    units: np.ndarray
    source_units: int
    nonnegative: str
    method: str
    per_unit: bool
    seed: int
    restarts: int
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def rank(self) -> int:
        """The number of factors ``K``."""
        return self.space.shape[-1]

    def reconstruct(self) -> np.ndarray:
        """The weights as the factors tell them, float32 ``[O, I, H, W]``."""
        pattern = "ohwk,oki->oihw" if self.per_unit else "ohwk,ki->oihw"
        return np.einsum(pattern, self.space, self.channels, optimize=True)

    def __repr__(self) -> str:
        side = {"space": "S ≥ 0", "channels": "C ≥ 0"}.get(self.nonnegative, "signed")
        return (
            f"Factors({self.source} → {self.target}: {len(self.space)} units, rank {self.rank}, {self.method}, {side}"
            f"{', per unit' if self.per_unit else ''}, explained {self.explained:.3f} of at most {self.bound:.3f})"
        )
