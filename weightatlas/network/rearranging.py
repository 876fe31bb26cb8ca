"""More rules: operators that rearrange, reduce or multiply axes. Importing this registers them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .operators import argument, rule, traced
from .receptive import (
    GRID,
    WHOLE,
    Dims,
    Trace,
    aligned,
    blur,
    change,
    merge,
    pair,
    regroup,
    resized,
    sized,
    through,
    trace_of,
    unknown,
)


@rule("slice")
def _slice(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = traced(args), argument(args, 1, 0) % out.ndim
    size = math.prod(n for _, n in x.dims[dim])
    first, _, step = slice(argument(args, 2, 0), None, argument(args, 4, 1)).indices(size)
    if out.shape[dim] == size:
        return Trace(x.dims, x.spans)
    if len(x.dims[dim]) != 1:
        return Trace(resized(x, out.shape, {dim: ("?", out.shape[dim])}), blur(x.spans, x.dims[dim], "unknown: slice"))
    return Trace(resized(x, out.shape, {}), change(x.spans, x.dims[dim][0][0], through(first, first, step)))


@rule("select", "unbind")
def _select(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = traced(args), argument(args, 1, 0) % (out.ndim + 1)
    return Trace(x.dims[:dim] + x.dims[dim + 1 :], blur(x.spans, x.dims[dim], "unknown: select"))


@rule("split", "split_with_sizes", "chunk")
def _split(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = traced(args), argument(args, 2, 0) % out.ndim
    dims = resized(x, out.shape, {})
    if any(label in GRID for label, _ in x.dims[dim]):
        return Trace(dims, blur(x.spans, x.dims[dim], "unknown: split along positions"))
    return Trace(dims, x.spans)


@rule("glu")
def _glu(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = traced(args), argument(args, 1, -1) % out.ndim
    return Trace(resized(x, out.shape, {}), blur(x.spans, x.dims[dim], "unknown: glu along positions"))


@rule("cat", "stack", several=True)
def _cat(args: Any, kwargs: Any, out: Tensor) -> Trace:
    traces = [t for t in map(trace_of, args[0]) if t is not None]
    dim = argument(args, 1, 0) % out.ndim
    first = traces[0]
    if len(first.dims) != out.ndim:  # stack: a new axis
        spans = merge(aligned(traces, first.dims))
        return Trace((*first.dims[:dim], (("?", out.shape[dim]),), *first.dims[dim:]), spans)
    label = "C" if all("C" in dict(t.dims[dim]) for t in traces) else "?"
    # the joined axis has no positions any more: any that were flattened into it are lost
    why = WHOLE if label == "C" else "unknown: joined along positions"
    kept = [Trace((*t.dims[:dim], (("?", 1),), *t.dims[dim + 1 :]), blur(t.spans, t.dims[dim], why)) for t in traces]
    return Trace(resized(first, out.shape, {dim: (label, out.shape[dim])}), merge(aligned(kept, kept[0].dims)))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
def _view(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    result = regroup(x.dims, out.shape)
    if result is None:
        return unknown([x], out, "a reshape that cuts across axes")
    dims, torn = result
    spans = x.spans
    for label in torn:
        spans = change(spans, label, "unknown: a reshape that cuts the grid") if label in GRID else spans
    return Trace(dims, spans)


@rule("unsqueeze")
def _unsqueeze(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x, dim = traced(args), args[1] % out.ndim
    return Trace((*x.dims[:dim], (("?", 1),), *x.dims[dim:]), x.spans)


@rule("squeeze")
def _squeeze(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    shape, rank = sized(x.dims), len(x.dims)
    chosen = [d % rank for d in pair(args[1], 1)] if len(args) > 1 else range(rank)
    return Trace(tuple(dim for i, dim in enumerate(x.dims) if not (i in chosen and shape[i] == 1)), x.spans)


@rule("permute", "transpose", "t", "swapaxes", "movedim")
def _permute(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    if len(args) == 2:
        order = [d % out.ndim for d in args[1]]
    else:
        order = list(range(out.ndim))
        a, b = (args[1] % out.ndim, args[2] % out.ndim) if len(args) > 2 else (0, out.ndim - 1)
        order[a], order[b] = order[b], order[a]
    return Trace(tuple(x.dims[d] for d in order), x.spans)


@rule("expand")
def _expand(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    new = out.ndim - len(x.dims)
    dims: list[Any] = [(("?", n),) for n in out.shape[:new]]
    for dim, n in zip(x.dims, out.shape[new:], strict=True):
        # repeated, one position is many that see the same: no longer that axis, unless each sees everything anyway
        named = dim[0][0] not in GRID or all(v.get(dim[0][0]) == WHOLE for v in x.spans.values())
        dims.append(dim if math.prod(s for _, s in dim) == n else ((dim[0][0] if named else "?", n),))
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
    return _reduced(traced(args), out, argument(args, 1, None), bool(argument(args, 2, False)))


@rule("var", "std", "linalg_vector_norm", "norm")
def _reduce_by(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    keep = out.ndim == len(x.dims)
    dim = next((a for a in args[1:] if isinstance(a, list | tuple)), None)
    return _reduced(x, out, dim, keep)


@rule("_softmax", "_log_softmax", "softmax", "cumsum")
def _softmax(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    return Trace(x.dims, blur(x.spans, x.dims[args[1]], WHOLE))


@rule("native_layer_norm")
def _layer_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    normalised = [atom for dim in x.dims[len(x.dims) - len(args[1]) :] for atom in dim]
    return Trace(x.dims, blur(x.spans, normalised, WHOLE))


@rule("native_group_norm")
def _group_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    return Trace(x.dims, blur(x.spans, [a for dim in x.dims for a in dim], WHOLE))


@rule("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "batch_norm", "miopen_batch_norm")
def _batch_norm(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    # whether it normalises by this very input, so that every position counts; not all variants take the statistics
    own_statistics = next((a for a in args[3:] if isinstance(a, bool)), True)
    return Trace(x.dims, blur(x.spans, [a for dim in x.dims for a in dim], WHOLE) if own_statistics else x.spans)


@rule("_native_batch_norm_legit_no_training")
def _batch_norm_frozen(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    return Trace(x.dims, x.spans)


@rule("mm", "bmm", "matmul", "_int_mm", "mv", "dot", several=True)
def _matmul(args: Any, kwargs: Any, out: Tensor) -> Trace:
    return _product(args[0], args[1], out)


@rule("linear")
def _linear(args: Any, kwargs: Any, out: Tensor) -> Trace:
    x = traced(args)
    return Trace((*x.dims[:-1], (("C", out.shape[-1]),)), blur(x.spans, x.dims[-1], WHOLE))


@rule("addmm", "baddbmm", "addbmm", "addmv", several=True)
def _add_matmul(args: Any, kwargs: Any, out: Tensor) -> Trace:
    if trace_of(args[0]) is not None:
        raise LookupError("its bias is computed")
    return _product(args[1], args[2], out)


def _product(a: Tensor, b: Tensor, out: Tensor) -> Trace:
    left, right = trace_of(a), trace_of(b)
    new: Dims = ((("C", out.shape[-1]),),)
    if left is not None and right is None:  # rows of features times a weight matrix
        return Trace(left.dims[:-1] + new, blur(left.spans, left.dims[-1], WHOLE))
    if left is None and right is not None:
        if out.ndim == 1 or len(right.dims) < 2:
            raise LookupError("a vector is its second factor")
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
    several=True,
)
def _attention(args: Any, kwargs: Any, out: Tensor) -> Trace:
    traces = [t for t in map(trace_of, args[:3]) if t is not None]
    spans = merge(traces)
    for t in traces:
        for dim in t.dims:
            spans = blur(spans, dim, WHOLE)
    return Trace(unknown(traces, out, "attention").dims, spans)
