"""From weights to the numbers of a :class:`~weightatlas.records.Factors`: layout, scale, order, shares and bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import solvers

SAFE = 1e-12, 1e12  # weights whose squares, summed, stay well inside single precision


@torch.inference_mode()
def compute(
    weights: np.ndarray,
    rank: int,
    side: str,
    method: str,
    per_unit: bool,
    effort: tuple[int, int, int, float],
    device: str | torch.device,
) -> dict[str, Any]:
    """Factors of ``[O, I, H, W]``, as the numeric fields of the record.

    Args:
        weights: finite, float32.
        rank, side, method, per_unit, device: as in :func:`weightatlas.factorize`.
        effort: (restarts, seed, iterations, tolerance).
    """
    o, i, h, w = weights.shape
    data, rows, scale = _layout(torch.from_numpy(np.ascontiguousarray(weights)).to(device), per_unit)
    oriented = data.transpose(1, 2) if side == "channels" else data
    known = solvers.spectrum(oriented, rank)
    if method == "svd":
        space, channels = _singular(data, rank)
    else:
        semi = method == "semi"
        found = solvers.semi(oriented, known, rank, *effort) if semi else solvers.posneg(oriented, rank, *effort)
        space, channels = (found.b, found.a) if side == "channels" else (found.a, found.b)
    space, channels, held = _ordered(data, scale, space, channels, o)
    square = scale.double().square()
    size = torch.linalg.vector_norm(rows, dim=1).double().square() * square
    energy = torch.minimum(known.energy * square, size if per_unit else size.sum())
    total = float(size.sum())
    explained = min(float(held.sum()) / total, 1.0) if total > 0 else 1.0
    return dict(
        space=_numpy(space.reshape(o, h, w, rank)),
        channels=_numpy(channels.transpose(1, 2).reshape((o, rank, i) if per_unit else (rank, i))),
        explained=explained,
        bound=max(float(energy.sum()) / total, explained) if total > 0 else 1.0,  # rounding may put them the other way
        shares=_numpy(held.sum(0) / (total or 1.0)),
        unit_explained=_numpy(_ratio(held.sum(1), size)),
        unit_bound=_numpy(_ratio(energy, size)) if per_unit else np.full(o, np.nan, np.float32),
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, 1 where there is nothing."""
    return (part / whole.where(whole > 0, 1)).where(whole > 0, 1)


def _layout(values: Tensor, per_unit: bool) -> tuple[Tensor, Tensor, Tensor]:
    """X ``[U, P, I]``, the same numbers as ``[O, I·H·W]``, and what both were divided by ``[U]``.

    That is 1 unless squares would leave the range of single precision.
    """
    o, i, h, w = values.shape
    rows = values.reshape(o, -1)
    peak = torch.linalg.vector_norm(rows, ord=float("inf"), dim=1)
    peak = peak if per_unit else peak.amax(0, keepdim=True)
    scale = torch.ones_like(peak)
    if not bool(((peak == 0) | ((peak > SAFE[0]) & (peak < SAFE[1]))).all()):
        scale = peak.where(peak > 0, 1)
        rows = rows / scale[:, None]
    if per_unit:
        return rows.reshape(o, i, h * w).transpose(1, 2), rows, scale  # a view; products take it as it is
    return rows.reshape(o, i, h, w).permute(0, 2, 3, 1).reshape(1, o * h * w, i), rows, scale


def _singular(data: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """S ``[U, P, K]`` orthonormal and C ``[U, I, K]`` of the truncated singular value decomposition."""
    left, values, right = torch.linalg.svd(data, full_matrices=False)
    return left[..., :rank], right.transpose(1, 2)[..., :rank] * values[:, None, :rank]


def _ordered(data: Tensor, scale: Tensor, space: Tensor, channels: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factors by falling share, with max |S| = 1 and C in the weights' own size; and what each holds of each unit.

    Factor k holds 2⟨X, sₖcₖᵀ⟩ − ⟨S Cᵀ, sₖcₖᵀ⟩ of ‖X‖²: its Shapley value, so that factors add up to
    ‖X‖² − ‖X − S Cᵀ‖². Returned as ``[O, K]`` in squared weights.

    Factors may be nearly collinear and cancel, so inner products are taken in an orthonormal basis of each unit's maps:
    with S = Q R and P = Qᵀ X, that is ⟨2 P − R Cᵀ, rₖcₖᵀ⟩, and only P [K, I] comes from single precision.
    """
    peak = space.abs().amax(1, keepdim=True)
    space = (space / peak.where(peak > 0, 1)).where(peak > 0, 0)
    channels = (channels * peak).where(peak > 0, 0)
    rank = space.shape[-1]
    basis, r = torch.linalg.qr(space.reshape(units, -1, rank))
    rows = data.reshape(units, -1, data.shape[-1]) if len(data) == 1 else data
    projected = (basis.transpose(1, 2) @ rows).double()
    r, c = r.double(), channels.double()
    held = (r.transpose(1, 2) @ (2 * projected - r @ c.transpose(1, 2)) * c.transpose(1, 2)).sum(2)
    held = held * scale.double().square()[:, None]
    by = held if len(space) == units else held.sum(0, keepdim=True)
    order = by.argsort(dim=1, descending=True, stable=True)
    space, channels = (torch.gather(t, 2, order[:, None].expand_as(t)) for t in (space, channels))
    return space, channels * scale[:, None, None], torch.gather(held, 1, order.expand_as(held))
