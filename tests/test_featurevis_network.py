"""Feature visualization's copy of a network: against the untouched module, autograd, and the module as it was before."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from test_direct import settle
from torch import Tensor, nn
from torch.nn import functional

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, LoadError, WeightValuesError
from weightatlas.featurevis.interior import Held, held_by
from weightatlas.featurevis.rewriting import Rewriting
from weightatlas.models.efficientnet_lite import Conv2dSame

pytestmark = pytest.mark.usefixtures("one_thread")
F = functional

TINY = fv.Recipe(steps=2, side=16, jitter=2)


def load(module: nn.Module, *shape: int, **spec) -> wa.Network:
    return wa.load(settle(module), input=wa.InputSpec(shape=shape or (2, 26, 23), **spec))


def last(net: wa.Network) -> str:
    return list(net.layers)[-1]


def normalised(net: wa.Network, images: Tensor) -> Tensor:
    """Images 0 … 1 as the network takes them."""
    spec = net.input
    low, high = spec.value_range
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    return (images * (high - low) + low - mean) / std


def hooked(net: wa.Network, images: Tensor, layer: str, call: int = 1) -> Tensor:
    """What the untouched module gives at a layer, seen by a plain forward hook."""
    seen: list[Tensor] = []
    handle = net.module.get_submodule(layer).register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    try:
        with torch.no_grad():
            net.module.eval()(normalised(net, images))
    finally:
        handle.remove()
    return seen[call - 1]


def close(found: Tensor, wanted: Tensor, relative: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    largest = wanted.abs().max().clamp_min(1e-6)
    assert float((found - wanted).abs().max() / largest) <= relative


def check_interior(net: wa.Network, prepared: fv.Prepared, layer: str, images: Tensor, crop=(0, 0)) -> Tensor:
    """The network with its padding on the whole images, and without on their part from ``crop`` on."""
    truth = hooked(net, images, layer)
    found = prepared(images[..., crop[0] :, crop[1] :], held=Held(crop, net.input.grid))[layer]
    part = held_by(found)
    assert part is not None
    y, x = part.crop
    assert min(found.shape) > 0
    close(found, truth[..., y : y + found.shape[-2], x : x + found.shape[-1]])
    return found


# --- interiors --------------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Two ways, joined along channels."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], dim=1)


class Residual(nn.Module):
    """A skip around a body."""

    def __init__(self, body: nn.Module, inplace: bool = False) -> None:
        super().__init__()
        self.body, self.inplace = body, inplace

    def forward(self, x):
        y = self.body(x)
        if self.inplace:
            y += x
            return y
        return y + x


class Padded(nn.Module):
    """A bare functional.pad."""

    def __init__(self, *pads: int, mode: str = "constant") -> None:
        super().__init__()
        self.pads, self.mode = pads, mode

    def forward(self, x):
        return F.pad(x, self.pads, mode=self.mode)


class Halves(nn.Module):
    """One half of the channels through a body, then both change places."""

    def __init__(self, body: nn.Module, how: str = "chunk") -> None:
        super().__init__()
        self.body, self.how = body, how

    def forward(self, x):
        n = x.shape[1] // 2
        if self.how == "chunk":
            a, b = x.chunk(2, 1)
        elif self.how == "split":
            a, b = torch.split(x, n, dim=1)
        else:
            a, b = x[:, :n], x[:, n:]
        return torch.cat((b, self.body(a)), 1)


def fn(function, **children):
    return S(Fn(function, **children), nn.Identity())


def middle(i=2, k=3, **options) -> nn.Module:
    return S(conv(i, i, k, padding=k // 2, **options), nn.BatchNorm2d(i), nn.ReLU())


class Swish(torch.autograd.Function):
    """A function that no mode sees."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        s = torch.sigmoid(ctx.saved_tensors[0])
        return g * (s + ctx.saved_tensors[0] * s * (1 - s))


