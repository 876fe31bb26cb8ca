"""Histograms that do not depend on the order in which values come: bins double in width when a value falls outside.

    bin b of B holds  (b − B/2) · w ≤ a < (b − B/2 + 1) · w        w a power of two, the smallest that holds all values

⌊⌊a/w⌋ / 2⌋ = ⌊a/2w⌋, so merging neighbouring bins gives what counting with the wider ones would have given, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 256
#: Bins are no narrower than single precision's smallest normal number.
LEAST_STEP = 2.0**-126
#: Values that are sorted into bins at a time: each needs about 16 bytes more meanwhile.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Histogram:
    """How often the units of one layer took which values.

    Args:
        counts: int64 ``[O, B]``: bin b holds values from ``(b − B/2) · step`` up to the next bin's.
        steps: float64 ``[O]``: width of a unit's bins, a power of two.
        nonfinite: int64 ``[O, 3]``: how often it came to NaN, −∞ and +∞, which no bin holds.
    """

    counts: np.ndarray
    steps: np.ndarray
    nonfinite: np.ndarray

    def with_more(self, other: Histogram) -> Histogram:
        """Both together."""
        steps = np.maximum(self.steps, other.steps)
        counts = widened(self.counts, self.steps, steps) + widened(other.counts, other.steps, steps)
        return Histogram(counts, steps, self.nonfinite + other.nonfinite)


def widened(counts: np.ndarray, steps: np.ndarray, wider: np.ndarray) -> np.ndarray:
    """The same counts ``[O, B]`` in bins that are wider by a power of two, for each unit its own.

    Example:
        >>> widened(np.array([[1, 2, 3, 4]]), np.array([0.5]), np.array([1.0]))
        array([[0, 3, 7, 0]])
    """
    double = np.round(np.log2(wider / steps)).astype(np.int64)
    rows = np.flatnonzero(double)
    if not len(rows):
        return counts
    bins = counts.shape[1]
    # shifting rounds down, below 0 too; so far that all is in bins −1 and 0 is far enough
    place = ((np.arange(bins) - bins // 2)[None] >> np.minimum(double[rows], 62)[:, None]) + bins // 2
    place += np.arange(len(rows))[:, None] * bins
    out = counts.copy()
    # sums in double precision are exact up to 2^53 counts
    merged = np.bincount(place.ravel(), counts[rows].ravel(), minlength=len(rows) * bins)
    out[rows] = merged.reshape(len(rows), bins).astype(np.int64)
    return out


def histogram(values: Tensor, bins: int = BINS) -> Histogram:
    """The histogram of values ``[N, O, P]`` in single precision, for each of O units over images and positions."""
    n, units, places = values.shape
    finite = values.isfinite()
    flawless = bool(finite.all())
    known = values if flawless else torch.where(finite, values, 0)
    steps = steps_for(known.amin((0, 2)).numpy(), known.amax((0, 2)).numpy(), bins)
    inverse = torch.from_numpy((1 / steps).astype(np.float32))
    first = (torch.arange(units, dtype=torch.int64) * bins + bins // 2)[None, :, None]
    counts = torch.zeros(units * bins, dtype=torch.int64)
    rows = max(_AT_ONCE // max(n * places, 1), 1)
    for start in range(0, units, rows):
        part = known[:, start : start + rows]
        floor = (part * inverse[None, start : start + rows, None]).floor_()  # a power of two: nothing is rounded …
        floor = torch.where((part < 0) & (floor >= 0), -1, floor)  # … but what is too small for single precision
        where = floor.long() + first[:, start : start + rows]
        kept = where.flatten() if flawless else where[finite[:, start : start + rows]]
        counts += torch.bincount(kept, minlength=len(counts))
    odd = torch.stack([m.sum((0, 2)) for m in (values.isnan(), values == -torch.inf, values == torch.inf)], 1)
    return Histogram(counts.view(units, bins).numpy(), steps, odd.numpy())


def steps_for(least: np.ndarray, most: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The smallest powers of two so that bins of that width hold values from ``least`` to ``most``, float64.

    Example:
        >>> steps_for(np.array([0, -128.0, -129.0]), np.array([128.0, 127.9, 0.0]), 256)
        array([2., 1., 2.])
    """
    half = bins // 2
    share, power = np.frexp(np.maximum(most, 0).astype(np.float64) / half)  # x = share · 2^power, ½ ≤ share < 1
    above = np.where(share > 0, np.ldexp(1.0, power), 0)  # most < half · step
    share, power = np.frexp(np.maximum(-least.astype(np.float64), 0) / half)
    below = np.where(share > 0, np.ldexp(1.0, np.where(share == 0.5, power - 1, power)), 0)  # −least ≤ half · step
    return np.maximum(np.maximum(above, below), LEAST_STEP)
