"""Writes TensorFlow graphs byte by byte, for tests of what reads them; nothing of the package is used."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np

TYPES = {"float32": 1, "float64": 2, "int32": 3, "float16": 19}
BFLOAT16, STRING = 14, 7


def number(value: int) -> bytes:
    """Seven bits in a byte, lowest first; negative ones as 64 bits."""
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(index: int, value: int | float | bytes | str) -> bytes:
    """One field: whole numbers as varints, floats in four bytes, the rest with its length before it."""
    if isinstance(value, float):
        return number(index << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return number(index << 3) + number(value)
    value = value.encode() if isinstance(value, str) else value
    return number(index << 3 | 2) + number(len(value)) + value


def shape(sizes: Iterable[int]) -> bytes:
    """A shape; its axes have names too, which readers pass over."""
    return b"".join(field(2, field(2, "axis") + field(1, size)) for size in sizes)


def tensor(array: np.ndarray, form: str = "content", kind: int = 0, sizes: Iterable[int] | None = None) -> bytes:
    """A tensor of an array.

    Args:
        array: float32, float64, float16 or int32.
        form: ``"content"`` for raw bytes, ``"packed"`` or ``"apart"`` for a list of values.
        kind: number of the type, if it is not that of the array.
        sizes: what to write as shape, if it is not that of the array.
    """
    head = field(1, kind or TYPES[array.dtype.name]) + field(2, shape(array.shape if sizes is None else sizes))
    if form == "content":
        return head + field(4, array.tobytes())
    index = {"float32": 5, "float64": 6, "float16": 13, "int32": 7}[array.dtype.name]
    if array.dtype.name in ("float16", "int32"):
        values = [number(int(v)) for v in array.reshape(-1).view("u2" if array.dtype.itemsize == 2 else "i4")]
        return head + (
            field(index, b"".join(values)) if form == "packed" else b"".join(number(index << 3) + v for v in values)
        )
    if form == "packed":
        return head + field(index, array.tobytes())
    wide = array.reshape(-1).view(np.uint8).reshape(array.size, -1)
    tag = np.full((array.size, 1), index << 3 | (5 if array.dtype.itemsize == 4 else 1), np.uint8)
    return head + np.hstack([tag, wide]).tobytes()


def node(name: str, operator: str, inputs: Iterable[str] = (), attributes: Mapping[str, bytes] | None = None) -> bytes:
    """A node of a graph."""
    made = field(1, name) + field(2, operator) + b"".join(field(3, i) for i in inputs)
    for key, value in (attributes or {}).items():
        made += field(5, field(1, key) + field(2, value))
    return field(1, made)


def constant(name: str, value: bytes, kind: int = 1, type_first: bool = True) -> bytes:
    """A constant node; maps have no order, so its two attributes come in either."""
    attributes = {"dtype": field(6, kind), "value": field(8, value)}
    return node(name, "Const", (), attributes if type_first else dict(reversed(attributes.items())))
