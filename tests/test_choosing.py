"""The rules that choose layers and units for figures, against structure planted in weights."""

import numpy as np
import pytest
import torch
from planted import weights as record
from torch import nn

import weightatlas as wa
from weightatlas.builder import choosing
from weightatlas.builder.choosing import Span
from weightatlas.builder.chosen import Chosen
from weightatlas.builder.contextual import reader
from weightatlas.builder.studio import Studio
from weightatlas.errors import ArgumentError, GraphError
from weightatlas.records import BandRow, Paths

pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(module, shape=(3, 24, 24)):
    return wa.load(module.eval(), input=wa.InputSpec(shape=shape))


def convs(*widths, kernel=3):
    """Convolutions with ReLUs between them; the convolutions are layers 0, 2, 4, …"""
    torch.manual_seed(0)
    layers = []
    for before, width in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, kernel), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class InvertedResidual(nn.Module):
    """1×1, depthwise 3×3, 1×1; added to what came in where it fits."""

    def __init__(self, before, after, kernel=3):
        super().__init__()
        self.grow, self.relu = nn.Conv2d(before, 3 * before, 1), nn.ReLU()
        self.deep = nn.Conv2d(3 * before, 3 * before, kernel, padding=kernel // 2, groups=3 * before)
        self.shrink, self.add = nn.Conv2d(3 * before, after, 1), before == after

    def forward(self, x):
        y = self.shrink(self.deep(self.relu(self.grow(x))))
        return x + y if self.add else y


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around which the input is added."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        self.conv2, self.bn2, self.act2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()

    def forward(self, x):
        return self.act2(x + self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))


@pytest.fixture(scope="module")
def inverted():
    torch.manual_seed(0)
    return loaded(
        nn.Sequential(nn.Conv2d(3, 8, 3), InvertedResidual(8, 8), InvertedResidual(8, 10), InvertedResidual(10, 10, 5))
    )


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    return loaded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), BasicBlock(8), BasicBlock(8)))


def structure_by_hand(v):
    """What the docstring says, of one unit ``[I, H, W]``, pair by pair."""
    _, h, w = v.shape

    def cosine(a, b):
        return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    def mean(pairs):
        terms = [(v[:, *p], v[:, *q]) for p, q in pairs]
        terms = [(a, b, np.sqrt(a @ a) * np.sqrt(b @ b)) for a, b in terms if a.any() and b.any()]
        return sum(cosine(a, b) * n for a, b, n in terms) / sum(n for _, _, n in terms) if terms else 0.0

    every = list(np.ndindex(h, w))
    beside = [((y, x), (y + 1, x)) for y, x in every if y + 1 < h]
    beside += [((y, x), (y, x + 1)) for y, x in every if x + 1 < w]
    across = [((y, x), (h - 1 - y, w - 1 - x)) for y, x in every if (y, x) != (h - 1 - y, w - 1 - x)]
    power = {p: float(v[:, *p] @ v[:, *p]) for p in every}
    outside = 1 - max(power.values()) / sum(power.values()) if any(power.values()) else 0.0
    return (mean(beside) - mean(across)) * outside


