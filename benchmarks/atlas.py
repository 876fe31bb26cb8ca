"""The atlas: what its store and its jobs cost beside the bare computation, how it scales, how fast it is read.

    .venv/bin/python benchmarks/atlas.py [overhead sleeping real size reading] [--repeats 3]

**overhead**: a fixed plan (three blocks of the embedded network, their weights, two pictures of 32 units of each) built
as an atlas, against the same calls of the library in turn without jobs, files or an overview; A B B A, the median
ratio, of time on the clock and of the processors' time. **sleeping**: jobs that only sleep, handed to 2, 8 and 32 dask
workers that are processes: the share of the workers' time that is sleep.
**real**: the same plan on one and on two workers with one thread each, against one process with one thread.
**size**: bytes on disk a unit. **reading**: opening an atlas of 10,000 units, and everything that a unit's page shows.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAYERS = ("blocks.4.0", "blocks.4.1", "blocks.4.2")
UNITS = 32
WORKERS = (2, 8, 32)
#: Sleeping jobs for each worker, and how long each sleeps.
NAPS, NAP = 12, 1.0
#: Layers and units of the large atlas.
DEPTH, WIDTH = 20, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["overhead", "sleeping", "real", "size", "reading"])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in asked.parts:
            print(f"== {part}", flush=True)
            PARTS[part](Path(folder), asked.repeats)


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fresh(folder: Path) -> Path:
    """A folder that does not exist."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def overhead(folder: Path, repeats: int) -> None:
    import weightatlas as wa
    from weightatlas.builder.choosing import family, structure
    from weightatlas.builder.jobs.levels import levels
    from weightatlas.figures.ordering import by_similarity
    from weightatlas.records import norms, strongest_targets
    from weightatlas.weights import strongest_middles

    net = wa.load("efficientnet_lite0")
    known = levels(net, LAYERS)
    pairs = {**dict.fromkeys(known.neighbours, ()), **known.two_back}

    def bare() -> None:
        spans = {pair: wa.expanded_weights(net, *pair, skip="exclude") for pair in pairs}
        for weights in spans.values():
            strongest_targets(weights, 24)
            structure(weights)
        for pair in known.neighbours:
            wa.factorize(spans[pair], 3)
            wa.factorize(spans[pair], 2, nonnegative="channels", per_unit=True)
            family(spans[pair], 6)
            by_similarity(norms(spans[pair].values))
        wa.banding(net)
        for (source, target), middles in pairs.items():
            for middle in middles or (f"{target}.act2",):
                strongest_middles(wa.expanded_paths(net, source, middle, target))
        for recipe in ("quick", "display"):
            for layer in LAYERS:
                for start in range(0, UNITS, 8):
                    wa.visualize(net, layer, units=range(start, start + 8), recipe=recipe)

    def built() -> None:
        wa.build(net, fresh(folder / "overhead"), layers=LAYERS, units=range(UNITS))

    wa.build(net, fresh(folder / "overhead"), layers=LAYERS, units=[0])  # captures the network, loads all routines
    spent: dict[str, list[tuple[float, float]]] = {"atlas": [], "bare": []}
    for number in range(repeats):
        for name, work in (("atlas", built), ("bare", bare))[:: -1 if number % 2 else 1]:
            before = time.process_time()
            spent[name].append((timed(work), time.process_time() - before))
        (a, busy), (b, bare_busy) = spent["atlas"][-1], spent["bare"][-1]
        print(
            f"atlas {a:6.2f} s   bare {b:6.2f} s   ratio {a / b:.3f}, of processors {busy / bare_busy:.3f}", flush=True
        )
    ratios = [[a[i] / b[i] for a, b in zip(*spent.values(), strict=True)] for i in (0, 1)]
    clock, busy = (statistics.median(r) - 1 for r in ratios)
    print(
        f"median: atlas {statistics.median(a for a, _ in spent['atlas']):.2f} s, overhead {clock:+.1%} on the clock, "
        f"{busy:+.1%} of processors (goal < 5 %)"
    )


def sleep(key: str, job: Any, *after: Any) -> Any:
    """What a worker does instead of a job; it imports nothing of ours that is heavy."""
    time.sleep(job.number / 1000)
    return job.name


def sleeping(folder: Path, repeats: int) -> None:
    import distributed

    from weightatlas.builder.jobs import cluster
    from weightatlas.builder.jobs.job import Job, Outcome
    from weightatlas.builder.jobs.stopping import Stop

    cluster.run_on_worker = sleep
    cluster._outcome = lambda future, job: Outcome(future.result())

    def round_of(client: Any, jobs: list[Job]) -> None:
        work: Any = type("Work", (), {"key": secrets.token_hex(4), "settings": type("S", (), {"device": None})})
        list(cluster._Flight(client, work, jobs, lambda event: None, Stop()).outcomes())

    for workers in WORKERS:
        jobs = [Job("banding", f"nap {i}", (), number=int(NAP * 1000)) for i in range(NAPS * workers)]
        with distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as local, distributed.Client(local) as client:  # fmt: skip
            client.wait_for_workers(workers)
            round_of(client, jobs)  # now all have imported what a job is
            shares = [NAPS * NAP / timed(lambda c=client, j=jobs: round_of(c, j)) for _ in range(repeats)]
        listed = ", ".join(f"{s:.1%}" for s in shares)
        print(
            f"{workers:3} workers: {statistics.median(shares):.1%} of their time is work ({listed}; goal 95 %)",
            flush=True,
        )


