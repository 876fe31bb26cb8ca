"""Weights with a picture at each end: single connections, and a unit's strongest sources. Figures 3, 4 and 9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ..errors import ArgumentError
from ..records import Agreement, Weights, checked_count
from . import boxes, cards, layout
from .boxes import Box, Picture
from .composing import composed
from .figure import Figure
from .gallery import Gallery, Images, gallery
from .grids import sign_words
from .layout import GAP, magnitude
from .maps import Maps, full_maps, maps_from, maps_of
from .theme import Palette, check_choice
from .wording import about_agreement, about_pictures, about_weights, percent, several, source_name, unit_of, units_of

Strength = Literal["l2", "excite", "inhibit", "both"]
LARGEST = 260  # pixels of a picture at the end of an arrow
LINK = (14, 72)  # pixels of an arrow
TARGET = (96, 208)  # pixels of the unit that others are seen from
BESIDE = 300  # pixels that cards need beside it
GLUED = 120  # pixels of a picture with its map, at most
#: What source units do: one, several.
VERBS = {"l2": ("weighs most on", "weigh most on"), "excite": ("excites", "excite"), "inhibit": ("inhibits", "inhibit")}


def connection(
    weights: Weights,
    images: Images = None,
    *,
    source: int | str,
    target: int | str,
    agreement: Agreement | None = None,
    palette: Palette = "classic",
) -> Figure:
    """One connection between two pictures: what the source unit detects, the map, what the target unit detects.

    Args:
        weights: direct or expanded.
        images: feature visualizations of both layers (one record, several, or a mapping by layer).
        source, target: unit numbers or addresses (``"blocks.4.1:17"``).
        agreement: of the weights with the real network, for the caption.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure. ``data`` has ``map`` ``[H, W]``, ``share`` of the target's squared weights, ``rank`` among its
        sources (1 is the strongest), ``scale`` and ``window``.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the weights.
        WeightValuesError: for NaN or infinite weights of the target.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figure 3.
    """
    to = unit_of(target, weights.target, weights.units, "target")
    of = unit_of(source, weights.source, weights.source_indices, "source")
    values = full_maps(weights, [to])[0]
    place = int(np.flatnonzero(weights.source_indices == of)[0])
    power = np.square(values, dtype=np.float64).sum(axis=(1, 2))
    share, rank = float(power[place] / (power.sum() or 1)), int((power > power[place]).sum()) + 1
    drawn, pictures = maps_of(weights, values[place][None], palette), gallery(images, weights)
    named = source_name(weights, of)
    words = f"{named} on {weights.target}:{to}"

    def body(room: float) -> Box:
        link = min(max(room * 0.09, LINK[0]), LINK[1])
        side = min((room - 2 * link) / 3, LARGEST)
        labels = layout.fitting_labels([named, f"{weights.target}:{to}"], side)
        strength = f"L2 {magnitude(float(np.sqrt(power[place])))}"
        parts = [
            boxes.labelled(boxes.photo(pictures.of(weights.source, of), side), labels[0], room=side),
            boxes.wire(link),
            boxes.labelled(drawn.card(values[place], words, side), strength, room=side),
            boxes.arrow(link),
            boxes.labelled(boxes.photo(pictures.of(weights.target, to), side), labels[1], room=side),
        ]
        return boxes.row(parts, gap=0)

    text = (
        f"{named} → {weights.target}:{to}: {percent(share)} of the target's squared weights, number {rank} of its "
        f"{several(len(power), 'source')}; {sign_words(palette)}."
    )
    said = [*about_weights(weights), *about_agreement(agreement, weights, [to]), *about_pictures(pictures)]
    return composed(
        (f"{weights.target}:{to}", f"reads {named} · {drawn.shown.words}"),
        body,
        drawn.legend,
        title=words,
        caption=text,
        said=[*said, *drawn.shown.left_out],
        provenance=weights.provenance,
        alt=f"A picture of {named}, the signed map of its weights, an arrow, and a picture of {weights.target}:{to}.",
        data={"map": values[place], "share": share, "rank": rank, "source": of, "target": to, **drawn.data},
    )


def small_multiples(
    weights: Weights,
    images: Images = None,
    *,
    target: int | str,
    sources: Sequence[int | str] | None = None,
    k: int = 10,
    by: Strength = "l2",
    agreement: Agreement | None = None,
    palette: Palette = "classic",
) -> Figure:
    """A unit and its strongest sources, each picture glued to its map.

    Args:
        weights: direct or expanded.
        images: feature visualizations of both layers (one record, several, or a mapping by layer).
        target: a unit's number or address.
        sources: which source units, in this order, instead of the strongest.
        k: how many sources; of each sign with ``by="both"``.
        by: ``"l2"``; ``"excite"`` or ``"inhibit"``; or ``"both"``, a row of each.
        agreement, palette: as in :func:`connection`.

    Returns:
        A figure with one scale. ``data`` has ``maps`` ``[n, H, W]``, ``sources`` ``[n]``, ``rows`` (how many in each
        row of a sign), ``share`` of the target's squared weights that is shown, ``scale`` and ``window``.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the weights, or another ``k`` or ``by``.
        WeightValuesError: for NaN or infinite weights of the target.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 4 and 9.
    """
    check_choice("by", by, Strength)
    to = unit_of(target, weights.target, weights.units, "target")
    rows = rows_by(weights, to, sources, k, by)
    numbers = [n for _, units in rows for n in units]
    if not numbers:
        raise ArgumentError(f"nothing {'weighs on' if by in ('l2', 'both') else f'{by}s'} {weights.target}:{to}")
    by_unit, share = maps_from(weights, to, numbers)
    maps = np.stack([by_unit[n] for n in numbers])
    drawn, pictures = maps_of(weights, maps, palette), gallery(images, weights)

    what = f"reads {weights.source} · {drawn.shown.words} · {len(by_unit)} of {len(weights.source_indices)} sources"
    said = [*about_weights(weights), *about_agreement(agreement, weights, [to]), *about_pictures(pictures)]
    return composed(
        (f"{weights.target}:{to}", what),
        lambda room: _beside_target(weights, to, rows, by_unit, drawn, pictures, room),
        drawn.legend,
        title=f"What {weights.target}:{to} reads in {weights.source}",
        caption=_caption(weights, to, rows, by, share, sources is not None, drawn),
        said=[*said, *drawn.shown.left_out],
        provenance=weights.provenance,
        alt=f"A picture of {weights.target}:{to}, and of {', '.join(source_name(weights, n) for n in numbers)}, "
        "each above the signed map of its weights.",
        data={
            "maps": maps,
            "sources": np.array(numbers),
            "rows": [len(units) for _, units in rows],
            "share": share,
            "target": to,
            **drawn.data,
        },
    )


def rows_by(
    weights: Weights, to: int, sources: Sequence[int | str] | None, k: int, by: Strength
) -> list[tuple[str, list[int]]]:
    """Rows as (heading, source units): one, or one of each sign."""
    if sources is not None:
        return [("", units_of(sources, weights.source, weights.source_indices, "source"))]
    if by != "both":
        return [("", weights.top(to, k, by).sources.tolist())]
    return by_sign(full_maps(weights, [to])[0], weights.source_indices, checked_count(k, "sources"))


def by_sign(maps: np.ndarray, units: np.ndarray, k: int) -> list[tuple[str, list[int]]]:
    """Units by what they mostly do (in squares), each once; the strongest k of each sign by that part's L2 norm.

    Args:
        maps: signed, ``[n, H, W]``.
        units: numbers of the n units.
        k: at most so many of a sign.
    """
    up, down = (np.square(np.clip(sign * maps.astype(np.float64), 0, None)).sum(axis=(1, 2)) for sign in (1, -1))
    rows = []
    for heading, strength in (("excites", np.where(up >= down, up, 0)), ("inhibits", np.where(down > up, down, 0))):
        order = np.argsort(-strength, kind="stable")[:k]
        rows.append((heading, [int(units[i]) for i in order if strength[i] > 0]))
    return [row for row in rows if row[1]]


def _beside_target(
    weights: Weights,
    to: int,
    rows: Sequence[tuple[str, list[int]]],
    values: dict[int, np.ndarray],
    drawn: Maps,
    pictures: Gallery,
    room: float,
) -> Box:
    """The target large at the left (or above, where it is narrow), rows of glued cards beside it."""
    side = min(max(room * 0.28, TARGET[0]), TARGET[1])
    target = boxes.labelled(boxes.photo(pictures.of(weights.target, to), side), f"{weights.target}:{to}", room=side)

    def beside(wide: float) -> Box:
        return rows_of_cards(rows, values, drawn, pictures, weights.source, lambda n: source_name(weights, n), wide)

    return boxes.beside(target, beside, room, BESIDE)


def rows_of_cards(
    rows: Sequence[tuple[str, list[int]]],
    values: dict[int, np.ndarray],
    drawn: Maps,
    pictures: Gallery,
    layer: str,
    name: Callable[[int], str],
    wide: float,
) -> Box:
    """Rows of a layer's units, each picture glued to its map above its name, under their headings."""
    columns, each = columns_for(max(len(units) for _, units in rows), wide)
    labels = iter(layout.fitting_labels([name(n) for _, units in rows for n in units], each))
    parts: list[Box] = []
    for heading, units in rows:
        parts += [boxes.text(heading, 12)] if heading else []
        made = [
            boxes.labelled(glued_card(pictures.of(layer, n), values[n], drawn, each, name(n)), next(labels))
            for n in units
        ]
        parts.append(boxes.lines(made, columns * (each + GAP)))
    return boxes.column(parts, gap=GAP)


