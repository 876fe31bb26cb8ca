"""Direct weights against the modules they were read from, through the formula that defines them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError, WeightValuesError
from weightatlas.models.efficientnet_lite import Conv2dSame


def apply(weights: wa.Weights, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """out[o, t] = Σ W[o, i, y, x] · in[i, t·stride + origin + (y, x)·dilation], as the record defines it."""
    out = np.zeros((len(weights.values), *size))
    steps = []
    for axis, count in enumerate(size):  # [kernel element] -> matrix [positions of the target, positions of the source]
        extent, found = image.shape[1 + axis], []
        for k in range(weights.values.shape[2 + axis]):
            at = np.arange(count) * weights.stride[axis] + weights.origin[axis] + k * weights.dilation[axis]
            whole = np.isclose(at, at.round(), atol=1e-6)
            found.append((at.round()[:, None] == np.arange(extent)) & whole[:, None])
        steps.append(found)
    for row, kernel in enumerate(weights.values.astype(np.float64)):
        seen = weights.seen_units(row)
        for y, x in itertools.product(*map(range, kernel.shape[1:])):
            mixed = np.einsum("i,ihw->hw", kernel[:, y, x], image[seen.start : seen.stop])
            out[row] += steps[0][y] @ mixed @ steps[1][x].T
    return out


def linear_part(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a module does beyond its constant: f(x) − f(0)."""
    with torch.no_grad():
        return (module(x) - module(torch.zeros_like(x)))[0]


