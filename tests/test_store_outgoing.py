"""The strongest targets of every source unit, held against plain loops over single weights."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import PROVENANCE, weights

from weightatlas.errors import ArgumentError, WeightValuesError
from weightatlas.records import Outgoing, Weights, strongest_targets

BY = ("l2", "excite", "inhibit")


def by_loops(w):
    """For every source unit its targets: ``{unit: {"l2", "excite", "inhibit", "square", "map"}}``, element by element."""
    found = {int(s): {} for s in w.source_indices}
    for row, unit in enumerate(w.units.tolist()):
        for place, source in enumerate(w.seen_units(row)):
            sums = dict.fromkeys((*BY, "square"), 0.0)
            for v in w.values[row, place].ravel().tolist():
                sums["square"] += v * v
                sums["excite" if v > 0 else "inhibit"] += v * v
            sums["l2"] = sums["square"]
            strengths = {by: float(np.float32(math.sqrt(sums[by]))) for by in BY}
            number = int(w.source_indices[source])
            found[number][unit] = {**strengths, "square": sums["square"], "map": w.values[row, place]}
    return found


def order(targets, by):
    """Units with any strength, strongest first; of equal ones the smaller row."""
    rows = {unit: row for row, unit in enumerate(targets)}
    return sorted((u for u in targets if targets[u][by] > 0), key=lambda u: (-targets[u][by], rows[u]))


def check(w, k):
    found, known = strongest_targets(w, k), by_loops(w)
    assert found.sources.tolist() == list(known)
    assert found.units.shape == (w.source_units, min(k, len(w.units)))
    assert found.maps.shape == (*found.units.shape, *w.values.shape[2:])
    for place, targets in enumerate(known.values()):
        listed = found.units[place].tolist()
        units = [u for u in listed if u >= 0]
        assert listed == units + [-1] * (len(listed) - len(units))
        assert len(set(units)) == len(units)
        by_l2 = order(targets, "l2")
        assert len(units) == min(k, len(by_l2))
        assert units == [u for u in by_l2 if u in units]  # by falling norm
        for by in BY:  # the strongest of each kind
            assert set(order(targets, by)[: k // 3]) <= set(units), by
        for rank, unit in enumerate(listed):
            expected = targets[unit]["map"] if unit >= 0 else np.zeros(w.values.shape[2:], np.float32)
            assert np.array_equal(found.maps[place, rank], expected)
        total = sum(t["square"] for t in targets.values())
        held = sum(targets[u]["square"] for u in units)
        assert found.shares[place] == pytest.approx(held / total if total else 1, rel=1e-5)
        assert found.shown_of[place] == len(by_l2)
        assert found.norms[place] == pytest.approx(math.sqrt(total), rel=1e-6)
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    o=st.integers(1, 9),
    width=st.integers(1, 3),
    groups=st.integers(1, 3),
    k=st.integers(1, 12),
    ties=st.booleans(),
    some=st.booleans(),
)
def test_the_strongest_targets_are_what_loops_find(seed, o, width, groups, k, ties, some):
    generator = np.random.default_rng(seed)
    o, shape = o * groups, (o * groups, width, 2, 2)
    values = generator.integers(-2, 3, size=shape) * generator.integers(0, 2, size=(o, width, 1, 1))
    values = values if ties else generator.normal(size=shape) * np.exp(generator.normal(size=(o, width, 1, 1)))
    w = Weights(values.astype(np.float32), "in", "conv", np.arange(o), width * groups, o, groups=groups)
    check(w.select(generator.permutation(o)[: generator.integers(1, o + 1)].tolist()) if some else w, k)


def test_planted_targets():
    w = weights(o=40, i=3, h=2, w=2)
    w.values[:] = 0
    w.values[7, 1, 0, 0] = 5  # excites
    w.values[31, 1] = -4  # inhibits, and is the strongest by far
    w.values[12, 1] = [[2, -2], [2, -2]]
    w.values[3, 0, 1, 1] = 1
    found = check(w, 3)
    assert found.units.tolist() == [[3, -1, -1], [31, 7, 12], [-1, -1, -1]]
    assert found.shown_of.tolist() == [1, 3, 0]
    assert found.norms.tolist() == [1, pytest.approx(math.sqrt(25 + 64 + 16)), 0]
    assert found.shares.tolist() == [1, 1, 1]
    assert check(w, 1).shares[1] == pytest.approx(64 / 105)


def test_weak_ones_of_a_kind_are_not_crowded_out():
    """A source that excites thirty units strongly still shows the few that it inhibits."""
    w = weights(o=34, i=1, h=1, w=1)
    w.values[:, 0, 0, 0] = [*range(100, 130), -1, -2, -3, -4]
    units = check(w, 9).units[0].tolist()
    assert units == [29, 28, 27, 26, 25, 33, 32, 31, 30]  # five that excite and four that inhibit, in turn


def test_two_strengths_that_differ_in_the_last_bit():
    w = weights(o=2, i=1, h=1, w=1)
    w.values[:, 0, 0, 0] = [1, np.nextafter(np.float32(1), np.float32(2))]
    assert check(w, 1).units.tolist() == [[1]]


def test_tiny_weights_are_weights():
    w = weights(o=2, i=2, h=1, w=1)
    w.values[:] = 0
    w.values[1, 0] = 1e-45
    assert check(w, 2).units.tolist() == [[1, -1], [-1, -1]]


def test_source_units_that_were_asked_for_keep_their_numbers():
    w = weights(o=5, i=4, source_numbers=np.array([30, 2, 9, 4]))
    assert check(w, 2).sources.tolist() == [30, 2, 9, 4]


def test_it_tells_what_it_is_of_and_survives_a_file(tmp_path):
    found = strongest_targets(weights(provenance=PROVENANCE), 3)
    assert (found.source, found.target, found.provenance) == ("in", "conv", PROVENANCE)
    assert repr(found) == "Outgoing(in → conv: the 3 strongest targets of 4 units)"
    loaded = Outgoing.load(found.save(tmp_path / "o.npz"))
    for field in dataclasses.fields(found):
        assert np.array_equal(getattr(loaded, field.name), getattr(found, field.name)), field.name
    kinds = {"units": "int64", "maps": "float32", "shares": "float32", "shown_of": "int64", "norms": "float32"}
    assert {name: str(getattr(found, name).dtype) for name in kinds} == kinds
    assert strongest_targets(weights(o=30)).units.shape == (4, 24)


def test_what_makes_no_sense_is_refused():
    for k in (0, -1, 1.5, "3", None, True):
        with pytest.raises(ArgumentError, match="no number of target units"):
            strongest_targets(weights(), k)
    bad = weights()
    bad.values[3, 1, 0, 0] = np.nan
    with pytest.raises(WeightValuesError, match="conv:3"):
        strongest_targets(bad)
    found = strongest_targets(weights(), 3)
    for name in ("units", "maps", "shares", "shown_of", "norms", "sources"):
        with pytest.raises(ArgumentError, match="Outgoing needs units"):
            dataclasses.replace(found, **{name: getattr(found, name)[1:]})
    with pytest.raises(ArgumentError, match="Outgoing needs units"):
        dataclasses.replace(found, maps=found.maps[..., 0])
