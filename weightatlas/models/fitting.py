"""A state dict into a module, exactly."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import LoadError
from .files.readable import why_foreign
from .spec import ModelSpec

#: Orders of axes in which other libraries keep weights, and how PyTorch's come of them.
_ORDERS = {
    (3, 2, 0, 1): "the order of TensorFlow and Flax, [H, W, in, out]",
    (2, 3, 0, 1): "the order of TensorFlow's depthwise convolutions, [H, W, channel, 1]",
    (2, 1, 0): "the order of TensorFlow and Flax, [W, in, out]",
    (1, 0): "the order of TensorFlow and Flax, [in, out]",
}
_LEAST_ALIKE = 0.6
_MOST_PAIRS = 3


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> tuple[str, ...]:
    """Loads a state dict into a module, or tells exactly what does not fit.

    Args:
        module: gets the values, widened or narrowed to its own types.
        state: tensors by the module's own names.
        path: the file they come from, for the message.
        name: the network's, for the message.

    Returns:
        A note for every type of numbers that was changed on the way.

    Raises:
        LoadError: for names that are missing or too many, other shapes, or numbers of another kind, with the names
            and the order of axes that would fit.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or shapes:
        parts = []
        for what, keys in (("lacks", missing), ("has too many", extra)):
            if keys:
                parts.append(f"{what} {len(keys)} ({', '.join(keys[:3])}{' …' if len(keys) > 3 else ''})")
        if shapes:
            key = shapes[0]
            parts.append(f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}{_more(shapes)}")
        hints = [_prefix(missing, extra) or _nearest(missing, extra, own, state), _order(shapes, own, state)]
        hint = "".join(f". {h}" for h in hints if h)
        raise LoadError(f"{path.name} does not fit {name}: it {'; it '.join(parts)}{hint}")
    foreign = [k for k, v in state.items() if v.is_quantized or (own[k].is_floating_point() != v.is_floating_point())]
    if foreign:
        key = foreign[0]
        raise LoadError(f"{path.name} does not fit {name}: {key} is {why_foreign(state[key])}")
    notes = _changed(own, state, path, name)
    module.load_state_dict(state, strict=False)
    return notes


def _more(keys: list[str]) -> str:
    return f", and {len(keys) - 1} more are of other shapes" if len(keys) > 1 else ""


def _prefix(missing: list[str], extra: list[str]) -> str:
    """What stands before the file's names, or before the network's, where nothing else keeps them apart."""
    for ours, theirs, told in (
        (missing, extra, "Most of its names begin with {!r}: take that off, {{k.removeprefix({!r}): v for k, v in …}}"),
        (extra, missing, "Most of the network's names begin with {!r}: put that before its names, {{{!r} + k: v …}}"),
    ):
        known = set(ours)
        before: Counter[str] = Counter()
        for long in theirs:
            at = long.find(".")
            while at >= 0:
                if long[at + 1 :] in known:
                    before[long[: at + 1]] += 1
                at = long.find(".", at + 1)
        if before:
            prefix, count = before.most_common(1)[0]
            if 2 * count > min(len(ours), len(theirs)):
                return told.format(prefix, prefix)
    return ""


def _nearest(missing: list[str], extra: list[str], own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Pairs of a name that is missing and one of the same shape that is too many, the most alike ones."""
    by_shape: dict[torch.Size, list[str]] = {}
    for key in extra:
        by_shape.setdefault(state[key].shape, []).append(key)
    pairs = []
    for key in missing[:100]:
        near = difflib.get_close_matches(key, by_shape.get(own[key].shape, [])[:1000], n=1, cutoff=_LEAST_ALIKE)
        if near:
            pairs.append((difflib.SequenceMatcher(None, key, near[0]).ratio(), near[0], key))
    best = sorted(pairs, key=lambda pair: -pair[0])[:_MOST_PAIRS]
    listed = ", ".join(f"{theirs!r} for {ours!r}" for _, theirs, ours in best)
    return f"Nearest names of the same shape: {listed}" if listed else ""


def _order(shapes: list[str], own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """The order of axes that would make the first other shape fit."""
    for key in shapes:
        there, here = tuple(state[key].shape), tuple(own[key].shape)
        if len(there) == len(here) and sorted(there) == sorted(here) and len(here) <= 5:
            others = itertools.permutations(range(len(here)))
            order = next(o for o in (*_ORDERS, *others) if len(o) == len(here) and tuple(there[i] for i in o) == here)
            whose = f" from {_ORDERS[order]}" if order in _ORDERS else ""
            return f"{key} fits by .permute{order}{whose}; bring all weights into PyTorch's order"
        if [n for n in there if n > 1] == [n for n in here if n > 1]:
            return f"{key} fits by .reshape{here}"
    return ""


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
        notes.append(f"{count} tensors of the file are {kinds[0]} and were {verb} to {kinds[1]}")
    return tuple(notes)


def fits(spec: ModelSpec, path: Path) -> None:
    """Checks that a file holds a network's weights.

    Raises:
        LoadError: if it cannot be read, or names or shapes are others.
    """
    with torch.random.fork_rng(devices=[]):  # values that are overwritten at once should move no one's random numbers
        module = spec.build()
    fill(module, spec.rename(spec.read(path).tensors), path, spec.name)
