"""From a watched forward pass, or from a checkpoint's tensors, to the table of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..records import Layer, LayerTable, ReceptiveField
from .observe import INPUT, Call, Observation
from .receptive import GRID, WHOLE, Span, Trace

Pair = tuple[float, float]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_POOLS = ("Pool",)
#: What torch files under activations and yet mixes positions or learns a map of its own.
_MIXING = {"MultiheadAttention"}
_ACTIVATIONS = set(nn.modules.activation.__all__) - _MIXING


def module_table(seen: Observation, model: str, notes: tuple[str, ...]) -> LayerTable:
    """The table of a module's layers, in order of completion; the network as a whole is not a layer of itself."""
    by_read: dict[int, list[Call]] = {}
    for call in seen.calls:
        by_read.setdefault(call.reads, []).append(call)
    alone = len(seen.calls) == 1
    layers = [_layer(call, seen, by_read) for call in seen.calls if call.name or alone]
    if seen.never_called:
        shown = ", ".join(repr(n) for n in seen.never_called[:5])
        notes += (f"{len(seen.never_called)} modules with weights never ran and are no layers: {shown}",)
    return LayerTable(layers, model, notes)


def _layer(call: Call, seen: Observation, by_read: Mapping[int, list[Call]]) -> Layer:
    trace = call.trace
    units, grid, axes = output_axes(trace, call.output)
    field, note = receptive_field(trace)
    if grid is None and field is not None:
        field, note = None, "unknown: the output has no grid of positions"
    units = units or _own_units(call.module)
    return Layer(
        name=call.name,
        kind=kind_of(call.module),
        type=type(call.module).__name__,
        units=units,
        grid=grid,
        receptive_field=field,
        receptive_note=note,
        parameters=sum(p.numel() for p in call.module.parameters()),
        axes=axes,
        source=call.source,
        norm=_sole_norm(trace, axes, units, seen, by_read),
        inside=tuple(call.inside),
        **kernel_facts(call.module, call.local),
    )


def _own_units(module: nn.Module) -> int:
    """The units that a convolution or linear module says it has, where its output's axes could not be told."""
    if isinstance(module, _CONVOLUTIONS + _TRANSPOSED):
        return module.out_channels
    return module.out_features if isinstance(module, nn.Linear) else 0


def kind_of(module: nn.Module) -> str:
    """The kind of layer that a module makes; see :class:`weightatlas.records.Layer`."""
    if isinstance(module, _TRANSPOSED):
        return "transposed conv"
    if isinstance(module, _CONVOLUTIONS):
        depthwise = module.groups > 1 and module.groups == module.in_channels
        return "depthwise conv" if depthwise else "grouped conv" if module.groups > 1 else "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, _NORMS):
        return "norm"
    if any(part in type(module).__name__ for part in _POOLS) and not list(module.children()):
        return "pool"
    if type(module).__name__ in _ACTIVATIONS:
        return "activation"
    return "block" if any(True for _ in module.children()) else "other"


def kernel_facts(module: nn.Module, local: Mapping[str, Any]) -> dict[str, Any]:
    """Kernel, stride, groups … of a convolution or linear module, as fields of a layer."""
    if isinstance(module, nn.Linear):
        one = (1, 1)
        return dict(
            input_channels=module.in_features, kernel=one, stride=one, dilation=one, groups=1, origin=(0.0, 0.0)
        )
    if not isinstance(module, _CONVOLUTIONS + _TRANSPOSED) or len(module.kernel_size) > 2:
        return {}
    kernel, stride, dilation = (_pair(v, 1) for v in (module.kernel_size, module.stride, module.dilation))
    if isinstance(module, _TRANSPOSED):
        stride, dilation = _over((1, 1), stride), _over(dilation, stride)
    spans = [local.get(axis, Span() if axis == "y" and len(module.kernel_size) == 1 else None) for axis in GRID]
    if module.padding_mode != "zeros" and isinstance(module, _CONVOLUTIONS):
        # the image is padded first, and that makes the margin differ: the module tells where its kernel begins
        begins = module._reversed_padding_repeated_twice[::2][::-1]
        origin = _pair(tuple(-float(p) for p in begins), 0.0)
    else:
        origin = (float(spans[0].lo), float(spans[1].lo)) if all(isinstance(s, Span) for s in spans) else None
    return dict(
        input_channels=module.in_channels,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        groups=module.groups,
        origin=origin,
    )


