"""InceptionV1 as "Visualizing Weights" studies it: the network of the file inception5h, not that of the paper.

    input 3 × 224 × 224, pixel values 0 … 255 minus 117
    conv2d0 7×7 /2 → maxpool0 3×3 /2 → localresponsenorm0 → conv2d1 1×1 → conv2d2 3×3 → localresponsenorm1
    → maxpool1 3×3 /2 → mixed3a, mixed3b → maxpool4 3×3 /2 → mixed4a … mixed4e → maxpool10 3×3 /2
    → mixed5a, mixed5b → avgpool0 → softmax2

            ┌ 1x1 ───────────────────────────┐
    input ──┼ 3x3_bottleneck (1×1) → 3x3 ────┼─ mixed: the four side by side, in this order
            ├ 5x5_bottleneck (1×1) → 5x5 ────┤
            └ maxpool 3×3 → pool_reduce (1×1)┘

Every convolution is followed by ReLU. A layer named after a convolution (``mixed4d_5x5``) is its output before that, as
its weights make it; ``mixed4d_5x5_relu`` is after it, and ``mixed4d`` is the block's output. The auxiliary classifiers,
which only helped training, are left out.

Sources: Szegedy et al., "Going deeper with convolutions", CVPR 2015; layer names and channels as in the released graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..same import Conv2dSame, MaxPool2dSame

#: The first three convolutions as (channels, kernel, stride).
STEM = {"conv2d0": (64, 7, 2), "conv2d1": (64, 1, 1), "conv2d2": (192, 3, 1)}
CLASSES = 1008
#: TensorFlow's depth radius 5, bias 2, alpha 1e-4, beta 0.5; PyTorch counts channels and divides alpha by their number.
RESPONSE_NORM = {"size": 11, "alpha": 1.1e-3, "beta": 0.5, "k": 2.0}
DROPOUT = 0.4  # of the paper; never in evaluation


class Widths(NamedTuple):
    """The channels of a mixed block's convolutions; the names are the article's, behind the block's own."""

    one: int
    three_bottleneck: int
    three: int
    five_bottleneck: int
    five: int
    pool_reduce: int

    @property
    def out(self) -> int:
        """The channels of the block's output."""
        return self.one + self.three + self.five + self.pool_reduce


#: What stands behind a block's name, in the order of :class:`Widths`, with the size of the kernel.
BRANCHES = {"1x1": 1, "3x3_bottleneck": 1, "3x3": 3, "5x5_bottleneck": 1, "5x5": 5, "pool_reduce": 1}
BLOCKS = {
    "mixed3a": Widths(64, 96, 128, 16, 32, 32),
    "mixed3b": Widths(128, 128, 192, 32, 96, 64),
    "mixed4a": Widths(192, 96, 204, 16, 48, 64),
    "mixed4b": Widths(160, 112, 224, 24, 64, 64),
    "mixed4c": Widths(128, 128, 256, 24, 64, 64),
    "mixed4d": Widths(112, 144, 288, 32, 64, 64),
    "mixed4e": Widths(256, 160, 320, 32, 128, 128),
    "mixed5a": Widths(256, 160, 320, 48, 128, 128),
    "mixed5b": Widths(384, 192, 384, 48, 128, 128),
}
#: Blocks that halve their input first, and what the pooling is called.
POOLED = {"mixed3a": "maxpool1", "mixed4a": "maxpool4", "mixed5a": "maxpool10"}


class Concatenation(nn.Module):
    """Puts maps side by side, so that a mixed block's output is a layer with the block's name."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Maps ``[N, C₁, H, W]``, ``[N, C₂, H, W]``, … to ``[N, ΣC, H, W]``."""
        return torch.cat(branches, 1)


class InceptionV1(nn.Module):
    """The whole network: images ``[N, 3, H, W]`` with values −117 … 138 become logits ``[N, classes]``.

    All layers are attributes of the network itself, since the article's names have no dots.

    Args:
        classes: how many it tells apart; 1008 in the published file.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        width = 3
        for name, (channels, kernel, stride) in STEM.items():
            self._convolution(name, width, channels, kernel, stride)
            width = channels
        self.maxpool0 = MaxPool2dSame(3, 2)
        self.localresponsenorm0 = nn.LocalResponseNorm(**RESPONSE_NORM)
        self.localresponsenorm1 = nn.LocalResponseNorm(**RESPONSE_NORM)
        for name, widths in BLOCKS.items():
            if name in POOLED:
                setattr(self, POOLED[name], MaxPool2dSame(3, 2))
            self._block(name, width, widths)
            width = widths.out
        self.avgpool0 = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.dropout = nn.Dropout(DROPOUT)
        self.softmax2 = nn.Linear(width, classes)

    def _convolution(self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        setattr(self, name, Conv2dSame(inputs, outputs, kernel, stride))
        setattr(self, f"{name}_relu", nn.ReLU())

    def _block(self, name: str, width: int, widths: Widths) -> None:
        reads = (width, width, widths.three_bottleneck, width, widths.five_bottleneck, width)
        for (branch, kernel), inputs, outputs in zip(BRANCHES.items(), reads, widths, strict=True):
            if branch == "pool_reduce":
                setattr(self, f"{name}_pool", MaxPool2dSame(3, 1))
            self._convolution(f"{name}_{branch}", inputs, outputs, kernel)
        setattr(self, name, Concatenation())

    def _through(self, x: Tensor, *names: str) -> Tensor:
        """What convolutions, each with its ReLU, make of a map."""
        for name in names:
            x = getattr(self, f"{name}_relu")(getattr(self, name)(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        x = self.localresponsenorm0(self.maxpool0(self._through(x, "conv2d0")))
        x = self.localresponsenorm1(self._through(x, "conv2d1", "conv2d2"))
        for name in BLOCKS:
            if name in POOLED:
                x = getattr(self, POOLED[name])(x)
            x = getattr(self, name)(
                self._through(x, f"{name}_1x1"),
                self._through(x, f"{name}_3x3_bottleneck", f"{name}_3x3"),
                self._through(x, f"{name}_5x5_bottleneck", f"{name}_5x5"),
                self._through(getattr(self, f"{name}_pool")(x), f"{name}_pool_reduce"),
            )
        return self.softmax2(self.dropout(self.flatten(self.avgpool0(x))))
