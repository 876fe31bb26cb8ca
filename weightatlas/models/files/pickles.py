"""Pickles of tensors, zipped or in one piece: followed first, read only if nothing but tensors comes of it."""

from __future__ import annotations

import contextlib
import math
import mmap
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import _utils

from ...errors import LoadError
from .archives import Archive
from .memory import amount, require_memory
from .opcodes import Content, follow
from .planned import OddPickleError, Planned, Tables
from .refusing import foreign_code, named, odd_opcodes

#: Bytes of the pickle inside an archive; that of a state dict has some hundred a tensor.
MOST_PICKLE = 2**26
#: Bytes that a storage takes in a file from before 1.6, with its descriptions.
LEAST_LEGACY = 100
#: Bytes that tensors which use the same stored values again and again may stand for.
MOST_REPEATED = 2**28
#: What the files of ``torch.save`` before 1.6 begin with, as a pickled number.
MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_zip(archive: Archive) -> Any:
    """What ``torch.save`` wrote into an archive.

    Raises:
        LoadError: if it is damaged, asks for more memory than there is, or holds more than tensors.
    """
    path, prefix = archive.path, archive.prefix
    size = archive.sizes[f"{prefix}data.pkl"]
    if size > MOST_PICKLE:
        raise LoadError(f"{path} holds a pickle of {amount(size)} beside its tensors, and at most 64 MiB are read")
    with _told(path):
        content = follow(archive.read(f"{prefix}data.pkl"), allowed=_allowed(), storages=len(archive.sizes))
    _check_content(path, content)
    for key, stored in content.tables.storages.items():
        there = archive.sizes.get(f"{prefix}data/{key}")
        if there != stored.size:
            has = "it is missing" if there is None else f"it has {amount(there)}"
            raise LoadError(
                f"{path} is damaged: its storage {key[:40]!r} of {amount(stored.size)} is not there: {has}. "
                "Download or save it again"
            )
    _check_tensors(path, content)
    return _load(path, content)