def _pair(values: tuple[Any, ...], lead: Any) -> tuple[Any, Any]:
    """Two values as (y, x), of a signal with one value: a row."""
    return (lead, values[0]) if len(values) == 1 else (values[0], values[1])


def _over(top: Pair, bottom: Pair) -> Pair:
    return top[0] / bottom[0], top[1] / bottom[1]


def output_axes(trace: Trace | None, shape: tuple[int, ...]) -> tuple[int, tuple[int, int] | None, tuple[str, ...]]:
    """Units, grid and axis names of a layer's output; 0 units and no grid where the axes could not be told."""
    if trace is None:
        return 0, None, ("?",) * len(shape)
    axes = tuple("".join(dict.fromkeys(label for label, _ in dim)) for dim in trace.dims)
    # positions that were pooled away leave axes of size 1 behind the channels: C, y, x read as C
    names = tuple("C" if "C" in a and all(n == 1 for s, n in d if s != "C") else a for a, d in _zip(axes, trace))
    channel = [i for i, name in enumerate(names) if name == "C"]
    units = shape[channel[0]] if len(channel) == 1 else 0
    sizes = {name: shape[i] for i, name in enumerate(names)}
    known = units and all(name in ("N", "C", *GRID) for name in names) and len(set(names)) == len(names)
    grid = (sizes.get("y", 1), sizes.get("x", 1)) if known else None
    return units, grid, tuple(name if name in ("N", "C", *GRID) else "?" for name in names)


def _zip(axes: tuple[str, ...], trace: Trace) -> list[tuple[str, Any]]:
    return list(zip(axes, trace.dims, strict=True))


def receptive_field(trace: Trace | None) -> tuple[ReceptiveField | None, str]:
    """The receptive field on the network's input, or why there is none."""
    views = trace.spans.get(INPUT) if trace else None
    if views is None:
        return None, "not computed from the input"
    if not views:  # an input without positions
        return None, WHOLE
    texts = [v for v in views.values() if isinstance(v, str)]
    if texts:
        return None, next((t for t in texts if t != WHOLE), WHOLE)
    spans = [s for s in (views.get(axis, Span()) for axis in GRID) if isinstance(s, Span)]
    spans = [s.certain() for s in spans]
    size, step, lo = ([float(f(s)) for s in spans] for f in (lambda s: s.hi - s.lo + 1, lambda s: s.step, _lo))
    return ReceptiveField((size[0], size[1]), (step[0], step[1]), (lo[0], lo[1])), ""


def _lo(span: Span) -> float:
    return float(span.lo)


def _sole_norm(
    trace: Trace | None,
    axes: tuple[str, ...],
    units: int,
    seen: Observation,
    by_read: Mapping[int, list[Call]],
) -> str:
    """The batch norm that is the only reader of this output, or ``""``; it must scale units, not positions."""
    if trace is None or len(seen.readers.get(trace.serial, [])) != 1:
        return ""
    if axes[1:2] != ("C",) or axes.count("C") > 1:
        return ""
    readers = [c for c in by_read.get(trace.serial, []) if isinstance(c.module, BATCH_NORMS)]
    fits = len(readers) == 1 and readers[0].module.num_features == units
    return readers[0].name if fits else ""


def checkpoint_table(tensors: Mapping[str, Tensor], model: str, notes: tuple[str, ...]) -> LayerTable:
    """The weight tensors of a checkpoint as layers; what a tensor does not tell stays ``None``."""
    layers = []
    for name, tensor in tensors.items():
        if not 2 <= tensor.ndim <= 4 or tensor.numel() == 0:
            continue
        outputs, inputs = tensor.shape[:2]
        kernel = (1,) * (4 - tensor.ndim) + tuple(tensor.shape[2:])
        kind = "linear" if tensor.ndim == 2 else "depthwise conv" if inputs == 1 and outputs > 1 and layers else "conv"
        layers.append(
            Layer(
                name=name.removesuffix(".weight"),
                kind=kind,
                type=f"tensor {'×'.join(map(str, tensor.shape))}",
                units=outputs,
                grid=None,
                input_channels=inputs if kind != "depthwise conv" else outputs,
                kernel=(kernel[-2], kernel[-1]),
                groups=outputs if kind == "depthwise conv" else None,
                receptive_note="unknown",
                parameters=math.prod(tensor.shape),
            )
        )
    told = "a checkpoint does not tell how its layers are joined: grids and receptive fields are unknown"
    return LayerTable(layers, model, (*notes, told))
