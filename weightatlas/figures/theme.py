"""Colours of every picture."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ..errors import ArgumentError
from .lettering import BOLD, MONO, SANS

Theme = Literal["auto", "light", "dark"]
Palette = Literal["classic", "colorblind"]

#: Roles of ink, light and dark. Contrast on the ground is at least 4.5 for everything that is text.
INKS = {
    "light": {
        "ground": "#ffffff",
        "ink": "#1b1b1f",
        "quiet": "#66666d",
        "line": "#d9d9de",
        "wash": "#f0f0f3",
        "arrow": "#a9a9b2",
    },
    "dark": {
        "ground": "#131316",
        "ink": "#ededf0",
        "quiet": "#a0a0a9",
        "line": "#3a3a41",
        "wash": "#232328",
        "arrow": "#6a6a73",
    },
}

#: Diverging maps from inhibit through near-white zero to excite, as stops on −1 … 1.
#: Classic follows the article (blue, red; Brewer's RdBu), colorblind goes from blue to orange.
DIVERGING: dict[str, tuple[str, ...]] = {
    "classic": ("#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"),
    "colorblind": ("#0b4f9e", "#3f83c4", "#8cb8dd", "#cfe0ee", "#f7f7f7", "#fde2bf", "#f9b266", "#e07b12", "#a14a00"),
}
#: Activations: white is 0, purple positive, green negative (Brewer's PRGn), unlike any colour of a weight.
ACTIVATION = (
    "#00441b", "#1b7837", "#5aae61", "#a6dba0", "#d9f0d3", "#f7f7f7", "#e7d4e8", "#c2a5cf", "#9970ab", "#762a83",
    "#40004b",
)  # fmt: skip
EXCITE = {"classic": "#c0392b", "colorblind": "#d06f10"}
INHIBIT = {"classic": "#2b6cb0", "colorblind": "#2467ad"}
NAN_COLOUR = (0xE8, 0x3E, 0xE8)  # nothing else in any picture is magenta

#: Hues of factors, first factor first; three of them are the primaries of Figure 1.
FACTOR_HUES = {1: (0.0,), 2: (0.0, 0.55)}


def check_choice(name: str, value: str, allowed: type | object) -> None:
    """Stops at a value that is not among a literal type's.

    Raises:
        ArgumentError: naming the allowed ones.
    """
    choices = get_args(allowed)
    if value not in choices:
        raise ArgumentError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}")


def _rgb(hex_colour: str) -> tuple[int, int, int]:
    return int(hex_colour[1:3], 16), int(hex_colour[3:5], 16), int(hex_colour[5:7], 16)


def diverging(values: np.ndarray, scale: float, palette: Palette = "classic") -> np.ndarray:
    """Signed values as colours.

    Args:
        values: any shape.
        scale: the magnitude that gets the full colour; larger ones are clipped to it.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        uint8, the values' shape with 3 appended; NaN is magenta.

    Example:
        >>> diverging(np.array([0.0]), scale=1.0).tolist()
        [[247, 247, 247]]
    """
    check_choice("palette", palette, Palette)
    return _between(values, scale, DIVERGING[palette])


def activation(values: np.ndarray, scale: float) -> np.ndarray:
    """Activations as colours: white 0, purple above, green below.

    Args:
        values: any shape.
        scale: the magnitude that gets the full colour; larger ones are clipped to it.

    Returns:
        uint8, the values' shape with 3 appended; NaN is magenta.

    Example:
        >>> activation(np.array([0.0, 2.0]), scale=2.0).tolist()
        [[247, 247, 247], [64, 0, 75]]
    """
    return _between(values, scale, ACTIVATION)


def _between(values: np.ndarray, scale: float, colours: tuple[str, ...]) -> np.ndarray:
    """Colours between stops on −scale … scale."""
    stops = np.array([_rgb(c) for c in colours], dtype=float)
    position = np.clip(values / (scale or 1.0), -1, 1)
    grid = np.linspace(-1, 1, len(stops))
    made = np.stack([np.interp(position, grid, stops[:, c]) for c in range(3)], axis=-1)
    made[np.isnan(values)] = NAN_COLOUR
    return np.rint(made).astype(np.uint8)


def factor_colours(rank: int) -> np.ndarray:
    """One colour per factor, ``[K, 3]`` in 0 … 1: red, green, blue for three, hues around the circle otherwise."""
    import colorsys

    hues = FACTOR_HUES.get(rank, tuple(k / rank for k in range(rank)))
    return np.array([colorsys.hsv_to_rgb(h, 1.0, 1.0) for h in hues])


#: Opacity of each role where a drawing takes its ink from the text around it.
STRENGTH = {"ink": 1, "quiet": 0.72, "line": 0.18, "wash": 0.06, "arrow": 0.4}
TYPE = {"t": f"font-family:{SANS}", "m": f"font-family:{MONO}", "b": f"font-family:{BOLD};font-weight:600"}


def style(theme: Theme) -> str:
    """The CSS of a drawing that stands alone: classes for ink and type; ``auto`` follows the reader's system."""
    check_choice("theme", theme, Theme)

    def rules(name: str) -> str:
        return "".join(f".wa-{role}{{fill:{ink}}}.wa-s-{role}{{stroke:{ink}}}" for role, ink in INKS[name].items())

    base = "".join(f".wa-{kind}{{{look}}}" for kind, look in TYPE.items())
    if theme == "auto":
        return base + rules("light") + "@media (prefers-color-scheme:dark){" + rules("dark") + "}"
    return base + rules(theme)


def inherited_style(scope: str) -> str:
    """The CSS of drawings inside a page: ink is the page's own text colour, the ground shows through.

    So a drawing can be read on whatever ground its text can, also where a page's theme is not the system's.

    Args:
        scope: a selector; nothing outside it is touched.
    """
    rules = [f"{scope} .wa-{kind}{{{look}}}" for kind, look in TYPE.items()]
    for role, strength in STRENGTH.items():
        rules.append(f"{scope} .wa-{role}{{fill:currentColor;fill-opacity:{strength}}}")
        rules.append(f"{scope} .wa-s-{role}{{stroke:currentColor;stroke-opacity:{strength}}}")
    return "".join(rules) + f"{scope} .wa-ground{{fill:none}}"
