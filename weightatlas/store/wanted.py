"""What an atlas is to hold, as far as its overview needs to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WantedPair:
    """Weights between two layers.

    Args:
        source, target: names of layers.
        span: 1 for neighbours, 2 for those with a layer between, 0 for others that were asked for.
        middles: layers through which paths are followed.
        bytes: that its weights take.
    """

    source: str
    target: str
    span: int
    middles: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def name(self) -> str:
        """``target ← source``."""
        return f"{self.target} ← {self.source}"


@dataclass(frozen=True)
class Wanted:
    """Everything that an atlas is to hold.

    Args:
        layers: names in order of execution.
        edges: neighbours (source, target); ``"input"`` among the sources.
        pairs: of layers whose weights are kept.
        pictures: (layer, folder of a recipe) → numbers of units.
        images: whether there are images, for agreement and statistics.
        left_out: pairs that the budget has no room for.
        untold: how many further pairs there are whose weights cannot be told; why is among the failures.
    """

    layers: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    pairs: tuple[WantedPair, ...] = ()
    pictures: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    images: bool = False
    left_out: tuple[WantedPair, ...] = ()
    untold: int = 0


def ranges(numbers: Any) -> list[list[int]]:
    """Sorted numbers as runs ``[first, last]``, so that thousands of units take a line.

    Example:
        >>> ranges([0, 1, 2, 5, 7, 8])
        [[0, 2], [5, 5], [7, 8]]
    """
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = int(n)
        else:
            found.append([int(n), int(n)])
    return found


def numbers_in(runs: Any) -> list[int]:
    """The numbers of runs, the inverse of :func:`ranges`.

    Example:
        >>> numbers_in([[0, 2], [5, 5]])
        [0, 1, 2, 5]
    """
    return [n for first, last in runs for n in range(first, last + 1)]
