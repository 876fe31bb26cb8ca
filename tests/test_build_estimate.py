"""What a build would do and how long it takes: the counts are those of the build, and nothing is written."""

import math
import time

import pytest
import torch
import zarr
from atlases import FULL, QUICK, built, images, opened, options, recipe_name, small, tree

import weightatlas as wa
from weightatlas.errors import ArgumentError, StoreError
from weightatlas.lens import collection

pytestmark = pytest.mark.usefixtures("one_thread")
OWN = recipe_name(QUICK)
VARIANTS = [f"{OWN}.{v}" for v in ("negative", "diverse", "positions", "factors")]


@pytest.fixture(scope="module")
def net():
    return opened()


def counts_of(told):
    """What a build counted of each kind."""
    found = {}
    for event in told:
        if event.event in ("finished", "failed"):
            name = event.numbers.get("recipe") if event.kind == "pictures" else event.kind
            found[name] = found.get(name, 0) + event.numbers["count"]
    return found


def same_as_built(net, folder, **more):
    """An estimate, held against the build that follows."""
    before = tree(folder) if folder.exists() else None
    found = wa.estimate_build(net, folder, **more)
    assert (tree(folder) if folder.exists() else None) == before
    told = []
    atlas = wa.build(net, folder, progress=told.append, **more)
    planned = next(e for e in told if e.event == "planned").numbers
    assert found.jobs == (planned["jobs"], planned["of"])
    assert dict(found.counts) == planned["kinds"] == counts_of(told)
    assert found.weights_bytes == planned["weights_bytes"]
    made = [p for p in atlas.manifest["pairs"] if p["made"]]
    groups = [zarr.open_group(str(folder / p["path"]), mode="r") for p in made]
    kept = [group[name].nbytes for group in groups for name in ("values", "outgoing_maps")]
    assert not made or sum(kept) == found.weights_bytes
    return found


class TestCounts:
    @pytest.mark.slow
    def test_of_a_new_atlas_with_everything(self, net, tmp_path):
        more = {
            "layers": ["stem", "blocks.0", "blocks.1"],
            "recipes": [QUICK, *VARIANTS],
            "units": range(3),
            "batch": 2,
        }
        found = same_as_built(net, tmp_path / "a", images=images(), **more)
        for name, seconds in found.seconds.items():
            assert math.isfinite(seconds), name
            assert seconds > 0, name
        assert set(found.seconds) == set(found.counts)
        assert found.total == pytest.approx(sum(found.seconds.values()))
        assert repr(found).startswith(f"Estimate({found.jobs[0]} of {found.jobs[1]} jobs, about ")
        assert found.failures == found.left_out == found.notes == ()

    def test_of_what_is_left(self, net, tmp_path):
        more = {"layers": ["stem", "blocks.0"], "recipes": [QUICK], "units": range(3)}
        wa.build(net, tmp_path, only="weights", **more)
        assert "weights" not in same_as_built(net, tmp_path).counts
        found = wa.estimate_build(net, tmp_path)
        assert (found.jobs[0], found.counts, found.seconds, found.total) == (0, {}, {}, 0)

    @pytest.mark.slow
    def test_of_what_is_forced(self, net):
        """It tells of an atlas that is there as if it were not."""
        found = wa.estimate_build(net, built()[0], force=True, only=OWN, **options())
        assert found.counts == {OWN: 20}
        assert found.jobs[0] == 10
        assert wa.estimate_build(net, built()[0], only=OWN, **options()).jobs[0] == 0
        found = wa.estimate_build(net, built()[0], force=True, only="agreement", **options())
        assert found.counts == {"agreement": 9}  # what these read is there
        assert wa.check_atlas(built()[0]).whole

    @pytest.mark.slow
    def test_of_a_network_that_brings_its_statistics(self, tmp_path):
        net = small()
        wa.measure(net, images())
        found = same_as_built(net, tmp_path / "a", layers=["stem", "blocks.0"], recipes=[])
        assert "statistics" not in found.counts
        assert all(math.isfinite(s) for s in found.seconds.values())

    def test_of_many_images_the_time_is_not_told_but_the_count_is(self, net, tmp_path, monkeypatch):
        monkeypatch.setattr(collection, "PART", 2)
        more = {"layers": ["stem"], "recipes": [], "images": images(), "only": "examples"}
        found = same_as_built(net, tmp_path / "a", **more)
        assert math.isnan(found.seconds["examples"])
        assert found.total == 0

    @pytest.mark.slow
    def test_the_budget_and_what_cannot_be_made_are_told(self, tmp_path):
        net = small()
        with torch.no_grad():
            net.module.stem.weight[:] = torch.nan
        found = wa.estimate_build(net, tmp_path / "a", layers=["stem", "blocks.0", "blocks.1"], budget=2000, recipes=[])
        assert [f.split(":")[0] for f in found.failures] == [
            "weights stem ← input", "weights blocks.0 ← input", "weights blocks.1 ← stem"
        ][: len(found.failures)]  # fmt: skip
        assert "NaN" in found.failures[0]
        assert found.left_out
        assert all(" ← " in words and words.endswith(" bytes)") for words in found.left_out)
        assert not (tmp_path / "a").exists()


@pytest.mark.slow
class TestSeconds:
    def test_they_are_about_those_that_a_build_takes(self, net, tmp_path):
        """In the right order of size: short runs on a machine that does other things as well."""
        recipe = FULL.but(steps=60)
        more = {"layers": ["stem", "blocks.0"], "recipes": recipe, "only": "pictures"}
        found = wa.estimate_build(net, tmp_path, **more)
        began = time.perf_counter()
        wa.build(net, tmp_path, **more)
        spent = time.perf_counter() - began
        assert spent / 8 < found.total < spent * 8

    def test_more_pictures_take_longer(self, net, tmp_path):
        more = {"layers": ["blocks.0"], "only": "pictures", "batch": 2}
        short, long = (
            wa.estimate_build(net, tmp_path, recipes=QUICK.but(steps=s), units=u, **more).total
            for s, u in ((20, [0, 1]), (600, range(6)))
        )
        assert long > 3 * short


class TestRefusals:
    def test_as_a_build_does(self, net, tmp_path):
        with pytest.raises(ArgumentError, match="seed=-1"):
            wa.estimate_build(net, tmp_path, seed=-1)
        with pytest.raises(StoreError, match="with the weights"):
            wa.estimate_build(small(1), built()[0])
        with pytest.raises(StoreError, match="was measured on 5 images"):
            wa.estimate_build(net, built()[0], images=images(3))
        with pytest.raises(ArgumentError, match="not 'executor'"):
            wa.estimate_build(net, tmp_path, executor=2)
        assert list(tmp_path.iterdir()) == []
