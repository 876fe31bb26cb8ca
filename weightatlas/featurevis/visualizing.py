"""``visualize``: pictures of units, directions or objectives, in batches that fit into memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError
from ..network import Network
from ..records import FeatureImages
from .algebra import Objective
from .batches import TRIES, Progress, alive_in, all_batches, whole
from .objectives import directions as along
from .objectives import rows_of
from .objectives import units as exciting
from .plan import make_plan
from .prepared import Prepared, check_layer
from .recipes import Recipe, recipe_for
from .render import Batch, Renderer, seed_of

#: Steps of the two runs from which a speed is told.
TRIED = (1, 4)


def visualize(
    net: Network,
    layer: str | None = None,
    *,
    units: Iterable[int] | None = None,
    directions: Any = None,
    objective: Objective | None = None,
    count: int | None = None,
    recipe: str | Recipe | Mapping[str, Any] = "display",
    batch: int | str = "auto",
    seed: int | Sequence[int] = 0,
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
        recipe: ``"display"``, ``"quick"``, ``"max"``, or a :class:`~weightatlas.featurevis.Recipe`, or such
            settings as :attr:`FeatureImages.recipe` keeps.
        batch: pictures at a time; ``"auto"`` measures what one takes. A batch that does not fit into memory is halved.
        seed: of all starts and views. Every picture has its own from it, so that it hardly depends on which others are
            rendered beside it: equal seed, recipe, batch, device and number of threads give equal bits. Several seeds,
            one a picture, also free it from its place among them.
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
    seeds = _seeds(seed, deepest, names)
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress={progress!r} cannot be called; it is told (pictures done, pictures in all)")
    with torch.inference_mode(False), torch.enable_grad(), _full_precision():
        prepared = Prepared(net, wanted.layers or (deepest,), device)
        plan = make_plan(net, prepared, chosen)
        renderer = Renderer(prepared, plan)
        made, tries, notes = all_batches(renderer, wanted, seeds, batch, progress)
    return _record(net, renderer, wanted, made, seeds, tries, deepest, numbers, (*plan.notes, *notes))


def speed_of(net: Network, prepared: Prepared, layer: str, recipe: Recipe, batch: int) -> float:
    """Seconds that a picture of a unit takes here, from a few steps of one batch.

    Args:
        net: an open network.
        prepared: the network, made ready for the layer.
        layer: whose units are pictured.
        recipe: of the pictures.
        batch: pictures at a time, at most the layer's units.
    """
    renderer = Renderer(prepared, make_plan(net, prepared, recipe))
    objective = exciting(layer, list(range(batch)), recipe.at)
    seeds = [seed_of("speed", i) for i in range(batch)]
    with torch.inference_mode(False), torch.enable_grad(), _full_precision():
        renderer.batch(objective, seeds, steps=1)  # loads all routines
        spent = []
        for steps in TRIED:
            began = time.perf_counter()
            renderer.batch(objective, seeds, steps=min(steps, recipe.steps))
            spent.append(time.perf_counter() - began)
    step = max(spent[1] - spent[0], 0) / max(min(TRIED[1], recipe.steps) - min(TRIED[0], recipe.steps), 1)
    return (spent[0] + step * (recipe.steps - min(TRIED[0], recipe.steps))) / batch


def _seeds(seed: int | Sequence[int], layer: str, names: Sequence[object]) -> list[int]:
    """Every picture's own seed."""
    if not isinstance(seed, Sequence | np.ndarray):
        return [seed_of(whole("seed", seed), layer, name) for name in names]
    if len(seed) != len(names):
        raise ArgumentError(f"{len(seed)} seeds came in for {len(names)} pictures; give one, or one a picture")
    return [seed_of(whole("seed", s), layer, "own") for s in seed]


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
        raise ArgumentError(
            "visualize(net, layer) needs a layer; net.layers lists them"
            if objective is None
            else f"{objective!r} reads no layer; give visualize(net, layer, objective=…) one, whose recipe is used"
        )
    order = list(net.layers)
    return max(read, key=order.index)


def _recipe(net: Network, layer: str, recipe: str | Recipe | Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Mapping):
        try:
            return Recipe(**recipe)
        except TypeError as error:
            known = ", ".join(f.name for f in fields(Recipe))
            raise ArgumentError(f"recipe={dict(recipe)!r} holds a setting that is none of {known}") from error
    return recipe if isinstance(recipe, Recipe) else recipe_for(net, layer, recipe)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without the autocast that may be on around us: small gradients of early steps would be lost in it."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _objective(known: Any, units: Any, directions: Any, objective: Objective | None, recipe: Recipe) -> Objective:
    given = [n for n, v in (("units", units), ("directions", directions), ("objective", objective)) if v is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(f'{n}=' for n in given)} do not go together; give one of them")
    if objective is not None:
        return objective
    if directions is not None:
        rows = rows_of(directions, known.name)
        if rows.shape[1] != known.units:
            raise ArgumentError(f"directions over {rows.shape[1]} units came in, but {known.name!r} has {known.units}")
        return along(known.name, rows, recipe.at)
    return exciting(known.name, known.unit_indices(units), recipe.at)


def _total(objective: Objective, count: int | None) -> int:
    if objective.count is None:
        return whole("count", 1 if count is None else count, 1)
    if count is not None and count != objective.count:
        raise ArgumentError(f"count={count} was given, but {objective!r} is for {objective.count} pictures")
    return objective.count


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
    alive = alive_in(made).numpy()
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
