"""The README keeps its word: its example runs, its picture is what its command draws, its commands exist."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from weightatlas.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.slow
def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for source in blocks("python"):
        exec(compile(source, "README.md", "exec"), names)
    assert (tmp_path / "blocks.4.2.svg").read_text().startswith("<svg")
    field = names["net"].layers["2"].receptive_field
    assert (field.size, field.stride) == ((7, 7), (1, 1))


def test_the_main_example_has_six_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 6


@pytest.mark.slow
def test_the_picture_is_what_the_command_beside_it_draws(tmp_path, monkeypatch):
    picture = re.search(r"!\[[^\]]+\]\(([^)]+)\)", README)[1]
    command = next(b for b in blocks("sh") if b.startswith("weightatlas weights")).strip()
    assert README.index(picture) < README.index(command) < README.index("## Two commands")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    drawn = Image.open(tmp_path / Path(picture).name).convert("RGB")
    kept = Image.open(ROOT / picture).convert("RGB")
    assert drawn.size == kept.size
    difference = np.abs(np.asarray(drawn, int) - np.asarray(kept, int)).mean()
    assert difference < 4  # other processors may round differently; another layer or theme differs by tens


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
    assert commands == ["make test"]
