"""What a file is by its first bytes, whatever its name says, and what to do with what is no file of weights."""

from __future__ import annotations

import codecs
import itertools
import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ...errors import LoadError
from .wireformat import BYTES, VARINT, WireError, fields

Kind = Literal["zip", "legacy", "pickle", "safetensors", "index"]

#: How many bytes are looked at.
HEAD = 512
#: What the suffixes of weight files promise.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
#: The magic number of ``torch.save`` before 1.6, as it was pickled.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_SOURCES = "load() reads safetensors (.safetensors) and what torch.save writes (.pth, .pt, .bin, .ckpt)"
_PACKED = "is {}, which may hold a file of weights: unpack it and give the file inside"
_KERAS = (
    "is HDF5 (.h5, .keras: Keras), which is not read; convert it where Keras is installed, with the order of axes that "
    "PyTorch has (convolutions [H, W, in, out] → [out, in, H, W]), and save a state dict by torch.save, or export the "
    "model to ONNX and give 'onnx:FILE'"
)
_NUMPY = (
    "holds NumPy arrays; make tensors of them: import numpy, torch; torch.save({{name: torch.from_numpy(values) for "
    "name, values in numpy.load({name!r}).items()}}, 'weights.pth')"
)
_ARRAY = (
    "is a NumPy array; make a tensor of it: import numpy, torch; torch.save({{'weight': "
    "torch.from_numpy(numpy.load({name!r}))}}, 'weights.pth')"
)
_TENSORFLOW = (
    "is {}, of TensorFlow; export it to ONNX (python -m tf2onnx.convert) and give 'onnx:FILE', or save its weights as "
    "a state dict by torch.save (convolutions [H, W, in, out] → [out, in, H, W])"
)
_DOWNLOAD = "is {}: the download went wrong. Look at it in a browser, and download the file itself (often 'raw')"

#: What other formats begin with, and what to say of them.
STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", _KERAS),
    (b"\x93NUMPY", _ARRAY),
    (b"GGUF", "is GGUF (llama.cpp), whose weights are quantised in blocks; take the safetensors it was made from"),
    (b"version https://git-lfs.github.com/spec/", "is a Git LFS pointer, not the file itself; run: git lfs pull"),
    (b"\x1f\x8b", _PACKED.format("compressed by gzip")),
    (b"BZh", _PACKED.format("compressed by bzip2")),
    (b"\xfd7zXZ\0", _PACKED.format("compressed by xz")),
    (b"\x28\xb5\x2f\xfd", _PACKED.format("compressed by zstd")),
    (b"7z\xbc\xaf\x27\x1c", _PACKED.format("a 7-zip archive")),
    (b"Rar!", _PACKED.format("a RAR archive")),
    (b"\x89PNG\r\n\x1a\n", "is a picture (PNG), not weights; images= of wa.build and wa.measure take pictures"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not weights; images= of wa.build and wa.measure take pictures"),
    (b"model_checkpoint_path:", _TENSORFLOW.format("the list of a checkpoint's files")),
)


def kind_of(path: Path) -> Kind:
    """What a file of weights is by its content.

    Returns:
        ``"zip"``: an archive, of ``torch.save`` or another's. ``"legacy"``: what ``torch.save`` wrote before 1.6.
        ``"pickle"``: another pickle. ``"safetensors"``. ``"index"``: the list of a checkpoint in several files.

    Raises:
        LoadError: for anything else, with its name and what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise LoadError(f"{path} is empty; download or save it again")
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return "zip"
    if head.startswith(LEGACY):
        return "legacy"
    if _is_safetensors(path, head):
        return "safetensors"
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        return "pickle"
    text = _text(head)
    if text is not None and text.startswith("{"):
        if path.name.endswith(".index.json") or '"weight_map"' in text or '"metadata"' in text:
            return "index"
        raise LoadError(f"{path} is JSON, a description without weights; {_SOURCES}")
    raise LoadError(f"{path} {_foreign(path, head, text)}")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """A length, then JSON; a lie about the length is told as such where the name promises safetensors."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    return path.suffix == ".safetensors" or struct.unpack("<Q", head[:8])[0] < 2**40


def _text(head: bytes) -> str | None:
    """The beginning as text, if it is text."""
    try:
        # a character may be cut in two where the head ends
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return None
    return text.strip() if all(c.isprintable() or c.isspace() for c in text) else None


