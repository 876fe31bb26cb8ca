"""What the jobs of a build make, against the library's own functions and naive sums over their arrays."""

import json

import numpy as np
import pytest
import zarr
from atlases import LAYERS, built, images, small

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.records import Statistics
from weightatlas.store import layout
from weightatlas.store.arrays import Group
from weightatlas.store.pairs import read_record

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = [(s, t) for s, t in zip(["input", *LAYERS], LAYERS, strict=False)] + [
    ("input", "blocks.0"), ("stem", "blocks.1"), ("blocks.0", "down"), ("blocks.1", "head")
]  # fmt: skip
INNER = [(s, t) for s, t in PAIRS[:5] if s != "input"]
ROUNDED = {"rel": 6e-4, "abs": 1e-12}  # four significant digits


@pytest.fixture(scope="module")
def net():
    """The network with the statistics that the atlas was built with."""
    opened = small()
    wa.measure(opened, images())
    return opened


@pytest.fixture(scope="module")
def atlas():
    return wa.Atlas(built()[0])


@pytest.fixture(scope="module")
def weights(net):
    return {(s, t): wa.expanded_weights(net, s, t, skip="exclude") for s, t in PAIRS}


def lengths(weights):
    """L2 norm over positions, float64 [O, I], one number at a time; unit 0 … I of its group."""
    o, i, h, w = weights.values.shape
    found = np.zeros((o, i))
    for place in np.ndindex(o, i, h, w):
        found[place[:2]] += float(weights.values[place]) ** 2
    return np.sqrt(found)


def test_all_pairs_are_there(atlas):
    assert [(p["source"], p["target"]) for p in atlas.manifest["pairs"]] == PAIRS
    assert all(p["made"] for p in atlas.manifest["pairs"])


class TestWeights:
    def test_they_are_the_expanded_weights_without_skip_path(self, atlas, weights):
        for (source, target), truth in weights.items():
            found = atlas.weights(source, target)
            assert found.values.dtype == np.float32
            for name in ("values", "units", "skip_values", "skip_first"):
                assert np.array_equal(getattr(found, name), getattr(truth, name)), (source, target, name)
            for name in ("origin", "stride", "dilation", "groups", "at", "sees_pixels", "replaced", "provenance"):
                assert getattr(found, name) == getattr(truth, name), (source, target, name)
            some = atlas.weights(source, target, [3, 0])
            assert np.array_equal(some.values, truth.values[[3, 0]])

    def test_the_gates_are_those_measured_on_the_images(self, atlas, net, weights):
        kept = read_record(atlas.files, "statistics", Statistics)
        assert json.dumps(kept._split()[1]) == json.dumps(net.measured._split()[1])
        for name, values in net.measured._split()[0].items():
            assert np.array_equal(kept._split()[0][name], values), name
        bare = wa.expanded_weights(small(), "stem", "blocks.0", skip="exclude")  # from batch norm alone
        assert np.abs(bare.values - weights["stem", "blocks.0"].values).max() > 0.01

    @pytest.mark.slow
    def test_another_gate(self, tmp_path):
        net = small()
        made = wa.build(net, tmp_path, gate=0.25, recipes=[], only="weights", layers=["stem", "blocks.0"])
        truth = wa.expanded_weights(net, "stem", "blocks.0", gate=0.25, skip="exclude")
        assert np.array_equal(made.weights("stem", "blocks.0").values, truth.values)
        assert made.manifest["gates"] == {"rule": 0.25, "measured": False}

    @pytest.mark.slow
    def test_statistics_of_the_network_are_part_of_a_new_atlas(self, net, weights, tmp_path):
        own = small()
        own.measured = net.measured
        made = wa.build(own, tmp_path, recipes=[], only="weights", layers=["stem", "blocks.0"])
        own.measured = None  # what it is measured on later changes nothing
        again = wa.build(own, tmp_path, recipes=[], only="weights", layers=["stem", "blocks.0", "blocks.1"])
        for target in ("blocks.0", "blocks.1"):
            pair = ("stem", target)
            assert np.array_equal(again.weights(*pair).values, weights[pair].values)
        assert made.manifest["gates"] == {"rule": "expected", "measured": True}

    @pytest.mark.slow
    def test_the_network_is_left_as_it_was(self, tmp_path):
        net = small()
        before = net.weights_hash
        wa.build(net, tmp_path, images=images(2), recipes=[], only="statistics")
        assert net.measured is None
        assert net.weights_hash == before
        assert all(not m.training for m in net.module.modules())
        assert not any(m._forward_hooks for m in net.module.modules())


