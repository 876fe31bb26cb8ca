"""The captured graph: each layer's node holds what a hook on the module sees, and the module stays as it was."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from catalogue import EXACT, HULLS, WHOLE, Fn, S, conv
from test_direct import settle
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import ArgumentError, GraphError
from weightatlas.graph import capture, shape_of

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]
SHAPE = (2, 24, 20)
IMAGES = 3  # another number than the example's


class Two(nn.Module):
    """Returns more than one tensor."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.a, self.b, self.kind = conv(), conv(), kind

    def forward(self, x):
        return self.kind(self.a(x), self.b(x))


class Steps(nn.Module):
    """Counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(), nn.BatchNorm2d(2)
        self.register_buffer("ran", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        return self.norm(self.a(x))


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.choice = conv(padding=1), conv(), nn.Identity()

    def forward(self, x):
        y = self.a(x)
        return self.choice(y) if y.sum() > 0 else self.b(y)


class Stem(nn.Module):
    """Everything that is easily lost, in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = conv(), nn.BatchNorm2d(2), nn.ReLU(inplace=True)
        self.nothing, self.drop, self.again = nn.Identity(), nn.Dropout(0.5), conv(padding=1)
        self.pair, self.named = Two(lambda a, b: (a, b)), Two(lambda a, b: {"first": a, "second": b})
        self.nested = Two(lambda a, b: [{"inner": (a, b)}])
        self.unread, self.never = conv(), conv()

    def forward(self, x):
        y = self.nothing(self.relu(self.bn(self.conv(x))))
        y = self.relu(self.again(self.drop(y)))
        self.unread(y)
        return self.pair(y)[1] + self.named(y)["second"] + self.nested(y)[0]["inner"][1]


class Aliased(nn.Module):
    """Modules that hand on the very memory that they read, which is written to later."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu = conv(), nn.ReLU(inplace=True)
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(), nn.Flatten(2)

    def forward(self, x):
        y = self.a(x) + 1
        kept, flat = self.same(y), self.flat(y)
        self.relu(y)
        z = self.drop(y * 2)
        w = self.same(z)
        z.mul_(3)
        return kept + flat.view_as(kept) + w


class Bank(nn.Module):
    """Networks side by side, so that one capture will do."""

    def __init__(self, *cases: nn.Module) -> None:
        super().__init__()
        self.cases = nn.ModuleList(cases)

    def forward(self, x):
        return [case(x) for case in self.cases]


def first(output) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


def seen(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What hooks see in one forward: layer name → its (first) output at that moment."""
    found: dict[str, torch.Tensor] = {}
    count: dict[str, int] = {}

    def hook(name):
        def keep(_, args, output):
            count[name] = nth = count.get(name, 0) + 1
            found[f"{name}#{nth}" if nth > 1 else name] = first(output).clone()

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in module.named_modules()]
    with torch.no_grad():
        module(x.clone())
    for handle in handles:
        handle.remove()
    return found


