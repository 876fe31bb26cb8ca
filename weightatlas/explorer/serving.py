"""``serve``: the explorer of an atlas at an address of this machine, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..store import Atlas, open_files
from .child import order
from .desk import Desk, begun
from .guarding import Guard, bracketed
from .listening import Hub
from .reopening import reopened
from .running import Run

#: Where the explorer is if nobody says, and how many ports behind it are tried when that is taken.
PORT, PORTS = 8420, 20
#: Bound to one of these, a server is reached by names that only its owner knows.
EVERYWHERE = ("0.0.0.0", "::", "")
NOT_ASKED = "this explorer was opened without a builder; open it without --no-build to compute what is missing"
#: Milliseconds after which a connection whose other end takes nothing is given up.
UNREAD = 60_000

Told = Callable[[dict[str, Any]], None]


def serve(
    path: str | Path,
    *,
    model: str | Path | None = None,
    weights: str | Path | None = None,
    images: Iterable[str | Path] | str | Path | None = None,
    layers: Iterable[str] | str | None = None,
    recipes: Iterable[str] | str | None = None,
    build: bool = True,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_hosts: Iterable[str] = (),
    browser: bool = False,
    ready: Callable[[str], None] | None = None,
    progress: Told | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serves the explorer of an atlas until it is interrupted, and fills the atlas meanwhile.

    A child process opens the network, builds what is missing, and makes at once what readers ask for. This process
    never imports torch.

    Args:
        path: the folder or URL of an atlas; with ``model``, one that is begun if there is none.
        model: the name of the network; default the one that the atlas says it is of. An atlas of a network that cannot
            be loaded by name is shown as it is.
        weights: of a network by name, see :func:`weightatlas.load`; needed again where those of an atlas come from a
            file, because atlases tell its name and not its folder.
        images, layers, recipes: of the build in the background, see :func:`weightatlas.build`; images are files and
            folders.
        build: whether anything is computed: what is missing in the atlas, and what the network does on readers' images.
        host: the address to listen at. Others than this machine reach it only by another one than the default.
        port: to listen at, 0 for any; default 8420, or the next one that is free.
        allow_hosts: names by which the server is reached besides its address; needed for ``0.0.0.0``.
        browser: whether to open the page in a browser.
        ready: called with the address once the page can be had; default prints it.
        progress: called with ``{"builder", "about", "done", "of", "waiting"}`` whenever that changes.
        stop: an event that ends the server, when set; so do SIGINT and SIGTERM.

    Raises:
        ArgumentError: for arguments that do not exist or go together, or a port that is taken.
        StoreError: if there is no atlas and none can be begun, saying why.

    Example:
        >>> import weightatlas as wa
        >>> wa.serve("atlas", browser=True)  # doctest: +SKIP
        http://127.0.0.1:8420/
    """
    files, names = open_files(path), [str(name) for name in allow_hosts]
    if host in EVERYWHERE and not names:
        raise ArgumentError(
            f"a server at host={host!r} is reached by names that it must know: give allow_hosts= (--allow-host NAME)"
        )
    there, why = begun(files), "" if build else NOT_ASKED
    asked = order(str(path), model, weights, images, layers, recipes)
    if there and model is None:
        asked["model"], asked["weights"], unknown = reopened(Atlas(files).manifest, str(path), asked["weights"])
        why = why or unknown
    elif not there and (model is None or not build):
        Atlas(files)  # says what is missing
    with _listening(host, port) as taken:
        place = taken.getsockname()[1]
        shown = "127.0.0.1" if host in EVERYWHERE else bracketed(host)
        desk = Desk(files, Hub(), why)
        if not why:
            desk.looked_at_by(asked["model"], asked["weights"])
        run = Run(desk, None if why else asked, f"http://{shown}:{place}/", ready or print, progress, stop, browser)
        asyncio.run(run.until_ended(lambda app: Guard(app, host, place, names), taken))


@contextlib.contextmanager
def _listening(host: str, port: int | None) -> Iterator[socket.socket]:
    """A socket at the port that was asked for, or at the first that is free.

    Raises:
        ArgumentError: if it is taken, or there is no such host.
    """
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 2**16):
        raise ArgumentError(f"port={port!r} is no number from 0 to 65535")
    tried = [*range(PORT, PORT + PORTS), 0] if port is None else [port]
    for number in tried:
        try:
            taken = _bound(host, number)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and number != tried[-1]:
                continue
            raise ArgumentError(_unbound(host, number, error)) from error
        with taken:
            yield taken
        return


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                            flags=socket.AI_PASSIVE)[0]  # fmt: skip
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
        taken.bind(address)
        taken.listen(1024)
    except OSError:
        taken.close()
        raise
    return taken


def _unbound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program; give another one, or none for any that is free"
    return f"nothing can listen at {host!r}, port {port}: {error.strerror or error}"
