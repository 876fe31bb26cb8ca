"""Arrays as Zarr v3 groups: named dimensions, uncompressed chunks along the first axis, a checksum on each.

The zarr library encodes what is written. What is read back here is one chunk at a time, as a browser does it: raw
little-endian numbers, followed by the four bytes of their CRC-32C.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StoreError
from .files import Files
from .sealing import KEY, MEND, UNSEALED, is_whole, sealed

META = "zarr.json"
CRC_BYTES = 4
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
        attributes: of the group, JSON.
    """
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec
    from zarr.storage import MemoryStore

    made: dict[str, Any] = {}
    store = MemoryStore(made)
    group = zarr.create_group(store, zarr_format=3, attributes={**attributes, KEY: UNSEALED})
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
    return {path: _sealed_meta(data) if path.endswith(META) else data for path, data in files.items()}


def _sealed_meta(data: bytes) -> bytes:
    """Metadata with its checksum; the copies that a group holds of its arrays' have none."""
    known = json.loads(data)
    for inner in known.get("consolidated_metadata", {}).get("metadata", {}).values():
        inner["attributes"].pop(KEY, None)
    return sealed(json.dumps(known, indent=1).encode())


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
        data = files.read(where)
        try:
            known = json.loads(data)
            self.attributes: dict[str, Any] = dict(known["attributes"])
            metadata = known["consolidated_metadata"]["metadata"]
            self.arrays = {name: _Spec.read(inner) for name, inner in metadata.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{where} is damaged: no metadata of a Zarr group ({error!r}); {MEND}") from error
        if not is_whole(data):
            raise StoreError(f"{where} is damaged: its checksum differs from its content; {MEND}")
        self.attributes.pop(KEY, None)

    def chunks(self, name: str) -> list[str]:
        """Paths of an array's chunks, relative to the group, in order."""
        spec = self.arrays[name]
        return [f"{name}/c.{i}" + ".0" * (len(spec.shape) - 1) for i in range(spec.count)]

    def check_array(self, name: str) -> None:
        """Compares an array's own metadata with the group's copy of it.

        Raises:
            StoreError: if it is missing or damaged.
        """
        where = f"{self.path}/{name}/{META}"
        data = self.files.read(where)
        try:
            known = json.loads(data)
            same = _Spec.read(known) == self.arrays[name]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{where} is damaged: no metadata of a Zarr array ({error!r}); {MEND}") from error
        if not same or not is_whole(data):
            raise StoreError(f"{where} is damaged: its checksum differs from its content; {MEND}")

    def rows(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Some elements of the first axis, read from as few chunks as hold them.

        Raises:
            StoreError: if a chunk is missing or damaged.
        """
        spec = self.arrays[name]
        if spec.count == spec.shape[0]:
            return np.stack([self._chunk(name, i).reshape(spec.shape[1:]) for i in indices])
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
        parts = [self._chunk(name, i) for i in range(spec.count)]
        return np.concatenate(parts).reshape(spec.shape)

    def _chunk(self, name: str, index: int) -> np.ndarray:
        spec = self.arrays[name]
        where = f"{self.path}/{self.chunks(name)[index]}"
        return chunk_values(self.files.read(where), spec.dtype, spec.elements, where)


@dataclass(frozen=True)
class _Spec:
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[str, ...]
    count: int

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
        return cls(shape, dtype, tuple(meta["dimension_names"]), shape[0] // chunk[0])


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
