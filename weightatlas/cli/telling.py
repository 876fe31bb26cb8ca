"""How commands speak: options they share, tables, errors and warnings as a line each."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError, WeightAtlasError

NAME = "weightatlas"
FAILED = 2
WIDE = 10_000  # characters
MOST_UNITS = 10_000  # drawn at once
WIDTH = 720.0

#: What MODEL can be, for commands that need no architecture and for those that do.
NAMES = "efficientnet_lite0, inceptionv1, timm:NAME, torchvision:NAME, hf:REPO, "
Model = Annotated[str, typer.Argument(help=f"{NAMES}onnx:FILE, or a .safetensors, .pth or .pt file", metavar="MODEL")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="of a MODEL given by name: a file, or random", metavar="FILE|random"),
]
Out = Annotated[Path | None, typer.Option("-o", "--output", help="file ending in .svg, .png or .html")]
AsJson = Annotated[bool, typer.Option("--json", help="everything as JSON")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Width = Annotated[float, typer.Option(help="of the figure in pixels")]
Dark = Annotated[bool, typer.Option("--dark", help="dark ground")]


def opened(model: str, weights: str | None) -> Any:
    """The network of ``MODEL`` and ``--weights``.

    Raises:
        WeightAtlasError: as :func:`weightatlas.load` says.
    """
    return wa.load(model) if weights is None else wa.load(model, weights=weights)


@contextmanager
def told() -> Iterator[None]:
    """Errors of ours as one line on stderr and exit status 2; warnings as a line each."""

    def show(message: Any, *rest: Any, **more: Any) -> None:
        print(f"warning: {line(message)}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    except WeightAtlasError as error:
        print(f"weightatlas: {line(error)}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    finally:
        warnings.showwarning = before


def line(words: object) -> str:
    """Words as one line that a terminal can only show, whatever names they hold."""
    return " ".join(wa.figures.visible(str(words)).split())


def new_table(title: str, columns: Sequence[str], left: Sequence[str]) -> Table:
    """An empty table; the columns named in ``left`` hold words, the others numbers."""
    heading = Text(line(title), no_wrap=True, overflow="ignore")  # a table may be narrower
    table = Table(title=heading, title_justify="left", box=None, header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def print_table(table: Table, spare: tuple[str, ...], rest: str = "--json has everything") -> None:
    """A table whose cells are never cut: in a narrow terminal it goes without the columns that can be spared."""
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    left_out = []
    unbounded = console.options.update(width=WIDE)
    spared = [name for name in spare if any(column.header == name for column in table.columns)]
    while Measurement.get(console, unbounded, table).maximum > console.width and len(left_out) < len(spared):
        left_out.append(spared[len(left_out)])
        table.columns[:] = [column for column in table.columns if column.header != left_out[-1]]
    widest = Measurement.get(console, unbounded, table).maximum
    console.width = max(console.width, widest)
    console.print(table)
    if left_out:
        print(f"(left out for want of room: {', '.join(left_out)}; {rest})")


def check_drawn(context: typer.Context, output: Path | None, *names: str) -> None:
    """Refuses options that only a drawing has a use for where none is made.

    Args:
        context: of the command.
        output: where the drawing goes.
        names: of parameters of the command.

    Raises:
        ArgumentError: if nothing is drawn and one of them was given, even as it is by default.
    """
    options = {p.name: "/".join(p.opts) for p in context.command.params}
    given = [options[n] for n in names if getattr(context.get_parameter_source(n), "name", "") == "COMMANDLINE"]
    if output is None and given:
        raise ArgumentError(f"{' and '.join(given)} would change a drawing, and none is made; give its file with -o")


def program() -> str:
    """How the program was called, as a shell finds it again."""
    called = Path(sys.argv[0])
    if called.name != NAME or shutil.which(NAME) == str(called.absolute()):
        return NAME
    try:
        return str(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(called)


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


def strict(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {k: strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """Data as JSON that every reader takes."""
    print(json.dumps(strict(value), indent=1))


def save(drawn: Any, output: Path, width: float, dark: bool, *, quiet: bool = False) -> None:
    """Writes a figure, and says so with its caption."""
    path = drawn.save(output, width=width, theme="dark" if dark else "auto")
    if not quiet:
        print(f"{line(drawn.caption)}\nwrote {line(path)}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """What to call with (done, total) while something takes long; a line on stderr, on a terminal only."""
    shown = sys.stderr.isatty()

    def tell(done: int, total: int) -> None:
        if shown:
            print(f"\r\x1b[K{line(what)}: {done} of {total}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
