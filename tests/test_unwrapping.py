"""What training scripts put around the weights, beside them and in their place: which dict is meant, or how to choose."""

from __future__ import annotations

import re
import time

import pytest
import torch
from test_checkpoints import saved
from test_loading import tiny

import weightatlas as wa
from weightatlas.errors import LoadError

#: What training scripts save beside the weights, loose.
LOOSE = {
    "best_acc1": torch.tensor(69.7),
    "step": torch.tensor(3),
    "rng_state": torch.zeros(5056, dtype=torch.uint8),
    "logit_scale": torch.ones(1),
    "mean": torch.ones(3, 8, 8),
}


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "params"])
@pytest.mark.parametrize("loose", LOOSE)
def test_loose_tensors_beside_the_weights_do_not_hide_them(tmp_path, key: str, loose: str) -> None:
    state = tiny().state_dict()
    net = wa.load(saved(tmp_path, {"epoch": 90, key: state, loose: LOOSE[loose]}))
    assert list(net.tensors) == list(state)
    told = f"the loose tensor '{loose}' beside the weights was left out"
    assert net.notes == (f"weights taken from the entry '{key}'", told)


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"w1": torch.ones(3, 3), "w2": torch.ones(3, 3), "params": {"lr": torch.tensor(0.1)}}, ["w1", "w2"]),
        ({"w1": torch.ones(3, 3), "w2": torch.ones(3, 3), "net": {"w": torch.ones(3, 3)}}, ["w1", "w2"]),
        ({"b1": torch.ones(3), "model": {"step": torch.tensor(1)}}, ["b1"]),
        ({"w1": torch.ones(3, 3), "model": {"lr": 0.1}}, ["w1"]),
        # that key can mean nothing else
        ({"w1": torch.ones(3, 3), "w2": torch.ones(3, 3), "state_dict": {"w": torch.ones(3, 3)}}, ["w"]),
        ({"params": {"lr": 0.1}, "weights": {"w": torch.ones(3, 3)}}, ["w"]),
        ({"w": torch.ones(2, 2), "meta": {((1, (2, 3)), "a"): 4}}, ["w"]),
    ],
)
def test_which_dict_is_the_weights(tmp_path, content, taken) -> None:
    assert list(wa.load(saved(tmp_path, content)).tensors) == taken


@pytest.mark.parametrize("step", [{}, {"step": torch.tensor(3)}])
def test_the_only_entry_that_holds_weights_is_taken(tmp_path, step) -> None:
    state = tiny().state_dict()
    optimiser = {"state": {0: {"exp_avg": torch.ones(3, 3)}}, "param_groups": []}
    for keys in (
        ["ema_state_dict"],
        ["a", "b", "state_dict"],
        ["model", "net", "module", "state_dict"],
        list("abcdefg"),
    ):
        content = state
        for key in reversed(keys):
            content = {key: content, "lr": 0.1}
        net = wa.load(saved(tmp_path, content | step | {"optimizer": optimiser}))
        assert list(net.tensors) == list(state)
        assert [n for n in net.notes if "taken" in n] == [f"weights taken from the entry '{k}'" for k in keys]
        assert any("the entry 'optimizer' beside the weights holds tensors too" in n for n in net.notes)


@pytest.mark.parametrize(
    "content",
    [
        lambda s: {"student": s, "teacher": s},
        lambda s: {"x": {"y": {"student": s, 4: s}}},
        lambda s: {"x": {3: {"deep": s}, 4: {"deep": s}}},
        lambda s: [s],
        lambda s: (s, 3),
        lambda s: {"state_dict": [3, s]},
        lambda s: s["conv.weight"],
        lambda s: [s["conv.weight"], 3],
    ],
)
def test_the_line_that_a_refusal_tells_takes_the_weights_out(tmp_path, monkeypatch, content) -> None:
    monkeypatch.chdir(tmp_path)
    state = tiny().state_dict()
    with pytest.raises(LoadError) as refused:
        wa.load(saved(tmp_path, content(state)))
    line = re.search(r"import torch; (torch\.save\(.*, 'weights\.pth'\))", str(refused.value))
    assert line, str(refused.value)
    exec(line[0], {})
    found = wa.load("weights.pth").tensors
    assert any(torch.equal(values, state["conv.weight"]) for values in found.values())


def test_dicts_that_hold_each_other_many_times_are_looked_through_once(tmp_path) -> None:
    inner: dict = {"x": 1}
    for _ in range(7):
        inner = dict.fromkeys(range(300), inner)
    begin = time.process_time()
    with pytest.raises(LoadError, match="holds no tensors"):
        wa.load(saved(tmp_path, inner))
    assert time.process_time() - begin < 2
