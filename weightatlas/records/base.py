"""What all records share: provenance, saving, loading and showing themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import html
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import ArgumentError, LoadError

SCHEMA = 1
_META = "record"
SHORT = 32  # characters
_TEMPORARY = re.compile(rf"\..{{0,{SHORT}}}\.[0-9a-f]{{16}}", re.S)

#: Draws a record for a notebook; the package sets it, so that records need not know how pictures are made.
display_hook: Callable[[Record], str] | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    Args:
        model: the network's name.
        weights_hash: SHA-256 (hex) over names, types, shapes and bytes of all its weights; empty if there are none.
        package_version: of weightatlas.
        notes: everything that was assumed, left out or replaced on the way, one sentence each.
        file: the name and SHA-256 (hex) of the file that the weights were read from, ``"NAME sha256:HEX"``; empty
            where they come from a module, or from more than one file.
    """

    model: str = ""
    weights_hash: str = ""
    package_version: str = ""
    notes: tuple[str, ...] = ()
    file: str = ""

    def noting(self, *notes: str) -> Provenance:
        """The same provenance with more notes."""
        return dataclasses.replace(self, notes=self.notes + notes)


def atomic_write(path: str | Path, data: bytes) -> Path:
    """Writes a file so that it is either the old one or the new one, whatever happens in between.

    Args:
        path: where to; missing folders are made.
        data: the whole content.

    Returns:
        The path.

    Raises:
        LoadError: if it cannot be written (no permission, disk full); an older file stays as it was.
    """
    path = Path(path)
    # short, so that a name as long as the system allows still has room for what is added
    temporary = path.with_name(f".{path.name[:SHORT]}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask, as any file
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # an interrupt, too, leaves nothing behind
            with contextlib.suppress(OSError, ValueError):
                os.unlink(temporary)
            raise
    except (OSError, ValueError) as error:  # a path with a NUL character is a ValueError
        why = getattr(error, "strerror", None) or error
        raise LoadError(f"could not write {str(path)!r}: {why}; nothing there was changed") from error
    return path


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of one which :func:`atomic_write` had not finished.

    Example:
        >>> is_temporary(".atlas.json.0123456789abcdef"), is_temporary("atlas.json")
        (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def check_writable(path: str | Path) -> None:
    """Tries whether :func:`atomic_write` could write there, before hours are spent on what is to be written.

    Raises:
        LoadError: if it could not.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISDIR(os.stat(path).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe = Path(path).with_name(f".{secrets.token_hex(8)}")
        atomic_write(probe, b"").unlink()
    except (LoadError, OSError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, LoadError) else error
        why = getattr(cause, "strerror", None) or cause
        raise LoadError(f"could not write {str(path)!r}: {why}; nothing there was changed") from error


@dataclass(frozen=True, repr=False, eq=False)
class Record:
    """A frozen result with named axes and provenance; arrays are numpy, nothing in it refers to a network."""

    #: Fields that hold nested records, as field -> function that rebuilds them from JSON.
    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def save(self, path: str | Path) -> Path:
        """Writes the record to one file that :meth:`load` reads back, whole or not at all.

        Args:
            path: ends in ``.npz`` (numpy) or ``.safetensors``.

        Returns:
            The path.

        Raises:
            ArgumentError: for another ending.
            LoadError: if the file cannot be written.
        """
        arrays, meta = self._split()
        return atomic_write(path, _codec(Path(path))[0](arrays, json.dumps(meta)))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The record that :meth:`save` wrote.

        Raises:
            LoadError: if the file is missing, damaged, of a newer schema, or holds another kind of record.
        """
        path = Path(path)
        decode = _codec(path)[1]
        try:
            arrays, text = decode(path)
            meta = json.loads(text)
            if not isinstance(meta, dict):
                raise TypeError("its description is no object")
        except FileNotFoundError as error:
            raise LoadError(f"there is no file {path}") from error
        except Exception as error:  # decoders raise many kinds; all mean the same to the caller
            raise LoadError(f"{path} is not a record that weightatlas wrote, or it is damaged: {error}") from error
        kind, schema = meta.get("kind"), meta.get("schema")
        if kind != cls.__name__:
            hint = f"; use {kind}.load" if kind in {sub.__name__ for sub in Record.__subclasses__()} else ""
            raise LoadError(f"{path} holds {kind or 'something else'}, not {cls.__name__}{hint}")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise LoadError(f"{path} was written by a newer weightatlas (schema {schema}); please upgrade")
        try:
            return cls._join(arrays, meta["fields"])
        except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise LoadError(f"{path} is no complete {cls.__name__}: {error}") from error

    @classmethod
    def writable(cls, path: str | Path) -> Path:
        """The path, if :meth:`save` could write there: asked before long work.

        Raises:
            ArgumentError: for an ending that is none of a record.
            LoadError: if nothing can be written there.
        """
        _codec(Path(path))
        check_writable(path)
        return Path(path)

    def _split(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays, and everything else as JSON-ready data."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        plain = {k: _plain(v) for k, v in values.items() if k not in arrays}
        return arrays, {"kind": type(self).__name__, "schema": SCHEMA, "fields": plain}

    @classmethod
    def _join(cls, arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> Self:
        values: dict[str, Any] = dict(arrays)
        for name, value in fields.items():
            build = provenance_from if name == "provenance" else cls._nested.get(name, _tuples)
            values[name] = build(value)
        return cls(**values)

    def _repr_html_(self) -> str:
        """How a notebook shows the record."""
        return display_hook(self) if display_hook else f"<pre>{html.escape(repr(self))}</pre>"


def provenance_from(value: dict[str, Any]) -> Provenance:
    """A :class:`Provenance` rebuilt from its JSON form."""
    return Provenance(**{k: _tuples(v) for k, v in value.items()})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _to_npz(arrays: dict[str, np.ndarray], text: str) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **{_META: np.array(text)}, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _from_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    if not zipfile.is_zipfile(path):
        path.stat()  # a missing file is said to be missing
        raise ValueError("not a zip archive")
    with np.load(path, allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    return arrays, str(arrays.pop(_META))


def _to_safetensors(arrays: dict[str, np.ndarray], text: str) -> bytes:
    from safetensors.numpy import save

    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata={_META: text})


def _from_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, (file.metadata() or {})[_META]  # noqa: SIM118


_CODECS = {".npz": (_to_npz, _from_npz), ".safetensors": (_to_safetensors, _from_safetensors)}


def _codec(path: Path) -> tuple[Callable[..., bytes], Callable[..., tuple[dict[str, np.ndarray], str]]]:
    if path.suffix not in _CODECS:
        raise ArgumentError(f"{path.name!r}: records are files ending in {' or '.join(_CODECS)}")
    return _CODECS[path.suffix]
