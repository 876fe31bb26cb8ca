"""What one module's tensors say: its kernel, where the kernel lies, and what a batch norm multiplies by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..records import Layer

READABLE = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)


def module_weight(module: nn.Module, name: str) -> Tensor:
    """A module's weight as float32 ``[O, I / groups, H, W]``, oriented as a cross-correlation.

    Raises:
        ArgumentError: for quantised weights and kernels of more than two dimensions.
    """
    weight = module.weight
    if not isinstance(weight, Tensor) or weight.is_quantized or not weight.is_floating_point():
        kind = getattr(weight, "dtype", type(weight).__name__)
        raise ArgumentError(f"the weights of {name!r} are {kind}, which cannot be read; dequantise the module first")
    weight = weight.detach().float().cpu()
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
        weight = turned(weight, module.groups)
    return weight.reshape(*weight.shape[:2], *(1,) * (4 - weight.ndim), *weight.shape[2:])


def turned(weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed convolution ``[I, O / groups, …]`` as a cross-correlation's ``[O, I / groups, …]``."""
    inputs, outputs = weight.shape[:2]
    grouped = weight.reshape(groups, inputs // groups, outputs, *weight.shape[2:]).transpose(1, 2)
    return grouped.reshape(groups * outputs, inputs // groups, *weight.shape[2:]).flip(list(range(2, weight.ndim)))


def norm_scale(norm: nn.Module) -> Tensor | None:
    """What batch norm in evaluation multiplies each unit by, γ / √(σ² + ε) ``[O]``; ``None`` without statistics."""
    variance = getattr(norm, "running_var", None)
    if variance is None:
        return None
    scale = torch.rsqrt(variance.detach().float().cpu() + norm.eps)  # pyright: ignore[reportOperatorIssue, reportArgumentType]
    gamma = norm.weight
    return scale * gamma.detach().float().cpu() if isinstance(gamma, Tensor) else scale


def kernel_origin(layer: Layer, module: nn.Module) -> tuple[float, float]:
    """Where element (0, 0) lies: as observed, else by the module's padding.

    Raises:
        ArgumentError: if neither tells.
    """
    if layer.origin is not None:
        return layer.origin
    if not any(type(module).forward is kind.forward for kind in READABLE):
        raise ArgumentError(
            f"where {layer.name!r} ({layer.type}) reads its source cannot be told: the axes of its input are unknown, "
            "and it has a forward of its own that may pad. Load the part of the network around it as a module"
        )
    padding = getattr(module, "padding", 0)
    kernel, stride, dilation = (v or (1, 1) for v in (layer.kernel, layer.stride, layer.dilation))
    if padding == "same":  # the smaller half comes first
        return (-((kernel[0] - 1) * dilation[0] // 2), -((kernel[1] - 1) * dilation[1] // 2))
    pads = padding if isinstance(padding, tuple) else (0,)
    y, x = (0,) * (2 - len(pads)) + pads
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):  # from the far end, in steps of the source grid
        return (y * stride[0] - (kernel[0] - 1) * dilation[0], x * stride[1] - (kernel[1] - 1) * dilation[1])
    return (-float(y), -float(x))
