"""What to say of a pickle that wants to run code, and how its owner gets the weights out of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import LoadError
from .opcodes import Content
from .planned import Called, Planned

#: Where training scripts put the weights inside a checkpoint, most specific first.
NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
#: Keys of :data:`NESTS` that no layer has for a name.
CERTAIN = ("state_dict", "model_state_dict")
#: Opcodes of pickle protocols 0 and 1, which newer ones write in other ways.
_OLD = frozenset(("INT", "LONG", "FLOAT", "STRING", "BINSTRING", "UNICODE", "PUT", "GET", "DICT", "LIST"))
_BY_NUMBER = "names classes by numbers of a registry (copyreg) that the file does not hold"
_APART = "has left its numbers out, in buffers of their own"
_BY_HAND = "makes objects in the way of protocol 0"
#: What the others do that the safe reader does not know; saving the same again would write the same again.
_ODD = {
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _BY_NUMBER),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), _APART),
    **dict.fromkeys(("INST", "OBJ"), _BY_HAND),
    "PERSID": "refers to what lies outside of it by a line of text",
    "LONG4": "has a whole number of more than 255 bytes",
    **dict.fromkeys(("POP", "POP_MARK", "DUP"), "takes values off its stack again, or doubles them"),
}
_MOST_NAMED = 8
_DEEPEST = 8  # entries within entries
#: What PyTorch makes without foreign code, and yet is no block of numbers.
_NO_PLAIN_TENSORS = {
    "torch._utils._rebuild_nested_tensor": "nested tensors (give every part a name of its own: tensor.unbind())",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a class that wraps others",
    "torch._utils._rebuild_device_tensor_from_numpy": "tensors of another device (tensor.cpu())",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensors of another device (tensor.cpu())",
}


def named(names: Iterable[str]) -> str:
    """Names of functions and classes in a list that stays readable."""
    known = [n if len(n) <= 80 else f"{n[:80]}…" for n in names]
    known = [n.encode("unicode_escape").decode() for n in known]  # a name may hold anything
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    return ", ".join(known[:_MOST_NAMED]) + more


def foreign_code(path: Path, content: Content) -> LoadError:
    """The refusal of a pickle that wants more than tensors, with everything it wants and the way to convert it."""
    if all(name in _NO_PLAIN_TENSORS for name in content.foreign):
        kinds = ", ".join(dict.fromkeys(_NO_PLAIN_TENSORS[name] for name in content.foreign))
        return LoadError(f"{path} holds {kinds}, which cannot be read; save plain tensors, e.g. by .detach().clone()")
    opened = f"torch.load({path.name!r}, map_location='cpu', weights_only=False)"
    return LoadError(
        f"{path} is a pickle that wants to run {named(content.foreign)}; only plain tensors are read, because a pickle "
        "can run any code. If you trust whoever made it, convert it where its own code is installed: import torch; "
        f"torch.save({_weights_of(content.top, opened)}, 'weights.pth') and load weights.pth. Or give the module "
        "itself to load()"
    )


def _weights_of(top: Any, opened: str) -> str:
    """The expression that takes the state dict out of what a pickle makes."""
    if not isinstance(top, dict | Called):
        return "model.state_dict()"
    for _ in range(_DEEPEST):
        if isinstance(top, Called):
            return f"{opened}.state_dict()"
        if any(isinstance(v, Planned) for v in top.values()):
            plain = "v.detach().as_subclass(torch.Tensor)"  # of a class of its own it would be refused again
            return f"{{k: {plain} for k, v in {opened}.items() if isinstance(v, torch.Tensor)}}"
        keys = [k for k in NESTS if k in top] + [k for k in top if isinstance(k, str | int) and len(repr(k)) <= 80]
        holding = [k for k in keys if isinstance(top[k], dict) and _holds(top[k], set())]
        holding += [k for k in keys if k in NESTS and isinstance(top[k], Called)]
        if not holding:
            break
        key = min(holding, key=keys.index)
        top, opened = top[key], f"{opened}[{key!r}]"
    return f"{opened}[ENTRY].state_dict()"


def _holds(top: dict[Any, Any], seen: set[int], depth: int = _DEEPEST) -> bool:
    """Whether there are tensors, or a module under a usual key, somewhere within."""
    if id(top) in seen:
        return False
    seen.add(id(top))
    if any(isinstance(v, Planned) or (isinstance(v, Called) and k in NESTS) for k, v in top.items()):
        return True
    return depth > 0 and any(isinstance(v, dict) and _holds(v, seen, depth - 1) for v in top.values())


def odd_opcodes(path: Path, content: Content) -> LoadError:
    """The refusal of a pickle in opcodes that the safe reader does not know, with what would help.

    Args:
        path: the file.
        content: of its pickle, with no foreign code.
    """
    unread = list(content.unread)
    odd = dict.fromkeys(_ODD[name] for name in unread if name in _ODD)
    listed = f"(opcode{'' if len(unread) == 1 else 's'} {', '.join(unread[:4])})"
    if odd:
        return LoadError(
            f"{path} is not a readable PyTorch file: its pickle {' and '.join(odd)} {listed}, which torch.save "
            "does not write of tensors. Save the tensors alone, where the file was made: "
            "torch.save(model.state_dict(), 'weights.pth')"
        )
    newer = f"{'a newer' if set(unread) - _OLD else 'an older'} pickle protocol than the 2 that is read safely"
    return LoadError(
        f"{path} was written with {newer} {listed}; if you trust whoever made it, save it again: import torch; "
        f"torch.save(torch.load({path.name!r}, map_location='cpu', weights_only=False), 'weights.pth')"
    )
