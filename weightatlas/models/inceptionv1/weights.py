"""InceptionV1's weights in every form in which they circulate, by the network's own names.

    file                                       names                            axes of a convolution
    tensorflow_inception_graph.pb, also in     mixed3a_3x3_bottleneck_w, _b     [H, W, in, out]
      inception5h.zip
    captum.optim's inception5h.pth             mixed3a.conv_3x3_reduce.weight   [out, in, H, W]
    the port in lucent, by ProGamerGov         mixed3a_3x3_bottleneck_pre_relu_conv.weight
    any file that was written from here        mixed3a_3x3_bottleneck.weight

An array is found by its name; its shape must then be right. What a file is, its content decides, not its suffix.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import LoadError
from ..files.checkpoint import Checkpoint, check_place, file_hash, read_checkpoint
from ..files.graphdef import constants, read_graph
from ..hints import nearest_names, prefix_hint, without_prefix
from .network import BLOCKS, BRANCHES, STEM, InceptionV1

NAME = "inceptionv1"
CLASSIFIER = "softmax2"
GRAPH = "tensorflow_inception_graph.pb"
LARGEST_GRAPH = 2**28  # bytes of the graph in an archive; the published one has a fifth of that
#: What graphs begin with: the tag of a node, of functions, or of either version.
FIRST = (b"\x0a", b"\x12", b"\x18", b"\x22")
PICKLE = b"\x80"
#: The classifiers in the middle of the network, by all their names; they only helped training.
AUXILIARY = re.compile(r"(head[01]|nn[01]|softmax[01]|aux[12])[._]")
CAPTUM = {
    "1x1": "conv_1x1",
    "3x3_bottleneck": "conv_3x3_reduce",
    "3x3": "conv_3x3",
    "5x5_bottleneck": "conv_5x5_reduce",
    "5x5": "conv_5x5",
    "pool_reduce": "pool_proj",
}


class Style(NamedTuple):
    """How a form of the weights calls its arrays.

    Args:
        whose: names these are, for messages.
        names: of the arrays, by our own names.
        axes: of a convolution: its own axes' places among ``[out, in, H, W]``.
    """

    whose: str
    names: Mapping[str, str]
    axes: tuple[int, ...] = (0, 1, 2, 3)

    @property
    def tensorflow(self) -> bool:
        """Whether convolutions are ``[H, W, in, out]`` and linear maps ``[in, out]``."""
        return self.axes != (0, 1, 2, 3)

    def shaped(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that an array has in such a file."""
        order = {4: self.axes, 2: (1, 0)}.get(len(own)) if self.tensorflow else None
        return tuple(own[i] for i in order) if order else own

    def restored(self, array: Tensor) -> Tensor:
        """An array of such a file with PyTorch's order of axes."""
        if not self.tensorflow or array.ndim not in (2, 4):
            return array
        return array.permute(3, 2, 0, 1) if array.ndim == 4 else array.T


def read(path: Path) -> Checkpoint:
    """The weights in a file, by the network's own names.

    Args:
        path: a frozen TensorFlow graph, a zip archive that holds one, or a state dict in any of PyTorch's forms.

    Raises:
        LoadError: if the file cannot be read, is another network's, or lacks arrays, which are named as it names them.
    """
    found = _content(path)
    tensors, notes = _own(found.tensors, path.name)
    return Checkpoint(tensors, found.notes + notes, found.file)


def _content(path: Path) -> Checkpoint:
    """A file's arrays by the file's own names."""
    check_place(path)
    try:
        with path.open("rb") as opened:
            head = opened.read(9)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from error
    if head.startswith(b"PK"):
        return read_checkpoint(path) if _is_pytorch(path) else _archived(path)
    # safetensors begin with the length of their JSON
    safetensors = head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    if not safetensors and (head[:1] in FIRST or (path.suffix == ".pb" and not head.startswith(PICKLE))):
        return read_graph(path)
    return read_checkpoint(path)


def _is_pytorch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return path.suffix != ".zip"  # damaged: what it was meant to be


