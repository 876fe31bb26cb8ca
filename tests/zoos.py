"""Stand-ins for timm and torchvision: what the adapters call of them, with the signatures, answers and errors of timm
1.0.31 and torchvision 0.29, on networks that are made in no time. Downloads find nothing but what a test puts there."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn


class ResNetOfTimm(nn.Module):
    """A stem of convolutions, one of which may have other channels, and a classifier that may be none."""

    def __init__(self, num_classes=1000, in_chans=3):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(in_chans, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = nn.Conv2d(16, 8, 3, 2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, num_classes) if num_classes else nn.Identity()

    def forward(self, x):
        return self.fc(self.drop(self.layer1(self.conv1(x)).mean((2, 3))))


class TResNetOfTimm(ResNetOfTimm):
    """Pixels become channels before the convolution that timm calls the first."""

    def __init__(self, num_classes=1000, in_chans=3):
        super().__init__(num_classes, 16 * in_chans)

    def forward(self, x):
        return super().forward(nn.functional.pixel_unshuffle(x, 4))


def checkpoint_filter_fn(state_dict, model):
    """Brings the names of the authors' own files to timm's."""
    if "stem.weight" not in state_dict:
        return state_dict
    return {k.replace("stem.", "conv1.0."): v for k, v in state_dict.items() if k != "authors.epoch"}


@dataclass
class PretrainedCfg:
    """The fields of timm's that the adapter or its tests know."""

    url: str | None = ""
    hf_hub_id: str | None = None
    hf_hub_filename: str | None = None
    architecture: str | None = None
    tag: str | None = None
    input_size: tuple[int, int, int] = (3, 160, 160)
    interpolation: str = "bilinear"
    crop_pct: float = 0.95
    crop_mode: str = "center"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    num_classes: int = 1000
    first_conv: str | None = "conv1.0"
    classifier: str | None = "fc"
    license: str | None = None

    @property
    def has_weights(self):
        return self.url or self.hf_hub_id


def _cfg(name, tag, **more):
    hub = f"timm/{name}.{tag}" if tag and tag != "untrained" else None
    return PretrainedCfg(hf_hub_id=hub, architecture=name, tag=tag or None, **more)


@dataclass
class Timm:
    """timm, its list and its hub."""

    cfgs: dict[str, list[PretrainedCfg]] = field(
        default_factory=lambda: {
            "test_resnet": [_cfg("test_resnet", "r160_in1k", license="apache-2.0"), _cfg("test_resnet", "b_in1k")],
            "test_squash": [_cfg("test_squash", "", crop_mode="squash", crop_pct=1.0)],
            "test_maxvit": [_cfg("test_maxvit", "untrained")],
            "test_tresnet": [_cfg("test_tresnet", "")],
        }
    )
    hub: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def list_models(
        self, filter="", module="", pretrained=False, exclude_filters="", name_matches_cfg=False, include_tags=None
    ):
        tagged = pretrained if include_tags is None else include_tags
        names = []
        for name, cfgs in self.cfgs.items():
            for cfg in cfgs if tagged else cfgs[:1]:
                full = f"{name}.{cfg.tag}" if tagged and cfg.tag else name
                if (cfg.has_weights or not pretrained) and (not filter or fnmatch(full, filter)):
                    names.append(full)
        return sorted(names)

    def get_deprecated_models(self, module=""):
        return {"test_resnet_old": "test_resnet.b_in1k", "test_gone": None}

    def get_pretrained_cfg(self, model_name, allow_unregistered=True):
        name, _, tag = model_name.partition(".")
        found = [c for c in self.cfgs[name] if not tag or c.tag == tag]
        if not found:
            raise RuntimeError(f"Invalid pretrained tag ({tag}) for {name}.")
        return replace(found[0])

    def create_model(
        self, model_name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, checkpoint_path=None,
        cache_dir=None, scriptable=None, exportable=None, no_jit=None, **kwargs,
    ):  # fmt: skip
        source, colon, place = model_name.partition(":")
        if colon and source == "local-dir":
            kept = json.loads(Path(place, "config.json").read_text()) if Path(place, "config.json").exists() else {}
            cfg = replace(self.cfgs[kept.get("architecture", "test_resnet")][0], hf_hub_id=None)
            kwargs = {**kept.get("model_args", {}), **kwargs}
        elif colon:
            raise OSError(f"We couldn't connect to 'https://huggingface.co' to load {place}")
        else:
            cfg = self.get_pretrained_cfg(model_name)
        model = {"test_tresnet": TResNetOfTimm}.get(cfg.architecture, ResNetOfTimm)(**kwargs)
        model.pretrained_cfg = asdict(cfg)
        if pretrained and source == "local-dir":
            model.load_state_dict(load_file(os.path.join(place, "model.safetensors")))
        elif pretrained:
            if cfg.hf_hub_id not in self.hub:
                raise FileNotFoundError("An error happened while trying to locate the file on the Hub")
            model.load_state_dict(self.hub[cfg.hf_hub_id])
        return model

    @staticmethod
    def resolve_model_data_config(model, args=None, pretrained_cfg=None, use_test_size=False, verbose=False):
        names = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
        return {name: model.pretrained_cfg[name] for name in names}

    def modules(self):
        names = ("list_models", "get_pretrained_cfg", "create_model")
        models = _module("timm.models", get_deprecated_models=self.get_deprecated_models)
        data = _module("timm.data", resolve_model_data_config=self.resolve_model_data_config)
        top = _module("timm", models=models, data=data, **{n: getattr(self, n) for n in names})
        return [top, models, data]


