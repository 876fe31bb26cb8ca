"""Which layers an atlas is made of, and which read which: against what autograd says of cut networks."""

import itertools

import pytest
import torch
from atlases import LAYERS, opened, small
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.builder.jobs.levels import block_layers, gate_between, levels
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.network import INPUT

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 16
SLOW = pytest.mark.slow


def conv(inside, out, kernel=3, **more):
    return nn.Conv2d(inside, out, kernel, padding=kernel // 2, **more)


class Mixed(nn.Module):
    """An Inception module: three branches, put together."""

    def __init__(self, channels):
        super().__init__()
        self.one = conv(channels, 4, 1)
        self.three = nn.Sequential(conv(channels, 3, 1), nn.ReLU(), conv(3, 4))
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.proj = conv(channels, 2, 1)

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.proj(self.pool(x))], 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.act = conv(3, 5), nn.ReLU()
        self.mixed_a, self.mixed_b = Mixed(5), Mixed(10)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = self.act(self.stem(x))
        return self.head(torch.relu(self.mixed_b(torch.relu(self.mixed_a(x)))).mean((2, 3)))


class Double(nn.Module):
    def __init__(self, inside, out):
        super().__init__()
        self.a, self.b = conv(inside, out), conv(out, out)

    def forward(self, x):
        return torch.relu(self.b(torch.relu(self.a(x))))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = Double(3, 4), Double(4, 6), Double(6, 8)
        self.up1, self.dec1 = nn.ConvTranspose2d(8, 6, 2, 2), Double(12, 6)
        self.up2, self.dec2 = nn.ConvTranspose2d(6, 4, 2, 2), Double(8, 4)
        self.out = conv(4, 2, 1)

    def forward(self, x):
        high = self.down1(x)
        low = self.down2(functional.max_pool2d(high, 2))
        bottom = self.bottom(functional.max_pool2d(low, 2))
        low = self.dec1(torch.cat([self.up1(bottom), low], 1))
        return self.out(self.dec2(torch.cat([self.up2(low), high], 1)))


class Shared(nn.Module):
    """One convolution that is called twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.again, self.relu, self.out = conv(3, 4), conv(4, 4), nn.ReLU(), conv(4, 2)

    def forward(self, x):
        x = self.relu(self.stem(x))
        for _ in range(2):
            x = self.relu(self.again(x))
        return self.out(x)


class Dense(nn.Module):
    """Layers that read all before them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(7, 4), conv(11, 4)

    def forward(self, x):
        for layer in (self.a, self.b, self.c):
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return x


