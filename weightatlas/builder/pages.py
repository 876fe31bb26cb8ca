"""Folders to look at: pictures of a network, and a page that shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import figures
from ..bands import banding
from ..errors import ArgumentError, GraphError, LoadError, UnknownNameError, WeightValuesError
from ..network import Network
from ..records import Layer, atomic_write
from ..weights import direct_weights
from .commands import command
from .kinds import connections_figure, drawn_weights, features_figure, is_factorized, paths_figure

#: How many layers an overview shows, the first one included.
OVERVIEW_LAYERS = 4
OVERVIEW_UNITS = 30
#: Units whose expanded weights are shown, and how many layers with kernels these span.
EXPANDED_UNITS = 4
SPAN = 2
#: Units that are pictured.
PICTURED_UNITS = 20
LONGEST_STEM = 80


def overview(
    net: Network,
    path: str | Path,
    *,
    layers: list[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    pictures: Callable[[float, int], None] | None = None,
) -> Path:
    """A folder to look at: weights of four layers, pictures of units, expanded weights, banding, and a page of them.

    Args:
        net: an open network or checkpoint.
        path: the folder; made if missing, files of the same names are replaced one by one, others are left alone.
        layers: which layers' weights to show; default the first convolution and three more with spatial kernels,
            evenly by depth up to the last. Blocks whose convolutions run one after another are preferred to the
            depthwise convolutions inside them. A block that holds a banded layer is factorized unit by unit.
        seed: of factorizations and permutations.
        progress: called with a few words before every step.
        pictures: called with (done, in all) while feature visualizations are rendered.

    Returns:
        The path of ``index.html``.

    Raises:
        LoadError: if the folder cannot be written.
        ArgumentError: if the network has no layer that can be shown.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise LoadError(f"{folder} is a file; an overview needs a folder")
    tell = progress or (lambda words: None)
    tell("layers")
    table = net.layers
    table.save(folder / "layers.json")
    chosen = [net.layers[name].name for name in layers] if layers is not None else overview_layers(net)
    tell("banding")
    section, banded = _banding_section(net, seed, folder)
    sections = [section]
    for name in chosen:
        tell(f"weights of {name}")
        try:
            sections.append(_weights_section(net, name, seed, banded, folder))
        except (
            ArgumentError,
            GraphError,
            WeightValuesError,
        ) as error:  # said on the page, unless asked for
            if layers is not None:
                raise
            sections.append(_told_section(name, error))
    if net.module is not None:
        tell("pictures of units")
    sections += _features_section(net, chosen, seed, folder, pictures)
    tell("expanded weights")
    sections += _expanded_sections(net, chosen, folder)
    tell("page")
    return atomic_write(folder / "index.html", _page(net, sections).encode())


def _banding_section(net: Network, seed: int, folder: Path) -> tuple[str, list[str]]:
    """The banding figure as a file and as a part of the page, and the banded layers."""
    try:
        found = banding(net, seed=seed)
    except ArgumentError as error:  # no spatial kernels: said on the page
        return f"<section><h2>Banding</h2><p>{figures.escape(str(error))}</p></section>", []
    drawn = figures.banding_plot(found)
    drawn.save(folder / "banding.svg")
    again = _recipe(net, "banding", None, {"seed": seed}, "banding.svg")
    return f"<section><h2>Banding</h2>{drawn.html()}{again}</section>", found.banded


def _weights_section(net: Network, layer: str, seed: int, banded: list[str], folder: Path) -> str:
    """A layer's figure as files and as a part of the page, with the command that makes it."""
    known = net.layers[layer]
    units = range(min(OVERVIEW_UNITS, known.units))
    weights = direct_weights(net, layer)
    asked: dict[str, Any] = {"seed": seed} if is_factorized(weights) else {}
    if asked and set(known.inside) & set(banded):  # bands live within units
        asked["per_unit"] = True
    drawn = drawn_weights(weights, units, asked, None)
    name = file_stem(layer)
    drawn.save(folder / f"{name}.svg")
    drawn.save(folder / f"{name}.png")
    heading = f"<h2 class=unseen>Weights of {figures.escape(layer)}</h2>"
    again = _recipe(net, "weights", layer, {"units": units, **asked}, f"{name}.svg")
    return f"<section>{heading}{drawn.html()}{again}</section>"


def _features_section(
    net: Network, chosen: list[str], seed: int, folder: Path, progress: Callable[[float, int], None] | None
) -> list[str]:
    """What units of the layer in the middle detect; why not, where that cannot be."""
    if net.module is None or net.input is None or len(net.input.shape) != 3:
        return []
    layer = _pictured(chosen)
    units = range(min(PICTURED_UNITS, net.layers[layer].units))
    options = {"units": units, "seed": seed}
    try:
        drawn = features_figure(net, layer, **options, progress=progress)
    except (ArgumentError, LoadError, WeightValuesError) as error:
        return [_told_section(f"Pictures of {layer}", error)]
    file = f"{file_stem(layer, 'features')}.svg"
    drawn.save(folder / file)
    again = _recipe(net, "features", layer, options, file)
    heading = f"<h2 class=unseen>What units of {figures.escape(layer)} detect</h2>"
    return [f"<section>{heading}{drawn.html()}{again}</section>"]


def _pictured(chosen: list[str]) -> str:
    """The layer whose units are pictured: the one before the last that is shown, where pictures are still quick."""
    return chosen[-2] if len(chosen) > 1 else chosen[0]


