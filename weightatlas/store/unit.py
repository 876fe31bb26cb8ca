"""Everything that the page of one unit shows, gathered with few and small reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import layout
from .counting import has_unit_factors
from .overview import NOT_MEASURED
from .pairs import OUT_MAPS, OUT_UNITS, VALUES
from .wanted import numbers_in

if TYPE_CHECKING:
    from .atlas import Atlas


@dataclass(frozen=True)
class Maps:
    """The maps between one unit and units of another layer.

    Args:
        layer: the other layer.
        pair: what the overview says of the weights.
        units: int64 ``[n]``: numbers of the other layer's units.
        values: float32 ``[n, H, W]``: a map each, y down, x right.
        cosine: agreement of this target unit's weights with the real network, ``None`` if not measured.
        factors: the unit's own factors, ``None`` without.
    """

    layer: str
    pair: Mapping[str, Any]
    units: np.ndarray
    values: np.ndarray
    cosine: float | None = None
    factors: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class UnitPage:
    """A unit's page.

    Args:
        layer, unit: its address.
        about: its layer in the overview.
        inputs: what it reads, nearest layer first; maps of all source units.
        outputs: what it acts on, nearest layer first; maps of the strongest target units.
        norm: L2 norm of its weights from the layers it reads directly, ``None`` if not known.
        similar: ``(unit, cosine)`` of units of its layer with alike weights.
        activations: its statistics on the images, ``None`` if not measured.
        pictures: recipe → path of its picture.
        families: names of families that it belongs to.
    """

    layer: str
    unit: int
    about: Mapping[str, Any]
    inputs: tuple[Maps, ...]
    outputs: tuple[Maps, ...]
    norm: float | None
    similar: tuple[tuple[int, float], ...]
    activations: Mapping[str, float] | None
    pictures: Mapping[str, str]
    families: tuple[str, ...]

    @property
    def address(self) -> str:
        """``layer:unit``."""
        return f"{self.layer}:{self.unit}"


def unit_page(atlas: Atlas, layer: str, unit: int) -> UnitPage:
    """The page of a unit that exists."""
    about = atlas.layer(layer)
    near = sorted((p for p in atlas.manifest["pairs"] if p["made"]), key=lambda p: p["span"] or 9)
    described = atlas.document(layout.layer_path(layer, "units")) if about["described"] else None
    seen = about["activations"] is True
    return UnitPage(
        layer,
        unit,
        about,
        tuple(_inputs(atlas, p, unit) for p in near if p["target"] == layer),
        tuple(_outputs(atlas, p, unit) for p in near if p["source"] == layer),
        described["norms"][unit] if described else None,
        tuple((u, c) for u, c in described["similar"][unit]) if described else (),
        _activations(atlas, layer, unit) if seen else None,
        {r: layout.picture_path(layer, r, unit) for r, p in about["pictures"].items() if unit in numbers_in(p["made"])},
        tuple(f["name"] for f in atlas.families if f["layer"] == layer and unit in f["units"]),
    )


def _inputs(atlas: Atlas, pair: Mapping[str, Any], unit: int) -> Maps:
    source, target = pair["source"], pair["target"]
    values = atlas.group(pair["path"]).row(VALUES, unit)
    per_group = len(values)
    group = unit // max(pair["shape"][0] // pair["groups"], 1)
    measured = pair["agreement"] != NOT_MEASURED
    known = atlas.document(layout.connections_path(target, source, "agreement")) if measured else None
    own = layout.connections_path(target, source, f"factors/{unit}")
    factors = atlas.document(own) if has_unit_factors(pair) else None
    units = np.arange(group * per_group, (group + 1) * per_group)
    return Maps(source, pair, units, values, known["cosine"][unit] if known else None, factors)


def _outputs(atlas: Atlas, pair: Mapping[str, Any], unit: int) -> Maps:
    group = atlas.group(pair["path"])
    units = group.row(OUT_UNITS, unit)
    kept = units >= 0
    return Maps(pair["target"], pair, units[kept].astype(np.int64), group.row(OUT_MAPS, unit)[kept])


def _activations(atlas: Atlas, layer: str, unit: int) -> dict[str, float]:
    known = atlas.document(layout.layer_path(layer, "activations"))
    return {name: known[name][unit] for name in ("mean", "deviation", "rate", "least", "most")}
