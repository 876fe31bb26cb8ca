"""The commands ``build`` and ``check``: the atlas of a network in a folder."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import weightatlas as wa

from ..errors import ArgumentError
from .expanding import parse_gate
from .progressing import Bars, Lines, Silent, duration, size
from .telling import NAMES, Weights, line, opened, parse_units, program, strict, told

STOPPED = 130  # the status that shells give what Ctrl-C ended
INCOMPLETE = 1
_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}

Folder = Annotated[str, typer.Option("-o", "--output", help="folder or URL (s3://bucket/atlas) of the atlas")]
Images = Annotated[
    list[Path] | None,
    typer.Option(help="images, or folders of them, for statistics, agreement and examples; repeat for more"),
]
Layers = Annotated[
    list[str] | None, typer.Option(help="names, or patterns like 'blocks.4.*'; repeat, or join by commas")
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(help="of pictures: quick, display, max, negative, diverse, positions, factors; repeat, or join"),
]
Only = Annotated[list[str] | None, typer.Option(help="kinds of jobs or recipes, e.g. weights, paths, display")]
Pair = Annotated[list[str] | None, typer.Option(help="further weights, as SOURCE,TARGET; repeat for more")]


def build(
    model: Annotated[
        str, typer.Argument(help=f"{NAMES}not a file of weights alone: it has no architecture", metavar="MODEL")
    ],
    output: Folder,
    images: Images = None,
    layers: Layers = None,
    units: Annotated[str | None, typer.Option(help="which units are pictured, e.g. 0-9 or 3,17")] = None,
    recipes: Recipes = None,
    pair: Pair = None,
    budget: Annotated[str | None, typer.Option(help="size of all weights, e.g. '500 MB' (default: 1 GiB)")] = None,
    workers: Annotated[int | None, typer.Option(help="local processes that share the work (needs dask)")] = None,
    scheduler: Annotated[str | None, typer.Option(help="address of a dask scheduler, tcp://host:8786")] = None,
    only: Only = None,
    force: Annotated[bool, typer.Option("--force", help="make again what exists")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="tell what is missing and how long it takes")] = False,
    seed: Annotated[int | None, typer.Option(help="of everything random, in a new atlas (default: 0)")] = None,
    gate: Annotated[str | None, typer.Option(help="in a new atlas: expected, identity, batchnorm or a number")] = None,
    device: Annotated[str | None, typer.Option(help="of pictures, e.g. cuda (default: cpu)")] = None,
    batch: Annotated[int | None, typer.Option(help="pictures in a job (default: 8, on a GPU 64)")] = None,
    stop_after: Annotated[str | None, typer.Option(help="begin nothing new after this time, e.g. 90s or 1h")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="say nothing but what went wrong")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every event as a line of JSON")] = False,
    checkpoint: Weights = None,
) -> None:
    """Build the atlas of a network: weights, factors, pictures of every unit. Goes on where it was stopped."""
    with told():
        if workers is not None and scheduler is not None:
            raise ArgumentError("--workers and --scheduler do not go together; a scheduler has workers of its own")
        options: dict[str, Any] = {
            "images": images, "layers": joined(layers), "recipes": joined(recipes), "only": joined(only),
            "units": parse_units(units) if units is not None else None, "pairs": _pairs(pair), "budget": budget,
            "force": force, "seed": seed, "gate": parse_gate(gate) if gate is not None else None, "device": device,
            "batch": batch,
        }  # fmt: skip
        limit = parse_duration(stop_after) if stop_after is not None else None
        again = _command(
            model, output, images=images, layers=layers, units=units, recipes=recipes, pair=pair, budget=budget,
            workers=workers, scheduler=scheduler, only=only, seed=seed, gate=gate, device=device, batch=batch,
            weights=checkpoint,
        )  # fmt: skip
        if dry_run:
            _estimate(opened(model, checkpoint), output, options, as_json)
            return
        teller: Any = Silent() if quiet else _Events() if as_json else Bars() if sys.stderr.isatty() else Lines()
        try:
            with teller, _without_logs():
                atlas = wa.build(
                    opened(model, checkpoint), output, executor=workers if workers is not None else scheduler,
                    stop_after=limit, progress=teller, **options,
                )  # fmt: skip
        except KeyboardInterrupt as stopped:
            more = " --force" if force and not teller.planned else ""
            print(f"{line(stopped) or 'stopped'}. Go on with: {line(again)}{more}", file=sys.stderr)
            raise typer.Exit(STOPPED) from None
        _end(atlas, teller, again, quiet or as_json)


def _command(model: str, output: str, **options: Any) -> str:
    """What goes on with a build, as this one was called; what it had made is not made again."""
    words = [program(), "build", model, "-o", output]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if one is None else [f"--{name}", str(one)]
    return shlex.join(words)


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """Without what dask logs: the end of a scheduler is many lines there, and one of ours."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class _Events(Silent):
    """Events as lines of JSON."""

    def __call__(self, event: Any) -> None:
        super().__call__(event)
        if event.event != "step":
            print(json.dumps(strict(event.to_dict()), allow_nan=False), flush=True)


