"""The figures of the article: what each shows, and of which layers and units it is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError, UnknownNameError
from ..models import FAMILIES, ArticleFigure, model_spec
from ..network import Network, place
from . import rules
from .chosen import Chosen
from .figuring import Kind


@dataclass(frozen=True)
class Step:
    """A figure of the article, whatever network it is made of.

    Args:
        number: of the article's figure; empty for what the article does not have.
        heading: what it shows, in a few words.
        idea: in a sentence.
        kind: what :func:`weightatlas.figure` calls it.
        rule: chooses layers and units of any network.
    """

    number: str
    heading: str
    idea: str
    kind: Kind
    rule: Callable[[Chosen], ArticleFigure]


@dataclass(frozen=True)
class Entry:
    """A figure of the article, and its analogue here.

    Args:
        step: which one.
        target, options: what :func:`weightatlas.figure` makes it from.
        why: how its layers and units were chosen, as a sentence.
    """

    step: Step
    target: str | None
    options: Mapping[str, Any]
    why: str


#: What each figure is called, in the order of the article.
STEPS: dict[str, Step] = {
    "Figure 1": Step(
        "1",
        "The weights of a layer at a glance",
        "What a unit reads at each position, reduced to three factors that all units of the layer share: red, green "
        "and blue mean the same in every tile.",
        "nmf_grid",
        rules.at_a_glance,
    ),
    "Figure 2, by depth": Step(
        "2",
        "Weight banding, by depth",
        "In networks that end in global average pooling, the last kernels turn into horizontal bands; the row share is "
        "how much of their variance lies between rows.",
        "banding",
        rules.bands,
    ),
    "Figure 2, the strongest": Step(
        "2",
        "The strongest bands",
        "Each unit on its own, so that what varies within it is seen.",
        "weights",
        rules.banded_layer,
    ),
    "Figure 3": Step(
        "3",
        "One connection, with its context",
        "A weight between two hidden units means nothing by itself. With a picture of what each unit detects, it does.",
        "connection",
        rules.one_connection,
    ),
    "Figure 4": Step(
        "4",
        "A unit and its strongest sources",
        "Small multiples: the unit, and the units before it that weigh most, each glued to its map.",
        "small_multiples",
        rules.a_unit_and_its_sources,
    ),
    "Figure 5": Step(
        "5",
        "A family of units and what it reads",
        "Sources along the top, targets down the side, one scale: units of a family read the same sources, turned or "
        "with the signs exchanged.",
        "family_grid",
        rules.two_families,
    ),
    "Figure 6": Step(
        "6",
        "What a unit looks for, and where",
        "At each position the weights are a direction over the layer before, and a direction has a picture, too.",
        "spatial_positions",
        rules.a_position_at_a_time,
    ),
    "Figure 7": Step(
        "7",
        "A family in two factors",
        "Factors of all weights of a family at once: each is a direction with a picture, and has a map in every unit.",
        "weight_factors",
        rules.factors,
    ),
    "Figure 8": Step(
        "8",
        "What the factors are made of",
        "Each factor written as a sum of units of the layer before.",
        "factor_equation",
        rules.equation,
    ),
    "Figure 9": Step(
        "9",
        "A unit's direct inputs",
        "The inputs of a unit from the layer before it are often many and mixed.",
        "small_multiples",
        rules.direct_inputs,
    ),
    "Figure 10": Step(
        "10",
        "The same unit, one layer further back",
        "Expanded weights multiply the layers between, and a simpler structure may appear.",
        "expanded",
        rules.one_layer_further_back,
    ),
    "Figures 11 and 12": Step(
        "11 and 12",
        "When expanded weights mislead",
        "Where influence of both signs meets on the way, the sum is near zero although each part is strong.",
        "cancellation",
        rules.what_cancels,
    ),
    "Figure 13": Step(
        "13",
        "Many layers back",
        "Across many layers the maps grow wide and smooth.",
        "expanded",
        rules.many_layers_back,
    ),
    "A card": Step("", "One unit on a page", "Everything above about a single unit.", "neuron_card", rules.card),
}
#: Kinds that factor or permute, so that a seed belongs to what makes them again; ``weights`` only unit by unit.
SEEDED = ("nmf_grid", "banding", "weight_factors", "factor_equation", "expanded", "neuron_card")


def own_figures(net: Network) -> Mapping[str, ArticleFigure]:
    """What the article's figures show of a network, by their names in :data:`STEPS`; nothing if they show another.

    A module of one's own that has such a network's name only, but other layers, is another network.
    """
    known = model_spec(net.name).article if net.name in FAMILIES else None
    return known if known is not None and all(_has(net, figure) for figure in known.values()) else {}


def entry_of(of: Chosen, name: str, own: Mapping[str, ArticleFigure]) -> Entry:
    """A figure with its layers and units: the article's own if they are given, else those that its rule chooses.

    Raises:
        ArgumentError, GraphError, UnknownNameError, WeightValuesError: if a rule finds none.
    """
    step = STEPS[name]
    found = own[name] if name in own else step.rule(of)
    options = dict(found.options)
    if step.kind in SEEDED or "per_unit" in options:
        options["seed"] = of.studio.seed
    if step.kind == "banding":
        options |= of.palette
    return Entry(step, found.target, options, found.why)


def _has(net: Network, figure: ArticleFigure) -> bool:
    """Whether a network has the layers and units of a figure."""
    named = (figure.target, *(figure.options.get(name) for name in ("source", "through")))
    try:
        for address in named:
            if address is not None:
                place(net, address, "target")
    except (ArgumentError, UnknownNameError):
        return False
    return True
