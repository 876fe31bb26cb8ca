"""Arrays of an atlas: other libraries open them, and a browser needs nothing but a slice of a file."""

import hashlib
import json
import struct
import warnings

import google_crc32c
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ODD

from weightatlas.errors import StoreError
from weightatlas.store import LocalFiles, open_files
from weightatlas.store.arrays import META, Group, Named, chunk_values, group_files
from weightatlas.store.files import Overlay

AXES = ("target_unit", "source_unit", "y", "x")


def planted(o=4, i=3, h=2, w=5):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(o, i, h, w)).astype(np.float32)
    values[1] = 0  # a unit without weights has its file all the same
    values[2, 0, 0] = [np.nan, np.inf, -np.inf, -0.0, 1e-45]
    return {
        "values": Named(values, AXES, split=True),
        "target_unit": Named(np.arange(o, dtype=np.int32) * 10, ("target_unit",)),
        "y": Named(np.linspace(-1, 1, h).astype(np.float32), ("y",)),
        "x": Named(np.arange(w).astype(np.float32) / 2, ("x",)),
        "big": Named(np.array([[-(2**62), 2**62]]), ("one", "two")),
        "double": Named(np.array([1 / 3, np.nan]), ("two",)),
        "bytes": Named(np.array([0, 7, 255], np.uint8), ("source_unit",)),
        "whole": Named(generator.normal(size=(o, i)).astype(np.float32), ("target_unit", "source_unit")),
    }


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "a" / "g", planted(), {"weightatlas": {"note": ODD}})


def written(folder, arrays, attributes=None):
    files = LocalFiles(folder)
    for path, data in group_files(arrays, attributes or {}).items():
        files.write(path, data)
    return folder


def opened(folder):
    return Group(LocalFiles(folder.parent), folder.name)


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_zarr_opens_it_with_equal_values_types_and_names(folder):
    group = zarr.open_group(folder, mode="r")
    assert sorted(group.array_keys()) == sorted(planted())
    for name, array in planted().items():
        found = group[name]
        assert same(found[...], array.values), name
        assert found.metadata.dimension_names == array.axes
        assert found.chunks == ((1, *array.values.shape[1:]) if array.split else array.values.shape)
    assert group.attrs["weightatlas"] == {"note": ODD}


def test_each_array_opens_alone(folder):
    for name, array in planted().items():
        assert same(zarr.open_array(folder / name, mode="r")[...], array.values)


def test_xarray_opens_it(folder):
    data = xarray.open_zarr(folder, chunks=None)  # without dask, which other tests leave in some state
    assert set(data.variables) == set(planted())
    assert data["values"].dims == AXES
    for name, array in planted().items():
        assert same(data[name].values, array.values), name
    assert data["values"].encoding["chunks"] == (1, 3, 2, 5)
    chosen = data["values"].sel(target_unit=30, x=1.0, y=-1)  # coordinates, not places
    assert np.array_equal(chosen, planted()["values"].values[3, :, 0, 2])


def test_the_metadata_says_what_a_reader_must_know(folder):
    known = json.loads((folder / "values" / META).read_bytes())
    assert (known["zarr_format"], known["node_type"], known["data_type"]) == (3, "array", "float32")
    assert known["shape"] == [4, 3, 2, 5]
    assert known["chunk_grid"] == {"name": "regular", "configuration": {"chunk_shape": [1, 3, 2, 5]}}
    assert known["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "."}}
    codecs = [(c["name"], c.get("configuration")) for c in known["codecs"]]
    assert codecs == [("bytes", {"endian": "little"}), ("crc32c", None)]  # nothing is compressed
    assert known["fill_value"] == "NaN"
    assert known["dimension_names"] == list(AXES)
    inner = json.loads((folder / META).read_bytes())["consolidated_metadata"]["metadata"]
    assert set(inner) == set(planted())
    for name, copy in inner.items():
        own = json.loads((folder / name / META).read_bytes())
        own["attributes"].pop("sha256")
        assert copy == own


def test_a_chunk_is_little_endian_numbers_and_the_checksum(folder):
    values = planted()["values"].values
    paths = sorted(p.name for p in (folder / "values").iterdir())
    assert paths == ["c.0.0.0.0", "c.1.0.0.0", "c.2.0.0.0", "c.3.0.0.0", META]
    for unit in range(4):
        data = (folder / "values" / f"c.{unit}.0.0.0").read_bytes()
        assert len(data) == 3 * 2 * 5 * 4 + 4
        assert np.array_equal(struct.unpack("<30f", data[:120]), values[unit].ravel(), equal_nan=True)
        assert int.from_bytes(data[120:], "little") == google_crc32c.value(data[:120])


def test_the_metadata_tells_the_checksums_of_all_chunks_in_one(folder):
    for name, count in (("values", 4), ("y", 1)):
        known = json.loads((folder / name / META).read_bytes())
        behind = "" if name == "y" else ".0.0.0"
        ends = [(folder / name / f"c.{n}{behind}").read_bytes()[-4:] for n in range(count)]
        assert known["attributes"]["chunks_sha256"] == hashlib.sha256(b"".join(ends)).hexdigest()


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 3), np.float32),
        np.full((2, 3), np.nan, np.float32),
        np.full((2, 3), -1),
        np.zeros((2, 3), np.uint8),
    ],
)
def test_chunks_of_nothing_but_zeros_or_what_fills_are_written(values, tmp_path):
    folder = written(tmp_path / "g", {"a": Named(values, ("y", "x"), split=True)})
    assert sorted(p.name for p in (folder / "a").iterdir()) == ["c.0.0", "c.1.0", META]
    assert same(opened(folder).whole("a"), values)


