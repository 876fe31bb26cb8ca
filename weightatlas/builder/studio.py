"""What figures between pictures share: a network, how its weights are read, and the pictures made so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .. import figures
from ..errors import ArgumentError
from ..factor import factorize
from ..featurevis import Recipe, recipe_for
from ..figures import Palette
from ..figures.theme import check_choice
from ..lens import read_images
from ..network import Network, place, unit_place
from ..records import Agreement, Factors, FeatureImages, Weights, agreement
from ..weights import as_input, checked_device, expanded_weights, expected_gradient, reads
from .pictures import Pictures

Skip = Literal["include", "exclude"]
Progress = Callable[[float, int], None]


@dataclass
class Studio:
    """A network and the choices that hold for every figure made of it.

    Args:
        net: an open network.
        gate, skip: as in :func:`weightatlas.expanded_weights`.
        images: on which to measure how far weights agree with the network, as in
            :func:`weightatlas.expected_gradient`, or files or folders of them; ``None`` for not at all.
        recipe, seed, device: of pictures, as in :func:`weightatlas.visualize`; the seed also of factorizations.
        palette: of signed maps.
        progress: called with (pictures done, in all).
    """

    net: Network
    gate: Any = "expected"
    skip: Skip = "exclude"
    images: Any = None
    recipe: str | Recipe = "display"
    seed: int = 0
    device: Any = None
    palette: Palette = "classic"
    progress: Progress | None = None
    pictures: Pictures = field(init=False)

    def __post_init__(self) -> None:
        check_choice("palette", self.palette, Palette)
        if isinstance(self.recipe, str) and self.net.layers:
            recipe_for(self.net, next(iter(self.net.layers)), self.recipe)  # refuses a style that does not exist
        if self.device is not None:
            checked_device(self.device)
        photos = read_images(self.net, self.images)
        self._photos = None if photos is None else as_input(self.net, photos)
        self.pictures = Pictures(self.net, self.recipe, self.seed, self.device, self.progress)
        self._weights: dict[tuple[str, str], Weights] = {}
        self._agreements: dict[tuple[str, str, tuple[int, ...]], Agreement] = {}

    def weights(self, source: str, target: str, units: Sequence[int] | None = None) -> Weights:
        """Expanded weights from one layer to another, for all target units or some."""
        key = (source, target)
        if units is None:
            if key not in self._weights:
                self._weights[key] = expanded_weights(self.net, source, target, gate=self.gate, skip=self.skip)
            return self._weights[key]
        if key in self._weights:
            return self._weights[key].select(units)
        return expanded_weights(self.net, source, target, units, gate=self.gate, skip=self.skip)

    def agreement(self, weights: Weights) -> Agreement | None:
        """How far weights agree with the real network on the images, if there are any."""
        if self._photos is None:
            return None
        key = (weights.source, weights.target, tuple(weights.units.tolist()))
        if key not in self._agreements:
            truth = expected_gradient(
                self.net, weights.source, weights.target, self._photos, units=weights.units, skip=self.skip,
                seed=self.seed,
            )  # fmt: skip
            self._agreements[key] = agreement(weights, truth, skip=self.skip)
        return self._agreements[key]

    def layer(self, address: str, role: str) -> str:
        """The name of a layer.

        Raises:
            ArgumentError: for a unit.
            UnknownNameError: for a layer that does not exist.
        """
        layer, unit = self.place(address, role)
        if unit is not None:
            raise ArgumentError(f"{role}={address!r} names a unit; this figure is of a layer, such as {layer!r}")
        return layer

    def unit(self, address: str, role: str) -> tuple[str, int]:
        """Layer and unit of an address; raises as :func:`weightatlas.network.unit_place`."""
        return unit_place(self.net, address, role)

    def place(self, address: str, role: str) -> tuple[str, int | None]:
        """Layer and unit of an address, ``None`` for a layer; raises as :func:`weightatlas.network.place`."""
        return place(self.net, address, role)

    def before(self, source: str | None, target: str) -> str:
        """The source layer: the one that is given, or the one that the target reads."""
        return self.layer(source, "source") if source is not None else reads(self.net, target)

    def at_positions(self, weights: Weights, unit: int) -> tuple[list[tuple[int, int]], FeatureImages]:
        """Places of a unit's map and the pictures of its weights' direction there.

        Raises:
            ArgumentError: if the network cannot have any.
        """
        places = figures.drawn_places(weights, unit)
        values = weights.select([unit]).dense().values[0]
        made = self.pictures.directions(weights.source, np.stack([values[:, y, x] for y, x in places]))
        if made is None:
            raise ArgumentError(
                f"{self.net.name} has no pictures of directions over {weights.source!r}; they need image input and a "
                "layer with units"
            )
        return places, made

    def factors(self, weights: Weights, rank: int, method: Literal["posneg", "semi"] = "posneg") -> Factors:
        """Factors with non-negative channels, whose directions can be pictured."""
        return factorize(weights, rank, nonnegative="channels", method=method, seed=self.seed)

    def factors_of_one(self, weights: Weights, rank: int) -> Factors | None:
        """Factors of a single unit's weights; ``None`` where it has too few positions or sources for any."""
        _, i, h, w = weights.values.shape
        if isinstance(rank, bool) or not hasattr(rank, "__index__"):
            raise ArgumentError(f"rank={rank!r} is no number of factors")
        fitting = min(rank, i * weights.groups, h * w)
        if min(i, h * w) < 2 or not weights.values.any():
            return None
        return self.factors(weights, fitting)
