"""The commands ``open`` and ``export``: the explorer of an atlas, served or as a folder of files."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import weightatlas as wa

from ..errors import ArgumentError
from .building import Images, Layers, Recipes, joined
from .progressing import size
from .telling import Weights, line, program, told

#: Either of these tells an atlas.
MARKS = ("atlas.json", "model.json")
#: Without one of these there is no screen to open a browser on, where screens are named so.
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_explorer(
    source: Annotated[
        str, typer.Argument(help="network, as for build; or folder or URL of an atlas", metavar="MODEL|DIR")
    ],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="folder of the network's atlas (default: MODEL-atlas)")
    ] = None,
    images: Images = None,
    layers: Layers = None,
    recipes: Recipes = None,
    port: Annotated[int | None, typer.Option(help="to listen at (default: 8420, or the next that is free)")] = None,
    host: Annotated[str, typer.Option(help="address to listen at; the default is for this machine")] = "127.0.0.1",
    allow_host: Annotated[list[str] | None, typer.Option(help="name by which others reach it; repeat for more")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="print the address and open nothing")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="show what is there and compute nothing")] = False,
    checkpoint: Weights = None,
) -> None:
    """Open the explorer of a network or an atlas; what is missing is computed while you read. Ctrl-C ends it."""
    with told():
        path, model = _place(source, output, checkpoint)
        if model is not None:
            print(f"the atlas of {line(model)} lies in {line(path)}", file=sys.stderr)
        shown = _Shown()
        try:
            wa.serve(
                path, model=model, weights=checkpoint, images=images, layers=joined(layers), recipes=joined(recipes),
                build=not no_build, host=host, port=port, allow_hosts=allow_host or (), ready=shown.ready,
                browser=not no_browser and _has_screen(), progress=shown,
            )  # fmt: skip
        finally:
            shown.clear()
        words = [path] if model is None or ":" not in model else [model, "-o", path]  # which may be a folder's path
        words += [] if checkpoint is None else ["--weights", checkpoint]
        again = "shows again what is there" if shown.idle and not no_build else "goes on"
        print(f"ended; {program()} open {line(shlex.join(words))} {again}", file=sys.stderr)


def _place(source: str, output: str | None, weights: str | None) -> tuple[str, str | None]:
    """Where the atlas is, and the network's name where it is not the atlas that tells it."""
    if "://" in source or any((Path(source) / mark).is_file() for mark in MARKS):
        if output is not None:
            raise ArgumentError(f"{source!r} is an atlas, and -o names another; -o goes with a network's name")
        return source, None
    folder = Path(source)
    if output is None and folder.is_dir() and (folder.is_absolute() or len(folder.parts) != 1):
        raise ArgumentError(f"{source!r} is no atlas: it has no atlas.json (weightatlas open MODEL -o {source})")
    return (_folder_of(source, weights) if output is None else output), source


def _folder_of(source: str, weights: str | None) -> str:
    """A folder's name for the atlas of a network, of characters that every file system takes.

    Example:
        >>> _folder_of("timm:resnet18", None), _folder_of("hf:microsoft/resnet-18", "runs/my last.pth")
        ('timm-resnet18-atlas', 'hf-resnet-18-my-last-atlas')
    """
    library, colon, rest = source.partition(":")
    name = os.path.basename(os.path.abspath(rest if colon else source))
    words = [library if colon else "", name, "" if weights is None else Path(weights).stem]
    return re.sub(r"[^\w.-]+", "-", "-".join(filter(None, words))).lstrip(".-") + "-atlas"


def _has_screen() -> bool:
    """Whether a browser would be seen by whoever called this."""
    return sys.stdout.isatty() and (sys.platform in ("darwin", "win32") or any(map(os.environ.get, SCREENS)))


class _Shown:
    """One line on a terminal, written anew as the builder goes on; elsewhere only when something begins or ends."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    @property
    def idle(self) -> bool:
        """Whether nothing could be computed from the beginning."""
        return self._last == "none"

    def ready(self, address: str) -> None:
        """Prints where the explorer is."""
        self.clear()
        print(address, flush=True)

    def __call__(self, state: dict[str, Any]) -> None:
        """Takes the builder's state."""
        about = f": {line(state['about'])}" if state["about"] else ""
        if self._terminal:
            count = f" {state['done']} of {state['of']} jobs" if state["of"] else ""
            words = f"{state['builder']}{count}{about}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
        elif state["builder"] in ("none", "failed") and state["builder"] != self._last:
            print(f"nothing can be computed{about}", file=sys.stderr)
        self._last = state["builder"]

    def clear(self) -> None:
        """Leaves the terminal an empty line."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def export(
    folder: Annotated[str, typer.Argument(help="folder or URL of an atlas", metavar="DIR")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder of the site; one made before is updated")],
) -> None:
    """Export the explorer of an atlas as a folder of files, for any static host."""
    with told():
        made = wa.export_site(folder, output)
        print(f"{line(output)}: {made.files} files, {size(made.bytes)}; {made.written} written, {made.removed} removed")
        print(f"look at it with: python -m http.server -d {line(output)}")
