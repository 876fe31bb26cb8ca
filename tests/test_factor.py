"""One-sided factorization against planted factors, the SVD bound, scikit-learn and plain solvers."""

import numpy as np
import pytest
from sklearn.decomposition import NMF

import weightatlas as wa
from weightatlas.errors import ArgumentError, WeightValuesError


def planted(seed, o, i, h, w, rank, side="space"):
    """Weights S Cᵀ with one side non-negative, [O, I, H, W]."""
    rng = np.random.default_rng(seed)
    space = rng.normal(size=(o, h, w, rank))
    channels = rng.normal(size=(rank, i))
    if side == "space":
        space = np.maximum(space, 0)
    else:
        channels = np.maximum(channels, 0)
    return np.einsum("ohwk,ki->oihw", space, channels).astype(np.float32)


def flat(weights):
    """X [P, I] with P = (unit, y, x)."""
    return weights.transpose(0, 2, 3, 1).reshape(-1, weights.shape[1]).astype(np.float64)


def plain_semi_nmf(x, rank, seed, steps=300):
    """Ding, Li & Jordan's multiplicative semi-NMF, x [M, L] ≈ A Bᵀ with A ≥ 0: the yardstick, a few plain lines."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.1, 1, size=(len(x), rank))
    for _ in range(steps):
        b = x.T @ a @ np.linalg.pinv(a.T @ a)
        xb, bb = x @ b, b.T @ b
        up, down = np.maximum, lambda m: np.maximum(-m, 0)
        a *= np.sqrt((up(xb, 0) + a @ down(bb)) / (down(xb) + a @ up(bb, 0) + 1e-12))
    b = x.T @ a @ np.linalg.pinv(a.T @ a)
    return 1 - ((x - a @ b.T) ** 2).sum() / (x**2).sum()


@pytest.fixture(scope="module")
def block(lite0):
    """A real 5×5 block in full form, [112, 112, 5, 5]."""
    return wa.direct_weights(lite0, "blocks.4.1")


@pytest.mark.parametrize("side", ["space", "channels"])
@pytest.mark.parametrize("per_unit", [False, True])
def test_semi_recovers_planted_factors(side, per_unit):
    x = planted(0, 6, 20, 5, 5, 3, side)
    f = wa.factorize(x, 3, side, "semi", per_unit=per_unit, restarts=6, tolerance=1e-7, iterations=2000)
    assert f.explained > 0.999
    assert f.bound == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(f.reconstruct(), x, atol=0.06 * np.abs(x).max())


def test_posneg_recovers_factors_with_separate_signs():
    rng = np.random.default_rng(1)
    space = np.maximum(rng.normal(size=(8, 5, 5, 2)), 0)
    channels = np.zeros((2, 30))
    channels[0, :15], channels[1, 15:] = rng.normal(size=15), rng.normal(size=15)  # [relu C, relu −C] has rank 2
    x = np.einsum("ohwk,ki->oihw", space, channels).astype(np.float32)
    f = wa.factorize(x, 2, "space", "posneg", tolerance=1e-9, iterations=2000)
    assert f.explained > 0.9999
    cosine = np.abs(f.channels @ channels.T) / np.outer(*(np.linalg.norm(c, axis=1) for c in (f.channels, channels)))
    np.testing.assert_allclose(np.sort(cosine.max(axis=1)), 1, atol=1e-3)


@pytest.mark.parametrize("method", ["posneg", "semi"])
@pytest.mark.parametrize("side", ["space", "channels"])
@pytest.mark.parametrize("per_unit", [False, True])
def test_signs_scale_order_and_numbers(method, side, per_unit):
    x = np.random.default_rng(2).normal(size=(5, 12, 3, 4)).astype(np.float32)
    f = wa.factorize(x, 3, side, method, per_unit=per_unit)
    assert f.space.shape == (5, 3, 4, 3)
    assert f.channels.shape == ((5, 3, 12) if per_unit else (3, 12))
    assert (f.space if side == "space" else f.channels).min() >= 0
    assert (f.channels if side == "space" else f.space).min() < 0
    axes = (1, 2) if per_unit else (0, 1, 2)
    np.testing.assert_allclose(np.abs(f.space).max(axis=axes), 1, rtol=1e-5)
    error = ((x - f.reconstruct()) ** 2).sum(axis=(1, 2, 3), dtype=np.float64)
    norm = (x**2).sum(axis=(1, 2, 3), dtype=np.float64)
    assert f.explained == pytest.approx(1 - error.sum() / norm.sum(), abs=1e-5)
    np.testing.assert_allclose(f.unit_explained, 1 - error / norm, atol=1e-5)
    assert f.shares.sum() == pytest.approx(f.explained, abs=1e-5)
    if not per_unit:
        assert (np.diff(f.shares) <= 1e-7).all()
    assert f.explained <= f.bound + 1e-6


def test_shares_are_shapley_values():
    """Against the definition: the mean gain of each factor over all orders in which factors can be added."""
    from itertools import permutations

    x = np.random.default_rng(3).normal(size=(4, 9, 3, 3)).astype(np.float32)
    f = wa.factorize(x, 3, "space", "semi")
    parts = np.einsum("ohwk,ki->koihw", f.space, f.channels).astype(np.float64)

    def value(members):
        rest = x - sum((parts[k] for k in members), np.zeros_like(x))
        return 1 - (rest**2).sum() / (x**2).sum()

    gains = np.zeros(3)
    for order in permutations(range(3)):
        for n, k in enumerate(order):
            gains[k] += (value(order[: n + 1]) - value(order[:n])) / 6
    np.testing.assert_allclose(f.shares, gains, atol=5e-5)  # S and C are single precision


@pytest.mark.parametrize("per_unit", [False, True])
def test_bound_is_the_truncated_svd(per_unit):
    x = np.random.default_rng(4).normal(size=(4, 30, 5, 3)).astype(np.float32)
    f = wa.factorize(x, 3, "none", "svd", per_unit=per_unit)
    problems = x.transpose(0, 2, 3, 1).reshape(4, 15, 30) if per_unit else flat(x)[None]
    energy = np.linalg.svd(problems.astype(np.float64), compute_uv=False) ** 2
    assert f.bound == pytest.approx(energy[:, :3].sum() / energy.sum(), abs=1e-6)
    assert f.explained == pytest.approx(f.bound, abs=1e-5)
    if per_unit:
        np.testing.assert_allclose(f.unit_bound, energy[:, :3].sum(1) / energy.sum(1), atol=1e-6)


def test_bound_of_large_data_is_still_the_svd():
    from weightatlas.factor import solvers

    x = np.random.default_rng(5).normal(size=(12, 1100, 10, 10)) * np.linspace(1, 6, 1100)[:, None, None]
    assert min(1200, 1100) > solvers.EXACT_SIDE
    f = wa.factorize(x.astype(np.float32), 3, method="semi", restarts=1, iterations=2)
    energy = np.linalg.svd(flat(x), compute_uv=False) ** 2
    assert f.bound == pytest.approx(energy[:3].sum() / energy.sum(), rel=2e-3)


def test_per_unit_semi_reaches_the_bound_on_real_kernels(lite0):
    """Goal: within 1 % of the SVD's error at rank 3, for every unit of a trained layer (as the article reads it)."""
    plain = wa.expanded_weights(lite0, "blocks.4.0", "blocks.4.1", gate="identity", skip="exclude")
    f = wa.factorize(plain, 3, "space", "semi", per_unit=True)
    ratio = (1 - f.unit_explained) / (1 - f.unit_bound)
    assert ratio.max() < 1.01
    assert (ratio > 1 - 1e-4).all()


