"""``available_models``: which networks can be opened by name, and what of them is on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from ..errors import ArgumentError, LoadError, MissingPackageError, UnknownNameError, unknown_name
from ..records import AvailableModel, ModelTable
from . import ADAPTERS, FAMILIES, model_spec
from .downloads.caching import cache_folder

#: Per prefix: the library that it needs, what its networks are, and the form of their names.
LIBRARIES = {
    "timm": ("timm", "PyTorch Image Models, weights from the Hugging Face hub", "timm:NAME"),
    "torchvision": ("torchvision", "torchvision's networks, weights from download.pytorch.org", "torchvision:NAME"),
    "hf": ("transformers", "transformers' vision models, from the Hugging Face hub or a folder", "hf:REPOSITORY"),
    "onnx": ("onnx", "ONNX files: their weights, no network that runs", "onnx:FILE"),
}
#: Kinds of files that hold weights alone.
FILES = {
    "FILE.safetensors": "tensors by name; they are its layers",
    "FILE.pth, .pt, .bin, .ckpt": "a state dict that torch.save wrote, opened without running any code",
}
GLOB = "*?["


def available_models(pattern: str | None = None) -> ModelTable:
    """The networks that :func:`weightatlas.load` opens by name; asks no network.

    Args:
        pattern: names to list, with ``*``, ``?`` and ``[…]`` as in a shell and either case: ``"inception*"``; behind a
            prefix the names of that library, ``"timm:resnet*"``, ``"torchvision:*"``, or ``"hf:*"`` for what the
            Hugging Face cache on this machine holds. Without one: our own networks, the libraries, the kinds of files.

    Returns:
        A :class:`ModelTable`: per network its source, size, licence and where its weights are on this machine.

    Raises:
        UnknownNameError: if nothing has such a name, with the nearest.
        MissingPackageError: if the library that was asked for is missing or broken, with the command that installs it.
        ArgumentError: for a pattern that is not text, or ``onnx:``, which has no list of names.

    Example:
        >>> available_models("efficient*")["efficientnet_lite0"].license
        'Apache-2.0'
    """
    if pattern is not None and not isinstance(pattern, str):
        raise ArgumentError(f"available_models takes a pattern like 'timm:resnet*', not a {type(pattern).__name__}")
    notes: list[str] = []
    try:
        cache = str(cache_folder())
    except LoadError as error:
        cache = ""
        notes.append(str(error))
    if not pattern:
        return ModelTable([*_own(FAMILIES), *_libraries(), *_files()], cache, None, tuple(notes))
    prefix, colon, rest = pattern.partition(":")
    if colon and rest:
        rows, more = _of_libraries(prefix, rest)
        return ModelTable(rows, cache, pattern, (*notes, *more))
    names = [name for name in FAMILIES if matches(name, pattern)]
    libraries = [row for row in _libraries() if matches(row.name.partition(":")[0], pattern.rstrip(":"))]
    if not names and not libraries:
        raise unknown_name(
            "model", pattern, [*FAMILIES, *(f"{p}:" for p in ADAPTERS)], hint=f"{_forms()} list a library's networks"
        )
    return ModelTable([*_own(names), *libraries], cache, pattern, tuple(notes))


def matches(name: str, pattern: str) -> bool:
    """Whether a name is meant by a pattern; upper and lower case are one.

    Example:
        >>> matches("resnet18", "ResNet*"), matches("resnet18", "resnet")
        (True, False)
    """
    return fnmatchcase(name.casefold(), pattern.casefold())


def _of_libraries(prefix: str, pattern: str) -> tuple[list[AvailableModel], list[str]]:
    """The networks of every library whose prefix is meant; one that is named must be there."""
    from .adapters.listing import list_networks

    if prefix in ADAPTERS:
        return list_networks(prefix, pattern)
    prefixes = [p for p in ADAPTERS if p != "onnx" and any(c in prefix for c in GLOB) and matches(p, prefix)]
    if not prefixes:
        raise unknown_name("library", prefix, ADAPTERS, hint=f"{_forms()} list a library's networks")
    rows: list[AvailableModel] = []
    notes: list[str] = []
    for each in prefixes:
        try:
            found, more = list_networks(each, pattern)
        except (MissingPackageError, UnknownNameError) as error:
            notes.append(str(error))
            continue
        rows += found
        notes += more
    if not rows:
        raise UnknownNameError(f"no library has a network {pattern!r}: {'; '.join(notes)}")
    return rows, notes


def _own(names: Iterable[str]) -> Iterator[AvailableModel]:
    """Our own networks."""
    for name in names:
        spec = model_spec(name)
        note = ""
        try:
            found = spec.find_here()
        except LoadError as error:
            found, note = None, str(error)
        size = found.stat().st_size if found else spec.size
        if found is None and not note:
            note = spec.brings
        yield AvailableModel(
            name, "network", spec.source, size, None, spec.license, found is not None, str(found or ""), note
        )


def _libraries() -> Iterator[AvailableModel]:
    """One row per library; none is imported, so one that is installed and does not load shows when it is asked for."""
    from .adapters.importing import DISTRIBUTIONS, installed

    for prefix, (library, source, form) in LIBRARIES.items():
        version = installed(library)
        package = DISTRIBUTIONS.get(library, library)
        lists = f"weightatlas models '{prefix}:*' lists them" if prefix != "onnx" else ""
        note = lists if version else f"pip install {package}"
        where = f"{package} {version}" if version else ""
        yield AvailableModel(form, "library", source, ready=bool(version), where=where, note=note)


def _files() -> Iterator[AvailableModel]:
    for form, source in FILES.items():
        yield AvailableModel(form, "file", source, ready=True)


def _forms() -> str:
    return " and ".join(f"weightatlas models '{prefix}:*'" for prefix in ADAPTERS if prefix != "onnx")
