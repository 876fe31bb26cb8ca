"""Influence through a middle layer, with what cancels on the way.

    Σ      =  W_bm ∗ W_ma           contributions of all middle units at all middle positions, summed
    Σ|·|   =  |W_bm| ∗ |W_ma|       the same of magnitudes
    best   =  (Σ|·| + Σ) / 2        every gate that helps open, every one that hurts shut; entry by entry
    worst  =  (Σ − Σ|·|) / 2        the other way round
    total  =  W_ba                  everything; total − Σ runs around the middle layer

∗ is the composition of kernels: a transposed convolution with the stride between source and middle layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ArgumentError
from ..network import Network
from ..records import Paths, Replaced, Weights, checked_count
from .assembly import Progress, check_budget
from .ends import captured_ends, checked_device
from .expanded import expanded_weights
from .gates import gated_names
from .kernel import windowed

#: Arrays of the result's size that are held at once.
ARRAYS = 4
#: Numbers that the contributions of a block of source units may take.
BLOCK = 2**25
#: In place of a middle unit, where fewer than asked for contribute.
NOBODY = -1


def expanded_paths(
    net: Network,
    source: str,
    middle: str,
    target: str,
    units: Iterable[int] | None = None,
    source_units: Iterable[int] | None = None,
    gate: str | float | Mapping[str, Any] = "expected",
    pool: Literal["average", "expected"] = "average",
    *,
    dtype: Any = "float32",
    device: Any = "cpu",
    memory: int | None = None,
    progress: Progress | None = None,
) -> Paths:
    """What a source layer does to a target layer through the units of a layer between them.

    An expanded weight near zero can hide strong influence: contributions of both signs that cancel in the sum, although
    on any one image only some of the middle units are active (Figures 11 and 12). So the middle layer should be one
    whose units open and shut (an activation or what it reads); of a linear bottleneck, what cancels depends on its
    basis.
    Best and worst case open and shut middle units as they are; the middle layer's own gate stays at what ``gate`` says
    (``gate={middle: "identity"}`` opens it fully).

    Args:
        net: an open network with its architecture.
        source, middle, target: layers' names; the middle layer must lie on a path between the other two.
        units, source_units, gate, pool, dtype, device, memory, progress: as in
            :func:`weightatlas.expanded_weights`. Skip paths are included.

    Returns:
        ``total`` (the expanded weights), ``through`` (Σ), ``absolute`` (Σ|·|), all ``[O, I, H, W]`` in one window, and
        from them ``best``, ``worst``, ``cancellation`` and ``bypass``; ``contributions(unit, source_unit)`` gives what
        each middle unit adds.

    Raises:
        ArgumentError: if the middle layer is not between the others, or the map depends on the target's position.
        UnknownNameError, GraphError, WeightValuesError: as :func:`weightatlas.expanded_weights`.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 11 and 12 and the text around them.

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> p = wa.expanded_paths(net, "blocks.3.2", "blocks.4.0", "blocks.4.1", units=[3])
        >>> p.through.shape, float(abs(p.total - p.through).max()) < 1e-5 * float(abs(p.total).max())
        ((1, 80, 9, 9), True)
    """
    units, source_units = (None if chosen is None else list(chosen) for chosen in (units, source_units))
    _check_between(net, source, middle, target)
    options: dict[str, Any] = dict(pool=pool, dtype=dtype, device=device, memory=memory)
    total = expanded_weights(net, source, target, units, source_units, gate, progress=progress, **options)
    outer = expanded_weights(net, middle, target, units, None, _for_part(net, gate, middle, target), **options).dense()
    before = _for_part(net, gate, source, middle)
    inner = expanded_weights(net, source, middle, None, source_units, before, **options).dense()
    _check_everywhere(net, total, outer, inner)
    place = checked_device(device)
    held = ARRAYS * total.values.size // max(total.values.shape[1], 1) * inner.source_units
    check_budget(4 * held, memory, place, f"the paths from {source!r} through {middle!r} to {target!r}")
    through, absolute = (_composed(outer, inner, place, magnitude) for magnitude in (False, True))
    origin = tuple(o * s + i for o, s, i in zip(outer.origin, inner.stride, inner.origin, strict=True))
    parts = [(total.dense().values, total.origin), (through, origin), (absolute, origin)]
    skip = [(total.skip_values, total.origin)] * bool(total.skip_values.size)
    arrays, begin = _one_window(parts + skip)
    return Paths(
        source=source,
        middle=middle,
        target=target,
        units=total.units,
        total=arrays[0],
        through=arrays[1],
        absolute=arrays[2],
        outer=outer.values,
        inner=inner.values,
        target_units=total.target_units,
        middle_units=outer.source_units,
        source_units=total.source_units,
        origin=begin,
        stride=total.stride,
        outer_origin=outer.origin,
        inner_origin=inner.origin,
        inner_stride=inner.stride,
        source_numbers=total.source_numbers,
        skip_values=arrays[3] if skip else total.skip_values,
        skip_first=total.skip_first,
        replaced=_united(total.replaced, outer.replaced, inner.replaced),
        provenance=total.provenance,
    )


def _check_between(net: Network, source: str, middle: str, target: str) -> None:
    """The middle layer must be on the way and not an end of it."""
    graph, ends = captured_ends(net, source, target)
    captured_ends(net, source, middle)
    captured_ends(net, middle, target)
    if graph.node(middle) not in ends.between:
        raise ArgumentError(
            f"{middle!r} is on no path from {source!r} to {target!r}; wa.layer_graph(net) shows the paths"
        )


def _for_part(net: Network, gate: Any, source: str, target: str) -> Any:
    """A gate for a part of the way: of a mapping, what lies there."""
    if not isinstance(gate, Mapping):
        return gate
    graph, ends = captured_ends(net, source, target)
    there = gated_names(graph, ends.between)
    return {name: value for name, value in gate.items() if name in there}


def _check_everywhere(net: Network, *parts: Weights) -> None:
    """Kernels compose where they are the same at every position."""
    for weights in parts:
        single = [
            end in net.layers and net.layers[end].grid in (None, (1, 1)) for end in (weights.source, weights.target)
        ]
        if weights.at is None and single in ([False, False], [True, True]):
            continue
        raise ArgumentError(
            f"the map from {weights.source!r} to {weights.target!r} depends on the position, so that paths through "
            "a middle layer differ from one middle position to the next; choose a target before upsampling, pooling of "
            "the whole grid and flattening"
        )


def _composed(outer: Weights, inner: Weights, device: torch.device, magnitude: bool) -> np.ndarray:
    """W_bm ∗ W_ma ``[O, I, H, W]``, or that of magnitudes."""
    first, second = (torch.from_numpy(w.values).to(device) for w in (outer, inner))
    if magnitude:
        first, second = first.abs(), second.abs()
    stride = [int(s) for s in inner.stride]
    return functional.conv_transpose2d(first, second, stride=stride).cpu().numpy()


def _one_window(
    parts: list[tuple[np.ndarray, tuple[float, ...]]],
) -> tuple[list[np.ndarray], tuple[float, float]]:
    """All arrays (each with its origin) in the smallest window that holds them."""
    start = [int(min(own[i] for _, own in parts)) for i in (0, 1)]
    ends = [int(max(own[i] + values.shape[2 + i] for values, own in parts)) for i in (0, 1)]
    found = []
    for values, own in parts:
        tensor: Tensor = torch.from_numpy(values)
        for i in (0, 1):
            tensor = windowed(tensor, i + 2, start[i] - int(own[i]), ends[i] - start[i])
        found.append(tensor.contiguous().numpy())
    return found, (float(start[0]), float(start[1]))


def _united(*parts: tuple[Replaced, ...]) -> tuple[Replaced, ...]:
    return tuple({(r.module, r.became): r for part in parts for r in part}.values())


def strongest_middles(paths: Paths, k: int = 5, *, device: Any = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """The middle units through which every source unit acts on every target unit most, and what they add.

    Args:
        paths: from :func:`expanded_paths`.
        k: how many; fewer if there are fewer middle units.
        device: of the computation.

    Returns:
        Numbers of middle units, int32 ``[O, I, k]``, by falling Σ over positions of the magnitude of their
        contribution, as :meth:`~weightatlas.records.Paths.middle_top` for one pair of units; −1 where fewer
        contribute. And the sums over positions of their contributions, float32 ``[O, I, k]``; 0 there.

    Raises:
        ArgumentError: for another ``k`` or device.
    """
    count = min(checked_count(k, "middle units"), paths.middle_units)
    outer, inner = (torch.from_numpy(v).to(checked_device(device)) for v in (paths.outer, paths.inner))
    stride = [int(s) for s in paths.inner_stride]
    sums = outer.sum((2, 3)), inner.sum((2, 3))  # [O, M] and [M, I]
    width = max(BLOCK // (len(outer) * paths.middle_units), 1)
    parts = []
    for start in range(0, inner.shape[1], width):
        block = slice(start, start + width)
        largest, places = _magnitudes(outer, inner[:, block], stride).topk(count, dim=0)  # of [M, O, I]
        kept = largest > 0
        added = sums[0].T.unsqueeze(2).expand(-1, -1, places.shape[2]).gather(0, places)
        added = added * sums[1][:, None, block].expand(-1, len(outer), -1).gather(0, places)
        parts.append((torch.where(kept, places, NOBODY), torch.where(kept, added, 0.0)))
    units, added = (torch.cat(part, 2).permute(1, 2, 0).contiguous().cpu() for part in zip(*parts, strict=True))
    return units.int().numpy(), added.float().numpy()


def _magnitudes(outer: Tensor, inner: Tensor, stride: list[int]) -> Tensor:
    """Σ over positions of the magnitude of each middle unit's contribution, ``[M, O, I]``."""
    if outer.shape[2:].numel() == 1 or inner.shape[2:].numel() == 1:  # no two elements meet at a position
        return outer.abs().sum((2, 3)).T.unsqueeze(2) * inner.abs().sum((2, 3)).unsqueeze(1)
    targets, middles, *window = outer.shape
    elements = window[0] * window[1]
    # the inner kernel, once for every element of the outer one, in the common window
    one = torch.eye(elements, dtype=outer.dtype, device=outer.device).view(elements, 1, *window)
    found = outer.new_empty((middles, targets, inner.shape[1]))
    for m in range(middles):
        shifted = functional.conv_transpose2d(one, inner[m : m + 1], stride=stride)  # [elements, I, H, W]
        made = outer[:, m].reshape(targets, elements) @ shifted.flatten(1)
        found[m] = made.abs_().view(targets, inner.shape[1], -1).sum(2)
    return found
