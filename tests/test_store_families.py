"""Families that people named: kept as they were written, replaced and dropped by name, never lost to damage."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import HOSTILE
from stored import build, copied

import weightatlas as wa
from weightatlas.errors import ArgumentError, StoreError, UnknownNameError
from weightatlas.store import families, open_files


@pytest.fixture
def place(request):
    return open_files(f"memory://families/{request.node.name}")


def row(name, layer="a", units=(0,)):
    return {"name": name, "layer": layer, "units": list(units), "by": "people"}


def test_they_are_kept_in_the_order_in_which_they_were_named(place):
    assert families.read(place) == []
    assert not place.exists("families.json")
    families.put(place, "curves", "a", [3, 1])
    assert families.put(place, "eyes", "b", [2]) == [row("curves", units=[3, 1]), row("eyes", "b", [2])]
    assert families.read(place) == [row("curves", units=[3, 1]), row("eyes", "b", [2])]
    assert json.loads(place.read("families.json"))["families"] == families.read(place)


def test_one_of_the_same_name_is_replaced(place):
    for layer, units in (("a", [1]), ("b", [2, 3])):
        families.put(place, "curves", layer, units)
    families.put(place, "Curves", "a", [1])
    assert families.read(place) == [row("curves", "b", [2, 3]), row("Curves", "a", [1])]


def test_one_that_is_dropped_is_gone(place):
    for name in ("a", "b", "c"):
        families.put(place, name, "a", [1])
    assert [r["name"] for r in families.drop(place, "b")] == ["a", "c"]
    assert [r["name"] for r in families.read(place)] == ["a", "c"]
    with pytest.raises(UnknownNameError, match="no family that was named 'b'; there are: 'a', 'c'"):
        families.drop(place, "b")
    families.drop(place, "a")
    assert families.drop(place, "c") == []
    with pytest.raises(UnknownNameError, match="there are none"):
        families.drop(place, "c")


def test_names_are_checked(place):
    for name in ("", " \t", "x" * 201, None, 3, b"x", ["x"]):
        with pytest.raises(ArgumentError, match="a family's name is 1 to 200 characters, not"):
            families.put(place, name, "a", [1])
    assert not place.exists("families.json")
    families.put(place, "x" * 200, "a", [1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
            st.text(),
            st.sets(st.integers(0, 99)),
        ),
        max_size=5,
    )
)
def test_any_names_come_back(rows):
    place = open_files("memory://families/any")
    place.remove("families.json")
    expected = {}
    for name, layer, units in rows:
        expected.pop(name, None)
        expected[name] = row(name, layer, sorted(units))
        families.put(place, name, layer, sorted(units))
    assert families.read(place) == list(expected.values())


@pytest.mark.parametrize("name", [n for n in HOSTILE if len(n) <= 200], ids=ascii)
def test_hostile_names_come_back(place, name):
    families.put(place, name, name, [1])
    assert families.read(place) == [row(name, name, [1])]
    assert place.read("families.json").isascii()


def test_what_people_wrote_by_hand_is_kept(place):
    """A note beside the units, or a date: the file is theirs."""
    own = {
        "families": [row("curves") | {"note": "seen in three networks"}, {"name": "eyes", "layer": "b", "units": [4]}],
        "of": "me",
    }
    place.write("families.json", json.dumps(own).encode())
    assert families.read(place) == [row("curves"), row("eyes", "b", [4])]
    families.put(place, "new", "a", [9])
    known = json.loads(place.read("families.json"))
    assert known == {"families": [*own["families"], row("new", "a", [9])], "of": "me"}
    families.drop(place, "new")
    assert json.loads(place.read("families.json")) == own


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"families": null}', b'{"families": {}}', b'{"families": [3]}', b'{"families": [{"name": "a"}]}', b'{}',
     b'{"families": [{"name": "a", "layer": "b", "units": ["x"]}]}', b"\xff\xfe", b'{"a":' * 100_000],
    ids=lambda d: ascii(d[:20]),
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named_and_never_overwritten(place, data):
    place.write("families.json", data)
    for attempt in (
        lambda: families.read(place),
        lambda: families.put(place, "new", "a", [1]),
        lambda: families.drop(place, "new"),
    ):
        with pytest.raises(StoreError, match=r"families\.json in .* cannot be read .* nothing removes it: mend it"):
            attempt()
    assert place.read("families.json") == data


class TestOfAnAtlas:
    def test_people_come_before_rules(self, tmp_path):
        atlas = wa.Atlas(copied(tmp_path / "atlas"))
        found = atlas.families
        assert found
        assert {f["by"] for f in found} == {"rule"}
        assert atlas.name_family("mine", "stem", [3, 1, 3]) == [row("mine", "stem", [1, 3])]
        assert atlas.families == [row("mine", "stem", [1, 3]), *found]
        assert "mine" in atlas.unit("stem:1").families
        assert "mine" not in atlas.unit("stem:2").families
        assert atlas.drop_family("mine") == []
        assert atlas.families == found

    def test_layers_and_units_are_checked(self, tmp_path):
        atlas = wa.Atlas(copied(tmp_path / "atlas"))
        with pytest.raises(UnknownNameError, match="no layer in the atlas of Small 'stm'; nearest: 'stem'"):
            atlas.name_family("mine", "stm", [1])
        with pytest.raises(UnknownNameError, match="layer 'stem' has no unit 6"):
            atlas.name_family("mine", "stem", [6])
        with pytest.raises(ArgumentError, match="no unit of layer 'stem' was chosen"):
            atlas.name_family("mine", "stem", [])
        with pytest.raises(ArgumentError, match="1 to 200 characters"):
            atlas.name_family("", "stem", [1])
        with pytest.raises(UnknownNameError, match="no family that was named 'mine'"):
            atlas.drop_family("mine")

    def test_a_build_leaves_them_alone(self, tmp_path):
        folder = copied(tmp_path / "atlas")
        wa.Atlas(folder).name_family("mine", "stem", [1])
        before = (folder / "families.json").read_bytes()
        (folder / "edges.json").unlink()
        assert build(folder).families[0] == row("mine", "stem", [1])
        assert (folder / "families.json").read_bytes() == before

    def test_a_full_disk_leaves_the_old_ones(self, tmp_path, monkeypatch):
        folder = copied(tmp_path / "atlas")
        atlas = wa.Atlas(folder)
        atlas.name_family("mine", "stem", [1])

        def full(*_):
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(StoreError, match="No space left on device; nothing there was changed"):
                atlas.name_family("more", "stem", [2])
        assert [f["name"] for f in atlas.families][:1] == ["mine"]
        assert "more" not in str(atlas.families)
