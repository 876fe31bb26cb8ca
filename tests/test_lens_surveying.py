"""Statistics of units on many images: against numpy on all activations at once, and with processes that are killed."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from atlases import SIDE, images, opened, small
from PIL import Image
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.lens import box, cell, collection, crops, photos_from
from weightatlas.records import Provenance, Record

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = ["stem", "act", "blocks.0", "down", "head"]


def same(one, other, but=()):
    """Whether two records hold the same, bit by bit."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        equal = np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b
        if not equal and field.name not in but:
            return field.name
    return ""


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(scope="module")
def pictures():
    return images(21)


@pytest.fixture(scope="module")
def found(net, pictures):
    return wa.dataset_examples(net, pictures, LAYERS, k=4, batch=5)


@pytest.fixture
def parts_of_four(monkeypatch):
    monkeypatch.setattr(collection, "PART", 4)


class TestNumbers:
    def test_statistics_are_numpys(self, net, pictures, found):
        maps = wa.activations(net, pictures, LAYERS, batch=5)
        assert found.layers == tuple(LAYERS)
        for layer in LAYERS:
            values = maps[layer].astype(np.float64).transpose(1, 0, 2, 3).reshape(maps[layer].shape[1], -1)
            assert found.activations(layer) == values.shape[1]
            assert found.mean(layer) == pytest.approx(values.mean(1), rel=1e-9, abs=1e-12)
            assert found.deviation(layer) == pytest.approx(values.std(1), rel=1e-6)
            assert np.array_equal(found.rate(layer), (values > 0).mean(1))
            rows = found.rows(layer)
            assert np.array_equal(found.least[rows], values.min(1))
            assert np.array_equal(found.most[rows], values.max(1))
            for unit in range(len(values)):
                counts, edges = found.histogram_of(layer, unit)
                assert len(edges) == len(counts) + 1
                assert np.array_equal(counts, np.histogram(values[unit], edges)[0])
                assert counts[0] > 0 < counts[-1]
                assert counts.sum() == values.shape[1]
                assert (
                    64 < np.abs(edges).max() / found.steps[found.row(layer, unit)] <= 128
                )  # fine enough to see something

    def test_the_strongest_images_are_those_of_sorting_all(self, net, pictures, found):
        maps = wa.activations(net, pictures, LAYERS, batch=5)
        for layer in LAYERS:
            for unit in range(maps[layer].shape[1]):
                own = maps[layer][:, unit].reshape(21, -1)
                order = np.argsort(-own.max(1), kind="stable")[:4]
                best = found.best(layer, unit)
                assert [b.number for b in best] == order.tolist()
                for name, number, activation, at in best:
                    assert name == f"image {number}"
                    assert activation == own[number].max() == maps[layer][number, unit][at]

    @pytest.mark.parametrize("batch", [1, 2, 21, 64])
    def test_batches_change_nothing_but_rounding(self, net, pictures, found, batch):
        other = wa.dataset_examples(net, pictures, LAYERS, k=4, batch=batch)
        assert np.array_equal(other.count, found.count)
        assert np.array_equal(other.images, found.images)
        assert other.total == pytest.approx(found.total, rel=1e-6, abs=1e-4)
        assert np.abs(other.histogram - found.histogram).sum() <= 1e-3 * found.histogram.sum()

    def test_the_order_of_images_changes_nothing(self, net, pictures, found):
        """One at a time each comes to the same activations, and then to the same histogram exactly."""
        one, other = (wa.dataset_examples(net, p, "stem", batch=1) for p in (pictures, pictures[::-1].copy()))
        for name in ("histogram", "steps", "positive", "least", "most", "peaks"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name

    def test_nan_and_infinity(self):
        module = nn.Sequential(nn.Conv2d(3, 3, 1))
        with torch.no_grad():
            module[0].weight[:] = torch.tensor([[1.0, 0, 0], [torch.nan, 0, 0], [3e38, 3e38, 0]])[..., None, None]
            module[0].bias[:] = 0
        net = wa.load(module.eval(), input=wa.InputSpec(shape=(3, 2, 2)))
        inputs = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
        found = wa.dataset_examples(net, inputs, "0", k=2)
        assert found.nonfinite.tolist() == [[0, 0, 0], [8, 0, 0], [0, 0, 4]]
        assert found.best("0", 1) == []
        assert [b.number for b in found.best("0", 2)] == [0]
        assert np.isnan(found.mean("0")[1])
        assert np.isnan(found.deviation("0")).tolist() == [False, True, True]
        assert found.histogram.sum(1).tolist() == [8, 0, 4]
        assert found.histogram_of("0", 1)[0].tolist() == [0]

    def test_units_that_never_fire(self, pictures):
        net = small()
        with torch.no_grad():
            net.module.stem.weight[2], net.module.stem.bias[2] = 0, -1
        found = wa.dataset_examples(net, pictures[:3], ["stem", "act"])
        assert found.dead("act") == [2]
        assert found.rectified("act")
        assert found.rate("act")[2] == 0
        assert found.histogram_of("act", 2)[0].tolist() == [3 * SIDE * SIDE]
        assert not found.rectified("stem")  # below 0 is no death where that is usual
        assert found.dead("stem") == []

    def test_of_the_embedded_network(self, lite0, photos):
        layers = ["conv_stem", "blocks.4.1", "classifier"]
        found = wa.dataset_examples(lite0, list(photos.values()), layers, k=2, batch=1)
        maps = wa.activations(lite0, list(photos.values()), layers, batch=1)
        assert found.best("classifier", 285)[0].number == 0  # "Egyptian cat", of a cat, coffee and an astronaut
        for layer in layers:
            assert found.total[found.rows(layer)] == pytest.approx(
                maps[layer].sum((0, 2, 3), dtype=np.float64), rel=1e-9
            )
            assert np.array_equal(found.most[found.rows(layer)], maps[layer].max((0, 2, 3)))


class Items:
    """A data set that counts what is asked of it."""

    def __init__(self, make, count):
        self.make, self.count, self.asked = make, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        self.asked.append(number)
        return self.make(number)


class TestSources:
    def test_files_arrays_and_data_sets_come_to_the_same(self, net, pictures, found, tmp_path):
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
        inputs = net.preprocess(pictures)
        sources = {
            "folder": tmp_path,
            "arrays": Items(lambda i: pictures[i], 21),
            "pairs": Items(lambda i: (pictures[i], i % 3), 21),
            "pillow": Items(lambda i: Image.fromarray(pictures[i]), 21),
            "torch": torch.utils.data.TensorDataset(inputs, torch.arange(21)),
            "subset": torch.utils.data.Subset(torch.utils.data.TensorDataset(inputs), range(21)),
            "generator": (p for p in pictures),
            "pillow images": [Image.fromarray(p) for p in pictures],
        }
        for kind, source in sources.items():
            other = wa.dataset_examples(net, source, LAYERS, k=4, batch=5)
            assert same(other, found, but=("names", "digest", "provenance")) == "", kind
            assert other.names[3] == ("03.png" if kind == "folder" else "image 3")

    def test_items_are_asked_for_when_they_are_needed(self, net, pictures):
        source = Items(lambda i: pictures[i % 21], 100)
        photos = photos_from(net, source)
        assert len(set(source.asked)) == collection.LOOKED_AT  # to know them again
        source.asked.clear()
        wa.dataset_examples(net, photos, "stem", batch=7)
        assert source.asked == list(range(100))

    def test_large_arrays_are_not_turned_into_inputs_at_once(self, net, pictures, found, monkeypatch):
        monkeypatch.setattr(collection, "LARGE", 0)
        photos = photos_from(net, pictures)
        assert photos.inputs is None
        assert photos.digest == found.digest
        assert same(wa.dataset_examples(net, photos, LAYERS, k=4, batch=5), found) == ""

    def test_what_cannot_be_an_item(self, net, pictures):
        def failing(number):
            raise ZeroDivisionError("no such thing")

        generator = np.random.default_rng(0)
        for make, error, words in [
            (lambda i: {"image": pictures[i]}, ArgumentError, "image 0: it is dict, not an array"),
            (lambda i: "a.png", ArgumentError, "image 0: it is str"),
            (lambda i: pictures[i][..., :2], ArgumentError, "image 0: .*3 channels"),
            (lambda i: torch.from_numpy(pictures[i]), ArgumentError, "image 0: a tensor of images must be float"),
            (lambda i: torch.zeros(3, 4, 4), ArgumentError, "image 0: a tensor of images"),
            (failing, LoadError, "image 0 cannot be read: ZeroDivisionError: no such thing"),
            (lambda i: generator.random((SIDE, SIDE, 3)), ArgumentError, "other pixels each time"),
        ]:
            with pytest.raises(error, match=words):
                photos_from(net, Items(make, 9))
        with pytest.raises(ArgumentError, match="without items"):
            photos_from(net, Items(failing, 0))
        with pytest.raises(ArgumentError, match="image 1: a tensor of images must be float"):
            photos_from(net, [net.preprocess(pictures[:1]), torch.from_numpy(pictures[:1].transpose(0, 3, 1, 2))])

    def test_torchs_streams_are_iterables(self, net, pictures, found):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter(pictures)

        assert photos_from(net, Stream()).digest == found.digest

    def test_moving_pictures_are_noted(self, net, tmp_path):
        frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
        frames[1].save(tmp_path / "b.png")
        for result in (wa.dataset_examples(net, tmp_path, "stem"), wa.activations(net, tmp_path, "stem")):
            assert "of moving pictures the first frame is taken: a.png" in result.provenance.notes


class TestDamaged:
    @pytest.fixture
    def folder(self, tmp_path, pictures):
        for number, picture in enumerate(pictures[:9]):
            Image.fromarray(picture).save(tmp_path / f"{number}.png")
        whole = (tmp_path / "4.png").read_bytes()
        (tmp_path / "4.png").write_bytes(whole[: len(whole) // 2])
        return tmp_path

    def test_one_in_the_middle_is_named(self, net, folder):
        with pytest.raises(LoadError, match=r"4\.png cannot be read as an image"):
            wa.dataset_examples(net, folder, "stem")

    def test_or_left_out_and_listed(self, net, folder, pictures):
        (folder / "7.png").write_bytes(b"text")
        found = wa.dataset_examples(net, folder, LAYERS, k=3, batch=1, skip_damaged=True)
        notes = [n for n in found.provenance.notes if n.startswith("left out")]
        assert notes == [f"left out, as it cannot be read: {n}.png" for n in (4, 7)]
        kept = [0, 1, 2, 3, 5, 6, 8]
        truth = wa.dataset_examples(net, pictures[kept], LAYERS, k=3, batch=1)
        assert same(found, truth, but=("names", "digest", "provenance", "images", "done")) == ""
        assert np.array_equal(found.images, np.array(kept)[truth.images])  # numbers are those of the folder
        assert (found.done, len(found.names)) == (9, 9)

    def test_nothing_but_damage(self, net, tmp_path):
        for name in "ab":
            (tmp_path / f"{name}.png").write_bytes(b"text")
        with pytest.raises(LoadError, match=r"none of the 2 images can be read, the first being a\.png"):
            wa.dataset_examples(net, tmp_path, "stem", skip_damaged=True)


WORK = """
import sys, torch, weightatlas as wa
sys.path.insert(0, sys.argv[1])
from atlases import opened
torch.set_num_threads(1)
print("ready", flush=True)
wa.dataset_examples(opened(), sys.argv[2], ["stem", "blocks.0", "head"], k=4, batch=3, save=sys.argv[3], skip_damaged=True,
                    progress=lambda done, of: print(done, flush=True))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 pictures, one of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    for number, picture in enumerate(np.random.default_rng(0).integers(0, 256, (200, 30, 25, 3), np.uint8)):
        Image.fromarray(picture).save(folder / f"{number:03}.bmp")
    (folder / "010.bmp").write_bytes(b"BM")
    return folder


class TestGoingOn:
    def test_after_sigkill_as_if_nothing_had_happened(self, net, many, tmp_path):
        layers, save = ["stem", "blocks.0", "head"], tmp_path / "survey.npz"
        truth = wa.dataset_examples(net, many, layers, k=4, batch=3, skip_damaged=True)
        command = [sys.executable, "-c", WORK, os.path.dirname(__file__), many, save]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if save.exists() and int(line) % 64 > 6:  # in the middle of a part
                break
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        stopped = wa.DatasetExamples.load(save)
        assert 64 <= stopped.done < 200
        assert not stopped.complete
        assert "DatasetExamples" in repr(stopped)
        told = []
        found = wa.dataset_examples(
            net, many, layers, k=4, batch=3, save=save, skip_damaged=True, progress=lambda *n: told.append(n)
        )
        assert told[0][0] == stopped.done + 3
        assert same(found, truth) == ""
        assert same(wa.DatasetExamples.load(save), truth) == ""
        assert [p.name for p in tmp_path.iterdir()] == ["survey.npz"]

    @pytest.mark.usefixtures("parts_of_four")
    @pytest.mark.parametrize("ending", ["npz", "safetensors"])
    def test_wherever_it_is_interrupted(self, net, pictures, tmp_path, ending):
        save = tmp_path / f"survey.{ending}"
        truth = wa.dataset_examples(net, pictures, LAYERS, k=4, batch=3)
        for end in (1, 6, 12, 21):

            def stop(done, of, end=end):
                if done >= end:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                wa.dataset_examples(net, pictures, LAYERS, k=4, batch=3, save=save, progress=stop)
        found = wa.dataset_examples(net, pictures, LAYERS, k=4, batch=3, save=save)
        assert same(found, truth) == ""

    def test_a_complete_file_is_returned_without_running(self, net, pictures, tmp_path):
        save = tmp_path / "survey.npz"
        found = wa.dataset_examples(net, pictures, "stem", save=save)
        began, ran = save.stat().st_mtime_ns, []
        handle = net.module.stem.register_forward_hook(lambda *_: ran.append(1))
        again = wa.dataset_examples(net, pictures, "stem", save=save)
        handle.remove()
        assert not ran
        assert same(again, found) == ""
        assert save.stat().st_mtime_ns == began

    def test_a_file_of_something_else_is_refused(self, net, pictures, tmp_path):
        save = tmp_path / "survey.npz"
        wa.dataset_examples(net, pictures, ["stem", "act"], k=3, save=save)
        before = save.read_bytes()
        stretched = dataclasses.replace(net.input, mean=0.4)
        other_input = wa.load(net.module, input=stretched)
        for arguments, words in [
            ((net, pictures[1:], ["stem", "act"], 3), r"other images \([0-9a-f]{12} there, [0-9a-f]{12} here\)"),
            ((small(1), pictures, ["stem", "act"], 3), "other weights"),
            ((net, pictures, ["act", "stem"], 3), r"other layers \(stem, act there, act, stem here\)"),
            ((net, pictures, ["stem", "act"], 4), r"other k \(3 there, 4 here\)"),
            ((other_input, net.preprocess(pictures), ["stem", "act"], 3), r"other input \(InputSpec.*mean=\(0.5.*0.4"),
            ((net, pictures[1:], ["stem"], 4), "other images .*, layers .*, k "),
        ]:
            with pytest.raises(ArgumentError, match=f"survey.npz is of {words}") as raised:
                wa.dataset_examples(*arguments, save=save)
            assert "give another file as save=, or remove it" in str(raised.value)
        assert save.read_bytes() == before

    def test_places_that_cannot_be_written_are_told_first(self, net, pictures, tmp_path):
        (tmp_path / "text.npz").write_text("no record")
        wa.activations(net, pictures[:1], "stem").save(tmp_path / "other.npz")
        (tmp_path / "folder.npz").mkdir()
        ran = []
        handle = net.module.stem.register_forward_hook(lambda *_: ran.append(1))
        for name, error, words in [
            ("a.txt", ArgumentError, r"ending in \.npz or \.safetensors"),
            ("text.npz", LoadError, "not a record"),
            ("other.npz", LoadError, "holds Activations, not DatasetExamples"),
            ("folder.npz", LoadError, "could not write"),
            ("text.npz/deeper.npz", LoadError, "could not write"),
        ]:
            with pytest.raises(error, match=words):
                wa.dataset_examples(net, pictures, "stem", save=tmp_path / name)
        handle.remove()
        assert not ran

    @pytest.mark.usefixtures("parts_of_four")
    def test_writing_takes_no_more_than_its_share(self, net, pictures, tmp_path, monkeypatch):
        clock, saves, save = [0.0], [], Record.save
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])

        def slow(self, path):
            clock[0] += 3
            saves.append(self.done)
            return save(self, path)

        def tick(done, of):
            clock[0] += 10

        monkeypatch.setattr(Record, "save", slow)
        wa.dataset_examples(net, pictures, "stem", batch=4, save=tmp_path / "s.npz", progress=tick)
        assert saves == [4, 16, 21]  # 3 s of writing are paid for by 30 s of work; and the end


class TestRecord:
    def test_files(self, found, tmp_path):
        for ending in ("npz", "safetensors"):
            assert same(wa.DatasetExamples.load(found.save(tmp_path / f"e.{ending}")), found) == ""

    def test_names_and_units(self, found):
        assert repr(found) == "DatasetExamples(30 units of stem, act, blocks.0 and 2 more on 21 images)"
        for call, words in [
            (lambda: found.mean("stm"), "nearest: 'stem'"),
            (lambda: found.best("stem", 6), "has no unit 6; its units are 0 … 5"),
            (lambda: found.histogram_of("head", -1), "has no unit -1"),
        ]:
            with pytest.raises(UnknownNameError, match=words):
                call()
        with pytest.raises(ArgumentError, match="does not fit"):
            dataclasses.replace(found, total=found.total[1:])

    def test_refusals(self, net, pictures):
        for arguments, options, words in [
            ((None, "stem"), {}, "images=None"),
            ((pictures, []), {}, "give a layer's name"),
            ((pictures, "stem", 0), {}, "k=0"),
            ((pictures, "stem"), {"batch": 2.5}, "batch=2.5"),
            ((pictures, "stem"), {"progress": 3}, "cannot be called"),
        ]:
            with pytest.raises(ArgumentError, match=words):
                wa.dataset_examples(net, *arguments, **options)
        with pytest.raises(UnknownNameError, match="nearest: 'stem'"):
            wa.dataset_examples(net, pictures, "stm")


class TestCrops:
    def test_they_hold_what_the_strongest_position_sees(self, net, pictures, found):
        for layer, least in (("stem", 0), ("stem", 9), ("down", 0)):
            for unit in range(3):
                cut = crops(net, pictures, found, layer, unit, least=least)
                assert len(cut) == 4
                for crop, best in zip(cut, found.best(layer, unit), strict=True):
                    top, left, bottom, right = box(net.layers[layer], best.at, (SIDE, SIDE), least)
                    assert crop.dtype == np.uint8
                    assert np.array_equal(crop, pictures[best.number][top:bottom, left:right])

    def test_positions_are_known_in_crops_that_do_not_tell_them(self, net):
        layer = net.layers["down"]
        field = layer.receptive_field
        size = (round(field.size[0]), round(field.size[1]) + 3)
        centre = [round((size[a] / 2 - field.size[a] / 2 - field.offset[a]) / field.stride[a]) for a in (0, 1)]
        for dy, dx in ((0, 0), (1, 0), (0, -1)):
            place, grid = (centre[0] + dy, centre[1] + dx), size
            assert cell(layer, place, (SIDE * 9, SIDE * 9), 0) == ()
            top, left, bottom, right = box(layer, place, grid, 0)
            y, x, high, wide = cell(layer, place, grid, 0)
            middle = [place[a] * field.stride[a] + field.offset[a] + field.size[a] / 2 for a in (0, 1)]
            assert top + (y + high / 2) * (bottom - top) == pytest.approx(middle[0])
            assert left + (x + wide / 2) * (right - left) == pytest.approx(middle[1])
            assert (high * (bottom - top), wide * (right - left)) == pytest.approx(field.stride)

    def test_outside_of_them_nothing_matters(self, net, pictures, found):
        """The receptive field is enough for the same activation, whatever the rest of the image is."""
        for unit in range(5):
            best = found.best("down", unit)[0]
            top, left, bottom, right = box(net.layers["down"], best.at, (SIDE, SIDE), 0)
            other = pictures[:1].copy()
            other[0, top:bottom, left:right] = pictures[best.number, top:bottom, left:right]
            again = wa.activations(net, other, "down")["down"][0, unit]
            assert again[best.at] == pytest.approx(best.activation, abs=1e-4)

    def test_whole_images_where_everything_is_seen(self, net, pictures, found):
        assert [c.shape for c in crops(net, pictures, found, "head", 0)] == [(SIDE, SIDE, 3)] * 4

    def test_other_images_and_weights_are_refused(self, net, pictures, found):
        with pytest.raises(ArgumentError, match=r"are of 21 images with the hash .*, but 20 with the hash"):
            crops(net, pictures[1:], found, "stem", 0)
        with pytest.raises(ArgumentError, match="but none came in"):
            crops(net, None, found, "stem", 0)
        with pytest.raises(ArgumentError, match="of other weights"):
            crops(small(1), pictures, found, "stem", 0)
        with pytest.raises(UnknownNameError):
            crops(net, pictures, found, "blocks.1", 0)
        signals = wa.load(nn.Sequential(nn.Conv1d(2, 3, 3)), input=wa.InputSpec(shape=(2, 9)))
        with pytest.raises(ArgumentError, match="no images to cut"):
            crops(signals, torch.randn(2, 2, 9), wa.dataset_examples(signals, torch.randn(2, 2, 9), "0"), "0", 0)
        assert found.provenance != Provenance()
