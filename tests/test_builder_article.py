"""The article's figures again: a page that grows, rules in captions, reasons where there is no room, lines that run."""

import ast
import dataclasses
import html
import importlib
import os
import re
import shlex
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from planted import flat
from torch import nn

import weightatlas as wa
from weightatlas.builder import pictures
from weightatlas.builder.commands import command
from weightatlas.errors import ArgumentError, LoadError
from weightatlas.figures import Figure

pytestmark = pytest.mark.usefixtures("one_thread")

writing = importlib.import_module("weightatlas.builder.article")  # the package gives its name to the function
RECIPE = wa.featurevis.Recipe(side=16, steps=1)
FILES = [
    "01-nmf-grid.svg",
    "02-banding.svg",
    "03-weights.svg",
    "04-connection.svg",
    "05-small-multiples.svg",
    "06-family-grid.svg",
    "07-spatial-positions.svg",
    "08-weight-factors.svg",
    "09-factor-equation.svg",
    "10-small-multiples.svg",
    "11-expanded.svg",
    "12-cancellation.svg",
    "13-expanded.svg",
    "14-neuron-card.svg",
]
HEADINGS = [
    "Figure 1 · The weights of a layer at a glance",
    "Figure 2 · Weight banding, by depth",
    "Figure 2 · The strongest bands",
    "Figure 3 · One connection, with its context",
    "Figure 4 · A unit and its strongest sources",
    "Figure 5 · A family of units and what it reads",
    "Figure 6 · What a unit looks for, and where",
    "Figure 7 · A family in two factors",
    "Figure 8 · What the factors are made of",
    "Figure 9 · A unit's direct inputs",
    "Figure 10 · The same unit, one layer further back",
    "Figures 11 and 12 · When expanded weights mislead",
    "Figure 13 · Many layers back",
    "One unit on a page",
]


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3), nn.ReLU(), nn.Conv2d(12, 9, 3))


def opened(made=None, shape=(3, 24, 24)):
    return wa.load((made or module()).eval(), input=wa.InputSpec(shape=shape))


def told(page):
    """What the page says makes its figures, as text."""
    return [html.unescape(c) for c in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


def reasons(page):
    """Why figures cannot be made, by what they are called."""
    section = re.search(r"<section><h2>What cannot be made of this network</h2>(.*?)</section>", page, re.DOTALL)
    found = {}
    for line in re.findall(r"<p>([^<]*)</p>", section[1]) if section else []:
        names, _, reason = html.unescape(line).partition(": ")
        each = re.findall(r"Figure 2, [a-z ]+|Figures? \d+(?: and \d+)?|A card", names)
        assert ", ".join(each) == names
        assert not set(each) & set(found)
        found |= dict.fromkeys(each, reason)
    return found


def captions(page):
    return [html.unescape(c) for c in re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)]


def headings(page):
    return [html.unescape(re.sub(r"<[^>]*>", "", h)) for h in re.findall(r"<h2>(.*?)</h2>", page, re.DOTALL)]


def well_formed(page):
    """The page as XML, but for what HTML leaves unclosed."""
    page = re.sub(r"<!doctype html>|<meta [^>]*>|<link [^>]*>", "", page)
    page = re.sub(r" hidden(?=[ >])", "", page)
    return ET.fromstring(re.sub(r"(<\w[^>]*) class=quiet>", r'\1 class="quiet">', page))


def svgs(folder):
    """The figures' files, each read as XML."""
    names = sorted(n for n in os.listdir(folder) if n.endswith(".svg"))
    for name in names:
        ET.parse(folder / name)
    return names


