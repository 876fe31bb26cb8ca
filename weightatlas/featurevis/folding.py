"""Batch norms folded into the convolutions before them: the same values with less work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..network import Network


def foldable(net: Network, layers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Convolutions and the batch norms that alone read them, each called once, none of them wanted before its norm."""
    again = {name.split("#")[0] for name in net.layers if "#" in name}
    modules = dict(net.require_module("")[0].named_modules())
    for layer in net.layers.values():
        conv, norm = modules.get(layer.name), modules.get(layer.norm)
        if not isinstance(conv, nn.Conv2d | nn.Linear) or not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            continue
        if layer.name in layers or {layer.name, layer.norm} & again or norm.running_var is None:
            continue
        if "weight" not in conv._parameters:  # computed from others: weight norm and its kin
            continue
        yield layer.name, layer.norm


def fold(twin: nn.Module, conv_name: str, norm_name: str) -> None:
    """Multiplies a batch norm into the convolution before it; the norm passes its input on from then on."""
    conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
    if not isinstance(conv, nn.Conv2d | nn.Linear) or not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TypeError(f"{conv_name} and {norm_name} are no longer a convolution and its batch norm")
    if norm.running_var is None or norm.running_mean is None:
        return
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    weight = conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    # the norm stays in place for whoever looks at its attributes, and passes its input on
    norm.forward = _pass_on


def _pass_on(input: Tensor) -> Tensor:
    return input
