"""What changes on the way through a network while pictures are made: leaks, and padding that is left out.

Both act on functions, whether modules or code call them, and only inside a ``with`` of the thread at hand.

**Leak.** ReLU and its kin pass no gradient where they saturate, so a unit that starts dead stays dead. Backwards they
pass ``leak`` times the gradient there; forwards nothing changes.

**Interior.** Positions of a layer that see no padding have the same value whether the network pads or not. So padding
is left out and every tensor remembers which part of the padded network's own grid it holds::

    padded network:   . . 2 3 4 5 6 . .        crop = 2, size = 9
    held here:            2 3 4 5 6

A convolution with stride s and padding p begins at j₀ = ⌈(crop + p) / s⌉, the first position that sees what is held.
Sums and concatenations take the part that all operands hold. ``shape`` still tells the padded network's shape, so code
that computes paddings from it computes those of the network at its own input size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..errors import WeightAtlasError

Axes = tuple[int, int]


class NoInteriorError(WeightAtlasError):
    """A function that mixes positions in a way that has no interior; the padded network is used instead."""


@dataclass(frozen=True)
class Held:
    """The part of the padded network's grid that a tensor holds.

    Args:
        crop: position of element 0 as ``(y, x)``.
        size: of the whole padded grid.
    """

    crop: Axes
    size: Axes


def hold(tensor: Tensor, held: Held) -> Tensor:
    """The tensor, which from now on remembers its part."""
    tensor._weightatlas_held = held  # pyright: ignore[reportAttributeAccessIssue]
    return tensor


def held_by(value: Any) -> Held | None:
    """The part that a tensor holds, if it remembers one."""
    return getattr(value, "_weightatlas_held", None)


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
        if math.isinf(high):
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


#: Functions with one flat side at 0; with two, from (0, 6); bounds given as arguments; other shapes.
_RELU = {"relu", "relu_"}
_RELU6 = {"relu6"}
_BOUNDED = {"hardtanh", "hardtanh_", "clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_"}
_OTHERS = {"hardswish", "hardsigmoid", "threshold"}
_BOUND_NAMES = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"), "clip": ("min", "max")}
#: Functions of one position, with any number of tensors that must agree in size.
_POINTWISE = {
    *(_RELU | _RELU6 | _BOUNDED | _OTHERS),
    *("gelu", "silu", "sigmoid", "tanh", "leaky_relu", "elu", "celu", "selu", "mish", "softplus", "softsign", "prelu"),
    *("dropout", "dropout2d", "feature_dropout", "alpha_dropout", "batch_norm", "contiguous", "clone", "to", "float"),
    *("add", "sub", "mul", "div", "true_divide", "neg", "abs", "exp", "square", "rsub", "where", "maximum", "minimum"),
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__neg__", "__rtruediv__"),
    *("add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__itruediv__", "type", "detach", "lerp"),
    *("channel_shuffle", "local_response_norm"),
}
_JOINS = {"cat", "concat", "concatenate"}
_SPLITS = {"chunk", "split", "tensor_split", "unbind"}
_POOLS = {"max_pool2d", "avg_pool2d"}


class Rewriting(TorchFunctionMode):
    """Applies leaks, and leaves padding out of tensors that :func:`hold` marks.

    Args:
        leak: share of the gradient that flat parts pass; 0 changes nothing.
        defer: whether zeros around a tensor that a convolution reads next become that convolution's own padding,
            which saves a copy. Until then the padded tensor has a shape and no values.
    """

    def __init__(self, leak: float = 0.0, defer: bool = False) -> None:
        super().__init__()
        self.leak, self.defer = leak, defer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, changed where it leaks or would pad."""
        kwargs = kwargs or {}
        if self.defer:
            later = [t for t in _tensors((args, kwargs)) if hasattr(t, "_weightatlas_padding")]
            if later:
                return self._padded(func, args, kwargs, later)
        marked = [t for t in _tensors((args, kwargs)) if held_by(t) is not None]
        if marked:
            return self._inside(func, args, kwargs, marked)
        return self._plain(func, args, kwargs)

    def _plain(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function with its leak."""
        name = getattr(func, "__name__", "")
        if self.defer and name == "pad":
            even = _even_padding(args, kwargs)
            if even is not None:
                return _later(args[0], even)
        if self.leak and args and isinstance(args[0], Tensor) and args[0].requires_grad:
            bounds = _bounds(name, args, kwargs)
            if bounds is not None:
                inplace = name.endswith("_") or bool(kwargs.get("inplace"))
                inplace |= name in _RELU | _RELU6 and len(args) > 1 and args[1] is True
                return Leak.apply(args[0], *bounds, self.leak, inplace)
            if name in _OTHERS and not kwargs.get("inplace"):
                return LeakAnywhere.apply(args[0], lambda x: func(x, *args[1:], **kwargs), self.leak)
        return func(*args, **kwargs)

    def _padded(self, func: Any, args: Any, kwargs: Any, later: Sequence[Tensor]) -> Any:
        """A function of tensors that have yet to be padded."""
        name = getattr(func, "__name__", "")
        if name in ("__get__", "size", "dim") and not isinstance(told := func(*args, **kwargs), Tensor):
            return told
        if name == "conv2d" and len(later) == 1 and args and args[0] is later[0]:
            given = {**dict(zip(_CONVOLUTION, args, strict=False)), **kwargs}
            source, (y, x) = later[0]._weightatlas_padding  # pyright: ignore[reportAttributeAccessIssue]
            if not isinstance(given.get("padding", 0), str):
                own = _pair(given.get("padding", 0))
                return torch.conv2d(**{**given, "input": source, "padding": (own[0] + y, own[1] + x)})
        args, kwargs = _mapped((args, kwargs), _padded_now)
        return self._plain(func, args, kwargs)

    def _inside(self, func: Any, args: Any, kwargs: Any, marked: Sequence[Tensor]) -> Any:
        """The function on parts of tensors."""
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        held = held_by(first)
        if name == "__get__" or name == "size" or name == "dim":
            return _told_shape(func, args, kwargs, held)
        if name == "conv2d" and held is not None and len(marked) == 1:
            return _convolve(func, args, kwargs, held)
        if name == "pad" and held is not None and isinstance(first, Tensor):
            return _skip_padding(first, args, kwargs, held)
        if name in _POOLS and held is not None:
            return _pool(func, name, args, kwargs, held)
        if name in _JOINS and _channel_axis(args, kwargs, 1):
            return _join(func, args, kwargs)
        if (name in _SPLITS and _channel_axis(args, kwargs, 2)) or (name == "__getitem__" and _of_channels(args[1])):
            out = func(*args, **kwargs)
            for part in _tensors(out):
                hold(part, held_by(marked[0]) or Held((0, 0), (0, 0)))
            return out
        if name in _POINTWISE:
            return self._pointwise(func, args, kwargs, marked)
        out = func(*args, **kwargs)
        if any(True for _ in _tensors(out)):
            raise NoInteriorError(f"{name or func} mixes positions")
        return out

    def _pointwise(self, func: Any, args: Any, kwargs: Any, marked: Sequence[Tensor]) -> Tensor:
        parts = [p for p in (held_by(t) for t in marked) if p is not None]
        if len(parts) > 1:
            common = _common(marked, parts)
            pairs = zip(marked, parts, strict=True)
            if any(_extent(t) != common.extent or p.crop != common.held.crop for t, p in pairs):
                if func.__name__.endswith("_") or func.__name__.startswith("__i"):
                    func = _OUT_OF_PLACE[func.__name__]  # the smaller result replaces the name, as Python's += does
                args, kwargs = _mapped((args, kwargs), common.cut)
        return hold(self._plain(func, args, kwargs), parts[0] if len(parts) == 1 else _common(marked, parts).held)


def _even_padding(args: Any, kwargs: Any) -> Axes | None:
    """Rows and columns of zeros, if it is as many above as below and left as right."""
    given = {**dict(zip(("input", "pad", "mode", "value"), args, strict=False)), **kwargs}
    pads = list(given.get("pad", ()))
    if not isinstance(given.get("input"), Tensor) or given["input"].ndim != 4 or len(pads) != 4:
        return None
    zeros = given.get("mode", "constant") == "constant" and not given.get("value")
    return (pads[2], pads[0]) if zeros and pads[0] == pads[1] >= 0 and pads[2] == pads[3] >= 0 else None


def _later(tensor: Tensor, even: Axes) -> Tensor:
    n, c, h, w = tensor.shape
    stand_in = torch.empty((n, c, h + 2 * even[0], w + 2 * even[1]), dtype=tensor.dtype, device="meta")
    stand_in._weightatlas_padding = (tensor, even)  # pyright: ignore[reportAttributeAccessIssue]
    return stand_in


def _padded_now(value: Any) -> Any:
    waiting = getattr(value, "_weightatlas_padding", None)
    if waiting is None:
        return value
    tensor, (y, x) = waiting
    return functional.pad(tensor, (x, x, y, y))


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_OUT_OF_PLACE = {
    **dict.fromkeys(("add_", "__iadd__"), torch.add),
    **dict.fromkeys(("sub_", "__isub__"), torch.sub),
    **dict.fromkeys(("mul_", "__imul__"), torch.mul),
    **dict.fromkeys(("div_", "__itruediv__"), torch.div),
}


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
    ends = [min(p.crop[i] + _extent(t)[i] for t, p in zip(tensors, parts, strict=True)) for i in range(2)]
    extent = ends[0] - crop[0], ends[1] - crop[1]
    if min(extent) < 1:
        raise NoInteriorError("nothing is left inside the padding")
    return _Common(Held(crop, parts[0].size), extent)


def _extent(tensor: Tensor) -> Axes:
    """The grid that is really held."""
    return tensor.shape[-2], tensor.shape[-1]


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


def _convolve(func: Any, args: Any, kwargs: Any, held: Held) -> Tensor:
    given = {**dict(zip(_CONVOLUTION, args, strict=False)), **kwargs}
    stride, dilation = _pair(given.get("stride", 1)), _pair(given.get("dilation", 1))
    reach = _reach(dilation, tuple(given["weight"].shape[-2:]))
    padding = given.get("padding", 0)
    if padding == "same":  # the odd pixel goes below and to the right
        pads = tuple((r // 2, r - r // 2) for r in reach)
    else:
        pads = tuple((p, p) for p in ((0, 0) if padding == "valid" else _pair(padding)))
    x, out = _begin(given["input"], held, stride, pads, reach)
    bias, groups = given.get("bias"), given.get("groups", 1)
    return hold(torch.conv2d(x, given["weight"], bias, stride, 0, dilation, groups), out)


def _reach(dilation: Axes, kernel: Axes) -> Axes:
    """Positions beyond its first that a kernel covers."""
    return dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)


def _begin(x: Tensor, held: Held, stride: Axes, pads: Any, reach: Axes, ceil: bool = False) -> tuple[Tensor, Held]:
    """The input from the first position on that sees only what is held, and what the output will hold."""
    first, size, start = [], [], []
    for axis in range(2):
        s, (before, after), c = stride[axis], pads[axis], held.crop[axis]
        j = -(-(c + before) // s)
        first.append(j)
        start.append(j * s - before - c)
        room = held.size[axis] + before + after - reach[axis] - 1
        size.append((-(-room // s) if ceil else room // s) + 1)
    x = x[..., start[0] :, start[1] :]
    if any(n <= r for n, r in zip(_extent(x), reach, strict=True)):
        raise NoInteriorError("nothing is left inside the padding")
    return x, Held((first[0], first[1]), (size[0], size[1]))


def _pool(func: Any, name: str, args: Any, kwargs: Any, held: Held) -> Tensor:
    names = {
        "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    }[name]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("return_indices") or given.get("divisor_override"):
        raise NoInteriorError(f"{name} with more than a result")
    kernel = _pair(given["kernel_size"])
    stride = _pair(given["stride"]) if given.get("stride") else kernel
    dilation = _pair(given.get("dilation", 1))
    padding = _pair(given.get("padding", 0))
    reach = _reach(dilation, kernel)
    pads = tuple((p, p) for p in padding)
    x, out = _begin(given["input"], held, stride, pads, reach, bool(given.get("ceil_mode")))
    if name == "max_pool2d":
        return hold(functional.max_pool2d(x, kernel, stride, 0, dilation), out)
    return hold(functional.avg_pool2d(x, kernel, stride), out)


def _skip_padding(x: Tensor, args: Any, kwargs: Any, held: Held) -> Tensor:
    pads = list(kwargs.get("pad", args[1] if len(args) > 1 else ()))
    if len(pads) > 4 and any(pads[4:]):
        raise NoInteriorError("channels are padded")
    pads = [*pads, 0, 0, 0, 0][:4]
    (left, right), (above, below) = pads[:2], pads[2:4]
    crop = [held.crop[0] + above, held.crop[1] + left]
    cut = [max(-c, 0) for c in crop]  # negative padding may cut into what is held
    size = (held.size[0] + above + below, held.size[1] + left + right)
    ends = [n + min(after, 0) for n, after in zip(_extent(x), (below, right), strict=True)]
    part = Held((crop[0] + cut[0], crop[1] + cut[1]), size)
    return hold(x[..., cut[0] : ends[0], cut[1] : ends[1]], part)


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


def _bounds(name: str, args: Any, kwargs: Any) -> tuple[float, float] | None:
    """The bounds between which a function is the identity, if it is that and flat outside."""
    plain = name.rstrip("_")
    if name in _RELU:
        return 0.0, math.inf
    if name in _RELU6:
        return 0.0, 6.0
    if name not in _BOUNDED:
        return None
    if plain == "clamp_min":
        low, high = kwargs.get("min", args[1] if len(args) > 1 else None), None
    else:
        default = (-1.0, 1.0) if plain == "hardtanh" else (None, None)
        low, high = (
            kwargs.get(key, args[1 + i] if len(args) > 1 + i else default[i])
            for i, key in enumerate(_BOUND_NAMES[plain])
        )
    if low is None or isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    return float(low), math.inf if high is None else float(high)


def _pair(value: Any) -> Axes:
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return (numbers[0], numbers[-1])


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple | type({}.values())) else []


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_mapped(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    return change(value)
