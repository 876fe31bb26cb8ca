"""The true mean gradient of a target on images: what expanded weights are held against.

At one position of one image the network is linear in a source layer to first order, and the walk that gives expanded
weights gives this Jacobian too, if each operator is read by its own derivatives there:

    J[o, i, q]  =  ∂ target[o, t] / ∂ source[i, t·stride + origin + q]          all units at once
    E[J]        =  mean over images and positions t
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..graph import shape_of
from ..network import INPUT, Network
from ..records import ExpectedGradient, checked_units
from .assembly import Assembled, Plan, Progress, assembled
from .ends import captured_ends, checked_device
from .example import Example
from .expanded import SKIPS, prepared, source_width, strides
from .gates import Gates
from .measuring import as_input
from .walk import Ends, Walk

#: Positions per image.
POSITIONS = 12


def expected_gradient(
    net: Network,
    source: str,
    target: str,
    images: Any,
    units: Iterable[int] | None = None,
    source_units: Iterable[int] | None = None,
    skip: Literal["include", "exclude"] = "include",
    *,
    samples: int | None = None,
    seed: int = 0,
    device: Any = None,
    progress: Progress | None = None,
) -> ExpectedGradient:
    """The mean Jacobian of a layer with respect to an earlier one over images and positions of the untouched network.

    Args:
        net: an open network with its architecture.
        source, target, units, source_units, skip: as in :func:`weightatlas.expanded_weights`. With
            ``skip="exclude"``, paths without parameters are left out of the gradient as well.
        images: as for :meth:`weightatlas.Network.preprocess`, or a tensor that has been through it.
        samples: how many pairs of image and position to average over, spread evenly over the images; default twelve
            positions per image, or all there are.
        seed: of the choice of positions.
        device: of the computation, default the network's own.
        progress: called after each sample with the number done and the number in all.

    Returns:
        Weights of the same shape, origin and stride as the expanded weights; what the network does beyond that window
        (through a group norm's statistics; where the map depends on the position, beyond the window of the central
        one) is left out. Elements that lie outside the source grid
        at a sampled position count as no observation there (``counts``). ``halves`` and ``split_half`` tell how far two
        halves of the images agree: no approximation can be told to agree better than that.

    Raises:
        UnknownNameError, ArgumentError, GraphError: as :func:`weightatlas.expanded_weights`.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
        >>> g = wa.expected_gradient(net, "blocks.4.0", "blocks.4.1", noise, units=[0, 1], samples=4)
        >>> g.values.shape, g.origin, g.samples
        ((2, 112, 5, 5), (-2.0, -2.0), 4)
    """
    if skip not in SKIPS:
        raise ArgumentError(f"skip={skip!r} is none of {', '.join(map(repr, SKIPS))}")
    graph, ends = captured_ends(net, source, target)
    layer = net.layers[target]
    chosen = layer.unit_indices(units)
    columns = None if source_units is None else checked_units(source_units, source_width(ends), f"layer {source!r}")
    tensor = as_input(net, images)
    tensor = tensor if device is None else tensor.to(checked_device(device))
    kind = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
    # the window of the expanded weights, far from borders
    gates = Gates(graph, "identity", "average", None, ends.between)
    walk, plan = prepared(graph, ends, gates, None, layer.grid, chosen, tensor.device, kind)
    grid = layer.grid or (1, 1)
    drawn = _drawn(len(tensor), grid, samples, seed)
    means = _Means(ends, plan, walk.at)
    done = 0
    for number, positions in enumerate(drawn):
        example = Example(graph, tensor[number : number + 1], ends.between) if positions else None
        for order, at in enumerate(positions):
            if example is None:
                continue
            there = Walk(graph, ends, example, at, tensor.device, kind, fallback=example.pulled)
            made = _at(there, plan, chosen, columns, skip == "include", means.start(at))
            means.add(made, at, half=(number if len(tensor) > 1 else order) % 2)
            done += 1
            if progress is not None:
                progress(done, sum(map(len, drawn)))
    return _recorded(net, source, target, chosen, columns, ends, plan, walk, means, len(tensor), skip == "include")


def _drawn(images: int, grid: tuple[int, int], samples: int | None, seed: int) -> list[list[tuple[int, int]]]:
    """Positions of each image, without repetition."""
    there = grid[0] * grid[1]
    if samples is not None and (not isinstance(samples, int) or not 1 <= samples <= images * there):
        raise ArgumentError(
            f"samples={samples!r} must be between 1 and {images * there}: {images} images of {there} positions each"
        )
    if not isinstance(seed, int) or seed < 0:
        raise ArgumentError(f"seed={seed!r} must be a whole number of at least 0")
    total = min(POSITIONS, there) * images if samples is None else samples
    generator = np.random.default_rng(seed)
    counts = [total // images + (number < total % images) for number in range(images)]
    return [
        [(int(p) // grid[1], int(p) % grid[1]) for p in generator.choice(there, count, replace=False)]
        for count in counts
    ]


class _Means:
    """Sums of Jacobians in the common window, of two halves of the samples."""

    def __init__(self, ends: Ends, plan: Plan, at: tuple[int, int] | None) -> None:
        self.plan = plan
        self.stride = strides(ends, plan)
        self.origin = [s.start - (at[i] * self.stride[i] if at else 0) for i, s in enumerate(plan.spans)]
        self.grid = [shape_of(ends.source)[a] if a >= 0 else 1 for a in ends.source_axes[1:]]
        self.sums: list[Tensor | None] = [None, None]
        self.skips: list[Tensor | None] = [None, None]
        self.counts = np.zeros((2, *plan.size), np.int64)
        self.taken = 0

    def start(self, at: tuple[int, int]) -> tuple[int, int]:
        """Where the window begins on the source grid, for a target position; between two steps, the lower one."""
        return (self._floor(0, at), self._floor(1, at))

    def _floor(self, axis: int, at: tuple[int, int]) -> int:
        place = self.origin[axis] + at[axis] * self.stride[axis]
        return int(place.numerator // place.denominator) if hasattr(place, "denominator") else int(place)

    def add(self, made: Assembled, at: tuple[int, int], half: int) -> None:
        """One sample more."""
        self.taken += 1
        values = made.values.double()
        before = self.sums[half]
        self.sums[half] = values if before is None else before + values
        if made.skip is not None:
            skip, earlier = made.skip.double(), self.skips[half]
            self.skips[half] = skip if earlier is None else earlier + skip
        inside = []
        for axis, start in enumerate(self.start(at)):
            places = start + np.arange(self.plan.size[axis])
            inside.append((places >= 0) & (places < self.grid[axis]))
        self.counts[half] += inside[0][:, None] & inside[1]

    def mean(self, parts: list[Tensor | None], which: slice) -> Tensor | None:
        """The mean over what was observed, 0 where nothing was."""
        sums = [p for p in parts[which] if p is not None]
        if not sums:
            return None
        count = torch.from_numpy(self.counts[which].sum(0)).to(sums[0].device).clamp(min=1)
        return torch.stack(sums).sum(0) / count


def _at(
    walk: Walk, plan: Plan, units: list[int], columns: list[int] | None, include: bool, start: tuple[int, int]
) -> Assembled:
    """The Jacobian at one position, dense, in the window of the expanded weights."""
    spans = tuple(s.at(start[i]) for i, s in enumerate(plan.spans))
    width = plan.channels
    there = Plan(
        (spans[0], spans[1]), plan.size, width, width, width if plan.skip_width else 0, plan.peak, plan.largest
    )
    return assembled(walk, there, units, columns, include, len(units), None)


def _recorded(
    net: Network,
    source: str,
    target: str,
    units: list[int],
    columns: list[int] | None,
    ends: Ends,
    plan: Plan,
    walk: Walk,
    means: _Means,
    images: int,
    included: bool,
) -> ExpectedGradient:
    values, skip = means.mean(means.sums, slice(0, 2)), means.mean(means.skips, slice(0, 2))
    if values is None:
        raise ArgumentError("no position was sampled")
    first, second = (means.mean(means.sums, slice(i, i + 1)) for i in (0, 1))
    halves = torch.full((len(units),), torch.nan)
    if first is not None and second is not None:
        a, b = first.flatten(1), second.flatten(1)
        norms = a.norm(dim=1) * b.norm(dim=1)
        halves = torch.where(norms > 0, (a * b).sum(1) / norms, torch.nan)
    names = net.input.channel_names if source == INPUT and net.input else ()
    note = f"mean gradient over {int(means.counts.sum(0).max())} samples of {images} images, nothing replaced"
    return ExpectedGradient(
        values=_array(values),
        source=source,
        target=target,
        units=np.array(units),
        source_units=values.shape[1],
        target_units=net.layers[target].units,
        origin=(float(means.origin[0]), float(means.origin[1])),
        stride=(float(means.stride[0]), float(means.stride[1])),
        sees_pixels=source == INPUT,
        channel_names=names if columns is None else tuple(names[c] for c in columns) if names else (),
        source_numbers=np.array(columns if columns is not None else [], np.int64),
        skip_values=_array(skip) if skip is not None else np.zeros((0, 0, 0, 0), np.float32),
        skip_first=np.zeros(len(units) if skip is not None else 0, np.int64),
        skip_included=included,
        provenance=net.provenance.noting(*walk.graph.notes, note),
        counts=means.counts.sum(0),
        samples=int(means.taken),
        images=images,
        halves=halves.cpu().float().numpy(),
    )


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().float().contiguous().numpy()
