"""``factorize``: the article's one-sided NMF and its least-squares optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import ArgumentError
from ..records import Factors, Weights

if TYPE_CHECKING:
    import torch

Side = Literal["space", "channels", "none"]
Method = Literal["posneg", "semi", "svd"]

JOINT_RESTARTS, UNIT_RESTARTS = 8, 1
ITERATIONS = {"semi": 200, "posneg": 400}
JOINT_TOLERANCE, UNIT_TOLERANCE = 1e-5, {"semi": 5e-4, "posneg": 1e-5}


def factorize(
    weights: Weights | np.ndarray,
    rank: int = 3,
    nonnegative: Side = "space",
    method: Method = "posneg",
    *,
    seed: int = 0,
    per_unit: bool = False,
    restarts: int | None = None,
    iterations: int | None = None,
    tolerance: float | None = None,
    device: str | torch.device | None = None,
) -> Factors:
    """Factors ``X ≈ S Cᵀ`` of weights, in which one of the two is non-negative.

    ``X [P, I]`` holds the weights with (unit, y, x) flattened to P. All units are factorized together, so that a factor
    (a colour) means the same direction over source units in every unit; ``per_unit`` gives each unit its own.

    Args:
        weights: :class:`Weights`, or an array ``[O, I, H, W]``.
        rank: number of factors K.
        nonnegative: ``"space"`` makes S ≥ 0 (maps that can be shown as light, Figure 1); ``"channels"`` makes C ≥ 0
            (directions that can be visualized, with signed maps, Figure 7); ``"none"`` goes with ``method="svd"``.
        method: ``"posneg"``, the article's: ordinary NMF of [relu X, relu −X], side by side along the axis whose
            factor stays signed. ``"semi"``: the least-squares optimum, min ‖X − S Cᵀ‖². ``"svd"``: truncated singular
            value decomposition, both factors signed.
        seed: of the random starts; results are repeatable for a seed on one device.
        per_unit: factorize every unit on its own, all in one batch.
        restarts: starts of which the best is kept; default 8 jointly, 1 per unit. The first one is spectral.
        iterations: at most so many sweeps over the factors; default 200 (semi) or 400 (posneg).
        tolerance: a problem is done when no restart gained more than this share of its squared norm in three sweeps;
            default 1e-5 jointly, 5e-4 per unit with semi.
        device: where to compute, default the CPU.

    Returns:
        Factors, ordered by the share they explain, with what a truncated SVD of equal rank reaches beside it.

    Raises:
        ArgumentError: for a rank the data cannot have, unknown methods, arguments that do not go together, or
            depthwise weights, which have one source unit each and therefore nothing to reduce.
        WeightValuesError: for NaN or infinite weights, with the units that hold them.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 1 and 7; Ding, Li & Jordan, "Convex and
    Semi-Nonnegative Matrix Factorizations", 2010.

    Example:
        >>> import weightatlas as wa
        >>> w = wa.direct_weights(wa.load("efficientnet_lite0"), "blocks.4.1")
        >>> wa.factorize(w, rank=3, method="semi", per_unit=True).space.shape
        (112, 5, 5, 3)
    """
    from .algebra import compute

    given = weights if isinstance(weights, Weights) else _as_weights(weights)
    restarts = restarts if restarts is not None else UNIT_RESTARTS if per_unit else JOINT_RESTARTS
    if tolerance is None:
        tolerance = UNIT_TOLERANCE.get(method, 0) if per_unit else JOINT_TOLERANCE
    _check(given, rank, nonnegative, method, per_unit, restarts, iterations)
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ArgumentError(f"seed={seed!r} is no integer")
    where = _device(device)
    values = (given.dense() if given.groups > 1 else given).values
    effort = (restarts, seed, iterations or ITERATIONS.get(method, 0), tolerance)
    numbers = compute(values, rank, nonnegative, method, per_unit, effort, where)
    return Factors(
        **numbers,
        **{name: getattr(given, name) for name in ("source", "target", "units", "source_units", "provenance")},
        nonnegative=nonnegative,
        method=method,
        per_unit=per_unit,
        seed=seed,
        restarts=restarts,
    )


def _device(device: str | torch.device | None) -> torch.device:
    import torch

    try:
        where = torch.device(device or "cpu")
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three for absent devices
        raise ArgumentError(
            f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}. device=None computes on the CPU"
        ) from error
    return where


def _as_weights(values: Any) -> Weights:
    array = np.asarray(values)
    if array.ndim != 4 or 0 in array.shape:
        raise ArgumentError(
            f"factorize takes Weights or an array [O, I, H, W]; an array of shape {array.shape} came in"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise ArgumentError(f"factorize takes floating-point weights, not {array.dtype}")
    o, i = array.shape[:2]
    return Weights(array, "source", "target", np.arange(o), source_units=i, target_units=o)


def _check(
    w: Weights, rank: int, side: str, method: str, per_unit: bool, restarts: int, iterations: int | None
) -> None:
    for name, value, allowed in (("nonnegative", side, get_args(Side)), ("method", method, get_args(Method))):
        if value not in allowed:
            raise ArgumentError(f"{name}={value!r} is none of {', '.join(map(repr, allowed))}")
    if (method == "svd") != (side == "none"):
        raise ArgumentError(
            f"method={method!r} with nonnegative={side!r}: singular vectors have no non-negative side, so "
            "method='svd' goes with nonnegative='none', and only with it"
        )
    if w.depthwise:
        raise ArgumentError(
            f"{w.target!r} is depthwise: each unit reads one source unit, so there are no channels to reduce. "
            "Show its maps as they are, or factorize the block around it"
        )
    o, _, h, width = w.values.shape
    positions = h * width * (1 if per_unit else o)
    most = min(positions, w.source_units)
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank <= most:
        what = f"{positions} positions" + (" a unit" if per_unit else "")
        raise ArgumentError(f"rank {rank} is not among 1 … {most}: the data are {what} × {w.source_units} source units")
    if restarts < 1 or (iterations is not None and iterations < 1):
        raise ArgumentError(f"restarts={restarts} and iterations={iterations} must be at least 1")
    w.require_finite()
