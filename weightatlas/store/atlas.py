"""An atlas, opened for reading."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, StoreError, UnknownNameError, unknown_name
from ..records import Agreement, FeatureImages, Weights, checked_units
from . import checking, families, layout, pairs, pictures
from .arrays import Group
from .contents import document_fault
from .files import Files
from .manifest import checked_identity, migrated
from .overview import NOT_MEASURED, has_wall
from .places import open_files
from .sealing import MEND, parsed
from .unit import UnitPage, unit_page
from .wanted import numbers_in


class Atlas:
    """An atlas: weights, pictures and what is known of every unit of a network, in one folder.

    Args:
        path: the folder, or a URL that fsspec opens.

    Raises:
        StoreError: if there is none, or it is damaged, or was built by a newer version.

    Example:
        >>> import weightatlas as wa
        >>> atlas = wa.Atlas("atlas")  # doctest: +SKIP
        >>> atlas.weights("blocks.4.0", "blocks.4.1", units=[17])  # doctest: +SKIP
        Weights(blocks.4.0 → blocks.4.1: [O=1, I=112, H=5, W=5], replaced=2)
    """

    def __init__(self, path: str | Path | Files) -> None:
        self.files = open_files(path)
        self.manifest = self._read_manifest()
        self._kept: dict[str, Any] = {}

    def _read_manifest(self) -> dict[str, Any]:
        data = self.files.read_if_there(layout.MANIFEST)
        if data is None:
            begun = self.files.exists(layout.MODEL)
            what = "was begun but has no overview yet; build it again" if begun else "is no atlas: it has no atlas.json"
            raise StoreError(f"{self.files.where!r} {what} (weightatlas build MODEL -o {self.files.where})")
        found = migrated(parsed(data, layout.MANIFEST), self.files.where)
        checked_identity(found, self.files.where)
        if fault := document_fault(layout.place_of(layout.MANIFEST), found):
            raise StoreError(f"{layout.MANIFEST} in {self.files.where!r} is damaged: {fault}; {MEND}")
        return found

    def refresh(self) -> Atlas:
        """Reads the overview again, as it is now while a build goes on."""
        self.manifest = self._read_manifest()
        self._kept.clear()
        for name in ("_rows", "_pairs"):
            self.__dict__.pop(name, None)
        return self

    @property
    def where(self) -> str:
        """The folder or URL."""
        return self.files.where

    @property
    def model(self) -> str:
        """The network's name."""
        return self.manifest["model"]["name"]

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the network's weights."""
        return self.manifest["model"]["weights_hash"]

    @property
    def coverage(self) -> dict[str, Any]:
        """How many there are of how many, by kind: ``[made, wanted]``."""
        return self.manifest["coverage"]

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in order of execution."""
        return list(self._rows)

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.manifest["layers"]}

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(p["source"], p["target"]): p for p in self.manifest["pairs"] if p["made"]}

    def layer(self, name: str) -> dict[str, Any]:
        """What the overview says of a layer.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if name not in self._rows:
            raise unknown_name(f"layer in the atlas of {self.model}", str(name), self._rows)
        return self._rows[name]

    def pair(self, source: str, target: str) -> dict[str, Any]:
        """What the overview says of the weights from one layer to another.

        Raises:
            UnknownNameError: if they are not kept.
        """
        if (source, target) not in self._pairs:
            for name in (n for n in (source, target) if n != "input"):
                self.layer(name)
            kept = ", ".join(repr(s) for s, t in self._pairs if t == target) or "none"
            raise UnknownNameError(
                f"this atlas keeps no weights from {source!r} to {target!r}; those to {target!r} are from: {kept}. "
                f"Build them with pairs=[({source!r}, {target!r})]"
            )
        return self._pairs[source, target]

    def weights(self, source: str, target: str, units: Iterable[int] | None = None) -> Weights:
        """The weights from one layer to another, float32 ``[O, I, H, W]``, without their skip path.

        Args:
            source, target: names of layers.
            units: target units, each one file; default all.

        Raises:
            UnknownNameError: for weights or units that are not there.
            StoreError: if they are damaged.
        """
        self.pair(source, target)
        return pairs.read_weights(self.files, source, target, units)

    def pictures(self, layer: str, recipe: str | None = None, units: Iterable[int] | None = None) -> FeatureImages:
        """Pictures of what units of a layer detect.

        Args:
            layer: its name.
            recipe: ``"display"``, ``"quick"`` and so on; default the first of display, max and quick that there is.
            units: their numbers; default all that there are.

        Raises:
            UnknownNameError: for pictures that are not there.
            StoreError: if one is damaged.
        """
        folder = recipe or self.best_recipe(layer)
        made = self._made(layer, folder)
        chosen = list(made) if units is None else checked_units(units, self.layer(layer)["units"], f"layer {layer!r}")
        if not chosen:
            raise UnknownNameError(f"there is no {folder} picture of {layer!r} in this atlas yet")
        missing = [u for u in chosen if u not in made]
        if missing:
            raise UnknownNameError(f"there is no {folder} picture of {layer}:{missing[0]} in this atlas yet")
        return pictures.read_pictures(self.files, layer, folder, chosen)

    def best_recipe(self, layer: str) -> str:
        """The recipe of the best pictures of a layer.

        Raises:
            UnknownNameError: if there are none.
        """
        known = self.layer(layer)["pictures"]
        for recipe in ("display", "max", "quick", *(r for r in known if has_wall(r))):
            if known.get(recipe, {}).get("made"):
                return recipe
        raise UnknownNameError(f"there are no pictures of {layer!r} in this atlas yet")

    def _made(self, layer: str, recipe: str) -> list[int]:
        known = self.layer(layer)["pictures"]
        if recipe not in known:
            raise unknown_name(f"recipe of {layer!r} in this atlas", recipe, known)
        return numbers_in(known[recipe]["made"])

    def document(self, path: str) -> dict[str, Any]:
        """A JSON document of the atlas, read once.

        Raises:
            StoreError: if it is not there, or damaged.
        """
        if path not in self._kept:
            self._kept[path] = parsed(self.files.read(path), path)
        return self._kept[path]

    def group(self, path: str) -> Group:
        """A Zarr group of the atlas, opened once.

        Raises:
            StoreError: if it is not there, or damaged.
        """
        if path not in self._kept:
            self._kept[path] = Group(self.files, path)
        return self._kept[path]

    def agreement(self, source: str, target: str) -> Agreement | None:
        """How far the weights of a pair agree with the real network on the images; ``None`` if not measured."""
        if self.pair(source, target)["agreement"] == NOT_MEASURED:
            return None
        d = self.document(layout.connections_path(target, source, "agreement"))
        cosine = np.array([np.nan if c is None else c for c in d["cosine"]], np.float32)
        return Agreement(np.array(d["units"]), cosine, np.array(d["overlap"]), d["k"], source, target, "exclude")

    def unit(self, address: str) -> UnitPage:
        """Everything that the page of a unit shows, from an address such as ``blocks.4.1:17``.

        Raises:
            ArgumentError: for what is no address.
            UnknownNameError: for a layer or unit that is not here.
        """
        match = re.fullmatch(r"(.+):([0-9]{1,9})", str(address), re.S)
        if match is None:
            raise ArgumentError(f"{address!r} is no address of a unit, such as {self.layers[0] + ':0'!r}")
        layer, unit = match[1], int(match[2])
        checked_units([unit], self.layer(layer)["units"], f"layer {layer!r}")
        return unit_page(self, layer, unit)

    @property
    def families(self) -> list[dict[str, Any]]:
        """Families of units: those that people named, then those found by rule."""
        return families.read(self.files) + self.manifest["families"]

    def name_family(self, name: str, layer: str, units: Iterable[int]) -> list[dict[str, Any]]:
        """Names units of a layer; a family of that name is replaced.

        Returns:
            The families that people named.

        Raises:
            ArgumentError, UnknownNameError: for an empty name, or units that do not exist.
            StoreError: if it cannot be written.
        """
        chosen = sorted(set(checked_units(units, self.layer(layer)["units"], f"layer {layer!r}")))
        return families.put(self.files, name, layer, chosen)

    def drop_family(self, name: str) -> list[dict[str, Any]]:
        """Forgets a family that was named.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        return families.drop(self.files, name)

    def check(self, repair: bool = False) -> checking.Report:
        """Verifies every file of the atlas: checksums, shapes, pictures, completeness.

        Args:
            repair: remove what is broken, so that a build makes it again. Nothing that people wrote is removed.
        """
        return checking.check_atlas(self.files, repair)

    def __repr__(self) -> str:
        done = self.coverage
        seen = ", ".join(f"{made} of {wanted} {recipe}" for recipe, (made, wanted) in done["pictures"].items())
        made, wanted = done["weights"]
        what = f"{len(self.layers)} layers, weights of {made} of {wanted} pairs"
        return shown(f"Atlas({self.model}: {what}{', pictures: ' + seen if seen else ''})")

    def _repr_html_(self) -> str:
        """How a notebook shows the atlas."""
        from html import escape

        done = self.coverage
        counts = {**{k: v for k, v in done.items() if k != "pictures"}, **done["pictures"]}
        rows = "".join(
            f"<tr><td>{escape(shown(k))}<td>{made}<td>of {wanted}" for k, (made, wanted) in counts.items() if wanted
        )
        head = f"<p>{escape(shown(self.model))}, {len(self.layers)} layers in <code>{escape(shown(self.where))}</code>"
        return f"{head}<table>{rows}</table>"


def shown(text: str) -> str:
    """Text on one line that any terminal and page can show: what cannot be printed is written as Python does."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