def columns_for(most: int, room: float) -> tuple[int, float]:
    """How many glued cards go side by side, in one line or in few of equal length, and how wide each is."""
    return cards.columns_for(most, room, GLUED)


def glued_card(picture: Picture, values: np.ndarray, drawn: Maps, side: float, words: str) -> Box:
    """A picture on top of a map."""
    return boxes.glued(picture, drawn.tile(values, words), side, drawn.own)


def _caption(
    weights: Weights,
    to: int,
    rows: Sequence[tuple[str, list[int]]],
    by: Strength,
    share: float,
    given: bool,
    drawn: Maps,
) -> str:
    count = len({n for _, units in rows for n in units})
    units = f"{several(count, 'source unit')} of {weights.source}"
    if given:
        text = f"{units} and what each does to {weights.target}:{to}"
    elif by == "both":
        counts = " and ".join(f"{len(u)} that {VERBS[heading.removesuffix('s')][len(u) != 1]}" for heading, u in rows)
        text = f"The source units of {weights.source} that act most on {weights.target}:{to}, {counts}"
    else:
        text = f"The {units} that {VERBS[by][count != 1]} {weights.target}:{to}{' most' if by != 'l2' else ''}"
    return f"{text}, with {percent(share)} of its squared weights; {sign_words(drawn.palette)}."
