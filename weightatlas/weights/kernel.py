"""The kernel that a walk carries: what the target gets from every element of a node that the walk has reached.

    target[o, t] = Σ_c Σ_q K[o, c, q] · node[c, t·step + start + q]  +  …          (a window, relative to t)
    target[o, t] = Σ_c Σ_q K[o, c, q] · node[c, start + q]  +  …                   (pinned to one t: absolute)

Axes follow the node's own, so that permuting a node's axes permutes a kernel's. A kernel whose rows each read a few
neighbouring channels only (the identity at the start, depthwise and grouped steps) stays compact:

    K[o, j, q] belongs to channel first[o] + j
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


class NeedsPosition(Exception):  # noqa: N818 - a signal between rules and walk, never seen by users
    """The map depends on where the target stands; the walk starts again, pinned to one position."""


@dataclass(frozen=True)
class Span:
    """A window along an axis.

    Args:
        start: of its first element: relative to the target's position times ``step``, absolute in a pinned walk.
        step: steps of this axis per step of the target; ``None`` where there is no such ratio.
        along: the target's axis that it moves with, 0 for y, 1 for x; ``None`` for neither.
    """

    start: int
    step: Fraction | None = Fraction(1)
    along: int | None = None

    def at(self, start: int, factor: int | Fraction = 1) -> Span:
        """The window on a grid ``factor`` times as fine."""
        return Span(start, None if self.step is None else self.step * factor, self.along)


@dataclass(frozen=True)
class Kernel:
    """What the target's units get from one node.

    Args:
        values: ``[O, *axes]``: target unit, then the node's axes without the batch.
        axes: for each of them ``None`` if every entry is held (channels), else its window.
        first: int64 ``[O]`` on the CPU if axis ``compact`` holds only the channels from there on, else ``None``.
        compact: number of that axis.
        owned: whether nobody else holds ``values``, so that they may be added to.
    """

    values: Tensor
    axes: tuple[Span | None, ...]
    first: Tensor | None = None
    compact: int = 0
    owned: bool = False

    def like(self, values: Tensor, **changes: object) -> Kernel:
        """The same with other values, fresh ones unless ``owned`` says otherwise."""
        return dataclasses.replace(self, values=values, **{"owned": True, **changes})  # pyright: ignore[reportArgumentType]

    def shared(self) -> Kernel:
        """The same for several readers: none may write to it."""
        return dataclasses.replace(self, owned=False) if self.owned else self

    def full(self, channels: int) -> Kernel:
        """The same with every channel held, ``channels`` of them."""
        if self.first is None:
            return self
        values = self.values.movedim(self.compact + 1, 1)
        rows, width = values.shape[:2]
        full = values.new_zeros((rows, channels, *values.shape[2:]))
        place = (torch.arange(rows)[:, None] * channels + self.channel_numbers()).flatten().to(values.device)
        full.view(rows * channels, -1)[place] = values.reshape(rows * width, -1)
        return self.like(full.movedim(1, self.compact + 1), first=None)

    def channel_numbers(self) -> Tensor:
        """Channels that a compact kernel's rows hold, ``[O, width]``."""
        if self.first is None:
            return torch.arange(self.values.shape[self.compact + 1])[None].expand(self.values.shape[0], -1)
        return self.first[:, None] + torch.arange(self.values.shape[self.compact + 1])

    def scaled(self, factor: Tensor | float, pinned: bool = False) -> Kernel:
        """The kernel times a factor for each element of the node.

        Args:
            factor: a number, or ``[*axes]`` with sizes that broadcast to the node's; along a window it must be the
                same everywhere unless the walk is pinned.
            pinned: windows are absolute.

        Raises:
            NeedsPosition: if the factor differs along a window that is relative.
        """
        if not isinstance(factor, Tensor) or factor.numel() == 1:
            return self.like(self.values * (factor if not isinstance(factor, Tensor) else factor.flatten()[0]))
        factor = self.seen(factor, pinned)
        if self.first is None or factor.shape[self.compact] == 1:
            return self.like(self.values * factor)
        numbers = self.channel_numbers()
        rows = factor.movedim(self.compact, 0)[numbers.flatten().to(factor.device)]
        rows = rows.view(*numbers.shape, *rows.shape[1:]).movedim(1, self.compact + 1)
        return self.like(self.values * rows)

    def seen(self, values: Tensor, pinned: bool = True) -> Tensor:
        """The part of a node's values ``[*axes]`` (sizes that broadcast to the node's) that the windows hold.

        Raises:
            NeedsPosition: if values differ along a window that is relative.
        """
        values = values.reshape((1,) * (len(self.axes) - values.ndim) + tuple(values.shape))
        for i, axis in enumerate(self.axes):
            if axis is not None and values.shape[i] > 1:
                if not pinned:
                    raise NeedsPosition
                values = windowed(values, i, axis.start, self.values.shape[i + 1])
        return values

    def clipped(self, shape: Sequence[int]) -> Kernel | None:
        """A pinned kernel without what lies outside the node's grid; ``None`` if nothing is left."""
        values, axes = self.values, list(self.axes)
        for i, axis in enumerate(self.axes):
            if axis is None:
                continue
            begin, end = max(axis.start, 0), min(axis.start + values.shape[i + 1], shape[i])
            if begin >= end:
                return None
            if end - begin < values.shape[i + 1]:
                values = values.narrow(i + 1, begin - axis.start, end - begin)
                axes[i] = axis.at(begin)
        return dataclasses.replace(self, values=values, axes=tuple(axes), owned=False)

    def spread(self, shape: Sequence[int], which: Sequence[int]) -> Kernel:
        """A pinned kernel with every entry of some axes held instead of a window."""
        values, axes = self.values, list(self.axes)
        for i in which:
            axis = axes[i]
            if axis is not None:
                values, axes[i] = windowed(values, i + 1, -axis.start, shape[i]), None
        return self.like(values, axes=tuple(axes))

    def __add__(self, other: Kernel) -> Kernel:
        """Both on one window.

        Raises:
            NeedsPosition: if they move at different steps.
        """
        a, b = self, other
        same = a.first is not None and b.first is not None and torch.equal(a.first, b.first)
        if not (same and a.compact == b.compact and a.values.shape[a.compact + 1] == b.values.shape[a.compact + 1]):
            if a.first is not None:
                a, b = b, a  # the full one first: a compact one can be added into it
            if a.first is not None:
                raise ValueError("two compact kernels of different channels: make one full first")
        spans = tuple(_union(a, b, i) for i in range(len(a.axes)))
        axes = tuple(span for span, _ in spans)
        sizes = [a.values.shape[0], *(n for _, n in spans)]
        if a.owned and tuple(sizes) == tuple(a.values.shape):
            out = a.values
        elif tuple(sizes) == tuple(a.values.shape):
            out = a.values.clone()
        else:
            out = a.values.new_zeros(sizes)
            _window(out, a, axes).add_(a.values)
        total = a.like(out, axes=axes)
        if b.first is None or same:
            _window(out, b, axes).add_(b.values)
        else:
            _add_compact(out, b, axes)
        return total


