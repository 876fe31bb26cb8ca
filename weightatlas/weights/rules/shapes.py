"""Operators that move values about without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import fx
from torch.nn import functional

from ...graph import batch_leads, groups_of
from ..kernel import Kernel, Span, windowed
from ..step import Passed, Step
from .table import no_rule, rule


def axis_of(step: Step, dim: int, node: fx.Node | None = None) -> int:
    """An axis of a node (default: of the output) counted without the batch.

    Raises:
        GraphError: for the batch axis.
    """
    count = len(step.shape(node)) + 1
    if dim % count == 0:
        raise no_rule(step, "it works along the batch axis")
    return dim % count - 1


def moved(step: Step, order: Sequence[int]) -> Kernel:
    """The kernel with its axes in another order: axis i of the result is axis ``order[i]`` now."""
    kernel = step.kernel
    values = kernel.values.permute(0, *(i + 1 for i in order))
    compact = order.index(kernel.compact) if kernel.first is not None else 0
    return kernel.like(values, axes=tuple(kernel.axes[i] for i in order), compact=compact, owned=False)


@rule("permute", "transpose", "movedim", "swapaxes", "t", "numpy_T")
def permuted(step: Step) -> Passed:
    """Axes in another order."""
    count = len(step.shape()) + 1
    if step.operator == "permute":
        dims = [d % count for d in step.arguments["dims"]]
    elif step.operator in ("transpose", "swapaxes"):
        dims = list(range(count))
        i, j = (d % count for d in step.node.args[1:3])  # pyright: ignore[reportOperatorIssue]
        dims[i], dims[j] = j, i
    else:
        raise no_rule(step)
    if dims[0] != 0:
        raise no_rule(step, "it moves the batch axis")
    order = [dims.index(i) - 1 for i in range(1, count)]
    yield step.source, moved(step, order)


@rule(
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "squeeze_", "_reshape_alias"
)  # fmt: skip
def reshaped(step: Step) -> Passed:
    """Axes joined and split: each group of axes whose sizes have the same product is taken on its own."""
    if not (batch_leads(step.source) and batch_leads(step.out)):
        raise no_rule(step, "it joins the batch axis with others")
    yield step.source, regrouped(step.kernel, step.shape(), step.shape(step.source), step)


def regrouped(kernel: Kernel, now: Sequence[int], before: Sequence[int], step: Step) -> Kernel:
    """A kernel on axes of sizes ``now`` as one on ``before``.

    Raises:
        NeedsPosition: if windows have to be joined or split.
    """
    values, axes, sizes = kernel.values, [], [kernel.values.shape[0]]
    first, compact = kernel.first, 0
    for left, right in groups_of(now, before):
        if len(left) == 1 and len(right) == 1:
            axes.append(kernel.axes[left[0]])
            sizes.append(values.shape[left[0] + 1])
            if first is not None and left[0] == kernel.compact:
                compact = len(axes) - 1
            continue
        if first is not None and kernel.compact in left:
            full = kernel.full(now[kernel.compact])
            return regrouped(full, now, before, step)
        if any(kernel.axes[i] is not None for i in left):
            step.needs_position()
            spread = kernel.spread(now, [i for i in left if kernel.axes[i] is not None])
            return regrouped(spread, now, before, step)
        axes += [None] * len(right)
        sizes += [before[i] for i in right]
    return kernel.like(values.reshape(sizes), axes=tuple(axes), first=first, compact=compact, owned=False)


@rule("expand", "expand_as", "broadcast_to")
def expanded(step: Step) -> Passed:
    """Axes of size 1 repeated: summed."""
    from .arithmetic import reduced

    if len(step.shape()) != len(step.shape(step.source)):
        raise no_rule(step, "it adds axes")
    yield step.source, reduced(step, step.source, step.kernel)


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


@rule("cat", "concat", "concatenate")
def joined(step: Step) -> Passed:
    """Inputs one after another along an axis: a part of the kernel for each."""
    parts = step.arguments["tensors"]
    axis = axis_of(step, step.arguments["dim"])
    kernel = step.kernel
    span = kernel.axes[axis]
    if span is not None:
        step.needs_position()
    elif kernel.first is not None and kernel.compact == axis and kernel.values.shape[axis + 1] > 1:
        kernel = step.full()
    begin = 0
    for part in parts:
        size = step.shape(part)[axis]
        found = _part(kernel, axis, begin, size) if step.wants(part) else None
        if found is not None:
            yield part, found
        begin += size


def _part(kernel: Kernel, axis: int, begin: int, size: int) -> Kernel | None:
    span = kernel.axes[axis]
    if span is not None:
        axes = (*kernel.axes[:axis], span.at(span.start - begin), *kernel.axes[axis + 1 :])
        return kernel.like(kernel.values, axes=axes, owned=False)
    if kernel.first is not None and kernel.compact == axis:
        inside = (kernel.first >= begin) & (kernel.first < begin + size)
        part = kernel.chosen(inside)
        return None if part.first is None or not len(part.first) else part.like(part.values, first=part.first - begin)
    return kernel.like(kernel.values.narrow(axis + 1, begin, size), owned=False)


@rule("stack")
def stacked(step: Step) -> Passed:
    """Inputs along an axis of their own."""
    axis = axis_of(step, step.arguments["dim"])
    kernel = step.kernel
    if kernel.first is not None:
        kernel = step.full()
    if kernel.axes[axis] is not None:
        step.needs_position()
        kernel = kernel.spread(step.shape(), [axis])
    axes = tuple(a for i, a in enumerate(kernel.axes) if i != axis)
    for number, part in enumerate(step.arguments["tensors"]):
        if step.wants(part):
            yield part, kernel.like(kernel.values.select(axis + 1, number), axes=axes, owned=False)


@rule("pixel_unshuffle")
def unshuffled(step: Step) -> Passed:
    """Squares of positions into channels: the kernel's channels go back to their positions."""
    factor = int(step.arguments["downscale_factor"])
    kernel = step.full()
    spans = []
    for span in kernel.axes[1:]:
        if span is None:
            raise no_rule(step, "its positions were joined")
        spans.append(span.at(span.start * factor, factor))
    yield step.source, kernel.like(functional.pixel_shuffle(kernel.values, factor), axes=(None, *spans))


@rule("pixel_shuffle")
def reshuffled(step: Step) -> Passed:
    """Channels into squares of positions: which channel a position comes from depends on its phase."""
    step.needs_position()
    factor = int(step.arguments["upscale_factor"])
    kernel = step.full()
    values, spans = kernel.values, []
    for i, axis in enumerate(kernel.axes[1:], 1):
        span = axis or Span(0, None)
        low, high = span.start // factor, (span.start + values.shape[i + 1] - 1) // factor
        values = windowed(values, i + 1, low * factor - span.start, (high - low + 1) * factor)
        spans.append(span.at(low, Fraction(1, factor)))
    yield step.source, kernel.like(functional.pixel_unshuffle(values, factor), axes=(None, *spans))
