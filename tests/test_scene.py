"""The drawing surface: well-formed whatever the names hold, readable inks, type that fits, squares that stay sharp."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from weightatlas.errors import ArgumentError
from weightatlas.figures import escape, layout, lettering, page, theme, visible
from weightatlas.figures.figure import MARGIN
from weightatlas.figures.scene import Scene, png_bytes

SVG = "{http://www.w3.org/2000/svg}"


def luminance(colour):
    """Relative luminance of WCAG 2."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(ink, ground, opacity):
    mixed = [round(opacity * int(ink[i : i + 2], 16) + (1 - opacity) * int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{v:02x}" for v in mixed)


def test_contrast_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_can_be_read(name):
    inks = theme.INKS[name]
    for role in ("ink", "quiet"):
        assert contrast(inks[role], inks["ground"]) >= 4.5
        assert contrast(inks[role], inks["wash"]) >= 4.5  # commands lie on the wash
        mixed = over(inks["ink"], inks["ground"], theme.STRENGTH[role])  # the same inside a page
        assert contrast(mixed, inks["ground"]) >= 4.5
    for colours in (theme.EXCITE, theme.INHIBIT):
        assert all(contrast(c, inks["ground"]) >= 3 for c in colours.values())  # marks


def test_css_holds_those_inks_and_no_others():
    for name in ("light", "dark"):
        found = set(re.findall(r"#[0-9a-f]{6}", theme.style(name)))
        assert found == set(theme.INKS[name].values())
    assert "prefers-color-scheme:dark" in theme.style("auto")
    inside = theme.inherited_style(".box")
    assert all(rule.strip().startswith(".box ") for rule in inside.split("}") if rule)
    assert not re.search(r"#[0-9a-f]{6}", inside)
    for wrong in ("Dark", "", None):
        with pytest.raises(ArgumentError, match="'auto', 'light', 'dark'"):
            theme.style(wrong)


class TestDiverging:
    @pytest.mark.parametrize("palette", ["classic", "colorblind"])
    def test_is_piecewise_linear_between_its_stops(self, palette):
        stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in theme.DIVERGING[palette]], float)
        values = np.linspace(-3, 3, 97)
        seen = theme.diverging(values, 2.0, palette)
        for value, colour in zip(values, seen, strict=True):
            place = (min(max(value / 2.0, -1), 1) + 1) / 2 * (len(stops) - 1)
            left = min(int(place), len(stops) - 2)
            expected = stops[left] + (place - left) * (stops[left + 1] - stops[left])
            assert np.abs(colour - expected).max() <= 0.51
        assert seen[48].tolist() == [0xF7] * 3
        assert (seen[0].tolist(), seen[-1].tolist()) == (stops[0].tolist(), stops[-1].tolist())

    def test_signs_are_told_apart_in_grey_free_ways(self):
        for palette in ("classic", "colorblind"):
            low, high = theme.diverging(np.array([-1.0, 1.0]), 1.0, palette).astype(int)
            assert low[2] > low[0] + 60  # blue inhibits
            assert high[0] > high[2] + 60  # red or orange excites

    def test_nan_stands_out_and_zero_scale_is_all_zero(self):
        colours = theme.diverging(np.array([np.nan, 0.0, np.inf, -np.inf]), 1.0)
        assert colours[0].tolist() == list(theme.NAN_COLOUR)
        stops = theme.DIVERGING["classic"]
        assert ["#" + bytes(c).hex() for c in colours[1:]] == ["#f7f7f7", stops[-1], stops[0]]
        assert (theme.diverging(np.zeros(3), 0.0) == 0xF7).all()
        with pytest.raises(ArgumentError, match="palette='rainbow'"):
            theme.diverging(np.zeros(1), 1.0, "rainbow")


