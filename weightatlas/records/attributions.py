"""Why one unit fired at one position of one image: what each unit of an earlier layer contributed there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class Attributions(Record):
    """What the units of a source layer contributed to one target unit at one position of one image.

    ``value = base + Σ values + residual``: the sum can be checked.

    Args:
        values: float32 ``[I, H, W]``: the contribution of each source unit at each position of the source grid.
        activations: float32 ``[I, H, W]``: the source layer's activations on the image.
        gradients: float32 ``[I, H, W]``: of the target by the source on this image as it is; of ``exact`` the weights.
        source, target: names of the layers; a source that is no layer of its own is ``"input of …"``.
        unit: the target unit's number.
        at: its position (y, x) on the target grid.
        method: ``"exact"`` (weight × activation), ``"gradient"`` (gradient × activation), ``"integrated_gradients"``
            or ``"conductance"``.
        value: the target unit's value there, on this image.
        base: its value without what the contributions stand for: the bias (``exact``), the value where the source is 0
            (``gradient``), or that on the baseline.
        baseline: what the contributions are measured from, in words.
        window: (top, left, bottom, right) of the part of the source grid on which anything was contributed.
        target_map: float32 ``[H, W]``: the target unit's activations on the image.
        image: uint8 ``[h, w, C]``: what the network saw; empty for inputs that are no images.
        box: (top, left, bottom, right), the pixels of the image that the target's position sees; empty if unknown.
        steps: of the integral, 0 where there is none.
        channel_names: of the image, and of the source units where these are the image's channels.
        provenance: model, hash, version, notes.
    """

    values: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    source: str
    target: str
    unit: int
    at: tuple[int, int]
    method: str
    value: float
    base: float
    baseline: str
    window: tuple[int, int, int, int]
    target_map: np.ndarray
    image: np.ndarray
    box: tuple[int, ...] = ()
    steps: int = 0
    channel_names: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that all arrays are of the same units and positions."""
        shapes = [self.values.shape, self.activations.shape, self.gradients.shape]
        if self.values.ndim != 3 or len(set(shapes)) > 1:
            raise ArgumentError(f"values, activations and gradients are one [I, H, W] each; got {shapes}")

    @property
    def total(self) -> float:
        """Σ of all contributions, in double precision."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def residual(self) -> float:
        """What is missing: ``value − base − total``; the completeness error of methods that are complete."""
        return self.value - self.base - self.total

    @property
    def error(self) -> float:
        """The residual's size, relative to the larger of ``|value|`` and ``|value − base|``."""
        scale = max(abs(self.value), abs(self.value - self.base))
        return abs(self.residual) / scale if scale else abs(self.residual)

    @property
    def by_unit(self) -> np.ndarray:
        """Each source unit's contribution, summed over positions, float64 ``[I]``."""
        return self.values.sum(axis=(1, 2), dtype=np.float64)

    def pushed(self, k: int = 6) -> tuple[list[int], list[int]]:
        """Numbers of the k source units that pushed the target up most, and of the k that pushed it down most."""
        sums = self.by_unit
        order = np.argsort(-sums, kind="stable")
        up = [int(u) for u in order[:k] if sums[u] > 0]
        down = [int(u) for u in order[::-1][:k] if sums[u] < 0]
        return up, down

    def strongest_place(self, unit: int) -> tuple[int, int]:
        """The position (y, x) of the source grid at which a source unit contributed most, in either direction."""
        flat = int(np.abs(self.values[unit]).argmax())
        return flat // self.values.shape[2], flat % self.values.shape[2]

    def __repr__(self) -> str:
        return (
            f"Attributions({self.source} → {self.target}:{self.unit} at {self.at}, {self.method}: "
            f"value {self.value:.4g} = base {self.base:.4g} + {self.total:.4g} + residual {self.residual:.2g})"
        )
