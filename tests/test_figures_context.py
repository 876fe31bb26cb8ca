"""Figures of weights between pictures: their numbers, squares, pictures and words are those that were planted."""

import base64
import dataclasses
import functools
import io
import itertools
import operator
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from planted import CELL, HOSTILE, SVG, factors, flat, parse, rgb_weights, texts, weights

import weightatlas as wa
from weightatlas.figures import lettering, theme, wording
from weightatlas.figures.layout import magnitude
from weightatlas.records import Agreement, FeatureImages, Paths, Provenance, Replaced
from weightatlas.records.layers import Layer, ReceptiveField

figures = wa.figures
WIDTHS = (240, 320, 720, 1080)
#: Blue, near-white zero, red; blue, near-white zero, orange.
STOPS = {
    "classic": "2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b",
    "colorblind": "0b4f9e 3f83c4 8cb8dd cfe0ee f7f7f7 fde2bf f9b266 e07b12 a14a00",
}
#: Colours far from each other, and where those of a layer begin.
SHADES = list(itertools.product((15, 75, 135, 195, 250), repeat=3))
FIRST = {"in": 1, "mid": 25, "conv": 50, "next": 75, "factors": 100, "positions": 7}


def shade(layer, unit):
    return SHADES[(FIRST.get(layer, 33) + int(unit)) % len(SHADES)]


def pictures(layer, units, *, of=None, h=6, w=6, dead=(), name="display", steps=32, **more):
    """Plain pictures, each unit's in a colour of its own."""
    units = list(units)
    n = len(units)
    colours = np.array([shade(of or layer, u) for u in units], np.uint8).reshape(n, 1, 1, 3)
    fields = dict(
        images=np.broadcast_to(colours, (n, h, w, 3)).copy(),
        labels=tuple(f"{layer}:{u}" for u in units),
        layer=layer,
        units=np.array(units, np.int64),
        reached=np.linspace(2, 8, n).astype(np.float32),
        viewed=np.ones(n, np.float32),
        begun=np.zeros(n, np.float32),
        alive=np.array([u not in dead for u in units], bool),
        seeds=np.arange(n),
        tries=np.ones(n, np.int64),
        recipe={"name": name, "steps": steps},
    )
    return FeatureImages(**(fields | more))


def both(of, **more):
    """Pictures of all units of both layers of some weights."""
    return [pictures(of.source, of.source_indices, **more), pictures(of.target, of.units, **more)]


