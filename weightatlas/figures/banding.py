"""Weight banding by depth: one line per layer, from the first at the top to the last."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Banding, BandRow
from . import layout, lettering
from .figure import MARGIN, Figure
from .grids import source_line
from .scene import Scene
from .theme import EXCITE, INHIBIT, Palette, check_choice

LINE = 26  # pixels from layer to layer
NAME_SIZE = 12
MOST_NAMES = 0.36  # of the width
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

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = layout.heading(scene, name, "share of the kernels' variance between rows and between columns, by depth")
        y = _key(scene, y, colours)
        room = _name_room(banding.rows, width)
        y = _axis(scene, y, room)
        for row in judged:
            y = _line(scene, y, room, row, colours)
        if apart:
            scene.text(MARGIN, y + 26, "Listed apart", 12, "quiet", bold=True)
            y += 34
            for row in apart:
                y = _line(scene, y, room, row, colours)
                for words in lettering.wrap(row.apart, 12, width - 2 * MARGIN):
                    scene.text(MARGIN, y + 12, words, 12, "quiet")
                    y += 17
                y += 6
        return scene

    return Figure(
        compose,
        title=f"Weight banding in {name}",
        caption=_caption(banding, len(judged)),
        source=source_line(banding.provenance),
        alt=_alt(judged),
        data={"rows": banding.to_dicts()},
    )


def _caption(banding: Banding, judged: int) -> str:
    found = banding.banded
    if not found:
        what = f"None of {judged} judged layers stands out"
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


def _key(scene: Scene, y: float, colours: tuple[str, str]) -> float:
    """What the marks mean, in one row or two."""
    x = float(MARGIN)
    for kind, words in (
        ("disc", "rows"),
        ("ring", "columns"),
        ("band", "rows, 95% of permutations"),
        ("tick", "expected"),
    ):
        width = 22 + lettering.text_width(words, 12) * 1.05
        if x + width > scene.width - MARGIN:
            x, y = float(MARGIN), y + 19
        if kind in ("disc", "ring"):
            scene.dot(x + 6, y + 7, 4.5, colours[kind == "ring"], hollow=kind == "ring")
        elif kind == "band":
            scene.rect(x, y + 2, 14, 10, role="line", radius=2)
        else:
            scene.line(x + 6, y + 1, x + 6, y + 13, "quiet", 1.5)
        scene.text(x + 20, y + 11, words, 12, "ink")
        x += width + 16
    return y + 26


def _name_room(rows: Sequence[BandRow], width: float) -> float:
    """Pixels kept for layer names left of the axis; 0 if they would take too much, then they go above their lines."""
    longest = max((lettering.text_width(r.layer, NAME_SIZE, mono=True) for r in rows), default=0) * 1.03 + 14
    return longest if longest < MOST_NAMES * (width - 2 * MARGIN) else 0


def _x(scene: Scene, room: float, share: float) -> float:
    left, right = MARGIN + (room + 8 if room else 2), scene.width - MARGIN - 14
    return left + share * (right - left)


def _axis(scene: Scene, y: float, room: float) -> float:
    for tick in TICKS:
        x = _x(scene, room, tick)
        scene.text(x, y + 10, f"{tick:.0%}", 11, "quiet", anchor="middle")
    return y + 18


def _line(scene: Scene, y: float, room: float, row: BandRow, colours: tuple[str, str]) -> float:
    y += 0 if room else NAME_SIZE + 4
    middle = y + LINE / 2
    name = lettering.shorten(row.layer, NAME_SIZE, room - 8 if room else scene.width - 2 * MARGIN)
    scene.text(MARGIN, middle + 4 if room else y, name, NAME_SIZE, "ink" if row.banded else "quiet", mono=True)
    scene.line(_x(scene, room, 0), middle, _x(scene, room, 1), middle, "line", 1)
    if row.row_share != row.row_share:  # NaN: nothing to draw
        return y + LINE
    low, high = (_x(scene, room, v) for v in row.interval)
    scene.rect(low, middle - 5, max(high - low, 1), 10, role="line", radius=2)
    chance = _x(scene, room, row.chance)
    scene.line(chance, middle - 7, chance, middle + 7, "quiet", 1.5)
    rows, columns = _x(scene, room, row.row_share), _x(scene, room, row.column_share)
    scene.dot(columns, middle, 4.5, colours[1], hollow=True)
    scene.dot(rows, middle, 5, colours[0])
    scene.note(
        f"{row.layer}: rows {row.row_share:.3f}, columns {row.column_share:.3f}, expected {row.chance:.3f}, "
        f"95% of permutations {row.interval[0]:.3f} to {row.interval[1]:.3f}, {row.kernels} kernels"
    )
    if row.banded:
        _flag(scene, rows, middle, f"{row.row_share:.0%}")
    return y + LINE


def _flag(scene: Scene, x: float, y: float, words: str) -> None:
    inside = x + 12 + lettering.text_width(words, 12, bold=True) < scene.width - MARGIN
    scene.text(x + 10 if inside else x - 10, y + 4, words, 12, "ink", bold=True, anchor="start" if inside else "end")
