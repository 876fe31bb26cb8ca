"""What load() opens, and what it says to everything else."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError, WeightAtlasWarning
from weightatlas.models.checkpoint import read_checkpoint

SPEC = wa.InputSpec(shape=(3, 16, 16))


def tiny() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), flat=nn.Flatten(), head=nn.Linear(784, 2))
    )


class Bomb:
    """A pickle that would write a file when opened."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def saved(tmp_path, content, name: str = "w.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


# --- modules ---------------------------------------------------------------------------------------------------------


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


# --- files -----------------------------------------------------------------------------------------------------------


def test_names_and_paths(tmp_path, monkeypatch) -> None:
    with pytest.raises(UnknownNameError, match=r"no model 'resnet18'.*\.safetensors"):
        wa.load("resnet18")
    with pytest.raises(LoadError, match="there is no file"):
        wa.load(tmp_path / "none.pth")
    with pytest.raises(LoadError, match="there is no file"):
        wa.load("none.safetensors")
    with pytest.raises(LoadError, match="is not a file"):
        wa.load(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(LoadError, match="weight files end in"):
        wa.load(tmp_path / "w.h5")
    with pytest.raises(LoadError, match="there is no file"):
        wa.load("efficientnet_lite0", weights=tmp_path / "none.pth")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "efficientnet_lite0").mkdir()  # an atlas may bear its model's name
    assert wa.load("efficientnet_lite0").module is not None


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, these are no weights\n", b"\x80\x02garbage", b"PK\x03\x04" + b"x" * 60])
def test_files_that_hold_something_else(tmp_path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=f"w{suffix} is not a readable"):
        wa.load(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_or_read_never_crash(tmp_path, kind: str) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(tiny().state_dict(), path)
    else:
        torch.save(tiny().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        data = bytearray(whole[: len(whole) * trial // 100] if trial < 100 else whole)
        for at in rng.integers(0, min(len(data), 600), 4) if trial >= 100 else ():
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            wa.load(path)
        except LoadError:
            refused += 1
    assert refused >= 90


def test_a_pickle_never_runs(tmp_path) -> None:
    trace = tmp_path / "ran"
    for content in ({"w": torch.rand(2, 2), "x": Bomb(str(trace))}, nn.Linear(2, 2), tiny()):
        with pytest.raises(LoadError, match=r"wants to run (io.open|_io.open|torch\.nn\.modules\.\S+);.*state_dict"):
            wa.load(saved(tmp_path, content))
    assert not trace.exists()


def test_torchscript_is_refused_without_noise(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)).save(tmp_path / "w.pt")
    with pytest.raises(LoadError, match="not a readable PyTorch file"):
        wa.load(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.rand(2)], "holds a list, not a dict"),
        (torch.rand(2), "holds a Tensor"),
        ({"epoch": 3, "lr": 0.1}, "no tensors; its entries are 'epoch', 'lr'"),
        ({"state_dict": {"epoch": 3}}, "no tensors"),
        ({}, "no tensors; its entries are nothing"),
        ({"w": torch.rand(2, 2, device="meta")}, "without values.*: w"),
    ],
)
def test_files_without_weights(tmp_path, content, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        wa.load(saved(tmp_path, content))


@pytest.mark.parametrize("input", [SPEC, None])
def test_arguments_that_do_not_go_with_a_checkpoint(tmp_path, input) -> None:
    path = saved(tmp_path, tiny().state_dict())
    with pytest.raises(ArgumentError, match="alone is a checkpoint"):
        wa.load(path, **({"input": input} if input else {"weights": path}))


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda s: s, 0),
        (lambda s: {"state_dict": s, "epoch": 3}, 1),
        (lambda s: {"model": s}, 1),
        (lambda s: {"model": {"state_dict": s}}, 2),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, 1),
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, 1),
        (lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()}, 2),
        (lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}}, 3),
        (lambda s: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()}, 0),
    ],
)
def test_wrapped_state_dicts(tmp_path, wrap, notes: int) -> None:
    state = tiny().state_dict()
    net = wa.load(saved(tmp_path, wrap(state)))
    assert list(net.layers) == ["conv", "head"]
    assert len(net.notes) == notes
    np.testing.assert_array_equal(wa.direct_weights(net, "conv").values, state["conv.weight"])


def test_a_prefix_that_not_all_names_share_stays(tmp_path) -> None:
    net = wa.load(saved(tmp_path, {"model.a.weight": torch.rand(2, 2), "b.weight": torch.rand(2, 2)}))
    assert list(net.layers) == ["model.a", "b"]


def test_safetensors_are_put_in_natural_order(tmp_path) -> None:
    names = [f"blocks.{i}.conv{j}.weight" for i in (0, 2, 9, 10, 11) for j in (1, 12)]
    save_file({n: torch.rand(2, 2) for n in names}, tmp_path / "w.safetensors")
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert list(checkpoint.tensors) == names
    assert "order" in checkpoint.notes[0]
