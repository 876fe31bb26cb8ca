"""Weight files without their architecture, whole, wrapped, damaged and hostile."""

from __future__ import annotations

import hashlib
import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_loading import SPEC, tiny
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.models.files.checkpoint import read_checkpoint


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
    for long in ("n" * 5000, "n" * 5000 + ".pth", tmp_path / ("n" * 5000)):
        with pytest.raises((LoadError, UnknownNameError), match="nnnn…") as error:
            wa.load(long)
        assert len(str(error.value)) < 700
    for name in ("efficientnet_lite0", "inceptionv1"):
        with pytest.raises(LoadError, match=r"there is no file .*nnn…nnn.* \(5,004 characters\)$"):
            wa.load(name, weights="n" * 5000 + ".pth")
    for empty, weights, told in (
        ("", None, "an empty name"),
        (" ", None, "an empty name"),
        ("inceptionv1", "", "weights= got an empty"),
    ):
        with pytest.raises(ArgumentError, match=told):
            wa.load(empty, weights=weights)
    (tmp_path / "w.h5").write_bytes(b"\x01")
    with pytest.raises(LoadError, match=r"w.h5 is not a readable file of weights: .*\.safetensors"):
        wa.load(tmp_path / "w.h5")
    with pytest.raises(LoadError, match="there is no file"):
        wa.load("efficientnet_lite0", weights=tmp_path / "none.pth")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "efficientnet_lite0").mkdir()  # an atlas may bear its model's name
    assert wa.load("efficientnet_lite0").module is not None


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"hello, these are no weights\n", "is not a readable file of weights but text"),
        (b"\x80\x02garbage", "is not a readable PyTorch file"),
        (b"PK\x03\x04" + b"x" * 60, "is not a readable zip archive"),
        (b"\x02" + bytes(7) + b"{}", "holds no tensors"),
    ],
)
def test_files_that_hold_something_else(tmp_path, suffix: str, content: bytes, what: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=f"w{suffix} {what}"):
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
    refused = []
    for trial in range(150):
        data = bytearray(whole[: len(whole) * trial // 100] if trial < 100 else whole)
        # at the beginning, and at the end where an archive has its directory
        for at in rng.integers(-300, 300, 4) if trial >= 100 else ():
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            wa.load(path).layers  # noqa: B018
        except LoadError as error:
            refused.append(str(error))
    assert len(refused) >= 90
    assert all(path.name in text and len(text) < 1000 for text in refused)


def test_a_pickle_never_runs(tmp_path) -> None:
    trace = tmp_path / "ran"
    for content in ({"w": torch.rand(2, 2), "x": Bomb(str(trace))}, nn.Linear(2, 2), tiny()):
        with pytest.raises(LoadError, match=r"wants to run (_?io\.open|torch\.nn\.modules\.\S+)[;,].*torch\.save\("):
            wa.load(saved(tmp_path, content))
    assert not trace.exists()


def test_torchscript_is_refused_without_noise(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)).save(tmp_path / "w.pt")
    with pytest.raises(LoadError, match=r"TorchScript.*torch\.jit\.load\('w\.pt'"):
        wa.load(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.rand(2)], "holds a list, not a dict"),
        (torch.rand(2), "holds a Tensor"),
        ({"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}}, r"those of optimisers \('opt"),
        ({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, "the state of an optimiser, no weights"),
        ({"model": {"state": {0: {}}, "param_groups": []}}, "no tensors but those of optimisers|holds no tensors"),
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
        (lambda s: {"state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, 2),
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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {"a.weight": torch.ones(2, 2)}, "ema": {"a.weight": torch.ones(2, 2)}}, "'ema' beside"),
        (
            {"a.weight": torch.ones(2, 2), "more": {"b": torch.ones(2)}, "kept": [torch.ones(2)]},
            "'more', 'kept' beside",
        ),
    ],
)
def test_tensors_that_are_left_out_are_told(tmp_path, content, told: str) -> None:
    net = wa.load(saved(tmp_path, content))
    assert any(told in note and "left out" in note for note in net.notes)


def test_a_file_may_change_while_its_tensors_are_in_use(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": torch.ones(64, 64)}, path)
    net = wa.load(path)
    path.write_bytes(b"")  # a map of the file would end the process here
    assert float(net.tensors["a.weight"].sum()) == 64 * 64


def sharded(folder, style: str):
    """A checkpoint in two files, its index and its tensors."""
    tensors = {f"blocks.{i}.weight": torch.rand(2, 3) for i in (0, 2, 10)}
    names = [f"model-0000{i}-of-00002.{style}" for i in (1, 2)]
    places = {k: names[i % 2] for i, k in enumerate(tensors)}
    for name in names:
        part = {k: v for k, v in tensors.items() if places[k] == name}
        save_file(part, folder / name) if style == "safetensors" else torch.save(part, folder / name)
    index = folder / f"model.{style}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": places}))
    return index, tensors, names


@pytest.mark.parametrize("style", ["safetensors", "bin"])
def test_a_checkpoint_in_several_files_is_read_by_its_index(tmp_path, style: str) -> None:
    index, tensors, names = sharded(tmp_path, style)
    net = wa.load(index)
    assert list(net.tensors) == list(tensors)
    for key, value in tensors.items():
        assert torch.equal(net.tensors[key], value)
    assert any("3 tensors from the 2 files" in note for note in net.notes)
    assert net.file == f"{index.name} sha256:{hashlib.sha256(index.read_bytes()).hexdigest()}"
    (tmp_path / names[1]).unlink()
    with pytest.raises(LoadError, match=f"1 are missing beside it \\('{names[1]}'\\)"):
        wa.load(index)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda places: places | {"c.weight": "model-00001-of-00002.bin"}, "lack 1 of its tensors, first 'c.weight'"),
        (
            lambda places: dict(list(places.items())[:2]),
            "holds 'blocks.10.weight', which model.bin.index.json does not",
        ),
        (lambda places: places | {"c": "/etc/passwd"}, "wants '/etc/passwd' for 'c', which is no file beside it"),
        (lambda places: places | {"c": "model.bin.index.json"}, "is the index of a checkpoint, where"),
        (lambda places: dict.fromkeys(places), "wants 'None'"),
        (lambda places: list(places), 'no "weight_map"'),
        (lambda places: {}, "lists no tensors"),
    ],
)
def test_an_index_that_does_not_hold(tmp_path, change, told: str) -> None:
    index, _, _ = sharded(tmp_path, "bin")
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": change(places)}))
    with pytest.raises(LoadError, match=told):
        wa.load(index)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_the_hash_of_the_file_goes_with_every_result(tmp_path, name: str) -> None:
    path = tmp_path / name
    state = {"conv.weight": torch.rand(4, 3, 3, 3)}
    save_file(state, path) if name == "w.safetensors" else torch.save(state, path)
    told = f"{name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    net = wa.load(path)
    weights = wa.direct_weights(net, "conv")
    factors = wa.factorize(weights, rank=2)
    assert net.file == net.provenance.file == weights.provenance.file == factors.provenance.file == told
    for suffix in (".npz", ".safetensors"):
        weights.save(tmp_path / f"saved{suffix}")
        assert wa.Weights.load(tmp_path / f"saved{suffix}").provenance.file == told
    assert told[-64:-52] not in wa.figures.nmf_grid(factors).source  # little text: the weights' own hash is there
