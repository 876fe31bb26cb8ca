"""The figures of the article: what each shows, and of which units of another network it is made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError
from ..figures import has_own_colours
from ..weights import direct_weights, expanded_paths
from . import choosing
from .chosen import RANK, SIMPLE, Chosen
from .figuring import Kind
from .kinds import is_factorized

GRID_UNITS = 20  # of a layer, in RGB
FAR = 15  # squares of a map seen from far
ACROSS = 8  # sources of a family


@dataclass(frozen=True)
class Entry:
    """A figure of the article, and its analogue here.

    Args:
        number: of the article's figure.
        heading: what it shows, in a few words.
        idea: in a sentence.
        rule: how the units were chosen.
        kind, target, options: what :func:`weightatlas.figure` makes it from.
    """

    number: str
    heading: str
    idea: str
    rule: str = ""
    kind: Kind = "connection"
    target: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def at_a_glance(of: Chosen) -> Entry:
    """Figure 1."""
    layer = of.colourful
    units = range(min(GRID_UNITS, of.net.layers[layer].units))
    return Entry(
        "1",
        "The weights of a layer at a glance",
        "What a unit reads at each position, reduced to three factors that all units of the layer share: red, green "
        "and blue mean the same in every tile.",
        f"of the second half of the network, three factors can hold most of {layer}",
        "nmf_grid",
        layer,
        {"units": units, "seed": of.studio.seed},
    )


def bands(of: Chosen) -> Entry:
    """Figure 2, the layers."""
    return Entry(
        "2",
        "Weight banding, by depth",
        "In networks that end in global average pooling, the last kernels turn into horizontal bands; the row share is "
        "how much of their variance lies between rows.",
        "all layers with spatial kernels",
        "banding",
        None,
        {"seed": of.studio.seed, **of.palette},
    )


def banded_layer(of: Chosen) -> Entry:
    """Figure 2, the strongest."""
    row = of.banded
    rule = (
        "is the layer that stands out most as banded" if row.banded else "has the largest row share, though not banded"
    )
    for layer in dict.fromkeys([choosing.whole(of.net, row.layer), row.layer]):
        try:
            weights = direct_weights(of.net, layer, [0])
        except choosing.CANNOT:
            continue
        more: dict[str, Any] = {"per_unit": True, "seed": of.studio.seed}
        if not is_factorized(weights):
            more = {} if has_own_colours(weights) else of.palette
        units = range(min(GRID_UNITS, of.net.layers[layer].units))
        inside = f", drawn as a part of {layer}" if layer != row.layer else ""
        return Entry(
            "2",
            "The strongest bands",
            "Each unit on its own, so that what varies within it is seen.",
            f"{row.layer} {rule}{inside}",
            "weights",
            layer,
            {"units": units, **more},
        )
    raise ArgumentError(f"the weights of {row.layer!r} cannot be drawn")


def one_connection(of: Chosen) -> Entry:
    """Figure 3."""
    span = of.late
    target, source = choosing.strongest_pair(of.studio.weights(span.source, span.target))
    return Entry(
        "3",
        "One connection, with its context",
        "A weight between two hidden units means nothing by itself. With a picture of what each unit detects, it does.",
        f"{of.why(span)}; of all its connections from {span.source}, this holds the largest share of its target's "
        "squared weights",
        "connection",
        f"{span.target}:{target}",
        {"source": f"{span.source}:{source}"},
    )


def a_unit_and_its_sources(of: Chosen) -> Entry:
    """Figure 4."""
    span = of.early
    return Entry(
        "4",
        "A unit and its strongest sources",
        "Small multiples: the unit, and the units before it that weigh most, each glued to its map.",
        f"{of.why(span)}; the unit is the most typical of the family below",
        "small_multiples",
        f"{span.target}:{of.family[0]}",
        {"source": span.source},
    )


def two_families(of: Chosen) -> Entry:
    """Figure 5."""
    span = of.early
    weights = of.studio.weights(span.source, span.target)
    return Entry(
        "5",
        "A family of units and what it reads",
        "Sources along the top, targets down the side, one scale: units of a family read the same sources, turned or "
        "with the signs exchanged.",
        f"the {len(of.family)} units of {span.target} whose strengths over {span.source} are most alike, and the "
        "sources with most weight on them",
        "family_grid",
        span.target,
        {
            "source": span.source,
            "targets": of.family,
            "sources": choosing.sources_of(weights, of.family, ACROSS),
            "order": "similarity",
        },
    )


def a_position_at_a_time(of: Chosen) -> Entry:
    """Figure 6."""
    span = of.late
    return Entry(
        "6",
        "What a unit looks for, and where",
        "At each position the weights are a direction over the layer before, and a direction has a picture, too.",
        f"{of.why(span)}, and of its units this one",
        "spatial_positions",
        f"{span.target}:{of.structured}",
        {"source": span.source},
    )


def factors(of: Chosen) -> Entry:
    """Figure 7."""
    return Entry(
        "7",
        "A family in two factors",
        "Factors of all weights of a family at once: each is a direction with a picture, and has a map in every unit.",
        "the family of figure 5",
        "weight_factors",
        of.early.target,
        {"source": of.early.source, "units": of.family, "rank": RANK, "seed": of.studio.seed},
    )


def equation(of: Chosen) -> Entry:
    """Figure 8."""
    return Entry(
        "8",
        "What the factors are made of",
        "Each factor written as a sum of units of the layer before.",
        "the factors of figure 7",
        "factor_equation",
        of.early.target,
        {"source": of.early.source, "units": of.family, "rank": RANK, "seed": of.studio.seed},
    )


def direct_inputs(of: Chosen) -> Entry:
    """Figure 9."""
    span = of.late
    unit, near, far = of.simplified
    among = f" among units of which they can hold {SIMPLE:.0%} there" if far >= SIMPLE else ""
    change = "largest gain" if far > near else "smallest loss"
    return Entry(
        "9",
        "A unit's direct inputs",
        "The inputs of a unit from the layer before it are often many and mixed.",
        f"{of.why(span)}; {RANK} factors can hold {near:.1%} of this unit's weights here and {far:.1%} of those from "
        f"{of.further}, the {change} in {span.target}{among}",
        "small_multiples",
        f"{span.target}:{unit}",
        {"source": span.source, "k": 8},
    )


def one_layer_further_back(of: Chosen) -> Entry:
    """Figure 10."""
    return Entry(
        "10",
        "The same unit, one layer further back",
        "Expanded weights multiply the layers between, and a simpler structure may appear.",
        "the unit of figure 9",
        "expanded",
        f"{of.late.target}:{of.simplified[0]}",
        {"source": of.further, "k": 8, "seed": of.studio.seed},
    )


def what_cancels(of: Chosen) -> Entry:
    """Figures 11 and 12."""
    source, middle, target = of.further, of.late.source, of.late.target
    paths = expanded_paths(of.net, source, middle, target, gate=of.studio.gate)
    pair = choosing.most_cancelled(paths)
    return Entry(
        "11 and 12",
        "When expanded weights mislead",
        "Where influence of both signs meets on the way, the sum is near zero although each part is strong.",
        f"{of.why(of.late)}; of the {choosing.RANKED} pairs of {target} and {source} that lose most, the one that "
        "loses the largest share",
        "cancellation",
        f"{target}:{pair.unit}",
        {"source": f"{source}:{pair.source_unit}", "through": middle},
    )


def many_layers_back(of: Chosen) -> Entry:
    """Figure 13."""
    target = of.late.target
    far = choosing.far_back(of.net, target, of.structured, FAR)
    side = min(of.studio.weights(far, target, [of.structured]).dense().values.shape[2:])
    near = f"is the nearest layer on which its maps are at least {FAR} squares wide"
    last = f"is the farthest layer that can be reached, on which its maps are {side} squares wide"
    return Entry(
        "13",
        "Many layers back",
        "Across many layers the maps grow wide and smooth.",
        f"the unit of figure 6; {far} {near if side >= FAR else last}",
        "expanded",
        f"{target}:{of.structured}",
        {"source": far, "k": 8, "seed": of.studio.seed},
    )


def card(of: Chosen) -> Entry:
    """Everything about one unit; the article has no such figure."""
    return Entry(
        "",
        "One unit on a page",
        "Everything above about a single unit.",
        "the unit of figure 6",
        "neuron_card",
        f"{of.late.target}:{of.structured}",
        {"source": of.late.source, "seed": of.studio.seed},
    )


#: What each figure is called, in the order of the article, and what chooses its units.
STEPS: dict[str, Callable[[Chosen], Entry]] = {
    "Figure 1": at_a_glance,
    "Figure 2, by depth": bands,
    "Figure 2, the strongest": banded_layer,
    "Figure 3": one_connection,
    "Figure 4": a_unit_and_its_sources,
    "Figure 5": two_families,
    "Figure 6": a_position_at_a_time,
    "Figure 7": factors,
    "Figure 8": equation,
    "Figure 9": direct_inputs,
    "Figure 10": one_layer_further_back,
    "Figures 11 and 12": what_cancels,
    "Figure 13": many_layers_back,
    "A card": card,
}
