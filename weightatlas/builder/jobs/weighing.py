"""Jobs on weights between two layers: expanding them, the paths through a layer between, agreement, statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, StoreError
from ...records import (
    Agreement,
    Outgoing,
    Paths,
    Weights,
    agreement,
    norms,
    ranking,
    read_as,
    strongest_targets,
)
from ...store import layout, pairs
from ...store.arrays import Named, group_files
from ...store.sealing import document
from ...weights import expanded_paths, expected_gradient, measure, strongest_middles
from ..choosing import structure
from .context import Context
from .job import Job
from .reading import between

#: Strongest connections that are listed for each unit, each way.
LISTED = 12
#: Target units whose maps are kept with each source unit.
OUTGOING = 24
#: Strongest and most cancelled connections of a pair of layers.
NOTABLE = 100
#: Middle units kept with each connection.
MIDDLES = 5
#: Images from which statistics of gates are taken, and agreement; samples of it.
GATE_IMAGES, TRUTH_IMAGES, TRUTH_SAMPLES = 256, 16, 32


def expand(context: Context, job: Job) -> tuple[int, int]:
    """All weights from one layer to another, and the lists that pages show without reading them."""
    weights = between(context.gated, job.source, job.layer, gate=context.settings.gate)
    kept, positions = pairs.uniform(weights)
    outgoing = strongest_targets(kept, OUTGOING)
    group = pairs.weights_files(kept, outgoing, positions)
    top = document(_top(kept, outgoing, positions, sum(map(len, group.values()))))
    first = context.write({layout.connections_path(job.layer, job.source, "top"): top})
    rest = context.write(group, layout.weights_path(job.layer, job.source))
    return first[0] + rest[0], first[1] + rest[1]


def _top(weights: Weights, outgoing: Outgoing, positions: tuple[int, int], size: int) -> dict[str, Any]:
    """What a page shows of a pair before it reads any weights."""
    scale = float(np.sqrt(positions[0] * positions[1]))  # of norms over the positions that one value stands for
    strengths = norms(weights.values) * scale
    power = np.square(strengths, dtype=np.float64)
    whole = power.sum(axis=1)
    o, i, h, w = weights.values.shape
    return {
        "source": weights.source,
        "target": weights.target,
        "shape": [o, i, h, w],
        "uniform": list(positions),
        "origin": list(weights.origin),
        "stride": list(weights.stride),
        "dilation": list(weights.dilation),
        "groups": weights.groups,
        "source_units": weights.source_units,
        "at": None if weights.at is None else list(weights.at),
        "sees_pixels": weights.sees_pixels,
        "channel_names": list(weights.channel_names),
        "skip": bool(weights.skip_values.size),
        "largest": short(np.abs(weights.values).max(initial=0)),
        "bytes": size,
        "replaced": read_as(weights.replaced),
        "notes": list(weights.provenance.notes),
        "norms": {"targets": short(np.sqrt(whole)), "sources": short(outgoing.norms * scale)},
        "inputs": _inputs(weights, strengths, power, whole),
        "outputs": _outputs(outgoing, scale),
        "strongest": _strongest(weights, strengths, power, whole, positions[0] * positions[1]),
        "structure": _structure(weights),
    }


def _inputs(w: Weights, strengths: np.ndarray, power: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
    """For every target unit its strongest source units, their strengths, and the share that these hold."""
    units, values, shares = [], [], []
    for row in range(len(w.values)):
        seen = w.seen_units(row)
        numbers = np.arange(seen.start, seen.stop)
        top = ranking(strengths[row], numbers, LISTED)
        units.append(numbers[top].tolist())
        values.append(short(strengths[row][top]))
        shares.append(short(power[row][top].sum() / whole[row]) if whole[row] > 0 else 1)
    return {"units": units, "strengths": values, "shares": shares}


def _outputs(outgoing: Outgoing, scale: float) -> dict[str, Any]:
    """For every source unit the target units that it acts on most."""
    lengths = norms(outgoing.maps) * scale
    units, values, shares = [], [], []
    for row, length in zip(outgoing.units, lengths, strict=True):
        kept = int((row >= 0).sum())
        shown = min(kept, LISTED)
        units.append(row[:shown].tolist())
        values.append(short(length[:shown]))
    for length, total in zip(lengths, outgoing.norms * scale, strict=True):
        shown = np.square(length[:LISTED], dtype=np.float64).sum()
        shares.append(short(shown / total**2) if total > 0 else 1)
    return {"units": units, "strengths": values, "shares": shares}


def _strongest(
    w: Weights, strengths: np.ndarray, power: np.ndarray, whole: np.ndarray, positions: int
) -> list[list[Any]]:
    """The connections that hold the largest shares of their target's squared weights, with strength, share and sum."""
    share = power / np.where(whole > 0, whole, 1)[:, None]
    order = np.argsort(-share, axis=None, kind="stable")[:NOTABLE]
    found = []
    for row, column in zip(*np.unravel_index(order, share.shape), strict=True):
        if share[row, column] > 0:
            unit = int(w.seen_units(int(row))[int(column)])
            total = w.values[row, column].sum(dtype=np.float64) * positions  # that each value stands for
            numbers = (strengths[row, column], share[row, column], total)
            found.append([int(w.units[row]), unit, *(short(n) for n in numbers)])
    return found


