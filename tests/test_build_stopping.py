"""A build that is asked to end does so after the job in flight, and goes on later as if nothing had been."""

import json
import os
import signal
import threading
import time

import pytest
from atlases import QUICK, Builder, built, differences, opened, tree

import weightatlas as wa
from weightatlas.builder.jobs.stopping import Stop

pytestmark = pytest.mark.usefixtures("one_thread")
SLOW = pytest.mark.slow
LITTLE = {"layers": ["stem", "blocks.0"], "recipes": [QUICK], "units": [0, 1, 2], "batch": 3}


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(scope="module")
def little(net, tmp_path_factory):
    """The files of an undisturbed little atlas, and its jobs in order."""
    folder, told = tmp_path_factory.mktemp("little"), []
    wa.build(net, folder, progress=told.append, **LITTLE)
    return tree(folder), [e.job for e in told if e.event == "finished"]


class Listener:
    """Does something once, at the n-th event of a kind."""

    def __init__(self, kind, number, act):
        self.kind, self.left, self.act, self.told = kind, number, act, []

    def __call__(self, event):
        self.told.append(event)
        if event.event == self.kind:
            self.left -= 1
            if self.left == 0:
                self.act()

    def jobs(self, kind):
        return [e.job for e in self.told if e.event == kind]


class TestWhenTold:
    @pytest.mark.parametrize("number", [pytest.param(1, marks=SLOW), 4, pytest.param(9, marks=SLOW)])
    def test_it_ends_after_the_job_in_flight_and_the_overview_tells_what_is_there(self, net, tmp_path, little, number):
        whole, jobs = little
        stop = threading.Event()
        listener = Listener("started", number, stop.set)
        atlas = wa.build(net, tmp_path, stop=stop, progress=listener, **LITTLE)
        assert listener.jobs("started") == listener.jobs("finished") == jobs[:number]
        last = listener.told[-1]
        assert (last.event, last.about) == ("stopped", "it was told to")
        assert last.numbers["left"] == len(jobs) - number
        assert wa.check_atlas(tmp_path).whole
        assert atlas.coverage["weights"][0] == sum(j.startswith("weights") for j in jobs[:number])
        again = Listener("", 0, None)
        wa.build(net, tmp_path, progress=again)
        assert again.jobs("started") == jobs[number:]
        assert again.told[-1].event == "done"
        assert differences(tree(tmp_path), whole) == []

    @pytest.mark.slow
    def test_job_by_job_it_comes_to_the_same(self, net, tmp_path, little):
        whole, jobs = little
        begun = []
        for _ in jobs:
            stop = threading.Event()
            listener = Listener("started", 1, stop.set)
            wa.build(net, tmp_path, stop=stop, progress=listener, **LITTLE)
            begun += listener.jobs("started")
        assert begun == jobs
        assert differences(tree(tmp_path), whole) == []

    def test_before_it_begins_nothing_is_made_but_the_overview(self, net, tmp_path):
        stop = threading.Event()
        stop.set()
        atlas = wa.build(net, tmp_path, stop=stop, **LITTLE)
        assert set(tree(tmp_path)) == {"atlas.json", "edges.json", "model.json", "layers.json", "graph.json"}
        assert atlas.coverage["weights"] == [0, 3]

    @pytest.mark.slow
    def test_after_some_time(self, net, tmp_path, little):
        told = []
        wa.build(net, tmp_path, stop_after=0, progress=told.append, **LITTLE)
        assert [e.event for e in told] == ["planned", "stopped"]
        assert told[-1].about == "its time is up"
        listener = Listener("started", 3, lambda: time.sleep(0.4))
        wa.build(net, tmp_path, stop_after=0.3, progress=listener, **LITTLE)
        assert 1 <= len(listener.jobs("finished")) <= 3
        wa.build(net, tmp_path, stop_after=1000, **LITTLE)
        assert differences(tree(tmp_path), little[0]) == []

    def test_in_another_thread_which_gets_no_signals(self, net, tmp_path, little):
        stop, before = threading.Event(), signal.getsignal(signal.SIGINT)
        listener = Listener("started", 2, stop.set)
        thread = threading.Thread(
            target=wa.build, args=(net, tmp_path), kwargs={"stop": stop, "progress": listener, **LITTLE}
        )
        thread.start()
        thread.join()
        assert listener.jobs("finished") == little[1][:2]
        assert signal.getsignal(signal.SIGINT) is before


