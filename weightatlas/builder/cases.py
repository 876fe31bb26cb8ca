"""The different ways in which one unit comes to fire: gradients of many examples, factored into a few cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, WeightValuesError
from ..factor import factorize
from ..factor.cones import rays
from ..lens import Example, Photos, gradients, photos_from, reads_alike, unit_maps
from ..lens.mapping import checked_progress
from ..network import INPUT, Network, place, unit_place
from ..records import GradientCases, checked_count
from ..weights import Window, reads, window

EXAMPLES = 256
MOST_PER_IMAGE = 16
MOST_BYTES = 2**31  # of gradients that are held
#: Called with examples done and examples in all.
Progress = Callable[[int, int], None]


def gradient_cases(
    net: Network,
    source: str | None,
    target: str,
    images: Any,
    k: int = 2,
    *,
    examples: int = EXAMPLES,
    per_image: int | None = None,
    seed: int = 0,
    batch: int = 8,
    progress: Progress | None = None,
) -> GradientCases:
    """The ways in which a unit comes to fire: its gradients on many examples as mixtures of k cases ``[K, I, H, W]``.

    An expanded weight is a mean over cases: of a unit that fires for an edge and for its opposite it is near zero. Here
    each example keeps its own gradient, and examples that have the same one are a case.

    Args:
        net: an open network with its architecture.
        source: a layer before the target, or ``"input"``; ``None`` for what the target reads.
        target: a unit, ``"layer:unit"``. Of an activation layer (ReLU and its like) the pre-activation is
            differentiated, as an activation that is cut off above has no gradient.
        images: files, folders, arrays, a tensor, or an iterable of images, as for :func:`weightatlas.activations`.
        k: number of cases.
        examples: how many pairs of an image and a position at most: those at which the unit's value is largest, and
            above 0, whatever kind of layer it is of: elsewhere it does not fire.
        per_image: at most so many of one image, no two of them neighbours; default as many as it takes to come to
            ``examples``, up to 16. Where the unit fires at positions whose window lies inside the source grid, only
            these are taken.
        seed: of the factorization.
        batch: images, and examples, that are run at once.
        progress: called with examples done and examples in all.

    Returns:
        Cases, largest share first. Each gradient is scaled to length 1 before, so that every example counts the same
        however steep the network is there, and a share reads as a share of examples. The factorization is semi-NMF
        (``factorize(method="semi")``); of the factors that hold equally much, those with the shortest mixtures are
        taken, so that opposite cases do not cancel. Examples without any gradient are left out, and counted in a note.

    Raises:
        UnknownNameError: for layers and units that do not exist.
        ArgumentError: for fewer examples than cases, a unit that never comes above 0, or a source that does not feed
            it.
        WeightValuesError: for a unit that comes to NaN or infinity everywhere.

    Source: Voss et al., "Visualizing Weights", Distill 2021, on the limits of expanded weights (its third remedy).

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
        >>> wa.gradient_cases(net, "blocks.0.0", "blocks.1.0.conv_pwl:3", noise, k=2, examples=16).cases.shape
        (2, 16, 3, 3)
    """
    layer, unit = unit_place(net, target, "target")
    if layer == INPUT and layer not in net.layers:
        raise ArgumentError(f"target={target!r} is the network's own input, which has no gradient")
    for number, what, name in ((k, "cases", "k"), (examples, "examples", "examples"), (batch, "images", "batch")):
        checked_count(number, what, name)
    if per_image is not None:
        checked_count(per_image, "examples of one image", "per_image")
    checked_progress(progress, "(examples done, examples in all)")
    before = reads_alike(net, layer)
    begin = _source(net, source, layer)
    photos = photos_from(net, images)
    if photos is None:
        raise ArgumentError("images= is needed: cases are of examples")
    grid = _grid(net, begin)
    view = window(net, begin, layer, grid)
    most = per_image if per_image is not None else min(-(-examples // len(photos)), MOST_PER_IMAGE)
    chosen = _chosen(net, photos, layer, unit, before, view, grid, examples, most, batch)
    if len(chosen) < k:
        raise ArgumentError(
            f"{layer}:{unit} has {len(chosen)} examples on {len(photos)} images, places where it is above 0: fewer "
            f"than k={k} cases; give more images, or a larger per_image="
        )
    rows = _gradients(net, photos, chosen, layer, unit, begin, view, before, batch, progress)
    return _recorded(net, photos, chosen, rows, layer, unit, begin, view, k, seed, before)


def _source(net: Network, source: str | None, target: str) -> str:
    if source is None:
        return reads(net, target)
    name, number = place(net, source, "source")
    if number is not None:
        raise ArgumentError(f"source={source!r} names a unit; cases are over all units of a layer, such as {name!r}")
    if name == target:
        raise ArgumentError(f"source and target are both {name!r}; gradients lead from an earlier layer on")
    return name


def _grid(net: Network, source: str) -> tuple[int, int]:
    if source == INPUT and source not in net.layers:
        return net.require_module("gradients")[1].grid
    return net.layers[source].grid or (1, 1)


def _chosen(
    net: Network,
    photos: Photos,
    layer: str,
    unit: int,
    before: bool,
    view: Window,
    grid: tuple[int, int],
    count: int,
    each: int,
    batch: int,
) -> list[Example]:
    """The examples, strongest first; of equally strong ones the earlier."""
    found: dict[bool, list[Example]] = {True: [], False: []}  # by whether the window lies inside
    inside: np.ndarray | None = None
    peak = -np.inf
    for number, values in unit_maps(net, photos, layer, unit, before=before, batch=batch):
        if inside is None:
            inside = _inside(view, values.shape, grid)
        values = np.where(np.isfinite(values), values, -np.inf)
        peak = max(peak, float(values.max()))
        for where, some in found.items():
            usable = np.where(inside == where, values, -np.inf)
            some += [Example(number, at, float(usable[at])) for at in _peaks(usable, each)]
    on = f"on these {len(photos)} images" if len(photos) > 1 else "on this image"
    if peak == -np.inf:
        raise WeightValuesError(f"{layer}:{unit} comes to NaN or infinity everywhere {on}; check the weights")
    if peak <= 0:
        raise ArgumentError(
            f"{layer}:{unit} never fires {on}: its largest value is {peak:.3g}, and examples of it are those above 0"
        )
    return sorted(found[True] or found[False], key=lambda e: (-e.value, e.image, e.at))[:count]


def _inside(view: Window, shape: tuple[int, ...], grid: tuple[int, int]) -> np.ndarray:
    """The target positions whose window lies inside the source grid, bool ``[H, W]``."""
    fits = []
    for axis in (0, 1):
        starts = [view.start((t, t))[axis] for t in range(shape[axis])]
        fits.append(np.array([s >= 0 and s + view.size[axis] <= grid[axis] for s in starts]))
    return fits[0][:, None] & fits[1]


def _peaks(values: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Positions of the largest values above 0, no two of them neighbours."""
    left, found = values.copy(), []
    while len(found) < count:
        y, x = divmod(int(left.argmax()), left.shape[1])
        if not left[y, x] > 0:
            break
        found.append((y, x))
        left[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = -np.inf
    return found


def _gradients(
    net: Network,
    photos: Photos,
    chosen: list[Example],
    layer: str,
    unit: int,
    source: str,
    view: Window,
    before: bool,
    batch: int,
    progress: Progress | None,
) -> np.ndarray:
    """Gradients ``[N, I, h, w]``, if they fit."""
    rows: np.ndarray | None = None
    done = 0
    order = sorted(range(len(chosen)), key=lambda n: (chosen[n].image, n))  # examples of one image share its run
    sorted_ones = [chosen[n] for n in order]
    for some in gradients(net, photos, sorted_ones, layer, unit, source, view, before=before, batch=batch):
        if rows is None:
            needed = len(chosen) * some[0].nbytes
            if needed > MOST_BYTES:
                raise ArgumentError(
                    f"gradients of {len(chosen)} examples take {needed / 2**30:.1f} GiB, more than "
                    f"{MOST_BYTES / 2**30:g}; give examples={MOST_BYTES // some[0].nbytes}, or a source that is nearer"
                )
            rows = np.empty((len(chosen), *some.shape[1:]), np.float32)
        rows[order[done : done + len(some)]] = some
        done += len(some)
        if progress is not None:
            progress(done, len(chosen))
    if rows is None or not np.isfinite(rows).all():
        raise ArgumentError(f"gradients of {layer}:{unit} are NaN or infinite on some of these images")
    return rows


def _recorded(
    net: Network,
    photos: Photos,
    chosen: list[Example],
    rows: np.ndarray,
    layer: str,
    unit: int,
    source: str,
    view: Window,
    k: int,
    seed: int,
    before: bool,
) -> GradientCases:
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1)
    kept = np.flatnonzero(lengths > 0)
    notes = [note for note in (view.note, *photos.notes) if note]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} examples are left out: their gradient is 0")
    if len(kept) < k or k > flat.shape[1]:
        raise ArgumentError(
            f"k={k} cases need at least so many examples with a gradient and so many source values; there are "
            f"{len(kept)} and {flat.shape[1]}"
        )
    if before:
        notes.append("values and gradients are of the pre-activation")
    scaled = flat[kept] / lengths[kept, None]
    loadings, cases, shares, explained, bound = factored(scaled, k, seed)
    some = [chosen[n] for n in kept]
    return GradientCases(
        cases=cases.reshape(k, *rows.shape[1:]).astype(np.float32),
        shares=shares.astype(np.float32),
        loadings=loadings.astype(np.float32),
        explained=explained,
        bound=bound,
        source=source,
        target=layer,
        unit=unit,
        origin=view.origin,
        stride=view.stride,
        images=np.array([e.image for e in some], np.int32),
        places=np.array([e.at for e in some], np.int32),
        values=np.array([e.value for e in some], np.float32),
        names=photos.names,
        alike=(cases @ cases.T).astype(np.float32),
        seed=seed,
        provenance=net.provenance.noting(*notes),
        lengths=lengths[kept].astype(np.float32),
    )


def factored(rows: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Loadings ``[N, K]`` ≥ 0, cases ``[K, F]`` of length 1, shares ``[K]``, what they hold, and the bound.

    Semi-NMF finds the K dimensions in which mixtures of cases hold most of the rows; :func:`rays` the cases in them.
    """
    found = factorize(rows[:, :, None, None].astype(np.float32), k, nonnegative="space", method="semi", seed=seed)
    basis = np.linalg.qr(found.channels.astype(np.float64).T)[0]  # [F, K]
    loadings, inner = rays(rows @ basis, k, seed)
    cases = inner @ basis.T
    total = np.square(rows).sum()
    held = 2 * (loadings * (rows @ cases.T)).sum(0) - ((loadings.T @ loadings) * (cases @ cases.T)).sum(0)
    order = np.argsort(-held, kind="stable")
    shares = held[order] / total
    explained = min(float(shares.sum()), 1.0)
    return loadings[:, order], cases[order], shares, explained, max(found.bound, explained)
