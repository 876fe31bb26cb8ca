"""Gates: what every operator that is not linear is read as.

A non-linearity y = f(z) becomes y ≈ g · z with one number g per channel, its expected derivative

    g = E[f′(z)]          z's statistics measured on images, or those of the batch norm before it, z ~ N(β, γ²)

so that expanded weights are the mean gradient, up to the dependence between gates. Batch norm's moments are carried on
through activations, permutations and sums (a ReLU behind a residual addition). The article's rule is g = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, fx

from ..errors import ArgumentError, UnknownNameError, unknown_name
from ..graph import Graph, operator_of, shape_of
from ..records import Replaced, Statistics
from .inherited import Inherited
from .kernel import Kernel, to_spans
from .moments import expected_slope, is_pointwise
from .rules.linear import pair
from .rules.pools import adaptive, weighted_windows, windows, windows_counted
from .step import Step

NAMED = ("expected", "measured", "batchnorm", "identity")
MEASURED, BATCH_NORM, GIVEN = "measured", "batch norm", "given"
#: Activations whose values are read as factors: in x · sigmoid(…) the sigmoid is the gate.
BOUNDED = {"sigmoid", "hardsigmoid", "softmax", "_softmax", "tanh"}
POOLS = ("average", "expected")


class Gates:
    """Reads every operator by a rule of the user's choice, and remembers how.

    Args:
        graph: the network's.
        gate: as in :func:`weightatlas.expanded_weights`.
        pool: ``"average"`` or ``"expected"``.
        statistics: measured ones, if there are any.
        nodes: the operators on the way, to check a mapping's names.
    """

    def __init__(
        self, graph: Graph, gate: Any, pool: str, statistics: Statistics | None, nodes: tuple[fx.Node, ...]
    ) -> None:
        self.graph, self.statistics, self.pool = graph, statistics, pool
        self.gate = checked_gate(gate)
        if pool not in POOLS:
            raise ArgumentError(f"pool={pool!r} is none of {', '.join(map(repr, POOLS))}")
        if isinstance(self.gate, Mapping):
            self._check_names(self.gate, nodes)
        self._inherited = Inherited(graph)
        self._factors: dict[Any, Tensor | float] = {}
        self._replaced: dict[tuple[fx.Node, str], Replaced] = {}

    @property
    def replaced(self) -> tuple[Replaced, ...]:
        """What was read as what, in the order of execution."""
        order = sorted(self._replaced, key=lambda key: (self.graph.position[key[0]], key[1]))
        return tuple(self._replaced[key] for key in order)

    def _check_names(self, gate: Mapping[str, Any], nodes: tuple[fx.Node, ...]) -> None:
        """Every key of a mapping must be an operator on the way."""
        known = gated_names(self.graph, nodes)
        for name in gate:
            if name not in known:
                raise unknown_name("non-linearity", str(name), known)

    def _note(self, step: Step, became: str, source: str = "", factor: Tensor | float | None = None) -> None:
        values = () if factor is None else tuple(torch.as_tensor(factor).flatten().tolist())
        name = _class_name(self.graph, step)
        self._replaced[(step.node, became)] = Replaced(name, step.address, became, source, values)

    def slope(self, step: Step) -> Tensor | float:
        """The gate of a non-linearity, ``[C, 1, 1]`` or a number."""
        if step.node not in self._factors:
            self._factors[step.node] = self._slope(step)
        factor = self._factors[step.node]
        return factor.to(step.kernel.values.device, step.kernel.values.dtype) if isinstance(factor, Tensor) else factor

    def _slope(self, step: Step) -> Tensor | float:
        gate = self.gate
        if isinstance(gate, Mapping):
            gate = next((gate[n] for n in _names(self.graph, step.node) if n in gate), "expected")
        if gate == "identity":
            self._note(step, "identity")
            return 1.0
        if not isinstance(gate, str):
            return self._given(step, gate)
        found = self._expected(step, gate)
        if found is None and gate in ("measured", "batchnorm"):
            unseen = "did not see it" if self.statistics else "has not been run"
            how = f"wa.measure(net, images) {unseen}" if gate == "measured" else "no batch norm stands before it"
            raise ArgumentError(
                f"gate={gate!r}, but of {step.operator} in {step.address!r} nothing is known: {how}. "
                "gate='expected' takes what there is, and the identity elsewhere"
            )
        if found is None:
            self._note(step, "identity, for want of statistics")
            return 1.0
        factor, source, axis = found
        self._note(step, f"expected derivative, mean {float(factor.mean()):.2f}", source, factor)
        return _shaped(factor, axis, len(step.shape()))

    def _given(self, step: Step, gate: Any) -> Tensor | float:
        """A number, or one for each channel."""
        axis = channel_axis(step)
        if isinstance(gate, Real):
            self._note(step, f"× {float(gate):.3g}", GIVEN, float(gate))
            return float(gate)
        factor = torch.as_tensor(gate, dtype=torch.float32).flatten()
        if factor.numel() != step.shape()[axis]:
            raise ArgumentError(
                f"the gate of {step.address!r} has {factor.numel()} numbers, but the layer has "
                f"{step.shape()[axis]} units"
            )
        self._note(step, f"× given, mean {float(factor.mean()):.2f}", GIVEN, factor)
        return _shaped(factor, axis, len(step.shape()))

    def _expected(self, step: Step, gate: str) -> tuple[Tensor, str, int] | None:
        """Expected derivative per channel, where it comes from, and the channels' axis."""
        if gate in ("expected", "measured") and self.statistics is not None:
            values = self.statistics.get(self.graph.address(step.node), "slope")
            if values is not None and values.size == step.shape()[channel_axis(step)]:
                return torch.from_numpy(values), MEASURED, channel_axis(step)
        if gate == "measured":
            return None
        moments = self._inherited.moments(step.source)
        if moments is None:
            return None
        rest = self._inherited.arguments(step.node)
        slope = expected_slope(str(step.node.target), moments.mean, moments.deviation, *rest)
        return slope.float(), BATCH_NORM, channel_axis(step)

    def held(self, step: Step, node: fx.Node, inverse: bool = False) -> Tensor | float:
        """A factor that depends on the data: its measured mean, else 1."""
        values, place = None, _place(step, node)
        what = "divisor" if inverse else ("first factor", "second factor")[place]
        if self.statistics is not None and self._uses_measured():
            quantity = f"{'divisor' if inverse else 'factor'} {place}"
            values = self.statistics.get(self.graph.address(step.node), quantity)
        if values is None:
            self._note(step, f"{what} held at 1")
            return 1.0
        factor = torch.from_numpy(values)
        self._note(step, f"{what} held at its measured mean, {float(factor.mean()):.3g}", MEASURED, factor)
        return _shaped(factor, self.graph.channel_axes[node], len(step.shape())).to(
            step.kernel.values.device, step.kernel.values.dtype
        )

    def _uses_measured(self) -> bool:
        return isinstance(self.gate, Mapping) or self.gate in ("expected", "measured")

    def follows(self, step: Step, node: fx.Node, other: fx.Node) -> bool:
        """Of a value and its gate, the value (the larger one); of a quotient, the dividend; of two equals, both."""
        if step.operator.startswith("div"):
            return node is step.node.args[0]
        own, their = shape_of(node), shape_of(other)
        if own != their:  # where both are spread out, the value is the one that has all channels
            axis, whole = channel_axis(step), step.shape()
            return own == whole or (their != whole and own[axis:][:1] == whole[axis : axis + 1])
        return not (_bounded(node) and not _bounded(other))

    def norm(self, step: Step, kernel: Kernel, over: tuple[int, ...], centred: bool) -> Kernel:
        """The linear part of a norm: 1 / deviation held, the mean subtracted where it is of channels alone."""
        values = None
        if self.statistics is not None and self._uses_measured():
            values = self.statistics.get(self.graph.address(step.node), "inverse deviation")
        at = "1" if values is None else f"its measured mean, {float(values.mean()):.3g}"
        local = centred and all(kernel.axes[i] is None for i in over)
        part = "mean subtracted, " if local else "mean held, " if centred else ""
        factor = 1.0 if values is None else torch.from_numpy(values)
        self._note(step, f"{part}1/deviation held at {at}", MEASURED if values is not None else "", factor)
        if isinstance(factor, Tensor) and factor.numel() > 1:
            factor = _shaped(factor, 0, len(kernel.axes)).to(kernel.values.device, kernel.values.dtype)
        kernel = kernel.scaled(factor, step.pinned)
        if not local:
            return kernel
        if kernel.first is not None:
            kernel = kernel.full(step.shape()[kernel.compact])
        return kernel.like(kernel.values - kernel.values.mean([i + 1 for i in over], keepdim=True))

    def largest(self, step: Step, size: tuple[int, ...], stride: tuple[int, ...]) -> Kernel:
        """A maximum as the mean over its window, or as the measured shares of its elements."""
        if not size:
            self._note(step, "average")
            return adaptive(step)
        n = len(size)
        a = step.arguments
        padding, dilation = pair(a["padding"], n), pair(a["dilation"], n)
        kernel = to_spans(step.kernel, range(1, 1 + n), step.pinned)
        if self.pool == "expected":
            return self._shares(step, kernel, size, stride, padding, dilation)
        self._note(step, "average")
        share: Tensor | float = 1 / math.prod(size)
        if step.pinned:
            inside = windows_counted(step.shape(step.source)[1:], size, stride, padding, dilation, step.shape()[1:])
            share = 1 / inside.to(kernel.values.device, kernel.values.dtype)
        return windows(kernel.scaled(share, step.pinned), size, stride, padding, dilation)

    def _shares(
        self,
        step: Step,
        kernel: Kernel,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Kernel:
        """How often each element of the window was the largest, per channel, ``[C, *size]``."""
        values = self.statistics.get(self.graph.address(step.node), "shares") if self.statistics else None
        if values is None:
            raise ArgumentError(
                f"pool='expected' needs wa.measure(net, images) first: of the max pooling {step.address!r} is not "
                "known which elements are the largest; pool='average' reads it as the mean"
            )
        self._note(step, "measured shares of its window", MEASURED)
        shares = torch.from_numpy(values).view(-1, *size)
        return weighted_windows(kernel, shares, stride, padding, dilation)


def gated_names(graph: Graph, nodes: tuple[fx.Node, ...]) -> list[str]:
    """What a mapping of gates may name: addresses of the non-linearities among some nodes."""
    gated = [n for n in nodes if n.op == "call_function" and is_pointwise(str(n.target))]
    return list(dict.fromkeys(name for n in gated for name in _names(graph, n)))


def _names(graph: Graph, node: fx.Node) -> tuple[str, ...]:
    address = graph.address(node)
    return (address, address.split("#")[0]) if "#" in address else (address,)


def checked_gate(gate: Any) -> Any:
    """A gate that can be meant.

    Raises:
        ArgumentError: naming the possible ones.
    """
    if isinstance(gate, str) and gate not in NAMED:
        raise ArgumentError(f"gate={gate!r} is none of {', '.join(map(repr, NAMED))}, nor a number or a mapping")
    if isinstance(gate, Mapping):
        nested = next((value for value in gate.values() if isinstance(value, Mapping)), None)
        if nested is not None:
            raise ArgumentError(f"gate={gate!r} holds a mapping, {nested!r}; give each operator a name or numbers")
        return {name: checked_gate(value) for name, value in gate.items()}
    if isinstance(gate, str):
        return gate
    if isinstance(gate, Real) and not isinstance(gate, bool) and math.isfinite(gate):
        return gate
    try:
        values = torch.as_tensor(gate, dtype=torch.float32).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"gate={gate!r} is no name, number or mapping of operators to them") from error
    if isinstance(gate, bool) or values.ndim > 1 or not bool(values.isfinite().all()):
        raise ArgumentError(f"gate={gate!r} is no finite number, nor one for each channel")
    return values


def _class_name(graph: Graph, step: Step) -> str:
    """What users call an operator: its module's class if the module is nothing else, e.g. ``ReLU6``."""
    path = step.address.split("#")[0]
    if ":" in path or not path:
        return step.operator
    module = graph.module.get_submodule(path)
    return step.operator if any(True for _ in module.children()) else type(module).__name__


def _place(step: Step, node: fx.Node) -> int:
    return list(step.node.args).index(node)


def _bounded(node: fx.Node) -> bool:
    """Whether a value comes from a sigmoid or the like, through nothing but reshaping."""
    while operator_of(node) in ("view", "expand", "clone", "permute", "unsqueeze", "getitem"):
        node = node.args[0]  # pyright: ignore[reportAssignmentType]
    return operator_of(node) in BOUNDED


def channel_axis(step: Step) -> int:
    """Which axis of the output holds channels."""
    return step.graph.channel_axes[step.out]


def _shaped(factor: Tensor, axis: int, count: int) -> Tensor:
    return factor.view(*(1,) * axis, -1, *(1,) * (count - axis - 1))


__all__ = ["Gates", "UnknownNameError", "channel_axis", "checked_gate"]
