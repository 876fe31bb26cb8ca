"""Two families of units as a grid of maps: Figure 5 of the article."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import ArgumentError
from ..records import Agreement, Weights
from .boxes import Box
from .composing import composed
from .figure import Figure
from .gallery import Images, gallery
from .grids import sign_words
from .headed import headed
from .maps import full_maps, maps_of
from .ordering import angles, by_similarity
from .theme import Palette, check_choice
from .wording import about_agreement, about_pictures, about_weights, percent, several, source_name, units_of

Order = Literal["given", "similarity", "angle"]
CELL = (30, 104)  # pixels
MOST = 64  # units along a side


def family_grid(
    weights: Weights,
    images: Images = None,
    *,
    targets: Sequence[int | str],
    sources: Sequence[int | str],
    order: Order = "given",
    agreement: Agreement | None = None,
    palette: Palette = "classic",
) -> Figure:
    """A grid of maps on one scale: sources along the top, targets down the side, each by its picture.

    Args:
        weights: direct or expanded.
        images: feature visualizations of both layers (one record, several, or a mapping by layer).
        targets, sources: two families, as unit numbers or addresses.
        order: ``"given"``; ``"similarity"``, units with like maps side by side; ``"angle"``, by the angle of the line
            along which a unit's squared weights lie, from horizontal upwards.
        agreement, palette: as in :func:`~weightatlas.figures.connection`.

    Returns:
        A figure. ``data`` has ``maps`` ``[targets, sources, H, W]``, ``targets``, ``sources`` in the order drawn,
        ``angles`` of both with ``order="angle"``, ``share`` of the targets' squared weights, ``scale``, ``window``.

    Raises:
        ArgumentError, UnknownNameError: for units that are not among the weights, more than 64 of a family, another
            order.
        WeightValuesError: for NaN or infinite weights of the targets.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figure 5.
    """
    check_choice("order", order, Order)
    rows = units_of(targets, weights.target, weights.units, "target")
    columns = units_of(sources, weights.source, weights.source_indices, "source")
    if max(len(rows), len(columns)) > MOST:
        raise ArgumentError(f"a grid of {len(rows)} × {len(columns)} units is more than {MOST} along a side")
    values = full_maps(weights, rows)
    place = {int(n): i for i, n in enumerate(weights.source_indices)}
    maps = values[:, [place[n] for n in columns]]
    share = float(np.square(maps, dtype=np.float64).sum() / (np.square(values, dtype=np.float64).sum() or 1))
    down, right, data = _ordered(maps, order)
    maps = maps[down][:, right]
    rows, columns = [rows[i] for i in down], [columns[i] for i in right]
    drawn, pictures = maps_of(weights, maps.reshape(-1, *maps.shape[2:]), palette), gallery(images, weights)

    across = [(source_name(weights, n), pictures.of(weights.source, n)) for n in columns]
    along = [(f"{n}", pictures.of(weights.target, n)) for n in rows]

    def cell(r: int, c: int, side: float) -> Box:
        return drawn.card(maps[r, c], f"{across[c][0]} on {weights.target}:{rows[r]}", side)

    ordered = {"given": "", "similarity": ", alike ones side by side", "angle": ", by the angle of their maps"}[order]
    text = (
        f"{several(len(rows), 'unit')} of {weights.target} (down) and {len(columns)} of {weights.source} (across)"
        f"{ordered}; these maps hold {percent(share)} of the targets' squared weights; {sign_words(palette)}."
    )
    said = [*about_weights(weights), *about_agreement(agreement, weights, rows), *about_pictures(pictures)]
    return composed(
        (weights.target, f"reads {weights.source} · {drawn.shown.words} · {len(rows)} × {len(columns)} units"),
        lambda room: headed(across, along, cell, room, CELL),
        drawn.legend,
        title=f"{several(len(rows), 'unit')} of {weights.target} and {len(columns)} of {weights.source}",
        caption=text,
        said=[*said, *drawn.shown.left_out],
        provenance=weights.provenance,
        alt=f"A grid of signed maps: down {weights.target}:{', '.join(map(str, rows))}; across "
        f"{', '.join(source_name(weights, n) for n in columns)}.",
        data={"maps": maps, "targets": np.array(rows), "sources": np.array(columns), "share": share, **data}
        | drawn.data,
    )


def _ordered(maps: np.ndarray, order: Order) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Places of rows and columns, and the angles if they decide."""
    across = maps.swapaxes(0, 1)
    if order == "similarity":
        return by_similarity(maps.reshape(len(maps), -1)), by_similarity(across.reshape(len(across), -1)), {}
    if order == "angle":
        both = [angles(m) for m in (maps, across)]
        down, right = (np.argsort(a, kind="stable") for a in both)  # NaN last
        return down, right, {"angles": (both[0][down], both[1][right])}
    return np.arange(len(maps)), np.arange(len(across)), {}
