"""The server while it runs: from the first overview until somebody ends it, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ..errors import StoreError
from .application import application
from .child import Child
from .desk import Desk, begun

#: Seconds that answers in the making have when the server ends, and between looks at what may have happened.
GRACE, SOON = 3, 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """A server that leaves signals to others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


class Run:
    """One run of a server.

    Args:
        desk: what is served.
        order: what the builder is told, ``None`` without one.
        address: where.
        ready: called with the address once it is served.
        progress: called with the state of the builder when it changes.
        stop: an event that ends the run.
        browser: whether to open the page.
    """

    def __init__(
        self, desk: Desk, order: dict[str, Any] | None, address: str, ready: Callable[[str], Any],
        progress: Callable[[dict[str, Any]], None] | None, stop: threading.Event | None, browser: bool,
    ) -> None:  # fmt: skip
        self.desk, self.address, self.ready, self.progress = desk, address, ready, progress
        self.stop, self.browser = stop, browser
        self.child = None if order is None else Child(desk, order)
        self.ended = False

    async def until_ended(self, guarded: Callable[[ASGIApp], ASGIApp], taken: socket.socket) -> None:
        """Serves at a socket until it is told to end.

        Raises:
            StoreError: if there is no atlas, and the builder cannot begin one.
        """
        tasks = [asyncio.ensure_future(self._follow())]
        if self.child is not None:
            tasks.append(asyncio.ensure_future(self.child.run()))
        try:
            with _on_signals(self.end):
                if not await self._first():
                    return
                tasks.append(asyncio.ensure_future(self.desk.watch()))
                await self._serve(guarded(application(self.desk)), taken)
        finally:
            self.desk.hub.close()
            if self.desk.looker is not None:
                await self.desk.looker.end()
            if self.child is not None:
                await self.child.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end(self) -> None:
        """Asks for the end; asked twice, the builder does not finish what it is at."""
        if self.ended and self.child is not None:
            self.child.push()
        self.ended = True

    @property
    def _over(self) -> bool:
        return self.ended or (self.stop is not None and self.stop.is_set())

    async def _follow(self) -> None:
        """Tells of the builder's state when that changes."""
        before = None
        while True:
            now = self.desk.state()
            if self.progress is not None and now != before:
                self.progress(now)
            before = now
            await asyncio.sleep(SOON)

    async def _first(self) -> bool:
        """Waits for an overview; whether there is one, and not the end."""
        while not self._over:
            if await asyncio.to_thread(begun, self.desk.files):
                return True
            if self.desk.why:
                raise StoreError(self.desk.why)
            await asyncio.sleep(SOON)
        return False

    async def _serve(self, app: ASGIApp, taken: socket.socket) -> None:
        config = uvicorn.Config(
            app, lifespan="off", ws="none", http="h11", access_log=False, server_header=False, proxy_headers=False,
            log_config=None, log_level="error", timeout_graceful_shutdown=GRACE, timeout_keep_alive=30,
        )  # fmt: skip
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[taken]))
        told = False
        while not (self._over or serving.done()):
            if server.started and not told:
                told = True
                self.ready(self.address)
                if self.browser:
                    # some browsers return only when they are closed
                    threading.Thread(target=webbrowser.open, args=(self.address,), daemon=True).start()
            await asyncio.sleep(SOON if told else SOON / 10)
        self.desk.hub.close()
        server.should_exit = True
        await serving


@contextlib.contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Does something on SIGINT and SIGTERM; only in the main thread, which gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