@functools.cache
def decoded(href):
    """Kind and pixels of an embedded picture."""
    kind, data = href.removeprefix("data:image/").split(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


class Drawn:
    """What an SVG of a figure holds, in the order in which it was drawn."""

    def __init__(self, figure, width=720, look="light"):
        self.root, self.width = parse(figure, width, look), width
        self.maps, self.photos, self.scales = [], [], []
        for node in self.root.iter(f"{SVG}image"):
            kind, pixels = decoded(node.get("href"))
            x, y, w, h = (float(node.get(k)) for k in ("x", "y", "width", "height"))
            words = node.find(f"{SVG}title").text
            assert node.get("role") == "img"
            assert node.get("aria-label") == words
            one = SimpleNamespace(x=x, y=y, w=w, h=h, words=words, middle=(x + w / 2, y + h / 2), pixels=pixels)
            if kind == "png":
                one.pixels = pixels[::CELL, ::CELL]
                assert np.array_equal(one.pixels.repeat(CELL, 0).repeat(CELL, 1), pixels)  # nothing blended
            place = self.photos if kind == "webp" else self.scales if words == "colour scale" else self.maps
            place.append(one)
        self.texts = texts(self.root)

    def lines(self):
        """(left, top, right, bottom, words) of every line of text."""
        for node in self.root.iter(f"{SVG}text"):
            size = float(node.get("font-size"))
            looks = node.get("class")
            wide = lettering.text_width(node.text, size, mono="wa-m" in looks, bold="wa-b" in looks)
            left = float(node.get("x")) - {"middle": wide / 2, "end": wide}.get(node.get("text-anchor"), 0)
            y = float(node.get("y"))
            yield left, y - 0.7 * size, left + wide, y + 0.1 * size, node.text

    def above(self, one):
        """The picture that a map is glued to, or that heads its column: the next above it with the same middle."""
        over = [p for p in self.photos if abs(p.middle[0] - one.middle[0]) < 0.6 and p.y + p.h <= one.y + 0.6]
        return max(over, key=lambda p: p.y)

    def left_of(self, one):
        """The picture that heads a map's row: the next to its left with the same middle."""
        before = [p for p in self.photos if abs(p.middle[1] - one.middle[1]) < 0.6 and p.x + p.w <= one.x + 0.6]
        return max(before, key=lambda p: p.x)

    def marks(self):
        """Frames (x, y, width, height) of the target's own position, that of the legend last."""
        found = [n for n in self.root.iter(f"{SVG}rect") if n.get("stroke-opacity")]
        return [[float(n.get(k)) for k in ("x", "y", "width", "height")] for n in found]


def hue(share, palette="classic"):
    """The colour of −1 … 1, by hand: between the two nearest stops."""
    stops = [bytes.fromhex(s) for s in STOPS[palette].split()]
    at = (min(max(float(share), -1.0), 1.0) + 1) * 4
    low = min(int(at), 7)
    return [(1 - at + low) * a + (at - low) * b for a, b in zip(stops[low], stops[low + 1], strict=True)]


def assert_colours(pixels, values, scale, palette="classic"):
    """A drawn map is that of the values, square by square."""
    assert pixels.shape == (*values.shape, 3)
    for place in np.ndindex(values.shape):
        expected = hue(values[place] / scale, palette)
        assert np.abs(pixels[place] - expected).max() <= 1, (place, pixels[place], expected)


def assert_shade(photo, layer, unit, strength=1.0):
    """A drawn picture is that of the unit, mixed with white if it is faded."""
    h, w = photo.pixels.shape[:2]
    middle = photo.pixels[h // 4 : -h // 4, w // 4 : -w // 4].reshape(-1, 3).mean(axis=0)
    expected = [255 + (c - 255) * strength for c in shade(layer, unit)]
    assert np.abs(middle - expected).max() < 8, (photo.words, middle, expected)


def loop_maps(w, unit):
    """A unit's maps ``[I, H, W]`` with groups and whole steps between the kernel's elements unfolded."""
    values = w.values[w.units.tolist().index(unit)]
    first = unit // (w.target_units // w.groups) * values.shape[0]
    down, right = (int(d) if d > 1 else 1 for d in w.dilation)
    full = np.zeros((w.source_units, (values.shape[1] - 1) * down + 1, (values.shape[2] - 1) * right + 1))
    for i, y, x in np.ndindex(values.shape):
        full[first + i, y * down, x * right] = values[i, y, x]
    return full


def loop_power(maps):
    """The sum of squares of each map."""
    return [sum(float(v) ** 2 for v in m.ravel()) for m in maps]


def margins(o=2, i=3, **more):
    """Weights of 11 × 13 squares that lie nearly all in the inner 7 × 9."""
    values = np.random.default_rng(3).normal(size=(o, i, 11, 13))
    faint = np.ones((11, 13), bool)
    faint[2:-2, 2:-2] = False
    values[..., faint] *= 0.01
    values[..., [2, 2, -3, -3], [2, -3, 2, -3]] = 3.0
    return weights(o=o, i=i, h=11, w=13, values=values, origin=(-5, -6), **more)


def varied():
    return {
        "plain": weights(),
        "grouped": weights(o=6, i=3, groups=2, source_units=6, target_units=6, seed=1),
        "some of a grouped layer": weights(o=2, i=2, groups=4, units=np.array([5, 2]), source_units=8, target_units=8),
        "strided": weights(o=4, h=4, w=4, stride=(2, 2), origin=(-1, -1), seed=2),
        "dilated": weights(o=4, dilation=(2, 3), origin=(-2, -3), seed=3),
        "between positions": weights(o=3, h=4, w=4, dilation=(0.5, 0.5), seed=4),
        "chosen sources": weights(o=3, source_numbers=np.array([9, 2, 14, 5]), seed=5),
        "wide": margins(),
        "long": weights(o=2, h=1, w=9, seed=6),
        "pixels": rgb_weights(o=3, seed=7),
    }


KINDS = list(varied())


def planted_paths(o=2, m=6, i=3, *, outer=(1, 1), inner=(3, 3), step=1, seed=0, **more):
    """Every path on its own: what each middle position does, one after another."""
    rng = np.random.default_rng(seed)
    far, near = rng.normal(size=(o, m, *outer)).astype(np.float32), rng.normal(size=(m, i, *inner)).astype(np.float32)
    size = [(a - 1) * step + b for a, b in zip(outer, inner, strict=True)]
    through, absolute = np.zeros((2, o, i, *size))
    for b, k, a, y, x, v, u in np.ndindex(o, m, i, *outer, *inner):
        path = float(far[b, k, y, x]) * float(near[k, a, v, u])
        through[b, a, y * step + v, x * step + u] += path
        absolute[b, a, y * step + v, x * step + u] += abs(path)
    fields = dict(
        source="in",
        middle="mid",
        target="conv",
        units=np.arange(o),
        total=through,
        through=through,
        absolute=absolute,
        outer=far,
        inner=near,
        target_units=o,
        middle_units=m,
        source_units=i,
        inner_stride=(step, step),
        provenance=Provenance("net"),
    )
    return Paths(**(fields | more))


def loop_contributions(paths, to, of):
    """What runs through each middle unit ``[M, H, W]``, path by path."""
    outer, inner = paths.outer[to], paths.inner[:, of]
    step = int(paths.inner_stride[0])
    found = np.zeros((len(inner), *paths.total.shape[2:]))
    for k, y, x, v, u in np.ndindex(*outer.shape, *inner.shape[1:]):
        found[k, y * step + v, x * step + u] += float(outer[k, y, x]) * float(inner[k, v, u])
    return found


class TestConnection:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_numbers_are_those_of_the_weights(self, kind):
        w = varied()[kind]
        for to, of in itertools.product(w.units.tolist(), w.source_indices.tolist()):
            data = figures.connection(w, source=of, target=to).data
            maps, at = loop_maps(w, to), w.source_indices.tolist().index(of)
            power = loop_power(maps)
            assert np.array_equal(data["map"], maps[at])
            assert data["share"] == pytest.approx(power[at] / sum(power))
            assert data["rank"] == 1 + sum(p > power[at] for p in power)
            assert data["scale"] == abs(maps[at]).max()
            assert (data["source"], data["target"]) == (of, to)
            top, left, high, wide = data["window"]
            inner = maps[at][top : top + high, left : left + wide]
            assert sum(loop_power(inner)) >= 0.99 * power[at]
            if kind != "wide":
                assert data["window"] == (0, 0, *maps.shape[1:])

    @pytest.mark.parametrize("width", WIDTHS)
    def test_source_map_and_target_stand_from_left_to_right(self, width):
        w = weights(o=6, i=8)
        figure = figures.connection(w, both(w), source=5, target=3)
        drawn = Drawn(figure, width)
        (square,), (left, right) = drawn.maps, drawn.photos
        assert_colours(square.pixels, w.values[3, 5], abs(w.values[3, 5]).max())
        assert_shade(left, "in", 5)
        assert_shade(right, "conv", 3)
        assert left.x + left.w < square.x < square.x + square.w < right.x
        assert left.y == right.y
        assert left.middle[1] == pytest.approx(square.middle[1], abs=0.6)
        assert (left.w, left.h) == (right.w, right.h)

    def test_its_words(self):
        w = weights(o=6, i=8, source="blocks.1", target="blocks.2")
        power = loop_power(loop_maps(w, 3))
        of = sorted(range(8), key=lambda i: -power[i])[1]
        figure = figures.connection(w, source=of, target=3)
        assert figure.caption == (
            f"blocks.1:{of} → blocks.2:3: {power[of] / sum(power) * 100:.0f}% of the target's squared weights, number "
            "2 of its 8 sources; red excites, blue inhibits."
        )
        found = Drawn(figure).texts
        strength, scale = f"{power[of] ** 0.5:.2g}", f"{figure.data['scale']:.2g}"
        assert {f"blocks.1:{of}", "blocks.2:3", f"L2 {strength}", f"reads blocks.1:{of} · 3 × 3"} <= set(found)
        assert {f"−{scale}", f"+{scale}"} <= set(found)
        assert f"blocks.1:{of} on blocks.2:3" in figure.title
        assert f"blocks.1:{of}" in figure.alt

    def test_units_by_address_or_by_number_are_the_same(self):
        w = weights(source="a:b", target="c.d:e")
        one = figures.connection(w, both(w), source=3, target=np.int64(2)).svg()
        assert figures.connection(w, both(w), source="a:b:3", target="c.d:e:2").svg() == one

    def test_equal_sources_share_a_rank(self):
        values = np.zeros((1, 4, 1, 1))
        values[0, :, 0, 0] = [2, -3, 2, 1]
        w = weights(values=values, units=np.arange(1), target_units=1)
        assert [figures.connection(w, source=s, target=0).data["rank"] for s in range(4)] == [2, 1, 2, 4]

    def test_a_connection_of_weight_zero_is_near_white(self):
        w = weights()
        w.values[1, 2] = 0
        figure = figures.connection(w, source=2, target=1)
        assert (figure.data["share"], figure.data["rank"], figure.data["scale"]) == (0, 4, 0)
        assert (Drawn(figure).maps[0].pixels == 0xF7).all()


def loop_top(w, unit, by, k):
    """The strongest sources: numbers by falling norm of the part that counts, the smaller number first."""
    found = []
    for n, m in zip(w.source_indices.tolist(), loop_maps(w, unit), strict=True):
        part = {"l2": m, "excite": m * (m > 0), "inhibit": m * (m < 0)}[by]
        found.append((-sum(loop_power([part])), n))
    return [n for power, n in sorted(found) if power < 0][:k]


def loop_signs(maps, numbers, k):
    """Numbers of maps by what they mostly do, each once: the strongest k that excite, the strongest k that inhibit."""
    up, down = ([sum(max(sign * float(v), 0) ** 2 for v in m.ravel()) for m in maps] for sign in (1, -1))
    excite = sorted((i for i in range(len(maps)) if up[i] >= down[i] and up[i]), key=lambda i: -up[i])
    inhibit = sorted((i for i in range(len(maps)) if down[i] > up[i]), key=lambda i: -down[i])
    return [[int(numbers[i]) for i in row[:k]] for row in (excite, inhibit) if row]


class TestSmallMultiples:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("by", ["l2", "excite", "inhibit", "both"])
    def test_the_strongest_sources_their_maps_and_share(self, kind, by):
        w = varied()[kind]
        to = int(w.units[-1])
        data = figures.small_multiples(w, target=to, k=3, by=by).data
        maps, place = loop_maps(w, to), w.source_indices.tolist().index
        rows = loop_signs(maps, w.source_indices, 3) if by == "both" else [loop_top(w, to, by, 3)]
        assert data["sources"].tolist() == [n for row in rows for n in row]
        assert data["rows"] == [len(row) for row in rows]
        assert np.array_equal(data["maps"], [maps[place(n)] for n in data["sources"]])
        power = loop_power(maps)
        shown = {place(n) for row in rows for n in row}
        assert data["share"] == pytest.approx(sum(power[i] for i in shown) / sum(power))
        assert data["scale"] == max(abs(maps[i]).max() for i in shown)
        assert data["target"] == to

    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("palette", STOPS)
    def test_each_picture_is_glued_to_its_map_on_one_scale(self, width, palette):
        w = weights(o=4, i=12)
        drawn = Drawn(figures.small_multiples(w, both(w), target=2, k=7, palette=palette), width)
        top = loop_top(w, 2, "l2", 7)
        scale = abs(w.values[2, top]).max()
        assert len(drawn.maps) == 7
        for n, square in zip(top, drawn.maps, strict=True):
            assert_colours(square.pixels, w.values[2, n], scale, palette)
            glued = drawn.above(square)
            assert_shade(glued, "in", n)
            assert glued.w > square.w
            assert square.y - glued.y - glued.h < 0.2 * glued.w
        order = sorted(drawn.maps, key=lambda m: (round(m.y), m.x))
        assert [m.words for m in order] == [m.words for m in drawn.maps]  # strongest first, as one reads
        assert [m.words.split(",")[0] for m in order] == [f"in:{n}" for n in top]
        (target,) = [p for p in drawn.photos if p.words == "what excites conv:2"]
        assert_shade(target, "conv", 2)
        assert target.w > drawn.above(order[0]).w
        first = drawn.above(order[0])
        assert target.x + target.w <= first.x if width >= 720 else target.y + target.h <= first.y

    def test_labels_stand_under_their_maps(self):
        w = weights(o=4, i=12)
        drawn = Drawn(figures.small_multiples(w, target=2, k=7))
        for n, square in zip(loop_top(w, 2, "l2", 7), drawn.maps, strict=True):
            (label,) = [line for line in drawn.lines() if line[4] in (f"in:{n}", f"{n}")]
            assert (label[0] + label[2]) / 2 == pytest.approx(square.middle[0], abs=0.6)
            assert label[1] >= square.y + square.h

    def test_a_row_of_each_sign_under_its_heading(self):
        w = weights(o=4, i=12)
        drawn = Drawn(figures.small_multiples(w, target=1, k=3, by="both"))
        excite, inhibit = loop_top(w, 1, "excite", 3), loop_top(w, 1, "inhibit", 3)
        assert [m.words.split(",")[0] for m in drawn.maps] == [f"in:{n}" for n in excite + inhibit]
        tops = {words: top for _, top, _, _, words in drawn.lines() if words in ("excites", "inhibits")}
        assert tops["excites"] < drawn.maps[0].y < tops["inhibits"] < drawn.maps[3].y

    def test_of_one_sign_alone_there_is_one_row(self):
        w = weights(o=2, i=3)
        w.values[0] = abs(w.values[0])
        figure = figures.small_multiples(w, target=0, by="both")
        assert figure.data["rows"] == [3]
        assert "inhibits" not in Drawn(figure).texts

    def test_given_sources_keep_their_order_and_come_once(self):
        w = weights(o=3, source_numbers=np.array([9, 2, 14, 5]))
        figure = figures.small_multiples(w, both(w), target=1, sources=[14, "in:9", 14, np.int64(2)])
        assert figure.data["sources"].tolist() == [14, 9, 2]
        assert np.array_equal(figure.data["maps"], w.values[1, [2, 0, 1]])
        power = loop_power(loop_maps(w, 1))
        assert figure.data["share"] == pytest.approx((power[2] + power[0] + power[1]) / sum(power))
        drawn = Drawn(figure)
        for n, square in zip((14, 9, 2), drawn.maps, strict=True):
            assert_shade(drawn.above(square), "in", n)
        assert figure.caption.startswith("3 source units of in and what each does to conv:1, with ")

    def test_captions_of_each_choice(self):
        w = weights(o=2, i=12)
        share = {by: figures.small_multiples(w, target=0, k=3, by=by).data["share"] for by in ("l2", "excite", "both")}
        said = {by: figures.small_multiples(w, target=0, k=3, by=by).caption for by in share}
        end = "of its squared weights; red excites, blue inhibits."
        assert said["l2"] == f"The 3 source units of in that weigh most on conv:0, with {share['l2']:.0%} {end}"
        assert said["excite"] == f"The 3 source units of in that excite conv:0 most, with {share['excite']:.0%} {end}"
        assert said["both"] == (
            "The source units of in that act most on conv:0, 3 that excite and 3 that inhibit, with "
            f"{share['both']:.0%} {end}"
        )

    def test_the_heading_and_the_legend(self):
        w = weights(o=2, i=12)
        figure = figures.small_multiples(w, target=0, k=3)
        found = Drawn(figure).texts
        assert "reads in · 3 × 3 · 3 of 12 sources" in found
        scale = f"{figure.data['scale']:.2g}"
        assert {f"−{scale}", f"+{scale}", "one scale for the figure"} <= set(found)
        (ramp,) = Drawn(figure).scales
        assert_colours(ramp.pixels, np.linspace(-1, 1, 65)[None], 1.0)


class TestFamilyGrid:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_numbers_are_those_of_the_weights(self, kind):
        w = varied()[kind]
        rows, columns = w.units[::-1].tolist(), w.source_indices[[2, 0]].tolist()
        data = figures.family_grid(w, targets=rows, sources=columns).data
        maps = [loop_maps(w, n) for n in rows]
        shown = np.array([[m[2], m[0]] for m in maps])
        assert np.array_equal(data["maps"], shown)
        assert data["targets"].tolist() == rows
        assert data["sources"].tolist() == columns
        whole = sum(sum(loop_power(m)) for m in maps)
        assert data["share"] == pytest.approx(sum(sum(loop_power(m)) for m in shown) / whole)
        assert data["scale"] == abs(shown).max()

    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("order", ["given", "similarity", "angle"])
    def test_every_map_stands_in_the_column_and_row_of_its_units(self, width, order):
        w = weights(o=5, i=11, h=4, w=4)
        rows, columns = [4, 0, 3], [7, 2, 9, 0, 10, 1, 3, 5, 8, 4, 6]
        figure = figures.family_grid(w, both(w), targets=rows, sources=columns, order=order)
        if order == "given":
            assert figure.data["sources"].tolist() == columns
            assert figure.data["targets"].tolist() == rows
        assert sorted(figure.data["sources"]) == sorted(columns)
        assert sorted(figure.data["targets"]) == sorted(rows)
        drawn = Drawn(figure, width)
        places = {(m.x, m.y): m for m in drawn.maps}
        assert len(places) == 33
        scale = abs(w.values[np.ix_(rows, columns)]).max()
        by_words = {m.words.rsplit(", ", 1)[0]: m for m in drawn.maps}
        found_rows, found_columns = [], []
        for (r, to), (c, of) in itertools.product(enumerate(figure.data["targets"]), enumerate(figure.data["sources"])):
            square = by_words[f"in:{of} on conv:{to}"]
            assert np.array_equal(figure.data["maps"][r, c], w.values[to, of])
            assert_colours(square.pixels, w.values[to, of], scale)
            assert_shade(drawn.above(square), "in", of)
            assert_shade(drawn.left_of(square), "conv", to)
            found_rows.append((r, square.y))
            found_columns.append((c, square.x, square.y))
        # down as in data; across as in data, band after band
        last = max(c for c, *_ in found_columns)
        tops = [min(y for k, _, y in found_columns if k == c) for c in range(last + 1)]
        lefts = [min(x for k, x, _ in found_columns if k == c) for c in range(last + 1)]
        reading = sorted(range(last + 1), key=lambda c: (tops[c], lefts[c]))
        assert reading == list(range(last + 1))
        assert (len(set(tops)) > 1) == (width <= 320)  # bands where it is narrow
        firsts = [min(y for k, y in found_rows if k == r) for r in range(3)]
        assert firsts == sorted(firsts)

    def test_numbers_stand_over_columns_and_beside_rows(self):
        w = weights(o=24, i=40, target_units=24)
        drawn = Drawn(figures.family_grid(w, both(w), targets=[20, 13], sources=[35, 32, 37]))
        lines = {words: line for *line, words in drawn.lines()}
        for square in drawn.maps:
            of, to = re.match(r"in:(\d+) on conv:(\d+)", square.words).groups()
            left, _, right, bottom = lines[of]
            assert (left + right) / 2 == pytest.approx(square.middle[0], abs=0.6)
            assert bottom <= drawn.above(square).y
            _, top, right, bottom = lines[to]
            assert right <= drawn.left_of(square).x
            assert (top + bottom) / 2 == pytest.approx(square.middle[1], abs=8)

    def test_a_chain_of_likes_stands_in_its_order(self):
        shuffled = np.random.default_rng(5).permutation(8)
        values = np.zeros((8, 8, 3, 3))
        for i, j in np.ndindex(8, 8):
            values[shuffled[i], shuffled[j]] = np.exp(-((i - j) ** 2) / 4)
        w = weights(o=8, i=8, values=values)
        data = figures.family_grid(w, targets=range(8), sources=range(8), order="similarity").data
        ways = (shuffled.tolist(), shuffled[::-1].tolist())
        assert data["targets"].tolist() in ways
        assert data["sources"].tolist() in ways

    def test_units_stand_by_the_angle_of_their_lines(self):
        angles = [100, 20, 160, 70, 40]
        y, x = np.mgrid[:9, :9] - 4.0
        values = np.zeros((5, 1, 9, 9))
        for n, degrees in enumerate(np.radians(angles)):
            across = x * np.sin(degrees) + y * np.cos(degrees)
            values[n, 0] = np.exp(-np.square(across)) * (x**2 + y**2 < 17)
        w = weights(o=5, i=1, values=values)
        figure = figures.family_grid(w, targets=range(5), sources=[0], order="angle")
        assert figure.data["targets"].tolist() == [1, 4, 3, 0, 2]
        assert figure.data["angles"][0] == pytest.approx([20, 40, 70, 100, 160], abs=3)
        assert np.array_equal(figure.data["maps"][:, 0], w.values[[1, 4, 3, 0, 2], 0])
        assert "by the angle of their maps" in figure.caption

    def test_its_words(self):
        w = weights(o=6, i=8)
        figure = figures.family_grid(w, targets=[0, 5, 2], sources=["in:7", 1], palette="colorblind")
        share = figure.data["share"]
        assert figure.caption == (
            "3 units of conv (down) and 2 of in (across); these maps hold "
            f"{share:.0%} of the targets' squared weights; orange excites, blue inhibits."
        )
        found = Drawn(figure).texts
        assert {"conv", "reads in · 3 × 3 · 3 × 2 units", f"+{figure.data['scale']:.2g}"} <= set(found)
        assert "in:7, in:1" in figure.alt


def loop_norm(row):
    return sum(float(v) ** 2 for v in row) ** 0.5


def directions(o=6, i=9, k=3, seed=0, **more):
    """Factors with directions of no negative number, most of them not zero."""
    channels = np.random.default_rng(seed).random((k, i)).astype(np.float32)
    space = np.random.default_rng(seed + 1).normal(size=(o, 3, 3, k)).astype(np.float32)
    space /= abs(space).max(axis=(0, 1, 2))
    return factors(o=o, i=i, k=k, **(dict(channels=channels, space=space, nonnegative="channels") | more))


class TestWeightFactors:
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("palette", STOPS)
    def test_rows_are_factors_and_columns_units(self, width, palette):
        space = np.random.default_rng(1).normal(size=(6, 3, 3, 3)) * [1, 0.5, 0.1]
        space[2, 1, 2] *= 9 * np.sign(space[2, 1, 2]) / abs(space[2, 1, 2]) * [1, 0.5, 0.1]
        f = directions(space=space)
        units = [5, 0, 2, 4]
        figure = figures.weight_factors(
            f, pictures("in", range(3), of="factors"), pictures("conv", range(6)), units=units, palette=palette
        )
        assert figure.data["units"].tolist() == units
        assert np.array_equal(figure.data["shares"], f.shares)
        assert (figure.data["explained"], figure.data["bound"]) == (f.explained, f.bound)
        drawn = Drawn(figure, width)
        by_words = {m.words: m for m in drawn.maps}
        assert len(by_words) == len(drawn.maps) == 12
        for k in range(3):
            peak = max(abs(float(v)) for v in space[..., k].ravel())
            for place, n in enumerate(units):
                square = by_words[f"factor {k + 1} in conv:{n}"]
                assert np.array_equal(figure.data["maps"][k, place], f.space[n, :, :, k])
                assert_colours(square.pixels, f.space[n, :, :, k], peak, palette)
                assert_shade(drawn.above(square), "conv", n)
                assert_shade(drawn.left_of(square), "factors", k)
        assert by_words["factor 1 in conv:5"].y < by_words["factor 2 in conv:5"].y < by_words["factor 3 in conv:5"].y

    def test_its_words(self):
        f = directions(shares=np.array([0.3, 0.0512, 0.0004], np.float32))
        figure = figures.weight_factors(f)
        found = Drawn(figure).texts
        assert {"factor 1", "factor 3", "30%", "5.1%", "0.04%", "−1", "+1"} <= set(found)
        assert "reads in · 3 × 3 · 3 factors, 6 units" in found
        assert "of each factor's largest weight" in found
        assert figure.caption.startswith(
            "3 factors of the weights of 6 units of conv (one-sided NMF, channels ≥ 0) hold 43% of their squares, 3 of "
            "any kind at most 57%. Beside each, what its direction over in detects; red excites, blue inhibits."
        )

    def test_by_default_the_first_eight_units(self):
        f = directions(o=11, units=np.arange(20, 31))
        figure = figures.weight_factors(f)
        assert figure.data["units"].tolist() == list(range(20, 28))
        assert "reads in · 3 × 3 · 3 factors, 8 of 11 units" in Drawn(figure).texts

    def test_a_factor_without_weights_is_near_white(self):
        f = directions()
        f.space[..., 1] = 0
        drawn = Drawn(figures.weight_factors(f))
        empty = [m for m in drawn.maps if m.words.startswith("factor 2 ")]
        assert len(empty) == 6
        assert all((m.pixels == 0xF7).all() for m in empty)


class TestFactorEquation:
    def expected(self, f, k):
        """(sources, coefficients) by factor: by falling magnitude, those of zero left out."""
        found = []
        for row in f.channels:
            length = loop_norm(row) or 1
            ranked = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))
            terms = [(i, float(row[i]) / length) for i in ranked if row[i]][:k]
            found.append(terms)
        return found

    @pytest.mark.parametrize("k", [1, 4, 9, 20])
    def test_coefficients_and_what_they_hold(self, k):
        f = directions()
        f.channels[1, 3:] = 0
        data = figures.factor_equation(f, k=k).data
        wanted = self.expected(f, k)
        assert [s.tolist() for s in data["sources"]] == [[i for i, _ in line] for line in wanted]
        for line, got, held in zip(wanted, data["coefficients"], data["held"], strict=True):
            assert got == pytest.approx([c for _, c in line], rel=1e-5)
            assert held == pytest.approx(sum(c * c for _, c in line), rel=1e-5)
        if k >= 9:
            assert data["held"] == pytest.approx([1, 1, 1], rel=1e-5)

    @pytest.mark.parametrize("width", WIDTHS)
    def test_every_line_is_a_factor_and_its_terms(self, width):
        f = directions()
        figure = figures.factor_equation(f, pictures("in", range(3), of="factors"), pictures("in", range(9)), k=4)
        drawn = Drawn(figure, width)
        assert not drawn.maps
        reading = sorted(drawn.photos, key=lambda p: (round(p.y), p.x))
        wanted = self.expected(f, 4)
        expected = [
            (layer, n) for k, line in enumerate(wanted) for layer, n in [("factors", k), *[("in", i) for i, _ in line]]
        ]
        assert len(reading) == len(expected) == 15
        for photo, (layer, n) in zip(reading, expected, strict=True):
            assert_shade(photo, layer, n)
        bars = [n for n in drawn.root.iter(f"{SVG}rect") if n.get("height") == "5"]
        largest = max(c for line in wanted for _, c in line)
        lengths = [float(n.get("width")) / reading[0].w for n in bars]
        assert lengths == pytest.approx([c / largest for line in wanted for _, c in line], abs=0.001)
        for photo, bar in zip(
            [p for p, (layer, _) in zip(reading, expected, strict=True) if layer == "in"], bars, strict=True
        ):
            assert float(bar.get("x")) == pytest.approx(photo.x, abs=0.02)
            assert 0 < float(bar.get("y")) - photo.y - photo.h < 12

    def test_signs_numbers_and_what_is_left_out(self):
        channels = np.array([[3, 0, -4, 0], [0, -2, 0, 0], [1, 1, 1, 1]], np.float32)
        f = factors(i=4, channels=channels, nonnegative="none", method="svd")
        found = Drawn(figures.factor_equation(f, k=2)).texts
        assert [t for t in found if t in ("=", "+", "−", "= −", "+ …")] == ["= −", "+", "= −", "=", "+", "+ …"]
        assert [t for t in found if re.fullmatch(r"\.\d+|1", t)] == [".8", ".6", "1", ".5", ".5"]

    def test_its_words(self):
        f = directions()
        figure = figures.factor_equation(f, k=4)
        low, high = (f"{pick(figure.data['held']):.0%}" for pick in (min, max))
        assert figure.caption == (
            "Each factor's direction over the units of in, scaled to length 1, as a sum of units; the terms shown hold "
            f"{low} to {high} of its square. 3 factors of the weights of 6 units of conv (one-sided NMF, channels ≥ 0) "
            "hold 43% of their squares, 3 of any kind at most 57%. 2 ReLU6 read as the identity."
        )
        assert "3 factors over in" in Drawn(figure).texts
        assert figure.alt.startswith("factor 1 = 0.")

    def test_a_factor_without_a_direction_stands_alone(self):
        f = directions()
        f.channels[2] = 0
        data = figures.factor_equation(f, k=2).data
        assert data["sources"][2].tolist() == []
        assert data["held"][2] == 0
        assert "factor 3" in Drawn(figures.factor_equation(f, k=2)).texts


