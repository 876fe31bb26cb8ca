"""An atlas, opened: every number it gives is that of the network, and every wrong name is told with the right ones."""

import dataclasses
import html.parser
import json
import os
import shutil

import numpy as np
import pytest
import torch
from atlases import Builder, images, small
from planted import HOSTILE
from stored import POSITIONS, QUICK, copied, files, network, original, put

import weightatlas as wa
from weightatlas.errors import ArgumentError, StoreError, UnknownNameError
from weightatlas.records import strongest_targets
from weightatlas.store.layout import picture_path
from weightatlas.store.pictures import decoded, told
from weightatlas.store.sealing import document, parsed

LAYERS = ["stem", "blocks.0", "blocks.1", "down", "head"]


@pytest.fixture(scope="module")
def atlas():
    return wa.Atlas(original())


@pytest.fixture(scope="module")
def truth(one_thread):
    """The same network, measured on the same images, without an atlas."""
    net = small()
    wa.measure(net, images(2))
    kept = {}

    def weights(source, target):
        if (source, target) not in kept:
            kept[source, target] = wa.expanded_weights(net, source, target, skip="exclude")
        return kept[source, target]

    return weights


def pairs(atlas):
    return [(p["source"], p["target"]) for p in atlas.manifest["pairs"]]


class TestOfTheNetwork:
    def test_it_says_what_it_is_of(self, atlas):
        net = network()
        assert (atlas.model, atlas.weights_hash, atlas.where) == ("Small", net.weights_hash, str(original()))
        assert atlas.layers == LAYERS
        assert repr(atlas) == (
            "Atlas(Small: 5 layers, weights of 9 of 9 pairs, pictures: 10 of 10 examples, "
            f"10 of 10 {QUICK}, 8 of 8 {POSITIONS})"
        )
        for name in LAYERS:
            layer, known = net.layers[name], atlas.layer(name)
            assert (known["name"], known["units"], known["kind"]) == (name, layer.units, layer.kind)
            assert known["grid"] == (None if layer.grid is None else list(layer.grid))

    def test_weights_are_those_of_the_network(self, atlas, truth):
        assert len(pairs(atlas)) == 9
        for source, target in pairs(atlas):
            found, expected = atlas.weights(source, target), truth(source, target)
            for field in dataclasses.fields(expected):
                one, other = getattr(found, field.name), getattr(expected, field.name)
                same = np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other
                assert same, (source, target, field.name)
            assert not found.skip_included or found.skip is None

    def test_some_units_are_read_alone(self, atlas, truth):
        found = atlas.weights("blocks.1", "down", units=[6, 0])
        assert np.array_equal(found.values, truth("blocks.1", "down").values[[6, 0]])
        assert found.addresses == ["down:6", "down:0"]

    def test_agreement_is_what_was_measured(self, atlas):
        found = atlas.agreement("blocks.1", "down")
        known = json.loads(files()["connections/down/blocks.1/agreement.json"])
        assert (found.source, found.target, found.k, found.skip) == ("blocks.1", "down", known["k"], "exclude")
        assert np.allclose(found.cosine, known["cosine"])
        assert (found.overlap.tolist(), found.units.tolist()) == (known["overlap"], list(range(7)))
        assert found.mean_cosine == pytest.approx(known["mean_cosine"], abs=1e-4)
        # two convolutions with nothing between them are the network itself
        assert atlas.agreement("input", "stem").cosine.min() > 0.999

    def test_agreement_without_images_is_none(self, tmp_path):
        net = small()
        found = wa.build(net, tmp_path, layers=["stem", "down"], recipes=[], only="weights")
        assert found.agreement("input", "stem") is None
        assert found.unit("stem:0").inputs[0].cosine is None
        assert found.unit("stem:0").activations is None
        assert found.unit("stem:0").norm is None
        assert found.unit("stem:0").similar == ()


