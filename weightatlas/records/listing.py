"""Which networks can be opened by name."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import unknown_name
from . import base
from .base import atomic_write


@dataclass(frozen=True)
class AvailableModel:
    """A network that can be opened, or a way to open many.

    Args:
        name: what :func:`weightatlas.load` takes; for a library or a kind of file, its form.
        kind: ``"network"``, ``"library"`` (another one's networks) or ``"file"``.
        source: where the weights come from, in words.
        size: of the weights' file in bytes, about; ``None`` if it is not told.
        parameters: the number of trained values; ``None`` if it is not told.
        license: of the weights, as their publisher names it; ``""`` if it is not told.
        ready: whether it opens without a network: the weights are on this machine, the library is installed.
        where: the file or folder of weights on this machine, the library's version; ``""`` if there is none.
        note: what is missing and the command that brings it, or what else to know; ``""`` if nothing.
    """

    name: str
    kind: Literal["network", "library", "file"]
    source: str
    size: int | None = None
    parameters: int | None = None
    license: str = ""
    ready: bool = False
    where: str = ""
    note: str = ""


class ModelTable(Mapping[str, AvailableModel]):
    """Networks that can be opened by name; reads like a dict of name to :class:`AvailableModel`.

    Args:
        models: in order, names unique.
        cache: the folder where downloaded weights are kept; ``""`` if this user has none.
        pattern: what was asked for, if not everything.
        notes: what could not be told, one sentence each.

    Example:
        >>> table = ModelTable([AvailableModel("tiny", "network", "nowhere")], cache="cache")
        >>> table["tiny"].ready, table
        (False, ModelTable(1 network, 0 on this machine))
        >>> table["tyni"]
        Traceback (most recent call last):
        weightatlas.errors.UnknownNameError: no model 'tyni'; nearest: 'tiny'
    """

    def __init__(
        self,
        models: list[AvailableModel],
        cache: str,
        pattern: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._models = {model.name: model for model in models}
        self.cache, self.pattern, self.notes = cache, pattern, notes

    def __getitem__(self, name: str) -> AvailableModel:
        """The network of that name.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if name not in self._models:
            raise unknown_name("model", str(name), self._models)
        return self._models[name]

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def get(self, name: str, default: Any = None) -> Any:
        """The network of that name, or ``default``."""
        return self._models.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        networks = [m for m in self._models.values() if m.kind == "network"]
        here = sum(m.ready for m in networks)
        matching = f" matching {self.pattern!r}" if self.pattern else ""
        plural = "" if len(networks) == 1 else "s"
        return f"ModelTable({len(networks):,} network{plural}{matching}, {here:,} on this machine)"

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain dicts, ready for a data frame or JSON."""
        return [dataclasses.asdict(model) for model in self._models.values()]

    def to_json(self) -> str:
        """The whole table as JSON text: ``{"cache", "pattern", "notes", "models": [...]}``, one object per row."""
        whole = {"cache": self.cache, "pattern": self.pattern, "notes": self.notes, "models": self.to_dicts()}
        return json.dumps(whole, indent=1)

    def save(self, path: str | Path) -> Path:
        """Writes :meth:`to_json` to a file, whole or not at all."""
        return atomic_write(path, self.to_json().encode())

    def _repr_html_(self) -> str:
        """How a notebook shows the table."""
        return base.display_hook(self) if base.display_hook else f"<pre>{html.escape(repr(self))}</pre>"  # pyright: ignore[reportArgumentType]
