"""Networks of torchvision, by its own names, with its weights and what these tell of the input."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from ...errors import ArgumentError, LoadError, unknown_name
from ..files.checkpoint import file_hash, read_checkpoint
from ..fitting import fill, other_classes, seeded
from ..opened import RANDOM, UNTRAINED, Opened
from ..quoting import named
from ..spec import InputSpec
from .filling import check_room, cut_note
from .importing import importing, library

#: Networks that do not take one image, by the part of torchvision that they are in, and what to open instead.
REFUSED = {
    "detection": "takes lists of images and answers with boxes; its trunk is a network of images: "
    "wa.load(model.backbone.body, input=wa.InputSpec(shape=(3, 800, 800)))",
    "video": "takes clips of several frames; networks of single images, signals and feature vectors can be read",
    "optical_flow": "takes two images at once; networks of single images, signals and feature vectors can be read",
    "quantization": "has its weights packed as integers; open the network it was made from, torchvision:{plain}",
}
#: Pixels on a side where the weights do not tell any.
ASSUMED = 224
#: ImageNet's mean and deviation, which torchvision's networks are trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_network(name: str, weights: str | None) -> Opened:
    """A network of torchvision.

    Args:
        name: ``resnet18`` or, with the name of its weights, ``resnet18.IMAGENET1K_V1``.
        weights: a file's path, :data:`RANDOM`, or ``None`` for those that torchvision downloads.

    Raises:
        MissingPackageError: if torchvision is missing or broken.
        UnknownNameError: for a name that torchvision does not have, with the nearest.
        ArgumentError: for networks that take something else than one image.
        LoadError: if the weights cannot be had, or do not fit.
    """
    models = library("torchvision.models")
    base, dot, tag = name.partition(".")
    base = base.lower()
    entry = _entry(models, base, tag if dot else None)
    file, notes, source = "", (), ""
    with seeded(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # on how networks will begin their training some day
        check_room(lambda: _constructed(models, base), f"torchvision:{name}")
        if weights is None:
            if entry is None:
                raise LoadError(f"torchvision has no weights for {base}; give weights=FILE, or weights='random'")
            file = _fetched(entry, base)
            with _making(base):
                module = models.get_model(base, weights=entry)
            notes, source = (f"weights {entry.name} of torchvision, {urlparse(entry.url).netloc}",), entry.name
        elif weights == RANDOM:
            module, notes = _made(models, base), (UNTRAINED,)
        else:
            module, notes, file = _filled(models, base, Path(weights))
    spec, said = _input(entry)
    module = module.eval().requires_grad_(False)
    source = f"torchvision:{base}.{source}" if source and source != tag else ""
    notes = (*notes, *said)
    return Opened(f"torchvision:{name}", module, spec, dict(module.state_dict()), notes, file, source=source)


def _entry(models: ModuleType, base: str, tag: str | None) -> Any:
    """The entry of torchvision on the weights that are meant; ``None`` if there are none.

    Args:
        models: ``torchvision.models``.
        base: the network's name.
        tag: the weights' name; ``None`` for those that torchvision thinks best.
    """
    if base not in models.list_models():
        hint = "torchvision.models.list_models() lists them"
        raise unknown_name("torchvision model", base, models.list_models(), hint=hint)
    part = models.get_model_builder(base).__module__.split(".")[2:3]
    why = REFUSED.get("".join(part))
    if why is not None:
        raise ArgumentError(f"torchvision:{base} {why.format(plain=base.removeprefix('quantized_'))}")
    entries = models.get_model_weights(base)
    known = [*entries.__members__]
    if tag is not None and tag.upper() not in known:
        raise unknown_name(f"weights of torchvision's {base} called", tag, known)
    return entries[(tag or "DEFAULT").upper()] if known else None


def _fetched(entry: Any, base: str) -> str:
    """Sees to it that the file of weights is here and holds nothing but tensors; its name and hash."""
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    try:
        entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
        return file_hash(Path(folder, os.path.basename(urlparse(entry.url).path)))
    except Exception as error:  # connections, archives and disks fail in any way they like
        raise LoadError(
            f"torchvision cannot get the weights of {base} from {entry.url} ({named(error)}). Without a connection: "
            f'give that file, weights=FILE (--weights FILE), or weights="random"; what was downloaded once is found in '
            f"{folder}"
        ) from error


def _made(models: ModuleType, base: str, **options: Any) -> nn.Module:
    """An untrained network; whatever torchvision stumbles over is told in a sentence."""
    with _making(base):
        return _constructed(models, base, **options)


def _constructed(models: ModuleType, base: str, **options: Any) -> nn.Module:
    """An untrained network, whose trunk is untrained too."""
    if "weights_backbone" in inspect.signature(models.get_model_builder(base)).parameters:
        options["weights_backbone"] = None
    return models.get_model(base, weights=None, **options)


@contextmanager
def _making(base: str) -> Iterator[None]:
    """Errors of torchvision's constructors as ours."""
    try:
        yield
    except ImportError:
        with importing("torchvision"):  # a package that some networks need besides
            raise
    except Exception as error:  # constructors fail in any way they like
        raise LoadError(f"torchvision cannot make {base} ({named(error)})") from error


def _filled(models: ModuleType, base: str, path: Path) -> tuple[nn.Module, tuple[str, ...], str]:
    """A network with the weights of a file, its classes and its heads; what is to be said of it; the file's hash."""
    checkpoint = read_checkpoint(path)
    state, notes = checkpoint.tensors, []
    module = _made(models, base)
    options: dict[str, Any] = {}
    if hasattr(module, "aux_logits") and not any(k.lower().startswith("aux") for k in state):
        options["aux_logits"] = False
    if hasattr(module, "aux_classifier") and any(k.startswith("aux_classifier.") for k in state):
        options["aux_loss"] = True
    if (classes := other_classes(module, state)) is not None:
        options["num_classes"] = classes
    if options:
        module = _made(models, base, **options)
        notes += [f"{option}={value} as the file has it" for option, value in options.items()]
    if hasattr(module, "transform_input"):
        notes.append(
            "transform_input is off, as torchvision makes the network without weights of its own; one that went on "
            "from those has it on: build it with transform_input=True and give the module"
        )
    changed = fill(module, state, path, f"torchvision:{base}")
    return module, (*checkpoint.kept_notes, *notes, *changed, f"weights from {path.name}"), checkpoint.file


def _input(entry: Any) -> tuple[InputSpec, tuple[str, ...]]:
    """What a network takes in, and what of torchvision's preparation of pictures that does not hold."""
    told = entry.transforms() if entry is not None else None
    mean, std = tuple(getattr(told, "mean", MEAN)), tuple(getattr(told, "std", STD))
    scaled, cut = (getattr(told, name, None) for name in ("resize_size", "crop_size"))
    side = (cut or scaled or [ASSUMED])[-1]
    size = (cut or scaled or [ASSUMED])[0], side
    notes: list[str] = []
    if told is None or not (cut or scaled):
        notes.append(f"torchvision does not tell a size of images; {ASSUMED} × {ASSUMED} pixels are assumed")
    elif not cut:
        notes.append(
            f"torchvision scales the short side of pictures to {side} pixels and cuts nothing; here they are cut to "
            f"{size[0]} × {size[1]}"
        )
    else:
        way = str(getattr(getattr(told, "interpolation", None), "value", "bilinear"))
        notes.append(cut_note("torchvision", (scaled or [side])[0], size, way))
    return InputSpec((len(mean), *size), mean=mean, std=std), tuple(filter(None, notes))
