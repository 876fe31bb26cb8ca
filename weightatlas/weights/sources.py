"""What a layer reads, where nobody says."""

from __future__ import annotations

from torch import fx

from ..errors import ArgumentError, GraphError, UnknownNameError
from ..graph import capture, layer_graph, operator_of, shape_of
from ..network import INPUT, Network
from ..records import Layer
from .moments import is_pointwise

#: Functions that change nothing.
_SILENT = ("clone", "alias", "detach", "contiguous")
#: Functions by which a convolution or linear map is made of what it reads.
_LINEAR = ("conv", "linear")


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


def behind_functions(net: Network, target: str) -> tuple[Layer | None, str]:
    """The layer of whose output a module reads a function of each element alone, and that function.

    The function is told as ``"relu before conv2"``, and ``""`` where there is none; the layer is ``None`` where more
    than such functions lies between, or the graph cannot be captured.
    """
    try:
        graph = capture(net)
        node = graph.node(target)
    except (GraphError, ArgumentError):
        return None, ""
    if not operator_of(node).startswith(_LINEAR):
        return None, ""
    read = node = node.args[0]
    passed = ""
    while isinstance(node, fx.Node) and shape_of(node) == shape_of(read):  # pyright: ignore[reportArgumentType]
        named = [n for n in graph.names.get(node, ()) if n in net.layers]
        if named:
            layer = net.layers[named[-1]]
            last = net.layers[target].kind == "linear"  # whose units lie along the last axis
            fits = layer.axes.count("C") == 1 and layer.axes.index("C") == (len(layer.axes) - 1 if last else 1)
            return (layer, passed and f"{passed} before {target}") if fits else (None, "")
        if is_pointwise(str(node.target)):
            passed = passed or operator_of(node)
        elif operator_of(node) not in _SILENT:
            break
        node = node.args[0]
    return None, ""
