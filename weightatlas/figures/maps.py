"""Signed maps that share one scale, one window and one legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import WeightValuesError
from ..records import Weights
from . import cards
from .boxes import Box, signed
from .cards import Block, Window
from .layout import Tile, magnitude
from .scene import Scene
from .theme import Palette, check_choice, diverging


@dataclass(frozen=True)
class Maps:
    """How the maps of one figure are drawn.

    Args:
        scale: the magnitude at full colour.
        palette: of excite and inhibit.
        shown: the window of the maps that is drawn.
        own: the target's own position in it.
    """

    scale: float
    palette: Palette
    shown: Window
    own: Block | None

    def tile(self, values: np.ndarray, words: str) -> Tile:
        """A whole map ``[H, W]`` as a tile of its window."""
        reach = f"{words}, {magnitude(float(values.min()))} to {magnitude(float(values.max()))}"
        return Tile(diverging(self.shown.of(values), self.scale, self.palette), "", reach)

    def card(self, values: np.ndarray, words: str, side: float) -> Box:
        """A whole map on a card."""
        return signed(self.tile(values, words), side, self.own)

    def legend(self, scene: Scene, y: float, words: str = "one scale for the figure") -> float:
        """The scale, and what the framed square is; returns the next free y."""
        return cards.legend(scene, y + 4, self.scale, self.palette, self.own, words)

    @property
    def data(self) -> dict[str, object]:
        """Scale and window (first row and column, height, width) for ``Figure.data``."""
        return {"scale": self.scale, "window": (*self.shown.start, *self.shown.shape)}


def maps_of(weights: Weights, values: np.ndarray, palette: Palette) -> Maps:
    """How maps ``[n, H, W]`` of some weights are drawn: on the scale of the largest, in the window that holds them."""
    check_choice("palette", palette, Palette)
    shown = cards.window(values)
    return Maps(float(np.abs(values).max(initial=0)), palette, shown, own_of(weights, shown))


def own_of(weights: Weights, shown: Window) -> Block | None:
    """The target's own position among the squares that are shown; unknown where the map is that of one position."""
    if weights.at is not None:
        return None
    origin = tuple(o + s * d for o, s, d in zip(weights.origin, shown.start, weights.dilation, strict=True))
    return cards.own_block(shown.shape, origin, weights.stride, weights.dilation)


def full_maps(weights: Weights, units: Sequence[int]) -> np.ndarray:
    """All maps of some target units, float32 ``[n, I, H, W]``, groups unfolded.

    Raises:
        WeightValuesError: for NaN or infinite weights of these units.
    """
    chosen = weights.select(units)
    chosen.require_finite()
    return chosen.dense().values


def check_finite(values: np.ndarray, what: str) -> None:
    """Stops at NaN or infinity.

    Raises:
        WeightValuesError: saying of what.
    """
    if not np.isfinite(values).all():
        raise WeightValuesError(f"{what} hold NaN or infinity; choose other units")
