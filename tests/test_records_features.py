"""Feature images as a record: its checks, what it selects, and that files hold all of it."""

import dataclasses
import json

import numpy as np
import pytest
from planted import ODD, PROVENANCE

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.records import FeatureImages, Weights

SUFFIXES = (".npz", ".safetensors")
RECIPE = {"name": "display", "side": None, "rate": 0.1 + 0.2, "alpha": True, "steps": 3, "at": "mean", "odd": ODD}


def features(n=4, h=5, w=6, c=3, *, seed=0, **more):
    rng = np.random.default_rng(seed)
    fields = dict(
        images=rng.integers(0, 256, (n, h, w, c), dtype=np.uint8),
        labels=tuple(f"conv:{3 * i + 1}" for i in range(n)),
        layer="conv",
        units=np.arange(n) * 3 + 1,
        reached=rng.normal(size=n).astype(np.float32),
        viewed=rng.normal(size=n).astype(np.float32),
        begun=rng.normal(size=n).astype(np.float32),
        alive=np.arange(n) != 2,
        seeds=rng.integers(0, 2**56, n),
        tries=np.arange(n) % 3 + 1,
        recipe=dict(RECIPE),
        provenance=PROVENANCE,
    )
    return FeatureImages(**(fields | more))


def same(a, b):
    assert type(a) is type(b)
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert isinstance(y, np.ndarray)
            assert (x.dtype, x.shape) == (y.dtype, y.shape), field.name
            assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), field.name
        else:
            assert (type(x), x) == (type(y), y), field.name


class TestChecks:
    def test_images_are_bytes_with_four_axes(self):
        good = features().images
        for wrong in (good.astype(np.float32), good.astype(np.int64), good[0], good[..., 0], good[None]):
            with pytest.raises(ArgumentError, match=r"are not uint8 \[N, H, W, C\]"):
                features(images=wrong)

    @pytest.mark.parametrize("name", ["labels", "reached", "viewed", "begun", "alive", "seeds", "tries", "units"])
    def test_every_field_is_of_as_many_pictures(self, name):
        whole = getattr(features(), name)
        for wrong in (whole[:-1], whole[:1], tuple(whole) + tuple(whole)):
            with pytest.raises(ArgumentError, match=f"4 images came with {len(wrong)} {name}"):
                features(**{name: wrong})

    def test_transparency_too(self):
        assert len(features(alpha=np.zeros((4, 5, 6), np.uint8)).alpha) == 4
        with pytest.raises(ArgumentError, match="alpha"):
            features(alpha=np.zeros((3, 5, 6), np.uint8))
        with pytest.raises(ArgumentError, match="alpha"):
            features(alpha=np.zeros((4, 5, 7), np.uint8))

    def test_channels_have_as_many_names(self):
        assert features(c=1, channel_names=("grey",)).channel_names == ("grey",)
        with pytest.raises(ArgumentError, match="channel"):
            features(c=5)
        with pytest.raises(ArgumentError, match="channel"):
            features(channel_names=("red", "green"))

    def test_units_may_be_none(self):
        assert len(features(units=np.zeros(0, np.int64))) == 4

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            features().layer = "other"


class TestPictures:
    def test_length(self):
        assert [len(features(n)) for n in (0, 1, 4)] == [0, 1, 4]

    def test_a_picture_by_unit(self):
        made = features()
        for row, unit in enumerate((1, 4, 7, 10)):
            assert np.array_equal(made.image(unit), made.images[row])
        assert np.array_equal(made.image(np.int64(7)), made.images[2])
        assert made.image(1).shape == (5, 6, 3)

    def test_a_unit_that_is_not_there(self):
        for unit in (0, 2, -1, 11):
            with pytest.raises(UnknownNameError, match=f"no picture of unit {unit} of 'conv'; there are: 1, 4, 7, 10"):
                features().image(unit)
        with pytest.raises(UnknownNameError, match="none by number"):
            features(units=np.zeros(0, np.int64)).image(0)

    @pytest.mark.parametrize("rows", [[2], [3, 0], (1, 1, 2), [], range(1, 4), np.array([2, 0])], ids=str)
    def test_some_of_them(self, rows):
        alpha = np.random.default_rng(1).integers(0, 256, (4, 5, 6), dtype=np.uint8)
        made = features(alpha=alpha)
        some, kept = made.select(rows), list(rows)
        assert len(some) == len(kept)
        for name in ("images", "units", "reached", "viewed", "begun", "alive", "seeds", "tries", "alpha"):
            assert [v.tolist() for v in getattr(some, name)] == [getattr(made, name)[r].tolist() for r in kept]
            assert getattr(some, name).dtype == getattr(made, name).dtype
        assert some.labels == tuple(made.labels[r] for r in kept)
        for name in ("layer", "recipe", "channel_names", "provenance"):
            assert getattr(some, name) == getattr(made, name)

    def test_some_of_pictures_without_units_and_transparency(self):
        some = features(units=np.zeros(0, np.int64)).select([1, 3])
        assert (len(some.units), some.alpha.shape, some.labels) == (0, (0, 0, 0), ("conv:4", "conv:10"))

    @pytest.mark.parametrize("rows", [[4], [-1], [0, 99]])
    def test_places_that_are_none(self, rows):
        wrong = next(r for r in rows if not 0 <= r < 4)
        with pytest.raises(UnknownNameError, match=f"no picture {wrong}; there are 0 … 3"):
            features().select(rows)

    def test_says_what_it_is(self):
        assert repr(features()) == "FeatureImages(conv: 4 pictures of 5 × 6, recipe display, 1 without a result)"
        assert (
            repr(features(alive=np.ones(4, bool), recipe={})) == "FeatureImages(conv: 4 pictures of 5 × 6, recipe own)"
        )
        assert repr(features(3, alive=np.zeros(3, bool))).endswith(", 3 without a result)")

    def test_one_picture_is_not_many(self):
        assert "1 picture of" in repr(features(1))


