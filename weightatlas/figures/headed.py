"""Grids with a picture at the head of every column and of every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import boxes
from .boxes import Box, Picture
from .layout import GAP as BETWEEN
from .layout import LABEL_SIZE

GAP = 4
Named = tuple[str, Picture]


def headed(
    across: Sequence[Named],
    down: Sequence[Named],
    cell: Callable[[int, int, float], Box],
    room: float,
    sides: tuple[float, float],
    *,
    notes: Sequence[str] = (),
) -> Box:
    """A grid: names and pictures over its columns and beside its rows, in bands of columns if it is too wide.

    Args:
        across, down: (name, picture) of every column and row. Only the part of a name behind its colon is written.
        cell: makes the box of (row, column, side).
        room: width in pixels.
        sides: least and most pixels of a cell.
        notes: one more line under the name of every row.
    """
    names = [_short(name) for name, _ in down]
    beside = max(boxes.text(words, mono=i < len(names)).width for i, words in enumerate([*names, *notes])) + GAP
    fitting = max(int((room - beside) // (sides[0] + GAP)) - 1, 1)
    count = -(-len(across) // -(-len(across) // fitting))
    side = min((room - beside) / (count + 1) - GAP, sides[1])
    bands = []
    for first in range(0, len(across), count):
        part = range(first, min(first + count, len(across)))
        titles = [_over(_short(across[c][0]), side) for c in part]
        cells: list[list[Box]] = [
            [boxes.nothing(beside - GAP, titles[0].height), boxes.nothing(side), *titles],
            [boxes.nothing(beside - GAP), boxes.nothing(side, side), *(boxes.photo(across[c][1], side) for c in part)],
        ]
        for r, (_, picture) in enumerate(down):
            words = [names[r], *notes[r : r + 1]]
            head = [_beside(words, side, beside - GAP), boxes.photo(picture, side)]
            cells.append(head + [cell(r, c, side) for c in part])
        bands.append(boxes.table(cells, GAP))
    return boxes.column(bands, BETWEEN * 2)


def _short(name: str) -> str:
    return name.rpartition(":")[2]


def _over(words: str, width: float) -> Box:
    return boxes.centred_line(words, width, mono=True)


def _beside(words: Sequence[str], height: float, width: float) -> Box:
    """Lines that end at the right, in the middle of their row."""
    lines = [boxes.text(w, LABEL_SIZE, mono=i == 0, within=width, anchor="end") for i, w in enumerate(words)]
    block = boxes.column(lines, 1)
    space = max((height - block.height) / 2, 0)
    return boxes.column([boxes.nothing(0, space), block, boxes.nothing(0, space)], 0)
