"""What expanded weights refuse: each message says what came in, and what to do instead."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from catalogue import EXACT
from test_direct import settle
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, GraphError, UnknownNameError, WeightAtlasError, WeightValuesError
from weightatlas.weights import expanded

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]
C, S = nn.Conv2d, nn.Sequential
SHAPE = (3, 12, 10)
SPEC = wa.InputSpec(shape=SHAPE)


class Branches(nn.Module):
    """a → bn → relu → b → act → c, beside it side; both are added and pooled. aux is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.relu = C(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.b, self.act, self.c = C(4, 4, 3, padding=1), nn.ReLU(), C(4, 5, 3, padding=1)
        self.side, self.pool, self.same = C(3, 5, 1), nn.MaxPool2d(2), nn.Identity()
        self.aux = S(C(4, 4, 1), nn.ReLU())

    def forward(self, x):
        return self.same(self.pool(self.c(self.act(self.b(self.relu(self.bn(self.a(x)))))) + self.side(x)))


@pytest.fixture(scope="module")
def net() -> wa.Network:
    torch.manual_seed(0)
    return wa.load(settle(Branches()), input=SPEC)


def refused(error: type[WeightAtlasError], message: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    """The call must raise just this error, and the message must match from its beginning to its end."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    assert type(caught.value) is error
    assert re.fullmatch(message, str(caught.value)), f"{caught.value}\nis not\n{message}"


E, U, A, G = wa.expanded_weights, UnknownNameError, ArgumentError, GraphError
NEVER = r"is a module that never ran in the network's forward pass, so it is no layer; net\.layers lists those that did"

ENDS = {
    "source after target": ("c", "a", A, r"'c' comes after 'a'.*Did you mean source='a', target='c'\?"),
    "unconnected": ("a", "side", A, r"there is no path from 'a' to 'side'.*wa\.layer_graph\(net\) shows which.*'side'"),
    "same layer": ("a", "a", A, r"source and target are both 'a'; .* from an earlier layer on"),
    "same output": ("pool", "same", A, r"'pool' and 'same' are one and the same output; choose a layer before it"),
    "never called": ("a", "aux.0", A, rf"the target 'aux\.0' {NEVER}"),
    "never called, source": ("aux", "c", A, rf"the source 'aux' {NEVER}"),
    "unknown target": ("a", "bnn", U, r"no layer 'bnn' in Branches; nearest: 'bn'.*net\.layers"),
    "unknown source": ("sid", "c", U, r"no layer 'sid' in Branches; nearest: 'side'.*net\.layers"),
    "nothing near": ("a", "classifier.7", U, r"no layer 'classifier\.7' in Branches; .*net\.layers"),
    "no name": ("a", "", U, r"no layer '' in Branches; there are: 'a', 'bn'.*net\.layers"),
    "a list": (["a"], "c", A, r"the source must be one layer's name, not \['a'\]"),
    "a number": ("a", 3, A, r"the target must be one layer's name, not 3"),
    "input as target": ("a", "input", A, r"the target is the network's input, .* can only be the source"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("function", ["expanded", "gradient"])
def test_ends(net, function: str, case: str) -> None:
    source, target, error, message = ENDS[case]
    images = (torch.zeros(1, *SHAPE),) if function == "gradient" else ()
    refused(error, message, E if function == "expanded" else wa.expected_gradient, net, source, target, *images)


def given(name: str, *cases: Any) -> dict[str, tuple[dict[str, Any], type[WeightAtlasError], str]]:
    return {f"{name}={value!r}": ({name: value}, error, message) for value, error, message in cases}


NAMES = r"'expected', 'measured', 'batchnorm', 'identity', nor a number or a mapping"
GATED = r"there are: 'relu', 'act'"
NO_NUMBER = "is no finite number, nor one for each channel"
OUTSIDE = r"lies outside the grid of 'c', 12 × 10 positions from \(0, 0\)"
VALUES = (
    given(
        "units",
        ([5], U, r"layer 'c' has no unit 5; its 5 units are 0 … 4"),
        ([0, -1], U, r"layer 'c' has no unit -1; its 5 units are 0 … 4"),
        ([], A, r"no unit of layer 'c' was chosen; give some of 0 … 4, or None for all"),
        (3, A, r"units of layer 'c' must be integers like \[0, 3, 17\], not 3"),
        ([1.5], A, r"units of layer 'c' must be integers like \[0, 3, 17\], not \[1\.5\]"),
        ("12", A, r"units of layer 'c' must be integers like \[0, 3, 17\], not '12'"),
    )
    | given(
        "source_units",
        ([4], U, r"layer 'a' has no unit 4; its 4 units are 0 … 3"),
        ([], A, r"no unit of layer 'a' was chosen; give some of 0 … 3, or None for all"),
        ("ab", A, r"units of layer 'a' must be integers like \[0, 3, 17\], not 'ab'"),
    )
    | given(
        "gate",
        ("relu", A, rf"gate='relu' is none of {NAMES}"),
        ("", A, rf"gate='' is none of {NAMES}"),
        (float("nan"), A, rf"gate=nan {NO_NUMBER}"),
        (float("-inf"), A, rf"gate=-inf {NO_NUMBER}"),
        (np.float32("nan"), A, rf"gate=.*nan.* {NO_NUMBER}"),
        (True, A, rf"gate=True {NO_NUMBER}"),
        ([[1.0]], A, rf"gate=\[\[1\.0\]\] {NO_NUMBER}"),
        (None, A, r"gate=None is no name, number or mapping of operators to them"),
        (1j, A, r"gate=1j is no name, number or mapping of operators to them"),
        ({"actt": 1}, U, r"no non-linearity.* 'actt'; nearest: 'act'"),
        ({"bn": 1}, U, rf"no non-linearity.* 'bn'; {GATED}"),
        ({3: 1}, U, rf"no non-linearity.* '3'; {GATED}"),
        ({"act": "relu"}, A, rf"gate='relu' is none of {NAMES}"),
        ({"act": float("nan")}, A, rf"gate=nan {NO_NUMBER}"),
        ({"act": True}, A, rf"gate=True {NO_NUMBER}"),
        ({"act": {"act": 1}}, A, r"gate=.* holds a mapping, \{'act': 1\}; give each operator a name or numbers"),
        ({"act": [1, 2, 3]}, A, r"the gate of 'act' has 3 numbers, but the layer has 4 units"),
        ([1] * 5, A, r"the gate of 'act' has 5 numbers, but the layer has 4 units"),
        (
            "measured",
            A,
            r"gate='measured', but of relu in 'act' .* wa\.measure\(net, images\) .*gate='expected' takes.*",
        ),
        ({"act": "measured"}, A, r"gate='measured', but of relu in 'act' .*wa\.measure\(net, images\).*"),
        (
            "batchnorm",
            A,
            r"gate='batchnorm', but of relu in 'act' .*no batch norm .*gate='expected' takes what there is.*",
        ),
    )
    | given(
        "skip",
        ("no", A, r"skip='no' is none of 'include', 'exclude'"),
        (False, A, r"skip=False is none of 'include', 'exclude'"),
    )
    | given(
        "pool",
        ("max", A, r"pool='max' is none of 'average', 'expected'"),
        (None, A, r"pool=None is none of 'average', 'expected'"),
    )
    | given(
        "at",
        ((12, 0), A, rf"at=\(12, 0\) {OUTSIDE}"),
        ((0, 10), A, rf"at=\(0, 10\) {OUTSIDE}"),
        ((-1, 0), A, rf"at=\(-1, 0\) {OUTSIDE}"),
        (3, A, r"at=3 is no position \(y, x\) of 'c'"),
        ((1, 2, 3), A, r"at=\(1, 2, 3\) is no position \(y, x\) of 'c'"),
        ((1.0, 2), A, r"at=\(1\.0, 2\) is no position \(y, x\) of 'c'"),
        ("ab", A, r"at='ab' is no position \(y, x\) of 'c'"),
    )
    | given(
        "dtype",
        ("float16", A, r"dtype='float16' is none of 'float32', 'float64'.*"),
        (torch.bfloat16, A, r"dtype=torch\.bfloat16 is none of 'float32', 'float64'.*"),
        (None, A, r"dtype=None is none of 'float32', 'float64'.*"),
    )
    | given(
        "device",
        ("moon", A, r"device='moon' cannot be used: .*"),
        (None, A, r"device=None cannot be used: .*"),
        ("meta", A, r"device='meta' cannot be used: it computes no values"),
        ("cuda:99", A, r"device='cuda:99' cannot be used: .*"),
    )
    | given(
        "memory",
        ("1GB", A, r"memory='1GB' must be a number of bytes, or None for half of what is free"),
        (float("nan"), A, r"memory=nan must be a number of bytes, or None for half of what is free"),
        (
            0,
            A,
            r"the expanded weights from 'a' to 5 units of 'c' need .* fewer units= .*, or raise memory=.*",
        ),
    )
)


#: What only the operator can tell; where the way was planned before, the walk does.
LATE = {"gate={'act': [1, 2, 3]}", f"gate={[1] * 5}", "gate='measured'", "gate={'act': 'measured'}", "gate='batchnorm'"}


@pytest.mark.parametrize("case", VALUES)
def test_values(net, monkeypatch, case: str) -> None:
    options, error, message = VALUES[case]
    if case not in LATE:
        monkeypatch.setattr(expanded, "assembled", lambda *a: pytest.fail("computed something"))
    refused(error, message, E, net, "a", "c", **options)


def test_what_comes_close_is_taken(net) -> None:
    """Numpy's numbers, names of dtypes and one gate per channel are no mistakes."""
    whole = E(net, "a", "c", gate={"act": np.ones(4), "relu": [1, 1, 1, 1]})
    np.testing.assert_array_equal(whole.values, E(net, "a", "c", gate="identity").values)
    part = E(net, "a", "c", np.array([3, 1]), (2,), gate=np.float32(1), at=np.array([6, 5]), dtype=torch.float64)
    np.testing.assert_allclose(part.values, whole.values[[3, 1]][:, [2]], atol=1e-6)


def test_budget_is_told_with_its_figure_before_anything_is_computed(net, monkeypatch) -> None:
    monkeypatch.setattr(expanded, "assembled", lambda *a: pytest.fail("computed something"))
    with pytest.raises(ArgumentError) as caught:
        E(net, "a", "c", units=[0, 1], memory=1500)
    found = re.fullmatch(
        r"the expanded weights from 'a' to 2 units of 'c' need ([\d.]+) (bytes|KiB|MiB|GiB), more than the budget of "
        r"1\.46 KiB; ask for fewer units= or source_units=, or raise memory= \(bytes\)",
        str(caught.value),
    )
    assert found, str(caught.value)
    needed = float(found[1]) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[found[2]]
    result = 2 * 4 * 5 * 5 * 4  # float32 [2, 4, 5, 5]
    assert result <= needed <= 20 * result


def test_as_much_as_asked_for_is_enough(net) -> None:
    with pytest.raises(ArgumentError) as caught:
        E(net, "a", "c", memory=1)
    figure, unit = re.search(r"need ([\d.]+) (\w+)", str(caught.value)).groups()
    asked = (float(figure) + 0.01) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20}[unit]
    assert E(net, "a", "c", memory=int(asked)).values.shape == (5, 4, 5, 5)


FLOAT = r"a tensor of images must be float \[N, 3, 12, 10\] with N ≥ 1, as net\.preprocess gives it; got "
IMAGES = {
    "another size": (torch.zeros(2, 3, 12, 11), FLOAT + r"torch\.float32 \(2, 3, 12, 11\)"),
    "one image": (torch.zeros(3, 12, 10), FLOAT + r"torch\.float32 \(3, 12, 10\)"),
    "no image": (torch.zeros(0, 3, 12, 10), FLOAT + r"torch\.float32 \(0, 3, 12, 10\)"),
    "integers": (torch.zeros(1, 3, 12, 10, dtype=torch.int32), FLOAT + r"torch\.int32 \(1, 3, 12, 10\)"),
    "NaN": (torch.full((1, 3, 12, 10), torch.nan), "the images hold NaN or infinite values"),
    "one array": (np.zeros((12, 10, 3)), r"images of shape \(12, 10, 3\) are not .* give images\[None\].*"),
    "an array of integers": (np.zeros((1, 12, 10, 3), int), r"images must be uint8 or float, not int64; convert.*"),
    "out of range": (np.full((1, 12, 10, 3), 300.0), r"image values 300 … 300 leave .* 0 … 1; scale them.*"),
    "an array with NaN": (np.full((1, 12, 10, 3), np.nan), "the image holds NaN or infinite values"),
    "an empty list": ([], "there are no images to preprocess"),
    "nothing": (None, r"images of shape \(\) are not \[N, H, W, C\]; .*"),
}  # fmt: skip


class TestStatistics:
    def test_maxima_without_measuring(self, net) -> None:
        refused(
            A, r"pool='expected' needs wa\.measure\(net, images\) first: .*max pooling 'pool'.*pool='average' reads.*",
            E, net, "a", "pool", pool="expected",
        )  # fmt: skip

    def test_of_other_weights(self, net) -> None:
        other = wa.load(settle(copy.deepcopy(net.module)), input=SPEC)
        other.measured = wa.measure(wa.load(net.module, input=SPEC), torch.randn(2, *SHAPE))
        refused(
            A, r"net\.measured belongs to other weights \(Branches, \w{8} …\) than this network's \(\w{8} …\); run "
            r"wa\.measure\(net, images\), or set net\.measured = None",
            E, other, "a", "c",
        )  # fmt: skip
        other.measured = None
        E(other, "a", "c")

    @pytest.mark.parametrize("case", IMAGES)
    def test_bad_images(self, net, case: str) -> None:
        images, message = IMAGES[case]
        refused(A, message, wa.measure, net, images)
        refused(A, message, wa.expected_gradient, net, "a", "c", images)
        assert net.measured is None

    @pytest.mark.parametrize("batch", [0, -1, 2.5, "all"])
    def test_bad_batches(self, net, batch) -> None:
        message = rf"batch={re.escape(repr(batch))} must be a number of images of at least 1"
        refused(A, message, wa.measure, net, torch.zeros(1, *SHAPE), batch=batch)

    @pytest.mark.parametrize("samples", [0, -1, 2.5, "all", 241])
    def test_bad_samples(self, net, samples) -> None:
        message = rf"samples={re.escape(repr(samples))} must be between 1 and 240: 2 images of 120 positions each"
        refused(A, message, wa.expected_gradient, net, "a", "c", torch.zeros(2, *SHAPE), samples=samples)

    def test_the_other_arguments_of_gradients(self, net) -> None:
        images = torch.zeros(1, *SHAPE)
        for options, error, message in (
            ({"skip": "no"}, A, r"skip='no' is none of 'include', 'exclude'"),
            ({"units": [5]}, U, r"layer 'c' has no unit 5; its 5 units are 0 … 4"),
            ({"source_units": [4]}, U, r"layer 'a' has no unit 4; its 4 units are 0 … 3"),
            ({"device": "moon"}, A, r"device='moon' cannot be used: .*"),
        ):
            refused(error, message, wa.expected_gradient, net, "a", "c", images, **options)


class TestValues:
    @pytest.fixture(scope="class")
    @staticmethod
    def broken() -> wa.Network:
        torch.manual_seed(0)
        module = settle(Branches())
        with torch.no_grad():
            module.b.weight[0, 0, 0, 0] = torch.nan
            module.b.weight[1, 0, 0, 0] = torch.inf
        return wa.load(module, input=SPEC)

    def test_not_a_number_on_the_way(self, broken, monkeypatch) -> None:
        monkeypatch.setattr(expanded, "assembled", lambda *a: pytest.fail("computed something"))
        message = (
            r"2 of 144 values in 'b\.weight' are NaN or infinite, and it lies on the way; choose layers on one side of "
            "it, or check the training run"
        )
        for source, target in (("input", "c"), ("a", "c"), ("relu", "b")):
            refused(WeightValuesError, message, E, broken, source, target)

    @pytest.mark.parametrize(("source", "target"), [("a", "relu"), ("b", "c"), ("act", "c"), ("input", "side")])
    def test_beside_the_way_it_does_no_harm(self, broken, source: str, target: str) -> None:
        """The source's own weights are not on the way that leads on from it."""
        assert np.isfinite(E(broken, source, target).values).all()

    def test_in_a_buffer(self, net) -> None:
        module = copy.deepcopy(net.module)
        module.bn.running_var[2] = torch.nan
        refused(
            WeightValuesError, r"1 of 4 values in 'bn\.running_var' are NaN or infinite, .*; choose layers.*",
            E, wa.load(module, input=SPEC), "a", "c",
        )  # fmt: skip

    def test_measuring_such_a_network(self, broken) -> None:
        message = r"\d+ of \d+ quantities are NaN or infinite on these images, first 'act\|\w+'"
        refused(A, message, wa.measure, broken, torch.zeros(1, *SHAPE))

    def test_sums_that_are_too_large_for_a_float_are_no_error(self) -> None:
        module = S(C(3, 4, 1), C(4, 4, 3, padding=1))
        with torch.no_grad():
            module[1].weight.fill_(3e38)
        weights = E(wa.load(module, input=SPEC), "0", "1")
        np.testing.assert_array_equal(weights.values, np.float32(3e38))


HALF = ("TF same", "average pool", "max pool", "residual", "concat", "channels last", "in place")


class TestTypes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_read_as_its_rounded_weights(self, dtype) -> None:
        """One capture for all: the result is that of the same weights in float32."""

        class Bank(nn.Module):
            def __init__(self, *cases: nn.Module) -> None:
                super().__init__()
                self.stem, self.cases = S(C(2, 2, 1), nn.BatchNorm2d(2)), nn.ModuleList(cases)

            def forward(self, x):
                y = self.stem(x)
                return [case(y.clone()) for case in self.cases]

        half = settle(Bank(*copy.deepcopy([EXACT[n] for n in HALF]))).to(dtype)
        spec = wa.InputSpec(shape=(2, 24, 20))
        ours, truth = (wa.load(m, input=spec) for m in (half, copy.deepcopy(half).float()))
        for number, name in enumerate(HALF):
            for gate in ("identity", "expected"):
                found, expected = (E(n, "stem.0", f"cases.{number}", gate=gate) for n in (ours, truth))
                assert found.values.dtype == np.float32
                assert (found.origin, found.stride) == (expected.origin, expected.stride)
                np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-7, err_msg=name)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_can_be_measured(self, net, dtype) -> None:
        images = torch.randn(4, *SHAPE)
        half = wa.load(copy.deepcopy(net.module).to(dtype), input=SPEC)
        full = wa.load(copy.deepcopy(half.module).float(), input=SPEC)
        for each in (half, full):
            wa.measure(each, images)
        found, expected = (E(n, "a", "c", gate="measured").values for n in (half, full))
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())

    def test_double_precision_too(self, net) -> None:
        double = wa.load(copy.deepcopy(net.module).double(), input=SPEC)
        np.testing.assert_allclose(E(double, "a", "c").values, E(net, "a", "c").values, atol=1e-6)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
    def test_quantised_modules_are_refused_by_name(self) -> None:
        module = S(nn.Identity(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
        message = (
            r"Sequential cannot be captured: '1' is quantised \(torch\.ao\.nn\.quantized\.dynamic\.\S*Linear\)\. "
            "Expanded weights and the graph need floating-point weights: load the network as it was before quantisation"
        )
        net = wa.load(quantised, input=wa.InputSpec(shape=(6,)))
        assert "1" in net.layers
        refused(G, message, E, net, "input", "3")
        refused(G, message, wa.layer_graph, net)
        E(wa.load(module, input=wa.InputSpec(shape=(6,))), "input", "3")  # as it says


def test_training_batch_norm_is_read_as_in_evaluation_and_said(net) -> None:
    module = copy.deepcopy(net.module).train()
    means = module.bn.running_mean.clone()
    weights = E(wa.load(module, input=SPEC), "a", "c")
    assert "in training mode, read as in evaluation: bn" in weights.provenance.notes
    np.testing.assert_array_equal(weights.values, E(net, "a", "c").values)
    assert module.bn.training
    torch.testing.assert_close(module.bn.running_mean, means, rtol=0, atol=0)


def test_a_checkpoint_has_no_expanded_weights(net, tmp_path) -> None:
    torch.save(net.module.state_dict(), tmp_path / "w.pt")
    bare = wa.load(tmp_path / "w.pt")
    message = r".* needs the architecture, but 'w\.pt' is a checkpoint of \d+ tensors\. Build the module.*"
    refused(A, message, E, bare, "a", "c")
    refused(A, message, wa.measure, bare, torch.zeros(1, *SHAPE))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda step: None, r"rule registered for 'cumsum' \(in module ':cumsum'\) failed: TypeError"),
        (lambda step: [(step.source, 5)], r"must give pairs \(input node, kernel on it\)"),
        (lambda step: [step.kernel], "must give pairs"),
    ],
)
def test_a_faulty_rule_is_named(rule, message: str, monkeypatch) -> None:
    from weightatlas.weights.rules import table

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.b(torch.cumsum(self.a(x), 1))

    monkeypatch.setattr(table, "_RULES", dict(table._RULES))
    monkeypatch.setattr(table, "_TAUGHT", set(table._TAUGHT))
    wa.register_rule("cumsum", rule)
    net = wa.load(Net().eval(), input=wa.InputSpec(shape=(3, 6, 6)))
    with pytest.raises(GraphError, match=message):
        wa.expanded_weights(net, "a", "b")


def test_a_batch_size_that_is_written_in_is_told() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.b(self.a(x).view(1, 4, -1).view(1, 4, 10, 14))

    with pytest.raises(GraphError, match=r"batch size: take it from x\.shape"):
        wa.expanded_weights(wa.load(Net().eval(), input=wa.InputSpec(shape=(3, 12, 16))), "a", "b")


def test_a_mask_is_no_list_of_units() -> None:
    net = wa.load(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)).eval(), input=wa.InputSpec(shape=(3, 6, 6)))
    with pytest.raises(ArgumentError, match="must be integers"):
        wa.expanded_weights(net, "0", "1", units=[True, False])
