"""ONNX files against onnx's own reference implementation and against the torch modules that the weights come from."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, MissingPackageError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper, reference  # noqa: E402

RNG = np.random.default_rng(0)
FLOAT = TensorProto.FLOAT


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(kind: str, reads: str, makes: str, name: str = "", **attributes):
    return helper.make_node(kind, reads.split(), makes.split(), name=name, **attributes)


def model(nodes, tensors, shape=(1, 4, 9, 8), out="y", opset: int = 21, **more):
    """A model with one input x; ``tensors`` are arrays or messages."""
    held = [t if isinstance(t, TensorProto) else numpy_helper.from_array(t, k) for k, t in tensors.items()]
    takes = [helper.make_tensor_value_info("x", FLOAT, shape)]
    gives = [helper.make_tensor_value_info(out, FLOAT, None)]
    graph = helper.make_graph(nodes, "g", takes, gives, held)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def opened(tmp_path, made):
    onnx.save(made, tmp_path / "m.onnx")
    return wa.load(f"onnx:{tmp_path / 'm.onnx'}")


def applied(weights: wa.Weights, x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """What the documented formula gives: Σ W[o, i, y, x] · in[i, t · stride + origin + (y, x) · dilation]."""
    values = weights.dense().values
    spread = weights.dense()
    result = np.zeros((len(values), *grid))
    for t in np.ndindex(grid):
        for k in np.ndindex(values.shape[2:]):
            at = [
                t[a] * spread.stride[a] + spread.origin[a] + k[a] * spread.dilation[a] + 1e-9 for a in (0, 1)
            ]  # fractions fall on whole steps or count for nothing
            whole = [int(np.floor(v)) for v in at]
            if all(abs(v - w) < 1e-6 and 0 <= w < n for v, w, n in zip(at, whole, x.shape[2:], strict=True)):
                result[:, t[0], t[1]] += values[:, :, k[0], k[1]] @ x[0, :, whole[0], whole[1]]
    return result


CONVOLUTIONS = {
    "plain": ("Conv", (6, 4, 3, 3), {}),
    "strides and uneven pads": ("Conv", (6, 4, 3, 2), dict(strides=[2, 3], pads=[1, 0, 2, 3])),
    "cropping pads": ("Conv", (6, 4, 3, 3), dict(pads=[-1, 0, 0, -1])),
    "groups and dilations": ("Conv", (6, 2, 3, 3), dict(group=2, dilations=[2, 1], pads=[2, 1, 2, 1])),
    "depthwise": ("Conv", (8, 1, 3, 3), dict(group=4)),
    "same upper": ("Conv", (6, 4, 4, 3), dict(auto_pad="SAME_UPPER", strides=[2, 3])),
    "same lower": ("Conv", (6, 4, 4, 3), dict(auto_pad="SAME_LOWER", strides=[2, 3])),
    "valid": ("Conv", (6, 4, 3, 3), dict(auto_pad="VALID", strides=[2, 2])),
    "transposed": ("ConvTranspose", (4, 5, 3, 3), dict(strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 0])),
    "transposed groups": ("ConvTranspose", (4, 3, 3, 2), dict(group=2, dilations=[2, 1], strides=[2, 1])),
    "transposed same upper": ("ConvTranspose", (4, 5, 3, 4), dict(auto_pad="SAME_UPPER", strides=[2, 3])),
    "transposed same lower": ("ConvTranspose", (4, 5, 4, 4), dict(auto_pad="SAME_LOWER", strides=[1, 3])),
    "transposed to a shape": ("ConvTranspose", (4, 5, 4, 4), dict(output_shape=[18, 17], strides=[2, 2])),
}


#: Where the reference implementation has gaps torch is the truth, with what is to be cut off: top, left, bottom, right.
CROPPED = {
    "cropping pads": (1, 0, 0, 1),
    "transposed groups": (0, 0, 0, 0),
    "transposed to a shape": (1, 1, 1, 0),  # the odd one first where nothing says which
}


def by_reference(x: np.ndarray, made) -> np.ndarray:
    return reference.ReferenceEvaluator(made).run(None, {"x": x})[0][0]


def by_torch(x: np.ndarray, made, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    convolution = made.graph.node[0]
    given = {a.name: helper.get_attribute_value(a) for a in convolution.attribute}
    weight = torch.from_numpy(numpy_helper.to_array(made.graph.initializer[0]).copy())
    options = dict(stride=given.get("strides", 1), dilation=given.get("dilations", 1), groups=given.get("group", 1))
    cut = lambda t: t[:, :, top : t.shape[2] - bottom, left : t.shape[3] - right]  # noqa: E731
    if convolution.op_type == "Conv":
        return nn.functional.conv2d(cut(torch.from_numpy(x)), weight, **options)[0].numpy()
    return cut(nn.functional.conv_transpose2d(torch.from_numpy(x), weight, **options))[0].numpy()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_do_what_the_reference_does(tmp_path, case: str) -> None:
    kind, shape, attributes = CONVOLUTIONS[case]
    made = model([node(kind, "x c.weight", "y", **attributes)], {"c.weight": numbers(*shape)})
    x = numbers(1, 4, 9, 8)
    expected = by_torch(x, made, *CROPPED[case]) if case in CROPPED else by_reference(x, made)
    layer = (net := opened(tmp_path, made)).layers["c"]
    grid = None if case == "cropping pads" else expected.shape[1:]  # which onnx does not infer
    assert (layer.units, layer.grid, layer.source, layer.input_channels) == (len(expected), grid, "input", 4)
    weights = wa.direct_weights(net, "c")
    assert weights.sees_pixels
    np.testing.assert_allclose(applied(weights, x, expected.shape[1:]), expected, atol=1e-4)


class Exported(nn.Module):
    """One of each module, and the nodes that torch's exporter makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.bn = nn.BatchNorm2d(8, eps=1e-3)
        self.grouped = nn.Conv2d(8, 6, 3, groups=2, dilation=2, padding=2)
        self.depthwise = nn.Conv2d(6, 12, 3, groups=6)
        self.up = nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, groups=3)
        self.fc = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        x = self.grouped(torch.relu(self.bn(self.stem(x))))
        x = self.up(self.depthwise(x)).mean((2, 3))
        return self.head(torch.relu(self.fc(x)))


