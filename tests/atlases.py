"""A small network with everything an atlas knows of, and a process that builds its atlas and can be killed."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import weightatlas as wa
from weightatlas.builder.jobs.request import requested
from weightatlas.store.files import LOCK

SIDE = 20
UNITS = 6


class Block(nn.Module):
    """A residual block with an activation between two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU()
        self.project = nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x):
        return x + self.project(self.act(self.norm(self.expand(x))))


class Small(nn.Module):
    """A stem, two residual blocks, a layer with stride, a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, UNITS, 3, padding=1)
        self.act = nn.ReLU()
        self.blocks = nn.Sequential(Block(UNITS), Block(UNITS))
        self.down = nn.Conv2d(UNITS, 7, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = self.down(self.blocks(self.act(self.stem(x))))
        return self.head(self.pool(x).flatten(1))


LAYERS = ["stem", "blocks.0", "blocks.1", "down", "head"]
QUICK = wa.Recipe(name="tiny", side=16, steps=2, jitter=2)
FULL = wa.Recipe(name="small", side=16, steps=4, jitter=2)


def small(seed: int = 0) -> wa.Network:
    """The network, trained by nobody; its norms are those of a trained one, so that gates differ by channel."""
    torch.manual_seed(seed)
    module = Small().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(values, 0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return wa.load(module, input=wa.InputSpec(shape=(3, SIDE, SIDE), mean=0.5, std=0.5))


@functools.cache
def opened() -> wa.Network:
    """The network, opened and captured once; for tests that change nothing about it."""
    return small()


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def options() -> dict:
    """A build with every kind of job."""
    recipes = [QUICK, FULL, f"{recipe_name(QUICK)}.positions"]
    return {"images": images(), "recipes": recipes, "batch": 3, "units": range(4)}


def few() -> dict:
    """A build with every kind of job, few pictures, and two batches of images."""
    return {"images": images(2), "recipes": [QUICK, f"{recipe_name(QUICK)}.positions"], "batch": 1, "units": range(2)}


@functools.cache
def recipe_name(recipe: wa.Recipe) -> str:
    """What a recipe of one's own is called in an atlas."""
    return requested(opened(), ["stem"], recipes=[recipe]).recipes[0]


def tree(folder: str | Path) -> dict[str, bytes]:
    """Every file of an atlas but its lock."""
    folder = Path(folder)
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != LOCK
    }


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


@functools.cache
def built() -> tuple[Path, list]:
    """A whole atlas that is read and copied but never changed, and what was told while it was built."""
    folder = Path(tempfile.mkdtemp(prefix="atlas-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    told: list = []
    wa.build(opened(), folder / "atlas", progress=told.append, **options())
    return folder / "atlas", told


class Builder:
    """A process that opens the network once and forks a build of it on demand: a build that can be killed, cheaply.

    Args:
        what: "options" or "few", the function here that tells what is built.
    """

    def __init__(self, what: str = "options") -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        return self._process.stdout.readline().strip()

    def start(self, folder: Path, log: Path, die_at_write: int = 0) -> int:
        """Begins a build and returns its process number.

        Args:
            folder: of the atlas.
            log: file to which a line is added for every event.
            die_at_write: the number of the write in whose middle the build kills itself; 0 for never.
        """
        order = {"folder": str(folder), "log": str(log), "die": die_at_write}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """Waits for the build and returns its exit status; negative if it was killed."""
        return int(self._read())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def _serve() -> None:
    torch.set_num_threads(1)
    import zarr  # noqa: F401  # what is imported here is imported once

    from weightatlas.builder import jobs  # noqa: F401

    net = small()
    wa.layer_graph(net)
    what = {"options": options, "few": few}[sys.argv[1]]()
    print("ready", flush=True)
    for words in sys.stdin:
        order = json.loads(words)
        child = os.fork()
        if not child:
            _build(net, order, what)
        print(child, flush=True)
        status = os.waitpid(child, 0)[1]
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def _build(net: wa.Network, order: dict, what: dict) -> None:
    """Runs a build in this process and ends it."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(event) -> None:
        os.write(log, (json.dumps(event.to_dict()) + "\n").encode())

    if order["die"]:
        _die_at(order["die"])
    status = 3
    try:
        wa.build(net, order["folder"], progress=tell, **what)
        status = 0
    except KeyboardInterrupt as stopped:
        os.write(log, (json.dumps({"event": "interrupted", "about": str(stopped)}) + "\n").encode())
        status = 130
    finally:
        os._exit(status)


def _die_at(number: int) -> None:
    """Kills this process between writing and renaming, at the given write."""
    rename, count = os.replace, 0

    def counted(*paths) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)

    os.replace = counted


if __name__ == "__main__":
    _serve()
