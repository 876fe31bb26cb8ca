"""A captured network: its nodes, which of them are layers, and what lies between two of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from ..errors import ArgumentError, GraphError
from ..network import INPUT
from .channels import channel_axes

#: Batch of the example; with one example torch.export would fix the batch at 1.
BATCH = 2
#: Operators that hand sizes on, not data.
_SIZES = ("sym_size", "sym_numel", "sym_stride")
_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class Graph:
    """A network's forward pass as a functional graph of ATen operators.

    Attributes:
        nodes: of the graph in order of execution.
        input: the placeholder of the network's input.
        outputs: layer name → node whose value is the layer's (first) output.
        names: node → the layers whose output it is, the innermost first.
    """

    def __init__(self, module: nn.Module, exported: Any, owners: list[str]) -> None:
        self._module = weakref.ref(module)  # graphs are kept as long as their modules live
        signature = exported.graph_signature
        self._fqn = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._lifted = {n: exported.constants[k] for n, k in signature.inputs_to_lifted_tensor_constants.items()}
        # buffers that a state dict does not hold, and parameters made in forward, are only in the exported program
        self._kept = {**exported.constants, **exported.state_dict}
        marks = _take_out_marks(exported.graph)
        self.nodes: list[fx.Node] = list(exported.graph.nodes)
        user = list(signature.user_inputs)
        self.input = next(n for n in self.nodes if n.op == "placeholder" and n.name in user)
        self.names: dict[fx.Node, list[str]] = {self.input: [INPUT]}
        for number, node in marks.items():
            self.names.setdefault(node, []).append(owners[number])
        self.outputs = {name: node for node, names in self.names.items() for name in names}
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self._between: dict[tuple[fx.Node, fx.Node], tuple[fx.Node, ...]] = {}
        #: What walks found out beforehand, so that they need not do so again.
        self.plans: dict[Any, Any] = {}

    @property
    def module(self) -> nn.Module:
        """The network.

        Raises:
            GraphError: if nobody holds it any more.
        """
        found = self._module()
        if found is None:
            raise GraphError("the module of this graph no longer exists; keep the network that it was captured from")
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """How the graph differs from what the module would do now."""
        training = [n for n, m in self.module.named_modules() if m.training and isinstance(m, _TRAINING)]
        if not training:
            return ()
        more = f" and {len(training) - 1} more" if training[1:] else ""
        return (f"in training mode, read as in evaluation: {training[0] or 'the network'}{more}",)

    @cached_property
    def dependent(self) -> frozenset[fx.Node]:
        """The nodes whose values depend on the input's values."""
        found = {self.input}
        for node in self.nodes:
            sizes = node.op == "call_function" and any(s in str(node.target) for s in _SIZES)
            if not sizes and any(n in found for n in node.all_input_nodes):
                found.add(node)
        return frozenset(found)

    @cached_property
    def trained(self) -> frozenset[fx.Node]:
        """The constant nodes that are parameters, or computed from some."""
        found: set[fx.Node] = set()
        parameters = {n for n, _ in self.module.named_parameters(remove_duplicate=False)}
        for node in self.nodes:
            own = node.op == "placeholder" and self._fqn.get(node.name) in parameters
            if own or (node not in self.dependent and any(n in found for n in node.all_input_nodes)):
                found.add(node)
        return frozenset(found)

    @cached_property
    def channel_axes(self) -> dict[fx.Node, int]:
        """Node → which of its axes, counted without the batch, holds channels."""
        return channel_axes(self.nodes, self.input, self.dependent)

    def node(self, layer: str) -> fx.Node:
        """The node of a layer's output.

        Raises:
            ArgumentError: for a layer that returns no tensor of its own.
        """
        if layer not in self.outputs:
            raise ArgumentError(
                f"the output of {layer!r} is not a tensor of the captured graph; choose a layer near it"
            )
        return self.outputs[layer]

    def between(self, source: fx.Node, target: fx.Node) -> tuple[fx.Node, ...]:
        """All nodes on a path of data from source to target, both included, in order; empty if there is none."""
        if (source, target) not in self._between:
            self._between[source, target] = tuple(self._on_the_way(source, target))
        return self._between[source, target]

    def _on_the_way(self, source: fx.Node, target: fx.Node) -> list[fx.Node]:
        ahead = {source}
        for node in self.nodes[self.position[source] + 1 : self.position[target] + 1]:
            if node in self.dependent and any(n in ahead for n in node.all_input_nodes):
                ahead.add(node)
        if target not in ahead:
            return []
        found = {target}
        for node in reversed(self.nodes[self.position[source] : self.position[target]]):
            if node in ahead and any(user in found for user in node.users):
                found.add(node)
        return sorted(found, key=self.position.__getitem__)

    def address(self, node: fx.Node) -> str:
        """Where an operator stands: the layer that it makes, or its module's path with ``:relu`` or ``:relu#2``."""
        return self._addresses[node]

    @cached_property
    def _addresses(self) -> dict[fx.Node, str]:
        count: dict[str, int] = {}
        found: dict[fx.Node, str] = {}
        for node in self.nodes:
            path = module_path(node)
            own = [n for n in self._names_of(node) if n and n.split("#")[0] == path and n != INPUT]
            if own:
                found[node] = own[0]
                continue
            name = f"{path}:{operator_of(node)}"
            count[name] = nth = count.get(name, 0) + 1
            found[node] = name if nth == 1 else f"{name}#{nth}"
        return found

    def _names_of(self, node: fx.Node) -> list[str]:
        """The layers whose output a node is, also through a ``getitem``."""
        if node not in self.names and operator_of(node) != "getitem":
            return [n for user in node.users if operator_of(user) == "getitem" for n in self.names.get(user, [])]
        return self.names.get(node, [])

    def value(self, node: Any) -> Any:
        """What an argument is: a constant's value now, a number itself; computed constants are worked out.

        Raises:
            ArgumentError: if it depends on the input.
        """
        if not isinstance(node, fx.Node):
            return node
        if node in self.dependent:
            raise ArgumentError(f"{self.address(node)!r} is no constant: it depends on the input")
        with torch.no_grad():
            return self._constant(node, {})

    def _constant(self, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
        if node not in known:
            if node.op == "placeholder":
                known[node] = self._stored(node)
            elif any(s in str(node.target) for s in _SIZES):
                known[node] = int(_hint(node.meta["val"]))
            else:
                args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._constant(n, known))
                known[node] = node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        return known[node]

    def _stored(self, node: fx.Node) -> Tensor:
        """A parameter or buffer as the module holds it now, so that weights loaded later are seen."""
        if node.name in self._lifted:
            return self._lifted[node.name]
        name = self._fqn[node.name]
        owner, _, leaf = name.rpartition(".")
        try:
            found = getattr(self.module.get_submodule(owner), leaf)
        except AttributeError:
            found = None
        return found if isinstance(found, Tensor) else self._kept[name]

    def stored_name(self, node: fx.Node) -> str:
        """What a parameter or buffer is called in the state dict; of a computed constant, where it is computed."""
        return self._fqn.get(node.name) or self.address(node)

    def run(
        self, images: Tensor, visit: Callable[[fx.Node, Any, Mapping[fx.Node, Any]], None], wanted: Iterable[fx.Node]
    ) -> None:
        """Runs the network on ``[N, *shape]`` as far as needed, and shows every data-dependent value as it is made.

        Args:
            images: as the network takes them.
            visit: called with node, value and the values of its inputs.
            wanted: the nodes that must be reached; what none of them needs is not run.
        """
        order = self._needed(frozenset(wanted))
        last = {n: node for node in order for n in node.all_input_nodes}
        values: dict[fx.Node, Any] = {}
        with torch.no_grad():
            for node in order:
                values[node] = self._computed(node, values, images)
                if node in self.dependent:
                    visit(node, values[node], values)
                for done in [n for n in node.all_input_nodes if last[n] is node]:
                    values.pop(done, None)

    def _needed(self, wanted: frozenset[fx.Node]) -> list[fx.Node]:
        found = set(wanted)
        for node in reversed(self.nodes):
            if node in found:
                found.update(node.all_input_nodes)
        return [n for n in self.nodes if n in found]

    def _computed(self, node: fx.Node, values: Mapping[fx.Node, Any], images: Tensor) -> Any:
        if node is self.input:
            return images
        if node.op == "placeholder":
            return self._stored(node)
        args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
        return node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]


