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
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from .algebra import Objective, Seen

At = Literal["mean", "peaks", "centre"] | tuple[int, int]

#: Cosines below it count as this much, so that a picture that points the wrong way still has a gradient (Lucid's).
LEAST_COSINE = 0.1
TINY = 1e-12  # under the root, where its slope would be infinite


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
    at = _known_place(at)
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
    return _same_for_all(directions(layer, _row(vector, layer), at, cosine, [name] if name else None))


def directions(
    layer: str, vectors: Any, at: At = "mean", cosine: float = 0.0, names: Sequence[str] | None = None
) -> Objective:
    """One direction a picture, ``[N, O]``; see :func:`direction`."""
    matrix = rows_of(vectors, layer)
    if isinstance(cosine, bool) or not isinstance(cosine, int | float) or not cosine >= 0:
        raise ArgumentError(f"cosine={cosine!r} must be a power from 0 to inf")
    unit_length = torch.from_numpy(matrix).float()
    at = _known_place(at)
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


def _known_place(at: Any) -> At:
    if isinstance(at, str) and at in ("mean", "peaks", "centre"):
        return at
    if isinstance(at, tuple | list) and len(at) == 2 and all(hasattr(v, "__index__") for v in at):
        return operator.index(at[0]), operator.index(at[1])
    raise ArgumentError(f"at={at!r} is none of 'mean', 'peaks', 'centre' and (y, x)")


def _place(at: At) -> str:
    return {"mean": "", "centre": " at the centre", "peaks": " at its peaks"}.get(str(at), f" at {at}")


def _index(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"a unit's number must be an integer, not {value!r}") from error
    if number < 0 or isinstance(value, bool):
        raise ArgumentError(f"a unit's number must be 0 or more, not {value!r}")
    return number


def _row(vector: Any, layer: str) -> np.ndarray:
    values = _numbers(vector, layer)
    if values.ndim != 1:
        raise ArgumentError(f"a direction of shape {values.shape} came in; [O] is expected, O units of {layer!r}")
    return values[None]


def rows_of(vectors: Any, layer: str) -> np.ndarray:
    """Directions over a layer's units, each scaled to length 1: float64 ``[N, O]``.

    Raises:
        ArgumentError: for what is no such array, for NaN, infinity and a direction of zeros.
    """
    matrix = _numbers(vectors, layer)
    if matrix.ndim != 2 or not matrix.size:
        raise ArgumentError(f"directions of shape {matrix.shape} came in; [N, O] is expected, O units of {layer!r}")
    if not np.isfinite(matrix).all():
        raise ArgumentError(f"directions over units of {layer!r} hold NaN or infinity")
    largest = np.abs(matrix).max(1, keepdims=True)
    if not largest.all():
        row = int(np.flatnonzero(largest[:, 0] == 0)[0])
        raise ArgumentError(f"direction {row} over units of {layer!r} is zero and points nowhere")
    matrix = matrix / largest  # squares of very large or small numbers leave the range
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _numbers(values: Any, layer: str) -> np.ndarray:
    """Arrays, tensors of any kind, and lists of them, as float64."""
    try:
        if isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values):
            values = torch.stack([torch.as_tensor(v) for v in values])
        if isinstance(values, Tensor):
            plain = values.detach().cpu()
            values = plain.to(torch.complex128 if plain.is_complex() else torch.float64).numpy()
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"they are {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"directions over units of {layer!r} must be real numbers [N, O]: {error}") from error
