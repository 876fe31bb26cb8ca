"""Maps of units on images, against plain forward hooks that copy what a layer gives; and the taps that see it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.lens import mapping
from weightatlas.lens.taps import run_until, stop, tapped
from weightatlas.network import tensors_in

pytestmark = pytest.mark.usefixtures("one_thread")


def hooked(net, inputs):
    """Every call of every module: its first tensor of numbers, copied; names as the table of layers has them."""
    found, count = {}, {}
    names = {m: n for n, m in net.module.named_modules()}

    def keep(module, args, output):
        count[module] = nth = count.get(module, 0) + 1
        tensors = [t for t in tensors_in(output) if t.is_floating_point()]
        if tensors:
            found[names[module] + (f"#{nth}" if nth > 1 else "")] = tensors[0].clone()

    handles = [m.register_forward_hook(keep) for m in names]
    with torch.no_grad():
        net.module(inputs)
    for handle in handles:
        handle.remove()
    return found


def four(values, axes):
    """By hand: [N, C, y, x], absent axes of size 1."""
    values = values.numpy()
    order = [axes.index(a) for a in ("N", "C", "y", "x") if a in axes]
    values = values.transpose(order)
    for place, name in enumerate(("N", "C", "y", "x")):
        if name not in axes:
            values = np.expand_dims(values, place)
    return values


def with_maps(net):
    return [layer.name for layer in net.layers.values() if layer.axes.count("C") == 1 and layer.axes[:1] == ("N",)]


class Overwriting(nn.Module):
    """One activation in place behind three layers, and one convolution that runs twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.stem(x) - 0.1)
        x = self.relu(self.again(x)).add_(1)
        x = torch.relu_(self.again(x))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return wa.load(Overwriting().eval(), input=wa.InputSpec(shape=(3, 9, 7)))


def noise(net, count, seed=0):
    return torch.randn(count, *net.input.shape, generator=torch.Generator().manual_seed(seed))


class TestEveryLayer:
    def check(self, net, inputs, exact=True):
        names = with_maps(net)
        found, truth = wa.activations(net, inputs, names, batch=len(inputs)), hooked(net, inputs)
        assert list(found) == names
        for name in names:
            expected = four(truth[name], net.layers[name].axes)
            assert found[name].dtype == np.float32
            assert found[name].shape == expected.shape, name
            assert np.array_equal(found[name], expected) if exact else found[name] == pytest.approx(expected, abs=1e-4)
        return found, names

    def test_of_the_embedded_network_on_photos(self, lite0, photos):
        inputs = lite0.preprocess([photos["cat"], photos["coffee"]])
        found, names = self.check(lite0, inputs)
        assert len(names) > 150
        assert found.images.shape == (2, 224, 224, 3)
        again = wa.activations(lite0, list(photos.values()), "blocks.4.1", batch=1)
        assert again["blocks.4.1"][:2] == pytest.approx(found["blocks.4.1"], abs=1e-4)
        assert again.names == ("image 0", "image 1", "image 2")

    def test_of_a_network_that_writes_over_its_activations(self, net):
        found, names = self.check(net, noise(net, 3))
        assert {"relu", "relu#2", "again", "again#2", "stem", "head"} <= set(names)
        assert found["stem"].min() < 0 <= found["relu"].min()
        assert found["again"].min() < 0
        assert not np.array_equal(found["relu"], found["relu#2"])
        assert found["head"].shape == (3, 3, 1, 1)

    def test_of_a_transformers_resnet(self):
        torch.manual_seed(0)
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck")
        net = wa.load(ResNetModel(config).eval(), input=wa.InputSpec(shape=(3, 32, 24)))
        _, names = self.check(net, noise(net, 2))
        assert len(names) > 30
        assert "encoder" in names  # whose output is a dict of its own kind

    def test_of_double_precision_and_of_signals(self):
        torch.manual_seed(0)
        signals = nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(inplace=True), nn.Conv1d(4, 3, 3, stride=2))
        net = wa.load(signals.double().eval(), input=wa.InputSpec(shape=(2, 30)))
        found = wa.activations(net, noise(net, 2), ["0", "1", "2"])
        truth = hooked(net, noise(net, 2).double())
        for name in "012":
            assert np.array_equal(found[name], truth[name].float().numpy()[:, :, None])
        assert found.images.size == 0


