"""Figures of weights between pictures, made from a network in one call: their numbers, choices, refusals, pictures."""

import inspect
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from planted import texts
from torch import nn

import weightatlas as wa
from weightatlas.builder import pictures
from weightatlas.builder import studio as studios
from weightatlas.builder.pictures import Pictures
from weightatlas.builder.studio import Studio
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightValuesError
from weightatlas.lens import read_images, reading

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = wa.featurevis.Recipe(side=16, steps=1)
SIDE = 24
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
#: Every kind of figure: what is shown, and what must be said besides.
KINDS = {
    "connection": ("4:1", {"source": "2:3"}),
    "small_multiples": ("4:1", {}),
    "family_grid": ("4", {}),
    "spatial_positions": ("4:1", {}),
    "weight_factors": ("4", {}),
    "factor_equation": ("4", {}),
    "expanded": ("4:1", {"source": "0"}),
    "cancellation": ("4:1", {"source": "0:2"}),
    "neuron_card": ("2:1", {}),
    "nmf_grid": ("4", {}),
    "banding": (None, {}),
    "weights": ("0", {}),
    "features": ("4", {"units": [1, 2]}),
    "connections": ("4", {"source": "2"}),
    "paths": ("4", {"source": "0", "through": "2"}),
    "explanation": ("4:1", {"image": IMAGES[0]}),
    "activation_grid": ("4", {"image": IMAGES[0], "cells": 2, "rank": 2}),
    "dataset_examples": ("4:1", {"images": IMAGES}),
    "gradient_cases": ("4:1", {"images": IMAGES}),
}
CONTEXT = list(KINDS)[:9]


def module():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3), nn.ReLU(), nn.Conv2d(12, 9, 3)
    )  # fmt: skip


def opened(made=None, shape=(3, SIDE, SIDE)):
    return wa.load((made or module()).eval(), input=wa.InputSpec(shape=shape))


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture
def rendered(monkeypatch):
    """What was asked of the renderer: (layer, units or directions), in order."""
    asked, real = [], pictures.visualize

    def visualize(net, layer, *, units=None, directions=None, **more):
        asked.append((layer, list(units) if units is not None else np.asarray(directions)))
        return real(net, layer, units=units, directions=directions, **more)

    monkeypatch.setattr(pictures, "visualize", visualize)
    return asked


def draw(net, kind, target=None, **options):
    if "recipe" in wa.figure_kinds()[kind].parameters:
        options = {"recipe": RECIPE, **options}
    return wa.figure(net, kind, target, **options)


def kernel(net, layer):
    return dict(net.module.named_modules())[layer].weight.detach().numpy().astype(np.float64)


def composed(outer, inner):
    """Two convolutions one after the other as one, term by term: float64 [O, I, H, W]."""
    o, _, h, w = outer.shape
    _, i, u, v = inner.shape
    out = np.zeros((o, i, h + u - 1, w + v - 1))
    for y, x in np.ndindex(h, w):
        for s, t in np.ndindex(u, v):
            out[:, :, y + s, x + t] += outer[:, :, y, x] @ inner[:, :, s, t]
    return out


def power(values):
    """Σ of squares over positions, [O, I]."""
    out = np.zeros(values.shape[:2])
    for o, i in np.ndindex(*out.shape):
        out[o, i] = sum(float(v) ** 2 for v in values[o, i].ravel())
    return out


class TestKinds:
    def test_each_can_be_drawn_and_says_what_it_takes(self, net):
        assert set(KINDS) == set(wa.figure_kinds())
        for kind, (target, options) in KINDS.items():
            drawn = draw(net, kind, target, **options)
            assert isinstance(drawn, wa.figures.Figure)
            words = texts(ET.fromstring(drawn.svg()))
            assert any(words), kind
            assert drawn.caption.endswith("."), kind
            assert len(drawn.data) > 0, kind
            parameters = wa.figure_kinds()[kind].parameters
            assert (next(iter(parameters)) in ("target", "layer")) == (target is not None)
            needed = {n for n, p in parameters.items() if p.default is inspect.Parameter.empty} - {"target", "layer"}
            assert needed <= set(options)

    def test_those_between_pictures_share_their_choices(self):
        for kind in CONTEXT:
            parameters = wa.figure_kinds()[kind].parameters
            assert {"gate", "recipe", "seed", "device", "progress"} <= set(parameters)
            assert parameters["gate"].default == "expected"
            assert parameters["recipe"].default == "display"
            assert parameters["recipe"].kind is inspect.Parameter.KEYWORD_ONLY
            assert parameters.get("skip", parameters["gate"]).default in ("exclude", "expected")


