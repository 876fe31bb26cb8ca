"""Activations of many layers over many images, in bounded memory: sums that add up, and each unit's strongest images.

For a unit with activations a over images n and positions p::

    count = N · P      mean = Σ a / count      deviation² = Σ a² / count − mean²      rate = #(a > 0) / count
    peak(n) = max_p a          of these the k largest, with n and p
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import Network
from ..records import Layer
from . import grids
from .histograms import Histogram, histogram
from .taps import run_until, stop, tapped

BATCH = 8
NO_IMAGE = -1


@dataclass(frozen=True)
class Activity:
    """What the units of one layer did on some images.

    Args:
        layer: its name.
        count: activations of each unit: images times positions.
        total, squares: float64 ``[O]``: sums of activations and of their squares.
        positive: int64 ``[O]``: activations above 0.
        least, most: float64 ``[O]``: the smallest and largest activation.
        peaks: float32 ``[O, k]``: each unit's largest activation on an image, of the k images where that is largest,
            falling.
        images: int32 ``[O, k]``: numbers of these images; −1 where there are fewer, or no more with a finite largest.
        places: int32 ``[O, k, 2]``: positions (y, x) of the largest activations.
        histogram: how often they took which values, where that was asked for.

    Sums, means, ``least`` and ``most`` of a unit that comes to NaN somewhere are NaN; :attr:`histogram` counts these.
    """

    layer: str
    count: int
    total: np.ndarray
    squares: np.ndarray
    positive: np.ndarray
    least: np.ndarray
    most: np.ndarray
    peaks: np.ndarray
    images: np.ndarray
    places: np.ndarray
    histogram: Histogram | None = None

    def with_more(self, other: Activity) -> Activity:
        """Both together; of equally strong images the earlier one comes first."""
        k = self.peaks.shape[1]
        peaks = np.concatenate([self.peaks, other.peaks], 1)
        images = np.concatenate([self.images, other.images], 1)
        places = np.concatenate([self.places, other.places], 1)
        order = np.argsort(-np.where(images == NO_IMAGE, -np.inf, peaks), axis=1, kind="stable")[:, :k]
        return Activity(
            self.layer,
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.positive + other.positive,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
            np.take_along_axis(peaks, order, 1),
            np.take_along_axis(images, order, 1),
            np.take_along_axis(places, order[..., None], 1),
            self.histogram.with_more(other.histogram) if self.histogram and other.histogram else None,
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean activation, float64 ``[O]``."""
        return self.total / self.count

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of activations, float64 ``[O]``."""
        return np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0))

    @property
    def rate(self) -> np.ndarray:
        """Share of activations above 0, float64 ``[O]``."""
        return self.positive / self.count


def activity(
    net: Network,
    layers: Sequence[str],
    batches: Iterable[tuple[Tensor, Sequence[int]]],
    k: int = 9,
    *,
    histograms: bool = False,
) -> dict[str, Activity]:
    """What the units of some layers do on images.

    Args:
        net: an open network with its architecture.
        layers: names of layers with units.
        batches: pairs of inputs ``[N, *input shape]`` and the numbers of these images.
        k: images kept for each unit.
        histograms: whether to count how often which values were taken.

    Returns:
        Layer → what its units did.

    Raises:
        ArgumentError: for a layer without an axis of channels, or without any batch.
        UnknownNameError: for a layer that does not exist.
    """
    wanted = with_units(net, layers)
    found: dict[str, Activity] = {}
    for inputs, numbers in batches:
        seen = outputs(net, wanted, inputs)
        for name in [layer.name for layer in wanted]:
            maps = seen.pop(name)  # its memory is free for the next layer's sums
            one = _summed(name, maps.flatten(2), maps.shape[3], numbers, k, histograms)
            found[name] = found[name].with_more(one) if name in found else one
    if not found:
        raise ArgumentError("there are no images to run")
    return found


def with_units(net: Network, layers: Sequence[str]) -> list[Layer]:
    """Layers by name, each once; their units can be told apart.

    Raises:
        ArgumentError: for a layer without an axis of channels, or a checkpoint, which cannot be run.
        UnknownNameError: for a layer that does not exist.
    """
    net.require_module("running images")
    wanted = [net.layers[n] for n in dict.fromkeys(layers)]
    for layer in wanted:
        if layer.axes.count("C") != 1 or layer.axes[:1] != ("N",):
            raise ArgumentError(f"which axis of {layer.name!r} holds its units cannot be told: {layer.axes}")
    return wanted


def outputs(net: Network, layers: Sequence[Layer], inputs: Tensor) -> dict[str, Tensor]:
    """Outputs of layers as maps ``[N, O, H, W]``, as they were when they were made, whatever was written over them.

    The network runs until the last of them has been seen. Single precision, on the processor.

    Raises:
        ArgumentError: for a layer that does not run on these inputs, or that takes images apart.
    """
    by_name, seen = {layer.name: layer for layer in layers}, {}

    def keep(name: str, output: Tensor) -> None:
        if len(output) != len(inputs) or output.ndim != len(by_name[name].axes):
            raise ArgumentError(
                f"{name!r} gave {list(output.shape)} on {len(inputs)} images, but [1, …] with {by_name[name].axes} on "
                "one: images cannot be told apart in it; give batch=1"
            )
        seen[name] = as_maps(output.detach(), by_name[name].axes)
        if len(seen) == len(by_name):
            stop()

    takes = {name: lambda output, name=name: keep(name, output) for name in by_name}
    with tapped(net, takes) as module, torch.inference_mode():
        first = next((p for p in module.parameters() if p.is_floating_point()), inputs)
        run_until(module, inputs.to(first.device, first.dtype))
    missing = next((name for name in by_name if name not in seen), None)
    if missing is not None:
        raise ArgumentError(f"{missing!r} did not run on these images: what the network runs depends on its input")
    return seen


def as_maps(output: Tensor, axes: tuple[str, ...]) -> Tensor:
    """A layer's output as maps ``[N, O, H, W]`` of its own memory, single precision, on the processor.

    Axes that are not known to be y or x follow one another in W: tokens, or what else is there.
    """
    inner = [i for i, a in enumerate(axes) if i and a != "C"]
    known = all(axes[i] in ("y", "x") for i in inner) and len({axes[i] for i in inner}) == len(inner)
    ordered = axes if known else tuple("?" if a == "y" else a for a in axes)
    return grids.as_maps(output, ordered).to("cpu", torch.float32, copy=True).contiguous()


def _summed(layer: str, values: Tensor, width: int, numbers: Sequence[int], k: int, histograms: bool) -> Activity:
    """The sums of one batch ``[N, O, P]``; ``width`` turns a place among P into (y, x)."""
    n, c, p = values.shape
    peaks, where = values.max(2)  # [N, C]
    peaks = torch.where(peaks.isfinite(), peaks, -torch.inf)  # an image on which a unit comes to NaN is no peak of it
    order = torch.sort(peaks, dim=0, descending=True, stable=True)[1][:k]
    images = torch.full((k, c), NO_IMAGE, dtype=torch.int32)
    best, flat = torch.full((k, c), -torch.inf), torch.zeros((k, c), dtype=torch.int64)
    best[: len(order)], flat[: len(order)] = peaks.gather(0, order), where.gather(0, order)
    named = torch.tensor(list(numbers), dtype=torch.int32)[order]
    images[: len(order)] = torch.where(best[: len(order)].isfinite(), named, NO_IMAGE)
    places = torch.stack([flat // width, flat % width], 2).int()
    total, squares = _sums(values)
    return Activity(
        layer,
        n * p,
        total,
        squares,
        (values > 0).sum((0, 2)).numpy(),
        values.amin((0, 2)).double().numpy(),
        values.amax((0, 2)).double().numpy(),
        best.T.contiguous().numpy(),
        images.T.contiguous().numpy(),
        places.transpose(0, 1).contiguous().numpy(),
        histogram(values) if histograms else None,
    )


def _sums(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Sums over images and positions of values and of their squares, image by image in double precision."""
    total, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for one in values:
        wide = one.double()
        total += wide.sum(1).numpy()
        squares += torch.linalg.vecdot(wide, wide).numpy()
    return total, squares
