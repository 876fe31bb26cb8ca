"""Which axis of every node holds channels, followed forward from the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx

#: Operators whose output has its channels first, and last.
_FIRST = {"conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d"}
_LAST = {"linear", "addmm", "mm", "matmul"}
_RESHAPING = {"view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten"}


def groups_of(now: Sequence[int], before: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pairs of runs of axes that hold the same number of elements, the finest such split.

    Example:
        >>> groups_of((6, 4, 5), (2, 3, 20))
        [([0], [0, 1]), ([1, 2], [2])]
        >>> groups_of((8, 1, 1), (8,))
        [([0], [0]), ([1], []), ([2], [])]
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(now) or j < len(before):
        left, right = [], []
        a = b = 1
        while not (left or right) or a != b:
            if j >= len(before) or (i < len(now) and a <= b):
                a *= now[i]
                left.append(i)
                i += 1
                if not right and a == b and (j >= len(before) or before[j] != now[i - 1]):
                    break  # an axis of size 1 on its own
            else:
                b *= before[j]
                right.append(j)
                j += 1
        found.append((left, right))
    return found


def channel_axes(nodes: Sequence[fx.Node], start: fx.Node, dependent: frozenset[fx.Node]) -> dict[fx.Node, int]:
    """Node → its axis of channels, counted without the batch; of nodes that do not say, the likeliest."""
    from .nodes import shape_of

    found = {start: 0}
    for node in nodes:
        value = node.meta.get("val")
        if node in found or node not in dependent:
            continue
        first = next((n for n in node.all_input_nodes if n in found), None)
        if first is None or not hasattr(value, "shape"):
            found[node] = found.get(first, 0) if first is not None else 0
            continue
        shape = shape_of(node)
        before = first.meta.get("val")
        same = hasattr(before, "shape")
        axis = _next(node, found[first], shape, shape_of(first) if same else shape)
        found[node] = min(max(axis, 0), max(len(shape) - 1, 0))
    return found


def _arguments(node: fx.Node) -> list[Any]:
    return list(node.args)


def _next(node: fx.Node, axis: int, shape: tuple[int, ...], before: tuple[int, ...]) -> int:
    """The axis of channels behind an operator, from the one before it."""
    from .nodes import operator_of

    name, args, count = operator_of(node), _arguments(node), len(shape) + 1
    if name in _FIRST:
        return 0
    if name in _LAST:
        return len(shape) - 1
    if name == "permute":
        return [d % count for d in args[1]].index(axis + 1) - 1
    if name in ("transpose", "swapaxes"):
        i, j = (d % count - 1 for d in args[1:3])
        return j if axis == i else i if axis == j else axis
    if name in ("select", "mean", "sum", "amax", "unbind") and len(shape) < len(before):
        dims = args[1] if len(args) > 1 and args[1] is not None else ()
        gone = [d % (len(before) + 1) - 1 for d in (dims if isinstance(dims, Sequence) else [dims])]
        return axis - sum(g < axis for g in gone)
    if name == "stack":
        dim: Any = node.kwargs.get("dim", args[1] if len(args) > 1 else 0)
        return axis + (dim % count - 1 <= axis)
    apart = math.prod(shape) == math.prod(before)  # the batch is not joined with others
    if apart and shape != before and name in _RESHAPING:
        for now, old in groups_of(shape, before):
            if axis in old:
                return now[0] if now else 0
    return axis