def _archived(path: Path) -> Checkpoint:
    """The graph in a zip archive, unpacked into memory only."""
    try:
        with zipfile.ZipFile(path) as archive:
            graphs = [i for i in archive.infolist() if i.filename.endswith(".pb") and "__MACOSX" not in i.filename]
            graphs = [i for i in graphs if i.filename.rpartition("/")[2] == GRAPH] or graphs
            if len(graphs) != 1:
                listed = ", ".join(repr(name[:60]) for name in archive.namelist()[:4]) or "nothing"
                raise LoadError(f"{path.name} should hold one graph, {GRAPH}, and holds {len(graphs)}; in it: {listed}")
            with archive.open(graphs[0]) as member:
                content = member.read(LARGEST_GRAPH + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, LoadError):
            raise
        raise LoadError(f"{path.name} is not a readable zip archive, or it is truncated: {error}") from error
    if len(content) > LARGEST_GRAPH:
        raise LoadError(
            f"{path.name} unpacks to more than {LARGEST_GRAPH >> 20} MiB, which InceptionV1's graph does not have; "
            f"if you trust it, unpack it and give the graph: load({NAME!r}, weights='{GRAPH}')"
        )
    tensors, notes = constants(content, f"{graphs[0].filename} in {path.name}")
    return Checkpoint(tensors, notes, file_hash(path))


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of all weights by our names, in the network's order."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in InceptionV1().state_dict().items()}


@cache
def styles() -> tuple[Style, ...]:
    """All forms of the weights."""
    convolutions = {name: (f"conv{i}", f"{name}_pre_relu_conv") for i, name in enumerate(STEM, 1)}
    for block in BLOCKS:
        for branch in BRANCHES:
            name = f"{block}_{branch}"
            convolutions[name] = f"{block}.{CAPTUM[branch]}", f"{name}_pre_relu_conv"
    layers = convolutions | {"softmax2": ("fc", "softmax2_pre_activation_matmul")}

    def named(ending: Mapping[str, str], which: int | None = None) -> dict[str, str]:
        found = {}
        for own in _shapes():
            layer, _, leaf = own.partition(".")
            found[own] = (layer if which is None else layers[layer][which]) + ending[leaf]
        return found

    plain = {"weight": ".weight", "bias": ".bias"}
    return (
        Style("our own", named(plain)),
        Style("TensorFlow's", named({"weight": "_w", "bias": "_b"}), (2, 3, 1, 0)),
        Style("captum.optim's", named(plain, 0)),
        Style("lucent's", named(plain, 1)),
    )