def conv_attributes(module) -> dict:
    both = lambda v: [*v, *v]  # noqa: E731
    return dict(
        strides=module.stride, pads=both(module.padding), dilations=module.dilation, group=module.groups,
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    module = Exported().eval()
    with torch.no_grad():
        for tensor in (module.bn.weight, module.bn.running_var):
            tensor.uniform_(0.5, 2)
    t = {k: v.numpy() for k, v in module.state_dict().items() if v.ndim}
    nodes = [
        node("Conv", "x stem.weight", "a", **conv_attributes(module.stem)),
        node("BatchNormalization", "a bn.weight bn.bias bn.running_mean bn.running_var", "b", epsilon=1e-3),
        node("Relu", "b", "c"),
        node("Conv", "c grouped.weight grouped.bias", "d", **conv_attributes(module.grouped)),
        node("Conv", "d depthwise.weight depthwise.bias", "e", **conv_attributes(module.depthwise)),
        node("ConvTranspose", "e up.weight up.bias", "f", **conv_attributes(module.up)),
        node("ReduceMean", "f axes", "g", keepdims=0),
        node("Gemm", "g fc.weight fc.bias", "h", transB=1),
        node("Relu", "h", "i"),
        node("MatMul", "i onnx::MatMul_40", "y", name="/head/MatMul"),
    ]
    t["onnx::MatMul_40"] = t.pop("head.weight").T.copy()
    t["axes"] = np.array([2, 3])
    return module, model(nodes, t)


@pytest.mark.parametrize("fold", [True, False])
def test_weights_equal_those_of_the_torch_module(tmp_path, exported, fold: bool) -> None:
    module, made = exported
    net, known = opened(tmp_path, made), wa.load(module, input=wa.InputSpec(shape=(4, 9, 8)))
    assert list(net.layers) == ["stem", "grouped", "depthwise", "up", "fc", "head"]
    for name, layer in net.layers.items():
        ours, right = (wa.direct_weights(n, name, fold_norm=fold) for n in (net, known))
        np.testing.assert_array_equal(ours.values, right.values, name)
        for field in ("groups", "origin", "stride", "dilation", "source_units", "norm"):
            assert getattr(ours, field) == getattr(right, field), (name, field)
        for field in ("kind", "units", "grid", "kernel", "groups", "axes", "parameters", "norm"):
            assert getattr(layer, field) == getattr(known.layers[name], field), (name, field)
    assert [layer.source for layer in net.layers.values()] == ["input", "stem", "grouped", "depthwise", "up", "fc"]
    assert net.layers["stem"].norm == "bn"
    assert any("fc (ReduceMean)" in note for note in net.notes)
    assert net.file.startswith("m.onnx sha256:")
    assert net.origin == (f"onnx:{tmp_path / 'm.onnx'}", None)


def test_what_needs_no_module_works_and_the_rest_says_why_not(tmp_path, exported) -> None:
    net = opened(tmp_path, exported[1])
    assert "graph of 6 layers" in repr(net)
    assert wa.factorize(wa.direct_weights(net, "stem"), rank=2).explained > 0
    rows = {row.layer: row for row in wa.banding(net).rows}
    assert list(rows) == ["stem", "grouped", "depthwise", "up"]
    assert rows["stem"].apart.startswith("sees pixels")
    assert not rows["grouped"].apart
    for attempt in (
        lambda: wa.expanded_weights(net, "stem", "grouped"),
        lambda: wa.visualize(net, "stem"),
        lambda: wa.activations(net, np.zeros((1, 9, 8, 3), np.uint8), ["stem"]),
        lambda: net.preprocess(np.zeros((1, 9, 8, 3), np.uint8)),
    ):
        with pytest.raises(ArgumentError, match=r"'m.onnx' is a graph of .*module that it was exported from"):
            attempt()
    with pytest.raises(ArgumentError, match="no module that takes an input"):
        wa.load(f"onnx:{tmp_path / 'm.onnx'}", input=wa.InputSpec(shape=(4, 9, 8)))
    for weights in ("random", tmp_path / "w.pth"):
        with pytest.raises(ArgumentError, match="an ONNX file has its own"):
            wa.load(f"onnx:{tmp_path / 'm.onnx'}", weights=weights)


def test_matrices_from_either_side(tmp_path) -> None:
    w = {k: numbers(5, 7) for k in ("a.weight", "b.weight", "c.weight")} | {"d.weight": numbers(3, 7, 5)}
    w["b.weight"] = w["b.weight"].T.copy()
    nodes = [
        node("MatMul", "a.weight x", "h"),  # units along the last axis but one
        node("Gemm", "x b.weight", "i", alpha=0.5, transA=1),
        node("Gemm", "x c.weight", "y", transB=1, transA=1),
        node("MatMul", "d.weight x", "j"),
    ]
    net = opened(tmp_path, model(nodes, w, shape=(7, 2)))
    assert {k: (v.units, v.input_channels) for k, v in net.layers.items()} == dict.fromkeys("abc", (5, 7))
    np.testing.assert_array_equal(wa.direct_weights(net, "a").values[..., 0, 0], w["a.weight"])
    np.testing.assert_array_equal(wa.direct_weights(net, "b").values[..., 0, 0], w["b.weight"].T * 0.5)
    assert any("no layers: 1 MatMul" in n for n in net.notes)
    np.testing.assert_array_equal(net.tensors["d.weight"], w["d.weight"])  # no layer, but not lost


def test_signals_and_volumes(tmp_path) -> None:
    module = nn.Conv1d(4, 6, 5, stride=2, dilation=2, padding=3, groups=2)
    nodes = [node("Conv", "x c.weight", "y", **conv_attributes(module))]
    net = opened(tmp_path, model(nodes, {"c.weight": module.weight.detach().numpy()}, shape=("n", 4, 30)))
    known = wa.load(nn.Sequential(module), input=wa.InputSpec(shape=(4, 30)))
    ours, right = wa.direct_weights(net, "c"), wa.direct_weights(known, "0")
    np.testing.assert_array_equal(ours.values, right.values)
    assert (ours.origin, ours.stride, ours.dilation) == (right.origin, right.stride, right.dilation)
    assert net.layers["c"].grid == known.layers["0"].grid
    net = opened(
        tmp_path, model([node("Conv", "x c.weight", "y")], {"c.weight": numbers(2, 4, 2, 2, 2)}, (1, 4, 5, 5, 5))
    )
    assert net.layers["c"].kernel is None
    with pytest.raises(ArgumentError, match="without direct weights"):
        wa.direct_weights(net, "c")


def test_sizes_that_the_file_leaves_open(tmp_path) -> None:
    nodes = [node("Conv", "x c.weight", "y", auto_pad="SAME_UPPER", strides=[2, 2])]
    net = opened(tmp_path, model(nodes, {"c.weight": numbers(2, 4, 3, 3)}, shape=("n", 4, "h", "w")))
    assert net.layers["c"].grid is None
    assert any("leaves open: c" in note for note in net.notes)
    assert any("0 is assumed" in note for note in wa.direct_weights(net, "c").provenance.notes)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_padding_before_a_convolution_moves_its_origin(tmp_path, mode: str) -> None:
    tensors = {
        "a.weight": numbers(3, 4, 1, 1),
        "b.weight": numbers(2, 3, 3, 3),
        "pads": np.array([0, 0, 2, 1, 0, 0, 0, 3]),
    }
    nodes = [
        node("Conv", "x a.weight", "a"),
        node("Pad", "a pads", "p", mode=mode),
        node("Relu", "p", "r"),
        node("Conv", "r b.weight", "y", pads=[1, 0, 0, 0]),
    ]
    net = opened(tmp_path, model(nodes, tensors))
    assert (net.layers["b"].source, net.layers["b"].origin) == ("a", (-3.0, -1.0))


def sources(tmp_path, nodes, tensors, **more) -> dict[str, str]:
    return {k: v.source for k, v in opened(tmp_path, model(nodes, tensors, **more)).layers.items()}


def test_what_a_layer_reads_is_told_only_where_it_is_one_layer(tmp_path) -> None:
    tensors = {f"{k}.weight": numbers(4, 4, 1, 1) for k in "abcdef"} | {"half": np.float32(0.5)}
    nodes = [
        node("Sub", "x half", "scaled"),
        node("Conv", "scaled a.weight", "a"),
        node("Sigmoid", "a", "s"),
        node("Mul", "a s", "swish"),  # both sides come from a
        node("Conv", "swish b.weight", "b"),
        node("Add", "a b", "sum"),
        node("Conv", "sum c.weight", "c"),  # two layers
        node("Concat", "c b", "cat", axis=0),
        node("Conv", "cat d.weight", "d"),
        node("MaxPool", "d", "pool", kernel_shape=[2, 2]),
        node("Conv", "pool e.weight", "e"),
        node("Transpose", "e", "turned", perm=[0, 3, 2, 1]),  # four positions where four units were
        node("Conv", "turned f.weight", "y"),
    ]
    found = sources(tmp_path, nodes, tensors, shape=(1, 4, 5, 5))
    assert found == {"a": "input", "b": "a", "c": "", "d": "", "e": "d", "f": ""}


def test_units_are_followed_through_flattening_and_turning(tmp_path) -> None:
    tensors = {
        "p.weight": numbers(4, 4, 2, 2),
        "q.weight": numbers(4, 6),
        "r.weight": numbers(4, 6),
        "seq": np.array([0, 4, -1]),
    }
    nodes = [
        node("Conv", "x p.weight", "p"),  # [1, 4, 2, 2]
        node("Reshape", "p seq", "tokens"),  # [1, 4, 4]: units, positions
        node("Transpose", "tokens", "turned", perm=[0, 2, 1]),
        node("MatMul", "turned q.weight", "q"),  # over units
        node("MatMul", "tokens r.weight", "y"),  # over positions
    ]
    assert sources(tmp_path, nodes, tensors, shape=(1, 4, 3, 3)) == {"p": "input", "q": "p", "r": ""}
    dense = {"c.weight": numbers(2, 4, 2, 2), "fc.weight": numbers(3, 8)}
    nodes = [node("Conv", "x c.weight", "c"), node("Flatten", "c", "f"), node("Gemm", "f fc.weight", "y", transB=1)]
    assert sources(tmp_path, nodes, dense, shape=(1, 4, 3, 3))["fc"] == ""  # units and positions in one


def test_names(tmp_path) -> None:
    tensors = {f"onnx::Conv_{i}": numbers(4, 4, 1, 1) for i in range(6)}
    tensors |= {
        "model/dense/kernel:0": numbers(4, 4),
        "bias.of.it": numbers(4),
        "enc.proj.bias": numbers(4),
        "onnx::M": numbers(4, 4),
        "onnx::N": numbers(4, 4),
        "onnx::O": numbers(4, 4),
        "shared.bias": numbers(4),
    }
    nodes = [
        node("Conv", "x onnx::Conv_0", "a", name="/backbone/layer1/layer1.0/conv1/Conv"),
        node("Conv", "a onnx::Conv_1", "b", name="features.0.0/Conv_quant"),
        node("Conv", "b onnx::Conv_2", "c", name="Conv_7"),
        node("Conv", "c onnx::Conv_3", "d"),
        node("Conv", "d onnx::Conv_4", "e", name="evil\x1b[2J:3#2"),
        node("Conv", "e onnx::Conv_5", "f", name="/backbone/layer1/layer1.0/conv1/Conv_1"),
        node("Conv", "f onnx::Conv_0", "g"),  # the first one's weights again
        node("MatMul", "g model/dense/kernel:0", "h", name="x/y/MatMul"),
        node("MatMul", "h onnx::M", "i"),
        node("Add", "enc.proj.bias i", "j"),
        node("MatMul", "j onnx::N", "k", name="/enc/convolution/MatMul"),
        node("Add", "k shared.bias", "l"),
        node("MatMul", "l onnx::O", "m"),
        node("Add", "m shared.bias", "y"),
    ]
    nodes[3].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'trunk', 'trunk.conv', 'conv2d']")
    made = model(nodes, tensors)
    first = "backbone.layer1.0.conv1"
    net = opened(tmp_path, made)
    assert list(net.layers) == [
        first, "features.0.0", "Conv_2", "trunk.conv", "evil__2J_3_2", f"{first}_2", f"{first}#2", "model.dense", "enc.proj",
        "enc.convolution", "MatMul_3",  # a bias that two share is neither's name
    ]  # fmt: skip
    np.testing.assert_array_equal(wa.direct_weights(net, f"{first}#2").values, tensors["onnx::Conv_0"])
    np.testing.assert_array_equal(net.tensors["enc.proj.bias"], tensors["enc.proj.bias"])
    assert net.parameters == sum(t.size for t in tensors.values())  # every number once


