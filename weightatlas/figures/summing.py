"""A unit's value as a sum: what it starts from, what pushed it up and down, what is left over."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..records import Step
from . import boxes, lettering
from .boxes import Box
from .layout import GAP, LABEL_SIZE
from .scene import Scene
from .theme import EXCITE, INHIBIT, Palette

NUMBER = 16  # pixels high
BAR = 4
DIGITS = 3  # of the largest term
BASES = {"exact": "bias", "gradient": "source at 0", "integrated_gradients": "baseline", "conductance": "baseline"}


def decimals(values: Sequence[float]) -> int:
    """Digits behind the point with which the largest of several numbers has three, so that a sum can be checked."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), 9) if largest > 0 else 0


def signed_numbers(values: Sequence[float]) -> list[str]:
    """Numbers with their signs and equally many decimals.

    Example:
        >>> signed_numbers([1.234, -0.056, 0])
        ['+1.23', '−0.06', '0.00']
    """
    many = decimals(values)
    return [f"{'+' if v > 0 else '−' if v < 0 else ''}{abs(v):.{many}f}" for v in values]


def error_words(error: float) -> str:
    """How far a sum misses what it should be.

    Example:
        >>> error_words(3e-8), error_words(0.0123)
        ('adds up (to 3e-08 of the value)', 'misses the value by 1.2%')
    """
    return (
        f"misses the value by {error:.2g}"
        if not math.isfinite(error)
        else (f"adds up (to {error:.0e} of the value)" if error < 1e-3 else f"misses the value by {100 * error:.2g}%")
    )


def equation(step: Step, room: float, palette: Palette) -> Box:
    """``value = base + up − down + residual``, a number each over its bar and its name, in lines."""
    found = step.attributions
    sums = found.by_unit
    up, down = float(sums[sums > 0].sum()), float(sums[sums < 0].sum())
    terms = [
        ("", found.value, "value", ""), ("=", found.base, BASES.get(found.method, "base"), ""),
        ("+", up, "up", EXCITE[palette]), ("−", -down, "down", INHIBIT[palette]),
        ("+" if found.residual >= 0 else "−", abs(found.residual), "left over", ""),
    ]  # fmt: skip
    many = decimals([v for _, v, _, _ in terms])
    largest = max(abs(v) for _, v, _, _ in terms) or 1.0
    made = []
    for sign, value, name, colour in terms:
        words = f"{'−' if value < 0 else ''}{abs(value):.{many}f}"
        shown = _term(words, name, abs(value) / largest, colour)
        made.append(boxes.row([boxes.sign(sign, NUMBER, 12), shown], 4) if sign else shown)
    return boxes.lines(made, room, GAP * 0.6, GAP * 0.6)


def _term(number: str, name: str, share: float, colour: str) -> Box:
    """A number over a bar of its size and its name."""
    wide = max(
        lettering.text_width(number, NUMBER, bold=True) * boxes.ROUNDING,
        lettering.text_width(name, LABEL_SIZE) * boxes.ROUNDING,
        36,
    )
    height = NUMBER * boxes.LINE + BAR + 3 + LABEL_SIZE * boxes.LINE

    def draw(scene: Scene, x: float, y: float) -> None:
        scene.text(x, y + NUMBER, number, NUMBER, "ink", bold=True)
        top = y + NUMBER * boxes.LINE
        length = max(wide * min(share, 1), 1)
        scene.rect(x, top, length, BAR, fill=colour, role="" if colour else "arrow", radius=1)
        scene.text(x, top + BAR + LABEL_SIZE + 3, name, LABEL_SIZE, "quiet")

    return Box(wide, height, draw, NUMBER * 0.68)