class TestSignals:
    @pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=SLOW)])
    def test_the_first_asks_for_an_end_and_says_how_to_go_on(self, net, tmp_path, little, name):
        whole, jobs = little
        number = getattr(signal, name)
        before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
        listener = Listener("started", 3, lambda: os.kill(os.getpid(), number))
        with pytest.raises(KeyboardInterrupt, match=f"stopped by {name}; build again to go on"):
            wa.build(net, tmp_path, progress=listener, **LITTLE)
        assert listener.jobs("finished") == jobs[:3]
        assert [e.about for e in listener.told if e.event == "stopping"] == [name]
        assert listener.told[-1].event == "stopped"
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
        assert wa.check_atlas(tmp_path).whole
        wa.build(net, tmp_path)
        assert differences(tree(tmp_path), whole) == []

    def test_a_second_one_ends_at_once(self, net, tmp_path, little):
        whole, jobs = little

        def twice():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        listener = Listener("step", 1, twice)
        with pytest.raises(KeyboardInterrupt) as stopped:
            wa.build(net, tmp_path, progress=listener, **LITTLE)
        assert str(stopped.value) == ""
        assert [e.event for e in listener.told][-2:] == ["step", "stopping"]
        in_flight = listener.jobs("started")[-1]
        assert in_flight not in listener.jobs("finished")
        left = tree(tmp_path)
        assert not [n for n, data in left.items() if n not in ("atlas.json", "edges.json") and data != whole[n]]
        again = Listener("", 0, None)
        wa.build(net, tmp_path, progress=again)
        assert again.jobs("started") == jobs[jobs.index(in_flight) :]
        assert differences(tree(tmp_path), whole) == []

    def test_words_that_cannot_be_said_in_the_midst_of_others_are_said_later(self):
        said, stuck = [], [True]

        def tell(name):
            if stuck[0]:
                raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
            said.append(name)

        stop = Stop(None, None, tell)
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            assert (stop.signal, said) == ("SIGTERM", [])
            stuck[0] = False
            assert stop.asked
            assert stop.asked
        assert said == ["SIGTERM"]

    def test_other_errors_of_a_listener_are_not_kept_back(self):
        def tell(name):
            raise RuntimeError("no such pipe")

        with pytest.raises(RuntimeError, match="no such pipe"), Stop(None, None, tell).on_signals():
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
class TestProcesses:
    """The same with signals from outside, at any moment."""

    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls):
        opened = Builder()
        yield opened
        opened.close()

    def events(self, log):
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for(self, log, count):
        until = time.monotonic() + 60
        while sum(e["event"] == "finished" for e in self.events(log)) < count:
            assert time.monotonic() < until
            time.sleep(0.01)

    @pytest.mark.parametrize(("name", "counts"), [("SIGINT", (0, 6, 30)), ("SIGTERM", (1, 15, 60))])
    def test_stopped_again_and_again_it_ends_as_if_undisturbed(self, builder, tmp_path, name, counts):
        folder, log = tmp_path / "atlas", tmp_path / "log"
        for count in counts:
            pid = builder.start(folder, log)
            self.wait_for(log, count)
            if count == 0:
                while not any(e["event"] == "started" for e in self.events(log)):
                    time.sleep(0.01)
            os.kill(pid, getattr(signal, name))
            assert builder.wait() == 130
            told = self.events(log)
            assert [e["event"] for e in told[-2:]] == ["stopped", "interrupted"]
            assert told[-1]["about"] == f"stopped by {name}; build again to go on"
            assert sum(e["event"] == "started" for e in told) == sum(e["event"] == "finished" for e in told)
            assert wa.check_atlas(folder).whole
        builder.start(folder, log)
        assert builder.wait() == 0
        begun = [e["job"] for e in self.events(log) if e["event"] == "started"]
        assert len(begun) == len(set(begun))  # nothing was done twice
        assert differences(tree(folder), tree(built()[0])) == []

    def test_two_signals_end_it_at_once(self, builder, tmp_path):
        folder, log = tmp_path / "atlas", tmp_path / "log"
        pid = builder.start(folder, log)
        self.wait_for(log, 10)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.001)
        os.kill(pid, signal.SIGINT)
        assert builder.wait() == 130
        builder.start(folder, log)
        assert builder.wait() == 0
        assert differences(tree(folder), tree(built()[0])) == []