def test_per_unit_semi_on_centre_and_surround(block):
    """With expected gates, centres stand against surrounds: no fit with A ≥ 0 reaches the SVD; ours is the better."""
    some = block.select(range(0, 112, 16))
    f = wa.factorize(some, 3, "space", "semi", per_unit=True, restarts=32)
    plain = [max(plain_semi_nmf(flat(unit[None]), 3, seed, 200) for seed in range(10)) for unit in some.values]
    assert (f.unit_explained > np.array(plain) - 1e-4).all()
    assert (f.unit_explained < f.unit_bound).all()


def test_per_unit_semi_is_near_the_bound_on_noise_too():
    x = np.random.default_rng(0).normal(size=(480, 256, 5, 5)).astype(np.float32)
    f = wa.factorize(x, 3, "space", "semi", per_unit=True)
    assert 1 - 1e-6 < (1 - f.explained) / (1 - f.bound) < 1.01


@pytest.mark.parametrize("side", ["space", "channels"])
def test_joint_semi_beats_twenty_plain_starts(block, side):
    some = block.select(range(0, 112, 4))
    x = flat(some.values)
    oriented = x if side == "space" else x.T
    best = max(plain_semi_nmf(oriented, 3, seed) for seed in range(20))
    assert wa.factorize(some, 3, side, "semi").explained >= best - 1e-4


