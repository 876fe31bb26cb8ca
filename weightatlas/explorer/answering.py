"""Answers: JSON that every reader takes, errors as one sentence, files with their tags."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .reading import Found

LONGEST_WORDS = 600  # characters of an error


def told(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Data as JSON; in ASCII, so that no name can be one that cannot be sent."""
    return Response(json.dumps(content).encode(), status, headers, "application/json")


def refusal(status: int, words: object, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON: what came in and what to do, in one sentence."""
    text = " ".join(str(words).split())
    return told({"error": text if len(text) <= LONGEST_WORDS else text[: LONGEST_WORDS - 1] + "…"}, status, headers)


class Refused(Exception):  # noqa: N818  # an answer, no error
    """An answer that ends the handling of a request.

    Args:
        status: of the answer.
        words: one sentence.
        headers: beside the usual ones.
    """

    def __init__(self, status: int, words: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(words)
        self.answer = refusal(status, words, headers)


def sent(found: Found | None) -> Response:
    """A file; 304 if the reader has it already."""
    if found is None:
        return refusal(404, "there is no such file here; it may not be made yet")
    if found.data is None:
        return Response(status_code=304, headers={"ETag": found.tag})
    return Response(found.data, headers={"ETag": found.tag}, media_type=found.media)


def tagged(request: Request, content: Any) -> Response:
    """JSON with a tag that follows from it."""
    data = json.dumps(content).encode()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return sent(Found(tag, "application/json", None if known_tag(request, tag) == tag else data))


def known_tag(request: Request, tag: str = "") -> str:
    """The tag of what a reader has; of several the one that is asked about, else the first."""
    given = [t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")]
    return tag if tag in given else given[0]
