"""Figures against the numbers they show: pixels are decoded from the SVG and compared with what was planted."""

import base64
import dataclasses
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from planted import SVG, banding, by_hand, factors, flat, images, parse, rgb_weights, texts, tiles, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, WeightValuesError
from weightatlas.figures import theme
from weightatlas.records import Banding


class TestNmfGrid:
    def test_red_green_and_blue_are_the_factors_on_one_scale(self):
        f = factors(o=5)
        root = parse(wa.figures.nmf_grid(f))
        peak = [np.quantile(f.space[..., k], 0.97) for k in range(3)]
        expected = by_hand(f.space, peak, [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
        assert np.abs(tiles(root) - expected).max() <= 0.51
        assert tiles(root).max() == 255

    def test_planted_primaries(self):
        space = np.zeros((1, 1, 4, 3), np.float32)
        space[0, 0, :3] = np.eye(3)
        root = parse(wa.figures.nmf_grid(factors(o=1, h=1, w=4, space=space)))
        assert tiles(root)[0, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]

    @pytest.mark.parametrize("rank", [1, 2, 4, 5])
    def test_other_ranks_keep_the_hue_of_the_mix(self, rank):
        f = factors(o=4, k=rank)
        drawn = wa.figures.nmf_grid(f)
        peak = [np.quantile(f.space[..., k], 0.97) for k in range(rank)]
        raw = by_hand(f.space, peak, theme.factor_colours(rank))
        expected = raw * np.minimum(1, 255 / np.maximum(raw.max(-1, keepdims=True), 1e-9))
        assert np.abs(tiles(parse(drawn)) - expected).max() <= 0.51
        chips = [n.get("fill") for n in parse(drawn).iter(f"{SVG}rect") if n.get("width") == "11"]
        assert len(set(chips)) == rank

    def test_per_unit_colours_follow_the_place_as_in_figure_2(self):
        space = np.zeros((2, 3, 3, 3), np.float32)
        for unit, order in enumerate([(0, 1, 2), (2, 0, 1)]):  # factor -> row
            for k, row in enumerate(order):
                space[unit, row, :, k] = 0.5 if unit else 1.0
        drawn = wa.figures.nmf_grid(factors(o=2, per_unit=True, space=space))
        root = parse(drawn)
        blue, red, green = [0, 0, 255], [255, 0, 0], [0, 255, 0]
        for tile in tiles(root)[:1]:
            assert tile[:, 0].tolist() == [blue, red, green]
        assert tiles(root)[1][:, 0].tolist() == [blue, red, green]  # each tile on its own scale
        assert "blue is its uppermost factor, red the middle one, green the lowest" in drawn.caption
        assert "do not compare across tiles" in drawn.caption
        assert "every tile has its own scale" in drawn.caption
        assert not [t for t in texts(root) if t.startswith("factor")]
        sideways = factors(o=2, h=1, w=3, per_unit=True, space=space[:, :, :1].transpose(0, 2, 1, 3))
        assert tiles(parse(wa.figures.nmf_grid(sideways)))[1, 0].tolist() == [blue, red, green]

    def test_one_strong_unit_does_not_leave_the_others_in_the_dark(self):
        space = np.full((40, 3, 3, 1), 0.01, np.float32)
        space[7] = 1.0
        shown = tiles(parse(wa.figures.nmf_grid(factors(o=40, k=1, space=space), units=range(40))))
        assert shown[0].max() == 255

    def test_a_single_bright_square_is_seen(self):
        space = np.zeros((20, 3, 3, 1), np.float32)
        space[3, 1, 1] = 0.2
        shown = tiles(parse(wa.figures.nmf_grid(factors(o=20, k=1, space=space))))
        assert shown[3, 1, 1].tolist() == [255, 0, 0]
        assert shown.sum() == 255

    def test_weights_that_are_all_zero_are_dark(self):
        f = wa.factorize(np.zeros((3, 4, 3, 3), np.float32))
        assert tiles(parse(wa.figures.nmf_grid(f))).max() == 0
        own = wa.factorize(np.zeros((3, 4, 3, 3), np.float32), per_unit=True)
        assert tiles(parse(wa.figures.nmf_grid(own))).max() == 0

    def test_words(self):
        f = factors(o=30, target="blocks.4.1", source="blocks.4.0", h=5, w=3)
        drawn = wa.figures.nmf_grid(f)
        root = parse(drawn)
        assert [t for t in texts(root) if ":" in t and t.startswith("blocks")] == [f"blocks.4.1:{u}" for u in range(20)]
        assert "reads blocks.4.0 · 5 × 3 · 20 of 30 units" in texts(root)
        assert {"factor 1: 30.0%", "factor 2: 15.5%", "factor 3: 1.0%"} <= set(texts(root))
        for words in ("43.2% of the squared weights", "56.8%", "30 units together", "one-sided NMF"):
            assert words in drawn.caption
        assert "2 ReLU6 read as the identity." in drawn.caption
        assert flat(drawn.caption) in flat(texts(root))
        assert "net · weights abababababab · weightatlas 1.0" in texts(root)
        title = next(root.iter(f"{SVG}image")).find(f"{SVG}title").text
        assert title == f"blocks.4.1:0, {f.unit_explained[0]:.0%} explained"

    def test_units(self):
        f = factors(o=4, units=np.array([3, 17, 5, 9]))
        drawn = wa.figures.nmf_grid(f, units=iter([9, 3]))
        assert drawn.data["units"].tolist() == [9, 3]
        assert np.array_equal(drawn.data["space"], f.space[[3, 0]])
        assert [t for t in texts(parse(drawn)) if t.startswith("conv:")] == ["conv:9", "conv:3"]
        for wrong in ([4], [18], [-1], [3, 1000]):
            with pytest.raises(ArgumentError, match=r"unit -?\d+ of 'conv' is not among the 4 units given"):
                wa.figures.nmf_grid(f, units=wrong)
        for wrong in ([], "3", [3.0], 3):
            with pytest.raises(ArgumentError):
                wa.figures.nmf_grid(f, units=wrong)

    def test_signed_space_is_refused(self):
        with pytest.raises(ArgumentError, match="nonnegative='channels'"):
            wa.figures.nmf_grid(factors(nonnegative="channels"))


class TestPixelGrid:
    def test_grey_is_zero_and_the_rest_is_linear(self):
        w = rgb_weights()
        w.values[2] = 0
        root = parse(wa.figures.pixel_grid(w))
        shown = tiles(root)
        for o in range(6):
            scale = np.abs(w.values[o]).max() or 1
            expected = 127.5 + 127.5 * w.values[o].transpose(1, 2, 0) / scale
            assert np.abs(shown[o] - expected).max() <= 0.51
            assert {0, 255} & set(shown[o].flat) or o == 2
        assert (shown[2] == 128).all()
        scales = [t for t in texts(root) if t.startswith("±")]
        assert [float(t[1:]) for t in scales] == pytest.approx(np.abs(w.values).max((1, 2, 3)), rel=0.05)

    def test_the_legend_shows_what_a_weight_on_red_looks_like(self):
        values = np.zeros((1, 3, 1, 3), np.float32)
        values[0, 0, 0] = [0, 2, -2]
        root = parse(wa.figures.pixel_grid(rgb_weights(o=1, values=values)))
        chips = [n.get("fill") for n in root.iter(f"{SVG}rect") if n.get("width") == "11"]
        assert chips == ["#" + bytes(c).hex() for c in tiles(root)[0, 0]]
        assert {"zero", "red excites", "red inhibits"} <= set(texts(root))

    def test_only_rgb_has_colours_of_its_own(self):
        for wrong in (
            weights(i=3),
            rgb_weights(channel_names=("blue", "green", "red")),
            rgb_weights(channel_names=()),
            weights(i=4, sees_pixels=True, channel_names=("red", "green", "blue", "depth")),
            rgb_weights(i=1, groups=3, source_units=3),
        ):
            with pytest.raises(ArgumentError, match="red, green and blue"):
                wa.figures.pixel_grid(wrong)

    def test_only_the_units_shown_must_be_finite(self):
        w = rgb_weights()
        w.values[4, 0, 0, 0] = np.nan
        assert wa.figures.pixel_grid(w, units=[0, 5]).data["units"].tolist() == [0, 5]
        with pytest.raises(WeightValuesError, match="conv:4"):
            wa.figures.pixel_grid(w)

    def test_words(self):
        drawn = wa.figures.pixel_grid(rgb_weights(norm="bn1"))
        assert "(red, green, blue)" in drawn.caption
        assert "Batch norm bn1 is folded in." in drawn.caption
        assert "every tile has its own scale" in drawn.caption


class TestSignedMaps:
    @pytest.mark.parametrize("palette", ["classic", "colorblind"])
    def test_one_symmetric_scale_and_near_white_zero(self, palette):
        values = np.array([[[0, 1.5]], [[-3, 0]], [[3, -0.75]]], np.float32)[:, None]
        drawn = wa.figures.signed_maps(weights(o=3, values=values, i=1, source_units=3, groups=3), palette=palette)
        root = parse(drawn)
        shown = tiles(root)
        stops = theme.DIVERGING[palette]
        colours = [["#" + bytes(c).hex() for c in tile[0]] for tile in shown]
        assert colours[0][0] == colours[1][1] == "#f7f7f7"
        assert (colours[1][0], colours[2][0]) == (stops[0], stops[-1])
        assert (colours[0][1], colours[2][1]) == (stops[6], stops[3])  # half up, a quarter down
        assert {"−3", "+3", "one scale for the figure"} <= set(texts(root))
        assert drawn.data["scale"] == 3
        excite = {"classic": "red excites, blue inhibits", "colorblind": "orange excites, blue inhibits"}
        assert excite[palette] in drawn.caption

    def test_the_ramp_runs_from_end_to_end(self):
        drawn = wa.figures.signed_maps(weights(i=1))
        ramp = next(n for n in parse(drawn).iter(f"{SVG}image") if n.get("aria-label") == "colour scale")
        data = base64.b64decode(ramp.get("href").partition(",")[2])
        row = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0]
        assert ["#" + bytes(row[k]).hex() for k in (0, len(row) // 2, -1)] == [
            theme.DIVERGING["classic"][k] for k in (0, 4, 8)
        ]

    def test_refusals(self):
        with pytest.raises(ArgumentError, match="4 source units"):
            wa.figures.signed_maps(weights())
        with pytest.raises(ArgumentError, match="'classic', 'colorblind'"):
            wa.figures.signed_maps(weights(i=1), palette="jet")
        bad = weights(i=1)
        bad.values[2] = np.inf
        with pytest.raises(WeightValuesError, match="conv:2"):
            wa.figures.signed_maps(bad)
        assert wa.figures.signed_maps(bad, units=[0, 1]).data["values"].shape == (2, 3, 3)

    def test_depthwise_is_said(self):
        assert "depthwise" in " ".join(texts(parse(wa.figures.signed_maps(weights(i=1, source_units=6, groups=6)))))
        assert "depthwise" not in " ".join(texts(parse(wa.figures.signed_maps(weights(i=1)))))


class TestBandingPlot:
    @pytest.mark.parametrize("width", [240, 360, 720, 1080])
    def test_marks_lie_where_the_numbers_are(self, width):
        found = banding()
        root = parse(wa.figures.banding_plot(found), width)
        places = {t.text: float(t.get("x")) for t in root.iter(f"{SVG}text")}
        zero, one = places["0%"], places["100%"]
        inner = [n for n in root.iter(f"{SVG}circle") if n.get("r") in ("4.5", "5")]
        rows, rings = (
            [float(n.get("cx")) for n in inner if n.get("r") == r][1:] for r in ("5", "4.5")
        )  # after the key
        for x, share in zip(rows + rings, [r.row_share for r in found] + [r.column_share for r in found], strict=True):
            assert x == pytest.approx(zero + share * (one - zero), abs=0.02)
        bands = [n for n in root.iter(f"{SVG}rect") if n.get("height") == "10"][1:]
        for node, row in zip(bands, found, strict=True):
            assert float(node.get("x")) == pytest.approx(zero + row.interval[0] * (one - zero), abs=0.02)
            assert float(node.get("width")) == pytest.approx(
                (row.interval[1] - row.interval[0]) * (one - zero), abs=0.03
            )

    def test_words(self):
        drawn = wa.figures.banding_plot(banding())
        root = parse(drawn)
        assert {"early", "late", "stem", "Listed apart", "59%", "sees pixels: filters"} <= set(texts(root))
        assert (
            "late is banded: 59% of its kernels' variance lies between rows, 32% between columns, 25%" in drawn.caption
        )
        assert "95% of 500" in drawn.caption
        assert "late: rows 0.59, columns 0.32" in drawn.alt
        tips = [t.text for t in root.iter(f"{SVG}title")]
        assert any(
            "late: rows 0.590, columns 0.320, expected 0.250, 95% of permutations 0.090 to 0.450" in t for t in tips
        )

    def test_none_many_and_nothing(self):
        one, two = banding()[0], banding()[1]
        assert "The one judged layer does not stand out" in wa.figures.banding_plot(banding(one)).caption
        assert (
            "2 layers are banded: late, x"
            in wa.figures.banding_plot(banding(two, dataclasses.replace(two, layer="x"))).caption
        )
        nan = float("nan")
        broken = dataclasses.replace(one, row_share=nan, column_share=nan, interval=(nan, nan), apart="NaN")
        root = parse(wa.figures.banding_plot(banding(broken)))
        assert "nan" not in ET.tostring(root).decode().replace("NaN", "")
        empty = Banding((), 0, 10)
        assert "No layer is judged" in wa.figures.banding_plot(empty).caption
        assert parse(wa.figures.banding_plot(empty)) is not None


@pytest.mark.parametrize(
    ("o", "h", "w", "k"),
    [(1, 1, 1, 1), (1, 5, 5, 3), (500, 3, 3, 2), (4, 1, 7, 3), (4, 7, 1, 5), (3, 1, 1, 3), (2, 64, 1, 1)],
)
def test_all_sizes(o, h, w, k):
    f = factors(o=o, h=h, w=w, k=k)
    for drawn in (
        wa.figures.nmf_grid(f, units=range(o)),
        wa.figures.signed_maps(weights(o=o, i=1, h=h, w=w), range(o)),
    ):
        for width in (240, 720):
            shown = images(parse(drawn, width))
            assert len(shown) == o
            assert all(pixels.shape == (h, w, 3) for _, pixels in shown)
            places = {tuple(place[:2]) for place, _ in shown}
            assert len(places) == o
    own = factors(o=o, h=h, w=w, k=k, per_unit=True)
    assert len(images(parse(wa.figures.nmf_grid(own, units=range(o))))) == o


def test_records_show_themselves(tmp_path):
    assert 'class="wa-figure"' in factors()._repr_html_()
    assert 'class="wa-figure"' in rgb_weights()._repr_html_()
    assert 'class="wa-figure"' in weights(i=1)._repr_html_()
    assert 'class="wa-figure"' in banding()._repr_html_()
    plain = weights()
    assert plain._repr_html_().count('role="img" aria-label="conv:') or 'class="wa-figure"' in plain._repr_html_()
    assert "conv:2" in plain._repr_html_()
    assert "conv:3" not in plain._repr_html_()  # three units are enough to see what it is
    assert "Factors(" in factors(nonnegative="channels")._repr_html_()
    bad = weights(i=1, target="<b>")
    bad.values[0] = np.nan
    assert "NaN or infinite" in bad._repr_html_()
    assert "<b>" not in bad._repr_html_()