def test_one_matrix_in_two_forms_is_two_layers(tmp_path) -> None:
    w = numbers(4, 4)
    nodes = [node("Gemm", "x w.weight", "h", transB=1), node("Gemm", "h w.weight", "y")]
    net = opened(tmp_path, model(nodes, {"w.weight": w}, shape=(1, 4)))
    values = [wa.direct_weights(net, name).values[..., 0, 0] for name in net.layers]
    np.testing.assert_array_equal(values, [w, w.T])


def packed(name: str, kind: int, values: np.ndarray):
    return helper.make_tensor(name, kind, values.shape, values.reshape(-1).astype(np.float64).tolist())


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "DOUBLE"])
def test_types_of_numbers(tmp_path, kind: str) -> None:
    exact = RNG.integers(-4, 5, (4, 4, 1, 1)) / 2.0  # every type holds these
    made = model([node("Conv", "x c.weight", "y")], {"c.weight": packed("c.weight", getattr(TensorProto, kind), exact)})
    net = opened(tmp_path, made)
    np.testing.assert_array_equal(wa.direct_weights(net, "c").values, exact)
    assert any("widened" in note for note in net.notes) == (kind != "DOUBLE")


@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT4", "UINT4", "INT16"])
@pytest.mark.parametrize("way", ["all", "unit", "block"])
def test_quantised_constants_are_worked_out(tmp_path, kind: str, way: str) -> None:
    low = 0 if kind.startswith("U") else -8
    q = RNG.integers(low, low + 16, (4, 6))
    scale = {"all": np.float32(0.5), "unit": numbers(6), "block": numbers(4, 2)}[way]
    zero = np.full(np.shape(scale), low + 3)
    attributes = dict(axis=1, block_size=3) if way == "block" else dict(axis=1)
    tensors = {
        "fc.weight_quantized": packed("fc.weight_quantized", getattr(TensorProto, kind), q),
        "s": np.asarray(scale),
        "z": packed("z", getattr(TensorProto, kind), zero),
    }
    nodes = [
        node("DequantizeLinear", "fc.weight_quantized s z", "w", **attributes),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("Gemm", "x wt", "y", transB=1),
    ]
    net = opened(tmp_path, model(nodes, tensors, shape=(1, 4)))
    broad = np.repeat(scale, 3, 1) if way == "block" else scale
    np.testing.assert_allclose(wa.direct_weights(net, "fc").values[..., 0, 0], ((q - low - 3) * broad).T, rtol=1e-6)
    assert any("1 tensor went through DequantizeLinear" in note for note in net.notes)


