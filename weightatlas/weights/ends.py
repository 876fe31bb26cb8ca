"""From names to the two ends of a walk, with everything that can be wrong about them."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ArgumentError
from ..graph import Graph, capture, operator_of, shape_of
from ..network import INPUT, LABELS, Network
from ..records import Layer
from .step import no_rule
from .walk import Ends


def captured_ends(net: Network, source: str, target: str) -> tuple[Graph, Ends]:
    """The network's graph and the part of it between two layers.

    Raises:
        UnknownNameError: for layers that do not exist.
        ArgumentError: for layers in the wrong order, without a path between them, or without a channel axis.
        GraphError: if the network cannot be captured, or attention lies on the way.
    """
    known = checked_layer(net, target, "target")
    begin = None if source == INPUT else checked_layer(net, source, "source")
    if source == target:
        raise ArgumentError(f"source and target are both {source!r}; expanded weights lead from an earlier layer on")
    graph = capture(net)
    start, end = graph.node(source), graph.node(target)
    if start is end:
        raise ArgumentError(f"{source!r} and {target!r} are one and the same output; choose a layer before it")
    between = graph.between(start, end)
    if not between:
        if graph.between(end, start):
            raise ArgumentError(
                f"{source!r} comes after {target!r}: weights lead from source to target. "
                f"Did you mean source={target!r}, target={source!r}?"
            )
        raise ArgumentError(
            f"there is no path from {source!r} to {target!r}: neither feeds the other. wa.layer_graph(net) shows which "
            f"layers feed {target!r}"
        )
    try:
        reached = _axes(known.axes, target, shape_of(end))
        begun = _axes(begin.axes if begin else LABELS[len(shape_of(start))], source, shape_of(start))
    except ArgumentError:  # what attention does to positions comes second
        attention = [n for n in between if operator_of(n) in ("scaled_dot_product_attention", "softmax", "_softmax")]
        if not attention:
            raise
        raise no_rule(graph, attention[-1]) from None
    return graph, Ends(start, end, begun, reached, between)


def _axes(axes: tuple[str, ...], name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Axes of channels, y and x of a layer's output ``[N, *shape]``, counted without the batch; −1 for none."""
    what = ""
    if axes[:1] != ("N",) or axes.count("C") != 1:
        what = "which of them holds its units cannot be told. Choose a layer with one axis of channels"
    elif any(n > 1 and (a not in "Cyx" or axes.count(a) > 1) for a, n in zip(axes[1:], shape, strict=True)):
        what = "where its positions lie on a grid cannot be told. Choose a layer before they were rearranged"
    if what:
        raise ArgumentError(f"{name!r} has axes {axes} of sizes (N, {', '.join(map(str, shape))}): {what}")
    places = (axes.index(a) - 1 if a in axes else -1 for a in ("y", "x"))
    return (axes.index("C") - 1, *places)  # pyright: ignore[reportReturnType]


def checked_layer(net: Network, name: str, what: str) -> Layer:
    """A layer by name.

    Raises:
        UnknownNameError: with the nearest names.
        ArgumentError: for what is no name, the input as target, or a module that never ran.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"the {what} must be one layer's name, not {name!r}")
    if name == INPUT and name not in net.layers:
        raise ArgumentError(f"the {what} is the network's input, which nothing leads to; it can only be the source")
    if name in net.layers:
        return net.layers[name]
    modules = dict(net.module.named_modules()) if net.module is not None else {}
    if name in modules and name:
        raise ArgumentError(
            f"the {what} {name!r} is a module that never ran in the network's forward pass, so it is no layer; "
            "net.layers lists those that did"
        )
    return net.layers[name]


def checked_at(at: Any, grid: tuple[int, int] | None, target: str) -> tuple[int, int] | None:
    """A target position, if one was given.

    Raises:
        ArgumentError: for one outside the grid.
    """
    if at is None:
        return None
    try:
        y, x = (v.__index__() for v in at)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"at={at!r} is no position (y, x) of {target!r}") from error
    height, width = grid or (1, 1)
    if not (0 <= y < height and 0 <= x < width):
        raise ArgumentError(f"at={at!r} lies outside the grid of {target!r}, {height} × {width} positions from (0, 0)")
    return y, x


def checked_dtype(dtype: Any) -> torch.dtype:
    """float32 or float64, also by name.

    Raises:
        ArgumentError: for anything else.
    """
    kinds = {"float32": torch.float32, "float64": torch.float64}
    kind = kinds.get(str(dtype).replace("torch.", ""))
    if kind is None:
        raise ArgumentError(f"dtype={dtype!r} is none of 'float32', 'float64': kernels are summed in full precision")
    return kind


def checked_device(device: Any) -> torch.device:
    """A device that is there.

    Raises:
        ArgumentError: for one that is not.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ArgumentError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error
    if found.type == "meta":
        raise ArgumentError("device='meta' cannot be used: it computes no values")
    return found