class TestNumbers:
    def test_of_a_connection(self, net):
        found = draw(net, "connection", "4:1", source="2:3").data
        strength = power(kernel(net, "4"))[1]
        assert found["map"] == pytest.approx(kernel(net, "4")[1, 3], abs=1e-6)
        assert np.array_equal(found["map"], wa.expanded_weights(net, "2", "4").values[1, 3])
        assert found["share"] == pytest.approx(strength[3] / strength.sum(), rel=1e-5)
        assert found["rank"] == 1 + sorted(strength, reverse=True).index(strength[3])
        assert found["scale"] == pytest.approx(np.abs(kernel(net, "4")[1, 3]).max(), rel=1e-6)

    def test_of_a_connection_to_the_inputs_channels(self, net):
        drawn = draw(net, "connection", "2:4", source="input:2")
        assert drawn.data["map"] == pytest.approx(composed(kernel(net, "2"), kernel(net, "0"))[4, 2], abs=1e-6)
        assert drawn.title == "blue on 2:4"

    def test_of_small_multiples(self, net):
        strength = power(kernel(net, "4"))[1]
        order = sorted(range(12), key=lambda i: -strength[i])
        found = draw(net, "small_multiples", "4:1").data
        assert found["sources"].tolist() == order[:10]
        assert found["maps"] == pytest.approx(kernel(net, "4")[1, order[:10]], abs=1e-6)
        assert found["share"] == pytest.approx(strength[order[:10]].sum() / strength.sum(), rel=1e-5)
        assert draw(net, "small_multiples", "4:1", k=3).data["sources"].tolist() == order[:3]
        assert draw(net, "small_multiples", "4:1", sources=[7, 2]).data["sources"].tolist() == [7, 2]
        up = power(np.clip(kernel(net, "4"), 0, None))[1]
        down = power(np.clip(kernel(net, "4"), None, 0))[1]
        both = draw(net, "small_multiples", "4:1", k=2, by="both").data
        assert both["sources"].tolist() == [*np.argsort(-up)[:2], *np.argsort(-down)[:2]]
        assert both["rows"] == [2, 2]

    def test_of_a_family_grid(self, net):
        targets, sources = [7, 2, 4], [11, 0]
        values = kernel(net, "4")[np.ix_(targets, sources)]
        found = draw(net, "family_grid", "4", targets=targets, sources=sources, order="given").data
        assert found["maps"] == pytest.approx(values, abs=1e-6)
        assert (found["targets"].tolist(), found["sources"].tolist()) == (targets, sources)
        share = (values**2).sum() / (kernel(net, "4")[targets] ** 2).sum()
        assert found["share"] == pytest.approx(share, rel=1e-5)
        turned = draw(net, "family_grid", "4", targets=targets, sources=sources).data  # alike ones side by side
        rows, columns = ([by.index(n) for n in turned[of]] for of, by in (("targets", targets), ("sources", sources)))
        assert sorted(rows) == [0, 1, 2]
        assert turned["maps"] == pytest.approx(values[rows][:, columns], abs=1e-6)

    def test_of_spatial_positions(self, net, rendered):
        made = module()
        with torch.no_grad():
            made[4].weight[1, :, 0, 2] *= 1e-3
        net = opened(made)
        values = kernel(net, "4")[1]
        length = np.zeros((3, 3))
        for y, x in np.ndindex(3, 3):
            length[y, x] = np.sqrt(sum(v**2 for v in values[:, y, x]))
        places = [p for p in np.ndindex(3, 3) if length[p] >= 0.15 * length.max()]
        assert len(places) == 8
        found = draw(net, "spatial_positions", "4:1").data
        assert found["lengths"] == pytest.approx(length, abs=1e-6)
        assert [tuple(p) for p in found["places"]] == places
        held = sum(length[p] ** 2 for p in places) / (length**2).sum()
        assert found["share"] == pytest.approx(held, rel=1e-5)
        directions = [what for layer, what in rendered if layer == "2"]
        assert len(directions) == 1
        assert directions[0] == pytest.approx(np.stack([values[:, y, x] for y, x in places]), abs=1e-6)

    def planted_factors(self):
        """Every unit of layer 4 is made of the same two directions over layer 2, which share no source."""
        made = module()
        channels = torch.zeros(2, 12)
        channels[0, [1, 4, 7]], channels[1, [0, 9]] = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 2.0])
        space = torch.randn(9, 2, 3, 3) * torch.tensor([2.0, 1.0])[:, None, None]
        with torch.no_grad():
            made[4].weight.copy_(torch.einsum("okyx,ki->oiyx", space, channels))
        return opened(made), space.numpy(), channels.numpy()

    def test_of_factors(self, rendered):
        net, space, channels = self.planted_factors()
        units = [5, 0, 8]
        found = draw(net, "weight_factors", "4", units=units).data
        assert found["units"].tolist() == units
        assert found["explained"] == pytest.approx(1, abs=1e-4)
        amount = [(space[units, k] ** 2).sum() * (channels[k] ** 2).sum() for k in range(2)]
        order = [int(k) for k in np.argsort(amount)[::-1]]
        assert found["shares"] == pytest.approx(np.sort(amount)[::-1] / np.sum(amount), abs=1e-3)
        directions = [what for layer, what in rendered if layer == "2"]
        for place, k in enumerate(order):
            planted = channels[k] / np.linalg.norm(channels[k])
            direction = directions[0][place] / np.linalg.norm(directions[0][place])
            assert direction == pytest.approx(planted, abs=1e-3)
            maps, expected = found["maps"][place], space[units, k]
            assert maps / np.abs(maps).max() == pytest.approx(expected / np.abs(expected).max(), abs=1e-3)
        assert [(layer, what) for layer, what in rendered if layer == "4"] == [("4", [0, 5, 8])]

    def test_of_the_equation_of_factors(self, rendered):
        net, space, channels = self.planted_factors()
        found = draw(net, "factor_equation", "4", units=[5, 0, 8], k=2).data
        amount = [(space[[5, 0, 8], k] ** 2).sum() * (channels[k] ** 2).sum() for k in range(2)]
        terms = {0: ([1, 7], np.array([3, 2]) / np.sqrt(14)), 1: ([9, 0], np.array([2, 1]) / np.sqrt(5))}
        for place, k in enumerate(np.argsort(amount)[::-1]):
            assert found["sources"][place].tolist() == terms[k][0]
            assert found["coefficients"][place] == pytest.approx(terms[k][1], abs=1e-3)
            assert found["held"][place] == pytest.approx((terms[k][1] ** 2).sum(), abs=1e-3)
        assert [what for layer, what in rendered if isinstance(what, list)] == [[0, 1, 7, 9]]

    def test_of_expanded_weights(self, net):
        values = composed(kernel(net, "4"), kernel(net, "2"))[1]
        strength = power(values[None])[0]
        order = np.argsort(-strength)[:7]
        found = draw(net, "expanded", "4:1", source="0", k=7).data
        assert found["sources"].tolist() == order.tolist()
        assert found["maps"] == pytest.approx(values[order], abs=1e-6)
        assert found["share"] == pytest.approx(strength[order].sum() / strength.sum(), rel=1e-5)
        assert (found["grouped"], found["rows"]) == (False, [7])
        pixels = composed(composed(kernel(net, "4"), kernel(net, "2")), kernel(net, "0"))[1]
        shown = draw(net, "expanded", "4:1", source="input").data
        assert sorted(shown["sources"].tolist()) == [0, 1, 2]
        assert shown["maps"] == pytest.approx(pixels[shown["sources"]], abs=1e-6)
        assert shown["share"] == pytest.approx(1)

    def test_of_expanded_weights_grouped_by_factors(self, rendered):
        net, space, channels = self.planted_factors()
        found = draw(net, "expanded", "4:3", source="2", k=4).data
        assert found["grouped"]
        strongest = np.argsort(-power(kernel(net, "4"))[3], kind="stable")[:4]
        amount = [(space[3, k] ** 2).sum() * (channels[k] ** 2).sum() for k in range(2)]
        groups = [[n for n in strongest if channels[k, n]] for k in np.argsort(amount)[::-1]]
        assert found["sources"].tolist() == [n for group in groups for n in group]
        assert found["rows"] == [len(group) for group in groups]
        assert [what.shape for _, what in rendered if not isinstance(what, list)] == [(2, 12)]
        plain = draw(net, "expanded", "4:3", source="2", k=4, rank=1, enough=0.999).data
        assert not plain["grouped"]
        assert plain["sources"].tolist() == strongest.tolist()
        assert len([what for _, what in rendered if not isinstance(what, list)]) == 1  # no factor is drawn

    def test_of_cancellation(self, net):
        one = {m: composed(kernel(net, "4")[3:4, m : m + 1], kernel(net, "2")[m : m + 1, 5:6])[0, 0] for m in range(12)}
        total, absolute = sum(one.values()), self.magnitudes(net, 3, 5)
        found = draw(net, "cancellation", "4:3", source="0:5", k=2).data
        assert found["sums"][0] == pytest.approx(total, abs=1e-6)
        assert found["sums"][1] == pytest.approx((absolute + total) / 2, abs=1e-6)
        assert found["sums"][2] == pytest.approx((total - absolute) / 2, abs=1e-6)
        assert found["cancellation"] == pytest.approx(1 - np.abs(total).sum() / absolute.sum(), abs=1e-5)
        sign = {m: (v * np.abs(v)).sum() for m, v in one.items()}
        strongest = sorted(one, key=lambda m: -np.abs(one[m]).sum())
        excite = [m for m in strongest if sign[m] >= 0][:2]
        inhibit = [m for m in strongest if sign[m] < 0][:2]
        assert found["middle"].tolist() == [*excite, *inhibit]
        assert found["maps"] == pytest.approx(np.stack([one[m] for m in (*excite, *inhibit)]), abs=1e-6)

    def magnitudes(self, net, target, source):
        """Σ of the magnitudes of every single path, position by position."""
        outer, inner = kernel(net, "4")[target], kernel(net, "2")[:, source]
        out = np.zeros((5, 5))
        for m in range(12):
            for y, x, s, t in np.ndindex(3, 3, 3, 3):
                out[y + s, x + t] += abs(outer[m, y, x] * inner[m, s, t])
        return out

    def test_of_a_neuron_card(self, net):
        found = draw(net, "neuron_card", "2:1", k=3).data
        inputs = signs(kernel(net, "2")[1], 3)
        assert found["inputs"].tolist() == inputs
        whole = power(kernel(net, "2"))[1]
        assert found["share"] == pytest.approx(whole[inputs].sum() / whole.sum(), rel=1e-5)
        assert found["outputs"].tolist() == signs(kernel(net, "4")[:, 1], 3)
        facts = dict(found["facts"])
        assert facts["sources"] == "10"
        assert facts["grid"] == "20 × 20"
        assert facts["sees"] == "5 × 5 px"
        half, most = 0, sorted(whole, reverse=True)
        while sum(most[:half]) < whole.sum() / 2:
            half += 1
        assert facts["half its weights are in"] == f"{half} of them"
        positive = np.clip(kernel(net, "2")[1], 0, None)
        assert facts["exciting share"] == f"{(positive**2).sum() / whole.sum():.0%}"

    def test_of_a_neuron_card_at_either_end_of_the_network(self, net, rendered):
        first, last = draw(net, "neuron_card", "0:1").data, draw(net, "neuron_card", "4:1").data
        assert set(first["inputs"].tolist()) == {0, 1, 2}
        assert first["outputs"].tolist() == signs(kernel(net, "2")[:, 1], 6)
        assert last["outputs"].tolist() == []
        assert "input" not in {layer for layer, _ in rendered}

    def test_of_an_nmf_grid(self):
        net, _, _ = self.planted_factors()
        found = draw(net, "nmf_grid", "4", rank=2, method="semi", units=[3, 5]).data
        exact = wa.factorize(wa.direct_weights(net, "4"), rank=2, method="semi")
        assert np.array_equal(found["space"], exact.space[[3, 5]])
        assert found["space"].shape == (2, 3, 3, 2)
        with pytest.raises(ArgumentError, match="'0' has nothing to factorize; figure kind 'weights'"):
            draw(net, "nmf_grid", "0")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(10, 10, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return x + self.relu(self.conv(x))


def signs(maps, k):
    """Places of maps by what they mostly do: the strongest k that excite, then the strongest k that inhibit."""
    up, down = (power(np.clip(maps, *ends)[None])[0] for ends in ((0, None), (None, 0)))
    excite = [i for i in np.argsort(-up) if up[i] >= down[i]]
    return [*excite[:k], *[i for i in np.argsort(-down) if down[i] > up[i]][:k]]


class TestDefaults:
    def test_the_source_is_what_the_target_reads(self, net):
        for kind in ("small_multiples", "family_grid", "spatial_positions", "weight_factors", "neuron_card"):
            target = "4" if KINDS[kind][0] == "4" else "4:2"
            usual, given = (draw(net, kind, target, **more) for more in ({}, {"source": "2"}))
            assert usual.svg() == given.svg(), kind
            assert usual.svg() != draw(net, kind, target, source="0").svg(), kind

    def test_the_skip_path_is_left_out_unless_asked_for(self):
        torch.manual_seed(0)
        net = opened(nn.Sequential(nn.Conv2d(3, 10, 3), Residual(), nn.Conv2d(10, 9, 3)))
        own = kernel(net, "1.conv")[4, 4]
        assert draw(net, "connection", "1:4", source="0:4").data["map"] == pytest.approx(own, abs=1e-6)
        with_path = own + np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
        both = draw(net, "connection", "1:4", source="0:4", skip="include")
        assert both.data["map"] == pytest.approx(with_path, abs=1e-6)
        assert "the skip path is left out" not in both.caption

    def test_gates_are_passed_on(self, net):
        half = draw(net, "connection", "4:1", source="2:3", gate=0.5).data["map"]
        assert half == pytest.approx(kernel(net, "4")[1, 3] / 2, abs=1e-6)
        paths = draw(net, "cancellation", "4:1", source="0:3", gate=0.5).data["sums"][0]
        assert paths == pytest.approx(composed(kernel(net, "4"), kernel(net, "2"))[1, 3] / 4, abs=1e-6)

    def test_the_family_reads_the_same_sources_and_the_sources_are_theirs(self):
        made, group = module(), [8, 1, 6, 3, 0, 5]
        with torch.no_grad():
            weight = made[4].weight
            weight.mul_(0.02)
            for unit in range(9):
                for source in (2, 5, 7) if unit in group else ([0, 9], [1, 10], [4, 11])[unit % 3]:
                    weight[unit, source] = torch.randn(3, 3).sign() * (1 + source / 50)
        net = opened(made)
        found = draw(net, "family_grid", "4", k=3).data
        assert set(found["targets"].tolist()) == set(group)
        assert set(found["sources"].tolist()) == {2, 5, 7}
        strength = power(kernel(net, "4"))[group].sum(axis=0)
        eight = draw(net, "family_grid", "4").data["sources"].tolist()
        assert set(eight) == set(np.argsort(-strength)[:8].tolist())
        assert set(draw(net, "weight_factors", "4").data["units"].tolist()) == set(group)
        alone = draw(net, "family_grid", "4", targets=[4], k=2).data["sources"].tolist()
        assert set(alone) == {1, 10}

    def test_of_two_layers_the_pair_in_which_most_cancels_is_drawn(self):
        made = module()
        with torch.no_grad():
            for conv in (made[2], made[4]):
                conv.weight.abs_()
            made[2].weight[:, 4] = 0
            made[2].weight[3, 4, 1, 1] = made[2].weight[9, 4, 1, 1] = 2.0
            made[4].weight[7, 3], made[4].weight[7, 9] = 1.5, -1.5
        net = opened(made)
        drawn = draw(net, "cancellation", "4", source="0")
        assert drawn.title == "Paths from 0:4 to 4:7"
        assert drawn.data["cancellation"] == pytest.approx(1)
        assert drawn.data["middle"].tolist() == [3, 9]
        assert drawn.data["maps"][0, 1:4, 1:4] == pytest.approx(np.full((3, 3), 3.0))
        assert drawn.data["maps"][1, 1:4, 1:4] == pytest.approx(np.full((3, 3), -3.0))
        assert drawn.data["maps"][:, 0] == pytest.approx(0)
        assert drawn.svg() == draw(net, "cancellation", "4:7", source="0:4", through="2").svg()

    def test_the_outputs_of_a_card_are_the_layer_that_reads_the_unit(self, net):
        card = draw(net, "neuron_card", "0:2", k=2)
        assert "it is read by 2;" in card.caption
        farther = draw(net, "neuron_card", "0:2", k=2, outputs="4")
        assert "it is read by 4;" in farther.caption
        assert farther.data["outputs"].tolist() == signs(composed(kernel(net, "4"), kernel(net, "2"))[:, 2], 2)

    def test_choices_reach_the_figure(self, net):
        usual = draw(net, "connection", "4:1", source="2:3").svg()
        assert draw(net, "connection", "4:1", source="2:3", palette="colorblind").svg() != usual
        assert draw(net, "connection", "4:1", source="2:3", seed=1).svg() != usual
        assert draw(net, "connection", "4:1", source="2:3", seed=0).svg() == usual


#: What cannot be, as (kind, target, options, error, words of the message).
REFUSED = [
    ("conection", "4:1", {}, UnknownNameError, "no kind of figure 'conection'; nearest: 'connection'"),
    (None, "4:1", {}, UnknownNameError, "no kind of figure 'None'"),
    ("connection", None, {"source": "2:1"}, ArgumentError, "needs a target"),
    ("banding", "4", {}, ArgumentError, "takes no layer.*'4' came in"),
    ("connection", "4:1", {}, ArgumentError, "'connection' needs source="),
    ("expanded", "4:1", {}, ArgumentError, "'expanded' needs source="),
    ("cancellation", "4", {}, ArgumentError, "'cancellation' needs source="),
    ("small_multiples", "4:1", {"units": [1]}, ArgumentError, "no option 'units'; it has source, sources, k, by"),
    ("spatial_positions", "4:1", {"palette": "classic"}, ArgumentError, "no option 'palette'"),
    ("cancellation", "4", {"source": "0", "skip": "include"}, ArgumentError, "no option 'skip'"),
    # a layer where a unit is needed, and the other way round
    ("connection", "4", {"source": "2:1"}, ArgumentError, "target='4' names a layer; a unit such as '4:0'"),
    ("connection", "4:1", {"source": "2"}, ArgumentError, "source='2' names a layer; a unit such as '2:0'"),
    ("small_multiples", "4", {}, ArgumentError, "target='4' names a layer"),
    ("small_multiples", "4:1", {"source": "2:3"}, ArgumentError, "source='2:3' names a unit; this figure is of a lay"),
    ("family_grid", "4:1", {}, ArgumentError, "target='4:1' names a unit; this figure is of a layer, such as '4'"),
    ("family_grid", "4", {"source": "2:1"}, ArgumentError, "source='2:1' names a unit"),
    ("spatial_positions", "4", {}, ArgumentError, "target='4' names a layer"),
    ("weight_factors", "4:1", {}, ArgumentError, "target='4:1' names a unit"),
    ("factor_equation", "4:1", {}, ArgumentError, "target='4:1' names a unit"),
    ("expanded", "4", {"source": "0"}, ArgumentError, "target='4' names a layer"),
    ("expanded", "4:1", {"source": "0:1"}, ArgumentError, "source='0:1' names a unit"),
    ("neuron_card", "4", {}, ArgumentError, "target='4' names a layer"),
    ("neuron_card", "2:1", {"outputs": "4:1"}, ArgumentError, "outputs='4:1' names a unit"),
    ("cancellation", "4:1", {"source": "0:1", "through": "2:1"}, ArgumentError, "through='2:1' names a unit"),
    ("cancellation", "4:1", {"source": "0"}, ArgumentError, "'4:1' and source='0' must both be units, or both be lay"),
    ("cancellation", "4", {"source": "0:1"}, ArgumentError, "'4' and source='0:1' must both be units"),
    # what does not exist
    ("connection", "4:9", {"source": "2:1"}, UnknownNameError, "'4' has no unit 9; its 9 units are 0 … 8"),
    ("connection", "4:1", {"source": "2:12"}, UnknownNameError, "'2' has no unit 12"),
    ("connection", "44:1", {"source": "2:12"}, UnknownNameError, "no layer '44'"),
    ("connection", "4:x", {"source": "2:1"}, UnknownNameError, "no layer '4:x'"),
    ("connection", "4:-1", {"source": "2:1"}, UnknownNameError, "no layer '4:-1'"),
    ("connection", "", {"source": "2:1"}, UnknownNameError, "no layer ''"),
    ("connection", 4, {"source": "2:1"}, ArgumentError, "target=4 must be a layer or a unit such as"),
    ("connection", "4:1", {"source": ("2", 1)}, ArgumentError, r"source=\('2', 1\) must be a layer or a unit"),
    ("family_grid", "4", {"source": "nowhere"}, UnknownNameError, "no layer 'nowhere'"),
    ("family_grid", "4", {"targets": [9]}, UnknownNameError, "no unit 9"),
    ("family_grid", "4", {"sources": [12]}, UnknownNameError, "no unit 12"),
    ("family_grid", "4", {"targets": []}, ArgumentError, "no unit of layer '4' was chosen"),
    ("family_grid", "4", {"sources": []}, ArgumentError, "holds no unit"),
    ("small_multiples", "4:1", {"sources": ["0:1"]}, ArgumentError, "source='0:1' is no unit of '2'"),
    ("weight_factors", "4", {"units": [9]}, UnknownNameError, "no unit 9"),
    ("cancellation", "4:1", {"source": "input:3"}, UnknownNameError, "input has no unit 3"),
    ("neuron_card", "4:1", {"outputs": "nowhere"}, UnknownNameError, "no layer 'nowhere'"),
    # the wrong way round
    ("connection", "2:1", {"source": "4:1"}, ArgumentError, "Did you mean source='2', target='4'"),
    ("connection", "4:1", {"source": "4:2"}, ArgumentError, "both '4'"),
    ("small_multiples", "input:1", {"source": "2"}, ArgumentError, "the target is the network's input"),
    ("neuron_card", "2:1", {"outputs": "0"}, ArgumentError, "Did you mean"),
    # values
    ("connection", "4:1", {"source": "2:1", "palette": "red"}, ArgumentError, "palette='red' is none of 'classic'"),
    ("connection", "4:1", {"source": "2:1", "gate": "red"}, ArgumentError, "gate='red'"),
    ("connection", "4:1", {"source": "2:1", "skip": "red"}, ArgumentError, "skip='red'"),
    ("connection", "4:1", {"source": "2:1", "images": "nowhere.png"}, LoadError, "nowhere.png cannot be read"),
    ("small_multiples", "4:1", {"by": "x"}, ArgumentError, "by='x' is none of"),
    ("small_multiples", "4:1", {"k": 0}, ArgumentError, "k=0"),
    ("family_grid", "4", {"order": "x"}, ArgumentError, "order='x' is none of"),
    ("weight_factors", "4", {"rank": 0}, ArgumentError, "rank 0"),
    ("weight_factors", "4", {"rank": 13}, ArgumentError, "rank 13 is not among 1 … 12"),
    ("weight_factors", "4", {"method": "x"}, ArgumentError, "method='x' is none of"),
    ("weight_factors", "4", {"method": "svd"}, ArgumentError, "nonnegative"),
    ("factor_equation", "4", {"k": 0}, ArgumentError, "k=0 is no number of terms"),
    ("factor_equation", "4", {"rank": 0}, ArgumentError, "rank 0"),
    ("expanded", "4:1", {"source": "0", "k": 0}, ArgumentError, "k=0"),
    ("expanded", "4:1", {"source": "0", "rank": 0}, ArgumentError, "rank 0"),
    ("cancellation", "4:1", {"source": "0:1", "k": 0}, ArgumentError, "k=0 is no number of middle units"),
    ("neuron_card", "2:1", {"k": 0}, ArgumentError, "k=0"),
    ("neuron_card", "2:1", {"rank": 0}, ArgumentError, "rank 0"),
    ("spatial_positions", "0:1", {}, ArgumentError, "no pictures of directions over 'input'"),
]


class TestRefusals:
    @pytest.mark.parametrize(("kind", "target", "options", "error", "words"), REFUSED)
    def test_what_cannot_be_is_refused_before_anything_is_rendered(
        self, net, rendered, kind, target, options, error, words
    ):
        with pytest.raises(error, match=words):
            wa.figure(net, kind, target, **options)
        assert rendered == []

    def test_a_recipe_that_does_not_exist_is_refused(self, net):
        with pytest.raises(UnknownNameError, match="no recipe 'quik'; nearest: 'quick'"):
            wa.figure(net, "connection", "4:1", source="2:1", recipe="quik")

    def test_weights_that_are_nan_are_refused(self):
        made = module()
        with torch.no_grad():
            made[4].weight[1, 2, 0, 0] = float("nan")
        with pytest.raises(WeightValuesError, match=r"4\.weight"):
            draw(opened(made), "small_multiples", "4:1")

    def test_a_checkpoint_without_architecture_is_refused(self, tmp_path, rendered):
        torch.save({f"{n}.weight": torch.randn(9, 9, 3, 3) for n in "abc"}, tmp_path / "c.pt")
        net = wa.load(tmp_path / "c.pt")
        for kind, target in (("connection", "b:1"), ("small_multiples", "b:1"), ("family_grid", "b")):
            with pytest.raises(ArgumentError, match="needs the architecture"):
                draw(net, kind, target, source="a:1" if kind == "connection" else "a")
        assert rendered == []


class TestPictures:
    def test_no_unit_is_rendered_twice(self, net, rendered):
        made = Pictures(net, RECIPE)
        first = made.units("2", [3, 1, 3])
        assert rendered == [("2", [1, 3])]
        assert [r.units.tolist() for r in first] == [[1, 3]]
        second = made.units("2", [1, 5, 3])
        assert rendered[1:] == [("2", [5])]
        assert sorted(u for r in second for u in r.units.tolist()) == [1, 3, 5]
        made.units("4", [1])
        made.units("2", [5])
        assert rendered[2:] == [("4", [1])]
        assert made.rendered == 4

    def test_they_are_those_of_visualize(self, net):
        made = Pictures(net, RECIPE, seed=3).units("2", [3, 1])[0]
        assert np.array_equal(made.images, wa.visualize(net, "2", units=[1, 3], recipe=RECIPE, seed=3).images)
        vectors = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)
        made = Pictures(net, RECIPE, seed=3).directions("2", vectors)
        expected = wa.visualize(net, "2", directions=vectors, recipe=RECIPE, seed=3)
        assert np.array_equal(made.images, expected.images)

    def test_the_same_directions_are_rendered_once(self, net, rendered):
        made, vectors = Pictures(net, RECIPE), np.eye(12, dtype=np.float32)[:2]
        first = made.directions("2", vectors)
        assert made.directions("2", vectors.astype(np.float64)) is first
        assert made.directions("2", np.asfortranarray(vectors)) is first
        assert len(rendered) == 1
        assert made.directions("2", vectors[::-1]) is not first
        assert len(rendered) == 2
        assert made.rendered == 4

    def test_the_input_has_none(self, net, rendered):
        made = Pictures(net, RECIPE)
        assert made.possible
        assert made.units("input", [0, 1]) == []
        assert made.directions("input", np.eye(3)) is None
        assert rendered == []

    def test_progress_is_told(self, net):
        told = []
        Pictures(net, RECIPE.but(steps=2), progress=lambda done, total: told.append((done, total))).units("2", [0, 4])
        assert told[-1] == (2, 2)
        assert [d for d, _ in told] == sorted(d for d, _ in told)

    @pytest.mark.parametrize("kind", CONTEXT)
    def test_a_figure_renders_every_unit_once(self, net, rendered, kind):
        target, options = KINDS[kind]
        draw(net, kind, target, **options)
        units = [(layer, u) for layer, what in rendered if isinstance(what, list) for u in what]
        assert len(units) == len(set(units)) > 0

    def test_figures_of_a_studio_share_pictures_and_weights(self, net, rendered, monkeypatch):
        from weightatlas.builder import contextual

        asked, real = [], studios.expanded_weights

        def weights(net, source, target, *more, **options):
            asked.append((source, target))
            return real(net, source, target, *more, **options)

        monkeypatch.setattr(studios, "expanded_weights", weights)
        studio = Studio(net, recipe=RECIPE)
        contextual.family_grid(studio, "4", targets=[1, 2], sources=[0, 3])
        contextual.connection(studio, "4:2", source="2:3")
        contextual.small_multiples(studio, "4:1", k=2, sources=[0, 7])
        contextual.family_grid(studio, "4", targets=[2, 1], sources=[3, 7])
        assert asked == [("2", "4")]
        assert rendered == [("2", [0, 3]), ("4", [1, 2]), ("2", [7])]

    def no_images(self, kind):
        torch.manual_seed(0)
        if kind == "signal":
            return opened(nn.Sequential(nn.Conv1d(4, 10, 3), nn.ReLU(), nn.Conv1d(10, 12, 3)), (4, 32)), "0", "2"
        return opened(nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 12)), (20,)), "0", "2"

    @pytest.mark.parametrize("kind", ["signal", "vector"])
    def test_networks_without_image_input_have_figures_that_say_so(self, kind, rendered):
        net, source, target = self.no_images(kind)
        drawn = draw(net, "connection", f"{target}:1", source=f"{source}:3")
        assert texts(ET.fromstring(drawn.svg())).count("no picture") == 2
        weight = kernel(net, target)[1, 3].reshape(-1)
        assert drawn.data["map"].reshape(-1) == pytest.approx(weight, abs=1e-6)
        assert "pictures are feature visualizations" not in drawn.caption
        grid = draw(net, "family_grid", target, targets=[1, 2], sources=[3, 4, 5])
        assert texts(ET.fromstring(grid.svg())).count("no picture") == 5
        factors = draw(net, "weight_factors", target, units=[1, 2])
        assert texts(ET.fromstring(factors.svg())).count("no picture") == 4  # two units, two factors
        assert draw(net, "neuron_card", f"{target}:1").data["target"] == 1
        assert rendered == []
        with pytest.raises(ArgumentError, match="no pictures of directions over '0'; they need image input"):
            draw(net, "spatial_positions", f"{target}:1")

    def test_the_inputs_channels_are_shown_as_their_colours(self, net, rendered):
        drawn = draw(net, "connection", "0:1", source="input:0")
        assert rendered == [("0", [1])]
        assert "no picture" not in texts(ET.fromstring(drawn.svg()))


