"""Norms whose statistics depend on the data: read at a stated operating point."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..kernel import Kernel
from ..step import Passed, Step
from .table import no_rule, rule


def _scaled_by_weight(step: Step, names: tuple[str, ...] = ("weight",), channels: bool = False) -> Kernel:
    """The kernel before the norm's own scale."""
    weight = step.constant(names[0])
    if weight is None:
        return step.kernel
    if channels:
        weight = weight.view(-1, *(1,) * (len(step.kernel.axes) - 1))
    return step.kernel.scaled(weight, step.pinned)


@rule("layer_norm", "native_layer_norm", "rms_norm")
def layer_norm(step: Step) -> Passed:
    """(in − mean) / deviation · weight over the last axes; RMS norm does not subtract the mean."""
    if step.index != 0:
        raise no_rule(step, "its statistics")
    kernel = _scaled_by_weight(step)
    count = len(step.arguments["normalized_shape"])
    over = tuple(range(len(kernel.axes)))[-count:]
    yield step.arguments["input"], step.reading.norm(step, kernel, over, centred=step.operator != "rms_norm")


@rule("group_norm", "native_group_norm", "instance_norm")
def group_norm(step: Step) -> Passed:
    """The same over the channels of each group and all positions."""
    if step.index != 0:
        raise no_rule(step, "its statistics")
    a = step.arguments
    if step.operator == "instance_norm" and not a.get("use_input_stats", True):
        raise no_rule(step, "it uses kept statistics")
    kernel = _scaled_by_weight(step, channels=True)
    kernel = kernel.full(step.shape()[0]) if kernel.compact == 0 else kernel
    channels = step.shape()[0]
    groups = int(a["num_groups"] if "num_groups" in a else a.get("group", channels))
    values = kernel.values.reshape(len(kernel.values), groups, channels // groups, *kernel.values.shape[2:])
    split = kernel.like(values, axes=(None, *kernel.axes))
    over = tuple(range(1, len(split.axes)))
    out = step.reading.norm(step, split, over, centred=True)
    source = a["input"]
    yield source, out.like(out.values.flatten(1, 2), axes=out.axes[1:])


def normalised(values: Tensor, over: tuple[int, ...], eps: float, centred: bool) -> tuple[Tensor, Tensor]:
    """Input brought to mean 0 and deviation 1 over some axes (counted without the batch), and 1 / deviation."""
    dims = [i + 1 for i in over]
    middle: Any = values.mean(dims, keepdim=True) if centred else 0
    inverse = ((values - middle).square().mean(dims, keepdim=True) + eps).rsqrt()
    return (values - middle) * inverse, inverse
