"""Source units that pushed a target unit up or down, each a column: picture, weights, activations, their product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..records import Step
from . import boxes, cards, layout
from .boxes import Box
from .cards import Window
from .gallery import Gallery
from .layout import GAP, LABEL_SIZE, RADIUS, Tile, magnitude
from .maps import LEAST
from .scene import Scene
from .summing import signed_numbers
from .theme import Palette, activation, diverging

ONE = 0.4  # of a column's width: a square that is alone
EDGE = 0.09  # of a column's width, left free around maps
COLUMN = (56, 112)  # pixels
GUTTER = 96  # pixels for what the rows of tiles are
APART = 3 * GAP  # pixels between the groups
ROOMY = 600  # pixels from which there is a gutter
RAMP = 88
RULE = "#d9d9de"  # lines on cards, which are the same in light and dark
KEY = 48  # pixels of a row's name and scale
ROWS = ("weights", "activation", "contribution")


@dataclass(frozen=True)
class Scales:
    """What full colour means in a step, one number for each row of tiles.

    Args:
        weights, activation, contribution: magnitudes; weights 0 where there are none.
        signed: whether any activation that is shown is negative.
        palette: of weights and contributions.
        shown: the part of the window that is drawn: nearly all of the weights and contributions lie in it.
    """

    weights: float
    activation: float
    contribution: float
    signed: bool
    palette: Palette
    shown: Window

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of tiles that there are."""
        return ROWS if self.weights else ROWS[1:]

    def tile(self, row: str, values: np.ndarray, words: str) -> Tile:
        """A map of a row in its colours."""
        scale, values = getattr(self, row), self.shown.of(values)
        reach = f"{magnitude(float(values.min()))} to {magnitude(float(values.max()))}" if values.size else "nothing"
        colours = activation(values, scale) if row == "activation" else diverging(values, scale, self.palette)
        return Tile(colours, "", f"{row} of {words}, {reach}")

    def key(self, row: str, room: float) -> Box:
        """A row's name over its colour scale with the numbers at its ends."""
        scale, low = getattr(self, row), -1.0 if row != "activation" or self.signed else 0.0
        ends = ["0" if low == 0 else f"−{magnitude(scale)}", magnitude(scale)]
        steps = np.linspace(low, 1, 33)
        ramp = activation(steps, 1.0) if row == "activation" else diverging(steps, 1.0, self.palette)
        wide = min(RAMP, room)
        numbers = boxes.row(
            [boxes.text(ends[0], 10, within=wide / 2), boxes.text(ends[1], 10, within=wide / 2, anchor="end")], 0
        )
        return boxes.column([boxes.text(row, LABEL_SIZE, "ink"), boxes.ramp(ramp, wide), numbers], 2)


def scales(step: Step, palette: Palette) -> Scales:
    """The scales of everything that is shown of a step; what a residual stream carries on may go beyond them."""
    units = [*step.up, *step.down]
    units = [u for u in units if not step.carried(u)] or units
    maps = [step.weight_map(u) for u in units] if step.weights is not None else []
    patches = [step.patch(u) for u in (*step.up, *step.down)]
    return Scales(
        _largest(m for m in maps if m is not None),
        _largest(patches),
        _largest(step.product(u) for u in units),
        any(bool((p < 0).any()) for p in patches),
        palette,
        cards.window(_relative(step, [*maps, *map(step.product, units)]), LEAST),
    )


def _relative(step: Step, maps: Sequence[np.ndarray | None]) -> np.ndarray:
    """Maps ``[n, h, w]``, each over its own norm; a single map of the window's size if there are none."""
    lengths = [(m, float(np.linalg.norm(m))) for m in maps if m is not None]
    whole = step.cut(step.attributions.values[:1])
    return np.stack([m / size for m, size in lengths if size > 0]) if any(s > 0 for _, s in lengths) else whole


def _largest(maps: Iterable[np.ndarray]) -> float:
    return max((float(np.abs(m).max(initial=0)) for m in maps), default=0.0)


@dataclass
class Spot:
    """Where a box came to lie, once it is drawn."""

    x: float = 0
    y: float = 0
    size: tuple[float, float] = field(default=(0, 0))


