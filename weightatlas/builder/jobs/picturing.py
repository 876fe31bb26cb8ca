"""Jobs that make pictures: of units, of what they fire against, their varieties, positions and factors.

Every picture is a file of its own. A unit's varieties, positions and factors are the tiles of one mosaic each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ... import featurevis as fv
from ...featurevis import visualize
from ...figures import drawn_places, flat_colours
from ...network import package_version
from ...records import FeatureImages
from ...store import layout, pairs, pictures
from ...store.sealing import parsed
from .context import Context
from .job import Job

#: Varieties of one unit, and what keeping them apart weighs against exciting the unit, in units of what it reaches.
VARIETIES, APART = 4, 0.5
LOST = "came to nothing"
#: What is shown where there is nothing to be pictured.
NOTHING = np.full((64, 64, 3), 255, np.uint8)
POSITIONS_LEAST = 0.15  # of the longest direction: shorter ones are faded to white anyway


def render(context: Context, job: Job) -> tuple[int, int]:
    """The pictures of a job that are not there yet; all of them are made, so that each is what it would have been."""
    style, _, variant = job.recipe.partition(".")
    maker = {"": _plain, "negative": _negative, "diverse": _diverse, "positions": _positions, "factors": _factors}
    made = written = 0
    for unit, pixels, about in maker[variant](context, job, style):
        path = layout.picture_path(job.layer, folder_of(job), unit)
        if context.files.exists(path):
            continue
        data = pictures.encoded(pixels, {**_origin(context), **about, "recipe": job.recipe})
        context.files.write(path, data)
        made, written = made + 1, written + len(data)
    return made, written


def folder_of(job: Job) -> str:
    """The folder of a job's pictures."""
    return layout.recipe_folder(job.recipe, job.source or None)


def _origin(context: Context) -> dict[str, Any]:
    return {
        "model": context.net.name,
        "weights_hash": context.settings.weights_hash,
        "weightatlas": package_version(),
    }


Made = Iterable[tuple[int, np.ndarray, dict[str, Any]]]


def _plain(context: Context, job: Job, style: str) -> Made:
    """What excites each unit."""
    made = visualize(
        context.net, job.layer, units=job.units, recipe=context.recipe(style, job.layer),
        seed=context.seed(job.layer), device=context.settings.device, progress=context.step,
    )  # fmt: skip
    for row, unit in enumerate(job.units):
        yield unit, _flat(made, row), {**_about(made, [row]), "layer": job.layer, "unit": unit, "what": "unit"}


def _negative(context: Context, job: Job, style: str) -> Made:
    """What each unit fires against: the direction away from it."""
    count = context.net.layers[job.layer].units
    made = _along(context, job.layer, -np.eye(count)[list(job.units)], style, job.units, "negative")
    for row, unit in enumerate(job.units):
        yield unit, _flat(made, row), {**_about(made, [row]), "layer": job.layer, "unit": unit, "what": "negative"}


def _along(
    context: Context, layer: str, directions: np.ndarray, style: str, names: Sequence[object], what: str
) -> FeatureImages:
    """Pictures of directions over a layer's units, each with a seed of its own."""
    seeds = [context.seed(layer, what, name) for name in names]
    return visualize(
        context.net, layer, directions=directions, recipe=context.recipe(style, layer), seed=seeds,
        device=context.settings.device, progress=context.step,
    )  # fmt: skip


def _diverse(context: Context, job: Job, style: str) -> Made:
    """Several pictures of each unit that are unlike one another, as tiles."""
    settings = context.recipe(style, job.layer)
    for unit in job.units:
        alone = visualize(
            context.net, job.layer, units=[unit], recipe=settings, seed=context.seed(job.layer),
            device=context.settings.device,
        )  # fmt: skip
        weight = APART * abs(float(alone.reached[0])) if np.isfinite(alone.reached[0]) else 1.0
        objective = fv.unit(job.layer, unit, settings.at) + weight * fv.diversity(job.layer)
        made = visualize(
            context.net, job.layer, objective=objective, count=VARIETIES, recipe=settings,
            seed=context.seed(job.layer, "diverse", unit), device=context.settings.device, progress=context.step,
        )  # fmt: skip
        rows = list(range(VARIETIES))
        tiles = [_flat(made, row) for row in rows]
        about = {**_about(made, rows, tiles=True), "layer": job.layer, "unit": unit, "what": "diverse"}
        yield unit, pictures.mosaic(tiles, VARIETIES), {**about, "columns": VARIETIES}


