"""Canvases, views and recipes: spectra measured with numpy, views by index arithmetic, rules by hand."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.featurevis.canvas import IMAGENET_COLOURS, SCENE, Canvas, Frame
from weightatlas.featurevis.transforms import Views

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SIZES = [(24, 24), (23, 23), (24, 23), (15, 40), (40, 17), (48, 10)]
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


def canvas(kind="fourier", size=(24, 24), channels=3, **more):
    return Canvas(Frame(kind, channels, size, **more), CPU)


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def started(made, *seeds):
    return made.start(generators(*seeds)).detach()


def frequencies(size):
    """Cycles along the longer side of every coefficient of a whole spectrum."""
    y, x = np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None]
    return np.sqrt(y**2 + x**2) * max(size)


class TestSpectrum:
    @sizes
    @pytest.mark.parametrize("exponent", [0, 1, 1.2, 2])
    def test_spectra_of_unit_power_give_unit_deviation(self, size, exponent):
        """White noise has a spectrum of unit power that is a real picture's; its canvas is noise of deviation 1."""
        made = canvas(size=size, channels=1, exponent=exponent)
        noise = np.random.default_rng(0).normal(size=(3000, 1, *size))
        z = torch.from_numpy(np.fft.rfft2(noise, norm="ortho")).to(torch.complex64)
        z[..., 0, 0] = 0  # the mean goes by itself
        pixels = made.planes_of(z).numpy()
        assert pixels.std() == pytest.approx(1, rel=0.02)
        assert abs(pixels.mean((-1, -2))).max() < 1e-4

    @sizes
    def test_spectra_fall_with_the_exponent(self, size):
        for exponent in (0.0, 1.0, 1.7):
            made = canvas(size=size, channels=1, exponent=exponent)
            pixels = made.planes_of(started(made, *range(1500))).numpy()
            power = (abs(np.fft.fft2(pixels, norm="ortho")) ** 2).mean((0, 1))
            f = frequencies(size)
            # waves that no other axis mixes into, and away from the columns that stand for themselves
            inner = np.ones(size, bool)
            inner[:, 0] = inner[0, 0] = False
            if size[1] % 2 == 0:
                inner[:, size[1] // 2] = False
            slope = np.polyfit(np.log(np.maximum(f, 1)[inner]), np.log(power[inner]), 1)[0]
            assert slope == pytest.approx(-2 * exponent, abs=0.03)
            flat = power[inner] * np.maximum(f[inner], 1) ** (2 * exponent)
            assert flat.std() / flat.mean() < 0.1  # the same in every direction

    @pytest.mark.parametrize("size", [(24, 24), (23, 40), (48, 10)], ids=str)
    def test_noise_of_unit_power_gives_pixels_of_unit_deviation(self, size):
        for deviation in (1.0, 0.1):
            made = canvas(size=size, channels=1, exponent=1.2, deviation=deviation)
            pixels = made.planes_of(started(made, *range(2000))).numpy()
            pixels = pixels - pixels.mean((-1, -2), keepdims=True)
            assert pixels.std() == pytest.approx(deviation, rel=0.02)

    @pytest.mark.parametrize("size", [(24, 24), (23, 40), (48, 10)], ids=str)
    def test_waves_along_both_axes_start_alike(self, size):
        made = canvas(size=size, channels=1, exponent=1.2, deviation=1.0)
        pixels = made.planes_of(started(made, *range(1500))).numpy()
        power = (abs(np.fft.fft2(pixels, norm="ortho")) ** 2).mean((0, 1)) * np.maximum(frequencies(size), 1) ** 2.4
        inner = power[1 : size[0] // 2, 1 : size[1] // 2].mean()
        assert power[0, 1 : (size[1] - 1) // 2].mean() == pytest.approx(inner, rel=0.1)
        assert power[1 : (size[0] - 1) // 2, 0].mean() == pytest.approx(inner, rel=0.1)

    @sizes
    def test_the_mean_goes_so_many_times_further(self, size):
        made = canvas(size=size, channels=1, exponent=1.0)
        flat, wave = torch.zeros(2, 1, 1, size[0], size[1] // 2 + 1, dtype=torch.complex64)
        flat[..., 0, 0] = 1
        wave[..., 0, 1] = 1
        amplitude = np.abs(np.fft.fft2(made.planes_of(wave).numpy(), norm="ortho"))[0, 0, 0, 1]
        mean = np.abs(np.fft.fft2(made.planes_of(flat).numpy(), norm="ortho"))[0, 0, 0, 0]
        f = frequencies(size)[0, 1]
        assert mean / amplitude == pytest.approx(SCENE * max(f, 1), rel=1e-4)
        assert np.ptp(made.planes_of(flat).numpy()) < 1e-6

    @sizes
    def test_pictures_are_those_of_numpy(self, size):
        made = canvas(size=size, channels=2, contrast=1.7, exponent=1.3)
        z = started(made, 5)
        f = frequencies(size)[:, : size[1] // 2 + 1]
        fall = 1 / np.maximum(f, 1) ** 1.3
        fall[0, 0] = SCENE
        flat = np.fft.irfft2(z.numpy() * fall, s=size, norm="ortho")
        whole = 1 / np.maximum(frequencies(size), 1) ** 1.3
        scale = np.sqrt((whole**2).mean() - whole[0, 0] ** 2 / whole.size)  # deviation of what has unit power
        expected = 1 / (1 + np.exp(-1.7 * flat / scale))
        np.testing.assert_allclose(made.picture(z).numpy(), expected, atol=2e-5)


class TestStart:
    def test_depends_on_its_own_generator_only(self):
        for kind in ("bands", "fourier", "pixels", "maco"):
            made = canvas(kind)
            alone = started(made, 7)
            assert torch.equal(started(made, 3, 7, 7)[1:], alone.expand(2, *alone.shape[1:]))
            assert not torch.equal(started(made, 3), alone)
            torch.manual_seed(99)
            assert torch.equal(started(made, 7), alone)

    @pytest.mark.parametrize("kind", ["bands", "fourier", "pixels"])
    @pytest.mark.parametrize("deviation", [0.1, 0.7])
    def test_its_deviation(self, kind, deviation):
        z = started(canvas(kind, deviation=deviation), *range(60))
        assert np.sqrt((abs(z.numpy()) ** 2).mean()) == pytest.approx(deviation, rel=0.02)
        assert z.is_complex() == (kind != "pixels")

    def test_is_ready_for_gradients(self):
        for kind in ("bands", "fourier", "pixels", "maco"):
            made = canvas(kind, alpha=True, colours=IMAGENET_COLOURS)
            z = made.start(generators(1, 2))
            assert z.is_leaf
            (found,) = torch.autograd.grad(made.picture(z)[0].square().sum(), z)
            assert found[0].abs().max() > 0
            assert found[1].abs().max() == 0  # the other picture is not touched

    @sizes
    def test_shapes(self, size):
        for kind in ("bands", "fourier", "pixels", "maco"):
            for alpha in (False, True):
                made = canvas(kind, size, channels=2, alpha=alpha)
                assert made.picture(started(made, 1, 2, 3)).shape == (3, 2 + alpha, *size)


class TestPictures:
    @pytest.mark.parametrize("kind", ["bands", "fourier", "pixels", "maco"])
    def test_lie_between_0_and_1(self, kind):
        made = canvas(kind, deviation=10, contrast=100, colours=IMAGENET_COLOURS, alpha=True)
        picture = made.picture(started(made, 1, 2))
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.max() - picture.min() > 0.5

    def test_no_wave_is_middle_grey(self):
        made = canvas(colours=IMAGENET_COLOURS, alpha=True)
        assert (made.picture(torch.zeros_like(started(made, 1))) == 0.5).all()

    def test_colours_are_mixed_by_their_columns(self):
        made = canvas("pixels", (4, 5), colours=IMAGENET_COLOURS, contrast=1.5, alpha=True)
        z = started(made, 1, 2)
        matrix = np.array(IMAGENET_COLOURS)
        matrix = matrix / np.linalg.norm(matrix[:, 0])
        assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1)  # light is the strongest
        mixed = np.einsum("ij,njhw->nihw", matrix, z.numpy()[:, :3])
        logits = np.log(1 / (1 / made.picture(z).numpy() - 1)) / 1.5
        np.testing.assert_allclose(logits[:, :3], mixed, atol=1e-5)
        np.testing.assert_allclose(logits[:, 3], z.numpy()[:, 3], atol=1e-5)  # opacity is no colour

    def test_other_channels_are_left_alone(self):
        made = canvas("pixels", (4, 5), channels=3)
        z = started(made, 1)
        np.testing.assert_allclose(made.picture(z).numpy(), 1 / (1 + np.exp(-2 * z.numpy())), atol=1e-6)

    @pytest.mark.parametrize(
        ("names", "mixed"),
        [
            (("red", "green", "blue"), True),
            (("L", "a", "b"), False),
            (("blue", "green", "red"), False),
            (("grey",), False),
            (("a", "b", "c", "d"), False),
        ],
    )
    def test_only_rgb_inputs_have_decorrelated_colours(self, names, mixed):
        n = len(names)
        net = wa.load(nn.Sequential(nn.Conv2d(n, 4, 3)), input=wa.InputSpec(shape=(n, 12, 12), channel_names=names))
        from weightatlas.featurevis.plan import make_plan

        plan = make_plan(net, fv.Prepared(net, ["0"]), fv.recipe_for(net, "0"))
        assert plan.frame.colours == (IMAGENET_COLOURS if mixed else None)
        assert plan.frame.channels == n


class TestBands:
    @staticmethod
    def rings(size):
        f = frequencies(size)[:, : size[1] // 2 + 1]
        return np.minimum(np.rint(f), max(size) // 2).astype(int)

    @sizes
    def test_no_ring_keeps_more_than_its_share_and_weaker_ones_keep_every_bit(self, size):
        made = canvas("bands", size, colours=IMAGENET_COLOURS, alpha=True, chroma=0.4)
        z = started(made, 1, 2)
        ring = self.rings(size)
        rng = np.random.default_rng(0)
        strength = np.exp(rng.normal(size=(2, 4, ring.max() + 1)) * 2)  # some above their cap, some below
        z *= torch.from_numpy(strength[:, :, ring]).float() / 0.1
        before = z.clone()
        power = lambda w, b: (abs(w.numpy()[:, :, ring == b]) ** 2).mean(-1)  # noqa: E731
        made.keep_within(z)
        caps = np.array([1, 0.4, 0.4, 1])
        capped = 0
        for b in np.unique(ring):
            had, has = power(before, b), power(z, b)
            over = had > caps * (1 + 1e-4)
            under = had < caps * (1 - 1e-4)
            np.testing.assert_allclose(has[over], np.broadcast_to(caps, had.shape)[over], rtol=1e-4)
            same = (z == before).numpy()[:, :, ring == b].all(-1)
            assert same[under].all()
            assert not same[over].any()
            ratio = (z / before).numpy()[:, :, ring == b]
            np.testing.assert_allclose(ratio, np.broadcast_to(ratio[..., :1], ratio.shape), rtol=1e-4)  # scaled as one
            capped += over.sum()
        assert 0 < capped < 8 * len(np.unique(ring))

    def test_without_colours_all_caps_are_one(self):
        made = canvas("bands", (16, 16), channels=3, chroma=0.1)
        z = started(made, 1) * 100
        made.keep_within(z)
        ring = self.rings((16, 16))
        for b in np.unique(ring):
            np.testing.assert_allclose((abs(z.numpy()[0, :, ring == b]) ** 2).mean(0), 1, rtol=1e-4)

    def test_zero_stays_zero(self):
        made = canvas("bands")
        z = torch.zeros_like(started(made, 1))
        made.keep_within(z)
        assert (z == 0).all()

    @pytest.mark.parametrize("kind", ["fourier", "pixels", "maco"])
    def test_the_other_canvases_have_no_caps(self, kind):
        made = canvas(kind)
        z = started(made, 1) * 1000
        before = z.clone()
        made.keep_within(z)
        assert torch.equal(z, before)


class TestMaco:
    @sizes
    def test_the_magnitude_is_fixed(self, size):
        made = canvas("maco", size, channels=1, exponent=1.1)
        spectra = abs(np.fft.fft2(made.planes_of(started(made, *range(5))).numpy(), norm="ortho"))[:, 0]
        last = (size[1] - 1) // 2 + 1
        inner = spectra[:, :, 1:last]  # columns whose coefficients stand for two
        np.testing.assert_allclose(inner, np.broadcast_to(inner[:1], inner.shape), rtol=1e-3)
        expected = np.maximum(frequencies(size), 1) ** -1.1
        np.testing.assert_allclose(
            inner[0] / inner[0].mean(), expected[:, 1:last] / expected[:, 1:last].mean(), rtol=1e-3
        )

    def test_of_waves_that_only_go_down_too(self):
        made = canvas("maco", (24, 24), channels=1)
        spectra = abs(np.fft.fft2(made.planes_of(started(made, *range(5))).numpy(), norm="ortho"))[:, 0, 1:12, 0]
        np.testing.assert_allclose(spectra, np.broadcast_to(spectra[:1], spectra.shape), rtol=1e-3)


def pictures(n=2, c=3, rows=20, columns=26, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, c, rows, columns))).float()


def draw(*rows):
    return torch.tensor(rows, dtype=torch.float32)


class TestShifts:
    def test_every_place_is_an_exact_crop_and_all_are_as_likely(self):
        views, x = Views((14, 18), jitter=8), pictures(rows=16, columns=21)
        found = set()
        for v in np.linspace(-1, 1, 41, endpoint=False):
            for u in np.linspace(-1, 1, 41, endpoint=False):
                y, column = math.floor((v + 1) / 2 * 3 + 1e-6), math.floor((u + 1) / 2 * 4 + 1e-6)
                seen = views(x, draw([v + 1e-6, u + 1e-6, 0.3, 0.4], [0, 0, 0, 0]))
                assert torch.equal(seen[0], x[0, :, y : y + 14, column : column + 18])
                assert torch.equal(seen[1], x[1, :, 1:15, 2:20])
                found.add((y, column))
        assert found == {(y, column) for y in range(3) for column in range(4)}

    def test_the_ends_stay_on_the_canvas(self):
        views, x = Views((14, 18)), pictures()
        assert torch.equal(
            views(x, draw([1, 1, 0, 0], [-1, -1, 0, 0])), torch.stack([x[0, :, 6:, 8:], x[1, :, :14, :18]])
        )

    def test_numbers_of_one_picture_do_not_depend_on_others(self):
        views = Views((4, 4))
        many, alone = views.draw(generators(1, 2, 3), 9), views.draw(generators(2), 9)
        assert many.shape == (9, 3, 4)
        assert torch.equal(many[:, 1:2], alone)
        assert not torch.equal(many[:, 0], many[:, 1])
        assert torch.equal(views.draw(generators(2), 5), alone[:5])  # what comes later does not change what came first

    def test_numbers_are_uniform(self):
        drawn = Views((4, 4)).draw(generators(1), 20_000)
        assert drawn.min() >= -1
        assert drawn.max() <= 1
        quantiles = np.quantile(drawn.numpy(), [0.1, 0.25, 0.5, 0.9], axis=(0, 1))
        np.testing.assert_allclose(quantiles, np.outer([-0.8, -0.5, 0, 0.8], np.ones(4)), atol=0.03)

    def test_the_centre(self):
        x = pictures()
        assert torch.equal(Views((14, 18), rotate=90, scale=1, noise=3).centre(x), x[..., 3:17, 4:22])


class TestWrapping:
    def test_views_go_on_at_the_other_side(self):
        for size, once, jitter in [((7, 9), (5, 6), 3), ((30, 31), (7, 10), 5), ((4, 4), (9, 8), 4)]:
            views, x = Views(size, jitter=jitter, wrapped=True), pictures(rows=once[0], columns=once[1])
            found = set()
            for number in np.linspace(-0.999, 0.999, 25):
                seen = views(x, draw([number, -number, 0, 0], [0, 0, 0, 0]))
                fits = [
                    (y, c)
                    for y in range(jitter + 1)
                    for c in range(jitter + 1)
                    if torch.equal(
                        seen[0], x[0][:, (np.arange(size[0]) + y) % once[0]][:, :, (np.arange(size[1]) + c) % once[1]]
                    )
                ]
                assert fits
                found.add(fits[0][0] % once[0])
            assert found == {y % once[0] for y in range(jitter + 1)}
            middle = views.centre(x)
            rows, columns = (np.arange(n) + jitter // 2 for n in size)
            assert torch.equal(middle, x[:, :, rows % once[0]][:, :, :, columns % once[1]])

    def test_a_period_is_seen_again(self):
        seen = Views((30, 31), jitter=5, wrapped=True)(pictures(1, rows=7, columns=10), draw([0.3, -0.2, 0, 0]))
        assert torch.equal(seen[..., 7:, :], seen[..., :-7, :])
        assert torch.equal(seen[..., 10:], seen[..., :-10])


def sampled(x, size, middle, angle, zoom):
    """A turned view by scipy, in pixel coordinates: the window's axes turned about ``middle`` and ``zoom`` times as
    long."""
    y, u = np.mgrid[: size[0], : size[1]] - np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])[:, None, None]
    along = zoom * (math.cos(angle) * u - math.sin(angle) * y) + middle[1]
    down = zoom * (math.sin(angle) * u + math.cos(angle) * y) + middle[0]
    return np.stack([ndimage.map_coordinates(c, [down, along], order=1, mode="reflect") for c in x])


class TestTurns:
    def test_no_turn_is_the_crop(self):
        x = pictures()
        for limits in ({"rotate": 30}, {"scale": 0.5}, {"rotate": 30, "scale": 0.5}):
            views = Views((14, 18), **limits)
            np.testing.assert_allclose(views(x, draw([0, 0, 0, 0], [0, 0, 0, 0])), x[..., 3:17, 4:22], atol=1e-5)
            ends = views(x, draw([1, 1, 0, 0], [-1, 1, 0, 0]))
            np.testing.assert_allclose(ends[0], x[0, :, 6:, 8:], atol=1e-5)
            np.testing.assert_allclose(ends[1], x[1, :, :14, 8:], atol=1e-5)

    def test_a_quarter_turn_is_numpys(self):
        x = pictures(2, rows=15, columns=15)
        left, right = Views((15, 15), rotate=90)(x, draw([0, 0, 1, 0], [0, 0, -1, 0])).numpy()
        turned = [[np.rot90(p, k, (1, 2)) for k in (1, 3)] for p in x.numpy()]
        found = [
            [np.allclose(got, t, atol=1e-4) for t in both] for got, both in zip((left, right), turned, strict=True)
        ]
        assert found in ([[True, False], [False, True]], [[False, True], [True, False]])
        half = Views((15, 15), rotate=180)(x, draw([0, 0, 1, 0], [0, 0, 0, 0])).numpy()
        np.testing.assert_allclose(half[0], np.rot90(x[0].numpy(), 2, (1, 2)), atol=1e-4)

    def test_a_quarter_turn_of_what_is_not_square_keeps_pixels_square(self):
        x = pictures(1, rows=30, columns=22)
        seen = Views((10, 16), rotate=90)(x, draw([0, 0, 1, 0])).numpy()[0]
        window = x.numpy()[0][:, 7:23, 6:16]  # 16 high, 10 wide: turned it fills the view
        assert any(np.allclose(seen, np.rot90(window, k, (1, 2)), atol=1e-4) for k in (1, 3))

    @pytest.mark.parametrize(("number", "zoom"), [(-1, 0.5), (1, 2.0), (0.5, 2**0.5)])
    def test_scaling_by_two(self, number, zoom):
        x = pictures(1, rows=60, columns=60)
        seen = Views((20, 20), scale=1.0)(x, draw([0, 0, 0, number])).numpy()[0]
        np.testing.assert_allclose(seen, sampled(x[0].numpy(), (20, 20), (29.5, 29.5), 0, zoom), atol=1e-4)
        if number == 1:  # twice the window: every pixel is the mean of the four it lies between
            window = x.numpy()[0][:, 10:50, 10:50]
            fours = window.reshape(3, 20, 2, 20, 2).mean((2, 4))
            np.testing.assert_allclose(seen, fours, atol=1e-4)

    def test_any_turn_shift_and_scale_is_scipys(self):
        views, x = Views((15, 24), rotate=40, scale=0.3), pictures(6, rows=50, columns=61)
        numbers = views.draw(generators(*range(6)), 1)[0] * torch.tensor([0.3, 0.3, 1, 1])  # stays on the canvas
        seen = views(x, numbers).numpy()
        for i, (down, across, turn, size) in enumerate(numbers.tolist()):
            middle = 24.5 + down * 35 / 2, 30 + across * 37 / 2
            expected = sampled(x[i].numpy(), (15, 24), middle, math.radians(40) * turn, 1.3**size)
            np.testing.assert_allclose(seen[i], expected, atol=1e-3)
        assert np.ptp(numbers[:, 2].numpy()) > 0.5


class TestNoiseAndPadding:
    def test_noise_is_each_pictures_own(self):
        views, x = Views((20, 26), jitter=0, noise=0.2), pictures(3)
        still = draw(*[[0, 0, 0, 0]] * 3)
        seen = views(x, still, generators(4, 5, 6)) - x
        assert seen.std().item() == pytest.approx(0.2, rel=0.05)
        assert abs(seen.mean().item()) < 0.02
        torch.testing.assert_close(views(x[1:2], still[1:2], generators(5)) - x[1:2], seen[1:2])
        assert not torch.allclose(seen[0], seen[1])
        own = generators(4, 5, 6)
        assert not torch.equal(views(x, still, own), views(x, still, own))  # the next step has other noise

    def test_there_is_none_without_generators(self):
        x = pictures()
        assert torch.equal(Views((20, 26), noise=5)(x, draw(*[[0, 0, 0, 0]] * 2)), x)

    def test_padding_is_grey(self):
        views, x = Views((24, 30), pad=4), pictures()
        expected = np.pad(x.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), constant_values=0.5)
        seen = views(x, draw([1, -1, 0, 0], [-1, 1, 0, 0]))
        assert np.array_equal(seen[0], expected[0, :, 4:, :30])
        assert np.array_equal(seen[1], expected[1, :, :24, 4:])
        assert np.array_equal(views.centre(x), expected[..., 2:26, 2:32])


@pytest.mark.parametrize(
    "more", [{}, {"wrapped": True}, {"pad": 3}, {"rotate": 20}, {"scale": 0.2, "noise": 0.1}], ids=str
)
def test_gradients_flow_through_views_to_their_own_picture_only(more):
    views = Views((10, 12), jitter=2, **more)
    x = pictures(2).requires_grad_()
    seen = views(x, views.draw(generators(1, 2), 1)[0], generators(3, 4))
    (found,) = torch.autograd.grad(seen[0].square().sum(), x)
    assert torch.isfinite(found).all()
    assert found[0].abs().max() > 0
    assert found[1].abs().max() == 0


def chain(*strides, head=False):
    """Convolutions with these strides, named 0, 1, …; with a head the last is linear."""
    layers = [nn.Conv2d(3 if i == 0 else 4, 4, 3, stride=s, padding=1) for i, s in enumerate(strides)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)] if head else []
    return wa.load(nn.Sequential(*layers, *last), input=wa.InputSpec(shape=(3, 64, 64)))


def documented():
    """The rows of the table in the docstring of ``recipe_for``: excites, side, jitter, turn, steps, deviation."""
    rows = []
    for line in fv.recipe_for.__doc__.splitlines():
        cells = re.split(r"  +", line.strip())
        if len(cells) == 7 and cells[3].isdigit():
            side = None if cells[2] == "its own" else int(cells[2].removesuffix(" px"))
            turn = 0 if cells[4] == "none" else int(cells[4].strip("±°"))
            at = "mean" if cells[1] == "unit" else cells[1]  # of one position the mean is the unit
            rows.append((at, side, int(cells[3]), turn, int(cells[5]), float(cells[6])))
    assert len(rows) == 5
    return rows


SHALLOW, EARLY, MIDDLE, DEEP, LOGITS = documented()
RULES = {1: SHALLOW, 4: SHALLOW, 5: SHALLOW, 6: EARLY, 8: EARLY, 11: EARLY, 12: MIDDLE, 16: MIDDLE, 23: MIDDLE}
RULES |= {24: DEEP, 32: DEEP}


def facts(r):
    return r.at, r.side, r.jitter, r.rotate, r.steps, r.deviation


class TestWhatComesOfRecipes:
    """Recipes that are valid by themselves and meet a network."""

    def test_the_recipe_of_a_result_makes_it_again(self):
        net = chain(1, 1)
        made = wa.visualize(net, "1", units=[2, 0], recipe=fv.recipe_for(net, "1").but(steps=2))
        again = wa.visualize(net, "1", units=[2, 0], recipe=fv.Recipe(**made.recipe))
        assert again.images.shape == made.images.shape
        assert np.array_equal(again.images, made.images)

    def test_padding_as_far_as_there_is_picture(self):
        made = wa.visualize(chain(1, 1), "1", units=[0], recipe=fv.Recipe(side=32, pad=8, steps=1))
        assert made.images.shape == (1, 32, 32, 3)
        edge = np.ones((32, 32), bool)
        edge[8:-8, 8:-8] = False  # shifts leave at least so much of the grey around
        assert np.isin(made.images[0][:2], (127, 128)).all()
        assert np.isin(made.images[0][edge], (127, 128)).mean() > 0.4
        assert made.images[0][~edge].std() > 1

    @pytest.mark.parametrize("pad", [40, 512])
    def test_padding_wider_than_the_picture(self, pad):
        net = chain(1, 1)
        with pytest.raises(ArgumentError, match="pad"):
            wa.visualize(net, "1", units=[0], recipe=fv.Recipe(side=32, pad=pad, steps=1))

    @pytest.mark.parametrize("side", [1, 3])
    def test_inputs_smaller_than_a_recipe_may_ask_for(self, side):
        net = wa.load(nn.Sequential(nn.Conv2d(3, 4, 1)), input=wa.InputSpec(shape=(3, side, side)))
        made = wa.visualize(net, "0", units=[0], recipe=fv.Recipe(steps=1))
        assert made.images.shape == (1, side, side, 3)


class TestRules:
    @pytest.mark.parametrize("stride", RULES)
    def test_by_stride(self, stride):
        net = chain(1, stride)
        assert net.layers["1"].receptive_field.stride == (stride, stride)
        assert facts(fv.recipe_for(net, "1")) == RULES[stride]

    @pytest.mark.parametrize(
        ("layer", "stride"),
        [("blocks.0.0", 2), ("blocks.1.1", 4), ("blocks.2.1", 8), ("blocks.4.1", 16), ("blocks.6.0", 32)],
    )
    def test_of_the_embedded_network(self, lite0, layer, stride):
        assert max(lite0.layers[layer].receptive_field.stride) == stride
        recipe = fv.recipe_for(lite0, layer)
        assert facts(recipe) == RULES.get(stride, SHALLOW)
        assert recipe.name == "display"

    def test_the_longer_stride_of_two_decides(self):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=(1, 8), padding=1))
        net = wa.load(module, input=wa.InputSpec(shape=(3, 64, 64)))
        assert facts(fv.recipe_for(net, "1")) == RULES[8]

    def test_logits(self, lite0):
        for recipe in (fv.recipe_for(lite0, "classifier"), fv.recipe_for(chain(1, head=True), "3")):
            assert facts(recipe) == LOGITS

    def test_filters_of_pixels_excite_peaks(self, lite0):
        assert fv.recipe_for(lite0, "conv_stem").at == "peaks"
        assert fv.recipe_for(lite0, "bn1").at == "peaks"
        assert fv.recipe_for(lite0, "blocks.0.0").at == "mean"
        net = wa.load(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), nn.ReLU(), nn.Conv2d(4, 4, 3)),
            input=wa.InputSpec(shape=(3, 32, 32)),
        )
        assert [fv.recipe_for(net, n).at for n in "0123"] == ["peaks", "peaks", "mean", "mean"]

    def test_small_fields_get_more_positions(self):
        for stride in (1, 2, 3, 4, 5):
            assert fv.recipe_for(chain(1, stride), "1").reach == max(10, math.ceil(48 / stride))
        assert fv.recipe_for(chain(1, 8), "1").reach == 10

    @pytest.mark.parametrize("layer", ["conv_stem", "blocks.2.1", "blocks.4.1", "blocks.6.0", "classifier"])
    def test_styles(self, lite0, layer):
        usual, quick, most = (fv.recipe_for(lite0, layer, s) for s in ("display", "quick", "max"))
        assert quick == dataclasses.replace(usual, name="quick", steps=usual.steps // 2)
        assert (most.rotate, most.scale, most.name) == (0, 0, "max")
        assert most.steps > usual.steps
        assert most.contrast > usual.contrast
        assert (most.at, most.canvas, usual.name) == (usual.at, usual.canvas, "display")

    def test_what_does_not_exist(self, lite0):
        with pytest.raises(UnknownNameError, match=r"no recipe 'displya'.*nearest: 'display'.*Recipe\(…\)"):
            fv.recipe_for(lite0, "conv_stem", "displya")
        with pytest.raises(UnknownNameError, match="'quick'"):
            fv.recipe_for(lite0, "conv_stem", "quik")
        with pytest.raises(UnknownNameError, match="'conv_stem'"):
            fv.recipe_for(lite0, "conv_stm")


LIMITS = {
    "reach": (1, 512),
    "steps": (1, 100_000),
    "rate": (1e-6, 100),
    "momentum": (0, 0.9999),
    "leak": (0, 1),
    "contrast": (1e-3, 100),
    "exponent": (0, 4),
    "chroma": (0, 10),
    "deviation": (0, 10),
    "jitter": (0, 512),
    "rotate": (0, 180),
    "scale": (0, 4),
    "noise": (0, 10),
    "pad": (0, 512),
}
WHOLE = ("reach", "steps", "jitter", "pad")


class TestRecipe:
    @pytest.mark.parametrize("field", LIMITS)
    def test_every_number_has_bounds(self, field):
        low, high = LIMITS[field]
        for value in (low, high):
            assert getattr(fv.Recipe(**{field: value}), field) == value
        step = 1 if field in WHOLE else 1e-7
        for value in (low - step, high + step, -1e9 if field not in WHOLE else -(10**9)):
            with pytest.raises(ArgumentError, match=rf"a recipe's {field}=.* must be between"):
                fv.Recipe(**{field: value})

    @pytest.mark.parametrize("field", LIMITS)
    @pytest.mark.parametrize("value", ["1", None, True, [1], 1j])
    def test_every_number_is_one(self, field, value):
        with pytest.raises(ArgumentError, match=f"a recipe's {field}=.* must be a"):
            fv.Recipe(**{field: value})

    @pytest.mark.parametrize("field", LIMITS)
    def test_no_number_is_nan_or_a_fraction_of_a_step(self, field):
        for value in (math.nan, math.inf):
            with pytest.raises(ArgumentError, match=f"a recipe's {field}="):
                fv.Recipe(**{field: value})
        if field in WHOLE:
            with pytest.raises(ArgumentError, match="must be an integer"):
                fv.Recipe(**{field: 3.0})

    @pytest.mark.parametrize("side", [0, 4097, -1, 112.0, "112", True])
    def test_sides(self, side):
        with pytest.raises(ArgumentError, match="a recipe's side="):
            fv.Recipe(side=side)
        assert fv.Recipe(side=4).side == 4
        assert fv.Recipe(side=4096).side == 4096
        assert fv.Recipe(side=None).side is None

    def test_words(self):
        with pytest.raises(UnknownNameError, match=r"no canvas 'fouier'.*nearest: 'fourier'"):
            fv.Recipe(canvas="fouier")
        with pytest.raises(ArgumentError, match="at='middle'"):
            fv.Recipe(at="middle")
        with pytest.raises(ArgumentError):
            fv.Recipe(at=(1, 2))

    @pytest.mark.parametrize("alpha", ["yes", 2, None])
    def test_transparency_is_yes_or_no(self, alpha):
        with pytest.raises(ArgumentError, match="alpha"):
            fv.Recipe(alpha=alpha)

    def test_but(self):
        first = fv.Recipe("display", steps=40, side=112)
        other = first.but(steps=9, rotate=15)
        assert (first.steps, first.name) == (40, "display")
        assert other == fv.Recipe("own", steps=9, rotate=15, side=112)
        assert first.but(name="mine").name == "mine"
        assert first.but() == dataclasses.replace(first, name="own")
        with pytest.raises(ArgumentError, match=r"a recipe has no 'stepps'; it has name, side, reach"):
            first.but(stepps=3)
        with pytest.raises(ArgumentError, match="steps=0"):
            first.but(steps=0)

    def test_there_and_back(self, lite0):
        import json

        for layer in ("conv_stem", "blocks.2.1", "blocks.4.1", "blocks.6.0", "classifier"):
            for style in ("display", "quick", "max"):
                recipe = fv.recipe_for(lite0, layer, style)
                assert fv.Recipe(**recipe.to_dict()) == recipe
                assert fv.Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe
                assert eval(repr(recipe), {"Recipe": fv.Recipe}) == recipe
        assert set(fv.Recipe().to_dict()) == {f.name for f in dataclasses.fields(fv.Recipe)}

    def test_is_frozen_and_can_be_a_key(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            fv.Recipe().steps = 3
        assert len({fv.Recipe(), fv.Recipe(), fv.Recipe(steps=3)}) == 2
