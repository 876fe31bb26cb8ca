"""A folder of hostile files: each is refused with a sentence to act on, soon, in little memory, and runs nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import weightatlas as wa
from weightatlas.errors import LoadError
from weightatlas.models.files import archives, opcodes
from weightatlas.models.files.checkpoint import read_checkpoint
from weightatlas.models.files.opcodes import follow

#: Opens every file of a folder with no more address space than it has and 3 GiB, and tells how it went.
CHILD = """
import json, resource, sys, time
from pathlib import Path
import torch
import weightatlas as wa
from weightatlas.errors import WeightAtlasError

wa.load("efficientnet_lite0")  # everything that is imported and built once
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 3 * 2**30, -1))
for name, uses in json.load(sys.stdin):
    for use in uses:
        begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            path = Path(name)
            net = wa.load(path) if use == "alone" else wa.load("efficientnet_lite0", weights=path)
            told, refused = repr(net.tensors.keys()), False
            net.weights_hash
        except WeightAtlasError as error:
            told, refused = str(error), True
        took, after = time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([name, use, refused, told, took, after - before]))
"""


def planned(every):
    """Each case alone; those that are read and some of the others as weights of an architecture, too."""
    return [(c, ["alone", "weights"] if not c.hint or i % 5 == 0 else ["alone"]) for i, c in enumerate(every)]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The cases, their folder, the file that the code in them would write, and what became of each use of each."""
    folder = tmp_path_factory.mktemp("hostile")
    trace = tmp_path_factory.mktemp("trace") / "ran"
    every = hostile.write(folder, trace)
    names = json.dumps([(case.name, uses) for case, uses in planned(every)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        input=names,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return every, folder, trace, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow  # one process opens every file
def test_every_file_is_refused_with_what_to_do_or_read(opened) -> None:
    every, _, _, rows = opened
    assert len({case.name for case in every}) == len(every) >= 110
    assert [row[:2] for row in rows] == [[c.name, use] for c, uses in planned(every) for use in uses]
    told = {(name, use): (refused, text) for name, use, refused, text, _, _ in rows}
    wrong = []
    for case in every:
        refused, text = told[case.name, "alone"]
        fits = refused and case.name in text and re.search(case.hint, text, re.S) if case.hint else not refused
        # with an architecture, the same refusal, or that of tensors that do not fit
        whole, other = told.get((case.name, "weights"), (True, text))
        same = whole and (other == text if case.hint else "does not fit efficientnet_lite0: it lacks" in other)
        if not fits or not same:
            wrong.append((case.name, text, other))
    assert not wrong


@pytest.mark.slow
def test_refusals_are_quick_and_small(opened) -> None:
    _, _, _, rows = opened
    assert not [row for row in rows if row[4] > 10]  # seconds of the processor; unbounded, some took minutes
    assert not [row for row in rows if row[5] > 150 * 1024]  # KiB
    assert sum(row[5] for row in rows) < 400 * 1024


@pytest.mark.slow
def test_nothing_ran_and_nothing_was_written(opened) -> None:
    every, folder, trace, _ = opened
    assert not trace.exists()
    assert sorted(p.name for p in folder.iterdir()) == sorted(case.name for case in every)
    for case in every:
        assert (folder / case.name).read_bytes() == case.content


def test_the_code_in_them_would_run_if_it_were_let(tmp_path) -> None:
    case = next(c for c in hostile.code(tmp_path / "ran") if c.name == "code_zip.pth")
    (tmp_path / case.name).write_bytes(case.content)
    torch.load(tmp_path / case.name, weights_only=False)["x"].close()
    assert (tmp_path / "ran").exists()


def test_pickles_are_opened_by_the_safe_reader_alone(tmp_path, monkeypatch) -> None:
    asked = []
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k["weights_only"]) or real(*a, **k))
    for zipped in (True, False):
        torch.save({"w": torch.ones(2, 2)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        wa.load(tmp_path / "w.pth")
    assert asked == [True, True]


@pytest.mark.parametrize("zipped", [True, False])
def test_many_tensors_may_take_many_steps(tmp_path, monkeypatch, zipped: bool) -> None:
    monkeypatch.setattr(opcodes, "MOST_STEPS", 1000)
    many = {f"layer{i}.weight": nn.Parameter(torch.ones(4)) for i in range(2000)}
    torch.save({"state_dict": many}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert len(read_checkpoint(tmp_path / "w.pth").tensors) == 2000
    torch.save({"state_dict": {"w": torch.ones(4)}, "losses": [0.5] * 5000}, tmp_path / "w.pth")
    with pytest.raises(LoadError, match=r"takes more than 1,100 steps for 1 blocks? of numbers"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_lack_of_memory_is_told(tmp_path, monkeypatch) -> None:
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "w.pth")

    def full(*_) -> None:
        raise MemoryError

    monkeypatch.setattr(opcodes._Machine, "step", full)
    with pytest.raises(LoadError, match=r"its pickle takes more memory than there is\. Save"):
        wa.load(tmp_path / "w.pth")


@pytest.mark.parametrize("keys", [["model"], ["a", "b", "net"], ["state_dict", 3]])
def test_the_line_for_foreign_code_names_every_entry_on_the_way(tmp_path, monkeypatch, keys) -> None:
    import argparse

    monkeypatch.chdir(tmp_path)
    content = {"w": torch.eye(2), "b": np.float64(1)}
    for key in reversed(keys):
        content = {"args": argparse.Namespace(lr=1), key: content}
    torch.save(content, "w.pth")
    with pytest.raises(LoadError) as refused:
        wa.load("w.pth")
    assert "".join(f"[{k!r}]" for k in keys) in str(refused.value)
    exec(re.search(r"import torch; .*, 'weights\.pth'\)", str(refused.value))[0], {})
    assert torch.equal(wa.load("weights.pth").tensors["w"], torch.eye(2))


# --- what a pickle would make is what it makes ---

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.float8_e5m2]


@st.composite
def tensors(draw) -> torch.Tensor:
    """Blocks of numbers, and views of them with steps, transposed, expanded, or of no elements."""
    shape = draw(st.lists(st.integers(0, 4), min_size=0, max_size=4))
    made = torch.arange(max(int(np.prod(shape)), 0)).reshape(shape).to(draw(st.sampled_from(DTYPES)))
    if shape and draw(st.booleans()):
        made = made[tuple(slice(draw(st.integers(0, 1)), None, draw(st.integers(1, 2))) for _ in shape)]
    if shape and draw(st.booleans()):
        made = made.transpose(0, -1)
    return made.expand(3, *made.shape) if draw(st.booleans()) else made


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), tensors(), max_size=3), st.booleans())
def test_the_plan_of_a_pickle_is_what_torch_makes(tmp_path_factory, content, grad) -> None:
    path = tmp_path_factory.mktemp("plan") / "w.pth"
    content = {k: nn.Parameter(v) if grad and v.dtype == torch.float32 else v for k, v in content.items()}
    torch.save({"state_dict": content, "epoch": 3, "seen": {1, 2}, "shape": torch.Size([2])}, path)
    archive = archives.look_into(path)
    planned = follow(archive.read(f"{archive.prefix}data.pkl"))
    made = torch.load(path, weights_only=True)["state_dict"]
    assert not planned.foreign
    assert not planned.unread
    assert list(planned.top["state_dict"]) == list(made)
    for key, tensor in made.items():
        plan = planned.top["state_dict"][key]
        assert not plan.fault
        assert (plan.dtype, plan.shape, plan.stride) == (tensor.dtype, tuple(tensor.shape), tensor.stride())
        assert plan.offset == tensor.storage_offset()
        assert plan.storage.size == tensor.untyped_storage().nbytes()
        assert archive.sizes[f"{archive.prefix}data/{plan.storage.key}"] == plan.storage.size


