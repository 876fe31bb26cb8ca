"""Objectives: their numbers against closed forms on hand-made outputs, how they combine, and what they say."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, WeightAtlasError

A, B = "blocks.4.1", "head"
N, U, H, W = 3, 5, 4, 7


def arrays(n=N, seed=0):
    """Outputs of two layers and images, as float64 arrays."""
    rng = np.random.default_rng(seed)
    return {A: rng.normal(size=(n, U, H, W)), B: rng.normal(size=(n, 6, 1, 1)), "x": rng.random((n, 3, 8, 9))}


def seen(values, alpha=None):
    outputs = {k: torch.from_numpy(v) for k, v in values.items() if k != "x"}
    return fv.Seen(outputs=outputs, images=torch.from_numpy(values["x"]), alpha=alpha)


def score(objective, values, alpha=None):
    return objective.score(seen(values, alpha)).numpy()


def close(objective, expected, values=None):
    got = score(objective, values if values is not None else arrays())
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


PLACES = {
    "mean": lambda a: a.mean((-2, -1)),
    "peaks": lambda a: a.mean((-2, -1)) + a.std((-2, -1)),
    "centre": lambda a: a[..., H // 2, W // 2],
    (3, 0): lambda a: a[..., 3, 0],
    (0, 6): lambda a: a[..., 0, 6],
}
SAID = {
    "mean": "",
    "peaks": " at its peaks",
    "centre": " at the centre",
    (3, 0): " at (3, 0)",
    (0, 6): " at (0, 6)",
}
at_every_place = pytest.mark.parametrize("at", list(PLACES), ids=str)


@at_every_place
class TestPlaces:
    def test_a_unit(self, at):
        one = fv.unit(A, 2, at)
        close(one, PLACES[at](arrays()[A][:, 2]))
        assert (one.layers, one.count, one.coupled) == ((A,), None, False)
        assert one.descriptions == (f"{A}:2{SAID[at]}",)

    def test_units(self, at):
        some = fv.units(A, [4, 0, 4], at)
        close(some, PLACES[at](arrays()[A][[0, 1, 2], [4, 0, 4]]))
        assert (some.layers, some.count) == ((A,), 3)
        assert some.descriptions == tuple(f"{A}:{u}{SAID[at]}" for u in (4, 0, 4))

    @pytest.mark.parametrize("power", [0, 0.5, 1, 2, 4, math.inf])
    def test_directions(self, at, power):
        a, v = arrays()[A], np.random.default_rng(1).normal(size=(N, U)) * 17
        unit = v / np.sqrt((v**2).sum(1, keepdims=True))
        dot = np.einsum("nohw,no->nhw", a, unit)
        cosine = dot / np.sqrt((a**2).sum(1))
        assert (cosine < 0.1).any()  # what is clamped is there to see
        assert (cosine > 0.1).any()
        expected = cosine if power == math.inf else dot * np.maximum(cosine, 0.1) ** power
        np.testing.assert_allclose(score(fv.directions(A, v, at, power), arrays()), PLACES[at](expected), rtol=1e-5)
        one = fv.direction(A, v[1], at, power)
        got = score(one, {**arrays(), A: a[[1, 1, 1]]})
        np.testing.assert_allclose(got, np.repeat(PLACES[at](expected)[1], 3), rtol=1e-5)
        assert (one.count, one.layers) == (None, (A,))


def test_directions_have_names():
    v = np.eye(2, U)
    assert fv.directions(A, v, "centre").descriptions == tuple(f"{A}, direction {i} at the centre" for i in (0, 1))
    assert fv.directions(A, v, names=["x", "y"]).descriptions == ("x", "y")
    assert fv.direction(A, v[0], name="edges").description == "edges"
    assert fv.direction(A, v[0].tolist()).description == f"{A}, direction 0"


def test_a_direction_may_have_any_length_and_scores_the_same():
    v = np.random.default_rng(2).normal(size=U)
    for factor in (1e-3, 5, 1e6):
        np.testing.assert_allclose(score(fv.direction(A, v * factor), arrays()), score(fv.direction(A, v), arrays()))


def test_a_direction_along_one_unit_is_that_unit():
    np.testing.assert_allclose(score(fv.direction(A, np.eye(U)[3]), arrays()), score(fv.unit(A, 3), arrays()), 1e-6)


def test_the_cosine_of_outputs_that_are_zero_is_finite_and_has_a_gradient():
    a = torch.zeros(1, U, 2, 2, requires_grad=True)
    for power in (0, 1, math.inf):
        value = fv.direction(A, np.ones(U), cosine=power).score(fv.Seen({A: a}, torch.zeros(1, 3, 4, 4)))
        (slope,) = torch.autograd.grad(value.sum(), a)
        assert value.item() == 0
        assert torch.isfinite(slope).all()
        assert slope.abs().max() > 0


def test_peaks_of_what_is_the_same_everywhere_have_a_finite_slope():
    a = torch.full((1, U, 2, 2), -1.0, requires_grad=True)
    value = fv.unit(A, 0, "peaks").score(fv.Seen({A: a}, torch.zeros(1, 3, 4, 4)))
    (slope,) = torch.autograd.grad(value.sum(), a)
    assert value.item() == pytest.approx(-1, abs=1e-5)
    assert torch.isfinite(slope).all()
    assert (slope[:, 0] > 0).all()


def test_filters_that_answer_grey_with_less_than_nothing_get_pictures():
    net = wa.load(nn.Sequential(nn.Conv2d(3, 12, 3)), input=wa.InputSpec(shape=(3, 8, 8)))
    recipe = fv.recipe_for(net, "0").but(steps=8)
    assert recipe.at == "peaks"
    assert wa.visualize(net, "0", recipe=recipe.but(at="mean")).alive.all()
    assert wa.visualize(net, "0", recipe=recipe).alive.all()


def test_a_whole_layer_is_the_mean_square():
    close(fv.whole_layer(A), (arrays()[A] ** 2).mean((1, 2, 3)))
    assert fv.whole_layer(A).description == f"all of {A}"
    assert fv.whole_layer(A).count is None


class TestPenalties:
    def test_diversity_is_minus_the_mean_cosine_of_gram_matrices(self):
        for n in (2, 3, 5):
            values = arrays(n)
            flat = values[A].reshape(n, U, -1)
            grams = [(f @ f.T).ravel() for f in flat]
            alike = [
                [g @ h / np.linalg.norm(g) / np.linalg.norm(h) for j, h in enumerate(grams) if j != i]
                for i, g in enumerate(grams)
            ]
            close(fv.diversity(A), -np.mean(alike, axis=1), values)
        assert fv.diversity(A).coupled
        assert fv.diversity(A).count is None

    def test_diversity_of_equal_pictures_is_minus_one_and_of_one_picture_nothing(self):
        a = arrays()[A]
        close(fv.diversity(A), [-1.0] * 3, {**arrays(), A: a[[0, 0, 0]]})
        close(fv.diversity(A), [0.0], arrays(1))

    def test_diversity_does_not_care_where_things_are(self):
        a = arrays()[A]
        close(fv.diversity(A), [-1.0, -1.0], {**arrays(2), A: np.stack([a[0], a[0][:, ::-1, ::-1]])})

    def test_total_variation(self):
        x = arrays()["x"]
        down = [np.mean([(x[n, :, i + 1] - x[n, :, i]) ** 2 for i in range(7)]) for n in range(N)]
        across = [np.mean([(x[n, :, :, i + 1] - x[n, :, :, i]) ** 2 for i in range(8)]) for n in range(N)]
        close(fv.total_variation(), np.add(down, across))
        steps = np.broadcast_to(np.arange(9) / 10, (1, 3, 8, 9))
        close(fv.total_variation(), [0.01], {**arrays(1), "x": steps.copy()})
        assert fv.total_variation().layers == ()

    def test_distance_from_grey(self):
        close(fv.distance_from_grey(), ((arrays()["x"] - 0.5) ** 2).mean((1, 2, 3)))
        close(fv.distance_from_grey(), [0.25], {**arrays(1), "x": np.ones((1, 3, 2, 2))})
        assert fv.distance_from_grey().description == "distance from grey"

    def test_opacity(self):
        alpha = np.random.default_rng(3).random((N, 8, 9))
        np.testing.assert_allclose(score(fv.opacity(), arrays(), torch.from_numpy(alpha)), alpha.mean((1, 2)))
        with pytest.raises(ArgumentError, match="alpha=True"):
            score(fv.opacity(), arrays())


class TestComposition:
    def test_arithmetic_is_that_of_the_values(self):
        a, b, c = fv.unit(A, 1), fv.units(A, [0, 3, 2], "peaks"), fv.direction(B, np.arange(1, 7), "centre", 2)
        x, y, z = (score(o, arrays()) for o in (a, b, c))
        for made, expected in [
            (a + b, x + y),
            (a - b, x - y),
            (a * b, x * y),
            (-a, -x),
            (a + 2, x + 2),
            (2 + a, 2 + x),
            (a - 0.25, x - 0.25),
            (3 * a, 3 * x),
            (a * -0.5, -0.5 * x),
            (a / 4, x / 4),
            (sum([a, b, c]), x + y + z),
            (a + b * c, x + y * z),
            ((a + b) * c, (x + y) * z),
            (a - (b - c), x - (y - z)),
            (a - b - c, x - y - z),
            (-(a - 2 * b) / 3 + c * c * 1.5 - 1, -(x - 2 * y) / 3 + z * z * 1.5 - 1),
            (np.float64(2) * a, 2 * x),
            (a * np.int64(2), 2 * x),
            (np.float32(2) + a, 2 + x),
        ]:
            assert isinstance(made, fv.Objective), made
            close(made, expected)

    def test_a_number_minus_an_objective(self):
        close(1 - fv.unit(A, 1), 1 - arrays()[A][:, 1].mean((1, 2)))

    def test_parts_are_left_as_they_were(self):
        a, b = fv.unit(A, 1), fv.unit(B, 2)
        before = score(a, arrays()), a.descriptions
        _ = -(a + b) * 3 - a
        assert (score(a, arrays()) == before[0]).all()
        assert a.descriptions == before[1]

    def test_layers_are_merged_in_order(self):
        made = fv.unit(B, 0) + fv.unit(A, 1) - fv.total_variation() + 2 * fv.unit(B, 3) + fv.unit("c", 1)
        assert made.layers == (B, A, "c")

    def test_counts(self):
        one, two, three = fv.unit(A, 1), fv.units(A, [0, 3]), fv.units(A, [0, 1, 2])
        assert (one + one).count is None
        assert (one + two).count == (two - one).count == (2 * two + 1).count == (-two).count == 2
        assert sum([one, three, fv.diversity(A)]).count == 3
        for how in ("__add__", "__sub__", "__mul__"):
            with pytest.raises(ArgumentError, match="2 and 3 pictures"):
                getattr(two, how)(three)
        with pytest.raises(ArgumentError, match="1 and 2 pictures"):
            fv.units(A, [0]) + two

    def test_being_coupled_is_kept(self):
        d = fv.diversity(A)
        for made in (d + 1, 2 * d, -d, d / 3, fv.unit(A, 1) - d, d * fv.unit(A, 1), sum([fv.units(A, [0, 1]), d])):
            assert made.coupled
        assert not (fv.unit(A, 1) + fv.units(A, [0, 1])).coupled

    @pytest.mark.parametrize("rows", [[0], [2, 0], [1, 1], [2, 1, 0]])
    def test_some_of_the_pictures_are_those_of_all(self, rows):
        v = np.random.default_rng(4).normal(size=(N, U))
        whole = (
            fv.unit(A, 1)
            + 2 * fv.units(A, [4, 2, 0], "peaks")
            - 0.5 * (-fv.directions(A, v, "centre", 1) - fv.units(B, [5, 4, 3]) / 3 + 1) * fv.units(A, [1, 2, 3])
        )
        values = arrays()
        taken = whole.of(rows)
        assert taken.count == len(rows)
        assert taken.layers == whole.layers
        assert taken.descriptions == tuple(whole.descriptions[r] for r in rows)
        np.testing.assert_allclose(
            score(taken, {k: v[rows] for k, v in values.items()}), score(whole, values)[rows], rtol=1e-12
        )
        again = taken.of([len(rows) - 1])
        np.testing.assert_allclose(
            score(again, {k: v[rows[-1:]] for k, v in values.items()}), score(whole, values)[rows[-1:]], rtol=1e-12
        )

    def test_what_is_the_same_for_all_is_the_same_for_some(self):
        one = fv.unit(A, 1) - fv.total_variation()
        assert one.of([3, 4]) is one


class TestDescriptions:
    a, b, c = fv.unit("a", 1), fv.unit("b", 2), fv.unit("c", 3)

    @pytest.mark.parametrize(
        ("made", "words"),
        [
            (a + b, "a:1 + b:2"),
            (a - b, "a:1 − b:2"),
            (a - 2 * b, "a:1 − 2 · b:2"),
            (a * b, "a:1 · b:2"),
            (-a, "−a:1"),
            (a / 4, "0.25 · a:1"),
            (a + 2, "a:1 + 2"),
            (2 + a, "a:1 + 2"),
            (a - 0.5, "a:1 − 0.5"),
            (0.5 * (a - b), "0.5 · (a:1 − b:2)"),
            (-(a + b), "−(a:1 + b:2)"),
            (sum([a, b, c]), "a:1 + b:2 + c:3"),
            (a - b - c, "a:1 − b:2 − c:3"),
            (a + b * c, "a:1 + b:2 · c:3"),
            (fv.unit("a", 1, "centre") - fv.diversity("a"), "a:1 at the centre − diversity in a"),
        ],
        ids=str,
    )
    def test_they_read_like_the_formula(self, made, words):
        assert made.description == words
        assert repr(made) == f"Objective({words})"

    @pytest.mark.parametrize(
        "made",
        [
            (a - (b - c), a - b - c),
            (a - (b + c), a - b + c),
            ((a + b) * c, a + b * c),
            (a * (b + c), a * b + c),
            ((a - 1) * b, a - 1 * b),
            (a - (b - 2), a - b - 2),
            ((a - b) * (b - c), a - b * b - c),
        ],
        ids=["a-(b-c)", "a-(b+c)", "(a+b)c", "a(b+c)", "(a-1)b", "a-(b-2)", "(a-b)(b-c)"],
    )
    def test_different_objectives_read_differently(self, made):
        values = {k: np.random.default_rng(i).normal(size=(N, 4, 2, 2)) for i, k in enumerate("abc")} | {
            "x": np.zeros((N, 3, 2, 2))
        }
        first, second = made
        assert not np.allclose(score(first, values), score(second, values))
        assert first.description != second.description

    def test_a_sum_with_a_negative_number_has_one_sign(self):
        assert "+ -" not in (self.a + -2).description
        assert "− -" not in (self.a - -2).description

    def test_a_difference_to_the_opposite_has_no_two_signs_in_a_row(self):
        assert not re.search("[−+-] [−-]", (self.a - -self.b).description)

    def test_many_pictures(self):
        assert fv.units("a", [1, 2, 3]).description == "a:1; a:2; a:3"
        assert fv.units("a", range(7)).description == "a:0; a:1; a:2 and 4 more"
        both = fv.units("a", [1, 2]) - fv.unit("b", 3)
        assert both.descriptions == ("a:1 − b:3", "a:2 − b:3")
        assert (fv.unit("b", 3) - 2 * fv.units("a", [1, 2])).descriptions == ("b:3 − 2 · a:1", "b:3 − 2 · a:2")
        assert (-fv.units("a", [1, 2])).descriptions == ("−a:1", "−a:2")


class TestErrors:
    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, True, "2", None, [1], 1j, np.nan, np.bool_(1)])
    def test_numbers_that_are_none(self, number):
        one = fv.unit(A, 0)
        for how in ("__add__", "__sub__", "__mul__", "__rmul__", "__truediv__", "__radd__"):
            with pytest.raises(ArgumentError, match="finite numbers"):
                getattr(one, how)(number)

    def test_division(self):
        for zero in (0, 0.0, -0.0, np.float32(0)):
            with pytest.raises(ArgumentError, match="divided by zero"):
                fv.unit(A, 0) / zero
        with pytest.raises(ArgumentError, match="finite numbers"):
            fv.unit(A, 0) / fv.unit(A, 1)

    def test_division_by_a_number_whose_inverse_is_not_finite(self):
        # 1 / 5e-324 is infinite; the complaint must not be a ZeroDivisionError or an infinite objective
        with pytest.raises(ArgumentError):
            fv.unit(A, 0) / 5e-324

    @pytest.mark.parametrize("index", [True, False, 1.0, "1", None, -1, np.float32(1), np.bool_(1), [1]])
    def test_indices_that_are_none(self, index):
        with pytest.raises(ArgumentError, match="a unit's number must be"):
            fv.unit(A, index)
        with pytest.raises(ArgumentError, match="a unit's number must be"):
            fv.units(A, [0, index])

    def test_indices_of_other_integer_types(self):
        close(fv.unit(A, np.int64(3)), arrays()[A][:, 3].mean((1, 2)))
        close(fv.units(A, np.array([3, 1, 0])), arrays()[A][[0, 1, 2], [3, 1, 0]].mean((1, 2)))
        assert fv.unit(A, np.int64(3)).description == f"{A}:3"
        close(fv.units(A, range(3)), arrays()[A][[0, 1, 2], [0, 1, 2]].mean((1, 2)))

    def test_no_unit_at_all(self):
        with pytest.raises(ArgumentError, match=f"no unit of '{A}'"):
            fv.units(A, [])

    def test_units_out_of_range(self):
        with pytest.raises(ArgumentError, match=rf"'{A}' has no unit 5; its units are 0 … 4"):
            score(fv.unit(A, 5), arrays())
        with pytest.raises(ArgumentError, match="no unit 9"):
            score(fv.units(A, [0, 9, 1]), arrays())

    @pytest.mark.parametrize("at", ["center", "", None, 3, (1,), (1, 2, 3), (1.0, 2), [1, 2.0], ("1", 2), np.ones(2)])
    def test_places_that_are_none(self, at):
        with pytest.raises(ArgumentError, match="none of 'mean', 'peaks', 'centre'"):
            fv.unit(A, 0, at)
        with pytest.raises(ArgumentError, match="none of 'mean', 'peaks', 'centre'"):
            fv.direction(A, np.ones(U), at)

    @pytest.mark.parametrize("at", [(H, 0), (0, W), (-1, 0), (0, -1), (99, 99)])
    def test_positions_off_the_grid(self, at):
        with pytest.raises(ArgumentError, match=rf"position \({at[0]}, {at[1]}\) is not on the 4 × 7 grid of '{A}'"):
            score(fv.unit(A, 0, at), arrays())
        with pytest.raises(ArgumentError, match="is not on the 4 × 7 grid"):
            score(fv.direction(A, np.ones(U), at), arrays())

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            ([[1, 2], [3]], "must be real numbers"),
            ([["a", "b"]], "must be real numbers"),
            (np.ones(U), "shape"),
            (np.ones((1, 2, 3)), "shape"),
            (np.ones((0, U)), "shape"),
            (np.ones((2, 0)), "shape"),
            ([[1, math.nan]], "NaN or infinity"),
            ([[1, math.inf]], "NaN or infinity"),
            ([[1, 2], [0, 0]], "direction 1 over units of .* is zero"),
        ],
    )
    def test_directions_that_are_none(self, vectors, message):
        with pytest.raises(ArgumentError, match=message):
            fv.directions(A, vectors)

    @pytest.mark.parametrize("power", [-1, -math.inf, math.nan])
    def test_powers_that_are_none(self, power):
        with pytest.raises(ArgumentError, match="cosine="):
            fv.direction(A, np.ones(U), cosine=power)

    @pytest.mark.parametrize("power", ["1", None, 1j])
    def test_powers_that_are_no_numbers(self, power):
        with pytest.raises(WeightAtlasError):
            fv.direction(A, np.ones(U), cosine=power)

    def test_lengths_that_do_not_fit(self):
        with pytest.raises(ArgumentError, match=f"length 4 came in, but '{A}' has 5 units"):
            score(fv.direction(A, np.ones(4)), arrays())
        with pytest.raises(ArgumentError, match="1 names for 2 directions"):
            fv.directions(A, np.eye(2, U), names=["one"])
