"""The part of a padded network's grid that a tensor holds, and what moves windows over it: convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import WeightAtlasError

Axes = tuple[int, int]
CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class NoInteriorError(WeightAtlasError):
    """A function that mixes positions in a way that has no interior; the padded network is used instead."""


@dataclass(frozen=True)
class Held:
    """The part of the padded network's grid that a tensor holds.

    Args:
        crop: position of element 0 as ``(y, x)``.
        size: of the whole padded grid.
    """

    crop: Axes
    size: Axes


def hold(tensor: Tensor, held: Held) -> Tensor:
    """The tensor, which from now on remembers its part."""
    tensor._weightatlas_held = held  # pyright: ignore[reportAttributeAccessIssue]
    return tensor


def held_by(value: Any) -> Held | None:
    """The part that a tensor holds, if it remembers one."""
    return getattr(value, "_weightatlas_held", None)


def extent(tensor: Tensor) -> Axes:
    """The grid that is really held."""
    return tensor.shape[-2], tensor.shape[-1]


def convolve(args: Any, kwargs: Any, held: Held) -> Tensor:
    """A convolution without its padding, from the first position on that sees only what is held."""
    given = {**dict(zip(CONVOLUTION, args, strict=False)), **kwargs}
    stride, dilation = pair(given.get("stride", 1)), pair(given.get("dilation", 1))
    reach = _reach(dilation, tuple(given["weight"].shape[-2:]))
    padding = given.get("padding", 0)
    if padding == "same":  # the odd pixel goes below and to the right
        pads = tuple((r // 2, r - r // 2) for r in reach)
    else:
        pads = tuple((p, p) for p in ((0, 0) if padding == "valid" else pair(padding)))
    x, out = _begin(given["input"], held, stride, pads, reach)
    bias, groups = given.get("bias"), given.get("groups", 1)
    return hold(torch.conv2d(x, given["weight"], bias, stride, 0, dilation, groups), out)


def _reach(dilation: Axes, kernel: Axes) -> Axes:
    """Positions beyond its first that a kernel covers."""
    return dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)


def _begin(x: Tensor, held: Held, stride: Axes, pads: Any, reach: Axes, ceil: bool = False) -> tuple[Tensor, Held]:
    """The input from the first position on that sees only what is held, and what the output will hold."""
    first, size, start = [], [], []
    for axis in range(2):
        s, (before, after), c = stride[axis], pads[axis], held.crop[axis]
        j = -(-(c + before) // s)
        first.append(j)
        start.append(j * s - before - c)
        room = held.size[axis] + before + after - reach[axis] - 1
        size.append((-(-room // s) if ceil else room // s) + 1)
    x = x[..., start[0] :, start[1] :]
    if any(n <= r for n, r in zip(extent(x), reach, strict=True)):
        raise NoInteriorError("nothing is left inside the padding")
    return x, Held((first[0], first[1]), (size[0], size[1]))


def pool(name: str, args: Any, kwargs: Any, held: Held) -> Tensor:
    """A maximum or mean over windows, without padding."""
    names = {
        "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    }[name]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("return_indices") or given.get("divisor_override"):
        raise NoInteriorError(f"{name} with more than a result")
    kernel = pair(given["kernel_size"])
    stride = pair(given["stride"]) if given.get("stride") else kernel
    dilation = pair(given.get("dilation", 1))
    padding = pair(given.get("padding", 0))
    reach = _reach(dilation, kernel)
    pads = tuple((p, p) for p in padding)
    x, out = _begin(given["input"], held, stride, pads, reach, bool(given.get("ceil_mode")))
    if name == "max_pool2d":
        return hold(functional.max_pool2d(x, kernel, stride, 0, dilation), out)
    return hold(functional.avg_pool2d(x, kernel, stride), out)


def skip_padding(x: Tensor, args: Any, kwargs: Any, held: Held) -> Tensor:
    """The tensor as it is, which now holds a part of the padded grid; negative padding cuts."""
    pads = list(kwargs.get("pad", args[1] if len(args) > 1 else ()))
    if len(pads) > 4 and any(pads[4:]):
        raise NoInteriorError("channels are padded")
    pads = [*pads, 0, 0, 0, 0][:4]
    (left, right), (above, below) = pads[:2], pads[2:4]
    crop = [held.crop[0] + above, held.crop[1] + left]
    cut = [max(-c, 0) for c in crop]  # negative padding may cut into what is held
    size = (held.size[0] + above + below, held.size[1] + left + right)
    ends = [n + min(after, 0) for n, after in zip(extent(x), (below, right), strict=True)]
    part = Held((crop[0] + cut[0], crop[1] + cut[1]), size)
    return hold(x[..., cut[0] : ends[0], cut[1] : ends[1]], part)


def pair(value: Any) -> Axes:
    """A number or two as two."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return (numbers[0], numbers[-1])
