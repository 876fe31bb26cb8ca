"""What makes a figure again, for readers to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..featurevis import Recipe
from ..models import FAMILIES
from ..network import Network

#: Commands of their own for some kinds of figure, and options that these call otherwise.
OWN = {"connections": "expand", "paths": "expand", "features": "render", "weights": "weights", "banding": "banding"}
FLAGS = {"source": "from", "k": "top"}


def command(net: Network, kind: str, target: str | None, options: Mapping[str, Any], file: str) -> str:
    """The command that makes a figure, or a line of Python where no command can name the network.

    Args:
        net: an open network.
        kind, target, options: as :func:`weightatlas.figure` takes them.
        file: where the figure goes.
    """
    published = net.name in FAMILIES and not any(note.startswith("weights from") for note in net.notes)
    plain = not isinstance(options.get("recipe", ""), Recipe)
    if not plain or (net.module is not None and not published):
        named = [
            f"wa.load({net.name!r})" if published else "net",
            repr(kind),
            *([repr(target)] if target is not None else []),
        ]
        given = [f"{name}={_python(name, value)}" for name, value in options.items()]
        return f"wa.figure({', '.join([*named, *given])}).save({file!r})"
    names = [net.name, *([target] if target is not None else [])]
    flags = FLAGS if OWN.get(kind) == "expand" else {}
    if flags:
        options = {"source": options["source"], "to": target, **options}
        names = names[:1]
    words = [word for image in _paths(options.get("images")) for word in ("--images", image)]
    for name, value in options.items():
        if name == "images":
            continue
        flag = flags.get(name, name).replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", _shell(value)]
    words += ["-o", file]
    words = [*words, "--", *names] if any(n.startswith("-") for n in names) else [*names, *words]
    return shlex.join(["weightatlas", *([OWN[kind]] if kind in OWN else ["figure", kind]), *words])


def _paths(images: Any) -> list[str]:
    """Images as the command line names them; arrays have no name."""
    several = [images] if isinstance(images, str | Path) else images if isinstance(images, list | tuple) else []
    return [str(i) for i in several if isinstance(i, str | Path)]


def _python(name: str, value: Any) -> str:
    """A value as Python writes it, or the name of what it stands for."""
    if name == "images":
        return repr(_paths(value)) if _paths(value) else name
    if isinstance(value, Recipe):
        return f"wa.{value!r}"
    if isinstance(value, np.ndarray | list | tuple):
        return repr([int(v) if hasattr(v, "__index__") else v for v in value])
    return repr(value) if isinstance(value, str | int | float | range | None) else name


def _shell(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, range):
        return f"{value[0]}-{value[-1]}" if value.step == 1 and len(value) else ",".join(map(str, value))
    return ",".join(str(v) for v in value) if isinstance(value, list | tuple | np.ndarray) else str(value)
