"""A check of an atlas: whatever is done to its files is noticed, and a build makes good what repair takes away."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import atlases
import pytest
from atlases import differences, small, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import QUICK, build, copied, files, original, put

import weightatlas as wa
from weightatlas.errors import StoreError
from weightatlas.store import LocalFiles, check_atlas, open_files
from weightatlas.store.layout import place_of
from weightatlas.store.sealing import document, parsed

#: The two files that say whose the atlas is; one can be made again from the other.
WHOSE = ("model.json", "atlas.json")


@pytest.fixture
def folder(tmp_path):
    return copied(tmp_path / "atlas")


def kind_of(path):
    """What a file is, with the recipe's kind and the name of an array."""
    place = place_of(path)
    variant = place.recipe.partition("@")[0].partition(".")[2]
    array = path.split("/")[-2] if place.kind == "array" else ""
    return (place.kind, place.document, variant, array, path.rpartition(".")[2] == "json", place.group.split("/")[0])


def one_of_each():
    """A path of every kind; sheets of another wall than the document beside them."""
    last = {kind_of(path): path for path in sorted(files())}
    return {
        kind: path.replace("walls/stem/", "walls/down/") if kind[0] == "wall" else path for kind, path in last.items()
    }


class TestWhole:
    def test_an_undamaged_atlas_has_no_problem(self, folder):
        report = check_atlas(folder)
        assert report.whole
        assert (report.problems, report.foreign, report.removed) == ((), (), ())
        assert report.files == len(files())
        assert report.bytes == sum(map(len, files().values()))
        assert repr(report) == f"Report({folder}: {len(files())} files, 0 problems)"
        assert wa.Atlas(folder).check() == report

    def test_repair_of_an_undamaged_atlas_changes_nothing(self, folder):
        assert check_atlas(folder, repair=True).removed == ()
        assert differences(tree(folder), files()) == []

    def test_every_file_of_an_atlas_is_known(self):
        kinds = {place_of(path).kind for path in files()}
        assert kinds == {"document", "picture", "wall", "group", "array"}
        documents = {place_of(path).document for path in files()} - {""}
        assert documents == {
            "model", "atlas", "layers", "graph", "banding", "edges", "top", "agreement", "factors", "unit factors", "units",
            "activations", "wall",
        }  # fmt: skip

    def test_an_atlas_in_a_bucket_is_checked_the_same(self):
        place = open_files("memory://checked/atlas")
        for path, data in files().items():
            place.write(path, data)
        assert check_atlas("memory://checked/atlas").whole
        place.write("layers.json", files()["layers.json"][:-1])
        place.remove("edges.json")
        report = check_atlas("memory://checked/atlas", repair=True)
        assert {p.path for p in report.problems} == {"layers.json", "edges.json"}
        assert report.removed == ("layers.json",)
        assert not place.exists("layers.json")


WAYS = {
    "cut": lambda data: data[:-1],
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "more": lambda data: data + b"\0",
    "flipped": lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
    "twice": lambda data: data * 2,
    "zeros": lambda data: bytes(len(data)),
    "missing": lambda data: None,
}


def of_part(part):
    """Paths of every kind whose damage can be told apart: a group's metadata comes before its arrays, and these first."""
    own = {"arrays": lambda k: k[0] == "array" and k[4], "chunks": lambda k: k[0] == "array" and not k[4]}
    wanted = own.get(part, lambda k: k[0] != "array")
    return [path for kind, path in one_of_each().items() if wanted(kind) and path not in WHOSE]


@pytest.mark.parametrize("part", ["documents, pictures and groups", "arrays", "chunks"])
@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_damage_to_every_kind_of_file_is_noticed(part, way, shared):
    paths = of_part(part)
    assert len(paths) > 10
    with shared({path: WAYS[way](files()[path]) for path in paths}) as folder:
        report = check_atlas(folder)
    found = {p.path: p for p in report.problems}
    for path in paths:
        own = [p for at, p in found.items() if path.startswith(at)]
        assert own, path
        assert all(p.remove or way == "missing" for p in own)
    assert all(any(path.startswith(at) for path in paths) for at in found)  # and nothing else


