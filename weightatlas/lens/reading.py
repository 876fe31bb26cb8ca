"""Images from files and from bytes: upright, with 8 bits a channel, in the channels that a network takes."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from ..errors import ArgumentError, LoadError
from ..network import Network

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MODES = {1: "L", 3: "RGB"}  # by number of channels
#: What is decoded, whatever a file is called. Not among them: formats for which other programs are started (EPS).
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
#: A channel of 16 bits over this is one of 8: 65535 / 255.
_DEEP = 257
_ORIENTATION = 0x0112  # EXIF
_STRIP = 1 << 22  # pixels that are copied at a time

#: A path, the bytes of a file, or a binary file.
Source = str | os.PathLike[str] | bytes | IO[bytes]


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
        shape = "" if net.input is None else f" [N, {', '.join(map(str, net.input.shape))}]"
        raise ArgumentError(
            f"{net.name} takes no images with 1 or 3 channels; give its inputs as a tensor{shape}, as it takes them"
        )
    return mode


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(f for f in path.iterdir() if f.suffix.lower() in ENDINGS and f.is_file())
    if not found:
        raise ArgumentError(f"the folder {path} holds no images ({', '.join(ENDINGS)})")
    return found


def read_image(source: Source, mode: str, most_pixels: int | None = None) -> np.ndarray:
    """An image of a file as uint8 ``[H, W, C]``.

    It is turned upright as its EXIF data say, and laid on white where it is transparent. Grey values of 16 bits are
    rounded to 8; of 16-bit colours the decoder keeps the upper 8 bits. Of moving pictures the first frame is taken.
    Colours are taken as sRGB: profiles (ICC) are not applied, and CMYK is turned into RGB without one. Inks of a JPEG
    are taken as inverted where it says that it is Adobe's. L*a*b* is turned into sRGB, also on its way to grey.

    Args:
        source: a path, the bytes of a file, or a binary file.
        mode: ``"L"`` or ``"RGB"``.
        most_pixels: that it may have; at most as many as Pillow's limit, which is also the default (89 million).

    Raises:
        LoadError: if it cannot be read, saying why: no picture, damaged, too large, or pixels without a fixed range.
    """
    with _opened(source, most_pixels) as image:
        return _as_array(_eight_bit(image), mode)


def picture_from(data: bytes, mode: str = "RGB", most_pixels: int | None = None) -> np.ndarray:
    """A picture that came as bytes, as uint8 ``[H, W, C]``; see :func:`read_image`. Nothing is written anywhere.

    Raises:
        LoadError: if they are no picture that can be read, saying why.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (3, 2), "red").save(file, "PNG")
        >>> picture_from(file.getvalue()).shape
        (2, 3, 3)
        >>> picture_from(b"<svg/>")
        Traceback (most recent call last):
        weightatlas.errors.LoadError: the picture cannot be read as an image: it is no BMP, GIF, ... or WEBP
    """
    return read_image(bytes(data), mode, most_pixels)


def pixels_of(image: Image.Image, mode: str, name: str) -> np.ndarray:
    """A Pillow image as uint8 ``[H, W, C]``, like one of a file; it stays as it is.

    Raises:
        LoadError: if its pixels cannot be read, saying why.
    """
    with _telling(name, image):
        return _as_array(_eight_bit(image.copy()), mode)


def check_image(path: Source) -> bool:
    """Looks whether a file begins like an image, and whether it is a moving one; its pixels are not read.

    Raises:
        LoadError: if it does not.
    """
    with _opened(path) as image:
        return bool(getattr(image, "is_animated", False))


def picture_notes(source: Source) -> tuple[str, ...]:
    """What :func:`read_image` leaves out or changes of a picture, one phrase each; pixels may be read for it.

    Raises:
        LoadError: if it cannot be read.
    """
    with _opened(source) as image:
        profile = image.info.get("icc_profile")
        notes = {
            "the first of its frames": getattr(image, "is_animated", False),
            "16 bits a channel rounded to 8": _is_deep(image),
            "CMYK turned into RGB without a colour profile": image.mode == "CMYK",
            "L*a*b* turned into RGB": image.mode == "LAB",
            "its colour profile not applied": bool(profile),
            "laid on white where it is transparent": image.has_transparency_data,
            "turned upright": image.getexif().get(_ORIENTATION, 1) in range(2, 9),
        }
        return tuple(note for note, holds in notes.items() if holds)


@contextmanager
def _opened(source: Source, most_pixels: int | None = None) -> Iterator[Image.Image]:
    """An image whose pixels are not read yet; whatever goes wrong with it is told in one sentence."""
    named = os.fspath(source) if isinstance(source, str | os.PathLike) else "the picture"
    with _telling(named, source), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; too many pixels are refused below
        file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        Image.init()  # not every build of the decoder knows all formats
        with Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            _check_size(image, most_pixels)
            yield image


@contextmanager
def _telling(name: str, source: Any) -> Iterator[None]:
    """Says of which picture it is that something goes wrong."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise LoadError(f"{name} cannot be read as an image: {_unknown(source)}") from error
    except Image.DecompressionBombError as error:  # far above the limit; the decoder has not told the sides yet
        pixels = next(iter(re.findall(r"[0-9]+", str(error))), "")
        many = f"its {int(pixels):,} pixels exceed" if pixels else "its pixels exceed"
        limit = f"the limit of {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise LoadError(f"{name} cannot be read as an image: {many} {limit}") from error
    except Exception as error:  # decoders of damaged files raise many kinds; all mean the same to the caller
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise LoadError(f"{name} cannot be read as an image: {why}") from error


