"""The commands ``figure`` and ``article``: every option of every kind, the same figure as in Python, no file on error."""

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from planted import texts
from torch import nn
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, figuring

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "efficientnet_lite0"


@pytest.fixture(autouse=True)
def _load_once(lite0, monkeypatch):
    """The embedded network is opened once for all of these; "small" is one in which everything is quick."""
    load = wa.load
    small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.ReLU(), nn.Conv2d(9, 10, 3))
    known = {MODEL: lite0, "small": load(small, input=wa.InputSpec(shape=(3, 24, 24)))}
    monkeypatch.setattr(wa, "load", lambda source: known[source] if source in known else load(source))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def fails(*words):
    """The one line on stderr of a command that must fail and leave no file."""
    before = sorted(os.listdir())
    done = run(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("weightatlas: ")
    assert sorted(os.listdir()) == before
    return lines[0]


def flags():
    command = typer.main.get_command(app).commands["figure"]
    return {p.name: set(p.opts) for p in command.params if p.param_type_name == "option"}


@pytest.mark.parametrize("kind", list(wa.figure_kinds()))
def test_every_argument_of_every_kind_is_an_option_of_the_same_name(kind):
    signature = wa.figure_kinds()[kind].parameters.values()
    names = {p.name for p in signature if p.kind is p.KEYWORD_ONLY} - {"progress"}
    for name in names:
        assert f"--{name.replace('_', '-')}" in flags()[name], name


def test_no_option_is_one_that_no_kind_takes():
    taken = {name for signature in wa.figure_kinds().values() for name in signature.parameters}
    assert set(figuring.OPTIONS) <= taken


def test_the_help_names_every_kind():
    assert re.split(", | or ", figuring.KINDS) == list(wa.figure_kinds())


CASES = [
    ("connection 4:2 --source 2:3 --gate identity --skip include", dict(source="2:3", gate="identity", skip="include")),
    ("small_multiples 4:2 -k 2 --by both --theme colorblind", dict(k=2, by="both", palette="colorblind")),
    ("small_multiples 4:2 --sources 3,1 --gate 0.5", dict(sources=[3, 1], gate=0.5)),
    ("family_grid 4 --targets 1,0 --sources 2-4 --order angle --source 2", dict(targets=[1, 0], sources=[2, 3, 4], order="angle", source="2")),
    ("spatial_positions 4:2 --seed 3", dict(seed=3)),
    ("weight_factors 4 --units 1,2,3 --rank 3 --method semi", dict(units=[1, 2, 3], rank=3, method="semi")),
    ("factor_equation 4 --units 1,2,3 --rank 1 -k 2", dict(units=[1, 2, 3], rank=1, k=2)),
    ("expanded 4:2 --source 0 --enough 0.1 --k 4", dict(source="0", enough=0.1, k=4)),
    ("cancellation 4:2 --source 0:1 --through 2 -k 1", dict(source="0:1", through="2", k=1)),
    ("neuron_card 2:2 --outputs 4 -k 2", dict(outputs="4", k=2)),
    ("nmf_grid 4 --units 0-3 --per-unit --no-fold-norm", dict(units=[0, 1, 2, 3], per_unit=True, fold_norm=False)),
    ("banding --permutations 9 --seed 1", dict(permutations=9, seed=1)),
    ("weights 0", {}),
    ("features 2 --units 1 --batch 1", dict(units=[1], batch=1)),
    ("connections 4 --source 2 --at 0,1 --units 0", dict(source="2", at=(0, 1), units=[0])),
    ("paths 4 --source 0 --through 2", dict(source="0", through="2")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "options"), CASES, ids=[words.split()[0] for words, _ in CASES])
def test_the_command_draws_what_python_draws(words, options):
    kind, *rest = words.split()
    rendered = ["--recipe", "quick"] if "recipe" in wa.figure_kinds()[kind].parameters else []
    done = run("figure", kind, "small", *rest, *rendered, "-o", "x.svg")
    assert done.exit_code == 0, (done.output, done.exception)
    target = [w for w in rest[:1] if not w.startswith("-")]
    more = {"recipe": "quick"} if rendered else {}
    drawn = wa.figure(wa.load("small"), kind, *target, **options, **more)
    assert texts(ET.parse("x.svg").getroot()) == texts(ET.fromstring(drawn.svg()))
    assert drawn.caption in done.stdout
    assert "wrote x.svg" in done.stdout


def test_theme_width_and_dark_reach_the_file():
    common = ["figure", "connection", "small", "4:2", "--source", "2:3", "--recipe", "quick"]
    looks = {}
    for name, more in {
        "plain": [],
        "dark": ["--dark"],
        "orange": ["--theme", "colorblind"],
        "wide": ["--width", 400],
    }.items():
        assert run(*common, *more, "-o", f"{name}.png").exit_code == 0
        looks[name] = np.asarray(Image.open(f"{name}.png").convert("RGB"), int)
    assert looks["plain"].shape == looks["dark"].shape == looks["orange"].shape
    assert looks["wide"].shape[1] == 800
    assert looks["plain"][0, 0].min() > 240
    assert looks["dark"][0, 0].max() < 40
    assert np.abs(looks["plain"] - looks["orange"]).max() > 30


def test_images_give_agreement():
    os.mkdir("photos")
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(f"photos/{i}.png")
    done = run(
        "figure",
        "connection",
        "small",
        "4:2",
        "--source",
        "2:3",
        "--images",
        "photos",
        "--recipe",
        "quick",
        "-o",
        "x.svg",
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"cosine \d\.\d\d with the network's mean gradient on images", done.stdout)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("figure conection small 4:2 -o x.svg", "no kind of figure 'conection'; nearest: 'connection'"),
        ("figure connection small 4:2 -o x.svg", "'connection' needs source="),
        ("figure connection small -o x.svg", "needs a target"),
        ("figure banding small 4 -o x.svg", "takes no layer"),
        ("figure banding small -k 3 -o x.svg", "has no option 'k'"),
        ("figure connection small 4:2 --source 2:99 -o x.svg", "no unit 99"),
        ("figure connection small 4 --source 2:9 -o x.svg", "target='4' names a layer"),
        ("figure connection small 4:2 --source 2:9 -o x.gif", "x.gif"),
        ("figure connection small 4:2 --source 2:3 --device cuda:99 -o x.svg", "device='cuda:99' cannot be used"),
        ("figure connection small 4:2 --source 2:3 --theme blue -o x.svg", "palette='blue'"),
        ("figure connection small 4:2 --source 2:3 --width 3 -o x.svg", "width=3"),
        ("figure connection small 4:2 --source 2:3 --images none.png -o x.svg", "none.png cannot be read"),
        ("figure weights small 0 --units 3- -o x.svg", "'3-'"),
        ("figure connections small 4 --source 2 --at 3 -o x.svg", "position '3'"),
        ("figure connection small 4:2 --source 2:3 --gate nan -o x.svg", "no finite number"),
        ("article small -o out --theme blue", "--theme 'blue'"),
        ("article small -o out --images none.png", "none.png cannot be read"),
        ("article small -o out --recipe slow", "no recipe 'slow'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_no_file(words, message):
    assert message in fails(*words.split())


def test_an_article_from_the_command_line():
    done = run("article", "small", "-o", "out", "--recipe", "quick", "--theme", "colorblind")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "open out/index.html" in done.stdout
    page = Path("out/index.html").read_text()
    assert "Figure 1" in page
    assert "orange excites" in page
    assert "palette=" in page  # in the lines that make the figures again
    assert len([f for f in os.listdir("out") if f.endswith(".svg")]) >= 10
