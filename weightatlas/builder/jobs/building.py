"""``build``: everything about one network, in one folder, by jobs that can be stopped, killed and gone on with."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, StoreError
from ...featurevis import Recipe
from ...network import Network
from ...store import Atlas, Listing
from ...store.checking import parts_in
from .asking import Asked
from .cluster import Runner, on_cluster
from .context import Context
from .exemplifying import EXAMPLES
from .job import Event, Job, Outcome, Tell
from .levels import is_captured
from .local import in_process
from .owner import Owner
from .planning import Plan
from .stopping import Stop

WAITING = "agreement and examples wait for the images of this atlas; give them again with images="
#: Seconds between overviews while jobs go on.
OVERVIEW_EVERY = 20.0


def build(
    net: Network,
    path: str | Path,
    *,
    images: Any = None,
    layers: Iterable[str] | str | None = None,
    units: Iterable[int] | Mapping[str, Iterable[int]] | None = None,
    recipes: Iterable[str | Recipe] | str | Recipe | None = None,
    pairs: Iterable[tuple[str, str]] = (),
    budget: int | str | None = None,
    executor: Any = None,
    only: Iterable[str] | str | None = None,
    force: bool = False,
    seed: int | None = None,
    gate: str | float | None = None,
    device: Any = None,
    batch: int | None = None,
    stop_after: float | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Atlas:
    """The atlas of a network: weights, factors, pictures and what is known of every unit, in one folder.

    It can be stopped or killed at any moment and goes on where it was when called again: nothing is made twice but what
    was in the making. Without ``layers``, ``units``, ``recipes``, ``pairs``, ``budget`` and ``batch`` it goes on with
    all that was ever asked of this atlas.

    Args:
        net: an open network with its architecture.
        path: a folder, or a URL that fsspec opens (``s3://bucket/atlas``).
        images: files, folders with all that lies in them, arrays, a tensor or any iterable of them: for the
            statistics that gates are read from (of a new atlas), agreement with the real network, and examples.
        layers: names, or patterns such as ``"blocks.4.*"`` among the layers that are taken by default: the blocks of
            the network, and the convolutions and linear maps outside of them.
        units: numbers of the units that are pictured, for all layers or by layer; default all.
        recipes: of pictures: ``"quick"``, ``"display"``, ``"max"`` or a :class:`~weightatlas.Recipe`; ``"negative"``,
            ``"diverse"``, ``"positions"`` and ``"factors"`` are further pictures of each unit. Default a quick pass
            over all units, then ``"display"``.
        pairs: (source, target) of further weights, besides those between neighbours and two back.
        budget: of all weights together, in bytes or as ``"500 MB"``; default 1 GiB. What does not fit is left out,
            nearest layers first in.
        executor: where jobs run: ``None`` for here, a number of local worker processes, the address of a
            dask.distributed scheduler, or a ``distributed.Client``.
        only: kinds of jobs or recipes: ``"weights"``, ``"pictures"``, ``"display"`` …; what these read is made, too.
        force: make these again although they exist.
        seed, gate: of a new atlas: of everything random (0), and what non-linearities are read as (``"expected"``).
        device: of pictures. Jobs for ``"cuda"`` go to dask workers with the resource ``GPU``.
        batch: pictures in a job; default 8 on a processor, 64 on a GPU.
        stop_after: seconds after which no new job is begun.
        stop: an event that ends the build after the job in flight, when set.
        progress: called with every :class:`Event`.

    Returns:
        The atlas. A unit that could not be pictured is in ``atlas.manifest["failures"]`` with its error.

    Raises:
        ArgumentError, UnknownNameError: for arguments that do not exist or go together.
        StoreError: if the folder is of another network, held by another build, or cannot be written. What was made
            stays.
        KeyboardInterrupt: after SIGINT or SIGTERM, when the job in flight is done and the overview is written.

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.build(net, "atlas", layers=["blocks.0.0", "blocks.1.0"], only="weights")  # doctest: +SKIP
        Atlas(efficientnet_lite0: 2 layers, weights of 2 of 2 pairs, pictures: 0 of 40 quick, 0 of 40 display)
    """
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress={progress!r} is no function that takes an Event")
    tell = progress or (lambda event: None)
    halt = Stop(stop_after, stop, lambda name: tell(Event("stopping", about=name)))
    asked = Asked.of(
        net, path, images=images, layers=layers, units=units, recipes=recipes, pairs=pairs, budget=budget, batch=batch,
        device=device, only=only, force=force, seed=seed, gate=gate,
    )  # fmt: skip
    run = in_process if executor is None else on_cluster(executor, asked.files)
    asked.look()  # what does not belong here is refused before anything is touched
    with asked.owner() as owner, halt.on_signals():
        _work(asked, owner, run, tell, halt)
    if halt.signal:
        raise KeyboardInterrupt(f"stopped by {halt.signal}; build again to go on")
    return Atlas(asked.files)


def _work(asked: Asked, owner: Owner, run: Runner, tell: Tell, stop: Stop) -> None:
    """Plans, and does what is missing."""
    listing = Listing(asked.files.sizes())
    everything, now = asked.plan(owner)
    outdated = asked.outdated(now, listing)
    for path in outdated:
        del listing.sizes[path]
    owner.write_tables(listing)
    jobs = asked.selected(everything, now, listing)
    owner.keep(everything.wanted, everything.notes)
    for failure in everything.failures:
        owner.failures[failure.job] = failure

    def ready() -> None:
        """Only now, with somebody there who makes it again, what is outdated is taken away."""
        for path in outdated:
            if path not in listing:  # but what came with the network is there anew
                asked.files.remove(path)
        owner.update(listing, walls=False)

    notes = [WAITING] if asked.photos is None and _waits_for_images(everything, owner, listing) else []
    tell(planned_event(everything, jobs, owner, listing, notes))
    recipes = {name: s for r in owner.requests for name, s in r.own.items()}
    settings = dataclasses.replace(owner.settings, device=asked.device)
    context = Context(asked.net, asked.files, settings, recipes, asked.photos)
    fatal = _follow(run(context, jobs, tell, stop, ready), jobs, owner, listing, tell)
    if fatal:
        raise StoreError(f"{fatal}. What was made before stays; build again to go on")
    _finish(asked, owner, everything, tell, stop)


def counted(job: Job, exists: Container[str]) -> int:
    """How much a job counts: its pictures that are missing, else 1."""
    return sum(path not in exists for path in job.makes) if job.units else 1


def _waits_for_images(plan: Plan, owner: Owner, listing: Listing) -> bool:
    """Whether something is missing that was to be made from images."""
    if owner.images is None:
        return False
    if is_captured(owner.net) and not all(listing.has(pair, "agreement") for pair in plan.wanted.pairs):
        return True
    places = ((layer, recipe, units) for (layer, recipe), units in plan.wanted.pictures.items() if recipe == EXAMPLES)
    return any(len(listing.pictured(*place)) < len(place[2]) for place in places)


def planned_event(plan: Plan, jobs: Sequence[Job], owner: Owner, listing: Listing, notes: Sequence[str] = ()) -> Event:
    """What is told before anything is made; ``notes`` are those of this build, besides those of the plan."""
    kinds: dict[str, int] = {}
    for job in jobs:
        name = job.recipe if job.kind == "pictures" else job.kind
        kinds[name] = kinds.get(name, 0) + counted(job, listing)
    weights = sum(p.bytes for p in plan.wanted.pairs)
    numbers = {
        "jobs": len(jobs), "of": len(plan.jobs), "kinds": kinds, "layers": len(plan.wanted.layers),
        "weights_bytes": weights, "budget": max((r.budget for r in owner.requests), default=0),
        "left_out": list(plan.left_out), "notes": [*plan.notes, *notes],
        "failures": [f.to_dict() for f in plan.failures],
    }  # fmt: skip
    return Event("planned", about=owner.net.name, numbers=numbers)


def _follow(outcomes: Iterator[Outcome], jobs: Sequence[Job], owner: Owner, listing: Listing, tell: Tell) -> str:
    """Notes what becomes of jobs, keeps the overview fresh, and returns why the build cannot go on, if so."""
    known, before = {job.name: job for job in jobs}, frozenset(listing.sizes)
    stage, seen, done = -1, time.monotonic(), 0
    for outcome in outcomes:
        job, done = known[outcome.job], done + 1
        owner.finished(outcome)
        about = "; ".join(dict.fromkeys(f.error for f in outcome.failures))
        numbers = {"seconds": round(outcome.seconds, 4), "made": outcome.made, "bytes": outcome.bytes, "done": done,
                   "jobs": len(jobs), "count": counted(job, before)}  # fmt: skip
        numbers |= {"where": outcome.where} if outcome.where else {}
        tell(Event.of("failed" if outcome.failures else "finished", job, about, **numbers))
        if outcome.fatal:
            return outcome.fatal
        if time.monotonic() - seen > OVERVIEW_EVERY or job.stage > stage >= 0:
            listing.sizes = dict(owner.files.sizes())
            owner.update(listing)
            tell(Event("updated"))
            seen = time.monotonic()
        stage = max(stage, job.stage)
    return ""


def _finish(asked: Asked, owner: Owner, everything: Plan, tell: Tell, stop: Stop) -> None:
    """The overview from what really exists, and what nothing needs any more taken away."""
    listing = Listing(asked.files.sizes())
    left = everything.missing(listing)
    waiting = asked.photos is None and owner.images is not None  # for the images, which parts then are of
    if not waiting and not any(job.kind == "examples" for job in left):
        for path in parts_in(listing.sizes):
            asked.files.remove(path)
            del listing.sizes[path]
    missing = {job.name for job in left} | {f.job for f in everything.failures}
    owner.failures = {name: f for name, f in owner.failures.items() if name in missing}
    owner.update(listing)
    size = sum(listing.sizes.values())
    numbers = {"left": len(left), "failures": len(owner.failures), "files": len(listing), "bytes": size}
    tell(Event("stopped" if stop.asked else "done", about=stop.why, numbers=numbers))