def test_quantised_operators(tmp_path) -> None:
    q, s, z = RNG.integers(-9, 9, (4, 2, 3, 3)).astype(np.int8), np.abs(numbers(4)), np.zeros(4, np.int8)
    m = RNG.integers(-9, 9, (4, 5)).astype(np.int8)
    one, nil = np.float32(0.1), np.uint8(7)
    tensors = {
        "c.weight_quantized": q,
        "s": s,
        "z": z,
        "one": one,
        "nil": nil,
        "m": m,
        "t": numbers(5),
        "n": np.int8(2),
        "flat": np.array([-1, 4]),
    }
    nodes = [
        node("QuantizeLinear", "x one nil", "xq"),
        node("QLinearConv", "xq one nil c.weight_quantized s z one nil", "c", group=2),
        node("ConvInteger", "c c.weight_quantized nil n", "i", name="again/ConvInteger", group=2),
        node("Reshape", "xq flat", "f"),
        node("QLinearMatMul", "f one nil m t n one nil", "y", name="fc"),
    ]
    net = opened(tmp_path, model(nodes, tensors))
    assert [(v.name, v.kind, v.source) for v in net.layers.values()] == [
        ("c", "grouped conv", "input"), ("c_2", "grouped conv", "c"), ("fc", "linear", ""),
    ]  # fmt: skip
    np.testing.assert_allclose(wa.direct_weights(net, "c").values, q * s[:, None, None, None], rtol=1e-6)
    np.testing.assert_array_equal(wa.direct_weights(net, "c_2").values, q.astype(np.float32) - 2)
    np.testing.assert_allclose(wa.direct_weights(net, "fc").values[..., 0, 0], ((m - 2.0) * tensors["t"]).T, rtol=1e-6)
    assert any("without their scale" in note for note in net.notes)


