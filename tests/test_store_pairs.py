"""Weights in an atlas: what is kept is what comes back, as the same record, whole or by unit."""

import dataclasses
import json

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ODD, PROVENANCE, odd_factors, odd_weights, weights

from weightatlas.errors import ArgumentError, StoreError, UnknownNameError
from weightatlas.records import Outgoing, Replaced, Statistics, Weights, strongest_targets
from weightatlas.store import LocalFiles
from weightatlas.store.arrays import META, Named, group_files
from weightatlas.store.layout import weights_path
from weightatlas.store.pairs import (
    read_kept,
    read_record,
    read_weights,
    record_group,
    record_parts,
    uniform,
    weights_files,
)

FACTORS = tuple(np.linspace(0, 1, 7).tolist())
REPLACED = (
    Replaced("ReLU6", ODD, "expected derivative", "measured", FACTORS),
    Replaced("MaxPool2d", "pool", "average"),
    Replaced("GELU", "act", "× given", "given", (0.1 + 0.2,)),
)


def with_skip(wide, **more):
    """Weights without their skip path, which is one source unit a row, or as wide as the weights."""
    generator = np.random.default_rng(5)
    w = weights(o=6, i=4, **more)
    beside = generator.normal(size=(6, 4 if wide else 1, 3, 3)).astype(np.float32)
    first = np.zeros(6, np.int64) if wide else np.array([0, 1, 2, 3, -1, 4])
    return dataclasses.replace(w, skip_values=beside, skip_first=first, skip_included=False)


KINDS = {
    "dense": lambda: weights(o=5, i=7, h=3, w=5),
    "one of everything": lambda: weights(o=1, i=1, h=1, w=1),
    "one target": lambda: weights(
        o=1, skip_values=np.ones((1, 4, 3, 3), np.float32), skip_first=np.zeros(1, np.int64), skip_included=False
    ),
    "grouped": odd_weights,
    "depthwise": lambda: weights(o=6, i=1, source_units=6, groups=6),
    "dilated": lambda: weights(origin=(-2, 1), dilation=(2, 3), stride=(2, 1)),
    "transposed": lambda: weights(origin=(-0.5, 0.25), dilation=(0.5, 0.25), stride=(0.5, 0.25)),
    "at a place": lambda: weights(at=(3, 4), norm="bn"),
    "replaced": lambda: weights(replaced=REPLACED, provenance=PROVENANCE),
    "named": lambda: weights(i=3, source="input", sees_pixels=True, channel_names=("red", "green", ODD)),
    "skip one to one": lambda: with_skip(False),
    "skip wide": lambda: with_skip(True),
    "uniform": lambda: dataclasses.replace(weights(), values=np.repeat(weights(h=1, w=1).values, 7, 3)),
    "all zero": lambda: dataclasses.replace(weights(), values=np.zeros((6, 4, 3, 3), np.float32)),
}


def kept(w, folder):
    """The files that keep weights, written as a build does."""
    small, positions = uniform(w)
    files = LocalFiles(folder)
    for path, data in weights_files(small, strongest_targets(small), positions).items():
        files.write(f"{weights_path(w.target, w.source)}/{path}", data)
    return files


def assert_same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        else:
            assert a == b, field.name
            assert repr(a) == repr(b), field.name


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_back_as_they_were(kind, tmp_path):
    w = KINDS[kind]()
    files = kept(w, tmp_path)
    found = read_weights(files, w.source, w.target)
    assert_same(found, w)
    assert_same(found.dense(), w.dense())
    if w.skip is not None:
        assert_same(found.skip, w.skip)


@pytest.mark.parametrize("kind", KINDS)
def test_some_units_are_those_that_select_gives(kind, tmp_path):
    w = KINDS[kind]()
    files = kept(w, tmp_path)
    last = w.target_units - 1
    for units in ([0], [last], [last, 0], range(w.target_units), np.array([last])):
        assert_same(read_weights(files, w.source, w.target, units), w.select(list(units)))
    assert_same(read_weights(files, w.source, w.target, iter([0])), w.select([0]))


