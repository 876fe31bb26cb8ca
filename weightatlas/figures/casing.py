"""The different ways in which one unit comes to fire, a row each: what it reads in that case, and examples of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat

import numpy as np

from ..records import GradientCases, checked_count
from . import boxes, cards, layout
from .boxes import Box, Picture
from .composing import composed
from .connecting import glued_card
from .figure import Figure
from .gallery import Gallery, Images
from .grids import sign_words
from .imaging import crop_square, visible_image
from .layout import GAP, magnitude
from .maps import LEAST, Maps, check_finite, off_centre
from .theme import Palette, check_choice
from .wording import about_pictures, percent, several, signed

PORTRAIT, COLUMN, CROP = (84, 168), 104, 72  # pixels
BESIDE = 320  # pixels that cases need beside the unit
MAPS = 0.62  # of a case's width, for its maps


def gradient_cases(
    found: GradientCases,
    images: Images = None,
    crops: Mapping[int, Sequence[np.ndarray]] | None = None,
    *,
    k: int = 4,
    channel_names: Sequence[str] = ("red", "green", "blue"),
    palette: Palette = "classic",
    cells: Mapping[int, Sequence[Sequence[float]]] | None = None,
) -> Figure:
    """A unit, and a row for each case: its share, the source units that matter most in it, and examples of it.

    Args:
        found: from :func:`weightatlas.gradient_cases`.
        images: feature visualizations of the target and of the source's units.
        crops: of each case, by its place: uint8 ``[h, w, C]`` of the examples with most of it, most first; see
            :meth:`~weightatlas.GradientCases.most_of`.
        k: source units of each case.
        channel_names: of the crops, and of the source units where the source is the image.
        palette: ``"classic"`` (red excites, blue inhibits) or ``"colorblind"`` (orange, blue).
        cells: of each crop, the position as ``lens.cell`` gives it, to be framed.

    Returns:
        A figure with one scale. ``data`` has ``shares`` ``[K]``, ``units`` ``[K, k]``, ``maps`` ``[K, k, H, W]``,
        ``alike`` ``[K, K]``, ``examples`` (places of the examples with most of each case), ``scale`` and ``window``.

    Raises:
        ArgumentError: for another ``k`` or palette.
        WeightValuesError: for gradients that are NaN or infinite.

    Source: Voss et al., "Visualizing Weights", Distill 2021, Figures 11 and 12 (cases in which a unit fires).
    """
    check_choice("palette", palette, Palette)
    check_finite(found.cases, f"the cases of {found.target}:{found.unit}")
    units = [strongest_in(found, case, checked_count(k, "source units")) for case in range(len(found.cases))]
    maps = [found.cases[case][list(chosen)] for case, chosen in enumerate(units)]
    drawn = _drawn(found, np.concatenate(maps), palette)
    pictures = Gallery(images, {"input": dict(enumerate(channel_names))})
    address = f"{found.target}:{found.unit}"
    shots = {
        case: [(visible_image(c, channel_names), at) for c, at in zip(cut, _cells(cells, case), strict=False)]
        for case, cut in (crops or {}).items()
    }

    def body(room: float) -> Box:
        side = min(max(room * 0.24, PORTRAIT[0]), PORTRAIT[1])
        picture = pictures.of(found.target, found.unit)

        def cases(wide: float) -> Box:
            look, count = (pictures, drawn, wide), len(found.cases)
            return boxes.column([_case(found, n, units[n], shots.get(n, []), look) for n in range(count)], 2 * GAP)

        if picture.colours is None:
            return cases(room)
        target = boxes.labelled(boxes.photo(picture, side), layout.fitting_labels([address], side)[0])
        return boxes.beside(target, cases, room, BESIDE)

    return composed(
        (address, f"{several(len(found.cases), 'case')} of {several(len(found.loadings), 'example')}"),
        body,
        drawn.legend,
        title=f"The cases in which {address} fires",
        caption=_caption(found, palette, [at for shown in shots.values() for _, at in shown]),
        said=[*about_pictures(pictures), *drawn.shown.left_out],
        provenance=found.provenance,
        alt=" ".join(_words(found, n, chosen) for n, chosen in enumerate(units)),
        data={
            "shares": found.shares, "units": [list(u) for u in units], "maps": maps, "alike": found.alike,
            "examples": [found.most_of(n, len(shots.get(n, [])) or 1) for n in range(len(found.cases))], **drawn.data,
        },
    )  # fmt: skip


def _cells(cells: Mapping[int, Sequence[Sequence[float]]] | None, case: int) -> Iterator[Sequence[float]]:
    """The positions in a case's crops; where none were given, nothing to be framed."""
    return chain((cells or {}).get(case, ()), repeat(()))


