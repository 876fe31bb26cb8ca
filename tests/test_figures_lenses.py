"""Figures of a network on images: their numbers, squares, pictures and words are those that were planted."""

import dataclasses
import math

import numpy as np
import pytest
from planted import HOSTILE, SVG, factors, weights
from test_figures_context import Drawn, assert_colours, pictures, shade

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError, WeightValuesError
from weightatlas.figures import histograms, imaging, pushing, summing
from weightatlas.figures.layout import magnitude
from weightatlas.figures.theme import ACTIVATION
from weightatlas.records import Activations, Attributions, DatasetExamples, GradientCases, Provenance, Step

figures = wa.figures
WIDTHS = (320, 390, 720, 1080)
PROVENANCE = Provenance("net", "ab" * 32, "1.0", ("the baseline is not used",))


def attributions(seed=0, source="in", target="conv", image=True, grid=(6, 7), **more):
    """Contributions of eight source units to a unit at (1, 2) through a window of 3 × 3, planted."""
    r = np.random.default_rng(seed)
    values, seen, slopes = np.zeros((3, 8, *grid), np.float32)
    seen[:] = r.normal(size=seen.shape)
    slopes[:, 1:4, 2:5] = r.normal(size=(8, 3, 3))
    values[:] = seen * slopes
    total = float(values.sum(dtype=np.float64))
    fields = dict(
        values=values, activations=seen, gradients=slopes, source=source, target=target, unit=3, at=(1, 2),
        method="exact", value=total + 0.75, base=0.5, baseline="", window=(1, 2, 4, 5),
        target_map=r.normal(size=(3, 4)).astype(np.float32),
        image=r.integers(0, 256, (24, 32, 3), np.uint8) if image else np.zeros((0, 0, 0), np.uint8),
        box=(0, 4, 20, 28) if image else (), provenance=PROVENANCE,
    )  # fmt: skip
    return Attributions(**(fields | more))


def step(found=None, k=2, **more):
    found = attributions() if found is None else found
    own = weights(1, 8, source=found.source, units=np.array([3]), target=found.target, target_units=8)
    top, left, bottom, right = found.window
    own = dataclasses.replace(
        own, values=found.gradients[None, :, top:bottom, left:right], origin=(0, 0), stride=(1, 1)
    )
    up, down = found.pushed(k)
    return Step(found, own, "", 1.0, tuple(up), tuple(down), **more)


def explanation(*steps):
    return wa.Explanation(tuple(steps))


