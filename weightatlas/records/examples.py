"""What units did on many images: statistics, histograms, and the images that excite each most."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import unknown_name
from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class DatasetExamples(Record):
    """Statistics of all units of some layers on many images, and each unit's most exciting images.

    All arrays have one row a unit, of all layers one after the other; :meth:`of` gives the rows of one layer.

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
