"""From walks over blocks of units to one array: how large it will be, in what blocks it is made, where it lies.

Before anything is computed the walk is done once without numbers (torch's ``meta`` device): that gives the window of
the result and the most that is alive at once, so that blocks of units can be chosen for which

    result + what is alive for a block  ≤  3 · (result + largest weight on the way)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..graph import shape_of
from ..network import memory_free
from .kernel import Kernel, NeedsPosition, Span, levelled, to_spans, total, windowed
from .walk import Ends, Reached, Walk

Progress = Callable[[int, int], None]
GIB = 2**30
#: Times the result and the largest weight that may be held at once.
ROOM = 3
#: Times what is alive that operators need inside: reordered inputs and outputs of convolutions.
INSIDE = 3


@dataclass(frozen=True)
class Plan:
    """What a walk will bring, known beforehand.

    Args:
        spans: window of the result along y and x.
        size: its extent.
        channels: of the source.
        width: channels held per row; less than ``channels`` if the result stays compact.
        skip_width: channels held per row of the pure path; 0 without one.
        peak: elements alive at once, for all units.
        largest: elements of the largest weight on the way.
    """

    spans: tuple[Span, Span]
    size: tuple[int, int]
    channels: int
    width: int
    skip_width: int
    peak: int
    largest: int


def laid_out(kernel: Kernel, ends: Ends, pinned: bool) -> Kernel:
    """A kernel on the source with axes channel, y, x."""
    order = [a for a in ends.source_axes if a >= 0]
    rest = [i for i in range(len(kernel.axes)) if i not in order]
    if kernel.first is not None and kernel.compact != order[0]:
        kernel = kernel.full(shape_of(ends.source)[kernel.compact])
    kernel = to_spans(kernel, order[1:], pinned)
    values = kernel.values.permute(0, *(i + 1 for i in order + rest))
    for _ in rest:  # axes of size 1 behind the channels
        values = values.squeeze(-1)
    axes: list[Span | None] = [None]
    at = 1
    for axis in ends.source_axes[1:]:
        if axis < 0:
            values = values.unsqueeze(at + 1)
            axes.append(Span(0, None))
        else:
            axes.append(_moving_with(kernel.axes[axis], at - 1, pinned))
        at += 1
    return kernel.like(values, axes=tuple(axes), compact=0, owned=kernel.owned)


def _moving_with(span: Span | None, axis: int, pinned: bool) -> Span | None:
    """A window that moves with the target's axis of the same name; any will do where nothing moves."""
    if span is None or span.along == axis or (span.along is None and pinned):
        return span
    if not pinned:
        raise NeedsPosition
    return Span(span.start, None)


def planned(walk: Walk, units: list[int]) -> Plan:
    """What the walk will bring for some units; computes shapes only."""
    reached = walk.back(units)
    found = [k for k in (reached.proper, reached.pure) if k is not None]
    if not found:
        raise ArgumentError(
            "the source acts on the target only through gates and statistics that depend on the data, which are held "
            "fixed: there is no linear path between them"
            + (f", or none that reaches the target's position {walk.at}" if walk.at else "")
        )
    kernels = [laid_out(k, walk.ends, walk.at is not None) for k in found]
    if walk.at is not None:
        kernels = levelled(kernels)
    spans, size = [], []
    for i in (1, 2):
        own = [k.axes[i] or Span(0, None) for k in kernels]
        if own[0].step != own[-1].step:
            raise NeedsPosition
        start = min(s.start for s in own)
        spans.append(Span(start, own[0].step))
        size.append(max(s.start + k.values.shape[i + 1] for s, k in zip(own, kernels, strict=True)) - start)
    channels = shape_of(walk.ends.source)[walk.ends.source_axes[0]]
    compact = [k for k in kernels if k.first is not None and k.rows is None]
    width = kernels[0].values.shape[1] if len(compact) == len(kernels) == 1 else channels
    pure = kernels[-1] if reached.pure is not None else None
    skip = 0 if pure is None else pure.values.shape[1]
    largest = max((v.numel() for v in walk.constants_used()), default=0)
    return Plan((spans[0], spans[1]), (size[0], size[1]), channels, width, skip, reached.peak, largest)


