"""The server's answers: the page, the atlas's files, and the few things that can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import ArgumentError, StoreError, UnknownNameError
from . import imaging
from .answering import Refused, known_tag, refusal, sent, tagged, told
from .asking import checked_ask
from .bodies import json_of
from .desk import Busy, Desk
from .listening import written
from .reading import INDEX, plain_path, read_own, read_shown

RETRY_AFTER = 5  # seconds


def application(desk: Desk) -> Starlette:
    """What answers for an atlas."""
    api = {
        ("GET", "/api/state"): _state,
        ("GET", "/api/events"): _events,
        ("POST", "/api/ask"): _ask,
        ("POST", "/api/families"): _name,
        ("DELETE", "/api/families"): _forget,
        ("POST", "/api/image"): imaging.take,
        ("POST", "/api/look"): imaging.look,
    }
    methods: dict[str, list[str]] = {}
    for method, path in api:
        methods.setdefault(path, []).append(method)

    async def other(request: Request) -> Response:
        """What is there for other methods alone."""
        raise HTTPException(405, headers={"Allow": ", ".join(methods[request.scope["path"]])})

    routes = [Route(path, _on(desk, handler), methods=[method]) for (method, path), handler in api.items()]
    routes += [Route(path, other, methods=None) for path in methods]
    routes += [Route("/site.json", _on(desk, _about), methods=["GET"])]
    routes += [Route("/{path:path}", _on(desk, _file), methods=["GET"])]
    handlers: Any = {HTTPException: _http, Exception: _broken}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


Handler = Callable[[Desk, Request], Awaitable[Any]]


def _on(desk: Desk, handler: Handler) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> Any:
        try:
            return await handler(desk, request)
        except Refused as refused:
            return refused.answer
        except UnknownNameError as error:
            return refusal(404, error)
        except ArgumentError as error:
            return refusal(400, error)
        except StoreError as error:
            return refusal(503, error)

    return answer


async def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    words = {404: "there is nothing at this address", 405: f"{request.method} is not possible here"}
    return refusal(status, words.get(status, "this request cannot be answered"), headers)


async def _broken(request: Request, error: Exception) -> Response:
    return refusal(500, "something went wrong here, which is a bug; the terminal that serves this page says what")


async def _file(desk: Desk, request: Request) -> Response:
    path = plain_path(request.scope.get("raw_path") or request.scope["path"].encode("utf-8", "surrogatepass"))
    if path is None:
        return sent(None)
    known = known_tag(request)
    if path.startswith("atlas/"):
        return sent(await asyncio.to_thread(read_shown, desk.files, path.removeprefix("atlas/"), known))
    return sent(await asyncio.to_thread(read_own, path or INDEX, known, desk.site))


async def _about(desk: Desk, request: Request) -> Response:
    return tagged(request, await asyncio.to_thread(desk.about))


async def _state(desk: Desk, request: Request) -> Response:
    return told(desk.state(), headers={"Cache-Control": "no-store"})


async def _events(desk: Desk, request: Request) -> Any:
    if desk.hub.full:
        return refusal(503, "too many pages listen already; close some", {"Retry-After": str(RETRY_AFTER)})
    return desk.hub.stream(written("state", desk.state()))


async def _ask(desk: Desk, request: Request) -> Response:
    content = await json_of(request)
    if desk.why:  # known before the request is looked at: nothing could come of any
        return refusal(409, desk.why)
    ask = checked_ask(content, await asyncio.to_thread(desk.manifest))
    if await asyncio.to_thread(desk.there, ask):
        desk.tell_made(ask)
    else:
        try:
            desk.ask(ask)
        except Busy as busy:
            return refusal(429, busy, {"Retry-After": str(RETRY_AFTER)})
    return told({"ask": ask.to_dict(), "waiting": len(desk.pending)}, 202)


async def _name(desk: Desk, request: Request) -> Response:
    content = await json_of(request)
    given = content if isinstance(content, dict) else {}
    name, layer, units = (given.get(key) for key in ("name", "layer", "units"))
    numbers = isinstance(units, list) and all(isinstance(u, int) and not isinstance(u, bool) for u in units)
    if not (isinstance(name, str) and isinstance(layer, str) and numbers and units):
        return refusal(400, 'a family is like {"name": "curves", "layer": "blocks.4.1", "units": [3, 17]}')
    if any("\ud800" <= c <= "\udfff" for c in name):  # which no address of a page can hold
        return refusal(400, f"a family's name must be whole text; {name!a} holds half of a character")
    return told({"families": await desk.name_family(name, layer, units)})


async def _forget(desk: Desk, request: Request) -> Response:
    names = request.query_params.getlist("name")
    if len(names) != 1:
        return refusal(400, "which family is to be forgotten is said by one name: /api/families?name=…")
    return told({"families": await desk.drop_family(names[0])})
