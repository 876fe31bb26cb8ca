"""Lines of JSON between the server and its children."""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

CHUNK = 2**16  # bytes


class Inbox:
    """What comes in, read by a thread of its own.

    Args:
        handle: of the file that is read.

    Attributes:
        ended: set when nothing more can come, or the end was asked for.
        reading: whether its thread still reads.
    """

    def __init__(self, handle: int) -> None:
        self.ended, self.reading = threading.Event(), True
        self._handle = handle
        self._waiting: list[dict[str, Any]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Reads to the end; without a buffered reader, whose lock would outlive this thread."""
        begun: list[bytes] = []  # of a line; one that holds a picture comes in hundreds of pieces
        while data := self._some():
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = b"".join([*begun, lines[0]])
                begun = []
            begun.append(rest)
            with self._news:
                self._waiting += [json.loads(line) for line in lines if line.strip()]
                self._news.notify_all()
        self.reading = False
        self.end()

    def _some(self) -> bytes:
        try:
            return os.read(self._handle, CHUNK)
        except OSError:
            return b""

    def end(self) -> None:
        """Asks for the end. Takes no lock: a signal may come while this thread holds it."""
        self.ended.set()

    def first(self) -> dict[str, Any] | None:
        """The message that waits longest, or the first that comes; ``None`` if the end comes before it."""
        self.wait()
        with self._news:
            return self._waiting.pop(0) if self._waiting else None

    def wait(self) -> None:
        """Waits for a message, or the end."""
        with self._news:
            while not self._waiting and not self.ended.is_set():
                self._news.wait(0.2)

    @property
    def waits(self) -> bool:
        """Whether a message waits."""
        return bool(self._waiting)

    def holds(self, message: dict[str, Any]) -> bool:
        """Whether this very message waits."""
        return message in self._waiting

    def take(self, alike: Callable[[dict[str, Any], dict[str, Any]], bool], most: int) -> list[dict[str, Any]]:
        """The message that waits longest, and those that are like it, at most so many."""
        with self._news:
            found = [m for m in self._waiting if alike(self._waiting[0], m)][:most]
            self._waiting = [m for m in self._waiting if m not in found]
        return found


class Outbox:
    """What is told.

    Args:
        handle: of the file that is written.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def tell(self, told: str, **content: Any) -> None:
        """Tells something; when nobody hears any more, the input ends as well, and that ends the builder."""
        data = json.dumps({"told": told, **content}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError:
            return


def as_child(run: Callable[[dict[str, Any], Inbox, Outbox], None]) -> int:
    """Runs this process as a child of the server: what it is told first, and the two ends of its pipes, go to ``run``.

    Returns:
        The status to end with.
    """
    # what libraries print goes where it cannot be taken for a message
    out = Outbox(os.dup(1))
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the overview keeps notes of all that was assumed
    inbox = Inbox(0)

    def caught(number: int, frame: Any) -> None:
        inbox.end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, caught)
    order = inbox.first()
    if order is None:
        return 0
    try:
        run(order, inbox, out)
    except KeyboardInterrupt:  # a signal that came while a build went on, which is over now
        return 0
    return 0
