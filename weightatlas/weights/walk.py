"""The walk back through the graph, from a target's units to a source.

    kernel on the target = the identity, one row a unit
    for every operator from the target back to the source:  kernel on its inputs = rule(kernel on its output)
    kernels that meet on one node are summed

Two kernels are carried side by side: ``pure`` for paths on which no parameter has been met (the residual stream), and
``proper`` for the others; the two become one at the first operator with parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..errors import ArgumentError, GraphError, WeightAtlasError
from ..graph import Graph, operator_of, shape_of
from .kernel import Kernel, NeedsPosition, Span, total
from .reading import Reading
from .rules import rule_for
from .rules.table import built_in
from .step import Passed, Step

#: Node → what has reached it along paths with parameters, and along paths without.
Held = dict[fx.Node, tuple[list[Kernel], list[Kernel]]]


@dataclass(frozen=True)
class Ends:
    """Where a walk begins and ends.

    Args:
        source, target: nodes.
        source_axes, target_axes: which of each node's axes (without the batch) are channels, y and x; −1 for none.
        between: all nodes on the way, both ends included.
    """

    source: fx.Node
    target: fx.Node
    source_axes: tuple[int, int, int]
    target_axes: tuple[int, int, int]
    between: tuple[fx.Node, ...]


@dataclass
class Reached:
    """What a walk brings back: the kernels on the source, and the most that was alive at once, in elements."""

    proper: Kernel | None
    pure: Kernel | None
    peak: int


class Walk:
    """One way from target to source that can be walked for any block of units.

    Args:
        graph: the network's.
        ends: where from and where to.
        reading: what stands in for operators that are not linear.
        at: the target's position, if the walk is pinned to one.
        device, dtype: of the computation; the ``meta`` device computes shapes only.
        fallback: what to do with operators that have no rule of ours.
    """

    def __init__(
        self,
        graph: Graph,
        ends: Ends,
        reading: Reading,
        at: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fallback: Callable[[Step], Passed] | None = None,
    ) -> None:
        self.graph, self.ends, self.reading, self.at = graph, ends, reading, at
        self.device, self.dtype, self.fallback = torch.device(device), dtype, fallback
        self._wanted = frozenset(ends.between)
        self._values: dict[fx.Node, Tensor] = {}

    def constant(self, node: fx.Node) -> Tensor:
        """A constant of the graph on the walk's device and in its type, kept for the next block."""
        if node not in self._values:
            value = self.graph.value(node)
            if not isinstance(value, Tensor):
                value = torch.tensor(value)
            if value.is_quantized:
                raise ArgumentError(f"{node.name} is quantised ({value.dtype}); dequantise the module first")
            kind = self.dtype if value.is_floating_point() else value.dtype
            self._values[node] = value.detach().to(self.device, kind)
        return self._values[node]

    def constants_used(self) -> list[Tensor]:
        """All constants that were asked for so far."""
        return list(self._values.values())

    def start(self, units: list[int]) -> Kernel:
        """The identity on the target: row o reads channel ``units[o]`` at the target's own position."""
        channel, *positions = self.ends.target_axes
        shape = shape_of(self.ends.target)
        axes: list[Span | None] = [None] * len(shape)
        for i, axis in enumerate(positions):
            if axis >= 0:
                axes[axis] = Span(self.at[i] if self.at else 0, along=i)
        sizes = [1 if i == channel or a is not None else shape[i] for i, a in enumerate(axes)]
        values = torch.ones((len(units), *sizes), dtype=self.dtype, device=self.device)
        return Kernel(values, tuple(axes), torch.tensor(units, dtype=torch.int64), channel)

    def back(self, units: list[int]) -> Reached:
        """Walks back for some units of the target.

        Raises:
            GraphError: at an operator without a rule.
            NeedsPosition: in a walk that is not pinned, at an operator whose map depends on the position.
        """
        held: Held = {self.ends.target: ([], [self.start(units)])}
        peak = 0
        for node in reversed(self.ends.between):
            if node not in held or node is self.ends.source:
                continue
            operation, index = _operation(node)
            proper, pure = self._gathered(held.pop(node), node, len(units), self._has_parameters(operation))
            for slot, kernel in enumerate((proper, pure)):
                if kernel is not None:
                    self._pass(operation, node, index, kernel, slot, held)
            alive = {id(k.values): k.values.numel() for pair in held.values() for slot in pair for k in slot}
            here = {id(k.values): k.values.numel() for k in (proper, pure) if k is not None}
            peak = max(peak, sum({**alive, **here}.values()))
        proper, pure = self._gathered(held.get(self.ends.source, ([], [])), self.ends.source, len(units), False)
        return Reached(proper, pure, peak)

    def _gathered(
        self, kernels: tuple[list[Kernel], list[Kernel]], node: fx.Node, count: int, joined: bool
    ) -> tuple[Kernel | None, Kernel | None]:
        """The sums of what reached a node along its two kinds of paths; as one if ``joined``."""
        proper, pure = kernels
        if joined:
            proper, pure = [*proper, *pure], []
        shape = shape_of(node)
        pinned = self.at is not None
        return (
            total(proper, shape, count, pinned) if proper else None,
            total(pure, shape, count, pinned) if pure else None,
        )

    def _pass(
        self,
        operation: fx.Node,
        node: fx.Node,
        index: int,
        kernel: Kernel,
        slot: int,
        held: Held,
    ) -> None:
        """One operator: the kernel on its output becomes kernels on its inputs."""
        step = Step(
            self.graph,
            operation,
            node,
            kernel,
            self._wanted,
            index=index,
            pinned=self.at is not None,
            reading=self.reading,
            constants=self.constant,
        )
        for source, reached in self._applied(step):
            if source not in self._wanted:
                continue
            found: Kernel | None = reached
            if self.at is not None:
                found = reached.clipped(shape_of(source))
                if found is None:
                    continue
            held.setdefault(source, ([], []))[slot].append(found)

    def _applied(self, step: Step) -> Passed:
        """What a step's rule gives; a rule that a user registered is checked.

        Raises:
            GraphError: if that fails, or gives something else than pairs of a node and a kernel on it.
        """
        if built_in(step.operator):
            return rule_for(step)(step)
        if self.fallback is not None:
            return self.fallback(step)
        rule = rule_for(step)
        where = f"the rule registered for {step.operator!r} (in module {step.address!r})"
        try:
            found = list(rule(step))
        except (NeedsPosition, WeightAtlasError):
            raise
        except Exception as error:  # a user's own code
            raise GraphError(f"{where} failed: {type(error).__name__}: {error}") from error
        for pair in found:
            fits = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Kernel)
            if not fits or not isinstance(pair[0], fx.Node):
                raise GraphError(f"{where} must give pairs (input node, kernel on it), not {pair!r}")
            held = len(pair[1].axes), pair[1].values.ndim - 1
            if set(held) != {len(shape_of(pair[0]))}:
                raise GraphError(f"{where} gave a kernel of {held[1]} axes for an input of {len(shape_of(pair[0]))}")
        return found

    def _has_parameters(self, node: fx.Node) -> bool:
        return any(n in self.graph.trained for n in node.all_input_nodes)


def _operation(node: fx.Node) -> tuple[fx.Node, int]:
    """The operator behind a node, and which of its outputs the node is."""
    if operator_of(node) == "getitem":
        return node.args[0], int(node.args[1])  # pyright: ignore[reportReturnType, reportArgumentType]
    return node, 0
