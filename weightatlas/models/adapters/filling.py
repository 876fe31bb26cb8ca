"""What the zoos of other libraries share: untrained networks, heads of another size, pictures prepared otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def seeded() -> Iterator[None]:
    """Random numbers that are the same every time, and leave those of the caller as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def other_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """How many classes a file's network tells apart, where that is all that its shapes differ in.

    Args:
        module: the network with its usual number of classes.
        state: the file's tensors.

    Returns:
        The number; ``None`` if all shapes are the same, or something else differs too.

    Example:
        >>> other_classes(torch.nn.Linear(3, 1000), torch.nn.Linear(3, 7).state_dict())
        7
    """
    pairs = [(own, state[key]) for key, own in module.state_dict().items() if key in state]
    differ = [(own, given) for own, given in pairs if own.shape != given.shape]
    sizes = {(own.shape[0] if own.ndim else 0, given.shape[0] if given.ndim else 0) for own, given in differ}
    alike = all(own.shape[1:] == given.shape[1:] for own, given in differ)
    return next(iter(sizes))[1] if len(sizes) == 1 and alike and 0 not in next(iter(sizes)) else None


def cut_note(library: str, side: float, size: tuple[int, int], interpolation: str) -> str:
    """What a library does to pictures and an :class:`InputSpec` does not; empty if they do the same.

    Args:
        library: that the network is from.
        side: pixels to which it scales the short side before it cuts the centre out.
        size: ``(H, W)`` of what it cuts out.
        interpolation: how it scales.
    """
    own = min(size)
    if math.floor(side) == own and interpolation == "bilinear":
        return ""
    return (
        f"{library} scales the short side of pictures to {math.floor(side)} pixels ({interpolation}) before it cuts "
        f"{size[0]} × {size[1]} out; here to {own} (bilinear)"
    )
