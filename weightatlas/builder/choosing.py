"""Which layers and units a figure shows if nobody says: rules over weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, GraphError, UnknownNameError, WeightValuesError
from ..network import Network
from ..records import Hidden, Paths, Weights
from ..weights import expanded_weights, reads

FAMILY = 6  # units
LEAST_UNITS = (8, 2)  # of a layer that figures are made of; the second where there is none with the first
RANKED = 100  # pairs by what cancels, of which the one that cancels the largest share is shown
#: What a network without room for such a figure raises.
CANNOT = (ArgumentError, GraphError, UnknownNameError, WeightValuesError)


@dataclass(frozen=True)
class Span:
    """A layer, what it reads, and how structured its positions are.

    Args:
        target, source: names of layers.
        structure: median over the target's units of :func:`structure`.
    """

    target: str
    source: str
    structure: float


def structure(weights: Weights) -> np.ndarray:
    """How much a unit's weights depend on position in an orderly way, float64 ``[O]``.

    With v(p) a unit's weights over source units at position p: the mean cosine of v at neighbouring positions, less
    that at opposite ones, both weighted by the lengths of v, times the share of squared weights outside the strongest
    position. High where one side differs from the other and each is alike in itself; near 0 for noise.
    """
    sy, sx = (max(int(d), 1) for d in weights.dilation)  # dense() unfolds whole steps
    v = weights.dense().values[..., ::sy, ::sx].astype(np.float64)
    n = np.linalg.norm(v, axis=1)
    down = _alike(v[..., 1:, :], v[..., :-1, :], n[:, 1:], n[:, :-1])
    right = _alike(v[..., 1:], v[..., :-1], n[..., 1:], n[..., :-1])
    opposite = n[:, ::-1, ::-1].copy()
    h, w = n.shape[1:]
    if h % 2 and w % 2:
        opposite[:, h // 2, w // 2] = 0  # the middle is its own opposite
    far = _alike(v, v[..., ::-1, ::-1], n, opposite)
    power = np.square(n)
    whole = power.sum(axis=(1, 2))
    spread = 1 - power.max(axis=(1, 2)) / np.where(whole > 0, whole, 1)
    near = (down[0] + right[0]) / np.where(down[1] + right[1] > 0, down[1] + right[1], 1)
    return (near - far[0] / np.where(far[1] > 0, far[1], 1)) * np.where(whole > 0, spread, 0)


def _alike(a: np.ndarray, b: np.ndarray, length_a: np.ndarray, length_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ of cosines times lengths, which are the dot products, and Σ of lengths; where a length is 0, nothing."""
    both = length_a * length_b
    return np.where(both > 0, np.einsum("oixy,oixy->oxy", a, b), 0).sum(axis=(1, 2)), both.sum(axis=(1, 2))


def spans(net: Network) -> list[Span]:
    """Every layer that reads another one through kernels of more than a position, in order, with its structure.

    These are convolutions, and the smallest blocks around exactly one that has such a kernel, seen as a whole. If there
    is none at all, layers with kernels of one position take their place, with structure 0. Layers have at least eight
    units; where none has, two.
    """
    spatial = [layer.name for layer in net.layers.values() if layer.kernel is not None and max(layer.kernel) > 1]
    dense = [layer.name for layer in net.layers.values() if layer.kind in ("conv", "linear")]
    for names in (dict.fromkeys(whole(net, s) for s in spatial), dense):
        for least in LEAST_UNITS:
            found = [span for name in names if (span := _span(net, name, least))]
            if found:
                return found
    return []


def whole(net: Network, spatial: str) -> str:
    """The smallest block around a convolution, if that is the only one with a spatial kernel in it."""
    around = [b for b in net.layers.values() if spatial in b.inside]
    if not around:
        return spatial
    block = min(around, key=lambda b: len(b.inside))
    kernels = [net.layers[name].kernel for name in block.inside]
    return block.name if sum(k is not None and max(k) > 1 for k in kernels) == 1 else spatial


def _span(net: Network, name: str, least: int) -> Span | None:
    """A layer with its structure; ``None`` if it is too small, or its weights from what it reads cannot be had."""
    layer = net.layers[name]
    try:
        source = reads(net, name)
    except ArgumentError:
        return None
    if source not in net.layers or min(layer.units, net.layers[source].units) < least:
        return None
    try:
        weights = expanded_weights(net, source, name, skip="exclude")
        weights.require_finite()
    except CANNOT:
        return None
    if weights.at is not None or weights.values.shape[1] == 1 or not weights.values.any():
        return None  # depthwise convolutions read one unit each
    several = min(weights.values.shape[2:]) > 1
    return Span(name, source, float(np.median(structure(weights))) if several else 0.0)


