"""The networks of the matrix of tested models: real ones by name, and small ones that are each hard for one reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import weightatlas as wa


@dataclass(frozen=True)
class Row:
    """One network.

    Args:
        name: in the table.
        opened: how it is opened, in a few words.
        open: opens it; may write files into the folder that it is given.
        needs: packages without which it cannot be opened.
    """

    name: str
    opened: str
    open: Callable[[Path], wa.Network]
    needs: tuple[str, ...] = ()


class UNet(nn.Module):
    """Down twice, up twice by transposed convolutions, with what was seen on the way down beside."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self.block(3, 16), self.block(16, 32)
        self.bottom = self.block(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.dec2, self.dec1 = self.block(64, 32), self.block(32, 16)
        self.out = nn.Conv2d(16, 2, 1)

    @staticmethod
    def block(i: int, o: int) -> nn.Sequential:
        """A convolution with its norm and ReLU."""
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, 3, H, W]`` to ``[N, 2, H, W]``."""
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        d = self.dec2(torch.cat([self.up2(c), b], 1))
        return self.out(self.dec1(torch.cat([self.up1(d), a], 1)))


class Shared(nn.Module):
    """One convolution called three times, ReLUs in place, one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.twin = self.again
        self.head = nn.Conv2d(16, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, 3, H, W]`` to ``[N, 8, H / 2, W / 2]``, without what the last kernel lacks."""
        x = self.relu(self.stem(x))
        x = self.relu(self.again(x)) + x
        x = self.relu(self.twin(x)) + x
        return self.head(self.relu(self.again(x)))


def mnist() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def satellite() -> nn.Module:
    def block(i: int, o: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU()]

    return nn.Sequential(
        *block(5, 16, 2), *block(16, 32, 1), *block(32, 32, 2), *block(32, 64, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(64, 12),
    )  # fmt: skip


def audio() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 16, 25, stride=4), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 9, dilation=2), nn.ReLU(),
        nn.MaxPool1d(4), nn.Conv1d(32, 32, 5, groups=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 3),
    )  # fmt: skip


def module(make: Callable[[], nn.Module], *shape: int) -> Callable[[Path], wa.Network]:
    """Opens a module of our own, random."""

    def opened(folder: Path) -> wa.Network:
        torch.manual_seed(0)
        return wa.load(make().eval(), input=wa.InputSpec(shape=shape))

    return opened


def checkpoint(folder: Path) -> wa.Network:
    torch.manual_seed(0)
    torch.save({"state_dict": satellite().state_dict()}, folder / "satellite.pth")
    return wa.load(folder / "satellite.pth")


def onnx_file(folder: Path) -> wa.Network:
    """Three convolutions and a matrix as an ONNX file, written with the onnx package itself."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"stem": (16, 3, 7, 7), "body.0": (16, 1, 3, 3), "body.1": (32, 16, 1, 1), "head": (10, 32)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype("float32"), f"{n}.weight") for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["a"], strides=[2, 2], pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "body.0.weight"], ["c"], group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "body.1.weight"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "head.weight"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "small.onnx")
    return wa.load(f"onnx:{folder / 'small.onnx'}")


def transformers_folder(kind: str, **config: Any) -> Callable[[Path], wa.Network]:
    """Opens a random model of transformers from a folder, as `save_pretrained` writes it."""

    def opened(folder: Path) -> wa.Network:
        import transformers
        from transformers.utils import logging

        torch.manual_seed(0)
        logging.disable_progress_bar()
        made = getattr(transformers, f"{kind}ForImageClassification")
        made(getattr(transformers, f"{kind}Config")(**config)).save_pretrained(folder / kind)
        (folder / kind / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        return wa.load(f"hf:{folder / kind}")

    return opened


def named(source: str) -> Callable[[Path], wa.Network]:
    """Opens a network by name with random weights."""
    return lambda folder: wa.load(source, weights="random")


def zoo(prefix: str, *names: str) -> list[Row]:
    """Rows for networks of a library that may not be there."""
    return [Row(f"{prefix}: {name}", "random", named(f"{prefix}:{name}"), (prefix,)) for name in names]


SIDE = 64  # pixels
PREPROCESSOR = {
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
}  # fmt: skip
SMALL = dict(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1])
ROWS = [
    Row("EfficientNet-Lite0", '`"efficientnet_lite0"`, trained', lambda folder: wa.load("efficientnet_lite0")),
    Row("InceptionV1", '`"inceptionv1"`, random', named("inceptionv1")),
    *(
        Row(f"transformers {kind}", "`hf:FOLDER`, random", transformers_folder(kind, **config), ("transformers",))
        for kind, config in {
            "ResNet": dict(embedding_size=16, layer_type="basic", **SMALL),
            "RegNet": dict(embedding_size=16, groups_width=8, **SMALL),
            "ConvNext": SMALL,
            "MobileNetV1": dict(depth_multiplier=0.5),
            "MobileNetV2": dict(depth_multiplier=0.5),
            "EfficientNet": dict(width_coefficient=0.5, depth_coefficient=0.5, image_size=SIDE, hidden_dim=640),
            "ViT": dict(
                hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=64
            ),
        }.items()
    ),
    *zoo(
        "timm",
        "resnet18",
        "mobilenetv3_small_100",
        "convnext_atto",
        "regnety_002",
        "tf_efficientnet_lite0",
        "vit_tiny_patch16_224",
    ),
    *zoo("torchvision", "resnet18", "googlenet", "squeezenet1_1", "densenet121", "mobilenet_v3_small", "vit_b_16"),
    Row("U-Net with transposed convolutions", "a torch module, random", module(UNet, 3, 64, 64)),
    Row("1 channel, MNIST-sized", "a torch module, random", module(mnist, 1, 28, 28)),
    Row("5 channels, satellite", "a torch module, random", module(satellite, 5, 64, 64)),
    Row("audio, 1-D convolutions", "a torch module, random", module(audio, 1, 4000)),
    Row("multilayer perceptron", "a torch module, random", module(mlp, 20)),
    Row("shared modules, ReLU in place", "a torch module, random", module(Shared, 3, 32, 32)),
    Row("a checkpoint alone", "`.pth` file", checkpoint),
    Row("an ONNX file", "`onnx:FILE`", onnx_file, ("onnx",)),
]
