"""One page about one unit: what it detects, what it reads, where, in which factors, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import Agreement, Factors, FeatureImages, Layer, Weights
from . import boxes, cards
from .boxes import Box
from .composing import composed
from .connecting import by_sign, rows_by, rows_of_cards
from .expanding import check_factors
from .figure import Figure
from .gallery import Gallery, Images, gallery, of_factors, with_more
from .grids import sign_words
from .layout import GAP, LABEL_SIZE, Tile, magnitude
from .maps import LEAST, full_maps, maps_from, maps_of
from .positions import Place, checked_places, positions_grid
from .theme import Palette, diverging
from .wording import about_agreement, about_pictures, about_weights, percent, several, source_name, unit_of

PORTRAIT = (120, 248)  # pixels
HEADING, SECTION = 14, 26  # of a section: its words, and the space before it
GRID = 220  # pixels of the positions
FACTS = 190  # pixels that the numbers need beside the portrait


def neuron_card(
    inputs: Weights,
    images: Images = None,
    outputs: Weights | None = None,
    factors: Factors | None = None,
    factor_images: FeatureImages | None = None,
    positions: FeatureImages | None = None,
    layer: Layer | None = None,
    *,
    target: int | str,
    k: int = 6,
    places: Sequence[Place] | None = None,
    agreement: Agreement | None = None,
    palette: Palette = "classic",
) -> Figure:
    """A page about one unit; parts whose records are not given are left out.

    Args:
        inputs: weights on the unit.
        images: feature visualizations of the unit, its sources and the units that read it.
        outputs: weights of a later layer on the unit's layer.
        factors: of the unit's own weights, with non-negative channels.
        factor_images: of the factors' directions.
        positions: of the weights' direction at each place, as in :func:`~weightatlas.figures.spatial_positions`.
        layer: of the unit, for the numbers.
        target: the unit's number or address.
        k: inputs and outputs of each sign.
        places: of ``positions``.
        agreement, palette: as in :func:`~weightatlas.figures.connection`.

    Returns:
        A figure. ``data`` has ``inputs`` and ``outputs`` (numbers of units), ``share`` of the unit's squared weights
        that is shown, and ``facts``, the numbers as pairs of words.

    Raises:
        ArgumentError, UnknownNameError: for a unit that is not among the weights, or records of other layers.
        WeightValuesError: for NaN or infinite weights.
    """
    to = unit_of(target, inputs.target, inputs.units, "target")
    address = f"{inputs.target}:{to}"
    _check(inputs, to, factors, factor_images, layer)
    spots = checked_places(inputs, to, positions, places)
    pictures = gallery(images, inputs)
    rows = rows_by(inputs, to, None, k, "both")
    shown, share = maps_from(inputs, to, [n for _, units in rows for n in units])
    drawn = maps_of(inputs, np.stack(list(shown.values())), palette)
    readers = _readers(outputs, inputs.target, to, k) if outputs is not None else []
    facts = _facts(inputs, to, layer, pictures, factors)

    def body(room: float) -> Box:
        parts = [
            _portrait(pictures, inputs.target, to, facts, room),
            _section(f"What it reads in {inputs.source}", room),
            rows_of_cards(rows, shown, drawn, pictures, inputs.source, lambda n: source_name(inputs, n), room),
            drawn.key("one scale for what it reads", room),
        ]
        beside = [
            lambda wide: _in_factors(factors, factor_images, wide, palette),
            lambda wide: _by_position(inputs, to, positions, spots, wide),
        ]
        parts += _side_by_side(beside, room)
        return boxes.column([*parts, *_output_parts(outputs, to, readers, pictures, room, palette)], GAP)

    said = [*about_weights(inputs), *about_agreement(agreement, inputs, [to])]
    read_by = [n for _, units in readers for n in units]
    return composed(
        (address, f"reads {inputs.source}"),
        body,
        title=f"About {address}",
        caption=f"{address} at a glance: the units of {inputs.source} shown hold {percent(share)} of its squared "
        f"weights{_outputs_words(outputs)}; {sign_words(palette)}.",
        said=[*said, *about_pictures(with_more(pictures, factor_images, positions)), *drawn.shown.left_out],
        provenance=inputs.provenance,
        alt=f"A picture of {address}; {'; '.join(map(' '.join, facts))}; its inputs {', '.join(map(str, shown))}; "
        f"read by {', '.join(map(str, read_by)) or 'none'}.",
        data={"inputs": np.array(list(shown)), "outputs": np.array(read_by, np.int64), "share": share, "facts": facts}
        | {"target": to, **drawn.data},
    )


def _check(
    inputs: Weights, to: int, factors: Factors | None, factor_images: FeatureImages | None, layer: Layer | None
) -> None:
    """All records must be about the unit.

    Raises:
        ArgumentError: for factors or a layer of another, or another number of factors' pictures.
    """
    check_factors(factors, inputs, to)
    if layer is not None and layer.name != inputs.target:
        raise ArgumentError(f"layer={layer.name!r} came in, but these weights are of {inputs.target!r}")
    if factors is not None:
        of_factors(factor_images, factors.rank)


def _outputs_words(outputs: Weights | None) -> str:
    return f"; it is read by {outputs.target}" if outputs is not None else ""


def _facts(
    inputs: Weights, to: int, layer: Layer | None, pictures: Gallery, factors: Factors | None
) -> list[tuple[str, str]]:
    """Numbers about the unit, as (what, how much)."""
    values = full_maps(inputs, [to])[0].astype(np.float64)
    found = [("sources", str(len(values)))]
    top = np.sort(np.square(values).sum(axis=(1, 2)))[::-1]
    found.append(("half its weights are in", f"{_half(top)} of them"))
    positive, whole = np.square(values[values > 0]).sum(), np.square(values).sum() or 1.0
    found.append(("exciting share", percent(float(positive / whole))))
    if factors is not None:
        found.append((f"in {several(factors.rank, 'factor')}", percent(factors.explained)))
    if layer is not None:
        field = layer.receptive_field
        if layer.grid is not None:
            found.append(("grid", " × ".join(map(str, layer.grid))))
        if field is not None:
            found.append(("sees", f"{field.size[0]:g} × {field.size[1]:g} px"))
            found.append(("one position every", f"{field.stride[0]:g} px"))
    for record in pictures.records:
        row = np.flatnonzero(record.units == to) if record.layer == inputs.target else []
        if len(row):
            found.append(("its activation on its picture", magnitude(float(record.reached[row[0]]))))
            break
    return found


def _half(power: np.ndarray) -> int:
    """How many of the largest make up half of the sum."""
    return int(np.searchsorted(np.cumsum(power), power.sum() / 2) + 1) if power.sum() else 0


def _portrait(pictures: Gallery, layer: str, to: int, facts: Sequence[tuple[str, str]], room: float) -> Box:
    """The unit's picture, and its numbers beside or below it."""
    side = min(max(room * 0.36, PORTRAIT[0]), PORTRAIT[1])

    def numbers(wide: float) -> Box:
        wide = min(wide, FACTS * 1.6)
        names = [boxes.text(name, 12.5, room=wide * 0.7) for name, _ in facts]
        most = max(n.width for n in names)
        lines = [
            boxes.row(
                [
                    boxes.text(name, 12.5, room=wide * 0.7, within=most),
                    boxes.text(value, 12.5, "ink", room=wide - most - 14),
                ],
                14,
            )
            for name, value in facts
        ]
        return boxes.column(lines, 6)

    return boxes.beside(boxes.photo(pictures.of(layer, to), side), numbers, room, FACTS)


