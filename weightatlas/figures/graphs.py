"""Which layers feed which: one line of text a layer, lines between them in lanes at the left, as railways are drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import GraphNode, LayerGraph
from . import layout, lettering
from .figure import MARGIN, Figure
from .lanes import Run, lay_out, track
from .scene import Scene

ROW = 18  # pixels from layer to layer
LANE = 12  # pixels from lane to lane, where there is room
MOST_GUTTER = 0.34  # of the width
NAME_SIZE, FACT_SIZE = 12, 11
GAP = 16  # between columns
SPARE = 1.03  # readers' own typefaces may be a little wider
HEADS = ("type", "units", "grid")
#: What is shown beside the names, most first; the first choice that leaves room for the longest name is taken.
CHOICES = (("also", *HEADS), HEADS, ("units", "grid"), ("units",))
#: Marks of the kinds of layers, readable on light and dark; layers with weights are larger than those without.
COLOURS = {
    "conv": "#3b7dd8",
    "depthwise conv": "#0f9a8e",
    "grouped conv": "#5a9a2f",
    "transposed conv": "#7d6be0",
    "linear": "#a855c7",
    "block": "#c2477f",
    "pool": "#d9534f",
    "norm": "#8b8b95",
    "activation": "#c8860d",
    "other": "#8a6d55",
}
INPUT = "input"
SMALL = {"norm": 3.0, "activation": 3.0, "other": 3.5, "pool": 4.0}
LARGE = 4.5
MOST_TOLD = 12  # layers that read several, in the text alternative


def graph_figure(graph: LayerGraph, source: str | None = None, target: str | None = None) -> Figure:
    """The layers of a network in the order in which they ran, and which of them feed which.

    Args:
        graph: of the whole network.
        source, target: show only the layers on paths between these two; either may be left out.

    Returns:
        A figure with one row a layer. The longest path is straight; every other output runs in a lane beside it, and
        one line carries several outputs where the same layers read all of them. ``data`` holds ``names`` and
        ``edges`` as drawn.

    Raises:
        UnknownNameError: for a layer that is not in the graph.
        ArgumentError: if no path leads from source to target.
    """
    shown = graph.part(source, target) if source is not None or target is not None else graph
    row = {node.name: i for i, node in enumerate(shown.nodes)}
    runs = lay_out(len(shown), [(row[a], row[b]) for a, b in shown.edges])
    name = graph.model or "network"
    part = _part_words(source, target)

    def compose(width: float) -> Scene:
        scene = Scene(width)
        y = layout.heading(scene, name, part or "which layers feed which")
        y = _key(scene, y, shown.nodes)
        columns = _columns(shown.nodes, runs, width)
        top = _head(scene, y, columns)
        _lines(scene, top, columns, runs, len(shown))
        places = {i: columns.lane(run.lane) for run in runs for i in run.nodes}
        for i, label in enumerate(_labels(shown.nodes, columns.room / SPARE)):
            _row(scene, top + ROW * (i + 0.5), columns, places[i], shown.nodes[i], label)
            scene.note(_told(shown, shown.nodes[i]))
        scene.reach(top + ROW * len(shown))
        return scene

    return Figure(
        compose,
        title=f"Layers of {name}{', ' + part if part else ''}",
        caption=_caption(shown, runs),
        source=name,
        alt=_alt(shown),
        data={"names": [node.name for node in shown.nodes], "edges": list(shown.edges)},
    )


def _part_words(source: str | None, target: str | None) -> str:
    start = f"from {source}" if source is not None else ""
    end = f"to {target}" if target is not None else ""
    return " ".join(words for words in (start, end) if words)


def _caption(graph: LayerGraph, runs: Sequence[Run]) -> str:
    beside = " Curved lines run from a layer down to those that read it." if len(runs) > 1 else ""
    straight = "the straight line is the longest path" if len(runs) > 1 else "each reads the one above"
    one = ", those with one and the same output in one row" if any(node.also for node in graph.nodes) else ""
    notes = [note[0].upper() + note[1:] for note in graph.notes if note]
    text = f"Layers in the order in which they ran{one}; {straight}.{beside}"
    return " ".join([text, *(note if note.endswith(".") else f"{note}." for note in notes)])


def _told(graph: LayerGraph, node: GraphNode) -> str:
    """All that is known of a layer in a sentence."""
    facts = [" ".join(filter(None, [node.kind, f"({node.type})" if node.type else ""]))]
    if node.units:
        grid = f" on {node.grid[0]} × {node.grid[1]}" if node.grid not in (None, (1, 1)) else ""
        facts.append(f"{node.units} units{grid}")
    if node.parameters:
        facts.append(f"{node.parameters:,} parameters")
    reads, through = graph.inputs(node.name), f" ({', '.join(node.operators)})" if node.operators else ""
    if reads:
        facts.append(f"reads {', '.join(reads)}{through}")
    if node.also:
        facts.append(f"also {', '.join(node.also)}")
    return f"{node.name}: {', '.join(filter(None, facts))}"


def _alt(graph: LayerGraph) -> str:
    joins = [node for node in graph.nodes if len(graph.inputs(node.name)) > 1]
    if not graph.nodes:
        return "No layers."
    words = [f"{len(graph)} rows from {graph.nodes[0].name} to {graph.nodes[-1].name}"]
    words += [f"{node.name} reads {', '.join(graph.inputs(node.name)[:MOST_TOLD])}" for node in joins[:MOST_TOLD]]
    if len(joins) > MOST_TOLD:
        words.append(f"{len(joins) - MOST_TOLD} more read several")
    return "; ".join(words) + "."


def _kind(node: GraphNode) -> str:
    if node.kind:
        return node.kind
    return INPUT if node.name == INPUT else "other"


def _mark(scene: Scene, x: float, y: float, kind: str) -> None:
    if kind == INPUT:
        scene.rect(x - LARGE, y - LARGE, 2 * LARGE, 2 * LARGE, role="ink", radius=LARGE)
    else:
        scene.dot(x, y, SMALL.get(kind, LARGE), COLOURS.get(kind, COLOURS["other"]))


def _key(scene: Scene, y: float, nodes: Sequence[GraphNode]) -> float:
    """A mark for each kind that is there, in as many rows as it takes."""
    x, order = float(MARGIN), (INPUT, *COLOURS)
    present = dict.fromkeys(_kind(node) for node in nodes)
    for kind in sorted(present, key=lambda k: order.index(k) if k in order else len(order)):
        width = 16 + lettering.text_width(kind, NAME_SIZE) * SPARE
        if x > MARGIN and x + width > scene.width - MARGIN:
            x, y = float(MARGIN), y + 18
        _mark(scene, x + 5, y + 7, kind)
        scene.text(x + 15, y + 11, lettering.shorten(kind, NAME_SIZE, scene.width - 2 * MARGIN - 16, mono=False))
        x += width + 14
    return y + 36


@dataclass(frozen=True)
class _Columns:
    """Where things lie: x of the longest path, pixels between lanes, x of each column and the room for names."""

    main: float
    gap: float
    shown: tuple[str, ...]
    room: float
    type: float
    units: float
    grid: float

    @property
    def names(self) -> float:
        return self.main + 14

    def lane(self, number: int) -> float:
        return self.main - self.gap * number


def _tail(node: GraphNode, shown: Sequence[str]) -> str:
    """What follows a name: the operators before it where no column tells them, and its other names."""
    operators = f" {' '.join(node.operators)}" if node.operators and "type" not in shown else ""
    return operators + (f" = {', '.join(node.also)}" if node.also and "also" in shown else "")


def _facts(node: GraphNode) -> dict[str, str]:
    return {
        "type": " · ".join(filter(None, [*node.operators, node.type or _kind(node)])),
        "units": str(node.units) if node.units else "",
        "grid": f"{node.grid[0]} × {node.grid[1]}" if node.grid else "",
    }


def _columns(nodes: Sequence[GraphNode], runs: Sequence[Run], width: float) -> _Columns:
    lanes = max((run.lane for run in runs), default=0)
    gap = min(LANE, MOST_GUTTER * (width - 2 * MARGIN) / max(lanes, 1))
    main = MARGIN + gap * lanes + LARGE + 1
    facts = [_facts(node) for node in nodes]
    wide = {}
    for head in HEADS:
        widths = [lettering.text_width(fact[head], FACT_SIZE) for fact in facts if fact[head]]
        wide[head] = max([*widths, lettering.text_width(head, FACT_SIZE)]) * SPARE if widths else 0
    longest = max((_wide(node.name) for node in nodes), default=0) * SPARE + 1
    shown, room, full = CHOICES[0], 0.0, 0.0
    for shown in CHOICES:
        taken = sum(wide[head] + GAP for head in HEADS if head in shown and wide[head])
        room = width - MARGIN - taken - main - 14
        full = max((_wide(node.name + _tail(node, shown)) for node in nodes), default=0) * SPARE + 1
        if (full if "also" in shown else longest) <= room:
            break
    room = min(room, full)
    kind = main + 14 + room + GAP
    units = kind + (wide["type"] + GAP if "type" in shown and wide["type"] else 0) + wide["units"]
    grid = units + GAP + wide["grid"]
    shown = tuple(head for head in shown if wide.get(head, 1))
    return _Columns(main, gap, shown, room, kind, units, grid)


def _head(scene: Scene, y: float, columns: _Columns) -> float:
    """The headings of the columns; returns the top of the first row."""
    scene.text(columns.names, y, "layer", FACT_SIZE, "quiet")
    for head in HEADS:
        if head in columns.shown:
            anchor = "start" if head == "type" else "end"
            scene.text(getattr(columns, head), y, head, FACT_SIZE, "quiet", anchor=anchor)
    return y + 8


def _row(scene: Scene, y: float, columns: _Columns, x: float, node: GraphNode, label: tuple[str, str]) -> None:
    _mark(scene, x, y, _kind(node))
    for head, words in _facts(node).items():
        if head in columns.shown and words:
            anchor = "start" if head == "type" else "end"
            scene.text(getattr(columns, head), y + 4, words, FACT_SIZE, "quiet", anchor=anchor)
    head, tail = label
    more = _tail(node, columns.shown)
    more = more if _wide(head + tail + more) <= columns.room / SPARE else ""
    scene.text(columns.names, y + 4, head, NAME_SIZE, "quiet", mono=True, more=[(tail, "ink"), (more, "quiet")])


def _labels(nodes: Sequence[GraphNode], room: float) -> list[tuple[str, str]]:
    """Each name as what it shares with the one above and what is new; where room lacks, first parts are left out.

    If one name is too long, what others share with the one above is left out as well, so that they look alike.
    """
    names = [lettering.visible(node.name).split(".") for node in nodes]
    needed = [bisect_left(range(len(p) - 1), True, key=lambda cut, p=p: _wide(_shown(p, cut)) <= room) for p in names]
    most, labels, above = max(needed, default=0), [], []
    for parts, least in zip(names, needed, strict=True):
        same = 0
        while same < min(len(parts) - 1, len(above)) and parts[same] == above[same]:
            same += 1
        if above[: len(parts)] == parts:  # a block that ends here stands out
            same = 0
        cut = max(least, min(most, same))
        head = ("…" if cut else "") + "".join(f"{part}." for part in parts[cut:same])
        tail = ".".join(parts[max(cut, same) :])
        fits = _wide(head + tail) <= room
        labels.append((head, tail) if fits else ("", lettering.shorten(_shown(parts, cut), NAME_SIZE, room)))
        above = parts
    return labels


def _shown(parts: Sequence[str], cut: int) -> str:
    return ("…" if cut else "") + ".".join(parts[cut:])


def _wide(text: str) -> float:
    return lettering.text_width(text, NAME_SIZE, mono=True)


def _lines(scene: Scene, top: float, columns: _Columns, runs: Sequence[Run], count: int) -> None:
    """All lines as two shapes: the longest path, and what runs beside it."""
    lane = {i: columns.lane(run.lane) for run in runs for i in run.nodes}

    def middle(row: int) -> float:
        return top + ROW * (row + 0.5)

    steps: list[tuple[str | float, ...]] = []
    for run in runs[1:]:
        steps += track(run, columns.lane(run.lane), lane, middle)
    if steps:
        scene.path(steps, "quiet", 1.25)
    if runs and runs[0].first < runs[0].last:
        scene.path([("M", columns.main, middle(runs[0].first)), ("V", middle(runs[0].last))], "quiet", 2)
