"""What is asked of a build, in full: from it alone follow its jobs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, get_args

from ...errors import ArgumentError, StoreError, unknown_name
from ...featurevis import Recipe, recipe_for
from ...featurevis.recipes import Style
from ...network import INPUT, Network
from ...records import checked_units
from .levels import block_layers

STYLES: tuple[str, ...] = get_args(Style)
#: What else of a unit is pictured: what it fires against, its varieties, what it looks for where, its factors.
VARIANTS = ("negative", "diverse", "positions", "factors")
RECIPES = ("quick", "display")
BUDGET = 2**30
#: Pictures in a job: on a processor a few seconds of work, on an accelerator what fills it.
BATCH = {"cpu": 8, "cuda": 64, "mps": 16}
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30,
          "tib": 2**40}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is to be made.

    Args:
        layers: names, in order of execution.
        units: of each layer, the units that are pictured; layers that are not in it have all of theirs.
        recipes: ``style`` or ``style.variant``, in the order in which they are wanted.
        own: settings of recipes that are none of the styles, by name.
        pairs: (source, target) of weights that are wanted besides neighbours and those two back.
        budget: bytes that weights may take.
        batch: pictures in a job.
    """

    layers: tuple[str, ...]
    units: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    recipes: tuple[str, ...] = RECIPES
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    budget: int = BUDGET
    batch: int = BATCH["cpu"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Request:
        """The request that :meth:`to_dict` wrote.

        Raises:
            StoreError: if it is none.
        """
        try:
            given = {f.name: known[f.name] for f in fields(cls) if f.name in known}
            given["units"] = {n: tuple(u) for n, u in given.get("units", {}).items()}
            given["pairs"] = tuple((s, t) for s, t in given.get("pairs", ()))
            given |= {n: tuple(given[n]) for n in ("layers", "recipes") if n in given}
            return cls(**given)
        except (TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"a request in atlas.json cannot be read: {error!r}") from error

    def units_of(self, layer: str, count: int) -> tuple[int, ...]:
        """The units of a layer that are pictured."""
        return self.units.get(layer, tuple(range(count)))

    def wants(self, layer: str, units: Iterable[int]) -> bool:
        """Whether all of some units of a layer are pictured."""
        return layer not in self.units or set(units) <= set(self.units[layer])

    @property
    def is_single(self) -> bool:
        """Whether it asks for single pictures of units that it names, or for pairs alone, as readers of an atlas do."""
        return self.batch == 1 and set(self.units) == set(self.layers)

    def covers(self, other: Request) -> bool:
        """Whether all that another request asks for, by pictures that it names, is asked for by this one."""
        return (
            set(other.layers) <= set(self.layers)
            and set(other.recipes) <= set(self.recipes)
            and set(other.pairs) <= set(self.pairs)
            and other.budget <= self.budget
            and all(self.wants(layer, units) for layer, units in other.units.items())
        )

    def joined(self, other: Request) -> Request | None:
        """One request with the very same jobs as two of single pictures; ``None`` where there is none."""
        alike = (self.recipes, dict(self.own)) == (other.recipes, dict(other.own))
        if not (self.is_single and other.is_single and alike):
            return None
        both = {n: {*self.units.get(n, ()), *other.units.get(n, ())} for n in (*self.layers, *other.layers)}
        return Request(
            layers=tuple(both),
            units={n: tuple(sorted(units)) for n, units in both.items()},
            recipes=self.recipes,
            own=self.own,
            pairs=tuple(dict.fromkeys((*self.pairs, *other.pairs))),
            budget=max(self.budget, other.budget),
            batch=1,
        )


def requested(
    net: Network,
    layers: Iterable[str] | str | None = None,
    units: Iterable[int] | Mapping[str, Iterable[int]] | None = None,
    recipes: Iterable[str | Recipe] | str | Recipe | None = None,
    pairs: Iterable[tuple[str, str]] = (),
    budget: int | str | None = None,
    batch: int | None = None,
    device: Any = None,
) -> Request:
    """A request from what people write, every name and number checked.

    Raises:
        UnknownNameError: for layers, units and recipes that do not exist.
        ArgumentError: for arguments of another kind.
    """
    layers = None if layers is None else listed(layers, str, "layers= takes names or patterns such as 'blocks.4.*'")
    chosen = () if layers == [] and pairs else _layers(net, layers)
    named, own = _recipes(net, chosen, RECIPES if recipes is None else recipes)
    kind = str(device or "cpu").split(":")[0]
    size = BATCH.get(kind, BATCH["cpu"]) if batch is None else batch
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"batch={batch!r} must be a number of pictures of at least 1")
    return Request(
        layers=chosen,
        units=_units(net, chosen, units),
        recipes=named,
        own=own,
        pairs=_pairs(net, pairs),
        budget=BUDGET if budget is None else parsed_size(budget),
        batch=size,
    )


