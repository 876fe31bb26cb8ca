"""The article's figures of the article's own network: its layers and units, and a page that says whose they are."""

import html
import importlib
import os
import re
import shlex

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.builder.entries import STEPS, own_figures
from weightatlas.builder.figuring import MAKERS
from weightatlas.builder.jobs.context import Source
from weightatlas.builder.jobs.levels import block_layers
from weightatlas.cli import app
from weightatlas.models import model_spec
from weightatlas.models.inceptionv1.article import CURVES, EARLY_CURVES, HIGH_LOW
from weightatlas.models.inceptionv1.network import BLOCKS

pytestmark = pytest.mark.usefixtures("one_thread")

writing = importlib.import_module("weightatlas.builder.article")  # the package gives its name to the function
ARTICLE = model_spec("inceptionv1").article
#: Families of "An Overview of Early Vision in InceptionV1", whole.
OVERVIEW = {
    "mixed3b curves": {379, 406, 385, 343, 342, 388, 340, 330, 349, 324},
    "mixed3a curves": {81, 104, 92, 145, 95, 163, 171, 71, 147, 189, 137},
    "mixed3a high-low frequency": {110, 180, 153, 106, 112, 186, 132, 136, 117, 113, 108, 70, 86, 88, 160},
}
#: Sides of the maps in the article's pictures; a unit's branch decides them.
SIDES = {
    "mixed4b:443": 5,  # Figure 3
    "mixed3b:342": 5,  # Figure 4
    **{f"mixed3b:{unit}": 5 for unit in CURVES},  # Figure 5
    "mixed4c:447": 5,  # Figure 6
    **{f"mixed3a:{unit}": 3 for unit in HIGH_LOW},  # Figure 7
    "mixed3b:208": 3,  # Figure 9
    "mixed3b:345": 5,  # Figure 11
}


@pytest.fixture(scope="module")
def inception():
    return wa.load("inceptionv1", weights="random")


def side(address):
    """The kernel of the branch in which a unit of a mixed block lies, counted from the table of its widths."""
    block, _, unit = address.partition(":")
    widths, left = BLOCKS[block], int(unit)
    for channels, size in ((widths.one, 1), (widths.three, 3), (widths.five, 5), (widths.pool_reduce, 1)):
        if left < channels:
            return size
        left -= channels
    raise IndexError(address)


def test_an_atlas_reads_it_by_the_articles_blocks(inception):
    stem = ["conv2d0", "conv2d1", "conv2d2"]
    assert block_layers(inception) == [*stem, *BLOCKS, "softmax2"]  # its modules are flat and tell no blocks
    assert block_layers(Source.whole(inception).open(inception.weights_hash)) == block_layers(inception)


class TestChoices:
    def test_families_are_those_of_the_overview(self):
        assert set(CURVES) <= OVERVIEW["mixed3b curves"]
        assert set(EARLY_CURVES) <= OVERVIEW["mixed3a curves"]
        assert set(HIGH_LOW) <= OVERVIEW["mixed3a high-low frequency"]
        assert [len(set(family)) for family in (CURVES, EARLY_CURVES, HIGH_LOW)] == [8, 8, 6]

    @pytest.mark.parametrize(("address", "size"), SIDES.items())
    def test_maps_are_as_large_as_in_the_pictures(self, address, size):
        assert side(address) == size

    def test_every_choice_makes_its_kind_of_figure(self, inception):
        assert own_figures(inception) is ARTICLE
        assert set(STEPS) - set(ARTICLE) == {"Figure 2, by depth"}  # all layers
        assert not set(ARTICLE) - set(STEPS)
        for name, figure in ARTICLE.items():
            assert set(figure.options) <= set(MAKERS[STEPS[name].kind].signature.parameters), name
            assert re.fullmatch(r"[A-Z].+\.", figure.why), name
            layer = inception.layers[figure.target.partition(":")[0]]
            assert layer.unit_indices(figure.options.get("targets", figure.options.get("units")))
        assert inception.layers["mixed3a"].unit_indices(EARLY_CURVES)
        # pooling keeps units, so that maxpool1's numbers are conv2d2's
        assert inception.layers["maxpool1"].units == inception.layers["conv2d2"].units == 192

    def test_other_networks_of_that_name_have_none(self, lite0):
        assert own_figures(lite0) == {}
        other = type("inceptionv1", (nn.Sequential,), {})(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 9, 3))
        net = wa.load(other, input=wa.InputSpec(shape=(3, 24, 24)))
        assert net.name == "inceptionv1"
        assert own_figures(net) == {}

    def test_another_file_of_weights_changes_nothing(self, inception, tmp_path):
        state = {name: value * 2 for name, value in inception.module.state_dict().items()}
        torch.save(state, tmp_path / "twice.pth")
        assert own_figures(wa.load("inceptionv1", weights=tmp_path / "twice.pth")) is ARTICLE


