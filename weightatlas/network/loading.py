"""``load``: whatever holds weights becomes a Network."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, LoadError, WeightAtlasWarning
from ..models import FAMILIES, RANDOM, InputSpec, ModelSpec, Opened, adapted, model_spec, open_adapted
from ..models.files.checkpoint import SUFFIXES, read_checkpoint
from ..models.fitting import built, fill, seeded
from ..models.opened import UNTRAINED
from .network import Network

#: Image size that is tried when nobody says which; most image networks were trained on it.
ASSUMED_SIZE = (224, 224)


def load(
    source: str | Path | nn.Module, *, input: InputSpec | None = None, weights: str | Path | None = None
) -> Network:
    """A :class:`Network` from a model's name, a torch module, or a file of weights.

    Args:
        source: ``"efficientnet_lite0"`` or ``"inceptionv1"``; another library's network, ``"timm:resnet18"``,
            ``"torchvision:resnet18"``, ``"hf:REPOSITORY or folder"``, ``"onnx:FILE"``; any ``torch.nn.Module``; or the
            path of a safetensors file or of what ``torch.save`` wrote (``.pth``, ``.pt``, ``.bin``, ``.ckpt``). A
            module stays the caller's: it is neither copied nor changed. A file alone has no architecture, so its
            layers are its weight tensors: direct weights, factorization and banding work. ``weightatlas models``
            lists what there is.
        input: what a module takes in. Without it, a module that begins with one 2-d convolution gets the channels
            from there, 224 × 224 pixels and values 0 … 1, and a warning says so.
        weights: for a name, a file of weights to use instead of the published ones, or ``"random"`` for those that
            training begins with.

    Returns:
        The network. A module is run once on an example when ``.layers`` is first read, or at once if ``input`` is
        missing.

    Raises:
        UnknownNameError: for a name that is neither a model nor a file.
        LoadError: for a file that cannot be read, weights that do not fit the model, or weights that cannot be
            downloaded.
        ArgumentError: for arguments that do not go together.
        MissingPackageError: if the library or the package that has the network is missing or broken.

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
    if isinstance(source, str) and not source.strip():
        raise ArgumentError("load got an empty name; give a model's, such as 'efficientnet_lite0', or a file's path")
    if isinstance(weights, str) and not weights.strip():
        raise ArgumentError("weights= got an empty path; give a file's, 'random', or leave it out")
    known = adapted(source) if isinstance(source, str) else None
    if known is not None:
        return _network(open_adapted(*known, None if weights is None else str(weights)), str(source), input, weights)
    path = Path(source)
    # a folder of the same name, such as an atlas, does not hide a model
    if isinstance(source, Path) or (source not in FAMILIES and (path.suffix in SUFFIXES or os.path.exists(path))):
        if input is not None or weights is not None:
            raise ArgumentError(f"{path} alone is a checkpoint; input= and weights= go with a module or a name")
        checkpoint = read_checkpoint(path)
        return Network(path.name, None, None, checkpoint.tensors, checkpoint.notes, checkpoint.file)
    return _network(_opened(model_spec(source), weights), source, input, weights)


def _opened(spec: ModelSpec, weights: str | Path | None) -> Opened:
    """A network that we bring ourselves, with the published weights, a file's, or random ones."""
    if weights == RANDOM:
        with seeded():
            module = spec.build()
        notes, file = (UNTRAINED,), ""
    else:
        path = Path(weights) if weights is not None else spec.find_weights()
        checkpoint = spec.read(path)
        module, told = built(spec, checkpoint.tensors)
        changed = fill(module, checkpoint.tensors, path, spec.name)
        notes, file = (*checkpoint.kept_notes, *told, *changed), checkpoint.file
        notes += (f"weights from {path.name}",) if weights is not None else ()
    module = module.eval().requires_grad_(False)
    return Opened(spec.name, module, spec.input, dict(module.state_dict()), notes, file, blocks=spec.blocks)


def _network(opened: Opened, source: str, input: InputSpec | None, weights: str | Path | None) -> Network:
    """What was opened by name, with the way to open it again."""
    if input is not None and opened.module is None:
        raise ArgumentError(f"{source} has weights but no module that takes an input; input= goes with one that has")
    found = Network(
        opened.name, opened.module, input or opened.input, opened.tensors, opened.notes, opened.file, opened.layers
    )
    found.blocks = opened.blocks
    if input is None:
        file = None if weights is None else weights if weights == RANDOM else str(Path(weights).absolute())
        found.origin = (opened.source or source, None if file is None else str(file))
    return found


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
