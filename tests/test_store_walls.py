"""Walls: every unit's picture is where its document says, and sheets are made again when pictures have changed."""

import numpy as np
import pytest

from weightatlas.errors import StoreError
from weightatlas.store import Listing, open_files, walls
from weightatlas.store.layout import picture_path, wall_path
from weightatlas.store.pictures import decoded, encoded
from weightatlas.store.sealing import parsed
from weightatlas.store.walls import TILE, derive_wall

LAYER, RECIPE = "relu#2", "quick"


def colour(unit):
    return [(unit * 37) % 256, (unit * 91) % 256, (unit * 53) % 256]


class Counted:
    """Files that tell what was written and removed."""

    def __init__(self, name):
        self.files = open_files(f"memory://walls/{name}")
        self.written, self.removed = [], []
        write, remove = self.files.write, self.files.remove
        self.files.write = lambda path, data: (self.written.append(path), write(path, data))
        self.files.remove = lambda path: (self.removed.append(path), remove(path))

    def picture(self, unit, side=TILE, more=None):
        about = {"layer": LAYER, "unit": unit, "reached": 2.0 + unit, "viewed": 1.0, "alive": unit != 5}
        pixels = np.full((side, side, 3), colour(unit), np.uint8)
        self.files.write(picture_path(LAYER, RECIPE, unit), encoded(pixels, {**about, **(more or {})}))

    def wall(self, units):
        self.written.clear()
        return derive_wall(self.files, Listing(self.files.sizes()), LAYER, RECIPE, units)


@pytest.fixture
def atlas(request):
    return Counted(request.node.name)


