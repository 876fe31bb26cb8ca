"""Contact sheets: every picture once, with its address and numbers, at every width, on light and dark."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from planted import HOSTILE, SVG, flat, parse, texts
from test_records_features import features

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.figures import layout, lettering, scene
from weightatlas.figures.layout import magnitude
from weightatlas.figures.sheets import MOST_SHOWN, contact_sheet, flat_colours
from weightatlas.records import Provenance

RECIPE = {"name": "display", "at": "mean", "steps": 32, "jitter": 4, "rotate": 0.0, "scale": 0.0}
WIDTHS = [240, 300, 320, 390, 560, 720, 1280, 4000]
FEW_WIDTHS = [240, 390, 1280, 4000]


def smooth(n, h, w, c=3, seed=0):
    """Pictures without hard edges, which survive a lossy file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w] / max(h, w)
    fields = (
        rng.uniform(0.5, 3, (n, 1, 1, c)) * y[None, ..., None] + rng.uniform(0.5, 3, (n, 1, 1, c)) * x[None, ..., None]
    )
    return np.rint(127.5 + 110 * np.sin(fields + rng.uniform(0, 6, (n, 1, 1, c)))).astype(np.uint8)


def sheet_of(n=4, h=24, w=24, c=3, *, seed=0, **more):
    names = {3: ("red", "green", "blue"), 1: ("grey",)}.get(c, tuple(f"band {i}" for i in range(c)))
    fields = dict(
        images=smooth(n, h, w, c, seed),
        channel_names=names,
        reached=np.linspace(2, 8, n).astype(np.float32),
        viewed=np.linspace(1, 6, n).astype(np.float32),
        alive=np.ones(n, bool),
        recipe=dict(RECIPE),
        provenance=Provenance("net", "ab" * 32, "1.0"),
    )
    return features(n, h, w, c, **(fields | more))


def photos(root):
    """(x, y, width, height) and RGBA pixels of every picture."""
    found = []
    for node in root.iter(f"{SVG}image"):
        data = base64.b64decode(node.get("href").removeprefix("data:image/webp;base64,"))
        place = [float(node.get(k)) for k in ("x", "y", "width", "height")]
        found.append((place, np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))))
    return found


def shrunk(pixels, h, w):
    """Pixels as the means of h × w cells."""
    return np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BOX)).astype(int)


def middle(pixels, share=0.15):
    """Without the edge, where corners are cut."""
    h, w = (int(n * share) for n in pixels.shape[:2])
    return pixels[h : -h or None, w : -w or None]


