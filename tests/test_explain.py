"""Walks from a unit down to the pixels: sums, weights and positions against autograd and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.builder import explaining
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.records import Explanation, Weights, placed

pytestmark = pytest.mark.usefixtures("one_thread")


def opened(module, shape=(3, 16, 16), **more):
    return wa.load(module.eval(), input=wa.InputSpec(shape=shape, **more))


def walked(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


@pytest.fixture(scope="module")
def small():
    return opened(walked())


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


class Residual(nn.Module):
    """A block whose input is added to its output, and that is cut off inside."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.block = Added(nn.Sequential(nn.Conv2d(4, 9, 3, padding=1), nn.ReLU(), nn.Conv2d(9, 4, 1)))

    def forward(self, x):
        return self.block(self.first(x))


class Added(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def jacobian(function, x, unit, at):
    """∂ output[unit, at] / ∂ input, by autograd."""
    x = x.detach().clone().requires_grad_(True)
    function(x)[0, unit, at[0], at[1]].backward()
    return x.grad[0].numpy()


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"padding": 1}, (0, 0)),
        ({"padding": 2, "dilation": 2, "stride": 2}, (2, 3)),
        ({"padding": 1, "groups": 2, "stride": 3}, (0, 1)),
        ({}, (3, 0)),
    ],
)
def test_weights_lie_on_the_source_grid_where_autograd_finds_them(options, at):
    torch.manual_seed(1)
    module = nn.Conv2d(4, 6, 3, **options)
    net = opened(nn.Sequential(module), (4, 9, 9), mean=(0,) * 4, std=(1,) * 4, channel_names=tuple("abcd"))
    weights = wa.direct_weights(net, "0", [5])
    truth = jacobian(module, torch.zeros(1, 4, 9, 9), 5, at)
    np.testing.assert_allclose(placed(weights, at, (9, 9)), truth, atol=1e-6)
    np.testing.assert_allclose(placed(weights, at, (9, 9), np.array([2])), truth[2:3], atol=1e-6)


def test_a_weight_between_positions_is_left_out():
    w = Weights(np.ones((1, 1, 1, 2), np.float32), "a", "b", np.array([0]), 1, 1, origin=(0, 0.5), dilation=(1, 0.5))
    assert placed(w, (0, 0), (1, 3))[0].tolist() == [[0, 1, 0]]


def test_of_an_exact_step_weight_times_patch_is_the_product_and_the_products_are_the_value(small, image):
    found = explaining.step(small, image, "3:5", at=(2, 3))
    a = found.attributions
    assert (a.source, a.method, found.why) == ("2", "exact", "")
    assert found.alike == pytest.approx(1, abs=1e-6)
    total = 0.0
    for unit in range(6):
        np.testing.assert_allclose(found.weight_map(unit) * found.patch(unit), found.product(unit), atol=1e-5)
        total += found.product(unit).sum()
    x = small.preprocess(image[None])
    with torch.no_grad():
        value = small.module[:4](x)[0, 5, 2, 3].item()
    assert total + small.module[3].bias[5].item() == pytest.approx(value, rel=1e-4)
    assert a.value == pytest.approx(value, rel=1e-5)
    assert found.up == tuple(np.argsort(-a.by_unit)[: len(found.up)])
    assert (a.by_unit[list(found.up)] > 0).all()
    assert (a.by_unit[list(found.down)] < 0).all()


def test_a_walk_goes_through_activations_to_the_convolution_before_and_ends_at_the_pixels(small, image):
    found = wa.explain(small, image, "3:5", down=9, k=2)
    assert [s.address.split(":")[0] for s in found] == ["3", "0"]
    first, second = found
    assert first.follow == first.up[0]
    assert second.attributions.unit == first.follow
    assert second.instead == "2"  # what the ReLU gave is explained by the convolution's sum
    assert second.attributions.at == first.place == first.attributions.strongest_place(first.follow)
    assert second.attributions.source == "input"
    assert second.follow == -1
    assert {second.name(u) for u in (*second.up, *second.down)} <= {"red", "green", "blue"}
    assert all(s.attributions.error < 1e-4 for s in found)
    assert repr(found).startswith("Explanation(3:5 ← 0:")


def test_the_class_is_explained_by_the_layer_before_the_pooling_and_its_sum_is_exact(small, image):
    with torch.no_grad():
        logits = small.module(small.preprocess(image[None]))[0]
    found = wa.explain(small, image, down=2)
    first = found[0].attributions
    assert (first.target, first.unit) == ("7", int(logits.argmax()))
    assert (first.source, first.method, first.values.shape) == ("4", "gradient", (8, 8, 8))
    assert first.value == pytest.approx(float(logits.max()), rel=1e-5)
    assert first.base == pytest.approx(small.module[7].bias[first.unit].item(), rel=1e-4)
    assert first.error < 1e-5
    assert found[0].alike == pytest.approx(1, abs=1e-5)
    assert (found[1].attributions.target, found[1].instead) == ("3", "4")


