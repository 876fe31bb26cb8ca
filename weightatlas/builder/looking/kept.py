"""What is kept in memory: the images that were looked at last, and answers about them, neither without bound."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

#: Images at once, and bytes of maps and of answers kept for each.
IMAGES, MAPS, ANSWERS = 8, 2**25, 2**24


class Kept:
    """Values by name, those used last, up to so many bytes.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._values: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, name: Any) -> Any:
        """A value, or ``None``."""
        if name not in self._values:
            return None
        self._values.move_to_end(name)
        return self._values[name][0]

    def put(self, name: Any, value: Any, size: int) -> None:
        """Keeps a value; others go for it, and one that is larger than everything is not kept."""
        if size > self.most:
            return
        self._values[name] = value, size
        self.held += size
        while self.held > self.most:
            self.held -= self._values.popitem(last=False)[1][1]


@dataclass
class Seen:
    """One image.

    Args:
        token: by which it is known: a hash of its file, so that the same one is found again when it is dropped again.
        inputs: as the network takes it, ``[1, *input shape]``.
        pixels: as the network saw it, uint8 ``[h, w, C]``.
        size: (height, width) of the file's picture.
        notes: what was changed of it.
        maps: layer → activations.
        answers: question → answer.
    """

    token: str
    inputs: Tensor
    pixels: np.ndarray
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    maps: Kept = field(default_factory=lambda: Kept(MAPS))
    answers: Kept = field(default_factory=lambda: Kept(ANSWERS))


class Images:
    """The images that were looked at last, by token."""

    def __init__(self, most: int = IMAGES) -> None:
        self.most = most
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def get(self, token: str) -> Seen | None:
        """An image, if it is still there."""
        if token in self._seen:
            self._seen.move_to_end(token)
        return self._seen.get(token)

    def put(self, seen: Seen) -> None:
        """Keeps an image; the one that was not used for longest goes for it."""
        self._seen[seen.token] = seen
        while len(self._seen) > self.most:
            self._seen.popitem(last=False)