class TestTiles:
    @pytest.mark.parametrize(("h", "w"), [(24, 24), (48, 30), (112, 112)])
    def test_every_picture_is_there_in_its_place(self, h, w):
        made = sheet_of(5, h, w)
        found = photos(parse(contact_sheet(made)))
        assert len(found) == 5
        order = sorted(range(5), key=lambda i: (found[i][0][1], found[i][0][0]))
        assert order == list(range(5))  # rows from the left, from above
        for (place, pixels), image in zip(found, made.images, strict=True):
            assert place[3] / place[2] == pytest.approx(h / w, rel=0.01)
            error = abs(middle(shrunk(pixels[..., :3], h, w)) - middle(image.astype(int)))
            assert error.mean() < 4

    def test_pictures_do_not_overlap(self):
        for n in (1, 2, 7, 30, 61):
            boxes = [place for place, _ in photos(parse(contact_sheet(sheet_of(n, 8, 8))))]
            for i, (x, y, w, h) in enumerate(boxes):
                for x2, y2, w2, h2 in boxes[:i]:
                    assert x2 + w2 <= x or x + w <= x2 or y2 + h2 <= y or y + h <= y2

    def test_are_embedded_for_fine_screens(self):
        (place, pixels), *_ = photos(parse(contact_sheet(sheet_of(3, 24, 24))))
        assert pixels.shape[1] >= place[2]  # not blurred where it is shown
        (place, pixels), *_ = photos(parse(contact_sheet(sheet_of(3, 400, 400))))
        assert pixels.shape[1] == 400  # never made smaller

    def test_corners_are_round_and_nothing_else_is_cut(self):
        (_, pixels), *_ = photos(parse(contact_sheet(sheet_of(3, 40, 40))))
        alpha = pixels[..., 3]
        n = len(alpha)
        assert [alpha[y, x] for y in (0, -1) for x in (0, -1)] == [0, 0, 0, 0]
        y, x = np.mgrid[:n, :n] + 0.5
        radius = layout.RADIUS * n / scene.REFERENCE  # in proportion, whatever size it is shown at
        dy, dx = (np.maximum(radius - np.minimum(v, n - v), 0) for v in (y, x))
        distance = np.hypot(dy, dx)  # from the centre of the nearest corner's circle
        assert (alpha[distance < radius - 1.5] == 255).all()
        assert (alpha[distance > radius + 1.5] == 0).all()
        assert (distance > radius + 1.5).any()

    def test_addresses_and_numbers(self):
        made = sheet_of(
            4,
            reached=np.array([0.2468, 17.3, 123.4, 4e-7], np.float32),
            viewed=np.array([0.1234, 17.3, 0, 5e-7], np.float32),
        )
        words = texts(parse(contact_sheet(made)))
        assert [t for t in words if t.startswith("conv:")] == ["conv:1", "conv:4", "conv:7", "conv:10"]
        numbers = ["0.25 · 50%", "17 · 100%", "123 · 0%", "4e-07 · 125%"]
        assert [t for t in words if t in numbers] == numbers
        assert "4 pictures · 24 × 24 px" in words
        assert words[0] == "conv"

    def test_shares_that_mean_nothing_are_left_out(self):
        reached = np.array([-2, 0, 1, 1], np.float32)
        made = sheet_of(4, reached=reached, viewed=np.array([-1, 3, -0.5, 99], np.float32))
        words = texts(parse(contact_sheet(made)))
        for value in reached:
            assert magnitude(float(value)) in words
        assert "%" not in flat([w for w in words if w[-1:] == "%"])
        lost = sheet_of(2, reached=np.array([1, 1], np.float32), viewed=np.array([np.nan, np.inf], np.float32))
        assert not [w for w in texts(parse(contact_sheet(lost))) if "nan" in w or "inf" in w]

    def test_words_for_those_who_cannot_see(self):
        made = sheet_of(2, reached=np.array([2, 8], np.float32), viewed=np.array([1, 6], np.float32))
        drawn = contact_sheet(made)
        tips = [(n.get("aria-label"), n.find(f"{SVG}title").text) for n in parse(drawn).iter(f"{SVG}image")]
        assert tips == [(t, t) for t in ("conv:1, excited by 2 · 50%", "conv:4, excited by 8 · 75%")]
        assert drawn.alt == "2 pictures of what excites conv:1, conv:4."
        assert drawn.title == "Feature visualizations of conv"
        assert "conv:25 " not in contact_sheet(sheet_of(30, 8, 8)).alt  # the first eight are named
        assert contact_sheet(sheet_of(30, 8, 8)).alt.count("conv:") == 8

    def test_one_picture(self):
        drawn = contact_sheet(sheet_of(1))
        assert "1 picture · 24 × 24 px" in texts(parse(drawn))
        assert drawn.alt.startswith("1 picture of")

    def test_data(self):
        made = sheet_of(4, reached=np.array([2, 0, -4, 8], np.float32), viewed=np.array([1, 3, 2, 8], np.float32))
        data = contact_sheet(made).data
        assert np.array_equal(data["images"], made.images)
        assert data["reached"].tolist() == [2, 0, -4, 8]
        assert data["kept"].tolist() == [0.5, 3, -0.5, 1]
        assert data["units"].tolist() == [1, 4, 7, 10]


class TestDeadOnes:
    def test_are_an_empty_frame_that_says_so(self):
        made = sheet_of(4, alive=np.array([True, False, True, False]))
        drawn = contact_sheet(made)
        root = parse(drawn)
        found = photos(root)
        assert len(found) == 2
        for (_, pixels), image in zip(found, made.images[[0, 2]], strict=True):
            assert abs(middle(shrunk(pixels[..., :3], 24, 24)) - middle(image.astype(int))).mean() < 4
        words = texts(root)
        assert words.count("no result") == 2
        assert [t for t in words if t.startswith("conv:")] == ["conv:1", "conv:4", "conv:7", "conv:10"]
        assert len([t for t in words if re.fullmatch(r"[\d.]+ · \d+%", t)]) == 2  # no numbers under what is not there
        frames = [n for n in root.iter(f"{SVG}rect") if n.get("rx") == str(layout.RADIUS)]
        assert [n.get("fill") for n in frames] == ["none", "none"]
        assert float(frames[0].get("x")) == pytest.approx(found[0][0][0] + found[0][0][2] + layout.GAP + 0.5, abs=0.02)
        assert float(frames[0].get("y")) == pytest.approx(found[0][0][1] + 0.5, abs=0.02)
        assert float(frames[0].get("width")) == pytest.approx(found[0][0][2] - 1, abs=0.02)
        tips = [n.text for n in root.iter(f"{SVG}title")]
        assert "conv:4: no picture excites it" in tips
        assert drawn.alt.endswith(" 2 without a result.")

    def test_all_of_them(self):
        root = parse(contact_sheet(sheet_of(3, alive=np.zeros(3, bool))))
        assert photos(root) == []
        assert texts(root).count("no result") == 3

    @pytest.mark.parametrize("width", [240, 4000])
    def test_their_words_fit_their_frame(self, width):
        root = parse(contact_sheet(sheet_of(60, 24, 12, alive=np.zeros(60, bool))), width)
        frame = next(n for n in root.iter(f"{SVG}rect") if n.get("rx"))
        word = next(n for n in root.iter(f"{SVG}text") if n.text == "no result")
        assert lettering.text_width("no result", float(word.get("font-size"))) <= float(frame.get("width"))


