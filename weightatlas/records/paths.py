"""The influence of one layer on another through a layer between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record
from .connections import checked_count, ranking
from .layers import checked_units
from .replacing import Replaced, replaced_from
from .weights import Weights

#: What is left of a difference of equal sums in float32, relative to the largest entry.
ROUNDING = 1e-6


class Hidden(NamedTuple):
    """A pair of units whose influence cancels in the expanded weight.

    Args:
        unit, source_unit: numbers of the target and the source unit in their layers.
        through: Σ over positions of the magnitude of the expanded weight through the middle layer.
        absolute: Σ over positions of what that would be if nothing cancelled.
        cancellation: ``1 − through / absolute``.
    """

    unit: int
    source_unit: int
    through: float
    absolute: float
    cancellation: float


class MiddleUnit(NamedTuple):
    """A middle unit's number, and its contribution and the magnitude of that, both summed over positions."""

    unit: int
    sum: float
    absolute: float


@dataclass(frozen=True, repr=False, eq=False)
class Paths(Record):
    """How a source layer acts on a target layer through a middle layer, path by path.

    With ``b`` a target, ``m`` a middle and ``a`` a source unit, one path is ``W_bm · W_ma`` at one middle position. The
    expanded weight is the sum of all paths; where positive and negative ones cancel it is near zero although the
    influence is strong whenever the middle units of one sign are active alone (Figures 11 and 12 of the article).

    Args:
        source, middle, target: names of the layers.
        units: int64 ``[O]``: numbers of the target units in their layer.
        total: float32 ``[O, I, H, W]``: the expanded weights, paths around the middle layer included.
        through: float32 ``[O, I, H, W]``: Σ of the paths through the middle layer.
        absolute: float32 ``[O, I, H, W]``: Σ of the magnitudes of the same paths.
        outer: float32 ``[O, M, h, w]``: target ← middle; its element ``(y, x)`` lies ``outer_origin + (y, x)`` from
            the target on the middle grid.
        inner: float32 ``[M, I, h, w]``: middle ← source, from middle position ``t`` at
            ``t · inner_stride + inner_origin + (y, x)`` of the source grid.
        target_units, middle_units, source_units: numbers of units; ``middle_units`` is ``M``, ``source_units`` ``I``.
        origin, stride: ``(y, x)`` of ``total``, ``through`` and ``absolute``, as in :class:`weightatlas.Weights`. Their
            common window may be larger than what the paths through the middle layer need.
        outer_origin, inner_origin, inner_stride: ``(y, x)``.
        source_numbers: int64 ``[I]``: numbers of the source units if only some were asked for, else empty.
        replaced: every operator on the way that is not linear.
        skip_values, skip_first: what of ``total`` runs along paths without parameters, as in
            :class:`weightatlas.Weights`.
        provenance: model, hash, version, notes.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 11 and 12.
    """

    source: str
    middle: str
    target: str
    units: np.ndarray
    total: np.ndarray
    through: np.ndarray
    absolute: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    target_units: int
    middle_units: int
    source_units: int
    origin: tuple[float, float] = (0, 0)
    stride: tuple[float, float] = (1, 1)
    outer_origin: tuple[float, float] = (0, 0)
    inner_origin: tuple[float, float] = (0, 0)
    inner_stride: tuple[float, float] = (1, 1)
    source_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    replaced: tuple[Replaced, ...] = ()
    skip_values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.float32))
    skip_first: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    provenance: Provenance = field(default_factory=Provenance)

    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {"replaced": replaced_from}

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        for name in ("units", "source_numbers"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        for name in ("total", "through", "absolute", "outer", "inner"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))
        shape, units = self.total.shape, self.units.shape
        if len(shape) != 4 or {self.through.shape, self.absolute.shape} != {shape} or units != shape[:1]:
            raise ArgumentError(
                "Paths need total, through and absolute of one shape [O, I, H, W] and units [O]; got "
                f"{shape}, {self.through.shape}, {self.absolute.shape} and {units}"
            )
        wanted = (shape[0], self.middle_units), (self.middle_units, shape[1])
        kernels = self.outer.shape, self.inner.shape
        if tuple(s[:2] for s in kernels) != wanted or {len(s) for s in kernels} != {4}:
            raise ArgumentError(
                f"Paths of {shape[0]} target, {self.middle_units} middle and {shape[1]} source units need outer "
                f"[O, M, h, w] and inner [M, I, h, w]; got {kernels[0]} and {kernels[1]}"
            )
        if shape[1] != self.source_units or self.source_numbers.shape not in ((0,), (shape[1],)):
            raise ArgumentError(
                f"Paths of {self.source_units} source units got total {shape} and {self.source_numbers.shape} "
                "source_numbers"
            )
        self._place()

    def _place(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where the first path lies in the common window, and the step from one middle position to the next."""
        offset, step = [], []
        for axis in (0, 1):
            s, size = self.inner_stride[axis], self.total.shape[2 + axis]
            start = self.outer_origin[axis] * s + self.inner_origin[axis] - self.origin[axis]
            needed = (self.outer.shape[2 + axis] - 1) * s + self.inner.shape[2 + axis]
            if s < 1 or s != int(s) or start < 0 or start != int(start) or start + needed > size:
                raise ArgumentError(
                    f"paths through {self.middle!r} need whole steps within the window of {self.total.shape[2:]} from "
                    f"{self.origin}; got outer {self.outer.shape[2:]} from {self.outer_origin}, inner "
                    f"{self.inner.shape[2:]} from {self.inner_origin}, inner_stride {self.inner_stride}"
                )
            offset.append(int(start))
            step.append(int(s))
        return (offset[0], offset[1]), (step[0], step[1])

    @property
    def addresses(self) -> list[str]:
        """Addresses ``layer:unit`` of the target units."""
        return [f"{self.target}:{u}" for u in self.units]

    @property
    def source_indices(self) -> np.ndarray:
        """Numbers of the source units in their layer, int64 ``[I]``."""
        return self.source_numbers if self.source_numbers.size else np.arange(self.source_units)

    @property
    def best(self) -> np.ndarray:
        """Σ of the paths that excite alone, float32 ``[O, I, H, W]``: every gate that helps open, all others shut.

        Each entry has its own best case; no pattern of active middle units need give all of them at once.
        """
        return (self.absolute + self.through) / 2

    @property
    def worst(self) -> np.ndarray:
        """Σ of the paths that inhibit alone, float32 ``[O, I, H, W]``; entry by entry, like :attr:`best`."""
        return (self.through - self.absolute) / 2

    @property
    def cancellation(self) -> np.ndarray:
        """``1 − |Σ| / Σ|·|`` over the paths of every entry, float32 ``[O, I, H, W]``: 0 none cancels, 1 all do.

        0 where there is no path.
        """
        return _lost(np.abs(self.through), self.absolute)

    @property
    def unit_cancellation(self) -> np.ndarray:
        """The same over the sums of both magnitudes over positions, float32 ``[O, I]``."""
        return _lost(*self._sums())

    @property
    def bypass(self) -> np.ndarray:
        """What of the expanded weights runs around the middle layer, float32 ``[O, I, H, W]``."""
        return self.total - self.through

    @property
    def bypass_share(self) -> np.ndarray:
        """Σ|bypass| / (Σ|bypass| + Σ|through|) over source units and positions, float32 ``[O]``; 0 if both vanish.

        Entries below 1e-6 of the unit's largest are rounding and count as none.
        """
        around = np.abs(self.bypass)
        largest = np.maximum(np.abs(self.total), self.absolute).max(axis=(1, 2, 3), keepdims=True, initial=0)
        around = np.where(around > ROUNDING * largest, around, 0).sum(axis=(1, 2, 3), dtype=np.float64)
        both = around + np.abs(self.through).sum(axis=(1, 2, 3), dtype=np.float64)
        return (around / np.where(both > 0, both, 1)).astype(np.float32)

    @property
    def weights(self) -> Weights:
        """The expanded weights: :attr:`total` as a record of its own."""
        return Weights(
            values=self.total,
            source=self.source,
            target=self.target,
            units=self.units,
            source_units=self.source_units,
            target_units=self.target_units,
            origin=self.origin,
            stride=self.stride,
            source_numbers=self.source_numbers,
            replaced=self.replaced,
            skip_values=self.skip_values,
            skip_first=self.skip_first,
            provenance=self.provenance,
        )

    def entry(self, unit: int, source_unit: int) -> tuple[int, int]:
        """Where a target and a source unit are in the arrays' first two axes.

        Raises:
            UnknownNameError, ArgumentError: for units that are not here.
        """
        sources = self.source_indices
        row = _index(unit, self.units, self.target_units, self.target)
        return row, _index(source_unit, sources, int(sources.max(initial=-1)) + 1, self.source)

    def contributions(self, unit: int, source_unit: int) -> np.ndarray:
        """What every middle unit contributes to the influence of one source unit on one target unit.

        Args:
            unit, source_unit: their numbers in their layers.

        Returns:
            Float32 ``[M, H, W]`` on the common window; over ``M`` they add up to that entry of :attr:`through`.

        Raises:
            UnknownNameError, ArgumentError: for units that are not here.
        """
        row, column = self.entry(unit, source_unit)
        outer, inner = self.outer[row].astype(np.float64), self.inner[:, column]
        (top, left), (down, right) = self._place()
        h, w = inner.shape[1:]
        found = np.zeros((self.middle_units, *self.total.shape[2:]))
        for y, x in np.ndindex(outer.shape[1:]):  # the inner kernel, once for every position of the outer one
            at_y, at_x = top + y * down, left + x * right
            found[:, at_y : at_y + h, at_x : at_x + w] += outer[:, y, x, None, None] * inner
        return found.astype(np.float32)

    def middle_top(self, unit: int, source_unit: int, k: int = 10) -> list[MiddleUnit]:
        """The middle units through which a source unit acts on a target unit most, by Σ|contribution|, largest first.

        Raises:
            UnknownNameError, ArgumentError: for units that are not here, or another ``k``.
        """
        count = checked_count(k, "middle units")
        maps = self.contributions(unit, source_unit)
        sums, magnitudes = (v.sum(axis=(1, 2), dtype=np.float64) for v in (maps, np.abs(maps)))
        top = ranking(magnitudes, np.arange(self.middle_units), count)
        return [MiddleUnit(int(m), float(sums[m]), float(magnitudes[m])) for m in top]

    def hidden(self, k: int = 10) -> list[Hidden]:
        """The pairs of units in which most influence cancels, by Σ|·| − |Σ| summed over positions, largest first.

        Raises:
            ArgumentError: for another ``k``.
        """
        count = checked_count(k, "pairs of units")
        net, absolute = self._sums()
        lost = _lost(net, absolute)
        top = ranking((absolute - net).ravel(), np.arange(net.size), count)
        rows, columns = np.unravel_index(top, net.shape)
        return [
            Hidden(int(self.units[r]), int(self.source_indices[c]), *(float(v[r, c]) for v in (net, absolute, lost)))
            for r, c in zip(rows, columns, strict=True)
        ]

    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Σ over positions of |through| and of absolute, float64 ``[O, I]``."""
        return tuple(v.sum(axis=(2, 3), dtype=np.float64) for v in (np.abs(self.through), self.absolute))  # pyright: ignore[reportReturnType]

    def __repr__(self) -> str:
        o, i, h, w = self.total.shape
        return (
            f"Paths({self.source} → {self.middle} → {self.target}: [O={o}, M={self.middle_units}, I={i}, H={h}, W={w}])"
        )


def _lost(net: np.ndarray, absolute: np.ndarray) -> np.ndarray:
    """``1 − net / absolute``, 0 where there is nothing; rounding may leave a net sum above the magnitudes."""
    kept = net / np.where(absolute > 0, absolute, 1)
    return np.where(absolute > 0, np.clip(1 - kept, 0, 1), 0).astype(np.float32)


def _index(unit: Any, known: np.ndarray, count: int, layer: str) -> int:
    asked = checked_units([unit], count, f"layer {layer!r}")[0]
    found = np.flatnonzero(known == asked)
    if not found.size:
        raise ArgumentError(f"unit {asked} of {layer!r} is not among the {len(known)} in these paths")
    return int(found[0])
