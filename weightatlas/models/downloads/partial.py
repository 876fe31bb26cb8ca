"""The part of a file that has come so far, with what tells whether the rest belongs to it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import LoadError
from ...records import atomic_write


class Part:
    """A file being downloaded, ``NAME.part.SUFFIX``, and beside it the facts about it as JSON.

    Args:
        folder: where it lies.
        file: the name that it will have.
        url: where it comes from; what came from elsewhere does not count.

    Attributes:
        path: of what has come; it ends as the file does, since readers go by that.
        size: how many bytes have come.
        total: how many there are in all; ``None`` if the server did not say.
        validator: the server's mark of the content (an ETag or a date); empty if it gave none.
        received: whether anything came in this process.
    """

    def __init__(self, folder: Path, file: str, url: str) -> None:
        name = Path(file)
        self.path = folder / f"{name.stem}.part{name.suffix}"
        self._facts = folder / f"{self.path.name}.json"
        self.url, self.size, self.total, self.validator, self.received = url, 0, None, "", False
        try:
            facts = json.loads(self._facts.read_bytes())
            if facts["url"] == url and facts["validator"]:
                self.total, self.validator = facts["total"], str(facts["validator"])
                self.size = self.path.stat().st_size
        except (OSError, ValueError, TypeError, KeyError):  # without its facts a part is of no use
            pass
        if self.total is not None and self.size > self.total:
            self.remove()

    @property
    def complete(self) -> bool:
        """Whether everything has come."""
        return self.total is not None and self.size == self.total and self.path.is_file()

    def begin(self, validator: str, total: int | None) -> None:
        """Starts anew: what came before is gone, so that facts never stand beside another content.

        Raises:
            LoadError: if nothing can be written.
        """
        self.remove()
        self.validator, self.total = validator, total
        atomic_write(self._facts, json.dumps({"url": self.url, "validator": validator, "total": total}).encode())

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[bytes], None]]:
        """What to call with the bytes that come next.

        Raises:
            LoadError: if they cannot be written; what came stays.
        """

        def write(chunk: bytes) -> None:
            with self._told():
                file.write(chunk)
            self.size += len(chunk)
            self.received = True

        with self._told():
            file = self.path.open("ab")
        try:
            yield write
        finally:
            with self._told():
                file.close()

    def remove(self) -> None:
        """Throws away what came."""
        with self._told():
            self.path.unlink(missing_ok=True)
            self._facts.unlink(missing_ok=True)
        self.size, self.total, self.validator = 0, None, ""

    def finish(self, target: Path) -> Path:
        """Gives the file its name.

        Raises:
            LoadError: if that cannot be.
        """
        with self._told():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.path, target)
            self._facts.unlink(missing_ok=True)
        return target

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the disk refuses, in words."""
        try:
            yield
        except OSError as error:
            raise LoadError(
                f"could not write {self.path}: {error.strerror or error}. What was downloaded stays there, and the "
                "next try goes on from it; WEIGHTATLAS_CACHE=FOLDER names another folder"
            ) from error
