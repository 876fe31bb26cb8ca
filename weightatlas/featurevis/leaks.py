"""Leaks: what ReLU and its kin pass backwards where they are flat.

A unit that starts dead has no gradient and stays dead. So backwards flat parts pass ``leak`` times the gradient;
forwards nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Functions with one flat side at 0; with two, from (0, 6); bounds given as arguments; other shapes.
RELU = {"relu", "relu_"}
RELU6 = {"relu6"}
BOUNDED = {
    "hardtanh",
    "hardtanh_",
    "clamp",
    "clamp_",
    "clip",
    "clip_",
    "clamp_min",
    "clamp_min_",
    "clamp_max",
    "clamp_max_",
}
#: Functions of two tensors that are a ReLU where one of them is zeros.
LARGER = {"maximum", "max", "fmax"}
OTHERS = {"hardswish", "hardsigmoid", "threshold", "_threshold"}
_BOUND_NAMES = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"), "clip": ("min", "max")}


class Leak(torch.autograd.Function):
    """A non-linearity with flat parts; backwards these pass ``leak`` of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, leak: float, inplace: bool) -> Tensor:
        """``min(max(x, low), high)``."""
        y = x.clamp_(low, high) if inplace else x.clamp(low, high)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.bounds, ctx.leak = (low, high), leak
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient inside the bounds, ``leak`` times it outside."""
        (y,), (g,) = ctx.saved_tensors, gradients
        low, high = ctx.bounds
        if math.isinf(high) and high > 0:
            inner = torch.ops.aten.threshold_backward(g, y, low)
        else:
            inner = torch.ops.aten.hardtanh_backward(g, y, low, high)
        return inner.lerp_(g, ctx.leak), None, None, None, None


class LeakAnywhere(torch.autograd.Function):
    """The same for any function of one number whose derivative vanishes somewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], leak: float) -> Tensor:
        """``function(x)``."""
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            y = function(inner)
            (slope,) = torch.autograd.grad(y.sum(), inner)
        ctx.save_for_backward(torch.where(slope == 0, leak, slope))
        return y.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The function's own gradient, ``leak`` where it has none."""
        return gradients[0] * ctx.saved_tensors[0], None, None


def leaking(func: Any, name: str, args: Any, kwargs: Any, leak: float) -> Tensor | None:
    """The function with its leak; ``None`` for one that has no flat part."""
    bounds = _bounds(name, args, kwargs)
    if bounds is not None:
        inplace = name.endswith("_") or bool(kwargs.get("inplace"))
        inplace |= name in RELU | RELU6 and len(args) > 1 and args[1] is True
        return Leak.apply(args[0], *bounds, leak, inplace)
    if name in LARGER and (one := _above_zero(args, kwargs)) is not None:
        return Leak.apply(one, 0.0, math.inf, leak, False)
    if name in OTHERS:
        written, plain = _written(name, args, kwargs)
        out = LeakAnywhere.apply(args[0], plain(func), leak)
        return args[0].copy_(out) if written else out
    return None


def _above_zero(args: Any, kwargs: Any) -> Tensor | None:
    """Of two tensors the one that is compared with zeros."""
    if len(args) != 2 or kwargs or not all(isinstance(a, Tensor) for a in args):
        return None
    for one, other in (args, args[::-1]):
        fits = not other.requires_grad and torch.broadcast_shapes(one.shape, other.shape) == one.shape
        if one.requires_grad and fits and not other.any():
            return one
    return None


def _written(name: str, args: Any, kwargs: Any) -> tuple[bool, Callable[[Any], Callable[[Tensor], Tensor]]]:
    """Whether a function writes into its input, and the same function without doing so."""
    place = 3 if "threshold" in name else 1
    written = bool(kwargs.get("inplace", args[place] if len(args) > place else False))
    rest = args[1:place]
    named = {k: v for k, v in kwargs.items() if k != "inplace"}
    return written, lambda func: lambda x: func(x, *rest, **named)


def _bounds(name: str, args: Any, kwargs: Any) -> tuple[float, float] | None:
    """The bounds between which a function is the identity, if it is that and flat outside."""
    plain = name.rstrip("_")
    if name in RELU:
        return 0.0, math.inf
    if name in RELU6:
        return 0.0, 6.0
    if name not in BOUNDED:
        return None
    if plain in ("clamp_min", "clamp_max"):
        only = kwargs.get(plain[-3:], args[1] if len(args) > 1 else None)
        low, high = (only, None) if plain == "clamp_min" else (None, only)
    else:
        default = (-1.0, 1.0) if plain == "hardtanh" else (None, None)
        low, high = (
            kwargs.get(key, args[1 + i] if len(args) > 1 + i else default[i])
            for i, key in enumerate(_BOUND_NAMES[plain])
        )
    if (low is None and high is None) or isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)
