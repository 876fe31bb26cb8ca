"""Where things go: headings, rows of tiles and legends. No figure does this arithmetic itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import lettering
from . import theme as themes
from .figure import MARGIN
from .scene import Scene

GAP = 10
TILE_RANGE = (52, 128)  # pixels
FEW, MANY = 12, 60  # numbers of tiles between which they shrink
TALLEST, THINNEST = 2.5, 10  # a picture is at most so many times as high as wide, and at least so many pixels thin
LABEL_SIZE, LABEL_SPACE, SCALE_SPACE = 11, 17, 14
RAMP = 130  # pixels of a colour scale
RADIUS = 8  # pixels, of pictures' corners
PHOTO = 1.25  # times the size of a map
TITLE_SIZE, SUBTITLE_SIZE = 16, 13


@dataclass(frozen=True)
class Tile:
    """One small picture and its label.

    Args:
        colours: uint8 ``[H, W, 3]``.
        address: ``layer:unit``.
        words: what it shows, for a tooltip and for those who cannot see it.
        scale: its own scale, written under the address where tiles are normalised one by one; or another number.
        photo: drawn smoothly with rounded corners, as pictures are, not as squares.
        missing: why there is no picture, written in its place.
    """

    colours: np.ndarray
    address: str
    words: str
    scale: str = ""
    photo: bool = False
    missing: str = ""


def heading(scene: Scene, title: str, subtitle: str) -> float:
    """An address and what it is, in one line if it fits; returns the next free y."""
    y = MARGIN + TITLE_SIZE
    room = scene.width - 2 * MARGIN
    shown = lettering.shorten(title, TITLE_SIZE, room)
    scene.text(MARGIN, y, shown, TITLE_SIZE, mono=True)
    x = MARGIN + lettering.text_width(shown, TITLE_SIZE, mono=True) * 1.02 + 14
    if x + lettering.text_width(subtitle, SUBTITLE_SIZE) * 1.04 <= scene.width - MARGIN:
        scene.text(x, y, subtitle, SUBTITLE_SIZE, "quiet")
    else:
        for line in lettering.wrap(subtitle, SUBTITLE_SIZE, room):
            y += SUBTITLE_SIZE + 5
            scene.text(MARGIN, y, line, SUBTITLE_SIZE, "quiet")
    return y + 14


def columns_for(count: int, width: float, aspect: float, larger: float = 1.0) -> tuple[int, float]:
    """How many tiles go side by side, and how wide each is.

    Many tiles are smaller, photos ``larger``; among the column counts that fit, full rows are preferred to ragged ones.
    """
    share = min(max((count - FEW) / (MANY - FEW), 0.0), 1.0)
    wanted = TILE_RANGE[1] + (72 - TILE_RANGE[1]) * share
    wanted *= min(max(math.sqrt(aspect), 0.6), 1.6) * larger
    most = max(1, int((width + GAP) // (max(wanted * 0.7, TILE_RANGE[0]) + GAP)))
    least = min(most, math.ceil((width + GAP) / (wanted * 1.15 + GAP)))
    if count <= most:
        return count, min((width - GAP * (count - 1)) / count, wanted)
    best = min(range(least, most + 1), key=lambda c: (-count % c, -c))
    return best, (width - GAP * (best - 1)) / best


def picture_size(side: float, height: int, width: int) -> tuple[float, float]:
    """Pixels (wide, high) of a kernel inside a tile: squares stay square unless it is very long and thin.

    Example:
        >>> picture_size(100, 5, 5), picture_size(70, 7, 1), picture_size(100, 1, 100)
        ((100, 100.0), (25.0, 175.0), (100, 10))
    """
    high = max(min(side * height / width, side * TALLEST), THINNEST)
    return min(side, max(high * width / height, THINNEST)), high


def fitting_labels(addresses: Sequence[str], side: float) -> list[str]:
    """Addresses as they fit under tiles of that width: all in full, or all as unit numbers alone; other words cut."""
    room = side + GAP / 3
    if all(lettering.text_width(a, LABEL_SIZE, mono=True) <= room for a in addresses):
        return list(addresses)
    if all(re.fullmatch(r".*:[0-9]+", a, re.DOTALL) for a in addresses):
        return [a.rpartition(":")[2] for a in addresses]
    return [lettering.shorten(a, LABEL_SIZE, room) for a in addresses]


def flow(scene: Scene, tiles: Sequence[Tile], y: float) -> float:
    """Tiles in rows from the left, each with its address under it; returns the next free y."""
    height, width = tiles[0].colours.shape[:2]
    larger = PHOTO if any(t.photo for t in tiles) else 1.0
    columns, side = columns_for(len(tiles), scene.width - 2 * MARGIN, width / height, larger)
    wide, high = picture_size(side, height, width)
    space = LABEL_SPACE + (SCALE_SPACE if any(t.scale for t in tiles) else 0)
    labels = fitting_labels([t.address for t in tiles], side)
    for i, tile in enumerate(tiles):
        middle = MARGIN + (i % columns) * (side + GAP) + side / 2
        top = y + (i // columns) * (high + space + GAP)
        _picture(scene, tile, middle - wide / 2, top, wide, high)
        scene.text(middle, top + high + LABEL_SIZE + 3, labels[i], LABEL_SIZE, "quiet", mono=True, anchor="middle")
        if tile.scale:
            base = top + high + LABEL_SIZE + SCALE_SPACE + 2
            number = lettering.shorten(tile.scale, LABEL_SIZE, side + GAP / 3, mono=False)
            scene.text(middle, base, number, LABEL_SIZE, "quiet", anchor="middle")
    rows = math.ceil(len(tiles) / columns)
    return y + rows * (high + space + GAP)


def _picture(scene: Scene, tile: Tile, x: float, y: float, wide: float, high: float) -> None:
    if tile.missing:
        scene.rect(x + 0.5, y + 0.5, wide - 1, high - 1, stroke="line", radius=RADIUS)
        size = min(LABEL_SIZE, LABEL_SIZE * (wide - 8) / max(lettering.text_width(tile.missing, LABEL_SIZE), 1))
        scene.text(x + wide / 2, y + high / 2 + size / 3, tile.missing, size, "quiet", anchor="middle")
        scene.note(tile.words)
    elif tile.photo:
        scene.photo(x, y, wide, high, tile.colours, tile.words, RADIUS)
    else:
        scene.pixels(x, y, wide, high, tile.colours, tile.words)
        scene.outline(x, y, wide, high)


def magnitude(value: float) -> str:
    """A number for a legend: two digits, or all before the point; very large and very small ones with exponent.

    Example:
        >>> [magnitude(v) for v in (0.2468, 17.3, 123.4, 4e-7, 5e12)]
        ['0.25', '17', '123', '4e-07', '5e+12']
    """
    return f"{value:.0f}" if 99.5 <= abs(value) < 99999.5 else f"{value:.2g}"


def scale_legend(scene: Scene, y: float, scale: float, palette: themes.Palette, words: str) -> float:
    """A symmetric colour scale with its numbers: −scale … +scale; returns the next free y."""
    low, high = f"−{magnitude(scale)}", f"+{magnitude(scale)}"
    before, after = (lettering.text_width(words, 12) * 1.05 + 6 for words in (low, high))
    wide = min(RAMP, scene.width - 2 * MARGIN - before - after)
    x = MARGIN + before
    scene.text(MARGIN, y + 11, low, 12, "ink")
    scene.gradient(x, y + 2, wide, 10, themes.diverging(np.linspace(-1, 1, 65), 1.0, palette))
    scene.text(x + wide + 6, y + 11, high, 12, "ink")
    return _beside(scene, x + wide + after + 12, y + 11, words)


def _beside(scene: Scene, x: float, y: float, words: str) -> float:
    """Words right of x on the baseline y, or below if they do not fit."""
    if x + lettering.text_width(words, 12) * 1.04 > scene.width - MARGIN:
        for line in lettering.wrap(words, 12, scene.width - 2 * MARGIN):
            y += 17
            scene.text(MARGIN, y, line, 12, "quiet")
    else:
        scene.text(x, y, words, 12, "quiet")
    return y + 8


def chips(scene: Scene, y: float, items: Sequence[tuple[str, str]]) -> float:
    """Coloured squares with a word each, as (colour, word), wrapping; returns the next free y."""
    x = float(MARGIN)
    for colour, words in items:
        width = 18 + lettering.text_width(words, 12) * 1.05
        if x > MARGIN and x + width > scene.width - MARGIN:
            x, y = float(MARGIN), y + 19
        scene.rect(x, y + 1, 11, 11, fill=colour, radius=2)
        scene.text(x + 17, y + 11, words, 12, "ink")
        x += width + 18
    return y + 19
