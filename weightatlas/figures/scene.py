"""A drawing surface: elements placed in pixels, written as SVG."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .lettering import visible
from .theme import Theme, style

#: Side of one weight in an embedded picture: large enough that a viewer that smooths still shows squares.
CELL = 8
#: Least pixels to which pictures are enlarged before they are embedded, and how well they are kept (WebP's quality).
FINE, QUALITY = 320, 90
#: Pixels of a picture whose corners have just the radius that is asked for; others are rounded in proportion.
REFERENCE = 160
MARK = "#1b1b1f"


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def escape(text: str) -> str:
    """Text as XML and HTML can hold it, in elements and in quoted attributes."""
    return html.escape(visible(text))


def png_bytes(pixels: np.ndarray) -> bytes:
    """uint8 ``[H, W, 3]`` as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@lru_cache(maxsize=1024)
def _webp(data: bytes, shape: tuple[int, int, int], round_by: float, below: bool) -> str:
    """A picture's pixels as WebP in base64, enlarged if small, corners rounded by a share of its width, or two."""
    from PIL import Image, ImageDraw

    height, width = shape[:2]
    times = max(FINE / width, 1.0)
    size = round(width * times), max(round(height * times), 1)
    picture = Image.frombytes("RGB", (width, height), data).resize(size, Image.Resampling.LANCZOS)
    if round_by:
        mask = Image.new("L", (size[0] * 2, size[1] * 2), 0)
        corners = (0, 0, size[0] * 2 - 1, size[1] * 2 - 1)
        rounded = (True, True, below, below)
        ImageDraw.Draw(mask).rounded_rectangle(corners, round(2 * round_by * size[0]), fill=255, corners=rounded)
        picture.putalpha(mask.resize(size, Image.Resampling.BOX))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(buffer.getvalue()).decode()


def shared_photos(drawings: Sequence[str]) -> tuple[str, list[str]]:
    """Drawings of one page that hold each picture once: what they share, and the drawings that refer to it."""
    symbols: dict[str, str] = {}

    def refer(match: re.Match[str]) -> str:
        placed, data, rest = match.groups()
        name = f"wa-{hashlib.sha256(data.encode()).hexdigest()[:16]}"
        symbols[name] = (
            f'<symbol id="{name}" viewBox="0 0 1 1" preserveAspectRatio="none"><image width="1" height="1" '
            f'preserveAspectRatio="none" href="data:image/webp;base64,{data}"/></symbol>'
        )
        return f'<use {placed}href="#{name}">{rest}</use>'

    pattern = re.compile(r'<image ([^<>]*?)href="data:image/webp;base64,([^"]*)">(.*?)</image>', re.DOTALL)
    referring = [pattern.sub(refer, drawing) for drawing in drawings]
    if not symbols:
        return "", referring
    shared = '<svg width="0" height="0" style="position:absolute" aria-hidden="true">'
    return f"{shared}{''.join(symbols.values())}</svg>", referring


