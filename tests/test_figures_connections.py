"""Figures of single connections: the maps, scale and shares drawn are those of the records, at every width."""

import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from planted import HOSTILE, SVG, flat, images, parse, rgb_weights, texts, tiles, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError, WeightValuesError
from weightatlas.figures import cards, figure, lettering, strongest, theme
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


def marks(root):
    """Frames (x, y, width, height) around the target's own position, without the legend's."""
    found = [n for n in root.iter(f"{SVG}rect") if n.get("stroke-opacity")]
    boxes = [[float(n.get(k)) for k in ("x", "y", "width", "height")] for n in found]
    return boxes[:-1]


class TestConnections:
    @pytest.mark.parametrize("by", ["l2", "excite", "inhibit"])
    @pytest.mark.parametrize("palette", ["classic", "colorblind"])
    def test_every_map_is_drawn_on_one_symmetric_scale(self, by, palette):
        w = weights(o=8, i=12)
        drawn = wa.figures.connections(w, [5, 0], k=4, by=by, palette=palette)
        tops = [w.top(u, 4, by) for u in (5, 0)]
        scale = max(abs(top.maps).max() for top in tops)
        expected = np.concatenate([theme.diverging(top.maps, scale, palette) for top in tops])
        assert np.array_equal(tiles(parse(drawn)), expected)
        assert drawn.data["scale"] == scale
        assert drawn.data["units"].tolist() == [5, 0]
        for top, maps, sources, share in zip(
            tops, drawn.data["maps"], drawn.data["sources"], drawn.data["shares"], strict=True
        ):
            assert np.array_equal(maps, top.maps)
            assert sources.tolist() == top.sources.tolist()
            assert share == top.share

    def test_the_ends_of_the_scale_and_zero(self):
        values = np.zeros((2, 2, 1, 3), np.float32)
        values[0, 0, 0], values[1, 1, 0] = [2, 0, -1], [-2, 1, 0]
        root = parse(wa.figures.connections(weights(o=2, i=2, values=values)))
        stops = theme.DIVERGING["classic"]
        colours = [["#" + bytes(c).hex() for c in tile[0]] for tile in tiles(root)]
        assert colours == [[stops[8], stops[4], stops[2]], [stops[0], stops[6], stops[4]]]
        assert {"−2", "+2", "one scale for the figure"} <= set(texts(root))

    def test_words(self):
        w = weights(o=8, i=40, source="blocks.3.2", target="blocks.4.1", target_units=80, norm="bn3")
        replaced = tuple(Replaced("ReLU6", f"m{k}", f"expected derivative, mean 0.{k}", "batch norm") for k in range(3))
        replaced += (Replaced("MaxPool2d", "pool", "average"),)
        provenance = Provenance("net", "ab" * 32, "1.0", ("the path around is noisy", "no InputSpec: shapes unknown"))
        w = dataclasses.replace(w, replaced=replaced, skip_included=False, provenance=provenance)
        drawn = wa.figures.connections(w, k=8)
        root = parse(drawn)
        assert "reads blocks.3.2 · 3 × 3 · 6 of 80 units" in texts(root)
        tops = [w.top(u, 8) for u in range(6)]
        addresses = [t for t in texts(root) if t.startswith("blocks.4.1:")]
        assert addresses == [top.address for top in tops]
        shares = [f"{top.share:.0%} of weights shown" for top in tops]
        assert [t for t in texts(root) if t.endswith("of weights shown")] == shares
        numbers = [str(n) for top in tops for n in top.sources]
        assert [t for t in texts(root) if t.isdigit()] == numbers
        low, high = (f"{pick(top.share for top in tops):.0%}" for pick in (min, max))
        assert drawn.caption == (
            f"The 8 source units of blocks.3.2 that weigh most on each unit, with {low} to {high} of its squared "
            "weights; red excites, blue inhibits. Batch norm bn3 is folded in; 3 ReLU6 read by their expected "
            "derivative (batch norm); 1 MaxPool2d read as an average; the skip path is left out; the path around is "
            "noisy."
        )
        assert flat(drawn.caption) in flat(texts(root))
        assert "net · weights abababababab · weightatlas 1.0" in texts(root)
        assert f"blocks.4.1:0: {', '.join(map(str, tops[0].sources))};" in drawn.alt
        tips = [n.find(f"{SVG}title").text for n in root.iter(f"{SVG}image")]
        assert tips[0].startswith(f"{tops[0].addresses[0]} on blocks.4.1:0, strength ")

    def test_what_direct_weights_note_is_not_said_twice(self):
        w = weights(
            replaced=(Replaced("ReLU6", "a", "identity"),) * 2,
            provenance=Provenance("net", notes=("2 ReLU6 read as: identity", "the map depends on the position: 3")),
        )
        caption = wa.figures.connections(w).caption
        assert caption.endswith("inhibits. 2 ReLU6 read as the identity.")
        assert "position" not in caption

    @pytest.mark.parametrize(
        ("became", "source", "words"),
        [
            ("identity, for want of statistics", "", "2 ReLU read as the identity, for want of statistics"),
            ("expected derivative, mean 0.41", "measured", "2 ReLU read by their expected derivative (measured)"),
            ("average", "", "2 ReLU read as an average"),
            ("× 0.5", "given", "2 ReLU read as × 0.5 (given)"),
            ("× given, mean 0.41", "given", "2 ReLU read as given factors"),
            ("factor held at its measured mean, 4e-05", "measured", "2 ReLU with factor held at its measured mean"),
            ("1/deviation held at 1", "", "2 ReLU with 1/deviation held at 1"),
        ],
    )
    def test_what_was_read_as_what(self, became, source, words):
        other = became.replace("0.41", "-0.7").replace("4e-05", "123")
        both = [Replaced("ReLU", "a", became, source), Replaced("ReLU", "b", other, source)]
        assert strongest.read_as(both) == [words]

    def test_where_there_is_room_addresses_are_whole(self):
        drawn = wa.figures.connections(weights(o=2, i=8, source="blocks.3.2"))
        assert "blocks.3.2:4" in texts(parse(drawn, 1280))
        assert "4" in texts(parse(drawn, 300))

    def test_pixels_have_names(self):
        drawn = wa.figures.connections(rgb_weights(o=2))
        names = [t for t in texts(parse(drawn)) if t in ("red", "green", "blue")]
        order = [("red", "green", "blue")[s] for sources in drawn.data["sources"] for s in sources]
        assert names == order
        some = rgb_weights(o=1, i=2, values=np.ones((1, 2, 1, 1)), source_units=2, source_numbers=np.array([2, 0]))
        some = dataclasses.replace(some, channel_names=("blue", "red"))
        assert [t for t in texts(parse(wa.figures.connections(some))) if t in ("red", "blue")] == ["red", "blue"]

    def test_compact_weights_and_chosen_sources(self):
        w = weights(o=4, i=2, groups=3, source_units=6, target_units=6, source_numbers=np.arange(10, 16))
        drawn = wa.figures.connections(w, [3])
        assert sorted(drawn.data["sources"][0].tolist()) == [12, 13]

    def test_a_unit_without_weights_keeps_its_row(self):
        w = weights(o=3)
        w.values[1] = 0
        w.values[2] = abs(w.values[2])
        assert "no weights" in texts(parse(wa.figures.connections(w)))
        drawn = wa.figures.connections(w, [1, 2], by="inhibit")
        root = parse(drawn)
        assert {"no weights", "nothing inhibits it"} <= set(texts(root))
        assert images(root) == []
        assert drawn.data["scale"] == 0

    def test_refusals(self):
        w = weights()
        w.values[4] = np.nan
        with pytest.raises(WeightValuesError, match="conv:4"):
            wa.figures.connections(w)
        assert len(wa.figures.connections(w, [0, 5]).data["maps"]) == 2
        for wrong, words in (
            (dict(units=[6]), "unit 6"),
            (dict(units=[]), "no unit"),
            (dict(k=0), "k=0"),
            (dict(by="sum"), "'sum'"),
            (dict(palette="jet"), "'jet'"),
        ):
            with pytest.raises(ArgumentError, match=words):
                wa.figures.connections(weights(), **wrong)


