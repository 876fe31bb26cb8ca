"""The truth about expanded weights: autograd through the network itself, run with its operators replaced as told.

The network is run in double precision under a mode that sees every function call. Where an operator stands (``act``,
``relu#2``, ``block:mul#2``) is worked out here from the calls of modules and functions alone, without the captured
graph; what ``Weights.replaced`` names there does what ``became`` says instead of its own work.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import weightatlas as wa

#: What ATen calls a function, where its name in Python is another.
ATEN = {
    "relu6": "hardtanh", "relu_": "relu", "__mul__": "mul", "__rmul__": "mul", "mul_": "mul", "__imul__": "mul",
    "multiply": "mul", "__truediv__": "div", "true_divide": "div", "div_": "div", "local_response_norm": "div",
    "selu": "elu", "celu": "elu", "logsigmoid": "log_sigmoid", "clip": "clamp", "_threshold": "threshold",
}  # fmt: skip
POOLS = {"max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"}
NORMS = {"layer_norm", "group_norm", "instance_norm", "rms_norm"}
PRODUCTS = {"mul", "div"}
ACTIVATIONS = {
    "relu", "hardtanh", "leaky_relu", "prelu", "elu", "silu", "gelu", "hardswish", "sigmoid", "tanh", "softplus",
    "mish", "hardsigmoid", "rrelu", "log_sigmoid", "clamp", "clamp_min", "clamp_max", "threshold", "hardshrink",
    "softshrink", "abs", "exp",
}  # fmt: skip


@dataclass
class _Call:
    """A function call: in which call of which module, and what came out."""

    path: str
    module: str
    name: str
    out: Any


class _Enough(Exception):
    """The layer that is wanted has been made."""


class Told(TorchFunctionMode):
    """Runs a module with operators replaced, and keeps the outputs of its layers.

    Args:
        module: the network.
        replaced: ``Weights.replaced``; none to run it as it is.
        shares: of max poolings, address → ``[C, window]``.
        last: activations have their channels last.
    """

    def __init__(
        self,
        module: nn.Module,
        replaced: Iterable[Any] = (),
        shares: Callable[[str], Any] = lambda _: None,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.module, self.last, self.shares = module, last, shares
        self.told: dict[str, list[Any]] = {}
        for each in replaced:
            self.told.setdefault(each.module, []).append(each)
        self.places: list[str] | None = None
        self.used: set[str] = set()

    def outputs(self, x: Tensor, until: str = "") -> dict[str, Tensor]:
        """First tensors that layers return, of the second call as ``relu#2``; as far as the layer ``until``."""
        self.until = until
        if self.told and self.places is None:
            self.calls: list[_Call] = []
            with torch.no_grad():
                made = self._run(x)
            self.places = _addresses(self.calls, made)
        self.number = 0
        made = self._run(x)
        left = set(self.told) - self.used
        assert not left, f"replaced operators that never ran: {left}; those that did: {self.places}"
        return {"input": x} | made

    def _run(self, x: Tensor) -> dict[str, Tensor]:
        names = {m: n for n, m in self.module.named_modules()}
        count: dict[nn.Module, int] = {}
        self.stack: list[tuple[str, str]] = []
        made: dict[str, Tensor] = {}

        def enter(module, args):
            count[module] = nth = count.get(module, 0) + 1
            self.stack.append((names[module], names[module] + (f"#{nth}" if nth > 1 else "")))

        def leave(module, args, out):
            _, name = self.stack.pop()
            first = out
            while not isinstance(first, Tensor):
                first = next(iter(first.values() if isinstance(first, dict) else first))
            made[name] = first
            if name == self.until and not self._placing:
                raise _Enough
            # what is written to later must not change what is kept: readers get a copy
            return out.clone() if isinstance(out, Tensor) and not self._placing else None

        handles = [m.register_forward_pre_hook(enter) for m in names]
        handles += [m.register_forward_hook(leave) for m in names]
        try:
            with self:
                self.module(x)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return made

    @property
    def _placing(self) -> bool:
        return bool(self.told) and self.places is None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        name = ATEN.get(name, name)
        if name not in ACTIVATIONS | POOLS | NORMS | PRODUCTS or not self.told:
            return func(*args, **kwargs)
        if self.places is None:
            out = func(*args, **kwargs)
            path, module = self.stack[-1]
            self.calls.append(_Call(path, module, name, out))
            return out
        place = self.places[self.number]
        self.number += 1
        if place not in self.told:
            return func(*args, **kwargs)
        self.used.add(place)
        return self._instead(name, place, func, args, kwargs)

    def _instead(self, name: str, place: str, func: Any, args: tuple, kwargs: dict) -> Any:
        told = self.told[place]
        if name in PRODUCTS:
            return self._product(name, told, args)
        assert len(told) == 1, told
        if name in POOLS:
            return self._pool(name, place, told[0], func, args, kwargs)
        if name in NORMS:
            return self._norm(name, told[0], args, kwargs)
        assert told[0].became.startswith(("identity", "expected derivative", "×")), told
        written = func.__name__.endswith("_") or kwargs.get("inplace") or (name == "relu" and args[1:2] == (True,))
        factor = self._factor(told[0].factor, args[0])
        return args[0].mul_(factor) if written else args[0] * factor

    def _factor(self, factor: Sequence[float], x: Tensor) -> Tensor:
        """Numbers along the channels of a value, or one for all."""
        values = torch.tensor(tuple(factor) or (1.0,), dtype=x.dtype)
        if len(values) == 1 or self.last or x.ndim == 2:
            return values
        return values.view(-1, *(1,) * (x.ndim - 2))

    def _product(self, name: str, told: list[Any], args: tuple) -> Tensor:
        """A factor that is told is held; of two alike both are, in turn."""
        if name == "div":  # a local response norm too
            assert told[0].became.startswith("divisor held")
            return args[0] * self._factor(told[0].factor, args[0])
        a, b = args
        held = {t.became.split(" held at ")[0]: self._factor(t.factor, a) for t in told}
        assert held.keys() <= {"first factor", "second factor"}, told
        first, second = held.get("first factor"), held.get("second factor")
        if a is b:
            return a * first + b * first
        if first is not None and second is not None:  # two alike
            return a * second + b * first
        whole = torch.broadcast_shapes(a.shape, b.shape)
        return (a * second if first is None else b * first).expand(whole)

    def _pool(self, name: str, place: str, told: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
        x = args[0]
        out = func(*args, **kwargs)
        out = out if isinstance(out, Tensor) else out[0]
        if name.startswith("adaptive"):
            assert told.became == "average"
            return getattr(functional, name.replace("max", "avg"))(x, out.shape[2:])
        bound = dict(zip(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False))
        bound |= kwargs
        n = x.ndim - 2
        size, padding, dilation = (
            _pair(bound.get(k, d), n) for k, d in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
        )
        stride = _pair(bound.get("stride") or size, n)
        margin = []
        for i in reversed(range(n)):  # as much behind as the last window needs
            end = (out.shape[2 + i] - 1) * stride[i] - padding[i] + (size[i] - 1) * dilation[i] + 1
            margin += [padding[i], end - x.shape[2 + i]]
        channels = x.shape[1]
        summed = functional.conv1d if n == 1 else functional.conv2d
        values, ones = (functional.pad(v, margin) for v in (x, torch.ones_like(x)))
        if told.became == "average":
            weight = x.new_ones((channels, 1, *size))
            covered = summed(ones, weight, None, stride, 0, dilation, channels)
            return summed(values, weight, None, stride, 0, dilation, channels) / covered
        assert told.became == "measured shares of its window", told
        weight = torch.as_tensor(self.shares(place), dtype=x.dtype).view(channels, 1, *size)
        return summed(values, weight, None, stride, 0, dilation, channels)

    def _norm(self, name: str, told: Any, args: tuple, kwargs: dict) -> Tensor:
        """1/deviation held; the mean subtracted or held as told."""
        names = {
            "layer_norm": ("input", "normalized_shape", "weight", "bias"),
            "rms_norm": ("input", "normalized_shape", "weight"),
            "group_norm": ("input", "num_groups", "weight", "bias"),
            "instance_norm": ("input", "running_mean", "running_var", "weight", "bias"),
        }[name]
        bound = dict(zip(names, args, strict=False)) | kwargs
        x, weight = bound["input"], bound.get("weight")
        assert "1/deviation held at" in told.became, told
        groups = bound.get("num_groups", x.shape[1]) if name in ("group_norm", "instance_norm") else 0
        inverse = torch.tensor(told.factor, dtype=x.dtype)
        y = x.reshape(x.shape[0], groups, -1) if groups else x
        if told.became.startswith("mean subtracted"):
            dims = [2] if groups else list(range(x.ndim - len(bound["normalized_shape"]), x.ndim))
            y = y - y.mean(dims, keepdim=True)
        y = (y * (inverse.view(-1, 1) if groups else inverse)).reshape(x.shape)
        if weight is None:
            return y
        return y * (weight.view(-1, *(1,) * (x.ndim - 2)) if groups else weight)


def _pair(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value) * (n if len(value) == 1 else 1)


def _addresses(calls: list[_Call], made: dict[str, Tensor]) -> list[str]:
    """The layer that a call makes, else its module's path with ``:relu`` or ``:relu#2``."""
    count: dict[str, int] = {}
    found = []
    for call in calls:
        out = call.out if isinstance(call.out, Tensor) else call.out[0]
        if call.path and any(out is t for n, t in made.items() if n == call.module):
            found.append(call.module)
            continue
        name = f"{call.path}:{call.name}"
        count[name] = nth = count.get(name, 0) + 1
        found.append(name if nth == 1 else f"{name}#{nth}")
    return found


def double(module: nn.Module) -> nn.Module:
    """A copy in double precision and in evaluation."""
    return copy.deepcopy(module).double().eval()


class Truth:
    """Gradients of one network on one input, run once for every way of replacing its operators.

    Args:
        net: the network.
        module: another network in place of the one that ``Weights.replaced`` makes of it.
        last: activations have their channels last.
        x: the input ``[1, *shape]``; random by default.
    """

    def __init__(
        self, net: wa.Network, module: nn.Module | None = None, last: bool = False, x: Tensor | None = None
    ) -> None:
        self.net, self.module, self.last, self.given = net, module, last, module is not None
        noise = torch.randn((1, *net.input.shape), dtype=torch.float64, generator=torch.Generator().manual_seed(7))
        self.x = noise if x is None else x.double()
        self._made: dict[Any, dict[str, Tensor]] = {}
        self._places: list[str] | None = None

    @functools.cached_property
    def _double(self) -> nn.Module:
        """What is run: one copy for all ways of replacing operators, since running it changes nothing about it."""
        return double(self.module or self.net.module)

    def outputs(self, replaced: Iterable[Any], until: str = "") -> dict[str, Tensor]:
        """The outputs of layers as far as ``until``, which autograd can follow."""
        replaced = () if self.given else tuple(replaced)
        if until not in self._made.get(replaced, ()):
            measured = self.net.measured
            shares = (lambda place: measured.get(place, "shares")) if measured else lambda _: None
            told = Told(self._double, replaced, shares, self.last)
            told.places = self._places  # where operators stand does not depend on which of them are replaced
            self._made.clear()  # a graph of a large network is large
            self._made[replaced] = told.outputs(self.x.clone().requires_grad_(), until)
            self._places = told.places
        return self._made[replaced]

    def gradients(
        self, source: str, target: str, units: Sequence[int], at: tuple[int, int], replaced: Iterable[Any] = ()
    ) -> np.ndarray:
        """∂ target[unit, at] / ∂ source ``[n, C, y, x]``."""
        made = self.outputs(replaced, target)
        before, after = made[source], made[target]
        rows = []
        for unit in units:
            place = {"N": 0, "C": unit, "y": at[0], "x": at[1], "?": 0}
            value = after[tuple(place[a] for a in self.net.layers[target].axes)]
            gradient = torch.autograd.grad(value, before, retain_graph=True, allow_unused=True)[0]
            rows.append(torch.zeros_like(before[0]) if gradient is None else gradient[0])
        truth = torch.stack(rows).numpy()
        axes = ("N", "C", "y", "x")[: truth.ndim] if truth.ndim != 3 else ("N", "C", "x")
        axes = axes if source == "input" else self.net.layers[source].axes
        order = [0, *(axes.index(a) for a in ("C", "y", "x") if a in axes)]
        rest = [a for a in range(truth.ndim) if a not in order]
        truth = truth.transpose(order + rest).reshape([truth.shape[a] for a in order])
        while truth.ndim < 4:
            truth = truth[:, :, None]
        return truth


def placed(weights: wa.Weights, grid: Sequence[int], at: tuple[int, int]) -> tuple[np.ndarray, float]:
    """A kernel laid onto the source grid for the target position ``at``, ``[O, I, *grid]``; and the most outside."""
    values = weights.dense().values.astype(np.float64)
    out = np.zeros((*values.shape[:2], *grid))
    starts = []
    for i in (0, 1):
        start = at[i] * weights.stride[i] + weights.origin[i]
        assert abs(start - round(start)) < 1e-6, (at, weights.stride, weights.origin)
        starts.append(round(start))
    inside = np.zeros(values.shape[2:], bool)
    for y, x in np.ndindex(*values.shape[2:]):
        p, q = starts[0] + y, starts[1] + x
        if 0 <= p < grid[0] and 0 <= q < grid[1]:
            out[:, :, p, q] = values[:, :, y, x]
            inside[y, x] = True
    return out, float(np.abs(values[:, :, ~inside]).max(initial=0))


def check_weights(
    net: wa.Network,
    weights: wa.Weights,
    *,
    truth: Truth | None = None,
    units: int = 4,
    tolerance: float = 1e-5,
    at: tuple[int, int] | None = None,
) -> None:
    """Holds expanded weights against autograd, at the position they are of; without one, in the middle of the grid.

    Args:
        net: the network.
        weights: of it.
        truth: of the network.
        units: how many target units to look at.
        tolerance: of the norm of the difference, relative to that of the gradient.
        at: another position in the interior.
    """
    truth = truth or Truth(net)
    height, width = net.layers[weights.target].grid or (1, 1)
    at = weights.at or at or (height // 2, width // 2)
    rows = sorted({round(r) for r in np.linspace(0, len(weights.units) - 1, units)})
    chosen = [int(weights.units[r]) for r in rows]
    expected = truth.gradients(weights.source, weights.target, chosen, at, weights.replaced)
    if weights.source_numbers.size:
        expected = expected[:, weights.source_numbers]
    found, lost = placed(weights.select(chosen), expected.shape[2:], at)
    scale = np.linalg.norm(expected)
    assert scale > 0, f"{weights}: the gradient is zero"
    assert lost <= tolerance * scale, "the window reaches over the border: take a larger input"
    error = np.linalg.norm(found - expected) / scale
    assert error < tolerance, f"{weights} at {at}: relative error {error:.1e}"


def check_everywhere(
    net: wa.Network,
    source: str,
    target: str,
    truth: Truth | None = None,
    units: int = 3,
    edges: int = 5,
    **options: Any,
) -> wa.Weights:
    """Holds the expanded weights of two layers against autograd in the interior, in corners and at some edges.

    Returns:
        Those of the interior.
    """
    truth = truth or Truth(net)
    options = {"gate": "identity"} | options
    weights = wa.expanded_weights(net, source, target, **options)
    check_weights(net, weights, truth=truth, units=units)
    height, width = net.layers[target].grid or (1, 1)
    places = [(0, 0), (height - 1, width - 1), (min(1, height - 1), width // 2), (0, width - 1), (height // 2, 0)]
    for at in dict.fromkeys(places[:edges]) if (height, width) != (1, 1) else ():
        there = wa.expanded_weights(net, source, target, at=at, **options)
        assert there.at == at
        check_weights(net, there, truth=truth, units=units)
        if weights.at is None:
            assert there.stride == weights.stride, "the same steps at the border"
    return weights
