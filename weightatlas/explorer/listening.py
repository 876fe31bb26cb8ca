"""Server-sent events: whoever listens is told what happens; who does not read is let go and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

from starlette.types import Receive, Scope, Send

#: Pages that can listen at once, and what each may fall behind.
LISTENERS, BEHIND = 256, 256
#: Seconds between signs of life, and until one who takes nothing is let go.
HEARTBEAT, PATIENCE = 15.0, 20.0


def written(event: str, content: Any) -> bytes:
    r"""An event as it is sent.

    Example:
        >>> written("updated", {})
        b'event: updated\ndata: {}\n\n'
    """
    return f"event: {event}\ndata: {json.dumps(content)}\n\n".encode()


class Hub:
    """Everyone who listens.

    Args:
        most: listeners at once.
        behind: events that wait for one listener before it is let go.
        heartbeat: seconds between signs of life.
        patience: seconds that one write may take.
    """

    def __init__(
        self, most: int = LISTENERS, behind: int = BEHIND, heartbeat: float = HEARTBEAT, patience: float = PATIENCE
    ) -> None:
        self.most, self.behind, self.heartbeat, self.patience = most, behind, heartbeat, patience
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self.closed = False

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    @property
    def full(self) -> bool:
        """Whether nobody more can listen."""
        return self.closed or self.listeners >= self.most

    def tell(self, event: str, content: Any) -> None:
        """Tells everyone; waits for nobody."""
        data = written(event, content)
        for queue in tuple(self._queues):
            try:
                queue.put_nowait(data)
            except asyncio.QueueFull:
                self._let_go(queue)

    def close(self) -> None:
        """Lets everyone go, and takes nobody more."""
        self.closed = True
        for queue in tuple(self._queues):
            self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[asyncio.Queue[bytes | None]]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self.behind)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def stream(self, first: bytes) -> Stream:
        """An answer that lasts, which begins with some events."""
        return Stream(self, first)


class Stream:
    """The answer to one listener, until it leaves or is let go."""

    def __init__(self, hub: Hub, first: bytes) -> None:
        self.hub, self.first = hub, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        with self.hub._listening() as queue:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.ensure_future(_left(receive))
            saying = asyncio.ensure_future(self._say(queue, send))
            try:
                await asyncio.wait((gone, saying), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (gone, saying):
                    task.cancel()
                await asyncio.gather(gone, saying, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await send({"type": "http.response.body", "body": b""})

    async def _say(self, queue: asyncio.Queue[bytes | None], send: Send) -> None:
        data: bytes | None = self.first
        while data is not None:
            async with asyncio.timeout(self.hub.patience):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            try:
                async with asyncio.timeout(self.hub.heartbeat):
                    data = await queue.get()
            except TimeoutError:
                data = b": still here\n\n"


async def _left(receive: Receive) -> None:
    """Returns when the other side has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
