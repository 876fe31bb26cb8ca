"""Exact contributions through one linear module: weight × activation.

    module(x)[unit, at]  =  bias  +  Σ_i Σ_q  W[unit, i, q] · x[i, p(at, q)]        contribution of i at p: W · x

The gradient of a linear map is its weights, laid where the module reads them: padding, stride, dilation, groups and
transposition are then the module's own. So one backward pass through the module alone gives every W of the sum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ArgumentError
from ..network import evaluating
from .grids import as_maps

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (*_PLAIN, *_TURNED)
ALIKE = 1e-5  # of the largest output: what rounding may leave in single precision


@dataclass(frozen=True)
class Contributions:
    """What a module's input contributed to one of its outputs, as tensors ``[1, …]`` like the input.

    Args:
        values: weight × activation.
        weights: where the module reads them for this output.
        base: the output without them.
    """

    values: Tensor
    weights: Tensor
    base: float


def contributions(
    module: nn.Module, inputs: Tensor, axes: Sequence[str], unit: int, at: tuple[int, int]
) -> Contributions:
    """What each element of a linear module's input contributed to one output, in double precision.

    Args:
        module: a convolution, transposed convolution or linear map.
        inputs: what it read, ``[1, …]``.
        axes: of its output.
        unit, at: the output.

    Raises:
        ArgumentError: for weights that are not floating-point, or a forward of its own that is not linear.
    """
    if not all(p.is_floating_point() for p in module.parameters()):
        raise ArgumentError(f"the weights of this {type(module).__name__} are quantised; dequantise the module first")
    wide = torch.float32 if inputs.device.type == "mps" else torch.float64  # that device has no double precision
    row = _row(module, unit)
    alone, tensors, unit, seen = row if row is not None else (module, _tensors(module), unit, slice(None))
    tensors = {name: t.detach().to(t.device, wide) if t.is_floating_point() else t for name, t in tensors.items()}

    def gradient(x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(module):
            x = x.detach().clone().requires_grad_()
            value = as_maps(functional_call(alone, tensors, (x,)), axes)[:, unit, at[0], at[1]]
            return torch.autograd.grad(value.sum(), x)[0]

    inputs = inputs.detach().to(wide)
    if row is None:
        weights = gradient(inputs)
        with torch.inference_mode(False), torch.no_grad(), evaluating(module):
            at_zero = _at_zero(module, lambda x: functional_call(module, tensors, (x,)), inputs)
        return Contributions(weights * inputs, weights, float(as_maps(at_zero, axes)[0, unit, at[0], at[1]]))
    weights = torch.zeros_like(inputs)
    weights[:, seen] = gradient(inputs[:, seen])
    return Contributions(weights * inputs, weights, float(tensors["bias"][0]) if "bias" in tensors else 0.0)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _row(module: nn.Module, unit: int) -> tuple[nn.Module, dict[str, Tensor], int, slice] | None:
    """A module that makes one unit alone, its tensors, the unit's number and the part of axis 1 that it reads.

    ``None`` for a module that is more than its class says: parametrised, with hooks, or with a forward of its own.
    """
    tensors = _tensors(module)
    if type(module) not in LINEAR or not {"weight"} <= set(tensors) <= {"weight", "bias"}:
        return None
    if module._forward_pre_hooks or module._forward_hooks:
        return None
    rows = {name: t[unit : unit + 1] for name, t in tensors.items()}
    if isinstance(module, nn.Linear):
        return module, rows, 0, slice(None)
    alone: Any = copy.copy(module)
    alone.groups = 1
    groups, inputs, outputs = (int(getattr(module, n)) for n in ("groups", "in_channels", "out_channels"))
    group, number = divmod(unit, outputs // groups)
    seen = slice(group * inputs // groups, (group + 1) * inputs // groups)
    if isinstance(module, _TURNED):  # its weight is [I, O / groups, …]
        rows["weight"] = tensors["weight"][seen, number : number + 1]
    return alone, rows, 0, seen


def _at_zero(module: nn.Module, run: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Everything that a module gives for 0, which is its bias, if it is linear.

    A forward of its own may do more than its class says: sums of inputs must give sums of outputs, everywhere.

    Raises:
        ArgumentError: if they do not.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float64).to(inputs)
    noise *= max(float(inputs.abs().max()), 1.0)
    zero, one, other, both = (run(x) for x in (torch.zeros_like(inputs), inputs, noise, inputs + noise))
    if float((one + other - zero - both).abs().max()) > ALIKE * float((both - zero).abs().max()):
        raise ArgumentError(f"{type(module).__name__} has a forward of its own, or hooks, and is not linear")
    return zero
