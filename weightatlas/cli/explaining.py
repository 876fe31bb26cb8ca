"""The command ``explain``: why a unit fired on an image, step by step down to the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError
from .expanding import PALETTES, parse_gate, parse_position
from .rendering import bar
from .telling import (
    WIDTH,
    Dark,
    Model,
    Out,
    Weights,
    Width,
    check_drawn,
    line,
    new_table,
    opened,
    parse_units,
    print_table,
    save,
    told,
)  # fmt: skip

METHODS = ("auto", "exact", "gradient", "integrated_gradients", "conductance")
RECIPES = ("display", "quick", "max")
SOURCES = 4
#: Columns that a narrow terminal goes without, in this order.
SPARED = ("at (y, x)", "at (y, x) ")

Image = Annotated[Path, typer.Argument(help="a picture: .png, .jpg, .webp …", metavar="IMAGE")]
Unit = Annotated[str | None, typer.Option(help="LAYER:UNIT (default: the strongest unit of the last layer, the class)")]
At = Annotated[str | None, typer.Option(help="position Y,X on its grid (default: where it is strongest)")]
Source = Annotated[
    list[str] | None,
    typer.Option(help="the earlier layer, or input (default: what the unit reads); repeat for further steps"),
]
Method = Annotated[str, typer.Option(help=f"of attribution: {', '.join(METHODS)}")]
Count = Annotated[int, typer.Option("-k", "--k", help="source units of each sign")]
Down = Annotated[int, typer.Option(help="steps: each further one explains the strongest source of the one before")]
Follow = Annotated[str | None, typer.Option(help="source units to go on with, one a step, e.g. 17,3")]
Gate = Annotated[str, typer.Option(help="of weights between: expected, identity, batchnorm or a number")]
Recipe = Annotated[str, typer.Option(help="of the figure's pictures: display, quick or max")]
Theme = Annotated[str, typer.Option("--theme", "--palette", help="of maps: classic or colorblind")]


def explain(
    context: typer.Context,
    model: Model,
    image: Image,
    unit: Unit = None,
    at: At = None,
    source: Source = None,
    method: Method = "auto",
    k: Count = SOURCES,
    down: Down = 1,
    follow: Follow = None,
    gate: Gate = "expected",
    output: Out = None,
    recipe: Recipe = "display",
    width: Width = WIDTH,
    dark: Dark = False,
    palette: Theme = "classic",
    checkpoint: Weights = None,
) -> None:
    """Tell why a unit fired on an image: what pushed it up and down, how much, and why that did."""
    with told():
        _check(output, width, {"method": (method, METHODS), "recipe": (recipe, RECIPES), "theme": (palette, PALETTES)})
        check_drawn(context, output, "recipe", "width", "dark", "palette")
        asked: dict[str, Any] = {"at": parse_position(at), "source": source or None, "method": method, "k": k}
        asked |= {"down": down, "gate": parse_gate(gate)}
        if follow is not None:
            asked["follow"] = parse_units(follow)
        net = opened(model, checkpoint)
        if output is None:
            found = wa.explain(net, image, unit, **asked)
            drawn = wa.figures.explanation(found, palette=palette)  # pyright: ignore[reportArgumentType]
        else:
            with bar("  pictures") as pictures:
                drawn = wa.figure(
                    net, "explanation", unit, image=image, recipe=recipe, palette=palette, progress=pictures, **asked
                )
        for i, step in enumerate(drawn.data["steps"]):
            _print_step(step, i)
        if output is not None:
            save(drawn, output, width, dark)


def _check(output: Path | None, width: float, choices: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Everything that can be refused before the network is opened."""
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ArgumentError(f"--{name} {value!r} is none of {', '.join(allowed)}")
    if output is not None:
        wa.figures.check_path(output)
        wa.figures.check_width(width)
        wa.records.check_writable(output)


def _print_step(step: Mapping[str, Any], number: int) -> None:
    """One step: its sum, how far to trust it, and the sources in a table."""
    if number:
        print()
    instead = f" (which {step['instead']} reads)" if step["instead"] else ""
    print(line(f"{step['target']}{instead} at {step['at']}, from {step['source']}: {_sum(step)}"))
    how = wa.figures.METHODS[step["method"]]
    print(f"{how}; the sum {wa.figures.error_words(step['error'])}; {line(_weights(step))}")
    numbers = wa.figures.signed_numbers([float(v) for v in step["contributions"]])
    units = [(step["names"][i], numbers[i], _place(step, i)) for i in range(len(numbers))]
    up, down = units[: len(step["up"])], units[len(step["up"]) :]
    columns = ("pushed up", "by", SPARED[0], "pushed down", "by ", SPARED[1])
    table = new_table("", columns, (columns[0], columns[3]))
    table.title = None
    for i in range(max(len(up), len(down))):
        cells = [*(up[i] if i < len(up) else ("",) * 3), *(down[i] if i < len(down) else ("",) * 3)]
        table.add_row(*(Text(line(cell)) for cell in cells))
    if units:
        print_table(table, SPARED, "a wider terminal shows them")
    else:
        print("nothing pushed it")
    if step["ended"]:
        print(line(f"the walk ends here: {step['ended']}"))


def _sum(step: Mapping[str, Any]) -> str:
    """The value as a sum, in numbers."""
    base, total, rest = wa.figures.BASES[step["method"]], step["total"], step["residual"]
    words = (
        f"{step['value']:.4g} = {step['base']:.4g} ({base}) {'+' if total >= 0 else '-'} {abs(total):.4g} "
        f"(contributions) {'+' if rest >= 0 else '-'} {abs(rest):.1g} (left over)"
    )
    return words.replace("-", "−").replace("e−", "e-")


def _weights(step: Mapping[str, Any]) -> str:
    """How far the weights tell what happened."""
    if step["why"]:
        return f"no weights: {step['why']}"
    if step["method"] == "exact":
        return "the weights are the layer's own"
    cosine = f"{step['alike']:.2f}".replace("-", "−")
    return f"cosine {cosine} between the weights and the gradient on this image"


def _place(step: Mapping[str, Any], row: int) -> str:
    """Where on the source grid a unit contributed most."""
    products = abs(step["products"][row])
    y, x = divmod(int(products.argmax()), products.shape[1])
    return f"{y + step['window'][0]}, {x + step['window'][1]}"
