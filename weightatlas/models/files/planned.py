"""Descriptions of the storages and tensors that a pickle would make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Form = Literal["plain", "quantised", "sparse", "meta"]

#: Storages by the name that pickles call them by, and the type of their values.
STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "QInt8": torch.qint8,
    "QUInt8": torch.quint8,
    "QInt32": torch.qint32,
    "QUInt4x2": torch.quint4x2,
    "QUInt2x4": torch.quint2x4,
}
#: What is neither a collection nor a description.
SCALARS = (str, bytes, int, float, complex, bool, type(None))
#: Elements that lists may bring to sets and counters, over a whole file.
MOST_COPIED = 200_000
_LARGEST = 2**62
_MOST_AXES = 64
#: Levels of tuples in a key, and elements of all such keys of a file: a hash goes through every one each time.
_DEEPEST_KEY = 8
MOST_HASHED = 1_000_000
#: Characters and bytes that a file may have turned into each other; the same ones may be named again and again.
MOST_TURNED = 2**26


class OddPickleError(ValueError):
    """A pickle that is damaged, or that no ``torch.save`` writes; says which, as the rest of a sentence."""


@dataclass(frozen=True)
class Named:
    """A function or class that a pickle names."""

    name: str


@dataclass(eq=False)
class Called:
    """Something that a pickle would make, of which only the maker's name matters."""

    by: str
    state: Any = None


@dataclass(frozen=True)
class Stored:
    """A storage: its key in the file, the type and the number of its values."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.count * self.dtype.itemsize


@dataclass(eq=False)
class Planned:
    """A tensor that would be made: numbers of a storage, by shape, stride and offset in values."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    offset: int = 0
    storage: Stored | None = None
    form: Form = "plain"
    parts: tuple[Planned, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its values laid out one by one."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def fault(self) -> str:
        """Why it cannot be, as the rest of a sentence; empty if it can."""
        sizes = [n for n in self.shape if n]
        if len(self.shape) > _MOST_AXES or math.prod(sizes) * self.dtype.itemsize > _LARGEST:
            return "is of a shape that no machine can hold"
        if self.storage is None or 0 in self.shape:
            return ""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if (last + 1) * self.dtype.itemsize > self.storage.size:
            needed, there = (last + 1) * self.dtype.itemsize, self.storage.size
            return f"needs {needed:,} bytes, and the file has {there:,} for it"
        return ""


@dataclass
class Tables:
    """Every storage by its key, and every tensor, that the pickles of a file would make."""

    storages: dict[str, Stored] = field(default_factory=dict)
    tensors: list[Planned] = field(default_factory=list)
    copied: int = 0
    hashed: int = 0
    turned: int = 0

    def store(self, identity: Any) -> Stored:
        """The storage that a pickle refers to."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise OddPickleError("refers to something that is not a storage")
        kind, key, place, count = identity[1:5]
        view = identity[5] if len(identity) == 6 else None
        dtype = storage_type(kind.name) if isinstance(kind, Named) else None
        if dtype is None:
            raise OddPickleError("has a storage of no known type")
        plain = isinstance(key, str) and key.isascii() and isinstance(place, str)
        if not plain or type(count) is not int or not 0 <= count < _LARGEST:
            raise OddPickleError(f"has a storage of {count!r} values"[:100])
        stored = Stored(key, dtype, count)
        if self.storages.setdefault(key, stored) != stored:
            raise OddPickleError(f"describes the storage {key!r} in two ways"[:100])
        return stored if view is None else _viewed(stored, view)

    def plan(self, tensor: Planned) -> Planned:
        """Keeps a tensor's description."""
        self.tensors.append(tensor)
        return tensor

    def check_key(self, key: Any) -> None:
        """Refuses keys whose hash may take any time, or the whole stack of the process."""
        inner = [key]
        for _ in range(_DEEPEST_KEY):
            if not all(isinstance(k, (*SCALARS, Named, Planned, Called, tuple)) for k in inner):
                raise OddPickleError("has a key that is no name or number")
            tuples = [k for k in inner if isinstance(k, tuple)]
            if not tuples:
                return
            self.hashed += sum(map(len, tuples))
            if self.hashed > MOST_HASHED:
                raise OddPickleError(f"has keys of more than {MOST_HASHED:,} elements")
            inner = [k for t in tuples for k in t]
        raise OddPickleError(f"has a key that is no name or number, but tuples within tuples, {_DEEPEST_KEY} deep")

    def turn(self, data: str | bytes) -> None:
        """Counts what is turned from text into bytes, because the same text may be named again and again."""
        self.turned += len(data)
        if self.turned > MOST_TURNED:
            raise OddPickleError(f"turns more than {MOST_TURNED >> 20} MiB of text into bytes")

    def copy(self, items: Any) -> None:
        """Counts what is copied, because the same list may be named again and again."""
        if not isinstance(items, list | dict | set | tuple):
            raise OddPickleError("makes a collection of what is none")
        self.copied += len(items)
        if self.copied > MOST_COPIED:
            raise OddPickleError(f"copies more than {MOST_COPIED:,} elements into sets and dicts")
        for key in items:
            self.check_key(key)


def _viewed(stored: Stored, view: Any) -> Stored:
    """A part of a storage, as PyTorch wrote them before 0.4."""
    if not isinstance(view, tuple) or len(view) != 3 or not whole(view[1:]) or sum(view[1:]) > stored.count:
        raise OddPickleError("has a part of a storage that reaches beyond it")
    return Stored(stored.key, stored.dtype, view[2])


def whole(values: Any) -> bool:
    """Whether these are a tuple of whole numbers that sizes can be."""
    return (
        isinstance(values, tuple)
        and len(values) <= _MOST_AXES
        and all(type(n) is int and 0 <= n < _LARGEST for n in values)
    )


def storage_type(name: str) -> torch.dtype | None:
    """The type of a storage's values by the name of its class; bytes for one without; ``None`` for other classes."""
    base, _, last = name.rpartition(".")
    if base not in ("torch", "torch.storage", "torch.cuda") or not last.endswith("Storage"):
        return None
    return torch.uint8 if last == "UntypedStorage" else STORAGES.get(last.removesuffix("Storage"))