def test_constants_in_other_places(tmp_path) -> None:
    w, sparse = numbers(4, 16), numbers(3)
    spots = helper.make_sparse_tensor(
        numpy_helper.from_array(sparse, "s.weight"), numpy_helper.from_array(np.array([0, 5, 9]), "at"), [4, 4]
    )
    nodes = [
        node("Constant", "", "k.weight", value=numpy_helper.from_array(w)),
        node("Identity", "k.weight", "k2"),
        node("Reshape", "k2 shape", "k3"),
        node("Mul", "k3 two", "k4"),
        node("Conv", "x k4", "c"),
        node("MatMul", "c s.weight", "y"),
    ]
    made = model(nodes, {"shape": np.array([0, -1, 2, 2]), "two": np.float32(2)}, shape=(1, 4, 5, 5))
    made.graph.sparse_initializer.append(spots)
    net = opened(tmp_path, made)
    np.testing.assert_array_equal(wa.direct_weights(net, "k").values, 2 * w.reshape(4, 4, 2, 2))
    full = np.zeros(16, np.float32)
    full[[0, 5, 9]] = sparse
    np.testing.assert_array_equal(wa.direct_weights(net, "s").values[..., 0, 0], full.reshape(4, 4).T)
    assert any("1 tensor went through Mul" in note for note in net.notes)


