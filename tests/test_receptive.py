"""Receptive fields against the support of the input's gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from truth import averaging, check_fields, outputs

import weightatlas as wa
from weightatlas.models.efficientnet_lite import Conv2dSame

S = nn.Sequential


class Fn(nn.Module):
    """A function of the input around some children, which hypothesis and parametrize can name."""

    def __init__(self, function, **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        return self.function(self, x)


def conv(i=2, o=2, k=3, **options) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, **options)


EXACT = {
    "stride, padding": S(conv(stride=2, padding=1), nn.ReLU(), conv(k=5, padding=2), conv(stride=3)),
    "non-square": S(conv(k=(1, 7), padding=(0, 3)), conv(k=(5, 2), stride=(2, 1))),
    "dilation": S(conv(dilation=2, padding=2), conv(dilation=(3, 1))),
    "same": S(conv(k=5, padding="same"), conv(k=3, dilation=2, padding="same")),
    "same, even": S(conv(k=(3, 4), padding="same"), conv(k=(2, 3), padding="same")),
    "TF same": S(Conv2dSame(2, 2, 3, stride=2), Conv2dSame(2, 2, 5, stride=2), Conv2dSame(2, 2, 2)),
    "groups": S(conv(2, 4), conv(4, 4, groups=4, padding=1), nn.BatchNorm2d(4), conv(4, 4, groups=2)),
    "average pool": S(conv(padding=1), nn.AvgPool2d(3, 2, padding=1), conv(), nn.AvgPool2d(2, ceil_mode=True)),
    "max pool": S(conv(padding=1), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(2, 1, dilation=2), conv()),
    "ceil mode": S(nn.MaxPool2d(3, 2, ceil_mode=True), conv(), nn.MaxPool2d((1, 3), (1, 2), ceil_mode=True)),
    "lp pool": S(conv(), nn.LPPool2d(2, 2)),
    "zero pad": S(nn.ZeroPad2d((1, 2, 3, 0)), conv(), nn.ConstantPad2d(-1, 0.0), conv()),
    "reflect": S(conv(), nn.ReLU(), Fn(lambda m, x: m.a(functional.pad(x, (3, 3, 3, 3), "reflect")), a=conv(k=7))),
    "padding modes": S(conv(padding=1, padding_mode="reflect"), conv(padding=1, padding_mode="replicate", stride=2)),
    "adaptive, dividing": S(nn.AdaptiveAvgPool2d((8, 10)), conv()),
    "shuffle back": S(nn.PixelUnshuffle(2), conv(8, 8), conv(8, 3, stride=2)),
    "local response": S(conv(2, 8), nn.LocalResponseNorm(3), conv(8, 2)),
    "prelu, gelu, silu": S(conv(), nn.PReLU(2), conv(), nn.GELU(), nn.SiLU(inplace=True), conv(), nn.Dropout2d()),
    "in place": S(conv(), nn.ReLU(inplace=True), nn.BatchNorm2d(2), nn.ReLU6(inplace=True), conv()),
    "glu": S(conv(2, 4), nn.GLU(1), conv()),
    "residual": Fn(lambda m, x: m.c(functional.relu(m.a(x) + m.b(x))), a=conv(padding=1), b=conv(k=5, padding=2), c=conv()),
    "residual in place": Fn(lambda m, x: m.c(m.b(m.a(x)).add_(x)), a=conv(padding=1), b=conv(padding=1), c=conv()),
    "concat": Fn(
        lambda m, x: m.c(torch.cat([m.a(x), x, m.b(x)], 1)), a=conv(padding=1), b=conv(k=(1, 5), padding=(0, 2)), c=conv(6)
    ),
    "split": Fn(lambda m, x: m.b(torch.cat([m.a(x)[:, :2], m.a(x).chunk(2, 1)[1]], 1)), a=conv(2, 4), b=conv(4)),
    "slices": Fn(lambda m, x: m.b(m.a(x)[:, :, 2:-1, 1::2]), a=conv(), b=conv()),
    "focus": Fn(
        lambda m, x: m.a(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)), a=conv(8)
    ),
    "channels last": Fn(
        lambda m, x: m.b(m.n(m.l(m.a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
        a=conv(padding=1), l=nn.Linear(2, 3), n=nn.LayerNorm(3), b=conv(3),
    ),
    "transposed axes": Fn(lambda m, x: m.a(x.transpose(2, 3)), a=conv(k=(3, 5))),
    "channel shuffle": Fn(
        lambda m, x: m.b(m.a(x).view(x.shape[0], 2, 2, *m.a(x).shape[2:]).transpose(1, 2).flatten(1, 2)), a=conv(2, 4), b=conv(4)
    ),
    "twice": Fn(lambda m, x: m.r(m.a(m.r(m.a(x)))), a=conv(padding=1), r=nn.ReLU()),
    "stacked": Fn(lambda m, x: m.b(torch.stack([m.a(x), x[:, :, 1:-1, 1:-1]]).amax(0)), a=conv(), b=conv()),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("name", EXACT)
def test_every_position_sees_exactly_the_field(name: str) -> None:
    net = check_fields(EXACT[name], (2, 24, 20))
    notes = {layer.name: layer.receptive_note for layer in net.layers.values() if layer.receptive_field is None}
    assert not notes, notes
    assert all(layer.grid and layer.units for layer in net.layers.values())


HULLS = {
    "transposed": S(conv(stride=2), nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1), conv()),
    "transposed, wide": S(nn.ConvTranspose2d(2, 2, (3, 5), stride=(1, 3), dilation=2, padding=(0, 2), output_padding=(0, 1))),
    "nearest": S(conv(), nn.Upsample(scale_factor=2), conv()),
    "nearest, odd": S(nn.Upsample(size=(31, 17)), conv()),
    "nearest, scale": S(nn.Upsample(scale_factor=(1.5, 0.7)), conv()),
    "nearest-exact": S(nn.Upsample(size=(9, 31), mode="nearest-exact")),
    "bilinear": S(nn.Upsample(scale_factor=2, mode="bilinear"), conv()),
    "bilinear, scale": S(nn.Upsample(scale_factor=1.3, mode="bilinear"), conv()),
    "bilinear, corners": S(nn.Upsample(size=(40, 33), mode="bilinear", align_corners=True)),
    "bilinear, smaller": S(nn.Upsample(size=(7, 11), mode="bilinear")),
    "adaptive": S(nn.AdaptiveAvgPool2d((7, 3))),
    "adaptive max": S(nn.AdaptiveMaxPool2d((5, 9))),
    "pixel shuffle": S(conv(2, 8, padding=1), nn.PixelShuffle(2), conv()),
}  # fmt: skip


@pytest.mark.parametrize("name", HULLS)
def test_all_positions_together_fill_the_field(name: str) -> None:
    last = list(dict(HULLS[name].named_children()))[-1]
    net = check_fields(HULLS[name], (2, 24, 20), tight=False, hull=len(HULLS[name]) == 1)
    assert net.layers[last].receptive_field is not None, net.layers[last].receptive_note


UNKNOWN = {
    "flip": Fn(lambda m, x: m.a(x.flip(2)), a=conv()),
    "roll": Fn(lambda m, x: m.a(m.b(x).roll(1, 3)), b=conv(), a=conv()),
    "circular": S(conv(padding=1, padding_mode="circular"), conv()),
    "circular, added": Fn(lambda m, x: m.b(m.a(x) + x), a=conv(padding=1, padding_mode="circular"), b=conv()),
    "reflect, deep": S(nn.ReflectionPad2d(6), conv(), conv()),
    "replicate, deep": S(nn.ReplicationPad2d(6), conv(), conv()),
    "rows joined": Fn(lambda m, x: m.a(torch.cat([x, x], 2)), a=conv()),
    "rows chosen": Fn(lambda m, x: m.a(x[:, :, [3, 1, 2, 0]]), a=conv(k=1)),
    "transposed, added": Fn(lambda m, x: m.a(x[:, :, :20] + x[:, :, :20].transpose(2, 3)), a=conv()),
    "one row spread": Fn(lambda m, x: m.a(x + x[:, :, :1]), a=conv()),
    "one row expanded": Fn(lambda m, x: m.a(x[:, :, 3:4].expand(-1, -1, 24, -1)), a=conv()),
    "scale from a narrow view": Fn(
        lambda m, x: m.b(x * m.l(m.a(x).flatten(1))[:, :, None, None]), a=conv(k=(24, 20)), l=nn.Linear(2, 2), b=conv()
    ),
    "kernel from the image": Fn(
        lambda m, x: m.b(functional.conv2d(x, x.mean((0, 2, 3)).view(1, 2, 1, 1).expand(2, 2, 3, 3))), b=conv()
    ),
    "written through a view": Fn(lambda m, x: m.b(_written(x)), b=conv()),
    "an older view": Fn(lambda m, x: m.b(_older_view(m.a(x), x)), a=conv(padding=1), b=conv(k=1)),
    "second of two results": Fn(lambda m, x: m.a(torch.var_mean(x, 1, keepdim=True)[1].expand(-1, 2, -1, -1)), a=conv()),
    "shifted": Fn(lambda m, x: m.a(_shifted(x)), a=conv()),
    "bicubic": S(nn.Upsample(scale_factor=2, mode="bicubic"), conv()),
    "row attention": Fn(lambda m, x: m.a(torch.softmax(x @ x.transpose(2, 3), -1) @ x), a=conv()),
    "columns mixed": Fn(lambda m, x: m.a(m.l(x)), l=nn.Linear(20, 20), a=conv()),
    "unfolded": Fn(lambda m, x: m.a(functional.unfold(x, 3).view(x.shape[0], 18, 22, 18)), a=conv(18)),
}  # fmt: skip


def _written(x):
    out = torch.zeros(x.shape, dtype=x.dtype)
    out[:, :, 3:] = x[:, :, :-3]
    return out + x


def _older_view(a, x):
    view = a.detach() if not x.requires_grad else a[:]
    a += x.roll(5, 2)
    return view


def _shifted(x):
    out = torch.zeros_like(x)
    out[:, :1, 1:] = x[:, :1, :-1]
    out[:, 1:] = x[:, 1:]
    return out


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_moves_positions_is_never_wrong(name: str) -> None:
    # "a" of "an older view" is written over later, and then holds what it did not see
    net = check_fields(UNKNOWN[name], (2, 24, 20), tight=False, skip=("a",) if name == "an older view" else ())
    last = list(net.layers.values())[-1]
    if "deep" not in name:
        assert last.receptive_field is None
        assert last.receptive_note.startswith("unknown") or last.receptive_note == "whole input"
    assert last.units == 2  # a convolution knows its units whatever came in


WHOLE = {
    "squeeze and excitation": Fn(
        lambda m, x: m.b(m.a(x) * torch.sigmoid(m.e(m.s(functional.adaptive_avg_pool2d(m.a(x), 1))))),
        a=conv(padding=1), s=conv(k=1), e=conv(k=1), b=conv(),
    ),
    "group norm": S(conv(2, 4), nn.GroupNorm(2, 4), conv(4)),
    "instance norm": S(conv(2, 4), nn.InstanceNorm2d(4), conv(4)),
    "layer norm over all": S(conv(), nn.LayerNorm((2, 22, 18)), conv()),
    "batch norm without statistics": S(conv(), nn.BatchNorm2d(2, track_running_stats=False), conv()),
    "softmax over positions": Fn(lambda m, x: m.b(m.a(x).softmax(3).softmax(2)), a=conv(), b=conv()),
    "flatten, linear": S(conv(), nn.Flatten(), nn.Linear(792, 3)),
    "flattened branches": Fn(
        lambda m, x: m.l(torch.cat([m.a(x).flatten(1), x.flatten(1)], 1)), a=conv(), l=nn.Linear(792 + 960, 3)
    ),
    "global pool": S(conv(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2, 3)),
    "mean": Fn(lambda m, x: m.l(m.a(x).mean((2, 3))), a=conv(), l=nn.Linear(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_mixes_all_positions_sees_the_whole_input(name: str) -> None:
    net = check_fields(WHOLE[name], (2, 24, 20))
    last = list(net.layers.values())[-1]
    assert (last.receptive_field, last.receptive_note) == (None, "whole input")


def test_signals() -> None:
    c = nn.Conv1d
    net = S(c(2, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(3, 2, 1), c(4, 4, 3, dilation=2))
    table = check_fields(net, (2, 40)).layers
    assert table["4"].receptive_field == wa.load(net, input=wa.InputSpec(shape=(2, 40))).layers["4"].receptive_field
    assert (table["4"].receptive_field.size, table["4"].grid) == ((1.0, 25.0), (1, 6))  # 5 + 2·2 + 4·4
    up = S(c(2, 2, 3), nn.AvgPool1d(2), nn.ConvTranspose1d(2, 2, 4, stride=2), nn.Upsample(scale_factor=2, mode="linear"))
    check_fields(up, (2, 40), tight=False)
    pads = S(nn.ReflectionPad1d(2), c(2, 2, 5), nn.ReplicationPad1d(1), c(2, 2, 3), nn.ConstantPad1d(1, 0.0))
    table = check_fields(pads, (2, 40), tight=False).layers
    assert [layer.receptive_field.size[1] for layer in table.values()] == [7 + 2, 5, 5 + 2, 7, 7]  # margins, then tight


def test_vectors_have_no_positions() -> None:
    table = wa.load(S(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), input=wa.InputSpec(shape=(5,))).layers
    assert {(layer.grid, layer.receptive_note) for layer in table.values()} == {((1, 1), "whole input")}


@pytest.fixture
def quiet(monkeypatch):
    """transformers writes progress and advice; models here are made from a configuration, nothing is fetched."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_transformers_resnet(quiet) -> None:
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=4, hidden_sizes=[8, 8], depths=[1, 2], layer_type="bottleneck")
    table = check_fields(ResNetModel(config), (3, 32, 24), tight=False).layers
    stem = table["embedder.embedder.convolution"]
    assert (stem.receptive_field.size, stem.receptive_field.offset) == ((7, 7), (-3, -3))
    # 7, +2·2 pool = 11 at stride 4, then 3×3 kernels at strides 4, 4, 8
    last = table["encoder.stages.1.layers.1.layer.1.convolution"].receptive_field
    assert (last.size, last.stride) == ((11 + 8 + 8 + 16,) * 2, (8, 8))
    assert table["pooler"].receptive_note == "whole input"