@dataclasses.dataclass
class Watched:
    """An article as it was made."""

    net: wa.Network
    folder: object
    pages: list  # as each was written, with the files that were there
    figures: list
    rendered: list
    said: list
    progress: list

    @property
    def page(self):
        return self.pages[-1][0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    net, folder = opened(), tmp_path_factory.mktemp("article") / "new" / "folder"
    seen = Watched(net, folder, [], [], [], [], [])
    write, save, render = writing.atomic_write, Figure.save, pictures.visualize

    def atomic_write(path, data):
        assert path == folder / "index.html"
        seen.pages.append((data.decode(), sorted(os.listdir(folder)), list(seen.said)))
        return write(path, data)

    def saved(self, path, **more):
        seen.figures.append((path.name, self))
        return save(self, path, **more)

    def visualize(net, layer, *, units=None, directions=None, **more):
        seen.rendered += [(layer, u) for u in units] if units is not None else [(layer, directions.tobytes())]
        return render(net, layer, units=units, directions=directions, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "atomic_write", atomic_write)
        patch.setattr(Figure, "save", saved)
        patch.setattr(pictures, "visualize", visualize)
        index = wa.article(
            net, folder, recipe=RECIPE, progress=seen.said.append, pictures=lambda *n: seen.progress.append(n)
        )
    assert index == folder / "index.html"
    assert index.read_text(encoding="utf-8") == seen.page
    return seen


class TestPage:
    def test_holds_every_figure_and_a_file_of_each(self, made):
        assert sorted(os.listdir(made.folder)) == [*FILES, "index.html"]
        assert svgs(made.folder) == FILES
        assert headings(made.page) == HEADINGS
        assert made.page.count("<figure") == 14
        assert reasons(made.page) == {}

    def test_shows_what_is_in_the_files(self, made):
        assert [name for name, _ in made.figures] == FILES
        for name, drawn in made.figures:
            assert (made.folder / name).read_text(encoding="utf-8") == drawn.svg()
            assert drawn.html() in made.page

    def test_is_written_anew_after_every_figure(self, made):
        assert len(made.pages) == 14
        for count, (page, files, _) in enumerate(made.pages, 1):
            assert headings(page) == HEADINGS[:count]
            assert [f for f in files if f.endswith(".svg")] == FILES[:count]
            left = re.search(r"(\d+) more are being made", page)
            assert (int(left[1]) if left else 0) == 14 - count
            well_formed(page)

    def test_says_before_each_figure_what_it_will_be(self, made):
        assert made.said[0] == "choosing layers"
        assert len(made.said) == 15
        for count, (_, _, said) in enumerate(made.pages, 1):
            assert len(said) == 1 + count
        assert made.said[4] == "Figure 3: one connection, with its context"
        assert made.said[-1] == "A card: one unit on a page"

    def test_tells_the_rule_in_every_caption(self, made):
        words = captions(made.page)
        assert len(words) == 14
        for caption, (_, drawn) in zip(words, made.figures, strict=True):
            rule = re.search(r" Chosen by rule: .{10,}\.$", drawn.caption, re.DOTALL)
            assert rule
            assert rule[0] in caption
        for name in FILES:
            assert "Chosenbyrule:" in flat(ET.parse(made.folder / name).getroot().itertext())

    def test_tells_of_which_network_it_is(self, made):
        count = 10 * 3 * 9 + 10 + 12 * 10 * 9 + 12 + 9 * 12 * 9 + 9
        assert f"5 layers, {count:,} parameters" in made.page
        assert "<title>Sequential, its weights visualized · weightatlas</title>" in made.page
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", made.page)  # one file, nothing loaded
        assert set(re.findall(r"href=\"#([^\"]+)", made.page)) <= set(re.findall(r" id=\"([^\"]+)", made.page))

    def test_renders_no_unit_and_no_direction_twice(self, made):
        assert len(made.rendered) == len(set(made.rendered))
        assert {layer for layer, _ in made.rendered} == {"0", "2", "4"}
        units = [u for _, u in made.rendered if isinstance(u, int)]
        factors = [u for _, u in made.rendered if isinstance(u, bytes)]
        assert len(units) > 12
        # the family's factors, all positions of a unit, its factors far back if they explain enough, and its own
        assert 3 <= len(factors) <= 5
        done, of = made.progress[-1]
        assert done == of

    def test_figures_are_of_the_units_that_the_rules_choose(self, made):
        data = {name: drawn.data for name, drawn in made.figures}
        weights = {pair: wa.expanded_weights(made.net, *pair) for pair in (("0", "2"), ("2", "4"), ("0", "4"))}
        late = np.square(weights["2", "4"].values.astype(float)).sum(axis=(2, 3))
        share = late / late.sum(axis=1, keepdims=True)
        strongest = np.unravel_index(share.argmax(), share.shape)
        assert (data["04-connection.svg"]["target"], data["04-connection.svg"]["source"]) == strongest
        family = data["06-family-grid.svg"]["targets"].tolist()
        assert data["05-small-multiples.svg"]["target"] in family
        assert sorted(data["08-weight-factors.svg"]["units"].tolist()) == sorted(family)
        early = np.square(weights["0", "2"].values[family].astype(float)).sum(axis=(0, 2, 3))
        assert set(data["06-family-grid.svg"]["sources"].tolist()) == set(np.argsort(-early)[:8].tolist())
        positions = data["07-spatial-positions.svg"]["target"]
        assert data["13-expanded.svg"]["target"] == data["14-neuron-card.svg"]["target"] == positions
        simple = data["10-small-multiples.svg"]["target"]
        assert data["11-expanded.svg"]["target"] == simple
        titles = {name: drawn.title for name, drawn in made.figures}
        assert titles["10-small-multiples.svg"] == f"What 4:{simple} reads in 2"
        assert titles["11-expanded.svg"] == f"What 4:{simple} reads in 0"
        assert titles["13-expanded.svg"] == f"What 4:{positions} reads in 0"  # the farthest layer, five squares wide
        paths = wa.expanded_paths(made.net, "0", "2", "4")
        lost = np.abs(paths.absolute).sum(axis=(2, 3)) - np.abs(paths.through).sum(axis=(2, 3))
        hundred = np.argsort(-lost.ravel())[:100]
        cancelled = 1 - np.abs(paths.through).sum(axis=(2, 3)) / paths.absolute.sum(axis=(2, 3))
        assert len(lost.ravel()) < 100
        assert data["12-cancellation.svg"]["cancellation"] == pytest.approx(cancelled.ravel()[hundred].max(), abs=1e-5)


class TestRooms:
    """Networks that lack what some figures need."""

    def article(self, made, shape, folder):
        page = wa.article(opened(made, shape), folder, recipe=RECIPE).read_text(encoding="utf-8")
        why = reasons(page)
        assert len(svgs(folder)) + len(why) == 14
        assert page.count("<figure") == len(svgs(folder))
        assert len(captions(page)) == page.count("Chosen by rule: ") == len(told(page))
        well_formed(page)
        return page, why

    def test_two_layers_are_enough(self, tmp_path):
        torch.manual_seed(0)
        convs = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3))
        _, why = self.article(convs, (3, 24, 24), tmp_path)
        assert why == {}
        drawn = ET.tostring(ET.parse(tmp_path / "11-expanded.svg").getroot(), encoding="unicode")
        assert "reads input" in drawn  # there is no layer further back

    def test_a_single_layer_has_bands_and_nothing_else(self, tmp_path):
        _, why = self.article(nn.Sequential(nn.Conv2d(3, 10, 3)), (3, 24, 24), tmp_path)
        assert svgs(tmp_path) == ["02-banding.svg"]
        assert "no layer whose kernels could show bands" in why["Figure 2, the strongest"]
        rest = [words for name, words in why.items() if name != "Figure 2, the strongest"]
        assert len(rest) == 12
        assert all("no two layers of at least 2 units, one reading the other" in words for words in rest)

    def test_layers_of_a_few_units_have_all_figures(self, tmp_path):
        torch.manual_seed(0)
        small = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3))
        _, why = self.article(small, (3, 24, 24), tmp_path)
        assert why == {}

    def test_layers_of_a_single_unit_are_too_small(self, tmp_path):
        torch.manual_seed(0)
        small = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
        _, why = self.article(small, (3, 24, 24), tmp_path)
        assert "no two layers of at least 2 units" in why["Figure 3"]
        assert set(svgs(tmp_path)) <= {"02-banding.svg", "03-weights.svg"}

    def test_without_spatial_kernels_there_are_no_bands(self, tmp_path):
        torch.manual_seed(0)
        flat = nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Conv2d(10, 12, 1), nn.ReLU(), nn.Conv2d(12, 9, 1))
        _, why = self.article(flat, (3, 24, 24), tmp_path)
        assert set(why) == {"Figure 2, by depth", "Figure 2, the strongest"}
        assert all("no kernel larger than 1" in words for words in why.values())

    def test_of_signals_there_are_no_pictures(self, tmp_path):
        torch.manual_seed(0)
        convs = [nn.Conv1d(4, 10, 3), nn.ReLU(), nn.Conv1d(10, 12, 3), nn.ReLU(), nn.Conv1d(12, 9, 3)]
        _, why = self.article(nn.Sequential(*convs), (4, 32), tmp_path)
        assert set(why) == {"Figure 2, by depth", "Figure 2, the strongest", "Figure 6"}
        assert "no pictures of directions over '2'; they need image input" in why["Figure 6"]
        words = "".join(ET.parse(tmp_path / "04-connection.svg").getroot().itertext())
        assert words.count("no picture") >= 2

    def test_of_vectors_there_are_no_positions(self, tmp_path):
        torch.manual_seed(0)
        dense = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 9))
        _, why = self.article(dense, (20,), tmp_path)
        assert {"Figure 2, by depth", "Figure 2, the strongest", "Figure 6"} <= set(why)
        assert {"04-connection.svg", "06-family-grid.svg", "08-weight-factors.svg"} <= set(svgs(tmp_path))

    def test_of_nothing_that_has_weights_there_is_a_page_of_reasons(self, tmp_path):
        _, why = self.article(nn.Sequential(nn.ReLU()), (3, 24, 24), tmp_path)
        assert len(why) == 14
        assert os.listdir(tmp_path) == ["index.html"]

    def test_where_the_module_cannot_be_copied_what_needs_no_picture_is_there(self, tmp_path):
        made = module()
        made.lock = threading.Lock()
        _, why = self.article(made, (3, 24, 24), tmp_path)
        assert svgs(tmp_path)[:3] == FILES[:3]
        assert "cannot be copied" in why["Figure 6"]

    def test_where_rendering_fails_the_reason_is_shown_as_text(self, tmp_path, monkeypatch):
        def visualize(*args, **more):
            raise ArgumentError("there is <no> way & no picture")

        monkeypatch.setattr(pictures, "visualize", visualize)
        page, why = self.article(None, (3, 24, 24), tmp_path)
        assert why["Figure 3"] == "there is <no> way & no picture."
        assert "there is &lt;no&gt; way &amp; no picture" in page
        assert svgs(tmp_path) == FILES[:3]

    def test_layers_with_nan_are_passed_over(self, tmp_path):
        made = module()
        with torch.no_grad():
            made[4].weight[1, 2, 0, 0] = float("nan")
        page, why = self.article(made, (3, 24, 24), tmp_path)
        assert "Figure 5" not in why
        targets = [re.search(r"'connection', '(\d+):", line)[1] for line in told(page) if "'connection'" in line]
        assert targets == ["2"]  # the last layer is left out, the one before it takes its place
        assert "NaN" in why["A card"]

    @pytest.mark.parametrize("channels", [1, 4])
    def test_images_of_other_channels_have_all_figures(self, tmp_path, channels):
        made = module()
        made[0] = nn.Conv2d(channels, 10, 3)
        _, why = self.article(made, (channels, 24, 24), tmp_path)
        assert why == {}


