"""Batches that fit into memory, and the pictures that come to nothing again from other starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import memory_free
from .algebra import Objective
from .prepared import first_line
from .render import Batch, Renderer, seed_of

#: Starts that are tried for a picture that comes to nothing.
TRIES = 3
#: Pictures at a time at most, and the memory that a batch's way back should fill: the caches gain nothing beyond.
MOST_AT_ONCE = {"cpu": 16, "cuda": 128, "mps": 32}
AT_ONCE_BYTES = {"cpu": 256 * 2**20, "cuda": 8 * 2**30, "mps": 2**30}
#: Share of an objective's size by which it must grow.
LEAST_GROWTH = 1e-6


Progress = Callable[[float, int], None]
log = logging.getLogger("weightatlas")


def whole(name: str, value: Any, least: int | None = None) -> int:
    """The argument as an integer.

    Raises:
        ArgumentError: for anything else, and for less than the least.
    """
    number = None if isinstance(value, bool | np.bool_) else getattr(value, "__index__", lambda: None)()
    if number is None or (least is not None and number < least):
        raise ArgumentError(f"{name}={value!r} must be an integer{f' of at least {least}' if least else ''}")
    return number


def all_batches(
    renderer: Renderer, wanted: Objective, seeds: list[int], batch: int | str, progress: Progress | None
) -> tuple[Batch, np.ndarray, list[str]]:
    """All pictures, batch by batch; those that come to nothing again from other starts."""
    size, notes = _batch_size(renderer, wanted, len(seeds), batch)
    rows = list(range(len(seeds)))
    made, size = _in_batches(renderer, wanted, rows, seeds, size, progress)
    tries = np.ones(len(seeds), np.int64)
    for attempt in range(1, TRIES):
        dead = [r for r in rows if not alive_in(made)[r]]
        if not dead or wanted.coupled:
            break
        for r in dead:
            seeds[r], tries[r] = seed_of("again", attempt, seeds[r]), attempt + 1
        again, size = _in_batches(renderer, wanted, dead, seeds, size, None)
        _put(made, dead, again)
    asked = _asked(batch)
    if asked is not None and size < min(asked, len(seeds)):
        notes.append(f"rendered {size} at a time, since {asked} do not fit into memory")
        log.warning(notes[-1])
    return made, tries, notes


def _in_batches(
    renderer: Renderer, wanted: Objective, rows: list[int], seeds: list[int], size: int, progress: Progress | None
) -> tuple[Batch, int]:
    parts: list[Batch] = []
    done, furthest = 0, 0.0
    while done < len(rows):
        part = rows[done : done + size]

        def told(step: int, part: list[int] = part, done: int = done) -> None:
            nonlocal furthest
            furthest = max(furthest, done + len(part) * step / renderer.recipe.steps)  # a halved batch begins again
            if progress is not None:
                progress(furthest, len(rows))

        try:
            parts.append(renderer.batch(wanted.of(part), [seeds[r] for r in part], told))
        except (RuntimeError, MemoryError) as error:
            if not _no_memory(error):
                raise
            if size == 1 or wanted.coupled:
                raise _too_large(renderer, part, error) from error
            size = max(len(part) // 2, 1)
            if renderer.prepared.device.type == "cuda":
                torch.cuda.empty_cache()
            log.info("a batch of %d pictures does not fit into memory; going on with %d", len(part), size)
            continue
        done += len(part)
    return _together(parts), size


def _too_large(renderer: Renderer, part: list[int], error: BaseException) -> ArgumentError:
    h, w = renderer.plan.views.size
    many = "one picture" if len(part) == 1 else f"{len(part)} pictures that depend on each other"
    return ArgumentError(
        f"{many} of {h} × {w} pixels did not fit into the memory of {renderer.prepared.device} "
        f"({first_line(error)}); give a recipe with a smaller side, or another device"
    )


def _no_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in words or "allocate" in words


def _asked(batch: int | str) -> int | None:
    return None if batch == "auto" else whole("batch", batch, 1)


def _batch_size(renderer: Renderer, wanted: Objective, count: int, batch: int | str) -> tuple[int, list[str]]:
    """Pictures at a time: what was asked for, or what memory and caches like; never more than there is memory for."""
    asked = _asked(batch)
    one = max(renderer.bytes_of_one(wanted), 1)
    kind = renderer.prepared.device.type
    free = torch.cuda.mem_get_info(renderer.prepared.device)[0] if kind == "cuda" else memory_free()
    most = max(int(free * 0.7 // (2 * one)), 1)
    if wanted.coupled:
        if count > most:
            raise ArgumentError(
                f"{count} pictures that depend on each other need about {2 * one * count / 2**30:.1f} GiB at once, but "
                f"{free / 2**30:.1f} GiB are free; ask for fewer with count="
            )
        return count, []
    usual = min(MOST_AT_ONCE.get(kind, 16), max(AT_ONCE_BYTES.get(kind, 2**28) // one, 2))
    return max(min(usual if asked is None else asked, count, most), 1), []


def alive_in(made: Batch) -> Tensor:
    """Which pictures are a result: pushed by a gradient, finite, and better than the noise they began as."""
    finite = torch.isfinite(made.reached) & torch.isfinite(made.begun) & torch.isfinite(made.viewed)
    return finite & (made.pushed > 0) & (made.grown > LEAST_GROWTH)


_FIELDS = ("images", "reached", "viewed", "begun", "pushed", "grown")


def _together(parts: list[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(p, f).cpu() for p in parts]) for f in _FIELDS))


def _put(made: Batch, rows: list[int], again: Batch) -> None:
    for name in _FIELDS:
        getattr(made, name)[rows] = getattr(again, name)