def test_branches_loops_functions_and_order(tmp_path) -> None:
    def branch(name: str):
        out = helper.make_tensor_value_info(f"{name}_out", FLOAT, None)
        held = [numpy_helper.from_array(numbers(4, 4, 1, 1), f"{name}.weight")]
        return helper.make_graph([node("Conv", f"x {name}.weight", f"{name}_out")], name, [], [out], held)

    call = helper.make_function("local", "Twice", ["i", "w"], ["o"], [node("Conv", "i w", "h"), node("Conv", "h w", "o")], [helper.make_opsetid("", 21)])  # fmt: skip
    nodes = [
        helper.make_node("Twice", ["b", "f.weight"], ["y"], domain="local"),
        node("If", "yes", "b", then_branch=branch("then"), else_branch=branch("other")),
        node("LSTM", "seq lstm.W lstm.R", "l", hidden_size=4),
    ]
    tensors = {"yes": np.array(True), "f.weight": numbers(4, 4, 1, 1), "lstm.W": numbers(1, 16, 4), "lstm.R": numbers(1, 16, 4), "seq": numbers(1, 1, 4)}  # fmt: skip
    net = opened(tmp_path, model(nodes, tensors, functions=[call]))
    assert [(k, v.source) for k, v in net.layers.items()] == [("other", ""), ("then", ""), ("f", ""), ("f#2", "f")]
    told = " ".join(net.notes)
    for words in ("were sorted", "1 functions of the file", "2 layers lie inside branches", "no layers: 1 LSTM"):
        assert words in told, words
    assert "lstm.W" in net.tensors


