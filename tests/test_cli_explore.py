"""The commands ``open`` and ``export``: what they print, how they end, and what they refuse."""

import io
import os
import signal
import socket
import sys
import urllib.request

import pytest
from explorers import Command
from stored import copied
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, exploring
from weightatlas.cli.exploring import _Shown

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def atlas(tmp_path):
    return copied(tmp_path / "atlas")


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


class Served:
    """What the command asks of ``serve``."""

    def __init__(self, monkeypatch):
        self.given = []
        monkeypatch.setattr(wa, "serve", lambda path, **more: self.given.append((path, more)), raising=False)

    def __call__(self, *words):
        done = run("open", *words)
        assert done.exit_code == 0, (done.output, done.exception)
        return self.given[-1], done


@pytest.fixture
def served(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Served(monkeypatch)


class TestOpen:
    def test_an_atlas_is_opened_where_it_is(self, served, atlas):
        (path, more), done = served("atlas", "--port", 81, "--host", "::1", "--allow-host", "a", "--allow-host", "b:1")
        assert (path, more["model"], more["build"]) == ("atlas", None, True)
        assert (more["port"], more["host"], more["allow_hosts"], more["browser"]) == (81, "::1", ["a", "b:1"], False)
        assert done.stderr.splitlines() == ["ended; weightatlas open atlas goes on"]
        (path, more), _ = served("s3://bucket/atlas", "--no-build")
        assert (path, more["model"], more["build"], more["port"]) == ("s3://bucket/atlas", None, False, None)

    @pytest.mark.parametrize(("options", "again"), [([], "shows again what is there"), (["--no-build"], "goes on")])
    def test_an_atlas_whose_network_nobody_finds_is_not_said_to_go_on(self, monkeypatch, atlas, options, again):
        state = {"builder": "none", "about": "no atlas tells where that lies", "done": 0, "of": 0, "waiting": 0}
        monkeypatch.setattr(wa, "serve", lambda path, progress, **more: progress(state), raising=False)
        done = run("open", atlas, *options)
        assert done.stderr.splitlines()[-1] == f"ended; weightatlas open {atlas} {again}"

    def test_a_network_gets_a_folder_which_is_told(self, served):
        (path, more), done = served("efficientnet_lite0", "--layers", "a,b", "--recipes", "quick", "--images", "x")
        assert (path, more["model"]) == ("efficientnet_lite0-atlas", "efficientnet_lite0")
        assert (more["layers"], more["recipes"], list(map(str, more["images"]))) == (["a", "b"], ["quick"], ["x"])
        assert "lies in efficientnet_lite0-atlas" in done.stderr
        (path, more), _ = served("efficientnet_lite0", "-o", "here")
        assert (path, more["model"]) == ("here", "efficientnet_lite0")

    def test_a_folder_of_the_same_name_does_not_hide_a_network(self, served, tmp_path):
        (tmp_path / "efficientnet_lite0").mkdir()
        (path, more), _ = served("efficientnet_lite0")
        assert (path, more["model"]) == ("efficientnet_lite0-atlas", "efficientnet_lite0")

    def test_what_goes_not_together_is_one_line(self, served, atlas, tmp_path):
        (tmp_path / "some").mkdir()
        for words in (("atlas", "-o", "other"), (tmp_path / "some",)):
            done = run("open", *words)
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
            assert done.stderr.startswith("weightatlas: ")

    @pytest.mark.parametrize("words", [["--host", "0.0.0.0"], ["--port", "70000"], ["--host", "no.such.host.invalid"]])
    def test_where_nothing_can_listen(self, atlas, words):
        done = run("open", atlas, "--no-build", "--no-browser", *words)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.stderr

    def test_a_browser_needs_a_screen_and_a_terminal(self, monkeypatch):
        class Terminal:
            def isatty(self):
                return True

        for name in exploring.SCREENS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setattr(sys, "platform", "linux")
        assert not exploring._has_screen()
        monkeypatch.setenv("DISPLAY", ":0")
        assert exploring._has_screen()
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert not exploring._has_screen()

    def test_the_line_on_a_terminal_is_rewritten_and_can_hold_any_name(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "60")
        shown = _Shown()
        shown(
            {
                "builder": "building",
                "about": "quick pictures of \x1b[2J\n" + "x" * 99,
                "done": 3,
                "of": 70,
                "waiting": 0,
            }
        )
        shown.ready("http://127.0.0.1:1/")
        found = capsys.readouterr()
        assert found.out == "http://127.0.0.1:1/\n"
        words = found.err.removeprefix("\r\x1b[K").split("\r\x1b[K")[0]
        assert words.startswith("building 3 of 70 jobs: quick pictures of ")
        assert len(words) == 59
        assert "\x1b" not in words
        assert "\n" not in found.err


class TestProcess:
    def test_the_address_is_printed_once_it_serves_and_ctrl_c_ends_it(self, atlas):
        with Command("open", atlas, "--no-build", "--port", "0") as command:
            address = command.address()
            assert urllib.request.urlopen(address + "atlas/atlas.json").status == 200
            status, out, err = command.end(signal.SIGINT)
            assert (status, out) == (0, "")
            assert err.splitlines() == [
                "nothing can be computed: this explorer was opened without a builder; open it without --no-build to "
                "compute what is missing", f"ended; weightatlas open {atlas} goes on",
            ]  # fmt: skip

    def test_a_taken_port_is_an_error_if_it_was_asked_for_and_else_the_next_is_taken(self, atlas, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            done = run("open", atlas, "--no-build", "--no-browser", "--port", number)
            assert (done.exit_code, "is taken" in done.stderr) == (2, True)
            from weightatlas.explorer import serving

            monkeypatch.setattr(serving, "PORT", number)
            with serving._listening("127.0.0.1", None) as found:
                assert found.getsockname()[1] != number

    def test_a_name_that_is_nothing_is_one_line_and_leaves_nothing(self, tmp_path):
        with Command("open", "efficientnet_lite", "--port", "0", cwd=tmp_path) as command:
            command.process.wait(120)
            out, err = command.process.communicate()
        assert (command.process.returncode, out) == (2, "")
        told = [words for words in err.splitlines() if words.startswith("weightatlas: ")]
        assert len(told) == 1
        assert "nearest: 'efficientnet_lite0'" in told[0]
        assert "Traceback" not in err
        assert os.listdir(tmp_path) == []

    @pytest.mark.slow
    def test_a_network_is_served_as_soon_as_its_overview_is_there(self, tmp_path):
        words = ("--layers", "blocks.0.0", "--recipes", "quick", "--port", "0")
        with Command("open", "efficientnet_lite0", *words, cwd=tmp_path) as command:
            address = command.address()
            assert urllib.request.urlopen(address + "atlas/atlas.json").status == 200
            status, _, err = command.end(signal.SIGTERM)
            assert status == 0
            assert "lies in efficientnet_lite0-atlas" in err
        assert wa.check_atlas(tmp_path / "efficientnet_lite0-atlas").whole


class TestExport:
    def test_it_tells_what_it_made_and_how_to_look_at_it(self, atlas, tmp_path):
        done = run("export", atlas, "-o", tmp_path / "site")
        assert done.exit_code == 0, done.stderr
        assert f"python -m http.server -d {tmp_path / 'site'}" in done.stdout
        assert (tmp_path / "site" / "index.html").exists()
        again = run("export", atlas, "-o", tmp_path / "site")
        assert "0 written, 0 removed" in again.stdout

    def test_refusals_are_one_line(self, atlas, tmp_path):
        for words in ((tmp_path, "-o", tmp_path / "x"), (atlas, "-o", atlas / "x"), (atlas, "-o", tmp_path)):
            done = run("export", *words)
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