class TestFolder:
    def test_a_checkpoint_without_its_architecture_is_refused(self, tmp_path):
        torch.save({f"{n}.weight": torch.randn(9, 9, 3, 3) for n in "abc"}, tmp_path / "c.pt")
        with pytest.raises(ArgumentError, match=r"an article needs the architecture, but 'c\.pt' is a checkpoint"):
            wa.article(wa.load(tmp_path / "c.pt"), tmp_path / "out")
        assert os.listdir(tmp_path) == ["c.pt"]

    def test_a_file_in_the_place_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "f").write_text("mine")
        with pytest.raises(LoadError, match="f is a file; an article needs a folder"):
            wa.article(opened(), tmp_path / "f", recipe=RECIPE)
        with pytest.raises(LoadError):
            wa.article(opened(), tmp_path / "f" / "g", recipe=RECIPE)
        assert (tmp_path / "f").read_text() == "mine"

    def test_what_cannot_be_is_refused_before_anything_is_written(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        out = tmp_path / "out"
        for options, error in (
            ({"palette": "red"}, ArgumentError),
            ({"images": "nowhere.png"}, LoadError),
            ({"images": tmp_path}, ArgumentError),
        ):
            with pytest.raises(error, match=r"'red'|nowhere|holds no images"):
                wa.article(opened(), out, recipe=RECIPE, **options)
        assert not out.exists()

    def test_a_second_article_replaces_its_files_and_no_others(self, tmp_path):
        others = {"mine.txt": b"mine", "15-mine.svg": b"no figure", "01-nmf-grid.png": b"mine"}
        for name, content in {**others, "index.html": b"old", FILES[3]: b"broken"}.items():
            (tmp_path / name).write_bytes(content)
        wa.article(opened(), str(tmp_path), recipe=RECIPE)
        first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert set(first) == {*FILES, "index.html", *others}
        assert {name: first[name] for name in others} == others
        assert b"broken" not in first[FILES[3]]
        (tmp_path / FILES[6]).write_bytes(b"broken")
        wa.article(opened(), tmp_path, recipe=RECIPE)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first


def same(a, b):
    """Whether data of two figures are equal but for rounding; what a picture reaches is the picture's own."""
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        if a and isinstance(a[0], str) and a[0] == "its picture reaches":
            return b[0] == a[0]
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray | float):
        close = {"rtol": 1e-4, "atol": 1e-6, "equal_nan": True} if np.asarray(a).dtype.kind == "f" else {"rtol": 0}
        return np.shape(a) == np.shape(b) and np.allclose(a, b, **close)
    return a == b