class TestStudio:
    def test_places_are_layers_or_units(self, net):
        studio = Studio(net)
        assert studio.place("4", "target") == ("4", None)
        assert studio.place("4:8", "target") == ("4", 8)
        assert studio.place("input", "source") == ("input", None)
        assert studio.place("input:1", "source") == ("input", 1)
        assert studio.layer("2", "source") == "2"
        assert studio.unit("2:3", "source") == ("2", 3)
        assert studio.before(None, "4") == "2"
        assert studio.before("0", "4") == "0"
        assert studio.before(None, "0") == "input"

    def test_a_modules_second_call_is_a_layer_of_its_own(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.same = nn.Conv2d(3, 9, 3), nn.Conv2d(9, 9, 3)

            def forward(self, x):
                return self.same(self.same(self.first(x)))

        net = opened(Twice())
        assert Studio(net).place("same#2:4", "target") == ("same#2", 4)
        assert "same:1 on same#2:4" in draw(net, "connection", "same#2:4", source="same:1").title

    def test_weights_of_some_units_are_those_of_all(self, net):
        studio = Studio(net)
        before = studio.weights("2", "4", [3, 1])
        everything = studio.weights("2", "4")
        after = studio.weights("2", "4", [3, 1])
        assert everything.units.tolist() == list(range(9))
        for some in (before, after):
            assert some.units.tolist() == [3, 1]
            assert np.array_equal(some.values, everything.values[[3, 1]])

    def test_factors_of_one_unit_fit_it(self, net):
        studio = Studio(net)
        few = studio.factors_of_one(studio.weights("input", "0", [1]), 5)
        assert few.rank == 3  # of three channels
        assert studio.factors_of_one(studio.weights("2", "4", [1]), 2).rank == 2
        flat = opened(nn.Sequential(nn.Conv2d(3, 9, 3), nn.Conv2d(9, 9, 1)))
        assert Studio(flat).factors_of_one(Studio(flat).weights("0", "1", [1]), 2) is None


def always(made):
    """The network with biases that keep every other unit of layer 2 on everywhere, and the rest off."""
    with torch.no_grad():
        made[2].bias.copy_(torch.tensor([1000.0, -1000.0]).repeat(6))
    return made


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a**2).sum()) / np.sqrt((b**2).sum()))


