"""The strongest sources of single units, a row of maps for each: Figures 4, 9 and 10 of the article."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..records import By, Connections, Weights
from . import cards, layout, lettering
from .cards import Block, Window
from .figure import MARGIN, Figure
from .grids import chosen_rows, sign_words, source_line
from .layout import Tile, magnitude
from .maps import own_of
from .scene import Scene
from .theme import Palette, check_choice, diverging
from .wording import about_weights, told

UNITS_SHOWN = 6
ADDRESS_SIZE, SHARE_SIZE = 13, 12
BESIDE = 210  # pixels that a unit's address may take beside its cards; longer ones go above
LEAST_BESIDE = 72  # pixels of a card from which on addresses go beside
ROW_GAP = 12
VERBS = {"l2": "weigh most on", "excite": "excite", "inhibit": "inhibit"}


@dataclass(frozen=True)
class _Row:
    """One target unit: its address, the share its cards hold, the cards."""

    address: str
    share: str
    tiles: Sequence[Tile]


def connections(
    weights: Weights,
    units: Iterable[int] | None = None,
    k: int = 8,
    by: By = "l2",
    palette: Palette = "classic",
) -> Figure:
    """The strongest sources of each unit, one row of signed maps a unit, as in Figure 10 of the article.

    Args:
        weights: direct or expanded.
        units: numbers of the target units to show; default the first six.
        k: how many source units a row shows.
        by: what counts as strong, see :meth:`weightatlas.Weights.top`.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure with one symmetric scale and its legend; the identity path of a residual network may go beyond it. Of
        large maps the inner part that holds 99% of their squares is shown. The target's own position is framed where
        the maps hold it. ``data`` has, for every target unit, ``maps`` ``[k, H, W]``, ``sources`` ``[k]`` and its entry
        of ``shares``; ``window`` is what is shown of the maps: first row and column, height, width.

    Raises:
        ArgumentError: for units that are not among the weights, or another ``k`` or ``by``.
        WeightValuesError: for NaN or infinite weights of these units.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 4, 9, 10 and 13.
    """
    check_choice("palette", palette, Palette)
    chosen = [int(weights.units[r]) for r in chosen_rows(weights.units, units, weights.target, UNITS_SHOWN)]
    tops = [weights.top(u, k, by) for u in chosen]
    scale, beyond = _scale(weights.select(chosen), tops)
    shown = cards.window(np.concatenate([top.maps for top in tops]))
    own = own_of(weights, shown)
    rows = [_Row(top.address, _share_words(top), _tiles(top, weights, shown, scale, palette)) for top in tops]
    what = f"reads {weights.source} · {shown.words} · {len(rows)} of {weights.target_units} units"
    single = cards.SINGLE if shown.full == (1, 1) else None
    words = "one scale for the figure" + (", the skip path beyond it" if beyond else "")

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = _place(scene, layout.heading(scene, weights.target, what) + 4, rows, single, own)
        cards.legend(scene, y, scale, palette, own, words)
        return scene

    return Figure(
        compose,
        title=f"Strongest sources of {weights.target} in {weights.source}",
        caption=_caption(weights, tops, by, palette, shown, beyond),
        source=source_line(weights.provenance),
        alt=_alt(tops, *shown.shape),
        data={
            "units": np.array(chosen),
            "maps": [top.maps for top in tops],
            "sources": [top.sources for top in tops],
            "shares": np.array([top.share for top in tops]),
            "scale": scale,
            "window": (*shown.start, *shown.shape),
        },
    )


def _scale(weights: Weights, tops: Sequence[Connections]) -> tuple[float, float]:
    """The magnitude at full colour, and the largest beyond it, 0 if there is none.

    It is the largest of the weights proper: beside the identity path of a residual network they would all be pale.
    """
    largest = max(float(np.abs(top.maps).max(initial=0)) for top in tops)
    path = weights.skip if weights.skip_included else None
    if path is None:
        return largest, 0.0
    place = {int(n): i for i, n in enumerate(weights.source_indices)}
    proper = 0.0
    for top, skip in zip(tops, path.values, strict=True):
        rest = top.maps - skip[[place[int(n)] for n in top.sources]]
        proper = max(proper, float(np.abs(rest).max(initial=0)))
    return (proper, largest) if 0 < proper < largest else (largest, 0.0)


def _tiles(top: Connections, weights: Weights, shown: Window, scale: float, palette: Palette) -> list[Tile]:
    names = dict(zip(weights.source_indices.tolist(), weights.channel_names, strict=False))
    tiles = []
    for number, address, strength, total, values in zip(
        top.sources.tolist(), top.addresses, top.strengths, top.sums, shown.of(top.maps), strict=True
    ):
        words = f"{address} on {top.address}, strength {magnitude(strength)}, sum {magnitude(total)}"
        tiles.append(Tile(diverging(values, scale, palette), names.get(number, address), words))
    return tiles


def _share_words(top: Connections) -> str:
    if not len(top.sources):
        return "no weights" if not top.shown_of else f"nothing {top.by}s it"
    return f"{top.share:.0%} of weights shown"


def _place(scene: Scene, y: float, rows: Sequence[_Row], single: float | None, own: Block | None) -> float:
    """All rows, alike in columns; addresses go beside the cards where there is room, else above them."""
    room, largest = scene.width - 2 * MARGIN, single or cards.SIDES[1]
    most = max([1, *(len(row.tiles) for row in rows)])
    needed = 22 + 1.04 * max(
        max(lettering.text_width(row.address, ADDRESS_SIZE, mono=True), lettering.text_width(row.share, SHARE_SIZE))
        for row in rows
    )
    beside = needed if needed <= BESIDE else 0
    columns, side = cards.columns_for(most, room - beside, largest)
    if not beside or columns < most or side < min(LEAST_BESIDE, largest):
        beside = 0
        columns, side = cards.columns_for(most, room, largest)
    end = MARGIN + columns * side + (columns - 1) * layout.GAP
    flat = layout.fitting_labels([tile.address for row in rows for tile in row.tiles], side)
    for row in rows:
        labels, flat = flat[: len(row.tiles)], flat[len(row.tiles) :]
        after = _head(scene, y, row, 0 if beside else end)
        y = cards.grid(scene, MARGIN + beside, y if beside else after, row.tiles, labels, (columns, side), own)
        y = max(y, after) + ROW_GAP
    return y


def _head(scene: Scene, y: float, row: _Row, end: float) -> float:
    """A unit's address and share, in one line as long as its cards if there is room; returns the next free y."""
    room = scene.width - 2 * MARGIN
    address = lettering.shorten(row.address, ADDRESS_SIZE, room * 0.98)
    y += ADDRESS_SIZE
    scene.text(MARGIN, y, address, ADDRESS_SIZE, mono=True)
    wide = 1.04 * (lettering.text_width(address, ADDRESS_SIZE, mono=True) + lettering.text_width(row.share, SHARE_SIZE))
    if MARGIN + wide + 12 <= end:
        scene.text(end, y, row.share, SHARE_SIZE, "quiet", anchor="end")
    else:
        y += SHARE_SIZE + 6
        scene.text(MARGIN, y, row.share, SHARE_SIZE, "quiet")
    return y + 8


def _caption(
    weights: Weights, tops: Sequence[Connections], by: By, palette: Palette, shown: Window, beyond: float
) -> str:
    most, shares = max(len(top.sources) for top in tops), [f"{top.share:.0%}" for top in tops]
    low, high = f"{min(top.share for top in tops):.0%}", f"{max(top.share for top in tops):.0%}"
    held = shares[0] if low == high else f"{low} to {high}"
    count, also = f"{most} source units" if most != 1 else "source unit", " most" if by != "l2" else ""
    text = (
        f"The {count} of {weights.source} that {VERBS[by]} each unit{also}, with {held} of its "
        f"squared weights; {sign_words(palette)}."
    )
    said = about_weights(weights)
    said += [f"the skip path, up to {magnitude(beyond)}, is beyond the scale"] if beyond else []
    return told(text, [*said, *shown.left_out], weights.provenance)


def _alt(tops: Sequence[Connections], h: int, w: int) -> str:
    rows = [f"{top.address}: {', '.join(map(str, top.sources)) or 'none'}" for top in tops]
    return f"One row of signed maps of {h} by {w} squares for each unit, strongest source first. {'; '.join(rows)}."