def ring(size=5, i=3, faint=0.1, seed=0):
    """Weights of one unit: strong in a cross, faint elsewhere."""
    strength = np.full((size, size), faint)
    strength[size // 2], strength[:, size // 2] = 1, 1
    values = np.random.default_rng(seed).normal(size=(1, i, size, size))
    values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
    return weights(o=1, i=i, values=values * strength * (1 + np.arange(size) / size))


class TestSpatialPositions:
    @pytest.mark.parametrize("kind", KINDS)
    def test_lengths_places_and_share(self, kind):
        w = varied()[kind]
        to = int(w.units[-1])
        maps = loop_maps(w, to)
        length = np.zeros(maps.shape[1:])
        for y, x in np.ndindex(length.shape):
            length[y, x] = loop_norm(maps[:, y, x])
        spots = figures.drawn_places(w, to, least=0.3)
        data = figures.spatial_positions(w, pictures(w.source, range(len(spots))), target=to, places=spots).data
        assert data["lengths"] == pytest.approx(length, rel=1e-5)
        top, left, high, wide = data["window"]
        wanted = [
            (y, x)
            for y, x in np.ndindex(length.shape)
            if length[y, x] >= 0.3 * length.max() and 0 <= y - top < high and 0 <= x - left < wide
        ]
        assert spots == wanted
        assert data["places"].tolist() == [list(s) for s in wanted]
        whole = sum(float(v) ** 2 for v in length.ravel())
        assert data["share"] == pytest.approx(sum(length[s] ** 2 for s in wanted) / whole, rel=1e-5)

    def test_by_default_from_fifteen_hundredths_of_the_longest_on(self):
        values = np.ones((1, 1, 1, 4)) * [1, 0.149, -0.151, 0]
        w = weights(o=1, i=1, values=values)
        assert figures.drawn_places(w, 0) == [(0, 0), (0, 2)]
        assert figures.drawn_places(w, "conv:0", least=0.1) == [(0, 0), (0, 1), (0, 2)]
        assert figures.drawn_places(w, 0, least=0) == [(0, 0), (0, 1), (0, 2)]  # never where there is nothing

    @pytest.mark.parametrize("width", WIDTHS)
    def test_pictures_stand_in_their_places_and_fade_with_their_length(self, width):
        w = ring()
        length = np.sqrt((w.values[0].astype(float) ** 2).sum(axis=0))
        spots = figures.drawn_places(w, 0)
        assert len(spots) == 9
        made = pictures("in", range(9), of="positions")
        drawn = Drawn(figures.spatial_positions(w, made, pictures("conv", [0]), target=0), width)
        (unit,) = [p for p in drawn.photos if p.words == "what excites conv:0"]
        assert_shade(unit, "conv", 0)
        grid = [p for p in drawn.photos if p is not unit]
        xs, ys = (sorted({round(getattr(p, a), 2) for p in grid}) for a in "xy")
        assert (len(xs), len(ys), len(grid)) == (5, 5, 25)
        for photo in grid:
            spot = ys.index(round(photo.y, 2)), xs.index(round(photo.x, 2))
            if spot in spots:
                strength = length[spot] / length.max()
                assert_shade(photo, "positions", spots.index(spot), strength)
                assert photo.words.startswith(f"row {spot[0]}, column {spot[1]}: what excites in:{spots.index(spot)}")
                assert f"{strength:.0%} of the longest" in photo.words
            else:
                assert (photo.pixels > 250).all()

    def test_given_places_in_any_order(self):
        w = ring()
        spots = [(4, 2), (2, 0)]
        figure = figures.spatial_positions(w, pictures("in", [0, 1], of="positions"), target=0, places=spots)
        drawn = Drawn(figure)
        grid = {p.words.split(":")[0]: p for p in drawn.photos if p.words.startswith("row ")}
        assert list(grid) == ["row 2, column 0", "row 4, column 2"]
        length = figure.data["lengths"] / figure.data["lengths"].max()
        assert_shade(grid["row 4, column 2"], "positions", 0, length[4, 2])
        assert_shade(grid["row 2, column 0"], "positions", 1, length[2, 0])

    def test_a_picture_that_came_to_nothing_says_so(self):
        w = ring()
        drawn = Drawn(figures.spatial_positions(w, pictures("in", range(9), dead=[2]), target=0))
        assert drawn.texts.count("no result") == 1
        assert len(drawn.photos) == 24
        assert (
            "1 of them came to nothing"
            in figures.spatial_positions(w, pictures("in", range(9), dead=[2]), target=0).caption
        )

    def test_every_given_place_is_drawn(self):
        w = margins(o=1)
        figure = figures.spatial_positions(w, pictures("in", range(2)), target=0, places=[(2, 2), (0, 6)])
        shown = [p.words.split(":")[0] for p in Drawn(figure).photos if p.words.startswith("row ")]
        assert shown == ["row 0, column 6", "row 2, column 2"]

    def test_its_words(self):
        w = ring()
        figure = figures.spatial_positions(w, pictures("in", range(9)), target="conv:0")
        assert figure.caption.startswith(
            "What conv:0 looks for at each position of in: the picture of its weights' direction there, faded by their "
            f"magnitude. These 9 positions hold {figure.data['share']:.0%} of its squared weights."
        )
        assert "reads in · 5 × 5 positions" in Drawn(figure).texts

    def test_only_the_inner_positions_of_a_wide_map(self):
        w = margins(o=1)
        spots = figures.drawn_places(w, 0)
        assert {(2, 2), (8, 10)} <= set(spots)
        assert all(2 <= y < 9 and 2 <= x < 11 for y, x in spots)
        figure = figures.spatial_positions(w, pictures("in", range(len(spots))), target=0)
        assert figure.data["window"] == (2, 2, 7, 9)
        drawn = Drawn(figure)
        assert len({round(p.x, 2) for p in drawn.photos if p.words != "what excites conv:0"}) == 9
        assert "reads in · inner 7 × 9 of 11 × 13 positions" in drawn.texts
        assert "outside the inner 7 × 9 squares" in figure.caption


def grouped_unit(seed=0):
    """A unit whose six sources are parts of two patterns, and the factors that they are made of."""
    patterns = np.zeros((2, 3, 3))
    patterns[0, 1], patterns[1, :, 1] = 1, -1
    part = np.array([[0, 5, 1, 0, 3, 0], [4, 0, 0, 2, 0, 6.0]])
    values = np.einsum("kyx,ki->iyx", patterns, part)[None]
    w = weights(o=1, i=6, values=values, units=np.array([7]), target_units=9)
    f = factors(
        o=1, i=6, k=2, units=np.array([7]), space=patterns.transpose(1, 2, 0)[None].astype(np.float32),
        channels=part.astype(np.float32), nonnegative="channels", explained=1.0, bound=1.0,
        shares=np.array([0.4, 0.6], np.float32), provenance=Provenance("net"),
    )  # fmt: skip
    return w, f


class TestExpanded:
    @pytest.mark.parametrize("kind", KINDS)
    def test_without_factors_the_strongest_first(self, kind):
        w = varied()[kind]
        to = int(w.units[0])
        data = figures.expanded(w, target=to, k=3).data
        top, maps, place = loop_top(w, to, "l2", 3), loop_maps(w, to), w.source_indices.tolist().index
        assert data["sources"].tolist() == top
        assert np.array_equal(data["maps"], [maps[place(n)] for n in top])
        power = loop_power(maps)
        assert data["share"] == pytest.approx(sum(power[place(n)] for n in top) / sum(power))
        assert data["scale"] == max(abs(maps[place(n)]).max() for n in top)
        assert (data["rows"], data["grouped"]) == ([len(top)], False)

    @pytest.mark.parametrize("width", WIDTHS)
    def test_sources_stand_in_the_row_of_their_factor(self, width):
        w, f = grouped_unit()
        directions_of = pictures("in", range(2), of="factors", labels=("first", "second"))
        figure = figures.expanded(w, both(w), f, directions_of, target=7)
        assert figure.data["sources"].tolist() == [1, 4, 2, 5, 0, 3]
        assert figure.data["rows"] == [3, 3]
        assert figure.data["grouped"]
        assert np.array_equal(figure.data["maps"], w.values[0, [1, 4, 2, 5, 0, 3]])
        drawn = Drawn(figure, width)
        for n, square in zip([1, 4, 2, 5, 0, 3], drawn.maps, strict=True):
            assert_colours(square.pixels, w.values[0, n], 6.0)
            assert_shade(drawn.above(square), "in", n)
        heads = [next(line for line in drawn.lines() if line[4] == f"factor {k}") for k in (1, 2)]
        made = [p for p in drawn.photos if p.words.endswith(("first", "second"))]
        for k, (photo, head) in enumerate(zip(made, heads, strict=True)):
            assert_shade(photo, "factors", k)
            assert (head[0] + head[2]) / 2 == pytest.approx(photo.middle[0], abs=0.6)
            assert head[1] >= photo.y + photo.h
        assert made[0].y < min(m.y for m in drawn.maps[:3])
        assert max(m.y for m in drawn.maps[:3]) < made[1].y < min(m.y for m in drawn.maps[3:])
        shares = [next(line for line in drawn.lines() if line[4] == words) for words in ("40%", "60%")]
        for head, share in zip(heads, shares, strict=True):
            assert (share[0] + share[2]) / 2 == pytest.approx((head[0] + head[2]) / 2, abs=0.6)
            assert head[3] <= share[1] < head[3] + 12

    def test_a_factor_counts_by_the_strength_of_its_map(self):
        w, f = grouped_unit()
        f.channels[0] += 0.5  # of every source, but much less than its own
        assert figures.expanded(w, factors=f, target=7).data["rows"] == [3, 3]
        f.space[..., 0] *= 100  # now the first explains most of all
        assert figures.expanded(w, factors=f, target=7).data["rows"] == [6, 0]

    def test_factors_that_hold_too_little_do_not_group(self):
        w, f = grouped_unit()
        for explained, grouped in ((0.49, False), (0.5, True)):
            weak = dataclasses.replace(f, explained=explained)
            figure = figures.expanded(w, factors=weak, target=7)
            assert figure.data["grouped"] is grouped
            assert figure.data["rows"] == ([3, 3] if grouped else [6])
            assert ("too little to group sources by" in figure.caption) is not grouped
            assert f"2 factors hold {explained:.0%} of at most 100%" in figure.caption
            assert ("factor 1" in Drawn(figure).texts) is grouped
        assert figures.expanded(w, factors=dataclasses.replace(f, explained=0.2), target=7, enough=0.2).data["grouped"]
        assert not figures.expanded(w, factors=f, target=7, enough=1.01).data["grouped"]

    def test_a_factor_without_sources_has_no_row(self):
        w, f = grouped_unit()
        figure = figures.expanded(w, factors=f, target=7, k=1)
        assert figure.data["rows"] == [0, 1]
        assert figure.data["sources"].tolist() == [5]
        assert "factor 1" not in Drawn(figure).texts

    def test_its_words(self):
        w, f = grouped_unit()
        figure = figures.expanded(w, factors=f, target="conv:7", k=4)
        power = loop_power(loop_maps(w, 7))
        share = (power[5] + power[1] + power[0] + power[4]) / sum(power)
        assert figure.caption == (
            "The 4 units of in that weigh most on conv:7, in a row for each factor, with "
            f"{share:.0%} of its squared weights; red excites, blue inhibits. 2 factors hold 100% of at most 100%."
        )
        assert "strongest first" in figures.expanded(w, target=7).caption
        assert "reads in · 3 × 3 · 4 of 6 sources" in Drawn(figure).texts


class TestCancellation:
    @pytest.mark.parametrize(
        "shape", [dict(), dict(outer=(3, 2)), dict(outer=(2, 2), step=2), dict(m=1), dict(inner=(1, 1))]
    )
    def test_sums_and_what_cancels(self, shape):
        paths = planted_paths(**shape)
        to, of = 1, 2
        net, absolute = np.zeros((2, *paths.total.shape[2:]))
        best, worst = np.zeros((2, *paths.total.shape[2:]))
        step = int(paths.inner_stride[0])
        for k, y, x, v, u in np.ndindex(*paths.outer.shape[1:], *paths.inner.shape[2:]):
            path = float(paths.outer[to, k, y, x]) * float(paths.inner[k, of, v, u])
            at = y * step + v, x * step + u
            net[at] += path
            absolute[at] += abs(path)
            best[at] += max(path, 0)
            worst[at] += min(path, 0)
        data = figures.cancellation(paths, target=to, source=of).data
        assert data["sums"] == pytest.approx(np.stack([net, best, worst]), abs=1e-5)
        assert data["cancellation"] == pytest.approx(1 - abs(net).sum() / absolute.sum(), abs=1e-5)
        every = loop_contributions(paths, to, of)
        assert data["maps"] == pytest.approx(every[data["middle"]], abs=1e-5)
        assert data["scales"] == pytest.approx((abs(data["maps"]).max(), abs(data["sums"]).max()))
        assert data["window"] == (0, 0, *net.shape)

    @pytest.mark.parametrize("outer", [(1, 1), (2, 3)])
    def test_the_share_that_the_shown_units_hold(self, outer):
        paths = planted_paths(outer=outer)
        held = np.zeros(6)
        for k, y, x, v, u in np.ndindex(*paths.outer.shape[1:], *paths.inner.shape[2:]):
            held[k] += abs(float(paths.outer[0, k, y, x]) * float(paths.inner[k, 1, v, u]))
        for k in (1, 6):
            data = figures.cancellation(paths, target=0, source=1, k=k).data
            assert data["share"] == pytest.approx(held[data["middle"]].sum() / held.sum(), abs=1e-5)
        assert len(data["middle"]) == 6

    def test_middle_units_by_what_they_mostly_do(self):
        paths = planted_paths(m=12)
        every = loop_contributions(paths, 0, 1)
        excess = [sum(float(v) * abs(float(v)) for v in m.ravel()) for m in every]
        strength = [sum(abs(float(v)) for v in m.ravel()) for m in every]
        ranked = sorted(range(12), key=lambda m: -strength[m])
        rows = [m for m in ranked if excess[m] > 0][:3], [m for m in ranked if excess[m] < 0][:3]
        data = figures.cancellation(paths, target=0, source=1, k=3).data
        assert data["middle"].tolist() == [*rows[0], *rows[1]]
        assert data["rows"] == [3, 3]
        whole = figures.cancellation(paths, target=0, source=1, k=12).data
        assert sorted(whole["middle"]) == list(range(12))
        assert whole["share"] == pytest.approx(1)

    @pytest.mark.parametrize("width", [320, 720, 1080])
    @pytest.mark.parametrize("palette", STOPS)
    def test_two_halves_with_a_scale_each(self, width, palette):
        paths = planted_paths(m=9)
        shown = [pictures("in", range(3)), pictures("mid", range(9)), pictures("conv", range(2))]
        figure = figures.cancellation(paths, shown, target=1, source=0, k=2, palette=palette)
        drawn = Drawn(figure, width)
        every = loop_contributions(paths, 1, 0)
        above, below = drawn.maps[:-3], drawn.maps[-3:]
        assert len(above) == len(figure.data["middle"]) == 4
        scale = abs(every[figure.data["middle"]]).max()
        for n, square in zip(figure.data["middle"], above, strict=True):
            assert_colours(square.pixels, every[n], scale, palette)
            assert_shade(drawn.above(square), "mid", n)
        for values, square in zip(figure.data["sums"], below, strict=True):
            assert_colours(square.pixels, values, abs(figure.data["sums"]).max(), palette)
        assert max(m.y for m in above) < min(m.y for m in below)
        assert len(drawn.scales) == 2
        ends = {p.words: p for p in drawn.photos if p.words in ("what excites in:0", "what excites conv:1")}
        assert_shade(ends["what excites in:0"], "in", 0)
        assert_shade(ends["what excites conv:1"], "conv", 1)
        first, second = ends["what excites in:0"], ends["what excites conv:1"]
        assert first.y + first.h < second.y if width >= 720 else first.x + first.w < second.x

    def test_its_words(self):
        paths = planted_paths(m=9)
        figure = figures.cancellation(paths, target=1, source=0, k=2)
        share, lost = figure.data["share"], figure.data["cancellation"]
        assert figure.caption.startswith(
            f"What in:0 does to conv:1 through 4 units of mid, which hold {share:.0%} of all magnitudes; below, all 9 "
            f"units added up: {lost:.0%} cancels. The best case is that of open gates"
        )
        found = Drawn(figure).texts
        assert {"mostly excite", "mostly inhibit", "all paths", "best case", "worst case"} <= set(found)
        assert f"all 9 units added up: {lost:.0%} cancels" in found
        scales = [magnitude(scale) for scale in figure.data["scales"]]
        assert [t for t in found if re.fullmatch(r"\+[\d.]+", t)] == [f"+{scale}" for scale in scales]
        assert [t for t in found if re.fullmatch(r"−[\d.]+", t)] == [f"−{scale}" for scale in scales]
        absolute = [float(abs(m).sum()) for m in loop_contributions(paths, 1, 0)[figure.data["middle"]]]
        assert [t for t in found if t.startswith("Σ|·|")] == [f"Σ|·| {magnitude(a)}" for a in absolute]
        sums = figure.data["sums"].sum(axis=(1, 2))
        signed = [f"Σ {'−' if s < 0 else '+'}{magnitude(abs(s))}" for s in sums]
        assert [t for t in found if t.startswith("Σ ")] == signed

    def test_what_runs_around_the_middle_is_said(self):
        paths = planted_paths()
        assert "around" not in figures.cancellation(paths, target=0, source=0).caption
        twice = dataclasses.replace(paths, total=2 * paths.through)
        assert (
            "50% of the unit's expanded weights run around mid"
            in figures.cancellation(twice, target=0, source=0).caption
        )

    def test_sources_by_number(self):
        paths = planted_paths(source_numbers=np.array([8, 3, 5]))
        data = figures.cancellation(paths, target=0, source="in:3").data
        assert data["sums"][0] == pytest.approx(loop_contributions(paths, 0, 1).sum(axis=0), abs=1e-5)


FIELD = ReceptiveField((43.0, 59.0), (8.0, 8.0), (-17.0, -17.0))
LAYER = Layer("conv", "conv", "Conv2d", 6, (28, 14), receptive_field=FIELD)


class TestNeuronCard:
    def parts(self, **more):
        w = weights(o=6, i=10, provenance=Provenance("net"))
        f = directions(o=1, i=10, units=np.array([4]), provenance=Provenance("net"))
        f.space[...] *= [1, 0.5, 0.1]  # each on its own scale
        out = weights(o=7, i=6, source="conv", target="next", seed=9)
        shown = [*both(w), pictures("next", range(7))]
        parts = dict(
            images=shown, outputs=out, factors=f, factor_images=pictures("in", range(3), of="factors"),
            positions=pictures("in", range(len(figures.drawn_places(w, 4))), of="positions"), layer=LAYER,
        )  # fmt: skip
        return w, parts | more

    def test_inputs_outputs_and_share(self):
        w, parts = self.parts()
        data = figures.neuron_card(w, **parts, target=4, k=3).data
        inputs = [n for row in loop_signs(loop_maps(w, 4), range(10), 3) for n in row]
        assert data["inputs"].tolist() == inputs
        power = loop_power(loop_maps(w, 4))
        assert data["share"] == pytest.approx(sum(power[n] for n in set(inputs)) / sum(power))
        values = parts["outputs"].values[:, 4]
        assert data["outputs"].tolist() == [n for row in loop_signs(values, range(7), 3) for n in row]

    def test_its_facts(self):
        w, parts = self.parts()
        facts = dict(figures.neuron_card(w, **parts, target=4).data["facts"])
        maps = loop_maps(w, 4)
        power = sorted(loop_power(maps), reverse=True)
        half = next(n for n in range(1, 11) if sum(power[:n]) >= sum(power) / 2)
        exciting = sum(float(v) ** 2 for v in maps.ravel() if v > 0) / sum(power)
        assert facts == {
            "sources": "10",
            "half its weights are in": f"{half} of them",
            "exciting share": f"{exciting:.0%}",
            "in 3 factors": "43%",
            "grid": "28 × 14",
            "sees": "43 × 59 px",
            "one position every": "8 px",
            "its activation on its picture": magnitude(float(np.linspace(2, 8, 6)[4])),
        }

    @pytest.mark.parametrize("width", WIDTHS)
    def test_every_part_shows_its_maps_and_pictures(self, width):
        w, parts = self.parts()
        figure = figures.neuron_card(w, **parts, target=4, k=3)
        drawn = Drawn(figure, width)
        inputs = [n for row in loop_signs(loop_maps(w, 4), range(10), 3) for n in row]
        end = len(inputs)
        scale = abs(w.values[4, inputs]).max()
        assert drawn.photos[0].words == "what excites conv:4"
        assert_shade(drawn.photos[0], "conv", 4)
        for n, square in zip(inputs, drawn.maps, strict=False):
            assert_colours(square.pixels, w.values[4, n], scale)
            assert_shade(drawn.above(square), "in", n)
        space = parts["factors"].space[0]
        for k, square in enumerate(drawn.maps[end : end + 3]):
            assert square.words == f"factor {k + 1}"
            assert_colours(square.pixels, space[..., k], abs(space[..., k]).max())
            assert_shade(drawn.above(square), "factors", k)
        readers = figure.data["outputs"].tolist()
        values = parts["outputs"].values[readers, 4]
        for n, one, square in zip(readers, values, drawn.maps[end + 3 :], strict=True):
            assert_colours(square.pixels, one, abs(values).max())
            assert_shade(drawn.above(square), "next", n)
        spots = figures.drawn_places(w, 4)
        assert len([p for p in drawn.photos if p.words.startswith("row ")]) == len(spots)
        assert len(drawn.scales) == 2

    def test_parts_that_are_not_given_are_left_out(self):
        w, parts = self.parts()
        headings = {
            "outputs": "What it does in next",
            "factors": "In 3 factors",
            "positions": "What it looks for, and where",
        }
        whole = Drawn(figures.neuron_card(w, **parts, target=4)).texts
        bare = Drawn(figures.neuron_card(w, target=4)).texts
        assert "What it reads in in" in bare
        assert len(figures.neuron_card(w, target=4).data["facts"]) == 3
        for part, heading in headings.items():
            assert heading in whole
            assert heading not in bare
            assert heading not in Drawn(figures.neuron_card(w, **(parts | {part: None}), target=4)).texts

    def test_its_words(self):
        w, parts = self.parts()
        figure = figures.neuron_card(w, **parts, target="conv:4", k=3)
        assert figure.caption.startswith(
            f"conv:4 at a glance: the units of in shown hold {figure.data['share']:.0%} of its squared weights; it is "
            "read by next; red excites, blue inhibits."
        )
        assert figure.title == "About conv:4"

    def test_positions_in_given_places(self):
        w, parts = self.parts(positions=pictures("in", range(2), of="positions"))
        figure = figures.neuron_card(w, **parts, places=[(2, 2), (0, 1)], target=4)
        found = {p.words.split(":")[0]: p for p in Drawn(figure).photos if p.words.startswith("row ")}
        length = np.sqrt((w.values[4].astype(float) ** 2).sum(axis=0))
        assert sorted(found) == ["row 0, column 1", "row 2, column 2"]
        assert_shade(found["row 2, column 2"], "positions", 0, length[2, 2] / length.max())


class TestWindows:
    def made(self, w):
        return {
            "connection": figures.connection(w, source=1, target=0),
            "small multiples": figures.small_multiples(w, target=0, k=2),
            "family": figures.family_grid(w, targets=[0, 1], sources=[2, 0]),
            "expanded": figures.expanded(w, target=0, k=2),
            "card": figures.neuron_card(w, target=0, k=1),
        }

    @pytest.mark.parametrize("kind", ["connection", "small multiples", "family", "expanded", "card"])
    def test_faint_margins_are_hidden_and_that_is_said(self, kind):
        figure = self.made(margins())[kind]
        assert figure.data["window"] == (2, 2, 7, 9)
        said = "less than 1% of these maps' squared weights lies outside the inner 7 × 9 squares"
        assert said in figure.caption.lower()
        for width in WIDTHS:
            assert {m.pixels.shape for m in Drawn(figure, width).maps} == {(7, 9, 3)}
        if "maps" in figure.data:
            maps = figure.data["maps"].reshape(-1, 11, 13)
            for values, square in zip(maps, Drawn(figure).maps, strict=True):
                assert_colours(square.pixels, values[2:9, 2:11], abs(maps).max())
            assert any("inner 7 × 9 of 11 × 13" in t for t in Drawn(figure, 1080).texts)

    @pytest.mark.parametrize("kind", ["connection", "small multiples", "family", "expanded", "card"])
    def test_the_own_position_is_framed_where_it_is_not_the_middle(self, kind):
        w = margins()
        assert not Drawn(self.made(w)[kind]).marks()
        moved = dataclasses.replace(w, origin=(-3, -8))  # row 1, column 6 of the window
        drawn = Drawn(self.made(moved)[kind])
        frames = drawn.marks()
        assert len(frames) >= len(drawn.maps)
        for square, (x, y, w_, h_) in zip(drawn.maps, frames, strict=False):
            step = square.w / 9
            assert x + w_ / 2 == pytest.approx(square.x + 6.5 * step, abs=0.1)
            assert y + h_ / 2 == pytest.approx(square.y + 1.5 * step, abs=0.1)

    @pytest.mark.parametrize("kind", ["connection", "small multiples", "family", "expanded", "card", "cancellation"])
    def test_what_the_frame_is_is_said(self, kind):
        w, paths = dataclasses.replace(margins(), origin=(-3, -8)), planted_paths(origin=(-1, 0), inner_origin=(-1, 0))
        made = self.made(w) | {"cancellation": figures.cancellation(paths, target=0, source=0)}
        drawn = Drawn(made[kind])
        assert drawn.marks()
        assert "the target's own position" in drawn.texts

    def test_of_strided_weights_the_own_position_is_several_squares(self):
        w = weights(o=2, h=6, w=6, stride=(2, 2), origin=(-1, -1))
        drawn = Drawn(figures.small_multiples(w, target=0, k=1))
        frame, _ = drawn.marks()
        step = drawn.maps[0].w / 6
        place = [drawn.maps[0].x + step, drawn.maps[0].y + step, 2 * step, 2 * step]
        assert frame == pytest.approx(place, abs=0.8)

    def test_of_dilated_weights_the_own_position_is_one_square(self):
        w = weights(o=2, dilation=(2, 2), origin=(0, -2))  # drawn on 5 × 5 squares: row 0, column 2
        drawn = Drawn(figures.small_multiples(w, target=0, k=1))
        frame, _ = drawn.marks()
        step = drawn.maps[0].w / 5
        assert frame == pytest.approx([drawn.maps[0].x + 2 * step, drawn.maps[0].y, step, step], abs=0.8)

    def test_of_dilated_weights_the_middle_is_not_framed(self):
        w = weights(o=2, dilation=(2, 2), origin=(-2, -2))
        for figure in self.made(w).values():
            assert not Drawn(figure).marks()


class TestPictures:
    def test_one_record_a_list_and_a_mapping_are_the_same(self):
        w = weights(source="conv", o=4)
        one = pictures("conv", range(4))
        ways = [one, [one], (one,), {"conv": one}, [one.select([0, 1]), one.select([2, 3])]]
        drawn = [figures.small_multiples(w, way, target=1).svg() for way in ways]
        assert drawn[0].count("image/webp") == 5
        assert drawn == [drawn[0]] * 5

    def test_of_two_pictures_of_a_unit_the_first_is_shown(self):
        w = weights()
        images = [pictures("in", [2], of="mid"), pictures("in", range(4))]
        drawn = Drawn(figures.small_multiples(w, images, target=0, sources=[2, 1]))
        assert_shade(drawn.above(drawn.maps[0]), "mid", 2)
        assert_shade(drawn.above(drawn.maps[1]), "in", 1)

    def test_units_without_a_picture_say_so(self):
        w = weights()
        drawn = Drawn(figures.small_multiples(w, pictures("in", [0, 2]), target=0))
        assert drawn.texts.count("no picture") == 3  # two sources and the target
        titles = [n.text for n in drawn.root.iter(f"{SVG}title")]
        assert {f"there is no picture of {u}" for u in ("in:1", "in:3", "conv:0")} <= set(titles)
        assert len(drawn.photos) == 2
        assert Drawn(figures.small_multiples(w, target=0)).texts.count("no picture") == 5

    def test_pictures_that_came_to_nothing_say_so(self):
        w = weights()
        figure = figures.small_multiples(w, [pictures("in", range(4), dead=[1, 3]), pictures("conv", [0])], target=0)
        drawn = Drawn(figure)
        assert drawn.texts.count("no result") == 2
        assert "no picture" not in drawn.texts
        titles = [n.text for n in drawn.root.iter(f"{SVG}title")]
        assert {"in:1: no picture excites it", "in:3: no picture excites it"} <= set(titles)
        assert "2 of them came to nothing" in figure.caption

    def test_a_missing_picture_is_framed_where_the_picture_would_be(self):
        w = weights()
        there = Drawn(figures.connection(w, both(w), source=1, target=2))
        gone = Drawn(figures.connection(w, source=1, target=2))
        places = [(line[0] + line[2]) / 2 for line in gone.lines() if line[4] == "no picture"]
        assert places == pytest.approx([p.middle[0] for p in there.photos], abs=0.6)

    @pytest.mark.parametrize("kind", ["connection", "multiples", "family"])
    def test_channels_of_the_input_are_swatches_with_names(self, kind):
        w = rgb_weights(o=3)
        figure = {
            "connection": lambda: figures.connection(w, source=2, target=0),
            "multiples": lambda: figures.small_multiples(w, target=0, sources=[2, 0, 1]),
            "family": lambda: figures.family_grid(w, targets=[0], sources=[2, 0, 1]),
        }[kind]()
        drawn = Drawn(figure)
        order = ["blue"] if kind == "connection" else ["blue", "red", "green"]
        assert [p.words for p in drawn.photos] == [
            f"input:{dict(red=0, green=1, blue=2)[n]}: the input's {n}" for n in order
        ]
        for name, photo in zip(order, drawn.photos, strict=True):
            colour = photo.pixels[160, 160].astype(int)
            assert colour.argmax() == ("red", "green", "blue").index(name)
            assert colour.max() - colour.min() > 80
        assert [t for t in drawn.texts if t in ("red", "green", "blue")] == order
        assert "blue → conv:0" in figure.caption or kind != "connection"

    def test_some_channels_of_the_input_keep_their_colours(self):
        w = rgb_weights(o=1, i=2, source_numbers=np.array([2, 0]), channel_names=("blue", "red"), source_units=2)
        drawn = Drawn(figures.small_multiples(w, target=0, sources=[2, 0]))
        assert [t for t in drawn.texts if t in ("blue", "red")] == ["blue", "red"]
        seen = [drawn.above(m).pixels[160, 160].argmax() for m in drawn.maps]
        assert seen == [2, 0]

    def test_own_pictures_go_before_swatches_and_other_channels_have_none(self):
        w = rgb_weights(o=1)
        drawn = Drawn(figures.small_multiples(w, pictures("input", [1], of="in"), target=0, sources=[1]))
        assert_shade(drawn.above(drawn.maps[0]), "in", 1)
        depth = rgb_weights(o=1, channel_names=("near", "infrared", "red"))
        drawn = Drawn(figures.small_multiples(depth, target=0, sources=[0, 2]))
        assert [p.words for p in drawn.photos] == ["input:2: the input's red"]
        assert {"near", "red"} <= set(drawn.texts)

    @pytest.mark.parametrize("shape", [(6, 12), (12, 6)])
    def test_pictures_keep_their_shape(self, shape):
        w = weights()
        drawn = Drawn(figures.small_multiples(w, both(w, h=shape[0], w=shape[1]), target=0))
        assert len(drawn.photos) == 5
        for photo in drawn.photos:
            assert photo.h / photo.w == pytest.approx(shape[0] / shape[1], rel=0.01)


PROVENANCE = Provenance("net", "ab" * 32, "1.0", (
    "2 ReLU6 read as the identity", "the skip path is left out", "the path around is noisy", "no InputSpec: unknown",
    "paths without parameters are left out of these weights", "the map of target position (3, 3), clipped",
))  # fmt: skip
GATES = (
    *[Replaced("ReLU6", f"m{k}", f"expected derivative, mean 0.{k}", "batch norm") for k in range(3)],
    Replaced("MaxPool2d", "pool", "average"),
)


def told(**more):
    """One of every figure of weights about which there is much to tell."""
    w = weights(o=6, i=8, norm="bn3", replaced=GATES, skip_included=False, provenance=PROVENANCE, **more)
    agreement = Agreement(
        np.array([0, 1, 2]),
        np.array([0.5, 0.82, np.nan]),
        np.zeros(3, np.int64),
        1,
        "in",
        "conv",
        provenance=PROVENANCE,
    )
    shown = [
        pictures("in", range(8), name="display", steps=64, dead=[2]),
        pictures("conv", range(6), name="quick", steps=8),
        pictures("conv", [9], name="quick", steps=16, dead=[9]),
    ]
    both_ends = dict(images=shown, agreement=agreement)
    places = pictures("in", range(len(figures.drawn_places(w, 1))), name="display", steps=64)
    return {
        "connection": figures.connection(w, **both_ends, source=3, target=1),
        "multiples": figures.small_multiples(w, **both_ends, target=1, k=3),
        "family": figures.family_grid(w, **both_ends, targets=[0, 1, 2], sources=[0, 1]),
        "expanded": figures.expanded(w, **both_ends, target=1),
        "card": figures.neuron_card(w, **both_ends, target=1),
        "positions": figures.spatial_positions(w, places, shown, target=1),
    }


def parts_of(caption):
    """What a caption says, part by part."""
    return [p.strip(" .").lower() for p in re.split(r"[;.] ", caption)]


class TestCaptions:
    @pytest.mark.parametrize("kind", list(told()))
    def test_what_must_be_told_is_told_once(self, kind):
        caption = told()[kind].caption
        parts = parts_of(caption)
        assert len(parts) == len(set(parts)), caption
        for words in (
            "batch norm bn3 is folded in",
            "3 relu6 read by their expected derivative (batch norm)",
            "1 maxpool2d read as an average",
            "the skip path is left out",
            "the path around is noisy",
            "2 of them came to nothing",
        ):
            assert parts.count(words) == 1, caption
        assert "(recipe display, 64 steps; quick, 8 to 16 steps)" in caption
        for words in ("InputSpec", "read as the identity", "target position", "without parameters"):
            assert words not in caption
        assert caption.endswith(".")
        assert "  " not in caption

    def test_agreement_of_the_units_that_are_shown(self):
        made = told()
        for kind in ("connection", "multiples", "expanded", "card"):
            assert "cosine 0.82 with the network's mean gradient on images" in made[kind].caption
        assert "cosine 0.66 with" in made["family"].caption  # the mean of those that have one
        assert "cosine" not in made["positions"].caption

    def test_agreement_that_is_unknown_is_not_told(self):
        w = weights()
        unknown = Agreement(np.arange(6), np.full(6, np.nan), np.zeros(6, np.int64), 1, "in", "conv")
        assert "cosine" not in figures.connection(w, source=0, target=0, agreement=unknown).caption

    def test_the_position_that_weights_are_seen_from(self):
        for kind, figure in told(at=(3, 5)).items():
            assert "seen from position (3, 5)" in figure.caption, kind
            assert not Drawn(figure).marks()

    @pytest.mark.parametrize("kind", list(told()))
    @pytest.mark.parametrize("width", [320, 1080])
    def test_captions_are_drawn_in_full(self, kind, width):
        figure = told()[kind]
        found = Drawn(figure, width).texts
        assert flat(figure.caption) in flat(found)
        assert "net · weights abababababab · weightatlas 1.0" in " ".join(found)

    def test_gates_and_notes_of_factors_and_paths(self):
        f = directions(provenance=PROVENANCE)
        paths = planted_paths(replaced=GATES, provenance=PROVENANCE)
        images = pictures("in", range(3), steps=7)
        made = [
            figures.weight_factors(f, images),
            figures.factor_equation(f, images),
            figures.cancellation(paths, images, target=0, source=0),
        ]
        for figure in made:
            parts = parts_of(figure.caption)
            assert len(parts) == len(set(parts))
            assert parts.count("the path around is noisy") == 1
            assert "(recipe display, 7 steps)" in figure.caption
        assert "3 ReLU6 read by their expected derivative (batch norm); 1 MaxPool2d" in made[2].caption
        assert "2 ReLU6 read as the identity" in made[0].caption  # factors know of gates only by notes
        assert "read as the identity" not in made[2].caption

    @pytest.mark.parametrize(
        ("share", "words"),
        [
            (0, "0%"),
            (1, "100%"),
            (0.0994, "9.9%"),
            (0.0996, "10%"),
            (0.0123, "1.2%"),
            (0.00012, "0.01%"),
            (-0.2, "−20%"),
        ],
    )
    def test_shares_as_percent(self, share, words):
        assert wording.percent(share) == words


@functools.cache
def every(name="", **more):
    """One of each figure with all it can show, about layers of that name."""
    source, middle, target, later = (name or n for n in ("in", "mid", "conv", "next"))
    provenance = Provenance(name or "net", notes=(f"note on {name or 'net'}",))
    fields = dict(source=source, target=target, replaced=(Replaced("ReLU6", name, "identity"),), provenance=provenance)
    w = weights(o=6, i=14, origin=(-1, 0), norm=name, **fields)
    one = weights(o=1, i=14, seed=3, **fields)
    out = weights(o=7, i=6, source=target, target=later, seed=9)
    f = directions(i=14, source=source, target=target, provenance=provenance)
    own = directions(o=1, i=14, source=source, target=target, explained=0.9, provenance=provenance)
    paths = planted_paths(m=9, outer=(2, 2), source=source, middle=middle, target=target, provenance=provenance)
    shown = [pictures(n, range(14), dead=[3]) for n in dict.fromkeys((source, middle, target, later))]
    made, places = pictures(source, range(3), of="factors"), pictures(source, range(9), of="positions")
    p = more
    return {
        "connection": figures.connection(w, shown, source=11, target=2, **p),
        "multiples": figures.small_multiples(w, shown, target=5, k=12, **p),
        "both signs": figures.small_multiples(w, shown, target=0, k=5, by="both", **p),
        "bare": figures.small_multiples(w, target=1, k=4, **p),
        "family": figures.family_grid(w, shown, targets=range(5), sources=range(13), order="similarity", **p),
        "factors": figures.weight_factors(f, made, shown, **p),
        "equation": figures.factor_equation(f, made, shown, k=6),
        "positions": figures.spatial_positions(one, places, shown, target=0),
        "expanded": figures.expanded(one, shown, own, made, target=0, k=12, **p),
        "ungrouped": figures.expanded(w, shown, target=4, k=7, **p),
        "cancellation": figures.cancellation(paths, shown, target=1, source=2, k=5, **p),
        "card": figures.neuron_card(
            one, shown, out, own, made, places, dataclasses.replace(LAYER, name=target), target=0, **p
        ),
    }


NAMES = list(every())
WITH_PALETTE = [n for n in NAMES if n not in ("equation", "positions")]


class TestLayout:
    @pytest.mark.parametrize("kind", NAMES)
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("name", ["", "features.denseblock3.denselayer24.a_rather_long_name.conv2"])
    def test_nothing_leaves_the_picture_or_lies_on_something_else(self, kind, width, name):
        drawn = Drawn(every(name)[kind], width)
        height = float(drawn.root.get("height"))
        assert float(drawn.root.get("width")) == width
        for node in drawn.root.iter(f"{SVG}rect"):
            left, top, wide, high = (float(node.get(k, 0)) for k in ("x", "y", "width", "height"))
            assert -0.01 <= left <= left + wide <= width + 0.01, node.attrib
            assert -0.01 <= top <= top + high <= height + 0.01, node.attrib
        for node in drawn.root.iter(f"{SVG}polygon"):
            assert all(0 <= float(c.split(",")[0]) <= width for c in node.get("points").split())
        found = [(p.x, p.y, p.x + p.w, p.y + p.h, p.words) for p in drawn.maps + drawn.photos + drawn.scales]
        for left, top, right, bottom, words in found:
            assert 15 <= left <= right <= width - 15, words
            assert 0 < top <= bottom < height, words
        lines = list(drawn.lines())
        for left, top, right, bottom, words in lines:
            assert 0 <= left <= right <= width, words
            assert 0 < top <= bottom <= height, words
        found += lines
        for i, (l1, t1, r1, b1, one) in enumerate(found):
            for l2, t2, r2, b2, two in found[:i]:
                apart = r1 <= l2 + 0.01 or r2 <= l1 + 0.01 or b1 <= t2 + 0.01 or b2 <= t1 + 0.01
                assert apart, (one, two)

    @pytest.mark.parametrize("kind", NAMES)
    def test_every_width_shows_the_same_maps_and_pictures(self, kind):
        figure, words = every()[kind], operator.attrgetter("words")
        wide = Drawn(figure, 1080)
        for width in WIDTHS[:-1]:
            drawn = Drawn(figure, width)
            one, other = [drawn.maps, drawn.photos], [wide.maps, wide.photos]
            if kind in ("family", "factors"):  # bands of columns where it is narrow, rows headed in each of them
                one, other = [sorted(drawn.maps, key=words), []], [sorted(wide.maps, key=words), []]
                assert {p.words for p in drawn.photos} == {p.words for p in wide.photos}
            for a, b in zip(itertools.chain(*one), itertools.chain(*other), strict=True):
                assert a.words == b.words
                assert np.array_equal(a.pixels, b.pixels)

    @pytest.mark.parametrize("width", WIDTHS)
    def test_maps_keep_the_shape_of_their_squares(self, width):
        for kind, figure in every().items():
            for square in Drawn(figure, width).maps:
                h, w = square.pixels.shape[:2]
                assert square.w / w == pytest.approx(square.h / h, abs=0.01), kind
                assert square.w / w >= 3, kind

    @pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (7, 1), (1, 60), (3, 5), (21, 21)])
    @pytest.mark.parametrize("width", [320, 1080])
    def test_maps_of_all_sizes(self, h, w, width):
        wts = weights(o=2, i=3, h=h, w=w, values=np.sign(np.random.default_rng(0).normal(size=(2, 3, h, w))))
        for figure in (
            figures.connection(wts, source=0, target=0),
            figures.small_multiples(wts, target=0),
            figures.family_grid(wts, targets=[0, 1], sources=[0, 1]),
            figures.expanded(wts, target=0),
            figures.neuron_card(wts, target=0),
        ):
            drawn = Drawn(figure, width)
            assert drawn.maps
            for square in drawn.maps:
                assert square.pixels.shape == (h, w, 3)
                assert min(square.w, square.h) >= 6
                assert square.x + square.w <= width - 15

    @pytest.mark.parametrize("size", [15, 31])
    @pytest.mark.parametrize("width", WIDTHS)
    def test_many_positions_stay_in_the_picture(self, size, width):
        w = weights(o=1, i=3, h=size, w=size)
        spots = figures.drawn_places(w, 0)[:4]
        drawn = Drawn(figures.spatial_positions(w, pictures("in", range(4)), target=0, places=spots), width)
        assert len(drawn.photos) >= size * size
        assert max(p.x + p.w for p in drawn.photos) <= width - 15

    def test_long_facts_stay_in_the_picture(self):
        field = ReceptiveField((1234.0, 1234.0), (32.0, 32.0), (0.0, 0.0))
        w = weights(o=1, i=1200, h=1, w=1)
        figure = figures.neuron_card(w, layer=dataclasses.replace(LAYER, receptive_field=field), target=0, k=1)
        for width in WIDTHS:
            for left, _, right, _, words in Drawn(figure, width).lines():
                assert 0 <= left <= right <= width, words


