"""The builder as the server sees it: a child process that fills the atlas.

One that dies is started again a few times; the requests it was at are given up, the others are passed on anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .desk import Desk
from .process import Process

MODULE = "weightatlas.builder.live"
#: How often it is started at most in a row, and after how many seconds of work one that dies is the first of a new row.
STARTS, WELL = 4, 600.0
#: Seconds that the job in flight has when the server ends, and what is left of it after being told so again.
PATIENCE, LAST = 10.0, 2.0
LONGEST_LINE = 2**22  # bytes


def order(path: str, model: Any, weights: Any, images: Any, layers: Any, recipes: Any) -> dict[str, Any]:
    """What the builder is told first: the arguments of a build, as JSON has them.

    Raises:
        ArgumentError: for what cannot be told to another process.
    """
    given: dict[str, Any] = {}
    for name, value in (("images", images), ("layers", layers), ("recipes", recipes)):
        values = [value] if isinstance(value, str | os.PathLike) else None if value is None else list(value)
        if values is not None and not all(isinstance(v, str | os.PathLike) for v in values):
            raise ArgumentError(f"{name}= takes names and paths here, which another process is told; not {value!r}")
        given[name] = None if values is None else [os.fspath(v) for v in values]
    for name, value, what in (
        ("model", model, "a name that wa.load takes"), ("weights", weights, "a file's path or 'random'")
    ):  # fmt: skip
        if value is not None and not isinstance(value, str | Path):
            raise ArgumentError(f"{name}= takes {what}, not a {type(value).__name__}")
        given[name] = None if value is None else str(value)
    return {"path": path, **given}


class Child:
    """The builder of a desk.

    Args:
        desk: that is told what happens.
        order: see :func:`order`.
    """

    def __init__(self, desk: Desk, order: dict[str, Any]) -> None:
        self.desk, self.order = desk, order
        self.begun: list[int] = []
        self.refused = self.ending = False
        self.process = Process(MODULE, LONGEST_LINE)
        desk.send = self.process.send  # one that has just died is told again when it is started anew

    async def run(self) -> None:
        """Keeps it at work until it refuses, is told to end, or has died too often."""
        try:
            starts = 0
            while starts < STARTS:
                began = time.monotonic()
                await self._start()
                await self._hear()
                how = await self.process.ended()
                if self.ending or self.refused:
                    return
                starts = 1 if time.monotonic() - began > WELL else starts + 1
                self._died(how, starts < STARTS)
        finally:
            self.process.push()
            await self.process.ended()

    async def _start(self) -> None:
        self.begun = []
        await self.process.start(self.order)
        for ask, number in self.desk.pending.items():
            self.process.send({"ask": number, **ask.to_dict()})

    async def _hear(self) -> None:
        """Passes on what it tells, until it says no more."""
        while message := await self.process.hear():
            act = getattr(self, f"_on_{message.pop('told')}", None)
            if act is not None:
                act(**message)

    def _on_state(self, **state: Any) -> None:
        self.desk.tell_state(**state)

    def _on_begun(self, asks: list[int]) -> None:
        self.begun = asks

    def _on_made(self, **made: Any) -> None:
        self.desk.hub.tell("made", made)

    def _on_updated(self) -> None:
        self.desk.look(changed=True)

    def _on_done(self, ask: int, error: str = "") -> None:
        found = self.desk.by_number(ask)
        self.begun = [number for number in self.begun if number != ask]
        if found is None:
            return
        if error:
            self.desk.failed(found, error)
        else:
            self.desk.pending.pop(found)
        self.desk.tell_state()

    def _on_refused(self, why: str, opened: bool) -> None:
        self.refused = True
        if not opened:  # nor could the other process open it
            self.desk.unable_to_look(why)
        self.desk.unable(why)

    def _died(self, how: str, again: bool) -> None:
        for ask in [a for a, number in self.desk.pending.items() if number in self.begun]:
            self.desk.failed(ask, f"the builder {how} while it made this; nothing that was made is lost")
        if again:
            self.desk.tell_state(builder="starting", about=f"the builder {how} and is started again", done=0, of=0)
        else:
            self.desk.unable(f"the builder {how}, and so did those before it; open the explorer again", "failed")

    async def end(self) -> None:
        """Asks it to end after the job in flight, and sees to it that it does."""
        self.ending = True
        await self.process.end(PATIENCE, LAST)

    def push(self) -> None:
        """Ends it at once."""
        self.ending = True
        self.process.push()