class TestLists:
    """What is told of a pair without its weights."""

    @pytest.mark.parametrize("pair", PAIRS)
    def test_strongest_inputs_and_norms(self, atlas, weights, pair):
        about, truth = atlas.document(layout.connections_path(pair[1], pair[0], "top")), weights[pair]
        power = lengths(truth) ** 2
        assert about["norms"]["targets"] == pytest.approx(np.sqrt(power.sum(1)), **ROUNDED)
        assert about["norms"]["sources"] == pytest.approx(np.sqrt(power.sum(0)), **ROUNDED)
        assert about["largest"] == pytest.approx(np.abs(truth.values).max(), **ROUNDED)
        for unit in range(truth.target_units):
            best = sorted(range(truth.source_units), key=lambda s, unit=unit: -power[unit, s])[:12]
            assert about["inputs"]["units"][unit] == best
            assert about["inputs"]["strengths"][unit] == pytest.approx(np.sqrt(power[unit, best]), **ROUNDED)
            share = power[unit, best].sum() / power[unit].sum()
            assert about["inputs"]["shares"][unit] == pytest.approx(share, **ROUNDED)
        for unit in range(truth.source_units):
            best = sorted(range(truth.target_units), key=lambda t, unit=unit: -power[t, unit])[:12]
            assert about["outputs"]["units"][unit] == best
            assert about["outputs"]["strengths"][unit] == pytest.approx(np.sqrt(power[best, unit]), **ROUNDED)
            assert about["outputs"]["shares"][unit] == pytest.approx(1, **ROUNDED)  # all of them are listed

    @pytest.mark.parametrize("pair", PAIRS)
    def test_strongest_connections(self, atlas, weights, pair):
        rows = atlas.document(layout.connections_path(pair[1], pair[0], "top"))["strongest"]
        truth = weights[pair]
        power = lengths(truth) ** 2
        share = power / power.sum(1, keepdims=True)
        best = sorted(np.ndindex(*share.shape), key=lambda p: -share[p])[:100]
        assert sorted((r[0], r[1]) for r in rows) == sorted(best)
        assert [r[3] for r in rows] == pytest.approx([share[p] for p in best], **ROUNDED)
        for unit, source, strength, _, total in rows:
            assert strength == pytest.approx(np.sqrt(power[unit, source]), **ROUNDED)
            sums = truth.values[unit, source].sum(dtype=np.float64)
            assert total == pytest.approx(sums, rel=2e-3, abs=1e-6)  # also where one value stands for all positions

    def test_maps_of_the_strongest_targets_lie_with_each_source_unit(self, atlas, weights):
        for pair, truth in weights.items():
            group = zarr.open_group(str(built()[0] / layout.weights_path(pair[1], pair[0])), mode="r")
            units, maps = group["outgoing_units"][:], group["outgoing_maps"][:]
            h, w = maps.shape[2:]
            for source in range(truth.source_units):
                assert np.array_equal(maps[source], truth.values[units[source], source, :h, :w])
            assert np.array_equal(np.sort(units, axis=1), np.tile(np.arange(truth.target_units), (len(units), 1)))

    def test_maps_that_are_the_same_everywhere_are_kept_once(self, atlas, weights):
        """Behind the global pooling of 10 × 10 positions."""
        pair = atlas.pair("down", "head")
        assert (pair["shape"], pair["uniform"]) == ([5, 7, 1, 1], [10, 10])
        assert weights["down", "head"].values.shape == (5, 7, 10, 10)
        assert [p["uniform"] for p in atlas.manifest["pairs"] if p["target"] != "head"] == [[1, 1]] * 7


