"""Weight banding by depth: one line per layer, from the first at the top to the last."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Banding, BandRow
from . import boxes
from .axes import Axis, level, overlaid
from .boxes import Box
from .composing import composed
from .figure import Figure
from .theme import EXCITE, INHIBIT, Palette, check_choice

LINE = 26  # pixels from layer to layer
NAME_SIZE = 12
MOST_NAMES = 0.36  # of the width
NAME_GAP, EDGE, KEY = 12, 8, 18  # pixels between a name and 0, at the ends of an axis, and of a mark in the key
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def banding_plot(banding: Banding, *, palette: Palette = "classic") -> Figure:
    """Row and column share of every layer with a spatial kernel, in network order.

    Args:
        banding: the statistics.
        palette: colours of row and column share.

    Returns:
        A figure with, per layer, the row share (disc), the column share (ring), the permutation interval of the row
        share (grey band) and its expected value (tick). Layers that are not judged stand apart below, with the reason.
        ``data["rows"]`` holds the numbers.
    """
    check_choice("palette", palette, Palette)
    judged = [r for r in banding if not r.apart]
    apart = [r for r in banding if r.apart]
    colours = EXCITE[palette], INHIBIT[palette]
    name = banding.provenance.model or "network"

    def body(room: float) -> Box:
        axis = _axis(banding.rows, room)
        parts = [_key(axis, colours, room), axis.ticks(TICKS), *(_line(axis, row, colours) for row in judged)]
        if apart:
            parts += [boxes.nothing(0, 12), boxes.text("Listed apart", 12, bold=True)]
        for row in apart:
            reason = boxes.paragraph(row.apart, room)
            parts += [_line(axis, row, colours), boxes.column([reason, boxes.nothing(0, 6)], 0)]
        return boxes.column(parts, 0)

    return composed(
        (name, "share of the kernels' variance between rows and between columns, by depth"),
        body,
        title=f"Weight banding in {name}",
        caption=_caption(banding, len(judged)),
        said=[],
        provenance=banding.provenance,
        alt=_alt(judged),
        data={"rows": banding.to_dicts()},
    )


def _caption(banding: Banding, judged: int) -> str:
    found = banding.banded
    if not judged:
        what = "No layer is judged"
    elif not found:
        what = f"None of {judged} judged layers stands out" if judged > 1 else "The one judged layer does not stand out"
    elif len(found) == 1:
        row = next(r for r in banding if r.banded)
        what = (
            f"{row.layer} is banded: {row.row_share:.0%} of its kernels' variance lies between rows, "
            f"{row.column_share:.0%} between columns, {row.chance:.0%} expected"
        )
    else:
        what = f"{len(found)} layers are banded: {', '.join(found)}"
    return f"{what}. Grey: where 95% of {banding.permutations} random groupings of positions fall."


def _alt(judged: Sequence[BandRow]) -> str:
    parts = [f"{r.layer}: rows {r.row_share:.2f}, columns {r.column_share:.2f}" for r in judged]
    return "One line per layer. " + "; ".join(parts)


def _axis(rows: Sequence[BandRow], room: float) -> Axis:
    """The axis of all lines: names stand left of it, or above its lines if they would take too much."""
    longest = max((boxes.text(r.layer, NAME_SIZE, mono=True).width for r in rows), default=0) + NAME_GAP
    left = longest if longest < MOST_NAMES * room else EDGE
    return Axis(left, room - left - EDGE, room, LINE)


def _key(axis: Axis, colours: tuple[str, str], room: float) -> Box:
    """What the marks mean, in one row or two."""
    small = Axis(KEY / 2 - 1, 1, KEY, 14)
    marks = {
        "rows": small.dot(0, colours[0]),
        "columns": small.dot(0, colours[1], hollow=True),
        "rows, 95% of permutations": Axis(0, KEY - 4, KEY, 14).band(0, 1),
        "expected": small.tick(0),
    }
    words = [boxes.row([mark, boxes.text(name, 12, "ink")], 4) for name, mark in marks.items()]
    return boxes.column([boxes.lines(words, room, 2 * EDGE, 4), boxes.nothing(0, 8)], 0)


def _line(axis: Axis, row: BandRow, colours: tuple[str, str]) -> Box:
    """A layer's name and its marks."""
    above = axis.left == EDGE
    role = "ink" if row.banded else "quiet"
    name = boxes.text(row.layer, NAME_SIZE, role, mono=True, room=axis.room if above else axis.left)
    marks = [axis.rule()]
    if row.row_share == row.row_share:  # else NaN: nothing to draw
        words = (
            f"{row.layer}: rows {row.row_share:.3f}, columns {row.column_share:.3f}, expected {row.chance:.3f}, "
            f"95% of permutations {row.interval[0]:.3f} to {row.interval[1]:.3f}, {row.kernels} kernels"
        )
        marks += [axis.band(*row.interval), axis.tick(row.chance)]
        marks += [axis.dot(row.column_share, colours[1], hollow=True), axis.dot(row.row_share, colours[0], words=words)]
    if row.banded:
        marks.append(axis.flag(row.row_share, f"{row.row_share:.0%}"))
    line = overlaid(marks)
    return boxes.column([name, line], 0) if above else overlaid([line, level(name, LINE)])
