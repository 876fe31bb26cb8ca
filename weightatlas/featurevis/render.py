"""The loop: pictures that climb an objective, in batches.

A step, for N pictures at once::

    x = canvas.picture(z)                       [N, C, S, T]
    g = ∂ Σ_n objective_n(network(view_n(x_n))) / ∂ z
    m ← momentum · m + (1 − momentum) · g / rms_n(g)
    z ← z + rate(t) · m, then canvas.keep_within(z)

A gradient is divided by its own picture's root mean square, so pictures of one batch do not meet.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from ..errors import ArgumentError
from .algebra import Objective, Seen
from .canvas import Canvas
from .plan import Plan
from .prepared import Prepared

#: Views whose mean is the value "with views".
JUDGED_VIEWS = 4
#: Share of the first step's rate at which the last step goes.
LAST_RATE = 0.1

Told = Callable[[int], None]


@dataclass
class Batch:
    """Pictures of one batch, with what they reach.

    Args:
        images: ``[N, C (+ alpha), h, w]``, values 0 … 1: the view in the middle.
        reached: the objective of these, ``[N]``.
        viewed: mean over random views, ``[N]``.
        begun: the objective at the start, ``[N]``.
        pushed: largest root mean square that the gradient had, ``[N]``; 0 where there never was one.
        grown: growth of the objective without its penalties, as a share of its size at the start, ``[N]``.
    """

    images: Tensor
    reached: Tensor
    viewed: Tensor
    begun: Tensor
    pushed: Tensor
    grown: Tensor


class Renderer:
    """Everything that batches of one rendering share.

    Args:
        prepared: the network.
        plan: sizes and recipe.
    """

    def __init__(self, prepared: Prepared, plan: Plan) -> None:
        self.prepared, self.plan, self.recipe = prepared, plan, plan.recipe
        self.canvas = Canvas(plan.frame, prepared.device)

    def batch(self, objective: Objective, seeds: Sequence[int], told: Told | None = None, steps: int = 0) -> Batch:
        """Renders one picture for each seed.

        Args:
            objective: for as many pictures.
            seeds: each decides its picture's start, views and noise.
            told: called with the number of steps done.
            steps: to take of the recipe's, 0 for all.
        """
        r = self.recipe
        draws = [torch.Generator().manual_seed(s) for s in seeds]
        grains = [torch.Generator().manual_seed(_other(s)) for s in seeds]
        z = self.canvas.start(draws)
        numbers = self.plan.views.draw(draws, r.steps + JUDGED_VIEWS)
        begun, aim = self.judge(objective, z), objective.aim
        first = begun if aim is objective else self.judge(aim, z)
        push = torch.zeros_like(z.detach())
        pushed = torch.zeros(len(seeds), dtype=torch.float32, device=z.device)
        for t in range(steps or r.steps):
            gradient, rms = self._climb(objective, z, numbers[t], grains)
            pushed = torch.maximum(pushed, rms)
            with torch.no_grad():
                push.mul_(r.momentum).add_(gradient / _along(rms.clamp_min(1e-30), z), alpha=1 - r.momentum)
                z.add_(push, alpha=self._rate(t))
                self.canvas.keep_within(z)
            if told is not None:
                told(t + 1)
        viewed = torch.stack([self.judge(objective, z, numbers[r.steps + v]) for v in range(JUDGED_VIEWS)]).mean(0)
        with torch.no_grad():
            shown = self.canvas.picture(z)
            shown = shown if self.plan.views.wrapped else self.plan.views.centre(shown)
        reached = self.judge(objective, z)
        grown = (reached if aim is objective else self.judge(aim, z)) - first
        return Batch(shown, reached, viewed, begun, pushed, grown / first.abs().clamp_min(1e-30))

    def _climb(
        self, objective: Objective, z: Tensor, numbers: Tensor, grains: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """The gradient and its root mean square by picture; zeros where it is not finite."""
        before = [g.get_state() for g in grains]
        gradient = self.gradient(objective, z, numbers, grains)
        rms = _size(gradient)
        if torch.isfinite(rms).all():
            return gradient, rms
        for g, state in zip(grains, before, strict=True):  # the same noise again
            g.set_state(state)
        plain = self.gradient(objective, z, numbers, grains, 0.0)  # a leak times an infinite slope, as of √ at 0
        gradient = torch.where(_along(torch.isfinite(rms), gradient), gradient, plain)
        rms = _size(gradient)
        whole = torch.isfinite(rms)
        return torch.where(_along(whole, gradient), gradient, 0.0), torch.where(whole, rms, 0.0)

    def gradient(
        self,
        objective: Objective,
        z: Tensor,
        numbers: Tensor,
        grains: list[torch.Generator],
        leak: float | None = None,
    ) -> Tensor:
        """The direction in which the objective grows, of the shape of z; with the recipe's leak or another."""
        value = self._value(objective, z, numbers, grains, self.recipe.leak if leak is None else leak)
        if not value.requires_grad:
            raise ArgumentError(
                f"{objective!r} has no gradient towards the image: there is no path from the input to it, or forward "
                "cuts the path (detach, no_grad, inference_mode, a comparison)"
            )
        try:
            (found,) = torch.autograd.grad(value.sum(), z)
        except CheckpointError as error:
            raise ArgumentError(
                f"{self.prepared.name} saves memory by gradient checkpointing, which computes on the way back without "
                "what was changed on the way; switch checkpointing off in the module"
            ) from error
        return found

    @torch.no_grad()
    def judge(self, objective: Objective, z: Tensor, numbers: Tensor | None = None) -> Tensor:
        """The objective's values ``[N]``, of the middle view or of random ones."""
        return self._value(objective, z, numbers, None, 0.0)

    def _value(
        self, objective: Objective, z: Tensor, numbers: Tensor | None, grains: list[torch.Generator] | None, leak: float
    ) -> Tensor:
        views = self.plan.views
        picture = self.canvas.picture(z)
        view = views.centre(picture) if numbers is None else views(picture, numbers, grains)
        return self.value(objective, view, leak)

    def value(self, objective: Objective, view: Tensor, leak: float = 0.0) -> Tensor:
        """The objective's values ``[N]`` of pictures ``[N, C (+ alpha), h, w]`` as they are."""
        channels = self.prepared.spec.channels
        seen, alpha = view, None
        if self.recipe.alpha:
            seen, alpha = view[:, :channels], view[:, channels]
            noise = torch.rand(seen.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(
                seen.device
            )
            seen = seen * alpha[:, None] + noise * (1 - alpha[:, None])
        if objective.layers:
            outputs = self.prepared(seen, leak, self.plan.held)
            outputs = {k: self.plan.window(k, v) for k, v in outputs.items()}
        else:
            outputs = {}
        value = objective.score(Seen(outputs, seen, alpha)).float()
        if value.shape != (len(view),):
            raise ArgumentError(f"{objective!r} gave {tuple(value.shape)} values for {len(view)} pictures")
        return value

    def _rate(self, t: int) -> float:
        fall = (1 + math.cos(math.pi * t / self.recipe.steps)) / 2
        return self.recipe.rate * (LAST_RATE + (1 - LAST_RATE) * fall)

    def bytes_of_one(self, objective: Objective) -> int:
        """Memory that one picture's step keeps for its way back."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        z = self.canvas.start([torch.Generator().manual_seed(0)])
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            self._value(objective.of([0]), z, torch.zeros(1, 4, dtype=torch.float32), None, self.recipe.leak)
        return sum(kept.values())


def _size(gradient: Tensor) -> Tensor:
    """Root mean square of each picture's gradient, ``[N]``."""
    return gradient.abs().square().flatten(1).mean(1).sqrt()


def _along(values: Tensor, like: Tensor) -> Tensor:
    """One value a picture, ``[N]``, with as many axes as another tensor."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _other(seed: int) -> int:
    return seed_of("noise", seed)


def seed_of(*parts: object) -> int:
    """A seed that depends on all its parts and on nothing else."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:7], "big")
