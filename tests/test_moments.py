"""Expected slopes and moments of activations against numerical integration, autograd, sampling and each other."""

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.special import expit, log_expit, ndtr

from weightatlas.errors import ArgumentError
from weightatlas.weights import moments
from weightatlas.weights.moments import POINTWISE, expected_slope, is_pointwise, propagated, slopes

GRID = np.array(
    list(itertools.product((0.0, 0.73, -2.45, 6.25, -40.0, 1e3, -1e3), (1e-8, 1e-3, 0.3, 1.0, 4.0, 60.0, 1e3)))
).T
SELU_A, SELU_S = 1.6732632423543772, 1.0507009873554805
SCALES = np.array([-50.0, -20, -10, -5, -2, -0.5, 0.5, 2, 5, 10, 20, 50])  # where the smooth ones bend


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))


def gelu_tanh(z):
    z = np.clip(z, -1e4, None)
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def gelu_tanh_slope(z):
    t = np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))
    return (1 + t) / 2 + z / 2 * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)


def mish_slope(z):
    t = np.tanh(softplus(z))
    return t + z * (1 - t**2) * expit(z)


def bell(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def down(z, k=1.0):
    """exp kz left of 0."""
    return np.exp(k * np.minimum(z, 0))


def soft(beta, threshold):
    return (
        lambda z: np.where(beta * z > threshold, z, softplus(beta * z) / beta),
        lambda z: np.where(beta * z > threshold, 1.0, expit(beta * z)),
    )


def elu(alpha, scale, k):
    return (
        lambda z: scale * np.where(z > 0, z, alpha * np.expm1(k * np.minimum(z, 0))),
        lambda z: scale * np.where(z > 0, 1.0, alpha * k * down(z, k)),
    )


def clip(low, high):
    return lambda z: np.clip(z, low, high), lambda z: ((z > low) & (z < high)) * 1.0


def leaky(slope):
    return lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope)


def outside(edge, shift):
    """Hard and soft shrinkage."""
    return lambda z: np.where(abs(z) > edge, z - shift * np.sign(z), 0), lambda z: (abs(z) > edge) * 1.0


