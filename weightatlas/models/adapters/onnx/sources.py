"""Whose output a node of an ONNX graph reads, behind operators that keep the units apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .scope import DEEPEST, Scope, attribute
from .shapes import Shape

#: Functions of each element alone, which read their first input.
ELEMENTWISE = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish",
    "Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Clip", "Shrink", "Identity", "Dropout", "Cast", "CastLike",
    "Abs", "Neg", "Sqrt", "Exp", "Log", "Erf", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "QuantizeLinear",
    "DequantizeLinear", "DynamicQuantizeLinear",
}  # fmt: skip
#: The same of all their inputs.
JOINT = {"Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Min", "Max"}
NORMS = {
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization",
    "LpNormalization", "MeanVarianceNormalization", "SimplifiedLayerNormalization", "LRN",
}  # fmt: skip
#: What moves or sums positions and leaves the units apart.
POOLS = {
    "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Resize", "Upsample",
    "ReduceMean", "ReduceMax", "ReduceSum",
}  # fmt: skip
SHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}


@dataclass(frozen=True)
class Made:
    """What a layer makes.

    Args:
        layer: its name.
        units: how many.
        axis: their axis, counted from the last, −1.
    """

    layer: str
    units: int
    axis: int


@dataclass(frozen=True)
class Reading:
    """Something that is read.

    Args:
        made: the layer; ``None`` for the network's own input; a layer without a name for what is not known.
        axis: the axis of the units that are read in what it makes, counted from the last; ``None`` if not known.
        shift: positions that were padded on the way, ``(y, x)``.
        pooled: the first operator behind the layer that changes positions, or ``""``.
    """

    made: Made | None
    axis: int | None
    shift: tuple[int, ...] = (0, 0)
    pooled: str = ""


UNKNOWN = Reading(Made("", 0, -1), None)


class Sources:
    """Follows values of a graph back to the layers that make them.

    Args:
        shapes: of the values, as far as they are known.
        made: the layers by the value that each makes; grows while the graph is read.
        image: the name of the network's one input, or ``""`` if there are several.
    """

    def __init__(self, shapes: dict[str, Shape], made: dict[str, Made], image: str) -> None:
        self.shapes, self.made, self.image = shapes, made, image
        self._kept: dict[tuple[str, int | None], frozenset[Reading]] = {}

    def readings(self, scope: Scope, value: str, axis: int | None, depth: int = 0) -> frozenset[Reading]:
        """All that a value is computed from.

        Args:
            scope: the graph.
            value: its name.
            axis: of the units in it, counted from the last.
        """
        if depth > DEEPEST:
            return frozenset({UNKNOWN})
        if (value, axis) not in self._kept:
            self._kept[value, axis] = frozenset({UNKNOWN})  # in a circle
            self._kept[value, axis] = self._found(scope, value, axis, depth)
        return self._kept[value, axis]

    def _found(self, scope: Scope, value: str, axis: int | None, depth: int) -> frozenset[Reading]:
        if value in self.made:
            return frozenset({Reading(self.made[value], axis)})
        node = scope.maker(value)
        if node is None:
            return frozenset({Reading(None, axis) if value == self.image and scope.parent is None else UNKNOWN})
        first = node.input[0] if node.input else ""
        if node.op_type in JOINT:
            inputs = [n for n in node.input if n and scope.constant(n) is None]
            found = [self.readings(scope, n, axis, depth + 1) for n in inputs]
            return frozenset().union(*found) if found else frozenset({UNKNOWN})
        if node.op_type in ELEMENTWISE | NORMS:
            return self.readings(scope, first, axis, depth + 1)
        if node.op_type in SHAPES:
            before = None if axis is None else self._reshaped(node, axis)
            # that many features as there were units leave no room for positions among them
            known = before is not None or axis is None or node.op_type == "Flatten"
            return self.readings(scope, first, before, depth + 1) if known else frozenset({UNKNOWN})
        if node.op_type in POOLS:
            return self._pooled(scope, node, axis, depth)
        if node.op_type == "Pad":
            return self._padded(scope, node, axis, depth)
        return frozenset({UNKNOWN})

    def _pooled(self, scope: Scope, node: Any, axis: int | None, depth: int) -> frozenset[Reading]:
        if node.op_type.startswith("Reduce"):
            given = scope.constant(node.input[1]) if len(node.input) > 1 else None
            axes = attribute(node, "axes") if given is None else [int(a) for a in given.values.reshape(-1)]
            rank = len(self.shapes.get(node.input[0], ()))
            if not axes or (min(axes) < 0 and not rank) or (not rank and axis is not None):
                return frozenset({UNKNOWN})
            gone = {a - rank if a >= 0 else a for a in axes}
            if axis is not None and not attribute(node, "keepdims", 1):  # axes that vanished behind the units
                left = [a for a in range(-rank, 0) if a not in gone]
                axis = left[axis] if -axis <= len(left) else None
            if axis in gone:
                return frozenset({UNKNOWN})
        found = self.readings(scope, node.input[0], axis, depth + 1)
        return frozenset(Reading(r.made, r.axis, (0, 0), node.op_type) for r in found)

    def _padded(self, scope: Scope, node: Any, axis: int | None, depth: int) -> frozenset[Reading]:
        """Positions behind padding count from what was padded."""
        given = scope.constant(node.input[1]) if len(node.input) > 1 else None
        pads = attribute(node, "pads") if given is None else [int(p) for p in given.values.reshape(-1)]
        if not pads or len(pads) % 2 or len(node.input) > 3 or axis is None:
            return frozenset({UNKNOWN})
        begins, spatial = pads[: len(pads) // 2], -axis - 1
        rest = (*begins[: len(begins) - spatial], *pads[len(begins) : len(pads) - spatial])
        if any(rest) or spatial > 2:  # over units or the batch
            return frozenset({UNKNOWN})
        shift = tuple([0, 0, *begins[len(begins) - spatial :]][-2:])
        found = self.readings(scope, node.input[0], axis, depth + 1)
        moved = [r.shift if r.pooled else (r.shift[0] + shift[0], r.shift[1] + shift[1]) for r in found]
        return frozenset(Reading(r.made, r.axis, m, r.pooled) for r, m in zip(found, moved, strict=True))

    def _reshaped(self, node: Any, axis: int) -> int | None:
        """The axis of the units before an operator that only moves axes; ``None`` if that cannot be told."""
        if node.op_type == "Transpose":
            perm = attribute(node, "perm")
            return perm[axis] - len(perm) if perm and -axis <= len(perm) else None
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if before is None or after is None or -axis > len(after):
            return None
        at = len(after) + axis
        lead = [n for n in after[:at] if n != 1]
        for i, size in enumerate(before):
            if size == after[at] and size is not None and [n for n in before[:i] if n != 1] == lead:
                return i - len(before)
        return None


def shared(readings: frozenset[Reading], channels: int) -> Reading | None:
    """The one layer, or input, that is read, if there is one whose units are just those; else ``None``."""
    if len({(r.made, r.axis) for r in readings}) != 1:
        return None
    reading = next(iter(readings))
    if reading is UNKNOWN or (reading.made and not reading.made.layer):
        return None
    if reading.made is not None and (reading.axis not in (None, reading.made.axis) or reading.made.units != channels):
        return None
    return reading
