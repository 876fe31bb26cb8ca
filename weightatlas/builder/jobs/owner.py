"""The one process that owns an atlas while it is built: its identity, its overview, its lock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, GraphError, StoreError
from ...graph import layer_graph
from ...lens import Photos
from ...network import Network, package_version
from ...store import Files, Listing, LocalFiles, Overview, Wanted, layout, pairs
from ...store.files import LOCK
from ...store.manifest import IDENTITY, checked_identity, migrated
from ...store.sealing import document, parsed
from .context import Settings
from .job import Failure, Outcome
from .matching import check_network, check_settings
from .naming import public_origin
from .request import Request
from .running import PROBE

FORMAT = "weightatlas"
#: Gates that are read from measured statistics, where there are any.
READ_FROM_STATISTICS = ("expected", "measured")


@dataclass
class Owner:
    """An atlas that is being built.

    Args:
        net: whose atlas it is.
        files: of the atlas.
        identity: the content of ``model.json``.
        requests: everything that was asked of it so far.
        images: how the images are known on which it was measured, or ``None``.
        made_with: versions that took part.
        failures: what could not be made, by job.
    """

    net: Network
    files: Files
    identity: dict[str, Any]
    requests: list[Request] = field(default_factory=list)
    images: dict[str, Any] | None = None
    made_with: list[dict[str, str]] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    overview: Overview | None = None

    @property
    def settings(self) -> Settings:
        """What holds for every job."""
        i = self.identity
        return Settings(i["model"]["weights_hash"], i["gates"]["rule"], i["seed"], i["gates"]["measured"])

    def record(self, request: Request | None, device: Any) -> None:
        """Notes what is asked now, and what with.

        Readers of an atlas ask for single pictures: of these nothing is noted that is asked for already, and others
        become one request, so that a thousand readers do not leave a thousand of them.
        """
        if request is not None and request not in self.requests:
            self._note(request)
        used = {"weightatlas": package_version(), "torch": version("torch"), "device": str(device or "cpu")}
        if used not in self.made_with:
            self.made_with.append(used)

    def _note(self, request: Request) -> None:
        if request.is_single and any(known.covers(request) for known in self.requests):
            return
        for place, known in enumerate(self.requests):
            joined = known.joined(request)
            if joined is not None:
                self.requests[place] = joined
                return
        self.requests.append(request)

    def others(self, photos: Photos | None) -> StoreError | None:
        """The error for other images than those the atlas was measured on, with both hashes; ``None`` for the same."""
        if photos is None or self.images in (None, photos.to_dict()):
            return None
        before, known = self.images, photos.to_dict()
        return StoreError(
            f"this atlas was measured on {before.get('count')} images ({str(before.get('hash'))[:12]} …), now "
            f"{known['count']} others came in ({known['hash'][:12]} …). Give the same images, or measure "
            "everything again that was: force=True and only=['agreement', 'examples'], for all layers (--force --only "
            "agreement,examples); gates stay as they are. With force=True alone, gates and weights are made anew, too"
        )

    def finished(self, outcome: Outcome) -> None:
        """Notes what became of a job."""
        self.failures.pop(outcome.job, None)
        if outcome.failures:
            units = tuple(u for f in outcome.failures for u in f.units)
            first = outcome.failures[0]
            self.failures[outcome.job] = Failure(outcome.job, first.error, units, first.attempts)

    def keep(self, wanted: Wanted, notes: tuple[str, ...]) -> None:
        """Notes what there is to be."""
        self.notes = notes
        self.overview = Overview(self.files, self.identity, wanted, {})

    def update(self, listing: Listing, walls: bool = True) -> dict[str, Any]:
        """Writes the overview anew from what exists."""
        if self.overview is None:
            raise StoreError("an overview needs to know what is wanted")
        self.files.require()
        self.overview.state = {
            "made_with": self.made_with,
            "images": self.images,
            "requests": [r.to_dict() for r in self.requests],
            "notes": list(self.notes),
            "failures": [asdict(self.failures[name]) for name in sorted(self.failures)],
        }
        return self.overview.update(listing, walls)

    def write_tables(self, listing: Listing) -> None:
        """The table of layers and the graph, once."""
        table = json.loads(self.net.layers.to_json())
        if layout.LAYERS not in listing:
            self._put(layout.LAYERS, table, listing)
        if layout.GRAPH not in listing:
            try:
                graph = json.loads(layer_graph(self.net).to_json())
            except GraphError as error:
                graph = {"model": self.net.name, "notes": [str(error)], "nodes": [], "edges": []}
            self._put(layout.GRAPH, graph, listing)
        mark = f"{layout.STATISTICS}/zarr.json"
        if self.settings.measured and self.net.measured is not None and mark not in listing:
            for path, data in pairs.record_group(self.net.measured).items():
                self.files.write(f"{layout.STATISTICS}/{path}", data)
                listing.sizes[f"{layout.STATISTICS}/{path}"] = len(data)

    def _put(self, path: str, content: dict[str, Any], listing: Listing) -> None:
        data = document(content)
        self.files.write(path, data)
        listing.sizes[path] = len(data)


def found(net: Network, files: Files, asked: dict[str, Any], measured: bool) -> Owner:
    """An atlas as it lies there, or as it would be begun; nothing is written or held.

    Raises:
        StoreError: if it is of another network, or too new.
    """
    if files.exists(layout.MODEL) or files.exists(layout.MANIFEST):
        owner = _found(net, files)
        check_settings(owner.identity, asked)
        return owner
    return Owner(net, files, _identity(net, asked, measured))


@contextlib.contextmanager
def owning(net: Network, files: Files, asked: dict[str, Any], measured: bool) -> Iterator[Owner]:
    """An atlas, begun or found, and held against other builds until the end.

    Args:
        net: whose atlas it is.
        files: of the atlas.
        asked: ``seed`` and ``gate`` as they were given, ``None`` where they were not.
        measured: whether a new atlas takes its gates from measured statistics.

    Raises:
        StoreError: if it cannot be written, is of another network, is held by another build, or too new.
    """
    net.require_module("an atlas")
    with _held(files):
        files.write(PROBE, b"{}")  # a folder that cannot be written says so here
        files.remove(PROBE)
        files.sweep(layout.is_unfinished)
        owner = found(net, files, asked, measured)
        data = document(owner.identity, indent=1)
        if files.read_if_there(layout.MODEL) != data:  # new, or of an older schema
            files.write(layout.MODEL, data)
        files.marker = layout.MODEL
        yield owner


def _identity(net: Network, asked: dict[str, Any], measured: bool) -> dict[str, Any]:
    module, spec = net.require_module("an atlas")
    rule = asked["gate"] if asked["gate"] is not None else "expected"
    if rule == "measured" and not measured:
        raise ArgumentError("gate='measured' needs statistics: give images=, or run wa.measure(net, images) before")
    origin = public_origin(net)
    return {
        "format": FORMAT,
        "schema": layout.SCHEMA,
        "model": {
            "name": net.name,
            "type": type(module).__name__,
            "weights_hash": net.weights_hash,
            "parameters": net.parameters,
            "notes": list(net.notes),
            **({} if origin is None else {"origin": origin}),
        },
        "input": json.loads(json.dumps(asdict(spec))),
        "seed": asked["seed"] if asked["seed"] is not None else 0,
        "gates": {"rule": rule, "measured": measured and rule in READ_FROM_STATISTICS},
    }


def _found(net: Network, files: Files) -> Owner:
    """The atlas as it lies there, checked against the network."""
    manifest = _manifest(files)
    data = files.read_if_there(layout.MODEL)
    if data is None:  # only the overview is left, which holds the same
        identity = {k: manifest[k] for k in ("format", "schema", *IDENTITY)}
    else:
        identity = migrated(parsed(data, layout.MODEL), files.where)
    check_network(net, files, checked_identity(identity, files.where), manifest.get("made_with", []))
    return Owner(
        net,
        files,
        identity,
        requests=[Request.from_dict(r) for r in manifest.get("requests", [])],
        images=manifest.get("images"),
        made_with=list(manifest.get("made_with", [])),
        failures={f["job"]: Failure(f["job"], f["error"], tuple(f["units"]), f["attempts"])
                  for f in manifest.get("failures", [])},
    )  # fmt: skip


def _manifest(files: Files) -> dict[str, Any]:
    data = files.read_if_there(layout.MANIFEST)
    return {} if data is None else migrated(parsed(data, layout.MANIFEST), files.where)


@contextlib.contextmanager
def _held(files: Files) -> Iterator[None]:
    """Keeps other builds out of a local folder; elsewhere two builds only do the same work twice.

    Raises:
        StoreError: if another one is at work.
    """
    if not isinstance(files, LocalFiles):
        yield
        return
    from filelock import FileLock, Timeout

    if files.root.exists() and not files.root.is_dir():
        raise StoreError(f"{files.where!r} is a file; an atlas needs a folder")
    try:
        files.root.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise StoreError(f"could not make the folder {files.where!r}: {error}") from error
    lock = FileLock(Path(files.root) / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StoreError(
            f"another build is at work in {files.where!r}. Wait for it or stop it; nothing that it has made is lost"
        ) from error
    except NotImplementedError:  # a file system without locks
        yield
        return
    except OSError as error:
        raise StoreError(f"could not write {str(lock.lock_file)!r}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
