"""Commands on single layers and whole networks: layers, weights, banding, overview."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import weightatlas as wa

from .rendering import bar
from .telling import (
    WIDTH,
    AsJson,
    Dark,
    Model,
    Out,
    Seed,
    Weights,
    Width,
    check_drawn,
    line,
    new_table,
    opened,
    parse_units,
    print_json,
    print_table,
    save,
    told,
)

#: Columns that a narrow terminal goes without, in this order.
SPARED_LAYERS = ("groups", "inputs", "parameters", "stride", "receptive field", "kernel", "grid")
SPARED_SHARES = ("row share by depth: █ rows, │ chance", "95% of permutations", "chance")
BAR = 24  # characters of a share drawn in the terminal


def layers(model: Model, as_json: AsJson = False, checkpoint: Weights = None) -> None:
    """List the layers of a network: units, kernels, grids, receptive fields."""
    with told():
        table = opened(model, checkpoint).layers
        if as_json:
            print(table.to_json())
            return
        headers = wa.figures.HEADERS
        shown = new_table(f"{table.model}: {len(table)} layers", headers, headers[:2])
        for layer in table.values():
            shown.add_row(*(Text(line(cell)) for cell in wa.figures.cells(layer)))
        print_table(shown, SPARED_LAYERS)
        for note in table.notes:
            print(f"note: {line(note)}")


def weights(
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
    checkpoint: Weights = None,
) -> None:
    """Draw the weights of a layer: RGB grid of factors, first layers in their colours, depthwise ones as maps."""
    with told():
        wa.figures.check_path(output)
        drawn = wa.figure(
            opened(model, checkpoint),
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
        save(drawn, output, width, dark)


def banding(
    context: typer.Context,
    model: Model,
    output: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="the rows as JSON")] = False,
    permutations: Annotated[int, typer.Option(help="for the interval")] = 2000,
    seed: Seed = 0,
    palette: Annotated[str, typer.Option(help="classic or colorblind")] = "classic",
    width: Width = WIDTH,
    dark: Dark = False,
    checkpoint: Weights = None,
) -> None:
    """Measure weight banding of every layer with a spatial kernel, and draw it by depth."""
    with told():
        check_drawn(context, output, "palette", "width", "dark")
        if output is not None:
            wa.figures.check_path(output)
        found = wa.banding(opened(model, checkpoint), permutations=permutations, seed=seed)
        if as_json:
            print_json(found.to_dicts())
        else:
            _print_banding(found)
        if output is not None:
            drawn = wa.figures.banding_plot(found, palette=palette)  # pyright: ignore[reportArgumentType]
            save(drawn, output, width, dark, quiet=as_json)


def _print_banding(found: Any) -> None:
    columns = ("layer", "rows", "columns", "chance", "95% of permutations", SPARED_SHARES[0])
    table = new_table(repr(found), columns, ("layer", SPARED_SHARES[0]))
    for row in found:
        numbers = (f"{v:.3f}" for v in (row.row_share, row.column_share, row.chance))
        mark = " banded" if row.banded else " (apart)" if row.apart else ""
        name = Text(line(row.layer), style="bold" if row.banded else "")
        interval = f"{row.interval[0]:.3f} … {row.interval[1]:.3f}"
        table.add_row(name, *numbers, interval, Text(share_bar(row.row_share, row.chance) + mark))
    print_table(table, SPARED_SHARES)
    for row in found:
        if row.apart:
            print(line(f"{row.layer} is listed apart: {row.apart}"))


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


def overview(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the page and its pictures")],
    layer: Annotated[list[str] | None, typer.Option(help="a layer to show; repeat for more")] = None,
    seed: Seed = 0,
    checkpoint: Weights = None,
) -> None:
    """Write a folder to look at: weights of four layers, pictures of units, expanded weights, banding, index.html."""
    with told():
        with bar("  pictures") as pictures:
            index = wa.overview(
                opened(model, checkpoint),
                output,
                layers=layer,
                seed=seed,
                progress=lambda words: print(f"  {line(words)}", file=sys.stderr),
                pictures=pictures,
            )
        print(f"open {line(index)}")
