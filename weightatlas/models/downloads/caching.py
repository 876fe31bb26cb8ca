"""The folder where published weights are kept, and the hashes that hold its files to what they were at first use."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...errors import LoadError, WeightAtlasWarning
from ...records import atomic_write

#: The environment variable that names another folder.
VARIABLE = "WEIGHTATLAS_CACHE"
#: The file of pins in that folder.
PINS = "pins.json"
LOCK = ".lock"

#: Hashes by what tells whether a file is still the same, so that each is read once in a process.
_hashes: dict[tuple[str, int, int, int], str] = {}


@dataclass(frozen=True)
class Pin:
    """What a file was at its first use.

    Args:
        sha256: of its content (hex).
        size: in bytes.
        source: the address that it came from; empty for one that somebody put there.
        since: the day of its first use, ``YYYY-MM-DD`` in UTC.
    """

    sha256: str
    size: int
    source: str
    since: str


def cache_folder() -> Path:
    """The folder where published weights are kept; it need not be there yet.

    ``WEIGHTATLAS_CACHE`` if that is set, else ``weightatlas`` in the folder that the system has for caches.

    Raises:
        LoadError: if neither can be told.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        named = Path(os.path.expanduser(chosen))
        if str(named).startswith("~"):
            raise LoadError(f"{VARIABLE}={chosen} names a home folder that there is not; give a whole path")
        return named.absolute()
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("weightatlas", appauthor=False)
        if not folder.is_absolute():  # versions differ in what they do where there is no home
            raise RuntimeError(f"{folder} is no whole path")
    except RuntimeError as error:
        raise LoadError(f"this user has no home folder to keep downloaded weights in; set {VARIABLE}=FOLDER") from error
    return folder


def make_folder(folder: Path) -> Path:
    """The folder, made if it is not there.

    Raises:
        LoadError: if that cannot be, with the way to another one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        blocked = next((p for p in (folder, *folder.parents) if os.path.lexists(p) and not p.is_dir()), None)
        why = f"{blocked} is not a folder" if blocked else error.strerror or str(error)
        raise LoadError(
            f"the folder {folder} for downloaded weights cannot be made: {why}. Set {VARIABLE}=FOLDER to keep them "
            "elsewhere, or give a file of weights: weights=FILE"
        ) from error
    return folder


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keeps other processes out of a folder; the system lets go if this one dies.

    Args:
        folder: where the lock's file lies; made if need be.
        waiting: called once if another process is in there.

    Raises:
        LoadError: if nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(make_folder(folder) / LOCK)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
    except NotImplementedError:  # a file system without locks
        yield
        return
    except OSError as error:
        raise LoadError(
            f"nothing can be written into {folder}: {error.strerror or error}. Set {VARIABLE}=FOLDER to keep "
            "downloaded weights elsewhere, or give a file of weights: weights=FILE"
        ) from error
    try:
        yield
    finally:
        lock.release()


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's content; read once in a process for as long as the file stays as it is.

    Raises:
        LoadError: if it cannot be read.
    """
    try:
        with path.open("rb") as content:
            facts = os.fstat(content.fileno())
            key = (str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino)
            if key not in _hashes:
                _hashes[key] = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
    return _hashes[key]


def read_pins() -> dict[str, Pin]:
    """The pins by the files' paths below the cache folder, ``"inceptionv1/inception5h.zip"``.

    Raises:
        LoadError: if the file that holds them is damaged: then nothing is known of what the others were.
    """
    path = cache_folder() / PINS
    try:
        content = json.loads(path.read_bytes())
        return {str(name): Pin(**facts) for name, facts in content.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(
            f"{path}, which holds the hashes of downloaded weights, is damaged ({error}). If you trust the files "
            "beside it, delete it: they are pinned anew at their next use"
        ) from error


def is_pinned(path: Path) -> bool:
    """Whether a file of the cache is held to a hash, which it then still has.

    Raises:
        LoadError: if it changed since it was pinned.
    """
    pin = read_pins().get(_key(path))
    if pin is None:
        return False
    _check_same(path, pin)
    return True


def pin_file(path: Path, source: str) -> None:
    """Holds a file of the cache to the hash that it has now, and says so on stderr.

    Where nothing can be written, as in a cache that many machines share, a warning says that it is not held.

    Args:
        path: below the cache folder.
        source: the address that it came from; empty for one that somebody put there.

    Raises:
        LoadError: if another process pinned another content meanwhile.
    """
    digest = content_hash(path)
    pin = Pin(digest, path.stat().st_size, source, datetime.now(UTC).date().isoformat())
    told = f"{path} has SHA-256 {digest}"
    try:
        with locked(cache_folder()):
            pins = read_pins()
            earlier = pins.get(_key(path))
            if earlier is not None:
                _check_same(path, earlier)
                return
            _write_pins({**pins, _key(path): pin})
    except LoadError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        warnings.warn(WeightAtlasWarning(f"{told}, which is not pinned: {error}"), stacklevel=2)
        return
    print(f"weightatlas: {told}; pinned in {PINS}, so that a changed file is refused", file=sys.stderr)


def forget_pin(name: str) -> tuple[str, ...]:
    """Lets go of the hashes that a network's cached files are held to; the next use pins them as they are then.

    Args:
        name: of a network that loads by name, ``"inceptionv1"``.

    Returns:
        The paths of the files that were pinned; they stay where they are.

    Raises:
        UnknownNameError: for a network that does not load by name.
        LoadError: if the pins cannot be read or written.
    """
    from ...errors import unknown_name
    from .. import FAMILIES

    if name not in FAMILIES:
        raise unknown_name("model", name, FAMILIES)
    mine = [key for key in read_pins() if key.startswith(f"{name}/")]
    if not mine:
        return ()
    with locked(cache_folder()):
        _write_pins({key: pin for key, pin in read_pins().items() if key not in mine})
    return tuple(str(cache_folder() / key) for key in mine)


def _write_pins(pins: dict[str, Pin]) -> None:
    content = {key: dataclasses.asdict(pin) for key, pin in sorted(pins.items())}
    atomic_write(cache_folder() / PINS, json.dumps(content, indent=1).encode() + b"\n")


def _key(path: Path) -> str:
    return path.relative_to(cache_folder()).as_posix()


def _check_same(path: Path, pin: Pin) -> None:
    digest = content_hash(path)
    if digest != pin.sha256:
        name = _key(path).partition("/")[0]
        raise LoadError(
            f"{path} is not the file that it was at its first use on {pin.since}: its SHA-256 was {pin.sha256} and is "
            f"{digest}. Delete the file to have it downloaded again; if the change is meant, let go of the old hash: "
            f"weightatlas models --forget {name}"
        )