def watched(box: Box, spot: Spot) -> Box:
    """A box that tells where it is drawn."""

    def draw(scene: Scene, x: float, y: float) -> None:
        spot.x, spot.y, spot.size = x, y, (box.width, box.height)
        box.draw(scene, x, y)

    return Box(box.width, box.height, draw, box.axis)


def tile_height(shape: Sequence[int], side: float, least: float = 0) -> float:
    """Pixels that a map takes in a column of a width, with the space around it; what its row is may need more."""
    return max(max(shape[0] * _cell(shape, side), cards.THIN) + 2 * EDGE * side, least)


def _cell(shape: Sequence[int], side: float) -> float:
    """Pixels of a square of a map: the map fits the column, and squares that are few are no larger than one alone."""
    inner = side * (1 - 2 * EDGE)
    cell = min(inner / max(shape[1], 1), inner / max(shape[0], 1), side * ONE)
    return int(2 * cell) / 2 if cell >= cards.SQUARE else cell


@dataclass(frozen=True)
class Arrangement:
    """How the two groups of a step fit a width.

    Args:
        gutter: pixels for what the rows are, 0 where this stands below.
        beside: whether the groups stand side by side.
        columns, side: how many columns go side by side in a group, and how wide each is.
        width: of a group.
        least: pixels that a row of maps is high at least.
    """

    gutter: float
    beside: bool
    columns: int
    side: float
    width: float
    least: float


def arranged(step: Step, room: float) -> Arrangement:
    """The groups side by side if their columns are wide enough then, else one below the other."""
    gutter = GUTTER if room >= ROOMY else 0
    most = max(len(step.up), len(step.down), 1)
    free = room - (gutter + GAP if gutter else 0)
    half = (free - APART) / 2
    beside = bool(step.up and step.down) and (half + GAP) / most - GAP >= COLUMN[0]
    columns, side = cards.columns_for(most, half if beside else free, COLUMN[1])
    return Arrangement(gutter, beside, columns, side, columns * (side + GAP) - GAP, KEY if gutter else 0)


def column(step: Step, unit: int, pictures: Gallery, shown: Scales, how: Arrangement, above: float) -> Box:
    """One source unit: its picture (in a height of ``above``, 0 for none), and under it the maps, as one card."""
    side = how.side
    name = step.name(unit)
    maps = {"weights": step.weight_map(unit), "activation": step.patch(unit), "contribution": step.product(unit)}
    tiles = [shown.tile(row, values, name) for row in shown.rows if (values := maps[row]) is not None]
    picture = boxes.photo(pictures.of(step.attributions.source, unit), side, below=False)
    shape = tiles[0].colours.shape[:2]
    each, cell = tile_height(shape, side, how.least), _cell(shape, side)
    height = above + each * len(tiles)
    radius = RADIUS * 0.75

    def draw(scene: Scene, x: float, y: float) -> None:
        scene.rect(x, y, side, height, fill=cards.ground(), radius=radius)
        if above:
            picture.draw(scene, x, y + above - picture.height)
        top = y + above
        for i, tile in enumerate(tiles):
            wide, high = max(shape[1] * cell, cards.THIN), max(shape[0] * cell, cards.THIN)
            left, upper = (round(2 * v) / 2 for v in (x + (side - wide) / 2, top + (each - high) / 2))
            scene.rect(left - 0.75, upper - 0.75, wide + 1.5, high + 1.5, fill=RULE)
            scene.pixels(left, upper, wide, high, tile.colours, tile.words)
            if i:
                scene.rect(x + side * EDGE, top - 0.5, side * (1 - 2 * EDGE), 0.8, fill=RULE)
            top += each
        scene.rect(x, y, side, height, stroke="line", radius=radius)
        if unit == step.follow:
            scene.frame(x, y, side, height, radius)

    return Box(side, height, draw, height / 2)