def _union(a: Kernel, b: Kernel, i: int) -> tuple[Span | None, int]:
    one, two = a.axes[i], b.axes[i]
    n, m = a.values.shape[i + 1], b.values.shape[i + 1]
    if one is None and two is None:
        return None, n
    if one is None or two is None:
        raise NeedsPosition
    if (one.step != two.step and None not in (one.step, two.step)) or one.along != two.along:
        raise NeedsPosition
    start = min(one.start, two.start)
    return (one if one.step is not None else two).at(start), max(one.start + n, two.start + m) - start


def _window(out: Tensor, kernel: Kernel, axes: tuple[Span | None, ...]) -> Tensor:
    """The part of ``out`` (on ``axes``) in which the kernel lies."""
    for i, (axis, own) in enumerate(zip(axes, kernel.axes, strict=True)):
        if axis is not None and own is not None:
            out = out.narrow(i + 1, own.start - axis.start, kernel.values.shape[i + 1])
    return out


def _add_compact(out: Tensor, kernel: Kernel, axes: tuple[Span | None, ...]) -> None:
    """Adds a compact kernel into a full one."""
    part = _window(out, kernel, axes).movedim(kernel.compact + 1, 1)
    values = kernel.values.movedim(kernel.compact + 1, 1)
    numbers = kernel.channel_numbers().to(out.device)
    rows = torch.arange(len(values), device=out.device)[:, None].expand_as(numbers)
    part.index_put_((rows, numbers), values, accumulate=True)


def windowed(values: Tensor, axis: int, start: int, size: int) -> Tensor:
    """``values[start : start + size]`` along an axis, with zeros outside."""
    count = values.shape[axis]
    begin, end = min(max(start, 0), count), max(min(start + size, count), 0)
    if end - begin == size:
        return values.narrow(axis, begin, size)
    shape = list(values.shape)
    shape[axis] = size
    out = values.new_zeros(shape)
    if end > begin:
        out.narrow(axis, begin - start, end - begin).copy_(values.narrow(axis, begin, end - begin))
    return out


def to_spans(kernel: Kernel, axes: Sequence[int], pinned: bool) -> Kernel:
    """The kernel with windows along some axes, where it holds all entries of them.

    Raises:
        NeedsPosition: if windows are relative.
    """
    if all(kernel.axes[i] is not None for i in axes):
        return kernel
    if not pinned:
        raise NeedsPosition
    changed = tuple(Span(0, None) if i in axes and a is None else a for i, a in enumerate(kernel.axes))
    return dataclasses.replace(kernel, axes=changed)