def _section(words: str, room: float) -> Box:
    """A heading with space above."""
    return boxes.column([boxes.nothing(0, SECTION - 2 * GAP), boxes.text(words, HEADING, "ink", bold=True, room=room)])


def _in_factors(factors: Factors | None, pictures: FeatureImages | None, room: float, palette: Palette) -> Box | None:
    """Each factor's picture glued to its signed map."""
    if factors is None:
        return None
    maps = factors.space[0].transpose(2, 0, 1)
    peak = np.abs(maps).max(axis=(1, 2), keepdims=True)
    relative = maps / np.where(peak > 0, peak, 1)
    shown = cards.window(relative, LEAST)
    columns, side = cards.columns_for(len(maps), room, 104)
    made = []
    for n, (picture, values) in enumerate(zip(of_factors(pictures, factors.rank), relative, strict=True)):
        tile = Tile(diverging(shown.of(values), 1.0, palette), "", f"factor {n + 1}")
        card = boxes.glued(picture, tile, side)
        made.append(boxes.labelled(card, f"factor {n + 1}", percent(float(factors.shares[n])), mono=False))
    bound = f", at most {percent(factors.bound)}" if np.isfinite(factors.bound) else ""
    held = f"{percent(factors.explained)} of its weights{bound}"
    return boxes.column(
        [
            _section(f"In {several(factors.rank, 'factor')}", room),
            boxes.paragraph(f"{held}; each map on its own scale", room, LABEL_SIZE + 1),
            boxes.lines(made, columns * (side + GAP)),
        ]
    )


