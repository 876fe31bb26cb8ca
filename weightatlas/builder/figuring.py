"""One figure a call: any kind, from a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ArgumentError, unknown_name
from ..figures import Figure
from ..network import Network
from . import contextual, kinds, lenses
from .studio import Studio

Kind = Literal[
    "connection",
    "small_multiples",
    "family_grid",
    "spatial_positions",
    "weight_factors",
    "factor_equation",
    "expanded",
    "cancellation",
    "neuron_card",
    "nmf_grid",
    "banding",
    "weights",
    "features",
    "connections",
    "paths",
    "explanation",
    "activation_grid",
    "dataset_examples",
    "gradient_cases",
]


@dataclass(frozen=True)
class Maker:
    """How a kind of figure is made.

    Args:
        draw: takes a network, or a studio, and the figure's own arguments.
        shared: choices of a :class:`~.studio.Studio` that it takes besides; ``None`` if it takes a network.
    """

    draw: Callable[..., Figure]
    shared: tuple[str, ...] | None = None

    @property
    def signature(self) -> inspect.Signature:
        """Everything it takes but the network: layer or target first, options by name."""
        own = list(inspect.signature(self.draw, eval_str=True).parameters.values())[1:]
        common = inspect.signature(Studio, eval_str=True).parameters
        more = [common[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in self.shared or ()]
        return inspect.Signature([*own, *more], return_annotation=Figure)

    def make(self, net: Network, what: tuple[str, ...], options: Mapping[str, Any]) -> Figure:
        """The figure of a network."""
        if self.shared is None:
            return self.draw(net, *what, **options)
        studio = Studio(net, **{k: v for k, v in options.items() if k in self.shared})
        return self.draw(studio, *what, **{k: v for k, v in options.items() if k not in self.shared})


RENDERED = ("recipe", "seed", "device", "progress")
MAPPED = ("gate", "skip", "images", "palette", *RENDERED)
MAKERS: dict[Kind, Maker] = {
    "connection": Maker(contextual.connection, MAPPED),
    "small_multiples": Maker(contextual.small_multiples, MAPPED),
    "family_grid": Maker(contextual.family_grid, MAPPED),
    "spatial_positions": Maker(contextual.spatial_positions, ("gate", "skip", *RENDERED)),
    "weight_factors": Maker(contextual.weight_factors, ("gate", "skip", "palette", *RENDERED)),
    "factor_equation": Maker(contextual.factor_equation, ("gate", "skip", *RENDERED)),
    "expanded": Maker(contextual.expanded, MAPPED),
    "cancellation": Maker(contextual.cancellation, ("gate", "palette", *RENDERED)),
    "neuron_card": Maker(contextual.neuron_card, MAPPED),
    "nmf_grid": Maker(kinds.nmf_grid_figure),
    "banding": Maker(kinds.banding_figure),
    "weights": Maker(kinds.weights_figure),
    "features": Maker(kinds.features_figure),
    "connections": Maker(kinds.connections_figure),
    "paths": Maker(kinds.paths_figure),
    "explanation": Maker(lenses.explanation, ("gate", "palette", *RENDERED)),
    "activation_grid": Maker(lenses.activation_grid, RENDERED),
    "dataset_examples": Maker(lenses.dataset_examples, RENDERED),
    "gradient_cases": Maker(lenses.gradient_cases, ("palette", *RENDERED)),
}
#: What options are that a kind cannot do without.
NEEDED = {"image": "an image", "images": "images, or folders of them"}


def figure_kinds() -> dict[str, inspect.Signature]:
    """The kinds of figure, and what each takes besides the network: a layer or target first, options by name.

    Example:
        >>> import weightatlas as wa
        >>> list(wa.figure_kinds())[:3], list(wa.figure_kinds()["connection"].parameters)[:3]
        (['connection', 'small_multiples', 'family_grid'], ['target', 'source', 'gate'])
    """
    return {kind: maker.signature for kind, maker in MAKERS.items()}


def figure(net: Network, kind: Kind, target: str | None = None, **options: Any) -> Figure:
    """A figure computed and drawn in one call: weights, factors and pictures of units as it needs them.

    Args:
        net: an open network.
        kind: what is drawn, of a layer or of a unit such as ``"blocks.4.1:17"``:

            - ``"connection"``: one connection between the pictures of two units.
            - ``"small_multiples"``: a unit and its strongest sources, each glued to its map.
            - ``"family_grid"``: two families of units as a grid of maps; of layers.
            - ``"spatial_positions"``: what a unit looks for at every position.
            - ``"weight_factors"``, ``"factor_equation"``: a family of units in few factors, and what these are made
              of; of layers.
            - ``"expanded"``: a unit's strongest sources any number of layers back, grouped by factors.
            - ``"cancellation"``: the paths between two units through a layer, and what their sum hides; of two layers,
              the pair in which most cancels.
            - ``"neuron_card"``: everything about one unit on a page.
            - ``"nmf_grid"``: the weights of a layer's units, factors as red, green and blue; ``"weights"``: the same
              where it suits the layer, first layers in their own colours, depthwise ones as signed maps.
            - ``"features"``: a contact sheet of what the units of a layer detect.
            - ``"connections"``: rows of maps, the strongest sources of several units of a layer; ``"paths"``: the
              pairs of units whose influence through a third layer cancels most.
            - ``"banding"``: weight banding by depth, of all layers.
            - ``"explanation"``: why a unit fired on an image, as :func:`weightatlas.explain` tells it, the class if no
              unit is named; ``"activation_grid"``: what a layer saw at every place of an image;
              ``"dataset_examples"``: the crops of many images that excite units most, and how often these fire;
              ``"gradient_cases"``: the different ways in which a unit comes to fire.
        target: the layer or unit that is shown; where there are two, the later one. Not for ``"banding"``.
        options: what :func:`figure_kinds` lists for the kind: ``source`` (the earlier layer or unit), ``k`` (how many),
            ``gate``, ``skip``, ``recipe``, ``seed``, ``palette``, ``images`` (on which to measure how far the weights
            agree with the network, or which are looked at: arrays, or paths of files and folders) and so on.

    Returns:
        A figure; ``.data`` holds the numbers it shows.

    Raises:
        ArgumentError, UnknownNameError: for a kind, layer, unit or option that does not exist or does not go together.
        GraphError, WeightValuesError: as :func:`weightatlas.expanded_weights`.

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.figure(net, "weights", "conv_stem").title
        'Weights of conv_stem on pixels'
        >>> wa.figure(net, "connection", "blocks.4.1:17", source="blocks.4.0:3", recipe="quick").title
        'blocks.4.0:3 on blocks.4.1:17'
    """
    if kind not in MAKERS:
        raise unknown_name("kind of figure", str(kind), MAKERS)
    maker = MAKERS[kind]
    parameters = maker.signature.parameters.values()
    first = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if first and target is None and first[0].default is first[0].empty:
        name = first[0].name
        raise ArgumentError(f'figure(net, "{kind}", {name}) needs a {name}; net.layers lists the layers')
    if not first and target is not None:
        raise ArgumentError(f"the {kind} figure is of all layers; it takes no layer ({target!r} came in)")
    known = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for name in options:
        if name not in known:
            raise ArgumentError(f"figure kind {kind!r} has no option {name!r}; it has {', '.join(known)}")
    missing = [f"{n}=" for n, p in known.items() if p.default is p.empty and n not in options]
    if missing:
        given = [repr(kind), *([repr(target)] if target else []), *(f"{name}'…'" for name in missing)]
        what = NEEDED.get(missing[0].rstrip("="), "an earlier layer or unit")
        raise ArgumentError(
            f"figure kind {kind!r} needs {' and '.join(missing)}, {what}: wa.figure(net, {', '.join(given)})"
        )
    return maker.make(net, (target,) if target is not None else (), options)