class TestStructure:
    @pytest.mark.parametrize(("h", "w"), [(3, 3), (4, 4), (4, 3), (2, 5), (1, 4), (1, 1), (5, 5)])
    def test_is_what_its_description_says(self, h, w):
        made = record(o=5, i=6, h=h, w=w, seed=h * w)
        made.values[1, :, 0, 0] = 0  # a position without weights has no direction
        made.values[2] *= np.linspace(0.1, 9, w, dtype=np.float32)
        expected = [structure_by_hand(v.astype(np.float64)) for v in made.values]
        assert choosing.structure(made) == pytest.approx(expected, abs=1e-9)

    def test_opposite_sides_score_high_and_like_sides_nothing(self):
        one = np.random.default_rng(0).normal(size=7)
        sides = np.broadcast_to(np.array([1, 1, -1, -1.0]), (4, 4))
        made = np.stack([one[:, None, None] * side for side in (sides, sides.T, np.ones((4, 4)))])
        # of 24 pairs of neighbours 4 look across the border, all opposite pairs do; 15 of 16 squares are elsewhere
        high = ((24 - 2 * 4) / 24 + 1) * 15 / 16
        found = choosing.structure(record(o=3, i=7, h=4, w=4, values=made.astype(np.float32)))
        assert found == pytest.approx([high, high, 0], abs=1e-6)

    def test_noise_scores_next_to_nothing(self):
        found = choosing.structure(record(o=300, i=64, h=4, w=4))
        assert abs(np.median(found)) < 0.02
        assert np.abs(found).max() < 0.5

    def test_weights_at_one_position_and_no_weights_score_nothing(self):
        values = np.zeros((2, 4, 3, 3), np.float32)
        values[1, :, 0, 1] = 1
        assert choosing.structure(record(o=2, values=values)).tolist() == [0, 0]

    def test_does_not_depend_on_size(self):
        made = record(o=4, i=6)
        large = record(o=4, i=6, values=made.values * 1e6)
        assert choosing.structure(large) == pytest.approx(choosing.structure(made), rel=1e-5)

    def test_of_grouped_weights_is_that_of_the_weights_unfolded(self):
        made = record(o=4, i=3, source_units=6, groups=2)
        full = np.zeros((4, 6, 3, 3))
        full[:2, :3], full[2:, 3:] = made.values[:2], made.values[2:]
        assert choosing.structure(made) == pytest.approx([structure_by_hand(v) for v in full], abs=1e-9)

    def test_the_unit_is_named_by_its_number_in_the_layer(self):
        made = record(o=4, i=6, units=np.array([3, 8, 5, 17]), target_units=20)
        made.values[2] = np.array([1, 0, -1]) * made.values[2, :, :1, :1]
        assert choosing.structured_unit(made) == 5


class TestSpans:
    def test_around_a_single_depthwise_convolution_the_block_is_chosen(self, inverted):
        assert [(s.target, s.source) for s in choosing.spans(inverted)] == [("1", "0"), ("2", "1"), ("3", "2")]
        for block in "123":
            assert choosing.whole(inverted, f"{block}.deep") == block
        assert choosing.whole(inverted, "0") == "0"

    def test_structure_is_the_median_over_units_without_the_skip_path(self, inverted):
        for span in choosing.spans(inverted):
            made = wa.expanded_weights(inverted, span.source, span.target, skip="exclude")
            expected = np.median([structure_by_hand(v.astype(np.float64)) for v in made.dense().values])
            assert span.structure == pytest.approx(expected, abs=1e-6)

    def test_of_two_spatial_convolutions_in_a_block_each_is_chosen(self, residual):
        expected = [("2.conv1", "0"), ("2.conv2", "2.conv1"), ("3.conv1", "2"), ("3.conv2", "3.conv1")]
        assert [(s.target, s.source) for s in choosing.spans(residual)] == expected
        for conv in ("2.conv1", "2.conv2"):
            assert choosing.whole(residual, conv) == conv

    def test_the_smallest_of_nested_blocks_is_chosen(self):
        inner = nn.Sequential(nn.Conv2d(8, 9, 3), nn.ReLU())
        net = loaded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(inner, nn.Sequential(nn.Conv2d(9, 10, 3)))))
        assert choosing.whole(net, "1.0.0") == "1.0"
        assert [s.target for s in choosing.spans(net)] == ["1.0", "1.1"]

    def test_small_layers_are_left_out_where_there_are_larger_ones(self):
        assert [s.target for s in choosing.spans(loaded(convs(8, 8, 7, 8, 8)))] == ["2", "8"]
        assert [s.target for s in choosing.spans(loaded(convs(7, 7, 7)))] == ["2", "4"]
        assert [s.target for s in choosing.spans(loaded(convs(7, 2, 1, 3, 2)))] == ["2", "8"]

    def test_layers_with_nan_are_left_out(self):
        module = convs(8, 9, 10)
        module[2].weight.data[1, 2, 0, 0] = float("nan")
        assert [s.target for s in choosing.spans(loaded(module))] == ["4"]

    def test_layers_of_zeros_are_left_out(self):
        module = convs(8, 9, 10)
        module[4].weight.data.zero_()
        assert [s.target for s in choosing.spans(loaded(module))] == ["2"]

    def test_depthwise_convolutions_outside_blocks_are_left_out(self):
        net = loaded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 9, 3)))
        assert [(s.target, s.source) for s in choosing.spans(net)] == [("2", "1")]

    @pytest.mark.parametrize("kind", ["linear", "1×1"])
    def test_without_spatial_kernels_dense_layers_take_their_place(self, kind):
        torch.manual_seed(0)
        if kind == "linear":
            module, shape = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 12), nn.Linear(12, 9)), (20,)
            expected = [Span("2", "0", 0.0), Span("3", "2", 0.0)]
        else:
            module, shape = convs(10, 12, 9, kernel=1), (3, 8, 8)
            expected = [Span("2", "0", 0.0), Span("4", "2", 0.0)]
        assert choosing.spans(loaded(module, shape)) == expected

    def test_signals_have_no_structure_in_space(self):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv1d(4, 10, 3), nn.ReLU(), nn.Conv1d(10, 12, 3))
        assert choosing.spans(loaded(module, (4, 32))) == [Span("2", "0", 0.0)]

    def test_where_there_is_nothing_the_choice_is_refused(self):
        for module in (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(3, 10, 3)), convs(7, 1, 7)):
            found = choosing.spans(loaded(module))
            assert found == []
            with pytest.raises(ArgumentError, match="no two layers of at least 2 units"):
                choosing.most_structured(found)

    def test_the_most_structured_is_the_first_of_equals(self):
        a, b, c = Span("a", "x", 0.5), Span("b", "a", 0.7), Span("c", "b", 0.7)
        assert choosing.most_structured([a, b, c]) is b


