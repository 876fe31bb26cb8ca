"""Surveys of many images: their memory and time beside a loop that keeps everything, and beside the bare network.

    make bench        or        .venv/bin/python benchmarks/lens.py [--images 64 1024] [--repeats 3] [--json FILE]

Images: generated JPEGs of 320 × 240 pixels in one folder; the embedded network, three of its layers, two images at a
time.

    survey      wa.dataset_examples: sums, histograms and the nine strongest images of each unit
    keeping     plain forward hooks in a loop over the same batches that keep all activations, then numpy
    forward     reading the same batches and running the network, nothing more
    network     running the network on batches that are in memory

Each runs in a process of its own with one thread. Memory is the process's largest resident set less what it was after
opening the network and running one batch; time is the processor's (so that a busy machine does not count), of
the loop, as a ratio to `forward`, A B B A, median.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import weightatlas as wa
from weightatlas.lens import Photos, photos_from

LAYERS = ("blocks.1.0", "blocks.4.1", "classifier")
BATCH = 2
K = 9
WAYS = ("survey", "keeping", "forward", "network")
MIB = 2**20
#: More than so many images are too many for the loop that keeps everything.
MOST_KEPT = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one[0], Path(asked.one[1]))))
        return
    rows = table(asked.images, asked.repeats)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


def table(counts: list[int], repeats: int) -> list[dict[str, Any]]:
    """All cases, printed as they come."""
    rows = []
    print(f"{'images':>6} {'':8} {'MiB more':>9} {'ms an image':>12} {'of forward':>11}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            pictures(Path(folder), count)
            found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            # one after another and back again, so that what else the machine does falls on all alike
            for number in range(repeats):
                for way in WAYS[:: -1 if number % 2 else 1]:
                    if way != "keeping" or count <= MOST_KEPT:
                        found[way].append(in_own_process(way, folder))
            agree(found["survey"][0], found["keeping"][:1])
        for way, runs in found.items():
            if not runs:
                continue
            ratios = [run["seconds"] / other["seconds"] for run, other in zip(runs, found["forward"], strict=True)]
            seconds = statistics.median(run["seconds"] for run in runs)
            row = {
                "images": count, "way": way, "mib": max(run["bytes"] for run in runs) / MIB,
                "ms": 1e3 * seconds / count, "ratio": statistics.median(ratios),
            }  # fmt: skip
            rows.append(row)
            print(f"{count:6} {way:8} {row['mib']:9.1f} {row['ms']:12.1f} {row['ratio']:10.2f}×", flush=True)
    return rows


def agree(survey: dict[str, float], kept: list[dict[str, float]]) -> None:
    """The two competitors must have found the same."""
    for other in kept:
        if not np.isclose(survey["sum"], other["sum"], rtol=1e-9) or survey["best"] != other["best"]:
            raise SystemExit(f"they do not agree: {survey} and {other}")


def pictures(folder: Path, count: int) -> None:
    """Smooth coloured JPEGs, each another."""
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(
            folder / f"{number:05}.jpg", quality=90
        )


def in_own_process(way: str, folder: str) -> dict[str, float]:
    """`run_one` in a fresh Python."""
    command = [sys.executable, __file__, "--one", way, folder]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run_one(way: str, folder: Path) -> dict[str, float]:
    """One competitor in this process: seconds, bytes, and what it found."""
    torch.set_num_threads(1)
    net = wa.load("efficientnet_lite0")
    photos = photos_from(net, folder)
    if photos is None:
        raise SystemExit("no images")
    module = net.require_module("the benchmark")[0].eval()
    with torch.inference_mode():
        warm = photos.tensor(net, range(BATCH))
        module(warm)
    layers = list(LAYERS)
    wa.dataset_examples(net, warm, layers, K)  # what is imported and opened only once
    before, began = peak(), time.process_time()
    found = {
        "survey": lambda: surveyed(net, photos),
        "keeping": lambda: kept(net, photos),
        "forward": lambda: run(net, photos, None),
        "network": lambda: run(net, photos, warm),
    }[way]()
    seconds = time.process_time() - began
    return {"seconds": seconds, "bytes": peak() - before, **found}


def peak() -> int:
    """Bytes that this process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def surveyed(net: wa.Network, photos: Photos) -> dict[str, Any]:
    found = wa.dataset_examples(net, photos, LAYERS, K, batch=BATCH)
    rows = found.rows(LAYERS[1])
    return {"sum": float(found.total[rows].sum()), "best": found.images[rows].tolist()}


def kept(net: wa.Network, photos: Photos) -> dict[str, Any]:
    module = net.require_module("the benchmark")[0]
    seen: dict[str, list[Tensor]] = {name: [] for name in LAYERS}

    def keeping(name: str) -> Any:
        def keep(owner: Any, inputs: Any, output: Tensor) -> None:
            seen[name].append(output.clone())

        return keep

    handles = [module.get_submodule(name).register_forward_hook(keeping(name)) for name in LAYERS]
    run(net, photos, None)
    for handle in handles:
        handle.remove()
    best, total = {}, {}
    for name, parts in seen.items():
        values = torch.cat(parts)
        values = values.reshape(*values.shape[:2], -1)
        total[name] = float(values.double().sum())
        for unit in range(values.shape[1]):  # a histogram of each unit, as numpy makes it
            np.histogram(values[:, unit].numpy(), 256)
        peaks = values.amax(2)
        best[name] = torch.sort(peaks, dim=0, descending=True, stable=True)[1][:K].T.tolist()
    return {"sum": total[LAYERS[1]], "best": best[LAYERS[1]]}


@torch.inference_mode()
def run(net: wa.Network, photos: Photos, given: Tensor | None) -> dict[str, Any]:
    module = net.require_module("the benchmark")[0]
    for start in range(0, len(photos), BATCH):
        rows = range(start, min(start + BATCH, len(photos)))
        module(photos.tensor(net, rows) if given is None else given[: len(rows)])
    return {"sum": 0.0, "best": []}


if __name__ == "__main__":
    main()