class TestCaption:
    def said(self, **recipe):
        made = sheet_of(recipe=RECIPE | recipe)
        drawn = contact_sheet(made)
        assert flat(drawn.caption) in flat(texts(parse(drawn)))
        return drawn.caption

    def test_of_shifted_pictures(self):
        assert self.said() == (
            "Each picture was made from noise to excite conv's units (the mean over all positions) in 32 steps. Under "
            "it: how strongly it does, and how much of it is left on average when it is shifted by up to 4 px."
        )

    def test_of_turned_ones(self):
        assert self.said(at="centre", rotate=15, scale=0.2, jitter=16, steps=64) == (
            "Each picture was made from noise to excite conv's units (the centre position) in 64 steps. Under it: how "
            "strongly it does, and how much of it is left on average when it is shifted by up to 16 px, turned by ±15°, "
            "scaled by ±20%."
        )

    def test_of_plain_ones(self):
        assert self.said(at="peaks", jitter=0).endswith(
            "conv's units (the peaks over all positions) in 32 steps. Under it: how strongly it does."
        )
        assert self.said(rotate=7.5, jitter=0).endswith("on average when it is turned by ±7.5°.")

    def test_of_objectives(self):
        drawn = contact_sheet(sheet_of(2, labels=("a − b", "c"), units=np.zeros(0, np.int64)))
        assert "to excite what is written under it in 32 steps" in drawn.caption
        assert "the mean over" not in drawn.caption

    def test_notes_and_source(self):
        notes = ("rendered 2 at a time", "no InputSpec: guessed")
        drawn = contact_sheet(sheet_of(provenance=Provenance("net", "ab" * 32, "1.0", notes)))
        assert drawn.caption.endswith("shifted by up to 4 px. Rendered 2 at a time.")
        assert "net · weights abababababab · weightatlas 1.0" in texts(parse(drawn))

    def test_other_channels(self):
        assert contact_sheet(sheet_of(c=5)).caption.endswith(
            " Channels side by side: band 0, band 1, band 2, band 3, band 4."
        )
        assert "Channels" not in contact_sheet(sheet_of(c=1)).caption


class TestChannels:
    @pytest.mark.parametrize("c", [1, 2, 5])
    def test_that_are_no_colours_go_side_by_side_in_grey(self, c):
        made = sheet_of(2, 20, 16, c)
        place, pixels = photos(parse(contact_sheet(made)))[0]
        expected = np.concatenate([made.images[0][..., k] for k in range(c)], axis=1)
        assert place[3] / place[2] == pytest.approx(20 / (16 * c), rel=0.01)
        got = shrunk(pixels[..., :3], 20, 16 * c)
        assert np.ptp(got, axis=2).max() < 6
        inner = abs(got.mean(2) - expected)[4:-4, 4:-4]
        assert np.median(inner) < 5
        assert inner.mean() < 8

    def test_by_hand(self):
        image = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
        expected = [[0, 2, 4, 1, 3, 5], [6, 8, 10, 7, 9, 11]]
        assert flat_colours(image).tolist() == [[[v] * 3 for v in row] for row in expected]
        rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
        assert np.array_equal(flat_colours(rgb), rgb)

    def test_three_that_are_no_colours(self):
        drawn = contact_sheet(sheet_of(2, channel_names=("depth", "heat", "height")))
        assert "depth, heat, height" in drawn.caption


