"""Direct weights of blocks: expanded weights from the layer that a block reads, without its residual path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError, GraphError, WeightValuesError
from weightatlas.models.efficientnet_lite import InvertedResidual

C, B = nn.Conv2d, nn.BatchNorm2d


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


def gradient(function, shape: tuple[int, ...], units: list[int]) -> np.ndarray:
    """The gradient of some units at the central position."""
    x = torch.zeros((1, *shape), dtype=torch.float64, requires_grad=True)
    out = function(x)
    y, z = out.shape[2] // 2, out.shape[3] // 2
    return torch.stack([torch.autograd.grad(out[0, u, y, z], x, retain_graph=True)[0][0] for u in units]).numpy()


def central(weights: wa.Weights, shape: tuple[int, ...], out: tuple[int, int], units: list[int]) -> np.ndarray:
    """The kernels laid onto the source grid, for the central position of a target of size ``out``."""
    found = np.zeros((len(units), *shape))
    top, left = (int(out[i] // 2 * weights.stride[i] + weights.origin[i]) for i in (0, 1))
    h, w = weights.values.shape[2:]
    found[:, :, top : top + h, left : left + w] = weights.select(units).dense().values
    return found


@pytest.mark.parametrize("name", ["blocks.0.0", "blocks.1.0", "blocks.2.0", "blocks.4.1", "blocks.5.0", "blocks.6.0"])
def test_blocks_of_the_embedded_network(lite0, name: str) -> None:
    layer = lite0.layers[name]
    weights = wa.direct_weights(lite0, name)
    block = lite0.module.get_submodule(name)
    factor = {r.module.rpartition(".")[2]: torch.tensor(r.factor).double().view(1, -1, 1, 1) for r in weights.replaced}
    assert {r.source for r in weights.replaced} == {"batch norm"}

    def linear(x):  # the block's convolutions and norms one by one, its activations as factors, no residual path
        for part, child in block.named_children():
            x = x * factor[part] if part in factor else child.double()(x)
        return x

    source = lite0.layers[layer.source]
    size = (16, 16)
    out = tuple(n // int(s) for n, s in zip(size, weights.stride, strict=True))
    units = [0, layer.units // 2, layer.units - 1]
    try:
        truth = gradient(linear, (source.units, *size), units)
    finally:
        block.float()
    np.testing.assert_allclose(
        central(weights, (source.units, *size), out, units), truth, atol=1e-5 * np.abs(truth).max()
    )
    assert weights.stride == ((2, 2) if name in ("blocks.1.0", "blocks.2.0", "blocks.5.0") else (1, 1))
    assert (weights.skip is not None) == block.has_skip if hasattr(block, "has_skip") else weights.skip is None
    assert not weights.skip_included


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
    block = net.module[0].double()
    truth = gradient(nn.Sequential(block.a, block.b), (4, 12, 12), [0, 3])
    np.testing.assert_allclose(central(weights, (4, 12, 12), (12, 12), [0, 3]), truth, atol=1e-6)
    assert [(r.operator, r.module) for r in weights.replaced] == [("ReLU", "0.act")]
    assert "for want of statistics" in weights.replaced[0].became


@pytest.mark.parametrize(
    ("forward", "linear"),
    [
        (lambda m, x: m.a(x) + m.b(x), lambda m, x: m.a(x) + m.b(x)),
        (lambda m, x: m.b(functional.relu(m.a(x))), lambda m, x: m.b(m.a(x))),
        (lambda m, x: m.b(m.a(x) * 2), lambda m, x: m.b(m.a(x) * 2)),
        (lambda m, x: m.b(m.a(x)) + 2 * x, lambda m, x: m.b(m.a(x))),
        (lambda m, x: torch.sub(m.b(m.a(x)), x, alpha=0.1), lambda m, x: m.b(m.a(x))),
        (lambda m, x: m.a(functional.hardswish(m.a(x))), lambda m, x: m.a(m.a(x))),
    ],
)
def test_branches_and_shared_convolutions(forward, linear) -> None:
    net = block_of(forward, **pair())
    weights = wa.direct_weights(net, "0")
    module = net.module[0].double()
    truth = gradient(lambda x: linear(module, x), (4, 12, 12), [1, 2])
    np.testing.assert_allclose(central(weights, (4, 12, 12), (12, 12), [1, 2]), truth, atol=1e-6)


def test_a_stage_is_a_block_too(lite0) -> None:
    stage = wa.direct_weights(lite0, "blocks.3", units=[5, 2])
    whole = wa.expanded_weights(lite0, "blocks.2.1", "blocks.3.2", units=[5, 2], skip="exclude")
    np.testing.assert_array_equal(stage.values, whole.values)
    assert (stage.source, stage.target, stage.units.tolist()) == ("blocks.2.1", "blocks.3", [5, 2])


@pytest.mark.parametrize(
    ("forward", "more", "kind", "message"),
    [
        (lambda m, x: m.b(m.soft(m.a(x))), dict(soft=nn.Softmax(1)), GraphError, r"softmax.*'0\.soft'"),
        (lambda m, x: m.n(m.b(m.a(x))), dict(n=B(4, track_running_stats=False)), GraphError, r"own batch"),
        (lambda m, x: m.act(x), dict(act=nn.ReLU()), ArgumentError, "without direct weights"),
    ],
)
def test_what_cannot_be_multiplied_out_is_refused_by_name(forward, more, kind, message: str) -> None:
    with pytest.raises(kind, match=message):
        wa.direct_weights(block_of(forward, **pair(**more)), "0")


def test_refusals(lite0) -> None:
    with pytest.raises(
        ArgumentError,
        match=r"'act1' is an activation \(ReLU6\) without direct weights; layers with them: 'conv_stem'",
    ):
        wa.direct_weights(lite0, "act1")
    with pytest.raises(ArgumentError, match=r"norms of 'blocks\.3\.1' are part of the block.*'blocks\.3\.1\.conv_pwl'"):
        wa.direct_weights(lite0, "blocks.3.1", fold_norm=False)
    block = settle(InvertedResidual(4, 4, 3, 1))
    with torch.no_grad():
        block.conv_pwl.weight[2, 0] = float("nan")
    net = wa.load(nn.Sequential(block), input=wa.InputSpec(shape=(4, 9, 9)))
    with pytest.raises(WeightValuesError, match=r"1 of 96 values in '0\.conv_pwl\.weight' are NaN"):
        wa.direct_weights(net, "0")
