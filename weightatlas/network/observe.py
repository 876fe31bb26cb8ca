"""One forward pass, watched: which modules ran in which order, on what, and what each output can see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import LoadError
from ..models import InputSpec
from . import rearranging as rearranging  # registers its rules
from .operators import CONSTANTS, follow, operator_name
from .receptive import Span, Spans, Trace, View, merge, set_trace, start, tensors_in, trace_of, unknown

INPUT = "input"
LABELS = {1: ("N", "C"), 2: ("N", "C", "x"), 3: ("N", "C", "y", "x")}


@dataclass
class Call:
    """One call of one module.

    Args:
        name: dotted path, with ``#2`` and so on from the second call.
        module: the module.
        depth: of nesting; the network itself has 0.
        reads: serial of the first input's trace, −1 if it has none.
        output: the first output tensor's shape, empty if there is none.
        trace: of that output.
        source: name of the last call whose output is read, ``"input"`` or ``""``.
        local: spans of the output on the call's own input (for modules with a weight).
        inside: names of the calls within.
    """

    name: str
    module: nn.Module
    depth: int
    reads: int = -1
    output: tuple[int, ...] = ()
    trace: Trace | None = None
    source: str = ""
    local: dict[str, Any] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)


@dataclass
class Observation:
    """All calls in order of completion, and how often and by what each tensor was read.

    Args:
        calls: children before the modules that hold them.
        readers: serial of a tensor → operators that read it.
        made: serial → (operator, serials read).
        never_called: modules with weights that did not run.
    """

    calls: list[Call]
    readers: dict[int, list[str]]
    made: dict[int, tuple[str, tuple[int, ...]]]
    never_called: list[str]


class _Watch(TorchDispatchMode):
    """Follows every operator; untraced tensors (weights, constants) stay untraced."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, list[str]] = {}
        self.made: dict[int, tuple[str, tuple[int, ...]]] = {}
        #: memory that was written to in part or under several names: kept alive, with what it may hold
        self.written: dict[int, tuple[Any, Trace]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; wrapping would import torch's compiler for 1.6 s

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = tensors_in([args, kwargs])
        if self.written:
            for tensor in inputs:
                self._refresh(tensor)
        traces = [t for t in map(trace_of, inputs) if t is not None]
        result = func(*args, **kwargs)
        name = operator_name(func)
        if not traces or name in CONSTANTS:
            return result
        for trace in traces:
            self.readers.setdefault(trace.serial, []).append(name)
        if kwargs.get("alpha", 1) != 1:
            name += " with alpha"  # not the plain sum that a residual is
        for index, out in enumerate(tensors_in(result)):
            # all parts of a split count alike; a second result of another kind has other axes
            plain = index == 0 or isinstance(result, list)
            trace = follow(func, args, kwargs, out, traces) if plain else unknown(traces, out, name)
            trace = Trace(trace.dims, trace.spans)  # a rule may hand an input's trace on; states need own serials
            self.made[trace.serial] = (name, tuple(t.serial for t in traces))
            set_trace(out, trace)
        if any(other is not args[0] for other in inputs if trace_of(other) is not None):
            self._note_writing(func, args, kwargs, traces)
        return result

    def _note_writing(self, func: Any, args: Any, kwargs: Any, traces: list[Trace]) -> None:
        """An operator in place changes every tensor in the same memory, of which only one is at hand."""
        for index, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            target = kwargs.get(argument.name) if argument.kwarg_only else args[index] if index < len(args) else None
            trace = trace_of(target)
            if trace is None or target is None or target.layout != torch.strided:
                continue
            storage = target.untyped_storage()
            before = self.written.get(storage._cdata)
            others = [*traces, *([before[1]] if before else [])]
            self.written[storage._cdata] = (storage, Trace((), merge(others), serial=trace.serial))

    def _refresh(self, tensor: Tensor) -> None:
        """Tells a tensor that the memory it shares was written to since it was made."""
        if tensor.layout != torch.strided:
            return
        entry = self.written.get(tensor.untyped_storage()._cdata)
        own = trace_of(tensor)
        if entry is not None and (own is None or own.serial < entry[1].serial):
            known = [entry[1]] + ([own] if own else [])
            fresh = unknown(known, tensor, "written to in place through another name")
            set_trace(tensor, Trace(own.dims if own else fresh.dims, fresh.spans))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switches every submodule to evaluation and back to what it was, whatever happens."""
    modes = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for m, mode in modes:
            m.training = mode


def sample_input(module: nn.Module, spec: InputSpec) -> Tensor:
    """One example ``[1, *spec.shape]`` of fixed pseudo-random values, of the module's type and on its device."""
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    noise = torch.randn((1, *spec.shape), generator=torch.Generator().manual_seed(0))
    return noise.to(first.device, first.dtype)


def observe(module: nn.Module, spec: InputSpec) -> Observation:
    """Runs the module once on one example and tells what happened.

    The module is left as it was: hooks are removed, training flags restored, nothing is written to it.

    Raises:
        LoadError: if the forward fails, with its message and what to change.
    """
    watch, calls = _Watch(), []
    sample = sample_input(module, spec)
    set_trace(sample, start(sample.shape, LABELS[len(spec.shape)], INPUT))
    names = {m: n for n, m in module.named_modules()}
    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        recorder = _Recorder(names, calls, trace_of(sample))
        for m in names:
            stack.callback(m.register_forward_pre_hook(recorder.enter, with_kwargs=True).remove)
            stack.callback(m.register_forward_hook(recorder.leave, with_kwargs=True).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(watch)
        try:
            module(sample)
        except Exception as error:  # user code may raise anything; the message tells what came in
            inside = f" in {recorder.stack[-1].name!r}" if recorder.stack and recorder.stack[-1].name else ""
            raise LoadError(
                f"{type(module).__name__} failed{inside} on an input of shape {tuple(sample.shape)}: "
                f"{str(error).splitlines()[0].rstrip('.') if str(error) else type(error).__name__}. Give the shape it "
                "was made for with input=InputSpec(shape=(C, H, W)); a forward with more arguments needs a small "
                "wrapper module"
            ) from error
        finally:
            _forget(names)
    ran = {call.module for call in calls}
    idle = [n for m, n in names.items() if m not in ran and any(True for _ in m.parameters(recurse=False))]
    return Observation(calls, watch.readers, watch.made, idle)


def _forget(modules: Iterable[nn.Module]) -> None:
    """Takes the traces off tensors that modules keep: buffers written to, results remembered."""
    for module in modules:
        for tensor in tensors_in([vars(module), dict(module.named_buffers(recurse=False))]):
            if trace_of(tensor) is not None:
                del tensor._weightatlas_trace  # pyright: ignore[reportAttributeAccessIssue]


class _Recorder:
    """Forward hooks that note calls as they begin and end."""

    def __init__(self, names: dict[nn.Module, str], calls: list[Call], entry: Trace | None) -> None:
        self.names, self.calls = names, calls
        self.stack: list[Call] = []
        self.count: dict[nn.Module, int] = {}
        self.owner: dict[int, str] = {entry.serial: INPUT} if entry else {}

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before a call: what it reads; a module with a weight also becomes a root of its own."""
        self.count[module] = nth = self.count.get(module, 0) + 1
        name = self.names[module] + (f"#{nth}" if nth > 1 else "")
        call = Call(name, module, depth=len(self.stack))
        tensor = next((t for t in tensors_in([args, kwargs]) if trace_of(t) is not None), None)
        trace = trace_of(tensor)
        if trace is not None and tensor is not None:
            call.reads, call.source = trace.serial, self.owner.get(trace.serial, "")
            if getattr(module, "weight", None) is not None:
                fresh: dict[str, View] = {axis: Span() for dim in trace.dims for axis, _ in dim if axis in ("y", "x")}
                trace.spans = {**trace.spans, name: fresh}
        self.stack.append(call)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """After a call: what came out, and what it can see."""
        call = self.stack.pop()
        for outer in self.stack:
            outer.inside.append(call.name)
        trace = next((t for t in map(trace_of, tensors_in(output)) if t is not None), None)
        if trace is not None:
            call.local = trace.spans.get(call.name, {})
            trace.spans = _without(trace.spans, call.name)
            call.trace = trace
            call.output = tuple(next(t for t in tensors_in(output) if trace_of(t) is trace).shape)
            # a plain Sequential adds nothing to what its last child is called
            if call.name and not (type(module) is nn.Sequential and trace.serial in self.owner):
                self.owner[trace.serial] = call.name
        for tensor in tensors_in([args, kwargs]):
            read = trace_of(tensor)
            if read is not None:
                read.spans = _without(read.spans, call.name)
        self.calls.append(call)


def _without(spans: Spans, root: str) -> Spans:
    return {r: v for r, v in spans.items() if r != root}
