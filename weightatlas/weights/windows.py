"""Which part of a source layer a position of a target layer sees, without the weights themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import ArgumentError, GraphError
from ..network import INPUT, Network
from ..records import ReceptiveField
from .ends import captured_ends
from .expanded import prepared, strides
from .gates import Gates

_PIXEL = ReceptiveField((1, 1), (1, 1), (0, 0))


@dataclass(frozen=True)
class Window:
    """Position t of the target sees the source's positions from ``⌊t · stride + origin⌋`` on, ``size`` of them.

    Args:
        origin, stride: (y, x) in steps of the source grid, as in :class:`weightatlas.Weights`; a stride of 0 where
            every position sees the whole grid.
        size: height and width.
        note: how it was found, if not as that of the expanded weights.
    """

    origin: tuple[float, float]
    stride: tuple[float, float]
    size: tuple[int, int]
    note: str = ""

    def start(self, at: tuple[int, int]) -> tuple[int, int]:
        """Where on the source grid it begins for a target position; outside the grid at borders."""
        y, x = (math.floor(at[i] * self.stride[i] + self.origin[i] + 1e-6) for i in (0, 1))
        return y, x


def window(net: Network, source: str, target: str, grid: tuple[int, int]) -> Window:
    """The window of the expanded weights from one layer to another; by receptive fields where there can be none.

    Args:
        net: an open network with its architecture.
        source, target: layers, or the network's input as source.
        grid: of the source, for targets that see all of it.

    Raises:
        UnknownNameError, ArgumentError: for layers that do not exist, or do not lead to each other.
    """
    try:
        graph, ends = captured_ends(net, source, target)
        gates = Gates(graph, "identity", "average", None, ends.between)
        units = net.layers[target].unit_indices(None)
        where = (torch.device("cpu"), torch.float32)
        walk, plan = prepared(graph, ends, gates, None, net.layers[target].grid, units, *where)
    except GraphError as error:
        return _by_fields(net, source, target, grid, str(error))
    stride = strides(ends, plan)
    starts = [float(s.start - (walk.at[i] * stride[i] if walk.at else 0)) for i, s in enumerate(plan.spans)]
    return Window((starts[0], starts[1]), (float(stride[0]), float(stride[1])), (plan.size[0], plan.size[1]))


def _by_fields(net: Network, source: str, target: str, grid: tuple[int, int], why: str) -> Window:
    """What lies inside the target's receptive field with its own; the whole grid where the target sees everything."""
    layer, before = net.layers[target], net.layers.get(source)
    near = _PIXEL if source == INPUT and before is None else before.receptive_field if before else None
    far = layer.receptive_field
    reason = why.split(":")[0]
    if far is None or near is None:
        if layer.receptive_note == "whole input" or layer.grid in (None, (1, 1)):
            return Window((0, 0), (0, 0), grid, f"the whole grid of {source}: {reason}")
        raise ArgumentError(f"what {target!r} sees of {source!r} cannot be told: {why}")
    origin, stride, size = [], [], []
    for i in (0, 1):
        stride.append(far.stride[i] / near.stride[i])
        origin.append((far.offset[i] - near.offset[i]) / near.stride[i])
        size.append(max(math.ceil((far.size[i] - near.size[i]) / near.stride[i]) + 1, 1))
    return Window(
        (origin[0], origin[1]), (stride[0], stride[1]), (size[0], size[1]), f"window by receptive fields: {reason}"
    )
