"""A web server on this machine that gives one file, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """What the server gives, and what it was asked.

    Attributes:
        content: the file.
        ranges: whether it gives pieces.
        etag: its mark; by default of the content.
        faults: one for each request to come, in order: ``("drop", bytes)`` breaks off after so many bytes of the file,
            a status (404, 503 …), ``"html"``, ``"endless"``, ``"short"`` (says one byte more than it gives),
            ``"huge"`` (says a terabyte), ``"no length"``, ``"redirect URL"``, ``"other piece"``, ``"gzip"``,
            ``"status LINE"`` (answers with that line alone).
        pause: seconds between two kilobytes.
        asked: the ``Range`` of every request, ``""`` where there was none.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.pause = content, True, 0.0
        self.etag: str | None = '"' + hashlib.sha256(content).hexdigest()[:12] + '"'
        self.faults: list[object] = []
        self.asked: list[str] = []
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        served, self.close_connection = self.served, True
        asked = self.headers.get("Range", "")
        served.asked.append(asked)
        fault = served.faults.pop(0) if served.faults else None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side had enough
            self.answer(asked, fault)

    def answer(self, asked: str, fault: object) -> None:
        served = self.served
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and served.ranges else 0
        if start and self.headers.get("If-Range") != served.etag:
            start = 0
        whole, status = served.content, 200
        more = [("ETag", served.etag)] if served.etag else []
        if isinstance(fault, int):
            return self.send(fault, b"no", [("Content-Length", "2")])
        if fault == "html":
            return self.send(200, b"<!DOCTYPE html><title>Sign in</title>" * 9, [("Content-Type", "text/html")])
        if isinstance(fault, str) and fault.startswith("status "):
            self.wfile.write(f"{fault.removeprefix('status ')}\r\n\r\n".encode("latin-1"))
            return None
        if isinstance(fault, str) and fault.startswith("redirect "):
            return self.send(302, b"", [("Location", fault.split()[1]), ("Content-Length", "0")])
        if fault == "endless":
            self.send(200, b"", more)
            while True:
                self.wfile.write(b"x" * 65536)
        if start >= len(whole):
            return self.send(416, b"", [("Content-Range", f"bytes */{len(whole)}"), ("Content-Length", "0")])
        if start:
            status = 206
            at = start + 1 if fault == "other piece" else start
            more.append(("Content-Range", f"bytes {at}-{len(whole) - 1}/{len(whole)}"))
        length = {"short": len(whole) - start + 1, "huge": 10**12}.get(str(fault), len(whole) - start)
        if fault != "no length":
            more.append(("Content-Length", str(length)))
        if fault == "gzip":
            more.append(("Content-Encoding", "gzip"))
        until = fault[1] if isinstance(fault, tuple) else len(whole)
        return self.send(status, whole[start:until], more)

    def send(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in [*headers, ("Connection", "close")]:
            self.send_header(name, value)
        self.end_headers()
        for at in range(0, len(body), 1024) if self.served.pause else (0,):
            self.wfile.write(body[at : at + 1024] if self.served.pause else body)
            time.sleep(self.served.pause)


@contextmanager
def serving(content: bytes) -> Iterator[Served]:
    """The server, for as long as the block lasts."""
    served = Served(content)
    handler = type("Bound", (Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/weights.bin"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
