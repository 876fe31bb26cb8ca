"""What stands in for an operator that is not linear: the part of a walk that a gate decides."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, fx

from .kernel import Kernel
from .step import Step


class Reading(Protocol):
    """Asked by the rules of operators that are not linear."""

    def slope(self, step: Step) -> Tensor | float:
        """What the derivative of a pointwise operator is read as: a number or ``[*axes]`` of its output."""
        ...

    def held(self, step: Step, node: fx.Node, inverse: bool = False) -> Tensor | float:
        """What a data-dependent factor (or the inverse of a divisor) is read as, ``[*axes]`` of that node."""
        ...

    def follows(self, step: Step, node: fx.Node, other: fx.Node) -> bool:
        """Whether of a product of two data-dependent values the path through ``node`` is followed."""
        ...

    def norm(self, step: Step, kernel: Kernel, over: tuple[int, ...], centred: bool) -> Kernel:
        """The kernel on a norm's input from that before its own scale, normalised over some of its axes."""
        ...

    def largest(self, step: Step, size: tuple[int, ...], stride: tuple[int, ...]) -> Kernel:
        """The kernel on the input of a max pooling; of an adaptive one ``size`` is empty."""
        ...