def _unknown(source: Any) -> str:
    empty = source == b"" or (isinstance(source, str | os.PathLike) and os.path.getsize(source) == 0)
    return "it is empty" if empty else f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _check_size(image: Image.Image, most: int | None) -> None:
    """Refuses what would fill the memory, before it does.

    Raises:
        ValueError: for more pixels than allowed.
    """
    limit = min(n for n in (most, Image.MAX_IMAGE_PIXELS, 1 << 62) if n is not None)
    pixels = image.width * image.height
    if pixels > limit:
        raise ValueError(f"its {image.width} × {image.height} pixels exceed the limit of {limit:,} pixels")


def _is_deep(image: Image.Image) -> bool:
    """Whether pixels are grey values 0 … 65535; of PNG, older decoders call that "I"."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image upright, with 8 bits a channel, on white where it is transparent; the one given may be changed.

    Raises:
        ValueError: for pixels of a kind that has no fixed range.
    """
    deep = _is_deep(image)
    if image.mode in ("I", "F") and not deep:
        raise ValueError(f"its pixels have mode {image.mode!r}, without a fixed range; save it with 8 or 16 bits")
    clear = image.info.get("transparency")
    # the decoder takes inks as inverted, which only Adobe's files (they say so) have them
    plain = image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info
    ImageOps.exif_transpose(image, in_place=True)
    if deep:
        values = np.asarray(image)
        grey = ((values.astype(np.uint32) + _DEEP // 2) // _DEEP).astype(np.uint8)
        if isinstance(clear, int):
            grey[values == clear] = 255
        return Image.fromarray(grey)
    if plain:
        return ImageChops.invert(image)
    if image.mode == "LAB":  # which the decoder turns into nothing else
        return image.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _as_array(image: Image.Image, mode: str) -> np.ndarray:
    """Pixels as uint8 ``[H, W, C]``, strip by strip, so that a large picture is not in memory three times."""
    width, height = image.size
    array = np.empty((height, width, Image.getmodebands(mode)), np.uint8)
    rows = max(_STRIP // width, 1)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))) if rows < height else image
        pixels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        array[top : top + rows] = pixels.reshape(len(pixels), width, -1)
    return array
