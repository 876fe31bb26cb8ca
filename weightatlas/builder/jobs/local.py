"""Doing jobs one after another, in the builder's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .context import Context
from .job import Event, Failure, Job, Outcome, Tell
from .running import held_up, run
from .stopping import Stop


class _ToldError(BaseException):
    """What a listener raised inside of a job, on its way out: it is no failure of the job."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _steps(job: Job, tell: Tell) -> Callable[[float, int], None]:
    """What a job calls with (done, in all)."""

    def step(done: float, total: int) -> None:
        try:
            tell(Event.of("step", job, done=done, of=total, units=len(job.units)))
        except Exception as error:
            raise _ToldError(error) from error

    return step


def in_process(
    context: Context, jobs: Sequence[Job], tell: Tell, stop: Stop, ready: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """What became of each job, until one cannot be followed by another or a stop is asked for.

    Args:
        context: network, store and settings.
        jobs: in an order in which what one reads is made before it.
        tell: what happens meanwhile.
        stop: asked before every job.
        ready: called before the first job.
    """
    ready()
    failed: list[Failure] = []
    for job in jobs:
        if stop.asked:
            return
        tell(Event.of("started", job))
        context.step = _steps(job, tell)
        try:
            outcome = held_up(job, failed) or run(context, job, tell)
        except _ToldError as heard:
            raise heard.error from None
        failed += outcome.failures
        yield outcome
        if outcome.fatal:
            return
