"""A folder of files that are hostile, damaged, mislabelled or merely odd, and what must be said of each.

``python tests/hostile.py FOLDER`` writes it. Every case is small: what is absurd in it is only claimed.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors
from torch import nn

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class Case:
    """A file.

    Args:
        name: what it is called.
        content: its bytes.
        hint: a pattern that the refusal must match; ``None`` if it must be read.
    """

    name: str
    content: bytes
    hint: str | None


class Writes:
    """A pickle that writes a file when it is opened without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self):
        return (open, (self.trace, "w"))


# --- a pickle's opcodes, as torch.save writes them ---


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def several(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def numbers(values) -> bytes:
    return several(*map(number, values))


def name_of(dotted: str) -> bytes:
    module, _, name = dotted.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def called(dotted: str, *arguments: bytes) -> bytes:
    return name_of(dotted) + several(*arguments) + b"R"


def storage(count: int, key: str = "0", kind: str = "torch.FloatStorage") -> bytes:
    return several(text("storage"), name_of(kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(shape=(2, 3), stride=(3, 1), offset: int = 0, held: bytes = storage(6)) -> bytes:
    return called(
        "torch._utils._rebuild_tensor_v2", held, number(offset), numbers(shape), numbers(stride), b"\x89", b"N"
    )


def state(*pairs: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(pairs) + b"u."


def archive(pkl: bytes, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED, **members) -> bytes:
    """What ``torch.save`` packs: a pickle and the storages that it refers to."""
    held = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w", method) as packed:
        warnings.simplefilter("ignore")  # about two members of one name
        packed.writestr("w/data.pkl", pkl)
        packed.writestr("w/byteorder", "little")
        for key, data in ({"0": bytes(24)} if storages is None else storages).items():
            packed.writestr(f"w/data/{key}", data)
        packed.writestr("w/version", "3\n")
        for name, data in members.items():
            packed.writestr(f"w/{name}", data)
    return held.getvalue()


def legacy(pkl: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """What ``torch.save`` wrote before 1.6."""
    heads = [MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True}]
    storages = {"0": struct.pack("<q", 6) + bytes(24)} if storages is None else storages
    return (
        b"".join(pickle.dumps(head, 2) for head in heads)
        + pkl
        + pickle.dumps(list(storages), 2)
        + b"".join(storages.values())
    )


def safe(header: str | bytes | dict, data: bytes = b"", length: int | None = None) -> bytes:
    header = json.dumps(header) if isinstance(header, dict) else header
    head = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def entry(shape, begin: int = 0, end: int = 24, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def saved(content, **options) -> bytes:
    held = io.BytesIO()
    torch.save(content, held, **options)
    return held.getvalue()


# --- the cases ---


def code(trace: Path) -> list[Case]:
    """Pickles that want to run something."""
    plain = {"w": torch.ones(2, 3)}
    bomb = plain | {"x": Writes(trace)}
    wants = r"wants to run (_io|io)\.open;.*torch\.save\("
    system = b"cos\nsystem\n" + several(text(f"touch {trace}")) + b"R"
    several_calls = text("x") + called("builtins.eval", text("1")) + text("y") + called("subprocess.Popen", text("x"))
    stacked = b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93" + b"\x8c\x01x\x85R."
    return [
        Case("code_zip.pth", saved(bomb), wants),
        Case("code_legacy.pth", saved(bomb, _use_new_zipfile_serialization=False), wants),
        Case("code_called_safetensors.safetensors", saved(bomb), wants),
        Case("code_called_bin.bin", saved(bomb), wants),
        Case("code_system.pth", archive(state(text("w"), system)), r"wants to run os\.system;"),
        Case("code_odd_name.pth", archive(b"\x80\x02c\\q\nname\n)R."), "wants to run"),
        Case("code_many.pth", archive(state(text("w"), tensor(), several_calls)), r"builtins\.eval, subprocess\.Popen"),
        Case("code_newer_protocol.pth", archive(stacked), r"wants to run os\.system;"),
        Case("code_whole_module.pth", saved(nn.Linear(2, 2)), r"Linear.*weights_only=False\)\.state_dict\(\), "),
        Case("code_module_inside.pth", saved({"model": nn.Linear(2, 2)}), r"\['model'\]\.state_dict\(\), 'weights"),
        Case("code_plain_pickle.pth", pickle.dumps(bomb, 2), r"torch\.save did not write and wants to run"),
        Case("code_plain_pickle.pkl", pickle.dumps({"w": np.ones(3)}), r"did not write and wants to run numpy"),
        Case("newer_protocol.pth", saved(plain, pickle_protocol=4), r"newer pickle protocol.*if you trust"),
    ]


def bombs() -> list[Case]:
    """Little files that ask for much."""
    nested = b"\x80\x02" + b")" + b"\x85" * 50_000
    keyed = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns."
    huge = 2**40
    again = b"\x80\x02](" + b"K\x01" * 5000 + b"eq\x00"
    copies = again + b"".join(name_of("builtins.set") + b"h\x00\x85R" for _ in range(2000)) + b"."
    zeros = zipfile.ZIP_DEFLATED
    floats = storage(huge)
    shapes = {
        "stride_0.pth": tensor((huge, 1024), (0, 0)),
        "stride_0_little.pth": tensor((2**14, 2**15), (0, 0)),
        "shape_beyond.pth": tensor((2**16, 2**10), (2**10, 1)),
        "offset_beyond.pth": tensor(offset=2**61),
        "stride_overflow.pth": tensor((2, 2), (2**61, 1)),
    }
    hints = [
        r"'w' of shape \(1099511627776, 1024\) takes .*GiB of memory, and .*GiB are free",
        r"'w'.*repeats 24 bytes",
    ]
    hints += [r"'w' of shape \(65536, 1024\) needs 268,435,456 bytes, and the file has 24"] + [
        "'w' of shape.*needs"
    ] * 2
    made = [Case(n, archive(state(text("w"), t)), hint) for (n, t), hint in zip(shapes.items(), hints, strict=True)]
    calls = {
        "bytearray.pth": called("builtins.bytearray", number(2**40)),
        "empty_tensor.pth": called("torch.FloatTensor", number(2**40)),
        "tensor_class.pth": called("torch.Tensor", number(2**40)),
        "quantised_bomb.pth": called(
            "torch._utils._rebuild_qtensor",
            storage(6, kind="torch.QInt8Storage"),
            *(number(0), numbers((2**40,)), numbers((1,))),
            several(name_of("torch.per_tensor_affine"), b"G" + struct.pack(">d", 1.0), number(0)),
            *(b"\x89", b"N"),
        ),
        "sparse_bomb.pth": called(
            "torch._utils._rebuild_sparse_tensor",
            called("torch.serialization._get_layout", text("torch.sparse_coo")),
            several(
                tensor((2, 1), (1, 1), held=storage(2, "1", "torch.LongStorage")),
                tensor((1,), (1,)),
                numbers((2**20, 2**22)),
            ),
        ),
    }
    hints = [r"calls builtins\.bytearray with", r"wants to run torch\.FloatTensor", r"calls torch\.Tensor with"]
    hints += [
        r"'w'.*needs 1,099,511,627,776 bytes",
        r"sparse tensor 'w' of shape \(1048576, 4194304\) takes 16384\.0 GiB",
    ]
    for (name, call), hint in zip(calls.items(), hints, strict=True):
        held = {"0": bytes(6 if "quantised" in name else 24), "1": bytes(16)}
        made.append(Case(name, archive(state(text("w"), call), held), hint))
    return [
        *made,
        Case("zip_bomb.pth", archive(state(text("w"), tensor()), {"0": bytes(2**27)}, zeros), r"zip bomb.*MiB"),
        Case("storage_of_2_60.pth", archive(state(text("w"), tensor(held=storage(2**60)))), r"storage '0'.*has 24 bytes"),
        Case("storage_negative.pth", archive(state(text("w"), tensor(held=storage(-1)))), r"a storage of -1 values"),
        Case("stride_negative.pth", archive(state(text("w"), tensor(stride=(-3, 1)))), r"arguments that torch\.save does"),
        Case("storage_missing.pth", archive(state(text("w"), tensor()), {}), r"storage '0'.*it is missing"),
        Case("legacy_storage.pth", legacy(state(text("w"), tensor(held=floats)), {"0": struct.pack("<q", huge)}), "truncated"),
        Case("nested.pth", archive(nested + b"."), r"holds a tuple"),
        Case("nested_key.pth", archive(keyed), r"a key that is no name or number"),
        Case("copies.pth", archive(copies), r"copies more than"),
        Case("length_lies.pth", archive(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x."), r"damaged or truncated"),
        Case("memo_lies.pth", archive(b"\x80\x02h\x07."), r"damaged or truncated"),
        Case("methods_replaced.pth", archive(state(text("w"), called("collections.OrderedDict") + b"}" + text("items") + b"K\x01sb")), "by hand"),
    ]  # fmt: skip


def endless() -> list[Case]:
    """Pickles of many steps, values or open collections, with little behind them: packed, as they are, and legacy."""
    mib, proto = 2**20, b"\x80\x02"
    word = b"X" + struct.pack("<I", 2 * mib) + b"a" * 2 * mib + b"q\x000"
    encoded = name_of("_codecs.encode") + b"q\x010" + b"h\x01h\x00\x85R0" * 1000
    pair = b"K\x01" * 60 + b"tq\x000"
    keys = b"}" + b"h\x00Ns" * 100_000
    pkls = {
        "steps": (proto + b"]0" * 6 * mib + b"}.", r"takes more than 1,000,000 steps for 0 blocks of numbers"),
        "values": (proto + b"}" * 12 * mib + b".", "puts more than 300,000 values onto its stack"),
        "marks": (proto + b"(" * 12 * mib + b".", "nests more than 10,000 collections"),
        "encoded": (proto + word + encoded + b"}.", "turns more than 64 MiB of text into bytes"),
        "keys": (proto + b"(" + pair + keys + b".", "has keys of more than 1,000,000 elements"),
    }
    made = []
    for name, (pkl, hint) in pkls.items():
        bomb = name in ("steps", "values", "marks")
        told = (
            r"zip bomb: its 'w/data\.pkl' unpacks from \S+ KiB to 12\.0 MiB, and torch\.save does not" if bomb else hint
        )
        made.append(Case(f"{name}_packed.pth", archive(pkl, {}, zipfile.ZIP_DEFLATED), told))
        made.append(Case(f"{name}.pth", archive(pkl, {}), hint))
        made.append(Case(f"{name}_legacy.pth", legacy(pkl, {}), hint))
    return made


def opcodes() -> list[Case]:
    """Pickles in opcodes that the safe reader of PyTorch does not know, one kind each."""
    newer, alone = (
        r"with a newer pickle protocol than the 2 .*\(opcode",
        r"\), which torch\.save does not write of tensors\.",
    )
    pkls = {
        "short_text": (b"\x80\x04}\x8c\x01wK\x01s.", newer + r" SHORT_BINUNICODE\)"),
        "memoize": (b"\x80\x04}\x94.", newer + r" MEMOIZE\)"),
        "int": (b"\x80\x02}X\x01\0\0\0wI1\ns.", r"with an older pickle protocol than .*INT\)"),
        "ext": (b"\x80\x02}X\x01\0\0\0w\x82\x07s.", r"names classes by numbers of a registry .*\(opcode EXT1" + alone),
        "persid": (b"\x80\x02}X\x01\0\0\0wP7\ns.", r"by a line of text \(opcode PERSID" + alone),
        "pop": (b"\x80\x02}K\x010.", r"off its stack again, or doubles them \(opcode POP" + alone),
        "long4": (b"\x80\x02}X\x01\0\0\0w\x8b\x04\0\0\0\1\0\0\1s.", r"more than 255 bytes \(opcode LONG4" + alone),
        "obj": (b"\x80\x02}X\x01\0\0\0w(" + name_of("collections.OrderedDict") + b"os.", r"protocol 0 \(opcode OBJ" + alone),
        "inst": (b"\x80\x02(iposix\nsystem\n.", r"wants to run posix\.system"),
        "buffer": (b"\x80\x05}X\x01\0\0\0w\x97s.", r"in buffers of their own \(opcode NEXT_BUFFER" + alone),
    }  # fmt: skip
    return [Case(f"opcode_{name}.pth", archive(pkl, {}), hint) for name, (pkl, hint) in pkls.items()]


def _patched(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def zips() -> list[Case]:
    """Archives whose directories are not what they seem."""
    good = archive(state(text("w"), tensor()))
    directory = good.index(b"PK\x01\x02")
    end = good.rindex(b"PK\x05\x06")
    second = good.index(b"PK\x01\x02", directory + 1)
    twice = archive(state(text("w"), tensor()), {"0": bytes(24)}, **{"data/0": bytes(24)})
    count = struct.pack("<HH", 0xFFFF, 0xFFFF)
    return [
        Case("truncated.pth", good[:-30], "truncated"),
        Case("appended.pth", good + b"more", "appended"),
        Case("two_of_a_name.pth", twice, r"two members named 'w/data/0'"),
        Case("overlap.pth", _patched(good, second + 42, struct.pack("<I", 0)), "overlap|another name"),
        Case("encrypted.pth", _patched(good, directory + 8, b"\x01\0"), "encrypted"),
        Case("odd_compression.pth", _patched(good, directory + 10, b"\x5d\0"), "method 93|not a readable"),
        Case("member_count.pth", _patched(good, end + 8, count), "not a readable zip|truncated"),
        Case("member_beyond.pth", _patched(good, directory + 20, struct.pack("<II", 2**31, 2**31)), "reaches beyond"),
        Case("empty_zip.pth", b"PK\x05\x06" + bytes(18), "In it: nothing"),
        Case("other.zip", _zip({"readme.txt": b"x", "model.onnx": b"y"}), r"In it: 'model\.onnx'"),
    ]


def _zip(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return held.getvalue()


def headers() -> list[Case]:
    """Safetensors whose headers lie."""
    data = bytes(24)
    two = f'{{"w": {json.dumps(entry((2, 3)))}, "w": {json.dumps(entry((2, 3)))}}}'
    return [
        Case("length.safetensors", safe("{}", length=2**60), "its header is said to have"),
        Case("length_beyond.safetensors", safe("{}", length=100), "its header is said to have"),
        Case("cut.safetensors", safetensors({"w": torch.ones(9)})[:-4], "truncated"),
        Case("huge.safetensors", safe({"w": entry((2**62, 2**10))}, data), "cannot be"),
        Case("negative.safetensors", safe({"w": entry((-2, 3))}, data), "cannot be"),
        Case(
            "claims.safetensors",
            safe({"w": entry((2**38,), 0, 2**40)}, data),
            r"'w' of shape \(274877906944,\) ends 1024",
        ),
        Case(
            "overlap.safetensors",
            safe({"w": entry((2, 3)), "v": entry((2, 3))}, data),
            "'v' overlaps the one before it|'w' overlaps",
        ),
        Case("gap.safetensors", safe({"w": entry((1, 3), 12)}, data), "'w' leaves a gap"),
        Case("longer.safetensors", safe({"w": entry((2, 3))}, data + b"more"), "appended"),
        Case("wrong_size.safetensors", safe({"w": entry((2, 2))}, data), "not a readable safetensors"),
        Case("twice.safetensors", safe(two, data), "two entries are named 'w'"),
        Case("dtype.safetensors", safe({"w": entry((24,), dtype="Q8")}, data), "not a readable safetensors"),
        Case("deep.safetensors", safe('{"w":' + "[" * 100_000), "its header is damaged"),
        Case("no_json.safetensors", safe(b"{\xff\xfe}"), "its header is damaged"),
        Case("empty_header.safetensors", safe("{}"), "holds no tensors"),
        Case("axes.safetensors", safe({"w": entry((1,) * 100 + (6,))}, data), "cannot be"),
    ]


def mislabelled() -> list[Case]:
    """Files of another kind than their names say, or of none that is read."""
    tensors = {"a.weight": torch.ones(2, 3), "b.weight": torch.ones(2, 2)}
    arrays, packed, tar = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(arrays, w=np.ones(3))
    np.save(packed, np.ones(3))
    with tarfile.open(fileobj=tar, mode="w") as written:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            written.addfile(tarfile.TarInfo(name))
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as written:
        written.addfile(tarfile.TarInfo("w.pth"))
    onnx = b"\x08\x08\x12\x07pytorch\x3a\x04\x0a\x02\x0a\x00\x42\x04\x0a\x00\x10\x11"
    graph = b"\x0a\x14\x0a\x05input\x12\x0bPlaceholder" * 3
    index = json.dumps({"metadata": {}, "weight_map": {"a": "../../secret.safetensors"}}).encode()
    lost = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()
    return [
        Case("safetensors.pth", safetensors(tensors), None),
        Case("pickle.safetensors", saved(tensors), None),
        Case("pickle.bin", saved(tensors), None),
        Case("lightning.ckpt", saved({"state_dict": tensors, "epoch": 3, "pytorch-lightning_version": "2.5"}), None),
        Case("suffixless", saved(tensors), None),
        Case("legacy.pt", saved(tensors, _use_new_zipfile_serialization=False), None),
        Case("empty.pth", b"", "is empty"),
        Case("keras.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        Case("keras.pth", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        Case("model.keras", _zip({"config.json": b"{}", "model.weights.h5": b"x"}), "HDF5"),
        Case("network.onnx", onnx, r"'onnx:.*network\.onnx'"),
        Case("onnx.pt", onnx, r"'onnx:.*onnx\.pt'"),
        Case("graph.pb", graph, "GraphDef"),
        Case("saved_model.pb", b"\x08\x01\x12\x04\x0a\x02\x0a\x00", "SavedModel"),
        Case("lite.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        Case("llama.gguf", b"GGUF\x03\0\0\0" + bytes(40), "GGUF"),
        Case("array.npy", packed.getvalue(), "NumPy array"),
        Case("arrays.npz", arrays.getvalue(), r"NumPy arrays.*numpy\.load\('arrays\.npz'\)"),
        Case("page.pth", b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "web page"),
        Case("denied.safetensors", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        Case("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        Case("config.json", b'{"architectures": ["ResNet"]}', "JSON, a description"),
        Case("escaping.safetensors.index.json", index, r"secret\.safetensors' for 'a', which is no file beside it"),
        Case("lost.safetensors.index.json", lost, r"1 are missing beside it"),
        Case("packed.pth.gz", gzip.compress(b"x" * 99, mtime=0), "gzip"),
        Case("packed.tar", other.getvalue(), "tar archive: unpack|tar archive, which"),
        Case("ancient.pth", tar.getvalue(), r"torch\.save before 0\.1\.10"),
        Case("text.pth", b"hello, these are no weights\n", "text, 'hello"),
        Case("noise.pth", bytes(range(200, 256)) * 20, "begins with the bytes c8 c9"),
        Case("picture.pt", b"\x89PNG\r\n\x1a\n" + bytes(40), "picture"),
        Case("list.pth", saved([torch.ones(2)]), "holds a list"),
        Case("two_networks.pth", saved({"G": tensors, "D": tensors}), r"entries 'G', 'D'.*\['G'\], 'weights"),
        Case("one_name_twice.pth", saved({1: torch.ones(2, 2), "1": torch.zeros(2, 2)}), "two tensors of the same name"),
    ]  # fmt: skip


def cases(trace: Path) -> list[Case]:
    """Every case; the code in them would leave a file at ``trace``."""
    return [*code(trace), *bombs(), *endless(), *opcodes(), *zips(), *headers(), *mislabelled(), *_scripts()]


def _scripts() -> list[Case]:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), held)
    ordered = OrderedDict(w=torch.ones(2, 2))
    ordered._metadata = OrderedDict({"": {"version": 1}})  # ty: ignore  # as state_dict() has it
    return [
        Case("script.pt", held.getvalue(), r"TorchScript.*torch\.jit\.load\('script\.pt'"),
        Case("metadata.pth", saved(ordered), None),
    ]


def write(folder: Path, trace: Path) -> list[Case]:
    """Writes every case into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    every = cases(trace)
    for case in every:
        (folder / case.name).write_bytes(case.content)
    return every


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1]), Path(sys.argv[1]) / 'ran'))} files")
