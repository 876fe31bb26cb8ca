"""What source units act on: the other way round from :mod:`.connections`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record
from .connections import By, checked_count, norms
from .weights import Weights

NOBODY = -1


@dataclass(frozen=True, repr=False, eq=False)
class Outgoing(Record):
    """The target units that every source unit of two layers acts on most, with their maps.

    Args:
        source, target: names of the layers.
        sources: int64 ``[I]``: numbers of the source units in their layer.
        units: int64 ``[I, K]``: numbers of target units, by falling L2 norm of their maps; −1 where there are fewer
            than K. Among them are the strongest by L2, by excitation and by inhibition, in turn.
        maps: float32 ``[I, K, H, W]``: the whole signed maps from source to target unit, as in :class:`Weights`;
            0 where there is no unit.
        shares: float32 ``[I]``: the part of the source unit's total squared norm that these maps hold, 0 … 1; 1 if it
            has no weights at all.
        shown_of: int64 ``[I]``: number of target units with any weight from the source unit.
        norms: float32 ``[I]``: L2 norm of all weights from the source unit.
        provenance: of the weights.
    """

    source: str
    target: str
    sources: np.ndarray
    units: np.ndarray
    maps: np.ndarray
    shares: np.ndarray
    shown_of: np.ndarray
    norms: np.ndarray
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        shape = self.units.shape
        vectors = {self.sources.shape, self.shares.shape, self.shown_of.shape, self.norms.shape}
        if len(shape) != 2 or self.maps.shape[:2] != shape or self.maps.ndim != 4 or vectors != {shape[:1]}:
            raise ArgumentError(
                f"Outgoing needs units [I, K], maps [I, K, H, W] and vectors [I]; got {shape}, {self.maps.shape} and "
                f"{sorted(vectors)}"
            )

    def __repr__(self) -> str:
        i, k = self.units.shape
        return f"Outgoing({self.source} → {self.target}: the {k} strongest targets of {i} units)"


def strongest_targets(weights: Weights, k: int = 24) -> Outgoing:
    """The target units that every source unit acts on most.

    Args:
        weights: all or some target units of two layers.
        k: how many; fewer if there are fewer target units.

    Raises:
        WeightValuesError: for NaN or infinite weights.
    """
    weights.require_finite()
    count = min(checked_count(k, "target units"), len(weights.values))
    width = weights.values.shape[1]
    h, w = weights.values.shape[2:]
    total = width * weights.groups
    units = np.full((total, count), NOBODY, np.int64)
    maps = np.zeros((total, count, h, w), np.float32)
    shares, shown, lengths = np.ones(total, np.float32), np.zeros(total, np.int64), np.zeros(total, np.float32)
    group = weights.units // (weights.target_units // weights.groups)  # that each target unit reads
    for g in range(weights.groups):
        rows = np.flatnonzero(group == g)
        place = slice(g * width, (g + 1) * width)
        found = _strongest(weights.values[rows], count)
        kept = found >= 0
        units[place, : found.shape[1]] = np.where(kept, weights.units[rows][found], NOBODY) if len(rows) else NOBODY
        block = weights.values[rows]
        power = np.square(block, dtype=np.float64).sum(axis=(2, 3))  # [rows, width]
        for column in range(width if len(rows) else 0):
            own = found[column][kept[column]]
            maps[g * width + column, : len(own)] = block[own, column]
            whole = power[:, column].sum()
            shares[g * width + column] = power[own, column].sum() / whole if whole > 0 else 1
        shown[place] = (power > 0).sum(axis=0)
        lengths[place] = np.sqrt(power.sum(axis=0))
    return Outgoing(
        weights.source, weights.target, weights.source_indices, units, maps, shares, shown, lengths, weights.provenance
    )


def _strongest(block: np.ndarray, count: int) -> np.ndarray:
    """Rows of ``[rows, width, H, W]`` for every column, ``[width, ≤ count]``, by falling L2 norm; −1 for nobody."""
    strengths = [norms(block, by) for by in get_args(By)]
    numbers = np.broadcast_to(np.arange(len(block))[:, None], block.shape[:2])
    ranks = []
    for strength in strengths:
        order = np.lexsort((numbers, -strength), axis=0)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, numbers, axis=0)
        ranks.append(np.where(strength > 0, rank, len(block)))
    best = np.min(ranks, axis=0)
    chosen = np.lexsort((ranks[0], best), axis=0)[:count]  # in turn by each kind of strength
    by_l2 = np.take_along_axis(ranks[0], chosen, axis=0)
    chosen = np.take_along_axis(chosen, np.argsort(by_l2, axis=0, kind="stable"), axis=0)
    nothing = np.take_along_axis(strengths[0], chosen, axis=0) == 0
    return np.where(nothing, NOBODY, chosen).T
