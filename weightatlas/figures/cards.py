"""Signed maps on near-white cards of one size, side by side, as in Figures 9, 10 and 13 of the article."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import layout, lettering
from .figure import MARGIN
from .layout import GAP, LABEL_SIZE, LABEL_SPACE, Tile
from .scene import Scene
from .theme import DIVERGING, Palette

SIDES = (56, 128)  # pixels of a card
SINGLE = 64  # at most, for a map of one square
EDGE = 0.09  # of a card, left free around the map
RADIUS = 6
HELD = 0.99  # of the squared weights: what is outside may be left out of large maps
LEAST_SHOWN = 15  # squares of a map on a side
SQUARE = 3  # pixels of a map's square from which on all squares of a map are drawn equally large
THIN = 6  # pixels that a map is at least high and wide

#: Some elements of a kernel, as (first row, first column, rows, columns).
Block = tuple[int, int, int, int]


def own_block(
    shape: Sequence[int],
    origin: Sequence[float],
    stride: Sequence[float] = (1, 1),
    dilation: Sequence[float] = (1, 1),
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


@dataclass(frozen=True)
class Window:
    """The part of all maps that is shown.

    Args:
        rows, columns: which.
        full: ``(H, W)`` of the whole maps.
    """

    rows: slice
    columns: slice
    full: tuple[int, int]

    def of(self, maps: np.ndarray) -> np.ndarray:
        """That part of maps ``[…, H, W]``."""
        return maps[..., self.rows, self.columns]

    @property
    def start(self) -> tuple[int, int]:
        """Its first row and column."""
        return self.rows.start, self.columns.start

    @property
    def shape(self) -> tuple[int, int]:
        """Its height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def words(self) -> str:
        """Its size, for a heading."""
        h, w = self.shape
        whole = f" of {self.full[0]} × {self.full[1]}" if self.shape != self.full else ""
        return f"{'inner ' if whole else ''}{h} × {w}{whole}"

    @property
    def left_out(self) -> list[str]:
        """What lies outside it, for a caption; empty if nothing does."""
        h, w = self.shape
        outside = f"less than {1 - HELD:.0%} of these maps' squared weights lies outside the inner {h} × {w} squares"
        return [outside] if self.shape != self.full else []


def window(maps: np.ndarray, least: int = LEAST_SHOWN) -> Window:
    """The inner part of large maps ``[n, H, W]`` that holds nearly all of their squares: wide margins hide the rest.

    Args:
        maps: signed.
        least: squares on a side that are shown in any case.
    """
    power = np.square(maps, dtype=np.float64).sum(axis=0)
    h, w = power.shape
    rows, columns = slice(0, h), slice(0, w)
    for margin in range(1, max(h, w)):
        up, left = (max(0, min(margin, (n - least) // 2)) for n in (h, w))
        inner = slice(up, h - up), slice(left, w - left)
        if inner == (rows, columns) or power[inner].sum() <= HELD * power.sum():
            break
        rows, columns = inner
    return Window(rows, columns, (h, w))


def columns_for(most: int, room: float, largest: float) -> tuple[int, float]:
    """How many cards go side by side, and how wide each is, for rows of up to ``most``: few lines, alike in length.

    Example:
        >>> columns_for(8, 688, 128), columns_for(8, 358, 128), columns_for(3, 688, 128)
        ((8, 77.25), (4, 82.0), (3, 128))
    """
    fitting = max(1, min(most, int((room + GAP) // (SIDES[0] + GAP))))
    columns = math.ceil(most / math.ceil(most / fitting))
    return columns, min((room - GAP * (columns - 1)) / columns, largest)


def card(
    scene: Scene,
    x: float,
    y: float,
    side: float,
    tile: Tile,
    own: Block | None = None,
    *,
    radius: float = RADIUS,
    above: float = 0,
) -> None:
    """One map in the middle of a square card; its squares are equally large, the target's own position is framed.

    The card goes on ``above`` for what is glued to it, which then draws the outline.
    """
    scene.rect(x, y - above, side, side + above, fill=ground(), radius=radius)
    if not above:
        scene.rect(x, y, side, side, stroke="line", radius=radius)
    h, w = tile.colours.shape[:2]
    cell = side * (1 - 2 * EDGE) / max(h, w)
    cell = math.floor(2 * cell) / 2 if cell >= SQUARE else cell  # whole device pixels at twice the size
    wide, high = max(w * cell, THIN), max(h * cell, THIN)
    left, top = (round(2 * v) / 2 for v in (x + (side - wide) / 2, y + (side - high) / 2))
    scene.pixels(left, top, wide, high, tile.colours, tile.words)
    if own is not None:
        frame = max(own[3] * wide / w, SQUARE), max(own[2] * high / h, SQUARE)
        middle = left + (own[1] + own[3] / 2) * wide / w, top + (own[0] + own[2] / 2) * high / h
        scene.mark(middle[0] - frame[0] / 2, middle[1] - frame[1] / 2, *frame)


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


def frame_sample(scene: Scene, x: float, y: float) -> None:
    """A small card with a frame, for legends."""
    scene.rect(x, y, 14, 14, fill=ground(), radius=2)
    scene.rect(x, y, 14, 14, stroke="line", radius=2)
    scene.mark(x + 4, y + 4, 6, 6)


def legend(
    scene: Scene, y: float, scale: float, palette: Palette, own: Block | None, words: str = "one scale for the figure"
) -> float:
    """The scale of all cards, and what the framed square is; returns the next free y."""
    y = layout.scale_legend(scene, y, scale, palette, words) + 3
    if own is None:
        return y
    frame_sample(scene, MARGIN, y)
    scene.text(MARGIN + 20, y + 11, "the target's own position", 12, "quiet")
    return y + 21