def block_size(plan: Plan, count: int, held: int) -> int:
    """How many units fit into a block.

    Args:
        plan: for ``count`` units.
        count: units in all.
        held: elements of the result.
    """
    room = (ROOM - 1) * held + ROOM * plan.largest
    return max(1, min(count, room * count // max(INSIDE * plan.peak, 1)))


def check_budget(bytes_needed: int, budget: int | None, device: torch.device, what: str) -> None:
    """Stops before a computation that will not fit.

    Args:
        bytes_needed: result and what is alive with it.
        budget: bytes, or ``None`` for half of what is free.
        device: where.
        what: the result, in words.

    Raises:
        ArgumentError: with the figure.
    """
    if budget is not None and (not isinstance(budget, int | float) or math.isnan(budget)):
        raise ArgumentError(f"memory={budget!r} must be a number of bytes, or None for half of what is free")
    if budget is None:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_free()
        budget = free // 2
    if bytes_needed > budget:
        raise ArgumentError(
            f"{what} need {_gib(bytes_needed)}, more than the budget of {_gib(budget)}; "
            "ask for fewer units= or source_units=, or raise memory= (bytes)"
        )


def _gib(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit / 10:
            return f"{count / unit:.2f} {name}"
    return f"{count} bytes"


@dataclass
class Assembled:
    """Everything in one window.

    Args:
        values: ``[O, I or width, H, W]``.
        first: where rows of compact values begin, else ``None``.
        skip: ``[O, width, H, W]`` of the pure path, ``None`` without one.
        skip_first: where its rows begin.
    """

    values: Tensor
    first: Tensor | None
    skip: Tensor | None
    skip_first: Tensor | None


def assembled(
    walk: Walk,
    plan: Plan,
    units: list[int],
    columns: list[int] | None,
    include: bool,
    block: int,
    progress: Progress | None,
) -> Assembled:
    """Walks block by block and puts the kernels into one array.

    Args:
        walk, plan, units: what to compute.
        columns: which source units to keep, ``None`` for all.
        include: whether the pure path is part of the values.
        block: units at a time.
        progress: called with units done and units in all.
    """
    whole: Assembled | None = None
    for start in range(0, len(units), block):
        part = units[start : start + block]
        made = _placed(walk, plan, walk.back(part), columns, include, len(part))
        if len(part) == len(units):
            whole = made
        else:
            whole = whole or _empty(made, len(units))
            _put(whole, made, start)
        if progress is not None:
            progress(start + len(part), len(units))
    if whole is None:
        raise ArgumentError("no units were chosen")
    return whole


def _placed(walk: Walk, plan: Plan, reached: Reached, columns: list[int] | None, include: bool, rows: int) -> Assembled:
    """One block's kernels in the result's window."""
    pinned = walk.at is not None
    proper = None if reached.proper is None else laid_out(reached.proper, walk.ends, pinned)
    pure = None if reached.pure is None else laid_out(reached.pure, walk.ends, pinned)
    parts = [k for k in (proper, pure if include else None) if k is not None]
    zeros = torch.zeros((rows, plan.channels, 1, 1), dtype=walk.dtype, device=walk.device)
    whole = Kernel(zeros, (None, *plan.spans), owned=True)
    if parts:  # the pure path is needed again
        parts[-1] = parts[-1].shared() if include and pure is not None else parts[-1]
        whole = total(parts, (plan.channels, *plan.size), rows, pinned)
    if plan.width == plan.channels or columns is not None:
        whole = whole.full(plan.channels)
    values, first = _in_window(whole, plan, rows), whole.first
    skip = skip_first = None
    if plan.skip_width:
        if pure is None:
            begin = None if plan.skip_width == plan.channels else torch.zeros(rows, dtype=torch.int64)
            pure = Kernel(zeros[:, : plan.skip_width], (None, *plan.spans), begin)
        pure = pure.full(plan.channels) if columns is not None or plan.skip_width == plan.channels else pure
        skip = _in_window(pure, plan, rows)
        skip_first = torch.zeros(rows, dtype=torch.int64)
        if pure.first is not None:
            skip_first[slice(None) if pure.rows is None else pure.rows] = pure.first
    if columns is not None:
        values = values[:, columns]
        skip = None if skip is None else skip[:, columns]
    return Assembled(values, first, skip, skip_first)


def _in_window(kernel: Kernel, plan: Plan, rows: int) -> Tensor:
    if kernel.rows is not None:
        every = kernel.values.new_zeros((rows, *kernel.values.shape[1:]))
        kernel = kernel.like(every.index_copy_(0, kernel.rows.to(every.device), kernel.values))
    values = kernel.values
    for i, (span, size) in enumerate(zip(plan.spans, plan.size, strict=True)):
        own = kernel.axes[i + 1] or Span(0, None)
        values = windowed(values, i + 2, span.start - own.start, size)
    return values


def _empty(made: Assembled, rows: int) -> Assembled:
    def like(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.new_zeros((rows, *tensor.shape[1:]))

    return Assembled(
        made.values.new_zeros((rows, *made.values.shape[1:])), like(made.first), like(made.skip), like(made.skip_first)
    )


def _put(whole: Assembled, made: Assembled, start: int) -> None:
    for name in ("values", "first", "skip", "skip_first"):
        target, part = getattr(whole, name), getattr(made, name)
        if target is not None:
            target[start : start + len(part)] = part


def ratio(span: Span, before: int, now: int) -> Fraction:
    """Source steps per target step: the walk's own, else that of the grids."""
    return span.step if span.step is not None else Fraction(before, max(now, 1))