# --- the way out that a refusal tells works ---


def _namespace(weights):
    import argparse

    return {"model": weights, "args": argparse.Namespace(lr=1)}


def _script(weights, path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 3)).save(path)


SAVERS = {
    "module.pth": lambda w, path: torch.save(nn.Linear(2, 3), path),
    "legacy_module.pth": lambda w, path: torch.save(nn.Linear(2, 3), path, _use_new_zipfile_serialization=False),
    "inside.pth": lambda w, path: torch.save({"epoch": 3, "model": nn.Linear(2, 3)}, path),
    "namespace.pth": lambda w, path: torch.save(_namespace(w), path),
    "mixed.pth": lambda w, path: torch.save(w | {"best": np.float64(1)}, path),
    "newer.pth": lambda w, path: torch.save(w, path, pickle_protocol=4),
    "two.pth": lambda w, path: torch.save({"G": w, "D": w}, path),
    "script.pt": _script,
    "arrays.npz": lambda w, path: np.savez(path, **{k: v.numpy() for k, v in w.items()}),
    "array.npy": lambda w, path: np.save(path, w["weight"].numpy()),
    "arrays.pkl": lambda w, path: path.write_bytes(
        __import__("pickle").dumps({k: v.numpy() for k, v in w.items()})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAVERS)
def test_the_way_that_a_refusal_tells_leads_to_the_weights(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    SAVERS[name]({"weight": torch.rand(3, 2), "bias": torch.rand(3)}, tmp_path / name)
    with pytest.raises(LoadError) as refused:
        wa.load(Path(name))
    words = re.search(r"import (pickle, |numpy, )?torch; .*, 'weights\.pth'\)", str(refused.value), re.S)
    assert words, str(refused.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript and of files left open: the words of a shell, not of a program
        exec(words[0], {})
    assert "weight" in wa.load("weights.pth").tensors
    assert wa.load("weights.pth").tensors["weight"].shape == (3, 2)


def test_what_the_user_allowed_is_allowed(tmp_path) -> None:
    import argparse

    torch.save(_namespace({"w": torch.ones(2, 2)}), tmp_path / "w.pth")
    with pytest.raises(LoadError, match=r"wants to run argparse\.Namespace;"):
        wa.load(tmp_path / "w.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert list(wa.load(tmp_path / "w.pth").tensors) == ["w"]


# --- memory ---


def quantised(weights: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch is about to leave the making of them to another package
        return torch.quantize_per_tensor(weights, 1, 0, torch.qint8)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "w.safetensors", "sparse.pth", "quantised.pth"])
def test_what_does_not_fit_into_memory_is_refused_with_the_numbers(tmp_path, monkeypatch, name: str) -> None:
    weights = torch.zeros(512, 512)  # 1 MiB
    content = {"sparse.pth": weights.to_sparse(), "quantised.pth": quantised(weights)}
    state = {"w": content.get(name, weights)}
    path = tmp_path / name
    if name == "w.safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "legacy.pth")
    assert wa.load(path).tensors["w"].shape == (512, 512)
    monkeypatch.setattr("weightatlas.models.files.memory.memory_free", lambda: 900 * 1024)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: pytest.fail("it was read"))
    with pytest.raises(LoadError, match=rf"{name}: .* takes 1\.[0-9] MiB of memory, and 900\.0 KiB are free; use a"):
        wa.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_places_that_are_no_files(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "model.pth")
    for path, told in (
        (tmp_path / "pipe.pth", "a device or a pipe"),  # opening it would wait for a writer for ever
        ("/dev/zero", "a device or a pipe"),
        (tmp_path, r"a folder; give a file of it \('model\.pth'\)"),
        (Path("x" * 300), "there is no file"),
        ("a\0b.pth", "there is no file"),
    ):
        with pytest.raises(LoadError, match=told):
            wa.load(path)
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(LoadError, match="there is no file"):
        wa.load(tmp_path / "loop.pth")
