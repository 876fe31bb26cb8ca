"""``weightatlas render``: pictures of what the units of a layer detect."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError
from .telling import WIDTH, Dark, Model, Seed, Weights, Width, line, opened, parse_units, save, told

UNITS_RENDERED = 20


class _Rate(ProgressColumn):
    """Pictures a second, or seconds a picture."""

    def render(self, task: Task) -> Text:
        """The rate so far."""
        done, spent = task.completed, task.elapsed or 0.0
        if not done or not spent:
            return Text("")
        rate = done / spent
        return Text(f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s a picture", style="dim")


@contextmanager
def bar(what: str) -> Iterator[Callable[[float, int], None]]:
    """What to call with (pictures done, pictures in all): a bar that knows its rate, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(line(what), total=None, count="")

        def tell(done: float, total: int) -> None:
            shown.update(task, completed=done, total=total, count=f"{int(done)} of {total}")

        yield tell


def render(
    model: Model,
    layer: Annotated[str, typer.Argument(help="a layer's name, as `weightatlas layers` lists it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="file ending in .svg, .png or .html")],
    units: Annotated[str | None, typer.Option(help="which units, e.g. 0-9 or 3,17 (default: the first 20)")] = None,
    recipe: Annotated[str, typer.Option(help="display, quick or max")] = "display",
    steps: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    batch: Annotated[int | None, typer.Option(help="pictures at a time (default: as memory and caches like)")] = None,
    device: Annotated[str | None, typer.Option(help="e.g. cuda (default: cpu)")] = None,
    file: Annotated[
        Path | None, typer.Option("--save", help="the pictures as arrays: .npz or .safetensors", metavar="FILE")
    ] = None,
    seed: Seed = 0,
    width: Width = WIDTH,
    dark: Dark = False,
    checkpoint: Weights = None,
) -> None:
    """Render feature visualizations: a picture of what every unit of a layer detects, as a contact sheet."""
    with told():
        wa.figures.check_path(output)
        wa.figures.check_width(width)
        if file is not None and file.suffix not in (".npz", ".safetensors"):
            raise ArgumentError(f"--save {file.name!r} must end in .npz or .safetensors")
        for path in (output, file):
            if path is not None:
                wa.records.check_writable(path)
        net = opened(model, checkpoint)
        known = net.layers[layer]
        chosen = parse_units(units) if units is not None else range(min(UNITS_RENDERED, known.units))
        known.unit_indices(chosen)
        if len(chosen) > wa.figures.MOST_SHOWN:
            raise ArgumentError(f"{len(chosen)} pictures are more than the {wa.figures.MOST_SHOWN} of a sheet")
        settings = wa.featurevis.recipe_for(net, layer, recipe)
        if steps is not None:
            settings = settings.but(steps=steps)
        began = time.monotonic()
        with bar(layer) as tell:
            made = wa.visualize(
                net, layer, units=chosen, recipe=settings, batch=batch if batch is not None else "auto", seed=seed,
                device=device, progress=tell,
            )  # fmt: skip
        spent = time.monotonic() - began
        try:  # whatever becomes of one file, the other is there
            if file is not None:
                made.save(file)
                print(f"wrote {line(file)}")
        finally:
            save(wa.figures.contact_sheet(made), output, width, dark)
        print(f"{len(made)} picture{'' if len(made) == 1 else 's'} in {spent:.1f} s, {spent / len(made):.2f} s each")
