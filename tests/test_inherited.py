"""Moments that batch norm gives, followed through residual sums and everything that moves channels about."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from catalogue import S, conv
from scipy.stats import norm
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.graph import capture
from weightatlas.weights.inherited import Inherited

pytestmark = pytest.mark.usefixtures("one_thread")
C, B = nn.Conv2d, nn.BatchNorm2d
DRAWS = 200_000


def moments_of(module: nn.Module, name: str, shape=(4, 6, 6)) -> tuple[np.ndarray, np.ndarray] | None:
    net = wa.load(module.eval(), input=wa.InputSpec(shape=shape))
    graph = capture(net)
    found = Inherited(graph).moments(graph.node(name))
    return None if found is None else (found.mean.numpy(), found.deviation.numpy())


def test_relu_behind_a_residual_addition(resnet50ish) -> None:
    """Against sampling: independent normals go through the operators of the block."""
    net, generator = resnet50ish, torch.Generator().manual_seed(0)

    def drawn(path: str) -> torch.Tensor:
        bn = net.module.get_submodule(path)
        return (bn.bias + bn.weight * torch.randn(DRAWS, bn.num_features, generator=generator)).detach()

    base, target = "encoder.stages.1.layers", "encoder.stages.1.layers.1"
    # stage 1 begins with a shortcut that has a batch norm of its own: all parts are known
    first = drawn(f"{base}.0.layer.2.normalization") + drawn(f"{base}.0.shortcut.normalization")
    second = first.relu() + drawn(f"{base}.1.layer.2.normalization")
    weights = wa.expanded_weights(net, "encoder.stages.0", target)
    found = {r.module: (r.became, r.source, r.factor) for r in weights.replaced}
    # a sum that holds a rectified part is no normal: its moments are exact, its rate is that of a normal
    assert found[f"{base}.0.activation"][1] == found[f"{base}.1.activation"][1] == "batch norm"
    np.testing.assert_allclose(found[f"{base}.0.activation"][2], (first > 0).float().mean(0), atol=0.006)
    rate = norm.cdf(second.mean(0).numpy() / second.std(0).numpy())
    np.testing.assert_allclose(found[f"{base}.1.activation"][2], rate, atol=0.006)
    graph = capture(net)
    moments = Inherited(graph).moments(graph.node(f"{base}.1.activation"))
    # of what the last ReLU gives, were its input normal
    z = second.mean(0) + second.std(0) * torch.randn(DRAWS, second.shape[1], generator=generator)
    np.testing.assert_allclose(moments.mean, z.relu().mean(0), atol=0.02)
    np.testing.assert_allclose(moments.deviation, z.relu().std(0), atol=0.02)


@pytest.fixture(scope="module")
def resnet50ish() -> wa.Network:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck")
    return wa.load(settle(ResNetModel(config)), input=wa.InputSpec(shape=(3, 64, 64)))


def normed(i: int = 4, o: int = 4) -> nn.Module:
    return settle(S(C(i, o, 1), B(o)))


WAYS = {
    "sum": (lambda m, u, v: u + v, lambda u, v: u + v),
    "difference": (lambda m, u, v: torch.sub(u, v, alpha=2), lambda u, v: u - 2 * v),
    "scaled": (lambda m, u, v: torch.add(u * m.s - 3, v, alpha=0.5), lambda u, v, s: u * s - 3 + 0.5 * v),
    "from_a_constant": (lambda m, u, v: torch.sub(m.s, u, alpha=2) + 0 * v, lambda u, v, s: s - 2 * u + 0 * v),
    "rectified": (lambda m, u, v: functional.silu(u) + v.clamp(-1, 1), lambda u, v: functional.silu(u) + v.clip(-1, 1)),
    "joined": (lambda m, u, v: torch.cat([u, v.relu()], 1), lambda u, v: torch.cat([u, v.relu()], 1)),
    "moved": (lambda m, u, v: m.back(m.last(u) - m.last(functional.pad(v, (0, 0)))), lambda u, v: u - v),
    "pooled_to_a_vector": (lambda m, u, v: (u + v).flatten(2), lambda u, v: u + v),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_moments_are_carried_on(way: str) -> None:
    net_way, plain = WAYS[way]
    s = torch.tensor([0.5, -2.0, 1.0, 0.0])

    class Way(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v, self.s, self.here = (
                normed(),
                normed(),
                nn.Parameter(s[:, None, None].clone()),
                nn.Identity(),
            )

        def last(self, x):
            return x.permute(0, 2, 3, 1)

        def back(self, x):
            return x.permute(0, 3, 1, 2)

        def forward(self, x):
            return self.here(net_way(self, self.u(x), self.v(x)))

    module = Way()
    generator = torch.Generator().manual_seed(0)
    u, v = (
        (bn := part[1]).bias + bn.weight * torch.randn(DRAWS, 4, generator=generator) for part in (module.u, module.v)
    )
    drawn = plain(u, v, *([s] if way in ("scaled", "from_a_constant") else []))
    found = moments_of(module, "here")
    np.testing.assert_allclose(found[0], drawn.mean(0).detach(), atol=0.02)
    np.testing.assert_allclose(found[1], drawn.std(0).detach(), atol=0.02)


UNKNOWN = {
    "itself": lambda m, u, v: u + u,  # not independent
    "product": lambda m, u, v: u * v,
    "shuffled": lambda m, u, v: functional.channel_shuffle(u, 2),
    "shuffled_by_hand": lambda m, u, v: u.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2),
    "per_position": lambda m, u, v: u + m.p,
    "pooled": lambda m, u, v: functional.max_pool2d(u, 2),
    "one_part": lambda m, u, v: u + m.a(v),
    "cat_of_rows": lambda m, u, v: torch.cat([u, v], 2),
    "channels_shifted": lambda m, u, v: functional.pad(u, (0, 0, 0, 0, 1, -1)),
    "shuffled_and_back": lambda m, u, v: functional.channel_shuffle(functional.channel_shuffle(u, 2), 2),
    "split_and_swapped": lambda m, u, v: torch.cat(u.split(2, 1)[::-1], 1),
}


@pytest.mark.parametrize("way", UNKNOWN)
def test_moments_end_where_they_are_not_known(way: str) -> None:
    """No gate at all is better than that of another channel."""

    class Way(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v, self.a, self.here = normed(), normed(), C(4, 4, 1), nn.ReLU()
            self.p = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            return self.here(UNKNOWN[way](self, self.u(x), self.v(x)))

    module = Way().eval()
    found = moments_of(module, "here")
    assert found is None


def test_batch_norm_without_scale_is_standard_normal() -> None:
    module = settle(S(conv(2, 4), B(4, affine=False), nn.ReLU6(), conv(4)))
    (gate,) = wa.expanded_weights(wa.load(module, input=wa.InputSpec(shape=(2, 9, 9))), "0", "3").replaced
    assert gate.source == "batch norm"
    np.testing.assert_allclose(gate.factor, [norm.cdf(6) - 0.5] * 4, rtol=1e-6)


def test_all_activations_of_the_embedded_network_have_moments(lite0) -> None:
    """Every ReLU6 stands behind a batch norm: nothing has to be measured."""
    graph = capture(lite0)
    acts = [n for n in graph.nodes if str(n.target) == "aten.hardtanh.default"]
    assert len(acts) == 33
    inherited = Inherited(graph)
    for node in acts:
        bn = lite0.module.get_submodule(graph.address(node).replace("act", "bn"))
        moments = inherited.moments(node.args[0])
        np.testing.assert_allclose(moments.mean, bn.bias.detach())
        np.testing.assert_allclose(moments.deviation, bn.weight.detach().abs())


def test_parts_of_the_channels_keep_their_moments() -> None:
    """relu(cat(a[:, :3], 2 · b[:, 3:])) behind batch norms: the slope of each channel is its own part's."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.n, self.m = (
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(3, 5, 1),
                nn.BatchNorm2d(4),
                nn.BatchNorm2d(5),
            )
            self.r, self.out = nn.ReLU(), nn.Conv2d(5, 2, 1)

        def forward(self, x):
            u, v = self.n(self.a(x)), self.m(self.b(x))
            return self.out(self.r(torch.cat([u[:, :3], 2 * v[:, 3:]], 1)))

    net = wa.load(settle(Net()), input=wa.InputSpec(shape=(3, 6, 6)))
    beta = torch.cat([net.module.n.bias[:3], 2 * net.module.m.bias[3:]])
    gamma = torch.cat([net.module.n.weight[:3], 2 * net.module.m.weight[3:]]).abs()
    found = wa.expanded_weights(net, "input", "out").replaced[0]
    np.testing.assert_allclose(found.factor, torch.distributions.Normal(0, 1).cdf(beta / gamma).detach(), atol=1e-6)
    assert found.source == "batch norm"