@pytest.mark.parametrize("suffix", SUFFIXES)
class TestFiles:
    def test_hold_everything(self, tmp_path, suffix):
        alpha = np.random.default_rng(1).integers(0, 256, (4, 5, 6), dtype=np.uint8)
        reached = np.array([np.nan, np.inf, -0.0, 1e-45], np.float32)
        for i, made in enumerate(
            [
                features(),
                features(alpha=alpha, reached=reached, labels=("a", ODD, "", "−a:1 · 2"), layer=ODD),
                features(c=5, channel_names=("a", "b", ODD, "d", "e")),
                features(1, c=1, channel_names=("grey",)),
                features(0),
                features(units=np.zeros(0, np.int64), recipe={}),
            ]
        ):
            path = made.save(tmp_path / f"f{i}{suffix}")
            same(FeatureImages.load(path), made)

    def test_hold_a_recipe_that_can_be_used_again(self, tmp_path, suffix):
        recipe = fv.Recipe("mine", rate=0.1 + 0.2, alpha=True, canvas="maco", at="peaks")
        made = FeatureImages.load(features(recipe=recipe.to_dict()).save(tmp_path / f"f{suffix}"))
        assert fv.Recipe(**made.recipe) == recipe

    def test_of_a_rendering(self, tmp_path, suffix):
        from torch import nn

        net = wa.load(nn.Sequential(nn.Conv2d(3, 4, 3)), input=wa.InputSpec(shape=(3, 12, 12)))
        made = wa.visualize(net, "0", units=[2, 0], recipe=fv.Recipe(side=8, steps=2))
        again = FeatureImages.load(made.save(tmp_path / f"f{suffix}"))
        same(again, made)
        assert again.units.tolist() == [2, 0]

    def test_of_selected_pictures(self, tmp_path, suffix):
        made = features().select([3, 1])
        same(FeatureImages.load(made.save(tmp_path / f"f{suffix}")), made)

    def test_truncated_anywhere(self, tmp_path, suffix):
        path = features().save(tmp_path / f"f{suffix}")
        whole = path.read_bytes()
        for size in np.linspace(0, len(whole) - 1, 17).astype(int):
            path.write_bytes(whole[:size])
            with pytest.raises(LoadError, match=r"not a record|damaged|complete"):
                FeatureImages.load(path)

    def test_missing_and_of_another_kind(self, tmp_path, suffix):
        with pytest.raises(LoadError, match="there is no file"):
            FeatureImages.load(tmp_path / f"gone{suffix}")
        path = features().save(tmp_path / f"f{suffix}")
        with pytest.raises(LoadError, match=r"holds FeatureImages, not Weights; use FeatureImages\.load"):
            Weights.load(path)

    def test_another_ending(self, tmp_path, suffix):
        with pytest.raises(ArgumentError, match=r"\.npz or \.safetensors"):
            features().save(tmp_path / f"f{suffix}.png")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, meta: arrays.update(images=arrays["images"].astype(np.float32)), "not uint8"),
        (lambda arrays, meta: arrays.update(seeds=arrays["seeds"][:2]), "2 seeds"),
        (lambda arrays, meta: arrays.pop("alive"), "alive"),
        (lambda arrays, meta: arrays.update(more=np.zeros(3)), "more"),
        (lambda arrays, meta: meta["fields"].pop("labels"), "labels"),
        (lambda arrays, meta: meta["fields"].update(labels=["one"]), "1 labels"),
        (lambda arrays, meta: meta.update(schema=99), "newer"),
    ],
    ids=["floats", "few seeds", "no alive", "one more", "no labels", "few labels", "newer"],
)
def test_a_file_that_was_changed(tmp_path, change, message):
    path = features().save(tmp_path / "f.npz")
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("record")))
    change(arrays, meta)
    np.savez(path, record=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(LoadError, match=message):
        FeatureImages.load(path)


def test_a_notebook_shows_the_sheet():
    made = features()
    shown = made._repr_html_()
    assert shown == wa.figures.contact_sheet(made).html()
    assert "data:image/webp" in shown


def test_a_notebook_says_why_there_is_no_sheet():
    shown = features(0)._repr_html_()
    assert "FeatureImages(conv: 0 pictures" in shown
    assert "0 came in" in shown