def tile(atlas, wall, place):
    """The middle of a unit's tile, found as a reader of the format finds it; at its edge colours run, as WebP does it."""
    sheet = wall["sheets"][place // wall["on_one"]]
    pixels = decoded(atlas.files.read(sheet), sheet)[0]
    row, column = divmod(place % wall["on_one"], wall["columns"])
    size, edge = wall["tile"], 16
    assert pixels.shape[0] >= (row + 1) * size
    assert pixels.shape[1] >= (column + 1) * size
    rows, columns = (slice(n * size + edge, (n + 1) * size - edge) for n in (row, column))
    return pixels[rows, columns].astype(np.int64)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_every_unit_is_where_its_document_says(atlas, count, monkeypatch):
    monkeypatch.setattr(walls, "COLUMNS", 2)
    monkeypatch.setattr(walls, "ON_ONE", 4)
    units = [n * 3 for n in range(count)]
    for unit in units:
        atlas.picture(unit)
    wall = atlas.wall(units)
    assert wall["units"] == units
    assert wall["sheets"] == [wall_path(LAYER, RECIPE, f"{n}.webp") for n in range(-(-count // 4))]
    for place, unit in enumerate(units):
        assert np.abs(tile(atlas, wall, place) - colour(unit)).max() < 12, unit
    for number, sheet in enumerate(wall["sheets"]):
        about = decoded(atlas.files.read(sheet), sheet)[1]
        assert about == {"what": "wall", "layer": LAYER, "recipe": RECIPE, "number": number}


def test_it_tells_the_numbers_that_go_with_each(atlas):
    for unit in (0, 2, 5):
        atlas.picture(unit)
    atlas.picture(7, more={"reached": [4.0, 9], "viewed": [3.0, 1], "alive": [True, False]})
    atlas.picture(8, more={"reached": None, "viewed": None})
    atlas.picture(9, more={"reached": 0.0})
    wall = atlas.wall([0, 2, 3, 5, 7, 8, 9])
    assert wall["reached"] == [2, 4, None, 7, 4, None, 0]
    assert wall["kept"] == [0.5, 0.25, None, 0.143, 0.75, None, None]
    assert wall["alive"] == [True, True, None, False, True, True, True]
    assert wall["missing"] == [3]
    assert (wall["layer"], wall["recipe"], wall["tile"], wall["columns"]) == (LAYER, RECIPE, 64, 7)
    path = wall_path(LAYER, RECIPE, "wall.json")
    assert parsed(atlas.files.read(path), path) == wall
    assert np.abs(tile(atlas, wall, 2) - 255).max() < 6  # white without a picture


def test_pictures_of_other_sizes_are_fitted(atlas):
    atlas.picture(1, side=200)
    atlas.picture(2, side=20)
    wall = atlas.wall([1, 2])
    for place, unit in enumerate([1, 2]):
        assert np.abs(tile(atlas, wall, place) - colour(unit)).max() < 12


def test_nothing_is_made_again_while_nothing_changes(atlas):
    for unit in (0, 1):
        atlas.picture(unit)
    first = atlas.wall([0, 1, 2])
    assert atlas.written == [wall_path(LAYER, RECIPE, "0.webp"), wall_path(LAYER, RECIPE, "wall.json")]
    assert atlas.wall([0, 1, 2]) == first
    assert atlas.written == []


@pytest.mark.parametrize("change", ["more", "fewer", "another size", "other units", "no sheet", "no document"])
def test_sheets_are_made_again_when_pictures_have_changed(atlas, change):
    for unit in (0, 1):
        atlas.picture(unit)
    atlas.wall([0, 1, 2])
    units = [0, 1] if change == "other units" else [0, 1, 2]
    if change == "more":
        atlas.picture(2)
    elif change == "fewer":
        atlas.files.remove(picture_path(LAYER, RECIPE, 1))
    elif change == "another size":
        atlas.picture(1, side=9)
    elif change != "other units":
        atlas.files.remove(wall_path(LAYER, RECIPE, "0.webp" if change == "no sheet" else "wall.json"))
    wall = atlas.wall(units)
    assert atlas.written == [wall_path(LAYER, RECIPE, "0.webp"), wall_path(LAYER, RECIPE, "wall.json")]
    assert wall["missing"] == {"more": [], "fewer": [1, 2], "other units": []}.get(change, [2])


def test_sheets_that_are_no_longer_needed_go(atlas, monkeypatch):
    monkeypatch.setattr(walls, "ON_ONE", 2)
    for unit in range(5):
        atlas.picture(unit)
    other = wall_path(LAYER, "quick2", "0.webp")
    atlas.files.write(other, b"of another recipe")
    assert len(atlas.wall(range(5))["sheets"]) == 3
    atlas.removed.clear()
    assert len(atlas.wall(range(2))["sheets"]) == 1
    assert atlas.removed == [wall_path(LAYER, RECIPE, f"{n}.webp") for n in (1, 2)]
    assert atlas.files.exists(other)


def test_the_document_comes_after_its_sheets(atlas, monkeypatch):
    """A build that is killed between them finds that the sheets are not those of the document."""
    atlas.picture(0)
    atlas.wall([0, 1])
    atlas.picture(1)
    write, path = atlas.files.write, wall_path(LAYER, RECIPE, "wall.json")

    def die(at, data):
        if at == path:
            raise KeyboardInterrupt
        write(at, data)

    monkeypatch.setattr(atlas.files, "write", die)
    with pytest.raises(KeyboardInterrupt):
        atlas.wall([0, 1])
    monkeypatch.setattr(atlas.files, "write", write)
    assert parsed(atlas.files.read(path), path)["missing"] == [1]
    wall = atlas.wall([0, 1])
    assert wall["missing"] == []
    assert np.abs(tile(atlas, wall, 1) - colour(1)).max() < 12


def test_the_listing_learns_what_was_written(atlas):
    atlas.picture(0)
    listing = Listing(atlas.files.sizes())
    derive_wall(atlas.files, listing, LAYER, RECIPE, [0])
    assert listing.sizes == atlas.files.sizes()


def test_a_damaged_picture_or_document_is_named(atlas):
    atlas.picture(0)
    atlas.wall([0])
    path = wall_path(LAYER, RECIPE, "wall.json")
    whole = atlas.files.read(path)
    atlas.files.write(path, whole[:-1])
    with pytest.raises(StoreError, match=r"wall\.json is damaged"):
        atlas.wall([0])
    atlas.files.write(path, whole)
    picture = picture_path(LAYER, RECIPE, 0)
    atlas.files.write(picture, atlas.files.read(picture)[:-1])
    with pytest.raises(StoreError, match=r"quick/0\.webp is damaged"):
        atlas.wall([0])
