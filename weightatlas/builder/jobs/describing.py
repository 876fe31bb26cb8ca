"""Jobs on the units of a layer as their weights tell: factors, likeness, families, banding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...bands import banding
from ...errors import ArgumentError, GraphError, WeightValuesError
from ...factor import factorize
from ...figures import by_similarity
from ...records import Factors, Weights
from ...store import layout, pairs
from ...store.arrays import META
from ...store.sealing import document
from ..choosing import family
from .context import Context
from .job import Job
from .reading import between
from .weighing import short

RGB = 3
#: Factors of a single unit, with non-negative directions.
UNIT_FACTORS = 2
#: Alike units that are listed with each.
ALIKE = 8
FAMILY = 6
#: Units of a layer up to which their order by likeness is computed; it takes time with the third power.
MOST_ORDERED = 4096


def factor(context: Context, job: Job) -> tuple[int, int]:
    """Factors of a pair's weights: three shared by all units (colours), and each unit's own."""
    weights, _ = pairs.read_kept(context.files, job.source, job.layer)
    o, i, h, w = weights.values.shape
    rank = min(RGB, i, o * h * w)
    seed = context.settings.seed
    own: dict[str, bytes] = {}
    if h * w > 1 and i > 1:
        found = factorize(weights, min(UNIT_FACTORS, i, h * w), nonnegative="channels", per_unit=True, seed=seed)
        for row, unit in enumerate(found.units.tolist()):
            path = layout.connections_path(job.layer, job.source, f"factors/{unit}")
            own[path] = document(unit_document(found, row))
    shared = factorize(weights, rank, seed=seed)
    joint = document(joint_document(shared))
    return context.write({**own, layout.connections_path(job.layer, job.source, "factors"): joint})


def joint_document(found: Factors) -> dict[str, Any]:
    """Factors shared by all units, as JSON-ready data."""
    return {
        **_about(found),
        "explained": short(found.explained),
        "bound": short(found.bound),
        "shares": short(found.shares),
        "unit_explained": short(found.unit_explained),
        "peak": short(np.abs(found.space).max(axis=(0, 1, 2))),
        "space": short(found.space),
        "channels": short(found.channels),
    }


def unit_document(found: Factors, row: int) -> dict[str, Any]:
    """One unit's own factors as JSON-ready data."""
    space, channels = found.space[row], found.channels[row]
    return {
        **_about(found),
        "unit": int(found.units[row]),
        "explained": short(found.unit_explained[row]),
        "bound": short(found.unit_bound[row]),
        "space": short(np.moveaxis(space, -1, 0)),
        "channels": short(channels),
        "strength": short(np.linalg.norm(space.reshape(-1, found.rank), axis=0) * np.linalg.norm(channels, axis=1)),
    }


def _about(found: Factors) -> dict[str, Any]:
    return {
        "source": found.source,
        "target": found.target,
        "rank": found.rank,
        "method": found.method,
        "nonnegative": found.nonnegative,
        "seed": found.seed,
    }


def describe(context: Context, job: Job) -> tuple[int, int]:
    """How strong a layer's units are, which are alike, in what order alike ones stand together, and a family."""
    count = context.net.layers[job.layer].units
    power, profiles, parts = np.zeros(count), [], {}
    families: list[dict[str, Any]] = []
    for source in job.others:
        found = _weights(context, source, job.layer)
        if found is None:
            continue
        weights, (high, wide) = found
        strengths = np.sqrt(np.square(weights.values, dtype=np.float64).sum(axis=(2, 3)) * high * wide)
        parts[source] = short(np.linalg.norm(strengths, axis=1))
        power += np.square(strengths).sum(axis=1)
        if weights.groups == 1:
            profiles.append(strengths)
            families += _family(weights)
    profile = np.concatenate(profiles, axis=1) if profiles else np.zeros((count, 0))
    about = {
        "layer": job.layer,
        "units": count,
        "norms": short(np.sqrt(power)),
        "norms_by_source": parts,
        "similar": _similar(profile),
        "order": _order(profile),
        "families": families,
    }
    return context.write({layout.layer_path(job.layer, "units"): document(about)})


def _weights(context: Context, source: str, target: str) -> tuple[Weights, tuple[int, int]] | None:
    """Weights from a layer, kept in the atlas or not; ``None`` where they cannot be had."""
    if context.files.exists(f"{layout.weights_path(target, source)}/{META}"):
        return pairs.read_kept(context.files, source, target)
    try:
        return pairs.uniform(between(context.gated, source, target, gate=context.settings.gate))
    except (ArgumentError, GraphError, WeightValuesError):
        return None


def _order(profile: np.ndarray) -> list[int]:
    """Units so that alike ones stand together; by number where there are no weights, or too many units for that."""
    if not profile.size or len(profile) > MOST_ORDERED:
        return list(range(len(profile)))
    return by_similarity(profile).tolist()


def _similar(profile: np.ndarray) -> list[list[list[Any]]]:
    """For every unit those whose strengths over source units are most alike: ``[unit, cosine]``, most alike first."""
    length = np.linalg.norm(profile, axis=1, keepdims=True)
    unit = profile / np.where(length > 0, length, 1)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(ALIKE, len(alike) - 1)]
    return [[[int(n), short(alike[row, n])] for n in near if alike[row, n] > 0] for row, near in enumerate(nearest)]


def _family(weights: Weights) -> list[dict[str, Any]]:
    """The tightest group of units over one source layer."""
    if len(weights.units) < FAMILY or not weights.values.any():
        return []
    return [{"source": weights.source, "units": family(weights, FAMILY)}]


def measure_bands(context: Context, job: Job) -> tuple[int, int]:
    """Weight banding of all spatial layers."""
    try:
        found = banding(context.net, seed=context.settings.seed)
    except ArgumentError as error:
        return context.write({layout.BANDING: document({"rows": [], "note": str(error)})})
    about = {"rows": found.to_dicts(), "seed": found.seed, "permutations": found.permutations}
    return context.write({layout.BANDING: document(about)})
