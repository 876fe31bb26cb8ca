"""What lies where: every path says what it is, whatever layers are called, and nothing else is taken for ours."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_store_names import NAMES

from weightatlas.store import layout
from weightatlas.store.layout import Place, place_of

UNITS = st.integers(0, 10**8)
RECIPES = st.sampled_from(
    ["quick", "display", "max", "own-0a1b2c3d", "display.positions", "own-0a1b2c3d.factors", "examples"]
)
ARRAYS = st.sampled_from(["values", "outgoing_maps", "y", "skip_first"])


def inside(group):
    """Files of a group, and what they are."""
    return st.one_of(
        st.just((f"{group}/zarr.json", "group")),
        ARRAYS.map(lambda a: (f"{group}/{a}/zarr.json", "array")),
        st.builds(lambda a, n, z: (f"{group}/{a}/c.{n}" + ".0" * z, "array"), ARRAYS, UNITS, st.integers(0, 3)),
    )


@settings(max_examples=80, deadline=None)
@given(NAMES, NAMES, NAMES, st.data())
@example("..", "a/../b", "con", None)
def test_files_of_groups_are_told_from_their_paths(target, source, middle, data):
    def drawn(group):
        return data.draw(inside(group)) if data else (f"{group}/zarr.json", "group")

    group = layout.weights_path(target, source)
    path, kind = drawn(group)
    assert place_of(path) == Place(kind, group=group, layer=target, source=source)
    group = layout.paths_path(target, source, middle)
    path, kind = drawn(group)
    assert place_of(path) == Place(kind, group=group, layer=target, source=source, middle=middle)
    path, kind = drawn("statistics")
    assert place_of(path) == Place(kind, group="statistics")
    group = layout.part_path("0123abcd", 7)
    path, kind = drawn(group)
    assert place_of(path) == Place(kind, group=group)


@settings(max_examples=80, deadline=None)
@given(NAMES, NAMES, UNITS)
@example("top", "factors", 3)
def test_documents_are_told_from_their_paths(layer, source, unit):
    for name in ("top", "agreement", "factors"):
        place = place_of(layout.connections_path(layer, source, name))
        assert place == Place("document", document=name, layer=layer, source=source)
    place = place_of(layout.connections_path(layer, source, f"factors/{unit}"))
    assert place == Place("document", document="unit factors", layer=layer, source=source, unit=unit)
    for name in ("units", "activations"):
        assert place_of(layout.layer_path(layer, name)) == Place("document", document=name, layer=layer)


@settings(max_examples=80, deadline=None)
@given(NAMES, RECIPES, st.none() | NAMES, UNITS, st.integers(0, 99))
def test_pictures_and_walls_are_told_from_their_paths(layer, recipe, source, unit, sheet):
    folder = layout.recipe_folder(recipe, source)
    about = {"layer": layer, "recipe": folder, "source": source or ""}
    assert place_of(layout.picture_path(layer, folder, unit)) == Place("picture", unit=unit, **about)
    assert place_of(layout.wall_path(layer, folder, "wall.json")) == Place("document", document="wall", **about)
    assert place_of(layout.wall_path(layer, folder, f"{sheet}.webp")) == Place("wall", unit=sheet, **about)


@pytest.mark.parametrize("name", ["model", "atlas", "layers", "graph", "banding", "edges"])
def test_documents_of_the_whole_network(name):
    assert place_of(f"{name}.json") == Place("document", document=name)


def test_the_file_of_people_is_of_its_own_kind():
    assert place_of("families.json") == Place("families")


@settings(max_examples=120, deadline=None)
@given(NAMES, NAMES, NAMES, RECIPES, UNITS)
def test_no_two_things_share_a_path(one, other, third, recipe, unit):
    """With names in every order; a folder of one is no file of another either."""
    names = list(dict.fromkeys((one, other, third)))
    paths = []
    for a in names:
        paths += [layout.layer_path(a, "units"), layout.picture_path(a, recipe, unit)]
        paths += [layout.wall_path(a, recipe, "0.webp"), layout.wall_path(a, recipe, "wall.json")]
        for b in names:
            paths += [layout.connections_path(a, b, n) for n in ("top", "factors", f"factors/{unit}")]
            paths.append(f"{layout.weights_path(a, b)}/zarr.json")
            paths.append(layout.picture_path(a, layout.recipe_folder("own-1.positions", b), unit))
            paths += [f"{layout.paths_path(a, b, c)}/zarr.json" for c in names]
    assert len(set(paths)) == len(paths)
    folders = {p.rpartition("/")[0] for p in paths}
    folders |= {"/".join(f.split("/")[: n + 1]) for f in folders for n in range(f.count("/"))}
    assert not folders & set(paths)


FOREIGN = [
    "", "/", ".", "notes.txt", ".DS_Store", "Thumbs.db", ".lock", "model.json~", "Model.json", "model.json/x", "x/model.json",
    "weights", "weights/", "weights/a", "weights/a/b", "weights/a/zarr.json", "weights/A/b/zarr.json", "weights//b/zarr.json",
    "weights/a/b/notes.txt", "weights/a/b/values", "weights/a/b/values/notes.txt", "weights/a/b/values/c.x", "weights/a/b/values/c",
    "weights/a/b/values/c.0/x", "weights/a/b/values/c/0/0", "weights/a/b/.DS_Store", "weights/a/b/values/c.01.0", "weights/../b/zarr.json",
    "weights/a/b/values/zarr.json.bak", "weights/a/b/Values/zarr.json", "weights/a/b/x/y/zarr.json",
    "paths/a/b/zarr.json", "paths/a/b/c/d", "connections/a/b/top", "connections/a/b/top.json.gz", "connections/a/top.json",
    "connections/a/b/others.json", "connections/a/b/factors/x.json", "connections/a/b/factors/01.json",
    "connections/a/b/factors/-1.json", "connections/a/b/factors/1.json/2", "connections/a/b/top/1.json", "connections/a/b/units.json",
    "layers/a/top.json", "layers/units.json", "layers/a/b/units.json", "layers/a~/units.json", "layers/\udcff/units.json",
    "images/a/quick/3.png", "images/a/quick/x.webp", "images/a/quick/03.webp", "images/a/quick/3.webp/x", "images/a/3.webp",
    "images/a/Quick/3.webp", "images/a/quick@/3.webp", "images/a/quick@B/3.webp", "images/a/quick@a~/3.webp", "images/a/a.b.c/3.webp",
    "images/a/quick/1234567890.webp", "images/a/quick/٣.webp", "walls/a/quick/wall.json.old", "walls/a/quick/x.webp", "walls/a/wall.json",
    "activations", "activations/x", "activations/x/zarr.json", "activations/0123abcd-0/zarr.json", "activations/0123ABCD-00000/zarr.json",
    "statistics", "statistics/x", "statistics/notes/readme.md", "families.json/x", "other/a/b/zarr.json",
]  # fmt: skip


@pytest.mark.parametrize("path", FOREIGN, ids=ascii)
def test_what_is_none_of_ours_is_foreign(path):
    assert place_of(path) == Place("foreign")


WORDS = st.sampled_from(
    ["weights", "paths", "connections", "layers", "images", "walls", "statistics", "activations", "a", "a~", "b.c", "~a", "..", "",
     "quick", "own-1.positions@a", "top.json", "factors", "3.json", "3.webp", "zarr.json", "values", "c.0.0", "wall.json", "units.json",
     "0123abcd-00001", "model.json", "\udcff", "é", "A", "@"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=7).map("/".join), st.text(max_size=30)))
def test_any_path_is_something_and_what_is_ours_has_one_way_to_be_written(path):
    """Nothing raises, and a path that is understood is the very one that the layout gives for it."""
    found = place_of(path)
    if found.kind in ("document", "families") and not found.layer:
        assert path == f"{found.document or 'families'}.json"
    elif found.kind == "document":
        writers = {
            "wall": lambda p: layout.wall_path(p.layer, p.recipe, "wall.json"),
            "unit factors": lambda p: layout.connections_path(p.layer, p.source, f"factors/{p.unit}"),
            "units": lambda p: layout.layer_path(p.layer, "units"),
            "activations": lambda p: layout.layer_path(p.layer, "activations"),
        }
        write = writers.get(found.document, lambda p: layout.connections_path(p.layer, p.source, p.document))
        assert path == write(found)
    elif found.kind == "picture":
        assert path == layout.picture_path(found.layer, found.recipe, found.unit)
    elif found.kind == "wall":
        assert path == layout.wall_path(found.layer, found.recipe, f"{found.unit}.webp")
    elif found.kind in ("group", "array"):
        assert path.startswith(f"{found.group}/")
    else:
        assert found == Place("foreign")


def test_what_a_killed_build_leaves_is_known():
    left = [".atlas.json.0123456789abcdef", ".probe.0000000000000000", "..probe.0000000000000000.0123456789abcdef",
            "weights/a/b/.zarr.json.0123456789abcdef"]  # fmt: skip
    assert all(map(layout.is_unfinished, left))
    assert not any(
        map(layout.is_unfinished, ["notes/.mine.0123456789abcdef", ".mine.txt.0123456789abcdef", "atlas.json"])
    )
