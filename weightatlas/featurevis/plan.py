"""How large canvases are, and which positions of a layer count, for given layers and a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import Network
from ..records import ReceptiveField
from .canvas import IMAGENET_COLOURS, Frame
from .prepared import REFUSALS, Prepared, first_line
from .recipes import Recipe
from .transforms import Views
from .windows import Axes, Held, NoInteriorError

#: Times the input's own size up to which a canvas may grow where only its interior counts.
LARGEST = 2.0


@dataclass(frozen=True)
class Plan:
    """Sizes of one rendering.

    Args:
        recipe: as it is used.
        frame: of the canvas.
        views: of it.
        held: the part of the input's grid that a view is, where padding is left out; else ``None``.
        inside: for padded networks, the positions of each layer that see no padding, as ``(first, last + 1)`` by axis.
        notes: what did not go as the recipe says.
    """

    recipe: Recipe
    frame: Frame
    views: Views
    held: Held | None
    inside: Mapping[str, tuple[Axes, Axes]]
    notes: tuple[str, ...] = ()

    def window(self, layer: str, output: Tensor) -> Tensor:
        """The positions of a layer's output that count."""
        if layer not in self.inside:
            return output
        (top, bottom), (left, right) = self.inside[layer]
        return output[..., top:bottom, left:right]


