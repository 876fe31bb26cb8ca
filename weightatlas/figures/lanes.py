"""Where the lines of a layer graph run: one row a layer, lines in lanes beside the longest path."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

BEND = 8.0  # pixels of a corner; two of them fit between two rows
Step = tuple[str | float, ...]


@dataclass
class Run:
    """One vertical line. Going down it, what it carries is the layers that joined it, until a layer lies in it.

    Args:
        joins: rows of layers beside it whose output enters it there.
        nodes: rows of the layers that lie in it; each reads what the line carries, then the line carries its output.
        leaves: rows of layers beside it that read what it carries there.
        lane: 0 for the longest path, 1 for the lane beside it, and so on.
    """

    joins: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    lane: int = 0

    @property
    def first(self) -> int:
        """The row where it begins."""
        return min([*self.joins[:1], *self.nodes[:1]])

    @property
    def last(self) -> int:
        """The row where it ends."""
        return max([*self.leaves[-1:], *self.nodes[-1:]])

    @property
    def free(self) -> int:
        """The first row below which its lane is free again."""
        return max(self.last, self.nodes[-1] + 1 if self.nodes else 0)


def lay_out(count: int, edges: Iterable[tuple[int, int]]) -> list[Run]:
    """Lines for a graph of ``count`` rows whose edges ``(source row, target row)`` all lead down.

    Every layer lies in exactly one run, the longest path in the first, which has lane 0 to itself. Runs of one lane
    never share the space between two rows. An output that is read again further down runs in a lane of its own; it
    shares that of other outputs only where whoever reads those from there on reads it as well, so that
    following the lines gives exactly the edges.

    Returns:
        The runs with their lanes; shorter ones lie further inside, so that nested ones do not cross.
    """
    outputs: list[list[int]] = [[] for _ in range(count)]
    inputs: list[list[int]] = [[] for _ in range(count)]
    for a, b in sorted(set(edges)):
        outputs[a].append(b)
        inputs[b].append(a)
    chains = _chains(outputs)
    for chain in chains[1:]:
        if inputs[chain.nodes[0]]:
            chain.joins = [inputs[chain.nodes[0]][-1]]  # the nearest
    onward = {(a, b) for chain in chains for a, b in pairwise(chain.nodes)}
    onward |= {(chain.joins[0], chain.nodes[0]) for chain in chains if chain.joins}
    ends = {chain.nodes[-1]: chain for chain in chains}
    beside: list[Run] = []
    for row in range(count):
        again = [b for b in outputs[row] if (row, b) not in onward]
        if not again:
            continue
        if row in ends:  # its own line goes on
            ends[row].leaves = again
        else:
            _join(beside, row, again, outputs[row])
    _assign(chains[:1], [*chains[1:], *beside], count)
    return [*chains, *beside]


def _chains(outputs: Sequence[Sequence[int]]) -> list[Run]:
    """Every row in one path; the longest path of all comes first, then each follows the longest that is left."""
    count = len(outputs)
    height = [0] * count
    for row in reversed(range(count)):
        height[row] = 1 + max((height[b] for b in outputs[row]), default=0)
    placed = [False] * count
    highest = [height.index(max(height))] if height else []
    chains = []
    for start in [*highest, *range(count)]:
        row: int | None = None if placed[start] else start
        chain = Run()
        while row is not None:
            placed[row] = True
            chain.nodes.append(row)
            row = max((b for b in outputs[row] if not placed[b]), key=lambda b: (height[b], -b), default=None)
        if chain.nodes:
            chains.append(chain)
    return chains


def _join(runs: list[Run], row: int, again: list[int], outputs: list[int]) -> None:
    """Leads an output to its readers: in a line whose readers from here on all read it, else in a new one."""
    for run in reversed(runs):
        rest = run.leaves[bisect_right(run.leaves, row) :]
        if len(rest) >= len(again) and set(again) <= set(rest) <= set(outputs):
            run.joins.append(row)
            return
    runs.append(Run(joins=[row], leaves=list(again)))


def _assign(main: Sequence[Run], others: Sequence[Run], count: int) -> None:
    """Gives each run the innermost lane that is free from its first row to its last, short ones first."""
    taken: list[list[tuple[int, int]]] = [[(0, count)] if main else []]
    for run in sorted(others, key=lambda r: (r.free - r.first, r.first)):
        span = run.first, run.free
        lane = next((k for k, spans in enumerate(taken) if _is_free(spans, span)), len(taken))
        if lane == len(taken):
            taken.append([])
        insort(taken[lane], span)
        run.lane = lane


def _is_free(spans: list[tuple[int, int]], span: tuple[int, int]) -> bool:
    at = bisect_right(spans, span)
    before, after = at == 0 or spans[at - 1][1] <= span[0], at == len(spans) or spans[at][0] >= span[1]
    return before and after


def track(run: Run, x: float, lanes: Mapping[int, float], middle: Callable[[int], float]) -> list[Step]:
    """The path of a run at x.

    A corner that turns down leads an output in, one that turns up leads out to a reader: along each row
    there is one layer only, so every corner says whose it is.

    Args:
        run: where layers join, lie and leave.
        x: of its lane.
        lanes: x of each layer by row.
        middle: y of a row.
    """
    joined, left = run.first not in run.nodes, run.last not in run.nodes
    steps: list[Step] = [
        ("M", x, middle(run.first) + (BEND if joined else 0)),
        ("V", middle(run.last) - (BEND if left else 0)),
    ]
    for row in run.joins:
        steps += [
            ("M", lanes[row], middle(row)),
            ("H", _short(lanes[row], x)),
            ("Q", x, middle(row), x, middle(row) + BEND),
        ]
    for row in run.leaves:
        steps += [
            ("M", x, middle(row) - BEND),
            ("Q", x, middle(row), _short(lanes[row], x), middle(row)),
            ("H", lanes[row]),
        ]
    return steps


def _short(start: float, end: float) -> float:
    """Where the corner at the end of a horizontal line begins."""
    return end - max(-BEND, min(BEND, end - start))
