"""How records show themselves in notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import figures
from .errors import WeightAtlasError
from .records import Banding, Factors, LayerTable, Weights


def show(record: Any) -> str:
    """A record as HTML: the figure that suits it, else its one-line form.

    Never raises: a record that cannot be drawn (NaN weights, signed factors) says why below its one-line form.
    """
    line = f"<code>{figures.escape(repr(record))}</code>"
    try:
        if isinstance(record, LayerTable):
            return figures.layer_table(record)
        if isinstance(record, Banding):
            return figures.banding_plot(record).html()
        if isinstance(record, Factors) and record.nonnegative == "space":
            return figures.nmf_grid(record).html()
        if isinstance(record, Weights):
            return _weights(record, line)
    except WeightAtlasError as error:
        return f"{line}<p>{figures.escape(str(error))}</p>"
    return line


def _weights(weights: Weights, line: str) -> str:
    if figures.has_own_colours(weights):
        return figures.pixel_grid(weights).html()
    if weights.values.shape[1] == 1:
        return figures.signed_maps(weights).html()
    norm = float(np.sqrt(np.square(weights.values, dtype=np.float64).sum()))
    return f"{line}<p>L2 norm {norm:.3g}. factorize(weights) shows its spatial structure.</p>"
