"""The builder: the drawing that suits a layer, options it cannot use, and the folder an overview writes."""

import json
import os
import re
import shlex
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import weightatlas as wa
from weightatlas.builder import file_stem, kinds, overview_layers, pages
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightValuesError

pytestmark = pytest.mark.usefixtures("one_thread")


#: What an overview tells after the layers' weights.
LAST_STEPS = ("pictures of units", "expanded weights", "page")


def small():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 8, 3, groups=2), nn.Conv2d(8, 4, 1)
    )
    return wa.load(module, input=wa.InputSpec(shape=(3, 16, 16)))


@pytest.fixture(scope="module")
def net():
    return small()


class TestFigure:
    @pytest.mark.parametrize(
        ("layer", "title"),
        [
            ("0", "Weights of 0 on pixels"),
            ("2", "Weights of 2"),
            ("3", "Weights of 3 in 3 factors"),
            ("4", "Weights of 4 in 3 factors"),
        ],
    )
    def test_the_drawing_suits_the_layer(self, net, layer, title):
        assert wa.figure(net, "weights", layer).title == title

    def test_the_numbers_are_the_networks(self, net):
        modules = dict(net.module.named_modules())
        shown = wa.figure(net, "weights", "0", units=[4, 1]).data
        assert np.array_equal(shown["values"], modules["0"].weight.detach().numpy()[[4, 1]])
        maps = wa.figure(net, "weights", "2", units=(5, 0)).data
        assert np.array_equal(maps["values"], modules["2"].weight.detach().numpy()[[5, 0], 0])
        factors = wa.factorize(wa.direct_weights(net, "3"), rank=2, method="semi", seed=5)
        grid = wa.figure(net, "weights", "3", units=np.array([7, 2]), rank=2, method="semi", seed=5).data
        assert np.array_equal(grid["space"], factors.space[[7, 2]])

    def test_inputs_without_colours_of_their_own(self):
        grey = wa.load(nn.Sequential(nn.Conv2d(1, 4, 3)), input=wa.InputSpec(shape=(1, 8, 8)))
        assert wa.figure(grey, "weights", "0").title == "Weights of 0"
        lab = wa.InputSpec(shape=(3, 8, 8), channel_names=("L", "a", "b"))
        other = wa.load(nn.Sequential(nn.Conv2d(3, 4, 3)), input=lab)
        assert wa.figure(other, "weights", "0").title == "Weights of 0 in 3 factors"

    @pytest.mark.parametrize("layer", ["0", "2"])
    @pytest.mark.parametrize("option", [{"rank": 2}, {"method": "semi"}, {"per_unit": True}, {"seed": 1}])
    def test_layers_without_factors_refuse_their_options(self, net, layer, option):
        with pytest.raises(ArgumentError, match=f"not factorized; leave out {next(iter(option))}"):
            wa.figure(net, "weights", layer, **option)

    def test_other_refusals(self, net):
        for layer in ("0", "3"):
            with pytest.raises(ArgumentError, match="palette='colorblind'"):
                wa.figure(net, "weights", layer, palette="colorblind")
        with pytest.raises(ArgumentError, match=r"no option 'ranks'; it has units, rank, method, per_unit, seed"):
            wa.figure(net, "weights", "3", ranks=2)
        with pytest.raises(ArgumentError, match=r"'banding' has no option 'units'; it has permutations, seed, palette"):
            wa.figure(net, "banding", units=[1])
        with pytest.raises(ArgumentError, match="takes no layer"):
            wa.figure(net, "banding", "3")
        with pytest.raises(ArgumentError, match="needs a layer"):
            wa.figure(net, "weights")
        with pytest.raises(UnknownNameError, match="'weights'"):
            wa.figure(net, "weight", "3")
        with pytest.raises(UnknownNameError, match="'3'"):
            wa.figure(net, "weights", "33")
        with pytest.raises(ArgumentError, match="1×1"):
            wa.figure(net, "weights", "4", per_unit=True)
        with pytest.raises(ArgumentError, match="without direct weights"):
            wa.figure(net, "weights", "1")
        for units, error in ((5, ArgumentError), ("0", ArgumentError), ([], ArgumentError), ([8], UnknownNameError)):
            with pytest.raises(error):
                wa.figure(net, "weights", "3", units=units)

    def test_pictures_of_units(self, net):
        recipe = wa.featurevis.Recipe(side=16, steps=2)
        told = []
        drawn = wa.figure(
            net, "features", "3", units=[5, 0], recipe=recipe, seed=3, batch=1, device="cpu",
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        made = wa.visualize(net, "3", units=[5, 0], recipe=recipe, seed=3, batch=1)
        assert np.array_equal(drawn.data["images"], made.images)
        assert drawn.data["units"].tolist() == [5, 0]
        assert drawn.title == "Feature visualizations of 3"
        assert told == [(0.5, 2), (1, 2), (1.5, 2), (2, 2)]
        other = wa.figure(net, "features", "3", units=[5, 0], recipe=recipe, seed=4).data["images"]
        assert not np.array_equal(other, made.images)

    def test_pictures_of_the_first_units(self):
        torch.manual_seed(0)
        wide = wa.load(nn.Sequential(nn.Conv2d(3, 25, 3)), input=wa.InputSpec(shape=(3, 8, 8)))
        recipe = wa.featurevis.Recipe(side=4, steps=1)
        assert wa.figure(wide, "features", "0", recipe=recipe).data["units"].tolist() == list(range(20))
        assert len(wa.figure(wide, "features", "0", recipe=recipe, units=range(25)).data["units"]) == 25

    def test_pictures_that_cannot_be(self, net):
        with pytest.raises(
            ArgumentError, match=r"'features' has no option 'rank'; it has units, recipe, batch, seed, dev"
        ):
            wa.figure(net, "features", "3", rank=2)
        with pytest.raises(ArgumentError, match="needs a layer"):
            wa.figure(net, "features")
        with pytest.raises(UnknownNameError, match="nearest: 'quick'"):
            wa.figure(net, "features", "3", recipe="quik")
        with pytest.raises(UnknownNameError, match="no unit 8"):
            wa.figure(net, "features", "3", units=[8])
        vectors = wa.load(nn.Sequential(nn.Linear(5, 4)), input=wa.InputSpec(shape=(5,)))
        with pytest.raises(ArgumentError, match="makes images"):
            wa.figure(vectors, "features", "0")

    def test_banding(self, net):
        drawn = wa.figure(net, "banding", permutations=50, seed=3, palette="colorblind")
        assert drawn.data["rows"] == wa.banding(net, permutations=50, seed=3).to_dicts()
        assert "of 50 random" in drawn.caption


def commands(page):
    """What the page says makes its figures, as text."""
    import html

    return [html.unescape(c) for c in re.findall(r"<pre>(.*?)</pre>", page)]


class TestOverview:
    @pytest.mark.slow
    def test_of_the_embedded_network(self, lite0, tmp_path, monkeypatch):
        monkeypatch.setattr(pages, "PICTURED_UNITS", 2)
        told, rendered = [], []
        index = wa.overview(
            lite0, tmp_path / "new" / "demo", progress=told.append, pictures=lambda *numbers: rendered.append(numbers)
        )
        folder = index.parent
        layers = ["conv_stem", "blocks.2.1", "blocks.4.2", "blocks.6.0"]
        pictures = {f"weights-{layer}{suffix}" for layer in layers for suffix in (".svg", ".png")}
        expanded = {"connections-blocks.4.2.svg", "paths-blocks.4.2.svg", "features-blocks.4.2.svg"}
        assert set(os.listdir(folder)) == {"index.html", "layers.json", "banding.svg", *expanded} | pictures
        assert told == ["layers", "banding", *(f"weights of {name}" for name in layers), *LAST_STEPS]
        steps = wa.featurevis.recipe_for(lite0, "blocks.4.2").steps
        assert rendered == [(pytest.approx(2 * (t + 1) / steps), 2) for t in range(steps)]
        page = index.read_text(encoding="utf-8")
        assert "4,652,008 parameters" in page  # what timm counts for tf_efficientnet_lite0
        assert all(f"<code>{name}</code></th>" in page for name in lite0.layers)
        table = json.loads((folder / "layers.json").read_text())
        assert [layer["name"] for layer in table["layers"]] == list(lite0.layers)
        for picture in pictures | {"banding.svg", *expanded}:
            if picture.endswith(".svg"):
                ET.parse(folder / picture)
            else:
                with Image.open(folder / picture) as opened:
                    assert opened.width == 1440
        assert page.count("<figure") == 8
        assert "<h2 class=unseen>What units of blocks.4.2 detect</h2>" in page
        assert (
            "weightatlas render efficientnet_lite0 blocks.4.2 --units 0-1 --seed 0 -o features-blocks.4.2.svg" in page
        )
        assert "blue is its uppermost factor" in page  # the banded block, unit by unit
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)  # one file, nothing loaded
        assert set(re.findall(r"href=\"#([^\"]+)", page)) <= set(re.findall(r" id=\"([^\"]+)", page))

    @pytest.mark.slow
    def test_the_printed_commands_make_the_same_files(self, lite0, tmp_path, monkeypatch):
        monkeypatch.setattr(pages, "PICTURED_UNITS", 3)
        monkeypatch.setattr(wa, "load", {"efficientnet_lite0": lite0}.__getitem__)  # opened once
        from typer.testing import CliRunner

        from weightatlas.cli import app

        index = wa.overview(lite0, tmp_path, layers=["conv_stem", "blocks.6.0"], seed=3)
        monkeypatch.chdir(tmp_path)
        printed = commands(index.read_text(encoding="utf-8"))
        assert len(printed) == 6  # banding, two layers, pictures of units, expanded weights and paths
        assert (
            "weightatlas render efficientnet_lite0 conv_stem --units 0-2 --seed 3 -o features-conv_stem.svg" in printed
        )
        for command in printed:
            program, *words = shlex.split(command)
            file = tmp_path / words[-1]
            before = file.read_bytes()
            file.unlink()
            done = CliRunner().invoke(app, words)
            assert (program, done.exit_code) == ("weightatlas", 0), done.output
            assert file.read_bytes() == before

    def test_a_module_has_python_lines_that_work(self, net, tmp_path, monkeypatch):
        index = wa.overview(net, tmp_path)
        monkeypatch.chdir(tmp_path)
        printed = commands(index.read_text(encoding="utf-8"))
        # banding, the first layer, the one that is spatial and dense, pictures of units, expanded weights, paths
        assert len(printed) == 6
        assert "wa.figure(net, 'features', '0', units=range(0, 6), seed=0).save('features-0.svg')" in printed
        for line in printed:
            file = tmp_path / re.search(r"save\('(.+)'\)", line)[1]
            before = file.read_bytes()
            file.unlink()
            eval(line, {"wa": wa, "net": net})
            assert file.read_bytes() == before

    def test_pictures_are_of_the_layer_before_the_last_that_is_shown(self, net, tmp_path):
        for layers, layer in ((["0", "2", "3"], "2"), (["3", "0"], "3"), (["3"], "3")):
            page = wa.overview(net, tmp_path / "-".join(layers), layers=layers, seed=2).read_text(encoding="utf-8")
            assert page.count(f"<h2 class=unseen>What units of {layer} detect</h2>") == page.count("What units of") == 1
            file = tmp_path / "-".join(layers) / f"features-{layer}.svg"
            assert [p.name for p in file.parent.glob("features-*")] == [file.name]
            drawn = wa.figure(net, "features", layer, units=range(net.layers[layer].units), seed=2)
            assert file.read_text(encoding="utf-8") == drawn.svg()
            assert drawn.html() in page

    def test_twenty_units_are_pictured(self, tmp_path):
        torch.manual_seed(0)
        wide = wa.load(nn.Sequential(nn.Conv2d(3, 25, 3)), input=wa.InputSpec(shape=(3, 8, 8)))
        told = []
        wa.overview(wide, tmp_path, pictures=lambda done, total: told.append((done, total)))
        assert told[-1] == (20, 20)
        assert [d for d, _ in told] == sorted(d for d, _ in told)
        words = (tmp_path / "features-0.svg").read_text(encoding="utf-8")
        assert words.count("<image") + words.count("no result") == 20

    @pytest.mark.parametrize("kind", ["vectors", "checkpoint"])
    def test_pictures_are_absent_where_there_is_no_image_to_make(self, kind, tmp_path):
        if kind == "vectors":
            net = wa.load(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)), input=wa.InputSpec(shape=(5,)))
        else:
            torch.save({f"{n}.weight": torch.randn(6, 6, 3, 3) for n in "abc"}, tmp_path / "c.pt")
            net = wa.load(tmp_path / "c.pt")
        heard = []
        page = wa.overview(net, tmp_path / "o", pictures=lambda *numbers: heard.append(numbers)).read_text("utf-8")
        assert "What units of" not in page
        assert "Pictures of" not in page
        assert "features" not in "".join([*commands(page), *os.listdir(tmp_path / "o")])
        assert not heard

    @pytest.mark.parametrize("error", [ArgumentError, LoadError, WeightValuesError])
    def test_a_rendering_that_fails_is_said_on_the_page(self, net, tmp_path, monkeypatch, error):
        def visualize(*args, **more):
            raise error("there is <no> way")

        monkeypatch.setattr(kinds, "visualize", visualize)
        page = wa.overview(net, tmp_path).read_text(encoding="utf-8")
        assert "<section><h2>Pictures of 0</h2><p>there is &lt;no&gt; way</p></section>" in page
        assert not list(tmp_path.glob("features-*"))
        assert "Weights of 3" in page  # the rest is there
        assert (tmp_path / "connections-3.svg").exists()

    def test_a_network_that_cannot_be_copied_still_has_its_page(self, tmp_path):
        import threading

        net = small()
        net.module.lock = threading.Lock()
        page = wa.overview(net, tmp_path).read_text(encoding="utf-8")
        assert "<h2>Pictures of 0</h2>" in page
        assert "cannot be copied" in page
        assert "Weights of 3" in page

    def test_weights_that_are_nan_are_said_of_pictures_too(self, tmp_path):
        net = small()
        with torch.no_grad():
            net.module[0].weight[1, 0, 0, 0] = float("nan")
        page = wa.overview(net, tmp_path).read_text(encoding="utf-8")
        told = re.search(r"<h2>Pictures of 0</h2><p>(.*?)</p>", page)
        assert "holds NaN or infinity" in told[1]

    def test_expanded_weights_two_layers_back(self, net):
        drawn = wa.figure(net, "connections", "3", source="0", units=[4, 1], k=2)
        weights = wa.expanded_weights(net, "0", "3", units=[4, 1])
        assert [list(s) for s in drawn.data["sources"]] == [weights.top(u, 2).sources.tolist() for u in (4, 1)]
        paths = wa.figure(net, "paths", "3", source="0", through="2", k=1)
        assert "cancels" in paths.svg()
        with pytest.raises(ArgumentError, match="'connections' needs source="):
            wa.figure(net, "connections", "3")
        with pytest.raises(ArgumentError, match="'paths' needs source= and through="):
            wa.figure(net, "paths", "3")

    def test_a_network_that_cannot_be_captured_says_so(self, tmp_path):
        class Choosing(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = (nn.Conv2d(3, 3, 3) for _ in range(3))

            def forward(self, x):
                return self.c(self.b(self.a(x)) if x.sum() > 0 else self.a(x))

        index = wa.overview(wa.load(Choosing(), input=wa.InputSpec(shape=(3, 16, 16))), tmp_path)
        page = index.read_text(encoding="utf-8")
        assert "cannot be captured" in page
        assert "wa.figure(net, &#x27;weights&#x27;, &#x27;c&#x27;" in page  # the layers themselves are shown

    def test_without_spatial_kernels(self, tmp_path):
        module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
        index = wa.overview(wa.load(module, input=wa.InputSpec(shape=(5,))), tmp_path)
        assert set(os.listdir(tmp_path)) == {
            *("index.html", "layers.json"),
            *(f"weights-{n}.{suffix}" for n in (0, 2) for suffix in ("svg", "png")),
        }
        assert "no kernel larger than 1" in index.read_text(encoding="utf-8")

    def test_of_nothing_that_has_weights(self, tmp_path):
        net = wa.load(nn.Sequential(nn.ReLU()), input=wa.InputSpec(shape=(3, 4, 4)))
        with pytest.raises(ArgumentError, match="no convolution or linear layer"):
            wa.overview(net, tmp_path)

    def test_of_a_checkpoint_whose_names_are_hostile(self, tmp_path, monkeypatch):
        from typer.testing import CliRunner

        from weightatlas.cli import app

        names = ["<img src=x onerror=alert(1)>", "a/../../b c", "a_.._.._b_c", "-o'\";rm", "x" * 300, "層\x1b[2J"]
        file = tmp_path / "it's <b>.pt"
        torch.save({f"{n}.weight": torch.randn(4, 3, 3, 3) for n in names}, file)
        out = tmp_path / "out"
        index = wa.overview(wa.load(file), out, layers=names)
        page = index.read_text(encoding="utf-8")
        assert "<img" not in page
        assert "onerror=alert(1)&gt;" in page
        assert "<b>" not in page
        assert "\x1b" not in page
        assert len(list(out.glob("weights-*.svg"))) == len(names)
        assert set(os.listdir(tmp_path)) == {"out", file.name}
        monkeypatch.chdir(tmp_path)
        for command in commands(page)[1:6]:  # the last name holds a character that is shown, not printed
            done = CliRunner().invoke(app, shlex.split(command)[1:])
            assert done.exit_code == 0, done.output

    def test_a_path_that_is_a_file(self, net, tmp_path):
        (tmp_path / "f").write_text("mine")
        for path in (tmp_path / "f", tmp_path / "f" / "g"):
            with pytest.raises(LoadError):
                wa.overview(net, path)
        assert (tmp_path / "f").read_text() == "mine"

    def test_a_second_run_replaces_its_files_and_no_others(self, net, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        (tmp_path / "index.html").write_text("old")
        wa.overview(net, str(tmp_path), layers=["0"], seed=1)
        first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert first["mine.txt"] == b"mine"
        assert first["index.html"] != b"old"
        (tmp_path / "weights-0.png").write_bytes(b"broken")
        wa.overview(net, tmp_path, layers=["0"], seed=1)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first

    def test_weights_that_cannot_be_drawn_are_said_on_the_page(self, tmp_path):
        net = small()
        with torch.no_grad():
            net.module[3].weight[1, 0, 0, 0] = float("nan")
        page = wa.overview(net, tmp_path).read_text(encoding="utf-8")
        assert "NaN or infinite" in page
        assert not (tmp_path / "weights-3.svg").exists()
        assert (tmp_path / "weights-0.svg").exists()
        with pytest.raises(WeightValuesError):  # asked for by name
            wa.overview(net, tmp_path, layers=["3"])
        with pytest.raises(UnknownNameError):
            wa.overview(net, tmp_path, layers=["nowhere"])


def test_overview_layers_start_at_the_first_and_end_at_the_last(lite0):
    assert overview_layers(lite0) == ["conv_stem", "blocks.2.1", "blocks.4.2", "blocks.6.0"]
    deep = wa.load(nn.Sequential(*[nn.Conv2d(3, 3, 3) for _ in range(9)]), input=wa.InputSpec(shape=(3, 32, 32)))
    assert overview_layers(deep) == ["0", "3", "5", "8"]


def test_file_stems_are_safe_and_all_different():
    names = [
        "a.b",
        "a/b",
        "a_b",
        "a b",
        "A:b",
        "relu#2",
        "..",
        "x" * 300,
        "x" * 301,
        "層",
        "層層",
        "",
        "\udcff",
        "CON:",
    ]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all(re.fullmatch(r"weights-[\w.-]{0,90}", stem, re.ASCII) for stem in stems)
    assert file_stem("blocks.4.1") == "weights-blocks.4.1"
    assert file_stem("blocks.4.1", "features") == "features-blocks.4.1"