REAL = """
import sys, time, weightatlas as wa
import torch
torch.set_num_threads(1)
net = wa.load("efficientnet_lite0")
wa.layer_graph(net)
workers, folder = int(sys.argv[1]), sys.argv[2]
marks = []
def tell(event):
    if event.event in ("finished", "failed"):
        marks.append(time.perf_counter() - event.numbers["seconds"])
        marks.append(time.perf_counter())
if __name__ == "__main__":
    executor = None if not workers else __import__("distributed").Client(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50, env={"OMP_NUM_THREADS": "1"})
    wa.build(net, folder, layers=["blocks.4.0", "blocks.4.1", "blocks.4.2"], units=range(48), recipes="display",
             executor=executor, progress=tell)
    print(max(marks) - min(marks))
"""


def real(folder: Path, repeats: int) -> None:
    """From the beginning of the first job to the end of the last: workers' start and the network's are left out."""
    script = folder / "real.py"
    script.write_text(REAL)
    medians = {}
    for workers in (0, 1, 2):
        spent = []
        for _ in range(repeats):
            target = fresh(folder / "real")
            done = subprocess.run(
                [sys.executable, script, str(workers), target], capture_output=True, text=True, check=True
            )
            spent.append(float(done.stdout.split()[-1]))
        medians[workers] = statistics.median(spent)
        what = f"{workers} worker{'s' if workers > 1 else ''}" if workers else "one process"
        print(f"{what:12} {medians[workers]:6.1f} s, {medians[0] / medians[workers]:.2f}× one process", flush=True)


def size(folder: Path, repeats: int) -> None:
    import weightatlas as wa

    net = wa.load("efficientnet_lite0")
    atlas = wa.build(net, fresh(folder / "size"), layers=LAYERS, units=range(UNITS))
    sizes = atlas.files.sizes()
    pictured, units = UNITS * len(LAYERS), sum(net.layers[n].units for n in LAYERS)
    for name, begins, count in (
        ("pictures, two each", "images", pictured), ("weights", "weights/", units), ("paths", "paths/", units),
        ("lists, factors", "connections/", units),
    ):  # fmt: skip
        own = [n for p, n in sizes.items() if p.startswith(begins)]
        print(f"{name:18} {sum(own) / count / 1024:8.1f} KiB a unit in {len(own) / count:.1f} files")
    shutil.rmtree(folder / "size")


def reading(folder: Path, repeats: int) -> None:
    import weightatlas as wa

    place = large(fresh(folder / "large"))
    opened = [timed(lambda: wa.Atlas(place)) for _ in range(max(repeats, 5))]
    print(f"opening an atlas of {DEPTH * WIDTH} units: {statistics.median(opened) * 1e3:.1f} ms (goal < 200 ms)")
    atlas, generator = wa.Atlas(place), random.Random(0)
    addresses = [f"{layer}:{generator.randrange(WIDTH)}" for layer in atlas.layers for _ in range(20)]
    first = {layer: timed(lambda layer=layer: atlas.unit(f"{layer}:1")) for layer in atlas.layers}
    generator.shuffle(addresses)
    spent = [timed(lambda a=a: atlas.unit(a)) for a in addresses]
    most = sorted(spent)[int(len(spent) * 0.95)]
    print(
        f"a unit's page: median {statistics.median(spent) * 1e3:.2f} ms, 95 % within {most * 1e3:.2f} ms (goal < 5 ms)"
    )
    shared = statistics.median(first.values()) * 1e3
    print(f"the first one of its layer, which reads what the layer has in common: {shared:.1f} ms")


def large(place: Path) -> Path:
    """An atlas of 20 layers of 500 units with weights, factors and a picture of each."""
    import numpy as np
    from torch import nn

    import weightatlas as wa
    from weightatlas.store import layout, pictures

    parts = [m for i in range(DEPTH) for m in (nn.Conv2d(WIDTH if i else 3, WIDTH, 3 if i % 4 == 0 else 1), nn.ReLU())]
    net = wa.load(nn.Sequential(*parts).eval(), input=wa.InputSpec(shape=(3, 24, 24)))
    layers = [str(2 * i) for i in range(DEPTH)]
    kinds = ["weights", "units", "factors", "banding"]
    atlas = wa.build(net, place, layers=layers, recipes="quick", only=kinds, budget="4 GiB")
    noise = np.random.default_rng(0)
    for layer in layers:
        for unit in range(WIDTH):
            about = {"what": "unit", "layer": layer, "unit": unit, "reached": 1.0, "viewed": 0.9, "alive": True,
                     "weights_hash": net.weights_hash}  # fmt: skip
            data = pictures.encoded(noise.integers(0, 256, (48, 48, 3), np.uint8), about)
            atlas.files.write(layout.picture_path(layer, "quick", unit), data)
    wa.build(net, place, only=kinds)
    return place


PARTS: dict[str, Callable[[Path, int], None]] = {
    "overhead": overhead, "sleeping": sleeping, "real": real, "size": size, "reading": reading,
}  # fmt: skip

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
