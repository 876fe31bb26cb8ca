"""The few functions that ``torch.save`` has called when a file is opened, and what they would make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .planned import SCALARS, Called, Named, OddPickleError, Planned, Stored, Tables, storage_type, whole

SCHEMES = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric")


def knows(name: str) -> bool:
    """Whether a global is one of those that tensors are made with."""
    base, _, last = name.rpartition(".")
    return (
        name in FUNCTIONS
        or name in _TYPES
        or storage_type(name) is not None
        or (base == "torch" and (last in SCHEMES or isinstance(getattr(torch, last, None), torch.dtype)))
    )


def call(function: Any, arguments: Any, tables: Tables) -> Any:
    """What a pickle's call would make.

    Raises:
        OddPickleError: for calls that ``torch.save`` does not write.
    """
    name = function.name if isinstance(function, Named) else function.by if isinstance(function, Called) else None
    if name is None or not isinstance(arguments, tuple):
        raise OddPickleError("calls what is not a function")
    if isinstance(function, Called) or not knows(name):
        return Called(name)
    make = FUNCTIONS.get(name)
    made = make(tables, *arguments) if make else None
    if made is None:
        raise OddPickleError(f"calls {name} with arguments that torch.save does not write")
    return made


def _hooks(hooks: Any) -> bool:
    return hooks is None or hooks == {}


def _attributes(state: Any) -> bool:
    """Whether attributes beside a tensor's values leave its methods alone."""
    if isinstance(state, tuple) and len(state) == 2 and state[1] is None:
        state = state[0]
    return isinstance(state, dict) and not any(not isinstance(k, str) or hasattr(torch.nn.Parameter, k) for k in state)


def _tensor(tables: Tables, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Planned | None:
    hooks = rest[1] if len(rest) > 1 else None
    if not isinstance(storage, Stored) or not whole((offset,)) or not whole(shape) or not whole(stride):
        return None
    if len(shape) != len(stride) or not _hooks(hooks) or len(rest) > 3:
        return None
    return tables.plan(Planned(storage.dtype, shape, stride, offset, storage))


def _typed(
    tables: Tables, storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Planned | None:
    kind = _dtype(dtype)
    made = _tensor(tables, storage, offset, shape, stride, grad, hooks) if kind else None
    if made is not None and kind is not None:
        made.dtype = kind
    return made


def _dtype(named: Any) -> torch.dtype | None:
    found = getattr(torch, named.name.removeprefix("torch."), None) if isinstance(named, Named) else None
    return found if isinstance(found, torch.dtype) else None


def _quantised(
    tables: Tables, storage: Any, offset: Any, shape: Any, stride: Any, how: Any, grad: Any, hooks: Any
) -> Planned | None:
    made = _tensor(tables, storage, offset, shape, stride, grad, hooks)
    if made is not None:
        made.form = "quantised"
    return made if isinstance(how, tuple) and how and isinstance(how[0], Named) else None


def _sparse(tables: Tables, layout: Any, data: Any) -> Planned | None:
    if not isinstance(data, tuple) or not 3 <= len(data) <= 4:
        return None
    parts = tuple(d for d in data if isinstance(d, Planned))
    shape = next((d for d in data if isinstance(d, tuple)), None)
    if not parts or shape is None or not whole(shape):
        return None
    return tables.plan(Planned(parts[-1].dtype, shape, form="sparse", parts=parts))


def _meta(tables: Tables, dtype: Any, shape: Any, stride: Any, grad: Any) -> Planned | None:
    kind = _dtype(dtype)
    return tables.plan(Planned(kind, shape, stride, form="meta")) if kind and whole(shape) and whole(stride) else None


def _parameter(tables: Tables, data: Any, grad: Any, hooks: Any, state: Any = None) -> Planned | None:
    fine = isinstance(data, Planned) and _hooks(hooks) and (state is None or _attributes(state))
    return data if fine else None


def _of_type(tables: Tables, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    plain = isinstance(kind, Named) and kind.name in ("torch.Tensor", "torch.nn.parameter.Parameter")
    return call(function, arguments, tables) if plain and _attributes(state) else None


def _ordered(tables: Tables, pairs: Any = ()) -> dict[Any, Any] | None:
    """An ordered dict, empty, or from pairs as Python 2 wrote it."""
    tables.copy(tables_keys := [p[0] for p in pairs if isinstance(p, list | tuple) and len(p) == 2])
    return dict(pairs) if len(tables_keys) == len(pairs) else None


def _counted(tables: Tables, counts: Any = ()) -> Called | None:
    tables.copy(counts)
    return Called("collections.Counter")


def _set(tables: Tables, items: Any = ()) -> set[Any]:
    tables.copy(items)
    return set()


def _encoded(tables: Tables, text: Any, encoding: Any = "latin1") -> bytes | None:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        return None
    tables.turn(text)
    return text.encode("utf-8")


def _bytes(tables: Tables, data: Any = b"", encoding: Any = "latin-1") -> bytes | None:
    if not isinstance(data, str | bytes) or encoding not in ("latin1", "latin-1", "utf-8"):
        return None
    tables.turn(data)
    return b""


def _plain(tables: Tables, *arguments: Any) -> Called | None:
    simple = all(isinstance(a, SCALARS) or whole(a) for a in arguments)
    return Called("a plain value") if simple else None


def _size(tables: Tables, shape: Any = ()) -> tuple[int, ...] | None:
    short = isinstance(shape, tuple | list) and len(shape) <= 64
    return tuple(shape) if short and whole(tuple(shape)) else None


#: What ``torch.save`` calls, and what it makes; ``None`` where the arguments are not those that it writes.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counted,
    "builtins.set": _set,
    "builtins.bytearray": _bytes,
    "builtins.complex": _plain,
    "_codecs.encode": _encoded,
    "torch.Size": _size,
    "torch.device": _plain,
    "torch.serialization._get_layout": _plain,
}
_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter")
