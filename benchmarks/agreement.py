"""How far expanded weights agree with the network's real mean gradient, by the gate that non-linearities are read by.

    make bench        or        .venv/bin/python benchmarks/agreement.py [--samples 12] [--json FILE]

The truth is the mean Jacobian of the untouched embedded network over every second photo of scikit-image and positions
of the target's grid (`wa.expected_gradient`). Gates: the identity (the article's rule), expected derivatives from batch
norm's own β and γ (no data), and expected derivatives measured on the other photos. Paths without parameters are left
out. Numbers are the mean cosine over target units and how many of the ten strongest sources are among the true ten
strongest; the ceiling is what the truth itself reaches over two halves of its photos, and corrected for their number.

The second table compares the time of the walk that gives all target units' Jacobians at once with one backward pass per
target unit: per sample, with twelve positions of one photo, the forward pass shared by all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import weightatlas as wa
from weightatlas.weights.measuring import as_input

#: Within stages 2 to 4, where the goal is 0.85 without data; then strides, long spans and the last stages.
SPANS = [
    ("blocks.2.0", "blocks.2.1", "within stages 2-4"),
    ("blocks.3.0", "blocks.3.1", "within stages 2-4"),
    ("blocks.3.1", "blocks.3.2", "within stages 2-4"),
    ("blocks.3.2", "blocks.4.0", "within stages 2-4"),
    ("blocks.4.0", "blocks.4.1", "within stages 2-4"),
    ("blocks.4.1", "blocks.4.2", "within stages 2-4"),
    ("blocks.3.2", "blocks.4.1", "two blocks"),
    ("blocks.3.0", "blocks.3.2", "two blocks"),
    ("blocks.2.1", "blocks.3.0", "stride"),
    ("blocks.1.1", "blocks.2.0", "stride"),
    ("blocks.4.2", "blocks.5.0", "stride"),
    ("blocks.3.1", "blocks.4.1", "three blocks"),
    ("blocks.3.2", "blocks.4.2", "three blocks"),
    ("blocks.5.0", "blocks.5.1", "stages 5-6"),
    ("blocks.5.2", "blocks.5.3", "stages 5-6"),
    ("blocks.5.3", "blocks.6.0", "stages 5-6"),
    ("blocks.5.2", "blocks.6.0", "stages 5-6"),
]
UNITS = 24
POSITIONS = 12
TIMED = [("blocks.4.0", "blocks.4.1"), ("blocks.3.2", "blocks.4.1"), ("blocks.5.3", "blocks.6.0")]


def photos() -> list[np.ndarray]:
    """The colour photos inside scikit-image's wheel."""
    from skimage import data

    names = ["astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry", "retina", "lily"]
    names += ["skin", "colorwheel", "logo"]
    found = []
    for name in names:
        try:
            image = np.asarray(getattr(data, name)())
        except (AttributeError, OSError, ModuleNotFoundError, RuntimeError):  # not in the wheel
            continue
        if image.ndim == 3 and image.shape[2] in (3, 4):
            found.append(image[..., :3])
    left, right = data.stereo_motorcycle()[:2]
    return [*found, left, right]


def compared(net: wa.Network, images: list[np.ndarray], samples: int) -> list[dict[str, Any]]:
    """The agreement table, printed as it comes."""
    truth, other = images[::2], images[1::2]
    wa.measure(net, other)
    print(f"{len(truth)} photos for the truth, {len(other)} others measured, {samples} positions each, {UNITS} units\n")
    gates = {"identity": "identity", "batch norm": "batchnorm", "other photos": "measured"}
    head = "".join(f"{name:>16}" for name in gates)
    print(f"{'span':24}{'':18}{head}{'ceiling':>16}")
    rows = []
    for source, target, kind in SPANS:
        layer = net.layers[target]
        units = sorted({round(u) for u in np.linspace(0, layer.units - 1, UNITS)})
        height, width = layer.grid or (1, 1)
        count = min(samples, height * width) * len(truth)
        real = wa.expected_gradient(net, source, target, truth, units, skip="exclude", samples=count)
        row: dict[str, Any] = {"source": source, "target": target, "kind": kind, "samples": real.samples}
        for name, gate in gates.items():
            found = wa.agreement(wa.expanded_weights(net, source, target, units, gate=gate, skip="exclude"), real)
            row[name] = found.mean_cosine, found.mean_overlap
        row["split half"], row["ceiling"] = real.split_half, real.ceiling
        rows.append(row)
        cells = "".join(f"{row[name][0]:10.2f} /{row[name][1]:4.1f}" for name in gates)
        span = f"{source} → {target[7:]}"
        print(f"{span:24}{kind:18}{cells}{row['split half']:8.2f} ({row['ceiling']:.2f})", flush=True)
    return rows


def keeping(found: dict[str, Any], name: str) -> Any:
    """A forward hook that keeps a module's output."""

    def keep(module: Any, inputs: Any, output: Any) -> None:
        found[name] = output

    return keep


def timed(net: wa.Network, images: list[np.ndarray], repeats: int) -> list[dict[str, Any]]:
    """Time of a sample's Jacobian of all target units: the walk, and one backward pass per unit."""
    module = net.require_module("the benchmark")[0]
    image = as_input(net, images[:1])
    print(f"\n{'all units at one position':34}{'walk ms':>10}{'backward ms':>13}{'faster':>8}")
    rows = []
    for source, target in TIMED:
        found: dict[str, Any] = {}
        handles = [module.get_submodule(n).register_forward_hook(keeping(found, n)) for n in (source, target)]

        module(image.clone().requires_grad_())

        def backward(source: str = source, target: str = target, found: dict[str, Any] = found) -> None:
            before, after = found[source], found[target]
            y, x = after.shape[2] // 2, after.shape[3] // 2
            for unit in range(after.shape[1]):
                torch.autograd.grad(after[0, unit, y, x], before, retain_graph=True)

        def walk(source: str = source, target: str = target) -> None:
            wa.expected_gradient(net, source, target, image, samples=POSITIONS)

        walk()
        times = []
        for call, count in ((walk, repeats), (backward, max(1, repeats // 3))):
            seconds = []
            for _ in range(count):
                begin = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - begin)
            times.append(statistics.median(seconds))
        for handle in handles:
            handle.remove()
        times[0] /= POSITIONS
        rows.append({"source": source, "target": target, "walk": times[0], "backward": times[1]})
        print(f"{source + ' → ' + target:34}{1e3 * times[0]:10.1f}{1e3 * times[1]:13.1f}{times[1] / times[0]:7.0f}×")
    return rows


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=POSITIONS, help="positions per photo")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    net, images = wa.load("efficientnet_lite0"), photos()
    rows = {"agreement": compared(net, images, arguments.samples), "time": timed(net, images, arguments.repeats)}
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
