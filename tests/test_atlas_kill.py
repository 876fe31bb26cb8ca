"""A build that is killed at any moment goes on where it was, and ends as if nothing had happened."""

import contextlib
import json
import os
import random
import signal
import time

import pytest
from atlases import Builder, differences, small, tree

import weightatlas as wa

pytestmark = pytest.mark.slow
KILLS = 30


@pytest.fixture(scope="module")
def builder():
    opened = Builder("few")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def undisturbed(builder, tmp_path_factory):
    """The files of an atlas that nobody killed, how long it took, and how many writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    builder.start(folder / "atlas", folder / "log")
    assert builder.wait() == 0
    return tree(folder / "atlas"), time.monotonic() - began


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def jobs_done_twice(log):
    """Jobs that were begun again after they had been finished."""
    finished, again = set(), []
    for event in events(log):
        if event["event"] == "started" and event["job"] in finished:
            again.append(event["job"])
        if event["event"] == "finished":
            finished.add(event["job"])
    return again


def test_two_undisturbed_builds_are_equal_byte_for_byte(builder, undisturbed, tmp_path):
    builder.start(tmp_path / "atlas", tmp_path / "log")
    assert builder.wait() == 0
    assert differences(tree(tmp_path / "atlas"), undisturbed[0]) == []
    kinds = {event["kind"] for event in events(tmp_path / "log") if event["event"] == "finished"}
    assert kinds == {
        "statistics",
        "weights",
        "factors",
        "banding",
        "units",
        "examples",
        "pictures",
        "paths",
        "agreement",
    }
    assert not [event for event in events(tmp_path / "log") if event["event"] in ("failed", "retried")]


def test_killed_at_thirty_random_moments_it_ends_as_if_undisturbed(builder, undisturbed, tmp_path):
    whole, seconds = undisturbed
    generator = random.Random(20)
    kills = rounds = in_flight = 0
    while kills < KILLS:
        folder, log = tmp_path / f"atlas{rounds}", tmp_path / f"log{rounds}"
        rounds += 1
        own = 0
        while True:
            in_the_middle_of_a_write = generator.random() < 0.4
            pid = builder.start(folder, log, generator.randrange(1, 300) if in_the_middle_of_a_write else 0)
            if not in_the_middle_of_a_write:
                time.sleep(generator.uniform(0, seconds * 0.6))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            status = builder.wait()
            if status == 0:
                break
            assert status == -signal.SIGKILL
            own += 1
        kills += own
        assert differences(tree(folder), whole) == []
        assert jobs_done_twice(log) == []
        told = events(log)
        begun = [event["job"] for event in told if event["event"] == "started"]
        in_flight += len(begun) - len(set(begun))
        assert len(begun) - len(set(begun)) <= own  # no more than the job in flight at each kill
        # a build that has nothing to do does nothing, and changes nothing
        builder.start(folder, log)
        assert builder.wait() == 0
        assert len([e for e in events(log) if e["event"] == "started"]) == len(begun)
        assert differences(tree(folder), whole) == []
    assert rounds > 1
    assert in_flight > 5  # kills did hit jobs in flight


def test_an_atlas_left_by_a_kill_is_whole_as_far_as_it_goes(builder, undisturbed, tmp_path):
    """Whatever can be seen after a kill is what it will be; unfinished files are none of the atlas's."""
    whole, _ = undisturbed
    generator = random.Random(3)
    for number in range(6):
        folder = tmp_path / str(number)
        builder.start(folder, tmp_path / "log", generator.randrange(20, 525))
        if builder.wait() == 0:
            continue
        left = {name: data for name, data in tree(folder).items() if not name.rpartition("/")[2].startswith(".")}
        derived = {"atlas.json", "edges.json"}
        wrong = [
            n for n, data in left.items() if data != whole.get(n) and n not in derived and not n.startswith("walls/")
        ]
        assert not [n for n in wrong if not n.startswith("activations/")]
        report = wa.check_atlas(folder)
        assert [p for p in report.problems if "is missing" not in p.what] == []
        if (folder / "atlas.json").exists():
            atlas = wa.Atlas(folder)
            for pair in atlas.manifest["pairs"]:
                if pair["made"]:
                    atlas.weights(pair["source"], pair["target"]).require_finite()
    assert small().layers["stem"].units == 6
