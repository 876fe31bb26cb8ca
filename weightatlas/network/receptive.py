"""What each tensor of a running network knows of its axes and of the input it can see.

One rule per operator maps the traces of the inputs to the trace of the output. A trace holds

    dims   meaning of each axis: "N", "C", "y", "x", several merged ones, or "?"
    spans  per root tensor and grid axis, the interval that position t sees: t · step + lo … t · step + hi

Fractions keep it exact through upsampling. What cannot be told is said to be unknown, never guessed. One thing is not
followed: a plain number taken out of a tensor (``.item()``) and put back in.
Source of the arithmetic: Araujo, Norris & Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill, 2019.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

Atom = tuple[str, int]  # label and size
Dims = tuple[tuple[Atom, ...], ...]
GRID = ("y", "x")
WHOLE = "whole input"
_serial = itertools.count()


@dataclass(frozen=True)
class Span:
    """Position ``t`` sees ``t · step + lo`` … ``t · step + hi``, both included.

    Padding by mirrored or repeated pixels makes positions in the margin see back into the image. A window of at least
    ``reach`` + 1 positions holds those pixels anyway; until one is met, ``outer`` is what is certain.
    """

    lo: Fraction = Fraction(0)
    hi: Fraction = Fraction(0)
    step: Fraction = Fraction(1)
    reach: int = 0
    outer: tuple[Fraction, Fraction] | None = None

    def certain(self) -> Span:
        """The interval that holds for positions in the margin, too."""
        return Span(*self.outer, self.step) if self.outer else self

    def through(self, lo: Fraction | int, hi: Fraction | int, step: Fraction | int) -> Span:
        """The span of an operator's output whose position t reads t · step + lo … t · step + hi of this one."""
        held = self if hi - lo - 2 * max(-lo, 0) >= self.reach else self.certain()
        return Span(held.lo + self.step * lo, held.hi + self.step * hi, self.step * step)

    def mirrored(self, before: int, after: int, repeat: bool) -> Span:
        """The span after padding by mirrored pixels, or by repeated border pixels.

        With ``before`` = 2, positions 0 1 2 3 … read 2 1 0 1 … (mirrored) or 0 0 0 1 … (repeated).
        """
        times = 1 if repeat else 2
        inner = self.certain()
        reach = times * max(before, after, 0)
        back = -before - times * max(after, 0)
        ahead = max(-before, before * (times - 1))
        outer = (inner.lo + self.step * back, inner.hi + self.step * ahead)
        shift = self.step * -before
        return Span(inner.lo + shift, inner.hi + shift, self.step, reach, outer)


View = Span | str  # a string says why there is no span: WHOLE, or "unknown: …"
Spans = dict[str, dict[str, View]]


@dataclass
class Trace:
    """What a tensor knows of itself; ``serial`` tells tensors (and states of one, when written in place) apart."""

    dims: Dims
    spans: Spans
    operator: str = ""
    reads: tuple[int, ...] = ()
    serial: int = field(default_factory=lambda: next(_serial))


def start(shape: Sequence[int], labels: Sequence[str], root: str) -> Trace:
    """The trace of a root: every position sees itself."""
    return Trace(
        tuple(((label, size),) for label, size in zip(labels, shape, strict=True)),
        {root: {label: Span() for label in labels if label in GRID}},
    )


def merge_views(a: View, b: View) -> View:
    """The view of a sum: both intervals; unknown wins over whole, whole over an interval."""
    if isinstance(a, Span) and isinstance(b, Span):
        if a.step != b.step:
            return "unknown: branches of different stride meet"
        sure = (a.certain(), b.certain())
        outer = (min(s.lo for s in sure), max(s.hi for s in sure)) if a.outer or b.outer else None
        return Span(min(a.lo, b.lo), max(a.hi, b.hi), a.step, max(a.reach, b.reach), outer)
    texts = [v for v in (a, b) if isinstance(v, str)]
    return next((t for t in texts if t != WHOLE), WHOLE)


def merge(traces: Iterable[Trace]) -> Spans:
    """The spans of a tensor computed element by element from several."""
    out: Spans = {}
    for trace in traces:
        for root, views in trace.spans.items():
            mine = out.setdefault(root, {})
            for axis, view in views.items():
                mine[axis] = merge_views(mine[axis], view) if axis in mine else view
    return out


def change(spans: Spans, axis: str, how: Callable[[Span], View] | str) -> Spans:
    """The same spans with one axis changed; a string replaces every interval, and the first unknown stays."""

    def one(view: View) -> View:
        if isinstance(view, Span):
            return how if isinstance(how, str) else how(view)
        return how if view == WHOLE and isinstance(how, str) else view

    return {root: {a: one(v) if a == axis else v for a, v in views.items()} for root, views in spans.items()}


