"""A child process that opens the network, told and heard in lines of JSON.

It ends by itself when its input does, whatever becomes of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


class Process:
    """One run of a module of this package.

    Args:
        module: that is run.
        longest: bytes of the longest line that it may tell.
    """

    def __init__(self, module: str, longest: int) -> None:
        self.module, self.longest = module, longest
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, first: dict[str, Any]) -> None:
        """Starts it, and tells it something."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self.module),  # -P: nothing is loaded from where the program was called
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=self.longest,
            start_new_session=True,  # Ctrl-C in a terminal is for the server, which then ends it
            env=_environment(),
        )
        self.send(first)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def send(self, message: dict[str, Any]) -> None:
        """Tells it something, if it still listens; waits for nothing."""
        pipe = None if self._process is None else self._process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(json.dumps(message).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """What it tells next, with ``told`` saying what that is; ``None`` when no more can come."""
        pipe = None if self._process is None else self._process.stdout
        while pipe is not None and (line := await pipe.readline()):
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and "told" in message:
                    return message
            # a library's own words, printed while it was loaded
            print(line.decode(errors="replace").rstrip(), file=sys.stderr)
        return None

    async def ended(self) -> str:
        """Waits for its end, and says in words how it was."""
        code = 0 if self._process is None else await self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def push(self) -> None:
        """Ends it at once."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, patience: float, last: float) -> None:
        """Asks it to end, and sees to it that it does.

        Args:
            patience: seconds that it has for what it is at.
            last: seconds that are left after it was told so again.
        """
        if self._process is None or not self.running:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        for seconds, push in ((patience, self._process.terminate), (last, self._process.kill)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()
                return
            with contextlib.suppress(ProcessLookupError):
                push()
        await self._process.wait()


def _environment() -> dict[str, str]:
    """The environment, in which this very package is found though it is not installed."""
    root = Path(__file__).parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(root)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