class TestChoosing:
    def test_units_in_their_order(self):
        made = sheet_of(6)
        drawn = contact_sheet(made, [10, 1, 16])
        assert [t for t in texts(parse(drawn)) if t.startswith("conv:")] == ["conv:10", "conv:1", "conv:16"]
        assert np.array_equal(drawn.data["images"], made.images[[3, 0, 5]])
        assert drawn.data["units"].tolist() == [10, 1, 16]
        assert "3 pictures" in drawn.alt
        assert contact_sheet(made, np.array([4])).data["units"].tolist() == [4]

    @pytest.mark.parametrize("units", [[2], [0, 1], [-1], [99], [], 4, "1", [1.0], [True]])
    def test_units_that_are_not_there(self, units):
        with pytest.raises(ArgumentError):
            contact_sheet(sheet_of(6), units)

    @pytest.mark.parametrize("units", [[0], [], 3])
    def test_pictures_that_are_of_no_units(self, units):
        with pytest.raises(ArgumentError):
            contact_sheet(sheet_of(units=np.zeros(0, np.int64)), units)

    def test_too_many_and_none(self):
        many = sheet_of(MOST_SHOWN + 1, 4, 4)
        with pytest.raises(
            ArgumentError, match=r"a sheet shows 1 … 400 pictures, 401 came in; choose some with units="
        ):
            contact_sheet(many)
        assert len(contact_sheet(many, many.units[:3]).data["units"]) == 3
        with pytest.raises(ArgumentError, match="0 came in"):
            contact_sheet(sheet_of().select([]))

    def test_as_many_as_there_may_be(self):
        drawn = contact_sheet(sheet_of(MOST_SHOWN, 4, 4, images=np.zeros((MOST_SHOWN, 4, 4, 3), np.uint8)))
        assert len(photos(parse(drawn))) == MOST_SHOWN


def parts(words):
    """The kinds of elements and of attributes in a drawing, as a browser reads it."""

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.attributes = [], set()

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)
            self.attributes |= {name for name, _ in attrs}

    reader = Reader()
    reader.feed(words)
    return reader.tags, reader.attributes


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_text_only(name):
    made = sheet_of(
        2,
        layer=name,
        labels=(f"{name}:1", f"{name}:4"),
        alive=np.array([True, False]),
        c=2,
        channel_names=(name, "b"),
        recipe={"name": name, **RECIPE},
        provenance=Provenance(name, "ab" * 32, "1.0", (f"note on {name}",)),
    )
    drawn = contact_sheet(made)
    plain = contact_sheet(sheet_of(2, alive=np.array([True, False]), c=2))
    for words, usual in (
        (drawn.svg(), plain.svg()),
        (drawn.svg(240, "dark"), plain.svg(240)),
        (drawn.html(), plain.html()),
    ):
        tags, attributes = parts(words)
        assert set(tags) == set(parts(usual)[0])
        assert attributes == parts(usual)[1]
        assert not {"\x1b", "\x00", "\x07", "\u202e"} & set(words)
    ET.fromstring(drawn.svg(300))
    assert lettering.visible(name).split()[0][:8] in "".join(texts(parse(drawn)))
    drawn.png(1, width=300)


def extent(node):
    """Left and right edge of an element in pixels."""
    if node.tag == f"{SVG}text":
        mono = "wa-m" in node.get("class")
        long = lettering.text_width("".join(node.itertext()), float(node.get("font-size")), mono=mono)
        x = float(node.get("x"))
        left = {"start": x, "middle": x - long / 2, "end": x - long}[node.get("text-anchor", "start")]
        return left, left + long
    return float(node.get("x", 0)), float(node.get("x", 0)) + float(node.get("width"))


def placed(root):
    drawn = (f"{SVG}text", f"{SVG}rect", f"{SVG}image")
    return [node for node in root.iter() if node.tag in drawn]


def bottom(node):
    return float(node.get("y", 0)) + float(node.get("height", 0))


