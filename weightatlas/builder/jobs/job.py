"""What a build consists of: jobs, what becomes of them, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Kinds of work, in the words of ``only=``.
Kind = Literal["statistics", "weights", "factors", "banding", "units", "paths", "agreement", "examples", "pictures"]

GPU = "GPU"  # the resource of a worker that has one


@dataclass(frozen=True)
class Job:
    """One piece of work, the same for the same request whatever exists already.

    Args:
        kind: what is done.
        name: unique, in words.
        makes: paths whose existence says that it is done.
        layer: whose pictures, units or weights; the target of weights.
        source: of weights, of pictures over an earlier layer's units.
        middle: of paths.
        recipe: of pictures.
        units: that are pictured.
        others: further layers: the sources of a layer's units, all layers of a part.
        key, number: of a part of the images, and of the parts that are put together.
        stage: place of its kind of work in the build, 0 first.
        after: names of jobs whose files it reads.
        on_device: whether it belongs on an accelerator, where there is one.
    """

    kind: Kind
    name: str
    makes: tuple[str, ...]
    layer: str = ""
    source: str = ""
    middle: str = ""
    recipe: str = ""
    units: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    key: str = ""
    number: int = 0
    stage: int = 0
    after: tuple[str, ...] = ()
    on_device: bool = False


@dataclass(frozen=True)
class Failure:
    """What could not be made.

    Args:
        job: its name.
        units: which of its units; none where all of it failed.
        error: in words.
        attempts: how often it was tried.
    """

    job: str
    error: str
    units: tuple[int, ...] = ()
    attempts: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a job, and nothing of what it made.

    Args:
        job: its name.
        made: number of files that were written.
        bytes: their size.
        seconds: it took, waiting between attempts included.
        failures: what could not be made.
        fatal: why the build cannot go on (the store is gone or full), or ``""``.
        where: which worker did it; ``""`` in the builder's own process.
    """

    job: str
    made: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    fatal: str = ""
    where: str = ""


@dataclass(frozen=True)
class Event:
    """Something a build tells.

    Args:
        event: ``"planned"``, ``"started"``, ``"step"`` (inside a job), ``"finished"``, ``"failed"``, ``"retried"``,
            ``"updated"`` (the overview in ``atlas.json``), ``"waiting"`` (for a worker with a GPU), ``"stopping"``,
            ``"stopped"``, ``"done"``.
        job, kind: of a job.
        about: in words.
        numbers: what can be counted.
        of_job: the job itself, which is no part of :meth:`to_dict`.
    """

    event: str
    job: str = ""
    kind: str = ""
    about: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    of_job: Job | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, event: str, job: Job, about: str = "", **numbers: Any) -> Event:
        """What is told of a job."""
        recipe = {"recipe": job.recipe} if job.kind == "pictures" else {}
        return cls(event, job.name, job.kind, about, {**recipe, **numbers}, job)

    def to_dict(self) -> dict[str, Any]:
        """As one JSON object, empty fields left out."""
        plain = {"event": self.event, "job": self.job, "kind": self.kind, "about": self.about, **self.numbers}
        return {k: v for k, v in plain.items() if v != ""}


Tell = Callable[[Event], None]
