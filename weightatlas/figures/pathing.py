"""The paths from one unit to another through a layer between: Figures 11 and 12 of the article."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import MiddleUnit, Paths, checked_count, read_as
from . import boxes, cards, layout
from .boxes import Box
from .composing import composed
from .connecting import TARGET, columns_for, glued_card
from .figure import Figure
from .gallery import Gallery, Images
from .grids import sign_words
from .layout import GAP, magnitude
from .maps import LEAST, Maps, check_finite, off_centre
from .theme import Palette, check_choice
from .wording import about_pictures, percent, several, unit_of

SUMS = ("all paths", "best case", "worst case")
CARD = 110  # pixels of a sum, at most
BESIDE, ARROW = 300, 40


def cancellation(
    paths: Paths,
    images: Images = None,
    *,
    target: int | str,
    source: int | str,
    k: int = 4,
    palette: Palette = "classic",
) -> Figure:
    """The paths from a source unit to a target unit through a middle layer, and what their sum hides.

    Args:
        paths: from a source layer through a middle layer to a target layer.
        images: feature visualizations of the three layers.
        target, source: unit numbers or addresses.
        k: how many middle units are shown of those that mostly excite, and of those that mostly inhibit (by squares),
            strongest first (by Σ|·|).
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure: above, each middle unit glued to the map of what the source does through it, those that excite and
        those that inhibit; below, all paths added up (the expanded weight), and the best and the worst case square by
        square. Each half has one scale. ``data`` has ``maps`` ``[n, H, W]`` and ``middle`` ``[n]`` of the units shown,
        ``sums`` ``[3, H, W]``, ``cancellation``, ``share`` of Σ|·| that the shown units hold, ``scales`` of both.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the paths, or without any path between them.
        WeightValuesError: for NaN or infinite weights of these units.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 11 and 12.
    """
    check_choice("palette", palette, Palette)
    to = unit_of(target, paths.target, paths.units, "target")
    of = unit_of(source, paths.source, paths.source_indices, "source")
    sums, absolute = _cases(paths, to, of)
    rows = _middle(paths, to, of, checked_count(k, "middle units"))
    every = paths.contributions(to, of)
    numbers = [m.unit for _, units in rows for m in units]
    maps = every[numbers]
    share = _held(paths, to, of, numbers)
    lost = float(paths.unit_cancellation[paths.entry(to, of)])
    above, below = (_maps(paths, values, absolute, palette) for values in (maps, sums))
    gallery = Gallery(images)

    def body(room: float) -> Box:
        ends = _ends(gallery, paths, to, of, room)
        upper = boxes.beside(ends, lambda wide: _rows(paths, rows, every, above, gallery, wide), room, BESIDE)
        return boxes.column([upper, _sums(paths, sums, lost, below, room)], GAP * 2)

    return composed(
        (f"{paths.target}:{to}", f"reads {paths.source}:{of} through {paths.middle}"),
        body,
        title=f"Paths from {paths.source}:{of} to {paths.target}:{to}",
        caption=f"What {paths.source}:{of} does to {paths.target}:{to} through {several(len(numbers), 'unit')} of "
        f"{paths.middle}, {'which hold' if len(numbers) != 1 else 'which holds'} {percent(share)} of all "
        f"magnitudes; below, {_all(paths.middle_units)} added up: {percent(lost)} cancels. {_CASES}; "
        f"{sign_words(palette)}.",
        said=[*_said(paths, to, gallery), *above.shown.left_out],
        provenance=paths.provenance,
        alt=f"{paths.source}:{of} on {paths.target}:{to}: maps through units {', '.join(map(str, numbers))} of "
        f"{paths.middle}; below, their sum, the best and worst case; {lost:.0%} cancels.",
        data={"maps": maps, "middle": np.array(numbers), "rows": [len(units) for _, units in rows], "sums": sums}
        | {
            "cancellation": lost,
            "share": share,
            **above.data,
            "scales": (above.scale, below.scale),
        },
    )


_CASES = "The best case is that of open gates wherever a path excites, the worst where it inhibits, square by square"


def _cases(paths: Paths, to: int, of: int) -> tuple[np.ndarray, np.ndarray]:
    """All paths added up, the best and the worst case ``[3, H, W]``; and Σ|·| ``[H, W]``."""
    at = paths.entry(to, of)
    net, absolute = paths.through[at], paths.absolute[at]
    sums = np.stack([net, (absolute + net) / 2, (net - absolute) / 2])
    check_finite(sums, f"paths from {paths.source}:{of} to {paths.target}:{to}")
    return sums, absolute


def _held(paths: Paths, to: int, of: int, middle: Sequence[int]) -> float:
    """The share of all paths' magnitudes that run through some middle units."""
    row, column = paths.entry(to, of)
    outer, inner = np.abs(paths.outer[row], dtype=np.float64), np.abs(paths.inner[:, column], dtype=np.float64)
    each = outer.sum(axis=(1, 2)) * inner.sum(axis=(1, 2))
    return float(each[list(middle)].sum() / (each.sum() or 1.0))


