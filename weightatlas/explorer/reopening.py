"""Which network an atlas is of, as another process opens it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

#: Weights that need no file.
RANDOM = "random"


def reopened(manifest: Mapping[str, Any], where: str, weights: str | None) -> tuple[str, str | None, str]:
    """The name and the weights of an atlas's network.

    Args:
        manifest: the content of ``atlas.json``.
        where: the atlas's folder or URL.
        weights: a file that was given for it, or ``"random"``.

    Returns:
        Both, and why it cannot be opened by them, with the command that opens it; empty if it can.
    """
    about = manifest["model"]
    origin = about.get("origin")
    if not isinstance(origin, Mapping):  # older atlases do not tell it, nor do those of modules of somebody's own
        return about["name"], weights, ""
    source, kept = origin.get("source"), origin.get("weights")
    file = [] if kept in (None, RANDOM) else ["--weights", f"FOLDER/{kept}"]
    if source is None:
        words = shlex.join(["weightatlas", "open", _placed(about["name"]), *file, "-o", where])
        why = f"{about['name']}, the network of this atlas, came from a folder, and no atlas tells where that lies: "
        return about["name"], weights, f"{why}{words} names it again"
    if weights is None and file:
        why = f"{source}, the network of this atlas, has the weights of a file, and no atlas tells where that lies: "
        return source, None, f"{why}{shlex.join(['weightatlas', 'open', where, *file])} names it again"
    return source, kept if weights is None else weights, ""


def _placed(name: str) -> str:
    """What opens a network that lies in a folder nobody tells, by what it is called.

    Example:
        >>> _placed("hf:mine"), _placed("timm:local-dir:mine"), _placed("mine.onnx")
        ('hf:FOLDER/mine', 'timm:local-dir:FOLDER/mine', 'onnx:FOLDER/mine.onnx')
    """
    kind, colon, rest = name.rpartition(":")
    if colon:
        return f"{kind}:FOLDER/{rest}"
    return f"onnx:FOLDER/{name}" if name.endswith(".onnx") else "MODEL"
