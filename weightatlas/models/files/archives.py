"""Looking into a zip archive before anything of it is unpacked."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...errors import LoadError
from .memory import amount

#: Members of an archive. ``torch.save`` writes one a storage; the largest networks have some ten thousand.
MOST_MEMBERS = 200_000
#: Of the unpacked size to the packed one. ``torch.save`` does not compress, and weights hardly compress at all.
MOST_EXPANSION = 50
#: Bytes that an archive may unpack to in any case.
ALWAYS = 2**26
#: The same for a pickle, which is followed step by step; ``torch.save`` stores it as it is.
PICKLE_EXPANSION, PICKLE_ALWAYS = 100, 2**22
_END, _LOCATOR, _END64, _LOCAL = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06", b"PK\x03\x04"


@dataclass(frozen=True)
class Archive:
    """A zip archive that was looked into.

    Args:
        path: where it lies.
        sizes: bytes of every member when unpacked, by its name.
    """

    path: Path
    sizes: dict[str, int]

    @property
    def prefix(self) -> str:
        """The folder that all members of PyTorch's archives lie in, with its slash, as PyTorch finds it."""
        return next(iter(self.sizes), "").partition("/")[0] + "/"

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            LoadError: if they are damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(name)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise LoadError(f"{self.path} is damaged: its member {name!r} cannot be unpacked ({error})") from error
        except MemoryError as error:
            raise LoadError(f"{self.path}: there is no memory to unpack its member {name!r}") from error
        except Exception as error:  # zlib.error, which is not always built in
            raise LoadError(f"{self.path} is damaged: its member {name!r} cannot be unpacked") from error


def look_into(path: Path) -> Archive:
    """What a zip archive holds, by its directory alone.

    Raises:
        LoadError: for one that is truncated, has members that overlap, share a name, are encrypted or compressed in
            an unusual way, or that unpacks to far more than it is.
    """
    try:
        with path.open("rb") as file:
            count = _count(path, file)
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) != count:
                    raise zipfile.BadZipFile(f"its directory lists {len(members)} members and says {count}")
                _check_places(path, file, members, archive.start_dir)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise LoadError(f"{path} is not a readable zip archive, or it is truncated ({error})") from error
    for member in members:
        _check_member(path, member)
    total = sum(m.file_size for m in members)
    size = path.stat().st_size
    if total > max(MOST_EXPANSION * size, ALWAYS):
        raise LoadError(
            f"{path} is a zip bomb: its {amount(size)} unpack to {amount(total)}; weights do not compress like that"
        )
    return Archive(path, {m.filename: m.file_size for m in members})


def _count(path: Path, file: BinaryIO) -> int:
    """The number of members; their directory must end the file, so that every reader finds the same one."""
    size = file.seek(0, 2)
    file.seek(max(size - 22 - 20, 0))
    tail = file.read()
    end = tail[-22:]
    if not end.startswith(_END) or end[20:] != b"\0\0":
        raise LoadError(
            f"{path} is not a readable zip archive: it does not end as one, so it is truncated, or something was "
            "appended. Download or save it again"
        )
    count = struct.unpack("<H", end[10:12])[0]
    if tail.startswith(_LOCATOR):
        file.seek(struct.unpack("<Q", tail[8:16])[0])
        head = file.read(56)
        if not head.startswith(_END64) or file.tell() != size - 42:
            raise LoadError(f"{path} is not a readable zip archive: its directory does not stand where it says")
        count = struct.unpack("<Q", head[32:40])[0]
    if count > MOST_MEMBERS:
        raise LoadError(f"{path} is a zip archive of {count:,} members; weights have at most {MOST_MEMBERS:,}")
    return count


def _check_places(path: Path, file: BinaryIO, members: list[zipfile.ZipInfo], directory: int) -> None:
    """Every member lies where the directory says, under the same name, and no two share a byte."""
    begin = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < begin:
            raise LoadError(f"{path} has members that overlap, first {_shown(member.filename)}; no writer does that")
        file.seek(member.header_offset)
        head = file.read(30)
        if len(head) < 30 or not head.startswith(_LOCAL):
            raise LoadError(f"{path} is damaged: {_shown(member.filename)} does not lie where its directory says")
        name, extra = struct.unpack("<HH", head[26:30])
        if file.read(name) != member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437"):
            raise LoadError(f"{path} is damaged: {_shown(member.filename)} has another name in its own header")
        begin = member.header_offset + 30 + name + extra + member.compress_size
        if begin > directory:
            raise LoadError(f"{path} is truncated or damaged: {_shown(member.filename)} reaches beyond its end")
    names = [m.filename.lower() for m in members]  # PyTorch's reader does not tell a from A
    if len(set(names)) < len(names):
        twice = next(_repeated(names))
        raise LoadError(f"{path} has two members named {_shown(twice)}; which one is meant cannot be told")


def _repeated(names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise LoadError(f"{path} is an encrypted zip archive; unpack it with its password and give the file inside")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError(
            f"{path}: {_shown(member.filename)} is compressed by method {member.compress_type}, which PyTorch does not "
            "read; unpack the archive and pack it again without compression"
        )
    size, packed = member.file_size, member.compress_size
    if member.filename.endswith(".pkl") and size > max(PICKLE_ALWAYS, PICKLE_EXPANSION * packed):
        raise LoadError(
            f"{path} is a zip bomb: its {_shown(member.filename)} unpacks from {amount(packed)} to {amount(size)}, and "
            "torch.save does not compress; save a state dict with it again"
        )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}…")
