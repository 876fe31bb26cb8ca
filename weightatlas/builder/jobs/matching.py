"""Whether a network is the one whose atlas lies in a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ...errors import ArgumentError, GraphError, StoreError
from ...graph import layer_graph
from ...network import Network
from ...store import Files, layout
from ...store.sealing import parsed
from .context import checked


def check_network(net: Network, files: Files, identity: dict[str, Any], made_with: list[dict[str, str]]) -> None:
    """The network must be the one whose atlas this is: its weights, input, layers, and the operators between them.

    Raises:
        StoreError: if it is another, with what differs.
    """
    first, own = identity["model"]["weights_hash"], net.weights_hash
    if first != own:
        raise StoreError(
            f"{files.where!r} is the atlas of {identity['model']['name']} with the weights {first[:12]} …, but "
            f"{net.name} has the weights {own[:12]} …. Build into another folder, or load the weights it was begun with"
        )
    checked(net, own)
    spec = json.loads(json.dumps(asdict(net.require_module("an atlas")[1])))
    if spec != identity["input"]:
        changed = [f"{k} {identity['input'].get(k)} → {v}" for k, v in spec.items() if identity["input"].get(k) != v]
        raise StoreError(f"{files.where!r} was made for another input: {'; '.join(changed)}. Build into another folder")
    data = files.read_if_there(layout.LAYERS)
    if data is not None:
        before, now = (
            {row["name"]: row for row in table["layers"]}
            for table in (parsed(data, layout.LAYERS), json.loads(net.layers.to_json()))
        )
        other = _differing(before, now) or _other_operators(net, files, made_with)
        if other:
            raise StoreError(
                f"{net.name} has the weights of {files.where!r}, but other layers or operators: first {other[0]!r} "
                "differs. Its code has changed since; build into another folder"
            )


def _other_operators(net: Network, files: Files, made_with: list[dict[str, str]]) -> list[str]:
    """Layers that are made from others than before, or by other operators; by the same version of torch alone."""
    data = files.read_if_there(layout.GRAPH)
    if data is None or any(m.get("torch") != version("torch") for m in made_with):
        return []
    before = _made(parsed(data, layout.GRAPH))
    if not before:  # it could not be captured
        return []
    try:
        return _differing(before, _made(json.loads(layer_graph(net).to_json())))
    except GraphError:
        return []


def _made(graph: dict[str, Any]) -> dict[str, Any]:
    """From which layers each layer of a stored graph is made, and by which operators."""
    found = {node["name"]: (node["operators"], []) for node in graph["nodes"]}
    for source, target in sorted(graph["edges"]):
        found[target][1].append(source)
    return found


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The names under which two tables hold something else."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def check_settings(identity: dict[str, Any], asked: dict[str, Any]) -> None:
    """What holds for the whole atlas cannot be asked for otherwise later.

    Raises:
        ArgumentError: if it is.
    """
    for name, before in (("seed", identity["seed"]), ("gate", identity["gates"]["rule"])):
        if asked[name] is not None and asked[name] != before:
            raise ArgumentError(
                f"this atlas was begun with {name}={before!r}, now {name}={asked[name]!r} came in; leave it out, or "
                "build into another folder"
            )
