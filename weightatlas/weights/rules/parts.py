"""Operators that take parts of an axis, or its entries in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...graph import batch_leads
from ..kernel import Kernel, windowed
from ..step import Passed, Step
from .shapes import axis_of
from .table import no_rule, rule


def taken(step: Step, axis: int, start: int, size: int, every: int = 1) -> Kernel:
    """The kernel on an input of which ``size`` entries were taken along an axis, beginning at ``start``."""
    kernel = step.kernel
    span = kernel.axes[axis]
    if span is not None:
        values = kernel.values
        if every > 1:
            shape = list(values.shape)
            shape[axis + 1] = (shape[axis + 1] - 1) * every + 1
            spread = values.new_zeros(shape)
            spread.index_copy_(axis + 1, torch.arange(values.shape[axis + 1], device=values.device) * every, values)
            values = spread
        axes = list(kernel.axes)
        axes[axis] = span.at(span.start * every + start, every)
        return kernel.like(values, axes=tuple(axes), owned=False)
    total = step.shape(step.source)[axis]
    if kernel.first is not None and kernel.compact == axis and every == 1:
        return kernel.like(kernel.values, first=kernel.first + start, owned=False)
    if kernel.first is not None and kernel.compact == axis:
        kernel = kernel.full(size)
    shape = list(kernel.values.shape)
    shape[axis + 1] = total
    values = kernel.values.new_zeros(shape)
    places = start + every * torch.arange(size, device=values.device)
    values.index_copy_(axis + 1, places, kernel.values)
    return kernel.like(values)


@rule("slice", "narrow")
def sliced(step: Step) -> Passed:
    """A part of an axis, every so many entries."""
    a = step.arguments
    if step.shape() == step.shape(step.source) and (a.get("step") or 1) == 1 and batch_leads(step.out):
        yield step.source, step.kernel  # everything, as [:] says of the batch
        return
    axis = axis_of(step, a["dim"])
    total = step.shape(step.source)[axis]
    begin = a["start"] or 0
    begin = min(max(begin + total if begin < 0 else begin, 0), total)
    yield step.source, taken(step, axis, begin, step.shape()[axis], a.get("step") or 1)


@rule("select")
def selected(step: Step) -> Passed:
    """One entry of an axis, which goes."""
    a = step.arguments
    axis = axis_of(step, a["dim"], step.source)
    yield step.source, _one_of(step, axis, a["index"])


def _one_of(step: Step, axis: int, index: int) -> Kernel:
    kernel = step.kernel
    if kernel.first is not None and kernel.compact >= axis:
        kernel = step.full()
    size = step.shape(step.source)[axis]
    values = windowed(kernel.values.unsqueeze(axis + 1), axis + 1, -(index % size), size)
    return kernel.like(values, axes=(*kernel.axes[:axis], None, *kernel.axes[axis:]))


@rule("unbind")
def unbound(step: Step) -> Passed:
    """An axis taken apart into its entries."""
    yield step.source, _one_of(step, axis_of(step, step.arguments["dim"], step.source), step.index)


@rule("split", "split_with_sizes", "chunk", "tensor_split")
def parted(step: Step) -> Passed:
    """One of several parts of an axis."""
    axis = axis_of(step, step.arguments.get("dim") or 0)
    parts = [tuple(int(s) for s in value.shape) for value in step.node.meta["val"]]
    start = sum(p[axis + 1] for p in parts[: step.index])
    yield step.source, taken(step, axis, start, parts[step.index][axis + 1])


@rule("index_select")
def chosen(step: Step) -> Passed:
    """Entries of an axis by number."""
    axis = axis_of(step, step.arguments["dim"])
    index = step.constant("index")
    if index is None:
        raise no_rule(step)
    yield step.source, picked(step, axis, index.long())


def picked(step: Step, axis: int, index: Any) -> Kernel:
    """The kernel on an input whose entries ``index`` make up an axis of the output."""
    kernel = step.kernel
    if kernel.axes[axis] is not None:
        step.needs_position()
        kernel = kernel.spread(step.shape(), [axis])
    if kernel.first is not None and kernel.compact == axis and kernel.values.shape[axis + 1] == 1:
        return kernel.like(kernel.values, first=index.cpu()[kernel.first], owned=False)
    if kernel.first is not None and kernel.compact == axis:
        kernel = kernel.full(step.shape()[axis])
    shape = list(kernel.values.shape)
    shape[axis + 1] = step.shape(step.source)[axis]
    values = kernel.values.new_zeros(shape).index_add_(axis + 1, index.to(kernel.values.device), kernel.values)
    return kernel.like(values)


@rule("channel_shuffle")
def shuffled(step: Step) -> Passed:
    """Channels dealt out in turn: out[c·groups + g] = in[g·(C / groups) + c]."""
    channels, groups = step.shape()[0], int(step.arguments["groups"])
    yield step.source, picked(step, 0, torch.arange(channels).view(groups, -1).t().flatten())


@rule("flip")
def flipped(step: Step) -> Passed:
    """Axes the other way round."""
    yield from _rearranged(step, step.arguments["dims"], lambda axis, n: torch.arange(n).flip(0))


@rule("roll")
def rolled(step: Step) -> Passed:
    """Axes turned around."""
    a = step.arguments
    shifts = dict(zip((d % (len(step.shape()) + 1) for d in a["dims"]), a["shifts"], strict=True))
    if not shifts:
        raise no_rule(step, "it rolls all axes as one")
    yield from _rearranged(step, list(shifts), lambda axis, n: (torch.arange(n) - shifts[axis + 1]) % n)


def _rearranged(step: Step, dims: Sequence[int], index: Any) -> Passed:
    held = step.kernel
    for dim in dims:
        axis = axis_of(step, dim)
        step.kernel = picked(step, axis, index(axis, step.shape()[axis]))
    kernel, step.kernel = step.kernel, held
    yield step.source, kernel
