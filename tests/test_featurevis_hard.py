"""Feature visualization of networks and with inputs that are out of the ordinary: windows, slopes, penalties, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from catalogue import Fn, S, conv
from test_direct import settle
from torch import Tensor, nn
from torch.nn import functional

import weightatlas as wa
from weightatlas import featurevis as fv
from weightatlas.errors import ArgumentError, LoadError
from weightatlas.featurevis.plan import make_plan
from weightatlas.featurevis.render import Renderer
from weightatlas.models.efficientnet_lite import Conv2dSame
from weightatlas.records import check_writable

pytestmark = pytest.mark.usefixtures("one_thread")
F = functional
QUICK = fv.Recipe(steps=6, side=24, jitter=4)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(5)


def load(module: nn.Module, *shape: int) -> wa.Network:
    return wa.load(settle(module), input=wa.InputSpec(shape=shape or (3, 32, 32)))


def fn(function) -> nn.Module:
    return Fn(lambda module, x: function(x))


@pytest.fixture(scope="module")
def net() -> wa.Network:
    torch.manual_seed(5)
    return load(S(conv(3, 4), nn.ReLU(), conv(4, 4)))


class WideFirst(nn.Module):
    """A branch that sees nearly everything runs before the one that is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 4, 4, 5, 2, 2) for i in range(4)])
        self.near = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.wide(x).mean((2, 3)), self.near(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d1, self.d2, self.d3 = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.up, self.u1, self.u2 = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(16, 8, 3, 1, 1), nn.Conv2d(16, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.d1(x))
        b = F.relu(self.d2(a))
        c = F.relu(self.d3(b))
        y = F.relu(self.u1(torch.cat([self.up(c), b], 1)))
        return self.u2(torch.cat([F.interpolate(y, scale_factor=2.0), a], 1))


def planned(net: wa.Network, layer: str, recipe: fv.Recipe) -> Renderer:
    prepared = fv.Prepared(net, [layer])
    return Renderer(prepared, make_plan(net, prepared, recipe))


def hooked(module: nn.Module, x: Tensor, layer: str) -> Tensor:
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    with torch.no_grad():
        module.eval()(x)
    handle.remove()
    return seen[0]


def test_a_branch_that_needs_more_than_the_canvas_before_the_layer_is_run_padded() -> None:
    net = load(WideFirst(), 3, 64, 64)
    made = wa.visualize(net, "near", units=[0, 3], recipe=fv.recipe_for(net, "near").but(steps=12))
    assert made.alive.all()
    assert planned(net, "near", fv.recipe_for(net, "near")).plan.held is None


def shown_inside(net: wa.Network, layer: str, recipe: fv.Recipe, step: int) -> None:
    """Checks that the window's values are those of the module itself, whatever lies around the view."""
    r = planned(net, layer, recipe)
    h, w = r.plan.views.size
    _, tall, wide = net.input.shape
    assert layer in r.plan.inside
    assert r.plan.held is None
    torch.manual_seed(0)
    view = torch.rand(1, 3, h, w)
    found = r.plan.window(layer, r.prepared(view)[layer])
    large = torch.rand(1, 3, tall, wide)
    y, x = (tall - h) // step * step, (wide - w) // step * step
    large[..., y : y + h, x : x + w] = view
    (top, bottom), (left, right) = r.plan.inside[layer]
    stride = [int(s) for s in net.layers[layer].receptive_field.stride]
    y, x = y // stride[0], x // stride[1]
    truth = hooked(net.module, large, layer)[..., y + top : y + bottom, x + left : x + right]
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [17, 18, 19, 20, 33, None])
@pytest.mark.parametrize("size", [48, 49, 50, 51])
def test_windows_hold_at_every_side_although_paddings_depend_on_the_size(side: int | None, size: int) -> None:
    def same(i: int, o: int) -> nn.Module:
        return Conv2dSame(i, o, 3, 2)

    net = load(S(same(3, 4), fn(torch.special.erf), same(4, 5)), 3, size, size)
    shown_inside(net, "2", fv.Recipe(side=side, reach=4, jitter=0), 4)


def test_a_network_that_refuses_most_sizes_gets_the_next_one_it_takes_and_keeps_its_window() -> None:
    net = load(UNet(), 3, 64, 64)
    recipe = fv.recipe_for(net, "u2").but(reach=12)
    r = planned(net, "u2", recipe)
    assert max(r.plan.views.size) < 64
    assert all(n % 4 == 0 for n in r.plan.views.size)
    assert not r.plan.notes
    shown_inside(net, "u2", recipe, 4)
    whole = planned(net, "u2", fv.recipe_for(net, "u2"))
    assert whole.plan.inside["u2"]


