"""Paths through a middle layer, against loops over every single path."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import ODD, PROVENANCE

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.records import Paths, Replaced, Weights


def by_loops(outer, inner, origins, step):
    """Every path: {(o, m, i, y, x on the source grid relative to the target): [its products]}."""
    found = {}
    (oy, ox), (iy, ix) = origins
    for o, m, y1, x1 in np.ndindex(outer.shape):
        for i, y2, x2 in np.ndindex(inner.shape[1:]):
            at = (o, m, i, (oy + y1) * step[0] + iy + y2, (ox + x1) * step[1] + ix + x2)
            found.setdefault(at, []).append(float(outer[o, m, y1, x1]) * float(inner[m, i, y2, x2]))
    return found


def planted(
    seed=0, o=2, m=3, i=4, size=(2, 3), small=(3, 2), origins=((-1, 0), (0, -2)), step=(1, 2), margin=1, **more
):
    """A record whose window is larger than its paths by a margin, and every path of it."""
    generator = np.random.default_rng(seed)
    outer = generator.integers(-2, 3, size=(o, m, *size)).astype(np.float32)
    inner = generator.integers(-2, 3, size=(m, i, *small)).astype(np.float32)
    found = by_loops(outer, inner, origins, step)
    low = tuple(origins[0][a] * step[a] + origins[1][a] - margin for a in (0, 1))
    window = tuple((size[a] - 1) * step[a] + small[a] + 2 * margin for a in (0, 1))
    through, absolute = np.zeros((2, o, i, *window), np.float32)
    for (b, _, a, y, x), products in found.items():
        through[b, a, int(y - low[0]), int(x - low[1])] += sum(products)
        absolute[b, a, int(y - low[0]), int(x - low[1])] += sum(map(abs, products))
    fields = dict(
        source="a",
        middle="m",
        target="b",
        units=np.arange(o),
        total=through,
        through=through,
        absolute=absolute,
        outer=outer,
        inner=inner,
        target_units=o,
        middle_units=m,
        source_units=i,
        origin=low,
        stride=step,
        outer_origin=origins[0],
        inner_origin=origins[1],
        inner_stride=step,
    )
    return Paths(**(fields | more)), found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    origins=st.tuples(*[st.integers(-3, 2)] * 4),
    step=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    margin=st.integers(0, 2),
)
def test_every_path_is_counted_where_it_lies(seed, sizes, origins, step, margin):
    where = (origins[:2], origins[2:])
    paths, found = planted(seed, size=sizes[:2], small=sizes[2:], origins=where, step=step, margin=margin)
    excite, inhibit = np.zeros_like(paths.through), np.zeros_like(paths.through)
    single = np.zeros((2, 4, 3, *paths.total.shape[2:]))
    for (b, m, a, y, x), products in found.items():
        at = int(y - paths.origin[0]), int(x - paths.origin[1])
        excite[b, a, *at] += sum(p for p in products if p > 0)
        inhibit[b, a, *at] += sum(p for p in products if p < 0)
        single[b, a, m, *at] += sum(products)
    assert np.array_equal(paths.best, excite)  # small integers: exact
    assert np.array_equal(paths.worst, inhibit)
    for b, a in itertools.product(range(2), range(4)):
        maps = paths.contributions(b, a)
        assert maps.dtype == np.float32
        assert np.array_equal(maps, single[b, a])
        assert np.array_equal(maps.sum(axis=0), paths.through[b, a])
        strengths = [(m, single[b, a, m].sum(), abs(single[b, a, m]).sum()) for m in range(3)]
        wanted = sorted((s for s in strengths if s[2] > 0), key=lambda s: (-s[2], s[0]))
        assert [tuple(m) for m in paths.middle_top(b, a, 2)] == wanted[:2]


def test_cancellation():
    paths, _ = planted()
    values = paths.cancellation
    pairs = np.zeros(paths.total.shape[:2])
    for o, i in np.ndindex(pairs.shape):
        net = absolute = 0.0
        for y, x in np.ndindex(paths.total.shape[2:]):
            t, s = float(paths.through[o, i, y, x]), float(paths.absolute[o, i, y, x])
            assert values[o, i, y, x] == pytest.approx(1 - abs(t) / s if s else 0)
            net, absolute = net + abs(t), absolute + s
        pairs[o, i] = 1 - net / absolute
    assert paths.unit_cancellation == pytest.approx(pairs)
    nothing, _ = planted(outer=np.zeros((2, 3, 2, 3)), through=0 * paths.total, absolute=0 * paths.total)
    assert not nothing.cancellation.any()
    assert not nothing.unit_cancellation.any()
    assert nothing.hidden(3) == []
    assert nothing.middle_top(0, 0, 3) == []


def test_rounding_does_not_leave_the_bounds():
    one = np.float32(1)
    more = np.nextafter(one, np.float32(2))
    fields = dict(zip(("outer", "inner"), np.ones((2, 1, 1, 1, 1)), strict=True))
    paths, _ = planted(o=1, m=1, i=1, size=(1, 1), small=(1, 1), margin=0, **fields)
    shape = (1, 1, 1, 1)
    paths = dataclasses.replace(paths, through=np.full(shape, more), absolute=np.full(shape, one))
    assert paths.cancellation.tolist() == [[[[0]]]]
    assert paths.unit_cancellation.tolist() == [[0]]


def test_hidden_pairs_are_those_in_which_most_is_lost():
    paths, _ = planted(o=3, i=5, units=np.array([7, 2, 9]), target_units=10, source_numbers=np.array([3, 30, 4, 1, 5]))
    lost = []
    for o, i in np.ndindex(3, 5):
        net, absolute = abs(paths.through[o, i]).sum(), paths.absolute[o, i].sum()
        lost.append((float(net - absolute), o, i, float(net), float(absolute)))
    wanted = [(v[0], v[1:3], v[3:]) for v in sorted(lost)]
    found = paths.hidden(4)
    assert len(found) == 4
    assert found == paths.hidden(100)[:4]
    for pair, (_, (o, i), sums) in zip(found, wanted, strict=False):
        assert (pair.unit, pair.source_unit) == (paths.units[o], paths.source_numbers[i])
        assert (pair.through, pair.absolute) == sums
        assert pair.cancellation == pytest.approx(1 - sums[0] / sums[1])


def test_a_boundary_detector_hides_in_the_sum():
    """Two middle units, high-low and low-high, of which either excites the target: nothing is left of the sum."""
    inner = np.array([[[[1, -1]]], [[[-1, 1]]]], np.float32)  # [M=2, I=1, 1, 2]
    outer = np.ones((1, 2, 1, 1), np.float32)
    zero, two = np.zeros((1, 1, 1, 2)), np.full((1, 1, 1, 2), 2.0)
    paths = Paths("a", "m", "b", np.arange(1), zero, zero, two, outer, inner, 1, 2, 1)
    assert (paths.best.tolist(), paths.worst.tolist()) == ([[[[1, 1]]]], [[[[-1, -1]]]])
    assert paths.cancellation.tolist() == [[[[1, 1]]]]
    assert paths.hidden(1)[0] == (0, 0, 0, 4, 1)
    assert [tuple(m) for m in paths.middle_top(0, 0)] == [(0, 0, 2), (1, 0, 2)]


def test_what_runs_around_the_middle():
    paths, _ = planted()
    assert paths.bypass_share.tolist() == [0, 0]
    around = np.zeros_like(paths.total)
    around[1, 2, 1, 1] = -np.abs(paths.through[1]).sum()
    other = dataclasses.replace(paths, total=paths.through + around)
    assert np.array_equal(other.bypass, around)
    assert other.bypass_share == pytest.approx([0, 0.5])
    largest = paths.absolute.max()
    residue = dataclasses.replace(paths, total=paths.through + np.float32(5e-7) * largest)
    assert residue.bypass_share.tolist() == [0, 0]
    none = 0 * paths.total
    assert dataclasses.replace(paths, through=none, absolute=none, total=none).bypass_share.tolist() == [0, 0]
    assert dataclasses.replace(paths, through=none, absolute=none).bypass_share.tolist() == [1, 1]


def test_as_weights_and_addresses():
    replaced = (Replaced("ReLU", "m", "identity"),)
    numbers = np.array([3, 30, 4, 1])
    paths, _ = planted(units=np.array([4, 2]), target_units=5, source_numbers=numbers, replaced=replaced)
    w = paths.weights
    assert isinstance(w, Weights)
    assert np.array_equal(w.values, paths.total)
    assert (w.source, w.target, w.units.tolist(), w.target_units) == ("a", "b", [4, 2], 5)
    assert (w.origin, w.stride, w.replaced) == (paths.origin, paths.stride, replaced)
    assert w.source_indices.tolist() == paths.source_indices.tolist() == numbers.tolist()
    assert paths.addresses == ["b:4", "b:2"]
    assert paths.entry(2, 30) == (1, 1)
    assert np.array_equal(paths.contributions(2, 30).sum(axis=0), paths.through[1, 1])
    assert repr(paths) == "Paths(a → m → b: [O=2, M=3, I=4, H=6, W=8])"


def test_units_that_are_not_there():
    paths, _ = planted(units=np.array([4, 2]), target_units=5, source_numbers=np.array([3, 30, 4, 1]))
    for call in (paths.contributions, paths.middle_top, paths.entry):
        with pytest.raises(ArgumentError, match="unit 0 of 'b' is not among the 2"):
            call(0, 3)
        with pytest.raises(ArgumentError, match="unit 5 of 'a' is not among the 4"):
            call(2, 5)
        with pytest.raises(UnknownNameError, match="no unit 5"):
            call(5, 3)
        with pytest.raises(UnknownNameError, match="no unit 31"):
            call(2, 31)
        with pytest.raises(ArgumentError, match="'x'"):
            call(2, "x")
    with pytest.raises(ArgumentError, match="k=0"):
        paths.hidden(0)
    with pytest.raises(ArgumentError, match="k=None"):
        paths.middle_top(2, 3, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(total=np.zeros((2, 4, 3))), r"\(2, 4, 3\)"),
        (dict(through=np.zeros((2, 4, 1, 1))), r"\(2, 4, 1, 1\)"),
        (dict(units=np.arange(3)), r"and \(3,\)"),
        (dict(outer=np.zeros((2, 2, 2, 3))), r"got \(2, 2, 2, 3\)"),
        (dict(outer=np.zeros((2, 3, 2))), r"got \(2, 3, 2\)"),
        (dict(inner=np.zeros((3, 3, 3, 2))), r"\(3, 3, 3, 2\)"),
        (dict(middle_units=4), "4 middle"),
        (dict(source_units=5), "5 source units"),
        (dict(source_numbers=np.arange(3)), r"\(3,\) source_numbers"),
        (dict(inner_stride=(0.5, 1)), r"inner_stride \(0.5, 1\)"),
        (dict(inner_origin=(0.5, 0)), r"\(0.5, 0\)"),
        (dict(origin=(5, 5)), r"from \(5, 5\)"),
        (dict(outer=np.zeros((2, 3, 9, 9))), r"outer \(9, 9\)"),
    ],
)
def test_arrays_that_do_not_fit(change, words):
    with pytest.raises(ArgumentError, match=words):
        planted(**change)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded(tmp_path, suffix):
    paths, _ = planted(
        target=ODD,
        replaced=(Replaced("ReLU6", ODD, "expected derivative, mean 0.4", "measured", (0.1, 0.7)),),
        provenance=PROVENANCE,
        source_numbers=np.array([3, 30, 4, 1]),
    )
    loaded = Paths.load(paths.save(tmp_path / f"p{suffix}"))
    for field in dataclasses.fields(paths):
        one, two = getattr(paths, field.name), getattr(loaded, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes()), field.name
        else:
            assert one == two, field.name


def test_two_trained_blocks(lite0):
    """The contributions of 112 middle units add up to what PyTorch composes from both blocks."""
    import torch

    inner, outer = (wa.direct_weights(lite0, f"blocks.4.{k}") for k in (1, 2))
    both = [torch.from_numpy(w.values).double() for w in (outer.select([3, 77]), inner)]
    through, absolute = (
        torch.nn.functional.conv_transpose2d(*pair).numpy() for pair in (both, [v.abs() for v in both])
    )
    paths = Paths(
        source=inner.source,
        middle=inner.target,
        target=outer.target,
        units=np.array([3, 77]),
        total=through,
        through=through,
        absolute=absolute,
        outer=both[0].numpy(),
        inner=inner.values,
        target_units=112,
        middle_units=112,
        source_units=112,
        origin=(-4, -4),
        outer_origin=outer.origin,
        inner_origin=inner.origin,
    )
    for pair in paths.hidden(3):
        entry = paths.entry(pair.unit, pair.source_unit)
        found = paths.contributions(pair.unit, pair.source_unit)
        assert np.abs(found.sum(axis=0) - paths.through[entry]).max() < 1e-5 * paths.absolute[entry].max()
        assert sum(m.sum for m in paths.middle_top(*pair[:2], 112)) == pytest.approx(
            float(paths.through[entry].sum()), abs=1e-4
        )
        assert pair.cancellation > 0.5
