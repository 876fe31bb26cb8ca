"""Addresses of layers and units: ``blocks.4.1`` and ``blocks.4.1:17``."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ArgumentError
from ..records import checked_units
from .network import Network
from .observe import INPUT


def place(net: Network, address: Any, role: str) -> tuple[str, int | None]:
    """Layer and unit of an address; the unit is ``None`` if it names a layer. Names of layers may hold colons.

    Args:
        net: whose layers.
        address: ``"layer"``, ``"layer:unit"``, ``"input"`` or ``"input:channel"``.
        role: what the address was given as, for messages.

    Raises:
        ArgumentError: for what is no address.
        UnknownNameError: for a layer or unit that does not exist.
    """
    if not isinstance(address, str):
        raise ArgumentError(f"{role}={address!r} must be a layer or a unit such as 'blocks.4.1:17'")
    name, colon, last = address.rpartition(":")
    numbered = bool(colon and re.fullmatch("[0-9]{1,9}", last))
    if not numbered or (address in net.layers and name not in net.layers):
        return (address if address == INPUT else net.layers[address].name), None
    if name == INPUT:
        known = net.input.channels if net.input is not None else 0
        return name, checked_units([int(last)], known, "the network's input")[0]
    layer = net.layers[name]
    return layer.name, layer.unit_indices([int(last)])[0]


def unit_place(net: Network, address: Any, role: str) -> tuple[str, int]:
    """Layer and unit of an address.

    Raises:
        ArgumentError: if it names no unit.
        UnknownNameError: for a layer or unit that does not exist.
    """
    layer, unit = place(net, address, role)
    if unit is None:
        raise ArgumentError(f"{role}={address!r} names a layer; a unit such as {layer + ':0'!r} is needed")
    return layer, unit
