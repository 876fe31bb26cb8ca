"""What requests carry: read as it comes, counted, and not waited for without end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from .answering import Refused
from .guarding import is_json

LONGEST_JSON = 16 * 1024  # bytes
#: Seconds that a body may take.
SLOWEST = 10.0
KIB = 1024


async def body_of(request: Request, most: int, seconds: float, what: str = "a request") -> bytes:
    """The body of a request.

    Args:
        request: whose.
        most: bytes that it may have, counted as they come.
        seconds: that it may take.
        what: it is called where it is too large.

    Raises:
        Refused: for one that is larger, slower, or broken off.
    """
    size = f"{most // KIB**2} MiB" if most >= KIB**2 else f"{most // KIB} KiB"
    length, data = request.headers.get("content-length", "0"), bytearray()
    try:
        if length.isdigit() and int(length[:12]) > most:
            raise Refused(413, f"{what} is at most {size}")
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise Refused(413, f"{what} is at most {size}")
    except TimeoutError as error:
        raise Refused(408, "the body of the request did not come in time") from error
    except ClientDisconnect as error:
        raise Refused(400, "the request was not complete") from error
    return bytes(data)


async def json_of(request: Request) -> Any:
    """The body of a request as JSON, if it is that, and small.

    Raises:
        Refused: if not.
    """
    if not is_json(request.headers):
        raise Refused(415, "what is sent here is JSON; say so with Content-Type: application/json")
    try:
        return json.loads(await body_of(request, LONGEST_JSON, SLOWEST))
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body of the request is no JSON") from error
