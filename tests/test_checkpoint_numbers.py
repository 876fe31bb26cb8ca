"""Checkpoints whose numbers are halves, bytes, codes of a quantiser, sparse, or none: read exactly, or refused."""

from __future__ import annotations

import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, WeightValuesError
from weightatlas.models.efficientnet_lite import find_weights

WEIGHTS = torch.linspace(-2, 2, 6 * 4 * 3 * 3).reshape(6, 4, 3, 3).sin()


def opened(tmp_path, state, name: str = "w.pth"):
    save_file(state, tmp_path / name) if name.endswith(".safetensors") else torch.save(state, tmp_path / name)
    return wa.load(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(torch.bfloat16, 8), (torch.float16, 11), (torch.float64, 24), (torch.float8_e4m3fn, 4), (torch.float8_e5m2, 3)],
)
def test_every_float_is_read_to_its_own_precision(tmp_path, name: str, dtype, bits: int) -> None:
    net = opened(tmp_path, {"a.weight": WEIGHTS.to(dtype), "b.weight": WEIGHTS.to(dtype)}, name)
    weights = wa.direct_weights(net, "a")
    assert weights.values.dtype == np.float32
    np.testing.assert_array_equal(weights.values, WEIGHTS.to(dtype).to(torch.float32).numpy())
    np.testing.assert_allclose(weights.values, WEIGHTS.numpy(), rtol=2.0**-bits, atol=2.0**-9)
    assert len(net.weights_hash) == 64
    assert 0.3 < wa.factorize(weights, rank=3).explained <= 1
    assert [row.layer for row in wa.banding(net).rows] == ["a", "b"]
    told = [n for n in net.notes if n.startswith("2 tensors ('a.weight', 'b.weight') are float")]
    assert len(told) == (bits < 8 or bits == 24)


def quantised(per_channel: bool) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch is about to leave the making of them to another package
        if per_channel:
            scales, zeros = torch.linspace(0.01, 0.06, 6), torch.tensor([0, 3, -2, 1, 0, 5])
            return torch.quantize_per_channel(WEIGHTS, scales, zeros, 0, torch.qint8)
        return torch.quantize_per_tensor(WEIGHTS, 0.05, 10, torch.quint8)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantised_weights_are_what_their_scale_says(tmp_path, per_channel: bool, zipped: bool) -> None:
    codes = quantised(per_channel)
    path = tmp_path / "w.pth"
    torch.save({"a.weight": codes}, path, _use_new_zipfile_serialization=zipped)
    net = wa.load(path)
    integers = codes.int_repr().numpy().astype(np.float64)
    if per_channel:
        scale, zero = (
            v.numpy().reshape(-1, 1, 1, 1) for v in (codes.q_per_channel_scales(), codes.q_per_channel_zero_points())
        )
    else:
        scale, zero = codes.q_scale(), codes.q_zero_point()
    np.testing.assert_allclose(wa.direct_weights(net, "a").values, scale * (integers - zero), rtol=1e-6, atol=1e-7)
    assert "quantised" in net.notes[0]


