"""Paths through a middle layer, against autograd with that layer cut off and against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from test_direct import settle
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.records import Paths

pytestmark = pytest.mark.usefixtures("one_thread")


class Branches(nn.Module):
    """a → m → b, and a → side → b around m; strides on the way."""

    def __init__(self, around: bool = True) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.m = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.act = nn.ReLU()
        self.side = nn.Conv2d(4, 6, 5, stride=2, padding=2) if around else None
        self.b = nn.Conv2d(5, 6, 3, padding=1)
        self.cut = False

    def forward(self, x):
        a = self.a(x)
        m = self.m(a)
        m = m.detach() if self.cut else m
        b = self.b(self.act(self.norm(m)))
        return b if self.side is None else b + self.side(a)


class Last(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.out = inner, nn.Identity()

    def forward(self, x):
        return self.out(self.inner(x))


def network(around: bool = True) -> wa.Network:
    torch.manual_seed(0)
    return wa.load(Last(settle(Branches(around))), input=wa.InputSpec(shape=(3, 36, 36)))


def gradient(net: wa.Network, factor: tuple[float, ...], cut: bool) -> np.ndarray:
    """∂ out / ∂ a at the central position of the network with its ReLU read as a factor."""
    module = net.module.inner
    module.act = nn.Identity()
    scale = torch.tensor(factor).view(1, -1, 1, 1)
    handle = module.norm.register_forward_hook(lambda m, i, o: o * scale)
    kept: list[torch.Tensor] = []
    other = module.a.register_forward_hook(lambda m, i, o: kept.append(o))
    module.cut = cut
    try:
        out = net.module(torch.randn(1, 3, 36, 36))
        return torch.stack(
            [torch.autograd.grad(out[0, u, 9, 9], kept[-1], retain_graph=True)[0][0] for u in range(out.shape[1])]
        ).numpy()
    finally:
        handle.remove()
        other.remove()
        module.cut, module.act = False, nn.ReLU()


def placed(values: np.ndarray, paths: Paths, size: int = 36) -> np.ndarray:
    out = np.zeros((*values.shape[:2], size, size))
    top, left = (int(9 * s + o) for s, o in zip(paths.stride, paths.origin, strict=True))
    out[:, :, top : top + values.shape[2], left : left + values.shape[3]] = values
    return out


def test_what_runs_around_the_middle_is_what_is_left_when_it_is_cut_off() -> None:
    net = network()
    paths = wa.expanded_paths(net, "inner.a", "inner.m", "out")
    factor = next(r.factor for r in paths.replaced)
    whole, around = (gradient(net, factor, cut) for cut in (False, True))
    np.testing.assert_allclose(placed(paths.total, paths), whole, atol=1e-6)
    np.testing.assert_allclose(placed(paths.bypass, paths), around, atol=1e-6)
    np.testing.assert_allclose(placed(paths.through, paths), whole - around, atol=1e-6)
    share = np.abs(around).sum((1, 2, 3)) / (np.abs(around) + np.abs(whole - around)).sum((1, 2, 3))
    np.testing.assert_allclose(paths.bypass_share, share, atol=1e-5)


def test_magnitudes_and_contributions_by_loops() -> None:
    net = network()
    paths = wa.expanded_paths(net, "inner.a", "inner.m", "out", units=[4, 1], source_units=[3, 0])
    outer = wa.expanded_weights(net, "inner.m", "out", units=[4, 1])
    inner = wa.expanded_weights(net, "inner.a", "inner.m", source_units=[3, 0])
    signed, absolute = np.zeros_like(paths.through), np.zeros_like(paths.through)
    each = np.zeros((5, *paths.through.shape[2:]))
    for o, i, m in itertools.product(range(2), range(2), range(5)):
        for y, x in np.ndindex(*outer.values.shape[2:]):
            for p, q in np.ndindex(*inner.values.shape[2:]):
                product = float(outer.values[o, m, y, x]) * float(inner.values[m, i, p, q])
                at = [
                    int((s + t) * n + k + u - w)
                    for s, t, n, k, u, w in zip(
                        (y, x), outer.origin, inner.stride, inner.origin, (p, q), paths.origin, strict=True
                    )
                ]
                signed[o, i, at[0], at[1]] += product
                absolute[o, i, at[0], at[1]] += abs(product)
                if (o, i) == (1, 0):
                    each[m, at[0], at[1]] += product
    np.testing.assert_allclose(paths.through, signed, atol=1e-6)
    np.testing.assert_allclose(paths.absolute, absolute, atol=1e-6)
    np.testing.assert_allclose(paths.contributions(1, 3), each, atol=1e-6)
    assert (np.abs(paths.through) <= paths.absolute + 1e-6).all()
    np.testing.assert_allclose(paths.best + paths.worst, paths.through, atol=1e-6)
    np.testing.assert_allclose(paths.best - paths.worst, paths.absolute, atol=1e-6)


def test_nothing_runs_around_a_bottleneck(lite0) -> None:
    paths = wa.expanded_paths(lite0, "blocks.3.2", "blocks.4.0", "blocks.4.1", units=[0, 60])
    scale = np.abs(paths.total).max()
    np.testing.assert_allclose(paths.through, paths.total, atol=1e-5 * scale)
    assert paths.bypass_share.tolist() == [0, 0]
    assert paths.cancellation.min() >= 0
    assert paths.cancellation.max() <= 1
    assert {r.source for r in paths.replaced} == {"batch norm"}
    some = wa.expanded_paths(lite0, "blocks.3.2", "blocks.4.0", "blocks.4.1", units=[60], source_units=[7])
    np.testing.assert_allclose(some.absolute[0, 0], paths.absolute[1, 7], rtol=1e-5, atol=1e-7)


def test_cancellation_hides_what_two_gates_would_show() -> None:
    """b = relu(m₁) + relu(m₂) with m₁ = a, m₂ = −a: the expanded weight vanishes, either gate alone does not."""
    net = wa.load(
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)),
        input=wa.InputSpec(shape=(1, 4, 4)),
    )
    with torch.no_grad():
        net.module[1].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net.module[3].weight.fill_(1.0)
    paths = wa.expanded_paths(net, "0", "1", "3", gate=0.5)
    assert paths.through.item() == 0
    assert paths.absolute.item() == 1
    assert (paths.best.item(), paths.worst.item(), paths.cancellation.item()) == (0.5, -0.5, 1)
    assert paths.hidden(1)[0][:2] == (0, 0)


def test_a_mapping_of_gates_may_name_operators_of_either_part(lite0) -> None:
    span = ("blocks.3.2", "blocks.4.0.act2", "blocks.4.1")
    asked = {"blocks.4.0.act2": "identity", "blocks.4.1.act1": 0.5}
    paths = wa.expanded_paths(lite0, *span, units=[3], gate=asked)
    plain = wa.expanded_paths(lite0, *span, units=[3])
    assert {r.module: r.became for r in paths.replaced}["blocks.4.0.act2"] == "identity"
    np.testing.assert_allclose(paths.total, paths.through, atol=1e-5 * np.abs(paths.total).max())
    assert np.abs(paths.absolute).sum() > np.abs(plain.absolute).sum() * 1.2
    with pytest.raises(wa.WeightAtlasError, match=r"blocks\.9"):
        wa.expanded_paths(lite0, *span, units=[3], gate={"blocks.9": 1})


def test_refusals(lite0) -> None:
    with pytest.raises(ArgumentError, match=r"'blocks\.4\.1' comes after 'blocks\.4\.0'"):
        wa.expanded_paths(lite0, "blocks.3.2", "blocks.4.1", "blocks.4.0")
    with pytest.raises(ArgumentError, match="depends on the position"):
        wa.expanded_paths(lite0, "blocks.5.3", "blocks.6.0", "classifier")
    net = network()
    with pytest.raises(ArgumentError, match=r"no path from 'inner\.m' to 'inner\.side'"):
        wa.expanded_paths(net, "inner.a", "inner.m", "inner.side")
    with pytest.raises(ArgumentError, match="more than the budget of"):
        wa.expanded_paths(lite0, "blocks.3.2", "blocks.4.0", "blocks.4.1", memory=1000)
