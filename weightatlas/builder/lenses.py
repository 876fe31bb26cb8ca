"""Figures of a network on images, computed and drawn: one function a kind, from a studio and the figure's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .. import figures, lens
from ..errors import ArgumentError
from ..factor import factorize
from ..figures import Fade, Figure
from ..lens import Photos, activations, photos_from
from ..lens.pictured import one_input
from ..network import from_input
from ..records import Explanation, GradientCases, checked_count
from .cases import EXAMPLES as EXAMPLES_OF_CASES
from .cases import gradient_cases as cases_of
from .explaining import SOURCES, centres, explain
from .pictures import IMAGE_AXES
from .studio import Studio

GROUPS = 4
EXAMPLES, CROPS = 9, 6  # crops of a unit, of a case
SHOWN = 4  # units, if nobody says which
Method = Literal["auto", "exact", "gradient", "integrated_gradients", "conductance"]


def explanation(
    studio: Studio,
    target: str | None = None,
    *,
    image: Any,
    at: tuple[int, int] | None = None,
    source: str | None = None,
    method: Method = "auto",
    k: int = SOURCES,
    down: int = 1,
    follow: Sequence[int] | None = None,
) -> Figure:
    """Why a unit fired on an image (default: the class), and why its source did; see :func:`weightatlas.explain`."""
    found = explain(
        studio.net, image, target, at=at, source=source, method=method, k=k, down=down, gate=studio.gate, follow=follow
    )
    return explained(studio, found)


def explained(studio: Studio, found: Explanation) -> Figure:
    """An explanation with pictures of all its units."""
    figures.explanation(found, palette=studio.palette)  # refuses before anything is rendered
    records: dict[int, Any] = {}
    for step in found:
        for layer, units in (
            (step.attributions.target, [step.attributions.unit]),
            (step.attributions.source, [*step.up, *step.down]),
        ):
            records |= {id(r): r for r in studio.pictures.units(layer, units)}
    return figures.explanation(found, list(records.values()), palette=studio.palette)


def activation_grid(
    studio: Studio, target: str, *, image: Any, cells: int | None = None, rank: int = GROUPS, fade: Fade = "faded"
) -> Figure:
    """What a layer saw at every place of an image, and the groups that its places share; target is a layer."""
    layer = studio.layer(target, "target")
    seen = activations(studio.net, one_input(studio.net, image), [layer])
    maps = seen[layer][0]
    if maps[0].size == 1:
        raise ArgumentError(f"{layer!r} has one position on this image; figure kind 'explanation' tells why it fires")
    if not np.isfinite(maps).all():
        raise ArgumentError(f"{layer!r} comes to NaN or infinity on this image")
    values, _ = figures.pooled(maps, cells)
    spots = figures.drawn_cells(values)
    fitting = min(checked_count(rank, "groups", "rank"), len(maps), maps[0].size)
    groups = factorize(maps[None], fitting, nonnegative="space", seed=studio.seed)
    vectors = np.concatenate([np.stack([values[:, y, x] for y, x in spots]), groups.channels]).astype(np.float32)
    made = studio.pictures.directions(layer, vectors)
    if made is None:
        raise ArgumentError(f"{studio.net.name} has no pictures of directions; they need image input")
    return figures.activation_grid(
        seen, layer, made.select(range(len(spots))), groups, made.select(range(len(spots), len(vectors))), cells=cells,
        fade=fade, centres=centres(studio.net.layers[layer]),
    )  # fmt: skip


def dataset_examples(
    studio: Studio, target: str, *, images: Any, units: Sequence[int] | None = None, k: int = EXAMPLES
) -> Figure:
    """The crops of images that excite units most, and how often these fire; target is a layer or a unit."""
    layer, unit = studio.place(target, "target")
    if unit is not None and units is not None:
        raise ArgumentError(f"target={target!r} names a unit; leave units= out, or give the layer {layer!r}")
    photos = photos_from(studio.net, images)
    found = lens.dataset_examples(studio.net, photos, [layer], checked_count(k, "crops"))
    if unit is not None:
        chosen = [unit]
    elif units is not None:
        chosen = studio.net.layers[layer].unit_indices(units)
    else:  # those that rise highest
        chosen = [int(u) for u in np.argsort(-np.nan_to_num(found.most[found.rows(layer)]), kind="stable")[:SHOWN]]
    cuts = {u: lens.crops(studio.net, photos, found, layer, u) for u in chosen}
    _, spec = studio.net.require_module("examples")
    places = {u: [seen.at for seen in found.best(layer, u)] for u in chosen}
    return figures.dataset_examples(
        found, layer, chosen, cuts, studio.pictures.units(layer, chosen), channel_names=spec.channel_names,
        cells={u: [lens.cell(studio.net.layers[layer], at, spec.grid) for at in places[u]] for u in chosen},
    )  # fmt: skip


def gradient_cases(
    studio: Studio,
    target: str,
    *,
    images: Any,
    source: str | None = None,
    cases: int = 2,
    k: int = SOURCES,
    examples: int = EXAMPLES_OF_CASES,
) -> Figure:
    """The ways in which a unit comes to fire, each with its source units and examples; target is a unit."""
    layer, unit = studio.unit(target, "target")
    before = studio.layer(source, "source") if source is not None else None
    photos = photos_from(studio.net, images)
    if photos is None:
        raise ArgumentError("images= is needed: cases are of examples")
    count = checked_count(cases, "cases", "cases")
    found = cases_of(studio.net, before, f"{layer}:{unit}", photos, count, examples=examples, seed=studio.seed)
    (crops, cells), names = _cut(studio, found, photos), studio.net.require_module("cases")[1].channel_names
    asked: dict[str, Any] = {"k": k, "channel_names": names, "palette": studio.palette, "cells": cells}
    figures.gradient_cases(found, None, crops, **asked)  # refuses before anything is rendered
    sources = {u for case in range(len(found.cases)) for u in figures.strongest_in(found, case, k)}
    pictures = [*studio.pictures.units(layer, [unit]), *studio.pictures.units(found.source, sources)]
    return figures.gradient_cases(found, pictures, crops, **asked)


def _cut(
    studio: Studio, found: GradientCases, photos: Photos
) -> tuple[dict[int, list[np.ndarray]], dict[int, list[tuple[float, ...]]]]:
    """Of each case, crops of the examples with most of it, and where their positions lie; none without images."""
    _, spec = studio.net.require_module("crops")
    if len(spec.shape) != IMAGE_AXES:
        return {}, {}
    layer, made, cells = studio.net.layers[found.target], {}, {}
    for case in range(len(found.cases)):
        made[case], cells[case] = [], []
        for row in found.most_of(case, CROPS):
            seen = from_input(photos.tensor(studio.net, [int(found.images[row])]), spec)[0]
            top, left, bottom, right = lens.box(layer, found.places[row].tolist(), spec.grid)
            made[case].append(seen[top:bottom, left:right].copy())
            cells[case].append(lens.cell(layer, found.places[row].tolist(), spec.grid))
    return made, cells
