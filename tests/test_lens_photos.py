"""Collections of images: the same whether they come as files, arrays, a tensor or one by one; their order and hash."""

import numpy as np
import pytest
import torch
from atlases import SIDE, images, opened
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError
from weightatlas.lens import Photos, photos_from
from weightatlas.lens.collection import PART

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture
def folder(tmp_path):
    """The images as files, in an order that is not that of their making, some in folders below."""
    for number, name in [(2, "c.png"), (0, "a.png"), (4, "z/d.PNG"), (3, "z/b.png"), (1, "b.png")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images()[number]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def pixels(net, photos, rows=None):
    return photos.tensor(net, range(len(photos)) if rows is None else rows).numpy()


class TestSources:
    def test_all_kinds_hold_the_same_pixels(self, net, folder):
        truth = net.preprocess(images()).numpy()
        given_ = {
            "array": images(),
            "list": list(images()),
            "generator": (image for image in images()),
            "tensor": net.preprocess(images()),
            "tensors": iter(net.preprocess(images())),
            "batches": [net.preprocess(images()[:2]), net.preprocess(images()[2:])],
            "folder": folder,
            "text": str(folder),
            "files": [folder / n for n in ("a.png", "b.png", "c.png", "z/b.png", "z/d.PNG")],
            "both": [folder / "a.png", str(folder / "b.png"), folder / "c.png", folder / "z"],
        }
        for kind, source in given_.items():
            photos = photos_from(net, source)
            assert len(photos) == 5, kind
            assert np.array_equal(pixels(net, photos), truth), kind
            assert np.array_equal(pixels(net, photos, [3, 1]), truth[[3, 1]]), kind

    def test_images_of_any_size_are_fitted_as_the_network_wants_them(self, net, tmp_path):
        large = np.random.default_rng(2).integers(0, 256, (45, 31, 3), np.uint8)
        Image.fromarray(large).save(tmp_path / "large.png")
        truth = net.preprocess([large]).numpy()
        assert np.array_equal(pixels(net, photos_from(net, tmp_path)), truth)
        assert np.array_equal(pixels(net, photos_from(net, [large])), truth)

    def test_files_are_read_when_they_are_needed(self, net, folder):
        photos = photos_from(net, folder)
        assert photos.inputs is None
        (folder / "b.png").write_bytes(b"no longer an image")
        assert pixels(net, photos, [0]).shape == (1, 3, SIDE, SIDE)
        with pytest.raises(LoadError, match=r"b\.png cannot be read"):
            photos.tensor(net, [1])

    def test_names_do_not_tell_where_files_lie(self, net, folder):
        photos = photos_from(net, [folder, folder / "c.png"])
        assert photos.names == ("a.png", "b.png", "c.png", "z/b.png", "z/d.PNG", "c.png")
        assert photos_from(net, images(2)).names == ("image 0", "image 1")

    def test_grey_images_for_a_network_of_one_channel(self, tmp_path):
        grey = wa.load(nn.Sequential(nn.Conv2d(1, 2, 3)), input=wa.InputSpec(shape=(1, 8, 8)))
        values = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(values).save(tmp_path / "grey.png")
        assert np.array_equal(
            pixels(grey, photos_from(grey, tmp_path)), pixels(grey, photos_from(grey, [values[..., None]]))
        )


class TestHash:
    def test_it_is_that_of_names_and_sizes_or_of_pixels(self, net, folder, tmp_path_factory):
        digest = photos_from(net, folder).digest
        elsewhere = tmp_path_factory.mktemp("copy")
        for path in folder.rglob("*.*"):
            place = elsewhere / path.relative_to(folder)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(path.read_bytes())
        assert photos_from(net, elsewhere).digest == digest
        with (elsewhere / "a.png").open("ab") as file:
            file.write(b" ")
        assert photos_from(net, elsewhere).digest != digest
        assert (
            photos_from(net, [folder / "a.png", folder / "b.png"]).digest
            != photos_from(net, [folder / "b.png", folder / "a.png"]).digest
        )
        kinds = [images(), list(images()), net.preprocess(images())]
        assert len({photos_from(net, kind).digest for kind in kinds}) == 1
        other = images()
        other[4, 3, 2, 1] ^= 1
        assert photos_from(net, other).digest != photos_from(net, images()).digest
        assert photos_from(net, images()).to_dict() == {"count": 5, "hash": photos_from(net, images()).digest}


class TestParts:
    @given(count=st.integers(1, 1000), most=st.integers(1, 300))
    def test_some_are_spread_evenly_over_all(self, count, most):
        rows = Photos(("x",) * count, "").spread(most)
        assert len(rows) == len(set(rows)) == min(most, count)
        assert rows == sorted(rows)
        assert rows[0] >= 0
        assert rows[-1] == (count - 1 if len(rows) > 1 else 0)
        if len(rows) > 1:
            steps = np.diff(rows)
            assert steps.max() - steps.min() <= 1

    @given(count=st.integers(1, 5 * PART + 1))
    def test_parts_hold_each_image_once_in_order(self, count):
        parts = Photos(("x",) * count, "").parts
        assert [i for part in parts for i in part] == list(range(count))
        assert all(len(part) == PART for part in parts[:-1])


class TestRefusals:
    def test_nothing_is_no_images(self, net, tmp_path):
        assert photos_from(net, None) is None
        for wrong, words in [
            ([], "holds no image"),
            (iter([]), "holds no image"),
            (3, "no files, folders or arrays"),
            (tmp_path, "holds no images"),
            (tmp_path / "nowhere.png", "there is no file or folder"),
            ([tmp_path / "nowhere.png", images()[0]], "mixes files with arrays"),
            (images()[0], r"not \[N, H, W, C\]"),
            (images().astype(np.int64), "uint8 or float"),
            (torch.zeros(2, 3, 5, 5), "must be float"),
            ([images()[0][..., :2]], "3 channels"),
            (torch.full((1, 3, SIDE, SIDE), torch.nan), "NaN"),
        ]:
            with pytest.raises(ArgumentError, match=words):
                photos_from(net, wrong)

    def test_networks_that_take_no_files(self, tmp_path):
        Image.fromarray(images()[0]).save(tmp_path / "a.png")
        for shape in ((5, 8, 8), (12,)):
            made = nn.Conv2d(5, 2, 3) if len(shape) == 3 else nn.Linear(12, 2)
            net = wa.load(nn.Sequential(made), input=wa.InputSpec(shape=shape))
            with pytest.raises(ArgumentError, match="give its inputs as a tensor"):
                photos_from(net, tmp_path)
            tensor = torch.randn(3, *shape)
            assert np.array_equal(pixels(net, photos_from(net, tensor)), tensor.numpy())
            assert np.array_equal(pixels(net, photos_from(net, iter(tensor))), tensor.numpy())
