"""Pictures of an atlas: WebP that anything opens, with the numbers that say how far to trust it inside."""

import io
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import ODD

from weightatlas.errors import ArgumentError, StoreError
from weightatlas.records import Provenance
from weightatlas.store import LocalFiles
from weightatlas.store.layout import picture_path
from weightatlas.store.pictures import (
    DESCRIPTION,
    MOST_PIXELS,
    decoded,
    encoded,
    first_number,
    mosaic,
    read_pictures,
    scaled,
    tiles_of,
    told,
)
from weightatlas.store.sealing import KEY, UNSEALED, sealed

ABOUT = {
    "what": "unit", "layer": ODD, "unit": 3, "reached": 1.5, "viewed": None, "begun": -0.25, "alive": True, "seed": str(2**62),
    "tries": 2, "settings": {"name": "display", "steps": 512}, "view": [30, 40], "notes": ["one", ODD], "model": ODD,
    "weights_hash": "ab" * 32, "weightatlas": "9.9",
}  # fmt: skip


def smooth(h=24, w=32, seed=0):
    """A picture without edges, of which a lossy format keeps nearly all."""
    y, x = np.mgrid[0:h, 0:w]
    planes = [np.sin((y + seed) / 9), np.cos(x / 7 + seed), np.sin((x + y) / 11)]
    return ((np.stack(planes, -1) + 1) * 127).astype(np.uint8)


def test_pil_opens_it_and_finds_the_numbers_as_json():
    data = encoded(smooth(), ABOUT)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, image.mode) == ("WEBP", (32, 24), "RGB")
    assert np.abs(np.asarray(image, np.int64) - smooth()).mean() < 4
    about = json.loads(image.getexif()[DESCRIPTION])
    assert len(about.pop(KEY)) == 64
    assert about == ABOUT


def test_it_comes_back_with_what_it_says():
    pixels, about = decoded(encoded(smooth(), ABOUT), "x")
    assert (pixels.dtype, pixels.shape, about) == (np.uint8, (24, 32, 3), ABOUT)
    assert np.abs(pixels.astype(np.int64) - smooth()).mean() < 4
    assert told(encoded(smooth(), ABOUT), "x") == ABOUT


def test_equal_pictures_make_equal_files():
    assert encoded(smooth(), ABOUT) == encoded(np.asfortranarray(smooth()), dict(ABOUT))
    assert encoded(smooth(), ABOUT) != encoded(smooth(seed=1), ABOUT)


def test_views_are_written_as_they_look():
    base = smooth(30, 20)
    assert encoded(base[::-1, 3:], {}) == encoded(base[::-1, 3:].copy(), {})


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=lambda p: f"{p.dtype}{p.shape}",
)
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ArgumentError, match=r"a picture is uint8 \[H, W, 3\], not"):
        encoded(pixels, {})


def test_the_largest_that_webp_holds():
    pixels = np.zeros((1, MOST_PIXELS, 3), np.uint8)
    assert decoded(encoded(pixels, {}), "x")[0].shape == pixels.shape
    with pytest.raises(ArgumentError, match=r"\(1, 16384\) pixels is larger than the 16383"):
        encoded(np.zeros((1, MOST_PIXELS + 1, 3), np.uint8), {})


def test_numbers_that_json_has_not_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            encoded(smooth(), {"reached": value})


def other_pictures():
    """Pictures that others made: of another format, without a word, with words of their own."""
    image, found = Image.fromarray(smooth()), {}
    exif = Image.Exif()
    exif[DESCRIPTION] = f'{{"{KEY}": "{UNSEALED}"}}'
    for kind, more in (("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("WEBP sealed", {"exif": exif.tobytes()})):
        buffer = io.BytesIO()
        image.save(buffer, kind.split()[0], **more)
        found[kind] = buffer.getvalue()
    found["WEBP sealed"] = sealed(found["WEBP sealed"])
    exif[DESCRIPTION] = f'[{{"{KEY}": "{UNSEALED}"}}]'
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", exif=exif.tobytes())
    found["a list"] = sealed(buffer.getvalue())
    found["sealed text"] = sealed(f'{{"{KEY}": "{UNSEALED}"}}'.encode())
    found["empty"] = b""
    return found


@pytest.mark.parametrize("kind", [k for k in other_pictures() if k != "WEBP sealed"])
def test_other_files_in_its_place_are_told_as_damage(kind):
    data = other_pictures()[kind]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for read in (decoded, told):
            with pytest.raises(StoreError, match=r"images/a/quick/3\.webp is damaged: .*--repair"):
                read(data, "images/a/quick/3.webp")
    assert seen == []


def test_a_sealed_picture_of_others_says_nothing_of_itself():
    assert told(other_pictures()["WEBP sealed"], "x") == {}


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), columns=st.integers(1, 5), h=st.integers(1, 6), w=st.integers(1, 6))
def test_tiles_of_a_mosaic_are_where_they_were_put(count, columns, h, w):
    tiles = [np.full((h, w, 3), [n, n * 20, 255 - n], np.uint8) for n in range(count)]
    whole = mosaic(tiles, columns)
    rows = -(-count // columns)
    assert whole.shape == (rows * h, columns * w, 3)
    for y in range(rows * h):
        for x in range(columns * w):
            place = y // h * columns + x // w
            assert whole[y, x].tolist() == ([place, place * 20, 255 - place] if place < count else [255] * 3)
    for one, other in zip(tiles_of(whole, count, columns), tiles, strict=True):
        assert np.array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 40), w=st.integers(1, 40), side=st.integers(1, 50))
