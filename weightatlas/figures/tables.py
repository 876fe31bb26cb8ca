"""The table of layers as HTML."""

from __future__ import annotations

from ..records import Layer, LayerTable
from .scene import escape

HEADERS = ("layer", "kind", "units", "inputs", "kernel", "stride", "groups", "grid", "receptive field", "parameters")


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


def layer_table(table: LayerTable) -> str:
    """An HTML table of all layers that scrolls sideways where it is too wide; names are text, never markup."""
    head = "".join(f'<th scope="col">{h}</th>' for h in HEADERS)
    rows = []
    for layer in table.values():
        name, *rest = cells(layer)
        columns = "".join(f"<td>{escape(c)}</td>" for c in rest)
        rows.append(f'<tr><th scope="row"><code>{escape(name)}</code></th>{columns}</tr>')
    notes = "".join(f"<p>{escape(n)}</p>" for n in table.notes)
    css = (
        "<style>.wa-scroll{overflow-x:auto}.wa-layers{border-collapse:collapse;font-size:13px;"
        "font-variant-numeric:tabular-nums;white-space:nowrap}.wa-layers th,.wa-layers td{text-align:right;"
        "padding:3px 10px;border-bottom:1px solid color-mix(in srgb,currentColor 14%,transparent);font-weight:400}"
        ".wa-layers :is(th,td):nth-child(-n+2){text-align:left}.wa-layers tr>:first-child{padding-left:0}"
        ".wa-layers thead th{opacity:.7}</style>"
    )
    label = f"Layers of {escape(table.model or 'the network')}"
    return (
        f'{css}<div class="wa-scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="wa-layers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}'
    )
