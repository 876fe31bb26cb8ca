"""The layers that an atlas is made of, and which of them read which.

A network is read block by block: residual blocks, Inception modules, inverted residuals, and where there are none, its
convolutions and linear maps. A block is *whole* if no smaller block with weights lies on all paths through it; one that
is no more than a row of others (a stage, a wrapper) is passed over for these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import ArgumentError, GraphError
from ...graph import layer_graph
from ...network import INPUT, Network
from ...records import Layer, LayerGraph
from ...weights import reads

#: Types that only hold others: two of them have nothing in common.
CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})
#: Convolutions and linear maps in a row that make a block without smaller blocks too long to be one.
LONGEST_BLOCK = 3


@dataclass(frozen=True)
class Levels:
    """Layers in order of execution, and how they are joined.

    Args:
        layers: names.
        edges: pairs (source, target) of layers, or ``"input"``, with a path between them that meets no other of them.
        neighbours: pairs of layers that are neighbours in the whole network, no block between them left out.
        two_back: pairs (source, target) with one block of the network between, and these blocks.
        reading: layer → the blocks of the whole network that it reads, whether they are among the layers or not.
        note: why paths are not known, if the network cannot be captured; then pairs are what modules tell.
    """

    layers: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    neighbours: tuple[tuple[str, str], ...]
    two_back: Mapping[tuple[str, str], tuple[str, ...]]
    reading: Mapping[str, tuple[str, ...]]
    note: str = ""

    def read_by(self, layer: str) -> list[str]:
        """The neighbours that a layer reads."""
        return [s for s, t in self.neighbours if t == layer]


def block_layers(net: Network) -> list[str]:
    """The layers that an atlas shows if nobody says which, in order of execution."""
    if net.blocks and all(name in net.layers for name in net.blocks):
        return [name for name in net.layers if name in net.blocks]
    graph = _graph(net)
    blocks = [b for b in net.layers.values() if b.kind == "block" and b.units and _kernels(net, b)]
    whole = [b for b in blocks if not _is_row(net, graph, b, blocks)]
    kinds = {b.type for b in whole} - CONTAINERS
    whole += [b for b in blocks if b.type in kinds and b not in whole]
    chosen = {b.name for b in whole if not any(b.name in other.inside for other in whole)}
    covered = {name for b in whole for name in b.inside}
    chosen |= {n for n, layer in net.layers.items() if layer.kernel is not None and layer.units and n not in covered}
    return [name for name in net.layers if name in chosen]


def is_captured(net: Network) -> bool:
    """Whether paths and gates of a network are known."""
    return _graph(net) is not None


def _graph(net: Network) -> LayerGraph | None:
    try:
        return layer_graph(net)
    except GraphError:
        return None


def _kernels(net: Network, block: Layer) -> list[str]:
    return [n for n in block.inside if n in net.layers and net.layers[n].kernel is not None]


def _is_row(net: Network, graph: LayerGraph | None, block: Layer, blocks: Sequence[Layer]) -> bool:
    """Whether a block is a row of parts that make layers themselves."""
    inner = [b for b in blocks if b.name in block.inside]
    if any(_passes_all(graph, block, b.name) for b in inner):
        return True
    leaves = [n for n in _kernels(net, block) if not any(n in b.inside for b in inner)]
    return sum(_passes_all(graph, block, n) for n in leaves) > LONGEST_BLOCK


def _passes_all(graph: LayerGraph | None, block: Layer, inner: str) -> bool:
    """Whether every path through a block leads through a layer in it; without a graph, as if it did."""
    if graph is None or block.name not in graph or inner not in graph:
        return True
    inside = {graph.node(n).name for n in (*block.inside, block.name) if n in graph}
    start, gate = graph.node(block.name).name, graph.node(inner).name
    waiting, seen = [start], {start, gate}
    while waiting:
        name = waiting.pop()
        if name == gate:
            continue
        for other in graph.inputs(name):
            if other not in inside:
                return False
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return True


def levels(net: Network, layers: Iterable[str] | None = None) -> Levels:
    """Layers and how they are joined.

    Args:
        net: an open network.
        layers: names; default :func:`block_layers`. Of several with the very same output the first counts.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: for a layer without units, or if there is none.
    """
    wanted = [net.layers[n].name for n in (block_layers(net) if layers is None else dict.fromkeys(layers))]
    silent = [n for n in wanted if not net.layers[n].units]
    if silent or not wanted:
        what = f"{silent[0]!r} has no units: its output is not one tensor with channels" if silent else "none was left"
        raise ArgumentError(f"an atlas of {net.name} needs layers with units; {what}. net.layers lists all")
    order = [n for n in net.layers if n in wanted]
    try:
        graph = layer_graph(net)
    except GraphError as error:
        told = {t: _told(net, t, order) for t in order}
        pairs = tuple((s, t) for t in order for s in told[t])
        return Levels(tuple(order), pairs, pairs, {}, told, str(error))
    return _joined(graph, order, block_layers(net))


def _joined(graph: LayerGraph, order: Sequence[str], blocks: Sequence[str]) -> Levels:
    """How layers are joined, block by block; layers that are no blocks also with the nearest of each other.

    Which pairs there are for some layers does not change when others are added, but that more come.
    """
    own = _nodes(graph, order)
    kept = tuple(n for n in order if own[graph.node(n).name] == n)
    whole = _nodes(graph, [*(n for n in order if _on_block(graph, n, blocks)), *blocks])
    every = _nodes(graph, [*order, *blocks])
    reading = {n: _behind(graph, n, whole) for n in dict.fromkeys([*kept, *whole.values()]) if n != INPUT}
    there = {*kept, INPUT}
    near = [(s, t) for t in kept for s in dict.fromkeys([*reading[t], *_behind(graph, t, every)]) if s in there]
    beyond: dict[tuple[str, str], list[str]] = {}
    for target in (t for t in kept if t in whole.values()):
        for middle in reading[target]:
            for source in reading.get(middle, ()):
                if source in there and (source, target) not in near:
                    beyond.setdefault((source, target), []).append(middle)
    edges = tuple((s, t) for t in kept for s in _behind(graph, t, own))
    two_back = {pair: tuple(middles) for pair, middles in beyond.items()}
    return Levels(kept, edges, tuple(near), two_back, {n: reading[n] for n in kept})


def _on_block(graph: LayerGraph, name: str, blocks: Sequence[str]) -> bool:
    """Whether a layer's output is that of a block."""
    return graph.node(name).name in {graph.node(b).name for b in blocks}


