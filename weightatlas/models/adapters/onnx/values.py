"""The tensors of an ONNX file as arrays: checked before they are unpacked, and read from nowhere but its own folder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ....errors import LoadError
from ...files.memory import GIB, memory_free
from ..importing import library

#: Floating-point types of fewer than 32 bits; they are widened.
NARROW = {
    "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0",
    "FLOAT6E2M3", "FLOAT6E3M2", "FLOAT4E2M1",
}  # fmt: skip
#: Whole numbers of fewer than 8 bits, and what holds them.
PACKED = {"INT4": np.int8, "UINT4": np.uint8, "INT2": np.int8, "UINT2": np.uint8}
#: What no weight is made of.
FOREIGN = {"UNDEFINED", "STRING"}


def type_name(tensor: Any) -> str:
    """What ONNX calls the type of a tensor's numbers: ``"FLOAT16"``; ``"type 99"`` for one that onnx does not know."""
    names = library("onnx").TensorProto.DataType
    return names.Name(tensor.data_type) if tensor.data_type in names.values() else f"type {tensor.data_type}"


def checked_count(dims: Iterable[int], name: str) -> int:
    """How many numbers a tensor of such sizes holds.

    Raises:
        LoadError: for negative sizes.
    """
    sizes = tuple(dims)
    if any(d < 0 for d in sizes):
        raise LoadError(
            f"the tensor {name!r} says that it is {sizes}; sizes cannot be negative. Export the model again"
        )
    return math.prod(sizes)


def check_memory(tensors: Iterable[Any], path: Path) -> None:
    """Stops before tensors are unpacked that would not fit into memory.

    Raises:
        LoadError: with how much is needed.
    """
    count = sum(checked_count(t.dims, t.name) for t in tensors)
    needed = 8 * count  # in 32 bits, and once more while they are brought to their form
    if needed > memory_free():
        raise LoadError(
            f"the tensors of {path.name} say that they hold {count:,} numbers, which takes {needed / GIB:,.1f} GiB; "
            f"{memory_free() / GIB:.1f} GiB of memory are free. Open it on a larger machine, if the file is what it "
            "should be"
        )


def array_of(tensor: Any, folder: Path) -> np.ndarray:
    """A ``TensorProto``'s numbers; what has fewer than 32 bits as float32, or in whole bytes.

    Args:
        tensor: the message.
        folder: of the ONNX file; data that lies in other files is read from there alone.

    Raises:
        LoadError: for numbers that are missing, too many or too few, or lie elsewhere.
    """
    onnx = library("onnx")
    kind = type_name(tensor)
    if kind in FOREIGN or kind.startswith("type "):
        raise LoadError(f"the tensor {tensor.name!r} holds {kind}, no numbers that could be weights")
    count = checked_count(tensor.dims, tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        plain = onnx.TensorProto()
        plain.data_type, plain.raw_data = tensor.data_type, _outside(tensor, folder, _bytes(onnx, tensor, count))
        plain.dims.extend(tensor.dims)
    else:
        plain = tensor
        if tensor.HasField("raw_data") and len(tensor.raw_data) != (size := _bytes(onnx, tensor, count)):
            raise LoadError(
                f"the tensor {tensor.name!r} says that it is {tuple(tensor.dims)} of {kind}, which is {size:,} bytes; "
                f"the file holds {len(tensor.raw_data):,}. Export the model again"
            )
    try:
        array = onnx.numpy_helper.to_array(plain)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise LoadError(f"the tensor {tensor.name!r} {tuple(tensor.dims)} of {kind} cannot be read: {error}") from error
    if kind in NARROW:
        return array.astype(np.float32)
    return array.astype(PACKED[kind]) if kind in PACKED else array


def _bytes(onnx: Any, tensor: Any, count: int) -> int:
    """How many bytes the numbers take in a file."""
    kind = type_name(tensor)
    for ending, bits in (("INT4", 4), ("INT2", 2), ("FLOAT4E2M1", 4), ("FLOAT6E2M3", 6), ("FLOAT6E3M2", 6)):
        if kind.endswith(ending):
            return -(-count * bits // 8)
    return count * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def _outside(tensor: Any, folder: Path, size: int) -> bytes:
    """The bytes of a tensor that lie in another file of the folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(entries.get("location", ""), tensor.name, folder)
    numbers = [entries.get(key, default) for key, default in (("offset", "0"), ("length", str(size)))]
    if not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
        raise LoadError(
            f"the tensor {tensor.name!r} lies at offset {numbers[0]!r}, length {numbers[1]!r} of {path.name}"
        )
    offset, length = (int(n) for n in numbers)
    whole = path.stat().st_size
    if length != size or offset + length > whole:
        raise LoadError(
            f"the tensor {tensor.name!r} is {size:,} bytes; {path.name} has {whole:,} bytes and should hold it in "
            f"{length:,} from byte {offset:,}. The two files do not belong together, or one is truncated"
        )
    with path.open("rb") as content:
        content.seek(offset)
        return content.read(length)


def _inside(location: str, name: str, folder: Path) -> Path:
    """The file that a tensor's numbers lie in, if it is a plain file inside the folder."""
    relative = PurePosixPath(location)
    outside = relative.is_absolute() or PureWindowsPath(location).anchor or ".." in relative.parts or "\\" in location
    if not location or "\0" in location or outside:
        raise LoadError(
            f"the numbers of the tensor {name!r} lie in {location!r}; only files inside the model's own folder are read"
        )
    path = folder / relative
    steps = [folder.joinpath(*relative.parts[: i + 1]) for i in range(len(relative.parts))]
    if any(step.is_symlink() for step in steps):
        raise LoadError(
            f"the numbers of the tensor {name!r} lie in {location!r}, which is a link to elsewhere; links are not "
            "followed. If you trust it, put the file itself beside the model"
        )
    if not path.is_file():
        what = "is not a plain file" if path.exists() else "is not there"
        raise LoadError(
            f"the numbers of the tensor {name!r} lie in {location!r} beside the model, which {what}; the model needs "
            "both files in one folder"
        )
    return path


def sparse_array(sparse: Any, folder: Path) -> np.ndarray:
    """A ``SparseTensorProto`` with its zeros.

    Raises:
        LoadError: for one that does not fit itself, or is too large with its zeros.
    """
    name, dims = sparse.values.name, tuple(sparse.dims)
    count = checked_count(dims, name)
    if count * 4 > memory_free():
        raise LoadError(f"the sparse tensor {name!r} is {dims} with its zeros, more than there is memory for")
    values, places = array_of(sparse.values, folder).reshape(-1), array_of(sparse.indices, folder)
    sizes = np.array(dims, np.int64)
    if places.ndim == 2 and places.shape[1] == len(dims) and ((places >= 0) & (places < sizes)).all():
        places = np.ravel_multi_index(tuple(places.T), dims)
    dense = np.zeros(count, values.dtype)
    if places.shape != values.shape or ((places < 0) | (places >= count)).any():
        raise LoadError(f"the sparse tensor {name!r} has {values.size} values at {places.shape} places of {dims}")
    dense[places] = values
    return dense.reshape(dims)
