"""A node of an ONNX graph with constant weights as a layer: its weights in torch's order, and where its kernel lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....errors import LoadError
from ...same import same_padding
from .scope import Constant, Scope, attribute, told, whole_numbers
from .shapes import Shape


@dataclass(frozen=True)
class Kernel:
    """What a node says about its weights.

    Args:
        kind: as in :class:`weightatlas.records.Layer`.
        values: the weights as torch has them: ``[O, I / groups, …]``, of transposed convolutions
            ``[I, O / groups, …]``.
        weight, bias: the constants; ``bias`` is ``None`` without one.
        units, inputs, groups: numbers of units.
        read: the value that is read.
        axis, made: the axis of the units in what is read and in what is made, counted from the last; ``None`` if it is
            not known.
        size, stride, dilation: of the kernel as ``(y, x)``; ``size`` is ``None`` for more than two dimensions.
        origin: of element (0, 0) on the grid that is read; ``None`` if that depends on a size that is not known.
        notes: what was worked out, one sentence each.
    """

    kind: str
    values: np.ndarray
    weight: Constant
    bias: Constant | None
    units: int
    inputs: int
    read: str
    axis: int | None = -1
    made: int = -1
    groups: int = 1
    size: tuple[int, int] | None = (1, 1)
    stride: tuple[float, float] = (1, 1)
    dilation: tuple[float, float] = (1, 1)
    origin: tuple[float, float] | None = (0.0, 0.0)
    notes: tuple[str, ...] = ()


def kernel_of(scope: Scope, node: Any, shapes: dict[str, Shape]) -> Kernel | None:
    """The weights of a node; ``None`` for a node that has no constant ones of a form that layers have.

    Raises:
        LoadError: for a node that does not fit its weights.
    """
    rule = RULES.get(node.op_type)
    return rule(scope, node, shapes) if rule and node.output else None


def _input(node: Any, number: int) -> str:
    return node.input[number] if number < len(node.input) else ""


def _constant(scope: Scope, node: Any, number: int) -> Constant | None:
    found = scope.constant(_input(node, number))
    return found if found is not None and found.values.dtype.kind in "fiu" else None


def _convolution(scope: Scope, node: Any, shapes: dict[str, Shape]) -> Kernel | None:
    quantised, integers = node.op_type == "QLinearConv", node.op_type == "ConvInteger"
    weight = _constant(scope, node, 3 if quantised else 1)
    if weight is None:
        return None
    values, notes = weight.values, ()
    if quantised:
        values, notes = _dequantized(scope, node, values, (4, 5))
    elif integers:
        values, notes = _dequantized(scope, node, values, (-1, 3))
    bias = None if integers else _constant(scope, node, 8 if quantised else 2)
    transposed = node.op_type == "ConvTranspose"
    groups = whole_numbers(node, "group", (1,), 1)[0]
    if values.ndim < 3 or values.size == 0 or values.shape[0] % groups:
        raise LoadError(
            f"{told(node)} has weights of shape {values.shape} in {groups} groups; a convolution has "
            "[O, I / groups, …], and its groups are of one size. Export the model again"
        )
    own = values.shape[2:]
    if attribute(node, "kernel_shape") and whole_numbers(node, "kernel_shape", own, 1) != own:
        raise LoadError(f"{told(node)} says kernel_shape={attribute(node, 'kernel_shape')}, its weights are {own}")
    units, inputs = (
        (values.shape[1] * groups, values.shape[0]) if transposed else (len(values), values.shape[1] * groups)
    )
    plain = "depthwise conv" if groups > 1 and groups == inputs else "grouped conv" if groups > 1 else "conv"
    place: dict[str, Any] = dict(size=None, origin=None)
    place = _place(node, own, shapes, transposed) if len(own) <= 2 else place
    return Kernel(
        kind="transposed conv" if transposed else plain,
        values=values,
        weight=weight,
        bias=bias,
        units=units,
        inputs=inputs,
        read=node.input[0],
        axis=-1 - len(own),
        made=-1 - len(own),
        groups=groups,
        notes=notes,
        **place,
    )


def _place(node: Any, own: tuple[int, ...], shapes: dict[str, Shape], transposed: bool) -> dict[str, Any]:
    """Size, stride, dilation and origin of a kernel, as :class:`Kernel` has them."""
    ones = (1,) * len(own)
    stride, dilation = (whole_numbers(node, name, ones, 1) for name in ("strides", "dilations"))
    begins = _begins(node, own, stride, dilation, shapes, transposed)
    if transposed:  # turned by half a turn, in steps of the source grid
        origin = None if begins is None else [
            (p - (k - 1) * d) / s for p, k, d, s in zip(begins, own, dilation, stride, strict=True)
        ]  # fmt: skip
        dilation = tuple(d / s for d, s in zip(dilation, stride, strict=True))
        stride = tuple(1 / s for s in stride)
    else:
        origin = None if begins is None else [0.0 - p for p in begins]
    lead = 2 - len(own)
    return dict(
        size=(1,) * lead + own,
        stride=(1,) * lead + stride,
        dilation=(1,) * lead + dilation,
        origin=None if origin is None else (0.0,) * lead + tuple(origin),
    )


def _begins(
    node: Any,
    own: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    shapes: dict[str, Shape],
    transposed: bool,
) -> tuple[int, ...] | None:
    """How much is padded before every axis; ``None`` if it depends on a size that is not known."""
    auto = attribute(node, "auto_pad", "NOTSET") or "NOTSET"
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise LoadError(f"{told(node)} says auto_pad={auto!r}; there are NOTSET, VALID, SAME_UPPER and SAME_LOWER")
    wanted = attribute(node, "output_shape") if transposed else None
    if auto == "VALID" and not wanted:
        return (0,) * len(own)
    if auto == "NOTSET" and not wanted:
        return whole_numbers(node, "pads", (0,) * (2 * len(own)), -(2**24))[: len(own)]
    sizes = (*shapes.get(node.input[0], ()),)[2:] or (None,) * len(own)
    if len(sizes) != len(own):
        return None
    extra = whole_numbers(node, "output_padding", (0,) * len(own), 0) if transposed else ()
    wanted = wanted[-len(own) :] if wanted else None
    found = []
    for i, (k, s, d, size) in enumerate(zip(own, stride, dilation, sizes, strict=True)):
        if transposed and wanted is None:  # as many positions as there are, times the stride
            total = max(extra[i] + (k - 1) * d + 1 - s, 0)
        elif s == 1 and not transposed:
            total = (k - 1) * d
        elif size is None:
            return None
        elif transposed:
            total = max(s * (size - 1) + extra[i] + (k - 1) * d + 1 - wanted[i], 0)  # type: ignore[index]
        else:
            total = sum(same_padding(size, k, s, d))
        # the odd one comes last with SAME_UPPER; a wanted shape alone counts as anything else does
        found.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return tuple(found)


def _dequantized(
    scope: Scope, node: Any, values: np.ndarray, where: tuple[int, int], axis: int = 0
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Quantised weights as numbers, and what there is to say about it.

    Args:
        where: the inputs that hold scale and zero point; −1 for an operator whose scale stands elsewhere.
        axis: that scales and zero points of more than one number go along.
    """
    scale = None if where[0] < 0 else _constant(scope, node, where[0])
    zero = _constant(scope, node, where[1])

    def along(given: np.ndarray) -> np.ndarray:
        if given.size == 1:
            return given.reshape(()).astype(np.float32)
        if given.size != values.shape[axis]:
            raise LoadError(f"{told(node)} has {given.size} scales or zero points for {values.shape[axis]} units")
        return given.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]).astype(np.float32)

    numbers = values.astype(np.float32) - (along(zero.values) if zero is not None else np.float32(0))
    if scale is not None:
        return numbers * along(scale.values), (f"{told(node)}: {values.dtype} weights times their scale",)
    return numbers, (f"{told(node)}: {values.dtype} weights without their scale, which stands in a later operator",)


