"""Whose a file is, as it says itself: none can stand in another's place, however whole it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layout import STATISTICS, Place

#: What only one of the documents says; the first that fits tells which it is.
_MARKS = {
    "coverage": "atlas",
    "gates": "model",
    "sheets": "wall",
    "inputs": "top",
    "cancelled": "edges",
    "mean_cosine": "agreement",
    "strength": "unit factors",
    "unit_explained": "factors",
    "similar": "units",
    "dead": "activations",
    "rows": "banding",
    "nodes": "graph",
    "layers": "layers",
}
_PAIR = ("top", "agreement", "factors", "unit factors")


def document_fault(place: Place, content: Mapping[str, Any]) -> str:
    """What is wrong with a document in its place; ``""`` if nothing is."""
    found = next((name for mark, name in _MARKS.items() if mark in content), "unknown")
    if found != place.document:
        return f"it is the document {found!r}, not {place.document!r}"
    wanted: dict[str, Any] = {"layer": place.layer} if place.layer else {}
    if place.document in _PAIR:
        wanted = {"target": place.layer, "source": place.source} | ({} if place.unit is None else {"unit": place.unit})
    if place.recipe:
        wanted["recipe"] = place.recipe
    return _fault(content, wanted)


def picture_fault(place: Place, about: Mapping[str, Any]) -> str:
    """What is wrong with a picture or a sheet in its place; ``""`` if nothing is."""
    if place.kind == "wall":
        return _fault(about, {"what": "wall", "layer": place.layer, "recipe": place.recipe, "number": place.unit})
    recipe = place.recipe.partition("@")[0]
    wanted = {"layer": place.layer, "unit": place.unit, "recipe": recipe, "source": place.source}
    return _fault({"source": "", **about}, wanted)


def group_fault(place: Place, attributes: Mapping[str, Any]) -> str:
    """What is wrong with the metadata of a group in its place; ``""`` if nothing is."""
    about = attributes.get("weightatlas", {})
    if place.middle:
        return _fault(about, {"target": place.layer, "source": place.source, "middle": place.middle})
    if place.layer:
        fields = about.get("fields", {})
        return _fault({**about, **fields}, {"kind": "Weights", "target": place.layer, "source": place.source})
    return _fault(about, {"kind": "Statistics"}) if place.group == STATISTICS else ""


def _fault(content: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What says something else than it should."""
    for name, value in wanted.items():
        if content.get(name) != value:
            return f"it is of the {name} {content.get(name)!r}, not {value!r}"
    return ""
