"""Padding and resampling: maps of each axis of positions on its own."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..kernel import Kernel, Span, windowed
from ..step import Passed, Step
from .table import no_rule, rule


def separable(step: Step, matrices: Sequence[Tensor], factor: Fraction | None = None) -> Kernel:
    """The kernel on the input of an operator that maps each of the last axes by a matrix ``[out, in]``.

    Args:
        step: of the operator.
        matrices: of the last axes.
        factor: input steps per output step, by default as the sizes say.

    Raises:
        NeedsPosition: which rows of a matrix count depends on where the window lies.
    """
    step.needs_position()
    kernel = step.kernel
    if kernel.first is not None and kernel.compact >= len(kernel.axes) - len(matrices):
        kernel = step.full()
    values, axes = kernel.values, list(kernel.axes)
    for i, matrix in enumerate(matrices, len(axes) - len(matrices)):
        span = axes[i] or Span(0, None)
        rows = windowed(matrix, 0, span.start, values.shape[i + 1])
        hit = torch.nonzero(rows.abs().amax(0)).flatten()
        low, high = (int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, 1)
        part = rows[:, low:high].to(values.device, values.dtype)
        values = (values.movedim(i + 1, -1) @ part).movedim(-1, i + 1)
        axes[i] = span.at(low, factor or Fraction(matrix.shape[1], matrix.shape[0]))
    return kernel.like(values, axes=tuple(axes))


@rule("constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def padded(step: Step) -> Passed:
    """A margin; where windows are relative, borders are out of sight and all margins alike."""
    a = step.arguments
    margins = list(a["pad"] if "pad" in a else a["padding"])
    mode = a.get("mode") or "constant"
    if "pad1d" in step.operator or "pad2d" in step.operator:
        mode = "reflect" if step.operator.startswith("reflection") else "replicate"
    before = margins[::2][::-1]  # from the last axis on
    kernel, count = step.kernel, len(before)
    if mode != "constant" and step.pinned:
        sizes = step.shape(step.source)[-count:]
        ends = margins[1::2][::-1]
        margins = [_margin(*m, mode) for m in zip(sizes, before, ends, strict=True)]
        yield step.source, separable(step, margins, Fraction(1))
        return
    offset = len(kernel.axes) - count
    for i, start in enumerate(before, offset):
        span = kernel.axes[i]
        if span is not None:
            axes = (*kernel.axes[:i], span.at(span.start - start), *kernel.axes[i + 1 :])
            kernel = kernel.like(kernel.values, axes=axes, owned=False)
        elif start or margins[::-1][2 * (i - offset)]:
            kernel = kernel.full(step.shape()[i]) if kernel.compact == i else kernel
            kernel = kernel.like(windowed(kernel.values, i + 1, start, step.shape(step.source)[i]), owned=False)
    yield step.source, kernel


def _margin(size: int, before: int, after: int, mode: str) -> Tensor:
    """A margin as a matrix ``[out, in]``."""
    eye = torch.eye(size, device="cpu")[None]
    return functional.pad(eye, (before, after), mode=mode)[0].t()


_MODES = {"nearest": "nearest", "_nearest_exact": "nearest-exact", "linear": "linear", "bilinear": "linear"}


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d",
)  # fmt: skip
def resized(step: Step) -> Passed:
    """Another size by nearest, linear or cubic interpolation."""
    a = step.arguments
    n = int(step.operator[-2])
    before, now = step.shape(step.source)[-n:], step.shape()[-n:]
    scales = _scales(a, n)
    kind = step.operator.removeprefix("_").removeprefix("upsample_")[:-2]
    matrices = [
        _interpolation(b, m, s, kind, bool(a.get("align_corners"))) for b, m, s in zip(before, now, scales, strict=True)
    ]
    yield step.source, separable(step, matrices)


def _scales(a: dict[str, Any], n: int) -> list[float | None]:
    if a.get("scale_factors"):
        return [float(s) for s in a["scale_factors"]]
    named = [a.get("scales_h"), a.get("scales_w")] if n == 2 else [a.get("scales")]
    return [None if s is None else float(s) for s in named]


def _interpolation(before: int, now: int, scale: float | None, kind: str, corners: bool) -> Tensor:
    """The operator on each unit vector: the matrix ``[out, in]`` of one axis."""
    eye = torch.eye(before, device="cpu")
    if kind in ("nearest", "nearest_exact"):
        operator = torch.ops.aten.upsample_nearest1d if kind == "nearest" else torch.ops.aten._upsample_nearest_exact1d
        return operator(eye[None], [now], scale)[0].t()
    if kind in ("linear", "bilinear"):
        return torch.ops.aten.upsample_linear1d(eye[None], [now], corners, scale)[0].t()
    # cubic has no operator for one axis: a second one of size 1 does nothing
    return torch.ops.aten.upsample_bicubic2d(eye[None, :, :, None], [now, 1], corners, scale, None)[0, :, :, 0].t()


__all__ = ["no_rule", "padded", "resized", "separable"]
