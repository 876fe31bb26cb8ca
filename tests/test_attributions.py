"""Contributions against sums taken by hand, autograd and captum on networks of which captum can take hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.lens.contributing import LINEAR, contributions
from weightatlas.lens.taps import tapped

pytestmark = pytest.mark.usefixtures("one_thread")


def opened(module, shape=(3, 10, 9)):
    return wa.load(module, input=wa.InputSpec(shape=shape))


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def holds(a, most=1e-4):
    """The sum, taken again from the record's arrays."""
    scale = max(abs(a.value), abs(a.value - a.base))
    assert abs(a.value - a.base - a.values.astype(np.float64).sum()) <= most * scale, a


class Residual(nn.Module):
    """conv → ReLU in place → conv, added to what came in, then one ReLU again: a module that runs twice."""

    def __init__(self, inplace=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 4, 3, stride=2)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.conv2(self.relu(self.conv1(x)))
        return self.head(self.relu(x + y))


@pytest.fixture(scope="module")
def twins():
    torch.manual_seed(1)
    module = Residual().eval()
    plain = Residual(inplace=False).eval()
    plain.load_state_dict(module.state_dict())
    return opened(module), opened(plain)


CONVOLUTIONS = {
    "zeros": nn.Conv2d(3, 4, 3, padding=1),
    "reflect": nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"),
    "circular": nn.Conv2d(3, 4, 5, padding=2, padding_mode="circular"),
    "replicate": nn.Conv2d(3, 4, 3, padding=1, stride=2, padding_mode="replicate"),
    "same, even": nn.Conv2d(3, 4, 4, padding="same"),
    "stride and dilation": nn.Conv2d(3, 4, (3, 2), stride=(2, 1), dilation=(1, 3), padding=(1, 2)),
    "groups": nn.Conv2d(3, 6, 3, groups=3, padding=1, bias=False),
    "transposed": nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
    "transposed groups": nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3),
}