class Scene:
    """Elements of one drawing, ``width`` pixels wide; ``height`` grows with what is placed.

    Colours are roles (``ink``, ``quiet``, ``line``, ``wash``) that the theme fills in, or literal ones.
    """

    def __init__(self, width: float) -> None:
        self.width, self.height = float(width), 0.0
        self._parts: list[str] = []

    def reach(self, y: float) -> None:
        """Makes the drawing at least that high."""
        self.height = max(self.height, y)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        role: str = "ink",
        *,
        mono: bool = False,
        bold: bool = False,
        anchor: str = "start",
        more: Sequence[tuple[str, str]] = (),
    ) -> None:
        """One line of text whose baseline is at y; ``more`` are (words, role) that follow on the same line."""
        classes = f"wa-{'m' if mono else 't'} {'wa-b ' if bold else ''}wa-{role}"
        placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
        spans = "".join(f'<tspan class="wa-{other}">{escape(part)}</tspan>' for part, other in more if part)
        self._parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" class="{classes}"{placed}>'
            f"{escape(words)}{spans}</text>"
        )
        self.reach(y + size * 0.35)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        role: str = "",
        fill: str = "",
        stroke: str = "",
        radius: float = 0,
        opacity: float = 1,
    ) -> None:
        """A rectangle, filled by role or colour, or with an outline by role."""
        look = f' fill="{fill}"' if fill else f' class="wa-{role}"' if role else f' fill="none" class="wa-s-{stroke}"'
        rounded = f' rx="{number(radius)}"' if radius else ""
        faint = f' opacity="{opacity:g}"' if opacity != 1 else ""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
            f"{look}{rounded}{faint}/>"
        )
        self.reach(y + height)

    def line(self, x1: float, y1: float, x2: float, y2: float, role: str = "line", width: float = 1) -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="wa-s-{role}" '
            f'stroke-width="{number(width)}"/>'
        )
        self.reach(max(y1, y2))

    def path(self, steps: Sequence[tuple[str | float, ...]], role: str = "line", width: float = 1) -> None:
        """A line through the steps of an SVG path in absolute coordinates: ``("M", x, y)``, ``("V", y)``, ``("Q", …)``.

        It is one shape however often it crosses itself, so that faint ink does not add up.
        """
        words, lowest = [], 0.0
        for letter, *numbers in steps:
            words.append(f"{letter}{' '.join(number(float(n)) for n in numbers)}")
            if letter != "H":  # the last coordinate of every other step is a y
                lowest = max(lowest, float(numbers[-1]))
        self._parts.append(
            f'<path d="{"".join(words)}" fill="none" class="wa-s-{role}" stroke-width="{number(width)}"/>'
        )
        self.reach(lowest)

    def shape(self, corners: Sequence[tuple[float, float]], role: str) -> None:
        """A filled polygon."""
        points = " ".join(f"{number(x)},{number(y)}" for x, y in corners)
        self._parts.append(f'<polygon points="{points}" class="wa-{role}"/>')
        self.reach(max(y for _, y in corners))

    def dot(self, x: float, y: float, radius: float, fill: str, *, hollow: bool = False) -> None:
        """A disc, or a ring whose inside shows the ground."""
        look = f'class="wa-ground" stroke="{fill}" stroke-width="1.75"' if hollow else f'fill="{fill}"'
        self._parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" {look}/>')
        self.reach(y + radius)

    def pixels(self, x: float, y: float, width: float, height: float, colours: np.ndarray, words: str) -> None:
        """A picture ``[H, W, 3]`` uint8 with hard squares in every viewer, and what it shows in words."""
        enlarged = colours.repeat(CELL, axis=0).repeat(CELL, axis=1)
        data = base64.b64encode(png_bytes(enlarged)).decode()
        self._parts.append(
            f'<image x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'preserveAspectRatio="none" style="image-rendering:pixelated" role="img" aria-label="{escape(words)}" '
            f'href="data:image/png;base64,{data}"><title>{escape(words)}</title></image>'
        )
        self.reach(y + height)

    def photo(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colours: np.ndarray,
        words: str,
        radius: float = 0,
        *,
        below: bool = True,
    ) -> None:
        """A picture ``[H, W, 3]`` uint8, smooth, with rounded corners (``below`` too), and what it shows in words."""
        pixels = np.ascontiguousarray(colours)
        data = _webp(pixels.tobytes(), pixels.shape, radius / REFERENCE, below)  # the same at every width
        self._parts.append(
            f'<image x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'preserveAspectRatio="none" image-rendering="optimizeQuality" role="img" aria-label="{escape(words)}" '
            f'href="data:image/webp;base64,{data}"><title>{escape(words)}</title></image>'
        )
        self.reach(y + height)

    def outline(self, x: float, y: float, width: float, height: float) -> None:
        """A hairline around what lies there, so that its edge shows on any ground."""
        self.rect(x - 0.5, y - 0.5, width + 1, height + 1, stroke="line")

    def mark(self, x: float, y: float, width: float, height: float) -> None:
        """A thin dark frame just inside a square of a map, whatever its colour; maps are the same in light and dark."""
        self._parts.append(
            f'<rect x="{number(x + 0.38)}" y="{number(y + 0.38)}" width="{number(width - 0.75)}" '
            f'height="{number(height - 0.75)}" fill="none" stroke="{MARK}" stroke-width="0.75" stroke-opacity="0.45"/>'
        )
        self.reach(y + height)

    def frame(self, x: float, y: float, width: float, height: float, radius: float = 0) -> None:
        """A frame that shows on any picture: dark with a light rim on both sides, its middle on the given edge."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        rounded = f' rx="{number(radius)}"' if radius else ""
        for colour, thick in (("#ffffff", 3.5), (MARK, 1.5)):
            self._parts.append(f'<rect {place}{rounded} fill="none" stroke="{colour}" stroke-width="{thick}"/>')
        self.reach(y + height)

    def gradient(self, x: float, y: float, width: float, height: float, colours: np.ndarray) -> None:
        """A horizontal bar of colours ``[n, 3]`` uint8."""
        self.pixels(x, y, width, height, colours[None], "colour scale")

    def note(self, words: str) -> None:
        """A tooltip for the element placed last."""
        last = self._parts.pop()
        name = last[1:].split(" ", 1)[0]
        self._parts.append(f"<g><title>{escape(words)}</title>{last}</g>" if name != "g" else last)

    def svg(self, theme: Theme, title: str, description: str) -> str:
        """The drawing as an SVG document with text alternatives."""
        ground = f'<rect class="wa-ground" width="{number(self.width)}" height="{number(np.ceil(self.height))}"/>'
        return self._document(title, description, f"<style>{style(theme)}</style>{ground}")

    def fragment(self, title: str, description: str) -> str:
        """The drawing as an element of a page, whose style it needs (:func:`~.theme.inherited_style`)."""
        return self._document(title, description, "")

    def _document(self, title: str, description: str, under: str) -> str:
        w, h = number(self.width), number(np.ceil(self.height))
        title, description = escape(title), escape(description)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            f'aria-label="{title}. {description}"><title>{title}</title><desc>{description}</desc>'
            f"{under}{''.join(self._parts)}</svg>"
        )
