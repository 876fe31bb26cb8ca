"""Colours and type of every picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Literal, get_args

import numpy as np

from ..errors import ArgumentError

Theme = Literal["auto", "light", "dark"]
Palette = Literal["classic", "colorblind"]

SANS = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', sans-serif"
MONO = "'JetBrains Mono', ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

#: Roles of ink, light and dark. Contrast on the ground is at least 4.5 for everything that is text.
INKS = {
    "light": {"ground": "#ffffff", "ink": "#1b1b1f", "quiet": "#66666d", "line": "#d9d9de", "wash": "#f0f0f3"},
    "dark": {"ground": "#131316", "ink": "#ededf0", "quiet": "#a0a0a9", "line": "#3a3a41", "wash": "#232328"},
}

#: Diverging maps from inhibit through near-white zero to excite, as stops on −1 … 1.
#: Classic follows the article (blue, red; Brewer's RdBu), colorblind goes from blue to orange.
DIVERGING: dict[str, tuple[str, ...]] = {
    "classic": ("#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"),
    "colorblind": ("#0b4f9e", "#3f83c4", "#8cb8dd", "#cfe0ee", "#f7f7f7", "#fde2bf", "#f9b266", "#e07b12", "#a14a00"),
}
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
    stops = np.array([_rgb(c) for c in DIVERGING[palette]], dtype=float)
    position = np.clip(values / (scale or 1.0), -1, 1)
    grid = np.linspace(-1, 1, len(stops))
    colours = np.stack([np.interp(position, grid, stops[:, c]) for c in range(3)], axis=-1)
    colours[np.isnan(values)] = NAN_COLOUR
    return np.rint(colours).astype(np.uint8)


def factor_colours(rank: int) -> np.ndarray:
    """One colour per factor, ``[K, 3]`` in 0 … 1: red, green, blue for three, hues around the circle otherwise."""
    import colorsys

    hues = FACTOR_HUES.get(rank, tuple(k / rank for k in range(rank)))
    return np.array([colorsys.hsv_to_rgb(h, 1.0, 1.0) for h in hues])


def style(theme: Theme, *, ground: bool = True) -> str:
    """The CSS of a drawing: classes for ink and type; ``auto`` follows the reader's system."""
    check_choice("theme", theme, Theme)

    def rules(name: str) -> str:
        inks = INKS[name]
        return (
            "".join(
                f".{role}{{fill:{inks[role]}}}.s-{role}{{stroke:{inks[role]}}}"
                for role in ("ink", "quiet", "line", "wash")
            )
            + f".ground{{fill:{inks['ground'] if ground else 'none'}}}.s-ground{{stroke:{inks['ground']}}}"
        )

    base = f".t{{font-family:{SANS}}}.m{{font-family:{MONO}}}.b{{font-weight:600}}"
    if theme == "auto":
        return base + rules("light") + "@media (prefers-color-scheme:dark){" + rules("dark") + "}"
    return base + rules(theme)


@dataclass(frozen=True)
class _Faces:
    regular: str
    bold: str
    mono: str


@cache
def font_files() -> _Faces:
    """Paths of the typefaces that come with the package (Inter, JetBrains Mono)."""
    names = ("Inter-Regular.otf", "Inter-SemiBold.otf", "JetBrainsMono-Regular.ttf")
    paths = []
    for name in names:
        with as_file(files("weightatlas.figures") / "fonts" / name) as path:
            paths.append(str(path))
    return _Faces(*paths)


@cache
def _face(path: str) -> object:
    from PIL import ImageFont

    return ImageFont.truetype(path, 100)


def text_width(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """Width of a line of text in pixels, set in the package's typefaces."""
    faces = font_files()
    face = _face(faces.mono if mono else faces.bold if bold else faces.regular)
    return face.getlength(text) * size / 100  # pyright: ignore[reportAttributeAccessIssue]


def wrap(text: str, size: float, width: float) -> list[str]:
    """Lines of at most that width; a word that is wider stands alone.

    Readers' own typefaces differ a little, so 4 % are kept free.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width * 0.96:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shorten(text: str, size: float, width: float, *, mono: bool = True) -> str:
    """The text, with its middle left out if it is wider than that."""
    if text_width(text, size, mono=mono) <= width:
        return text
    for keep in range(len(text) - 1, 3, -1):
        head = keep // 2
        shorter = text[:head] + "…" + text[len(text) - (keep - head) :]
        if text_width(shorter, size, mono=mono) <= width:
            return shorter
    return text[:1] + "…"
