"""What a network is: specifications as data, the modules we bring, and readers of weight files."""

from __future__ import annotations

import importlib

from ..errors import unknown_name
from .spec import InputSpec as InputSpec
from .spec import ModelSpec as ModelSpec

#: Networks that load by name, and the file of each one's family.
FAMILIES = {"efficientnet_lite0": "efficientnet_lite"}


def model_spec(name: str) -> ModelSpec:
    """The specification of a network that loads by name.

    Raises:
        UnknownNameError: with the names there are.
    """
    if name not in FAMILIES:
        hint = "A path to a .safetensors, .pth or .pt file, or a torch module, loads as well"
        raise unknown_name("model", name, FAMILIES, hint=hint)
    return importlib.import_module(f".{FAMILIES[name]}", __package__).SPEC
