"""Running one job: retried where that may help, its failures recorded, never stopping the others."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ...errors import LoadError, StoreError, WeightAtlasError
from ...network import keep_memory, use_threads
from .context import Context, Work, checked
from .describing import describe, factor, measure_bands
from .exemplifying import exemplify, look, summarise
from .job import Event, Failure, Job, Outcome, Tell
from .picturing import render
from .weighing import compare, expand, follow, take_statistics

#: How often a job is tried at most: what may pass by itself, and what nobody knows.
ATTEMPTS, SECOND_CHANCE = 3, 2
#: Seconds before the second attempt and the third.
PAUSES = (0.5, 4.0)
#: What is behind errors of reading and writing that another attempt would meet again.
LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ValueError, LookupError,
           TypeError, AttributeError, SyntaxError, RecursionError)  # fmt: skip
LONGEST_ERROR = 500  # characters kept
PASSING = ("out of memory", "allocate", "cuda error", "cudnn", "cublas", "timed out", "temporarily")

#: torch and what is patched around it are not made for two jobs in one process.
_ONE_AT_A_TIME = threading.Lock()
_opened: dict[str, Context] = {}


def _examples(context: Context, job: Job) -> tuple[int, int]:
    if not job.layer:
        return look(context, job)
    return exemplify(context, job) if job.units else summarise(context, job)


#: What does the work of each kind.
WORKERS: dict[str, Callable[[Context, Job], tuple[int, int]]] = {
    "statistics": take_statistics,
    "weights": expand,
    "factors": factor,
    "banding": measure_bands,
    "units": describe,
    "paths": follow,
    "agreement": compare,
    "examples": _examples,
    "pictures": render,
}


class _FailedError(Exception):
    """Whatever a job raised; a network's own code may raise anything."""


def run(context: Context, job: Job, tell: Tell | None = None, pauses: tuple[float, ...] = PAUSES) -> Outcome:
    """Does a job.

    What may pass by itself (a store that does not answer, memory that is short) is tried again after a pause, an error
    of ours is an answer that another attempt would give again. Of a job for several units that fails, each unit is
    tried once on its own. A store that cannot be written any more ends the build, and so do weights that are no longer
    those that the atlas is of: what the job made meanwhile is taken away again.

    Args:
        context: network, store and settings.
        job: what is to be done.
        tell: called when an attempt failed and another one follows.
        pauses: seconds between attempts.
    """
    began = time.monotonic()
    made, size, failure, fatal = _attempts(context, job, tell, pauses)
    failures = [failure] if failure else []
    if failure and len(job.units) > 1 and not fatal:
        failures, made, size = [], 0, 0
        for unit in job.units:
            one = dataclasses.replace(job, units=(unit,))
            more, bytes_, single, fatal = _attempts(context, one, tell, None)
            made, size = made + more, size + bytes_
            failures += [single] if single else []
            if fatal:
                break
    changed = "" if fatal else _changed(context, job)
    if changed:
        made, size, failures, fatal = 0, 0, [Failure(job.name, changed, job.units)], changed
    return Outcome(job.name, made, size, time.monotonic() - began, tuple(failures), fatal)


def _changed(context: Context, job: Job) -> str:
    """Why a job does not count, if the weights have changed while it was done; its marks are taken away then."""
    try:
        checked(context.net, context.settings.weights_hash)
    except StoreError as error:
        for path in job.makes:
            context.files.remove(path)
        return str(error)
    return ""


def _attempts(
    context: Context, job: Job, tell: Tell | None, pauses: tuple[float, ...] | None
) -> tuple[int, int, Failure | None, str]:
    """Files made, their size, the failure, and why the build cannot go on; without ``pauses`` in one attempt."""
    attempt = 0
    while True:
        attempt += 1
        try:
            made, size = _once(context, job)
        except _FailedError as failed:
            error: Any = failed.__cause__
        else:
            return made, size, None, ""
        if pauses is None or attempt >= _most(error):
            fatal = str(error) if _is_fatal(context, error) else ""
            return 0, 0, Failure(job.name, told(error), job.units, attempt), fatal
        if tell is not None:
            tell(Event.of("retried", job, told(error), attempt=attempt))
        time.sleep(pauses[min(attempt, len(pauses)) - 1] if pauses else 0)


