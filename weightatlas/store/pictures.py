"""Pictures as WebP files that say what they are: the numbers that go with one are inside it.

The EXIF field "image description" holds a JSON object: what is pictured, what it reaches, the recipe, the network and
the file's checksum. A picture of several things (positions, variants, factors) is a mosaic of equal tiles, row by row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ArgumentError, StoreError
from ..records import FeatureImages, Provenance
from .files import Files
from .layout import picture_path
from .sealing import KEY, MEND, UNSEALED, is_whole, sealed

QUALITY = 90
EFFORT = 4  # of libwebp, 0 … 6
MOST_PIXELS = 16383  # of a WebP along an axis
DESCRIPTION = 270  # the EXIF tag "ImageDescription"


def encoded(pixels: np.ndarray, about: dict[str, Any]) -> bytes:
    """A WebP file.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        about: what stands in it; JSON without NaN.

    Raises:
        ArgumentError: for other arrays, or sizes that WebP does not have.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ArgumentError(f"a picture is uint8 [H, W, 3], not {pixels.dtype} {pixels.shape}")
    if max(pixels.shape) > MOST_PIXELS:
        raise ArgumentError(f"a picture of {pixels.shape[:2]} pixels is larger than the {MOST_PIXELS} that WebP holds")
    exif = Image.Exif()
    exif[DESCRIPTION] = json.dumps({**about, KEY: UNSEALED}, separators=(",", ":"), allow_nan=False)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY, method=EFFORT, exif=exif.tobytes())
    return sealed(buffer.getvalue())


def told(data: bytes, where: str) -> dict[str, Any]:
    """What a picture says of itself, without decoding it.

    Raises:
        StoreError: if it is damaged.
    """
    return _opened(data, where)[1]


def decoded(data: bytes, where: str) -> tuple[np.ndarray, dict[str, Any]]:
    """A picture's pixels, uint8 ``[H, W, 3]``, and what it says of itself.

    Raises:
        StoreError: if it is damaged, naming it.
    """
    image, about = _opened(data, where)
    try:
        return np.asarray(image.convert("RGB")), about
    except (OSError, ValueError) as error:
        raise StoreError(f"{where} is damaged: it cannot be decoded ({error}); {MEND}") from error


def _opened(data: bytes, where: str) -> tuple[Image.Image, dict[str, Any]]:
    if not is_whole(data):  # first: on damaged files PIL warns and raises as it likes
        raise StoreError(f"{where} is damaged: its checksum is missing or differs from its content; {MEND}")
    try:
        image = Image.open(io.BytesIO(data), formats=["WEBP"])
        about = json.loads(image.getexif()[DESCRIPTION])
        about.pop(KEY)
    except (OSError, UnidentifiedImageError, ValueError, KeyError, TypeError, AttributeError, SyntaxError,
            Image.DecompressionBombError) as error:  # fmt: skip
        raise StoreError(f"{where} is damaged: it is no WebP picture that says what it shows; {MEND}") from error
    return image, about


def mosaic(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Equal tiles ``[h, w, 3]`` side by side, row by row; places left over at the end are white.

    Example:
        >>> mosaic([np.zeros((2, 3, 3), np.uint8)] * 3, 2).shape
        (4, 6, 3)
    """
    h, w, c = tiles[0].shape
    rows = -(-len(tiles) // columns)
    found = np.full((rows * h, columns * w, c), 255, np.uint8)
    for place, tile in enumerate(tiles):
        y, x = divmod(place, columns)
        found[y * h : (y + 1) * h, x * w : (x + 1) * w] = tile
    return found


def tiles_of(picture: np.ndarray, count: int, columns: int) -> list[np.ndarray]:
    """The tiles of a mosaic, the inverse of :func:`mosaic` but for what WebP loses."""
    rows = -(-count // columns)
    h, w = picture.shape[0] // rows, picture.shape[1] // columns
    places = [divmod(n, columns) for n in range(count)]
    return [picture[y * h : (y + 1) * h, x * w : (x + 1) * w] for y, x in places]


def scaled(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture ``[h, w, 3]`` fitted into a white square ``[side, side, 3]``, its proportions kept."""
    h, w = picture.shape[:2]
    factor = side / max(h, w)
    size = (max(round(w * factor), 1), max(round(h * factor), 1))
    image = Image.fromarray(picture)
    if (w, h) != size:
        image = image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)


def read_pictures(files: Files, layer: str, recipe: str, units: Sequence[int]) -> FeatureImages:
    """Pictures of units of a layer as a record; the numbers of a mosaic are those of its first tile.

    Raises:
        StoreError: for a picture that is missing or damaged.
    """
    paths = [picture_path(layer, recipe, u) for u in units]
    opened = [decoded(files.read(path), path) for path in paths]
    about = [a for _, a in opened]

    def numbers(name: str, kind: Any, none: Any) -> np.ndarray:
        values = [first_number(a.get(name)) for a in about]
        return np.array([none if v is None else v for v in values], kind)

    height, width = (max(p.shape[i] for p, _ in opened) for i in (0, 1))
    images = np.full((len(opened), height, width, 3), 255, np.uint8)
    for row, (pixels, _) in enumerate(opened):
        images[row, : pixels.shape[0], : pixels.shape[1]] = pixels
    first = about[0]
    return FeatureImages(
        images=images,
        labels=tuple(f"{layer}:{u}" for u in units),
        layer=layer,
        units=np.array(units, np.int64),
        reached=numbers("reached", np.float32, np.nan),
        viewed=numbers("viewed", np.float32, np.nan),
        begun=numbers("begun", np.float32, np.nan),
        alive=np.array([bool(first_number(a.get("alive", True))) for a in about]),  # crops of images do not say
        seeds=numbers("seed", np.int64, 0),
        tries=numbers("tries", np.int64, 0),
        recipe=dict(first.get("settings") or {"name": recipe}),
        view=tuple(first.get("view") or (0, 0)),  # pyright: ignore[reportArgumentType]
        provenance=Provenance(
            first.get("model", ""), first.get("weights_hash", ""), first.get("weightatlas", ""),
            tuple(first.get("notes", ())),
        ),
    )  # fmt: skip


def first_number(value: Any) -> Any:
    """A number, or the first of a mosaic's."""
    return (value[0] if value else None) if isinstance(value, list) else value
