"""Records: what is saved is what is loaded, bit for bit, and the small sums they do are right."""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ODD, RECORDS, odd_banding, odd_factors, odd_weights

from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightAtlasError, WeightValuesError
from weightatlas.records import Provenance, Weights

SUFFIXES = (".npz", ".safetensors")


def bits(value):
    """A value in a form that compares exactly, NaN included."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_survives_the_file(tmp_path, kind, suffix):
    record = RECORDS[kind]()
    path = record.save(tmp_path / "new" / "folder" / f"ä 層{suffix}")
    loaded = type(record).load(path)
    for field in dataclasses.fields(record):
        assert bits(getattr(loaded, field.name)) == bits(getattr(record, field.name)), field.name
    assert os.listdir(path.parent) == [path.name]


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32), min_size=4, max_size=4),
    name=st.text(),
    notes=st.lists(st.text(), max_size=3),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_numbers_and_names_survive(tmp_path_factory, numbers, name, notes, suffix):
    values = np.array(numbers, np.float32).reshape(1, 1, 2, 2)
    record = Weights(values, name, name, np.array([0]), 1, 1, provenance=Provenance(name, notes=tuple(notes)))
    loaded = Weights.load(record.save(tmp_path_factory.mktemp("r") / f"w{suffix}"))
    assert loaded.values.tobytes() == values.tobytes()
    assert (loaded.source, loaded.provenance) == (name, record.provenance)


def test_views_are_saved_as_they_look(tmp_path):
    base = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    record = Weights(base[::-1, :, :, ::2].transpose(0, 1, 3, 2), "s", "t", np.arange(2), 2, 2)
    for suffix in SUFFIXES:
        assert np.array_equal(Weights.load(record.save(tmp_path / f"v{suffix}")).values, record.values)


class TestWeights:
    def test_dense_puts_every_group_at_its_units(self):
        record = odd_weights(o=6, i=4, groups=2, dilation=(1, 1))
        expected = np.zeros((6, 4, 3, 5), np.float32)
        for o in range(6):
            for i in range(2):
                expected[o, (o // 3) * 2 + i] = record.values[o, i]
        dense = record.dense()
        assert np.array_equal(dense.values, expected)
        assert (dense.groups, dense.origin, dense.stride) == (1, record.origin, record.stride)
        assert [list(record.seen_units(row)) for row in range(6)] == [[0, 1]] * 3 + [[2, 3]] * 3

    def test_dense_of_some_units(self):
        record = odd_weights(o=6, i=4, groups=2, dilation=(1, 1))
        some = record.select([5, 0])
        assert np.array_equal(some.dense().values, record.dense().values[[5, 0]])
        assert (list(some.seen_units(0)), list(some.seen_units(1))) == ([2, 3], [0, 1])

    def test_dense_spreads_dilated_kernels(self):
        record = odd_weights(groups=1, dilation=(2, 3))
        dense = record.dense()
        expected = np.zeros((6, 4, 5, 13), np.float32)
        for y in range(3):
            for x in range(5):
                expected[:, :, 2 * y, 3 * x] = record.values[:, :, y, x]
        assert np.array_equal(dense.values, expected)
        assert dense.dilation == (1, 1)
        assert dense.dense().values.shape == expected.shape

    def test_select_and_addresses(self):
        record = odd_weights(target="conv", units=np.array([3, 17, 4, 5, 9, 11]), target_units=20, groups=1)
        some = record.select(iter([17, 3, 17]))
        assert some.addresses == ["conv:17", "conv:3", "conv:17"]
        assert np.array_equal(some.values, record.values[[1, 0, 1]])
        assert some.provenance == record.provenance
        for wrong, error in (
            ([18], ArgumentError),
            ([20], UnknownNameError),
            ([-1], UnknownNameError),
            ([], ArgumentError),
        ):
            with pytest.raises(error):
                record.select(wrong)
        for wrong in (3, "3", [1.5], [None]):
            with pytest.raises(ArgumentError):
                record.select(wrong)

    def test_require_finite_names_the_units(self):
        record = odd_weights(target="conv")
        record.require_finite()
        record.values[1, 0, 0, 0], record.values[4, 1, 2, 2] = np.nan, -np.inf
        with pytest.raises(WeightValuesError, match=r"2 of 180 weights .* in 2 of 6 units: conv:1, conv:4\."):
            record.require_finite()

    @pytest.mark.parametrize(
        "wrong", [dict(values=np.zeros((6, 4))), dict(units=np.arange(5)), dict(source_units=5), dict(groups=3)]
    )
    def test_arrays_that_do_not_fit(self, wrong):
        with pytest.raises(ArgumentError):
            odd_weights(**wrong)


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_frozen_and_tell_themselves_in_a_line(kind):
    record = RECORDS[kind]()
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, None)
    assert repr(record).startswith(type(record).__name__ + "(")


def test_factors_multiply_out():
    record = odd_factors()
    expected = np.zeros((2, 5, 3, 3))
    for o, i, y, x, k in np.ndindex(2, 5, 3, 3, 2):
        expected[o, i, y, x] += record.space[o, y, x, k] * record.channels[k, i]
    assert np.allclose(record.reconstruct(), expected, atol=1e-6)
    own = np.stack([record.channels, 2 * record.channels])
    unit = dataclasses.replace(record, channels=own, per_unit=True)
    assert np.allclose(unit.reconstruct()[1], 2 * expected[1], atol=1e-6)


def test_banding_reads_like_a_list():
    found = odd_banding()
    assert (len(found), found[0].layer, [r.layer for r in found], found.banded) == (2, "a", ["a", ODD], ["a"])
    assert found.to_dicts()[0]["interval"] == (0.1, 0.4)
    assert issubclass(LoadError, WeightAtlasError)
