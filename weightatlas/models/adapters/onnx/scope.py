"""The nodes of an ONNX graph in the order in which they run, and its constants, worked out where that is simple."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import LoadError
from ...files.memory import memory_free
from ..importing import library
from .values import FOREIGN, NARROW, array_of, sparse_array, type_name

#: Steps that a constant is followed back, and nodes between layers; no exporter makes nearly as many.
DEEPEST = 64
#: Sizes of kernels, strides and pads that no network has.
ABSURD = 2**24


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the input.

    Args:
        values: its numbers.
        root: the tensor of the file that they come from; empty for a constant without a name.
        steps: the operators that the file's tensor went through.
        narrow: what the file holds it in, if that is less than float32.
    """

    values: np.ndarray
    root: str = ""
    steps: tuple[str, ...] = ()
    narrow: str = ""


@dataclass
class Scope:
    """A graph, or a graph inside a node of one.

    Args:
        graph: the message.
        folder: of the file.
        parent: the graph that it lies in.
    """

    graph: Any
    folder: Path
    parent: Scope | None = None
    nodes: list[Any] = field(default_factory=list)
    sorted: bool = True
    _made: dict[str, Any] = field(default_factory=dict)
    _kept: dict[str, Constant | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Orders the nodes."""
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.sparse = {t.values.name: t for t in self.graph.sparse_initializer}
        for node in self.graph.node:
            for name in filter(None, node.output):
                if name in self._made:
                    raise LoadError(f"the value {name!r} is made by two nodes of the graph; export the model again")
                self._made[name] = node
        self.nodes = self._ordered()

    @property
    def inputs(self) -> list[str]:
        """The names of what the graph takes in; older files list their tensors there as well."""
        return [v.name for v in self.graph.input if v.name not in self.tensors]

    def maker(self, name: str) -> Any:
        """The node that makes a value; ``None`` for an input, a tensor, or what lies outside this graph."""
        return self._made.get(name)

    def constant(self, name: str, depth: int = 0) -> Constant | None:
        """A value that does not depend on the input; ``None`` if it does, or is more than is worked out here.

        Raises:
            LoadError: for a tensor that cannot be read.
        """
        if not name or depth > DEEPEST:
            return None
        if name not in self._kept:
            self._kept[name] = self._found(name, depth)
        return self._kept[name]

    def _found(self, name: str, depth: int) -> Constant | None:
        if name in self.tensors:
            return _of_tensor(self.tensors[name], self.folder, name)
        if name in self.sparse:
            return Constant(sparse_array(self.sparse[name], self.folder), name, ("sparse",))
        node = self._made.get(name)
        if node is not None:
            return self._folded(node, name, depth)
        if self.parent is not None and name not in self.inputs:
            return self.parent.constant(name, depth + 1)
        return None

    def _folded(self, node: Any, name: str, depth: int) -> Constant | None:
        if node.op_type == "Constant":
            return _of_node(node, self.folder, name)
        rule = FOLDED.get(node.op_type)
        if rule is None or name != node.output[0]:
            return None
        given = [self.constant(n, depth + 1) if n else None for n in node.input]
        if any(n and g is None for n, g in zip(node.input, given, strict=True)) or not given or given[0] is None:
            return None
        values = [None if g is None else g.values for g in given]
        try:
            with np.errstate(all="ignore"):
                result = rule(node, values)
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            raise LoadError(f"{told(node)} cannot be worked out from the file's constants: {error}") from error
        if result is None:
            return None
        largest = max((g for g in given if g), key=lambda g: g.values.size)
        steps = largest.steps + (() if node.op_type == "Identity" else (node.op_type,))
        return Constant(np.asarray(result), largest.root, steps, largest.narrow)

    def _ordered(self) -> list[Any]:
        """The nodes so that each comes after those it reads."""
        nodes = list(self.graph.node)
        index = {name: i for i, node in enumerate(nodes) for name in node.output if name}
        reads = [{index[n] for n in _read(node) if n in index} for node in nodes]
        if all(all(j < i for j in before) for i, before in enumerate(reads)):
            return nodes
        self.sorted = False
        try:
            return [nodes[i] for i in graphlib.TopologicalSorter(dict(enumerate(reads))).static_order()]
        except graphlib.CycleError as error:
            cycle = [told(nodes[i]) for i in error.args[1][:4]]
            raise LoadError(f"the graph runs in a circle: {' → '.join(cycle)} …; export the model again") from error

    def walk(self) -> Iterator[tuple[Scope, Any]]:
        """Every node in order with its graph, the graphs inside a node before that node."""
        for node in self.nodes:
            for graph in inner_graphs(node):
                yield from Scope(graph, self.folder, self).walk()
            yield self, node


def inner_graphs(node: Any) -> list[Any]:
    """The graphs inside a node: the branches of an ``If``, the body of a ``Loop``."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else list(a.graphs))]


def _read(node: Any) -> Iterator[str]:
    """The values that a node reads, inside its own graphs as well."""
    yield from node.input
    for graph in inner_graphs(node):
        for inner in graph.node:
            yield from _read(inner)
        yield from (v.name for v in graph.output)


def told(node: Any) -> str:
    """A node for messages: its operator and its name."""
    return f"{node.op_type} {(node.name or next(iter(node.output), ''))!r}"


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """A node's attribute as a Python value; texts are ``str``."""
    for entry in node.attribute:
        if entry.name == name:
            value = library("onnx").helper.get_attribute_value(entry)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return default


def whole_numbers(node: Any, name: str, default: tuple[int, ...], least: int) -> tuple[int, ...]:
    """A node's attribute of several whole numbers, as many as in ``default``.

    Raises:
        LoadError: for others, or for numbers that cannot be meant.
    """
    value = attribute(node, name, default)
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = numbers or default
    fit = all(isinstance(n, int) and least <= n < ABSURD for n in numbers)
    if len(numbers) != len(default) or not fit:
        raise LoadError(
            f"{told(node)} says {name}={value!r}, which should be {len(default)} whole numbers from {least}; export "
            "the model again"
        )
    return numbers


def _of_tensor(tensor: Any, folder: Path, name: str) -> Constant | None:
    kind = type_name(tensor)
    if kind in FOREIGN:
        return None
    return Constant(array_of(tensor, folder), name, (), kind.lower() if kind in NARROW else "")


def _of_node(node: Any, folder: Path, name: str) -> Constant | None:
    """What a ``Constant`` holds; ``None`` for texts."""
    for entry in node.attribute:
        if entry.name == "value":
            return _of_tensor(entry.t, folder, name)
        if entry.name == "sparse_value":
            return Constant(sparse_array(entry.sparse_tensor, folder), name, ("sparse",))
        if entry.name in ("value_float", "value_floats"):
            return Constant(np.array(attribute(node, entry.name), np.float32), name)
        if entry.name in ("value_int", "value_ints"):
            return Constant(np.array(attribute(node, entry.name), np.int64), name)
    return None


Values = list[np.ndarray | None]


def _axes(node: Any, values: Values) -> tuple[int, ...] | None:
    """Axes as an attribute, as older operator sets have them, or as a second input."""
    given = values[1] if len(values) > 1 and values[1] is not None else attribute(node, "axes")
    return None if given is None else tuple(int(a) for a in np.asarray(given).reshape(-1))


def _reshape(node: Any, values: Values) -> np.ndarray:
    given = values[1] if len(values) > 1 and values[1] is not None else np.array(attribute(node, "shape", []))
    kept = not attribute(node, "allowzero", 0)  # then a zero stands for the size that is there
    sizes = [int(n) for n in given.reshape(-1)]
    return values[0].reshape([values[0].shape[i] if n == 0 and kept else n for i, n in enumerate(sizes)])  # type: ignore[union-attr]


def _unsqueeze(node: Any, values: Values) -> np.ndarray:
    return np.expand_dims(values[0], _axes(node, values) or ())  # type: ignore[arg-type]


def _flatten(node: Any, values: Values) -> np.ndarray:
    axis = attribute(node, "axis", 1)
    return values[0].reshape(math.prod(values[0].shape[:axis]), -1)  # type: ignore[union-attr]


def _cast(node: Any, values: Values) -> np.ndarray | None:
    onnx = library("onnx")
    to = attribute(node, "to", 0)
    if to not in onnx.TensorProto.DataType.values() or onnx.TensorProto.DataType.Name(to) in FOREIGN:
        return None
    cast = np.asarray(values[0]).astype(onnx.helper.tensor_dtype_to_np_dtype(to))
    return cast.astype(np.float32) if onnx.TensorProto.DataType.Name(to) in NARROW else cast


def _along(node: Any, values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Scales or zero points, one for all, one an index of an axis or one a block of it, so that they multiply."""
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)
    if block:
        return np.repeat(given, block, axis)[tuple(slice(n) for n in values.shape)]
    if given.size == 1:
        return given.reshape(())
    return given.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])


def _dequantized(node: Any, values: Values) -> np.ndarray:
    numbers, scale = np.asarray(values[0]), np.asarray(values[1], np.float32)
    zero = values[2] if len(values) > 2 and values[2] is not None else np.zeros((), np.float32)
    zero = _along(node, numbers, zero.astype(np.float32)) if zero.size > 1 else zero.reshape(()).astype(np.float32)
    return (numbers.astype(np.float32) - zero) * _along(node, numbers, scale)


def _quantized(node: Any, values: Values) -> np.ndarray | None:
    numbers, scale = np.asarray(values[0]), np.asarray(values[1], np.float32)
    zero = values[2] if len(values) > 2 and values[2] is not None else np.zeros((), np.uint8)
    if zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    steps = np.rint(numbers / _along(node, numbers, scale)) + (_along(node, numbers, zero).astype(np.float32))
    return np.clip(steps, limits.min, limits.max).astype(zero.dtype)


def _pair(function: Callable[..., np.ndarray]) -> Callable[[Any, Values], np.ndarray | None]:
    def rule(node: Any, values: Values) -> np.ndarray | None:
        shape = np.broadcast_shapes(*(np.shape(np.asarray(v)) for v in values))
        return function(*values) if 4 * math.prod(shape) <= memory_free() // 4 else None

    return rule


#: Operators that are worked out where all they read is constant.
FOLDED: dict[str, Callable[[Any, Values], np.ndarray | None]] = {
    "Identity": lambda node, values: values[0],
    "Transpose": lambda node, values: np.transpose(values[0], attribute(node, "perm")),  # type: ignore[arg-type]
    "Reshape": _reshape,
    "Squeeze": lambda node, values: np.squeeze(values[0], _axes(node, values)),  # type: ignore[arg-type]
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Cast": _cast,
    "DequantizeLinear": _dequantized,
    "QuantizeLinear": _quantized,
    "Add": _pair(np.add),
    "Sub": _pair(np.subtract),
    "Mul": _pair(np.multiply),
    "Div": _pair(np.divide),
}
