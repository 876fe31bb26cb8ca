"""The truth about expanded weights: autograd through a copy of the network whose operators are replaced as told."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

import weightatlas as wa


class Times(nn.Module):
    """A factor per channel, or one for all; channels are axis 1, or the last if that alone fits."""

    def __init__(self, factor: tuple[float, ...], last: bool = False) -> None:
        super().__init__()
        self.factor, self.last = torch.tensor(factor, dtype=torch.float64), last

    def forward(self, x: Tensor) -> Tensor:
        if self.factor.numel() == 1 or self.last or x.ndim == 2:
            return x * self.factor
        return x * self.factor.view(1, -1, *(1,) * (x.ndim - 2))


class Centred(nn.Module):
    """A layer norm over the last axis with 1/deviation held."""

    def __init__(self, norm: nn.Module, inverse: float) -> None:
        super().__init__()
        self.norm, self.inverse = norm, inverse

    def forward(self, x: Tensor) -> Tensor:
        y = (x - x.mean(-1, keepdim=True)) * self.inverse
        return y * self.norm.weight + self.norm.bias


def averaging(pool: nn.Module) -> nn.Module:
    """A max pooling as a mean of what lies in its window."""
    if isinstance(pool, nn.AdaptiveMaxPool2d):
        return nn.AdaptiveAvgPool2d(pool.output_size)
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False)


def straightened(module: nn.Module, weights: wa.Weights, last: bool = False) -> nn.Module:
    """A double-precision copy in evaluation with every operator replaced as ``weights.replaced`` says.

    Args:
        module: the network; operators that are replaced must be modules of it.
        weights: expanded weights.
        last: activations have their channels last.
    """
    module = copy.deepcopy(module).double().eval()
    for each in weights.replaced:
        path = each.module.split("#")[0]
        assert ":" not in path, f"{each} is no module"
        old = module.get_submodule(path)
        if each.became == "average":
            new = averaging(old)
        elif "1/deviation" in each.became:
            new = Centred(old, each.factor[0])
        else:
            assert each.became == "identity" or each.factor or "for want" in each.became, each
            new = Times(each.factor or (1.0,), last)
        owner, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(owner), leaf, new)
    return module


def outputs_of(module: nn.Module, x: Tensor, names: list[str]) -> list[Tensor]:
    """What layers (``"relu#2"``: of the second call) return."""
    found: dict[str, Tensor] = {"input": x}
    count: dict[str, int] = {}

    def keep(name):
        def hook(_module, _args, out):
            out = out if isinstance(out, Tensor) else next(iter(out.values() if isinstance(out, dict) else out))
            count[name] = count.get(name, 0) + 1
            found[name if count[name] == 1 else f"{name}#{count[name]}"] = out

        return hook

    wanted = {n.split("#")[0] for n in names}
    handles = [m.register_forward_hook(keep(n)) for n, m in module.named_modules() if n in wanted]
    module(x)
    for handle in handles:
        handle.remove()
    return [found[n] for n in names]


def gradients(
    module: nn.Module, x: Tensor, source: str, target: str, units: list[int], at: tuple[int, int], axes: tuple[str, ...]
) -> np.ndarray:
    """∂ target[unit, at] / ∂ source ``[n, *source]`` for one input; ``axes`` of the target as its layer names them."""
    before, after = outputs_of(module, x.requires_grad_(), [source, target])
    rows = []
    for unit in units:
        place = {"N": 0, "C": unit, "y": at[0], "x": at[1], "?": 0}
        value = after[tuple(place[a] for a in axes)]
        rows.append(torch.autograd.grad(value, before, retain_graph=True)[0][0])
    return torch.stack(rows).numpy()


def placed(weights: wa.Weights, grid: tuple[int, int], at: tuple[int, int]) -> tuple[np.ndarray, float]:
    """A kernel laid onto the source grid for the target position ``at``, ``[O, I, *grid]``; and the part outside."""
    full = weights.dense()
    values = full.values
    out = np.zeros((*values.shape[:2], *grid))
    starts = []
    for i in (0, 1):
        start = at[i] * weights.stride[i] + weights.origin[i]
        assert abs(start - round(start)) < 1e-6, (at, weights.stride, weights.origin)
        starts.append(round(start))
    lost = 0.0
    for y in range(values.shape[2]):
        for x in range(values.shape[3]):
            p, q = starts[0] + y, starts[1] + x
            if 0 <= p < grid[0] and 0 <= q < grid[1]:
                out[:, :, p, q] = values[:, :, y, x]
            else:
                lost = max(lost, float(np.abs(values[:, :, y, x]).max(initial=0)))
    return out, lost


def check_weights(
    net: wa.Network,
    weights: wa.Weights,
    *,
    units: int = 4,
    tolerance: float = 1e-5,
    linear: nn.Module | None = None,
    borders: bool = False,
    last: bool = False,
) -> None:
    """Holds expanded weights against autograd.

    Args:
        net: the network.
        weights: of it.
        units: how many target units to look at.
        tolerance: of the norm of the difference, relative to that of the gradient.
        linear: the network with its operators replaced; made from ``weights.replaced`` by default.
        borders: whether the map may reach the border of the source grid.
        last: activations have their channels last.
    """
    linear = linear or straightened(net.module, weights, last)
    target = net.layers[weights.target]
    height, width = target.grid
    at = weights.at or (height // 2, width // 2)
    rows = sorted({round(r) for r in np.linspace(0, len(weights.units) - 1, units)})
    x = torch.randn((1, *net.input.shape), dtype=torch.float64)
    truth = gradients(linear, x, weights.source, weights.target, [int(weights.units[r]) for r in rows], at, target.axes)
    axes = net.layers[weights.source].axes if weights.source != "input" else ("N", "C", "y", "x")[: truth.ndim]
    order = [0, *(axes.index(a) for a in ("C", "y", "x") if a in axes)]
    rest = [a for a in range(truth.ndim) if a not in order]
    truth = truth.transpose(order + rest).reshape(*[truth.shape[a] for a in order])
    while truth.ndim < 4:
        truth = np.expand_dims(truth, 2)
    if weights.source_numbers.size:
        truth = truth[:, weights.source_numbers]
    some = weights.select([int(weights.units[r]) for r in rows])
    found, lost = placed(some, truth.shape[2:], at)
    scale = np.linalg.norm(truth)
    assert scale > 0
    assert borders or lost == 0, "the window reaches over the border: take a larger input"
    error = np.linalg.norm(found - truth) / scale
    assert error < tolerance, f"{weights}: relative error {error:.1e}"
