"""Why a unit fired on an image: activations, weights and contributions in one view, step by step down to the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Explanation, Step
from . import boxes, layout, pushing, reasons
from .boxes import Box
from .composing import composed
from .figure import MARGIN, Figure
from .gallery import Gallery, Images
from .imaging import Grid, marked, spotlight, visible_image, whole
from .layout import GAP, LABEL_SIZE, magnitude
from .pushing import Scales, Spot, watched
from .scene import Scene
from .summing import equation
from .theme import Palette, activation, check_choice
from .wording import about_pictures

FIRST, FURTHER, BESIDE = (140, 250), (68, 104), (84, 120)  # pixels of images and pictures
NARROW = 560
PIXELS = "input"


@dataclass(frozen=True)
class Part:
    """What one step is drawn from.

    Args:
        step: the numbers.
        pictures: of units.
        shown: scales of its maps.
    """

    step: Step
    pictures: Gallery
    shown: Scales


def explanation(found: Explanation, images: Images = None, *, palette: Palette = "classic") -> Figure:
    """Why a unit fired: the image, the unit and its sum; the sources that pushed it up and down; the same for a source.

    Args:
        found: from :func:`weightatlas.explain`.
        images: feature visualizations of the units (one record, several, or a mapping by layer).
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure. Every source unit is a column: what it detects, its weights on the target, its activations there, and
        what it contributed at each place. ``data["steps"]`` has a dictionary for each step: ``target``, ``at``,
        ``source``, ``method``, ``value``, ``base``, ``total``, ``residual``, ``error``, ``alike``, ``up``, ``down``,
        ``contributions`` ``[n]`` and ``weights`` (if there are any), ``activations`` and ``products`` ``[n, h, w]`` of
        these n units, ``window`` and ``scales``.

    Source: Olah et al., "The Building Blocks of Interpretability", Distill 2018 (attribution between layers); Voss et
        al., "Visualizing Weights", Distill 2021 (columns of pictures and weights).
    """
    check_choice("palette", palette, Palette)
    pictures = Gallery(images, {PIXELS: dict(enumerate(found[-1].attributions.channel_names))})
    parts = [Part(step, pictures, pushing.scales(step, palette)) for step in found]

    def body(room: float) -> Box:
        made: list[Box] = []
        spots = [(Spot(), Spot()) for _ in parts]
        for i, part in enumerate(parts):
            box = _step(part, room, i == 0, spots[i])
            made.append(_linked(box, spots[i - 1][1], spots[i][0]) if i else box)
        return boxes.column(made, 3 * GAP)

    first = found[0].attributions
    return composed(
        (found[0].address, f"on this image, at position ({first.at[0]}, {first.at[1]})"),
        body,
        title=f"Why {found[0].address} {reasons.outcome(found[0])}",
        caption=reasons.caption(found, palette),
        said=[*reasons.said(found), *_trimmed(parts), *about_pictures(pictures)],
        provenance=first.provenance,
        alt=reasons.alt(found),
        data={"steps": [reasons.data(part.step, part.shown) for part in parts]},
    )


def _trimmed(parts: Sequence[Part]) -> list[str]:
    """What of the windows is not drawn."""
    cut = [p.step.address for p in parts if p.shown.shown.left_out]
    inner = "show their inner part, with 99% of the squares of weights and contributions"
    return [f"maps of {', '.join(cut)} {inner}"] if cut else []


def _step(part: Part, room: float, first: bool, spots: tuple[Spot, Spot]) -> Box:
    """One step: what is explained and its sum; below it the sources."""
    step = part.step
    head = _first(part, room) if first else _told(part, room, min(max(room * 0.2, FURTHER[0]), FURTHER[1]), spots[0])
    title = boxes.text(f"What pushed it in {step.attributions.source}", 14, "ink", bold=True, room=room)
    sources = pushing.rows(step, part.pictures, part.shown, room, spots[1])
    last = [boxes.paragraph(line, room, LABEL_SIZE + 1) for line in reasons.end(step)]
    return boxes.column([head, boxes.column([title, sources, *last], GAP)], 1.6 * GAP)


def _first(part: Part, room: float) -> Box:
    """The image large, the unit and its sum beside or below it."""
    image = _image(part.step, min(max(room * (0.34 if room >= NARROW else 0.6), FIRST[0]), FIRST[1]))
    if image is None:
        return _told(part, room, BESIDE[1], None)
    return boxes.beside(
        image, lambda rest: _told(part, rest, min(max(rest * 0.26, BESIDE[0]), BESIDE[1]), None), room, 280
    )


def _told(part: Part, room: float, side: float, spot: Spot | None) -> Box:
    """Pictures of the unit and of its activations, and the sum with how far to trust it; ``spot`` in further steps."""
    step = part.step
    shots = _shots(part, side, further=spot is not None)
    if spot is not None:
        shots = shots or [boxes.nothing(side * 0.2, side * 0.2)]
        shots[0] = watched(shots[0], spot)
    strip = boxes.row(shots, GAP, align="top")

    def words(wide: float) -> Box:
        head = [boxes.text(step.address, layout.TITLE_SIZE, "ink", mono=True, room=wide)] if spot is not None else []
        trust = boxes.column([boxes.paragraph(line, wide, LABEL_SIZE + 1) for line in reasons.trust(step)], 3)
        return boxes.column([*head, equation(step, wide, part.shown.palette), trust], GAP)

    if not shots:
        return words(room)
    if spot is None and room < NARROW:
        return boxes.column([strip, words(room)], 1.2 * GAP)
    return boxes.beside(strip, words, room, 300)


def _shots(part: Part, side: float, *, further: bool) -> list[Box]:
    """The unit's picture, its activations on the image, and in further steps what it sees."""
    step, found = part.step, part.step.attributions
    shots = []
    picture = part.pictures.of(found.target, found.unit)
    if picture.colours is not None:
        label = layout.fitting_labels([step.address], side)[0]
        shots.append(boxes.labelled(boxes.photo(picture, side), label))
    if (drawn := _activations(step, side)) is not None:
        shots.append(boxes.labelled(drawn, _reach(step), mono=False))
    if further and (image := _image(step, side)) is not None:
        shots.append(boxes.labelled(image, _sight(step), mono=False))
    return shots


