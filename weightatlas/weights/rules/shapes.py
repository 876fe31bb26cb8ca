"""Operators that move values about without changing them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from ...graph import batch_leads, groups_of
from ..kernel import Kernel
from ..step import Passed, Step
from .table import no_rule, rule


def axis_of(step: Step, dim: int, node: fx.Node | None = None) -> int:
    """An axis of a node (default: of the output) counted without the batch.

    Raises:
        GraphError: for the batch axis.
    """
    count = len(step.shape(node)) + 1
    if dim % count == 0:
        raise no_rule(step, "it works along the batch axis")
    return dim % count - 1


def moved(step: Step, order: Sequence[int]) -> Kernel:
    """The kernel with its axes in another order: axis i of the result is axis ``order[i]`` now."""
    kernel = step.kernel
    values = kernel.values.permute(0, *(i + 1 for i in order))
    compact = order.index(kernel.compact) if kernel.first is not None else 0
    return kernel.like(values, axes=tuple(kernel.axes[i] for i in order), compact=compact, owned=False)


@rule("permute", "transpose", "movedim", "swapaxes", "t", "numpy_T")
def permuted(step: Step) -> Passed:
    """Axes in another order."""
    count = len(step.shape()) + 1
    if step.operator == "permute":
        dims = [d % count for d in step.arguments["dims"]]
    elif step.operator in ("transpose", "swapaxes"):
        dims = list(range(count))
        i, j = (int(d) % count for d in step.positional[1:3])
        dims[i], dims[j] = j, i
    else:
        raise no_rule(step)
    if dims[0] != 0:
        raise no_rule(step, "it moves the batch axis")
    order = [dims.index(i) - 1 for i in range(1, count)]
    yield step.source, moved(step, order)


@rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "squeeze_", "unsqueeze",
    "view_as",
)  # fmt: skip
def reshaped(step: Step) -> Passed:
    """Axes joined and split: each group of axes whose sizes have the same product is taken on its own."""
    if not (batch_leads(step.source) and batch_leads(step.out)):
        raise no_rule(step, "it joins the batch axis with others")
    yield step.source, regrouped(step.kernel, step.shape(), step.shape(step.source), step)


def regrouped(kernel: Kernel, now: Sequence[int], before: Sequence[int], step: Step) -> Kernel:
    """A kernel on axes of sizes ``now`` as one on ``before``.

    Raises:
        NeedsPosition: if windows have to be joined or split.
    """
    values, axes, sizes = kernel.values, [], [kernel.values.shape[0]]
    first, compact = kernel.first, 0
    for left, right in groups_of(now, before):
        if len(left) == 1 and len(right) == 1:
            axes.append(kernel.axes[left[0]])
            sizes.append(values.shape[left[0] + 1])
            if first is not None and left[0] == kernel.compact:
                compact = len(axes) - 1
            continue
        if first is not None and kernel.compact in left:
            full = kernel.full(now[kernel.compact])
            return regrouped(full, now, before, step)
        if any(kernel.axes[i] is not None for i in left):
            step.needs_position()
            spread = kernel.spread(now, [i for i in left if kernel.axes[i] is not None])
            return regrouped(spread, now, before, step)
        axes += [None] * len(right)
        sizes += [before[i] for i in right]
    return kernel.like(values.reshape(sizes), axes=tuple(axes), first=first, compact=compact, owned=False)


@rule("expand", "expand_as", "broadcast_to")
def expanded(step: Step) -> Passed:
    """Axes of size 1 repeated: summed."""
    from .arithmetic import reduced

    if len(step.shape()) != len(step.shape(step.source)):
        raise no_rule(step, "it adds axes")
    yield step.source, reduced(step, step.source, step.kernel)