def test_a_missing_chunk_is_no_number_elsewhere_and_an_error_here(folder):
    for name in ("values/c.1.0.0.0", "target_unit/c.0", "bytes/c.0"):
        (folder / name).unlink()
    group = zarr.open_group(folder, mode="r")
    assert np.isnan(group["values"][1]).all()
    assert np.array_equal(group["values"][0], planted()["values"].values[0])
    assert (group["target_unit"][...] == -1).all()
    own = opened(folder)
    assert same(own.row("values", 0), planted()["values"].values[0])
    for attempt in (lambda: own.row("values", 1), lambda: own.whole("values"), lambda: own.rows("values", [0, 1])):
        with pytest.raises(StoreError, match=r"there is no g/values/c\.1\.0\.0\.0 in"):
            attempt()
    with pytest.raises(StoreError, match=r"there is no g/target_unit/c\.0 in"):
        own.whole("target_unit")


def test_the_reader_gives_what_zarr_gives(folder):
    own, group = opened(folder), zarr.open_group(folder, mode="r")
    assert set(own.arrays) == set(group.array_keys())
    assert own.attributes == {"weightatlas": {"note": ODD}}
    for name in own.arrays:
        own.check_array(name)
        array = group[name][...]
        assert same(own.whole(name), array)
        for row in range(len(array)):
            assert same(own.row(name, row), array[row])
        assert same(own.rows(name, [len(array) - 1, 0]), array[[-1, 0]])
        own.whole(name)[...] = 0  # a copy of one's own


def test_a_row_is_one_file(folder, monkeypatch):
    own, read = opened(folder), []
    files = own.files
    monkeypatch.setattr(files, "read", lambda path, real=files.read: (read.append(path), real(path))[1])
    own.row("values", 2)
    assert read == ["g/values/c.2.0.0.0"]
    own.rows("values", [3, 0])
    assert read[1:] == ["g/values/c.3.0.0.0", "g/values/c.0.0.0.0"]


def test_the_mark_of_a_group_comes_last():
    paths = list(group_files(planted(), {}))
    assert paths[-1] == META
    assert paths.count(META) == 1
    chunks = [n for n, p in enumerate(paths) if not p.endswith(META)]
    assert max(chunks) < min(n for n, p in enumerate(paths) if p.endswith(META))


def test_equal_arrays_make_equal_files():
    assert group_files(planted(), {"a": 1}) == group_files(planted(), {"a": 1})


def test_views_and_other_byte_orders_are_written_as_they_look(tmp_path):
    base = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    odd = base[::-1, :, :, ::2].transpose(0, 1, 3, 2)
    written(tmp_path / "g", {"values": Named(odd, AXES, split=True)})
    assert np.array_equal(opened(tmp_path / "g").whole("values"), odd)


def test_writing_warns_of_nothing():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        group_files(planted(), {})
    assert seen == []


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    kind=st.sampled_from(["f4", "f8", "i4", "i8", "u1"]),
    split=st.booleans(),
    seed=st.integers(0, 99),
)
def test_arrays_of_any_shape_and_type_come_back(shape, kind, split, seed, tmp_path_factory):
    values = np.random.default_rng(seed).integers(0, 2**63, size=shape).astype("<u8").view("u1")
    values = np.resize(values, int(np.prod(shape)) * np.dtype(kind).itemsize).view(kind).reshape(shape)
    folder = written(tmp_path_factory.mktemp("a") / "g", {"a": Named(values, tuple("wxyz"[: len(shape)]), split)})
    assert same(opened(folder).whole("a"), values)
    assert same(zarr.open_group(folder, mode="r")["a"][...], values)


