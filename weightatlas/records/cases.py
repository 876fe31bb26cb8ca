"""The different ways in which one unit comes to fire: gradients of many examples in a few cases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class GradientCases(Record):
    """Gradients of one target unit on many examples, as non-negative mixtures of a few cases.

    ``G ≈ L C``: G ``[N, I·H·W]`` the gradients, each scaled to length 1, so that every example counts alike; L
    ``[N, K]`` ≥ 0, C ``[K, I·H·W]``. :meth:`reconstruct` gives them back in their own size.

    Args:
        cases: float32 ``[K, I, H, W]``: each case's gradient over source units and relative positions, of length 1,
            largest share first; all 0 where fewer cases do.
        shares: float32 ``[K]``: each case's part of G's squared norm, which is that of the examples; they add up to
            ``explained`` (half of what two overlapping cases hold together is given to each).
        loadings: float32 ``[N, K]``: L, how much of each case is in an example's gradient, ≥ 0.
        explained: share of G's squared norm that the cases hold, ``1 − ‖G − L C‖² / ‖G‖²``.
        bound: the same for a truncated singular value decomposition of equal rank.
        source, target: names of the layers.
        unit: the target unit's number.
        origin, stride: as in :class:`Weights`: element (0, 0) lies at ``t · stride + origin`` on the source grid.
        images: int32 ``[N]``: places of the examples' images in ``names``.
        places: int32 ``[N, 2]``: positions (y, x) of the examples on the target grid.
        values: float32 ``[N]``: the target unit's values there (of an activation layer the pre-activations).
        names: of the images.
        alike: float32 ``[K, K]``: cosines between the cases.
        seed: of the factorization.
        lengths: float32 ``[N]``: of the examples' gradients before they were scaled.
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
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        """Checks that there is a loading for each example and case; without lengths all are 1."""
        if self.cases.ndim != 4 or self.loadings.shape[1:] != self.cases.shape[:1]:
            raise ArgumentError(
                f"cases {self.cases.shape} are not [K, I, H, W], or loadings {self.loadings.shape} not [N, K]"
            )
        if not self.lengths.size:
            object.__setattr__(self, "lengths", np.ones(len(self.loadings), np.float32))

    def reconstruct(self) -> np.ndarray:
        """The examples' gradients as the cases tell them, float32 ``[N, I, H, W]``."""
        return np.einsum("n,nk,kihw->nihw", self.lengths, self.loadings, self.cases, optimize=True)

    def most_of(self, case: int, count: int = 4) -> list[int]:
        """Rows of the examples in which a case has most of the gradient, most first; only those that have some of it.

        An example's share of a case is its loading times the case's norm, over the sum of these.

        Raises:
            ArgumentError: for a case that does not exist.
        """
        if not 0 <= case < len(self.cases):
            raise ArgumentError(f"there is no case {case}; there are 0 … {len(self.cases) - 1}")
        norms = np.linalg.norm(self.cases.reshape(len(self.cases), -1).astype(np.float64), axis=1)
        parts = self.loadings * norms
        whole = parts.sum(axis=1)
        share = parts[:, case] / np.where(whole > 0, whole, 1)
        # among those that are wholly of one case, the strongest gradient first
        order = sorted(range(len(share)), key=lambda n: (-round(float(share[n]), 2), -float(parts[n, case])))
        return [n for n in order[:count] if share[n] > 0]

    def __repr__(self) -> str:
        k, _, h, w = self.cases.shape
        shares = ", ".join(f"{s:.0%}" for s in self.shares)
        return (
            f"GradientCases({self.source} → {self.target}:{self.unit}: {k} cases of {h} × {w}, shares {shares}, of "
            f"{len(self.loadings)} examples)"
        )
