"""What a network's operators did on some images, per channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record


@dataclass(frozen=True, repr=False, eq=False)
class Statistics(Record):
    """Means over images and positions, per channel, of every operator that is not linear.

    Of an activation y = f(z) are kept: ``mean`` and ``deviation`` of z, ``rate`` (share of z > 0) and ``slope`` (mean
    of f′(z)); of a product with a factor that depends on the data ``factor n`` (its mean, n its place), of a quotient
    ``divisor n`` (the mean of 1 / divisor); of a norm ``inverse deviation``; of a max pooling ``shares`` (how often
    each element of the window was the largest, ``[C, window]``).

    Args:
        names: ``"operator's address|quantity"``.
        lengths: how many numbers each has.
        values: float32, all of them one after another.
        images: how many were looked at.
        provenance: model, hash, version, notes.
    """

    names: tuple[str, ...]
    lengths: np.ndarray
    values: np.ndarray
    images: int
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that the parts fit each other."""
        lengths, values = np.asarray(self.lengths, np.int64), np.asarray(self.values, np.float32)
        if lengths.shape != (len(self.names),) or values.shape != (int(lengths.sum()),) or (lengths < 0).any():
            raise ArgumentError(
                f"Statistics need a length for each of {len(self.names)} names and as many values as these add up to; "
                f"got {lengths.shape} lengths and {values.shape} values"
            )
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "values", values)
        ends = np.cumsum(lengths)
        places = dict(zip(self.names, zip(ends - lengths, ends, strict=True), strict=True))
        object.__setattr__(self, "_places", places)

    def get(self, operator: str, quantity: str) -> np.ndarray | None:
        """A quantity of an operator by its address, float32; ``None`` if it was not measured."""
        place = self._places.get(f"{operator}|{quantity}")  # pyright: ignore[reportAttributeAccessIssue]
        return None if place is None else self.values[place[0] : place[1]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Pairs (operator, quantity)."""
        return ((name.rpartition("|")[0], name.rpartition("|")[2]) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def operators(self) -> list[str]:
        """Addresses of the operators that were measured."""
        return list(dict.fromkeys(name.rpartition("|")[0] for name in self.names))

    def __repr__(self) -> str:
        return f"Statistics({self.provenance.model}: {len(self.operators)} operators on {self.images} images)"
