"""The weights inside of what was saved: through the entries that training scripts put around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import LoadError
from .readable import unpacked
from .refusing import CERTAIN, NESTS

#: Entries within entries that are looked through; no script nests its weights as deep.
DEEPEST = 8
_SHOWN = 60  # characters of a name
_LONGEST_KEY = 200  # characters of a key that a line of code repeats


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The dict of tensors inside of what was saved, and notes on the way there and on what lay beside it.

    An entry under a usual key (``"state_dict"``, ``"model"``, …) is the weights, whatever lies beside it: a best
    accuracy, a step, the state of a random number generator. Only where more of the tensors that layers are made of lie
    outside of it is the dict itself the weights, unless the key can mean nothing else. Without a usual key, the one
    entry that holds weights is taken, on every level.

    Args:
        content: what was saved.
        path: the file, for messages.

    Raises:
        LoadError: if there are no tensors, or it cannot be told which are meant, with the line that takes them out.
    """
    notes: tuple[str, ...] = ()
    keys: list[Any] = []
    for _ in range(DEEPEST):
        if not isinstance(content, dict):
            raise _no_dict(path, content)
        if _optimiser(content):
            raise LoadError(
                f"{path} holds the state of an optimiser{_within(keys)}, no weights; save those by "
                "torch.save(model.state_dict(), 'weights.pth')"
            )
        key = _entry(content)
        if key is None:
            break
        notes += (f"weights taken from the entry {_shown(key)}", *_left_out(content, key))
        keys.append(key)
        content = content[key]
    content, more = unpacked(content)
    tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise _no_tensors(path, content, keys)
    if len(tensors) < sum(isinstance(v, Tensor) for v in content.values()):
        raise LoadError(f"{path} holds two tensors of the same name, once as text and once as a number")
    return tensors, notes + more + _left_out(content, None)


def _entry(content: dict[Any, Any]) -> Any:
    """The key that the weights lie under; ``None`` if they are the dict's own tensors, or it cannot be told."""
    holding = [k for k, v in content.items() if isinstance(v, dict) and _weights_in(v) is not None]
    usual = [k for k in NESTS if k in holding]
    loose = {k: v for k, v in unpacked(content)[0].items() if isinstance(v, Tensor)}
    if not loose:
        return usual[0] if usual else holding[0] if len(holding) == 1 else None
    if usual and (usual[0] in CERTAIN or _like_weights(_weights_in(content[usual[0]]) or {}) >= _like_weights(loose)):
        return usual[0]
    # a lone number, a step or an accuracy, is no network
    alone = len(holding) == 1 and not usual and all(v.numel() <= 1 for v in loose.values())
    return (
        holding[0] if alone and _like_weights(_weights_in(content[holding[0]]) or {}) > _like_weights(loose) else None
    )


def _weights_in(content: dict[Any, Any], depth: int = DEEPEST, seen: set[int] | None = None) -> dict[Any, Any] | None:
    """The first dict within that holds tensors itself; optimisers' do not count."""
    seen = set() if seen is None else seen
    if id(content) in seen or _optimiser(content):
        return None
    seen.add(id(content))  # the same dict may be named again and again, on every level
    if any(isinstance(v, Tensor) for v in unpacked(content)[0].values()):
        return content
    inner = (v for v in content.values() if isinstance(v, dict)) if depth else ()
    return next((found for v in inner if (found := _weights_in(v, depth - 1, seen)) is not None), None)


def _like_weights(content: dict[Any, Any]) -> tuple[int, int, int]:
    """How many tensors are blocks of numbers, as layers have them, how many are rows, and how many there are."""
    axes = [v.ndim for v in unpacked(content)[0].values() if isinstance(v, Tensor)]
    return sum(n > 1 for n in axes), sum(n > 0 for n in axes), len(axes)


def _optimiser(content: dict[Any, Any]) -> bool:
    return isinstance(content.get("param_groups"), list) and isinstance(content.get("state"), dict)


