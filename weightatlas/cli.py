"""The command line: ``weightatlas layers | weights | banding | overview``."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import weightatlas as wa

from .errors import ArgumentError, WeightAtlasError

app = typer.Typer(
    help="Read the weights of trained neural networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
FAILED = 2
WIDE = 10_000  # characters
#: Columns that a narrow terminal goes without, in this order.
SPARED_LAYERS = ("groups", "inputs", "parameters", "stride", "receptive field", "kernel", "grid")
SPARED_SHARES = ("row share by depth: █ rows, │ chance", "95% of permutations", "chance")
MOST_UNITS = 10_000  # drawn at once
BAR = 24  # characters of a share drawn in the terminal

Model = Annotated[str, typer.Argument(help="efficientnet_lite0, or a .safetensors, .pth or .pt file", metavar="MODEL")]
Out = Annotated[Path | None, typer.Option("-o", "--output", help="file ending in .svg, .png or .html")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Width = Annotated[float, typer.Option(help="of the figure in pixels")]
Dark = Annotated[bool, typer.Option("--dark", help="dark ground")]
WIDTH = 720.0


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours as one line on stderr and exit status 2; warnings as a line each."""

    def show(message: Any, *rest: Any, **more: Any) -> None:
        print(f"warning: {_line(message)}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    except WeightAtlasError as error:
        print(f"weightatlas: {_line(error)}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    finally:
        warnings.showwarning = before


def _line(words: object) -> str:
    """Words as one line that a terminal can only show, whatever names they hold."""
    return " ".join(wa.figures.visible(str(words)).split())


def _version(asked: bool) -> None:
    if asked:
        print(wa.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Read the weights of trained neural networks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter shows a stand-in
            stream.reconfigure(errors="replace")


def parse_units(text: str) -> list[int]:
    """Unit numbers from ``0-9``, ``3,17`` or both.

    Raises:
        ArgumentError: for anything else.

    Example:
        >>> parse_units("0-3,17")
        [0, 1, 2, 3, 17]
    """
    units: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise ArgumentError(f"units {text!r} are not like 0-9 or 3,17 (first to last, both included)")
        if last - first >= MOST_UNITS:
            raise ArgumentError(f"units {text!r} are more than {MOST_UNITS:,}, too many to draw")
        units += range(first, last + 1)
    return units


@app.command()
def layers(model: Model, as_json: Annotated[bool, typer.Option("--json", help="all facts as JSON")] = False) -> None:
    """List the layers of a network: units, kernels, grids, receptive fields."""
    with _told():
        table = wa.load(model).layers
        if as_json:
            print(table.to_json())
            return
        title = Text(_line(f"{table.model}: {len(table)} layers"))
        shown = Table(title=title, title_justify="left", box=None, header_style="dim")
        for i, name in enumerate(wa.figures.HEADERS):
            shown.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
        for layer in table.values():
            shown.add_row(*(Text(_line(cell)) for cell in wa.figures.cells(layer)))
        _print_table(shown, SPARED_LAYERS)
        for note in table.notes:
            print(f"note: {_line(note)}")


def _print_table(table: Table, spare: tuple[str, ...]) -> None:
    """A table whose cells are never cut: in a narrow terminal it goes without the columns that can be spared."""
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    left_out = []
    unbounded = console.options.update(width=WIDE)
    while Measurement.get(console, unbounded, table).maximum > console.width and len(left_out) < len(spare):
        left_out.append(spare[len(left_out)])
        table.columns[:] = [column for column in table.columns if column.header != left_out[-1]]
    widest = Measurement.get(console, unbounded, table).maximum
    console.width = max(console.width, widest)
    console.print(table)
    if left_out:
        print(f"(left out for want of room: {', '.join(left_out)}; --json has everything)")


@app.command("weights")
def weights_command(
    model: Model,
    layer: Annotated[str, typer.Argument(help="a layer's name, as `weightatlas layers` lists it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="file ending in .svg, .png or .html")],
    units: Annotated[str | None, typer.Option(help="which units, e.g. 0-9 or 3,17 (default: the first 20)")] = None,
    rank: Annotated[int | None, typer.Option(help="number of factors (default 3)")] = None,
    method: Annotated[str | None, typer.Option(help="posneg (the article's, default) or semi")] = None,
    per_unit: Annotated[bool, typer.Option("--per-unit", help="factorize every unit on its own")] = False,
    seed: Annotated[int | None, typer.Option(help="of the random starts (default 0)")] = None,
    fold_norm: Annotated[bool, typer.Option(help="scale units by the batch norm that follows")] = True,
    palette: Annotated[str | None, typer.Option(help="of signed maps: classic or colorblind")] = None,
    width: Width = WIDTH,
    dark: Dark = False,
) -> None:
    """Draw the weights of a layer: RGB grid of factors, first layers in their colours, depthwise ones as maps."""
    with _told():
        wa.figures.check_path(output)
        drawn = wa.figure(
            wa.load(model),
            "weights",
            layer,
            units=parse_units(units) if units is not None else None,
            rank=rank,
            method=method,
            per_unit=per_unit or None,
            seed=seed,
            fold_norm=fold_norm,
            palette=palette,
        )
        _save(drawn, output, width, dark)


@app.command("banding")
def banding_command(
    model: Model,
    output: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="the rows as JSON")] = False,
    permutations: Annotated[int, typer.Option(help="for the interval")] = 2000,
    seed: Seed = 0,
    palette: Annotated[str, typer.Option(help="classic or colorblind")] = "classic",
    width: Width = WIDTH,
    dark: Dark = False,
) -> None:
    """Measure weight banding of every layer with a spatial kernel, and draw it by depth."""
    with _told():
        if output is not None:
            wa.figures.check_path(output)
        found = wa.banding(wa.load(model), permutations=permutations, seed=seed)
        if as_json:
            print(json.dumps(_strict(found.to_dicts()), indent=1))
        else:
            _print_banding(found)
        if output is not None:
            drawn = wa.figures.banding_plot(found, palette=palette)  # pyright: ignore[reportArgumentType]
            _save(drawn, output, width, dark, quiet=as_json)


def _strict(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_banding(found: Any) -> None:
    table = Table(box=None, header_style="dim", title=Text(_line(repr(found))), title_justify="left")
    for name in ("layer", "rows", "columns", "chance", "95% of permutations"):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    table.add_column(SPARED_SHARES[0], no_wrap=True)
    for row in found:
        numbers = (f"{v:.3f}" for v in (row.row_share, row.column_share, row.chance))
        mark = " banded" if row.banded else " (apart)" if row.apart else ""
        name = Text(_line(row.layer), style="bold" if row.banded else "")
        interval = f"{row.interval[0]:.3f} … {row.interval[1]:.3f}"
        table.add_row(name, *numbers, interval, Text(share_bar(row.row_share, row.chance) + mark))
    _print_table(table, SPARED_SHARES)
    for row in found:
        if row.apart:
            print(_line(f"{row.layer} is listed apart: {row.apart}"))


def share_bar(share: float, chance: float) -> str:
    """A share of 0 … 1 as a bar of characters, with a mark where chance would be.

    Example:
        >>> share_bar(0.5, 0.25)
        '██████│█████············'
    """
    filled = round(share * BAR) if share == share else 0
    cells = ["█" if i < filled else "·" for i in range(BAR)]
    cells[min(int(chance * BAR), BAR - 1)] = "│"
    return "".join(cells)


@app.command("overview")
def overview_command(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the page and its pictures")],
    layer: Annotated[list[str] | None, typer.Option(help="a layer to show; repeat for more")] = None,
    seed: Seed = 0,
) -> None:
    """Write a folder to look at: layer table, weights of four layers, banding, index.html."""
    with _told():
        index = wa.overview(
            wa.load(model),
            output,
            layers=layer,
            seed=seed,
            progress=lambda words: print(f"  {_line(words)}", file=sys.stderr),
        )
        print(f"open {_line(index)}")


def _save(drawn: Any, output: Path, width: float, dark: bool, *, quiet: bool = False) -> None:
    path = drawn.save(output, width=width, theme="dark" if dark else "auto")
    if not quiet:
        print(f"{_line(drawn.caption)}\nwrote {_line(path)}")