class TestNeighbours:
    def test_a_layer_reads_what_is_behind_norms_activations_and_pools(self):
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 9, 3), nn.ReLU6()
        )
        net = loaded(module)
        assert [choosing.reads(net, name) for name in ("0", "1", "4", "5")] == ["input", "0", "0", "4"]

    def test_a_layer_reads_the_block_before_it_not_what_is_in_it(self, inverted, residual):
        assert [choosing.reads(inverted, name) for name in ("1", "2", "2.grow", "3")] == ["0", "1", "1", "2"]
        assert choosing.reads(residual, "3.conv1") == "2"

    def test_a_layer_is_read_by_the_first_after_it_that_has_weights(self, inverted, residual):
        net = loaded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 9, 3)))
        assert (reader(net, "0"), reader(net, "3")) == ("3", None)
        assert [reader(inverted, name) for name in ("0", "1", "3")] == ["1", "2", None]
        assert reader(residual, "2.conv1") == "2.conv2"

    def test_far_back_stops_at_the_first_layer_whose_maps_are_wide_enough(self):
        net = loaded(convs(8, 8, 8, 8, 8))
        # from layer 8, each convolution before adds two squares: 6 → 3, 4 → 5, 2 → 7, 0 → 9
        for side, expected in ((1, "6"), (3, "6"), (4, "4"), (5, "4"), (7, "2"), (9, "0"), (10, "0"), (99, "0")):
            assert choosing.far_back(net, "8", 3, side) == expected
        assert wa.expanded_weights(net, "2", "8", [3]).values.shape[2:] == (7, 7)

    def test_far_back_stops_where_maps_depend_on_the_position(self):
        net = loaded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 3, 2), nn.Conv2d(8, 9, 3)))
        assert wa.expanded_weights(net, "0", "2", [0]).at is not None
        assert choosing.far_back(net, "2", 0) == "1"

    def test_what_reads_the_input_has_no_layer_further_back(self):
        with pytest.raises(ArgumentError, match="'0' reads no layer of Sequential"):
            choosing.far_back(loaded(convs(8, 8)), "0", 0)


def profiles(values):
    """What a family is told by, loop by loop: strengths scaled to length 1, less their mean, scaled again."""
    strength = np.zeros(values.shape[:2])
    for o, i in np.ndindex(*strength.shape):
        strength[o, i] = np.sqrt(sum(float(v) ** 2 for v in values[o, i].ravel()))
    strength = np.array([row / np.sqrt((row**2).sum()) if row.any() else row for row in strength])
    strength = strength - strength.mean(axis=0)
    return np.array([row / np.sqrt((row**2).sum()) for row in strength])


