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
from torch import Tensor, nn

from ..errors import ArgumentError
from ..network import Network, evaluating, tensors_in

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
    net: Network, layers: Sequence[str], batches: Iterable[tuple[Tensor, Sequence[int]]], k: int = 9
) -> dict[str, Activity]:
    """What the units of some layers do on images.

    Args:
        net: an open network with its architecture.
        layers: names of layers with units.
        batches: pairs of inputs ``[N, *input shape]`` and the numbers of these images.
        k: images kept for each unit.

    Returns:
        Layer → what its units did.

    Raises:
        ArgumentError: for a layer without an axis of channels, or without any batch.
        UnknownNameError: for a layer that does not exist.
    """
    wanted = [net.layers[n] for n in layers]
    vague = [layer.name for layer in wanted if layer.axes.count("C") != 1 or layer.axes[:1] != ("N",)]
    if vague:
        raise ArgumentError(f"which axis of {vague[0]!r} holds its units cannot be told: {net.layers[vague[0]].axes}")
    found: dict[str, Activity] = {}
    for inputs, numbers in batches:
        seen = _outputs(net, [layer.name for layer in wanted], inputs)
        for layer in wanted:
            values = _by_position(seen[layer.name], layer.axes)
            one = _summed(layer.name, values, layer.grid or (1, 1), numbers, k)
            found[layer.name] = found[layer.name].with_more(one) if layer.name in found else one
    if not found:
        raise ArgumentError("there are no images to run")
    return found


def _outputs(net: Network, layers: Sequence[str], inputs: Tensor) -> dict[str, Tensor]:
    """Outputs of layers as they were when they were made, whatever was written over them later."""
    module, _ = net.require_module("running images")
    seen: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    paths = {net.layers[n].module_path for n in layers}

    def hook(path: str):
        def keep(owner: nn.Module, args: object, output: object) -> None:
            calls[path] = calls.get(path, 0) + 1
            name = path + (f"#{calls[path]}" if calls[path] > 1 else "")
            if name in layers:
                seen[name] = tensors_in(output)[0].detach().clone()

        return keep

    handles = [module.get_submodule(path).register_forward_hook(hook(path)) for path in paths]
    first = next((p for p in module.parameters() if p.is_floating_point()), inputs)
    try:
        with evaluating(module), torch.inference_mode():
            module(inputs.to(first.device, first.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _by_position(output: Tensor, axes: tuple[str, ...]) -> Tensor:
    """``[N, C, P]``, whatever the order of axes, on the processor."""
    order = [0, axes.index("C"), *(i for i, a in enumerate(axes) if i and a != "C")]
    return output.permute(order).flatten(2).float().cpu() if output.ndim > 2 else output.float().cpu()[..., None]


def _summed(layer: str, values: Tensor, grid: tuple[int, int], numbers: Sequence[int], k: int) -> Activity:
    n, c, p = values.shape
    wide = values.double()
    peaks, where = values.max(2)  # [N, C]
    peaks = torch.where(peaks.isfinite(), peaks, -torch.inf)  # an image on which a unit comes to NaN is no peak of it
    order = torch.sort(peaks, dim=0, descending=True, stable=True)[1][:k]
    images = torch.full((k, c), NO_IMAGE, dtype=torch.int32)
    best, flat = torch.full((k, c), -torch.inf), torch.zeros((k, c), dtype=torch.int64)
    best[: len(order)], flat[: len(order)] = peaks.gather(0, order), where.gather(0, order)
    named = torch.tensor(list(numbers), dtype=torch.int32)[order]
    images[: len(order)] = torch.where(best[: len(order)].isfinite(), named, NO_IMAGE)
    width = grid[1] if grid[0] * grid[1] == p else p
    places = torch.stack([flat // width, flat % width], 2).int()
    return Activity(
        layer,
        n * p,
        wide.sum((0, 2)).numpy(),
        wide.square().sum((0, 2)).numpy(),
        (values > 0).sum((0, 2)).numpy(),
        wide.amin((0, 2)).numpy(),
        wide.amax((0, 2)).numpy(),
        best.T.contiguous().numpy(),
        images.T.contiguous().numpy(),
        places.transpose(0, 1).contiguous().numpy(),
    )