def _drawn(found: GradientCases, maps: np.ndarray, palette: Palette) -> Maps:
    """How the maps of all cases are drawn: on one scale, in the window that holds them."""
    shown = cards.window(maps, LEAST)
    origin = tuple(o + s for o, s in zip(found.origin, shown.start, strict=True))
    own = off_centre(cards.own_block(shown.shape, origin, found.stride), shown)
    return Maps(float(np.abs(maps).max(initial=0)), palette, shown, own)


def strongest_in(found: GradientCases, case: int, k: int) -> list[int]:
    """The source units with the largest maps (L2 norm) in a case, strongest first; none without any gradient."""
    power = np.square(found.cases[case], dtype=np.float64).sum(axis=(1, 2))
    order = np.argsort(-power, kind="stable")[:k]
    return [int(u) for u in order if power[u] > 0]


def _case(
    found: GradientCases,
    case: int,
    units: Sequence[int],
    crops: Sequence[tuple[np.ndarray, Sequence[float]]],
    look: tuple[Gallery, Maps, float],
) -> Box:
    """A case's share, its strongest source units glued to their maps, and examples."""
    pictures, drawn, room = look
    names = [_name(found, u, pictures) for u in units]
    beside = bool(crops) and room >= 1.4 * BESIDE
    wide = room * MAPS if beside else room
    columns, side = cards.columns_for(max(len(units), 1), wide, COLUMN)
    labels = layout.fitting_labels(names, side)
    made = []
    for unit, name, label in zip(units, names, labels, strict=True):
        values = found.cases[case, unit]
        picture = pictures.of(found.source, unit)
        card = (
            glued_card(picture, values, drawn, side, name)
            if picture.colours is not None
            else drawn.card(values, name, side)
        )
        made.append(boxes.labelled(card, label))
    title = boxes.text(f"case {case + 1}: {percent(float(found.shares[case]))}", 13, "ink", bold=True)
    maps = boxes.column([title, boxes.lines(made, columns * (side + GAP))], GAP)
    if not crops:
        return maps

    def examples(rest: float) -> Box:
        across = max(int((rest + GAP) // (CROP + GAP)), 1)
        each = min((rest - GAP * (across - 1)) / across, CROP)
        tiles = [crop_square(Picture(c, f"an example of case {case + 1}"), each, at) for c, at in crops]
        head = boxes.text("examples", 13)
        return boxes.column([head, boxes.lines(tiles, rest, GAP * 0.6, GAP * 0.6)], GAP)

    if beside:
        fixed = boxes.Box(wide, maps.height, maps.draw, maps.axis)
        return boxes.row([fixed, examples(room - wide - 2 * GAP)], 2 * GAP, align="top")
    return boxes.column([maps, examples(room)], GAP)


def _name(found: GradientCases, unit: int, pictures: Gallery) -> str:
    """A source unit's address, or the channel of the image that it is."""
    names = pictures.names(found.source)
    return names.get(unit, f"{found.source}:{unit}")


def _words(found: GradientCases, case: int, units: Sequence[int]) -> str:
    """A case in words."""
    sums = [float(found.cases[case, u].sum()) for u in units]
    listed = ", ".join(f"{found.source}:{u} ({magnitude(s)})" for u, s in zip(units, sums, strict=True))
    return f"Case {case + 1}, {percent(float(found.shares[case]))} of the gradients: {listed}."


def _caption(found: GradientCases, palette: Palette, cells: Sequence[Sequence[float]]) -> str:
    """What is shown, and how far the cases tell the gradients."""
    count, k = len(found.loadings), len(found.cases)
    text = (
        f"Gradients of {found.target}:{found.unit} by {found.source} on the {several(count, 'example')} that excite it "
        f"most, each scaled to length 1, as mixtures of {several(k, 'case')}, which hold {percent(found.explained)} of "
        f"their squares (at most {percent(found.bound)}); {sign_words(palette)}."
    )
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    if pairs:
        i, j = min(pairs, key=lambda p: float(found.alike[p]))
        text += f" Cases {i + 1} and {j + 1} are least alike: cosine {signed(float(found.alike[i, j]))}."
    framed = "; frames show their positions" if any(cells) else ""
    return text + (f" The crops are those with most of each case{framed}." if cells else "")