def test_a_network_for_one_size_only_says_so_and_keeps_its_window() -> None:
    net = load(S(conv(3, 4, padding=1), nn.ReLU(), nn.Flatten(), nn.Unflatten(1, (4, 32, 32)), conv(4, 5, padding=1)))
    recipe = fv.Recipe(reach=4, steps=4)
    r = planned(net, "4", recipe)
    assert r.plan.views.size == (32, 32)
    assert "refuses" in r.plan.notes[0]
    made = wa.visualize(net, "4", units=[0], recipe=recipe)
    assert made.alive.all()
    assert any("refuses" in note for note in made.provenance.notes)


def test_a_slope_that_is_infinite_where_a_relu_is_flat_still_gives_pictures() -> None:
    net = load(S(conv(3, 4), fn(lambda x: torch.sqrt(F.relu(x)))))
    made = wa.visualize(net, "1", recipe=QUICK)
    assert (made.begun > 0).any()
    for begun, reached, alive in zip(made.begun, made.reached, made.alive, strict=True):
        assert alive == (begun > 0)  # what is flat everywhere has no slope at all
        assert not alive or reached > 1.1 * begun


@pytest.mark.parametrize(
    "relu",
    [
        lambda x: torch.maximum(x, torch.zeros(1)),
        lambda x: torch.maximum(torch.zeros_like(x), x),
        lambda x: torch.max(x, torch.zeros_like(x)),
        lambda x: x.fmax(torch.tensor(0.0)),
    ],
)
def test_a_relu_written_as_a_maximum_leaks(relu) -> None:
    seen = []
    for function in (relu, F.relu):
        torch.manual_seed(5)
        dead = S(conv(3, 4), fn(function), conv(4, 4))
        net = load(dead)
        net.module[0].bias.data.fill_(-9.0)  # a start without any gradient
        r = planned(net, "2", QUICK)
        z = r.canvas.start([torch.Generator().manual_seed(1)])
        gradient = r.gradient(fv.unit("2", 1), z, torch.zeros(1, 4), [])
        assert gradient.abs().max() > 0
        seen.append(gradient)
    torch.testing.assert_close(*seen)


def test_a_picture_that_only_a_penalty_moved_is_no_result() -> None:
    module = S(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU())
    net = load(module)
    module[2].weight.data[1], module[2].bias.data[:2] = 0, torch.tensor([1.0, -1.0])
    net = wa.load(module, input=net.input)
    unit, other = fv.unit("3", 1), fv.unit("3", 0)
    for penalty in (fv.distance_from_grey(), fv.total_variation(), fv.total_variation() + 3):
        assert not wa.visualize(net, objective=unit - 0.1 * penalty, recipe=QUICK).alive.any()
        assert wa.visualize(net, objective=other - 0.1 * penalty, recipe=QUICK).alive.all()
    assert not wa.visualize(net, objective=unit + fv.diversity("2"), count=3, recipe=QUICK).alive.any()
    assert wa.visualize(net, objective=other + fv.diversity("2"), count=3, recipe=QUICK).alive.all()
    assert wa.visualize(net, "3", objective=-fv.total_variation(), recipe=QUICK).alive.all()  # what was asked for


def test_the_aim_of_an_objective_is_what_is_left_without_penalties() -> None:
    a, b, tv = fv.unit("x", 1), fv.unit("x", 2), fv.total_variation()
    for objective, aim in (
        (a, a), (a - tv, a), (tv + a, a), (tv - a, -a), (2 * (a - tv), 2 * a), (a - tv - b, a - b), (3 - a, -a),
        (a * tv, a * tv), (-tv, -tv), (a - (b - tv), a - b), (sum([a, b, -tv]), a + b), ((a - tv) / 2, 0.5 * a),
    ):  # fmt: skip
        assert objective.aim.description == aim.description
    assert (3 - a).description == "3 − x:1"
    units = fv.units("x", [4, 5, 6]) - tv
    assert units.of([2, 0]).aim.descriptions == ("x:6", "x:4")


def test_what_did_not_grow_itself_is_no_result_even_if_its_views_did() -> None:
    torch.manual_seed(0)
    net = load(S(conv(3, 8), nn.GroupNorm(2, 8), nn.Hardswish(), conv(8, 4)))
    made = wa.visualize(net, "3", recipe=QUICK.but(rotate=90, scale=0.5, steps=2))
    assert ((made.reached > made.begun) | ~made.alive).all()


def test_autocast_around_the_call_changes_nothing() -> None:
    net = load(S(conv(3, 4), nn.ReLU(), conv(4, 4)))
    plain = wa.visualize(net, "2", recipe=QUICK)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(wa.visualize(net, "2", recipe=QUICK).images, plain.images)


