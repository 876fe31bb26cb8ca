"""Captions that records write themselves, and which unit is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ArgumentError
from ..records import Agreement, FeatureImages, Provenance, Weights, checked_units, read_as
from .gallery import Gallery
from .grids import noted

#: Notes that repeat what the fields of weights say; captions tell it from the fields.
TOLD = re.compile(
    r"\d+ \S+ (read|with) |the map of target position|paths without parameters are left out|"
    "images were brought to the network by"
)


def told(text: str, said: Sequence[str], provenance: Provenance) -> str:
    """A caption and one more sentence: what is said, and the notes that do not repeat it."""
    more = "; ".join([*said, *(n for n in noted(provenance) if not TOLD.match(n) and n not in said)])
    return f"{text} {more[0].upper()}{more[1:]}." if more else text


def about_weights(weights: Weights) -> list[str]:
    """How weights came about: folded norms, gates, what is left out, the position."""
    said = [f"batch norm {weights.norm} is folded in"] if weights.norm else []
    said += read_as(weights.replaced)
    said += ["the skip path is left out"] if not weights.skip_included and weights.skip_values.size else []
    said += [f"seen from position {weights.at}"] if weights.at is not None else []
    return said


def about_pictures(pictures: Gallery | Sequence[FeatureImages]) -> list[str]:
    """How pictures were made: recipe, steps, and how many there are no results of."""
    records = pictures.records if isinstance(pictures, Gallery) else list(pictures)
    if not records:
        return []
    names = sorted({str(r.recipe.get("name", "own")) for r in records})
    recipes = [f"{name}, {_steps(r for r in records if r.recipe.get('name', 'own') == name)}" for name in names]
    dead = sum(int((~r.alive).sum()) for r in records)
    said = [f"pictures are feature visualizations (recipe {'; '.join(recipes)})"]
    return said + ([f"{dead} of them came to nothing"] if dead else [])


def _steps(records: Iterable[FeatureImages]) -> str:
    """How many steps pictures took: a number, or from the least to the most."""
    ends = sorted({int(r.recipe.get("steps", 0)) for r in records})
    return f"{ends[0]} steps" if len(ends) == 1 else f"{ends[0]} to {ends[-1]} steps"


def about_agreement(agreement: Agreement | None, weights: Weights, units: Sequence[int]) -> list[str]:
    """How far expanded weights agree with the real network, for the units that are shown.

    Raises:
        ArgumentError: for agreement between other layers.
    """
    if agreement is None:
        return []
    if not isinstance(agreement, Agreement):
        raise ArgumentError(f"agreement must come from agreement(), not be {agreement!r}")
    if (agreement.source, agreement.target) != (weights.source, weights.target):
        raise ArgumentError(
            f"this agreement is of {agreement.source} → {agreement.target}, the weights of {weights.source} → "
            f"{weights.target}"
        )
    rows = np.isin(agreement.units, units)
    known = agreement.cosine[rows][~np.isnan(agreement.cosine[rows])]
    return [f"cosine {known.mean():.2f} with the network's mean gradient on images"] if known.size else []


def unit_of(value: int | str, layer: str, known: np.ndarray, role: str) -> int:
    """The number of a unit that is named by number or address.

    Args:
        value: ``17`` or ``"blocks.4.1:17"``.
        layer: that it must be of.
        known: numbers that are there.
        role: what it is, for errors.

    Raises:
        ArgumentError: for another layer, or a unit that is not there.
        UnknownNameError: for what is no unit.
    """
    number = value
    if isinstance(value, str):
        name, colon, last = value.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,9}", last):
            raise ArgumentError(f"{role}={value!r} is no unit; units are named like {layer}:{int(known[0])}")
        if name != layer:
            raise ArgumentError(f"{role}={value!r} is no unit of {layer!r}, which these weights are between")
        number = int(last)
    unit = checked_units([number], int(known.max(initial=-1)) + 1, f"layer {layer!r}")[0]
    if unit not in known:
        raise ArgumentError(f"{role} unit {unit} of {layer!r} is not among the {len(known)} in these weights")
    return unit


def units_of(values: Sequence[int | str], layer: str, known: np.ndarray, role: str) -> list[int]:
    """The same for several, each once.

    Raises:
        ArgumentError, UnknownNameError: as :func:`unit_of`, and for none.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{role}s={values!r} must be several units, such as [3, 17]")
    units = list(dict.fromkeys(unit_of(v, layer, known, role) for v in values))
    if not units:
        raise ArgumentError(f"no {role} was given")
    return units


def source_name(weights: Weights, unit: int) -> str:
    """A source unit's address, or the name of the input's channel that it is."""
    names = dict(zip(weights.source_indices.tolist(), weights.channel_names, strict=False))
    return names.get(unit, f"{weights.source}:{unit}")


def several(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> several(1, "unit"), several(6, "unit")
        ('1 unit', '6 units')
    """
    return f"{count} {noun}{'s' if count != 1 else ''}"


def percent(share: float) -> str:
    """A share for a caption, with a decimal where there would be one digit.

    Example:
        >>> percent(0.1234), percent(0.0123), percent(0.00012), percent(-0.2)
        ('12%', '1.2%', '0.01%', '−20%')
    """
    size = abs(share)
    words = f"{size:.0%}" if size >= 0.0995 or size == 0 else f"{size:.1%}" if size >= 0.000995 else f"{size:.2%}"
    return f"−{words}" if share < 0 else words


def signed(value: float) -> str:
    """A cosine with two decimals and a minus as wide as a digit.

    Example:
        >>> signed(0.314), signed(-1.0)
        ('0.31', '−1.00')
    """
    return f"{value:.2f}".replace("-", "−")
