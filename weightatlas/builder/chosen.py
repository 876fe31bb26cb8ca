"""Layers and units that figures of a network are made of, by rule."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..bands import banding
from ..errors import ArgumentError
from ..graph import layer_graph
from ..records import BandRow
from ..weights import direct_weights
from . import choosing
from .choosing import Span
from .kinds import RGB, is_factorized
from .studio import Studio

RANK = 2  # factors
SIMPLE = 0.8  # of a unit's squared weights, that factors can hold of a unit called simple


class Chosen:
    """Layers and units, each found when a figure first needs it."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.net = studio, studio.net

    @cached_property
    def all_spans(self) -> list[Span]:
        """All layers that can be shown with what they read.

        Raises:
            GraphError: if there is none, because the network cannot be captured.
            ArgumentError: if there is none for another reason.
        """
        found = choosing.spans(self.net)
        if not found:
            layer_graph(self.net)  # says so, if the network cannot be captured
            choosing.most_structured(found)  # refuses
        return found

    @cached_property
    def spans(self) -> tuple[Span, Span]:
        """The most structured layer of the first half and of the second."""
        found = self.all_spans
        half = len(found) // 2
        return choosing.most_structured(found[:half] or found), choosing.most_structured(found[half:])

    @property
    def early(self) -> Span:
        """Where features are simple enough to read maps by."""
        return self.spans[0]

    @property
    def late(self) -> Span:
        """Where pictures are of things."""
        return self.spans[1]

    @property
    def palette(self) -> dict[str, Any]:
        """The palette as an option, if it is not the usual one."""
        return {"palette": self.studio.palette} if self.studio.palette != "classic" else {}

    def why(self, span: Span) -> str:
        """Why a layer was chosen."""
        found = self.all_spans
        half = len(found) // 2
        part = "" if not half else " in the first half" if span in found[:half] else " in the second half"
        if not span.structure:
            return f"{span.target} is the first layer of its kind{part} of the network"
        return f"{span.target} has the most structured positions{part} of the network"

    @cached_property
    def family(self) -> list[int]:
        """Units of the early layer that read the most alike sources."""
        return choosing.family(self.studio.weights(self.early.source, self.early.target))

    @cached_property
    def structured(self) -> int:
        """The unit of the late layer whose positions are most structured."""
        return choosing.structured_unit(self.studio.weights(self.late.source, self.late.target))

    @cached_property
    def further(self) -> str:
        """One layer further back than what the late layer reads."""
        if self.late.source not in self.net.layers:
            raise ArgumentError(f"{self.late.target!r} reads {self.late.source!r}; there is no layer further back")
        return choosing.reads(self.net, self.late.source)

    @cached_property
    def simplified(self) -> tuple[int, float, float]:
        """The unit of the late layer to which factors do more justice one layer further back; shares near and far."""
        weights = [self.studio.weights(source, self.late.target) for source in (self.late.source, self.further)]
        near, far = (choosing.held(w, RANK) for w in weights)
        row = choosing.simplified(near, far, SIMPLE)
        return int(weights[0].units[row]), float(near[row]), float(far[row])

    @cached_property
    def colourful(self) -> str:
        """The layer of the second half whose weights three factors can hold most of."""
        shares: dict[str, float] = {}
        for span in self.all_spans[len(self.all_spans) // 2 :]:
            try:
                weights = direct_weights(self.net, span.target)
            except choosing.CANNOT:
                continue
            if is_factorized(weights):
                shares[span.target] = choosing.held_together(weights, RGB)
        if not shares:
            raise ArgumentError(f"{self.net.name} has no layer or unbranched block whose weights make three factors")
        return max(shares, key=lambda name: shares[name])

    @cached_property
    def banded(self) -> BandRow:
        """The banded layer with the largest row share over chance; if none is, the layer with the largest."""
        rows = [r for r in banding(self.net, seed=self.studio.seed) if not r.apart]
        if not rows:
            raise ArgumentError(f"{self.net.name} has no layer whose kernels could show bands")
        return max(rows, key=lambda r: (r.banded, r.row_share - r.chance))