def _told_section(heading: str, error: Exception) -> str:
    """A section that says why there is no picture."""
    return f"<section><h2>{figures.escape(heading)}</h2><p>{figures.escape(str(error))}</p></section>"


def _expanded_sections(net: Network, chosen: list[str], folder: Path) -> list[str]:
    """Expanded weights two layers back, and what cancels in them; why not, where that cannot be."""
    span = _span(net, chosen)
    if net.module is None or span is None:
        return []
    source, middle, target = span
    units = range(min(EXPANDED_UNITS, net.layers[target].units))
    asked = {"source": source, "units": units, "skip": "exclude"}
    through = {"source": source, "through": middle, "k": EXPANDED_UNITS}
    sections = []
    try:
        for kind, draw, options in (("connections", connections_figure, asked), ("paths", paths_figure, through)):
            drawn = draw(net, target, **options)
            file = f"{file_stem(target, kind)}.svg"
            drawn.save(folder / file)
            named = f"Expanded weights of {target}" if kind == "connections" else f"Paths to {target}"
            again = _recipe(net, kind, target, options, file)
            heading = f"<h2 class=unseen>{figures.escape(named)}</h2>"
            sections.append(f"<section>{heading}{drawn.html()}{again}</section>")
    except (ArgumentError, GraphError, WeightValuesError) as error:
        sections.append(_told_section("Expanded weights", error))
    return sections


def _span(net: Network, chosen: list[str]) -> tuple[str, str, str] | None:
    """Source, middle and target: the layer before the last that is shown, and what it reads two steps back."""
    for target in [*reversed(chosen[1:-1]), chosen[-1]]:
        back = [target]
        while len(back) <= SPAN and net.layers[back[-1]].source in net.layers:
            back.append(_reads(net, net.layers[back[-1]].source))
        if len(back) > SPAN:
            return back[2], back[1], target
    return None


def _reads(net: Network, name: str) -> str:
    """A layer, or the one with a kernel behind activations and norms."""
    layer = net.layers[name]
    while layer.kernel is None and not layer.inside and layer.source in net.layers:
        layer = net.layers[layer.source]
    return layer.name


def _recipe(net: Network, kind: str, target: str | None, options: dict[str, Any], file: str) -> str:
    """What makes the figure again, as a part of the page."""
    return f"<pre>{figures.escape(command(net, kind, target, options, file))}</pre>"


def file_stem(layer: str, kind: str = "weights") -> str:
    """The name of a layer's pictures without ending: one of its own for every layer, on every system.

    Example:
        >>> file_stem("blocks.4.1"), file_stem("relu#2")
        ('weights-blocks.4.1', 'weights-relu_2-5b118244')
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in layer)[:LONGEST_STEM]
    mark = "" if plain == layer else "-" + hashlib.sha256(layer.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kind}-{plain}{mark}"


def _page(net: Network, sections: list[str]) -> str:
    name = figures.escape(net.name)
    spec = net.input
    takes = f"Input {' × '.join(map(str, spec.shape))} ({_listed(spec.channel_names)}). " if spec else ""
    size = f"{len(net.layers)} layers, {net.parameters:,} parameters"
    intro = f"{takes}{size}. Red, green and blue are factors unless said otherwise."
    table = figures.layer_table(net.layers)
    notes = "".join(f"<p class=quiet>{figures.escape(n)}</p>" for n in net.notes if n not in net.layers.notes)
    body = f"<h1>{name}</h1><p class=quiet>{figures.escape(intro)}</p>{notes}{''.join(sections)}<h2>Layers</h2>{table}"
    return figures.page(f"{net.name} · weightatlas", body)


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def overview_layers(net: Network) -> list[str]:
    """The layers an overview shows: the first convolution, and three spatial ones evenly by depth.

    Raises:
        ArgumentError: if nothing in the network has readable weights.
    """
    readable = [layer for layer in net.layers.values() if layer.kernel is not None]
    if not readable:
        raise ArgumentError(
            f"{net.name} has no convolution or linear layer to show; its layers: {list(net.layers)[:6]}"
        )
    first = readable[0]
    rich = [layer for layer in _grids(net) if layer.name != first.name]
    pool = rich or [layer for layer in readable[1:] if max(layer.kernel or (1,)) > 1] or readable[1:]
    wanted = min(OVERVIEW_LAYERS - 1, len(pool))
    picks = [pool[round((k + 1) * len(pool) / wanted) - 1] for k in range(wanted)]
    return [first.name, *(layer.name for layer in picks)]


def _grids(net: Network) -> list[Layer]:
    """Layers that have an RGB grid with more than one position: convolutions, and blocks that multiply out."""
    found: list[Layer] = []
    for layer in net.layers.values():
        if layer.kernel is not None and layer.kind != "depthwise conv" and max(layer.kernel) > 1:
            found.append(layer)
        elif layer.kind == "block" and _has_depthwise(net, layer):
            try:
                weights = direct_weights(net, layer.name, [0])
            except (ArgumentError, GraphError, UnknownNameError, WeightValuesError):
                continue
            if max(weights.values.shape[2:]) > 1:
                found.append(layer)
    return found


def _has_depthwise(net: Network, block: Layer) -> bool:
    """Whether a block holds a depthwise convolution and no smaller block."""
    kinds = [net.layers[name].kind for name in block.inside]
    return "depthwise conv" in kinds and "block" not in kinds
