"""Sealed files: no byte of one can change, go or come without its being noticed."""

import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightatlas.errors import StoreError
from weightatlas.store.arrays import META, Named, group_files
from weightatlas.store.pictures import decoded, encoded, told
from weightatlas.store.sealing import KEY, UNSEALED, document, is_whole, parsed, sealed

CONTENT = {"layer": "relu#2", "units": [0, 3], "norm": 0.25, "none": None}
#: A layer that would like to be a checksum.
LIAR = f'{{"{KEY}": "{UNSEALED}"}}'


def small_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    return encoded(pixels, {"what": "unit", "layer": "conv", "unit": 3})


FILES = {
    "document": document(CONTENT),
    "document with lines": document(CONTENT, indent=1),
    "picture": small_picture(),
    "metadata": group_files({"y": Named(np.zeros(2, np.float32), ("y",))}, {"weightatlas": {}})[META],
}


@pytest.mark.parametrize("kind", FILES)
def test_every_change_of_a_single_byte_is_noticed(kind):
    whole = FILES[kind]
    assert is_whole(whole)
    steps = (1, 2, 16, 32, 128, 255) if len(whole) < 1000 else (1, 32, 128)
    for at in range(len(whole)):
        changed = bytearray(whole)
        for step in steps:
            changed[at] = whole[at] ^ step
            assert not is_whole(bytes(changed)), (at, step)


@pytest.mark.parametrize("kind", FILES)
def test_every_cut_and_everything_added_is_noticed(kind):
    whole = FILES[kind]
    for at in range(len(whole)):
        assert not is_whole(whole[:at]), at
        assert not is_whole(whole[at + 1 :]), at
        assert not is_whole(whole[:at] + whole[at + 1 :]), at
    for more in (b"\n", b"\0", b" ", whole, b'"sha256": "' + UNSEALED.encode() + b'"'):
        assert not is_whole(whole + more)
        assert not is_whole(more + whole)


@pytest.mark.parametrize("kind", ["document", "picture"])
def test_readers_refuse_every_damaged_byte(kind):
    whole = FILES[kind]
    read = {"document": parsed, "picture": decoded}[kind]
    read(whole, "x")
    for at in range(len(whole)):
        for damaged in (
            whole[:at],
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            whole[:at] + whole[at + 1 :],
        ):
            with pytest.raises(StoreError, match=r"^a/b\.c is damaged: .*; `weightatlas check DIR --repair`"):
                read(damaged, "a/b.c")


def test_the_checksum_is_what_any_tool_computes():
    """SHA-256 of the file with the checksum's digits replaced by zeros."""
    for whole in FILES.values():
        before, digits, behind = whole.partition(b'"sha256": "')
        if not behind:
            before, digits, behind = whole.partition(b'"sha256":"')
        claimed, behind = behind[:64], behind[64:]
        zeroed = before + digits + b"0" * 64 + behind
        assert hashlib.sha256(zeroed).hexdigest().encode() == claimed


def strictly(data):
    def refuse(name):
        raise ValueError(name)

    return json.loads(data, parse_constant=refuse)


def test_documents_are_strict_json_in_ascii():
    nan = math.nan
    content = {
        "a": [1.5, nan, (math.inf, -math.inf)],
        "b": {"c": nan, "d": np.float64("nan")},
        "ü\udcff": "層\x00\udcff",
    }
    for indent in (None, 1):
        data = document(content, indent)
        assert data.isascii()
        assert data.endswith(b"}\n")
        known = strictly(data)
        assert known.pop(KEY) != UNSEALED
        assert known == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": None}, "ü\udcff": "層\x00\udcff"}
        assert parsed(data, "x") == known


def test_what_is_no_json_is_no_document():
    for content in ({"a": np.float32(1)}, {"a": {1, 2}}, {"a": object()}):
        with pytest.raises(TypeError):
            document(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec=None))
    | st.sampled_from([LIAR, f'"{KEY}": "{UNSEALED}"', f'\\"{KEY}\\": \\"{UNSEALED}\\"', UNSEALED, KEY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just(LIAR), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.text(st.characters(codec=None)).filter(lambda k: k != KEY), JSON, max_size=4),
    st.sampled_from([None, 1]),
)
def test_any_content_comes_back_as_it_was(content, indent):
    content = json.loads(json.dumps(content))  # which joins the halves of a character beyond 16 bits
    data = document(content, indent)
    assert is_whole(data)
    assert parsed(data, "x") == content
    assert KEY in strictly(data)


def test_layers_that_look_like_checksums_do_no_harm():
    for name in (LIAR, LIAR.replace("0", "a"), f'"{KEY}":"{UNSEALED}"', f'\\"{KEY}\\": \\"{UNSEALED}\\"'):
        data = document({"layer": name, name: [name]})
        assert parsed(data, "x") == {"layer": name, name: [name]}
        assert not is_whole(data.replace(b"layer", b"lAyer"))
        pixels = np.zeros((2, 2, 3), np.uint8)
        assert told(encoded(pixels, {"layer": name}), "x") == {"layer": name}
        files = group_files({"y": Named(np.zeros(1, np.float32), ("y",))}, {"weightatlas": {"source": name}})
        assert is_whole(files[META])


def test_a_file_without_one_place_for_its_checksum_is_not_sealed():
    place = f'"{KEY}": "{UNSEALED}"'.encode()
    for data, count in ((b"{}", 0), (b"{" + place + b"," + place + b"}", 2), (place.replace(b"0", b"1"), 0)):
        with pytest.raises(ValueError, match=f"one place for its checksum, this has {count}"):
            sealed(data)
        assert not is_whole(data)
    with pytest.raises(ValueError, match="this has 2"):
        document({"inner": {KEY: UNSEALED}})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JSON document"),
        (b"\x00\x01", "no JSON document"),
        (b"[1]", "it is no object"),
        (b"null", "it is no object"),
        (b'"text"', "it is no object"),
        (b'{"a":' * 100_000, "no JSON document"),
        (b"{}", "its checksum differs"),
        (json.dumps({"a": 1, KEY: UNSEALED}).encode(), "its checksum differs"),
        (b"\xff\xfe{", "no JSON document"),
    ],
)
def test_what_is_wrong_with_a_document_is_said(data, why):
    with pytest.raises(StoreError, match=f"^layers/a.json is damaged: .*{why}"):
        parsed(data, "layers/a.json")