def _all(count: int) -> str:
    return f"all {count} units" if count != 1 else "the only unit"


def _said(paths: Paths, to: int, pictures: Gallery) -> list[str]:
    """What the caption tells of gates, of what runs around the middle layer, and of pictures."""
    around = float(paths.bypass_share[paths.units == to][0])
    more = [f"{percent(around)} of the unit's expanded weights run around {paths.middle}"] if around else []
    return [*read_as(paths.replaced), *more, *about_pictures(pictures)]


def _middle(paths: Paths, to: int, of: int, k: int) -> list[tuple[str, list[MiddleUnit]]]:
    """Middle units in a row of each sign, by which is stronger in squares; those through which most runs first."""
    found = [m for m in paths.middle_top(to, of, paths.middle_units) if m.absolute]
    maps = paths.contributions(to, of).astype(np.float64)
    excess = (np.square(maps) * np.sign(maps)).sum(axis=(1, 2))
    rows = [
        ("excite", [m for m in found if excess[m.unit] >= 0][:k]),
        ("inhibit", [m for m in found if excess[m.unit] < 0][:k]),
    ]
    if not found:
        raise ArgumentError(f"no path leads from {paths.source}:{of} to {paths.target}:{to} through {paths.middle}")
    return [row for row in rows if row[1]]


def _maps(paths: Paths, values: np.ndarray, absolute: np.ndarray, palette: Palette) -> Maps:
    """Maps on the scale of their own largest magnitude, in the window that holds all paths."""
    shown = cards.window(absolute[None], LEAST)
    origin = tuple(o + s for o, s in zip(paths.origin, shown.start, strict=True))
    own = off_centre(cards.own_block(shown.shape, origin, paths.stride), shown)
    return Maps(float(np.abs(values).max()), palette, shown, own)


def _ends(gallery: Gallery, paths: Paths, to: int, of: int, room: float) -> Box:
    """Both ends with an arrow between them: one below the other at the left, or side by side where it is narrow."""
    side = min(max(room * 0.2, TARGET[0]), TARGET[1], (room - ARROW - 2 * GAP) / 2)
    source = boxes.labelled(boxes.photo(gallery.of(paths.source, of), side), f"{paths.source}:{of}", room=side)
    target = boxes.labelled(boxes.photo(gallery.of(paths.target, to), side), f"{paths.target}:{to}", room=side)
    if room - side - 2 * GAP >= BESIDE:
        words = boxes.centred_line("acts on", side, mono=False)
        return boxes.column([source, words, target], GAP)
    return boxes.row([source, boxes.arrow(ARROW), target])


def _rows(
    paths: Paths,
    rows: Sequence[tuple[str, list[MiddleUnit]]],
    every: np.ndarray,
    drawn: Maps,
    gallery: Gallery,
    wide: float,
) -> Box:
    """Rows of middle units and their scale."""
    columns, side = columns_for(max(len(units) for _, units in rows), wide)
    labels = iter(layout.fitting_labels([f"{paths.middle}:{m.unit}" for _, u in rows for m in u], side))
    parts: list[Box] = []
    for name, units in rows:
        parts.append(boxes.text(f"mostly {name}", 12))
        made = []
        for m in units:
            card = glued_card(gallery.of(paths.middle, m.unit), every[m.unit], drawn, side, f"{paths.middle}:{m.unit}")
            made.append(boxes.labelled(card, next(labels), f"Σ|·| {magnitude(m.absolute)}"))
        parts.append(boxes.lines(made, columns * (side + GAP)))
    return boxes.column([*parts, drawn.key("one scale for these paths", wide)], GAP)


def _sums(paths: Paths, sums: np.ndarray, lost: float, drawn: Maps, room: float) -> Box:
    """All paths added up, the best and the worst case, and their scale."""
    count, side = cards.columns_for(len(SUMS), room, CARD)
    totals = []
    for name, values in zip(SUMS, sums, strict=True):
        number = f"Σ {_signed(float(values.sum(dtype=np.float64)))}"
        totals.append(boxes.labelled(drawn.card(values, name, side), name, number, mono=False))
    words = boxes.text(f"{_all(paths.middle_units)} added up: {percent(lost)} cancels", 13, "ink", room=room)
    maps = boxes.lines(totals, count * (side + GAP))
    return boxes.column([words, maps, drawn.key("one scale for these sums", room)], GAP)


def _signed(value: float) -> str:
    sign = "−" if value < 0 else "+"
    return f"{sign}{magnitude(abs(value))}" if value else "0"
