"""Weight files without their architecture: safetensors, and pickles that may hold nothing but tensors."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import LoadError
from . import archives, pickles, sharded, sniffing
from .readable import plain_numbers
from .safe_tensors import read_safetensors
from .sniffing import SUFFIXES as SUFFIXES
from .unwrapping import unwrap

#: What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.")
_LONGEST = 300  # characters of a path in a message
#: What is said of files that are sorted by name.
BY_NAME = "layers are in order of their names; the file does not tell the order of execution"


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors.

    Args:
        tensors: by name, in the file's order.
        notes: what was unwrapped or skipped, one sentence each.
        file: its name and SHA-256, ``"NAME sha256:HEX"``; empty if there are several.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    file: str = ""

    @property
    def kept_notes(self) -> tuple[str, ...]:
        """The notes that still hold for a module with these tensors, which has an order of its own."""
        return tuple(note for note in self.notes if note != BY_NAME)


def file_hash(path: Path) -> str:
    """The name and SHA-256 of a file as provenance tells them, ``"NAME sha256:HEX"``."""
    with path.open("rb") as content:
        return f"{path.name} sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a weight file, on the CPU, without running any code from it.

    The content decides what a file is, its name is a hint. Nothing is allocated before the sizes that the file tells
    were held against what is there of it and against the free memory.

    Args:
        path: safetensors, the index of safetensors in several files, or what ``torch.save`` wrote: a state dict,
            plain or nested under a usual key.

    Returns:
        Tensors of real or whole numbers, strided and on the CPU. Quantised, sparse and 8-bit floating-point ones are
        turned into float32, and a note says so.

    Raises:
        LoadError: for a missing, damaged or foreign file, one whose pickle wants more than tensors, or one that there
            is no memory for.
    """
    check_place(path)
    kind = sniffing.kind_of(path)
    if kind == "index":
        tensors, notes = sharded.read_shards(path, _read)
        return Checkpoint(*_readable(path, tensors, notes), file_hash(path))
    content = _read(path)
    tensors, notes = unwrap(content, path)
    tensors, notes = _readable(path, tensors, notes)
    if kind == "safetensors":  # such files are sorted by name as text: put 10 after 9
        tensors = dict(sorted(tensors.items(), key=lambda item: _natural(item[0])))
        notes += (BY_NAME,)
    if (kind == "safetensors") != (path.suffix == ".safetensors"):
        what = "a safetensors file" if kind == "safetensors" else "what torch.save writes"
        if kind == "safetensors" or path.suffix == ".safetensors":
            notes += (f"{path.name!r} is {what} by its content and was read as that, whatever its name says",)
    return Checkpoint(tensors, notes, file_hash(path))


def check_place(path: Path) -> None:
    """Refuses a path that is no file.

    Raises:
        LoadError: with what it is instead.
    """
    if os.path.isfile(path):  # unlike Path's own, False for a name that cannot be
        return
    if os.path.isdir(path):
        files = sorted(p.name for p in path.iterdir() if p.is_file() and p.name.endswith((*SUFFIXES, ".index.json")))
        inside = f"give a file of it ({', '.join(map(repr, files[:3]))})" if files else "give a file of weights"
        hub = f", or 'hf:{path}' for a model of transformers" if (path / "config.json").is_file() else ""
        raise LoadError(f"{path} is not a file but a folder; {inside}{hub}")
    exists = os.path.exists(path)
    raise LoadError(f"{path} is not a file but a device or a pipe" if exists else f"there is no file {_short(path)}")


def _short(path: Path) -> str:
    text = str(path)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]} ({len(text):,} characters)"


def _read(path: Path) -> Any:
    """Whatever a file holds, by its content."""
    kind = sniffing.kind_of(path)
    if kind == "safetensors":
        return read_safetensors(path)
    if kind == "legacy":
        return pickles.read_legacy(path)
    if kind == "zip":
        archive = archives.look_into(path)
        if f"{archive.prefix}data.pkl" not in archive.sizes or f"{archive.prefix}constants.pkl" in archive.sizes:
            raise sniffing.foreign_archive(path, archive.sizes)
        return pickles.read_zip(archive)
    if kind == "pickle":
        raise pickles.refuse_pickle(path)
    raise LoadError(f"{path} is the index of a checkpoint, where one of its files was expected")


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    # as text where a number has more digits than any layer: turning thousands into an int takes long
    return [(0, int(p), "") if p.isdecimal() and len(p) < 20 else (1, 0, p) for p in parts if p]


def _readable(path: Path, tensors: dict[str, Tensor], notes: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple]:
    empty = [k for k, v in tensors.items() if v.is_meta]
    if empty:
        raise LoadError(f"{path} holds tensors without values, from the meta device: {', '.join(empty[:3])}")
    tensors, more = plain_numbers(tensors, path)
    notes += more
    while shared := [p for p in PREFIXES if all(k.startswith(p) and k != p for k in tensors)]:
        tensors = {k.removeprefix(shared[0]): v for k, v in tensors.items()}
        notes += (f"the prefix {shared[0]!r} was taken off every name",)
    return tensors, notes