class TestCommands:
    @pytest.mark.usefixtures("short_recipes")
    def test_lines_of_python_make_the_same_figures(self, tmp_path, monkeypatch):
        torch.manual_seed(0)
        convs = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.ReLU(), nn.Conv2d(9, 8, 3)]
        net, saved, save = opened(nn.Sequential(*convs), (3, 16, 16)), [], Figure.save
        monkeypatch.setattr(Figure, "save", lambda self, path: (saved.append((str(path), self)), save(self, path)))
        folder = tmp_path / "article"
        page = wa.article(net, folder, recipe="quick", seed=2).read_text(encoding="utf-8")
        shown = saved.copy()
        saved.clear()
        lines = told(page)
        assert len(lines) == len(shown) == 14
        (tmp_path / "again").mkdir()
        monkeypatch.chdir(tmp_path / "again")
        for line in lines:
            exec(line, {"wa": wa, "net": net})
        assert sorted(os.listdir()) == FILES
        for (path, drawn), (name, again) in zip(shown, saved, strict=True):
            assert os.path.basename(path) == name
            assert same(dict(drawn.data), dict(again.data)), name
            assert drawn.title == again.title
            assert drawn.caption.partition(" Chosen by rule: ")[0] == again.caption

    def options(self, line):
        """The keywords of a line's call of ``wa.figure``, and its other arguments."""
        call = ast.parse(line).body[0].value.func.value
        assert ast.unparse(call.func) == "wa.figure"
        return [ast.unparse(a) for a in call.args], {k.arg: ast.unparse(k.value) for k in call.keywords}

    def test_lines_tell_the_choices_that_differ_from_the_usual(self, made, tmp_path):
        by_kind = {}
        for line in told(made.page):
            arguments, options = self.options(line)
            assert arguments[0] == "net"
            by_kind.setdefault(ast.literal_eval(arguments[1]), (arguments[2:], options))
        assert by_kind["banding"] == ([], {"seed": "0"})
        assert set(by_kind["connection"][1]) == {"source", "recipe"}
        assert set(by_kind["family_grid"][1]) == {"source", "targets", "sources", "order", "recipe"}
        for index in range(2):
            Image.new("RGB", (24, 24), (index, 9, 200)).save(tmp_path / f"{index}.png")
        given = [str(tmp_path / f"{index}.png") for index in range(2)]
        page = wa.article(
            made.net, tmp_path / "out", recipe=RECIPE, images=given, seed=5, palette="colorblind", device="cpu"
        ).read_text(encoding="utf-8")
        found = {ast.literal_eval(a[1]): o for a, o in map(self.options, told(page))}
        assert len(found) == 12  # two kinds stand for two figures each
        for kind, options in found.items():
            taken = wa.figure_kinds()[kind].parameters
            assert set(options) <= set(taken)
            assert options["seed"] == "5"
            for name, value in (("images", repr(given)), ("palette", "'colorblind'")):
                if name in taken and "recipe" in taken and kind not in ("nmf_grid", "weights", "banding"):
                    assert options[name] == value, kind

    def test_arrays_are_told_by_name(self, made, tmp_path):
        arrays = np.zeros((2, 24, 24, 3), np.uint8)
        page = wa.article(made.net, tmp_path, recipe=RECIPE, images=arrays).read_text(encoding="utf-8")
        lines = [line for line in told(page) if "'connection'" in line]
        assert len(lines) == 1
        assert self.options(lines[0])[1]["images"] == "images"

    @pytest.mark.parametrize(
        ("kind", "target", "options", "words"),
        [
            (
                "connection", "blocks.4.1:17", {"source": "blocks.4.0:3", "recipe": "quick"},
                "weightatlas figure connection efficientnet_lite0 blocks.4.1:17 --source blocks.4.0:3 --recipe quick -o f.svg",
            ),
            (
                "family_grid", "blocks.4.1", {"source": "blocks.4.0", "targets": [4, 11], "sources": [9, 8], "order": "similarity"},
                "weightatlas figure family_grid efficientnet_lite0 blocks.4.1 --source blocks.4.0 --targets 4,11 --sources 9,8 --order similarity -o f.svg",
            ),
            (
                "nmf_grid", "blocks.4.1", {"units": range(20), "seed": 3},
                "weightatlas figure nmf_grid efficientnet_lite0 blocks.4.1 --units 0-19 --seed 3 -o f.svg",
            ),
            (
                "weights", "blocks.6.0", {"units": range(20), "per_unit": True, "seed": 0},
                "weightatlas weights efficientnet_lite0 blocks.6.0 --units 0-19 --per-unit --seed 0 -o f.svg",
            ),
            ("banding", None, {"seed": 1}, "weightatlas banding efficientnet_lite0 --seed 1 -o f.svg"),
            (
                "expanded", "blocks.4.1:17", {"source": "blocks.3.0", "k": 8, "seed": 0, "palette": "colorblind"},
                "weightatlas figure expanded efficientnet_lite0 blocks.4.1:17 --source blocks.3.0 --k 8 --seed 0 --palette colorblind -o f.svg",
            ),
            (
                "cancellation", "blocks.4.1:17", {"source": "blocks.3.2:3", "through": "blocks.4.0"},
                "weightatlas figure cancellation efficientnet_lite0 blocks.4.1:17 --source blocks.3.2:3 --through blocks.4.0 -o f.svg",
            ),
            (
                "neuron_card", "blocks.4.1:17", {"images": ["a b.png", "c"], "device": "cuda"},
                "weightatlas figure neuron_card efficientnet_lite0 blocks.4.1:17 --images 'a b.png' --images c --device cuda -o f.svg",
            ),
            (
                "connections", "blocks.4.1", {"source": "blocks.4.0", "units": range(6), "k": 8},
                "weightatlas expand efficientnet_lite0 --from blocks.4.0 --to blocks.4.1 --units 0-5 --top 8 -o f.svg",
            ),
        ],
    )  # fmt: skip
    def test_of_the_embedded_network_they_are_commands(self, lite0, kind, target, options, words):
        line = command(lite0, kind, target, options, "f.svg")
        assert shlex.split(line) == shlex.split(words)

    def test_arrays_have_no_name_on_the_command_line(self, lite0):
        line = command(lite0, "neuron_card", "blocks.4.1:17", {"images": np.zeros((1, 8, 8, 3))}, "f.svg")
        assert line == "weightatlas figure neuron_card efficientnet_lite0 blocks.4.1:17 -o f.svg"

    def test_a_network_of_ones_own_has_no_command(self, made):
        line = command(made.net, "connection", "4:1", {"source": "2:3", "recipe": "quick", "seed": 1}, "it's.svg")
        assert line == ("wa.figure(net, 'connection', '4:1', source='2:3', recipe='quick', seed=1).save(\"it's.svg\")")
        assert command(made.net, "banding", None, {}, "b.svg") == "wa.figure(net, 'banding').save('b.svg')"

    def test_names_that_look_like_options_come_last(self, tmp_path):
        torch.save({"-o'; rm": torch.randn(9, 9, 3, 3), "b.weight": torch.randn(9, 9, 3, 3)}, tmp_path / "c.pt")
        line = command(wa.load(tmp_path / "c.pt"), "weights", "-o'; rm", {"units": range(3)}, "f.svg")
        words = shlex.split(line)
        assert words[:2] == ["weightatlas", "weights"]
        assert words[words.index("--") + 1 :] == ["c.pt", "-o'; rm"]
        assert words[words.index("--units") + 1] == "0-2"