class TestExact:
    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own
    @pytest.mark.parametrize("name", CONVOLUTIONS)
    def test_contributions_are_weights_times_what_lies_under_them(self, name):
        """The independent truth: the kernel as direct_weights gives it, laid on a padded input by plain loops."""
        module = CONVOLUTIONS[name]
        net, x = opened(nn.Sequential(module)), noise(1, 3, 10, 9)
        w = wa.direct_weights(net, "0", dense=True)
        h, w_ = net.layers["0"].grid
        for at in [(0, 0), (h - 1, w_ - 1), (h // 2, w_ // 2), (0, w_ - 1), (1, 1)]:
            for unit in (0, 3):
                a = wa.attributions(net, x, f"0:{unit}", at=at)
                assert (a.source, a.method) == ("input", "exact")
                expected = by_hand(module, w, x[0].double().numpy(), unit, at)
                np.testing.assert_allclose(a.values, expected, atol=1e-6)
                np.testing.assert_allclose(a.activations, x[0], atol=0)
                bias = 0 if module.bias is None else float(module.bias.detach()[unit])
                assert a.base == pytest.approx(bias, abs=1e-7)
                assert a.value == float(module(x).detach()[0, unit, at[0], at[1]])
                holds(a)

    def test_signals_matrices_and_tokens(self):
        signal = opened(nn.Sequential(nn.Conv1d(2, 3, 5, padding=2)), (2, 12))
        x = noise(2, 12)
        a = wa.attributions(signal, x, "0:1", at=(0, 4))
        assert a.values.shape == (2, 1, 12)
        np.testing.assert_allclose(a.values[:, 0, 2:7], signal.module[0].weight[1].detach() * x[:, 2:7], atol=1e-6)
        assert (a.box, a.image.size) == ((), 0)
        plain = opened(nn.Sequential(nn.Linear(7, 5)), (7,))
        v = noise(7)
        a = wa.attributions(plain, v, "0:4")
        np.testing.assert_allclose(a.values[:, 0, 0], plain.module[0].weight[4].detach() * v, atol=1e-6)

        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.mix = nn.Conv2d(3, 5, 2, stride=2), nn.Linear(5, 6)

            def forward(self, x):
                return self.mix(self.embed(x).flatten(2).transpose(1, 2))

        net = opened(Tokens(), (3, 8, 6))
        x = noise(3, 8, 6)
        own = wa.attributions(net, x, "mix:2", at=(0, 7))
        assert (own.source, own.values.shape) == ("input of mix", (5, 1, 12))
        holds(own)
        grid = wa.attributions(net, x, "mix:2", "embed", at=(0, 7))
        assert (grid.method, grid.values.shape, grid.window) == ("exact", (5, 4, 3), (2, 1, 3, 2))
        np.testing.assert_allclose(grid.values.reshape(5, 12), own.values[:, 0], atol=1e-7)

    def test_a_layer_before_a_flatten_keeps_its_grid(self):
        class Late(nn.Module):
            def __init__(self, between):
                super().__init__()
                self.conv, self.head, self.between = nn.Conv2d(3, 4, 3), nn.Linear(4 * 8 * 7, 5), between

            def forward(self, x):
                return self.head(self.between(self.conv(x)))

        x = noise(3, 10, 9)
        ways = {
            "view": lambda t: t.flatten(1),
            "copy": lambda t: t.permute(0, 2, 3, 1).flatten(1),  # other memory: found by labels
            "roll": lambda t: t.roll(3, 2).flatten(1),
        }
        for name, way in ways.items():
            net = opened(Late(way))
            a = wa.attributions(net, x, "head:1", "conv")
            assert (a.method, a.values.shape) == ("exact", (4, 8, 7)), name
            with torch.no_grad():
                out = net.module.conv(x[None])
            out.requires_grad_()
            net.module.head(way(out))[0, 1].backward()
            np.testing.assert_allclose(a.values, (out.grad * out.detach())[0], atol=1e-6)
            holds(a)
        not_alone = {
            "relu": lambda t: t.relu().flatten(1),
            "in place": lambda t: t.relu_().flatten(1),
            "scaled": lambda t: (2 * t).flatten(1),
            "sorted": lambda t: t.flatten(1).sort(1)[0],
            "shifted": lambda t: (t + 1).flatten(1),
            "odd": lambda t: t.tanh().flatten(1),
        }
        for name, way in not_alone.items():
            net = opened(Late(way))
            assert wa.attributions(net, x, "head:1", "conv", steps=2).method == "integrated_gradients", name
            with pytest.raises(ArgumentError, match=r"not 'conv' alone, unchanged; give source=None"):
                wa.attributions(net, x, "head:1", "conv", method="exact")

    def test_only_what_leaves_numbers_of_any_size_as_they_are_is_a_rearrangement(self):
        class Late(nn.Module):
            def __init__(self, between):
                super().__init__()
                self.conv, self.between = nn.Conv2d(3, 4, 3), between

            def forward(self, x):
                return self.head(self.between(self.conv(x)))

        def late(between):
            module = Late(between)
            with torch.no_grad():
                out = between(module.conv(torch.zeros(1, 3, 10, 9)))
            module.head = nn.Conv2d(out.shape[1], 2, 1) if out.ndim == 4 else nn.Linear(out.shape[-1], 2)
            return opened(module)

        def hidden(t):
            t.data.clamp_(-300, 300)  # no counter of writes tells of it
            return t.view_as(t)

        x = 4 * noise(3, 10, 9)
        changed = {
            "shrunk": nn.Hardshrink(), "softly": nn.Softshrink(), "rounded": torch.round, "floor": torch.floor,
            "cut off": nn.Hardtanh(-300, 300), "ReLU6": nn.ReLU6(), "half": lambda t: t.half().float(),
            "brain": lambda t: t.bfloat16().float(), "size": torch.abs, "hidden": hidden,
            "shrunk, far": nn.Hardshrink(1e-3), "positive": lambda t: t.clone().relu_(),
            "flattened": lambda t: t.flatten(1).round(),
        }  # fmt: skip
        for name, way in changed.items():
            with pytest.raises(ArgumentError, match="not 'conv' alone, unchanged"):
                wa.attributions(late(way), x, "head:1", "conv", method="exact")
            assert name
        kept = {
            "flatten": nn.Flatten(), "permute": lambda t: t.permute(0, 2, 3, 1).flatten(1), "identity": nn.Identity(),
            "shuffle": nn.PixelUnshuffle(1), "blocks": lambda t: functional.pixel_shuffle(t, 2),
            "chunk": lambda t: t.chunk(2, 1)[1], "dropout": nn.Dropout(0.5), "times 1": lambda t: t * 1.0,
            "nothing": lambda t: t + 0 * t.flip(2), "padded": lambda t: functional.pad(t, (1, 1, 1, 1)),
            "wide": lambda t: t.double().float(), "bounds": lambda t: t.clamp(min=-torch.inf),
        }  # fmt: skip
        for way in kept.values():
            a = wa.attributions(late(way), x, "head:1", "conv")
            assert a.method == "exact"
            holds(a)

    @pytest.mark.parametrize("between", [nn.Hardshrink(), nn.Hardtanh(-300, 300), nn.Threshold(-9, 0)])
    def test_a_layer_in_between_that_changes_numbers_is_seen(self, between):
        net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), between, nn.Conv2d(4, 2, 3)))
        a = wa.attributions(net, noise(3, 10, 9), "2:0", "0", steps=2)
        assert a.method == "integrated_gradients"

    @pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
    def test_other_precisions(self, kind):
        module = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 56, 5)).to(kind)
        net = opened(module)
        a = wa.attributions(net, noise(3, 10, 9), "3:1", "1")  # 2240 elements: more than two digits in bfloat16
        assert (a.method, a.values.shape) == ("exact", (40, 8, 7))
        assert a.error < {torch.float64: 1e-6, torch.float16: 5e-3, torch.bfloat16: 5e-2}[kind]
        b = wa.attributions(net, noise(3, 10, 9), "3:1", "0", method="gradient")
        assert b.error < {torch.float64: 1e-6, torch.float16: 2e-2, torch.bfloat16: 1e-1}[kind]

    def test_a_forward_of_its_own_is_looked_at(self):
        class Same(nn.Conv2d):
            def forward(self, x):
                return super().forward(functional.pad(x, (1, 2, 0, 1)))

        class Bent(nn.Conv2d):
            def forward(self, x):
                return super().forward(x).relu()

        x = noise(3, 10, 9)
        holds(wa.attributions(opened(nn.Sequential(Same(3, 2, 3))), x, "0:1", at=(8, 8), method="exact"))
        with pytest.raises(ArgumentError, match="Bent has a forward of its own, or hooks, and is not linear"):
            wa.attributions(opened(nn.Sequential(Bent(3, 2, 3))), x, "0:1", method="exact")

    def test_the_error_names_a_source_for_which_it_holds(self, twins):
        net, _ = twins
        x = noise(3, 10, 9)
        with pytest.raises(ArgumentError, match=r"from what it reads, and that is not 'stem' .* source='relu'"):
            wa.attributions(net, x, "conv1:0", "stem", method="exact")
        with pytest.raises(ArgumentError, match=r"'relu' is ReLU \(activation\)\. Give a target .*'stem:0'"):
            wa.attributions(net, x, "relu:0", method="exact")


