"""One-sided non-negative factorization, batched over units and restarts.

Both methods look for A ≥ 0 and B with Y ≈ A Bᵀ, where

    Y [U, M, L]      data: U problems side by side, the non-negative factor's axis M first
    A [U, R, M, K]   the non-negative factor, R restarts
    B [U, R, L, K]   the other factor

``semi``    B is free. For fixed A it is Yᵀ A (AᵀA)⁻¹, so A alone is searched for. All that is ever needed is
            Y Yᵀ A: through the Gram matrix Y Yᵀ [M, M] where M ≤ L, else as Y (Yᵀ A).
``posneg``  B = B⁺ − B⁻, from the ordinary NMF  [relu Y, relu −Y] ≈ A [B⁺; B⁻]ᵀ  with everything ≥ 0.

Columns are updated one at a time (hierarchical alternating least squares; Cichocki & Phan 2009) and extrapolated
along their last change, which restarts where it fails (Ang & Gillis 2019); semi-NMF is Ding, Li & Jordan 2010, the
first start is NNDSVD (Boutsidis & Gallopoulos 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-9  # floor while searching: a column of zeros could not come back
RIDGE = 1e-5  # on the diagonal of AᵀA, relative: columns that nearly coincide and cancel must not look good
MOMENTUM = (0.3, 1.1, 0.95)  # first extrapolation, growth while it helps, ceiling
CHECK_EVERY = 3  # sweeps between looks at convergence
EXACT_SIDE = 1024  # up to this size singular values come from an exact eigendecomposition
OVERSAMPLING, POWER_STEPS = 16, 24
SUBSPACE_STEPS = 8
PROJECTIONS = 10  # into the cone, before the search
INNER = 2  # sweeps over A for one costly product with the data

Factors = tuple[Tensor, ...]
#: Maps (data, factors) to (share of the squared norm that these factors hold ``[U, R]``, better factors).
Step = Callable[[Factors, Factors], tuple[Tensor, Factors]]


@dataclass
class Solution:
    """The best restart of every problem: A ``[U, M, K]`` and B ``[U, L, K]``."""

    a: Tensor
    b: Tensor


@dataclass
class Spectrum:
    """What the singular value decomposition of the data tells.

    Args:
        gram: ``Y Yᵀ [U, M, M]`` where that is the smaller side, else ``None``.
        left: leading left singular vectors ``[U, M, K]``.
        energy: sum of the K largest squared singular values ``[U]``: no rank-K product holds more.
    """

    gram: Tensor | None
    left: Tensor
    energy: Tensor


def spectrum(y: Tensor, rank: int) -> Spectrum:
    """Leading singular vectors and energy of ``[U, M, L]``, from the smaller Gram matrix.

    Sides above ``EXACT_SIDE`` are left to randomised subspace iteration, one problem at a time.
    """
    _u, m, length = y.shape
    if min(m, length) > EXACT_SIDE:
        pairs = [_large(x, rank) for x in y]
        return Spectrum(None, torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    gram = y @ y.transpose(1, 2) if m <= length else y.transpose(1, 2) @ y
    energy, vectors = _leading(gram, rank)
    if m <= length:
        return Spectrum(gram, vectors, energy)
    left = y @ vectors
    return Spectrum(None, left / left.norm(dim=1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny), energy)


def _leading(gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Sum of the largest eigenvalues ``[U]``, exact, and their vectors ``[U, M, K]``.

    LAPACK takes a batch one by one, and values alone cost a third; for many problems the vectors, which only have to
    be a good start, come from a few steps of subspace iteration in one batch.
    """
    if len(gram) == 1:
        values, vectors = torch.linalg.eigh(gram)
        return values[:, -rank:].double().sum(1), vectors.flip(-1)[..., :rank]
    energy = torch.linalg.eigvalsh(gram)[:, -rank:].double().sum(1)
    generator = torch.Generator().manual_seed(0)
    basis = (
        torch.randn(gram.shape[1], rank, generator=generator, dtype=gram.dtype)
        .to(gram.device)
        .expand(len(gram), -1, -1)
    )
    for _ in range(SUBSPACE_STEPS):
        basis = torch.linalg.qr(gram @ basis)[0]
    rotation = torch.linalg.eigh(basis.transpose(1, 2) @ gram @ basis)[1].flip(-1)
    return energy, basis @ rotation


def _large(y: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[y.device] if y.is_cuda else []):
        torch.manual_seed(0)
        left, values, _ = torch.svd_lowrank(y, q=min(rank + OVERSAMPLING, *y.shape), niter=POWER_STEPS)
    return left[:, :rank], values[:rank].double().square().sum()


