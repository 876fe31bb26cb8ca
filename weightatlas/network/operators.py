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
    Dims,
    Span,
    Trace,
    blur,
    change,
    grid_axes,
    merge,
    pair,
    regroup,
    resized,
    trace_of,
    unknown,
)

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


def _traced(args: Any, index: int = 0) -> Trace:
    trace = trace_of(args[index])
    if trace is None:
        raise LookupError("its input is a constant")
    return trace


def _arg(args: Any, index: int, default: Any) -> Any:
    return args[index] if len(args) > index and args[index] is not None else default


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution")
def _convolution(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, (weight, _, stride, padding, dilation, transposed) = _traced(args), args[1:7]
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
            spans = change(spans, axis, _through(Fraction(p - reach, s), Fraction(p, s), Fraction(1, s)))
        else:
            spans = change(spans, axis, _through(-p, reach - p, s))
    return Trace(resized(x, out.shape, {out.ndim - count - 1: ("C", out.shape[-count - 1])}), spans)


def _through(lo: Fraction | int, hi: Fraction | int, step: Fraction | int) -> Callable[[Span], Span]:
    return lambda span: span.through(lo, hi, step)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d", "max_pool2d")
def _max_pool(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _pool(args, out, dilation=_arg(args, 4, 1))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _pool(args, out, dilation=1)


def _pool(args: Any, out: Tensor, dilation: Any) -> Trace:
    x, kernel = _traced(args), args[1] if isinstance(args[1], list | tuple) else [args[1]]
    count = len(kernel)
    stride, padding = _arg(args, 2, []) or kernel, _arg(args, 3, 0)
    spans = x.spans
    for back, k, s, p, d in zip(
        range(count, 0, -1), kernel, pair(stride, count), pair(padding, count), pair(dilation, count), strict=True
    ):
        if (k, s, p) == (1, 1, 0):
            continue
        if len(x.dims[-back]) != 1:
            raise ValueError("pools over merged axes")
        spans = change(spans, x.dims[-back][0][0], _through(-p, (k - 1) * d - p, s))
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
    x = _traced(args)
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
        spans = change(spans, axis, _through(lo, hi, step))
    return Trace(resized(x, out.shape, {}), spans)


@rule("pixel_shuffle")
def _pixel_shuffle(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, r = _traced(args), args[1]
    spans = x.spans
    for axis in grid_axes(x, 2) or []:
        spans = change(spans, axis, _through(Fraction(1 - r, r), 0, Fraction(1, r)))
    return Trace(resized(x, out.shape, {}), spans)


@rule("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _pad(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, pads = _traced(args), args[1]
    spans = x.spans
    for i in range(0, len(pads), 2):
        dim = x.dims[-1 - i // 2]
        if (pads[i] or pads[i + 1]) and len(dim) != 1:
            raise ValueError("pads merged axes")
        spans = change(spans, dim[0][0], _through(-pads[i], -pads[i], 1))
    return Trace(resized(x, out.shape, {}), spans)


@rule("slice")
def _slice(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = _traced(args), _arg(args, 1, 0) % out.ndim
    size = math.prod(n for _, n in x.dims[dim])
    first, _, step = slice(_arg(args, 2, 0), None, _arg(args, 4, 1)).indices(size)
    if out.shape[dim] == size:
        return Trace(x.dims, x.spans)
    if len(x.dims[dim]) != 1:
        return Trace(resized(x, out.shape, {dim: ("?", out.shape[dim])}), blur(x.spans, x.dims[dim], "unknown: slice"))
    return Trace(resized(x, out.shape, {}), change(x.spans, x.dims[dim][0][0], _through(first, first, step)))


@rule("select", "unbind")
def _select(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = _traced(args), _arg(args, 1, 0) % (out.ndim + 1)
    return Trace(x.dims[:dim] + x.dims[dim + 1 :], blur(x.spans, x.dims[dim], "unknown: select"))


@rule("split", "split_with_sizes", "chunk")
def _split(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = _traced(args), _arg(args, 2, 0) % out.ndim
    dims = resized(x, out.shape, {})
    if any(label in GRID for label, _ in x.dims[dim]):
        return Trace(dims, blur(x.spans, x.dims[dim], "unknown: split along positions"))
    return Trace(dims, x.spans)


@rule("cat", "stack")
def _cat(args: Any, kwargs: Any, out: Tensor) -> Trace:
    traces = [t for t in map(trace_of, args[0]) if t is not None]
    dim = _arg(args, 1, 0) % out.ndim
    spans, first = merge(traces), traces[0]
    if len(first.dims) != out.ndim:  # stack: a new axis
        return Trace((*first.dims[:dim], (("?", out.shape[dim]),), *first.dims[dim:]), spans)
    if all(t.dims[dim][0][0] == "C" for t in traces):
        return Trace(resized(first, out.shape, {dim: ("C", out.shape[dim])}), spans)
    spans = blur(spans, first.dims[dim], "unknown: joined along positions")
    return Trace(resized(first, out.shape, {dim: ("?", out.shape[dim])}), spans)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten")
def _view(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    result = regroup(x.dims, out.shape)
    if result is None:
        return unknown([x], out, "a reshape that cuts across axes")
    dims, torn = result
    spans = x.spans
    for label in torn:
        spans = change(spans, label, "unknown: a reshape that cuts the grid") if label in GRID else spans
    return Trace(dims, spans)


@rule("permute", "transpose", "t", "swapaxes", "movedim")
def _permute(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    if len(args) == 2:
        order = [d % out.ndim for d in args[1]]
    else:
        order = list(range(out.ndim))
        a, b = (args[1] % out.ndim, args[2] % out.ndim) if len(args) > 2 else (0, out.ndim - 1)
        order[a], order[b] = order[b], order[a]
    return Trace(tuple(x.dims[d] for d in order), x.spans)


@rule("expand")
def _expand(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    new = out.ndim - len(x.dims)
    dims: list[Any] = [(("?", n),) for n in out.shape[:new]]
    for dim, n in zip(x.dims, out.shape[new:], strict=True):
        dims.append(dim if math.prod(s for _, s in dim) == n else ((dim[0][0], n),))
    return Trace(tuple(dims), x.spans)


def _reduced(x: Trace, out: Tensor, dim: Any, keep: bool) -> Trace:
    rank = len(x.dims)
    over = range(rank) if dim is None or dim == [] else [d % rank for d in pair(dim, 1)]
    spans = x.spans
    for d in over:
        spans = blur(spans, x.dims[d], WHOLE)
    kept = [tuple((label, 1) for label, _ in d) if i in over else d for i, d in enumerate(x.dims)]
    return Trace(tuple(d for i, d in enumerate(kept) if keep or i not in over), spans)


@rule("mean", "sum", "amax", "amin", "logsumexp", "prod", "max", "min")
def _reduce(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _reduced(_traced(args), out, _arg(args, 1, None), bool(_arg(args, 2, False)))


@rule("var", "std", "linalg_vector_norm", "norm")
def _reduce_by(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    keep = out.ndim == len(x.dims)
    dim = next((a for a in args[1:] if isinstance(a, list | tuple)), None)
    return _reduced(x, out, dim, keep)


@rule("_softmax", "_log_softmax", "softmax", "cumsum")
def _softmax(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    return Trace(x.dims, blur(x.spans, x.dims[args[1]], WHOLE))


@rule("native_layer_norm")
def _layer_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    normalised = [atom for dim in x.dims[len(x.dims) - len(args[1]) :] for atom in dim]
    return Trace(x.dims, blur(x.spans, normalised, WHOLE))


@rule("native_group_norm")
def _group_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    return Trace(x.dims, blur(x.spans, [a for dim in x.dims for a in dim], WHOLE))


@rule("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "batch_norm", "miopen_batch_norm")
def _batch_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    own_statistics = args[5] is True  # of this very input: every position counts
    return Trace(x.dims, blur(x.spans, [a for dim in x.dims for a in dim], WHOLE) if own_statistics else x.spans)


@rule("_native_batch_norm_legit_no_training")
def _batch_norm_frozen(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = _traced(args)
    return Trace(x.dims, x.spans)


@rule("mm", "bmm", "matmul", "linear", "_int_mm", "mv", "dot")
def _matmul(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _product(args[0], args[1], out)


@rule("addmm", "baddbmm", "addbmm", "addmv")
def _add_matmul(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _product(args[1], args[2], out)


def _product(a: Tensor, b: Tensor, out: Tensor) -> Trace:
    left, right = trace_of(a), trace_of(b)
    new: Dims = ((("C", out.shape[-1]),),)
    if left is not None and right is None:  # rows of features times a weight matrix
        return Trace(left.dims[:-1] + new, blur(left.spans, left.dims[-1], WHOLE))
    if left is None and right is not None:
        kept: Sequence[Any] = (*right.dims[:-2], (("C", out.shape[-2]),), *right.dims[-1:])
        return Trace(tuple(kept), blur(right.spans, right.dims[-2], WHOLE))
    traces = [t for t in (left, right) if t is not None]
    if len(traces) != 2:
        raise LookupError("a product of constants")
    spans = merge(traces)  # attention: every position may hear every other
    for t in traces:
        for dim in t.dims:
            spans = blur(spans, dim, WHOLE)
    return Trace(traces[0].dims[:-1] + traces[1].dims[-1:], spans)


@rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_attention_math",
    "_transformer_encoder_layer_fwd",
    "_native_multi_head_attention",
)
def _attention(args: Any, kwargs: Any, out: Tensor) -> Trace:
    traces = [t for t in map(trace_of, args[:3]) if t is not None]
    spans = merge(traces)
    for t in traces:
        for dim in t.dims:
            spans = blur(spans, dim, WHOLE)
    return Trace(traces[0].dims, spans)