def _own(state: Mapping[str, Tensor], file: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights by our names, and notes."""
    state, notes = _unscoped(state)
    state, more = without_prefix(state, [s.names.values() for s in styles()], file)
    notes += more
    style = max(styles(), key=lambda s: sum(name in state for name in s.names.values()))
    _check(state, style, file)
    theirs = set(style.names.values())
    if style.tensorflow:
        notes += ("its convolutions are [H, W, in, out] by TensorFlow's names: renamed and transposed",)
        order = [name for name in state if name in theirs]
        if order != list(style.names.values()):
            notes += ("its arrays are not in the network's order; they were found by their names",)
    elif style is not styles()[0]:
        notes += (f"its arrays have {style.whose} names: renamed",)
    left = [name for name in state if name not in theirs]
    auxiliary = [name for name in left if AUXILIARY.match(name)]
    if auxiliary:
        notes += (f"the auxiliary classifiers were left out ({len(auxiliary)} arrays, {auxiliary[0]} …)",)
    rest = [name for name in left if name not in auxiliary]
    if rest:
        notes += (f"small constants were left out: {_listed(rest)}",)
    return {own: style.restored(state[name]) for own, name in style.names.items()}, notes


def _unscoped(state: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Without the scope that TensorFlow puts before all names of a graph that was imported and saved again."""
    first = f"{next(iter(STEM))}_w"
    scope = next((name.removesuffix(first) for name in state if name.endswith(f"/{first}")), "")
    if not scope or first in state:
        return state, ()
    return {name.removeprefix(scope): v for name, v in state.items()}, (f"the scope {scope!r} was taken off its names",)


def _check(state: Mapping[str, Tensor], style: Style, file: str) -> None:
    """Holds names and shapes against the network's."""
    names, shapes = style.names, {own: style.shaped(shape) for own, shape in _shapes().items()}
    missing = [own for own, name in names.items() if name not in state]
    if 2 * len(missing) > len(names):
        hint = next((h for s in styles() if (h := _hint(state, s))), "")
        examples = ", ".join(f"{next(iter(s.names.values()))} ({s.whose})" for s in styles())
        raise LoadError(
            f"{file} is another network's: of InceptionV1's {len(names)} arrays it has {len(names) - len(missing)}. "
            f"Its names are {_listed(list(state))}; InceptionV1's begin with {examples}{hint}"
        )
    theirs = set(names.values())
    left = [name for name in state if name not in theirs and not AUXILIARY.match(name)]
    # besides its weights a graph has other constants, such as the mean that it subtracts from its input
    extra = [name for name in left if not style.tensorflow or state[name].numel() > 3]
    shapes |= _classes(state, style)
    wrong = [own for own, name in names.items() if name in state and tuple(state[name].shape) != shapes[own]]
    parts = []
    if missing:
        called = [names[own] + (f" (here {own})" if names[own] != own else "") for own in missing]
        shape = shapes[missing[0]]
        alike = [name for name in extra if tuple(state[name].shape) == shape]
        hint = f"; {_listed(alike)} has the shape of the first, {list(shape)}" if alike else ""
        parts.append(f"lacks {len(missing)} of {len(names)} arrays: {_listed(called)}{hint}")
    if extra:
        parts.append(f"has too many, {len(extra)}: {_listed(extra)}")
    if wrong:
        parts.append(_misshapen(state, style, wrong))
    if parts:
        raise LoadError(f"{file} does not fit {NAME}: it {'; it '.join(parts)}")


def _hint(state: Mapping[str, Tensor], style: Style) -> str:
    """What stands before the names of one form, or which of them are nearly right; empty if neither."""
    shapes = {name: style.shaped(_shapes()[own]) for own, name in style.names.items()}
    missing, extra = [n for n in shapes if n not in state], [n for n in state if n not in shapes]
    hint = prefix_hint(missing, extra) or nearest_names(missing, extra, shapes, {n: state[n].shape for n in extra})
    return f". {hint}" if hint else ""


def _classes(state: Mapping[str, Tensor], style: Style) -> dict[str, tuple[int, ...]]:
    """The shapes of the last layer, if it tells other classes apart than the published one does."""
    weight, bias = (f"{CLASSIFIER}.{leaf}" for leaf in ("weight", "bias"))
    given = state.get(style.names[bias])
    if given is None or given.ndim != 1 or not len(given):
        return {}
    return {bias: (len(given),), weight: style.shaped((len(given), *_shapes()[weight][1:]))}


def _misshapen(state: Mapping[str, Tensor], style: Style, wrong: list[str]) -> str:
    """What is the matter with the shapes of some arrays, as part of a sentence."""
    own, name = wrong[0], style.names[wrong[0]]
    found, due = list(state[name].shape), list(style.shaped(_shapes()[own]))
    called = name if name == own else f"{name} (here {own})"
    more = f", and {len(wrong) - 1} more alike" if len(wrong) > 1 else ""
    text = f"has {called} {found} instead of {due}{more}"
    _, graph, *_ = styles()
    if style.tensorflow and found == list(_shapes()[own]):
        return (
            f"{text}: that is PyTorch's order of axes, already transposed; TensorFlow's names go with [H, W, in, out] "
            f"and [in, out]. Save the arrays by our names, {own}, instead"
        )
    if not style.tensorflow and found == list(graph.shaped(_shapes()[own])):
        return (
            f"{text}: that is TensorFlow's order of axes; transpose convolutions with permute(3, 2, 0, 1) and the "
            f"linear map with .T, or save the arrays by TensorFlow's names, {graph.names[own]}"
        )
    return text


def _listed(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:3]) + (" …" if len(names) > 3 else "")