def test_tokens_follow_one_another_along_x():
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16,
                       patch_size=4)  # fmt: skip
    net = wa.load(ViTModel(config, add_pooling_layer=False).eval(), input=wa.InputSpec(shape=(3, 16, 16)))
    layer = next(x for x in net.layers.values() if x.kind == "norm" and x.axes.count("C") == 1)
    found = wa.activations(net, noise(net, 2), layer.name)
    truth = hooked(net, noise(net, 2))[layer.name]
    assert np.array_equal(found[layer.name], truth.numpy().transpose(0, 2, 1)[:, :, None])
    assert found[layer.name].shape == (2, 8, 1, 17)
    assert any("follow one another along x" in note for note in found.provenance.notes)


def test_axes_in_any_order():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.turn = nn.Conv2d(3, 5, 3), nn.LayerNorm(5), nn.Identity()

        def forward(self, x):
            x = self.norm(self.conv(x).permute(0, 2, 3, 1))
            return self.turn(x.transpose(1, 2))  # N, x, y, C

    torch.manual_seed(0)
    net = wa.load(Last().eval(), input=wa.InputSpec(shape=(3, 9, 7)))
    assert net.layers["turn"].axes == ("N", "x", "y", "C")
    found, truth = wa.activations(net, noise(net, 2), ["turn", "norm"]), hooked(net, noise(net, 2))
    assert np.array_equal(found["norm"], truth["norm"].numpy().transpose(0, 3, 1, 2))
    assert np.array_equal(found["turn"], found["norm"])
    places = wa.dataset_examples(net, noise(net, 2), ["turn", "norm"])
    rows = places.rows("turn"), places.rows("norm")
    assert np.array_equal(places.places[rows[0]], places.places[rows[1]])


class TestRecord:
    def test_what_the_network_saw(self, net):
        pictures = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
        told = []
        found = wa.activations(net, pictures, "stem", batch=2, progress=lambda *n: told.append(n))
        assert np.array_equal(found.images, pictures)
        assert told == [(2, 5), (4, 5), (5, 5)]
        assert found.channel_names == ("red", "green", "blue")
        assert found.provenance.weights_hash == net.weights_hash

    def test_five_channels(self):
        net = wa.load(nn.Sequential(nn.Conv2d(5, 2, 3)), input=wa.InputSpec(shape=(5, 6, 6)))
        pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 5), np.uint8)
        found = wa.activations(net, pictures, "0")
        assert np.array_equal(found.images, pictures)
        assert found.channel_names == ("0", "1", "2", "3", "4")

    @pytest.mark.parametrize("ending", ["npz", "safetensors"])
    def test_files(self, net, tmp_path, ending):
        found = wa.activations(net, noise(net, 2), ["stem", "relu#2"])
        again = wa.Activations.load(found.save(tmp_path / f"a.{ending}"))
        assert list(again) == ["stem", "relu#2"]
        assert all(np.array_equal(again[n], found[n]) for n in found)
        assert again.provenance == found.provenance
        assert np.array_equal(again.images, found.images)

    def test_top_units(self, net):
        found = wa.activations(net, noise(net, 2), "stem")
        peaks = found["stem"][1].reshape(4, -1)
        top = found.top_units("stem", 3, image=1)
        assert [u for u, _, _ in top] == np.argsort(-peaks.max(1), kind="stable")[:3].tolist()
        for unit, value, (y, x) in top:
            assert found["stem"][1, unit, y, x] == value == peaks[unit].max()
        at = found.top_units("stem", 9, at=(2, 3))
        assert [v for _, v, _ in at] == sorted(found["stem"][0, :, 2, 3].tolist(), reverse=True)
        assert {place for _, _, place in at} == {(2, 3)}

    def test_nan_is_never_first(self):
        maps = np.zeros((1, 4, 2, 2), np.float32)
        maps[0, 0], maps[0, 1, 0, 0], maps[0, 1, 1, 1], maps[0, 2, 0, 1], maps[0, 3] = np.nan, np.nan, 3, 5, -np.inf
        found = wa.Activations({"a": maps}, np.zeros((0, 0, 0, 0), np.uint8), ("x",))
        assert found.top_units("a", 2) == [(2, 5.0, (0, 1)), (1, 3.0, (1, 1))]
        rest = found.top_units("a", 4)[2:]
        assert [u for u, _, _ in rest] == [3, 0]
        assert np.isnan(rest[1][1])
        assert [u for u, _, _ in found.top_units("a", at=(0, 0))] == [2, 3, 0, 1]

    def test_nan_in_maps_is_let_through(self):
        module = nn.Sequential(nn.Conv2d(3, 2, 1))
        with torch.no_grad():
            module[0].bias[1] = torch.nan
        net = wa.load(module.eval(), input=wa.InputSpec(shape=(3, 4, 4)))
        found = wa.activations(net, noise(net, 1), "0")
        assert np.isnan(found["0"][:, 1]).all()
        assert [u for u, _, _ in found.top_units("0")] == [0, 1]


