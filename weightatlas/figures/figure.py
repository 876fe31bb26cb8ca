"""A finished figure: one composition for any width, written as SVG, PNG or HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, MissingPackageError
from ..records import atomic_write
from . import lettering
from .scene import Scene, escape, shared_photos
from .theme import Theme, inherited_style

WIDTH = 720
#: Widths for which an HTML figure holds a composition of its own; the widest that fits is shown, enlarged to fill.
BREAKPOINTS = (300, 360, 440, 560, 720, 900, 1080)
WIDTH_RANGE = (240, 8000)
MOST_PIXELS = 2**28  # of a PNG
MARGIN = 16
CAPTION_SIZE, CAPTION_LEADING = 12.5, 18
SUFFIXES = (".svg", ".png", ".html")


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture that knows what it shows.

    Args:
        compose: places everything but the caption on a scene of the given width.
        title: what the figure is, in a few words.
        caption: one or two sentences: what is shown, how it was made, how far to trust it.
        source: provenance in a line.
        alt: what it shows, for those who cannot see it.
        data: the numbers it shows, as arrays by name.
    """

    compose: Callable[[float], Scene]
    title: str
    caption: str
    source: str
    alt: str
    data: Mapping[str, Any]

    def svg(self, width: float = WIDTH, theme: Theme = "auto") -> str:
        """The figure with its caption as an SVG document.

        Args:
            width: in pixels; the composition adapts to it.
            theme: ``"light"``, ``"dark"``, or ``"auto"``, which follows the reader's system.
        """
        check_width(width)
        return self._captioned(width).svg(theme, self.title, self.alt)

    def png(self, scale: float = 2, *, width: float = WIDTH, theme: Theme = "light") -> bytes:
        """The same picture as PNG, ``scale`` device pixels to a pixel; ``"auto"`` is light here.

        Raises:
            MissingPackageError: if resvg-py, which rasterises, is not installed.
        """
        try:
            from resvg_py import svg_to_bytes
        except ImportError as error:
            raise MissingPackageError(
                "PNG files need the package resvg-py: pip install resvg-py, or save an .svg"
            ) from error

        check_width(width)
        if not 0.1 <= scale <= 16:
            raise ArgumentError(f"scale={scale} is not between 0.1 and 16")
        scene = self._captioned(width)
        if scene.width * scene.height * scale**2 > MOST_PIXELS:
            size = f"{scene.width * scale:.0f} × {scene.height * scale:.0f}"
            raise ArgumentError(
                f"a PNG of {size} pixels is too large; lower scale={scale} or width={width}, or save .svg"
            )
        drawing = scene.svg("light" if theme == "auto" else theme, self.title, self.alt)
        faces = lettering.font_files()
        return bytes(
            svg_to_bytes(
                svg_string=drawing,
                zoom=scale,
                # the same picture on every machine, unless the words need letters that the package does not bring
                skip_system_fonts=lettering.all_drawn(drawing),
                font_files=[faces.regular, faces.bold, faces.mono],
                font_family="Inter",
                sans_serif_family="Inter",
                monospace_family="JetBrains Mono",
                image_rendering="optimize_speed",  # hard squares
            )
        )

    def html(self) -> str:
        """The figure as an HTML fragment that fits the width it is given and takes the colour of the text around it."""
        steps, drawings = [], []
        for i, width in enumerate(BREAKPOINTS):
            margin = f"{100 * MARGIN / width:.3f}cqw" if width < BREAKPOINTS[-1] else f"{MARGIN}px"  # as enlarged
            steps.append(
                f"@container (min-width:{width if i else 0}px)"
                f"{{.wa-figure>div[class]{{display:none}}.wa-figure>div.w{width}{{display:block}}"
                f".wa-figure figcaption{{margin-left:{margin};margin-right:{margin}}}}}"
            )
            drawings.append(self.compose(width).fragment(self.title, self.alt))
        shared, drawings = shared_photos(drawings)
        for i, width in enumerate(BREAKPOINTS):
            hidden = "" if width == WIDTH else " hidden"  # where a reader removes styles, one is left
            drawings[i] = f'<div class="w{width}"{hidden}>{drawings[i]}</div>'
        return (
            "<style>.wa-box{container-type:inline-size}.wa-figure{margin:0}"
            f".wa-figure div>svg{{width:100%;max-width:{BREAKPOINTS[-1]}px;height:auto;display:block}}"
            f".wa-figure figcaption{{font:13px/1.5 {lettering.SANS};max-width:70ch;margin:12px {MARGIN}px 0;"
            "overflow-wrap:anywhere}.wa-figure small{display:block;margin-top:2px;opacity:.75}"
            f"{inherited_style('.wa-figure')}{''.join(steps)}</style>"
            f'<div class="wa-box"><figure class="wa-figure">{shared}{"".join(drawings)}<figcaption>'
            f"{escape(self.caption)} <small>{escape(self.source)}</small></figcaption></figure></div>"
        )

    def save(self, path: str | Path, *, width: float = WIDTH, scale: float = 2, theme: Theme = "auto") -> Path:
        """Writes the figure, whole or not at all.

        Args:
            path: ends in ``.svg``, ``.png`` or ``.html`` (a page of its own).
            width: in pixels, for SVG and PNG; HTML adapts by itself.
            scale: of a PNG.
            theme: as in :meth:`svg`.

        Returns:
            The path.

        Raises:
            ArgumentError: for another ending.
            LoadError: if the file cannot be written.
        """
        from .page import page

        path = check_path(path)
        if path.suffix == ".png":
            return atomic_write(path, self.png(scale, width=width, theme=theme))
        text = self.svg(width, theme) if path.suffix == ".svg" else page(self.title, self.html(), theme=theme)
        return atomic_write(path, text.encode())

    def _captioned(self, width: float) -> Scene:
        scene = self.compose(width)
        y = scene.height + 14
        for words, role in ((self.caption, "ink"), (self.source, "quiet")):
            for line in lettering.wrap(words, CAPTION_SIZE, width - 2 * MARGIN):
                y += CAPTION_LEADING
                scene.text(MARGIN, y, line, CAPTION_SIZE, role)
        scene.reach(y + MARGIN)
        return scene

    def _repr_html_(self) -> str:
        """How a notebook shows the figure."""
        return self.html()

    def __repr__(self) -> str:
        return f"Figure({self.title!r}; .save('….svg'), .save('….png'), .save('….html'))"


def check_path(path: str | Path) -> Path:
    """A path that ends as figures do.

    Raises:
        ArgumentError: for another ending.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"{path.name!r}: figures are files ending in {', '.join(SUFFIXES)}")
    return path


def check_width(width: float) -> None:
    """Refuses a width that no figure is composed for.

    Raises:
        ArgumentError: with the range.
    """
    low, high = WIDTH_RANGE
    if not low <= width <= high:
        raise ArgumentError(f"width={width} is not between {low} and {high} pixels")