def read_legacy(path: Path) -> Any:
    """What ``torch.save`` wrote before 1.6: five pickles and the storages after them, in one piece.

    Raises:
        LoadError: if it is damaged, asks for more memory than there is, or holds more than tensors.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view, _told(path):
        heads = [follow(view).top, follow(view).top]
        if heads != [MAGIC, _PROTOCOL]:
            raise OddPickleError("does not begin as a file of torch.save does")
        follow(view)  # of the machine that it was written on
        room = len(view) // LEAST_LEGACY
        content = follow(view, allowed=_allowed(), storages=room)
        _check_content(path, content)
        keys = follow(view, content.tables, storages=room).top
        if not isinstance(keys, list) or set(map(str, keys)) != set(content.tables.storages):
            raise OddPickleError("does not list the storages that it uses")
        at = view.tell()
        for key in keys:
            stored = content.tables.storages[str(key)]
            count = view[at : at + 8]
            at += 8 + stored.size
            if at > len(view):
                raise LoadError(
                    f"{path} is truncated: its storage {str(key)[:40]!r} takes {amount(stored.size)}, and the file "
                    f"ends {amount(at - len(view))} too early. Download or save it again"
                )
            if struct.unpack("<q", count)[0] != stored.count:
                raise OddPickleError("is damaged: a storage has another size than its description")
    _check_tensors(path, content)
    return _load(path, content)


def refuse_pickle(path: Path) -> LoadError:
    """What to say of a pickle that ``torch.save`` did not write."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            foreign = follow(view).foreign if len(view) <= MOST_PICKLE else {}
    except OddPickleError as error:
        return LoadError(f"{path} is not a readable PyTorch file: it begins as a pickle and {error}")
    wants = f" and wants to run {named(foreign)}" if foreign else ""
    return LoadError(
        f"{path} is a pickle that torch.save did not write{wants}; only plain tensors are read, because a pickle can "
        f"run any code. If you trust whoever made it: import pickle, torch; content = pickle.load(open({path.name!r}, "
        "'rb')); torch.save({name: torch.as_tensor(values) for name, values in content.items()}, 'weights.pth')"
    )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says of which file a pickle is odd."""
    try:
        yield
    except OddPickleError as error:
        raise LoadError(
            f"{path} is not a readable PyTorch file: its pickle {error}. Save a state dict with torch.save again, or "
            "give a .safetensors file"
        ) from error


def _allowed() -> frozenset[str]:
    """What the user has allowed by ``torch.serialization.add_safe_globals``."""
    return frozenset(
        known[1] if isinstance(known, tuple) else f"{known.__module__}.{known.__qualname__}"
        for known in torch.serialization.get_safe_globals()
    )


def _check_content(path: Path, content: Content) -> None:
    """Nothing but tensors, in the opcodes that the safe reader knows."""
    if content.foreign:
        raise foreign_code(path, content)
    if content.unread:
        raise odd_opcodes(path, content)


def _check_tensors(path: Path, content: Content) -> None:
    """Every tensor lies within its storage, and all of them in the memory there is."""
    tables = content.tables
    for tensor in tables.tensors:
        if tensor.fault:
            raise LoadError(
                f"{path}: the tensor {_place(content, tensor)} of shape {_shape(tensor)} {tensor.fault}; "
                "the file is damaged, or made to do harm"
            )
        # values that a stride of 0 repeats are laid out one by one as soon as they are used
        held = tensor.storage.size if tensor.storage else 0
        if tensor.form == "sparse":
            require_memory(
                path, _as_float(tensor), f"the sparse tensor {_place(content, tensor)} of shape {_shape(tensor)}"
            )
        if tensor.form not in ("meta", "sparse") and tensor.size > max(MOST_REPEATED, held):
            require_memory(path, tensor.size, f"the tensor {_place(content, tensor)} of shape {_shape(tensor)}")
            raise LoadError(
                f"{path}: the tensor {_place(content, tensor)} of shape {_shape(tensor)} repeats {amount(held)} until "
                f"they are {amount(tensor.size)}; at most {amount(MOST_REPEATED)} are read in that way"
            )
    stored = sum(s.size for s in tables.storages.values())
    count = len(tables.tensors)
    require_memory(path, stored + _widened(tables), f"reading its {count} tensor{'' if count == 1 else 's'}")


def _widened(tables: Tables) -> int:
    """Bytes of the float32 numbers that quantised and sparse values become."""
    return sum(_as_float(t) for t in tables.tensors if t.form in ("quantised", "sparse"))


def _as_float(tensor: Planned) -> int:
    return math.prod(tensor.shape) * 4


def _shape(tensor: Planned) -> str:
    return str(tensor.shape) if len(tensor.shape) <= 8 else f"({', '.join(map(str, tensor.shape[:8]))}, …)"


def _place(content: Content, tensor: Planned) -> str:
    """The name of a tensor in what the pickle makes."""
    waiting: list[tuple[str, Any]] = [("", content.top)]
    seen: set[int] = set()
    while waiting:
        name, found = waiting.pop()
        if found is tensor or (isinstance(found, Planned) and tensor in found.parts):
            return repr(name[-80:] or "alone")
        if id(found) in seen or not isinstance(found, dict | list | tuple):
            continue
        seen.add(id(found))
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        waiting += [(f"{name}.{str(k)[:80]}".lstrip("."), v) for k, v in pairs]
    return "that it does not use"


def _load(path: Path, content: Content) -> Any:
    sparse = any(t.form == "sparse" for t in content.tables.tensors)
    check = torch.sparse.check_sparse_tensor_invariants() if sparse else contextlib.nullcontext()
    try:
        with warnings.catch_warnings(), check:  # positions outside of a sparse tensor would be written there
            warnings.simplefilter("ignore")  # about old protocols and archives, in words that are not for our users
            with path.open("rb") as file:  # a path that ends in .safetensors would be read as that
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler stumble in any way it likes
        # what torch noted to check would else be checked with the next file
        getattr(_utils, "_sparse_tensors_to_validate", []).clear()
        # torch's own words advise to turn the safety off, so the kind of error must do
        raise LoadError(
            f"{path} is not a readable PyTorch file, or it is damaged ({type(error).__name__}); save a state dict "
            "with torch.save again, or give a .safetensors file"
        ) from error
