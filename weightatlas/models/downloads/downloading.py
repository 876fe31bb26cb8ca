"""A file from the web, whole and as expected or not at all: resumed where it broke off, checked before it has its name.

Ranges and validators: RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import LoadError
from ..quoting import quoted
from .partial import Part

#: Seconds without a byte after which a connection counts as lost.
TIMEOUT = 20.0
#: Seconds before each further try; a try that brought ``PROGRESS`` bytes begins the row anew.
WAITS = (0.5, 2.0, 5.0)
PROGRESS = 1_000_000
MOST_TRIES = 50
CHUNK = 1 << 18
#: How many times its expected size a file may have.
MOST_TIMES = 4
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Answers that may be others a moment later.
PASSING = (408, 425, 429, 500, 502, 503, 504)
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Address:
    """Where a file can be had.

    Args:
        url: ``https://…``; ``http://`` only on this machine.
        file: what it is called in the cache.
        size: in bytes, about.
    """

    url: str
    file: str
    size: int


class UnavailableError(LoadError):
    """An address that does not give its file; another one may."""


class _DroppedError(Exception):
    """Something that may go better a moment later."""


def download(
    address: Address,
    folder: Path,
    check: Callable[[Path], object],
    tell: Callable[[int, int | None], object] = lambda done, total: None,
) -> Path:
    """The path of a file that was downloaded.

    What came before a connection broke, the process was killed or the user stopped it stays beside the target, as
    ``NAME.part.SUFFIX``, and the next call goes on from there if the server still has the same file.

    Args:
        address: what to download.
        folder: where to; it must be there, and no other process at work in it.
        check: called with the path of the whole file before it takes its name; raises ``LoadError`` for a file that
            is not what it should be, which is then removed.
        tell: called with bytes done and bytes in all, ``None`` if the server does not say.

    Raises:
        UnavailableError: if the address does not give the file, in a few words.
        LoadError: if it cannot be written.
    """
    _check_scheme(address.url, loopback=True)
    part = Part(folder, address.file, address.url)
    failures = tries = 0
    while not part.complete:
        before, tries = part.size, tries + 1
        try:
            _receive(address, part, tell)
        except _DroppedError as error:
            failures = 1 if part.size - before >= PROGRESS else failures + 1
            if failures > len(WAITS) or tries >= MOST_TRIES:
                raise UnavailableError(f"{error}, {tries} times") from error
            time.sleep(WAITS[failures - 1])
    _check_content(part, check)
    return part.finish(folder / address.file)


def _check_content(part: Part, check: Callable[[Path], object]) -> None:
    """Removes what came if it is not the file."""
    with part.path.open("rb") as content:
        head = content.read(2000)
    if _PAGE.match(head):
        part.remove()
        raise UnavailableError("a web page came instead of the file; does this network ask for a sign-in?")
    try:
        check(part.path)
    except LoadError as error:
        part.remove()
        raise UnavailableError(f"what came is not the file: {error}") from error


def _receive(address: Address, part: Part, tell: Callable[[int, int | None], object]) -> None:
    """One connection: what it brings goes to the part."""
    most = MOST_TIMES * address.size
    headers = {"User-Agent": "weightatlas", "Accept-Encoding": "identity"}
    if part.validator and part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    with _opened(urllib.request.Request(address.url, headers=headers), part) as answer:
        if answer is None:  # the server has no more than what is here
            return
        _begin(answer, part, most)
        with part.writing() as write:
            while chunk := _next(answer):
                if part.size + len(chunk) > most:
                    part.remove()
                    raise UnavailableError(f"it does not end after {most / 1e6:,.1f} MB, the most that was expected")
                write(chunk)
                tell(part.size, part.total)
    if part.total is None:
        part.total = part.size  # the end of an answer that did not tell its length; the check sees whether it is whole
    if part.size < part.total:
        raise _DroppedError(f"the connection broke off after {part.size:,} of {part.total:,} bytes")


def _begin(answer: Any, part: Part, most: int) -> None:
    """Brings the part into the state in which what the answer holds is appended to it."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise UnavailableError(f"the server packs it as {quoted(answer.headers['Content-Encoding'], 40)}, unasked")
    etag = answer.headers.get("ETag", "")
    # a weak ETag does not say that the bytes are the same
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    if answer.status == 206 and part.size:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        total = int(found[3]) if found and found[3] != "*" else part.total
        part.total = total if part.total is None else part.total
        if (
            not found
            or found[1] is None
            or int(found[1]) != part.size
            or (total, validator or part.validator)
            != (
                part.total,
                part.validator,
            )
        ):
            part.remove()
            raise _DroppedError("the server sent another piece than was asked for")
        return
    if answer.status != 200:
        raise UnavailableError(f"the server answered {answer.status} {quoted(answer.reason)}")
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    if total is not None and total > most:
        part.remove()
        raise UnavailableError(f"it is {total / 1e6:,.1f} MB, at most {most / 1e6:,.1f} were expected")
    part.begin(validator, total)
    room = shutil.disk_usage(part.path.parent).free
    if total is not None and room < total:
        raise LoadError(
            f"{part.path.parent} has room for {room / 1e6:,.1f} MB and the download needs {total / 1e6:,.1f}; make "
            "room, or name another folder with WEIGHTATLAS_CACHE=FOLDER"
        )


def _next(answer: Any) -> bytes:
    """The next bytes; none at the end."""
    try:
        return answer.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(f"the connection broke off ({_why(error)})") from error


@contextmanager
def _opened(request: urllib.request.Request, part: Part) -> Iterator[Any]:
    """The answer to a request; ``None`` if the part is already the whole file."""
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except UnavailableError:  # of a redirect
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            if error.headers.get("Content-Range", "") == f"bytes */{part.size}" and part.total in (None, part.size):
                part.total = part.size
                yield None
                return
            part.remove()
            raise _DroppedError("the server has another file than the one begun") from error
        words = f"the server answered {error.code} {quoted(error.reason)}"
        raise (_DroppedError if error.code in PASSING else UnavailableError)(words) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        words = f"no connection ({_why(cause)})"
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = f"its certificate is not trusted ({quoted(cause.verify_message)}); is something in between?"
        # who was never there is not asked again; who was there and is gone may come back
        passing = part.received or isinstance(cause, ConnectionResetError | http.client.HTTPException)
        raise (_DroppedError if passing else UnavailableError)(words) from error
    except ValueError as error:  # of a redirect
        raise UnavailableError(f"it leads to an address that is none ({quoted(error)})") from error
    with answer:
        yield answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows an address to another one that is as safe."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl, loopback=urlsplit(req.full_url).hostname in LOOPBACK)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, *, loopback: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (loopback and parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    place = quoted(f"{parts.scheme}://{parts.hostname or ''}")
    raise UnavailableError(f"it leads to {place}, and only https is trusted")


def _why(error: object) -> str:
    """What went wrong, in words."""
    if isinstance(error, http.client.BadStatusLine):
        return f"it is no web server: {quoted(error, 60)}"
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT:g} s"
    return quoted(getattr(error, "strerror", None) or error) or type(error).__name__