def settle(module: nn.Module) -> nn.Module:
    """Random statistics and scales, some of them negative, in evaluation."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_var is not None:
            with torch.no_grad():
                m.running_mean.normal_()
                m.running_var.uniform_(0.2, 3)
                if m.affine:
                    m.weight.normal_()
                    m.bias.normal_()
    return module.eval()


C, T = nn.Conv2d, nn.ConvTranspose2d
CASES = {
    "plain": (C(3, 4, 3), (3, 9, 8)),
    "stride, padding": (C(3, 4, (3, 5), stride=(2, 3), padding=(1, 4)), (3, 9, 14)),
    "dilation": (C(2, 3, (2, 3), dilation=(3, 2), padding=2), (2, 11, 12)),
    "groups": (C(6, 4, 3, groups=2, padding=1, dilation=2), (6, 9, 8)),
    "depthwise": (C(5, 5, (5, 3), groups=5, stride=2, padding=(2, 1)), (5, 9, 10)),
    "depthwise, multiplied": (C(3, 9, 3, groups=3), (3, 6, 7)),
    "same": (C(2, 3, (3, 5), padding="same", dilation=2), (2, 9, 12)),
    "same, even": (C(2, 3, (4, 3), padding="same", dilation=(2, 3)), (2, 9, 12)),
    "valid": (C(2, 3, (4, 3), padding="valid"), (2, 9, 12)),
    "TF same, odd": (Conv2dSame(2, 3, 3, stride=2), (2, 9, 11)),
    "TF same, even": (Conv2dSame(2, 3, (5, 2), stride=2), (2, 10, 12)),
    "pointwise": (C(4, 6, 1, stride=2), (4, 9, 8)),
    "signal": (nn.Conv1d(3, 4, 5, stride=2, padding=1, dilation=2), (3, 21)),
    "signal, depthwise": (nn.Conv1d(4, 8, 3, groups=4, padding="same"), (4, 12)),
    "transposed": (T(3, 4, 3), (3, 5, 6)),
    "transposed, stride": (T(3, 4, (4, 3), stride=(2, 3), padding=(1, 2), output_padding=(1, 2)), (3, 5, 6)),
    "transposed, groups": (T(4, 6, 3, stride=2, padding=1, groups=2), (4, 5, 6)),
    "transposed, depthwise": (T(4, 4, 4, stride=2, padding=1, groups=4), (4, 5, 6)),
    "transposed, dilation": (T(2, 3, 3, dilation=2, padding=1), (2, 5, 6)),
    "transposed, both": (T(2, 3, 3, dilation=2, stride=2), (2, 5, 6)),
    "transposed, stride 3": (T(2, 3, (2, 4), dilation=(1, 2), stride=3), (2, 5, 6)),
    "transposed signal": (nn.ConvTranspose1d(4, 6, 5, stride=3, padding=2, output_padding=1, groups=2), (4, 7)),
    "linear": (nn.Linear(7, 5), (7,)),
    "linear, no bias": (nn.Linear(7, 5, bias=False), (7,)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_formula_holds(name: str, affine: bool) -> None:
    module, shape = CASES[name]
    two_d = len(shape) == 3
    norm = (nn.BatchNorm2d if two_d else nn.BatchNorm1d)(
        module.out_features if isinstance(module, nn.Linear) else module.out_channels, affine=affine
    )
    whole = settle(nn.Sequential(module, norm))
    net = wa.load(whole, input=wa.InputSpec(shape=shape))
    x = torch.randn(1, *shape)
    source = x[0].double().numpy().reshape(shape[0], *(1,) * (3 - len(shape)), *shape[1:])
    assert net.layers["0"].norm == "1"
    for fold, reference in ((True, whole), (False, module)):
        expected = linear_part(reference, x)
        expected = expected.reshape(len(expected), *(1,) * (3 - expected.ndim), *expected.shape[1:]).numpy()
        compact = wa.direct_weights(net, "0", fold_norm=fold)
        dense = wa.direct_weights(net, "0", fold_norm=fold, dense=True)
        assert compact.norm == ("1" if fold else "")
        assert (dense.groups, dense.values.shape[1]) == (1, shape[0])
        for weights in (compact, dense):
            np.testing.assert_allclose(apply(weights, source, expected.shape[1:]), expected, atol=2e-5)
        np.testing.assert_allclose(apply(dense, source, expected.shape[1:]), apply(compact, source, expected.shape[1:]))


def test_the_gradient_is_the_weight() -> None:
    """At an interior position, the gradient of one unit by its source patch is its kernel, unit by unit."""
    module = settle(nn.Sequential(C(6, 4, 3, stride=2, dilation=2, groups=2), nn.BatchNorm2d(4))).double()
    weights = wa.direct_weights(wa.load(module, input=wa.InputSpec(shape=(6, 15, 15))), "0", dense=True)
    x = torch.randn(1, 6, 15, 15, dtype=torch.float64, requires_grad=True)
    for unit in range(4):
        (gradient,) = torch.autograd.grad(module(x)[0, unit, 2, 3], x)
        patch = gradient[0, :, 4:9, 6:11]
        np.testing.assert_allclose(weights.values[unit], patch, atol=1e-6)
        assert float(gradient.abs().sum()) == pytest.approx(float(patch.abs().sum()))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, "same"])
def test_padding_modes_inside_the_image(mode: str, padding) -> None:
    module = C(2, 3, 5, padding=padding, padding_mode=mode)
    net = wa.load(nn.Sequential(module), input=wa.InputSpec(shape=(2, 11, 12)))
    x = torch.randn(1, 2, 11, 12)
    weights = wa.direct_weights(net, "0")
    assert weights.origin == (-2, -2)
    ours = apply(weights, x[0].double().numpy(), (11, 12))
    np.testing.assert_allclose(ours[:, 2:-2, 2:-2], linear_part(module, x)[:, 2:-2, 2:-2], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_where_axes_could_not_be_told_the_module_says_where_it_reads() -> None:
    class Doubled(nn.Module):
        def __init__(self, module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(torch.cat([x, x], 2).reshape(1, x.shape[1], x.shape[2] * 2, x.shape[3]))

    for module in (
        C(2, 3, (5, 3), padding=(2, 0), stride=2),
        C(2, 3, (3, 4), padding="same"),
        T(2, 3, (4, 3), 2, (1, 0), dilation=2),
    ):
        with_axes = wa.direct_weights(wa.load(nn.Sequential(module), input=wa.InputSpec(shape=(2, 8, 9))), "0")
        without = wa.direct_weights(wa.load(Doubled(module), input=wa.InputSpec(shape=(2, 8, 9))), "module")
        for fact in ("origin", "stride", "dilation"):
            assert getattr(without, fact) == getattr(with_axes, fact), (module, fact)
        np.testing.assert_array_equal(without.values, with_axes.values)
    own_padding = wa.load(Doubled(Conv2dSame(2, 3, 3, stride=2)), input=wa.InputSpec(shape=(2, 8, 9)))
    with pytest.raises(ArgumentError, match=r"'module' \(Conv2dSame\) reads its source cannot be told"):
        wa.direct_weights(own_padding, "module")


def test_folding_on_the_embedded_network(lite0) -> None:
    """With trained statistics: convolution and norm together are the folded weights."""
    module = lite0.module.blocks[3][1]
    net = wa.load(nn.Sequential(module.conv_dw, module.bn2), input=wa.InputSpec(shape=(480, 12, 12)))
    for fold in (True, False):
        ours = wa.direct_weights(lite0, "blocks.3.1.conv_dw", fold_norm=fold)
        again = wa.direct_weights(net, "0", fold_norm=fold)
        np.testing.assert_array_equal(ours.values, again.values)
        assert ours.norm == ("blocks.3.1.bn2" if fold else "")
    x = torch.randn(1, 480, 12, 12)
    weights = wa.direct_weights(net, "0")
    np.testing.assert_allclose(
        apply(weights, x[0].double().numpy(), (12, 12)), linear_part(net.module, x), atol=1e-4, rtol=1e-4
    )


def test_a_stem_sees_pixels(lite0) -> None:
    stem = wa.direct_weights(lite0, "conv_stem")
    assert stem.sees_pixels
    assert stem.channel_names == ("red", "green", "blue")
    assert not wa.direct_weights(lite0, "blocks.0.0.conv_dw").sees_pixels
    assert stem.provenance.weights_hash == lite0.weights_hash


def test_units_are_chosen_by_number(lite0) -> None:
    every = wa.direct_weights(lite0, "blocks.2.0.conv_dw")
    some = wa.direct_weights(lite0, "blocks.2.0.conv_dw", units=np.array([7, 3, 7]))
    np.testing.assert_array_equal(some.values, every.values[[7, 3, 7]])
    assert some.addresses == [f"blocks.2.0.conv_dw:{u}" for u in (7, 3, 7)]
    dense = wa.direct_weights(lite0, "blocks.2.0.conv_dw", units=[7, 3], dense=True)
    assert [np.flatnonzero(np.abs(k).sum((1, 2))).tolist() for k in dense.values] == [[7], [3]]
    for units, error, message in (
        ([144], UnknownNameError, "no unit 144; its 144 units are 0 … 143"),
        ([-1], UnknownNameError, "no unit -1"),
        ([], ArgumentError, "no unit .* was chosen"),
        (5, ArgumentError, "integers like"),
        ("07", ArgumentError, "integers like"),
        ([1.0], ArgumentError, "integers like"),
    ):
        with pytest.raises(error, match=message):
            wa.direct_weights(lite0, "blocks.2.0.conv_dw", units=units)


def test_weights_are_a_copy() -> None:
    module = nn.Sequential(C(3, 4, 1, bias=False), nn.Linear(8, 2))
    net = wa.load(module, input=wa.InputSpec(shape=(3, 8, 8)))
    before = [p.clone() for p in module.parameters()]
    for layer in ("0", "1"):
        wa.direct_weights(net, layer, fold_norm=False).values[:] = 7
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_a_checkpoints_weights_are_a_copy_and_are_noted(tmp_path) -> None:
    kernel = torch.rand(4, 3, 3, 3)
    torch.save({"a.weight": kernel, "b": torch.rand(4, 5), "c.weight": torch.rand(6, 1, 5)}, tmp_path / "w.pth")
    net = wa.load(tmp_path / "w.pth")
    wa.direct_weights(net, "a").values[:] = 7
    weights = wa.direct_weights(net, "a")
    np.testing.assert_array_equal(weights.values, kernel)
    assert any("bare tensor" in note for note in weights.provenance.notes)
    assert wa.direct_weights(net, "b").values.shape == (4, 5, 1, 1)
    assert wa.direct_weights(net, "c", dense=True).values.shape == (6, 6, 1, 5)


def test_bad_values_pass_and_are_named() -> None:
    module = nn.Sequential(C(3, 8, 3), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        module[0].weight[2, 1, 0, 0] = float("nan")
        module[1].weight[5] = float("inf")
    net = wa.load(module, input=wa.InputSpec(shape=(3, 8, 8)))
    weights = wa.direct_weights(net, "0")
    assert np.isnan(weights.values[2]).sum() == 1
    with pytest.raises(WeightValuesError, match=r"in 2 of 8 units: 0:2, 0:5\. "):
        weights.require_finite()
    wa.direct_weights(net, "0", units=[0, 1, 3]).require_finite()
    with pytest.raises(WeightValuesError, match=r"1 of 216 .* in 1 of 8 units: 0:2\."):
        wa.direct_weights(net, "0", fold_norm=False).require_finite()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(2, 2, dtype=torch.int8), "torch.int8.*dequantise"),
        (lambda: torch.ones(2, 2, dtype=torch.complex64), "torch.complex64.*real and imaginary"),
    ],
)
def test_weights_that_cannot_be_read(tmp_path, make, kind: str) -> None:
    torch.save({"good.weight": torch.rand(2, 2), "bad.weight": make()}, tmp_path / "w.pth")
    net = wa.load(tmp_path / "w.pth")
    assert wa.direct_weights(net, "good").values.shape == (2, 2, 1, 1)
    with pytest.raises(ArgumentError, match=f"'bad' are {kind}"):
        wa.direct_weights(net, "bad")


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.norm, self.act, self.conv = nn.Conv3d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), C(2, 2, 1)
        self.pool, self.attention = nn.MaxPool2d(2), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        y = self.pool(self.act(self.norm(self.conv(self.deep(x[:, None])[:, :, 0]))))
        return self.attention(y[:, 0], y[:, 0], y[:, 0])[0]


@pytest.mark.parametrize("name", ["deep", "norm", "act", "pool", "attention"])
def test_layers_without_weights_of_their_own(name: str) -> None:
    net = wa.load(Mixed(), input=wa.InputSpec(shape=(1, 8, 8)))
    with pytest.raises(ArgumentError, match=f"'{name}'"):
        wa.direct_weights(net, name)
    with pytest.raises(UnknownNameError, match="no layer 'nrm'"):
        wa.direct_weights(net, "nrm")
