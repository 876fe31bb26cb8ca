"""What units did on many images: statistics, histograms, and the images that excite each most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError, UnknownNameError, unknown_name
from .base import Provenance, Record

_PER_UNIT = (
    "total", "squares", "positive", "least", "most", "histogram", "steps", "peaks", "images", "places", "nonfinite",
)  # fmt: skip


class Found(NamedTuple):
    """An image that excites a unit.

    Args:
        image: its name.
        number: its place among all images.
        activation: the unit's largest activation on it.
        at: where that is, (y, x) on the layer's grid.
    """

    image: str
    number: int
    activation: float
    at: tuple[int, int]


@dataclass(frozen=True, repr=False, eq=False)
class DatasetExamples(Record):
    """Statistics of all units of some layers on many images, and each unit's most exciting images.

    All arrays have one row a unit, of all layers one after the other; :meth:`rows` gives the rows of one layer.

    Args:
        layers: names of the layers.
        widths: number of units of each layer.
        count: int64 ``[L]``: activations of each unit of a layer: images times positions.
        total, squares: float64 ``[U]``: sums of activations and of their squares.
        positive: int64 ``[U]``: activations above 0.
        least, most: float64 ``[U]``: the smallest and the largest activation.
        histogram: int64 ``[U, B]``: activations by their size. Bin b holds those from ``(b − B/2) · step`` up to the
            next bin's.
        steps: float64 ``[U]``: width of a unit's bins, a power of two.
        peaks: float32 ``[U, k]``: a unit's largest activation on an image, of the k images where that is largest.
        images: int32 ``[U, k]``: places of these images in ``names``; −1 where there are fewer.
        places: int32 ``[U, k, 2]``: positions (y, x) of the largest activations on the layer's grid.
        names: of all images that were given.
        done: how many of them these numbers are of: the first ones, in order.
        digest: of the images, by which a file that is continued knows them again.
        provenance: model, hash, version, notes.
        nonfinite: int64 ``[U, 3]``: activations that were NaN, −∞ and +∞: no bin holds them, and where there are any,
            sums, means and deviations are not finite either.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    positive: np.ndarray
    least: np.ndarray
    most: np.ndarray
    histogram: np.ndarray
    steps: np.ndarray
    peaks: np.ndarray
    images: np.ndarray
    places: np.ndarray
    names: tuple[str, ...]
    done: int
    digest: str
    provenance: Provenance = field(default_factory=Provenance)
    nonfinite: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    def __post_init__(self) -> None:
        """Checks that all arrays are of the same units."""
        units = sum(self.widths)
        if not len(self.nonfinite):
            object.__setattr__(self, "nonfinite", np.zeros((units, 3), np.int64))
        wrong = [name for name in _PER_UNIT if len(getattr(self, name)) != units]
        if wrong or not len(self.layers) == len(self.widths) == len(self.count):
            what = f"{wrong[0]} {getattr(self, wrong[0]).shape}" if wrong else f"count {self.count.shape}"
            raise ArgumentError(f"{what} does not fit {len(self.layers)} layers of {self.widths} units")

    @property
    def complete(self) -> bool:
        """Whether these numbers are of all images."""
        return self.done == len(self.names)

    def rows(self, layer: str) -> slice:
        """Where the units of a layer are in all arrays.

        Raises:
            UnknownNameError: for a layer that is not among them.
        """
        if layer not in self.layers:
            raise unknown_name("layer in these examples", str(layer), self.layers)
        place = self.layers.index(layer)
        start = sum(self.widths[:place])
        return slice(start, start + self.widths[place])

    def row(self, layer: str, unit: int) -> int:
        """Where one unit is in all arrays.

        Raises:
            UnknownNameError: for a layer or unit that is not among them.
        """
        rows = self.rows(layer)
        width = rows.stop - rows.start
        if not 0 <= unit < width:
            raise UnknownNameError(f"layer {layer!r} has no unit {unit}; its units are 0 … {width - 1}")
        return rows.start + int(unit)

    def activations(self, layer: str) -> int:
        """How many activations of each unit of a layer these numbers are of: images times positions."""
        self.rows(layer)
        return int(self.count[self.layers.index(layer)])

    def mean(self, layer: str) -> np.ndarray:
        """Mean activation of each unit, float64 ``[O]``; NaN for one that came to NaN somewhere."""
        return self.total[self.rows(layer)] / self.activations(layer)

    def deviation(self, layer: str) -> np.ndarray:
        """Standard deviation of each unit's activations, float64 ``[O]``; NaN for one that came to NaN or ∞."""
        finite = np.isfinite(self.squares[self.rows(layer)])
        mean = np.where(finite, self.mean(layer), 0)
        squares = np.where(finite, self.squares[self.rows(layer)], np.nan)
        return np.sqrt(np.maximum(squares / self.activations(layer) - mean**2, 0))

    def rate(self, layer: str) -> np.ndarray:
        """Share of activations above 0 of each unit, float64 ``[O]``."""
        return self.positive[self.rows(layer)] / self.activations(layer)

    def rectified(self, layer: str) -> bool:
        """Whether nothing in a layer ever fell below 0, as behind a ReLU: only then may a unit be called dead."""
        return bool((self.least[self.rows(layer)] >= 0).all())

    def dead(self, layer: str) -> list[int]:
        """Units of a rectified layer that never rose above 0; none of other layers, see :meth:`rectified`."""
        return np.flatnonzero(self.most[self.rows(layer)] <= 0).tolist() if self.rectified(layer) else []

    def histogram_of(self, layer: str, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """A unit's histogram: counts int64 ``[b]`` and the edges of the bins, float64 ``[b + 1]``.

        Empty bins at either end are left out. Bin i holds activations a with ``edges[i] ≤ a < edges[i + 1]``.

        Raises:
            UnknownNameError: for a layer or unit that is not among them.
        """
        row = self.row(layer, unit)
        counts = self.histogram[row]
        held = np.flatnonzero(counts)
        first, last = (int(held[0]), int(held[-1])) if len(held) else (len(counts) // 2, len(counts) // 2)
        edges = (np.arange(first, last + 2) - len(counts) // 2) * self.steps[row]
        return counts[first : last + 1], edges

    def best(self, layer: str, unit: int) -> list[Found]:
        """The images that excite a unit most, strongest first, as (image, number, activation, (y, x)).

        Raises:
            UnknownNameError: for a layer or unit that is not among them.
        """
        row = self.row(layer, unit)
        return [
            Found(self.names[number], int(number), float(peak), (int(place[0]), int(place[1])))
            for number, peak, place in zip(self.images[row], self.peaks[row], self.places[row], strict=True)
            if number >= 0
        ]

    def __repr__(self) -> str:
        listed = ", ".join(self.layers[:3]) + (f" and {len(self.layers) - 3} more" if len(self.layers) > 3 else "")
        of = "" if self.complete else f" of {len(self.names)}"
        return f"DatasetExamples({sum(self.widths)} units of {listed} on {self.done}{of} images)"
