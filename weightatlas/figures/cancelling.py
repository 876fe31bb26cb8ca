"""Influence that cancels in expanded weights, pair by pair: a remedy to Figures 11 and 12 of the article."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, WeightValuesError
from ..records import MiddleUnit, Paths, read_as
from . import cards, layout, lettering
from .cards import Block, Window
from .figure import MARGIN, Figure
from .grids import sign_words, source_line
from .layout import GAP, LABEL_SIZE, Tile, magnitude
from .scene import Scene
from .theme import EXCITE, INHIBIT, Palette, check_choice, diverging
from .wording import told

COLUMNS = ("Σ", "best case", "worst case", "Σ |·|")
PANEL = 540  # pixels of a pair with its words beside it; where there is room for two, pairs stand side by side
SIDE = 104  # pixels of a card, at most
BESIDE = 262  # pixels that the words need beside the cards; where there is less, they go below
ADDRESS_SIZE, LINE = 12, 19
BAR = 84
ROW_GAP, PANEL_GAP = 16, 32
MIDDLE_SHOWN = 2  # units of each sign


@dataclass(frozen=True)
class _Pair:
    """One row: the addresses of both ends, four maps, how much cancels, middle units by sign."""

    target: str
    source: str
    tiles: Sequence[Tile]
    cancellation: float
    excite: Sequence[str]
    inhibit: Sequence[str]


def pathways(
    paths: Paths, pairs: Iterable[tuple[int, int]] | None = None, k: int = 6, palette: Palette = "classic"
) -> Figure:
    """Pairs of units whose influence through a middle layer cancels, with what it could be if it did not.

    Args:
        paths: from a source layer through a middle layer to a target layer.
        pairs: (target unit, source unit) numbers; default the ``k`` in which most cancels (:meth:`Paths.hidden`), of
            each target unit one as long as there are enough units.
        k: how many, without ``pairs``.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure of four maps a pair on one scale: the sum of all paths (the expanded weight through the middle
        layer), of those that excite, of those that inhibit, of all magnitudes; beside them how much cancels and the
        middle units that excite and inhibit most. ``data["maps"]`` is ``[n, 4, H, W]``; of
        large maps the inner ``data["window"]`` (first row and column, height, width) is shown.

    Raises:
        ArgumentError, UnknownNameError: for units that are not here, or if no pair was given and nothing cancels.
        WeightValuesError: for NaN or infinite weights of these units.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 11 and 12.
    """
    check_choice("palette", palette, Palette)
    chosen = _most_hidden(paths, k) if pairs is None else _checked(pairs)
    if not chosen:
        raise ArgumentError(f"nothing cancels in {paths!r}; give pairs=[(target unit, source unit), …] to see some")
    maps = np.stack([_maps(paths, *pair) for pair in chosen])
    shown = cards.window(maps[:, -1])
    scale = float(np.abs(maps).max())
    every = paths.unit_cancellation
    cancellation = np.array([every[paths.entry(*pair)] for pair in chosen])
    drawn = zip(chosen, shown.of(maps), cancellation, strict=True)
    rows = [_row(paths, *pair, inner, float(lost), scale, palette) for pair, inner, lost in drawn]
    own = cards.own_block(
        shown.shape, tuple(o + s for o, s in zip(paths.origin, shown.start, strict=True)), paths.stride
    )
    count = f"{len(rows)} pair{'s' if len(rows) > 1 else ''}"
    what = f"reads {paths.source} through {paths.middle} · {shown.words} · {count}"

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = _place(scene, layout.heading(scene, paths.target, what), rows, own, (EXCITE[palette], INHIBIT[palette]))
        cards.legend(scene, y, scale, palette, own)
        return scene

    return Figure(
        compose,
        title=f"Influence of {paths.source} on {paths.target} that cancels in {paths.middle}",
        caption=_caption(paths, sorted({paths.entry(*pair)[0] for pair in chosen}), palette, shown),
        source=source_line(paths.provenance),
        alt=_alt(rows, *shown.shape),
        data={
            "pairs": np.array(chosen),
            "maps": maps,
            "cancellation": cancellation,
            "scale": scale,
            "window": (*shown.start, *shown.shape),
        },
    )


def _most_hidden(paths: Paths, k: int) -> list[tuple[int, int]]:
    """The pairs in which most cancels, the first of each target unit before the second of any."""
    seen: dict[int, int] = {}
    ranked = []
    everything = paths.hidden(k) and paths.hidden(max(paths.total.shape[0] * paths.total.shape[1], k))
    for order, pair in enumerate(everything):
        seen[pair.unit] = nth = seen.get(pair.unit, 0) + 1
        ranked.append((nth, order, (pair.unit, pair.source_unit)))
    return [pair for _, _, pair in sorted(ranked)[:k]]


def _checked(pairs: Iterable[Any]) -> list[tuple[int, int]]:
    try:
        return [(unit.__index__(), source.__index__()) for unit, source, *_ in pairs]
    except (TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"pairs must be like [(target unit, source unit), …], not {pairs!r}") from error


def _maps(paths: Paths, unit: int, source_unit: int) -> np.ndarray:
    """Sum, best case, worst case and sum of magnitudes, float32 ``[4, H, W]``."""
    at = paths.entry(unit, source_unit)
    net, absolute = paths.through[at], paths.absolute[at]
    if not (np.isfinite(net) & np.isfinite(absolute)).all():
        raise WeightValuesError(
            f"paths from {paths.source}:{source_unit} to {paths.target}:{unit} are NaN or infinite; choose other pairs"
        )
    return np.stack([net, (absolute + net) / 2, (net - absolute) / 2, absolute])


def _row(
    paths: Paths, unit: int, source_unit: int, maps: np.ndarray, cancellation: float, scale: float, palette: Palette
) -> _Pair:
    target, source = f"{paths.target}:{unit}", f"{paths.source}:{source_unit}"
    tiles = [
        Tile(
            diverging(m, scale, palette),
            name,
            f"{source} on {target}, {name}: {magnitude(m.min())} to {magnitude(m.max())}",
        )
        for name, m in zip(COLUMNS, maps, strict=True)
    ]
    middle = sorted(paths.middle_top(unit, source_unit, paths.middle_units), key=lambda m: -abs(m.sum))

    def addresses(units: Iterable[MiddleUnit]) -> list[str]:
        return [f"{paths.middle}:{m.unit}" for m in units][:MIDDLE_SHOWN]

    excite, inhibit = addresses(m for m in middle if m.sum > 0), addresses(m for m in middle if m.sum < 0)
    return _Pair(target, source, tiles, cancellation, excite, inhibit)


def _place(scene: Scene, y: float, rows: Sequence[_Pair], own: Block | None, colours: tuple[str, str]) -> float:
    """All rows, in one column or two; words stand beside the cards where there is room, else below."""
    room, gaps = scene.width - 2 * MARGIN, GAP * (len(COLUMNS) - 1)
    panels = 2 if len(rows) > 1 and room >= 2 * PANEL + PANEL_GAP else 1
    room = (room - PANEL_GAP * (panels - 1)) / panels
    side = (room - gaps - BESIDE) / len(COLUMNS)
    beside = side >= cards.SIDES[0]
    side = min(side if beside else (room - gaps) / len(COLUMNS), SIDE)
    ahead = len(COLUMNS) * side + gaps + 2 * GAP if beside else 0
    full = all(_fits(f"+ {'  '.join(u)}", room - ahead - 14) for row in rows for u in (row.excite, row.inhibit))
    for panel in range(panels):
        _headings(scene, MARGIN + panel * (room + PANEL_GAP), y, side)
    y += LABEL_SIZE + 8
    for first in range(0, len(rows), panels):
        end = y + side
        for panel, row in enumerate(rows[first : first + panels]):
            x = MARGIN + panel * (room + PANEL_GAP)
            for i, tile in enumerate(row.tiles):
                cards.card(scene, x + i * (side + GAP), y, side, tile, own)
            top = y - 3 if beside else y + side + 6
            end = max(end, _words(scene, x + ahead, top, room - ahead, row, full, colours))
        y = end + ROW_GAP
    return y


def _headings(scene: Scene, x: float, y: float, side: float) -> None:
    """What the columns are; without the word "case" where cards are narrow."""
    widest = max(lettering.text_width(name, LABEL_SIZE) for name in COLUMNS)
    for i, name in enumerate(COLUMNS):
        words = name if widest <= side + GAP / 2 else name.removesuffix(" case")
        scene.text(x + i * (side + GAP) + side / 2, y + LABEL_SIZE, words, LABEL_SIZE, "quiet", anchor="middle")


def _fits(address: str, room: float) -> bool:
    return lettering.text_width(address, LABEL_SIZE, mono=True) * 1.02 <= room


def _words(scene: Scene, x: float, y: float, room: float, row: _Pair, full: bool, colours: tuple[str, str]) -> float:
    """Which pair, how much cancels, and through whom (``full`` addresses or not); returns the next free y."""
    both = f"{row.target} ← {row.source}"
    one = lettering.text_width(both, ADDRESS_SIZE, mono=True) * 1.02 <= room
    for line in [both] if one else [row.target, f"← {row.source}"]:
        y += LINE - 3
        scene.text(x, y, lettering.shorten(line, ADDRESS_SIZE, room * 0.98), ADDRESS_SIZE, mono=True)
    y += LINE
    scene.rect(x, y - 8, BAR, 8, role="line", radius=2)
    scene.rect(x, y - 8, BAR * row.cancellation, 8, role="quiet", radius=2)
    scene.text(x + BAR + 8, y, f"{row.cancellation:.0%} cancels", ADDRESS_SIZE)
    for sign, units, colour in (("+", row.excite, colours[0]), ("−", row.inhibit, colours[1])):
        if units:
            y += LINE - 1
            scene.dot(x + 4, y - 4, 4, colour)
            words = f"{sign} {'  '.join(units) if full else _short(units)}"
            words = lettering.shorten(words, LABEL_SIZE, (room - 14) * 0.98)
            scene.text(x + 14, y, words, LABEL_SIZE, "quiet", mono=True)
    return y + 4


def _short(units: Sequence[str]) -> str:
    """Several addresses with their layer named once."""
    return ", ".join([units[0], *(u.rpartition(":")[2] for u in units[1:])])


def _caption(paths: Paths, rows: Sequence[int], palette: Palette, shown: Window) -> str:
    text = (
        f"Paths from {paths.source} to {paths.target} through {paths.middle}: all added up (Σ), those that excite "
        "(best case) or inhibit (worst case) alone, square by square, and all magnitudes (Σ |·|). Bars show how much "
        f"cancels, + and − the middle units that excite and inhibit most; {sign_words(palette)}."
    )
    around = float(paths.bypass_share[rows].max())
    said = read_as(paths.replaced)
    said += (
        [f"up to {around:.0%} of a unit's expanded weights run around {paths.middle} and are left out"]
        if around
        else []
    )
    return told(text, [*said, *shown.left_out], paths.provenance)


def _alt(rows: Sequence[_Pair], h: int, w: int) -> str:
    parts = [f"{r.source} on {r.target}: {r.cancellation:.0%} cancels" for r in rows]
    return f"Four signed maps of {h} by {w} squares a row. {'; '.join(parts)}."