def rows(step: Step, pictures: Gallery, shown: Scales, room: float, spot: Spot) -> Box:
    """The units that pushed up and those that pushed down, with what their rows of maps are.

    Args:
        step: the numbers.
        pictures: of units.
        shown: the scales of the maps.
        room: in pixels.
        spot: is told where the column of the source lies with which the walk goes on.
    """
    how = arranged(step, room)
    units = [*step.up, *step.down]
    above = how.side * _aspect(pictures, step)
    numbers = dict(zip(units, signed_numbers([float(step.attributions.by_unit[u]) for u in units]), strict=True))
    names = dict(zip(units, layout.fitting_labels([step.name(u) for u in units], how.side), strict=True))
    made, none = [], []
    for up in (True, False):
        group = []
        for unit in step.up if up else step.down:
            lines = [numbers[unit], *(["skip path"] if step.carried(unit) else [])]
            box = boxes.labelled(column(step, unit, pictures, shown, how, above), names[unit], *lines)
            group.append(watched(box, spot) if unit == step.follow else box)
        if group:
            head = _heading(step, up, how.width if how.beside else room)
            made.append((head, boxes.lines(group, how.width)))
        else:
            none.append(boxes.text(f"nothing pushed it {'up' if up else 'down'}", LABEL_SIZE + 1))
    if not made:
        return boxes.column(none, GAP)
    keys = _gutter(shown, how, above) if how.gutter else None
    if how.beside:
        return _with_keys(_beside(made, keys), shown, room, keys)
    stacked = [_keyed(head, body, keys) for head, body in made]
    return _with_keys(boxes.column([*stacked, *none], 2 * GAP), shown, room, keys)


def _beside(groups: Sequence[tuple[Box, Box]], keys: Box | None) -> Box:
    """Groups side by side, their columns on one height."""
    heads = max(head.height for head, _ in groups)
    level = [(boxes.column([boxes.nothing(0, heads - head.height), head], 0), body) for head, body in groups]
    return boxes.row([_keyed(*level[0], keys), _keyed(*level[1], None)], APART, align="top")


def _keyed(head: Box, body: Box, keys: Box | None) -> Box:
    """A group under its heading; at its left what the rows are."""
    whole = boxes.column([head, body], GAP * 0.5)
    if keys is None:
        return whole
    return boxes.row([boxes.column([boxes.nothing(GUTTER, head.height), keys], GAP * 0.5), whole], GAP, align="top")


def _with_keys(whole: Box, shown: Scales, room: float, keys: Box | None) -> Box:
    """Below the groups what their rows are, unless it stands beside them."""
    if keys is not None:
        return whole
    return boxes.column([whole, boxes.lines([shown.key(row, RAMP) for row in shown.rows], room, 2 * GAP)], GAP)


def _aspect(pictures: Gallery, step: Step) -> float:
    """Height of the highest picture of a step over its width; 0 if there are none."""
    found = [pictures.of(step.attributions.source, u).colours for u in (*step.up, *step.down)]
    return max((c.shape[0] / c.shape[1] for c in found if c is not None), default=0.0)


def _gutter(shown: Scales, how: Arrangement, above: float) -> Box:
    """Beside a row of columns: each row's name and scale at its height."""
    each = tile_height(shown.shown.shape, how.side, how.least)
    keys = [shown.key(row, GUTTER) for row in shown.rows]

    def draw(scene: Scene, x: float, y: float) -> None:
        for i, key in enumerate(keys):
            key.draw(scene, x, y + above + each * i + max((each - key.height) / 2, 0))

    return Box(GUTTER, above + each * len(keys), draw, 0)


def _heading(step: Step, up: bool, room: float) -> Box:
    """What a group of units did together."""
    sums = step.attributions.by_unit
    units = step.up if up else step.down
    whole = float(np.clip(sums if up else -sums, 0, None).sum())
    part = float(np.abs(sums[list(units)]).sum()) if units else 0.0
    many = int((sums > 0).sum() if up else (sums < 0).sum())
    sign = "+" if up else "−"
    share = f"{part / whole:.0%}" if whole else "0%"
    return boxes.column(
        [
            boxes.text(f"pushed {'up' if up else 'down'}", LABEL_SIZE + 1, "ink", bold=True),
            boxes.paragraph(f"{len(units)} of {many}, {share} of {sign}{magnitude(whole)}", room, LABEL_SIZE + 1),
        ],
        1,
    )
