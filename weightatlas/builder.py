"""The only module where stages meet: a network in, figures and pages out."""

from __future__ import annotations

import hashlib
import inspect
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from . import figures
from .bands import banding
from .errors import ArgumentError, GraphError, LoadError, UnknownNameError, WeightValuesError, unknown_name
from .factor import factorize
from .figures import Figure, Palette
from .models import FAMILIES
from .network import Network
from .records import Layer, Weights, atomic_write
from .weights import direct_weights

Kind = Literal["weights", "banding"]
RGB = 3
#: How many layers an overview shows, the first one included.
OVERVIEW_LAYERS = 4
OVERVIEW_UNITS = 30
LONGEST_STEM = 80


def figure(net: Network, kind: Kind, layer: str | None = None, **options: Any) -> Figure:
    """A figure computed and drawn in one call.

    Args:
        net: an open network.
        kind: ``"weights"`` (of one layer) or ``"banding"`` (of all).
        layer: for ``"weights"``.
        options: for ``"weights"``: ``units``, ``rank`` (3), ``method`` (``"posneg"``), ``per_unit`` (False), ``seed``
            (0), ``fold_norm`` (True), ``palette``; for ``"banding"``: ``permutations``, ``seed``, ``palette``.

    Returns:
        For ``"weights"``, what suits the layer. One that reads RGB pixels is shown in its own colours, a depthwise
        one as signed maps, any other as the RGB grid of its factors.

    Raises:
        ArgumentError, UnknownNameError: for a kind, layer or option that does not exist or does not go together.

    Example:
        >>> import weightatlas as wa
        >>> wa.figure(wa.load("efficientnet_lite0"), "weights", "conv_stem").title
        'Weights of conv_stem on pixels'
    """
    kinds: dict[str, Callable[..., Figure]] = {"weights": weights_figure, "banding": banding_figure}
    if kind not in kinds:
        raise unknown_name("kind of figure", str(kind), kinds)
    if kind == "weights" and layer is None:
        raise ArgumentError('figure(net, "weights", layer) needs a layer; net.layers lists them')
    if kind == "banding" and layer is not None:
        raise ArgumentError(f"the banding figure is of all layers; it takes no layer ({layer!r} came in)")
    parameters = inspect.signature(kinds[kind]).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ArgumentError(f"figure kind {kind!r} has no option {name!r}; it has {', '.join(known)}")
    return kinds[kind](net, layer, **options) if layer is not None else kinds[kind](net, **options)


def weights_figure(
    net: Network,
    layer: str,
    *,
    units: Iterable[int] | None = None,
    rank: int | None = None,
    method: Literal["posneg", "semi"] | None = None,
    per_unit: bool | None = None,
    seed: int | None = None,
    fold_norm: bool = True,
    palette: Palette | None = None,
) -> Figure:
    """The weights of one layer, drawn as suits them; see :func:`figure`.

    Options that the drawing cannot use are refused, not ignored: a layer with its own colours or signed maps has no
    factors, an RGB grid no palette.
    """
    units = net.layers[layer].unit_indices(units) if units is not None else None
    weights = direct_weights(net, layer, fold_norm=fold_norm)
    factoring = {"rank": rank, "method": method, "per_unit": per_unit, "seed": seed}
    return _drawn(weights, units, {k: v for k, v in factoring.items() if v is not None}, palette)


def _drawn(weights: Weights, units: Iterable[int] | None, asked: dict[str, Any], palette: Palette | None) -> Figure:
    """Weights drawn as suits them; ``asked`` holds the options of a factorization that were given."""
    layer = weights.target
    if not is_factorized(weights):
        if asked:
            how = "shown in its own colours" if figures.has_own_colours(weights) else "shown as signed maps"
            raise ArgumentError(f"{layer!r} is {how} and not factorized; leave out {', '.join(asked)}")
        if figures.has_own_colours(weights):
            _refuse_palette(palette, layer)
            return figures.pixel_grid(weights, units)
        return figures.signed_maps(weights, units, palette=palette or "classic")
    _refuse_palette(palette, layer)
    _, _, h, w = weights.values.shape
    per_unit = bool(asked.get("per_unit"))
    asked = {"rank": _usual_rank(weights, per_unit), **asked}
    if h * w == 1 and per_unit:
        raise ArgumentError(f"{layer!r} has 1×1 kernels: one position per unit is nothing to factorize one by one")
    return figures.nmf_grid(factorize(weights, **asked), units)


