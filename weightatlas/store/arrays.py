"""Arrays as Zarr v3 groups: named dimensions, uncompressed chunks along the first axis, a checksum on each.

The zarr library encodes what is written. What is read back here is one chunk at a time, as a browser does it: raw
little-endian numbers, followed by the four bytes of their CRC-32C. So that no chunk can stand in another's place, the
metadata holds ``chunks_sha256``: the SHA-256 of these four bytes of all chunks, in order.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StoreError
from .files import Files
from .sealing import KEY, MEND, UNSEALED, finite, is_whole, sealed

META = "zarr.json"
CRC_BYTES = 4
CHUNKS = "chunks_sha256"
#: What a chunk that is missing reads as: nothing that could be taken for a result.
NOTHING = {"f": math.nan, "i": -1, "u": 0}
TYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "uint8": "|u1"}


@dataclass(frozen=True)
class Named:
    """An array and what its axes are called.

    Args:
        values: float32, float64, int32 or int64; no axis of size 0.
        axes: one name an axis.
        split: whether each element of the first axis is a chunk of its own; else all is one.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    split: bool = False


def group_files(arrays: Mapping[str, Named], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a group by their paths below it, the group's own metadata last: with it, all is there.

    Args:
        arrays: by name.
        attributes: of the group, JSON; NaN and infinity become null.
    """
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec
    from zarr.storage import MemoryStore

    made: dict[str, Any] = {}
    store = MemoryStore(made)
    group = zarr.create_group(store, zarr_format=3, attributes={**finite(attributes), KEY: UNSEALED})
    for name, array in arrays.items():
        values = np.ascontiguousarray(array.values)
        group.create_array(
            name,
            shape=values.shape,
            chunks=(1, *values.shape[1:]) if array.split else values.shape,
            dtype=TYPES[str(values.dtype)],
            serializer=BytesCodec(endian="little") if values.dtype.itemsize > 1 else BytesCodec(endian=None),
            compressors=[Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},  # a file each, without folders in folders
            fill_value=NOTHING[values.dtype.kind],
            dimension_names=array.axes,
            attributes={KEY: UNSEALED},
            config={"write_empty_chunks": True},
        )[...] = values
    with warnings.catch_warnings():  # the specification of what is consolidated is not final; readers may ignore it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)
    files = {path: made[path].to_bytes() for path in sorted(made, key=lambda p: (p == META, p.endswith(META), p))}
    digests = {
        name: _digest(files[_place(name, i, array.values.ndim)] for i in range(len(array.values) if array.split else 1))
        for name, array in arrays.items()
    }
    return {path: _sealed_meta(data, path, digests) if path.endswith(META) else data for path, data in files.items()}


def _place(name: str, index: int, axes: int) -> str:
    """The path of a chunk in its group."""
    return f"{name}/c.{index}" + ".0" * (axes - 1)


def _digest(chunks: Iterable[bytes]) -> str:
    """What tells chunks from others, and from the same in another order."""
    return hashlib.sha256(b"".join(data[-CRC_BYTES:] for data in chunks)).hexdigest()


def _sealed_meta(data: bytes, path: str, digests: Mapping[str, str]) -> bytes:
    """Metadata with its checksums; the copies that a group holds of its arrays' have none of their own."""
    known = json.loads(data)
    if path != META:
        known["attributes"][CHUNKS] = digests[path.removesuffix(f"/{META}")]
    for name, inner in known.get("consolidated_metadata", {}).get("metadata", {}).items():
        inner["attributes"] = {CHUNKS: digests[name]}
    return sealed(json.dumps(known, indent=1, allow_nan=False).encode())


class Group:
    """A Zarr group that is read chunk by chunk.

    Args:
        files: where it lies.
        path: of the group.

    Raises:
        StoreError: if it is missing or damaged.
    """

    def __init__(self, files: Files, path: str) -> None:
        self.files, self.path = files, path
        where = f"{path}/{META}"
        known = _whole_json(files.read(where), where)
        try:
            self.attributes: dict[str, Any] = dict(known["attributes"])
            metadata = known["consolidated_metadata"]["metadata"]
            self.arrays = {name: _Spec.read(inner) for name, inner in metadata.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise StoreError(f"{where} is damaged: no metadata of a Zarr group ({error!r}); {MEND}") from error
        self.attributes.pop(KEY, None)

    def chunks(self, name: str) -> list[str]:
        """Paths of an array's chunks, relative to the group, in order."""
        spec = self.arrays[name]
        return [_place(name, i, len(spec.shape)) for i in range(spec.count)]

    def check_array(self, name: str) -> None:
        """Compares an array's own metadata with the group's copy of it.

        Raises:
            StoreError: if it is missing or damaged.
        """
        where = f"{self.path}/{name}/{META}"
        known = _whole_json(self.files.read(where), where)
        try:
            same = _Spec.read(known) == self.arrays[name]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise StoreError(f"{where} is damaged: no metadata of a Zarr array ({error!r}); {MEND}") from error
        if not same:
            raise StoreError(f"{where} is damaged: it is of another array than {self.path}/{META} says; {MEND}")

    def rows(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Some elements of the first axis, read from as few chunks as hold them.

        Raises:
            StoreError: if a chunk is missing or damaged.
        """
        spec = self.arrays[name]
        if spec.count == spec.shape[0]:
            chunks = [self._numbers(name, i, self._chunk(name, i)) for i in indices]
            return np.stack([numbers.reshape(spec.shape[1:]) for numbers in chunks])
        return self.whole(name)[list(indices)]

    def row(self, name: str, index: int) -> np.ndarray:
        """One element of the first axis.

        Raises:
            StoreError: if its chunk is missing or damaged.
        """
        return self.rows(name, [index])[0]

    def whole(self, name: str) -> np.ndarray:
        """A whole array.

        Raises:
            StoreError: if a chunk is missing or damaged.
        """
        spec = self.arrays[name]
        chunks = [self._chunk(name, i) for i in range(spec.count)]
        parts = [self._numbers(name, i, data) for i, data in enumerate(chunks)]
        if _digest(chunks) != spec.digest:
            raise StoreError(
                f"{self.path}/{name} is damaged: its chunks are not those that were written, or not in their places; "
                f"{MEND}"
            )
        return np.concatenate(parts).reshape(spec.shape)

    def _chunk(self, name: str, index: int) -> bytes:
        return self.files.read(f"{self.path}/{_place(name, index, len(self.arrays[name].shape))}")

    def _numbers(self, name: str, index: int, data: bytes) -> np.ndarray:
        spec = self.arrays[name]
        where = f"{self.path}/{_place(name, index, len(spec.shape))}"
        return chunk_values(data, spec.dtype, spec.elements, where)


@dataclass(frozen=True)
class _Spec:
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[str, ...]
    count: int
    digest: str

    @property
    def elements(self) -> int:
        """Numbers in a chunk."""
        return math.prod(self.shape) // self.count

    @classmethod
    def read(cls, meta: dict[str, Any]) -> _Spec:
        """What a Zarr array's metadata says."""
        shape = tuple(meta["shape"])
        chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        names = [codec["name"] for codec in meta["codecs"]]
        if names != ["bytes", "crc32c"] or chunk[1:] != shape[1:]:
            raise ValueError(f"codecs {names} and chunks {chunk} of {shape} are none that weightatlas writes")
        dtype = np.dtype(TYPES[meta["data_type"]])
        return cls(shape, dtype, tuple(meta["dimension_names"]), shape[0] // chunk[0], meta["attributes"][CHUNKS])


def _whole_json(data: bytes, where: str) -> dict[str, Any]:
    """Metadata, checked.

    Raises:
        StoreError: if it is damaged.
    """
    if not is_whole(data):
        raise StoreError(f"{where} is damaged: its checksum is missing or differs from its content; {MEND}")
    try:
        known = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: no JSON ({error}); {MEND}") from error
    return known


def chunk_values(data: bytes, dtype: np.dtype, elements: int, where: str) -> np.ndarray:
    """The numbers of a chunk, checked.

    Raises:
        StoreError: if it is too short, too long, or not what was written.
    """
    import google_crc32c

    size = elements * dtype.itemsize
    if len(data) != size + CRC_BYTES:
        raise StoreError(f"{where} is damaged: {len(data)} bytes instead of {size + CRC_BYTES}; {MEND}")
    if google_crc32c.value(data[:size]) != int.from_bytes(data[size:], "little"):
        raise StoreError(f"{where} is damaged: its checksum differs from its content; {MEND}")
    return np.frombuffer(data, dtype, elements)
