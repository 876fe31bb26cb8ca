"""Constants of TensorFlow graphs that are written here byte by byte: whole, in every form, damaged and hostile."""

from __future__ import annotations

import hashlib
import os
import tracemalloc

import numpy as np
import pytest
import torch
from graphwriting import BFLOAT16, STRING, constant, field, node, number, shape, tensor

from weightatlas.errors import LoadError
from weightatlas.models.files import graphdef
from weightatlas.models.files.graphdef import constants, read_graph

ARRAY = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4")
WHOLE = node("input", "Placeholder") + constant("w", tensor(ARRAY))


def only(content: bytes) -> torch.Tensor:
    """The one constant of a graph."""
    (found,) = constants(content, "g.pb")[0].values()
    return found


@pytest.mark.parametrize("form", ["content", "packed", "apart"])
@pytest.mark.parametrize("type_first", [True, False])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_every_form_of_every_type(form: str, type_first: bool, kind: str) -> None:
    array = ARRAY.astype(kind)
    found = only(constant("w", tensor(array, form), type_first=type_first))
    assert str(found.dtype) == f"torch.{kind}"
    np.testing.assert_array_equal(found.numpy(), array)


@pytest.mark.parametrize("form", ["content", "apart", "packed"])
def test_bfloat16_is_the_upper_half_of_a_float32(form: str) -> None:
    halves = (ARRAY.view("u4") >> 16).astype("u2")
    found = only(constant("w", tensor(halves.view("f2"), form, kind=BFLOAT16)))
    assert found.dtype == torch.bfloat16
    np.testing.assert_array_equal(found.float().numpy(), (halves.astype("u4") << 16).view("f4"))


def test_names_order_and_what_is_left_out(tmp_path) -> None:
    content = (
        field(4, field(1, 22))  # the version, which graphs may have in front or behind
        + node("input", "Placeholder", (), {"shape": field(7, shape((1, 224, 224, 3)))})
        + constant("z/w", tensor(ARRAY, "packed"))
        + constant("axis", tensor(np.array([3], "i4"), "packed"), kind=3)
        + constant("label", field(1, STRING) + field(2, b"") + field(8, b"cat"), kind=STRING)
        + node("sum", "AddV2", ("z/w", "a"), {"T": field(6, 1), "_output_shapes": field(1, field(7, shape((2,))))})
        + constant("a", tensor(ARRAY[0], "content"))
        + constant("scalar", tensor(np.array(117, "f4"), "apart"))
        + field(900, b"from the future" * 20)
        + field(3, 7)
    )
    (tmp_path / "g.pb").write_bytes(content)
    checkpoint = read_graph(tmp_path / "g.pb")
    assert [(k, tuple(v.shape)) for k, v in checkpoint.tensors.items()] == [
        ("z/w", (2, 3, 4)),
        ("a", (3, 4)),
        ("scalar", ()),
    ]
    assert checkpoint.tensors["scalar"] == 117
    (note,) = checkpoint.notes
    assert "2 constants without floating-point numbers" in note
    assert "axis, label" in note
    digest = hashlib.sha256(content).hexdigest()
    assert checkpoint.file == f"g.pb sha256:{digest}"


def test_one_constant_that_is_left_out_is_one(tmp_path) -> None:
    axis = constant("axis", tensor(np.array([3], "i4"), "packed"), kind=3)
    (tmp_path / "g.pb").write_bytes(constant("w", tensor(ARRAY, "packed")) + axis)
    told = "1 constant without floating-point numbers was left out (axis)"
    assert read_graph(tmp_path / "g.pb").notes == (told,)


