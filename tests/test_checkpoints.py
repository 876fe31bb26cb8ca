"""Weight files without their architecture, whole, wrapped, damaged and hostile."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_loading import SPEC, tiny
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.models.checkpoint import read_checkpoint


class Bomb:
    """A pickle that would write a file when opened."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def saved(tmp_path, content, name: str = "w.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


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
@pytest.mark.parametrize(
    "content", [b"", b"hello, these are no weights\n", b"\x80\x02garbage", b"PK\x03\x04" + b"x" * 60]
)
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
