"""A network as readers and adapters give it, before it becomes a :class:`weightatlas.Network`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..records import Layer
    from .spec import InputSpec

#: Instead of a file of weights: those that a network begins its training with.
RANDOM = "random"
#: What is said of a network that has them; the seed is always the same.
UNTRAINED = "its weights are random (seed 0): nothing was learned"


@dataclass(frozen=True)
class Opened:
    """Everything that opening a network found out.

    Args:
        name: what it is called in captions and provenance.
        module: with its weights, in evaluation mode; ``None`` if there is no architecture that could be run.
        input: what the module takes in; ``None`` without a module.
        tensors: all weights by name.
        notes: what was assumed, unwrapped or skipped, one sentence each.
        file: the name and SHA-256 of the file of weights, ``"NAME sha256:HEX"``; empty if they come from no one file.
        layers: the layers of a network without a module, where its file tells more of them than tensors do.
        source: what opens it again from any folder, if that is not what it was called by.
        blocks: the layers by which it is read where nobody says which, if its modules do not tell.
    """

    name: str
    module: nn.Module | None
    input: InputSpec | None
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    file: str = ""
    layers: tuple[Layer, ...] = ()
    source: str = ""
    blocks: tuple[str, ...] = ()