def _lit(step: Step) -> np.ndarray:
    """The unit's activations, turned over if it is negative where it is explained."""
    found = step.attributions
    return found.target_map * (1 if found.target_map[found.at] >= 0 else -1)


def _reach(step: Step) -> str:
    """The strongest activation on the image, of the sign that the unit has where it is explained."""
    found, strongest = step.attributions, float(np.nanmax(_lit(step)))
    if found.target_map[found.at] < 0:
        return f"down to −{magnitude(strongest)}"
    return f"fires up to {magnitude(strongest)}" if strongest > 0 else "never above 0"


def _grid(step: Step) -> Grid:
    found = step.attributions
    return Grid(found.target_map.shape, found.image.shape[:2], step.centres)


def _image(step: Step, width: float) -> Box | None:
    """The image with the part that the unit sees framed, and its position; ``None`` where there is no image."""
    found = step.attributions
    if not found.image.size:
        return None
    cell = _grid(step).cell(found.at) if found.target_map.size > 1 else ()
    return marked(visible_image(found.image, _colours(step)), _framed(step), width, found.box, cell)


def _framed(step: Step) -> str:
    """What the frames on the image are, in words."""
    found = step.attributions
    place = f"position {found.at} of {step.address}" if found.target_map.size > 1 else ""
    if not found.box or whole(found.box, found.image.shape):
        seen = f", all of which {step.address} sees" if found.box else ""
        return f"the image{seen}" + (f"; framed: {place}" if place else "")
    return f"the image; framed: the part that {step.address} sees" + (f", and in it {place}" if place else "")


def _sight(step: Step) -> str:
    """How much of the image the unit sees, as a label below it."""
    found = step.attributions
    if not found.box:
        return "its position" if found.target_map.size > 1 else "the image"
    return "sees all of it" if whole(found.box, found.image.shape) else "sees"


def _activations(step: Step, width: float) -> Box | None:
    """Where on the image the unit fires; without an image its map; ``None`` for a single number."""
    found = step.attributions
    values = found.target_map
    if values.size == 1:
        return None
    words = f"activations of {step.address}: {_reach(step)}"
    if not found.image.size:
        colours = activation(values, float(np.nanmax(np.abs(values))))
        return boxes.squares(colours, words, width) if values.shape[0] > 1 else boxes.strip(colours, words, width, 24)
    lit = spotlight(visible_image(found.image, _colours(step)), _lit(step), _grid(step))
    return marked(lit, words, width, (), _grid(step).cell(found.at))


def _colours(step: Step) -> Sequence[str]:
    """What the image's channels are called."""
    found = step.attributions
    names = found.channel_names
    return names if len(names) == found.image.shape[2] else ("red", "green", "blue")[: found.image.shape[2]]


def _linked(box: Box, start: Spot, end: Spot) -> Box:
    """A step with an arrow from the source that it explains, down along the left margin."""

    def draw(scene: Scene, x: float, y: float) -> None:
        box.draw(scene, x, y)
        left, bend = x - MARGIN / 2, 6.0
        from_x, from_y = start.x + start.size[0] / 2, start.y + start.size[1] + 3
        turn, to_y = from_y + 9, end.y + min(end.size[1], 40) / 2
        steps = [
            ("M", from_x, from_y), ("V", turn - bend), ("Q", from_x, turn, from_x - bend, turn), ("H", left + bend),
            ("Q", left, turn, left, turn + bend), ("V", to_y - bend), ("Q", left, to_y, left + 4, to_y),
        ]  # fmt: skip
        scene.path(steps, "arrow", 2)
        scene.shape([(x - 5, to_y - 5), (x + 1, to_y), (x - 5, to_y + 5)], "arrow")

    return Box(box.width, box.height, draw, box.axis)