def _once(context: Context, job: Job) -> tuple[int, int]:
    work = WORKERS[job.kind]
    try:
        return work(context, job)
    except Exception as error:
        raise _FailedError from error


def _most(error: Exception) -> int:
    """How often what failed like this is tried."""
    if isinstance(error, WeightAtlasError):
        return ATTEMPTS if isinstance(error, LoadError) and _may_pass(error.__cause__) else 1
    passing = isinstance(error, OSError | MemoryError) or any(w in str(error).lower() for w in PASSING)
    return ATTEMPTS if passing else SECOND_CHANCE


def _may_pass(cause: BaseException | None) -> bool:
    """Whether a file that could not be read or written may be the next time: not if it is missing, or no such file."""
    if cause is None or isinstance(cause, LASTING):
        return False
    if isinstance(cause, OSError):  # libraries that read files say by it, without a number, that they cannot
        return cause.errno is not None or isinstance(cause, TimeoutError | ConnectionError)
    return True


def _is_fatal(context: Context, error: Exception) -> bool:
    """Whether nothing can be written any more: the next job would end the same way."""
    if not isinstance(error, StoreError):
        return False
    try:
        context.files.write(PROBE, b"{}")
        context.files.remove(PROBE)
    except StoreError:
        return True
    return False


#: What is written to see whether anything can be; swept away like any unfinished file.
PROBE = ".probe.0000000000000000"


def told(error: Exception) -> str:
    """An error in a line, with its kind where it is none of ours."""
    words = " ".join(str(error).split())
    known = isinstance(error, WeightAtlasError)
    text = words if known and words else f"{type(error).__name__}: {words}" if words else type(error).__name__
    half = LONGEST_ERROR // 2  # the reason may stand at the end, behind a long path
    return text if len(text) <= LONGEST_ERROR else f"{text[: half - 1]}…{text[-half:]}"


def held_up(job: Job, failures: Iterable[Failure]) -> Outcome | None:
    """What becomes of a job that reads what could not be made; ``None`` if it reads none of that."""
    for failure in failures:
        if failure.job in job.after:
            words = f"it reads what {failure.job!r} could not make: {failure.error}"
            return Outcome(job.name, failures=(Failure(job.name, words, job.units, 0),))
    return None


def run_on_worker(key: str, job: Job, *after: Outcome | None) -> Outcome | None:
    """Does a job on a worker that was given the work with :func:`install`, unless one that it reads has failed.

    What is there already is not made again: that happens where the worker that had made it died before another job
    had read its outcome. ``None`` where the build was called back before the job began.
    """
    stopped = held_up(job, [failure for outcome in after if outcome for failure in outcome.failures])
    if stopped is not None:
        return stopped
    with _ONE_AT_A_TIME:
        if key in _called_back:
            return None
        work = _installed[key]
        if key not in _opened:
            use_threads(work.threads)
            keep_memory()
            _opened[key] = work.open()
        context = _opened[key]
        found = Outcome(job.name) if all(map(context.files.exists, job.makes)) else run(context, job)
    return dataclasses.replace(found, where=worker_name())


_installed: dict[str, Work] = {}
_called_back: set[str] = set()


def call_back(key: str) -> None:
    """Makes this process begin no more jobs of a build."""
    _called_back.add(key)


def install(work: Work) -> None:
    """Makes a build's work known to this process."""
    _installed[work.key] = work


def forget(key: str) -> None:
    """Drops a build's network and settings from this process."""
    _installed.pop(key, None)
    _opened.pop(key, None)
    _called_back.discard(key)


def worker_name() -> str:
    """The address of the dask worker that this runs on, ``""`` elsewhere."""
    try:
        from distributed import get_worker

        return str(get_worker().address)
    except (ImportError, ValueError):
        return ""
