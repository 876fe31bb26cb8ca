"""The words and numbers of an explanation: how contributions were found, how far to trust them, what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..records import Explanation, Step
from .grids import sign_words
from .pushing import Scales
from .summing import error_words
from .theme import Palette
from .wording import signed

METHODS = {
    "exact": "weight × activation",
    "gradient": "gradient × activation",
    "integrated_gradients": "integrated gradients",
    "conductance": "layer conductance",
}


def trust(step: Step) -> list[str]:
    """How the contributions were found, and how far they and the weights can be trusted."""
    found = step.attributions
    steps = f", {found.steps} steps" if found.steps else ""
    start = (
        f" from {found.baseline}" if found.baseline and found.method in ("integrated_gradients", "conductance") else ""
    )
    lines = [
        f"Contributions: {METHODS.get(found.method, found.method)}{steps}{start}; the sum {error_words(found.error)}."
    ]
    if step.instead:
        lines.append(f"It is what {step.instead} reads: its activation comes after.")
    if step.weights is None:
        lines.append(f"No weights: {step.why}.")
    elif np.isnan(step.alike):
        lines.append("Weights or gradient are 0 here.")
    elif found.method == "exact":
        lines.append("Weights: the layer's own.")
    else:
        lines.append(f"Weights: cosine {signed(step.alike)} with the gradient on this image.")
    return lines


def end(step: Step) -> list[str]:
    """Why the walk ends at a step although more were asked for, as a sentence; none where it does not."""
    return [f"The walk ends here: {step.ended}."] if step.ended else []


def outcome(step: Step) -> str:
    """What the unit did where it is explained: it fired, or to what it came."""
    value = step.attributions.value
    return "fired" if value > 0 else f"came to {'−' if value < 0 else ''}{abs(value):.3g}"


def caption(found: Explanation, palette: Palette) -> str:
    """What is shown, in a sentence or two."""
    walk = "" if len(found) == 1 else f", then the same for {', then '.join(s.address for s in found.steps[1:])}"
    first = found[0]
    return (
        f"Why {first.address} {outcome(first)} on this image: the units of {first.attributions.source} that pushed it "
        f"up and down most{walk}. In each column: what the unit detects, its weights on the target, its activations, "
        f"and what these contributed; each row of maps has one scale a step; {sign_words(palette)}, activations purple "
        "above 0, green below."
    )


def said(found: Explanation) -> list[str]:
    """What is left out, and what was noted on the way."""
    said = []
    for step in found:
        total = np.abs(step.attributions.by_unit).sum()
        part = np.abs(step.attributions.by_unit[[*step.up, *step.down]]).sum()
        if total > 0:
            said.append(f"units shown hold {part / total:.0%} of all that pushed {step.address}")
    if any(s.carried(u) for s in found for u in (*s.up, *s.down)):
        said.append("what a skip path carries on goes beyond the scales of weights and contributions")
    return list(dict.fromkeys(said))


def alt(found: Explanation) -> str:
    """The figure in words."""
    told = []
    for step in found:
        f = step.attributions
        up, down = (
            ", ".join(f"{step.name(u)} {f.by_unit[u]:+.3g}" for u in units) or "none" for units in (step.up, step.down)
        )
        told.append(
            f"{step.address} at {f.at} is {f.value:.4g} = {f.base:.4g} + {f.total:.4g} + {f.residual:.2g}; pushed up "
            f"by {up}; pushed down by {down}."
        )
        told += end(step)
    return " ".join(told)


def data(step: Step, shown: Scales) -> dict[str, Any]:
    """The numbers of a step that are shown."""
    found, units = step.attributions, [*step.up, *step.down]
    maps = [step.weight_map(u) for u in units]
    shape = (0, *step.cut(found.values).shape[1:])
    return {
        "target": step.address, "at": found.at, "source": found.source, "method": found.method, "value": found.value,
        "base": found.base, "total": found.total, "residual": found.residual, "error": found.error,
        "alike": step.alike, "why": step.why, "instead": step.instead, "ended": step.ended,
        "names": [step.name(u) for u in units], "up": list(step.up), "down": list(step.down), "window": found.window,
        "contributions": found.by_unit[units],
        "weights": np.stack([m for m in maps if m is not None]) if units and step.weights else np.zeros(shape),
        "activations": np.stack([step.patch(u) for u in units]) if units else np.zeros(shape),
        "products": np.stack([step.product(u) for u in units]) if units else np.zeros(shape),
        "shown": (*shown.shown.start, *shown.shown.shape), "scales": {row: getattr(shown, row) for row in shown.rows},
    }  # fmt: skip