class TestImages:
    @pytest.fixture
    def arrays(self):
        return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)

    def folder(self, path, arrays):
        path.mkdir()
        for n, array in enumerate(arrays):
            Image.fromarray(array.squeeze()).save(path / f"{n}.png")
        return path

    def test_captions_tell_how_far_weights_agree_with_the_network(self, arrays):
        net = opened(always(module()))
        # taken as if every unit were on; half of them are
        outer, inner = kernel(net, "4"), kernel(net, "2")
        on = composed(outer[:, ::2], inner[::2])[1]
        expected = cosine(composed(outer, inner)[1], on)
        assert expected < 0.95
        drawn = draw(net, "expanded", "4:1", source="1", images=arrays)
        assert f"cosine {expected:.2f} with the network's mean gradient on images" in drawn.caption
        assert "cosine" not in draw(net, "expanded", "4:1", source="1").caption

    @pytest.mark.parametrize("kind", [k for k in CONTEXT if "images" in wa.figure_kinds()[k].parameters])
    def test_a_linear_network_agrees_in_full(self, arrays, kind):
        torch.manual_seed(0)
        convs = [nn.Conv2d(3, 10, 3), nn.Identity(), nn.Conv2d(10, 12, 3), nn.Identity(), nn.Conv2d(12, 9, 3)]
        target, options = KINDS[kind]
        drawn = draw(opened(nn.Sequential(*convs)), kind, target, images=arrays, **options)
        assert "cosine 1.00 with the network's mean gradient on images" in drawn.caption.lower()

    def test_files_and_folders_are_the_same_as_arrays(self, net, arrays, tmp_path):
        folder = self.folder(tmp_path / "photos", arrays)
        expected = draw(net, "connection", "4:1", source="0:3", images=arrays).caption
        assert "cosine" in expected.lower()
        files = [folder / f"{n}.png" for n in range(3)]
        for given in (folder, str(folder), [folder], files, tuple(map(str, files)), list(arrays)):
            assert draw(net, "connection", "4:1", source="0:3", images=given).caption == expected
        only = draw(net, "connection", "4:1", source="0:3", images=files[0]).caption
        assert only == draw(net, "connection", "4:1", source="0:3", images=arrays[:1]).caption

    def test_a_folder_is_read_by_name_without_what_is_no_image(self, net, arrays, tmp_path):
        folder = self.folder(tmp_path / "photos", arrays[:1])
        Image.fromarray(arrays[1]).save(folder / "B.PNG")
        Image.fromarray(arrays[2]).save(folder / "a.bmp")
        (folder / "notes.txt").write_text("mine")
        (folder / "deeper.png").mkdir()
        found = read_images(net, folder)
        assert [f.tolist() for f in found] == [arrays[0].tolist(), arrays[1].tolist(), arrays[2].tolist()]

    def test_channels_are_those_of_the_network(self, tmp_path):
        grey = opened(nn.Sequential(nn.Conv2d(1, 8, 3)), (1, SIDE, SIDE))
        colour = opened(nn.Sequential(nn.Conv2d(3, 8, 3)))
        generator = np.random.default_rng(0)
        rgb, single = (generator.integers(0, 256, s, np.uint8) for s in ((5, 7, 3), (5, 7)))
        Image.fromarray(rgb).save(tmp_path / "rgb.png")
        Image.fromarray(single).save(tmp_path / "grey.png")
        luma = read_images(grey, tmp_path / "rgb.png")[0]
        assert luma.shape == (5, 7, 1)
        assert luma.dtype == np.uint8
        by_hand = (rgb.astype(float) @ [0.299, 0.587, 0.114])[..., None]
        assert luma.astype(float) == pytest.approx(by_hand, abs=1)
        assert np.array_equal(read_images(grey, tmp_path / "grey.png")[0][..., 0], single)
        assert np.array_equal(read_images(colour, tmp_path / "grey.png")[0], np.stack([single] * 3, axis=2))

    def test_what_is_no_path_is_left_as_it_is(self, net, arrays):
        tensor = torch.zeros(1, 3, SIDE, SIDE)
        for given in (None, arrays, tensor, [arrays[0]], []):
            assert read_images(net, given) is given

    @pytest.mark.parametrize("what", ["missing", "text", "cut", "empty", "NUL"])
    def test_a_file_that_cannot_be_read_is_named(self, net, arrays, tmp_path, what, rendered):
        folder = self.folder(tmp_path / "photos", arrays)
        path = folder / "1.png"
        content = {"text": b"no image", "cut": path.read_bytes()[:500], "empty": b""}
        if what in content:
            path.write_bytes(content[what])
        path = {"missing": folder / "9.png", "NUL": f"{folder}/a\0b"}.get(what, path)
        given = [folder / "0.png", path] if what in ("missing", "NUL") else folder
        with pytest.raises(LoadError, match="cannot be read as an image") as raised:
            draw(net, "connection", "4:1", source="2:3", images=given)
        assert str(raised.value).startswith(str(path))
        assert rendered == []

    @pytest.mark.filterwarnings("ignore")  # not the tests' own filter refuses
    @pytest.mark.parametrize("pixels", [SIDE * SIDE - 1, SIDE * SIDE // 2 - 1])
    def test_an_image_too_large_to_be_meant_is_refused(self, net, arrays, tmp_path, monkeypatch, pixels):
        folder = self.folder(tmp_path / "photos", arrays)
        monkeypatch.setattr(reading.Image, "MAX_IMAGE_PIXELS", pixels)  # a warning beyond it, an error beyond twice
        with pytest.raises(LoadError, match=r"0\.png cannot be read as an image: its .* pixels exceed the limit of"):
            read_images(net, folder)

    def test_a_folder_without_images_is_refused(self, net, tmp_path, rendered):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(ArgumentError, match=r"holds no images \(\.png, .*\)") as raised:
            draw(net, "connection", "4:1", source="2:3", images=tmp_path)
        assert str(tmp_path) in str(raised.value)
        assert rendered == []

    @pytest.mark.parametrize("shape", [(4, 32), (4, SIDE, SIDE), (20,)])
    def test_networks_without_such_images_refuse_files(self, arrays, tmp_path, shape):
        folder = self.folder(tmp_path / "photos", arrays)
        layer = {1: lambda: nn.Linear(20, 8), 2: lambda: nn.Conv1d(4, 8, 3), 3: lambda: nn.Conv2d(4, 8, 3)}
        net = opened(nn.Sequential(layer[len(shape)]()), shape)
        with pytest.raises(ArgumentError, match="takes no images with 1 or 3 channels"):
            read_images(net, folder)


class Branched(nn.Module):
    """A depthwise convolution behind a first layer, a block around both, and a linear layer on pooled units."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.trunk = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 12, 1))
        self.head = nn.Linear(12, 9)

    def forward(self, x):
        return self.head(self.trunk(self.stem(x)).mean((2, 3)))


class TestAnyLayer:
    @pytest.fixture
    def branched(self):
        return wa.load(Branched(), input=wa.InputSpec(shape=(3, 16, 16)))

    def test_a_card_of_a_depthwise_unit_goes_without_factors(self, branched):
        card = draw(branched, "neuron_card", "trunk.0:5")
        assert card.data["inputs"].tolist() == [5]
        assert not any("factor" in name for name, _ in card.data["facts"])

    def test_a_card_of_the_first_layer_is_read_by_what_comes_next(self, branched):
        assert "read by trunk;" in draw(branched, "neuron_card", "stem:1").caption

    def test_weights_alike_at_all_positions_have_one_picture(self, branched):
        with pytest.raises(ArgumentError, match="'head:2' reads 'trunk' alike at all positions"):
            draw(branched, "spatial_positions", "head:2")
        assert "What it looks for, and where" not in draw(branched, "neuron_card", "head:2").svg()

    def test_a_skip_path_is_told_only_where_there_is_one(self, branched):
        assert "skip path" not in draw(branched, "small_multiples", "trunk:2").caption

    def test_a_zoo_of_missing_sources_is_told_with_a_call(self, branched):
        with pytest.raises(ArgumentError, match=r"wa.figure\(net, 'connection', 'trunk:2', source='…'\)"):
            draw(branched, "connection", "trunk:2")
