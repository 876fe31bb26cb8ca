"""Pictures of units, by address, from whatever records a figure is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..records import FeatureImages, Weights
from .boxes import Picture
from .sheets import flat_colours

NONE, DEAD = "no picture", "no result"
#: What a channel of an RGB input looks like.
CHANNELS = {"red": (0xD9, 0x3A, 0x3A), "green": (0x3A, 0xA6, 0x4A), "blue": (0x3A, 0x5F, 0xD9)}

Images = FeatureImages | Sequence[FeatureImages] | Mapping[str, FeatureImages] | None


class Gallery:
    """Pictures of units of any number of layers.

    Args:
        images: one record, several, or several by layer; of the same layer several, too.
        channels: names of an input's channels by number, which are shown as their own colour.

    Raises:
        ArgumentError: for anything else.
    """

    def __init__(self, images: Images, channels: Mapping[str, Mapping[int, str]] | None = None) -> None:
        if images is not None and not isinstance(images, FeatureImages | Iterable):
            raise ArgumentError(
                f"images must be FeatureImages from visualize(), or several of them, not {type(images).__name__}"
            )
        given: Iterable[Any] = () if images is None else [images] if isinstance(images, FeatureImages) else (
            images.values() if isinstance(images, Mapping) else images)  # fmt: skip
        self.records = list(given)
        for record in self.records:
            if not isinstance(record, FeatureImages):
                raise ArgumentError(
                    f"images must be FeatureImages from visualize(), or several of them, not {type(record).__name__}"
                )
        self._channels = channels or {}

    def names(self, layer: str) -> dict[int, str]:
        """Names of a layer's channels by number, where it is an input whose channels have names."""
        return dict(self._channels.get(layer, {}))

    def of(self, layer: str, unit: int) -> Picture:
        """The picture of a unit; one that says so if there is none."""
        address = f"{layer}:{unit}"
        for record in self.records:
            rows = np.flatnonzero(record.units == unit) if record.layer == layer else []
            if len(rows):
                return one(record, int(rows[0]))
        name = self._channels.get(layer, {}).get(unit, "")
        if name in CHANNELS:
            swatch = np.array(CHANNELS[name], np.uint8).reshape(1, 1, 3)
            return Picture(np.broadcast_to(swatch, (8, 8, 3)), f"{address}: the input's {name}")
        return Picture(None, f"there is no picture of {address}", NONE)


def gallery(images: Images, *weights: Weights) -> Gallery:
    """The pictures for figures of some weights, whose source may be the pixels themselves."""
    named = [w for w in weights if w.sees_pixels]
    return Gallery(
        images, {w.source: dict(zip(w.source_indices.tolist(), w.channel_names, strict=False)) for w in named}
    )


def with_more(pictures: Gallery, *records: FeatureImages | None) -> list[FeatureImages]:
    """All records that a figure draws from."""
    return [*pictures.records, *(r for r in records if r is not None)]


def one(record: FeatureImages, row: int) -> Picture:
    """A picture by its place in a record."""
    label = record.labels[row]
    if not record.alive[row]:
        return Picture(None, f"{label}: no picture excites it", DEAD)
    return Picture(flat_colours(record.images[row], record.channel_names), f"what excites {label}")


def of_factors(record: FeatureImages | None, rank: int) -> list[Picture]:
    """Pictures of a factorization's directions, in their order.

    Raises:
        ArgumentError: if there are as many as there are no factors.
    """
    if record is None:
        return [Picture(None, f"there is no picture of factor {k + 1}", NONE) for k in range(rank)]
    if len(record) != rank:
        raise ArgumentError(f"{len(record)} pictures came in for {rank} factors; visualize(directions=f.channels)")
    return [one(record, k) for k in range(rank)]
