"""The numbers of a checkpoint in a form that can be read: strided, and of a type that arithmetic knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import LoadError
from .memory import require_memory

#: Floating-point types of 8 bits, for which torch has storage and hardly any arithmetic.
SMALL_FLOATS = tuple(
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    if hasattr(torch, name)
)
_PACKED = "_packed_params._packed_params"


def plain_numbers(tensors: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The same tensors, those that hold their numbers in another way turned into float32, and notes on them.

    Quantised values become ``scale · (q − zero point)``, exactly what the quantised network computes with; sparse ones
    are laid out with their zeros; 8-bit floats are widened, exactly. What cannot be turned is left out with a note.

    Raises:
        LoadError: for sparse tensors that there is no memory for, and if nothing is left.
    """
    kept: dict[str, Tensor] = {}
    turned: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        how, plain = _plain(name, tensor, path)
        if how:
            turned.setdefault(how, []).append(name)
        if plain is not None:
            kept[name] = plain
    if not kept:
        raise LoadError(f"{path} holds nothing that can be read: {next(iter(turned))}")
    notes = tuple(f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {how}" for how, names in turned.items())
    scales = [n for n in kept if n.endswith(("_scale", "_scale_inv", ".scale_inv"))]
    if scales and any(t.dtype in SMALL_FLOATS for t in tensors.values()):
        notes += (f"the scales of 8-bit floats ({scales[0]!r} …) lie beside them and were not multiplied in",)
    return kept, notes


def _plain(name: str, tensor: Tensor, path: Path) -> tuple[str, Tensor | None]:
    """What was done with a tensor, as the rest of a sentence, and what came of it."""
    kind = str(tensor.dtype).removeprefix("torch.")
    turn: Callable[[Tensor], Tensor]
    if tensor.is_quantized:
        how, turn = f"quantised ({kind}): read as scale · (q − zero point)", Tensor.dequantize
    elif tensor.layout != torch.strided:
        require_memory(path, tensor.numel() * 4, f"the sparse tensor {name[:60]!r} of shape {tuple(tensor.shape)}")
        how, turn = "sparse: laid out with their zeros", Tensor.to_dense
    elif tensor.dtype in SMALL_FLOATS:
        how, turn = f"{kind}: widened to float32, which holds the same values", Tensor.float
    elif type(tensor) is not Tensor or tensor.is_nested:
        return f"of the type {type(tensor).__name__}, which cannot be read: left out", None
    elif tensor.dtype == torch.float64:
        return f"float64: weights are read as float32{_overflow(tensor)}", tensor
    elif kind.startswith(("float4", "bits", "uint1", "uint2", "int1", "int2")) and tensor.element_size() == 1:
        return f"{kind}, several values in a byte, which cannot be read: left out", None
    else:
        return "", tensor.resolve_conj().resolve_neg()
    try:
        return how, turn(tensor)
    except (RuntimeError, NotImplementedError):
        return f"{kind} ({tensor.layout}), which cannot be read: left out", None


def _overflow(tensor: Tensor) -> str:
    lost = int((tensor.isfinite() & ~tensor.float().isfinite()).sum())
    return f", in which {lost} of its values are too large and become infinite" if lost else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(n[:60]) for n in names[:2])
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'} ({shown}{' …' if len(names) > 2 else ''})"


def unpacked(content: dict[Any, Any]) -> tuple[dict[Any, Any], tuple[str, ...]]:
    """The same entries; weight and bias of quantised linear layers, saved as pairs, get names of their own."""
    found: dict[Any, Any] = {}
    names = []
    for key, value in content.items():
        pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Tensor)
        if not pair or not isinstance(key, str) or not key.endswith(_PACKED):
            found[key] = value
            continue
        base = key.removesuffix(_PACKED)
        found |= {f"{base}{leaf}": v for leaf, v in zip(("weight", "bias"), value, strict=True) if v is not None}
        names.append(base.removesuffix("."))
    listed = ", ".join(repr(n[:60]) for n in names[:3]) + (" …" if len(names) > 3 else "")
    layers = "layer" if len(names) == 1 else "layers"
    note = f"weight and bias of {len(names)} quantised {layers} ({listed}) were taken out of packed parameters"
    return found, (note,) if names else ()


def why_foreign(tensor: Tensor) -> str:
    """What a tensor's numbers are that are no weights, and what to do, as the rest of a sentence."""
    kind = str(tensor.dtype)
    if tensor.is_quantized:
        return f"{kind}; dequantise the weights first (weight.dequantize())"
    if tensor.is_complex():
        return f"{kind}; complex weights cannot be read: save their real and imaginary parts as tensors of their own"
    if tensor.layout != torch.strided:
        return "sparse; save it as weight.to_dense()"
    if tensor.dtype in (torch.int8, torch.uint8):
        return f"{kind}, which are codes of a quantiser; dequantise the weights first (weight.float() * scale)"
    what = "a mask rather than weights" if tensor.dtype == torch.bool else "numbers without a fraction"
    return f"{kind}, {what}; save weights as floating-point numbers (weight.float(), if that is what they are)"
