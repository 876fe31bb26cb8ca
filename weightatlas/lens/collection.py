"""Many images in a fixed order: read as they are needed, the same for every process, and known by a hash."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, LoadError
from ..network import Network
from ..weights import as_input
from .items import checked_item, item_as_input
from .reading import ENDINGS, check_image, image_mode, read_image

#: Images in one part of the statistics of units.
PART = 64
ENDS = 4096  # bytes at either end of a file by which it is known
#: Items of a data set by which it is known: reading them all would take as long as running them.
LOOKED_AT = 16
#: Bytes of inputs beyond which arrays of pictures that take less room stay as they are.
LARGE = 1 << 28
_SHOWN = 5  # names in a note


@dataclass(frozen=True)
class Photos:
    """Images in a fixed order.

    Args:
        names: of each, without folders above the one that was given.
        paths: of files, or empty.
        inputs: float32 ``[N, *input shape]`` as the network takes them, where there are no files.
        digest: a hash over names, sizes, and the first and last 4 KiB of files; over the inputs; or, of a data set,
            over its length and up to 16 items spread over it.
        dataset: what gives image i by ``dataset[i]``, where there are neither files nor inputs.
        notes: what is not told by the images themselves, e.g. that of moving ones the first frame is taken.
    """

    names: tuple[str, ...]
    digest: str
    paths: tuple[str, ...] = ()
    inputs: np.ndarray | None = None
    dataset: Any = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def tensor(self, net: Network, rows: Iterable[int]) -> Tensor:
        """Some images as the network takes them, ``[N, *input shape]``.

        Raises:
            LoadError: for a file that cannot be read, or an item that a data set fails to give, naming it.
            ArgumentError: for an item that does not fit the network.
        """
        if self.inputs is not None:
            return torch.from_numpy(self.inputs[list(rows)])
        if self.dataset is not None:
            return torch.cat([item_as_input(net, self.dataset, r) for r in rows])
        return torch.cat([self._read(net, Path(self.paths[r])) for r in rows])  # one large picture at a time

    def _read(self, net: Network, path: Path) -> Tensor:
        pixels = read_image(path, image_mode(net))
        try:
            return net.preprocess([pixels])
        except ArgumentError as error:
            raise ArgumentError(f"{path}: {error}") from error

    def spread(self, most: int) -> list[int]:
        """Numbers of at most so many images, evenly over all."""
        count = min(most, len(self))
        return [int(r) for r in np.linspace(0, len(self) - 1, count).round()] if count else []

    @property
    def parts(self) -> list[range]:
        """Numbers of images by the part that they belong to."""
        return [range(start, min(start + PART, len(self))) for start in range(0, len(self), PART)]

    def to_dict(self) -> dict[str, Any]:
        """How they are known, as JSON-ready data."""
        return {"count": len(self), "hash": self.digest}


def photos_from(net: Network, images: Any, *, skip_damaged: bool = False) -> Photos | None:
    """The images that were given: files, folders with all that lies in them, arrays, a tensor, a data set, an iterable.

    A tensor of the network's input shape, without an axis of images, is one image.
    A data set is whatever has a length and gives items by number, as torch's do: an item is an image (array
    ``[H, W, C]``, Pillow image, or float tensor as the network takes it), or a tuple that begins with one. Items and
    files are read when they are needed; what comes from an iterable is kept at the network's own size.

    Args:
        net: an open network.
        images: see above; ``None`` stays ``None``.
        skip_damaged: whether files that are no images are let in; reading them still fails.

    Raises:
        ArgumentError: if there is none, they do not fit the network, or a data set gives other pixels each time.
        LoadError: for a file that is no image, naming it.
    """
    if images is None or isinstance(images, Photos):
        return images
    given = [images] if isinstance(images, str | os.PathLike) else images
    if isinstance(given, Tensor):
        _, spec = net.require_module("running images")
        return _from_inputs(net, given[None] if tuple(given.shape) == tuple(spec.shape) else given)
    if isinstance(given, np.ndarray):
        return _from_inputs(net, given)
    if _is_dataset(given):
        return _from_dataset(net, given, skip_damaged)
    try:
        items = list(given)
    except TypeError as error:
        raise ArgumentError(f"images={images!r} are no files, folders or arrays") from error
    if not items:
        raise ArgumentError("images= holds no image; leave it out to build without")
    if all(isinstance(i, str | os.PathLike) for i in items):
        return _from_files(net, [Path(i) for i in items], skip_damaged)
    if any(isinstance(i, str | os.PathLike) for i in items):
        raise ArgumentError("images= mixes files with arrays; give one kind")
    return _from_inputs(net, torch.cat([checked_item(net, i, f"image {n}") for n, i in enumerate(items)]))


def _is_dataset(given: Any) -> bool:
    """Whether items are to be asked for one by one; lists are in memory already."""
    if isinstance(given, list | tuple | Mapping) or not hasattr(given, "__getitem__"):
        return False
    try:
        return len(given) >= 0
    except (TypeError, NotImplementedError):  # torch's streams have the method, and raise in it
        return False


def _from_inputs(net: Network, given: Any) -> Photos:
    _, spec = net.require_module("running images")
    if isinstance(given, np.ndarray) and given.ndim == 4:
        size = given.shape[0] * math.prod(spec.shape) * np.dtype(np.float32).itemsize
        if size > max(given.nbytes, LARGE):
            return _from_array(net, given)
    tensor = as_input(net, given).float().cpu()
    values = np.ascontiguousarray(tensor.numpy())
    digest = hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()
    return Photos(tuple(f"image {i}" for i in range(len(values))), digest, inputs=values)


def _from_array(net: Network, array: np.ndarray) -> Photos:
    """Pictures that take less room as they are: known by the same hash, but not turned into inputs all at once."""
    _, spec = net.require_module("running images")
    digest = hashlib.sha256(f"{(len(array), *spec.shape)}".encode())
    for start in range(0, len(array), PART):
        digest.update(np.ascontiguousarray(as_input(net, array[start : start + PART]).float().cpu().numpy()).data)
    return Photos(tuple(f"image {i}" for i in range(len(array))), digest.hexdigest(), dataset=array)


def _from_dataset(net: Network, dataset: Any, skip_damaged: bool) -> Photos:
    count = len(dataset)
    if not count:
        raise ArgumentError("images= is a data set without items")
    photos = Photos(tuple(f"image {i}" for i in range(count)), "", dataset=dataset)
    digest = hashlib.sha256(f"data set of {count}".encode())
    readable = []
    for row in photos.spread(LOOKED_AT):
        try:
            digest.update(photos.tensor(net, [row]).numpy().tobytes())
            readable.append(row)
        except LoadError:
            if not skip_damaged:
                raise
            digest.update(b"damaged")
    if readable and not torch.equal(*(photos.tensor(net, readable[:1]) for _ in range(2))):
        raise ArgumentError(
            "the data set gives other pixels each time that an item is asked for, so that what was measured could not "
            "be shown; give it without random transforms"
        )
    return Photos(photos.names, digest.hexdigest(), dataset=dataset)


def _images_below(folder: Path) -> list[Path]:
    found = (f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts))


def _from_files(net: Network, paths: list[Path], skip_damaged: bool) -> Photos:
    image_mode(net)  # refuses a network without images
    names, files = [], []
    for path in paths:
        inside = [path] if not path.is_dir() else _images_below(path)
        if not inside:
            raise ArgumentError(f"the folder {path} holds no images ({', '.join(ENDINGS)})")
        if not path.exists():
            raise ArgumentError(f"there is no file or folder {path}")
        files += [f.absolute() for f in inside]
        names += [f.relative_to(path).as_posix() if path.is_dir() else f.name for f in inside]
    moving = []
    for name, file in zip(names, files, strict=True):
        try:
            if check_image(file):  # what is no image is told now, not after an hour
                moving.append(name)
        except LoadError:
            if not skip_damaged:
                raise
    digest = hashlib.sha256()
    for name, file in zip(names, files, strict=True):
        size = file.stat().st_size
        digest.update(f"{name}|{size}\n".encode("utf-8", "surrogateescape") + _ends(file, size))
    return Photos(tuple(names), digest.hexdigest(), tuple(map(str, files)), notes=_moving(moving))


def _moving(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (f"of moving pictures the first frame is taken: {', '.join(names[:_SHOWN])}{more}",)


def _ends(file: Path, size: int) -> bytes:
    """How a file begins and ends: enough to tell pictures apart without reading thousands of them."""
    with file.open("rb") as opened:
        first = opened.read(ENDS)
        opened.seek(max(size - ENDS, 0))
        return first + opened.read(ENDS)
