"""The article's figures again, for any network: its own units or those that rules choose, a folder with a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import figures
from ..errors import LoadError
from ..featurevis import Recipe
from ..figures import Figure, Palette
from ..network import Network
from ..records import atomic_write
from .choosing import CANNOT
from .chosen import Chosen
from .commands import command
from .entries import STEPS, Entry, entry_of, own_figures
from .figuring import MAKERS
from .studio import Studio


def article(
    net: Network,
    path: str | Path,
    *,
    recipe: str | Recipe = "display",
    images: Any = None,
    seed: int = 0,
    device: Any = None,
    palette: Palette = "classic",
    progress: Callable[[str], None] | None = None,
    pictures: Callable[[float, int], None] | None = None,
) -> Path:
    """Every figure of "Visualizing Weights" for a network of one's own, in a folder with a page.

    Of ``inceptionv1``, which the article shows, they are of the article's own layers and units. Those of other networks
    are chosen by rules that the captions state: the layer whose weights are most structured in space, the family that
    reads the most alike sources, the pair in which most cancels, and so on.

    Args:
        net: an open network with its architecture.
        path: the folder; made if missing, files of the same names are replaced one by one, others are left alone.
        recipe: of the pictures, as in :func:`weightatlas.visualize`; ``"quick"`` is several times faster.
        images: on which to measure how far expanded weights agree with the network; arrays, or paths.
        seed, device: of pictures and factors.
        palette: of signed maps.
        progress: called with a few words before every figure.
        pictures: called with (done, in all) while feature visualizations are rendered.

    Returns:
        The path of ``index.html``. It is written anew after every figure, so it can be looked at while others are made.

    Raises:
        LoadError: if the folder cannot be written.
        ArgumentError: for a checkpoint without its architecture, or arguments that do not fit. A figure that cannot be
            made of this network is told on the page, with the reason.

    Source: Voss et al., "Visualizing Weights", Distill 2021.

    Example:
        >>> import weightatlas as wa
        >>> wa.article(wa.load("efficientnet_lite0"), "article")  # doctest: +SKIP
        PosixPath('article/index.html')
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise LoadError(f"{folder} is a file; an article needs a folder")
    net.require_module("an article")
    tell = progress or (lambda words: None)
    studio = Studio(net, "expected", "exclude", images, recipe, seed, device, palette, pictures)
    of, sections, missing = Chosen(studio), [], {}
    tell("choosing layers")
    own = own_figures(net)
    for i, name in enumerate(STEPS):
        try:
            entry = entry_of(of, name, own)
            tell(f"{name}: {entry.step.heading.lower()}")
            sections.append(_section(studio, entry, i + 1, folder))
        except CANNOT as error:
            missing.setdefault(str(error), []).append(name)
        page = _page(net, sections, missing, len(STEPS) - i - 1, bool(own))
        atomic_write(folder / "index.html", page.encode())
    return folder / "index.html"


def _section(studio: Studio, entry: Entry, place: int, folder: Path) -> str:
    """A figure as files and as a part of the page, with how its units were chosen and the command that makes it."""
    step, drawn = entry.step, _drawn(studio, entry)
    file = f"{place:02}-{step.kind.replace('_', '-')}.svg"
    drawn.save(folder / file)
    given = {name: getattr(studio, name) for name in MAKERS[step.kind].shared or () if _told(studio, name)}
    again = figures.escape(command(studio.net, step.kind, entry.target, {**entry.options, **given}, file))
    plural = "s" if " " in step.number else ""
    number = f"<span class=quiet>Figure{plural} {step.number} · </span>" if step.number else ""
    heading = f"<h2>{number}{figures.escape(step.heading)}</h2>"
    return (
        f"<section>{heading}<p class=quiet>{figures.escape(step.idea)}</p>{drawn.html()}<details><summary>"
        f"How to make it</summary><pre>{again}</pre></details></section>"
    )


def _drawn(studio: Studio, entry: Entry) -> Figure:
    """The figure, its caption with how its units were chosen."""
    maker = MAKERS[entry.step.kind]
    what = (entry.target,) if entry.target is not None else ()
    own = {k: v for k, v in entry.options.items() if k not in (maker.shared or ())}  # the studio has the others
    drawn = maker.draw(studio.net if maker.shared is None else studio, *what, **own)
    return dataclasses.replace(drawn, caption=f"{drawn.caption} {entry.why}")


def _told(studio: Studio, name: str) -> bool:
    """Whether a choice differs from what a figure takes by itself; what only computes is not told."""
    usual = {f.name: f.default for f in dataclasses.fields(Studio)}
    value = getattr(studio, name)
    return name != "progress" and value is not None and (name == "images" or value != usual[name])


def _reasons(missing: Mapping[str, Sequence[str]]) -> str:
    """A section that says which figures cannot be made of this network, and why."""
    lines = [f"{', '.join(names)}: {reason}." for reason, names in missing.items()]
    told = "".join(f"<p>{figures.escape(line)}</p>" for line in lines)
    return f"<section><h2>What cannot be made of this network</h2>{told}</section>" if told else ""


def _page(net: Network, sections: list[str], missing: Mapping[str, Sequence[str]], left: int, own: bool) -> str:
    """The page so far."""
    name = figures.escape(net.name)
    units = "Units are chosen by rules that the captions state; nothing was picked by hand."
    if own:
        read = " Steps that are not linear are read as in the article: ReLU as the identity, max pooling as an average."
        units = (
            "It is the network that the article shows: layers and units are the article's own, and captions say which "
            f"of them it does not name.{read if net.measured is None else ''}"
        )
    intro = (
        f"The figures of <cite>Visualizing Weights</cite> (Voss et al., Distill, 2021), made again for {name}: "
        f"{len(net.layers)} layers, {net.parameters:,} parameters. Units are named layer:number. {units}"
    )
    told = [f"{note[:1].upper()}{note[1:]}." for note in net.notes] + ([f"Weights: {net.file}."] if net.file else [])
    notes = "".join(f"<p>{figures.escape(line)}</p>" for line in told)
    more = f"<p class=quiet>{left} more are being made; load the page again.</p>" if left else ""
    heading = f"<h1>Visualizing the weights of {name}</h1><p>{intro}</p>{notes}{more}"
    body = f"{heading}{''.join(sections)}{_reasons(missing)}"
    return figures.page(f"{net.name}, its weights visualized · weightatlas", body)
