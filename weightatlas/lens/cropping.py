"""What a position sees of an image: boxes of pixels, and crops cut along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..network import Network, from_input
from ..records import DatasetExamples, Layer
from .collection import photos_from

#: Crops are at least so many pixels wide, so that there is something to see around a small receptive field.
LEAST_CROP = 24
#: Of an image's side: in a crop as large as that, one cannot see which position is meant.
LARGE = 0.5


def box(
    layer: Layer, place: Sequence[int], grid: tuple[int, int], least: float = LEAST_CROP
) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what a position sees, within the image and not too small; else the whole image.

    Args:
        layer: whose positions they are.
        place: (y, x) on its grid.
        grid: (height, width) of the image in pixels.
        least: side of the smallest box, around a receptive field that is smaller; 0 for the receptive field itself.
    """
    field = layer.receptive_field
    if field is None:
        return 0, 0, grid[0], grid[1]
    ends = []
    for axis in (0, 1):
        wide, middle = max(field.size[axis], least), field.centre(place)[axis]
        first = min(max(round(middle - wide / 2), 0), grid[axis] - 1)
        last = min(max(round(middle + wide / 2), first + 1), grid[axis])
        ends.append((first, last))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def cell(layer: Layer, place: Sequence[int], grid: tuple[int, int], least: float = LEAST_CROP) -> tuple[float, ...]:
    """Top, left, height and width of a position in its :func:`box`, as shares of that.

    Empty where the box is small enough to tell by itself, or what a position sees is not known.
    """
    field, (top, left, bottom, right) = layer.receptive_field, box(layer, place, grid, least)
    if field is None or max((bottom - top) / grid[0], (right - left) / grid[1]) < LARGE:
        return ()
    found = []
    for axis, first, size in ((0, top, bottom - top), (1, left, right - left)):
        found.append(((field.centre(place)[axis] - field.stride[axis] / 2 - first) / size, field.stride[axis] / size))
    return found[0][0], found[1][0], found[0][1], found[1][1]


def crops(
    net: Network, images: Any, examples: DatasetExamples, layer: str, unit: int, *, least: float = LEAST_CROP
) -> list[np.ndarray]:
    """Crops of the images that excite a unit most, strongest first: uint8 ``[h, w, C]``, as the network saw them.

    Each is what the unit's strongest position sees, cut off at the image's edge; the whole image where a receptive
    field is the whole input or unknown. They may differ in size.

    Args:
        net: the network of the examples.
        images: the same images again; only those that are shown are read.
        examples: what :func:`weightatlas.dataset_examples` found.
        layer, unit: whose.
        least: side of the smallest crop in pixels.

    Raises:
        ArgumentError: for other images or other weights than the examples are of, or a network without images.
        UnknownNameError: for a layer or unit that is not among the examples.
        LoadError: for a file that cannot be read any more.
    """
    _, spec = net.require_module("cutting crops")
    if len(spec.shape) != 3:
        raise ArgumentError(f"{net.name} takes inputs of shape {spec.shape}: there are no images to cut crops from")
    best = examples.best(layer, unit)
    photos = photos_from(net, images)
    if photos is None or photos.digest != examples.digest:
        came = f"{len(photos)} with the hash {photos.digest[:12]}" if photos else "none"
        raise ArgumentError(
            f"the examples are of {len(examples.names)} images with the hash {examples.digest[:12]}, but "
            f"{came} came in; give the same again"
        )
    if examples.provenance.weights_hash != net.weights_hash:
        raise ArgumentError(f"the examples are of other weights than those of {net.name}; find them again")
    made = []
    for found in best:
        top, left, bottom, right = box(net.layers[layer], found.at, spec.grid, least)
        seen = from_input(photos.tensor(net, [found.number]), spec)[0]
        made.append(seen[top:bottom, left:right].copy())
    return made
