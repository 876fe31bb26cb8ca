"""From a path or URL to the files that lie there; what fsspec reaches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, MissingPackageError, StoreError
from ..records import is_temporary
from .files import LOCK, Files, LocalFiles, why

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
                return
            folder, _, name = target.rpartition("/")
            temporary = f"{folder}/.{name[:32]}.{os.urandom(8).hex()}"
            self.system.makedirs(folder, exist_ok=True)
            self.system.pipe_file(temporary, data)
            self.system.mv(temporary, target)
        except Exception as error:
            raise StoreError(f"could not write {path} in {self.where!r}: {why(error)}") from error

    def remove(self, path: str) -> None:
        """See :meth:`Files.remove`."""
        try:
            self.system.rm_file(self._full(path))
        except FileNotFoundError:
            return
        except Exception as error:
            raise StoreError(f"{path} in {self.where!r} cannot be removed: {why(error)}") from error

    def sizes(self, below: str = "") -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        try:
            self.system.invalidate_cache()
            found = self.system.find(self._full(below), detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise StoreError(f"{self.where!r} cannot be listed: {why(error)}") from error
        start = self.root.strip("/") + "/"
        named = {name.strip("/").removeprefix(start): int(i.get("size") or 0) for name, i in sorted(found.items())}
        return {p: n for p, n in named.items() if not is_temporary(p.rpartition("/")[2]) and p != LOCK}

    def exists(self, path: str) -> bool:
        """See :meth:`Files.exists`."""
        try:
            return bool(self.system.exists(self._full(path)))
        except Exception as error:
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
        return LocalFiles(Path(text.removeprefix("file://")).expanduser())
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
