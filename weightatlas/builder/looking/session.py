"""One run of the process that looks at readers' images."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...errors import ArgumentError, LoadError, StoreError, UnknownNameError, WeightAtlasError
from ...lens import activations, box
from ...lens.reading import image_mode, picture_from, picture_notes
from ...models import InputSpec
from ...network import Network, from_input, load, spare_threads, use_threads
from ...records import Activations, Layer
from ..explaining import step
from ..jobs.exemplifying import watched as is_watched
from ..live.pipes import Inbox, Outbox
from ..walking import maker, source_layer
from .kept import Images, Seen
from .telling import map_of, number, picture_of, step_of

TOKEN = 20  # hexadecimal digits
#: Units that are listed of a layer, and of the last one with the image itself.
LISTED, CLASSES = 24, 5
SOURCES = 6
#: Seconds that an integral may take; the server waits a little longer.
LONGEST = 90.0
BAD, GONE, UNKNOWN, UNFIT, BROKEN = 400, 410, 404, 422, 500
MOST_WORDS = 300  # characters
LOST = "this image is not in memory any more; drop it again"


class _GoneError(WeightAtlasError):
    """An image is not there."""


class _LeftError(WeightAtlasError):
    """Nobody waits for an answer any more, or it would take too long."""


class Session:
    """Looks at images until its input ends.

    Args:
        order: ``model`` and ``weights``, as :func:`weightatlas.load` takes them; ``hash`` of the weights and ``input``
            in the atlas; ``pixels`` that an image may have.
        inbox, out: from and to the server.
    """

    def __init__(self, order: dict[str, Any], inbox: Inbox, out: Outbox) -> None:
        self.order, self.inbox, self.out = order, inbox, out
        self.images = Images()
        self._asked, self._began = 0, 0.0
        self._net: Network | None = None
        self._answers: dict[str, Callable[[Seen, dict[str, Any]], Any]] = {
            "image": self._image, "layer": self._layer, "unit": self._unit, "explain": self._explain,
        }  # fmt: skip

    @property
    def net(self) -> Network:
        """The network, opened."""
        if self._net is None:
            self._net = opened(self.order)
        return self._net

    def run(self) -> None:
        """Opens the network and answers."""
        use_threads(spare_threads())
        try:
            self.mode = image_mode(self.net)
            self.layers = watched(self.net)
        except WeightAtlasError as error:
            self.out.tell("refused", why=_line(error))
            return
        self.out.tell("ready")
        while (ask := self.inbox.first()) is not None and not self.inbox.ended.is_set():
            if "ask" in ask:  # else somebody left who had been answered already
                self.answer(ask)

    def answer(self, ask: dict[str, Any]) -> None:
        """Answers one question, whatever comes of it."""
        asked = self._asked = ask.pop("ask")
        self._began = time.monotonic()
        try:
            self.out.tell("answer", ask=asked, content=self._content(ask))
        except WeightAtlasError as error:
            self.out.tell("answer", ask=asked, error=_line(error), status=_status(error))
        except (RuntimeError, MemoryError) as error:  # torch where memory ends, or a module of somebody's own
            words = f"{type(error).__name__}: {_line(error)[:MOST_WORDS]}"
            self.out.tell("answer", ask=asked, error=words, status=BROKEN)

    def _content(self, ask: dict[str, Any]) -> str:
        """The answer to a question as JSON; what was asked before is answered as before.

        Raises:
            WeightAtlasError: if there is none.
        """
        if ask["what"] == "look":
            return json.dumps(self._image(self.looked_at(base64.b64decode(ask["data"])), ask))
        seen, name = self.images.get(ask["image"]), json.dumps(ask, sort_keys=True)
        if seen is None and ask["what"] == "image":
            return json.dumps({"image": None, "why": LOST})
        if seen is None:
            raise _GoneError(LOST)
        found = seen.answers.get(name)
        if found is None:
            found = json.dumps(self._answers[ask["what"]](seen, ask))
            seen.answers.put(name, found, len(found))
        return found

    def looked_at(self, data: bytes) -> Seen:
        """The image of a file, kept.

        Raises:
            LoadError: if it cannot be read, saying why.
        """
        token = hashlib.sha256(data).hexdigest()[:TOKEN]
        seen = self.images.get(token)
        if seen is None:
            picture = picture_from(data, self.mode, self.order["pixels"])
            inputs = self.net.preprocess([picture])
            pixels = from_input(inputs, self.net.require_module("looking at images")[1])[0]
            seen = Seen(token, inputs, pixels, (picture.shape[0], picture.shape[1]), picture_notes(data))
            self.images.put(seen)
        return seen

    def maps(self, seen: Seen, layer: str) -> Activations:
        """The activations of a layer on an image.

        Raises:
            UnknownNameError: for a layer that does not exist.
            ArgumentError: for one whose units cannot be told apart.
        """
        found = seen.maps.get(layer)
        if found is None:
            found = activations(self.net, seen.inputs, layer)
            seen.maps.put(layer, found, found[layer].nbytes)
        return found

    def _image(self, seen: Seen, ask: dict[str, Any]) -> dict[str, Any]:
        """What the network saw, and what it said."""
        last = self.layers[-1]
        top = self.maps(seen, last.name).top_units(last.name, CLASSES)
        return {
            "image": seen.token, "picture": picture_of(seen.pixels), "size": list(seen.pixels.shape[:2]),
            "file": list(seen.size), "notes": list(seen.notes),
            "layers": [[row.name, row.units, *(row.grid or (1, 1)), row.type, centres(row)] for row in self.layers],
            "last": {"layer": last.name, "top": _listed(top)},
        }  # fmt: skip

    def _layer(self, seen: Seen, ask: dict[str, Any]) -> dict[str, Any]:
        """The units of a layer that are most active, anywhere or at a position, and how strong the whole layer is."""
        found, at = self.maps(seen, ask["layer"]), ask.get("at")
        top = found.top_units(ask["layer"], LISTED, at=None if at is None else (at[0], at[1]))
        strength = np.sqrt(np.square(found[ask["layer"]][0], dtype=np.float64).sum(axis=0))
        return {"layer": ask["layer"], "at": at, "top": _listed(top), "strength": map_of(strength)}

    def _unit(self, seen: Seen, ask: dict[str, Any]) -> dict[str, Any]:
        """One unit's activations, and what of the image it sees where they are largest."""
        values = self.maps(seen, ask["layer"]).unit(ask["layer"], ask["unit"])[0]
        finite = np.where(np.isfinite(values), values, -np.inf)
        y, x = divmod(int(finite.argmax()), values.shape[1])
        where = box(self.net.layers[ask["layer"]], (y, x), seen.pixels.shape[:2])
        return {
            "layer": ask["layer"], "unit": ask["unit"], "map": map_of(values), "most": number(float(values[y, x])),
            "at": [y, x], "box": list(where), "active": number(float((values > 0).mean())),
        }  # fmt: skip

    def _go_on(self) -> None:
        """Ends an integral that nobody waits for, or that would take so long that the server gives this process up."""
        if self.inbox.ended.is_set() or self.inbox.holds({"left": self._asked}):
            raise _LeftError("nobody waits for this answer any more")
        if time.monotonic() - self._began > LONGEST:
            raise _LeftError(
                f"this would take more than {LONGEST:.0f} seconds here; choose another method, or let weightatlas "
                "explain take its time on the command line"
            )

    def _explain(self, seen: Seen, ask: dict[str, Any]) -> dict[str, Any]:
        """One step of an explanation, and the layer that made its sources, in which these can be explained in turn."""
        at = ask.get("at")
        made = step(
            self.net, seen.inputs, f"{ask['layer']}:{ask['unit']}", at=None if at is None else (at[0], at[1]),
            source=ask.get("source"), method=ask.get("method", "auto"), k=ask.get("k", SOURCES), last=True,
            progress=self._go_on,
        )  # fmt: skip
        source, _, ended = source_layer(self.net, made.attributions)
        further = "" if source is None else maker(self.net, source).name
        return {**step_of(made), "further": further, "ended": ended}