def test_transformers_convnext(quiet) -> None:
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(num_stages=2, hidden_sizes=[6, 8], depths=[1, 1], layer_scale_init_value=0.5)
    table = check_fields(ConvNextModel(config), (3, 40, 48), tight=False).layers
    inner = table["encoder.stages.0.layers.0.pwconv1"]
    assert (inner.axes, inner.grid, inner.units) == (("N", "y", "x", "C"), (10, 12), 24)
    assert table["encoder.stages.0"].receptive_field.size == (4 + 6 * 4, 4 + 6 * 4)
    assert table["encoder.stages.1"].receptive_field.size == (28 + 4 + 6 * 8, 28 + 4 + 6 * 8)


def test_transformers_vit(quiet) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8)  # fmt: skip
    table = check_fields(ViTModel(config), (3, 32, 32)).layers
    patches = next(layer for layer in table.values() if layer.kind == "conv")
    assert (patches.receptive_field.size, patches.receptive_field.stride) == ((8, 8), (8, 8))
    after = list(table.values())[2:]  # the class token joins the patches: positions are no grid any more
    assert len(after) > 10
    assert {layer.receptive_field for layer in after} == {None}


def test_embedded_network(lite0) -> None:
    field = lite0.layers["blocks.4.1"].receptive_field
    assert (field.size, field.stride) == ((275, 275), (16, 16))
    # in closed form: 1 + Σ (k − 1) · stride so far, over stem and blocks as the paper lists them
    kernels = [(3, 2), (3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), (5, 1), (5, 1)]
    size = step = 1
    for kernel, stride in kernels:
        size, step = size + (kernel - 1) * step, step * stride
    assert (size, step) == (275, 16)


