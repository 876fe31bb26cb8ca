"""One run of the builder beside a server: what is missing is built, and what a reader asks for comes first."""

from __future__ import annotations

import threading
import time
from typing import Any

from ...errors import WeightAtlasError
from ...lens import Photos, photos_from
from ...network import Network, load, spare_threads, use_threads
from ...store import Atlas, open_files
from ...store.layout import MANIFEST
from ...store.wanted import numbers_in
from ..jobs import Event, build
from ..jobs.drafting import kept_bytes
from ..jobs.job import Job
from ..jobs.request import BUDGET, VARIANTS
from .pipes import Inbox, Outbox

#: Requests of a kind that are done in one go.
AT_ONCE = 8
#: A job that would take so many seconds more is given up for a reader, but so often at most; then it is finished.
LONGEST_WAIT, GIVEN_UP = 2.0, 2
#: Seconds between words on how far the background is.
WORDS_EVERY = 0.25


class _ReaderWaitsError(Exception):
    """Leaves a background build in the midst of a job: somebody waits for something else."""


class Session:
    """The builder of an atlas while a server shows it.

    Args:
        order: ``path``, ``model``, ``weights``, ``images``, ``layers``, ``recipes``: of the build in the background.
        inbox, out: from and to the server.
    """

    def __init__(self, order: dict[str, Any], inbox: Inbox, out: Outbox) -> None:
        self.order, self.inbox, self.out = order, inbox, out
        self.path: str = order["path"]
        self._net: Network | None = None
        self._photos: Photos | None = None
        asked = {name: order[name] for name in ("layers", "recipes") if order.get(name) is not None}
        #: Arguments of the builds that are left: what was asked for now, then all that ever was.
        self._left: list[dict[str, Any]] = [asked, {}] if asked else [{}]
        self._begun, self._why_idle = False, "everything that was asked for is there"
        self._given_up: dict[str, int] = {}
        self._job: tuple[str, float] = ("", 0.0)
        self._before = self._done = self._of = 0
        self._spoke = 0.0

    @property
    def net(self) -> Network:
        """The network, opened when it is first needed."""
        if self._net is None:
            use_threads(spare_threads())
            self._net = load(self.order["model"], weights=self.order.get("weights"))
            self._photos = photos_from(self._net, self.order.get("images"))
        return self._net

    def run(self) -> None:
        """Works until the end is asked for, or the atlas cannot be built at all."""
        self._say("starting", "opening the network")
        while not self.inbox.ended.is_set():
            if self._begun and self.inbox.waits:
                self._answer()
            elif self._left:
                if not self._fill():
                    return
            else:
                self._say("idle", self._why_idle)
                self.inbox.wait()

    def _say(self, builder: str, about: str) -> None:
        self.out.tell("state", builder=builder, about=about, done=self._done, of=self._of)
        self._spoke = time.monotonic()

    def _fill(self) -> bool:
        """Builds on until all is there or a reader waits; whether this session can go on."""
        if self._begun:
            self._say("building", "looking what is missing")
        try:
            build(
                self.net, self.path, images=self._photos, stop=_Waits(self.inbox), progress=self._heard,
                **self._left[0],
            )  # fmt: skip
        except _ReaderWaitsError:
            return True
        except WeightAtlasError as error:
            if not self._begun:  # another network, another build at work: this will not pass
                self.out.tell("refused", why=_line(error), opened=self._net is not None)
                return False
            self._left, self._why_idle = [], f"the build in the background ended: {_line(error)}"
        return True

    def _heard(self, event: Event) -> None:
        """Passes on what the build in the background tells, and leaves it if a reader waits."""
        self._pass_on(event)
        if event.event == "planned":
            self._begun = True
            self._of, self._done = event.numbers["of"], event.numbers["of"] - event.numbers["jobs"]
        elif event.event == "started":
            self._job = event.job, time.monotonic()
            if time.monotonic() - self._spoke > WORDS_EVERY:
                self._say("building", _words(event.of_job))
        elif event.event in ("finished", "failed"):
            self._done += 1
        elif event.event == "done":
            self._left.pop(0)
        if self.inbox.waits and self._may_leave(event):
            raise _ReaderWaitsError

    def _may_leave(self, event: Event) -> bool:
        """Whether nothing is lost that would not soon be made again."""
        if event.event == "step":
            name, began = self._job
            share = event.numbers["done"] / max(event.numbers["of"], 1)
            left = (time.monotonic() - began) * (1 - share) / share if share else LONGEST_WAIT
            if left < LONGEST_WAIT or self._given_up.get(name, 0) >= GIVEN_UP:
                return False
            self._given_up[name] = self._given_up.get(name, 0) + 1
            return True
        return event.event in ("planned", "finished")

    def _pass_on(self, event: Event) -> None:
        """Tells the server what there is now."""
        job = event.of_job
        if event.event == "updated" or event.event in ("planned", "done", "stopped"):
            self.out.tell("updated")
        elif event.event == "finished" and job is not None:
            self.out.tell("made", **_made(job))

    def _answer(self) -> None:
        """Makes what has waited longest, and what is like it."""
        asks = self.inbox.take(_alike, AT_ONCE)
        self.out.tell("begun", asks=[ask["ask"] for ask in asks])
        self._say("asked", _asked_words(asks))
        try:
            errors = self._weights(asks[0]) if asks[0]["what"] == "weights" else self._pictures(asks)
        except WeightAtlasError as error:
            errors = {ask["ask"]: _line(error) for ask in asks}
        for ask in asks:
            self.out.tell("done", ask=ask["ask"], error=errors.get(ask["ask"], ""))
        if not self._left:
            self._left = [{}] if self._of > self._done else []

    def _pictures(self, asks: list[dict[str, Any]]) -> dict[int, str]:
        """Makes pictures of one layer by one recipe; tells what became of requests without one."""
        layer, recipe, units = asks[0]["layer"], asks[0]["recipe"], sorted({ask["unit"] for ask in asks})
        told: list[int] = []

        def heard(event: Event) -> None:
            self._pass_on(event)
            if event.event == "finished" and event.of_job is not None and event.of_job.kind == "pictures":
                told.extend(event.of_job.units)

        atlas = self._build(heard, layers=[layer], units={layer: units}, recipes=[recipe], only=[recipe])
        folder = f"display.{recipe}" if recipe in VARIANTS else recipe
        rows = [p for name, p in atlas.layer(layer)["pictures"].items() if name.partition("@")[0] == folder]
        there = {u for row in rows for u in numbers_in(row["made"])}
        if again := [u for u in units if u in there and u not in told]:
            self.out.tell("made", what="picture", layer=layer, units=again, recipe=recipe)
        return {ask["ask"]: _why(atlas, layer, ask["unit"], recipe) for ask in asks if ask["unit"] not in there}

    def _weights(self, ask: dict[str, Any]) -> dict[int, str]:
        """Makes the weights between two layers; tells why, if that came to nothing."""
        source, target = ask["source"], ask["target"]
        size, budget = kept_bytes(self.net, source, target), self._budget()
        if size > budget:
            words = (
                f"the weights from {source!r} to {target!r} would take {size:,} bytes, and the budget of this atlas is "
                f"{budget:,}; weightatlas build --pair {source},{target} makes them"
            )
            return {ask["ask"]: words}
        atlas = self._build(self._pass_on, layers=[], recipes=[], pairs=[(source, target)], only=["weights"])
        if any((p["source"], p["target"]) == (source, target) and p["made"] for p in atlas.manifest["pairs"]):
            self.out.tell("made", what="weights", source=source, target=target)
            return {}
        failed = [f["error"] for f in atlas.manifest["failures"] if f["job"] == f"weights {target} ← {source}"]
        return {ask["ask"]: next(iter(failed), "nothing came of it")}

    def _build(self, heard: Any, **asked: Any) -> Atlas:
        """A build of just what is asked, picture by picture."""
        return build(
            self.net, self.path, stop=self.inbox.ended, progress=heard, batch=1, budget=self._budget(), **asked
        )

    def _budget(self) -> int:
        """What was given to the weights so far."""
        files = open_files(self.path)
        if not files.exists(MANIFEST):
            return BUDGET
        return max((r.get("budget", 0) for r in Atlas(files).manifest["requests"]), default=BUDGET)


