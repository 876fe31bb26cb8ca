"""Figures of paths that cancel; and for all figures made of cards: nothing overlaps, names are text, every look."""

import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from planted import HOSTILE, SVG, flat, images, parse, texts, tiles, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError, WeightValuesError
from weightatlas.figures import cards, figure, lettering, theme
from weightatlas.records import Paths, Provenance, Replaced

LONG = "features.denseblock3.denselayer24.a_rather_long_name.conv2"
WIDTHS = [240, 300, 390, 720, 1280, 4000]


def planted_paths(o=3, m=4, i=5, seed=0, **more):
    """One-by-one kernels onto 3×3 ones: every middle unit is one path to every position."""
    generator = np.random.default_rng(seed)
    outer = generator.normal(size=(o, m, 1, 1)).astype(np.float32)
    inner = generator.normal(size=(m, i, 3, 3)).astype(np.float32)
    products = outer[:, :, None] * inner[None]
    through = products.sum(axis=1)
    fields = dict(
        source="blocks.3.2",
        middle="blocks.4.0",
        target="blocks.4.1",
        units=np.arange(o),
        total=through,
        through=through,
        absolute=abs(products).sum(axis=1),
        outer=outer,
        inner=inner,
        target_units=o,
        middle_units=m,
        source_units=i,
        origin=(-1, -1),
        inner_origin=(-1, -1),
        provenance=Provenance("net"),
    )
    return Paths(**(fields | more))


def drawings(name="blocks.4.1"):
    """One of each, about layers of that name."""
    provenance = Provenance(name, notes=(f"note on {name}",))
    replaced = (Replaced("ReLU6", name, "identity"),)
    many = weights(o=8, i=20, target=name, source=name, origin=(-1, -1), replaced=replaced, provenance=provenance)
    single = weights(o=2, i=3, h=1, w=1, target=name, source=name)
    paths = planted_paths(source=name, middle=name, target=name, replaced=replaced, provenance=provenance)
    return {
        "connections": wa.figures.connections(many),
        "three": wa.figures.connections(many, units=[7, 2], k=3, by="inhibit", palette="colorblind"),
        "single": wa.figures.connections(single),
        "pathways": wa.figures.pathways(paths),
        "one pair": wa.figures.pathways(paths, [(0, 3)], palette="colorblind"),
    }


