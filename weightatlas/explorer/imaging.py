"""What the server is asked about readers' images, which come in as bytes and are held by another process alone."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..errors import ArgumentError
from .answering import Refused
from .bodies import body_of, json_of
from .desk import Desk
from .guarding import is_picture
from .looker import MOST_BYTES, RETRY_AFTER, Looker

#: Seconds in which the bytes of an image must have come.
SLOWEST = 60.0
METHODS = ("exact", "gradient", "integrated_gradients", "conductance")
MOST_SOURCES = 16
_TOKEN = re.compile(r"[0-9a-f]{20}")
_AT = "a position is like [3, 4]: y, then x"
#: What can be asked for, with what each takes besides the image; with a question mark what may be left out.
ASKS = {
    "image": "",
    "layer": "layer at?",
    "unit": "layer unit",
    "explain": "layer unit at? source? method? k?",
}
SHAPES = (
    '{"what": "image", "image": …}, {"what": "layer", "image": …, "layer": "blocks.4.1"}, '
    '{"what": "unit", "image": …, "layer": "blocks.4.1", "unit": 17} or '
    '{"what": "explain", "image": …, "layer": "blocks.4.1", "unit": 17, "at": [3, 4]}'
)


async def take(desk: Desk, request: Request) -> Response:
    """Takes an image in, and tells what the network saw."""
    looker = _looker(desk)
    if not is_picture(request.headers):
        raise Refused(415, "what is sent here is the file of an image; say so with Content-Type: image/png")
    if looker.uploading.locked():
        raise Refused(429, "other images are coming in; try again in a few seconds", RETRY_AFTER)
    async with looker.uploading:
        data = await body_of(request, MOST_BYTES, SLOWEST, "the file of an image")
        if not data:
            raise Refused(422, "the file is empty; an image was expected")
        return _told(await looker.upload(data, request.is_disconnected))


async def look(desk: Desk, request: Request) -> Response:
    """Answers a question about an image."""
    looker = _looker(desk)
    ask = checked_look(await json_of(request))
    return _told(await looker.ask(ask, request.is_disconnected))


def _looker(desk: Desk) -> Looker:
    if desk.looker is None:
        raise Refused(409, desk.blind)
    return desk.looker


def _told(content: str) -> Response:
    return Response(content.encode(), headers={"Cache-Control": "no-store"}, media_type="application/json")


def checked_look(content: Any) -> dict[str, Any]:
    """A question about an image, if it has the shape of one; which layers and units there are the network tells.

    Raises:
        ArgumentError: for what has another shape, saying which is taken.
    """
    given = content if isinstance(content, dict) else {}
    what = given.get("what")
    if not isinstance(what, str) or what not in ASKS:
        raise ArgumentError(f"a question about an image is like {SHAPES}")
    ask = {"what": what, "image": _checked("image", given.get("image"))}
    for name in ASKS[what].split():
        value = given.get(name.rstrip("?"))
        if value is not None or not name.endswith("?"):
            ask[name.rstrip("?")] = _checked(name.rstrip("?"), value)
    return ask


def _checked(name: str, value: Any) -> Any:
    """One part of a question, if it can be that."""
    number = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "image": lambda: isinstance(value, str) and _TOKEN.fullmatch(value),
        "layer": lambda: isinstance(value, str) and value,
        "source": lambda: isinstance(value, str) and value,
        "unit": lambda: number and 0 <= value < 2**31,
        "k": lambda: number and 1 <= value <= MOST_SOURCES,
        "method": lambda: value in METHODS,
        "at": lambda: (
            isinstance(value, list)
            and len(value) == 2  # y and x
            and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**31 for v in value)
        ),
    }
    if not fits[name]():
        hint = {"at": _AT, "method": f"there are {', '.join(METHODS)}", "k": f"it is 1 to {MOST_SOURCES}"}.get(name, "")
        raise ArgumentError(f"{name!r} came in as {str(value)[:80]!r}; {hint or f'a question is like {SHAPES}'}")
    return value
