"""What excites units among many images: their strongest crops, and how often they fire how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import DatasetExamples, checked_units
from . import boxes, cards, layout
from .boxes import Box, Picture
from .composing import composed
from .figure import Figure
from .gallery import Gallery, Images
from .histograms import bars, histogram
from .imaging import crop_square, visible_image
from .layout import GAP, LABEL_SIZE, magnitude
from .wording import about_pictures, percent, several

PORTRAIT, CROP = (64, 112), 84  # pixels
HISTOGRAM = (190, 84)  # pixels (wide, high)


def dataset_examples(
    examples: DatasetExamples,
    layer: str,
    units: Sequence[int],
    crops: Mapping[int, Sequence[np.ndarray]],
    images: Images = None,
    *,
    channel_names: Sequence[str] = ("red", "green", "blue"),
    cells: Mapping[int, Sequence[Sequence[float]]] | None = None,
) -> Figure:
    """A row for each unit: its picture, the crops that excite it most, how often it fires how strongly.

    Args:
        examples: from :func:`weightatlas.dataset_examples`.
        layer, units: whose.
        crops: of each unit, uint8 ``[h, w, C]``, strongest first, as ``lens.crops`` cuts them; fewer are shown if
            fewer are given.
        images: feature visualizations of the units.
        channel_names: of the crops.
        cells: of each crop, the position as ``lens.cell`` gives it, to be framed.

    Returns:
        A figure. ``data`` has ``units`` and, by unit, ``activations`` (under each crop), ``counts`` and ``edges`` of
        the histograms as they are drawn, ``rate``, and ``dead``.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the examples, or more crops than examples.
    """
    rows = examples.rows(layer)
    chosen = checked_units(units, rows.stop - rows.start, f"layer {layer!r}")
    found = [
        _Unit(examples, layer, u, [visible_image(c, channel_names) for c in crops.get(u, ())], (cells or {}).get(u, ()))
        for u in chosen
    ]
    pictures = Gallery(images)

    def body(room: float) -> Box:
        most = max(len(unit.crops) for unit in found)
        return boxes.column([_row(unit, most, pictures, room) for unit in found], 2.4 * GAP)

    many = examples.activations(layer)
    count = examples.done
    return composed(
        (layer, f"on {several(count, 'image')}"),
        body,
        title=_title(found, layer),
        caption=f"{_opening(found, count)} The bars are all {many:,} activations by size, on a logarithmic axis.",
        said=[*_said(examples, layer, found), *about_pictures(pictures)],
        provenance=examples.provenance,
        alt=f"{'; '.join(u.words for u in found)}.",
        data={
            "units": np.array(chosen),
            "activations": {u.number: u.activations for u in found},
            "counts": {u.number: u.bars.counts for u in found},
            "edges": {u.number: u.bars.edges for u in found},
            "rate": {u.number: u.rate for u in found},
            "dead": [u.number for u in found if u.dead],
        },
    )


class _Unit:
    """One unit's row.

    Raises:
        ArgumentError: for more crops than there are examples.
    """

    def __init__(
        self, examples: DatasetExamples, layer: str, number: int, crops: Sequence[np.ndarray],
        cells: Sequence[Sequence[float]],
    ) -> None:  # fmt: skip
        self.number, self.layer, self.address = number, layer, f"{layer}:{number}"
        best = examples.best(layer, number)
        if len(crops) > len(best):
            raise ArgumentError(f"{len(crops)} crops of {self.address} came in for {len(best)} examples")
        # what a rectified unit is 0 on excites it no more than any other image
        self.best = [f for f in best if f.activation > 0] if examples.rectified(layer) else best
        self.crops = crops[: len(self.best)]
        self.cells = [*cells, *[()] * len(crops)][: len(self.crops)]
        self.bars = bars(*examples.histogram_of(layer, number))
        self.rate = float(examples.rate(layer)[number])
        self.mean = float(examples.mean(layer)[number])
        self.dead = number in examples.dead(layer)
        self.below = bool(self.best) and self.best[0].activation <= 0

    @property
    def activations(self) -> list[float]:
        """The largest activation on each of the images that excite it."""
        return [found.activation for found in self.best]

    @property
    def words(self) -> str:
        """The unit in words."""
        strongest = ", ".join(f"{f.activation:.3g} in {f.image}" for f in self.best[:3]) or "nothing"
        return f"{self.address}: above 0 in {percent(self.rate)} of places, excited most by {strongest}"


def _row(unit: _Unit, most: int, pictures: Gallery, room: float) -> Box:
    """A unit's picture, its crops and its histogram: side by side, or below each other where it is narrow."""
    side = min(max(room * 0.12, PORTRAIT[0]), PORTRAIT[1])
    picture = pictures.of(unit.layer, unit.number)
    portrait = boxes.labelled(boxes.photo(picture, side), layout.fitting_labels([unit.address], side)[0])
    numbers = _numbers(unit)

    def crops(wide: float) -> Box:
        columns, each = cards.columns_for(max(len(unit.crops), 1), wide, CROP)
        made = [
            boxes.labelled(
                crop_square(_shot(unit, i), each, unit.cells[i]), magnitude(unit.best[i].activation), mono=False
            )
            for i in range(len(unit.crops))
        ]
        return boxes.lines(made, columns * (each + GAP)) if made else boxes.paragraph(_nothing(unit), wide)

    rest = room - portrait.width - numbers.width - 4 * GAP
    if rest >= 3 * CROP:
        return boxes.row(
            [portrait, _filled(crops(rest), min(most * (CROP + GAP) - GAP, rest)), numbers], 2 * GAP, align="top"
        )
    return boxes.column([boxes.row([portrait, numbers], 2 * GAP, align="top"), crops(room)], GAP)


