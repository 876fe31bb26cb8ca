"""One atlas, one network: what does not belong into a folder is refused, and nothing there is touched."""

import contextlib
import copy
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from atlases import QUICK, SIDE, Small, built, differences, opened, options, small, tree
from torch import nn

import weightatlas as wa
from weightatlas.builder.jobs import cluster, local
from weightatlas.errors import ArgumentError, StoreError
from weightatlas.store import layout
from weightatlas.store.files import LOCK

pytestmark = pytest.mark.usefixtures("one_thread")
LITTLE = {"layers": ["stem", "blocks.0"], "recipes": [QUICK], "units": [0, 1]}


def looks(folder):
    """Everything of a folder that writing would change: names, contents, times, even of what was replaced by the same."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.stat()
        found[str(path)] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


def inside(folder):
    """The same without what every build touches: its lock, and the probe whether the folder can be written."""
    return {name: look for name, look in looks(folder).items() if name not in (str(folder), str(folder / LOCK))}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(built()[0], tmp_path / "atlas")
    return tmp_path / "atlas"


@pytest.fixture(scope="module")
def net():
    return opened()


class TestRefused:
    """Another build than the one that began it."""

    def refused(self, folder, net, error, words, **more):
        before = looks(folder)
        with pytest.raises(error, match=words) as stopped:
            wa.build(net, folder, **more)
        assert looks(folder) == before
        return str(stopped.value)

    def test_other_weights_with_both_hashes(self, folder, net):
        other = small(1)
        words = self.refused(folder, other, StoreError, "the atlas of Small with the weights")
        assert net.weights_hash[:12] in words
        assert other.weights_hash[:12] in words
        assert self.refused(folder, other, StoreError, "with the weights", force=True)  # that is no way around it

    def test_weights_that_changed_since_they_were_loaded(self, folder):
        net = small()
        with torch.no_grad():
            net.module.head.weight[3, 2] += 0.5
        assert net.weights_hash[:12] in self.refused(folder, net, StoreError, "with the weights")

    def test_another_model(self, folder):
        other = wa.load(nn.Sequential(nn.Conv2d(3, 2, 3)), input=wa.InputSpec(shape=(3, SIDE, SIDE)))
        self.refused(folder, other, StoreError, "but Sequential has the weights")

    def test_another_input(self, folder, net):
        for spec, words in [
            (wa.InputSpec(shape=(3, 24, SIDE), mean=0.5, std=0.5), r"shape \[3, 20, 20\] → \[3, 24, 20\]"),
            (wa.InputSpec(shape=(3, SIDE, SIDE), mean=0.4, std=0.5), r"mean \[0.5, 0.5, 0.5\] → \[0.4, 0.4, 0.4\]"),
        ]:
            other = wa.load(net.module, input=spec)
            assert other.weights_hash == net.weights_hash
            self.refused(folder, other, StoreError, "made for another input: " + words)

    def test_other_code_with_the_same_weights(self, folder):
        module = Small().eval()
        module.load_state_dict(small().module.state_dict())
        module.act = nn.GELU()
        other = wa.load(module, input=small().input)
        assert other.weights_hash == small().weights_hash
        self.refused(folder, other, StoreError, "but other layers or operators: first 'act' differs")

    def test_another_operator_between_the_same_layers(self, tmp_path):
        class Between(nn.Module):
            def __init__(self, act):
                super().__init__()
                self.a, self.b, self.plain = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), act

            def forward(self, x):
                return self.b(self.plain(self.a(x)))

        def net(act):
            torch.manual_seed(0)
            return wa.load(Between(act).eval(), input=wa.InputSpec(shape=(3, 12, 12)))

        wa.build(net(nn.functional.relu), tmp_path, only="weights", recipes=[])
        wa.build(net(torch.relu), tmp_path, only="weights", recipes=[])  # another name of the same
        self.refused(
            tmp_path, net(lambda x: 3 * nn.functional.gelu(x)), StoreError, "other layers or operators: first 'b'"
        )

    @pytest.mark.parametrize(("name", "value"), [("seed", 1), ("gate", "identity"), ("gate", 0.5)])
    def test_another_seed_or_gate(self, folder, net, name, value):
        self.refused(folder, net, ArgumentError, f"was begun with {name}=", **{name: value})

    def test_a_newer_schema(self, folder, net):
        for name in ("model.json", "atlas.json"):
            text = re.sub(r'"schema": \d+', '"schema": 99', (folder / name).read_text())
            (folder / name).write_text(text)
        (folder / "model.json").unlink()
        self.refused(folder, net, StoreError, "damaged|newer")

    def test_what_is_no_atlas_but_has_files_is_built_into(self, tmp_path, net):
        (tmp_path / "notes.txt").write_text("mine")
        wa.build(net, tmp_path, only="banding", **LITTLE)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_a_file_in_the_place_of_the_folder(self, tmp_path, net):
        (tmp_path / "atlas").write_text("mine")
        with pytest.raises(StoreError, match="is a file; an atlas needs a folder"):
            wa.build(net, tmp_path / "atlas")
        with pytest.raises(StoreError, match="could not make the folder"):
            wa.build(net, tmp_path / "atlas" / "below")
        assert (tmp_path / "atlas").read_text() == "mine"


class TestTheSame:
    def test_a_build_with_nothing_to_do_writes_nothing(self, folder, net):
        before = inside(folder)
        told = []
        for more in (
            options(),
            {"images": options()["images"]},
            {},
            {"seed": 0, "gate": "expected"},
            {"only": "units"},
        ):
            wa.build(net, folder, progress=told.append, **more)
            assert inside(folder) == before, more
        assert [e.event for e in told] == ["planned", "done"] * 5
        assert {e.numbers["jobs"] for e in told if e.event == "planned"} == {0}
        assert {e.numbers["left"] for e in told if e.event == "done"} == {0}

    @pytest.mark.slow
    def test_another_copy_of_the_network_goes_on(self, folder):
        wa.build(small(), folder, units=[5], layers="stem", recipes=QUICK)
        assert (
            folder / layout.picture_path("stem", wa.Atlas(folder).manifest["requests"][-1]["recipes"][0], 5)
        ).exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("gone", [["atlas.json"], ["model.json"], ["atlas.json", "edges.json"], ["layers.json", "graph.json"]])  # fmt: skip
    def test_what_tells_of_the_rest_is_made_again(self, folder, net, gone):
        for name in gone:
            (folder / name).unlink()
        wa.build(net, folder, **options())
        assert differences(tree(folder), tree(built()[0])) == []

    @pytest.mark.slow
    def test_what_people_added_is_left_alone(self, folder, net):
        atlas = wa.Atlas(folder)
        atlas.name_family("mine", "stem", [1, 2])
        (folder / "images" / "stem" / "mine.txt").write_text("a note")
        (folder / "weights" / "notes").mkdir()
        (folder / "weights" / "notes" / "a.txt").write_text("another")
        wa.build(net, folder, force=True, **{**options(), "only": "weights"})
        assert (folder / "images" / "stem" / "mine.txt").read_text() == "a note"
        assert (folder / "weights" / "notes" / "a.txt").read_text() == "another"
        assert [f["name"] for f in atlas.families if f.get("by") != "rule"] == ["mine"]

    def test_unfinished_files_of_a_killed_build_are_swept_away(self, folder, net):
        left = folder / "images" / "stem" / ".3.webp.0123456789abcdef"
        left.write_bytes(b"half")
        wa.build(net, folder, **options())
        assert not left.exists()
        assert differences(tree(folder), tree(built()[0])) == []


@pytest.mark.slow
class TestForce:
    def test_what_is_forced_is_made_again_and_nothing_else(self, folder, net):
        before = tree(folder)
        told = []
        wa.build(net, folder, progress=told.append, force=True, **{**options(), "only": ["weights", "agreement"]})
        done = {e.kind for e in told if e.event == "finished"}
        assert done == {"weights", "agreement"}
        assert sum(e.event == "finished" for e in told) == 18
        assert differences(tree(folder), before) == []  # and comes to the same

    def test_everything(self, folder, net):
        told = []
        wa.build(net, folder, progress=told.append, force=True, **options())
        jobs = next(e.numbers for e in told if e.event == "planned")
        assert jobs["jobs"] == jobs["of"]
        assert differences(tree(folder), tree(built()[0])) == []

    def test_only_the_layers_that_are_named(self, folder, net):
        told = []
        more = {**options(), "only": "pictures", "layers": "stem", "force": True}
        wa.build(net, folder, progress=told.append, **more)
        assert {e.job.split()[1] for e in told if e.event == "finished"} == {"stem"}

    def test_statistics_that_the_network_brought_are_brought_again(self, tmp_path):
        net = small()
        wa.measure(net, options()["images"])
        first = wa.build(net, tmp_path, **LITTLE)
        before = tree(tmp_path)
        assert first.manifest["gates"]["measured"]
        again = wa.build(net, tmp_path, force=True, **LITTLE)
        assert again.manifest["failures"] == []
        assert differences(tree(tmp_path), before) == []

    def test_without_the_images_what_was_measured_on_them_stays(self, folder, net):
        wa.build(net, folder, force=True)
        assert wa.Atlas(folder).manifest["failures"] == []
        assert differences(tree(folder), tree(built()[0])) == []
        with pytest.raises(ArgumentError, match="give them with images="):
            wa.build(net, folder, force=True, only="statistics")
        assert differences(tree(folder), tree(built()[0])) == []

    def test_other_images_are_no_matter_of_weights_alone(self, folder, net):
        before = inside(folder)
        with pytest.raises(StoreError, match="was measured on 5 images"):
            wa.build(net, folder, images=options()["images"][:3], force=True, only="weights")
        assert inside(folder) == before

    def test_a_part_cannot_be_measured_on_other_images(self, folder, net):
        before, others = inside(folder), options()["images"][:3]
        for more in (
            {"only": ["agreement", "examples"], "layers": ["down"]},  # the rest would stay as it was
            {"only": ["statistics", "agreement", "examples"]},  # weights would have the gates of before
            {"layers": ["down"], "recipes": [QUICK]},
        ):
            with pytest.raises(StoreError, match=r"was measured on 5 images .* now 3 others came in"):
                wa.build(net, folder, images=others, force=True, **more)
            assert inside(folder) == before

    @pytest.mark.parametrize("only", [None, ["agreement", "examples"]])
    def test_everything_can_be_measured_on_other_images(self, folder, net, only):
        others = options()["images"][:3]
        atlas = wa.build(net, folder, images=others, force=True, only=only)
        assert atlas.manifest["images"]["count"] == 3
        agreements = [atlas.document(layout.connections_path(p["target"], p["source"], "agreement"))
                      for p in atlas.manifest["pairs"]]  # fmt: skip
        assert {a["images"]["count"] for a in agreements} == {3}
        assert atlas.manifest["failures"] == []
        assert wa.check_atlas(folder).whole

    def test_nothing_is_taken_away_while_nobody_is_there_to_make_it_again(self, folder, net, monkeypatch):
        @contextlib.contextmanager
        def nobody(executor, context):
            raise ArgumentError(f"no scheduler answers at {executor!r}")
            yield

        pytest.importorskip("distributed")
        monkeypatch.setattr(cluster, "_client", nobody)
        before = tree(folder)
        with pytest.raises(ArgumentError, match="no scheduler answers at"):
            wa.build(net, folder, force=True, executor="tcp://127.0.0.1:9", only="pictures", **options())
        assert differences(tree(folder), before) == []


class TestChangesMeanwhile:
    def test_weights_that_change_while_a_build_runs_end_it(self, tmp_path):
        net, told = opened(), []
        before = net.weights_hash

        def train(event):
            told.append(event)
            if event.event == "started" and event.kind == "weights" and event.job.startswith("weights blocks.0 ← stem"):
                with torch.no_grad():
                    net.module.stem.weight.mul_(1.01)

        try:
            with pytest.raises(StoreError, match="build again to go on") as stopped:
                wa.build(net, tmp_path, progress=train, **LITTLE)
            assert before[:12] in str(stopped.value)
            assert net.weights_hash != before
            assert net.weights_hash[:12] in str(stopped.value)
        finally:
            net.module.load_state_dict(small().module.state_dict())
        finished = [e.job for e in told if e.event == "finished"]
        assert finished == ["weights stem ← input"]
        assert not (tmp_path / "weights" / "blocks.0" / "stem" / "zarr.json").exists()
        whole = wa.build(net, tmp_path, **LITTLE)  # once they are back, it goes on
        assert wa.check_atlas(tmp_path).whole
        truth = wa.expanded_weights(net, "stem", "blocks.0", skip="exclude")
        assert np.array_equal(whole.weights("stem", "blocks.0").values, truth.values)

    @pytest.mark.slow
    def test_errors_of_a_listener_are_its_own(self, tmp_path, net):
        """They end the build as they are, and are no failures of a job."""
        for where in ("planned", "step", "finished"):

            def listen(event, where=where):
                if event.event == where:
                    raise BrokenPipeError(where)

            folder = tmp_path / where
            with pytest.raises(BrokenPipeError, match=where):
                wa.build(net, folder, progress=listen, **LITTLE)
            assert wa.build(net, folder, **LITTLE).manifest["failures"] == []

    @pytest.mark.slow
    def test_statistics_taken_meanwhile_change_nothing(self, tmp_path):
        net = copy.copy(opened())

        def listen(event):
            if event.event == "started" and net.measured is None:
                wa.measure(net, options()["images"])

        found = wa.build(net, tmp_path, progress=listen, only="weights", **LITTLE)
        assert net.measured is not None
        truth = wa.expanded_weights(opened(), "stem", "blocks.0", skip="exclude")
        assert np.array_equal(found.weights("stem", "blocks.0").values, truth.values)


def test_the_pieces_that_hold_a_build_together_are_used():
    """What other tests patch is what builds call."""
    assert local.run.__module__ == "weightatlas.builder.jobs.running"
    assert json.loads((built()[0] / "model.json").read_text())["model"]["weights_hash"] == small().weights_hash
    assert os.path.exists(built()[0] / ".lock")