@settings(max_examples=15, deadline=None)
@given(
    o=st.integers(1, 5),
    per_group=st.integers(1, 3),
    groups=st.integers(1, 3),
    h=st.integers(1, 4),
    w=st.integers(1, 4),
    skip=st.sampled_from(["", "one", "wide"]),
    same=st.booleans(),
    name=st.text(st.characters(codec=None), min_size=1, max_size=8),
    data=st.data(),
)
def test_weights_of_any_shape_come_back(o, per_group, groups, h, w, skip, same, name, data, tmp_path_factory):
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    o, width = o * groups, per_group
    values = generator.normal(size=(o, width, h, w)).astype(np.float32)
    if same:
        values[:] = values[:, :, :1, :1]
    record = Weights(
        values, name, name + "2", np.arange(o), width * groups, o, groups=groups,
        origin=(data.draw(st.floats(-9, 9)), -1), dilation=(data.draw(st.floats(0.1, 3)), 1),
    )  # fmt: skip
    if skip:
        size = (o, 1 if skip == "one" else width, h, w)
        beside = generator.normal(size=size).astype(np.float32)
        first = generator.integers(-1, width, size=o)
        record = dataclasses.replace(record, skip_values=beside, skip_first=first, skip_included=False)
    files = kept(record, tmp_path_factory.mktemp("w"))
    assert_same(read_weights(files, name, name + "2"), record)
    units = data.draw(st.lists(st.integers(0, o - 1), min_size=1, max_size=4, unique=True))
    assert_same(read_weights(files, name, name + "2", units), record.select(units))


def test_a_map_that_is_the_same_everywhere_is_kept_once(tmp_path):
    w = KINDS["uniform"]()
    assert w.values.shape == (6, 4, 1, 7)
    files = kept(w, tmp_path)
    found, positions = read_kept(files, w.source, w.target)
    assert found.values.shape == (6, 4, 1, 1)
    assert positions == (1, 7)
    assert np.array_equal(found.values[..., 0, 0], w.values[..., 0, 3])


@pytest.mark.parametrize("kind", ["dense", "one of everything", "skip one to one", "skip wide"])
def test_a_map_that_is_not_the_same_everywhere_is_kept_in_full(kind):
    w = KINDS[kind]()
    assert uniform(w) == (w, (1, 1))


def test_one_element_that_differs_is_enough_to_keep_all():
    w = KINDS["uniform"]()
    for value in (np.nextafter(w.values[5, 3, 0, 6], 9), np.nan, np.inf):
        values = w.values.copy()
        values[5, 3, 0, 6] = value
        assert uniform(dataclasses.replace(w, values=values))[1] == (1, 1)
    flat = dataclasses.replace(w, values=np.full_like(w.values, np.inf))
    assert uniform(flat)[1] == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_other_libraries_read_the_same_numbers_and_coordinates(kind, tmp_path):
    w = KINDS[kind]()
    files = kept(w, tmp_path)
    data = xarray.open_zarr(tmp_path / weights_path(w.target, w.source), chunks=None)
    small, positions = uniform(w)
    outgoing = strongest_targets(small)
    inner = "source_unit" if w.groups == 1 else "source_unit_in_group"
    assert data["values"].dims == ("target_unit", inner, "y", "x")
    assert data["values"].dtype == np.float32
    assert np.array_equal(data["values"], small.values)
    assert np.array_equal(data["target_unit"], w.units)
    assert np.array_equal(data["source_unit"], np.arange(w.source_units))
    for axis, name in enumerate("yx"):
        offsets = [w.origin[axis] + n * w.dilation[axis] for n in range(small.values.shape[2 + axis])]
        assert np.array_equal(data[name], np.array(offsets, np.float32))
    assert data["outgoing_maps"].dims == ("source_unit", "rank", "y", "x")
    assert np.array_equal(data["outgoing_maps"], outgoing.maps)
    assert np.array_equal(data["outgoing_units"], outgoing.units)
    assert ("skip_values" in data) == bool(w.skip_values.size)
    about = data.attrs["weightatlas"]
    assert about["uniform"] == list(positions)
    assert about["fields"]["source"] == w.source
    assert about["fields"]["provenance"]["weights_hash"] == w.provenance.weights_hash
    assert files.exists(f"{weights_path(w.target, w.source)}/{META}")


def test_a_unit_is_one_chunk_of_float32(tmp_path):
    w = KINDS["dense"]()
    kept(w, tmp_path)
    folder = tmp_path / weights_path(w.target, w.source)
    array = zarr.open_array(folder / "values", mode="r")
    assert (array.dtype.str, array.chunks) == ("<f4", (1, 7, 3, 5))
    for unit in range(5):
        data = (folder / "values" / f"c.{unit}.0.0.0").read_bytes()
        assert data[:-4] == w.values[unit].tobytes()


