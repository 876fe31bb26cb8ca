"""From a unit's sources to where these came from: the layers in which a walk down to the pixels goes on."""

from __future__ import annotations

from ..errors import ArgumentError
from ..network import INPUT, Network
from ..records import Attributions, Layer
from ..weights import behind_functions, reads

#: Layers that act on each unit and position alone.
ELEMENTWISE = ("activation", "norm")
#: Layers that bring positions together without weights.
POOLING = ("pool", "other")


def source_layer(net: Network, found: Attributions) -> tuple[Layer | None, str, str]:
    """The layer whose units are the sources of an attribution, the function behind it, and why there is no such layer.

    Where a module reads what functions made of a layer, each unit and position alone, the sources are that layer's
    units. The function is told as ``"relu before conv2"``; at the pixels there is neither a layer nor a reason.
    """
    if found.source in net.layers:
        return net.layers[found.source], "", ""
    if found.source == INPUT:
        return None, "", ""
    layer, function = behind_functions(net, found.target)
    if layer is not None and layer.units == len(found.values) and layer.grid in (None, found.values.shape[1:]):
        return layer, function, ""
    why = f"what {found.target!r} reads is no layer's output, nor made of one unit by unit"
    try:
        near = reads(net, found.target)
    except ArgumentError:
        return None, "", f"{why}; name a layer before it with source= to go on"
    return None, "", f"{why}; source={near!r} goes on there"


def maker(net: Network, layer: Layer) -> Layer:
    """The convolution or linear map behind norms and activations that gave a layer its units, or the layer itself."""
    found = layer
    while found.kind in ELEMENTWISE and found.source in net.layers:
        behind = net.layers[found.source]
        if (behind.units, behind.grid) != (layer.units, layer.grid):
            return layer
        found = behind
    return found if found.kernel is not None or found.kind == "linear" else layer


def with_positions(net: Network, target: str) -> tuple[str, bool]:
    """The layer with positions whose units a target reads pooled or flattened, and whether pooled; else ``""``."""
    layer = net.layers.get(target.rpartition(":")[0])
    if layer is None or layer.kernel is None or layer.source not in net.layers:
        return "", False
    read = behind = net.layers[layer.source]
    while behind.kind in POOLING and behind.source in net.layers:
        behind = net.layers[behind.source]
        if behind.grid not in (None, (1, 1)):
            pooled = behind.units == read.units
            flat = read.units in (0, behind.units * behind.grid[0] * behind.grid[1])
            return (behind.name, pooled) if pooled or flat else ("", False)
    return "", False
