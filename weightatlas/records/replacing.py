"""What stands in for operators that are not linear."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: What differs from one replaced operator to the next.
OWN_NUMBER = re.compile(r",( mean)? [-+.\de]+$")


@dataclass(frozen=True)
class Replaced:
    """An operator that is not linear, and what it was read as.

    Args:
        operator: its name, e.g. ``"ReLU6"``.
        module: its dotted module path; several in one module get ``:relu#2`` and so on behind it.
        became: what stands in its place, e.g. ``"identity"`` or ``"expected derivative, mean 0.41"``.
        source: where that comes from: ``"measured"``, ``"batch norm"``, ``"given"``, or ``""`` for a rule.
        factor: what the operator multiplies by, one number per unit of its output or one for all; empty for the
            identity and for what is no factor (an average in place of a maximum).
    """

    operator: str
    module: str
    became: str
    source: str = ""
    factor: tuple[float, ...] = field(default=(), repr=False)


def replaced_from(value: list[dict[str, Any]]) -> tuple[Replaced, ...]:
    """Replacements rebuilt from their JSON form."""
    return tuple(Replaced(**{**r, "factor": tuple(r.get("factor", ()))}) for r in value)


def read_as(replaced: Sequence[Replaced]) -> list[str]:
    """What was read as what, with counts, e.g. ``"33 ReLU6 read by their expected derivative (batch norm)"``.

    Example:
        >>> read_as([Replaced("ReLU6", "a", "identity"), Replaced("ReLU6", "b", "identity")])
        ['2 ReLU6 read as the identity']
    """
    counts = Counter((r.operator, OWN_NUMBER.sub("", r.became), r.source) for r in replaced)
    found = []
    for (operator, became, source), count in counts.items():
        how = {
            "expected derivative": f"read by {'their' if count > 1 else 'its'} expected derivative",
            "average": "read as an average",
            "× given": "read as given factors",
        }.get(became, f"read as {'the ' * became.startswith('identity')}{became}")
        how = f"with {became}" if " held" in became else how
        where = f" ({source})" if source and source not in became and "given" not in how else ""
        found.append(f"{count} {operator} {how}{where}")
    return found
