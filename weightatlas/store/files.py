"""Where an atlas lies: a local folder, or anything that fsspec reaches (``s3://``, ``gs://``, ``memory://``).

A file is written whole or not at all: to a temporary name and then renamed, or by an object store's own atomic put. So
whatever exists is complete, and existence is the mark that something is done.
"""

from __future__ import annotations

import contextlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..errors import LoadError, StoreError
from ..records import atomic_write, is_temporary

LOCK = ".lock"


class UnreadableError(StoreError):
    """A file that cannot be read now, so that nothing is known of it: it may be whole."""


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
            StoreError: if it cannot be read; :func:`is_missing` tells of its cause whether it is not there.
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
    def sizes(self) -> dict[str, int]:
        """Paths of all files, sorted, with their sizes in bytes; unfinished files and the lock are left out."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def read_if_there(self, path: str) -> bytes | None:
        """The content of a file; ``None`` if there is none."""
        try:
            return self.read(path)
        except StoreError as error:
            if is_missing(error.__cause__):
                return None
            raise

    def sweep(self, ours: Callable[[str], bool] = lambda path: True) -> int:
        """Removes what killed writers left unfinished of files that are ours; tells how many that were."""
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
        if is_missing(error):
            return StoreError(
                f"there is no {path} in {self.where!r}; `weightatlas check` tells what is missing, a build makes it"
            )
        return UnreadableError(f"{path} in {self.where!r} cannot be read: {why(error)}")

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
            raise self.unreadable(path, error) from error

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
            os.unlink(self.root / path)
        except (OSError, ValueError) as error:
            if not is_missing(error):
                raise StoreError(f"{path} in {self.where!r} cannot be removed: {why(error)}") from error
        for folder in PurePosixPath(path).parents:  # folders that nothing is left in
            if folder.name:
                with contextlib.suppress(OSError):
                    (self.root / folder).rmdir()

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`; links to folders are not followed."""
        found = {}
        for path, entry in self._entries():
            if is_listed(path):
                try:
                    found[path] = entry.stat().st_size
                except OSError as error:
                    if not is_missing(error):  # or removed meanwhile
                        raise self._unlisted(error) from error
        return dict(sorted(found.items()))

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        try:
            return stat.S_ISREG(os.stat(self.root / path).st_mode)
        except (OSError, ValueError) as error:
            if is_missing(error):
                return False
            raise self.unreadable(path, error) from error

    def sweep(self, ours: Callable[[str], bool] = lambda path: True) -> int:
        """See :meth:`Files.sweep`."""
        left = [path for path, _ in self._entries() if is_temporary(PurePosixPath(path).name) and ours(path)]
        for path in left:
            try:
                os.unlink(self.root / path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{path} in {self.where!r} cannot be removed: {why(error)}") from error
        return len(left)

    def _entries(self) -> list[tuple[str, os.DirEntry[str]]]:
        """Every file with its path; what vanishes meanwhile is passed over."""
        found: list[tuple[str, os.DirEntry[str]]] = []
        waiting = [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(self.root / below) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{below}{entry.name}/")
                        elif not entry.is_symlink() or _leads_to_file(entry):
                            found.append((below + entry.name, entry))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unlisted(error) from error
        return found

    def _unlisted(self, error: OSError) -> StoreError:
        return StoreError(f"{self.where!r} cannot be listed: {why(error)}")


def _leads_to_file(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_file()
    except OSError:  # a circle of links
        return False


class Overlay(Files):
    """Files that are read from elsewhere and written to memory: for trying something out.

    Args:
        below: what is read where nothing was written.
    """

    def __init__(self, below: Files) -> None:
        self.below, self.where = below, below.where
        self.written: dict[str, bytes] = {}
        self.removed: set[str] = set()

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        if path in self.removed:
            gone = FileNotFoundError(path)
            raise self.unreadable(path, gone) from gone
        return self.written[path] if path in self.written else self.below.read(path)

    def write(self, path: str, data: bytes) -> None:
        """See :meth:`Files.write`."""
        self.require()
        self.written[path] = data
        self.removed.discard(path)

    def remove(self, path: str) -> None:
        """See :meth:`Files.remove`."""
        self.written.pop(path, None)
        self.removed.add(path)

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        both = {**self.below.sizes(), **{p: len(d) for p, d in self.written.items() if is_listed(p)}}
        return {path: both[path] for path in sorted(both) if path not in self.removed}

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        return path not in self.removed and (path in self.written or self.below.exists(path))


def is_listed(path: str) -> bool:
    """Whether a file counts: unfinished files and the lock do not."""
    return path != LOCK and not is_temporary(path.rpartition("/")[2])


def is_missing(error: BaseException | None) -> bool:
    """Whether an error says that a file is not there, rather than that it cannot be reached."""
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def why(error: BaseException) -> str:
    """What went wrong, in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
