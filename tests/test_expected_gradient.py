"""Expected gradients against autograd through the untouched network, summed over the very same samples."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from jacobian import Truth
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError, GraphError, UnknownNameError
from weightatlas.weights.rules import table
from weightatlas.weights.truth import _drawn

pytestmark = pytest.mark.usefixtures("one_thread")
F = functional


@dataclass
class Sampled:
    """Autograd's Jacobians of some samples in the window of the record under test.

    Args:
        values: ``[S, O, I, H, W]``, zero outside the source grid.
        inside: ``[S, H, W]``.
        half: which half each sample counts to.
        lost: share of the squared gradient outside the window, in the sample where it is largest.
    """

    values: np.ndarray
    inside: np.ndarray
    half: np.ndarray
    lost: float

    def mean(self, of=slice(None)) -> np.ndarray:
        """Over what was observed."""
        return self.values[of].sum(0) / np.maximum(self.inside[of].sum(0), 1)

    @property
    def halves(self) -> np.ndarray:
        a, b = (self.mean(self.half == i).reshape(self.values.shape[1], -1) for i in (0, 1))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.where(lengths > 0, (a * b).sum(1) / np.where(lengths > 0, lengths, 1), np.nan)


def sampled(net, found, truths, samples, seed) -> Sampled:
    """What autograd says of the samples that ``found`` is a mean over."""
    grid = net.layers[found.target].grid or (1, 1)
    size = found.values.shape[2:]
    values, inside, half, lost = [], [], [], []
    for number, positions in enumerate(_drawn(len(truths), grid, samples, seed)):
        for order, at in enumerate(positions):
            there = truths[number].gradients(found.source, found.target, found.units.tolist(), at)
            there = there[:, found.source_indices]
            start = [int(np.floor(at[k] * found.stride[k] + found.origin[k] + 1e-6)) for k in (0, 1)]
            window, seen = np.zeros((*there.shape[:2], *size)), np.zeros(size)
            for y, x in np.ndindex(*size):
                p, q = start[0] + y, start[1] + x
                if 0 <= p < there.shape[2] and 0 <= q < there.shape[3]:
                    window[:, :, y, x], seen[y, x] = there[:, :, p, q], 1
            lost.append(1 - np.square(window).sum() / max(np.square(there).sum(), 1e-30))
            values.append(window)
            inside.append(seen)
            half.append((number if len(truths) > 1 else order) % 2)
    return Sampled(np.array(values), np.array(inside), np.array(half), max(lost))


def check(net, found, truths, samples, seed=0, tolerance=1e-4) -> Sampled:
    """Holds a record against autograd."""
    wanted = sampled(net, found, truths, samples, seed)
    mean = wanted.mean()
    scale = np.linalg.norm(mean)
    assert scale > 0
    assert np.linalg.norm(found.values - mean) < tolerance * scale
    np.testing.assert_array_equal(found.counts, wanted.inside.sum(0))
    np.testing.assert_allclose(found.halves, wanted.halves, atol=1e-4)
    assert found.samples == len(wanted.values)
    assert found.images == len(truths)
    return wanted


class Bank(nn.Module):
    """Many small networks behind one stem."""

    def __init__(self, cases: dict[str, nn.Module]) -> None:
        super().__init__()
        self.stem = conv(2, 4, padding=1)
        for name, case in cases.items():
            self.add_module(name, case)

    def forward(self, x):
        y = self.stem(x)
        return {n: m(y) for n, m in self.named_children() if n != "stem"}


class Residual(nn.Module):
    """relu(n(c(relu(x))) + x); with ``path`` its gradient runs along the path without parameters only."""

    path = False

    def __init__(self) -> None:
        super().__init__()
        self.c, self.n = conv(4, 4, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.n(self.c(F.relu(x)))
        return F.relu((y.detach() if self.path else y) + x)


def mixed(*modules: nn.Module) -> nn.Module:
    return S(conv(4, 4, padding=1), *modules, conv(4, 3))


def gated(m, y):
    y = m.a(y)
    return m.b(F.relu(y * torch.sigmoid(m.r(y.mean((2, 3))))[:, :, None, None]))


def last(norm: nn.Module) -> nn.Module:
    """A norm over channels."""
    return Fn(
        lambda m, y: m.b(F.relu(m.n(m.a(y).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))),
        a=conv(4, 4),
        n=norm,
        b=conv(4, 3),
    )


def two(function) -> nn.Module:
    return Fn(function, a=conv(4, 4, padding=1), b=conv(4, 3))


CASES = {
    "squeeze": Fn(gated, a=conv(4, 4, padding=1), r=nn.Linear(4, 4), b=conv(4, 3)),
    "group_norm": mixed(nn.GroupNorm(2, 4), nn.ReLU()),
    "instance_norm": mixed(nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU()),
    "layer_norm": last(nn.LayerNorm(4)),
    "rms_norm": last(nn.RMSNorm(4)),
    "batch_norm": mixed(nn.BatchNorm2d(4), nn.ReLU6(inplace=True)),
    "max_pool": mixed(nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.MaxPool2d((2, 3), 1, dilation=2)),
    "max_pool_ceil": mixed(nn.MaxPool2d(3, 2, ceil_mode=True)),
    "silu": mixed(nn.SiLU()),
    "gelu": mixed(nn.GELU(), conv(4, 4), nn.GELU("tanh")),
    "prelu": mixed(nn.PReLU(4)),
    "bilinear": mixed(nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.MaxPool2d(2)),
    "nearest": mixed(nn.Upsample(scale_factor=2), nn.SiLU()),
    "transposed": S(nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1), nn.ReLU(), conv(4, 3)),
    "adaptive_max": S(conv(4, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(36, 5)),
    "adaptive_max_grid": mixed(nn.AdaptiveMaxPool2d((5, 6))),
    "strided": S(conv(4, 4, stride=2, padding=1), nn.Tanh(), conv(4, 3, k=5, padding=4)),
    "product": two(lambda m, y: m.b((z := m.a(y)) * F.softplus(z))),
    "quotient": two(lambda m, y: m.b((z := m.a(y)) / (1 + z.square().mean(1, keepdim=True)))),
    "softened": two(lambda m, y: m.b(m.a(y) * torch.sigmoid(y) + y)),
    "residual": S(Residual(), Residual()),
}
#: The gradient reaches further than the expanded weights, whose window is kept: over the whole grid through statistics
#: that they hold; or at positions whose windows are larger than that of the central one.
FURTHER = {"squeeze", "group_norm", "instance_norm", "nearest", "transposed", "adaptive_max_grid"}


@pytest.fixture(scope="module")
def small() -> tuple[wa.Network, torch.Tensor, list[Truth]]:
    torch.manual_seed(0)
    net = wa.load(settle(Bank(CASES)), input=wa.InputSpec(shape=(2, 17, 16)))
    images = torch.randn(2, 2, 17, 16)
    return net, images, [Truth(net, x=images[i : i + 1]) for i in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_mean_of_autograds_gradients(small, case: str) -> None:
    net, images, truths = small
    grid = net.layers[case].grid or (1, 1)
    samples = min(12, 2 * grid[0] * grid[1])
    found = wa.expected_gradient(net, "stem", case, images, samples=samples, seed=3)
    wanted = check(net, found, truths, samples, seed=3)
    expanded = wa.expanded_weights(net, "stem", case, gate="identity")
    if expanded.at is None or grid == (1, 1):
        assert (found.values.shape, found.origin) == (expanded.dense().values.shape, expanded.origin)
    assert found.stride == expanded.stride
    assert (found.replaced, found.groups, found.at) == ((), 1, None)
    assert (wanted.lost > 1e-7) == (case in FURTHER)
    if case in ("strided", "max_pool", "residual"):
        assert wanted.inside.min() == 0, "some windows must hang over the border"


def test_the_paths_without_parameters_are_cut(small) -> None:
    net, images, truths = small
    target = "residual"
    whole = wa.expected_gradient(net, "stem", target, images, samples=8)
    cut = wa.expected_gradient(net, "stem", target, images, samples=8, skip="exclude")
    along = copy.deepcopy(net.module)
    for m in along.modules():
        if isinstance(m, Residual):
            m.path = True
    paths = [Truth(net, module=along, x=images[i : i + 1]) for i in (0, 1)]
    pure = sampled(net, cut, paths, 8, 0).mean()
    both = sampled(net, cut, truths, 8, 0).mean()
    assert np.linalg.norm(pure) > 0.1
    np.testing.assert_allclose(whole.values, both, atol=1e-5)
    np.testing.assert_allclose(cut.values, both - pure, atol=1e-5)
    for found in (whole, cut):
        np.testing.assert_allclose(found.skip.dense().values, pure, atol=1e-5)
    assert (whole.skip_included, cut.skip_included) == (True, False)


def test_some_units_are_rows_and_columns_of_all(small) -> None:
    net, images, truths = small
    target = "layer_norm"
    whole = wa.expected_gradient(net, "stem", target, images, samples=6)
    part = wa.expected_gradient(net, "stem", target, images, [2, 0], [3, 1], samples=6)
    np.testing.assert_allclose(part.values, whole.values[[2, 0]][:, [3, 1]], atol=1e-6)
    assert (part.units.tolist(), part.source_indices.tolist()) == ([2, 0], [3, 1])
    np.testing.assert_array_equal(part.counts, whole.counts)
    check(net, part, truths, 6)


def test_the_pixels_can_be_the_source(small) -> None:
    net, images, truths = small
    found = wa.expected_gradient(net, "input", "silu", images, samples=4)
    assert found.sees_pixels
    check(net, found, truths, 4)


def test_a_network_along_one_axis() -> None:
    between = nn.MaxPool1d(3, 2, 1), nn.SiLU(), nn.GroupNorm(2, 4), nn.AdaptiveMaxPool1d(6)
    module = S(nn.Conv1d(2, 4, 3), *between, nn.Conv1d(4, 3, 3))
    net = wa.load(module.eval(), input=wa.InputSpec(shape=(2, 30)))
    images = torch.randn(3, 2, 30)
    found = wa.expected_gradient(net, "0", "5", images, samples=7, seed=1)
    check(net, found, [Truth(net, x=images[i : i + 1]) for i in range(3)], 7, seed=1)


def test_positions_are_spread_evenly_and_not_repeated() -> None:
    drawn = _drawn(3, (4, 5), 10, 0)
    assert [len(d) for d in drawn] == [4, 3, 3]
    assert all(len(set(d)) == len(d) for d in drawn)
    assert all(0 <= y < 4 and 0 <= x < 5 for d in drawn for y, x in d)
    assert [len(d) for d in _drawn(2, (4, 5), None, 0)] == [12, 12]
    assert [len(d) for d in _drawn(2, (1, 1), None, 0)] == [1, 1]
    assert sorted(_drawn(1, (4, 5), 20, 5)[0]) == list(np.ndindex(4, 5))
    assert _drawn(3, (4, 5), 10, 0) == drawn
    assert _drawn(3, (4, 5), 10, 1) != drawn
    assert [len(d) for d in _drawn(4, (4, 5), 2, 0)] == [1, 1, 0, 0]


def test_the_seed_repeats_and_progress_is_told(small) -> None:
    net, images, _ = small
    target = "silu"
    told = []
    a, b, c = (
        wa.expected_gradient(net, "stem", target, images, samples=5, seed=s, progress=lambda *p: told.append(p))
        for s in (4, 4, 5)
    )
    np.testing.assert_array_equal(a.values, b.values)
    assert not np.allclose(a.values, c.values)
    assert told == [(i, 5) for i in range(1, 6)] * 3
    assert wa.expected_gradient(net, "stem", target, images[:1]).samples == 12


def test_halves_of_one_image_are_halves_of_its_positions(small) -> None:
    net, images, truths = small
    found = wa.expected_gradient(net, "stem", "gelu", images[:1], samples=5)
    wanted = check(net, found, truths[:1], 5)
    assert wanted.half.tolist() == [0, 1, 0, 1, 0]
    r = wanted.halves
    assert found.split_half == pytest.approx(r.mean(), abs=1e-4)
    r = np.clip(r, 0, 1)
    assert found.ceiling == pytest.approx(np.sqrt(2 * r / (1 + r)).mean(), abs=1e-4)
    single = wa.expected_gradient(net, "stem", "gelu", images[:1], samples=1)
    assert np.isnan(single.halves).all()
    assert np.isnan(single.split_half)
    assert np.isnan(single.ceiling)


def test_a_linear_way_is_certain() -> None:
    plain = wa.load(settle(S(conv(), nn.BatchNorm2d(2), conv(2, 3))), input=wa.InputSpec(shape=(2, 10, 9)))
    found = wa.expected_gradient(plain, "0", "2", torch.randn(2, 2, 10, 9), samples=6)
    np.testing.assert_allclose(found.values, wa.expanded_weights(plain, "0", "2").values, atol=1e-6)
    assert found.split_half == pytest.approx(1)
    assert found.ceiling == pytest.approx(1)
    assert "nothing replaced" in " ".join(found.provenance.notes)


def test_files_bring_it_back(small, tmp_path) -> None:
    net, images, _ = small
    found = wa.expected_gradient(net, "stem", "residual", images, samples=4)
    back = type(found).load(found.save(tmp_path / "gradient.safetensors"))
    for name in ("values", "counts", "halves", "skip_values"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    assert (back.samples, back.images, repr(back)) == (4, 2, repr(found))


class Taught(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(2, 4, padding=1), conv(4, 3)

    def forward(self, x):
        y = self.a(x)
        return self.b(F.relu(torch.logcumsumexp(F.softplus(y), 1)) + y)


def test_a_taught_rule_gives_way_to_autograd(monkeypatch) -> None:
    monkeypatch.setattr(table, "_RULES", dict(table._RULES))
    monkeypatch.setattr(table, "_TAUGHT", set(table._TAUGHT))
    net = wa.load(Taught().eval(), input=wa.InputSpec(shape=(2, 9, 8)))
    images = torch.randn(2, 2, 9, 8)
    with pytest.raises(GraphError, match="logcumsumexp"):
        wa.expected_gradient(net, "a", "b", images)
    truths = [Truth(net, x=images[i : i + 1]) for i in (0, 1)]
    wa.register_rule("logcumsumexp", lambda step: [(step.source, step.kernel.scaled(0.0))])  # wrong, but local
    check(net, wa.expected_gradient(net, "a", "b", images, samples=6), truths, 6)
    # one of ours too, when it was overruled
    wa.register_rule("relu", lambda step: [(step.source, step.kernel.scaled(9.0))])
    check(net, wa.expected_gradient(net, "a", "b", images, samples=6), truths, 6)


def test_refusals(small) -> None:
    net, images, _ = small
    target = "silu"
    for samples in (0, 2.0, 10**6):
        with pytest.raises(ArgumentError, match=r"samples=.* must be between 1 and \d+: 2 images of"):
            wa.expected_gradient(net, "stem", target, images, samples=samples)
    with pytest.raises(ArgumentError, match="skip='none'"):
        wa.expected_gradient(net, "stem", target, images, skip="none")
    with pytest.raises(ArgumentError, match=r"float \[N, 2, 17, 16\] with N ≥ 1"):
        wa.expected_gradient(net, "stem", target, images[:, :, 1:])
    with pytest.raises(ArgumentError, match="NaN or infinite"):
        wa.expected_gradient(net, "stem", target, images * float("nan"))
    with pytest.raises(UnknownNameError):
        wa.expected_gradient(net, "stem", "nowhere", images)


@pytest.mark.parametrize(("source", "target"), [("blocks.4.0", "blocks.4.1"), ("blocks.5.2", "blocks.6.0")])
def test_the_embedded_network(lite0, photos, source: str, target: str) -> None:
    images = lite0.preprocess([photos["cat"], photos["coffee"]])
    units = [3, 50, 101]
    found = wa.expected_gradient(lite0, source, target, images, units, samples=8)
    truths = [Truth(lite0, x=images[i : i + 1]) for i in (0, 1)]
    check(lite0, found, truths, 8, tolerance=1e-3)
    assert found.counts.min() < found.counts.max() == 8, "some windows must hang over the border"
    expanded = wa.expanded_weights(lite0, source, target, units)
    assert (found.values.shape, found.origin, found.stride) == (expanded.values.shape, expanded.origin, expanded.stride)