def test_scaled_pictures_keep_their_proportions_in_the_middle_of_white(h, w, side):
    found = scaled(np.zeros((h, w, 3), np.uint8), side)
    assert (found.shape, found.dtype) == ((side, side, 3), np.uint8)
    black = found[..., 0] == 0
    assert set(np.unique(found)) <= {0, 255}
    rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
    assert black[np.ix_(rows, columns)].all()
    assert max(len(rows), len(columns)) == side
    assert abs(len(rows) - side * h / max(h, w)) <= 1
    assert abs(len(columns) - side * w / max(h, w)) <= 1
    for places in (rows, columns):  # as much white before as behind
        assert abs(places[0] - (side - 1 - places[-1])) <= 1


def test_a_picture_of_the_right_size_is_not_touched():
    pixels = smooth(17, 17)
    assert np.array_equal(scaled(pixels, 17), pixels)
    assert np.array_equal(scaled(pixels[:, :9], 17)[:, 4:13], pixels[:, :9])


def test_a_picture_that_is_shrunk_is_the_mean_of_its_pixels():
    pixels = smooth(64, 64)
    means = pixels.reshape(8, 8, 8, 8, 3).mean((1, 3))
    assert np.abs(scaled(pixels, 8) - means).mean() < 4
    assert np.abs(pixels[::8, ::8] - means).mean() > 16  # single pixels are not


def kept(folder, **changes):
    files = LocalFiles(folder)
    for unit in (0, 3, 12):
        about = {**ABOUT, "unit": unit, "reached": unit / 2, "seed": str(2**62 + unit), **changes}
        files.write(picture_path(ODD, "display", unit), encoded(smooth(24 + unit, 32, unit), about))
    return files


def test_pictures_come_back_as_a_record(tmp_path):
    found = read_pictures(kept(tmp_path), ODD, "display", [12, 0])
    assert (found.layer, found.labels, found.units.tolist()) == (ODD, (f"{ODD}:12", f"{ODD}:0"), [12, 0])
    assert found.images.shape == (2, 36, 32, 3)
    assert np.abs(found.image(12).astype(np.int64) - smooth(36, 32, 12)).mean() < 4
    assert (found.image(0)[24:] == 255).all()  # smaller ones lie on white
    assert found.reached.tolist() == [6, 0]
    assert np.isnan(found.viewed).all()
    assert (found.begun.tolist(), found.alive.tolist(), found.tries.tolist()) == ([-0.25] * 2, [True] * 2, [2] * 2)
    assert found.seeds.tolist() == [2**62 + 12, 2**62]
    assert (found.recipe, found.view) == ({"name": "display", "steps": 512}, (30, 40))
    assert found.provenance == Provenance(ODD, "ab" * 32, "9.9", ("one", ODD))


def test_the_numbers_of_a_mosaic_are_those_of_its_first_tile(tmp_path):
    lists = {
        "reached": [2.5, 9],
        "alive": [False, True],
        "viewed": [None, 1],
        "begun": [],
        "seed": ["7", "8"],
        "tries": [1, 3],
    }
    found = read_pictures(kept(tmp_path, **lists), ODD, "display", [3])
    assert (found.reached[0], found.alive[0], found.seeds[0], found.tries[0]) == (2.5, False, 7, 1)
    assert np.isnan([found.viewed[0], found.begun[0]]).all()
    assert [first_number(v) for v in ([4, 5], [], 6, None)] == [4, None, 6, None]


def test_pictures_that_were_not_rendered_are_not_called_failures(tmp_path):
    """Crops of images reach nothing and cannot come to nothing."""
    files = LocalFiles(tmp_path)
    about = {"what": "examples", "layer": "a", "unit": 0, "model": "net", "weights_hash": "ab" * 32}
    files.write(picture_path("a", "examples", 0), encoded(smooth(), about))
    found = read_pictures(files, "a", "examples", [0])
    assert found.alive.tolist() == [True]
    assert "without a result" not in repr(found)
    assert found.recipe == {"name": "examples"}
    assert np.isnan(found.reached).all()


def test_a_missing_or_damaged_picture_is_named(tmp_path):
    files = kept(tmp_path)
    with pytest.raises(StoreError, match=r"there is no images/.*/display/4\.webp in"):
        read_pictures(files, ODD, "display", [3, 4])
    path = picture_path(ODD, "display", 3)
    files.write(path, files.read(path)[:-1])
    with pytest.raises(StoreError, match=r"images/.*/display/3\.webp is damaged"):
        read_pictures(files, ODD, "display", [0, 3])
