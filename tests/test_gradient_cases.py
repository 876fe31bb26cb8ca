"""Gradient cases against planted ones, and what they must be on real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_attributions import noise, opened
from torch import nn

import weightatlas as wa
from weightatlas.builder.cases import factored
from weightatlas.errors import ArgumentError, GraphError, WeightValuesError
from weightatlas.factor.cones import mixtures

pytestmark = pytest.mark.usefixtures("one_thread")


def sides(*filters, act=None, last=True):
    """Σ relu(f · x) over some filters, in place."""
    first = nn.Conv2d(3, len(filters), 3, bias=False)
    parts = [first, act or nn.ReLU(inplace=True), nn.Conv2d(len(filters), 1, 1, bias=False)]
    with torch.no_grad():
        first.weight.copy_(torch.stack(filters))
        parts[2].weight.fill_(1)
    return opened(nn.Sequential(*parts if last else parts[:2]), (3, 12, 12))


@pytest.fixture(scope="module")
def boundary():
    """|a · x|: a unit that fires for an edge and for its opposite; images with more of the one."""
    a = noise(3, 3, 3, seed=3)
    a = a / a.norm()
    x = noise(40, 3, 12, 12, seed=4) + 0.3 * a.repeat(1, 4, 4)
    return a, sides(a, -a), x


def unit_cosines(cases, planted):
    rows = cases.reshape(len(cases), -1)
    return rows @ np.stack([p.numpy().ravel() / float(p.norm()) for p in planted]).T


class TestPlanted:
    def test_a_boundary_has_two_opposite_cases_with_their_shares(self, boundary):
        a, net, x = boundary
        found = wa.gradient_cases(net, "input", "2:0", x, 2, examples=200)
        assert found.cases.shape == (2, 3, 3, 3)
        assert len(found.loadings) == 200
        assert found.alike[0, 1] == pytest.approx(-1, abs=1e-5)
        assert found.explained == pytest.approx(1, abs=1e-6)
        cosines = unit_cosines(found.cases, [a])[:, 0]
        assert np.abs(cosines) == pytest.approx(1, abs=1e-5)
        signs = []
        for image, (y, w) in zip(found.images, found.places, strict=True):
            signs.append(float((a * x[image, :, y : y + 3, w : w + 3]).sum()))
        planted = np.array([np.mean(np.sign(signs) == np.sign(c)) for c in cosines])
        np.testing.assert_allclose(found.shares, planted, atol=1e-5)
        assert 0.5 < found.shares[0] < 0.95  # the images lean to one side, so the shares are telling
        np.testing.assert_allclose(found.values, np.abs(signs), atol=1e-5)
        assert (np.diff(found.values) <= 0).all()

    def test_the_mean_gradient_is_nearly_nothing_there(self, boundary):
        """What the cases are for: averaged, both sides cancel."""
        _, net, x = boundary
        found = wa.gradient_cases(net, "input", "2:0", x, 2, examples=200)
        mean = np.linalg.norm(found.reconstruct().mean(0))
        assert mean < 0.7 * found.lengths.mean()

    def test_three_planted_cases(self):
        filters = [noise(3, 3, 3, seed=s) for s in (1, 2, 3)]
        gate = 4.0  # only one of them is open at a time where the unit is strongest
        first = nn.Conv2d(3, 3, 3)
        net = sides(*filters)
        with torch.no_grad():
            first.weight.copy_(net.module[0].weight)
            first.bias.fill_(-gate * float(filters[0].norm()) / 2)
        net = opened(nn.Sequential(first, *list(net.module)[1:]), (3, 12, 12))
        found = wa.gradient_cases(net, "input", "2:0", noise(40, 3, 12, 12, seed=6), 3, examples=100)
        cosines = unit_cosines(found.cases, filters)
        assert sorted(cosines.argmax(1)) == [0, 1, 2]
        assert cosines.max(1).min() > 0.98

    @pytest.mark.parametrize("spread", [0, 0.02, 0.1])
    def test_planted_rows_whatever_the_seed_and_the_order(self, spread):
        rng = np.random.default_rng(1)
        cases = rng.normal(size=(3, 60))
        cases /= np.linalg.norm(cases, axis=1, keepdims=True)
        which = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
        rows = cases[which] + spread * rng.normal(size=(200, 60))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        results = []
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(200)
            loadings, found, shares, explained, bound = factored(rows[order], 3, seed)
            assert (loadings >= 0).all()
            assert explained <= bound
            assert shares.sum() == pytest.approx(explained, abs=1e-9)
            held = 1 - np.square(rows[order] - loadings @ found).sum() / np.square(rows).sum()
            assert held == pytest.approx(explained, abs=1e-9)
            assert bound - explained < 0.01
            assert (found @ cases.T).max(1).min() > 0.98
            results.append((shares, explained))
        for shares, explained in results[1:]:
            np.testing.assert_allclose(shares, results[0][0], atol=2e-3)
            assert explained == pytest.approx(results[0][1], abs=1e-3)
        if not spread:
            np.testing.assert_allclose(results[0][0], np.sort(np.bincount(which) / 200)[::-1], atol=1e-4)

    def test_mixtures_are_non_negative_least_squares(self):
        from scipy.optimize import nnls

        rng = np.random.default_rng(2)
        cases, rows = rng.normal(size=(4, 9)), rng.normal(size=(20, 9))
        expected = np.stack([nnls(cases.T, row)[0] for row in rows])
        np.testing.assert_allclose(mixtures(rows, cases, 0.0), expected, atol=1e-5)

    def test_more_cases_than_there_are(self):
        a = noise(3, 3, 3, seed=3)
        found = wa.gradient_cases(sides(a), "input", "2:0", noise(8, 3, 12, 12), 2, examples=20)
        assert found.shares[0] == pytest.approx(1, abs=1e-5)
        assert found.shares[1] == pytest.approx(0, abs=1e-5)


class TestExamples:
    def test_of_an_activation_the_pre_activation_is_meant(self):
        a = noise(3, 3, 3, seed=3)
        net = sides(a, act=nn.ReLU6(), last=False)  # cut off above as well: its own gradient would be 0 there
        x = 3 * noise(10, 3, 12, 12)
        found = wa.gradient_cases(net, "input", "1:0", x, 1, examples=30)
        assert found.values.max() > 6
        assert (found.values > 0).all()
        assert found.shares[0] == pytest.approx(1, abs=1e-5)
        assert len(found.values) == 30
        assert any("pre-activation" in note for note in found.provenance.notes)

    def test_examples_without_a_gradient_are_left_out_and_counted(self):
        """The unit's value is its bias alone on most images, and there both ReLUs are shut."""
        net = sides(noise(3, 3, 3, seed=3))
        net.module[2].bias = nn.Parameter(torch.ones(1))
        x = torch.zeros(6, 3, 12, 12)
        x[0] = noise(3, 12, 12)
        found = wa.gradient_cases(net, "input", "2:0", x, 1, examples=12, per_image=2)
        assert set(found.images) == {0}
        assert len(found.loadings) == 2
        assert "10 of 12 examples are left out: their gradient is 0" in found.provenance.notes

    def test_strongest_places_no_two_neighbours_whole_windows_first(self, boundary):
        a, _, x = boundary
        padded = opened(nn.Sequential(nn.Conv2d(3, 1, 3, padding=1, bias=False), nn.Identity()), (3, 12, 12))
        with torch.no_grad():
            padded.module[0].weight.copy_(a[None])
        found = wa.gradient_cases(padded, "input", "0:0", x[:3], 1, per_image=5)
        assert np.bincount(found.images).tolist() == [5, 5, 5]
        assert found.places.min() >= 1
        assert found.places.max() <= 10
        for n in range(3):
            p = found.places[found.images == n]
            far = np.abs(p[:, None] - p[None]).max(-1) + 9 * np.eye(len(p))
            assert far.min() >= 2
        np.testing.assert_allclose(found.cases[0], a / a.norm(), atol=1e-5)
        assert (found.origin, found.stride) == ((-1.0, -1.0), (1.0, 1.0))

    @pytest.mark.parametrize("target", ["0:0", "1:1", "3:1"])
    def test_only_values_above_0_are_examples_whatever_the_layer_is(self, target):
        """A convolution, a block and a linear map: none at which the unit is negative."""
        torch.manual_seed(0)
        block = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh())
        net = opened(nn.Sequential(nn.Conv2d(3, 2, 3), block, nn.Flatten(), nn.Linear(200, 4)), (3, 12, 12))
        x = 3 * noise(8, 3, 12, 12)
        layer, unit = target.split(":")
        with torch.no_grad():
            values = net.module[: int(layer) + 1](x)[:, int(unit)]
        assert float(values.min()) < 0 < float(values.max())
        found = wa.gradient_cases(net, "input", target, x, 1, examples=500, per_image=100)
        assert found.values.min() > 0
        assert found.values.max() == pytest.approx(float(values.max()), rel=1e-5)
        assert len(found.values) <= int((values > 0).sum())
        shut = wa.load(nn.Sequential(nn.Conv2d(3, 2, 3)), input=wa.InputSpec(shape=(3, 12, 12)))
        with torch.no_grad():
            shut.module[0].bias.fill_(-100)
        top = float(shut.module[0](x)[:, 1].detach().max())
        with pytest.raises(ArgumentError, match=rf"0:1 never fires on these 8 images: its largest value is {top:.3g}"):
            wa.gradient_cases(shut, "input", "0:1", x, 1)

    def test_a_unit_that_fires_at_the_border_alone_has_its_examples_there(self):
        conv = nn.Conv2d(1, 1, 3, padding=1, bias=True)
        with torch.no_grad():
            conv.weight.fill_(-1)
            conv.bias.fill_(7)  # 9 inside, 6 at an edge, 4 at a corner
        net = opened(nn.Sequential(conv), (1, 8, 8))
        found = wa.gradient_cases(net, "input", "0:0", torch.ones(2, 1, 8, 8), 1, per_image=4)
        assert found.values.tolist() == [3] * 8
        assert {tuple(p) for p in found.places.tolist()} == {(0, 0), (0, 7), (7, 0), (7, 7)}

    def test_the_batch_does_not_matter(self, boundary):
        _, net, x = boundary
        done = []
        one = wa.gradient_cases(net, "0", "2:0", x[:5], 2, examples=20, batch=1)
        two = wa.gradient_cases(net, "0", "2:0", x[:5], 2, examples=20, batch=7, progress=lambda *n: done.append(n))
        np.testing.assert_allclose(one.reconstruct(), two.reconstruct(), atol=1e-5)
        np.testing.assert_array_equal(one.places, two.places)
        assert done[-1] == (20, 20)

    def test_a_network_that_cannot_be_captured(self):
        class Branches(nn.Module):
            def __init__(self, of):
                super().__init__()
                self.of = of

            def forward(self, x):
                return self.of(x) if float(x.detach().sum()) > -1e9 else x

        a = noise(3, 3, 3, seed=3)
        net = opened(Branches(sides(a, -a).module), (3, 12, 12))
        with pytest.raises(GraphError):
            wa.layer_graph(net)
        found = wa.gradient_cases(net, "input", "of.2:0", noise(10, 3, 12, 12), 2, examples=30)
        assert found.cases.shape == (2, 3, 3, 3)
        assert found.alike[0, 1] == pytest.approx(-1, abs=1e-5)
        assert any("receptive fields" in note for note in found.provenance.notes)

    def test_what_is_wrong_is_told(self, boundary):
        _, net, x = boundary
        with pytest.raises(
            ArgumentError, match=r"2:0 has 2 examples on 2 images, places where it is above 0: fewer than k=3"
        ):
            wa.gradient_cases(net, "input", "2:0", x[:2], 3, per_image=1)
        with pytest.raises(ArgumentError, match="k=28 cases need"):
            wa.gradient_cases(net, "input", "2:0", x, 28)
        with pytest.raises(ArgumentError, match=r"1:0 never fires on these 2 images: its largest value is 0"):
            wa.gradient_cases(net, "input", "1:0", torch.zeros(2, 3, 12, 12), 1)
        with pytest.raises(ArgumentError, match="names a unit; cases are over all units"):
            wa.gradient_cases(net, "0:1", "2:0", x)
        with pytest.raises(ArgumentError, match="comes after"):
            wa.gradient_cases(net, "2", "0:0", x)
        with pytest.raises(ArgumentError, match="images="):
            wa.gradient_cases(net, "input", "2:0", None)
        with pytest.raises(ArgumentError):
            wa.gradient_cases(net, "input", "2:0", x, 0)

    def test_what_is_wrong_is_named(self, boundary):
        _, net, x = boundary
        for name, value in (("k", 0), ("examples", 0), ("per_image", 0), ("per_image", 1.5), ("batch", 0)):
            with pytest.raises(ArgumentError, match=f"^{name}={value} is no number of"):
                wa.gradient_cases(net, "input", "2:0", x[:2], **{name: value})
        with pytest.raises(ArgumentError, match=r"progress=3 cannot be called; it is told \(examples done, examples"):
            wa.gradient_cases(net, "input", "2:0", x[:2], progress=3)
        broken = opened(nn.Sequential(nn.Conv2d(3, 2, 3)), (3, 12, 12))
        with torch.no_grad():
            broken.module[0].weight.fill_(float("nan"))
        with pytest.raises(WeightValuesError, match="0:1 comes to NaN or infinity everywhere on these 2 images"):
            wa.gradient_cases(broken, "input", "0:1", x[:2])