def _gemm(scope: Scope, node: Any, shapes: dict[str, Shape]) -> Kernel | None:
    quantised = node.op_type == "QGemm"
    weight = _constant(scope, node, 3 if quantised else 1)
    if (
        weight is None
        or weight.values.ndim != 2
        or scope.constant(_input(node, 0)) is not None
        or not weight.values.size
    ):
        return None
    values, notes = weight.values, ()
    turned = bool(attribute(node, "transB", 0))
    if quantised:
        values, notes = _dequantized(scope, node, values, (4, 5), 0 if turned else 1)
    values = values if turned else values.T
    alpha = attribute(node, "alpha", 1.0)
    if isinstance(alpha, float) and alpha != 1:
        values, notes = (
            values * np.float32(alpha),
            (*notes, f"{told(node)}: its factor alpha={alpha:g} is in its weights"),
        )
    return Kernel(
        kind="linear",
        values=values,
        weight=weight,
        bias=_constant(scope, node, 6 if quantised else 2),
        units=len(values),
        inputs=values.shape[1],
        read=node.input[0],
        axis=-2 if attribute(node, "transA", 0) else -1,
        notes=notes,
    )


def _product(scope: Scope, node: Any, shapes: dict[str, Shape]) -> Kernel | None:
    """A matrix product with a constant matrix on one side: x W, or W x, whose units lie along the last axis but one."""
    quantised, integers = node.op_type == "QLinearMatMul", node.op_type == "MatMulInteger"
    right = 3 if quantised else 1
    sides = [_constant(scope, node, 0), _constant(scope, node, right)]
    left = sides[0] is not None
    weight = sides[0] if left else sides[1]
    if weight is None or (left and sides[1] is not None) or weight.values.ndim != 2 or not weight.values.size:
        return None
    values, notes = weight.values, ()
    if quantised:
        values, notes = _dequantized(scope, node, values, (1, 2) if left else (4, 5), 0 if left else 1)
    elif integers:
        values, notes = _dequantized(scope, node, values, (-1, 2 if left else 3), 0 if left else 1)
    values = values if left else values.T
    axis = -2 if left else -1
    return Kernel(
        kind="linear",
        values=values,
        weight=weight,
        bias=None,
        units=len(values),
        inputs=values.shape[1],
        read=node.input[right if left else 0],
        axis=axis,
        made=axis,
        notes=notes,
    )


#: Operators that are layers.
RULES: dict[str, Callable[[Scope, Any, dict[str, Shape]], Kernel | None]] = {
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
}
