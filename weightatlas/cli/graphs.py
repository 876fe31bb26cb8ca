"""The command ``graph``: which layers feed which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError
from .telling import (
    WIDTH,
    AsJson,
    Dark,
    Model,
    Out,
    Weights,
    Width,
    check_drawn,
    line,
    new_table,
    opened,
    print_table,
    save,
    told,
)

COLUMNS = ("layer", "kind", "units", "grid", "operators", "reads", "same as")
WORDS = ("layer", "kind", "operators", "reads", "same as")
SPARED = ("same as", "grid", "units", "kind", "operators")
MOST_READS = 4  # named in one cell

First = Annotated[str | None, typer.Option("--from", help="only the layers on paths from this one")]
Last = Annotated[str | None, typer.Option("--to", help="only the layers on paths to this one")]
Svg = Annotated[Path | None, typer.Option("--svg", help="the drawing, as a file ending in .svg")]


def graph(
    context: typer.Context,
    model: Model,
    source: First = None,
    target: Last = None,
    as_json: AsJson = False,
    svg: Svg = None,
    output: Out = None,
    width: Width = WIDTH,
    dark: Dark = False,
    checkpoint: Weights = None,
) -> None:
    """List which layers feed which, in the order in which they run, and draw it."""
    with told():
        files = [path for path in (svg, output) if path is not None]
        check_drawn(context, svg or output, "width", "dark")
        if svg is not None and svg.suffix != ".svg":
            raise ArgumentError(f"{svg.name!r} does not end in .svg; -o writes .svg, .png and .html")
        for path in files:
            wa.figures.check_path(path)
        whole = wa.layer_graph(opened(model, checkpoint))
        part = whole.part(source, target)
        if as_json:
            print(part.to_json())
        else:
            _print_graph(part)
        for path in files:
            save(wa.figures.graph_figure(whole, source, target), path, width, dark, quiet=as_json)


def _print_graph(part: Any) -> None:
    """One row a node; a column that would be empty is left out."""
    rows = [_cells(part, node) for node in part.nodes]
    shown = [name for name in COLUMNS if any(row[name] for row in rows)]
    table = new_table(f"{part.model or 'network'}: {len(part)} nodes, {len(part.edges)} edges", shown, WORDS)
    for row in rows:
        table.add_row(*(Text(line(row[name])) for name in shown))
    print_table(table, SPARED)
    for note in part.notes:
        print(f"note: {line(note)}")


def _cells(part: Any, node: Any) -> dict[str, str]:
    reads = part.inputs(node.name)
    more = f" and {len(reads) - MOST_READS} more" if len(reads) > MOST_READS else ""
    return {
        "layer": node.name,
        "kind": node.kind,
        "units": str(node.units or ""),
        "grid": f"{node.grid[0]}×{node.grid[1]}" if node.grid else "",
        "operators": ", ".join(node.operators),
        "reads": ", ".join(reads[:MOST_READS]) + more,
        "same as": ", ".join(node.also),
    }
