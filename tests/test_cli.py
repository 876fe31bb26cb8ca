"""The command line: what it prints, what it writes, and that every mistake is one line on stderr and status 2."""

import json
import re
import sys

import pytest
import torch
from rich.table import Table
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, commands, telling
from weightatlas.errors import ArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = "efficientnet_lite0"


@pytest.fixture(autouse=True)
def _load_once(lite0, monkeypatch):
    """The embedded network is opened once for all of these; files are opened as ever."""
    load = wa.load
    monkeypatch.setattr(wa, "load", lambda source: lite0 if source == MODEL else load(source))


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def fails(*words):
    """The one line on stderr of a command that must fail."""
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("weightatlas: ")
    return lines[0]


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "three.pt"
    names = ("a", "b", "c")
    torch.save({f"{n}.weight": torch.randn(6, 3 if n == "a" else 6, 3, 3) for n in names}, path)
    return path


class TestUnits:
    def test_what_is_meant(self):
        assert telling.parse_units("0-9") == list(range(10))
        assert telling.parse_units(" 3 , 17") == [3, 17]
        assert telling.parse_units("5,1-2,5-5") == [5, 1, 2, 5]
        assert telling.parse_units("99999") == [99999]

    @pytest.mark.parametrize(
        "text", ["5-2", "", "a", "1,", ",1", "-1", "1-", "1.5", "0-9-12", "٣", "1 2", "0x1", "9" * 5000]
    )
    def test_what_is_not(self, text):
        with pytest.raises(ArgumentError, match="0-9 or 3,17"):
            telling.parse_units(text)

    def test_a_range_without_end_does_not_fill_the_memory(self):
        with pytest.raises(ArgumentError, match="too many"):
            telling.parse_units("0-999999999")


class TestLayers:
    def test_table(self, lite0):
        done = run("layers", MODEL)
        assert (done.exit_code, done.stderr) == (0, "")
        title, header, *rows = done.stdout.splitlines()
        assert title.strip() == "efficientnet_lite0: 158 layers"
        assert header.split()[:5] == ["layer", "kind", "units", "inputs", "kernel"]
        assert [row.split()[0] for row in rows] == list(lite0.layers)
        stem = next(row for row in rows if row.split()[0] == "conv_stem")
        assert stem.split() == ["conv_stem", "conv", "32", "3", "3", "2", "112", "3", "px,", "stride", "2", "864"]

    def test_json(self, lite0):
        done = run("layers", MODEL, "--json")
        table = json.loads(done.stdout)
        assert table["model"] == MODEL
        assert [layer["name"] for layer in table["layers"]] == list(lite0.layers)
        wanted = {"name": "blocks.6.0.conv_dw", "units": 1152, "groups": 1152, "kernel": [3, 3], "grid": [7, 7]}
        assert any(wanted.items() <= layer.items() for layer in table["layers"])

    def test_of_a_file(self, checkpoint):
        torch.save({"state_dict": torch.load(checkpoint)}, checkpoint)
        done = run("layers", checkpoint)
        assert done.exit_code == 0
        assert "three.pt: 3 layers" in done.stdout
        notes = wa.load(checkpoint).layers.notes
        assert notes
        assert [line for line in done.stdout.splitlines() if line.startswith("note: ")] == [f"note: {n}" for n in notes]

    @pytest.mark.parametrize("columns", [30, 60, 80, 113, 200])
    def test_a_narrow_terminal_never_loses_the_names(self, lite0, columns, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        commands.layers(MODEL)
        rows = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines() if line.strip()]
        shown = [row.split()[0] for row in rows]
        assert set(lite0.layers) <= set(shown)
        assert "…" not in "".join(rows)
        if columns >= 60:
            assert max(len(row.rstrip()) for row in rows if not row.startswith("(")) <= columns
        assert any(row.startswith("(left out") and "--json" in row for row in rows) == (columns < 113)

    def test_names_with_markup_and_escapes_are_text(self, tmp_path):
        path = tmp_path / "[bold]x.pt"
        torch.save({"[red]a[/nope].weight": torch.randn(4, 3, 3, 3), "e\x1b[2J.weight": torch.randn(4, 4, 3, 3)}, path)
        for words in (["layers", path], ["banding", path], ["overview", path, "-o", tmp_path / "o"]):
            done = run(*words)
            assert done.exit_code == 0, done.output
            assert "\x1b" not in done.output
        assert "[red]a[/nope]" in run("layers", path).stdout
        assert "[bold]x.pt" in run("banding", path).stdout


