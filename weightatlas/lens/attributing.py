"""``attributions``: why one unit fired at one position of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from ..errors import ArgumentError
from ..network import Network, unit_place
from ..records import Attributions
from .grids import is_input
from .mapping import checked_progress
from .pictured import one_input
from .questioning import Question

Method = Literal["auto", "exact", "gradient", "integrated_gradients", "conductance"]
STEPS = 64


def attributions(
    net: Network,
    image: Any,
    target: str,
    source: str | None = None,
    at: tuple[int, int] | None = None,
    method: Method = "auto",
    *,
    baseline: Any = None,
    steps: int = STEPS,
    progress: Callable[[], None] | None = None,
) -> Attributions:
    """What each unit of a source layer contributed to one unit at one position of one image, as ``[I, H, W]``.

    ``value = base + Σ contributions + residual``, and the residual is in the record. The network is left as it was.

    Args:
        net: an open network with its architecture.
        image: a path, an array ``[H, W, C]``, or a float tensor ``[C, H, W]`` as ``net.preprocess`` gives it.
        target: a unit, ``"layer:unit"``. An output class is a unit of the last layer.
        source: a layer before it, or ``"input"``; default what the target reads: for a convolution or linear layer its
            own input, for a block or activation the nearest layer before it with a kernel, or block.
        at: a position (y, x) of the target's grid; default where the unit is most active on this image.
        method: ``"exact"``: weight × activation, if the target is one convolution or linear layer and the source is
            what it reads, perhaps rearranged (flattened, say); the base is the bias. ``"gradient"``: gradient ×
            activation; the base is the value with the source at 0. ``"integrated_gradients"``: the mean gradient
            between the source's output on the baseline and that on the image, times their difference.
            ``"conductance"``: what flows through each source unit on the straight way from the baseline to the image.
            Both have the value on the baseline as their base. ``"auto"``: exact where it holds, else integrated
            gradients.
        baseline: an image to start from, in any form that ``image`` may have; default the mean colour.
        steps: of an integral; doubled up to 512 while the sum is more than 1 % off, which is noted.
        progress: called before every run of the network, of which integrals take many; what it raises ends them.

    Returns:
        Contributions, activations and gradients on the source's grid (y down, x right), with the target's map. What
        reaches the target on paths around the source (a residual stream) belongs to no source unit: it is in the base
        of ``gradient``, and in the residual of the integrals, where a note gives its size.

    Raises:
        UnknownNameError: for layers and units that do not exist.
        ArgumentError: for a source that does not come before the target, ``"exact"`` where it does not hold (with the
            source for which it does), positions outside the grid, or images that do not fit.
        LoadError: for a file that cannot be read.
        WeightValuesError: if the target comes to NaN or infinity on this image.

    Source: Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", 2017; Dhamdhere, Sundararajan & Yan,
    "How Important Is a Neuron?", 2018; Shrikumar et al., "Not Just a Black Box", 2016 (gradient × activation).

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        >>> a = wa.attributions(net, noise, "blocks.0.0.conv_pw:3", at=(56, 56))
        >>> a.source, a.method, a.values.shape, a.error < 1e-4
        ('blocks.0.0.act1', 'exact', (32, 112, 112), True)
    """
    layer, unit = unit_place(net, target, "target")
    if is_input(net, layer):
        raise ArgumentError(f"target={target!r} is the network's own input, to which nothing contributes")
    _check(method, steps, baseline)
    checked_progress(progress, "nothing, before every run of the network")
    inputs = one_input(net, image)
    start = None if baseline is None else one_input(net, baseline, "baseline")
    asked = Question(net, inputs, layer, unit, at, source)
    place = asked.answered_by_exact(insist=method == "exact") if method in ("auto", "exact") else None
    if place is not None:
        notes = ("the baseline is not used: contributions are exact",) if start is not None else ()
        return asked.exact(place, notes)
    return asked.through(method if method != "auto" else "integrated_gradients", start, steps, progress)


def _check(method: str, steps: Any, baseline: Any) -> None:
    if method not in get_args(Method):
        raise ArgumentError(f"method={method!r} is none of {', '.join(map(repr, get_args(Method)))}")
    if isinstance(steps, bool) or not hasattr(steps, "__index__") or steps < 1:
        raise ArgumentError(f"steps={steps!r} must be a whole number of at least 1")
    if baseline is not None and method in ("exact", "gradient"):
        raise ArgumentError(
            f"method={method!r} starts from no baseline; leave baseline= out, or take method='integrated_gradients'"
        )
