"""What the server knows while it runs: the atlas, who listens, what was asked for, and how the builder is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import StoreError, WeightAtlasError
from ..store import Atlas, Files, LocalFiles, families
from ..store.layout import MANIFEST
from .asking import RECIPES, Ask, made_of
from .listening import Hub
from .looker import MOST_BYTES, MOST_PIXELS, Looker
from .reading import SITE

#: Requests that wait at once.
WAITING = 64
#: Seconds between looks at the overview, which another process may write.
LOOK_EVERY = 2.0
#: Of images that files can hold.
CHANNELS = (1, 3)
#: States in which something can be asked for.
AT_WORK = ("starting", "building", "idle", "asked")


class Busy(WeightAtlasError):  # noqa: N818  # it passes
    """Too many requests wait."""


class Desk:
    """The server's side of an atlas.

    Args:
        files: of the atlas.
        hub: everyone who listens.
        why: why nothing can be computed, ``""`` if a builder is there; see :meth:`heard`.
        site: the folder of the page's own files.

    Attributes:
        looker: who looks at readers' images; ``None`` if nobody can.
        blind: why not.
    """

    def __init__(self, files: Files, hub: Hub, why: str = "", site: Path = SITE) -> None:
        self.files, self.hub, self.why, self.site = files, hub, why, site
        self.looker: Looker | None = None
        self.blind = why or "nobody looks at images here"
        self._takes: str | None = None
        self.builder: dict[str, Any] = {"builder": "none" if why else "starting", "about": why, "done": 0, "of": 0}
        self.pending: dict[Ask, int] = {}
        #: What passes something on to the builder.
        self.send: Callable[[dict[str, Any]], None] = lambda message: None
        self._number = 0
        self._atlas: Atlas | None = None
        self._read: tuple[int, int, int] | None = None
        self._seen: tuple[int, int, int] | None = None
        self._naming = asyncio.Lock()

    def state(self) -> dict[str, Any]:
        """How the builder is, as pages are told."""
        return {**self.builder, "waiting": len(self.pending)}

    def about(self) -> dict[str, Any]:
        """What this site can do, as ``site.json`` tells it."""
        can = not self.why
        named = isinstance(self.files, LocalFiles) or not self.files.where.startswith(("http:", "https:"))
        blind = self.blind if self.looker is None else self._unfit()
        images = not blind
        what = {"pictures": can, "weights": can, "families": named, "images": images}
        return site_about(self.files, True, what, self.why, blind)

    def _unfit(self) -> str:
        """Why the network takes no images, ``""`` if it does; that never changes."""
        if self._takes is None:
            try:
                self._takes = unseen(self.manifest())
            except StoreError as error:
                return str(error)
        return self._takes

    def manifest(self) -> Mapping[str, Any]:
        """The overview as it is now; read anew only if it has changed.

        Raises:
            StoreError: if there is none, or it is damaged.
        """
        return self.opened().manifest

    def opened(self) -> Atlas:
        """The atlas as it is now."""
        mark = self.mark()
        if self._atlas is None:
            self._atlas = Atlas(self.files)
        elif mark is None or mark != self._read:
            self._atlas.refresh()
        self._read = mark
        return self._atlas

    def mark(self) -> tuple[int, int, int] | None:
        """What changes with the overview; ``None`` where only reading it would tell."""
        if not isinstance(self.files, LocalFiles):
            return None
        try:
            about = (self.files.root / MANIFEST).stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino

    def look(self, changed: bool = False) -> None:
        """Tells everyone if the overview has changed; ``changed`` where that is known."""
        mark = self.mark()
        if mark is not None:
            changed = mark != self._seen and self._seen is not None
            self._seen = mark
        if changed:
            self.hub.tell("updated", {})

    async def watch(self) -> None:
        """Looks at the overview while anyone listens, until cancelled."""
        self.look()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self.hub.listeners:
                self.look()

    def ask(self, ask: Ask) -> int:
        """Passes a request on, once; tells how many wait.

        Raises:
            Busy: if too many wait already.
        """
        if ask not in self.pending:
            if len(self.pending) >= WAITING:
                raise Busy(f"{WAITING} requests wait already; try again in a few seconds")
            self._number += 1
            self.pending[ask] = self._number
            self.send({"ask": self._number, **ask.to_dict()})
            self.tell_state()
        return len(self.pending)

    def there(self, ask: Ask) -> bool:
        """Whether what is asked for is there already.

        Raises:
            StoreError: if that cannot be told now.
        """
        paths = made_of(ask, self.manifest())
        return paths is not None and all(map(self.files.exists, paths))

    def tell_made(self, ask: Ask) -> None:
        """Tells everyone of what was there already."""
        about = ask.to_dict()
        units = {"units": [about.pop("unit")]} if ask.what == "picture" else {}
        self.hub.tell("made", {**about, **units})

    def tell_state(self, **changes: Any) -> None:
        """Tells everyone how the builder is."""
        self.builder |= changes
        self.hub.tell("state", self.state())

    def unable(self, why: str, builder: str = "none") -> None:
        """Notes that nothing can be computed any more, and why."""
        self.why = why
        for ask in tuple(self.pending):
            self.failed(ask, why)
        self.tell_state(builder=builder, about=why)

    def looked_at_by(self, model: str | None, weights: str | None = None) -> None:
        """Has images looked at through a network that another process opens by this name, with these weights."""
        self.looker = Looker(lambda: seen_by(self.manifest(), model, weights), self.unable_to_look)

    def unable_to_look(self, why: str) -> None:
        """Notes that no image can be looked at, and why."""
        self.looker, self.blind = None, why
        self.hub.tell("updated", {})

    def failed(self, ask: Ask, error: str) -> None:
        """Notes that a request came to nothing."""
        self.pending.pop(ask, None)
        self.hub.tell("failed", {"ask": ask.to_dict(), "error": error})

    def by_number(self, number: Any) -> Ask | None:
        """The request that was passed on with a number."""
        return next((ask for ask, own in self.pending.items() if own == number), None)

    async def name_family(self, name: str, layer: str, units: list[int]) -> list[dict[str, Any]]:
        """Names a family; tells those that people named."""
        async with self._naming:
            return await asyncio.to_thread(lambda: self.opened().name_family(name, layer, units))

    async def drop_family(self, name: str) -> list[dict[str, Any]]:
        """Forgets a family; tells those that are left."""
        async with self._naming:
            return await asyncio.to_thread(lambda: self.opened().drop_family(name))


def seen_by(manifest: Mapping[str, Any], model: str | None = None, weights: str | None = None) -> dict[str, Any]:
    """What a process that looks at images is told: which network, and how to know that it is the atlas's."""
    about = manifest["model"]
    return {"model": model or about["name"], "weights": weights, "hash": about["weights_hash"],
            "input": manifest["input"], "pixels": MOST_PIXELS}  # fmt: skip


