"""One-sided NMF against scikit-learn's, on posneg data: error and time, unit by unit and jointly.

    make bench        or        .venv/bin/python benchmarks/factor.py [--repeats 5] [--json FILE]

Data: a 5×5 block of the embedded network in full form [112, 112, 5, 5], and normal noise [480, 256, 5, 5], the size of
InceptionV1's mixed3b_5x5 seen from mixed3a. The yardstick for single units is the loop of captum.optim's channel
reducer, re-created: [relu X, relu −X] to numpy, ``NMF(rank).fit_transform`` with its defaults, one unit at a time.

Every competitor runs in a process of its own, so that no thread pool spins beside another, with one warm-up and then
the median of the repeats. Errors are ‖X − S Cᵀ‖² / ‖X‖² of the signed weights, over all units; the bound is truncated
SVD. All processes get the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = ("block", "480x256")
RANKS = (2, 3, 6)
METHODS = ("sklearn", "posneg", "semi")
JOINT_RANK = 3
YARDSTICK = "sklearn"


def load_data(name: str) -> np.ndarray:
    """Weights ``[O, I, H, W]``."""
    if name == "block":
        import weightatlas as wa

        return wa.direct_weights(wa.load("efficientnet_lite0"), "blocks.4.1").values
    return np.random.default_rng(0).normal(size=(480, 256, 5, 5)).astype(np.float32)


def sklearn_factors(x: np.ndarray, rank: int) -> np.ndarray:
    """The reconstruction of ``X [P, I]`` by scikit-learn's NMF of its posneg data."""
    from sklearn.decomposition import NMF

    split = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=1)
    model = NMF(n_components=rank)  # pyright: ignore[reportArgumentType]  # its annotation says str only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when its 200 iterations did not suffice
        space = model.fit_transform(split)
    half = x.shape[1]
    return space @ (model.components_[:, :half] - model.components_[:, half:])


def sklearn_loop(weights: np.ndarray, rank: int, joint: bool) -> float:
    """Relative error over all units; the loop that is timed."""
    o, i = weights.shape[:2]
    data = weights.transpose(0, 2, 3, 1).reshape(1 if joint else o, -1, i)
    error = sum(float(((x - sklearn_factors(x, rank)) ** 2).sum()) for x in data)
    return error / float((weights**2).sum())


def ours(weights: np.ndarray, rank: int, joint: bool, method: str) -> float:
    """Relative error over all units; the call that is timed."""
    from weightatlas.factor import factorize

    return 1 - factorize(weights, rank, method=method, per_unit=not joint).explained  # pyright: ignore[reportArgumentType]


def run_one(data: str, method: str, rank: int, joint: bool, repeats: int) -> dict[str, float]:
    """One competitor in this process: median seconds and relative error."""
    import torch

    torch.set_num_threads(2)
    weights = load_data(data)
    call: Callable[[], float] = lambda: (  # noqa: E731
        sklearn_loop(weights, rank, joint) if method == YARDSTICK else ours(weights, rank, joint, method)
    )
    error = call()
    seconds = []
    for _ in range(repeats if method != YARDSTICK else min(repeats, 3)):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds), "error": error, "units": len(weights)}


def bound(data: str, rank: int, joint: bool) -> float:
    """Error of truncated SVD, by numpy in double precision."""
    weights = load_data(data).astype(np.float64)
    o, i = weights.shape[:2]
    x = weights.transpose(0, 2, 3, 1).reshape(1 if joint else o, -1, i)
    energy = np.linalg.eigvalsh(x.transpose(0, 2, 1) @ x if joint else x @ x.transpose(0, 2, 1))
    return float(1 - energy[:, -rank:].sum() / energy.sum())


def in_own_process(*spec: Any) -> dict[str, float]:
    """`run_one` in a fresh Python."""
    command = [sys.executable, __file__, "--one", *map(str, spec)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def table(repeats: int) -> list[dict[str, Any]]:
    """All cases, printed as they come."""
    rows = []
    print(f"{'data':8} {'rank':>4} {'':8} {'method':8} {'ms a unit':>10} {'error':>8} {'over bound':>10} {'faster':>7}")
    for data in DATA:
        for rank, joint in [(r, False) for r in RANKS] + [(JOINT_RANK, True)]:
            least = bound(data, rank, joint)
            base = 0.0
            for method in METHODS:
                found = in_own_process(data, method, rank, int(joint), repeats)
                base = base or found["seconds"]
                row = {"data": data, "rank": rank, "joint": joint, "method": method, **found, "bound": least}
                row["faster"] = base / found["seconds"]
                rows.append(row)
                each = 1e3 * found["seconds"] / found["units"]
                how = "jointly" if joint else "per unit"
                print(
                    f"{data:8} {rank:4} {how:8} {method:8} {each:10.3f} {found['error']:8.4f} "
                    f"{found['error'] / least - 1:10.2%} {row['faster']:6.1f}×",
                    flush=True,
                )
    return rows


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        data, method, rank, joint, repeats = arguments.one
        print(json.dumps(run_one(data, method, int(rank), bool(int(joint)), int(repeats))))
        return
    rows = table(arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
