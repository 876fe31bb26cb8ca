"""The rules of :mod:`.receptive`, one per operator of PyTorch's ATen library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from .receptive import (
    GRID,
    WHOLE,
    Span,
    Spans,
    Trace,
    aligned,
    change,
    grid_axes,
    lose,
    merge,
    pair,
    resized,
    sized,
    through,
    trace_of,
    unknown,
)

Rule = Callable[[Any, Any, Tensor], Trace]
#: (position, input size, output size, scale if one was given) -> first and last position read
Window = Callable[[int, int, int, float | None], tuple[int, int]]
RULES: dict[str, Rule] = {}
#: Operators whose rule looks at all of their inputs; other rules look at the first one.
SEVERAL: set[str] = set()

#: Operators whose output has an input's shape and nothing of its values.
CONSTANTS = {f"{what}_like" for what in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")} | {
    f"new_{what}" for what in ("empty", "zeros", "ones", "full", "empty_strided")
}

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


def rule(*names: str, several: bool = False) -> Callable[[Rule], Rule]:
    """Registers a rule ``(args, kwargs, output) -> Trace`` for these operators; see :data:`SEVERAL`."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        SEVERAL.update(names if several else ())
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
            trace = RULES[name](args, kwargs, out)
            trace = trace if name in SEVERAL else _with_others(trace, args, traces, name)
        elif torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
            trace = elementwise(traces, out)
        else:
            return unknown(traces, out, name)
    except (LookupError, ValueError, ArithmeticError, TypeError, AttributeError) as error:
        # axes that are not what the rule expects; said in the table, never guessed
        return unknown(traces, out, f"{name} ({error})")
    return trace if sized(trace.dims) == tuple(out.shape) else unknown(traces, out, name)


def _with_others(trace: Trace, args: Any, traces: list[Trace], name: str) -> Trace:
    """Adds what a rule for the first input leaves out: kernels, scales or biases computed from the input."""
    first = trace_of(args[0])
    others = [Trace(t.dims, _lost(t.spans, f"unknown: {name} with computed weights")) for t in traces if t is not first]
    return Trace(trace.dims, merge([trace, *others])) if others else trace


def _lost(spans: Spans, why: str) -> Spans:
    for axis in GRID:
        spans = lose(spans, axis, why)
    return spans


def elementwise(traces: list[Trace], out: Tensor) -> Trace:
    """Broadcasting: each output axis takes its meaning from an input that has it at full size."""
    dims = []
    for back in range(1, out.ndim + 1):
        size = out.shape[-back]
        fitting = [t.dims[-back] for t in traces if len(t.dims) >= back]
        fitting = [d for d in fitting if math.prod(n for _, n in d) == size] or [(("?", size),)]
        dims.insert(0, next((d for d in fitting if d[0][0] != "?"), fitting[0]))
    return Trace(tuple(dims), merge(aligned(traces, tuple(dims))))


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
        # what came in is not known to be [N, C, grid], but what goes out is
        names = ("C", *GRID[2 - count :]) if count <= len(GRID) else ("?",) * (count + 1)
        named = tuple(((label, n),) for label, n in zip(names, out.shape[-count - 1 :], strict=True))
        lead = tuple((("N", n),) for n in out.shape[: -count - 1])
        return Trace(lead + named, unknown([x], out, "a convolution over axes that could not be told").spans)
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
    def window(t: int, n: int, m: int, scale: float | None) -> tuple[int, int]:
        return t * n // m, -(-(t + 1) * n // m) - 1

    return _resample(args, out, window, len(args[1]))


