"""Rendering: against closed forms, the untouched module on the finished pictures, and the same pictures made alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from catalogue import Fn, S, conv
from test_direct import settle
from torch import Tensor, nn

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.featurevis.plan import make_plan
from weightatlas.featurevis.render import Renderer, seed_of

pytestmark = pytest.mark.usefixtures("one_thread")


def load(module: nn.Module, *shape: int, **spec) -> wa.Network:
    return wa.load(settle(module), input=wa.InputSpec(shape=shape or (3, 32, 32), **spec))


def small() -> wa.Network:
    torch.manual_seed(1)
    return load(
        S(conv(3, 6, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 8, stride=2, padding=1), nn.ReLU(inplace=True),
          conv(8, 8, padding=1)), mean=0.5, std=0.25,
    )  # fmt: skip


def whole() -> wa.Network:
    """A network that ends in logits."""
    torch.manual_seed(2)
    return load(S(conv(3, 6, padding=1), nn.ReLU(), conv(6, 8, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)),
                mean=(0.2, 0.5, 0.6), std=(0.2, 0.3, 0.4), value_range=(-1, 2))  # fmt: skip


QUICK = fv.Recipe(steps=8, side=24, jitter=4)


def renderer(net: wa.Network, layers: list[str], recipe: fv.Recipe = QUICK) -> Renderer:
    prepared = fv.Prepared(net, layers)
    return Renderer(prepared, make_plan(net, prepared, recipe))


def hooked(net: wa.Network, inputs: Tensor, layer: str, call: int = 1) -> Tensor:
    seen: list[Tensor] = []
    handle = net.module.get_submodule(layer).register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    try:
        with torch.no_grad():
            net.module(inputs)
    finally:
        handle.remove()
    return seen[call - 1]


def as_judged(net: wa.Network, made: wa.FeatureImages) -> Tensor:
    """The finished pictures as the network saw them at the end: pictures without edges go on at their other side."""
    pixels = made.images
    side, jitter = made.view[0], made.recipe["jitter"]
    if tuple(pixels.shape[1:3]) != made.view:
        times = (side + jitter) // pixels.shape[1] + 1
        off = jitter // 2
        pixels = np.tile(pixels, (1, times, times, 1))[:, off : off + side, off : off + side]
    spec = wa.InputSpec(
        shape=(pixels.shape[3], *pixels.shape[1:3]),
        value_range=net.input.value_range,
        mean=net.input.mean,
        std=net.input.std,
    )
    return wa.load(net.module, input=spec).preprocess(pixels)


def unseen_padding(net: wa.Network, layer: str, side: int, begin: int) -> tuple[int, int]:
    """First and last-plus-one position of a square layer that sees only pixels begin … begin + side − 1."""
    field = net.layers[layer].receptive_field
    fits = [
        t for t in range(1000)
        if t * field.stride[0] + field.offset[0] >= begin and t * field.stride[0] + field.offset[0] + field.size[0] <= begin + side
    ]  # fmt: skip
    return fits[0], fits[-1] + 1


# --- the same again ---------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    net = small()
    a, b = (wa.visualize(net, "5", units=[1, 4, 6], recipe=QUICK, batch=2) for _ in range(2))
    for name in ("images", "reached", "viewed", "begun", "seeds", "tries", "alive"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    again = wa.visualize(small(), "5", units=[1, 4, 6], recipe=QUICK, batch=2)  # another module of the same weights
    np.testing.assert_array_equal(a.images, again.images)
    other = wa.visualize(net, "5", units=[1, 4, 6], recipe=QUICK, batch=2, seed=1)
    assert not set(a.seeds.tolist()) & set(other.seeds.tolist())
    for i in range(3):
        assert (a.images[i] != other.images[i]).mean() > 0.3
    torch.manual_seed(99)  # the global generator decides nothing, and is not used up
    state = torch.get_rng_state()
    np.testing.assert_array_equal(wa.visualize(net, "5", units=[1, 4, 6], recipe=QUICK, batch=2).images, a.images)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_and_turns_are_the_same_again() -> None:
    net, recipe = small(), QUICK.but(noise=0.1, rotate=20.0, scale=0.3, pad=2)
    a, b = (wa.visualize(net, "5", units=[1, 4], recipe=recipe) for _ in range(2))
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.viewed, b.viewed)


def test_a_unit_does_not_depend_on_those_beside_it() -> None:
    net = small()
    together = wa.visualize(net, "5", recipe=QUICK)
    assert together.units.tolist() == list(range(8))
    for some in ([6], [6, 2], [2, 6, 0]):
        alone = wa.visualize(net, "5", units=some, recipe=QUICK)
        np.testing.assert_array_equal(alone.seeds, together.seeds[some])
        np.testing.assert_allclose(alone.begun, together.begun[some], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(alone.reached, together.reached[some], rtol=1e-2)
        apart = np.abs(alone.images.astype(int) - together.images[some].astype(int))
        assert apart.mean() < 1
    assert len(set(together.seeds.tolist())) == 8


def test_the_first_steps_gradient_is_that_of_each_picture_alone() -> None:
    net = small()
    for recipe in (QUICK, fv.recipe_for(net, "5"), QUICK.but(rotate=10.0, scale=0.2, noise=0.1)):
        made = renderer(net, ["5"], recipe)
        numbers, seeds = [0, 3, 7, 3], [11, 12, 13, 14]

        def pulled(rows, made=made, recipe=recipe, numbers=numbers, seeds=seeds):
            draws = [torch.Generator().manual_seed(seeds[r]) for r in rows]
            grains = [torch.Generator().manual_seed(seeds[r] + 100) for r in rows]
            z = made.canvas.start(draws)
            drawn = made.plan.views.draw(draws, recipe.steps)[0]
            objective = fv.units("5", [numbers[r] for r in rows])
            return z.detach(), made.gradient(objective, z, drawn, grains)

        starts, together = pulled(range(4))
        for r in range(4):
            start, alone = pulled([r])
            assert torch.equal(start[0], starts[r])
            largest = alone.abs().max()
            assert largest > 0
            assert float((alone[0] - together[r]).abs().max() / largest) < 1e-4


def test_a_renderers_gradient_is_the_modules_own() -> None:
    # without leak and jitter: autograd through the untouched module and a canvas written out here
    net = whole()
    made = renderer(net, ["6"], fv.Recipe(steps=1, side=32, jitter=0, leak=0.0, canvas="pixels", contrast=1.5))
    z = made.canvas.start([torch.Generator().manual_seed(0)])
    found = made.gradient(fv.unit("6", 2), z, torch.zeros(1, 4), [torch.Generator()])
    leaf = z.detach().clone().requires_grad_()
    mixed = torch.einsum("ij,njhw->nihw", made.canvas._mix, leaf)
    x = torch.sigmoid(1.5 * mixed)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.input.mean, net.input.std))
    net.module((x * 3 - 1 - mean) / std)[0, 2].backward()
    torch.testing.assert_close(found, leaf.grad, rtol=1e-4, atol=1e-6)


# --- the maximiser is known -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canvas", ["pixels", "fourier", "bands", "maco"])
def test_the_picture_of_a_filter_is_the_filter(canvas: str) -> None:
    torch.manual_seed(4)
    net = load(S(conv(1, 3, 8)), 1, 32, 32)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    filters = torch.stack([torch.cos(4 * y), y + 0 * x, x * y])
    filters = filters - filters.mean((1, 2), keepdim=True)
    with torch.no_grad():
        net.module[0].weight[:, 0] = filters
        net.module[0].bias[:] = 0.25
    recipe = fv.Recipe(steps=60, side=8, jitter=0, canvas=canvas, at="centre", contrast=4.0)
    made = wa.visualize(net, "0", recipe=recipe)
    assert made.images.shape == (3, 8, 8, 1)
    best = filters.clamp(min=0).sum((1, 2)).numpy() + 0.25  # white where the filter is positive, black elsewhere
    assert (made.reached <= best * (1 + 1e-5)).all()
    free = canvas in ("pixels", "fourier")
    assert (made.reached > (0.98 if free else 0.45) * best).all()
    for i in range(3):
        patch = made.images[i, :, :, 0].astype(float).ravel()
        assert np.corrcoef(patch, filters[i].numpy().ravel())[0, 1] > 0.55
        sign = np.corrcoef(patch, (filters[i] > 0).float().numpy().ravel())[0, 1]
        assert sign > (0.95 if free else 0.75 if canvas == "bands" else 0.5)
        # and of no other filter
        others = [np.corrcoef(patch, filters[k].numpy().ravel())[0, 1] for k in range(3) if k != i]
        assert max(np.abs(others)) < 0.4


def test_the_opposite_is_the_negative() -> None:
    net = load(S(conv(1, 1, 5)), 1, 16, 16)
    with torch.no_grad():
        net.module[0].weight.sub_(net.module[0].weight.mean())
    recipe = fv.Recipe(steps=40, side=5, jitter=0, canvas="pixels")
    up = wa.visualize(net, objective=fv.unit("0", 0, at="centre"), recipe=recipe)
    down = wa.visualize(net, objective=-fv.unit("0", 0, at="centre"), recipe=recipe)
    both = [v.images[0, :, :, 0].astype(float).ravel() for v in (up, down)]
    assert np.corrcoef(*both)[0, 1] < -0.8


@pytest.mark.parametrize(("canvas", "apart"), [("fourier", 150), ("pixels", 100), ("bands", 5)])
def test_a_colour_gives_that_colour(canvas: str, apart: int) -> None:
    net = load(S(nn.Conv2d(3, 4, 1)), 3, 32, 32, mean=0.5, std=0.5)
    colours = torch.tensor([[1.0, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [0.5, 0.5, -1]])
    with torch.no_grad():
        net.module[0].weight[:] = colours.view(4, 3, 1, 1)
        net.module[0].bias[:] = 0
    made = wa.visualize(net, "0", recipe=fv.Recipe(steps=40, side=16, canvas=canvas))
    mean = made.images.reshape(4, -1, 3).mean(1)
    assert made.alive.all()
    for i, wanted in enumerate(colours.numpy()):
        assert mean[i][wanted > 0].min() > mean[i][wanted < 0].max() + apart, (i, mean[i])
    for at, style in (("mean", "quick"), ("peaks", "display")):  # the rules keep colours as pale as photographs'
        made = wa.visualize(net, "0", recipe=fv.recipe_for(net, "0", style).but(at=at))
        mean = made.images.reshape(4, -1, 3).mean(1)
        for i, wanted in enumerate(colours.numpy()):
            assert mean[i][wanted > 0].min() > mean[i][wanted < 0].max() + 4, (i, mean[i])


@pytest.mark.parametrize("layer", ["conv_stem", "blocks.1.1", "blocks.2.0.act1"])
def test_objectives_grow_and_views_agree(lite0, layer: str) -> None:
    made = wa.visualize(lite0, layer, units=[2, 5], recipe="quick")
    assert made.alive.all()
    assert (made.reached > made.begun).all()
    # random views lie near what is reached: far beyond the start, and not beyond the picture as it is
    assert (made.viewed > made.begun + 0.5 * (made.reached - made.begun)).all()
    assert (made.viewed < made.reached + 0.2 * (made.reached - made.begun)).all()


def test_more_steps_reach_more() -> None:
    net = small()
    reached = [wa.visualize(net, "5", recipe=QUICK.but(steps=n)).reached for n in (2, 8, 32)]
    assert (reached[1] > reached[0]).all()
    assert (reached[2] > reached[1]).all()


# --- what is reported is true -----------------------------------------------------------------------------------------


def test_reached_is_the_layers_mean_on_the_finished_picture(lite0) -> None:
    made = wa.visualize(lite0, "blocks.4.1", units=[3, 17], recipe=fv.recipe_for(lite0, "blocks.4.1").but(steps=4))
    assert made.images.shape == (2, 112, 112, 3)
    out = hooked(lite0, as_judged(lite0, made), "blocks.4.1")
    wanted = torch.stack([out[0, 3].mean(), out[1, 17].mean()]).numpy()
    np.testing.assert_allclose(made.reached, wanted, rtol=0.02, atol=0.01)
    assert (made.reached > made.begun).all()


def test_reached_is_the_classifiers_logit_on_the_finished_picture(lite0) -> None:
    made = wa.visualize(lite0, "classifier", units=[285], recipe=fv.recipe_for(lite0, "classifier").but(steps=3))
    assert made.images.shape == (1, 160, 160, 3)
    wanted = hooked(lite0, as_judged(lite0, made), "classifier")[0, 285].item()
    assert made.reached[0] == pytest.approx(wanted, rel=0.02, abs=0.02)


def test_reached_through_the_networks_own_preprocessing() -> None:
    net = whole()
    made = wa.visualize(net, "6", recipe=fv.Recipe(steps=12, side=32))
    out = hooked(net, net.preprocess(made.images), "6")
    np.testing.assert_allclose(made.reached, out.diagonal().numpy(), rtol=0.02, atol=0.02)
    noise = wa.visualize(
        net, "6", recipe=fv.Recipe(steps=1, side=32, rate=1e-6)
    )  # hardly moved: begun is what it shows
    out = hooked(net, net.preprocess(noise.images), "6")
    np.testing.assert_allclose(noise.begun, out.diagonal().numpy(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("at", "how"), [("mean", "mean"), ("peaks", "peaks"), ("centre", "centre")])
def test_reached_counts_the_positions_that_see_no_padding(at: str, how: str) -> None:
    net = small()
    made = wa.visualize(net, "5", units=[1, 6], recipe=fv.recipe_for(net, "5").but(steps=6, at=at))
    view = as_judged(net, made)
    # in a wide frame of rubbish, seen by nobody that counts; the frame keeps the stride's phase
    side, frame = view.shape[-1], 16
    wide = torch.randn(2, 3, side + 2 * frame, side + 2 * frame) * 3
    field = net.layers["5"].receptive_field
    begin = frame + int(field.offset[0]) % int(field.stride[0])
    wide[:, :, begin : begin + side, begin : begin + side] = view
    first, last = unseen_padding(net, "5", side, begin)
    out = hooked(net, wide, "5")[[0, 1], [1, 6], first:last, first:last]
    if how == "mean":
        wanted = out.mean((1, 2))
    elif how == "peaks":
        wanted = out.mean((1, 2)) + out.std((1, 2), correction=0)
    else:
        wanted = out[:, (last - first) // 2, (last - first) // 2]
    np.testing.assert_allclose(made.reached, wanted.numpy(), rtol=0.02, atol=0.02)


def test_reached_of_the_embedded_networks_early_layers_counts_no_padding(lite0) -> None:
    made = wa.visualize(lite0, "blocks.1.1", units=[3, 9], recipe="quick")
    view = as_judged(lite0, made)
    begin, side = 2 + 4 * 20, view.shape[-1]
    wide = torch.randn(2, 3, 224, 224)
    wide[:, :, begin : begin + side, begin : begin + side] = view
    first, last = unseen_padding(lite0, "blocks.1.1", side, begin)
    out = hooked(lite0, wide, "blocks.1.1")[[0, 1], [3, 9], first:last, first:last]
    np.testing.assert_allclose(made.reached, out.mean((1, 2)).numpy(), rtol=0.02)


def test_where_padding_stays_its_positions_do_not_count() -> None:
    # views of positions: no interior, but receptive fields are known
    torch.manual_seed(6)
    net = load(
        S(
            Fn(
                lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
                a=conv(3, 4, padding=1),
                b=conv(4, 4, k=5, padding=2),
            ),
            nn.Identity(),
        ),
        3,
        64,
        64,
    )
    assert not fv.Prepared(net, ["1"]).interior
    made = wa.visualize(net, "1", units=[0, 3], recipe=fv.recipe_for(net, "1").but(steps=5))
    view = as_judged(net, made)
    first, last = unseen_padding(net, "1", view.shape[-1], 0)
    out = hooked(net, view, "1")[[0, 1], [0, 3], first:last, first:last]
    np.testing.assert_allclose(made.reached, out.mean((1, 2)).numpy(), rtol=0.02, atol=0.02)


def test_viewed_is_the_mean_over_shifted_views() -> None:
    # without jitter every view is the same
    net = whole()
    made = wa.visualize(net, "6", units=[1], recipe=fv.Recipe(steps=4, side=32, jitter=0))
    np.testing.assert_allclose(made.viewed, made.reached, rtol=1e-5)
    moving = wa.visualize(net, "6", units=[1], recipe=fv.Recipe(steps=4, side=32, jitter=8))
    assert moving.viewed != pytest.approx(moving.reached, rel=1e-6)


@pytest.mark.parametrize("side", [28, 31])
def test_without_jitter_nothing_moves(side: int) -> None:
    net = whole()
    made = wa.visualize(net, "2", units=[1], recipe=fv.Recipe(steps=4, side=side, jitter=0))
    np.testing.assert_allclose(made.viewed, made.reached, rtol=1e-5)


# --- pictures that come to nothing ------------------------------------------------------------------------------------


def test_units_without_weights_are_tried_three_times_and_marked() -> None:
    net = small()
    others = wa.visualize(net, "5", units=[0, 2], recipe=QUICK)
    with torch.no_grad():
        net.module[5].weight[1] = 0
        net.module[5].bias[1] = 0.3
    net = wa.load(net.module, input=net.input)
    made = wa.visualize(net, "5", units=[0, 1, 2], recipe=QUICK)
    assert made.alive.tolist() == [True, False, True]
    assert made.tries.tolist() == [1, 3, 1]
    assert made.reached[1] == pytest.approx(0.3)
    assert any("1 of 3 pictures came to nothing from 3 starts" in n for n in made.provenance.notes)
    np.testing.assert_array_equal(made.seeds[[0, 2]], others.seeds)
    assert made.seeds[1] not in (seed_of(0, "5", 1), seed_of(0, "5", 0))
    np.testing.assert_allclose(made.reached[[0, 2]], others.reached, rtol=1e-2)
    assert np.abs(made.images[[0, 2]].astype(int) - others.images.astype(int)).mean() < 1
    alone = wa.visualize(net, "5", units=[1], recipe=QUICK)
    assert (alone.alive.tolist(), alone.tries.tolist(), alone.images.shape[0]) == ([False], [3], 1)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_units_that_are_dead_everywhere(leak: float) -> None:
    net = small()
    with torch.no_grad():
        net.module[3].bias[:] = 0.5
        net.module[3].bias[[2, 5]] = -1e4
    net = wa.load(net.module, input=net.input)
    made = wa.visualize(net, "4", recipe=QUICK.but(leak=leak))
    assert made.alive.tolist() == [True, True, False, True, True, False, True, True]
    assert (made.tries == np.where(made.alive, 1, 3)).all()
    assert (made.reached[~made.alive] == 0).all()
    assert any("2 of 8 pictures" in n for n in made.provenance.notes)


def test_a_unit_that_begins_dead_comes_alive_through_the_leak() -> None:
    torch.manual_seed(7)
    net = load(S(conv(3, 2, 3), nn.ReLU()), 3, 24, 24)
    with torch.no_grad():
        w = net.module[0].weight
        w.sub_(w.mean((1, 2, 3), keepdim=True))
        net.module[0].bias[:] = -0.4 * w.clamp(min=0).sum((1, 2, 3))  # beyond noise, within what a picture can do
    net = wa.load(net.module, input=net.input)
    recipe = fv.Recipe(steps=40, side=8, jitter=0, canvas="fourier", deviation=0.02, at="centre")
    without = wa.visualize(net, "1", recipe=recipe.but(leak=0.0))
    assert (without.begun == 0).all()
    assert not without.alive.any()
    assert (without.tries == 3).all()
    made = wa.visualize(net, "1", recipe=recipe)
    assert (made.begun == 0).all()
    assert made.alive.all()
    assert (made.reached > 0).all()
    assert (made.tries == 1).all()


def faulty(rows, how: str) -> fv.Objective:
    """Units of layer 5; picture 1 is not finite."""

    def score(seen):
        a = seen.outputs["5"].mean((2, 3))
        value = torch.stack([a[i, r] for i, r in enumerate(rows)])
        bad = torch.tensor([r == 1 for r in rows])
        if how == "product":
            return value * torch.where(bad, float("nan"), 1.0)
        if how == "constant":
            return torch.where(bad, torch.full_like(value, float("nan")), value)
        return torch.stack([(-1 - v.square()).sqrt() if r == 1 else v for v, r in zip(value, rows, strict=True)])

    names = tuple(f"picture {r}" for r in rows)
    return fv.Objective(score, ("5",), names, len(rows), lambda chosen: faulty([rows[c] for c in chosen], how))


@pytest.mark.parametrize("how", ["product", "constant", "root"])
@pytest.mark.parametrize("batch", ["auto", 1, 2])
def test_a_picture_that_is_not_finite_hurts_no_other(how: str, batch) -> None:
    net = small()
    made = wa.visualize(net, objective=faulty([0, 1, 2], how), recipe=QUICK, batch=batch)
    assert made.alive.tolist() == [True, False, True]
    assert np.isfinite(made.reached[[0, 2]]).all()
    assert made.tries.tolist() == [1, 3, 1]


# --- memory -----------------------------------------------------------------------------------------------------------


def too_large(monkeypatch, most: int, error: BaseException, after: int = 0) -> list[int]:
    """Batches of more than ``most`` pictures fail, after some steps."""
    sizes: list[int] = []
    plainly = Renderer.gradient
    steps = [0]

    def gradient(self, objective, z, *rest):
        steps[0] += 1
        if len(z) > most and steps[0] > after:
            steps[0] = 0
            sizes.append(len(z))
            raise error
        return plainly(self, objective, z, *rest)

    monkeypatch.setattr(Renderer, "gradient", gradient)
    return sizes


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "cuda", "cpu", "python"],
)
def test_batches_that_do_not_fit_are_halved(monkeypatch, caplog, error, after: int) -> None:
    net = small()
    wanted = wa.visualize(net, "5", recipe=QUICK, batch=2)
    sizes = too_large(monkeypatch, 2, error, after)
    told = []
    made = wa.visualize(net, "5", recipe=QUICK, batch=8, progress=lambda done, total: told.append((done, total)))
    assert sizes == [8, 4]
    np.testing.assert_array_equal(made.images, wanted.images)
    np.testing.assert_array_equal(made.reached, wanted.reached)
    np.testing.assert_array_equal(made.seeds, wanted.seeds)
    assert any("2 at a time, since 8 do not fit into memory" in n for n in made.provenance.notes)
    assert told[-1] == (8, 8)
    assert caplog.records


def test_odd_batches_that_do_not_fit(monkeypatch) -> None:
    net = small()
    sizes = too_large(monkeypatch, 1, torch.OutOfMemoryError("out of memory"))
    made = wa.visualize(net, "5", units=[0, 1, 2, 3, 4], recipe=QUICK, batch=3)
    assert sizes == [3]
    assert made.units.tolist() == [0, 1, 2, 3, 4]
    assert made.alive.all()


def test_other_errors_and_one_that_does_not_fit_alone_come_through(monkeypatch) -> None:
    net = small()
    with monkeypatch.context() as patch:
        too_large(patch, 2, RuntimeError("something else"))
        with pytest.raises(RuntimeError, match="something else"):
            wa.visualize(net, "5", recipe=QUICK)
    with monkeypatch.context() as patch:
        too_large(patch, 0, torch.OutOfMemoryError("out of memory"))
        with pytest.raises(ArgumentError, match=r"one picture of .* pixels did not fit .*smaller side"):
            wa.visualize(net, "5", recipe=QUICK)
    with monkeypatch.context() as patch:
        too_large(patch, 2, torch.OutOfMemoryError("out of memory"))
        with pytest.raises(
            ArgumentError, match="3 pictures that depend on each other"
        ):  # pictures that depend on each other cannot be parted
            wa.visualize(net, objective=fv.unit("5", 0) + fv.diversity("5"), count=3, recipe=QUICK)


def test_little_memory_makes_small_batches(monkeypatch) -> None:
    net, seen = small(), []
    plainly = Renderer.batch
    monkeypatch.setattr(
        Renderer, "batch", lambda self, o, seeds, *rest: seen.append(len(seeds)) or plainly(self, o, seeds, *rest)
    )
    wanted = wa.visualize(net, "5", recipe=QUICK, batch=1)
    assert seen == [1] * 8
    monkeypatch.setattr("weightatlas.featurevis.batches.memory_free", lambda: 1)
    seen.clear()
    for batch in ("auto", 8):
        made = wa.visualize(net, "5", recipe=QUICK, batch=batch)
        np.testing.assert_array_equal(made.images, wanted.images)
    assert seen == [1] * 16
    assert any("1 at a time, since 8" in n for n in made.provenance.notes)
    with pytest.raises(ArgumentError, match=r"GiB.*count="):
        wa.visualize(net, objective=fv.unit("5", 0) + fv.diversity("5"), count=3, recipe=QUICK)


def test_batch_sizes() -> None:
    net = small()
    large = wa.visualize(net, "5", units=[0, 1, 2], recipe=QUICK, batch=10**6)
    assert not any("do not fit" in n for n in large.provenance.notes)
    np.testing.assert_array_equal(large.images, wa.visualize(net, "5", units=[0, 1, 2], recipe=QUICK, batch=3).images)
    for batch in (0, -1, True, 2.5, "many", None):
        with pytest.raises(ArgumentError, match="batch="):
            wa.visualize(net, "5", units=[0], recipe=QUICK, batch=batch)


# --- directions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directions", "says"),
    [
        (np.ones((2, 7)), r"7 units.*has 8"),
        (np.ones((2, 9)), r"9 units.*has 8"),
        (np.full((1, 8), np.nan), "NaN"),
        (np.full((1, 8), np.inf), "NaN or infinity"),
        (np.vstack([np.ones(8), np.zeros(8)]), "direction 1 .* is zero"),
        (np.ones(8), r"shape \(8,\)"),
        (np.ones((2, 2, 8)), "shape"),
        (np.zeros((0, 8)), "shape"),
        ([["a"] * 8], "numbers"),
        ([[1.0] * 8, [1.0] * 7], "numbers"),
    ],
)
def test_directions_that_cannot_be_meant(directions, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        wa.visualize(small(), "5", directions=directions, recipe=QUICK)


def test_a_direction_along_one_unit_is_that_unit() -> None:
    net = small()
    made = renderer(net, ["5"])
    seeds = [1, 2]
    unit = made.batch(fv.units("5", [3, 6]), seeds)
    one_hot = made.batch(fv.directions("5", 5 * np.eye(8)[[3, 6]]), seeds)
    torch.testing.assert_close(one_hot.reached, unit.reached, rtol=1e-4, atol=1e-5)
    assert float((one_hot.images - unit.images).abs().max()) < 1e-3
    found = wa.visualize(net, "5", directions=np.eye(8)[:2], recipe=QUICK)
    wanted = wa.visualize(net, "5", units=[0, 1], recipe=QUICK)
    assert np.abs(found.images.astype(int) - wanted.images.astype(int)).max() <= 1
    assert len(found.units) == 0


def test_a_directions_value_is_the_outputs_along_it() -> None:
    net = whole()
    vectors = np.random.default_rng(0).normal(size=(3, 5))
    made = wa.visualize(net, "6", directions=vectors, recipe=fv.Recipe(steps=5, side=32))
    out = hooked(net, net.preprocess(made.images), "6").numpy()
    along = (out * vectors).sum(1) / np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(made.reached, along, rtol=0.02, atol=0.02)
    for kind in (vectors.tolist(), torch.from_numpy(vectors), vectors.astype(np.float32)):
        again = wa.visualize(net, "6", directions=kind, recipe=fv.Recipe(steps=5, side=32))
        assert np.abs(again.images.astype(int) - made.images.astype(int)).max() <= 1


def test_the_channels_of_a_factorization_are_directions() -> None:
    net = small()
    factors = wa.factorize(wa.direct_weights(net, "5"), rank=2)
    made = wa.visualize(net, "4", directions=factors.channels, recipe=QUICK.but(steps=20))
    assert len(made) == 2
    assert made.layer == "4"
    # each picture goes further along its own direction than the other's does
    out = hooked(net, as_judged(net, made), "4").mean((2, 3)).numpy()
    along = out @ (factors.channels / np.linalg.norm(factors.channels, axis=1, keepdims=True)).T
    assert along[0, 0] > along[1, 0]
    assert along[1, 1] > along[0, 1] or abs(along[1, 1] - along[0, 1]) < 0.1 * along[1, 1]  # the two are nearly one
    assert made.alive.all()


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_names_and_numbers_that_do_not_exist() -> None:
    net = small()
    with pytest.raises(UnknownNameError, match=r"no unit 8.*0 … 7"):
        wa.visualize(net, "5", units=[0, 8])
    with pytest.raises(UnknownNameError, match=r"no unit -1"):
        wa.visualize(net, "5", units=[-1])
    for units in ([], [0.5], 3, [True], ["a"]):
        with pytest.raises(ArgumentError):
            wa.visualize(net, "5", units=units)
    with pytest.raises(UnknownNameError, match=r"no layer '55'.*nearest: '5'"):
        wa.visualize(net, "55", units=[0])
    with pytest.raises(UnknownNameError, match="no layer"):
        wa.visualize(net, objective=fv.unit("nowhere", 0))
    with pytest.raises(UnknownNameError, match="no layer"):
        wa.visualize(net, "5#2", units=[0])
    with pytest.raises((ArgumentError, UnknownNameError), match=r"no unit 8.*0 … 7"):
        wa.visualize(net, objective=fv.unit("5", 8), recipe=QUICK)
    with pytest.raises(UnknownNameError, match=r"recipe 'dispaly'.*display"):
        wa.visualize(net, "5", units=[0], recipe="dispaly")


def test_arguments_that_do_not_go_together() -> None:
    net, some = small(), np.ones((1, 8))
    for given in (
        dict(units=[0], directions=some), dict(units=[0], objective=fv.unit("5", 0)), dict(directions=some, objective=fv.unit("5", 0)),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match="do not go together"):
            wa.visualize(net, "5", **given)
    with pytest.raises(ArgumentError, match="needs a layer"):
        wa.visualize(net)
    with pytest.raises(ArgumentError, match="needs a layer"):
        wa.visualize(net, units=[0])
    with pytest.raises(ArgumentError, match="not an Objective"):
        wa.visualize(net, objective=lambda seen: 0)
    for seed in (True, 1.5, "0", None):
        with pytest.raises(ArgumentError, match="seed="):
            wa.visualize(net, "5", units=[0], seed=seed)


def test_counts() -> None:
    net, one = small(), fv.unit("5", 2)
    assert len(wa.visualize(net, objective=one, recipe=QUICK)) == 1
    three = wa.visualize(net, objective=one, recipe=QUICK, count=3)
    assert len(three) == len(three.labels) == 3
    assert len({image.tobytes() for image in three.images}) == 3
    assert len(three.units) == 0
    for count in (0, -1, True, 1.5, "3"):
        with pytest.raises(ArgumentError, match="count="):
            wa.visualize(net, objective=one, count=count, recipe=QUICK)
    with pytest.raises(ArgumentError, match="count=5"):
        wa.visualize(net, "5", units=[0, 1], count=5, recipe=QUICK)
    assert len(wa.visualize(net, "5", units=[0, 1], count=2, recipe=QUICK)) == 2
    with pytest.raises(ArgumentError, match="count=1"):
        wa.visualize(net, objective=fv.units("5", [0, 1]), count=1, recipe=QUICK)


def test_diverse_pictures_are_more_different() -> None:
    net = small()
    apart, plainly = (
        wa.visualize(net, objective=o, count=3, recipe=QUICK.but(steps=24))
        for o in (fv.unit("5", 2) + 20 * fv.diversity("2"), fv.unit("5", 2))
    )

    def alike(made):
        a = hooked(net, as_judged(net, made), "2").flatten(2)
        gram = torch.nn.functional.normalize((a @ a.transpose(1, 2)).flatten(1), dim=1)
        return float((gram @ gram.T).triu(1).sum())

    assert alike(apart) < alike(plainly) - 1e-3


def test_an_objective_over_several_layers() -> None:
    torch.manual_seed(8)
    net = load(S(conv(3, 4), nn.ReLU(inplace=True), conv(4, 4), conv(4, 4)), 3, 24, 24)
    for objective, layers in (
        (fv.unit("3", 1) - 0.5 * fv.unit("1", 2), ("3", "1")),
        (2 * fv.unit("2", 0) + fv.unit("3", 3), ("2", "3")),
    ):
        made = wa.visualize(net, objective=objective, recipe=fv.Recipe(steps=10, side=24, jitter=0))
        assert made.layer == "3"
        x = net.preprocess(made.images)
        a = {n: hooked(net, x, n).mean((2, 3))[0] for n in layers}
        wanted = a["3"][1] - 0.5 * a["1"][2] if "1" in layers else 2 * a["2"][0] + a["3"][3]
        assert made.reached[0] == pytest.approx(wanted.item(), rel=0.02, abs=0.02)
        assert made.reached[0] > made.begun[0]


def test_a_convolution_before_a_relu_in_place_beside_a_later_layer() -> None:
    torch.manual_seed(8)
    net = load(S(conv(3, 4), nn.ReLU(inplace=True), conv(4, 4)), 3, 24, 24)
    made = wa.visualize(
        net, objective=-fv.unit("0", 2) + 0.001 * fv.unit("2", 0), recipe=fv.Recipe(steps=16, side=24, jitter=0)
    )
    x = net.preprocess(made.images)
    wanted = -hooked(net, x, "0")[0, 2].mean() + 0.001 * hooked(net, x, "2")[0, 0].mean()
    assert made.reached[0] == pytest.approx(wanted.item(), rel=0.02, abs=0.01)


def test_a_modules_second_call_is_what_its_name_says() -> None:
    torch.manual_seed(9)
    net = load(
        S(Fn(lambda m, x: m.relu(m.b(m.relu(m.a(x)))), a=conv(3, 4), b=conv(4, 6), relu=nn.ReLU()), nn.Identity()),
        3,
        24,
        24,
    )
    recipe = fv.Recipe(steps=12, side=24, jitter=0)
    for call, units in ((1, range(4)), (2, range(6))):
        name = "0.relu" if call == 1 else "0.relu#2"
        made = wa.visualize(net, name, recipe=recipe)
        assert len(made) == len(units)
        assert made.labels[3] == f"{name}:3"
        out = hooked(net, net.preprocess(made.images), "0.relu", call)
        wanted = [out[i, i].mean().item() for i in units]
        np.testing.assert_allclose(made.reached, wanted, rtol=0.03, atol=0.01)


def test_progress_goes_on_and_ends() -> None:
    net = small()
    for batch, units in ((2, [0, 1, 2, 3, 4]), (1, [0, 1]), ("auto", None)):
        told: list[tuple[float, int]] = []
        made = wa.visualize(
            net, "5", units=units, recipe=QUICK, batch=batch, progress=lambda d, t, told=told: told.append((d, t))
        )
        done, totals = zip(*told, strict=True)
        assert set(totals) == {len(made)}
        assert list(done) == sorted(done)
        assert 0 < done[0] <= len(made)
        assert done[-1] == len(made)
        assert len(told) >= QUICK.steps


def test_the_record_says_what_was_done() -> None:
    net = small()
    made = wa.visualize(net, "5", units=(4, 1), recipe="quick", seed=3)
    assert made.units.tolist() == [4, 1]
    assert made.labels == ("5:4", "5:1")
    assert made.recipe["name"] == "quick"
    assert made.recipe["side"] is None
    assert min(made.view) > max(made.images.shape[1:3])  # it goes on at its other side
    assert made.images.dtype == np.uint8
    assert made.provenance.weights_hash == net.weights_hash
    np.testing.assert_array_equal(made.image(1), made.images[1])
    assert made.seeds.tolist() == [seed_of(3, "5", 4), seed_of(3, "5", 1)]
    assert made.channel_names == ("red", "green", "blue")
    assert made.alpha.shape == (0, 0, 0)


def test_nothing_of_the_recipe_given_is_changed_and_again_it_gives_the_same() -> None:
    net, recipe = small(), fv.Recipe(steps=4)
    kept = recipe.to_dict()
    made = wa.visualize(net, "5", units=[0], recipe=recipe)
    assert recipe.to_dict() == kept
    again = wa.visualize(net, "5", units=[0], recipe=fv.Recipe(**made.recipe))
    np.testing.assert_array_equal(again.images, made.images)


# --- inputs and canvases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("canvas", ["pixels", "fourier", "maco", "bands"])
def test_all_canvases_climb_with_any_number_of_channels(channels: int, canvas: str) -> None:
    torch.manual_seed(channels)
    # smooth, so that a gradient is what it says; a leak is another one
    module = S(conv(channels, 6, padding=1), nn.Softplus(), conv(6, 4, padding=1))
    net = load(module, channels, 30, 26, value_range=(0, 255), mean=127, std=60)
    for recipe in (fv.Recipe(steps=15, jitter=2, canvas=canvas), fv.Recipe(steps=15, jitter=2, canvas=canvas, side=24)):
        made = wa.visualize(net, "2", units=[0, 3], recipe=recipe)
        assert made.images.shape[3] == channels
        assert made.alive.all()
        assert (made.reached > made.begun).all()
        assert len(made.channel_names) == channels


def test_transparent_pictures() -> None:
    net = small()
    objective = fv.unit("5", 2) - 0.5 * fv.opacity()
    made = wa.visualize(net, objective=objective, recipe=QUICK.but(alpha=True))
    assert made.images.shape == (1, 24, 24, 3)
    assert made.alpha.shape == (1, 24, 24)
    assert made.alpha.dtype == np.uint8
    clear, solid = (
        wa.visualize(
            net, objective=fv.unit("5", 2) - k * fv.opacity(), recipe=QUICK.but(alpha=True, steps=30)
        ).alpha.mean()
        for k in (1000.0, -1000.0)
    )
    assert clear < 60 < 190 < solid
    with pytest.raises(ArgumentError, match="alpha=True"):
        wa.visualize(net, objective=objective, recipe=QUICK)
    everything = wa.visualize(net, "5", units=[1, 3], recipe=QUICK.but(alpha=True))
    assert everything.alpha.shape == (2, 24, 24)


def test_transparent_pictures_of_layers_without_padding() -> None:
    net = small()
    made = wa.visualize(net, "5", units=[1], recipe=fv.recipe_for(net, "5").but(alpha=True, steps=4))
    assert made.alpha.shape == made.images.shape[:3]
    assert made.alive.all()


@pytest.mark.parametrize("size", [(32, 20), (17, 41)])
def test_inputs_that_are_not_square(size) -> None:
    torch.manual_seed(3)
    net = load(
        S(
            conv(3, 4, padding=1),
            nn.ReLU(),
            conv(4, 4, stride=2, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        3,
        *size,
    )
    made = wa.visualize(net, "5", recipe=fv.recipe_for(net, "5").but(steps=6))
    assert made.images.shape[1:3] == size
    out = hooked(net, net.preprocess(made.images), "5")
    np.testing.assert_allclose(made.reached, out.diagonal().numpy(), rtol=0.02, atol=0.01)


def test_objectives_of_the_image_alone() -> None:
    net = small()
    grey = wa.visualize(
        net, "5", objective=-fv.distance_from_grey(), count=2, recipe=QUICK.but(steps=40, deviation=1.0)
    )
    assert grey.alive.all()
    assert (grey.reached > 0.5 * grey.begun).all()
    x = torch.from_numpy(grey.images).float() / 255
    np.testing.assert_allclose(grey.reached, -(x - 0.5).square().mean((1, 2, 3)).numpy(), atol=1e-3)
    smooth = wa.visualize(net, "5", objective=fv.unit("5", 1) - 50 * fv.total_variation(), recipe=QUICK.but(steps=24))
    rough = wa.visualize(net, "5", objective=fv.unit("5", 1), recipe=QUICK.but(steps=24))

    def unrest(made):
        return np.square(np.diff(made.images.astype(float), axis=1)).mean()

    assert unrest(smooth) < unrest(rough)


# --- where it is called from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_without_gradients(mode) -> None:
    net = small()
    wanted = wa.visualize(net, "5", units=[1], recipe=QUICK)
    with mode():
        made = wa.visualize(net, "5", units=[1], recipe=QUICK)
    np.testing.assert_array_equal(made.images, wanted.images)


def test_another_default_type() -> None:
    net = small()
    wanted = wa.visualize(net, "5", units=[1], recipe=QUICK)
    torch.set_default_dtype(torch.float64)
    try:
        made = wa.visualize(net, "5", units=[1], recipe=QUICK)
    finally:
        torch.set_default_dtype(torch.float32)
    assert made.images.shape == wanted.images.shape
    assert made.alive.all()


def test_modules_that_save_memory_by_checkpoints_are_told_to_stop_it() -> None:
    def forward(m, x):
        return torch.utils.checkpoint.checkpoint(m.a, x, use_reentrant=False)

    torch.manual_seed(5)
    net = load(S(Fn(forward, a=S(conv(3, 4, padding=1), nn.ReLU(), conv(4, 4, padding=1))), nn.Identity()))
    with pytest.raises(ArgumentError, match="checkpointing"):
        wa.visualize(net, "1", units=[1], recipe=QUICK)
