"""The order of families: planted lines come back in order, planted angles are measured, what has none says so."""

import numpy as np
import pytest

from weightatlas.figures.ordering import angles, by_similarity


def along_a_line(n, spread=2.0):
    """Profiles ``[n, n]`` of units on a line: each is like its neighbours, and less like those far away."""
    return np.array([[np.exp(-((a - b) ** 2) / spread**2) for b in range(n)] for a in range(n)])


def assert_in_line(found, planted):
    """Places are those of the planted order, from either end."""
    assert list(found) in (list(planted), list(planted)[::-1])


class TestSimilarity:
    @pytest.mark.parametrize("n", [3, 4, 9, 30, 64])
    @pytest.mark.parametrize("seed", range(4))
    def test_a_shuffled_line_comes_back(self, n, seed):
        shuffled = np.random.default_rng(seed).permutation(n)
        order = by_similarity(along_a_line(n)[shuffled])
        assert_in_line(shuffled[order], range(n))

    def test_however_strong_each_unit_is(self):
        rng = np.random.default_rng(0)
        shuffled, strength = rng.permutation(12), rng.uniform(0.01, 100, (12, 1))
        assert_in_line(shuffled[by_similarity(along_a_line(12)[shuffled] * strength)], range(12))

    def test_patches_that_move_over_a_map(self):
        maps = np.zeros((8, 3, 10, 4))
        for n in range(8):
            maps[n, 1, n : n + 3] = -1
        shuffled = np.random.default_rng(3).permutation(8)
        assert_in_line(shuffled[by_similarity(maps[shuffled].reshape(8, -1))], range(8))

    def test_of_both_ways_the_one_that_begins_with_the_smaller_place(self):
        for seed in range(8):
            order = by_similarity(along_a_line(7)[np.random.default_rng(seed).permutation(7)])
            assert order[0] < order[-1]

    def test_places_are_each_there_once(self):
        for seed in range(5):
            profiles = np.random.default_rng(seed).normal(size=(20, 50))
            order = by_similarity(profiles)
            assert sorted(order) == list(range(20))
            assert np.array_equal(order, by_similarity(profiles))

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_fewer_than_three_stay_as_they_are(self, n):
        assert by_similarity(np.ones((n, 4))).tolist() == list(range(n))

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_units_that_are_all_alike_are_all_there(self, value):
        assert sorted(by_similarity(np.full((6, 4), value))) == list(range(6))

    def test_opposite_units_are_not_neighbours_for_it(self):
        line = along_a_line(8)
        line[4:] *= -1  # two kinds that only share what they lie on
        shuffled = np.random.default_rng(1).permutation(8)
        first = {int(n) < 4 for n in shuffled[by_similarity(line[shuffled])[:4]]}
        assert len(first) == 1

    @pytest.mark.parametrize("empty", [1, 2])
    def test_units_without_weights_leave_the_others_in_order(self, empty):
        profiles = np.vstack([along_a_line(12), np.zeros((empty, 12))])
        shuffled = np.random.default_rng(0).permutation(len(profiles))
        order = shuffled[by_similarity(profiles[shuffled])]
        assert_in_line([n for n in order if n < 12], range(12))

    def test_families_that_share_nothing_stay_together_and_in_order(self):
        profiles = np.zeros((12, 12))
        profiles[:6, :6], profiles[6:, 6:] = along_a_line(6), along_a_line(6)
        shuffled = np.random.default_rng(1).permutation(12)
        order = shuffled[by_similarity(profiles[shuffled])]
        assert len({int(n) // 6 for n in order[:6]}) == 1
        for family in (range(6), range(6, 12)):
            assert_in_line([n for n in order if n in family], family)


def line(degrees, size=15, width=1.0, centre=(0.0, 0.0), height=1.0):
    """A soft line through a point that rises at an angle from horizontal, within a round window."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2.0
    y, x = y - centre[0], x - centre[1]
    turn = np.radians(degrees)
    across = x * np.sin(turn) + y * np.cos(turn)  # y points down
    round_window = x**2 + y**2 <= (size / 2 - max(np.abs(centre)) - 0.5) ** 2
    return height * np.exp(-np.square(across / width)) * round_window


def apart(one, other):
    """Degrees between two directions of lines."""
    turned = np.abs(np.asarray(one) - np.asarray(other)) % 180
    return np.minimum(turned, 180 - turned)


class TestAngles:
    @pytest.mark.parametrize("width", [0.7, 1.0, 2.0])
    def test_planted_lines(self, width):
        planted = np.arange(0, 180, 7.5)
        found = angles(np.stack([line(a, width=width) for a in planted])[:, None])
        assert apart(found, planted).max() < 3
        assert ((found >= 0) & (found < 180)).all()

    def test_horizontal_vertical_and_both_diagonals(self):
        maps = np.zeros((4, 1, 5, 5))
        for n in range(5):
            maps[0, 0, 2, n] = maps[1, 0, n, 2] = maps[2, 0, 4 - n, n] = maps[3, 0, n, n] = 1
        assert angles(maps) == pytest.approx([0, 90, 45, 135])

    def test_signs_and_strength_do_not_matter(self):
        shape = np.stack([line(a) for a in (20, 65, 110, 155)])[:, None]
        signs = np.random.default_rng(0).choice([-1, 1], shape.shape)
        assert angles(shape * signs * 1e-4) == pytest.approx(angles(shape))

    def test_a_line_may_lie_anywhere(self):
        found = angles(np.stack([line(a, centre=(3, -2)) for a in (10, 50, 90, 130, 170)])[:, None])
        assert apart(found, [10, 50, 90, 130, 170]).max() < 4

    def test_the_maps_of_an_item_are_added_up_each_around_its_own_centre(self):
        parallel = np.stack([line(30, centre=(-4, 0)), line(30, centre=(4, 0)), np.zeros((15, 15))])[None]
        assert apart(angles(parallel), [30]).max() < 4
        uneven = np.stack([line(0, height=1.0), line(90, height=3.0)])[None]
        assert apart(angles(uneven), [90]).max() < 1

    @pytest.mark.parametrize("kind", ["nothing", "one square", "disc", "full square", "cross", "two lines"])
    def test_without_a_direction_it_is_unknown(self, kind):
        maps = np.zeros((1, 2, 9, 9))
        y, x = np.mgrid[:9, :9] - 4.0
        if kind == "one square":
            maps[0, 0, 3, 6] = 2
        elif kind == "disc":
            maps[0, 0] = np.exp(-(x**2 + y**2) / 5)
        elif kind == "full square":
            maps[:] = -1
        elif kind == "cross":
            maps[0, 0, 4], maps[0, 0, :, 4] = 1, 1
        elif kind == "two lines":
            maps[0, 0, 4], maps[0, 1, :, 4] = 1, 1
        assert np.isnan(angles(maps)).all()

    def test_unknown_ones_do_not_disturb_others(self):
        maps = np.stack([line(40), np.zeros((15, 15)), line(100)])[:, None]
        found = angles(maps)
        assert np.isnan(found).tolist() == [False, True, False]
        assert apart(found[[0, 2]], [40, 100]).max() < 3

    def test_maps_that_are_not_square(self):
        maps = np.zeros((2, 1, 3, 9))
        maps[0, 0, 1], maps[1, 0, :, 4] = 1, 1
        assert angles(maps) == pytest.approx([0, 90])
        assert angles(np.ones((1, 1, 1, 7))) == pytest.approx([0])
        assert angles(np.ones((1, 1, 7, 1))) == pytest.approx([90])
