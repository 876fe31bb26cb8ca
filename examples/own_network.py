"""One's own network, opened in three lines.

    .venv/bin/python examples/own_network.py [FOLDER]

The network here is trained on the spot, for some seconds: it tells circles, squares, triangles and crosses apart, drawn
anywhere, in any size and turned by any angle. Then come the three lines, and a page that shows what its weights became.
"""

import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional

import weightatlas as wa

SIDE, STEPS, BATCH = 32, 400, 64  # pixels; steps of training, images in each
NAMES = ("circle", "square", "triangle", "cross")


def shapes(count: int, seed: torch.Generator) -> tuple[Tensor, Tensor]:
    """Outlines ``[N, 1, 32, 32]`` with values 0 … 1, and which of NAMES each is ``[N]``."""
    kind = torch.randint(len(NAMES), (count,), generator=seed)
    size, angle = 6 + 5 * torch.rand(count, generator=seed), math.tau * torch.rand(count, generator=seed)
    centre = SIDE / 2 + 5 * (2 * torch.rand(2, count, generator=seed) - 1)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    y, x = (grid[None] - at[:, None, None] for grid, at in zip((y, x), centre, strict=True))
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = cos * x + sin * y, cos * y - sin * x  # the shape's own axes
    reach = size[:, None, None]
    inside = torch.stack([
        (u**2 + v**2).sqrt() - reach,
        torch.maximum(u.abs(), v.abs()) - 0.85 * reach,
        torch.maximum(torch.maximum(v, -0.5 * v + 0.866 * u), -0.5 * v - 0.866 * u) - 0.6 * reach,
        torch.maximum(torch.minimum(u.abs(), v.abs()), torch.maximum(u.abs(), v.abs()) - reach),
    ])  # fmt: skip
    away = inside[kind, torch.arange(count)].abs()
    noise = 0.1 * torch.randn(count, SIDE, SIDE, generator=seed)
    return ((1.5 - away).clamp(0, 1) * 0.8 + 0.1 + noise).clamp(0, 1)[:, None], kind


def trained() -> nn.Module:
    """A small network after some seconds of training."""
    torch.manual_seed(0)
    module = nn.Sequential()
    for i, (inputs, outputs) in enumerate([(1, 12), (12, 24), (24, 32)], 1):
        module.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, 5, padding=2, bias=False))
        module.add_module(f"norm{i}", nn.BatchNorm2d(outputs))
        module.add_module(f"relu{i}", nn.ReLU())
        module.add_module(f"pool{i}", nn.MaxPool2d(2))
    module.add_module("mean", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("shape", nn.Linear(32, len(NAMES)))
    learn = torch.optim.AdamW(module.parameters(), lr=8e-3, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(learn, max_lr=8e-3, total_steps=STEPS)
    seed = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        images, kinds = shapes(BATCH, seed)
        functional.cross_entropy(module(images), kinds).backward()
        learn.step()
        learn.zero_grad()
        schedule.step()
    module.eval()
    images, kinds = shapes(1000, seed)
    with torch.no_grad():
        right = (module(images).argmax(1) == kinds).float().mean()
    print(f"trained: {right:.1%} of 1,000 new shapes are told rightly")
    return module


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "own"
    module = trained()

    # The three lines: what it takes in, its layers, a page
    net = wa.load(module, input=wa.InputSpec(shape=(1, SIDE, SIDE)))
    print(net.layers["conv3"])
    print("open", wa.overview(net, folder))