class TestWeights:
    def test_svg_png_and_html(self, tmp_path, lite0):
        for name in ("w.svg", "w.png", "w.html"):
            done = run("weights", MODEL, "blocks.4.1", "--units", "0-3,9", "-o", tmp_path / name)
            assert (done.exit_code, done.stderr) == (0, "")
            assert f"wrote {tmp_path / name}" in done.stdout
            assert "3 factors (one-sided NMF) hold" in done.stdout
        drawn = wa.figure(lite0, "weights", "blocks.4.1", units=[0, 1, 2, 3, 9])
        assert (tmp_path / "w.svg").read_text(encoding="utf-8") == drawn.svg()
        assert (tmp_path / "w.png").read_bytes() == drawn.png()
        assert drawn.html() in (tmp_path / "w.html").read_text(encoding="utf-8")

    def test_options_reach_the_figure(self, tmp_path, lite0):
        out = tmp_path / "w.svg"
        done = run(*f"weights {MODEL} blocks.4.1 --rank 2 --method semi --per-unit --seed 4".split(), "-o", out)
        assert done.exit_code == 0
        same = wa.figure(lite0, "weights", "blocks.4.1", rank=2, method="semi", per_unit=True, seed=4)
        assert out.read_text(encoding="utf-8") == same.svg()
        assert "semi-NMF" in done.stdout
        run(
            *f"weights {MODEL} blocks.4.1.conv_dw --no-fold-norm --palette colorblind --dark --width 300".split(),
            "-o",
            out,
        )
        same = wa.figure(lite0, "weights", "blocks.4.1.conv_dw", fold_norm=False, palette="colorblind")
        assert out.read_text(encoding="utf-8") == same.svg(300, "dark")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("nosuchmodel conv_stem -o x.svg", "no model 'nosuchmodel'; there are: 'efficientnet_lite0'"),
            ("efficientnet_lite0 conv_stm -o x.svg", "no layer 'conv_stm' in efficientnet_lite0; nearest: 'conv_stem'"),
            ("efficientnet_lite0 bn1 -o x.svg", "'bn1' is a norm"),
            ("efficientnet_lite0 conv_stem -o x.pdf", "'x.pdf': figures are files ending in .svg, .png, .html"),
            ("efficientnet_lite0 conv_stem -o x", "'x': figures are files"),
            ("efficientnet_lite0 conv_stem --units 99999 -o x.svg", "no unit 99999; its 32 units are 0 … 31"),
            ("efficientnet_lite0 conv_stem --units 5-2 -o x.svg", "units '5-2' are not like 0-9 or 3,17"),
            ("efficientnet_lite0 conv_stem --rank 2 -o x.svg", "leave out rank"),
            ("efficientnet_lite0 blocks.4.1 --rank 0 -o x.svg", "rank 0"),
            ("efficientnet_lite0 blocks.4.1 --method best -o x.svg", "method='best'"),
            ("efficientnet_lite0 blocks.4.1 --palette jet -o x.svg", "palette='jet'"),
            ("efficientnet_lite0 conv_stem --width 10 -o x.svg", "width=10.0"),
            ("efficientnet_lite0 conv_stem -o /proc/none/x.svg", "could not write '/proc/none/x.svg'"),
            ("missing.pt conv_stem -o x.svg", "missing.pt"),
        ],
    )
    def test_mistakes(self, words, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert message in fails("weights", *words.split())
        assert not list(tmp_path.iterdir())

    def test_an_empty_unit_string(self, tmp_path):
        assert "units '' are not like" in fails("weights", MODEL, "conv_stem", "--units", "", "-o", tmp_path / "x.svg")

    def test_a_file_that_is_no_checkpoint(self, tmp_path):
        for name in ("a.pt", "a.pth", "a.safetensors"):
            (tmp_path / name).write_bytes(b"\x80\x04not a checkpoint\n" * 9)
            assert name in fails("weights", tmp_path / name, "x", "-o", tmp_path / "x.svg")

    def test_missing_arguments_are_usage_errors(self):
        done = run("weights", MODEL, "conv_stem")
        assert done.exit_code == 2
        assert "--output" in done.stderr


class TestBanding:
    def test_prints_the_table(self, lite0):
        done = run("banding", MODEL)
        assert (done.exit_code, done.stderr) == (0, "")
        banded = [line for line in done.stdout.splitlines() if line.endswith("banded") or " banded " in line]
        row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["blocks.6.0.conv_dw"])
        assert row.split()[1:4] == ["0.587", "0.324", "0.250"]
        assert row in banded
        assert "conv_stem is listed apart: sees pixels" in done.stdout
        assert len([line for line in done.stdout.splitlines() if "conv_dw" in line and "│" in line]) == 16

    def test_json_and_figure(self, lite0, tmp_path):
        out = tmp_path / "b.svg"
        words = [
            "banding",
            MODEL,
            "--json",
            "--permutations",
            "60",
            "--seed",
            "2",
            "-o",
            out,
            "--palette",
            "colorblind",
        ]
        rows = json.loads(run(*words).stdout)
        found = wa.banding(lite0, permutations=60, seed=2)
        assert rows == json.loads(json.dumps(found.to_dicts()))
        assert out.read_text(encoding="utf-8") == wa.figures.banding_plot(found, palette="colorblind").svg()

    def test_json_has_no_nan(self, tmp_path):
        path = tmp_path / "nan.pt"
        bad = torch.randn(4, 4, 3, 3)
        bad[0, 0, 0, 0] = float("nan")
        torch.save({"a.weight": torch.randn(4, 3, 3, 3), "b.weight": bad, "c.weight": torch.zeros(4, 4, 3, 3)}, path)
        text = run("banding", path, "--json").stdout
        rows = json.loads(text, parse_constant=lambda word: pytest.fail(word))
        assert [row["row_share"] is None for row in rows] == [False, True, True]
        assert rows[1]["interval"] == [None, None]
        assert run("banding", path).exit_code == 0

    def test_mistakes(self, tmp_path):
        assert "figures are files" in fails("banding", MODEL, "-o", tmp_path / "x.txt")
        assert "permutations=0" in fails("banding", MODEL, "--permutations", "0")
        flat = tmp_path / "flat.pt"
        torch.save({"a.weight": torch.randn(4, 3)}, flat)
        assert "no kernel larger than 1" in fails("banding", flat)
        done = run("banding", MODEL, "-o", tmp_path / "x.svg", "--palette", "jet")
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)

    def test_the_bar(self):
        assert commands.share_bar(0, 0.5) == "·" * 12 + "│" + "·" * 11
        assert commands.share_bar(1, 1) == "█" * 23 + "│"
        assert commands.share_bar(float("nan"), 0.25).count("█") == 0


