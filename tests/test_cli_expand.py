"""The command ``expand``: what it asks for, what it prints of hand-made results, what it writes and refuses."""

import dataclasses
import re
import sys

import numpy as np
import pytest
from planted import weights
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app, expanding, telling
from weightatlas.errors import ArgumentError
from weightatlas.records import Paths, Provenance, Replaced, Weights

ENDS = ("net", "--from", "early", "--to", "late")
REPLACED = (
    *(Replaced("ReLU6", f"act{i}", f"expected derivative, mean 0.{i}1", "batch norm") for i in range(3)),
    Replaced("MaxPool2d", "pool", "average"),
)
NOTES = ("3 ReLU6 read by their expected derivative (batch norm)", "the map is something")


def made(o=9, i=5, h=3, w=4, **more):
    fields = dict(
        o=o,
        i=i,
        h=h,
        w=w,
        source="early",
        target="late",
        origin=(-1.0, -2.0),
        replaced=REPLACED,
        provenance=Provenance("net", "ab" * 32, "1.0", NOTES),
    )
    return weights(**(fields | more))


def paths(o=3, m=4, i=5):
    """Two 1 × 1 steps, and half of what goes through them once more around them."""
    rng = np.random.default_rng(0)
    outer, inner = (rng.normal(size=(*s, 1, 1)).astype(np.float32) for s in ((o, m), (m, i)))
    through = np.einsum("omyx,miyx->oiyx", outer, inner)
    return Paths(
        source="early",
        middle="mid",
        target="late",
        units=np.arange(o),
        total=1.5 * through,
        through=through,
        absolute=np.einsum("omyx,miyx->oiyx", np.abs(outer), np.abs(inner)),
        outer=outer,
        inner=inner,
        target_units=o,
        middle_units=m,
        source_units=i,
        replaced=REPLACED,
        provenance=Provenance("net", "ab" * 32, "1.0", NOTES),
    )


@pytest.fixture
def asked(monkeypatch):
    """What the command asked for; hand-made results come back, and no network is opened."""
    seen = {}

    def expanded(net, source, target, **more):
        seen.update(net=net, source=source, target=target, **more)
        more["progress"](1, 2)
        found = made()
        return found if more["units"] is None else found.select(more["units"])

    def expanded_paths(net, source, middle, target, **more):
        seen.update(net=net, source=source, middle=middle, target=target, **more)
        more["progress"](1, 2)
        return paths()

    monkeypatch.setattr(wa, "load", lambda model: f"opened {model}")
    monkeypatch.setattr(wa, "expanded_weights", expanded, raising=False)
    monkeypatch.setattr(wa, "expanded_paths", expanded_paths, raising=False)
    return seen


@pytest.fixture
def closed(monkeypatch):
    """Nothing may be opened."""
    monkeypatch.setattr(wa, "load", lambda model: pytest.fail("opened"))


def run(*words):
    return CliRunner().invoke(app, ["expand", *map(str, words)])


def good(*words):
    done = run(*ENDS, *words)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    return done.stdout


