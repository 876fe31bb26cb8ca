"""Expanded weights against one backward pass per unit, and against composing the kernels by hand.

    make bench        or        .venv/bin/python benchmarks/expanded.py [--repeats 9] [--json FILE]

Nets: the embedded one, and a net with random weights whose two inception blocks have InceptionV1's sizes (192 → 256 →
480 channels; branches of 1×1, 3×3, 5×5 and pooling). Every non-linearity is the identity, max pooling a mean, so that
all competitors compute the same numbers; they are compared.

    ours        wa.expanded_weights(..., gate="identity"), captured beforehand; with expected gates in the last column
    backward    what captum.optim's extract_expanded_weights does, re-created: run the linearised network on an image,
                then one autograd.grad per target unit at the central position, and cut the window out
    by hand     einsum of the weight tensors, branch by branch: the lower bound

Each runs in a process of its own with two threads: warm-up, then the median of the repeats. Memory is what
tensors hold at once during a call, by torch's profiler.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import weightatlas as wa

#: Name → (net, source, target).
CASES = {
    "mixed3a→mixed3b": ("inception", "mixed3a", "mixed3b"),
    "conv2→mixed3b": ("inception", "conv2", "mixed3b"),
    "blocks.4.0→4.1": ("lite0", "blocks.4.0", "blocks.4.1"),
    "blocks.3.2→4.1": ("lite0", "blocks.3.2", "blocks.4.1"),
    "blocks.5.2→6.0": ("lite0", "blocks.5.2", "blocks.6.0"),
}
BY_HAND = {"mixed3a→mixed3b"}
PAIRS = "all adjacent block pairs"


class Inception(nn.Module):
    """An inception block: 1×1, 3×3 and 5×5 behind 1×1, and a projected pooling."""

    def __init__(self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, one, 1)
        self.three_reduce, self.three = nn.Conv2d(inputs, three[0], 1), nn.Conv2d(*three, 3, padding=1)
        self.five_reduce, self.five = nn.Conv2d(inputs, five[0], 1), nn.Conv2d(*five, 5, padding=2)
        self.pool, self.project = nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(inputs, pool, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, I, H, W]`` to ``[N, O, H, W]``."""
        branches = [
            self.one(x),
            self.three(self.relu(self.three_reduce(x))),
            self.five(self.relu(self.five_reduce(x))),
            self.project(self.pool(x)),
        ]
        return torch.cat([self.relu(b) for b in branches], 1)


class GoogLeNetStart(nn.Module):
    """InceptionV1 up to mixed3b."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 7, 2, 3), nn.Conv2d(64, 192, 3, padding=1)
        self.relu, self.pool1, self.pool2 = nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1)
        self.mixed3a = Inception(192, 64, (96, 128), (16, 32), 32)
        self.mixed3b = Inception(256, 128, (128, 192), (32, 96), 64)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to mixed3b."""
        x = self.pool1(self.relu(self.conv1(x)))
        return self.mixed3b(self.mixed3a(self.pool2(self.relu(self.conv2(x)))))


def network(name: str) -> wa.Network:
    """An open network by its short name."""
    if name == "lite0":
        return wa.load("efficientnet_lite0")
    torch.manual_seed(0)
    return wa.load(GoogLeNetStart().eval(), input=wa.InputSpec(shape=(3, 224, 224)))


