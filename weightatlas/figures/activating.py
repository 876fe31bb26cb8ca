"""What a layer saw in an image: each position's activations as a picture, and the groups that positions fall into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import ArgumentError, UnknownNameError
from ..records import Activations, Factors, FeatureImages
from . import boxes, cards
from .boxes import Box, Picture
from .composing import composed
from .figure import Figure
from .gallery import of_factors, one
from .imaging import Grid, spotlight, visible_image
from .layout import GAP
from .positions import LEAST_DRAWN, WHITE, faded
from .theme import check_choice
from .wording import about_pictures, percent, several

Fade = Literal["faded", "sized"]
SIDE = 10  # cells on a side, at most, if nobody says
IMAGE, LARGEST = (120, 260), 420  # pixels: of the image, of the grid
GROUP, ACROSS = (56, 132), 8  # pixels of a group, and how many go side by side
BETWEEN = 2


def pooled(maps: np.ndarray, cells: int | None = None) -> tuple[np.ndarray, int]:
    """Activations ``[O, H, W]`` as means of square blocks, ``[O, h, w]``, and the blocks' side.

    Args:
        maps: of one image.
        cells: blocks on the longer side, at most; default ten. A block at an edge may be smaller.

    Example:
        >>> values, side = pooled(np.ones((3, 14, 14)))
        >>> values.shape, side
        ((3, 7, 7), 2)
    """
    if cells is not None and (isinstance(cells, bool) or not isinstance(cells, int) or cells < 1):
        raise ArgumentError(f"cells={cells!r} is no number of cells of at least 1")
    _, h, w = maps.shape
    side = math.ceil(max(h, w) / (cells or SIDE))
    rows, columns = np.arange(0, h, side), np.arange(0, w, side)
    sums = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), rows, axis=1), columns, axis=2)
    counts = np.diff([*rows, h])[:, None] * np.diff([*columns, w])[None]
    return sums / counts, side


def drawn_cells(values: np.ndarray, least: float = LEAST_DRAWN) -> list[tuple[int, int]]:
    """The cells of ``[O, h, w]`` whose direction is worth a picture: at least that share of the longest.

    Raises:
        ArgumentError: if there is none.
    """
    length = np.sqrt(np.square(values).sum(axis=0))
    strong = (length >= least * length.max()) & (length > 0)
    if not strong.any():
        raise ArgumentError("no unit of the layer is active anywhere on this image")
    return [(int(y), int(x)) for y, x in np.argwhere(strong)]


def activation_grid(
    seen: Activations,
    layer: str,
    positions: FeatureImages,
    groups: Factors | None = None,
    group_images: FeatureImages | None = None,
    *,
    image: int = 0,
    cells: int | None = None,
    fade: Fade = "faded",
    centres: Sequence[float] = (),
) -> Figure:
    """What a layer saw at every place of an image, as pictures of its activations, and groups of places.

    Args:
        seen: activations, from :func:`weightatlas.activations`.
        layer: one of its layers, with positions.
        positions: pictures of the directions at :func:`drawn_cells` of :func:`pooled` maps.
        groups: factors of the maps as ``[1, O, H, W]``, non-negative over space.
        group_images: pictures of the groups' directions.
        image: which of the images.
        cells: as in :func:`pooled`.
        fade: pictures are ``"faded"`` to white by the length of the activation vector, or ``"sized"`` by it.
        centres: of the layer's positions in pixels, as in :class:`~weightatlas.records.Step`.

    Returns:
        A figure. ``data`` has ``lengths`` ``[h, w]`` of the cells' vectors, ``cells`` ``[n, 2]`` with a picture,
        ``block`` (positions on a side of a cell), and of the groups ``shares`` ``[K]`` and ``maps`` ``[K, H, W]``.

    Raises:
        ArgumentError, UnknownNameError: for a layer or image that is not there, or records that do not fit each other.

    Source: Olah et al., "The Building Blocks of Interpretability", Distill 2018 (activation grids, neuron groups).
    """
    check_choice("fade", fade, Fade)
    if not 0 <= image < len(seen):
        raise UnknownNameError(f"there is no image {image}; there are 0 … {len(seen) - 1}")
    maps = seen[layer][image]
    values, block = pooled(maps, cells)
    spots = drawn_cells(values)
    if len(spots) != len(positions):
        raise ArgumentError(f"{len(positions)} pictures came in for {len(spots)} cells; one each is needed")
    if groups is not None and groups.space.shape[:3] != (1, *maps.shape[1:]):
        raise ArgumentError(f"groups of shape {groups.space.shape} are not of these maps, [1, {maps.shape[1:]}, K]")
    length = np.sqrt(np.square(values).sum(axis=0))
    pixels = visible_image(seen.images[image], seen.channel_names)
    pictures = of_factors(group_images, groups.rank) if groups is not None else []
    grid = Grid(maps.shape[1:], pixels.shape[:2], tuple(centres))

    def body(room: float) -> Box:
        wide = min(max(room * 0.3, IMAGE[0]), IMAGE[1])
        photo = boxes.photo(Picture(pixels, "the image"), wide)
        cut = boxes.beside(photo, lambda rest: _grid(length, spots, positions, fade, rest), room, 240)
        if groups is None:
            return cut
        told = [(of, groups.space[0, :, :, n], float(groups.shares[n])) for n, of in enumerate(pictures)]
        return boxes.beside(cut, lambda rest: _groups(told, pixels, grid, rest), room, 2 * GROUP[1] + GAP)

    h, w = length.shape
    size = f"{h} × {w} cells of {block} × {block} positions" if block > 1 else f"{h} × {w} positions"
    said = [f"{len(spots)} of {h * w} cells are long enough for a picture"] if len(spots) < h * w else []
    return composed(
        (layer, f"on this image · {size}"),
        body,
        title=f"What {layer} saw",
        caption=_caption(layer, fade, block, groups),
        said=[*said, *about_pictures([r for r in (positions, group_images) if r is not None])],
        provenance=seen.provenance,
        alt=f"The image, a grid of {h} by {w} pictures of what {layer} saw in it"
        + (f", and {several(groups.rank, 'group')} of places." if groups is not None else "."),
        data={"lengths": length, "cells": np.array(spots), "block": block}
        | ({"shares": groups.shares, "maps": groups.space[0].transpose(2, 0, 1)} if groups is not None else {}),
    )


def _caption(layer: str, fade: Fade, block: int, groups: Factors | None) -> str:
    """What is shown, and how much of it the groups hold."""
    told = {"faded": "faded to white", "sized": "sized"}[fade]
    text = (
        f"What {layer} saw in this image: the picture of its activation vector at every place, {told} by the vector's "
        f"length{f'; each cell is the mean of {block} × {block} positions' if block > 1 else ''}."
    )
    if groups is None:
        return text
    return (
        f"{text} The {several(groups.rank, 'group')}, which all places share, hold {percent(groups.explained)} of the "
        f"activations' squares (at most {percent(groups.bound)})."
    )


def _grid(
    length: np.ndarray, spots: Sequence[tuple[int, int]], positions: FeatureImages, fade: str, room: float
) -> Box:
    """The pictures in their places."""
    h, w = length.shape
    strength = length / length.max()
    side = (min(room, LARGEST * w / max(h, w)) - BETWEEN * (w - 1)) / w
    known = {spot: one(positions, n) for n, spot in enumerate(spots)}
    lines = []
    for y in range(h):
        line = []
        for x in range(w):
            share = float(strength[y, x])
            picture = known.get((y, x))
            if picture is None:
                words = f"row {y}, column {x}: {share:.0%} of the longest, not pictured"
                line.append(boxes.picture_square(Picture(np.full((1, 1, 3), WHITE, np.uint8), words), side))
            elif fade == "sized":
                size = side * math.sqrt(share)  # areas are proportional
                line.append(boxes.middle(boxes.picture_square(faded(picture, 1.0, (y, x)), size), side, side))
            else:
                line.append(boxes.picture_square(faded(picture, share, (y, x)), side))
        lines.append(boxes.row(line, BETWEEN, align="top"))
    return boxes.column(lines, BETWEEN)


def _groups(groups: Sequence[tuple[Picture, np.ndarray, float]], pixels: np.ndarray, grid: Grid, room: float) -> Box:
    """Each group's picture over where it is on the image, and its share."""
    across = min(len(groups), max(int(room // GROUP[0]) - 1, 1), ACROSS)
    columns, side = cards.columns_for(across, room, GROUP[1])
    made = []
    for n, (picture, values, share) in enumerate(groups):
        where = boxes.photo(Picture(spotlight(pixels, values, grid), f"where group {n + 1} is"), side)
        parts = [boxes.photo(picture, side), where] if picture.colours is not None else [where]
        made.append(boxes.labelled(boxes.column(parts, 3), f"group {n + 1}", percent(share), mono=False))
    title = boxes.text("Groups that its places share", 14, "ink", bold=True, room=room)
    return boxes.column([title, boxes.lines(made, columns * (side + GAP))], GAP)
