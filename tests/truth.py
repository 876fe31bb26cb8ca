"""Ground truth for receptive fields: where the gradient of the input is not zero.

Weights are made positive and averaging, so that nothing cancels and no activation saturates; many draws of the input
at once, so that every element of a max pooling's window wins in some of them.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import weightatlas as wa

DRAWS = 24
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
FAINT = 1e-9  # of the largest gradient: what rounding leaves


def averaging(module: nn.Module) -> nn.Module:
    """A double-precision copy in evaluation whose maps are positive averages."""
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, CONVOLUTIONS):
                transposed = isinstance(m, nn.ConvTranspose1d | nn.ConvTranspose2d)
                fan = m.in_channels if transposed else m.weight[0].numel()
                m.weight.copy_((torch.rand(m.weight.shape) + 0.5) / fan)
                if m.bias is not None:
                    m.bias.zero_()
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_var is not None:
                for field, value in (("running_mean", 0.0), ("bias", 0.0), ("running_var", 1.0), ("weight", 1.0)):
                    getattr(m, field).fill_(value)
    return module


def outputs(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """First output tensor of every call, by address."""
    found: dict[str, Tensor] = {}

    def keep(name):
        def hook(_module, _args, out):
            while not isinstance(out, Tensor):
                out = next(iter(out.values() if isinstance(out, dict) else out))
            count = sum(k.split("#")[0] == name for k in found)
            found[name if not count else f"{name}#{count + 1}"] = out

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in module.named_modules()]
    module(x)
    for handle in handles:
        handle.remove()
    return found


def supports(out: Tensor, x: Tensor, out_axis: int, in_axis: int) -> list[tuple[int, int] | None]:
    """First and last pixel along ``in_axis`` that each position along ``out_axis`` sees; None if it sees nothing."""
    weighing = torch.rand(out.shape, dtype=out.dtype) + 0.5  # norms cancel in a plain sum
    seen: list[tuple[int, int] | None] = []
    for t in range(out.shape[out_axis]):
        value = (out * weighing).select(out_axis, t).sum()
        gradient = torch.autograd.grad(value, x, retain_graph=True, allow_unused=True)[0]
        if gradient is None:
            seen.append(None)
            continue
        others = [a for a in range(x.ndim) if a != in_axis % x.ndim]
        along = gradient.abs().amax(others)
        hit = torch.nonzero(along > FAINT * along.max().clamp_min(1e-30)).flatten().tolist()
        seen.append((hit[0], hit[-1]) if hit else None)
    return seen


def check_fields(
    module: nn.Module, shape: tuple[int, ...], *, tight: bool = True, hull: bool = False, skip: tuple[str, ...] = ()
) -> wa.Network:
    """Holds every receptive field of a network against gradients.

    Args:
        module, shape: the network and its input.
        tight: inside the image the interval must be exactly what each position sees.
        hull: it must be exactly what all positions together see, each relative to its own place.
        skip: layers not to look at.
    """
    net = wa.load(module, input=wa.InputSpec(shape=shape))
    choosing = any("Max" in type(m).__name__ or hasattr(m, "function") for m in module.modules())
    x = (torch.rand((DRAWS if choosing else 2, *shape), dtype=torch.float64) * 0.9 + 0.1).requires_grad_()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many tiny operators: threads would only wait for each other
    try:
        _check_layers(net, outputs(averaging(module), x), x, tight, hull, skip)
    finally:
        torch.set_num_threads(threads)
    return net


def _check_layers(net: wa.Network, real: dict[str, Tensor], x: Tensor, tight: bool, hull: bool, skip: tuple) -> None:
    shape = net.input.shape
    for layer in net.layers.values():
        out = real[layer.name]
        if layer.grid is None or layer.name in skip:
            continue
        for i, label in enumerate(("y", "x")):
            if label not in layer.axes or (label == "y" and len(shape) < 3):
                continue
            axis = layer.axes.index(label)
            assert out.shape[axis] == layer.grid[i], (layer.name, label)
            if layer.receptive_field is not None:
                seen = supports(out, x, axis, i - 2)
                _check_axis(layer, i, seen, x.shape[i - 2], tight, hull)


def _check_axis(layer, i: int, seen: list, size: int, tight: bool, hull: bool) -> None:
    field = layer.receptive_field
    stride, offset, extent = field.stride[i], field.offset[i], field.size[i]
    relative = []
    for t, span in enumerate(seen):
        first, last = t * stride + offset, t * stride + offset + extent - 1
        if span is None:
            continue
        where = f"{layer.name} axis {'yx'[i]} position {t}: sees {span}, said {first} … {last}"
        assert first - 1e-9 <= span[0], where
        assert span[1] <= last + 1e-9, where
        if first >= 0 and last <= size - 1:
            relative.append((span[0] - t * stride, span[1] - t * stride))
            if tight:
                assert (first, last) == span, where
    if hull and relative:
        assert abs(min(r[0] for r in relative) - offset) < 1e-9, (layer.name, "hull", min(relative), offset)
        assert abs(max(r[1] for r in relative) - (offset + extent - 1)) < 1e-9, (layer.name, "hull")
