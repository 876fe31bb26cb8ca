"""Boxes: parts of a figure that know their size, and how they are put side by side, one below the other, in lines.

A figure is composed of boxes for a given width; only this module and :mod:`~.layout` place anything::

    row([photo(source), arrow(40), signed(tile), arrow(40), photo(target)])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import cards, lettering
from .cards import Block
from .figure import MARGIN
from .layout import GAP, LABEL_SIZE, RADIUS, Tile
from .scene import Scene

LINE = 1.36  # of a text's size, from one baseline to the next
ARROW, HEAD, AHEAD = 3.0, 11.0, 3.0  # pixels: an arrow's line is so thick, its head so long, and so far from the end
BAR = 5.0  # pixels a bar is high
ROUNDING = 1.02  # a reader's typeface may run wider than ours


@dataclass(frozen=True)
class Box:
    """A part of a figure.

    Args:
        width, height: in pixels.
        draw: places it on a scene at (x, y), its upper left corner.
        axis: where between its top and its bottom signs, arrows and its neighbours' axes meet it.
    """

    width: float
    height: float
    draw: Callable[[Scene, float, float], None]
    axis: float


@dataclass(frozen=True)
class Picture:
    """What a unit or direction detects, ready to be drawn.

    Args:
        colours: uint8 ``[H, W, 3]``; ``None`` if there is no picture.
        words: what it shows, for those who cannot see it.
        missing: what stands in its place, if there is none.
    """

    colours: np.ndarray | None
    words: str
    missing: str = ""


def nothing(width: float = 0, height: float = 0) -> Box:
    """Empty space."""
    return Box(width, height, lambda scene, x, y: scene.reach(y + height), height / 2)


def place(scene: Scene, box: Box, y: float) -> float:
    """Draws a box at the left margin; returns the next free y."""
    box.draw(scene, MARGIN, y)
    scene.reach(y + box.height)
    return y + box.height


def text(
    words: str, size: float = LABEL_SIZE, role: str = "quiet", *, mono: bool = False, room: float = math.inf,
    bold: bool = False, within: float = 0, anchor: str = "start",
) -> Box:  # fmt: skip
    """One line, cut in its middle if it is wider than its room.

    Args:
        words, size, role, mono, bold: as in :meth:`Scene.text`.
        room: in pixels.
        within: the width of the box, if it is to be wider than its words.
        anchor: where in it the words are: ``"start"``, ``"middle"`` or ``"end"``.
    """
    shown = lettering.shorten(words, size, room / ROUNDING, mono=mono) if math.isfinite(room) else words
    width = max(lettering.text_width(shown, size, mono=mono, bold=bold) * ROUNDING, within)
    height = size * LINE

    def draw(scene: Scene, x: float, y: float) -> None:
        at = {"start": x, "middle": x + width / 2, "end": x + width}[anchor]
        scene.text(at, y + size * 1.05, shown, size, role, mono=mono, bold=bold, anchor=anchor)

    return Box(width, height, draw, height / 2)


def paragraph(words: str, width: float, size: float = 12, role: str = "quiet") -> Box:
    """Words in as many lines as they need."""
    lines = [text(line, size, role) for line in lettering.wrap(words, size, width)]
    return column(lines, gap=size * 0.12) if lines else nothing()


def photo(picture: Picture, width: float, *, below: bool = True) -> Box:
    """A picture with rounded corners (``below`` too), or a frame that says why there is none."""
    shape = picture.colours.shape if picture.colours is not None else (1, 1)
    height = width * shape[0] / shape[1]

    def draw(scene: Scene, x: float, y: float) -> None:
        if picture.colours is not None:
            scene.photo(x, y, width, height, picture.colours, picture.words, RADIUS, below=below)
            return
        scene.rect(x + 0.5, y + 0.5, width - 1, height - 1, stroke="line", radius=RADIUS)
        scene.note(picture.words)
        size = min(LABEL_SIZE, LABEL_SIZE * (width - 8) / max(lettering.text_width(picture.missing, LABEL_SIZE), 1))
        scene.text(x + width / 2, y + height / 2 + size / 3, picture.missing, size, "quiet", anchor="middle")

    return Box(width, height, draw, height / 2)


def picture_square(picture: Picture, side: float) -> Box:
    """The middle of a picture as a square with sharp corners, as tiles of a larger picture have."""
    if picture.colours is None:
        return photo(picture, side)
    h, w = picture.colours.shape[:2]
    n = min(h, w)
    cut = picture.colours[(h - n) // 2 : (h + n) // 2, (w - n) // 2 : (w + n) // 2]
    return Box(side, side, lambda scene, x, y: scene.photo(x, y, side, side, cut, picture.words), side / 2)


def signed(tile: Tile, side: float, own: Block | None = None) -> Box:
    """A signed map on its near-white card."""
    return Box(side, side, lambda scene, x, y: cards.card(scene, x, y, side, tile, own), side / 2)


def squares(colours: np.ndarray, words: str, width: float) -> Box:
    """Coloured squares without a card around them."""
    height = width * colours.shape[0] / colours.shape[1]
    return Box(width, height, lambda scene, x, y: scene.pixels(x, y, width, height, colours, words), height / 2)


def strip(colours: np.ndarray, words: str, width: float, height: float) -> Box:
    """A row of squares, each as high as the box."""
    return Box(width, height, lambda scene, x, y: scene.pixels(x, y, width, height, colours, words), height / 2)


def glued(picture: Picture, tile: Tile, side: float, own: Block | None = None) -> Box:
    """A picture on top of the map it belongs to, as one card."""
    above = photo(picture, side, below=False)
    height = above.height + side

    def draw(scene: Scene, x: float, y: float) -> None:
        cards.card(scene, x, y + above.height, side, tile, own, radius=RADIUS * 0.75, above=above.height)
        above.draw(scene, x, y)
        scene.rect(x, y, side, height, stroke="line", radius=RADIUS * 0.75)

    return Box(side, height, draw, height / 2)


def labelled(box: Box, *lines: str, mono: bool = True, room: float = 0) -> Box:
    """A box with words centred under it, the first line an address; its axis and its width stay what they were.

    Words may be a little wider than the box, into the gap to its neighbours.
    """
    wide = max(box.width, room)
    under = [centred_line(words, wide, mono=mono and i == 0) for i, words in enumerate(lines) if words]
    whole = column([box, *under], gap=2, align="middle")
    return Box(wide, whole.height, whole.draw, box.axis)


def centred_line(words: str, width: float, *, mono: bool) -> Box:
    """One line in the middle of its width; it may reach a little into the gap to its neighbours."""
    shown = lettering.shorten(words, LABEL_SIZE, width + GAP / 3, mono=mono)

    def draw(scene: Scene, x: float, y: float) -> None:
        scene.text(x + width / 2, y + LABEL_SIZE * 1.05, shown, LABEL_SIZE, "quiet", mono=mono, anchor="middle")

    return Box(width, LABEL_SIZE * LINE, draw, 0)


def arrow(length: float) -> Box:
    """An arrow to the right that ends just before what comes next."""

    def draw(scene: Scene, x: float, y: float) -> None:
        middle, tip = y + HEAD / 2, x + length - AHEAD
        scene.rect(x, middle - ARROW / 2, length - AHEAD - HEAD + 1, ARROW, role="arrow")
        scene.shape([(tip - HEAD, y), (tip, middle), (tip - HEAD, y + HEAD)], "arrow")

    return Box(length, HEAD, draw, HEAD / 2)


def wire(length: float) -> Box:
    """The line of an arrow that goes on behind what comes next."""

    def draw(scene: Scene, x: float, y: float) -> None:
        scene.rect(x, y, length, ARROW, role="arrow")

    return Box(length, ARROW, draw, ARROW / 2)


def sign(words: str, size: float = 20, within: float = 0) -> Box:
    """A sign between pictures, such as = or +."""
    return text(words, size, "quiet", within=within, anchor="middle")


def on_axis(box: Box, axis: float) -> Box:
    """The box with its axis elsewhere."""
    return Box(box.width, box.height, box.draw, axis)


def bar(share: float, width: float) -> Box:
    """A bar of 0 … 1 of a width."""

    def draw(scene: Scene, x: float, y: float) -> None:
        scene.rect(x, y, max(width * min(share, 1.0), 1.0), BAR, role="arrow")

    return Box(width, BAR, draw, BAR / 2)


def row(boxes: Sequence[Box], gap: float = GAP, align: str = "axis") -> Box:
    """Boxes side by side: their axes on one line, or all at the ``"top"``."""
    if not boxes:
        return nothing()
    above = max(b.axis for b in boxes) if align == "axis" else 0.0
    tops = [above - b.axis if align == "axis" else 0.0 for b in boxes]
    height = max(t + b.height for t, b in zip(tops, boxes, strict=True))

    def draw(scene: Scene, x: float, y: float) -> None:
        for top, box in zip(tops, boxes, strict=True):
            box.draw(scene, x, y + top)
            x += box.width + gap

    axis = above if align == "axis" else height / 2
    return Box(sum(b.width for b in boxes) + gap * (len(boxes) - 1), height, draw, axis)


def column(boxes: Sequence[Box], gap: float = GAP, align: str = "start") -> Box:
    """Boxes one below the other, from the left or each in the ``"middle"``."""
    if not boxes:
        return nothing()
    width = max(b.width for b in boxes)

    def draw(scene: Scene, x: float, y: float) -> None:
        for box in boxes:
            box.draw(scene, x + (width - box.width) / 2 if align == "middle" else x, y)
            y += box.height + gap

    height = sum(b.height for b in boxes) + gap * (len(boxes) - 1)
    return Box(width, height, draw, height / 2)


def table(cells: Sequence[Sequence[Box]], gap: float = GAP) -> Box:
    """Rows of boxes whose columns are aligned: every column as wide as its widest box."""
    widths = [max((r[c].width for r in cells if c < len(r)), default=0.0) for c in range(max(map(len, cells)))]
    padded = [[centred(b, widths[c]) for c, b in enumerate(r)] for r in cells]
    return column([row(r, gap) for r in padded], gap)


def centred(box: Box, width: float) -> Box:
    """A box in the middle of a wider one."""
    if box.width >= width:
        return box
    shift = (width - box.width) / 2
    return Box(width, box.height, lambda scene, x, y: box.draw(scene, x + shift, y), box.axis)


def middle(box: Box, width: float, height: float) -> Box:
    """A box in the middle of a larger one."""
    dx, dy = (width - box.width) / 2, (height - box.height) / 2
    return Box(width, height, lambda scene, x, y: box.draw(scene, x + dx, y + dy), height / 2)


def ramp(colours: np.ndarray, width: float) -> Box:
    """A colour scale ``[n, 3]``."""
    return Box(width, 10, lambda scene, x, y: scene.gradient(x, y, width, 10, colours), 5)


def lines(boxes: Sequence[Box], width: float, gap: float = GAP, between: float = GAP) -> Box:
    """Boxes in lines of at most that width, all aligned by their axes."""
    found: list[list[Box]] = []
    used = math.inf
    for box in boxes:
        if used + gap + box.width > width + 0.01:
            found.append([])
            used = -gap
        found[-1].append(box)
        used += gap + box.width
    return column([row(line, gap) for line in found], between)


def beside(first: Box, second: Callable[[float], Box], width: float, least: float, gap: float = 2 * GAP) -> Box:
    """Two boxes side by side if the second is left with enough room, else one below the other.

    Args:
        first: on the left, or above.
        second: from the room it gets to the box.
        width: of both.
        least: room that the second needs beside the first.
        gap: between them.
    """
    rest = width - first.width - gap
    if rest >= least:
        return row([first, second(rest)], gap, align="top")
    return column([first, second(width)], gap)
