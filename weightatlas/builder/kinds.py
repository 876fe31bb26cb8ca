"""One figure a call: computed and drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .. import figures
from ..bands import banding
from ..errors import ArgumentError, unknown_name
from ..factor import factorize
from ..featurevis import Recipe, visualize
from ..figures import Figure, Palette
from ..network import Network
from ..records import By, Weights
from ..weights import direct_weights, expanded_paths, expanded_weights

Kind = Literal["weights", "features", "expanded", "paths", "banding"]
#: Units of a layer that are pictured if nobody says which.
PICTURED = 20
RGB = 3


def figure(net: Network, kind: Kind, layer: str | None = None, **options: Any) -> Figure:
    """A figure computed and drawn in one call.

    Args:
        net: an open network.
        kind: ``"weights"`` (of one layer), ``"features"`` (pictures of what its units detect), ``"expanded"`` (between
            two layers), ``"paths"`` (between two layers through a third) or ``"banding"`` (of all).
        layer: the layer whose weights are shown; of expanded weights and paths, the target.
        options: for ``"weights"``: ``units``, ``rank`` (3), ``method`` (``"posneg"``), ``per_unit`` (False), ``seed``
            (0), ``fold_norm`` (True), ``palette``; for ``"features"``: ``units``, ``recipe`` (``"display"``),
            ``batch``, ``seed`` (0), ``device``, ``progress``, as in :func:`weightatlas.visualize`; for ``"expanded"``:
            ``source``, ``units``, ``k`` (8), ``by`` (``"l2"``), ``gate``, ``skip``, ``at``, ``palette``; for
            ``"paths"``: ``source``, ``through``, ``units``, ``k`` (6), ``gate``, ``palette``; for ``"banding"``:
            ``permutations``, ``seed``, ``palette``.

    Returns:
        For ``"weights"``, what suits the layer. One that reads RGB pixels is shown in its own colours, a depthwise
        one as signed maps, any other as the RGB grid of its factors. For ``"features"`` a contact sheet. For
        ``"expanded"`` the strongest sources of each unit, for ``"paths"`` the pairs of units whose influence cancels
        most.

    Raises:
        ArgumentError, UnknownNameError: for a kind, layer or option that does not exist or does not go together.

    Example:
        >>> import weightatlas as wa
        >>> wa.figure(wa.load("efficientnet_lite0"), "weights", "conv_stem").title
        'Weights of conv_stem on pixels'
    """
    kinds: dict[str, Callable[..., Figure]] = {
        "weights": weights_figure,
        "features": features_figure,
        "expanded": expanded_figure,
        "paths": paths_figure,
        "banding": banding_figure,
    }
    if kind not in kinds:
        raise unknown_name("kind of figure", str(kind), kinds)
    if kind != "banding" and layer is None:
        raise ArgumentError(f'figure(net, "{kind}", layer) needs a layer; net.layers lists them')
    if kind == "banding" and layer is not None:
        raise ArgumentError(f"the banding figure is of all layers; it takes no layer ({layer!r} came in)")
    parameters = inspect.signature(kinds[kind]).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ArgumentError(f"figure kind {kind!r} has no option {name!r}; it has {', '.join(known)}")
    missing = [
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in options
    ]
    if missing:
        raise ArgumentError(f"figure kind {kind!r} needs {' and '.join(f'{name}=' for name in missing)}")
    return kinds[kind](net, layer, **options) if layer is not None else kinds[kind](net, **options)


def weights_figure(
    net: Network,
    layer: str,
    *,
    units: Iterable[int] | None = None,
    rank: int | None = None,
    method: Literal["posneg", "semi"] | None = None,
    per_unit: bool | None = None,
    seed: int | None = None,
    fold_norm: bool = True,
    palette: Palette | None = None,
) -> Figure:
    """The weights of one layer, drawn as suits them; see :func:`figure`.

    Options that the drawing cannot use are refused, not ignored: a layer with its own colours or signed maps has no
    factors, an RGB grid no palette.
    """
    units = net.layers[layer].unit_indices(units) if units is not None else None
    weights = direct_weights(net, layer, fold_norm=fold_norm)
    factoring = {"rank": rank, "method": method, "per_unit": per_unit, "seed": seed}
    return drawn_weights(weights, units, {k: v for k, v in factoring.items() if v is not None}, palette)


def drawn_weights(
    weights: Weights, units: Iterable[int] | None, asked: dict[str, Any], palette: Palette | None
) -> Figure:
    """Weights drawn as suits them; ``asked`` holds the options of a factorization that were given."""
    layer = weights.target
    if not is_factorized(weights):
        if asked:
            how = "shown in its own colours" if figures.has_own_colours(weights) else "shown as signed maps"
            raise ArgumentError(f"{layer!r} is {how} and not factorized; leave out {', '.join(asked)}")
        if figures.has_own_colours(weights):
            _refuse_palette(palette, layer)
            return figures.pixel_grid(weights, units)
        return figures.signed_maps(weights, units, palette=palette or "classic")
    _refuse_palette(palette, layer)
    _, _, h, w = weights.values.shape
    per_unit = bool(asked.get("per_unit"))
    asked = {"rank": _usual_rank(weights, per_unit), **asked}
    if h * w == 1 and per_unit:
        raise ArgumentError(f"{layer!r} has 1×1 kernels: one position per unit is nothing to factorize one by one")
    return figures.nmf_grid(factorize(weights, **asked), units)


def _refuse_palette(palette: Palette | None, layer: str) -> None:
    if palette is not None:
        raise ArgumentError(f"palette={palette!r} is for signed maps and banding; {layer!r} is drawn without one")


def _usual_rank(weights: Weights, per_unit: bool) -> int:
    o, i, h, w = weights.values.shape
    return min(RGB, i, h * w * (1 if per_unit else o))


def is_factorized(weights: Weights) -> bool:
    """Whether weights are drawn through their factors, not in their own colours or as signed maps."""
    return not figures.has_own_colours(weights) and weights.values.shape[1] > 1


def features_figure(
    net: Network,
    layer: str,
    *,
    units: Iterable[int] | None = None,
    recipe: str | Recipe = "display",
    batch: int | str = "auto",
    seed: int = 0,
    device: Any = None,
    progress: Callable[[float, int], None] | None = None,
) -> Figure:
    """Pictures of what the units of a layer detect; see :func:`figure`."""
    chosen = net.layers[layer].unit_indices(units)[: None if units is not None else PICTURED]
    return figures.contact_sheet(
        visualize(net, layer, units=chosen, recipe=recipe, batch=batch, seed=seed, device=device, progress=progress)
    )


def expanded_figure(
    net: Network,
    target: str,
    *,
    source: str,
    units: Iterable[int] | None = None,
    k: int = 8,
    by: By = "l2",
    gate: Any = "expected",
    skip: Literal["include", "exclude"] = "include",
    at: tuple[int, int] | None = None,
    palette: Palette = "classic",
) -> Figure:
    """The strongest sources of some units of a layer, any number of layers back; see :func:`figure`."""
    chosen = net.layers[target].unit_indices(units)[: None if units is not None else figures.UNITS_SHOWN]
    weights = expanded_weights(net, source, target, chosen, gate=gate, skip=skip, at=at)
    return figures.connections(weights, chosen, k, by, palette)


def paths_figure(
    net: Network,
    target: str,
    *,
    source: str,
    through: str,
    units: Iterable[int] | None = None,
    k: int = 6,
    gate: Any = "expected",
    palette: Palette = "classic",
) -> Figure:
    """What cancels between two layers on the way through a third; see :func:`figure`."""
    return figures.pathways(expanded_paths(net, source, through, target, units, gate=gate), k=k, palette=palette)


def banding_figure(net: Network, *, permutations: int = 2000, seed: int = 0, palette: Palette = "classic") -> Figure:
    """Weight banding by depth; see :func:`weightatlas.banding`."""
    return figures.banding_plot(banding(net, permutations=permutations, seed=seed), palette=palette)
