"""The layer graph: which layers feed which, with everything between them folded into the edges."""

from __future__ import annotations

from torch import fx

from ..network import INPUT, Network
from ..records import GraphNode, Layer, LayerGraph
from .capture import capture
from .nodes import Graph, module_path, operator_of

#: Operators that say nothing about how layers are joined.
_SILENT = {"getitem", "clone", "alias", "detach", "contiguous", "to", "_to_copy"}


def layer_graph(net: Network) -> LayerGraph:
    """Which layers of a network feed which, in order of execution.

    Captures the network with ``torch.export`` if that has not happened yet in this process.

    Args:
        net: an open network with its architecture.

    Returns:
        A graph whose nodes are the network's input and all layers; layers whose output is the very same tensor (a block
        that returns what its last layer returns) share one node.

    Raises:
        ArgumentError: for a checkpoint without architecture.
        GraphError: if the network cannot be captured.

    Example:
        >>> import weightatlas as wa
        >>> wa.layer_graph(wa.load("efficientnet_lite0")).inputs("blocks.4.1")
        ['blocks.4.0.bn3', 'blocks.4.1.bn3']
    """
    graph = capture(net)
    named = {node: _named(names) for node, names in graph.names.items() if _named(names)}
    nodes, edges = [], []
    for node in graph.nodes:
        if node not in named:
            continue
        names = named[node]
        inputs, passed = _reads(graph, node, named)
        layer = net.layers.get(names[0])
        nodes.append(_described(net, names, layer, _joining(passed, layer)))
        edges += [(named[n][0], names[0]) for n in inputs]
    return LayerGraph(nodes, edges, net.name, graph.notes)


def _named(names: list[str]) -> list[str]:
    """The names of layers; the network as a whole is none."""
    return [n for n in names if n] or [n for n in names if len(names) == 1 and n == INPUT]


def _described(net: Network, names: list[str], layer: Layer | None, operators: tuple[str, ...]) -> GraphNode:
    also = tuple(n for n in names[1:])
    if layer is None:
        shape = net.input.shape if net.input else ()
        grid = (1,) * (3 - len(shape)) + tuple(shape[1:]) if len(shape) > 1 else (1, 1)
        return GraphNode(names[0], also, INPUT, "", shape[0] if shape else 0, (grid[-2], grid[-1]) if shape else None)
    return GraphNode(layer.name, also, layer.kind, layer.type, layer.units, layer.grid, operators, layer.parameters)


def _reads(graph: Graph, node: fx.Node, named: dict[fx.Node, list[str]]) -> tuple[list[fx.Node], list[fx.Node]]:
    """The layers that a layer's output is made from, and the operators passed on the way back to them."""
    inputs: set[fx.Node] = set()
    passed: set[fx.Node] = {node}
    waiting = [node]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source not in graph.dependent or source in passed:
                continue
            if source in named:
                inputs.add(source)
            else:
                passed.add(source)
                waiting.append(source)
    order = graph.position.__getitem__
    return sorted(inputs, key=order), sorted(passed, key=order)


def _joining(passed: list[fx.Node], layer: Layer | None) -> tuple[str, ...]:
    """Operators that ran outside the layer's own module, or in the forward of a block."""
    if layer is None:
        return ()
    own = "" if layer.kind == "block" else layer.module_path
    found = [operator_of(n) for n in passed if n.op == "call_function" and not (own and module_path(n) == own)]
    return tuple(dict.fromkeys(name for name in found if name not in _SILENT))
