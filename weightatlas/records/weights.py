"""Weights between two layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError, WeightValuesError
from .base import Provenance, Record
from .layers import checked_units


@dataclass(frozen=True)
class Replaced:
    """An operator that is not linear, and what it was read as.

    Args:
        operator: its name, e.g. ``"ReLU6"``.
        module: its dotted module path.
        became: what stands in its place, e.g. ``"identity"``.
    """

    operator: str
    module: str
    became: str


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
    provenance: Provenance = field(default_factory=Provenance)

    axes: ClassVar[tuple[str, str, str, str]] = ("target unit", "source unit", "y", "x")
    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {"replaced": lambda v: tuple(Replaced(**r) for r in v)}

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

    @property
    def depthwise(self) -> bool:
        """Whether every target unit reads one source unit of several."""
        return self.values.shape[1] == 1 and self.source_units > 1

    @property
    def addresses(self) -> list[str]:
        """Addresses ``layer:unit`` of the target units."""
        return [f"{self.target}:{u}" for u in self.units]

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
        return dataclasses.replace(self, values=self.values[rows], units=self.units[rows])

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
