"""Objectives that keep pictures in bounds or apart: diversity, and penalties to subtract."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..errors import ArgumentError
from .algebra import Objective, Seen


def diversity(layer: str) -> Objective:
    """How different the pictures of one objective are: minus the mean cosine between their Gram matrices over units.

    Pictures are rendered together. Source: Olah et al. 2017, after Gatys et al.'s style.
    """

    def score(seen: Seen) -> Tensor:
        a = seen.outputs[layer].flatten(2)
        if len(a) == 1:
            return a.sum((1, 2)) * 0
        gram = functional.normalize((a @ a.transpose(1, 2)).flatten(1), dim=1)
        alike = gram @ gram.T
        return -(alike.sum(1) - alike.diagonal()) / (len(a) - 1)

    return Objective(score, (layer,), (f"diversity in {layer}",), coupled=True, penalty=True)


def total_variation() -> Objective:
    """How restless a picture is, a penalty to subtract: the mean square difference of neighbouring pixels."""

    def score(seen: Seen) -> Tensor:
        x = seen.images
        return (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3)) + (x[..., 1:, :] - x[..., :-1, :]).square().mean(
            (1, 2, 3)
        )

    return Objective(score, (), ("total variation",), penalty=True)


def distance_from_grey() -> Objective:
    """How strong a picture's colours are, a penalty to subtract: the mean square distance from middle grey."""

    def score(seen: Seen) -> Tensor:
        return (seen.images - 0.5).square().mean((1, 2, 3))

    return Objective(score, (), ("distance from grey",), penalty=True)


def opacity() -> Objective:
    """How much of a picture with transparency is opaque, a penalty to subtract."""

    def score(seen: Seen) -> Tensor:
        if seen.alpha is None:
            raise ArgumentError("opacity() needs a canvas with transparency; use a recipe with alpha=True")
        return seen.alpha.mean((1, 2))

    return Objective(score, (), ("opacity",), penalty=True)
