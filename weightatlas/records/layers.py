"""What is known of a network's layers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, UnknownNameError, unknown_name
from .base import atomic_write


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the input that one position of a layer can see, in pixels, as ``(y, x)``.

    Position ``t`` of the layer's grid sees the pixels from ``t · stride + offset`` to
    ``t · stride + offset + size − 1``, before clipping to the image.
    Where positions differ (after upsampling, or in a margin of mirrored pixels), ``size`` covers them all.

    Args:
        size: extent.
        stride: pixels between neighbouring positions.
        offset: first pixel that position 0 sees; negative inside padding.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    offset: tuple[float, float]

    def centre(self, place: Sequence[int] = (0, 0)) -> tuple[float, float]:
        """The middle (y, x) of what a position sees, in pixels from the upper left corner of the first one."""
        y, x = (place[a] * self.stride[a] + self.offset[a] + self.size[a] / 2 for a in (0, 1))
        return y, x


@dataclass(frozen=True)
class Layer:
    """One addressable output of the network.

    Args:
        name: dotted module path; a module's second call is ``path#2``.
        kind: ``conv``, ``depthwise conv``, ``grouped conv``, ``transposed conv``, ``linear``, ``norm``,
            ``activation``, ``pool``, ``block`` (holds other modules) or ``other``.
        type: the module's class name.
        units: number of units ``O``; 0 if the output is not one tensor with a channel axis.
        grid: positions ``(H, W)``; ``(1, 1)`` without any, ``None`` if the axes could not be told.
        input_channels: ``I`` of a convolution or linear map, else ``None``.
        kernel, stride, dilation: of the module itself as ``(y, x)``; ``None`` without a kernel.
        groups: of a convolution, else ``None``; also ``None`` where a checkpoint does not tell.
        receptive_field: on the input; ``None`` if it is the whole input or unknown, then ``receptive_note`` says why.
        receptive_note: ``""``, ``"whole input"`` or what stood in the way.
        parameters: number of weights in the module and those inside it.
        axes: meaning of the output's axes, e.g. ``("N", "C", "y", "x")``; ``"?"`` where it could not be told.
        source: the layer it reads, ``"input"`` for the network's own input, ``""`` if no layer is read directly.
        norm: the batch norm that alone reads this layer, so that it can be folded in; else ``""``.
        origin: position of kernel element (0, 0) relative to the target's own, on the source grid; ``None`` without.
        inside: the layers that ran inside it, for a block.
    """

    name: str
    kind: str
    type: str
    units: int
    grid: tuple[int, int] | None
    input_channels: int | None = None
    kernel: tuple[int, int] | None = None
    stride: tuple[float, float] | None = None
    dilation: tuple[float, float] | None = None
    groups: int | None = None
    receptive_field: ReceptiveField | None = None
    receptive_note: str = ""
    parameters: int = 0
    axes: tuple[str, ...] = ()
    source: str = ""
    norm: str = ""
    origin: tuple[float, float] | None = None
    inside: tuple[str, ...] = ()

    @property
    def module_path(self) -> str:
        """The dotted path without the call index."""
        return self.name.split("#")[0]

    def unit_indices(self, units: Any) -> list[int]:
        """The unit numbers that are meant, checked.

        Args:
            units: ``None`` for all of them, or an iterable of integers.

        Raises:
            UnknownNameError: for a number outside ``0 … units − 1``.
        """
        return checked_units(units, self.units, f"layer {self.name!r}")


def checked_units(units: Any, count: int, where: str) -> list[int]:
    """Unit numbers as a list of ints, all of them for ``None``.

    Raises:
        ArgumentError: if it is not an iterable of integers, or empty.
        UnknownNameError: for a number outside ``0 … count − 1``.
    """
    if units is None:
        return list(range(count))
    try:
        given = list(units)
        if any(isinstance(u, bool) or str(getattr(u, "dtype", "")) == "bool" for u in given):
            raise TypeError("a mask is no list of numbers")
        chosen = [u.__index__() for u in given]
    except (TypeError, AttributeError) as error:
        raise ArgumentError(f"units of {where} must be integers like [0, 3, 17], not {units!r}") from error
    wrong = [u for u in chosen if not 0 <= u < count]
    if wrong:
        raise UnknownNameError(f"{where} has no unit {wrong[0]}; its {count} units are 0 … {count - 1}")
    if not chosen:
        raise ArgumentError(f"no unit of {where} was chosen; give some of 0 … {count - 1}, or None for all")
    return chosen


class LayerTable(Mapping[str, Layer]):
    """All layers of a network in the order in which their outputs appear; reads like a dict of name to Layer.

    Args:
        layers: in order, names unique.
        model: the network's name, for messages.
        notes: what had to be left out or assumed, one sentence each.

    Example:
        >>> table = LayerTable([Layer("conv1", "conv", "Conv2d", units=8, grid=(4, 4))], model="tiny")
        >>> table["conv1"].units
        8
        >>> table["conv2"]
        Traceback (most recent call last):
        weightatlas.errors.UnknownNameError: no layer 'conv2' in tiny; nearest: 'conv1'. Its layers: net.layers
    """

    def __init__(self, layers: list[Layer], model: str = "", notes: tuple[str, ...] = ()) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self.model = model
        self.notes = notes

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if name in self._layers:
            return self._layers[name]
        error = unknown_name("layer", str(name), self._layers, hint="Its layers: net.layers")
        where = f" in {self.model};" if self.model else ";"
        raise UnknownNameError(str(error).replace(";", where, 1))

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def get(self, name: str, default: Any = None) -> Any:
        """The layer of that name, or ``default``: a missing one is no ``KeyError`` here."""
        return self._layers.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        kinds: dict[str, int] = {}
        for layer in self._layers.values():
            kinds[layer.kind] = kinds.get(layer.kind, 0) + 1
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        return f"LayerTable({self.model or 'network'}: {len(self)} layers: {counts})"

    def to_json(self) -> str:
        """The whole table as JSON text: ``{"model", "notes", "layers": [...]}``, one object per layer."""
        rows = [dataclasses.asdict(layer) for layer in self._layers.values()]
        return json.dumps({"model": self.model, "notes": self.notes, "layers": rows}, indent=1)

    def save(self, path: str | Path) -> Path:
        """Writes :meth:`to_json` to a file, whole or not at all."""
        return atomic_write(path, self.to_json().encode())

    def _repr_html_(self) -> str:
        """How a notebook shows the table."""
        from . import base

        return base.display_hook(self) if base.display_hook else f"<pre>{self!r}</pre>"  # pyright: ignore[reportArgumentType]