SHEETS = {
    "one": dict(n=1),
    "few": dict(n=4),
    "many": dict(n=61),
    "hundreds": dict(n=150),
    "wide": dict(n=5, h=8, w=40),
    "long numbers": dict(
        n=60,
        reached=np.full(60, -123456.7, np.float32) * np.where(np.arange(60) % 2, 1, -1),
        viewed=np.full(60, 9.9e5, np.float32),
    ),
    "tiny numbers": dict(n=60, reached=np.full(60, 1.2e-5, np.float32), viewed=np.full(60, 1.3e-5, np.float32)),
    "peaks": dict(n=60, labels=tuple(f"conv_stem:{i} at its peaks" for i in range(60))),
    "dead": dict(n=9, alive=np.arange(9) % 2 == 0),
    "bands": dict(n=9, c=6),
    "long layer": dict(n=9, layer="very.long." * 20, labels=tuple(f"{'very.long.' * 20}:{i}" for i in range(9))),
}


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        (k, w)
        for k in SHEETS
        for w in ((240, 1280) if k == "hundreds" else WIDTHS if k in ("few", "dead") else FEW_WIDTHS)
    ],
)
def test_nothing_goes_beyond_the_edges_or_over_its_neighbour(kind, width):
    more = dict(SHEETS[kind])
    made = sheet_of(more.pop("n"), more.pop("h", 4), more.pop("w", 4), more.pop("c", 3), **more)
    root = parse(contact_sheet(made), width)
    high = float(root.get("height"))
    for node in placed(root):
        left, right = extent(node)
        assert left >= -0.01, (node.tag, node.text)
        assert right <= width + 0.01, (node.tag, node.text)
        assert bottom(node) <= high + 0.01
    rows = {}
    for node in root.iter(f"{SVG}text"):
        if node.get("text-anchor") == "middle":
            rows.setdefault(node.get("y"), []).append((*extent(node), node.text))
    for row in rows.values():
        for (_, right, a), (left, _, b) in zip(sorted(row), sorted(row)[1:], strict=False):
            assert right <= left, (a, b)


OBJECTIVES = (
    "blocks.4.1:3 − 2 · blocks.4.1:17 at the centre",
    "diversity in blocks.4.1 + 0.5 · blocks.4.1, direction 3",
)


@pytest.mark.parametrize("width", [240, 390, 720])
def test_labels_of_objectives_stay_within_their_tiles_and_say_what_they_are(width):
    labels = OBJECTIVES * 6
    made = sheet_of(12, labels=labels, units=np.zeros(0, np.int64))
    root = parse(contact_sheet(made), width)
    for node in placed(root):
        left, right = extent(node)
        assert left >= -0.01, node.text
        assert right <= width + 0.01, node.text
    assert "17 at the centre" not in texts(root)


class TestFiles:
    def test_light_and_dark_differ_in_ground_and_ink_only(self):
        drawn = contact_sheet(sheet_of(3, alive=np.array([True, True, False])))
        light, dark, auto = (drawn.svg(720, look) for look in ("light", "dark", "auto"))
        without = [re.sub(r"<style>.*?</style>", "", words) for words in (light, dark, auto)]
        assert without[0] == without[1] == without[2]
        assert len({light, dark, auto}) == 3
        ground = [
            np.asarray(Image.open(io.BytesIO(drawn.png(1, width=400, theme=look))).convert("RGB"))[2, 2]
            for look in ("light", "dark")
        ]
        assert ground[0].min() > 200
        assert ground[1].max() < 60

    @pytest.mark.parametrize("look", ["light", "dark"])
    def test_a_png_shows_the_pictures(self, look):
        made = sheet_of(4, 40, 40)
        drawn = contact_sheet(made)
        with Image.open(io.BytesIO(drawn.png(2, width=500, theme=look))) as opened:
            whole = np.asarray(opened.convert("RGB"))
        for (place, _), image in zip(photos(parse(drawn, 500)), made.images, strict=True):
            x, y, w, h = (round(2 * v) for v in place)
            got = middle(shrunk(whole[y : y + h, x : x + w], 40, 40))
            assert abs(got - middle(image.astype(int))).mean() < 5
            corner = whole[y, x].astype(int)  # shows the ground
            assert abs(corner - whole[2, 2]).max() < 8

    def test_the_same_bytes_every_time(self):
        first, second = (contact_sheet(sheet_of(3, alive=np.array([True, True, False]))) for _ in range(2))
        assert first.svg(500) == second.svg(500)
        assert first.html() == second.html()
        assert first.png(1, width=300) == second.png(1, width=300)

    def test_html_holds_every_breakpoint(self):
        words = contact_sheet(sheet_of(2)).html()
        assert words.count("<svg xmlns") == len(wa.figures.figure.BREAKPOINTS)
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", words)  # nothing is loaded
        used = re.findall(r"href=\"#([^\"]+)", words)
        assert set(used) <= set(re.findall(r" id=\"([^\"]+)", words))
        assert len(used) + words.count("<image") - len(set(used)) == 2 * words.count("<svg xmlns")

    def test_saved_files(self, tmp_path):
        drawn = contact_sheet(sheet_of(2))
        for suffix in (".svg", ".png", ".html"):
            assert drawn.save(tmp_path / f"s{suffix}").stat().st_size > 500
        ET.parse(tmp_path / "s.svg")
        with Image.open(tmp_path / "s.png") as opened:
            assert opened.width == 1440
