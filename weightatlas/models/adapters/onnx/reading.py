"""All layers and tensors of an ONNX graph, in the order in which its nodes run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....records import Layer
from .layers import Kernel, kernel_of
from .names import Names, of_tensor
from .scope import Constant, Scope, attribute
from .shapes import Shape
from .sources import ELEMENTWISE, JOINT, NORMS, POOLS, SHAPES, Made, Sources, shared

INPUT = "input"
#: Smallest constant that counts as a weight of an operator that is no layer.
LEAST_WEIGHTS = 64
#: Operators whose constants are no weights, or are told in another way.
PLAIN = ELEMENTWISE | JOINT | NORMS | POOLS | SHAPES | {"Pad", "Constant", "Concat", "Slice", "Where", "Expand"}
NOT_RUN = "not computed: an ONNX graph is read, not run"


class Reader:
    """Reads a graph once.

    Args:
        scope: the graph.
        shapes: of its values.

    Attributes:
        layers: in order.
        tensors: all weights by name.
    """

    def __init__(self, scope: Scope, shapes: dict[str, Shape]) -> None:
        self.scope, self.shapes = scope, shapes
        inputs = scope.inputs
        self.image = inputs[0] if len(inputs) == 1 else ""
        self.sources = Sources(shapes, {}, self.image)
        self.layers: list[Layer] = []
        self.tensors: dict[str, Tensor] = {}
        self._names = Names()
        self._read_by: Counter[str] = Counter(n for s, node in scope.walk() for n in node.input)
        self._read_by.update(v.name for v in scope.graph.output)
        self._readers = {n: node for node in scope.nodes for n in node.input}
        self._known: dict[tuple[Any, ...], str] = {}  # weights that were read, and the layer that they belong to
        self._calls: Counter[str] = Counter()
        self._used: set[str] = set()
        self._notes: list[str] = []
        self._narrow: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()
        self._pooled: list[str] = []
        self._left: Counter[str] = Counter()
        self._inner = 0

    def read(self) -> None:
        """Goes through all nodes."""
        for scope, node in self.scope.walk():
            kernel = kernel_of(scope, node, self.shapes)
            if kernel is not None:
                self._add(scope, node, kernel)
            elif node.op_type not in PLAIN:
                self._leave(scope, node)
        self._rest()

    def _add(self, scope: Scope, node: Any, kernel: Kernel) -> None:
        name = self._name(scope, node, kernel)
        self._notes += kernel.notes
        for what in (kernel.weight, kernel.bias):
            if what is not None:
                self._use(what)
        path = name.split("#")[0]
        self._put(f"{path}.weight", kernel.values)
        if kernel.bias is not None:
            self._put(f"{path}.bias", kernel.bias.values)
        self._inner += scope.parent is not None
        layer = self._placed(scope, node, kernel, name)
        self.layers.append(layer)
        if scope.parent is None:
            self.sources.made[node.output[0]] = Made(name, kernel.units, kernel.made)

    def _name(self, scope: Scope, node: Any, kernel: Kernel) -> str:
        """The layer's name; weights that another layer has as well are its second call."""
        key = (
            kernel.weight.root,
            kernel.kind,
            kernel.values.shape,
            kernel.weight.steps,
            kernel.bias and kernel.bias.root,
        )
        same = self._known.get(key) if kernel.weight.root else None
        if same is not None and np.array_equal(self.tensors[f"{same}.weight"].numpy(), _plain(kernel.values)):
            self._calls[same] += 1
            return f"{same}#{self._calls[same] + 1}"
        bias = kernel.bias.root if kernel.bias is not None else self._added(scope, node)
        # exporters keep equal tensors once: a bias of zeros may bear the name of another layer's
        name = self._names.name(node, (kernel.weight.root,), (bias,) if self._read_by[bias] == 1 else ())
        owner = of_tensor(kernel.weight.root)
        while f"{name}.weight" in self.scope.tensors and owner != name:  # would be taken for another's
            name = self._names.unique(name)
        self._known[key] = name
        return name

    def _added(self, scope: Scope, node: Any) -> str:
        """The name of the constant that is added to what a node makes: the bias of a matrix product."""
        after = self._readers.get(node.output[0]) if scope.parent is None else None
        if after is None or after.op_type != "Add":
            return ""
        found = [scope.constant(n) for n in after.input]
        return next((c.root for c in found if c is not None), "")

    def _placed(self, scope: Scope, node: Any, kernel: Kernel, name: str) -> Layer:
        """The layer, with what it reads and where."""
        found = frozenset()
        if scope.parent is None:
            found = self.sources.readings(scope, kernel.read, kernel.axis)
        reading = shared(found, kernel.inputs)
        origin, shifts = kernel.origin, {r.shift for r in found}
        if origin is not None and len(shifts) == 1:  # positions count from what was padded before
            origin = tuple(o - s for o, s in zip(origin, next(iter(shifts)), strict=True))
        if reading is not None and reading.pooled:
            self._pooled.append(f"{name} ({reading.pooled})")
        source = "" if reading is None else INPUT if reading.made is None else reading.made.layer
        if source == INPUT and not self._sees(kernel, reading):
            source = ""
        axes, grid = self._output(node, kernel)
        return Layer(
            name=name,
            kind=kernel.kind,
            type=node.op_type,
            units=kernel.units,
            grid=grid,
            input_channels=kernel.inputs if kernel.size is not None else None,
            kernel=kernel.size,
            stride=kernel.stride if kernel.size is not None else None,
            dilation=kernel.dilation if kernel.size is not None else None,
            groups=kernel.groups if kernel.size is not None else None,
            receptive_note=NOT_RUN,
            parameters=kernel.values.size + (kernel.bias.values.size if kernel.bias is not None else 0),
            axes=axes,
            source=source,
            norm=self._norm(scope, node, kernel),
            origin=origin,  # pyright: ignore[reportArgumentType]
        )

    def _sees(self, kernel: Kernel, reading: Any) -> bool:
        """Whether the network's input has the units that are read on the axis on which they are read."""
        shape = self.shapes.get(self.image)
        if shape is None or reading.axis is None or -reading.axis > len(shape):
            return shape is None
        return shape[reading.axis] in (None, kernel.inputs)

    def _output(self, node: Any, kernel: Kernel) -> tuple[tuple[str, ...], tuple[int, int] | None]:
        """The meaning of the axes of a layer's output, and its positions as far as they are known."""
        shape = self.shapes.get(node.output[0])
        if kernel.kind != "linear":
            spatial = ("z", "y", "x")[kernel.made + 4 :] if kernel.made >= -4 else ()
            sizes = (shape or ())[2:] if kernel.size is not None else ()
            known = len(sizes) == len(spatial) > 0 and None not in sizes
            return ("N", "C", *spatial), ((1, *sizes)[-2:] if known else None)  # pyright: ignore[reportReturnType]
        if "Gemm" in node.op_type or (shape is not None and len(shape) == 2 and kernel.made == -1):
            return ("N", "C"), (1, 1)
        if shape is None:
            return (), None
        return tuple("N" if i == 0 else "C" if i - len(shape) == kernel.made else "?" for i in range(len(shape))), None

    def _norm(self, scope: Scope, node: Any, kernel: Kernel) -> str:
        """The batch norm that alone reads a layer, directly or behind its bias; its tensors are kept by its name."""
        value, after = node.output[0], self._readers.get(node.output[0])
        if after is not None and after.op_type == "Add" and self._added(scope, node) and self._read_by[value] == 1:
            value, after = after.output[0], self._readers.get(after.output[0])
        plain = scope.parent is None and self._read_by[value] == 1
        if not plain or after is None or after.op_type != "BatchNormalization" or after.input[0] != value:
            return ""
        found = [scope.constant(n) for n in after.input[1:5]]
        rank = len(self.shapes.get(value, ())) or (2 if "Gemm" in node.op_type else 0)
        channels = kernel.made == -1 - (rank - 2) if kernel.kind == "linear" else True
        fits = [c for c in found if c is not None and c.values.shape == (kernel.units,) and c.values.dtype.kind == "f"]
        if len(fits) != 4 or not channels or attribute(after, "training_mode", 0):
            return ""
        name = self._names.name(after, [c.root for c in fits])
        for leaf, what in zip(("weight", "bias", "running_mean", "running_var"), fits, strict=True):
            self._use(what)
            self._put(f"{name}.{leaf}", what.values)
        self._put(f"{name}.eps", np.array(attribute(after, "epsilon", 1e-5), np.float32))
        return name

    def _use(self, what: Constant) -> None:
        if what.root not in self._used:
            self._narrow[what.narrow] += bool(what.narrow)
            self._steps.update(s for s in set(what.steps) if s not in SHAPES)
        self._used.add(what.root)

    def _put(self, name: str, values: np.ndarray) -> None:
        self.tensors[name] = torch.from_numpy(_plain(values))

    def _leave(self, scope: Scope, node: Any) -> None:
        """Counts an operator that is no layer and has weights."""
        tensors = (scope.tensors.get(n) for n in node.input)
        large = [t for t in tensors if t is not None and int(np.prod(t.dims, dtype=object)) >= LEAST_WEIGHTS]
        self._left[node.op_type] += bool(large)

    def _rest(self) -> None:
        """Keeps the tensors that no layer uses under their own names."""
        for name in self.scope.tensors:
            found = None if name in self._used or name in self.tensors else self.scope.constant(name)
            if found is not None:
                self._put(name, found.values)

    def shown_operators(self) -> str:
        """What the graph is made of, in short."""
        counts = Counter(node.op_type for node in self.scope.nodes).most_common(6)
        return ", ".join(f"{count} {kind}" for kind, count in counts)

    def notes(self) -> tuple[str, ...]:
        """What was assumed, worked out or left out."""
        notes = _few(self._notes)
        for kind, count in self._narrow.items():
            if count:
                verb = "is" if count == 1 else "are"
                notes.append(f"{_tensors(count)} {verb} {kind} in the file, widened to float32")
        for step, count in self._steps.items():
            notes.append(f"{_tensors(count)} went through {step} in the graph; what comes out was read")
        if self._pooled:
            notes.append(f"positions count behind a pool between a layer and its source: {_list(self._pooled)}")
        loose = [layer.name for layer in self.layers if layer.kernel is not None and layer.origin is None]
        if loose:
            notes.append(f"where kernels lie depends on sizes that the file leaves open: {_list(loose)}")
        left = [f"{count} {kind}" for kind, count in self._left.items() if count]
        if left:
            notes.append(f"operators with weights that are no layers: {', '.join(left)}")
        if self._inner:
            lie = "1 layer lies" if self._inner == 1 else f"{self._inner} layers lie"
            notes.append(f"{lie} inside branches or loops; what is read there is not followed")
        return tuple(notes)


def _plain(values: np.ndarray) -> np.ndarray:
    """An array that torch can hold as it is."""
    return np.array(values, order="C") if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _few(notes: list[str]) -> list[str]:
    return notes if len(notes) <= 3 else [*notes[:2], f"and {len(notes) - 2} more like these: {notes[-1]}"]


def _list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