def test_factor_colours():
    assert theme.factor_colours(3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    for rank in range(1, 9):
        colours = theme.factor_colours(rank)
        assert colours.shape == (rank, 3)
        assert len({tuple(c) for c in colours}) == rank
    assert (theme.factor_colours(2).sum(axis=0) <= 1).all()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_text_makes_well_formed_xml_that_reads_back(text):
    root = ET.fromstring(f'<a b="{escape(text)}">{escape(text)}</a>'.encode())
    assert root.text in (visible(text), None if text == "" else visible(text))
    assert visible(visible(text)) == visible(text)
    assert not set(visible(text)) & {chr(c) for c in [*range(32), *range(127, 160), *theme_turning()]}


def theme_turning():
    return lettering.TURNING


def test_what_cannot_be_shown_is_named():
    assert visible("a\x00\x1b[31m\x9f") == r"a\x00\x1b[31m\x9f"
    assert visible("x\u202egnp.\udcff\uffff\U0001fffe") == r"x\u202egnp.\udcff\uffff\u1fffe"
    assert visible("one\ntwo\tthree\r") == "one two three "
    assert visible("blocks.4.1 · 層 😀 שלום") == "blocks.4.1 · 層 😀 שלום"


class TestLettering:
    def test_lines_fit_and_nothing_is_lost(self):
        text = "One factorization of features.denseblock3.denselayer24.conv2.branch_of_everything together"
        for width in (160, 208, 400, 4000):
            lines = lettering.wrap(text, 12.5, width)
            assert "".join(lines).replace(" ", "") == text.replace(" ", "")
            assert all(lettering.text_width(line, 12.5) <= width for line in lines)
        assert len(lettering.wrap(text, 12.5, 4000)) == 1
        assert lettering.wrap("", 12, 100) == []

    @pytest.mark.parametrize("text", ["x" * 100_000, "層" * 9_000, "\x00" * 5_000, "W" * 300])
    def test_words_without_end_are_shortened_quickly(self, text):
        lines = lettering.wrap(text, 12, 200)
        assert 1 < len(lines) <= lettering.MOST_LINES + 1
        assert all(lettering.text_width(line, 12) <= 200 for line in lines)
        short = lettering.shorten(text, 12, 200)
        assert "…" in short
        assert lettering.text_width(short, 12, mono=True) <= 200
        assert lettering.text_width(short, 12, mono=True) > 150

    def test_short_text_stays(self):
        assert lettering.shorten("conv1:0", 12, 200) == "conv1:0"

    def test_widths(self):
        assert lettering.text_width("mmmm", 10, mono=True) == pytest.approx(lettering.text_width("iiii", 10, mono=True))
        assert lettering.text_width("mm", 10) == pytest.approx(2 * lettering.text_width("m", 10), rel=0.05)
        assert lettering.text_width("mm", 20) == pytest.approx(2 * lettering.text_width("mm", 10))
        assert lettering.text_width("層層", 10) == 20  # of a face of the reader's
        assert lettering.all_drawn("blocks.4.1 · 5 × 5 − λ …")
        assert not lettering.all_drawn("模型")


class TestLayout:
    @pytest.mark.parametrize("width", [208, 288, 688, 1048, 3968])
    @pytest.mark.parametrize("aspect", [1 / 64, 1 / 7, 1, 7, 64])
    @pytest.mark.parametrize("count", [1, 2, 7, 20, 30, 500])
    def test_tiles_fit(self, width, aspect, count):
        columns, side = layout.columns_for(count, width, aspect)
        assert 1 <= columns <= count
        assert columns * side + (columns - 1) * layout.GAP <= width + 1e-6
        assert side >= min(layout.TILE_RANGE[0] * 0.9, width)
        assert columns > 1 or count == 1 or aspect > 1

    def test_squares_stay_square(self):
        for height, width in [(1, 1), (3, 3), (5, 5), (7, 1), (1, 7), (3, 5), (11, 2)]:
            wide, high = layout.picture_size(70, height, width)
            assert wide / width == pytest.approx(high / height)
            assert wide <= 70
        assert min(layout.picture_size(70, 1, 256)) >= layout.THINNEST
        assert min(layout.picture_size(70, 256, 1)) >= layout.THINNEST

    @pytest.mark.parametrize("width", [240, 320, 4000])
    @pytest.mark.parametrize("scale", [0, 1.23e-38, 0.25, 123.4, 3.4e38])
    def test_the_legend_fits_and_tells_its_scale(self, width, scale):
        scene = Scene(width)
        layout.scale_legend(scene, 0, scale, "classic", "one scale for the figure")
        root = ET.fromstring(scene.svg("light", "t", "d"))
        texts = root.findall(f"{SVG}text")
        assert float(texts[0].text.replace("−", "-")) == pytest.approx(-scale, rel=0.05)
        assert float(texts[1].text) == pytest.approx(scale, rel=0.05)
        ramp = root.find(f"{SVG}image")
        assert float(ramp.get("width")) > 40
        for text in texts:
            right = float(text.get("x")) + lettering.text_width(text.text, 12)
            assert right <= width - MARGIN / 2

    def test_magnitudes(self):
        shown = [layout.magnitude(v) for v in (0, 0.2468, -0.5, 99.4, 99.6, 1234.5, 99999.9, -7e-7)]
        assert shown == ["0", "0.25", "-0.5", "99", "100", "1234", "1e+05", "-7e-07"]


def test_png_bytes_are_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)


def test_a_scene_grows_with_what_it_holds():
    scene = Scene(300)
    scene.rect(0, 10, 5, 40, role="wash")
    scene.text(0, 90, "a & b", 10)
    scene.note('say "hi" <b>')
    root = ET.fromstring(scene.svg("dark", "T<", "D&"))
    assert root.get("viewBox").split() == ["0", "0", "300", "94"]
    assert (root.find(f"{SVG}title").text, root.find(f"{SVG}desc").text) == ("T<", "D&")
    assert root.get("aria-label") == "T<. D&"
    group = root.find(f"{SVG}g")
    assert group.find(f"{SVG}title").text == 'say "hi" <b>'
    assert group.find(f"{SVG}text").text == "a & b"


def test_a_page_escapes_its_title_and_follows_its_theme():
    words = page("<script>\x00", "<p>body</p>")
    assert "<title>&lt;script&gt;\\x00</title>" in words
    assert "<p>body</p>" in words
    assert "prefers-color-scheme" in words
    dark = page("t", "", theme="dark")
    assert "prefers-color-scheme" not in dark
    assert theme.INKS["dark"]["ground"] in dark
    assert theme.INKS["light"]["ground"] not in dark
    assert not re.search(r"https?://|src=|@import", words)  # loads nothing
    with pytest.raises(ArgumentError):
        page("t", "", theme="sepia")
