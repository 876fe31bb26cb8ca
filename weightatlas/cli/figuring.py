"""The commands ``figure`` and ``article``: weights between pictures, one figure or all of the article's."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import weightatlas as wa

from ..errors import ArgumentError
from .expanding import parse_gate, parse_position
from .rendering import bar
from .telling import WIDTH, Dark, Model, Seed, Weights, Width, line, opened, parse_units, save, told

#: What ``figure_kinds()`` lists, here as words so that --help need not import torch.
KINDS = (
    "connection, small_multiples, family_grid, spatial_positions, weight_factors, factor_equation, expanded, "
    "cancellation, neuron_card, nmf_grid, banding, weights, features, connections, paths, explanation, "
    "activation_grid, dataset_examples or gradient_cases"
)
NUMBERS = ("units", "targets", "sources", "follow")

Kind = Annotated[str, typer.Argument(help=KINDS, metavar="KIND")]
Target = Annotated[
    str | None,
    typer.Argument(help="the layer or unit shown, e.g. blocks.4.1:17 (not for banding)", metavar="[TARGET]"),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="file ending in .svg, .png or .html")]
Source = Annotated[
    str | None,
    typer.Option(help="the earlier layer or unit (default, where it can be left out: what the target reads)"),
]
Units = Annotated[str | None, typer.Option(help="which units, e.g. 0-9 or 3,17")]
Count = Annotated[int | None, typer.Option("-k", "--k", help="how many are shown")]
Rank = Annotated[int | None, typer.Option(help="number of factors")]
Images = Annotated[
    list[Path] | None,
    typer.Option(help="images, or folders of them: that are looked at, or agreement is measured on; repeat for more"),
]
Recipe = Annotated[str | None, typer.Option(help="of pictures: display, quick or max")]
Device = Annotated[str | None, typer.Option(help="e.g. cuda (default: cpu)")]
Theme = Annotated[str | None, typer.Option("--theme", "--palette", help="of maps: classic or colorblind")]


def figure(
    kind: Kind,
    model: Model,
    target: Target = None,
    *,
    output: Output,
    source: Source = None,
    units: Units = None,
    targets: Annotated[str | None, typer.Option(help="target units of a grid, e.g. 3,17")] = None,
    sources: Annotated[str | None, typer.Option(help="source units, e.g. 3,17")] = None,
    through: Annotated[str | None, typer.Option(help="the layer between")] = None,
    outputs: Annotated[str | None, typer.Option(help="the layer that reads the unit")] = None,
    k: Count = None,
    by: Annotated[str | None, typer.Option(help="what is strongest: l2, excite, inhibit or both")] = None,
    order: Annotated[str | None, typer.Option(help="of a grid: given, similarity or angle")] = None,
    rank: Rank = None,
    enough: Annotated[float | None, typer.Option(help="share that factors must explain to group by")] = None,
    method: Annotated[
        str | None, typer.Option(help="of factors: posneg or semi; of attribution: auto, exact, gradient …")
    ] = None,
    per_unit: Annotated[bool | None, typer.Option("--per-unit", help="factorize every unit on its own")] = None,
    fold_norm: Annotated[bool | None, typer.Option(help="scale units by the batch norm that follows")] = None,
    gate: Annotated[str | None, typer.Option(help="expected, identity, batchnorm or a number")] = None,
    skip: Annotated[str | None, typer.Option(help="paths without parameters: include or exclude")] = None,
    at: Annotated[str | None, typer.Option(help="target position Y,X whose map is wanted")] = None,
    image: Annotated[Path | None, typer.Option(help="the picture that is looked at")] = None,
    down: Annotated[int | None, typer.Option(help="steps of an explanation")] = None,
    follow: Annotated[str | None, typer.Option(help="source units an explanation goes on with, e.g. 17,3")] = None,
    cells: Annotated[int | None, typer.Option(help="of an activation grid, on a side")] = None,
    fade: Annotated[str | None, typer.Option(help="of an activation grid: faded or sized")] = None,
    cases: Annotated[int | None, typer.Option(help="in which a unit comes to fire")] = None,
    examples: Annotated[int | None, typer.Option(help="that cases are found in")] = None,
    images: Images = None,
    recipe: Recipe = None,
    batch: Annotated[int | None, typer.Option(help="pictures at a time")] = None,
    permutations: Annotated[int | None, typer.Option(help="of positions, for banding's interval")] = None,
    seed: Annotated[int | None, typer.Option(help="of everything random")] = None,
    device: Device = None,
    palette: Theme = None,
    width: Width = WIDTH,
    dark: Dark = False,
    checkpoint: Weights = None,
) -> None:
    """Draw one figure: weights, factors and positions between pictures of what units detect."""
    given = dict(locals())
    with told():
        wa.figures.check_path(output)
        wa.figures.check_width(width)
        wa.records.check_writable(output)
        options = _options({name: given[name] for name in OPTIONS if given[name] is not None})
        net = opened(model, checkpoint)
        with bar("  pictures") as pictures:
            if kind in wa.figure_kinds() and "progress" in wa.figure_kinds()[kind].parameters:
                options["progress"] = pictures
            drawn = wa.figure(net, kind, target, **options)  # pyright: ignore[reportArgumentType]
        save(drawn, output, width, dark)


#: Options that are passed on as they are called here.
OPTIONS = tuple(
    name
    for name in inspect.signature(figure).parameters
    if name not in ("kind", "model", "target", "output", "width", "dark", "checkpoint")
)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """What was written on the command line, as :func:`weightatlas.figure` takes it."""
    for name in NUMBERS:
        if name in given:
            given[name] = parse_units(given[name])
    if "gate" in given:
        given["gate"] = parse_gate(given["gate"])
    if "at" in given:
        given["at"] = parse_position(given["at"])
    return given


def article(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the page and its figures")],
    images: Images = None,
    recipe: Annotated[str, typer.Option(help="of pictures: display, quick or max")] = "display",
    seed: Seed = 0,
    device: Device = None,
    palette: Annotated[str, typer.Option("--theme", "--palette", help="of maps: classic or colorblind")] = "classic",
    checkpoint: Weights = None,
) -> None:
    """Make every figure of "Visualizing Weights" for a network, by stated rules (of inceptionv1: of its own units)."""
    with told():
        if palette not in ("classic", "colorblind"):
            raise ArgumentError(f"--theme {palette!r} is none of classic, colorblind")
        with bar("  pictures") as pictures:
            index = wa.article(
                opened(model, checkpoint), output, recipe=recipe, images=images, seed=seed, device=device,
                palette=palette,  # pyright: ignore[reportArgumentType]
                progress=lambda words: print(f"  {line(words)}", file=sys.stderr), pictures=pictures,
            )  # fmt: skip
        print(f"open {line(index)}")
