"""How the network of an atlas is opened again, without telling where things lie on the machine that built it."""

from __future__ import annotations

import re
from pathlib import Path

from ...models import RANDOM
from ...network import Network

#: Names that mean the same network on every machine; folders and files do not.
_ANYWHERE = re.compile(r"[\w.-]+|(timm|torchvision|hf):(hf[-_]hub:)?\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?")


def public_origin(net: Network) -> dict[str, str | None] | None:
    """What an atlas tells of a network's origin.

    Args:
        net: an open network.

    Returns:
        ``source``, the name that opens it, ``None`` where that is a path; ``weights``, the name of a file without its
        folder, ``"random"``, or ``None`` for the published ones. ``None`` for networks that no name opens.
    """
    if net.origin is None:
        return None
    source, weights = net.origin
    return {
        "source": source if _ANYWHERE.fullmatch(source) else None,
        "weights": weights if weights in (None, RANDOM) else Path(weights).name,
    }
