"""The strongest sources of a unit: planted ones are found, and the small sums are those of plain loops."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ODD, odd_weights, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightValuesError
from weightatlas.records import Connections, Weights


def by_loops(w, row, by):
    """(number, strength, sum, square) of every source unit a row reads, element by element."""
    found = []
    for place, number in enumerate(w.source_indices[list(w.seen_units(row))]):
        strength = total = square = 0.0
        for v in w.values[row, place].ravel().tolist():
            counts = {"l2": True, "excite": v > 0, "inhibit": v < 0}[by]
            strength, total, square = strength + counts * v * v, total + v, square + v * v
        found.append((int(number), math.sqrt(strength), total, square))
    return found


def check(w, unit, k, by):
    row = w.units.tolist().index(unit)
    known = by_loops(w, row, by)
    wanted = sorted((f for f in known if f[1] > 0), key=lambda f: (-np.float32(f[1]), f[0]))[:k]
    top = w.top(unit, k, by)
    assert top.sources.tolist() == [f[0] for f in wanted]
    assert np.allclose(top.strengths, [f[1] for f in wanted], rtol=1e-6)
    assert np.allclose(top.sums, [f[2] for f in wanted], rtol=1e-5, atol=1e-5)
    squares = sum(f[3] for f in known)
    assert top.share == pytest.approx(sum(f[3] for f in wanted) / squares if squares else 1)
    assert top.shown_of == sum(f[3] > 0 for f in known)
    places = {f[0]: i for i, f in enumerate(known)}
    for number, values in zip(top.sources, top.maps, strict=True):
        assert np.array_equal(values, w.values[row, places[int(number)]])
    return top


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.sampled_from([1, 2, 4]),
    k=st.integers(1, 12),
    by=st.sampled_from(["l2", "excite", "inhibit"]),
    unit=st.sampled_from([0, 5, 7]),
    subset=st.booleans(),
)
def test_top_is_what_loops_find(seed, groups, k, by, unit, subset):
    generator = np.random.default_rng(seed)
    values = generator.integers(-2, 3, size=(3, 8 // groups, 2, 3)).astype(np.float32)  # many ties and zeros
    numbers = np.array([30, 2, 9, 4, 17, 5, 11, 8]) if subset else np.zeros(0, np.int64)
    w = Weights(values, "in", "conv", np.array([7, 0, 5]), 8, 8, groups=groups, source_numbers=numbers)
    top = check(w, unit, k, by)
    dense = w.dense().top(unit, k, by)
    assert (dense.sources.tolist(), dense.share, dense.shown_of) == (top.sources.tolist(), top.share, top.shown_of)


def test_planted_strong_units():
    w = weights(o=4, i=50, h=5, w=5)
    w.values[:] *= 0.01
    w.values[2, 31, 1, 4], w.values[2, 7, 0, 0], w.values[2, 40] = 3, -5, 0.1
    top = w.top(2, 3)
    assert top.sources.tolist() == [7, 31, 40]
    assert top.addresses == ["in:7", "in:31", "in:40"]
    assert (top.address, top.unit, top.by) == ("conv:2", 2, "l2")
    assert top.share > 0.99
    assert w.top(2, 1, by="excite").sources.tolist() == [31]
    assert w.top(2, 1, "inhibit").sources.tolist() == [7]
    assert (
        repr(w.top(2, 2))
        == f"Connections(conv:2 ← in: 2 of 50 units hold {w.top(2, 2).share:.0%} of the squared weights)"
    )
    assert "← in that inhibit: 1 of" in repr(w.top(2, 1, "inhibit"))


def test_ties_go_by_unit_number_and_k_may_be_too_large():
    values = np.ones((1, 4, 1, 2), np.float32)
    values[0, 1] *= -1
    w = weights(o=1, i=4, h=1, w=2, values=values, source_numbers=np.array([9, 3, 20, 1]))
    assert w.top(0, 100).sources.tolist() == [1, 3, 9, 20]
    assert w.top(0, 2).sources.tolist() == [1, 3]
    assert w.top(0, 2).share == 0.5
    assert w.top(0, 100, "excite").sources.tolist() == [1, 9, 20]
    assert w.top(0, 100, "inhibit").sources.tolist() == [3]


def test_units_without_weights():
    w = weights()
    w.values[3] = 0
    top = w.top(3)
    assert (top.maps.shape, top.share, top.shown_of) == ((0, 3, 3), 1.0, 0)
    w.values[4] = abs(w.values[4])
    none = w.top(4, by="inhibit")
    assert (len(none.sources), none.share, none.shown_of) == (0, 0.0, 4)


def test_where_the_maps_lie_is_kept():
    w = odd_weights()
    top = w.top(1, 1)
    assert (top.origin, top.stride, top.dilation, top.provenance) == (w.origin, w.stride, w.dilation, w.provenance)


def test_bad_values_stop_only_their_unit():
    w = weights()
    w.values[1, 2, 0, 0] = np.nan
    with pytest.raises(WeightValuesError, match="conv:1"):
        w.top(1)
    assert len(w.top(0).sources) == 4


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((9,), UnknownNameError, "no unit 9"),
        ((-1,), UnknownNameError, "no unit -1"),
        (("3",), ArgumentError, "'3'"),
        ((1.5,), ArgumentError, "1.5"),
        ((0, 0), ArgumentError, "k=0"),
        ((0, 2.0), ArgumentError, "k=2.0"),
        ((0, None), ArgumentError, "k=None"),
        ((0, 3, "l1"), ArgumentError, "by='l1' is none of 'l2', 'excite', 'inhibit'"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words.replace("[", r"\[")):
        weights().top(*arguments)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("k", [1, 3])
def test_saved_and_loaded(tmp_path, suffix, k):
    w = odd_weights()
    if k == 1:
        w.values[2] = 0  # nothing to show is saved as well
    top = w.top(2, k)
    loaded = Connections.load(top.save(tmp_path / f"c{suffix}"))
    for field in dataclasses.fields(top):
        one, two = getattr(top, field.name), getattr(loaded, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes()), field.name
        else:
            assert repr(one) == repr(two), field.name
    assert repr(loaded) == repr(top)
    assert ODD in loaded.address
    with pytest.raises(LoadError, match=r"use Connections\.load"):
        Weights.load(tmp_path / f"c{suffix}")


def test_arrays_that_do_not_fit():
    top = weights().top(0, 2)
    for wrong in (
        dict(sources=np.arange(3)),
        dict(maps=np.zeros((2, 3))),
        dict(strengths=np.zeros(0)),
        dict(sums=np.zeros((2, 1))),
    ):
        with pytest.raises(ArgumentError, match="got shapes"):
            dataclasses.replace(top, **wrong)


def test_a_trained_block(lite0):
    w = wa.direct_weights(lite0, "blocks.4.2")
    for by in ("l2", "excite", "inhibit"):
        check(w, 12, 8, by)
    depthwise = wa.direct_weights(lite0, "blocks.4.2.conv_dw")
    top = depthwise.top(17)
    assert (top.sources.tolist(), top.share) == ([17], 1.0)