class TestFamily:
    GROUP = (2, 5, 7, 9, 10, 11)

    def planted(self, noise=0.1, **more):
        """Twelve units over ten sources; those of the group read sources 1, 3 and 4, however arranged and signed."""
        generator = np.random.default_rng(1)
        values = np.zeros((12, 10, 3, 3))
        for unit in range(12):
            sources = (1, 3, 4) if unit in self.GROUP else generator.choice([0, 2, 5, 6, 7, 8, 9], 3, replace=False)
            for source in sources:
                kernel = generator.normal(size=(3, 3))
                values[unit, source] = kernel / np.linalg.norm(kernel) * generator.choice([-1, 1])
        values += noise * generator.normal(size=values.shape)
        return record(o=12, i=10, values=values.astype(np.float32), **more)

    def test_units_that_read_the_same_sources_are_found(self):
        found = choosing.family(self.planted(), 6)
        assert set(found) == set(self.GROUP)
        assert len(found) == 6

    def test_the_most_typical_comes_first_then_those_most_alike_it(self):
        made = self.planted(noise=0.3)
        rows = profiles(made.values)
        means = {}
        for one in range(12):
            others = sorted((-float(rows[one] @ rows[b]), b) for b in range(12) if b != one)[:4]
            means[one] = -sum(c for c, _ in others) / 4, [one, *(b for _, b in others)]
        assert choosing.family(made, 5) == max(means.values())[1]

    def test_units_keep_their_numbers(self):
        numbers = np.arange(12) * 3 + 5
        found = choosing.family(self.planted(units=numbers, target_units=50), 6)
        assert set(found) == {3 * u + 5 for u in self.GROUP}

    def test_a_layer_smaller_than_a_family_is_one(self):
        assert sorted(choosing.family(record(o=4, i=5), 6)) == [0, 1, 2, 3]
        assert choosing.family(record(o=1, i=5, units=np.array([7]), target_units=9), 6) == [7]

    def test_units_without_weights_are_no_family(self):
        made = self.planted()
        made.values[[0, 1, 3]] = 0
        assert set(choosing.family(made, 6)) == set(self.GROUP)

    def test_sources_are_those_with_most_weight_on_the_units_together(self):
        made = self.planted()
        power = {i: sum(float(v) ** 2 for u in (2, 0) for v in made.values[u, i].ravel()) for i in range(10)}
        expected = sorted(power, key=lambda i: -power[i])
        assert choosing.sources_of(made, [2, 0], 4) == expected[:4]
        assert choosing.sources_of(made, [2, 0], 99) == expected
        assert set(choosing.sources_of(made, self.GROUP, 3)) == {1, 3, 4}

    def test_sources_keep_their_numbers_and_those_without_weight_are_none(self):
        values = np.zeros((2, 3, 1, 1), np.float32)
        values[0, :, 0, 0], values[1, :, 0, 0] = (1, 0, -3), (-2, 0, 0)
        made = record(o=2, i=3, values=values, source_numbers=np.array([4, 8, 9]))
        assert choosing.sources_of(made, [0], 3) == [9, 4]
        assert choosing.sources_of(made, [1], 3) == [4]
        assert choosing.sources_of(made, [0, 1], 1) == [9]


