"""The command line: ``weightatlas models | layers | weights | banding | overview | graph | expand | explain |
render | figure | article | build | check | open | export``.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import weightatlas as wa

from . import building, commands, expanding, explaining, exploring, figuring, graphs, listing, rendering

app = typer.Typer(
    help="Read the weights of trained neural networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


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


for _command in (
    listing.models,
    commands.layers,
    commands.weights,
    commands.banding,
    commands.overview,
    graphs.graph,
    expanding.expand,
    explaining.explain,
    rendering.render,
    figuring.figure,
    figuring.article,
    building.build,
    building.check,
):
    app.command()(_command)
app.command("open")(exploring.open_explorer)
app.command()(exploring.export)
