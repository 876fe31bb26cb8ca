"""A state dict into a module, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import LoadError


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Loads a state dict into a module, or tells exactly what does not fit.

    Args:
        module: gets the values, widened or narrowed to its own types.
        state: tensors by the module's own names.
        path: the file they come from, for the message.
        name: the network's, for the message.

    Raises:
        LoadError: for names that are missing or too many, other shapes, or numbers of another kind.
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
            parts.append(f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}")
        raise LoadError(f"{path.name} does not fit {name}: it {'; it '.join(parts)}")
    foreign = [k for k, v in state.items() if v.is_quantized or (own[k].is_floating_point() != v.is_floating_point())]
    if foreign:
        key = foreign[0]
        raise LoadError(f"{path.name} does not fit {name}: {key} is {state[key].dtype}; dequantise the weights first")
    module.load_state_dict(state, strict=False)
