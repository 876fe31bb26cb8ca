"""The process that looks at readers' images, as the server sees it; apart from the builder, so that neither waits.

It is started by the first image and holds images in its memory alone. When it dies they are gone; the next image starts
another one. One ask is answered at a time, the others wait.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .answering import Refused
from .process import Process

MODULE = "weightatlas.builder.looking"
#: Bytes and pixels of the largest image.
MOST_BYTES, MOST_PIXELS = 20 * 2**20, 50_000_000
#: Asks that wait at once, and images that are read at once.
WAITING, UPLOADS = 16, 2
#: Seconds that the network may take to open, and an ask to be answered.
OPENING, LONGEST = 300.0, 120.0
#: Seconds between looks at whether somebody who waits is still there.
LOOK_EVERY = 0.5
PATIENCE, LAST = 1.0, 1.0
LONGEST_LINE = 2**26  # bytes
RETRY_AFTER = {"Retry-After": "5"}
GONE = "the images that were looked at are gone; drop this one again"

Left = Callable[[], Awaitable[bool]]


class Looker:
    """Whoever looks at images.

    Args:
        order: gives what the process is told first: ``model``, ``hash`` and ``input`` of the atlas.
        unable: is told why no image can be looked at, once that is known.
    """

    def __init__(self, order: Callable[[], dict[str, Any]], unable: Callable[[str], None]) -> None:
        self.order, self.unable = order, unable
        self.process = Process(MODULE, LONGEST_LINE)
        self.uploading = asyncio.Semaphore(UPLOADS)
        self.waiting = 0
        self._turn = asyncio.Lock()
        self._number = 0

    async def upload(self, data: bytes, left: Left) -> str:
        """Has an image looked at; what comes of it as JSON.

        Args:
            data: the bytes of its file.
            left: tells whether nobody waits for the answer any more.

        Raises:
            Refused: if nothing comes of it.
        """
        return await self._asked({"what": "look", "data": base64.b64encode(data).decode()}, left, start=True)

    async def ask(self, ask: dict[str, Any], left: Left) -> str:
        """The answer to a question about an image, as JSON.

        Raises:
            Refused: if there is none.
        """
        return await self._asked(ask, left)

    async def _asked(self, ask: dict[str, Any], left: Left, start: bool = False) -> str:
        if self.waiting >= WAITING:
            words = f"{WAITING} questions about images wait already; try again in a few seconds"
            raise Refused(429, words, RETRY_AFTER)
        self.waiting += 1
        try:
            await self._my_turn(left)
            try:
                if not self.process.running:
                    if not start:
                        return self._gone(ask)
                    await self._open()
                return await self._answer(ask, left)
            finally:
                self._turn.release()
        finally:
            self.waiting -= 1

    async def _my_turn(self, left: Left) -> None:
        """Waits until nothing else is answered; leaves the queue if the reader does."""
        acquiring = asyncio.ensure_future(self._turn.acquire())
        try:
            while not (await asyncio.wait((acquiring,), timeout=LOOK_EVERY))[0]:
                if await left():
                    raise Refused(400, "nobody waits for this answer any more")
        except BaseException:
            acquiring.cancel()
            await asyncio.gather(acquiring, return_exceptions=True)
            if not acquiring.cancelled():
                self._turn.release()
            raise

    def _gone(self, ask: dict[str, Any]) -> str:
        """What is said of images where there is no process that could hold any."""
        if ask["what"] == "image":  # whether there is one is a question that can be answered
            return json.dumps({"image": None, "why": GONE})
        raise Refused(410, GONE)

    async def _open(self) -> None:
        order = await asyncio.to_thread(self.order)
        await self.process.start(order)
        message = await self._heard(OPENING, "opening the network")
        if message["told"] == "refused":
            await self.process.ended()
            self.unable(message["why"])
            raise Refused(409, message["why"])

    async def _answer(self, ask: dict[str, Any], left: Left) -> str:
        self._number += 1
        self.process.send({"ask": self._number, **ask})
        until = time.monotonic() + LONGEST
        while True:
            message = await self._heard(until - time.monotonic(), "this", left)
            if message.get("ask") != self._number:  # the answer to one that nobody waited for
                continue
            if "error" in message:
                raise Refused(message["status"], message["error"])
            return message["content"]

    async def _heard(self, seconds: float, what: str, left: Left | None = None) -> dict[str, Any]:
        """What the process tells next; if nobody waits for it any more, the process is told so, once.

        Raises:
            Refused: if it dies, or takes too long and is ended.
        """
        try:
            async with asyncio.timeout(seconds):
                hearing = asyncio.ensure_future(self.process.hear())
                message = await self._patiently(hearing, left)
        except TimeoutError as error:
            self.process.push()
            await self.process.ended()
            raise Refused(504, f"{what} took too long and was given up; {GONE}") from error
        if message is None:
            how = await self.process.ended()
            raise Refused(503, f"the process that looks at images {how}; {GONE}")
        return message

    async def _patiently(self, hearing: asyncio.Task[Any], left: Left | None) -> dict[str, Any] | None:
        """Waits for what the process tells, and looks meanwhile whether somebody still wants to know."""
        try:
            while not (await asyncio.wait((hearing,), timeout=LOOK_EVERY))[0]:
                if left is not None and await left():
                    self.process.send({"left": self._number})
                    left = None
            return hearing.result()
        finally:
            hearing.cancel()

    async def end(self) -> None:
        """Ends it."""
        await self.process.end(PATIENCE, LAST)
