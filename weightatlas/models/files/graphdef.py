"""The constants of a frozen TensorFlow graph, read from its bytes without TensorFlow.

    GraphDef ── node* ─┬─ name, op                          TensorProto ─┬─ dtype
                       └─ attr* ─┬─ key "value"                          ├─ tensor_shape ── dim* ── size
                                 └─ value ── tensor ──────────┘          └─ tensor_content, or float_val … half_val

Only these messages are opened, level by level, so that nothing a file nests deeper is ever followed. No size that a
file states is believed before it was held against the bytes that are there.

Sources: graph, node_def, attr_value, tensor, tensor_shape and types in tensorflow/core/framework.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import LoadError
from .checkpoint import Checkpoint, check_place, file_hash
from .memory import GIB, memory_free
from .wireformat import BYTES, FIXED32, FIXED64, VARINT, WIDTHS, WireError, chosen, fields, merged, varint

#: Floating-point types by their number in ``DataType``: as they are stored, and as tensors are made of them.
KINDS = {
    1: ("<f4", torch.float32),
    2: ("<f8", torch.float64),
    14: ("<i2", torch.bfloat16),  # NumPy has no such type: its bits
    19: ("<f2", torch.float16),
}
#: The field that lists values one by one, and how: by the number of the type.
LISTED = {1: (5, FIXED32), 2: (6, FIXED64), 14: (13, VARINT), 19: (13, VARINT)}
LARGEST = 2 * GIB  # of a protocol buffer; larger graphs cannot be written
MOST_NODES = 1_000_000
MOST_AXES = 32
MOST_VALUES = 2**40  # of one constant; far above what fits, and far below where products overflow
#: How files begin that are taken for graphs.
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS; download the file that it stands for",
    b"<": "a web page, perhaps of an error, or other XML; download the file again",
    b"PK": "a zip archive",
    b"\x80": "a pickle, such as PyTorch's .pth files",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
}


def read_graph(path: Path) -> Checkpoint:
    """The floating-point constants of a frozen graph by the names of their nodes, in the file's order.

    Args:
        path: a ``GraphDef`` in binary form, usually ``.pb``.

    Returns:
        Tensors as the file has them: its types, and TensorFlow's order of axes (``[H, W, in, out]`` of convolutions).

    Raises:
        LoadError: if the file is missing, too large, damaged, something else, or holds no such constants.
    """
    check_place(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise LoadError(f"{path.name} has {size / GIB:.1f} GiB; a TensorFlow graph never has more than 2")
        content = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
        tensors, notes = constants(content.data, path.name)
        return Checkpoint(tensors, notes, file_hash(path))
    except PermissionError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from error


def constants(content: memoryview | bytes, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The floating-point constants in the bytes of a frozen graph, and notes on what was left out.

    Args:
        content: a ``GraphDef``.
        name: of the file, for messages.

    Raises:
        LoadError: as :func:`read_graph`.
    """
    whole = memoryview(content)
    operators: Counter[str] = Counter()
    tensors: dict[str, Tensor] = {}
    others: dict[str, None] = {}  # in order, and quick to look into
    unwritten: list[str] = []
    free = memory_free()
    try:
        for node, operator, message in _nodes(whole):
            operators[operator] += 1
            if message is None:
                continue
            tensor, written = _tensor(message, node, free)
            if node in tensors or node in others:
                raise WireError(f"two constants are called {_short(node)}")
            if tensor is None:
                others[node] = None
                continue
            tensors[node] = tensor
            free -= tensor.nbytes
            unwritten += [] if written else [node]
    except WireError as damage:
        if not operators:
            raise LoadError(f"{name} is not a frozen TensorFlow graph: {_beginning(whole, str(damage))}") from damage
        raise LoadError(
            f"{name} is damaged or truncated: {damage} (after {operators.total()} nodes that could be read). "
            "Download or write it again"
        ) from damage
    if not operators:
        raise LoadError(f"{name} is not a frozen TensorFlow graph: {_beginning(whole, 'it has no nodes')}")
    if not tensors:
        raise LoadError(f"{name} holds no floating-point constants: {_contents(operators)}")
    notes = ()
    if others:
        which, were = ("constant", "was") if len(others) == 1 else ("constants", "were")
        notes += (f"{len(others)} {which} without floating-point numbers {were} left out ({_first(list(others))})",)
    if unwritten:
        notes += (f"the file writes no values for {_first(unwritten)}: zeros, as TensorFlow reads it",)
    return tensors, notes


def _text(found: list[tuple[int, Any]]) -> str:
    try:
        return str(found[-1][1], "utf-8") if found else ""
    except UnicodeDecodeError as error:
        raise WireError("a name is not text") from error


def _nodes(whole: memoryview) -> Iterator[tuple[str, str, memoryview | None]]:
    """Name and operator of every node, and of constants their ``TensorProto``."""
    count = 0
    for number, wire, value in fields(whole):
        if number != 1:
            continue
        if wire != BYTES:
            raise WireError("its first field is a number" if not count else f"a node is of the wire type {wire}")
        count += 1
        if count > MOST_NODES:
            raise WireError(f"it has more than {MOST_NODES:,} nodes")
        found = chosen(value, {1: (BYTES,), 2: (BYTES,), 5: (BYTES,)})
        name, operator = _text(found[1]), _text(found[2])
        if not name or not operator:
            raise WireError("a node has no name" if not name else f"the node {_short(name)} has no operator")
        yield name, operator, _constant(found[5], name) if operator == "Const" else None