def linearised(module: nn.Module) -> nn.Module:
    """Activations become the identity, max pooling a mean, as captum.optim replaces them; in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU | nn.ReLU6):
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
        else:
            linearised(child)
    return module


def _keeping(found: dict[str, Tensor], name: str) -> Callable[[Any, Any, Tensor], None]:
    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        found[name] = output

    return keep


def backward(net: wa.Network, source: str, target: str, window: wa.Weights) -> Callable[[], np.ndarray]:
    """One backward pass per target unit through the linearised network."""
    module = linearised(net.require_module("the benchmark")[0])
    found: dict[str, Tensor] = {}
    for name in (source, target):
        module.get_submodule(name).register_forward_hook(_keeping(found, name))
    size = net.input.shape if net.input else ()

    def call() -> np.ndarray:
        image = torch.zeros((1, *size), requires_grad=True)
        module(image)
        before, after = found[source], found[target]
        at = [n // 2 for n in after.shape[2:]]
        begin = [int(t * s + o) for t, s, o in zip(at, window.stride, window.origin, strict=True)]
        h, w = window.values.shape[2:]
        out = np.zeros((after.shape[1], before.shape[1], h, w), np.float32)
        for unit in range(after.shape[1]):
            (gradient,) = torch.autograd.grad(after[0, unit, at[0], at[1]], before, retain_graph=True)
            place = gradient[0, :, max(begin[0], 0) : begin[0] + h, max(begin[1], 0) : begin[1] + w]
            out[unit, :, max(-begin[0], 0) :, max(-begin[1], 0) :][:, : place.shape[1], : place.shape[2]] = place
        return out

    return call


def by_hand(net: wa.Network) -> Callable[[], np.ndarray]:
    """mixed3a → mixed3b by einsum of its weight tensors."""
    b: Any = net.module.mixed3b  # pyright: ignore[reportOptionalMemberAccess]

    def flat(conv: nn.Conv2d) -> Tensor:
        return conv.weight.detach()[:, :, 0, 0]

    def call() -> np.ndarray:
        out = torch.zeros((480, 256, 5, 5))
        out[:128, :, 2, 2] = flat(b.one)
        out[128:320, :, 1:4, 1:4] = torch.einsum("omyx,mi->oiyx", b.three.weight.detach(), flat(b.three_reduce))
        out[320:416] = torch.einsum("omyx,mi->oiyx", b.five.weight.detach(), flat(b.five_reduce))
        out[416:, :, 1:4, 1:4] = flat(b.project)[:, :, None, None] / 9
        return out.numpy()

    return call


def competitor(method: str, case: str) -> Callable[[], np.ndarray]:
    """The call that is timed."""
    if case == PAIRS:
        net = network("lite0")
        blocks = [name for name, layer in net.layers.items() if layer.type in ("SeparableBlock", "InvertedResidual")]

        def all_pairs() -> np.ndarray:
            gate = "expected" if method == "expected" else "identity"
            return [wa.expanded_weights(net, a, b, gate=gate) for a, b in itertools.pairwise(blocks)][-1].values

        return all_pairs
    name, source, target = CASES[case]
    net = network(name)
    if method == "by hand":
        return by_hand(net)
    if method == "backward":
        return backward(net, source, target, wa.expanded_weights(net, source, target, gate="identity"))
    gate = "identity" if method == "ours" else "expected"
    return lambda: wa.expanded_weights(net, source, target, gate=gate).values


def peak_memory(call: Callable[[], Any]) -> float:
    """MiB of tensors that are alive at once during a call, by torch's own profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    held = most = 0
    events: Any = profiled.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def run_one(method: str, case: str, repeats: int) -> dict[str, Any]:
    """One competitor in this process."""
    torch.set_num_threads(2)
    call = competitor(method, case)
    values = call()
    memory = peak_memory(call)
    seconds = []
    for _ in range(repeats if method != "backward" else 1):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    probe = values[:: max(1, len(values) // 16), ::7].astype(np.float64)
    return {
        "seconds": statistics.median(seconds),
        "memory": memory,
        "result": values.nbytes / 2**20,
        "probe": probe.ravel().tolist(),
    }


def in_own_process(*spec: Any) -> dict[str, Any]:
    """`run_one` in a fresh Python."""
    command = [sys.executable, __file__, "--one", *map(str, spec)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def table(repeats: int) -> list[dict[str, Any]]:
    """All cases, printed as they come."""
    head = f"{'span':28} {'method':9} {'ms':>9} {'vs backward':>11} {'vs by hand':>10}"
    print(head, f"{'peak MiB':>9} {'result':>7} {'error':>8}")
    rows = []
    for case in [*CASES, PAIRS]:
        methods = [
            "ours",
            "expected",
            *(["backward"] if case in CASES else []),
            *(["by hand"] if case in BY_HAND else []),
        ]
        found = {method: in_own_process(method, case, repeats) for method in methods}
        truth = np.array(found.get("backward", found["ours"])["probe"])
        for method, each in found.items():
            error = np.linalg.norm(np.array(each.pop("probe")) - truth) / np.linalg.norm(truth)
            row: dict[str, Any] = {"span": case, "method": method, **each}
            row["error"] = None if method == "expected" else float(error)
            for other in ("backward", "by hand"):
                row[other] = each["seconds"] / found[other]["seconds"] if other in found else None
            rows.append(row)
            speed = f"1/{1 / row['backward']:.0f}" if row["backward"] else ""
            hand = f"{row['by hand']:.2f}×" if row["by hand"] else ""
            wrong = "" if row["error"] is None else f"{row['error']:.0e}"
            print(
                f"{case:28} {method:9} {1e3 * row['seconds']:9.1f} {speed:>11} {hand:>10} {row['memory']:9.1f} "
                f"{row['result']:7.1f} {wrong:>8}",
                flush=True,
            )
    return rows


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        method, case, repeats = arguments.one
        print(json.dumps(run_one(method, case, int(repeats))))
        return
    rows = table(arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