@pytest.mark.parametrize("name", WHOSE)
@pytest.mark.parametrize("way", ["cut", "flipped", "zeros", "missing"])
def test_damage_of_what_says_whose_it_is_is_noticed(name, way, shared):
    with shared({name: WAYS[way](files()[name])}) as folder:
        (problem,) = check_atlas(folder).problems
    assert problem.path == name


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Files of a copy of hard links put for a while in the place of its own; ``None`` for none."""
    folder = copied(tmp_path_factory.mktemp("shared") / "atlas")

    @contextlib.contextmanager
    def changed(changes):
        try:
            for path, data in changes.items():
                put(folder, path, data)
            yield folder
        finally:
            for path in changes:
                (folder / path).unlink(missing_ok=True)
                if path in files():
                    os.link(original() / path, folder / path)

    yield changed
    assert differences(tree(folder), files()) == []


class TestMisplaced:
    """Whole files in the place of others: each carries a good checksum, and still it is noticed."""

    @pytest.mark.parametrize(
        ("path", "other", "words"),
        [
            ("layers.json", "graph.json", "it is the document 'graph', not 'layers'"),
            ("layers/stem/units.json", "layers/down/units.json", "it is of the layer 'down', not 'stem'"),
            ("layers/stem/units.json", "layers/stem/activations.json", "the document 'activations', not 'units'"),
            ("connections/down/blocks.1/top.json", "connections/down/blocks.0/top.json", "of the source 'blocks.0'"),
            ("connections/down/blocks.1/top.json", "connections/blocks.1/blocks.0/top.json", "of the target 'blocks.1'"),
            ("connections/down/blocks.1/factors/3.json", "connections/down/blocks.1/factors/4.json", "of the unit 4, not 3"),
            ("connections/down/blocks.1/factors/3.json", "connections/down/blocks.1/factors.json", "'factors', not 'unit"),
            ("connections/down/blocks.1/agreement.json", "connections/down/blocks.0/agreement.json", "source 'blocks.0'"),
            (f"walls/stem/{QUICK}/wall.json", f"walls/down/{QUICK}/wall.json", "of the layer 'down', not 'stem'"),
            (f"walls/stem/{QUICK}/0.webp", f"walls/down/{QUICK}/0.webp", "of the layer 'down', not 'stem'"),
            (f"walls/stem/{QUICK}/0.webp", f"images/stem/{QUICK}/0.webp", "of the what 'unit', not 'wall'"),
            (f"images/stem/{QUICK}/0.webp", f"walls/stem/{QUICK}/0.webp", "of the unit None, not 0"),
            (f"images/stem/{QUICK}/0.webp", f"images/stem/{QUICK}/1.webp", "of the unit 1, not 0"),
            (f"images/stem/{QUICK}/0.webp", f"images/down/{QUICK}/0.webp", "of the layer 'down', not 'stem'"),
            (f"images/stem/{QUICK}/0.webp", "images/stem/examples/0.webp", "of the recipe 'examples'"),
            (f"images/down/{QUICK}.positions@blocks.1/0.webp", f"images/down/{QUICK}/0.webp", f"of the recipe '{QUICK}'"),
            ("weights/down/blocks.1/zarr.json", "weights/down/blocks.0/zarr.json", "of the source 'blocks.0'"),
            ("weights/down/blocks.1/zarr.json", "paths/down/blocks.0/blocks.1/zarr.json", "of the kind None, not 'Weights'"),
            ("weights/down/blocks.1/zarr.json", "statistics/zarr.json", "of the kind 'Statistics', not 'Weights'"),
            ("paths/down/blocks.0/blocks.1/zarr.json", "paths/blocks.1/stem/blocks.0/zarr.json", "of the target 'blocks.1'"),
            ("paths/head/blocks.1/down/zarr.json", "paths/down/blocks.0/blocks.1/zarr.json", "of the target 'down'"),
            ("paths/down/blocks.0/blocks.1/zarr.json", "paths/head/blocks.1/down/zarr.json", "of the target 'head'"),
            ("statistics/zarr.json", "weights/down/blocks.0/zarr.json", "of the kind 'Weights', not 'Statistics'"),
            ("weights/down/blocks.1/values/zarr.json", "weights/down/blocks.1/outgoing_maps/zarr.json", "another array"),
            ("weights/down/blocks.1/values/c.0.0.0.0", "weights/down/blocks.1/values/c.1.0.0.0", "not in their places"),
            ("weights/blocks.0/stem/values/c.0.0.0.0", "weights/blocks.1/blocks.0/values/c.0.0.0.0", "not in their places"),
        ],
    )  # fmt: skip
    def test_it_is_noticed(self, path, other, words, shared):
        assert files()[path] != files()[other]
        with shared({path: files()[other]}) as folder:
            found = check_atlas(folder).problems
        assert [p.what for p in found if words in p.what], found
        assert all(path.startswith(p.path) for p in found)
        assert all(p.remove for p in found)

    def test_positions_over_another_layer_are_noticed(self, shared):
        """Planted: the small network has pictures over one layer only."""
        path = f"images/down/{QUICK}.positions@blocks.1/0.webp"
        with shared({path.replace("@blocks.1", "@stem"): files()[path]}) as folder:
            (problem,) = check_atlas(folder).problems
        assert problem.what == "it is of the source 'blocks.1', not 'stem'"

    @pytest.mark.parametrize(
        ("name", "planted", "words"),
        [
            ("0.webp", f"down/{QUICK}/1.webp", "it is of the number 0, not 1"),
            ("0.webp", "down/quick/0.webp", f"it is of the recipe '{QUICK}', not 'quick'"),
            ("wall.json", "down/quick/wall.json", f"it is of the recipe '{QUICK}', not 'quick'"),
        ],
    )
    def test_parts_of_another_wall_are_noticed(self, name, planted, words, shared):
        with shared({f"walls/{planted}": files()[f"walls/down/{QUICK}/{name}"]}) as folder:
            (problem,) = check_atlas(folder).problems
        assert str(problem) == f"walls/{planted}: {words}"

    def test_an_overview_in_the_place_of_the_model(self, shared):
        with shared({"model.json": files()["atlas.json"]}) as folder:
            (problem,) = check_atlas(folder).problems
        assert str(problem) == "model.json: it is the document 'atlas', not 'model'"


class TestOfAnother:
    """Files of another network, whole and in their places."""

    def test_weights_and_pictures_of_other_weights_are_noticed(self, folder, tmp_path):
        other = wa.build(
            small(seed=1), tmp_path / "other", layers=["stem", "blocks.0"], recipes=[atlases.QUICK], units=range(2)
        )
        moved = ["weights/blocks.0/stem", "paths/blocks.0/stem/blocks.0.act", f"images/stem/{QUICK}"]
        for path in moved:
            shutil.rmtree(folder / path)
            shutil.copytree(tmp_path / "other" / path, folder / path)
        report = check_atlas(folder, repair=True)
        words = f"it is of the weights {other.weights_hash[:12]} …, not {wa.Atlas(folder).weights_hash[:12]} …"
        assert {p.what for p in report.problems} == {words}
        assert all(any(p.path.startswith(m) for m in moved) for p in report.problems)
        assert all(any(p.path.startswith(m) for p in report.problems) for m in moved)
        build(folder)
        assert differences(tree(folder), files()) == []

    def test_an_overview_of_other_weights_is_noticed(self, folder):
        known = parsed(files()["atlas.json"], "")
        known["model"]["weights_hash"] = "cd" * 32
        put(folder, "atlas.json", document(known, indent=1))
        report = check_atlas(folder, repair=True)
        assert report.problems[0].what.startswith("it is of the weights cdcdcdcdcdcd …, not ")
        assert report.removed == ("atlas.json",)


class TestRepair:
    def test_what_is_broken_is_removed_and_a_build_makes_it_again(self, folder):
        for path in one_of_each().values():
            if path != "model.json":
                put(folder, path, files()[path][:-1])
        report = check_atlas(folder, repair=True)
        assert not report.whole
        assert set(report.removed) <= set(files())
        assert not set(report.removed) & set(tree(folder))
        build(folder)
        assert differences(tree(folder), files()) == []
        assert check_atlas(folder).whole

    @pytest.mark.parametrize("name", WHOSE)
    def test_one_of_the_two_that_say_whose_it_is_comes_from_the_other(self, folder, name):
        put(folder, name, b"")
        report = check_atlas(folder, repair=True)
        assert report.removed == (name,)
        assert ("build with the same arguments" in report.problems[0].what) == (name == "atlas.json")
        build(folder)
        assert differences(tree(folder), files()) == []

    @pytest.mark.parametrize("damage", ["broken", "swapped", "broken and missing"])
    def test_without_both_nothing_tells_whose_it_is_and_neither_is_removed(self, folder, damage):
        for name, other in (WHOSE, WHOSE[::-1]):
            put(folder, name, files()[other] if damage == "swapped" else files()[name][:-1])
        if damage == "broken and missing":
            (folder / "atlas.json").unlink()
        before = tree(folder)
        report = check_atlas(folder, repair=True)
        assert "nothing tells what network this is of; build anew elsewhere" in str(report.problems)
        assert report.removed == ()
        assert differences(tree(folder), before) == []

    def test_what_cannot_be_read_now_may_be_whole_and_is_not_removed(self, folder, monkeypatch):
        """A folder on a network that does not answer must not cost the atlas."""
        real = Path.read_bytes

        def read(path):
            if "blocks.1" in path.parts:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", read)
            report = check_atlas(folder, repair=True)
        assert report.removed == ()
        assert len(report.problems) > 20
        assert all("cannot be read: Input/output error" in p.what for p in report.problems)
        assert differences(tree(folder), files()) == []

    def test_a_folder_that_cannot_be_written_says_so(self, folder, monkeypatch):
        put(folder, "edges.json", b"")

        def refuse(*_):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(StoreError, match=r"edges\.json in .* cannot be removed: Read-only file system"):
            check_atlas(folder, repair=True)
        assert not check_atlas(folder).whole

    def test_a_file_that_vanishes_while_the_atlas_is_checked_is_a_problem_like_any(self, folder, monkeypatch):
        listed = LocalFiles.sizes

        def sizes(self):
            found = listed(self)
            for path in ("edges.json", "weights/down/stem/zarr.json", f"images/stem/{QUICK}/0.webp"):
                (folder / path).unlink(missing_ok=True)
            return found

        monkeypatch.setattr(LocalFiles, "sizes", sizes)
        report = check_atlas(folder, repair=True)
        assert {"edges.json", f"images/stem/{QUICK}/0.webp"} <= {p.path for p in report.problems}


class TestForeign:
    NAMES = ("notes.txt", ".DS_Store", "images/stem/README.md", "weights/down/blocks.1/notes.md", "walls/x/y.psd",
             f"images/stem/{QUICK}/0.png", "weights/down/blocks.1/values/backup", "new folder/model.json")  # fmt: skip

    def test_other_peoples_files_are_told_and_left_alone(self, folder):
        for name in self.NAMES:
            put(folder, name, name.encode())
        report = check_atlas(folder, repair=True)
        assert report.whole
        assert sorted(report.foreign) == sorted(self.NAMES)
        build(folder)
        assert {n: d for n, d in tree(folder).items() if n not in files()} == {n: n.encode() for n in self.NAMES}

    def test_files_that_look_like_ours_and_belong_to_nothing_are_broken(self, folder):
        extra = "weights/down/blocks.1/values/c.7.0.0.0"
        put(folder, extra, files()["weights/down/blocks.1/values/c.0.0.0.0"])
        (problem,) = check_atlas(folder, repair=True).problems
        assert str(problem) == f"{extra}: it belongs to no array of its group"
        assert differences(tree(folder), files()) == []

    def test_an_unfinished_group_is_no_problem(self, folder):
        """A build that was killed leaves arrays without the mark of their group; nothing reads them."""
        put(folder, "weights/head/stem/values/c.0.0.0.0", b"half")
        put(folder, "weights/head/stem/values/zarr.json", b"{}")
        assert check_atlas(folder).whole

    def test_what_people_wrote_is_never_removed(self, folder):
        atlas = wa.Atlas(folder)
        atlas.name_family("curves", "stem", [0, 1])
        assert check_atlas(folder).whole
        for damaged in (
            b"",
            b"{",
            b"[]",
            b'{"families": [{"name": 3}]}',
            b"\xff",
            (folder / "families.json").read_bytes()[:-9],
        ):
            put(folder, "families.json", damaged)
            report = check_atlas(folder, repair=True)
            assert [p.path for p in report.problems] == ["families.json"]
            assert "It holds what people named, so nothing removes it" in report.problems[0].what
            assert report.removed == ()
            assert (folder / "families.json").read_bytes() == damaged


class TestNoAtlas:
    def test_a_folder_that_is_none(self, tmp_path):
        (tmp_path / "notes.txt").write_text("x")
        for folder in (tmp_path, tmp_path / "gone"):
            with pytest.raises(StoreError, match=r"is no atlas: it has neither model\.json nor atlas\.json"):
                check_atlas(folder, repair=True)
        assert sorted(os.listdir(tmp_path)) == ["notes.txt"]
        with pytest.raises(StoreError, match="cannot be listed: Not a directory"):
            check_atlas(tmp_path / "notes.txt")

    @pytest.mark.parametrize("name", WHOSE)
    def test_a_newer_one_is_refused_not_repaired(self, folder, name):
        known = parsed(files()[name], "") | {"schema": 99}
        put(folder, name, document(known, indent=1))
        put(folder, "edges.json", b"")
        before = tree(folder)
        with pytest.raises(StoreError, match=r"was built by a newer weightatlas \(schema 99"):
            check_atlas(folder, repair=True)
        assert differences(tree(folder), before) == []

    def test_an_atlas_that_was_only_begun(self, tmp_path):
        put(tmp_path, "model.json", files()["model.json"])
        (problem,) = check_atlas(tmp_path).problems
        assert problem.path == "atlas.json"
        assert "it is missing; a build derives it from the rest" in problem.what


DAMAGES = ("flip", "cut", "append", "delete", "empty", "swap", "copy", "zeros")


@st.composite
def damages(draw):
    """Up to three files of an atlas and what is done to each."""
    paths = sorted(files())
    kinds = sorted({kind_of(p) for p in paths})
    chosen = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))  # pictures and chunks are many, the rest counts as much
        path = draw(st.sampled_from([p for p in paths if kind_of(p) == kind]))
        other = draw(st.sampled_from([p for p in paths if kind_of(p) == kind] if draw(st.booleans()) else paths))
        chosen.append(
            (draw(st.sampled_from(DAMAGES)), path, other, draw(st.integers(0, 10**6)), draw(st.integers(1, 255)))
        )
    return chosen


def damage(folder, what, path, other, place, bits):
    """Does it to the files of a folder."""
    if not (folder / path).exists() or not (folder / other).exists():
        return
    data, second = (folder / path).read_bytes(), (folder / other).read_bytes()
    at = place % max(len(data), 1)
    if what == "delete":
        (folder / path).unlink()
    elif what == "swap":
        put(folder, path, second)
        put(folder, other, data)
    else:
        changed = {
            "flip": data[:at] + bytes(b ^ bits for b in data[at : at + 1]) + data[at + 1 :],
            "cut": data[:at],
            "append": data + bytes([bits]) * (1 + place % 9),
            "empty": b"",
            "copy": second,
            "zeros": bytes(len(data)),
        }
        put(folder, path, changed[what])


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(damages())
def test_any_damage_is_noticed_and_mended(tmp_path_factory, chosen):
    folder = copied(tmp_path_factory.mktemp("damaged") / "atlas")
    for one in chosen:
        damage(folder, *one)
    changed = differences(tree(folder), files())
    before = tree(folder)
    report = check_atlas(folder)
    assert differences(tree(folder), before) == []
    assert report.whole == (not changed), changed
    assert report.foreign == ()
    mended = check_atlas(folder, repair=True)
    assert mended.problems == report.problems
    if all(name in changed for name in WHOSE):  # nothing tells any more whose it is
        assert not set(mended.removed) & set(WHOSE)
        shutil.rmtree(folder)
        return
    build(folder)
    assert differences(tree(folder), files()) == []
    assert check_atlas(folder).whole
    shutil.rmtree(folder)


def test_reports_are_json_ready(folder):
    put(folder, "edges.json", b"")
    report = check_atlas(folder)
    assert json.dumps([(p.path, p.what, p.remove) for p in report.problems])
    assert repr(report) == f"Report({folder}: {len(files())} files, 1 problem)"
    assert str(report.problems[0]).startswith("edges.json is damaged: no JSON document")
    assert "--repair" not in str(report.problems[0])  # said once for all, by whoever shows the report
    assert repr(check_atlas(folder, repair=True)).endswith("1 problem, 1 files removed)")