def make_plan(net: Network, prepared: Prepared, recipe: Recipe) -> Plan:
    """The plan for the layers that a network was prepared for.

    A canvas is as large as the recipe says, else so large that ``reach`` positions see it in full. Padding is left out
    where that works at this size; else the network pads, and positions that see no padding count, if there are any.
    Where the network refuses the size, it is rounded up to one that it takes, at worst its own.
    """
    full = prepared.spec.grid
    found = [net.layers[name].receptive_field for name in prepared.layers]
    fields = [f for f in found if f is not None] if None not in found else []
    size, wanted = _size(fields, recipe, full)
    held, inside = None, {}
    notes: tuple[str, ...] = ()
    if prepared.interior and _fits(fields, size):
        held = Held(_begin(fields), full)
        held = None if _refused(prepared, size, held) else held
    if held is None:
        size, notes = _accepted(prepared, size, fields, grow=recipe.side is None)
        inside = _windows(prepared.layers, fields, size)
    jitter = min(recipe.jitter, min(size) // 4)
    spans = [last - first for pair in inside.values() for first, last in pair]
    wrapped = wanted and bool(held or inside) and recipe.reach > 1 and not recipe.pad
    wrapped = wrapped and all(n >= recipe.reach for n in spans)
    more = jitter - 2 * recipe.pad
    canvas = _period(fields, recipe.reach) if wrapped else (size[0] + more, size[1] + more)
    if min(canvas) < 1:
        raise ArgumentError(f"a recipe's pad={recipe.pad} leaves no canvas of a view of {size[0]} × {size[1]} pixels")
    settled = replace(recipe, jitter=jitter)
    views = Views(size, jitter, recipe.rotate, recipe.scale, recipe.noise, recipe.pad, wrapped)
    return Plan(settled, _frame(net, recipe, canvas), views, held, inside, notes)


def _size(fields: Sequence[ReceptiveField], recipe: Recipe, full: Axes) -> tuple[Axes, bool]:
    """The size that a recipe asks for, and whether the receptive fields decided it."""
    if recipe.side is not None:
        return (min(recipe.side, full[0]), min(recipe.side, full[1])), False
    if fields:
        along = _reached(fields, recipe.reach)
        if all(w <= LARGEST * n for w, n in zip(along, full, strict=True)):
            return along, True
    return full, False


def _accepted(
    prepared: Prepared, size: Axes, fields: Sequence[ReceptiveField], grow: bool
) -> tuple[Axes, tuple[str, ...]]:
    """The next larger size that a padded network takes and pads as it pads its own input, with a note if it is that.

    Args:
        prepared: the network.
        size: that is wanted.
        fields: receptive fields; none where they are not known.
        grow: whether positions should be as many inside the padding as without it.
    """
    full = prepared.spec.grid
    if size == full:
        return size, ()
    fits, stride, more = _fits(fields, size), (1, 1), (0, 0)
    if fits:
        first, second = (max(int(max(f.stride[i] for f in fields)), 1) for i in range(2))
        stride = first, second
        if grow:
            first, second = (2 * int(max(max(-f.offset[i], 0) for f in fields)) for i in range(2))
            more = first, second
    reason = ""
    for rounding in (1, 2, 4, 8, 16, 32):
        tall, wide = (_like(size[i] + more[i], full[i], rounding * (stride[i] if fits else 1)) for i in range(2))
        if (tall, wide) == full and reason:
            break
        refusal = _refused(prepared, (tall, wide))
        if not refusal:
            return (tall, wide), ()
        reason = reason or refusal
    return full, (
        f"pictures are {full[0]} × {full[1]} pixels, since the network refuses {size[0]} × {size[1]}: {reason}",
    )


def _like(n: int, full: int, step: int) -> int:
    """The least size from n on that is the full one modulo a step, so that both are divided and padded alike."""
    return n + (full - n) % step


def _windows(layers: Sequence[str], fields: Sequence[ReceptiveField], size: Axes) -> Mapping[str, tuple[Axes, Axes]]:
    """The positions of every layer that see no padding; empty if a layer has none."""
    if not fields:
        return {}
    inside = {n: _inside(f, size) for n, f in zip(layers, fields, strict=True)}
    return {} if any(last <= first for pair in inside.values() for first, last in pair) else inside


def _frame(net: Network, recipe: Recipe, size: Axes) -> Frame:
    spec = net.require_module("feature visualization")[1]
    coloured = spec.channels == 3 and spec.channel_names == ("red", "green", "blue")
    return Frame(
        recipe.canvas, spec.channels, size, recipe.contrast, recipe.exponent, recipe.chroma,
        IMAGENET_COLOURS if coloured else None, recipe.deviation, recipe.alpha,
    )  # fmt: skip


def _reached(fields: Sequence[ReceptiveField], reach: int) -> Axes:
    """Pixels that so many positions of every layer see together."""
    along = [[math.ceil(f.size[i] + (reach - 1) * f.stride[i]) for f in fields] for i in range(2)]
    return max(along[0]), max(along[1])


def _fits(fields: Sequence[ReceptiveField], size: Axes) -> bool:
    """Whether a position of every layer sees nothing but the canvas."""
    return bool(fields) and all(f.size[i] + f.stride[i] - 1 <= size[i] for f in fields for i in range(2))


def _begin(fields: Sequence[ReceptiveField]) -> Axes:
    """Where on the input's grid a view begins so that its first pixel is a receptive field's first."""
    first = fields[-1]
    at = [first.offset[i] + first.stride[i] * max(math.ceil(-first.offset[i] / first.stride[i]), 0) for i in range(2)]
    return int(at[0]), int(at[1])


def _inside(field: ReceptiveField, size: Axes) -> tuple[Axes, Axes]:
    """The positions whose receptive fields lie on the canvas."""
    spans = []
    for i in range(2):
        first = math.ceil(-field.offset[i] / field.stride[i])
        last = math.floor((size[i] - field.size[i] - field.offset[i]) / field.stride[i])
        spans.append((max(first, 0), last + 1))
    return spans[0], spans[1]


def _period(fields: Sequence[ReceptiveField], reach: int) -> Axes:
    """The canvas without edges on which so many positions of the last layer look around once."""
    stride = [max(f.stride[i] for f in fields) for i in range(2)]
    return math.ceil(reach * stride[0]), math.ceil(reach * stride[1])


def _refused(prepared: Prepared, size: Axes, held: Held | None = None) -> str:
    """Why a network does not take images of a size; empty if it does."""
    example = torch.full((1, prepared.spec.channels, *size), 0.5, dtype=torch.float32, device=prepared.device)
    try:
        with torch.no_grad():
            prepared(example, held=held)
    except (*REFUSALS, NoInteriorError) as error:
        return first_line(error)
    return ""
