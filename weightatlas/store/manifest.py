"""What an atlas says it is: its format and schema, and how older ones become what this version reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import StoreError
from .layout import SCHEMA

FORMAT = "weightatlas"


def _from_1(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 told of gates in two entries, and not whether banding was measured."""
    gates = {"rule": document.pop("gate", None), "measured": document.pop("measured", None)}
    if "coverage" in document:
        document["coverage"] = {"banding": [0, 1], **document["coverage"]}
    return {**document, "gates": gates}


#: Schema → what turns ``model.json`` or ``atlas.json`` of it into one of the next.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def migrated(document: dict[str, Any], where: str) -> dict[str, Any]:
    """``model.json`` or ``atlas.json`` as this version of the package writes it.

    Raises:
        StoreError: for a newer schema, an older one that nothing is known of, or what is no atlas.
    """
    schema = document.get("schema")
    if document.get("format") != FORMAT or isinstance(schema, bool) or not isinstance(schema, int):
        raise StoreError(f"{where!r} is no atlas: it says format {document.get('format')!r}, schema {schema!r}")
    if schema > SCHEMA:
        raise StoreError(
            f"{where!r} was built by a newer weightatlas (schema {schema}, this version reads up to {SCHEMA}); upgrade "
            "with pip install --upgrade weightatlas"
        )
    while schema < SCHEMA:
        if schema not in MIGRATIONS:
            raise StoreError(f"{where!r} has schema {schema}, which weightatlas never wrote; build it anew elsewhere")
        document = MIGRATIONS[schema](dict(document))
        schema += 1
        document["schema"] = schema
    return document


#: What ``model.json`` must hold, and of which kind.
IDENTITY: Mapping[str, type | tuple[type, ...]] = {
    "model": dict, "input": dict, "seed": int, "gates": dict,
}  # fmt: skip


def checked_identity(identity: dict[str, Any], where: str) -> dict[str, Any]:
    """The content of ``model.json``, if it is complete.

    Raises:
        StoreError: if it is not.
    """
    wrong = [k for k, kind in IDENTITY.items() if not isinstance(identity.get(k), kind)]
    inner = {"model": {"name": str, "weights_hash": str}, "gates": {"rule": (str, int, float), "measured": bool}}
    wrong += [
        f"{outer}.{k}"
        for outer, kinds in inner.items()
        if outer not in wrong
        for k, kind in kinds.items()
        if not isinstance(identity[outer].get(k), kind)
    ]
    if wrong:
        raise StoreError(f"{where!r} is no complete atlas: it does not say its {', '.join(wrong)}")
    return identity
