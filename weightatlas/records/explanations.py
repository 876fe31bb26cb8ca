"""A walk from one unit on one image down to the pixels: attributions with the weights that lie between."""

from __future__ import annotations

from dataclasses import dataclass

from .attributions import Attributions
from .weights import Weights


@dataclass(frozen=True)
class Step:
    """Why one unit fired at one position: what pushed it up and down in an earlier layer, and through which weights.

    Args:
        attributions: what each source unit contributed on this image.
        weights: the target unit's (expanded) weights on the source layer, ``[1, I, h, w]``; ``None`` without.
        why: why there are no weights, ``""`` where there are.
        alike: cosine between these weights and the gradient on this image: how far the weights tell what happened
            here; NaN without weights, 1 where they are the layer's own.
        up, down: numbers of the source units that are shown: they pushed the target up most, and down most.
        follow: the source unit that the walk goes on with, −1 at its end.
        place: where on the source grid (y, x) it goes on.
    """

    attributions: Attributions
    weights: Weights | None
    why: str
    alike: float
    up: tuple[int, ...]
    down: tuple[int, ...]
    follow: int = -1
    place: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Explanation:
    """Steps of a walk: the first explains the unit that was asked about, each further one a source of the one before.

    Args:
        steps: at least one.
    """

    steps: tuple[Step, ...]