def test_fewer_values_than_places_repeat_the_last() -> None:
    found = only(constant("w", tensor(np.array([1, 2, 5], "f4"), "packed", sizes=(2, 3))))
    assert found.tolist() == [[1, 2, 5], [5, 5, 5]]
    assert only(constant("w", tensor(np.array([0.5], "f2"), "apart", sizes=(4,)))).tolist() == [0.5] * 4
    tensors, notes = constants(constant("w", tensor(np.array([], "f4"), "packed", sizes=(2,))), "g.pb")
    assert tensors["w"].tolist() == [0, 0]
    assert "writes no values for w: zeros" in notes[0]
    assert constants(constant("w", tensor(np.zeros((0, 3), "f4"))), "g.pb")[1] == ()


def test_what_is_spread_over_several_fields_is_one_message() -> None:
    whole = tensor(ARRAY)
    at = len(field(1, 1))
    spread = field(8, whole[:at]) + field(8, whole[at:])
    split = node("w", "Const", (), {"value": spread})
    np.testing.assert_array_equal(only(split).numpy(), ARRAY)


def test_the_tensors_own_their_values(tmp_path) -> None:
    path = tmp_path / "g.pb"
    path.write_bytes(WHOLE)
    found = read_graph(path).tensors["w"]
    found += 1  # nothing of the file is written to, nor is it needed any more
    assert path.read_bytes() == WHOLE
    path.unlink()
    np.testing.assert_array_equal(found.numpy(), ARRAY + 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a frozen TensorFlow graph: it has no nodes; its first bytes are none"),
        (b"<!DOCTYPE html><html>Not Found", "a web page"),
        (b"\n\n  <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        (b"PK\x03\x04" + b"x" * 60, "a zip archive"),
        (b"\x80\x02}q\x00.", "a pickle"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "an HDF5 file"),
        (b"\x1f\x8b\x08" + b"\0" * 60, "compressed by gzip"),
        (b'node {\n  name: "input"\n', "it is text, beginning 'node {"),
        (field(1, 1) + field(2, b"x" * 40), "a SavedModel or an ONNX file"),
        (field(4, b""), "it has no nodes; its first bytes are 22 00"),
        (b"\xff" * 30, "a number is longer than 64 bits; its first bytes are ff ff"),
        (b"\0" * 30, "a field has the number 0"),
        (node("v", "VariableV2") * 3 + node("m", "MatMul"), "holds no floating-point constants.*3 × VariableV2, 1 × MatMul.*freeze"),
        (constant("i", tensor(np.zeros(2, "i4")), kind=3), "holds no floating-point constants"),
    ],
)  # fmt: skip
def test_files_that_are_something_else(tmp_path, content: bytes, message: str) -> None:
    (tmp_path / "g.pb").write_bytes(content)
    with pytest.raises(LoadError, match=f"^g.pb .*{message}"):
        read_graph(tmp_path / "g.pb")


def values(sizes, count: int = 4) -> bytes:
    return constant("w", tensor(np.zeros(count, "f4"), sizes=sizes))


