"""What stands before every request: whose page it comes from, which name it was sent to, what answers carry.

A server on one's own machine can be reached by every page that is open in the browser: by plain requests to 127.0.0.1,
and by a name of their own that is made to lead there. So a request must name this server (``Host``), and what changes
anything must come from this server's own page (``Origin``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answering import refusal

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: On every answer.
SAFE: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
CHANGING = ("POST", "DELETE")
JSON, BYTES = "application/json", "application/octet-stream"
HERE = ("127.0.0.1", "localhost", "[::1]")


def bracketed(host: str) -> str:
    """A host as URLs spell it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class Guard:
    """Refuses requests that were sent to another name or by another page, and adds the headers of every answer.

    Args:
        app: what answers.
        host: that the server is bound to.
        port: it listens on.
        allowed: further names, with or without a port, that it is reached by.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, allowed: Iterable[str] = ()) -> None:
        self.app = app
        names = {*HERE, bracketed(host).lower()} - {"0.0.0.0", "[::]"}
        here = {f"{n}:{port}" for n in names} | (names if port == 80 else set())
        further = {n.lower() for n in allowed}
        self.hosts = here | further | {f"{n}:{port}" for n in further}
        self.origins = {f"http://{h}" for h in self.hosts} | {f"https://{h}" for h in self.hosts - here}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        answer = self._refused(scope) or self.app
        await answer(scope, receive, safe)

    def _refused(self, scope: Scope) -> Any:
        """The answer to what must not be; ``None`` for all else."""
        headers = Headers(scope=scope)
        named = [v.lower() for v in headers.getlist("host")]
        if len(named) != 1:
            return refusal(400, "the request names no host, or several; ask by the address that the server printed")
        if named[0] not in self.hosts:
            return refusal(
                421, f"this server is not {named[0][:100]!r}; use the address that it printed, or start it with "
                "--allow-host NAME"
            )  # fmt: skip
        site, mode = headers.get("sec-fetch-site", ""), headers.get("sec-fetch-mode", "")
        if site in ("cross-site", "same-site") and mode != "navigate":
            return refusal(403, "another page asked for this; only the explorer's own page may")
        if scope["method"] in CHANGING and not self._own(headers, site):
            return refusal(
                403, "this must come from the explorer's own page (Origin), or from a program that sends "
                f"Content-Type: {JSON} (or that of an image)"
            )  # fmt: skip
        return None

    def _own(self, headers: Headers, site: str) -> bool:
        """Whether what changes something comes from our page, or from a program that is no browser.

        Browsers send one of the two headers with every such request. What sends neither is held to a content type that
        no page can send to another server without being allowed to, and nothing here ever allows it.
        """
        origins = headers.getlist("origin")
        if origins:
            return len(origins) == 1 and origins[0].lower() in self.origins and site in ("", "same-origin")
        return site == "same-origin" or (not site and (is_json(headers) or is_picture(headers)))


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a request says that its body is JSON."""
    return _content(headers) == JSON


def is_picture(headers: Mapping[str, str]) -> bool:
    """Whether a request says that its body is the file of an image, or nothing more than bytes."""
    return _content(headers).startswith("image/") or _content(headers) == BYTES


def _content(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
