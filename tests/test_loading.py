"""What load() opens, and what it says to everything else."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, WeightAtlasWarning

SPEC = wa.InputSpec(shape=(3, 16, 16))


def tiny() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), flat=nn.Flatten(), head=nn.Linear(784, 2))
    )


def test_a_module_stays_the_callers() -> None:
    module = tiny()
    net = wa.load(module, input=SPEC)
    assert net.module is module
    assert net.input is SPEC
    assert (net.name, net.notes) == ("Sequential", ())


@pytest.mark.parametrize("thing", [3, None, torch.rand(2, 2), {"w": 1}, nn.Conv2d, b"x.pth"])
def test_things_that_are_no_network(thing) -> None:
    with pytest.raises(ArgumentError, match=f"not a {type(thing).__name__}"):
        wa.load(thing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(weights="w.pth"), "load_state_dict"),
        (dict(input=(3, 16, 16)), "not an InputSpec"),
        (dict(input=SPEC, weights=3), "takes a path, not a int"),
    ],
)
def test_arguments_that_do_not_go_with_a_module(options, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        wa.load(tiny(), **options)


def test_modules_without_values() -> None:
    with pytest.raises(LoadError, match=r"lazy parameters.*0\.weight"):
        wa.load(nn.Sequential(nn.LazyConv2d(4, 3)), input=SPEC)
    with pytest.raises(LoadError, match=r"lazy parameters.*running_mean"):
        wa.load(nn.Sequential(nn.LazyBatchNorm2d(affine=False)), input=SPEC)
    with pytest.raises(LoadError, match=r"meta device.*conv\.weight"):
        wa.load(tiny().to("meta"), input=SPEC)


def test_torchscript_modules_cannot_be_watched() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
    for module in (scripted, nn.Sequential(scripted)):
        with pytest.raises(LoadError, match="is TorchScript"):
            wa.load(module, input=SPEC)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor creation:UserWarning")
def test_quantised_modules_open_but_their_weights_are_refused() -> None:
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})
    net = wa.load(quantised, input=wa.InputSpec(shape=(4,)))
    assert len(net.weights_hash) == 64
    with pytest.raises(ArgumentError, match="without direct weights; layers with them: none"):
        wa.direct_weights(net, "0")


def test_forward_that_fails_names_the_place_and_the_shape() -> None:
    with pytest.raises(LoadError, match=r"failed in 'head' on an input of shape \(1, 3, 20, 20\).*InputSpec") as caught:
        _ = wa.load(tiny(), input=wa.InputSpec(shape=(3, 20, 20))).layers
    assert caught.value.__cause__ is not None
    with pytest.raises(LoadError, match=r"failed in 'conv' on an input of shape \(1, 1, 16, 16\)"):
        _ = wa.load(tiny(), input=wa.InputSpec(shape=(1, 16, 16))).layers
    with pytest.raises(LoadError, match="wrapper module"):
        _ = wa.load(nn.Bilinear(3, 3, 2), input=wa.InputSpec(shape=(3,))).layers


class Preprocessing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.second(self.first(x * 2 - 1))


def test_channels_come_from_the_first_convolution_with_a_warning() -> None:
    for module in (nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), Preprocessing()):
        channels = next(iter(module.parameters())).shape[1]
        with pytest.warns(WeightAtlasWarning, match=f"{channels} channels taken from .*224×224.*InputSpec") as caught:
            net = wa.load(module)
        assert caught[0].filename == __file__
        assert net.input == wa.InputSpec(shape=(channels, 224, 224))
        assert net.notes == (str(caught[0].message),)
        assert net.notes[0] in net.provenance.notes


class Crossed(nn.Module):
    """Registers its convolutions in the order in which they do not run."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.late(self.early(x))


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.a(x) + self.b(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.ReLU(), "has no convolution"),
        (nn.Sequential(nn.Linear(3, 2)), "begins with '0', a Linear"),
        (nn.Sequential(nn.Conv1d(3, 2, 1)), "begins with '0', a Conv1d"),
        (Crossed(), "ambiguous"),
        (TwoReaders(), "ambiguous .'a', 'b'"),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 1), nn.Conv2d(3, 3, 1)), "ambiguous"),
    ],
)
def test_an_input_that_cannot_be_told_is_asked_for(module, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"{message}.*input=InputSpec"):
        wa.load(module)


def test_an_assumed_size_that_does_not_work() -> None:
    with pytest.raises(LoadError, match=r"'head'.*no InputSpec was given"):
        wa.load(tiny())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype) -> None:
    module = tiny()
    reference = wa.direct_weights(wa.load(copy.deepcopy(module), input=SPEC), "conv").values
    net = wa.load(module.to(dtype), input=SPEC)
    assert net.layers["conv"].grid == (14, 14)
    weights = wa.direct_weights(net, "conv").values
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, reference, rtol=1e-2, atol=1e-3)


def test_the_hash_tells_weights_apart() -> None:
    module = tiny()
    first, again = wa.load(module, input=SPEC).weights_hash, wa.load(copy.deepcopy(module), input=SPEC).weights_hash
    assert first == again
    with torch.no_grad():
        module.norm.running_var[2] += 1e-3
    assert wa.load(module, input=SPEC).weights_hash != first
    assert wa.load(tiny().bfloat16(), input=SPEC).weights_hash != first


def test_the_hash_is_of_the_weights_as_they_are_now() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    spec = wa.InputSpec(shape=(3, 8, 8))
    net = wa.load(module, input=spec)
    before = net.weights_hash
    assert net.weights_hash == before
    wa.measure(net, torch.rand(2, 3, 8, 8))
    module[0].weight.data.neg_()  # leaves no mark on the tensor's version
    assert net.weights_hash != before
    assert net.weights_hash == wa.load(module, input=spec).weights_hash
    with pytest.raises(wa.WeightAtlasError, match="belongs to other weights"):
        wa.expanded_weights(net, "0", "2")
    net.measured = None
    module[0].weight = nn.Parameter(torch.ones(4, 3, 3, 3))
    assert wa.expanded_weights(net, "input", "0").provenance.weights_hash == wa.load(module, input=spec).weights_hash
