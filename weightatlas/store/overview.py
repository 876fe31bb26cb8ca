"""The overview of an atlas, derived from what exists: ``atlas.json``, ``edges.json``, and the walls of pictures.

Only the owner of a build writes these. They hold nothing that could not be derived again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .arrays import META, Group
from .files import Files
from .layout import (
    BANDING,
    EDGES,
    LAYERS,
    MANIFEST,
    SCHEMA,
    connections_path,
    layer_path,
    paths_path,
    wall_path,
    weights_path,
)
from .listing import Listing
from .names import path_of
from .sealing import document, parsed
from .walls import WALL, derive_wall
from .wanted import Wanted, WantedPair, ranges

NOT_MEASURED = "not measured"
EXAMPLES = "examples"
#: Connections of the whole network that are listed.
NOTABLE = 200
#: What of a layer's row in the table of layers is part of the overview.
LAYER_FACTS = ("name", "kind", "type", "units", "grid", "kernel", "stride", "groups", "receptive_field",
               "receptive_note", "parameters")  # fmt: skip


@dataclass
class Overview:
    """What the owner knows besides the files: it keeps documents that have not changed since they were read.

    Args:
        files: of the atlas.
        identity: the content of ``model.json``.
        wanted: what there is to be.
        state: further entries of ``atlas.json``: requests, failures, notes, images, what it was made with.
    """

    files: Files
    identity: Mapping[str, Any]
    wanted: Wanted
    state: dict[str, Any]
    _read: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    _written: dict[str, bytes] = field(default_factory=dict)

    def update(self, listing: Listing, walls: bool = True) -> dict[str, Any]:
        """Derives everything from what exists, writes what has changed, and returns the content of ``atlas.json``.

        Args:
            listing: of the atlas now; it learns what is written.
            walls: whether sprite sheets are made as well; else those that exist are told of.
        """
        sheets = {}
        if walls:
            for (layer, recipe), units in self.wanted.pictures.items():
                if has_wall(recipe) and listing.pictured(layer, recipe, units):
                    sheets[layer, recipe] = derive_wall(self.files, listing, layer, recipe, units)
        tops = {(p.source, p.target): self._top(listing, p) for p in self.wanted.pairs}
        self._put(EDGES, edges(self.wanted, tops, self._cancelled(listing)), listing)
        content = self._content(listing, tops, sheets)
        self._put(MANIFEST, content, listing, indent=1)
        return content

    def document(self, listing: Listing, path: str) -> dict[str, Any] | None:
        """A document, read again only if its size has changed; ``None`` if it is not there."""
        size = listing.sizes.get(path)
        if size is None:
            return None
        if path not in self._read or self._read[path][0] != size:
            self._read[path] = size, parsed(self.files.read(path), path)
        return self._read[path][1]

    def _put(self, path: str, content: dict[str, Any], listing: Listing, indent: int | None = None) -> None:
        data = document(content, indent)
        if self._written.get(path) != data and self.files.read_if_there(path) != data:
            self.files.write(path, data)
        self._written[path] = data
        listing.sizes[path] = len(data)

    def _top(self, listing: Listing, pair: WantedPair) -> dict[str, Any] | None:
        if not listing.has_weights(pair.source, pair.target):
            return None
        return self.document(listing, connections_path(pair.target, pair.source, "top"))

    def _cancelled(self, listing: Listing) -> list[list[Any]]:
        """Rows: target, unit, source, source unit, middle, magnitude of the sum, sum of magnitudes, share lost."""
        rows = []
        for pair in self.wanted.pairs:
            for middle in listing.middles(pair):
                about = self._attributes(listing, paths_path(pair.target, pair.source, middle))
                for unit, source_unit, *numbers in about.get("cancelled", []):
                    rows.append([pair.target, unit, pair.source, source_unit, middle, *numbers])
        return rows

    def _attributes(self, listing: Listing, group: str) -> dict[str, Any]:
        size = listing.sizes[f"{group}/{META}"]
        if group not in self._read or self._read[group][0] != size:
            self._read[group] = size, Group(self.files, group).attributes.get("weightatlas", {})
        return self._read[group][1]

    def _content(
        self, listing: Listing, tops: Mapping[Any, dict[str, Any] | None], sheets: Mapping[Any, dict[str, Any]]
    ) -> dict[str, Any]:
        table = self.document(listing, LAYERS) or {"layers": []}
        facts = {row["name"]: row for row in table["layers"]}
        bands = {r["layer"]: r for r in (self.document(listing, BANDING) or {"rows": []})["rows"]}
        layers = [self._layer(listing, n, facts.get(n, {"name": n}), bands, sheets) for n in self.wanted.layers]
        pairs = [self._pair(listing, p, tops[p.source, p.target]) for p in self.wanted.pairs]
        families = self._families(listing)
        return {
            "format": "weightatlas",
            "schema": SCHEMA,
            **{k: v for k, v in self.identity.items() if k not in ("format", "schema")},
            **self.state,
            "layers": layers,
            "edges": [list(e) for e in self.wanted.edges],
            "pairs": pairs,
            "families": families,
            "start": start_here(pairs, tops, families, bands),
            "left_out": [{"source": p.source, "target": p.target, "bytes": p.bytes} for p in self.wanted.left_out],
            "coverage": self._coverage(listing),
        }

    def _layer(
        self, listing: Listing, name: str, row: Mapping[str, Any], bands: Mapping[str, Any], sheets: Mapping[Any, Any]
    ) -> dict[str, Any]:
        inside = [name, *row.get("inside", ())]
        banding = [bands[n] for n in inside if n in bands]
        pictures = {}
        for (layer, recipe), units in self.wanted.pictures.items():
            if layer == name:
                made = listing.pictured(layer, recipe, units)
                wall = sheets.get((layer, recipe)) or self._wall(listing, layer, recipe)
                dead = (
                    [u for u, alive in zip(wall["units"], wall["alive"], strict=True) if alive is False] if wall else []
                )
                pictures[recipe] = {"wanted": ranges(units), "made": ranges(made), "without_result": ranges(dead),
                                    "wall": wall is not None}  # fmt: skip
        return {
            **{k: row[k] for k in LAYER_FACTS if k in row},
            "path": path_of(name),
            "banding": max(banding, key=lambda b: (b["banded"], b["row_share"] or 0), default=None),
            "described": listing.has_about(name, "units"),
            "activations": listing.has_about(name, "activations") if self.wanted.images else NOT_MEASURED,
            "pictures": pictures,
        }

    def _wall(self, listing: Listing, layer: str, recipe: str) -> dict[str, Any] | None:
        return self.document(listing, wall_path(layer, recipe, WALL))

    def _pair(self, listing: Listing, pair: WantedPair, top: dict[str, Any] | None) -> dict[str, Any]:
        found = {
            "source": pair.source,
            "target": pair.target,
            "span": pair.span,
            "path": weights_path(pair.target, pair.source),
            "about": connections_path(pair.target, pair.source, "").removesuffix("/.json"),
            "made": top is not None,
            "paths": [[m, paths_path(pair.target, pair.source, m)] for m in listing.middles(pair)],
            "factors": listing.has(pair, "factors"),
            "agreement": self._agreement(listing, pair),
        }
        kept = ("shape", "uniform", "origin", "stride", "dilation", "groups", "source_units", "at", "sees_pixels",
                "skip", "largest", "bytes", "replaced", "structure")  # fmt: skip
        return found | ({k: top[k] for k in kept} if top else {})

    def _agreement(self, listing: Listing, pair: WantedPair) -> str | dict[str, Any]:
        known = self.document(listing, connections_path(pair.target, pair.source, "agreement"))
        if known is None:
            return NOT_MEASURED
        return {k: known[k] for k in ("mean_cosine", "mean_overlap", "k", "split_half", "samples", "images")}

    def _families(self, listing: Listing) -> list[dict[str, Any]]:
        """The tightest family of every layer over what it reads, found by rule."""
        found = []
        for layer in self.wanted.layers:
            about = self.document(listing, layer_path(layer, "units"))
            for row in about["families"] if about else []:
                name = f"{layer}, alike over {row['source']}"
                found.append({"name": name, "layer": layer, **row, "by": "rule"})
        return found

    def _coverage(self, listing: Listing) -> dict[str, Any]:
        """Of each kind of thing, how many there are of how many."""
        w = self.wanted
        recipes: dict[str, list[int]] = {}
        for (layer, recipe), units in w.pictures.items():
            counts = recipes.setdefault(recipe.partition("@")[0], [0, 0])
            counts[0] += len(listing.pictured(layer, recipe, units))
            counts[1] += len(units)
        return {
            "weights": [sum(listing.has_weights(p.source, p.target) for p in w.pairs), len(w.pairs) + w.untold],
            "paths": [sum(len(listing.middles(p)) for p in w.pairs), sum(len(p.middles) for p in w.pairs)],
            "units": [sum(listing.has_about(n, "units") for n in w.layers), len(w.layers)],
            "agreement": [sum(listing.has(p, "agreement") for p in w.pairs), len(w.pairs) if w.images else 0],
            "banding": [int(BANDING in listing), 1],
            "pictures": recipes,
        }


def has_wall(recipe: str) -> bool:
    """Whether pictures are one a unit, so that a wall of them can be looked at; mosaics are not."""
    return "." not in recipe and recipe != EXAMPLES


def edges(wanted: Wanted, tops: Mapping[Any, dict[str, Any] | None], cancelled: list[list[Any]]) -> dict[str, Any]:
    """The strongest connections of the whole network, and those in which most is lost.

    Of each pair of neighbours the connections that hold the largest share of their target's squared weights, and of all
    pairs those whose paths cancel most of what they would add up to.
    """
    strong = []
    for pair in wanted.pairs:
        for unit, source_unit, *numbers in (tops.get((pair.source, pair.target)) or {}).get("strongest", []):
            if pair.span == 1 and pair.source in wanted.layers:
                strong.append([pair.target, unit, pair.source, source_unit, *numbers])
    strong.sort(key=lambda row: (-row[5], row[0], row[1], row[2], row[3]))
    cancelled = sorted(cancelled, key=lambda row: (-row[7], -row[6], *map(str, row[:5])))
    return {
        "strongest": {"columns": ["target", "unit", "source", "source unit", "strength", "share", "sum"],
                      "rows": strong[:NOTABLE]},
        "cancelled": {"columns": ["target", "unit", "source", "source unit", "middle", "magnitude of the sum",
                                  "sum of magnitudes", "share lost"], "rows": cancelled[:NOTABLE]},
    }  # fmt: skip


def start_here(
    pairs: Sequence[Mapping[str, Any]],
    tops: Mapping[Any, dict[str, Any] | None],
    families: Sequence[Mapping[str, Any]],
    bands: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Where a reader may begin, each with the rule that chose it."""
    found: list[dict[str, Any]] = []
    near = [p for p in pairs if p["span"] == 1 and p["made"]]
    late = [p for p in near[len(near) // 2 :] if p.get("structure")]
    if late:
        best = max(late, key=lambda p: p["structure"]["median"])
        address = f"{best['target']}:{best['structure']['unit']}"
        why = "its positions are the most structured of the layer whose are, in the second half of the network"
        found.append({"page": "unit", "address": address, "source": best["source"], "why": why})
    strongest = [
        (row[3], p["target"], row[0], p["source"], row[1])
        for p in near
        if not p["sees_pixels"]
        for row in (tops.get((p["source"], p["target"])) or {}).get("strongest", [])[:1]
    ]
    if strongest:
        share, target, unit, source, source_unit = max(strongest, key=lambda s: s[0])
        why = f"of all connections of neighbours the one with the largest share of its target's weights, {share:.0%}"
        found.append({"page": "edge", "address": f"{target}:{unit}", "source": f"{source}:{source_unit}", "why": why})
    early = families[: max(len(families) // 2, 1)]
    if early:
        row = early[-1]
        why = f"the units of {row['layer']} that read the most alike sources"
        found.append({"page": "family", "address": row["name"], "why": why})
    banded = [b for b in bands.values() if b["banded"]]
    if banded:
        row = max(banded, key=lambda b: b["row_share"])
        why = f"its kernels are banded: {row['row_share']:.0%} of their variance lies between rows"
        found.append({"page": "layer", "address": row["layer"], "why": why})
    return found