def outside(tmp_path, **entries):
    """A model whose weights lie in another file, w.bin."""
    values = numbers(4, 4, 1, 1)
    (tmp_path / "m").mkdir(exist_ok=True)
    (tmp_path / "m" / "w.bin").write_bytes(b"\0" * 8 + values.tobytes())
    tensor = TensorProto(name="c.weight", data_type=FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", "offset": "8", "length": "64", **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path = tmp_path / "m" / "m.onnx"
    path.write_bytes(model([node("Conv", "x c.weight", "y")], {"c.weight": tensor}).SerializeToString())
    return f"onnx:{path}", values


def test_weights_in_a_file_beside_it(tmp_path, monkeypatch) -> None:
    name, values = outside(tmp_path)
    np.testing.assert_array_equal(wa.direct_weights(wa.load(name), "c").values, values)
    monkeypatch.chdir(tmp_path)
    found = wa.load("onnx:m/m.onnx")
    assert found.origin == (name, None)
    np.testing.assert_array_equal(wa.direct_weights(found, "c").values, values)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(location="../secret"), "only files inside the model's own folder"),
        (dict(location="a/../../secret"), "only files inside the model's own folder"),
        (dict(location="/etc/hostname"), "only files inside the model's own folder"),
        (dict(location="C:\\w.bin"), "only files inside the model's own folder"),
        (dict(location=""), "only files inside the model's own folder"),
        (dict(location="link"), "a link to elsewhere"),
        (dict(location="linked/secret"), "a link to elsewhere"),
        (dict(location="pipe"), "not a plain file"),
        (dict(location="none.bin"), "is not there"),
        (dict(offset="9"), "do not belong together"),
        (dict(length="60"), "do not belong together"),
        (dict(offset="-1"), "offset '-1'"),
        (dict(length=str(10**18)), "do not belong together"),
    ],
)
def test_weights_that_lie_elsewhere_are_not_read(tmp_path, entries, message: str) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 99)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "m" / "linked").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "m" / "pipe")
    name, _ = outside(tmp_path, **entries)
    with pytest.raises(LoadError, match=message):
        wa.load(name)


def raw(dims, data: bytes = b"\0" * 64, kind: int = FLOAT):
    return TensorProto(name="c.weight", data_type=kind, dims=dims, raw_data=data)


