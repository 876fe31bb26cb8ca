"""A block of convolutions that run one after another, multiplied out.

Walking back from the block's last convolution W₃ with the kernel K on its input grid,

    K ← K ⋆ W₂        every element of K, times W₂ placed at that element's position (a transposed convolution)
    origin ← origin · stride₂ + origin₂

and a batch norm on the way scales the channels of K. Activations are left out, as in the article's rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArgumentError
from ..network import Call, Network, Observation
from ..records import Layer
from .tensors import kernel_origin, module_weight, norm_scale

_CONVOLUTION = nn.Conv2d
_SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d)
_NORM = nn.BatchNorm2d
_RESIDUAL = {"add", "add_"}
#: What torch files under activations and yet is not one function of one number.
_NOT_POINTWISE = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU)


@dataclass
class Kernel:
    """A block's product.

    Args:
        values: float32 ``[O, I, H, W]``.
        origin, stride: as in :class:`weightatlas.Weights`.
        norm: the last batch norm, if folded.
        replaced: (operator, module, what it became).
        notes: what was left out.
    """

    values: Tensor
    origin: tuple[float, float]
    stride: tuple[float, float]
    norm: str
    replaced: list[tuple[str, str, str]]
    notes: list[str]


def chain_kernel(net: Network, layer: Layer, fold: bool) -> Kernel:
    """The product of a block's convolutions.

    Raises:
        ArgumentError: if the block is not one chain, naming the module where it breaks.
    """
    seen = net.observation
    block = next(call for call in seen.calls if call.name == layer.name)
    chain, notes = _chain(block, seen)
    values: Tensor | None = None
    last: Tensor | None = None  # what the norm behind the last convolution multiplies it by
    origin, stride = (0.0, 0.0), (1.0, 1.0)
    norm, replaced = "", []
    for call in reversed(chain):
        module = call.module
        if isinstance(module, _CONVOLUTION):
            weight = module_weight(module, call.name)
            values = _full(weight, module, last) if values is None else _compose(values, weight, module)
            start = kernel_origin(net.layers[call.name], module)
            origin = (origin[0] * module.stride[0] + start[0], origin[1] * module.stride[1] + start[1])
            stride = (stride[0] * module.stride[0], stride[1] * module.stride[1])
        elif isinstance(module, _NORM):
            scale = norm_scale(module)
            if scale is None:
                raise ArgumentError(
                    f"{call.name!r} normalises by its own input's statistics, so {layer.name!r} has no fixed weights"
                )
            if values is not None:
                values = values * scale.view(1, -1, 1, 1)
            elif fold:
                norm, last = norm or call.name, scale if last is None else last * scale
        elif not isinstance(module, _SILENT):
            replaced.append((type(module).__name__, call.name, "identity"))
    if values is None:
        raise ArgumentError(f"{layer.name!r} ({layer.type}) holds no convolution")
    return Kernel(values.contiguous(), origin, stride, norm, replaced[::-1], notes)


def _full(weight: Tensor, module: nn.Conv2d, scale: Tensor | None) -> Tensor:
    """The last convolution's own kernel with groups and dilation unfolded.

    Written out, not as a product with the identity: 0 · NaN would carry one unit's bad values to all.
    """
    rows, seen = weight.shape[0] // module.groups, weight.shape[1]
    size = [(k - 1) * d + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    full = weight.new_zeros((weight.shape[0], seen * module.groups, *size))
    for g in range(module.groups):
        inner = full[g * rows : (g + 1) * rows, g * seen : (g + 1) * seen]
        inner[:, :, :: module.dilation[0], :: module.dilation[1]] = weight[g * rows : (g + 1) * rows]
    return full if scale is None else full * scale.view(-1, 1, 1, 1)


def _compose(values: Tensor, weight: Tensor, module: nn.Conv2d) -> Tensor:
    """One step back: ``[O, M, h, w]`` on the convolution's output becomes ``[O, I, h', w']`` on its input."""
    if values.shape[2:] == (1, 1) and weight.shape[2:] == (1, 1) and module.groups == 1:
        return (values[:, :, 0, 0] @ weight[:, :, 0, 0])[:, :, None, None]
    return functional.conv_transpose2d(
        values, weight, stride=module.stride, dilation=module.dilation, groups=module.groups
    )


def _chain(block: Call, seen: Observation) -> tuple[list[Call], list[str]]:
    """The leaf calls of a block in order, each reading what the one before wrote; and what was left out."""
    inside = set(block.inside)
    leaves = [c for c in seen.calls if c.name in inside and not c.inside]
    at, chain = block.reads, []
    for call in leaves:
        if call.reads != at or call.trace is None:
            raise ArgumentError(
                f"{block.name!r} is not one chain of convolutions: {call.name!r} does not read what runs before it. "
                "Read the convolutions inside it one by one"
            )
        chain.append(call)
        at = call.trace.serial
    end = block.trace.serial if block.trace else -1
    for call in chain:
        if not isinstance(call.module, (_CONVOLUTION, _NORM, *_SILENT)):
            _check_pointwise(call, block)
    if end == at:
        return chain, []
    operator, reads = seen.made.get(end, ("", ()))
    if operator in _RESIDUAL and set(reads) == {at, block.reads}:
        return chain, ["the residual path around the convolutions is left out"]
    raise ArgumentError(
        f"{block.name!r} does more than run its modules one after another: its output comes from "
        f"{operator or 'elsewhere'!r}. Read the convolutions inside it one by one"
    )


def _check_pointwise(call: Call, block: Call) -> None:
    """Between convolutions only activations may stand: a pooling or attention would not be the identity."""
    if type(call.module).__name__ not in nn.modules.activation.__all__ or isinstance(call.module, _NOT_POINTWISE):
        raise ArgumentError(
            f"{block.name!r} cannot be multiplied out: {call.name!r} is a {type(call.module).__name__}, "
            "which is neither a 2-d convolution, a 2-d batch norm nor an activation of single units"
        )
