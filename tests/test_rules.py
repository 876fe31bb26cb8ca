"""One rule per operator, each against autograd: in the interior, in the corners and at the edges of the grid.

Operators stand between a stem and a convolution that mixes everything, many of them behind one stem, so that a network
is captured once for all of its cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from jacobian import Truth, check_everywhere
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError, GraphError
from weightatlas.graph import capture, operator_of
from weightatlas.models.efficientnet_lite import Conv2dSame
from weightatlas.weights.rules import table

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]
F, C1, C2 = functional, nn.Conv1d, nn.Conv2d


class Bank(nn.Module):
    """Many small networks behind one stem."""

    def __init__(self, stem: nn.Module, cases: dict[str, nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        for name, case in cases.items():
            self.add_module(name, case)

    def forward(self, x):
        y = self.stem(x)
        return {n: m(y) for n, m in self.named_children() if n != "stem"}


def fn(function: Callable, **children: nn.Module) -> nn.Module:
    """A function of the stem's output; without children a convolution follows."""
    if children:
        return Fn(lambda m, y: function(m, y), **children)
    return S(Fn(lambda m, y: function(y)), conv(4, 3))


def mixed(*modules: nn.Module, i: int = 4, o: int = 4) -> nn.Module:
    """Modules between two convolutions."""
    return S(conv(i, 4, 3, padding=1), *modules, conv(o, 3, 2))


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


class With(nn.Module):
    """A function of the input and of constants."""

    def __init__(self, function: Callable, trained: bool = True, **constants: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in constants.items():
            if trained:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x):
        return self.function(self, x)


def up(**options) -> nn.Module:
    return S(nn.Upsample(**options), conv(4, 3))


CONVOLUTIONS = {
    "stride": C2(4, 3, 3, stride=2),
    "stride_padding": C2(4, 3, (3, 5), stride=(2, 3), padding=(1, 4)),
    "dilation": C2(4, 3, (2, 3), dilation=(3, 2), padding=2),
    "groups": S(C2(4, 6, 3, groups=2, padding=1, dilation=2), C2(6, 4, 2, groups=2), conv(4, 3)),
    "depthwise": S(C2(4, 8, (5, 3), groups=4, stride=2, padding=(2, 1)), C2(8, 8, 3, groups=8), conv(8, 3, 1)),
    "grouped_after_grouped": S(C2(4, 4, 3, groups=4), C2(4, 8, 1, groups=2), C2(8, 8, 3, groups=4, padding=1)),
    "pointwise": S(C2(4, 6, 1, stride=2), C2(6, 5, 1), C2(5, 3, 3, padding=1)),
    "same": S(C2(4, 4, (3, 5), padding="same", dilation=2), C2(4, 3, (4, 3), padding="same", dilation=(2, 3))),
    "valid": C2(4, 3, (4, 3), padding="valid"),
    "same_by_pad": S(Conv2dSame(4, 4, 3, stride=2), Conv2dSame(4, 4, 5, groups=4), Conv2dSame(4, 3, (2, 1))),
    "same_by_pad_even": S(Conv2dSame(4, 3, (5, 2), stride=(2, 3)), conv(3, 3)),
    "reflect": S(C2(4, 4, 5, padding=2, padding_mode="reflect"), conv(4, 3)),
    "replicate": S(C2(4, 4, 3, padding=1, padding_mode="replicate", stride=2), conv(4, 3)),
    "circular": S(C2(4, 4, 3, padding=1, padding_mode="circular"), conv(4, 3)),
    "no_bias": S(C2(4, 3, 3, bias=False)),
    "transposed": S(nn.ConvTranspose2d(4, 4, 3), conv(4, 3)),
    "transposed_stride": S(nn.ConvTranspose2d(4, 4, (4, 3), (2, 3), (1, 2), (1, 2)), conv(4, 3)),
    "transposed_groups": S(nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2), C2(6, 3, 3, groups=3)),
    "transposed_depthwise": S(nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4), conv(4, 3, 1)),
    "transposed_dilation": S(nn.ConvTranspose2d(4, 4, 3, stride=3, padding=2, dilation=2, output_padding=1), conv(4, 3)),
    "transposed_alone": nn.ConvTranspose2d(4, 4, 2, stride=2),
    "linear_of_all": S(conv(4, 2), nn.Flatten(), nn.Linear(2 * 20 * 18, 5), nn.Linear(5, 3)),
    "linear_of_channels": fn(lambda m, y: m.b(m.l(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), l=nn.Linear(4, 5), b=conv(5, 3)),
    "matmul_with_a_constant": S(With(lambda m, y: (y.permute(0, 2, 3, 1) @ m.w).permute(0, 3, 1, 2), w=rand(4, 5)), conv(5, 3)),
    "columns_mixed": fn(lambda m, y: m.b(m.l(y)), l=nn.Linear(20, 7), b=conv(4, 3)),
    "batch_norm": S(conv(4, 6), nn.BatchNorm2d(6), C2(6, 6, 3, groups=6), nn.BatchNorm2d(6, affine=False), conv(6, 3)),
}  # fmt: skip

