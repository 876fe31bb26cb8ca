"""What an activation makes of a normal input: its expected slope, and the moments of what comes out, per channel.

z ~ N(μ, σ²) goes into the activation f; u = (z − μ) / σ; φ, Φ: the normal density and its integral; ``C`` channels.
Where f is straight, f(z) = o + b·z for u in [l, h], everything is closed::

    P = Φ(h) − Φ(l)        M = φ(l) − φ(h)        S = P + l φ(l) − h φ(h)             (∫ φ, ∫ u φ, ∫ u² φ)
    E f′ = Σ b P           E f = Σ (o + bμ) P + bσ M
    Var f = Σ (o + bμ − E f)² P + 2 (o + bμ − E f) bσ M + b²σ² S

Where it is curved (each f here is straight far enough out), Gauss-Legendre sums over panels short for f and for φ.
Closed as well, with a = μ/σ, r = √(1 + σ²) and k ELU's input scale::

    ELU  E f′ = scale · (Φ(a) + α k e^{kμ + k²σ²/2} Φ(−a − kσ))        GELU  E f′ = Φ(μ/r) + φ(μ/r) μ / r³
    exp  E f′ = E f = e^{μ + σ²/2}        hardswish  E f′ = (μ/3 + ½) P + σ/3 M + Φ((μ − 3)/σ), P and M over |z| < 3

f′ is autograd's: 0 for ReLU at 0, and nothing for a jump (hardshrink, most thresholds).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError

Given = dict[str, Any]  # arguments
Line = tuple[Any, Any]  # offset, slope
Closed = Callable[[Tensor, Tensor], Tensor]

FAR = 40.0  # |u| beyond which φ is 0 in double precision
#: Panels in u, within which φ is a polynomial of degree 31 to 1e-16, and beyond which it holds 1e-19.
NORMAL = (-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0)
#: Panels in z, the same for sigmoids and their like (e^{−44} < 1e-19; their poles lie π/2 or more off the axis).
LOGISTIC = (-44.0, -24.0, -12.0, -6.0, -4.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 12.0, 24.0, 44.0)
NODES = [torch.tensor(v, dtype=torch.float64, device="cpu") for v in np.polynomial.legendre.leggauss(16)]
CHUNK = 4096  # channels summed at a time, some 12 MB an array
SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946  # α, scale (Klambauer et al. 2017)


@dataclasses.dataclass(frozen=True)
class _Curve:
    """f as straight pieces between knots; with a grid there are three, and the middle one is curved."""

    knots: Tensor  # [pieces + 1, 1], from −∞ to ∞
    offsets: Tensor  # [straight pieces, 1]
    slopes: Tensor  # [straight pieces, 1 or C]
    grid: Tensor | None = None  # panel edges in the curved piece, its ends among them
    slope: Closed | None = None  # E f′, if closed


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device="cpu")


def _straight(knots: Sequence[float], *lines: Line) -> _Curve:
    """Pieces (offset, slope), one more than the knots between them."""
    slopes = torch.stack(torch.broadcast_tensors(*(_tensor(b).reshape(-1) for _, b in lines)))
    return _Curve(_tensor([-math.inf, *knots, math.inf])[:, None], _tensor([[o] for o, _ in lines]), slopes)


def _curved(left: Line, right: Line, grid: Sequence[float] = LOGISTIC, slope: Closed | None = None) -> _Curve:
    """Straight beyond the ends of the grid, curved between them."""
    return dataclasses.replace(_straight((grid[0], grid[-1]), left, right), grid=_tensor(grid), slope=slope)


def _clamp(low: float | None, high: float | None) -> _Curve:
    top = math.inf if high is None else high
    bottom = min(-math.inf if low is None else low, top)  # as PyTorch: the upper bound wins
    outer = [(value if math.isfinite(value) else 0.0, 0) for value in (bottom, top)]
    return _straight((bottom, top), outer[0], (0, 1), outer[1])


def _leaky(slope: Any) -> _Curve:
    return _straight((0,), (0, slope), (0, 1))


def _softplus(beta: float, threshold: float) -> _Curve:
    if beta <= 0:
        raise ArgumentError(f"softplus needs a positive beta, not {beta:g}")
    return _curved((0, 0), (0, 1), [min(edge, threshold) / beta for edge in LOGISTIC])


def _elu(alpha: float, scale: float, k: float) -> _Curve:
    if k <= 0:
        raise ArgumentError(f"ELU and CELU need a positive input scale (CELU: 1 / alpha), not {k:g}")

    def slope(mean: Tensor, deviation: Tensor) -> Tensor:
        a, spread = mean / deviation, k * deviation
        t = a + spread  # two forms of one number, neither of which overflows on its side
        outside = torch.exp(-a.square() / 2) * torch.special.erfcx(t / math.sqrt(2)) / 2
        inside = torch.exp(k * mean + spread.square() / 2) * _normal(-t)
        return scale * (_normal(a) + alpha * k * torch.where(t > 0, outside, inside))

    return _curved((-alpha * scale, 0), (0, scale), [edge / k for edge in LOGISTIC if edge <= 0], slope)


def _gelu(approximate: str) -> _Curve:
    def slope(mean: Tensor, deviation: Tensor) -> Tensor:
        r = torch.hypot(torch.ones_like(deviation), deviation)
        return _normal(mean / r) + _density(mean / r) * mean / r**3

    return _curved((0, 0), (0, 1), slope=slope if approximate == "none" else None)


RAMP = _straight((-3, 3), (0, 0), (0.5, 1 / 3), (1, 0))  # hardswish′
#: From an operator's name and its arguments, in the order of ATen's schema, to its shape.
CURVES: dict[str, Callable[..., _Curve]] = {
    "relu": lambda: _straight((0,), (0, 0), (0, 1)),
    "relu6": lambda: _clamp(0, 6),
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": lambda low: _clamp(low, None),
    "clamp_max": lambda high: _clamp(None, high),
    "leaky_relu": _leaky,
    "rrelu": lambda lower, upper, *_: _leaky((lower + upper) / 2),
    "prelu": _leaky,
    "abs": lambda: _straight((0,), (0, -1), (0, 1)),
    "threshold": lambda threshold, value: _straight((threshold,), (value, 0), (0, 1)),
    "hardshrink": lambda edge: _straight((-max(edge, 0), max(edge, 0)), (0, 1), (0, 0), (0, 1)),
    "softshrink": lambda edge: _straight((-edge, edge), (edge, 1), (0, 0), (-edge, 1)),
    "hardsigmoid": lambda: _straight((-3, 3), (0, 0), (0.5, 1 / 6), (1, 0)),
    "hardswish": lambda: _curved((0, 0), (0, 1), (-3, 3), lambda *z: _expected(RAMP, *z)[0]),
    "elu": _elu,
    "selu": lambda: _elu(*SELU, 1),
    "celu": lambda alpha: _elu(alpha, 1, 1 / alpha if alpha else 0),
    "gelu": _gelu,
    **dict.fromkeys(("silu", "mish"), lambda: _curved((0, 0), (0, 1))),
    "sigmoid": lambda: _curved((0, 0), (1, 0)),
    "tanh": lambda: _curved((-1, 0), (1, 0)),
    "softplus": _softplus,
    "log_sigmoid": lambda: _curved((0, 1), (0, 0)),
    "exp": lambda: _curved((0, 0), (0, 0), slope=lambda mean, deviation: torch.exp(mean + deviation.square() / 2)),
}
#: Operators that are another one with other clothes on.
SAME = {"_prelu_kernel": "prelu", "log_sigmoid_forward": "log_sigmoid"} | {
    f"{name}_": name for name in CURVES if hasattr(torch.ops.aten, f"{name}_")
}
#: Operators known here, as ATen names them.
POINTWISE: frozenset[str] = frozenset(f"aten.{name}.default" for name in (*CURVES, *SAME))


def is_pointwise(name: str) -> bool:
    """Whether ``name``, e.g. ``"aten.relu.default"``, is an activation known here."""
    return name in POINTWISE


def expected_slope(
    operator: str, mean: Tensor, deviation: Tensor, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Tensor:
    """E f′(z) per channel for z ~ N(mean, deviation²), ``[C]`` in the mean's type.

    Where the deviation is 0 it is f′(mean), as autograd has it. NaN stays in its channel.

    Args:
        operator: an activation by its ATen name; see :data:`POINTWISE`.
        mean: of the activation's input, ``[C]``.
        deviation: of the same, ``[C]``; its sign does not matter.
        args, kwargs: what the operator was called with after its input.

    Raises:
        ArgumentError: for an operator not known here, arguments it does not take, and shapes that do not agree.
    """
    name, given = _read(operator, args, kwargs)
    curve, m, s, still = _prepared(name, given, mean, deviation)
    flat = _Curve(curve.knots, curve.slopes, torch.zeros_like(curve.slopes), curve.grid)  # f′
    found = curve.slope(m, s) if curve.slope else _expected(flat, m, s, lambda z: _derivative(name, given, z))[0]
    if bool(still.any()):
        found = torch.where(still, slopes(operator, m[None], args, kwargs)[0], found)
    return found.to(mean)


def propagated(
    operator: str, mean: Tensor, deviation: Tensor, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of f(z) per channel for z ~ N(mean, deviation²), two ``[C]`` in the mean's type.

    Args and errors as in :func:`expected_slope`.
    """
    name, given = _read(operator, args, kwargs)
    curve, m, s, still = _prepared(name, given, mean, deviation)
    if name == "exp":  # log-normal
        first, square = torch.exp(m + s.square() / 2), s.square()
        spread = torch.exp(m + square + torch.log(-torch.expm1(-square)) / 2)
    else:
        first = _expected(curve, m, s, lambda z: _call(name, given, z))[0]
        spread = _expected(curve, m, s, lambda z: _call(name, given, z), first)[1].clamp(min=0).sqrt()
    if bool(still.any()):
        first, spread = torch.where(still, _call(name, given, m[None])[0], first), spread.where(~still, 0)
    return first.to(mean), spread.to(mean)


