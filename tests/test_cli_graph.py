"""The command ``graph``: the table, the JSON, the drawing, and every mistake as one line."""

import json
import re
import sys

import pytest
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, graphs
from weightatlas.records import GraphNode, LayerGraph

MODEL = "efficientnet_lite0"


def tiny(**more):
    nodes = [
        GraphNode("input", kind="input", units=3, grid=(8, 8)),
        GraphNode("conv1", kind="conv", type="Conv2d", units=4, grid=(8, 6)),
        GraphNode("block", ("body", "body.0"), "block", "Block", 4, (8, 8), ("add",)),
        GraphNode("side", kind="conv", type="Conv2d", units=5, grid=(8, 8)),
        GraphNode("head", kind="linear", type="Linear", units=10, operators=("mean", "flatten")),
    ]
    edges = [("input", "conv1"), ("conv1", "block"), ("input", "block"), ("input", "side"), ("block", "head")]
    return LayerGraph(nodes, edges, **({"model": "tiny", "notes": ("a note",)} | more))


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch):
    """No network is opened: its graph is the one above."""
    monkeypatch.setattr(wa, "load", lambda model: model)
    monkeypatch.setattr(wa, "layer_graph", lambda net: tiny(), raising=False)


def run(*words):
    return CliRunner().invoke(app, ["graph", MODEL, *map(str, words)])


def fails(*words):
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("weightatlas: ")
    return done.stderr


class TestTable:
    def test_rows_in_order_of_execution(self):
        done = run()
        assert (done.exit_code, done.stderr) == (0, "")
        assert [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()] == [
            ["tiny: 5 nodes, 5 edges"],
            ["layer", "kind", "units", "grid", "operators", "reads", "same as"],
            ["input", "input", "3", "8×8"],
            ["conv1", "conv", "4", "8×6", "input"],
            ["block", "block", "4", "8×8", "add", "conv1, input", "body, body.0"],
            ["side", "conv", "5", "8×8", "input"],
            ["head", "linear", "10", "mean, flatten", "block"],
            ["note: a note"],
        ]

    def test_only_a_part(self):
        done = run("--from", "conv1", "--to", "head")
        assert [line.split()[0] for line in done.stdout.splitlines()[2:5]] == ["conv1", "block", "head"]
        assert "note: outside this part, block also reads input" in done.stdout
        assert run("--to", "body").stdout.splitlines()[0].strip() == "tiny: 3 nodes, 3 edges"
        assert run("--from", "side").stdout.splitlines()[0].strip() == "tiny: 1 nodes, 0 edges"

    def test_many_that_are_read_are_counted(self, monkeypatch):
        nodes = [GraphNode(f"n{i}") for i in range(7)]
        whole = LayerGraph(nodes, [(f"n{i}", "n6") for i in range(6)])
        monkeypatch.setattr(wa, "layer_graph", lambda net: whole)
        done = run()
        assert "network: 7 nodes, 6 edges" in done.stdout
        assert done.stdout.splitlines()[-1].split() == ["n6", "n0,", "n1,", "n2,", "n3", "and", "2", "more"]
        assert done.stdout.splitlines()[1].split() == ["layer", "reads"]

    @pytest.mark.parametrize("columns", [20, 40, 60, 120])
    def test_a_narrow_terminal_never_loses_names_and_readers(self, columns, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        graphs.graph(Context(get_command(app)), MODEL)
        text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[1:7]]
        assert [row[0] for row in rows] == ["layer", "input", "conv1", "block", "side", "head"]
        assert "conv1, input" in rows[3]
        assert ("(left out" in text) == (columns < 80)
        assert "…" not in text

    def test_names_with_markup_and_escapes_are_text(self, monkeypatch, tmp_path):
        name = "[red]a[/nope]\x1b[2J"
        whole = LayerGraph([GraphNode("input"), GraphNode(name, (name * 2,), name)], [("input", name)], name, (name,))
        monkeypatch.setattr(wa, "layer_graph", lambda net: whole)
        done = run("-o", tmp_path / "x.svg")
        assert done.exit_code == 0
        assert "\x1b" not in done.output
        assert "[red]a[/nope]" in done.stdout


class TestJson:
    def test_is_the_graph(self):
        assert LayerGraph.from_json(run("--json").stdout).to_json() == tiny().to_json()

    def test_of_a_part(self):
        part = json.loads(run("--json", "--from", "conv1", "--to", "head").stdout)
        assert [n["name"] for n in part["nodes"]] == ["conv1", "block", "head"]
        assert part["edges"] == [["conv1", "block"], ["block", "head"]]

    def test_stays_alone_on_stdout(self, tmp_path):
        done = run("--json", "-o", tmp_path / "g.svg")
        assert json.loads(done.stdout)["model"] == "tiny"
        assert (tmp_path / "g.svg").exists()


class TestDrawing:
    def test_files(self, tmp_path):
        drawn = wa.figures.graph_figure(tiny())
        for words in (["--svg", tmp_path / "a.svg"], ["-o", tmp_path / "b.svg"]):
            done = run(*words)
            assert f"wrote {words[1]}" in done.stdout
            assert drawn.caption in done.stdout
            assert words[1].read_text(encoding="utf-8") == drawn.svg()
        run("-o", tmp_path / "c.png", "--width", "300", "--dark")
        assert (tmp_path / "c.png").read_bytes() == drawn.png(width=300, theme="dark")
        run("-o", tmp_path / "d.html", "--svg", tmp_path / "e.svg")
        assert drawn.html() in (tmp_path / "d.html").read_text(encoding="utf-8")
        assert (tmp_path / "e.svg").exists()

    def test_of_a_part(self, tmp_path):
        run("--from", "conv1", "--to", "body", "-o", tmp_path / "a.svg")
        drawn = wa.figures.graph_figure(tiny(), "conv1", "body")
        assert (tmp_path / "a.svg").read_text(encoding="utf-8") == drawn.svg()


class TestMistakes:
    def test_endings_are_refused_before_anything_is_opened(self, monkeypatch, tmp_path):
        monkeypatch.setattr(wa, "load", lambda model: pytest.fail("opened"))
        assert "'g.pdf': figures are files ending in .svg, .png, .html" in fails("-o", tmp_path / "g.pdf")
        assert "'g.png' does not end in .svg; -o writes" in fails("--svg", tmp_path / "g.png")
        assert not list(tmp_path.iterdir())

    def test_names_and_ways(self):
        assert "no layer 'conv' in the graph of tiny; nearest: 'conv1'" in fails("--from", "conv")
        assert "no path leads from 'side' to 'head' in tiny" in fails("--from", "side", "--to", "head")
        assert "the other way round there is one" in fails("--from", "head", "--to", "input")

    def test_what_cannot_be_written(self):
        assert "could not write" in run("-o", "/proc/none/x.svg").stderr


@pytest.mark.slow
def test_the_embedded_network(lite0, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(wa, "load", lambda model: lite0)
    done = run("--from", "blocks.4.0", "--to", "blocks.4.2")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert re.search(r"add +blocks\.4\.0\.bn3, blocks\.4\.1\.bn3", rows["blocks.4.1"])
    whole = LayerGraph.from_json(run("--json").stdout)
    assert {name for node in whole.nodes for name in (node.name, *node.also)} == {"input", *lite0.layers}
