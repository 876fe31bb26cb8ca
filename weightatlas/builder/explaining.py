"""Why a unit fired on an image, step by step down to the pixels: attributions and the weights that lie between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..lens import activations, attributions
from ..lens.pictured import one_input
from ..network import Network
from ..records import Attributions, Explanation, Layer, Step, Weights, checked_count, placed
from ..weights import direct_weights, expanded_weights
from .choosing import CANNOT

#: Layers that act on each unit and position alone.
ELEMENTWISE = ("activation", "norm")
#: Layers that bring positions together without weights.
POOLING = ("pool", "other")
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
            walk ends at the pixels. The output of an activation or a norm behind a convolution is explained by the
            convolution's (``Step.instead``), whose sum is exact.
        gate: of expanded weights, as in :func:`weightatlas.expanded_weights`.
        follow: numbers of the source units with which further steps go on; default those that pushed up most.
        baseline, steps: of integrals, as in :func:`weightatlas.attributions`.

    Returns:
        An explanation of at least one step.

    Raises:
        ArgumentError, UnknownNameError: for layers, units or positions that do not exist or do not go together.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        >>> found = wa.explain(net, image, "blocks.1.0.conv_pwl:5", down=2)
        >>> [s.address for s in found], [s.attributions.method for s in found], found[1].instead
        (['blocks.1.0.conv_pwl:5', 'blocks.1.0.conv_dw:91'], ['exact', 'exact'], 'blocks.1.0.act2')
    """
    down, k = checked_count(down, "steps down"), checked_count(k, "sources")
    sources = [source] * down if source is None else [source] if isinstance(source, str) else list(source)
    chosen = [] if follow is None else list(follow)
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
        layer = net.layers[found.attributions.source]
        address, place = f"{maker(net, layer).name}:{found.follow}", found.place
        instead = layer.name if maker(net, layer) is not layer else ""
    return Explanation(tuple(made))


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
    onward = -1
    if not last and found.source in net.layers and (up or follow is not None):
        onward = up[0] if follow is None else net.layers[found.source].unit_indices([follow])[0]
    return Step(
        found, weights, why, alike(found, weights), tuple(up), tuple(down), onward,
        found.strongest_place(onward) if onward >= 0 else (0, 0), instead, centres(net.layers[found.target]),
    )  # fmt: skip


def strongest(net: Network, image: Any) -> str:
    """The address of the unit of the last layer that is strongest on an image: the class."""
    last = next((layer for layer in reversed(list(net.layers.values())) if layer.units), None)
    if last is None:
        raise ArgumentError(f"{net.name} has no layer with units; name a unit")
    unit = activations(net, image, [last.name]).top_units(last.name, 1)[0][0]
    return f"{last.name}:{unit}"


def maker(net: Network, layer: Layer) -> Layer:
    """The convolution or linear map behind norms and activations that gave a layer its units, or the layer itself."""
    found = layer
    while found.kind in ELEMENTWISE and found.source in net.layers:
        behind = net.layers[found.source]
        if (behind.units, behind.grid) != (layer.units, layer.grid):
            return layer
        found = behind
    return found if found.kernel is not None or found.kind == "linear" else layer


def with_positions(net: Network, target: str) -> tuple[str, bool]:
    """The layer with positions whose units a target reads pooled or flattened, and whether pooled; else ``""``."""
    layer = net.layers.get(target.rpartition(":")[0])
    if layer is None or layer.kernel is None or layer.source not in net.layers:
        return "", False
    read = behind = net.layers[layer.source]
    while behind.kind in POOLING and behind.source in net.layers:
        behind = net.layers[behind.source]
        if behind.grid not in (None, (1, 1)):
            pooled = behind.units == read.units
            flat = read.units in (0, behind.units * behind.grid[0] * behind.grid[1])
            return (behind.name, pooled) if pooled or flat else ("", False)
    return "", False


def between(net: Network, found: Attributions, gate: Any = "expected") -> tuple[Weights | None, str]:
    """The target unit's weights on the source layer, or why there are none."""
    try:
        if found.method == "exact":
            return own_weights(net, found), ""
        asked = {"gate": gate, "skip": "exclude"}
        weights = expanded_weights(net, found.source, found.target, [found.unit], **asked)
        if weights.at not in (None, found.at):
            weights = expanded_weights(net, found.source, found.target, [found.unit], at=found.at, **asked)
        weights.require_finite()
    except CANNOT as error:
        return None, str(error)
    return weights, ""


def own_weights(net: Network, found: Attributions) -> Weights:
    """The weights of the target's own convolution or linear map on what it reads."""
    layer = net.layers[found.target]
    own = direct_weights(net, layer.name, [found.unit], fold_norm=False)
    if own.source_units == len(found.values) and np.allclose(
        placed(own, found.at, found.values.shape[1:]), found.gradients, rtol=1e-3, atol=1e-6
    ):
        return own
    # on another grid than the layer's own (before a flatten), or with padding that repeats pixels: as they lie there
    top, left, bottom, right = found.window
    return Weights(
        values=found.gradients[None, :, top:bottom, left:right], source=found.source, target=found.target,
        units=np.array([found.unit]), source_units=len(found.values), target_units=layer.units,
        origin=(top - found.at[0], left - found.at[1]), at=found.at, sees_pixels=found.source == "input",
        channel_names=found.channel_names, provenance=found.provenance,
    )  # fmt: skip


def alike(found: Attributions, weights: Weights | None) -> float:
    """Cosine between weights and the gradient on an image, both less what runs along paths without parameters."""
    if weights is None:
        return float("nan")
    grid = found.values.shape[1:]
    here = placed(weights, found.at, grid).astype(np.float64)
    gradient = found.gradients.astype(np.float64)
    if (skip := weights.skip) is not None:
        gradient = gradient - placed(skip, found.at, grid)
        here = here - placed(skip, found.at, grid) if weights.skip_included else here
    lengths = float(np.linalg.norm(here) * np.linalg.norm(gradient))
    return float(np.clip((here * gradient).sum() / lengths, -1, 1)) if lengths > 0 else float("nan")


def centres(layer: Layer) -> tuple[float, ...]:
    """Where on the image a layer's positions are centred, as in :class:`~weightatlas.records.Step`."""
    field = layer.receptive_field
    if field is None:
        return ()
    middle = [o + (s - 1) / 2 for o, s in zip(field.offset, field.size, strict=True)]
    return (*middle, *field.stride)