class _Waits(threading.Event):
    """An event that is set while a reader waits, and when the end is asked for."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self.inbox = inbox

    def is_set(self) -> bool:
        """Whether a build in the background is to stop."""
        return self.inbox.ended.is_set() or self.inbox.waits


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two requests can be done in one go."""
    if one["what"] == "weights":
        return one is other
    return all(one[key] == other.get(key) for key in ("what", "layer", "recipe"))


def _made(job: Job) -> dict[str, Any]:
    """What a finished job has made, in the words in which it is asked for."""
    if job.kind == "pictures":
        style, _, variant = job.recipe.partition(".")
        recipe = variant if variant and style == "display" else job.recipe
        folder = job.makes[0].split("/")[-2] if job.makes else ""
        return {"what": "picture", "layer": job.layer, "units": list(job.units), "recipe": recipe, "folder": folder}
    where = {"source": job.source, "target": job.layer} if job.source else {"layer": job.layer} if job.layer else {}
    return {"what": job.kind, **where, **({"middle": job.middle} if job.middle else {})}


def _words(job: Job | None) -> str:
    """What a job does, for a line on a page."""
    if job is None:
        return ""
    if job.kind == "pictures":
        return f"{job.recipe} pictures of {job.layer}"
    if job.source:
        return f"{job.kind} from {job.source} to {job.layer}"
    return f"{job.kind} of {job.layer}" if job.layer else job.kind


def _asked_words(asks: list[dict[str, Any]]) -> str:
    first = asks[0]
    if first["what"] == "weights":
        return f"weights from {first['source']} to {first['target']}"
    return f"{first['recipe']} picture of {first['layer']}:{', '.join(str(ask['unit']) for ask in asks)}"


def _why(atlas: Atlas, layer: str, unit: int, recipe: str) -> str:
    """Why there is no picture of a unit after all."""
    for failure in atlas.manifest["failures"]:
        if failure["job"].startswith(f"pictures {layer} ") and unit in failure["units"]:
            return failure["error"]
    notes = " ".join(atlas.manifest["notes"])
    return f"there are no {recipe} pictures of {layer!r}" + (f": {notes}" if notes else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