class TestPairs:
    def test_the_strongest_pair_holds_most_of_its_target_not_most_of_all(self):
        made = record(o=5, i=6, units=np.array([4, 9, 2, 7, 5]), target_units=10, source_numbers=np.arange(10, 16))
        made.values[1] *= 100  # strong, and evenly so
        made.values[3] *= 0.01
        made.values[3, 4] *= 50
        share = np.zeros((5, 6))
        for o, i in np.ndindex(5, 6):
            share[o, i] = (made.values[o, i].astype(float) ** 2).sum() / (made.values[o].astype(float) ** 2).sum()
        assert np.unravel_index(share.argmax(), share.shape) == (3, 4)
        assert choosing.strongest_pair(made) == (7, 14)

    def test_units_without_weights_have_no_strongest_source(self):
        made = record(o=3, i=4)
        made.values[0] = 0
        assert choosing.strongest_pair(made)[0] != 0

    def test_the_pair_that_cancels_in_the_middle_layer_is_found(self):
        module = convs(10, 12, 9)
        with torch.no_grad():
            for conv in (module[2], module[4]):
                conv.weight.abs_()  # nothing cancels …
            module[2].weight[:, 3] = 0
            module[2].weight[5, 3, 1, 1] = module[2].weight[8, 3, 1, 1] = 2.0  # source 3 goes through 5 and 8
            module[4].weight[6, 5], module[4].weight[6, 8] = 1.5, -1.5  # … but on unit 6
        paths = wa.expanded_paths(loaded(module), "0", "2", "4")
        found = choosing.most_cancelled(paths)
        assert (found.unit, found.source_unit) == (6, 3)
        assert found.cancellation == pytest.approx(1)
        # 2 · 1.5 through either unit at each of nine positions
        assert found.absolute == pytest.approx(2 * 9 * 3.0)
        assert found.through == pytest.approx(0, abs=1e-6)

    def test_of_the_hundred_that_lose_most_the_largest_share_decides(self):
        generator = np.random.default_rng(0)
        absolute = 10 + generator.random((12, 10))
        through = absolute * 0.5
        through[4, 7] = absolute[4, 7] * 0.1  # the largest share
        through[5, 5], absolute[5, 5] = 10, 40  # loses most, but a smaller share
        through[2, 3], absolute[2, 3] = 0, 1e-3  # all of next to nothing: not among the hundred of 120
        found = choosing.most_cancelled(self.paths(through, absolute))
        assert (found.unit, found.source_unit) == (24, 7)
        assert found.cancellation == pytest.approx(0.9)

    def test_without_any_path_there_is_no_pair(self):
        nothing = np.zeros((12, 10))
        with pytest.raises(ArgumentError, match="no path leads from 'a' to 'c' through 'b'"):
            choosing.most_cancelled(self.paths(nothing, nothing))

    def paths(self, through, absolute):
        through, absolute = (np.asarray(v, np.float32)[..., None, None] for v in (through, absolute))
        one = {"total": through, "through": through, "absolute": absolute}
        ends = {"outer": np.zeros((12, 1, 1, 1)), "inner": np.zeros((1, 10, 1, 1))}
        return Paths("a", "b", "c", np.arange(20, 32), **one, **ends, target_units=40, middle_units=1, source_units=10)


class TestHeld:
    def planted(self, strengths, generator):
        """A unit ``[I, 3, 3]`` with known singular values over sources and positions."""
        left = np.linalg.qr(generator.normal(size=(7, len(strengths))))[0]
        right = np.linalg.qr(generator.normal(size=(9, len(strengths))))[0]
        return (left * strengths @ right.T).reshape(7, 3, 3)

    def test_is_the_share_of_the_largest_singular_values_of_each_unit(self):
        generator, strengths = np.random.default_rng(0), [[3, 2, 1], [5, 0, 0], [1, 1, 1]]
        values = np.stack([self.planted(s, generator) for s in strengths] + [np.zeros((7, 3, 3))])
        made = record(o=4, i=7, values=values.astype(np.float32))
        assert choosing.held(made, 1) == pytest.approx([9 / 14, 1, 1 / 3, 0], abs=1e-5)
        assert choosing.held(made, 2) == pytest.approx([13 / 14, 1, 2 / 3, 0], abs=1e-5)
        assert choosing.held(made, 9) == pytest.approx([1, 1, 1, 0], abs=1e-5)

    def test_together_factors_share_their_directions_over_sources(self):
        directions = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 3)))[0].T
        values = np.zeros((4, 6, 2, 2))
        amounts = {0: 0.0, 1: 0.0, 2: 0.0}
        for n, (unit, y, x) in enumerate(np.ndindex(4, 2, 2)):  # every position has one direction of three
            size = 1 + n / 10
            values[unit, :, y, x] = size * directions[n % 3]
            amounts[n % 3] += size**2
        first, second, third = sorted(amounts.values(), reverse=True)
        made = record(o=4, i=6, values=values.astype(np.float32))
        assert choosing.held_together(made, 1) == pytest.approx(first / (first + second + third), abs=1e-5)
        assert choosing.held_together(made, 2) == pytest.approx((first + second) / (first + second + third), abs=1e-5)
        assert choosing.held_together(made, 3) == pytest.approx(1)
        assert choosing.held_together(record(values=np.zeros((6, 4, 3, 3))), 1) == 0

    def test_the_simplified_unit_grows_most_among_those_that_are_simple_far_away(self):
        near, far = np.array([0.1, 0.5, 0.6, 0.7]), np.array([0.7, 0.8, 0.9, 0.99])
        assert choosing.simplified(near, far, 0.8) == 1  # exactly the least is enough, and the first of equals goes
        assert choosing.simplified(near, far, 0.85) == 2
        assert choosing.simplified(near, far, 0.95) == 3
        assert choosing.simplified(near, far, 0.995) == 0  # none is: the largest growth of all
        assert choosing.simplified(far, near, 0.3) == 3


