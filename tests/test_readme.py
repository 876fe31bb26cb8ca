"""The README keeps its word: its example runs, its picture is what its command draws, its commands exist."""

import base64
import io
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import SVG, texts
from skimage import data
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.slow
@pytest.mark.usefixtures("short_recipes", "opened_once")
def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, pixels in (("cat", data.chelsea()), ("photos/cat", data.chelsea()), ("photos/coffee", data.coffee())):
        Image.fromarray(pixels).save(f"{name}.png")
    names = {}
    for source in blocks("python"):
        exec(compile(source, "README.md", "exec"), names)
    assert (tmp_path / "blocks.4.2.svg").read_text().startswith("<svg")
    field = names["net"].layers["2"].receptive_field
    assert (field.size, field.stride) == ((7, 7), (1, 1))


def test_the_main_example_has_six_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 6


def pictures_with_commands():
    """Every picture of the README that a command beside it writes under the same name."""
    shown = {Path(p).name: p for p in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)}
    made = {shlex.split(b)[shlex.split(b).index("-o") + 1]: b.strip() for b in blocks("sh") if " -o " in b}
    return {shown[name]: command for name, command in made.items() if name in shown}


def run(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.usefixtures("opened_once")
def test_its_pictures_are_what_the_commands_beside_them_draw(tmp_path, monkeypatch):
    found = pictures_with_commands()
    assert {Path(p).suffix for p in found} == {".svg", ".png"}
    for picture, command in found.items():
        run(command, tmp_path, monkeypatch)
        drawn, kept = tmp_path / Path(picture).name, ROOT / picture
        if kept.suffix == ".svg":
            same_drawing(ET.parse(drawn).getroot(), ET.parse(kept).getroot())
            continue
        drawn, kept = (np.asarray(Image.open(p).convert("RGB"), int) for p in (drawn, kept))
        assert drawn.shape == kept.shape
        assert np.abs(drawn - kept).mean() < 4  # other processors may round differently; another layer differs by tens


def same_drawing(one, other):
    """Words, and the squares of maps; pictures that were optimised may differ from processor to processor."""
    assert texts(one) == texts(other)
    maps = [[n for n in root.iter(f"{SVG}image") if "image/png" in n.get("href")] for root in (one, other)]
    assert len(maps[0]) == len(maps[1])
    for a, b in zip(*maps, strict=True):
        assert a.get("aria-label") == b.get("aria-label")
        pixels = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(n.get("href").split(",")[1]))).convert("RGB"), int)
            for n in (a, b)
        ]
        assert np.abs(pixels[0] - pixels[1]).max() <= 2


def test_it_opens_with_a_picture_and_its_command():
    first = re.search(r"!\[[^\]]+\]\(([^)]+)\)", README)[1]
    assert README.index(first) < README.index("weightatlas figure small_multiples") < README.index("## Two commands")
    assert first in pictures_with_commands()


def sections():
    """Of the gallery: the command and the Python of every kind of figure."""
    text = (ROOT / "docs/gallery.md").read_text()
    found = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return {
        name: (
            re.search(r"```sh\n(.*?)```", body, re.S)[1],
            re.search(r"```\{code-cell\} python3\n(.*?)```", body, re.S)[1],
        )
        for name, body in found
    }


def test_the_gallery_has_every_figure_in_at_most_six_lines():
    elsewhere = {"weights", "features", "connections", "paths"}  # shown on other pages
    lenses = {"explanation", "activation_grid", "dataset_examples", "gradient_cases"}
    shown = (ROOT / "docs/lenses.md").read_text()
    assert all(f'wa.figure(net, "{kind}"' in shown or f'wa.figure(edge, "{kind}"' in shown for kind in lenses)
    kinds = set(wa.figure_kinds()) - elsewhere - lenses
    assert set(sections()) == kinds
    for name, (command, source) in sections().items():
        assert shlex.split(command)[:3] == ["weightatlas", "figure", name]
        assert len(source.strip().splitlines()) <= 6


@pytest.mark.slow
@pytest.mark.usefixtures("short_recipes", "opened_once")
def test_the_gallerys_commands_draw_what_its_python_draws(tmp_path, monkeypatch):
    names = {"np": np, "wa": wa, "net": wa.load("efficientnet_lite0")}
    for command, source in sections().values():
        run(command, tmp_path, monkeypatch)
        *lines, last = source.strip().splitlines()
        exec("\n".join(lines), names)
        drawn = ET.fromstring(eval(last, names).svg())
        kept = ET.parse(tmp_path / shlex.split(command)[-1]).getroot()
        same_drawing(drawn, kept)


def test_its_commands_are_those_of_the_program():
    listed = set(re.findall(r"^\| `weightatlas (\w+)", README, re.M))
    assert listed == {command.name or command.callback.__name__ for command in app.registered_commands}


@pytest.mark.parametrize("target", ["demo", "test", "docs", "bench"])
def test_its_make_targets_exist(target):
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_ci_runs_what_the_readme_says():
    commands = [
        line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith(("#", "set", "cd"))
    ]
    install = re.fullmatch(r"command -v chromium \|\| \{ (.+) && (.+); \}", commands[0])
    assert commands[1:] == ["WEIGHTATLAS_BROWSER=needed make test"]
    for command in (*install.groups(), *commands[1:]):
        assert command in README
