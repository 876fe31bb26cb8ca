"""Operators that join values along an axis, and those that trade channels for positions."""

from __future__ import annotations

from fractions import Fraction

from torch.nn import functional

from ..kernel import Kernel, Span, windowed
from ..step import Passed, Step
from .shapes import axis_of
from .table import no_rule, rule


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
        if not bool(inside.any()):
            return None
        part = kernel.chosen(inside)
        first = None if part.first is None else part.first - begin
        return part.like(part.values, first=first, owned=False)
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