class TestOverview:
    def test_writes_the_folder(self, checkpoint, tmp_path):
        done = run("overview", checkpoint, "-o", tmp_path / "out", "--layer", "b", "--layer", "c", "--seed", "1")
        assert done.exit_code == 0, done.output
        assert done.stdout == f"open {tmp_path / 'out' / 'index.html'}\n"
        steps = ["layers", "banding", "weights of b", "weights of c", "expanded weights", "page"]
        assert [line.strip() for line in done.stderr.splitlines()] == steps
        assert (tmp_path / "out" / "weights-c.png").exists()
        assert not (tmp_path / "out" / "weights-a.png").exists()

    def test_pictures_are_counted_by_the_bar(self, tmp_path, monkeypatch):
        from contextlib import contextmanager

        heard = []

        @contextmanager
        def bar(what):
            yield lambda done, total: heard.append((done, total))

        def overview(net, output, *, pictures, **more):
            pictures(0.5, 3)
            return output / "index.html"

        monkeypatch.setattr(commands, "bar", bar)
        monkeypatch.setattr(wa, "overview", overview)
        assert run("overview", MODEL, "-o", tmp_path / "o").exit_code == 0
        assert heard == [(0.5, 3)]

    def test_mistakes(self, checkpoint, tmp_path):
        assert "is a file; an overview needs a folder" in fails("overview", checkpoint, "-o", checkpoint)
        done = run("overview", checkpoint, "-o", tmp_path / "o", "--layer", "z")
        assert done.exit_code == 2
        assert "no layer 'z'" in done.stderr.splitlines()[-1]


def test_version_and_help():
    assert run("--version").stdout.strip() == wa.__version__
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("layers", "weights", "banding", "overview", "graph", "expand", "render"):
        assert command in shown.stdout
        assert run(command, "--help").exit_code == 0
    assert run("nonsense").exit_code == 2


def test_warnings_are_a_line_each(monkeypatch, tmp_path, lite0):
    import warnings

    def load(source):
        warnings.warn(wa.WeightAtlasWarning("two\nlines"), stacklevel=2)
        return lite0

    monkeypatch.setattr(wa, "load", load)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = run("weights", MODEL, "conv_stem", "-o", tmp_path / "x.svg")
    assert (done.exit_code, done.stderr) == (0, "warning: two lines\n")


def test_tables_keep_their_columns_when_nothing_is_narrow(capsys):
    table = Table(box=None)
    for name in ("a", "b"):
        table.add_column(name, no_wrap=True)
    table.add_row("x" * 300, "y")
    telling.print_table(table, ("b",))
    assert "x" * 300 + "  y" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("graph", MODEL, "--dark"), "--dark would"),
        (("banding", MODEL, "--width", 720, "--palette", "classic"), "--palette and --width would"),
        (("expand", MODEL, "--from", "blocks.3.2", "--to", "blocks.4.1", "--save", "w.npz", "--dark"), "--dark would"),
    ],
)
def test_options_of_a_drawing_are_refused_where_none_is_made(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = fails(*words)
    assert f"{told} change a drawing, and none is made; give its file with -o" in line
    assert list(tmp_path.iterdir()) == []
