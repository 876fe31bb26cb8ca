"""Figures as files and fragments: well-formed whatever names hold, within borders, alike in SVG, PNG and HTML."""

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from planted import HOSTILE, SVG, drawings, images, parse, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError
from weightatlas.figures import figure, lettering, theme
from weightatlas.records import Layer, LayerTable


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
def test_names_are_text_and_nothing_else(name, tmp_path):
    allowed = {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "text",
        "line",
        "circle",
        "image",
        "g",
        "div",
        "figure",
        "figcaption",
        "small",
    }
    for kind, drawn in drawings(name).items():
        for width in (240, 720):
            root = parse(drawn, width)
            assert {n.tag.removeprefix(SVG) for n in root.iter()} <= allowed
            assert not [k for n in root.iter() for k in n.keys() if k.startswith("on")]  # noqa: SIM118
        assert wa.figures.visible(name).strip() in " ".join(root.itertext()).replace("\n", " "), kind
        seen, shown = set(), []

        class Tags(HTMLParser):
            def handle_starttag(self, tag, attributes, seen=seen):
                seen.add(tag)
                assert not [k for k, _ in attributes if k.startswith("on")]

            def handle_data(self, data, shown=shown):
                shown.append(data)

        Tags(convert_charrefs=True).feed(drawn.html())
        assert seen <= allowed
        assert wa.figures.visible(name).strip() in " ".join(shown)
        for suffix in (".svg", ".html"):
            drawn.save(tmp_path / f"x{suffix}").read_text(encoding="utf-8")
    assert Image.open(io.BytesIO(drawn.png(1, width=320))).width == 320


def test_letters_the_package_lacks_still_leave_a_figure():
    drawn = wa.figures.signed_maps(weights(i=1, target="模型.λ"))
    assert Image.open(io.BytesIO(drawn.png())).width == 1440


@pytest.mark.parametrize("width", [240, 300, 331.5, 720, 1080, 4000])
@pytest.mark.parametrize("name", ["conv", "features.denseblock3.denselayer24.a_rather_long_name.conv2"])
def test_nothing_leaves_the_picture(width, name):
    for kind, drawn in drawings(name).items():
        root = parse(drawn, width)
        height = float(root.get("height"))
        for node in root.iter(f"{SVG}text"):
            mono = "wa-m" in node.get("class")
            size = float(node.get("font-size"))
            wide = lettering.text_width(node.text, size, mono=mono, bold="wa-b" in node.get("class"))
            left = float(node.get("x")) - {"middle": wide / 2, "end": wide}.get(node.get("text-anchor"), 0)
            assert left >= 0, (kind, node.text)
            assert left + wide <= width, (kind, node.text)
            assert 0 < float(node.get("y")) <= height
        for (x, y, wide, high), _ in images(root):
            assert x >= 15
            assert x + wide <= width - 15
            assert y > 0
            assert y + high < height


@pytest.mark.parametrize("width", [240, 720, 1080])
def test_tiles_and_lines_of_text_do_not_overlap(width):
    for drawn in drawings("blocks.4.1.conv_dw").values():
        root = parse(drawn, width)
        boxes = []
        for node in root.iter(f"{SVG}text"):
            size, mono = float(node.get("font-size")), "wa-m" in node.get("class")
            wide = lettering.text_width(node.text, size, mono=mono)
            left = float(node.get("x")) - {"middle": wide / 2, "end": wide}.get(node.get("text-anchor"), 0)
            y = float(node.get("y"))
            boxes.append((left, y - 0.7 * size, left + wide, y + 0.1 * size, node.text))
        boxes += [(x, y, x + w, y + h, "tile") for (x, y, w, h), _ in images(root)]
        for i, (l1, t1, r1, b1, one) in enumerate(boxes):
            for l2, t2, r2, b2, two in boxes[:i]:
                assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (one, two)


