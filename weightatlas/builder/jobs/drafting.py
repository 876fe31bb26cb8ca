"""The jobs of each kind of work for a request."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import GraphError, WeightAtlasError
from ...graph import capture
from ...lens import Photos
from ...network import INPUT, Network
from ...store import WantedPair, layout
from ...store.arrays import META
from ...store.pairs import uniform
from .context import Settings
from .exemplifying import EXAMPLES, watched
from .job import Failure, Job
from .levels import Levels, gate_between
from .reading import between
from .request import Request
from .weighing import OUTGOING

IMAGE_AXES = 3
EXAMPLES_AT_ONCE = 64  # units


@dataclass
class Draft:
    """A plan that is being made.

    Args:
        net, settings: whose plan it is.
        photos: images, if they are here; without them, nothing that needs them is planned.
        seen: whether the atlas was measured on images, now or before.
        levels: layers and how they are joined.
        jobs, notes, failures: what was planned so far.
        wanted: (layer, folder of a recipe) → units that are pictured.
        shapes: (source, target) → the shape of one target unit's weights as they are kept.
        stage: that is being planned.
        known: what plans before have found out about the network's graph.
    """

    net: Network
    settings: Settings
    photos: Photos | None
    seen: bool
    levels: Levels
    jobs: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    wanted: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    shapes: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    stage: int = 0
    known: dict[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.known = found_out(self.net)

    def add(self, job: Job) -> None:
        """One job more, in the stage that is being planned."""
        self.jobs.append(replace(job, stage=self.stage))

    @property
    def gates(self) -> tuple[str, ...]:
        """What must be done before weights can be read."""
        return ("statistics",) if self.settings.measured else ()


def pairs_within_budget(
    draft: Draft, more: Iterable[tuple[str, str]], budget: int
) -> tuple[list[WantedPair], list[WantedPair]]:
    """Pairs of layers whose weights are kept, nearest first, and those that the budget leaves out.

    Pairs that were asked for by name (``more``) are kept in any case.
    """
    near, beyond = draft.levels.neighbours, draft.levels.two_back
    wanted = [WantedPair(s, t, 1, _gates(draft.net, draft.known, s, t)) for s, t in near]
    wanted += [WantedPair(s, t, 2, m) for (s, t), m in beyond.items()]
    have, named = {(p.source, p.target) for p in wanted}, tuple(more)
    wanted += [WantedPair(s, t, 0, ()) for s, t in named if (s, t) not in have]
    kept, left_out, spent = [], [], 0
    for pair in wanted:
        size = _size(draft, pair)
        if size is None:
            continue
        measured = WantedPair(pair.source, pair.target, pair.span, pair.middles, size)
        fits = (pair.source, pair.target) in named or spent + size <= budget
        (kept if fits else left_out).append(measured)
        spent += size if fits else 0
    return kept, left_out


def _gates(net: Network, known: dict[Any, Any], source: str, target: str) -> tuple[str, ...]:
    if source == INPUT:
        return ()
    key = ("gate between", source, target)
    if key not in known:
        known[key] = gate_between(net, source, target)
    return (known[key],) if known[key] else ()


def _size(draft: Draft, pair: WantedPair) -> int | None:
    """Bytes of a pair's weights and of the maps kept with each source; ``None``, and a failure, where it has none."""
    try:
        one = _one(draft.net, draft.known, pair.source, pair.target)
    except WeightAtlasError as error:
        draft.failures.append(Failure(f"weights {pair.name}", " ".join(str(error).split())))
        return None
    draft.shapes[pair.source, pair.target] = one[0]
    return _kept(draft.net, pair.target, one)


def kept_bytes(net: Network, source: str, target: str) -> int:
    """Bytes of the weights between two layers and of the maps kept with each source.

    Raises:
        GraphError, ArgumentError, WeightValuesError: where there are none.
    """
    return _kept(net, target, _one(net, found_out(net), source, target))


_One = tuple[tuple[int, ...], int, int]


def _kept(net: Network, target: str, one: _One) -> int:
    _, size, groups = one
    own = net.layers[target].units
    outgoing = groups * min(OUTGOING, own)  # maps with each source that a target can see
    return (own + outgoing) * size


def found_out(net: Network) -> dict[Any, Any]:
    """What was found out about a network's graph before, by whoever planned; empty where there is none."""
    try:
        return capture(net).plans
    except GraphError:
        return {}


def _one(net: Network, known: dict[Any, Any], source: str, target: str) -> _One:
    """Shape and bytes of one target unit's weights as they are kept, and their groups; found out once a graph."""
    key = ("one unit", source, target)
    if key not in known:  # shapes do not depend on gates
        one = between(_plain(net), source, target, [0], gate="identity")
        kept = uniform(one)[0].values
        known[key] = kept.shape[1:], kept[0].nbytes, one.groups
    return known[key]


def _plain(net: Network) -> Network:
    """The network without statistics: what is asked here is shapes."""
    if net.measured is None:
        return net
    found = copy.copy(net)
    found.measured = None
    return found


def weights(draft: Draft, pair: WantedPair) -> None:
    """The job that multiplies a pair out."""
    mark = f"{layout.weights_path(pair.target, pair.source)}/{META}"
    makes = (layout.connections_path(pair.target, pair.source, "top"), mark)
    draft.add(Job("weights", f"weights {pair.name}", makes, pair.target, pair.source, after=draft.gates))


