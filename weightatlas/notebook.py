"""How records show themselves in notebooks."""

from __future__ import annotations

from typing import Any

from . import figures
from .errors import WeightAtlasError
from .records import (
    Attributions,
    Banding,
    Explanation,
    Factors,
    FeatureImages,
    GradientCases,
    LayerGraph,
    LayerTable,
    ModelTable,
    Paths,
    Step,
    Weights,
)

UNITS_SHOWN, SOURCES_SHOWN = 3, 4


def show(record: Any) -> str:
    """A record as HTML: the figure that suits it, else its one-line form.

    Never raises: a record that cannot be drawn (NaN weights, signed factors) says why below its one-line form.
    """
    line = f"<code>{figures.escape(repr(record))}</code>"
    try:
        if isinstance(record, LayerTable):
            return figures.layer_table(record)
        if isinstance(record, ModelTable):
            return figures.model_table(record)
        if isinstance(record, Banding):
            return figures.banding_plot(record).html()
        if isinstance(record, Factors) and record.nonnegative == "space":
            return figures.nmf_grid(record).html()
        if isinstance(record, FeatureImages):
            return figures.contact_sheet(record).html()
        if isinstance(record, LayerGraph):
            return figures.graph_figure(record).html()
        if isinstance(record, Paths):
            return figures.pathways(record, k=UNITS_SHOWN).html()
        if isinstance(record, Weights):
            return _weights(record)
        if isinstance(record, GradientCases):
            return figures.gradient_cases(record).html()
        if isinstance(record, Attributions):
            up, down = (tuple(units) for units in record.pushed(SOURCES_SHOWN))
            record = Explanation((Step(record, None, "wa.explain finds them", float("nan"), up, down),))
        if isinstance(record, Explanation):
            return figures.explanation(record).html()
    except WeightAtlasError as error:
        return f"{line}<p>{figures.escape(str(error))}</p>"
    return line


def _weights(weights: Weights) -> str:
    if figures.has_own_colours(weights):
        return figures.pixel_grid(weights).html()
    if weights.values.shape[1] == 1:
        return figures.signed_maps(weights).html()
    return figures.connections(weights, weights.units[:UNITS_SHOWN].tolist()).html()