class TestRefusals:
    def test_names_images_and_numbers(self, net):
        for arguments, error, words in [
            ((noise(net, 1), "stm"), UnknownNameError, "nearest: 'stem'"),
            ((noise(net, 1), []), ArgumentError, "give a layer's name"),
            ((noise(net, 1), [3]), ArgumentError, "give a layer's name"),
            ((None, "stem"), ArgumentError, "images=None"),
            (("nowhere.png", "stem"), ArgumentError, "no file or folder"),
            ((noise(net, 1)[0, :2], "stem"), ArgumentError, r"must be float \[N, 3, 9, 7\]"),
        ]:
            with pytest.raises(error, match=words):
                wa.activations(net, *arguments)
        with pytest.raises(ArgumentError, match="batch=0 is no number of images at a time"):
            wa.activations(net, noise(net, 1), "stem", batch=0)

    def test_more_than_fits_into_memory(self, net, monkeypatch):
        each = 4 * (4 * 63 + 3) + 3 * 63  # maps of stem and head, and the picture
        monkeypatch.setattr(mapping, "MOST_BYTES", 10 * each)
        assert len(wa.activations(net, noise(net, 10), ["stem", "head"])) == 10
        with pytest.raises(
            ArgumentError, match=r"2 layers on 11 images need .* at most 10 images.*wa\.dataset_examples"
        ):
            wa.activations(net, noise(net, 11), ["stem", "head"])
        monkeypatch.setattr(mapping, "MOST_BYTES", each - 1)
        with pytest.raises(ArgumentError, match="give fewer layers"):
            wa.activations(net, noise(net, 1), ["stem", "head"])

    def test_checkpoints(self, tmp_path):
        torch.save({"w": torch.rand(2, 2)}, tmp_path / "w.pth")
        with pytest.raises((ArgumentError, LoadError), match="needs the architecture"):
            wa.activations(wa.load(tmp_path / "w.pth"), np.zeros((1, 4, 4, 3), np.uint8), "w")

    def test_layers_that_do_not_run_on_every_image(self):
        class Choosing(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

            def forward(self, x):
                return self.one(x) if float(x.abs().max()) < 50 else self.other(x)

        net = wa.load(Choosing().eval(), input=wa.InputSpec(shape=(3, 4, 4)))
        with pytest.raises(ArgumentError, match="'one' did not run on these images"):
            wa.activations(net, torch.full((1, 3, 4, 4), 99.0), "one")

    def test_layers_in_which_images_are_mixed(self):
        class Windows(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Conv2d(3, 2, 1)

            def forward(self, x):
                return self.inner(x.reshape(1, 3, -1, 4) if len(x) > 1 else x)

        net = wa.load(Windows().eval(), input=wa.InputSpec(shape=(3, 4, 4)))
        assert len(wa.activations(net, noise(net, 2), "inner", batch=1)) == 2
        with pytest.raises(ArgumentError, match=r"'inner' gave .* on 2 images.*images cannot be told apart"):
            wa.activations(net, noise(net, 2), "inner")

    def test_a_single_tensor_is_one_image_as_for_attributions(self, net):
        one = noise(net, 1)
        found = wa.activations(net, one[0], "stem")
        assert len(found) == 1
        np.testing.assert_array_equal(found["stem"], wa.activations(net, one, "stem")["stem"])
        assert wa.dataset_examples(net, one[0], "stem", k=1).digest == wa.dataset_examples(net, one, "stem", k=1).digest
        features = wa.load(nn.Sequential(nn.Linear(7, 3)), input=wa.InputSpec(shape=(7,)))
        assert wa.activations(features, torch.ones(7), "0")["0"].shape == (1, 3, 1, 1)

    def test_numbers_and_positions_that_are_none(self, net):
        found = wa.activations(net, noise(net, 2), "stem")
        for at in ("ab", (0.5, 1), (0, 1, 2), 3):
            with pytest.raises(ArgumentError, match=r"^at=.* is no position \(y, x\) of 'stem'"):
                found.top_units("stem", at=at)
        for k in (0, 1.5, "2"):
            with pytest.raises(ArgumentError, match="is no number of units"):
                found.top_units("stem", k)
        for unit in ("a", 1.5, None):
            with pytest.raises(ArgumentError, match=r"^unit=.* is no whole number"):
                found.unit("stem", unit)
        with pytest.raises(ArgumentError, match=r"^image=.* is no whole number"):
            found.top_units("stem", image="a")
        with pytest.raises(ArgumentError, match="progress=3 cannot be called"):
            wa.activations(net, noise(net, 2), "stem", progress=3)

    def test_a_name_with_the_sign_of_calls_is_refused(self):
        """'x#2' would be the second call of 'x', and here another module."""
        module = nn.Sequential()
        module.add_module("x#2", nn.Conv2d(3, 4, 3))
        for more in (False, True):
            if more:
                module.add_module("x", nn.Conv2d(4, 4, 1))
            net = wa.load(module, input=wa.InputSpec(shape=(3, 8, 8)))
            for call in (wa.activations, lambda n, x, t: wa.attributions(n, x, f"{t}:0")):
                with pytest.raises(ArgumentError, match=r"layer 'x#2' was registered under a name with '#'.*rename it"):
                    call(net, noise(net, 1), "x#2")

    @pytest.mark.parametrize("late", [False, True])
    def test_networks_that_take_one_image_at_a_time(self, late):
        net = wa.load(Alone(late), input=wa.InputSpec(shape=(3, 8, 8)))
        x = noise(net, 3)
        calls = {
            "activations": lambda **more: wa.activations(net, x, "b", **more),
            "examples": lambda **more: wa.dataset_examples(net, x, "b", **more),
            "cases": lambda **more: wa.gradient_cases(net, "a", "b:0", x, 1, **more),
            "cases of one": lambda **more: wa.gradient_cases(net, "input", "b:0", x[:1], 1, **more),
        }
        for call in calls.values():
            with pytest.raises(
                ArgumentError, match=r"images at a time \(one by one, please\), and not on one; .*batch=1"
            ):
                call()
            call(batch=1)
        with pytest.raises(ArgumentError, match="method='gradient' run one at a time"):
            wa.attributions(net, x[:1], "b:0", "input", method="conductance")
        wa.attributions(net, x[:1], "b:0", "a", method="gradient")

    def test_networks_that_fail_on_one_image_say_so_themselves(self, net):
        def fails(out):
            raise KeyError("its own")

        with pytest.raises(KeyError, match="its own"), tapped(net, {"stem": fails}) as module:
            run_until(module, noise(net, 2))


class Alone(nn.Module):
    """Takes a batch of one."""

    def __init__(self, late):
        super().__init__()
        self.a, self.b, self.late = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), late
        nn.init.constant_(self.b.bias, 1.0)

    def forward(self, x):
        if self.late:
            x = self.a(x)
        assert len(x) == 1, "one by one, please"
        return self.b((x if self.late else self.a(x)).relu())


class Wordy(nn.Module):
    """A part that is called by keywords only, gives a constant, a dict and a tuple, and reads a generator."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        out = self.inner(images=x, scales=(s for s in (1.0, 2.0)))
        return out["pair"][0] + out["pair"][1] + out["same"]


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, *, images, scales):
        y = self.conv(images) * sum(scales)
        return {"constant": torch.ones(5), "pair": (y, y * 2), "same": y, 3: None}


@pytest.fixture(scope="module")
def wordy():
    torch.manual_seed(0)
    return wa.load(Wordy().eval(), input=wa.InputSpec(shape=(3, 6, 6)))


class TestTaps:
    def test_keywords_dicts_tuples_and_generators(self, wordy):
        x = noise(wordy, 2)
        seen, read = [], []
        with tapped(wordy, {"inner": seen.append}, {"inner": read.append}) as module, torch.no_grad():
            plain = module(x)
        assert torch.equal(read[0], x)
        assert torch.equal(seen[0], wordy.module.inner.conv(x) * 3)  # not the constant that comes first
        assert torch.equal(plain, seen[0] * 4)
        assert np.array_equal(wa.activations(wordy, x, "inner")["inner"], seen[0].detach().numpy())

    def test_what_is_handed_on_takes_the_place_everywhere(self, wordy):
        x = noise(wordy, 2)
        with tapped(wordy, {"inner": torch.zeros_like}) as module, torch.no_grad():
            assert torch.equal(module(x), 2 * 3 * wordy.module.inner.conv(x))  # both places of it are 0 now
        with tapped(wordy, {}, {"inner": torch.zeros_like}) as module, torch.no_grad():
            bias = wordy.module.inner.conv.bias[None, :, None, None]
            assert module(x) == pytest.approx((12 * bias).expand(2, 4, 4, 4).detach())

    def test_dicts_keep_their_kind(self):
        from weightatlas.lens.taps import _with

        old, new = torch.ones(2), torch.zeros(2)
        out = BaseModelOutputWithPooling(last_hidden_state=old, hidden_states=(torch.ones(2), old))
        changed = _with(out, old, new)
        assert type(changed) is BaseModelOutputWithPooling
        assert changed.last_hidden_state is changed["last_hidden_state"] is changed.hidden_states[1] is new
        assert out.last_hidden_state is old  # what the module may keep is left alone
        largest = torch.max(torch.rand(2, 3), 1)
        assert type(_with(largest, largest.values, new)) is type(largest)

    def test_a_module_that_calls_itself(self):
        class Down(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 3, padding=1)

            def forward(self, x, depth=2):
                return self.conv(x) if not depth else x + self(x * 2, depth - 1)

        class Holder(nn.Module):
            def __init__(self):
                super().__init__()
                self.down = Down()

            def forward(self, x):
                return self.down(x)

        torch.manual_seed(0)
        net = wa.load(Holder().eval(), input=wa.InputSpec(shape=(3, 5, 5)))
        x = noise(net, 1)
        found = wa.activations(net, x, ["down", "down#2", "down#3"])
        deepest = net.module.down.conv(4 * x)
        expected = [deepest + 2 * x + x, deepest + 2 * x, deepest]
        for name, value in zip(("down", "down#2", "down#3"), expected, strict=True):
            assert found[name] == pytest.approx(value.detach().numpy(), abs=1e-5), name

    def test_calls_are_counted_anew_in_every_run_even_after_one_that_failed(self, net):
        x, seen = noise(net, 1), []
        with tapped(net, {"relu#2": lambda t: seen.append(t.clone())}) as module, torch.no_grad():
            module(x)
            with pytest.raises(RuntimeError):
                module(torch.zeros(1, 5, 9, 7))
            module(x)
        assert len(seen) == 2
        assert torch.equal(*seen)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_the_network_is_left_as_it_was(self, net, error):
        def fails(_):
            raise error("no")

        before = copy.deepcopy(net.module.state_dict())
        net.module.relu.train()

        def run():
            with tapped(net, {"stem": fails}, {"again": fails}) as module:
                assert not module.relu.training
                module(noise(net, 1))

        with pytest.raises(error):
            run()
        assert net.module.relu.training
        net.module.eval()
        for module in net.module.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
        with pytest.raises(UnknownNameError), tapped(net, {"stm": fails}):
            pass

    def test_a_run_ends_when_all_is_seen(self, net):
        ran = []
        handle = net.module.head.register_forward_hook(lambda *_: ran.append(1))
        with tapped(net, {"stem": lambda _: stop()}) as module:
            run_until(module, noise(net, 1))
        wa.activations(net, noise(net, 2), ["stem", "again"])
        assert not ran
        wa.activations(net, noise(net, 2), ["stem", "head"])
        handle.remove()
        assert ran
