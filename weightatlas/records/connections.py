"""The strongest sources of one unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record

if TYPE_CHECKING:
    from .weights import Weights

By = Literal["l2", "excite", "inhibit"]


@dataclass(frozen=True, repr=False, eq=False)
class Connections(Record):
    """The source units that one target unit listens to most, strongest first, with their maps.

    Args:
        target, source: names of the layers.
        unit: number of the target unit in its layer.
        by: what strength means: ``"l2"``, ``"excite"`` or ``"inhibit"``, see :meth:`weightatlas.Weights.top`.
        sources: int64 ``[k]``: numbers of the source units in their layer.
        strengths: float32 ``[k]``: L2 norm over positions of the map, of its positive or of its negative part, as
            ``by`` says; never negative.
        maps: float32 ``[k, H, W]``: the whole signed maps, y down, x right.
        sums: float32 ``[k]``: Σ of each map over its positions, what the source unit does if it is active everywhere.
        share: the part of the unit's total squared norm that these maps hold, 0 … 1; 1 if it has no weights at all.
        shown_of: number of source units with any weight on this unit.
        origin, stride, dilation: ``(y, x)``, as in :class:`weightatlas.Weights`.
        provenance: of the weights.
    """

    target: str
    source: str
    unit: int
    by: str
    sources: np.ndarray
    strengths: np.ndarray
    maps: np.ndarray
    sums: np.ndarray
    share: float
    shown_of: int
    origin: tuple[float, float] = (0, 0)
    stride: tuple[float, float] = (1, 1)
    dilation: tuple[float, float] = (1, 1)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        kinds = {"sources": np.int64, "strengths": np.float32, "maps": np.float32, "sums": np.float32}
        arrays = {name: np.asarray(getattr(self, name), kind) for name, kind in kinds.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        count, maps = shapes["sources"], shapes["maps"]
        if {shapes["strengths"], shapes["sums"], maps[:1]} != {count} or (len(count), len(maps)) != (1, 3):
            raise ArgumentError(
                f"Connections need sources, strengths, sums [k] and maps [k, H, W]; got shapes {shapes}"
            )
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    @property
    def address(self) -> str:
        """Address ``layer:unit`` of the target unit."""
        return f"{self.target}:{self.unit}"

    @property
    def addresses(self) -> list[str]:
        """Addresses ``layer:unit`` of the source units, strongest first."""
        return [f"{self.source}:{u}" for u in self.sources]

    def __repr__(self) -> str:
        held = f"{len(self.sources)} of {self.shown_of} units hold {self.share:.0%} of the squared weights"
        how = "" if self.by == "l2" else f" that {self.by}"
        return f"Connections({self.address} ← {self.source}{how}: {held})"


def ranking(strengths: np.ndarray, numbers: np.ndarray, k: int) -> np.ndarray:
    """Indices of the ``k`` largest strengths, largest first; of equal ones the smaller number; zeros left out.

    Example:
        >>> ranking(np.array([1.0, 0.0, 3.0, 1.0]), np.array([9, 5, 7, 2]), 3).tolist()
        [2, 3, 0]
    """
    order = np.lexsort((numbers, -strengths))
    return order[strengths[order] > 0][:k]


def checked_count(k: Any, what: str, name: str = "k") -> int:
    """A number of things to show, by the name of the argument that gave it.

    Raises:
        ArgumentError: if it is no integer, or less than 1.
    """
    if isinstance(k, bool) or not hasattr(k, "__index__") or k.__index__() < 1:
        raise ArgumentError(f"{name}={k!r} is no number of {what}; give an integer of at least 1")
    return k.__index__()


def norms(maps: np.ndarray, by: By = "l2") -> np.ndarray:
    """L2 norm over the last two axes of maps, or of their positive or negative part; float32."""
    part = {"l2": np.abs, "excite": lambda v: np.maximum(v, 0), "inhibit": lambda v: np.maximum(-v, 0)}[by](maps)
    return np.sqrt(np.square(part, dtype=np.float64).sum(axis=(-2, -1))).astype(np.float32)


def strongest(weights: Weights, unit: int, k: int, by: By) -> Connections:
    """See :meth:`weightatlas.Weights.top`."""
    if by not in get_args(By):
        raise ArgumentError(f"by={by!r} is none of {', '.join(map(repr, get_args(By)))}")
    count = checked_count(k, "source units")
    one = weights.select([unit])
    one.require_finite()
    seen, maps = one.seen_units(0), one.values[0]
    numbers = one.source_indices[seen.start : seen.stop]
    strengths, squares = norms(maps, by), np.square(maps, dtype=np.float64).sum(axis=(1, 2))
    top = ranking(strengths, numbers, count)
    return Connections(
        target=one.target,
        source=one.source,
        unit=int(one.units[0]),
        by=by,
        sources=numbers[top],
        strengths=strengths[top],
        maps=maps[top],
        sums=maps[top].sum(axis=(1, 2), dtype=np.float64),
        share=float(squares[top].sum() / squares.sum()) if squares.any() else 1.0,
        shown_of=int((squares > 0).sum()),
        origin=one.origin,
        stride=one.stride,
        dilation=one.dilation,
        provenance=one.provenance,
    )
