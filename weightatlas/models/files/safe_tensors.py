"""Files of safetensors: a length, a header in JSON, and the values, with nothing that could run."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import LoadError
from .memory import amount, require_memory

#: Bytes of a header; the library takes no more either.
MOST_HEADER = 100_000_000


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, copied, so that the file may be replaced while they are in use.

    Raises:
        LoadError: for a damaged file, one with two tensors of the same name, or more than there is memory for.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header, room = _header(path)
    total = sum(_bytes(path, name, entry, room) for name, entry in header.items())
    _check_places(path, header, room)
    require_memory(path, total, f"reading its {len(header)} tensor{'' if len(header) == 1 else 's'}")
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: {error}"[:400]) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the library's Rust, and not an Exception
            raise
        raise LoadError(f"{path} is not a readable safetensors file: its header cannot be") from error
    return {name: tensor.clone() for name, tensor in found.items()}


def _check_places(path: Path, header: dict[str, Any], room: int) -> None:
    """The tensors follow one another through the whole file; the library's own words differ from run to run."""
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != at:
            how = "overlaps the one before it" if begin < at else "leaves a gap before it"
            raise LoadError(f"{path} is not a readable safetensors file: the tensor {name[:80]!r} {how}")
        at = end
    if at != room:
        raise LoadError(
            f"{path} is not a readable safetensors file: its tensors end {amount(room - at)} before its end; something "
            "was appended, or its header is damaged"
        )


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header without its metadata, and the bytes that follow it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > min(size - 8, MOST_HEADER):
            raise LoadError(
                f"{path} is not a readable safetensors file, or it is truncated: its header is said to have "
                f"{amount(length)}, the file has {amount(size)}, and no header has more than 100 MB"
            )
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: its header is damaged ({error})"[:400]) from error
    if not isinstance(entries, dict):
        raise LoadError(f"{path} is not a readable safetensors file: its header is no list of tensors")
    entries.pop("__metadata__", None)
    return entries, size - 8 - length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of pairs that share no name."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"two entries are named {twice[:60]!r}")
    return entries


def _bytes(path: Path, name: str, entry: Any, room: int) -> int:
    """The bytes of a tensor by its place in the file, which the library holds against its shape."""
    try:
        begin, end = entry["data_offsets"]
        shape = entry["shape"]
        whole = all(type(n) is int and n >= 0 for n in (begin, end, *shape))
    except (TypeError, KeyError, ValueError):
        whole, begin, end, shape = False, 0, 0, []
    if not whole or end < begin or len(shape) > 64 or math.prod(n for n in shape if n) > 2**62:
        raise LoadError(
            f"{path} is not a readable safetensors file: the tensor {name[:80]!r} has a shape or a place that cannot be"
        )
    if end > room:
        raise LoadError(
            f"{path} is truncated: its tensor {name[:80]!r} of shape {tuple(shape[:8])} ends {amount(end)} behind the "
            f"header, and the file {amount(room)}. Download or save it again"
        )
    return end - begin
