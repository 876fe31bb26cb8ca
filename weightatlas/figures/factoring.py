"""Factors with pictures: their maps in every unit, and what they are made of. Figures 7 and 8 of the article."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import Factors, FeatureImages, checked_count
from . import boxes, cards, layout
from .boxes import Box, Picture
from .cards import Block
from .composing import composed
from .figure import Figure
from .gallery import Gallery, Images, of_factors, with_more
from .grids import chosen_rows, noted, sign_words
from .headed import headed
from .layout import GAP, Tile, magnitude
from .maps import LEAST, check_finite
from .theme import Palette, check_choice, diverging
from .wording import about_pictures, percent, several

UNITS_SHOWN = 8
CELL = (40, 104)  # pixels of a map
TERM = (60, 104)  # pixels of a term's picture
SIGN = 22  # pixels of = and +


def weight_factors(
    factors: Factors,
    factor_images: FeatureImages | None = None,
    images: Images = None,
    *,
    units: Iterable[int] | None = None,
    palette: Palette = "classic",
) -> Figure:
    """One row for each factor of a family's weights: the picture of its direction, and its signed map in every unit.

    Args:
        factors: joint, with non-negative channels, so that every direction can be visualized.
        factor_images: ``visualize(net, factors.source, directions=factors.channels)``.
        images: feature visualizations of the units.
        units: numbers of the units to show; default the first eight.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure with one symmetric scale a factor, told by the legend as shares of the factor's largest weight.
        ``data`` has ``maps`` ``[K, n, H, W]``, ``units``, ``shares`` ``[K]``, ``explained`` and ``bound``.

    Raises:
        ArgumentError: for factors of another kind, units that are not among them, a wrong number of pictures.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figure 7.
    """
    check_choice("palette", palette, Palette)
    _check(factors, "rows of factors")
    rows = chosen_rows(factors.units, units, factors.target, UNITS_SHOWN)
    if not rows:
        raise ArgumentError(f"no unit of {factors.target!r} was given")
    maps = factors.space[rows].transpose(3, 0, 1, 2)
    check_finite(maps, f"factors of {factors.target}")
    peak = np.abs(factors.space).max(axis=(0, 1, 2))[:, None, None, None]
    relative = maps / np.where(peak > 0, peak, 1)
    shown = cards.window(relative.reshape(-1, *maps.shape[2:]), LEAST)
    gallery, directions = Gallery(images), of_factors(factor_images, factors.rank)
    numbers = factors.units[rows]
    across = [(f"{factors.target}:{n}", gallery.of(factors.target, int(n))) for n in numbers]
    down = [(f"factor {k + 1}", p) for k, p in enumerate(directions)]

    def cell(r: int, c: int, side: float) -> Box:
        colours = diverging(shown.of(relative[r, c]), 1.0, palette)
        return boxes.signed(Tile(colours, "", f"factor {r + 1} in {across[c][0]}"), side, _OWN)

    notes = [percent(float(s)) for s in factors.shares]
    pictures = with_more(gallery, factor_images)
    return composed(
        (factors.target, f"reads {factors.source} · {shown.words} · {_count(rows, factors)}"),
        lambda room: headed(across, down, cell, room, CELL, notes=notes),
        lambda scene, y: cards.legend(scene, y + 4, 1.0, palette, _OWN, "of each factor's largest weight"),
        title=f"Factors of {factors.target}",
        caption=f"{_held(factors)} {_BESIDE.format(factors.source)}; {sign_words(palette)}.",
        said=[*noted(factors.provenance), *about_pictures(pictures), *shown.left_out],
        provenance=factors.provenance,
        alt=f"{factors.rank} rows of signed maps of {shown.shape[0]} by {shown.shape[1]} squares, one for each of "
        f"{', '.join(name for name, _ in across)}, each row beside the picture of its factor.",
        data={
            "maps": maps,
            "units": numbers,
            "shares": factors.shares,
            "explained": factors.explained,
            "bound": factors.bound,
            "window": (*shown.start, *shown.shape),
        },
    )


_BESIDE = "Beside each, what its direction over {} detects"
_OWN: Block | None = None  # factors do not say where the target's own position is


def factor_equation(
    factors: Factors,
    factor_images: FeatureImages | None = None,
    images: Images = None,
    *,
    k: int = 5,
) -> Figure:
    """Every factor as a sum of source units: its picture = unit × coefficient + …, with bars.

    Args:
        factors: joint; with non-negative channels all terms add.
        factor_images: ``visualize(net, factors.source, directions=factors.channels)``.
        images: feature visualizations of the source units.
        k: terms a factor, largest coefficients first.

    Returns:
        A figure. Coefficients are those of the direction scaled to length 1, so their squares add up to 1. ``data`` has
        ``sources`` and ``coefficients``, a list of arrays by factor, and ``held``, the share of squares shown.

    Raises:
        ArgumentError: for factors of single units, another ``k``, a wrong number of pictures.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figure 8.
    """
    _check(factors, "equations", signed=True)
    count = checked_count(k, "terms")
    check_finite(factors.channels, f"factors of {factors.target}")
    length = np.linalg.norm(factors.channels, axis=1, keepdims=True)
    unit = factors.channels / np.where(length > 0, length, 1)
    order = [[int(i) for i in np.argsort(-np.abs(row), kind="stable")[:count] if row[i]] for row in unit]
    gallery, directions = Gallery(images), of_factors(factor_images, factors.rank)
    terms = [
        [(i, gallery.of(factors.source, i), float(row[i])) for i in chosen]
        for row, chosen in zip(unit, order, strict=True)
    ]
    largest = max((abs(c) for line in terms for _, _, c in line), default=1.0)
    held = [sum(c * c for _, _, c in line) for line in terms]

    def body(room: float) -> Box:
        parts = [_equation(n, directions[n], line, factors, largest, room) for n, line in enumerate(terms)]
        return boxes.column(parts, GAP * 2)

    text = (
        f"Each factor's direction over the units of {factors.source}, scaled to length 1, as a sum of units; the "
        f"terms shown hold {_range(held)} of its square. {_held(factors)}"
    )
    return composed(
        (factors.target, f"{several(factors.rank, 'factor')} over {factors.source}"),
        body,
        title=f"What the factors of {factors.target} are made of",
        caption=text,
        said=[*noted(factors.provenance), *about_pictures(with_more(gallery, factor_images))],
        provenance=factors.provenance,
        alt="; ".join(
            f"factor {n + 1} = {' + '.join(f'{c:.2f} × {factors.source}:{i}' for i, _, c in line)} + …"
            for n, line in enumerate(terms)
        ),
        data={
            "sources": [np.array([i for i, _, _ in line]) for line in terms],
            "coefficients": [np.array([c for _, _, c in line]) for line in terms],
            "held": np.array(held),
        },
    )


def _range(shares: Sequence[float]) -> str:
    ends = [percent(f(shares)) for f in (min, max)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _equation(
    n: int,
    picture: Picture,
    line: Sequence[tuple[int, Picture, float]],
    factors: Factors,
    largest: float,
    room: float,
) -> Box:
    """One factor = term + term + …; where it is narrow, terms go on in further lines."""
    count = len(line)
    side = (room - (count + 1) * (SIGN + GAP)) / (count + 1) - GAP / 2
    if side < TERM[0]:  # three in a line
        side = (room - 3 * (SIGN + GAP)) / 3
    side = min(max(side, 40), TERM[1])
    labels = layout.fitting_labels([f"{factors.source}:{i}" for i, _, _ in line], side)
    first = boxes.labelled(boxes.photo(picture, side), f"factor {n + 1}", percent(float(factors.shares[n])))
    parts, sign = [first], "="
    for (_, shown, coefficient), label in zip(line, labels, strict=True):
        if coefficient < 0:
            sign = "−" if sign == "+" else "= −"
        term = boxes.column([boxes.photo(shown, side), boxes.bar(abs(coefficient) / largest, side)], 6)
        number = magnitude(abs(coefficient)).lstrip("0") or "0"
        held = boxes.labelled(boxes.on_axis(term, side / 2), label, number)
        parts.append(boxes.row([boxes.sign(sign, within=SIGN), held], GAP / 2))
        sign = "+"
    if count < np.count_nonzero(factors.channels[n]):
        parts[-1] = boxes.row([parts[-1], boxes.sign("+ …", within=SIGN)], GAP / 2)
    return boxes.lines(parts, room, GAP / 2)


def _check(factors: Factors, what: str, *, signed: bool = False) -> None:
    if factors.per_unit:
        raise ArgumentError(f"{what} need joint factors, but every unit of these has directions of its own")
    if not signed and factors.nonnegative != "channels":
        raise ArgumentError(
            f"{what} show the picture of each direction, but these factors have nonnegative={factors.nonnegative!r}; "
            "use factorize(..., nonnegative='channels')"
        )


def _held(factors: Factors) -> str:
    """How much factors hold, as a sentence."""
    verb = "hold" if factors.rank != 1 else "holds"
    bound = f", {factors.rank} of any kind at most {percent(factors.bound)}" if np.isfinite(factors.bound) else ""
    units = several(len(factors.units), "unit")
    return (
        f"{several(factors.rank, 'factor')} of the weights of {units} of {factors.target} "
        f"({_method(factors)}) {verb} {percent(factors.explained)} of their squares{bound}."
    )


def _method(factors: Factors) -> str:
    how = {"posneg": "one-sided NMF", "semi": "semi-NMF", "svd": "singular vectors"}[factors.method]
    return f"{how}, channels ≥ 0" if factors.nonnegative == "channels" else how


def _count(rows: Sequence[int], factors: Factors) -> str:
    of = f" of {len(factors.units)}" if len(rows) < len(factors.units) else ""
    return f"{several(factors.rank, 'factor')}, {len(rows)}{of} unit{'s' if len(factors.units) != 1 else ''}"
