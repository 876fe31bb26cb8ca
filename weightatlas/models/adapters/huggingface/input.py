"""What networks of transformers take in, from the configuration of their image processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ....errors import ArgumentError, LoadError
from ...spec import InputSpec, Resize
from ..filling import cut_note

USUAL_SIZE = 224
BYTE = 255
#: What the Pillow library numbers ways of scaling by.
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
#: ConvNeXt's processor cuts this share out of the centre unless the picture is this large (transformers' defaults).
CONVNEXT_SHARE, CONVNEXT_WHOLE = 224 / 256, 384
LONGEST = 16384
#: Processors that scale both sides where their size is one number (transformers' ``default_to_square``).
SQUARE = ("DeiT", "Beit", "EfficientNet")
#: LeViT's scales to so many times its size before it cuts, PoolFormer's to its size by this share (crop_pct).
LEVIT_TIMES, POOLFORMER_SHARE = 256 / 224, 0.9
SECOND = 16000  # values of a signal, the rate that speech models are trained at


def image_input(told: Mapping[str, Any], config: Any, module: nn.Module) -> tuple[InputSpec, tuple[str, ...]]:
    """What a network takes in, and what of the library's preparation does not hold here.

    Args:
        told: preprocessor_config.json; empty without one.
        config: the network's configuration.
        module: the network.

    Raises:
        LoadError: for entries that cannot be meant.
    """
    channels = _channels(config, module)
    size, resize, notes = _sized(told, config)
    try:
        value_range, mean, std, said = _scaled(told, channels)
        spec = InputSpec((channels, *size), value_range, mean, std, resize)
    except (ArgumentError, TypeError, ValueError) as error:
        raise LoadError(f"preprocessor_config.json cannot be meant: {error}") from error
    return spec, (*notes, *said)


def signal_input(config: Any) -> tuple[InputSpec, tuple[str, ...]]:
    """The input of a network of signals that begins with convolutions over raw values.

    Raises:
        ArgumentError: for one that takes a spectrogram.
    """
    if not getattr(config, "conv_kernel", None):
        raise ArgumentError(
            f"a {type(config).__name__.removesuffix('Config')} takes spectrograms of a form that its configuration "
            "does not tell; load the module yourself and pass it to load() with input=InputSpec(shape=…)"
        )
    return InputSpec((SECOND,)), (f"signals of {SECOND} values are assumed: a second at 16 kHz",)


def _channels(config: Any, module: nn.Module) -> int:
    told = getattr(config, "num_channels", None)
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == 1), None)
    return first.in_channels if first is not None else told if isinstance(told, int) and told > 0 else 3


def _pair(value: Any, entry: str) -> tuple[int, int] | None:
    """A size in any of the library's forms as ``(H, W)``; ``None`` for one that is not of both sides."""
    if isinstance(value, Mapping):
        value = (value["height"], value["width"]) if {"height", "width"} <= set(value) else None
    if isinstance(value, int | float):
        value = (value, value)
    if value is None:
        return None
    sizes = [int(v) for v in value if isinstance(v, int | float)] if isinstance(value, list | tuple) else []
    if len(sizes) != 2 or not all(0 < s <= LONGEST for s in sizes):
        raise LoadError(f"{entry} is {value!r}, no size of a picture in pixels (at most {LONGEST})")
    return sizes[0], sizes[1]


def _sized(told: Mapping[str, Any], config: Any) -> tuple[tuple[int, int], Resize, list[str]]:
    """Size, way of resizing, and notes."""
    if not told:
        size = _pair(getattr(config, "image_size", None), "image_size of config.json")
        where = "image_size of config.json" if size else "usual"
        size = size or (USUAL_SIZE, USUAL_SIZE)
        note = (
            f"there is no preprocessor_config.json: pictures of {size[0]} × {size[1]} ({where}) with values 0 … 1 and "
            "no normalisation are assumed; pass input=InputSpec(…) if it was trained on others"
        )
        return size, "crop", [note]
    scaling = RESAMPLING.get(told.get("resample", 2), "bilinear")  # type: ignore[arg-type]
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    if kind.startswith(("Levit", "PoolFormer")):  # which cut without being told
        told = {"crop_size": USUAL_SIZE, **told}
    given = told.get("size", USUAL_SIZE)
    short = given.get("shortest_edge") if isinstance(given, Mapping) else None
    cut = _pair(told.get("crop_size"), "crop_size") if told.get("do_center_crop", "crop_size" in told) else None
    if isinstance(told.get("crop_size"), Mapping) and "shortest_edge" in told["crop_size"]:
        cut = _pair(told["crop_size"]["shortest_edge"], "crop_size") if cut is None else cut
    if cut is None and ("crop_pct" in told or "ConvNext" in kind):
        return _convnext(told, _pair(short if short is not None else given, "size"), scaling)
    if cut is not None:
        scaled = _scaled_to(told, kind, _pair(short if short is not None else given, "size") or cut)
        note = cut_note("transformers", scaled, cut, scaling)
        return cut, "stretch" if isinstance(scaled, tuple) else "crop", [note] if note else []
    size = _pair(short if short is not None else given, "size")
    if size is None:
        size = _pair(getattr(config, "image_size", None), "image_size of config.json") or (USUAL_SIZE, USUAL_SIZE)
        return size, "crop", [f"size {dict(given)} leaves the input's size open; {size[0]} × {size[1]} is assumed"]
    if short is not None:
        note = f"transformers scales the short side of a picture to {size[0]} pixels and cuts nothing; here it is cut"
        return size, "crop", [note]
    note = f"transformers scales pictures by another rule ({scaling}); here they are scaled bilinear"
    return size, "stretch", [] if scaling == "bilinear" else [note]