def _constant(attributes: list[tuple[int, Any]], node: str) -> memoryview:
    """The ``TensorProto`` among the attributes of a constant."""
    tensors = []
    for _, attribute in attributes:
        entry = chosen(attribute, {1: (BYTES,), 2: (BYTES,)})
        if _text(entry[1]) == "value":
            tensors += chosen(merged(entry[2]), {8: (BYTES,)})[8]
    if not tensors:
        raise WireError(f"the constant {_short(node)} has no value")
    return merged(tensors)


def _tensor(message: memoryview, node: str, free: int) -> tuple[Tensor | None, bool]:
    """The tensor, or ``None`` if its numbers have no fraction; and whether the file writes any of its values."""
    lists = {number: (wire, BYTES) for number, wire in LISTED.values()}
    found = chosen(message, {1: (VARINT,), 2: (BYTES,), 4: (BYTES,), **lists})
    number = found[1][-1][1] if found[1] else 0
    if number not in KINDS:
        return None, True
    stored, kind = KINDS[number]
    shape = _shape(merged(found[2]), node)
    count, width = math.prod(shape), np.dtype(stored).itemsize
    content = found[4][-1][1] if found[4] else b""
    if len(content) and len(content) != count * width:
        raise WireError(f"{_short(node)} {list(shape)} needs {count * width} bytes and has {len(content)}")
    if count * width > free:
        needed, there = (f"{n / GIB:.1f}" for n in (count * width, max(free, 0)))
        raise LoadError(f"the graph's {_short(node)} {list(shape)} needs {needed} GiB of memory; {there} are free")
    values = np.frombuffer(content, stored) if len(content) else _listed(found, number, stored)
    if len(values) > count:
        raise WireError(f"{_short(node)} {list(shape)} has {len(values)} values for {count} places")
    array = np.zeros(count, stored)
    array[: len(values)] = values
    array[len(values) :] = values[-1] if len(values) else 0  # the last one stands for all that follow
    tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(shape)
    return tensor.view(kind) if tensor.dtype != kind else tensor, bool(len(values)) or count == 0


def _listed(found: Mapping[int, list[tuple[int, Any]]], number: int, stored: str) -> np.ndarray:
    """Values that are written one by one, packed or each as a field of its own."""
    field, wire = LISTED[number]
    if wire != VARINT:
        content = merged(found[field])
        if len(content) % WIDTHS[wire]:
            raise WireError(f"a list of numbers has {len(content)} bytes, not a multiple of {WIDTHS[wire]}")
        return np.frombuffer(content, stored)
    bits: list[int] = []
    for kind, value in found[field]:
        at = 0
        while kind == BYTES and at < len(value):
            one, at = varint(value, at)
            bits.append(one)
        bits += [value] if kind == VARINT else []
    if any(one > 0xFFFF for one in bits):
        raise WireError("a number of 16 bits has more")
    return np.array(bits, "<u2").view(stored)


def _shape(message: memoryview, node: str) -> tuple[int, ...]:
    found = chosen(message, {2: (BYTES,), 3: (VARINT,)})
    if any(value for _, value in found[3]):
        raise WireError(f"{_short(node)} has a shape of unknown rank")
    if len(found[2]) > MOST_AXES:
        raise WireError(f"{_short(node)} has {len(found[2])} axes")
    sizes = []
    for _, axis in found[2]:
        size = chosen(axis, {1: (VARINT,)})[1]
        sizes.append(size[-1][1] if size else 0)
    signed = [size - 2**64 if size >= 2**63 else size for size in sizes]
    if min(signed, default=0) < 0:
        raise WireError(f"{_short(node)} has the shape {signed}, which is not known or cannot be")
    if math.prod(max(size, 1) for size in sizes) > MOST_VALUES:
        raise WireError(f"{_short(node)} has the absurd shape {sizes}")
    return tuple(sizes)


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "…")


def _first(names: list[str]) -> str:
    return ", ".join(_short(n)[1:-1] for n in names[:3]) + (" …" if len(names) > 3 else "")


def _beginning(whole: memoryview, wrong: str) -> str:
    """What a file without a single readable node seems to be."""
    head = bytes(whole[:64])
    known = next((what for begin, what in BEGINNINGS.items() if head.lstrip().startswith(begin)), "")
    if known:
        return f"it is {known}"
    if len(whole) >= 4 and head[:1] == b"\x08":
        return (
            "it begins as a SavedModel or an ONNX file does. Freeze a SavedModel's graph first, so that its variables "
            "become constants; load ONNX with load('onnx:FILE')"
        )
    if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"it is text, beginning {head[:24].decode()!r}; a graph in text form has to be written in binary form"
    return f"{wrong}; its first bytes are {head[:8].hex(' ') or 'none'}"


def _contents(operators: Counter[str]) -> str:
    listed = ", ".join(f"{n} × {_short(o)[1:-1]}" for o, n in operators.most_common(4))
    return (
        f"its {operators.total()} nodes are {listed}. If its weights are variables, freeze it first "
        "(tf.compat.v1.graph_util.convert_variables_to_constants)"
    )
