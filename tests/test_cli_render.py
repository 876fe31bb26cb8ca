"""The command ``render``: what it writes and prints, that it can be repeated, and that mistakes leave nothing behind."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, rendering
from weightatlas.errors import ArgumentError
from weightatlas.records import FeatureImages

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "efficientnet_lite0"
FAST = ("--steps", "2")


@pytest.fixture(autouse=True)
def _load_once(lite0, monkeypatch):
    """The embedded network is opened once for all of these; "flat" is one that takes no images."""
    load = wa.load
    flat = load(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), input=wa.InputSpec(shape=(5,)))
    known = {MODEL: lite0, "flat": flat}
    monkeypatch.setattr(wa, "load", lambda source: known[source] if source in known else load(source))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(app, ["render", *map(str, words)])


def fails(*words):
    """The one line on stderr of a command that must fail and leave no file."""
    before = sorted(os.listdir())
    done = run(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line]  # about empty lines see the bar
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("weightatlas: ")
    assert sorted(os.listdir()) == before
    return lines[0]


def asked(lite0, layer, units, style="display", **more):
    """The same pictures by way of Python."""
    recipe = wa.featurevis.recipe_for(lite0, layer, style).but(steps=2)
    return wa.visualize(lite0, layer, units=units, recipe=recipe, **more)


class TestFiles:
    def test_figure_and_pictures(self, lite0):
        truth = asked(lite0, "conv_stem", [3, 0])
        for suffix in (".svg", ".png", ".html"):
            for other in (".npz", ".safetensors"):
                done = run(MODEL, "conv_stem", "--units", "3,0", *FAST, "-o", f"a{suffix}", "--save", f"b{other}")
                assert done.exit_code == 0, done.output
                made = FeatureImages.load(f"b{other}")
                assert np.array_equal(made.images, truth.images)
                assert made.units.tolist() == [3, 0]
                assert made.recipe == truth.recipe
                assert made.provenance == truth.provenance
        drawn = wa.figures.contact_sheet(truth)
        assert Path("a.svg").read_text(encoding="utf-8") == drawn.svg()
        assert Path("a.png").read_bytes() == drawn.png()
        assert drawn.html() in Path("a.html").read_text(encoding="utf-8")

    def test_what_is_printed(self):
        done = run(MODEL, "conv_stem", "--units", "0-2", *FAST, "-o", "a.svg")
        caption, wrote, took = done.stdout.splitlines()
        assert caption.startswith("Each picture was made from noise to excite conv_stem's units (the peaks over all")
        assert "in 2 steps" in caption
        assert wrote == "wrote a.svg"
        total, each = map(float, re.fullmatch(r"3 pictures in ([\d.]+) s, ([\d.]+) s each", took).groups())
        assert each == pytest.approx(total / 3, abs=0.05)
        assert os.listdir() == ["a.svg"]

    def test_the_first_twenty_by_default(self):
        done = run(MODEL, "conv_stem", "--steps", 1, "-o", "a.svg", "--save", "a.npz")
        assert done.exit_code == 0, done.output
        assert FeatureImages.load("a.npz").units.tolist() == list(range(20))

    def test_width_and_ground(self, lite0):
        done = run(MODEL, "conv_stem", "--units", 1, *FAST, "-o", "a.svg", "--width", 300, "--dark")
        assert done.exit_code == 0
        drawn = wa.figures.contact_sheet(asked(lite0, "conv_stem", [1]))
        assert Path("a.svg").read_text(encoding="utf-8") == drawn.svg(300, "dark")
        run(MODEL, "conv_stem", "--units", 1, *FAST, "-o", "a.png", "--width", 300)
        with Image.open("a.png") as opened:
            assert opened.width == 600


class TestOptions:
    @pytest.fixture
    def told(self, monkeypatch, lite0):
        """What ``visualize`` is asked for; the same two pictures come back for anything."""
        seen = {}
        ready = asked(lite0, "conv_stem", [1, 2])

        def visualize(net, layer, **more):
            seen.update(net=net, layer=layer, **more)
            return ready

        monkeypatch.setattr(wa, "visualize", visualize)
        return seen

    def test_reach_the_rendering(self, told, lite0):
        words = ["--units", "0-2,9", "--recipe", "max", "--steps", 7, "--batch", 3, "--seed", 5, "--device", "cpu"]
        assert run(MODEL, "blocks.4.1", *words, "-o", "a.svg").exit_code == 0
        recipe = wa.featurevis.recipe_for(lite0, "blocks.4.1", "max").but(steps=7)
        assert (told["net"], told["layer"], told["units"], told["recipe"]) == (
            lite0,
            "blocks.4.1",
            [0, 1, 2, 9],
            recipe,
        )
        assert (told["batch"], told["seed"], told["device"]) == (3, 5, "cpu")

    def test_defaults(self, told, lite0):
        assert run(MODEL, "blocks.4.1", "-o", "a.svg").exit_code == 0
        assert told["recipe"] == wa.featurevis.recipe_for(lite0, "blocks.4.1")
        assert (list(told["units"]), told["batch"], told["seed"], told["device"]) == (list(range(20)), "auto", 0, None)

    def test_layers_with_fewer_units_than_twenty(self, told, lite0):
        layer = next(layer for layer in lite0.layers.values() if 0 < layer.units < 20 and layer.kind == "conv")
        run(MODEL, layer.name, "-o", "a.svg")
        assert list(told["units"]) == list(range(layer.units))

    def test_one_picture_is_not_many(self, lite0, monkeypatch):
        one = asked(lite0, "conv_stem", [1])
        monkeypatch.setattr(wa, "visualize", lambda *args, **more: one)
        assert "\n1 picture in " in run(MODEL, "conv_stem", "--units", 1, "-o", "a.svg").stdout


def test_equal_seeds_give_equal_files_and_others_do_not():
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        assert run(MODEL, "conv_stem", "--units", "0-1", *FAST, "--seed", seed, "-o", f"{name}.svg").exit_code == 0
    first, second, other = (Path(f"{name}.svg").read_bytes() for name in "abc")
    assert first == second
    assert first != other


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("nosuchmodel conv_stem -o x.svg", "no model 'nosuchmodel'"),
            (f"{MODEL} conv_stm -o x.svg", "no layer 'conv_stm' in efficientnet_lite0; nearest: 'conv_stem'"),
            (f"{MODEL} conv_stem -o x.pdf", "'x.pdf': figures are files ending in .svg, .png, .html"),
            (f"{MODEL} conv_stem -o x", "'x': figures are files"),
            (f"{MODEL} conv_stem -o x.svg --save y.png", "--save 'y.png' must end in .npz or .safetensors"),
            (f"{MODEL} conv_stem -o x.svg --save y", "--save 'y' must end in .npz or .safetensors"),
            (f"{MODEL} conv_stem -o x.svg --units 99999", "no unit 99999; its 32 units are 0 … 31"),
            (f"{MODEL} conv_stem -o x.svg --units 5-2", "units '5-2' are not like 0-9 or 3,17"),
            (f"{MODEL} conv_stem -o x.svg --units a", "units 'a' are not like"),
            (f"{MODEL} conv_stem -o x.svg --recipe dispaly", "no recipe 'dispaly'; nearest: 'display'"),
            (f"{MODEL} conv_stem -o x.svg --steps 0", "a recipe's steps=0"),
            (f"{MODEL} conv_stem -o x.svg --steps -3", "a recipe's steps=-3"),
            (f"{MODEL} conv_stem -o x.svg --steps 1 --batch 0", "batch=0 must be an integer of at least 1"),
            ("flat 0 -o x.svg --steps 1", "feature visualization makes images"),
            (f"{MODEL} conv_stem --units 0 --steps 1 -o /proc/none/x.svg", "could not write '/proc/none/x.svg'"),
            ("missing.pt conv_stem -o x.svg", "missing.pt"),
        ],
    )
    def test_are_one_line_and_leave_nothing(self, words, message):
        assert message in fails(*words.split())

    def test_a_checkpoint_without_architecture(self):
        torch.save({"a.weight": torch.randn(6, 3, 3, 3)}, "three.pt")
        assert "needs the architecture" in fails("three.pt", "a", "-o", "x.svg")

    def test_missing_output_is_a_usage_error(self):
        done = run(MODEL, "conv_stem")
        assert done.exit_code == 2
        assert "--output" in done.stderr

    @pytest.mark.parametrize("device", ["nowhere", "cuda:99", ""])
    def test_a_device_that_is_not_there(self, device):
        fails(MODEL, "conv_stem", "--units", 0, "--steps", 1, "--device", device, "-o", "x.svg")

    @pytest.mark.parametrize("width", [10, 100_000, "nan"])
    def test_a_width_that_cannot_be_is_said_before_any_work(self, width, monkeypatch):
        def visualize(*args, **more):
            raise AssertionError("rendered although the sheet cannot be drawn")

        monkeypatch.setattr(wa, "visualize", visualize)
        fails(MODEL, "conv_stem", "--width", width, "-o", "x.svg", "--save", "x.npz")

    def test_more_pictures_than_a_sheet_shows_are_refused_before_any_work(self, monkeypatch):
        def visualize(*args, **more):
            raise AssertionError("rendered although the sheet cannot be drawn")

        monkeypatch.setattr(wa, "visualize", visualize)
        assert "400" in fails(MODEL, "blocks.6.0.conv_dw", "--units", "0-400", "-o", "x.svg", "--save", "x.npz")

    def test_pictures_are_saved_even_if_the_sheet_cannot_be(self, monkeypatch):
        def sheet(*args, **more):
            raise ArgumentError("cannot be drawn")

        monkeypatch.setattr(wa.figures, "contact_sheet", sheet)
        done = run(MODEL, "conv_stem", "--units", 0, "--steps", 1, "-o", "x.svg", "--save", "x.npz")
        assert done.exit_code == 2
        assert "cannot be drawn" in done.stderr
        assert len(wa.FeatureImages.load("x.npz")) == 1

    @pytest.mark.parametrize("option", ["-o", "--save"])
    @pytest.mark.parametrize("how", ["folder", "under a file"])
    def test_a_place_that_cannot_be_written_is_found_before_any_work(self, option, how, monkeypatch, tmp_path):
        def visualize(*args, **more):
            raise AssertionError("rendered although nothing can be written")

        monkeypatch.setattr(wa, "visualize", visualize)
        (tmp_path / "file").write_text("")
        (tmp_path / "folder.svg").mkdir()
        (tmp_path / "folder.npz").mkdir()
        paths = {"-o": "x.svg", "--save": "x.npz"}
        ending = Path(paths[option]).suffix
        paths[option] = tmp_path / (f"folder{ending}" if how == "folder" else f"file/x{ending}")
        words = [w for pair in paths.items() for w in pair]
        assert "could not write" in fails(MODEL, "conv_stem", "--units", 0, "--steps", 1, *words)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


class TestBar:
    def test_nothing_is_written_where_nobody_looks(self):
        done = run(MODEL, "conv_stem", "--units", 0, *FAST, "-o", "a.svg")
        assert done.stderr == ""

    def test_tells_its_rate_on_a_terminal(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "120")
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        with rendering.bar("blocks.4.1\x1b[31m") as tell:
            for i in range(1, 9):
                tell(i * 2.5, 20)
        words = shown(stream)
        assert "blocks.4.1" in words
        assert "\x1b[31mblocks" not in stream.getvalue()  # a name is text
        assert "20 of 20" in words
        assert re.search(r"[\d.]+ (a second|s a picture)", words)

    def test_rates(self):
        class Task:
            def __init__(self, completed, elapsed):
                self.completed, self.elapsed = completed, elapsed

        rate = rendering._Rate()
        for done, spent, words in [
            (10, 4, "2.5 a second"),
            (4, 4, "1.0 a second"),
            (2, 5, "2.5 s a picture"),
            (0.5, 30, "60.0 s a picture"),
            (0, 3, ""),
            (3, None, ""),
            (3, 0, ""),
        ]:
            assert rate.render(Task(done, spent)).plain == words

    def test_is_gone_afterwards(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm-256color")
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        with rendering.bar("x") as tell:
            tell(1, 2)
        assert stream.getvalue().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))

    def test_progress_reaches_it(self, monkeypatch):
        heard = []
        from contextlib import contextmanager

        @contextmanager
        def bar(what):
            yield lambda done, total: heard.append((what, done, total))

        monkeypatch.setattr(rendering, "bar", bar)
        run(MODEL, "conv_stem", "--units", "0-1", "--steps", 3, "-o", "a.svg")
        assert [(w, t) for w, _, t in heard] == [("conv_stem", 2)] * 3
        assert [d for _, d, _ in heard] == pytest.approx([2 / 3, 4 / 3, 2])


@pytest.mark.slow
def test_the_installed_command(tmp_path):
    program = Path(sys.executable).with_name("weightatlas")
    words = ["render", MODEL, "conv_stem", "--units", "0-1", "--steps", "3", "-o", "a.png", "--save", "a.npz"]
    done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search(r"\x1b|━|of 2", done.stderr)  # no bar
    assert done.stdout.splitlines()[-1].startswith("2 pictures in ")
    assert len(FeatureImages.load(tmp_path / "a.npz")) == 2
    with Image.open(tmp_path / "a.png") as opened:
        assert np.asarray(opened.convert("RGB")).std() > 10
    done = subprocess.run(
        [program, *words[:2], "nowhere", *words[3:]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
