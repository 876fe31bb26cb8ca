"""From a path or URL to the files that lie there; what fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, MissingPackageError, StoreError
from ..records import is_temporary
from ..records.base import SHORT
from .files import Files, LocalFiles, is_listed, is_missing, why

#: Protocols whose put is atomic: the object is the old one or the new one.
ATOMIC = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "r2", "obs", "tos"})
#: What must be installed for a protocol, as an extra of this package.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class RemoteFiles(Files):
    """A place behind fsspec.

    Args:
        system: an ``fsspec`` file system.
        root: the folder on it, as the file system names it.
        where: the URL.
        atomic: whether its put is; else files go to a temporary name and are moved.
    """

    def __init__(self, system: Any, root: str, where: str, atomic: bool) -> None:
        self.system, self.root, self.where, self.atomic = system, root.rstrip("/"), where, atomic

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        try:
            return self.system.cat_file(self._full(path))
        except Exception as error:  # back ends raise what they like
            raise self.unreadable(path, error) from error

    def write(self, path: str, data: bytes) -> None:
        """See :meth:`Files.write`."""
        self.require()
        target = self._full(path)
        try:
            if self.atomic:
                self.system.pipe_file(target, data)
            else:
                self._move(data, target)
        except Exception as error:
            raise StoreError(f"could not write {path} in {self.where!r}: {why(error)}") from error

    def _move(self, data: bytes, target: str) -> None:
        """Writes to a temporary name and moves that."""
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/.{name[:SHORT]}.{os.urandom(8).hex()}"
        self.system.makedirs(folder, exist_ok=True)
        try:
            self.system.pipe_file(temporary, data)
            self.system.mv(temporary, target)
        except BaseException:  # an interrupt, too, leaves nothing behind
            self._discard(temporary)
            raise

    def _discard(self, full: str) -> bool:
        """Removes an unfinished file if that can be done; else a later sweep does."""
        try:
            self.system.rm_file(full)
        except (OSError, RuntimeError, ValueError):
            return False
        return True

    def remove(self, path: str) -> None:
        """See :meth:`Files.remove`."""
        try:
            self.system.rm_file(self._full(path))
        except Exception as error:
            if not is_missing(error):
                raise StoreError(f"{path} in {self.where!r} cannot be removed: {why(error)}") from error

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        return {path: size for path, size in self._found() if is_listed(path)}

    def _found(self) -> list[tuple[str, int]]:
        """Every file with its size, sorted."""
        try:
            self.system.invalidate_cache()
            found = self.system.find(self.root, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise StoreError(f"{self.where!r} cannot be listed: {why(error)}") from error
        start = self.root.strip("/") + "/"
        return sorted(
            (name.strip("/").removeprefix(start), int(about.get("size") or 0))
            for name, about in found.items()
            if about.get("type") != "directory"
        )

    def sweep(self, ours: Callable[[str], bool] = lambda path: True) -> int:
        """See :meth:`Files.sweep`; where a put is atomic there is nothing to sweep."""
        if self.atomic:
            return 0
        left = [path for path, _ in self._found() if is_temporary(path.rpartition("/")[2]) and ours(path)]
        return sum(self._discard(self._full(path)) for path in left)

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        try:
            return self.system.info(self._full(path))["type"] == "file"  # exists() would call any error absence
        except Exception as error:
            if is_missing(error):
                return False
            raise self.unreadable(path, error) from error


def open_files(place: str | Path | Files) -> Files:
    """The files of a folder or URL; nothing is made or read yet.

    Raises:
        ArgumentError: for what is neither.
        MissingPackageError: if the URL's back end is not installed, with the command that installs it.
    """
    if isinstance(place, Files):
        return place
    if not isinstance(place, str | os.PathLike) or not str(place):
        raise ArgumentError(f"an atlas lies in a folder or at a URL such as s3://bucket/atlas, not in {place!r}")
    text = os.fspath(place)
    if "://" not in text or text.startswith("file://"):
        return LocalFiles(_folder(text.removeprefix("file://")))
    import fsspec

    protocol = text.split("://")[0].split("::")[-1]
    try:
        system, root = fsspec.core.url_to_fs(text)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        how = f"pip install 'weightatlas[{extra}]'" if extra else str(error)
        raise MissingPackageError(f"{protocol}:// needs a package that is not installed: {how}") from error
    except (ValueError, OSError) as error:
        raise ArgumentError(f"{text!r} is no URL that fsspec can open: {error}") from error
    return RemoteFiles(system, root, text, protocol in ATOMIC and "::" not in text)


def _folder(text: str) -> Path:
    """A path of this machine.

    Raises:
        ArgumentError: for what can be none.
    """
    try:
        if not text or "\0" in text:
            raise ValueError("it names no folder")
        return Path(text).expanduser()
    except (ValueError, RuntimeError) as error:  # a user who does not exist is a RuntimeError
        raise ArgumentError(f"an atlas cannot lie in {text!r}: {error}") from error
