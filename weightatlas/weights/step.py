"""One step of a walk: an operator, the kernel on its output, and everything a rule may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from ..errors import GraphError
from ..graph import Graph, operator_of, shape_of
from .kernel import Kernel, NeedsPosition

if TYPE_CHECKING:
    from .reading import Reading

#: What a rule gives: which inputs get which kernels.
Passed = Iterable[tuple[fx.Node, Kernel]]
Rule = Callable[["Step"], Passed]
#: Operators of attention: their products of two data-dependent values are no gates, and no rule is offered for them.
ATTENTION = {"scaled_dot_product_attention", "softmax", "_softmax", "bmm", "baddbmm", "matmul", "einsum", "mm"}


class Step:
    """What a rule sees.

    Attributes:
        node: of the operator.
        kernel: on its output; of one with several outputs, on number ``index``.
        index: of that output.
        out: the node whose value the kernel stands on (a ``getitem`` for one of several outputs).
        pinned: whether windows are absolute, for one position of the target.
        reading: what stands in for operators that are not linear.
        wanted: the inputs that lead to the source; kernels on others are dropped.
    """

    def __init__(
        self,
        graph: Graph,
        node: fx.Node,
        out: fx.Node,
        kernel: Kernel,
        wanted: frozenset[fx.Node],
        *,
        index: int = 0,
        pinned: bool = False,
        reading: Reading,
        constants: Callable[[fx.Node], Tensor],
    ) -> None:
        self.graph, self.node, self.out, self.kernel, self.index = graph, node, out, kernel, index
        self.pinned, self.reading, self._wanted, self._constants = pinned, reading, wanted, constants

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The operator's arguments by the names of its schema, defaults included; tensors are nodes."""
        schema = self.node.target._schema  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
        bound = {a.name: a.default_value for a in schema.arguments}
        bound.update(zip((a.name for a in schema.arguments), self.node.args, strict=False))
        return {**bound, **self.node.kwargs}

    @property
    def positional(self) -> list[Any]:
        """The arguments that were given by place."""
        return list(self.node.args)

    @property
    def operator(self) -> str:
        """Its name, e.g. ``"conv2d"``."""
        return operator_of(self.node)

    @property
    def address(self) -> str:
        """Where it stands: the module's path."""
        return self.graph.address(self.node)

    @property
    def source(self) -> fx.Node:
        """The first argument: of most operators, the one that data flows through."""
        return self.positional[0]

    def wants(self, node: Any) -> bool:
        """Whether a kernel on that input leads to the source."""
        return node in self._wanted

    def shape(self, node: fx.Node | None = None) -> tuple[int, ...]:
        """Sizes of a node's value (default: of the output) without the batch."""
        return shape_of(self.out if node is None else node)

    def depends(self, value: Any) -> bool:
        """Whether an argument depends on the network's input."""
        return value in self.graph.dependent

    def constant(self, name: str) -> Tensor | None:
        """The value of an argument that is a parameter or constant; ``None`` if it was not given.

        Raises:
            GraphError: if it depends on the input.
        """
        value = self.arguments[name]
        if value is None:
            return None
        if self.depends(value):
            raise no_rule(self.graph, self.node, f"its {name} depends on the input")
        return self.constant_of(value)

    def constant_of(self, node: fx.Node) -> Tensor:
        """A constant node's value on the walk's device and in its type."""
        return self._constants(node)

    def needs_position(self) -> None:
        """Starts the walk again for one position of the target, unless it already is.

        Raises:
            NeedsPosition: in a walk with relative windows.
        """
        if not self.pinned:
            raise NeedsPosition

    def full(self) -> Kernel:
        """The kernel with every channel held."""
        return self.kernel.full(self.shape()[self.kernel.compact])


def no_rule(graph: Graph, node: fx.Node, why: str = "") -> GraphError:
    """The error for an operator that cannot be passed, with its module and what to do."""
    name = operator_of(node)
    stack = (node.meta.get("nn_module_stack") or {}).values()
    mixing = name in ATTENTION and (len(node.args) < 2 or sum(n in graph.dependent for n in node.all_input_nodes) > 1)
    inside = mixing or "softmax" in name or any("Attention" in str(kind) for _, kind in stack)
    attention = " Attention is not supported yet: read the layers before and after it." * inside
    return GraphError(
        f"no rule for the operator {node.target} in module {graph.address(node)!r}{': ' + why if why else ''}."
        f"{attention} Teach it with wa.register_rule({name!r}, rule), or choose layers on one side of it"
    )
