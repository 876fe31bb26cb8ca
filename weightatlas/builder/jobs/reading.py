"""The weights between two layers that an atlas keeps: expanded, or direct where a network cannot be captured."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...errors import GraphError
from ...graph import layer_graph
from ...network import INPUT, Network
from ...records import Layer, Weights
from ...records.replacing import Replaced
from ...weights import direct_weights, expanded_weights
from ...weights.tensors import norm_scale


def between(net: Network, source: str, target: str, units: list[int] | None = None, gate: Any = "expected") -> Weights:
    """The weights that an atlas keeps between two layers, for all target units or some: without the skip path.

    Of a network that cannot be captured, direct weights of a layer that reads the other, at once or through activations
    (read as the identity, and named in ``replaced``) and batch norms (whose scale is taken in).

    Raises:
        GraphError, ArgumentError: where there are none.
        WeightValuesError: if they are not finite.
    """
    try:
        layer_graph(net)
    except GraphError as error:
        found = _from(net, source, direct_weights(net, target, units), error)
    else:
        found = expanded_weights(net, source, target, units, gate=gate, skip="exclude")
    found.require_finite()
    return found


def _from(net: Network, source: str, found: Weights, error: GraphError) -> Weights:
    """Direct weights from an earlier layer than they read, if nothing between mixes its units."""
    values, passed, name = found.values, [], found.source
    while name != source:
        if name not in net.layers or net.layers[name].kind not in ("activation", "norm") or not net.layers[name].source:
            words = f"{found.target!r} reads {found.source!r} directly, not {source!r} one unit from one"
            raise GraphError(f"{words}; and {error}") from error
        layer = net.layers[name]
        if layer.kind == "norm":
            values = values * _scale(net, layer, found)
        else:
            passed.append(Replaced(layer.type, layer.name, "identity"))
        name = layer.source
    pixels = net.input is not None and source == INPUT
    return dataclasses.replace(
        found, source=source, values=values, replaced=tuple(reversed(passed)), sees_pixels=pixels,
        channel_names=net.input.channel_names if net.input is not None and pixels else (),
    )  # fmt: skip


def _scale(net: Network, layer: Layer, weights: Weights) -> np.ndarray:
    """What a batch norm multiplies each source unit by, ``[O, I / groups, 1, 1]``."""
    module, _ = net.require_module("reading a norm")
    scale = norm_scale(module.get_submodule(layer.module_path))
    if scale is None:
        raise GraphError(f"{layer.name!r} ({layer.type}) scales its units by what it reads, so it cannot be taken in")
    groups = weights.units // (weights.target_units // weights.groups)
    return scale.numpy().reshape(weights.groups, -1)[groups][..., None, None]
