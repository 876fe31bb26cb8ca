"""Answers as JSON has them: numbers of five digits, maps as rows of them, pictures as data URLs."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ...records import Step

DIGITS = 5


def number(value: float, digits: int = DIGITS) -> float | None:
    """A number with so many significant digits; ``None`` for what JSON has no number for."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def map_of(values: np.ndarray) -> dict[str, Any]:
    """A map ``[h, w]``: its size, and its values row by row."""
    return {"rows": len(values), "columns": values.shape[1], "values": [number(v) for v in values.ravel().tolist()]}


def picture_of(pixels: np.ndarray) -> str:
    """A picture uint8 ``[h, w, C]`` as a data URL."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def step_of(step: Step) -> dict[str, Any]:
    """A step of an explanation."""
    a = step.attributions
    sums = a.by_unit
    shown = [*step.up, *step.down]
    return {
        "layer": a.target, "unit": a.unit, "at": list(a.at), "source": a.source, "method": a.method, "steps": a.steps,
        "baseline": a.baseline, "value": number(a.value, 9), "base": number(a.base, 9), "total": number(a.total, 9),
        "residual": number(a.residual), "error": number(a.error), "window": list(a.window),
        "grid": list(a.values.shape[1:]), "units": len(sums), "box": list(a.box), "target_map": map_of(a.target_map),
        "raised": number(float(sums[sums > 0].sum()), 9), "lowered": number(float(sums[sums < 0].sum()), 9),
        "shown": number(float(sums[shown].sum()), 9),
        "weights": weights_words(step), "why": step.why, "alike": number(step.alike), "notes": list(a.provenance.notes),
        "up": [source_of(step, u) for u in step.up], "down": [source_of(step, u) for u in step.down],
    }  # fmt: skip


def source_of(step: Step, unit: int) -> dict[str, Any]:
    """One source unit of a step: what it contributed, through which weights, and where most."""
    a = step.attributions
    weights = step.weight_map(unit)
    return {
        "unit": unit, "name": step.name(unit), "sum": number(float(a.by_unit[unit]), 9),
        "place": list(a.strongest_place(unit)),
        "weights": map_of(step.cut(a.gradients[unit]) if weights is None else weights),
        "patch": map_of(step.patch(unit)), "product": map_of(step.product(unit)),
    }  # fmt: skip


def weights_words(step: Step) -> str:
    """What the maps above the patches are: ``"own"`` or ``"expanded"`` weights, or the ``"gradient"`` on this image."""
    if step.weights is None:
        return "gradient"
    return "own" if step.attributions.method == "exact" else "expanded"
