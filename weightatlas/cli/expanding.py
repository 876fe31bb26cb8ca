"""The command ``expand``: the weights between any two layers, through everything between them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

import weightatlas as wa

from ..errors import ArgumentError
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
    progress,
    save,
    told,
)  # fmt: skip

TOP = 10  # rows of the table
BY = ("l2", "excite", "inhibit")
PALETTES = ("classic", "colorblind")
SKIPS = ("include", "exclude")
RECORDS = (".npz", ".safetensors")
THROUGH = ("|Σ|", "Σ|·|", "cancels", "bypass")
#: Columns that a narrow terminal goes without, in this order.
SPARED = ("bypass", "Σ|·|", "|Σ|", "offset (y, x)", "position (y, x)", "sum")

Source = Annotated[str, typer.Option("--from", help="the earlier layer, or input")]
Target = Annotated[str, typer.Option("--to", help="the later layer")]
Through = Annotated[str | None, typer.Option(help="a layer between them: what cancels on the way through it")]
Units = Annotated[str | None, typer.Option(help="target units, e.g. 3,17 (default: all; a figure shows the first 6)")]
Gate = Annotated[str, typer.Option(help="of non-linearities: expected, identity, batchnorm or a number")]
Skip = Annotated[str | None, typer.Option(help="paths without parameters: include (default) or exclude")]
At = Annotated[str | None, typer.Option(help="target position Y,X whose map is wanted")]
Top = Annotated[int | None, typer.Option(help="how many connections (default: 10; a figure has its own)")]
By = Annotated[str, typer.Option(help="what counts: l2, excite or inhibit")]
Keep = Annotated[Path | None, typer.Option("--save", help="the numbers, as a file ending in .npz or .safetensors")]


def expand(
    context: typer.Context,
    model: Model,
    source: Source,
    target: Target,
    through: Through = None,
    units: Units = None,
    gate: Gate = "expected",
    skip: Skip = None,
    at: At = None,
    top: Top = None,
    by: By = "l2",
    output: Out = None,
    keep: Keep = None,
    width: Width = WIDTH,
    dark: Dark = False,
    palette: Annotated[str, typer.Option(help="classic or colorblind")] = "classic",
    checkpoint: Weights = None,
) -> None:
    """Multiply out the weights between two layers; list and draw the strongest connections."""
    with told():
        _check(output, keep, top, by, palette, skip)
        check_drawn(context, output, "palette", "width", "dark")
        chosen = parse_units(units) if units is not None else None
        asked: dict[str, Any] = {"units": chosen, "gate": parse_gate(gate)}
        if through is None:
            asked |= {"skip": skip or "include", "at": parse_position(at)}
        elif skip is not None or at is not None:
            raise ArgumentError("--skip and --at do not go with --through, which follows all paths at every position")
        net = opened(model, checkpoint)
        paths: Any = None
        with progress(f"{source} → {target}") as tell:
            asked["progress"] = tell
            if through is None:
                weights = wa.expanded_weights(net, source, target, **asked)
            else:
                paths = wa.expanded_paths(net, source, through, target, **asked)
                weights = paths.weights
        _print_top(weights, paths, top or TOP, by)
        _print_notes(weights)
        if keep is not None:
            print(f"wrote {line((weights if paths is None else paths).save(keep))}")
        if output is not None:
            options: dict[str, Any] = {"palette": palette} | ({"k": top} if top is not None else {})
            if paths is None:
                drawn = wa.figures.connections(weights, units=chosen, by=by, **options)  # pyright: ignore[reportArgumentType]
            else:
                drawn = wa.figures.pathways(paths, **options)
            save(drawn, output, width, dark)


def _check(output: Path | None, keep: Path | None, top: int | None, by: str, palette: str, skip: str | None) -> None:
    """Everything that can be refused before the network is opened."""
    if output is not None:
        wa.figures.check_path(output)
    if keep is not None and keep.suffix not in RECORDS:
        raise ArgumentError(f"{keep.name!r}: numbers are saved in files ending in {' or '.join(RECORDS)}")
    if top is not None and top < 1:
        raise ArgumentError(f"--top {top} is less than 1")
    for name, value, allowed in (("by", by, BY), ("palette", palette, PALETTES), ("skip", skip, (*SKIPS, None))):
        if value not in allowed:
            raise ArgumentError(f"--{name} {value!r} is none of {', '.join(a for a in allowed if a)}")


def parse_gate(text: str) -> str | float:
    """A gate's name, or the number it stands for.

    Raises:
        ArgumentError: for NaN and infinity.

    Example:
        >>> parse_gate("identity"), parse_gate("0.5")
        ('identity', 0.5)
    """
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise ArgumentError(f"gate {text!r} is no finite number")
    return number


def parse_position(text: str | None) -> tuple[int, int] | None:
    """A position from ``Y,X``.

    Raises:
        ArgumentError: for anything else.

    Example:
        >>> parse_position("3,10")
        (3, 10)
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", text)
    if match is None:
        raise ArgumentError(f"position {text!r} is not like 3,10 (y, x)")
    return int(match[1]), int(match[2])


def _print_top(weights: Any, paths: Any, count: int, by: str) -> None:
    """The strongest connections of all units together, strongest first."""
    place = "offset (y, x)" if weights.at is None else "position (y, x)"
    columns = ("target", "source", {"l2": "L2"}.get(by, by), "sum", place)
    table = new_table(repr(paths or weights), columns + (THROUGH if paths else ()), ("target", "source"))
    tops = [weights.top(int(unit), count, by) for unit in weights.units]
    rows = [(-float(s), i, k) for i, top in enumerate(tops) for k, s in enumerate(top.strengths)]
    extra = _through(paths) if paths else None
    for _, i, k in sorted(rows)[:count]:
        top = tops[i]
        cells = [top.address, top.addresses[k], f"{top.strengths[k]:.3g}", f"{top.sums[k]:.3g}"]
        cells.append(_place(top.maps[k], weights))
        if extra:
            row, column = paths.entry(top.unit, int(top.sources[k]))
            net, absolute, cancels, bypass = extra
            cells += [f"{net[row, column]:.3g}", f"{absolute[row, column]:.3g}"]
            cells += [f"{cancels[row, column]:.0%}", f"{bypass[row]:.0%}"]
        table.add_row(*(Text(line(cell)) for cell in cells))
    print_table(table, SPARED, "a wider terminal shows them")
    if not rows:
        print(f"no unit of {line(weights.target)} has any such connection")


def _through(paths: Any) -> Sequence[np.ndarray]:
    """Per pair of units Σ over positions of |Σ| and of Σ|·| and how much cancels; per unit the share of the bypass."""
    net, absolute = (np.abs(v).sum(axis=(2, 3), dtype=np.float64) for v in (paths.through, paths.absolute))
    return net, absolute, paths.unit_cancellation, paths.bypass_share


def _place(values: np.ndarray, weights: Any) -> str:
    """Where a map's largest magnitude lies: from the target's position, or on the source grid if that is one place."""
    index = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    at = weights.at or (0, 0)
    place = [
        p * s + o + int(i) * d
        for p, s, o, i, d in zip(at, weights.stride, weights.origin, index, weights.dilation, strict=True)
    ]
    sign = "" if weights.at is not None else "+"
    return ", ".join(f"{v:{sign}g}" if v else "0" for v in place)


def _print_notes(weights: Any) -> None:
    """What was read as what, left out or assumed."""
    for note in weights.provenance.notes:
        print(f"note: {line(note)}")
