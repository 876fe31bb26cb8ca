"""Families that people named: the only file of an atlas that a build never touches."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ArgumentError, StoreError, unknown_name
from .files import Files
from .layout import FAMILIES

LONGEST_NAME = 200


def read(files: Files) -> list[dict[str, Any]]:
    """The named families: ``{"name", "layer", "units", "by": "people"}`` each.

    Raises:
        StoreError: if the file cannot be read.
    """
    return _told(files)[1]


def _told(files: Files) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The document as people wrote it, and the families in it."""
    data = files.read_if_there(FAMILIES)
    if data is None:
        return {"families": []}, []
    try:
        written = json.loads(data)
        return written, [_family(str(r["name"]), str(r["layer"]), [int(u) for u in r["units"]]) for r in _rows(written)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{FAMILIES} in {files.where!r} cannot be read ({error!r}). It holds what people named, so nothing removes "
            "it: mend it, or move it away"
        ) from error


def _rows(written: Any) -> list[Any]:
    rows = written["families"]
    if not isinstance(rows, list):
        raise TypeError("its families are no list")
    return rows


def _family(name: str, layer: str, units: list[int]) -> dict[str, Any]:
    return {"name": name, "layer": layer, "units": units, "by": "people"}


def put(files: Files, name: str, layer: str, units: list[int]) -> list[dict[str, Any]]:
    """Adds a family, or replaces the one of that name, and returns all."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise ArgumentError(f"a family's name is 1 to {LONGEST_NAME} characters, not {name!r}")
    return _changed(files, name, [_family(name, layer, units)])


def drop(files: Files, name: str) -> list[dict[str, Any]]:
    """Removes a family and returns those that are left.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    names = [r["name"] for r in read(files)]
    if name not in names:
        raise unknown_name("family that was named", str(name), names)
    return _changed(files, name, [])


def _changed(files: Files, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes the document without the family of a name and with further ones; what else people wrote stays."""
    written, _ = _told(files)
    kept = [r for r in _rows(written) if str(r["name"]) != name]
    files.write(FAMILIES, (json.dumps({**written, "families": [*kept, *rows]}, indent=1) + "\n").encode())
    return read(files)
