"""Feature visualizations that several figures share, each rendered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..featurevis import Recipe, visualize
from ..network import Network
from ..records import FeatureImages

IMAGE_AXES = 3  # of an input that pictures can be made for


class Pictures:
    """Pictures of one network's units and directions, kept so that no unit is rendered twice.

    Args:
        net: an open network.
        recipe: a recipe's name or a :class:`~weightatlas.Recipe`.
        seed: of all starts.
        device: where to render.
        progress: called with (pictures done, in all) while some are rendered.
    """

    def __init__(
        self,
        net: Network,
        recipe: str | Recipe = "display",
        seed: int = 0,
        device: Any = None,
        progress: Callable[[float, int], None] | None = None,
    ) -> None:
        self._net, self._recipe, self._seed = net, recipe, seed
        self._device, self._progress = device, progress
        self._records: dict[str, list[FeatureImages]] = {}
        self._directions: dict[tuple[str, bytes], FeatureImages] = {}
        self.rendered = 0

    @property
    def possible(self) -> bool:
        """Whether the network takes images at all."""
        net = self._net
        return net.module is not None and net.input is not None and len(net.input.shape) == IMAGE_AXES

    def units(self, layer: str, units: Iterable[int]) -> list[FeatureImages]:
        """Records that hold pictures of these units, those rendered before included; none for the network's input.

        Raises:
            ArgumentError, UnknownNameError: as :func:`weightatlas.visualize`.
        """
        if not self.possible or layer not in self._net.layers:
            return []
        name = self._net.layers[layer].name
        known = self._records.setdefault(name, [])
        have = {int(u) for record in known for u in record.units}
        missing = sorted({int(u) for u in units} - have)
        if missing:
            known.append(self._render(name, units=missing))
        return known

    def directions(self, layer: str, vectors: np.ndarray) -> FeatureImages | None:
        """Pictures of directions over a layer's units, ``[N, O]``; ``None`` where there can be none."""
        if not self.possible or layer not in self._net.layers:
            return None
        key = (self._net.layers[layer].name, np.ascontiguousarray(vectors, np.float32).tobytes())
        if key not in self._directions:
            self._directions[key] = self._render(layer, directions=vectors)
        return self._directions[key]

    def _render(self, layer: str, **what: Any) -> FeatureImages:
        made = visualize(
            self._net,
            layer,
            recipe=self._recipe,
            seed=self._seed,
            device=self._device,
            progress=self._progress,
            **what,
        )
        self.rendered += len(made)
        return made
