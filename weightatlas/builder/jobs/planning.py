"""From a request to jobs: what is made, in which order, in which pieces; and what of it is not there yet.

What is useful first comes first: weights and what they tell of units, then a quick picture of every unit, then the
paths and agreement that take longer, then the pictures in full.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from ...lens import Photos
from ...network import Network
from ...store import Wanted, WantedPair, layout
from ...store.arrays import META
from . import drafting
from .context import Settings
from .drafting import Draft
from .job import Failure, Job, Kind
from .levels import levels
from .request import Request

#: Kinds in the order in which they are done; pictures by recipe in the order of the request.
KINDS: tuple[Kind, ...] = (
    "statistics", "weights", "factors", "banding", "units", "examples", "pictures", "paths", "agreement",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All jobs of a request, done or not.

    Args:
        jobs: in order; what one reads is made by one before it.
        wanted: what there will be, for the overview.
        failures: what cannot even be planned.
        notes: what was left out, one sentence each.
    """

    jobs: tuple[Job, ...]
    wanted: Wanted
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Pairs that the budget has no room for, in words."""
        return tuple(f"{pair.name} ({pair.bytes:,} bytes)" for pair in self.wanted.left_out)

    def missing(self, exists: Container[str]) -> list[Job]:
        """The jobs that are not done. Parts are needed only while something that reads them is missing."""
        todo = [job for job in self.jobs if any(path not in exists for path in job.makes)]
        read = {name for job in todo for name in job.after}
        return [job for job in todo if job.kind != "examples" or job.layer or job.name in read]

    def of(self, request: Request) -> list[Job]:
        """The jobs of one of the requests: those of its pictures, and of weights that begin or end at its layers."""
        return [job for job in self.jobs if _belongs(job, request)]


def _belongs(job: Job, request: Request) -> bool:
    if not job.layer:
        return True
    if job.units and job.kind == "pictures" and job.recipe not in request.recipes:
        return False
    if job.units:
        return job.layer in request.layers and request.wants(job.layer, job.units)
    return not {job.layer, job.source}.isdisjoint(request.layers) or (job.source, job.layer) in request.pairs


def planned(net: Network, requests: Sequence[Request], settings: Settings, photos: Photos | None, seen: bool) -> Plan:
    """The plan of all that was asked; nothing is made.

    Args:
        net: an open network.
        requests: in the order in which they came.
        settings: of the atlas.
        photos: images, if they are here.
        seen: whether the atlas was measured on images, now or before.

    Raises:
        UnknownNameError, ArgumentError: for layers that cannot be part of an atlas.
    """
    layers = {layer for request in requests for layer in request.layers}
    known = levels(net, [n for n in net.layers if n in layers])
    draft = Draft(net, settings, photos, seen, known)
    if known.note:
        draft.notes.append(f"paths between layers are not known: {known.note}")
    if settings.measured:
        draft.add(Job("statistics", "statistics", (f"{layout.STATISTICS}/{META}",)))
    more = tuple(dict.fromkeys(pair for request in requests for pair in request.pairs))
    pairs, left_out = drafting.pairs_within_budget(draft, more, max(request.budget for request in requests))

    def each(plan_one: Callable[[Draft, WantedPair], None]) -> None:
        for pair in pairs:
            plan_one(draft, pair)

    def pictured(part: slice) -> None:
        for request in requests:
            for recipe in request.recipes[part]:
                drafting.pictures(draft, request, recipe)

    stages: list[Callable[[], None]] = [
        lambda: each(drafting.weights),
        lambda: drafting.about_units(draft, pairs),
        lambda: drafting.examples(draft, requests),
        lambda: pictured(slice(1)),
        lambda: each(drafting.paths),
        lambda: each(drafting.agreement),
        lambda: pictured(slice(1, None)),
    ]
    for stage in stages:
        draft.stage += 1
        stage()
    pictures = {place: tuple(sorted(units)) for place, units in draft.wanted.items()}
    wanted = Wanted(known.layers, known.edges, tuple(pairs), pictures, seen, tuple(left_out), len(draft.failures))
    jobs = {job.name: job for job in sorted(draft.jobs, key=lambda job: job.stage)}
    return Plan(tuple(jobs.values()), wanted, tuple(draft.failures), tuple(dict.fromkeys(draft.notes)))
