"""Preprocessing against pillow, and by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.network.images import LONG, to_input

RNG = np.random.default_rng(0)


def spec(channels: int = 3, size: tuple[int, int] = (8, 8), **options) -> wa.InputSpec:
    return wa.InputSpec(shape=(channels, *size), **options)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with antialiasing, channel by channel in floats, as pillow does it."""
    height, width = size
    planes = [Image.fromarray(c.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR) for c in
              np.moveaxis(image, 2, 0)]  # fmt: skip
    return np.stack([np.asarray(p) for p in planes])


def test_bytes_and_floats_mean_the_same() -> None:
    images = noise(2, 11, 9, 3)
    ours = to_input(images, spec(mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2)))
    assert (ours.shape, ours.dtype) == ((2, 3, 8, 8), torch.float32)
    for dtype in (np.float64, np.float32):
        torch.testing.assert_close(
            to_input((images / 255).astype(dtype), spec(mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))), ours
        )
    torch.testing.assert_close(to_input(torch.from_numpy(images), spec(mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))), ours)


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        (dict(mean=0.5, std=0.5), lambda v: v / 127.5 - 1),
        (dict(value_range=(0, 255), mean=117.0), lambda v: v - 117),  # the first Inception networks
        (dict(value_range=(-1, 1)), lambda v: v / 127.5 - 1),
        (dict(value_range=(0, 255), mean=(10, 20, 30), std=(1, 2, 4)), lambda v: (v - [10, 20, 30]) / [1, 2, 4]),
    ],
)
def test_value_ranges(options, by_hand) -> None:
    image = noise(8, 8, 3)
    expected = by_hand(image.astype(np.float64)).transpose(2, 0, 1)
    np.testing.assert_allclose(to_input(image[None], spec(**options))[0], expected, atol=2e-4)


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (5, 7), (8, 40), (17, 8)])
@pytest.mark.parametrize("goal", [(8, 8), (6, 12)])
def test_stretch_is_pillows(size, goal) -> None:
    image = noise(*size, 2)
    ours = to_input(image[None], spec(2, goal, resize="stretch", value_range=(0, 255)))[0]
    np.testing.assert_allclose(ours, pillow(image, goal), atol=2e-3)


@pytest.mark.parametrize(
    ("size", "goal", "scaled", "corner"),
    [
        ((30, 20), (8, 8), (12, 8), (2, 0)),
        ((20, 30), (8, 8), (8, 12), (0, 2)),
        ((16, 64), (8, 8), (8, 32), (0, 12)),
        ((40, 40), (6, 12), (12, 12), (3, 0)),
        ((4, 6), (8, 8), (8, 12), (0, 2)),
    ],
)
def test_crop_scales_one_side_and_cuts_the_centre(size, goal, scaled, corner) -> None:
    image = noise(*size, 1)
    ours = to_input(image[None], spec(1, goal, value_range=(0, 255)))[0]
    expected = pillow(image, scaled)[:, corner[0] : corner[0] + goal[0], corner[1] : corner[1] + goal[1]]
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_exact_refuses_other_sizes() -> None:
    images = noise(1, 8, 8, 3)
    assert to_input(images, spec(resize="exact")).shape == (1, 3, 8, 8)
    with pytest.raises(ArgumentError, match="9×8 pixels came in, but this network takes exactly 8×8"):
        to_input(noise(1, 9, 8, 3), spec(resize="exact"))


def test_lists_of_different_sizes_equal_one_by_one() -> None:
    images = [noise(9, 20, 5), noise(30, 8, 5), noise(8, 8, 5)]
    together = to_input(images, spec(5))
    for image, row in zip(images, together, strict=True):
        torch.testing.assert_close(to_input(image[None], spec(5))[0], row)


def test_the_callers_array_stays_as_it_is() -> None:
    images = RNG.random((1, 8, 8, 1), dtype=np.float32)
    before = images.copy()
    to_input(images, spec(1, mean=0.5)).add_(3)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (noise(8, 8, 3), r"not \[N, H, W, C\]; for one image give images\[None\]"),
        (noise(1, 3, 8, 8), "with 3 channels"),
        (noise(1, 8, 8, 4), r"shape \(8, 8, 4\).*3 channels \(red, green, blue\)"),
        ([noise(8, 8)], r"shape \(8, 8\)"),
        ([], "no images"),
        (noise(0, 8, 8, 3), "no images"),
        (noise(1, 0, 8, 3), r"shape \(0, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), int), "uint8 or float, not int64"),
        (np.zeros((1, 8, 8, 3), bool), "not bool"),
        (np.full((1, 8, 8, 3), np.nan), "NaN"),
        (np.full((1, 8, 8, 3), np.inf), "NaN or infinite"),
        (np.full((1, 8, 8, 3), 1e300), "leave the network's range|infinite"),
        (np.full((1, 8, 8, 3), 128.0), r"128 … 128 leave the network's range 0 … 1"),
        (np.full((1, 8, 8, 3), -0.5), "leave the network's range"),
        ("cat.png", "not"),
        ([[[[0.5, "a", 0.5]]]], "uint8 or float"),
        ([[[[0.5, 0.5, 0.5], [0.5]]]], "no array"),
    ],
)
def test_what_is_refused(images, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        to_input(images, spec())


def test_signals_and_checkpoints_take_no_images(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"inputs of shape \(2, 50\)"):
        to_input(noise(1, 8, 8, 3), wa.InputSpec(shape=(2, 50)))
    torch.save({"w": torch.rand(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(ArgumentError, match="needs the architecture"):
        wa.load(tmp_path / "w.pth").preprocess(noise(1, 8, 8, 3))


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (2, 900), (900, 3), (10, 4000), (9001, 300)])
def test_the_middle_of_a_long_picture_is_that_of_the_whole_one_scaled(size) -> None:
    image = noise(*size, 2)
    ours = to_input(image[None], spec(2, (16, 12), value_range=(0, 255)))[0].numpy()
    scale = max(16 / size[0], 12 / size[1])
    scaled = tuple(max(round(n * scale), goal) for n, goal in zip(size, (16, 12), strict=True))
    assert max(scaled[0] / 16, scaled[1] / 12) > LONG  # else this would not be the case that is meant
    top, left = ((n - goal) // 2 for n, goal in zip(scaled, (16, 12), strict=True))
    np.testing.assert_allclose(ours, pillow(image, scaled)[:, top : top + 16, left : left + 12], atol=5e-3)


def test_one_row_of_many_pixels_is_not_scaled_as_a_whole() -> None:
    """All of it would be 224 × 1.1 million pixels."""
    tracemalloc.start()
    image = np.tile(np.array([[[10], [250]]], np.uint8), (1, 2500, 1))
    ours = to_input(image[None], spec(1, (224, 224), value_range=(0, 255)))[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert (ours == ours[:, :1]).all()  # all rows alike
    assert float(ours[0, 0].min()) == pytest.approx(10, abs=1.5)
    assert float(ours[0, 0].max()) == pytest.approx(250, abs=1.5)
