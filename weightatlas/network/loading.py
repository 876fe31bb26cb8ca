"""``load``: whatever holds weights becomes a Network."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, LoadError, WeightAtlasWarning
from ..models import FAMILIES, InputSpec, ModelSpec, model_spec
from ..models.checkpoint import SUFFIXES, read_checkpoint
from .network import Network

#: Image size that is tried when nobody says which; most image networks were trained on it.
ASSUMED_SIZE = (224, 224)


def load(
    source: str | Path | nn.Module, *, input: InputSpec | None = None, weights: str | Path | None = None
) -> Network:
    """A :class:`Network` from a model's name, a torch module, or a file of weights.

    Args:
        source: ``"efficientnet_lite0"``; any ``torch.nn.Module``; or the path of a ``.safetensors``, ``.pth`` or
            ``.pt`` file. A module stays the caller's: it is neither copied nor changed. A file alone has no
            architecture, so its layers are its weight tensors: direct weights, factorization and banding work.
        input: what a module takes in. Without it, a module that begins with one 2-d convolution gets the channels
            from there, 224 × 224 pixels and values 0 … 1, and a warning says so.
        weights: for a name, a file of weights to use instead of the published ones.

    Returns:
        The network. A module is run once on an example when ``.layers`` is first read, or at once if ``input`` is
        missing.

    Raises:
        UnknownNameError: for a name that is neither a model nor a file.
        LoadError: for a file that cannot be read, or weights that do not fit the model.
        ArgumentError: for arguments that do not go together.
        MissingPackageError: if the published weights are not installed.

    Example:
        >>> import torch, weightatlas as wa
        >>> net = wa.load(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 5)), input=wa.InputSpec(shape=(1, 28, 28)))
        >>> net.layers["0"].units, net.layers["0"].grid
        (8, (24, 24))
    """
    if input is not None and not isinstance(input, InputSpec):
        raise ArgumentError(f"input={input!r} is not an InputSpec; for a shape alone give input=InputSpec(shape=…)")
    if weights is not None and not isinstance(weights, str | Path):
        raise ArgumentError(f"weights= takes a path, not a {type(weights).__name__}")
    if isinstance(source, nn.Module):
        if weights is not None:
            raise ArgumentError("weights= goes with a model's name; load them into your module with load_state_dict")
        return _from_module(source, input)
    if not isinstance(source, str | Path):
        raise ArgumentError(f"load takes a name, a path or a torch module, not a {type(source).__name__}")
    path = Path(source)
    # a folder of the same name, such as an atlas, does not hide a model
    if isinstance(source, Path) or (source not in FAMILIES and (path.suffix in SUFFIXES or path.exists())):
        if input is not None or weights is not None:
            raise ArgumentError(f"{path} alone is a checkpoint; input= and weights= go with a module or a name")
        checkpoint = read_checkpoint(path)
        return Network(path.name, None, None, checkpoint.tensors, checkpoint.notes)
    return _from_spec(model_spec(source), input, weights)


def _from_spec(spec: ModelSpec, input: InputSpec | None, weights: str | Path | None) -> Network:
    path = Path(weights) if weights is not None else spec.find_weights()
    checkpoint = read_checkpoint(path)
    module = spec.build().eval().requires_grad_(False)
    _fill(module, spec.rename(checkpoint.tensors), path, spec.name)
    notes = checkpoint.notes + ((f"weights from {path.name}",) if weights is not None else ())
    network = Network(spec.name, module, input or spec.input, dict(module.state_dict()), notes)
    if input is None:
        network.origin = (spec.name, None if weights is None else str(path.absolute()))
    return network


def _fill(module: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    """Loads a state dict, telling exactly what does not fit."""
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


def _from_module(module: nn.Module, input: InputSpec | None) -> Network:
    name = type(module).__name__
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        raise LoadError(
            f"{name} is TorchScript, whose modules cannot be watched; load the Python module it was made from"
        )
    tensors = (*module.named_parameters(), *module.named_buffers())
    lazy = [n for n, p in tensors if nn.parameter.is_lazy(p)]
    if lazy:
        raise LoadError(f"{name} has lazy parameters without a shape yet ({lazy[0]}); run it once before load()")
    empty = [n for n, p in tensors if p.is_meta]
    if empty:
        raise LoadError(f"{name} is on the meta device, without values ({empty[0]}); load its weights first")
    notes: tuple[str, ...] = ()
    if input is None:
        input, note = _assumed_input(module)
        notes = (note,)
    # packed weights of quantised modules come as tuples and types
    state = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    network = Network(name, module, input, state, notes)
    if notes:
        _check_assumption(network, module)
        warnings.warn(WeightAtlasWarning(notes[0]), stacklevel=3)
    return network


def _first_convolution(module: nn.Module) -> tuple[str, nn.Module] | None:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return next(((n, m) for n, m in module.named_modules() if isinstance(m, kinds)), None)


def _assumed_input(module: nn.Module) -> tuple[InputSpec, str]:
    first = _first_convolution(module)
    if first is None or not isinstance(first[1], nn.Conv2d):
        begins = f"begins with {first[0]!r}, a {type(first[1]).__name__}" if first else "has no convolution"
        raise ArgumentError(
            f"what does {type(module).__name__} take in? It {begins}, which does not tell. Give "
            "input=InputSpec(shape=(C, H, W)), or (C, L) for signals, (F,) for feature vectors"
        )
    channels = first[1].in_channels
    spec = InputSpec(shape=(channels, *ASSUMED_SIZE))
    note = (
        f"no InputSpec was given: {channels} channels taken from {first[0]!r}; {ASSUMED_SIZE[0]}×{ASSUMED_SIZE[1]} "
        "pixels, values 0 … 1 and no normalisation are assumed. Weights do not depend on it, grids, receptive fields "
        "and anything run on images do: pass input=InputSpec(shape=…, mean=…, std=…)"
    )
    return spec, note


def _check_assumption(network: Network, module: nn.Module) -> None:
    """The first convolution by name must be the one that alone reads the input."""
    try:
        layers = network.layers
    except LoadError as error:
        raise LoadError(f"{error} (no InputSpec was given, and the assumed shape does not work)") from error
    first = _first_convolution(module)
    convolutions = [layer for layer in layers.values() if layer.kind.endswith("conv")]
    reading = [layer.name for layer in convolutions if layer.source == "input"]
    if first is None or not convolutions or convolutions[0].name != first[0] or len(reading) > 1:
        which = ", ".join(repr(n) for n in reading) or "none directly"
        raise ArgumentError(
            f"which convolution of {network.name} reads the input is ambiguous ({which}); "
            "give input=InputSpec(shape=(C, H, W))"
        )
