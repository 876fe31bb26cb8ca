"""Direct weights: the tensor of one module, brought to ``[O, I, H, W]``.

    out[o, t] = Σ_i Σ_yx W[o, i, y, x] · in[i, t·stride + origin + (y, x)·dilation]  +  bias

is what every layer below is brought to. A transposed convolution is that with its kernel turned by half a turn and
with fractions for stride, origin and dilation: only elements that fall on whole steps of the source grid count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError
from ..network import INPUT, Network
from ..records import Layer, Weights
from .expanded import expanded_weights
from .tensors import READABLE, kernel_origin, module_weight, norm_scale, turned


def direct_weights(
    net: Network,
    layer: str,
    units: Iterable[int] | None = None,
    *,
    dense: bool = False,
    fold_norm: bool = True,
) -> Weights:
    """The weights of one convolution, linear layer or block of them, as ``Weights [O, I, H, W]``.

    Args:
        net: an open network.
        layer: a layer's name. A convolution (1-d, 2-d, transposed, grouped, dilated) gives its tensor, a linear layer
            its matrix as 1×1. A block (a separable convolution stored in pieces, an inverted residual) gives its
            expanded weights from the layer it reads (:func:`weightatlas.expanded_weights` with its defaults): every
            activation inside is read by its expected derivative and listed in ``replaced``; residual paths are left
            out, and ``Weights.skip`` has them.
        units: numbers of the target units, default all.
        dense: unfold groups and dilation to every source unit and every step of the source grid; otherwise grouped
            weights stay ``[O, I / groups, H, W]``.
        fold_norm: scale every unit by the batch norm that alone reads the layer, γ / √(σ² + ε), so that magnitudes
            compare across units. The norms of a block are part of it, so ``False`` is for single layers only.

    Returns:
        Float32 weights, a copy; 1-d kernels are ``[O, I, 1, W]``.

    Raises:
        UnknownNameError: for a layer or unit that does not exist.
        ArgumentError: for a layer without weights of its own, or whose weights are quantised.
        GraphError, WeightValuesError: for a block that cannot be multiplied out.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 1 and 9.

    Example:
        >>> import weightatlas as wa
        >>> wa.direct_weights(wa.load("efficientnet_lite0"), "conv_stem")
        Weights(input → conv_stem: [O=32, I=3, H=3, W=3])
    """
    known = net.layers[layer]
    chosen = known.unit_indices(units)
    if net.module is None:
        found = _from_tensor(net, known, fold_norm)
    else:
        module = net.module.get_submodule(known.module_path)
        if isinstance(module, READABLE):
            found = _from_module(net, known, module, fold_norm)
        elif known.inside:
            return _from_block(net, known, chosen if units is not None else None, fold_norm)
        else:
            raise ArgumentError(_no_weights(net, known))
    found = found.select(chosen) if units is not None else found
    return found.dense() if dense else found


def _no_weights(net: Network, layer: Layer) -> str:
    readable = [n for n, known in net.layers.items() if known.kernel is not None]
    near = [n for n in readable if n.rpartition(".")[0] == layer.name.rpartition(".")[0]] or readable
    shown = ", ".join(repr(n) for n in near[:4]) or "none"
    article = "an" if layer.kind[0] in "aeiou" else "a"
    return f"{layer.name!r} is {article} {layer.kind} ({layer.type}) without direct weights; layers with them: {shown}"


def _from_module(net: Network, layer: Layer, module: nn.Module, fold: bool) -> Weights:
    values = module_weight(module, layer.name)
    origin = kernel_origin(layer, module)
    scale = (
        norm_scale(net.module.get_submodule(layer.norm.split("#")[0])) if fold and layer.norm and net.module else None
    )
    if scale is not None:
        values = values * scale.view(-1, 1, 1, 1)
    return Weights(
        **_common(net, layer),
        values=values.clone().numpy(),
        source_units=int(layer.input_channels or 0),
        groups=int(layer.groups or 1),
        origin=origin,
        stride=layer.stride or (1, 1),
        dilation=layer.dilation or (1, 1),
        norm=layer.norm if scale is not None else "",
    )


def _common(net: Network, layer: Layer) -> dict[str, Any]:
    pixels = layer.source == INPUT
    return dict(
        source=layer.source or f"input of {layer.name}",
        target=layer.name,
        units=torch.arange(layer.units).numpy(),
        target_units=layer.units,
        sees_pixels=pixels,
        channel_names=net.input.channel_names if pixels and net.input else (),
        provenance=net.provenance,
    )


def _from_block(net: Network, layer: Layer, units: list[int] | None, fold: bool) -> Weights:
    """A block's expanded weights from the layer that it reads."""
    inner = [name for name in layer.inside if net.layers[name].kernel is not None]
    if not inner:
        raise ArgumentError(_no_weights(net, layer))
    if not fold:
        raise ArgumentError(
            f"the norms of {layer.name!r} are part of the block; fold_norm=False is for a single layer such as "
            f"{inner[-1]!r}"
        )
    if not layer.source:
        raise ArgumentError(
            f"{layer.name!r} reads no single layer; wa.expanded_weights(net, source, {layer.name!r}) leads there from "
            "any earlier one"
        )
    return expanded_weights(net, layer.source, layer.name, units, skip="exclude")


def _from_tensor(net: Network, layer: Layer, fold: bool) -> Weights:
    """A tensor without a module: a checkpoint's, of which nothing but its shape tells what it is, or a graph's."""
    if layer.kernel is None:
        raise ArgumentError(_no_weights(net, layer))
    tensor = net.tensors.get(f"{layer.module_path}.weight", net.tensors.get(layer.name))
    if tensor is None or tensor.is_quantized or not tensor.is_floating_point() or tensor.layout != torch.strided:
        sparse = tensor is not None and tensor.layout != torch.strided
        kind = "sparse" if sparse else getattr(tensor, "dtype", "missing")
        do = "dequantise them first (values.float() * scale)"
        if tensor is not None and tensor.is_complex():
            do = "save their real and imaginary parts apart"
        elif tensor is not None and not tensor.is_quantized and tensor.dtype not in (torch.int8, torch.uint8):
            do = "save them as floating-point numbers (values.float()) if they are weights"
        raise ArgumentError(f"the weights of {layer.name!r} are {kind}, which cannot be read; {do}")
    values, groups = tensor.float(), int(layer.groups or 1)
    if net.told and layer.kind == "transposed conv":
        values = turned(values, groups)
    values = values.reshape(*values.shape[:2], *(1,) * (4 - values.ndim), *values.shape[2:])
    scale = _told_scale(net, layer) if fold and layer.norm else None
    weights = Weights(
        **_common(net, layer),
        values=(values if scale is None else values * scale.view(-1, 1, 1, 1)).clone().numpy(),
        source_units=int(layer.input_channels or 0),
        groups=groups,
        origin=layer.origin or (0, 0),
        stride=layer.stride or (1, 1),
        dilation=layer.dilation or (1, 1),
        norm=layer.norm if scale is not None else "",
    )
    note = "read from a bare tensor: stride, padding, groups and batch norm are unknown"
    if net.told:
        note = "" if layer.origin else "where the kernel lies depends on a size that the file leaves open; 0 is assumed"
    return dataclasses.replace(weights, provenance=weights.provenance.noting(note)) if note else weights


def _told_scale(net: Network, layer: Layer) -> torch.Tensor:
    """What a batch norm multiplies by, of a network whose file tells its layers."""
    gamma, variance, eps = (net.tensors[f"{layer.norm}.{leaf}"].float() for leaf in ("weight", "running_var", "eps"))
    return gamma * torch.rsqrt(variance + eps)
