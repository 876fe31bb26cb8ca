"""Expanded weights: the linear map from any layer to any later one, through everything between them.

    W[o, i, y, x]  =  ∂ target[o, t] / ∂ source[i, t·stride + origin + (y, x)]      of the linearised network

A walk back through the captured graph carries the kernel of all target units at once; every operator has one rule, and
what is not linear is read as a factor per channel (its gate).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch

from ..errors import ArgumentError, WeightValuesError
from ..graph import Graph, shape_of
from ..network import INPUT, Network
from ..records import Provenance, Replaced, Weights, checked_units, read_as
from .assembly import Assembled, Plan, Progress, assembled, block_size, check_budget, planned, ratio
from .ends import captured_ends, checked_at, checked_device, checked_dtype
from .gates import Gates
from .kernel import NeedsPosition
from .reading import Reading
from .rules.table import taught_so_far
from .walk import Ends, Walk

SKIPS = ("include", "exclude")
PLANS = 1000  # kept per network


def expanded_weights(
    net: Network,
    source: str,
    target: str,
    units: Iterable[int] | None = None,
    source_units: Iterable[int] | None = None,
    gate: str | float | Mapping[str, Any] = "expected",
    skip: Literal["include", "exclude"] = "include",
    pool: Literal["average", "expected"] = "average",
    *,
    at: tuple[int, int] | None = None,
    dtype: Any = "float32",
    device: Any = "cpu",
    memory: int | None = None,
    progress: Progress | None = None,
) -> Weights:
    """The linear map from one layer to a later one, through everything between, as ``Weights [O, I, H, W]``.

    Args:
        net: an open network with its architecture.
        source, target: layers' names; ``source="input"`` is the network's input.
        units: numbers of the target units ``O``, default all.
        source_units: numbers of the source units ``I``, default all.
        gate: what a non-linearity is read as. ``"expected"``: its expected derivative per channel, from
            :func:`weightatlas.measure` if that was run, else from the batch norm before it, else the identity, which
            is noted; ``"measured"`` or ``"batchnorm"`` to insist on one source; ``"identity"``, the article's rule; a
            number; or a mapping from operators (``Replaced.module``) to any of these, or to one number per channel.
        skip: whether paths without parameters (the residual stream) are part of ``values``; ``Weights.skip`` has them
            either way.
        pool: max pooling as the mean of its window, or as measured shares of its elements (``"expected"``).
        at: target position ``(y, x)`` whose map is wanted, borders included; by default the map inside the grid, far
            from borders, if it is the same everywhere, and that of the central position if it is not (upsampling,
            transposed convolution, pooling that does not divide the grid).
        dtype: of the computation, ``"float32"`` or ``"float64"``; the result is float32.
        device: of the computation, e.g. ``"cuda"``.
        memory: bytes that may be used, default half of what is free.
        progress: called after each block of target units with the number done and the number in all.

    Returns:
        Weights with ``origin`` (place of element (0, 0) relative to the target's position times ``stride``, on the
        source grid), ``stride`` (source steps per target step), ``replaced`` (every operator that is not linear, and
        what it was read as) and ``skip``. Where nothing is replaced, and for the identity as gate, they are exact.

    Raises:
        UnknownNameError: for layers and units that do not exist.
        ArgumentError: for layers in the wrong order or unconnected, a gate without its statistics, or a result that is
            larger than the budget, before anything is computed.
        GraphError: if the network cannot be captured, or an operator on the way has no rule.
        WeightValuesError: if parameters on the way hold NaN or infinity.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 9, 10 and 13 (there with the identity as gate).

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.expanded_weights(net, "blocks.3.2", "blocks.4.1", units=[3, 17])
        Weights(blocks.3.2 → blocks.4.1: [O=2, I=80, H=9, W=9], replaced=4)
    """
    if skip not in SKIPS:
        raise ArgumentError(f"skip={skip!r} is none of {', '.join(map(repr, SKIPS))}")
    device, dtype = checked_device(device), checked_dtype(dtype)
    graph, ends = captured_ends(net, source, target)
    layer = net.layers[target]
    chosen = layer.unit_indices(units)
    columns = None if source_units is None else checked_units(source_units, source_width(ends), f"layer {source!r}")
    place = checked_at(at, layer.grid, target)
    gates = Gates(graph, gate, pool, statistics_of(net), ends.between)
    walk, plan = prepared(graph, ends, gates, place, layer.grid, chosen, device, dtype)
    _check_values(walk, ends)
    rows = len(chosen)
    held = rows * (len(columns) if columns is not None else plan.width) * plan.size[0] * plan.size[1]
    block = block_size(plan, rows, held)
    needed = held + plan.peak * block // rows
    check_budget(
        needed * dtype.itemsize, memory, device, f"the expanded weights from {source!r} to {rows} units of {target!r}"
    )
    made = assembled(walk, plan, chosen, columns, skip == "include", block, progress)
    return _recorded(net, graph, source, target, chosen, columns, walk, plan, made, gates.replaced, skip == "include")


def statistics_of(net: Network) -> Any:
    """What was measured, if it was measured on these weights.

    Raises:
        ArgumentError: for statistics of another network.
    """
    found = net.measured
    if found is not None and found.provenance.weights_hash != net.weights_hash:
        raise ArgumentError(
            f"net.measured belongs to other weights ({found.provenance.model or 'unnamed'}, "
            f"{found.provenance.weights_hash[:8]} …) than this network's ({net.weights_hash[:8]} …); "
            "run wa.measure(net, images), or set net.measured = None"
        )
    return found


def source_width(ends: Ends) -> int:
    """Number of source units."""
    return shape_of(ends.source)[ends.source_axes[0]]


def prepared(
    graph: Graph,
    ends: Ends,
    reading: Reading,
    at: tuple[int, int] | None,
    grid: tuple[int, int] | None,
    units: list[int],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Walk, Plan]:
    """The walk that suits the way, and what it will bring; it is pinned to a position where one is needed.

    Of some units it brings the window of all, so that their weights are rows of the whole.
    """
    height, width = grid or (1, 1)
    if at is None and (height, width) == (1, 1):
        at = (0, 0)
    key = (ends.source, ends.target, at, getattr(reading, "pool", ""), taught_so_far())
    every = list(range(shape_of(ends.target)[ends.target_axes[0]]))
    if key not in graph.plans:
        try:
            found = at, planned(Walk(graph, ends, reading, at, "meta", dtype), every)
        except NeedsPosition:
            at = (height // 2, width // 2)
            found = at, planned(Walk(graph, ends, reading, at, "meta", dtype), every)
        if len(graph.plans) >= PLANS:
            graph.plans.clear()
        graph.plans[key] = found
    at, plan = graph.plans[key]
    plan = dataclasses.replace(plan, peak=-(-plan.peak * len(units) // len(every)))
    return Walk(graph, ends, reading, at, device, dtype), plan


def _check_values(walk: Walk, ends: Ends) -> None:
    """NaN in one parameter would spread over everything: stop before that, with its place."""
    way = [node for node in ends.between if node is not ends.source]  # what the source is made with is not on it
    parameters = {n for node in way for n in node.all_input_nodes if n not in walk.graph.dependent}
    for node in sorted(parameters, key=walk.graph.position.__getitem__):
        value = walk.graph.value(node)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or math.isfinite(value.detach().sum()):
            continue  # a finite sum has finite terms, and is quicker than looking at each
        if not bool(value.isfinite().all()):
            bad = int((~value.isfinite()).sum())
            raise WeightValuesError(
                f"{bad} of {value.numel()} values in {walk.graph.stored_name(node)!r} are NaN or infinite, and it lies "
                "on the way; choose layers on one side of it, or check the training run"
            )


def _recorded(
    net: Network,
    graph: Graph,
    source: str,
    target: str,
    units: list[int],
    columns: list[int] | None,
    walk: Walk,
    plan: Plan,
    made: Assembled,
    replaced: tuple[Replaced, ...],
    included: bool,
) -> Weights:
    """The record of a walk's result."""
    total = net.layers[target].units
    stride = strides(walk.ends, plan)
    at = walk.at
    starts = (plan.spans[0].start, plan.spans[1].start)
    origin = tuple(float(s - (at[i] * stride[i] if at else 0)) for i, s in enumerate(starts))
    values, groups = made.values, 1
    if made.first is not None:
        groups = plan.channels // plan.width
        if not _follows_groups(made.first, units, plan, total):
            full = values.new_zeros((len(units), plan.channels, *plan.size))
            place = (made.first[:, None] + torch.arange(plan.width)).to(values.device)
            full[torch.arange(len(units), device=values.device)[:, None], place] = values
            values, groups = full, 1
    pixels = source == INPUT
    names = net.input.channel_names if pixels and net.input else ()
    return Weights(
        values=_array(values),
        source=source,
        target=target,
        units=np.array(units),
        source_units=len(columns) if columns is not None else plan.channels,
        target_units=total,
        groups=groups,
        origin=(origin[0], origin[1]),
        stride=(float(stride[0]), float(stride[1])),
        sees_pixels=pixels,
        channel_names=names if columns is None else tuple(names[c] for c in columns) if names else (),
        replaced=replaced,
        at=at if at is not None and not _single(net, target) else None,
        source_numbers=np.array(columns if columns is not None else [], np.int64),
        skip_values=_array(made.skip) if made.skip is not None else np.zeros((0, 0, 0, 0), np.float32),
        skip_first=_array(made.skip_first) if made.skip_first is not None else np.zeros(0, np.int64),
        skip_included=included,
        provenance=_noted(net.provenance, graph, replaced, at if not _single(net, target) else None, made, included),
    )


