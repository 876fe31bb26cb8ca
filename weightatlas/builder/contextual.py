"""Figures of weights between pictures: one function a kind, from a studio and the figure's own arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from .. import figures
from ..errors import ArgumentError
from ..figures import Figure, Order, Strength
from ..network import Network
from ..records import Factors, checked_count
from ..weights import expanded_paths, reads
from .choosing import FAMILY, family, most_cancelled, sources_of, varies, whole
from .studio import Studio

Method = Literal["posneg", "semi"]
RANK = 2  # factors


def connection(studio: Studio, target: str, *, source: str) -> Figure:
    """One connection between two pictures; target and source are units such as ``blocks.4.1:17``."""
    (layer, to), (before, of) = studio.unit(target, "target"), studio.unit(source, "source")
    weights = studio.weights(before, layer, [to])
    figures.connection(weights, source=of, target=to)  # refuses before anything is rendered
    pictures = [*studio.pictures.units(before, [of]), *studio.pictures.units(layer, [to])]
    checked = studio.agreement(weights)
    return figures.connection(weights, pictures, source=of, target=to, agreement=checked, palette=studio.palette)


def small_multiples(
    studio: Studio,
    target: str,
    *,
    source: str | None = None,
    sources: Sequence[int] | None = None,
    k: int = 10,
    by: Strength = "l2",
) -> Figure:
    """A unit and its strongest sources; target is a unit, source a layer, by default the one that the target reads."""
    layer, to = studio.unit(target, "target")
    before = studio.before(source, layer)
    weights = studio.weights(before, layer, [to])
    sources = _numbers(sources, "sources") or None
    shown = figures.small_multiples(weights, target=to, sources=sources, k=k, by=by).data["sources"]
    pictures = [*studio.pictures.units(before, shown), *studio.pictures.units(layer, [to])]
    return figures.small_multiples(
        weights, pictures, target=to, sources=sources, k=k, by=by, agreement=studio.agreement(weights),
        palette=studio.palette,
    )  # fmt: skip


def family_grid(
    studio: Studio,
    target: str,
    *,
    source: str | None = None,
    targets: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    k: int = 8,
    order: Order = "similarity",
) -> Figure:
    """Two families of units as a grid; target and source are layers.

    Without ``targets``, the six units that read the most alike sources; without ``sources``, the k units with most
    weight on them.
    """
    layer = studio.layer(target, "target")
    before = studio.before(source, layer)
    weights = studio.weights(before, layer)
    down = _given(studio, layer, targets) or family(weights, FAMILY)
    across = _numbers(sources, "sources") or sources_of(weights, down, checked_count(k, "sources"))
    if not across:
        raise ArgumentError(f"these units of {layer!r} read nothing in {before!r}: their weights are 0")
    weights = weights.select(down)
    figures.family_grid(weights, targets=down, sources=across, order=order)  # refuses before anything is rendered
    pictures = [*studio.pictures.units(before, across), *studio.pictures.units(layer, down)]
    return figures.family_grid(
        weights, pictures, targets=down, sources=across, order=order, agreement=studio.agreement(weights),
        palette=studio.palette,
    )  # fmt: skip


def spatial_positions(studio: Studio, target: str, *, source: str | None = None) -> Figure:
    """What a unit looks for at every position; target is a unit, source a layer."""
    layer, to = studio.unit(target, "target")
    weights = studio.weights(studio.before(source, layer), layer, [to])
    if max(weights.values.shape[2:]) > 1 and not varies(weights):
        raise ArgumentError(
            f"{target!r} reads {weights.source!r} alike at all positions, so that one picture says all: "
            f"figure kind 'small_multiples' shows what it reads"
        )
    places, made = studio.at_positions(weights, to)
    return figures.spatial_positions(weights, made, studio.pictures.units(layer, [to]), target=to, places=places)


def weight_factors(
    studio: Studio,
    target: str,
    *,
    source: str | None = None,
    units: Sequence[int] | None = None,
    rank: int = RANK,
    method: Method = "posneg",
) -> Figure:
    """The factors of a family's weights, a row each; target and source are layers, units the family."""
    found = _factors(studio, target, source, units, rank, method)
    figures.weight_factors(found, units=found.units)  # refuses before anything is rendered
    directions = studio.pictures.directions(found.source, found.channels)
    pictures = studio.pictures.units(found.target, found.units)
    return figures.weight_factors(found, directions, pictures, units=found.units, palette=studio.palette)


def factor_equation(
    studio: Studio,
    target: str,
    *,
    source: str | None = None,
    units: Sequence[int] | None = None,
    rank: int = RANK,
    k: int = 5,
    method: Method = "posneg",
) -> Figure:
    """What the factors of a family are made of; target and source are layers, units the family."""
    found = _factors(studio, target, source, units, rank, method)
    terms = {int(n) for row in figures.factor_equation(found, k=k).data["sources"] for n in row}
    directions = studio.pictures.directions(found.source, found.channels)
    return figures.factor_equation(found, directions, studio.pictures.units(found.source, terms), k=k)


