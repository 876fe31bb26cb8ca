"""The weights that lie between a unit and its sources on an image, and how far these tell what happened there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import GraphError, unknown_name
from ..graph import capture
from ..network import Network
from ..records import Attributions, Weights, placed
from ..weights import direct_weights, expanded_weights
from ..weights.ends import captured_ends
from ..weights.gates import checked_gate, gated_names
from .choosing import CANNOT


def checked_gates(net: Network, gate: Any) -> Any:
    """A gate that can be meant somewhere in a network, as in :func:`weightatlas.expanded_weights`.

    Raises:
        ArgumentError: for what is none.
        UnknownNameError: for a mapping with the name of no non-linearity of the network.
    """
    gate = checked_gate(gate)
    if isinstance(gate, Mapping):
        try:
            graph = capture(net)
        except GraphError:  # then there are no expanded weights at all, and each step says so
            return gate
        known = gated_names(graph, tuple(graph.nodes))
        for name in gate:
            if name not in known:
                raise unknown_name("non-linearity", str(name), known)
    return gate


def between(net: Network, found: Attributions, gate: Any = "expected") -> tuple[Weights | None, str]:
    """The target unit's weights on the source layer, or why there are none.

    Raises:
        ArgumentError: for a gate with which there are none, where there are some with the default.
    """
    try:
        if found.method == "exact":
            return own_weights(net, found), ""
        return _expanded(net, found, gate), ""
    except CANNOT as error:
        if found.method != "exact" and not (isinstance(gate, str) and gate == "expected"):
            try:
                _expanded(net, found, "expected")
            except CANNOT:
                return None, str(error)
            raise
        return None, str(error)


def _expanded(net: Network, found: Attributions, gate: Any) -> Weights:
    """The target unit's expanded weights at its position; of gates by name, those on the way."""
    if isinstance(gate, Mapping):
        graph, ends = captured_ends(net, found.source, found.target)
        gate = {name: gate[name] for name in gated_names(graph, ends.between) if name in gate}
    asked = {"gate": gate, "skip": "exclude"}
    weights = expanded_weights(net, found.source, found.target, [found.unit], **asked)
    if weights.at not in (None, found.at):
        weights = expanded_weights(net, found.source, found.target, [found.unit], at=found.at, **asked)
    weights.require_finite()
    return weights


def own_weights(net: Network, found: Attributions) -> Weights:
    """The weights of the target's own convolution or linear map on what it reads."""
    layer = net.layers[found.target]
    own = direct_weights(net, layer.name, [found.unit], fold_norm=False)
    if own.source_units == len(found.values) and np.allclose(
        placed(own, found.at, found.values.shape[1:]), found.gradients, rtol=1e-3, atol=1e-6
    ):
        return own
    # on another grid than the layer's own (before a flatten), or with padding that repeats pixels: as they lie there
    top, left, bottom, right = found.window
    return Weights(
        values=found.gradients[None, :, top:bottom, left:right], source=found.source, target=found.target,
        units=np.array([found.unit]), source_units=len(found.values), target_units=layer.units,
        origin=(top - found.at[0], left - found.at[1]), at=found.at, sees_pixels=found.source == "input",
        channel_names=found.channel_names, provenance=found.provenance,
    )  # fmt: skip


def alike(found: Attributions, weights: Weights | None) -> float:
    """Cosine between weights and the gradient on an image, both less what runs along paths without parameters."""
    if weights is None:
        return float("nan")
    grid = found.values.shape[1:]
    here = placed(weights, found.at, grid).astype(np.float64)
    gradient = found.gradients.astype(np.float64)
    if (skip := weights.skip) is not None:
        gradient = gradient - placed(skip, found.at, grid)
        here = here - placed(skip, found.at, grid) if weights.skip_included else here
    lengths = float(np.linalg.norm(here) * np.linalg.norm(gradient))
    return float(np.clip((here * gradient).sum() / lengths, -1, 1)) if lengths > 0 else float("nan")
