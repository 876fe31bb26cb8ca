"""Expanded weights of whole networks, against autograd through the networks with their operators replaced as told."""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobian import Truth, check_everywhere, check_weights, placed
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.weights import expanded

pytestmark = pytest.mark.usefixtures("one_thread")
C = nn.Conv2d


# --- random small networks


class Residual(nn.Module):
    """Two convolutions and a way around them, which is a convolution where sizes change."""

    def __init__(self, i: int, o: int, stride: int, act: nn.Module) -> None:
        super().__init__()
        self.a, self.n, self.act = C(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), act
        self.b, self.m = C(o, o, 3, padding=1, groups=2), nn.BatchNorm2d(o)
        self.around = nn.Identity() if i == o and stride == 1 else C(i, o, 1, stride)

    def forward(self, x):
        return self.act(self.m(self.b(self.act(self.n(self.a(x))))) + self.around(x))


class Branches(nn.Module):
    """1×1, 3×3 and pooled branches one after another, as in Inception."""

    def __init__(self, i: int, o: int, dilation: int, pool: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act = C(i, o, 1), act
        self.b = S(C(i, 4, 1), nn.BatchNorm2d(4), C(4, o, 3, padding=dilation, dilation=dilation, groups=2))
        self.c = S(pool, C(i, 2, 1))

    def forward(self, x):
        return self.act(torch.cat([self.a(x), self.b(x), self.c(x)], 1))


ACTS = st.sampled_from([nn.ReLU, nn.SiLU, nn.Hardswish, nn.ReLU6])
POOLS = st.sampled_from([lambda: nn.MaxPool2d(3, 1, 1), lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False)])
WIDTHS = st.sampled_from([4, 6])
BLOCKS = st.one_of(
    st.tuples(st.just("conv"), WIDTHS, st.sampled_from([(3, 3), (2, 3), (1, 1)]), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from([1, 2]), ACTS),
    st.tuples(st.just("residual"), WIDTHS, st.sampled_from([1, 2]), ACTS),
    st.tuples(st.just("branches"), WIDTHS, st.sampled_from([1, 2]), POOLS, ACTS),
    st.tuples(st.just("depthwise"), WIDTHS, st.sampled_from([3, 5]), ACTS),
    st.tuples(st.just("pool"), st.sampled_from([nn.MaxPool2d, nn.AvgPool2d])),
    st.tuples(st.just("up"), st.sampled_from(["nearest", "bilinear"])),
)  # fmt: skip


