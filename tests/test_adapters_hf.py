"""Networks of transformers against what that library itself makes of the same folders."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, MissingPackageError

hub = pytest.importorskip("transformers")
import huggingface_hub  # noqa: E402
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: E402

SMALL = dict(hidden_sizes=[8, 12], depths=[1, 1])
TINY = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
STANDARD = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], do_normalize=True)
#: Class, configuration, preprocessor_config.json, one layer; the pictures' size is the last of them.
NETWORKS = {
    "ResNet": ("ResNetForImageClassification", dict(embedding_size=8, layer_type="basic", **SMALL), dict(STANDARD, size={"shortest_edge": 48}, crop_pct=0.875, image_processor_type="ConvNextImageProcessor"), "resnet.embedder.embedder.convolution", 48),
    "RegNet": ("RegNetForImageClassification", dict(embedding_size=8, groups_width=4, **SMALL), dict(STANDARD, size=40), "regnet.encoder.stages.0.layers.0.layer.1.convolution", 40),
    "ConvNext": ("ConvNextForImageClassification", dict(num_stages=2, **SMALL), dict(STANDARD, size={"shortest_edge": 384}, crop_pct=0.9), "convnext.encoder.stages.0.layers.0.dwconv", 384),
    "ConvNextV2": ("ConvNextV2Model", dict(num_stages=2, **SMALL), dict(STANDARD, size={"shortest_edge": 32}, crop_pct=0.875), "encoder.stages.1.downsampling_layer.1", 32),
    "MobileNetV1": ("MobileNetV1ForImageClassification", dict(depth_multiplier=0.1, min_depth=4), dict(size={"shortest_edge": 64}, do_center_crop=True, crop_size={"height": 48, "width": 48}, image_mean=[0.5] * 3, image_std=[0.5] * 3), "mobilenet_v1.layer.2.convolution", 48),
    "MobileNetV2": ("MobileNetV2ForImageClassification", dict(depth_multiplier=0.1, min_depth=4, depth_divisible_by=4), dict(size={"shortest_edge": 64}, do_center_crop=True, crop_size=48, image_mean=[0.5] * 3, image_std=[0.5] * 3), "mobilenet_v2.conv_stem.first_conv.convolution", 48),
    "EfficientNet": ("EfficientNetForImageClassification", dict(width_coefficient=0.1, depth_coefficient=0.1, image_size=32, hidden_dim=128), dict(STANDARD, size={"height": 32, "width": 32}, resample=0, rescale_factor=1 / 127.5, rescale_offset=True, include_top=True, image_processor_type="EfficientNetImageProcessor"), "efficientnet.embeddings.convolution", 32),
    "ViT": ("ViTForImageClassification", dict(image_size=32, patch_size=8, **TINY), dict(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2, image_processor_type="ViTImageProcessor"), "vit.embeddings.patch_embeddings.projection", 32),
    "DINOv2": ("Dinov2Model", dict(image_size=28, patch_size=7, **TINY), dict(STANDARD, size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, do_center_crop=True, resample=3), "embeddings.patch_embeddings.projection", 28),
    "Swin": ("SwinForImageClassification", dict(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4), dict(STANDARD, size={"height": 32, "width": 32}, resample=3), "swin.embeddings.patch_embeddings.projection", 32),
    "SegFormer": ("SegformerForSemanticSegmentation", dict(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 12], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8), dict(STANDARD, size={"height": 64, "width": 64}), "", 64),
    "backbone": ("ResNetBackbone", dict(embedding_size=8, layer_type="basic", **SMALL), dict(STANDARD, size=40), "embedder.embedder.convolution", 40),
}  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is fetched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def made(name: str):
    kind, config, told, layer, size = NETWORKS[name]
    torch.manual_seed(1)
    cls = getattr(hub, kind)
    return cls(cls.config_class(**config)).eval(), told, layer, size


def saved(folder: Path, module, told=None, **options) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.save_pretrained(folder, **options)
    if told is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def resnet(folder: Path, told=None, **options) -> Path:
    return saved(folder, made("ResNet")[0], told, **options)


def change(folder: Path, **entries) -> Path:
    path = folder / "config.json"
    told = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
    return folder


def flat(output) -> list[torch.Tensor]:
    found = []
    for value in output.to_tuple():
        found += [value] if isinstance(value, torch.Tensor) else [v for v in value or () if isinstance(v, torch.Tensor)]
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_the_library(tmp_path, capfd, name: str) -> None:
    module, told, layer, size = made(name)
    saved(tmp_path / name, module, told)
    capfd.readouterr()
    net = wa.load(f"hf:{tmp_path / name}")
    assert capfd.readouterr() == ("", "")
    assert (net.name, net.origin) == (f"hf:{name}", (f"hf:{tmp_path / name}", None))
    assert net.file.startswith("model.safetensors sha256:")
    assert net.input.shape == (3, size, size)
    assert not net.module.training
    assert not any(p.requires_grad for p in net.module.parameters())
    x = torch.randn(1, *net.input.shape)
    with torch.no_grad():
        ours, theirs = flat(net.module(x)), flat(module(x))
    assert ours
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    layer = layer or next(n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d))  # releases differ
    weights = wa.direct_weights(net, layer, fold_norm=False)
    assert weights.values.shape[2] > 1 or "downsampling" in layer or name == "MobileNetV1"
    np.testing.assert_array_equal(weights.values, module.get_submodule(layer).weight.detach().numpy())
    assert net.layers[layer].source == "input" or not layer.endswith("embedder.convolution")


@pytest.mark.parametrize("name", ["ResNet", "ViT", "EfficientNet"])
def test_pictures_become_what_the_library_makes_of_them(tmp_path, name: str) -> None:
    module, told, _, size = made(name)
    net = wa.load(f"hf:{saved(tmp_path, module, told)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = getattr(hub, told["image_processor_type"] + "Pil")(**told)
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    theirs = processor(pixels, do_resize=False, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(net.preprocess([pixels]), theirs, atol=1e-5)


SQUARE, SHORT = dict(height=48, width=48), dict(shortest_edge=48)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("DeiT", dict(height=56, width=56)), ("DeiT", 56), ("DeiT", dict(height=56, width=60)), ("Beit", 56), ("Levit", SHORT), ("Levit", 48), ("Levit", dict(height=56, width=56)), ("PoolFormer", SHORT), ("Bit", dict(shortest_edge=56)), ("Bit", 56)],
)  # fmt: skip
def test_what_is_said_of_cutting_is_what_the_library_does(tmp_path, kind: str, size) -> None:
    """The library's own processor, stopped before it cuts, tells the sides that it scales to."""
    given = dict(size=size, crop_size=SQUARE, do_center_crop=True, image_processor_type=f"{kind}ImageProcessor")
    net = wa.load(f"hf:{resnet(tmp_path, given)}", weights="random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = getattr(hub, f"{kind}ImageProcessorPil")(**given)
    wide = np.random.default_rng(0).integers(0, 256, (100, 160, 3), dtype=np.uint8)
    theirs = processor(wide, do_center_crop=False, do_rescale=False, do_normalize=False, return_tensors="np")
    height, width = theirs["pixel_values"].shape[2:]
    stretched = width < 1.5 * height  # the picture is wider than that
    told = next(note for note in net.notes if "before it cuts 48 × 48 out" in note)
    sides = f"{height} × {width}" if height != width and stretched else height
    assert f"scales {'both sides' if stretched else 'the short side'} of pictures to {sides} pixels" in told
    assert (net.input.grid, net.input.resize) == ((48, 48), "stretch" if stretched else "crop")


@pytest.mark.parametrize(
    ("told", "size", "resize", "note"),
    [
        (None, (224, 224), "crop", "there is no preprocessor_config.json"),
        (dict(STANDARD, size=100), (100, 100), "stretch", ""),
        (dict(STANDARD, size={"height": 50, "width": 60}), (50, 60), "stretch", ""),
        (dict(STANDARD, size={"height": 50, "width": 60}, resample=3), (50, 60), "stretch", "bicubic"),
        (dict(STANDARD, size={"shortest_edge": 90}), (90, 90), "crop", "cuts nothing"),
        (dict(STANDARD, size={"shortest_edge": 90}, crop_size=80, do_center_crop=True), (80, 80), "crop", "to 90 pixels"),
        (dict(STANDARD, size={"shortest_edge": 90}, crop_size=80, do_center_crop=False), (90, 90), "crop", "cuts nothing"),
        (dict(STANDARD, size={"shortest_edge": 224}, crop_pct=0.875, resample=3), (224, 224), "crop", "to 256 pixels (bicubic)"),
        (dict(STANDARD, size={"longest_edge": 90}), (224, 224), "crop", "leaves the input's size open"),
        (dict(size=64), (64, 64), "stretch", ""),
        (dict(size=64, do_normalize=True), (64, 64), "stretch", "no image_mean"),
        (dict(STANDARD, size=64, do_flip_channel_order=True), (64, 64), "stretch", "blue, green, red"),
        (dict(size=64, image_mean=[0.5], image_std=[0.5], do_rescale=False), (64, 64), "stretch", ""),
    ],
)  # fmt: skip
def test_input_specs(tmp_path, told, size, resize: str, note: str) -> None:
    net = wa.load(f"hf:{resnet(tmp_path, told)}", weights="random")
    assert (net.input.grid, net.input.resize) == (size, resize)
    assert net.input.value_range == ((0, 255) if told and told.get("do_rescale") is False else (0, 1))
    assert net.input.mean == pytest.approx(
        tuple(told["image_mean"] * (3 // len(told["image_mean"]))) if told and "image_mean" in told else (0,) * 3
    )
    others = [n for n in net.notes if not n.startswith("its weights are random")]
    assert note in others[0] if note else not others


@pytest.mark.parametrize(
    "told", [dict(size=-3), dict(size=[1, 2, 3]), dict(size=10**9), dict(size="big"), dict(STANDARD, image_std=[0, 1, 1]), dict(STANDARD, image_mean="x"), dict(STANDARD, rescale_factor="x")],
)  # fmt: skip
def test_preparations_that_cannot_be_meant(tmp_path, told) -> None:
    with pytest.raises(LoadError, match=r"size|preprocessor_config.json"):
        wa.load(f"hf:{resnet(tmp_path, told)}", weights="random")


def test_other_channels(tmp_path) -> None:
    module = hub.ResNetForImageClassification(
        hub.ResNetConfig(embedding_size=8, layer_type="basic", num_channels=5, **SMALL)
    )
    net = wa.load(f"hf:{saved(tmp_path, module, dict(STANDARD, size=40))}")
    assert net.input.shape == (5, 40, 40)
    assert net.input.mean == pytest.approx((0.449,) * 5)
    assert any("averaged, as it takes 5" in note for note in net.notes)


def test_ways_of_saving(tmp_path) -> None:
    module = made("ResNet")[0]
    whole = wa.load(f"hf:{saved(tmp_path / 'whole', module)}")
    parts = saved(tmp_path / "parts", module, max_shard_size="5KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    net = wa.load(f"hf:{parts}")
    index = hashlib.sha256((parts / "model.safetensors.index.json").read_bytes()).hexdigest()
    assert (net.weights_hash, net.file) == (whole.weights_hash, f"model.safetensors.index.json sha256:{index}")
    count = len(list(parts.glob("*.safetensors")))
    assert any(
        note.startswith(f"weights from the {count} files that model.safetensors.index.json") for note in net.notes
    )
    alone = wa.load(parts / "model.safetensors.index.json")
    assert (alone.file, len(alone.tensors)) == (net.file, len(module.state_dict()))
    bins = saved(tmp_path / "bins", module)
    torch.save(load_file(bins / "model.safetensors"), bins / "pytorch_model.bin")
    (bins / "model.safetensors").unlink()
    net = wa.load(f"hf:{bins}")
    assert net.weights_hash == whole.weights_hash
    assert net.file.startswith("pytorch_model.bin sha256:")
    half = saved(tmp_path / "half", made("ResNet")[0].to(torch.bfloat16))
    net = wa.load(f"hf:{half}")
    assert {p.dtype for p in net.module.parameters()} == {torch.float32}
    assert any("bfloat16" in note for note in net.notes)


def test_folders_by_any_path(tmp_path, monkeypatch) -> None:
    resnet(tmp_path / "net@home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    hashes = {wa.load(name).weights_hash for name in ("hf:net@home", "hf:./net@home", "hf:~/net@home")}
    assert len(hashes) == 1
    assert wa.load("hf:net@home").origin == (f"hf:{tmp_path / 'net@home'}", None)


def test_weights_of_a_file_and_random_ones(tmp_path) -> None:
    folder = resnet(tmp_path)
    own = load_file(folder / "model.safetensors")
    save_file({k: v * 2 if v.is_floating_point() else v for k, v in own.items()}, tmp_path / "w.safetensors")
    net = wa.load(f"hf:{folder}", weights=tmp_path / "w.safetensors")
    torch.testing.assert_close(net.module.classifier[1].weight, own["classifier.1.weight"] * 2)
    assert net.origin == (f"hf:{folder}", str(tmp_path / "w.safetensors"))
    before = torch.random.get_rng_state()
    random = [wa.load(f"hf:{folder}", weights="random") for _ in range(2)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert random[0].weights_hash == random[1].weights_hash != net.weights_hash
    assert any("random (seed 0)" in note for note in random[0].notes)
    save_file({"other.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(LoadError, match=r"w\.safetensors does not fit"):
        wa.load(f"hf:{folder}", weights=tmp_path / "w.safetensors")


def test_a_file_says_how_many_classes_there_are(tmp_path) -> None:
    folder = resnet(tmp_path / "net")
    torch.manual_seed(2)
    config = made("ResNet")[0].config
    config.num_labels = 7
    seven = hub.ResNetForImageClassification(config).eval()
    save_file(seven.state_dict(), tmp_path / "w.safetensors")
    net = wa.load(f"hf:{folder}", weights=tmp_path / "w.safetensors")
    x = torch.randn(1, *net.input.shape)
    with torch.no_grad():
        torch.testing.assert_close(net.module(x).logits, seven(x).logits, rtol=0, atol=0)
    assert "num_labels=7 as the file has it" in net.notes
    other = seven.state_dict() | {"classifier.1.weight": torch.ones(7, 13)}
    save_file(other, tmp_path / "w.safetensors")
    with pytest.raises(LoadError, match=r"w\.safetensors does not fit hf:net"):
        wa.load(f"hf:{folder}", weights=tmp_path / "w.safetensors")


def test_rows_that_are_no_classes_are_told_as_what_does_not_fit(tmp_path) -> None:
    folder = saved(tmp_path / "vit", hub.ViTModel(hub.ViTConfig(image_size=32, patch_size=8, **TINY)))
    own = load_file(folder / "model.safetensors")
    save_file(own | {"layernorm.weight": torch.ones(15), "layernorm.bias": torch.ones(15)}, tmp_path / "w.safetensors")
    with pytest.raises(LoadError, match=r"layernorm.weight is \(15,\) instead of \(16,\)"):
        wa.load(f"hf:{folder}", weights=tmp_path / "w.safetensors")


def test_a_hub_that_is_not_there_is_told_before_transformers_tries(tmp_path, monkeypatch) -> None:
    opening = sys.modules["weightatlas.models.adapters.huggingface.opening"]
    monkeypatch.setattr(opening, "unreachable_hub", lambda: "it is not there")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.PretrainedConfig, "get_config_dict", lambda *words, **more: pytest.fail("it tried"))
    with pytest.raises(
        LoadError, match=r"config.json of hf:a/b@v1 is not in the cache .*, and it is not there\..*--revision v1"
    ):
        wa.load("hf:a/b@v1")
    commit = "0123456789abcdef0123456789abcdef01234567"
    resnet(tmp_path / "models--a--b" / "snapshots" / commit)
    (tmp_path / "models--a--b" / "refs").mkdir()
    (tmp_path / "models--a--b" / "refs" / "main").write_text(commit)
    (tmp_path / "models--a--b" / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(LoadError, match=r"weights of hf:a/b are not in the cache"):
        wa.load("hf:a/b")


def test_keys_that_are_missing_or_too_many_are_told(tmp_path) -> None:
    folder = resnet(tmp_path)
    own = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in own.items() if not k.startswith("classifier")} | {"extra": torch.ones(2)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    nets = [wa.load(f"hf:{folder}") for _ in range(2)]
    assert any(
        n == "classifier.1.bias, classifier.1.weight are not in the file and random (seed 0)" for n in nets[0].notes
    )
    assert any(n.startswith("1 tensors of the file are no part of ResNetForImageClassification") for n in nets[0].notes)
    assert nets[0].weights_hash == nets[1].weights_hash
    save_file({"extra": torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"do not fit ResNetForImageClassification: they lack \d+ of"):
        wa.load(f"hf:{folder}")
    save_file(own | {"classifier.1.weight": torch.ones(7, 12)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"cannot open weights of hf:.*mismatch"):
        wa.load(f"hf:{folder}")


class Bomb:
    """A pickle that would write a file when opened."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_damaged_and_hostile_weights(tmp_path) -> None:
    folder = resnet(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    for content in (b"", b"<html></html>", whole[: len(whole) // 2]):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(LoadError, match="cannot open weights of hf:"):
            wa.load(f"hf:{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(LoadError, match=r"has none of model\.safetensors"):
        wa.load(f"hf:{folder}")
    torch.save({"classifier.1.weight": Bomb(str(tmp_path / "ran"))}, folder / "pytorch_model.bin")
    with pytest.raises(LoadError, match=r"pickle that wants to run (io|_io)\.open"):
        wa.load(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(hidden_sizes=[10**9, 8]), "hidden_sizes = 1000000000, and no network"),
        (dict(hidden_sizes=[10**6, 10**7]), r"ResNetForImageClassification of .* numbers takes .* of memory"),
        (dict(depths=[10**9, 1]), "depths = 1000000000, and no network has more than 10,000"),
        (dict(hidden_sizes="wide"), "cannot open config.json"),
        (dict(hidden_sizes=[]), "cannot open"),
        (dict(hidden_act="none of these"), "cannot open ResNetForImageClassification"),
        (dict(architectures=["Nothing"]), "is a Nothing, which transformers .* does not have"),
        (dict(architectures=["AutoModel"]), "is a AutoModel, which transformers"),
        (dict(model_type="nothing"), "cannot open config.json"),
        (dict(model_type="own", auto_map={"AutoConfig": "evil.Config"}), r"needs code of its own \(evil.Config\)"),
        (dict(quantization_config={"quant_method": "gptq"}), r"quantised weights \(gptq\)"),
        (dict(_attn_implementation="evil/kernels"), "wants the code 'evil/kernels'"),
    ],
)
def test_configurations_that_cannot_be_meant(tmp_path, entries, message: str) -> None:
    folder = change(resnet(tmp_path), **entries)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(LoadError, match=message):
        wa.load(f"hf:{folder}", weights="random")
    assert not (tmp_path / "ran").exists()


def test_without_an_architecture_the_plain_model_is_taken(tmp_path) -> None:
    net = wa.load(f"hf:{change(resnet(tmp_path), architectures=None)}")
    assert type(net.module).__name__ == "ResNetModel"
    assert any("classifier.1" in note for note in net.notes)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000])
def test_configurations_that_are_none(tmp_path, content: bytes) -> None:
    folder = resnet(tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(LoadError, match="hf:"):
        wa.load(f"hf:{folder}")


def test_networks_that_take_something_else(tmp_path) -> None:
    bert = hub.BertModel(hub.BertConfig(vocab_size=20, **TINY))
    with pytest.raises(ArgumentError, match="is a BertModel, which takes input_ids"):
        wa.load(f"hf:{saved(tmp_path / 'bert', bert)}")
    towers = dict(text_config=dict(TINY, vocab_size=20), vision_config=dict(TINY, image_size=32, patch_size=8))
    clip = hub.CLIPModel(hub.CLIPConfig(**towers))
    with pytest.raises(ArgumentError, match="is a CLIPModel, which takes input_ids"):
        wa.load(f"hf:{saved(tmp_path / 'clip', clip)}")


def test_signals(tmp_path) -> None:
    torch.manual_seed(1)
    layers = dict(
        conv_dim=[8, 8],
        conv_kernel=[10, 3],
        conv_stride=[5, 2],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        vocab_size=8,
    )
    module = hub.Wav2Vec2Model(hub.Wav2Vec2Config(**layers, **TINY)).eval()
    net = wa.load(f"hf:{saved(tmp_path, module)}")
    assert any("16 kHz" in note for note in net.notes)
    first = "feature_extractor.conv_layers.0.conv"
    np.testing.assert_array_equal(
        wa.direct_weights(net, first).values[:, :, 0], module.get_submodule(first).weight.detach()
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/never-heard", r"is not in the cache .*hf download owner/never-heard"),
        ("owner/never-heard@main", r"is not in the cache"),
        ("a/b/c", "no name of a repository"),
        ("./none", "there is no folder"),
        ("we ird", "there is no folder"),
        ("", "there is no folder"),
        ("owner/name@", "there is no folder"),
    ],
)
def test_names_that_are_not_here(name: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        wa.load(f"hf:{name}")


def test_folders_and_files_that_hold_no_network(tmp_path) -> None:
    with pytest.raises(LoadError, match=r"has no config.json"):
        wa.load(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(LoadError, match="is a file"):
        wa.load(f"hf:{tmp_path / 'model.safetensors'}")


def test_repositories_in_the_cache(tmp_path, monkeypatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owner--net"
    resnet(repository / "snapshots" / commit, dict(STANDARD, size=40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(repository, tmp_path / "models--net")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("owner/net", "net", f"owner/net@{commit}", "owner/net@main"):
        net = wa.load(f"hf:{name}")
        assert net.origin == (f"hf:{name}", None)
        assert (net.name, net.input.grid) == (f"hf:{name.partition('@')[0]}", (40, 40))
        assert net.file.startswith("model.safetensors sha256:")
        assert any(commit in note for note in net.notes)


def test_what_the_hub_says_becomes_a_sentence() -> None:
    from weightatlas.models.adapters.huggingface.checks import failing

    cases = {
        GatedRepoError: "is gated: accept its terms",
        RepositoryNotFoundError: "there is no repository a/b",
        RevisionNotFoundError: "no such revision",
    }
    for kind, message in cases.items():
        with pytest.raises(LoadError, match=message), failing("a/b", "config.json", folder=False):
            raise OSError("advice") from kind.__new__(kind, "refused")


def test_a_missing_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match="pip install transformers"):
        wa.load("hf:owner/name")


def test_settings_of_the_library_stay(tmp_path) -> None:
    logging = hub.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    wa.load(f"hf:{resnet(tmp_path)}", weights="random")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
