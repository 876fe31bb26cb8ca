"""Weight files without their architecture: safetensors, and pickles that may hold nothing but tensors."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import LoadError

SUFFIXES = (".safetensors", ".pth", ".pt")
#: Where training scripts put the weights inside a checkpoint, most specific first.
NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
#: What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors.

    Args:
        tensors: by name, in the file's order.
        notes: what was unwrapped or skipped, one sentence each.
        file: its name and SHA-256, ``"NAME sha256:HEX"``.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    file: str = ""


def file_hash(path: Path) -> str:
    """The name and SHA-256 of a file as provenance tells them, ``"NAME sha256:HEX"``."""
    with path.open("rb") as content:
        return f"{path.name} sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a weight file, on the CPU, without running any code from it.

    Args:
        path: ``.safetensors``, or ``.pth`` / ``.pt`` holding a state dict, plain or nested under a usual key.

    Raises:
        LoadError: for a missing, damaged or foreign file, or one whose pickle wants more than tensors.
    """
    if not path.is_file():
        raise LoadError(f"there is no file {path}" if not path.exists() else f"{path} is not a file")
    if path.suffix not in SUFFIXES:
        raise LoadError(f"{path.name!r}: weight files end in {', '.join(SUFFIXES)}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    tensors, notes = _unwrap(content, path)
    if path.suffix == ".safetensors":  # such files are sorted by name as text: put 10 after 9
        tensors = dict(sorted(tensors.items(), key=lambda item: _natural(item[0])))
        notes += ("layers are in order of their names; the file does not tell the order of execution",)
    return Checkpoint(tensors, notes, file_hash(path))


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: {error}") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old protocols and archives, in words that are not for our users
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler stumble in any way it likes
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if wanted:
            raise LoadError(
                f"{path} is a pickle that wants to run {wanted[1]}; only plain tensors are read, because a pickle can "
                "run any code. If you trust it, open it yourself and save its state_dict() with torch.save, or give "
                "the module itself to load()"
            ) from error
        # torch's own words advise to turn the safety off, so the kind of error must do
        raise LoadError(
            f"{path} is not a readable PyTorch file, or it is truncated ({type(error).__name__}); save a state dict "
            "with torch.save again, or give a .safetensors file"
        ) from error


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    for _ in range(3):
        if not isinstance(content, dict):
            raise LoadError(f"{path} holds a {type(content).__name__}, not a dict of tensors (a state dict)")
        nested = [k for k in NESTS if isinstance(content.get(k), dict)]
        if any(isinstance(v, Tensor) for v in content.values()) or not nested:
            break
        notes += (f"weights taken from the entry {nested[0]!r}",)
        content = content[nested[0]]
    tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        keys = ", ".join(repr(str(k)) for k in list(content)[:6]) or "nothing"
        raise LoadError(f"{path} holds no tensors; its entries are {keys}. Save a state_dict()")
    empty = [k for k, v in tensors.items() if v.is_meta]
    if empty:
        raise LoadError(f"{path} holds tensors without values, from the meta device: {', '.join(empty[:3])}")
    while shared := [p for p in PREFIXES if all(k.startswith(p) and k != p for k in tensors)]:
        tensors = {k.removeprefix(shared[0]): v for k, v in tensors.items()}
        notes += (f"the prefix {shared[0]!r} was taken off every name",)
    return tensors, notes