class TestOwnPosition:
    @pytest.mark.parametrize("width", [300, 720, 1280])
    @pytest.mark.parametrize(
        ("more", "block"),
        [
            (dict(origin=(-1, -2)), (1, 2, 1, 1)),
            (dict(origin=(0, 0), stride=(2, 2)), (0, 0, 2, 2)),
            (dict(origin=(-1, -3), stride=(2, 2)), (1, 3, 2, 1)),
            (dict(origin=(-2, -2), dilation=(2, 2)), (1, 1, 1, 1)),
        ],
    )
    def test_it_is_framed_in_every_map(self, width, more, block):
        root = parse(wa.figures.connections(weights(o=2, h=3, w=4, **more)), width)
        shown = images(root)
        frames = marks(root)
        assert len(frames) == len(shown) == 8
        for ((x, y, wide, high), _), frame in zip(shown, frames, strict=True):
            cell = wide / 4
            assert high / 3 == pytest.approx(cell, abs=0.01)
            expected = [x + block[1] * cell, y + block[0] * cell, block[3] * cell, block[2] * cell]
            assert frame == pytest.approx(expected, abs=0.8)
        assert "the target's own position" in texts(root)

    @pytest.mark.parametrize(
        "more",
        [
            dict(origin=(1, 0)),
            dict(origin=(-3, 0)),
            dict(origin=(-0.5, 0)),
            dict(h=1, w=1),
            dict(h=2, w=2, stride=(2, 2)),
            dict(origin=(-1, -1), at=(3, 3)),
        ],
    )
    def test_not_where_it_says_nothing(self, more):
        drawn = wa.figures.connections(weights(**more))
        root = parse(drawn)
        assert not [n for n in root.iter(f"{SVG}rect") if n.get("stroke-opacity")]
        assert "the target's own position" not in texts(root)
        assert ("seen from position (3, 3)".capitalize() in drawn.caption) == ("at" in more)

    def test_own_block(self):
        assert cards.own_block((9, 9), (-4, -4)) == (4, 4, 1, 1)
        assert cards.own_block((9, 9), (-4.0, -4.0), (8, 8)) == (4, 4, 5, 5)
        assert cards.own_block((1, 7), (0, -3)) == (0, 3, 1, 1)


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
        assert wa.figures.pathways(paths, k=2).data["pairs"].tolist() == [list(p[:2]) for p in hidden]
        assert wa.figures.pathways(paths, hidden).data["pairs"].tolist() == [list(p[:2]) for p in hidden]

    @pytest.mark.parametrize("width", [300, 720, 1280])
    def test_words_and_bars(self, width):
        paths = planted_paths(replaced=(Replaced("ReLU", "x", "expected derivative", "measured"),))
        drawn = wa.figures.pathways(paths, k=3)
        root = parse(drawn, width)
        found = texts(root)
        for pair in paths.hidden(3):
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


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (7, 1), (64, 1), (1, 100), (3, 5), (35, 35)])
def test_all_sizes(h, w):
    drawn = wa.figures.connections(weights(o=2, i=3, h=h, w=w, origin=(-(h // 2), -(w // 2))))
    for width in (300, 1280):
        shown = images(parse(drawn, width))
        assert len(shown) == 6
        for (_, _, wide, high), pixels in shown:
            assert pixels.shape == (h, w, 3)
            assert min(wide, high) >= 6
            if max(h, w) < 10 * min(h, w):
                assert wide / w == pytest.approx(high / h, abs=0.01)


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
    assert Image.open(io.BytesIO(drawn.png(320, 1))).width == 320


@pytest.mark.parametrize("kind", drawings())
def test_text_alternatives_and_every_look(kind):
    drawn = drawings()[kind]
    root = parse(drawn)
    assert root.get("aria-label") == f"{drawn.title}. {drawn.alt}"
    for node in root.iter(f"{SVG}image"):
        assert len(node.get("aria-label")) > 5
    assert drawn.svg() == drawings()[kind].svg()
    for look in ("light", "dark"):
        picture = np.asarray(Image.open(io.BytesIO(drawn.png(390, 1, look))).convert("RGB"))
        ground = theme.INKS[look]["ground"]
        assert bytes(picture[1, 1]).hex() == ground.lstrip("#")
    assert not re.search(r"\bnan\b|\binf\b", drawn.svg())


def test_a_trained_block(lite0):
    w = wa.direct_weights(lite0, "blocks.4.2")
    drawn = wa.figures.connections(w, [3, 12], k=10)
    assert drawn.data["shares"] == pytest.approx([w.top(u, 10).share for u in (3, 12)])
    assert "2 ReLU6 read as the identity; the residual path around the convolutions is left out." in drawn.caption