class SqueezeNet(nn.Module):
    """As torchvision has it: the classifier is a convolution."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(64, num_classes, 1))

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


class MNASNet(SqueezeNet):
    """Asks a file for its version, as torchvision's does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") not in (1, 2):
            raise ValueError(f"version should be set to 1 or 2 instead of {local_metadata.get('version')}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class GoogLeNet(SqueezeNet):
    """With a head that is there for training alone, and an input that may be transformed."""

    def __init__(self, num_classes=1000, aux_logits=True, transform_input=False):
        super().__init__(num_classes)
        self.aux_logits, self.transform_input = aux_logits, transform_input
        self.aux1 = nn.Linear(64, num_classes) if aux_logits else None


class FCN(nn.Module):
    """As torchvision has it: answers with a dict."""

    def __init__(self, num_classes=21, aux_loss=False):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3)
        self.classifier = nn.Conv2d(8, num_classes, 1)
        self.aux_classifier = nn.Conv2d(8, num_classes, 1) if aux_loss else None

    def forward(self, x):
        return OrderedDict(out=self.classifier(self.backbone(x)))


@dataclass(frozen=True)
class Weights:
    """An entry's value."""

    url: str
    transforms: Any
    meta: dict[str, Any] = field(default_factory=dict, hash=False)


class WeightsEnum(enum.Enum):
    """As torchvision has it: fields of the value are the entry's, and the file comes through torch's hub."""

    url = property(lambda self: self.value.url)
    transforms = property(lambda self: self.value.transforms)

    def get_state_dict(self, *args, **kwargs):
        return torch.hub.load_state_dict_from_url(self.url, *args, **kwargs)


def _classification(**told):
    size = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    way = SimpleNamespace(value="bilinear")
    return SimpleNamespace(**size, interpolation=way, **{k: [v] for k, v in told.items()})


def _entries(name, **files):
    values = {}
    for key, told in files.items():
        known = {"squeezenet1_1": "squeezenet1_1-b8a52dc0"}.get(name, name)
        file = f"https://download.pytorch.org/models/{known if key[-1] == '1' else name + '-2'}.pth"
        values[key] = Weights(file, partial(_classification, **told))
    return WeightsEnum(f"{name}_Weights", {**values, "DEFAULT": list(values.values())[-1]} if values else {})


class Torchvision:
    """torchvision.models: its list, and its builders in the parts of it that tell what they take."""

    def __init__(self):
        usual, segmented = dict(crop_size=224, resize_size=256), dict(resize_size=520)
        self.weights = {
            "squeezenet1_1": _entries("squeezenet1_1", IMAGENET1K_V1=usual, IMAGENET1K_V2=dict(crop_size=176, resize_size=176)),
            "googlenet": _entries("googlenet", IMAGENET1K_V1=usual),
            "fcn_resnet50": _entries("fcn", COCO_WITH_VOC_LABELS_V1=segmented),
            "bare": _entries("bare"),
            "mnasnet0_5": _entries("mnasnet0_5"),
        }  # fmt: skip
        self.builders = {
            "squeezenet1_1": _builder("torchvision.models.squeezenet", SqueezeNet),
            "googlenet": _builder("torchvision.models.googlenet", GoogLeNet),
            "fcn_resnet50": _segmentation("torchvision.models.segmentation.fcn", FCN),
            "bare": _builder("torchvision.models.bare", SqueezeNet),
            "mnasnet0_5": _builder("torchvision.models.mnasnet", MNASNet),
        }
        parts = {"fasterrcnn": "detection.faster_rcnn", "r3d_18": "video.resnet", "raft_small": "optical_flow.raft",
                 "quantized_squeezenet1_1": "quantization.squeezenet"}  # fmt: skip
        self.builders |= {n: _builder(f"torchvision.models.{p}", SqueezeNet) for n, p in parts.items()}

    def list_models(self, module=None, include=None, exclude=None):
        return sorted(self.builders)

    def get_model_builder(self, name):
        return self.builders[name.lower()]

    def get_model_weights(self, name):
        return self.weights[name]

    def get_model(self, name, **config):
        return self.get_model_builder(name)(**config)

    def modules(self):
        names = ("list_models", "get_model_builder", "get_model_weights", "get_model")
        models = _module("torchvision.models", **{n: getattr(self, n) for n in names})
        return [_module("torchvision", models=models), models]


def _builder(part, kind):
    def build(*, weights=None, progress=True, **kwargs):
        model = kind(**kwargs)
        if weights is not None:
            model.load_state_dict(weights.get_state_dict(progress=progress, check_hash=True))
        return model

    build.__module__ = part
    return build


def _segmentation(part, kind):
    def build(*, weights=None, progress=True, num_classes=None, aux_loss=None, weights_backbone="DEFAULT", **kwargs):
        if weights is not None:
            weights_backbone, num_classes, aux_loss = None, 21, True
        if weights_backbone is not None:
            raise OSError("this would download a trunk")
        return _builder(part, kind)(weights=weights, num_classes=num_classes or 21, aux_loss=bool(aux_loss))

    build.__module__ = part
    return build


def _module(name, **names):
    made = ModuleType(name)
    vars(made).update(names)
    return made


def put(monkeypatch, library):
    """Puts a stand-in in its library's place."""
    for module in library.modules():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return library
