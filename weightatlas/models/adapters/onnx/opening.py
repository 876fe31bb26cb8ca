"""``onnx:FILE``: the weights of an ONNX graph and its layers, read without running anything.

Format: the messages of onnx.proto (github.com/onnx/onnx), read by the package onnx.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....errors import ArgumentError, LoadError
from ...files.checkpoint import file_hash
from ...opened import Opened
from ...quoting import quoted
from ..importing import library
from .reading import Reader
from .scope import Scope
from .shapes import inferred_shapes
from .values import check_memory

#: Bytes; a file of Protocol Buffers cannot be larger, larger models keep their tensors in files beside it.
LARGEST = 2**31 - 1


def open_network(name: str, weights: str | None) -> Opened:
    """The weights of an ONNX file, without a module: direct weights, factorization and banding.

    Args:
        name: the file's path.
        weights: must be ``None``; an ONNX file has its own.

    Raises:
        MissingPackageError: without the package onnx.
        ArgumentError: for other weights.
        LoadError: for a file that is missing, damaged, foreign, or wants to read elsewhere.
    """
    if weights is not None:
        raise ArgumentError(
            f"weights={weights!r} does not go with onnx:{name}: an ONNX file has its own. To look at a file of weights "
            "without its architecture, load that file"
        )
    if not name:
        raise ArgumentError("onnx: needs a file, such as onnx:model.onnx")
    path = Path(name).expanduser()
    onnx = library("onnx")
    model, notes = _read(onnx, path)
    scope = Scope(model.graph, path.absolute().parent)
    check_memory(_tensors(model.graph), path)
    if not scope.sorted:
        notes += ("the nodes of the file are not in order of execution; they were sorted",)
    shapes, note = inferred_shapes(model)
    reader = Reader(scope, shapes)
    reader.read()
    if not reader.layers:
        raise LoadError(
            f"{path.name} holds no convolution or matrix product with constant weights, so there is nothing to read; "
            f"it consists of {reader.shown_operators()}"
        )
    notes += (*((note,) if note else ()), *reader.notes())
    return Opened(
        path.name,
        None,
        None,
        reader.tensors,
        notes,
        file_hash(path),
        tuple(reader.layers),
        f"onnx:{path.absolute()}",
    )


def _tensors(graph: Any) -> list[Any]:
    """Every tensor of a graph and of the graphs inside it."""
    found = list(graph.initializer)
    for node in graph.node:
        for entry in node.attribute:
            found += [entry.t] if entry.HasField("t") else []
            for inner in [entry.g] if entry.HasField("g") else entry.graphs:
                found += _tensors(inner)
    return found


def _read(onnx: Any, path: Path) -> tuple[Any, tuple[str, ...]]:
    """The file's message, its functions put in where they are called."""
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise LoadError(f"there is no file {path}" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size > LARGEST:
        raise LoadError(f"{path} is larger than an ONNX file can be (2 GiB); its tensors belong in files beside it")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise LoadError(
            f"{path} is not an ONNX file, or it is truncated: {quoted(error).rstrip('.')}. Download or export it again "
            "(torch.onnx.export)"
        ) from error
    if not model.HasField("graph") or not model.graph.node:
        raise LoadError(f"{path} is not an ONNX file: it holds no graph with nodes. Export the model again")
    if not model.functions:
        return model, ()
    inliner = library("onnx.inliner")
    try:
        inlined = inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        return model, (f"functions of the file could not be put in, their layers are left out: {quoted(error)}",)
    return inlined, (f"{len(model.functions)} functions of the file were put in where they are called",)