class TestDamage:
    def test_a_chunk_of_another_length_is_refused(self, folder):
        path = folder / "values" / "c.0.0.0.0"
        whole = path.read_bytes()
        for damaged in (b"", whole[:-1], whole + b"\0", whole[:60], whole * 2):
            path.write_bytes(damaged)
            with pytest.raises(StoreError, match=rf"c\.0\.0\.0\.0 is damaged: {len(damaged)} bytes instead of 124"):
                opened(folder).row("values", 0)

    def test_every_byte_of_a_chunk_counts(self):
        data = group_files({"a": Named(np.arange(3, dtype=np.float32), ("a",))}, {})["a/c.0"]
        for at in range(len(data)):
            damaged = data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
            with pytest.raises(StoreError, match="x is damaged: its checksum differs"):
                chunk_values(damaged, np.dtype("<f4"), 3, "x")
        assert chunk_values(data, np.dtype("<f4"), 3, "x").tolist() == [0, 1, 2]

    @pytest.mark.parametrize("split", ["values/c.0.0.0.0 values/c.3.0.0.0", "y/c.0 other/y/c.0"])
    def test_chunks_in_each_others_place_are_noticed(self, tmp_path, split):
        """Each has the right length and its own checksum; the array knows the checksums of its chunks."""
        folder = written(tmp_path / "g", planted())
        other = planted()["y"]
        written(tmp_path / "g" / "other", {"y": Named(other.values + 1, other.axes)})
        one, two = (folder / name for name in split.split())
        name = one.parent.name
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
        with pytest.raises(StoreError, match=rf"g/{name} is damaged: its chunks are not those that were written"):
            opened(folder).whole(name)

    def test_every_byte_of_metadata_counts(self, tmp_path):
        files = Overlay(LocalFiles(tmp_path))
        for path, data in group_files({"y": planted()["y"]}, {}).items():
            files.write(f"g/{path}", data)
        for path in (f"g/{META}", f"g/y/{META}"):
            whole = files.read(path)
            for at in range(len(whole)):
                for damaged in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
                    files.write(path, damaged)
                    with pytest.raises(StoreError, match=r"zarr\.json is damaged: .*--repair"):
                        Group(files, "g").check_array("y")
            files.write(path, whole)
        Group(files, "g").check_array("y")

    def test_metadata_of_another_array_is_noticed(self, folder):
        (folder / "y" / META).write_bytes((folder / "x" / META).read_bytes())
        with pytest.raises(StoreError, match=r"g/y/zarr\.json is damaged"):
            opened(folder).check_array("y")

    def test_what_is_no_group(self, folder):
        for data in ((folder / "y" / META).read_bytes(), b"", b"{}", b"[]"):
            (folder / META).write_bytes(data)
            with pytest.raises(StoreError, match=r"g/zarr\.json is damaged"):
                opened(folder)
        (folder / META).unlink()
        with pytest.raises(StoreError, match=r"there is no g/zarr\.json in"):
            opened(folder)

    def test_arrays_that_others_wrote_are_none_of_ours(self, tmp_path):
        group = zarr.create_group(tmp_path / "g")
        group.create_array("a", shape=(4,), chunks=(2,), dtype="f4")[...] = 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(tmp_path / "g")
        with pytest.raises(StoreError, match=r"g/zarr\.json is damaged"):
            opened(tmp_path / "g")


def test_a_group_without_arrays_keeps_its_attributes():
    files = open_files("memory://arrays/none")
    for path, data in group_files({}, {"weightatlas": {"none": "why"}}).items():
        files.write(f"g/{path}", data)
    assert list(files.sizes()) == [f"g/{META}"]
    found = Group(files, "g")
    assert (found.attributes, found.arrays) == ({"weightatlas": {"none": "why"}}, {})


def test_it_opens_from_a_bucket():
    files = open_files("memory://arrays/bucket")
    for path, data in group_files(planted(), {}).items():
        files.write(f"g/{path}", data)
    data = xarray.open_zarr("memory://arrays/bucket/g", chunks=None)
    assert same(data["values"].values, planted()["values"].values)
    assert same(Group(files, "g").whole("values"), planted()["values"].values)
