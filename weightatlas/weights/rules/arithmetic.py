"""Sums, products, and everything that happens to one number at a time."""

from __future__ import annotations

from typing import Any

from torch import fx

from ..kernel import Kernel
from ..moments import POINTWISE
from ..step import Passed, Step
from .table import no_rule, rule


def passed(step: Step) -> Passed:
    """The kernel as it is."""
    yield step.source, step.kernel


#: In evaluation these do nothing to the values.
rule(
    "clone", "alias", "detach", "detach_", "contiguous", "lift_fresh", "lift_fresh_copy", "to", "_to_copy", "dropout",
    "feature_dropout", "alpha_dropout", "native_dropout", "type_as", "positive",
)(passed)  # fmt: skip


@rule("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
def filled(step: Step) -> Passed:
    """A constant that takes nothing but its shape from its input: no path."""
    return ()


def reduced(step: Step, node: Any, kernel: Kernel) -> Kernel:
    """A kernel on an input that was broadcast to the output: summed over the axes that it does not have."""
    shape, own = step.shape(), step.shape(node)
    if own == shape:
        return kernel.shared()
    if len(own) != len(shape):
        raise no_rule(step, f"values of {len(own)} and {len(shape)} axes")
    over = [i for i, (n, m) in enumerate(zip(own, shape, strict=True)) if n == 1 and m > 1]
    if kernel.first is not None and kernel.compact in over:
        kernel = kernel.full(shape[kernel.compact])
    values = kernel.values.sum([i + 1 for i in over], keepdim=True)
    return kernel.like(values, axes=tuple(None if i in over else a for i, a in enumerate(kernel.axes)))


@rule("add", "add_", "sub", "sub_")
def summed(step: Step) -> Passed:
    """A ± alpha · b."""
    a = step.arguments
    alpha = a.get("alpha", 1) * (-1 if step.operator.startswith("sub") else 1)
    for node, factor in ((a["self"], 1), (a["other"], alpha)):
        if step.wants(node):
            kernel = reduced(step, node, step.kernel)
            yield node, kernel if factor == 1 else kernel.scaled(factor)


@rule("rsub")
def subtracted_from(step: Step) -> Passed:
    """B − alpha · a."""
    a = step.arguments
    for node, factor in ((a["self"], -a.get("alpha", 1)), (a["other"], 1)):
        if step.wants(node):
            yield node, reduced(step, node, step.kernel).scaled(factor)


@rule("neg")
def negated(step: Step) -> Passed:
    """−a."""
    yield step.source, step.kernel.scaled(-1.0)


@rule("mul", "mul_", "div", "div_")
def multiplied(step: Step) -> Passed:
    """A · b or a / b: constants scale, a factor that depends on the data is held at what the reading says."""
    a, b = step.node.args[:2]
    inverse = step.operator.startswith("div")
    if step.arguments.get("rounding_mode"):
        raise no_rule(step, "a rounded division")
    yield from _through(step, a, b, inverse)
    if inverse:
        if step.wants(b) and _followed(step, b, a, True):
            yield from _through_divisor(step, a, b)
    else:
        yield from _through(step, b, a, False)


def _through(step: Step, node: Any, other: Any, inverse: bool) -> Passed:
    """One factor's path: times the other factor, or its inverse."""
    if not step.wants(node):
        return
    if step.depends(other):
        if not _followed(step, node, other, False):
            return
        factor = step.reading.held(step, other, inverse)
    elif isinstance(other, fx.Node):
        factor = step.constant_of(other)
        if factor.ndim == len(step.shape()) + 1:
            factor = factor[0]  # the batch
        factor = 1 / factor if inverse else factor
    else:
        factor = 1 / other if inverse else other
    scaled = step.kernel.scaled(factor, step.pinned)
    yield node, reduced(step, node, scaled)


def _followed(step: Step, node: Any, other: Any, inverse: bool) -> bool:
    """Whether a path goes on; if it is cut, what it leads to is held, which the reading remembers."""
    followed = step.reading.follows(step, node, other)
    if not followed:
        step.reading.held(step, node, inverse)
    return followed


def _through_divisor(step: Step, a: Any, b: Any) -> Passed:
    """d(a/b) = … − a/b² db, at the values of an example."""
    kernel = step.kernel
    for node, inverse in ((a, False), (b, True), (b, True)):
        value = step.reading.held(step, node, inverse) if step.depends(node) else step.graph.value(node)
        kernel = kernel.scaled(value, step.pinned)
    yield b, reduced(step, b, kernel.scaled(-1.0))


def pointwise(step: Step) -> Passed:
    """f(a): the kernel times what f's derivative is read as."""
    yield step.source, step.kernel.scaled(step.reading.slope(step), step.pinned)


rule(*sorted({name.split(".")[1] for name in POINTWISE}))(pointwise)
