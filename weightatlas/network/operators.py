"""The rules of :mod:`.receptive`, one per operator of PyTorch's ATen library."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from .receptive import GRID, WHOLE, Trace, change, grid_axes, merge, pair, resized, through, trace_of, unknown

Rule = Callable[[Any, Any, Tensor], Trace]
RULES: dict[str, Rule] = {}

#: Operators that keep every element where it is, besides those that ATen itself tags as pointwise.
ELEMENTWISE = {
    "clone",
    "detach",
    "alias",
    "contiguous",
    "_to_copy",
    "copy",
    "lift_fresh",
    "dropout",
    "native_dropout",
    "hardswish",
    "hardswish_",
    "_prelu_kernel",
    "celu",
    "celu_",
    "selu",
    "selu_",
    "rrelu_with_noise",
    "channel_shuffle",
    "native_channel_shuffle",
}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule ``(args, kwargs, output) -> Trace`` for these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def operator_name(func: Any) -> str:
    """The operator's name without namespace and overload."""
    return func._schema.name.split("::")[-1]


def follow(func: Any, args: Any, kwargs: Any, out: Tensor, traces: list[Trace]) -> Trace:
    """The trace of an operator's (first) output."""
    name = operator_name(func)
    try:
        if name in RULES:
            return RULES[name](args, kwargs, out)
        if torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
            return elementwise(traces, out)
    except (LookupError, ValueError, ArithmeticError, TypeError, AttributeError) as error:
        # axes that are not what the rule expects; said in the table, never guessed
        return unknown(traces, out, f"{name} ({error})")
    return unknown(traces, out, name)


def elementwise(traces: list[Trace], out: Tensor) -> Trace:
    """Broadcasting: each output axis takes its meaning from an input that has it at full size."""
    dims = []
    for back in range(1, out.ndim + 1):
        size = out.shape[-back]
        fitting = [t.dims[-back] for t in traces if len(t.dims) >= back]
        fitting = [d for d in fitting if math.prod(n for _, n in d) == size] or [(("?", size),)]
        dims.insert(0, next((d for d in fitting if d[0][0] != "?"), fitting[0]))
    return Trace(tuple(dims), merge(traces))


def traced(args: Any, index: int = 0) -> Trace:
    """The trace of an operator's argument."""
    trace = trace_of(args[index])
    if trace is None:
        raise LookupError("its input is a constant")
    return trace


def argument(args: Any, index: int, default: Any) -> Any:
    """A positional argument that may be left out."""
    return args[index] if len(args) > index and args[index] is not None else default


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution")
def _convolution(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, (weight, _, stride, padding, dilation, transposed) = traced(args), args[1:7]
    count = weight.ndim - 2
    axes = grid_axes(x, count)
    channels = x.dims[-count - 1]
    if axes is None or any(a not in GRID for a in axes) or any(label in GRID for label, _ in channels):
        raise ValueError("axes are not [N, C, grid]")
    spans = x.spans
    for axis, k, s, p, d in zip(
        axes, weight.shape[2:], pair(stride, count), pair(padding, count), pair(dilation, count), strict=True
    ):
        reach = (k - 1) * d
        if transposed:  # output t hears input u where t = u·s − p + j·d
            spans = change(spans, axis, through(Fraction(p - reach, s), Fraction(p, s), Fraction(1, s)))
        else:
            spans = change(spans, axis, through(-p, reach - p, s))
    return Trace(resized(x, out.shape, {out.ndim - count - 1: ("C", out.shape[-count - 1])}), spans)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d", "max_pool2d")
def _max_pool(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _pool(args, out, dilation=argument(args, 4, 1))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _pool(args, out, dilation=1)


def _pool(args: Any, out: Tensor, dilation: Any) -> Trace:
    x, kernel = traced(args), args[1] if isinstance(args[1], list | tuple) else [args[1]]
    count = len(kernel)
    stride, padding = argument(args, 2, []) or kernel, argument(args, 3, 0)
    spans = x.spans
    for back, k, s, p, d in zip(
        range(count, 0, -1), kernel, pair(stride, count), pair(padding, count), pair(dilation, count), strict=True
    ):
        if (k, s, p) == (1, 1, 0):
            continue
        if len(x.dims[-back]) != 1:
            raise ValueError("pools over merged axes")
        spans = change(spans, x.dims[-back][0][0], through(-p, (k - 1) * d - p, s))
    return Trace(resized(x, out.shape, {}), spans)


@rule("_adaptive_avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool1d", "adaptive_max_pool1d")
def _adaptive_pool(args: Any, kwargs: Any, out: Tensor) -> Trace:
    def window(t: int, n: int, m: int) -> tuple[int, int]:
        return t * n // m, -(-(t + 1) * n // m) - 1

    return _resample(args, out, window, len(args[1]))


@rule("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d", "_upsample_nearest_exact1d")
def _nearest(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _resample(args, out, lambda t, n, m: (t * n // m, t * n // m), out.ndim - 2)


@rule("upsample_linear1d", "upsample_bilinear2d")
def _interpolated(args: Any, kwargs: Any, out: Tensor) -> Trace:
    corners, count = bool(args[2]), out.ndim - 2
    before, after = 0, 1

    def window(t: int, n: int, m: int) -> tuple[int, int]:
        at = Fraction(t * (n - 1), max(m - 1, 1)) if corners else Fraction((2 * t + 1) * n, 2 * m) - Fraction(1, 2)
        at = max(at, Fraction(0))
        first = math.floor(at)
        last = first if at == first else first + after
        return max(first - before, 0), min(last, n - 1)

    return _resample(args, out, window, count)


def _resample(args: Any, out: Tensor, window: Callable[[int, int, int], tuple[int, int]], count: int) -> Trace:
    """Operators whose windows depend on the position: the hull over all positions, exactly."""
    x = traced(args)
    axes = grid_axes(x, count)
    if axes is None:
        raise ValueError("resamples merged axes")
    spans = x.spans
    for axis, back in zip(axes, range(count, 0, -1), strict=True):
        n, m = x.dims[-back][0][1], out.shape[-back]
        if m == 1 and n > 1:
            spans = change(spans, axis, WHOLE)
            continue
        step = Fraction(n, m)
        windows = [window(t, n, m) for t in range(m)]
        lo = min(first - t * step for t, (first, _) in enumerate(windows))
        hi = max(last - t * step for t, (_, last) in enumerate(windows))
        spans = change(spans, axis, through(lo, hi, step))
    return Trace(resized(x, out.shape, {}), spans)


@rule("pixel_shuffle")
def _pixel_shuffle(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, r = traced(args), args[1]
    spans = x.spans
    for axis in grid_axes(x, 2) or []:
        spans = change(spans, axis, through(Fraction(1 - r, r), 0, Fraction(1, r)))
    return Trace(resized(x, out.shape, {}), spans)


@rule("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _pad(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, pads = traced(args), args[1]
    spans = x.spans
    for i in range(0, len(pads), 2):
        dim = x.dims[-1 - i // 2]
        if (pads[i] or pads[i + 1]) and len(dim) != 1:
            raise ValueError("pads merged axes")
        spans = change(spans, dim[0][0], through(-pads[i], -pads[i], 1))
    return Trace(resized(x, out.shape, {}), spans)
