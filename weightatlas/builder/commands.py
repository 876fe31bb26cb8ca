"""What makes a figure again, for readers to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..featurevis import Recipe
from ..models import RANDOM
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
    opened = _opened(net)
    if opened is None or isinstance(options.get("recipe"), Recipe):
        named = [_loaded(opened), repr(kind), *([repr(target)] if target is not None else [])]
        given = [f"{name}={_python(name, value)}" for name, value in options.items()]
        return f"wa.figure({', '.join([*named, *given])}).save({file!r})"
    source, weights = opened
    names = [source, *([target] if target is not None else [])]
    flags = FLAGS if OWN.get(kind) == "expand" else {}
    if flags:
        options = {"source": options["source"], "to": target, **options}
        names = names[:1]
    words = [] if weights is None else ["--weights", weights]
    words += [word for image in _paths(options.get("images")) for word in ("--images", image)]
    for name, value in options.items():
        if name == "images":
            continue
        flag = flags.get(name, name).replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", _shell(value)]
    words += ["-o", file]
    words = [*words, "--", *names] if any(n.startswith("-") for n in names) else [*names, *words]
    return shlex.join(["weightatlas", *([OWN[kind]] if kind in OWN else ["figure", kind]), *words])


def _opened(net: Network) -> tuple[str, str | None] | None:
    """What opens a network again, as one would write it here: its source, and a file of weights if that was named.

    ``None`` for a module of one's own, and for a network whose input was changed.
    """
    if net.origin is None:
        return None if net.module is not None else (net.name, None)
    source, weights = net.origin
    return source, weights if weights is None or weights == RANDOM else _from_here(weights)


def _from_here(path: str) -> str:
    """A path as one would type it: without the folder one is in."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _loaded(opened: tuple[str, str | None] | None) -> str:
    """The network as Python opens it, or the name that stands for it."""
    if opened is None:
        return "net"
    source, weights = opened
    return f"wa.load({source!r})" if weights is None else f"wa.load({source!r}, weights={weights!r})"


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
