"""Agreement of two sets of weights, against loops over every unit, source unit and position."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, WeightValuesError
from weightatlas.records import Agreement, agreement


def placed(w, row):
    """{(source unit, y, x on the source grid): weight} of one target unit."""
    found = {}
    for place, number in enumerate(w.seen_units(row)):
        for y, x in np.ndindex(w.values.shape[2:]):
            at = (number, w.origin[0] + y * w.dilation[0], w.origin[1] + x * w.dilation[1])
            found[at] = float(w.values[row, place, y, x])
    return found


def by_loops(a, b, row, k):
    one, two = placed(a, row), placed(b, row)
    lengths = [math.sqrt(sum(v * v for v in d.values())) for d in (one, two)]
    cosine = sum(v * two.get(at, 0) for at, v in one.items()) / (lengths[0] * lengths[1]) if all(lengths) else math.nan
    tops = []
    for d in (one, two):
        norms = {}
        for (number, _, _), v in d.items():
            norms[number] = norms.get(number, 0) + v * v
        strong = sorted((n for n in norms if norms[n] > 0), key=lambda n: (-np.float32(math.sqrt(norms[n])), n))
        tops.append(set(strong[:k]))
    return cosine, len(tops[0] & tops[1])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    origins=st.tuples(*[st.integers(-3, 3)] * 4),
    groups=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    k=st.integers(1, 9),
)
def test_agreement_is_what_loops_find(seed, sizes, origins, groups, dilation, k):
    a = weights(o=3, i=6, h=sizes[0], w=sizes[1], seed=seed, origin=origins[:2])
    values = np.random.default_rng(seed + 1).normal(size=(3, 6 // groups, *sizes[2:])).astype(np.float32)
    b = weights(o=3, values=values, source_units=6, groups=groups, origin=origins[2:], dilation=(dilation,) * 2)
    b = dataclasses.replace(b, target_units=6, units=np.array([0, 3, 5]))
    a = dataclasses.replace(a, target_units=6, units=np.array([0, 3, 5]))
    for one, two in ((a, b), (b, a)):
        found = agreement(one, two, k)
        for row in range(3):
            cosine, overlap = by_loops(one, two, row, min(k, 6))
            assert found.cosine[row] == pytest.approx(cosine, abs=1e-6)
            assert found.overlap[row] == overlap
        assert found.k == min(k, 6)


def test_of_itself_and_of_its_opposite():
    w = weights(o=4, i=20)
    same = agreement(w, w)
    assert same.cosine == pytest.approx(np.ones(4))
    assert same.overlap.tolist() == [10] * 4
    assert (same.mean_cosine, same.mean_overlap) == (pytest.approx(1), 10)
    opposite = agreement(w, dataclasses.replace(w, values=-3 * w.values), k=2)
    assert opposite.cosine == pytest.approx(-np.ones(4))
    assert opposite.mean_overlap == 2
    assert repr(same) == "Agreement(in → conv: 4 units, mean cosine 1.00, 10.0 of 10 strongest sources shared)"


def test_a_larger_window_of_zeros_changes_nothing():
    w = weights(h=3, w=3, origin=(-1, -1))
    wide = np.zeros((6, 4, 7, 9), np.float32)
    wide[:, :, 2:5, 4:7] = w.values
    assert agreement(w, weights(values=wide, origin=(-3, -5))).cosine == pytest.approx(np.ones(6))
    shifted = agreement(w, weights(values=wide, origin=(-3, 5)))
    assert shifted.cosine.tolist() == [0] * 6  # nowhere together
    assert shifted.mean_overlap == 4  # yet the same source units


def test_units_without_weights_have_no_cosine():
    w = weights()
    w.values[2] = 0
    found = agreement(w, weights(seed=1))
    assert np.flatnonzero(np.isnan(found.cosine)).tolist() == [2]
    assert found.overlap[2] == 0
    assert found.mean_cosine == pytest.approx(np.nanmean(found.cosine))
    nothing = agreement(weights(values=np.zeros((6, 4, 3, 3))), w)
    assert math.isnan(nothing.mean_cosine)
    assert nothing.mean_overlap == 0


class TestSkip:
    def residual(self, seed=0, **more):
        w = weights(o=4, i=4, seed=seed)
        skip = np.zeros((4, 1, 3, 3), np.float32)
        skip[:, 0, 1, 1] = 100
        values = w.values.copy()
        for u in range(4):
            values[u, u] += skip[u, 0]
        return w, dataclasses.replace(w, values=values, skip_values=skip, skip_first=np.arange(4), **more)

    def test_the_identity_path_hides_everything_unless_it_is_taken_off(self):
        (bare, one), (other, two) = self.residual(0), self.residual(1)
        assert agreement(one, two).cosine.min() > 0.95
        off = agreement(one, two, skip="exclude")
        assert off.cosine == pytest.approx(agreement(bare, other).cosine, abs=1e-4)
        assert off.skip == "exclude"
        assert "skip path excluded" in repr(off)

    def test_only_what_is_contained_is_taken_off(self):
        bare, one = self.residual(0)
        left_out = dataclasses.replace(one, values=bare.values, skip_included=False)
        assert agreement(one, left_out, skip="exclude").cosine == pytest.approx(np.ones(4), abs=1e-6)
        assert agreement(one, bare, skip="exclude").cosine == pytest.approx(np.ones(4), abs=1e-6)
        assert agreement(one, left_out).cosine.max() < 0.5

    def test_another_word(self):
        with pytest.raises(ArgumentError, match="skip='no' is none of 'include', 'exclude'"):
            agreement(weights(), weights(), skip="no")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(source="else"), "same source in both.*'in'.*'else'"),
        (dict(target="else"), "same target"),
        (dict(units=np.array([0, 1, 2, 3, 5, 4])), "same target units"),
        (dict(source_numbers=np.array([1, 2, 3, 4])), "same source units"),
        (dict(stride=(2, 2)), "same stride"),
        (dict(origin=(0.5, 0)), "between each other's positions"),
        (dict(dilation=(0.5, 1)), "between each other's positions"),
    ],
)
def test_weights_that_do_not_match(change, words):
    a, b = weights(), weights(**change)
    with pytest.raises(ArgumentError, match=words) as caught:
        agreement(a, b)
    assert str(caught.value).count("Weights(") == 2  # both are named


def test_positions_of_their_own_must_be_the_same():
    a, b, c = (weights(at=at) for at in ((3, 3), (4, 3), None))
    with pytest.raises(ArgumentError, match=r"\(3, 3\).*\(4, 3\)"):
        agreement(a, b)
    assert agreement(a, c).mean_cosine == pytest.approx(1)


def test_bad_values_and_counts():
    bad = weights()
    bad.values[1] = np.inf
    for pair in ((bad, weights()), (weights(), bad)):
        with pytest.raises(WeightValuesError, match="conv:1"):
            agreement(*pair)
    with pytest.raises(ArgumentError, match="k=0"):
        agreement(weights(), weights(), k=0)
    with pytest.raises(ArgumentError, match="got shapes"):
        Agreement(np.arange(2), np.zeros(3), np.zeros(2), 1, "a", "b")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded(tmp_path, suffix):
    w = weights()
    w.values[2] = 0
    found = agreement(w, weights(seed=1), k=3)
    loaded = Agreement.load(found.save(tmp_path / f"a{suffix}"))
    for field in dataclasses.fields(found):
        one, two = getattr(found, field.name), getattr(loaded, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.tobytes()) == (two.dtype, two.tobytes()), field.name
        else:
            assert one == two, field.name


def test_a_trained_block_in_pieces(lite0):
    """A depthwise convolution agrees with itself unfolded, and a block not with itself from other source units."""
    compact = wa.direct_weights(lite0, "blocks.4.2.conv_dw")
    assert agreement(compact, compact.dense()).mean_cosine == pytest.approx(1)
    block = wa.direct_weights(lite0, "blocks.4.1")
    mixed = dataclasses.replace(block, values=block.values[:, ::-1])
    found = agreement(block, mixed)
    assert abs(found.mean_cosine) < 0.1
    assert found.mean_overlap < 2
