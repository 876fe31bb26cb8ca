"""Other people's libraries, imported only when asked for; one that is missing or broken says what to do about it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ...errors import MissingPackageError
from ..quoting import named

#: What pip calls a library where that is not what Python calls it.
DISTRIBUTIONS = {"huggingface_hub": "huggingface-hub"}
#: Libraries whose compiled operators fit one build of torch alone.
COMPILED = ("torchvision",)
#: Characters of another library's words that are repeated.
MOST_WORDS = 160


def library(name: str) -> ModuleType:
    """Another library's module.

    Args:
        name: as in an import statement: ``"timm"``, ``"torchvision.models"``.

    Raises:
        MissingPackageError: if the library is not installed, or is and does not load, with the command that helps.

    Example:
        >>> library("json").__name__
        'json'
    """
    with importing(name):
        return importlib.import_module(name)


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Whatever goes wrong inside is told as a library that does not load; for libraries that import things late.

    Args:
        name: the library's.

    Raises:
        MissingPackageError: for any exception inside.
    """
    try:
        yield
    except MissingPackageError:
        raise
    except Exception as error:  # a library on the wrong build of torch stumbles in any way it likes
        raise MissingPackageError(_what_to_do(name.partition(".")[0], error)) from error


def installed(name: str) -> str:
    """The version of a library that is installed, whether it loads or not; empty if it is not."""
    try:
        return version(DISTRIBUTIONS.get(name, name))
    except PackageNotFoundError:
        return ""


def _what_to_do(name: str, error: Exception) -> str:
    """Why a library does not load, and the command that helps."""
    package = DISTRIBUTIONS.get(name, name)
    missing = [e.name for e in _chain(error) if isinstance(e, ModuleNotFoundError) and e.name]
    if name in missing:
        return f"the package {package} is not installed: pip install {package}"
    lacks = missing[-1].partition(".")[0] if missing else name
    if lacks != name:  # pip brings what an installed package lacks
        return f"{_titled(name)} needs the package {lacks}, which is not installed: pip install {package}"
    culprit = next((n for n in _walked(error) if n in COMPILED), name)
    inside = "" if culprit == name else f", because {_titled(culprit)}, which it imports, does not"
    if culprit in COMPILED:
        what = f"pip install --force-reinstall --no-cache-dir torch {culprit}"
        what += " (both from one index, so that they are of one build)"
    else:
        what = f"pip install --upgrade --force-reinstall --no-deps {package}"
    return (
        f"{_titled(name)} is installed but does not load beside torch {installed('torch')}{inside} "
        f"({named(error, MOST_WORDS)}): {what}"
    )


def _titled(name: str) -> str:
    return f"{name} {installed(name)}".rstrip()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: set[int] = set()
    next_one: BaseException | None = error
    while next_one is not None and id(next_one) not in seen:
        seen.add(id(next_one))
        yield next_one
        next_one = next_one.__cause__ or next_one.__context__


def _walked(error: BaseException) -> Iterator[str]:
    """The packages whose code an error went through, as Python calls them."""
    for link in _chain(error):
        frame = link.__traceback__
        while frame is not None:
            yield frame.tb_frame.f_globals.get("__name__", "").partition(".")[0]
            frame = frame.tb_next
