"""The overview: what it tells of an atlas is what its files hold, counted and sorted by hand here."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import POSITIONS, QUICK, files, original

import weightatlas as wa
from weightatlas.errors import StoreError
from weightatlas.store import Listing, Overview, Wanted, WantedPair, layout, open_files
from weightatlas.store.arrays import group_files
from weightatlas.store.overview import NOTABLE, edges, has_wall, start_here
from weightatlas.store.pictures import encoded
from weightatlas.store.sealing import document, parsed
from weightatlas.store.wanted import numbers_in, ranges

IDENTITY = {
    "format": "weightatlas", "schema": layout.SCHEMA, "model": {"name": "net", "weights_hash": "ab" * 32}, "input": {}, "seed": 0,
    "gates": {"rule": "expected", "measured": False},
}  # fmt: skip


class TestNumbers:
    @settings(max_examples=60, deadline=None)
    @given(st.sets(st.integers(0, 60) | st.integers(0, 10**6)))
    def test_runs_give_the_numbers_back_in_as_few_runs_as_can_be(self, numbers):
        runs = ranges(sorted(numbers))
        assert numbers_in(runs) == sorted(numbers)
        assert all(first <= last for first, last in runs)
        assert len(runs) == sum(n - 1 not in numbers for n in numbers)
        assert all(type(n) is int for run in ranges(np.array(sorted(numbers), np.int64)) for n in run)

    def test_thousands_of_units_take_a_line(self):
        assert ranges(range(10_000)) == [[0, 9999]]
        assert ranges([]) == []
        assert numbers_in([]) == []


class TestListing:
    def test_what_exists_is_told_from_paths_alone(self):
        pair = WantedPair("a", "b#2", 1, ("m", "n"))
        known = [
            layout.LAYERS, f"{layout.weights_path('b#2', 'a')}/zarr.json", f"{layout.paths_path('b#2', 'a', 'n')}/zarr.json",
            layout.connections_path("b#2", "a", "top"), layout.layer_path("b#2", "units"), layout.picture_path("a", "quick", 3),
        ]  # fmt: skip
        listing = Listing(dict.fromkeys(known, 7))
        assert len(listing) == 6
        assert all(path in listing for path in known)
        assert listing.begun
        assert listing.has_weights("a", "b#2")
        assert not listing.has_weights("b#2", "a")
        assert listing.middles(pair) == ["n"]
        assert [listing.has(pair, n) for n in ("top", "factors")] == [True, False]
        assert [listing.has_about("b#2", "units"), listing.has_about("a", "units")] == [True, False]
        assert listing.pictured("a", "quick", (1, 3)) == [3]
        assert listing.pictured("a", "display", (1, 3)) == []
        empty = Listing({})
        assert (len(empty), empty.begun, empty.middles(pair)) == (0, False, [])

    def test_arrays_without_the_mark_of_their_group_are_not_there_yet(self):
        group = layout.weights_path("b", "a")
        assert not Listing({f"{group}/values/c.0.0.0.0": 9, f"{group}/values/zarr.json": 9}).has_weights("a", "b")


def test_mosaics_have_no_walls():
    assert [has_wall(r) for r in ("quick", "own-12", "display.positions@a", "display.negative", "examples")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def top(rows, **more):
    about = {"inputs": {}, "shape": [2, 2, 3, 3], "uniform": [1, 1], "origin": [0, 0], "stride": [1, 1], "dilation": [1, 1],
             "groups": 1, "source_units": 2, "at": None, "sees_pixels": False, "skip": False, "largest": 1.0, "bytes": 10,
             "replaced": [], "structure": None, "strongest": rows}  # fmt: skip
    return about | more


class TestEdges:
    WANTED = Wanted(("a", "b", "c"), (("a", "b"),), (WantedPair("a", "b", 1), WantedPair("a", "c", 2), WantedPair("b", "c", 1),
                                                      WantedPair("input", "a", 1)))  # fmt: skip

    def test_the_strongest_of_neighbours_by_share(self):
        tops = {
            ("a", "b"): top([[0, 1, 5.0, 0.5, -1.0], [1, 0, 9.0, 0.2, 1.0]]),
            ("a", "c"): top([[0, 0, 9.0, 0.99, 9.0]]),  # two back
            ("b", "c"): top([[7, 2, 1.0, 0.9, 0.5], [3, 2, 1.0, 0.5, 0.5]]),
            ("input", "a"): top([[0, 0, 9.0, 1.0, 9.0]]),  # pixels are no units
        }
        found = edges(self.WANTED, tops, [])
        assert found["strongest"]["columns"] == ["target", "unit", "source", "source unit", "strength", "share", "sum"]
        assert found["strongest"]["rows"] == [
            ["c", 7, "b", 2, 1.0, 0.9, 0.5],
            ["b", 0, "a", 1, 5.0, 0.5, -1.0],
            ["c", 3, "b", 2, 1.0, 0.5, 0.5],
            ["b", 1, "a", 0, 9.0, 0.2, 1.0],
        ]

    def test_those_that_lose_most_come_first_and_of_equal_ones_the_larger(self):
        rows = [
            ["c", 0, "a", 1, "b", 0.5, 1.0, 0.5],
            ["c", 10, "a", 1, "b", 0.1, 1.0, 0.9],
            ["c", 2, "a", 1, "b", 0.2, 2.0, 0.9],
            ["c", 1, "a", 1, "b", 0.1, 1.0, 0.9],
        ]
        found = edges(self.WANTED, {}, rows)["cancelled"]
        assert [row[1] for row in found["rows"]] == [2, 1, 10, 0]
        assert found["columns"][4:] == ["middle", "magnitude of the sum", "sum of magnitudes", "share lost"]

    def test_so_many_are_listed_and_no_more(self):
        rows = [[n, 0, 1.0, n / 1000, 0.0] for n in range(NOTABLE + 50)]
        found = edges(self.WANTED, {("a", "b"): top(rows), ("b", "c"): None}, [])["strongest"]["rows"]
        assert len(found) == NOTABLE
        assert [row[1] for row in found[:3]] == [NOTABLE + 49, NOTABLE + 48, NOTABLE + 47]


class TestStart:
    def pair(self, source, target, median=None, made=True, **more):
        structure = None if median is None else {"median": median, "unit": 4, "most": 0.9}
        return {
            "source": source,
            "target": target,
            "span": 1,
            "made": made,
            "structure": structure,
            "sees_pixels": False,
            **more,
        }

    def test_an_atlas_of_which_nothing_is_made_has_no_beginning(self):
        assert start_here([], {}, [], {}) == []
        pair = self.pair("a", "b", made=False)
        pair.pop("structure")
        assert start_here([pair], {("a", "b"): None}, [], {}) == []

    def test_each_beginning_is_chosen_by_its_rule(self):
        pairs = [
            self.pair("a", "b", 0.9),  # in the first half
            self.pair("b", "c", 0.2),
            self.pair("c", "d", 0.5),
            self.pair("input", "a", None, sees_pixels=True),
            self.pair("a", "d", 0.99, span=2),
        ]
        tops = {("a", "b"): top([[3, 1, 1.0, 0.4, 1.0]]), ("b", "c"): top([[5, 2, 1.0, 0.75, 1.0], [6, 2, 1.0, 0.7, 1.0]]),
                ("c", "d"): top([]), ("input", "a"): top([[0, 0, 1.0, 1.0, 1.0]]), ("a", "d"): top([[0, 0, 1.0, 1.0, 1.0]])}  # fmt: skip
        families = [{"name": n, "layer": n[0]} for n in ("b of a", "c of b", "d of c", "d of b")]
        bands = {"c.conv": {"layer": "c.conv", "banded": True, "row_share": 0.4},
                 "d.conv": {"layer": "d.conv", "banded": True, "row_share": 0.61},
                 "a.conv": {"layer": "a.conv", "banded": False, "row_share": 0.9}}  # fmt: skip
        found = {row["page"]: row for row in start_here(pairs, tops, families, bands)}
        assert list(found) == ["unit", "edge", "family", "layer"]
        assert (found["unit"]["address"], found["unit"]["source"]) == ("d:4", "c")
        assert (found["edge"]["address"], found["edge"]["source"]) == ("c:5", "b:2")
        assert "75%" in found["edge"]["why"]
        assert found["family"]["address"] == "c of b"
        assert found["layer"]["address"] == "d.conv"
        assert "61%" in found["layer"]["why"]
        assert all(row["why"] for row in found.values())


class TestPlanted:
    """An atlas of planted documents, some there and some not yet."""

    WANTED = Wanted(
        layers=("a", "b"),
        edges=(("input", "a"), ("a", "b")),
        pairs=(WantedPair("a", "b", 1, ("m",), 10), WantedPair("input", "a", 1, (), 20)),
        pictures={("a", "quick"): (0, 1, 2, 5), ("b", "quick"): (0, 1), ("b", "display.positions@a"): (0,)},
        images=True,
        left_out=(WantedPair("input", "b", 2, (), 9 * 2**30),),
    )

    @pytest.fixture
    def place(self, request):
        found = open_files(f"memory://overview/{request.node.name}")
        rows = [
            {"name": "a", "kind": "conv", "units": 6, "grid": [4, 4], "inside": []},
            {
                "name": "b",
                "kind": "block",
                "type": "Block",
                "units": 2,
                "grid": [4, 4],
                "inside": ["b.conv", "b.other"],
            },
        ]
        found.write(layout.LAYERS, document({"layers": rows}))
        return found

    def update(self, place, wanted=None, **state):
        overview = Overview(place, IDENTITY, wanted or self.WANTED, state)
        return overview.update(Listing(place.sizes()))

    def picture(self, place, layer, recipe, unit, alive=True):
        about = {"layer": layer, "unit": unit, "reached": 1.0, "alive": alive}
        place.write(layout.picture_path(layer, recipe, unit), encoded(np.zeros((8, 8, 3), np.uint8), about))

    def test_an_atlas_that_was_only_begun(self, place):
        known = self.update(place, notes=["n"])
        assert known["coverage"] == {
            "weights": [0, 2], "paths": [0, 1], "units": [0, 2], "agreement": [0, 2], "banding": [0, 1],
            "pictures": {"quick": [0, 6], "display.positions": [0, 1]},
        }  # fmt: skip
        assert [p["made"] for p in known["pairs"]] == [False, False]
        assert all("shape" not in p and p["agreement"] == "not measured" for p in known["pairs"])
        assert known["left_out"] == [{"source": "input", "target": "b", "bytes": 9 * 2**30}]
        assert (known["start"], known["families"], known["notes"]) == ([], [], ["n"])
        assert (known["format"], known["schema"], known["model"]) == ("weightatlas", layout.SCHEMA, IDENTITY["model"])
        assert known["edges"] == [["input", "a"], ["a", "b"]]
        assert parsed(place.read("atlas.json"), "") == known
        assert parsed(place.read("edges.json"), "")["strongest"]["rows"] == []
        row = known["layers"][1]
        assert (row["name"], row["path"], row["type"], row["described"], row["banding"]) == (
            "b",
            "b",
            "Block",
            False,
            None,
        )
        assert "inside" not in row

    def test_a_table_that_is_not_there_yet(self):
        known = self.update(open_files("memory://overview/none"))
        assert [row["name"] for row in known["layers"]] == ["a", "b"]

    def test_pictures_are_counted_as_runs(self, place):
        for unit, alive in ((0, True), (1, False), (5, True)):
            self.picture(place, "a", "quick", unit, alive)
        self.picture(place, "a", "quick", 3)  # nobody asked for it
        self.picture(place, "b", "display.positions@a", 0)
        known = self.update(place)
        assert known["coverage"]["pictures"] == {"quick": [3, 6], "display.positions": [1, 1]}
        a, b = (row["pictures"] for row in known["layers"])
        assert a == {
            "quick": {"wanted": [[0, 2], [5, 5]], "made": [[0, 1], [5, 5]], "without_result": [[1, 1]], "wall": True}
        }
        assert b["quick"] == {"wanted": [[0, 1]], "made": [], "without_result": [], "wall": False}
        assert b["display.positions@a"]["wall"] is False
        assert place.exists(layout.wall_path("a", "quick", "wall.json"))
        assert not place.exists(layout.wall_path("b", "display.positions@a", "wall.json"))

    def test_without_walls_those_that_exist_are_told_of(self, place):
        self.picture(place, "a", "quick", 0, alive=False)
        overview = Overview(place, IDENTITY, self.WANTED, {})
        assert overview.update(Listing(place.sizes()), walls=False)["layers"][0]["pictures"]["quick"]["wall"] is False
        self.update(place)
        self.picture(place, "a", "quick", 1)
        pictures = Overview(place, IDENTITY, self.WANTED, {}).update(Listing(place.sizes()), walls=False)["layers"][0][
            "pictures"
        ]
        assert pictures["quick"] == {
            "wanted": [[0, 2], [5, 5]],
            "made": [[0, 1]],
            "without_result": [[0, 0]],
            "wall": True,
        }

    def test_pairs_tell_what_their_documents_say(self, place):
        place.write(
            layout.connections_path("b", "a", "top"), document(top([[0, 1, 2.0, 0.5, -1.0]], source="a", target="b"))
        )
        assert not self.update(place)["pairs"][0]["made"]  # the weights are not complete
        for path, data in group_files({}, {}).items():
            place.write(f"{layout.weights_path('b', 'a')}/{path}", data)
        agreement = {"mean_cosine": 0.5, "mean_overlap": 3.0, "k": 5, "split_half": None, "samples": 9, "images": {"used": 2},
                     "cosine": [1, 2, 3]}  # fmt: skip
        place.write(layout.connections_path("b", "a", "agreement"), document(agreement))
        place.write(layout.connections_path("b", "a", "factors"), document({"rank": 3}))
        about = {"cancelled": [[0, 1, 0.1, 1.0, 0.9]]}
        for path, data in group_files({}, {"weightatlas": about}).items():
            place.write(f"{layout.paths_path('b', 'a', 'm')}/{path}", data)
        known = self.update(place)
        pair = known["pairs"][0]
        assert (pair["made"], pair["span"], pair["factors"], pair["paths"]) == (True, 1, True, [["m", "paths/b/a/m"]])
        assert (pair["path"], pair["about"]) == ("weights/b/a", "connections/b/a")
        assert pair["agreement"] == {k: v for k, v in agreement.items() if k != "cosine"}
        assert (pair["shape"], pair["largest"], pair["bytes"]) == ([2, 2, 3, 3], 1.0, 10)
        assert "strongest" not in pair
        assert known["coverage"] | {"pictures": 0} == {
            "weights": [1, 2], "paths": [1, 1], "units": [0, 2], "agreement": [1, 2], "banding": [0, 1], "pictures": 0,
        }  # fmt: skip
        found = parsed(place.read("edges.json"), "")
        assert found["strongest"]["rows"] == [["b", 0, "a", 1, 2.0, 0.5, -1.0]]
        assert found["cancelled"]["rows"] == [["b", 0, "a", 1, "m", 0.1, 1.0, 0.9]]

    def test_without_images_nothing_is_wanted_of_them(self, place):
        known = self.update(place, dataclasses.replace(self.WANTED, images=False))
        assert known["coverage"]["agreement"] == [0, 0]
        assert [row["activations"] for row in known["layers"]] == ["not measured"] * 2

    def test_layers_tell_of_banding_inside_them_and_of_families(self, place):
        rows = [
            {"layer": "b.conv", "banded": False, "row_share": 0.9},
            {"layer": "b.other", "banded": True, "row_share": 0.5},
            {"layer": "elsewhere", "banded": True, "row_share": 0.99},
        ]
        place.write(layout.BANDING, document({"rows": rows}))
        place.write(layout.layer_path("b", "units"), document({"families": [{"source": "a", "units": [0, 1]}]}))
        known = self.update(place)
        assert known["layers"][0]["banding"] is None
        assert known["layers"][1]["banding"] == rows[1]
        assert known["coverage"]["banding"] == [1, 1]
        assert known["families"] == [
            {"name": "b, alike over a", "layer": "b", "source": "a", "units": [0, 1], "by": "rule"}
        ]
        assert [row["page"] for row in known["start"]] == ["family", "layer"]

    def test_it_is_written_only_when_it_has_changed(self, place, monkeypatch):
        overview, written = Overview(place, IDENTITY, self.WANTED, {}), []
        write = place.write
        monkeypatch.setattr(place, "write", lambda path, data: (written.append(path), write(path, data)))
        listing = Listing(place.sizes())
        overview.update(listing)
        assert written == ["edges.json", "atlas.json"]
        overview.update(listing)
        self.update(place)  # by another owner, later
        assert len(written) == 2
        overview.state = {"notes": ["new"]}
        overview.update(listing)
        assert written[2:] == ["atlas.json"]
        assert listing.sizes == place.sizes()

    @pytest.mark.parametrize(
        "path",
        [layout.LAYERS, layout.BANDING, layout.layer_path("a", "units"), layout.connections_path("b", "a", "agreement"),
         layout.wall_path("a", "quick", "wall.json"), f"{layout.paths_path('b', 'a', 'm')}/zarr.json"],
    )  # fmt: skip
    def test_a_damaged_document_stops_it_and_is_named(self, place, path):
        self.picture(place, "a", "quick", 0)
        self.update(place)
        before = place.read("atlas.json")
        for damaged in (b"", b'{"attributes": {}}', b"\xff"):
            place.write(path, damaged)
            with pytest.raises(StoreError, match=rf"^{path} is damaged: .*--repair"):
                self.update(place)
            assert place.read("atlas.json") == before


class TestOfARealAtlas:
    """The overview of an atlas that was built, against its files and its weights."""

    @pytest.fixture
    def atlas(self):
        return wa.Atlas(original())

    def test_it_counts_what_its_files_are(self, atlas):
        paths = list(files())
        pictures = {r: sum(f"/{r}/" in p or f"/{r}@" in p for p in paths if p.startswith("images/")) for r in
                    (QUICK, POSITIONS, "examples")}  # fmt: skip
        done = atlas.coverage
        assert done["pictures"] == {recipe: [count, count] for recipe, count in pictures.items()}
        assert all(pictures.values())
        counts = {
            "weights": sum(p.startswith("weights/") and p.count("/") == 3 for p in paths),
            "paths": sum(p.startswith("paths/") and p.endswith("/zarr.json") and p.count("/") == 4 for p in paths),
            "units": sum(p.endswith("/units.json") for p in paths),
            "agreement": sum(p.endswith("/agreement.json") for p in paths),
            "banding": "banding.json" in paths,
        }
        assert {k: v for k, v in done.items() if k != "pictures"} == {k: [v, v] for k, v in counts.items()}

    def test_the_strongest_connections_are_those_of_the_weights(self, atlas):
        expected = []
        for pair in atlas.manifest["pairs"]:
            if pair["span"] != 1 or pair["source"] == "input":
                continue
            values = atlas.weights(pair["source"], pair["target"]).dense().values.astype(np.float64)
            power = np.square(values).sum((2, 3))
            for unit, source_unit in np.ndindex(power.shape):
                share = power[unit, source_unit] / power[unit].sum()
                expected.append(
                    (pair["target"], unit, pair["source"], source_unit, share, values[unit, source_unit].sum())
                )
        found = json.loads(files()["edges.json"])["strongest"]["rows"]
        assert len(found) == min(NOTABLE, len(expected))
        known = {row[:4]: row for row in expected}
        shares = sorted((row[4] for row in expected), reverse=True)
        for row, share in zip(found, shares, strict=False):
            target, unit, source, source_unit, strength, own, total = row
            true = known[target, unit, source, source_unit]
            assert own == pytest.approx(share, rel=1e-3)
            assert own == pytest.approx(true[4], rel=1e-3)
            assert total == pytest.approx(true[5], rel=1e-3, abs=1e-6)
            assert strength > 0
        assert len({tuple(row[:4]) for row in found}) == len(found)

    def test_it_begins_where_its_documents_say(self, atlas):
        for row in atlas.manifest["start"]:
            if row["page"] in ("unit", "edge"):
                atlas.unit(row["address"])
        edge = next(row for row in atlas.manifest["start"] if row["page"] == "edge")
        best = json.loads(files()["edges.json"])["strongest"]["rows"][0]
        assert (edge["address"], edge["source"]) == (f"{best[0]}:{best[1]}", f"{best[2]}:{best[3]}")

    def test_every_path_that_it_names_is_there(self, atlas):
        for pair in atlas.manifest["pairs"]:
            assert f"{pair['path']}/zarr.json" in files()
            assert f"{pair['about']}/top.json" in files()
            assert all(f"{path}/zarr.json" in files() for _, path in pair["paths"])
        for row in atlas.manifest["layers"]:
            assert f"layers/{row['path']}/units.json" in files()

    def test_documents_that_are_read_again_are_those_that_changed(self, atlas):
        overview = Overview(atlas.files, IDENTITY, Wanted(), {})
        listing = Listing(atlas.files.sizes())
        first = overview.document(listing, "layers.json")
        assert overview.document(listing, "layers.json") is first
        listing.sizes["layers.json"] += 1
        assert overview.document(listing, "layers.json") is not first
        assert overview.document(listing, "layers/none/units.json") is None
