"""Blocks multiplied out, against the gradient of the block without its activations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.models.efficientnet_lite import Conv2dSame, InvertedResidual

C, B = nn.Conv2d, nn.BatchNorm2d


def straightened(module: nn.Module) -> nn.Module:
    """A double-precision copy with every activation the identity and no residual path."""
    module = copy.deepcopy(module).double().eval()
    for holder in module.modules():
        for name, child in holder.named_children():
            if type(child).__name__ in nn.modules.activation.__all__:
                setattr(holder, name, nn.Identity())
        if hasattr(holder, "has_skip"):
            holder.has_skip = False
    return module


def check_against_gradient(weights: wa.Weights, linear: nn.Module, shape: tuple[int, ...], units: list[int]) -> None:
    """One position in the middle: its gradient is the kernel at the place that stride and origin name, else zero."""
    x = torch.zeros((1, *shape), dtype=torch.float64, requires_grad=True)
    out = linear(x)
    t = (out.shape[2] // 2, out.shape[3] // 2)
    top, left = (int(t[i] * weights.stride[i] + weights.origin[i]) for i in (0, 1))
    h, w = weights.values.shape[2:]
    assert top >= 0
    assert left >= 0
    assert top + h <= shape[1]
    assert left + w <= shape[2]
    row = {int(u): i for i, u in enumerate(weights.units)}
    for unit in units:
        expected = torch.zeros(shape, dtype=torch.float64)
        expected[:, top : top + h, left : left + w] = torch.from_numpy(weights.values[row[unit]]).double()
        (gradient,) = torch.autograd.grad(out[0, unit, t[0], t[1]], x, retain_graph=True)
        scale = float(gradient.abs().max())
        np.testing.assert_allclose(gradient[0], expected, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name",
    ["blocks.0.0", "blocks.1.0", "blocks.1.1", "blocks.2.0", "blocks.3.1", "blocks.4.1", "blocks.5.0", "blocks.6.0"],
)
def test_blocks_of_the_embedded_network(lite0, name: str) -> None:
    layer, block = lite0.layers[name], lite0.module.get_submodule(name)
    weights = wa.direct_weights(lite0, name)
    source = lite0.layers[layer.source]
    linear = straightened(block)
    # even sizes, as in the network: TF padding depends on them
    size = source.grid if min(source.grid) > 13 else (14, 14)
    halved = name in ("blocks.1.0", "blocks.2.0", "blocks.5.0")
    assert weights.stride == ((2, 2) if halved else (1, 1))
    check_against_gradient(weights, linear, (source.units, *size), [0, layer.units // 2, layer.units - 1])
    assert weights.norm == f"{name}.{'bn3' if name != 'blocks.0.0' else 'bn2'}"
    assert [r.became for r in weights.replaced] == ["identity"] * len(weights.replaced)
    assert len(weights.replaced) == (2 if name != "blocks.0.0" else 1)
    residual = any("residual path" in note for note in weights.provenance.notes)
    assert residual == block.has_skip
    assert any("ReLU6 read as the identity" in note for note in weights.provenance.notes)


def test_the_last_norm_is_folded_on_request(lite0) -> None:
    from weightatlas.weights.tensors import norm_scale

    raw, folded = (wa.direct_weights(lite0, "blocks.3.1", fold_norm=fold) for fold in (False, True))
    scale = norm_scale(lite0.module.blocks[3][1].bn3).numpy()
    np.testing.assert_allclose(folded.values, raw.values * scale[:, None, None, None], rtol=1e-4, atol=1e-6)
    assert (raw.norm, folded.norm) == ("", "blocks.3.1.bn3")
    some = wa.direct_weights(lite0, "blocks.3.1", units=[5, 2])
    np.testing.assert_array_equal(some.values, folded.values[[5, 2]])


STEP = st.tuples(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.sampled_from([(1, 4), (2, 4), (4, 4), (1, 6), (2, 6)]),
    st.sampled_from(["same", "valid", "TF", "padded"]),
    st.booleans(),
)


def _step(width: int, kernel, stride, dilation, groups_outputs, padding, norm) -> list[nn.Module]:
    groups, outputs = groups_outputs
    groups = groups if width % groups == 0 and outputs % groups == 0 else 1
    options = dict(kernel_size=kernel, stride=stride, dilation=dilation, groups=groups)
    if padding == "TF":
        conv = Conv2dSame(width, outputs, **options)
    elif padding == "same" and stride == 1 and all(k % 2 or dilation == 2 for k in kernel):
        conv = C(width, outputs, padding="same", **options)
    else:
        conv = C(width, outputs, padding=(1, 2) if padding == "padded" else 0, **options)
    return [conv, *([B(outputs)] if norm else []), nn.SiLU()]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(STEP, min_size=1, max_size=3), st.integers(0, 1))
def test_random_chains(steps, odd: int) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 4
    for step in steps:
        layers += _step(width, *step)
        width = step[3][1]
    module = settle(nn.Sequential(nn.Sequential(*layers), nn.ReLU()))
    shape = (4, 64 + odd, 61)
    weights = wa.direct_weights(wa.load(module, input=wa.InputSpec(shape=shape)), "0")
    check_against_gradient(weights, straightened(module[0]), shape, [0, width - 1])


class Block(nn.Module):
    def __init__(self, forward, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def block_of(forward, **children: nn.Module) -> wa.Network:
    module = nn.Sequential(settle(Block(forward, **children)), nn.Identity())
    return wa.load(module, input=wa.InputSpec(shape=(4, 12, 12)))


def pair(**more: nn.Module) -> dict[str, nn.Module]:
    return dict(a=C(4, 4, 3, padding=1), b=C(4, 4, 3, padding=1), **more)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.act(m.a(x))) + x,
        lambda m, x: x + m.b(m.act(m.a(x))),
        lambda m, x: m.b(m.drop(m.act(m.a(x)))).add_(x),
        lambda m, x: m.b(m.act(m.a(x))),
    ],
)
def test_residual_forms(forward) -> None:
    net = block_of(forward, **pair(act=nn.ReLU(inplace=True), drop=nn.Dropout2d()))
    weights = wa.direct_weights(net, "0")
    block = net.module[0]
    check_against_gradient(weights, nn.Sequential(block.a, block.b).double(), (4, 12, 12), [0, 3])
    assert [(r.operator, r.module) for r in weights.replaced] == [("ReLU", "0.act")]


def test_a_shared_convolution_counts_twice() -> None:
    net = block_of(lambda m, x: m.a(m.act(m.a(x))), a=C(4, 4, 3, padding=1), act=nn.Hardswish())
    weights = wa.direct_weights(net, "0")
    conv = net.module[0].a.double()
    check_against_gradient(weights, nn.Sequential(conv, conv), (4, 12, 12), [1])


@pytest.mark.parametrize(
    ("forward", "more", "message"),
    [
        (lambda m, x: m.a(x) + m.b(x), {}, "'0.b' does not read what runs before it"),
        (lambda m, x: torch.cat([m.b(m.a(x)), x], 1), {}, "its output comes from 'cat'"),
        (lambda m, x: m.b(functional.relu(m.a(x))), {}, "'0.b' does not read"),
        (lambda m, x: m.b(m.a(x) * 2), {}, "'0.b' does not read"),
        (lambda m, x: m.b(m.a(x)).relu(), {}, "comes from 'relu'"),
        (lambda m, x: m.b(m.a(x)) * x, {}, "comes from 'mul'"),
        (lambda m, x: m.b(m.a(x)) + 2 * x, {}, "comes from 'add'"),
        (lambda m, x: torch.add(x, m.b(m.a(x)), alpha=0.1), {}, "comes from 'add with alpha'"),
        (lambda m, x: torch.sub(m.b(m.a(x)), x), {}, "comes from 'sub'"),
        (lambda m, x: m.b(m.pool(m.a(x))), dict(pool=nn.AvgPool2d(2)), "'0.pool' is a AvgPool2d"),
        (lambda m, x: m.b(m.up(m.a(x))), dict(up=nn.Upsample(scale_factor=2)), "'0.up' is a Upsample"),
        (lambda m, x: m.b(m.norm(m.a(x))), dict(norm=nn.GroupNorm(2, 4)), "'0.norm' is a GroupNorm"),
        (lambda m, x: m.b(m.soft(m.a(x))), dict(soft=nn.Softmax(1)), "'0.soft' is a Softmax"),
        (lambda m, x: m.c(m.glu(m.a(x))), dict(glu=nn.GLU(1), c=C(2, 4, 1)), "'0.glu' is a GLU"),
        (
            lambda m, x: m.norm(m.b(m.a(x))),
            dict(norm=B(4, track_running_stats=False)),
            "'0.norm' normalises by its own",
        ),
        (lambda m, x: m.act(x), dict(act=nn.ReLU()), r"holds no convolution"),
        (lambda m, x: m.t(m.a(x)), dict(t=nn.ConvTranspose2d(4, 4, 2)), "'0.t' is a ConvTranspose2d"),
    ],
)
def test_what_is_no_chain_is_refused_by_name(forward, more, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        wa.direct_weights(block_of(forward, **pair(**more)), "0")


def test_whole_stages_are_no_chain(lite0) -> None:
    with pytest.raises(ArgumentError, match=r"'blocks.3' is not one chain.*blocks\.3\.\d"):
        wa.direct_weights(lite0, "blocks.3")
    with pytest.raises(
        ArgumentError,
        match=r"'act1' is an activation \(ReLU6\) without direct weights; layers with them: 'conv_stem'",
    ):
        wa.direct_weights(lite0, "act1")


def test_bad_values_reach_only_what_they_feed() -> None:
    block = settle(InvertedResidual(4, 4, 3, 1))
    with torch.no_grad():
        block.conv_pwl.weight[2, 0] = float("nan")
    weights = wa.direct_weights(wa.load(nn.Sequential(block), input=wa.InputSpec(shape=(4, 9, 9))), "0")
    assert np.isnan(weights.values).any((1, 2, 3)).tolist() == [False, False, True, False]
    with pytest.raises(wa.WeightAtlasError, match="in 1 of 4 units: 0:2"):
        weights.require_finite()
