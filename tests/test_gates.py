"""Gates and measured statistics: against integrals, sampling, forward hooks and autograd."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from jacobian import Truth, check_everywhere, check_weights
from scipy import integrate
from scipy.special import expit
from scipy.stats import norm
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.graph import capture, operator_of
from weightatlas.records import Statistics
from weightatlas.weights.inherited import Inherited

pytestmark = pytest.mark.usefixtures("one_thread")
F = functional


def load(module: nn.Module, *shape: int) -> wa.Network:
    return wa.load(settle(module), input=wa.InputSpec(shape=shape or (2, 12, 11)))


class Times(nn.Module):
    """A factor for each channel."""

    def __init__(self, factor) -> None:
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x):
        return x * self.factor


def plain() -> nn.Module:
    return S(conv(2, 4, padding=1), nn.ReLU(), conv(4, 3), nn.SiLU(), conv(3, 3))


def linear_copy(module: nn.Module, **instead: nn.Module) -> nn.Module:
    """The same with some children replaced."""
    children = dict(module.named_children())
    return S(*(instead.get(f"_{n}", m) for n, m in children.items()))


def hooked(net: wa.Network, images: torch.Tensor, names) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs and outputs of modules on images, double precision."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    before: dict[str, torch.Tensor] = {}
    handles = []
    for name in names:
        module = net.module.get_submodule(name)
        handles.append(
            module.register_forward_pre_hook(lambda m, a, name=name: before.__setitem__(name, a[0].clone()) or None)
        )
        handles.append(
            module.register_forward_hook(
                lambda m, a, out, name=name: found.__setitem__(
                    name, (before[name].double().numpy(), out.double().numpy().copy())
                )
            )
        )
    with torch.no_grad():
        net.module(images)
    for handle in handles:
        handle.remove()
    return found


def per_channel(values: np.ndarray) -> np.ndarray:
    """Means over everything but axis 1."""
    return values.mean(tuple(i for i in range(values.ndim) if i != 1))


def of_operator(weights: wa.Weights, module: str):
    (found,) = [r for r in weights.replaced if r.module == module]
    return found


# --- what the user asks for ------------------------------------------------------------------------------------------


def test_the_identity_is_the_articles_rule() -> None:
    net = load(plain())
    without = linear_copy(net.module, _1=nn.Identity(), _3=nn.Identity())
    truth = Truth(net, module=without)
    weights = check_everywhere(net, "0", "4", truth, gate="identity")
    product = wa.expanded_weights(wa.load(without, input=net.input), "0", "4")
    np.testing.assert_allclose(weights.values, product.values, atol=1e-6)
    assert [(r.operator, r.module, r.became, r.source, r.factor) for r in weights.replaced] == [
        ("ReLU", "1", "identity", "", ()),
        ("SiLU", "3", "identity", "", ()),
    ]
    assert product.replaced == ()
    assert "1 ReLU read as the identity" in weights.provenance.notes


def test_a_number_is_a_factor_of_every_non_linearity() -> None:
    net = load(plain())
    identity = wa.expanded_weights(net, "0", "4", gate="identity")
    for gate in (0.5, -2, 0):
        weights = wa.expanded_weights(net, "0", "4", gate=gate)
        np.testing.assert_allclose(weights.values, identity.values * float(gate) ** 2, atol=1e-6)
        assert {(r.source, r.factor) for r in weights.replaced} == {("given", (float(gate),))}


def test_a_factor_for_each_channel() -> None:
    net = load(S(conv(2, 4, padding=1), nn.ReLU(), conv(4, 3)))
    factor = [0.5, -1.0, 0.0, 2.0]
    truth = Truth(net, module=linear_copy(net.module, _1=Times(factor)))
    for gate in (factor, np.array(factor), torch.tensor(factor), tuple(factor), {"1": factor}):
        weights = check_everywhere(net, "0", "2", truth, gate=gate, edges=2)
        (read,) = weights.replaced
        assert (read.source, read.factor, read.became) == ("given", tuple(factor), "× given, mean 0.38")


def test_channels_that_lie_last() -> None:
    def forward(m, x):
        return m.b(m.act(m.n(m.a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2))

    net = load(Fn(forward, a=conv(2, 4), n=nn.Identity(), act=nn.GELU(), b=conv(4, 3)))
    factor = torch.tensor([0.5, -1.0, 0.0, 2.0])
    linear = Fn(forward, **dict(net.module.named_children()) | {"act": Fn(lambda m, x: x * factor)})
    check_everywhere(net, "a", "b", Truth(net, module=linear), gate=factor, edges=2)
    wa.measure(net, torch.randn(2, 2, 12, 11))
    z = hooked(net, images := torch.randn(2, 2, 12, 11), ["act"])["act"][0]
    found = wa.measure(net, images)
    np.testing.assert_allclose(found.get("act", "mean"), z.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    check_weights(net, wa.expanded_weights(net, "a", "b"), truth=Truth(net, last=True))


def test_a_mapping_names_operators() -> None:
    net = load(plain())
    factor = [0.5, -1.0, 2.0]
    weights = wa.expanded_weights(net, "0", "4", gate={"1": 0.25, "3": factor})
    truth = Truth(net, module=linear_copy(net.module, _1=Times([0.25]), _3=Times(factor)))
    check_weights(net, weights, truth=truth)
    assert [r.factor for r in weights.replaced] == [(0.25,), tuple(factor)]
    weights = wa.expanded_weights(net, "0", "4", gate={"3": "identity"})
    assert [(r.module, r.became) for r in weights.replaced] == [
        ("1", "identity, for want of statistics"),
        ("3", "identity"),
    ]


def test_a_mapping_names_each_call_or_all_of_them() -> None:
    net = load(Fn(lambda m, x: m.b(m.act(m.c(m.act(m.a(x))))), a=conv(2, 4), act=nn.ReLU(), c=conv(4, 4), b=conv(4, 3)))
    both = wa.expanded_weights(net, "a", "b", gate={"act": 0.5})
    assert [(r.module, r.factor) for r in both.replaced] == [("act", (0.5,)), ("act#2", (0.5,))]
    second = wa.expanded_weights(net, "a", "b", gate={"act#2": 0.5, "act": 3})
    assert [(r.module, r.factor) for r in second.replaced] == [("act", (3.0,)), ("act#2", (0.5,))]


def test_refusals() -> None:
    net = load(plain())

    def read(**options):
        return wa.expanded_weights(net, "0", "4", **options)

    with pytest.raises(ArgumentError, match=r"gate='none' is none of 'expected', 'measured', 'batchnorm', 'identity'"):
        read(gate="none")
    with pytest.raises(ArgumentError, match="gate='no'"):
        read(gate={"1": "no"})
    for gate in (True, float("nan"), [[1.0]], object(), [1.0, float("inf"), 1.0, 1.0]):
        with pytest.raises(ArgumentError, match="gate="):
            read(gate=gate)
    with pytest.raises(ArgumentError, match=r"gate of '3' has 4 numbers, but the layer has 3 units"):
        read(gate=[1.0, 2, 3, 4])
    with pytest.raises(UnknownNameError, match=r"no non-linearity '2'; there are: '1', '3'"):
        read(gate={"2": 0.5})
    for gate, why in (("batchnorm", "no batch norm stands before it"), ("measured", "wa.measure")):
        with pytest.raises(ArgumentError, match=rf"gate='{gate}'.*'3'.*{why}"):
            read(gate=gate)
    with pytest.raises(ArgumentError, match="pool='largest' is none of 'average', 'expected'"):
        read(pool="largest")


def test_without_any_statistics_it_is_the_identity_and_says_so() -> None:
    net = load(plain())
    weights = wa.expanded_weights(net, "0", "4")
    np.testing.assert_array_equal(weights.values, wa.expanded_weights(net, "0", "4", gate="identity").values)
    assert {(r.became, r.source, r.factor) for r in weights.replaced} == {("identity, for want of statistics", "", ())}
    assert any(n.startswith("wa.measure(net, images) would") for n in weights.provenance.notes)
    known = wa.expanded_weights(net, "0", "4", gate="identity").provenance.notes
    assert not any("wa.measure" in n for n in known)


# --- batch norm ------------------------------------------------------------------------------------------------------

SLOPES = {
    "relu6": (nn.ReLU6, lambda z: float(0 < z < 6), (0, 6)),
    "silu": (nn.SiLU, lambda z: expit(z) * (1 + z * expit(-z)), ()),
    "hardswish": (nn.Hardswish, lambda z: z / 3 + 0.5 if abs(z) < 3 else float(z > 0), (-3, 3)),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_behind_a_batch_norm_are_the_integrals(name: str) -> None:
    kind, slope, kinks = SLOPES[name]
    net = load(S(conv(2, 8), nn.BatchNorm2d(8), kind(), conv(8, 3)))
    with torch.no_grad():
        net.module[1].weight[:3] = torch.tensor([-0.7, 3.0, 0.05])
        net.module[1].bias[1:3] = torch.tensor([5.0, -0.02])
    net = wa.load(net.module, input=net.input)
    beta, gamma = (t.detach().double().tolist() for t in (net.module[1].bias, net.module[1].weight))
    wanted = []
    for b, g in zip(beta, map(abs, gamma), strict=True):
        points = [b, *(k for k in kinks if abs(k - b) < 12 * g)]
        wanted.append(
            integrate.quad(
                lambda z, b=b, g=g: slope(z) * norm.pdf(z, b, g), b - 12 * g, b + 12 * g, points=points, limit=200
            )[0]
        )
    weights = wa.expanded_weights(net, "0", "3")
    read = of_operator(weights, "2")
    np.testing.assert_allclose(read.factor, wanted, atol=1e-6)
    assert (read.operator, read.source) == (kind.__name__, "batch norm")
    assert read.became == f"expected derivative, mean {np.mean(wanted):.2f}"
    check_weights(net, weights, truth=Truth(net, module=linear_copy(net.module, _2=Times(wanted))))
    np.testing.assert_array_equal(weights.values, wa.expanded_weights(net, "0", "3", gate="batchnorm").values)


def test_a_channel_without_spread_has_the_slope_at_its_value() -> None:
    net = load(S(conv(2, 4), nn.BatchNorm2d(4), nn.SiLU(), conv(4, 3)))
    with torch.no_grad():
        net.module[1].weight[:] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        net.module[1].bias[:] = torch.tensor([0.5, -2.0, 0.0, 0.0])
    net = wa.load(net.module, input=net.input)
    (read,) = wa.expanded_weights(net, "0", "3").replaced
    np.testing.assert_allclose(read.factor[:3], [SLOPES["silu"][1](z) for z in (0.5, -2.0, 0.0)], atol=1e-7)
    assert np.isfinite(read.factor).all()


def moments_of(net: wa.Network, operator: str):
    """What is inherited by the input of the last operator of this name, as numpy."""
    graph = capture(net)
    node = [n for n in graph.nodes if operator_of(n) == operator][-1]
    found = Inherited(graph).moments(node.args[0])
    return None if found is None else (found.mean.numpy(), found.deviation.numpy())


def behind(function, **more) -> wa.Network:
    """A function of two batch norms and the input, a ReLU and a convolution."""
    children = dict(a=conv(2, 4), b=conv(2, 4), n=nn.BatchNorm2d(4), o=nn.BatchNorm2d(4)) | more
    channels = 8 if "wide" in children else 4
    children.pop("wide", None)
    children["c"] = conv(channels, 3)
    return load(Fn(lambda m, x: m.c(torch.relu(function(m, m.n(m.a(x)), m.o(m.b(x))))), **children))


OFFSET = torch.tensor([0.3, -1.0, 2.0, 0.0]).view(-1, 1, 1)
BEHIND = {
    "sum": lambda m, u, v: u + v,
    "in place": lambda m, u, v: u.add_(v),
    "alpha": lambda m, u, v: torch.sub(u, v, alpha=0.5),
    "subtracted": lambda m, u, v: torch.sub(OFFSET, v, alpha=2) + u,
    "scaled": lambda m, u, v: 2 * u - v * OFFSET,
    "shifted": lambda m, u, v: torch.add(OFFSET, u, alpha=3) + v,
    "activated": lambda m, u, v: u + F.silu(v),
    "twice": lambda m, u, v: F.hardtanh(u) + torch.relu(v + 0.5),
    "concatenated": lambda m, u, v: torch.cat([v, F.gelu(u)], 1),
    "dropped": lambda m, u, v: F.dropout(u, 0.5, m.training) + v,
}


@pytest.mark.parametrize("name", BEHIND)
def test_moments_are_carried_through_sums(name: str) -> None:
    function = BEHIND[name]
    net = behind(function, **({"wide": None} if name == "concatenated" else {}))
    m, count = net.module, 200_000
    generator = torch.Generator().manual_seed(1)
    u, v = (
        (n.bias + n.weight * torch.randn(count, 4, generator=generator)).detach()[:, :, None, None] for n in (m.n, m.o)
    )
    z = function(m, u, v)[:, :, 0, 0].double().numpy()
    mean, deviation = moments_of(net, "relu")
    np.testing.assert_allclose(mean, z.mean(0), atol=6 * z.std(0).max() / count**0.5)
    np.testing.assert_allclose(deviation, z.std(0), rtol=0.02)
    read = wa.expanded_weights(net, "a", "c").replaced[-1]
    assert (read.operator, read.source) == ("relu", "batch norm")
    np.testing.assert_allclose(read.factor, norm.cdf(z.mean(0) / z.std(0)), atol=0.01)
    if name in ("sum", "in place", "alpha", "scaled", "shifted", "subtracted", "dropped"):  # normal all the way
        np.testing.assert_allclose(read.factor, (z > 0).mean(0), atol=6 * 0.5 / count**0.5)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, u, v: u + u,  # not independent
        lambda m, u, v: u - u,
        lambda m, u, v: u * u,
        lambda m, u, v: u * v,
        lambda m, u, v: u + m.a(torch.ones(1, 2, 12, 11)),  # differs from position to position
        lambda m, u, v: F.avg_pool2d(u, 2),
        lambda m, u, v: u + v.mean(1, keepdim=True),
    ],
)
def test_moments_that_are_not_known_are_not_guessed(function) -> None:
    net = behind(function)
    assert moments_of(net, "relu") is None
    assert wa.expanded_weights(net, "a", "c").replaced[-1].became == "identity, for want of statistics"


def test_a_batch_norm_without_scale_is_standard_normal() -> None:
    net = load(S(conv(2, 4), nn.BatchNorm2d(4, affine=False), nn.ReLU(), conv(4, 3)))
    (read,) = wa.expanded_weights(net, "0", "3").replaced
    assert (read.source, read.factor) == ("batch norm", (0.5,) * 4)


# --- measuring -------------------------------------------------------------------------------------------------------

DERIVATIVES = {
    "relu": lambda z: (z > 0) * 1.0,
    "inplace": lambda z: ((z > 0) & (z < 6)) * 1.0,
    "silu": lambda z: expit(z) * (1 + z * expit(-z)),
    "prelu": lambda z: np.where(z > 0, 1, np.array([0.1, 0.2, 0.3, -0.4]).reshape(1, 4, 1, 1)),
    "gelu": lambda z: norm.cdf(z) + z * norm.pdf(z),
}


def activations() -> nn.Module:
    prelu = nn.PReLU(4)
    with torch.no_grad():
        prelu.weight[:] = torch.tensor([0.1, 0.2, 0.3, -0.4])
    kinds = [nn.ReLU(), nn.ReLU6(inplace=True), nn.SiLU(), prelu, nn.GELU()]
    module = S()
    for i, (name, kind) in enumerate(zip(DERIVATIVES, kinds, strict=True)):
        module.add_module(f"c{i}", conv(4 if i else 2, 4, padding=1))
        module.add_module(f"n{i}", nn.BatchNorm2d(4))
        module.add_module(name, kind)
    module.add_module("last", conv(4, 3))
    return module


def check_statistics(found: Statistics, name: str, z: np.ndarray, derivative) -> None:
    axes = tuple(i for i in range(z.ndim) if i != 1)
    close = dict(rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.get(name, "mean"), z.mean(axes), **close)
    np.testing.assert_allclose(found.get(name, "deviation"), z.std(axes), **close)
    np.testing.assert_allclose(found.get(name, "rate"), (z > 0).mean(axes), **close)
    np.testing.assert_allclose(found.get(name, "slope"), derivative(z).mean(axes), **close)


def test_measured_is_what_hooks_see() -> None:
    net, images = load(activations()), torch.randn(5, 2, 12, 11)
    found = wa.measure(net, images)
    assert net.measured is found
    assert found.images == 5
    assert found.operators == list(DERIVATIVES)
    for name, (z, _) in hooked(net, images, DERIVATIVES).items():
        check_statistics(found, name, z, DERIVATIVES[name])
    weights = wa.expanded_weights(net, "c0", "last")
    for read in weights.replaced:
        assert read.source == "measured"
        np.testing.assert_array_equal(read.factor, found.get(read.module, "slope"))
    check_weights(net, weights)
    np.testing.assert_array_equal(weights.values, wa.expanded_weights(net, "c0", "last", gate="measured").values)
    inherited = wa.expanded_weights(net, "c0", "last", gate="batchnorm")
    assert {r.source for r in inherited.replaced} == {"batch norm"}
    for batch in (1, 2, 5):
        again = wa.measure(net, images, batch=batch)
        assert again.names == found.names
        np.testing.assert_allclose(again.values, found.values, rtol=1e-5, atol=1e-6)
    for batch in (0, 1.5):
        with pytest.raises(ArgumentError, match="batch="):
            wa.measure(net, images, batch=batch)


def test_every_source_is_told() -> None:
    net = load(activations())
    gate = {"relu": "identity", "inplace": 0.5, "silu": "batchnorm", "prelu": [1.0, 2, 3, 4]}
    for measured in (False, True):
        if measured:
            wa.measure(net, torch.randn(2, 2, 12, 11))
        weights = wa.expanded_weights(net, "c0", "last", gate=gate)
        sources = {r.module: r.source for r in weights.replaced}
        last = "measured" if measured else "batch norm"
        assert sources == {"relu": "", "inplace": "given", "silu": "batch norm", "prelu": "given", "gelu": last}
        assert of_operator(weights, "prelu").factor == (1, 2, 3, 4)
        assert of_operator(weights, "relu").factor == ()
        check_weights(net, weights)


def test_measured_is_what_hooks_see_in_the_embedded_network(lite0, photos) -> None:
    images = lite0.preprocess([photos["cat"], photos["coffee"]])
    try:
        found = wa.measure(lite0, images, batch=1)
        assert len(found.operators) == 33
        for name, (z, _) in hooked(lite0, images, found.operators[::5]).items():
            check_statistics(found, name, z, DERIVATIVES["inplace"])
        weights = wa.expanded_weights(lite0, "blocks.4.0", "blocks.4.1", units=[0, 1])
        assert {r.source for r in weights.replaced} == {"measured"}
    finally:
        lite0.measured = None


def test_statistics_are_saved_and_set(tmp_path) -> None:
    net, images = load(activations()), torch.randn(3, 2, 12, 11)
    found = wa.measure(net, images)
    known = wa.expanded_weights(net, "c0", "last")
    for suffix in ("npz", "safetensors"):
        back = Statistics.load(found.save(tmp_path / f"measured.{suffix}"))
        assert (back.names, back.images, len(back), repr(back)) == (found.names, 3, len(found), repr(found))
        np.testing.assert_array_equal(back.values, found.values)
        assert list(back) == list(found)
        net.measured = back
        np.testing.assert_array_equal(wa.expanded_weights(net, "c0", "last").values, known.values)
    assert back.get("relu", "nothing") is None
    assert back.get("nowhere", "mean") is None
    net.measured = None
    assert {r.source for r in wa.expanded_weights(net, "c0", "last").replaced} == {"batch norm"}
    other = load(activations())
    other.measured = back
    with pytest.raises(ArgumentError, match=r"net\.measured belongs to other weights"):
        wa.expanded_weights(other, "c0", "last")
    with pytest.raises(ArgumentError, match="a length for each of"):
        dataclasses.replace(found, lengths=found.lengths[1:])


def test_images_that_do_not_fit() -> None:
    net = load(plain())
    with pytest.raises(ArgumentError, match=r"float \[N, 2, 12, 11\] with N ≥ 1"):
        wa.measure(net, torch.zeros(0, 2, 12, 11))
    with pytest.raises(ArgumentError, match="NaN or infinite"):
        wa.measure(net, torch.full((1, 2, 12, 11), float("inf")))
    with pytest.raises(ArgumentError, match="quantities are NaN or infinite on these images"):
        wa.measure(load(Fn(lambda m, x: m.b(m.a(x).abs().exp()), a=conv(), b=conv())), torch.full((1, 2, 12, 11), 1e4))
    assert net.measured is None


# --- factors, norms ---------------------------------------------------------------------------------------------------


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.r, self.gate, self.b = conv(2, 4), nn.Linear(4, 4), nn.Sigmoid(), conv(4, 3)

    def forward(self, x):
        y = self.a(x)
        return self.b(y * self.gate(self.r(y.mean((2, 3))))[:, :, None, None])


def test_a_factor_is_held_at_one_or_at_its_mean() -> None:
    net, images = load(Squeeze()), torch.randn(3, 2, 12, 11)
    plainly = wa.expanded_weights(net, "a", "b")
    np.testing.assert_allclose(
        plainly.values, wa.expanded_weights(wa.load(S(net.module.a, net.module.b), input=net.input), "0", "1").values
    )
    (read,) = plainly.replaced
    assert (read.module, read.became, read.source) == (":mul", "second factor held at 1", "")
    wa.measure(net, images)
    mean = hooked(net, images, ["gate"])["gate"][1].mean(0)
    weights = wa.expanded_weights(net, "a", "b")
    (read,) = weights.replaced
    assert (read.became, read.source) == (f"second factor held at its measured mean, {mean.mean():.3g}", "measured")
    np.testing.assert_allclose(read.factor, mean, rtol=1e-5)
    np.testing.assert_allclose(weights.values, plainly.values * mean.astype(np.float32)[:, None, None], atol=1e-6)
    check_weights(net, weights)
    # the article's rule and given numbers ask for nothing that was measured
    for gate in ("identity", 1.0):
        np.testing.assert_array_equal(wa.expanded_weights(net, "a", "b", gate=gate).values, plainly.values)


def test_a_divisor_is_held_at_the_mean_of_its_inverse() -> None:
    net = load(
        Fn(
            lambda m, x: m.b((y := m.a(x)) / m.d(y.exp().sum(1, keepdim=True))),
            a=conv(2, 4),
            d=nn.Identity(),
            b=conv(4, 3),
        )
    )
    images = torch.randn(3, 2, 12, 11)
    wa.measure(net, images)
    graph_mean = net.measured.get(":div", "divisor 1")
    with torch.no_grad():
        wanted = (1 / net.module.a(images).exp().sum(1).double()).mean()
    assert graph_mean.item() == pytest.approx(wanted.item(), rel=1e-5)
    weights = wa.expanded_weights(net, "a", "b")
    assert of_operator(weights, ":div").source == "measured"
    check_weights(net, weights)


def layer_norm(m, x):
    return m.b(m.n(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


NORMS = {
    "layer norm": (layer_norm, lambda: nn.LayerNorm(4), lambda y: 1 / np.sqrt(y.var(1) + 1e-5).reshape(1, -1)),
    "rms norm": (
        layer_norm,
        lambda: nn.RMSNorm(4, eps=1e-3),
        lambda y: 1 / np.sqrt((y**2).mean(1) + 1e-3).reshape(1, -1),
    ),
    "group norm": (
        lambda m, x: m.b(m.n(m.a(x))),
        lambda: nn.GroupNorm(2, 4),
        lambda y: 1 / np.sqrt(y.reshape(len(y), 2, -1).var(2) + 1e-5).T,
    ),
    "instance norm": (
        lambda m, x: m.b(m.n(m.a(x))),
        lambda: nn.InstanceNorm2d(4, affine=True),
        lambda y: 1 / np.sqrt(y.reshape(len(y), 4, -1).var(2) + 1e-5).T,
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_held_at_their_mean_inverse_deviation(name: str) -> None:
    forward, kind, inverse = NORMS[name]
    net = load(Fn(forward, a=conv(2, 4), n=kind(), b=conv(4, 3)))
    with torch.no_grad():
        net.module.n.weight.uniform_(-1, 1)
    net, images = wa.load(net.module, input=net.input), torch.randn(3, 2, 12, 11)
    plainly = wa.expanded_weights(net, "a", "b")
    assert plainly.replaced[0].became.endswith("1/deviation held at 1")
    check_weights(net, plainly)
    wa.measure(net, images, batch=2)
    y = hooked(net, images, ["a"])["a"][1]
    wanted = inverse(y).mean(1)  # one for each group
    np.testing.assert_allclose(net.measured.get("n", "inverse deviation"), wanted, rtol=1e-5)
    weights = wa.expanded_weights(net, "a", "b")
    (read,) = weights.replaced
    assert read.source == "measured"
    assert f"1/deviation held at its measured mean, {wanted.mean():.3g}" in read.became
    np.testing.assert_allclose(read.factor, wanted, rtol=1e-5)
    if name != "group norm":
        factor = np.broadcast_to(wanted.astype(np.float32), 4)[:, None, None]
    else:
        factor = wanted.astype(np.float32).repeat(2)[:, None, None]
    np.testing.assert_allclose(weights.values, plainly.values * factor, rtol=1e-4, atol=1e-6)
    check_weights(net, weights)


# --- max pooling -----------------------------------------------------------------------------------------------------


def shares_by_hand(y: np.ndarray, size, stride, padding, dilation, grid) -> np.ndarray:
    """How often each element of the window was the largest, ``[C, window]``."""
    padded = np.pad(y, ((0, 0), (0, 0), *((p, 40) for p in padding)), constant_values=-np.inf)
    counts = np.zeros((y.shape[1], int(np.prod(size))))
    for n, c, i, j in np.ndindex(*y.shape[:2], *grid):
        window = padded[
            n,
            c,
            i * stride[0] : i * stride[0] + (size[0] - 1) * dilation[0] + 1 : dilation[0],
            j * stride[1] : j * stride[1] + (size[1] - 1) * dilation[1] + 1 : dilation[1],
        ]
        counts[c, np.argmax(window)] += 1
    return counts / (y.shape[0] * grid[0] * grid[1])


@pytest.mark.parametrize(
    "options",
    [
        dict(kernel_size=2),
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=(2, 3), stride=(1, 2), dilation=(3, 1), padding=(1, 0)),
        dict(kernel_size=3, stride=2, ceil_mode=True),
    ],
)
def test_expected_pooling_is_the_measured_shares(options) -> None:
    net, images = load(S(conv(2, 4), nn.MaxPool2d(**options), conv(4, 3))), torch.randn(3, 2, 12, 11)
    size, stride, padding, dilation = (
        (v, v) if isinstance(v, int) else v
        for v in (
            options["kernel_size"],
            options.get("stride", options["kernel_size"]),
            options.get("padding", 0),
            options.get("dilation", 1),
        )
    )
    with pytest.raises(ArgumentError, match=r"pool='expected' needs wa.measure\(net, images\) first.*'1'"):
        wa.expanded_weights(net, "0", "2", pool="expected")
    wa.measure(net, images, batch=2)
    y, out = hooked(net, images, ["0", "1"])["0"][1], hooked(net, images, ["1"])["1"][1]
    shares = shares_by_hand(y, size, stride, padding, dilation, out.shape[2:])
    np.testing.assert_allclose(net.measured.get("1", "shares").reshape(4, -1), shares, atol=1e-6)
    linear = nn.Conv2d(4, 4, size, stride, padding, dilation, groups=4, bias=False)
    with torch.no_grad():
        linear.weight[:] = torch.from_numpy(shares).view(4, 1, *size)
    weights = wa.expanded_weights(net, "0", "2", pool="expected")
    assert [(r.became, r.source) for r in weights.replaced] == [("measured shares of its window", "measured")]
    if not options.get("ceil_mode"):
        truth = Truth(net, module=S(net.module[0], linear, net.module[2]))
        check_everywhere(net, "0", "2", truth, gate="expected", pool="expected", edges=3)
    check_weights(net, weights)
    average = wa.expanded_weights(net, "0", "2")
    assert [(r.became, r.source) for r in average.replaced] == [("average", "")]
    pooled = nn.Conv2d(4, 4, size, stride, padding, dilation, groups=4, bias=False)
    nn.init.constant_(pooled.weight, 1 / np.prod(size))
    check_weights(net, average, truth=Truth(net, module=S(net.module[0], pooled, net.module[2])))


def test_expected_pooling_along_one_axis() -> None:
    net = load(S(nn.Conv1d(2, 4, 3), nn.MaxPool1d(3, 2, 1), nn.Conv1d(4, 3, 3)), 2, 30)
    images = torch.randn(3, 2, 30)
    wa.measure(net, images)
    y = hooked(net, images, ["0"])["0"][1][:, :, None]
    shares = shares_by_hand(y, (1, 3), (1, 2), (0, 1), (1, 1), (1, 14))
    np.testing.assert_allclose(net.measured.get("1", "shares").reshape(4, -1), shares, atol=1e-6)
    check_weights(net, wa.expanded_weights(net, "0", "2", pool="expected"))


# --- does it help? ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["blocks.4.0", "blocks.3.2"])
def test_batch_norm_gates_come_near_the_network(lite0, photos, source: str) -> None:
    units = range(0, 112, 12)
    truth = wa.expected_gradient(lite0, source, "blocks.4.1", list(photos.values()), units, skip="exclude")
    cosine = {
        gate: wa.agreement(
            wa.expanded_weights(lite0, source, "blocks.4.1", units, gate=gate, skip="exclude"), truth
        ).mean_cosine
        for gate in ("batchnorm", "identity")
    }
    assert cosine["batchnorm"] >= 0.8
    assert cosine["batchnorm"] >= cosine["identity"] + 0.2