class Branching(nn.Module):
    """What cannot be captured: what is computed depends on values."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second, self.third = conv(3, 4), nn.ReLU(), conv(4, 5), conv(5, 2)

    def forward(self, x):
        x = self.act(self.first(x))
        if x.sum() > 1e9:
            x = x * 2
        return self.third(self.second(x))


def plain():
    return nn.Sequential(
        conv(3, 4), nn.ReLU(), conv(4, 5), nn.ReLU(), conv(5, 6), nn.Flatten(), nn.Linear(6 * SIDE**2, 7)
    )


def nested():
    first = nn.Sequential(nn.Sequential(conv(3, 4), nn.ReLU()), nn.Sequential(conv(4, 5), nn.ReLU()))
    return nn.Sequential(first, nn.Sequential(conv(5, 6), nn.ReLU(), nn.Sequential(conv(6, 3))))


#: Network → what an atlas of it shows.
SHOWN = {
    plain: ["0", "2", "4", "6"],
    nested: ["0.0", "0.1", "1.0", "1.2"],
    Inception: ["stem", "mixed_a", "mixed_b", "head"],
    UNet: ["down1", "down2", "bottom", "up1", "dec1", "up2", "dec2", "out"],
    Shared: ["stem", "again", "again#2", "out"],
    Dense: ["a", "b", "c"],
    Branching: ["first", "second", "third"],
}


#: Capturing takes time; some are enough for a quick look.
KINDS = [UNet, Branching, small, *(pytest.param(m, marks=SLOW) for m in (plain, nested, Inception, Shared, Dense))]


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    made = {make: wa.load(make().eval(), input=wa.InputSpec(shape=(3, SIDE, SIDE))) for make in SHOWN}
    return made | {small: opened()}


def reached(net, target, cut):
    """Which of some layers, and the input, a layer's output depends on once their outputs are cut from what is behind.

    A layer that is reached lies on a path that meets no other of them: autograd knows nothing of graphs of ours.
    """
    calls, leaves, found = {}, {}, {}
    inputs = torch.randn(2, *net.input.shape, requires_grad=True)
    leaves[INPUT] = inputs

    def hook(path):
        def seen(module, args, output):
            calls[path] = calls.get(path, 0) + 1
            name = path + (f"#{calls[path]}" if calls[path] > 1 else "")
            if name == target:
                found[name] = output
            if name in cut:
                leaves[name] = output.detach().requires_grad_()
                return leaves[name]
            return None

        return seen

    paths = {name.split("#")[0] for name in (*cut, target)}
    handles = [net.module.get_submodule(path).register_forward_hook(hook(path)) for path in paths]
    try:
        net.module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    before = {n: leaf for n, leaf in leaves.items() if n != target}
    grads = torch.autograd.grad(found[target].square().sum(), list(before.values()), allow_unused=True)
    return {n for n, g in zip(before, grads, strict=True) if g is not None and bool(g.abs().sum() > 0)}


@pytest.mark.parametrize("make", KINDS)
def test_an_atlas_shows_blocks_and_the_convolutions_outside_of_them(nets, make):
    assert block_layers(nets[make]) == SHOWN.get(make, LAYERS)


@pytest.mark.parametrize("make", [kind for kind in KINDS if kind is not Branching])
def test_neighbours_are_those_that_a_layer_depends_on_with_all_others_cut(nets, make):
    net = nets[make]
    shown = block_layers(net)
    found = levels(net)
    assert list(found.layers) == shown
    for target in shown:
        truth = reached(net, target, shown)
        assert {s for s, t in found.edges if t == target} == truth
        assert set(found.read_by(target)) == set(found.reading[target]) == truth
        beyond = {m: reached(net, m, shown) for m in truth if m != INPUT}
        expected = {s: {m for m in beyond if s in beyond[m]} for s in set().union(*beyond.values())}
        two = {s: set(middles) for (s, t), middles in found.two_back.items() if t == target}
        assert two == {s: middles for s, middles in expected.items() if s not in truth}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_pairs_of_a_selection_are_those_of_the_whole_network_and_more_layers_only_add_pairs(nets, data):
    make = data.draw(st.sampled_from([UNet, small]))
    net = nets[make]
    shown = block_layers(net)
    more = data.draw(st.lists(st.sampled_from(shown), min_size=1, unique=True))
    less = data.draw(st.lists(st.sampled_from(more), min_size=1, unique=True))
    whole, wide, narrow = levels(net), levels(net, more), levels(net, less)
    assert set(narrow.layers) == set(less)
    assert list(narrow.layers) == [n for n in shown if n in less]  # in order of execution
    there = {*less, INPUT}
    assert set(narrow.neighbours) == {(s, t) for s, t in whole.neighbours if s in there and t in there}
    assert narrow.two_back == {p: m for p, m in whole.two_back.items() if set(p) <= there}
    assert set(narrow.neighbours) <= set(wide.neighbours)
    assert narrow.two_back.items() <= wide.two_back.items()
    for target in less:  # edges are those of the selection alone
        assert {s for s, t in narrow.edges if t == target} == reached(net, target, less)


def test_layers_that_are_no_blocks_also_read_the_nearest_of_each_other(nets):
    net = nets[small]
    found = levels(net, ["stem", "blocks.0", "blocks.0.expand", "blocks.0.project"])
    pairs = set(found.neighbours)
    assert {("stem", "blocks.0"), ("stem", "blocks.0.expand"), ("blocks.0.expand", "blocks.0.project")} <= pairs
    assert set(levels(net, ["stem", "blocks.0"]).neighbours) <= pairs
    # an inner layer is no block, so nothing lies two back of it
    assert not [pair for pair in found.two_back if "expand" in str(pair) or "project" in str(pair)]


def test_of_layers_with_the_same_output_the_first_counts(nets):
    found = levels(nets[small], ["blocks.1", "blocks", "stem"])
    assert found.layers == ("stem", "blocks.1")  # a row of blocks puts out what its last block does
    assert levels(nets[small], ["blocks"]).layers == ("blocks",)


def test_a_network_that_cannot_be_captured_is_read_as_its_modules_tell(nets):
    found = levels(nets[Branching])
    assert found.neighbours == found.edges == (("input", "first"), ("first", "second"), ("second", "third"))
    assert found.two_back == {}
    assert "torch.export" in found.note
    assert levels(nets[Branching], ["third"]).neighbours == ()


def test_layers_without_units_or_of_no_network_are_refused(nets):
    with pytest.raises(UnknownNameError, match="nearest: 'blocks"):
        levels(nets[small], ["blocks.9"])
    with pytest.raises(ArgumentError, match="needs layers with units"):
        levels(nets[small], [])


@pytest.mark.slow
class TestGates:
    def test_the_activation_between_two_mixing_layers_is_where_paths_are_followed(self, nets):
        net = nets[small]
        assert gate_between(net, "stem", "blocks.0") == "blocks.0.act"
        assert gate_between(net, "blocks.0", "blocks.1") == "blocks.1.act"
        assert gate_between(nets[Inception], "stem", "mixed_a") == "mixed_a.three.1"

    def test_without_a_mixing_layer_on_both_sides_there_is_none(self, nets):
        assert gate_between(nets[plain], "0", "2") is None
        assert gate_between(nets[small], "blocks.1", "down") is None
        assert gate_between(nets[Branching], "first", "second") is None

    def test_through_a_gate_everything_but_the_skip_path_passes(self, nets):
        """With the gate's output cut, a block depends on what it reads by its skip path alone: by the identity."""
        net = nets[small]
        block, x = net.module.blocks[0], torch.randn(1, 6, 9, 9, requires_grad=True)
        gate = gate_between(net, "stem", "blocks.0")
        handle = net.module.get_submodule(gate).register_forward_hook(lambda m, a, out: out.detach())
        (grad,) = torch.autograd.grad(block(x)[0, 2, 4, 4], x)
        handle.remove()
        expected = torch.zeros_like(grad)
        expected[0, 2, 4, 4] = 1
        assert torch.equal(grad, expected)


