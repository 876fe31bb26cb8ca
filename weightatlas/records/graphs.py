"""Which layers feed which."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ArgumentError, LoadError, UnknownNameError, unknown_name
from .base import atomic_write

MOST_READS = 5  # named in a note


@dataclass(frozen=True)
class GraphNode:
    """One layer of a :class:`LayerGraph`, or the network's input.

    Args:
        name: the layer's name, ``"input"`` for the network's own input.
        also: other layers whose output is the very same tensor: a block that returns what its last layer returns.
        kind, type, units, grid: as in :class:`~.layers.Layer`.
        operators: those that ran outside any layer between what it reads and its output, e.g. ``("add",)``.
        parameters: number of weights in the module and those inside it.
    """

    name: str
    also: tuple[str, ...] = ()
    kind: str = ""
    type: str = ""
    units: int = 0
    grid: tuple[int, int] | None = None
    operators: tuple[str, ...] = ()
    parameters: int = 0


class LayerGraph:
    """Which layers of one network read which, in the order in which they ran.

    Args:
        nodes: in execution order.
        edges: pairs ``(source, target)`` of names, ``also`` names included; a pair that comes twice counts once.
        model: the network's name, for messages.
        notes: what had to be left out or assumed, one sentence each.

    Raises:
        ArgumentError: if two nodes share a name, an edge ends at no node, or one runs against the order.

    Example:
        >>> nodes = [GraphNode("input"), GraphNode("conv"), GraphNode("sum", operators=("add",))]
        >>> graph = LayerGraph(nodes, [("input", "conv"), ("conv", "sum"), ("input", "sum")], model="tiny")
        >>> graph.inputs("sum"), graph.between("input", "conv"), graph.connected("conv", "input")
        (['conv', 'input'], ['input', 'conv'], False)
    """

    def __init__(
        self,
        nodes: Iterable[GraphNode],
        edges: Iterable[tuple[str, str]],
        model: str = "",
        notes: Iterable[str] = (),
    ) -> None:
        self.nodes = tuple(nodes)
        self.model = model
        self.notes = tuple(notes)
        self._rows: dict[str, int] = {}
        for row, node in enumerate(self.nodes):
            for name in (node.name, *node.also):
                if name in self._rows:
                    other = self.nodes[self._rows[name]].name
                    more = "; that is what the network's own input is called: rename the layer" * (name == "input")
                    raise ArgumentError(f"the name {name!r} came twice, for nodes {other!r} and {node.name!r}{more}")
                self._rows[name] = row
        self._inputs: list[list[int]] = [[] for _ in self.nodes]
        self._outputs: list[list[int]] = [[] for _ in self.nodes]
        pairs = dict.fromkeys(self._edge(*edge) for edge in edges)
        for a, b in pairs:
            self._outputs[a].append(b)
            self._inputs[b].append(a)
        self.edges = tuple((self.nodes[a].name, self.nodes[b].name) for a, b in pairs)
        for a, b in pairs:
            if a >= b:
                self._refuse(a, b)

    def _edge(self, *ends: str) -> tuple[int, int]:
        unknown = [end for end in ends if end not in self._rows]
        if unknown or len(ends) != 2:
            raise ArgumentError(f"edge {ends!r} must join two of the nodes; {unknown or ends!r} is not among them")
        return self._rows[ends[0]], self._rows[ends[1]]

    def _refuse(self, a: int, b: int) -> None:
        """The error for an edge that does not lead on."""
        source, target = self.nodes[a].name, self.nodes[b].name
        if a == b or a in _reached(b, self._outputs):
            raise ArgumentError(f"edge {source!r} → {target!r} closes a circle; a graph of layers has none")
        raise ArgumentError(f"edge {source!r} → {target!r} runs backwards; give the nodes in execution order")

    def node(self, name: str) -> GraphNode:
        """The node of that name, or whose output is also that layer's.

        Raises:
            UnknownNameError: with the nearest names.
        """
        return self.nodes[self._row(name)]

    def _row(self, name: str) -> int:
        if name in self._rows:
            return self._rows[name]
        error = unknown_name("layer", str(name), self._rows)
        where = f" in the graph of {self.model};" if self.model else ";"
        raise UnknownNameError(str(error).replace(";", where, 1))

    def inputs(self, name: str) -> list[str]:
        """Names of what a layer reads, in the order given."""
        return [self.nodes[row].name for row in self._inputs[self._row(name)]]

    def outputs(self, name: str) -> list[str]:
        """Names of the layers that read a layer, in execution order."""
        return [self.nodes[row].name for row in sorted(self._outputs[self._row(name)])]

    def connected(self, source: str, target: str) -> bool:
        """Whether some path leads from one layer to another; every layer is connected with itself."""
        return self._row(target) in _reached(self._row(source), self._outputs)

    def between(self, source: str, target: str) -> list[str]:
        """Names of the layers on any path from one to another, in execution order, both included; else empty."""
        return [self.nodes[row].name for row in self._between(self._row(source), self._row(target))]

    def _between(self, source: int | None, target: int | None) -> list[int]:
        every = set(range(len(self.nodes)))
        after = every if source is None else _reached(source, self._outputs)
        before = every if target is None else _reached(target, self._inputs)
        return sorted(after & before)

    def part(self, source: str | None = None, target: str | None = None) -> LayerGraph:
        """The graph of the layers on any path from one layer to another.

        Args:
            source: where paths start; ``None`` for anywhere.
            target: where they end; ``None`` for anywhere.

        Returns:
            A graph whose notes say which of its layers also read others that are not in it.

        Raises:
            UnknownNameError: for a name that is not in the graph.
            ArgumentError: if no path leads from source to target.
        """
        first, last = (None if name is None else self._row(name) for name in (source, target))
        rows = self._between(first, last)
        if not rows:
            ways = source is not None and target is not None and self.connected(target, source)
            hint = "; the other way round there is one" if ways else ""
            raise ArgumentError(f"no path leads from {source!r} to {target!r} in {self.model or 'the network'}{hint}")
        names = {self.nodes[row].name for row in rows}
        edges = [(a, b) for a, b in self.edges if a in names and b in names]
        outside = [row for row in rows if row != first and not names.issuperset(self.inputs(self.nodes[row].name))]
        notes = [self._outside(row, names) for row in outside[:MOST_READS]]
        if len(outside) > MOST_READS:
            notes.append(f"{len(outside) - MOST_READS} more layers also read others that are not in this part")
        return LayerGraph([self.nodes[row] for row in rows], edges, self.model, (*self.notes, *notes))

    def _outside(self, row: int, names: set[str]) -> str:
        reads = [name for name in self.inputs(self.nodes[row].name) if name not in names]
        more = f" and {len(reads) - MOST_READS} more" if len(reads) > MOST_READS else ""
        return f"outside this part, {self.nodes[row].name} also reads {', '.join(reads[:MOST_READS])}{more}"

    def to_json(self) -> str:
        """The whole graph as JSON text: ``{"model", "notes", "nodes": [{…}, …], "edges": [[source, target], …]}``."""
        nodes = [dataclasses.asdict(node) for node in self.nodes]
        return json.dumps({"model": self.model, "notes": self.notes, "nodes": nodes, "edges": self.edges}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The graph that :meth:`to_json` wrote.

        Raises:
            ArgumentError: if the text is no such graph.
        """
        try:
            known = json.loads(text)
            nodes = [GraphNode(**{k: _tuple(v) for k, v in node.items()}) for node in known["nodes"]]
            return cls(nodes, [tuple(edge) for edge in known["edges"]], known["model"], known["notes"])
        except ArgumentError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArgumentError(f"this is no graph of layers as to_json writes it: {error!r}") from error

    def save(self, path: str | Path) -> Path:
        """Writes :meth:`to_json` to a file, whole or not at all."""
        return atomic_write(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The graph that :meth:`save` wrote.

        Raises:
            LoadError: if the file is missing or holds no such graph.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ArgumentError, UnicodeDecodeError) as error:
            raise LoadError(f"{str(path)!r} cannot be read as a graph of layers: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        joins = sum(len(inputs) > 1 for inputs in self._inputs)
        return (
            f"LayerGraph({self.model or 'network'}: {len(self)} nodes, {len(self.edges)} edges, "
            f"{joins} with several inputs)"
        )

    def _repr_html_(self) -> str:
        """How a notebook shows the graph."""
        from . import base

        return base.display_hook(self) if base.display_hook else f"<pre>{self!r}</pre>"  # pyright: ignore[reportArgumentType]


def _reached(start: int, neighbours: list[list[int]]) -> set[int]:
    """Every row that some path leads to, the start included."""
    seen, todo = {start}, [start]
    while todo:
        for row in neighbours[todo.pop()]:
            if row not in seen:
                seen.add(row)
                todo.append(row)
    return seen


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