def _structure(weights: Weights) -> dict[str, Any] | None:
    """How much weights depend on position in an orderly way: the median unit, and the unit with most of it."""
    if min(weights.values.shape[2:]) < 2 or weights.groups > 1 or weights.at is not None:
        return None
    found = structure(weights)
    best = int(found.argmax())
    return {"median": short(np.median(found)), "unit": int(weights.units[best]), "most": short(found[best])}


def short(value: Any) -> Any:
    """Numbers with four significant digits, as JSON takes them."""
    if isinstance(value, np.ndarray):
        return short(value.tolist())
    return [short(v) for v in value] if isinstance(value, list) else float(f"{float(value):.4g}")


def follow(context: Context, job: Job) -> tuple[int, int]:
    """What two layers do to each other through the units of a layer between them."""
    gate = context.settings.gate
    try:
        paths = expanded_paths(context.gated, job.source, job.middle, job.layer, gate=gate)
    except ArgumentError as error:
        ends = {"source": job.source, "middle": job.middle, "target": job.layer}
        about = {"none": str(error), **ends, "fields": {"provenance": {"weights_hash": context.settings.weights_hash}}}
        group = group_files({}, {"weightatlas": about})
    else:
        group = paths_files(paths)
    return context.write(group, layout.paths_path(job.layer, job.source, job.middle))


def paths_files(paths: Paths) -> dict[str, bytes]:
    """The files of a group of paths, its metadata last."""
    units, added = strongest_middles(paths, MIDDLES)
    total = paths.through.sum(axis=(2, 3), dtype=np.float64)
    net, absolute = (v.sum(axis=(2, 3), dtype=np.float64) for v in (np.abs(paths.through), paths.absolute))
    ranked = [part[..., k] for k in range(units.shape[2]) for part in (units, added)]
    values = np.stack([total, net, absolute, *ranked], axis=2).astype(np.float32)
    quantities = ["sum", "magnitude of the sum", "sum of magnitudes"]
    quantities += [what.format(k + 1) for k in range(units.shape[2]) for what in ("middle unit {}", "adds {}")]
    hidden = [[h.unit, h.source_unit, *(short(v) for v in h[2:])] for h in paths.hidden(NOTABLE)]
    named = {
        "paths": Named(values, ("target_unit", "source_unit", "quantity"), split=True),
        "bypass_share": Named(paths.bypass_share, ("target_unit",)),
    }
    about = {
        "source": paths.source,
        "middle": paths.middle,
        "target": paths.target,
        "middle_units": paths.middle_units,
        "quantities": quantities,
        "cancelled": hidden,
        "replaced": read_as(paths.replaced),
        "notes": list(paths.provenance.notes),
        "fields": {"provenance": {"weights_hash": paths.provenance.weights_hash}},
    }
    return group_files(named, {"weightatlas": about})


def compare(context: Context, job: Job) -> tuple[int, int]:
    """How far a pair's weights agree with the real network on the images."""
    photos = context.photos
    if photos is None:
        raise StoreError("agreement needs the images; give them again with images=")
    weights = pairs.read_weights(context.files, job.source, job.layer)
    images = photos.tensor(context.net, photos.spread(TRUTH_IMAGES))
    places = int(np.prod(context.net.layers[job.layer].grid or (1, 1))) * len(images)
    truth = expected_gradient(
        context.net, job.source, job.layer, images, skip="exclude", samples=min(TRUTH_SAMPLES, places),
        seed=context.settings.seed, progress=context.step,
    )  # fmt: skip
    found = agreement(weights, truth, skip="exclude")
    about = agreement_document(found) | {
        "halves": short(truth.halves),
        "split_half": _number(truth.split_half),
        "samples": truth.samples,
        "images": photos.to_dict() | {"used": truth.images},
    }
    return context.write({layout.connections_path(job.layer, job.source, "agreement"): document(about)})


def agreement_document(found: Agreement) -> dict[str, Any]:
    """An agreement as JSON-ready data."""
    return {
        "source": found.source,
        "target": found.target,
        "units": found.units.tolist(),
        "cosine": short(found.cosine),
        "overlap": found.overlap.tolist(),
        "k": found.k,
        "mean_cosine": _number(found.mean_cosine),
        "mean_overlap": _number(found.mean_overlap),
    }


def _number(value: float) -> float | None:
    return short(value) if np.isfinite(value) else None


def take_statistics(context: Context, job: Job) -> tuple[int, int]:
    """What the non-linear operators do on the images: the gates of this atlas."""
    photos = context.photos
    if photos is None:
        raise StoreError("the gates of this atlas are measured; give its images again with images=")
    images = photos.tensor(context.net, photos.spread(GATE_IMAGES))
    before = context.net.measured
    try:
        found = measure(context.net, images)
    except ArgumentError as error:
        raise ArgumentError(
            f"{error}. The gates of this atlas are read from them; an atlas begun without images, or with "
            "gate='identity', does without"
        ) from error
    finally:
        context.net.measured = before  # the caller's network is left as it was
    return context.write(pairs.record_group(found), layout.STATISTICS)