def semi(
    y: Tensor, known: Spectrum, rank: int, restarts: int, seed: int, iterations: int, tolerance: float
) -> Solution:
    """Min ‖Y − A Bᵀ‖² with A ≥ 0 and B free.

    Args:
        y: ``[U, M, L]``, finite.
        known: its spectrum.
        rank, restarts, seed: as in :func:`weightatlas.factorize`.
        iterations: at most so many sweeps.
        tolerance: a problem is done when no restart gained more than this share of its squared norm in three sweeps.
    """
    gram = known.gram

    def step(data: Factors, factors: Factors) -> tuple[Tensor, Factors]:
        (a,), norms = factors, data[-1]
        yya = times(data[0], a) if gram is not None else times(data[0], times(data[0].transpose(1, 2), a))
        inverse = _inverse(a.transpose(-1, -2) @ a)
        yb = yya @ inverse
        inner = a.transpose(-1, -2) @ yb
        held = inner.diagonal(dim1=-2, dim2=-1).sum(-1) / norms
        return held, (sweep(a, yb, inverse @ inner),)

    first = starts(known.left, _side(known.left), rank, restarts, seed)
    first[:, 0] = _into_cone(first[:, 0], known.left)
    data = (gram if gram is not None else y, _norm(y))
    (a,) = _search(step, data, (first,), iterations, tolerance)
    a = a / a.amax(1, keepdim=True)
    a = torch.where(a > 4 * TINY, a, 0)
    return Solution(a, _free_factor(y, a))


def posneg(y: Tensor, rank: int, restarts: int, seed: int, iterations: int, tolerance: float) -> Solution:
    """NMF of ``[relu Y, relu −Y]``: A ≥ 0 and B = B⁺ − B⁻, as the article factorizes. Arguments as in :func:`semi`."""
    split = torch.cat([y.clamp_min(0), (-y).clamp_min(0)], dim=2)

    def step(data: Factors, factors: Factors) -> tuple[Tensor, Factors]:
        (whole, norms), (a, b) = data, factors
        cross, b_gram = times(whole, b), b.transpose(-1, -2) @ b
        held = (2 * (cross * a).sum((-1, -2)) - ((a.transpose(-1, -2) @ a) * b_gram).sum((-1, -2))) / norms
        for _ in range(INNER):
            a = sweep(a, cross, b_gram)
        return held, (a, sweep(b, times(whole.transpose(1, 2), a), a.transpose(-1, -2) @ a))

    left = spectrum(split, rank).left
    a = starts(left, _side(left, split.transpose(1, 2) @ left), rank, restarts, seed)
    cross, gram = times(split.transpose(1, 2), a), a.transpose(-1, -2) @ a
    b = (cross @ _inverse(gram)).clamp_min(TINY)
    for _ in range(INNER):
        b = sweep(b, cross, gram)
    a, b = _search(step, (split, _norm(y)), (a, b), iterations, tolerance)
    peak = a.amax(1, keepdim=True)
    a, b = a / peak, b * peak
    a, b = torch.where(a > 4 * TINY, a, 0), torch.where(b > 4 * TINY, b, 0)
    length = y.shape[2]
    return Solution(a, b[:, :length] - b[:, length:])


def _search(step: Step, data: Factors, first: Factors, iterations: int, tolerance: float) -> Factors:
    """Repeats a step with extrapolation; problems that have settled leave the batch. Returns the best restarts."""
    u, r = first[0].shape[:2]
    device = first[0].device
    held = torch.full((u, r), -torch.inf, dtype=first[0].dtype, device=device)
    done = [torch.empty((u, *f.shape[2:]), dtype=f.dtype, device=device) for f in first]
    alive = torch.arange(u, device=device)
    now = last = best = first
    pace = torch.zeros((u, r, 1, 1), dtype=first[0].dtype, device=device)
    before = held
    for count in range(1, iterations + 2):
        share, new = step(data, now)
        gained = share > held
        mask = gained[..., None, None]
        best = tuple(torch.where(mask, n, b) for n, b in zip(now, best, strict=True))
        held = torch.maximum(held, share)
        if count == 1:
            before = held
        elif count % CHECK_EVERY == 1 or count > iterations:
            moving = (held - before).amax(1) > tolerance
            if count > iterations or not moving.any():
                break
            if not moving.all():
                for out, factor in zip(done, best, strict=True):
                    out[alive[~moving]] = _winners(factor, held)[~moving]
                data, now, new, last, best = (tuple(t[moving] for t in ts) for ts in (data, now, new, last, best))
                alive, held, pace, mask = alive[moving], held[moving], pace[moving], mask[moving]
            before = held
        pace = torch.where(mask, (pace * MOMENTUM[1] + MOMENTUM[0]).clamp_max(MOMENTUM[2]), 0)
        now = tuple(torch.lerp(o, n, 1 + pace).clamp_min_(TINY) for o, n in zip(last, new, strict=True))
        last = new
    for out, factor in zip(done, best, strict=True):
        out[alive] = _winners(factor, held)
    return tuple(done)