def test_seeds_and_restarts_agree(block):
    """Rounding must not let a degenerate start win: every seed ends near the best, more starts are not worse."""
    few = [wa.factorize(block, 3, "space", "semi", seed=seed).explained for seed in range(6)]
    many = wa.factorize(block, 3, "space", "semi", restarts=32).explained
    assert max(few) / min(few) < 1.01
    assert many > max(few) - 1e-3


def test_per_unit_semi_with_channels_beats_twenty_plain_starts(block):
    some = block.select([3, 40, 77])
    f = wa.factorize(some, 3, "channels", "semi", per_unit=True, restarts=8, tolerance=1e-6)
    for row, weights in enumerate(some.values):
        best = max(plain_semi_nmf(flat(weights[None]).T, 3, seed) for seed in range(20))
        assert f.unit_explained[row] >= best - 1e-3


@pytest.mark.parametrize("rank", [2, 3, 6])
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_posneg_is_no_worse_than_scikit_learn(block, rank):
    """The NMF error on posneg data of real kernels, unit by unit, best of equal restarts (one spectral, three random).

    Ours is held to it through the signed error ‖X − S (C⁺ − C⁻)ᵀ‖², which is what both are used for.
    """
    some = block.select(range(0, 112, 9))
    ours = wa.factorize(some, rank, "space", "posneg", per_unit=True, restarts=4)
    mine = ((some.values - ours.reconstruct()) ** 2).sum()
    theirs = 0.0
    for weights in some.values:
        x = flat(weights[None])
        split = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=1)
        models = [NMF(rank), *(NMF(rank, init="random", random_state=seed) for seed in range(3))]
        fits = [(m.fit_transform(split), m.components_) for m in models]
        s, c = min(fits, key=lambda fit: ((split - fit[0] @ fit[1]) ** 2).sum())
        theirs += ((x - s @ (c[:, : x.shape[1]] - c[:, x.shape[1] :])) ** 2).sum()
    assert mine <= theirs * 1.005


def test_deterministic_for_a_seed_and_different_for_another(block):
    some = block.select(range(6))
    a, b = (wa.factorize(some, 3, method="posneg", seed=7) for _ in range(2))
    np.testing.assert_array_equal(a.space, b.space)
    np.testing.assert_array_equal(a.channels, b.channels)
    c = wa.factorize(some, 3, method="posneg", seed=8, restarts=2)
    assert not np.array_equal(a.space, c.space)


def test_batch_mates_do_not_matter(block):
    """A unit's own factorization is the same alone and among others, up to rounding."""
    together = wa.factorize(block.select(range(10)), 3, method="semi", per_unit=True)
    alone = wa.factorize(block.select([4]), 3, method="semi", per_unit=True)
    assert together.unit_explained[4] == pytest.approx(alone.unit_explained[0], abs=2e-3)


def test_scaling_weights_scales_channels_only():
    x = np.random.default_rng(6).normal(size=(3, 8, 3, 3)).astype(np.float32)
    base = wa.factorize(x, 2, method="semi")
    for size in (1e-25, 1e-15, 1e15):
        f = wa.factorize((x.astype(np.float64) * size).astype(np.float32), 2, method="semi")
        assert f.explained == pytest.approx(base.explained, abs=1e-4)
        assert np.isfinite(f.channels).all()


def test_units_of_very_different_size_are_all_factorized():
    x = planted(7, 4, 10, 5, 5, 2)
    x *= np.array([1e-18, 1.0, 1e6, 1e12], np.float32)[:, None, None, None]
    f = wa.factorize(x, 2, method="semi", per_unit=True, restarts=6, tolerance=1e-7, iterations=2000)
    np.testing.assert_allclose(f.unit_explained, 1, atol=2e-3)


