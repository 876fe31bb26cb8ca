"""A state dict into a module, exactly; modules that are made for it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import LoadError
from .files.readable import why_foreign
from .hints import axis_order, nearest_names, prefix_hint, without_prefix
from .quoting import named
from .spec import ModelSpec

_COUNTER = "num_batches_tracked"  # of batch norms; files from before PyTorch 0.4.1 lack it


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> tuple[str, ...]:
    """Loads a state dict into a module, or tells exactly what does not fit.

    Args:
        module: gets the values, widened or narrowed to its own types.
        state: tensors by the module's own names.
        path: the file they come from, for the message.
        name: the network's, for the message.

    Returns:
        A note on a prefix that was taken off all names, and one for every type of numbers that was changed.

    Raises:
        LoadError: for names that are missing or too many, other shapes, or numbers of another kind, with the names
            and the order of axes that would fit.
    """
    own = module.state_dict()
    state, told = without_prefix(state, [[k for k in own if not k.endswith(_COUNTER)]], path.name)
    missing = [k for k in own if k not in state and not k.endswith(_COUNTER)]
    extra = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or shapes:
        parts = []
        for what, keys in (("lacks", missing), ("has too many", extra)):
            if keys:
                parts.append(f"it {what} {len(keys)} ({', '.join(keys[:3])}{' …' if len(keys) > 3 else ''})")
        if shapes:
            key = shapes[0]
            is_there = f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}{_more(shapes)}"
            parts.append(f"its {is_there}")
        due, found = ({k: v.shape for k, v in given.items()} for given in (own, state))
        hints = [prefix_hint(missing, extra) or nearest_names(missing, extra, due, found)]
        hints.append(axis_order(shapes, due, found))
        hint = "".join(f". {h}" for h in hints if h)
        raise LoadError(f"{path.name} does not fit {name}: {'; '.join(parts)}{hint}")
    foreign = [k for k, v in state.items() if v.is_quantized or (own[k].is_floating_point() != v.is_floating_point())]
    if foreign:
        key = foreign[0]
        raise LoadError(f"{path.name} does not fit {name}: {key} is {why_foreign(state[key])}")
    notes = _changed(own, state, path, name)
    # a plain dict has no versions, by which some modules tell files from before a change of theirs
    given = OrderedDict(state)
    given._metadata = getattr(own, "_metadata", None)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        module.load_state_dict(given, strict=False)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadError(f"{path.name} does not fit {name} ({named(error)})") from error
    return told + notes


def _more(keys: list[str]) -> str:
    return f", and {len(keys) - 1} more {'is' if len(keys) == 2 else 'are'} of other shapes" if len(keys) > 1 else ""


def _changed(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, name: str) -> tuple[str, ...]:
    """Notes on the types of numbers that the module has others for."""
    changes: Counter[tuple[torch.dtype, torch.dtype]] = Counter()
    for key, value in state.items():
        if not value.is_floating_point() or value.dtype == own[key].dtype:
            continue
        changes[value.dtype, own[key].dtype] += 1
        if torch.finfo(value.dtype).max > torch.finfo(own[key].dtype).max:
            finite, narrow = value.isfinite(), value.to(own[key].dtype).isfinite()
            if bool((finite & ~narrow).any()):
                largest, kind = float(value[finite].abs().max()), str(own[key].dtype).removeprefix("torch.")
                raise LoadError(
                    f"{path.name} does not fit {name}: {key} has values up to {largest:.1e}, infinite in {kind}"
                )
    notes = []
    for (there, here), count in changes.items():
        verb = "widened" if here.itemsize > there.itemsize else "narrowed"
        kinds = [str(kind).removeprefix("torch.") for kind in (there, here)]
        are, were = ("tensor of the file is", "was") if count == 1 else ("tensors of the file are", "were")
        notes.append(f"{count} {are} {kinds[0]} and {were} {verb} to {kinds[1]}")
    return tuple(notes)


@contextmanager
def seeded() -> Iterator[None]:
    """Random numbers that are the same every time, and leave those of the caller as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def other_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """How many classes a file's network tells apart, where that is all that its shapes differ in.

    Args:
        module: the network with its usual number of classes.
        state: the file's tensors.

    Returns:
        The number; ``None`` if all shapes are the same, or something else differs too.

    Example:
        >>> other_classes(torch.nn.Linear(3, 1000), torch.nn.Linear(3, 7).state_dict())
        7
    """
    pairs = [(own, state[key]) for key, own in module.state_dict().items() if key in state]
    differ = [(own, given) for own, given in pairs if own.shape != given.shape]
    sizes = {(own.shape[0] if own.ndim else 0, given.shape[0] if given.ndim else 0) for own, given in differ}
    alike = all(own.shape[1:] == given.shape[1:] for own, given in differ)
    return next(iter(sizes))[1] if len(sizes) == 1 and alike and 0 not in next(iter(sizes)) else None


def built(spec: ModelSpec, state: Mapping[str, Tensor]) -> tuple[nn.Module, tuple[str, ...]]:
    """A network's module, untrained, with as many classes as a file's weights tell apart; a note if those are others.

    Args:
        spec: the network.
        state: the file's tensors by the network's own names.

    Returns:
        The module with its usual number of classes unless the rows of its last layer are all that differs.
    """
    module = spec.build()
    own = module.state_dict()
    differ = {k for k, tensor in own.items() if k in state and state[k].shape != tensor.shape}
    count = other_classes(module, state)
    if count is None or differ != {f"{spec.classifier}.weight", f"{spec.classifier}.bias"}:
        return module, ()
    usual = own[f"{spec.classifier}.bias"].shape[0]
    note = f"the file's {spec.classifier} tells {count} class{'' if count == 1 else 'es'} apart, not {usual}"
    return spec.build(classes=count), (note,)


def fits(spec: ModelSpec, path: Path) -> None:
    """Checks that a file holds a network's weights.

    Raises:
        LoadError: if it cannot be read, or names or shapes are others.
    """
    with seeded():  # values that are overwritten at once should move no one's random numbers
        module = spec.build()
    fill(module, spec.read(path).tensors, path, spec.name)
