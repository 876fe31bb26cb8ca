"""What a unit reads several layers back, in groups: Figures 10 and 13 of the article."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import Agreement, Factors, FeatureImages, Weights
from . import boxes, layout
from .boxes import Box, Picture
from .composing import composed
from .connecting import BESIDE, TARGET, columns_for, glued_card
from .figure import Figure
from .gallery import Gallery, Images, gallery, of_factors, with_more
from .grids import sign_words
from .layout import GAP
from .maps import Maps, maps_from, maps_of
from .theme import Palette
from .wording import about_agreement, about_pictures, about_weights, percent, several, source_name, unit_of

#: Share of a unit's squared weights that factors must explain so that its sources are grouped by them.
ENOUGH = 0.5
Head = tuple[str, str, Picture]  # before a row: a factor's name, its share, its picture
A_ROW = 9  # sources by strength in a line


def expanded(
    weights: Weights,
    images: Images = None,
    factors: Factors | None = None,
    factor_images: FeatureImages | None = None,
    *,
    target: int | str,
    k: int = 9,
    enough: float = ENOUGH,
    agreement: Agreement | None = None,
    palette: Palette = "classic",
) -> Figure:
    """A unit's strongest sources any number of layers back: in a row for each factor, or by strength.

    Args:
        weights: expanded (or direct).
        images: feature visualizations of both layers (one record, several, or a mapping by layer).
        factors: of this unit's weights, with non-negative channels. If they explain ``enough``, every source stands in
            the row of the factor that it takes most part in.
        factor_images: ``visualize(net, factors.source, directions=factors.channels)``.
        target: a unit's number or address.
        k: how many sources, in all.
        enough: least share of squared weights that factors must explain.
        agreement, palette: as in :func:`~weightatlas.figures.connection`.

    Returns:
        A figure with one scale. ``data`` has ``maps`` ``[n, H, W]``, ``sources`` ``[n]``, ``rows`` (how many in each),
        ``grouped`` (whether by factors), ``share``, ``scale`` and ``window``.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the weights, or factors of other weights.
        WeightValuesError: for NaN or infinite weights of the target.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 10 and 13.
    """
    if isinstance(enough, bool) or not isinstance(enough, int | float):
        raise ArgumentError(f"enough={enough!r} is no share of squared weights")
    to = unit_of(target, weights.target, weights.units, "target")
    by_unit, share = maps_from(weights, to, weights.top(to, k).sources.tolist())
    check_factors(factors, weights, to)
    used = factors if factors is not None and factors.explained >= enough else None
    what = f"{len(by_unit)} of {len(weights.source_indices)} sources"
    heads, rows = _rows(used, factor_images, weights, list(by_unit)) if used else ([None], [list(by_unit)])
    order = [n for row in rows for n in row]
    maps = np.stack([by_unit[n] for n in order])
    drawn, pictures = maps_of(weights, maps, palette), gallery(images, weights)

    def body(room: float) -> Box:
        side = min(max(room * 0.24, TARGET[0]), TARGET[1])
        unit = boxes.labelled(boxes.photo(pictures.of(weights.target, to), side), f"{weights.target}:{to}", room=side)
        groups = list(zip(heads, rows, strict=True))
        return boxes.beside(unit, lambda wide: _groups(weights, groups, by_unit, drawn, pictures, wide), room, BESIDE)

    said = [
        *about_weights(weights),
        *about_agreement(agreement, weights, [to]),
        *_about_factors(factors, used is not None),
    ]
    said += about_pictures(with_more(pictures, factor_images if used else None))
    order_words = "in a row for each factor" if used else "strongest first"
    return composed(
        (f"{weights.target}:{to}", f"reads {weights.source} · {drawn.shown.words} · {what}"),
        body,
        drawn.legend,
        title=f"What {weights.target}:{to} reads in {weights.source}",
        caption=f"The {_that_weigh(len(order), weights.source)} most on {weights.target}:{to}, {order_words}, "
        f"with {percent(share)} of its squared weights; {sign_words(palette)}.",
        said=[*said, *drawn.shown.left_out],
        provenance=weights.provenance,
        alt=f"A picture of {weights.target}:{to}, and of {', '.join(source_name(weights, n) for n in order)}, each "
        "above the signed map of its weights.",
        data={"maps": maps, "sources": np.array(order), "rows": [len(r) for r in rows], "grouped": used is not None}
        | {"share": share, "target": to, **drawn.data},
    )


def _that_weigh(count: int, source: str) -> str:
    return f"{several(count, 'unit')} of {source} that {'weigh' if count != 1 else 'weighs'}"


def check_factors(factors: Factors | None, weights: Weights, to: int) -> None:
    """Factors must be of one unit of these weights, with directions that add up.

    Raises:
        ArgumentError: for others.
    """
    if factors is None:
        return
    ends = (factors.source, factors.target, factors.units.tolist(), factors.channels.shape[-1])
    if ends != (weights.source, weights.target, [to], len(weights.source_indices)):
        raise ArgumentError(
            f"factors of {factors.target} {factors.units.tolist()[:4]} over {ends[-1]} units of {factors.source} came "
            f"in, but factors of {weights.target}:{to} over {len(weights.source_indices)} of {weights.source} are "
            f"needed: factorize(weights.select([{to}]), nonnegative='channels')"
        )
    if factors.nonnegative != "channels" or factors.per_unit:
        raise ArgumentError("sources are grouped by factors with non-negative channels: nonnegative='channels'")


def _rows(
    factors: Factors, pictures: FeatureImages | None, weights: Weights, numbers: Sequence[int]
) -> tuple[list[Head | None], list[list[int]]]:
    """Every factor's picture and its sources: each goes where the factor's share of its map is largest."""
    place = {int(n): i for i, n in enumerate(weights.source_indices)}
    strength = np.linalg.norm(factors.space[0].reshape(-1, factors.rank).astype(np.float64), axis=0)
    part = factors.channels * strength[:, None]
    rows: list[list[int]] = [[] for _ in range(factors.rank)]
    for n in numbers:  # strongest first, so that rows are, too
        rows[int(part[:, place[n]].argmax())].append(n)
    shown = of_factors(pictures, factors.rank)
    return [(f"factor {k + 1}", percent(float(factors.shares[k])), shown[k]) for k in range(len(rows))], rows


def _groups(
    weights: Weights,
    groups: Sequence[tuple[Head | None, list[int]]],
    values: dict[int, np.ndarray],
    drawn: Maps,
    pictures: Gallery,
    wide: float,
) -> Box:
    """A row of cards for each group, its factor before it."""
    headed = [(head, units) for head, units in groups if units]
    most = max(len(units) + (head is not None) for head, units in headed)
    columns, side = columns_for(min(most, A_ROW), wide)
    names = [source_name(weights, n) for _, units in headed for n in units]
    labels = iter(layout.fitting_labels(names, side))
    parts = []
    for head, units in headed:
        line = []
        for n in units:
            card = glued_card(pictures.of(weights.source, n), values[n], drawn, side, source_name(weights, n))
            line.append(boxes.labelled(card, next(labels)))
        ahead = 0 if head is None else 1  # the column that the factor has for itself
        cards = boxes.lines(line, max(columns - ahead, 1) * (side + GAP))
        parts.append(cards if head is None else boxes.row([_head(head, side), cards], GAP, align="top"))
    return boxes.column(parts, GAP * 1.5)


def _head(head: Head, side: float) -> Box:
    """A factor's picture, level with the pictures of its row."""
    return boxes.labelled(boxes.photo(head[2], side), head[0], head[1], mono=False)


def _about_factors(factors: Factors | None, grouped: bool) -> list[str]:
    if factors is None:
        return []
    bound = f" of at most {percent(factors.bound)}" if np.isfinite(factors.bound) else ""
    verb = "hold" if factors.rank != 1 else "holds"
    held = f"{several(factors.rank, 'factor')} {verb} {percent(factors.explained)}{bound}"
    return [held if grouped else f"{held}, too little to group sources by"]
