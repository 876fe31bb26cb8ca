"""Objectives: what a picture should excite. They add up, can be scaled and turned round, and describe themselves.

Each gives one number a picture, larger is better::

    unit("blocks.4.1", 3) - 0.5 * unit("blocks.4.1", 17) + diversity("blocks.4.1")

Symbols: N pictures, O units, outputs ``a [N, O, H, W]`` of a layer, v ``[O]`` a direction over units.

Sources: Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017 (units, diversity); Carter et al.,
"Activation Atlas", Distill 2019 (dot product times a power of the cosine); Lucid's ``optvis.objectives``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError

At = Literal["mean", "peaks", "centre"] | tuple[int, int]

#: Cosines below it count as this much, so that a picture that points the wrong way still has a gradient (Lucid's).
LEAST_COSINE = 0.1
TINY = 1e-12  # under the root, where its slope would be infinite
SHORT = 3  # numbers that a description lists


@dataclass(frozen=True)
class Seen:
    """What one step shows to an objective.

    Args:
        outputs: ``[N, O, H, W]`` of every layer that it asked for.
        images: ``[N, C, side, side]`` with values 0 … 1 as the network saw them.
        alpha: ``[N, side, side]``, ``None`` without.
    """

    outputs: Mapping[str, Tensor]
    images: Tensor
    alpha: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """One number a picture, larger is better.

    Args:
        score: from :class:`Seen` to ``[N]``.
        layers: whose outputs it reads.
        descriptions: of each picture; one for all where the objective is the same for all.
        count: number of pictures that it is for, ``None`` for any.
        take: the same objective for some of the pictures.
        coupled: whether pictures depend on one another, so that they must be rendered together.
        binds: how firmly the description holds together: 0 a sum, 1 a product, 2 one thing.
    """

    score: Callable[[Seen], Tensor]
    layers: tuple[str, ...]
    descriptions: tuple[str, ...]
    count: int | None = None
    take: Callable[[Sequence[int]], Objective] | None = None
    coupled: bool = False
    binds: int = 2

    @property
    def description(self) -> str:
        """What it asks for, in a few words."""
        shown = self.descriptions[:SHORT]
        return "; ".join(shown) + (f" and {len(self.descriptions) - SHORT} more" if shown != self.descriptions else "")

    def of(self, rows: Sequence[int]) -> Objective:
        """The same objective for the pictures with these numbers."""
        return self if self.take is None else self.take(rows)

    def __add__(self, other: Any) -> Objective:
        """The sum of two, or with a number."""
        return _joined(self, other, "+")

    def __sub__(self, other: Any) -> Objective:
        """The difference of two, or to a number."""
        return _joined(self, other, "−")

    def __rsub__(self, other: Any) -> Objective:
        """A number less the objective."""
        return -self + other

    def __radd__(self, other: Any) -> Objective:
        """So that ``sum`` works."""
        return self if isinstance(other, int) and other == 0 else _joined(self, other, "+")

    def __mul__(self, factor: Any) -> Objective:
        """The objective times a number."""
        if isinstance(factor, Objective):
            return _joined(self, factor, "·")
        return _scaled(self, _number(factor), f"{_number(factor):g} · ")

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Objective:
        """The objective divided by a number."""
        if _number(divisor) == 0:
            raise ArgumentError("an objective was divided by zero")
        return self * (1 / _number(divisor))

    def __neg__(self) -> Objective:
        """The opposite: what inhibits."""
        return _scaled(self, -1.0, "−")

    def __repr__(self) -> str:
        return f"Objective({self.description})"


def unit(layer: str, index: int, at: At = "mean") -> Objective:
    """How strongly one unit of a layer is excited.

    Args:
        layer: its name; a class logit is a unit of the network's last layer.
        index: of the unit.
        at: ``"mean"`` over positions, their ``"peaks"`` (the mean plus one deviation), the ``"centre"``
            position, or ``(y, x)`` on the layer's grid.

    Example:
        >>> unit("blocks.4.1", 3) - 2 * unit("blocks.4.1", 17, at="centre")
        Objective(blocks.4.1:3 − 2 · blocks.4.1:17 at the centre)
    """
    return _same_for_all(units(layer, [index], at))


def units(layer: str, indices: Sequence[int], at: At = "mean") -> Objective:
    """One unit a picture; see :func:`unit`."""
    numbers = [_index(i) for i in indices]
    if not numbers:
        raise ArgumentError(f"no unit of {layer!r} was given")
    where = _place(at)

    def score(seen: Seen) -> Tensor:
        a = seen.outputs[layer]
        if max(numbers) >= a.shape[1]:
            raise ArgumentError(f"{layer!r} has no unit {max(numbers)}; its units are 0 … {a.shape[1] - 1}")
        rows = torch.arange(a.shape[0], device=a.device)
        chosen = torch.tensor(numbers, device=a.device).expand(a.shape[0]) if len(numbers) == 1 else None
        chosen = torch.tensor(numbers, device=a.device) if chosen is None else chosen
        return _at(a[rows, chosen], at, layer)

    names = tuple(f"{layer}:{i}{where}" for i in numbers)
    return Objective(score, (layer,), names, len(numbers), lambda rows: units(layer, [numbers[r] for r in rows], at))


def direction(layer: str, vector: Any, at: At = "mean", cosine: float = 0.0, name: str = "") -> Objective:
    """How far a layer's outputs go along a direction over its units: ``(a · v) · max(cos(a, v), 0.1)^cosine``.

    Args:
        layer: its name.
        vector: v, ``[O]``, scaled to length 1 here.
        at: as in :func:`unit`.
        cosine: the power p of the cosine: 0 is the dot product alone, ``inf`` the cosine alone.
        name: for captions.
    """
    return _same_for_all(directions(layer, np.asarray(vector)[None], at, cosine, [name] if name else None))


def directions(
    layer: str, vectors: Any, at: At = "mean", cosine: float = 0.0, names: Sequence[str] | None = None
) -> Objective:
    """One direction a picture, ``[N, O]``; see :func:`direction`."""
    matrix = _matrix(vectors, layer)
    if isinstance(cosine, bool) or not isinstance(cosine, int | float) or not cosine >= 0:
        raise ArgumentError(f"cosine={cosine!r} must be a power from 0 to inf")
    unit_length = torch.from_numpy(matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).float()
    where = _place(at)
    told = tuple(names) if names is not None else tuple(f"{layer}, direction {i}{where}" for i in range(len(matrix)))
    if len(told) != len(matrix):
        raise ArgumentError(f"{len(told)} names for {len(matrix)} directions")

    def score(seen: Seen) -> Tensor:
        a = seen.outputs[layer]
        v = unit_length.to(a.device, a.dtype)
        if v.shape[1] != a.shape[1]:
            raise ArgumentError(f"directions of length {v.shape[1]} came in, but {layer!r} has {a.shape[1]} units")
        dot = (a * v[:, :, None, None]).sum(1)
        if cosine:
            cos = dot / a.norm(dim=1).clamp_min(1e-12)
            dot = cos if math.isinf(cosine) else dot * cos.clamp_min(LEAST_COSINE) ** cosine
        return _at(dot, at, layer)

    def take(rows: Sequence[int]) -> Objective:
        return directions(layer, matrix[list(rows)], at, cosine, [told[r] for r in rows])

    return Objective(score, (layer,), told, len(matrix), take)


def whole_layer(layer: str) -> Objective:
    """How much a layer is excited or inhibited at all: the mean square of its outputs (DeepDream)."""
    return Objective(lambda seen: seen.outputs[layer].square().mean((1, 2, 3)), (layer,), (f"all of {layer}",))


def _same_for_all(one: Objective) -> Objective:
    """An objective for one picture as one for any number of them."""
    return replace(one, count=None, take=None)


_SIGNS: dict[str, tuple[Callable[[Any, Any], Any], int]] = {
    "+": (operator.add, 0),
    "−": (operator.sub, 0),
    "·": (operator.mul, 1),
}


def _joined(a: Objective, b: Any, sign: str) -> Objective:
    """Two objectives, or one and a number, in one; per picture where one of them is."""
    if not isinstance(b, Objective):
        value = _number(b)
        if value < 0:  # said as one would
            sign, value = {"+": "−", "−": "+"}[sign], -value
        constant = f"{value:g}"
        b = Objective(lambda seen: torch.tensor(value), (), (constant,))
    if a.count is not None and b.count is not None and a.count != b.count:
        raise ArgumentError(f"objectives for {a.count} and {b.count} pictures do not add up: {a!r}, {b!r}")
    how, binds = _SIGNS[sign]
    n = max(len(a.descriptions), len(b.descriptions))
    left, right = (d * n if len(d) == 1 else d for d in (a.descriptions, b.descriptions))
    words = tuple(
        f"{_enclosed(x, a.binds, binds)} {sign} {_enclosed(y, b.binds, binds + (sign != '+'), second=True)}"
        for x, y in zip(left, right, strict=True)
    )
    take = None
    if a.take is not None or b.take is not None:
        take = lambda rows: _joined(a.of(rows), b.of(rows), sign)  # noqa: E731
    return Objective(
        lambda seen: how(a.score(seen), b.score(seen)),
        tuple(dict.fromkeys(a.layers + b.layers)),
        words,
        a.count if a.count is not None else b.count,
        take,
        a.coupled or b.coupled,
        binds,
    )


def _scaled(a: Objective, factor: float, words: str) -> Objective:
    kept = a.take
    take = None if kept is None else (lambda rows: _scaled(kept(rows), factor, words))
    told = tuple(f"{words}{_enclosed(d, a.binds, 1, second=True)}" for d in a.descriptions)
    return replace(a, score=lambda seen: factor * a.score(seen), descriptions=told, take=take, binds=1)


def _enclosed(words: str, binds: int, needed: int, *, second: bool = False) -> str:
    """Words in brackets where they would be read otherwise: sums in products, what is subtracted, a second sign."""
    return f"({words})" if binds < needed or (second and words.startswith(("−", "-"))) else words


def _at(values: Tensor, at: At, layer: str) -> Tensor:
    """``[N, H, W]`` at the place that is meant, ``[N]``."""
    if at == "mean":
        return values.mean((1, 2))
    if at == "peaks":
        mean = values.mean((1, 2))
        return mean + ((values - mean[:, None, None]).square().mean((1, 2)) + TINY).sqrt()
    h, w = values.shape[1:]
    y, x = (h // 2, w // 2) if at == "centre" else at
    if not (0 <= y < h and 0 <= x < w):
        raise ArgumentError(f"position {at} is not on the {h} × {w} grid of {layer!r}")
    return values[:, y, x]  # pyright: ignore[reportArgumentType]


def _place(at: At) -> str:
    if at == "mean":
        return ""
    if at == "centre" or at == "peaks":
        return " at the centre" if at == "centre" else " at its peaks"
    if isinstance(at, tuple) and len(at) == 2 and all(isinstance(v, int) for v in at):
        return f" at {at}"
    raise ArgumentError(f"at={at!r} is none of 'mean', 'peaks', 'centre' and (y, x)")


def _index(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"a unit's number must be an integer, not {value!r}") from error
    if number < 0 or isinstance(value, bool):
        raise ArgumentError(f"a unit's number must be 0 or more, not {value!r}")
    return number


def _matrix(vectors: Any, layer: str) -> np.ndarray:
    try:
        matrix = np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"directions over units of {layer!r} must be numbers [N, O]") from error
    if matrix.ndim != 2 or not matrix.size:
        raise ArgumentError(f"directions of shape {matrix.shape} came in; [N, O] is expected, O units of {layer!r}")
    if not np.isfinite(matrix).all():
        raise ArgumentError(f"directions over units of {layer!r} hold NaN or infinity")
    if not np.linalg.norm(matrix, axis=1).all():
        row = int(np.flatnonzero(np.linalg.norm(matrix, axis=1) == 0)[0])
        raise ArgumentError(f"direction {row} over units of {layer!r} is zero and points nowhere")
    return matrix


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ArgumentError(f"objectives are combined with each other and with finite numbers, not with {value!r}")
    return float(value)
