"""Where an atlas lies: a local folder, or anything that fsspec reaches (``s3://``, ``gs://``, ``memory://``).

A file is written whole or not at all: to a temporary name and then renamed, or by an object store's own atomic put. So
whatever exists is complete, and existence is the mark that something is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from ..errors import LoadError, StoreError
from ..records import atomic_write, is_temporary

LOCK = ".lock"


class Files(ABC):
    """Named pieces of bytes below one place.

    Attributes:
        where: the place, as messages name it.
        marker: a file without which the place is gone; ``""`` while there is none. Nothing is written then.
    """

    where: str
    marker: str = ""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            StoreError: if it cannot be read; its cause is a ``FileNotFoundError`` if it is not there.
        """

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Puts a file, whole or not at all.

        Raises:
            StoreError: if it cannot be written; an older file stays as it was.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Takes a file away; one that is not there is none of its business."""

    @abstractmethod
    def sizes(self, below: str = "") -> dict[str, int]:
        """Paths of all files below a folder, sorted, with their sizes in bytes; unfinished and lock files left out."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def read_if_there(self, path: str) -> bytes | None:
        """The content of a file; ``None`` if there is none."""
        try:
            return self.read(path)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def sweep(self) -> int:
        """Removes what killed writers left unfinished, and tells how many files that were."""
        return 0

    def require(self) -> None:
        """Stops if the place is gone.

        Raises:
            StoreError: if it is.
        """
        if self.marker and not self.exists(self.marker):
            raise StoreError(
                f"{self.where!r} is gone: its {self.marker} was there when the build began and no longer is. Nothing "
                "more is written; put the folder back and build again, or build into a new one"
            )

    def unreadable(self, path: str, error: Exception) -> StoreError:
        """The error for a file that cannot be read."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return StoreError(f"there is no {path} in {self.where!r}")
        return StoreError(f"{path} in {self.where!r} cannot be read: {why(error)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"


class LocalFiles(Files):
    """A folder of this machine, or of a file system that is mounted on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        try:
            return (self.root / path).read_bytes()
        except (OSError, ValueError) as error:
            gone = isinstance(error, NotADirectoryError)
            cause = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) if gone else error
            raise self.unreadable(path, error) from cause

    def write(self, path: str, data: bytes) -> None:
        """See :meth:`Files.write`."""
        self.require()
        try:
            atomic_write(self.root / path, data)
        except LoadError as error:
            raise StoreError(str(error)) from error.__cause__

    def remove(self, path: str) -> None:
        """See :meth:`Files.remove`."""
        try:
            (self.root / path).unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} in {self.where!r} cannot be removed: {why(error)}") from error
        for folder in PurePosixPath(path).parents:  # folders that nothing is left in
            if folder.name:
                with contextlib.suppress(OSError):
                    (self.root / folder).rmdir()

    def sizes(self, below: str = "") -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        start, cut = self.root / below, len(os.path.join(self.root, ""))
        found: list[tuple[str, int]] = []
        try:
            kept = (e for e in _entries(start) if not is_temporary(e.name) and e.name != LOCK)
            found.extend((e.path[cut:].replace(os.sep, "/"), e.stat().st_size) for e in kept)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{str(start)!r} cannot be listed: {why(error)}") from error
        return dict(sorted(found))

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        return (self.root / path).is_file()

    def sweep(self) -> int:
        """See :meth:`Files.sweep`."""
        with contextlib.suppress(FileNotFoundError):
            left = [e.path for e in _entries(self.root) if is_temporary(e.name)]
            for path in left:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            return len(left)
        return 0


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Every file below a folder; folders that vanish meanwhile are passed over."""
    found: list[os.DirEntry[str]] = []
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    found.append(entry)
    return found


class Overlay(Files):
    """Files that are read from elsewhere and written to memory: for trying something out.

    Args:
        below: what is read where nothing was written.
    """

    def __init__(self, below: Files) -> None:
        self.below, self.where = below, below.where
        self.written: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        return self.written[path] if path in self.written else self.below.read(path)

    def write(self, path: str, data: bytes) -> None:
        """See :meth:`Files.write`."""
        self.written[path] = data

    def remove(self, path: str) -> None:
        """See :meth:`Files.remove`."""
        self.written.pop(path, None)

    def sizes(self, below: str = "") -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        own = {p: len(d) for p, d in self.written.items() if p.startswith(below)}
        return dict(sorted({**self.below.sizes(below), **own}.items()))

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        return path in self.written or self.below.exists(path)


def why(error: BaseException) -> str:
    """What went wrong, in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