@pytest.mark.parametrize("kind", ["nmf", "pixels", "maps", "banding"])
class TestEveryFigure:
    def test_has_text_alternatives(self, kind):
        drawn = drawings()[kind]
        root = parse(drawn)
        assert root.get("role") == "img"
        assert root.get("aria-label") == f"{drawn.title}. {drawn.alt}"
        assert (root[0].tag, root[0].text) == (f"{SVG}title", drawn.title)
        assert (root[1].tag, root[1].text) == (f"{SVG}desc", drawn.alt)
        for node in root.iter(f"{SVG}image"):
            assert node.get("role") == "img"
            assert len(node.get("aria-label")) > 5

    def test_is_the_same_every_time(self, kind):
        one, two = drawings()[kind], drawings()[kind]
        assert one.svg() == two.svg()
        assert one.html() == two.html()
        assert one.png(1, width=300) == two.png(1, width=300)

    def test_themes(self, kind):
        drawn = drawings()[kind]
        light, dark, auto = (drawn.svg(theme=t) for t in ("light", "dark", "auto"))
        assert theme.INKS["dark"]["ground"] not in light
        assert theme.INKS["light"]["ground"] not in dark
        assert theme.INKS["dark"]["ground"] in auto.partition("prefers-color-scheme:dark")[2]
        grounds = [
            Image.open(io.BytesIO(drawn.png(1, width=300, theme=t))).convert("RGB").getpixel((1, 1))
            for t in ("light", "dark")
        ]
        assert grounds == [(255, 255, 255), (0x13, 0x13, 0x16)]
        assert drawn.png(1, width=300, theme="auto") == drawn.png(1, width=300, theme="light")
        for wrong in (lambda: drawn.svg(theme="grey"), lambda: drawn.png(theme="grey")):
            with pytest.raises(ArgumentError, match="theme='grey'"):
                wrong()

    def test_png_shows_the_svg(self, kind):
        drawn = drawings()[kind]
        for scale in (1, 2, 3):
            picture = np.asarray(Image.open(io.BytesIO(drawn.png(scale, width=480))).convert("RGB"))
            root = parse(drawn, 480)
            assert picture.shape[:2] == (float(root.get("height")) * scale, 480 * scale)
            for (x, y, wide, high), pixels in images(root):
                rows, columns = pixels.shape[:2]
                for r, c in np.ndindex(rows, columns):
                    top, bottom = ((y + (r + k) * high / rows) * scale for k in (0, 1))
                    left, right = ((x + (c + k) * wide / columns) * scale for k in (0, 1))
                    # everything but a border of one pixel of the screen has the one colour
                    inside = picture[int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
                    assert inside.size
                    assert (inside == pixels[r, c]).all()

    def test_widths_and_scales_out_of_range(self, kind):
        drawn = drawings()[kind]
        for wrong in (239, 8001, float("nan"), -1, float("inf")):
            with pytest.raises(ArgumentError, match="pixels"):
                drawn.svg(wrong)
            with pytest.raises(ArgumentError, match="pixels"):
                drawn.png(width=wrong)
        for wrong in (0, 17, float("nan")):
            with pytest.raises(ArgumentError, match="scale"):
                drawn.png(scale=wrong)
        with pytest.raises(ArgumentError, match="too large"):
            drawn.png(16, width=8000)

    def test_save(self, kind, tmp_path):
        drawn = drawings()[kind]
        svg = drawn.save(tmp_path / "a" / "x.svg", width=300, theme="dark")
        png = drawn.save(str(tmp_path / "x.png"), width=300, scale=1)
        html = drawn.save(tmp_path / "x.html")
        assert svg.read_text(encoding="utf-8") == drawn.svg(300, "dark")
        assert png.read_bytes() == drawn.png(1, width=300, theme="light")
        assert drawn.html() in html.read_text(encoding="utf-8")
        for name in ("x.pdf", "x", "x.svg.txt", "svg"):
            with pytest.raises(ArgumentError, match=r"\.svg, \.png, \.html"):
                drawn.save(tmp_path / name)
        with pytest.raises(LoadError, match="could not write"):
            drawn.save(png / "y.svg")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "x.html", "x.png"]

    def test_html_shows_one_composition_at_any_width(self, kind):
        words = drawings()[kind].html()
        assert drawings()[kind]._repr_html_() == words
        widths = [int(w) for w in re.findall(r'<div class="w(\d+)"', words)]
        steps = re.findall(
            r"@container \(min-width:(\d+)px\){\.wa-figure>div\[class\]{display:none}"
            r"\.wa-figure>div\.w(\d+){display:block}\.wa-figure figcaption{[^{}]*}}",
            words,
        )
        assert len(steps) == words.count("@container") == len(widths)
        for width in [0, 100, *np.arange(290, 1200, 0.37), *[w + d for w in widths for d in (-0.01, 0, 0.01)], 5000]:
            shown = [int(w) for start, w in steps if width >= int(start)][-1]  # the last rule wins
            assert shown == max([w for w in widths if w <= width], default=widths[0])
        assert words.count(" hidden>") == len(widths) - 1  # without styles, one is left
        for width, drawing in re.findall(r'<div class="w(\d+)"[^>]*>(<svg.*?</svg>)', words):
            root = ET.fromstring(drawing)
            assert root.get("width") == width
            assert root.find(f"{SVG}style") is None
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<link", words)

    def test_html_styles_touch_nothing_outside(self, kind):
        css = re.search(r"<style>(.*?)</style>", drawings()[kind].html()).group(1)
        flat_css = re.sub(r"@container [^{]*{((?:[^{}]*{[^{}]*})*)}", r"\1", css)
        selectors = re.findall(r"([^{}]+){[^{}]*}", flat_css)
        assert len(selectors) > 10
        assert all(s.startswith((".wa-figure", ".wa-box")) for s in selectors)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
def test_the_table_of_layers_is_text(name):
    rows = [
        Layer(name, "conv", "Conv2d", 8, (4, 5), receptive_note=name, kernel=(3, 5)),
        Layer("b", "other", "X", 0, None),
    ]
    words = wa.figures.layer_table(LayerTable(rows, model=name, notes=(name,)))
    words.encode()
    root = ET.fromstring(f"<x>{words}</x>".replace(' tabindex="0"', ""))
    assert {n.tag for n in root.iter()} == {
        "x",
        "style",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "p",
    }
    assert next(root.iter("code")).text == wa.figures.visible(name)
    cells = [td.text or "" for td in root.iter("td")]
    assert cells[:9] == ["conv", "8", "", "3×5", "", "", "4×5", wa.figures.visible(name), ""]


def test_the_width_range_is_as_documented():
    assert figure.WIDTH_RANGE == (240, 8000)
    assert figure.WIDTH in figure.BREAKPOINTS
