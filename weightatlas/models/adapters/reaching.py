"""Whether the hub can be reached at all, asked before libraries that try for half a minute."""

from __future__ import annotations

import socket
import urllib.request
from urllib.parse import urlsplit

from .importing import library

#: Seconds for an answer; a slow hub is no missing one, and is left to the library.
PATIENCE = 3.0


def unreachable_hub() -> str:
    """Why the Hugging Face hub cannot be reached, in words; empty if it can, or if that cannot be told so quickly.

    Only a host without an address and one that refuses count. Behind a proxy, and where ``HF_HUB_OFFLINE`` keeps the
    library itself from asking, nothing is tried.
    """
    constants = library("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies().keys() - {"no"}:
        return ""
    place = urlsplit(constants.ENDPOINT)
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname or "", port), PATIENCE).close()
    except (TimeoutError, ValueError):  # a port that is none is the library's to tell
        return ""
    except OSError as error:
        return f"{constants.ENDPOINT} cannot be reached: {error.strerror or error}"
    return ""
