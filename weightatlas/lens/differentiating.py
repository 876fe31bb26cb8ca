"""Gradients of one unit on many examples, each cut to what its position sees, a few at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..network import Network
from ..weights import Window
from .collection import Photos
from .grids import array, as_maps, axes_of
from .probing import Probe, in_place_told
from .streaming import BATCH
from .taps import run_until, stop, tapped


@dataclass(frozen=True)
class Example:
    """A position (y, x) of the target grid on an image.

    Args:
        image: the image's place among all.
        at: the position.
        value: the unit's value there.
    """

    image: int
    at: tuple[int, int]
    value: float


def reads_alike(net: Network, layer: str) -> bool:
    """Whether a layer is an activation whose pre-activation has the same units and positions."""
    if net.layers[layer].kind != "activation":
        return False
    shapes: list[tuple[int, ...]] = []
    module, spec = net.require_module("gradients")
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))

    def ends(out: Tensor) -> None:
        shapes.append(tuple(out.shape))
        stop()

    taken = {layer: lambda x: shapes.append(tuple(x.shape))}
    with torch.no_grad(), tapped(net, {layer: ends}, taken) as tapping:
        run_until(tapping, torch.zeros((1, *spec.shape), dtype=first.dtype, device=first.device))
    return len(shapes) == 2 and shapes[0] == shapes[1]


def unit_maps(
    net: Network, photos: Photos, layer: str, unit: int, *, before: bool = False, batch: int = BATCH
) -> Iterator[tuple[int, np.ndarray]]:
    """Number of each image and the unit's map on it, float32 ``[H, W]``, in order.

    Args:
        net: an open network with its architecture.
        photos: the images.
        layer, unit: the unit.
        before: the map of what the layer's module reads, its pre-activation.
        batch: images that are run at once.
    """
    axes = axes_of(net, layer)
    found: list[Tensor] = []

    def take(out: Tensor) -> None:
        found.append(as_maps(out.detach(), axes)[:, unit].float().cpu())
        stop()

    taps = ({}, {layer: take}) if before else ({layer: take}, {})
    for start in range(0, len(photos), batch):
        rows = range(start, min(start + batch, len(photos)))
        inputs = ready(net, photos.tensor(net, rows))
        with torch.no_grad(), tapped(net, *taps) as module:
            run_until(module, inputs)
        yield from zip(rows, (m.numpy().copy() for m in found.pop()), strict=True)


def ready(net: Network, inputs: Tensor) -> Tensor:
    """Inputs on the network's device and in its type."""
    module, _ = net.require_module("running images")
    first = next((p for p in module.parameters() if p.is_floating_point()), inputs)
    return inputs.to(first.device, first.dtype)


def gradients(
    net: Network,
    photos: Photos,
    examples: Sequence[Example],
    target: str,
    unit: int,
    source: str,
    window: Window,
    *,
    before: bool = False,
    batch: int = BATCH,
) -> Iterator[np.ndarray]:
    """Gradients of one unit by a source layer on examples, float32 ``[n, I, h, w]`` for a few of them at a time.

    Args:
        net: an open network with its architecture.
        photos: the images.
        examples: of them, in the order of the result.
        target, unit: what is differentiated, at each example's position.
        source: by whose output, or ``"input"``.
        window: what is kept around each position; 0 outside the source grid.
        before: differentiate what the target's module reads, its pre-activation.
        batch: examples that are run at once.

    Raises:
        ArgumentError: if the target has no gradient by the source, or torch refuses it.
    """
    probe = Probe(net, source, target, unit, before)
    probe.alone = "give batch=1"
    axes = axes_of(net, source)
    with torch.inference_mode(False), probe.shared():  # of a batch that is one image, what comes before is run once
        for some in _batches(examples, batch):
            inputs = ready(net, photos.tensor(net, [e.image for e in some])).clone()
            with in_place_told(source, target):
                _, _, found = probe.at(*(e.at for e in some)).gradient(inputs)
            maps = array(as_maps(found, axes))
            yield np.stack([_cut(m, window.start(e.at), window.size) for m, e in zip(maps, some, strict=True)])


def _batches(examples: Sequence[Example], batch: int) -> Iterator[Sequence[Example]]:
    """Runs of examples of one image, and what stands alone together, in order."""
    some: list[Example] = []
    for _, run in itertools.groupby(examples, key=lambda e: e.image):
        alike = list(run)
        if len(alike) > 1 and some:
            yield some
            some = []
        some += alike
        while len(some) >= batch or (len(alike) > 1 and some):
            yield some[:batch]
            some = some[batch:]
    if some:
        yield some


def _cut(maps: np.ndarray, start: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A window of ``[I, H, W]``, 0 outside it."""
    out = np.zeros((len(maps), *size), np.float32)
    inner, outer = [], []
    for begin, extent, length in zip(start, size, maps.shape[1:], strict=True):
        low, high = max(begin, 0), max(min(begin + extent, length), max(begin, 0))
        inner.append(slice(low, high))
        outer.append(slice(low - begin, high - begin))
    out[:, outer[0], outer[1]] = maps[:, inner[0], inner[1]]
    return out
