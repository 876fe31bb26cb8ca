"""Reading every operator by what it does on one example: the walk then gives the network's own gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional

from ..graph import Graph, operator_of, shape_of
from .kernel import Kernel, to_spans
from .measuring import MAXIMA, NORMS, PRODUCTS, largest_places
from .moments import is_pointwise, slopes
from .rules.linear import pair
from .rules.norms import normalised
from .rules.table import built_in
from .step import Passed, Step

_ADAPTIVE = {"adaptive_max_pool1d", "adaptive_max_pool2d"}


class Example:
    """The derivatives of one example's operators, for walks pinned to any position.

    Args:
        graph: the network's.
        image: ``[1, *input shape]``.
        between: nodes of the walk.
    """

    def __init__(self, graph: Graph, image: Tensor, between: tuple[fx.Node, ...]) -> None:
        self.graph = graph
        self._values: dict[fx.Node, Tensor] = {}
        self._made: dict[tuple[fx.Node, str], Any] = {}
        kept = {n for node in between for n in self._needs(node)}

        def visit(node: fx.Node, value: Any, _: Mapping[fx.Node, Any]) -> None:
            if node in kept:
                self._values[node] = value

        graph.run(image, visit, kept)

    def _needs(self, node: fx.Node) -> list[fx.Node]:
        """The values that an operator's derivative is made of."""
        name = operator_of(node)
        if node.op != "call_function" or name == "getitem":
            return []
        named = is_pointwise(str(node.target)) or name in NORMS | MAXIMA | PRODUCTS | _ADAPTIVE
        return [n for n in node.all_input_nodes if n in self.graph.dependent] if named or not built_in(name) else []

    def slope(self, step: Step) -> Tensor | float:
        """f′ at the example's own values, ``[*axes]``."""
        key = (step.node, "slope")
        if key not in self._made:
            rest = [self.graph.value(a) for a in step.node.args[1:]]
            kwargs = {k: self.graph.value(v) for k, v in step.node.kwargs.items()}
            self._made[key] = slopes(str(step.node.target), self._values[step.source], rest, kwargs)[0]
        return self._made[key]

    def held(self, step: Step, node: fx.Node, inverse: bool = False) -> Tensor | float:
        """The factor itself."""
        value = self._values[node][0]
        return 1 / value if inverse else value

    def follows(self, step: Step, node: fx.Node, other: fx.Node) -> bool:
        """Every path: that is the product rule."""
        return True

    def norm(self, step: Step, kernel: Kernel, over: tuple[int, ...], centred: bool) -> Kernel:
        """k/σ − mean(k)/σ − x̂ · mean(k x̂)/σ over the normalised axes, which must be held in full."""
        values = self._values[step.arguments["input"]][0]
        shape = [kernel.values.shape[i + 1] for i in range(len(kernel.axes))]
        if len(kernel.axes) > values.ndim:  # a group norm's channels are split into groups
            values = values.reshape(shape[0], shape[1], *values.shape[1:])
        kernel = kernel.full(values.shape[kernel.compact]).spread(values.shape, over)
        a = step.arguments
        eps = a["eps"] if a["eps"] is not None else torch.finfo(values.dtype).eps
        straight, inverse = normalised(values[None], tuple(over), eps, centred)
        straight, inverse = kernel.seen(straight[0]), kernel.seen(inverse[0])
        dims = [i + 1 for i in over]
        k = kernel.values
        out = k - straight * (k * straight).mean(dims, keepdim=True)
        if centred:
            out = out - k.mean(dims, keepdim=True)
        return kernel.like(out * inverse)

    def largest(self, step: Step, size: tuple[int, ...], stride: tuple[int, ...]) -> Kernel:
        """Everything goes to the element that was the largest."""
        n = 2 if "2d" in step.operator else 1
        value = self._values[step.source]
        places = self._places(step, value, n)
        kernel = to_spans(step.kernel.full(step.shape()[0]), range(1, 1 + n), True)
        seen = kernel.seen(places)
        grid, begin, extent = value.shape[2:], [], []
        for i in range(n):  # the part of the input that the kernel's windows cover
            span = kernel.axes[1 + i]
            start, count = (span.start if span else 0), kernel.values.shape[2 + i]
            if size:
                padding, dilation = (pair(step.arguments[k], n)[i] for k in ("padding", "dilation"))
                low = max(start * stride[i] - padding, 0)
                high = min((start + count - 1) * stride[i] - padding + (size[i] - 1) * dilation, grid[i] - 1)
            else:
                low, high = 0, grid[i] - 1
            begin.append(low)
            extent.append(high - low + 1)
        y, x = (seen // grid[-1], seen % grid[-1]) if n == 2 else (torch.zeros_like(seen), seen)
        local = (y - begin[0]) * extent[-1] + (x - begin[-1]) if n == 2 else x - begin[0]
        rows, channels = kernel.values.shape[:2]
        flat = kernel.values.reshape(rows, channels, -1)
        out = flat.new_zeros((rows, channels, int(torch.tensor(extent).prod())))
        out.scatter_add_(2, local.reshape(1, channels, -1).expand_as(flat), flat)
        spans = []
        for i in range(n):
            span = kernel.axes[1 + i]
            if span is not None:
                spans.append(span.at(begin[i], stride[i] if size else 1))
        return kernel.like(out.view(rows, channels, *extent), axes=(None, *spans))

    def _places(self, step: Step, value: Tensor, n: int) -> Tensor:
        key = (step.node, "places")
        if key not in self._made:
            if step.operator in _ADAPTIVE:
                find = functional.adaptive_max_pool2d if n == 2 else functional.adaptive_max_pool1d
                self._made[key] = find(value, list(step.shape()[-n:]), return_indices=True)[1][0]
            else:
                self._made[key] = largest_places(step.node, value, n)[0]
        return self._made[key]

    def pulled(self, step: Step) -> Passed:
        """An operator without a rule of ours: autograd through it alone, for all rows at once."""
        kernel = step.kernel
        if kernel.first is not None:
            kernel = step.full()
        kernel = kernel.spread(step.shape(), range(len(kernel.axes)))
        inputs = {n: self._values[n].detach().requires_grad_() for n in self._needs(step.node)}

        def value(node: fx.Node) -> Any:
            return inputs[node] if node in inputs else self.graph.value(node)

        args, kwargs = map_arg((step.node.args, step.node.kwargs), value)
        with torch.enable_grad():
            out = step.node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
            out = out[step.index] if isinstance(out, tuple | list) else out
        wanted = [n for n in inputs if step.wants(n)]
        found = torch.autograd.grad(
            out, [inputs[n] for n in wanted], kernel.values[:, None], is_grads_batched=True, allow_unused=True
        )
        for node, gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                yield node, kernel.like(gradient[:, 0], axes=(None,) * len(shape_of(node)))
