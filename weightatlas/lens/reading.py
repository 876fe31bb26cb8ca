"""Images from files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ArgumentError, LoadError
from ..network import Network

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MODES = {1: "L", 3: "RGB"}  # by number of channels


def read_images(net: Network, images: Any) -> Any:
    """Images as the network's measurements take them: files and folders are read, anything else is left as it is.

    Args:
        net: says how many channels an image has.
        images: paths of files or folders (one, or several), arrays, a tensor, or ``None``.

    Raises:
        LoadError: for files that cannot be read, naming the first.
        ArgumentError: for folders without images, or a network whose input is none.
    """
    paths = [images] if isinstance(images, str | Path) else images
    if not isinstance(paths, Sequence) or not paths or not all(isinstance(p, str | Path) for p in paths):
        return images
    mode = image_mode(net)
    files = [f for p in paths for f in _files(Path(p))]
    return [read_image(f, mode) for f in files]


def image_mode(net: Network) -> str:
    """The mode in which files are read for a network: ``"L"`` or ``"RGB"``.

    Raises:
        ArgumentError: for a network whose input is no image of such.
    """
    mode = MODES.get(net.input.channels if net.input is not None and len(net.input.shape) == 3 else 0)
    if mode is None:
        raise ArgumentError(f"{net.name} takes no images with 1 or 3 channels; give its inputs as a tensor")
    return mode


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(f for f in path.iterdir() if f.suffix.lower() in ENDINGS and f.is_file())
    if not found:
        raise ArgumentError(f"the folder {path} holds no images ({', '.join(ENDINGS)})")
    return found


def read_image(path: Path, mode: str) -> np.ndarray:
    """An image of a file as uint8 ``[H, W, C]``.

    Raises:
        LoadError: if it cannot be read.
    """
    with _opened(path) as image:
        array = np.asarray(_eight_bit(image).convert(mode))
    return array if array.ndim == 3 else array[..., None]


def check_image(path: Path) -> None:
    """Looks whether a file begins like an image; its pixels are not read.

    Raises:
        LoadError: if it does not.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning,
            SyntaxError) as error:  # fmt: skip
        raise LoadError(f"{path} cannot be read as an image: {error}") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image upright, with 8 bits a channel, on white where it is transparent.

    Raises:
        ValueError: for pixels of a kind that has no fixed range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have mode {image.mode!r}, without a fixed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