def _scaled_to(told: Mapping[str, Any], kind: str, size: tuple[int, int]) -> float | tuple[float, float]:
    """What a processor that cuts the centre out scales pictures to before: their short side, or both ``(H, W)``."""
    given = told.get("size", USUAL_SIZE)
    if kind.startswith("PoolFormer"):
        share = told.get("crop_pct", POOLFORMER_SHARE)
        return min(size) / (float(share) if isinstance(share, int | float) and share > 0 else 1.0)
    if isinstance(given, Mapping) and "height" in given:
        return float(size[0]), float(size[1])
    if not isinstance(given, Mapping) and kind.startswith(SQUARE):
        return float(size[0]), float(size[1])
    # the processor takes the whole part of this product
    return min(size) * (LEVIT_TIMES if kind.startswith("Levit") else 1.0)


def _convnext(
    told: Mapping[str, Any], size: tuple[int, int] | None, scaling: str
) -> tuple[tuple[int, int], Resize, list[str]]:
    """ConvNeXt's rule: small pictures are scaled to more and cut, large ones are stretched."""
    size = size or (USUAL_SIZE, USUAL_SIZE)
    if size[0] >= CONVNEXT_WHOLE:
        return size, "stretch", []
    share = told.get("crop_pct")
    share = float(share) if isinstance(share, int | float) and share > 0 else CONVNEXT_SHARE
    note = cut_note("transformers", size[0] / share, size, scaling)
    return size, "crop", [note] if note else []


def _scaled(
    told: Mapping[str, Any], channels: int
) -> tuple[tuple[float, float], tuple[float, ...], tuple[float, ...], list[str]]:
    """Range of values, mean, deviation, and notes."""
    notes = []
    factor = float(told.get("rescale_factor", 1 / BYTE)) if told.get("do_rescale", True) else 1.0
    shift = -1.0 if told.get("rescale_offset") and told.get("do_rescale", True) else 0.0
    # (1 / 255) · 255 is not 1 in floating point
    value_range = (shift, shift + round(BYTE * factor, 6))
    mean, std = (_per_channel(told.get(entry)) for entry in ("image_mean", "image_std"))
    if told.get("do_normalize", bool(mean)) and not (mean and std):
        notes.append("preprocessor_config.json has no image_mean and image_std; no normalisation is assumed")
    # EfficientNet's divides once more
    twice = told.get("include_top", "EfficientNet" in str(told.get("image_processor_type"))) and bool(std)
    if not (told.get("do_normalize", bool(mean)) and mean and std):
        mean, std = (0.0,), (std if twice else (1.0,))
    elif twice:
        std = tuple(s * s for s in std)
    for given in (mean, std):
        if len(given) not in (1, channels):
            notes.append(f"image_mean and image_std are of {len(given)} channels, averaged, as it takes {channels}")
            mean, std = ((sum(v) / len(v),) for v in (mean, std))
            break
    mean, std = (v * channels if len(v) == 1 else v for v in (mean, std))
    if told.get("do_flip_channel_order"):
        notes.append(
            "the network takes blue, green, red; pictures are given to it as red, green, blue: turn them before"
        )
    if told.get("do_grayscale"):
        notes.append("transformers makes pictures grey first; here they stay as they are")
    return value_range, mean, std, notes


def _per_channel(value: Any) -> tuple[float, ...]:
    """Numbers by channel; one number for all of them, none where there is nothing."""
    if value is None:
        return ()
    return tuple(float(v) for v in value) if isinstance(value, list | tuple) else (float(value),)