def _refuse_palette(palette: Palette | None, layer: str) -> None:
    if palette is not None:
        raise ArgumentError(f"palette={palette!r} is for signed maps and banding; {layer!r} is drawn without one")


def _usual_rank(weights: Weights, per_unit: bool) -> int:
    o, i, h, w = weights.values.shape
    return min(RGB, i, h * w * (1 if per_unit else o))


def is_factorized(weights: Weights) -> bool:
    """Whether weights are drawn through their factors, not in their own colours or as signed maps."""
    return not figures.has_own_colours(weights) and weights.values.shape[1] > 1


def banding_figure(net: Network, *, permutations: int = 2000, seed: int = 0, palette: Palette = "classic") -> Figure:
    """Weight banding by depth; see :func:`weightatlas.banding`."""
    return figures.banding_plot(banding(net, permutations=permutations, seed=seed), palette=palette)


def overview(
    net: Network,
    path: str | Path,
    *,
    layers: list[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """A folder to look at: layer table, weights of four layers, banding, and a page that shows them.

    Args:
        net: an open network or checkpoint.
        path: the folder; made if missing, files of the same names are replaced one by one, others are left alone.
        layers: which layers' weights to show; default the first convolution and three more with spatial kernels,
            evenly by depth up to the last. Blocks whose convolutions run one after another are preferred to the
            depthwise convolutions inside them. A block that holds a banded layer is factorized unit by unit.
        seed: of factorizations and permutations.
        progress: called with a few words before every step.

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
            sections.append(f"<section><h2>{figures.escape(name)}</h2><p>{figures.escape(str(error))}</p></section>")
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
    command = _recipe(net, ["banding"], {"seed": seed}, "banding.svg")
    return f"<section><h2>Banding</h2>{drawn.html()}{command}</section>", found.banded


def _weights_section(net: Network, layer: str, seed: int, banded: list[str], folder: Path) -> str:
    """A layer's figure as files and as a part of the page, with the command that makes it."""
    known = net.layers[layer]
    units = range(min(OVERVIEW_UNITS, known.units))
    weights = direct_weights(net, layer)
    asked: dict[str, Any] = {"seed": seed} if is_factorized(weights) else {}
    if asked and set(known.inside) & set(banded):  # bands live within units
        asked["per_unit"] = True
    drawn = _drawn(weights, units, asked, None)
    name = file_stem(layer)
    drawn.save(folder / f"{name}.svg")
    drawn.save(folder / f"{name}.png")
    heading = f"<h2 class=unseen>Weights of {figures.escape(layer)}</h2>"
    command = _recipe(net, ["weights", layer], {"units": units, **asked}, f"{name}.svg")
    return f"<section>{heading}{drawn.html()}{command}</section>"


def _recipe(net: Network, what: list[str], options: dict[str, Any], file: str) -> str:
    """What makes the figure again, to be copied: a command if the model can be named in one, else Python."""
    published = net.name in FAMILIES and not any(note.startswith("weights from") for note in net.notes)
    if net.module is not None and not published:
        words = ", ".join(["net", *(repr(w) for w in what), *(f"{k}={v!r}" for k, v in options.items())])
        return f"<pre>{figures.escape(f'wa.figure({words}).save({file!r})')}</pre>"
    named, flags = [net.name, *what[1:]], []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        flags += [flag] if value is True else [flag, f"0-{value[-1]}" if isinstance(value, range) else str(value)]
    flags += ["-o", file]
    words = [*flags, "--", *named] if any(n.startswith("-") for n in named) else [*named, *flags]
    return f"<pre>{figures.escape(shlex.join(['weightatlas', what[0], *words]))}</pre>"


def file_stem(layer: str) -> str:
    """The name of a layer's pictures without ending: one of its own for every layer, on every system.

    Example:
        >>> file_stem("blocks.4.1"), file_stem("relu#2")
        ('weights-blocks.4.1', 'weights-relu_2-5b118244')
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in layer)[:LONGEST_STEM]
    mark = "" if plain == layer else "-" + hashlib.sha256(layer.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"weights-{plain}{mark}"


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
