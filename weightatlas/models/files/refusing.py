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
_MOST_NAMED = 8
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
    if isinstance(top, Called):
        return f"{opened}.state_dict()"
    if not isinstance(top, dict):
        return "model.state_dict()"
    if any(isinstance(v, Planned) for v in top.values()):
        plain = "v.detach().as_subclass(torch.Tensor)"  # of a class of its own it would be refused again
        return f"{{k: {plain} for k, v in {opened}.items() if isinstance(v, torch.Tensor)}}"
    entries = [k for k in top if isinstance(k, str) and len(k) <= 80]
    for key in [k for k in NESTS if k in top] + entries:
        if isinstance(top[key], dict) and any(isinstance(v, Planned) for v in top[key].values()):
            return f"{opened}[{key!r}]"
        if key in NESTS and isinstance(top[key], Called):
            return f"{opened}[{key!r}].state_dict()"
    return f"{opened}[ENTRY].state_dict()"