@pytest.fixture(scope="module")
def chosen():
    module = convs(10, 12, 12, 11, 10)
    with torch.no_grad():
        for layer, unit, size in ((4, 9, 0.8), (6, 7, 0.2)):  # left and right opposite; in one unit without any noise
            conv = module[layer].weight
            conv += size * torch.sign(torch.randn(len(conv), conv.shape[1], 1, 1)) * torch.tensor([1.0, 0.0, -1.0])
            conv[unit] = torch.randn(conv.shape[1], 1, 1) * torch.tensor([1.0, 0.0, -1.0])
        for layer, noise in ((2, 0), (8, 0.1)):  # three directions over sources hold all or most of it
            o, i = module[layer].weight.shape[:2]
            planted = torch.einsum("okyx,ki->oiyx", torch.randn(o, 3, 3, 3), torch.randn(3, i))
            module[layer].weight.copy_(planted + noise * torch.randn(o, i, 3, 3))
    net = loaded(module)
    return net, Chosen(Studio(net))


class TestChosen:
    """Layers 2, 4, 6 and 8 can be shown; the first half of the network holds 2 and 4."""

    def test_each_half_of_the_network_has_its_most_structured_layer(self, chosen):
        _, of = chosen
        assert [s.target for s in of.all_spans] == ["2", "4", "6", "8"]
        assert (of.early.target, of.early.source) == ("4", "2")
        assert (of.late.target, of.late.source) == ("6", "4")
        assert of.early.structure > of.late.structure  # each is the most of its half

    def test_a_single_layer_stands_for_both_halves(self):
        of = Chosen(Studio(loaded(convs(8, 9))))
        assert of.early == of.late == of.all_spans[0]

    def test_the_structured_unit_is_of_the_late_layer(self, chosen):
        assert chosen[1].structured == 7

    def test_the_family_is_of_the_early_layer(self, chosen):
        net, of = chosen
        rows = profiles(wa.expanded_weights(net, "2", "4").values)
        tight = [np.sort(np.delete(rows @ rows[u], u))[-5:].mean() for u in range(12)]
        assert of.family[0] == int(np.argmax(tight))
        alike = np.argsort(-(rows @ rows[of.family[0]]))
        assert of.family == alike[:6].tolist()

    def test_the_layer_of_few_colours_is_of_the_second_half(self, chosen):
        net, of = chosen
        shares = {}
        for layer in "2468":
            flat = (
                wa.direct_weights(net, layer).values.transpose(1, 0, 2, 3).reshape(net.layers[layer].input_channels, -1)
            )
            values = np.linalg.svd(flat, compute_uv=False) ** 2
            shares[layer] = values[:3].sum() / values.sum()
        assert max(shares, key=shares.get) == "2"
        assert of.colourful == max("68", key=shares.get) == "8"

    def test_further_is_what_the_source_of_the_late_layer_reads(self, chosen):
        assert chosen[1].further == "2"
        assert Chosen(Studio(loaded(convs(8, 9)))).further == "input"

    def test_the_simplified_unit_is_found_by_singular_values(self, chosen):
        net, of = chosen
        shares = []
        for source in ("4", "2"):
            made = wa.expanded_weights(net, source, "6").values.astype(np.float64)
            values = [np.linalg.svd(v.reshape(len(v), -1), compute_uv=False) ** 2 for v in made]
            shares.append(np.array([s[:2].sum() / s.sum() for s in values]))
        near, far = shares
        simple = [u for u in range(len(near)) if far[u] >= 0.8] or range(len(near))
        unit = max(simple, key=lambda u: far[u] - near[u])
        assert of.simplified == (unit, pytest.approx(near[unit], abs=1e-5), pytest.approx(far[unit], abs=1e-5))

    def test_the_banded_layer_is_the_one_whose_weights_differ_between_rows(self):
        module = convs(8, 9, 10, 11)
        with torch.no_grad():
            module[4].weight += torch.tensor([2.0, -1.0, -1.0])[:, None]
        of = Chosen(Studio(loaded(module)))
        assert isinstance(of.banded, BandRow)
        assert of.banded.layer == "4"

    def test_a_banded_layer_comes_before_a_larger_share_by_chance(self, monkeypatch):
        def row(layer, share, chance, banded, apart=""):
            return BandRow(layer, share, 0.2, chance, 0.25, (0.1, 0.4), banded, (3, 3), 9, (1, 1), apart)

        rows = [
            row("a", 0.9, 0.25, False),
            row("b", 0.5, 0.25, True),
            row("c", 0.55, 0.35, True),
            row("d", 0.99, 0.25, True, "sees pixels"),
        ]
        monkeypatch.setattr("weightatlas.builder.chosen.banding", lambda net, seed: rows)
        of = Chosen(Studio(loaded(convs(8, 9))))
        assert of.banded.layer == "b"
        monkeypatch.setattr("weightatlas.builder.chosen.banding", lambda net, seed: rows[3:])
        with pytest.raises(ArgumentError, match="no layer whose kernels could show bands"):
            _ = Chosen(Studio(loaded(convs(8, 9)))).banded


