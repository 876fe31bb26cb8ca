"""A small real atlas with every kind of file, built once for all tests of the store in a process."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import atlases
import torch

import weightatlas as wa
from weightatlas.store.files import LOCK

QUICK = atlases.recipe_name(atlases.QUICK)
POSITIONS = f"{QUICK}.positions"


def options() -> dict:
    """A build with every kind of job, and few pictures."""
    return {"images": atlases.images(2), "recipes": [atlases.QUICK, POSITIONS], "batch": 3, "units": range(2)}


@functools.cache
def network() -> wa.Network:
    return atlases.small()


@functools.cache
def original() -> Path:
    """The folder of the atlas; nobody may change it."""
    folder = Path(tempfile.mkdtemp(prefix="stored-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    build(folder / "atlas")
    return folder / "atlas"


@functools.cache
def files() -> dict[str, bytes]:
    return atlases.tree(original())


def build(folder: Path, **more) -> wa.Atlas:
    """The build of the atlas, or of what is missing of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return wa.build(network(), folder, **(options() | more))
    finally:
        torch.set_num_threads(before)


def copied(folder: Path) -> Path:
    """A copy of hard links, which is quick to make: its files are changed by :func:`put` alone, and by builds."""
    return shutil.copytree(original(), folder, copy_function=os.link, ignore=shutil.ignore_patterns(LOCK))


def put(folder: Path, path: str, data: bytes | None) -> None:
    """Another file in the place of one, or none; what it was linked to stays as it is."""
    (folder / path).unlink(missing_ok=True)
    if data is not None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
