"""Signed maps that share one scale, one window and one legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, WeightValuesError
from ..records import Weights
from . import boxes, cards
from .boxes import Box, signed
from .cards import Block, Window
from .layout import RAMP, Tile, magnitude
from .scene import Scene
from .theme import Palette, check_choice, diverging

LEAST = 5  # squares of a map on a side that are shown in any case


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

    def key(self, words: str, room: float) -> Box:
        """The scale as a box, for figures that have more than one."""
        ends = [boxes.text(f"{sign}{magnitude(self.scale)}", 12, "ink") for sign in "−+"]
        wide = min(RAMP, room - ends[0].width - ends[1].width - 12)
        colours = diverging(np.linspace(-1, 1, 65), 1.0, self.palette)
        scale = boxes.row([ends[0], boxes.ramp(colours, wide), ends[1]], 6)
        left = room - scale.width - 12
        if boxes.text(words, 12).width <= left:
            told = [boxes.row([scale, boxes.text(words, 12)], 12)]
        else:
            told = [scale, boxes.paragraph(words, room)]
        return boxes.column([*told, *([_frame_key()] if self.own is not None else [])], 4)

    @property
    def data(self) -> dict[str, object]:
        """Scale and window (first row and column, height, width) for ``Figure.data``."""
        return {"scale": self.scale, "window": (*self.shown.start, *self.shown.shape)}


def _frame_key() -> Box:
    """What the framed square is."""
    mark = Box(14, 14, lambda scene, x, y: cards.frame_sample(scene, x, y), 7)
    return boxes.row([mark, boxes.text("the target's own position", 12)], 6)


def maps_of(weights: Weights, values: np.ndarray, palette: Palette) -> Maps:
    """How maps ``[n, H, W]`` of some weights are drawn: on the scale of the largest, in the window that holds them."""
    check_choice("palette", palette, Palette)
    shown = cards.window(values, LEAST)
    unfolded = weights.select(weights.units[:1]).dense()  # as full_maps() gives them
    return Maps(float(np.abs(values).max(initial=0)), palette, shown, off_centre(own_of(unfolded, shown), shown))


def off_centre(own: Block | None, shown: Window) -> Block | None:
    """The target's own position if it must be told: not where it is the middle of the map."""
    if own is None:
        return None
    middle = all(2 * own[i] + own[2 + i] == shown.shape[i] for i in range(2))
    return None if middle else own


def own_of(weights: Weights, shown: Window) -> Block | None:
    """The target's own position among the squares that are shown; unknown where the map is that of one position.

    Args:
        weights: as they are drawn, with dilation unfolded or not.
        shown: the window of their maps.
    """
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


def maps_from(weights: Weights, target: int, sources: Iterable[int]) -> tuple[dict[int, np.ndarray], float]:
    """The maps ``[H, W]`` of some source units on a target unit, and their share of its squared weights.

    Raises:
        ArgumentError: for no source unit at all.
        WeightValuesError: for NaN or infinite weights of the target.
    """
    values = full_maps(weights, [target])[0]
    place = {int(n): i for i, n in enumerate(weights.source_indices)}
    chosen = {n: values[place[n]] for n in sources}
    if not chosen:
        raise ArgumentError(f"{weights.target}:{target} reads nothing in {weights.source}")
    power = sum(float(np.square(v, dtype=np.float64).sum()) for v in chosen.values())
    return chosen, power / (float(np.square(values, dtype=np.float64).sum()) or 1.0)


def check_finite(values: np.ndarray, what: str) -> None:
    """Stops at NaN or infinity.

    Raises:
        WeightValuesError: saying of what.
    """
    if not np.isfinite(values).all():
        raise WeightValuesError(f"{what} hold NaN or infinity; choose other units")