def test_steps_follow_the_units_and_read_the_layers_that_are_asked_for(small, image):
    found = wa.explain(small, image, "7:1", source=["6", "1"], down=2, follow=[3])
    assert [s.attributions.source for s in found] == ["6", "1"]
    assert (found[0].follow, found[1].attributions.unit) == (3, 3)
    assert wa.explain(small, image, "3:0", at=(1, 2))[0].attributions.at == (1, 2)


def test_the_agreement_of_weights_is_the_cosine_with_the_gradient_less_the_skip_path(image):
    torch.manual_seed(3)
    net = opened(Residual())
    found = explaining.step(net, image, "block:2", at=(7, 7))
    assert found.attributions.source == "first"
    inner = net.module.first(net.preprocess(image[None]))
    branch = jacobian(net.module.block.body, inner, 2, (7, 7))
    weights = wa.expanded_weights(net, "first", "block", [2], skip="exclude")
    here = placed(weights, (7, 7), (16, 16))
    cosine = (here * branch).sum() / np.linalg.norm(here) / np.linalg.norm(branch)
    assert found.alike == pytest.approx(float(cosine), abs=1e-4)
    assert 0 < found.alike < 0.999
    assert [found.carried(u) for u in range(4)] == [False, False, True, False]
    top, left, *_ = found.attributions.window
    middle = (7 - top, 7 - left)
    assert found.weight_map(2)[middle] == pytest.approx(here[2, 7, 7] + 1, abs=1e-5)  # the residual stream's own 1


def test_where_there_are_no_weights_the_step_says_why(image):
    class Sorted(nn.Module):
        def forward(self, x):
            return x.sort(dim=2).values

    torch.manual_seed(0)
    net = opened(nn.Sequential(nn.Conv2d(3, 4, 3), Sorted(), nn.Conv2d(4, 5, 3)))
    found = wa.explain(net, image, "2:1", source="0")[0]
    assert found.weights is None
    assert "sort" in found.why
    assert np.isnan(found.alike)
    assert found.weight_map(0) is None
    assert wa.figures.explanation(wa.explain(net, image, "2:1", source="0")).data["steps"][0]["why"] == found.why


def kinds():
    torch.manual_seed(0)
    yield "signal", nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Conv1d(5, 3, 3)), (2, 20), {}
    yield "features", nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4)), (7,), {}
    yield "grey", nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)), (1, 8, 8), {}
    yield "five", nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)), (5, 8, 8), {}
    yield "double", nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).double(), (3, 8, 8), {}
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).requires_grad_(False)
    yield "frozen", frozen, (3, 8, 8), {}