@pytest.mark.parametrize("kind", NAMES)
def test_the_png_shows_the_same_squares(kind):
    figure = every()[kind]
    drawn = Drawn(figure, 720)
    png = np.asarray(Image.open(io.BytesIO(figure.png(width=720, scale=2))).convert("RGB")).astype(int)
    assert png.shape[1] == 1440
    for square in drawn.maps:
        h, w = square.pixels.shape[:2]
        for r, c in np.ndindex(h, w):
            x, y = square.x + (c + 0.5) * square.w / w, square.y + (r + 0.5) * square.h / h
            assert abs(png[int(2 * y), int(2 * x)] - square.pixels[r, c]).max() <= 2
    for photo in drawn.photos:
        x, y = photo.middle
        expected = photo.pixels[photo.pixels.shape[0] // 2, photo.pixels.shape[1] // 2]
        assert abs(png[int(2 * y), int(2 * x)] - expected).max() <= 6, photo.words
    assert drawn.maps or drawn.photos


@pytest.mark.parametrize("kind", WITH_PALETTE)
def test_the_palette_changes_colours_and_nothing_else(kind):
    classic, other = Drawn(every()[kind]), Drawn(every(palette="colorblind")[kind])
    assert len(classic.maps) == len(other.maps) > 0
    changed = 0
    for one, two in zip(classic.maps, other.maps, strict=True):
        assert (one.x, one.y, one.w, one.h, one.words) == (two.x, two.y, two.w, two.h, two.words)
        changed += not np.array_equal(one.pixels, two.pixels)
    assert changed == len(classic.maps)
    assert [p.words for p in classic.photos] == [p.words for p in other.photos]
    assert "red excites, blue inhibits" in every()[kind].caption
    assert "orange excites, blue inhibits" in every(palette="colorblind")[kind].caption
    for ramp in other.scales:
        assert_colours(ramp.pixels, np.linspace(-1, 1, 65)[None], 1.0, "colorblind")


@pytest.mark.parametrize("kind", NAMES)
def test_light_and_dark_hold_the_same(kind):
    figure = every()[kind]
    looks = [Drawn(figure, 390, look) for look in ("light", "dark", "auto")]
    assert looks[0].texts == looks[1].texts == looks[2].texts
    for one in looks[1:]:
        for a, b in zip(looks[0].maps, one.maps, strict=True):
            assert np.array_equal(a.pixels, b.pixels)
    for look in ("light", "dark"):
        assert theme.INKS[look]["ground"] in figure.svg(390, look)


@pytest.mark.parametrize("kind", NAMES)
def test_text_alternatives(kind):
    figure = every()[kind]
    root = parse(figure, 390)
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"{figure.title}. {figure.alt}"
    assert root.find(f"{SVG}title").text == figure.title
    assert root.find(f"{SVG}desc").text == figure.alt
    for node in root.iter(f"{SVG}image"):
        assert len(node.find(f"{SVG}title").text) > 5
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(root.itertext()))
    assert figure.svg() == every.__wrapped__()[kind].svg()


class Tags(HTMLParser):
    """The tags of a page; none has a script of its own."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not [k for k, _ in attrs if k.startswith("on")]
        assert not [v for k, v in attrs if k == "href" and not v.startswith(("data:image/", "#wa-"))]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text_and_nothing_else(name):
    drawing = {"svg", "title", "desc", "style", "rect", "text", "polygon", "image", "g"}
    for kind, figure in every(name).items():
        root = parse(figure, 390)
        assert {n.tag.removeprefix(SVG) for n in root.iter()} <= drawing, kind
        assert figures.visible(name).strip() in " ".join(root.itertext()).replace("\n", " "), kind
        page, html = Tags(), figure.html()
        page.feed(html)
        assert page.seen <= drawing | {"div", "figure", "figcaption", "small", "use", "symbol"}, kind
        assert "<script" not in html
