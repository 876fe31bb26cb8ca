"""Sprite sheets: all pictures of a layer as small tiles on few large ones, so that a wall of them loads at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .files import Files
from .layout import PICTURE, picture_path, wall_path
from .listing import Listing
from .pictures import decoded, encoded, first_number, mosaic, scaled
from .sealing import document, parsed

TILE = 64  # pixels
COLUMNS = 32
#: Tiles on a sheet; 32 rows of 32 make 2048 pixels a side.
ON_ONE = COLUMNS * 32
WALL = "wall.json"


def derive_wall(files: Files, listing: Listing, layer: str, recipe: str, units: Sequence[int]) -> dict[str, Any]:
    """The sheets of a recipe's pictures of a layer, made anew only if other pictures exist than when they were made.

    Args:
        files, listing: of the atlas; the listing learns what is written.
        layer, recipe: the recipe's folder.
        units: all that are wanted, in order; those without a picture yet are left white.

    Returns:
        The document that lies beside the sheets: ``units`` in the order of tiles, ``reached`` and ``kept`` (the share
        that remains in other views) of each, ``alive``, ``missing``, and where the tiles are.
    """
    place = wall_path(layer, recipe, WALL)
    have = {u: listing.sizes[p] for u in units if (p := picture_path(layer, recipe, u)) in listing}
    made_of = hashlib.sha256(repr((list(units), sorted(have.items()))).encode()).hexdigest()[:16]
    sheets = [wall_path(layer, recipe, f"{n}{PICTURE}") for n in range(math.ceil(len(units) / ON_ONE))]
    data = files.read_if_there(place) if place in listing else None
    if data is not None and all(s in listing for s in sheets):
        known = parsed(data, place)
        if known["made_of"] == made_of:
            return known
    for stale in [p for p in listing.sizes if p.startswith(wall_path(layer, recipe, "")) and p not in (*sheets, place)]:
        files.remove(stale)
        del listing.sizes[stale]
    tiles, told = _tiles(files, layer, recipe, units, have)
    for number, sheet in enumerate(sheets):
        own = tiles[number * ON_ONE : (number + 1) * ON_ONE]
        columns = min(COLUMNS, len(own))
        picture = encoded(mosaic(own, columns), {"what": "wall", "layer": layer, "recipe": recipe, "number": number})
        files.write(sheet, picture)
        listing.sizes[sheet] = len(picture)
    wall = {"layer": layer, "recipe": recipe, "tile": TILE, "columns": min(COLUMNS, len(units)), "on_one": ON_ONE,
            "sheets": sheets, "units": list(units), "missing": [u for u in units if u not in have],
            "made_of": made_of, **told}  # fmt: skip
    content = document(wall)
    files.write(place, content)
    listing.sizes[place] = len(content)
    return wall


def _tiles(
    files: Files, layer: str, recipe: str, units: Sequence[int], have: dict[int, int]
) -> tuple[list[np.ndarray], dict[str, list[Any]]]:
    """A tile for every unit, white without a picture, and the numbers that go with them."""
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    tiles: list[np.ndarray] = []
    told: dict[str, list[Any]] = {"reached": [], "kept": [], "alive": []}
    for unit in units:
        if unit not in have:
            tiles.append(blank)
            for values in told.values():
                values.append(None)
            continue
        path = picture_path(layer, recipe, unit)
        pixels, about = decoded(files.read(path), path)
        tiles.append(scaled(pixels, TILE))
        reached, viewed, alive = (first_number(about.get(n)) for n in ("reached", "viewed", "alive"))
        told["reached"].append(reached)
        told["kept"].append(round(viewed / reached, 3) if reached and viewed is not None else None)
        told["alive"].append(alive)
    return tiles, told
