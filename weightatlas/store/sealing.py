"""Files that carry their own checksum: JSON documents, metadata of arrays, pictures.

Somewhere in the file stands ``"sha256": "…"`` once: the SHA-256 of the whole file with these 64 digits replaced by
zeros. So every byte is covered, and nothing but a hash function is needed to tell a damaged file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from ..errors import StoreError

#: What stands where the checksum goes, before it is known.
UNSEALED = "0" * 64
KEY = "sha256"
_PLACE = re.compile(rb'"sha256": ?"([0-9a-f]{64})"')


def sealed(data: bytes) -> bytes:
    """The same file with its checksum filled in.

    Args:
        data: holds ``"sha256": "000…"`` once.

    Raises:
        ValueError: if it does not.
    """
    places = [m for m in _PLACE.finditer(data) if m[1] == UNSEALED.encode()]
    if len(places) != 1:
        raise ValueError(f"a file to be sealed has one place for its checksum, this has {len(places)}")
    start, stop = places[0].span(1)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[stop:]


def is_whole(data: bytes) -> bool:
    """Whether a file is, byte by byte, what was once sealed."""
    for place in _PLACE.finditer(data):
        start, stop = place.span(1)
        if hashlib.sha256(data[:start] + UNSEALED.encode() + data[stop:]).hexdigest().encode() == place[1]:
            return True
    return False


def document(content: dict[str, Any], indent: int | None = None) -> bytes:
    """A JSON document with its checksum; NaN and infinity become null, which JSON has."""
    whole = {**finite(content), KEY: UNSEALED}
    separators = (",", ":") if indent is None else (",", ": ")
    return sealed(json.dumps(whole, indent=indent, separators=separators, allow_nan=False).encode() + b"\n")


def parsed(data: bytes, where: str) -> dict[str, Any]:
    """The content of a document, checked.

    Raises:
        StoreError: if it is damaged, naming it.
    """
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: no JSON document ({error}); {MEND}") from error
    if not is_whole(data):
        raise StoreError(f"{where} is damaged: its checksum differs from its content; {MEND}")
    found.pop(KEY, None)
    return found


#: What to do about a damaged file.
MEND = "`weightatlas check DIR --repair` removes what is broken, and a build makes it again"


def finite(value: Any) -> Any:
    """JSON-ready data with null for NaN and infinity."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
