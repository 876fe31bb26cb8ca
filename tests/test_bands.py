"""Banding shares against plain loops, closed forms, planted bands, exhaustive permutations and the trained network."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import weightatlas as wa
from weightatlas.bands import kernel_shares
from weightatlas.errors import ArgumentError, UnknownNameError


def stack(*kernels):
    """A network of depthwise convolutions with these kernels [n, H, W] behind a first one that sees pixels."""
    layers = [nn.Conv2d(3, len(kernels[0]), 1)]
    for k in kernels:
        conv = nn.Conv2d(len(k), len(k), k.shape[1:], padding="same", groups=len(k))
        conv.weight.data = torch.tensor(k[:, None], dtype=torch.float32)
        layers.append(conv)
    return wa.load(nn.Sequential(*layers), input=wa.InputSpec(shape=(3, 24, 24)))


def white(seed, n=400, h=3, w=3):
    return np.random.default_rng(seed).normal(size=(n, h, w))


def banded(seed, n=400, h=3, w=3, strength=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, h, w)) + strength * rng.normal(size=(n, h, 1))


def test_shares_by_plain_loops():
    kernels = np.random.default_rng(0).normal(size=(7, 5, 4))
    rows = columns = total = 0.0
    for k in kernels:
        rows += np.var([k[y].mean() for y in range(5)])
        columns += np.var([k[:, x].mean() for x in range(4)])
        total += np.var(k)
    assert kernel_shares(kernels) == pytest.approx((rows / total, columns / total))


@pytest.mark.parametrize(("h", "w"), [(3, 3), (5, 5), (5, 3)])
def test_white_kernels_are_at_chance(h, w):
    rows, columns = kernel_shares(white(1, 20000, h, w))
    assert rows == pytest.approx((h - 1) / (h * w - 1), abs=0.01)
    assert columns == pytest.approx((w - 1) / (h * w - 1), abs=0.01)


def test_pure_bands_and_pure_columns():
    bands = np.random.default_rng(2).normal(size=(5, 4, 1)) * np.ones((1, 1, 4))
    assert kernel_shares(bands) == pytest.approx((1, 0))
    assert kernel_shares(bands.swapaxes(1, 2)) == pytest.approx((0, 1))


def test_planted_bands_stand_out_and_columns_do_not():
    net = stack(white(3), white(4), white(5), banded(6), banded(7).swapaxes(1, 2))
    found = wa.banding(net)
    assert found.banded == ["4"]
    assert [r.layer for r in found] == ["1", "2", "3", "4", "5"]
    row = found[3]
    # signal variance 4 between rows, noise 1: expected shares in closed form for 3×3
    between = 4 * 2 / 3 + 2 / 9
    total = between + 6 / 9
    assert row.row_share == pytest.approx(between / total, abs=0.03)
    assert found[4].column_share == pytest.approx(between / total, abs=0.03)


def test_several_banded_layers_at_the_end_are_all_flagged():
    net = stack(white(3), white(4), white(5), banded(6), banded(8), banded(9))
    assert wa.banding(net).banded == ["4", "5", "6"]


def test_a_layer_like_those_before_is_not_banded():
    """When every layer leans to rows alike, all lie above chance but none stands out."""
    found = wa.banding(stack(*(banded(s, strength=1.2) for s in range(6))))
    assert all(r.row_share > r.interval[1] and r.row_share - r.column_share > 0.1 for r in found)
    assert found.banded == []


def test_with_few_layers_before_the_largest_counts():
    assert wa.banding(stack(white(3), banded(6))).banded == ["2"]
    assert wa.banding(stack(banded(6))).banded == []


def test_interval_is_that_of_all_permutations():
    """3×2 kernels have 720 arrangements: every one is tried in a plain loop."""
    kernels = np.random.default_rng(10).normal(size=(40, 3, 2))
    conv = nn.Conv2d(40, 40, (3, 2), groups=40)
    conv.weight.data = torch.tensor(kernels[:, None], dtype=torch.float32)
    net = wa.load(nn.Sequential(nn.Conv2d(3, 40, 1), conv), input=wa.InputSpec(shape=(3, 8, 8)))
    flat = kernels.reshape(40, 6)
    shares = [kernel_shares(flat[:, p].reshape(40, 3, 2))[0] for p in itertools.permutations(range(6))]
    row = wa.banding(net, permutations=20000)[0]
    assert row.interval == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.01)
    assert np.mean(shares) == pytest.approx(row.chance, abs=1e-9)


def test_the_embedded_network():
    found = wa.banding(wa.load("efficientnet_lite0"))
    assert found.banded == ["blocks.6.0.conv_dw"]
    row = next(r for r in found if r.banded)
    assert (round(row.row_share, 2), round(row.column_share, 2), round(row.chance, 2)) == (0.59, 0.32, 0.25)
    assert row.kernels == 1152
    assert row.row_share > row.interval[1]
    apart = [r for r in found if r.apart]
    assert [r.layer for r in apart] == ["conv_stem"]
    assert "sees pixels" in apart[0].apart
    steady = [r for r in found if r.stride == (1, 1) and not r.banded]
    shares = [s for r in steady for s in (r.row_share, r.column_share)]
    assert 0.175 < min(shares) < max(shares) < 0.325  # the shares measured when this was planned
    assert len(found) == 17


def test_random_weights_show_no_bands():
    torch.manual_seed(0)
    from weightatlas.models.efficientnet_lite import SPEC

    assert wa.banding(wa.load(SPEC.build(), input=SPEC.input)).banded == []


def test_not_finite_and_constant_kernels_are_listed_apart():
    bad = white(11, 8)
    bad[3, 0, 0] = np.nan
    found = wa.banding(stack(bad, np.ones((8, 3, 3)), white(12, 8)))
    assert found[0].apart == "1 of 8 kernels hold NaN or infinity"
    assert found[1].apart == "no kernel varies"
    assert math.isnan(found[0].row_share)
    assert not found[0].banded
    assert found[2].apart == ""


def test_only_two_dimensional_kernels_count():
    net = wa.load(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, (1, 7)), nn.Conv2d(4, 4, (7, 1)), nn.Conv2d(4, 4, 1)),
        input=wa.InputSpec(shape=(3, 24, 24)),
    )
    assert [r.layer for r in wa.banding(net)] == ["0"]
    with pytest.raises(ArgumentError, match=r"'1' has no kernel larger than 1 in both directions; .*: 0"):
        wa.banding(net, ["1"])
    with pytest.raises(UnknownNameError, match="no layer '7'"):
        wa.banding(net, ["7"])
    flat = wa.load(nn.Sequential(nn.Conv2d(3, 4, 1)), input=wa.InputSpec(shape=(3, 8, 8)))
    with pytest.raises(ArgumentError, match="has no kernel larger than 1"):
        wa.banding(flat)
    with pytest.raises(ArgumentError, match="permutations=0"):
        wa.banding(net, permutations=0)


def test_a_checkpoint_alone_gives_the_same_shares(tmp_path):
    net = wa.load("efficientnet_lite0")
    path = tmp_path / "lite0.pth"
    torch.save(net.module.state_dict(), path)
    alone = wa.banding(wa.load(path))
    assert alone.banded == ["blocks.6.0.conv_dw"]
    for a, b in zip(alone, wa.banding(net), strict=True):
        assert (a.layer, a.row_share, a.column_share) == (b.layer, b.row_share, b.column_share)
    assert "first spatial layer of a checkpoint" in alone[0].apart


def test_repeatable_for_a_seed():
    net = stack(white(13, 50))
    assert wa.banding(net, seed=1)[0] == wa.banding(net, seed=1)[0]
    assert wa.banding(net, seed=1)[0].interval != wa.banding(net, seed=2)[0].interval
