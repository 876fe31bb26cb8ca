"""Padding that is left out.

Positions of a layer that see no padding have the same value whether the network pads or not. So padding is left out and
every tensor remembers which part of the padded network's own grid it holds::

    padded network:   . . 2 3 4 5 6 . .        crop = 2, size = 9
    held here:            2 3 4 5 6

A convolution with stride s and padding p begins at j₀ = ⌈(crop + p) / s⌉, the first position that sees what is held.
Sums and concatenations take the part that all operands hold. ``shape`` still tells the padded network's shape, so code
that computes paddings from it computes those of the network at its own input size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..network import tensors_in
from .leaks import BOUNDED, OTHERS, RELU, RELU6
from .windows import Axes, Held, NoInteriorError, convolve, extent, held_by, hold, pool, skip_padding

Call = Callable[[Any, Any, Any], Any]


#: Functions of one position, with any number of tensors that must agree in size.
_POINTWISE = {
    *(RELU | RELU6 | BOUNDED | OTHERS),
    *("gelu", "silu", "sigmoid", "tanh", "leaky_relu", "elu", "celu", "selu", "mish", "softplus", "softsign", "prelu"),
    *("dropout", "dropout2d", "feature_dropout", "alpha_dropout", "batch_norm", "contiguous", "clone", "to", "float"),
    *("add", "sub", "mul", "div", "true_divide", "neg", "abs", "exp", "square", "rsub", "where", "maximum", "minimum"),
    *(
        "__add__",
        "__radd__",
        "__sub__",
        "__rsub__",
        "__mul__",
        "__rmul__",
        "__truediv__",
        "__neg__",
        "__rtruediv__",
        "__rdiv__",
        "__pow__",
        "pow",
        "sqrt",
        "rsqrt",
    ),
    *("add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__itruediv__", "type", "detach", "lerp"),
    *("channel_shuffle", "local_response_norm"),
}
#: Of these, functions whose vectors are one number a channel.
_PER_CHANNEL = {"batch_norm", "prelu"}
#: Functions that only ask for what is the same for a part.
_HARMLESS = {
    "untyped_storage",
    "data_ptr",
    "is_floating_point",
    "is_complex",
    "element_size",
    "get_device",
    "requires_grad_",
    "register_hook",
}
_JOINS = {"cat", "concat", "concatenate"}
_SPLITS = {"chunk", "split", "tensor_split", "unbind"}
_POOLS = {"max_pool2d", "avg_pool2d"}


_OUT_OF_PLACE = {
    **dict.fromkeys(("add_", "__iadd__"), torch.add),
    **dict.fromkeys(("sub_", "__isub__"), torch.sub),
    **dict.fromkeys(("mul_", "__imul__"), torch.mul),
    **dict.fromkeys(("div_", "__itruediv__"), torch.div),
}


def inside(func: Any, args: Any, kwargs: Any, marked: Sequence[Tensor], call: Call) -> Any:
    """A function of tensors that hold parts of their grids.

    Args:
        func, args, kwargs: the call.
        marked: the tensors among its arguments that hold parts.
        call: calls functions that act on each position alone.

    Raises:
        NoInteriorError: for a function that mixes positions in another way than convolutions and pools do.
    """
    name = getattr(func, "__name__", "")
    first = args[0] if args else None
    held = held_by(first)
    if name == "__get__" or name == "size" or name == "dim":
        return _told_shape(func, args, kwargs, held)
    if name == "conv2d" and held is not None and len(marked) == 1:
        return convolve(args, kwargs, held)
    if name == "pad" and held is not None and isinstance(first, Tensor):
        return skip_padding(first, args, kwargs, held)
    if name in _POOLS and held is not None:
        return pool(name, args, kwargs, held)
    if name in _JOINS and _channel_axis(args, kwargs, 1):
        return _join(func, args, kwargs)
    if (name in _SPLITS and _channel_axis(args, kwargs, 2)) or (name == "__getitem__" and _of_channels(args[1])):
        out = func(*args, **kwargs)
        for part in tensors_in(out):
            hold(part, held_by(marked[0]) or Held((0, 0), (0, 0)))
        return out
    if name in _POINTWISE:
        _refuse_grids(name, args, kwargs)
        return _pointwise(func, args, kwargs, marked, call)
    if name in _HARMLESS:
        return func(*args, **kwargs)
    raise NoInteriorError(f"{name or func} mixes positions")


def _refuse_grids(name: str, args: Any, kwargs: Any) -> None:
    """Tensors of their own for every position, such as coordinates, fit the padded grid alone."""
    for other in tensors_in((args, kwargs)):
        grid = other.shape[-2:] if other.ndim > 1 else (1, *other.shape) if name not in _PER_CHANNEL else ()
        if held_by(other) is None and any(n > 1 for n in grid):
            raise NoInteriorError(f"{name} with a constant for every position")


def _pointwise(func: Any, args: Any, kwargs: Any, marked: Sequence[Tensor], call: Call) -> Tensor:
    parts = [p for p in (held_by(t) for t in marked) if p is not None]
    if len(parts) > 1:
        common = _common(marked, parts)
        pairs = zip(marked, parts, strict=True)
        if any(extent(t) != common.extent or p.crop != common.held.crop for t, p in pairs):
            if func.__name__.endswith("_") or func.__name__.startswith("__i"):
                func = _OUT_OF_PLACE[func.__name__]  # the smaller result replaces the name, as Python's += does
            args, kwargs = mapped((args, kwargs), common.cut)
    return hold(call(func, args, kwargs), parts[0] if len(parts) == 1 else _common(marked, parts).held)


@dataclass(frozen=True)
class _Common:
    """The part that several tensors hold."""

    held: Held
    extent: Axes

    def cut(self, value: Any) -> Any:
        """A tensor's share of that part; anything else as it is."""
        own = held_by(value)
        if own is None:
            return value
        y, x = (a - b for a, b in zip(self.held.crop, own.crop, strict=True))
        return value[..., y : y + self.extent[0], x : x + self.extent[1]]


