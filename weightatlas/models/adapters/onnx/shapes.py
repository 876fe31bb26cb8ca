"""The shapes of an ONNX graph's values, as onnx infers them, without copying its weights for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ....errors import LoadError
from ...quoting import quoted
from ..importing import library
from .scope import inner_graphs, told

#: Sizes by axis; ``None`` for an axis whose size the file leaves open.
Shape = tuple[int | None, ...]
#: Constants of no more numbers may be shapes, which shapes depend on; the inference sees their values.
SMALL = 1024


def inferred_shapes(model: Any) -> tuple[dict[str, Shape], str]:
    """The shapes of the values of a graph that are known, and a note if they could not be inferred.

    Args:
        model: a ``ModelProto``.
    """
    onnx = library("onnx")
    graph = model.graph
    _check_steps(graph.node)
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    _lighten(onnx, graph, light.graph)
    try:
        found, note = onnx.shape_inference.infer_shapes(light).graph, ""
    except (RuntimeError, ValueError, TypeError, onnx.shape_inference.InferenceError) as error:
        found, note = graph, f"onnx cannot infer the shapes of the graph, so some grids are unknown: {quoted(error)}"
    shapes = {v.name: _shape(v.type.tensor_type) for v in (*found.input, *found.value_info, *found.output)}
    shapes |= {t.name: tuple(t.dims) for t in graph.initializer}
    return {name: shape for name, shape in shapes.items() if shape is not None}, note


def _lighten(onnx: Any, graph: Any, light: Any) -> None:
    """Copies a graph with inputs where large tensors were."""
    light.name = graph.name
    large = {t.name: t for t in graph.initializer if _size(t) > SMALL}
    light.input.extend(v for v in graph.input if v.name not in large)
    light.output.extend(graph.output)
    light.value_info.extend(v for v in graph.value_info if v.name not in large)
    light.initializer.extend(t for t in graph.initializer if t.name not in large)
    for node in graph.node:
        held = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if node.op_type == "Constant" and held is not None and node.output and _size(held) > SMALL:
            large[node.output[0]] = held
        else:
            light.node.append(node)
    for name, tensor in large.items():
        light.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))


def _size(tensor: Any) -> int:
    size = 1
    for d in tensor.dims:
        size *= d
    return size


def _shape(tensor_type: Any) -> Shape | None:
    if not tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor_type.shape.dim)


def _check_steps(nodes: Iterable[Any]) -> None:
    """Stops at steps of zero, by which releases of onnx have divided."""
    for node in nodes:
        for entry in node.attribute:
            if entry.name in ("strides", "dilations", "kernel_shape", "group", "blocksize"):
                numbers = (*entry.ints, *([entry.i] if entry.HasField("i") else []))
                if any(n < 1 for n in numbers):
                    raise LoadError(f"{told(node)} says {entry.name}={list(numbers)}; they must be at least 1")
        for graph in inner_graphs(node):
            _check_steps(graph.node)