def _single(net: Network, target: str) -> bool:
    """Whether the target has one position only."""
    return net.layers[target].grid in (None, (1, 1))


def strides(ends: Ends, plan: Plan) -> tuple[Any, Any]:
    """Source steps per target step along y and x, exact."""
    before, now = shape_of(ends.source), shape_of(ends.target)
    found = []
    for i, span in enumerate(plan.spans):
        a, b = ends.source_axes[i + 1], ends.target_axes[i + 1]
        found.append(ratio(span, before[a] if a >= 0 else 1, now[b] if b >= 0 else 1))
    return found[0], found[1]


def _follows_groups(first: torch.Tensor, units: list[int], plan: Plan, total: int) -> bool:
    """Whether rows begin where those of a grouped convolution would."""
    if plan.channels % plan.width or total % (plan.channels // plan.width):
        return False
    size = total // (plan.channels // plan.width)
    return bool((first == torch.tensor(units) // size * plan.width).all())


def _array(values: torch.Tensor) -> np.ndarray:
    found = values.detach().cpu()
    return (found.float() if found.is_floating_point() else found).contiguous().numpy()


def _noted(
    provenance: Provenance,
    graph: Graph,
    replaced: tuple[Replaced, ...],
    at: tuple[int, int] | None,
    made: Assembled,
    included: bool,
) -> Provenance:
    """Everything that a reader must know, one sentence each."""
    notes = list(graph.notes)
    notes += read_as(replaced)
    if any("for want of statistics" in r.became for r in replaced):
        notes.append("wa.measure(net, images) would replace the identity by what the network really does")
    if at is not None:
        notes.append(f"the map of target position {at}, clipped to the source grid")
    if made.skip is not None and not included:
        notes.append("paths without parameters are left out")
    return provenance.noting(*notes)
