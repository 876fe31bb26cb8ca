"""Hooks at single calls of modules, put on for a while: what a layer gives is seen, or replaced, on its way on.

forward:   … → conv → [tap] → relu(inplace) → …        the tap keeps a copy, or hands on what it likes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError
from ..network import Network, evaluating, tensors_in

#: Takes a layer's output (or input); hands on another tensor in its place, or ``None`` to leave it.
Take = Callable[[Tensor], Tensor | None]


class _Stop(BaseException):
    """All that was wanted has been seen; not an Exception, so that no module's own handler catches it."""


@contextmanager
def tapped(net: Network, outputs: Mapping[str, Take], inputs: Mapping[str, Take] | None = None) -> Iterator[nn.Module]:
    """The network's module in evaluation mode, with taps; afterwards it is as it was.

    Args:
        net: an open network with its architecture.
        outputs: layer → what takes its output, in its own call if its module runs several times.
        inputs: layer → what takes the first tensor that it reads, likewise.

    Raises:
        UnknownNameError: for a layer that does not exist.
    """
    module, _ = net.require_module("running images")
    calls: dict[str, int] = {}
    handles = [module.register_forward_pre_hook(lambda *_: calls.clear())]
    paths = dict.fromkeys(net.layers[n].module_path for n in (*outputs, *(inputs or {})))

    def name(path: str) -> str:
        return path + (f"#{calls[path]}" if calls[path] > 1 else "")

    def before(path: str) -> Any:
        def hook(owner: nn.Module, args: tuple[Any, ...]) -> Any:
            calls[path] = calls.get(path, 0) + 1
            take = (inputs or {}).get(name(path))
            return _replaced(args, take) if take is not None else None

        return hook

    def after(path: str) -> Any:
        def hook(owner: nn.Module, args: Any, output: Any) -> Any:
            take = outputs.get(name(path))
            return _replaced(output, take) if take is not None else None

        return hook

    for path in paths:
        part = module.get_submodule(path)
        handles += [part.register_forward_pre_hook(before(path)), part.register_forward_hook(after(path))]
    try:
        with evaluating(module):
            yield module
    finally:
        for handle in handles:
            handle.remove()


def _replaced(value: Any, take: Take) -> Any:
    """A nest of tensors with its first one taken; ``None`` if it stays."""
    first = tensors_in(value)[:1]
    if not first:
        raise ArgumentError(f"a layer that gives {type(value).__name__} holds no tensor")
    other = take(first[0])
    return None if other is None else _with(value, first[0], other)


def _with(value: Any, old: Tensor, new: Tensor) -> Any:
    if value is old:
        return new
    if isinstance(value, dict):  # a transformers output keeps its type
        found = next((k for k, v in value.items() if any(t is old for t in tensors_in(v))), None)
        if found is not None:
            value = type(value)(**{**value, found: _with(value[found], old, new)})
        return value
    if isinstance(value, list | tuple):
        parts = [_with(v, old, new) if any(t is old for t in tensors_in(v)) else v for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def run_until(module: nn.Module, inputs: Tensor) -> None:
    """Runs a module to its end, or until a tap calls :func:`stop`."""
    try:
        module(inputs)
    except _Stop:
        return


def stop() -> None:
    """Ends the run in which a tap is called."""
    raise _Stop
