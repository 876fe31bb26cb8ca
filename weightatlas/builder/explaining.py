"""Why a unit fired on an image, step by step down to the pixels: attributions and the weights that lie between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import ArgumentError
from ..lens import activations, attributions
from ..lens.pictured import one_input
from ..network import Network
from ..records import Attributions, Explanation, Layer, Step, checked_count
from .walking import maker, source_layer, with_positions
from .weighing import alike, between, checked_gates

SOURCES = 4  # shown of each sign


def explain(
    net: Network,
    image: Any,
    unit: str | None = None,
    *,
    at: tuple[int, int] | None = None,
    source: str | Sequence[str | None] | None = None,
    method: str = "auto",
    k: int = SOURCES,
    down: int = 1,
    gate: Any = "expected",
    follow: Sequence[int] | None = None,
    baseline: Any = None,
    steps: int | None = None,
) -> Explanation:
    """Why a unit fired at a position of an image, and why its strongest source did, down to the pixels.

    Args:
        net: an open network with its architecture.
        image: one image, as in :func:`weightatlas.attributions`.
        unit: the unit as ``"layer:unit"``; default the unit of the last layer that is strongest: the class.
        at: a position (y, x) on its grid; default where it is strongest on this image.
        source: the earlier layer whose units are shown, or several, one a step; by default what the target reads. Where
            that was pooled to a single position, or flattened, the layer before.
        method: of attribution, as in :func:`weightatlas.attributions`.
        k: source units of each sign that are kept.
        down: number of steps. Each further one explains a source of the one before, where that contributed most; the
            walk ends at the pixels, or where no layer made what a layer reads (``Step.ended``). The output of an
            activation or a norm behind a convolution is explained by the convolution's (``Step.instead``), whose sum
            is exact.
        gate: of expanded weights, as in :func:`weightatlas.expanded_weights`; a mapping may name any of the network's.
        follow: numbers of the source units with which further steps go on; default those that pushed up most.
        baseline, steps: of integrals, as in :func:`weightatlas.attributions`.

    Returns:
        An explanation of at least one step.

    Raises:
        ArgumentError, UnknownNameError: for layers, units, positions or gates that do not exist or do not go together.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        >>> found = wa.explain(net, image, "blocks.1.0.conv_pwl:5", down=2)
        >>> [s.address for s in found], [s.attributions.method for s in found], found[1].instead
        (['blocks.1.0.conv_pwl:5', 'blocks.1.0.conv_dw:91'], ['exact', 'exact'], 'blocks.1.0.act2')
    """
    down, k, gate = checked_count(down, "steps down", "down"), checked_count(k, "sources"), checked_gates(net, gate)
    sources = [source] * down if source is None else [source] if isinstance(source, str) else _listed(source, "source")
    chosen = [] if follow is None else _listed(follow, "follow")
    if len(sources) > down or len(chosen) > down - 1:
        what = f"{len(sources)} sources" if len(sources) > down else f"{len(chosen)} units to follow"
        raise ArgumentError(f"{what} came for {down} step{'s' if down > 1 else ''}; ask for more with down=")
    image = one_input(net, image)
    address, place, instead, made = strongest(net, image) if unit is None else unit, at, "", []
    for i in range(down):
        found = step(
            net, image, address, at=place, source=sources[i] if i < len(sources) else None, method=method, k=k,
            gate=gate, follow=chosen[i] if i < len(chosen) else None, instead=instead, baseline=baseline, steps=steps,
            last=i == down - 1,
        )  # fmt: skip
        made.append(found)
        if found.follow < 0:
            break
        address, place, instead = _onward(net, found)
    return Explanation(tuple(made))


def _listed(given: Any, name: str) -> list[Any]:
    """Several things, one a step.

    Raises:
        ArgumentError: for what is no list.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        what = "names of layers" if name == "source" else "numbers of units"
        raise ArgumentError(f"{name}={given!r} must be a list of {what}, one for each step")
    return list(given)


def _onward(net: Network, found: Step) -> tuple[str, tuple[int, int], str]:
    """The unit that is explained next, where, and what the walk had come to instead."""
    layer, function, _ = source_layer(net, found.attributions)
    if layer is None:
        raise ValueError("a step that is followed has a layer of sources")
    behind = maker(net, layer)
    return f"{behind.name}:{found.follow}", found.place, function or (layer.name if behind is not layer else "")


def step(
    net: Network,
    image: Any,
    target: str,
    *,
    at: tuple[int, int] | None = None,
    source: str | None = None,
    method: str = "auto",
    k: int = SOURCES,
    gate: Any = "expected",
    follow: int | None = None,
    instead: str = "",
    baseline: Any = None,
    steps: int | None = None,
    last: bool = False,
    progress: Callable[[], None] | None = None,
) -> Step:
    """One step of :func:`explain`: what pushed a unit up and down, through which weights, and where one can go on.

    Args:
        target: the unit as ``"layer:unit"``.
        follow: a source unit to go on with, instead of the one that pushed up most.
        instead: as in :class:`~weightatlas.records.Step`.
        last: the walk ends here: ``Step.follow`` is −1.
        progress: as in :func:`weightatlas.attributions`.

    Raises:
        ArgumentError, UnknownNameError: as :func:`explain`.
    """
    asked: dict[str, Any] = {"method": method, "baseline": baseline, "progress": progress}
    if source is None:
        behind, pooled = with_positions(net, target)
        source = behind or None
        if pooled and method == "auto" and baseline is None:
            asked["method"] = "gradient"  # adds up here: only sums, means and maxima lie between
    if steps is not None:
        asked["steps"] = steps
    found = attributions(net, image, target, source, at, **asked)
    weights, why = between(net, found, gate)
    up, down = found.pushed(k)
    onward, ended = (-1, "") if last else _followed(net, found, up, follow)
    return Step(
        found, weights, why, alike(found, weights), tuple(up), tuple(down), onward,
        found.strongest_place(onward) if onward >= 0 else (0, 0), instead, centres(net.layers[found.target]), ended,
    )  # fmt: skip


def _followed(net: Network, found: Attributions, up: list[int], follow: int | None) -> tuple[int, str]:
    """The source unit to go on with, or −1 and why there is none; at the pixels without a reason."""
    layer, _, ended = source_layer(net, found)
    if layer is None:
        return -1, ended
    if follow is not None:
        return layer.unit_indices([follow])[0], ""
    return (up[0], "") if up else (-1, f"no unit of {found.source} pushed it up; follow= chooses one to go on with")


def strongest(net: Network, image: Any) -> str:
    """The address of the unit of the last layer that is strongest on an image: the class."""
    last = next((layer for layer in reversed(list(net.layers.values())) if layer.units), None)
    if last is None:
        raise ArgumentError(f"{net.name} has no layer with units; name a unit")
    unit = activations(net, image, [last.name]).top_units(last.name, 1)[0][0]
    return f"{last.name}:{unit}"


def centres(layer: Layer) -> tuple[float, ...]:
    """Where on the image a layer's positions are centred, as in :class:`~weightatlas.records.Step`."""
    field = layer.receptive_field
    if field is None:
        return ()
    return (*(c - 0.5 for c in field.centre()), *field.stride)  # pixels are where their middles are
