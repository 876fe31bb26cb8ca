"""What a network is: specifications as data, the modules we bring, adapters to libraries, readers of weight files."""

from __future__ import annotations

import importlib

from ..errors import unknown_name
from .opened import RANDOM as RANDOM
from .opened import Opened as Opened
from .spec import ArticleFigure as ArticleFigure
from .spec import InputSpec as InputSpec
from .spec import ModelSpec as ModelSpec

#: Networks that load by name, and the file of each one's family.
FAMILIES = {"efficientnet_lite0": "efficientnet_lite", "inceptionv1": "inceptionv1"}
#: What stands before the colon where another library's networks are meant, and the file of each one's adapter.
ADAPTERS = {"timm": "timm", "torchvision": "torchvision", "hf": "huggingface", "onnx": "onnx"}
#: What such networks are called.
FORMS = ("timm:NAME", "torchvision:NAME", "hf:REPOSITORY", "hf:FOLDER", "onnx:FILE")


def model_spec(name: str) -> ModelSpec:
    """The specification of a network that loads by name.

    Raises:
        UnknownNameError: with the names there are.
    """
    if name not in FAMILIES:
        hint = (
            f"{', '.join(FORMS)}, a path to a .safetensors, .pth, .pt, .bin or .ckpt "
            "file, or a torch module, loads as well"
        )
        raise unknown_name("model", name, FAMILIES, hint=hint)
    return importlib.import_module(f".{FAMILIES[name]}", __package__).SPEC


def adapted(source: str) -> tuple[str, str] | None:
    """The adapter and the name of another library's network, ``timm:resnet18``; ``None`` for anything else."""
    prefix, colon, name = source.partition(":")
    return (prefix, name) if colon and prefix in ADAPTERS else None


def open_adapted(prefix: str, name: str, weights: str | None) -> Opened:
    """Another library's network.

    Args:
        prefix: one of :data:`ADAPTERS`.
        name: what the library calls it.
        weights: a file's path, :data:`RANDOM`, or ``None`` for those that the library brings.

    Raises:
        MissingPackageError: if the library is missing or broken, with the command that installs it.
        UnknownNameError, LoadError, ArgumentError: as the adapter says.
    """
    return importlib.import_module(f".adapters.{ADAPTERS[prefix]}", __package__).open_network(name, weights)