def _foreign(path: Path, head: bytes, text: str | None) -> str:
    """What a file is that holds no weights we read, as the rest of a sentence."""
    for start, told in STARTS:
        if head.startswith(start):
            return told.format(name=path.name)
    if head[257:262] == b"ustar":
        return _tar(path)
    if head[4:8] == b"TFL3":
        return _TENSORFLOW.format("a TensorFlow Lite model (.tflite)")
    if text is not None:
        return _of_text(text)
    told = _protobuf(path)
    if told:
        return told
    if path.suffix in (".pkl", ".pickle", ".p") or (head[:1] in b"(c}]" and path.suffix in SUFFIXES):
        return f"is a pickle in an old protocol, or damaged; {_SOURCES}"
    if path.suffix == ".msgpack":
        return f"is named as Flax's weights (msgpack), which are not read; save them as safetensors. {_SOURCES}"
    return f"is not a readable file of weights: it begins with the bytes {head[:8].hex(' ')}; {_SOURCES}"


def _of_text(text: str) -> str:
    start = text[:15].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return _DOWNLOAD.format("a web page (HTML)")
    if start.startswith(("<?xml", "<error")):
        return _DOWNLOAD.format("a server's answer in XML")
    if text.startswith("["):
        return f"is JSON, a description without weights; {_SOURCES}"
    return f"is not a readable file of weights but text, {text[:24]!r} …; {_SOURCES}"


def _tar(path: Path) -> str:
    import tarfile

    try:
        with tarfile.open(path, "r:") as archive:
            names = [m.name for m in itertools.islice(archive, 8)]
    except (tarfile.TarError, OSError, ValueError):
        names = []
    if {"storages", "pickle"} <= set(names):
        return (
            "is a tar archive of torch.save before 0.1.10, which is not read safely; if you trust whoever made it: "
            f"import torch; torch.save(torch.load({path.name!r}, map_location='cpu', weights_only=False), "
            "'weights.pth')"
        )
    return _PACKED.format("a tar archive")


def _protobuf(path: Path) -> str:
    """What a message of protocol buffers is by the numbers of its first fields; empty if it is none."""
    try:
        with path.open("rb") as file:  # the map closes itself: fields of it may live on in an error's traceback
            message = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            seen = [(number, wire) for number, wire, _ in itertools.islice(fields(message), 1000)]
    except (WireError, OSError, ValueError):
        return ""
    numbers = {number for number, _ in seen}
    if seen[0] == (1, VARINT) and 7 in numbers and 8 in numbers:
        return f"is an ONNX model; its weights open by the name 'onnx:{path}'"
    if seen[0] == (1, VARINT) and numbers <= {1, 2}:
        return _TENSORFLOW.format("a SavedModel (saved_model.pb), whose weights lie beside it")
    if seen[0] == (1, BYTES) and numbers <= {1, 2, 3, 4}:
        return _TENSORFLOW.format("a graph (GraphDef, .pb)") + (
            f"; that of InceptionV1 opens by load('inceptionv1', weights={path.name!r})"
        )
    return ""


def foreign_archive(path: Path, names: Iterable[str]) -> LoadError:
    """What to say of a zip archive that ``torch.save`` did not write.

    Args:
        path: where it lies.
        names: of its members.
    """
    names = list(names)
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last or any("/code/" in f"/{n}" for n in names):
        return LoadError(
            f"{path} is TorchScript (torch.jit.save), which is a program; take the weights out of it: import torch; "
            f"torch.save(torch.jit.load({path.name!r}, map_location='cpu').state_dict(), 'weights.pth') and load "
            "weights.pth, or load the Python module it was made from"
        )
    if "archive_format" in last:
        return LoadError(
            f"{path} is an exported program (torch.export.save); take the weights out of it: import torch; "
            f"torch.save(dict(torch.export.load({path.name!r}).state_dict), 'weights.pth') and load weights.pth"
        )
    if names and all(n.endswith(".npy") for n in names):
        return LoadError(f"{path} {_NUMPY.format(name=path.name)}")
    if "model.weights.h5" in last:
        return LoadError(f"{path} {_KERAS}")
    weights = [n for n in names if n.endswith((*SUFFIXES, ".pb", ".onnx"))]
    inside = ", ".join(repr(n[:60]) for n in (weights or names)[:4]) or "nothing"
    return LoadError(f"{path} is a zip archive that torch.save did not write; unpack it. In it: {inside}")