class TestPathways:
    def test_sum_cases_and_magnitudes_on_one_scale(self):
        paths = planted_paths()
        drawn = wa.figures.pathways(paths, [(2, 1), (0, 4)], palette="colorblind")
        maps = np.stack(
            [[v[o, i] for v in (paths.through, paths.best, paths.worst, paths.absolute)] for o, i in ((2, 1), (0, 4))]
        )
        assert np.array_equal(drawn.data["maps"], maps)
        scale = abs(maps).max()
        assert drawn.data["scale"] == pytest.approx(scale)
        expected = theme.diverging(maps.reshape(8, 3, 3), float(scale), "colorblind")
        assert np.array_equal(tiles(parse(drawn)), expected)
        assert drawn.data["cancellation"] == pytest.approx(
            [paths.unit_cancellation[2, 1], paths.unit_cancellation[0, 4]]
        )
        assert drawn.data["pairs"].tolist() == [[2, 1], [0, 4]]

    def test_by_default_the_pairs_that_hide_most(self):
        paths = planted_paths()
        hidden = paths.hidden(2)
        every = [list(p[:2]) for p in paths.hidden(15)]
        firsts = [next(p for p in every if p[0] == unit) for unit in dict.fromkeys(p[0] for p in every)]
        assert wa.figures.pathways(paths, k=2).data["pairs"].tolist() == firsts[:2]
        shown = wa.figures.pathways(paths, k=5).data["pairs"].tolist()  # three units, then their second pairs
        assert shown[:3] == firsts
        assert sorted({p[0] for p in shown[3:]}) == sorted({p[0] for p in shown[3:]} & {0, 1, 2})
        assert len({tuple(p) for p in shown}) == 5
        assert wa.figures.pathways(paths, hidden).data["pairs"].tolist() == [list(p[:2]) for p in hidden]

    @pytest.mark.parametrize("width", [300, 720, 1280])
    def test_words_and_bars(self, width):
        paths = planted_paths(replaced=(Replaced("ReLU", "x", "expected derivative", "measured"),))
        drawn = wa.figures.pathways(paths, k=3)
        root = parse(drawn, width)
        found = texts(root)
        shown = {tuple(p) for p in drawn.data["pairs"].tolist()}
        for pair in [p for p in paths.hidden(15) if p[:2] in shown]:
            assert flat(f"blocks.4.1:{pair.unit}←blocks.3.2:{pair.source_unit}") in flat(found)
            assert f"{pair.cancellation:.0%} cancels" in found
            middle = sorted(paths.middle_top(*pair[:2], 4), key=lambda m: -m.sum)
            excite = [f"blocks.4.0:{m.unit}" for m in middle if m.sum > 0][:2]
            inhibit = [f"blocks.4.0:{m.unit}" for m in reversed(middle) if m.sum < 0][:2]
            for sign, units in (("+", excite), ("−", inhibit)):
                assert not units or f"{sign} {'  '.join(units)}" in found
        wide = [float(n.get("width")) for n in root.iter(f"{SVG}rect") if n.get("height") == "8"]
        assert [b / a for a, b in zip(wide[::2], wide[1::2], strict=True)] == pytest.approx(
            drawn.data["cancellation"].tolist(), abs=0.001
        )
        assert {"Σ", "best case", "worst case", "Σ |·|"} <= set(found)
        assert "1 ReLU read by its expected derivative (measured)." in drawn.caption
        assert "red excites, blue inhibits" in drawn.caption
        assert f"{drawn.data['cancellation'][0]:.0%} cancels" in drawn.alt

    def test_headings_stand_over_their_columns(self):
        for width in (240, 390, 720, 1280):
            root = parse(wa.figures.pathways(planted_paths()), width)
            heads = {float(n.get("x")) for n in root.iter(f"{SVG}text") if n.text.startswith(("Σ", "best", "worst"))}
            middles = {round(x + wide / 2, 2) for (x, _, wide, _), _ in images(root)}
            assert all(min(abs(head - m) for m in middles) < 0.6 for head in heads)

    def test_what_runs_around_the_middle_is_said(self):
        paths = planted_paths()
        assert "around" not in wa.figures.pathways(paths).caption
        other = dataclasses.replace(paths, total=2 * paths.through)
        assert "Up to 50% of a unit's expanded weights run around blocks.4.0" in wa.figures.pathways(other).caption

    def test_refusals(self):
        paths = planted_paths()
        for wrong in (3, [3], ["ab"], [(0, 1.5)]):
            with pytest.raises(ArgumentError, match="pairs must be like"):
                wa.figures.pathways(paths, wrong)
        with pytest.raises(UnknownNameError, match="no unit 9"):
            wa.figures.pathways(paths, [(9, 0)])
        with pytest.raises(ArgumentError, match="nothing cancels"):
            wa.figures.pathways(paths, [])
        with pytest.raises(ArgumentError, match="k=0"):
            wa.figures.pathways(paths, k=0)
        paths.absolute[1, 2, 0, 0] = np.nan
        with pytest.raises(WeightValuesError, match=r"blocks\.3\.2:2 to blocks\.4\.1:1"):
            wa.figures.pathways(paths, [(1, 2)])
        one = planted_paths(m=1)
        with pytest.raises(ArgumentError, match="give pairs="):
            wa.figures.pathways(dataclasses.replace(one, absolute=abs(one.through)))

    def test_paths_as_well(self):
        paths = planted_paths()
        wide = [np.pad(v, [(0, 0), (0, 0), (12, 12), (12, 12)]) for v in (paths.through, paths.absolute)]
        padded = dataclasses.replace(paths, total=wide[0], through=wide[0], absolute=wide[1], origin=(-13, -13))
        drawn = wa.figures.pathways(padded)
        assert drawn.data["window"] == (6, 6, 15, 15)
        assert drawn.data["maps"].shape == (6, 4, 27, 27)
        assert tiles(parse(drawn)).shape == (24, 15, 15, 3)
        assert "outside the inner 15 × 15" in drawn.caption


