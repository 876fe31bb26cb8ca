"""What a unit looks for at every position of its window: Figure 6 of the article."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import FeatureImages, Weights
from . import boxes, cards
from .boxes import Box, Picture
from .composing import composed
from .figure import Figure
from .gallery import Images, gallery, one
from .maps import LEAST, full_maps
from .wording import about_pictures, about_weights, percent, unit_of

Place = tuple[int, int]
LEAST_DRAWN = 0.15  # of the strongest position's length: below it a picture would be nearly white
TARGET = (96, 380)
LARGEST = 76  # pixels of a position
GAP, MANY = 2, 24  # pixels between positions, of up to so many
WHITE = 255


def drawn_places(weights: Weights, target: int | str, least: float = LEAST_DRAWN) -> list[Place]:
    """The positions (row, column) of a unit's map whose direction is worth a picture, row by row.

    Args:
        weights: direct or expanded.
        target: a unit's number or address.
        least: length of a direction over source units, as a share of the longest.

    Raises:
        ArgumentError, UnknownNameError: for a unit that is not among the weights, or has none.
        WeightValuesError: for NaN or infinite weights.
    """
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
        raise ArgumentError(f"least={least!r} is no share from 0 to 1")
    to = unit_of(target, weights.target, weights.units, "target")
    length = _lengths(weights, to)
    shown = cards.window(length[None], LEAST)
    inner = np.zeros(length.shape, bool)
    inner[shown.rows, shown.columns] = True
    strong = inner & (length >= least * length.max()) & (length > 0)
    if not strong.any():
        raise ArgumentError(f"{weights.target}:{to} has no weights from {weights.source}")
    return [(int(y), int(x)) for y, x in np.argwhere(strong)]


def _lengths(weights: Weights, unit: int) -> np.ndarray:
    values = full_maps(weights, [unit])[0]
    return np.sqrt(np.square(values, dtype=np.float64).sum(axis=0))


def spatial_positions(
    weights: Weights,
    positions: FeatureImages,
    images: Images = None,
    *,
    target: int | str,
    places: Sequence[Place] | None = None,
) -> Figure:
    """A unit, and the visualization of its weights' direction at every position, faded by its magnitude.

    Args:
        weights: direct or expanded; at position (y, x) the unit's weights are a direction over source units.
        positions: pictures of these directions, ``visualize(net, source, directions=…)``, one for each place.
        images: feature visualizations of the target's layer.
        target: a unit's number or address.
        places: (row, column) of each picture in the map; default those of :func:`drawn_places`.

    Returns:
        A figure. Pictures fade to white with the length of their direction; positions without a picture are white.
        ``data`` has ``lengths`` ``[H, W]``, ``places`` ``[n, 2]``, ``window`` and ``share`` of the unit's squared
        weights at these places.

    Raises:
        ArgumentError, UnknownNameError: for a unit that is not among the weights, or places that do not fit.
        WeightValuesError: for NaN or infinite weights of the unit.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figure 6.
    """
    to = unit_of(target, weights.target, weights.units, "target")
    length = _lengths(weights, to)
    spots = _checked(drawn_places(weights, to) if places is None else places, length, positions)
    shown = _window(length, spots)
    share = float(sum(length[s] ** 2 for s in spots) / (np.square(length).sum() or 1))
    pictures = gallery(images, weights)

    def grid(wide: float, high: float) -> Box:
        return positions_grid(weights, to, positions, spots, wide, high)

    def body(room: float) -> Box:
        large = min(max(room * 0.42, TARGET[0]), TARGET[1])
        unit = boxes.labelled(boxes.photo(pictures.of(weights.target, to), large), f"{weights.target}:{to}")
        return boxes.beside(unit, lambda rest: grid(rest, large if rest < room else 0), room, 220)

    text = (
        f"What {weights.target}:{to} looks for at each position of {weights.source}: the picture of its weights' "
        f"direction there, faded by their magnitude. {_these(len(spots))} {percent(share)} of its squared "
        "weights. A position that answers to several different things shows one of them."
    )
    said = [*about_weights(weights), *about_pictures([positions, *pictures.records])]
    return composed(
        (f"{weights.target}:{to}", f"reads {weights.source} · {shown.words} positions"),
        body,
        title=f"What {weights.target}:{to} looks for, by position",
        caption=text,
        said=[*said, *shown.left_out],
        provenance=weights.provenance,
        alt=f"A picture of {weights.target}:{to} and a grid of {shown.shape[0]} by {shown.shape[1]} pictures, one for "
        "each position.",
        data={
            "lengths": length,
            "places": np.array(spots),
            "share": share,
            "target": to,
            "window": (*shown.start, *shown.shape),
        },
    )


def checked_places(
    weights: Weights, target: int, positions: FeatureImages | None, places: Sequence[Place] | None
) -> list[Place]:
    """The place of every picture; none if there are no pictures.

    Raises:
        ArgumentError: for places that do not fit.
    """
    if positions is None:
        return []
    return _checked(drawn_places(weights, target) if places is None else places, _lengths(weights, target), positions)


def _these(count: int) -> str:
    return f"These {count} positions hold" if count != 1 else "This position holds"


def _checked(places: Sequence[Place], length: np.ndarray, positions: FeatureImages) -> list[Place]:
    """Places as pairs of integers, one for each picture.

    Raises:
        ArgumentError: for others.
    """
    if not isinstance(positions, FeatureImages):
        raise ArgumentError(f"positions must be FeatureImages, one for each place, not {type(positions).__name__}")
    try:
        spots = [(y.__index__(), x.__index__()) for y, x in places]
    except (TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"places must be like [(row, column), …], not {places!r}") from error
    if len(spots) != len(positions):
        raise ArgumentError(f"{len(positions)} pictures came in for {len(spots)} places; one each is needed")
    h, w = length.shape
    outside = [s for s in spots if not (0 <= s[0] < h and 0 <= s[1] < w)]
    if outside or len(set(spots)) < len(spots):
        raise ArgumentError(f"places must each be once on the {h} × {w} map, not {outside[0] if outside else spots}")
    return spots


def _window(length: np.ndarray, spots: Sequence[Place]) -> cards.Window:
    """The part of the map that is drawn: the inner one, or all of it if a place lies outside."""
    shown = cards.window(length[None], LEAST)
    inner = all(
        shown.rows.start <= y < shown.rows.stop and shown.columns.start <= x < shown.columns.stop for y, x in spots
    )
    h, w = length.shape
    return shown if inner else cards.Window(slice(0, h), slice(0, w), (h, w))


def faded(picture: Picture, strength: float, spot: Place) -> Picture:
    """A picture between white (0) and itself (1)."""
    words = f"row {spot[0]}, column {spot[1]}: {picture.words}, {strength:.0%} of the longest"
    if picture.colours is None:
        return Picture(None, words, picture.missing)
    mixed = WHITE + (picture.colours.astype(np.float64) - WHITE) * strength
    return Picture(np.rint(mixed).astype(np.uint8), words)


def positions_grid(
    weights: Weights, unit: int, positions: FeatureImages, spots: Sequence[Place], room: float, high: float = 0
) -> Box:
    """The pictures in their places, each faded by its magnitude, about as high as the unit beside them."""
    length = _lengths(weights, unit)
    strength = length / (length.max() or 1)
    shown = _window(length, spots)
    shades = {s: faded(one(positions, n), float(strength[s]), s) for n, s in enumerate(spots)}
    h, w = shown.shape
    top, left = shown.start
    gap = GAP if w <= MANY else 0
    fitting = (high - gap * (h - 1)) / h if high else LARGEST
    side = min((room - gap * (w - 1)) / w, max(fitting, 24), LARGEST * 1.5)

    def at(spot: Place) -> Picture:
        faint = strength[spot] < LEAST_DRAWN
        words = "next to no weights here" if faint else f"{strength[spot]:.0%} of the longest, not pictured"
        return shades.get(spot) or Picture(np.full((1, 1, 3), WHITE, np.uint8), words)

    grid = [[at((top + y, left + x)) for x in range(w)] for y in range(h)]
    lines = [boxes.row([boxes.picture_square(p, side) for p in line], gap, align="top") for line in grid]
    return boxes.column(lines, gap)
