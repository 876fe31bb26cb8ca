"""Measuring a network that holds one of everything, against what hooks see; shares of maxima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from jacobian import Truth, check_weights
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.records import Statistics

pytestmark = pytest.mark.usefixtures("one_thread")
C, B = nn.Conv2d, nn.BatchNorm2d


class Small(nn.Module):
    """Batch norm before some activations and not before others, a residual, a maximum, a gate, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n, self.act = C(3, 6, 3, padding=1), B(6), nn.ReLU()
        self.a, self.an, self.b, self.bn, self.out = C(6, 6, 3, padding=1), B(6), C(6, 6, 3, padding=1), B(6), nn.ReLU()
        self.plain, self.silu = C(6, 4, 3, padding=1), nn.SiLU()
        self.pool, self.last = nn.MaxPool2d(3, 2, 1), C(4, 5, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(5, 3), nn.Linear(3, 5)
        self.norm, self.head = nn.GroupNorm(1, 5), nn.Linear(5, 4)
        self.tail = nn.Hardswish()

    def forward(self, x):
        y = self.act(self.n(self.stem(x)))
        y = self.out(self.bn(self.b(functional.relu6(self.an(self.a(y))))) + y)
        z = self.last(self.pool(self.silu(self.plain(y))))
        z = z * torch.sigmoid(self.excite(functional.relu(self.squeeze(z.mean((2, 3))))))[:, :, None, None]
        return self.tail(self.head(self.norm(z).mean((2, 3))))


@pytest.fixture(scope="module")
def net() -> wa.Network:
    torch.manual_seed(0)
    return wa.load(settle(Small()), input=wa.InputSpec(shape=(3, 18, 16)))


@pytest.fixture
def fresh(net) -> wa.Network:
    """The same module without statistics."""
    return wa.load(net.module, input=net.input)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(11, 3, 18, 16, generator=torch.Generator().manual_seed(5)) * 2


def hooked(net: wa.Network, images: torch.Tensor, names: list[str]) -> dict[str, np.ndarray]:
    """What goes into modules, ``[C, everything else]`` in double precision."""
    found: dict[str, np.ndarray] = {}
    handles = [
        net.module.get_submodule(n).register_forward_pre_hook(
            lambda m, a, n=n: found.update({n: a[0].detach().double().clone()})
        )
        for n in names
    ]
    with torch.no_grad():
        net.module(images)
    for handle in handles:
        handle.remove()
    return {n: v.transpose(0, 1).flatten(1).numpy() for n, v in found.items()}


def test_factors_norms_and_maxima_are_measured(fresh, images) -> None:
    record = wa.measure(fresh, images)
    module = fresh.module
    with torch.no_grad():
        seen = hooked(fresh, images, ["pool", "squeeze", "norm"])
        mean = torch.from_numpy(seen["squeeze"].T).float()
        gate = torch.sigmoid(module.excite(functional.relu(module.squeeze(mean))))
    (place,) = [n for n in record.operators if n.endswith("mul")]
    np.testing.assert_allclose(record.get(place, "factor 1"), gate.mean(0), atol=1e-6)
    z = torch.from_numpy(seen["norm"]).view(5, 11, -1).transpose(0, 1).flatten(1)
    inverse = 1 / torch.sqrt(z.var(1, unbiased=False) + module.norm.eps)
    np.testing.assert_allclose(record.get("norm", "inverse deviation"), [inverse.mean()], rtol=1e-6)
    z = torch.from_numpy(seen["pool"]).view(4, 11, 18, 16)
    padded = functional.pad(z, (1, 1, 1, 1), value=-np.inf)
    windows = padded.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2)  # [4, 11, 9, 8, 9]
    shares = functional.one_hot(windows.argmax(-1), 9).double().mean((1, 2, 3))
    np.testing.assert_allclose(record.get("pool", "shares").reshape(4, 9), shares, atol=1e-6)


def test_statistics_are_saved_and_belong_to_their_weights(fresh, images, tmp_path) -> None:
    record = wa.measure(fresh, images)
    expected = wa.expanded_weights(fresh, "stem", "last", pool="expected")
    record.save(tmp_path / "s.npz")
    other = wa.load(fresh.module, input=fresh.input)
    other.measured = Statistics.load(tmp_path / "s.npz")
    np.testing.assert_array_equal(wa.expanded_weights(other, "stem", "last", pool="expected").values, expected.values)
    assert other.measured.operators == record.operators
    assert other.measured.images == 11
    torch.manual_seed(1)
    stranger = wa.load(settle(Small()), input=fresh.input)
    stranger.measured = record
    with pytest.raises(ArgumentError, match=r"belongs to other weights .* run wa.measure\(net, images\)"):
        wa.expanded_weights(stranger, "stem", "last")
    stranger.measured = None
    assert wa.expanded_weights(stranger, "stem", "last").values.shape == expected.values.shape


def test_pictures_are_preprocessed(photos) -> None:
    torch.manual_seed(0)
    spec = wa.InputSpec(shape=(3, 18, 16), mean=0.4, std=0.2)
    net = wa.load(settle(Small()), input=spec)
    pictures = list(photos.values())
    record = wa.measure(net, pictures)
    again = wa.measure(net, net.preprocess(pictures))
    np.testing.assert_array_equal(record.values, again.values)
    assert record.images == 3


def test_values_that_overflow_are_no_statistics() -> None:
    module = S(conv(3, 2), Fn(lambda m, x: torch.exp(x * 1000)), nn.ReLU())
    net = wa.load(module.eval(), input=wa.InputSpec(shape=(3, 6, 6)))
    with pytest.raises(ArgumentError, match=r"NaN or infinite on these images, first '1:?"):
        wa.measure(net, torch.randn(1, 3, 6, 6))
    assert net.measured is None


def test_measuring_leaves_the_module_alone(fresh, images) -> None:
    module = fresh.module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    try:
        wa.measure(fresh, images)
        assert all(m.training for m in module.modules())
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    finally:
        module.eval()


# --- maxima


def test_shares_of_maxima(fresh, images) -> None:
    """``pool="expected"`` asks for measuring first, and is the mean derivative of a maximum."""
    with pytest.raises(
        ArgumentError, match=r"pool='expected' needs wa.measure\(net, images\) first.*'pool'.*pool='average'"
    ):
        wa.expanded_weights(fresh, "plain", "last", pool="expected")
    with pytest.raises(ArgumentError, match=r"pool='max' is none of 'average', 'expected'"):
        wa.expanded_weights(fresh, "plain", "last", pool="max")
    wa.measure(fresh, images)
    weights = wa.expanded_weights(fresh, "silu", "pool", pool="expected")
    check_weights(fresh, wa.expanded_weights(fresh, "plain", "last", pool="expected"), truth=Truth(fresh))
    with torch.no_grad():
        z = functional.silu(torch.from_numpy(hooked(fresh, images, ["silu"])["silu"]).view(4, 11, 18, 16)).transpose(
            0, 1
        )
    z.requires_grad_()
    # the mean over images and all windows of the gradient, by place in the window
    out = functional.max_pool2d(z, 3, 2, 1)
    expected = torch.zeros(4, 3, 3)
    for y, x in np.ndindex(*out.shape[2:]):
        gradient = functional.pad(torch.autograd.grad(out[:, :, y, x].sum(), z, retain_graph=True)[0], (1, 1, 1, 1))
        expected += gradient[:, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].mean(0) / out[0, 0].numel()
    found = weights.dense().values[np.arange(4), np.arange(4)]
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert weights.groups == 4
    assert not wa.expanded_weights(fresh, "silu", "pool").values.std() > 1e-7