SOFT, SILU = soft(1, 20), (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)))
#: name, arguments, keywords, (f, f′), kinks. Written out by hand, from the definitions.
CASES = [
    ("relu", (), {}, leaky(0), [0]),
    ("relu6", (), {}, clip(0, 6), [0, 6]),
    ("hardtanh", (), {}, clip(-1, 1), [-1, 1]),
    ("hardtanh", (0.0, 6.0), {}, clip(0, 6), [0, 6]),
    ("hardtanh", (), {"max_val": 0.01}, clip(-1, 0.01), [-1, 0.01]),
    ("clamp", (-2, 0.5), {}, clip(-2, 0.5), [-2, 0.5]),
    ("clamp", (None, 2), {}, clip(-np.inf, 2), [2]),
    ("clamp", (), {"min": -3.0}, clip(-3, np.inf), [-3]),
    ("clamp", (2, -1), {}, (lambda z: 0 * z - 1, lambda z: 0 * z), []),
    ("clamp_min", (0.5,), {}, clip(0.5, np.inf), [0.5]),
    ("clamp_max", (0.5,), {}, clip(-np.inf, 0.5), [0.5]),
    ("leaky_relu", (), {}, leaky(0.01), [0]),
    ("leaky_relu", (-0.3,), {}, leaky(-0.3), [0]),
    ("rrelu", (0.1, 0.3), {}, leaky(0.2), [0]),
    ("prelu", (torch.tensor([0.25]),), {}, leaky(0.25), [0]),
    ("_prelu_kernel", (torch.tensor([0.25]),), {}, leaky(0.25), [0]),
    ("abs", (), {}, leaky(-1), [0]),
    ("threshold", (0.5, 0.5), {}, clip(0.5, np.inf), [0.5]),
    ("threshold", (-1.0, 2.0), {}, (lambda z: np.where(z > -1, z, 2.0), lambda z: (z > -1) * 1.0), [-1]),
    ("hardshrink", (), {}, outside(0.5, 0), [-0.5, 0.5]),
    ("softshrink", (1.5,), {}, outside(1.5, 1.5), [-1.5, 1.5]),
    ("hardsigmoid", (), {}, (lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: (abs(z) < 3) / 6), [-3, 3]),
    (
        "hardswish",
        (),
        {},
        (lambda z: z * np.clip(z / 6 + 0.5, 0, 1), lambda z: np.where(abs(z) < 3, z / 3 + 0.5, z > 0)),
        [-3, 3],
    ),
    ("elu", (), {}, elu(1, 1, 1), [0]),
    ("elu", (0.7, 1.3), {"input_scale": 2.5}, elu(0.7, 1.3, 2.5), [0]),
    ("selu", (), {}, elu(SELU_A, SELU_S, 1), [0]),
    ("celu", (), {}, elu(1, 1, 1), [0]),
    ("celu", (0.05,), {}, elu(0.05, 1, 20), [-2, -0.2, 0]),
    ("celu", (8.0,), {}, elu(8, 1, 0.125), [-160, -80, -20, 0]),
    ("gelu", (), {}, (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * bell(z)), []),
    ("gelu", (), {"approximate": "tanh"}, (gelu_tanh, gelu_tanh_slope), []),
    ("silu", (), {}, SILU, []),
    ("mish", (), {}, (lambda z: z * np.tanh(softplus(z)), mish_slope), []),
    ("sigmoid", (), {}, (expit, lambda z: expit(z) * expit(-z)), []),
    ("tanh", (), {}, (np.tanh, lambda z: 4 * expit(2 * z) * expit(-2 * z)), []),
    ("softplus", (), {}, SOFT, [20]),
    ("softplus", (4.0, 3.0), {}, soft(4, 3), [-4, -1, 0, 0.3, 0.75]),
    ("softplus", (0.1,), {"threshold": 100}, soft(0.1, 100), [-400, -200, -100, 0, 100, 200, 400]),
    ("log_sigmoid", (), {}, (log_expit, lambda z: expit(-z)), []),
    ("log_sigmoid_forward", (), {}, (log_expit, lambda z: expit(-z)), []),
]
INCREASING = {  # bounds of the slope
    "relu": (0, 1),
    "relu6": (0, 1),
    "hardtanh": (0, 1),
    "leaky_relu": (0.01, 1),
    "hardsigmoid": (0, 1 / 6),
    "softshrink": (0, 1),
    "elu": (0, 1),
    "selu": (0, SELU_A * SELU_S),
    "sigmoid": (0, 0.25),
    "tanh": (0, 1),
    "softplus": (0, 1),
    "log_sigmoid": (0, 1),
}
JUMPS = [("threshold", (-1.0, 2.0)), ("hardshrink", ()), ("softplus", (4.0, 3.0))]
NEEDED = {
    "prelu": (torch.tensor([0.3, -0.2, 0.0]),),
    "threshold": (0.1, 0.4),
    "clamp": (-0.5, 0.7),
    "clamp_min": (0.25,),
    "clamp_max": (0.25,),
}
EVERY = sorted(POINTWISE)
ids = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]


def aten(name):
    return f"aten.{name}.default"


def needed(operator):
    """Arguments without which an operator cannot be called, for three channels."""
    name = operator.split(".")[1]
    return NEEDED.get("prelu" if name == "_prelu_kernel" else name.removesuffix("_"), ())


def integral(g, kinks, mean, deviation):
    """∫ g(z) N(z; mean, deviation²) dz by the tanh-sinh rule, broken at kinks, [C]."""
    breaks = (np.concatenate([SCALES, kinks]) - mean[:, None]) / deviation[:, None]
    breaks = np.concatenate([breaks, np.tile([-13.0, -5, -1, 1, 5, 13], (len(mean), 1))], 1).clip(-13, 13)
    breaks.sort(axis=1)
    m, s = mean[:, None], deviation[:, None]
    done = integrate.tanhsinh(
        lambda u, m, s: g(m + s * u) * bell(u), breaks[:, :-1], breaks[:, 1:], args=(m, s), rtol=1e-13, atol=1e-18
    )
    return done.integral.sum(1)


def both(mean, deviation, dtype=torch.float64):
    return torch.as_tensor(mean, dtype=dtype), torch.as_tensor(deviation, dtype=dtype)


def autograd(operator, z, args):
    """f′ by PyTorch's functional operator; and f."""
    name = operator.split(".")[1]
    name = {"_prelu_kernel": "prelu", "log_sigmoid_forward": "log_sigmoid"}.get(name, name.removesuffix("_"))
    leaf = z.clone().requires_grad_()
    own = [a.to(z) if isinstance(a, torch.Tensor) else a for a in args]
    value = getattr(torch.ops.aten, name).default(leaf, *own)
    value.sum().backward()
    return leaf.grad, value.detach()


