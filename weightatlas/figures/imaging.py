"""The image that a unit looked at: where on it, and how strongly everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import Box, Picture, picture_square
from .layout import RADIUS
from .sheets import COLOURS

FAINT = 0.12  # of an image's colours that are left where a unit does nothing
LEAST_FRAME = 6  # pixels
WHITE = 255


@dataclass(frozen=True)
class Grid:
    """Where a layer's positions lie on an image.

    Args:
        shape: (H, W) of the positions.
        image: (h, w) of the image in pixels.
        centres: (y, x, dy, dx), as in :class:`~weightatlas.records.Step`; without them positions divide the image.
    """

    shape: tuple[int, ...]
    image: tuple[int, ...]
    centres: tuple[float, ...] = ()

    def cell(self, at: Sequence[int]) -> tuple[float, float, float, float]:
        """Top, left, height and width of a position, as shares of the image; within it."""
        found = []
        for axis in (0, 1):
            first, step = self._along(axis)
            start = min(max((first + at[axis] * step) / self.image[axis], 0), 1)
            end = min(max((first + (at[axis] + 1) * step) / self.image[axis], 0), 1)
            found.append((start, end - start))
        return found[0][0], found[1][0], found[0][1], found[1][1]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``[H, W]`` at every pixel ``[h, w]``; those beyond the outermost positions count to these."""
        rows, columns = (
            np.clip((np.arange(self.image[a]) + 0.5 - first) // step, 0, self.shape[a] - 1).astype(int)
            for a, (first, step) in enumerate(map(self._along, (0, 1)))
        )
        return values[rows[:, None], columns]

    def _along(self, axis: int) -> tuple[float, float]:
        """Pixel at which position 0 begins, and pixels from one to the next."""
        if self.centres:
            step = self.centres[2 + axis] or self.image[axis]
            return self.centres[axis] + 0.5 - step / 2, step
        return 0.0, self.image[axis] / self.shape[axis]


def visible_image(image: np.ndarray, names: Sequence[str] = COLOURS) -> np.ndarray:
    """An image ``[h, w, C]`` as one can look at it, uint8 ``[h, w, 3]``: channels that are no colours as their mean."""
    if image.shape[2] == 3 and tuple(names) == COLOURS:
        return image
    return np.repeat(image.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)


def spotlight(image: np.ndarray, values: np.ndarray, grid: Grid) -> np.ndarray:
    """An image ``[h, w, 3]`` that fades to white where a unit's activations ``[H, W]`` fall to 0 or below."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0)
    strength = np.clip(values, 0, None) / (values.max() if values.max() > 0 else 1.0)
    kept = (FAINT + (1 - FAINT) * grid.spread(strength))[..., None]
    return (WHITE + (image - float(WHITE)) * kept).round().astype(np.uint8)


def whole(box: Sequence[int], image: Sequence[int]) -> bool:
    """Whether a part (top, left, bottom, right) is all of an image of (h, w) pixels.

    Example:
        >>> whole((0, 0, 24, 32), (24, 32)), whole((0, 4, 24, 32), (24, 32)), whole((), (24, 32))
        (True, False, False)
    """
    return tuple(box) == (0, 0, *image[:2])


def marked(
    colours: np.ndarray,
    words: str,
    width: float,
    box: Sequence[int] = (),
    cell: Sequence[float] = (),
) -> Box:
    """An image with the part that a position sees, and the position itself, framed.

    Args:
        colours: uint8 ``[h, w, 3]``.
        words: what it shows.
        width: in pixels.
        box: (top, left, bottom, right) in the image's pixels; not framed if it is all of it.
        cell: (top, left, height, width) of the position as shares of the image.
    """
    h, w = colours.shape[:2]
    height, scale = width * h / w, width / w

    def draw(scene, x: float, y: float) -> None:
        scene.photo(x, y, width, height, colours, words, RADIUS)
        if box and not whole(box, (h, w)):
            top, left, bottom, right = (v * scale for v in box)
            scene.frame(x + left + 1, y + top + 1, right - left - 2, bottom - top - 2)
        if cell:
            _frame(scene, (x, y, width, height), cell)

    return Box(width, height, draw, height / 2)


def crop_square(picture: Picture, side: float, cell: Sequence[float] = ()) -> Box:
    """The middle of a crop as a square, with the position that it was cut for framed.

    Args:
        picture: of the crop.
        side: in pixels.
        cell: (top, left, height, width) of the position as shares of the crop; none if the crop tells by itself.
    """
    plain = picture_square(picture, side)
    if picture.colours is None or not cell:
        return plain
    shape = picture.colours.shape[:2]
    n = min(shape)
    ends = [((cell[a] * shape[a] - (shape[a] - n) // 2) / n, cell[2 + a] * shape[a] / n) for a in (0, 1)]

    def draw(scene, x: float, y: float) -> None:
        plain.draw(scene, x, y)
        _frame(scene, (x, y, side, side), (ends[0][0], ends[1][0], ends[0][1], ends[1][1]))

    return Box(side, side, draw, plain.axis)


def _frame(scene, around: Sequence[float], cell: Sequence[float]) -> None:
    """A frame at shares (top, left, height, width) of a rectangle (x, y, width, height): inside, and not too small."""
    x, y, width, height = around
    high, wide = max(cell[2] * height, LEAST_FRAME), max(cell[3] * width, LEAST_FRAME)
    down = min(max((cell[0] + cell[2] / 2) * height, high / 2), height - high / 2)
    right = min(max((cell[1] + cell[3] / 2) * width, wide / 2), width - wide / 2)
    scene.frame(x + right - wide / 2, y + down - high / 2, wide, high, 1)
