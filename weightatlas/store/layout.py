"""What lies where in an atlas; docs/format.md is the same as a table for readers without this package."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ArgumentError
from .arrays import META
from .names import name_of, path_of, split_path

SCHEMA = 2

#: The network that an atlas is of; written first, never changed.
MODEL = "model.json"
#: Everything at a glance, derived from the rest.
MANIFEST = "atlas.json"
LAYERS, GRAPH, BANDING, EDGES, FAMILIES = "layers.json", "graph.json", "banding.json", "edges.json", "families.json"
STATISTICS, PARTS = "statistics", "activations"

PICTURE = ".webp"
_RECIPE = re.compile(r"[a-z0-9-]+(\.[a-z]+)?")
_ARRAY = re.compile(r"[a-z][a-z0-9_]*")
_CHUNK = re.compile(r"c\.(0|[1-9][0-9]*)(\.0)*")
_PART = re.compile(r"[0-9a-f]{8}-[0-9]{5,}")


def weights_path(target: str, source: str) -> str:
    """The Zarr group of the weights from one layer to another."""
    return f"weights/{path_of(target)}/{path_of(source)}"


def paths_path(target: str, source: str, middle: str) -> str:
    """The Zarr group of the paths through a middle layer."""
    return f"paths/{path_of(target)}/{path_of(source)}/{path_of(middle)}"


def connections_path(target: str, source: str, name: str) -> str:
    """A document on the weights from one layer to another: ``top``, ``agreement``, ``factors``, ``factors/17``."""
    return f"connections/{path_of(target)}/{path_of(source)}/{name}.json"


def layer_path(layer: str, name: str) -> str:
    """A document on a layer: ``units``, ``activations``."""
    return f"layers/{path_of(layer)}/{name}.json"


def recipe_folder(recipe: str, source: str | None = None) -> str:
    """The folder of a recipe's pictures; those over the units of an earlier layer have one for each.

    Example:
        >>> recipe_folder("display"), recipe_folder("display.positions", "blocks.4.0")
        ('display', 'display.positions@blocks.4.0')
    """
    return recipe if source is None else f"{recipe}@{path_of(source)}"


def picture_path(layer: str, recipe: str, unit: int) -> str:
    """The picture of a unit; ``recipe`` is that of :func:`recipe_folder`."""
    return f"images/{path_of(layer)}/{recipe}/{unit}{PICTURE}"


def wall_path(layer: str, recipe: str, name: str) -> str:
    """A sprite sheet (``1.webp``) or the document that tells what is on them (``wall.json``)."""
    return f"walls/{path_of(layer)}/{recipe}/{name}"


def part_path(key: str, number: int) -> str:
    """A Zarr group of what some layers did on some images, until all are done."""
    return f"{PARTS}/{key}-{number:05d}"


@dataclass(frozen=True)
class Place:
    """What a path is.

    Args:
        kind: ``"document"``, ``"picture"``, ``"wall"`` (a sheet), ``"group"`` (metadata of one), ``"array"`` (a file
            inside a group), ``"families"``, or ``"foreign"`` for what is none of an atlas's files.
        document: which one: ``"model"``, ``"atlas"``, ``"layers"``, ``"graph"``, ``"banding"``, ``"edges"``, ``"top"``,
            ``"agreement"``, ``"factors"``, ``"unit factors"``, ``"units"``, ``"activations"``, ``"wall"``.
        group: the path of the group, for its files.
        layer: whose document or picture it is; the target of weights.
        source, middle: of weights and paths; of pictures over the units of an earlier layer.
        recipe: the folder of pictures.
        unit: of pictures and factors of a unit; of a sheet its number.
    """

    kind: str
    document: str = ""
    group: str = ""
    layer: str = ""
    source: str = ""
    middle: str = ""
    recipe: str = ""
    unit: int | None = None


FOREIGN = Place("foreign")
_ROOT = {
    path: Place("document", path.removesuffix(".json")) for path in (MODEL, MANIFEST, LAYERS, GRAPH, BANDING, EDGES)
}
_ROOT[FAMILIES] = Place("families")
_FOLDERS = {"weights", "paths", "connections", "layers", "images", "walls", STATISTICS, PARTS}
#: Documents on a pair and on a layer.
_PAIR, _LAYER = ("top", "agreement", "factors"), ("units", "activations")


def place_of(path: str) -> Place:
    """What a path in an atlas is."""
    if path in _ROOT:
        return _ROOT[path]
    first, *parts = path.split("/")
    reader = {
        "weights": _in_weights,
        "paths": _in_paths,
        "connections": _in_connections,
        "layers": _in_layers,
        "images": _in_images,
        "walls": _in_walls,
        STATISTICS: lambda parts: _in_group(STATISTICS, parts),
        PARTS: _in_parts,
    }.get(first)
    try:
        return reader(parts) if reader and parts else FOREIGN
    except (ArgumentError, IndexError, ValueError):
        return FOREIGN


def is_unfinished(path: str) -> bool:
    """Whether a temporary file lies where an atlas's own are written."""
    first, *rest = path.split("/")
    written = first[1:].rpartition(".")[0]
    # what a build writes to see whether anything can be written has a name of this kind itself
    return first in _FOLDERS if rest else written in _ROOT or written.lstrip(".").startswith("probe")


