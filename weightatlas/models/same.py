"""TensorFlow's "SAME" padding: output size ⌈input / stride⌉, the odd pixel right and below."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """How much is added before and behind an axis of so many positions.

    Example:
        >>> same_padding(224, kernel=7, stride=2), same_padding(112, kernel=3, stride=2)
        ((2, 3), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _two(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padded(x: Tensor, kernel: object, stride: object, dilation: object, fill: float) -> Tensor:
    """An image ``[N, C, H, W]`` with what "SAME" adds."""
    pads: list[int] = []
    for axis in (1, 0):  # functional.pad counts from the last axis
        k, s, d = (_two(v)[axis] for v in (kernel, stride, dilation))  # type: ignore[arg-type]
        pads += same_padding(x.shape[axis - 2], k, s, d)
    return functional.pad(x, pads, value=fill) if any(pads) else x


class Conv2dSame(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding by zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``[N, C, H, W]`` to ``[N, O, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        return super().forward(_padded(input, self.kernel_size, self.stride, self.dilation, 0.0))


class MaxPool2dSame(nn.MaxPool2d):
    """A maximum with TensorFlow's "SAME" padding: what is added is never the largest."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``[N, C, H, W]`` to ``[N, C, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        kernel, stride, dilation = (_two(v) for v in (self.kernel_size, self.stride, self.dilation))
        pads = [same_padding(n, *ksd) for n, *ksd in zip(input.shape[-2:], kernel, stride, dilation, strict=True)]
        before = tuple(lead for lead, _ in pads)
        behind = all(lead == tail or s > 1 for (lead, tail), s in zip(pads, stride, strict=True))
        if behind and dilation == (1, 1):  # the odd position behind is the rounding up of PyTorch's own pooling
            return functional.max_pool2d(input, kernel, stride, before, ceil_mode=True)
        padded = _padded(input, kernel, stride, dilation, -math.inf)
        return functional.max_pool2d(padded, kernel, stride, dilation=dilation)
