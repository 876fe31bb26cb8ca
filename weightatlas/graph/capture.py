"""Capturing a network with ``torch.export``, so that every layer's output is a node of one functional graph.

While the network is traced, a hook marks what each module returns:

    y = module(x)   becomes   y = mark(module(x), number)      number ↔ "blocks.4.1.act1", "relu#2", …

The marks are taken out again; what remains of them is the table from layers to nodes. So a module that does nothing
(``Identity``) and one that is called twice are found as surely as any other.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import GraphError
from ..network import Network, evaluating
from .nodes import BATCH, Graph

_MARK = "weightatlas::mark"
_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
_CACHE: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Graph]] = weakref.WeakKeyDictionary()


def capture(net: Network) -> Graph:
    """The network's graph, captured once per module and input shape and kept as long as the module lives.

    Raises:
        ArgumentError: for a checkpoint without architecture.
        GraphError: if ``torch.export`` cannot follow the module, with the place where it stopped.
    """
    module, spec = net.require_module("following the paths between layers")
    kept = _CACHE.setdefault(module, {})
    key = tuple(spec.shape)
    if key not in kept:
        kept[key] = _captured(module, key)
    return kept[key]


class _Marker:
    """Forward hooks that mark every module's output."""

    def __init__(self, module: nn.Module) -> None:
        self.names = {m: n for n, m in module.named_modules()}
        self.owners: list[list[str]] = []
        self._count: dict[nn.Module, int] = {}
        self._mark = _mark_operator()
        #: What an output looked like when it was marked; written to in place, it is another one.
        self._seen: dict[int, tuple[Tensor, int, int]] = {}
        self.stack: list[str] = []

    def enter(self, module: nn.Module, args: Any) -> None:
        """Before a call."""
        self._count[module] = nth = self._count.get(module, 0) + 1
        self.stack.append(self.names[module] + (f"#{nth}" if nth > 1 else ""))

    def leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        """After a call: the output with its first tensor marked, or ``None`` to leave it."""
        name = self.stack.pop()
        tensor = _first_tensor(output)
        if tensor is None:
            return None
        kept = self._seen.get(id(tensor))
        if kept is not None and kept[2] == tensor._version:
            self.owners[kept[1]].append(name)
            return None
        marked = self._mark(tensor, len(self.owners))
        self._seen[id(marked)] = (marked, len(self.owners), marked._version)
        self.owners.append([name])
        return _with_first(output, marked)


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, list | tuple):
        return next((t for t in map(_first_tensor, output) if t is not None), None)
    return None


def _with_first(output: Any, marked: Tensor) -> Any:
    """The output with its first tensor replaced; ``None`` (leave it) for containers that cannot be rebuilt."""
    if isinstance(output, Tensor):
        return marked
    if isinstance(output, dict):
        key = next(k for k, v in output.items() if _first_tensor(v) is not None)
        output[key] = _with_first(output[key], marked)
        return output
    place = next(i for i, v in enumerate(output) if _first_tensor(v) is not None)
    parts = [_with_first(v, marked) if i == place else v for i, v in enumerate(output)]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def _captured(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    example = torch.zeros((BATCH, *shape), dtype=first.dtype, device=first.device)
    training = [n for n, m in module.named_modules() if m.training and isinstance(m, _TRAINING)]
    marker = _Marker(module)
    with evaluating(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.export tells its own users about its own changes
        handles = [m.register_forward_pre_hook(marker.enter) for m in marker.names]
        handles += [m.register_forward_hook(marker.leave) for m in marker.names]
        try:
            exported = torch.export.export(
                module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
            ).run_decompositions({})
        except Exception as error:  # whatever user code and torch.export raise; told with its place
            raise _cannot(module, marker.stack, error) from error
        finally:
            for handle in handles:
                handle.remove()
    notes = ()
    if training:
        notes = (f"{len(training)} modules in training mode ({training[0]} …) are read as in evaluation",)
    return Graph(module, exported, marker.owners, notes)


def _cannot(module: nn.Module, stack: list[str], error: Exception) -> GraphError:
    where = f" in {stack[-1]!r}" if stack and stack[-1] else ""
    why = str(error).strip().splitlines()
    return GraphError(
        f"{type(module).__name__} cannot be captured: torch.export stopped{where}: "
        f"{why[0] if why else type(error).__name__}. Expanded weights and the graph need a forward without decisions "
        "that depend on the data; layers, direct weights, factorization and banding work without. To go on, load the "
        "part of the network that can be captured as a module of its own"
    )


def _mark_operator() -> Any:
    """The operator that marks an output, defined on first use."""
    if not hasattr(torch.ops.weightatlas, "mark"):
        mark = torch.library.custom_op(_MARK, _clone, mutates_args=(), schema="(Tensor x, int number) -> Tensor")
        mark.register_fake(_like)
    return torch.ops.weightatlas.mark


def _clone(x: Tensor, number: int) -> Tensor:
    return x.clone()


def _like(x: Tensor, number: int) -> Tensor:
    return torch.empty_like(x)
