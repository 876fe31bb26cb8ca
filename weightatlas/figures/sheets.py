"""Contact sheets: feature visualizations side by side, each with its address and what it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import FeatureImages
from . import layout
from .figure import Figure
from .grids import chosen_rows, noted, source_line
from .layout import Tile, magnitude
from .scene import Scene

MOST_SHOWN = 400
COLOURS = ("red", "green", "blue")
HOW = {"mean": "the mean over all positions", "peaks": "the peaks over all positions", "centre": "the centre position"}


def contact_sheet(features: FeatureImages, units: Iterable[int] | None = None) -> Figure:
    """Feature visualizations side by side, with their addresses.

    Args:
        features: the pictures.
        units: numbers of the units to show; default all, in their order.

    Returns:
        A figure of rounded pictures. Under each stands how strongly it excites what it is of, and how much of that
        remains in other views of it. A picture that came to nothing is an empty frame that says so.
        ``data["reached"]`` and ``data["kept"]`` hold the numbers.

    Raises:
        ArgumentError: for units that are not among them, or more pictures than a sheet can show.
    """
    if units is not None:
        if not len(features.units):
            raise ArgumentError(f"these pictures of {features.layer!r} are of no units by number; use features.select")
        features = features.select(chosen_rows(features.units, units, features.layer))
    if not 0 < len(features) <= MOST_SHOWN:
        raise ArgumentError(
            f"a sheet shows 1 … {MOST_SHOWN} pictures, {len(features)} came in; choose some with units="
        )
    kept = features.viewed / np.where(features.reached == 0, 1, features.reached)
    tiles = [_tile(features, row, float(kept[row])) for row in range(len(features))]
    n, h, w, _ = features.images.shape
    pictures = "pictures" if n > 1 else "picture"

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = layout.heading(scene, features.layer, f"{n} {pictures} · {h} × {w} px")
        layout.flow(scene, tiles, y)
        return scene

    dead = int((~features.alive).sum())
    lost = f" {dead} without a result." if dead else ""
    return Figure(
        compose,
        title=f"Feature visualizations of {features.layer}",
        caption=_caption(features),
        source=source_line(features.provenance),
        alt=f"{n} {pictures} of what excites {', '.join(features.labels[:8])}{' …' if n > 8 else ''}.{lost}",
        data={"images": features.images, "reached": features.reached, "kept": kept, "units": features.units},
    )


def flat_colours(image: np.ndarray, names: Sequence[str] = COLOURS) -> np.ndarray:
    """A picture ``[H, W, C]`` as one can look at it, ``[H, W', 3]``: channels that are no colours go side by side."""
    channels = image.shape[2]
    if channels == 3 and tuple(names) == COLOURS:
        return image
    return np.repeat(np.concatenate([image[..., c] for c in range(channels)], 1)[..., None], 3, 2)


def _tile(f: FeatureImages, row: int, kept: float) -> Tile:
    label = f.labels[row]
    if not f.alive[row]:
        return Tile(
            flat_colours(f.images[row], f.channel_names), label, f"{label}: no picture excites it", missing="no result"
        )
    share = f" · {kept:.0%}" if f.reached[row] > 0 and 0 <= kept < 10 else ""
    number = f"{magnitude(float(f.reached[row]))}{share}"
    return Tile(
        flat_colours(f.images[row], f.channel_names), label, f"{label}, excited by {number}", number, photo=True
    )


def _caption(f: FeatureImages) -> str:
    r = f.recipe
    where = HOW.get(str(r.get("at")), "what the objective says")
    moved = [f"shifted by up to {r.get('jitter')} px"] if r.get("jitter") else []
    moved += [f"turned by ±{r['rotate']:g}°"] if r.get("rotate") else []
    moved += [f"scaled by ±{r['scale']:.0%}"] if r.get("scale") else []
    views = f", and how much of it is left on average when it is {', '.join(moved)}" if moved else ""
    what = f"{f.layer}'s units ({where})" if len(f.units) else "what is written under it"
    text = (
        f"Each picture was made from noise to excite {what} in {r.get('steps')} steps. Under it: how strongly it "
        f"does{views}."
    )
    if f.images.shape[3] > 1 and f.channel_names != COLOURS:
        text += f" Channels side by side: {', '.join(f.channel_names)}."
    return " ".join([text, *(f"{n[0].upper()}{n[1:]}." for n in noted(f.provenance))])
