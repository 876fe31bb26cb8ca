"""A state dict that does not fit a module: what is said of its names, shapes and numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from weightatlas.errors import LoadError
from weightatlas.models.fitting import fill

PATH = Path("w.pth")


def network() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, (3, 2)), nn.BatchNorm2d(8))
    return nn.Sequential(stem, nn.Conv1d(4, 5, 3), nn.Linear(5, 2))


def refused(change) -> str:
    """What is said of the network's own state dict after a change."""
    module = network()
    with pytest.raises(LoadError, match=r"^w\.pth does not fit net: ") as error:
        fill(module, change(dict(module.state_dict())), PATH, "net")
    return str(error.value)


def test_what_fits_is_loaded_without_a_note() -> None:
    source, target = network(), network()
    state = {k: v * 2 if v.is_floating_point() else v for k, v in source.state_dict().items()}
    del state["0.1.num_batches_tracked"]
    assert fill(target, state, PATH, "net") == ()
    for key, value in state.items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder.", "module."])
def test_what_stands_before_all_names_is_taken_off(prefix: str) -> None:
    source, target = network(), network()
    state = {prefix + k: v * 2 for k, v in source.state_dict().items()}
    assert fill(target, state, PATH, "net") == (f"the prefix {prefix!r} was taken off its names",)
    for key, value in target.state_dict().items():
        assert torch.equal(value, state[prefix + key])
    notes = fill(target, state | {"criterion.weight": torch.ones(2)}, PATH, "net")
    assert notes[1:] == ("1 tensor without it was left out ('criterion.weight')",)


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder."])
def test_what_stands_before_most_names_is_told(prefix: str) -> None:
    text = refused(lambda s: {prefix + k: v for k, v in s.items() if k != "2.bias"} | {"head.weight": torch.ones(2)})
    assert "it lacks 10 (" in text
    assert "it has too many 11 (" in text
    assert f"begin with '{prefix}': take that off, {{k.removeprefix('{prefix}'): v for k, v in …}}" in text


def test_a_network_that_is_there_twice_is_not_chosen() -> None:
    module = network()
    state = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in module.state_dict().items()}
    with pytest.raises(
        LoadError, match=r"the network 2 times, behind 'student\.', 'teacher\.', .*startswith\('student"
    ):
        fill(module, state, PATH, "net")


def test_what_the_file_lacks_before_its_names_is_found() -> None:
    text = refused(lambda s: {k.removeprefix("0."): v for k, v in s.items() if k.startswith("0.")})
    assert "Most of the network's names begin with '0.': put that before its names" in text


def test_the_nearest_names_of_the_same_shape_are_shown() -> None:
    names = {"0.0.weight": "0.conv.weight", "0.1.running_mean": "0.1.moving_mean", "2.weight": "2.kernel"}
    text = refused(lambda s: {names.get(k, k): v for k, v in s.items()})
    assert "lacks 3 (0.0.weight, 0.1.running_mean, 2.weight)" in text
    near = "'0.conv.weight' for '0.0.weight', '0.1.moving_mean' for '0.1.running_mean'"
    assert text.endswith(f". Nearest names of the same shape: {near}")  # 2.kernel is like no name
    # another shape is no other name of the same thing
    text = refused(
        lambda s: (
            {("2.weigth" if k == "2.weight" else k): v for k, v in s.items() if k != "2.bias"}
            | {"2.biass": torch.ones(3)}
        )
    )
    assert "'2.weigth' for '2.weight'" in text
    assert "'2.biass' for" not in text


def test_at_most_three_pairs_are_shown() -> None:
    text = refused(lambda s: {f"{k}s": v for k, v in s.items()})
    assert text.count(" for '") == 3


@pytest.mark.parametrize(
    ("key", "turn", "told"),
    [
        (
            "0.0.weight",
            lambda v: v.permute(2, 3, 1, 0),
            r"(3, 2, 3, 8) instead of (8, 3, 3, 2)|.permute(3, 2, 0, 1) from the order of TensorFlow",
        ),
        (
            "1.weight",
            lambda v: v.permute(2, 1, 0),
            "(3, 4, 5) instead of (5, 4, 3)|.permute(2, 1, 0) from the order of TensorFlow and Flax, [W, in",
        ),
        (
            "2.weight",
            lambda v: v.T,
            "(5, 2) instead of (2, 5)|.permute(1, 0) from the order of TensorFlow and Flax, [in, out]",
        ),
        ("2.weight", lambda v: v[:, :, None, None], "(2, 5, 1, 1) instead of (2, 5)|.reshape(2, 5)"),
        ("1.weight", lambda v: v.permute(0, 2, 1), "(5, 3, 4) instead of (5, 4, 3)|.permute(0, 2, 1); bring"),
    ],
)
def test_axes_in_another_order_are_told(key: str, turn, told: str) -> None:
    text = refused(lambda s: s | {key: turn(s[key])})
    for part in told.split("|"):
        assert part in text
    # and the order that is told brings them back
    value = network().state_dict()[key]
    order = text.partition(f"{key} fits by ")[2].partition(")")[0] + ")"
    assert torch.equal(eval(f"value{order}", {"value": turn(value)}), value)


def test_a_shape_that_no_order_explains_is_only_told() -> None:
    text = refused(lambda s: s | {"2.weight": torch.ones(7, 5), "2.bias": torch.ones(7)})
    assert text.endswith("net: its 2.weight is (7, 5) instead of (2, 5), and 1 more is of other shapes")


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (lambda v: v.to(torch.int8), r"weight.float() * scale"),
        (lambda v: v > 0, "torch.bool, a mask rather than weights; save weights as floating-point numbers"),
        (lambda v: v.to(torch.uint16), "torch.uint16, numbers without a fraction; save weights as floating-point"),
        (lambda v: v.to(torch.complex64), "real and imaginary parts"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "weight.dequantize()"),
    ],
)
def test_numbers_of_another_kind_are_refused_with_what_to_do(turn, told: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch is about to leave quantised tensors to another package
        assert told in refused(lambda s: s | {"2.weight": turn(s["2.weight"])})


def test_what_was_widened_or_narrowed_is_told() -> None:
    module = network()
    state = dict(module.state_dict())
    state |= {"2.weight": state["2.weight"].half(), "2.bias": state["2.bias"].double()}
    notes = fill(module, state, PATH, "net")
    assert notes == (
        "1 tensor of the file is float16 and was widened to float32",
        "1 tensor of the file is float64 and was narrowed to float32",
    )
    assert torch.equal(module[2].weight, state["2.weight"].float())
