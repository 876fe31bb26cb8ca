"""Capturing a network with ``torch.export``, so that every layer's output is a node of one functional graph.

While the network is traced, a hook notes what each module returns:

    y = module(x)   becomes   y = module(x); mark(y, number)      number ↔ "blocks.4.1.act1", "relu#2", …

A mark returns nothing, so that in-place operators meet the same memory as without it. The marks are taken out again;
what remains of them is the table from layers to nodes. So a module that does nothing (``Identity``), one that is called
twice and one whose output nobody reads are found as surely as any other.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import has_side_effect

from ..errors import GraphError
from ..network import Network, evaluating
from .nodes import BATCH, Graph

_MARK = "weightatlas::mark"
_KEPT: list[torch.library.Library] = []
#: Settings of modules that are compared by value; functions are compared by identity, what a forward keeps is not.
_PLAIN = (bool, int, float, str, tuple, type(None))
_Kept = dict[tuple[int, ...], tuple[int, Graph | str]]
#: Module → input shape → what the module looked like, and its graph, or why there is none.
_CACHE: weakref.WeakKeyDictionary[nn.Module, _Kept] = weakref.WeakKeyDictionary()


def capture(net: Network) -> Graph:
    """The network's graph, captured once per module and input shape and kept as long as the module lives.

    Weights loaded in place are seen; a module whose parts or settings were changed is captured again.

    Raises:
        ArgumentError: for a checkpoint without architecture.
        GraphError: if ``torch.export`` cannot follow the module, with the place where it stopped.
    """
    module, spec = net.require_module("following the paths between layers")
    kept = _CACHE.setdefault(module, {})
    shape = tuple(spec.shape)
    if shape not in kept or kept[shape][0] != _looks(module):
        try:
            found: Graph | str = _captured(module, shape)
        except GraphError as error:  # as costly to find out again; the error itself would hold the module
            kept[shape] = (_looks(module), str(error))
            raise
        kept[shape] = (_looks(module), found)  # after running it, which may have changed a counter
    found = kept[shape][1]
    if isinstance(found, str):
        raise GraphError(found)
    return found


def _looks(module: nn.Module) -> int:
    """A number that changes with a module's parts, their settings, and the types of its tensors."""
    seen: list[Any] = []
    for name, part in module.named_modules():
        seen += [name, id(part)]
        for key, value in vars(part).items():
            if key not in ("training", "_is_full_backward_hook") and (isinstance(value, _PLAIN) or callable(value)):
                seen.append((key, id(value) if callable(value) else repr(value)))
        tensors = (*part._parameters.values(), *part._buffers.values())
        seen += [(t.dtype, t.device, t.shape) for t in tensors if t is not None]
    return hash(tuple(seen))


class _Marker:
    """Forward hooks that mark every module's output."""

    def __init__(self, module: nn.Module) -> None:
        # torch.export calls stand-ins for modules where one of them has two names; they share what the module holds
        self.names = {id(vars(m)): n for n, m in module.named_modules()}
        self.owners: list[str] = []
        self.stack: list[str] = []
        self._count: dict[str, int] = {}
        self._mark = _mark_operator()

    def enter(self, module: nn.Module, args: Any) -> None:
        """Before a call."""
        name = self.names[id(vars(module))]
        self._count[name] = nth = self._count.get(name, 0) + 1
        self.stack.append(name + (f"#{nth}" if nth > 1 else ""))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """After a call: its first tensor is marked."""
        name = self.stack.pop()
        tensor = _first_tensor(output)
        if tensor is not None:
            self._mark(tensor, len(self.owners))
            self.owners.append(name)


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, list | tuple):
        return next((t for t in map(_first_tensor, output) if t is not None), None)
    return None


def _captured(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    example = torch.zeros((BATCH, *shape), dtype=first.dtype, device=first.device)
    marker = _Marker(module)
    with evaluating(module), _quiet(), torch.no_grad():
        handles = [m.register_forward_pre_hook(marker.enter) for m in module.modules()]
        handles += [m.register_forward_hook(marker.leave) for m in module.modules()]
        try:
            exported = torch.export.export(
                module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
            ).run_decompositions({})
        except Exception as error:  # whatever user code and torch.export raise; told with its place
            raise _cannot(module, marker.stack, error) from error
        finally:
            for handle in handles:
                handle.remove()
    return Graph(module, exported, marker.owners)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export tells its own users: warnings, log lines, and the graph it could not finish."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _cannot(module: nn.Module, stack: list[str], error: Exception) -> GraphError:
    quantised = next((n for n, m in module.named_modules() if _is_quantised(m)), None)
    if quantised is not None:
        kind = type(module.get_submodule(quantised))
        return GraphError(
            f"{type(module).__name__} cannot be captured: {quantised!r} is quantised ({kind.__module__}."
            f"{kind.__name__}). Expanded weights and the graph need floating-point weights: load the network as it was "
            "before quantisation"
        )
    where = f" in {stack[-1]!r}" if stack and stack[-1] else ""
    why = str(error).strip().splitlines()
    if re.search(r"\bs\d+\b", why[0] if why else ""):  # the name that torch.export gives the batch size
        why[0] += " (s… is the batch size: take it from x.shape[0], no view or loop may have it written in)"
    return GraphError(
        f"{type(module).__name__} cannot be captured: torch.export stopped{where}: "
        f"{why[0] if why else type(error).__name__}. Expanded weights and the graph need a forward without decisions "
        "that depend on the data; layers, direct weights, factorization and banding work without. To go on, load the "
        "part of the network that can be captured as a module of its own"
    )


def _is_quantised(module: nn.Module) -> bool:
    """Whether a module's own weights are packed integers."""
    tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return hasattr(module, "_packed_params") or any(t.is_quantized for t in tensors)


def _mark_operator() -> Any:
    """The operator that marks an output, defined on first use; a plain one, as ``custom_op`` wraps every call."""
    if not hasattr(torch.ops.weightatlas, "mark"):
        library = torch.library.Library("weightatlas", "FRAGMENT")
        library.define("mark(Tensor x, int number) -> ()")
        library.impl("mark", _nothing, "CompositeExplicitAutograd")
        torch.library.register_fake(_MARK, _nothing, lib=library)
        has_side_effect(torch.ops.weightatlas.mark.default)  # nobody reads it: it must not be dropped
        _KEPT.append(library)  # what it defines goes with it
    return torch.ops.weightatlas.mark


def _nothing(x: Tensor, number: int) -> None:
    """What a mark does."""