class TestRealWeights:
    def test_a_unit_of_the_embedded_network(self, lite0, photos, tmp_path):
        crops = [p[y : y + 224, w : w + 224] for p in photos.values() for y in (0, 60) for w in (0, 110)]
        found = wa.gradient_cases(lite0, None, "blocks.2.1:5", crops, 2, examples=24)
        assert found.source == "blocks.2.0"
        assert found.explained <= found.bound
        assert found.shares.sum() == pytest.approx(found.explained, abs=1e-5)
        assert found.shares[0] >= found.shares[1] > 0
        assert (found.loadings >= 0).all()
        truth = wa.attributions(
            lite0, crops[found.images[0]], "blocks.2.1:5", "blocks.2.0", tuple(found.places[0]), "gradient"
        ).gradients
        top, left = (int(p + o) for p, o in zip(found.places[0], found.origin, strict=True))
        h, w = found.cases.shape[2:]
        cut = truth[:, top : top + h, left : left + w]
        assert np.linalg.norm(cut) == pytest.approx(np.linalg.norm(truth), rel=1e-6)  # the window holds all of it
        assert found.lengths[0] == pytest.approx(np.linalg.norm(cut), rel=1e-4)
        made = found.reconstruct()[0]
        held = 1 - np.square(cut - made).sum() / np.square(cut).sum()
        assert held == pytest.approx(np.square(found.loadings[0] @ found.cases.reshape(2, -1)).sum(), abs=0.02)
        again = type(found).load(found.save(tmp_path / "cases.npz"))
        np.testing.assert_array_equal(again.cases, found.cases)
        assert repr(again) == repr(found)