class TestPaths:
    def pairs(self, atlas):
        return [(p["source"], p["target"], m) for p in atlas.manifest["pairs"] for m, _ in p["paths"]]

    def test_they_lead_through_the_gates_of_neighbours_and_the_layer_between_those_two_back(self, atlas):
        assert set(self.pairs(atlas)) == {
            ("stem", "blocks.0", "blocks.0.act"), ("blocks.0", "blocks.1", "blocks.1.act"),
            ("input", "blocks.0", "stem"), ("stem", "blocks.1", "blocks.0"), ("blocks.0", "down", "blocks.1"),
            ("blocks.1", "head", "down"),
        }  # fmt: skip

    def test_sums_and_middle_units(self, atlas, net):
        for source, target, middle in self.pairs(atlas)[:-1]:
            truth = wa.expanded_paths(net, source, middle, target)
            where = built()[0] / layout.paths_path(target, source, middle)
            group = zarr.open_group(str(where), mode="r")
            found, names = group["paths"][:], group.attrs["weightatlas"]["quantities"]
            assert found.shape == (len(truth.units), truth.source_units, len(names))
            kept = {n: found[..., k] for k, n in enumerate(names)}
            for name, maps in [
                ("sum", truth.through), ("magnitude of the sum", np.abs(truth.through)),
                ("sum of magnitudes", truth.absolute),
            ]:  # fmt: skip
                assert kept[name] == pytest.approx(maps.sum(axis=(2, 3), dtype=np.float64), rel=1e-5, abs=1e-6)
            ranks = min(5, truth.middle_units)
            assert len(names) == 3 + 2 * ranks
            for unit, one in [(0, 0), (2, 1), (4, 2)]:
                top = truth.middle_top(unit, one, ranks)
                units = [int(kept[f"middle unit {r + 1}"][unit, one]) for r in range(ranks)]
                added = [float(kept[f"adds {r + 1}"][unit, one]) for r in range(ranks)]
                assert units[: len(top)] == [m.unit for m in top]
                assert set(units[len(top) :]) <= {-1}
                assert added[: len(top)] == pytest.approx([m.sum for m in top], rel=1e-4, abs=1e-6)
            assert np.array_equal(group["bypass_share"][:], truth.bypass_share)

    def test_where_none_can_be_followed_the_reason_is_kept(self, atlas, net):
        source, target, middle = self.pairs(atlas)[-1]
        about = Group(atlas.files, layout.paths_path(target, source, middle)).attributes["weightatlas"]
        with pytest.raises(ArgumentError) as stopped:
            wa.expanded_paths(net, source, middle, target)
        assert about.pop("fields")["provenance"]["weights_hash"] == net.weights_hash
        assert about == {"none": str(stopped.value), "source": source, "middle": middle, "target": target}

    def test_the_most_cancelled_connections(self, atlas, net):
        for source, target, middle in self.pairs(atlas)[:-1]:
            truth = wa.expanded_paths(net, source, middle, target).hidden(100)
            about = Group(atlas.files, layout.paths_path(target, source, middle)).attributes["weightatlas"]
            assert [row[:2] for row in about["cancelled"]] == [[h.unit, h.source_unit] for h in truth]
            for row, one in zip(about["cancelled"], truth, strict=True):
                assert row[2:] == pytest.approx(list(one[2:]), rel=6e-4, abs=1e-9)


class TestAgreement:
    def test_it_is_that_with_the_expected_gradient_on_the_images(self, atlas, net, weights):
        for pair, own in weights.items():
            samples = min(32, len(images()) * int(np.prod(net.layers[pair[1]].grid)))
            truth = wa.expected_gradient(net, *pair, images(), skip="exclude", samples=samples, seed=0)
            expected = wa.agreement(own, truth, skip="exclude")
            about = atlas.document(layout.connections_path(pair[1], pair[0], "agreement"))
            assert about["cosine"] == pytest.approx(expected.cosine, **ROUNDED)
            assert about["overlap"] == expected.overlap.tolist()
            assert about["mean_cosine"] == pytest.approx(expected.mean_cosine, **ROUNDED)
            assert about["halves"] == pytest.approx(truth.halves, **ROUNDED)
            assert (about["samples"], about["images"]["used"]) == (truth.samples, len(images()))
            assert atlas.agreement(*pair).cosine == pytest.approx(expected.cosine, **ROUNDED)


