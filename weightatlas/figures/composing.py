"""The frame that figures between pictures share: heading, body, legend, caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..records import Provenance
from . import boxes, layout
from .boxes import Box
from .figure import MARGIN, Figure
from .grids import source_line
from .layout import GAP
from .scene import Scene
from .wording import told


def composed(
    heading: tuple[str, str],
    body: Callable[[float], Box],
    legend: Callable[[Scene, float], object] | None = None,
    *,
    title: str,
    caption: str,
    said: Sequence[str],
    provenance: Provenance,
    alt: str,
    data: Mapping[str, Any],
) -> Figure:
    """A figure of boxes.

    Args:
        heading: whose weights, and what they read.
        body: from the room that there is, in pixels, to everything below the heading.
        legend: draws the scale on a scene below y, unless the body has its own.
        title, alt, data: of the figure.
        caption: whole sentences; ``said`` and the provenance's notes follow as one more.
        said: what else must be told, as parts of a sentence.
        provenance: of the record that is drawn.
    """

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = boxes.place(scene, body(width - 2 * MARGIN), layout.heading(scene, *heading))
        if legend is not None:
            legend(scene, y + GAP)
        return scene

    return Figure(
        compose, title=title, caption=told(caption, said, provenance), source=source_line(provenance), alt=alt,
        data=dict(data),
    )  # fmt: skip