def boxes(root):
    """(left, top, right, bottom, words) of every line of text."""
    for node in root.iter(f"{SVG}text"):
        size, mono = float(node.get("font-size")), "wa-m" in node.get("class")
        wide = lettering.text_width(node.text, size, mono=mono, bold="wa-b" in node.get("class"))
        left = float(node.get("x")) - {"middle": wide / 2, "end": wide}.get(node.get("text-anchor"), 0)
        y = float(node.get("y"))
        yield left, y - 0.7 * size, left + wide, y + 0.1 * size, node.text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["conv", "blocks.4.1", LONG])
def test_nothing_leaves_the_picture_or_lies_on_something_else(width, name):
    for kind, drawn in drawings(name).items():
        root = parse(drawn, width)
        height = float(root.get("height"))
        found = list(boxes(root))
        for left, top, right, bottom, words in found:
            assert left >= 0, (kind, words)
            assert right <= width, (kind, words)
            assert top > 0
            assert bottom <= height
        for (x, y, wide, high), _ in images(root):
            assert x >= 15
            assert x + wide <= width - 15
            assert y > 0
            assert y + high < height
            found.append((x, y, x + wide, y + high, "map"))
        for i, (l1, t1, r1, b1, one) in enumerate(found):
            for l2, t2, r2, b2, two in found[:i]:
                assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (kind, one, two)


@pytest.mark.parametrize("width", figure.BREAKPOINTS)
def test_cards_are_large_enough_and_stand_in_columns(width):
    root = parse(drawings()["connections"], width)
    side = [n for n in root.iter(f"{SVG}rect") if n.get("fill") == cards.ground() and float(n.get("width")) > 20]
    assert len(side) == 48
    assert {n.get("width") for n in side} == {n.get("height") for n in side}
    assert float(side[0].get("width")) >= cards.SIDES[0]
    assert len({n.get("x") for n in side}) in (4, 8)


def test_squares_are_whole_device_pixels():
    for (_, _, wide, high), pixels in images(parse(drawings()["connections"], 390)):
        assert (2 * wide / pixels.shape[1]) % 1 == (2 * high / pixels.shape[0]) % 1 == 0


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
def test_names_are_text_and_nothing_else(name):
    for kind, drawn in drawings(name).items():
        root = parse(drawn, 390)
        tags = {n.tag.removeprefix(SVG) for n in root.iter()}
        assert tags <= {"svg", "title", "desc", "style", "rect", "text", "circle", "image"}, kind
        assert wa.figures.visible(name).strip() in " ".join(root.itertext()).replace("\n", " "), kind
        seen = set()

        class Tags(HTMLParser):
            def handle_starttag(self, tag, attributes, seen=seen):
                seen.add(tag)
                assert not [k for k, _ in attributes if k.startswith("on")]

        Tags(convert_charrefs=True).feed(drawn.html())
        assert seen <= tags | {"div", "figure", "figcaption", "small"}
    assert Image.open(io.BytesIO(drawn.png(1, width=320))).width == 320


@pytest.mark.parametrize("kind", drawings())
def test_text_alternatives_and_every_look(kind):
    drawn = drawings()[kind]
    root = parse(drawn)
    assert root.get("aria-label") == f"{drawn.title}. {drawn.alt}"
    for node in root.iter(f"{SVG}image"):
        assert len(node.get("aria-label")) > 5
    assert drawn.svg() == drawings()[kind].svg()
    for look in ("light", "dark"):
        picture = np.asarray(Image.open(io.BytesIO(drawn.png(1, width=390, theme=look))).convert("RGB"))
        ground = theme.INKS[look]["ground"]
        assert bytes(picture[1, 1]).hex() == ground.lstrip("#")
    assert not re.search(r"\bnan\b|\binf\b", drawn.svg())