def expanded(
    studio: Studio, target: str, *, source: str, k: int = 9, rank: int = RANK, enough: float = figures.ENOUGH
) -> Figure:
    """A unit's strongest sources any number of layers back, by factor where factors explain enough."""
    layer, to = studio.unit(target, "target")
    before = studio.layer(source, "source")
    weights = studio.weights(before, layer, [to])
    found = studio.factors_of_one(weights, rank)
    plain = figures.expanded(weights, None, found, target=to, k=k, enough=enough).data
    pictures = [*studio.pictures.units(before, plain["sources"]), *studio.pictures.units(layer, [to])]
    directions = studio.pictures.directions(before, found.channels) if found is not None and plain["grouped"] else None
    return figures.expanded(
        weights, pictures, found, directions, target=to, k=k, enough=enough, agreement=studio.agreement(weights),
        palette=studio.palette,
    )  # fmt: skip


def cancellation(studio: Studio, target: str, *, source: str, through: str | None = None, k: int = 4) -> Figure:
    """The paths between two units through a middle layer; of two layers, between the pair in which most cancels."""
    (layer, to), (before, of) = studio.place(target, "target"), studio.place(source, "source")
    if (to is None) != (of is None):
        raise ArgumentError(f"target={target!r} and source={source!r} must both be units, or both be layers")
    middle = studio.layer(through, "through") if through is not None else reads(studio.net, layer)
    if through is None and middle == before:
        raise ArgumentError(f"{layer!r} reads {before!r} directly, with no layer between; give an earlier source=")
    paths = expanded_paths(studio.net, before, middle, layer, None if to is None else [to], gate=studio.gate)
    if to is None or of is None:
        pair = most_cancelled(paths)
        to, of = pair.unit, pair.source_unit
    between = figures.cancellation(paths, target=to, source=of, k=k).data["middle"]
    pictures = [*studio.pictures.units(before, [of]), *studio.pictures.units(layer, [to])]
    pictures += studio.pictures.units(middle, between)
    return figures.cancellation(paths, pictures, target=to, source=of, k=k, palette=studio.palette)


def neuron_card(
    studio: Studio,
    target: str,
    *,
    source: str | None = None,
    outputs: str | None = None,
    k: int = 6,
    rank: int = RANK,
) -> Figure:
    """Everything about one unit on a page; source and outputs are layers, by default those before and behind it."""
    layer, to = studio.unit(target, "target")
    before = studio.before(source, layer)
    later = studio.layer(outputs, "outputs") if outputs is not None else reader(studio.net, layer)
    inputs = studio.weights(before, layer, [to])
    behind = studio.weights(layer, later) if later is not None else None
    found = studio.factors_of_one(inputs, rank)
    plain = figures.neuron_card(inputs, None, behind, target=to, k=k).data
    pictures = [*studio.pictures.units(layer, [to]), *studio.pictures.units(before, plain["inputs"])]
    pictures += studio.pictures.units(later, plain["outputs"]) if later is not None else []
    directions = studio.pictures.directions(before, found.channels) if found is not None else None
    pictured = varies(inputs) and studio.pictures.possible and before in studio.net.layers
    places, positions = studio.at_positions(inputs, to) if pictured else (None, None)
    return figures.neuron_card(
        inputs, pictures, behind, found, directions, positions, studio.net.layers[layer], target=to, k=k,
        places=places, agreement=studio.agreement(inputs), palette=studio.palette,
    )  # fmt: skip


def reader(net: Network, layer: str) -> str | None:
    """The first later layer with a kernel that reads this one, or the block around its only spatial kernel."""
    order = list(net.layers)
    for name in order[order.index(layer) + 1 :]:
        if net.layers[name].kernel is None or name in net.layers[layer].inside or not _reads_from(net, name, layer):
            continue
        block = whole(net, name)
        return block if layer not in net.layers[block].inside and _reads_from(net, block, layer) else name
    return None


def _reads_from(net: Network, name: str, layer: str) -> bool:
    try:
        return reads(net, name) == layer
    except ArgumentError:
        return False


def _factors(
    studio: Studio, target: str, source: str | None, units: Sequence[int] | None, rank: int, method: Method
) -> Factors:
    """Factors of a family's weights."""
    layer = studio.layer(target, "target")
    before = studio.before(source, layer)
    weights = studio.weights(before, layer)
    return studio.factors(weights.select(_given(studio, layer, units) or family(weights, FAMILY)), rank, method)


def _numbers(values: Sequence[int] | None, name: str) -> list[int]:
    """Numbers that were asked for; none if nobody asked."""
    if values is None:
        return []
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{name}={values!r} are no numbers of units")
    if not (found := list(values)):
        raise ArgumentError(f"{name}={values!r} holds no unit")
    return found


def _given(studio: Studio, layer: str, units: Sequence[int] | None) -> list[int]:
    """Units that were asked for, checked; none if nobody asked."""
    if units is None:
        return []
    chosen = studio.net.layers[layer].unit_indices(units)
    if not chosen:
        raise ArgumentError(f"no unit of {layer!r} was given")
    return chosen