DEEP = b""
for _ in range(3000):
    DEEP = field(1, DEEP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x0a" + b"\x80" * 12, "a number is longer than 64 bits"),
        (b"\x0a" + b"\xff" * 9 + b"\x7f", "a number is longer than 64 bits"),
        (b"\x0a\x80", "it ends within a number"),
        (b"\x0a" + number(2**62) + b"w", f"a field of {2**62} bytes stands where 1 are left"),
        (b"\x0b" + node("w", "Const") + b"\x0c", "it has a group"),
        (b"\x0e\x00", "the wire type 6"),
        (node("w", "Const"), "the constant 'w' has no value"),
        (field(1, field(2, "Const")), "a node has no name"),
        (field(1, field(1, "w")), "'w' has no operator"),
        (field(1, field(1, b"\xff\xfe") + field(2, "Const")), "a name is not text"),
        (field(1, field(1, 5) + field(2, "Const")), "field 1 is of the wire type 0"),
        (constant("w", tensor(ARRAY)) * 2, "two constants are called 'w'"),
        (constant("i", tensor(np.zeros(2, "i4")), kind=3) * 2, "two constants are called 'i'"),
        (values((-1, 4)), r"shape \[-1, 4\], which is not known or cannot be"),
        (values((5,)), r"'w' \[5\] needs 20 bytes and has 16"),
        (values((2**31, 2**31)), "absurd shape"),
        (values((0, 2**62, 2**62), 0), "absurd shape"),
        (values((2**34,)), f"needs {2**36} bytes and has 16"),
        (values((1,) * 40), "has 40 axes"),
        (constant("w", field(1, 1) + field(2, field(3, 1))), "unknown rank"),
        (constant("w", tensor(np.zeros(5, "f4"), "packed", sizes=(4,))), r"\[4\] has 5 values for 4 places"),
        (constant("w", field(1, 1) + field(5, b"abc")), "3 bytes, not a multiple of 4"),
        (constant("w", field(1, 19) + field(13, 70_000)), "a number of 16 bits has more"),
        (constant("w" * 5000, tensor(ARRAY, sizes=(1,))), "'w{77}…'"),
        (constant("w", DEEP), "field 1 is of the wire type 2"),
    ],
)  # fmt: skip
def test_hostile_graphs(content: bytes, message: str) -> None:
    with pytest.raises(LoadError, match=message) as told:
        constants(node("input", "Placeholder") + content, "g.pb")
    assert str(told.value).startswith("g.pb is damaged or truncated: ")
    assert len(str(told.value)) < 400


def test_nesting_that_nobody_asked_for_is_not_followed() -> None:
    np.testing.assert_array_equal(only(node("x", "NoOp", (), {"f": DEEP}) + field(700, DEEP) + WHOLE).numpy(), ARRAY)


def test_no_size_is_believed_before_memory_is_taken(monkeypatch) -> None:
    tracemalloc.start()
    try:
        for sizes in ((2**20, 2**10), (2**36,)):
            with pytest.raises(LoadError, match=r"needs \d+ bytes and has 16"):
                constants(WHOLE + values(sizes), "g.pb")
        monkeypatch.setattr(graphdef, "memory_free", lambda: 2**20)
        bomb = b"".join(constant(f"w{i}", tensor(np.ones(1, "f4"), "packed", sizes=(2**17,))) for i in range(3))
        with pytest.raises(LoadError, match=r"the graph's 'w2' \[131072\] needs 0.0 GiB of memory; 0.0 are free"):
            constants(bomb, "g.pb")
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_sizes_of_files_and_numbers_of_nodes(tmp_path, monkeypatch) -> None:
    with (tmp_path / "g.pb").open("wb") as sparse:
        os.truncate(sparse.fileno(), 2**31 + 1)
    with pytest.raises(LoadError, match=r"has 2\.0 GiB; a TensorFlow graph never has more than 2"):
        read_graph(tmp_path / "g.pb")
    monkeypatch.setattr(graphdef, "MOST_NODES", 5)
    with pytest.raises(LoadError, match="more than 5 nodes"):
        constants(node("n", "NoOp") * 6 + WHOLE, "g.pb")
    with pytest.raises(LoadError, match="there is no file"):
        read_graph(tmp_path / "none.pb")
    with pytest.raises(LoadError, match="is not a file"):
        read_graph(tmp_path)


def test_damage_anywhere_is_told_and_never_crashes() -> None:
    content = WHOLE + constant("v", tensor(ARRAY, "apart"))
    ends = {len(node("input", "Placeholder")), len(WHOLE)}
    for length in range(1, len(content)):
        if length in ends:
            continue
        with pytest.raises(LoadError, match=r"truncated|not a frozen TensorFlow graph"):
            constants(content[:length], "g.pb")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), 2):
            changed[at] = rng.integers(256)
        try:
            found = constants(bytes(changed), "g.pb")[0]
        except LoadError:
            refused += 1
        else:
            assert sum(t.nbytes for t in found.values()) < 10 * len(content)
    assert 100 < refused < 1500
