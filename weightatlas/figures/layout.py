"""Where things go: headings, rows of tiles and legends. No figure does this arithmetic itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import theme as themes
from .figure import MARGIN
from .scene import Scene

GAP = 10
TILE_RANGE = (52, 128)  # pixels
FEW, MANY = 12, 60  # numbers of tiles between which they shrink
LABEL_SIZE, LABEL_SPACE, SCALE_SPACE = 11, 17, 14
TITLE_SIZE, SUBTITLE_SIZE = 16, 13


@dataclass(frozen=True)
class Tile:
    """One small picture and its label.

    Args:
        colours: uint8 ``[H, W, 3]``.
        address: ``layer:unit``.
        words: what it shows, for a tooltip and for those who cannot see it.
        scale: its own scale, written under the address where tiles are normalised one by one.
    """

    colours: np.ndarray
    address: str
    words: str
    scale: str = ""


def heading(scene: Scene, title: str, subtitle: str) -> float:
    """An address and what it is, in one line if it fits; returns the next free y."""
    y = MARGIN + TITLE_SIZE
    room = scene.width - 2 * MARGIN
    shown = themes.shorten(title, TITLE_SIZE, room)
    scene.text(MARGIN, y, shown, TITLE_SIZE, mono=True)
    x = MARGIN + themes.text_width(shown, TITLE_SIZE, mono=True) * 1.02 + 14
    if x + themes.text_width(subtitle, SUBTITLE_SIZE) * 1.04 <= scene.width - MARGIN:
        scene.text(x, y, subtitle, SUBTITLE_SIZE, "quiet")
    else:
        for line in themes.wrap(subtitle, SUBTITLE_SIZE, room):
            y += SUBTITLE_SIZE + 5
            scene.text(MARGIN, y, line, SUBTITLE_SIZE, "quiet")
    return y + 14


def columns_for(count: int, width: float, aspect: float) -> tuple[int, float]:
    """How many tiles go side by side, and how wide each is.

    Many tiles are smaller; among the column counts that fit, full rows are preferred to ragged ones.
    """
    share = min(max((count - FEW) / (MANY - FEW), 0.0), 1.0)
    wanted = TILE_RANGE[1] + (72 - TILE_RANGE[1]) * share
    wanted *= min(max(math.sqrt(aspect), 0.6), 1.6)
    most = max(1, int((width + GAP) // (max(wanted * 0.7, TILE_RANGE[0]) + GAP)))
    least = max(1, math.ceil((width + GAP) / (wanted * 1.15 + GAP)))
    if count <= most:
        return count, min((width - GAP * (count - 1)) / count, wanted)
    best = min(range(least, most + 1), key=lambda c: (-count % c, -c))
    return best, (width - GAP * (best - 1)) / best


def flow(scene: Scene, tiles: Sequence[Tile], y: float) -> float:
    """Tiles in rows from the left, each with its address under it; returns the next free y."""
    height, width = tiles[0].colours.shape[:2]
    columns, side = columns_for(len(tiles), scene.width - 2 * MARGIN, width / height)
    tall = min(side * height / width, side * 4)
    space = LABEL_SPACE + (SCALE_SPACE if any(t.scale for t in tiles) else 0)
    fits = all(themes.text_width(t.address, LABEL_SIZE, mono=True) <= side + GAP / 2 for t in tiles)
    for i, tile in enumerate(tiles):
        x = MARGIN + (i % columns) * (side + GAP)
        top = y + (i // columns) * (tall + space + GAP)
        scene.pixels(x, top, side, tall, tile.colours, tile.words)
        label = tile.address if fits else tile.address.rpartition(":")[2]
        scene.text(x + side / 2, top + tall + LABEL_SIZE + 3, label, LABEL_SIZE, "quiet", mono=True, anchor="middle")
        if tile.scale:
            middle, base = x + side / 2, top + tall + LABEL_SIZE + SCALE_SPACE + 2
            scene.text(middle, base, tile.scale, LABEL_SIZE, "quiet", anchor="middle")
    rows = math.ceil(len(tiles) / columns)
    return y + rows * (tall + space + GAP)


def scale_legend(scene: Scene, y: float, scale: float, palette: themes.Palette, words: str) -> float:
    """A symmetric colour scale with its numbers: −scale … +scale; returns the next free y."""
    number = f"{scale:.2g}"
    x = MARGIN
    scene.text(x, y + 11, f"−{number}", 12, "ink")
    x += themes.text_width(f"−{number}", 12) * 1.05 + 6
    ramp = themes.diverging(np.linspace(-1, 1, 65), 1.0, palette)
    scene.gradient(x, y + 2, 130, 10, ramp)
    x += 136
    scene.text(x, y + 11, f"+{number}", 12, "ink")
    x += themes.text_width(f"+{number}", 12) * 1.05 + 12
    return _beside(scene, x, y + 11, words)


def _beside(scene: Scene, x: float, y: float, words: str) -> float:
    """Words right of x on the baseline y, or below if they do not fit."""
    if x + themes.text_width(words, 12) * 1.04 > scene.width - MARGIN:
        for line in themes.wrap(words, 12, scene.width - 2 * MARGIN):
            y += 17
            scene.text(MARGIN, y, line, 12, "quiet")
    else:
        scene.text(x, y, words, 12, "quiet")
    return y + 8


def chips(scene: Scene, y: float, items: Sequence[tuple[str, str]]) -> float:
    """Coloured squares with a word each, as (colour, word), wrapping; returns the next free y."""
    x = float(MARGIN)
    for colour, words in items:
        width = 18 + themes.text_width(words, 12) * 1.05
        if x > MARGIN and x + width > scene.width - MARGIN:
            x, y = float(MARGIN), y + 19
        scene.rect(x, y + 1, 11, 11, fill=colour, radius=2)
        scene.text(x + 17, y + 11, words, 12, "ink")
        x += width + 18
    return y + 19
