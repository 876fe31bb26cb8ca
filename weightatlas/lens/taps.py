"""Hooks at single calls of modules, put on for a while: what a layer gives is seen, or replaced, on its way on.

forward:   … → conv → [tap] → relu(inplace) → …        the tap keeps a copy, or hands on what it likes
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError, WeightAtlasError
from ..network import Network, evaluating, tensors_in

#: Takes a layer's output (or input); hands on another tensor in its place, or ``None`` to leave it.
Take = Callable[[Tensor], Tensor | None]


class _Stop(BaseException):
    """All that was wanted has been seen; not an Exception, so that no module's own handler catches it."""


@contextmanager
def tapped(net: Network, outputs: Mapping[str, Take], inputs: Mapping[str, Take] | None = None) -> Iterator[nn.Module]:
    """The network's module in evaluation mode, with taps; afterwards it is as it was.

    Of a module that gives or reads several tensors, the tap takes the one by which the table of layers knows it.

    Args:
        net: an open network with its architecture.
        outputs: layer → what takes its output, in its own call if its module runs several times.
        inputs: layer → what takes the first tensor of numbers that it reads, by place or by keyword, likewise.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: as :func:`path_of`.
    """
    module, _ = net.require_module("running images")
    paths = dict.fromkeys(path_of(net, n) for n in (*outputs, *(inputs or {})))
    shapes = {call.name: call.output for call in net.observation.calls}
    calls = _Calls()
    handles = [module.register_forward_pre_hook(lambda *_: calls.clear())]

    def before(path: str) -> Any:
        def hook(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            name = calls.enter(path)
            take = (inputs or {}).get(name)
            return None if take is None else _replaced((args, kwargs), take, f"the input of {name!r}")

        return hook

    def after(path: str) -> Any:
        def hook(owner: nn.Module, args: Any, output: Any) -> Any:
            name = calls.leave(path)
            take = outputs.get(name)
            return None if take is None else _replaced(output, take, f"the output of {name!r}", shapes.get(name, ()))

        return hook

    try:
        for path in paths:
            part = module.get_submodule(path)
            handles.append(part.register_forward_pre_hook(before(path), with_kwargs=True))
            handles.append(part.register_forward_hook(after(path)))
        with evaluating(module):
            yield module
    finally:
        for handle in handles:
            handle.remove()


def path_of(net: Network, layer: str) -> str:
    """The path of a layer's module.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: for a module registered under a name with ``#``, by which calls are told apart.
    """
    known, (module, _) = net.layers[layer], net.require_module("running images")
    if "#" in known.name:
        paths = {name for name, _ in module.named_modules()}
        if known.name in paths or known.name.count("#") > 1 or known.module_path not in paths:
            raise ArgumentError(
                f"the module of layer {layer!r} was registered under a name with '#', which stands for calls here "
                "('relu#2' is the second call of 'relu'); rename it"
            )
    return known.module_path


class _Calls:
    """Which call of a module this is: ``path``, ``path#2`` … in the order in which they begin."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._open: dict[str, list[str]] = {}

    def clear(self) -> None:
        """A new run of the whole network begins."""
        self._count.clear()
        self._open.clear()

    def enter(self, path: str) -> str:
        """The name of the call that begins."""
        self._count[path] = nth = self._count.get(path, 0) + 1
        name = path + (f"#{nth}" if nth > 1 else "")
        self._open.setdefault(path, []).append(name)
        return name

    def leave(self, path: str) -> str:
        """The name of the call that ends: of a module that calls itself, the inner one first."""
        return self._open[path].pop()


def _replaced(value: Any, take: Take, what: str, shape: tuple[int, ...] = ()) -> Any:
    """A nest of tensors with the one that is meant taken; ``None`` if it stays."""
    found = tensors_in(value)
    if not found:
        raise ArgumentError(f"{what} holds no tensor, in lists, tuples or dicts: it is {type(value).__name__}")
    numbers = [t for t in found if t.is_floating_point()] or found
    # some modules give constants beside what they computed; the batch is another here than when it was looked at
    own = next((t for t in numbers if shape and tuple(t.shape[1:]) == shape[1:] and t.ndim == len(shape)), numbers[0])
    other = take(own)
    return None if other is None else _with(value, own, other)


def _with(value: Any, old: Tensor, new: Tensor) -> Any:
    """The same nest with one tensor replaced wherever it is."""
    if value is old:
        return new
    if not any(t is old for t in tensors_in(value)):
        return value
    if isinstance(value, dict):
        changed = copy.copy(value)  # a transformers output keeps its type
        for key, part in value.items():
            changed[key] = _with(part, old, new)
        return changed
    parts = [_with(part, old, new) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def run_alone(module: Callable[[Tensor], Any], inputs: Tensor) -> None:
    """Runs a module to see whether it fails by itself: what its taps say against it does not count."""
    with contextlib.suppress(_Stop, WeightAtlasError):
        module(inputs)


def run_until(
    module: Callable[[Tensor], Any],
    inputs: Tensor,
    alone: str = "give batch=1",
    check: Callable[[Callable[[Tensor], Any], Tensor], None] = run_alone,
) -> None:
    """Runs a module to its end, or until a tap calls :func:`stop`.

    Args:
        module: with taps.
        inputs: of a batch.
        alone: what to do if the module takes no more than one image at a time.
        check: runs it on one, and raises what it raises.

    Raises:
        ArgumentError: if it fails on several images and not on the first of them.
    """
    try:
        module(inputs)
    except _Stop:
        return
    except WeightAtlasError:
        raise
    except Exception as error:  # a module may raise anything; what it says of several images is handed on
        if len(inputs) < 2:
            raise
        check(module, inputs[:1])  # a module that fails on one as well says so itself
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArgumentError(
            f"the network fails on {len(inputs)} images at a time ({why}), and not on one; {alone}"
        ) from error


def stop() -> None:
    """Ends the run in which a tap is called."""
    raise _Stop