def activation_hue(value, scale):
    """The colour of an activation, by hand."""
    stops = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in ACTIVATION]
    at = (min(max(value / scale, -1), 1) + 1) * 5
    low = min(int(at), 9)
    return [(1 - at + low) * a + (at - low) * b for a, b in zip(stops[low], stops[low + 1], strict=True)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("palette", ["classic", "colorblind"])
def test_every_column_holds_a_units_weights_activations_and_contributions_in_their_colours(width, palette):
    made = step(follow=-1)
    drawn = Drawn(figures.explanation(explanation(made), pictures("in", range(8)), palette=palette), width)
    told = figures.explanation(explanation(made)).data["steps"][0]
    for i, unit in enumerate([*made.up, *made.down]):
        for row, values in (("weights", "weights"), ("contribution", "products")):
            tile = next(m for m in drawn.maps if m.words.startswith(f"{row} of in:{unit},"))
            assert_colours(tile.pixels, told[values][i], told["scales"][row], palette)
        tile = next(m for m in drawn.maps if m.words.startswith(f"activation of in:{unit},"))
        for at in np.ndindex(3, 3):
            expected = activation_hue(float(told["activations"][i][at]), told["scales"]["activation"])
            assert np.abs(tile.pixels[at] - expected).max() <= 1.01
        assert drawn.above(tile).words == f"what excites in:{unit}"
        np.testing.assert_allclose(told["weights"][i] * told["activations"][i], told["products"][i], rtol=1e-5)


def test_units_are_those_that_push_most_with_their_numbers_and_the_sum_is_written_out():
    made = step(k=3)
    figure = figures.explanation(explanation(made))
    sums = made.attributions.by_unit
    order = np.argsort(-sums)
    assert list(made.up) == [u for u in order[:3] if sums[u] > 0]
    drawn = Drawn(figure, 1080)
    numbers = summing.signed_numbers([float(sums[u]) for u in (*made.up, *made.down)])
    assert set(numbers) <= set(drawn.texts)
    many = summing.decimals([made.attributions.value, 0.5, sums[sums > 0].sum(), sums[sums < 0].sum(), 0.25])
    for value in (abs(made.attributions.value), 0.5, sums[sums > 0].sum(), -sums[sums < 0].sum(), 0.25):
        assert any(t.lstrip("−") == f"{value:.{many}f}" for t in drawn.texts), value
    told = figure.data["steps"][0]
    assert told["value"] == pytest.approx(told["base"] + told["total"] + told["residual"])
    np.testing.assert_allclose(told["contributions"], sums[[*made.up, *made.down]])


def test_numbers_of_a_sum_have_equally_many_digits_behind_the_point():
    assert summing.signed_numbers([12.345, -0.004, 0.0]) == ["+12.3", "−0.0", "0.0"]
    assert summing.signed_numbers([1234.5]) == ["+1234"]
    assert summing.signed_numbers([]) == []
    assert summing.decimals([float("nan"), 0.0123]) == 4


@pytest.mark.parametrize("width", WIDTHS)
def test_an_arrow_leads_from_the_source_that_is_followed_to_its_own_step(width):
    first = step(follow=(f := step()).up[0], place=(2, 3))
    found = attributions(1, source="deep", target="in", unit=f.up[0])
    second = step(dataclasses.replace(found, unit=f.up[0]))
    figure = figures.explanation(explanation(first, second), [pictures("in", range(8)), pictures("deep", range(8))])
    drawn = Drawn(figure, width)
    [path] = [n for n in drawn.root.iter() if n.tag.endswith("path")]
    start = [float(v) for v in path.get("d")[1:].split("V")[0].split()]
    column = next(m for m in drawn.maps if m.words.startswith(f"contribution of in:{first.follow},"))
    assert abs(start[0] - column.middle[0]) < 1
    assert start[1] > column.y + column.h
    end = float(path.get("d").split(" ")[-1])
    again = [p for p in drawn.photos if p.words == f"what excites in:{first.follow}"][-1]
    assert again.y <= end <= again.y + again.h


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_leaves_the_figure_whatever_layers_are_called(width, name):
    first = step(attributions(source=name, target=name), follow=1, place=(0, 0))
    for look in ("light", "dark") if width == 390 else ("light",):
        drawn = Drawn(figures.explanation(explanation(first, first), pictures(name, range(8))), width, look)
        assert all(left >= 0 and right <= width + 1 for left, _, right, _, _ in drawn.lines())
        for one in (*drawn.maps, *drawn.photos):
            assert one.x >= 0
            assert one.x + one.w <= width


def test_what_has_no_image_no_positions_no_weights_or_nothing_that_pushes_is_still_drawn():
    zero = attributions(target_map=np.ones((1, 1), np.float32), at=(0, 0), image=False)
    zero = dataclasses.replace(zero, values=np.zeros_like(zero.values))
    empty = Step(zero, None, "attention lies between", float("nan"), (), ())
    drawn = Drawn(figures.explanation(explanation(empty)), 390)
    assert "nothing pushed it up" in drawn.texts
    assert "nothing pushed it down" in drawn.texts
    assert any("attention lies between" in t for t in drawn.texts)
    assert not drawn.photos
    signal = attributions(target_map=np.ones((1, 9), np.float32), at=(0, 1), image=False)
    assert Drawn(figures.explanation(explanation(step(signal))), 320).maps


def test_what_a_skip_path_carries_is_named_and_does_not_set_the_scale():
    made = step(k=4)
    unit = made.up[0]
    path = np.zeros((1, 8, 3, 3), np.float32)
    path[0, unit, 0, 0] = 50
    carried = dataclasses.replace(made.weights, skip_values=path, skip_first=np.array([0]), skip_included=False)
    made = dataclasses.replace(made, weights=carried)
    assert [made.carried(u) for u in range(8)] == [u == unit for u in range(8)]
    assert made.weight_map(unit)[0, 0] == pytest.approx(50 + carried.values[0, unit, 0, 0])
    figure = figures.explanation(explanation(made))
    others = [u for u in (*made.up, *made.down) if u != unit]
    assert figure.data["steps"][0]["scales"]["weights"] == pytest.approx(np.abs(carried.values[0, others]).max())
    assert "skip path" in Drawn(figure, 1080).texts


def test_wide_maps_show_their_inner_part_and_say_so():
    values = np.zeros((8, 30, 30), np.float32)
    values[:, 14:16, 14:16] = np.random.default_rng(0).normal(size=(8, 2, 2))
    one = attributions(values=values, activations=values + 1, gradients=values, window=(0, 0, 30, 30), grid=(30, 30))
    made = Step(one, None, "none", float("nan"), *map(tuple, one.pushed(2)))
    figure = figures.explanation(explanation(made))
    top, left, high, wide = figure.data["steps"][0]["shown"]
    assert 2 <= high < 30
    assert top <= 14
    assert top + high >= 16
    assert left <= 14
    assert left + wide >= 16
    assert "inner part" in figure.caption


def test_positions_lie_on_the_image_where_their_receptive_fields_are_centred():
    grid = imaging.Grid((4, 4), (32, 32), (9.5, 9.5, 4, 4))  # valid convolutions: a margin of 8 pixels
    assert grid.cell((0, 1)) == pytest.approx((8 / 32, 12 / 32, 4 / 32, 4 / 32))
    spread = grid.spread(np.arange(16.0).reshape(4, 4))
    assert spread.shape == (32, 32)
    for y in range(32):
        nearest = min(range(4), key=lambda t: abs(9.5 + 4 * t - y))
        assert spread[y, 10] == 4 * nearest
    even = imaging.Grid((2, 4), (8, 16))
    assert even.cell((1, 3)) == pytest.approx((0.5, 0.75, 0.5, 0.25))


def test_the_image_fades_where_the_unit_is_silent_or_negative():
    image = np.zeros((2, 4, 3), np.uint8)
    lit = imaging.spotlight(image, np.array([[2.0, 1.0, 0.0, -5.0]]), imaging.Grid((1, 4), (2, 4)))
    faint = 255 * (1 - imaging.FAINT)
    assert lit[0, :, 0] == pytest.approx([0, 255 * (1 - imaging.FAINT) / 2, faint, faint], abs=0.6)


@pytest.mark.parametrize(
    ("box", "label", "words"),
    [
        ((0, 4, 20, 28), "sees", "the image; framed: the part that conv:3 sees, and in it position (1, 2) of conv:3"),
        ((0, 0, 24, 32), "sees all of it", "the image, all of which conv:3 sees; framed: position (1, 2) of conv:3"),
        ((), "its position", "the image; framed: position (1, 2) of conv:3"),
    ],
)
def test_what_is_framed_on_the_image_is_what_the_words_say(box, label, words):
    made = step(attributions(box=box))
    drawn = Drawn(figures.explanation(explanation(made, made)), 720)
    assert [p.words for p in drawn.photos if p.words.startswith("the image")] == [words] * 2
    assert [t for t in drawn.texts if t in ("sees", "sees all of it", "its position", "the image")] == [label]
    single = step(attributions(box=box, target_map=np.ones((1, 1), np.float32), at=(0, 0)))
    shots = Drawn(figures.explanation(explanation(single, single)), 720).photos
    expected = {(): "the image", (0, 0, 24, 32): "the image, all of which conv:3 sees"}
    told = expected.get(box, "the image; framed: the part that conv:3 sees")
    assert [p.words for p in shots if p.words.startswith("the image")] == [told] * 2


@pytest.mark.parametrize("width", WIDTHS)
def test_why_a_walk_ends_stands_under_its_last_step(width):
    first = step(follow=0)
    last = dataclasses.replace(step(attributions(1, target="in")), ended="what 'in' reads is no layer's output")
    figure = figures.explanation(explanation(first, last))
    drawn = Drawn(figure, width)
    words = "The walk ends here: what 'in' reads is no layer's output."
    assert words in " ".join(drawn.texts)
    [top] = [top for _, top, _, _, line in drawn.lines() if line.startswith("The walk ends here")]
    assert top > max(m.y + m.h for m in drawn.maps)
    assert [s["ended"] for s in figure.data["steps"]] == ["", last.ended]
    assert figure.alt.endswith(words)
    assert "walk ends" not in " ".join(Drawn(figures.explanation(explanation(first, first)), width).texts)


def test_a_unit_that_does_not_fire_is_not_said_to_fire():
    found = attributions()
    negative = np.minimum(found.target_map, -0.1)
    made = step(dataclasses.replace(found, value=-27.5, target_map=negative))
    figure = figures.explanation(explanation(made))
    assert figure.caption.startswith("Why conv:3 came to −27.5 on this image")
    assert "<title>Why conv:3 came to −27.5</title>" in figure.html()
    silent = step(dataclasses.replace(found, value=0.0, target_map=np.zeros((3, 4), np.float32)))
    figure = figures.explanation(explanation(silent))
    assert figure.caption.startswith("Why conv:3 came to 0 on this image")
    assert "never above 0" in Drawn(figure, 720).texts
    fired = figures.explanation(explanation(step(dataclasses.replace(found, value=2.0))))
    assert fired.caption.startswith("Why conv:3 fired on this image")
    assert "activations purple above 0, green below." in fired.caption


def test_cells_are_means_of_blocks():
    maps = np.random.default_rng(0).normal(size=(3, 7, 5))
    values, side = figures.pooled(maps, cells=3)
    assert side == 3
    assert values.shape == (3, 3, 2)
    for y, x in np.ndindex(3, 2):
        np.testing.assert_allclose(values[:, y, x], maps[:, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3].mean(axis=(1, 2)))
    assert figures.pooled(maps)[1] == 1
    with pytest.raises(ArgumentError, match="cells=0"):
        figures.pooled(maps, 0)
    with pytest.raises(ArgumentError, match="no unit of the layer is active"):
        figures.drawn_cells(np.zeros((3, 2, 2)))


def seen(o=4, h=6, w=6):
    r = np.random.default_rng(1)
    maps = np.abs(r.normal(size=(1, o, h, w))).astype(np.float32)
    maps[:, :, 0, 0] *= 0.01  # too short for a picture
    return Activations({"conv": maps}, r.integers(0, 256, (1, 24, 24, 3), np.uint8), ("cat",), provenance=PROVENANCE)


@pytest.mark.parametrize("fade", ["faded", "sized"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_cell_shows_its_picture_faded_or_sized_by_its_length(fade, width):
    found = seen()
    values, _ = figures.pooled(found["conv"][0])
    spots = figures.drawn_cells(values)
    assert (0, 0) not in spots
    shots = pictures("positions", range(len(spots)))
    groups = factors(1, 4, 6, 6, 3, source="in")
    figure = figures.activation_grid(found, "conv", shots, groups, pictures("factors", range(3)), fade=fade)
    drawn = Drawn(figure, width)
    length = np.sqrt(np.square(values).sum(axis=0))
    np.testing.assert_allclose(figure.data["lengths"], length)
    side = max(p.w for p in drawn.photos if p.words.startswith("row "))
    for n, (y, x) in enumerate(spots):
        [one] = [p for p in drawn.photos if p.words.startswith(f"row {y}, column {x}:")]
        share = length[y, x] / length.max()
        colour = np.array(shade("positions", n), float)
        if fade == "faded":
            colour = 255 + (colour - 255) * share
        else:
            assert one.w == pytest.approx(side * math.sqrt(share), rel=0.02)
        assert np.abs(one.pixels.reshape(-1, 3).mean(0) - colour).max() < 6
    assert len([p for p in drawn.photos if p.words.startswith("where group")]) == 3
    assert "not pictured" in next(p.words for p in drawn.photos if p.words.startswith("row 0, column 0:"))


def test_grids_of_other_records_are_refused():
    found, shots = seen(), pictures("positions", range(35))
    with pytest.raises(ArgumentError, match="3 pictures came in for 35 cells"):
        figures.activation_grid(found, "conv", pictures("positions", range(3)))
    with pytest.raises(ArgumentError, match="not of these maps"):
        figures.activation_grid(found, "conv", shots, factors(1, 4, 5, 6, 3))
    with pytest.raises(UnknownNameError, match="no image 1"):
        figures.activation_grid(found, "conv", shots, image=1)
    with pytest.raises(ArgumentError, match="fade="):
        figures.activation_grid(found, "conv", shots, fade="blurred")


@pytest.mark.parametrize("first", [-128, -5, 0, 7])
@pytest.mark.parametrize("many", [1, 6, 128])
def test_bars_add_up_neighbours_and_keep_an_edge_at_zero(first, many):
    counts = np.random.default_rng(many).integers(0, 9, many)
    edges = (np.arange(many + 1) + first) * 0.25
    made = histograms.bars(counts, edges, most=20)
    assert len(made.counts) <= 20
    assert made.counts.sum() == counts.sum()
    for low, high, count in zip(made.edges[:-1], made.edges[1:], made.counts, strict=True):
        assert count == counts[(edges[:-1] >= low) & (edges[:-1] < high)].sum()
    if edges[0] < 0 < edges[-1]:
        assert 0.0 in made.edges


def examples(negative=False):
    r = np.random.default_rng(2)
    values = r.normal(size=(3, 50)) if negative else np.abs(r.normal(size=(3, 50)))
    if not negative:
        values[2] = 0
    histogram = np.zeros((3, 256), np.int64)
    for row, line in enumerate(values):
        np.add.at(histogram[row], np.floor(line / 0.125).astype(int) + 128, 1)
    peaks = -np.sort(-values, axis=1)[:, :4].astype(np.float32)
    return DatasetExamples(
        ("conv",), (3,), np.array([50]), values.sum(1), np.square(values).sum(1), (values > 0).sum(1), values.min(1),
        values.max(1), histogram, np.full(3, 0.125), peaks, np.tile(np.arange(4, dtype=np.int32), (3, 1)),
        np.zeros((3, 4, 2), np.int32), tuple("abcde"), 5, "digest", PROVENANCE,
    )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_of_examples_has_the_crops_their_activations_and_the_histogram(width):
    found = examples()
    crops = {u: [np.full((10, 12, 3), 20 * u + 40 * n, np.uint8) for n in range(4)] for u in (0, 2)}
    figure = figures.dataset_examples(found, "conv", [2, 0], crops, pictures("conv", range(3)))
    drawn = Drawn(figure, width)
    shots = [p for p in drawn.photos if "excites conv:0 with" in p.words]
    assert [int(p.pixels.mean()) // 10 for p in shots] == [0, 4, 8, 12]
    strongest = [magnitude(f.activation) for f in found.best("conv", 0)]
    assert [t for t in drawn.texts if t in strongest] == strongest
    assert int(figure.data["counts"][0].sum()) == 50
    assert figure.data["dead"] == [2]
    assert "dead: never above 0" in drawn.texts
    assert "1 unit of the layer never rose above 0" in figure.caption
    assert all(left >= 0 and right <= width + 1 for left, _, right, _, _ in drawn.lines())


def test_nothing_is_shown_as_exciting_a_unit_that_never_fires():
    found = examples()
    found.peaks[0, 2:] = 0  # a unit that fires on fewer images than are kept
    crops = {u: [np.full((10, 12, 3), 60, np.uint8)] * 4 for u in (0, 2)}
    figure = figures.dataset_examples(found, "conv", [2, 0], crops, pictures("conv", range(3)))
    drawn = Drawn(figure, 720)
    assert [p.words for p in drawn.photos if "excites conv:2 with" in p.words] == []
    assert len([p for p in drawn.photos if "excites conv:0 with" in p.words]) == 2
    assert [len(figure.data["activations"][u]) for u in (2, 0)] == [0, 2]
    assert "no image excites it" in drawn.texts
    assert "None of 5 images excites conv:2." in figure.caption
    alone = figures.dataset_examples(found, "conv", [2], crops)
    assert alone.caption.startswith("None of 5 images excites conv:2. The bars")
    assert "<title>Nothing excites conv:2</title>" in alone.html()
    assert "<title>What excites conv:0</title>" in figures.dataset_examples(found, "conv", [0], crops).html()


def test_crops_of_a_unit_that_is_negative_everywhere_are_called_those_where_it_is_least_below():
    found = examples(negative=True)
    found.peaks[1] = [-1, -2, -3, -4]
    figure = figures.dataset_examples(found, "conv", [1, 0], {1: [np.zeros((8, 8, 3), np.uint8)]})
    assert "conv:1 is nowhere above 0: its crops are those where it is least below" in figure.caption.replace(
        ". C", "; c"
    )
    assert "conv:0 is nowhere" not in figure.caption


def test_units_of_a_layer_with_negative_values_are_not_called_dead():
    figure = figures.dataset_examples(examples(negative=True), "conv", [1], {})
    assert figure.data["dead"] == []
    assert "none of its units is called dead" in figure.caption
    assert "no crops were given" in Drawn(figure, 720).texts
    with pytest.raises(ArgumentError, match="5 crops of conv:1 came in for 4 examples"):
        figures.dataset_examples(examples(), "conv", [1], {1: [np.zeros((4, 4, 3), np.uint8)] * 5})
    with pytest.raises(UnknownNameError):
        figures.dataset_examples(examples(), "conv", [3], {})


def cases():
    r = np.random.default_rng(4)
    planted = r.normal(size=(2, 5, 3, 3)).astype(np.float32)
    planted[1] = -planted[0]
    loadings = np.array([[1, 0], [0, 2], [3, 0.1], [0.2, 0.2], [0, 1]], np.float32)
    return GradientCases(
        planted, np.array([0.6, 0.3], np.float32), loadings, 0.9, 0.95, "in", "conv", 3, (-1, -1), (1, 1),
        np.zeros(5, np.int32), np.zeros((5, 2), np.int32), np.ones(5, np.float32), ("cat",),
        np.array([[1, -1], [-1, 1]], np.float32), 0, PROVENANCE,
    )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_every_case_shows_its_strongest_units_glued_to_their_gradients_on_one_scale(width):
    found = cases()
    crops = {n: [np.full((8, 8, 3), 60 + 90 * n, np.uint8)] * 2 for n in range(2)}
    figure = figures.gradient_cases(found, [pictures("in", range(5)), pictures("conv", [3])], crops, k=2)
    drawn = Drawn(figure, width)
    power = np.square(found.cases).sum(axis=(2, 3))
    for n in range(2):
        assert figure.data["units"][n] == np.argsort(-power[n])[:2].tolist()
        for unit in figure.data["units"][n]:
            tiles = [m for m in drawn.maps if m.words.startswith(f"in:{unit},")]
            assert_colours(tiles[n].pixels, found.cases[n, unit], figure.data["scale"])
            assert drawn.above(tiles[n]).words == f"what excites in:{unit}"
    assert {"case 1: 60%", "case 2: 30%"} <= set(drawn.texts)
    assert "cosine −1.00" in figure.caption
    assert len([p for p in drawn.photos if p.words == "an example of case 2"]) == 2


@pytest.mark.parametrize("shape", [(40, 40), (40, 60), (64, 40)])
def test_positions_are_framed_in_crops_that_do_not_tell_them(shape):
    crop = np.zeros((*shape, 3), np.uint8)
    h, w = shape
    middle = (h / 2 + 6, w / 2 - 4)  # of a position of 8 × 10 pixels, within the square that is shown
    cell = ((middle[0] - 4) / h, (middle[1] - 5) / w, 8 / h, 10 / w)
    found, scale = cases(), 1 / min(shape)
    figure = figures.gradient_cases(found, None, {0: [crop], 1: [crop]}, k=1, cells={0: [cell]})
    drawn = Drawn(figure, 720)
    shot = next(p for p in drawn.photos if p.words == "an example of case 1")
    frames = [r for r in drawn.root.iter(f"{SVG}rect") if r.get("stroke-width") == "1.5"]
    assert len(frames) == 1  # the second crop has none
    x, y, wide, high = (float(frames[0].get(n)) for n in ("x", "y", "width", "height"))
    side = shot.w
    assert (x + wide / 2 - shot.x) / side == pytest.approx(0.5 - 4 * scale, abs=0.01)
    assert (y + high / 2 - shot.y) / side == pytest.approx(0.5 + 6 * scale, abs=0.01)
    assert (wide / side, high / side) == pytest.approx((10 * scale, 8 * scale), abs=0.01)
    assert "frames show their positions" in figure.caption
    assert "frames" not in figures.gradient_cases(found, None, {0: [crop]}, k=1).caption


def test_the_examples_of_a_case_are_those_with_most_of_it_the_strongest_first():
    assert cases().most_of(0, 3) == [0, 2, 3]
    assert cases().most_of(1, 9) == [1, 4, 3, 2]
    with pytest.raises(ArgumentError, match="no case 2"):
        cases().most_of(2, 1)
    broken = dataclasses.replace(cases(), cases=np.full((2, 5, 3, 3), np.nan, np.float32))
    with pytest.raises(WeightValuesError):
        figures.gradient_cases(broken)


def test_notebooks_show_what_these_records_hold():
    assert "<svg" in explanation(step())._repr_html_()
    assert "wa.explain finds them" in attributions()._repr_html_()
    assert "<svg" in cases()._repr_html_()
    assert pushing.ROWS[0] == "weights"
