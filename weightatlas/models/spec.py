"""Facts about a network's input and origin, as data."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from .files.checkpoint import Checkpoint

Resize = Literal["crop", "stretch", "exact"]

#: What the channels are called when nobody says: by their number, so that nothing is guessed beyond it.
CHANNEL_NAMES = {1: ("grey",), 3: ("red", "green", "blue")}


@dataclass(frozen=True)
class InputSpec:
    """What a network takes in: the shape, and how pixel values become the numbers it was trained on.

    Args:
        shape: one example without the batch axis: ``(C, H, W)`` for images, ``(C, L)`` for signals, ``(F,)`` for
            feature vectors.
        value_range: ``(low, high)`` of the values before normalisation; unsigned 8-bit images are mapped onto it.
        mean, std: normalisation ``(x − mean) / std`` in units of ``value_range``; one number, or one per channel.
        resize: ``"crop"`` scales the short side to fit and cuts the centre out, ``"stretch"`` scales both sides to
            fit, ``"exact"`` refuses images of any other size. Scaling is bilinear and antialiased.
        channel_names: one name per channel; by default ``grey`` or ``red, green, blue`` for images, else numbers.

    Raises:
        ArgumentError: for shapes, ranges, deviations or names that cannot be meant.

    Example:
        >>> spec = InputSpec(shape=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> spec.channels, spec.grid, spec.channel_names
        (3, (224, 224), ('red', 'green', 'blue'))
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    resize: Resize = "crop"
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field and brings it to its canonical form."""
        shape = _whole_numbers(self.shape)
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise ArgumentError(
                f"InputSpec shape {self.shape} is not (C, H, W), (C, L) or (F,) with positive sizes; "
                "give one example's shape without the batch axis, e.g. shape=(3, 224, 224)"
            )
        low, high = _per_channel("value_range", self.value_range, 2)
        if not low < high:
            raise ArgumentError(f"InputSpec value_range {self.value_range} is not (low, high) with low < high")
        if self.resize not in get_args(Resize):
            raise ArgumentError(f"InputSpec resize {self.resize!r} is none of {', '.join(get_args(Resize))}")
        mean = _per_channel("mean", self.mean, shape[0])
        std = _per_channel("std", self.std, shape[0])
        if any(s <= 0 for s in std):
            raise ArgumentError(f"InputSpec std {self.std} must be positive everywhere")
        names = tuple(str(n) for n in self.channel_names)
        usual = CHANNEL_NAMES.get(shape[0]) if len(shape) == 3 else None  # a signal's channels are no colours
        names = names or usual or tuple(str(i) for i in range(shape[0]))
        if len(names) != shape[0]:
            raise ArgumentError(f"InputSpec has {shape[0]} channels but {len(names)} channel_names: {names}")
        for field, value in (
            ("shape", shape),
            ("value_range", (low, high)),
            ("mean", mean),
            ("std", std),
            ("channel_names", names),
        ):
            object.__setattr__(self, field, value)

    @property
    def channels(self) -> int:
        """The number of channels ``C`` (or of features)."""
        return self.shape[0]

    @property
    def grid(self) -> tuple[int, int]:
        """The image size ``(H, W)`` in pixels; ``(1, L)`` for signals, ``(1, 1)`` for feature vectors."""
        height, width = ((1, 1), (1, self.shape[-1]), self.shape[1:])[len(self.shape) - 1]
        return height, width


def _whole_numbers(values: Any) -> tuple[int, ...]:
    """The numbers as ints; none at all if they are not whole numbers."""
    try:
        return tuple(operator.index(n) for n in values)
    except TypeError:
        return ()


def _per_channel(name: str, value: Any, count: int) -> tuple[float, ...]:
    try:
        numbers = (float(value),) * count if isinstance(value, Real) else tuple(float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"InputSpec {name} {value!r} is neither a number nor {count} of them") from error
    if len(numbers) != count:
        what = "numbers" if name == "value_range" else "channels"
        raise ArgumentError(f"InputSpec {name} has {len(numbers)} values for {count} {what}: {value}")
    if not all(math.isfinite(v) for v in numbers):
        raise ArgumentError(f"InputSpec {name} {value} must be finite")
    return numbers


@dataclass(frozen=True)
class ArticleFigure:
    """What a figure of "Visualizing Weights" shows of a network, for networks that the article itself shows.

    Args:
        target: a layer's or a unit's name, as :func:`weightatlas.figure` takes it.
        options: what else that figure is made from, by the same names.
        why: where the choice comes from, as a sentence.
    """

    target: str | None
    options: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class ModelSpec:
    """A network that can be loaded by name.

    Args:
        name: what users write.
        input: what it takes in.
        build: makes the module, untrained; with another number of classes by ``classes=``.
        find_weights: the path of the published weights on this machine, downloaded first if need be; raises if they
            cannot be had.
        find_here: the same if they are already on this machine, else ``None``; asks no network.
        read: the tensors of a file by the module's own names, in whatever form the weights circulate.
        license: of the weights.
        source: where the weights come from, in words.
        size: of their file in bytes, about.
        classifier: the module's last layer, a linear one with a row for every class.
        brings: what brings the weights onto a machine that lacks them, as a command or in words.
        blocks: the layers by which it is read where nobody says which, if its modules do not tell.
        article: what the method article's figures show, by their names there, if it is this network that they show.
    """

    name: str
    input: InputSpec
    build: Callable[..., torch.nn.Module]
    find_weights: Callable[[], Path]
    find_here: Callable[[], Path | None]
    read: Callable[[Path], Checkpoint]
    license: str
    source: str
    size: int
    classifier: str
    brings: str = ""
    blocks: tuple[str, ...] = ()
    article: Mapping[str, ArticleFigure] | None = None
