"""What a reader asks to be made: checked against the overview before anything is passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError, UnknownNameError, unknown_name
from ..store.layout import picture_path

#: Pictures that can be asked for, in the words of ``weightatlas build --recipes``.
RECIPES = ("quick", "display", "negative", "diverse", "positions", "factors", "max")
STYLES = ("quick", "display", "max")
INPUT = "input"
SHAPES = {
    "picture": '{"what": "picture", "layer": "blocks.4.1", "unit": 17, "recipe": "quick"}',
    "weights": '{"what": "weights", "source": "blocks.4.0", "target": "blocks.4.1"}',
}


@dataclass(frozen=True)
class Ask:
    """One thing that is to be made.

    Args:
        what: ``"picture"`` or ``"weights"``.
        layer, unit, recipe: of a picture.
        source, target: layers, of weights.
    """

    what: str
    layer: str = ""
    unit: int = -1
    recipe: str = ""
    source: str = ""
    target: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the page sent it."""
        if self.what == "picture":
            return {"what": self.what, "layer": self.layer, "unit": self.unit, "recipe": self.recipe}
        return {"what": self.what, "source": self.source, "target": self.target}


def checked_ask(content: Any, manifest: Mapping[str, Any]) -> Ask:
    """What was asked, if an atlas can have it.

    Args:
        content: JSON as it came in.
        manifest: the content of ``atlas.json``.

    Raises:
        ArgumentError: for what has another shape, saying which is taken.
        UnknownNameError: for a layer, unit or recipe that does not exist, with the nearest names.
    """
    shapes = " or ".join(SHAPES.values())
    what = content.get("what") if isinstance(content, dict) else None
    if not isinstance(what, str) or what not in SHAPES:
        raise ArgumentError(f"what is asked for must be like {shapes}")
    wanted: dict[str, type] = {"layer": str, "unit": int, "recipe": str}
    wanted = wanted if what == "picture" else {"source": str, "target": str}
    for name, kind in wanted.items():
        value = content.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ArgumentError(f"{what} takes {SHAPES[what]}; its {name!r} came in as {str(value)[:80]!r}")
    ask = Ask(what, **{name: content[name] for name in wanted})
    rows = {row["name"]: row for row in manifest["layers"]}
    _check_picture(ask, rows) if what == "picture" else _check_weights(ask, list(rows))
    return ask


def made_of(ask: Ask, manifest: Mapping[str, Any]) -> list[str] | None:
    """The files of what was asked for, if an overview says that all are made; else ``None``."""
    if ask.what == "weights":
        pairs = [p for p in manifest["pairs"] if (p["source"], p["target"]) == (ask.source, ask.target) and p["made"]]
        return [f"{pair['path']}/zarr.json" for pair in pairs] or None
    folder = ask.recipe if ask.recipe in STYLES else f"display.{ask.recipe}"
    row = next(r for r in manifest["layers"] if r["name"] == ask.layer)
    found = {name: p["made"] for name, p in row["pictures"].items() if name.partition("@")[0] == folder}
    if not found or not all(any(a <= ask.unit <= b for a, b in runs) for runs in found.values()):
        return None
    return [picture_path(ask.layer, name, ask.unit) for name in found]


def _check_picture(ask: Ask, rows: Mapping[str, Mapping[str, Any]]) -> None:
    if ask.layer not in rows:
        raise unknown_name("layer in this atlas", ask.layer, rows)
    count = rows[ask.layer].get("units", 0)
    if not 0 <= ask.unit < count:
        raise UnknownNameError(f"{ask.layer!r} has no unit {ask.unit}; its units are 0 to {count - 1}")
    if ask.recipe not in RECIPES:
        raise unknown_name("recipe", ask.recipe, RECIPES)


def _check_weights(ask: Ask, layers: list[str]) -> None:
    for name, known in ((ask.source, [INPUT, *layers]), (ask.target, layers)):
        if name not in known:
            raise unknown_name("layer in this atlas", name, known)
    order = [INPUT, *layers]
    if order.index(ask.source) >= order.index(ask.target):
        raise ArgumentError(
            f"weights go forward, and {ask.source!r} does not come before {ask.target!r}; ask for them the other way "
            "round" if ask.source != ask.target else f"weights lie between two layers, not {ask.source!r} and itself"
        )  # fmt: skip
