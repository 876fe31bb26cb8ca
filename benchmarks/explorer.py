"""The explorer: how soon a page is there, how fast one goes on, whether walls scroll, and how many can read at once.

    .venv/bin/python benchmarks/explorer.py [pages wall readers asks] [--repeats 5]

**pages**: an atlas of 10,000 units (20 layers of 500), served by `weightatlas open --no-build`: from the address to the
first words and to the first picture of a unit's page, and from one unit to the next by a key, until it is drawn.
**wall**: frames while a wall of 10,000 units in one layer scrolls, at 1,200, 7,200 and 54,000 pixels a second.
**readers**: 100 readers at once, each a connection that is kept, over files of units' pages; against Starlette's
`StaticFiles` under the same uvicorn on the same folder in the same run, A B B A.

**asks**: `weightatlas open efficientnet_lite0` in an empty folder: until the address is there, and from asking for a
quick picture to the event that it is there, while the atlas is built; against the same call of the library alone.

Pages and wall need Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atlas import WIDTH, large, timed  # the script beside this one

READERS, REQUESTS = 100, 60
FRAMES = 240
OPEN = [sys.executable, "-c", "from weightatlas.cli import app; app()", "open"]
PEER = """
import socket, sys, uvicorn
from starlette.staticfiles import StaticFiles
taken = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(f"http://127.0.0.1:{taken.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(StaticFiles(directory=sys.argv[1]), log_level="error")).run([taken])
"""

#: Milliseconds from a key until the next unit is drawn.
NEXT = """() => new Promise((done) => {
  const before = document.querySelector('h1').textContent, start = performance.now();
  const look = () => document.querySelector('h1').textContent === before ? requestAnimationFrame(look)
    : requestAnimationFrame(() => done(performance.now() - start));
  document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'j', bubbles: true}));
  look();
})"""
#: Milliseconds of each frame while the page scrolls by so many pixels in each.
SCROLL = """([step, frames]) => new Promise((done) => {
  const times = []; let last = 0;
  const tick = (now) => {
    if (last) times.push(now - last);
    last = now;
    scrollBy(0, step);
    times.length < frames ? requestAnimationFrame(tick) : done(times);
  };
  requestAnimationFrame(tick);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts or PARTS:
            PARTS[part](Path(folder), options.repeats)


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[str]:
    """The address that a server prints, while it runs."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout or ():
            match = re.search(r"http://127\.0\.0\.1:\d+", line)
            if match:
                yield match[0]
                break
        else:
            raise RuntimeError(f"{command} gave no address")
    finally:
        process.terminate()
        process.wait()


def served(place: Path) -> Any:
    return running([*OPEN, str(place), "--no-build", "--no-browser", "--port", "0"])


def many(folder: Path) -> Path:
    """The atlas of 10,000 units, made once."""
    place = folder / "many"
    return place if place.exists() else large(place)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next(p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name)))
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def pages(folder: Path, repeats: int) -> None:
    place = many(folder)
    with served(place) as origin, browser() as opened:
        words, picture, steps = [], [], []
        for n in range(repeats):
            page = opened.new_context(viewport={"width": 1280, "height": 900}).new_page()
            start = time.perf_counter()
            page.goto(f"{origin}/?unit=10:{n * 7}", wait_until="commit")
            page.wait_for_selector("main h1")
            words.append(time.perf_counter() - start)
            page.wait_for_function("() => document.querySelector('.tile img')?.complete")
            picture.append(time.perf_counter() - start)
            page.wait_for_timeout(500)
            for _ in range(8):
                steps.append(page.evaluate(NEXT))
                page.wait_for_timeout(100)
            page.context.close()
    first, seen = statistics.median(words), statistics.median(picture)
    print(f"first words of a unit's page {first:.2f} s, first picture {seen:.2f} s (goal < 1 s), nothing cached")
    most = sorted(steps)[int(len(steps) * 0.95)]
    print(
        f"from a unit to the next: median {statistics.median(steps):.0f} ms, 95 % within {most:.0f} ms (goal < 100 ms)"
    )


def wall(folder: Path, repeats: int) -> None:
    place = wide(folder / "wide")
    with served(place) as origin, browser() as opened:
        page = opened.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{origin}/?layer=1")
        page.wait_for_selector(".wall a")
        page.wait_for_timeout(1500)
        for step in (20, 120, 900):
            frames: list[float] = []
            for _ in range(repeats):
                page.evaluate("scrollTo(0, 0)")
                page.wait_for_timeout(300)
                frames += page.evaluate(SCROLL, [step, FRAMES])
            frames.sort()
            long = sum(f > 25 for f in frames)
            middle, most = statistics.median(frames), frames[int(len(frames) * 0.99)]
            print(
                f"wall of 10,000 units, {step * 60} pixels a second: frames of {middle:.1f} ms, "
                f"99 % within {most:.1f} ms, {long} of {len(frames)} longer than 25 ms"
            )


def wide(place: Path) -> Path:
    """An atlas of one layer of 10,000 units, each with a picture of noise."""
    import numpy as np
    from torch import nn

    import weightatlas as wa
    from weightatlas.store import layout, pictures

    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10_000, 1)).eval()
    net = wa.load(module, input=wa.InputSpec(shape=(3, 24, 24)))
    kinds = ["weights", "units", "factors"]
    atlas = wa.build(net, place, layers=["0", "1"], recipes="quick", only=kinds)
    noise = np.random.default_rng(0)
    for unit in range(10_000):
        about = {"what": "unit", "layer": "1", "unit": unit, "reached": 1.0, "viewed": 0.9, "alive": True,
                 "weights_hash": net.weights_hash}  # fmt: skip
        pixels = noise.integers(0, 256, (6, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        atlas.files.write(layout.picture_path("1", "quick", unit), pictures.encoded(pixels, about))
    wa.build(net, place, only=kinds)
    return place


def readers(folder: Path, repeats: int) -> None:
    place = many(folder)
    paths = ["atlas.json", "layers/10/units.json"]
    paths += [f"weights/10/8/values/c.{u}.0.0.0" for u in range(0, WIDTH, 25)]
    paths += [f"images/10/quick/{u}.webp" for u in range(0, WIDTH, 5)]
    ours: list[float] = []
    theirs: list[float] = []
    with served(place) as origin, running([sys.executable, "-c", PEER, str(place)]) as other:
        for turn in range(max(2, repeats - repeats % 2)):
            both = [(ours, origin, "/atlas/"), (theirs, other, "/")]
            for spent, address, root in both if turn % 2 == 0 else both[::-1]:
                spent += asyncio.run(read_by_many(address, root, paths))
    ratio = statistics.median(ours) / statistics.median(theirs)
    for name, spent in (("explorer", ours), ("StaticFiles", theirs)):
        spent.sort()
        middle, most = statistics.median(spent) * 1e3, spent[int(len(spent) * 0.99)] * 1e3
        print(f"{READERS} readers at once, {name}: median {middle:.0f} ms, 99 % within {most:.0f} ms")
    print(f"{ratio:.2f}× the time of StaticFiles; no request failed")


async def read_by_many(address: str, root: str, paths: list[str]) -> list[float]:
    """Seconds of each request of many readers; any that fails ends the run."""
    found = await asyncio.gather(*(read(address, root, paths[n:] + paths[:n]) for n in range(READERS)))
    return [seconds for own in found for seconds in own]


async def read(address: str, root: str, paths: list[str]) -> list[float]:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    spent = []
    for path in paths[:REQUESTS]:
        start = time.perf_counter()
        writer.write(f"GET {root}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in head.splitlines()[0]:
            raise RuntimeError(f"{address}{root}{path}: {head.splitlines()[0]}")
        length = re.search(r"content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        spent.append(time.perf_counter() - start)
    writer.close()
    return spent


def asks(folder: Path, repeats: int) -> None:
    import torch

    import weightatlas as wa

    torch.set_num_threads(1)  # as many as the builder takes on two cores
    units = range(repeats)
    command = [*OPEN, "efficientnet_lite0", "-o", str(folder / "asked"), "--layers", "blocks.[45].*", "--no-browser"]
    start = time.perf_counter()
    with running([*command, "--port", "0"]) as origin:
        print(f"address of a new atlas after {time.perf_counter() - start:.1f} s")
        spent = [asked(origin, unit) for unit in units]
    net = wa.load("efficientnet_lite0")
    wa.visualize(net, "blocks.4.1", units=[0], recipe="quick")
    alone = statistics.median(
        timed(lambda unit=unit: wa.visualize(net, "blocks.4.1", units=[unit], recipe="quick")) for unit in units
    )
    middle = statistics.median(spent)
    print(
        f"a quick picture that a page asks for while the atlas is built: median {middle:.1f} s, {min(spent):.1f} to "
        f"{max(spent):.1f} s; {middle / alone:.1f}× wa.visualize alone"
    )


def asked(origin: str, unit: int) -> float:
    """Seconds from asking for a picture to the event that it is there."""
    ask = {"what": "picture", "layer": "blocks.4.1", "unit": 111 - unit, "recipe": "quick"}
    with urllib.request.urlopen(f"{origin}/api/events", timeout=120) as events:
        start = time.perf_counter()
        request = urllib.request.Request(
            f"{origin}/api/ask", json.dumps(ask).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=60).close()
        for line in events:
            if line.startswith(b"data:") and b'"what"' in line:
                made = json.loads(line[5:])
                if made.get("layer") == ask["layer"] and ask["unit"] in made.get("units", []):
                    return time.perf_counter() - start
    raise RuntimeError("the events ended")


PARTS: dict[str, Callable[[Path, int], None]] = {"pages": pages, "wall": wall, "readers": readers, "asks": asks}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
