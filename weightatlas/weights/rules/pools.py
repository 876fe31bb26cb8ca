"""Pooling and means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..compose import compose
from ..kernel import Kernel, Span, to_spans
from ..step import Passed, Step
from .linear import pair
from .table import no_rule, rule

_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d}


@rule("avg_pool1d", "avg_pool2d")
def average(step: Step) -> Passed:
    """Means over windows; in a pinned walk divided by what lies in them at borders, as the operator does."""
    n = int(step.operator[-2])
    a = step.arguments
    size = pair(a["kernel_size"], n)
    stride = pair(a["stride"] or size, n)
    padding = pair(a["padding"], n)
    last = range(len(step.kernel.axes) - n, len(step.kernel.axes))
    kernel = to_spans(step.kernel, last, step.pinned)
    count = a.get("divisor_override") or int(torch.tensor(size).prod())
    share: Tensor | float = 1 / count
    if step.pinned and not a.get("divisor_override"):
        share = _shares(step.shape(step.source)[-n:], step.shape()[-n:], size, stride, padding, a)
    kernel = kernel.scaled(share.to(kernel.values.device) if isinstance(share, Tensor) else share, step.pinned)
    yield step.source, windows(kernel, size, stride, padding)


def _shares(grid: Sequence[int], now: Sequence[int], size: Any, stride: Any, padding: Any, a: dict[str, Any]) -> Tensor:
    """1 / (how many elements each output is divided by), ``[1, *output grid]``."""
    covered = windows_counted(grid, size, stride, padding, [1] * len(size), now)
    if not a["count_include_pad"]:
        return 1 / covered
    # the mean of ones is (elements inside) / (divisor): of a window that hangs over the margin, the divisor is smaller
    ones = torch.ones((1, 1, *grid), device="cpu")
    return _AVERAGE[len(size)](ones, size, stride, padding, bool(a["ceil_mode"]), True)[0] / covered


def windows_counted(
    grid: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    now: Sequence[int],
) -> Tensor:
    """How many elements of the grid each window holds, ``[1, *output grid]``."""
    parts = []
    for n, k, s, p, d, m in zip(grid, size, stride, padding, dilation, now, strict=True):
        places = torch.arange(m)[:, None] * s - p + torch.arange(k) * d
        parts.append(((places >= 0) & (places < n)).sum(1))
    return (parts[0][:, None] * parts[1] if len(parts) == 2 else parts[0]).float()[None]


def windows(
    kernel: Kernel,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> Kernel:
    """The kernel on the input of sums over windows, each channel on its own; a compact kernel stays compact."""
    values, n = kernel.values, len(size)
    for i, (k, s, d) in enumerate(zip(size, stride, dilation or [1] * n, strict=True), values.ndim - n):
        values = _overlapped(values, i, k, s, d)
    return kernel.like(values, axes=_moved(kernel, stride, padding))


def _overlapped(values: Tensor, axis: int, size: int, stride: int, dilation: int) -> Tensor:
    """Every element repeated ``size`` times along an axis, ``stride`` further for each element, overlaps summed."""
    shape = list(values.shape)
    reach = (shape[axis] - 1) * stride + 1
    shape[axis] = reach + (size - 1) * dilation
    out = values.new_zeros(shape)
    before = (slice(None),) * axis
    for begin in range(0, size * dilation, dilation):
        out[(*before, slice(begin, begin + reach, stride))] += values
    return out


def weighted_windows(
    kernel: Kernel, shares: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Kernel:
    """The same with a weight for each element of the window and each channel, ``[C, H, W]`` or ``[C, W]``."""
    weight = shares.to(kernel.values.device, kernel.values.dtype)[:, None]
    if kernel.first is not None and kernel.values.shape[1] > 1:
        kernel = kernel.full(len(weight))
    values, steps, every = kernel.values, tuple(stride), tuple(dilation)
    if len(stride) == 1:
        values, weight, steps, every = values.unsqueeze(2), weight.unsqueeze(2), (1, *steps), (1, *every)
    out, first = compose(values, kernel.first, weight, (steps[0], steps[1]), (every[0], every[1]), len(weight))
    out = out.squeeze(2) if len(stride) == 1 else out
    return kernel.like(out, axes=_moved(kernel, stride, padding), first=first)


def _moved(kernel: Kernel, stride: Sequence[int], padding: Sequence[int]) -> tuple[Span | None, ...]:
    """The axes of a kernel on the input of windows."""
    spans = [s for s in kernel.axes[-len(stride) :] if s is not None]
    moved = (s.at(s.start * n - p, n) for s, n, p in zip(spans, stride, padding, strict=True))
    return (*kernel.axes[: -len(stride)], *moved)


@rule("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool1d_with_indices")
def largest(step: Step) -> Passed:
    """The largest element of each window: what the reading says, as a rule the mean."""
    if step.index != 0:
        raise no_rule(step, "its second output, the places")
    n = 2 if "2d" in step.operator else 1
    size = pair(step.arguments["kernel_size"], n)
    yield step.source, step.reading.largest(step, size, pair(step.arguments["stride"] or size, n))


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_average(step: Step) -> Passed:
    """Means over windows that divide the grid as evenly as they can."""
    yield step.source, adaptive(step)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive_largest(step: Step) -> Passed:
    """The same of the largest, read as the mean."""
    if step.index != 0:
        raise no_rule(step, "its second output, the places")
    yield step.source, step.reading.largest(step, (), ())


def adaptive(step: Step) -> Kernel:
    """The kernel on the input of an adaptive mean."""
    from .resampling import separable

    n = int(step.operator[-2])
    before, now = step.shape(step.source)[-n:], step.shape()[-n:]
    if before == now:
        return step.kernel
    if all(b % a == 0 and a > 1 for b, a in zip(before, now, strict=True)):
        size = [b // a for b, a in zip(before, now, strict=True)]
        kernel = to_spans(step.kernel, range(len(now) + 1)[-n:], step.pinned)
        count = float(torch.tensor(size).prod())
        return windows(kernel.scaled(1 / count), size, size, [0] * n)
    return separable(step, [_adaptive_matrix(b, a) for b, a in zip(before, now, strict=True)])


def _adaptive_matrix(before: int, now: int) -> Tensor:
    eye = torch.eye(before, device="cpu")
    return functional.adaptive_avg_pool1d(eye[None], now)[0].t()


@rule("mean", "sum")
def averaged(step: Step) -> Passed:
    """The mean or sum over axes: spread evenly."""
    from .shapes import axis_of

    a = step.arguments
    if a.get("dim") is None:
        raise no_rule(step, "it takes in the batch axis")
    shape = step.shape(step.source)
    dims = a["dim"] if isinstance(a["dim"], Sequence) else [a["dim"]]
    over = sorted(axis_of(step, d, step.source) for d in dims)
    kernel = step.kernel
    if kernel.first is not None:
        kernel = step.full()
    values, axes = kernel.values, list(kernel.axes)
    for axis in over:
        if a.get("keepdim"):
            if axes[axis] is not None:
                step.needs_position()
                values = kernel.spread([1 if i in over else n for i, n in enumerate(shape)], [axis]).values
                kernel = kernel.like(values)
        else:
            values = values.unsqueeze(axis + 1)
            axes.insert(axis, None)
        axes[axis] = None
        kernel = kernel.like(values, axes=tuple(axes))
    count = 1
    for axis in over:
        count *= shape[axis]
    size = [-1 if i not in over else shape[i] for i in range(len(shape))]
    values = values.expand(-1, *size) * (1 / count if step.operator == "mean" else 1.0)
    yield step.source, kernel.like(values, axes=tuple(axes))
