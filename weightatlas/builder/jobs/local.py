"""Doing jobs one after another, in the builder's own process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .context import Context
from .job import Event, Failure, Job, Outcome, Tell
from .running import held_up, run
from .stopping import Stop


def in_process(context: Context, jobs: Sequence[Job], tell: Tell, stop: Stop) -> Iterator[Outcome]:
    """What became of each job, until one cannot be followed by another or a stop is asked for.

    Args:
        context: network, store and settings.
        jobs: in an order in which what one reads is made before it.
        tell: what happens meanwhile.
        stop: asked before every job.
    """
    failed: list[Failure] = []
    for job in jobs:
        if stop.asked:
            return
        tell(Event.of("started", job))
        context.step = lambda done, total, job=job: tell(Event.of("step", job, done=done, of=total))
        outcome = held_up(job, failed) or run(context, job, tell)
        failed += outcome.failures
        yield outcome
        if outcome.fatal:
            return