def test_zero_weights_have_the_trivial_answer():
    for method in ("posneg", "semi"):
        for per_unit in (False, True):
            f = wa.factorize(np.zeros((2, 5, 3, 3), np.float32), 2, method=method, per_unit=per_unit)
            assert (f.explained, f.bound) == (1.0, 1.0)
            assert not f.reconstruct().any()
            assert np.isfinite(f.space).all()
    x = planted(8, 3, 10, 3, 3, 2)
    x[1] = 0
    f = wa.factorize(x, 2, method="semi", per_unit=True)
    assert f.unit_explained[1] == 1
    assert not f.reconstruct()[1].any()


@pytest.mark.parametrize("method", ["posneg", "semi"])
def test_data_of_lower_rank_than_asked(method):
    x = planted(9, 3, 10, 5, 5, 1)
    f = wa.factorize(x, 3, method=method, tolerance=1e-8, iterations=1000)
    assert f.explained == pytest.approx(1, abs=1e-3)
    assert np.isfinite(f.channels).all()


def test_one_position_kernels():
    x = np.random.default_rng(10).normal(size=(6, 9, 1, 1)).astype(np.float32)
    f = wa.factorize(x, 1, method="semi", per_unit=True)
    np.testing.assert_allclose(f.reconstruct(), x, atol=1e-5)
    np.testing.assert_allclose(f.space, 1)
    assert wa.factorize(x, 3, method="semi").space.shape == (6, 1, 1, 3)
    with pytest.raises(ArgumentError, match=r"rank 2 is not among 1 … 1: the data are 1 positions a unit × 9"):
        wa.factorize(x, 2, per_unit=True)


def test_grouped_weights_are_unfolded():
    import torch

    conv = torch.nn.Conv2d(8, 6, 3, groups=2)
    with pytest.warns(wa.WeightAtlasWarning):
        net = wa.load(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), conv))
    w = wa.direct_weights(net, "1")
    a, b = wa.factorize(w, 3, method="semi"), wa.factorize(w.dense().values, 3, method="semi")
    assert a.channels.shape == (3, 8)
    assert a.explained == pytest.approx(b.explained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank 0 is not among 1 … 4"),
        ({"rank": 5}, "rank 5 is not among 1 … 4: the data are 18 positions × 4 source units"),
        ({"rank": 2.0}, "rank 2.0"),
        ({"rank": True}, "rank True"),
        ({"method": "nmf"}, "method='nmf' is none of 'posneg', 'semi', 'svd'"),
        ({"nonnegative": "both"}, "nonnegative='both' is none of"),
        ({"method": "svd"}, "goes with nonnegative='none'"),
        ({"nonnegative": "none"}, "goes with nonnegative='none'"),
        ({"restarts": 0}, "restarts=0"),
        ({"iterations": 0}, "iterations=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(")):
        wa.factorize(np.ones((2, 4, 3, 3), np.float32), **arguments)


@pytest.mark.parametrize("array", [np.ones((3, 3)), np.ones((0, 3, 3, 3)), np.ones((2, 3, 3, 3), int)])
def test_bad_arrays(array):
    with pytest.raises(ArgumentError, match="factorize takes"):
        wa.factorize(array)


def test_not_finite_weights_are_named():
    x = np.ones((4, 4, 3, 3), np.float32)
    x[2, 1, 0, 0], x[3, 0, 0, 0] = np.nan, np.inf
    with pytest.raises(WeightValuesError, match=r"2 of 144 weights .* in 2 of 4 units: target:2, target:3"):
        wa.factorize(x)


def test_depthwise_weights_are_refused():
    net = wa.load("efficientnet_lite0")
    with pytest.raises(ArgumentError, match="is depthwise: each unit reads one source unit"):
        wa.factorize(wa.direct_weights(net, "blocks.4.1.conv_dw"), 1)


def test_an_unknown_device_is_a_clear_error():
    with pytest.raises(ArgumentError, match="device 'nowhere'"):
        wa.factorize(np.ones((2, 4, 3, 3), np.float32), 2, device="nowhere")


@pytest.mark.skipif(not __import__("torch").cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(block):
    for method in ("posneg", "semi"):
        cpu, gpu = (wa.factorize(block, 3, method=method, device=d) for d in ("cpu", "cuda"))
        assert gpu.explained == pytest.approx(cpu.explained, abs=1e-3)
