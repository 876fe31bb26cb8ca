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

from .compose import rows_of


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
        rows: int64: numbers of the rows that are held if others are zero, rising; ``None`` for all.
        owned: whether nobody else holds ``values``, so that they may be added to.
    """

    values: Tensor
    axes: tuple[Span | None, ...]
    first: Tensor | None = None
    compact: int = 0
    rows: Tensor | None = None
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
        if not isinstance(factor, Tensor) and factor == 1:
            return self
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

    def chosen(self, inside: Tensor) -> Kernel:
        """Some of the rows, by a mask over those that are held."""
        if bool(inside.all()):
            return self
        numbers = torch.nonzero(inside).flatten()
        rows = numbers if self.rows is None else self.rows[numbers]
        first = None if self.first is None else self.first[numbers]
        return self.like(rows_of(self.values, numbers), rows=rows, first=first, owned=False)


def total(kernels: Sequence[Kernel], shape: Sequence[int], count: int, pinned: bool = False) -> Kernel:
    """The sum of kernels on one node.

    Args:
        kernels: at least one.
        shape: sizes of the node's axes.
        count: rows in all.
        pinned: windows are absolute, so that they may move at different steps.

    Raises:
        NeedsPosition: if relative ones do.
    """
    if len(kernels) == 1:
        return kernels[0]
    if pinned:
        kernels = levelled(kernels)
    alike = all(_same_channels(kernels[0], k) for k in kernels[1:])
    if not alike and all(k.first is not None for k in kernels):
        kernels = [kernels[0].full(shape[kernels[0].compact]), *kernels[1:]]
    lead = max((k for k in kernels if alike or k.first is None), key=lambda k: k.values.numel())
    unions = [_union(kernels, i) for i in range(len(shape))]
    axes = tuple(span for span, _ in unions)
    rows = lead.rows if all(_same(k.rows, lead.rows) for k in kernels) else None
    size = (len(lead.values) if rows is lead.rows else count, *(n for _, n in unions))
    size = tuple(n if i == 0 or axes[i - 1] is not None else lead.values.shape[i] for i, n in enumerate(size))
    if size == tuple(lead.values.shape) and rows is lead.rows:
        out, done = (lead.values if lead.owned else lead.values.clone()), lead
    else:
        out, done = lead.values.new_zeros(size), None
    apart = done is None and _disjoint(kernels)
    for kernel in kernels:
        if kernel is not done:
            _add(out, kernel, axes, alike, rows is not None, apart)
    return lead.like(out, axes=axes, rows=rows, first=lead.first)


def levelled(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Pinned kernels with the same kind of axes: windows where any has one, without a step where theirs differ."""
    found = list(kernels)
    for i in range(len(found[0].axes)):
        spans = {k.axes[i] is not None and (k.axes[i].step, k.axes[i].along) for k in found}  # pyright: ignore[reportOptionalMemberAccess]
        if len(spans) == 1:
            continue
        for n, kernel in enumerate(found):
            span = kernel.axes[i]
            axes = (*kernel.axes[:i], Span(span.start if span else 0, None), *kernel.axes[i + 1 :])
            found[n] = dataclasses.replace(kernel, axes=axes)
    return found


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _same_channels(a: Kernel, b: Kernel) -> bool:
    """Whether two kernels hold the same channels of the same rows."""
    if a.first is None or b.first is None:
        return a.first is b.first
    widths = (k.values.shape[k.compact + 1] for k in (a, b))
    return a.compact == b.compact and len(set(widths)) == 1 and _same(a.first, b.first) and _same(a.rows, b.rows)


def _union(kernels: Sequence[Kernel], i: int) -> tuple[Span | None, int]:
    """The smallest window along an axis that holds those of all kernels."""
    own = [k.axes[i] for k in kernels]
    if all(span is None for span in own):
        return None, max(k.values.shape[i + 1] for k in kernels)
    spans = [span for span in own if span is not None]
    steps = {span.step for span in spans} - {None}
    if len(spans) < len(own) or len(steps) > 1 or len({span.along for span in spans}) > 1:
        raise NeedsPosition
    start = min(span.start for span in spans)
    end = max(span.start + k.values.shape[i + 1] for span, k in zip(spans, kernels, strict=True))
    return next((span for span in spans if span.step is not None), spans[0]).at(start), end - start


def _disjoint(kernels: Sequence[Kernel]) -> bool:
    """Whether no two kernels hold the same row."""
    held = [k.rows for k in kernels if k.rows is not None]
    return len(held) == len(kernels) and len(torch.cat(held).unique()) == sum(map(len, held))


def _add(
    out: Tensor, kernel: Kernel, axes: tuple[Span | None, ...], alike: bool, rows_agree: bool, apart: bool
) -> None:
    """Adds a kernel into ``out``, which lies on ``axes``; writes it there if its rows hold nothing yet (``apart``)."""
    for i, (axis, own) in enumerate(zip(axes, kernel.axes, strict=True)):
        if axis is not None and own is not None:
            out = out.narrow(i + 1, own.start - axis.start, kernel.values.shape[i + 1])
    rows = None if kernel.rows is None or rows_agree else kernel.rows
    if alike or kernel.first is None:
        if rows is None:
            out.add_(kernel.values)
        elif int(rows[-1]) - int(rows[0]) + 1 == len(rows):  # neighbours, as concatenation leaves them
            part = out.narrow(0, int(rows[0]), len(rows))
            _ = part.copy_(kernel.values) if apart else part.add_(kernel.values)
        else:
            out.index_add_(0, rows.to(out.device), kernel.values)
        return
    numbers = kernel.channel_numbers().to(out.device)
    rows = (torch.arange(len(kernel.values)) if rows is None else rows).to(out.device)
    values = kernel.values.movedim(kernel.compact + 1, 1)
    out.movedim(kernel.compact + 1, 1).index_put_((rows[:, None].expand_as(numbers), numbers), values, accumulate=True)


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