def test_a_network_that_casts_inside_gives_pictures() -> None:
    class Casts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = conv(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.c(x)

    assert wa.visualize(load(Casts()), "c", recipe=QUICK).reached.dtype == np.float32


class TestDirections:
    V = np.array([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 3.0, 4.0]])

    @pytest.mark.parametrize(
        "change",
        [
            lambda v: torch.tensor(v, requires_grad=True),
            lambda v: torch.tensor(v).bfloat16(),
            lambda v: [torch.tensor(row, requires_grad=True) for row in v],
            lambda v: v.tolist(),
            lambda v: v * 1e200,
            lambda v: v * 1e-200,
            lambda v: v * np.array([[1e-300], [1e300]]),
        ],
    )
    def test_any_numbers_are_taken(self, net, change) -> None:
        wanted = wa.visualize(net, "2", directions=self.V, recipe=QUICK)
        np.testing.assert_array_equal(
            wa.visualize(net, "2", directions=change(self.V), recipe=QUICK).images, wanted.images
        )

    def test_a_single_one_as_a_tensor(self) -> None:
        assert fv.direction("x", torch.ones(3, requires_grad=True)).count is None
        with pytest.raises(ArgumentError, match=r"shape \(1, 3\) came in; \[O\]"):
            fv.direction("x", torch.ones(1, 3))

    @pytest.mark.parametrize("bad", [V * 1j, torch.tensor(V) * 1j, np.array([["a", "b"]]), [torch.ones(2), "x"], None])
    def test_what_is_no_direction(self, net, bad) -> None:
        with pytest.raises(ArgumentError):
            fv.directions("2", bad)


class TestErrors:
    def test_a_device_without_values(self, net) -> None:
        with pytest.raises(ArgumentError, match="'meta' cannot be used here"):
            wa.visualize(net, "2", device="meta")

    def test_progress_that_cannot_be_called(self, net) -> None:
        with pytest.raises(ArgumentError, match="progress=True cannot be called"):
            wa.visualize(net, "2", progress=True)

    def test_settings_as_a_record_keeps_them(self, net) -> None:
        made = wa.visualize(net, "2", recipe=QUICK)
        np.testing.assert_array_equal(wa.visualize(net, "2", recipe=made.recipe).images, made.images)
        with pytest.raises(ArgumentError, match=r"'stps'.* none of name, side"):
            wa.visualize(net, "2", recipe={"stps": 3})
        with pytest.raises(ArgumentError, match="name=3"):
            fv.Recipe(name=3)

    def test_numbers_of_other_integer_types(self, net) -> None:
        wanted = wa.visualize(net, "2", recipe=QUICK, seed=3, batch=2)
        made = wa.visualize(net, "2", recipe=QUICK, seed=np.int64(3), batch=np.int32(2))
        np.testing.assert_array_equal(made.images, wanted.images)
        assert fv.unit("2", 0, at=[np.int64(1), 2]).description == "2:0 at (1, 2)"
        for bad in (2.0, "2", True, np.bool_(True)):
            with pytest.raises(ArgumentError, match="seed"):
                wa.visualize(net, "2", recipe=QUICK, seed=bad)

    def test_an_objective_without_a_layer(self, net) -> None:
        with pytest.raises(ArgumentError, match=r"total variation.* reads no layer"):
            wa.visualize(net, objective=-fv.total_variation())

    @pytest.mark.parametrize("how", ["detach", "no_grad", "inference_mode", "constant"])
    def test_a_network_without_a_gradient_towards_the_image(self, how: str) -> None:
        class Cut(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.c, self.d = conv(3, 4), conv(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                if how == "detach":
                    return self.d(self.c(x).detach())
                if how == "constant":
                    return self.d(torch.ones(len(x), 4, 8, 8)) + self.c(x).mean()
                with torch.no_grad() if how == "no_grad" else torch.inference_mode():
                    y = self.c(x)
                return self.d(y.clone())

        said = "axes of 'd' are not known" if how == "constant" else "no gradient towards the image"
        with pytest.raises(ArgumentError, match=said):
            wa.visualize(load(Cut()), "d", units=[0], recipe=QUICK)

    def test_a_place_that_cannot_be_written(self, tmp_path) -> None:
        (tmp_path / "file").write_text("kept")
        check_writable(tmp_path / "new" / "x.npz")
        check_writable(tmp_path / "file")
        for bad in (tmp_path, tmp_path / "file" / "x.npz", tmp_path / "a\0b"):
            with pytest.raises(LoadError, match="could not write"):
                check_writable(bad)
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "new"]
        assert (tmp_path / "file").read_text() == "kept"
