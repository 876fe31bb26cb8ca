"""One convolution more in front of a kernel.

    K'[o, i, q·stride + r·dilation] += K[o, m, q] · W[m, i, r]

which is a transposed convolution of K with W. Where one of the two is a single position, it is a matrix product, and
where a row of K reads a single channel, a row of W.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]


def compose(
    values: Tensor,
    first: Tensor | None,
    weight: Tensor,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """The kernel on a convolution's input, from the kernel on its output.

    Args:
        values: ``[O, M, h, w]``, or ``[O, n, h, w]`` with ``first``.
        first: int64 ``[O]``: the channel to which each row's first belongs, if rows hold ``n`` neighbours only; they
            must lie in one group.
        weight: ``[M, I / groups, H, W]``, as a convolution holds it.
        stride, dilation, groups: of the convolution.

    Returns:
        ``[O, I, h', w']`` and ``None``, or ``[O, n', h', w']`` and where each row begins.
    """
    if first is not None:
        return _compact(values, first, weight, stride, dilation, groups)
    single = values.shape[2:] == (1, 1)
    flat = weight.shape[2:] == (1, 1)
    if groups == 1 and single:
        product = values.flatten(1) @ weight.flatten(1)
        return _dilated(product.view(len(values), *weight.shape[1:]), dilation), None
    if groups == 1 and flat:
        return _dilated(torch.einsum("omyx,mi->oiyx", values, weight.flatten(1)), stride), None
    if groups == weight.shape[0] and weight.shape[1] == 1 and single:
        return _dilated(values * weight[None, :, 0], dilation), None
    return functional.conv_transpose2d(values, weight, None, stride, 0, 0, groups, dilation), None


def _compact(
    values: Tensor, first: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int
) -> tuple[Tensor, Tensor | None]:
    """Rows that read neighbouring channels of one group: each has its own few rows of W."""
    rows, width = values.shape[:2]
    inputs = weight.shape[1]
    numbers = (first[:, None] + torch.arange(width)).flatten()
    begin = None if groups == 1 else first // (weight.shape[0] // groups) * inputs
    own = rows_of(weight, numbers).view(rows, width, *weight.shape[1:])
    if values.shape[2:] == (1, 1):
        if width == 1:
            return _dilated(own[:, 0] * values, dilation), begin
        return _dilated(torch.einsum("omhw,omiyx->oiyx", values, own), dilation), begin
    joined = functional.conv_transpose2d(
        values.reshape(1, rows * width, *values.shape[2:]), own.flatten(0, 1), None, stride, 0, 0, rows, dilation
    )
    return joined.view(rows, inputs, *joined.shape[2:]), begin


def rows_of(values: Tensor, numbers: Tensor) -> Tensor:
    """Rows by number, without a copy where they are neighbours in order."""
    start, count = int(numbers[0]), len(numbers)
    if int(numbers[-1]) - start + 1 == count and torch.equal(numbers, torch.arange(start, start + count)):
        return values[start : start + count]
    return values[numbers.to(values.device)]


def _dilated(values: Tensor, step: Pair) -> Tensor:
    """Zeros between the elements."""
    if step == (1, 1) or values.shape[2:] == (1, 1):
        return values
    h, w = values.shape[2:]
    out = values.new_zeros((*values.shape[:2], (h - 1) * step[0] + 1, (w - 1) * step[1] + 1))
    out[:, :, :: step[0], :: step[1]] = values
    return out
