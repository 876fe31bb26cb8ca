"""The mean gradient of a network on images, as weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .weights import Weights


@dataclass(frozen=True, repr=False, eq=False)
class ExpectedGradient(Weights):
    """Weights that are means over images and positions of what the untouched network really does.

    Args:
        counts: int64 ``[H, W]``: over how many samples each element is a mean; samples in which it lay outside the
            source grid do not count.
        samples: how many there were: pairs of an image and a position.
        images: how many images.
        halves: float32 ``[O]``: cosine of each unit's means over two halves of the images (of the positions, if there
            is one image): how far the mean itself can be trusted. NaN where one half is all zero.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    samples: int = 0
    images: int = 0
    halves: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def split_half(self) -> float:
        """Mean agreement of the two halves: the noise ceiling, as cosine."""
        return float(np.nanmean(self.halves)) if np.isfinite(self.halves).any() else float("nan")

    @property
    def ceiling(self) -> float:
        """What the whole mean can be expected to reach against the truth: √(2r / (1 + r)), r from the halves."""
        r = np.clip(self.halves[np.isfinite(self.halves)], 0, 1)
        return float(np.mean(np.sqrt(2 * r / (1 + r)))) if r.size else float("nan")

    def __repr__(self) -> str:
        o, i, h, w = self.values.shape
        return (
            f"ExpectedGradient({self.source} → {self.target}: [O={o}, I={i}, H={h}, W={w}], {self.samples} samples of "
            f"{self.images} images, halves agree to {self.split_half:.2f})"
        )
