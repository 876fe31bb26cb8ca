"""Faults: each is told with its reason, stops nothing else, and costs nothing that was made."""

import contextlib
import errno
import os
import shutil
import subprocess
import threading

import fsspec
import numpy as np
import pytest
import torch
from atlases import QUICK, differences, opened, options, recipe_name, small, tree
from torch import nn

import weightatlas as wa
from weightatlas.builder.jobs import picturing, running
from weightatlas.errors import ArgumentError, StoreError, UnknownNameError
from weightatlas.records import base
from weightatlas.store import layout

pytestmark = pytest.mark.usefixtures("one_thread")
OWN = recipe_name(QUICK)
SLOW = pytest.mark.slow
LITTLE = {"layers": ["stem", "blocks.0"], "recipes": [QUICK], "units": [0, 1, 2], "batch": 3}


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that were waited between attempts, without waiting."""
    waited = []
    monkeypatch.setattr(running.time, "sleep", waited.append)
    return waited


@pytest.fixture(scope="module")
def little(net, tmp_path_factory):
    """The files of an undisturbed little atlas."""
    folder = tmp_path_factory.mktemp("little")
    wa.build(net, folder, **LITTLE)
    return tree(folder)


def failing(monkeypatch, kind, error, times=10**9, when=lambda job: True):
    """Makes the work of a kind of jobs raise so many times; returns the jobs that it was tried on."""
    real, tried = running.WORKERS[kind], []

    def work(context, job):
        if when(job):
            tried.append(job)
            if len(tried) <= times:
                raise error() if callable(error) else error
        return real(context, job)

    monkeypatch.setitem(running.WORKERS, kind, work)
    return tried


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"stop_after": "x"}, "stop_after='x' is no number of seconds"),
        ({"stop_after": float("nan")}, "is no number of seconds"),
        ({"stop": 5}, "stop=5 is no event"),
        ({"progress": 5}, "progress=5 is no function"),
        ({"force": "no"}, "force='no' must be True or False"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_anything_is_begun(tmp_path, more, words):
    with pytest.raises(ArgumentError, match=words):
        wa.build(opened(), tmp_path / "a", **more)
    with pytest.raises(ArgumentError, match="opened, not of str"):
        wa.build("efficientnet_lite0", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_recipe_of_ones_own_that_was_never_asked_for_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="no recipe of this atlas 'own-nope'"):
        wa.build(opened(), tmp_path / "a", only="own-nope")


def test_other_peoples_unfinished_files_are_left_alone(tmp_path):
    for name in ("deep/.user.0123456789abcdef", ".user.0123456789abcdef", "weights/.c.0.0123456789abcdef"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    wa.build(opened(), tmp_path, layers="stem", recipes=[], only="banding")
    assert (tmp_path / "deep/.user.0123456789abcdef").exists()
    assert (tmp_path / ".user.0123456789abcdef").exists()
    assert not (tmp_path / "weights/.c.0.0123456789abcdef").exists()


class TestValues:
    @pytest.mark.slow
    def test_of_a_layer_with_nan_nothing_is_made_and_of_all_others_everything(self, tmp_path):
        net = small()
        with torch.no_grad():
            net.module.blocks[1].project.weight[3, 0, 1, 1] = torch.nan
        atlas = wa.build(net, tmp_path, recipes=[QUICK], units=[0, 3])
        failures = {f["job"]: f for f in atlas.manifest["failures"]}
        behind = ["blocks.1", "down", "head"]  # what is NaN stays NaN
        pictures = {f"pictures {n} {OWN} 0,3" for n in behind}
        across = {"blocks.1 ← blocks.0", "blocks.1 ← stem", "down ← blocks.0"}
        assert set(failures) == pictures | {f"weights {p}" for p in across}
        for failure in failures.values():
            assert "blocks.1.project.weight" in failure["error"]
        assert failures[f"pictures down {OWN} 0,3"]["units"] == [0, 3]
        for pair in [("input", "stem"), ("stem", "blocks.0"), ("blocks.1", "down"), ("down", "head")]:
            truth = wa.expanded_weights(net, *pair, skip="exclude")
            assert np.array_equal(atlas.weights(*pair).values, truth.values)
        for layer in ("stem", "blocks.0"):
            assert atlas.pictures(layer, OWN).alive.all()
        assert atlas.coverage["units"] == [5, 5]
        assert wa.check_atlas(tmp_path).whole
        again = wa.build(net, tmp_path)  # they are tried again, and fail again
        assert again.manifest["failures"] == atlas.manifest["failures"]

    @pytest.mark.slow
    def test_gates_that_cannot_be_measured_are_told_with_the_way_around(self, tmp_path):
        net = small()
        with torch.no_grad():
            net.module.blocks[1].project.weight[3] = torch.nan
            net.module.blocks[1].expand.weight[3] = torch.nan
        more = {**LITTLE, "images": options()["images"], "only": "weights"}
        atlas = wa.build(net, tmp_path / "a", **more)
        failures = {f["job"]: f["error"] for f in atlas.manifest["failures"]}
        assert "gate='identity', does without" in failures["statistics"]
        atlas = wa.build(net, tmp_path / "b", gate="identity", **more)
        assert atlas.manifest["failures"] == []
        assert atlas.manifest["gates"] == {"rule": "identity", "measured": False}

    @pytest.mark.slow
    def test_pictures_that_come_to_nothing_are_kept_as_such(self, tmp_path):
        """Unit 1 grows beyond all numbers when it is excited."""

        class Steep(nn.Module):
            def forward(self, x):
                return torch.cat([x[:, :1], torch.exp(x[:, 1:] * 60)], 1)

        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 2, 3), Steep()).eval()
        with torch.no_grad():
            module[0].weight[1].abs_()
            module[0].bias[1] = -1
        net = wa.load(module, input=wa.InputSpec(shape=(3, 12, 12), mean=0.5, std=0.5))
        recipe = QUICK.but(steps=20)
        atlas = wa.build(net, tmp_path, layers="1", recipes=recipe, only="pictures", batch=2)
        made = atlas.pictures("1", recipe_name(recipe))
        assert made.alive.tolist() == [True, False]
        assert not np.isfinite(made.reached[1])
        assert atlas.manifest["failures"] == []
        assert atlas.layer("1")["pictures"][recipe_name(recipe)]["without_result"] == [[1, 1]]
        assert wa.check_atlas(tmp_path).whole


class TestUnits:
    @pytest.mark.slow
    def test_a_unit_that_fails_is_told_alone_and_the_others_are_made(self, net, little, tmp_path, monkeypatch):
        real = picturing.visualize

        def visualize(net, layer, *, units=None, **more):
            if layer == "stem" and 1 in units:
                raise ValueError("unit 1\nis odd")
            return real(net, layer, units=units, **more)

        with monkeypatch.context() as patched:
            patched.setattr(picturing, "visualize", visualize)
            patched.setattr(running.time, "sleep", lambda seconds: None)
            told = []
            atlas = wa.build(net, tmp_path, progress=told.append, **LITTLE)
        failed = next(e for e in told if e.event == "failed")
        assert (failed.job, failed.about) == (f"pictures stem {OWN} 0-2", "ValueError: unit 1 is odd")
        assert (failed.numbers["made"], failed.numbers["count"]) == (2, 3)
        assert atlas.manifest["failures"] == [
            {"job": f"pictures stem {OWN} 0-2", "error": "ValueError: unit 1 is odd", "units": [1], "attempts": 1}
        ]
        assert atlas.pictures("stem", OWN).units.tolist() == [0, 2]
        assert next(e for e in told if e.event == "done").numbers["failures"] == 1
        whole = wa.build(net, tmp_path)
        assert whole.manifest["failures"] == []
        # the one that failed is what it would have been; the others were made alone, which rounds otherwise
        path = layout.picture_path("stem", OWN, 1)
        assert (tmp_path / path).read_bytes() == little[path]
        other = [n for n in differences(tree(tmp_path), little) if not n.startswith(("walls/", "atlas.json"))]
        assert set(other) <= {layout.picture_path("stem", OWN, u) for u in (0, 2)}

    def test_whatever_a_networks_own_code_raises_is_a_failure_of_its_jobs(self, net, tmp_path, monkeypatch, pauses):
        class Own(Exception):
            pass

        failing(monkeypatch, "banding", Own)
        atlas = wa.build(net, tmp_path, only=["banding", "units"], **LITTLE)
        assert [(f["job"], f["error"], f["attempts"]) for f in atlas.manifest["failures"]] == [("banding", "Own", 2)]
        assert atlas.coverage["units"] == [2, 2]
        assert pauses == [0.5]  # nobody knows what it is, so it has a second chance

    def test_long_errors_are_cut(self, net, tmp_path, monkeypatch, pauses):
        failing(monkeypatch, "banding", lambda: ValueError("x" * 10_000))
        error = wa.build(net, tmp_path, only="banding", **LITTLE).manifest["failures"][0]["error"]
        assert len(error) == 500
        assert error[249] == "…"


class TestRetries:
    def build(self, net, tmp_path):
        told = []
        atlas = wa.build(net, tmp_path, progress=told.append, only="banding", **LITTLE)
        attempts = [e.numbers["attempt"] for e in told if e.event == "retried"]
        return atlas.manifest["failures"], attempts

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.EIO, "no answer"),
            MemoryError(),
            RuntimeError("CUDA error: device-side"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            TimeoutError("slow"),
        ],
    )
    def test_what_may_pass_by_itself_is_tried_again_after_growing_pauses(
        self, net, tmp_path, monkeypatch, pauses, error
    ):
        failing(monkeypatch, "banding", error, times=2)
        assert self.build(net, tmp_path) == ([], [1, 2])
        assert pauses == [0.5, 4.0]

    def test_and_given_up_in_the_end(self, net, tmp_path, monkeypatch, pauses):
        tried = failing(monkeypatch, "banding", OSError(errno.EIO, "no answer"))
        failures, attempts = self.build(net, tmp_path)
        assert (len(tried), attempts, failures[0]["attempts"]) == (3, [1, 2], 3)
        assert failures[0]["error"] == "OSError: [Errno 5] no answer"

    def test_errors_of_ours_are_answers(self, net, tmp_path, monkeypatch, pauses):
        tried = failing(monkeypatch, "banding", ArgumentError("that is so"))
        failures, attempts = self.build(net, tmp_path)
        assert (len(tried), attempts, pauses) == (1, [], [])
        assert failures[0]["error"] == "that is so"

    def test_a_store_that_does_not_answer_is_asked_again(self, net, tmp_path, monkeypatch, pauses):
        real, tried = base.os.replace, []

        def replace(source, target):
            if str(target).endswith("banding.json") and len(tried) < 2:
                tried.append(target)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(source, target)

        monkeypatch.setattr(base.os, "replace", replace)
        assert self.build(net, tmp_path) == ([], [1, 2])
        assert (tmp_path / "banding.json").exists()

    @pytest.mark.slow
    def test_what_is_damaged_stays_damaged(self, net, tmp_path, pauses):
        wa.build(net, tmp_path, **LITTLE)
        path = tmp_path / layout.weights_path("blocks.0", "stem") / "values" / "c.0.0.0.0"
        path.write_bytes(path.read_bytes()[:-1])
        (tmp_path / layout.connections_path("blocks.0", "stem", "factors")).unlink()
        atlas = wa.build(net, tmp_path)
        assert [f["job"] for f in atlas.manifest["failures"]] == ["factors blocks.0 ← stem"]
        assert "check DIR --repair" in atlas.manifest["failures"][0]["error"]
        assert pauses == []
        assert wa.check_atlas(tmp_path, repair=True).removed
        assert wa.build(net, tmp_path).manifest["failures"] == []
        assert wa.check_atlas(tmp_path).whole

    def test_units_are_tried_alone_without_further_pauses(self, net, tmp_path, monkeypatch, pauses):
        tried = failing(monkeypatch, "pictures", MemoryError(), when=lambda job: job.layer == "stem")
        atlas = wa.build(net, tmp_path, only="pictures", **LITTLE)
        assert [len(job.units) for job in tried] == [3, 3, 3, 1, 1, 1]
        assert pauses == [0.5, 4.0]
        assert atlas.manifest["failures"][0]["units"] == [0, 1, 2]

    def test_jobs_that_read_what_failed_say_so_and_are_made_once_that_is(self, net, tmp_path, monkeypatch, little):
        with monkeypatch.context() as patched:
            failing(patched, "weights", ArgumentError("not today"), when=lambda job: job.source == "stem")
            atlas = wa.build(net, tmp_path, **LITTLE)
        assert {f["job"]: f["error"] for f in atlas.manifest["failures"]} == {
            "weights blocks.0 ← stem": "not today",
            "factors blocks.0 ← stem": "it reads what 'weights blocks.0 ← stem' could not make: not today",
        }
        assert wa.build(net, tmp_path).manifest["failures"] == []
        assert differences(tree(tmp_path), little) == []


class TestPlaces:
    def full_after(self, monkeypatch, count, number=errno.ENOSPC):
        """A disk that takes so many more files."""
        real, left = base.os.open, [count]

        def opened(path, flags, *more, **others):
            if flags & os.O_CREAT and not str(path).endswith(".lock"):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(number, os.strerror(number), str(path))
            return real(path, flags, *more, **others)

        monkeypatch.setattr(base.os, "open", opened)

    @pytest.mark.parametrize("count", [pytest.param(2, marks=SLOW), 30, pytest.param(60, marks=SLOW)])
    def test_a_full_disk_ends_the_build_and_it_goes_on_once_there_is_room(
        self, net, tmp_path, monkeypatch, pauses, little, count
    ):
        with monkeypatch.context() as patched:
            self.full_after(patched, count)
            with pytest.raises(StoreError, match="No space left on device"):
                wa.build(net, tmp_path, **LITTLE)
        left = tree(tmp_path)
        assert not [n for n, data in left.items() if n not in ("atlas.json", "edges.json") and data != little.get(n)]
        assert len(left) <= count + 1
        wa.build(net, tmp_path, **LITTLE)
        assert differences(tree(tmp_path), little) == []

    @pytest.mark.slow
    def test_the_message_of_a_full_disk_says_what_stays(self, net, tmp_path, monkeypatch, pauses):
        self.full_after(monkeypatch, 10)
        with pytest.raises(StoreError, match=r"No space left.*\. What was made before stays; build again to go on$"):
            wa.build(net, tmp_path, **LITTLE)

    @contextlib.contextmanager
    def mounted(self, folder, flags):
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    @pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount on this system")
    @pytest.mark.slow
    def test_a_disk_that_is_really_full(self, net, tmp_path, pauses, little):
        with self.mounted(tmp_path / "disk", "size=160k") as disk:
            with pytest.raises(StoreError, match="No space left on device"):
                wa.build(net, disk, **LITTLE)
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            assert wa.build(net, disk, **LITTLE).manifest["failures"] == []
            assert differences(tree(disk), little) == []

    @pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount on this system")
    @pytest.mark.slow
    def test_a_folder_that_is_really_read_only(self, net, tmp_path):
        with self.mounted(tmp_path / "disk", "size=4m") as disk:
            wa.build(net, disk, only="banding", **LITTLE)
            before = tree(disk)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(StoreError, match=r"could not write .*Read-only file system"):
                wa.build(net, disk, **LITTLE)
            assert wa.Atlas(disk).coverage["units"] == [0, 2]  # it can be read all the same
            assert tree(disk) == before

    def test_a_folder_that_may_not_be_written(self, net, tmp_path, monkeypatch, pauses):
        self.full_after(monkeypatch, 0, errno.EACCES)
        with pytest.raises(StoreError, match=r"could not write .*Permission denied"):
            wa.build(net, tmp_path / "atlas", **LITTLE)
        assert tree(tmp_path) == {}

    @pytest.mark.parametrize(
        "kind", [pytest.param("weights", marks=SLOW), pytest.param("units", marks=SLOW), "pictures"]
    )
    def test_a_folder_that_is_removed_meanwhile_is_not_made_again(self, net, tmp_path, kind):
        folder = tmp_path / "atlas"

        def remove(event):
            if event.event == "started" and event.kind == kind:
                shutil.rmtree(folder, ignore_errors=True)

        with pytest.raises(StoreError, match="is gone"):
            wa.build(net, folder, progress=remove, **LITTLE)
        assert not folder.exists()

    @pytest.mark.slow
    def test_a_folder_that_is_moved_away_and_back(self, net, tmp_path, little):
        folder = tmp_path / "atlas"

        def move(event):
            if event.event == "started" and event.kind == "pictures":
                folder.rename(tmp_path / "elsewhere")

        with pytest.raises(StoreError, match="put the folder back and build again"):
            wa.build(net, folder, progress=move, **LITTLE)
        (tmp_path / "elsewhere").rename(folder)
        wa.build(net, folder, **LITTLE)
        assert differences(tree(folder), little) == []


class TestTwoAtOnce:
    def test_in_one_folder_the_second_is_told_and_nothing_is_lost(self, net, tmp_path, little):
        told = []

        def second(event):
            if event.event == "started":
                with pytest.raises(StoreError, match=r"another build is at work .*nothing that it has made is lost"):
                    wa.build(net, tmp_path, **LITTLE)
                told.append(event.job)

        wa.build(net, tmp_path, progress=second, **LITTLE)
        assert len(told) > 5
        assert differences(tree(tmp_path), little) == []
        wa.build(net, tmp_path, **LITTLE)  # afterwards the folder is free

    @pytest.mark.slow
    def test_after_an_error_the_folder_is_free(self, net, tmp_path):
        def stop(event):
            raise RuntimeError("enough")

        for _ in range(2):
            with pytest.raises(RuntimeError, match="enough"):
                wa.build(net, tmp_path, progress=stop, **LITTLE)
        assert wa.build(net, tmp_path, only="banding").manifest["failures"] == []

    @pytest.mark.slow
    def test_at_a_url_both_do_the_work_and_end_with_the_same(self, net, tmp_path):
        url, more = "memory://two-at-once", {**LITTLE, "images": options()["images"]}
        wa.build(net, tmp_path, **more)
        atlases, errors = [], []
        nets, meet = [small(), small()], threading.Barrier(2)
        for one in nets:
            wa.layer_graph(one)

        def work():
            try:
                atlases.append(wa.build(nets.pop(), url, progress=meeting(), **more))
            except BaseException as error:
                errors.append(error)
                raise

        def meeting():
            met = []

            def listen(event):
                if event.event == "started" and event.kind not in met:  # both begin each kind of work together
                    met.append(event.kind)
                    with contextlib.suppress(threading.BrokenBarrierError):
                        meet.wait(2)

            return listen

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [a.manifest["failures"] for a in atlases] == [[], []]
        system = fsspec.filesystem("memory")
        found = {p.removeprefix("/two-at-once/"): system.cat_file(p) for p in system.find("/two-at-once")}
        system.rm("/two-at-once", recursive=True)
        assert differences(found, tree(tmp_path)) == []


class TestUrls:
    @pytest.fixture
    def url(self):
        yield "memory://an-atlas"
        system = fsspec.filesystem("memory")
        with contextlib.suppress(FileNotFoundError):
            system.rm("/an-atlas", recursive=True)

    def files(self):
        system = fsspec.filesystem("memory")
        return {p.removeprefix("/an-atlas/"): system.cat_file(p) for p in system.find("/an-atlas")}

    def test_an_atlas_at_a_url_has_the_files_of_a_folder(self, net, url, little):
        wa.build(net, url, **LITTLE)
        assert differences(self.files(), little) == []

    @pytest.mark.slow
    def test_one_that_answers_only_sometimes(self, net, url, little, monkeypatch, pauses):
        system, calls = fsspec.filesystem("memory"), []
        real = type(system).pipe_file

        def pipe_file(self, path, value, **more):
            calls.append(path)
            if len(calls) > 8 and len(calls) % 9 == 0:
                raise ConnectionError("reset by peer")
            return real(self, path, value, **more)

        with monkeypatch.context() as patched:
            patched.setattr(type(system), "pipe_file", pipe_file)
            with contextlib.suppress(StoreError):  # the overview has no second attempt
                wa.build(net, url, only="weights", **LITTLE)
        assert pauses
        wa.build(net, url, **LITTLE)
        assert differences(self.files(), little) == []

    def test_one_that_is_emptied_meanwhile(self, net, url):
        def remove(event):
            if event.event == "started" and event.kind == "banding":
                fsspec.filesystem("memory").rm("/an-atlas", recursive=True)

        with pytest.raises(StoreError, match="is gone"):
            wa.build(net, url, progress=remove, **LITTLE)
        assert self.files() == {}
