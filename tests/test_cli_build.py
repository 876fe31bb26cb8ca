"""The commands ``build`` and ``check``: what they make and print, how they end, and that nothing disturbs a terminal."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from atlases import images, opened, small, tree
from PIL import Image
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.builder.jobs import Event, running
from weightatlas.cli import app, progressing
from weightatlas.cli.building import parse_duration
from weightatlas.cli.progressing import Bars, duration, size
from weightatlas.errors import ArgumentError
from weightatlas.store import layout

pytestmark = pytest.mark.usefixtures("one_thread")
EVIL = "small\x1b[2J\x07\r\n\u202e"
LITTLE = ["--layers", "stem", "--recipes", "quick", "--units", "0-1"]


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(net, tmp_path, monkeypatch):
    load = wa.load
    monkeypatch.setattr(wa, "load", lambda source, **more: net if source == "small" else load(source, **more))
    monkeypatch.chdir(tmp_path)


def run(command, *words):
    return CliRunner().invoke(app, [command, *map(str, words)])


def built(*words):
    done = run("build", "small", "-o", "a", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def fails(command, *words, status=2):
    """The one line on stderr of a command that must fail and leave nothing."""
    before = sorted(os.listdir())
    done = run(command, *words)
    assert done.exit_code == status, (done.output, done.exception)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("weightatlas: ")
    assert sorted(os.listdir()) == before
    return lines[0]


def plain(text):
    """Whether a terminal can only show it."""
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


class TestBuild:
    def test_it_makes_what_python_makes(self, net, tmp_path):
        done = built("--layers", "stem", "--layers", "blocks.*", "--units", "0,2", "--recipes", "quick,max",
                     "--pair", "stem,head", "--budget", "1 MB", "--batch", 2, "--seed", 3, "--gate", "0.5",
                     "--only", "weights,banding")  # fmt: skip
        wa.build(net, "b", layers=["stem", "blocks.*"], units=[0, 2], recipes=["quick", "max"], budget="1 MB", batch=2,
                 pairs=[("stem", "head")], seed=3, gate=0.5, only=["weights", "banding"])  # fmt: skip
        assert tree("a") == tree("b")
        assert re.fullmatch(r"Atlas\(Small: 3 layers.*\) in a, [\d.]+ KiB", done.stdout.splitlines()[0])
        atlas = wa.Atlas("a")
        assert atlas.layers == ["stem", "blocks.0", "blocks.1"]
        assert atlas.manifest["gates"]["rule"] == 0.5
        assert atlas.pair("stem", "head")["made"]

    def test_images_come_from_folders_and_files(self, net):
        Path("photos").mkdir()
        for number, image in enumerate(images(3)):
            Image.fromarray(image).save(f"photos/{number}.png")
        built(*LITTLE, "--only", "examples", "--images", "photos", "--images", "photos/1.png")
        assert wa.Atlas("a").manifest["images"]["count"] == 4

    def test_what_is_printed(self):
        done = built(*LITTLE, "--only", "weights")
        first, *lines = done.stderr.splitlines()
        assert re.fullmatch(
            r"Small: 1 layer, 1 of \d+ jobs to do; weights take [\d.]+ (Ki|)B of a budget of 1\.0 GiB", first
        )
        assert re.fullmatch(r"  weights: 1 in [\d.]+ s", lines[0])
        assert len(lines) == 1
        summary, left = done.stdout.splitlines()
        assert summary.startswith("Atlas(Small: 1 layers, weights of 1 of 1 pairs")
        assert re.fullmatch(
            r"\d+ jobs are left\. Go on with: weightatlas build small -o a --layers .* --only weights", left
        )
        again = run(*shlex.split(left.partition(": weightatlas ")[2].removesuffix(" --only weights")))
        assert again.exit_code == 0
        assert len(again.stdout.splitlines()) == 1  # nothing is left
        assert wa.Atlas("a").coverage["pictures"]["quick"] == [2, 2]

    def test_quiet_says_nothing(self):
        done = built(*LITTLE, "--quiet")
        assert (done.stdout, done.stderr) == ("", "")
        assert wa.check_atlas("a").whole

    def test_force_makes_again(self):
        built(*LITTLE)
        before = os.stat("a/banding.json").st_mtime_ns
        built(*LITTLE)
        assert os.stat("a/banding.json").st_mtime_ns == before
        built(*LITTLE, "--force", "--only", "banding")
        assert os.stat("a/banding.json").st_mtime_ns > before

    def test_after_some_time_nothing_new_is_begun(self):
        done = built(*LITTLE, "--stop-after", "0s")
        assert wa.Atlas("a").coverage["weights"] == [0, 1]
        assert "jobs are left. Go on with:" in done.stdout

    @pytest.mark.slow
    def test_what_the_budget_leaves_out_is_told(self):
        done = built("--only", "weights", "--budget", "5 kB", "--recipes", "quick")
        assert "left out for the budget: head ← blocks.1 (96,000 bytes)" in done.stderr
        assert wa.Atlas("a").manifest["left_out"]


class TestJson:
    def test_every_line_is_strict_json_in_a_sensible_order(self):
        done = built(*LITTLE, "--json")
        assert done.stderr == ""

        def refuse(word):
            raise AssertionError(f"{word} is no JSON")

        told = [json.loads(line, parse_constant=refuse) for line in done.stdout.splitlines()]
        assert told[0]["event"] == "planned"
        assert told[-1]["event"] == "done"
        begun, ended = ([e["job"] for e in told if e["event"] == word] for word in ("started", "finished"))
        assert begun == ended
        assert len(begun) == told[0]["jobs"] == told[0]["of"]
        assert [e["done"] for e in told if e["event"] == "finished"] == list(range(1, len(begun) + 1))
        counted = {}
        for event in told:
            if event["event"] == "finished":
                name = event.get("recipe", event["kind"])
                counted[name] = counted.get(name, 0) + event["count"]
        assert counted == told[0]["kinds"]
        written = sum(e["made"] for e in told if e["event"] == "finished")
        assert written == told[-1]["files"] - len([p for p in tree("a") if p in (
            "atlas.json", "edges.json", "model.json", "layers.json", "graph.json") or p.startswith("walls/")])  # fmt: skip
        assert told[-1]["bytes"] == sum(map(len, tree("a").values()))

    def test_failures_are_events_and_lines(self, monkeypatch):
        def fail(context, job):
            raise ArgumentError(f"cannot {EVIL}")

        monkeypatch.setitem(running.WORKERS, "banding", fail)
        done = run("build", "small", "-o", "a", *LITTLE, "--json")
        assert done.exit_code == 1
        told = [json.loads(line) for line in done.stdout.splitlines()]
        failed = [e for e in told if e["event"] == "failed"]
        assert [(e["job"], e["kind"]) for e in failed] == [("banding", "banding")]
        assert told[-1]["failures"] == 1
        assert done.stderr.startswith("failed: banding: cannot small")
        assert plain(done.stderr)


class TestDryRun:
    def test_it_tells_and_writes_nothing(self):
        done = run("build", "small", "-o", "a", *LITTLE, "--dry-run")
        assert done.exit_code == 0
        assert not Path("a").exists()
        first, *rows, last = done.stdout.splitlines()
        assert re.fullmatch(r"(\d+) of \1 jobs are missing; weights take [\d.]+ (K|)i?B", first)
        assert re.fullmatch(r"about .* on this machine in one process, from short runs of each layer", last)
        names = [row.split()[:2] for row in rows]
        assert ["quick", "2"] in names
        assert ["weights", "1"] in names

    def test_as_json(self):
        done = run("build", "small", "-o", "a", *LITTLE, "--dry-run", "--json")
        about = json.loads(done.stdout)
        assert about["jobs"] == about["of"]
        assert about["counts"]["quick"] == 2
        assert about["total"] == pytest.approx(sum(s for s in about["seconds"].values() if s is not None))
        assert not Path("a").exists()

    def test_of_a_whole_atlas_nothing_is_missing(self):
        built(*LITTLE)
        before = tree("a")
        done = run("build", "small", "-o", "a", "--dry-run")
        assert done.stdout.splitlines()[0].startswith("0 of ")
        assert "about" not in done.stdout
        assert tree("a") == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "about"),
        [
            (["--layers", "stm"], "nearest: 'stem'"),
            (["--layers", "x.*"], "no layer like 'x.*'"),
            (["--layers", ","], "none was named"),
            (["--units", "x"], "not like 0-9"),
            (["--units", "99"], "no unit 99"),
            (["--recipes", "quik"], "nearest: 'quick'"),
            (["--only", "wights"], "nearest: 'weights'"),
            (["--only", ","], "names nothing"),
            (["--pair", "stem"], "is not SOURCE,TARGET"),
            (["--pair", "stem,down,head"], "is not SOURCE,TARGET"),
            (["--pair", "stem,"], "is not SOURCE,TARGET"),
            (["--pair", "stem,dwn"], "nearest: 'down'"),
            (["--budget", "much"], "no size in bytes"),
            (["--stop-after", "soon"], "not like 90s, 5min or 1h"),
            (["--gate", "foo"], "'expected'"),
            (["--gate", "measured"], "needs statistics"),
            (["--seed", "-1"], "seed=-1"),
            (["--batch", "0"], "at least 1"),
            (["--device", "nowhere"], "cannot be used"),
            (["--images", "nowhere"], "no file or folder"),
            (["--workers", "0"], "no number of workers"),
            (["--workers", "2", "--scheduler", "tcp://x:1"], "do not go together"),
            (["--layers", EVIL], "no layer"),
            (["--recipes", EVIL], "no recipe"),
            (["--budget", EVIL], "no size"),
            (["--pair", f"{EVIL},x"], "no layer"),
        ],
    )
    def test_one_line_and_status_2(self, words, about):
        told = fails("build", "small", "-o", "a", *words)
        assert about in told
        assert plain(told)

    def test_models_that_do_not_exist(self):
        assert plain(fails("build", EVIL, "-o", "a"))
        fails("build", "efficientnet_lite9", "-o", "a")

    def test_a_folder_of_another_network(self, monkeypatch):
        built(*LITTLE, "--only", "banding")
        load = wa.load
        monkeypatch.setattr(wa, "load", lambda source, **more: small(1) if source == "small" else load(source, **more))
        told = fails("build", "small", "-o", "a")
        assert "Build into another folder" in told

    def test_no_output(self):
        assert run("build", "small").exit_code == 2


class TestEnds:
    def test_failures_are_told_and_the_status_is_1(self, net, monkeypatch):
        def fail(context, job):
            raise ArgumentError(f"no {job.layer} {EVIL}")

        monkeypatch.setitem(running.WORKERS, "pictures", fail)
        done = run("build", "small", "-o", "a", *LITTLE)
        assert done.exit_code == 1
        assert plain(done.stdout)
        assert plain(done.stderr)
        assert "failed: pictures stem quick 0-1 (units 0, 1): no stem small" in done.stderr
        assert wa.Atlas("a").coverage["weights"] == [1, 1]
        assert run("build", "small", "-o", "a", "--quiet").stderr.startswith("failed: ")
        monkeypatch.undo()

    def test_an_interrupt_says_how_to_go_on(self, monkeypatch):
        build = wa.build

        def stopped(net, output, *, progress, **more):
            def listen(event):
                progress(event)
                if event.event == "started":
                    os.kill(os.getpid(), signal.SIGINT)

            return build(net, output, progress=listen, **more)

        monkeypatch.setattr(wa, "build", stopped)
        Path("my photos").mkdir()
        Image.fromarray(images(1)[0]).save("my photos/a.png")
        done = run("build", "small", "-o", "an atlas", *LITTLE, "--images", "my photos", "--device", "cpu")
        assert done.exit_code == 130
        assert "SIGINT: stopping after the job in flight; once more to stop at once" in done.stderr
        last = done.stderr.splitlines()[-1]
        words = "stopped by SIGINT; build again to go on. Go on with: "
        assert (
            last
            == f"{words}weightatlas build small -o 'an atlas' --images 'my photos' --layers stem --units 0-1 --recipes quick --device cpu"
        )
        monkeypatch.setattr(wa, "build", build)
        assert run(*shlex.split(last.removeprefix(words))[1:]).exit_code == 0
        assert wa.Atlas("an atlas").coverage["pictures"]["quick"] == [2, 2]

    @pytest.mark.slow
    def test_names_cannot_disturb_the_terminal(self, net, monkeypatch):
        name = net.name
        monkeypatch.setattr(net, "name", EVIL)
        for words in ([], ["--json"], ["--dry-run"]):
            done = run("build", "small", "-o", f"b{len(words)}\x1b[31m", *LITTLE, *words)
            assert done.exit_code == 0
            assert plain(done.stdout), words
            assert plain(done.stderr), words
        done = run("check", "b0\x1b[31m")
        assert plain(done.stdout)
        assert name != EVIL


class TestCheck:
    def test_a_whole_atlas(self):
        built(*LITTLE)
        done = run("check", "a")
        assert done.exit_code == 0
        assert re.fullmatch(r"\d+ files, [\d.]+ KiB: all is well\n", done.stdout)

    @pytest.mark.slow
    def test_damage_is_told_and_removed_so_that_a_build_refills_it(self):
        built(*LITTLE)
        whole = tree("a")
        picture = layout.picture_path("stem", "quick", 1)
        Path("a", picture).write_bytes(whole[picture][:-3])
        Path("a", "weights", "stem", "input", "values", "c.0.0.0.0").unlink()
        Path("a", "my\x1b[31mnotes.txt").write_text("mine")
        done = run("check", "a")
        assert done.exit_code == 1
        assert "damaged" in done.stdout.splitlines()[0]
        assert f"  {picture}" in done.stdout
        assert "none of an atlas's files, left alone" in done.stdout
        assert plain(done.stdout)
        assert "--repair removes what is broken" in done.stdout
        done = run("check", "a", "--repair")
        assert done.exit_code == 1
        assert "makes what is missing" in done.stdout
        built()
        assert run("check", "a").exit_code == 0
        assert tree("a") == whole | {"my\x1b[31mnotes.txt": b"mine"}

    def test_as_json(self):
        built(*LITTLE, "--only", "weights")
        about = json.loads(run("check", "a", "--json").stdout)
        assert (about["problems"], about["foreign"], about["removed"]) == ([], [], [])
        assert about["files"] == len(tree("a"))
        Path("a", "banding.json").write_text("{}")
        done = run("check", "a", "--json", "--repair")
        assert done.exit_code == 1
        about = json.loads(done.stdout)
        assert [p["path"] for p in about["problems"]] == about["removed"] == ["banding.json"]

    def test_where_there_is_none(self):
        Path("empty").mkdir()
        for place in ("nowhere", "empty"):
            assert "is no atlas" in fails("check", place)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestBars:
    @staticmethod
    def stream(monkeypatch):
        """What takes the place of a terminal; to be made in the test itself, as pytest has a hand in it before."""
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "140")
        found = Terminal()
        monkeypatch.setattr(sys, "stderr", found)
        return found

    @staticmethod
    def shown(stream):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())

    def planned(self, **kinds):
        numbers = {"jobs": 3, "of": 4, "kinds": kinds, "layers": 2, "weights_bytes": 2048, "budget": 2**30,
                   "left_out": ["b ← a (1 MiB)"], "notes": ["a note"],
                   "failures": [{"job": "weights x ← y", "error": f"cannot {EVIL}"}]}  # fmt: skip
        return Event("planned", about=EVIL, numbers=numbers)

    def test_rate_time_left_and_failures(self, monkeypatch):
        stream, clock = self.stream(monkeypatch), [100.0]
        with Bars() as bars:
            monkeypatch.setattr(bars._shown, "get_time", lambda: clock[0])
            bars(self.planned(quick=8, weights=2))
            about = {"kind": "pictures", "job": f"pictures {EVIL}"}
            bars(Event("started", numbers={"recipe": "quick"}, **about))
            for _ in range(4):
                clock[0] += 2
                bars(Event("finished", numbers={"recipe": "quick", "count": 1}, **about))
            bars(Event("failed", about=f"lost {EVIL}", numbers={"recipe": "quick", "count": 1}, **about))
            bars(Event("started", "weights b ← a", "weights"))
            bars(Event("retried", "weights b ← a", "weights", f"no answer {EVIL}"))
            bars(Event("waiting", about="no worker has the resource GPU"))
            bars(Event("stopping", about="SIGINT"))
            bars._shown.refresh()
        words = self.shown(stream)
        assert "2 layers, 3 of 4 jobs to do; weights take 2.0 KiB of a budget of 1.0 GiB" in words
        assert "left out for the budget: b ← a (1 MiB)" in words
        assert "note: a note" in words
        assert "cannot be made: weights x ← y: cannot small" in words
        assert "5 of 8" in words
        assert "1 failed" in words
        assert "1.6 s each" in words  # five in eight seconds
        assert re.search(r"0:00:0\d", words)  # the time that is left
        assert "trying again: weights b ← a: no answer small" in words
        assert "waiting: no worker has" in words
        assert "SIGINT: stopping after the job in flight" in words
        for text in ("\x1b[2J", "\x07", "\u202e"):  # of the name
            assert text not in stream.getvalue()

    def test_inside_a_job_it_moves_on_and_never_beyond_the_end(self, monkeypatch):
        self.stream(monkeypatch)
        with Bars() as bars:
            bars(self.planned(quick=6, **{"quick.diverse": 1}))
            for kind, of, units, done, expected in [
                ("quick", 4, 4, 2, "2 of 6"),
                ("quick", 4, 4, 9, "4 of 6"),
                ("quick.diverse", 4, 1, 2, "0 of 1"),  # of four tiles of one picture
                ("quick.diverse", 4, 1, 4, "1 of 1"),
                ("quick", 8, 8, 8, "6 of 6"),  # two of them were there already
            ]:
                bars(Event("step", "x", "pictures", numbers={"recipe": kind, "done": done, "of": of, "units": units}))
                task = next(t for t in bars._shown.tasks if t.description == kind)
                assert task.fields["count"] == expected
                assert task.completed <= task.total

    def test_of_many_failures_some_are_shown_and_all_are_counted(self, monkeypatch):
        stream = self.stream(monkeypatch)
        with Bars() as bars:
            bars(self.planned(quick=9))
            for number in range(9):
                numbers = {"recipe": "quick", "count": 1}
                bars(Event("failed", f"pictures {number}", "pictures", "lost", numbers))
        words = self.shown(stream)
        assert len(set(re.findall(r"failed: pictures \d: lost", words))) == 5
        assert "9 failed" in words

    def test_a_build_on_a_terminal(self, net, monkeypatch):
        stream = self.stream(monkeypatch)
        with Bars() as bars:
            wa.build(net, "a", layers="stem", units=[0, 1], recipes="quick", progress=bars)
        words = self.shown(stream)
        assert "2 of 2" in words
        assert bars.last["left"] == 0

    def test_rates(self):
        class Task:
            def __init__(self, completed, elapsed):
                self.completed, self.elapsed = completed, elapsed

        rate = progressing._Rate()
        for done, spent, words in [
            (10, 4, "2.5 a second"),
            (2, 5, "2.5 s each"),
            (0, 3, ""),
            (3, None, ""),
            (3, 0, ""),
        ]:
            assert rate.render(Task(done, spent)).plain == words


def test_durations_and_sizes():
    for text, seconds in [("90", 90), ("90s", 90), ("1.5 h", 5400), ("5min", 300), ("2m", 120), ("0s", 0)]:
        assert parse_duration(text) == seconds
    for wrong in ("", "x", "-1s", "1 day", "1e3"):
        with pytest.raises(ArgumentError):
            parse_duration(wrong)
    assert [duration(s) for s in (0.04, 9.94, 59.4, 59.6, 3599, 3600, 7190, 90061)] == [
        "0.0 s", "9.9 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 0 min", "25 h 1 min"
    ]  # fmt: skip
    assert [size(n) for n in (0, 1023, 1024, 10**6, 2**40, 2**50)] == [
        "0 B", "1023 B", "1.0 KiB", "977 KiB", "1.0 TiB", "1024 TiB"
    ]  # fmt: skip


@pytest.mark.slow
class TestProcess:
    """The installed command."""

    program = Path(sys.executable).with_name("weightatlas")

    def test_build_interrupt_go_on_check(self, tmp_path):
        words = ["build", "efficientnet_lite0", "-o", "a", "--layers", "conv_stem", "--recipes", "quick"]
        log = tmp_path / "log"
        with log.open("w") as out:
            process = subprocess.Popen([self.program, *words, "--json"], stdout=out, stderr=subprocess.PIPE, text=True)
            until = time.monotonic() + 120
            while '"started"' not in log.read_text():
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=120)[1]
        assert process.returncode == 130, error
        assert error == (
            f"stopped by SIGINT; build again to go on. Go on with: {shlex.join(map(str, [self.program, *words]))}\n"
        )
        told = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        assert told[-1] == "stopped"
        assert told.count("stopping") == 1
        done = subprocess.run([self.program, "build", "efficientnet_lite0", "-o", "a", "--only", "weights,banding"],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not re.search(r"\x1b|━", done.stderr)  # no bar
        assert re.search(r"^  banding: 1 in ", done.stderr, re.MULTILINE)
        assert wa.check_atlas("a").whole
        assert wa.Atlas("a").layers == ["conv_stem"]
