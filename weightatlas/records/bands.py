"""Weight banding statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .base import Provenance, Record


@dataclass(frozen=True)
class BandRow:
    """Banding of one layer, over all its kernels.

    Args:
        layer: its name.
        row_share: Σ Var_y(mean_x w) / Σ Var_yx(w), 0 … 1: how much of the kernels' variance lies between rows.
        column_share: Σ Var_x(mean_y w) / Σ Var_yx(w).
        chance: (H − 1) / (H W − 1), the expected row share when positions are exchangeable.
        column_chance: (W − 1) / (H W − 1).
        interval: central 95 % of the row share when the kernels' positions are permuted (one permutation for all
            kernels of the layer, so that what kernels have in common stays).
        banded: whether the row share stands out; see :func:`weightatlas.banding`.
        kernel: ``(H, W)``.
        kernels: how many kernels.
        stride: of the layer, ``(y, x)``.
        apart: why the layer is not judged (it sees pixels, its weights are not finite …), or ``""``.
    """

    layer: str
    row_share: float
    column_share: float
    chance: float
    column_chance: float
    interval: tuple[float, float]
    banded: bool
    kernel: tuple[int, int]
    kernels: int
    stride: tuple[float, float]
    apart: str = ""


def _row(value: dict[str, Any]) -> BandRow:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return BandRow(**fields)


@dataclass(frozen=True, repr=False, eq=False)
class Banding(Record):
    """Weight banding by depth: one row per layer with a spatial kernel, in network order.

    Args:
        rows: the layers; also reached by iteration, ``len`` and index.
        seed, permutations: of the permutation interval.
        provenance: of the network.
    """

    rows: tuple[BandRow, ...]
    seed: int
    permutations: int
    provenance: Provenance = field(default_factory=Provenance)

    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {"rows": lambda v: tuple(_row(r) for r in v)}

    def __iter__(self) -> Iterator[BandRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> BandRow:
        return self.rows[index]

    @property
    def banded(self) -> list[str]:
        """Names of the layers whose row share stands out."""
        return [row.layer for row in self.rows if row.banded]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain dicts, ready for a data frame or JSON."""
        return [dataclasses.asdict(row) for row in self.rows]

    def __repr__(self) -> str:
        found = ", ".join(self.banded) or "none"
        return f"Banding({self.provenance.model or 'network'}: {len(self)} spatial layers, banded: {found})"
