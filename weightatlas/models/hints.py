"""Why tensors do not fit a network: what stands before their names, names that are nearly right, axes turned round."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor

from ..errors import LoadError

#: Orders of axes in which other libraries keep weights, and how PyTorch's come of them.
_ORDERS = {
    (3, 2, 0, 1): "the order of TensorFlow and Flax, [H, W, in, out]",
    (2, 3, 0, 1): "the order of TensorFlow's depthwise convolutions, [H, W, channel, 1]",
    (2, 1, 0): "the order of TensorFlow and Flax, [W, in, out]",
    (1, 0): "the order of TensorFlow and Flax, [in, out]",
}
_LEAST_ALIKE = 0.6
_MOST_PAIRS = 3


def without_prefix(
    state: Mapping[str, Tensor], forms: Iterable[Collection[str]], file: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors by their own names where all of a network stands behind one prefix, and notes on it.

    Args:
        state: tensors by the file's names.
        forms: all names of the network, in each form that they have.
        file: its name, for the message.

    Returns:
        The same tensors if the names are right as they are, or if no prefix has all of them behind it.

    Raises:
        LoadError: if the file has the whole network more than once.
    """
    forms = [set(names) for names in forms]
    if any(2 * sum(name in state for name in names) > len(names) for names in forms):
        return dict(state), ()
    whole = [p for names in forms for p, count in _before(state, names).items() if count == len(names)]
    if not whole:
        return dict(state), ()
    if len(whole) > 1:
        raise LoadError(
            f"{file} has the network {len(whole)} times, behind {', '.join(map(repr, whole[:4]))}, and which is meant "
            f"cannot be told; take one: {{k.removeprefix({whole[0]!r}): v for k, v in … if k.startswith({whole[0]!r})}}"
        )
    prefix = whole[0]
    notes = (f"the prefix {prefix!r} was taken off its names",)
    others = [name for name in state if not name.startswith(prefix)]
    if others:
        listed = ", ".join(repr(name[:60]) for name in others[:3]) + (" …" if len(others) > 3 else "")
        verb = "tensor without it was" if len(others) == 1 else "tensors without it were"
        notes += (f"{len(others)} {verb} left out ({listed})",)
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, notes


def _before(names: Iterable[str], known: Collection[str]) -> Counter[str]:
    """How many known names stand behind each prefix that ends in a dot."""
    before: Counter[str] = Counter()
    for name in names:
        at = name.find(".")
        while at >= 0:
            if name[at + 1 :] in known:
                before[name[: at + 1]] += 1
            at = name.find(".", at + 1)
    return before


def prefix_hint(missing: Sequence[str], extra: Sequence[str]) -> str:
    """What stands before the file's names, or before the network's, where nothing else keeps them apart.

    Args:
        missing: names of the network that the file lacks.
        extra: names of the file that the network lacks.

    Returns:
        A sentence with the line that takes it off or puts it there; empty if there is none.
    """
    for ours, theirs, told in (
        (missing, extra, "Most of its names begin with {!r}: take that off, {{k.removeprefix({!r}): v for k, v in …}}"),
        (extra, missing, "Most of the network's names begin with {!r}: put that before its names, {{{!r} + k: v …}}"),
    ):
        for prefix, count in _before(theirs, set(ours)).most_common(1):
            if 2 * count > min(len(ours), len(theirs)):
                return told.format(prefix, prefix)
    return ""


def nearest_names(
    missing: Sequence[str],
    extra: Sequence[str],
    due: Mapping[str, Sequence[int]],
    found: Mapping[str, Sequence[int]],
) -> str:
    """Pairs of a name that is missing and one of the same shape that is too many, the most alike ones.

    Args:
        missing: names of the network that the file lacks.
        extra: names of the file that the network lacks.
        due: the network's shapes by name.
        found: the file's.

    Returns:
        A sentence; empty if no two are alike.
    """
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for key in extra:
        by_shape.setdefault(tuple(found[key]), []).append(key)
    pairs = []
    for key in missing[:100]:
        near = difflib.get_close_matches(key, by_shape.get(tuple(due[key]), [])[:1000], n=1, cutoff=_LEAST_ALIKE)
        if near:
            pairs.append((difflib.SequenceMatcher(None, key, near[0]).ratio(), near[0], key))
    best = sorted(pairs, key=lambda pair: -pair[0])[:_MOST_PAIRS]
    listed = ", ".join(f"{theirs!r} for {ours!r}" for _, theirs, ours in best)
    return f"Nearest names of the same shape: {listed}" if listed else ""


def axis_order(keys: Sequence[str], due: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> str:
    """The order of axes that would make the first other shape fit.

    Args:
        keys: names of tensors whose shapes are others.
        due: the network's shapes by name.
        found: the file's.

    Returns:
        A sentence with the call that brings it about; empty if none does.
    """
    for key in keys:
        there, here = tuple(found[key]), tuple(due[key])
        if len(there) == len(here) and sorted(there) == sorted(here) and len(here) <= 5:
            others = itertools.permutations(range(len(here)))
            order = next(o for o in (*_ORDERS, *others) if len(o) == len(here) and tuple(there[i] for i in o) == here)
            whose = f" from {_ORDERS[order]}" if order in _ORDERS else ""
            return f"{key} fits by .permute{order}{whose}; bring all weights into PyTorch's order"
        if [n for n in there if n > 1] == [n for n in here if n > 1]:
            return f"{key} fits by .reshape{here}"
    return ""
