"""Pictures that a build makes: those of ``visualize`` with the same seeds, but for what WebP loses."""

import io
import json

import numpy as np
import pytest
import torch
from atlases import QUICK, opened, recipe_name
from PIL import Image
from torch import nn

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.featurevis import seed_of
from weightatlas.store import layout
from weightatlas.store.pictures import decoded

pytestmark = pytest.mark.usefixtures("one_thread")
UNITS = [0, 1, 3, 5]
OWN = recipe_name(QUICK)
VARIANTS = ("negative", "diverse", "positions", "factors")


@pytest.fixture(scope="module")
def net():
    return opened()


@pytest.fixture(scope="module")
def atlas(net, tmp_path_factory):
    recipes = [QUICK, *(f"{OWN}.{v}" for v in VARIANTS)]
    folder = tmp_path_factory.mktemp("pictures")
    return wa.build(net, folder, layers=["stem", "blocks.0"], units=UNITS, recipes=recipes, batch=3, seed=7)


def seed(net, *parts):
    return seed_of(net.weights_hash, 7, *parts)


def kept(atlas, layer, recipe, unit):
    path = layout.picture_path(layer, recipe, unit)
    return decoded(atlas.files.read(path), path)


def through_webp(pixels):
    """Pixels as they come back from a file, made by pillow alone."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=90, method=4)
    return np.asarray(Image.open(buffer).convert("RGB"))


def same_numbers(about, made, rows, tiles):
    """What a file says of itself against a record of pictures."""
    for name in ("reached", "viewed", "begun"):
        values = [about[name]] if not tiles else about[name]
        assert values == pytest.approx(getattr(made, name)[rows], rel=1e-5), name
    for name, own in (("alive", "alive"), ("tries", "tries"), ("seed", "seeds")):
        values = [about[name]] if not tiles else about[name]
        truth = getattr(made, own)[rows].tolist()
        assert values == ([str(v) for v in truth] if name == "seed" else truth), name
    assert about["settings"] == json.loads(json.dumps(made.recipe))
    assert tuple(about["view"]) == made.view
    assert tuple(about["size"]) == made.images.shape[1:3]


def mosaic(tiles, columns):
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


class TestPlain:
    @pytest.mark.parametrize("layer", ["stem", "blocks.0"])
    def test_they_are_those_of_visualize_batch_by_batch(self, net, atlas, layer):
        for batch in ([0, 1, 3], [5]):
            made = wa.visualize(net, layer, units=batch, recipe=QUICK, seed=seed(net, layer))
            for row, unit in enumerate(batch):
                pixels, about = kept(atlas, layer, OWN, unit)
                assert np.array_equal(pixels, through_webp(made.images[row]))
                same_numbers(about, made, [row], tiles=False)
                assert (about["layer"], about["unit"], about["what"]) == (layer, unit, "unit")
                assert (about["model"], about["weights_hash"]) == (net.name, net.weights_hash)

    def test_a_unit_s_picture_hardly_depends_on_its_batch(self, net, atlas, tmp_path):
        alone = wa.build(net, tmp_path, layers="stem", units=[3], recipes=QUICK, batch=1, seed=7, only=OWN)
        one, other = (kept(a, "stem", OWN, 3) for a in (atlas, alone))
        assert one[1]["seed"] == other[1]["seed"]
        assert one[1]["reached"] == pytest.approx(other[1]["reached"], rel=1e-3)
        assert np.abs(one[0].astype(float) - other[0]).mean() < 2
        assert kept(atlas, "stem", OWN, 1)[1]["seed"] != one[1]["seed"]

    def test_another_seed_gives_other_pictures(self, net, atlas, tmp_path):
        other = wa.build(net, tmp_path, layers="stem", units=[0, 1, 3], recipes=QUICK, batch=3, only=OWN)  # seed 0
        assert not np.array_equal(kept(other, "stem", OWN, 0)[0], kept(atlas, "stem", OWN, 0)[0])

    def test_styles_are_fitted_to_the_layer(self, net, tmp_path):
        made = wa.build(net, tmp_path, layers="blocks.0", units=[2], recipes="quick", only="quick")
        recipe = fv.recipe_for(net, "blocks.0", "quick")
        truth = wa.visualize(net, "blocks.0", units=[2], recipe=recipe, seed=seed_of(net.weights_hash, 0, "blocks.0"))
        pixels, about = kept(made, "blocks.0", "quick", 2)
        assert np.array_equal(pixels, through_webp(truth.images[0]))
        assert about["settings"]["name"] == "quick"

    def test_only_the_units_that_were_asked_for(self, atlas):
        for layer in ("stem", "blocks.0"):
            assert atlas.layer(layer)["pictures"][OWN]["made"] == [[0, 1], [3, 3], [5, 5]]
            assert atlas.pictures(layer, OWN).units.tolist() == UNITS


class TestVariants:
    def test_negative_is_the_direction_away_from_the_unit(self, net, atlas):
        directions = -np.eye(6)[[0, 1, 3]]
        seeds = [seed(net, "blocks.0", "negative", u) for u in (0, 1, 3)]
        made = wa.visualize(net, "blocks.0", directions=directions, recipe=QUICK, seed=seeds)
        for row, unit in enumerate((0, 1, 3)):
            pixels, about = kept(atlas, "blocks.0", f"{OWN}.negative", unit)
            assert np.array_equal(pixels, through_webp(made.images[row]))
            same_numbers(about, made, [row], tiles=False)
            # it begins at noise and goes down with the unit where the plain picture goes up
            plain = kept(atlas, "blocks.0", OWN, unit)[1]
            assert about["reached"] > about["begun"]
            assert -about["reached"] < plain["reached"]

    def test_diverse_pictures_excite_a_unit_and_are_unlike_one_another(self, net, atlas):
        unit = 3
        alone = wa.visualize(net, "blocks.0", units=[unit], recipe=QUICK, seed=seed(net, "blocks.0"))
        weight = 0.5 * abs(float(alone.reached[0]))
        objective = fv.unit("blocks.0", unit, QUICK.at) + weight * fv.diversity("blocks.0")
        own = seed(net, "blocks.0", "diverse", unit)
        made = wa.visualize(net, "blocks.0", objective=objective, count=4, recipe=QUICK, seed=own)
        pixels, about = kept(atlas, "blocks.0", f"{OWN}.diverse", unit)
        assert np.array_equal(pixels, through_webp(mosaic(list(made.images), 4)))
        same_numbers(about, made, [0, 1, 2, 3], tiles=True)
        assert about["columns"] == 4
        assert len(set(about["seed"])) == 4

    def test_positions_show_what_a_unit_looks_for_where(self, net, atlas):
        weights = atlas.weights("stem", "blocks.0")
        for unit in UNITS:
            values = weights.values[unit].astype(np.float64)
            length = np.sqrt((values**2).sum(0))
            places = [p for p in np.ndindex(*length.shape) if length[p] >= 0.15 * length.max()]
            seeds = [seed(net, "stem", "positions", f"blocks.0:{unit} {p}") for p in places]
            directions = np.stack([values[:, y, x] for y, x in places])
            made = wa.visualize(net, "stem", directions=directions, recipe=QUICK, seed=seeds)
            pixels, about = kept(atlas, "blocks.0", f"{OWN}.positions@stem", unit)
            tiles = [np.full_like(made.images[0], 255)] * length.size
            for row, (y, x) in enumerate(places):
                tiles[y * 3 + x] = made.images[row]
            assert np.array_equal(pixels, through_webp(mosaic(tiles, 3)))
            same_numbers(about, made, list(range(len(places))), tiles=True)
            assert [tuple(p) for p in about["places"]] == places
            assert about["lengths"] == pytest.approx([length[p] for p in places], rel=1e-5)
            assert (about["source"], about["columns"]) == ("stem", 3)

    def test_factors_show_the_directions_of_a_unit_s_own_factors(self, net, atlas):
        batch = [0, 1, 3]
        documents = {u: atlas.document(layout.connections_path("blocks.0", "stem", f"factors/{u}")) for u in batch}
        rows = [(u, k) for u in batch for k in range(2)]
        directions = np.array([documents[u]["channels"][k] for u, k in rows])
        seeds = [seed(net, "stem", "factors", f"blocks.0:{u} factor {k}") for u, k in rows]
        made = wa.visualize(net, "stem", directions=directions, recipe=QUICK, seed=seeds)
        for place, unit in enumerate(batch):
            pixels, about = kept(atlas, "blocks.0", f"{OWN}.factors@stem", unit)
            own = [2 * place, 2 * place + 1]
            assert np.array_equal(pixels, through_webp(mosaic([made.images[r] for r in own], 2)))
            same_numbers(about, made, own, tiles=True)
            assert (about["factors"], about["columns"]) == ([0, 1], 2)

    def test_layers_that_read_only_pixels_have_none_over_units(self, atlas):
        assert set(atlas.layer("stem")["pictures"]) == {OWN, f"{OWN}.negative", f"{OWN}.diverse"}
        assert set(atlas.layer("blocks.0")["pictures"]) == {
            OWN, f"{OWN}.negative", f"{OWN}.diverse", f"{OWN}.positions@stem", f"{OWN}.factors@stem"
        }  # fmt: skip


@pytest.mark.slow
class TestOtherNetworks:
    def test_of_one_channel_pictures_are_grey_and_of_five_they_are_shown_in_colours(self, tmp_path):
        for channels in (1, 5):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3)).eval()
            net = wa.load(module, input=wa.InputSpec(shape=(channels, 14, 14)))
            atlas = wa.build(net, tmp_path / str(channels), units=[0, 1], recipes=QUICK, only="pictures", batch=2)
            made = wa.visualize(net, "2", units=[0, 1], recipe=QUICK, seed=seed_of(net.weights_hash, 0, "2"))
            pixels, about = kept(atlas, "2", OWN, 1)
            flat = wa.figures.flat_colours(made.images[1], made.channel_names)
            assert np.array_equal(pixels, through_webp(flat))
            assert about["channels"] == list(net.input.channel_names)
            if channels == 1:
                assert np.ptp(flat, axis=2).max() == 0
                assert np.array_equal(flat[..., 0], made.images[1][..., 0])

    def test_transparent_pictures_lie_on_white(self, net, tmp_path):
        recipe = QUICK.but(alpha=True)
        atlas = wa.build(net, tmp_path, layers="stem", units=[1], recipes=recipe, only="pictures")
        made = wa.visualize(net, "stem", units=[1], recipe=recipe, seed=seed_of(net.weights_hash, 0, "stem"))
        share = made.alpha[0][..., None] / 255
        assert 0 < share.mean() < 1
        expected = np.rint(made.images[0] * share + 255 * (1 - share)).astype(np.uint8)
        assert np.array_equal(kept(atlas, "stem", recipe_name(recipe), 1)[0], through_webp(expected))
