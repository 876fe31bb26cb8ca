"""One image: as the network takes it, as it is shown, and the part of it that a position sees."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import ArgumentError
from ..network import Network, from_input
from ..records import Layer
from ..weights import as_input
from .reading import image_mode, read_image


def one_input(net: Network, image: Any, role: str = "image") -> Tensor:
    """One image as the network takes it, ``[1, *input shape]``, on its device and in its type.

    Args:
        net: an open network with its architecture.
        image: a path; an array ``[H, W, C]`` (uint8, or floats within the network's range); or a float tensor that has
            been through :meth:`weightatlas.Network.preprocess`, with or without an axis of one image.
        role: what it was given as, for messages.

    Raises:
        ArgumentError: for anything else, several images, or values that are not finite.
        LoadError: for a file that cannot be read.
    """
    shape = tuple(net.require_module("running images")[1].shape)
    if isinstance(image, str | os.PathLike):
        return as_input(net, [read_image(Path(image), image_mode(net))])
    several = getattr(image, "ndim", 0) == len(shape) + 1
    if several and len(image) != 1:
        raise ArgumentError(f"{role}= is one image; {len(image)} came in, of shape {tuple(image.shape)}")
    if isinstance(image, Tensor):
        # what was made in inference mode could not be differentiated
        return as_input(net, image if several else image[None]).clone()
    if len(shape) != 3:
        raise ArgumentError(
            f"{net.name} takes inputs of shape {shape}, which are no images: give {role}= as a float tensor of that "
            f"shape; {type(image).__name__} came in"
        )
    return as_input(net, image if several else [image])


def shown(net: Network, inputs: Tensor) -> np.ndarray:
    """What the network saw as a picture, uint8 ``[h, w, C]``; ``[0, 0, 0]`` for inputs that are no images."""
    _, spec = net.require_module("running images")
    return from_input(inputs[:1], spec)[0] if len(spec.shape) == 3 else np.zeros((0, 0, 0), np.uint8)


def seen_box(net: Network, layer: Layer, at: Sequence[int]) -> tuple[int, ...]:
    """Top, left, bottom and right of the pixels that a position of a layer sees; empty where that is not known."""
    _, spec = net.require_module("running images")
    if len(spec.shape) != 3:
        return ()
    field = layer.receptive_field
    if field is None:
        return (0, 0, *spec.grid) if layer.receptive_note == "whole input" else ()
    ends = []
    for axis in (0, 1):
        start = at[axis] * field.stride[axis] + field.offset[axis]
        first = min(max(math.floor(start), 0), spec.grid[axis])
        ends.append((first, min(max(math.ceil(start + field.size[axis]), first), spec.grid[axis])))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]
