"""What a build makes of images: statistics of units, the crops that excite them most, and what becomes of the images."""

import numpy as np
import pytest
import torch
from atlases import built, images, small
from PIL import Image
from torch import nn

import weightatlas as wa
from weightatlas.errors import LoadError, StoreError
from weightatlas.lens import collection, photos_from
from weightatlas.store import layout
from weightatlas.store.pictures import decoded, tiles_of

pytestmark = pytest.mark.usefixtures("one_thread")
LATER = {"layers": ["0", "5"], "recipes": [], "only": ["weights", "agreement", "examples"]}
ROUNDED = {"rel": 6e-4, "abs": 1e-9}


def deep():
    """Layers whose positions see 3, 14 and 30 pixels of a picture that is larger than a crop."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4),
        nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 3, 5, padding=2),
    ).eval()  # fmt: skip
    return wa.load(module, input=wa.InputSpec(shape=(3, 64, 56), mean=0.5, std=0.5))


def patterns(count=12):
    """Smooth coloured images, so that what WebP loses is small."""
    generator = np.random.default_rng(3)
    small_ones = generator.integers(0, 256, (count, 7, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(i).resize((56, 64), Image.Resampling.BICUBIC)) for i in small_ones])


def outputs(net, layer, batch):
    found = []
    handle = net.module.get_submodule(layer).register_forward_hook(lambda m, a, out: found.append(out.clone()))
    with torch.no_grad():
        net.module(batch)
    handle.remove()
    values = found[0].double().numpy()
    return values if values.ndim == 4 else values[..., None, None]


def seen_by(net, layer, place):
    """Top, left, bottom, right of the pixels that a position of a layer reads, as autograd tells."""
    x = torch.rand(1, *net.input.shape, requires_grad=True)
    total = torch.zeros(())

    def keep(module, args, out):
        nonlocal total
        total = out[0, :, place[0], place[1]].sum()

    relus = [m for m in net.module.modules() if isinstance(m, nn.ReLU | nn.MaxPool2d)]
    handles = [net.module.get_submodule(layer).register_forward_hook(keep)]
    # what pooling and activations let pass depends on values; averages and identities let everything pass
    for module in relus:
        pool = isinstance(module, nn.MaxPool2d)
        handles.append(
            module.register_forward_hook(
                lambda m, a, out, pool=pool: nn.functional.avg_pool2d(a[0], 4) if pool else a[0] * 1
            )
        )
        if not pool:
            module.inplace = False
    net.module(x)
    for handle in handles:
        handle.remove()
    for module in relus:
        if isinstance(module, nn.ReLU):
            module.inplace = True
    rows, columns = np.nonzero(torch.autograd.grad(total, x)[0].abs().sum((0, 1)).numpy())
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.fixture(scope="module")
def deep_atlas(tmp_path_factory):
    net = deep()
    folder = tmp_path_factory.mktemp("deep")
    atlas = wa.build(net, folder, images=patterns(), layers=["0", "3", "5"], recipes=[], only="examples")
    return net, atlas


class TestStatistics:
    def test_they_are_those_of_a_naive_loop(self, deep_atlas):
        net, atlas = deep_atlas
        batch = net.preprocess(patterns())
        for layer in ("0", "3", "5"):
            values = outputs(net, layer, batch)
            about = atlas.document(layout.layer_path(layer, "activations"))
            assert about["activations"] == values.size // values.shape[1]
            for unit in range(values.shape[1]):
                own = values[:, unit].ravel().tolist()
                mean = sum(own) / len(own)
                truth = {
                    "mean": mean, "deviation": (sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5,
                    "rate": sum(v > 0 for v in own) / len(own), "least": min(own), "most": max(own),
                }  # fmt: skip
                for name, expected in truth.items():
                    assert about[name][unit] == pytest.approx(expected, **ROUNDED), (layer, unit, name)
            assert layer != "0" or min(about["least"]) < 0  # before an activation wrote over them
            assert about["dead"] == []
            assert about["images"] == {"count": 12, "hash": about["images"]["hash"]}
            assert atlas.unit(f"{layer}:1").activations == {n: about[n][1] for n in truth}

    @pytest.mark.slow
    def test_units_that_never_fire_are_named(self, tmp_path):
        net = deep()
        with torch.no_grad():
            net.module[0].weight[2] = 0
            net.module[0].bias[2] = -1
        atlas = wa.build(net, tmp_path, images=patterns(3), layers=["1", "5"], recipes=[], only="examples")
        assert atlas.document(layout.layer_path("1", "activations"))["dead"] == [2]
        assert atlas.document(layout.layer_path("5", "activations"))["dead"] == []  # not rectified: below 0 is no death


class TestExamples:
    def test_they_are_the_strongest_images_in_order(self, deep_atlas):
        net, atlas = deep_atlas
        batch = net.preprocess(patterns())
        for layer in ("0", "3", "5"):
            values = outputs(net, layer, batch)
            for unit in range(values.shape[1]):
                path = layout.picture_path(layer, "examples", unit)
                told = decoded(atlas.files.read(path), path)[1]["examples"]
                order = sorted(range(12), key=lambda i, v=values, u=unit: -v[i, u].max())[:9]
                assert [t["number"] for t in told] == order
                assert [t["image"] for t in told] == [f"image {i}" for i in order]
                for one in told:
                    own = values[one["number"], unit]
                    assert own[tuple(one["at"])] == own.max()
                    assert one["activation"] == pytest.approx(own.max(), **ROUNDED)

    def test_crops_hold_what_the_strongest_position_sees(self, deep_atlas):
        net, atlas = deep_atlas
        wide = {"0": (24, 24), "3": (24, 24), "5": (30, 30)}  # 3 and 14 pixels are made wide enough to see something
        within = 0
        for layer, size in wide.items():
            for unit in range(3):
                path = layout.picture_path(layer, "examples", unit)
                pixels, about = decoded(atlas.files.read(path), path)
                for one, tile in zip(about["examples"], tiles_of(pixels, 9, about["columns"]), strict=True):
                    top, left, bottom, right = one["box"]
                    seen = seen_by(net, layer, one["at"])
                    assert top <= seen[0]
                    assert left <= seen[1]
                    assert bottom >= seen[2]
                    assert right >= seen[3]
                    if top > 0 and left > 0 and bottom < 64 and right < 56:
                        within += 1
                        assert (bottom - top, right - left) == size
                        assert abs((top + bottom) - (seen[0] + seen[2])) <= 1  # in the middle
                        assert abs((left + right) - (seen[1] + seen[3])) <= 1
                    cut = patterns()[one["number"]][top:bottom, left:right]
                    scale = 96 / max(cut.shape[:2])
                    small_one = Image.fromarray(cut).resize(
                        (round(cut.shape[1] * scale), round(cut.shape[0] * scale)), Image.Resampling.BICUBIC
                    )
                    h, w = small_one.height, small_one.width
                    shown = tile[(96 - h) // 2 : (96 - h) // 2 + h, (96 - w) // 2 : (96 - w) // 2 + w]
                    error = np.abs(np.asarray(small_one).astype(float) - shown)[4:-4, 4:-4].mean()
                    assert error < 8, (layer, unit)
        assert within >= 5

    def test_a_layer_that_sees_everything_shows_whole_images(self):
        atlas = wa.Atlas(built()[0])
        path = layout.picture_path("head", "examples", 0)
        pixels, about = decoded(atlas.files.read(path), path)
        assert [one["box"] for one in about["examples"]] == [[0, 0, 20, 20]] * 5
        assert pixels.shape == (2 * 96, 3 * 96, 3)  # five of nine

    def test_examples_of_a_layer_of_few_units(self):
        about = wa.Atlas(built()[0]).layer("stem")["pictures"]["examples"]
        assert about["wanted"] == about["made"] == [[0, 3]]


@pytest.mark.slow
class TestParts:
    @pytest.fixture
    def _parts_of_two(self, monkeypatch):
        monkeypatch.setattr(collection, "PART", 2)

    @pytest.mark.usefixtures("_parts_of_two")
    def test_images_in_many_parts_come_to_the_same(self, deep_atlas, tmp_path):
        net, whole = deep_atlas
        told = []
        more = {"images": patterns(), "layers": ["0", "3", "5"], "recipes": [], "only": "examples"}
        atlas = wa.build(net, tmp_path, progress=told.append, **more)
        assert sum(e.event == "finished" and e.job.startswith("activations ") for e in told) == 6 + 3
        for layer in ("0", "3", "5"):
            path = layout.layer_path(layer, "activations")
            assert atlas.document(path) == whole.document(path)
            for unit in range(3):
                path = layout.picture_path(layer, "examples", unit)
                assert atlas.files.read(path) == whole.files.read(path)
        assert not [p for p in atlas.files.sizes() if p.startswith("activations/")]  # nothing reads them any more

    @pytest.mark.usefixtures("_parts_of_two")
    def test_parts_that_were_made_are_kept_until_all_is_made(self, tmp_path):
        net, stopped = deep(), []

        def stop_in_the_third(event):
            if event.event == "finished" and event.kind == "examples":
                stopped.append(event.job)
                if len(stopped) == 2:
                    raise KeyboardInterrupt

        more = {"layers": ["0", "3"], "recipes": [], "only": ["examples"]}
        with pytest.raises(KeyboardInterrupt):
            wa.build(net, tmp_path, images=patterns(), progress=stop_in_the_third, **more)
        wa.build(net, tmp_path, only="banding")  # without images there is nothing to go on with
        again = []
        wa.build(net, tmp_path, images=patterns(), progress=again.append, **more)
        begun = [e.job for e in again if e.event == "started" and e.job.startswith("activations ")]
        assert len(begun) == 4 + 2  # of six parts, and the two layers
        assert not set(stopped) & set(begun)


class TestSources:
    @pytest.mark.slow
    def test_files_and_arrays_give_the_same_numbers(self, deep_atlas, tmp_path):
        net, whole = deep_atlas
        for number, image in enumerate(patterns()):
            Image.fromarray(image).save(tmp_path / f"{number:02}.png")
        more = {"layers": ["0", "3", "5"], "recipes": [], "only": "examples"}
        for number, source in enumerate([tmp_path, (image for image in patterns()), net.preprocess(patterns())]):
            atlas = wa.build(net, tmp_path / f"atlas{number}", images=source, **more)
            for layer in ("0", "3", "5"):
                path = layout.layer_path(layer, "activations")
                found, truth = atlas.document(path), whole.document(path)
                assert {**found, "images": 0} == {**truth, "images": 0}
            path = layout.picture_path("5", "examples", 1)
            told = decoded(atlas.files.read(path), path)[1]["examples"]
            name = f"{told[0]['number']:02}.png" if number == 0 else f"image {told[0]['number']}"
            assert told[0]["image"] == name

    def test_what_is_no_image_is_told_before_anything_is_begun(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "a.png").write_bytes(b"text")
        with pytest.raises(LoadError, match=r"a\.png cannot be read as an image"):
            wa.build(deep(), tmp_path / "atlas", images=tmp_path / "images")
        assert not (tmp_path / "atlas").exists()

    def test_hidden_files_are_none_and_files_of_one_size_are_told_apart(self, tmp_path):
        for number, image in enumerate(patterns(2)):
            Image.fromarray(image).save(tmp_path / f"{number}.bmp")
        first = photos_from(deep(), tmp_path)
        (tmp_path / ".2.bmp").write_bytes(b"text")
        (tmp_path / ".thumbs").mkdir()
        (tmp_path / ".thumbs" / "3.bmp").write_bytes(b"text")
        assert photos_from(deep(), tmp_path) == first
        Image.fromarray(255 - patterns(2)[1]).save(tmp_path / "1.bmp")
        other = photos_from(deep(), tmp_path)
        assert (len(other), other.names) == (2, first.names)
        assert other.digest != first.digest

    @pytest.mark.slow
    def test_an_image_that_ends_early_fails_what_reads_it_and_nothing_else(self, tmp_path):
        (tmp_path / "images").mkdir()
        for number, image in enumerate(patterns(3)):
            Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        broken = tmp_path / "images" / "1.png"
        broken.write_bytes(broken.read_bytes()[:500])
        told, more = [], {"images": tmp_path / "images", "layers": ["0", "5"], "recipes": []}
        with pytest.raises(LoadError, match=r"1\.png cannot be read as an image"):
            wa.build(deep(), tmp_path / "gates", **more)  # all weights would be read by it
        assert not (tmp_path / "gates").exists()
        atlas = wa.build(deep(), tmp_path / "atlas", gate="identity", progress=told.append, **more)
        failures = {f["job"]: f for f in atlas.manifest["failures"]}
        assert failures
        assert len(set(atlas.coverage["weights"])) == 1  # all of them
        for failure in failures.values():
            assert "1.png cannot be read" in failure["error"]
            assert failure["attempts"] <= 1  # it would end early again
            if not failure["job"].startswith(("activations", "agreement")):
                assert failure["error"].startswith("it reads what ")
        assert not [e for e in told if e.event == "retried"]
        assert atlas.document("banding.json")["rows"]


@pytest.mark.slow
class TestLater:
    """Images that come, go and change between builds."""

    def test_an_atlas_begun_without_images_takes_them_later_but_keeps_its_gates(self, tmp_path):
        net = deep()
        before = wa.build(net, tmp_path, **LATER)
        assert before.manifest["images"] is None
        assert before.pair("0", "5")["agreement"] == before.layer("0")["activations"] == "not measured"
        values = before.weights("0", "5").values
        atlas = wa.build(net, tmp_path, images=patterns(4), **LATER)
        assert atlas.manifest["gates"]["measured"] is False
        assert np.array_equal(atlas.weights("0", "5").values, values)
        assert atlas.layer("0")["activations"] is True
        assert atlas.agreement("0", "5") is not None
        assert atlas.coverage["pictures"]["examples"] == [7, 7]

    def test_without_the_images_nothing_that_was_made_from_them_is_lost(self, tmp_path):
        net = deep()
        first = wa.build(net, tmp_path, images=patterns(4), **LATER)
        again = wa.build(net, tmp_path, only="weights")
        assert again.coverage == first.coverage
        assert again.manifest["images"] == first.manifest["images"]

    def test_what_waits_for_the_images_is_told_while_they_are_away(self, tmp_path):
        net, notes = deep(), []

        def listen(event):
            if event.event == "planned":
                notes.append(event.numbers["notes"])

        wa.build(net, tmp_path, images=patterns(4), progress=listen, **{**LATER, "only": "weights"})
        wa.build(net, tmp_path, progress=listen)
        wa.build(net, tmp_path, images=patterns(4), progress=listen)
        wa.build(net, tmp_path, progress=listen)
        assert [len(n) for n in notes] == [0, 1, 0, 0]
        assert "give them again with images=" in notes[1][0]
        assert wa.Atlas(tmp_path).manifest["notes"] == []

    def test_other_images_are_refused_with_both_hashes_until_all_is_measured_again(self, tmp_path):
        net = deep()
        first = wa.build(net, tmp_path, images=patterns(4), **LATER)
        before = first.agreement("0", "5").cosine.tolist()
        hashes = first.manifest["images"]["hash"], collection.photos_from(net, patterns(5)).digest
        with pytest.raises(StoreError, match=f"{hashes[0][:12]} .*{hashes[1][:12]}"):
            wa.build(net, tmp_path, images=patterns(5), **LATER)
        assert wa.Atlas(tmp_path).manifest == first.manifest
        more = {**LATER, "only": ["agreement", "examples"], "force": True}
        atlas = wa.build(net, tmp_path, images=patterns(5), **more)
        assert atlas.manifest["images"] == {"count": 5, "hash": hashes[1]}
        assert atlas.agreement("0", "5").cosine.tolist() != before
        assert np.array_equal(atlas.weights("0", "5").values, first.weights("0", "5").values)
        for layer in ("0", "5"):
            assert atlas.document(layout.layer_path(layer, "activations"))["images"]["count"] == 5
            path = layout.picture_path(layer, "examples", 0)
            assert len(decoded(atlas.files.read(path), path)[1]["examples"]) == 5
        assert wa.build(net, tmp_path, images=patterns(5)).manifest["images"]["count"] == 5


@pytest.mark.slow
def test_an_image_set_of_more_than_are_needed_is_spread_over(tmp_path):
    """Gates come from 256 of them at most, agreement from 16, evenly over all."""
    net = small()
    many = np.concatenate([images(5)] * 60)
    atlas = wa.build(net, tmp_path, images=many, layers=["stem", "blocks.0"], recipes=[], only=["agreement"])
    rows = np.linspace(0, 299, 256).round().astype(int)
    wa.measure(net, many[rows])
    truth = wa.expanded_weights(net, "stem", "blocks.0", skip="exclude")
    assert np.array_equal(atlas.weights("stem", "blocks.0").values, truth.values)
    rows = np.linspace(0, 299, 16).round().astype(int)
    gradient = wa.expected_gradient(net, "stem", "blocks.0", many[rows], skip="exclude", samples=32, seed=0)
    expected = wa.agreement(truth, gradient, skip="exclude").cosine
    assert atlas.agreement("stem", "blocks.0").cosine == pytest.approx(expected, **ROUNDED)
