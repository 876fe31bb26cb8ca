"""Many images in a fixed order: read as they are needed, the same for every process, and known by a hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import Network
from ..weights import as_input
from .reading import ENDINGS, check_image, image_mode, read_image

#: Images in one part of the statistics of units.
PART = 64
ENDS = 4096  # bytes at either end of a file by which it is known


@dataclass(frozen=True)
class Photos:
    """Images in a fixed order.

    Args:
        names: of each, without folders above the one that was given.
        paths: of files, or empty.
        inputs: float32 ``[N, *input shape]`` as the network takes them, where there are no files.
        digest: a hash over names, sizes, and the first and last 4 KiB of files, or over the inputs.
    """

    names: tuple[str, ...]
    digest: str
    paths: tuple[str, ...] = ()
    inputs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def tensor(self, net: Network, rows: Iterable[int]) -> Tensor:
        """Some images as the network takes them, ``[N, *input shape]``.

        Raises:
            LoadError: for a file that cannot be read, naming it.
        """
        if self.inputs is not None:
            return torch.from_numpy(self.inputs[list(rows)])
        mode = image_mode(net)
        return net.preprocess([read_image(Path(self.paths[r]), mode) for r in rows])

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


def photos_from(net: Network, images: Any) -> Photos | None:
    """The images that were given: files, folders with all that lies in them, arrays, a tensor, or any iterable.

    What comes from an iterable is kept at the network's own size; files are read when they are needed.

    Raises:
        ArgumentError: if there is none, or they do not fit the network.
        LoadError: for a file that is no image, naming it.
    """
    if images is None or isinstance(images, Photos):
        return images
    given = [images] if isinstance(images, str | os.PathLike) else images
    if isinstance(given, Tensor | np.ndarray):
        return _from_inputs(net, given)
    try:
        items = list(given)
    except TypeError as error:
        raise ArgumentError(f"images={images!r} are no files, folders or arrays") from error
    if not items:
        raise ArgumentError("images= holds no image; leave it out to build without")
    if all(isinstance(i, str | os.PathLike) for i in items):
        return _from_files(net, [Path(i) for i in items])
    if any(isinstance(i, str | os.PathLike) for i in items):
        raise ArgumentError("images= mixes files with arrays; give one kind")
    return _from_inputs(net, torch.cat([_input(net, i) for i in items]))


def _input(net: Network, image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return image[None].float() if image.ndim == len(_shape(net)) else image.float()
    return net.preprocess([image])


def _shape(net: Network) -> tuple[int, ...]:
    return tuple(net.require_module("running images")[1].shape)


def _from_inputs(net: Network, given: Any) -> Photos:
    tensor = as_input(net, given).float().cpu()
    values = np.ascontiguousarray(tensor.numpy())
    digest = hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()
    return Photos(tuple(f"image {i}" for i in range(len(values))), digest, inputs=values)


def _images_below(folder: Path) -> list[Path]:
    found = (f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts))


def _from_files(net: Network, paths: list[Path]) -> Photos:
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
    for file in files:
        check_image(file)  # what is no image is told now, not after an hour
    digest = hashlib.sha256()
    for name, file in zip(names, files, strict=True):
        size = file.stat().st_size
        digest.update(f"{name}|{size}\n".encode("utf-8", "surrogateescape") + _ends(file, size))
    return Photos(tuple(names), digest.hexdigest(), tuple(map(str, files)))


def _ends(file: Path, size: int) -> bytes:
    """How a file begins and ends: enough to tell pictures apart without reading thousands of them."""
    with file.open("rb") as opened:
        first = opened.read(ENDS)
        opened.seek(max(size - ENDS, 0))
        return first + opened.read(ENDS)