def _winners(factor: Tensor, held: Tensor) -> Tensor:
    """The restart that holds most, ``[U, R, ·, K]`` → ``[U, ·, K]``."""
    return factor[torch.arange(len(factor), device=factor.device), held.argmax(1)]


def _norm(y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(y, dim=(1, 2)).square()[:, None].clamp_min(torch.finfo(y.dtype).tiny)


def times(y: Tensor, a: Tensor) -> Tensor:
    """``Y A`` for all restarts in one product: ``[U, M, L]``, ``[U, R, L, K]`` → ``[U, R, M, K]``."""
    u, r, length, k = a.shape
    if r == 1:
        return torch.bmm(y, a[:, 0])[:, None]
    flat = a.permute(0, 2, 1, 3).reshape(u, length, r * k)
    return torch.bmm(y, flat).view(u, y.shape[1], r, k).transpose(1, 2)


def sweep(a: Tensor, target: Tensor, gram: Tensor) -> Tensor:
    """One pass over the columns: each becomes the best non-negative one while the others stay.

    Args:
        a: ``[U, R, M, K]``.
        target: ``Y B [U, R, M, K]``.
        gram: ``BᵀB [U, R, K, K]``.
    """
    k = a.shape[-1]
    size = gram.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(a.dtype).tiny)[..., None, :]
    others = (gram / size).flatten(0, 1)
    others.diagonal(dim1=-2, dim2=-1).zero_()
    target = (target / size).flatten(0, 1)
    new = a.flatten(0, 1).clone(memory_format=torch.contiguous_format)
    for j in range(k):
        rest = torch.baddbmm(target[..., j : j + 1], new, others[..., j : j + 1], alpha=-1)
        new[..., j : j + 1] = rest.clamp_min_(TINY)
    return new.view(a.shape)


def _inverse(gram: Tensor) -> Tensor:
    """The inverse of AᵀA ``[..., K, K]`` with a small ridge, computed in double precision.

    What factors hold is then slightly underestimated. Without the ridge, rounding overestimates it for columns that
    nearly coincide, and such starts would win.
    """
    exact = gram.double()
    exact.diagonal(dim1=-2, dim2=-1).mul_(1 + RIDGE)
    return torch.linalg.inv_ex(exact)[0].to(gram.dtype)


def _side(left: Tensor, right: Tensor | None = None) -> Tensor:
    """Whether the positive part of each singular pair holds more than the negative, ``[U, 1, K]``."""
    up, down = left.clamp_min(0).norm(dim=1, keepdim=True), left.clamp_max(0).norm(dim=1, keepdim=True)
    if right is not None:
        up = up * right.clamp_min(0).norm(dim=1, keepdim=True)
        down = down * right.clamp_max(0).norm(dim=1, keepdim=True)
    return up >= down


def starts(vectors: Tensor, side: Tensor, rank: int, restarts: int, seed: int) -> Tensor:
    """First guesses ``[U, R, M, K]``: one from the leading singular vectors, the others uniform at random.

    Random numbers are drawn on the CPU, so that every device starts alike.
    """
    u, m, found = vectors.shape
    generator = torch.Generator().manual_seed(seed)
    guess = torch.rand((u, restarts, m, rank), generator=generator, dtype=vectors.dtype).to(vectors.device)
    spectral = torch.where(side, vectors, -vectors).clamp_min(0)
    guess[:, 0, :, :found] = spectral + 0.25 / m**0.5  # lifted off zero: a corner is hard to leave
    return guess / guess.amax(-2, keepdim=True)


def _into_cone(a: Tensor, left: Tensor) -> Tensor:
    """Columns moved towards the leading singular subspace and the non-negative orthant in turn.

    Where the two meet in K independent directions, the bound itself is reached, and this comes close at the cost of
    two small products a step; where they do not, the search goes on from here.
    """
    for _ in range(PROJECTIONS):
        a = torch.bmm(left, torch.bmm(left.transpose(1, 2), a)).clamp_min_(TINY)
    return a / a.amax(1, keepdim=True)


def _free_factor(y: Tensor, a: Tensor) -> Tensor:
    """B = Yᵀ A (AᵀA)⁻¹ ``[U, L, K]``; the K × K system, which may be nearly singular, in double precision."""
    gram = (a.transpose(1, 2) @ a).double()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += 1e-10 * diagonal.mean(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return y.transpose(1, 2) @ (a.double() @ torch.linalg.inv_ex(gram)[0]).to(y.dtype)
