"""What the zoos of other libraries share: networks too large for memory, pictures prepared otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..files.memory import require_memory
from ..fitting import seeded


def blank(make: Callable[[], nn.Module]) -> nn.Module | None:
    """A network without its numbers, which takes neither memory nor time; ``None`` if it cannot be made so.

    Args:
        make: makes it with them.
    """
    try:
        with seeded(), torch.device("meta"):
            return make()
    except Exception as error:  # constructors stumble over missing numbers in any way; other mistakes show later
        if isinstance(error, MemoryError):
            raise
        return None


def check_room(make: Callable[[], nn.Module], name: str) -> None:
    """Refuses a network whose numbers would not fit into memory, before it is made.

    Args:
        make: makes it.
        name: what it is called.

    Raises:
        LoadError: with both sizes.
    """
    empty = blank(make)
    if empty is not None:
        tensors = [*empty.parameters(), *empty.buffers()]
        needed = sum(t.numel() * t.element_size() for t in tensors)
        require_memory(Path(name), needed, f"a network of {sum(t.numel() for t in tensors):,} numbers")


def cut_note(library: str, scaled: float | tuple[float, float], size: tuple[int, int], interpolation: str) -> str:
    """What a library does to pictures and an :class:`InputSpec` does not; empty if they do the same.

    Args:
        library: that the network is from.
        scaled: pixels to which it scales before it cuts the centre out: of the short side, or of both, ``(H, W)``,
            where it stretches pictures.
        size: ``(H, W)`` of what it cuts out.
        interpolation: how it scales.

    Example:
        >>> cut_note("timm", (72.0, 72.0), (64, 64), "bicubic")
        'timm scales both sides of pictures to 72 pixels (bicubic) before it cuts 64 × 64 out; here to 64 (bilinear)'
    """
    both = isinstance(scaled, tuple)
    theirs = _sides(math.floor(scaled[0]), math.floor(scaled[1])) if both else str(math.floor(scaled))
    ours = _sides(*size) if both else str(min(size))
    if theirs == ours and interpolation == "bilinear":
        return ""
    return (
        f"{library} scales {'both sides' if both else 'the short side'} of pictures to {theirs} pixels "
        f"({interpolation}) before it cuts {size[0]} × {size[1]} out; here to {ours} (bilinear)"
    )


def _sides(height: int, width: int) -> str:
    return str(height) if height == width else f"{height} × {width}"