def _nodes(graph: LayerGraph, layers: Iterable[str]) -> dict[str, str]:
    """Node of the graph → the first of these layers whose output it is."""
    nodes: dict[str, str] = {}
    for name in layers:
        nodes.setdefault(graph.node(name).name, name)
    nodes[INPUT] = INPUT
    return nodes


def _told(net: Network, name: str, order: Sequence[str]) -> tuple[str, ...]:
    """What a layer reads as its modules tell, if that is one of those wanted."""
    try:
        source = reads(net, name)
    except ArgumentError:
        return ()
    return (source,) if source in order or source == INPUT else ()


def _behind(graph: LayerGraph, name: str, nodes: dict[str, str]) -> tuple[str, ...]:
    """The nearest wanted layers on every path back from a layer, in order of execution."""
    start = graph.node(name).name
    waiting, seen, found = [start], {start}, set()
    while waiting:
        for other in graph.inputs(waiting.pop()):
            if other in nodes:
                found.add(other)
            elif other not in seen:
                seen.add(other)
                waiting.append(other)
    return tuple(nodes[n.name] for n in graph.nodes if n.name in found)


def gate_between(net: Network, source: str, target: str) -> str | None:
    """The last activation between two neighbours that mixes units before and behind it; ``None`` without any.

    Through its units a block acts: they open and shut, and what cancels between them is what expanded weights hide.
    """
    try:
        graph = layer_graph(net)
        between = graph.between(source, target)
    except GraphError:
        return None
    mixing = {n for n in between if graph.node(n).kind in ("conv", "grouped conv", "transposed conv", "linear")}
    for name in reversed(between[1:-1]):
        node = graph.node(name)
        before = mixing & set(graph.between(source, name)[1:])
        behind = mixing & (set(graph.between(name, target)) - {name})
        if node.kind == "activation" and before and behind:
            return node.name
    return None
