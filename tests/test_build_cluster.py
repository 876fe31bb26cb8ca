"""Builds on dask workers: the same bytes as in one process, whatever happens to workers, and nothing done twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path

import dask
import distributed
import pytest
import torch
from atlases import QUICK, differences, images, opened, recipe_name, small, tree
from torch import nn

import weightatlas as wa
from weightatlas.builder.jobs import cluster as clusters
from weightatlas.builder.jobs import running
from weightatlas.builder.jobs.asking import Asked
from weightatlas.builder.jobs.cluster import on_cluster
from weightatlas.builder.jobs.context import Context, Settings
from weightatlas.builder.jobs.job import GPU, Event
from weightatlas.builder.jobs.planning import KINDS
from weightatlas.builder.jobs.stopping import Stop
from weightatlas.errors import ArgumentError, MissingPackageError, StoreError
from weightatlas.store import open_files

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(300)]
LITTLE = {"layers": ["stem", "blocks.0", "blocks.1"], "recipes": [QUICK], "units": [0, 1, 2, 3], "batch": 2}
OWN = recipe_name(QUICK)


def local_cluster(workers, processes=True):
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=processes, host="127.0.0.1" if processes else None,
        dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50,
    )  # fmt: skip


@pytest.fixture(scope="module")
def forked():
    """Workers are forked from one process that has imported everything, so that another one in its place is there at once.

    The local processes of builds are begun as ever, see ``test_a_number_of_local_processes`` and the one of Ctrl-C.
    """
    here, before = str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        distributed.utils.get_mp_context().set_forkserver_preload(["warmed"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, before])))
            forkserver.ensure_running()
        yield


@pytest.fixture(scope="module")
def client(forked):
    """Two worker processes that come back when they are killed; what they were at when they died is given up at once."""
    with (
        dask.config.set({**clusters.LOCALLY, "distributed.scheduler.allowed-failures": 0}),
        local_cluster(2) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(scope="module")
def little(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("little")
    wa.build(net, folder, **LITTLE)
    return tree(folder)


@contextlib.contextmanager
def watched(client, log, *, dies="", always=False, waits=0.0):
    """Every job that a worker begins and ends is noted in a file.

    Args:
        client: of the workers.
        log: the file.
        dies: name of a job in whose middle the worker kills itself: after its first file is written.
        always: whether it does so each time, or once.
        waits: seconds that a job of pictures takes longer.
    """
    import cloudpickle

    class Watch(distributed.WorkerPlugin):  # travels by value, as it is no name of a module
        name = "watch"

        def setup(self, worker):
            from weightatlas.builder.jobs import running

            self.before = dict(running.WORKERS)
            for kind, work in self.before.items():
                running.WORKERS[kind] = self.noting(work)

        def teardown(self, worker):
            from weightatlas.builder.jobs import running

            running.WORKERS.update(self.before)

        def noting(self, work):
            import os
            import signal
            import time

            def note(word, job):
                with open(log, "a", encoding="utf-8") as file:
                    file.write(f"{word} {os.getpid()} {job.name}\n")

            def noted(context, job):
                note("begun", job)
                if job.kind == "pictures":
                    time.sleep(waits)
                died = os.path.exists(f"{log}.died")
                if job.name == dies and (always or not died):
                    with open(f"{log}.died", "w", encoding="utf-8"):
                        pass
                    real = context.files.write

                    def write(path, data):
                        real(path, data)
                        os.kill(os.getpid(), signal.SIGKILL)

                    context.files.write = write
                made = work(context, job)
                note("ended", job)
                return made

            return noted

    cloudpickle.dumps(Watch)
    client.register_plugin(Watch())
    try:
        yield
    finally:
        client.unregister_worker_plugin("watch")
        client.wait_for_workers(2, timeout=60)


def noted(log, word):
    """Names of jobs that were begun or ended, in order."""
    lines = [line.split(" ", 2) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []
    return [name for said, _, name in lines if said == word]


def finished(told):
    return [e.job for e in told if e.event in ("finished", "failed")]


class TestTheSame:
    def test_bytes_as_in_one_process(self, net, client, tmp_path):
        told, here, log = [], [], tmp_path / "log"
        more = {**LITTLE, "images": images(), "recipes": [QUICK, f"{OWN}.positions"]}  # jobs of every kind
        wa.build(net, tmp_path / "here", progress=here.append, **more)
        with watched(client, log):
            atlas = wa.build(net, tmp_path / "atlas", executor=client, progress=told.append, **more)
        assert differences(tree(tmp_path / "atlas"), tree(tmp_path / "here")) == []
        assert atlas.manifest["failures"] == []
        assert Counter(noted(log, "begun")).most_common(1)[0][1] == 1
        assert sorted(finished(told)) == sorted(finished(here))
        assert {e.kind for e in here if e.event == "finished"} == set(KINDS)
        assert len({e.numbers["where"] for e in told if e.event == "finished"}) == 2  # both took part
        assert told[0].event == "planned"
        assert told[-1].event == "done"

    def test_the_address_of_a_scheduler(self, net, client, tmp_path, little):
        wa.build(net, tmp_path, executor=client.scheduler.address, **LITTLE)
        assert differences(tree(tmp_path), little) == []

    def test_a_number_of_local_processes(self, net, tmp_path, little):
        told = []
        with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):
            wa.build(net, tmp_path, executor=2, progress=told.append, **LITTLE)
        assert differences(tree(tmp_path), little) == []
        where = {e.numbers["where"] for e in told if e.event == "finished"}
        assert len(where) == 2
        told.clear()
        wa.build(net, tmp_path, executor=2, progress=told.append, **LITTLE)  # for nothing, no process is begun
        assert [e.event for e in told] == ["planned", "done"]

    def test_threads_of_this_process(self, net, tmp_path, little):
        with local_cluster(1, processes=False) as cluster, distributed.Client(cluster) as client:
            wa.build(net, tmp_path, executor=client, **LITTLE)
        assert differences(tree(tmp_path), little) == []

    def test_what_one_began_another_goes_on_with(self, net, client, tmp_path, little):
        wa.build(net, tmp_path, executor=client, only="weights", **LITTLE)
        wa.build(net, tmp_path, only=["factors", "banding"])
        wa.build(net, tmp_path, executor=client)
        assert differences(tree(tmp_path), little) == []


class TestNetworks:
    def test_one_that_no_other_process_knows_travels_as_it_is(self, client, tmp_path):
        class Unknown(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.act, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)

            def forward(self, x):
                return self.last(self.act(self.conv(x)))

        torch.manual_seed(0)
        net = wa.load(Unknown().eval(), input=wa.InputSpec(shape=(3, 12, 12)))
        more = {"recipes": QUICK, "units": [0, 1], "images": torch.randn(4, 3, 12, 12)}
        here = wa.build(net, tmp_path / "here", **more)
        there = wa.build(net, tmp_path / "there", executor=client, **more)
        assert there.manifest["failures"] == here.manifest["failures"] == []
        assert differences(tree(tmp_path / "here"), tree(tmp_path / "there")) == []

    def test_one_that_has_a_name_is_opened_by_it(self, client, tmp_path, lite0):
        more = {"layers": ["conv_stem"], "recipes": [], "only": "weights"}
        here = wa.build(lite0, tmp_path / "here", **more)
        there = wa.build(lite0, tmp_path / "there", executor=client, **more)
        assert there.coverage == here.coverage
        assert differences(tree(tmp_path / "here"), tree(tmp_path / "there")) == []

    def test_workers_that_open_other_weights_refuse_with_both_hashes(self, client, tmp_path, lite0):
        def open_others():
            from weightatlas.builder.jobs import context

            real = context.load

            def load(name, **more):
                net = real(name, **more)
                net.module.classifier.bias.data += 1
                return net

            context.load, context.real_load = load, real

        def open_right():
            from weightatlas.builder.jobs import context

            context.load = context.real_load

        other = wa.load("efficientnet_lite0")
        with torch.no_grad():
            other.module.classifier.bias += 1
        client.run(open_others)
        try:
            with pytest.raises(StoreError, match="are not those this atlas is of") as stopped:
                wa.build(lite0, tmp_path, executor=client, layers="conv_stem", recipes=[])
        finally:
            client.run(open_right)
        assert lite0.weights_hash[:12] in str(stopped.value)
        assert other.weights_hash[:12] in str(stopped.value)
        assert wa.Atlas(tmp_path).coverage["weights"] == [0, 1]

    def test_one_that_changed_since_it_was_loaded_travels_as_it_is(self, tmp_path, lite0):
        files = open_files(tmp_path)
        settings = Settings(lite0.weights_hash)
        assert clusters._work(Context(lite0, files, settings), 0).source.origin == ("efficientnet_lite0", None)
        net = wa.load("efficientnet_lite0")
        with torch.no_grad():
            net.module.conv_stem.weight.mul_(2)
        work = clusters._work(Context(net, files, Settings(net.weights_hash)), 0)
        assert work.source.origin is None
        assert work.open().net.weights_hash == net.weights_hash
        with pytest.raises(StoreError, match="are not those this atlas is of"):
            work.source.open(lite0.weights_hash)


class TestDeath:
    @pytest.mark.parametrize("job", ["weights blocks.0 ← stem", f"pictures blocks.0 {OWN} 2-3"])
    def test_a_worker_that_is_killed_in_mid_job_costs_that_job_alone(self, net, client, tmp_path, little, job):
        told, log = [], tmp_path / "log"
        with watched(client, log, dies=job):
            atlas = wa.build(net, tmp_path / "atlas", executor=client, progress=told.append, **LITTLE)
        assert (tmp_path / "log.died").exists()
        begun, ended = noted(log, "begun"), noted(log, "ended")
        assert Counter(begun)[job] == 2
        assert Counter(ended)[job] == 1
        assert [name for name, count in Counter(begun).items() if count > 1] == [job]
        assert Counter(finished(told)).most_common(1)[0][1] == 1
        assert atlas.manifest["failures"] == []
        assert differences(tree(tmp_path / "atlas"), little) == []

    def test_a_job_that_kills_every_worker_is_a_failure_and_no_other_is(self, net, client, tmp_path, little):
        told, log, job = [], tmp_path / "log", "weights blocks.0 ← stem"
        with watched(client, log, dies=job, always=True):
            atlas = wa.build(net, tmp_path / "atlas", executor=client, progress=told.append, **LITTLE)
        failures = {f["job"]: f["error"] for f in atlas.manifest["failures"]}
        assert set(failures) == {job, "factors blocks.0 ← stem"}
        assert "every worker that tried it died" in failures[job]
        assert failures["factors blocks.0 ← stem"].startswith(f"it reads what {job!r} could not make")
        begun = Counter(noted(log, "begun"))
        assert begun.pop(job) == 2  # among others, and once more alone
        assert set(begun.values()) == {1}
        assert Counter(finished(told)).most_common(1)[0][1] == 1
        wa.build(net, tmp_path / "atlas")  # in this process it works
        assert differences(tree(tmp_path / "atlas"), little) == []

    def test_killed_from_outside_at_any_moment(self, net, client, tmp_path, little):
        log, dead = tmp_path / "log", []

        def kill(event):
            if event.event == "finished" and not dead and event.job.startswith(("weights", "pictures blocks")):
                pid = client.run(os.getpid, workers=[event.numbers["where"]])[event.numbers["where"]]
                dead.append(pid)
                os.kill(pid, signal.SIGKILL)

        with watched(client, log):
            atlas = wa.build(net, tmp_path / "atlas", executor=client, progress=kill, **LITTLE)
        assert len(dead) == 1
        assert atlas.manifest["failures"] == []
        assert differences(tree(tmp_path / "atlas"), little) == []
        twice = [name for name, count in Counter(noted(log, "ended")).items() if count > 1]
        assert len(twice) <= 1  # a job that had just ended when its worker was killed


class TestPlacement:
    def test_pictures_for_a_gpu_go_only_to_workers_that_have_one(self, net, tmp_path, monkeypatch):
        # the workers are threads of this process
        monkeypatch.setitem(running.WORKERS, "pictures", lambda context, job: (time.sleep(0.02), (1, 1))[1])
        asked = Asked.of(net, tmp_path, **LITTLE)
        plan, _ = asked.plan(asked.look())
        jobs = [job for job in plan.jobs if job.kind in ("units", "banding", "pictures")]
        scheduler = {"cls": distributed.Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}}
        with_one, without = ({"nthreads": 1, "host": "127.0.0.1", "resources": r} for r in ({GPU: 1}, {}))
        workers = {n: {"cls": distributed.Worker, "options": o} for n, o in (("with", with_one), ("without", without))}
        for device, picky in (("cuda:0", True), (None, False)):
            with distributed.SpecCluster(workers, scheduler) as cluster, distributed.Client(cluster) as client:
                client.wait_for_workers(2)
                owners = {i["name"]: a for a, i in client.scheduler_info(n_workers=-1)["workers"].items()}

                files = open_files(tmp_path / str(picky))
                wa.build(net, files, stop_after=0, **LITTLE)
                context = Context(net, files, Settings(net.weights_hash, device=device), dict(asked.request.own), None)
                run = on_cluster(client, files)
                told = []
                outcomes = list(run(context, jobs, told.append, Stop()))
            assert sorted(o.job for o in outcomes) == sorted(j.name for j in jobs)
            assert all(not o.failures for o in outcomes)
            kinds = {job.name: job.kind for job in jobs}
            where = {o.where for o in outcomes if kinds[o.job] == "pictures"}
            assert where == ({owners["with"]} if picky else set(owners.values()))
            assert not [e for e in told if e.event == "waiting"]

    def test_while_no_worker_has_one_the_build_says_what_it_waits_for(self, net, client, tmp_path):
        wa.build(net, tmp_path, only="banding", **LITTLE)
        asked = Asked.of(net, tmp_path, **LITTLE)
        jobs = [job for job in asked.plan(asked.look())[0].jobs if job.kind in ("units", "pictures")]
        files, told, stop = open_files(tmp_path), [], threading.Event()
        context = Context(net, files, Settings(net.weights_hash, device="cuda"), dict(asked.request.own), None)

        def listen(event):
            told.append(event)
            if sum(e.event == "started" for e in told) == len(jobs):
                stop.set()

        outcomes = list(on_cluster(client, files)(context, jobs, listen, Stop(None, stop)))
        assert told[0].event == "waiting"
        assert "--resources GPU=1" in told[0].about
        assert {o.job.split()[0] for o in outcomes} <= {"units"}  # pictures were begun nowhere, and taken back
        assert client.processing() == dict.fromkeys(client.nthreads(), ())


class TestStopping:
    def test_a_signal_ends_it_after_the_jobs_in_flight(self, net, client, tmp_path, little):
        told, log, at = [], tmp_path / "log", {}

        def stop(event):
            told.append(event)
            if event.event == "finished" and event.kind == "pictures" and not at:
                at.update(begun=len(noted(log, "begun")))
                os.kill(os.getpid(), signal.SIGINT)

        with watched(client, log, waits=0.3):
            with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT; build again to go on"):
                wa.build(net, tmp_path / "atlas", executor=client, progress=stop, **LITTLE)
            begun, ended = noted(log, "begun"), noted(log, "ended")
            assert sorted(begun) == sorted(ended) == sorted(finished(told))  # what was begun was waited for
            assert len(begun) <= at["begun"] + 2  # and nothing more was begun, but what was just being handed over
            assert told[-1].event == "stopped"
            assert told[-1].numbers["left"] > 3
            assert wa.check_atlas(tmp_path / "atlas").whole
            wa.build(net, tmp_path / "atlas", executor=client)
        assert Counter(noted(log, "begun")).most_common(1)[0][1] == 1
        assert differences(tree(tmp_path / "atlas"), little) == []

    def test_ctrl_c_in_a_terminal_reaches_all_processes_and_only_the_builder_answers(self, tmp_path, little):
        code = textwrap.dedent(f"""
            import os, signal, sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import torch
            torch.set_num_threads(1)
            import atlases, weightatlas as wa
            from test_build_cluster import LITTLE

            def stop(event):
                print(event.event, event.job, flush=True)
                if event.event == "finished" and not hasattr(stop, "done"):
                    stop.done = True
                    os.killpg(0, signal.SIGINT)

            if __name__ == "__main__":
                try:
                    wa.build(atlases.small(), sys.argv[1], executor=1, progress=stop, **LITTLE)
                except KeyboardInterrupt as stopped:
                    print("interrupted", stopped)
        """)
        (tmp_path / "run.py").write_text(code)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "atlas")],
            capture_output=True, text=True, start_new_session=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-2:] == ["stopped ", "interrupted stopped by SIGINT; build again to go on"]
        assert "Traceback" not in done.stderr
        words = done.stdout.splitlines()
        assert not [w for w in words if w.startswith("failed")]
        wa.build(small(), tmp_path / "atlas")
        assert differences(tree(tmp_path / "atlas"), little) == []

    def test_a_scheduler_that_goes_away_is_told(self, forked, net, tmp_path, little):
        cluster = local_cluster(1)
        client = distributed.Client(cluster)

        def close(event):
            if event.event == "finished":
                cluster.close()

        with pytest.raises(StoreError, match="build again to go on"):
            wa.build(net, tmp_path, executor=client, progress=close, **LITTLE)
        client.close()
        wa.build(net, tmp_path, **LITTLE)
        assert differences(tree(tmp_path), little) == []


class TestRefusals:
    def test_without_distributed_the_command_that_installs_it_is_told(self, net, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'weightatlas\[dask\]'"):
            wa.build(net, tmp_path / "atlas", executor=2)
        assert not (tmp_path / "atlas").exists()

    def test_where_nobody_answers(self, net, tmp_path, monkeypatch):
        monkeypatch.setattr(clusters, "PATIENCE", 4)
        for address in ("tcp://127.0.0.1:9", "nonsense://here"):
            with pytest.raises(ArgumentError, match="no scheduler answers at"):
                wa.build(net, tmp_path, executor=address, **LITTLE)

    def test_where_no_worker_comes(self, net, tmp_path, monkeypatch):
        monkeypatch.setattr(clusters, "PATIENCE", 1)
        with (
            local_cluster(0, processes=False) as cluster,
            distributed.Client(cluster) as client,
            pytest.raises(ArgumentError, match=r"no worker joined .* within 1 seconds"),
        ):
            wa.build(net, tmp_path, executor=client, **LITTLE)

    def test_memory_lies_in_one_process(self, net):
        with pytest.raises(StoreError, match="other processes cannot write there"):
            wa.build(net, "memory://one", executor=2)


def test_events_are_the_same_kind_of_words(net, client, tmp_path):
    told = []
    wa.build(net, tmp_path, executor=client, only="weights", progress=told.append, **LITTLE)
    assert all(isinstance(event, Event) for event in told)
    lines = [json.dumps(event.to_dict(), allow_nan=False) for event in told]
    assert {json.loads(line)["event"] for line in lines} == {"planned", "started", "finished", "done"}
