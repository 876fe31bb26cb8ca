"""Figures of single connections: the maps, scale and shares drawn are those of the records."""

import dataclasses

import numpy as np
import pytest
from planted import SVG, flat, images, parse, rgb_weights, texts, tiles, weights

import weightatlas as wa
from weightatlas.errors import ArgumentError, WeightValuesError
from weightatlas.figures import cards, theme, wording
from weightatlas.records import Provenance, Replaced


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
        w = dataclasses.replace(w, skip_values=np.ones((8, 1, 3, 3), np.float32), skip_first=np.zeros(8, np.int64))
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

    def test_notes_that_the_fields_tell_are_not_said_twice(self):
        told = ("2 ReLU6 read as the identity", "the map of target position (3, 3), clipped to the source grid")
        w = weights(replaced=(Replaced("ReLU6", "a", "identity"),) * 2, provenance=Provenance("net", notes=told))
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
        assert wording.read_as(both) == [words]

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


class TestLargeMaps:
    def smooth(self, size=41, spread=3.0, **more):
        at = np.arange(size) - size // 2
        bump = np.exp(-(at[:, None] ** 2 + at**2) / (2 * spread**2))
        values = bump * np.random.default_rng(0).normal(size=(2, 3, 1, 1))
        fields = dict(o=2, i=3, values=values, origin=(-(size // 2),) * 2)
        return weights(**(fields | more))

    def test_the_inner_part_that_holds_nearly_all_is_shown(self):
        w = self.smooth(spread=5.0)
        drawn = wa.figures.connections(w)
        top, left, high, wide = drawn.data["window"]
        assert (top, high) == (left, wide) == (20 - high // 2, high)
        maps = np.concatenate(drawn.data["maps"])
        assert maps.shape == (6, 41, 41)
        power = (maps.astype(float) ** 2).sum(axis=0)

        def held(margin):
            return power[margin : 41 - margin, margin : 41 - margin].sum() / power.sum()

        assert held(top) > 0.99 >= held(top + 1)
        assert 15 < high < 41
        shown = tiles(parse(drawn))
        expected = theme.diverging(maps, drawn.data["scale"])[:, top : top + high, left : left + wide]
        assert np.array_equal(shown, expected)
        assert f"reads in · inner {high} × {high} of 41 × 41 · 2 of 2 units" in texts(parse(drawn, 1280))
        assert f"less than 1% of these maps' squared weights lies outside the inner {high}" in drawn.caption.lower()
        for frame, ((x, y, side, _), _) in zip(marks(parse(drawn)), images(parse(drawn)), strict=True):
            assert (frame[0] + frame[2] / 2, frame[1] + frame[3] / 2) == pytest.approx(
                (x + side / 2, y + side / 2), abs=0.02
            )

    def test_a_few_squares_are_always_left(self):
        assert wa.figures.connections(self.smooth(spread=0.5)).data["window"] == (13, 13, 15, 15)
        long = weights(o=1, i=1, values=self.smooth(spread=0.5).values[:1, :1, 20:21])
        assert wa.figures.connections(long).data["window"] == (0, 13, 1, 15)

    @pytest.mark.parametrize("size", [9, 15])
    def test_small_ones_are_shown_whole(self, size):
        drawn = wa.figures.connections(self.smooth(size, spread=0.5))
        assert drawn.data["window"] == (0, 0, size, size)
        assert "outside" not in drawn.caption
        assert wa.figures.connections(weights(h=31, w=31)).data["window"] == (0, 0, 31, 31)  # noise fills them all

    def test_frames_of_small_squares_can_be_seen(self):
        for _, _, wide, high in marks(parse(wa.figures.connections(weights(h=60, w=60, origin=(-30, -30))), 300)):
            assert wide >= 3 - 0.76
            assert high >= 3 - 0.76


class TestSkipPath:
    def residual(self, **more):
        w = weights(o=4, i=4)
        skip = np.zeros((4, 1, 3, 3), np.float32)
        skip[:, 0, 1, 1] = 50
        values = w.values.copy()
        for u in range(4):
            values[u, u] += skip[u, 0]
        return w, dataclasses.replace(w, values=values, skip_values=skip, skip_first=np.arange(4), **more)

    def test_the_scale_is_that_of_the_weights_proper(self):
        bare, w = self.residual()
        drawn = wa.figures.connections(w, [2, 0])
        assert drawn.data["scale"] == pytest.approx(abs(bare.values[[2, 0]]).max(), rel=1e-5)
        largest = abs(w.values[[2, 0]]).max()
        assert f"the skip path, up to {largest:.0f}, is beyond the scale" in drawn.caption.lower()
        assert "one scale for the figure, the skip path beyond it" in texts(parse(drawn))
        assert np.array_equal(tiles(parse(drawn))[0][1, 1], theme.diverging(np.array(1.0), 1.0))

    def test_it_is_not_taken_off_twice(self):
        bare, w = self.residual(skip_included=False)
        w = dataclasses.replace(w, values=bare.values)
        drawn = wa.figures.connections(w)
        assert drawn.data["scale"] == abs(bare.values).max()
        assert drawn.caption.endswith("inhibits. The skip path is left out.")

    def test_an_identity_path_alone(self):
        _, w = self.residual()
        drawn = wa.figures.connections(dataclasses.replace(w, values=w.skip.values))
        assert drawn.data["scale"] == 50
        assert "beyond" not in drawn.caption


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


def test_a_trained_block(lite0):
    w = wa.direct_weights(lite0, "blocks.4.2")
    drawn = wa.figures.connections(w, [3, 12], k=10)
    assert drawn.data["shares"] == pytest.approx([w.top(u, 10).share for u in (3, 12)])
    assert "2 ReLU6 read by their expected derivative (batch norm); the skip path is left out." in drawn.caption
