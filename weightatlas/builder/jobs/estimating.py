"""What a build would do and how long it would take here, from short runs of its own work; nothing is written."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from ...errors import ArgumentError
from ...featurevis import Prepared, Recipe, speed_of
from ...network import Network
from ...store import Listing
from ...store.files import Overlay
from .asking import Asked
from .context import Context
from .job import Job
from .picturing import VARIETIES
from .planning import Plan
from .running import run

#: Pictures of one unit where it is not one.
SEVERAL = {"diverse": VARIETIES + 1, "factors": 2}


@dataclass(frozen=True)
class Estimate:
    """What a build would do.

    Args:
        jobs: how many are missing, and how many there are in all.
        counts: of what is missing, by kind or recipe: pictures where there are some, else jobs.
        seconds: that these take on this machine in one process, by the same names; NaN where it could not be told.
        weights_bytes: of all weights that are kept.
        left_out: pairs that the budget has no room for, in words.
        notes: what was left out, one sentence each.
        failures: what cannot be made, in words.
    """

    jobs: tuple[int, int]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    weights_bytes: int
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(s for s in self.seconds.values() if s == s)

    def __repr__(self) -> str:
        return f"Estimate({self.jobs[0]} of {self.jobs[1]} jobs, about {self.total:.0f} s)"


def estimate_build(net: Network, path: str | Path, **options: Any) -> Estimate:
    """What :func:`weightatlas.build` with the same arguments would do, and how long it would take here.

    A batch of every layer is rendered for a few steps, and one job of every other kind is done without being kept.

    Args:
        net, path: as in :func:`weightatlas.build`.
        options: any of its other arguments but ``executor``, ``progress``, ``stop`` and ``stop_after``.

    Raises:
        As :func:`weightatlas.build`.

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.estimate_build(net, "atlas", layers="blocks.0.0", recipes="quick").counts["quick"]
        16
    """
    taken = signature(Asked.of).parameters
    for name in options:
        if name not in taken:
            raise ArgumentError(f"an estimate takes the arguments of build() that say what is made, not {name!r}")
    asked = Asked.of(net, path, **options)
    owner = asked.look()
    listing = Listing(asked.files.sizes())
    everything, now = asked.plan(owner)
    for path in asked.outdated(now, listing):
        del listing.sizes[path]
    owner.files = Overlay(asked.files)
    owner.write_tables(listing)
    jobs = asked.selected(everything, now, listing)
    context = Context(
        net, owner.files, dataclasses.replace(owner.settings, device=asked.device),
        {name: s for r in owner.requests for name, s in r.own.items()}, asked.photos,
    )  # fmt: skip
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.recipe if job.kind == "pictures" else job.kind, []).append(job)
    seconds = {name: _seconds(context, own, everything, listing) for name, own in groups.items()}
    counts = {name: _count(own, listing) for name, own in groups.items()}
    return Estimate(
        (len(jobs), len(everything.jobs)),
        counts,
        seconds,
        sum(p.bytes for p in everything.wanted.pairs),
        everything.left_out,
        everything.notes,
        tuple(f"{f.job}: {f.error}" for f in everything.failures),
    )


def _count(jobs: Sequence[Job], listing: Listing) -> int:
    return sum(sum(p not in listing for p in job.makes) if job.units else 1 for job in jobs)


def _seconds(context: Context, jobs: Sequence[Job], plan: Plan, listing: Listing) -> float:
    if jobs[0].kind == "pictures":
        return _rendering(context, jobs)
    if jobs[0].kind == "examples":
        return _examples(context, jobs)
    sizes = {(p.target, p.source): p.bytes for p in plan.wanted.pairs}
    return _like_one(context, jobs, sizes)


def _examples(context: Context, jobs: Sequence[Job]) -> float:
    """Seconds for examples; NaN for those of many images, of which one part tells too little."""
    parts = [j for j in jobs if not j.layer]
    done = [run(context, j, pauses=()).seconds for j in parts[:1]]
    if len(parts) > 1:
        return float("nan")
    kinds = ([j for j in jobs if j.layer and not j.units], [j for j in jobs if j.units])
    return sum(done) + sum(_like_one(context, own, {}) for own in kinds if own)


def _like_one(context: Context, jobs: Sequence[Job], sizes: Mapping[tuple[str, str], int]) -> float:
    """Seconds for all jobs, from the one of median size, in proportion to their sizes."""
    weight = [sizes.get((j.layer, j.source), 0) or 1 for j in jobs]
    order = sorted(range(len(jobs)), key=lambda i: weight[i])
    place = order[len(order) // 2]
    before = [_before(context, jobs[place], sizes)] if jobs[place].after and jobs[place].kind != "examples" else []
    if any(not done for done in before):
        return float("nan")
    found = run(context, jobs[place], pauses=())
    if found.failures:
        return float("nan")
    spread = statistics.fmean(weight) / weight[place]
    return found.seconds * len(jobs) * min(spread, 10.0)


def _before(context: Context, job: Job, sizes: Mapping[tuple[str, str], int]) -> bool:
    """Makes what a job reads, where it is missing; tells whether that worked."""
    if not job.source or (job.layer, job.source) not in sizes:
        return job.kind in ("units", "banding")
    weights = Job("weights", "weights", (), job.layer, job.source)
    return not run(context, weights, pauses=()).failures


def _rendering(context: Context, jobs: Sequence[Job]) -> float:
    """Seconds for pictures, from a few steps of a batch of every layer."""
    total = 0.0
    for layer in dict.fromkeys((j.layer, j.source) for j in jobs):
        own = [j for j in jobs if (j.layer, j.source) == layer]
        style, _, variant = own[0].recipe.partition(".")
        rendered = layer[1] or layer[0]
        settings = context.recipe(style, rendered)
        batch = max(len(j.units) for j in own)
        pictures = sum(len(j.units) for j in own) * SEVERAL.get(variant, 1)
        if variant == "positions":
            pictures *= _places(context, own[0])
        total += _one_picture(context, rendered, settings, batch) * pictures
    return total


def _places(context: Context, job: Job) -> int:
    from .reading import between

    shape = between(context.net, job.source, job.layer, [0], gate="identity").values.shape
    return shape[2] * shape[3]


def _one_picture(context: Context, layer: str, settings: Recipe, batch: int) -> float:
    prepared = Prepared(context.net, [layer], context.settings.device)
    units = min(batch, context.net.layers[layer].units)
    began = time.perf_counter()
    seconds = speed_of(context.net, prepared, layer, settings, units)
    return seconds if seconds == seconds else time.perf_counter() - began
