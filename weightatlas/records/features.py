"""Pictures of what units and directions detect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError, UnknownNameError
from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class FeatureImages(Record):
    """Feature visualizations: inputs optimised to excite something in a network, with what they reach.

    Args:
        images: uint8 ``[N, H, W, C]``, C as the network's input has channels.
        labels: of each picture: a unit's address (``blocks.4.1:3``), or what the objective asks for.
        layer: whose units or directions these are; of an objective over several layers, the last.
        units: int64 ``[N]``: numbers of the units; empty where pictures are of something else.
        reached: float32 ``[N]``: the objective of the pictures as they are, in the layer's own units.
        viewed: float32 ``[N]``: its mean over random views (shifted, turned and scaled as the recipe says).
        begun: float32 ``[N]``: the objective of the noise that the picture began as.
        alive: bool ``[N]``: whether there is a result. A picture that is not alive shows nothing: its objective had
            no gradient, was not finite, or did not grow, from several starts.
        seeds: int64 ``[N]``: of each picture's own start and views.
        tries: int64 ``[N]``: starts that were needed.
        recipe: all settings; ``Recipe(**recipe)`` makes the same pictures again.
        view: pixels ``(h, w)`` of the view that is judged: more than the picture has where that has no edges.
        channel_names: of C.
        alpha: uint8 ``[N, H, W]``, how opaque each place is; empty without transparency.
        provenance: model, hash, version, notes.
    """

    images: np.ndarray
    labels: tuple[str, ...]
    layer: str
    units: np.ndarray
    reached: np.ndarray
    viewed: np.ndarray
    begun: np.ndarray
    alive: np.ndarray
    seeds: np.ndarray
    tries: np.ndarray
    recipe: dict[str, Any]
    view: tuple[int, int] = (0, 0)
    channel_names: tuple[str, ...] = ("red", "green", "blue")
    alpha: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that all arrays tell of the same pictures."""
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ArgumentError(f"images {self.images.dtype} {self.images.shape} are not uint8 [N, H, W, C]")
        n = len(self.images)
        for name in ("labels", "reached", "viewed", "begun", "alive", "seeds", "tries"):
            if len(getattr(self, name)) != n:
                raise ArgumentError(f"{n} images came with {len(getattr(self, name))} {name}")
        if len(self.units) not in (0, n):
            raise ArgumentError(f"{n} images came with {len(self.units)} units")
        if len(self.alpha) and (self.alpha.shape != self.images.shape[:3] or self.alpha.dtype != np.uint8):
            raise ArgumentError(f"alpha {self.alpha.dtype} {self.alpha.shape} does not fit images {self.images.shape}")
        if len(self.channel_names) != self.images.shape[3]:
            names = len(self.channel_names)
            raise ArgumentError(f"images of {self.images.shape[3]} channels came with {names} channel_names")

    def __len__(self) -> int:
        """The number of pictures N."""
        return len(self.images)

    def image(self, unit: int) -> np.ndarray:
        """The picture of a unit, uint8 ``[H, W, C]``.

        Raises:
            UnknownNameError: for a unit that is not among them.
        """
        found = np.flatnonzero(self.units == unit)
        if not len(found):
            listed = ", ".join(map(str, self.units[:6].tolist())) or "none by number"
            raise UnknownNameError(f"there is no picture of unit {unit} of {self.layer!r}; there are: {listed}")
        return self.images[found[0]]

    def select(self, rows: Sequence[int]) -> FeatureImages:
        """The same record with some of its pictures, by place.

        Raises:
            UnknownNameError: for a place that does not exist.
        """
        wrong = [r for r in rows if not 0 <= r < len(self)]
        if wrong:
            raise UnknownNameError(f"there is no picture {wrong[0]}; there are 0 … {len(self) - 1}")
        kept = list(rows)
        return FeatureImages(
            self.images[kept], tuple(self.labels[r] for r in kept), self.layer,
            self.units[kept] if len(self.units) else self.units, self.reached[kept], self.viewed[kept],
            self.begun[kept], self.alive[kept], self.seeds[kept], self.tries[kept], self.recipe, self.view,
            self.channel_names,
            self.alpha[kept] if len(self.alpha) else self.alpha, self.provenance,
        )  # fmt: skip

    def __repr__(self) -> str:
        n, h, w, _ = self.images.shape
        dead = int((~self.alive).sum())
        pictures = "picture" if n == 1 else "pictures"
        lost = f", {dead} without a result" if dead else ""
        return (
            f"FeatureImages({self.layer}: {n} {pictures} of {h} × {w}, recipe {self.recipe.get('name', 'own')}{lost})"
        )
