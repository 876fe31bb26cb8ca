"""The matrix of tested models: what works with which network, tried, and written as a page of the documentation.

    .venv/bin/python benchmarks/matrix.py [-o docs/tested.md] [--only WORDS ...] [--json FILE]

Every network goes through

    load        opens it
    layers      lists its layers with units
    direct      the direct weights of every layer that has a kernel
    factorize   three factors of one layer's weights
    banding     the banding statistics of the whole network
    expand      expanded weights over three spans: neighbours, four layers apart, from the first layer to the middle
    visualize   one picture of a unit, recipe quick

A cell is `works`, `works` with what was noted, or what was refused, in the program's own sentence. Anything else, an
exception that is not weightatlas's own, is a crash, and the script ends with status 1. Rows of libraries that cannot be
imported are written as such.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import networks

import weightatlas as wa
from weightatlas.records import Layer

STAGES = ("load", "layers", "direct", "factorize", "banding", "expand", "visualize")
State = Literal["works", "notes", "refused", "crash", "not run"]


@dataclass(frozen=True)
class Cell:
    """What came of a stage.

    Args:
        state: how it went.
        words: a few words for the cell.
        more: sentences for under the table: notes, or why it was refused.
    """

    state: State
    words: str = ""
    more: tuple[str, ...] = ()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", help="networks whose names hold one of these words")
    asked = parser.parse_args()
    rows = [r for r in networks.ROWS if not asked.only or any(w.lower() in r.name.lower() for w in asked.only)]
    if not rows:
        parser.error(f"no network's name holds {' or '.join(asked.only)}; there are {[r.name for r in networks.ROWS]}")
    found: dict[str, dict[str, Cell]] = {}
    for row in rows:
        found[row.name] = tried(row)
        print(f"{row.name}: " + ", ".join(f"{k} {c.state}" for k, c in found[row.name].items()), file=sys.stderr)
    if asked.json:
        told = {name: {k: asdict(c) for k, c in cells.items()} for name, cells in found.items()}
        asked.json.write_text(json.dumps(told, indent=1))
    text = page(rows, found)
    if asked.output:
        asked.output.write_text(text)
    else:
        print(text)
    return int(any(c.state == "crash" for cells in found.values() for c in cells.values()))


def missing(row: networks.Row) -> str:
    """Why a row cannot be run here; empty if it can."""
    for package in row.needs:
        try:
            importlib.import_module(package)
        except ImportError:
            return f"{package} is not installed where this page was made"
        except Exception as error:  # noqa: BLE001 - a broken library may fail in any way
            return f"{package} does not load where this page was made ({type(error).__name__})"
    return ""


def tried(row: networks.Row) -> dict[str, Cell]:
    """All stages of one network; those after a failed opening are left out."""
    why = missing(row)
    if why:
        return {"load": Cell("not run", "not run", (why,))}
    cells: dict[str, Cell] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", wa.WeightAtlasWarning)
        opened: list[wa.Network] = []

        def load() -> Cell:
            opened.append(row.open(Path(folder)))
            return Cell("works", amount(opened[0].parameters), opened[0].notes)

        cells["load"] = attempt(load)
        if opened:
            net = opened[0]
            for name, stage in (
                ("layers", layers), ("direct", direct), ("factorize", factorized), ("banding", banded),
                ("expand", expanded), ("visualize", visualized),
            ):  # fmt: skip
                cells[name] = attempt(lambda stage=stage: stage(net))
    return cells


def amount(count: int) -> str:
    """A number of parameters in three digits at most."""
    return f"{count / 1e6:.2g}\u202fM" if count >= 1e5 else f"{count / 1e3:.2g}\u202fk"


def attempt(stage: Callable[[], Cell]) -> Cell:
    """A stage's cell, also where it is refused or crashes."""
    try:
        cell = stage()
        return Cell("notes", cell.words, cell.more) if cell.more and cell.state == "works" else cell
    except wa.WeightAtlasError as error:
        return Cell("refused", "", (sentence(error),))
    except Exception as error:  # noqa: BLE001 - what is looked for
        traceback.print_exc()
        return Cell("crash", type(error).__name__, (sentence(error),))


def sentence(error: BaseException) -> str:
    return " ".join(str(error).split())


def weighted(net: wa.Network) -> list[Layer]:
    """Layers with kernels, in order of execution, each module once."""
    return [layer for layer in net.layers.values() if layer.kernel is not None and "#" not in layer.name]


def layers(net: wa.Network) -> Cell:
    table = net.layers
    known = sum(layer.units > 0 for layer in table.values())
    more = () if known == len(table) else (f"layers whose axis of units could not be told: {len(table) - known}",)
    return Cell("works", f"{len(table)}", more)


def direct(net: wa.Network) -> Cell:
    refused: dict[str, str] = {}
    read = 0
    for layer in weighted(net):
        try:
            read += bool(wa.direct_weights(net, layer.name).values.size)
        except wa.WeightAtlasError as error:
            refused[layer.name] = sentence(error)
    words = f"{read}/{read + len(refused)}"
    if refused and not read:
        raise wa.WeightAtlasError(next(iter(refused.values())))
    return Cell("works", words, tuple(list(refused.values())[:1]))


