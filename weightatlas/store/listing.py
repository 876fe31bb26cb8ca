"""What exists in an atlas, from the names of its files alone."""

from __future__ import annotations

from collections.abc import Mapping

from .arrays import META
from .layout import LAYERS, connections_path, layer_path, paths_path, picture_path, weights_path
from .wanted import WantedPair


class Listing:
    """The files of an atlas by path, with their sizes.

    Args:
        sizes: path → bytes.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)

    def __contains__(self, path: object) -> bool:
        return path in self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def begun(self) -> bool:
        """Whether the table of layers is there, which comes first."""
        return LAYERS in self.sizes

    def has_weights(self, source: str, target: str) -> bool:
        """Whether the weights of a pair are complete."""
        return f"{weights_path(target, source)}/{META}" in self.sizes

    def middles(self, pair: WantedPair) -> list[str]:
        """The middle layers of a pair whose paths are complete."""
        return [m for m in pair.middles if f"{paths_path(pair.target, pair.source, m)}/{META}" in self.sizes]

    def has(self, pair: WantedPair, name: str) -> bool:
        """Whether a document on a pair is there."""
        return connections_path(pair.target, pair.source, name) in self.sizes

    def has_about(self, layer: str, name: str) -> bool:
        """Whether a document on a layer is there."""
        return layer_path(layer, name) in self.sizes

    def pictured(self, layer: str, recipe: str, units: tuple[int, ...]) -> list[int]:
        """The units that have a picture."""
        return [u for u in units if picture_path(layer, recipe, u) in self.sizes]
