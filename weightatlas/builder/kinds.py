"""Figures of a layer, of two, or of all, computed and drawn: one function a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from .. import figures
from ..bands import banding
from ..errors import ArgumentError
from ..factor import factorize
from ..featurevis import Recipe, visualize
from ..figures import Figure, Palette
from ..network import Network
from ..records import By, Weights
from ..weights import direct_weights, expanded_paths, expanded_weights

#: Units of a layer that are pictured if nobody says which.
PICTURED = 20
RGB = 3


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
    """The weights of one layer, drawn as suits them; see :func:`weightatlas.figure`.

    Options that the drawing cannot use are refused, not ignored: a layer with its own colours or signed maps has no
    factors, an RGB grid no palette.
    """
    return _drawn(net, layer, units, fold_norm, palette, rank=rank, method=method, per_unit=per_unit, seed=seed)


def nmf_grid_figure(
    net: Network,
    layer: str,
    *,
    units: Iterable[int] | None = None,
    rank: int | None = None,
    method: Literal["posneg", "semi"] | None = None,
    per_unit: bool | None = None,
    seed: int | None = None,
    fold_norm: bool = True,
) -> Figure:
    """The RGB grid of a layer's factors, the kind that :func:`weights_figure` chooses for dense layers."""
    if not is_factorized(direct_weights(net, layer, [0])):
        raise ArgumentError(f"{layer!r} has nothing to factorize; figure kind 'weights' draws it as suits it")
    return _drawn(net, layer, units, fold_norm, None, rank=rank, method=method, per_unit=per_unit, seed=seed)


def _drawn(
    net: Network, layer: str, units: Iterable[int] | None, fold_norm: bool, palette: Palette | None, **factoring: Any
) -> Figure:
    """A layer's weights, drawn with the options of a factorization that were given."""
    units = net.layers[layer].unit_indices(units) if units is not None else None
    weights = direct_weights(net, layer, fold_norm=fold_norm)
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
    """Pictures of what the units of a layer detect; see :func:`weightatlas.figure`."""
    chosen = net.layers[layer].unit_indices(units)[: None if units is not None else PICTURED]
    return figures.contact_sheet(
        visualize(net, layer, units=chosen, recipe=recipe, batch=batch, seed=seed, device=device, progress=progress)
    )


def connections_figure(
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
    """The strongest sources of some units of a layer, any number of layers back; see :func:`weightatlas.figure`."""
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
    """What cancels between two layers on the way through a third; see :func:`weightatlas.figure`."""
    return figures.pathways(expanded_paths(net, source, through, target, units, gate=gate), k=k, palette=palette)


def banding_figure(net: Network, *, permutations: int = 2000, seed: int = 0, palette: Palette = "classic") -> Figure:
    """Weight banding by depth; see :func:`weightatlas.banding`."""
    return figures.banding_plot(banding(net, permutations=permutations, seed=seed), palette=palette)
