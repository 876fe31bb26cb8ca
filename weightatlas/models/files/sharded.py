"""A checkpoint in several files, by the index that lists them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import LoadError
from .memory import require_memory

MOST_INDEX = 2**26  # bytes; that of the largest models has some 100 KB


def read_shards(path: Path, read: Callable[[Path], Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of all files of a checkpoint, in the index's order.

    Args:
        path: of the index, ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``.
        read: reads one file.

    Returns:
        The tensors, and a note that says how many files they come from.

    Raises:
        LoadError: for an index that is none, files that are missing or lie elsewhere, and tensors that they lack.
    """
    places = _places(path)
    names = list(dict.fromkeys(places.values()))
    missing = [n for n in names if not (path.parent / n).is_file()]
    if missing:
        raise LoadError(
            f"{path} lists {len(names)} files, of which {len(missing)} are missing beside it ({missing[0]!r}); "
            "download all of them into one folder"
        )
    total = sum((path.parent / n).stat().st_size for n in names)
    require_memory(path, total, f"reading its {len(names)} files")
    found: dict[str, Tensor] = {}
    for name in names:
        content = read(path.parent / name)
        if not isinstance(content, dict):
            raise LoadError(f"{path.parent / name} holds a {type(content).__name__}, not a dict of tensors")
        for key, value in content.items():
            if not isinstance(value, Tensor) or places.get(key) != name:
                raise LoadError(f"{path.parent / name} holds {str(key)[:60]!r}, which {path.name} does not list for it")
            found[key] = value.detach()
    lacking = [k for k in places if k not in found]
    if lacking:
        raise LoadError(f"the files of {path} lack {len(lacking)} of its tensors, first {lacking[0][:60]!r}")
    note = f"{len(found)} tensors from the {len(names)} files that {path.name} lists; the SHA-256 told is the list's"
    return {k: found[k] for k in places}, (note,)


def _places(path: Path) -> dict[str, str]:
    """The file of every tensor, which must lie beside the index."""
    if path.stat().st_size > MOST_INDEX:
        raise LoadError(f"{path} is too large for the index of a checkpoint")
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        pairs = list(places.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(
            f'{path} is JSON, but not the index of a checkpoint: it has no "weight_map" that names a file for every '
            "tensor. Give the file of weights itself"
        ) from error
    for key, name in pairs:
        if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name or "\0" in name:
            raise LoadError(f"{path} wants {str(name)[:60]!r} for {key[:60]!r}, which is no file beside it")
    if not pairs:
        raise LoadError(f"{path} lists no tensors")
    return places
