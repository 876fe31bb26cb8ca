"""Feature visualization against lucent: time to lucent's activation after 512 steps, and activation at equal time.

    .venv/bin/python benchmarks/featurevis.py lucent

lucent (torch-lucent 0.1.8, the port of Lucid to PyTorch) is installed apart, into build/lucent, with the kornia it was
written for. It imports torchvision for one class, Normalize, which stands in here, since torchvision has no build for
every torch. Set up as its documentation does: Fourier image of 224 pixels, Adam 0.05, standard transforms, 512 steps.

Pictures are judged alike: the objective of the untouched network, without views, as a mean over nine shifts by −4, 0
and 4 pixels; periodic canvases are tiled to 224 pixels. Ours uses the recipe "max" with fewer or more steps, eight
units in a call; a unit has reached lucent's activation at the first number of steps whose picture is as good.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import weightatlas as wa
from weightatlas.featurevis import Prepared, recipe_for

FOLDER = Path(__file__).resolve().parent.parent / "build" / "lucent"
PACKAGES = ("torch-lucent==0.1.8", "kornia==0.4.1", "decorator==5.1.1", "tqdm", "ipython==8.37.0")
NORMALIZE = """
import torch


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (mean, std))

    def __call__(self, x):
        return (x - self.mean) / self.std
"""
#: One layer for each stride, and what is excited there.
LAYERS = (("blocks.1.1", "mean"), ("blocks.2.1", "mean"), ("blocks.4.1", "mean"), ("blocks.6.0", "centre"))
UNITS, AT_ONCE = 4, 8
SIDE, STEPS = 224, 512
#: Steps after which lucent's pictures are kept.
KEPT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BUDGETS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SHIFTS = (-4, 0, 4)


def lucent() -> Any:
    """The peer's modules, installed on first use."""
    if not (FOLDER / "lucent").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), *PACKAGES]
        subprocess.run(pip, check=True)
        (FOLDER / "torchvision").mkdir()
        (FOLDER / "torchvision" / "__init__.py").touch()
        (FOLDER / "torchvision" / "transforms.py").write_text(NORMALIZE)
    sys.path.append(str(FOLDER))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lucent.optvis import objectives, param, render, transform  # pyright: ignore[reportMissingImports]
    return objectives, param, render, transform


def peer_pictures(net: wa.Network, layer: str, unit: int, at: str, seed: int) -> tuple[list[Tensor], float]:
    """The peer's pictures ``[1, 3, 224, 224]`` after the kept steps, and its seconds for all."""
    objectives, param, render, transform = lucent()
    module = net.require_module("the benchmark")[0]
    make = objectives.channel if at == "mean" else objectives.neuron
    torch.manual_seed(seed)
    np.random.seed(seed)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = render.render_vis(
            module, make(layer.replace(".", "_"), unit), param_f=lambda: param.image(SIDE), thresholds=KEPT,
            transforms=[*transform.standard_transforms, lambda x: x * 2 - 1], preprocess=False, progress=False,
            show_image=False, fixed_image_size=SIDE,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    for m in module.modules():  # lucent leaves its hooks
        m._forward_hooks.clear()
    return [torch.from_numpy(np.ascontiguousarray(p)).permute(0, 3, 1, 2).float() for p in made], seconds


@torch.no_grad()
def judged(prepared: Prepared, layer: str, unit: int, at: str, image: Tensor) -> float:
    """The objective of a picture, without views, as a mean over nine shifts."""
    side = image.shape[-1]
    wide = functional.pad(image, (4,) * 4, mode="reflect")
    values = []
    for y in SHIFTS:
        for x in SHIFTS:
            a = prepared(wide[..., 4 + y : 4 + y + side, 4 + x : 4 + x + side])[layer][0, unit]
            values.append(float(a.mean() if at == "mean" else a[a.shape[0] // 2, a.shape[1] // 2]))
    return statistics.mean(values)


def tiled(image: Tensor) -> Tensor:
    """A periodic picture, repeated to the peer's size."""
    times = -(-SIDE // image.shape[-1])
    return image.repeat(1, 1, times, times)[..., :SIDE, :SIDE]


def compare(net: wa.Network, seed: int, layers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The table, printed as it comes; of some layers, if they are named."""
    print(
        f"{'unit':18}{'lucent':>9}{'s':>7}{'ours':>9}{'s':>7}{'s to reach it':>15}{'faster':>8}{'lucent by then':>16}"
    )
    rows = []
    shown = [(layer, at) for layer, at in LAYERS if not layers or layer in layers]
    for layer, at in shown:
        n = net.layers[layer].units
        units = np.random.default_rng([seed, n, 1]).permutation(n)[:AT_ONCE].tolist()
        prepared = Prepared(net, [layer])
        ours = {steps: our_pictures(net, layer, units, at, steps, seed) for steps in BUDGETS}
        for place, unit in enumerate(units[:UNITS]):
            pictures, peer_seconds = peer_pictures(net, layer, unit, at, seed)
            peers = [judged(prepared, layer, unit, at, p) for p in pictures]
            found = [(judged(prepared, layer, unit, at, made[place]), s) for made, s in ours.values()]
            reached = next((s for value, s in found if value >= peers[-1]), None)
            best, spent = max(found)
            at_equal = next(
                (v for k, v in zip(KEPT, peers, strict=True) if peer_seconds * k / STEPS >= spent), peers[-1]
            )
            faster = peer_seconds / reached if reached else None
            row = dict(
                layer=layer, unit=unit, peer=peers[-1], peer_seconds=peer_seconds, ours=best, seconds=spent,
                to_reach=reached, faster=faster, peer_at_equal_time=at_equal,
            )  # fmt: skip
            rows.append(row)
            told = f"{reached:15.2f}{faster:7.0f}×" if reached and faster else f"{'not reached':>15}{'':8}"
            print(
                f"{layer + ':' + str(unit):18}{peers[-1]:9.1f}{peer_seconds:7.1f}{best:9.1f}{spent:7.2f}{told}"
                f"{at_equal:16.1f}",
                flush=True,
            )
    for layer, _ in shown:
        ratios = [r["faster"] or 0.0 for r in rows if r["layer"] == layer]
        print(f"{layer:18} median {statistics.median(ratios):.0f}×, least {min(ratios):.0f}×")
    return rows


def our_pictures(
    net: wa.Network, layer: str, units: list[int], at: str, steps: int, seed: int
) -> tuple[list[Tensor], float]:
    """Our pictures after so many steps, and seconds a unit with everything that a call costs."""
    recipe = recipe_for(net, layer, "max").but(steps=steps, at=at)
    began = time.perf_counter()
    made = wa.visualize(net, layer, units=units, recipe=recipe, seed=seed)
    seconds = (time.perf_counter() - began) / len(units)
    images = torch.from_numpy(made.images).permute(0, 3, 1, 2).float() / 255
    periodic = recipe.side is None
    return [tiled(i[None]) if periodic else i[None] for i in images], seconds