def fails(*words):
    done = run(*ENDS, *words)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def table(text, layer="late"):
    """The rows under the headings, cell by cell."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[1:]]
    return rows[0], [row for row in rows[1:] if row[0].startswith(f"{layer}:")]


class TestAsking:
    def test_what_is_asked_for_by_default(self, asked):
        good()
        del asked["progress"]
        assert asked == dict(
            net="opened net", source="early", target="late", units=None, gate="expected", skip="include", at=None
        )

    def test_every_option_arrives(self, asked):
        good("--units", "3,5-6", "--gate", "0.5", "--skip", "exclude", "--at", "2, 7")
        assert (asked["units"], asked["gate"], asked["skip"], asked["at"]) == ([3, 5, 6], 0.5, "exclude", (2, 7))
        good("--gate", "batchnorm")
        assert asked["gate"] == "batchnorm"

    def test_through_a_layer(self, asked):
        good("--through", "mid", "--units", "0-2", "--gate", "identity")
        del asked["progress"]
        assert asked == dict(
            net="opened net", source="early", middle="mid", target="late", units=[0, 1, 2], gate="identity"
        )

    def test_gates_and_positions(self):
        assert expanding.parse_gate("1e-1") == 0.1
        assert expanding.parse_gate("expected") == "expected"
        for wrong in ("nan", "inf", "-inf"):
            with pytest.raises(ArgumentError, match="no finite number"):
                expanding.parse_gate(wrong)
        assert expanding.parse_position(None) is None
        assert expanding.parse_position("0,12") == (0, 12)
        for wrong in ("", "3", "3,", "-1,2", "1,2,3", "a,b", "1.5,2", "1;2", "9" * 50 + ",1"):
            with pytest.raises(ArgumentError, match="not like 3,10"):
                expanding.parse_position(wrong)


class TestTable:
    def test_strongest_of_all_units_together(self, asked):
        text = good()
        assert text.splitlines()[0].strip() == "Weights(early → late: [O=9, I=5, H=3, W=4], replaced=4)"
        head, rows = table(text)
        assert head == ["target", "source", "L2", "sum", "offset (y, x)"]
        values = made().values.astype(np.float64)
        strength = np.sqrt((values**2).sum((2, 3)))
        order = np.dstack(np.unravel_index(np.argsort(-strength, axis=None), strength.shape))[0][:10]
        for row, (o, i) in zip(rows, order, strict=True):
            y, x = np.unravel_index(np.abs(values[o, i]).argmax(), (3, 4))
            place = ", ".join(f"{v:+d}" if v else "0" for v in (y - 1, x - 2))
            assert row == [f"late:{o}", f"early:{i}", f"{strength[o, i]:.3g}", f"{values[o, i].sum():.3g}", place]

    @pytest.mark.parametrize(("by", "part"), [("excite", np.maximum), ("inhibit", lambda v, z: np.maximum(-v, z))])
    def test_by_other_strengths_and_counts(self, asked, by, part):
        head, rows = table(good("--by", by, "--top", "4", "--units", "2,7"))
        assert head[2] == by
        strength = np.sqrt((part(made().values[[2, 7]].astype(float), 0) ** 2).sum((2, 3)))
        assert [row[2] for row in rows] == [f"{v:.3g}" for v in np.sort(strength, axis=None)[::-1][:4]]
        assert {row[0] for row in rows} <= {"late:2", "late:7"}

    def test_more_than_there_are(self, asked):
        assert len(table(good("--top", "1000"))[1]) == 45

    def test_positions_on_the_grid_where_the_map_is_of_one(self, asked, monkeypatch):
        values = np.zeros((1, 1, 3, 4), np.float32)
        values[0, 0, 2, 1] = -3
        found = made(o=1, i=1, values=values, at=(5, 6), stride=(2, 1), origin=(-10.0, -6.0))
        monkeypatch.setattr(wa, "expanded_weights", lambda *a, **k: found)
        head, rows = table(good())
        assert head[-1] == "position (y, x)"
        assert rows == [["late:0", "early:0", "3", "-3", "2, 1"]]  # t · stride + origin + (2, 1)

    def test_places_in_steps_of_the_kernel(self, asked, monkeypatch):
        values = np.zeros((1, 1, 3, 4), np.float32)
        values[0, 0, 1, 3] = 0.25
        found = made(o=1, i=1, values=values, dilation=(2, 0.5), origin=(-2.0, -0.5))
        monkeypatch.setattr(wa, "expanded_weights", lambda *a, **k: found)
        assert table(good())[1] == [["late:0", "early:0", "0.25", "0.25", "0, +1"]]

    def test_nothing_to_list(self, asked, monkeypatch):
        monkeypatch.setattr(wa, "expanded_weights", lambda *a, **k: made(values=np.zeros((9, 5, 3, 4), np.float32)))
        assert "no unit of late has any such connection" in good()

    def test_paths_tell_what_cancels(self, asked):
        text = good("--through", "mid")
        assert text.splitlines()[0].strip() == "Paths(early → mid → late: [O=3, M=4, I=5, H=1, W=1])"
        head, rows = table(text)
        assert head == ["target", "source", "L2", "sum", "offset (y, x)", "|Σ|", "Σ|·|", "cancels", "bypass"]
        found = paths()
        assert len(rows) == 10
        for row in rows:
            o, i = (int(cell.rpartition(":")[2]) for cell in row[:2])
            steps = found.outer[o, :, 0, 0].astype(float) * found.inner[:, i, 0, 0]  # one path a middle unit
            net, absolute = abs(steps.sum()), np.abs(steps).sum()
            expected = [1.5 * net, 1.5 * steps.sum(), net, absolute]
            assert [float(cell) for cell in (*row[2:4], *row[5:7])] == pytest.approx(expected, rel=0.01)
            assert row[7] == f"{1 - net / absolute:.0%}"
            assert row[8] == "33%"  # half as much goes around the middle as through it

    @pytest.mark.parametrize("columns", [20, 50, 200])
    def test_a_narrow_terminal_never_loses_the_units(self, asked, columns, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        expanding.expand(Context(get_command(app)), "net", "early", "late", through="mid")
        text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        _, rows = table(text)
        assert all(re.fullmatch(r"early:\d", row[1]) and len(row) >= 3 for row in rows)
        assert ("(left out" in text) == (columns < 200)
        assert "…" not in text


class TestWords:
    def test_what_was_read_as_what_is_said_once(self, asked):
        lines = good().splitlines()
        assert lines[-2:] == [f"note: {note}" for note in NOTES]

    def test_notes_without_anything_replaced(self, asked, monkeypatch):
        found = made(replaced=(), provenance=Provenance("net", notes=("one", "two\x1b[2J\nlines")))
        monkeypatch.setattr(wa, "expanded_weights", lambda *a, **k: found)
        assert good().splitlines()[-2:] == ["note: one", "note: two\\x1b[2J lines"]

    def test_names_with_markup_are_text(self, asked, monkeypatch):
        odd = dataclasses.replace(made(), source="[red]a[/nope]", target="e\x1b[2J")
        monkeypatch.setattr(wa, "expanded_weights", lambda *a, **k: odd)
        done = run(*ENDS)
        assert done.exit_code == 0
        assert "[red]a[/nope]:3" in done.stdout
        assert "\x1b" not in done.stdout


class TestFiles:
    def test_figure_of_connections(self, asked, tmp_path):
        text = good("-o", tmp_path / "a.svg")
        drawn = wa.figures.connections(made())
        assert (tmp_path / "a.svg").read_text(encoding="utf-8") == drawn.svg()
        assert drawn.data["units"].tolist() == list(range(6))
        assert f"wrote {tmp_path / 'a.svg'}" in text
        words = [
            "--units",
            "3,8",
            "--top",
            "2",
            "--by",
            "excite",
            "--palette",
            "colorblind",
            "--width",
            "400",
            "--dark",
        ]
        good("-o", tmp_path / "b.png", *words)
        drawn = wa.figures.connections(made(), units=[3, 8], k=2, by="excite", palette="colorblind")
        assert (tmp_path / "b.png").read_bytes() == drawn.png(width=400, theme="dark")

    def test_the_numbers_are_there_even_if_the_figure_cannot_be_drawn(self, asked, tmp_path):
        done = run(*ENDS, "--save", tmp_path / "w.npz", "-o", tmp_path / "w.svg", "--width", "10")
        assert done.exit_code == 2
        assert "width=10" in done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]

    def test_figure_of_paths(self, asked, tmp_path):
        good("--through", "mid", "--top", "3", "-o", tmp_path / "p.html", "--palette", "colorblind")
        drawn = wa.figures.pathways(paths(), k=3, palette="colorblind")
        assert drawn.html() in (tmp_path / "p.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    def test_the_numbers(self, asked, tmp_path, suffix):
        text = good("--save", tmp_path / f"w{suffix}")
        assert f"wrote {tmp_path / f'w{suffix}'}" in text
        assert np.array_equal(Weights.load(tmp_path / f"w{suffix}").values, made().values)
        good("--through", "mid", "--save", tmp_path / f"p{suffix}")
        assert np.array_equal(Paths.load(tmp_path / f"p{suffix}").absolute, paths().absolute)


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("-o x.pdf", "'x.pdf': figures are files ending in .svg, .png, .html"),
            ("--save x.json", "'x.json': numbers are saved in files ending in .npz or .safetensors"),
            ("--save x", "'x': numbers are saved"),
            ("--top 0", "--top 0 is less than 1"),
            ("--by l1", "--by 'l1' is none of l2, excite, inhibit"),
            ("--palette jet", "--palette 'jet' is none of classic, colorblind"),
            ("--skip maybe", "--skip 'maybe' is none of include, exclude"),
            ("--gate nan", "gate 'nan' is no finite number"),
            ("--at 3", "position '3' is not like 3,10 (y, x)"),
            ("--units 5-2", "units '5-2' are not like 0-9 or 3,17"),
            ("--through mid --at 1,2", "--skip and --at do not go with --through"),
            ("--through mid --skip include", "--skip and --at do not go with --through"),
        ],
    )
    def test_are_one_line_before_anything_is_opened(self, words, message, closed, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert message in fails(*words.split())
        assert not list(tmp_path.iterdir())

    def test_of_the_computation_too(self, asked, monkeypatch):
        def refuse(*names, **more):
            raise ArgumentError("'late' comes after 'early'")

        monkeypatch.setattr(wa, "expanded_weights", refuse)
        assert fails() == "weightatlas: 'late' comes after 'early'\n"

    def test_both_ends_are_needed(self):
        done = run("net", "--from", "early")
        assert done.exit_code == 2
        assert "--to" in done.stderr


class TestProgress:
    def test_is_silent_without_a_terminal(self, asked):
        done = run(*ENDS)
        assert done.stderr == ""

    def test_is_one_line_that_goes_away(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with telling.progress("a\x1b → b") as tell:
            tell(3, 8)
            tell(8, 8)
        assert capsys.readouterr().err == ("\r\x1b[Ka\\x1b → b: 3 of 8\r\x1b[Ka\\x1b → b: 8 of 8\r\x1b[K")

    def test_goes_away_before_an_error(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

        def stop():
            with telling.progress("x") as tell:
                tell(1, 2)
                raise ArgumentError("stop")

        with pytest.raises(ArgumentError):
            stop()
        assert capsys.readouterr().err.endswith("\r\x1b[K")


def strongest_cancels(kept):
    """How much cancels between the units that are connected most strongly."""
    strength = np.square(kept.total, dtype=np.float64).sum((2, 3))
    o, i = np.unravel_index(strength.argmax(), strength.shape)
    return 1 - np.abs(kept.through[o, i]).sum(dtype=np.float64) / kept.absolute[o, i].sum(dtype=np.float64)


@pytest.mark.slow
def test_the_embedded_network(lite0, monkeypatch, tmp_path):
    monkeypatch.setattr(wa, "load", lambda model: lite0)
    words = ("net", "--from", "blocks.3.2", "--to", "blocks.4.1", "--units", "3,17", "--gate", "identity")
    done = run(*words, "-o", tmp_path / "w.svg", "--save", tmp_path / "w.npz")
    assert (done.exit_code, done.stderr) == (0, "")
    found = wa.expanded_weights(lite0, "blocks.3.2", "blocks.4.1", units=[3, 17], gate="identity")
    assert np.allclose(Weights.load(tmp_path / "w.npz").values, found.values)
    assert done.stdout.count("4 ReLU6 read as the identity") == 2  # a note, and the figure's caption
    assert (tmp_path / "w.svg").exists()
    words = [*words[:5], "--through", "blocks.4.0", "--units", "3", "--top", "3"]
    done = run(*words, "-o", tmp_path / "p.svg", "--save", tmp_path / "p.npz")
    assert (done.exit_code, done.stderr) == (0, "")
    kept = Paths.load(tmp_path / "p.npz")
    assert table(done.stdout, "blocks.4.1")[1][0][7] == f"{strongest_cancels(kept):.0%}"