@pytest.mark.parametrize(
    ("name", "module", "shape", "more"), list(kinds()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_any_network_is_walked_down_to_its_input_with_sums_that_add_up_and_can_be_drawn(name, module, shape, more):
    net = opened(module, shape, **more)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = wa.explain(net, tensor, down=4)
    assert found[0].attributions.target == list(net.layers)[-1]
    assert found[-1].attributions.source == "input"
    assert all(s.attributions.error < 1e-4 for s in found)
    drawn = wa.figures.explanation(found)
    for width in (320, 1080):
        assert drawn.svg(width, "light").startswith("<svg")
    assert len(drawn.data["steps"]) == len(found)


def test_what_does_not_go_together_is_refused_with_what_would(small, image):
    with pytest.raises(ArgumentError, match="2 sources came for 1 step; ask for more with down="):
        wa.explain(small, image, "3:5", source=["2", "input"])
    with pytest.raises(ArgumentError, match="1 units to follow came for 1 step"):
        wa.explain(small, image, "3:5", follow=[1])
    with pytest.raises(UnknownNameError, match="9"):
        wa.explain(small, image, "3:5", down=2, follow=[9])
    with pytest.raises(ArgumentError, match="down"):
        wa.explain(small, image, "3:5", down=0)
    with pytest.raises(UnknownNameError):
        wa.explain(small, image, "nowhere:5")
    with pytest.raises(ArgumentError, match="at least one step"):
        Explanation(())


def test_the_embedded_network_tells_its_class_down_two_layers_exactly(lite0, photos):
    found = wa.explain(lite0, photos["cat"], down=2)
    assert found[0].address == "classifier:285"  # Egyptian cat
    assert [(s.attributions.source, s.instead) for s in found] == [("act2", ""), ("blocks.6.0", "act2")]
    assert all(s.attributions.error < 1e-4 for s in found)
    assert found[0].alike > 0.9999
    assert found[1].alike > 0.9999


class Functional(nn.Module):
    """Activations and the pooling are functions."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 1)
        self.norm, self.f = nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x):
        x = functional.gelu(self.b(functional.relu(self.a(x), inplace=True)))
        return self.f(self.norm(self.c(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def functions():
    torch.manual_seed(0)
    return opened(Functional(), (3, 12, 12))


class TestWhatModulesReadThatNoLayerMade:
    def test_the_walk_goes_through_functions_of_single_elements_to_the_layer_before(self, functions):
        x = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
        found = wa.explain(functions, x, "c:1", at=(2, 3), down=9)
        assert [s.attributions.source for s in found] == ["input of c", "input of b", "input"]
        assert [s.instead for s in found] == ["", "gelu before c", "relu before b"]
        assert [s.ended for s in found] == [""] * 3
        assert found[1].address == f"b:{found[0].follow}"
        assert found[1].attributions.at == found[0].place
        out = functions.module.b(functions.module.a(x[None]).relu())[0, found[0].follow]
        assert found[1].attributions.value == pytest.approx(float(out[found[0].place].detach()), abs=1e-5)
        chosen = wa.explain(functions, x, "c:1", down=2, follow=[3])
        assert (chosen[0].follow, chosen[1].address) == (3, "b:3")
        with pytest.raises(UnknownNameError, match="9"):
            wa.explain(functions, x, "c:1", down=2, follow=[9])

    def test_a_norm_between_is_gone_through_as_well(self, functions):
        x = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Activated(nn.Conv2d(4, 2, 3)))
        found = wa.explain(opened(module, (3, 12, 12)), x, "2.body:0", down=3)
        assert [s.address.split(":")[0] for s in found] == ["2.body", "0"]
        assert found[1].instead == "sigmoid before 2.body"

    def test_where_no_layer_made_it_the_walk_says_so_and_how_to_go_on(self, functions):
        x = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
        found = wa.explain(functions, x, "f:1", down=5)
        assert len(found) == 1
        assert found[0].follow == -1
        assert found[0].ended.startswith("what 'f' reads is no layer's output")
        assert "source='c' goes on there" in found[0].ended
        further = wa.explain(functions, x, "f:1", down=5, source=["c"])
        assert [s.address.split(":")[0] for s in further] == ["f", "c", "b", "a"]
        assert wa.explain(functions, x, "f:1")[0].ended == ""  # nobody asked for more

    def test_units_that_only_look_alike_are_not_taken_for_the_layer_s(self):
        class Turned(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

            def forward(self, x):
                return self.b(self.a(x).flip(1))

        x = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
        found = wa.explain(opened(Turned(), (3, 12, 12)), x, "b:1", down=3)
        assert len(found) == 1
        assert "source='a' goes on there" in found[0].ended

    def test_a_unit_that_nothing_pushes_up_ends_the_walk_with_a_reason(self):
        net = opened(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)), (3, 4, 4))
        with torch.no_grad():
            net.module[2].weight.fill_(-1)
        found = wa.explain(
            net, torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)), "2:0", at=(0, 0), down=2
        )
        where = found[0].attributions
        assert not where.pushed(4)[0]
        assert found[0].ended == "no unit of 1 pushed it up; follow= chooses one to go on with"


class Activated(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(torch.sigmoid(x))


class TestArguments:
    @pytest.mark.parametrize("unit", ["3:5", "2:1", "7:0"])  # exact, and not
    def test_a_gate_that_is_none_is_refused_before_anything_is_run(self, small, image, unit, monkeypatch):
        monkeypatch.setattr(explaining, "attributions", lambda *a, **k: pytest.fail("something was run"))
        for gate in ("foo", None, True, float("nan"), {"4": "foo"}):
            with pytest.raises(ArgumentError, match=r"^gate="):
                wa.explain(small, image, unit, gate=gate)
        with pytest.raises(UnknownNameError, match="no non-linearity 'nowhere'"):
            wa.explain(small, image, unit, gate={"nowhere": 1.0})

    def test_a_gate_without_its_statistics_is_no_reason_for_going_without_weights(self, small, image):
        with pytest.raises(ArgumentError, match="gate='measured', but of relu in '4'"):
            wa.explain(small, image, "7:1", source="3", gate="measured", steps=2)
        both = {"2": 0.25, "4": 0.5}  # one of them is not on the way
        found = wa.explain(small, image, "7:1", source="3", gate=both, steps=2)[0]
        assert found.why == ""
        assert [r.became for r in found.weights.replaced] == ["× 0.5"]

    def test_what_is_no_list_is_refused(self, small, image):
        with pytest.raises(ArgumentError, match="follow=3 must be a list of numbers of units"):
            wa.explain(small, image, "3:5", down=2, follow=3)
        with pytest.raises(ArgumentError, match="source=3 must be a list of names of layers"):
            wa.explain(small, image, "3:5", source=3)
        with pytest.raises(ArgumentError, match="source=3 must be the name"):
            wa.explain(small, image, "3:5", source=[3])
        with pytest.raises(ArgumentError, match="down=0 is no number of steps down"):
            wa.explain(small, image, "3:5", down=0)
        with pytest.raises(ArgumentError, match="k=0 is no number of sources"):
            wa.explain(small, image, "3:5", k=0)