@pytest.mark.parametrize(
    ("tensor", "attributes", "message"),
    [
        (raw([2**30, 2**30, 3, 3]), {}, r"numbers, which takes .* GiB"),
        (raw([4, -4, 1, 1]), {}, "cannot be negative"),
        (raw([4, 4, 2, 2]), {}, r"256 bytes; the file holds 64"),
        (raw([4, 4, 1, 1], b"\0" * 63), {}, r"64 bytes; the file holds 63"),
        (TensorProto(name="c.weight", data_type=FLOAT, dims=[4, 4, 1, 1], float_data=[1.0]), {}, "cannot be read"),
        (raw([4, 4, 1, 1], kind=99), {}, "holds type 99"),
        (raw([4, 4]), {}, r"weights of shape \(4, 4\) in 1 groups"),
        (raw([4, 4, 1, 1]), dict(group=3), "in 3 groups"),
        (raw([4, 4, 1, 1]), dict(strides=[0, 0]), "must be at least 1"),
        (raw([4, 4, 1, 1]), dict(strides=[1]), "should be 2 whole numbers"),
        (raw([4, 4, 1, 1]), dict(pads=[2**60] * 4), "should be 4 whole numbers"),
        (raw([4, 4, 1, 1]), dict(pads="many"), "should be 4 whole numbers"),
        (raw([4, 4, 1, 1]), dict(kernel_shape=[3, 3]), "kernel_shape"),
        (raw([4, 4, 1, 1]), dict(auto_pad="SOME"), "there are NOTSET"),
    ],
)
def test_files_that_contradict_themselves(tmp_path, tensor, attributes, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        opened(tmp_path, model([node("Conv", "x c.weight", "y", **attributes)], {"c.weight": tensor}))


def test_graphs_that_cannot_be_meant(tmp_path) -> None:
    w = {"w.weight": numbers(4, 4, 1, 1)}
    with pytest.raises(LoadError, match=r"runs in a circle: Conv '[ab]' → Conv '"):
        opened(tmp_path, model([node("Conv", "b w.weight", "a"), node("Conv", "a w.weight", "b")], w))
    with pytest.raises(LoadError, match="made by two nodes"):
        opened(tmp_path, model([node("Relu", "x", "y"), node("Relu", "x", "y")], w))
    with pytest.raises(LoadError, match=r"nothing to read; it consists of 1 Relu$"):
        opened(tmp_path, model([node("Relu", "x", "y")], w))
    deep = [node("Identity", "w.weight", "i0"), *(node("Identity", f"i{i}", f"i{i + 1}") for i in range(5000))]
    with pytest.raises(LoadError, match="nothing to read"):  # no recursion as deep as the file says
        opened(tmp_path, model([*deep, node("Conv", "x i5000", "y")], w))


@pytest.mark.parametrize(
    "content",
    [b"", b"<!doctype html><html>not found</html>", b"\x80\x02garbage", b"PK\x03\x04" + b"x" * 60, b"\x08\x07"],
)
def test_files_that_hold_something_else(tmp_path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(LoadError, match=r"m.onnx is not an ONNX file"):
        wa.load(f"onnx:{tmp_path / 'm.onnx'}")


def test_damaged_files_are_refused_or_read_never_crash(tmp_path, exported) -> None:
    whole = exported[1].SerializeToString()
    path, refused = tmp_path / "m.onnx", 0
    rng = np.random.default_rng(0)
    starts = [i for i in range(len(whole)) if whole[i : i + 4] in (b"Conv", b"pads", b"stem", b"axes", b"grou")]
    for trial in range(160):
        data = bytearray(whole[: len(whole) * trial // 60] if trial < 60 else whole)
        for _ in range(3 if trial >= 60 else 0):  # near what says how the graph is made
            data[min(int(rng.choice(starts)) + int(rng.integers(-12, 24)), len(data) - 1)] = rng.integers(256)
        path.write_bytes(data)
        try:
            net = wa.load(f"onnx:{path}")
            for name, layer in net.layers.items():
                if layer.kernel is not None:
                    wa.direct_weights(net, name)
        except LoadError:
            refused += 1
    assert refused >= 60


def test_missing_files_and_a_missing_package(tmp_path, monkeypatch) -> None:
    for name, message in (("none.onnx", "there is no file"), ("", "is not a file")):
        with pytest.raises(LoadError, match=message):
            wa.load(f"onnx:{tmp_path / name}")
    with pytest.raises(ArgumentError, match="needs a file"):
        wa.load("onnx:")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="pip install onnx"):
        wa.load("onnx:m.onnx")
