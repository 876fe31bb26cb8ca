"""How a build tells how far it is: bars on a terminal, lines elsewhere, nothing."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .telling import line

#: What kinds of jobs are called; recipes have their own names.
NAMES = {"statistics": "statistics of gates", "agreement": "agreement with the network"}
SHOWN_FAILURES = 5


class Silent:
    """Says nothing; keeps the last numbers."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.planned = False  # from there on, what was asked is kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, event: Any) -> None:
        """Takes an event."""
        self.planned |= event.event == "planned"
        if event.event in ("done", "stopped"):
            self.last = event.numbers


class Lines(Silent):
    """A line for what is planned, for every kind of work that is done, and for what fails."""

    def __init__(self) -> None:
        super().__init__()
        self._todo: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._began: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        """Takes an event."""
        super().__call__(event)
        if event.event == "planned":
            for words in planned_words(event):
                print(words, file=sys.stderr)
            self._todo = dict(event.numbers["kinds"])
        elif event.event == "started":
            self._began.setdefault(group_of(event), time.monotonic())
        elif event.event in ("finished", "failed"):
            self._count(event)
        elif event.event in ("stopping", "retried", "waiting"):
            print(stopping_words(event), file=sys.stderr)

    def _count(self, event: Any) -> None:
        name = group_of(event)
        if event.event == "failed":
            print(f"  failed: {line(event.job)}: {line(event.about)}", file=sys.stderr)
        self._done[name] = self._done.get(name, 0) + event.numbers["count"]
        if self._done[name] == self._todo.get(name):
            spent = time.monotonic() - self._began.get(name, time.monotonic())
            print(f"  {NAMES.get(name, name)}: {self._done[name]} in {duration(spent)}", file=sys.stderr)


class _Rate(ProgressColumn):
    """How many a second, or seconds each."""

    def render(self, task: Task) -> Text:
        """The rate so far."""
        if not task.completed or not task.elapsed:
            return Text("")
        rate = task.completed / task.elapsed
        return Text(f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each", style="dim")


class Bars(Silent):
    """A bar for every kind of work, with rate, time left and failures."""

    def __init__(self) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), _Rate())
        lost = TextColumn("{task.fields[failed]}", style="red")
        self._shown = Progress(*columns, TimeRemainingColumn(), lost, console=Console(stderr=True))
        self._bars: dict[str, Any] = {}
        self._done: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._told = 0

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.stop()

    def __call__(self, event: Any) -> None:
        """Takes an event."""
        super().__call__(event)
        name = group_of(event)
        if event.event == "planned":
            for words in planned_words(event):
                self._shown.console.print(Text(words))
            for kind, total in event.numbers["kinds"].items():
                self._bars[kind] = self._shown.add_task(
                    line(NAMES.get(kind, kind)), total=total, start=False, count=f"0 of {total}", failed=""
                )
        elif event.event == "started" and name in self._bars:
            self._shown.start_task(self._bars[name])
        elif event.event == "step" and event.kind == "pictures":
            share = event.numbers["done"] / max(event.numbers["of"], 1)  # of a job's pictures, some have many tiles
            self._move(name, self._done.get(name, 0) + min(share, 1) * event.numbers["units"])
        elif event.event in ("finished", "failed"):
            self._count(name, event)
        elif event.event in ("stopping", "retried", "waiting"):
            self._shown.console.print(Text(stopping_words(event)))

    def _count(self, name: str, event: Any) -> None:
        self._done[name] = self._done.get(name, 0) + event.numbers["count"]
        if event.event == "failed":
            self._failed[name] = self._failed.get(name, 0) + 1
            self._told += 1
            if self._told <= SHOWN_FAILURES:
                self._shown.console.print(Text(f"failed: {line(event.job)}: {line(event.about)}", style="red"))
        self._move(name, self._done[name])

    def _move(self, name: str, done: float) -> None:
        if name in self._bars:
            total = self._shown.tasks[self._bars[name]].total or 0
            done = min(done, total)  # pictures that were there already are none of it
            lost = f"{self._failed[name]} failed" if self._failed.get(name) else ""
            self._shown.update(self._bars[name], completed=done, count=f"{int(done)} of {int(total)}", failed=lost)


def group_of(event: Any) -> str:
    """What kind of work an event is of: a recipe for pictures."""
    return event.numbers.get("recipe") or event.kind


def planned_words(event: Any) -> list[str]:
    """What is told before a build begins."""
    n = event.numbers
    layers = f"{n['layers']} layer{'s' * (n['layers'] != 1)}"
    words = [
        f"{line(event.about)}: {layers}, {n['jobs']} of {n['of']} jobs to do; weights take "
        f"{size(n['weights_bytes'])} of a budget of {size(n['budget'])}"
    ]
    words += [f"left out for the budget: {line(p)}" for p in n["left_out"]]
    words += [f"note: {line(note)}" for note in n["notes"]]
    return words + [f"cannot be made: {line(f['job'])}: {line(f['error'])}" for f in n["failures"]]


def stopping_words(event: Any) -> str:
    """What is told when a build is asked to end, waits, or tries something again."""
    if event.event == "waiting":
        return f"waiting: {line(event.about)}"
    if event.event == "retried":
        return f"trying again: {line(event.job)}: {line(event.about)}"
    return f"{line(event.about)}: stopping after the job in flight; once more to stop at once"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(0.4), duration(75), duration(7300)
        ('0.4 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as people say them.

    Example:
        >>> size(512), size(2**20 * 1.5)
        ('512 B', '1.5 MiB')
    """
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"
