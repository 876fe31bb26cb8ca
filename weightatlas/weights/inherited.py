"""Moments that batch norm gives for nothing, and what they become on the way to a non-linearity.

Behind a batch norm in evaluation every channel has mean β and deviation |γ| over the training data. Taken as normal
and as independent of each other, moments are carried through activations, through factors and sums of what is known:

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
        if name in ("add", "sub", "cat", "mul", "getitem") or name in _SAME or is_pointwise(str(node.target)):
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
        if name in _SAME:
            return parts[0]
        if is_pointwise(str(node.target)):
            rest = self.arguments(node)
            return Moments(*propagated(str(node.target), parts[0].mean, parts[0].deviation, *rest))
        if name == "cat":
            return Moments(torch.cat([m.mean for m in parts]), torch.cat([m.deviation for m in parts]))
        return self._arithmetic(node, name, parts)

    def _arithmetic(self, node: fx.Node, name: str, parts: list[Moments]) -> Moments | None:
        a, b = self._arguments(node)[:2]
        alpha: Any = node.kwargs.get("alpha", 1)
        sign = -alpha if name == "sub" else alpha
        if len(parts) == 2:
            if name == "mul" or a is b or parts[0].mean.shape != parts[1].mean.shape:
                return None
            u, v = (self._known[n] for n in (a, b))
            if u is None or v is None:
                return None
            return Moments(u.mean + sign * v.mean, torch.hypot(u.deviation, sign * v.deviation))
        other = b if a in self.graph.dependent else a
        value = self._per_channel(node, other)
        if value is None or (other is a and name == "sub"):
            return None
        if name == "mul":
            return Moments(parts[0].mean * value, parts[0].deviation * value.abs())
        return Moments(parts[0].mean + sign * value, parts[0].deviation)

    def _arguments(self, node: fx.Node) -> list[Any]:
        return list(node.args)

    def _per_channel(self, node: fx.Node, other: Any) -> Tensor | None:
        """A constant as one number for each channel, if it is that."""
        value = torch.as_tensor(self.graph.value(other)).double()
        shape, axis = shape_of(node), self.graph.channel_axes[node]
        value = value.reshape((1,) * (len(shape) + 1 - value.ndim) + tuple(value.shape))
        if any(n > 1 for i, n in enumerate(value.shape) if i != axis + 1):
            return None
        return value.flatten().expand(shape[axis]).cpu()

    def _batch_norm(self, node: fx.Node) -> Moments | None:
        if "batch_norm" not in operator_of(node):
            return None
        weight, bias = node.args[1:3]
        if weight is None or bias is None:
            return None
        mean, deviation = (self.graph.value(n).detach().double().cpu() for n in (bias, weight))
        return Moments(mean, deviation.abs())
