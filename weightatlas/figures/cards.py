"""Signed maps on near-white cards of one size, side by side, as in Figures 9, 10 and 13 of the article."""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import layout, lettering
from .figure import MARGIN
from .layout import GAP, LABEL_SIZE, LABEL_SPACE, Tile
from .scene import Scene
from .theme import DIVERGING, Palette

SIDES = (56, 128)  # pixels of a card
SINGLE = 64  # at most, for a map of one square
EDGE = 0.09  # of a card, left free around the map
RADIUS = 6
SQUARE = 3  # pixels of a map's square from which on all squares of a map are drawn equally large
THIN = 6  # pixels that a map is at least high and wide

#: Some elements of a kernel, as (first row, first column, rows, columns).
Block = tuple[int, int, int, int]


def own_block(
    shape: tuple[int, ...],
    origin: tuple[float, float],
    stride: tuple[float, float] = (1, 1),
    dilation: tuple[float, float] = (1, 1),
) -> Block | None:
    """The elements of a kernel at the target's own position t: those from t · stride to just before (t + 1) · stride.

    Returns:
        ``None`` if no element begins there, or they are all there are.

    Example:
        >>> own_block((5, 5), (-2, -2)), own_block((6, 6), (-2, -2), stride=(2, 2))
        ((2, 2, 1, 1), (2, 2, 2, 2))
        >>> own_block((1, 1), (0, 0)), own_block((4, 4), (0.5, 0)), own_block((2, 2), (0, 0), stride=(2, 2))
        (None, None, None)
    """
    first, many = [], []
    for size, start, step, apart in zip(shape, origin, stride, dilation, strict=True):
        at = -start / apart
        if not 0 <= at < size or at != int(at):
            return None
        first.append(int(at))
        many.append(min(max(1, math.ceil(step / apart)), size - int(at)))
    return None if tuple(many) == tuple(shape) else (first[0], first[1], many[0], many[1])


def columns_for(most: int, room: float, largest: float) -> tuple[int, float]:
    """How many cards go side by side, and how wide each is, for rows of up to ``most``: few lines, alike in length.

    Example:
        >>> columns_for(8, 688, 128), columns_for(8, 358, 128), columns_for(3, 688, 128)
        ((8, 77.25), (4, 82.0), (3, 128))
    """
    fitting = max(1, min(most, int((room + GAP) // (SIDES[0] + GAP))))
    columns = math.ceil(most / math.ceil(most / fitting))
    return columns, min((room - GAP * (columns - 1)) / columns, largest)


def card(scene: Scene, x: float, y: float, side: float, tile: Tile, own: Block | None = None) -> None:
    """One map in the middle of a square card; its squares are equally large, the target's own position is framed."""
    scene.rect(x, y, side, side, fill=ground(), radius=RADIUS)
    scene.rect(x, y, side, side, stroke="line", radius=RADIUS)
    h, w = tile.colours.shape[:2]
    cell = side * (1 - 2 * EDGE) / max(h, w)
    cell = math.floor(2 * cell) / 2 if cell >= SQUARE else cell  # whole device pixels at twice the size
    wide, high = max(w * cell, THIN), max(h * cell, THIN)
    left, top = (round(2 * v) / 2 for v in (x + (side - wide) / 2, y + (side - high) / 2))
    scene.pixels(left, top, wide, high, tile.colours, tile.words)
    if own is not None and cell >= SQUARE:
        rows, columns = high / h, wide / w
        scene.mark(left + own[1] * columns, top + own[0] * rows, own[3] * columns, own[2] * rows)


def ground() -> str:
    """The colour of a card: that of zero."""
    stops = DIVERGING["classic"]
    return stops[len(stops) // 2]


def grid(
    scene: Scene,
    x: float,
    y: float,
    tiles: Sequence[Tile],
    labels: Sequence[str],
    shape: tuple[int, float],
    own: Block | None,
) -> float:
    """Cards with their labels under them, ``shape`` (columns, side), in lines from x; returns the next free y."""
    columns, side = shape
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        left, top = x + (i % columns) * (side + GAP), y + (i // columns) * (side + LABEL_SPACE + GAP)
        card(scene, left, top, side, tile, own)
        words = lettering.shorten(label, LABEL_SIZE, side + GAP / 3)
        scene.text(left + side / 2, top + side + LABEL_SIZE + 3, words, LABEL_SIZE, "quiet", mono=True, anchor="middle")
    return y + math.ceil(len(tiles) / columns) * (side + LABEL_SPACE + GAP)


def legend(scene: Scene, y: float, scale: float, palette: Palette, own: Block | None) -> float:
    """The scale of all cards, and what the framed square is; returns the next free y."""
    y = layout.scale_legend(scene, y, scale, palette, "one scale for the figure") + 3
    if own is None:
        return y
    scene.rect(MARGIN, y, 14, 14, fill=ground(), radius=2)
    scene.rect(MARGIN, y, 14, 14, stroke="line", radius=2)
    scene.mark(MARGIN + 4, y + 4, 6, 6)
    scene.text(MARGIN + 20, y + 11, "the target's own position", 12, "quiet")
    return y + 21
