"""Which units of a network the article's figures are made of again, where the article itself shows another network.

One rule a figure. Each gives the figure's target, its options, and the sentence that its caption ends with.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..figures import has_own_colours
from ..models import ArticleFigure
from ..weights import direct_weights, expanded_paths
from . import choosing
from .chosen import RANK, SIMPLE, Chosen
from .kinds import is_factorized

GRID_UNITS = 20  # of a layer, in RGB
FAR = 15  # squares of a map seen from far
ACROSS = 8  # sources of a family
SHOWN = 8  # sources of a unit


def _ruled(target: str | None, options: dict[str, Any], rule: str) -> ArticleFigure:
    return ArticleFigure(target, options, f"Chosen by rule: {rule}.")


def at_a_glance(of: Chosen) -> ArticleFigure:
    """Figure 1."""
    layer = of.colourful
    units = range(min(GRID_UNITS, of.net.layers[layer].units))
    return _ruled(layer, {"units": units}, f"of the second half of the network, three factors can hold most of {layer}")


def bands(of: Chosen) -> ArticleFigure:
    """Figure 2, the layers."""
    return _ruled(None, {}, "all layers with spatial kernels")


def banded_layer(of: Chosen) -> ArticleFigure:
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
        more: dict[str, Any] = {"per_unit": True}
        if not is_factorized(weights):
            more = {} if has_own_colours(weights) else of.palette
        units = range(min(GRID_UNITS, of.net.layers[layer].units))
        inside = f", drawn as a part of {layer}" if layer != row.layer else ""
        return _ruled(layer, {"units": units, **more}, f"{row.layer} {rule}{inside}")
    raise ArgumentError(f"the weights of {row.layer!r} cannot be drawn")


def one_connection(of: Chosen) -> ArticleFigure:
    """Figure 3."""
    span = of.late
    target, source = choosing.strongest_pair(of.studio.weights(span.source, span.target))
    return _ruled(
        f"{span.target}:{target}",
        {"source": f"{span.source}:{source}"},
        f"{of.why(span)}; of all its connections from {span.source}, this holds the largest share of its target's "
        "squared weights",
    )


def a_unit_and_its_sources(of: Chosen) -> ArticleFigure:
    """Figure 4."""
    span = of.early
    return _ruled(
        f"{span.target}:{of.family[0]}",
        {"source": span.source},
        f"{of.why(span)}; the unit is the most typical of the family below",
    )


def two_families(of: Chosen) -> ArticleFigure:
    """Figure 5."""
    span = of.early
    across = choosing.sources_of(of.studio.weights(span.source, span.target), of.family, ACROSS)
    return _ruled(
        span.target,
        {"source": span.source, "targets": of.family, "sources": across, "order": "similarity"},
        f"the {len(of.family)} units of {span.target} whose strengths over {span.source} are most alike, and the "
        "sources with most weight on them",
    )


def a_position_at_a_time(of: Chosen) -> ArticleFigure:
    """Figure 6."""
    span = of.late
    unit = f"{span.target}:{of.structured}"
    return _ruled(unit, {"source": span.source}, f"{of.why(span)}, and of its units this one")


def factors(of: Chosen) -> ArticleFigure:
    """Figure 7."""
    return _family(of, "the family of figure 5")


def equation(of: Chosen) -> ArticleFigure:
    """Figure 8."""
    return _family(of, "the factors of figure 7")


def _family(of: Chosen, rule: str) -> ArticleFigure:
    return _ruled(of.early.target, {"source": of.early.source, "units": of.family, "rank": RANK}, rule)


def direct_inputs(of: Chosen) -> ArticleFigure:
    """Figure 9."""
    span = of.late
    unit, near, far = of.simplified
    among = f" among units of which they can hold {SIMPLE:.0%} there" if far >= SIMPLE else ""
    change = "largest gain" if far > near else "smallest loss"
    return _ruled(
        f"{span.target}:{unit}",
        {"source": span.source, "k": SHOWN},
        f"{of.why(span)}; {RANK} factors can hold {near:.1%} of this unit's weights here and {far:.1%} of those from "
        f"{of.further}, the {change} in {span.target}{among}",
    )


def one_layer_further_back(of: Chosen) -> ArticleFigure:
    """Figure 10."""
    unit = f"{of.late.target}:{of.simplified[0]}"
    return _ruled(unit, {"source": of.further, "k": SHOWN}, "the unit of figure 9")


def what_cancels(of: Chosen) -> ArticleFigure:
    """Figures 11 and 12."""
    source, middle, target = of.further, of.late.source, of.late.target
    paths = expanded_paths(of.net, source, middle, target, gate=of.studio.gate)
    pair = choosing.most_cancelled(paths)
    return _ruled(
        f"{target}:{pair.unit}",
        {"source": f"{source}:{pair.source_unit}", "through": middle},
        f"{of.why(of.late)}; of the {choosing.RANKED} pairs of {target} and {source} that lose most, the one that "
        "loses the largest share",
    )


def many_layers_back(of: Chosen) -> ArticleFigure:
    """Figure 13."""
    target = of.late.target
    far = choosing.far_back(of.net, target, of.structured, FAR)
    side = min(of.studio.weights(far, target, [of.structured]).dense().values.shape[2:])
    near = f"is the nearest layer on which its maps are at least {FAR} squares wide"
    last = f"is the farthest layer that can be reached, on which its maps are {side} squares wide"
    return _ruled(
        f"{target}:{of.structured}",
        {"source": far, "k": SHOWN},
        f"the unit of figure 6; {far} {near if side >= FAR else last}",
    )


def card(of: Chosen) -> ArticleFigure:
    """A unit for the card."""
    return _ruled(f"{of.late.target}:{of.structured}", {"source": of.late.source}, "the unit of figure 6")