def _end(atlas: Any, teller: Any, again: str, quiet: bool) -> None:
    """What there is now, what is left, and how to go on."""
    failures = atlas.manifest["failures"]
    if not quiet:
        print(f"{line(repr(atlas))} in {line(atlas.where)}, {size(teller.last.get('bytes', 0))}")
    for failure in failures:
        units = f" (units {', '.join(map(str, failure['units']))})" if failure["units"] else ""
        print(f"failed: {line(failure['job'])}{units}: {line(failure['error'])}", file=sys.stderr)
    left = teller.last.get("left", 0)
    if left and not quiet:
        print(f"{left} jobs are left. Go on with: {line(again)}")
    if failures:
        raise typer.Exit(INCOMPLETE)


def _estimate(net: Any, output: str, options: dict[str, Any], as_json: bool) -> None:
    found = wa.estimate_build(net, output, **options)
    if as_json:
        about = {"jobs": found.jobs[0], "of": found.jobs[1], "counts": dict(found.counts), "bytes": found.weights_bytes,
                 "seconds": dict(found.seconds), "total": found.total, "left_out": found.left_out,
                 "notes": found.notes, "failures": found.failures}  # fmt: skip
        print(json.dumps(strict(about), indent=1, allow_nan=False))
        return
    print(f"{found.jobs[0]} of {found.jobs[1]} jobs are missing; weights take {size(found.weights_bytes)}")
    for name, count in found.counts.items():
        seconds = found.seconds[name]
        print(f"  {name:18} {count:6}  {duration(seconds) if seconds == seconds else 'not estimated'}")
    if found.jobs[0]:
        print(f"about {duration(found.total)} on this machine in one process, from short runs of each layer")
    for words in (*(f"left out for the budget: {p}" for p in found.left_out), *found.notes):
        print(f"note: {line(words)}")
    for failure in found.failures:
        print(f"cannot be made: {line(failure)}")


def joined(values: list[str] | None) -> list[str] | None:
    """Words that were repeated or joined by commas."""
    return None if values is None else [w.strip() for v in values for w in v.split(",") if w.strip()]


def _pairs(values: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for value in values or ():
        source, comma, target = value.partition(",")
        if not comma or not source.strip() or not target.strip() or "," in target:
            raise ArgumentError(f"--pair {value!r} is not SOURCE,TARGET such as blocks.2.1,blocks.4.1")
        found.append((source.strip(), target.strip()))
    return found


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``5min`` or ``1.5h``.

    Raises:
        ArgumentError: for anything else.

    Example:
        >>> parse_duration("90s"), parse_duration("1.5h")
        (90.0, 5400.0)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _SECONDS:
        raise ArgumentError(f"time {text!r} is not like 90s, 5min or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def check(
    folder: Annotated[str, typer.Argument(help="folder or URL of an atlas", metavar="DIR")],
    repair: Annotated[bool, typer.Option("--repair", help="remove what is broken, for a build to make again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the report as JSON")] = False,
) -> None:
    """Verify every file of an atlas: checksums, shapes, pictures, completeness."""
    with told():
        report = wa.check_atlas(folder, repair=repair)
        if as_json:
            about = {"files": report.files, "bytes": report.bytes, "removed": report.removed, "foreign": report.foreign,
                     "problems": [{"path": p.path, "what": p.what} for p in report.problems]}  # fmt: skip
            print(json.dumps(about, indent=1))
        else:
            print(f"{report.files} files, {size(report.bytes)}: {'all is well' if report.whole else 'damaged'}")
            for problem in report.problems:
                print(f"  {line(problem)}")
            for path in report.foreign:
                print(f"  {line(path)}: none of an atlas's files, left alone")
            if report.removed:
                count = f"{len(report.removed)} file{'s' * (len(report.removed) != 1)}"
                print(f"removed {count}; `weightatlas build MODEL -o {line(folder)}` makes what is missing")
            elif not report.whole:
                print("--repair removes what is broken, and a build makes it again")
        if not report.whole:
            raise typer.Exit(INCOMPLETE)