POOLS = {
    "max": mixed(nn.MaxPool2d(2)),
    "max_stride_padding": mixed(nn.MaxPool2d(3, 2, padding=1)),
    "max_dilation": mixed(nn.MaxPool2d((2, 3), 1, dilation=(3, 2), padding=(1, 0))),
    "max_ceil": mixed(nn.MaxPool2d(3, 2, ceil_mode=True)),
    "max_ceil_padding": mixed(nn.MaxPool2d(4, 3, padding=2, ceil_mode=True)),
    "max_function": fn(lambda m, y: m.b(F.max_pool2d(m.a(y), 2, 1)), a=conv(4, 4), b=conv(4, 3)),
    "average": mixed(nn.AvgPool2d(2)),
    "average_padding": mixed(nn.AvgPool2d(3, 2, padding=1)),
    "average_not_padding": mixed(nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)),
    "average_ceil": mixed(nn.AvgPool2d(3, 2, ceil_mode=True)),
    "average_ceil_padding": mixed(nn.AvgPool2d(4, 3, padding=2, ceil_mode=True)),
    "average_ceil_not_padding": mixed(nn.AvgPool2d((4, 2), (3, 2), padding=(2, 1), ceil_mode=True, count_include_pad=False)),
    "average_divisor": mixed(nn.AvgPool2d(3, 2, padding=1, divisor_override=5)),
    "average_grouped": S(C2(4, 4, 3, groups=4, padding=1), nn.AvgPool2d(3, 1, padding=1), C2(4, 4, 3, groups=4)),
    "max_grouped": S(C2(4, 4, 3, groups=4, padding=1), nn.MaxPool2d(3, 1, padding=1), C2(4, 4, 3, groups=4)),
    "adaptive_dividing": mixed(nn.AdaptiveAvgPool2d((11, 5))),
    "adaptive": mixed(nn.AdaptiveAvgPool2d((7, 3))),
    "adaptive_larger": mixed(nn.AdaptiveAvgPool2d((25, 20))),
    "adaptive_one_axis": mixed(nn.AdaptiveAvgPool2d((None, 6))),
    "adaptive_max": mixed(nn.AdaptiveMaxPool2d((5, 9))),
    "global_average": S(conv(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "global_max": S(conv(4, 4), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "global_1x1": S(conv(4, 4), nn.AdaptiveAvgPool2d(1), conv(4, 3, 1)),
    "mean": fn(lambda m, y: m.l(m.a(y).mean((2, 3))), a=conv(4, 4), l=nn.Linear(4, 3)),
    "mean_negative": fn(lambda m, y: m.l(m.a(y).mean([-1, -2], keepdim=True)), a=conv(4, 4), l=conv(4, 3, 1)),
    "sum_of_rows": fn(lambda m, y: m.l(m.a(y).sum(2)), a=conv(4, 4), l=C1(4, 3, 3)),
    "mean_of_columns": fn(lambda m, y: m.l(m.a(y).mean(3, keepdim=True)), a=conv(4, 4), l=conv(4, 3, (3, 1))),
    "mean_of_channels": fn(lambda m, y: m.l(m.a(y).mean(1, keepdim=True)), a=conv(4, 4), l=conv(1, 3, 3)),
    "mean_added": fn(lambda m, y: m.b((z := m.a(y)) + z.mean((2, 3), keepdim=True)), a=conv(4, 4), b=conv(4, 3)),
    "row_mean_added": fn(lambda m, y: m.b(y + y.mean(3, keepdim=True)), b=conv(4, 3)),
}  # fmt: skip

GATE = lambda: dict(a=conv(4, 4, padding=1), r=conv(4, 2, 1), e=conv(2, 4, 1), b=conv(4, 3))  # noqa: E731


def _excited(m, y):
    z = m.a(y)
    return m.b(z * torch.sigmoid(m.e(F.relu(m.r(z.mean((2, 3), keepdim=True))))))


ARITHMETIC = {
    "add_constant": fn(lambda y: y + 3),
    "sub_constant": fn(lambda y: 2 * y - 3),
    "rsub": fn(lambda y: 1 - 2 * y),
    "rsub_alpha": fn(lambda y: torch.rsub(y, 1.0, alpha=3)),
    "neg_mul_div": fn(lambda y: -y * 3 / 7),
    "alpha": fn(lambda m, y: m.b(torch.add(m.a(y), y, alpha=0.3) - torch.sub(y, m.a(y), alpha=2)), a=conv(4, 4, padding=1), b=conv(4, 3)),
    "in_place": fn(lambda m, y: m.b(m.a(y).add_(y).mul_(2).sub_(1).div_(3)), a=conv(4, 4, padding=1), b=conv(4, 3)),
    "tensor_per_channel": S(With(lambda m, y: y * m.s + m.t, s=rand(4, 1, 1), t=rand(4, 1, 1)), conv(4, 3)),
    "squared": fn(lambda m, y: m.b((z := m.a(y)) * z), a=conv(4, 4), b=conv(4, 3)),
    "tensor_of_one": S(With(lambda m, y: y / m.s, s=rand(1)), conv(4, 3)),
    "tensor_with_a_batch": S(With(lambda m, y: m.s * y, s=rand(1, 4, 1, 1)), conv(4, 3)),
    "tensor_per_position": S(With(lambda m, y: y * m.s - m.s, s=rand(22, 20)), conv(4, 3)),
    "tensor_everywhere": S(With(lambda m, y: y / m.s, trained=False, s=rand(4, 22, 20).abs() + 1), conv(4, 3)),
    "layer_scale": S(With(lambda m, y: (y.permute(0, 2, 3, 1) * m.s).permute(0, 3, 1, 2) + y, s=rand(4)), conv(4, 3)),
    "twice_itself": fn(lambda m, y: m.b((z := m.a(y)) + z), a=conv(4, 4), b=conv(4, 3)),
    "branches": fn(lambda m, y: m.d(m.a(y) + m.b(y) - m.c(y)), a=conv(4, 4, padding=1), b=conv(4, 4, 1), c=conv(4, 4, 5, padding=2), d=conv(4, 3)),
    "broadcast_channels": fn(lambda m, y: m.b(y + m.a(y)), a=conv(4, 1, padding=1), b=conv(4, 3)),
    "squeeze_and_excitation": Fn(_excited, **GATE()),
    "gate_first": fn(lambda m, y: m.b(torch.sigmoid(m.e(y.mean((2, 3), keepdim=True))) * m.a(y)), a=conv(4, 4, padding=1), e=conv(4, 4, 1), b=conv(4, 3)),
    "gate_of_same_shape": fn(lambda m, y: m.b(m.a(y) * torch.sigmoid(m.e(y))), a=conv(4, 4), e=conv(4, 4), b=conv(4, 3)),
    "gate_per_position": fn(lambda m, y: m.b(y * m.e(y).sigmoid()), e=conv(4, 1, padding=1), b=conv(4, 3)),
    "two_alike": fn(lambda m, y: m.b(m.a(y) * m.e(y)), a=conv(4, 4), e=conv(4, 4), b=conv(4, 3)),
    "spread_by_both": fn(lambda m, y: m.b(m.a(y).mean((2, 3), keepdim=True) * m.e(y)), a=conv(4, 4), e=conv(4, 1), b=conv(4, 3)),
    "gate_and_value": fn(lambda m, y: m.b(m.a(y) * torch.sigmoid(z := m.e(y)) + z), a=conv(4, 4), e=conv(4, 4), b=conv(4, 3)),
    "divisor_and_value": fn(lambda m, y: m.b(m.a(y) / (z := m.e(y)) + z), a=conv(4, 4), e=conv(4, 4), b=conv(4, 3)),
    "divided_by_data": fn(lambda m, y: m.b(m.a(y) / (1 + y.abs().mean(1, keepdim=True))), a=conv(4, 4, padding=1), b=conv(4, 3)),
    "strides_meet": fn(lambda m, y: m.b(y[:, :, ::2] + y[:, :, :11]), b=conv(4, 3)),
    "strides_meet_without_parameters": fn(lambda m, y: m.a(y)[:, :, :11] + y[:, :, ::2], a=conv(4, 4, padding=1)),
    "transposed_added": fn(lambda m, y: m.b((z := y[:, :, :20]) + z.transpose(2, 3)), b=conv(4, 3)),
    "reflected_added": fn(lambda m, y: m.b(y + m.a(y)), a=C2(4, 4, 3, padding=1, padding_mode="reflect"), b=conv(4, 3)),
    "resized_added": fn(lambda m, y: m.b(y + F.interpolate(m.a(F.avg_pool2d(y, 2)), size=y.shape[2:])), a=conv(4, 4, 1), b=conv(4, 3)),
}  # fmt: skip

MOVES = {
    "cat": fn(lambda m, y: m.d(torch.cat([m.a(y), y, m.b(y)], 1)), a=conv(4, 2, padding=1), b=conv(4, 3, 1), d=conv(9, 3)),
    "cat_grouped": fn(lambda m, y: m.d(torch.cat([m.a(y), y, m.b(y)], 1)), a=conv(4, 2, padding=1), b=conv(4, 2, 1), d=C2(8, 8, 3, groups=4)),
    "cat_itself": fn(lambda m, y: m.d(torch.cat([y, y, y], 1)), d=conv(12, 3)),
    "cat_without_parameters": fn(lambda m, y: torch.cat([y, m.a(y), y.flip(1)], 1), a=conv(4, 2, 1)),
    "cat_rows": fn(lambda m, y: m.d(torch.cat([m.a(y), y], 2)), a=conv(4, 4, padding=1), d=conv(4, 3)),
    "cat_columns": fn(lambda m, y: m.d(torch.cat([y[..., 10:], y], -1)), d=conv(4, 3)),
    "cat_zeros": fn(lambda m, y: m.d(torch.cat([y, torch.zeros_like(y)], 1)), d=conv(8, 3)),
    "split": fn(lambda m, y: m.d(torch.cat(m.a(y).split([1, 3, 2], 1)[::-1], 1)), a=conv(4, 6), d=conv(6, 3)),
    "split_some": fn(lambda m, y: m.d(m.a(y).split(4, 1)[1]), a=conv(4, 6), d=conv(2, 3)),
    "chunk": fn(lambda m, y: m.d(torch.cat([m.b((p := y.chunk(2, 1))[0]), p[1]], 1)), b=conv(2, 2, padding=1), d=conv(4, 3)),
    "chunk_rows": fn(lambda m, y: m.d((p := y.chunk(2, 2))[0] - 2 * p[1]), d=conv(4, 3)),
    "unbind_rows": fn(lambda m, y: m.d(torch.cat(m.a(y).unbind(2)[3:5], 1)), a=conv(4, 4), d=C1(8, 3, 3)),
    "unbind_channels": fn(lambda m, y: m.d(torch.stack((u := m.a(y).unbind(1))[::2] + u[:1], 1)), a=conv(4, 4), d=conv(3, 3)),
    "slices": fn(lambda m, y: m.d(m.a(y)[:, 1:, 2:-1, 1::2]), a=conv(4, 4), d=conv(3, 3)),
    "slices_of_channels": fn(lambda m, y: m.d(y[:, ::2] + y[:, -2:]), d=conv(2, 3)),
    "focus": fn(lambda m, y: m.d(torch.cat([y[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)), d=conv(16, 3)),
    "select": fn(lambda m, y: m.d(m.a(y)[:, 2, None]), a=conv(4, 4), d=conv(1, 3)),
    "select_row": fn(lambda m, y: m.d(m.a(y)[:, :, -3]), a=conv(4, 4), d=C1(4, 3, 3)),
    "narrow": fn(lambda m, y: m.d(y.narrow(1, 1, 2).narrow(3, 2, 9)), d=conv(2, 3)),
    "index_select": S(With(lambda m, y: y.index_select(1, m.i), trained=False, i=torch.tensor([3, 0, 3, 1])), conv(4, 3)),
    "index_select_rows": S(With(lambda m, y: y.index_select(2, m.i), trained=False, i=torch.tensor([9, 3, 4, 4, 21])), conv(4, 3)),
    "stack": fn(lambda m, y: m.d(torch.stack([m.a(y), y], 2).flatten(1, 2)), a=conv(4, 4, padding=1), d=conv(8, 3)),
    "stack_summed": fn(lambda m, y: m.d(torch.stack([m.a(y), y], -1).sum(-1)), a=conv(4, 4, padding=1), d=conv(4, 3)),
    "zero_pad": S(nn.ZeroPad2d((1, 2, 2, 0)), conv(4, 3)),
    "constant_pad": S(nn.ConstantPad2d((1, 0, 2, 2), 1.5), conv(4, 3)),
    "negative_pad": S(nn.ConstantPad2d((-1, 2, -3, 1), 0.0), conv(4, 3)),
    "channel_pad": fn(lambda m, y: m.d(F.pad(m.a(y), (0, 0, 0, 0, 2, 1))), a=conv(4, 4), d=conv(7, 3)),
    "reflect_pad": S(nn.ReflectionPad2d((2, 3, 1, 0)), conv(4, 3, 5)),
    "replicate_pad": S(nn.ReplicationPad2d(6), conv(4, 3, 5)),
    "circular_pad": S(nn.CircularPad2d((1, 2, 0, 2)), conv(4, 3)),
    "permute": fn(lambda m, y: m.d(y.permute(0, 1, 3, 2)), d=conv(4, 3, (3, 5))),
    "transpose": fn(lambda m, y: m.d(m.a(y.transpose(2, 3)).transpose(-1, -2)), a=conv(4, 4), d=conv(4, 3)),
    "channels_last": fn(lambda m, y: m.a(y).permute(0, 2, 3, 1), a=conv(4, 3)),
    "view": fn(lambda m, y: m.d(y.view(y.shape[0], 2, 2, 22, 20).transpose(1, 2).reshape(y.shape[0], 4, 22, 20)), d=conv(4, 3)),
    "view_positions": fn(lambda m, y: m.d(y.flatten(2)), d=C1(4, 3, 3)),
    "unflatten": fn(lambda m, y: m.d(m.u(m.a(y)).flatten(1, 2)), a=conv(4, 6), u=nn.Unflatten(1, (3, 2)), d=conv(6, 3)),
    "tokens": fn(lambda m, y: m.d(m.l(m.a(y).flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (10, 9))), a=conv(4, 5, 4, stride=2), l=nn.Linear(5, 4), d=conv(4, 3)),
    "squeeze": fn(lambda m, y: m.d(m.a(y.mean(2, keepdim=True)).squeeze(2).unsqueeze(1)), a=conv(4, 1, (1, 3)), d=conv(1, 3, 1)),
    "expand": fn(lambda m, y: m.d(m.a(y).expand(-1, 4, -1, -1)), a=conv(4, 1), d=conv(4, 3)),
    "expand_row": fn(lambda m, y: m.d(m.a(y)[:, :, 3:4].expand(-1, -1, 20, -1)), a=conv(4, 4), d=conv(4, 3)),
    "clone_dropout": mixed(nn.Dropout(), nn.Dropout2d(), Fn(lambda m, y: y.clone().contiguous()), nn.Identity()),
    "alpha_dropout": mixed(nn.AlphaDropout(), nn.FeatureAlphaDropout()),
    "cast": fn(lambda y: y.double().to(y.dtype)),
    "nearest": up(scale_factor=2),
    "nearest_size": up(size=(31, 17)),
    "nearest_scale": up(scale_factor=(1.5, 0.7)),
    "nearest_exact": up(size=(9, 31), mode="nearest-exact"),
    "bilinear": up(scale_factor=2, mode="bilinear"),
    "bilinear_scale": up(scale_factor=1.3, mode="bilinear"),
    "bilinear_scale_recomputed": up(scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
    "bilinear_corners": up(size=(40, 33), mode="bilinear", align_corners=True),
    "bilinear_smaller": up(size=(7, 11), mode="bilinear"),
    "bicubic": up(scale_factor=2, mode="bicubic"),
    "bicubic_corners": up(size=(13, 31), mode="bicubic", align_corners=True),
    "pixel_shuffle": S(nn.PixelShuffle(2), conv(1, 3)),
    "pixel_shuffle_grouped": S(C2(4, 8, 1, groups=2), nn.PixelShuffle(2), C2(2, 2, 3, groups=2)),
    "pixel_unshuffle": S(nn.PixelUnshuffle(2), conv(16, 3)),
    "channel_shuffle": S(C2(4, 4, 1, groups=2), nn.ChannelShuffle(2), C2(4, 4, 3, groups=2)),
    "roll": fn(lambda y: y.roll((1, -2), (2, 3))),
    "roll_channels": fn(lambda y: y.roll(1, 1)),
    "flip": fn(lambda y: y.flip(2)),
    "flip_all": fn(lambda y: y.flip((1, -1))),
}  # fmt: skip

ACTIVATIONS = {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "leaky": nn.LeakyReLU(0.2), "prelu": nn.PReLU(), "prelu_each": nn.PReLU(4),
    "elu": nn.ELU(0.7), "selu": nn.SELU(), "celu": nn.CELU(0.8), "silu": nn.SiLU(), "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"), "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(), "mish": nn.Mish(),
    "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "softplus": nn.Softplus(), "hardtanh": nn.Hardtanh(-2, 1),
    "logsigmoid": nn.LogSigmoid(),
    "threshold": nn.Threshold(0.1, 2.0), "rrelu": nn.RReLU(), "in_place": nn.ReLU(inplace=True),
}  # fmt: skip
FUNCTIONS = {
    "relu": F.relu, "torch_relu": torch.relu, "relu6": F.relu6, "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
    "silu": F.silu, "gelu": F.gelu, "hardswish": F.hardswish, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "elu": F.elu, "clamp": lambda x: x.clamp(-1, 2), "clamp_min": lambda x: x.clamp(min=0), "abs": torch.abs,
    "exp": torch.exp, "in_place": lambda x: F.relu(x, inplace=True), "method_in_place": lambda x: x.relu_(),
}  # fmt: skip


def activating(act: nn.Module) -> nn.Module:
    """An activation behind a batch norm, whose moments it gets."""
    return S(conv(4, 4, 3, padding=1), nn.BatchNorm2d(4), act, conv(4, 3))


class ChannelsFirst(nn.Module):
    """A layer norm over channels, written by hand as ConvNeXt has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(rand(width)), nn.Parameter(rand(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def channels_last(norm: nn.Module) -> nn.Module:
    return fn(lambda m, y: m.b(m.n(m.a(y).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), a=conv(4, 4), n=norm, b=conv(4, 3))


NORMS = {
    "layer_norm": channels_last(nn.LayerNorm(4)),
    "layer_norm_plain": channels_last(nn.LayerNorm(4, elementwise_affine=False)),
    "layer_norm_over_all": mixed(nn.LayerNorm((4, 22, 20))),
    "layer_norm_over_all_plain": mixed(nn.LayerNorm((4, 22, 20), elementwise_affine=False)),
    "layer_norm_of_a_vector": S(conv(4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)),
    "layer_norm_by_hand": mixed(ChannelsFirst(4)),
    "group_norm": mixed(nn.GroupNorm(2, 4)),
    "group_norm_plain": mixed(nn.GroupNorm(1, 4, affine=False)),
    "group_norm_depthwise": S(C2(4, 4, 3, groups=4), nn.GroupNorm(2, 4), C2(4, 4, 3, groups=4)),
    "instance_norm": mixed(nn.InstanceNorm2d(4)),
    "instance_norm_affine": mixed(nn.InstanceNorm2d(4, affine=True)),
    "rms_norm": channels_last(nn.RMSNorm(4)),
    "rms_norm_eps": channels_last(nn.RMSNorm(4, eps=0.1, elementwise_affine=False)),
    "local_response": mixed(nn.LocalResponseNorm(3)),
    "local_response_function": fn(lambda m, y: m.b(F.local_response_norm(m.a(y), 2)), a=conv(4, 4), b=conv(4, 3)),
}

SIGNALS = {
    "conv": S(C1(4, 6, 5, stride=2, padding=1, dilation=2), C1(6, 3, 3, groups=3)),
    "same": S(C1(4, 8, 4, groups=4, padding="same"), C1(8, 3, 3)),
    "transposed": S(nn.ConvTranspose1d(4, 6, 5, stride=3, padding=2, output_padding=1, groups=2), C1(6, 3, 2)),
    "transposed_dilation": S(nn.ConvTranspose1d(4, 4, 3, stride=2, dilation=3), C1(4, 3, 3)),
    "batch_norm": S(C1(4, 4, 3), nn.BatchNorm1d(4), C1(4, 3, 3)),
    "max": S(C1(4, 4, 3), nn.MaxPool1d(3, 2, padding=1), C1(4, 3, 3)),
    "max_dilation": S(C1(4, 4, 3), nn.MaxPool1d(3, 1, dilation=2, ceil_mode=True), C1(4, 3, 3)),
    "average": S(C1(4, 4, 3), nn.AvgPool1d(3, 2, padding=1), C1(4, 3, 3)),
    "average_ceil": S(C1(4, 4, 3), nn.AvgPool1d(4, 3, 1, ceil_mode=True, count_include_pad=False), C1(4, 3, 2)),
    "adaptive": S(C1(4, 4, 3), nn.AdaptiveAvgPool1d(5), C1(4, 3, 2)),
    "adaptive_dividing": S(C1(4, 4, 3, padding=1), nn.AdaptiveAvgPool1d(8), C1(4, 3, 2)),
    "adaptive_max": S(C1(4, 4, 3), nn.AdaptiveMaxPool1d(5), C1(4, 3, 2)),
    "nearest": S(nn.Upsample(scale_factor=2), C1(4, 3, 3)),
    "linear": S(nn.Upsample(size=31, mode="linear"), C1(4, 3, 3)),
    "reflect": S(nn.ReflectionPad1d(2), C1(4, 3, 3)),
    "replicate": S(nn.ReplicationPad1d((1, 2)), C1(4, 3, 3)),
    "circular": S(nn.CircularPad1d((1, 2)), C1(4, 3, 3)),
    "token_norm": fn(lambda m, y: m.l(m.n(y.transpose(1, 2))).transpose(1, 2), n=nn.LayerNorm(4), l=nn.Linear(4, 3)),
    "tokens_mixed": fn(lambda m, y: m.b(m.l(y)), l=nn.Linear(24, 7), b=C1(4, 3, 3)),
    "flatten": S(C1(4, 2, 3), nn.Flatten(), nn.Linear(44, 3)),
}

FEATURES = {
    "linear": S(nn.Linear(4, 6), nn.Linear(6, 3)),
    "relu": S(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
    "layer_norm": S(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)),
    "group_norm": S(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3)),
    "cat": fn(lambda m, y: m.l(torch.cat([m.a(y), y], -1)), a=nn.Linear(4, 2), l=nn.Linear(6, 3)),
    "addmm": S(With(lambda m, y: torch.addmm(m.b, y, m.w, alpha=2), w=rand(4, 6), b=rand(6)), nn.Linear(6, 3)),
    "mm": S(With(lambda m, y: torch.mm(y, m.w), w=rand(4, 6)), nn.Linear(6, 3)),
    "matmul_of_a_constant": S(With(lambda m, y: y @ (m.w @ m.w.t()), trained=False, w=rand(4, 6)), nn.Linear(4, 3)),
    "as_a_grid": S(nn.Linear(4, 18), nn.Unflatten(1, (2, 3, 3)), conv(2, 3)),
}

BANKS: dict[str, tuple[Callable[[], nn.Module], dict[str, nn.Module], tuple[int, ...]]] = {
    "convolutions": (lambda: conv(2, 4, 1), CONVOLUTIONS, (2, 22, 20)),
    "pools": (lambda: conv(2, 4, 1), POOLS, (2, 22, 20)),
    "arithmetic": (lambda: conv(2, 4, 1), ARITHMETIC, (2, 22, 20)),
    "moves": (lambda: conv(2, 4, 1), MOVES, (2, 22, 20)),
    "norms": (lambda: conv(2, 4, 1), NORMS, (2, 22, 20)),
    "signals": (lambda: C1(2, 4, 1), SIGNALS, (2, 24)),
    "features": (lambda: nn.Linear(5, 4), FEATURES, (5,)),
    "modules": (lambda: conv(2, 4, 1), {n: activating(m) for n, m in ACTIVATIONS.items()}, (2, 9, 8)),
    "functions": (lambda: conv(2, 4, 1), {n: activating(Fn(lambda m, x, f=f: f(x))) for n, f in FUNCTIONS.items()}, (2, 9, 8)),
}  # fmt: skip


@pytest.fixture(scope="module")
def truth() -> Iterator[Callable[[str], Truth]]:
    """A bank's network, captured once, and its gradients."""
    made: dict[str, Truth] = {}

    def network(name: str) -> Truth:
        if name not in made:
            torch.manual_seed(1)
            stem, cases, shape = BANKS[name]
            made[name] = Truth(wa.load(settle(Bank(stem(), cases)), input=wa.InputSpec(shape=shape)))
        return made[name]

    yield network
    made.clear()


def cases(*names: str):
    return pytest.mark.parametrize(("of", "case"), [(n, c) for n in names for c in BANKS[n][1]])


@pytest.fixture(scope="module")
def measured(truth) -> Callable[[str], Truth]:
    """The same network with statistics of some inputs."""
    made: dict[str, Truth] = {}

    def network(name: str) -> Truth:
        if name not in made:
            plain = truth(name).net
            net = wa.load(plain.module, input=plain.input)
            wa.measure(net, torch.randn((6, *net.input.shape), generator=torch.Generator().manual_seed(3)))
            made[name] = Truth(net)
        return made[name]

    return network


@cases("convolutions", "pools", "moves", "arithmetic", "norms", "signals", "features")
def test_an_operator_is_passed_as_autograd_passes_it(truth, of: str, case: str) -> None:
    known = truth(of)
    check_everywhere(known.net, "stem", case, known)


@cases("modules", "functions")
def test_activations_are_read_by_their_gate(truth, of: str, case: str) -> None:
    known = truth(of)
    for gate in ("expected", "identity", 0.5) if of == "modules" else ("expected",):
        weights = check_everywhere(known.net, "stem", case, known, edges=1, gate=gate)
        assert [r.module.removesuffix("#2").split(":")[0] for r in weights.replaced] == [f"{case}.2"]
        (read,) = weights.replaced
        if of == "modules":
            assert read.operator == type(ACTIVATIONS[case]).__name__
        assert read.source == {"expected": "batch norm", "identity": "", 0.5: "given"}[gate]
        assert len(read.factor) == {"expected": 4, "identity": 0, 0.5: 1}[gate]


@cases("modules", "norms")
def test_with_measured_statistics(measured, of: str, case: str) -> None:
    known = measured(of)
    weights = check_everywhere(known.net, "stem", case, known, edges=2, gate="expected")
    assert {r.source for r in weights.replaced} == {"measured"}


HELD = {
    "squeeze_and_excitation": ["second"],
    "gate_first": ["first"],
    "gate_of_same_shape": ["second"],
    "gate_per_position": ["second"],
    "two_alike": ["first", "second"],
    "squared": ["first"],
    "divided_by_data": ["divisor"],
    "spread_by_both": ["second"],
}


@pytest.mark.parametrize("case", HELD)
def test_data_dependent_factors_are_held_at_their_measured_mean(measured, case: str) -> None:
    known = measured("arithmetic")
    weights = check_everywhere(known.net, "stem", case, known, edges=2, gate="expected")
    assert all("held at its measured mean" in r.became and r.source == "measured" for r in weights.replaced)
    assert [r.became.split()[0] for r in weights.replaced] == HELD[case]
    plain = check_everywhere(known.net, "stem", case, known, edges=0, gate="identity")
    assert all("held at 1" in r.became and not r.factor for r in plain.replaced)
    assert not np.allclose(plain.values, weights.values)


@pytest.mark.parametrize(
    ("case", "held"), [("gate_and_value", "second factor held at 1"), ("divisor_and_value", "divisor held at 1")]
)
def test_a_path_that_is_cut_is_told(truth, case: str, held: str) -> None:
    """A source that reaches the target through a gate, and along another way as well."""
    known = truth("arithmetic")
    weights = check_everywhere(known.net, f"{case}.e", case, known, edges=2)
    assert held in {r.became for r in weights.replaced}


MAXIMA = [(of, c) for of in ("pools", "signals") for c in BANKS[of][1] if "max" in c and c[:3] not in ("ada", "glo")]


@pytest.mark.parametrize(("of", "case"), MAXIMA)
def test_maxima_by_measured_shares(measured, of: str, case: str) -> None:
    known = measured(of)
    weights = check_everywhere(known.net, "stem", case, known, pool="expected")
    assert weights.groups == (4 if "grouped" in case else 1)
    (read,) = weights.replaced
    assert (read.became, read.source) == ("measured shares of its window", "measured")


@pytest.mark.parametrize(
    ("of", "source", "target"),
    [
        ("convolutions", "linear_of_channels.l", "linear_of_channels"),  # from channels last
        ("convolutions", "stem", "linear_of_channels.l"),  # to channels last
        ("convolutions", "input", "stem"),
        ("convolutions", "linear_of_all.2", "linear_of_all"),
        ("signals", "token_norm.n", "token_norm"),
        ("features", "input", "as_a_grid"),
        ("pools", "mean.a", "mean"),
        ("pools", "global_1x1.1", "global_1x1"),
    ],
)
def test_layers_of_any_shape_are_sources_and_targets(truth, of: str, source: str, target: str) -> None:
    known = truth(of)
    check_everywhere(known.net, source, target, known)


class Attention(nn.Module):
    """Softmax attention of tokens, by hand or by PyTorch."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.mix = fused, nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = self.mix(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        return torch.softmax(q @ k.transpose(1, 2) / 2, -1) @ v


REFUSED = {
    "cumsum": (fn(lambda y: torch.cumsum(y, 1)), "cumsum", ""),
    "attention": (Attention(False), "softmax", "Attention is not supported yet"),
    "fused_attention": (Attention(True), "scaled_dot_product_attention", "Attention is not supported yet"),
    "batch_statistics": (S(nn.BatchNorm2d(4, track_running_stats=False)), "batch_norm", "its own batch"),
    "glu": (S(nn.GLU(1)), "glu", ""),
    "softshrink": (S(nn.Softshrink()), "where", ""),
    "largest_channel": (fn(lambda y: y.amax(1, keepdim=True).expand(-1, 4, -1, -1)), "amax", ""),
    "mean_of_the_batch": (fn(lambda y: y - y.mean(0, keepdim=True)), "mean", "batch axis"),
    "mean_of_everything": (fn(lambda y: y - y.mean()), "sub", "axes"),
    "batch_joined": (fn(lambda y: y.reshape(-1, 2, 6, 5).flip(1).view(-1, 4, 6, 5)), "view", "joins the batch axis"),
    "floored": (fn(lambda y: torch.div(y, 2, rounding_mode="floor")), "div", "rounded"),
    "kernel_from_the_data": (
        fn(lambda y: F.conv2d(y, y.mean((0, 2, 3)).view(1, 4, 1, 1).expand(4, 4, 3, 3))), "conv2d", "its weight depends on the input",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def refused() -> wa.Network:
    return wa.load(
        Bank(conv(2, 4, 1), {n: m for n, (m, *_) in REFUSED.items()}).eval(), input=wa.InputSpec(shape=(2, 6, 5))
    )


@pytest.mark.parametrize("case", REFUSED)
def test_an_operator_without_a_rule_names_itself_its_module_and_what_to_do(refused, case: str) -> None:
    _, operator, why = REFUSED[case]
    with pytest.raises(GraphError) as caught:
        wa.expanded_weights(refused, "stem", case, gate="identity")
    message = str(caught.value)
    assert f"{operator}" in message.split("in module")[0]
    assert f"in module '{case}" in message
    assert "wa.register_rule(" in message
    assert why in message


@pytest.fixture
def rules(monkeypatch) -> None:
    """Whatever is registered is forgotten after the test."""
    monkeypatch.setattr(table, "_RULES", dict(table._RULES))
    monkeypatch.setattr(table, "_TAUGHT", set(table._TAUGHT))


@pytest.mark.parametrize("operator", ["cumsum", "aten.cumsum", torch.ops.aten.cumsum.default, torch.ops.aten.cumsum])
def test_a_taught_rule_is_used(refused, rules, operator) -> None:
    def cumsum(step):
        """out[c] = Σ in[0 … c]: every input goes to the outputs from its own place on."""
        assert step.arguments["dim"] == 1
        values = step.full().values
        return [(step.source, step.kernel.like(values.flip(1).cumsum(1).flip(1), first=None))]

    with pytest.raises(GraphError, match="cumsum"):
        wa.expanded_weights(refused, "stem", "cumsum")
    wa.register_rule(operator, cumsum)
    check_everywhere(refused, "stem", "cumsum")


def test_a_taught_rule_replaces_ours_and_what_was_planned(truth, rules) -> None:
    net = truth("moves").net
    before = wa.expanded_weights(net, "stem", "flip")
    wa.register_rule("flip", lambda step: [(step.source, step.kernel.scaled(3.0))])
    after = wa.expanded_weights(net, "stem", "flip")
    plain = wa.expanded_weights(net, "stem", "clone_dropout")
    assert after.at is None
    assert before.at is not None
    conv = net.module.flip[1].weight.detach()
    np.testing.assert_allclose(after.values, 3 * conv, rtol=1e-6)
    assert plain.values.shape == (3, 4, 4, 4)


def test_an_operator_of_ones_own(rules) -> None:
    """What users have: an operator of their own library in the middle of a net."""
    threefold = torch.library.custom_op(
        "wa_test::threefold", lambda x: x * 3, mutates_args=(), schema="(Tensor x) -> Tensor"
    )
    threefold.register_fake(torch.empty_like)
    net = wa.load(S(conv(2, 4), Fn(lambda m, x: threefold(x)), conv(4, 3)), input=wa.InputSpec(shape=(2, 9, 9)))
    with pytest.raises(
        GraphError, match=r"wa_test.threefold.default in module '1'.*wa.register_rule\('threefold', rule\)"
    ):
        wa.expanded_weights(net, "0", "2")
    wa.register_rule(torch.ops.wa_test.threefold, lambda step: [(step.source, step.kernel.scaled(3.0))])
    weights = wa.expanded_weights(net, "0", "2")
    np.testing.assert_allclose(weights.values, 3 * net.module[2].weight.detach(), rtol=1e-6)


def test_bad_rules_are_refused() -> None:
    with pytest.raises(ArgumentError, match="must be a function of one step, not 3"):
        wa.register_rule("cumsum", 3)
    with pytest.raises(ArgumentError, match="takes an operator or its name"):
        wa.register_rule(7, lambda step: [])
    with pytest.raises(ArgumentError, match="takes an operator or its name"):
        wa.register_rule("", lambda step: [])


def test_every_rule_has_met_autograd(truth) -> None:
    """Each function in the table stands under one of its names in some bank (others are spellings of other versions)."""
    met = {table._RULES.get(operator_of(n)) for of in BANKS for n in capture(truth(of).net).nodes}
    assert not {f.__name__ for f in table._RULES.values()} - {f.__name__ for f in met if f}
