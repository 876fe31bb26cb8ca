"""Convolutions, linear maps, batch norm."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from ..compose import compose
from ..kernel import Kernel, Span, to_spans
from ..step import Passed, Step
from .table import no_rule, rule


def pair(values: Any, count: int) -> tuple[int, ...]:
    """A number or list as ``count`` numbers."""
    values = list(values) if isinstance(values, Sequence) else [values]
    return tuple(int(v) for v in (values * count if len(values) == 1 else values))


@rule("conv1d", "conv2d", "convolution", "conv_transpose1d", "conv_transpose2d")
def convolution(step: Step) -> Passed:
    """out[o, t] = Σ W[o, i, r] · in[i, t·stride − padding + r·dilation]; the transposed one the other way round."""
    weight = step.constant("weight")
    if weight is None or weight.ndim not in (3, 4):
        raise no_rule(step, f"a convolution with {0 if weight is None else weight.ndim - 2} axes of positions")
    n = weight.ndim - 2
    a = step.arguments
    stride, dilation = pair(a["stride"], n), pair(a["dilation"], n)
    groups = int(a["groups"])
    positions = range(1, 1 + n)
    kernel = to_spans(step.kernel, positions, step.pinned)
    if step.operator.startswith("conv_transpose") or a.get("transposed"):
        padding = pair(a["padding"], n)
        yield step.source, _transposed(step, kernel, weight, stride, padding, dilation, groups)
        return
    padding = _padding(a["padding"], weight.shape[2:], dilation)
    values, first = kernel.values, kernel.first
    if first is not None and groups > 1:
        size = weight.shape[0] // groups  # rows that reach over several groups cannot stay compact
        if bool((first // size != (first + values.shape[1] - 1) // size).any()):
            kernel = kernel.full(weight.shape[0])
            values, first = kernel.values, None
    flat = n == 1
    out, begin = compose(
        values.unsqueeze(2) if flat else values,
        first,
        weight.unsqueeze(2) if flat else weight,
        (1, *stride) if flat else stride,  # pyright: ignore[reportArgumentType]
        (1, *dilation) if flat else dilation,  # pyright: ignore[reportArgumentType]
        groups,
    )
    spans = tuple(
        s.at(s.start * stride[i] - padding[i], stride[i]) for i, s in enumerate(kernel.axes[1:]) if s is not None
    )
    yield step.source, kernel.like(out.squeeze(2) if flat else out, axes=(None, *spans), first=begin, compact=0)


def _padding(padding: Any, size: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Zeros before the first element; of ``"same"`` the smaller half."""
    if isinstance(padding, str):
        return tuple((k - 1) * d // 2 if padding == "same" else 0 for k, d in zip(size, dilation, strict=True))
    return pair(padding, len(size))


def _transposed(
    step: Step,
    kernel: Kernel,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Kernel:
    """out[o, q·stride − padding + r·dilation] += W[i, o, r] · in[i, q]: which q reach a window depends on its place."""
    step.needs_position()
    kernel = kernel.full(step.shape()[0])
    values, spans, margins = kernel.values, [], []
    for i, span in enumerate(kernel.axes[1:]):
        span = span or Span(0, None)
        size, reach = values.shape[2 + i], (weight.shape[2 + i] - 1) * dilation[i]
        low = -(-(span.start + padding[i] - reach) // stride[i])  # rounded up
        high = (span.start + size - 1 + padding[i]) // stride[i]
        before = span.start - (low * stride[i] - padding[i])
        after = (high * stride[i] - padding[i] + reach) - (span.start + size - 1)
        margins = [before, after, *margins]
        spans.append(span.at(low, Fraction(1, stride[i])))
    values = functional.pad(values, margins)
    mixed = functional.conv1d if weight.ndim == 3 else functional.conv2d
    out = mixed(values, weight, None, stride, 0, dilation, groups)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return kernel.like(out, axes=(None, *spans))


@rule("linear")
def linear(step: Step) -> Passed:
    """out[…, o] = Σ W[o, i] · in[…, i]."""
    weight = step.constant("weight")
    if weight is None:
        raise no_rule(step)
    yield step.arguments["input"], mixed(step, weight)


def mixed(step: Step, weight: Tensor) -> Kernel:
    """The kernel on the input of a matrix ``[O, I]`` along the last axis."""
    kernel = step.kernel
    last = len(kernel.axes) - 1
    if kernel.axes[last] is not None:
        step.needs_position()
        kernel = kernel.spread(step.shape(), [last])
    if kernel.first is not None and kernel.compact != last:
        kernel = kernel.full(step.shape()[kernel.compact])
    values = kernel.values.movedim(-1, 1)
    shape = values.shape[2:]
    flat = values.reshape(*values.shape[:2], -1, 1)
    out, _ = compose(flat, kernel.first, weight[:, :, None, None])
    return kernel.like(out.reshape(len(out), -1, *shape).movedim(1, -1), first=None)


@rule("matmul", "mm")
def product(step: Step) -> Passed:
    """In @ W with a constant W ``[I, O]``."""
    left, right = (step.node.args[i] for i in (0, 1))
    if step.depends(right) or not isinstance(right, fx.Node):
        raise no_rule(step, "a product of two values that both depend on the input")
    weight = step.constant_of(right)
    if weight.ndim != 2:
        raise no_rule(step, f"a constant of {weight.ndim} axes")
    yield left, mixed(step, weight.t())  # pyright: ignore[reportReturnType]


@rule("addmm")
def added_product(step: Step) -> Passed:
    """Bias + in @ W with a constant W ``[I, O]``."""
    a = step.arguments
    weight = step.constant("mat2")
    if weight is None or step.depends(a["self"]):
        raise no_rule(step)
    yield a["mat1"], mixed(step, weight.t() * a.get("alpha", 1))


@rule(
    "_native_batch_norm_legit_no_training", "batch_norm", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
)  # fmt: skip
def batch_norm(step: Step) -> Passed:
    """Out = (in − μ) · γ / √(σ² + ε) + β with kept μ, σ²."""
    a = step.arguments
    if a.get("training") or a.get("running_var") is None:  # another overload has no such argument
        raise no_rule(step, "it normalises by statistics of its own batch")
    yield a["input"], step.kernel.scaled(channel_scale(step), step.pinned)


def channel_scale(step: Step) -> Tensor:
    """γ / √(σ² + ε), shaped to the node's axes."""
    variance, gamma = step.constant("running_var"), step.constant("weight")
    if variance is None:
        raise no_rule(step)
    scale = torch.rsqrt(variance + step.arguments["eps"])
    scale = scale if gamma is None else scale * gamma
    return scale.view(-1, *(1,) * (len(step.kernel.axes) - 1))
