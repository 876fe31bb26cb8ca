"""Axes of shares and the marks on them, as boxes: part of the layout engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import lettering
from .boxes import Box
from .scene import Scene

TICK_SIZE, FLAG_SIZE = 11, 12
AHEAD = 10  # pixels from a mark to its words
Draw = Callable[[Scene, float, float], None]


@dataclass(frozen=True)
class Axis:
    """A horizontal axis from 0 to 1, and marks in boxes that lie on top of each other.

    Args:
        left: pixels from a box's left edge to 0.
        length: pixels from 0 to 1.
        room: the width of its boxes.
        height: of a line of marks.
    """

    left: float
    length: float
    room: float
    height: float

    def at(self, share: float) -> float:
        """Pixels from a box's left edge to a share."""
        return self.left + share * self.length

    def ticks(self, shares: Sequence[float]) -> Box:
        """Shares as words."""

        def draw(scene: Scene, x: float, y: float) -> None:
            for share in shares:
                scene.text(x + self.at(share), y + 10, f"{share:.0%}", TICK_SIZE, "quiet", anchor="middle")

        return Box(self.room, 18, draw, 9)

    def rule(self) -> Box:
        """The line from 0 to 1."""
        return self._mark(lambda scene, x, y: scene.line(x + self.at(0), y, x + self.at(1), y, "line", 1))

    def band(self, low: float, high: float) -> Box:
        """A grey interval."""
        wide = max(self.at(high) - self.at(low), 1)
        return self._mark(lambda scene, x, y: scene.rect(x + self.at(low), y - 5, wide, 10, role="line", radius=2))

    def tick(self, share: float) -> Box:
        """A short upright line."""
        at = self.at(share)
        return self._mark(lambda scene, x, y: scene.line(x + at, y - 7, x + at, y + 7, "quiet", 1.5))

    def dot(self, share: float, colour: str, *, hollow: bool = False, words: str = "") -> Box:
        """A disc, or a ring; with words to be read on it."""

        def draw(scene: Scene, x: float, y: float) -> None:
            scene.dot(x + self.at(share), y, 4.5 if hollow else 5, colour, hollow=hollow)
            if words:
                scene.note(words)

        return self._mark(draw)

    def flag(self, share: float, words: str) -> Box:
        """Words beside a mark: behind it, or before it where the axis ends."""
        at = self.at(share)
        inside = at + AHEAD + 2 + lettering.text_width(words, FLAG_SIZE, bold=True) < self.room
        to, anchor = (at + AHEAD, "start") if inside else (at - AHEAD, "end")
        return self._mark(lambda scene, x, y: scene.text(x + to, y + 4, words, FLAG_SIZE, bold=True, anchor=anchor))

    def _mark(self, draw: Draw) -> Box:
        """A box whose drawing is told the axis line's y."""
        middle = self.height / 2
        return Box(self.room, self.height, lambda scene, x, y: draw(scene, x, y + middle), middle)


def overlaid(layers: Sequence[Box]) -> Box:
    """Boxes on top of each other, the first at the bottom."""

    def draw(scene: Scene, x: float, y: float) -> None:
        for box in layers:
            box.draw(scene, x, y)

    return Box(max(b.width for b in layers), max(b.height for b in layers), draw, layers[0].axis)


def level(box: Box, height: float) -> Box:
    """A box in the middle of a higher one."""
    shift = (height - box.height) / 2
    return Box(box.width, height, lambda scene, x, y: box.draw(scene, x, y + shift), height / 2)
