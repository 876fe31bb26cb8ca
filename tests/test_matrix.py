"""The matrix of tested models: no network crashes any stage, and the page says of each what comes of it here."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import matrix  # noqa: E402
import networks  # noqa: E402

PAGE = ROOT / "docs" / "tested.md"


def cell(text):
    """How a stage went, and its words."""
    text = re.sub("<sup>.*", "", text)
    state = next((word for word in ("refused", "CRASH", "not run") if text.startswith(word)), "works")
    return state, "" if text == state else text


def written():
    """The page's rows: network → stage → its cell."""
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in PAGE.read_text().splitlines() if line[:1] == "|"
    ]
    assert rows[0] == ["network", *matrix.STAGES]
    return {row[0].split("<br>")[0]: dict(zip(matrix.STAGES, map(cell, row[1:]), strict=True)) for row in rows[2:]}


def of_the_same_versions(row):
    """Whether the page was made with the libraries of a row as they are here: others may have other layers."""
    return all(f"{name} {version(name).split('+')[0]}" in " ".join(PAGE.read_text().split()) for name in row.needs)


def test_the_page_has_a_row_for_every_network():
    assert list(written()) == [row.name for row in networks.ROWS]
    assert "CRASH" not in PAGE.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "short_recipes")
@pytest.mark.parametrize("row", networks.ROWS, ids=lambda row: row.name)
def test_every_stage_works_or_refuses_with_a_sentence(row):
    why = matrix.missing(row)
    if why:
        pytest.skip(why)
    cells = matrix.tried(row)
    for stage, cell in cells.items():
        assert cell.state != "crash", (stage, cell.more)
        for words in cell.more:
            assert len(words.split()) > 4, words  # nothing but a name tells nobody what to do
        if cell.state == "refused":
            assert re.search(r"[;:.,]", cell.more[0]), cell.more
    page = written()[row.name]
    for stage, cell in cells.items():
        assert (matrix.MARKS[cell.state] or "works") == page[stage][0], stage
        if cell.words and stage != "factorize" and of_the_same_versions(row):  # percents depend on the processor
            assert cell.words == page[stage][1], stage


class TestTheScriptItself:
    def test_words_that_no_network_has_are_no_success(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["matrix.py", "--only", "zzz"])
        with pytest.raises(SystemExit, match="2"):
            matrix.main()
        assert "no network's name holds zzz" in capsys.readouterr().err

    def test_a_crash_is_told_as_one(self, capsys):
        def fails():
            raise KeyError("lost")

        assert matrix.attempt(fails).state == "crash"
        assert "KeyError" in capsys.readouterr().err

    def test_what_a_page_would_read_as_markup_is_shown_as_it_is(self):
        cell = matrix.Cell("refused", "", ("no layer 'a_b' *here*",))
        row = networks.Row("one", "module", lambda folder: None)
        text = matrix.page([row], {"one": {"load": cell}})
        assert "| one<br>module | refused<sup>1</sup> | – |" in text
        assert r"1. no layer 'a\_b' \*here\*" in text

    def test_rows_whose_library_is_missing_say_so(self):
        row = networks.Row("other", "by name", lambda folder: None, ("no_such_library",))
        assert matrix.tried(row)["load"].more == ("no_such_library is not installed where this page was made",)