#: What torch can capture; it fails by itself at names with double quotes and line breaks.
NAMES = ["<script>alert(1)</script>", "'><img src=x onerror=alert(1)>", "]]><!--&amp;層\u202e"]


def test_hostile_names_do_not_break_the_page(tmp_path, monkeypatch):
    torch.manual_seed(0)
    made = type("</title><script>x</script>", (nn.Sequential,), {})()
    for name, (before, after) in zip(NAMES, ((3, 10), (10, 12), (12, 9)), strict=True):
        made.add_module(name, nn.Conv2d(before, after, 3))
    net = opened(made)
    assert net.name == "</title><script>x</script>"
    page = wa.article(net, tmp_path / "out", recipe=RECIPE).read_text(encoding="utf-8")
    assert reasons(page) == {}
    assert svgs(tmp_path / "out") == FILES
    assert os.listdir(tmp_path) == ["out"]
    assert not re.search(r"<script|<img|<!--|\]\]>", page)
    root = well_formed(page)
    assert {"script", "img"}.isdisjoint(node.tag.rpartition("}")[2] for node in root.iter())
    assert "alert(1)" in "".join(root.itertext())
    monkeypatch.chdir(tmp_path)
    line = next(line for line in told(page) if "'family_grid'" in line)
    exec(line, {"wa": wa, "net": net, "recipe": RECIPE})
    assert os.path.exists("06-family-grid.svg")