@pytest.mark.parametrize(("name", "args", "kwargs", "functions", "kinks"), CASES, ids=ids)
def test_slopes_and_moments_are_the_integrals(name, args, kwargs, functions, kinks):
    f, slope = functions
    with np.errstate(over="ignore"):
        wanted = integral(slope, kinks, *GRID)
        first = integral(f, kinks, *GRID)
        # centred channel by channel: a square of differences keeps its digits
        spread = np.sqrt(
            [integral(lambda z, c=c: (f(z) - c) ** 2, kinks, *GRID[:, [i]])[0] for i, c in enumerate(first)]
        )
    found = expected_slope(aten(name), *both(*GRID), args, kwargs).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    mean, deviation = (t.numpy() for t in propagated(aten(name), *both(*GRID), args, kwargs))
    np.testing.assert_allclose(mean, first, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(deviation, spread, rtol=1e-9, atol=1e-9)


def test_the_exponential_is_log_normal():
    mean, deviation = np.array([0.0, -3.0, 2.0, -100.0]), np.array([1e-8, 1.0, 2.0, 20.0])
    slope = expected_slope(aten("exp"), *both(mean, deviation)).numpy()
    first, spread = (t.numpy() for t in propagated(aten("exp"), *both(mean, deviation)))
    np.testing.assert_allclose(slope, np.exp(mean + deviation**2 / 2), rtol=1e-12)
    np.testing.assert_allclose(first, slope)
    np.testing.assert_allclose(spread / first, np.sqrt(np.expm1(deviation**2)), rtol=1e-12)
    assert propagated(aten("exp"), *both([1.0], [0.0]))[1].item() == 0


def test_every_operator_known_is_real_and_tested():
    assert {aten(name) for name, *_ in CASES} | {aten("exp")} == {o for o in POINTWISE if not o.endswith("_.default")}
    for operator in EVERY:
        name = operator.split(".")[1]
        assert str(getattr(torch.ops.aten, name).default) == operator
        assert is_pointwise(operator)
    assert aten("relu_") in POINTWISE
    assert not is_pointwise("aten.convolution.default")


@pytest.mark.parametrize("operator", EVERY)
def test_elementwise_slopes_are_autograds(operator):
    torch.manual_seed(0)
    args = needed(operator)
    z = 3 * torch.randn(2, 3, 4, 5)
    z[0, 0, 0] = torch.tensor([0.0, 6.0, -1.0, 0.25, 0.5])  # kinks
    own = [a[:, None, None] if operator == aten("_prelu_kernel") else a for a in args]  # as PyTorch calls it
    found = slopes(operator, z, own)
    assert found.shape == z.shape
    assert found.dtype == z.dtype
    assert not found.requires_grad
    torch.testing.assert_close(found, autograd(operator, z, args)[0], rtol=1e-6, atol=1e-7)
    with torch.inference_mode():
        torch.testing.assert_close(slopes(operator, z.clone(), own), found)
    torch.testing.assert_close(slopes(operator, z[:, :, 0, 0].double(), args), found[:, :, 0, 0].double())


@pytest.mark.parametrize("operator", EVERY)
def test_a_constant_input_has_the_slope_there(operator):
    mean, still, args = *both([0.0, 6.0, -1.0], [0.0, 0.0, 0.0]), needed(operator)
    slope, value = (t[0] for t in autograd(operator, mean[None], args))
    torch.testing.assert_close(expected_slope(operator, mean, still, args), slope)
    first, spread = propagated(operator, mean, still, args)
    torch.testing.assert_close(first, value)
    assert spread.tolist() == [0, 0, 0]
    # and some channels constant, others not
    mixed = expected_slope(operator, mean, still + torch.tensor([1.0, 0.0, 2.0]), args)
    assert mixed[1] == slope[1]
    torch.testing.assert_close(mixed[0], expected_slope(operator, mean, still + 1, args)[0])


@pytest.mark.parametrize("operator", EVERY)
def test_not_a_number_stays_in_its_channel(operator):
    nan, args = float("nan"), needed(operator)
    mean, deviation = torch.tensor([nan, 0.5, 0.3]), torch.tensor([0.0, nan, -0.4])
    for found in (expected_slope(operator, mean, deviation, args), *propagated(operator, mean, deviation, args)):
        assert found.isnan().tolist() == [True, True, False]
    same = expected_slope(operator, mean, deviation.abs(), args)  # γ may be negative
    torch.testing.assert_close(expected_slope(operator, mean, deviation, args), same, equal_nan=True)


def test_relu_and_relu6_are_as_planned():
    beta, gamma = torch.randn(600), torch.randn(600)
    normal = torch.distributions.Normal(0, 1)
    torch.testing.assert_close(expected_slope(aten("relu"), beta, gamma), normal.cdf(beta / gamma.abs()))
    wanted = normal.cdf((6 - beta) / gamma.abs()) - normal.cdf(-beta / gamma.abs())
    torch.testing.assert_close(expected_slope(aten("relu6"), beta, gamma), wanted, rtol=1e-5, atol=1e-6)


def test_the_far_tail_of_relu_keeps_its_digits():
    a = -np.array([5.0, 8.4, 20.0, 35.0])
    first = propagated(aten("relu"), *both(a, np.ones(4)))[0].numpy()
    # φ(a) (1 − |a| Mills(|a|)), from the asymptotic series of Mills' ratio
    mills = [integrate.quad(lambda t, x=-x: t * np.exp(-x * t - t * t / 2), 0, 40 / -x, epsabs=0)[0] for x in a]
    np.testing.assert_allclose(first, bell(a) * mills, rtol=1e-6)


def test_prelu_has_a_slope_per_channel():
    mean, deviation = torch.tensor([0.4, -1.0, 3.0]), torch.tensor([1.0, 2.0, 0.5])
    weight = torch.nn.Parameter(torch.tensor([0.1, 0.5, -2.0]))
    found = expected_slope(aten("prelu"), mean, deviation, (weight,))
    carried = propagated(aten("prelu"), mean, deviation, [weight])
    for i, slope in enumerate(weight.tolist()):
        one = slice(i, i + 1)
        torch.testing.assert_close(found[one], expected_slope(aten("leaky_relu"), mean[one], deviation[one], (slope,)))
        for a, b in zip(carried, propagated(aten("leaky_relu"), mean[one], deviation[one], (slope,)), strict=True):
            torch.testing.assert_close(a[one], b)
    assert not found.requires_grad
    z = torch.randn(2, 3)
    torch.testing.assert_close(slopes(aten("prelu"), z, (weight,)), torch.where(z > 0, 1.0, weight.detach()))


@pytest.mark.parametrize("name", ["hardswish", "silu", "elu", "hardshrink"])
def test_sampling_agrees(name):
    mean, deviation = both([-1.0, 0.2, 3.0], [1.5, 0.4, 2.0])
    z = mean + deviation * torch.randn(400_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = slopes(aten(name), z).mean(0)
    torch.testing.assert_close(seen, expected_slope(aten(name), mean, deviation), rtol=0, atol=4e-3)
    value = autograd(aten(name), z, ())[1]
    first, spread = propagated(aten(name), mean, deviation)
    torch.testing.assert_close(value.mean(0), first, rtol=0, atol=1.5e-2)
    torch.testing.assert_close(value.std(0), spread, rtol=1e-2, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(name, args, kwargs) for name, args, kwargs, *_ in CASES if (name, args) not in JUMPS]),
    st.floats(-20, 20),
    st.floats(0.2, 50),
)
def test_the_slope_is_how_the_mean_moves(case, mean, deviation):
    name, args, kwargs = case
    h = 1e-3 * deviation  # five points: an error of h⁴ times the fifth derivative
    ahead, _ = propagated(aten(name), *both(mean + h * np.array([-2, -1, 1, 2]), [deviation] * 4), args, kwargs)
    moved = float(ahead @ torch.tensor([1.0, -8, 8, -1], dtype=torch.float64)) / (12 * h)
    assert expected_slope(aten(name), *both([mean], [deviation]), args, kwargs).item() == pytest.approx(moved, abs=1e-8)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(INCREASING)),
    st.floats(-1e3, 1e3),
    st.floats(-8, 3).map(lambda e: 10**e),
    st.floats(0, 5),
)
def test_slopes_of_increasing_functions_keep_their_bounds(name, mean, deviation, further):
    low, high = INCREASING[name]
    mean, deviation = both([mean, mean + further], [deviation, deviation])
    slope = expected_slope(aten(name), mean, deviation)
    assert ((slope >= low - 1e-12) & (slope <= high + 1e-12)).all()
    first, spread = propagated(aten(name), mean, deviation)
    assert first[0] <= first[1] + 1e-12 * (1 + first.abs().max())
    assert (spread <= high * deviation * (1 + 1e-9) + 1e-12).all()  # as for any function of this slope
    # Chernoff and Cacoullos: Var f ≥ σ² (E f′)² for z normal
    assert (spread >= deviation * slope * (1 - 1e-9) - 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_come_back_as_they_went_in(dtype):
    mean, deviation = both([0.5, -0.25], [1.0, 2.0], dtype)
    for operator in (aten("relu"), aten("silu"), aten("elu")):
        wanted = expected_slope(operator, mean.double(), deviation.double())
        with torch.inference_mode():
            found = expected_slope(operator, mean.clone(), deviation.clone())
            carried = propagated(operator, mean.clone(), deviation.clone())
        assert {t.dtype for t in (found, *carried)} == {dtype}
        torch.testing.assert_close(found, wanted.to(dtype))
    with torch.inference_mode():  # nothing made in here may be saved for a backward
        still, weight = both([0.0, 0.0], [0.5, 0.25], dtype)
        assert expected_slope(aten("prelu"), mean, still, (weight,)).tolist() == [1, 0.25]
        assert slopes(aten("prelu"), mean[None], (weight,)).tolist() == [[1, 0.25]]
    assert expected_slope(aten("silu"), torch.zeros(0), torch.zeros(0)).shape == (0,)


def test_more_channels_than_are_summed_at_a_time():
    mean, deviation = torch.randn(9000), torch.rand(9000)
    found = expected_slope(aten("silu"), mean, deviation)
    assert found.shape == (9000,)
    torch.testing.assert_close(found[8990:], expected_slope(aten("silu"), mean[8990:], deviation[8990:]))
    for many, few in zip(
        propagated(aten("silu"), mean, deviation), propagated(aten("silu"), mean[-9:], deviation[-9:]), strict=True
    ):
        torch.testing.assert_close(many[-9:], few)


def test_sixteen_layers_take_milliseconds():
    mean, deviation = torch.randn(600), torch.rand(600)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(16):
            expected_slope(aten("relu6"), mean, deviation)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.5  # it is 5 ms; a loop over channels would take seconds


def test_errors_say_what_came_and_what_would_do():
    one = torch.ones(2)
    for call in (
        lambda o: expected_slope(o, one, one),
        lambda o: propagated(o, one, one),
        lambda o: slopes(o, torch.ones(1, 2)),
    ):
        with pytest.raises(ArgumentError, match=r"'aten\.rellu\.default'.*aten\.relu\.default"):
            call("aten.rellu.default")
        with pytest.raises(ArgumentError, match=r"threshold\.default takes \(threshold, value\)"):
            call(aten("threshold"))
    with pytest.raises(ArgumentError, match=r"relu\.default takes \(\) after its input, not \(3, \{\}\)"):
        expected_slope(aten("relu"), one, one, (3,))
    with pytest.raises(ArgumentError, match=r"gelu\.default takes \(approximate\)"):
        slopes(aten("gelu"), one, kwargs={"approx": "none"})
    with pytest.raises(ArgumentError, match=r"means \[2\] and deviations \[3\]"):
        expected_slope(aten("relu"), one, torch.ones(3))
    with pytest.raises(ArgumentError, match=r"means \[1, 2\]"):
        propagated(aten("relu"), one[None], one[None])
    with pytest.raises(ArgumentError, match="3 slopes, for 2 channels"):
        expected_slope(aten("prelu"), one, one, (torch.ones(3),))
    with pytest.raises(ArgumentError, match="training"):
        expected_slope(aten("rrelu"), one, one, (0.1, 0.3, True))
    for name, args in (("softplus", (0,)), ("celu", (0.0,)), ("celu", (-1.0,)), ("elu", (1, 1, -2))):
        with pytest.raises(ArgumentError, match="positive"):
            expected_slope(aten(name), one, one, args)


def test_the_constants_are_pytorchs():
    alpha, scale = moments.SELU
    z = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    wanted = scale * torch.where(z > 0, z, alpha * torch.expm1(z))
    torch.testing.assert_close(torch.selu(z), wanted, rtol=1e-15, atol=0)