def transformers_nets():
    import transformers as hub

    yield hub.ResNetModel(
        hub.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1], layer_type="basic")
    ), ["embedder.embedder", *(f"encoder.stages.{s}.layers.{n}" for s, n in [(0, 0), (0, 1), (1, 0)])]  # fmt: skip
    yield (
        hub.ConvNextModel(hub.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2)),
        [
            "embeddings",
            "encoder.stages.0.layers.0",
            "encoder.stages.1.downsampling_layer.1",
            "encoder.stages.1.layers.0",
            "encoder.stages.1.layers.1",
        ],
    )
    yield hub.RegNetModel(
        hub.RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], groups_width=8)
    ), ["embedder.embedder", *(f"encoder.stages.{s}.layers.{n}" for s, n in [(0, 0), (1, 0), (1, 1)])]  # fmt: skip
    yield (
        hub.MobileNetV2Model(hub.MobileNetV2Config(depth_multiplier=0.25)),
        [
            "conv_stem.first_conv",
            "conv_stem.conv_3x3",
            "conv_stem.reduce_1x1",
            *(f"layer.{n}" for n in range(16)),
            "conv_1x1",
        ],
    )


@pytest.mark.slow
def test_networks_of_another_library_are_read_block_by_block():
    torch.manual_seed(0)
    for module, shown in transformers_nets():
        net = wa.load(module.eval(), input=wa.InputSpec(shape=(3, 32, 32)))
        found = levels(net)
        assert list(found.layers) == block_layers(net) == shown
        chain = list(itertools.pairwise([INPUT, *shown]))  # these read one another one by one
        assert list(found.neighbours) == list(found.edges) == chain
        assert found.two_back == {(s, t): (m,) for s, m, t in zip([INPUT, *shown], shown, shown[1:], strict=False)}


@pytest.mark.slow
def test_the_embedded_network_is_read_by_its_inverted_residuals(lite0):
    counts = [1, 2, 2, 3, 3, 4, 1]  # of EfficientNet-B0
    inner = [f"blocks.{s}.{n}" for s, count in enumerate(counts) for n in range(count)]
    assert block_layers(lite0) == ["conv_stem", *inner, "conv_head", "classifier"]