@pytest.mark.slow
@pytest.mark.usefixtures("short_recipes")
def test_of_the_embedded_network_all_figures_are_made(lite0, tmp_path):
    page = wa.article(lite0, tmp_path, recipe="quick").read_text(encoding="utf-8")
    assert "cannot be made" not in page
    assert reasons(page) == {}
    assert svgs(tmp_path) == FILES
    assert headings(page) == HEADINGS
    assert len(captions(page)) == page.count("Chosen by rule: ") == 14
    lines = told(page)
    assert len(lines) == 14
    for line, file in zip(lines, FILES, strict=True):
        program, *words = shlex.split(line)
        kind = file[3:-4].replace("-", "_")
        own = {"banding": ["banding"], "weights": ["weights"]}.get(kind, ["figure", kind])
        assert [program, *words[: len(own)]] == ["weightatlas", *own]
        assert words[len(own)] == "efficientnet_lite0"
        assert words[-2:] == ["-o", file]
        if kind not in ("nmf_grid", "banding", "weights"):
            assert words[words.index("--recipe") + 1] == "quick"
    well_formed(page)


def test_images_that_do_not_fit_are_refused_before_anything_is_made(tmp_path):
    net = wa.load(
        nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 9, 3)), input=wa.InputSpec(shape=(3, 24, 24))
    )
    for images in (np.zeros((2, 5)), [], np.full((1, 3, 24, 24), np.nan, np.float32)):
        with pytest.raises(ArgumentError, match="image"):
            wa.article(net, tmp_path / "none", images=images)
    assert not (tmp_path / "none").exists()


def test_the_palette_reaches_every_figure(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3), nn.ReLU(), nn.Conv2d(12, 9, 3)]
    net = wa.load(nn.Sequential(*layers), input=wa.InputSpec(shape=(3, 24, 24)))
    wa.article(net, tmp_path, recipe=wa.featurevis.Recipe(side=16, steps=1), palette="colorblind")
    for path in tmp_path.glob("*.svg"):
        text = path.read_text()
        assert "red excites" not in text
        assert "#c0392b" not in text, path.name  # classic excite
    assert "#d06f10" in (tmp_path / "02-banding.svg").read_text()
