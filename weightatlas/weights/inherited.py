"""Moments that batch norm gives for nothing, and what they become on the way to a non-linearity.

Behind a batch norm in evaluation every channel has mean β and deviation |γ| over the training data, 0 and 1 without
them. Taken as normal and as independent of each other, moments are carried through activations, through factors and
sums of what is known:

    u + v:  μ = μ_u + μ_v,  σ² = σ_u² + σ_v²
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..graph import Graph, operator_of, shape_of
from .moments import is_pointwise, propagated


@dataclass(frozen=True)
class Moments:
    """Mean and deviation per channel, float64 ``[C]``."""

    mean: Tensor
    deviation: Tensor


_SAME = {
    "clone", "dropout", "feature_dropout", "alias", "detach", "contiguous", "view", "_unsafe_view", "reshape",
    "permute", "transpose", "to", "_to_copy", "flatten", "constant_pad_nd", "pad",
}  # fmt: skip


class Inherited:
    """Moments of nodes, worked out when asked for and kept."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._known: dict[fx.Node, Moments | None] = {}

    def moments(self, node: Any) -> Moments | None:
        """Mean and deviation of a node per channel; ``None`` where they are not known."""
        chain = [node]
        while chain:  # without recursion: residual streams are long
            last = chain[-1]
            waiting = [n for n in self._reads(last) if n not in self._known]
            if last in self._known or not waiting:
                chain.pop()
                if last not in self._known:
                    self._known[last] = self._found(last)
            else:
                chain += waiting
        found = self._known[node]
        channels = shape_of(node)[self.graph.channel_axes[node]] if found is not None else 0
        return found if found is not None and found.mean.numel() == channels else None

    def _reads(self, node: fx.Node) -> list[fx.Node]:
        name = operator_of(node)
        if name in ("add", "sub", "cat", "mul", "getitem", "slice") or name in _SAME or is_pointwise(str(node.target)):
            return [n for n in node.all_input_nodes if n in self.graph.dependent]
        return []

    def arguments(self, node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
        """What an activation was called with besides its input, constants as values."""
        rest = [self.graph.value(a) for a in node.args[1:]]
        return rest, {k: self.graph.value(v) for k, v in node.kwargs.items()}

    def _found(self, node: fx.Node) -> Moments | None:
        name = operator_of(node)
        if name == "getitem":
            return self._batch_norm(node.args[0]) if node.args[1] == 0 else None  # pyright: ignore[reportArgumentType]
        if name == "batch_norm":
            return self._batch_norm(node)
        inputs = self._reads(node)
        known = [self._known.get(n) for n in inputs]
        parts = [m for m in known if m is not None]
        if not inputs or len(parts) < len(inputs):
            return None
        if name == "slice":
            return self._sliced(node, parts[0])
        if name in _SAME:
            return parts[0] if self._keeps_channels(node, inputs[0]) else None
        if is_pointwise(str(node.target)):
            rest = self.arguments(node)
            return Moments(*propagated(str(node.target), parts[0].mean, parts[0].deviation, *rest))
        if name == "cat":
            dim, axes = (*node.args, 0)[1], len(shape_of(node)) + 1
            if dim % axes != self.graph.channel_axes[node] + 1:  # pyright: ignore[reportOperatorIssue]
                return None
            return Moments(torch.cat([m.mean for m in parts]), torch.cat([m.deviation for m in parts]))
        return self._arithmetic(node, name, parts)

    def _keeps_channels(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether every channel stays where it is: not when they are split into groups, or padded."""
        before, now = self.graph.channel_axes[source], self.graph.channel_axes[node]
        padded = len(node.args[1]) // 2 if "pad" in operator_of(node) else 0  # pyright: ignore[reportArgumentType]
        return shape_of(source)[before] == shape_of(node)[now] and now < len(shape_of(node)) - padded

    def _arithmetic(self, node: fx.Node, name: str, parts: list[Moments]) -> Moments | None:
        a, b, *_ = node.args
        alpha: Any = node.kwargs.get("alpha", 1)
        sign = -alpha if name == "sub" else alpha
        if a in self.graph.dependent and b in self.graph.dependent:
            if name == "mul" or a is b or parts[0].mean.shape != parts[1].mean.shape:
                return None
            u, v = parts
            return Moments(u.mean + sign * v.mean, torch.hypot(u.deviation, sign * v.deviation))
        first = a in self.graph.dependent
        value = self._per_channel(node, b if first else a)
        if value is None:
            return None
        mean, deviation = parts[0].mean, parts[0].deviation
        if name == "mul":
            return Moments(mean * value, deviation * value.abs())
        return Moments(mean + sign * value, deviation) if first else Moments(value + sign * mean, abs(sign) * deviation)

    def _per_channel(self, node: fx.Node, other: Any) -> Tensor | None:
        """A constant as one number for each channel, if it is that."""
        value = torch.as_tensor(self.graph.value(other)).detach().double()
        shape, axis = shape_of(node), self.graph.channel_axes[node]
        value = value.reshape((1,) * (len(shape) + 1 - value.ndim) + tuple(value.shape))
        if any(n > 1 for i, n in enumerate(value.shape) if i != axis + 1):
            return None
        return value.flatten().expand(shape[axis]).cpu()

    def _sliced(self, node: fx.Node, whole: Moments) -> Moments | None:
        """Of the channels that were taken; of positions, the same."""
        args: list[Any] = [*node.args, None, None, None, None]
        axis = (args[1] or 0) % (len(shape_of(node)) + 1) - 1
        if axis != self.graph.channel_axes[node]:
            return whole
        taken = slice(args[2], args[3], args[4])
        return Moments(whole.mean[taken], whole.deviation[taken])

    def _batch_norm(self, node: fx.Node) -> Moments | None:
        if "batch_norm" not in operator_of(node):
            return None
        weight, bias = (None if n is None else self.graph.value(n).detach().double().cpu() for n in node.args[1:3])
        plain = torch.zeros(shape_of(node.args[0])[0], dtype=torch.float64)  # pyright: ignore[reportArgumentType]
        return Moments(plain if bias is None else bias, plain + 1 if weight is None else weight.abs())
