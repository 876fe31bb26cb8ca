"""The command that lists networks: models."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError
from .telling import AsJson, line, new_table, print_table, told

#: Columns that a narrow terminal goes without, in this order.
SPARED = ("where, or what brings it", "parameters", "source", "licence", "size")


def models(
    pattern: Annotated[
        str | None, typer.Argument(help="which, e.g. 'timm:resnet*', 'torchvision:*', 'hf:*' (default: an overview)")
    ] = None,
    as_json: AsJson = False,
    forget: Annotated[
        str | None, typer.Option(metavar="NAME", help="let go of the hash that NAME's downloaded file is held to")
    ] = None,
) -> None:
    """List the networks that open by name: sources, sizes, licences, what is on this machine."""
    with told():
        if forget is not None:
            if pattern is not None or as_json:
                raise ArgumentError("--forget NAME goes alone: it lists nothing")
            _forget(forget)
            return
        table = wa.available_models(pattern)
        if as_json:
            print(table.to_json())
            return
        headers = wa.figures.MODEL_HEADERS
        rows = [wa.figures.model_cells(model) for model in table.values()]
        filled = [h for i, h in enumerate(headers) if any(row[i] for row in rows)]
        shown = new_table(repr(table), filled, ("name", "source", "licence", "here", headers[-1]))
        for row in rows:
            shown.add_row(*(Text(line(cell)) for cell, header in zip(row, headers, strict=True) if header in filled))
        if rows:
            print_table(shown, SPARED)
        for note in table.notes:
            print(f"note: {line(wa.figures.homely(note))}")
        if table.cache:
            print(f"downloaded weights are kept in {line(wa.figures.homely(table.cache))}")


def _forget(name: str) -> None:
    files = wa.forget_pin(name)
    for file in files:
        print(f"{line(file)} is no longer held to its hash; its next use pins it as it is then")
    if not files:
        print(f"no file of {line(name)} is pinned")
