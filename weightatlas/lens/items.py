"""Single images, however they are held in memory, as a network takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import ArgumentError, LoadError, WeightAtlasError
from ..network import Network
from ..weights import as_input
from .reading import image_mode, pixels_of


def item_as_input(net: Network, dataset: Any, number: int) -> Tensor:
    """Item ``number`` of a data set as the network takes it, float32 ``[1, *input shape]``.

    Raises:
        LoadError: if the data set fails to give it.
        ArgumentError: if it is no image, or does not fit the network.
    """
    try:
        item = dataset[number]
    except WeightAtlasError:
        raise
    except Exception as error:  # a data set may raise anything; the message tells for which item
        raise LoadError(f"image {number} cannot be read: {type(error).__name__}: {error}") from error
    image = item[0] if isinstance(item, tuple | list) and item else item
    return checked_item(net, image, f"image {number}")


def checked_item(net: Network, image: Any, name: str) -> Tensor:
    """One image, or a batch as the network takes it, as float32 ``[N, *input shape]``.

    Args:
        net: an open network.
        image: an array ``[H, W, C]``, a Pillow image, or a float tensor as :meth:`Network.preprocess` gives it.
        name: what errors call it.

    Raises:
        ArgumentError: for anything else, and for what does not fit the network.
        LoadError: for a Pillow image whose pixels cannot be read.
    """
    if isinstance(image, Image.Image):
        image = pixels_of(image, image_mode(net), name)
    try:
        if isinstance(image, Tensor):
            _, spec = net.require_module("running images")
            batch = image[None] if image.ndim == len(spec.shape) else image
            return as_input(net, batch).float().cpu()
        if not isinstance(image, np.ndarray) and not hasattr(image, "__array__") and not isinstance(image, list):
            raise ArgumentError(
                f"it is {type(image).__name__}, not an array [H, W, C], a Pillow image or a tensor as net.preprocess "
                "gives it"
            )
        return net.preprocess([image])
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from error
