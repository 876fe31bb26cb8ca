"""Weights and paths between two layers as Zarr groups.

Weights are kept without their skip path, which lies beside them. Where a map is the same number at all positions of the
source grid (behind a global pooling), it is kept once: ``uniform`` tells how many positions it stands for.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError, StoreError
from ..records import Outgoing, Record, Weights, checked_units
from .arrays import Group, Named, group_files
from .files import Files
from .layout import weights_path

R = TypeVar("R", bound=Record)
MAP = ("target_unit", "source_unit", "y", "x")
#: What a group's arrays are called.
VALUES, SKIP, SKIP_FIRST, OUT_UNITS, OUT_MAPS = "values", "skip_values", "skip_first", "outgoing_units", "outgoing_maps"


def uniform(weights: Weights) -> tuple[Weights, tuple[int, int]]:
    """Weights with what is the same at all positions kept once, and how many positions ``(H, W)`` it stands for.

    ``(1, 1)`` where nothing was to be saved. The weights then are those of each single position.
    """
    h, w = weights.values.shape[2:]
    if h * w == 1 or weights.skip_values.size or not np.isfinite(weights.values).all():
        return weights, (1, 1)
    first = weights.values[:, :, :1, :1]
    if not (weights.values == first).all():
        return weights, (1, 1)
    return dataclasses.replace(weights, values=first.copy()), (h, w)


def weights_files(weights: Weights, outgoing: Outgoing, positions: tuple[int, int] = (1, 1)) -> dict[str, bytes]:
    """The files of a pair's group, its metadata last.

    Args:
        weights: of all target units, all source units, without the skip path.
        outgoing: of the same weights.
        positions: that each value stands for, as :func:`uniform` tells.

    Raises:
        ArgumentError: for some of the units only, or in another order, or weights that contain their skip path.
    """
    every = np.arange(weights.target_units)  # in order: a unit's chunk is found by its number
    if not np.array_equal(weights.units, every) or weights.source_numbers.size:
        raise ArgumentError(f"an atlas keeps weights between all units of two layers, not {weights!r}")
    if weights.skip_values.size and weights.skip_included:
        raise ArgumentError("an atlas keeps weights without their skip path; expand with skip='exclude'")
    arrays, meta = record_parts(weights)
    inner = MAP if weights.groups == 1 else ("target_unit", "source_unit_in_group", "y", "x")
    h, w = weights.values.shape[2:]
    named = {
        VALUES: Named(arrays.pop("values"), inner, split=True),
        "target_unit": Named(weights.units.astype(np.int32), ("target_unit",)),
        "source_unit": Named(outgoing.sources.astype(np.int32), ("source_unit",)),
        "y": Named(_offsets(weights, 0, h), ("y",)),
        "x": Named(_offsets(weights, 1, w), ("x",)),
        OUT_UNITS: Named(outgoing.units.astype(np.int32), ("source_unit", "rank")),
        OUT_MAPS: Named(outgoing.maps, ("source_unit", "rank", "y", "x"), split=True),
    }
    if weights.skip_values.size:
        wide = weights.skip_values.shape[1] > 1
        named[SKIP] = Named(weights.skip_values, ("target_unit", "skip_unit", "y", "x"), split=wide)
        named[SKIP_FIRST] = Named(weights.skip_first.astype(np.int32), ("target_unit",))
    return group_files(named, {"weightatlas": {**meta, "uniform": list(positions)}})


def _offsets(weights: Weights, axis: int, count: int) -> np.ndarray:
    """Where the elements lie, in steps of the source grid from the target's position times stride."""
    return (weights.origin[axis] + weights.dilation[axis] * np.arange(count)).astype(np.float32)


def read_weights(files: Files, source: str, target: str, units: Any = None) -> Weights:
    """Weights between two layers, of all target units or some: a chunk each.

    Raises:
        StoreError: if they are not there, or damaged.
        UnknownNameError, ArgumentError: for units that do not exist.
    """
    weights, positions = read_kept(files, source, target, units)
    if positions == (1, 1):
        return weights
    values = np.broadcast_to(weights.values, (*weights.values.shape[:2], *positions)).copy()
    return dataclasses.replace(weights, values=values)


def read_kept(files: Files, source: str, target: str, units: Any = None) -> tuple[Weights, tuple[int, int]]:
    """Weights as they are kept, and how many positions ``(H, W)`` each value stands for; see :func:`uniform`."""
    group = Group(files, weights_path(target, source))
    fields = dict(group.attributes["weightatlas"]["fields"])
    positions = tuple(group.attributes["weightatlas"]["uniform"])
    chosen = checked_units(units, fields["target_units"], f"layer {target!r}")

    def rows(name: str) -> np.ndarray:
        return group.whole(name) if units is None else group.rows(name, chosen)

    arrays: dict[str, np.ndarray] = {"values": rows(VALUES), "units": np.array(chosen, np.int64)}
    if SKIP in group.arrays:
        first = group.whole(SKIP_FIRST)
        arrays |= {"skip_values": rows(SKIP), "skip_first": first[chosen].astype(np.int64)}
    return record_from(Weights, arrays, fields, group.path), positions


def record_parts(record: Record) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A record's arrays, and what else it holds as JSON-ready data: ``{"kind", "schema", "fields"}``."""
    arrays, meta = record._split()
    return arrays, meta


def record_from(kind: type[R], arrays: dict[str, np.ndarray], fields: dict[str, Any], where: str) -> R:
    """A record from its parts.

    Raises:
        StoreError: if they do not fit each other.
    """
    try:
        return kind._join(arrays, fields)
    except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"{where} holds no complete {kind.__name__}: {error}") from error


def record_group(record: Record) -> dict[str, bytes]:
    """Any record as the files of a group, an array each; empty ones are left out."""
    arrays, meta = record_parts(record)
    named = {n: Named(a, tuple(f"{n}_{i}" for i in range(a.ndim))) for n, a in arrays.items() if a.size}
    return group_files(named, {"weightatlas": meta})


def read_record(files: Files, path: str, kind: type[R]) -> R:
    """The record of a group.

    Raises:
        StoreError: if it is missing, damaged or of another kind.
    """
    group = Group(files, path)
    meta = group.attributes.get("weightatlas", {})
    if meta.get("kind") != kind.__name__:
        raise StoreError(f"{path} holds {meta.get('kind', 'something else')}, not {kind.__name__}")
    return record_from(kind, {n: group.whole(n) for n in group.arrays}, meta["fields"], path)