class TestRefusals:
    def test_weights_of_some_units(self):
        w = weights()
        for some in (
            w.select([0, 1]),
            w.select([1, 0, 2, 3, 4, 5]),  # chunks are found by their unit's number
            w.select([0, 0, 1, 2, 3, 4]),
            dataclasses.replace(w, source_numbers=np.array([3, 1, 0, 2])),
        ):
            with pytest.raises(ArgumentError, match="between all units of two layers, not Weights"):
                weights_files(some, strongest_targets(some))

    def test_weights_that_contain_their_skip_path(self):
        w = dataclasses.replace(with_skip(False), skip_included=True)
        with pytest.raises(ArgumentError, match="skip='exclude'"):
            weights_files(w, strongest_targets(w))

    def test_units_that_do_not_exist(self, tmp_path):
        files = kept(weights(), tmp_path)
        with pytest.raises(UnknownNameError, match="layer 'conv' has no unit 6; its 6 units are 0 … 5"):
            read_weights(files, "in", "conv", [0, 6])
        with pytest.raises(UnknownNameError, match="no unit -1"):
            read_weights(files, "in", "conv", [-1])
        for units in ([], [0.5], 3, [True], "a"):
            with pytest.raises(ArgumentError):
                read_weights(files, "in", "conv", units)

    def test_weights_that_are_not_there(self, tmp_path):
        files = kept(weights(), tmp_path)
        for source, target in (("conv", "in"), ("in", "in"), ("in", "Conv")):
            with pytest.raises(StoreError, match=r"there is no weights/.*/zarr\.json in"):
                read_weights(files, source, target)

    def test_a_record_of_another_kind(self, tmp_path):
        files = kept(weights(), tmp_path)
        with pytest.raises(StoreError, match="weights/conv/in holds Weights, not Statistics"):
            read_record(files, "weights/conv/in", Statistics)


def statistics(names=("a|mean", ODD, "b|rate")):
    lengths = np.array([2, 0, 3])
    return Statistics(names, lengths, np.array([0.1, np.nan, 3, -0.0, np.inf], np.float32), 9, PROVENANCE)


def factors():
    return dataclasses.replace(odd_factors(), bound=0.75)


@pytest.mark.parametrize("make", [statistics, factors])
def test_any_record_comes_back_from_a_group(make, tmp_path):
    record, files = make(), LocalFiles(tmp_path)
    for path, data in record_group(record).items():
        files.write(f"a/b/{path}", data)
    found = read_record(files, "a/b", type(record))
    assert_same(found, record)
    arrays, about = record_parts(record)
    assert (about["kind"], set(arrays)) == (type(record).__name__, set(zarr.open_group(tmp_path / "a/b").array_keys()))


def test_a_group_whose_parts_do_not_fit_is_no_record(tmp_path):
    files = LocalFiles(tmp_path)
    whole = record_parts(statistics())[1]
    odd = {"lengths": Named(np.array([2, 0, 9]), ("a",)), "values": Named(np.zeros(5, np.float32), ("b",))}
    for fields in (whole["fields"], whole["fields"] | {"names": None}, {}):
        for path, data in group_files(odd, {"weightatlas": {**whole, "fields": fields}}).items():
            files.write(f"s/{path}", data)
        with pytest.raises(StoreError, match=r"s holds no complete Statistics: ."):
            read_record(files, "s", Statistics)


def test_metadata_is_strict_json(tmp_path):
    about = {"weightatlas": {"share": float("nan"), "all": [float("inf"), 1.5], "name": ODD}}
    data = group_files({"a": Named(np.array([np.nan], np.float32), ("a",))}, about)

    def refuse(name):
        raise ValueError(name)

    for path in ("zarr.json", "a/zarr.json"):
        known = json.loads(data[path], parse_constant=refuse)
        assert known["node_type"] == ("group" if path == META else "array")
    assert json.loads(data[META])["attributes"]["weightatlas"] == {"share": None, "all": [None, 1.5], "name": ODD}


def test_what_source_units_act_on_is_kept_beside(tmp_path):
    w = KINDS["dense"]()
    kept(w, tmp_path)
    found = zarr.open_group(tmp_path / weights_path(w.target, w.source), mode="r")
    outgoing: Outgoing = strongest_targets(w)
    assert found["outgoing_maps"].chunks == (1, *outgoing.maps.shape[1:])  # a source unit is one file, too
    for source, units in enumerate(found["outgoing_units"][...]):
        for rank, unit in enumerate(units):
            assert np.array_equal(found["outgoing_maps"][source, rank], w.values[unit, source])