def _taken(parts: list[str], names: int) -> tuple[list[str], list[str]]:
    """So many layer names from the front of components."""
    found = []
    for _ in range(names):
        path, parts = split_path(parts)
        found.append(name_of(path))
    return found, parts


def _in_group(group: str, rest: list[str], layer: str = "", source: str = "", middle: str = "") -> Place:
    if rest == [META]:
        return Place("group", group=group, layer=layer, source=source, middle=middle)
    if len(rest) == 2 and _ARRAY.fullmatch(rest[0]) and (rest[1] == META or _CHUNK.fullmatch(rest[1])):
        return Place("array", group=group, layer=layer, source=source, middle=middle)
    return FOREIGN


def _in_parts(parts: list[str]) -> Place:
    return _in_group(f"{PARTS}/{parts[0]}", parts[1:]) if _PART.fullmatch(parts[0]) else FOREIGN


def _in_weights(parts: list[str]) -> Place:
    (target, source), rest = _taken(parts, 2)
    return _in_group(weights_path(target, source), rest, layer=target, source=source)


def _in_paths(parts: list[str]) -> Place:
    (target, source, middle), rest = _taken(parts, 3)
    return _in_group(paths_path(target, source, middle), rest, layer=target, source=source, middle=middle)


def _in_connections(parts: list[str]) -> Place:
    (target, source), rest = _taken(parts, 2)
    if len(rest) == 1 and rest[0].removesuffix(".json") in _PAIR and rest[0].endswith(".json"):
        return Place("document", rest[0].removesuffix(".json"), layer=target, source=source)
    if len(rest) == 2 and rest[0] == "factors" and (unit := _number(rest[1], ".json")) is not None:
        return Place("document", "unit factors", layer=target, source=source, unit=unit)
    return FOREIGN


def _in_layers(parts: list[str]) -> Place:
    (layer,), rest = _taken(parts, 1)
    found = [name for name in _LAYER if rest == [f"{name}.json"]]
    return Place("document", found[0], layer=layer) if found else FOREIGN


def _in_images(parts: list[str]) -> Place:
    layer, recipe, source, rest = _recipe(parts)
    unit = _number(rest[0], PICTURE) if len(rest) == 1 else None
    return FOREIGN if unit is None else Place("picture", layer=layer, recipe=recipe, source=source, unit=unit)


def _in_walls(parts: list[str]) -> Place:
    layer, recipe, source, rest = _recipe(parts)
    if rest == ["wall.json"]:
        return Place("document", "wall", layer=layer, recipe=recipe, source=source)
    number = _number(rest[0], PICTURE) if len(rest) == 1 else None
    return FOREIGN if number is None else Place("wall", layer=layer, recipe=recipe, source=source, unit=number)


def _recipe(parts: list[str]) -> tuple[str, str, str, list[str]]:
    """Layer, recipe's folder, the source layer in it, and what lies behind."""
    (layer,), parts = _taken(parts, 1)
    folder, rest = split_path(parts)
    recipe, at, source = folder.partition("@")
    if not _RECIPE.fullmatch(recipe):
        raise ValueError(folder)
    return layer, folder, name_of(source) if at else "", rest


def _number(name: str, ending: str) -> int | None:
    stem = name.removesuffix(ending)
    return int(stem) if name.endswith(ending) and re.fullmatch(r"0|[1-9][0-9]{0,8}", stem) else None
