"""Ending a build without losing what is in the making."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import ArgumentError

#: What a terminal sends on Ctrl-C, and what schedulers send before they kill.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a build should end after what it is doing.

    Args:
        after: seconds from now; ``None`` for no limit.
        event: that somebody else sets.
        told: called once when a signal comes.
    """

    def __init__(
        self,
        after: float | None = None,
        event: threading.Event | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        if after is not None and (isinstance(after, bool) or not isinstance(after, int | float) or not after >= 0):
            raise ArgumentError(f"stop_after={after!r} is no number of seconds")
        if event is not None and not callable(getattr(event, "is_set", None)):
            raise ArgumentError(f"stop={event!r} is no event such as threading.Event()")
        self._until = None if after is None else time.monotonic() + after
        self._event = event
        self._told = told
        self._untold = False
        self.signal = ""

    @property
    def why(self) -> str:
        """What asked for the end; ``""`` if nothing did."""
        if self.signal:
            return self.signal
        if self._event is not None and self._event.is_set():
            return "it was told to"
        return "its time is up" if self._until is not None and time.monotonic() >= self._until else ""

    @property
    def asked(self) -> bool:
        """Whether to end."""
        if self._untold:
            self._tell()
        return bool(self.why)

    def _tell(self) -> None:
        """Tells of the signal; later, where the signal came in the midst of other words."""
        self._untold = False
        try:
            if self._told is not None:
                self._told(self.signal)
        except RuntimeError as error:
            if "reentrant" not in str(error):
                raise
            self._untold = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """The first signal asks for an end, a second one forces it; only in the main thread, which gets them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def caught(number: int, frame: Any) -> None:
            if self.signal:
                raise KeyboardInterrupt
            self.signal = signal.Signals(number).name
            self._tell()

        try:
            for number in SIGNALS:
                signal.signal(number, caught)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
