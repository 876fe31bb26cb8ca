"""Maps of all units of some layers on a few images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..network import Network, from_input
from ..records import Activations, Layer
from .collection import Photos, photos_from
from .streaming import BATCH, outputs, with_units

GIB = 2**30
#: Maps and pictures that are kept in memory at most.
MOST_BYTES = 2 * GIB
_FLOAT = 4  # bytes

#: Called with images done and images in all.
Progress = Callable[[int, int], None]


def activations(
    net: Network,
    images: Any,
    layers: str | Sequence[str],
    *,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Activations:
    """Maps of all units of some layers on a few images, float32 ``[N, O, H, W]`` by layer.

    They are copied the moment that a layer gives them, so that an activation in place behind it does not change them.
    Whatever the order of its axes, a layer's maps are image, unit, y, x; positions that are no grid (tokens, signals)
    lie along x. The network is run in evaluation mode, a few images at a time, as far as the last of these layers.

    Args:
        net: an open network with its architecture.
        images: files, folders, arrays uint8 or float ``[N, H, W, C]``, a float tensor as ``net.preprocess`` gives it,
            also of one image without its axis N, a data set, or an iterable of images.
        layers: a name, or several.
        batch: images that are run at a time.
        progress: called after each batch with images done and images in all.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: for a layer whose units cannot be told apart, for images that do not fit the network, or if more
            than 2 GiB would be kept; :func:`weightatlas.dataset_examples` takes any number of images.
        LoadError: for a file that cannot be read, naming it.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> from torch import nn
        >>> net = wa.load(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), input=wa.InputSpec(shape=(3, 8, 8)))
        >>> a = wa.activations(net, np.zeros((2, 8, 8, 3), np.uint8), ["0", "1"])
        >>> a["0"].shape
        (2, 4, 6, 6)
        >>> len(a.top_units("1", 2))
        2
    """
    wanted = with_units(net, checked_layers(layers))
    size = checked_batch(batch)
    checked_progress(progress)
    photos = checked_photos(net, images)
    _, spec = net.require_module("running images")
    sizes = {call.name: call.output for call in net.observation.calls}
    pictures = math.prod(spec.shape) if len(spec.shape) == 3 else 0
    _check_memory([math.prod(sizes[layer.name][1:]) for layer in wanted], pictures, len(photos))
    maps: dict[str, np.ndarray] = {}
    seen = np.zeros((len(photos), *spec.grid, spec.channels) if pictures else (0, 0, 0, 0), np.uint8)
    for start in range(0, len(photos), size):
        rows = range(start, min(start + size, len(photos)))
        inputs = photos.tensor(net, rows)
        if pictures:
            seen[rows.start : rows.stop] = from_input(inputs, spec)
        for name, values in outputs(net, wanted, inputs).items():
            kept = maps.setdefault(name, np.empty((len(photos), *values.shape[1:]), np.float32))
            kept[rows.start : rows.stop] = values.numpy()
        if progress is not None:
            progress(rows.stop, len(photos))
    return Activations(
        maps={layer.name: maps[layer.name] for layer in wanted},
        images=seen,
        names=photos.names,
        channel_names=spec.channel_names,
        provenance=net.provenance.noting(*photos.notes, *_without_grid(wanted)),
    )


def checked_layers(layers: Any) -> list[str]:
    """Names of layers as a list.

    Raises:
        ArgumentError: if there are none, or they are no names.
    """
    names = [layers] if isinstance(layers, str) else layers
    if not isinstance(names, Sequence) or not names or not all(isinstance(n, str) for n in names):
        raise ArgumentError(f"layers={layers!r}: give a layer's name, or a list of names")
    return list(dict.fromkeys(names))


def checked_batch(batch: Any) -> int:
    """A number of images that are run at a time.

    Raises:
        ArgumentError: if it is no integer, or less than 1.
    """
    if isinstance(batch, bool) or not hasattr(batch, "__index__") or batch.__index__() < 1:
        raise ArgumentError(f"batch={batch!r} is no number of images at a time; give an integer of at least 1")
    return batch.__index__()


def checked_progress(progress: Any, told: str = "(images done, images in all)") -> None:
    """Refuses a progress that cannot be called, before anything is run.

    Raises:
        ArgumentError: saying what it would be told.
    """
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress={progress!r} cannot be called; it is told {told}")


def checked_photos(net: Network, images: Any, *, skip_damaged: bool = False) -> Photos:
    """The images that were given; see :func:`photos_from`.

    Raises:
        ArgumentError: also if there are none at all.
    """
    photos = photos_from(net, images, skip_damaged=skip_damaged)
    if photos is None:
        raise ArgumentError("images=None: give files, folders, arrays, a tensor or a data set")
    return photos


def _check_memory(values: list[int], pixels: int, count: int) -> None:
    each = _FLOAT * sum(values) + pixels
    if each * count > MOST_BYTES:
        fit = MOST_BYTES // each
        raise ArgumentError(
            f"maps of {len(values)} layer{'s' if len(values) > 1 else ''} on {count} images need "
            f"{each * count / GIB:.1f} GiB, and at most {MOST_BYTES / GIB:g} GiB are kept; "
            + (f"give at most {fit} images, or fewer layers" if fit else "give fewer layers")
            + "; wa.dataset_examples keeps statistics and the strongest places of any number of images"
        )


def _without_grid(layers: Sequence[Layer]) -> list[str]:
    """Notes on layers whose positions lie along x without being a row."""
    return [
        f"positions of {layer.name} are no known grid ({', '.join(layer.axes)}): they follow one another along x"
        for layer in layers
        if layer.grid is None
    ]