def factorized(net: wa.Network) -> Cell:
    """Of the widest kernel with at least four source units, the layer in the middle."""
    wide = [la for la in weighted(net) if (la.input_channels or 0) // (la.groups or 1) >= 4]
    if not wide:
        raise wa.WeightAtlasError("no layer reads four units or more, so there is nothing to reduce to three")
    largest = max((la.kernel or (1, 1))[0] * (la.kernel or (1, 1))[1] for la in wide)
    of = [la for la in wide if (la.kernel or (1, 1))[0] * (la.kernel or (1, 1))[1] == largest]
    f = wa.factorize(wa.direct_weights(net, of[len(of) // 2].name), rank=3)
    return Cell("works", f"{100 * f.explained:.0f}\u202fof\u202f{100 * f.bound:.0f}")


def banded(net: wa.Network) -> Cell:
    rows = list(wa.banding(net, permutations=200))
    more = sorted({row.apart for row in rows if row.apart})
    return Cell("works", f"{len(rows)}", tuple(more))


def expanded(net: wa.Network) -> Cell:
    """Neighbours, four layers apart, and from the first layer to the middle."""
    chain = weighted(net)
    middle = len(chain) // 2
    spans = {(max(middle - n, 0), middle) for n in (1, 4)} | {(0, max(middle, 1))}
    replaced: set[str] = set()
    refused: list[str] = []
    for first, last in sorted(spans, key=lambda s: s[1] - s[0]):
        try:
            w = wa.expanded_weights(net, chain[first].name, chain[last].name, units=[0, 1])
        except wa.WeightAtlasError as error:
            refused.append(f"{chain[first].name} → {chain[last].name}: {sentence(error)}")
            continue
        replaced |= {f"on the way, {r.operator} is read as: {r.became.split(',')[0]}" for r in w.replaced}
    if len(refused) == len(spans):
        raise wa.WeightAtlasError(refused[0])
    words = f"{len(spans) - len(refused)}/{len(spans)}"
    return Cell("works", words, (*sorted(replaced), *refused))


def visualized(net: wa.Network) -> Cell:
    """The first unit of a layer in the middle that has a grid."""
    chain = weighted(net)
    v = wa.visualize(net, chain[len(chain) // 2].name, units=[0], recipe="quick")
    return Cell("works", "yes" if v.images.std() else "flat")


def versions() -> str:
    """The libraries that were there."""
    told = []
    for name in ("torch", "transformers", "timm", "torchvision", "onnx"):
        try:
            told.append(f"{name} {version(name).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return ", ".join(told)


MARKS: dict[State, str] = {"works": "", "notes": "", "refused": "refused", "crash": "CRASH", "not run": "not run"}


def page(rows: list[networks.Row], found: dict[str, dict[str, Cell]]) -> str:
    """The page, with every sentence once under the table."""
    notes: list[str] = []
    lines = [f"| network | {' | '.join(STAGES)} |", "|---" * (len(STAGES) + 1) + "|"]
    for row in rows:
        cells = found[row.name]
        written = [_cell(cells[s], notes) if s in cells else "–" for s in STAGES]
        lines.append(f"| {row.name}<br>{row.opened} | {' | '.join(written)} |")
    table = "\n".join(lines)
    under = "\n".join(f"{i}. {_plain(note)}" for i, note in enumerate(notes, 1))
    return HEAD.format(versions=versions()) + f"\n{table}\n\n## Notes\n\n{under}\n"


def _cell(cell: Cell, notes: list[str]) -> str:
    for sentence_ in cell.more:
        if sentence_ not in notes:
            notes.append(sentence_)
    numbers = " ".join(str(notes.index(s) + 1) for s in cell.more)
    return (MARKS[cell.state] or cell.words) + (f"<sup>{numbers}</sup>" if numbers else "")


def _plain(words: str) -> str:
    """A sentence as Markdown shows it, letter by letter."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|$" else c for c in words)


HEAD = """# Tested models

Every network here went through the same stages. What could not be done was refused with a sentence; small numbers lead
to it, or to what was noted. Anything else in a cell means that it works. Written by `benchmarks/matrix.py` with
{versions}; a test runs the same stages and compares.

load
: opens the network: its parameters

layers
: lists its layers: how many

direct
: the weights of each layer with a kernel: how many could be read, of how many

factorize
: one layer's weights in three factors: percent of the squared weights that they hold, of the most that any hold

banding
: the stripes of spatial kernels: how many layers have such

expand
: expanded weights over three spans (neighbours, four layers apart, from the first layer to the middle one; fewer in
  short networks): how many could be multiplied out

visualize
: one picture of a unit, by the recipe `quick`

Rows of timm and torchvision are run where these libraries can be imported. This page was made beside a build of torch
for which torchvision's compiled operators do not load; they were declared without code, and no network here calls them.
"""

if __name__ == "__main__":
    sys.exit(main())