@rule("upsample_nearest1d", "upsample_nearest2d")
def _nearest(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _resample(args, out, _pick(0.0), out.ndim - 2, args[2:])


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d")
def _nearest_exact(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _resample(args, out, _pick(0.5), out.ndim - 2, args[2:])


def _pick(shift: float) -> Window:
    """The one position that nearest neighbours pick, in the kernel's own single precision."""

    def window(t: int, n: int, m: int, scale: float | None) -> tuple[int, int]:
        ratio = torch.tensor(1 / scale if scale else n / m, dtype=torch.float32)
        at = t if n == m else min(int(((t + shift) * ratio).floor()), n - 1)
        return at, at

    return window


@rule("upsample_linear1d", "upsample_bilinear2d")
def _interpolated(args: Any, kwargs: Any, out: Tensor) -> Trace:
    corners = bool(args[2])

    def window(t: int, n: int, m: int, scale: float | None) -> tuple[int, int]:
        ratio = Fraction(1 / scale) if scale else Fraction(n, m)
        at = Fraction(t * (n - 1), max(m - 1, 1)) if corners else (t + Fraction(1, 2)) * ratio - Fraction(1, 2)
        first = math.floor(max(at, Fraction(0)))
        return min(first, n - 1), min(first if at == first else first + 1, n - 1)

    return _resample(args, out, window, out.ndim - 2, args[3:])


def _resample(args: Any, out: Tensor, window: Window, count: int, scales: Sequence[float | None] = ()) -> Trace:
    """Operators whose windows depend on the position: the hull over all positions, exactly."""
    x = traced(args)
    axes = grid_axes(x, count)
    if axes is None:
        raise ValueError("resamples merged axes")
    spans = x.spans
    given = (*scales, *(None,) * count)[:count]
    for axis, back, scale in zip(axes, range(count, 0, -1), given, strict=True):
        n, m = x.dims[-back][0][1], out.shape[-back]
        if m == 1 and n > 1:
            spans = change(spans, axis, WHOLE)
            continue
        step = Fraction(1 / scale).limit_denominator(1000) if scale else Fraction(n, m)
        windows = [window(t, n, m, scale) for t in range(m)]
        lo = min(first - t * step for t, (first, _) in enumerate(windows))
        hi = max(last - t * step for t, (_, last) in enumerate(windows))
        spans = change(spans, axis, through(lo, hi, step))
    return Trace(resized(x, out.shape, {}), spans)


@rule("pixel_shuffle")
def _pixel_shuffle(args: Any, kwargs: Any, out: Tensor) -> Trace:
    r = args[1]
    return _shuffled(args, out, through(Fraction(1 - r, r), 0, Fraction(1, r)))


@rule("pixel_unshuffle")
def _pixel_unshuffle(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _shuffled(args, out, through(0, args[1] - 1, args[1]))


def _shuffled(args: Any, out: Tensor, how: Callable[[Span], Span]) -> Trace:
    x = traced(args)
    axes = grid_axes(x, 3)
    if axes is None or axes[0] in GRID:
        raise ValueError("axes are not [C, y, x]")
    spans = x.spans
    for axis in axes[1:]:
        spans = change(spans, axis, how)
    return Trace(resized(x, out.shape, {}), spans)


@rule("constant_pad_nd")
def _pad(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _padded(args, out, lambda before, after: through(-before, -before, 1))


@rule("reflection_pad1d", "reflection_pad2d")
def _reflect(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _padded(args, out, lambda before, after: lambda span: span.mirrored(before, after, repeat=False))


@rule("replication_pad1d", "replication_pad2d")
def _replicate(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _padded(args, out, lambda before, after: lambda span: span.mirrored(before, after, repeat=True))


def _padded(args: Any, out: Tensor, how: Callable[[int, int], Callable[[Span], Span]]) -> Trace:
    x, pads = traced(args), args[1]
    spans = x.spans
    for i in range(0, len(pads), 2):
        dim = x.dims[-1 - i // 2]
        if not (pads[i] or pads[i + 1]):
            continue
        if len(dim) != 1:
            raise ValueError("pads merged axes")
        spans = change(spans, dim[0][0], how(pads[i], pads[i + 1]))
    return Trace(resized(x, out.shape, {}), spans)
