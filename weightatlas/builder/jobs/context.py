"""What a job needs besides itself: the network, the store, the settings of the atlas; on a worker opened once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import StoreError
from ...featurevis import Recipe, recipe_for, seed_of
from ...lens import Photos
from ...network import Network, load
from ...records import Statistics
from ...store import Files, layout, open_files, pairs
from ...store.arrays import Group


@dataclass(frozen=True)
class Settings:
    """What holds for every job of an atlas.

    Args:
        weights_hash: of the network that it is of.
        gate: what non-linearities are read as, see :func:`weightatlas.expanded_weights`.
        seed: of everything random.
        measured: whether gates are those of measured statistics, which are part of the atlas.
        device: where pictures are rendered; ``None`` where the module is.
    """

    weights_hash: str
    gate: str | float = "expected"
    seed: int = 0
    measured: bool = False
    device: str | None = None


@dataclass(frozen=True)
class Source:
    """How a network comes to a worker: by the name and file it was loaded from, else as it is.

    Args:
        origin: arguments of :func:`weightatlas.load`, or ``None``.
        net: the network itself, where there is no origin.
    """

    origin: tuple[str, str | None] | None
    net: Network | None

    @classmethod
    def of(cls, net: Network) -> Source:
        """The source of an open network."""
        return cls(net.origin, None) if net.origin is not None else cls.whole(net)

    @classmethod
    def whole(cls, net: Network) -> Source:
        """The source of a network that travels with all its weights."""
        bare = Network(net.name, net.module, net.input, net.tensors, net.notes, net.file, net.told)
        bare.blocks = net.blocks
        return cls(None, bare)

    def open(self, weights_hash: str) -> Network:
        """The network, checked.

        Raises:
            StoreError: if it has other weights than those the atlas is of.
        """
        if self.origin is not None:
            name, weights = self.origin
            net = load(name, weights=weights)
        elif self.net is not None:
            net = self.net
        else:
            raise StoreError("a worker was given no network")
        return checked(net, weights_hash)


def checked(net: Network, weights_hash: str) -> Network:
    """The network, if it has the weights that an atlas is of.

    Raises:
        StoreError: with both hashes, if not.
    """
    if net.weights_hash != weights_hash:
        raise StoreError(
            f"the weights of {net.name} are not those this atlas is of: {net.weights_hash[:12]} … instead of "
            f"{weights_hash[:12]} …. Load the weights the atlas was begun with, or build into another folder"
        )
    return net


def statistics_of(files: Files) -> Statistics:
    """The statistics of an atlas's gates; empty for a network in which everything is linear.

    Raises:
        StoreError: if they are not there, or damaged.
    """
    group = Group(files, layout.STATISTICS)
    arrays = {n: group.whole(n) if n in group.arrays else np.zeros(0) for n in ("lengths", "values")}
    fields = group.attributes.get("weightatlas", {}).get("fields", {})
    return pairs.record_from(Statistics, arrays, fields, layout.STATISTICS)


@dataclass
class Context:
    """An open network and an open store.

    Args:
        net: whose weights are read; its own statistics are left alone.
        files: of the atlas.
        settings: of the atlas.
        recipes: settings of recipes that are none of the styles, by name.
        photos: images, where there are any.
        step: called with (done, in all) inside a job.
    """

    net: Network
    files: Files
    settings: Settings
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    photos: Photos | None = None
    step: Callable[[float, int], None] | None = None
    _gated: Network | None = field(default=None, repr=False)

    @property
    def gated(self) -> Network:
        """The network with the atlas's own statistics, for everything that reads gates.

        Raises:
            StoreError: if they are wanted and not there.
        """
        if self._gated is None:
            found = copy.copy(self.net)
            found.measured = None
            if self.settings.measured:
                found.measured = statistics_of(self.files)
            self._gated = found
        return self._gated

    def seed(self, *parts: object) -> int:
        """A seed that depends on the weights, the atlas's seed and what is made, and on nothing else."""
        return seed_of(self.settings.weights_hash, self.settings.seed, *parts)

    def recipe(self, style: str, layer: str) -> Recipe:
        """The recipe of a layer's pictures in a style."""
        return Recipe(**self.recipes[style]) if style in self.recipes else recipe_for(self.net, layer, style)

    def write(self, files: Mapping[str, bytes], below: str = "") -> tuple[int, int]:
        """Puts files in their order, and tells how many and how many bytes."""
        for path, data in files.items():
            self.files.write(f"{below}/{path}" if below else path, data)
        return len(files), sum(map(len, files.values()))


@dataclass(frozen=True)
class Work:
    """A context before it is opened: what travels to a worker.

    Args:
        key: of the build, unique.
        source: of the network.
        place: of the atlas, a path or URL that workers reach.
        settings, recipes, photos: as in :class:`Context`.
        threads: of torch in a worker; 0 leaves them alone.
    """

    key: str
    source: Source
    place: str
    settings: Settings
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    photos: Photos | None = None
    threads: int = 0

    def open(self) -> Context:
        """The context, on this machine."""
        files = open_files(self.place)
        files.marker = layout.MODEL
        net = self.source.open(self.settings.weights_hash)
        return Context(net, files, self.settings, self.recipes, self.photos)