class TestUnit:
    @pytest.mark.parametrize("layer", LAYERS)
    def test_its_inputs_are_its_rows_of_all_weights(self, atlas, truth, layer):
        for unit in range(atlas.layer(layer)["units"]):
            page = atlas.unit(f"{layer}:{unit}")
            assert (page.layer, page.unit, page.address) == (layer, unit, f"{layer}:{unit}")
            assert {m.layer for m in page.inputs} == {s for s, t in pairs(atlas) if t == layer}
            spans = [m.pair["span"] for m in page.inputs]
            assert spans == sorted(spans)
            for maps in page.inputs:
                w = truth(maps.layer, layer)
                assert np.array_equal(maps.units, np.arange(w.source_units))
                h, wide = maps.pair["uniform"]
                whole = (
                    np.broadcast_to(maps.values, (len(maps.values), *w.values.shape[2:]))
                    if h * wide > 1
                    else maps.values
                )
                assert np.array_equal(whole, w.values[unit])
                top = w.top(unit, 3)
                strongest = np.argsort(-np.linalg.norm(whole.reshape(len(whole), -1), axis=1), kind="stable")
                assert maps.units[strongest[: len(top.sources)]].tolist() == top.sources.tolist()
                assert maps.cosine == pytest.approx(atlas.agreement(maps.layer, layer).cosine[unit], abs=1e-6)

    @pytest.mark.parametrize("layer", LAYERS)
    def test_its_outputs_are_what_it_acts_on_most(self, atlas, truth, layer):
        for unit in range(atlas.layer(layer)["units"]):
            page = atlas.unit(f"{layer}:{unit}")
            assert {m.layer for m in page.outputs} == {t for s, t in pairs(atlas) if s == layer}
            for maps in page.outputs:
                w = truth(layer, maps.layer)
                expected = strongest_targets(w)
                units = [u for u in expected.units[unit] if u >= 0]
                assert maps.units.tolist() == units
                assert maps.units.dtype == np.int64
                whole = (
                    np.broadcast_to(maps.values, (len(units), *w.values.shape[2:]))
                    if maps.pair["uniform"] != [1, 1]
                    else maps.values
                )
                assert np.array_equal(whole, w.values[units, unit])

    def test_a_grouped_layer_lists_the_units_of_its_own_group(self, tmp_path):
        torch.manual_seed(1)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 8, 3, groups=2)).eval()
        net = wa.load(module, input=wa.InputSpec(shape=(3, 12, 12)))
        found = wa.build(net, tmp_path, layers=["0", "1"], recipes=[], only=["weights", "units"])
        values = module[1].weight.detach().numpy()
        for unit in range(8):
            maps = found.unit(f"1:{unit}").inputs[0]
            assert maps.units.tolist() == [unit // 4 * 2, unit // 4 * 2 + 1]
            assert np.allclose(maps.values, values[unit], atol=1e-6)
        for unit in range(4):
            maps = found.unit(f"0:{unit}").outputs[0]
            assert sorted(maps.units.tolist()) == list(range(unit // 2 * 4, unit // 2 * 4 + 4))
            for target, values_ in zip(maps.units, maps.values, strict=True):
                assert np.allclose(values_, values[target, unit % 2], atol=1e-6)

    def test_its_norm_and_what_is_like_it(self, atlas, truth):
        for layer in LAYERS:
            direct = [
                truth(s, layer).dense().values for s, t in pairs(atlas) if t == layer and atlas.pair(s, t)["span"] == 1
            ]
            strengths = np.concatenate([np.linalg.norm(v.reshape(*v.shape[:2], -1), axis=2) for v in direct], axis=1)
            lengths = np.linalg.norm(strengths, axis=1)
            for unit in range(len(strengths)):
                page = atlas.unit(f"{layer}:{unit}")
                assert page.norm == pytest.approx(lengths[unit], rel=1e-3)
                cosines = strengths @ strengths[unit] / lengths / lengths[unit]
                assert page.similar
                assert [c for _, c in page.similar] == sorted((c for _, c in page.similar), reverse=True)
                for other, cosine in page.similar:
                    assert other != unit
                    assert cosine == pytest.approx(cosines[other], abs=1e-3)
                rest = set(range(len(strengths))) - {u for u, _ in page.similar} - {unit}
                assert all(cosines[r] <= page.similar[-1][1] + 1e-3 for r in rest)

    def test_its_activations_are_those_of_the_network_on_the_images(self, atlas):
        net, seen = network(), {}
        hooks = [
            net.module.get_submodule(n).register_forward_hook(lambda m, i, out, n=n: seen.__setitem__(n, out))
            for n in LAYERS
        ]
        with torch.no_grad():
            net.module(net.preprocess(images(2)))
        for hook in hooks:
            hook.remove()
        for layer in LAYERS:
            values = seen[layer].double().movedim(1, 0).flatten(1)
            for unit in range(len(values)):
                own, found = values[unit], atlas.unit(f"{layer}:{unit}").activations
                expected = {"mean": own.mean(), "deviation": own.std(unbiased=False), "rate": (own > 0).double().mean(),
                            "least": own.min(), "most": own.max()}  # fmt: skip
                assert found == {n: pytest.approx(float(v), rel=2e-3, abs=1e-5) for n, v in expected.items()}

    def test_its_pictures_are_files_that_say_whose_they_are(self, atlas):
        for layer in LAYERS:
            for unit in (0, 1, 2):
                paths = atlas.unit(f"{layer}:{unit}").pictures
                assert bool(paths) == (unit < 2)
                assert set(paths.values()) == {
                    p for p in files() if p.startswith(f"images/{layer}/") and p.endswith(f"/{unit}.webp")
                }
                for recipe, path in paths.items():
                    about = told(files()[path], path)
                    assert (about["layer"], about["unit"], about["recipe"]) == (layer, unit, recipe.partition("@")[0])

    def test_its_factors_are_its_own_where_there_are_several_positions(self, atlas):
        for source, target in pairs(atlas):
            for unit in (0, 4):
                maps = next(m for m in atlas.unit(f"{target}:{unit}").inputs if m.layer == source)
                path = f"connections/{target}/{source}/factors/{unit}.json"
                assert (maps.factors is not None) == (path in files())
                if maps.factors:
                    assert maps.factors == parsed(files()[path], path)
                    assert (maps.factors["unit"], maps.factors["source"]) == (unit, source)

    def test_it_takes_few_and_small_reads(self):
        own, read = wa.Atlas(original()), []
        real = own.files.read
        own.files.read = lambda path: (read.append(path), real(path))[1]
        own.unit("blocks.1:3")
        assert len(read) == len(set(read)) <= 20
        first = len(read)
        own.unit("blocks.1:4")
        for path in read[first:]:  # one file a pair, and what people may have written meanwhile
            name = path.split("/", 3)[-1]
            assert name in (
                "values/c.4.0.0.0",
                "outgoing_maps/c.4.0.0.0",
                "outgoing_units/c.0.0",
                "factors/4.json",
                "families.json",
            )


class TestPictures:
    def test_all_that_there_are(self, atlas):
        found = atlas.pictures("down")
        assert (found.units.tolist(), found.labels) == ([0, 1], ("down:0", "down:1"))
        for unit in (0, 1):
            path = picture_path("down", QUICK, unit)
            assert np.array_equal(found.image(unit), decoded(files()[path], path)[0])
        assert found.recipe["name"] == "tiny"
        assert found.provenance.weights_hash == network().weights_hash

    def test_some_of_a_recipe(self, atlas):
        found = atlas.pictures("down", f"{POSITIONS}@blocks.1", [1])
        assert found.units.tolist() == [1]
        assert atlas.pictures("down", "examples", [0]).images.shape[1] > 90

    def test_the_best_recipe_is_the_first_that_has_any(self, tmp_path):
        def with_recipes(**made):
            known = parsed(files()["atlas.json"], "")
            row = next(r for r in known["layers"] if r["name"] == "stem")
            row["pictures"] = {
                n.replace("_", "."): {"wanted": [[0, 1]], "made": m, "without_result": [], "wall": False}
                for n, m in made.items()
            }
            put(tmp_path, "atlas.json", document(known))
            return wa.Atlas(tmp_path)

        assert with_recipes(quick=[[0, 1]], display=[[1, 1]], max=[[0, 0]]).best_recipe("stem") == "display"
        assert with_recipes(quick=[[0, 1]], display=[], max=[[0, 0]]).best_recipe("stem") == "max"
        assert with_recipes(examples=[[0, 1]], display_negative=[[0, 1]], own=[[0, 0]]).best_recipe("stem") == "own"
        nothing = with_recipes(quick=[], examples=[[0, 1]])
        with pytest.raises(UnknownNameError, match="there are no pictures of 'stem' in this atlas yet"):
            nothing.best_recipe("stem")
        with pytest.raises(UnknownNameError, match="there is no quick picture of 'stem' in this atlas yet"):
            nothing.pictures("stem", "quick")

    def test_what_there_is_not_is_said(self, atlas):
        with pytest.raises(UnknownNameError, match=f"no recipe of 'down' in this atlas 'tiny'; there are: .*'{QUICK}'"):
            atlas.pictures("down", "tiny")
        with pytest.raises(UnknownNameError, match=f"there is no {QUICK} picture of down:5 in this atlas yet"):
            atlas.pictures("down", units=[0, 5])
        with pytest.raises(UnknownNameError, match="layer 'down' has no unit 7; its 7 units are 0 … 6"):
            atlas.pictures("down", units=[7])
        with pytest.raises(ArgumentError, match="no unit of layer 'down' was chosen"):
            atlas.pictures("down", units=[])
        with pytest.raises(UnknownNameError, match="nearest: 'down'"):
            atlas.pictures("dwn")


class TestWrongNames:
    def test_layers(self, atlas):
        for attempt in (
            lambda: atlas.layer("blocks.2"),
            lambda: atlas.unit("blocks.2:0"),
            lambda: atlas.weights("blocks.2", "down"),
            lambda: atlas.weights("stem", "blocks.2"),
            lambda: atlas.best_recipe("blocks.2"),
        ):
            with pytest.raises(UnknownNameError, match=r"no layer in the atlas of Small 'blocks\.2'; nearest: 'blocks"):
                attempt()
        with pytest.raises(UnknownNameError, match="no layer in the atlas of Small '3'"):
            atlas.layer(3)

    def test_pairs(self, atlas):
        words = (
            r"this atlas keeps no weights from 'stem' to 'down'; those to 'down' are from: 'blocks\.1', 'blocks\.0'\. "
            r"Build them with pairs=\[\('stem', 'down'\)\]"
        )
        for attempt in (atlas.pair, atlas.weights, atlas.agreement):
            with pytest.raises(UnknownNameError, match=words):
                attempt("stem", "down")
        with pytest.raises(UnknownNameError, match="from 'input' to 'down'"):
            atlas.pair("input", "down")
        with pytest.raises(UnknownNameError, match="those to 'input' are from: none"):
            atlas.pair("stem", "input")

    def test_units(self, atlas):
        with pytest.raises(UnknownNameError, match="layer 'stem' has no unit 6; its 6 units are 0 … 5"):
            atlas.unit("stem:6")
        with pytest.raises(UnknownNameError, match="layer 'stem' has no unit 999999999"):
            atlas.unit("stem:999999999")
        with pytest.raises(UnknownNameError, match="layer 'down' has no unit 7"):
            atlas.weights("blocks.1", "down", [7])

    @pytest.mark.parametrize("address", ["", "stem", "stem:", ":3", "stem:-1", "stem:1.5", "stem:x", "stem: 1", "stem:٣", 3, None,
                                         "stem:1234567890", "stem:1\n"], ids=ascii)  # fmt: skip
    def test_addresses(self, atlas, address):
        with pytest.raises(ArgumentError, match="is no address of a unit, such as 'stem:0'"):
            atlas.unit(address)

    def test_files(self, atlas):
        with pytest.raises(StoreError, match=r"there is no layers/none/units\.json in"):
            atlas.document("layers/none/units.json")
        with pytest.raises(StoreError, match=r"there is no weights/none/zarr\.json in"):
            atlas.group("weights/none")
        assert atlas.document("layers.json") is atlas.document("layers.json")
        assert atlas.group("statistics") is atlas.group("statistics")


class TestOpening:
    def test_what_is_no_atlas(self, tmp_path):
        for folder in (tmp_path, tmp_path / "gone"):
            with pytest.raises(StoreError, match=r"is no atlas: it has no atlas\.json \(weightatlas build MODEL -o "):
                wa.Atlas(folder)
        assert not (tmp_path / "gone").exists()
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match="is no atlas"):
            wa.Atlas(tmp_path / "file")
        for place in ("", None, 3):
            with pytest.raises(ArgumentError, match="an atlas lies in a folder or at a URL"):
                wa.Atlas(place)

    def test_an_atlas_that_was_only_begun(self, tmp_path):
        put(tmp_path, "model.json", files()["model.json"])
        with pytest.raises(StoreError, match="was begun but has no overview yet; build it again"):
            wa.Atlas(tmp_path)

    def test_a_damaged_overview(self, tmp_path):
        for data in (b"", b"{}", files()["atlas.json"][:-1]):
            put(tmp_path, "atlas.json", data)
            with pytest.raises(StoreError, match=r"atlas\.json is damaged: .*--repair"):
                wa.Atlas(tmp_path)
        for name in ("layers.json", "model.json"):  # whole, and of another kind
            put(tmp_path, "atlas.json", files()[name])
            with pytest.raises(
                StoreError, match=r"is no atlas: it says format None|it is the document 'model', not 'atlas'"
            ):
                wa.Atlas(tmp_path)

    def test_a_bucket(self):
        from weightatlas.store import open_files

        place = open_files("memory://opened/atlas")
        for path, data in files().items():
            place.write(path, data)
        atlas = wa.Atlas("memory://opened/atlas")
        assert np.array_equal(
            atlas.weights("blocks.1", "down").values, wa.Atlas(original()).weights("blocks.1", "down").values
        )
        assert atlas.unit("down:3").norm == wa.Atlas(place).unit("down:3").norm

    def test_a_missing_chunk_is_named_and_the_rest_is_read(self, tmp_path):
        folder = copied(tmp_path / "atlas")
        (folder / "weights/down/blocks.1/values/c.3.0.0.0").unlink()
        atlas = wa.Atlas(folder)
        with pytest.raises(StoreError, match=r"there is no weights/down/blocks\.1/values/c\.3\.0\.0\.0 in"):
            atlas.unit("down:3")
        with pytest.raises(StoreError, match=r"values/c\.3"):
            atlas.weights("blocks.1", "down")
        atlas.unit("down:2")
        atlas.weights("blocks.1", "down", [0, 6])

    def test_it_is_read_again_as_it_is_now(self, tmp_path):
        folder = copied(tmp_path / "atlas")
        atlas = wa.Atlas(folder)
        assert atlas.unit("down:0").inputs
        atlas.weights("blocks.1", "down", [0])
        atlas.document("layers.json")
        known = parsed(files()["atlas.json"], "")
        for pair in known["pairs"]:
            pair["made"] = False
        known["layers"] = known["layers"][:-1]
        put(folder, "atlas.json", document(known))
        put(folder, "layers.json", document({"layers": []}))
        assert atlas.layers == LAYERS
        assert atlas.refresh() is atlas
        assert atlas.layers == LAYERS[:-1]
        assert atlas.unit("down:0").inputs == ()
        assert atlas.document("layers.json") == {"layers": []}
        with pytest.raises(UnknownNameError, match="keeps no weights"):
            atlas.weights("blocks.1", "down")
        put(folder, "atlas.json", b"")
        with pytest.raises(StoreError, match="is damaged"):
            atlas.refresh()
        assert atlas.layers == LAYERS[:-1]  # what it knew, it knows

    def test_opening_reads_one_file(self):
        from weightatlas.store import LocalFiles

        place, read = LocalFiles(original()), []
        real = place.read
        place.read = lambda path: (read.append(path), real(path))[1]
        wa.Atlas(place)
        assert read == ["atlas.json"]


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not attrs

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n[:20]))
def test_hostile_names_are_shown_and_nothing_else(name, tmp_path):
    known = parsed(files()["atlas.json"], "")
    known["model"]["name"] = name
    known["coverage"]["pictures"] = {name: [1, 2]}
    put(tmp_path, "atlas.json", document(known))
    atlas = wa.Atlas(tmp_path)
    assert atlas.model == name
    shown = repr(atlas)
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1
    shown.encode()
    tags = Tags()
    page = atlas._repr_html_()
    page.encode()
    tags.feed(page)
    assert tags.tags == {"p", "code", "table", "tr", "td"}
    if name.isprintable():
        assert any(name in text for text in tags.text)
        assert name in shown


