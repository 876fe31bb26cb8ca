"""Which files an overview counts: what must be there if it says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .arrays import META
from .layout import (
    BANDING,
    EDGES,
    GRAPH,
    LAYERS,
    MODEL,
    STATISTICS,
    connections_path,
    layer_path,
    paths_path,
    picture_path,
    wall_path,
    weights_path,
)
from .walls import WALL
from .wanted import numbers_in


def counted(known: Mapping[str, Any]) -> Iterator[str]:
    """Paths of everything that an overview says is made; of a group its metadata, of a wall the document beside it.

    Args:
        known: the content of ``atlas.json``.
    """
    yield from (MODEL, LAYERS, GRAPH, EDGES)
    if known["coverage"]["banding"][0]:
        yield BANDING
    if known["gates"]["measured"] and any(pair["made"] for pair in known["pairs"]):
        yield f"{STATISTICS}/{META}"
    for row in known["layers"]:
        yield from _of_layer(row)
    for pair in known["pairs"]:
        yield from _of_pair(pair)


def _of_layer(row: Mapping[str, Any]) -> Iterator[str]:
    name = row["name"]
    if row["described"]:
        yield layer_path(name, "units")
    if row["activations"] is True:
        yield layer_path(name, "activations")
    for recipe, pictures in row["pictures"].items():
        yield from (picture_path(name, recipe, unit) for unit in numbers_in(pictures["made"]))
        if pictures["wall"]:
            yield wall_path(name, recipe, WALL)


def _of_pair(pair: Mapping[str, Any]) -> Iterator[str]:
    ends = pair["target"], pair["source"]
    if pair["made"]:
        yield f"{weights_path(*ends)}/{META}"
        yield connections_path(*ends, "top")
    if pair["factors"]:
        yield connections_path(*ends, "factors")
        if has_unit_factors(pair):
            yield from (connections_path(*ends, f"factors/{unit}") for unit in range(pair["shape"][0]))
    if isinstance(pair["agreement"], dict):
        yield connections_path(*ends, "agreement")
    yield from (f"{paths_path(*ends, middle)}/{META}" for middle, _ in pair["paths"])


def has_unit_factors(pair: Mapping[str, Any]) -> bool:
    """Whether units of a pair of layers have factors of their own: over several sources and several positions."""
    _, sources, height, width = pair.get("shape", (0, 0, 0, 0))
    return bool(pair["factors"]) and sources > 1 and height * width > 1
