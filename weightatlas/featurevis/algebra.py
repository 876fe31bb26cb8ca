"""What an objective is, and how objectives are added, scaled and turned round."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError

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
        penalty: whether it only keeps pictures in bounds or apart, so that alone it makes no result.
        aimed: the objective without its penalties; ``None`` for the objective itself.
        binds: how firmly the description holds together: 0 a sum, 1 a product, 2 one thing.
    """

    score: Callable[[Seen], Tensor]
    layers: tuple[str, ...]
    descriptions: tuple[str, ...]
    count: int | None = None
    take: Callable[[Sequence[int]], Objective] | None = None
    coupled: bool = False
    penalty: bool = False
    aimed: Objective | None = None
    binds: int = 2

    @property
    def description(self) -> str:
        """What it asks for, in a few words."""
        shown = self.descriptions[:SHORT]
        return "; ".join(shown) + (f" and {len(self.descriptions) - SHORT} more" if shown != self.descriptions else "")

    @property
    def aim(self) -> Objective:
        """The objective without its penalties: what must grow for a picture to be a result."""
        return self.aimed if self.aimed is not None else self

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
        return _joined(_constant(other), self, "−")

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
        b = _constant(value)
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
        a.penalty and b.penalty,
        _aim(a, b, sign),
        binds,
    )


def _constant(value: Any) -> Objective:
    number = _number(value)
    return Objective(lambda seen: torch.tensor(number), (), (f"{number:g}",), penalty=True)


def _aim(a: Objective, b: Objective, sign: str) -> Objective | None:
    """What is left of two without penalties; ``None`` if that is the two themselves."""
    if sign == "·" or (a.penalty and b.penalty):
        return None
    if b.penalty:
        return a.aim
    if a.penalty:
        return b.aim if sign == "+" else -b.aim
    return _joined(a.aim, b.aim, sign) if a.aimed is not None or b.aimed is not None else None


def _scaled(a: Objective, factor: float, words: str) -> Objective:
    kept = a.take
    take = None if kept is None else (lambda rows: _scaled(kept(rows), factor, words))
    told = tuple(f"{words}{_enclosed(d, a.binds, 1, second=True)}" for d in a.descriptions)
    aimed = None if a.aimed is None else _scaled(a.aimed, factor, words)
    return replace(a, score=lambda seen: factor * a.score(seen), descriptions=told, take=take, aimed=aimed, binds=1)


def _enclosed(words: str, binds: int, needed: int, *, second: bool = False) -> str:
    """Words in brackets where they would be read otherwise: sums in products, what is subtracted, a second sign."""
    return f"({words})" if binds < needed or (second and words.startswith(("−", "-"))) else words


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ArgumentError(f"objectives are combined with each other and with finite numbers, not with {value!r}")
    return float(value)
