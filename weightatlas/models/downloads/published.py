"""Published weights: found in the cache, or downloaded into it, and held to what they were at first use."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...errors import LoadError
from .caching import VARIABLE, cache_folder, is_pinned, locked, pin_file
from .downloading import Address, UnavailableError, download

#: Seconds between two looks of the line that tells how far a download is.
EVERY = 0.2


@dataclass(frozen=True)
class Published:
    """A network's weights as they are published.

    Args:
        name: the network's; also of the folder in the cache.
        addresses: where they can be had, the best first.
        files: names that their file may have in the cache, whether it was downloaded or put there by hand.
        check: raises ``LoadError`` for a file that is not what it should be.
    """

    name: str
    addresses: tuple[Address, ...]
    files: tuple[str, ...]
    check: Callable[[Path], object]

    @property
    def folder(self) -> Path:
        """The folder in the cache; it need not be there."""
        return cache_folder() / self.name

    def here(self) -> Path | None:
        """The file if it is in the cache; writes nothing and asks no network.

        Raises:
            LoadError: if it changed since its first use, or the cache cannot be read.
        """
        found = self._present()
        if found is not None:
            is_pinned(found)
        return found

    def find(self) -> Path:
        """The file in the cache, downloaded first if need be, and pinned at its first use.

        Raises:
            LoadError: if it cannot be had, is not what it should be, or changed since its first use.
        """
        found = self._present()
        if found is not None:
            if not is_pinned(found):
                self._check_put(found)
                pin_file(found, "")
            return found
        with _progress(sys.stderr) as (say, tell):
            folder = self.folder
            with locked(folder, lambda: say(f"another process downloads into {folder}; waiting for it")):
                found = self._present()
                source = ""
                if found is None:
                    found, source = self._download(folder, say, tell)
        try:
            if not is_pinned(found):
                pin_file(found, source)
        except LoadError as error:
            changed = f". It was just downloaded from {source}: what is published there changed" if source else ""
            raise LoadError(f"{error}{changed}") from error
        return found

    def _present(self) -> Path | None:
        for file in self.files:
            path = self.folder / file
            try:
                if path.is_file():
                    return path
            except OSError as error:
                raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
        return None

    def _check_put(self, path: Path) -> None:
        """Refuses a file that somebody put into the cache and that is not what it should be."""
        try:
            self.check(path)
        except LoadError as error:
            raise LoadError(f"{error}. {path} was put into the cache; delete it to download another") from error

    def _download(
        self, folder: Path, say: Callable[[str], object], tell: Callable[[int, int | None], object]
    ) -> tuple[Path, str]:
        """The file and the address that gave it."""
        failed: list[str] = []
        for address in self.addresses:
            say(f"downloading {address.file} (about {address.size / 1e6:.0f} MB) from {address.url} into {folder}")
            try:
                return download(address, folder, self.check, tell), address.url
            except UnavailableError as error:
                failed.append(f"{address.url}: {error}")
                if address is not self.addresses[-1]:
                    say(f"{address.url} does not give it: {error}")
        names = f"{', '.join(self.files[:-1])} or {self.files[-1]}"
        raise LoadError(
            f"the weights of {self.name} could not be downloaded ({'; '.join(failed)}). Put a copy into {folder} as "
            f"{names}, or give a file: load({self.name!r}, weights=FILE). {VARIABLE}=FOLDER names another cache; "
            'load("efficientnet_lite0") needs no network once its package is installed'
        )


@contextlib.contextmanager
def _progress(stream: IO[str]) -> Iterator[tuple[Callable[[str], None], Callable[[int, int | None], None]]]:
    """What to call with words, each a line, and with (bytes done, bytes in all): one line that changes, on a terminal.

    Args:
        stream: where to, most likely stderr.
    """
    terminal = stream.isatty()
    shown: dict[str, Any] = {"line": False, "at": 0.0}

    def clear() -> None:
        if shown["line"]:
            print("\r\x1b[K", end="", file=stream, flush=True)
            shown["line"] = False

    def say(words: str) -> None:
        clear()
        print(f"weightatlas: {words}", file=stream, flush=True)

    def tell(done: int, total: int | None) -> None:
        now = time.monotonic()
        if terminal and (now - shown["at"] >= EVERY or done == total):
            whole = f" of {total / 1e6:.1f}" if total else ""
            print(f"\r\x1b[K  {done / 1e6:.1f}{whole} MB", end="", file=stream, flush=True)
            shown.update(line=True, at=now)

    try:
        yield say, tell
    finally:
        clear()
