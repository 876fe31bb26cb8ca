"""Attributions through layers that are not linear: against closed forms, autograd and captum on plain networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerConductance, LayerIntegratedGradients
from test_attributions import Residual, holds, noise, opened
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightValuesError

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("gradient", "integrated_gradients", "conductance")


@pytest.fixture(scope="module")
def twins():
    """The same network with its activations in place and not."""
    torch.manual_seed(1)
    module, plain = Residual().eval(), Residual(inplace=False).eval()
    plain.load_state_dict(module.state_dict())
    return opened(module), opened(plain)


@pytest.fixture
def x():
    return noise(3, 10, 9, seed=5)


class Plain(nn.Module):
    """A part of :class:`Residual` of which captum itself can take hold: every activation a module of its own."""

    def __init__(self, of):
        super().__init__()
        self.of, self.first, self.second, self.last = of, nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.first(self.of.stem(x))
        y = self.of.conv2(self.second(self.of.conv1(x)))
        return self.of.head(self.last(x + y))[:, 2, 1, 3]


class TestMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_operators_in_place_change_nothing(self, twins, x, method):
        for source in ("input", "stem", "relu", "relu#2", "conv2"):
            one, other = (wa.attributions(n, x, "head:2", source, (1, 3), method, steps=16) for n in twins)
            np.testing.assert_allclose(one.values, other.values, atol=1e-6)
            np.testing.assert_allclose(one.activations, other.activations, atol=1e-6)
            np.testing.assert_allclose(one.gradients, other.gradients, atol=1e-6)
            assert one.base == pytest.approx(other.base, abs=1e-6)

    def test_gradients_are_those_of_autograd(self, twins, x):
        net, _ = twins
        m = net.module
        with torch.no_grad():
            stem = m.stem(x[None])
        stem.requires_grad_()
        mid = stem.relu()
        value = m.head((mid + m.conv2(m.conv1(mid).relu())).relu())[0, 2, 1, 3]
        value.backward()
        a = wa.attributions(net, x, "head:2", "stem", (1, 3), "gradient")
        np.testing.assert_allclose(a.gradients, stem.grad[0], atol=1e-6)
        np.testing.assert_allclose(a.values, (stem.grad * stem.detach())[0], atol=1e-6)
        assert a.value == pytest.approx(float(value.detach()), abs=1e-6)
        with torch.no_grad():
            zero = torch.zeros_like(stem)
            assert a.base == pytest.approx(
                float(m.head((zero + m.conv2(m.conv1(zero).relu())).relu())[0, 2, 1, 3]), abs=1e-6
            )

    def test_integrals_are_those_of_captum_on_a_plain_network(self, twins, x):
        net, plain = twins
        direct = Plain(plain.module)
        zero = torch.zeros_like(x[None])
        ours = wa.attributions(net, x, "head:2", "relu", (1, 3), "integrated_gradients", steps=256)
        theirs = LayerIntegratedGradients(direct, direct.first).attribute(x[None], zero, n_steps=ours.steps)
        np.testing.assert_allclose(ours.values, theirs.detach()[0], atol=1e-5)
        ours = wa.attributions(net, x, "head:2", "input", (1, 3), "integrated_gradients", steps=256)
        theirs = IntegratedGradients(direct).attribute(x[None], zero, n_steps=ours.steps)
        np.testing.assert_allclose(ours.values, theirs.detach()[0], atol=1e-5)
        ours = wa.attributions(net, x, "head:2", "relu", (1, 3), "conductance", steps=256)
        theirs = LayerConductance(direct, direct.first).attribute(x[None], zero, n_steps=ours.steps)
        np.testing.assert_allclose(ours.values, theirs.detach()[0], atol=1e-5)

    @pytest.mark.parametrize("method", METHODS[1:])
    def test_sums_reach_the_difference_to_the_baseline(self, twins, x, method):
        net, _ = twins
        start = noise(3, 10, 9, seed=9)
        for source, baseline in (("relu", None), ("input", start), ("stem", start)):
            a = wa.attributions(net, x, "head:2", source, (1, 3), method, baseline=baseline)
            with torch.no_grad():
                base = net.module(torch.zeros(1, 3, 10, 9) if baseline is None else start[None])[0, 2, 1, 3]
            assert a.base == pytest.approx(float(base), abs=1e-6)
            assert a.steps >= 64
            assert a.error < 0.01
            holds(a, 0.01)

    def test_what_comes_around_the_source_is_told(self, twins, x):
        """conv2 is bypassed: its integral explains only what the other way leaves."""
        net, _ = twins
        a = wa.attributions(net, x, "head:2", "conv2", (1, 3), "integrated_gradients", steps=256)
        m = net.module
        with torch.no_grad():
            at_zero = m.conv2(m.conv1(m.stem(torch.zeros(1, 3, 10, 9)).relu()).relu())
            mixed = m.head((m.stem(x[None]).relu() + at_zero).relu())[0, 2, 1, 3]
        assert a.residual == pytest.approx(float(mixed) - a.base, abs=0.02 * abs(a.value - a.base))
        assert any("on paths around the source" in note for note in a.provenance.notes)
        whole = wa.attributions(net, x, "head:2", "stem", (1, 3), "integrated_gradients")
        assert not any("around" in note for note in whole.provenance.notes)

    def test_a_network_of_one_kink_in_closed_form(self):
        """relu(2 a − b + 1) on the way from (0, 0) to (1, 4): it is cut off where 2 t − 4 t + 1 < 0, from t = 1/2 on."""
        net = opened(nn.Sequential(nn.Linear(2, 1), nn.ReLU(inplace=True)), (2,))
        with torch.no_grad():
            net.module[0].weight.copy_(torch.tensor([[2.0, -1.0]]))
            net.module[0].bias.fill_(1.0)
        there = torch.tensor([1.0, 4.0])
        a = wa.attributions(net, there, "1:0", "input", method="integrated_gradients", steps=400)
        np.testing.assert_allclose(a.values[:, 0, 0], [2 * 1 / 2, -4 / 2], atol=0.02)
        assert (a.base, a.value) == (1.0, 0.0)
        a = wa.attributions(net, there, "1:0", "input", method="gradient")
        assert not a.values.any()
        assert (a.base, a.value) == (1.0, 0.0)
        assert "the gradient is 0 everywhere" in a.provenance.notes[-1]
        assert a.window == (0, 0, 1, 1)

    @pytest.mark.parametrize("method", METHODS)
    def test_what_progress_raises_ends_it(self, twins, x, method):
        net, calls = twins[0], []

        def heard():
            calls.append(1)
            if len(calls) == 2:
                raise KeyError("enough")

        with pytest.raises(KeyError, match="enough"):
            wa.attributions(net, x, "head:2", "stem", method=method, progress=heard)
        assert len(calls) == 2
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())

    def test_more_steps_are_taken_until_the_sum_holds(self, twins, x):
        net, _ = twins
        a = wa.attributions(net, x, "head:2", "input", (1, 3), "integrated_gradients", steps=1)
        assert 1 < a.steps <= 512
        assert a.error <= 0.01
        assert f"{a.steps} steps instead of 1" in a.provenance.notes[0]


class TestAnyNetwork:
    def test_gradients_switched_off_everywhere(self, x):
        class Off(nn.Module):
            def __init__(self, of):
                super().__init__()
                self.of = of

            @torch.no_grad()
            def forward(self, x):
                return self.of(x)

        torch.manual_seed(1)
        base = Residual().eval()
        expected = wa.attributions(opened(base), x, "head:2", "stem", (1, 3), "integrated_gradients").values
        frozen = opened(Residual().eval().requires_grad_(False))
        frozen.module.load_state_dict(base.state_dict())
        inside = opened(Off(base))
        with torch.inference_mode():
            made = Residual().eval()
            made.load_state_dict(base.state_dict())
        for net, name in ((frozen, ""), (inside, "of."), (opened(made), "")):
            for off in (torch.no_grad, torch.inference_mode):
                with off():
                    a = wa.attributions(net, x, f"{name}head:2", f"{name}stem", (1, 3), "integrated_gradients")
                np.testing.assert_allclose(a.values, expected, atol=1e-6)
        assert torch.is_grad_enabled()

    def test_paths_that_cannot_be_repeated_are_run_in_full(self, x):
        """A concatenation needs batches of one size: then every image of a batch is run from its beginning."""

        class Joined(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 3)

            def forward(self, x):
                return self.head(torch.cat([self.a(x).relu_(), self.b(x).sigmoid()], 1)).sigmoid_()

        net = opened(Joined())
        a = wa.attributions(net, x, "head:1", "b", (2, 2), "integrated_gradients")
        m = net.module
        with torch.no_grad():
            one, two, zero = m.a(x[None]).relu(), m.b(x[None]), m.b(torch.zeros_like(x[None]))
            lost = m.head(torch.cat([one, two.sigmoid()], 1)) - m.head(torch.cat([one, zero.sigmoid()], 1))
        assert a.total == pytest.approx(float(lost[0, 1, 2, 2]), abs=1e-4)

    def test_everything_is_as_it_was_after_success_errors_and_interrupts(self, twins, x, monkeypatch):
        net, _ = twins
        module = net.module
        module.train()
        module.conv1.eval()

        def state():
            hooks = [
                len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()
            ]
            return hooks, [m.training for m in module.modules()], [p.grad is None for p in module.parameters()]

        before, given = state(), x.clone()
        try:
            for method in METHODS:
                wa.attributions(net, x, "head:2", "stem", (1, 3), method, steps=4)
            for failure in (KeyboardInterrupt, RuntimeError, ZeroDivisionError):
                calls = []

                def fail(y, failure=failure, calls=calls):
                    calls.append(1)
                    if len(calls) == 4:
                        raise failure("in the middle")
                    return nn.Conv2d.forward(module.conv2, y)

                monkeypatch.setattr(module.conv2, "forward", fail)
                with pytest.raises(failure, match="in the middle"):
                    wa.attributions(net, x, "head:2", "stem", (1, 3), "integrated_gradients", steps=40)
                monkeypatch.undo()
                assert state() == before
            assert state() == before
            assert torch.is_grad_enabled()
            assert torch.equal(x, given)
        finally:
            module.eval()

    def test_images_of_every_form(self, lite0, photos, tmp_path):
        from PIL import Image

        cat = photos["cat"]
        file = tmp_path / "cat.png"
        Image.fromarray(cat).save(file)
        tensor = lite0.preprocess([cat])
        made = [
            wa.attributions(lite0, i, "conv_stem:3")
            for i in (cat, cat / 255, file, str(file), tensor, tensor[0], cat[None])
        ]
        for a in made[1:]:
            np.testing.assert_allclose(a.values, made[0].values, atol=1e-6)
        assert made[0].image.shape == (224, 224, 3)
        assert made[0].channel_names == ("red", "green", "blue")
        top, left, bottom, right = made[0].box
        y, x = made[0].at
        assert (top, left, bottom, right) == (2 * y, 2 * x, 2 * y + 3, 2 * x + 3)
        assert (top, left, bottom, right) == made[0].window
        with pytest.raises(LoadError, match="nowhere"):
            wa.attributions(lite0, tmp_path / "nowhere.png", "conv_stem:3")
        for wrong in (
            torch.zeros(2, 3, 224, 224),
            np.zeros((2, 5, 5, 3), np.uint8),
            torch.zeros(3, 9, 9),
            torch.full((3, 224, 224), torch.nan),
            None,
        ):
            with pytest.raises(ArgumentError):
                wa.attributions(lite0, wrong, "conv_stem:3")

    def test_what_is_wrong_is_told(self, twins, x):
        net, _ = twins
        with pytest.raises(ArgumentError, match="target='head' names a layer; a unit such as 'head:0'"):
            wa.attributions(net, x, "head")
        with pytest.raises(UnknownNameError, match="no layer 'hed'"):
            wa.attributions(net, x, "hed:1")
        with pytest.raises(UnknownNameError, match="has no unit 4"):
            wa.attributions(net, x, "head:4")
        with pytest.raises(ArgumentError, match=r"at=\(4, 0\) lies outside the grid of 'head', 4 × 4"):
            wa.attributions(net, x, "head:1", at=(4, 0))
        with pytest.raises(ArgumentError, match="source 'head' has not run when 'stem' is made"):
            wa.attributions(net, x, "stem:1", "head", method="gradient")
        with pytest.raises(ArgumentError, match="both 'stem'"):
            wa.attributions(net, x, "stem:1", "stem")
        with pytest.raises(ArgumentError, match="method='ig' is none of 'auto', 'exact'"):
            wa.attributions(net, x, "head:1", method="ig")
        with pytest.raises(ArgumentError, match="steps=0"):
            wa.attributions(net, x, "head:1", steps=0)
        with pytest.raises(ArgumentError, match="starts from no baseline"):
            wa.attributions(net, x, "head:1", "stem", method="gradient", baseline=x)
        with pytest.raises(ArgumentError, match="input, to which nothing contributes"):
            wa.attributions(net, x, "input:1")
        broken = opened(nn.Sequential(nn.Conv2d(3, 1, 1)))
        with torch.no_grad():
            broken.module[0].weight.fill_(torch.nan)
        with pytest.raises(WeightValuesError, match="no finite number"):
            wa.attributions(broken, x, "0:0")

    def test_a_source_that_does_not_feed_the_target(self, x):
        class Apart(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

            def forward(self, x):
                self.a(x)
                return self.b(x)

        with pytest.raises(ArgumentError, match="'b' has no gradient by 'a': it does not depend on it"):
            wa.attributions(opened(Apart()), x, "b:0", "a", method="gradient")

    @pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
    def test_what_torch_cannot_differentiate_is_told_with_what_to_do(self, method):
        class Overwritten(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)
                nn.init.constant_(self.b.bias, 9.0)

            def forward(self, x):
                y = self.a(x).sigmoid()
                y += 1  # the sigmoid's gradient is made of what it gave
                return self.b(y)

        net, x = opened(Overwritten()), noise(3, 10, 9)
        told = r"'b' cannot be differentiated by 'a': an operator in place .* inplace=False"
        with pytest.raises(ArgumentError, match=told):
            wa.attributions(net, x, "b:0", "a", method=method)
        with pytest.raises(ArgumentError, match=told):
            wa.gradient_cases(net, "a", "b:0", x[None], 1)

    def test_a_progress_that_cannot_be_called(self, twins, x):
        with pytest.raises(ArgumentError, match="progress=3 cannot be called; it is told nothing, before every run"):
            wa.attributions(twins[0], x, "head:2", progress=3)


class TestRealWeights:
    def test_integrated_gradients_of_the_embedded_network_are_complete(self, lite0, photos):
        a = wa.attributions(lite0, photos["cat"], "blocks.4.1:3", "blocks.4.0")
        assert a.method == "integrated_gradients"
        assert a.error < 0.01
        assert a.source == wa.attributions(lite0, photos["cat"], "blocks.4.1:3", method="gradient").source
        holds(a, 0.01)

    def test_a_class_from_the_last_convolutions_output(self, lite0, photos):
        """Pooling and flattening are linear: gradient × activation is exact from before them."""
        a = wa.attributions(lite0, photos["cat"], "classifier:285", "act2", method="gradient")
        pooled = wa.attributions(lite0, photos["cat"], "classifier:285")
        assert a.values.shape == (1280, 7, 7)
        assert a.error < 1e-5
        np.testing.assert_allclose(a.by_unit, pooled.by_unit, atol=1e-5)
        assert a.base == pytest.approx(pooled.base, abs=1e-5)