def by_hand(module, weights, x, unit, at):
    """Σ taken element by element: W · x, laid back from the padded input to the input."""
    grid = x.shape[1:]
    out = np.zeros(x.shape)
    mode = getattr(module, "padding_mode", "zeros")
    for y, xx in np.ndindex(*weights.values.shape[2:]):
        place = []
        for i, k in ((0, y), (1, xx)):
            p = at[i] * weights.stride[i] + weights.origin[i] + k * weights.dilation[i]
            if abs(p - round(p)) > 1e-9:
                place = None
                break
            place.append(round(p))
        if place is None:
            continue
        inner = []
        for p, n in zip(place, grid, strict=True):
            if 0 <= p < n:
                inner.append(p)
            elif mode == "circular":
                inner.append(p % n)
            elif mode == "replicate":
                inner.append(min(max(p, 0), n - 1))
            elif mode == "reflect":
                inner.append(-p if p < 0 else 2 * (n - 1) - p)
        if len(inner) == 2:
            out[:, inner[0], inner[1]] += weights.values[unit, :, y, xx] * x[:, inner[0], inner[1]]
    return out


def every_sum(net, x, units=2, places=3):
    """Largest error over all convolutions and linear layers, read and made in one run; and how many there were."""
    read, made = {}, {}
    names = [n for n, la in net.layers.items() if isinstance(net.module.get_submodule(la.module_path), LINEAR)]
    outputs = {n: lambda t, n=n: made.__setitem__(n, t.clone()) for n in names}
    with torch.no_grad(), tapped(net, outputs, {n: lambda t, n=n: read.__setitem__(n, t.clone()) for n in names}) as m:
        m(x)
    rng, errors = np.random.default_rng(0), {}
    for name in names:
        layer, out = net.layers[name], made[name]
        module = net.module.get_submodule(layer.module_path)
        for unit in rng.integers(0, layer.units, units):
            h, w = layer.grid
            maps = out[0, unit].reshape(h, w)
            typical = float(maps.double().square().mean().sqrt())
            for at in [(0, 0), (h - 1, w - 1), divmod(int(maps.abs().argmax()), w)][:places]:
                value = float(maps[at])
                found = contributions(module, read[name], layer.axes, int(unit), at)
                total = float(found.values.float().double().sum())
                scale = max(abs(value), abs(value - found.base), 1e-2 * typical)  # near 0, rounding is all there is
                errors[name, int(unit), at] = abs(value - found.base - total) / (scale or 1)
    return errors, names


class TestEveryLayer:
    def test_of_the_embedded_network(self, lite0, photos):
        errors, names = every_sum(lite0, lite0.preprocess([photos["cat"]]))
        assert len(names) == 50
        assert max(errors.values()) < 1e-4, max(errors.items(), key=lambda e: e[1])

    def test_of_a_residual_network_of_another_library(self):
        from transformers import ResNetConfig, ResNetForImageClassification

        torch.manual_seed(0)
        config = ResNetConfig(
            embedding_size=8, hidden_sizes=[16, 32], depths=[2, 2], layer_type="bottleneck", num_labels=7
        )
        net = opened(ResNetForImageClassification(config).eval(), (3, 64, 64))
        x = noise(1, 3, 64, 64)
        errors, names = every_sum(net, x)
        assert len(names) == 16
        assert max(errors.values()) < 1e-4
        for name in names:  # and through the public function
            a = wa.attributions(net, x, f"{name}:1")
            assert a.method == "exact", name
            holds(a)

    def test_through_the_public_function(self, lite0, photos):
        for target in ("conv_stem:3", "blocks.0.0.conv_dw:5", "blocks.3.1.conv_pwl:7", "classifier:285"):
            a = wa.attributions(lite0, photos["cat"], target)
            assert (a.method, a.error < 1e-4) == ("exact", True), a
            peak = np.unravel_index(a.target_map.argmax(), a.target_map.shape)
            assert a.at == peak
            assert a.value == pytest.approx(float(a.target_map.max()))
