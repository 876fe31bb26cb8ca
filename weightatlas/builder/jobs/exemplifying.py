"""Jobs on images: what units did on them, and for each unit the crops that excite it most.

Images are gone through once, in parts that can be done anywhere and in any order; what the parts found is put together
in their order, so that the result is the same however they were made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import ArgumentError, StoreError
from ...figures import flat_colours
from ...lens import Activity, Photos, activity, box
from ...network import from_input
from ...records import Layer
from ...store import layout, pictures
from ...store.arrays import Group, Named, group_files
from ...store.sealing import document
from .context import Context
from .job import Job
from .weighing import short

#: Images kept for each unit, and the side of a tile that shows one.
KEPT, TILE = 9, 96
COLUMNS = 3
#: Images at a time that are run, and that are kept while crops are cut.
AT_ONCE, REMEMBERED = 8, 256
EXAMPLES = "examples"
_VECTORS = ("total", "squares", "positive", "least", "most")
_LISTS = ("peaks", "images", "places")


def photos_of(context: Context) -> Photos:
    """The images of a build.

    Raises:
        StoreError: without any.
    """
    if context.photos is None:
        raise StoreError("statistics and examples of units need the images; give them again with images=")
    return context.photos


def look(context: Context, job: Job) -> tuple[int, int]:
    """What all layers do on one part of the images."""
    photos = photos_of(context)
    rows = photos.parts[job.number]
    chunks = [range(s, min(s + AT_ONCE, rows.stop)) for s in range(rows.start, rows.stop, AT_ONCE)]
    layers = list(job.others)
    found = activity(context.net, layers, ((photos.tensor(context.net, c), c) for c in chunks), KEPT)
    arrays = {}
    for name in (*_VECTORS, *_LISTS):
        values = np.concatenate([getattr(found[n], name) for n in layers])
        arrays[name] = Named(values, ("unit", "rank", "axis")[: values.ndim])
    counts, units = [found[n].count for n in layers], [len(found[n].total) for n in layers]
    about = {"layers": layers, "counts": counts, "units": units}
    return context.write(group_files(arrays, {"weightatlas": about}), layout.part_path(job.key, job.number))


def watched(layer: Layer) -> bool:
    """Whether a layer's activations can be told apart by unit."""
    return bool(layer.units) and layer.axes.count("C") == 1 and layer.axes[:1] == ("N",)


def together(context: Context, job: Job) -> Activity:
    """What a layer did on all images."""
    layer, found = job.layer, None
    for number in range(len(photos_of(context).parts)):
        group = Group(context.files, layout.part_path(job.key, number))
        about = group.attributes["weightatlas"]
        place = about["layers"].index(layer)
        start = sum(about["units"][:place])
        rows = slice(start, start + about["units"][place])
        arrays: dict[str, Any] = {name: group.whole(name)[rows] for name in (*_VECTORS, *_LISTS)}
        one = Activity(layer=layer, count=about["counts"][place], **arrays)
        found = one if found is None else found.with_more(one)
    if found is None:
        raise StoreError("there are no images")
    return found


def summarise(context: Context, job: Job) -> tuple[int, int]:
    """Statistics of a layer's units on all images."""
    found, photos = together(context, job), photos_of(context)
    about = {
        "layer": job.layer,
        "images": photos.to_dict(),
        "activations": found.count,
        **{name: short(getattr(found, name)) for name in ("mean", "deviation", "rate", "least", "most")},
        "dead": np.flatnonzero(found.most <= 0).tolist() if (found.least >= 0).all() else [],
    }
    return context.write({layout.layer_path(job.layer, "activations"): document(about)})


def exemplify(context: Context, job: Job) -> tuple[int, int]:
    """For each unit of a job, crops of the images that excite it most, as tiles."""
    found, photos = together(context, job), photos_of(context)
    layer, (_, spec) = context.net.layers[job.layer], context.net.require_module("examples")

    @lru_cache(maxsize=REMEMBERED)
    def image(number: int) -> np.ndarray:
        return from_input(photos.tensor(context.net, [number]), spec)[0]

    made = written = 0
    for unit in job.units:
        path = layout.picture_path(job.layer, EXAMPLES, unit)
        if context.files.exists(path):
            continue
        tiles, told = [], []
        for peak, number, place in zip(found.peaks[unit], found.images[unit], found.places[unit], strict=True):
            if number < 0:
                continue
            top, left, bottom, right = box(layer, place.tolist(), spec.grid)
            cut = image(int(number))[top:bottom, left:right]
            tiles.append(pictures.scaled(flat_colours(cut, spec.channel_names), TILE))
            name = photos.names[int(number)]
            told.append({"image": name, "number": int(number), "at": place.tolist(), "box": [top, left, bottom, right],
                         "activation": short(peak)})  # fmt: skip
        if not tiles:
            raise ArgumentError(f"{job.layer}:{unit} comes to no finite number on any of the images")
        about = {
            "what": EXAMPLES, "layer": job.layer, "unit": unit, "recipe": EXAMPLES, "columns": COLUMNS,
            "examples": told, "images": photos.to_dict(), "model": context.net.name,
            "weights_hash": context.settings.weights_hash,
        }  # fmt: skip
        data = pictures.encoded(pictures.mosaic(tiles, COLUMNS), about)
        context.files.write(path, data)
        made, written = made + 1, written + len(data)
    return made, written