INTERIORS: dict[str, Callable[[], nn.Module]] = {
    "padding": lambda: S(conv(padding=1), nn.ReLU(), conv(k=5, padding=2)),
    "stride": lambda: S(conv(stride=2, padding=1), conv(k=5, padding=2), conv(stride=3, padding=2)),
    "wide padding": lambda: S(conv(padding=4), conv(k=(2, 5), padding=(3, 1), stride=(2, 1))),
    "dilation": lambda: S(conv(dilation=2, padding=2), conv(dilation=(3, 1), padding=(2, 1))),
    "groups": lambda: S(conv(2, 4, padding=1), conv(4, 4, groups=4, padding=1), conv(4, 2, groups=2, padding=2)),
    "same": lambda: S(conv(k=5, padding="same"), conv(k=(4, 2), padding="same"), conv(dilation=2, padding="same")),
    "tensorflow's same": lambda: S(
        Conv2dSame(2, 2, 3, stride=2), nn.ReLU6(), Conv2dSame(2, 2, 5, stride=2), Conv2dSame(2, 2, 3)
    ),
    "asymmetric": lambda: S(Padded(1, 2, 3, 0), conv(), Padded(0, 1), conv(stride=2)),
    "negative pad": lambda: S(conv(padding=2), Padded(-1, -2, -1, 1), conv(padding=1)),
    "cut at once": lambda: S(Padded(-2, 1, -3, -1), conv(padding=1)),
    "reflecting": lambda: S(conv(), Padded(2, 2, 1, 1, mode="reflect"), conv(k=5)),
    "padding mode": lambda: S(conv(padding=1, padding_mode="replicate"), conv(padding=1, padding_mode="reflect")),
    "padded with threes": lambda: S(nn.ConstantPad2d(2, 3.0), conv()),
    "max pool": lambda: S(conv(padding=1), nn.MaxPool2d(3, 2, padding=1), conv(padding=1)),
    "max pool, ceil, dilation": lambda: S(conv(), nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True), conv(padding=1)),
    "average pool": lambda: S(conv(padding=1), nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), conv(padding=1)),
    "average pool without its padding": lambda: S(nn.AvgPool2d((3, 2), padding=(1, 0), count_include_pad=False), conv(padding=1)),
    "functional pools": lambda: fn(
        lambda m, x: m.a(F.avg_pool2d(F.max_pool2d(x, kernel_size=3, stride=1, padding=1), 2, ceil_mode=True)), a=conv(padding=1)
    ),
    "residual": lambda: S(conv(padding=1), Residual(middle()), Residual(S(middle(), middle(k=5)))),
    "residual in place": lambda: S(conv(padding=1), Residual(middle(), True), Residual(S(middle(), middle(k=5)), True)),
    "one over": lambda: fn(lambda m, x: 1 / (m.a(x).abs() + 1), a=conv(padding=1)),
    "difference, product": lambda: fn(
        lambda m, x: (m.a(x) - x) * m.b(x) * 2 + torch.mul(m.a(x), 1 - x), a=conv(padding=1), b=conv(k=5, padding=2)
    ),
    "discarded sum in place": lambda: fn(
        lambda m, x: m.b((lambda y: (y.add_(m.c(x)), y)[1])(m.a(x))), a=conv(padding=1), b=conv(padding=1), c=conv(padding=1)
    ),
    "with alpha": lambda: fn(lambda m, x: torch.add(m.a(x), x, alpha=3), a=conv(padding=1)),
    "in place with alpha": lambda: fn(lambda m, x: m.a(x).add_(x, alpha=3), a=conv(padding=1)),
    "branches": lambda: S(Branches(conv(padding=1), S(conv(k=5, padding=2), conv(padding=1))), conv(4)),
    "halves by chunk": lambda: S(conv(2, 4, padding=1), Halves(middle()), conv(4, 2)),
    "halves by split": lambda: S(conv(2, 4, padding=1), Halves(middle(), "split"), Halves(nn.ReLU(), "split")),
    "halves by index": lambda: S(conv(2, 4, padding=1), Halves(middle(), "index"), conv(4, 2, padding=1)),
    "functions": lambda: fn(
        lambda m, x: F.relu6(F.hardswish(m.a(x)).clamp(0.1, 2)) * torch.sigmoid(m.b(F.silu(x))) + F.gelu(x),
        a=conv(padding=1), b=conv(padding=1),
    ),
    "functions in place": lambda: fn(
        lambda m, x: F.hardtanh(F.relu(m.a(x), inplace=True).clamp_(0, 1.5).mul_(2), 0, 2, inplace=True) - x, a=conv(padding=1)
    ),
    "modules": lambda: S(
        conv(padding=1), nn.PReLU(2), nn.ELU(inplace=True), conv(padding=1), nn.Hardswish(), nn.Dropout2d(), nn.LocalResponseNorm(2), nn.ChannelShuffle(2)
    ),
    "an own function": lambda: fn(lambda m, x: m.b(Swish.apply(m.a(x))), a=conv(padding=1), b=conv(padding=1)),
    "paddings from a shape": lambda: fn(
        lambda m, x: m.a(F.pad(x, [(-x.shape[-1]) % 4, 1, (-x.size(2)) % 8, (-x.size(dim=-2)) % 3])), a=conv(stride=2)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", INTERIORS)
def test_the_interior_is_the_padded_network_cropped(name: str) -> None:
    net = load(INTERIORS[name](), 2, 50, 47, mean=0.4, std=(0.5, 2), value_range=(-1, 3))
    layer = last(net)
    prepared = fv.Prepared(net, [layer])
    assert prepared.interior, prepared.why_not
    images = torch.rand(2, 2, 50, 47)
    whole = check_interior(net, prepared, layer, images)
    for crop in ((1, 0), (3, 2), (4, 5)):
        part = check_interior(net, prepared, layer, images, crop)
        assert min(part.shape) > 0
    # it is smaller than the padded grid, and still as large as the receptive fields that lie on the image
    field = net.layers[layer].receptive_field
    grid = net.layers[layer].grid
    if field is not None and name not in ("cut at once", "negative pad"):  # cuts are taken from what is held
        for axis in range(2):
            span = [t * field.stride[axis] + field.offset[axis] for t in range(grid[axis])]
            whole_ones = [t for t in span if t >= 0 and t + field.size[axis] <= net.input.grid[axis]]
            assert whole.shape[2 + axis] >= len(whole_ones)


def test_interiors_agree_by_an_independent_convolution() -> None:
    # no code of the library: what a valid convolution gives, written out
    net = load(S(conv(padding=1, bias=False), conv(k=5, padding=2, bias=False)))
    images = torch.rand(1, 2, 26, 23)
    a, b = net.module[0].weight.detach(), net.module[1].weight.detach()
    wanted = F.conv2d(F.conv2d(images, a), b)
    found = fv.Prepared(net, ["1"])(images, held=Held((0, 0), (26, 23)))["1"]
    close(found, wanted, 1e-5)
    assert held_by(found).crop == (3, 3)
    assert held_by(found).size == (26, 23)


@pytest.mark.parametrize(
    "name",
    ["padding", "tensorflow's same", "max pool", "residual in place", "branches", "halves by chunk", "average pool"],
)
def test_images_larger_than_the_networks_own(name: str) -> None:
    net = load(INTERIORS[name](), 2, 36, 32)
    layer = last(net)
    prepared = fv.Prepared(net, [layer])
    images = torch.rand(1, 2, 36 + 3 * 12, 32 + 2 * 12)  # congruent modulo every stride
    found = prepared(images, held=Held((0, 0), (36, 32)))[layer]
    assert prepared.interior, prepared.why_not
    y, x = held_by(found).crop
    truth = hooked(net, images, layer)
    assert found.shape[-2] > net.layers[layer].grid[0]
    close(found, truth[..., y : y + found.shape[-2], x : x + found.shape[-1]])


def drawn_step(draw: random.Random, depth: int = 0) -> nn.Module:
    """One step that keeps four channels."""
    kinds = ["conv", "conv", "conv", "same", "pad", "max", "average", "norm", "act"]
    kind = draw.choice(kinds + (["residual", "branches", "halves"] if depth == 0 else []))
    k = draw.randint(1, 4)
    if kind == "conv":
        return conv(4, 4, (k, draw.randint(1, 3)), stride=draw.choice([1, 1, 2]), padding=(draw.randint(0, 3), draw.randint(0, 2)),
                    dilation=draw.choice([1, 1, 2]), groups=draw.choice([1, 2, 4]))  # fmt: skip
    if kind == "same":
        return draw.choice([conv(4, 4, k, padding="same"), Conv2dSame(4, 4, k, stride=draw.choice([1, 2]))])
    if kind == "pad":
        return Padded(*(draw.randint(-1, 3) for _ in range(4)))
    if kind == "max":
        k = draw.randint(2, 3)
        return nn.MaxPool2d(k, draw.choice([1, 2]), draw.randint(0, 1), ceil_mode=draw.random() < 0.5)
    if kind == "average":
        k = draw.randint(2, 3)
        return nn.AvgPool2d(k, draw.choice([1, 2]), draw.randint(0, 1), draw.random() < 0.5, draw.random() < 0.5)
    if kind == "norm":
        return nn.BatchNorm2d(4)
    if kind == "act":
        return draw.choice([nn.ReLU(True), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Hardtanh(-1, 1, True)])
    body = [draw.choice([middle(4), middle(4, 5), nn.MaxPool2d(3, 1, 1), nn.ReLU(), S(Padded(2, 1, 0, 2), conv(4, 4, (3, 4)))])
            for _ in range(draw.randint(1, 2))]  # fmt: skip
    if kind == "residual":
        return Residual(S(*body), draw.random() < 0.5)
    if kind == "branches":
        return S(Branches(S(*body), middle(4)), conv(8, 4, 1))
    return Halves(S(middle(2), middle(2, draw.choice([1, 3, 5]))), draw.choice(["chunk", "split", "index"]))


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5))
def test_interiors_of_random_networks(seed: int, top: int, left: int) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    net = load(S(*(drawn_step(draw) for _ in range(draw.randint(2, 5))), nn.Identity()), 4, 41, 38)
    layer = last(net)
    prepared = fv.Prepared(net, [layer])
    assert prepared.interior or "nothing is left" in prepared.why_not, prepared.why_not
    if prepared.interior:
        images = torch.rand(1, 4, 41, 38)
        check_interior(net, prepared, layer, images)
        check_interior(net, prepared, layer, images, (top, left))


