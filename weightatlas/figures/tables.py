"""The tables of layers and of networks as HTML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..records import AvailableModel, Layer, LayerTable, ModelTable
from .scene import escape

HEADERS = ("layer", "kind", "units", "inputs", "kernel", "stride", "groups", "grid", "receptive field", "parameters")
MODEL_HEADERS = ("name", "source", "size", "parameters", "licence", "here", "where, or what brings it")


def cells(layer: Layer) -> tuple[str, ...]:
    """One layer's facts as text, in the order of ``HEADERS``."""
    field = layer.receptive_field
    seen = by(field.size) if field else layer.receptive_note
    return (
        layer.name,
        layer.kind,
        str(layer.units) if layer.units else "—",
        str(layer.input_channels) if layer.input_channels is not None else "",
        by(layer.kernel) if layer.kernel else "",
        by(layer.stride) if layer.stride else "",
        str(layer.groups) if layer.groups not in (None, 1) else "",
        by(layer.grid) if layer.grid else "—",
        f"{seen} px, stride {by(field.stride)}" if field else seen,
        f"{layer.parameters:,}" if layer.parameters else "",
    )


def by(pair: tuple[float, float]) -> str:
    """Two sizes: ``5``, or ``3×5`` where they differ.

    Example:
        >>> by((5, 5)), by((3, 5)), by((0.5, 0.5))
        ('5', '3×5', '0.5')
    """
    y, x = (f"{v:g}" for v in pair)
    return y if y == x else f"{y}×{x}"


def model_cells(model: AvailableModel) -> tuple[str, ...]:
    """One network's facts as text, in the order of ``MODEL_HEADERS``."""
    return (
        model.name,
        model.source,
        megabytes(model.size) if model.size is not None else "",
        f"{model.parameters:,}" if model.parameters else "",
        model.license or ("not told" if model.kind == "network" else ""),
        "" if model.kind == "file" else "yes" if model.ready else "no",
        "; ".join(homely(words) for words in (model.where, model.note) if words),
    )


def homely(words: str) -> str:
    """Words in which the paths below the user's home folder begin with ``~``."""
    home = os.path.expanduser("~").rstrip(os.sep)
    if not home or home == "~":
        return words
    return re.sub(rf"(?<![\w.~/\\-]){re.escape(home)}(?=[/\\]|$)", "~", words)


def megabytes(size: int) -> str:
    """A size in bytes as people say it.

    Example:
        >>> megabytes(49_937_555), megabytes(1_400_000), megabytes(2_100_000_000)
        ('50 MB', '1.4 MB', '2.1 GB')
    """
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


def layer_table(table: LayerTable) -> str:
    """An HTML table of all layers that scrolls sideways where it is too wide; names are text, never markup."""
    rows = [cells(layer) for layer in table.values()]
    return _html(f"Layers of {table.model or 'the network'}", HEADERS, rows, table.notes)


def model_table(table: ModelTable) -> str:
    """An HTML table of networks that can be opened, as :func:`layer_table` draws layers."""
    rows = [model_cells(model) for model in table.values()]
    kept = (f"Downloaded weights are kept in {table.cache}",) if table.cache else ()
    notes = [homely(note) for note in (*table.notes, *kept)]
    return _html("Networks that can be opened", MODEL_HEADERS, rows, notes, words="2,5,6,7")


def _html(
    label: str,
    headers: Sequence[str],
    contents: Sequence[Sequence[str]],
    remarks: Sequence[str],
    words: str = "2",
) -> str:
    """A table; the first column holds names, those whose numbers are in ``words`` text, the others numbers."""
    head = "".join(f'<th scope="col">{h}</th>' for h in headers)
    rows = []
    for name, *rest in contents:
        columns = "".join(f"<td>{escape(c)}</td>" for c in rest)
        rows.append(f'<tr><th scope="row"><code>{escape(name)}</code></th>{columns}</tr>')
    notes = "".join(f"<p>{escape(n)}</p>" for n in remarks)
    left = ",".join(f":nth-child({n})" for n in ("1", *words.split(",")))
    css = (
        "<style>.wa-scroll{overflow-x:auto}.wa-layers{border-collapse:collapse;font-size:13px;"
        "font-variant-numeric:tabular-nums;white-space:nowrap}.wa-layers th,.wa-layers td{text-align:right;"
        "padding:3px 10px;border-bottom:1px solid color-mix(in srgb,currentColor 14%,transparent);font-weight:400}"
        f".wa-layers :is(th,td):is({left}){{text-align:left}}.wa-layers tr>:first-child{{padding-left:0}}"
        ".wa-layers thead th{opacity:.7}</style>"
    )
    return (
        f'{css}<div class="wa-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table class="wa-layers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}'
    )