def test_a_notebook_shows_what_is_there(atlas):
    tags = Tags()
    tags.feed(atlas._repr_html_())
    text = " ".join(tags.text)
    assert f"Small, 5 layers in  {original()}" in text
    assert "weights 9 of 9" in text
    assert f"{QUICK} 10 of 10" in text


@pytest.mark.slow
def test_the_atlas_of_a_killed_build_opens_as_far_as_it_got(tmp_path):
    builder, opened = Builder("few"), 0
    try:
        for number in (60, 250, 326, 401):
            folder = tmp_path / str(number)
            builder.start(folder, tmp_path / f"log{number}", number)
            assert builder.wait() < 0
            if not (folder / "atlas.json").exists():
                with pytest.raises(StoreError, match="was begun but has no overview yet"):
                    wa.Atlas(folder)
                continue
            atlas, opened = wa.Atlas(folder), opened + 1
            made, wanted = atlas.coverage["weights"]
            assert 0 <= made <= wanted == 9
            for layer in atlas.layers:
                for unit in range(atlas.layer(layer)["units"]):
                    page = atlas.unit(f"{layer}:{unit}")
                    assert all(os.path.exists(folder / path) for path in page.pictures.values())
            for pair in atlas.manifest["pairs"]:
                if pair["made"]:
                    atlas.weights(pair["source"], pair["target"]).require_finite()
                else:
                    with pytest.raises(UnknownNameError):
                        atlas.weights(pair["source"], pair["target"])
            shutil.rmtree(folder)
    finally:
        builder.close()
    assert opened
