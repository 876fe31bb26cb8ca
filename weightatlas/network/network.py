"""A network: a module with its input specification, or the bare tensors of a checkpoint."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..models import InputSpec
from ..records import Layer, LayerTable, Provenance, Statistics
from .images import to_input
from .observe import Observation, observe
from .table import checkpoint_table, module_table


@cache
def package_version() -> str:
    """The installed version of weightatlas."""
    try:
        return version("weightatlas")
    except PackageNotFoundError:
        return "0+unknown"


def _sum(tensor: Tensor) -> str:
    """A tensor's sum as text, so that NaN equals NaN."""
    if tensor.is_quantized:
        return str(int(tensor.int_repr().sum()))
    return str(tensor.detach().sum().item()) if tensor.numel() else ""


class Network:
    """A trained network whose weights can be read. Made by :func:`weightatlas.load`.

    Attributes:
        name: what it is called in captions and provenance.
        module: the torch module, untouched; ``None`` for a checkpoint without architecture.
        input: what it takes in; ``None`` for a checkpoint.
        tensors: all weights by name.
        notes: what was assumed or unwrapped while loading.
        file: the name and SHA-256 of the file of weights, ``"NAME sha256:HEX"``; empty if there is no such file.
        told: the layers of a network without a module, where its file tells them.
        blocks: the layers by which it is read where nobody says which, if its modules do not tell.
        measured: what :func:`weightatlas.measure` found out; ``None`` until then. May be set from a saved file.
        origin: the name and the file of weights (``None`` for the published ones) by which :func:`weightatlas.load`
            gives it again, on another machine as well; ``None`` for modules and changed inputs.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module | None,
        input: InputSpec | None,
        tensors: dict[str, Tensor],
        notes: tuple[str, ...] = (),
        file: str = "",
        told: tuple[Layer, ...] = (),
    ) -> None:
        self.name, self.module, self.input, self.tensors, self.notes = name, module, input, tensors, notes
        self.file, self.told = file, told
        self.blocks: tuple[str, ...] = ()
        self.measured: Statistics | None = None
        self.origin: tuple[str, str | None] | None = None
        self._hashed: tuple[Any, str] | None = None

    @cached_property
    def observation(self) -> Observation:
        """One watched forward pass (internal: other stages read it, users read :attr:`layers`)."""
        module, spec = self.require_module("running the network")
        return observe(module, spec)

    @cached_property
    def layers(self) -> LayerTable:
        """All layers in the order in which their outputs appear, by dotted name.

        Found by running the module once on one example, so a module that never runs is not a layer; of a checkpoint,
        its weight tensors.

        Raises:
            LoadError: if the module's forward fails on an example of the input's shape.
        """
        if self.told:
            return LayerTable(list(self.told), self.name, self.notes)
        if self.module is None:
            return checkpoint_table(self.tensors, self.name, self.notes)
        return module_table(self.observation, self.name, self.notes)

    @property
    def weights_hash(self) -> str:
        """SHA-256 (hex) over names, types, shapes and bytes of all weights and buffers, as they are now."""
        tensors = self._present()
        # quicker than hashing, and seen by nearly every change: where each tensor is, its edits, its sum
        looks = tuple((n, t.data_ptr(), t._version, _sum(t)) for n, t in tensors.items() if t.layout == torch.strided)
        if self._hashed is None or self._hashed[0] != looks:
            self._hashed = looks, self._digest(tensors)
        return self._hashed[1]

    def _present(self) -> dict[str, Tensor]:
        """All weights by name as the module holds them now."""
        if self.module is None:
            return self.tensors
        return {k: v for k, v in self.module.state_dict().items() if isinstance(v, Tensor)}

    def _digest(self, tensors: dict[str, Tensor]) -> str:
        digest = hashlib.sha256()
        for name, tensor in tensors.items():
            digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
            plain = tensor.int_repr() if tensor.is_quantized else tensor.detach()
            plain = plain if plain.layout == torch.strided else plain.to_dense()
            flat = plain.cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        return digest.hexdigest()

    @property
    def parameters(self) -> int:
        """The number of trained values: a module's parameters, all floating-point values of a checkpoint."""
        values = self.module.parameters() if self.module is not None else self.tensors.values()
        return sum(v.numel() for v in values if v.is_floating_point())

    @property
    def provenance(self) -> Provenance:
        """What every result of this network carries."""
        return Provenance(self.name, self.weights_hash, package_version(), self.notes, self.file)

    def preprocess(self, images: Any) -> Tensor:
        """Images as the network takes them.

        Args:
            images: ``[N, H, W, C]``, or a list of ``[H, W, C]`` of any sizes; uint8 0 … 255, or floats within the
                input's ``value_range``.

        Returns:
            A float32 tensor ``[N, C, H, W]``, resized by the input's rule and normalised.

        Raises:
            ArgumentError: for other axes, types, channels, sizes or values, saying what came in.
        """
        return to_input(images, self.require_module("preprocessing images")[1])

    def require_module(self, purpose: str) -> tuple[nn.Module, InputSpec]:
        """The module and its input, for what a bare checkpoint cannot do.

        Raises:
            ArgumentError: if there is no module.
        """
        if self.told and self.module is None:
            raise ArgumentError(
                f"{purpose} needs a torch module, but {self.name!r} is a graph of which only the weights of "
                f"{len(self.told)} layers are read. Pass the module that it was exported from to load(); direct "
                "weights, factorization and banding work without"
            )
        if self.module is None or self.input is None:
            raise ArgumentError(
                f"{purpose} needs the architecture, but {self.name!r} is a checkpoint of {len(self.tensors)} tensors. "
                "Build the module, load the state dict into it, and pass the module to load(); direct weights, "
                "factorization and banding work without"
            )
        return self.module, self.input

    def __repr__(self) -> str:
        bare = f"graph of {len(self.told)} layers" if self.told else "checkpoint"
        what = f"{type(self.module).__name__}, input {self.input.shape}" if self.input else bare
        return f"Network({self.name}: {what}, {self.parameters:,} parameters)"