def lose(spans: Spans, axis: str, why: str) -> Spans:
    """The same spans without the intervals along one axis; what is WHOLE stays so."""
    return {
        root: {a: why if a == axis and isinstance(v, Span) else v for a, v in views.items()}
        for root, views in spans.items()
    }


def aligned(traces: Iterable[Trace], dims: Dims) -> list[Trace]:
    """The traces, without intervals where a position of the output is not the same position of the input.

    That is so when one position is broadcast to many, or when axes meet that mean different things.
    """
    out = []
    for trace in traces:
        spans = trace.spans
        for axis in GRID:
            if _places(trace.dims, axis) != _places(dims, axis):
                spans = lose(spans, axis, "unknown: positions meet others, by broadcasting or exchanged axes")
        out.append(Trace(trace.dims, spans))
    return out


def _places(dims: Dims, axis: str) -> list[tuple[int, tuple[Atom, ...]]]:
    """Where an axis lies, counted from the last, with what it is merged with."""
    long = [tuple(atom for atom in dim if atom[1] > 1) for dim in reversed(dims)]
    return [(i, dim) for i, dim in enumerate(long) if any(label == axis for label, _ in dim)]


def through(lo: Fraction | int, hi: Fraction | int, step: Fraction | int) -> Callable[[Span], Span]:
    """:meth:`Span.through` as a function of the span."""
    return lambda span: span.through(lo, hi, step)


def blur(spans: Spans, atoms: Iterable[Atom], how: str) -> Spans:
    """The spans after positions along these atoms were mixed; atoms of size 1 have nothing to mix."""
    for label, size in atoms:
        if label in GRID and size > 1:
            spans = change(spans, label, how)
    return spans


def regroup(dims: Dims, shape: Sequence[int]) -> tuple[Dims, list[str]] | None:
    """The axes after a reshape, and the labels that were torn apart; ``None`` if sizes do not fit.

    Row-major order is kept, so an axis of the new shape is a run of the old atoms.
    """
    atoms = [atom for dim in dims for atom in dim if atom != ("?", 1)]
    out: list[tuple[Atom, ...]] = []
    torn: list[str] = []
    for size in shape:
        run: list[Atom] = []
        have = 1
        while atoms and (have < size or (size == 1 and not run and atoms[0][1] == 1)):
            label, n = atoms.pop(0)
            need = size // have
            if n > need:  # the atom is cut in two
                if size % have or n % need:
                    return None
                atoms.insert(0, (label, n // need))
                torn.append(label)
                n = need
            run.append((label, n))
            have *= n
        if have != size:
            return None
        out.append(tuple(run) or (("?", 1),))
    if math.prod(n for _, n in atoms) != 1:
        return None
    if out:
        out[-1] += tuple(atoms)
    return tuple(out), torn


def pair(value: Any, count: int) -> list[Any]:
    """A number or list as a list of that many numbers."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * count if len(values) == 1 else values


def grid_axes(trace: Trace, count: int) -> list[str] | None:
    """Labels of the last axes if each is one plain atom, else ``None``."""
    last = trace.dims[len(trace.dims) - count :]
    return [d[0][0] for d in last] if all(len(d) == 1 for d in last) else None


def resized(trace: Trace, shape: Sequence[int], changed: dict[int, Atom]) -> Dims:
    """The dims of an output of that shape: the input's, with sizes taken from the shape and some atoms replaced."""
    return tuple(
        (changed[i],) if i in changed else (((trace.dims[i][0][0], n),) if len(trace.dims[i]) == 1 else trace.dims[i])
        for i, n in enumerate(shape)
    )


def unknown(traces: Sequence[Trace], out: Tensor, why: str) -> Trace:
    """The trace of an operator without a rule: axes kept if the shape is, positions unknown."""
    spans = merge(traces)
    for axis in GRID:
        spans = change(spans, axis, f"unknown: {why}")
    same = next((t for t in traces if sized(t.dims) == tuple(out.shape)), None)
    return Trace(same.dims if same else tuple((("?", n),) for n in out.shape), spans)


def sized(dims: Dims) -> tuple[int, ...]:
    """The shape that the axes stand for."""
    return tuple(math.prod(n for _, n in dim) for dim in dims)


def trace_of(value: Any) -> Trace | None:
    """The trace that a tensor carries, if any."""
    return getattr(value, "_weightatlas_trace", None) if isinstance(value, Tensor) else None


def set_trace(tensor: Tensor, trace: Trace) -> None:
    """Hangs a trace on a tensor."""
    tensor._weightatlas_trace = trace  # pyright: ignore[reportAttributeAccessIssue]


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in a nest of lists, tuples and dicts, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_in(v)] if isinstance(value, list | tuple) else []