class TestFactors:
    def test_three_of_all_units_together(self, atlas, weights):
        for pair in INNER:
            kept = weights[pair]
            if pair == ("down", "head"):  # one of 100 equal positions
                kept = kept.values[:, :, :1, :1]
            truth = wa.factorize(kept, 3, seed=0)
            about = atlas.document(layout.connections_path(pair[1], pair[0], "factors"))
            assert about["channels"] == pytest.approx(truth.channels, **ROUNDED)
            assert np.array(about["space"]) == pytest.approx(truth.space, **ROUNDED)
            assert about["explained"] == pytest.approx(truth.explained, **ROUNDED)
            assert (about["rank"], about["nonnegative"], about["method"]) == (3, "space", "posneg")
            assert np.min(about["space"]) >= 0

    def test_two_of_each_unit_with_directions_that_can_be_pictured(self, atlas, weights):
        for pair in INNER[:-1]:
            truth = wa.factorize(weights[pair], 2, nonnegative="channels", per_unit=True, seed=0)
            for row, unit in enumerate(truth.units.tolist()):
                about = atlas.document(layout.connections_path(pair[1], pair[0], f"factors/{unit}"))
                assert about["unit"] == unit
                assert about["channels"] == pytest.approx(truth.channels[row], **ROUNDED)
                assert np.moveaxis(about["space"], 0, -1) == pytest.approx(truth.space[row], **ROUNDED)
                assert about["explained"] == pytest.approx(truth.unit_explained[row], **ROUNDED)
                for k in range(2):
                    part = np.multiply.outer(about["space"][k], about["channels"][k])
                    assert about["strength"][k] == pytest.approx(np.sqrt((part**2).sum()), rel=2e-3)

    def test_pixels_have_none(self, atlas):
        told = {(p["source"], p["target"]): p["factors"] for p in atlas.manifest["pairs"]}
        assert {pair for pair, there in told.items() if there} == set(INNER)


class TestUnits:
    def read(self, layer):
        return [s for s, t in PAIRS[:5] if t == layer]

    def test_norms(self, atlas, weights):
        for layer in LAYERS:
            about = atlas.document(layout.layer_path(layer, "units"))
            power = sum((lengths(weights[s, layer]) ** 2).sum(1) for s in self.read(layer))
            assert about["norms"] == pytest.approx(np.sqrt(power), **ROUNDED)
            assert set(about["norms_by_source"]) == set(self.read(layer))

    def test_alike_units(self, atlas, weights):
        for layer in LAYERS:
            about = atlas.document(layout.layer_path(layer, "units"))
            profile = np.concatenate([lengths(weights[s, layer]) for s in self.read(layer)], axis=1)
            for unit, row in enumerate(about["similar"]):
                cosines = {
                    other: float(profile[unit] @ profile[other])
                    / float(np.linalg.norm(profile[unit]) * np.linalg.norm(profile[other]))
                    for other in range(len(profile)) if other != unit
                }  # fmt: skip
                nearest = sorted(cosines, key=lambda other, known=cosines: -known[other])[:8]
                assert [u for u, _ in row] == nearest
                assert [c for _, c in row] == pytest.approx([cosines[u] for u in nearest], **ROUNDED)
            assert sorted(about["order"]) == list(range(len(profile)))
            for family in about["families"]:
                assert family["source"] in self.read(layer)
                assert len(set(family["units"])) == 6
            assert len(about["families"]) == (1 if len(profile) >= 6 else 0)

    def test_pages_of_units_have_them(self, atlas, weights):
        page = atlas.unit("blocks.1:3")
        assert [m.layer for m in page.inputs] == ["blocks.0", "stem"]
        assert np.array_equal(page.inputs[1].values, weights["stem", "blocks.1"].values[3])


def test_banding_is_that_of_the_network(atlas, net):
    truth = wa.banding(net, seed=0)
    about = atlas.document("banding.json")
    expected = json.loads(json.dumps(truth.to_dicts()))
    assert about["rows"] == [{k: None if v != v else v for k, v in row.items()} for row in expected]
    assert (about["seed"], about["permutations"]) == (0, truth.permutations)


def test_the_table_of_layers_and_the_graph_are_those_of_the_network(atlas, net):
    table = atlas.document("layers.json")
    assert table["layers"] == json.loads(net.layers.to_json())["layers"]
    assert atlas.document("graph.json")["nodes"] == json.loads(wa.layer_graph(net).to_json())["nodes"]