def _layers(net: Network, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Names of layers; patterns such as ``blocks.4.*`` are matched with those an atlas shows by itself."""
    if layers is None:
        return tuple(block_layers(net))
    found: list[str] = []
    for name in layers:
        if not isinstance(name, str):
            raise ArgumentError(f"layers= takes names or patterns such as 'blocks.4.*', not {name!r}")
        if name in net.layers or not re.search(r"[*?\[]", name):
            found.append(net.layers[name].name)
            continue
        shown = block_layers(net)
        matching = [n for n in shown if fnmatchcase(n, name)]
        if not matching:
            raise unknown_name("layer like", name, shown, hint="Patterns are matched with the layers an atlas shows")
        found += matching
    silent = [n for n in found if not net.layers[n].units]
    if silent or not found:
        what = f"{silent[0]!r} has none: its output is not one tensor with channels" if silent else "none was named"
        raise ArgumentError(f"layers= takes layers with units; {what}. net.layers lists all of {net.name}")
    order = list(net.layers)
    return tuple(sorted(dict.fromkeys(found), key=order.index))


def _units(net: Network, layers: Sequence[str], units: Any) -> dict[str, tuple[int, ...]]:
    """Units by layer; numbers alone hold for all layers that have them."""
    if units is None:
        return {}
    if isinstance(units, Mapping):
        wrong = [n for n in units if n not in layers]
        if wrong:
            raise unknown_name("layer among those of this build", str(wrong[0]), layers)
        return {n: tuple(sorted(set(net.layers[n].unit_indices(u)))) for n, u in units.items()}
    most = max((net.layers[n].units for n in layers), default=0)
    numbers = sorted(set(checked_units(units, most, "the widest of these layers")))
    return {n: tuple(u for u in numbers if u < net.layers[n].units) for n in layers}


def _recipes(net: Network, layers: Sequence[str], recipes: Any) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    own: dict[str, dict[str, Any]] = {}
    named: list[str] = []
    for entry in listed(recipes, (str, Recipe), "recipes= takes names and Recipe objects"):
        if isinstance(entry, Recipe):
            settings = entry.to_dict()
            digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
            own[f"own-{digest}"] = settings
            named.append(f"own-{digest}")
            continue
        if not isinstance(entry, str):
            raise ArgumentError(f"recipes= takes names and Recipe objects, not {entry!r}")
        style, _, variant = entry.partition(".")
        if style in VARIANTS and not variant:
            style, variant = "display", style
        known = [*STYLES, *VARIANTS, *(f"{s}.{v}" for s in (*STYLES, *own) for v in VARIANTS)]
        if style not in (*STYLES, *own) or variant not in ("", *VARIANTS):
            raise unknown_name("recipe", entry, known)
        if style in STYLES and layers:
            recipe_for(net, layers[0], style)
        named.append(style + (f".{variant}" if variant else ""))
    return tuple(dict.fromkeys(named)), own


def _pairs(net: Network, pairs: Any) -> tuple[tuple[str, str], ...]:
    what = "pairs= takes pairs (source layer, target layer)"
    found = []
    for pair in listed(pairs, str, what):
        ends = [] if isinstance(pair, str) else listed(pair, str, what)
        if len(ends) != 2:
            raise ArgumentError(f"{what}, not {pair!r}")
        source, target = ends
        found.append((source if source == INPUT else net.layers[source].name, net.layers[target].name))
    return tuple(dict.fromkeys(found))


def listed(value: Any, single: type | tuple[type, ...], what: str) -> list[Any]:
    """Values as a list; one of a single kind counts as a list of one.

    Raises:
        ArgumentError: for what cannot be gone through, saying what is taken.

    Example:
        >>> listed("a", str, ""), listed(("a", "b"), str, "")
        (['a'], ['a', 'b'])
    """
    if isinstance(value, single):
        return [value]
    try:
        return list(value)
    except TypeError as error:
        raise ArgumentError(f"{what}, not {value!r}") from error


def parsed_size(size: int | str) -> int:
    """A number of bytes, also written as ``"500 MB"`` or ``"1GiB"``.

    Raises:
        ArgumentError: for anything else.

    Example:
        >>> parsed_size("1.5 GiB"), parsed_size("20MB"), parsed_size(7)
        (1610612736, 20000000, 7)
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]*)\s*", str(size))
    if isinstance(size, bool) or match is None or match[2].lower() not in _UNITS:
        raise ArgumentError(f"budget {size!r} is no size in bytes such as 1073741824, '500 MB' or '1 GiB'")
    factor = _UNITS[match[2].lower()]
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor
