"""Tensors of layers as maps of units, whatever the order of their axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import INPUT, LABELS, Network


def axes_of(net: Network, layer: str) -> tuple[str, ...]:
    """The axes of a layer's output, or of the network's input; one of them holds units.

    Raises:
        ArgumentError: if it cannot be told which.
        UnknownNameError: for a layer that does not exist.
    """
    if is_input(net, layer):
        return LABELS[len(net.require_module("running images")[1].shape)]
    axes = net.layers[layer].axes
    if axes.count("C") != 1 or axes[:1] != ("N",):
        near = [n for n, known in net.layers.items() if known.axes.count("C") == 1 and known.axes[:1] == ("N",)]
        known = list(net.layers)
        near.sort(key=lambda n: abs(known.index(n) - known.index(layer)))
        hint = f"; layers near it where it can: {', '.join(map(repr, near[:3]))}" if near else ""
        raise ArgumentError(f"which axis of {layer!r} holds its units cannot be told from {axes}{hint}")
    return axes


def is_input(net: Network, layer: str | None) -> bool:
    """Whether a name means the network's own input."""
    return layer == INPUT and INPUT not in net.layers


def as_maps(tensor: Tensor, axes: Sequence[str]) -> Tensor:
    """A layer's tensor as ``[N, C, H, W]``, which autograd can follow.

    H is 1 without an axis y. All other axes (x, or tokens) run along W in the order in which they are.
    """
    axes = list(axes)
    rest = [i for i, a in enumerate(axes) if i and a not in ("C", "y")]
    rows = [axes.index("y")] if "y" in axes else []
    height = tensor.shape[rows[0]] if rows else 1
    moved = tensor.permute(0, axes.index("C"), *rows, *rest)
    return moved.reshape(tensor.shape[0], tensor.shape[axes.index("C")], height, -1)


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as a float32 array of its own."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()


def strongest(values: np.ndarray) -> tuple[int, int] | None:
    """The position (y, x) of the largest finite value of a map; ``None`` without any."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    place = int(np.where(finite, values, -np.inf).argmax())
    return place // values.shape[1], place % values.shape[1]


def bounds(*arrays: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, left, bottom and right of the positions at which any of ``[I, H, W]`` is not 0; ``None`` if none is."""
    hit = np.any([(a != 0).any(0) for a in arrays], axis=0)
    if not hit.any():
        return None
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