def operator_of(node: fx.Node) -> str:
    """The plain name of a node's operator, without namespace and overload: ``"conv2d"``."""
    if node.op != "call_function":
        return node.op
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__ if packet is not None else getattr(node.target, "__name__", str(node.target))


def module_path(node: fx.Node) -> str:
    """The path of the innermost module in which a node runs; ``""`` for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()), ("",))[0]
    return path.split("@")[0] if node.op == "call_function" and not path.startswith("_empty_") else ""


def _hint(size: Any) -> int:
    """A size as a number; the batch as that of the example."""
    if isinstance(size, torch.SymInt):
        hint = size.node.hint
        return int(hint) if hint is not None else BATCH
    return int(size)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Sizes of a node's value without its first axis, the batch."""
    value = node.meta["val"]
    return tuple(_hint(s) for s in value.shape[1:])


def batch_leads(node: fx.Node) -> bool:
    """Whether the first axis is the batch and nothing else, and no other axis depends on it."""
    shape: Any = getattr(node.meta.get("val"), "shape", ())
    dynamic = [isinstance(s, torch.SymInt) for s in shape]
    if not dynamic or not dynamic[0] or any(dynamic[1:]):
        return False
    return _hint(shape[0]) == BATCH


def _take_out_marks(graph: fx.Graph) -> dict[int, fx.Node]:
    """Removes the marks and tells which node each stood behind."""
    found: dict[int, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target) == "weightatlas.mark.default":
            found[node.args[1]] = node.args[0]
            graph.erase_node(node)
    return found
