"""Histograms of activations: bars by size on a logarithmic axis of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .boxes import Box
from .layout import magnitude
from .scene import Scene
from .theme import ACTIVATION

BINS = 49  # bars at most
LEFT, BELOW, ABOVE = 30, 15, 8  # pixels of the axes
SIZE = 10
POSITIVE, NEGATIVE = ACTIVATION[-3], ACTIVATION[2]


@dataclass(frozen=True)
class Bars:
    """A histogram as it is drawn.

    Args:
        counts: of each bar.
        edges: of the bars, one more.
    """

    counts: np.ndarray
    edges: np.ndarray


def bars(counts: np.ndarray, edges: np.ndarray, most: int = BINS) -> Bars:
    """A histogram in few bars: neighbours added up, always as many together, so that one edge stays at 0.

    Example:
        >>> bars(np.ones(6, int), np.arange(-2.0, 5), most=4).counts.tolist()
        [2, 2, 2]
    """
    step = edges[1] - edges[0]
    first = round(edges[0] / step)
    together = 1
    while math.ceil((first + len(counts)) / together) - math.floor(first / together) > most:
        together += 1
    low, high = math.floor(first / together), math.ceil((first + len(counts)) / together)
    held = np.zeros((high - low) * together, np.int64)
    begin = first - low * together
    held[begin : begin + len(counts)] = counts
    return Bars(held.reshape(-1, together).sum(axis=1), np.arange(low, high + 1) * step * together)


def histogram(shown: Bars, width: float, height: float, words: str) -> Box:
    """Bars with counts from 1 on a logarithmic axis; values above 0 in one colour, others in another.

    Args:
        shown: what is drawn.
        width, height: in pixels, axes included.
        words: what it shows.
    """
    inner, high = width - LEFT, height - BELOW - ABOVE
    most = max(int(shown.counts.max(initial=1)), 1)
    decades = max(math.ceil(math.log10(most + 1)), 1)
    low, reach = float(shown.edges[0]), float(shown.edges[-1] - shown.edges[0])

    def at(value: float) -> float:
        return LEFT + (value - low) / reach * inner

    def draw(scene: Scene, x: float, y: float) -> None:
        ground = y + ABOVE + high
        for power in range(0, decades + 1, max(1, math.ceil(decades / 3))):
            level = ground - (power + 0.3) / (decades + 0.3) * high
            scene.line(x + LEFT, level, x + width, level, "wash", 1)
            scene.text(x + LEFT - 4, level + 3.5, _power(power), SIZE, "quiet", anchor="end")
        wide = inner / len(shown.counts)
        for i, count in enumerate(shown.counts):
            if count:
                tall = (math.log10(count) + 0.3) / (decades + 0.3) * high  # a single one is seen, too
                fill = POSITIVE if shown.edges[i] >= 0 else NEGATIVE
                scene.rect(x + LEFT + i * wide, ground - tall, max(wide - 0.75, 0.75), tall, fill=fill)
        scene.line(x + LEFT, ground, x + width, ground, "line", 1)
        scene.note(words)
        for value, anchor in _ticks(low, low + reach):
            scene.text(x + at(value), ground + 12, magnitude(value) if value else "0", SIZE, "quiet", anchor=anchor)
        scene.reach(y + height)

    return Box(width, height, draw, height / 2)


def _power(power: int) -> str:
    """A power of ten, short."""
    return str(10**power) if power < 3 else f"{10 ** (power % 3)}{'kMGTPE'[power // 3 - 1]}"


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Values that are written under an axis: its ends, and 0 where it is not near to either."""
    ends = [(low, "start"), (high, "end")]
    inside = low + 0.15 * (high - low) < 0 < high - 0.15 * (high - low)
    return [ends[0], (0.0, "middle"), ends[1]] if inside else ends
