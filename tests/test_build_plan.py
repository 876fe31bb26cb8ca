"""From a request to jobs: their order, their boundaries, what of them is missing, and what the budget leaves out."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from atlases import LAYERS, QUICK, built, images, opened, options, recipe_name, tree
from hypothesis import given, settings
from hypothesis import strategies as st

import weightatlas as wa
from weightatlas.builder.jobs.asking import Asked
from weightatlas.builder.jobs.context import Context, Settings
from weightatlas.builder.jobs.levels import levels
from weightatlas.builder.jobs.planning import KINDS, planned
from weightatlas.builder.jobs.request import requested
from weightatlas.builder.jobs.running import run
from weightatlas.lens import photos_from
from weightatlas.store import open_files
from weightatlas.store.files import Overlay

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(scope="module")
def photos(net):
    return photos_from(net, images())


def plan_of(net, *requests, photos=None):
    measured = photos is not None
    return planned(net, requests, Settings(net.weights_hash, measured=measured), photos, measured)


@pytest.fixture(scope="module")
def plan(net, photos):
    """A plan with every kind of job."""
    own = recipe_name(QUICK)
    variants = [f"{own}.{v}" for v in ("negative", "diverse", "positions", "factors")]
    return plan_of(net, requested(net, recipes=[QUICK, *variants, "display"], batch=3, units=range(4)), photos=photos)


def made(jobs):
    return {path for job in jobs for path in job.makes}


class TestOrder:
    def test_every_kind_of_work_is_in_it(self, plan):
        assert {job.kind for job in plan.jobs} == set(KINDS)

    def test_names_and_what_is_made_are_unique(self, plan):
        names = [job.name for job in plan.jobs]
        assert len(names) == len(set(names))
        paths = [path for job in plan.jobs for path in job.makes]
        assert len(paths) == len(set(paths))
        assert all(job.makes for job in plan.jobs)

    def test_what_is_useful_first_comes_first(self, plan):
        """Weights, what they tell of units, a quick picture of every unit, and only then what takes long."""
        order = [job.recipe if job.kind == "pictures" else job.kind for job in plan.jobs]
        quick = recipe_name(QUICK)
        first = {name: order.index(name) for name in dict.fromkeys(order)}
        last = {name: len(order) - 1 - order[::-1].index(name) for name in first}
        chain = ["statistics", "weights", "factors", "banding", "units", "examples", quick, "paths", "agreement",
                 f"{quick}.negative", f"{quick}.diverse", f"{quick}.positions", f"{quick}.factors", "display"]  # fmt: skip
        assert list(first) == chain
        for earlier, later in itertools.pairwise(chain):
            assert last[earlier] < first[later]

    def test_the_quick_pass_reaches_every_unit_before_any_full_picture(self, plan):
        jobs = [job for job in plan.jobs if job.kind == "pictures"]
        quick = [job for job in jobs if job.recipe == recipe_name(QUICK)]
        assert {(job.layer, u) for job in quick for u in job.units} == {(n, u) for n in LAYERS for u in range(4)}
        assert jobs[: len(quick)] == quick

    def test_batches_cover_each_unit_once_and_pictures_of_many_tiles_are_jobs_of_their_own(self, plan):
        for layer in LAYERS:
            for recipe in ("", ".negative", ".factors"):
                own = [j for j in plan.jobs if j.layer == layer and j.recipe == recipe_name(QUICK) + recipe]
                assert [j.units for j in own] in ([(0, 1, 2), (3,)], []), recipe
        several = [j for j in plan.jobs if j.recipe.endswith(("diverse", "positions"))]
        assert {len(j.units) for j in several} == {1}
        assert {j.on_device for j in plan.jobs if j.kind == "pictures"} == {True}
        assert not [j for j in plan.jobs if j.on_device and j.kind != "pictures"]

    def test_jobs_name_earlier_ones(self, plan):
        place = {job.name: n for n, job in enumerate(plan.jobs)}
        assert all(place[name] < place[job.name] for job in plan.jobs for name in job.after)


@pytest.mark.slow
def test_a_job_reads_nothing_but_what_those_it_names_have_made(net, photos, tmp_path):
    """Each is done over a store that holds the files of the jobs before it, and of no other: the same bytes come."""
    folder, _ = built()
    whole = tree(folder)
    asked = Asked.of(net, folder, **options())
    owner = asked.look()
    everything, _ = asked.plan(owner)
    jobs = {job.name: job for job in everything.jobs}

    def closure(job):
        return {job.name}.union(*(closure(jobs[name]) for name in job.after))

    marks = {path: job.name for job in jobs.values() for path in job.makes}
    below = {p.rpartition("/")[0] + "/": name for p, name in marks.items() if p.endswith("zarr.json")}
    parts, compared = {}, 0
    for job in jobs.values():
        files = Overlay(open_files(tmp_path))
        files.written = dict(parts) if job.kind == "examples" else {}
        for path, data in whole.items():
            maker = marks.get(path) or next((n for start, n in below.items() if path.startswith(start)), "")
            if maker in closure(job) - {job.name}:
                files.written[path] = data
        before = dict(files.written)
        recipes = {name: own for request in owner.requests for name, own in request.own.items()}
        outcome = run(Context(net, files, owner.settings, recipes, photos), job, pauses=())
        assert outcome.failures == (), job.name
        new = {path: data for path, data in files.written.items() if path not in before}
        assert set(job.makes) <= set(new), job.name
        assert (outcome.made, outcome.bytes) == (len(new), sum(map(len, new.values())))
        if job.kind == "examples" and not job.layer:
            parts = new
            continue
        assert {p: hashlib.sha256(d).hexdigest() for p, d in new.items()} == {
            p: hashlib.sha256(whole[p]).hexdigest() for p in new
        }, job.name
        compared += len(new)
    derived = {"atlas.json", "edges.json", "model.json", "layers.json", "graph.json"}
    assert compared == len([p for p in whole if p not in derived and not p.startswith("walls/")])


class TestBoundaries:
    def test_jobs_are_the_same_whatever_exists(self, net, tmp_path):
        asked = Asked.of(net, tmp_path / "empty", **options())
        fresh, _ = asked.plan(asked.look())
        again = Asked.of(net, built()[0], **options())
        assert again.plan(again.look())[0].jobs == fresh.jobs
        goes_on = Asked.of(net, built()[0], images=images())  # with all that was ever asked
        assert goes_on.plan(goes_on.look())[0].jobs == fresh.jobs

    @FAST
    @given(data=st.data())
    def test_two_requests_have_the_jobs_of_each(self, net, data):
        def one():
            chosen = data.draw(st.lists(st.sampled_from(LAYERS), min_size=1, unique=True))
            units = data.draw(st.sampled_from([None, [0], [1, 3], range(5)]))
            recipes = data.draw(st.sampled_from(["quick", ["quick", "display"], ["display", QUICK], []]))
            return requested(net, chosen, units, recipes, batch=data.draw(st.sampled_from([1, 2, 8])))

        first, second = one(), one()
        both = plan_of(net, first, second)
        own = {job.name: job for job in both.jobs}
        assert len(own) == len(both.jobs)
        for request in (first, second):
            alone = plan_of(net, request)
            for job in alone.jobs:
                stage = own[job.name].stage  # a recipe that is the other's first comes earlier
                others = own[job.name].others
                assert dataclasses.replace(job, stage=stage, others=others) == own[job.name]
                assert set(job.others) <= set(others)
            assert {j.name for j in alone.jobs} <= {j.name for j in both.of(request)}
            assert set(alone.wanted.pairs) <= set(both.wanted.pairs)
            for place, units in alone.wanted.pictures.items():
                assert set(units) <= set(both.wanted.pictures[place])

    def test_of_two_requests_each_has_its_own_pictures_and_the_weights_at_its_layers(self, net):
        first = requested(net, ["stem", "blocks.0"], [0, 1], "quick")
        second = requested(net, ["down", "head"], None, "display", pairs=[("stem", "head")])
        both = plan_of(net, first, second)

        def own(request):
            return {
                (j.kind, j.layer, j.source, j.recipe) for j in both.of(request) if j.kind in ("weights", "pictures")
            }

        assert own(first) == {
            ("weights", "stem", "input", ""),
            ("weights", "blocks.0", "stem", ""),
            ("weights", "blocks.0", "input", ""),
            ("weights", "down", "blocks.0", ""),
            ("weights", "head", "stem", ""),
            ("pictures", "stem", "", "quick"),
            ("pictures", "blocks.0", "", "quick"),
        }
        assert own(second) == {
            ("weights", "down", "blocks.0", ""),
            ("weights", "head", "down", ""),
            ("weights", "head", "stem", ""),
            ("pictures", "down", "", "display"),
            ("pictures", "head", "", "display"),
        }


class TestMissing:
    @FAST
    @given(data=st.data())
    def test_a_job_is_missing_until_all_that_it_makes_is_there(self, plan, data):
        whole = sorted(made(plan.jobs))
        few = data.draw(st.booleans())
        drawn = set(data.draw(st.lists(st.sampled_from(whole), unique=True, max_size=12 if few else len(whole))))
        exists = drawn if few else set(whole) - drawn
        missing = plan.missing(exists)
        names = [job.name for job in missing]
        assert names == [job.name for job in plan.jobs if job.name in names]  # as they are, in their order
        undone = {j.name for j in plan.jobs if not set(j.makes) <= exists}
        parts = {j.name for j in plan.jobs if j.kind == "examples" and not j.layer}
        read = {name for j in plan.jobs if j.name in undone for name in j.after}
        assert set(names) == undone - (parts - read)
        assert plan.missing(exists | made(missing)) == []

    def test_parts_of_the_images_are_needed_only_while_something_reads_them(self, plan):
        parts = [j for j in plan.jobs if j.kind == "examples" and not j.layer]
        assert len(parts) == 1
        readers = [j for j in plan.jobs if parts[0].name in j.after]
        exists = made(plan.jobs) - made(parts)
        assert plan.missing(exists) == []
        for reader in readers:
            assert plan.missing(exists - {reader.makes[0]}) == [*parts, reader]

    @FAST
    @given(data=st.data())
    def test_only_some_kinds_are_made_and_what_they_read(self, net, data):
        kinds = data.draw(st.lists(st.sampled_from([*KINDS, "quick", "positions", "display"]), min_size=1, unique=True))
        asked = Asked.of(net, "nowhere", only=kinds, images=images(2), recipes=["quick", "quick.positions"])
        everything, now = asked.plan(asked.look())
        exists = set(data.draw(st.lists(st.sampled_from(sorted(made(everything.jobs))), unique=True, max_size=30)))
        chosen = {job.name: job for job in asked.selected(everything, now, exists)}
        missing = {job.name: job for job in everything.missing(exists)}
        named = {
            n for n, j in missing.items() if j.kind in kinds or j.recipe in kinds or j.recipe.partition(".")[2] in kinds
        }
        assert named <= set(chosen)
        read, before = set(named), set()
        while read != before:  # everything that these read, and that reads, until nothing is added
            before, read = read, read | {n for name in read for n in missing[name].after if n in missing}
        assert set(chosen) == read
        assert list(chosen) == [n for n in missing if n in read]


@pytest.fixture(scope="module")
def sizes(net):
    """Bytes of weights by pair, nearest layers first: neighbours, then those two back, then others that are asked."""
    known = levels(net)
    pairs = [*known.neighbours, *known.two_back, ("stem", "head")]
    found = {}
    for source, target in pairs:
        values = wa.expanded_weights(net, source, target, skip="exclude").values
        uniform = np.ptp(values, axis=(2, 3)).max() == 0 and values.shape[2:] != (1, 1)
        values = values[:, :, :1, :1] if uniform else values
        targets, sources, height, width = values.shape
        found[source, target] = values.nbytes + sources * min(24, targets) * height * width * 4  # maps of its outputs
    return found


class TestBudget:
    def test_all_pairs_have_the_size_of_their_arrays(self, net, sizes):
        plan = plan_of(net, requested(net, pairs=[("stem", "head")]))
        assert {(p.source, p.target): p.bytes for p in plan.wanted.pairs} == sizes
        assert plan.wanted.left_out == ()
        assert [p.span for p in plan.wanted.pairs] == [1] * 5 + [2] * 4 + [0]

    @FAST
    @given(share=st.floats(0, 1.1))
    def test_the_nearest_that_fit_are_kept(self, net, sizes, share):
        budget = int(share * sum(sizes.values()))
        plan = plan_of(net, requested(net, pairs=[("stem", "head")], budget=budget, recipes="quick.positions"))
        kept, spent = [], 0
        for pair, size in sizes.items():
            if spent + size <= budget or pair == ("stem", "head"):  # which was asked for by name
                kept.append(pair)
                spent += size
        assert [(p.source, p.target) for p in plan.wanted.pairs] == kept
        assert [(p.source, p.target) for p in plan.wanted.left_out] == [p for p in sizes if p not in kept]
        read = {(j.source, j.layer) for j in plan.jobs if j.source}
        assert read <= set(kept)
        assert {(j.source, j.layer) for j in plan.jobs if j.kind == "weights"} == set(kept)

    def test_of_two_requests_the_larger_budget_holds(self, net, sizes):
        small_one, large = requested(net, budget=0), requested(net, budget=10**9)
        assert len(plan_of(net, small_one).wanted.pairs) == 0
        assert len(plan_of(net, small_one, large).wanted.pairs) == len(plan_of(net, large).wanted.pairs) == 9


def test_without_images_nothing_that_needs_them_is_planned(net):
    plan = plan_of(net, requested(net))
    assert {j.kind for j in plan.jobs} == set(KINDS) - {"statistics", "examples", "agreement"}
    assert not [place for place in plan.wanted.pictures if "examples" in place[1]]


def test_weights_wait_for_the_statistics_that_their_gates_are_read_from(net, photos):
    plan = plan_of(net, requested(net), photos=photos)
    for job in plan.jobs:
        if job.kind in ("weights", "paths", "units"):
            assert "statistics" in job.after
