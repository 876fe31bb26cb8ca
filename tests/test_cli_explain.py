"""The command ``explain``: the same sums as in Python, the same figure, one line and no file on error."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 9, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(9, 4),
    )
    return wa.load(module, input=wa.InputSpec(shape=(3, 24, 24)))


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_picture(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wa, "load", lambda source: net)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save("cat.png")
    (tmp_path / "notes.png").write_text("no picture")


def run(*words):
    return CliRunner().invoke(app, ["explain", "small", *map(str, words)])


def fails(*words):
    """The one line on stderr of a command that must fail and leave no file."""
    before = sorted(os.listdir())
    done = run(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert sorted(os.listdir()) == before
    [line] = [line for line in done.stderr.splitlines() if line]
    return line


def test_it_prints_every_steps_sum_and_sources_as_python_tells_them(net):
    done = run("cat.png", "--down", 2, "-k", 3)
    assert done.exit_code == 0, done.output
    found = wa.explain(net, "cat.png", down=2, k=3)
    for step in found:
        a = step.attributions
        assert re.search(rf"^{step.address} .*from {re.escape(a.source)}: ".replace(" .*", ".*"), done.stdout, re.M)
        assert f"{a.value:.4g}".replace("-", "−") in done.stdout
        for unit, number in zip(
            (*step.up, *step.down),
            wa.figures.signed_numbers([float(a.by_unit[u]) for u in (*step.up, *step.down)]),
            strict=True,
        ):
            assert re.search(rf"{re.escape(step.name(unit))} +{re.escape(number)}", done.stdout)
            y, x = a.strongest_place(unit)
            assert f"{y}, {x}" in done.stdout
    assert "(which 3 reads)" in done.stdout
    assert os.listdir().count("cat.png") == 1
    assert len(os.listdir()) == 2  # nothing is written without -o


def test_unit_position_source_and_the_sources_to_follow_are_options():
    done = run(
        "cat.png", "--unit", "2:5", "--at", "3,4", "--source", "1", "--source", "input", "--down", 2, "--follow", 6
    )
    assert done.exit_code == 0, done.output
    assert "2:5 at (3, 4), from 1:" in done.stdout
    assert "0:6 (which 1 reads) at" in done.stdout
    assert "from input:" in done.stdout
    assert "red" in done.stdout


def test_it_says_why_a_walk_ends_before_the_pixels(net):
    asked = ("cat.png", "--unit", "6:1", "--down", 2)
    assert "the walk ends here" not in run(*asked).stdout
    with torch.no_grad():
        before, net.module[6].weight[1] = net.module[6].weight[1].clone(), -1
        done = run(*asked)
        net.module[6].weight[1] = before
    ended = wa.explain(net, "cat.png", "6:1", down=2)
    assert done.stdout.count("the walk ends here: no unit of") == 1, done.stdout
    assert len(ended) == 2


@pytest.mark.usefixtures("short_recipes")
@pytest.mark.parametrize("ending", ["svg", "png", "html"])
def test_with_o_it_writes_the_figure_that_python_draws(net, ending):
    words = ("--unit", "2:5", "-k", 1, "--recipe", "quick", "--theme", "colorblind")
    done = run("cat.png", *words, "-o", f"why.{ending}")
    assert done.exit_code == 0, done.output
    drawn = wa.figure(net, "explanation", "2:5", image="cat.png", k=1, recipe="quick", palette="colorblind")
    assert f"wrote why.{ending}" in done.stdout
    if ending == "svg":
        assert Path("why.svg").read_text() == drawn.svg(720, "auto")
    else:
        assert os.path.getsize(f"why.{ending}") > 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("missing.png",), "missing.png"),
        (("notes.png",), "notes.png"),
        (("cat.png", "--unit", "2:99"), "99"),
        (("cat.png", "--unit", "two:1"), "two"),
        (("cat.png", "--unit", "2"), "2:"),
        (("cat.png", "--unit", "2:1", "--at", "3"), "is not like 3,10"),
        (("cat.png", "--unit", "2:1", "--at", "90,1"), "90"),
        (("cat.png", "--method", "exakt"), "--method 'exakt' is none of auto, exact"),
        (("cat.png", "--recipe", "fast"), "--recipe 'fast' is none of"),
        (("cat.png", "--theme", "pink"), "--theme 'pink' is none of"),
        (("cat.png", "--unit", "2:1", "--source", "5"), "5"),
        (("cat.png", "--unit", "6:1", "--source", "1", "--method", "exact"), "exact"),
        (("cat.png", "--down", "0"), "steps down"),
        (("cat.png", "-k", "0"), "sources"),
        (("cat.png", "--follow", "1"), "ask for more with down="),
        (("cat.png", "-o", "why.pdf"), ".svg, .png, .html"),
        (("cat.png", "-o", "why.svg", "--width", "9"), "width=9"),
        (("cat.png", "--dark"), "--dark would change a drawing, and none is made; give its file with -o"),
        (("cat.png", "--width", "720"), "--width would"),
        (("cat.png", "--theme", "classic"), "--theme/--palette would"),
        (("cat.png", "--palette", "colorblind"), "--theme/--palette would"),
        (("cat.png", "--recipe", "quick", "--dark"), "--recipe and --dark would"),
        (("cat.png", "--gate", "nan"), "gate"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_and_leaves_nothing(words, told):
    line = fails(*words)
    assert line.startswith("weightatlas: ")
    assert told in line


@pytest.mark.usefixtures("short_recipes")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("activation_grid", ("2", "--image", "cat.png", "--cells", 2, "--rank", 2, "--fade", "sized")),
        ("dataset_examples", ("3", "--images", "cat.png", "--units", "1,2", "-k", 1)),
        ("gradient_cases", ("2:1", "--images", "cat.png", "--cases", 2, "--examples", 8, "-k", 2)),
    ],
)
def test_the_figures_of_images_are_kinds_of_figure(kind, words):
    done = CliRunner().invoke(app, ["figure", kind, "small", *map(str, words), "--recipe", "quick", "-o", "a.svg"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert Path("a.svg").read_text().startswith("<svg")
    missing = [w for w in words if w not in ("--image", "--images", "cat.png")]
    refused = CliRunner().invoke(app, ["figure", kind, "small", *map(str, missing), "-o", "b.svg"])
    assert refused.exit_code == 2
    assert re.search(r"needs images?=", refused.stderr), refused.stderr
