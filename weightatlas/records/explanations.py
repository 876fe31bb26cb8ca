"""A walk from one unit on one image down to the pixels: attributions with the weights that lie between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from . import base
from .attributions import Attributions
from .weights import Weights


@dataclass(frozen=True)
class Step:
    """Why one unit fired at one position: what pushed it up and down in an earlier layer, and through which weights.

    Args:
        attributions: what each source unit contributed on this image.
        weights: the target unit's (expanded) weights on the source layer, ``[1, I, h, w]``; ``None`` without.
        why: why there are no weights, ``""`` where there are.
        alike: cosine between these weights and the gradient on this image, both without paths that have no parameters:
            how far the weights tell what happened here; NaN without weights, 1 where they are the layer's own.
        up, down: numbers of the source units that are shown: they pushed the target up most, and down most.
        follow: the source unit that the walk goes on with, −1 at its end.
        place: where on the source grid (y, x) it goes on.
        instead: the layer that the walk had come to, if this step explains the convolution before it: ``"relu1"``
            where its pre-activation in ``conv1`` is explained, or a function, ``"relu before conv2"``; else ``""``.
        centres: (y, x, dy, dx) in pixels of the image: what position (0, 0) of the target grid sees is centred at
            (y, x), and its neighbours' dy and dx further; empty if unknown.
        ended: why the walk ends here, before the pixels, although more steps were asked for; ``""`` where it goes on,
            has come to the pixels, or was asked for no further.
    """

    attributions: Attributions
    weights: Weights | None
    why: str
    alike: float
    up: tuple[int, ...]
    down: tuple[int, ...]
    follow: int = -1
    place: tuple[int, int] = (0, 0)
    instead: str = ""
    centres: tuple[float, ...] = ()
    ended: str = ""

    @property
    def address(self) -> str:
        """The target unit as ``layer:unit``."""
        return f"{self.attributions.target}:{self.attributions.unit}"

    def name(self, unit: int) -> str:
        """A source unit's address, or the name of the image's channel that it is."""
        found = self.attributions
        if found.source == "input" and unit < len(found.channel_names):
            return found.channel_names[unit]
        return f"{found.source}:{unit}"

    def weight_map(self, unit: int) -> np.ndarray | None:
        """The weights on one source unit in the window, skip paths included, float32 ``[h, w]``; ``None`` without."""
        if self.weights is None:
            return None
        found = self._on_grid(self.weights, unit)
        path = None if self.weights.skip_included else self.weights.skip
        return found if path is None else found + self._on_grid(path, unit)

    def carried(self, unit: int) -> bool:
        """Whether a path without parameters leads from a source unit to the target: a residual stream."""
        path = self.weights.skip if self.weights is not None else None
        return path is not None and bool(self._on_grid(path, unit).any())

    def _on_grid(self, weights: Weights, unit: int) -> np.ndarray:
        """The weights on one source unit as they lie in the window."""
        row = np.flatnonzero(weights.source_indices == unit)
        return self.cut(placed(weights, self.attributions.at, self.attributions.values.shape[1:], row)[0])

    def patch(self, unit: int) -> np.ndarray:
        """A source unit's activations in the window, float32 ``[h, w]``."""
        return self.cut(self.attributions.activations[unit])

    def product(self, unit: int) -> np.ndarray:
        """What a source unit contributed at each position of the window, float32 ``[h, w]``."""
        return self.cut(self.attributions.values[unit])

    def cut(self, values: np.ndarray) -> np.ndarray:
        """The window of values ``[…, H, W]`` on the source grid."""
        top, left, bottom, right = self.attributions.window
        return values[..., top:bottom, left:right]

    def __repr__(self) -> str:
        found = self.attributions
        up, down = (", ".join(str(u) for u in units) or "none" for units in (self.up, self.down))
        return f"Step({found.source} → {self.address} at {found.at}, {found.method}: up {up}; down {down})"


@dataclass(frozen=True)
class Explanation:
    """Steps of a walk: the first explains the unit that was asked about, each further one a source of the one before.

    Args:
        steps: at least one.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Checks that there is a step."""
        if not self.steps:
            raise ArgumentError("an explanation has at least one step")

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.steps)

    def __getitem__(self, place: int) -> Step:
        """A step by its place, the first one 0."""
        return self.steps[place]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __repr__(self) -> str:
        walk = " ← ".join([*(s.address for s in self.steps), self.steps[-1].attributions.source])
        first = self.steps[0].attributions
        return f"Explanation({walk}: value {first.value:.4g} at {first.at})"

    def _repr_html_(self) -> str:
        """How a notebook shows the explanation."""
        return base.display_hook(self) if base.display_hook else f"<pre>{self!r}</pre>"  # pyright: ignore[reportArgumentType]


def placed(
    weights: Weights, at: tuple[int, int], grid: tuple[int, ...], sources: np.ndarray | None = None
) -> np.ndarray:
    """The weights of the first target unit as they lie on the source grid seen from one position, ``[I, H, W]``.

    Args:
        weights: direct or expanded.
        at: the target's position (y, x).
        grid: (H, W) of the source; what lies outside it is left out.
        sources: rows of source units, default all.

    Returns:
        float32; 0 where there is no weight, and at positions between those of the grid.
    """
    values = weights.select(weights.units[:1]).dense()
    chosen = values.values[0] if sources is None else values.values[0][sources]
    made = np.zeros((len(chosen), *grid), np.float32)
    kept, to = [], []
    for axis in (0, 1):
        first = at[axis] * values.stride[axis] + values.origin[axis]
        where = first + np.arange(chosen.shape[1 + axis]) * values.dilation[axis]
        on = (where == np.round(where)) & (where >= 0) & (where < grid[axis])
        kept.append(np.flatnonzero(on))
        to.append(where[on].astype(np.int64))
    made[:, to[0][:, None], to[1]] = chosen[:, kept[0][:, None], kept[1]]
    return made