def _factors(draft: Draft, pair: WantedPair) -> None:
    if draft.shapes[pair.source, pair.target][0] < 2:  # nothing to reduce
        return
    names = ["factors"]
    if _spatial(draft, pair.source, pair.target):
        names = [*(f"factors/{u}" for u in range(draft.net.layers[pair.target].units)), *names]
    makes = tuple(layout.connections_path(pair.target, pair.source, name) for name in names)
    after = (f"weights {pair.name}",)
    draft.add(Job("factors", f"factors {pair.name}", makes, pair.target, pair.source, after=after))


def about_units(draft: Draft, pairs: Sequence[WantedPair]) -> None:
    """What weights tell of units: factors, banding, likeness."""
    for pair in pairs:
        if pair.span == 1 and pair.source != INPUT:
            _factors(draft, pair)
    draft.add(Job("banding", "banding", (layout.BANDING,)))
    for layer in draft.levels.layers:
        others, mark = tuple(draft.levels.reading[layer]), layout.layer_path(layer, "units")
        draft.add(Job("units", f"units {layer}", (mark,), layer, others=others, after=draft.gates))


def paths(draft: Draft, pair: WantedPair) -> None:
    """The jobs that follow a pair's paths."""
    for middle in pair.middles:
        mark = f"{layout.paths_path(pair.target, pair.source, middle)}/{META}"
        name = f"paths {pair.name} through {middle}"
        draft.add(Job("paths", name, (mark,), pair.target, pair.source, middle, after=draft.gates))


def agreement(draft: Draft, pair: WantedPair) -> None:
    """The job that compares a pair with the real network, if there are images and it can be captured."""
    if draft.photos is None or draft.levels.note:
        return
    mark = layout.connections_path(pair.target, pair.source, "agreement")
    after = (f"weights {pair.name}",)
    draft.add(Job("agreement", f"agreement {pair.name}", (mark,), pair.target, pair.source, after=after))


def examples(draft: Draft, requests: Sequence[Request]) -> None:
    """The jobs that go through the images, and those that put together what was found."""
    net, photos = draft.net, draft.photos
    layers = tuple(n for n in draft.levels.layers if watched(net.layers[n]))
    images = net.input is not None and len(net.input.shape) == IMAGE_AXES
    if not draft.seen or not layers:
        return
    digest = photos.digest if photos is not None else ""
    key = hashlib.sha256("|".join((digest, *layers)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    parts = [f"activations {key} {number}" for number in range(len(photos.parts) if photos is not None else 0)]
    for number, name in enumerate(parts):
        mark = f"{layout.part_path(key, number)}/{META}"
        draft.add(Job("examples", name, (mark,), others=layers, key=key, number=number))
    after = tuple(parts)
    for layer in layers if photos is not None else ():
        mark = layout.layer_path(layer, "activations")
        draft.add(Job("examples", f"activations {layer}", (mark,), layer, key=key, after=after))
    for request in requests if images else ():
        for layer in (n for n in request.layers if n in layers):
            units = request.units_of(layer, net.layers[layer].units)
            draft.wanted.setdefault((layer, EXAMPLES), set()).update(units)
            for batch in _batches(units, EXAMPLES_AT_ONCE) if photos is not None else ():
                makes = tuple(layout.picture_path(layer, EXAMPLES, u) for u in batch)
                name = f"examples {layer} {_span(batch)}"
                draft.add(Job("examples", name, makes, layer, recipe=EXAMPLES, units=batch, key=key, after=after))


def pictures(draft: Draft, request: Request, recipe: str) -> None:
    """The jobs of one recipe for all layers of a request."""
    net = draft.net
    if net.input is None or len(net.input.shape) != IMAGE_AXES:
        draft.notes.append(f"{net.name} takes no images, so there are no pictures of units")
        return
    variant = recipe.partition(".")[2]
    for layer in (n for n in draft.levels.layers if n in request.layers and net.layers[n].grid is not None):
        units = request.units_of(layer, net.layers[layer].units)
        for source in _sources(draft, layer, variant):
            folder = layout.recipe_folder(recipe, source or None)
            after = _needs(layer, source, variant)
            for batch in _batches(units, 1 if variant in ("diverse", "positions") else request.batch):
                makes = tuple(layout.picture_path(layer, folder, u) for u in batch)
                name = f"pictures {layer} {folder} {_span(batch)}"
                draft.add(
                    Job("pictures", name, makes, layer, source, recipe=recipe, units=batch, after=after, on_device=True)
                )
            if units:
                draft.wanted.setdefault((layer, folder), set()).update(units)


def _sources(draft: Draft, layer: str, variant: str) -> list[str]:
    """Earlier layers over whose units pictures are made; one nameless for those of the layer itself."""
    if variant not in ("positions", "factors"):
        return [""]
    made = {(j.layer, j.source) for j in draft.jobs if j.kind == ("weights" if variant == "positions" else "factors")}
    found = [s for s in draft.levels.read_by(layer) if s != INPUT and (layer, s) in made]
    if variant == "factors":
        return [s for s in found if _spatial(draft, s, layer)]
    return found


def _spatial(draft: Draft, source: str, target: str) -> bool:
    """Whether a unit has several positions, so that it has factors of its own."""
    sources, height, width = draft.shapes[source, target]
    return sources > 1 and height * width > 1


def _needs(layer: str, source: str, variant: str) -> tuple[str, ...]:
    return (f"{'factors' if variant == 'factors' else 'weights'} {layer} ← {source}",) if source else ()


def _batches(units: Sequence[int], size: int) -> Iterable[tuple[int, ...]]:
    return (tuple(units[i : i + size]) for i in range(0, len(units), size))


def _span(units: Sequence[int]) -> str:
    """Units in few characters, and no other units in the same."""
    if len(units) > 1 and units[-1] - units[0] == len(units) - 1:
        return f"{units[0]}-{units[-1]}"
    return ",".join(map(str, units))