def opened(order: dict[str, Any]) -> Network:
    """The network of an atlas.

    Raises:
        WeightAtlasError: if it cannot be opened by its name, or what is opened is another one.
    """
    net = load(order["model"], weights=order.get("weights"))
    spec = as_json(net.require_module("looking at images")[1])
    if net.weights_hash != order["hash"]:
        raise StoreError(
            f"this atlas is of {net.name} with the weights {order['hash'][:12]} …, and those that are installed here "
            f"are {net.weights_hash[:12]} …"
        )
    if spec != order["input"]:
        raise StoreError(f"this atlas was made for another input of {net.name}: {order['input']}, not {spec}")
    return net


def as_json(spec: InputSpec) -> dict[str, Any]:
    """What a network takes in, as an atlas has it."""
    return json.loads(json.dumps(asdict(spec)))


def watched(net: Network) -> list[Layer]:
    """Layers whose units can be told apart, in order.

    Raises:
        ArgumentError: if there is none.
    """
    found = [layer for layer in net.layers.values() if is_watched(layer)]
    if not found:
        raise ArgumentError(f"{net.name} has no layer whose units can be told apart")
    return found


def centres(layer: Layer) -> list[float] | None:
    """(y, x, dy, dx) in pixels: what position (0, 0) sees is centred at (y, x), its neighbours' dy and dx further."""
    field = layer.receptive_field
    return None if field is None else [*field.centre(), *field.stride]


def _listed(top: Sequence[tuple[int, float, tuple[int, int]]]) -> list[list[Any]]:
    return [[unit, number(value), *place] for unit, value, place in top]


def _status(error: WeightAtlasError) -> int:
    kinds = {_GoneError: GONE, UnknownNameError: UNKNOWN, LoadError: UNFIT, ArgumentError: BAD}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), UNFIT)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