def _side_by_side(parts: Sequence[Callable[[float], Box | None]], room: float) -> list[Box]:
    """Sections side by side, each with half of the room, or one below the other where it is narrow."""
    wide = (room - 2 * GAP) / 2
    made = [box for box in (part(wide) for part in parts) if box is not None]
    if len(made) > 1 and wide >= GRID:
        padded = [boxes.row([box, boxes.nothing(max(wide - box.width, 0))], 0, align="top") for box in made]
        return [boxes.row(padded, 2 * GAP, align="top")]
    return [box for box in (part(room) for part in parts) if box is not None]


def _by_position(
    inputs: Weights, to: int, positions: FeatureImages | None, spots: Sequence[Place], room: float
) -> Box | None:
    """What the unit looks for at each position."""
    if positions is None:
        return None
    grid = positions_grid(inputs, to, positions, spots, min(room, GRID))
    words = boxes.paragraph("its weights' direction at each position, faded by magnitude", room, LABEL_SIZE + 1)
    return boxes.column([_section("What it looks for, and where", room), words, grid])


def _readers(outputs: Weights, layer: str, to: int, k: int) -> list[tuple[str, list[int]]]:
    """Units of the later layer that this one excites and inhibits most."""
    if outputs.source != layer:
        raise ArgumentError(f"outputs are weights on {layer!r}, not on {outputs.source!r}")
    outputs.require_finite()
    place = np.flatnonzero(outputs.source_indices == to)
    if not len(place):
        raise ArgumentError(f"{outputs.source}:{to} is not among the source units of outputs")
    return by_sign(outputs.dense().values[:, int(place[0])], outputs.units, k)


def _output_parts(
    outputs: Weights | None,
    to: int,
    readers: Sequence[tuple[str, list[int]]],
    pictures: Gallery,
    room: float,
    palette: Palette,
) -> list[Box]:
    """The units that read this one, each glued to the map of its weight on it; nothing if there are none."""
    if outputs is None or not readers:
        return []
    place = int(np.flatnonzero(outputs.source_indices == to)[0])
    dense = outputs.dense().values[:, place]
    row = {int(n): i for i, n in enumerate(outputs.units)}
    maps = {n: dense[row[n]] for _, units in readers for n in units}
    drawn = maps_of(outputs, np.stack(list(maps.values())), palette)
    layer = outputs.target
    return [
        _section(f"What it does in {layer}", room),
        rows_of_cards(readers, maps, drawn, pictures, layer, lambda n: f"{layer}:{n}", room),
        drawn.key("one scale for what it does", room),
    ]