def _left_out(content: dict[Any, Any], taken: Any) -> tuple[str, ...]:
    """What lies beside the weights and holds tensors too."""
    others = [(k, v) for k, v in content.items() if taken is None or k != taken]
    loose = [_shown(k) for k, v in others if isinstance(v, Tensor)] if taken is not None else []
    beside = [_shown(k) for k, v in others if not isinstance(v, Tensor) and _way_in(v) is not None]
    notes = ()
    if loose:
        what = "the loose tensor" if len(loose) == 1 else "the loose tensors"
        notes += (f"{what} {_some(loose)} beside the weights {'was' if len(loose) == 1 else 'were'} left out",)
    if beside:
        which = f"the {'entry' if len(beside) == 1 else 'entries'} {_some(beside)}"
        verbs = ("holds", "was") if len(beside) == 1 else ("hold", "were")
        notes += (f"{which} beside the weights {verbs[0]} tensors too and {verbs[1]} left out",)
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _way_in(value: Any, depth: int = DEEPEST, seen: set[int] | None = None) -> list[Any] | None:
    """The keys from a collection to the first within it that holds tensors itself; ``None`` if there is none."""
    seen = set() if seen is None else seen
    if not isinstance(value, dict | list | tuple) or id(value) in seen:
        return None
    seen.add(id(value))
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    if any(isinstance(v, Tensor) for _, v in pairs):
        return []
    for key, inner in pairs if depth else ():
        way = _way_in(inner, depth - 1, seen)
        if way is not None:
            return [key, *way]
    return None


def _opened(path: Path, keys: list[Any]) -> str:
    """The expression for what lies under keys in a file."""
    plain = all(isinstance(k, str | int | float) and len(repr(k)) <= _LONGEST_KEY for k in keys)
    return f"torch.load({path.name!r}, map_location='cpu', weights_only=True)" + (
        "".join(f"[{k!r}]" for k in keys) if plain else "[ENTRY]"
    )


def _no_dict(path: Path, content: Any) -> LoadError:
    """The refusal of what is no dict, with the line that makes one of it, where it holds tensors."""
    begin = f"{path} holds a {type(content).__name__}, not a dict of tensors (a state dict); "
    way = _way_in(content)
    if isinstance(content, Tensor):
        saved = f"{{'weight': {_opened(path, [])}}}"
    elif way:
        saved = _opened(path, way)
    elif way is not None:
        saved = f"{{str(i): t for i, t in enumerate({_opened(path, [])}) if isinstance(t, torch.Tensor)}}"
    else:
        return LoadError(f"{begin}save one by torch.save(model.state_dict(), 'weights.pth')")
    return LoadError(f"{begin}make one of it: import torch; torch.save({saved}, 'weights.pth')")


def _within(keys: list[Any]) -> str:
    return f" in its entry {' → '.join(map(_shown, keys))}" if keys else ""


def _no_tensors(path: Path, content: dict[Any, Any], keys: list[Any]) -> LoadError:
    """The refusal where no entry, or more than one, may be the weights."""
    listed = ", ".join(_shown(k) for k in list(content)[:6]) or "nothing"
    optimisers = [k for k, v in content.items() if isinstance(v, dict) and _optimiser(v)]
    ways = {k: way for k, v in content.items() if k not in optimisers and (way := _way_in(v)) is not None}
    if not ways and optimisers:
        which = ", ".join(map(_shown, optimisers[:6]))
        return LoadError(
            f"{path} holds no tensors but those of optimisers ({which}{_under(keys)}). Save a state_dict()"
        )
    if not ways:
        return LoadError(f"{path} holds no tensors; its entries{_within(keys)} are {listed}. Save a state_dict()")
    first = next(iter(ways))
    return LoadError(
        f"{path} holds no tensors but in its entries {', '.join(_shown(k) for k in list(ways)[:6])}{_under(keys)}, and "
        f"which is meant cannot be told; save one alone: import torch; "
        f"torch.save({_opened(path, [*keys, first, *ways[first]])}, 'weights.pth')"
    )


def _under(keys: list[Any]) -> str:
    return f" under {' → '.join(map(_shown, keys))}" if keys else ""


def _shown(name: Any) -> str:
    text = str(name) if not isinstance(name, str) else name
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