def _common(tensors: Sequence[Tensor], parts: Sequence[Held]) -> _Common:
    if len({p.size for p in parts}) > 1:
        raise NoInteriorError(f"tensors of different grids meet: {sorted({p.size for p in parts})}")
    crop = max(p.crop[0] for p in parts), max(p.crop[1] for p in parts)
    ends = [min(p.crop[i] + extent(t)[i] for t, p in zip(tensors, parts, strict=True)) for i in range(2)]
    room = ends[0] - crop[0], ends[1] - crop[1]
    if min(room) < 1:
        raise NoInteriorError("nothing is left inside the padding")
    return _Common(Held(crop, parts[0].size), room)


def _told_shape(func: Any, args: Any, kwargs: Any, held: Held | None) -> Any:
    out = func(*args, **kwargs)
    if isinstance(out, Tensor):
        raise NoInteriorError("a view of a tensor was taken")
    if held is None or not isinstance(out, torch.Size | int) or args[0].ndim != 4:
        return out
    if isinstance(out, torch.Size):
        return torch.Size((*out[:2], *held.size))
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return held.size[axis % 4 - 2] if isinstance(axis, int) and axis % 4 > 1 else out


def _join(func: Any, args: Any, kwargs: Any) -> Tensor:
    tensors = list(args[0] if args else kwargs["tensors"])
    parts = [held_by(t) for t in tensors]
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        raise NoInteriorError("a tensor without positions is concatenated")
    common = _common(tensors, known)
    return hold(torch.cat([common.cut(t) for t in tensors], 1), common.held)


def _channel_axis(args: Any, kwargs: Any, place: int) -> bool:
    axis = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else 0))
    return axis in (1, -3)


def _of_channels(index: Any) -> bool:
    """Whether an index takes channels and leaves examples and positions as they are."""
    whole = slice(None)
    index = index if isinstance(index, tuple) else (index,)
    if len(index) < 2 or index[0] != whole or not isinstance(index[1], slice):
        return False
    return all(part is Ellipsis or part == whole for part in index[2:])


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A nest of tuples, lists and dicts with every leaf changed."""
    if isinstance(value, tuple | list):
        return type(value)(mapped(v, change) for v in value)
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    return change(value)
