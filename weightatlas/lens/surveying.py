"""What units do on any number of images: statistics, histograms and strongest images, in bounded memory; resumable.

images → parts of 64 → sums, histograms, k strongest ┐
                                    what is known ───┴→ together → written → next part
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, LoadError
from ..network import Network
from ..records import DatasetExamples, Provenance, checked_count
from .collection import Photos
from .histograms import Histogram
from .mapping import Progress, checked_batch, checked_layers, checked_photos, checked_progress
from .streaming import BATCH, Activity, activity, with_units

#: Writing takes no more than this share of the time: a survey of many units is not written after every part.
_MOST_WRITING = 0.1
_LEFT_OUT = "left out, as it cannot be read: "
_FITTED = "images were brought to the network by "
_ARRAYS = ("total", "squares", "positive", "least", "most", "peaks", "images", "places")


def dataset_examples(
    net: Network,
    images: Any,
    layers: str | Sequence[str],
    k: int = 9,
    *,
    batch: int = BATCH,
    save: str | Path | None = None,
    skip_damaged: bool = False,
    progress: Progress | None = None,
) -> DatasetExamples:
    """Statistics of all units of some layers on any number of images, and the images that excite each unit most.

    Images are read and run a few at a time; what is kept does not grow with their number, but for their names. Counts,
    histograms, extremes and strongest images do not depend on how images are cut into batches, given the same
    activations; sums are double precision. Of equally strong images the earlier one comes first, and an image on which
    a unit comes to NaN or ∞ is none of its strongest.

    Args:
        net: an open network with its architecture.
        images: files, folders, arrays, a tensor, a data set (items are read when they are needed), or an iterable.
        layers: a name, or several.
        k: images kept for each unit.
        batch: images that are run at a time.
        save: a file (``.npz``, ``.safetensors``) to which what is known is written after every 64 images, or less often
            where writing would take more than a tenth of the time, and at the end. If it is there, it is continued, and
            comes out as if it had never been interrupted; if it is complete, it is returned.
        skip_damaged: whether files that cannot be read are left out, and listed in the notes, instead of ending it all.
        progress: called after each batch with images done and images in all.

    Raises:
        UnknownNameError: for a layer that does not exist.
        ArgumentError: for a layer whose units cannot be told apart, images that do not fit the network, or a file of
            other images, weights, layers or k, naming what differs.
        LoadError: for an image that cannot be read, naming it, or a file that cannot be read or written.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> from torch import nn
        >>> net = wa.load(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), input=wa.InputSpec(shape=(3, 8, 8)))
        >>> images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
        >>> e = wa.dataset_examples(net, images, "1", k=2)
        >>> e
        DatasetExamples(4 units of 1 on 6 images)
        >>> counts, edges = e.histogram_of("1", 3)
        >>> int(counts.sum()) == 6 * 6 * 6, len(e.best("1", 3))
        (True, 2)
    """
    wanted = [layer.name for layer in with_units(net, checked_layers(layers))]
    k, batch = checked_count(k, "images to keep for each unit"), checked_batch(batch)
    checked_progress(progress)
    file = None if save is None else DatasetExamples.writable(save)
    photos = checked_photos(net, images, skip_damaged=skip_damaged)
    survey = _Survey(net, photos, wanted, k)
    known = DatasetExamples.load(file) if file is not None and file.exists() else None
    if known is not None:
        survey.resume(known, str(file))
        if known.complete:
            return known
    written = _Writing(file)
    for part in photos.parts:
        if part.start < survey.done:
            continue
        survey.add(part, batch, skip_damaged, progress)
        written.write(survey, last=survey.done == len(photos))
    return survey.record()


class _Survey:
    """What is known so far."""

    def __init__(self, net: Network, photos: Photos, layers: list[str], k: int) -> None:
        self.net, self.photos, self.layers, self.k = net, photos, layers, k
        _, spec = net.require_module("running images")
        self.provenance: Provenance = net.provenance.noting(f"{_FITTED}{spec}", *photos.notes)
        self.found: dict[str, Activity] = {}
        self.damaged: list[str] = []
        self.done = 0

    def resume(self, known: DatasetExamples, file: str) -> None:
        """Goes on from a file.

        Raises:
            ArgumentError: if it is of something else, naming what.
        """
        others = {
            "images": (known.digest, self.photos.digest),
            "weights": (known.provenance.weights_hash, self.provenance.weights_hash),
            "layers": (", ".join(known.layers), ", ".join(self.layers)),
            "k": (str(known.peaks.shape[1]), str(self.k)),
            "input": tuple(next((n for n in p.notes if n.startswith(_FITTED)), "-").removeprefix(_FITTED)
                           for p in (known.provenance, self.provenance)),
        }  # fmt: skip
        differ = [
            f"{what} ({_brief(what, one)} there, {_brief(what, other)} here)"
            for what, (one, other) in others.items()
            if one != other
        ]
        if differ:
            raise ArgumentError(f"{file} is of other {', '.join(differ)}; give another file as save=, or remove it")
        self.found, self.done = _activities(known), known.done
        notes = [n for n in known.provenance.notes if n.startswith(_LEFT_OUT)]
        self.damaged = [n.removeprefix(_LEFT_OUT) for n in notes]

    def add(self, part: range, batch: int, skip: bool, progress: Progress | None) -> None:
        """Adds one part of the images."""
        batches = self._batches(part, batch, skip, progress)
        first = next(batches, None)
        if first is not None:
            more = activity(self.net, self.layers, chain([first], batches), self.k, histograms=True)
            self.found = {n: self.found[n].with_more(a) if self.found else a for n, a in more.items()}
        self.done = part.stop
        if not self.found and self.done == len(self.photos):
            raise LoadError(f"none of the {len(self.photos)} images can be read, the first being {self.damaged[0]}")

    def _batches(
        self, part: range, batch: int, skip: bool, progress: Progress | None
    ) -> Iterator[tuple[Tensor, list[int]]]:
        for start in range(part.start, part.stop, batch):
            stop, kept, inputs = min(start + batch, part.stop), [], []
            for number in range(start, stop):
                try:
                    inputs.append(self.photos.tensor(self.net, [number]))
                    kept.append(number)
                except LoadError:
                    if not skip:
                        raise
                    self.damaged.append(self.photos.names[number])
            if kept:
                yield torch.cat(inputs), kept
            if progress is not None:
                progress(stop, len(self.photos))

    def record(self) -> DatasetExamples:
        """The record of what is known."""
        found = [self.found[n] for n in self.layers]
        histograms = [a.histogram for a in found if a.histogram is not None]
        return DatasetExamples(
            layers=tuple(self.layers),
            widths=tuple(len(a.total) for a in found),
            count=np.array([a.count for a in found], np.int64),
            **{name: np.concatenate([getattr(a, name) for a in found]) for name in _ARRAYS},
            histogram=np.concatenate([h.counts for h in histograms]),
            steps=np.concatenate([h.steps for h in histograms]),
            nonfinite=np.concatenate([h.nonfinite for h in histograms]),
            names=self.photos.names,
            done=self.done,
            digest=self.photos.digest,
            provenance=self.provenance.noting(*(f"{_LEFT_OUT}{name}" for name in self.damaged)),
        )


class _Writing:
    """Writes what is known, but not so often that it takes long."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.took, self.ended = file, 0.0, time.monotonic()

    def write(self, survey: _Survey, last: bool) -> None:
        """Writes it if it is time, or the end."""
        begun = time.monotonic()
        early = begun - self.ended < self.took / _MOST_WRITING
        if self.file is None or not survey.found or (early and not last):
            return
        survey.record().save(self.file)
        self.ended = time.monotonic()
        self.took = self.ended - begun


def _brief(what: str, value: str) -> str:
    return value[:12] if what in ("images", "weights") else value


def _activities(known: DatasetExamples) -> dict[str, Activity]:
    """The record's sums, layer by layer."""
    found = {}
    for layer, count in zip(known.layers, known.count, strict=True):
        rows = known.rows(layer)
        histogram = Histogram(known.histogram[rows], known.steps[rows], known.nonfinite[rows])
        arrays = {name: getattr(known, name)[rows] for name in _ARRAYS}
        found[layer] = Activity(layer=layer, count=int(count), **arrays, histogram=histogram)
    return found
