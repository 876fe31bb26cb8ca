"""``visualize``: pictures of units, directions or objectives, in batches that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..network import Network, memory_free
from ..records import FeatureImages
from .algebra import Objective
from .objectives import directions as along
from .objectives import units as exciting
from .plan import make_plan
from .prepared import Prepared, check_layer
from .recipes import Recipe, recipe_for
from .render import Batch, Renderer, seed_of

#: Starts that are tried for a picture that comes to nothing.
TRIES = 3
#: Pictures at a time at most, and the memory that a batch's way back should fill: the caches gain nothing beyond.
MOST_AT_ONCE = {"cpu": 16, "cuda": 128, "mps": 32}
AT_ONCE_BYTES = {"cpu": 256 * 2**20, "cuda": 8 * 2**30, "mps": 2**30}
#: Share of an objective's size by which it must grow.
LEAST_GROWTH = 1e-6

Progress = Callable[[float, int], None]
log = logging.getLogger("weightatlas")


def visualize(
    net: Network,
    layer: str | None = None,
    *,
    units: Iterable[int] | None = None,
    directions: Any = None,
    objective: Objective | None = None,
    count: int | None = None,
    recipe: str | Recipe = "display",
    batch: int | str = "auto",
    seed: int = 0,
    device: Any = None,
    progress: Progress | None = None,
) -> FeatureImages:
    """Pictures of what units, directions or objectives ask for: inputs optimised to excite them.

    Args:
        net: a network with a module and an image input. The module is neither changed nor moved.
        layer: whose units or directions are meant, by its name in ``net.layers``, call index included (``relu#2``).
            With ``objective`` it only chooses the recipe; default the last layer that the objective reads.
        units: numbers of the units, one picture each; default all.
        directions: instead: directions over the layer's units, ``[N, O]``, such as :attr:`Factors.channels`.
        objective: instead: any :class:`~weightatlas.featurevis.Objective`.
        count: number of pictures of an objective that is the same for all, each from a start of its own.
        recipe: ``"display"``, ``"quick"``, ``"max"``, or a :class:`~weightatlas.featurevis.Recipe`.
        batch: pictures at a time; ``"auto"`` measures what one takes. A batch that does not fit into memory is halved.
        seed: of all starts and views. Every picture has its own from it, so that it hardly depends on which others are
            rendered beside it: equal seed, recipe, batch, device and number of threads give equal bits.
        device: where to render; default where the module is.
        progress: called after every step with (pictures done, a fraction included; pictures in all).

    Returns:
        :class:`~weightatlas.records.FeatureImages` ``[N, H, W, C]`` uint8. Pictures that come to nothing are marked.

    Raises:
        ArgumentError: for a network without image input or a way from it to the layer, directions of the wrong
            length, and arguments that do not go together.
        UnknownNameError: for a layer, unit or recipe that does not exist.
        WeightValuesError: for a network that holds NaN or infinity.

    Sources: Erhan et al. 2009; Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017; Fel et al. 2023.

    Example:
        >>> import weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.visualize(net, "blocks.1.1", units=[3, 17], recipe="quick").images.shape
        (2, 48, 48, 3)
    """
    net.require_module("feature visualization")
    deepest = _deepest(net, layer, objective)
    check_layer(net, deepest)
    known = net.layers[deepest]
    chosen = _recipe(net, deepest, recipe)
    wanted = _objective(known, units, directions, objective, chosen)
    total = _total(wanted, count)
    numbers = known.unit_indices(units) if directions is None and objective is None else []
    names: Sequence[object] = numbers or range(total)
    seeds = [seed_of(_whole("seed", seed), deepest, name) for name in names]
    with torch.inference_mode(False), torch.enable_grad():
        prepared = Prepared(net, wanted.layers or (deepest,), device)
        plan = make_plan(net, prepared, chosen)
        renderer = Renderer(prepared, plan)
        made, tries, notes = _all_batches(renderer, wanted, seeds, batch, progress)
    return _record(net, renderer, wanted, made, seeds, tries, deepest, numbers, (*plan.notes, *notes))


def _deepest(net: Network, layer: str | None, objective: Objective | None) -> str:
    """The layer that the recipe is for."""
    if objective is not None and not isinstance(objective, Objective):
        raise ArgumentError(f"objective={objective!r} is not an Objective; see weightatlas.featurevis")
    read = objective.layers if objective is not None else ()
    for name in read:
        net.layers[name]
    if layer is not None:
        return net.layers[layer].name
    if not read:
        raise ArgumentError("visualize(net, layer) needs a layer; net.layers lists them")
    order = list(net.layers)
    return max(read, key=order.index)


def _recipe(net: Network, layer: str, recipe: str | Recipe) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else recipe_for(net, layer, recipe)


def _objective(known: Any, units: Any, directions: Any, objective: Objective | None, recipe: Recipe) -> Objective:
    given = [n for n, v in (("units", units), ("directions", directions), ("objective", objective)) if v is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(f'{n}=' for n in given)} do not go together; give one of them")
    if objective is not None:
        return objective
    if directions is not None:
        wanted = along(known.name, directions, recipe.at)
        length = np.shape(directions)[1]
        if length != known.units:
            raise ArgumentError(f"directions over {length} units came in, but {known.name!r} has {known.units}")
        return wanted
    return exciting(known.name, known.unit_indices(units), recipe.at)


def _total(objective: Objective, count: int | None) -> int:
    if objective.count is None:
        return _whole("count", 1 if count is None else count, 1)
    if count is not None and count != objective.count:
        raise ArgumentError(f"count={count} was given, but {objective!r} is for {objective.count} pictures")
    return objective.count


def _whole(name: str, value: Any, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise ArgumentError(f"{name}={value!r} must be an integer{f' of at least {least}' if least else ''}")
    return value


def _all_batches(
    renderer: Renderer, wanted: Objective, seeds: list[int], batch: int | str, progress: Progress | None
) -> tuple[Batch, np.ndarray, list[str]]:
    """All pictures, batch by batch; those that come to nothing again from other starts."""
    size, notes = _batch_size(renderer, wanted, len(seeds), batch)
    rows = list(range(len(seeds)))
    made, size = _in_batches(renderer, wanted, rows, seeds, size, progress)
    tries = np.ones(len(seeds), np.int64)
    for attempt in range(1, TRIES):
        dead = [r for r in rows if not _alive(made)[r]]
        if not dead or wanted.coupled:
            break
        for r in dead:
            seeds[r], tries[r] = seed_of("again", attempt, seeds[r]), attempt + 1
        again, size = _in_batches(renderer, wanted, dead, seeds, size, None)
        _put(made, dead, again)
    asked = _asked(batch)
    if asked is not None and size < min(asked, len(seeds)):
        notes.append(f"rendered {size} at a time, since {asked} do not fit into memory")
        log.warning(notes[-1])
    return made, tries, notes


def _in_batches(
    renderer: Renderer, wanted: Objective, rows: list[int], seeds: list[int], size: int, progress: Progress | None
) -> tuple[Batch, int]:
    parts: list[Batch] = []
    done, furthest = 0, 0.0
    while done < len(rows):
        part = rows[done : done + size]

        def told(step: int, part: list[int] = part, done: int = done) -> None:
            nonlocal furthest
            furthest = max(furthest, done + len(part) * step / renderer.recipe.steps)  # a halved batch begins again
            if progress is not None:
                progress(furthest, len(rows))

        try:
            parts.append(renderer.batch(wanted.of(part), [seeds[r] for r in part], told))
        except (RuntimeError, MemoryError) as error:
            if not _no_memory(error) or size == 1 or wanted.coupled:
                raise
            size = max(len(part) // 2, 1)
            if renderer.prepared.device.type == "cuda":
                torch.cuda.empty_cache()
            log.info("a batch of %d pictures does not fit into memory; going on with %d", len(part), size)
            continue
        done += len(part)
    return _together(parts), size


def _no_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in words or "allocate" in words


def _asked(batch: int | str) -> int | None:
    return None if batch == "auto" else _whole("batch", batch, 1)


def _batch_size(renderer: Renderer, wanted: Objective, count: int, batch: int | str) -> tuple[int, list[str]]:
    """Pictures at a time: what was asked for, or what memory and caches like; never more than there is memory for."""
    asked = _asked(batch)
    one = max(renderer.bytes_of_one(wanted), 1)
    kind = renderer.prepared.device.type
    free = torch.cuda.mem_get_info(renderer.prepared.device)[0] if kind == "cuda" else memory_free()
    most = max(int(free * 0.7 // (2 * one)), 1)
    if wanted.coupled:
        if count > most:
            raise ArgumentError(
                f"{count} pictures that depend on each other need about {2 * one * count / 2**30:.1f} GiB at once, but "
                f"{free / 2**30:.1f} GiB are free; ask for fewer with count="
            )
        return count, []
    usual = min(MOST_AT_ONCE.get(kind, 16), max(AT_ONCE_BYTES.get(kind, 2**28) // one, 2))
    return max(min(usual if asked is None else asked, count, most), 1), []


def _alive(made: Batch) -> Tensor:
    """Which pictures are a result: pushed by a gradient, finite, and better than the noise they began as."""
    growth = torch.maximum(made.reached, made.viewed) - made.begun
    finite = torch.isfinite(made.reached) & torch.isfinite(made.begun) & torch.isfinite(made.viewed)
    return finite & (made.pushed > 0) & (growth > LEAST_GROWTH * made.begun.abs())


_FIELDS = ("images", "reached", "viewed", "begun", "pushed")


def _together(parts: list[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(p, f).cpu() for p in parts]) for f in _FIELDS))


def _put(made: Batch, rows: list[int], again: Batch) -> None:
    for name in _FIELDS:
        getattr(made, name)[rows] = getattr(again, name)


def _record(
    net: Network,
    renderer: Renderer,
    wanted: Objective,
    made: Batch,
    seeds: list[int],
    tries: np.ndarray,
    layer: str,
    numbers: list[int],
    notes: tuple[str, ...],
) -> FeatureImages:
    channels = renderer.prepared.spec.channels
    alive = _alive(made).numpy()
    pixels = (made.images.nan_to_num().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    labels = wanted.descriptions if len(wanted.descriptions) == len(seeds) else wanted.descriptions * len(seeds)
    if numbers:  # where they are excited is the recipe's to tell
        labels = tuple(f"{layer}:{u}" for u in numbers)
    if not alive.all():
        notes += (f"{int((~alive).sum())} of {len(alive)} pictures came to nothing from {TRIES} starts",)
    alpha = pixels[..., channels] if renderer.recipe.alpha else np.zeros((0, 0, 0), np.uint8)
    values = {n: getattr(made, n).numpy().astype(np.float32) for n in ("reached", "viewed", "begun")}
    return FeatureImages(
        images=np.ascontiguousarray(pixels[..., :channels]),
        labels=labels,
        layer=layer,
        units=np.array(numbers, np.int64),
        **values,
        alive=alive,
        seeds=np.array(seeds, np.int64),
        tries=tries,
        recipe=renderer.recipe.to_dict(),
        view=renderer.plan.views.size,
        channel_names=renderer.prepared.spec.channel_names,
        alpha=np.ascontiguousarray(alpha),
        provenance=net.provenance.noting(*notes),
    )