def _positions(context: Context, job: Job, style: str) -> Made:
    """What each unit looks for at every position of its weights' window, as tiles in its place."""
    for unit in job.units:
        weights = pairs.read_weights(context.files, job.source, job.layer, [unit])
        values = weights.dense().values[0]
        lengths = np.linalg.norm(values.astype(np.float64), axis=0)
        if not lengths.any():
            yield unit, NOTHING, _about_nothing(context, job, style, unit, "positions")
            continue
        places = [(y, x) for y, x in drawn_places(weights, unit) if lengths[y, x] >= POSITIONS_LEAST * lengths.max()]
        names = [f"{job.layer}:{unit} {place}" for place in places]
        made = _along(context, job.source, np.stack([values[:, y, x] for y, x in places]), style, names, "positions")
        h, w = lengths.shape
        blank = np.full_like(_flat(made, 0), 255)
        tiles = [blank] * (h * w)
        for row, (y, x) in enumerate(places):
            tiles[y * w + x] = _flat(made, row)
        about = {
            **_about(made, list(range(len(places))), tiles=True),
            "layer": job.layer, "unit": unit, "what": "positions", "source": job.source, "columns": w,
            "places": [list(p) for p in places], "lengths": [_plain_number(lengths[p]) for p in places],
        }  # fmt: skip
        yield unit, pictures.mosaic(tiles, w), about


def _factors(context: Context, job: Job, style: str) -> Made:
    """The directions of each unit's own factors, as tiles."""
    documents = {}
    for unit in job.units:
        path = layout.connections_path(job.layer, job.source, f"factors/{unit}")
        documents[unit] = parsed(context.files.read(path), path)
    rows = [(u, k) for u, d in documents.items() for k in range(d["rank"]) if np.any(d["channels"][k])]
    for unit in (u for u in job.units if all(u != other for other, _ in rows)):
        yield unit, NOTHING, _about_nothing(context, job, style, unit, "factors")
    if not rows:
        return
    vectors = np.array([documents[u]["channels"][k] for u, k in rows])
    names = [f"{job.layer}:{u} factor {k}" for u, k in rows]
    made = _along(context, job.source, vectors, style, names, "factors")
    for unit in dict.fromkeys(u for u, _ in rows):
        own = [row for row, (u, _) in enumerate(rows) if u == unit]
        about = {
            **_about(made, own, tiles=True), "layer": job.layer, "unit": unit, "what": "factors", "source": job.source,
            "columns": len(own), "factors": [rows[r][1] for r in own],
        }  # fmt: skip
        yield unit, pictures.mosaic([_flat(made, r) for r in own], len(own)), about


def _about_nothing(context: Context, job: Job, style: str, unit: int, what: str) -> dict[str, Any]:
    """What is told of a unit whose weights over a layer are all zero: there is nothing to look for."""
    lists: dict[str, list[Any]] = {n: [] for n in ("reached", "viewed", "begun", "alive", "seed", "tries")}
    of_its_own: dict[str, list[Any]] = {"places": [], "lengths": []} if what == "positions" else {"factors": []}
    note = f"{job.layer}:{unit} has no weights over {job.source}"
    return {
        **lists, **of_its_own, "layer": job.layer, "unit": unit, "what": what, "source": job.source, "columns": 1,
        "settings": context.recipe(style, job.source).to_dict(), "notes": [note],
    }  # fmt: skip


def _flat(made: FeatureImages, row: int) -> np.ndarray:
    """A picture as one can look at it, ``[h, w, 3]``; on white where it is transparent."""
    image = made.images[row]
    if len(made.alpha):
        alpha = made.alpha[row][..., None].astype(np.float64) / 255
        image = np.rint(image * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return flat_colours(image, made.channel_names)


def _about(made: FeatureImages, rows: Sequence[int], tiles: bool = False) -> dict[str, Any]:
    """The numbers of one picture, or lists of them for the tiles of a mosaic."""

    def told(values: Any) -> Any:
        numbers = [_plain_number(values[r]) for r in rows]
        return numbers if tiles else numbers[0]

    return {
        "reached": told(made.reached),
        "viewed": told(made.viewed),
        "begun": told(made.begun),
        "alive": told(made.alive),
        "seed": told([str(s) for s in made.seeds.tolist()]),
        "tries": told(made.tries),
        "settings": made.recipe,
        "view": list(made.view),
        "size": list(made.images.shape[1:3]),
        "channels": list(made.channel_names),
        "notes": [n for n in made.provenance.notes if LOST not in n],  # "alive" says it of each
    }


def _plain_number(value: Any) -> Any:
    """A number as JSON has it: null for NaN and infinity."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, int):
        return number
    return float(f"{number:.6g}") if np.isfinite(number) else None
