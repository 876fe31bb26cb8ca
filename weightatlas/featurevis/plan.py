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
from .windows import Axes, Held

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

    A canvas is as large as the recipe says, else so large that ``reach`` positions see it in full. Where the network
    refuses that size, it is the network's own.
    """
    spec = prepared.spec
    fields = [net.layers[name].receptive_field for name in prepared.layers]
    known = [f for f in fields if f is not None]
    full = spec.grid
    wanted = _reached(known, recipe.reach) if recipe.side is None and len(known) == len(fields) and known else None
    if wanted is not None and any(w > LARGEST * n for w, n in zip(wanted, full, strict=True)):
        wanted = None
    size = wanted or full
    if recipe.side is not None:
        size = (min(recipe.side, full[0]), min(recipe.side, full[1]))
    held, inside = None, {}
    if len(known) == len(fields) and known and _fits(known, size):
        if prepared.interior:
            held = Held(_begin(known), full)
        else:
            size = _like(size, full, known) if recipe.side is None else size
            inside = {n: _inside(f, size) for n, f in zip(prepared.layers, known, strict=True)}
            if any(last <= first for pair in inside.values() for first, last in pair):
                inside = {}
    notes: tuple[str, ...] = ()
    if held is None and size != full:
        reason = _refused(prepared, size)
        if reason:
            notes = (
                f"pictures are {full[0]} × {full[1]} pixels, since the network refuses {size[0]} × {size[1]}: {reason}",
            )
            size, inside = full, {}
    jitter = min(recipe.jitter, min(size) // 4)
    wrapped = bool(held or inside) and wanted is not None and recipe.reach > 1 and not recipe.pad
    more = jitter - 2 * recipe.pad
    canvas = _period(known, recipe.reach) if wrapped else (size[0] + more, size[1] + more)
    if min(canvas) < 1:
        raise ArgumentError(f"a recipe's pad={recipe.pad} leaves no canvas of a view of {size[0]} × {size[1]} pixels")
    settled = replace(recipe, jitter=jitter)
    views = Views(size, jitter, recipe.rotate, recipe.scale, recipe.noise, recipe.pad, wrapped)
    return Plan(settled, _frame(net, recipe, canvas), views, held, inside, notes)


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
    return all(f.size[i] + f.stride[i] - 1 <= size[i] for f in fields for i in range(2))


def _begin(fields: Sequence[ReceptiveField]) -> Axes:
    """Where on the input's grid a view begins so that its first pixel is a receptive field's first."""
    first = fields[-1]
    at = [first.offset[i] + first.stride[i] * max(math.ceil(-first.offset[i] / first.stride[i]), 0) for i in range(2)]
    return int(at[0]), int(at[1])


def _like(size: Axes, full: Axes, fields: Sequence[ReceptiveField]) -> Axes:
    """The size, grown by padding and until it is the input's own modulo the stride, so that both pad alike."""
    out = []
    for i in range(2):
        stride = max(int(max(f.stride[i] for f in fields)), 1)
        n = size[i] + int(max(max(-f.offset[i], 0) for f in fields)) * 2
        out.append(n + (full[i] - n) % stride)
    return out[0], out[1]


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


def _refused(prepared: Prepared, size: Axes) -> str:
    """Why a network does not take images of a size; empty if it does."""
    example = torch.full((1, prepared.spec.channels, *size), 0.5, dtype=torch.float32, device=prepared.device)
    try:
        with torch.no_grad():
            prepared(example)
    except REFUSALS as error:
        return first_line(error)
    return ""
