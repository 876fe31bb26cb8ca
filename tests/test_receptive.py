"""Receptive fields against the support of the input's gradient."""

from __future__ import annotations

import pytest
import torch
from catalogue import EXACT, HULLS, UNKNOWN, WHOLE, S, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from truth import averaging, check_fields, outputs

import weightatlas as wa


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("name", EXACT)
def test_every_position_sees_exactly_the_field(name: str) -> None:
    net = check_fields(EXACT[name], (2, 24, 20))
    notes = {layer.name: layer.receptive_note for layer in net.layers.values() if layer.receptive_field is None}
    assert not notes, notes
    assert all(layer.grid and layer.units for layer in net.layers.values())


@pytest.mark.parametrize("name", HULLS)
def test_all_positions_together_fill_the_field(name: str) -> None:
    last = list(dict(HULLS[name].named_children()))[-1]
    net = check_fields(HULLS[name], (2, 24, 20), tight=False, hull=len(HULLS[name]) == 1)
    assert net.layers[last].receptive_field is not None, net.layers[last].receptive_note


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_moves_positions_is_never_wrong(name: str) -> None:
    # "a" of "an older view" is written over later, and then holds what it did not see
    net = check_fields(UNKNOWN[name], (2, 24, 20), tight=False, skip=("a",) if name == "an older view" else ())
    last = list(net.layers.values())[-1]
    if "deep" not in name:
        assert last.receptive_field is None
        assert last.receptive_note.startswith("unknown") or last.receptive_note == "whole input"
    assert last.units == 2  # a convolution knows its units whatever came in


@pytest.mark.parametrize("name", WHOLE)
def test_what_mixes_all_positions_sees_the_whole_input(name: str) -> None:
    net = check_fields(WHOLE[name], (2, 24, 20))
    last = list(net.layers.values())[-1]
    assert (last.receptive_field, last.receptive_note) == (None, "whole input")


def test_signals() -> None:
    c = nn.Conv1d
    net = S(
        c(2, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(3, 2, 1), c(4, 4, 3, dilation=2)
    )
    table = check_fields(net, (2, 40)).layers
    assert table["4"].receptive_field == wa.load(net, input=wa.InputSpec(shape=(2, 40))).layers["4"].receptive_field
    assert (table["4"].receptive_field.size, table["4"].grid) == ((1.0, 25.0), (1, 6))  # 5 + 2·2 + 4·4
    up = S(
        c(2, 2, 3), nn.AvgPool1d(2), nn.ConvTranspose1d(2, 2, 4, stride=2), nn.Upsample(scale_factor=2, mode="linear")
    )
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


@pytest.mark.slow
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

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
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
