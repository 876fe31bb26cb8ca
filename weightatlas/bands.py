"""Weight banding: horizontal stripes in the spatial maps of late layers.

For the kernels w [n, H, W] of a layer,

    row share    = Σ_n Var_y(mean_x w) / Σ_n Var_yx(w)        (population variances, 0 … 1)
    column share = the same with the axes exchanged

Both follow from one H·W × H·W matrix, M = Σ_n (w − mean w)(w − mean w)ᵀ: with R the average over rows,
row share = tr(R M) / tr(M). A permutation of positions only permutes M, so thousands cost little.

Source: Petrov, Voss, Schubert, Cammarata, Goh, Olah, "Weight Banding", Distill, 2021.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .errors import ArgumentError
from .network import INPUT, Network
from .records import Banding, BandRow, Layer
from .weights import direct_weights

#: A layer is banded if its row share exceeds its column share by this much, and by this much more than is usual …
MARGIN = 0.1
#: … and by this many robust deviations more than is usual in the layers before, once there are enough of them.
DEVIATIONS = 3.0
ENOUGH_LAYERS = 3
MAD_TO_DEVIATION = 1.4826  # median absolute deviation of a normal distribution
INTERVAL = 0.95
NAN_SHARES = (float("nan"), float("nan"))


def banding(net: Network, layers: list[str] | None = None, *, permutations: int = 2000, seed: int = 0) -> Banding:
    """Weight banding of every layer with a spatial kernel, in network order.

    A layer is ``banded`` if its row share lies above the permutation interval, and exceeds its column share by more
    than 0.1 and by more than is usual in the layers before it: the median there plus three robust deviations, at least
    plus 0.1 (with fewer than three such layers, the largest plus 0.1; the first has nothing to stand out from). Layers
    already found banded do not count as usual. Layers that see pixels are listed apart and never judged: their kernels
    are oriented edge and colour filters, stripes by trade.

    Args:
        net: an open network, or a checkpoint.
        layers: names, default all convolutions whose kernel is larger than one position in both directions.
        permutations: of the positions for the interval; one permutation moves all kernels of a layer alike, so the
            interval asks whether *rows* are special among all groupings of positions.
        seed: of the permutations.

    Returns:
        One row per layer, with shares of the raw weights; batch norm is not folded in, since a share is about shape.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: for a layer without a spatial kernel, or if there is none at all.

    Example:
        >>> import weightatlas as wa
        >>> wa.banding(wa.load("efficientnet_lite0")).banded
        ['blocks.6.0.conv_dw']
    """
    if permutations < 1:
        raise ArgumentError(f"permutations={permutations} must be at least 1")
    spatial = [layer for layer in net.layers.values() if _is_spatial(layer)]
    chosen = [net.layers[name] for name in layers] if layers is not None else spatial
    flat = [layer.name for layer in chosen if not _is_spatial(layer)]
    if flat or not chosen:
        names = ", ".join(layer.name for layer in spatial[:4]) or "none"
        what = f"{flat[0]!r} has" if flat else f"{net.name} has"
        raise ArgumentError(f"{what} no kernel larger than 1 in both directions; layers that have one: {names}")
    first = spatial[0].name
    rows: list[BandRow] = []
    for layer in chosen:
        row = _measure(net, layer, permutations, seed)
        row = row if row.apart else dataclasses.replace(row, apart=_apart(net, layer, first))
        rows.append(dataclasses.replace(row, banded=not row.apart and _stands_out(row, rows)))
    return Banding(tuple(rows), seed, permutations, net.provenance)


def _is_spatial(layer: Layer) -> bool:
    return layer.kernel is not None and min(layer.kernel) > 1


def _apart(net: Network, layer: Layer, first: str) -> str:
    if layer.source == INPUT:
        return "sees pixels: its kernels are edge and colour filters, striped for another reason"
    if net.module is None and not layer.source and layer.name == first:
        return "first spatial layer of a checkpoint: taken to see pixels"
    return ""


def kernel_shares(kernels: np.ndarray) -> tuple[float, float]:
    """(row share, column share) of kernels ``[n, H, W]``; NaN if none of them varies.

    Example:
        >>> import numpy as np
        >>> kernel_shares(np.array([[[1.0, 1, 1], [0, 0, 0], [2, 2, 2]]]))
        (1.0, 0.0)
    """
    kernels = kernels.astype(np.float64)
    total = kernels.var(axis=(1, 2)).sum()
    if not total > 0:
        return NAN_SHARES
    rows, columns = kernels.mean(axis=2).var(axis=1).sum(), kernels.mean(axis=1).var(axis=1).sum()
    return float(rows / total), float(columns / total)


def _measure(net: Network, layer: Layer, permutations: int, seed: int) -> BandRow:
    weights = direct_weights(net, layer.name, fold_norm=False).values
    h, w = weights.shape[2:]
    kernels = weights.reshape(-1, h, w)
    finite = np.isfinite(kernels).all(axis=(1, 2))
    row_share, column_share = kernel_shares(kernels) if finite.all() else NAN_SHARES
    interval, apart = NAN_SHARES, ""
    if not finite.all():
        apart = f"{int((~finite).sum())} of {len(kernels)} kernels hold NaN or infinity"
    elif not np.isfinite(row_share):
        apart = "no kernel varies"
    else:
        interval = _permutation_interval(kernels, permutations, seed)
    return BandRow(
        layer=layer.name,
        row_share=row_share,
        column_share=column_share,
        chance=(h - 1) / (h * w - 1),
        column_chance=(w - 1) / (h * w - 1),
        interval=interval,
        banded=False,
        kernel=(h, w),
        kernels=len(kernels),
        stride=layer.stride or (1, 1),
        apart=apart,
    )


def _permutation_interval(kernels: np.ndarray, permutations: int, seed: int) -> tuple[float, float]:
    """Central 95 % of the row share over random groupings of the positions into H rows of W."""
    n, h, w = kernels.shape
    flat = kernels.reshape(n, h * w).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    moment = flat.T @ flat
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(h * w), (permutations, 1)), axis=1).reshape(permutations, h, w)
    groups = np.zeros((permutations, h, h * w))
    np.put_along_axis(groups, orders, 1.0, axis=2)
    between = np.einsum("prk,prk->p", groups @ moment, groups) / w  # tr(R M) for every grouping
    edge = (1 - INTERVAL) / 2
    low, high = np.quantile(between / np.trace(moment), [edge, 1 - edge])
    return float(low), float(high)


def _stands_out(row: BandRow, before: list[BandRow]) -> bool:
    """Whether rows stand out from chance, from columns, and from what is usual in the layers before."""
    excess = row.row_share - row.column_share
    earlier = np.array([r.row_share - r.column_share for r in before if not (r.apart or r.banded)])
    if not (row.row_share > row.interval[1] and excess > MARGIN and len(earlier)):
        return False
    if len(earlier) < ENOUGH_LAYERS:  # too few for a spread: above all of them
        return bool(excess > earlier.max() + MARGIN)
    usual = np.median(earlier)
    spread = MAD_TO_DEVIATION * np.median(np.abs(earlier - usual))
    return bool(excess > usual + max(MARGIN, DEVIATIONS * spread))