@pytest.mark.slow
def test_embedded_network_sees_what_it_says(lite0) -> None:
    """In an image large enough, one position of each block sees exactly its field; padding depends on the size."""
    shape = (3, 416, 384)
    table = wa.load(lite0.module, input=wa.InputSpec(shape=shape)).layers
    x = (torch.rand((1, *shape), dtype=torch.float64) / 10).requires_grad_()  # residuals add up; ReLU6 must stay open
    real = outputs(averaging(lite0.module), x)
    for name in ("conv_stem", "blocks.0.0", "blocks.1.1", "blocks.2.1.conv_dw", "blocks.3.2", "blocks.4.1"):
        field, out = table[name].receptive_field, real[name]
        y, x_at = out.shape[2] // 2, out.shape[3] // 2
        gradient = torch.autograd.grad(out[:, :, y, x_at].sum(), x, retain_graph=True)[0].abs().amax((0, 1))
        for i, (t, along) in enumerate(((y, gradient.amax(1)), (x_at, gradient.amax(0)))):
            hit = torch.nonzero(along > 0).flatten()
            first = t * field.stride[i] + field.offset[i]
            assert (hit[0], hit[-1]) == (first, first + field.size[i] - 1), (name, i)


LAYER = st.tuples(
    st.sampled_from(["conv", "max", "avg"]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.integers(1, 2),
)


def _random_layer(kind, kernel, stride, padding, dilation) -> nn.Module:
    half = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    if kind == "conv":
        return conv(k=kernel, stride=stride, padding=padding, dilation=dilation)
    return nn.MaxPool2d(kernel, stride, half) if kind == "max" else nn.AvgPool2d(kernel, stride, half, ceil_mode=True)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(LAYER, min_size=1, max_size=4), st.tuples(st.integers(14, 26), st.integers(14, 26)))
def test_random_networks(layers, size) -> None:
    torch.manual_seed(0)
    module = S(*(_random_layer(*layer) for layer in layers))
    try:
        module(torch.zeros(1, 2, *size))
    except RuntimeError:
        return  # shrunk to nothing
    net = check_fields(module, (2, *size), tight=False, hull=False)
    assert all(layer.receptive_field for layer in net.layers.values())
    # closed form: sizes add (k − 1)·d times the strides so far
    reach, step = [1, 1], [1, 1]
    for layer, made in zip(net.layers.values(), module, strict=True):
        for i in (0, 1):
            k, s, d = (pair if isinstance(pair, int) else pair[i] for pair in
                       (made.kernel_size, made.stride, getattr(made, "dilation", 1)))  # fmt: skip
            reach[i], step[i] = reach[i] + (k - 1) * d * step[i], step[i] * s
        assert layer.receptive_field.size == tuple(reach)
        assert layer.receptive_field.stride == tuple(step)