@pytest.mark.parametrize("layer", ["conv_stem", "blocks.1.1", "blocks.2.1", "blocks.1.0.bn2"])
def test_interiors_of_the_embedded_network(lite0, photos, layer: str) -> None:
    prepared = fv.Prepared(lite0, [layer])
    assert prepared.interior, prepared.why_not
    photo = torch.from_numpy(photos["astronaut"][40:264, 80:304]).permute(2, 0, 1)[None].float() / 255
    check_interior(lite0, prepared, layer, photo)
    for crop in ((5, 17), (80, 32)):
        check_interior(lite0, prepared, layer, photo, crop)
    larger = torch.from_numpy(photos["astronaut"][: 224 + 96, : 224 + 64]).permute(2, 0, 1)[None].float() / 255
    found = prepared(larger, held=Held((0, 0), (224, 224)))[layer]
    y, x = held_by(found).crop
    close(found, hooked(lite0, larger, layer)[..., y : y + found.shape[-2], x : x + found.shape[-1]])


def squeezed(m, x):
    y = m.a(x)
    return m.b(y * torch.sigmoid(m.l(y.mean((2, 3))))[:, :, None, None])


IMPOSSIBLE: dict[str, Callable[[], nn.Module]] = {
    "global pool": lambda: S(conv(padding=1), nn.AdaptiveAvgPool2d(1), conv(k=1)),
    "squeeze and excite": lambda: fn(squeezed, a=conv(padding=1), l=nn.Linear(2, 2), b=conv(padding=1)),
    "interpolate": lambda: S(conv(padding=1), nn.Upsample(scale_factor=2), conv()),
    "interpolate, function": lambda: fn(lambda m, x: m.a(F.interpolate(x, scale_factor=0.5, mode="bilinear")), a=conv()),
    "transposed conv": lambda: S(conv(padding=1), nn.ConvTranspose2d(2, 2, 4, 2, 1), conv()),
    "views": lambda: fn(lambda m, x: m.b(m.a(x).flatten(2).flip(2).view(x.shape)), a=conv(padding=1), b=conv(padding=1)),
    "permuted": lambda: fn(lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2)), a=conv(padding=1), b=conv()),
    "rolled": lambda: fn(lambda m, x: m.b(m.a(x).roll(3, 3)), a=conv(padding=1), b=conv()),
    "every other": lambda: fn(lambda m, x: m.b(m.a(x)[:, :, ::2, 1:]), a=conv(padding=1), b=conv()),
    "own statistics": lambda: S(conv(padding=1), nn.InstanceNorm2d(2), conv()),
    "statistics of the batch": lambda: S(conv(padding=1), nn.BatchNorm2d(2, track_running_stats=False), conv(padding=1)),
    "rows joined": lambda: fn(lambda m, x: m.b(torch.cat([m.a(x), x], 2)), a=conv(padding=1), b=conv()),
    "positions added": lambda: fn(
        lambda m, x: m.b(m.a(x) + torch.linspace(0, 1, x.shape[-1])), a=conv(padding=1), b=conv()
    ),
    "divisor override": lambda: S(conv(padding=1), nn.AvgPool2d(2, divisor_override=1), conv()),
    "indices": lambda: fn(lambda m, x: m.b(F.max_pool2d(m.a(x), 2, return_indices=True)[0]), a=conv(padding=1), b=conv()),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_where_there_is_no_interior_the_reason_is_told_and_pictures_are_made(name: str) -> None:
    net = load(IMPOSSIBLE[name](), 2, 24, 24)
    layer = last(net)
    prepared = fv.Prepared(net, [layer])
    assert not prepared.interior
    assert prepared.why_not
    images = torch.rand(2, 2, 24, 24)
    close(prepared(images)[layer].flatten(1), hooked(net, images, layer).flatten(1))
    for recipe in (fv.recipe_for(net, layer).but(steps=3), TINY):
        found = wa.visualize(net, layer, units=[0], recipe=recipe)
        assert found.images.shape[3] == 2
        assert np.isfinite(found.reached).all()


