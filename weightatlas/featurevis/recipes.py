"""Recipes: all settings of a rendering as data, and the rules by which a layer gets its own.

The numbers were found on EfficientNet-Lite0 and MobileNetV2 (``benchmarks/featurevis.py`` measures what they do on
units that were not tuned on).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from ..errors import ArgumentError, unknown_name
from ..network import Network
from .canvas import Kind

Style = Literal["display", "quick", "max"]
#: Positions of a layer along each axis whose mean is excited, where the canvas is made for the receptive field.
REACH = 10
LEAST_SIDE = 48  # pixels of such a canvas
#: Of recipes that excite most.
MOST_STEPS, MOST_SIDE = 128, 160


@dataclass(frozen=True)
class Recipe:
    """How pictures are made.

    Args:
        name: of the recipe, for captions.
        side: of the view in pixels; ``None`` lets the receptive field decide (``reach`` positions see it in full).
        reach: positions along each axis, for ``side=None``.
        at: ``"mean"`` over positions, ``"peaks"`` or the ``"centre"`` one; for units and directions given by number.
        steps: of the optimiser.
        rate: of the first step; it falls as a cosine to a tenth.
        momentum: of the normalised gradient.
        leak: share of the gradient that flat parts of ReLUs pass backwards.
        canvas: ``"bands"``, ``"fourier"``, ``"pixels"`` or ``"maco"``; see :mod:`weightatlas.featurevis.canvas`.
        contrast, exponent, chroma, deviation: of the canvas.
        alpha: whether the canvas has transparency; opacity then must be penalised by the objective.
        jitter: pixels by which the view moves.
        rotate: degrees to either side.
        scale: share by which the view grows or shrinks.
        noise: deviation of noise on values 0 … 1.
        pad: pixels of grey around the canvas.

    Raises:
        ArgumentError: for values outside what can be meant.
    """

    name: str = "own"
    side: int | None = None
    reach: int = REACH
    at: Literal["mean", "peaks", "centre"] = "mean"
    steps: int = 48
    rate: float = 0.3
    momentum: float = 0.9
    leak: float = 0.1
    canvas: Kind = "bands"
    contrast: float = 2.0
    exponent: float = 1.2
    chroma: float = 0.4
    deviation: float = 0.1
    alpha: bool = False
    jitter: int = 8
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    pad: int = 0

    def __post_init__(self) -> None:
        """Checks every setting."""
        if not isinstance(self.name, str):
            raise ArgumentError(f"a recipe's name={self.name!r} must be a string")
        if self.canvas not in get_args(Kind):
            raise unknown_name("canvas", str(self.canvas), get_args(Kind))
        if self.at not in ("mean", "peaks", "centre"):
            raise ArgumentError(f"a recipe's at={self.at!r} is none of 'mean', 'peaks' and 'centre'")
        ranges: dict[str, tuple[float, float]] = {
            "reach": (1, 512), "steps": (1, 100_000), "rate": (1e-6, 100), "momentum": (0, 0.9999), "leak": (0, 1),
            "contrast": (1e-3, 100), "exponent": (0, 4), "chroma": (0, 10), "deviation": (0, 10), "jitter": (0, 512),
            "rotate": (0, 180), "scale": (0, 4), "noise": (0, 10), "pad": (0, 512),
        }  # fmt: skip
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            whole = field in ("reach", "steps", "jitter", "pad")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ArgumentError(f"a recipe's {field}={value!r} must be {'an integer' if whole else 'a number'}")
            if not low <= value <= high:
                raise ArgumentError(f"a recipe's {field}={value!r} must be between {low:g} and {high:g}")
        if not isinstance(self.alpha, bool):
            raise ArgumentError(f"a recipe's alpha={self.alpha!r} must be True or False")
        if self.side is not None and (
            not isinstance(self.side, int) or isinstance(self.side, bool) or not 1 <= self.side <= 4096
        ):
            raise ArgumentError(f"a recipe's side={self.side!r} must be 1 … 4096 pixels, or None for the rule")

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some settings changed.

        Raises:
            ArgumentError: for a setting that does not exist.
        """
        for name in changes:
            if name not in asdict(self):
                raise ArgumentError(f"a recipe has no {name!r}; it has {', '.join(asdict(self))}")
        return replace(self, **{"name": "own", **changes})

    def to_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)


def recipe_for(net: Network, layer: str, style: str = "display") -> Recipe:
    """The recipe of a layer: by its stride and by how much of the input it sees.

    ==================  =======  ========  ======  =======  =====  ==================
    pixels a position   excites  view      jitter  turns    steps  start's deviation
    ==================  =======  ========  ======  =======  =====  ==================
    up to 5             mean     its own   4       none     32     .1
    6 … 11              mean     its own   8       none     40     .1
    12 … 23             mean     112 px    16      none     56     .1
    more, whole input   centre   144 px    16      ±15°     56     .3
    no grid (logits)    unit     160 px    16      ±15°     96     .3
    ==================  =======  ========  ======  =======  =====  ==================

    A layer that is linear in the pixels excites ``peaks``, since the mean of a filter over all positions cancels.

    Args:
        net: an open network.
        layer: a name of ``net.layers``.
        style: ``"display"`` (for looking at), ``"quick"`` (half the steps) or ``"max"`` (excites most, looks worse).

    Raises:
        UnknownNameError: for another style or layer.

    Example:
        >>> import weightatlas as wa
        >>> recipe_for(wa.load("efficientnet_lite0"), "blocks.4.1").side
        112
    """
    known = net.layers[layer]
    if style not in get_args(Style):
        raise unknown_name("recipe", str(style), get_args(Style), hint="Or give a Recipe(…)")
    field = known.receptive_field
    stride = max(field.stride) if field is not None else math.inf
    if stride < 6:
        reach = max(REACH, math.ceil(LEAST_SIDE / stride))
        at = "peaks" if _is_filter(net, layer) else "mean"
        base = Recipe(style, reach=reach, at=at, jitter=4, steps=32, exponent=1.0)
    elif stride < 12:
        base = Recipe(style, jitter=8, steps=40)
    elif stride < 24:
        base = Recipe(style, side=112, jitter=16, steps=56)
    else:
        grid = known.grid is not None and max(known.grid) > 1
        base = Recipe(
            style, side=144 if grid else 160, at="centre" if grid else "mean", jitter=16, rotate=15, scale=0.2,
            deviation=0.3, steps=56 if grid else 96, rate=0.4,
        )  # fmt: skip
    if style == "quick":
        return replace(base, steps=base.steps // 2)
    if style == "max":
        side = MOST_SIDE if stride >= 24 else base.side
        return replace(
            base, side=side, steps=MOST_STEPS, leak=0.03, contrast=3.5, exponent=1.0, chroma=1.0,
            jitter=min(base.jitter, 8), rotate=0.0, scale=0.0, rate=0.3,
        )  # fmt: skip
    return base


def _is_filter(net: Network, name: str) -> bool:
    """Whether a layer is one convolution of the input, with nothing but norms after it."""
    layer = net.layers[name]
    while layer.kind == "norm" and layer.source in net.layers:
        layer = net.layers[layer.source]
    return layer.kernel is not None and layer.source == "input"
