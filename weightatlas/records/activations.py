"""What the units of some layers did on a few images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError, UnknownNameError, unknown_name
from .base import Provenance, Record, provenance_from
from .connections import checked_count

#: Arrays in the record's file are called by this and the layer's place.
_MAPS = "maps"


@dataclass(frozen=True, repr=False, eq=False)
class Activations(Record):
    """Maps of all units of some layers on some images.

    ``a["blocks.4.1"]`` is float32 ``[N, O, H, W]``: image, unit, y, x.

    Args:
        maps: of each layer, float32 ``[N, O, H, W]``; H = W = 1 for layers without positions, H = 1 for signals.
        images: uint8 ``[N, h, w, C]``: what the network saw, turned back into pictures; empty for other inputs.
        names: of the images.
        channel_names: of the images' channels.
        provenance: model, hash, version, notes.
    """

    maps: dict[str, np.ndarray]
    images: np.ndarray
    names: tuple[str, ...]
    channel_names: tuple[str, ...] = ("red", "green", "blue")
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that all maps are of the same images."""
        for layer, values in self.maps.items():
            if values.ndim != 4 or len(values) != len(self.names):
                raise ArgumentError(f"maps of {layer!r} {values.shape} are not [N={len(self.names)}, O, H, W]")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order in which they were asked for."""
        return tuple(self.maps)

    def __getitem__(self, layer: str) -> np.ndarray:
        """A layer's maps, float32 ``[N, O, H, W]``.

        Raises:
            UnknownNameError: for a layer that is not among them.
        """
        if layer not in self.maps:
            raise unknown_name("layer in these activations", str(layer), self.maps)
        return self.maps[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.names)

    def unit(self, layer: str, unit: int) -> np.ndarray:
        """One unit's maps, float32 ``[N, H, W]``.

        Raises:
            UnknownNameError: for a layer or unit that is not among them.
            ArgumentError: for a unit that is no whole number.
        """
        maps, unit = self[layer], _whole(unit, "unit")
        if not 0 <= unit < maps.shape[1]:
            raise UnknownNameError(f"layer {layer!r} has no unit {unit}; its units are 0 … {maps.shape[1] - 1}")
        return maps[:, unit]

    def top_units(
        self, layer: str, k: int = 10, *, image: int = 0, at: tuple[int, int] | None = None
    ) -> list[tuple[int, float, tuple[int, int]]]:
        """The units that are most active on an image, strongest first; those that come to NaN last.

        Args:
            layer: whose.
            k: how many.
            image: its place among the images.
            at: a position (y, x); default anywhere, each unit where it is strongest.

        Returns:
            Triples of a unit's number, its activation and the position (y, x) of that.

        Raises:
            UnknownNameError: for a layer, image or position that does not exist.
            ArgumentError: for a k below 1, or what is no whole number or position.
        """
        maps, k, image = self[layer], checked_count(k, "units"), _whole(image, "image")
        if not 0 <= image < len(maps):
            raise UnknownNameError(f"there is no image {image}; there are 0 … {len(maps) - 1}")
        _, _, h, w = maps.shape
        at = None if at is None else _position(at, layer)
        if at is not None and not (0 <= at[0] < h and 0 <= at[1] < w):
            raise UnknownNameError(f"{layer!r} has no position {at}; its grid is {h} × {w}")
        flat = maps[image].reshape(maps.shape[1], -1)
        ranked = np.where(np.isnan(flat), -np.inf, flat)  # argmax would take NaN for the largest
        places = np.full(len(flat), at[0] * w + at[1]) if at is not None else ranked.argmax(axis=1)
        values, size = flat[np.arange(len(flat)), places], ranked[np.arange(len(flat)), places]
        order = np.lexsort((np.isnan(values), -size))[:k]  # by size; of equal ones NaN last, then by number
        return [(int(u), float(values[u]), (int(places[u]) // w, int(places[u]) % w)) for u in order]

    def _split(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Each layer's maps are an array of their own."""
        arrays, meta = super()._split()
        meta["fields"]["maps"] = list(self.maps)
        return arrays | {f"{_MAPS}{n}": m for n, m in enumerate(self.maps.values())}, meta

    @classmethod
    def _join(cls, arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> Activations:
        maps = {layer: arrays.pop(f"{_MAPS}{n}") for n, layer in enumerate(fields.pop("maps"))}
        return cls(
            maps=maps,
            images=arrays["images"],
            names=tuple(fields["names"]),
            channel_names=tuple(fields["channel_names"]),
            provenance=provenance_from(fields["provenance"]),
        )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{layer} {list(m.shape[1:])}" for layer, m in self.maps.items())
        return f"Activations({len(self)} image{'s' if len(self) != 1 else ''}: {shapes})"


def _whole(number: Any, name: str) -> int:
    """A whole number that came as an argument.

    Raises:
        ArgumentError: for anything else.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise ArgumentError(f"{name}={number!r} is no whole number")
    return number.__index__()


def _position(at: Any, layer: str) -> tuple[int, int]:
    try:
        y, x = (v.__index__() for v in at)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"at={at!r} is no position (y, x) of {layer!r}") from error
    return y, x
