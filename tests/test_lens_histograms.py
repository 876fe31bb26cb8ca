"""Histograms against counting in exact arithmetic, and against themselves however the values are cut."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weightatlas.lens.histograms import BINS, LEAST_STEP, Histogram, histogram, steps_for, widened

pytestmark = pytest.mark.usefixtures("one_thread")
FLOATS = st.floats(width=32)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def by_hand(values, bins):
    """Bins of the smallest power of two, in fractions."""
    exact = [Fraction(v) for v in values if math.isfinite(v)]
    power = -126
    while any(not -bins // 2 <= math.floor(v / Fraction(2) ** power) < bins // 2 for v in exact):
        power += 1
    counts = [0] * bins
    for v in exact:
        counts[math.floor(v / Fraction(2) ** power) + bins // 2] += 1
    odd = [sum(map(math.isnan, values)), values.count(-math.inf), values.count(math.inf)]
    return counts, 2.0**power, odd


def same(one, other):
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("counts", "steps", "nonfinite"))


@settings(max_examples=150, deadline=None)
@given(values=st.lists(FLOATS, min_size=1, max_size=12), bins=st.sampled_from([4, 8, BINS]))
def test_counts_are_those_of_exact_arithmetic(values, bins):
    found = histogram(torch.tensor(values, dtype=torch.float32)[None, None], bins)
    counts, step, odd = by_hand(values, bins)
    assert found.steps.tolist() == [step]
    assert found.counts[0].tolist() == counts
    assert found.nonfinite[0].tolist() == odd


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.lists(FLOATS | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 128.0, -128.0, 3e38]), min_size=3, max_size=3), min_size=2, max_size=9),
    order=st.randoms(use_true_random=False), cut=st.integers(1, 8),
)  # fmt: skip
def test_neither_order_nor_parts_change_anything(values, order, cut):
    whole = histogram(torch.tensor(values, dtype=torch.float32)[..., None])
    order.shuffle(values)
    parts = [values[:cut], values[cut:]] if cut < len(values) else [values]
    found = [histogram(torch.tensor(p, dtype=torch.float32)[..., None]) for p in parts]
    merged = found[0] if len(found) == 1 else found[0].with_more(found[1])
    assert same(merged, whole)
    if len(found) > 1:
        assert same(found[1].with_more(found[0]), whole)


@given(FINITE, FINITE)
def test_steps_are_the_smallest_that_hold_both_ends(one, other):
    least, most = sorted((one, other))
    step = float(steps_for(np.array([least]), np.array([most]))[0])
    assert math.frexp(step)[0] == 0.5

    def holds(step):
        return all(-128 <= math.floor(Fraction(v) / Fraction(step)) < 128 for v in (least, most))

    assert holds(step)
    assert step == LEAST_STEP or not holds(step / 2)


def test_merging_is_counting_in_wider_bins():
    values = np.random.default_rng(0).normal(size=1000)

    def counted(step):
        return np.bincount(np.floor(values / step).astype(int) + 128, minlength=256)[None]

    for double in (0, 1, 3, 60, 200):
        wide = 2.0 ** (double - 4)
        assert np.array_equal(widened(counted(2.0**-4), np.array([2.0**-4]), np.array([wide])), counted(wide)), double


def test_units_have_widths_of_their_own():
    values = torch.tensor([[[0.0, 0.0], [1.0, 3.0], [-200.0, 7.0], [torch.nan, torch.inf]]])
    found = histogram(values)
    assert found.steps.tolist() == [LEAST_STEP, 2.0**-5, 2.0, LEAST_STEP]
    assert found.counts.sum(1).tolist() == [2, 2, 2, 0]
    assert found.counts[2, 128 - 100] == found.counts[2, 128 + 3] == 1
    assert found.nonfinite.tolist() == [[0, 0, 0]] * 3 + [[1, 0, 1]]


def test_many_values_are_sorted_in_several_goes(monkeypatch):
    from weightatlas.lens import histograms

    values = torch.randn(3, 7, 11)
    values[1, 4, 2] = torch.nan
    whole = histogram(values)
    monkeypatch.setattr(histograms, "_AT_ONCE", 60)
    assert same(histogram(values), whole)
    assert isinstance(whole, Histogram)
    for unit in range(7):
        edges = (np.arange(BINS + 1) - BINS // 2) * whole.steps[unit]
        assert np.array_equal(whole.counts[unit], np.histogram(values[:, unit].flatten(), edges)[0])
