"""The builder beside the server: what is asked for is made first, whatever dies nothing is lost, nobody is left over."""

import json
import os
import signal
import threading
import time

import pytest
from atlases import opened, small
from explorers import Command, Ear, is_running, request, wait_until

import weightatlas as wa
from weightatlas.builder import Event
from weightatlas.builder.live import session as live
from weightatlas.builder.live.pipes import Inbox, Outbox
from weightatlas.builder.live.session import Session
from weightatlas.explorer.child import Child
from weightatlas.explorer.desk import Desk
from weightatlas.explorer.listening import Hub
from weightatlas.store import layout, open_files
from weightatlas.store.files import LOCK

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = ["stem", "blocks.0", "blocks.1", "down", "head"]
JSON = {"Content-Type": "application/json"}


class Beside:
    """A session in a thread, with what it tells."""

    def __init__(self, folder, monkeypatch, net, **order):
        monkeypatch.setattr(live, "load", lambda name, weights: net)
        monkeypatch.setattr(live, "use_threads", lambda count: None)
        self._read, self._write = os.pipe()
        self._number, self.told = 0, []
        order = {"path": str(folder), "model": "small", "images": None, "layers": None, "recipes": None} | order
        self.inbox = Inbox(self._read)
        out = Outbox(-1)
        out.tell = lambda told, **content: self.told.append((told, content))
        self._thread = threading.Thread(target=Session(order, self.inbox, out).run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        os.close(self._write)
        self._thread.join(60)
        assert not self._thread.is_alive()
        wait_until(lambda: not self.inbox.reading)
        os.close(self._read)

    def ask(self, **ask):
        self._number += 1
        os.write(self._write, json.dumps({"ask": self._number, **ask}).encode() + b"\n")
        return self._number

    def picture(self, layer, unit, recipe="quick"):
        return self.ask(what="picture", layer=layer, unit=unit, recipe=recipe)

    def answer(self, number):
        """What became of a request: an error, or ``""``."""
        wait_until(lambda: any(t == "done" and c["ask"] == number for t, c in self.told))
        return next(c["error"] for t, c in self.told if t == "done" and c["ask"] == number)

    def wait(self, builder):
        wait_until(lambda: any(t == "state" and c["builder"] == builder for t, c in list(self.told)))

    def made(self, what):
        return [c for t, c in self.told if t == "made" and c["what"] == what]


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture
def folder(net, tmp_path):
    """An atlas in which all is there that was asked for."""
    wa.build(net, tmp_path / "atlas", layers=LAYERS, units=[0], recipes=["quick"], budget="1 MB", batch=8)
    return tmp_path / "atlas"


class TestSession:
    def test_pictures_and_weights_are_made_when_asked_for(self, net, folder, monkeypatch):
        before = wa.Atlas(folder).manifest["requests"]
        with Beside(folder, monkeypatch, net) as beside:
            beside.wait("idle")
            first, second = beside.picture("down", 5), beside.picture("down", 6)
            third = beside.ask(what="weights", source="stem", target="head")
            fourth = beside.picture("stem", 1, "negative")
            assert [beside.answer(n) for n in (first, second, third, fourth)] == ["", "", "", ""]
            pictures, weights = beside.made("picture"), beside.made("weights")
        assert {"what": "picture", "layer": "down", "units": [5], "recipe": "quick", "folder": "quick"} in pictures
        assert {"what": "picture", "layer": "stem", "units": [1], "recipe": "negative",
                "folder": "display.negative"} in pictures  # fmt: skip
        assert {"what": "weights", "source": "stem", "target": "head"} in weights
        atlas = wa.Atlas(folder)
        assert atlas.weights("stem", "head").values.shape[:2] == (5, 6)
        assert atlas.coverage["pictures"]["quick"] == [7, 7]
        requests = atlas.manifest["requests"]
        assert requests[: len(before)] == before
        assert len(requests) == len(before) + 3  # quick, negative, pairs
        assert {r["budget"] for r in requests} == {10**6}
        assert wa.check_atlas(folder).whole

    def test_what_is_there_is_told_again_and_what_cannot_be_is_an_error(self, net, folder, monkeypatch):
        with Beside(folder, monkeypatch, net) as beside:
            beside.wait("idle")
            assert beside.answer(beside.picture("down", 0)) == ""
            assert beside.made("picture") == [{"what": "picture", "layer": "down", "units": [0], "recipe": "quick"}]
            words = beside.answer(beside.ask(what="weights", source="head", target="stem"))
            assert "head" in words
            assert "there are no positions pictures of 'stem'" in beside.answer(beside.picture("stem", 1, "positions"))
            monkeypatch.setattr(Session, "_budget", lambda self: 100)
            words = beside.answer(beside.ask(what="weights", source="stem", target="down"))
            assert "the budget of this atlas is 100; weightatlas build --pair stem,down" in words

    def test_readers_come_first_and_the_background_goes_on(self, net, tmp_path, monkeypatch):
        with Beside(tmp_path / "atlas", monkeypatch, net, layers=["stem", "down"], recipes=["quick", "max"]) as beside:
            wait_until(lambda: beside.made("weights"))
            number = beside.picture("down", 6, "max")
            assert beside.answer(number) == ""
            done = len(beside.made("picture"))
            beside.wait("idle")
            assert done < len(beside.made("picture"))
        atlas = wa.Atlas(tmp_path / "atlas")
        assert atlas.coverage["pictures"] == {"quick": [13, 13], "max": [13, 13]}
        assert len(atlas.manifest["requests"]) == 1  # all that readers asked for was asked for before
        assert wa.check_atlas(tmp_path / "atlas").whole

    def test_a_job_in_flight_is_given_up_for_a_reader_but_not_for_ever(self):
        session = Session({"path": "x", "model": "y"}, None, None)

        def at(share, ago):
            session._job = ("pictures", time.monotonic() - ago)
            return session._may_leave(Event("step", numbers={"done": share, "of": 1}))

        assert not at(0.9, 9.0)  # done in a second
        assert at(0.1, 9.0)
        assert at(0.0, 0.1)
        assert not at(0.1, 9.0)  # twice was enough

    def test_an_atlas_of_another_network_is_refused(self, folder, monkeypatch):
        with Beside(folder, monkeypatch, small(seed=1)) as beside:
            wait_until(lambda: any(t == "refused" for t, _ in beside.told))
        assert "weights" in beside.told[-1][1]["why"]
        assert beside.told[-1][1]["opened"] is True

    def test_a_network_that_no_other_process_can_open_is_refused_and_looks_at_no_images_either(
        self, net, folder, monkeypatch
    ):
        beside = Beside(folder, monkeypatch, net)
        monkeypatch.setattr(live, "load", wa.load)
        with beside:
            wait_until(lambda: any(t == "refused" for t, _ in beside.told))
        told = beside.told[-1][1]
        assert ("no model" in told["why"], told["opened"]) == (True, False)
        desk = Desk(open_files(folder), Hub())
        desk.looked_at_by("small")
        assert desk.about()["can"]["images"]
        Child(desk, {})._on_refused(**told)
        about = desk.about()
        assert (about["can"]["images"], about["images"]["why"], about["why"]) == (False, told["why"], told["why"])

    def test_an_atlas_that_another_build_holds_is_refused(self, net, folder, monkeypatch):
        from filelock import FileLock

        with FileLock(folder / LOCK), Beside(folder, monkeypatch, net) as beside:
            wait_until(lambda: any(t == "refused" for t, _ in beside.told))
        assert "another build is at work" in beside.told[-1][1]["why"]

    def test_it_ends_with_its_input_after_the_job_in_flight(self, net, tmp_path, monkeypatch):
        with Beside(tmp_path / "atlas", monkeypatch, net) as beside:
            wait_until(lambda: beside.made("weights"))
        assert wa.check_atlas(tmp_path / "atlas").whole
        assert wa.Atlas(tmp_path / "atlas").coverage["pictures"]["display"][0] == 0


@pytest.fixture(scope="module")
def lite(lite0, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite") / "atlas"
    wa.build(
        lite0, folder, layers=["blocks.0.0", "blocks.1.0"], units=[0], recipes=["quick"], only=["weights", "quick"]
    )
    return folder


def ask(port, unit, recipe="quick", layer="blocks.1.0"):
    content = {"what": "picture", "layer": layer, "unit": unit, "recipe": recipe}
    answer = request(port, "POST", "/api/ask", JSON, json.dumps(content))
    assert answer.status == 202, answer.body
    return content


@pytest.mark.slow
class TestProcess:
    """The real child, with the embedded network."""

    def test_from_asking_to_the_file_through_kills_to_the_end(self, lite):
        with Command("open", lite, "--no-browser", "--port", "0") as command:
            began = time.monotonic()
            command.address()
            assert time.monotonic() - began < 10  # before torch is loaded
            ear = Ear(command.port)
            content = ask(command.port, 5)
            made = ear.wait("made", lambda m: m["what"] == "picture" and 5 in m["units"])
            assert (made["layer"], made["recipe"]) == ("blocks.1.0", "quick")
            path = layout.picture_path("blocks.1.0", "quick", 5)
            assert request(command.port, "GET", f"/atlas/{path}").body == (lite / path).read_bytes()
            ear.wait("updated")

            (child,) = command.children()
            content = ask(command.port, 6, "max")
            ear.wait("state", lambda s: s["builder"] == "asked" and "max" in s["about"])
            os.kill(child, signal.SIGKILL)
            failed = ear.wait("failed")
            assert failed["ask"] == content
            assert "was killed by SIGKILL" in failed["error"]
            wait_until(lambda: command.children() not in ([], [child]))
            ask(command.port, 7)
            ear.wait("made", lambda m: m["what"] == "picture" and 7 in m["units"])

            (child,) = command.children()
            status, out, err = command.end()
            assert (status, out) == (0, "")
            assert len(err.splitlines()) == 1, err
            assert "goes on" in err
            assert ear.closed.wait(5)
            ear.close()
            wait_until(lambda: not is_running(child), 5)
        assert len(wa.Atlas(lite).manifest["requests"]) <= 3

    def test_a_killed_server_leaves_no_builder(self, lite):
        with Command("open", lite, "--no-browser", "--port", "0") as command:
            command.address()
            wait_until(command.children)
            (child,) = command.children()
            ask(command.port, 8)
            command.process.kill()
            command.process.wait()
            wait_until(lambda: not is_running(child), 30)

    def test_a_builder_that_dies_again_and_again_is_given_up(self, lite):
        env = {"PYTHONPATH": str(lite.parent)}
        broken = lite.parent / "torch"
        broken.mkdir(exist_ok=True)
        (broken / "__init__.py").write_text("import os; os._exit(7)")
        try:
            with Command("open", lite, "--no-browser", "--port", "0", env=env) as command:
                command.address()
                wait_until(lambda: request(command.port, "GET", "/api/state").json["builder"] == "failed")
                about = request(command.port, "GET", "/site.json").json
                assert "ended with status 7" in about["why"]
                assert about["can"]["pictures"] is False
                assert request(command.port, "GET", "/atlas/atlas.json").status == 200
                assert command.end()[0] == 0
        finally:
            (broken / "__init__.py").unlink()
            broken.rmdir()
