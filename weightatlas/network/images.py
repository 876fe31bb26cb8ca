"""Pictures to tensors, by the rules of an input specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ArgumentError
from ..models import InputSpec

UINT8_MAX = 255
#: Pictures that would be scaled to more than so many times the input's side are cut before they are scaled.
LONG = 16


def to_input(images: Any, spec: InputSpec) -> Tensor:
    """Images ``[N, H, W, C]`` (or a list of ``[H, W, C]``) as a normalised float32 batch ``[N, C, H, W]``.

    Raises:
        ArgumentError: for anything that does not fit the specification.
    """
    if len(spec.shape) != 3:
        raise ArgumentError(f"preprocess makes images, but this network takes inputs of shape {spec.shape}")
    batch = list(images) if isinstance(images, list | tuple) else _rows(images)
    if not batch:
        raise ArgumentError("there are no images to preprocess")
    mean = torch.tensor(spec.mean).view(-1, 1, 1)
    std = torch.tensor(spec.std).view(-1, 1, 1)
    return torch.stack([(_fitted(_checked(image, spec), spec) - mean) / std for image in batch])


def from_input(values: Tensor, spec: InputSpec) -> np.ndarray:
    """Inputs ``[N, C, H, W]`` as pictures again, uint8 ``[N, H, W, C]``: :func:`to_input` undone, but for sizes."""
    low, high = spec.value_range
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (spec.mean, spec.std))
    shares = ((values.detach().float().cpu() * std + mean - low) / (high - low)).clamp(0, 1)
    return (shares * UINT8_MAX).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _rows(images: Any) -> list[Any]:
    shape = tuple(np.shape(images))
    if len(shape) != 4:
        raise ArgumentError(
            f"images of shape {shape} are not [N, H, W, C]; for one image give images[None], for images of different "
            "sizes a list of [H, W, C]"
        )
    return list(images)


def _array(image: Any) -> np.ndarray:
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on a device or with a gradient
        raise ArgumentError(f"an image that is no array [H, W, C]: {error}") from error


def _checked(image: Any, spec: InputSpec) -> np.ndarray:
    """An image as an array ``[H, W, C]`` of bytes, or of floats within the range."""
    array = _array(image)
    low, high = spec.value_range
    if array.ndim != 3 or array.shape[2] != spec.channels or 0 in array.shape:
        names = ", ".join(spec.channel_names)
        raise ArgumentError(f"an image of shape {array.shape} is not [H, W, C] with {spec.channels} channels ({names})")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ArgumentError(f"images must be uint8 or float, not {array.dtype}; convert them, saying what white is")
    if not np.isfinite(array).all():
        raise ArgumentError("the image holds NaN or infinite values")
    slack = 1e-3 * (high - low)
    if array.min() < low - slack or array.max() > high + slack:
        raise ArgumentError(
            f"image values {array.min():g} … {array.max():g} leave the network's range {low:g} … {high:g}; "
            "scale them, or give uint8 0 … 255"
        )
    return array


def _fitted(array: np.ndarray, spec: InputSpec) -> Tensor:
    """Scales and cuts ``[h, w, C]`` to the input's ``[C, H, W]``, its values in the network's range."""
    (h, w), (height, width) = array.shape[:2], spec.grid
    if spec.resize == "exact" and (h, w) != (height, width):
        raise ArgumentError(f"an image of {h}×{w} pixels came in, but this network takes exactly {height}×{width}")
    # one channel after another: a large picture is held in floats only by a third
    return torch.cat([_fit(_plane(array[..., c], spec)[None], spec) for c in range(array.shape[2])])


def _plane(pixels: np.ndarray, spec: InputSpec) -> Tensor:
    """One channel ``[h, w]`` in the network's range."""
    low, high = spec.value_range
    values = np.array(pixels, np.float32)  # a copy, worked on in place
    if pixels.dtype == np.uint8:
        values /= UINT8_MAX
        values *= high - low
        values += low
    return torch.from_numpy(values)


def _fit(image: Tensor, spec: InputSpec) -> Tensor:
    """Scales and cuts ``[C, h, w]`` to the input's ``[C, H, W]``."""
    (h, w), (height, width) = image.shape[1:], spec.grid
    if (h, w) == (height, width):
        return image
    size = (height, width)
    if spec.resize == "crop":  # the side that needs the larger scale fits exactly, the other is cut
        scale = max(height / h, width / w)
        size = (max(height, round(h * scale)), max(width, round(w * scale)))
        for axis, wanted in enumerate((height, width)):
            if size[axis] > LONG * wanted:
                image = _middle(image, axis + 1, size[axis], wanted)
                size = (height, width)  # of this axis there is only what is wanted
    scaled = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, top : top + height, left : left + width]


def _middle(image: Tensor, axis: int, size: int, wanted: int) -> Tensor:
    """The middle of an axis as it is when all of it is scaled to ``size``: bilinear, antialiased.

    For pictures so long that most of what would be scaled is cut off again: of 1 × 5000 pixels the rest would take
    gigabytes.
    """
    count = image.shape[axis]
    scale = count / size
    reach = max(scale, 1.0)  # of the triangle that a position sums over, on either side
    centres = (torch.arange(wanted, dtype=torch.float64) + (size - wanted) // 2 + 0.5) * scale
    first = max(int(float(centres[0]) - reach), 0)
    last = min(int(float(centres[-1]) + reach) + 1, count)
    places = torch.arange(first, last, dtype=torch.float64) + 0.5
    shares = (1 - (places - centres[:, None]).abs() / reach).clamp(min=0)
    shares = (shares / shares.sum(1, keepdim=True)).to(image.dtype)  # [wanted, places]
    part = image.narrow(axis, first, last - first)
    return (part.movedim(axis, -1) @ shares.T).movedim(-1, axis)