def shown(net: wa.Network, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What ``Graph.run`` shows at each layer's node."""
    graph = capture(net)
    values = {}
    graph.run(x.clone(), lambda node, value, _: values.__setitem__(node, first(value).clone()), graph.names)
    return {name: values[node] for name, node in graph.outputs.items() if name != "input"}


def load(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> wa.Network:
    return wa.load(module, input=wa.InputSpec(shape=shape))


def check(net: wa.Network) -> set[str]:
    x = torch.randn(IMAGES, *net.input.shape)
    truth, found = seen(net.module, x), shown(net, x)
    assert truth.keys() == found.keys()
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    return set(truth)


#: Made of the same operators as others.
ALIKE = {
    "non-square", "dilation", "same, even", "zero pad", "adaptive, dividing", "transposed axes", "transposed, wide",
    "nearest, odd", "nearest, scale", "nearest-exact", "bilinear, scale", "bilinear, corners", "bilinear, smaller",
    "instance norm", "flatten, linear", "global pool",
}  # fmt: skip
CASES = {name: module for name, module in (EXACT | HULLS | WHOLE).items() if name not in ALIKE}


@pytest.fixture(scope="module")
def bank():
    """Many nets of the catalogue in one, what hooks see, and what the graph shows."""
    torch.manual_seed(2)
    net = load(settle(Bank(*copy.deepcopy(list(CASES.values())))))
    x = torch.randn(IMAGES, *SHAPE)
    return net, seen(net.module, x), shown(net, x)


class TestEveryLayerIsANode:
    def test_no_layer_is_missing(self, bank) -> None:
        net, truth, found = bank
        assert truth.keys() == found.keys()
        assert set(net.layers) <= found.keys()

    @pytest.mark.parametrize("case", CASES)
    def test_it_holds_what_a_hook_sees(self, bank, case: str) -> None:
        _, truth, found = bank
        mine = f"cases.{list(CASES).index(case)}"
        names = [n for n in truth if n == mine or n.startswith((mine + ".", mine + "#"))]
        assert names
        for name in names:
            torch.testing.assert_close(found[name], truth[name], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("case", ["in place", "TF same", "bilinear"])
    def test_alone_too(self, case: str) -> None:
        check(load(settle(copy.deepcopy(CASES[case]))))

    def test_layers_that_are_easily_lost(self) -> None:
        net = load(settle(Stem()))
        names = check(net)
        assert {"relu", "relu#2", "nothing", "drop", "pair", "named", "nested", "unread", "pair.b"} <= names
        assert "never" not in names
        graph = capture(net)
        assert graph.node("nothing") is graph.node("relu")
        assert graph.node("relu#2") is not graph.node("relu")
        for name in ("pair", "named", "nested"):  # the first tensor stands for several
            assert graph.node(name) is graph.node(f"{name}.a") is not graph.node(f"{name}.b")

    def test_a_module_with_two_names_is_one_layer_that_is_called_twice(self) -> None:
        twin = S(conv(padding=1), nn.ReLU(inplace=True))
        net = load(Fn(lambda m, x: m.after(m.b(m.a(x) + x)), a=twin, b=twin, after=conv()).eval())
        assert check(net) == {"", "a", "a.0", "a.1", "a#2", "a.0#2", "a.1#2", "after"}
        assert capture(net).node("a#2") is not capture(net).node("a")

    def test_what_shares_memory_goes_on_sharing_it(self) -> None:
        net = load(Aliased().eval())
        check(net)
        x = torch.randn(IMAGES, *SHAPE)
        torch.testing.assert_close(shown(net, x)[""], net.module(x))

    def test_in_place_shows_the_value_before_it_was_written_over(self) -> None:
        net = load(settle(S(conv(), nn.ReLU(inplace=True), conv())))
        values = shown(net, torch.randn(1, *SHAPE))
        assert values["0"].min() < 0 == values["1"].min()

    def test_names_and_addresses_of_nodes(self) -> None:
        net = load(Fn(lambda m, x: functional.relu(m.r(m.a(x))) + functional.relu(x), a=conv(k=1), r=nn.ReLU()))
        graph = capture(net)
        places = [graph.address(n) for n in graph.nodes if n.op == "call_function"]
        assert places == ["a", "r", ":relu", ":relu#2", ":add"]
        assert shape_of(graph.node("a")) == SHAPE
        assert [graph.stored_name(n) for n in graph.node("a").args[1:3]] == ["a.weight", "a.bias"]
        assert graph.trained.issuperset(graph.node("a").args[1:3])
        assert graph.value(graph.node("a").args[1]) is net.module.a.weight
        assert not graph.between(graph.node("r"), graph.node("a"))
        assert graph.node("input") is graph.input
        with pytest.raises(
            ArgumentError, match="the output of 'b' is not a tensor of the captured graph; choose a layer"
        ):
            graph.node("b")
        with pytest.raises(ArgumentError, match="'r' is no constant: it depends on the input"):
            graph.value(graph.node("r"))

    def test_only_what_is_needed_is_run(self) -> None:
        net = load(S(conv(), nn.ReLU(), conv()))
        graph = capture(net)
        visited = []
        graph.run(torch.randn(1, *SHAPE), lambda node, *_: visited.append(node), [graph.node("1")])
        assert visited == [graph.input, graph.node("0"), graph.node("1")]


class TestKeeping:
    @pytest.fixture
    def net(self) -> wa.Network:
        return load(settle(S(conv(padding=1), nn.BatchNorm2d(2), nn.ReLU(), conv(padding=1))))

    def test_once_per_network(self, net) -> None:
        graph = capture(net)
        assert capture(net) is graph
        assert capture(load(net.module)) is graph, "another network of the same module"
        assert capture(load(net.module, (2, 12, 12))) is not graph, "another input"
        assert capture(net) is graph
        wa.expanded_weights(net, "0", "3")
        assert capture(net) is graph

    def test_running_training_and_gradients_are_no_changes(self, net) -> None:
        graph = capture(net)
        net.module.train()
        net.module(torch.randn(2, *SHAPE)).sum().backward()
        net.module.requires_grad_(False)
        assert capture(net) is graph

    def test_weights_loaded_in_place_are_seen(self, net) -> None:
        before = wa.expanded_weights(net, "0", "3", gate="identity")
        graph = capture(net)
        state = net.module.state_dict()
        net.module.load_state_dict({n: v * 2 if n == "3.weight" else v for n, v in state.items()})
        after = wa.expanded_weights(net, "0", "3", gate="identity")
        np.testing.assert_allclose(after.values, 2 * before.values, rtol=1e-6)
        net.module[3].weight = nn.Parameter(net.module[3].weight.detach() * 2)
        again = wa.expanded_weights(net, "0", "3", gate="identity")
        np.testing.assert_allclose(again.values, 4 * before.values, rtol=1e-6)
        with torch.no_grad():
            net.module[1].running_var.mul_(4).add_(3 * net.module[1].eps)
        halved = wa.expanded_weights(net, "0", "3", gate="identity")
        np.testing.assert_allclose(halved.values, 2 * before.values, rtol=1e-5)
        assert capture(net) is graph

    def test_a_changed_setting_is_captured_anew(self, net) -> None:
        assert wa.expanded_weights(net, "0", "3").stride == (1, 1)
        graph = capture(net)
        net.module[3].stride = (2, 1)
        assert capture(net) is not graph
        assert wa.expanded_weights(load(net.module), "0", "3").stride == (2, 1)

    @pytest.mark.parametrize("change", ["part", "function", "type"])
    def test_so_are_changed_parts(self, change: str) -> None:
        module = S(conv(), Fn(lambda m, x: m.a(x), a=nn.ReLU()))
        net = load(module)
        graph = capture(net)
        if change == "part":
            module[1].a = nn.Tanh()
        elif change == "function":
            module[1].function = lambda m, x: x * 2
        else:
            module.double()
        assert capture(net) is not graph

    def test_a_failure_is_remembered(self, monkeypatch) -> None:
        net = load(Choosing())
        messages = []
        with pytest.raises(GraphError) as caught:
            capture(net)
        assert caught.value.__cause__ is not None, "what torch.export said"
        messages.append(str(caught.value))
        monkeypatch.setattr(torch.export, "export", lambda *a, **k: pytest.fail("tried again"))
        with pytest.raises(GraphError) as caught:
            wa.layer_graph(net)
        assert str(caught.value) == messages[0]

    @pytest.mark.parametrize("kind", [lambda: S(conv(), nn.ReLU()), Choosing])
    def test_nothing_keeps_the_module_alive(self, kind) -> None:
        module = kind()
        net = load(module)
        graph = None
        try:
            graph = capture(net)
        except GraphError:
            assert kind is Choosing
        gone = weakref.ref(module)
        del module, net
        gc.collect()
        assert gone() is None
        if graph is not None:
            with pytest.raises(GraphError, match="no longer exists; keep the network"):
                _ = graph.module


class TestTheModuleIsLeftAsItWas:
    def look(self, module: nn.Module) -> list:
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        found: list = [(n, m.training, [dict(getattr(m, h)) for h in hooks]) for n, m in module.named_modules()]
        found += [(n, id(p), p.requires_grad, p.grad) for n, p in module.named_parameters()]
        return [*found, *((n, id(b), b.tolist()) for n, b in module.named_buffers())]

    @pytest.mark.parametrize("kind", [Steps, Choosing])
    def test_also_when_it_fails(self, kind) -> None:
        module = S(kind(), conv())
        module.train()
        module[1].eval()
        module[0].a.weight.requires_grad_(False)
        calls = []
        module[1].register_forward_hook(lambda *_: calls.append(1))
        before, values = self.look(module), [p.clone() for p in module.parameters()]
        try:
            wa.layer_graph(load(module))
        except GraphError:
            assert kind is Choosing
        assert self.look(module) == before
        assert all(torch.equal(a, b) for a, b in zip(values, module.parameters(), strict=True))
        assert torch.is_grad_enabled()

    def test_training_mode_is_noted_as_long_as_it_lasts(self) -> None:
        module = settle(S(conv(padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(), conv(padding=1)))
        net = load(module)
        quiet = wa.expanded_weights(net, "0", "4")
        assert not any("training" in n for n in quiet.provenance.notes)
        module.train()
        weights = wa.expanded_weights(net, "0", "4")
        assert "in training mode, read as in evaluation: 1 and 1 more" in weights.provenance.notes
        np.testing.assert_array_equal(weights.values, quiet.values)
        assert any("in training mode" in n for n in wa.layer_graph(net).notes)
        module.eval()
        module[1].train()
        assert "in training mode, read as in evaluation: 1" in wa.expanded_weights(net, "0", "4").provenance.notes
        gradient = wa.expected_gradient(net, "0", "4", torch.randn(1, *SHAPE), samples=1)
        assert "in training mode, read as in evaluation: 1" in gradient.provenance.notes
        assert module[1].training


class TestWhatCannotBeCaptured:
    def test_decisions_that_depend_on_data(self) -> None:
        net = load(S(conv(), Choosing()))
        with pytest.raises(GraphError) as caught:
            wa.expanded_weights(net, "0", "1.a")
        message = str(caught.value)
        assert "Sequential cannot be captured: torch.export stopped in '1'" in message
        assert "without decisions that depend on the data" in message
        assert "layers, direct weights, factorization and banding work without" in message
        assert "load the part of the network that can be captured as a module of its own" in message
        assert wa.direct_weights(net, "0").values.shape == (2, 2, 3, 3)  # as it says
        assert wa.layer_graph(load(net.module[0])).inputs is not None

    def test_a_checkpoint_has_no_graph(self, tmp_path) -> None:
        torch.save(S(conv()).state_dict(), tmp_path / "w.pt")
        net = wa.load(tmp_path / "w.pt")
        for ask in (lambda: wa.layer_graph(net), lambda: capture(net)):
            with pytest.raises(
                ArgumentError, match=r"needs the architecture, but 'w\.pt' is a checkpoint of 2 tensors"
            ):
                ask()


class TestLayerGraph:
    def test_a_residual_network(self) -> None:
        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.act, self.b, self.out = conv(padding=1), nn.ReLU(), conv(padding=1), nn.ReLU()

            def forward(self, x):
                return self.out(self.b(self.act(self.a(x))) + x)

        net = load(S(conv(padding=1), Block(), nn.Flatten(), nn.Linear(960, 3)))
        graph = wa.layer_graph(net)
        assert set(graph.edges) == {
            ("input", "0"), ("0", "1.a"), ("1.a", "1.act"), ("1.act", "1.b"), ("1.b", "1.out"), ("0", "1.out"),
            ("1.out", "2"), ("2", "3"),
        }  # fmt: skip
        assert [n.name for n in graph.nodes] == ["input", "0", "1.a", "1.act", "1.b", "1.out", "2", "3"]
        assert {n.name: n.operators for n in graph.nodes if n.operators} == {"1.out": ("add",)}
        assert graph.node("1").name == "1.out"
        assert graph.node("1.out").also == ("1",)
        assert graph.between("0", "1.b") == ["0", "1.a", "1.act", "1.b"]
        facts = {n.name: (n.kind, n.type, n.units, n.grid, n.parameters) for n in graph.nodes}
        assert facts["input"] == ("input", "", 2, (24, 20), 0)
        assert facts["0"] == ("conv", "Conv2d", 2, (24, 20), 38)
        assert facts["3"] == ("linear", "Linear", 3, (1, 1), 2883)

    def test_a_concatenating_network(self) -> None:
        class Cat(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.c, self.d = conv(padding=1), conv(padding=1), conv(6, 2, 1), conv(4, 1, 1)

            def forward(self, x):
                a = functional.relu(self.a(x))
                c = self.c(torch.cat([a, self.b(a), x], 1))
                return self.d(torch.cat([a, c * 2], 1))

        graph = wa.layer_graph(load(Cat()))
        assert set(graph.edges) == {
            ("input", "a"), ("a", "b"), ("a", "c"), ("b", "c"), ("input", "c"), ("a", "d"), ("c", "d"),
        }  # fmt: skip
        operators = {n.name: set(n.operators) for n in graph.nodes}
        assert operators == {
            "input": set(), "a": set(), "b": {"relu"}, "c": {"relu", "cat"}, "d": {"relu", "cat", "mul"},
        }  # fmt: skip

    def test_the_embedded_network(self, lite0) -> None:
        graph = wa.layer_graph(lite0)
        names = [name for n in graph.nodes for name in (n.name, *n.also)]
        assert set(names) == {"input", *lite0.layers}
        assert graph.inputs("blocks.4.1") == ["blocks.4.0.bn3", "blocks.4.1.bn3"]
        assert graph.node("blocks.4.1").operators == ("add",)
        inside = [f"blocks.4.1.{n}" for n in ("conv_pw", "bn1", "act1", "conv_dw", "bn2", "act2", "conv_pwl", "bn3")]
        assert graph.between("blocks.4.0", "blocks.4.1") == ["blocks.4.0.bn3", *inside, "blocks.4.1"]
        assert graph.connected("input", "classifier")
        assert graph.connected("blocks.4.0.conv_pw", "blocks.6.0")
        assert not graph.connected("blocks.4.1", "blocks.4.0")
        assert graph.between("blocks.4.1", "blocks.4.0") == []
        captured = capture(lite0)
        for source, target in (
            ("conv_stem", "classifier"),
            ("blocks.4.1", "blocks.4.0"),
            ("blocks.3.0", "blocks.3.2.act1"),
        ):
            way = captured.between(captured.node(source), captured.node(target))
            assert bool(way) == graph.connected(source, target)
            met = [captured.names[n][0] for n in way if n in captured.names]
            assert met == graph.between(source, target)