class Functions(nn.Module):
    """Layers with functions between them, of which a network's table does not know."""

    def __init__(self, join):
        super().__init__()
        self.join = join
        self.a, self.b = nn.Conv2d(3, 10, 3), nn.Conv2d(10, 10, 3, padding=1)
        self.c = nn.Conv2d(20 if join == "cat" else 10, 9, 3)

    def forward(self, x):
        a = torch.relu(self.a(x))
        b = torch.relu(self.b(a))
        if self.join == "add":
            return self.c(a + b)
        return self.c(torch.cat([a, b], 1) if self.join == "cat" else b)


class TestFunctions:
    @pytest.mark.parametrize("join", ["add", "cat", "none"])
    def test_a_layer_reads_the_last_one_behind_functions(self, join):
        net = loaded(Functions(join))
        assert net.layers["c"].source not in net.layers
        assert [choosing.reads(net, name) for name in "abc"] == ["input", "a", "b"]
        assert [(s.target, s.source) for s in choosing.spans(net)] == [("b", "a"), ("c", "b")]
        drawn = wa.figure(net, "small_multiples", "c:1", recipe=wa.featurevis.Recipe(side=16, steps=1))
        assert drawn.title == "What c:1 reads in b"

    def test_a_network_that_cannot_be_captured_says_so(self):
        class Branch(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Conv2d(3, 10, 3), nn.Conv2d(10, 9, 3)

            def forward(self, x):
                x = self.a(x)
                return self.b(x) if x.sum() > 0 else self.b(-x)

        net = loaded(Branch())
        with pytest.raises(ArgumentError, match="Give source="):
            wa.figure(net, "family_grid", "b")
        with pytest.raises(GraphError, match="captured"):
            _ = Chosen(Studio(net)).late


def test_dilated_weights_are_as_structured_as_others():
    near = record(o=3, i=4, h=3, w=3)
    wide = record(o=3, i=4, h=3, w=3, dilation=(2, 3))
    assert choosing.structure(wide) == pytest.approx(choosing.structure(near))
