"""How far two sets of weights between the same layers agree, unit by unit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from ..errors import ArgumentError
from .base import Provenance, Record
from .connections import checked_count, norms, ranking
from .weights import Weights

Skip = Literal["include", "exclude"]


@dataclass(frozen=True, repr=False, eq=False)
class Agreement(Record):
    """Agreement of two sets of weights of the same units, from :func:`agreement`.

    Args:
        units: int64 ``[O]``: numbers of the target units in their layer.
        cosine: float32 ``[O]``: of the two weight vectors over source units and positions, −1 … 1; NaN where one of
            them is all zero.
        overlap: int64 ``[O]``: how many of the ``k`` strongest source units (by L2 norm) of one are among the ``k``
            strongest of the other.
        k: of ``overlap``, at most the number of source units.
        source, target: names of the layers.
        skip: whether what runs along paths without parameters was kept (``"include"``) or taken off (``"exclude"``).
        provenance: of the first.
    """

    units: np.ndarray
    cosine: np.ndarray
    overlap: np.ndarray
    k: int
    source: str
    target: str
    skip: str = "include"
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        kinds = {"units": np.int64, "cosine": np.float32, "overlap": np.int64}
        arrays = {name: np.asarray(getattr(self, name), kind) for name, kind in kinds.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) != 1 or len(shapes["units"]) != 1:
            raise ArgumentError(f"Agreement needs units, cosine and overlap [O]; got shapes {shapes}")
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    @property
    def mean_cosine(self) -> float:
        """Mean cosine over the units that have one; NaN if none has."""
        known = self.cosine[~np.isnan(self.cosine)]
        return float(known.mean(dtype=np.float64)) if known.size else float("nan")

    @property
    def mean_overlap(self) -> float:
        """Mean number of shared strongest source units, 0 … ``k``."""
        return float(self.overlap.mean()) if self.overlap.size else float("nan")

    def __repr__(self) -> str:
        what = f"{self.source} → {self.target}: {len(self.units)} units"
        means = f"mean cosine {self.mean_cosine:.2f}, {self.mean_overlap:.1f} of {self.k} strongest sources shared"
        return f"Agreement({what}, {means}{', skip path excluded' if self.skip == 'exclude' else ''})"


def agreement(a: Weights, b: Weights, k: int = 10, *, skip: Skip = "include") -> Agreement:
    """How far two sets of weights agree, e.g. expanded weights and the expected gradient.

    Args:
        a, b: weights of the same target units from the same source units. Their windows may differ: they are aligned
            by their origins, and what one of them does not reach is zero. Grouped and dilated ones are unfolded.
        k: how many of the strongest source units to compare; limited to the number of source units.
        skip: ``"exclude"`` takes what runs along paths without parameters (a residual network's identity path, often
            the largest weight of all) off each of the two that contains it and knows it; see
            :attr:`weightatlas.Weights.skip`.

    Returns:
        Cosine and shared strongest source units of every target unit. Source units without any weight are nobody's
        strongest.

    Raises:
        ArgumentError: if the two are not of the same units, naming both.
        WeightValuesError: for NaN or infinite weights.
    """
    if skip not in get_args(Skip):
        raise ArgumentError(f"skip={skip!r} is none of {', '.join(map(repr, get_args(Skip)))}")
    count = min(checked_count(k, "source units"), a.source_units)
    _check_same(a, b)
    one, two = _aligned(_dense(a, skip), _dense(b, skip))
    axes = (1, 2, 3)
    lengths = np.sqrt(np.square(one).sum(axis=axes)) * np.sqrt(np.square(two).sum(axis=axes))
    products = (one * two).sum(axis=axes)
    cosine = np.where(lengths > 0, np.clip(products / np.where(lengths > 0, lengths, 1), -1, 1), np.nan)
    numbers = a.source_indices
    overlap = []
    for x, y in zip(norms(one), norms(two), strict=True):
        overlap.append(len(np.intersect1d(ranking(x, numbers, count), ranking(y, numbers, count))))
    return Agreement(
        units=a.units,
        cosine=cosine,
        overlap=np.array(overlap, np.int64),
        k=count,
        source=a.source,
        target=a.target,
        skip=skip,
        provenance=a.provenance,
    )


def _check_same(a: Weights, b: Weights) -> None:
    pairs = {
        "source": (a.source, b.source),
        "target": (a.target, b.target),
        "stride": (tuple(a.stride), tuple(b.stride)),
        "target units": (a.units.tolist(), b.units.tolist()),
        "source units": (a.source_indices.tolist(), b.source_indices.tolist()),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            raise ArgumentError(
                f"agreement needs the same {what} in both; {a!r} has {_short(one)}, {b!r} has {_short(two)}"
            )
    if a.at is not None and b.at is not None and a.at != b.at:
        raise ArgumentError(f"{a!r} is the map of position {a.at}, {b!r} that of {b.at}; compare one position")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]} … {text[-12:]}"


def _dense(weights: Weights, skip: Skip) -> Weights:
    """Full, finite weights, without the skip path if it is to be taken off."""
    weights.require_finite()
    dense, path = weights.dense(), weights.skip
    if skip == "include" or not weights.skip_included or path is None:
        return dense
    return dataclasses.replace(dense, values=dense.values - path.dense().values)


def _aligned(a: Weights, b: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The values of both, float64, on the smallest window that holds both."""
    one, two = a.values.astype(np.float64), b.values.astype(np.float64)
    for axis in (0, 1):
        # steps from a's first row or column to b's
        ahead = (b.origin[axis] - a.origin[axis]) / a.dilation[axis]
        if a.dilation[axis] != b.dilation[axis] or ahead != round(ahead):
            raise ArgumentError(
                f"windows that lie between each other's positions do not align: {a!r} from {a.origin} in steps of "
                f"{a.dilation}, {b!r} from {b.origin} in steps of {b.dilation}"
            )
        sizes = one.shape[2 + axis], two.shape[2 + axis]
        start = min(0, round(ahead))
        end = max(sizes[0], round(ahead) + sizes[1])
        one = _padded(one, 2 + axis, -start, end - sizes[0])
        two = _padded(two, 2 + axis, round(ahead) - start, end - round(ahead) - sizes[1])
    return one, two


def _padded(values: np.ndarray, axis: int, before: int, after: int) -> np.ndarray:
    return np.pad(values, [(before, after) if a == axis else (0, 0) for a in range(values.ndim)])