def test_constants_of_every_position_go_along_where_nothing_is_padded() -> None:
    # nothing is padded before the sum, so at the network's own size all fits; smaller canvases do not
    where = torch.linspace(-1, 1, 96).view(1, 1, 1, 96).expand(1, 1, 96, 96).clone()

    class Place(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("where", where)
            self.a = conv(padding=1)

        def forward(self, x):
            return self.a(x + self.where)

    net = load(S(Place(), nn.Identity()), 2, 96, 96)
    found = wa.visualize(net, "0.a", units=[0], recipe=fv.recipe_for(net, "0.a").but(steps=3))
    assert found.alive.all()


def test_a_write_to_an_edge_is_no_interior_or_is_exact() -> None:
    def forward(m, x):
        y = m.a(x)
        y[:, :, -1] = 7
        return m.b(y)

    net = load(fn(forward, a=conv(), b=conv()), 2, 24, 24)
    prepared = fv.Prepared(net, ["1"])
    images = torch.rand(1, 2, 24, 24)
    close(prepared(images)["1"], hooked(net, images, "1"))
    if net.layers["1"].receptive_field is not None and prepared.interior:
        part = prepared(images[..., :12, :12], held=Held((0, 0), (24, 24)))["1"]
        close(part, hooked(net, images, "1")[..., : part.shape[-2], : part.shape[-1]])


# --- folding ----------------------------------------------------------------------------------------------------------


def test_every_norm_after_a_convolution_is_folded(lite0, photos) -> None:
    norms = [m for m in lite0.module.modules() if isinstance(m, nn.BatchNorm2d)]
    prepared = fv.Prepared(lite0, ["classifier"])
    assert prepared.folded == len(norms) == 49
    photo = torch.from_numpy(photos["cat"][:224, :224]).permute(2, 0, 1)[None].float() / 255
    close(prepared(photo)["classifier"].flatten(1), hooked(lite0, photo, "classifier"))


def test_folding_keeps_values_and_counts() -> None:
    net = load(
        S(
            conv(2, 4, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            conv(4, 4, groups=2, padding=1), nn.BatchNorm2d(4, affine=False), nn.ReLU(inplace=True),
            nn.BatchNorm2d(4), conv(4, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 24 * 21, 5), nn.BatchNorm1d(5),
        )
    )  # fmt: skip
    prepared = fv.Prepared(net, ["12"])
    images = torch.rand(3, 2, 26, 23)
    assert prepared.folded == 3  # not the ones after ReLUs
    close(prepared(images)["12"].flatten(1), hooked(net, images, "12"))
    # and with a layer in the middle as well
    several = fv.Prepared(net, ["12", "3", "8", "1"])
    assert several.folded == 2
    for layer, values in several(images).items():
        close(values.reshape(hooked(net, images, layer).shape), hooked(net, images, layer))


def test_a_convolution_that_is_asked_for_gives_its_own_values() -> None:
    net = load(S(conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.ReLU(), S(conv(4, 4, padding=1)), nn.BatchNorm2d(4)))
    images = torch.rand(2, 2, 26, 23)
    for layers in (["0"], ["0", "1"], ["3.0", "4"], ["3", "4"], ["0", "2", "3.0"]):
        prepared = fv.Prepared(net, layers)
        for layer in layers:
            close(prepared(images)[layer], hooked(net, images, layer))
    assert fv.Prepared(net, ["4"]).folded == 2
    assert fv.Prepared(net, ["0", "4"]).folded == 1
    assert fv.Prepared(net, ["0", "3.0", "4"]).folded == 0


def test_modules_that_are_called_twice_are_not_folded() -> None:
    net = load(fn(lambda m, x: m.n(m.a(m.n(m.a(x)))), a=conv(padding=1), n=nn.BatchNorm2d(2)))
    prepared = fv.Prepared(net, ["1"])
    assert prepared.folded == 0
    images = torch.rand(2, 2, 26, 23)
    close(prepared(images)["1"], hooked(net, images, "1"))
    shared = load(
        fn(
            lambda m, x: m.m(m.a(x)) + m.n(m.b(m.a(x))),
            a=conv(padding=1),
            b=conv(padding=1),
            n=nn.BatchNorm2d(2),
            m=nn.BatchNorm2d(2),
        )
    )
    prepared = fv.Prepared(shared, ["1"])
    close(prepared(images)["1"], hooked(shared, images, "1"))


def test_weights_shared_by_two_modules_are_folded_apart() -> None:
    a, b = conv(padding=1), conv(padding=1)
    b.weight, b.bias = a.weight, a.bias
    net = load(S(a, nn.BatchNorm2d(2), nn.ReLU(), b, nn.BatchNorm2d(2)))
    prepared = fv.Prepared(net, ["4"])
    images = torch.rand(2, 2, 26, 23)
    assert prepared.folded == 2
    close(prepared(images)["4"], hooked(net, images, "4"))


def test_a_norm_whose_weight_is_read_elsewhere() -> None:
    net = load(
        fn(
            lambda m, x: m.n(m.a(x)) * m.n.weight.view(-1, 1, 1) + m.a.bias.sum(),
            a=conv(padding=1),
            n=nn.BatchNorm2d(2),
        )
    )
    prepared = fv.Prepared(net, ["1"])
    images = torch.rand(2, 2, 26, 23)
    close(prepared(images)["1"], hooked(net, images, "1"))


@pytest.mark.parametrize("how", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrised_convolutions(how: str) -> None:
    module = S(conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4))
    getattr(nn.utils.parametrizations, how)(module[0])
    net = load(module)
    prepared = fv.Prepared(net, ["4"])
    images = torch.rand(2, 2, 26, 23)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    close(prepared(images)["4"], hooked(net, images, "4"))
    assert wa.visualize(net, "4", units=[1], recipe=TINY).alive.all()
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


# --- padding that is deferred -----------------------------------------------------------------------------------------


def both(m, x):
    y = F.pad(x, (1, 1, 1, 1))
    return m.a(y) + y.mean()


def stale(m, x):
    y = F.pad(m.a(x), (1, 1, 1, 1))
    y.add_(1)
    return m.b(y)


def source_changes(m, x):
    x = m.a(x)
    y = F.pad(x, (1, 1, 1, 1))
    x.mul_(3)
    return m.b(y) + x


def indexed(m, x):
    y = F.pad(m.a(x), (2, 2, 1, 1))
    return m.b(y[:, :, 1:]) if y[0, 0, 0, 0] == 0 else m.b(y) * 0


def on_its_device(m, x):
    y = F.pad(m.a(x), (1, 1, 1, 1))
    return m.b(
        torch.cat([y, torch.ones(1, 1, *y.shape[2:], dtype=y.dtype, device=y.device).expand(len(y), -1, -1, -1)], 1)
    )


DEFERRED: dict[str, tuple[Callable[[], nn.Module], bool | None]] = {
    "read by a convolution": (lambda: S(nn.ZeroPad2d(2), conv(), nn.ReLU(), Padded(1, 1, 2, 2), conv(padding=1)), True),
    "same": (lambda: S(Conv2dSame(2, 2, 3), Conv2dSame(2, 2, 5), Conv2dSame(2, 2, 3, stride=2)), True),
    "text padding": (lambda: S(Padded(1, 1, 1, 1), conv(padding="same"), Padded(1, 1, 1, 1), conv(padding="valid")), None),
    "padded twice": (lambda: S(Padded(1, 1, 1, 1), Padded(2, 2, 0, 0), conv()), None),
    "other value": (lambda: S(nn.ConstantPad2d(1, 2.0), conv()), None),
    "reflected": (lambda: S(nn.ReflectionPad2d(1), conv()), None),
    "uneven": (lambda: S(Padded(1, 2, 1, 1), conv()), None),
    "mean of it": (lambda: fn(both, a=conv()), None),
    "in place": (lambda: fn(stale, a=conv(), b=conv()), None),
    "its source changes": (lambda: fn(source_changes, a=conv(), b=conv()), None),
    "indexed": (lambda: fn(indexed, a=conv(), b=conv()), None),
    "joined": (lambda: fn(on_its_device, a=conv(), b=conv(3)), None),
    "kernel by name": (lambda: fn(lambda m, x: F.conv2d(input=F.pad(x, (1, 1, 1, 1)), weight=m.a.weight) + m.a(F.pad(x, pad=[1, 1, 1, 1])), a=conv()), None),
    "read twice": (lambda: fn(lambda m, x: (lambda y: m.a(y) + m.b(y) + F.relu(y)[:, :, 1:-1, 1:-1])(F.pad(x, (1, 1, 1, 1))), a=conv(), b=conv()), None),
    "relu on it": (lambda: S(Padded(1, 1, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2), Padded(1, 1, 1, 1), nn.AvgPool2d(2)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFERRED)
def test_deferred_padding_changes_no_value(name: str) -> None:
    build, deferred = DEFERRED[name]
    net = load(build(), mean=0.3)
    layer = last(net)
    prepared = fv.Prepared(net, [layer])
    for size in ((26, 23), (17, 31)):
        images = torch.rand(2, 2, *size)
        close(prepared(images)[layer], hooked(net, images, layer), 1e-5)
        close(prepared(images, leak=0.1)[layer], hooked(net, images, layer), 1e-5)
    if deferred is not None:
        assert prepared._defer is deferred


def test_a_layer_that_pads_has_values() -> None:
    net = load(S(conv(), nn.ZeroPad2d(2), conv()))
    images = torch.rand(2, 2, 26, 23)
    for layers in (["1"], ["1", "2"]):
        seen = fv.Prepared(net, layers)(images)
        for layer in layers:
            close(seen[layer], hooked(net, images, layer))
    assert wa.visualize(net, "1", units=[0], recipe=TINY).alive.all()


def test_the_gradient_of_deferred_padding_is_the_modules_own() -> None:
    net = load(INTERIORS["tensorflow's same"](), 2, 24, 24)
    images = torch.rand(2, 2, 24, 24, requires_grad=True)
    (wanted,) = torch.autograd.grad(net.module(images).square().sum(), images)
    (found,) = torch.autograd.grad(fv.Prepared(net, [last(net)])(images)[last(net)].square().sum(), images)
    close(found, wanted)


# --- leaks ------------------------------------------------------------------------------------------------------------

INF = float("inf")
BOUNDED = {
    "nn.ReLU": (nn.ReLU(), 0, INF),
    "nn.ReLU in place": (nn.ReLU(inplace=True), 0, INF),
    "nn.ReLU6": (nn.ReLU6(), 0, 6),
    "nn.ReLU6 in place": (nn.ReLU6(inplace=True), 0, 6),
    "nn.Hardtanh": (nn.Hardtanh(), -1, 1),
    "nn.Hardtanh with bounds": (nn.Hardtanh(-0.5, 2.5), -0.5, 2.5),
    "nn.Hardtanh in place": (nn.Hardtanh(0, 3, inplace=True), 0, 3),
    "F.relu": (lambda x: F.relu(x), 0, INF),
    "F.relu in place": (lambda x: F.relu(x, inplace=True), 0, INF),
    "F.relu in place by position": (lambda x: F.relu(x, True), 0, INF),
    "F.relu_": (lambda x: F.relu_(x), 0, INF),
    "F.relu6": (lambda x: F.relu6(x), 0, 6),
    "F.relu6 in place": (lambda x: F.relu6(x, inplace=True), 0, 6),
    "F.hardtanh_": (lambda x: F.hardtanh_(x, -2.0, 2.0), -2, 2),
    "torch.relu": (lambda x: torch.relu(x), 0, INF),
    "torch.relu_": (lambda x: torch.relu_(x), 0, INF),
    "x.relu()": (lambda x: x.relu(), 0, INF),
    "x.relu_()": (lambda x: x.relu_(), 0, INF),
    "x.clamp(0, 6)": (lambda x: x.clamp(0, 6), 0, 6),
    "x.clamp(min=1)": (lambda x: x.clamp(min=1), 1, INF),
    "x.clamp_(-1, max=2)": (lambda x: x.clamp_(-1, max=2), -1, 2),
    "torch.clamp": (lambda x: torch.clamp(x, min=-1, max=4), -1, 4),
    "torch.clip": (lambda x: torch.clip(x, 0, 2), 0, 2),
    "x.clamp_min(0)": (lambda x: x.clamp_min(0), 0, INF),
    "x.clamp_min_(0)": (lambda x: x.clamp_min_(0), 0, INF),
}
SMOOTH = {
    "F.hardswish": lambda x: F.hardswish(x),
    "F.hardsigmoid": lambda x: F.hardsigmoid(x),
    "nn.Hardswish": nn.Hardswish(),
    "nn.Hardsigmoid": nn.Hardsigmoid(),
    "nn.Hardswish in place": nn.Hardswish(inplace=True),
    "nn.Hardsigmoid in place": nn.Hardsigmoid(inplace=True),
    "nn.Threshold": nn.Threshold(0.5, 0.0),
    "F.threshold": lambda x: F.threshold(x, 0.5, 0.0),
    "x.clamp(max=2)": lambda x: x.clamp(max=2),
}


def pulled(function, leak: float | None, start: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The function's value, what its argument holds afterwards, and the gradient of a weighted sum."""
    leaf = start.clone().requires_grad_()
    x = leaf * 1  # not a leaf: functions may write into it
    if leak is None:
        y = function(x)
    else:
        with Rewriting(leak):
            y = function(x)
    (gradient,) = torch.autograd.grad((y * weight).sum(), leaf)
    return y.detach().clone(), x.detach().clone(), gradient


@pytest.mark.parametrize("name", [*BOUNDED, *SMOOTH])
def test_leaks_pass_a_share_of_the_gradient_and_change_no_value(name: str) -> None:
    function = BOUNDED[name][0] if name in BOUNDED else SMOOTH[name]
    start, weight = torch.randn(3, 4, 5, 6) * 4, torch.randn(3, 4, 5, 6)
    y, x, own = pulled(function, None, start, weight)
    for leak in (0.1, 1.0, 0.37):
        leaky, argument, found = pulled(function, leak, start, weight)
        assert torch.equal(leaky, y)
        assert torch.equal(argument, x), "what a function in place writes"
        wanted = torch.where(own == 0, leak * weight, own)
        if name in BOUNDED:
            _, low, high = BOUNDED[name]
            outside = (start < low) | (start > high)
            assert outside.any()
            assert torch.equal(outside, own == 0)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(pulled(function, 0.0, start, weight)[2], own)
    assert torch.equal(pulled(function, None, start, weight)[2], own), "nothing stays behind"


def test_in_place_functions_on_a_part_of_a_tensor_leak_too() -> None:
    def function(x):
        F.relu(x[:, :2], inplace=True)
        return x * 2

    start, weight = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    y, _, own = pulled(function, None, start, weight)
    leaky, _, found = pulled(function, 0.1, start, weight)
    assert torch.equal(leaky, y)
    torch.testing.assert_close(found, torch.where(own == 0, 0.2 * weight, own))


def test_leaks_do_not_reach_outside_their_with_or_thread() -> None:
    x = torch.full((4,), -1.0, requires_grad=True)
    found = []
    with Rewriting(0.5):
        (inner,) = torch.autograd.grad(F.relu(x).sum(), x)
        other = threading.Thread(target=lambda: found.append(torch.autograd.grad(F.relu(x).sum(), x)[0]))
        other.start()
        other.join()
    (outer,) = torch.autograd.grad(F.relu(x).sum(), x)
    assert inner.tolist() == [0.5] * 4
    assert outer.tolist() == found[0].tolist() == [0.0] * 4
    with pytest.raises(ZeroDivisionError), Rewriting(0.5):
        raise ZeroDivisionError
    assert torch.autograd.grad(F.relu(x).sum(), x)[0].tolist() == [0.0] * 4


@pytest.mark.parametrize("act", [nn.ReLU(True), nn.ReLU6(), nn.Hardswish(), nn.Hardtanh(0, 1, inplace=True)], ids=str)
def test_networks_leak_as_written_out_by_hand(act: nn.Module) -> None:
    net = load(S(conv(2, 4, padding=1), nn.BatchNorm2d(4), act, conv(4, 3, padding=1)), 2, 16, 16)
    images = torch.rand(2, 2, 16, 16, requires_grad=True)
    out = fv.Prepared(net, ["3"])(images, leak=0.2)["3"]
    weight = torch.randn_like(out)
    (found,) = torch.autograd.grad((out * weight).sum(), images)
    # by hand: z before the non-linearity, its slope by autograd, leaks where it is 0
    z = net.module[1](net.module[0](images))
    flat = z.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(act(flat * 1).sum(), flat)
    later = torch.autograd.grad((net.module[3](mid := act(z.detach().clone()).requires_grad_()) * weight).sum(), mid)[0]
    (wanted,) = torch.autograd.grad(z, images, later * torch.where(slope == 0, 0.2, slope))
    close(found, wanted)


# --- several layers ---------------------------------------------------------------------------------------------------


def test_a_layer_keeps_its_values_where_the_next_writes_into_them() -> None:
    net = load(
        S(
            conv(2, 4, padding=1),
            nn.ReLU(inplace=True),
            conv(4, 4, padding=1),
            nn.Hardtanh(0, 1, inplace=True),
            nn.Identity(),
        )
    )
    images = torch.rand(2, 2, 26, 23)
    prepared = fv.Prepared(net, ["0", "2", "4"])
    for seen in (prepared(images), prepared(images, leak=0.1)):
        for layer in ("0", "2", "4"):
            close(seen[layer], hooked(net, images, layer))
    assert prepared.interior, prepared.why_not
    for layer, inner in prepared(images, held=Held((0, 0), (26, 23))).items():
        y, x = held_by(inner).crop
        close(inner, hooked(net, images, layer)[..., y : y + inner.shape[-2], x : x + inner.shape[-1]])


def test_later_calls_of_a_module_are_layers_of_their_own() -> None:
    net = load(fn(lambda m, x: m.r(m.b(m.r(m.a(x)))), a=conv(2, 4, padding=1), b=conv(4, 3, padding=1), r=nn.ReLU()))
    images = torch.rand(2, 2, 26, 23)
    seen = fv.Prepared(net, ["0.r", "0.r#2"])(images)
    close(seen["0.r"], hooked(net, images, "0.r", 1))
    close(seen["0.r#2"], hooked(net, images, "0.r", 2))
    assert seen["0.r#2"].shape[1] == 3


def test_channels_that_lie_last_come_first() -> None:
    net = load(
        fn(
            lambda m, x: m.b(m.n(m.l(m.a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
            a=conv(),
            l=nn.Linear(2, 5),
            n=nn.LayerNorm(5),
            b=conv(5),
        )
    )
    images = torch.rand(2, 2, 26, 23)
    close(fv.Prepared(net, ["0.l"])(images)["0.l"], hooked(net, images, "0.l").permute(0, 3, 1, 2))
    assert wa.visualize(net, "0.l", units=[4], recipe=TINY).alive.all()


# --- the user's module stays ------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Writes into a buffer whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("energy", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.energy.mul_(0.9).add_(x.detach().square().mean() * 0.1)
        return x


def lived_in() -> nn.Module:
    """A module in a mixed state: flags, modes, hooks and memory formats as nobody would choose them."""
    module = S(
        conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), conv(4, 4, padding=1),
        nn.BatchNorm2d(4), nn.ReLU6(inplace=True), S(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )  # fmt: skip
    settle(module)
    module.train()
    module[1].eval()
    module[7].eval()
    module[0].weight.requires_grad_(False)
    module[4].to(memory_format=torch.channels_last)
    module[4].weight.grad = torch.ones_like(module[4].weight)
    module[4].register_forward_hook(lambda m, a, out: None)
    module[5].register_forward_pre_hook(lambda m, a: None)
    module[7].register_full_backward_hook(lambda m, a, b: None)
    module.anything = {"a": [1, 2]}
    return module


def state(module: nn.Module) -> dict:
    """Everything about a module that could be noticed."""
    found = {}
    for name, t in (*module.named_parameters(), *module.named_buffers()):
        found[name] = (
            id(t), t.data_ptr(), t.stride(), t.dtype, t.device, t.requires_grad, t._version, t.detach().clone().numpy().tobytes(),
            None if t.grad is None else t.grad.clone().numpy().tobytes(),
        )  # fmt: skip
    for name, m in module.named_modules():
        hooks = [tuple(v.items()) for k, v in vars(m).items() if "hooks" in k and isinstance(v, dict)]
        found[f"{name}!"] = (m.training, hooks, "forward" in vars(m), sorted(vars(m)), type(m), id(m))
    return found


class Stop(Exception):
    pass


def test_the_module_is_left_as_it_was() -> None:
    module = lived_in()
    net = wa.load(module, input=wa.InputSpec(shape=(2, 20, 20)))
    before = state(module)
    _ = net.layers
    assert state(module) == before
    for layer in ("0", "1", "4", "6", "7.2"):
        wa.visualize(net, layer, units=[0, 1], recipe=TINY)
        assert state(module) == before, layer
    # the module still trains as before, through its own dropout and norms
    module(torch.rand(4, 2, 20, 20)).sum().backward()
    assert module[5].weight.grad is not None


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, RuntimeError, MemoryError])
def test_the_module_is_left_as_it_was_when_rendering_breaks_off(error) -> None:
    module = lived_in()
    net = wa.load(module, input=wa.InputSpec(shape=(2, 20, 20)))
    before = state(module)
    calls = []

    def score(seen):
        calls.append(1)
        if len(calls) > 3:
            raise error("enough")
        return seen.outputs["4"].mean((1, 2, 3))

    def progress(done, total):
        raise error("enough")

    objective = fv.Objective(score, ("4",), ("breaks",))
    with pytest.raises(ArgumentError if error is MemoryError else error):
        wa.visualize(net, objective=objective, recipe=TINY)
    assert state(module) == before
    with pytest.raises(ArgumentError if error is MemoryError else error):
        wa.visualize(net, "6", units=[0], recipe=TINY, progress=progress)
    assert state(module) == before
    x = torch.full((1,), -1.0, requires_grad=True)
    assert torch.autograd.grad(F.relu(x), x)[0].item() == 0
    assert wa.visualize(net, "6", units=[0], recipe=TINY).alive.all()


def test_a_module_that_raises_on_the_way() -> None:
    def forward(m, x):
        if torch.is_grad_enabled() and x.requires_grad:
            raise Stop("no gradients here")
        return m.a(x)

    module = fn(forward, a=conv(padding=1))
    net = load(module)
    before = state(module)
    with pytest.raises(Stop):
        wa.visualize(net, "1", units=[0], recipe=TINY)
    assert state(module) == before


def test_buffers_that_a_forward_writes_to_stay() -> None:
    module = S(conv(padding=1), Counting(), nn.ReLU(), conv(padding=1))
    net = load(module)
    _ = net.layers  # runs the module itself, once
    before = state(module)
    wa.visualize(net, "3", units=[0], recipe=TINY)
    assert module[1].calls == int(np.frombuffer(before["1.calls"][7], np.int64)[0])
    assert state(module) == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(dtype) -> None:
    torch.manual_seed(3)
    plain = settle(S(conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 3, padding=1)))
    module = plain.to(dtype)
    net = wa.load(module, input=wa.InputSpec(shape=(2, 20, 20)))
    kinds = {k: v.dtype for k, v in module.state_dict().items()}
    found = wa.visualize(net, "3", units=[0, 2], recipe=TINY)
    assert found.alive.all()
    assert {k: v.dtype for k, v in module.state_dict().items()} == kinds
    images = torch.rand(2, 2, 20, 20)
    seen = fv.Prepared(net, ["3"])(images)["3"]
    assert seen.dtype == torch.float32
    with torch.no_grad():
        close(seen, module.double()(images.double()).float())  # the stored weights, computed precisely


def test_a_module_in_training_is_shown_as_in_evaluation() -> None:
    module = settle(S(conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.9), conv(4, 3, padding=1)))
    spec = wa.InputSpec(shape=(2, 20, 20))
    wanted = wa.visualize(wa.load(module, input=spec), "3", units=[0], recipe=TINY)
    module.train()
    found = wa.visualize(wa.load(module, input=spec), "3", units=[0], recipe=TINY)
    np.testing.assert_array_equal(found.images, wanted.images)
    np.testing.assert_array_equal(found.reached, wanted.reached)
    assert module[2].training


def test_hooks_that_change_outputs_are_respected() -> None:
    spec = wa.InputSpec(shape=(2, 20, 20))
    module = settle(S(conv(2, 4, padding=1), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 3, padding=1)))
    handles = [
        module[0].register_forward_hook(lambda m, a, out: out * 3 + 1),
        module[2].register_forward_hook(
            lambda m, a, k, out: out * torch.tensor([0.0, 1, -2, 1]).view(-1, 1, 1), with_kwargs=True
        ),
        module[3].register_forward_pre_hook(lambda m, a: (a[0] + 5,)),
        module[3].register_forward_hook(lambda m, a, out: out[:, :2]),
    ]
    net = wa.load(module, input=spec)
    assert net.layers["3"].units in (2, 3)
    images = torch.rand(2, 2, 20, 20)
    for layer in ("0", "1", "2", "3"):
        close(fv.Prepared(net, [layer])(images)[layer], hooked(net, images, layer))
    with torch.no_grad():
        assert fv.Prepared(net, ["3"])(images)["3"].shape == module(images).shape
    assert wa.visualize(net, "3", units=[1], recipe=TINY).alive.all()
    for handle in handles:
        handle.remove()
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in module.modules())


def test_a_hook_that_is_taken_off_later_leaves_nothing_behind() -> None:
    module = settle(S(conv(2, 3, padding=1), nn.ReLU()))
    handle = module[0].register_forward_hook(lambda m, a, out: out * 0 + 1)
    net = wa.load(module, input=wa.InputSpec(shape=(2, 20, 20)))
    prepared = fv.Prepared(net, ["0"])
    handle.remove()
    images = torch.rand(1, 2, 20, 20)
    close(fv.Prepared(net, ["0"])(images)["0"], hooked(net, images, "0"))
    close(prepared(images)["0"], torch.ones(1, 3, 20, 20))  # the copy is of the module as it was


# --- threads ----------------------------------------------------------------------------------------------------------


def in_threads(jobs: list[Callable[[], wa.FeatureImages]]) -> list:
    results: list = [None] * len(jobs)
    ready = threading.Barrier(len(jobs))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(i: int) -> None:
        ready.wait()
        try:
            results[i] = jobs[i]()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            results[i] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def deep() -> nn.Module:
    torch.manual_seed(5)
    return settle(
        S(*(part for _ in range(6) for part in (Conv2dSame(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(inplace=True))))
    )


def test_two_threads_with_one_network() -> None:
    net = wa.load(deep(), input=wa.InputSpec(shape=(4, 40, 40)))
    recipe = fv.Recipe(steps=8, side=32, jitter=4)
    jobs = [lambda layer=layer: wa.visualize(net, layer, recipe=recipe, batch=2) for layer in ("5", "10", "17")]
    alone = [job() for job in jobs]
    for _ in range(2):
        for found, wanted in zip(in_threads(jobs), alone, strict=True):
            np.testing.assert_array_equal(found.images, wanted.images)
            np.testing.assert_array_equal(found.reached, wanted.reached)


def test_two_threads_with_one_prepared_network() -> None:
    net = wa.load(deep(), input=wa.InputSpec(shape=(4, 40, 40)))
    prepared = fv.Prepared(net, ["17"])
    images = torch.rand(3, 4, 40, 40)
    alone = [prepared(images)["17"], prepared(images, 0.1, Held((0, 0), (40, 40)))["17"]]
    for _ in range(5):
        both = in_threads([lambda: prepared(images)["17"], lambda: prepared(images, 0.1, Held((0, 0), (40, 40)))["17"]])
        for found, wanted in zip(both, alone, strict=True):
            assert torch.equal(found, wanted)


def test_two_threads_with_a_network_that_nobody_has_looked_at() -> None:
    recipe = fv.Recipe(steps=3, side=32, jitter=4)
    spec = wa.InputSpec(shape=(4, 40, 40))
    alone = {n: wa.visualize(wa.load(deep(), input=spec), n, recipe=recipe, units=[0]).images for n in ("10", "17")}
    for _ in range(4):
        module = deep().train()
        net = wa.load(module, input=spec)
        found = in_threads([lambda n=n, net=net: wa.visualize(net, n, recipe=recipe, units=[0]) for n in ("10", "17")])
        for record, wanted in zip(found, alone.values(), strict=True):
            np.testing.assert_array_equal(record.images, wanted)
        assert all(m.training for m in module.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


# --- what cannot be ---------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Features of a buffer beside those of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("code", torch.randn(1, 2, 8, 8))
        self.a, self.b, self.c = conv(), conv(), conv()

    def forward(self, x):
        return self.a(x).mean() + self.b(self.code) + self.c(torch.zeros_like(x))[:, :, :6, :6]


@pytest.mark.parametrize("layer", ["b", "c"])
@pytest.mark.parametrize("units", [[0], None])
def test_a_layer_without_a_way_from_the_input(layer: str, units) -> None:
    net = load(Constant())
    with pytest.raises(ArgumentError, match=layer):
        wa.visualize(net, layer, units=units, recipe=TINY)


def test_an_objective_that_ignores_the_image() -> None:
    net = load(S(conv(padding=1)))
    nothing = fv.Objective(lambda seen: torch.zeros(len(seen.images)), (), ("nothing",))
    with pytest.raises(ArgumentError, match="no gradient towards the image"):
        wa.visualize(net, "0", objective=nothing, recipe=TINY)
    detached = fv.Objective(lambda seen: seen.outputs["0"].detach().mean((1, 2, 3)), ("0",), ("detached",))
    with pytest.raises(ArgumentError, match="no gradient towards the image"):
        wa.visualize(net, objective=detached, recipe=TINY)
    wrong = fv.Objective(lambda seen: seen.outputs["0"].mean(), ("0",), ("one number",))
    with pytest.raises(ArgumentError, match="values for"):
        wa.visualize(net, objective=wrong, recipe=TINY)


@pytest.mark.parametrize(("module", "shape"), [(S(nn.Linear(6, 3)), (6,)), (S(nn.Conv1d(2, 3, 3), nn.ReLU()), (2, 30))])
def test_inputs_that_are_no_images(module, shape) -> None:
    net = wa.load(module, input=wa.InputSpec(shape=shape))
    with pytest.raises(ArgumentError, match=r"images.*expanded_weights"):
        wa.visualize(net, "0", units=[0])
    with pytest.raises(ArgumentError, match="expanded_weights"):
        wa.visualize(net, objective=fv.unit("0", 0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad: float) -> None:
    module = S(conv(padding=1), nn.BatchNorm2d(2), nn.Tanh(), conv(padding=1), conv(padding=1))
    settle(module)
    with torch.no_grad():
        module[3].weight[1, 0, 1, 1] = bad
    net = wa.load(module, input=wa.InputSpec(shape=(2, 20, 20)))
    with pytest.raises(WeightValuesError, match=r"3\.weight"):
        wa.visualize(net, "4", units=[0], recipe=TINY)
    assert wa.visualize(net, "2", units=[0], recipe=TINY).alive.all()  # before it, all is well
    clean = load(fn(lambda m, x: m.a(x) / 0, a=conv(padding=1)))
    with pytest.raises(WeightValuesError, match="no weight does"):
        wa.visualize(clean, "1", units=[0], recipe=TINY)


def test_modules_that_cannot_be_copied() -> None:
    module = S(conv(padding=1), nn.ReLU())
    module.guard = threading.Lock()
    with pytest.raises(ArgumentError, match=r"cannot be copied.*__deepcopy__"):
        wa.visualize(load(module), "1", units=[0], recipe=TINY)


def test_a_checkpoint_alone_makes_no_pictures(tmp_path) -> None:
    torch.save({"a.weight": torch.randn(4, 2, 3, 3)}, tmp_path / "w.pt")
    net = wa.load(tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match=r"needs the architecture.*Build the module"):
        wa.visualize(net, "a", units=[0])


def test_a_forward_with_more_arguments() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv(padding=1)

        def forward(self, x, t):
            return self.a(x) * t

    net = wa.load(Two(), input=wa.InputSpec(shape=(2, 20, 20)))
    with pytest.raises(LoadError, match="wrapper module"):
        wa.visualize(net, "a", units=[0])


class Remembering(nn.Module):
    """Gives more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.l = conv(padding=1), nn.LSTM(2, 3, batch_first=True)

    def forward(self, x):
        return self.l(self.a(x).flatten(2).transpose(1, 2))


@pytest.mark.parametrize("units", [None, [0]])
def test_outputs_without_units(units) -> None:
    net = load(S(nn.Flatten(2), nn.Unflatten(2, (26, 23)), conv()))
    assert net.layers["0"].units == 2
    shuffled = load(fn(lambda m, x: m.i(m.a(x).reshape(1, -1, 4)), a=conv(2, 2, padding=1), i=nn.Identity()), 2, 8, 8)
    assert shuffled.layers["0.i"].units == 0
    with pytest.raises(ArgumentError, match=r"0\.i.*(no units|channel axis)"):
        wa.visualize(shuffled, "0.i", units=units, recipe=TINY)


def test_a_recurrent_layer_is_refused_clearly() -> None:
    net = load(Remembering(), 2, 8, 8)
    with pytest.raises(ArgumentError, match="'l'"):
        wa.visualize(net, "l", recipe=TINY)
    assert wa.visualize(net, "a", units=[0], recipe=TINY).alive.all()


def test_networks_with_hardswish_are_visualized() -> None:
    net = load(S(conv(2, 4, padding=1), nn.Hardswish(), conv(4, 3, padding=1)), 2, 32, 32)
    assert wa.visualize(net, "2", units=[0, 1, 2], recipe="quick").alive.all()


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (8, 8), (1, 9), (7, 40)])
@pytest.mark.parametrize("style", ["display", "quick", "max"])
def test_tiny_inputs(size, style: str) -> None:
    module = S(
        conv(3, 4, padding=1),
        nn.ReLU(),
        conv(4, 4, padding=1, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    net = load(module, 3, *size)
    for layer in ("0", "2", "5"):
        recipe = fv.recipe_for(net, layer, style)
        found = wa.visualize(net, layer, units=[1], recipe=recipe.but(steps=min(recipe.steps, 6)))
        assert found.images.shape[0] == 1
        assert found.images.shape[3] == 3
        assert np.isfinite(found.reached).all()


@pytest.mark.parametrize("size", [(20, 44), (224, 96), (64, 300)])
def test_networks_of_one_size_fall_back_to_it(size) -> None:
    module = S(
        conv(2, 4, stride=4, padding=1), nn.ReLU(), conv(4, 4, stride=2, padding=1), nn.ReLU(), conv(4, 3, stride=4, padding=1), nn.Flatten(),
        nn.LazyLinear(5),
    )  # fmt: skip
    module(torch.zeros(1, 2, *size))
    net = load(module, 2, *size)
    found = wa.visualize(net, "6", units=[0, 3], recipe=fv.recipe_for(net, "6").but(steps=3))
    assert found.images.shape[1:3] == size
    if size != (20, 44):  # not smaller than the recipe's view, so nothing had to change
        assert any("refuses" in note for note in found.provenance.notes)
    shown = torch.from_numpy(found.images).permute(0, 3, 1, 2).float() / 255
    wanted = hooked(net, shown, "6")[[0, 1], [0, 3]]
    torch.testing.assert_close(torch.from_numpy(found.reached), wanted, rtol=0.05, atol=0.05)
    # before the flattening the layers are free
    free = wa.visualize(net, "2", units=[0], recipe=fv.recipe_for(net, "2").but(steps=3))
    assert not any("refuses" in note for note in free.provenance.notes)