def _filled(box: Box, width: float) -> Box:
    """A box as wide as its room, so that what follows is aligned from row to row."""
    return boxes.Box(max(box.width, width), box.height, box.draw, box.axis)


def _shot(unit: _Unit, place: int) -> Picture:
    """One crop."""
    found = unit.best[place]
    return Picture(unit.crops[place], f"{found.image} at {found.at} excites {unit.address} with {found.activation:.3g}")


def _numbers(unit: _Unit) -> Box:
    """The histogram, and its numbers under it."""
    drawn = histogram(unit.bars, *HISTOGRAM, f"activations of {unit.address} by size")
    facts = "dead: never above 0" if unit.dead else f"above 0 in {percent(unit.rate)} · mean {magnitude(unit.mean)}"
    return boxes.column([drawn, boxes.text(facts, LABEL_SIZE)], 3)


def _nothing(unit: _Unit) -> str:
    """Why a unit has no crops."""
    return "no image excites it" if not unit.best else "no crops were given"


def _title(found: Sequence[_Unit], layer: str) -> str:
    if len(found) > 1:
        return f"What excites {layer}"
    return f"{'What' if found[0].best else 'Nothing'} excites {found[0].address}"


def _opening(found: Sequence[_Unit], count: int) -> str:
    """What the crops are, and which units nothing excites."""
    silent = [unit.address for unit in found if not unit.best]
    none = f"None of {several(count, 'image')} excites {' or '.join(silent)}." if silent else ""
    if len(silent) == len(found):
        return none
    framed = "; frames show the position" if any(any(unit.cells) for unit in found) else ""
    return (
        f"Of {several(count, 'image')}: crops of those that excite each unit most, cut to what its strongest position "
        f"sees, with its activation there{framed}. {none}"
    ).strip()


def _said(examples: DatasetExamples, layer: str, found: Sequence[_Unit]) -> list[str]:
    """What else must be told of the whole layer."""
    left, dead = len(examples.names) - examples.done, len(examples.dead(layer))
    said = [f"{several(left, 'image')} were not looked at yet"] if left else []
    if not examples.rectified(layer):
        said += [
            f"{u.address} is nowhere above 0: its crops are those where it is least below" for u in found if u.below
        ]
        return [*said, f"values of {layer} go below 0, so none of its units is called dead"]
    return [*said, f"{several(dead, 'unit')} of the layer never rose above 0"] if dead else said