def unseen(manifest: Mapping[str, Any]) -> str:
    """Why a network takes no images, ``""`` if it does."""
    shape = manifest["input"]["shape"]
    if len(shape) == len("CHW") and shape[0] in CHANNELS:
        return ""
    return f"{manifest['model']['name']} takes inputs of shape {shape}; images have 1 or 3 channels"


def site_about(files: Files, live: bool, can: Mapping[str, bool], why: str, blind: str) -> dict[str, Any]:
    """The content of ``site.json``.

    What keeps people's families from being read is in ``trouble``, what keeps images from being looked at, and which
    are too large, in ``images``.
    """
    from importlib.metadata import version

    named, trouble = [], ""
    try:
        named = families.read(files)
    except StoreError as error:
        trouble = str(error)
    recipes = list(RECIPES) if can["pictures"] else []
    return {"live": live, "version": version("weightatlas"), "can": dict(can), "why": why, "recipes": recipes,
            "families": named, "trouble": trouble,
            "images": {"why": blind, "bytes": MOST_BYTES, "pixels": MOST_PIXELS}}  # fmt: skip


def begun(files: Files) -> bool:
    """Whether an atlas has an overview that can be shown.

    Raises:
        StoreError: if that cannot be told.
    """
    try:
        return files.exists(MANIFEST)
    except StoreError as error:
        raise StoreError(f"{files.where!r} cannot be opened: {error}") from error