def lines(page):
    return [shlex.split(html.unescape(line)) for line in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


#: What each command must say behind ``weightatlas``, as the captions of the article's figures have it.
SAID = [
    "figure nmf_grid inceptionv1 mixed4d_5x5 --units 0-9",
    "banding inceptionv1",
    "weights inceptionv1 mixed5b_5x5 --units 0-7 --per-unit",
    "figure connection inceptionv1 mixed4b:443 --source mixed4a:308",
    "figure small_multiples inceptionv1 mixed3b:342 --source mixed3a --k 3",
    "figure family_grid inceptionv1 mixed3b --source mixed3a --targets 379,406,385,343,342,324,330,349 "
    "--sources 147,189,81,104,145,95,71,171 --order given",
    "figure spatial_positions inceptionv1 mixed4c:447 --source mixed4b",
    "figure weight_factors inceptionv1 mixed3a --source maxpool1 --units 136,108,132,88,110,180 --rank 2",
    "figure factor_equation inceptionv1 mixed3a --source maxpool1 --units 136,108,132,88,110,180 --rank 2",
    "figure small_multiples inceptionv1 mixed3b:208 --source mixed3a --k 5",
    "figure expanded inceptionv1 mixed3b:208 --source maxpool1 --k 18",
    "figure cancellation inceptionv1 mixed3b:345 --source conv2d2:89 --through mixed3a",
    "figure expanded inceptionv1 mixed3b:268 --source conv2d1 --k 9",
    "figure neuron_card inceptionv1 mixed3b:379 --source mixed3a",
]


def without(words, *flags):
    """Words of a command without some options and their values."""
    dropped = {i + more for i, word in enumerate(words) if word in flags for more in (0, 1)}
    return [word for i, word in enumerate(words) if i not in dropped]


@pytest.mark.slow
def test_an_article_is_made_of_a_file(inception, tmp_path, monkeypatch):
    """All figures, of weights read from a file, with pictures of one step."""
    torch.save(inception.module.state_dict(), tmp_path / "own.pth")
    monkeypatch.chdir(tmp_path)
    net = wa.load("inceptionv1", weights="own.pth")
    made, figure = {}, writing._drawn

    def drawn(studio, entry):
        made[entry.step.heading] = figure(studio, entry)
        return made[entry.step.heading]

    monkeypatch.setattr(writing, "_drawn", drawn)
    recipe = wa.featurevis.Recipe(side=16, steps=1)
    # a recipe of one's own would make lines of Python of the commands: it is not told here
    monkeypatch.setattr(writing, "_told", lambda studio, name: False)
    page = wa.article(net, "out", recipe=recipe).read_text(encoding="utf-8")
    assert "cannot be made" not in page
    assert page.count("<figure") == len(made) == 14
    assert "nothing was picked by hand" not in page
    assert "layers and units are the article's own" in page
    assert re.search(r"<p>Weights: own\.pth sha256:[0-9a-f]{64}\.</p>", page)
    assert "nothing was learned" not in page  # nobody knows what a file holds
    for words, said in zip(lines(page), SAID, strict=True):
        assert words[0] == "weightatlas"
        assert words[words.index("--weights") + 1] == "own.pth"
        assert without(words[1:], "--weights", "--seed", "-o") == said.split()
    for name, heading in ((n, STEPS[n].heading) for n in ARTICLE):
        assert made[heading].caption.endswith(f" {ARTICLE[name].why}"), name
    assert made["Weight banding, by depth"].caption.endswith("Chosen by rule: all layers with spatial kernels.")
    positions = made["What a unit looks for, and where"]
    assert "5 × 5 positions" in positions.svg()
    done = CliRunner().invoke(app, lines(page)[0][1:])
    assert done.exit_code == 0, done.output
    with open("out/01-nmf-grid.svg") as ours, open("01-nmf-grid.svg") as again:
        assert set(re.findall(r"base64,[^\"]+", again.read())) == set(re.findall(r"base64,[^\"]+", ours.read()))
    assert sorted(os.listdir()) == ["01-nmf-grid.svg", "out", "own.pth"]


def test_random_weights_are_told_at_the_top(inception, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "STEPS", {"Figure 1": STEPS["Figure 1"]})
    page = wa.article(inception, tmp_path).read_text(encoding="utf-8")
    top = page.partition("<section>")[0]
    assert "<p>Its weights are random (seed 0): nothing was learned.</p>" in top
    words = (
        "weightatlas figure nmf_grid inceptionv1 mixed4d_5x5 --weights random --units 0-9 --seed 0 -o 01-nmf-grid.svg"
    )
    assert lines(page) == [words.split()]
    assert "read as in the article: ReLU as the identity" in top
    monkeypatch.setattr(inception, "measured", object())
    page = wa.article(inception, tmp_path).read_text(encoding="utf-8")
    assert "ReLU as the identity" not in page.partition("<section>")[0]
