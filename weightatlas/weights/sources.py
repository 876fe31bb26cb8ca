"""What a layer reads, where nobody says."""

from __future__ import annotations

from ..errors import ArgumentError, GraphError, UnknownNameError
from ..graph import layer_graph
from ..network import INPUT, Network


def reads(net: Network, name: str) -> str:
    """What a layer reads: the nearest layer before it with a kernel or a block, behind activations and norms.

    Where functions stand between (an activation, a sum, a concatenation), the last in order of those that reach it.

    Raises:
        ArgumentError: if it cannot be told.
    """
    source = net.layers[name].source
    while source in net.layers:
        layer = net.layers[source]
        if layer.kernel is not None or layer.inside:
            return layer.name
        source = layer.source
    return source if source == INPUT else _behind(net, name)


def _behind(net: Network, name: str) -> str:
    """The nearest layer with a kernel, or block, behind functions: the last in order of those that reach a layer."""
    try:
        graph = layer_graph(net)
        waiting, seen, found = [name], {name}, {}
        while waiting:
            for other in graph.inputs(waiting.pop()):
                if other in seen:
                    continue
                seen.add(other)
                node = graph.node(other)
                named = [n for n in (node.name, *node.also) if n == INPUT or _outside(net, n, name)]
                if named:
                    found[named[-1]] = graph.nodes.index(node)
                else:
                    waiting.append(other)
    except (GraphError, UnknownNameError) as error:
        raise ArgumentError(f"what {name!r} reads cannot be told: {error}. Give source=") from error
    if not found:
        raise ArgumentError(f"what {name!r} reads cannot be told; give source=")
    return max(found, key=lambda n: found[n])


def _outside(net: Network, other: str, name: str) -> bool:
    """Whether a layer has a kernel or is a block, and neither is a part of the other."""
    if other not in net.layers or name in net.layers[other].inside or other in net.layers[name].inside:
        return False
    return net.layers[other].kernel is not None or bool(net.layers[other].inside)