def test_linear_layers_of_a_quantised_module_are_unpacked(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = torch.quantize_per_tensor(torch.rand(3, 4), 0.1, 0, torch.qint8)
    state = {"fc.scale": torch.tensor(0.1), "fc._packed_params.dtype": torch.qint8}
    net = opened(
        tmp_path,
        state
        | {
            "fc._packed_params._packed_params": (codes, torch.ones(3)),
            "out._packed_params._packed_params": (codes, None),
        },
    )
    assert list(net.layers) == ["fc", "out"]
    np.testing.assert_allclose(wa.direct_weights(net, "fc").values[..., 0, 0], codes.dequantize(), rtol=1e-6)
    assert torch.equal(net.tensors["fc.bias"], torch.ones(3))
    assert any("2 quantised layers ('fc', 'out')" in note for note in net.notes)


def test_sparse_and_conjugate_tensors_are_laid_out(tmp_path) -> None:
    matrix = torch.tensor([[0, 2.0, 0], [0, 0, -1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of the two kinds is in beta
        compressed = matrix.to_sparse_csr()
    conjugate = torch.complex(matrix, matrix).conj().imag
    net = opened(tmp_path, {"a": matrix.to_sparse(), "b": compressed, "c": conjugate})
    for layer, sign in (("a", 1), ("b", 1), ("c", -1)):
        np.testing.assert_array_equal(wa.direct_weights(net, layer).values[..., 0, 0], sign * matrix)
    assert "2 tensors ('a', 'b') are sparse" in net.notes[0]


def test_positions_outside_of_a_sparse_tensor_are_refused(tmp_path) -> None:
    outside = torch.sparse_coo_tensor([[0, 7], [0, 0]], [1.0, 2.0], (2, 2), check_invariants=False)
    with pytest.raises(LoadError, match="is not a readable PyTorch file, or it is damaged"):
        opened(tmp_path, {"a": outside})


def test_a_refused_file_leaves_nothing_to_the_next(tmp_path) -> None:
    outside = torch.sparse_coo_tensor([[0, 7], [0, 0]], [1.0, 2.0], (2, 2), check_invariants=False)
    torch.save({"a": outside, "b": torch.ones(2, dtype=torch.int64)}, tmp_path / "bad.pth")
    with zipfile.ZipFile(tmp_path / "bad.pth") as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as packed:
        for name, data in members.items():
            head, flag, tail = data.rpartition(b"\x89" if name.endswith(".pkl") else b"\0\0no such thing")
            packed.writestr(name, head + (flag and b"\x88") + tail)  # whole numbers that want a gradient
    with pytest.raises(LoadError, match=r"or it is damaged \(RuntimeError\)"):
        wa.load(tmp_path / "bad.pth")
    assert wa.load(saved_sparse(tmp_path)).tensors["a"].sum() == 3


def saved_sparse(folder):
    torch.save({"a": torch.eye(3).to_sparse()}, folder / "good.pth")
    return folder / "good.pth"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (torch.ones(2, 2, dtype=torch.int8), r"torch.int8, which cannot be read; dequantise them first \(values.float"),
        (torch.ones(2, 2, dtype=torch.bool), r"torch.bool, which cannot be read; save them as floating-point numbers"),
        (torch.ones(2, 2, dtype=torch.uint16), r"torch.uint16, which cannot be read; save them as floating-point"),
        (torch.ones(2, 2, dtype=torch.complex64), "torch.complex64, which cannot be read; save their real and"),
    ],
)
def test_numbers_that_are_no_weights(tmp_path, values, told: str) -> None:
    net = opened(tmp_path, {"a.weight": values, "b.weight": torch.ones(2, 2)})
    with pytest.raises(ArgumentError, match=told):
        wa.direct_weights(net, "a")
    assert wa.direct_weights(net, "b").values.shape == (2, 2, 1, 1)


def test_what_no_one_can_read_is_left_out_and_told(tmp_path) -> None:
    packed = torch.zeros(2, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    net = opened(tmp_path, {"a.weight": packed, "b.weight": torch.ones(2, 2)})
    assert list(net.tensors) == ["b.weight"]
    assert "'a.weight') is float4_e2m1fn_x2, several values in a byte" in net.notes[0]
    with pytest.raises(LoadError, match="holds nothing that can be read"):
        opened(tmp_path, {"a.weight": packed})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(LoadError, match=r"holds nested tensors .*unbind\(\)"):
        opened(tmp_path, {"a.weight": nested})


def test_scales_beside_8_bit_floats_are_told(tmp_path) -> None:
    net = opened(tmp_path, {"a.weight": WEIGHTS.to(torch.float8_e4m3fn), "a.weight_scale": torch.tensor(3.0)})
    assert any("'a.weight_scale' …) lie beside them and were not multiplied in" in note for note in net.notes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_found_when_they_are_used(tmp_path, bad: float) -> None:
    values = WEIGHTS.double().clone()
    values[2, 1, 0, 0] = bad
    net = opened(tmp_path, {"a.weight": values})
    weights = wa.direct_weights(net, "a")
    assert any("1 of its values are too large" in note for note in net.notes) == (bad == 1e300)
    with pytest.raises(WeightValuesError, match=r"1 of 216 weights .*a:2"):
        wa.factorize(weights, rank=2)
    assert wa.banding(net).rows[0].apart == "1 of 24 kernels hold NaN or infinity"


def with_value(tmp_path, value: float):
    """The published weights as float64, one of them replaced."""
    state = torch.load(find_weights(), weights_only=True)
    state = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    state["_blocks.1._depthwise_conv.weight"][3, 0, 1, 1] = value
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.slow  # captures a graph
def test_nan_in_a_network_is_found_on_the_way(tmp_path) -> None:
    net = wa.load("efficientnet_lite0", weights=with_value(tmp_path, float("nan")))
    assert any("float64 and were narrowed to float32" in note for note in net.notes)
    with pytest.raises(WeightValuesError, match=r"1 of 864 values in 'blocks.1.0.conv_dw.weight' are NaN or infinite"):
        wa.expanded_weights(net, "blocks.0.0", "blocks.1.0", units=[0])


def test_values_too_large_for_the_network_are_refused(tmp_path) -> None:
    told = r"blocks.1.0.conv_dw.weight has values up to 1.0e\+300, infinite in float32"
    with pytest.raises(LoadError, match=told):
        wa.load("efficientnet_lite0", weights=with_value(tmp_path, 1e300))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_named_network_widens_halves_and_says_so(lite0, tmp_path, dtype) -> None:
    state = torch.load(find_weights(), weights_only=True)
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "w.pth")
    net = wa.load("efficientnet_lite0", weights=tmp_path / "w.pth")
    assert all(p.dtype == torch.float32 for p in net.module.parameters())
    stem = wa.direct_weights(net, "conv_stem", fold_norm=False).values
    np.testing.assert_array_equal(stem, lite0.module.conv_stem.weight.to(dtype).float())
    name = str(dtype).removeprefix("torch.")
    assert any(f"tensors of the file are {name} and were widened to float32" in note for note in net.notes)
