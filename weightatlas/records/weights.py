"""Weights between two layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError, WeightValuesError
from .base import Provenance, Record
from .connections import By, Connections, strongest
from .layers import checked_units
from .replacing import Replaced, replaced_from


@dataclass(frozen=True, repr=False, eq=False)
class Weights(Record):
    """The linear map from the units of one layer to the units of another.

    Element ``values[o, i, y, x]`` is what target unit ``o`` at position ``t`` gets from source unit ``i`` at position
    ``t · stride + origin + (y, x) · dilation`` of the source grid (y down, x right).

    Args:
        values: float32 ``[O, I, H, W]``: target unit, source unit, y, x. Compact if ``groups > 1``: then axis 1 holds
            only the ``I / groups`` source units that a target unit can see; :meth:`dense` unfolds it.
        source, target: names of the layers.
        units: int64 ``[O]``: numbers of the target units in their layer.
        source_units: number of source units ``I`` in all.
        target_units: number of units of the target layer, of which ``units`` are some.
        groups: of the convolution; 1 when ``values`` is full.
        origin, stride, dilation: ``(y, x)`` in steps of the source grid; fractions for transposed convolutions.
        sees_pixels: the source is the network's own input.
        channel_names: of the source units, where they have names; else empty.
        norm: the batch norm that was folded in, or ``""``.
        replaced: every operator on the way that is not linear.
        at: the target position ``(y, x)`` whose map this is, where the map depends on it; then ``values`` are clipped
            to the source grid. ``None`` if the map is the same everywhere.
        source_numbers: int64 ``[I]``: numbers of the source units in their layer if only some were asked for, else
            empty for all of them in order.
        skip_values: float32 ``[O, 1, H, W]`` or ``[O, I, H, W]``: what of ``values`` runs along paths without
            parameters; empty where there are none. :attr:`skip` gives it as weights.
        skip_first: int64 ``[O]``: the source unit (row of axis 1) that the first of each row of ``skip_values`` is.
        skip_included: whether ``values`` contain it.
        provenance: model, hash, version, notes.
    """

    values: np.ndarray
    source: str
    target: str
    units: np.ndarray
    source_units: int
    target_units: int
    groups: int = 1
    origin: tuple[float, float] = (0, 0)
    stride: tuple[float, float] = (1, 1)
    dilation: tuple[float, float] = (1, 1)
    sees_pixels: bool = False
    channel_names: tuple[str, ...] = ()
    norm: str = ""
    replaced: tuple[Replaced, ...] = ()
    at: tuple[int, int] | None = None
    source_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    skip_values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.float32))
    skip_first: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    skip_included: bool = True
    provenance: Provenance = field(default_factory=Provenance)

    axes: ClassVar[tuple[str, str, str, str]] = ("target unit", "source unit", "y", "x")
    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {"replaced": replaced_from}

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        values, units = np.asarray(self.values, np.float32), np.asarray(self.units, np.int64)
        if values.ndim != 4 or units.shape != values.shape[:1]:
            raise ArgumentError(
                f"Weights need values [O, I, H, W] and units [O]; got shapes {values.shape} and {units.shape}"
            )
        if values.shape[1] * self.groups != self.source_units:
            raise ArgumentError(
                f"Weights of {self.source_units} source units in {self.groups} groups need axis 1 of size "
                f"{self.source_units / self.groups:g}; values have shape {values.shape}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "units", units)
        numbers, skip = np.asarray(self.source_numbers, np.int64), np.asarray(self.skip_values, np.float32)
        first = np.asarray(self.skip_first, np.int64)
        if numbers.size and numbers.shape != (self.source_units,):
            raise ArgumentError(f"Weights of {self.source_units} source units got {numbers.shape} source_numbers")
        beside = skip.ndim == 4 and (skip.shape[0], *skip.shape[2:]) == (values.shape[0], *values.shape[2:])
        if skip.size and not (beside and first.shape == units.shape):
            raise ArgumentError(f"skip_values {skip.shape} and skip_first {first.shape} do not fit {values.shape}")
        for name, array in (("source_numbers", numbers), ("skip_values", skip), ("skip_first", first)):
            object.__setattr__(self, name, array)

    @property
    def depthwise(self) -> bool:
        """Whether every target unit reads one source unit of several."""
        return self.values.shape[1] == 1 and self.source_units > 1

    @property
    def addresses(self) -> list[str]:
        """Addresses ``layer:unit`` of the target units."""
        return [f"{self.target}:{u}" for u in self.units]

    @property
    def source_indices(self) -> np.ndarray:
        """Numbers of the source units in their layer, int64 ``[I]``."""
        return self.source_numbers if self.source_numbers.size else np.arange(self.source_units)

    @property
    def skip(self) -> Weights | None:
        """What runs from source to target along paths without parameters, of the same shape; ``None`` without any.

        In a residual network this is the identity path, gates and poolings on it included. ``values`` contain it
        unless :attr:`skip_included` is false, so ``w.values - w.skip.values`` are the weights proper.
        """
        if not self.skip_values.size:
            return None
        values = np.zeros((len(self.values), self.source_units, *self.values.shape[2:]), np.float32)
        for row, first in enumerate(self.skip_first):  # rows may begin before the chosen source units, or end behind
            begin, end = max(first, 0), min(first + self.skip_values.shape[1], self.source_units)
            if begin < end:
                values[row, begin:end] = self.skip_values[row, begin - first : end - first]
        empty = np.zeros((0, 0, 0, 0), np.float32)
        return dataclasses.replace(
            self, values=values, groups=1, skip_values=empty, skip_first=np.zeros(0, np.int64), replaced=()
        )

    def seen_units(self, row: int) -> range:
        """The source units that the target unit in that row of ``values`` reads."""
        group = int(self.units[row]) // (self.target_units // self.groups)
        width = self.values.shape[1]
        return range(group * width, (group + 1) * width)

    def select(self, units: Any) -> Weights:
        """The weights of some target units.

        Args:
            units: unit numbers in their layer, all among :attr:`units`.

        Raises:
            UnknownNameError, ArgumentError: for units that are not here.
        """
        chosen = checked_units(units, self.target_units, f"layer {self.target!r}")
        row = {int(u): i for i, u in enumerate(self.units)}
        missing = [u for u in chosen if u not in row]
        if missing:
            raise ArgumentError(f"unit {missing[0]} of {self.target!r} is not among the {len(row)} in these weights")
        rows = [row[u] for u in chosen]
        skips = {}
        if self.skip_values.size:
            skips = {"skip_values": self.skip_values[rows], "skip_first": self.skip_first[rows]}
        return dataclasses.replace(self, values=self.values[rows], units=self.units[rows], **skips)

    def top(self, unit: int, k: int = 10, by: By = "l2") -> Connections:
        """The source units that one target unit listens to most, strongest first.

        Args:
            unit: the target unit's number in its layer.
            k: how many; fewer if the unit has fewer. Source units without any weight on it are never among them.
            by: what counts: ``"l2"``, the norm of a source unit's map; ``"excite"`` or ``"inhibit"``, the norm of its
                positive or negative part, and source units that have none are left out. Of equally strong ones the
                smaller number comes first.

        Raises:
            UnknownNameError, ArgumentError: for a unit that is not here, or another ``k`` or ``by``.
            WeightValuesError: if the unit's weights are NaN or infinite.
        """
        return strongest(self, unit, k, by)

    def dense(self) -> Weights:
        """The same map with groups and dilation unfolded: every source unit, every step of the source grid.

        Returns:
            Weights with ``groups`` 1 and, for dilated convolutions, zeros between the kernel's elements.
        """
        values = self.values
        if self.groups > 1:
            full = np.zeros((len(values), self.source_units, *values.shape[2:]), np.float32)
            for row in range(len(values)):
                seen = self.seen_units(row)
                full[row, seen.start : seen.stop] = values[row]
            values = full
        # whole steps between elements become zeros; fractions (transposed convolutions) stay as they are
        steps = [int(d) if d > 1 and d == int(d) else 1 for d in self.dilation]
        if steps != [1, 1]:
            size = [(n - 1) * s + 1 for n, s in zip(values.shape[2:], steps, strict=True)]
            spread = np.zeros((*values.shape[:2], *size), np.float32)
            spread[:, :, :: steps[0], :: steps[1]] = values
            values = spread
        left = (self.dilation[0] / steps[0], self.dilation[1] / steps[1])
        return dataclasses.replace(self, values=values, groups=1, dilation=left)

    def require_finite(self) -> None:
        """Stops at NaN or infinity.

        Raises:
            WeightValuesError: with the number of bad values and the first units that hold them.
        """
        bad = ~np.isfinite(self.values)
        if bad.any():
            rows = np.flatnonzero(bad.any(axis=(1, 2, 3)))
            first = ", ".join(self.addresses[r] for r in rows[:5]) + (" …" if len(rows) > 5 else "")
            raise WeightValuesError(
                f"{int(bad.sum())} of {bad.size} weights from {self.source!r} to {self.target!r} are NaN or infinite, "
                f"in {len(rows)} of {len(bad)} units: {first}. Choose other units, or check the training run"
            )

    def __repr__(self) -> str:
        o, i, h, w = self.values.shape
        extra = f", groups={self.groups}" if self.groups > 1 else ""
        extra += f", replaced={len(self.replaced)}" if self.replaced else ""
        return f"Weights({self.source} → {self.target}: [O={o}, I={i}, H={h}, W={w}]{extra})"