def slopes(operator: str, z: Tensor, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Tensor:
    """f′(z) of every element of ``z [N, C, ...]``, in its shape and type, as autograd has it.

    Args and errors as in :func:`expected_slope`.
    """
    name, given = _read(operator, args, kwargs)
    if name == "relu":
        return (z > 0).to(z.dtype)
    if name in ("relu6", "hardtanh"):
        low, high = given.values() or (0, 6)
        return ((z > low) & (z < high)).to(z.dtype)
    if name in ("leaky_relu", "prelu"):
        (slope,) = (torch.as_tensor(value, dtype=z.dtype, device=z.device) for value in given.values())
        return torch.where(z > 0, z.new_ones(()), slope.reshape(-1, *(1,) * (z.ndim - 2)))
    return _derivative(name, given, z)


def _read(operator: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[str, Given]:
    """The functional operator behind a name, and all of its arguments after the input, in the schema's order."""
    if operator not in POINTWISE:
        near = ", ".join(difflib.get_close_matches(operator, sorted(POINTWISE), n=3)) or "aten.relu.default"
        raise ArgumentError(f"the slope of {operator!r} is not known; known are activations by their ATen name: {near}")
    name = operator.split(".")[1]
    name = SAME.get(name, name)
    formal = getattr(torch.ops.aten, name).default._schema.arguments[1:]
    names = [argument.name for argument in formal]
    given = {argument.name: argument.default_value for argument in formal if argument.has_default_value()}
    given |= dict(zip(names, args, strict=False)) | dict(kwargs or {})
    if len(args) > len(names) or given.keys() != set(names):
        raise ArgumentError(f"{operator} takes ({', '.join(names)}) after its input, not {(*args, kwargs or {})}")
    if given.get("training"):
        raise ArgumentError(f"{operator} draws its slope while training; put the network in evaluation mode")
    return name, {key: v.detach().flatten() if isinstance(v := given[key], Tensor) else v for key in names}


def _prepared(name: str, given: Given, mean: Tensor, deviation: Tensor) -> tuple[_Curve, Tensor, Tensor, Tensor]:
    """The curve; mean and deviation in double precision; where the deviation is 0, which becomes 1."""
    if mean.ndim != 1 or mean.shape != deviation.shape:
        raise ArgumentError(f"means {list(mean.shape)} and deviations {list(deviation.shape)} must both be [C]")
    curve = CURVES[name](*given.values())
    if curve.slopes.shape[1] > 1 and curve.slopes.shape[1] != len(mean):
        raise ArgumentError(f"aten.{name}.default has {curve.slopes.shape[1]} slopes, for {len(mean)} channels")
    m, s = (values.detach().cpu().double() for values in (mean, deviation.abs()))
    m, s = m + 0 * s, s + 0 * m  # NaN in either is NaN in both
    still = s == 0
    return curve, m, s.masked_fill(still, 1), still


def _call(name: str, given: Given, z: Tensor) -> Tensor:
    """f(z) by the operator itself."""
    own = {key: value.to(z) if isinstance(value, Tensor) else value for key, value in given.items()}
    return getattr(torch.ops.aten, name).default(z, **own)


def _derivative(name: str, given: Given, z: Tensor) -> Tensor:
    """f′(z) by the operator's own backward."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = (z.clone() if z.is_inference() else z).detach().requires_grad_()
        return torch.autograd.grad(_call(name, given, leaf).sum(), leaf)[0]


def _density(u: Tensor) -> Tensor:
    return torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)


def _normal(u: Tensor) -> Tensor:
    return torch.special.erfc(u * -math.sqrt(0.5)) / 2  # special.ndtr loses all digits below u = −8


def _expected(
    curve: _Curve, mean: Tensor, deviation: Tensor, of: Callable[[Tensor], Tensor] = torch.zeros_like, centre: Any = 0.0
) -> Tensor:
    """E (g − centre) and E (g − centre)², ``[2, C]``: g is straight where the curve says so, elsewhere ``of(z)``."""
    ends = ((curve.knots - mean) / deviation).clamp(-FAR, FAR)
    density, below, above = _density(ends), _normal(ends), _normal(-ends)
    mass = torch.where(ends[:-1] > 0, -above.diff(dim=0), below.diff(dim=0))  # never 1 − 1
    first = -density.diff(dim=0)
    second = mass - (ends * density).diff(dim=0)
    if curve.grid is not None:
        mass, first, second = mass[::2], first[::2], second[::2]
    at, step = curve.offsets + curve.slopes * mean - centre, curve.slopes * deviation
    square = at.square() * mass + 2 * at * step * first + step.square() * second
    total = torch.stack([at * mass + step * first, square]).sum(1)
    if curve.grid is None:
        return total
    sums = []
    for m, s, c in zip(*(v[:, None].split(CHUNK) for v in (mean, deviation, mean * 0 + centre)), strict=True):
        u, weight = _nodes(curve.grid, m, s)
        g = of(m + s * u) - c
        sums.append(torch.stack([(weight * g).sum(1), (weight * g.square()).sum(1)]))
    return total + torch.cat(sums, 1)


def _nodes(grid: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Where to look, in u, and the weight of each place, φ included, ``[C, panels · 16]``; means are ``[C, 1]``."""
    curve = ((grid - mean) / deviation).clamp(NORMAL[0], NORMAL[-1])
    edges = torch.cat([curve, _tensor(NORMAL).expand(len(mean), -1)], 1).clamp(curve[:, :1], curve[:, -1:])
    edges = edges.sort(1).values[..., None]
    half = edges.diff(dim=1) / 2
    u = ((edges[:, :-1] + half) + half * NODES[0]).flatten(1)
    return u, (half * NODES[1]).flatten(1) * _density(u)
