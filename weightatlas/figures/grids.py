"""The RGB grid of Figures 1 and 2, first layers in their own colours, and signed maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import Factors, Provenance, Weights, checked_units
from . import layout
from .figure import Figure
from .layout import Tile, magnitude
from .scene import Scene
from .theme import Palette, check_choice, diverging, factor_colours

UNITS_SHOWN = 20
#: Share of the shown squares that stay below full light, for each factor.
CLIPPED = 0.97
RGB = ("red", "green", "blue")
#: What a weight on red alone looks like, in full; the other two follow.
ON_RED = (("#808080", "zero"), ("#ff8080", "red excites"), ("#008080", "red inhibits"))


def nmf_grid(factors: Factors, units: Iterable[int] | None = None) -> Figure:
    """The spatial factors of many units at once, one colour a factor, as in Figures 1 and 2 of the article.

    Args:
        factors: with non-negative space.
        units: numbers of the units to show; default the first twenty.

    Returns:
        A figure of pixelated tiles; every factor has one scale for the whole figure (or for each tile if the units
        were factorized one by one, and the caption says so; colours then follow the factors' places in the kernel, as
        in Figure 2: blue above, red in the middle, green below). ``data["space"]`` holds what is shown,
        ``[n, H, W, K]``, last axis in the order of colours.

    Raises:
        ArgumentError: for factors whose space is signed, or units that are not among them.
    """
    if factors.nonnegative != "space":
        raise ArgumentError(
            f"an RGB grid shows space as light, but these factors have nonnegative={factors.nonnegative!r}; "
            "use factorize(..., nonnegative='space')"
        )
    rows = chosen_rows(factors.units, units, factors.target)
    space = factors.space[rows] * _lit(factors, rows)
    space = _by_place(space) if factors.per_unit else space
    axes = (1, 2) if factors.per_unit else (0, 1, 2)
    full = 1.0 if factors.per_unit else CLIPPED  # a few strong units would leave the others in the dark
    peak = np.quantile(space, full, axis=axes, keepdims=True)
    peak = np.where(peak > 0, peak, space.max(axis=axes, keepdims=True))
    light = np.clip(space / np.where(peak > 0, peak, 1), 0, 1)
    mixed = light @ factor_colours(factors.rank)
    # the primaries of up to three factors add up to white at most; more hues may overflow, then the mix is dimmed
    colours = np.rint(255 * mixed / np.maximum(mixed.max(axis=-1, keepdims=True), 1)).astype(np.uint8)
    tiles = []
    for row, picture in zip(rows, colours, strict=True):
        address = f"{factors.target}:{factors.units[row]}"
        tiles.append(Tile(picture, address, f"{address}, {factors.unit_explained[row]:.0%} explained"))
    hexes = ["#" + "".join(f"{round(255 * c):02x}" for c in rgb) for rgb in factor_colours(factors.rank)]
    shares = [(c, f"factor {k + 1}: {s:.1%}") for k, (c, s) in enumerate(zip(hexes, factors.shares, strict=True))]
    h, w = factors.space.shape[1:3]

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = layout.heading(scene, factors.target, f"reads {factors.source} · {h} × {w} · {_shown(rows, factors.units)}")
        y = layout.flow(scene, tiles, y)
        layout.chips(scene, y + 2, [] if factors.per_unit else shares)
        return scene

    return Figure(
        compose,
        title=f"Weights of {factors.target} in {factors.rank} factors",
        caption=_factor_caption(factors),
        source=source_line(factors.provenance),
        alt=f"{len(rows)} tiles of {h} by {w} squares, one for each unit of {factors.target}; colours are factors.",
        data={"space": space, "units": factors.units[rows], "shares": factors.shares},
    )


def _lit(factors: Factors, rows: Sequence[int]) -> np.ndarray:
    """1 for every factor that points anywhere, ``[K]`` or ``[n, 1, 1, K]``: one without weights stays dark."""
    alive = (factors.channels != 0).any(axis=-1)
    return alive[rows][:, None, None, :] if factors.per_unit else alive


def _by_place(space: np.ndarray) -> np.ndarray:
    """Maps ``[n, H, W, K]`` with each unit's factors sorted by place: from top to bottom, of one row left to right.

    Of three the middle one comes first, then the last, then the first: red, green and blue as in Figure 2.
    """
    along = 1 if space.shape[1] > 1 else 2
    profile = space.sum(axis=3 - along)
    mass = profile.sum(axis=1)
    centre = np.einsum("npk,p->nk", profile, np.arange(profile.shape[1])) / np.where(mass > 0, mass, 1)
    order = np.argsort(np.where(mass > 0, centre, np.inf), axis=-1, kind="stable")
    order = order[:, [1, 2, 0]] if order.shape[1] == len(RGB) else order
    return np.take_along_axis(space, order[:, None, None, :], axis=-1)


def _place_words(f: Factors) -> str:
    first, last = ("uppermost", "lowest") if f.space.shape[1] > 1 else ("leftmost", "rightmost")
    if f.rank == len(RGB):
        return f"blue is its {first} factor, red the middle one, green the {last}"
    return f"hues follow its factors from the {first} to the {last}" if f.rank > 1 else "red is its factor"


def _factor_caption(f: Factors) -> str:
    if f.per_unit:
        joint = (
            f"Each of the {len(f.units)} units was factorized on its own: {_place_words(f)}, whatever the layer; mixes "
            "of source units do not compare across tiles, and every tile has its own scale"
        )
    else:
        joint = (
            f"One factorization of {len(f.units)} units together: a colour is the same mix of {f.source} everywhere, "
            f"at full light in the strongest {1 - CLIPPED:.0%} of squares"
        )
    how = {"posneg": "one-sided NMF", "semi": "semi-NMF"}[f.method]
    text = (
        f"{joint}. {f.rank} factors ({how}) hold {f.explained:.1%} of the squared weights; "
        f"no {f.rank} factors hold more than {f.bound:.1%}."
    )
    return _with_notes(text, f.provenance)


def _with_notes(text: str, provenance: Provenance) -> str:
    return " ".join([text, *(f"{n[0].upper()}{n[1:]}." for n in noted(provenance))])


def noted(provenance: Provenance) -> list[str]:
    """The notes that concern what weights show."""
    return [n for n in provenance.notes if not n.startswith("no InputSpec")]


def source_line(provenance: Provenance) -> str:
    """Provenance in a line: model, weights, version. The file they come from is in the record."""
    weights = f" · weights {provenance.weights_hash[:12]}" if provenance.weights_hash else ""
    version = f" · weightatlas {provenance.package_version}" if provenance.package_version else ""
    return f"{provenance.model or 'array'}{weights}{version}"


def chosen_rows(known: np.ndarray, units: Iterable[int] | None, target: str, most: int = UNITS_SHOWN) -> list[int]:
    """Rows of the units that are meant; by default the first few.

    Raises:
        ArgumentError: for units that are not among them.
    """
    row = {int(u): i for i, u in enumerate(known)}
    if units is None:
        return list(row.values())[:most]
    asked = list(units) if isinstance(units, Iterable) else units
    integers = isinstance(asked, list) and all(hasattr(u, "__index__") for u in asked)
    missing = [u for u in asked if u.__index__() not in row] if isinstance(asked, list) and integers else []
    if missing:  # what else the layer has is not known here
        raise ArgumentError(f"unit {missing[0]} of {target!r} is not among the {len(row)} units given")
    return [row[u] for u in checked_units(asked, int(known.max()) + 1, f"layer {target!r}")]


def _shown(rows: Sequence[int], known: np.ndarray) -> str:
    return f"{len(rows)} of {len(known)} units" if len(rows) < len(known) else f"{len(rows)} units"


def has_own_colours(weights: Weights) -> bool:
    """Whether weights read the three channels of an RGB input, so that they can be shown in their own colours."""
    return weights.sees_pixels and weights.channel_names == RGB and weights.values.shape[1] == len(RGB)


def pixel_grid(weights: Weights, units: Iterable[int] | None = None) -> Figure:
    """Weights that read the pixels of an RGB input, in their own colours: grey is zero.

    Args:
        weights: of a layer that reads red, green and blue pixels, in that order.
        units: numbers of the units to show; default all.

    Raises:
        ArgumentError: if the source is not an RGB input.
        WeightValuesError: for NaN or infinite weights.
    """
    if not has_own_colours(weights):
        names = ", ".join(weights.channel_names) or f"{weights.source_units} channels"
        raise ArgumentError(
            f"only weights that read the red, green and blue of an input have colours of their own; "
            f"{weights.target!r} reads {names} of {weights.source!r}"
        )
    rows = list(range(len(weights.units))) if units is None else chosen_rows(weights.units, units, weights.target)
    weights.select([int(weights.units[r]) for r in rows]).require_finite()
    values = weights.values[rows].transpose(0, 2, 3, 1)
    scales = np.abs(values).max(axis=(1, 2, 3))
    relative = values / np.where(scales > 0, scales, 1)[:, None, None, None]
    colours = np.rint(255 * (0.5 + relative / 2)).astype(np.uint8)
    tiles = [
        Tile(c, weights.addresses[r], f"{weights.addresses[r]}, largest magnitude {magnitude(m)}", f"±{magnitude(m)}")
        for r, c, m in zip(rows, colours, scales, strict=True)
    ]
    h, w = values.shape[1:3]

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = layout.heading(scene, weights.target, f"reads pixels · {h} × {w} · {_shown(rows, weights.units)}")
        y = layout.flow(scene, tiles, y)
        layout.chips(scene, y + 2, ON_RED)
        return scene

    names = ", ".join(weights.channel_names)
    text = (
        f"Weights on the input's channels ({names}) in their own colours: grey is zero, and every tile has its own "
        "scale, written under it."
    )
    return Figure(
        compose,
        title=f"Weights of {weights.target} on pixels",
        caption=_with_notes(_norm_words(text, weights), weights.provenance),
        source=source_line(weights.provenance),
        alt=f"{len(rows)} tiles of {h} by {w} coloured squares, one for each unit of {weights.target}.",
        data={"values": weights.values[rows], "units": weights.units[rows], "scale": scales},
    )


def _norm_words(text: str, weights: Weights) -> str:
    return f"{text} Batch norm {weights.norm} is folded in." if weights.norm else text


def sign_words(palette: Palette) -> str:
    """What the two colours mean."""
    return f"{'red' if palette == 'classic' else 'orange'} excites, blue inhibits"


def signed_maps(weights: Weights, units: Iterable[int] | None = None, *, palette: Palette = "classic") -> Figure:
    """One signed map per unit, for layers whose units read a single source unit each.

    Args:
        weights: depthwise, or of a one-channel source.
        units: numbers of the units to show; default the first twenty.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).

    Returns:
        A figure with one symmetric scale and its legend; ``data["values"]`` is ``[n, H, W]``.

    Raises:
        ArgumentError: if units read more than one source unit.
        WeightValuesError: for NaN or infinite weights.
    """
    check_choice("palette", palette, Palette)
    if weights.values.shape[1] != 1:
        raise ArgumentError(
            f"{weights.target!r} reads {weights.values.shape[1]} source units per unit, more than one map can show; "
            "factorize them and use nmf_grid"
        )
    rows = chosen_rows(weights.units, units, weights.target)
    weights.select([int(weights.units[r]) for r in rows]).require_finite()
    values = weights.values[rows, 0]
    scale = float(np.abs(values).max())
    colours = diverging(values, scale, palette)
    tiles = [
        Tile(c, weights.addresses[r], f"{weights.addresses[r]}, {magnitude(v.min())} to {magnitude(v.max())}")
        for r, c, v in zip(rows, colours, values, strict=True)
    ]
    h, w = values.shape[1:]
    kind = "depthwise · " if weights.depthwise else ""

    def compose(width: float) -> Scene:
        scene = Scene(width)
        what = f"{kind}reads {weights.source} · {h} × {w} · {_shown(rows, weights.units)}"
        y = layout.flow(scene, tiles, layout.heading(scene, weights.target, what))
        layout.scale_legend(scene, y + 2, scale, palette, "one scale for the figure")
        return scene

    each = "Each unit reads one source unit" if weights.depthwise else "The units read one source unit"
    text = f"{each}; {sign_words(palette)}."
    return Figure(
        compose,
        title=f"Weights of {weights.target}",
        caption=_with_notes(_norm_words(text, weights), weights.provenance),
        source=source_line(weights.provenance),
        alt=f"{len(rows)} signed maps of {h} by {w} squares, one for each unit of {weights.target}.",
        data={"values": values, "units": weights.units[rows], "scale": scale},
    )