def built(block: tuple, width: int) -> tuple[nn.Module, int]:
    """A block, and how many channels come out."""
    kind, *rest = block
    if kind == "conv":
        o, kernel, stride, dilation, groups, act = rest
        return S(
            C(width, o, kernel, stride, 1, dilation, groups if width % groups == 0 else 1), nn.BatchNorm2d(o), act()
        ), o
    if kind == "residual":
        return Residual(width, rest[0], rest[1], rest[2]()), rest[0]
    if kind == "branches":
        return Branches(width, rest[0], rest[1], rest[2](), rest[3]()), 2 * rest[0] + 2
    if kind == "depthwise":
        o, kernel, act = rest
        return S(
            C(width, width, kernel, padding=kernel // 2, groups=width), nn.BatchNorm2d(width), act(), C(width, o, 1)
        ), o
    if kind == "pool":
        return rest[0](3, 2, 1), width
    return nn.Upsample(scale_factor=2, mode=rest[0]), width


def check_random(blocks: list[tuple], gate: str, begin: int, place: tuple[float, float]) -> None:
    torch.manual_seed(0)
    layers, width = [C(2, 4, 1)], 4
    for block in blocks:
        layer, width = built(block, width)
        layers.append(layer)
    shape = (2, 41, 36)
    net = wa.load(settle(S(*layers)), input=wa.InputSpec(shape=shape))
    source, target = str(min(begin, len(blocks) - 1)), str(len(blocks))
    truth = Truth(net)
    grid = net.layers[target].grid
    at = tuple(int(p * (n - 1)) for p, n in zip(place, grid, strict=True))
    if truth.gradients(source, target, range(width), at).any():
        check_weights(net, wa.expanded_weights(net, source, target, gate=gate, at=at), truth=truth)
    else:  # a corner that sees nothing but padding, or gates that are shut on this input
        try:
            wa.expanded_weights(net, source, target, gate=gate, at=at)
        except ArgumentError as error:
            why = str(error)
            assert "none that reaches the target's position" in why
    inside = wa.expanded_weights(net, source, target, gate=gate)
    central = inside.at or (grid[0] // 2, grid[1] // 2)
    if placed(inside.select([0]), net.layers[source].grid, central)[1] == 0:  # the window fits into the grid
        check_weights(net, inside, truth=truth)


NETS = (
    st.lists(BLOCKS, min_size=1, max_size=4),
    st.sampled_from(["expected", "identity"]),
    st.integers(0, 1),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(*NETS)
def test_random_networks(blocks, gate: str, begin: int, place) -> None:
    check_random(blocks, gate, begin, place)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(*NETS, st.just("more"))
def test_more_random_networks(blocks, gate: str, begin: int, place, more: str) -> None:
    check_random(blocks, gate, begin, place)


# --- networks that people use

SPANS = [("blocks.1.0", "blocks.1.1"), ("blocks.2.0", "blocks.2.1"), ("blocks.3.2", "blocks.4.1"), ("blocks.4.0", "blocks.4.1.bn2"), ("blocks.4.2", "blocks.5.0"), ("blocks.5.2", "blocks.6.0")]  # fmt: skip


@pytest.mark.parametrize("gate", ["expected", "identity"])
def test_the_embedded_network(lite0, gate: str) -> None:
    truth = Truth(lite0)
    for source, target in SPANS:
        weights = wa.expanded_weights(lite0, source, target, units=[0, 7, 22], gate=gate)
        check_weights(lite0, weights, truth=truth, units=3)
        sources = {"batch norm"} if gate == "expected" else {""}
        assert {r.source for r in weights.replaced} == sources, (source, target)
        assert {r.operator for r in weights.replaced} == {"ReLU6"}
        assert weights.at is None


@pytest.fixture(scope="module")
def large(lite0) -> Truth:
    """So far from borders that three blocks fit."""
    return Truth(wa.load(lite0.module, input=dataclasses.replace(lite0.input, shape=(3, 320, 352))))


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["expected", "identity"])
def test_the_embedded_network_on_large_images(large, gate: str) -> None:
    for source, target in [*SPANS, ("blocks.1.0", "blocks.3.0"), ("blocks.3.0", "blocks.4.2"), ("blocks.4.1", "blocks.5.1"), ("conv_stem", "blocks.2.0")]:  # fmt: skip
        weights = wa.expanded_weights(large.net, source, target, units=[1, 23], gate=gate)
        check_weights(large.net, weights, truth=large)


def shaken(module: nn.Module) -> nn.Module:
    """Random weights of a size that no path vanishes, and random statistics."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1, 0.5) if "bias" not in name else parameter.normal_()
    return settle(module)


@pytest.fixture(scope="module", params=["basic", "bottleneck"])
def resnet(request) -> Truth:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[2, 2, 2, 2], layer_type=request.param)
    return Truth(wa.load(shaken(ResNetModel(config)), input=wa.InputSpec(shape=(3, 192, 192))))


@pytest.fixture(scope="module")
def convnext() -> Truth:
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[2, 2, 3, 2])
    return Truth(wa.load(shaken(ConvNextModel(config)), input=wa.InputSpec(shape=(3, 224, 224))))


@pytest.mark.parametrize("gate", ["expected", "identity"])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("encoder.stages.0.layers.0", "encoder.stages.0.layers.1"),
        ("embedder", "encoder.stages.0"),
        ("encoder.stages.0", "encoder.stages.1.layers.0"),
        ("encoder.stages.0", "encoder.stages.1"),
        ("encoder.stages.1", "encoder.stages.2.layers.0"),
        ("encoder.stages.1.layers.0", "encoder.stages.2.layers.1.layer.0.convolution"),
        ("input", "embedder.embedder"),
    ],
)
def test_resnet_of_transformers(resnet, source: str, target: str, gate: str) -> None:
    weights = check_everywhere(resnet.net, source, target, resnet, gate=gate, edges=1)
    assert weights.at is None
    kinds = {r.source for r in weights.replaced}
    if gate == "identity" or source == "input":
        assert kinds == ({""} if gate == "identity" else {"batch norm"})
    elif "stages.0" in target:  # the stem's pooling stands before the first additions: moments end there
        assert kinds == {"batch norm", ""}
    else:
        assert "batch norm" in kinds


CONVNEXT = [
    ("encoder.stages.0.layers.0", "encoder.stages.0.layers.1"),
    ("embeddings", "encoder.stages.0"),
    ("encoder.stages.0", "encoder.stages.1.layers.0"),
    ("encoder.stages.0.layers.1", "encoder.stages.1.layers.0.act"),
    ("encoder.stages.1.layers.0.act", "encoder.stages.1.layers.1.pwconv1"),
    ("encoder.stages.1", "encoder.stages.2.layers.0"),
    ("input", "embeddings"),
]


@pytest.mark.parametrize("gate", ["expected", "identity"])
@pytest.mark.parametrize(("source", "target"), CONVNEXT)
def test_convnext_of_transformers(convnext, source: str, target: str, gate: str) -> None:
    weights = check_everywhere(convnext.net, source, target, convnext, gate=gate, edges=1)
    assert not any(r.source for r in weights.replaced), "there is no batch norm and nothing was measured"


def test_convnext_of_transformers_measured(convnext) -> None:
    net = wa.load(convnext.net.module, input=convnext.net.input)
    wa.measure(net, torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    truth = Truth(net, last=True)
    for source, target in CONVNEXT[:3]:
        weights = wa.expanded_weights(net, source, target)
        check_weights(net, weights, truth=truth)
        assert {r.source for r in weights.replaced} == {"measured"}


def test_the_classifier_from_the_last_block(lite0) -> None:
    """Through global pooling the map is that of every position of the source."""
    weights = check_everywhere(lite0, "blocks.6.0", "classifier", units=2)
    assert weights.values.shape == (1000, 320, 7, 7)
    assert weights.at is None
    weights = wa.expanded_weights(lite0, "act2", "classifier", units=[3, 281])
    matrix = lite0.module.classifier.weight.detach()[[3, 281]]
    np.testing.assert_allclose(weights.values, matrix[:, :, None, None].expand(-1, -1, 7, 7) / 49, rtol=1e-5, atol=1e-9)


# --- what the result says and holds


@pytest.fixture(scope="module")
def net() -> wa.Network:
    """Everything that the small tests below need, behind one stem."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.relu = C(3, 8, 3, padding=1), nn.ReLU()
            self.block = Block()
            self.again = C(8, 8, 3, padding=1)
            self.depthwise = S(
                C(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(), C(8, 8, 3, padding=1, groups=8)
            )
            self.grouped = S(C(8, 12, 3, groups=4), C(12, 8, 1, groups=4))
            self.multiplied = C(8, 16, 3, groups=8)
            self.crossed = S(C(8, 8, 1, groups=2), nn.ChannelShuffle(2), C(8, 8, 1, groups=2))
            self.wide = C(8, 40, 3)
            self.up = S(nn.Upsample(scale_factor=2), C(8, 6, 3))
            self.parts = Parts()

        def forward(self, x):
            y = self.relu(self.again(self.relu(self.stem(x))))
            z = self.block(y)
            return z, [
                m(y)
                for m in (self.depthwise, self.grouped, self.multiplied, self.crossed, self.wide, self.up, self.parts)
            ]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n, self.act, self.b = (
                C(8, 6, 3, padding=1),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                C(6, 8, 3, padding=1),
            )

        def forward(self, x):
            return self.b(self.act(self.n(self.a(x)))) + x

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = C(8, 4, 3, padding=1), C(8, 4, 1)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], 1)

    torch.manual_seed(0)
    return wa.load(settle(Small()), input=wa.InputSpec(shape=(3, 20, 22), channel_names=("long", "middle", "short")))


@pytest.mark.parametrize(
    ("target", "groups", "width"),
    [("depthwise", 8, 1), ("grouped", 4, 2), ("multiplied", 8, 1), ("crossed", 1, 8), ("wide", 1, 8), ("parts", 1, 8)],
)
def test_grouped_results_stay_compact(net, target: str, groups: int, width: int) -> None:
    weights = check_everywhere(net, "relu#2", target)
    assert (weights.groups, weights.values.shape[1], weights.source_units) == (groups, width, 8)
    assert weights.dense().values.shape[1] == 8
    some = wa.expanded_weights(net, "relu#2", target, gate="identity", units=[5, 1, 5])
    np.testing.assert_allclose(some.dense().values, weights.dense().values[[5, 1, 5]], atol=1e-7)
    assert some.units.tolist() == [5, 1, 5]


def test_second_calls_are_layers_of_their_own(net) -> None:
    assert wa.expanded_weights(net, "relu", "relu#2").origin == (-1, -1)
    weights = check_everywhere(net, "stem", "relu#2")
    assert [r.module for r in weights.replaced] == ["relu", "relu#2"]
    assert wa.expanded_weights(net, "stem", "relu", gate="identity").values.shape == (8, 1, 1, 1)


@pytest.mark.parametrize(("source", "target"), [("relu#2", "wide"), ("stem", "block"), ("input", "depthwise"), ("relu#2", "up"), ("relu", "parts"), ("relu#2", "depthwise")])  # fmt: skip
def test_some_units_are_rows_and_columns_of_the_whole(net, source: str, target: str) -> None:
    whole = wa.expanded_weights(net, source, target)
    full = whole.dense().values
    units, sources = [4, 0, 2], [1, 0] if source == "input" else [7, 1, 6]
    for chosen, columns in ((units, None), (None, sources), (units, sources), (np.array([5]), [0])):
        part = wa.expanded_weights(net, source, target, chosen, columns)
        rows = list(range(len(full))) if chosen is None else list(chosen)
        every = list(range(full.shape[1])) if columns is None else columns
        np.testing.assert_allclose(part.dense().values, full[rows][:, every], atol=1e-7)
        assert (part.origin, part.stride, part.at) == (whole.origin, whole.stride, whole.at)
        assert part.units.tolist() == rows
        assert part.source_indices.tolist() == every
        if whole.skip is not None:
            np.testing.assert_allclose(part.skip.values, whole.skip.values[rows][:, every], atol=1e-7)


def test_units_that_the_source_does_not_reach_have_no_weights(net) -> None:
    """Of concatenated branches, those of the other one."""
    whole = wa.expanded_weights(net, "parts.a", "parts")
    assert whole.groups == 1
    np.testing.assert_array_equal(whole.dense().values[:, :, 0, 0], np.eye(8)[:, :4])
    other = wa.expanded_weights(net, "parts.a", "parts", units=[5, 4])
    np.testing.assert_array_equal(other.dense().values, np.zeros((2, 4, 1, 1)))
    mixed = wa.expanded_weights(net, "parts.a", "parts", units=[5, 1])
    np.testing.assert_array_equal(mixed.dense().values[:, :, 0, 0], np.eye(8)[[5, 1], :4])


def test_pixels_have_names(net) -> None:
    weights = wa.expanded_weights(net, "input", "block")
    assert weights.sees_pixels
    assert weights.channel_names == ("long", "middle", "short")
    assert wa.expanded_weights(net, "input", "block", source_units=[2, 0]).channel_names == ("short", "long")
    assert not wa.expanded_weights(net, "stem", "block").sees_pixels
    assert weights.provenance.weights_hash == net.weights_hash


def test_positions_far_from_borders_have_one_map(net) -> None:
    """Without a position: the map of every place whose window lies inside."""
    weights = wa.expanded_weights(net, "relu", "block")
    truth = Truth(net)
    for at in ((9, 11), (3, 3), (16, 18), (3, 18)):
        check_weights(net, weights, truth=truth, at=at)
    there = wa.expanded_weights(net, "relu", "block", at=(9, 11))
    np.testing.assert_allclose(there.values, weights.values, atol=1e-7)
    assert (there.origin, there.at) == (weights.origin, (9, 11))
    assert any("of target position (9, 11), clipped to the source grid" in n for n in there.provenance.notes)


def test_maps_that_depend_on_the_position_say_so(net) -> None:
    weights = wa.expanded_weights(net, "relu#2", "up")
    height, width = net.layers["up"].grid
    assert weights.at == (height // 2, width // 2)
    assert any(f"of target position {weights.at}" in n for n in weights.provenance.notes)
    other = wa.expanded_weights(net, "relu#2", "up", at=(height // 2 + 1, width // 2))
    assert not np.allclose(other.values, weights.values)  # another phase


# --- the path without parameters


def test_the_skip_path_can_be_left_out_or_had_apart(net) -> None:
    both = wa.expanded_weights(net, "relu#2", "block")
    proper = wa.expanded_weights(net, "relu#2", "block", skip="exclude")
    assert (both.skip_included, proper.skip_included) == (True, False)
    np.testing.assert_allclose(both.values, proper.values + both.skip.values, atol=1e-6)
    np.testing.assert_array_equal(both.skip.values, proper.skip.values)
    identity = np.zeros((8, 8, 5, 5))
    identity[np.arange(8), np.arange(8), 2, 2] = 1
    np.testing.assert_array_equal(both.skip.values, identity)
    assert both.skip_values.shape == (8, 1, 5, 5)  # kept small
    check_weights(net, both)

    class Cut(nn.Module):
        """The block without its residual path."""

        def __init__(self, block) -> None:
            super().__init__()
            self.block = block

        def forward(self, x):
            return self.block(x) - x

    module = copy.deepcopy(net.module)
    module.block.act = nn.Identity()
    module.block = Cut(module.block)
    (factor,) = (r.factor for r in proper.replaced)
    module.block.block.n.register_forward_hook(lambda m, i, o: o * torch.tensor(factor).double().view(1, -1, 1, 1))
    check_weights(net, proper, truth=Truth(net, module))
    assert any("without parameters are left out" in n for n in proper.provenance.notes)


def test_skips_hold_the_gates_behind_them(resnet) -> None:
    """A ReLU behind the addition multiplies both paths."""
    source, target = "encoder.stages.1.layers.0", "encoder.stages.1.layers.1"
    both = wa.expanded_weights(resnet.net, source, target)
    proper = wa.expanded_weights(resnet.net, source, target, skip="exclude")
    np.testing.assert_allclose(both.values, proper.values + both.skip.values, atol=1e-6)
    gate = next(r.factor for r in both.replaced if r.module == f"{target}.activation")
    centre = (-int(both.origin[0]), -int(both.origin[1]))
    expected = np.zeros(both.values.shape)
    expected[np.arange(16), np.arange(16), *centre] = gate
    np.testing.assert_allclose(both.skip.values, expected, rtol=1e-6)
    assert len(set(gate)) == 16

    # the gradient of the block's output without its branch is the gate alone
    module = copy.deepcopy(resnet.net.module)
    block = module.get_submodule(target)
    block.layer = Fn(lambda m, x: x * 0)
    block.activation = Fn(lambda m, x: x * torch.tensor(gate).view(1, -1, 1, 1))
    check_weights(resnet.net, both.skip, truth=Truth(resnet.net, module))


def test_skips_through_pools_and_slices() -> None:
    """Whatever has no parameters belongs to the skip path: pooling, padding, concatenation."""

    class Down(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = C(4, 8, 3, stride=2, padding=1)

        def forward(self, x):
            around = functional.pad(functional.avg_pool2d(x, 2), (0, 0, 0, 0, 2, 2))
            return self.a(x) + around

    net = wa.load(S(conv(2, 4, 1), Down()).eval(), input=wa.InputSpec(shape=(2, 16, 16)))
    both = check_everywhere(net, "0", "1")
    expected = np.zeros((8, 4, 2, 2), np.float32)
    expected[np.arange(2, 6), np.arange(4)] = 0.25
    left = np.abs(both.skip.values).sum((0, 1)).nonzero()
    np.testing.assert_array_equal(both.skip.values[:, :, left[0].min() :, left[1].min() :][:, :, :2, :2], expected)
    np.testing.assert_allclose(both.skip.values.sum(), 4)
    proper = wa.expanded_weights(net, "0", "1", skip="exclude", at=(3, 3))
    weight = net.module[1].a.weight.detach()
    np.testing.assert_allclose(proper.values[:, :, : weight.shape[2], : weight.shape[3]], weight, atol=1e-7)
    none = wa.expanded_weights(net, "input", "1")
    assert none.skip is None  # the stem lies on every path


# --- blocks, memory, types


def test_blocks_of_units_give_the_same(net, monkeypatch) -> None:
    for source, target, options in [
        ("relu#2", "wide", {}),
        ("relu#2", "depthwise", {}),
        ("relu#2", "block", {"skip": "exclude"}),
        ("relu#2", "parts", {"source_units": [3, 1]}),
        ("parts.b", "parts", {}),
        ("relu#2", "up", {}),
        ("stem", "block", {"at": (0, 3)}),
    ]:
        whole = wa.expanded_weights(net, source, target, **options)
        count = len(whole.units)
        for size in (1, 3, count - 1):
            seen: list[tuple[int, int]] = []
            with monkeypatch.context() as patch:
                patch.setattr(expanded, "block_size", lambda *_, size=size: size)
                part = wa.expanded_weights(
                    net, source, target, progress=lambda *a, seen=seen: seen.append(a), **options
                )
            np.testing.assert_allclose(part.values, whole.values, atol=1e-6)
            assert part.groups == whole.groups
            assert (part.origin, part.stride) == (whole.origin, whole.stride)
            assert (part.skip is None) == (whole.skip is None)
            if whole.skip is not None:
                np.testing.assert_allclose(part.skip.values, whole.skip.values, atol=1e-6)
            assert seen == [(min(s + size, count), count) for s in range(0, count, size)]


def test_progress_is_told_of_one_block_too(net) -> None:
    seen = []
    wa.expanded_weights(net, "relu#2", "wide", units=[1, 2], progress=lambda *a: seen.append(a))
    assert seen == [(2, 2)]


def test_more_than_the_budget_stops_before_it_starts(net, monkeypatch) -> None:
    def never(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(expanded, "assembled", never)
    with pytest.raises(
        ArgumentError, match=r"40 units of 'wide' need \d+\.\d+ KiB, more than the budget of 9\.77 KiB; ask for fewer"
    ):
        wa.expanded_weights(net, "relu#2", "wide", memory=10_000)
    monkeypatch.setattr("weightatlas.weights.assembly.memory_free", lambda: 2000)
    with pytest.raises(ArgumentError, match=r"more than the budget of 0\.98 KiB"):
        wa.expanded_weights(net, "relu#2", "wide")


def test_the_figure_of_the_budget_covers_the_result(net) -> None:
    """Asked for exactly what the error says, it goes through; for one byte less than the result alone, it does not."""
    result = wa.expanded_weights(net, "relu#2", "wide").values.nbytes
    with pytest.raises(ArgumentError):
        wa.expanded_weights(net, "relu#2", "wide", memory=result - 1)
    assert wa.expanded_weights(net, "relu#2", "wide", memory=4 * result).values.nbytes == result


def test_double_precision_is_more_exact(net) -> None:
    single, double = (wa.expanded_weights(net, "input", "block", dtype=d) for d in ("float32", torch.float64))
    assert single.values.dtype == double.values.dtype == np.float32
    np.testing.assert_allclose(single.values, double.values, atol=2e-6 * np.abs(double.values).max())
    check_weights(net, double, tolerance=2e-7)


CHAINS = {
    "wide kernels": 'nn.Conv2d(3, 256, 1), nn.Conv2d(256, 512, 5), nn.ReLU(), nn.Conv2d(512, 256, 5)',
    "depthwise": 'nn.Conv2d(3, 500, 1), nn.Conv2d(500, 2000, 1), nn.Conv2d(2000, 2000, 7, groups=2000), nn.Conv2d(2000, 500, 1)',
    "pools": 'nn.Conv2d(3, 400, 1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(400, 400, 3), nn.AvgPool2d(2)',
}  # fmt: skip
PEAK = """
import os, re, torch, weightatlas as wa
from torch import nn
torch.set_num_threads(1)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
def loaded(*layers):
    net = wa.load(nn.Sequential(*layers).eval(), input=wa.InputSpec(shape=(3, 24, 24)))
    wa.expanded_weights(net, "0", str(len(layers) - 1), units=[0, 1])  # captured, and every routine loaded
    return net
def measure(*layers):
    net = loaded(*layers)
    before = peak()
    w = wa.expanded_weights(net, "0", "3", gate="identity")
    largest = max(p.numel() for p in net.module.parameters()) * 4
    print((peak() - before) / (w.values.nbytes + largest), w.values.nbytes / 2**20, largest / 2**20, flush=True)
loaded(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1))  # what all import
for layers in {chains}:
    child = os.fork()  # a process of its own, whose peak begins at what it has
    if not child:
        measure(*eval(f"[{{layers}}]"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def peaks() -> dict[str, str]:
    """What each chain took at most, as told by a process of its own.

    What is alive is measured: glibc would keep freed blocks of up to 32 MiB for later, more or less from run to run.
    """
    code = textwrap.dedent(PEAK).format(chains=list(CHAINS.values()))
    given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200, env=given
    )
    return dict(zip(CHAINS, done.stdout.splitlines(), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("chain", CHAINS)
def test_peak_memory_stays_within_three_times(peaks, chain: str) -> None:
    """Of the result and the largest weight on the way, with a margin for what torch's own routines allocate."""
    ratio, result, _ = map(float, peaks[chain].split())
    assert result > 15
    assert 0.3 < ratio < 3.3, peaks[chain]


def test_functions_of_several_calls_are_told_apart() -> None:
    """Addresses of operators that are no modules."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(2, 2, padding=1), conv(2, 2, padding=1)

        def forward(self, x):
            for _ in range(2):
                x = functional.relu(self.b(functional.relu(self.a(x)))) + x
            return functional.relu(x)

    net = wa.load(S(conv(2, 2), Loop(), conv()).eval(), input=wa.InputSpec(shape=(2, 24, 24)))
    weights = check_everywhere(net, "0", "2", gate={"1:relu": 0.5, "1:relu#3": [0.1, 0.2]})
    assert [(r.module, r.source) for r in weights.replaced] == [
        ("1:relu", "given"), ("1:relu#2", "given"), ("1:relu#3", "given"), ("1:relu#4", "given"), ("1", ""),
    ]  # fmt: skip
    assert [r.factor for r in weights.replaced] == [(0.5,), (0.5,), pytest.approx((0.1, 0.2)), (0.5,), ()]