def family(weights: Weights, size: int = FAMILY) -> list[int]:
    """Units that read the same sources, however arranged: the tightest group by cosine of their strengths.

    A unit's profile is the L2 norm of its map over each source unit, less the layer's mean profile. The group is the
    unit whose nearest ``size − 1`` units are most alike it, and these.
    """
    values = weights.dense().values.astype(np.float64)
    profile = np.sqrt(np.square(values).sum(axis=(2, 3)))
    length = np.linalg.norm(profile, axis=1, keepdims=True)
    profile = profile / np.where(length > 0, length, 1)
    profile -= profile.mean(axis=0)
    length = np.linalg.norm(profile, axis=1, keepdims=True)
    unit = profile / np.where(length > 0, length, 1)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    count = min(size - 1, len(alike) - 1)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    if not count:
        return weights.units[:1].tolist()
    tight = np.take_along_axis(alike, nearest, axis=1).mean(axis=1)
    first = int(tight.argmax())
    return [int(weights.units[r]) for r in (first, *nearest[first])]


def sources_of(weights: Weights, units: Sequence[int], count: int) -> list[int]:
    """The source units with most squared weight on some units together, strongest first."""
    power = np.square(weights.select(units).dense().values, dtype=np.float64).sum(axis=(0, 2, 3))
    order = np.argsort(-power, kind="stable")[:count]
    return [int(weights.source_indices[i]) for i in order if power[i] > 0]


def varies(weights: Weights) -> bool:
    """Whether weights differ from position to position; those on what is pooled as a whole do not."""
    values = weights.values
    return bool(np.ptp(values, axis=(2, 3)).max(initial=0) > 1e-5 * np.abs(values).max(initial=0))


def structured_unit(weights: Weights) -> int:
    """The unit whose positions are most structured."""
    return int(weights.units[int(structure(weights).argmax())])


def strongest_pair(weights: Weights) -> tuple[int, int]:
    """(target, source) numbers of the connection that holds the largest share of its target's squared weights."""
    power = np.square(weights.dense().values, dtype=np.float64).sum(axis=(2, 3))
    whole = power.sum(axis=1, keepdims=True)
    share = power / np.where(whole > 0, whole, 1)
    row, column = np.unravel_index(int(share.argmax()), share.shape)
    return int(weights.units[row]), int(weights.source_indices[column])


def most_cancelled(paths: Paths) -> Hidden:
    """Of the hundred pairs of units that lose most influence, the one that loses the largest share of its own.

    Raises:
        ArgumentError: if there is no pair at all.
    """
    pairs = paths.hidden(RANKED)
    if not pairs:
        raise ArgumentError(f"no path leads from {paths.source!r} to {paths.target!r} through {paths.middle!r}")
    return max(pairs, key=lambda p: p.cancellation)


def most_structured(found: Sequence[Span]) -> Span:
    """The span with the highest structure; the first of equals.

    Raises:
        ArgumentError: if there is none.
    """
    if not found:
        raise ArgumentError(
            f"there are no two layers of at least {LEAST_UNITS[-1]} units, one reading the other through weights that "
            "can be multiplied out, are finite and not all 0"
        )
    return max(found, key=lambda span: span.structure)


def held(weights: Weights, rank: int) -> np.ndarray:
    """The share of each unit's squared weights that ``rank`` factors can hold at most, float64 ``[O]``."""
    v = weights.dense().values
    o, i, h, w = v.shape
    values = np.square(np.linalg.svd(v.reshape(o, i, h * w), compute_uv=False), dtype=np.float64)
    whole = values.sum(axis=1)
    return values[:, :rank].sum(axis=1) / np.where(whole > 0, whole, np.inf)


def held_together(weights: Weights, rank: int) -> float:
    """The share of all squared weights that ``rank`` factors shared by all units can hold at most."""
    v = weights.dense().values
    values = np.linalg.eigvalsh(np.einsum("oiyx,ojyx->ij", v, v, optimize=True, dtype=np.float64))
    return float(values[-rank:].sum() / values.sum()) if values.sum() > 0 else 0.0


def simplified(near: np.ndarray, far: np.ndarray, least: float) -> int:
    """The place at which a share grows most from near to far, among those where it is at least ``least`` far away.

    Where it is nowhere, among all.
    """
    enough = far >= least
    return int(np.where(enough if enough.any() else True, far - near, -np.inf).argmax())


def far_back(net: Network, target: str, unit: int, side: int = 15) -> str:
    """The nearest earlier layer on which a unit's expanded weights are at least so many squares wide, or the farthest.

    Raises:
        ArgumentError: if the target reads no layer.
    """
    source, found = reads(net, target), ""
    while source in net.layers:
        try:
            weights = expanded_weights(net, source, target, [unit], skip="exclude")
        except CANNOT:
            break
        if weights.at is not None:
            break
        found = source
        if min(weights.values.shape[2:]) >= side:
            break
        source = reads(net, source)
    if not found:
        raise ArgumentError(f"{target!r} reads no layer of {net.name} from which weights can be multiplied out")
    return found
