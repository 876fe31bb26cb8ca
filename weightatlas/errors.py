"""What weightatlas raises and warns with: every message says what came in, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WeightAtlasError(Exception):
    """Anything weightatlas refuses to do. Catch this one to catch them all."""


class UnknownNameError(WeightAtlasError, LookupError):
    """A model, layer or unit that does not exist; the message lists the nearest names that do."""


class ArgumentError(WeightAtlasError, ValueError):
    """An argument of the wrong shape, range or kind."""


class LoadError(WeightAtlasError, OSError):
    """A file or module that cannot be opened as a network, or a result that cannot be read or written."""


class StoreError(LoadError):
    """An atlas that cannot be opened, read or written, or that belongs to another network."""


class WeightValuesError(WeightAtlasError, ValueError):
    """Weights that hold NaN or infinity where finite numbers are needed."""


class MissingPackageError(WeightAtlasError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class GraphError(WeightAtlasError, RuntimeError):
    """A network whose graph cannot be captured, or an operator in it that has no rule."""


class WeightAtlasWarning(UserWarning):
    """Something had to be assumed; the message says what, and how to state it instead."""


def unknown_name(what: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """The error for a name that is not among the known ones, with the nearest of them.

    Args:
        what: the kind of thing that was asked for, e.g. ``"layer"``.
        name: the name that came in.
        known: every name that would have been accepted, in a sensible order.
        hint: one more sentence, e.g. how to list all names.

    Returns:
        An :class:`UnknownNameError` ready to raise.

    Example:
        >>> print(unknown_name("layer", "conv_stm", ["conv_stem", "bn1"]))
        no layer 'conv_stm'; nearest: 'conv_stem'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not near:  # a dotted name may share its tail or its head with the right one
        near = [n for n in names if name and (n.endswith("." + name) or n.startswith(name + "."))][:3]
    if near:
        listed = "nearest: " + ", ".join(repr(n) for n in near)
    elif names:
        shown = ", ".join(repr(n) for n in names[:4])
        listed = f"there are: {shown}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    else:
        listed = "there are none"
    shown = repr(name if len(name) <= 200 else f"{name[:200]}…")
    return UnknownNameError(f"no {what} {shown}; {listed}" + (f". {hint}" if hint else ""))
