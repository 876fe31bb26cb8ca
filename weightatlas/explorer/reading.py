"""Which files a reader may have, and how they are read: those of the page, and those of an atlas.

Paths come from strangers. What is not, letter by letter, the path of a file that the page or an atlas is made of, does
not exist; and nothing is read that lies outside of their folders once links are followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError
from ..store import Files, LocalFiles
from ..store.files import is_missing
from ..store.layout import PARTS, place_of

#: The page's own files.
SITE = Path(__file__).parent / "site"
INDEX = "index.html"
#: What is told of files by their endings; an atlas's chunks have none.
MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
CHUNK = "application/octet-stream"
LONGEST_PATH = 4096  # characters
#: What may stand in a URL's path. Names of layers are written in fewer, see docs/format.md.
_PLAIN = re.compile(r"[A-Za-z0-9._~@/-]*")
#: Letters that some clients escape although they need not; nothing else that is escaped is the path of anything.
_ESCAPED = re.compile(r"%(40|7e)", re.IGNORECASE)
_OWN = re.compile(r"explorer(/[a-z0-9_-][a-z0-9._-]*)+\.(js|css|svg|json)")


@dataclass(frozen=True)
class Found:
    """A file.

    Args:
        tag: changes whenever the content does.
        media: its media type.
        data: the content; ``None`` if the reader has it already.
    """

    tag: str
    media: str
    data: bytes | None


def plain_path(raw: bytes) -> str | None:
    """The path that a URL's raw path spells, without the slash before it; ``None`` for what can be none.

    Example:
        >>> plain_path(b"/atlas/images/a/display.positions%40b/3.webp"), plain_path(b"/atlas/%2e%2e/secret")
        ('atlas/images/a/display.positions@b/3.webp', None)
    """
    if len(raw) > LONGEST_PATH or not raw.startswith(b"/"):
        return None
    text = _ESCAPED.sub(lambda m: "@" if m[1] == "40" else "~", raw[1:].decode("latin-1"))
    if not _PLAIN.fullmatch(text):
        return None
    parts = text.split("/")
    return None if any(not p or p.startswith(".") for p in parts) and text else text


def media_of(path: str) -> str:
    """The media type of a file by its ending."""
    return MEDIA.get(os.path.splitext(path)[1], CHUNK)


def is_own(path: str) -> bool:
    """Whether a path is that of a file that the page may be made of."""
    return path == INDEX or _OWN.fullmatch(path) is not None


def is_shown(path: str) -> bool:
    """Whether a file of an atlas is part of what is served and exported: all but what is only there for a build."""
    return place_of(path).kind != "foreign" and not path.startswith(f"{PARTS}/")


def read_below(root: Path, path: str, known: str = "") -> Found | None:
    """A file below a folder, links followed; ``None`` if there is none, or it lies outside.

    Args:
        root: the folder.
        path: relative to it, with slashes; the caller has looked at it.
        known: the tag of what the reader has.

    Raises:
        StoreError: for a file that is there and cannot be read.
    """
    try:
        base = os.path.realpath(root)
        full = os.path.realpath(os.path.join(base, path))
        if os.path.commonpath((base, full)) != base:
            return None
        # what took the file's place meanwhile is no link, and no pipe that would be waited for
        handle = os.open(full, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        if is_missing(error) or isinstance(error, ValueError) or getattr(error, "errno", None) in _NO_FILE:
            return None
        raise StoreError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            return None
        # files are replaced, not written into: another one has another number, even within a tick of the clock
        tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}-{about.st_ino:x}"'
        with os.fdopen(handle, "rb", closefd=False) as file:
            return Found(tag, media_of(path), None if tag == known else file.read())
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG, errno.EISDIR)


def read_own(path: str, known: str = "", site: Path = SITE) -> Found | None:
    """A file of the page; ``None`` if there is none."""
    return read_below(site, path, known) if is_own(path) else None


def read_shown(files: Files, path: str, known: str = "") -> Found | None:
    """A file of an atlas; ``None`` if there is none.

    Raises:
        StoreError: if it cannot be read now.
    """
    if not is_shown(path):
        return None
    if isinstance(files, LocalFiles):
        return read_below(files.root, path, known)
    data = files.read_if_there(path)
    if data is None:
        return None
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return Found(tag, media_of(path), None if tag == known else data)
