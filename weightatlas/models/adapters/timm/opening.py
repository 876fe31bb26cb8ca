"""Networks of timm, by its own names, with the weights and the input that its configuration tells."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ....errors import ArgumentError, LoadError, unknown_name
from ...files.checkpoint import read_checkpoint
from ...fitting import fill, other_classes, seeded
from ...opened import RANDOM, UNTRAINED, Opened
from ...quoting import named
from ...spec import InputSpec, Resize
from ..filling import blank, check_room, cut_note
from ..importing import installed, library
from .places import FOLDER, HUB, check_reached, file_of, resolved, shown, unavailable

#: Tags that are listed.
MOST_TAGS = 6
#: What timm's functions for checkpoints of other people stumble over in a file that is none of theirs.
NOT_ITS_FORM = (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError)


def open_network(name: str, weights: str | None) -> Opened:
    """A network of timm.

    Args:
        name: ``resnet18`` or, with the tag of its weights, ``resnet18.a1_in1k``; ``hf-hub:OWNER/REPOSITORY`` and
            ``local-dir:FOLDER`` as timm takes them.
        weights: a file's path, :data:`RANDOM`, or ``None`` for those that timm downloads.

    Raises:
        MissingPackageError: if timm is missing or broken.
        UnknownNameError: for a name or a tag that timm does not have, with the nearest.
        LoadError: if the weights cannot be had, or do not fit.
    """
    timm = library("timm")
    prepared = library("timm.data").resolve_model_data_config
    place = name.startswith((*HUB, FOLDER))
    full, notes = (resolved(name), ()) if place else _listed(timm, name, trained=weights is None)
    file, options = "", {}
    check_reached(timm, full, trained=weights is None)
    if not full.startswith(HUB):  # what those are stands in the hub alone
        check_room(lambda: timm.create_model(full), f"timm:{shown(name)}")
    with seeded():
        if weights is None:
            module = _made(timm, full, pretrained=True)
            notes, file = (*notes, _from(module, full)), file_of(_about(module), full)
        elif weights == RANDOM:
            module = _made(timm, full)
            notes += (UNTRAINED,)
        else:
            module, options, added, file = _filled(timm, full, Path(weights))
            notes += added
    told = prepared(module)
    channels = options.get("in_chans") or (_channels(timm, module, told) if place else None)
    spec, said = _input(module, told, channels)
    module = module.eval().requires_grad_(False)
    source = "" if full == name else f"timm:{full}"
    return Opened(f"timm:{shown(name)}", module, spec, dict(module.state_dict()), (*notes, *said), file, source=source)


def _listed(timm: ModuleType, name: str, *, trained: bool) -> tuple[str, tuple[str, ...]]:
    """A name of timm's list with the tag of its weights, and what is to be said of that.

    Args:
        timm: the library.
        name: with or without a tag.
        trained: whether it must have weights.
    """
    notes: tuple[str, ...] = ()
    current = getattr(timm.models, "get_deprecated_models", dict)().get(name)
    if current:
        notes, name = (f"timm calls {name} {current} now",), current
    base, dot, tag = name.partition(".")
    if base not in timm.list_models():
        hint = "timm.list_models() lists them; timm:hf-hub:OWNER/REPOSITORY opens one of the Hub"
        raise unknown_name("timm model", base, timm.list_models(), hint=hint)
    tagged = timm.list_models(base + ".*", include_tags=True)
    if dot and name not in tagged:
        tags = [t.partition(".")[2] for t in tagged if "." in t]
        raise unknown_name(f"weights of timm's {base} with the tag", tag, tags)
    about = timm.get_pretrained_cfg(name)
    if trained and (about is None or not about.has_weights):
        others = timm.list_models(base + ".*", pretrained=True)
        there = f"those of {', '.join(others[:MOST_TAGS])} exist; " if others else ""
        raise LoadError(
            f"timm has no trained weights for {name}; {there}weights=FILE (--weights FILE) takes them from a file, "
            'weights="random" begins with untrained ones'
        )
    if not tag and trained and about.tag:
        name = f"{base}.{about.tag}"
    return name, notes


def _made(timm: ModuleType, name: str, pretrained: bool = False, options: dict[str, int] | None = None) -> nn.Module:
    """What timm makes; whatever it stumbles over is told in a sentence."""
    try:
        return timm.create_model(name, pretrained=pretrained, **(options or {}))
    except Exception as error:  # hubs, archives and constructors fail in any way they like
        if name.startswith(FOLDER) or not (pretrained or name.startswith(HUB)):
            raise LoadError(f"timm cannot make {shown(name)} ({named(error)})") from error
        raise LoadError(unavailable(timm, name, named(error))) from error


def _about(module: nn.Module) -> dict[str, Any]:
    """What timm notes of a network: where its weights come from, its input, the names of its first and last layer."""
    return getattr(module, "pretrained_cfg", {})


def _from(module: nn.Module, name: str) -> str:
    """Which weights these are, in words."""
    about = _about(module)
    where = about.get("hf_hub_id") or about.get("url") or shown(name)
    license = f", {about['license']}" if about.get("license") else ""
    return f"weights of {where}{license}, loaded by timm {installed('timm')}".rstrip()


def _filled(timm: ModuleType, name: str, path: Path) -> tuple[nn.Module, dict[str, int], tuple[str, ...], str]:
    """A network with a file's weights, and as many classes and channels; those; what is to be said; the file's hash."""
    checkpoint = read_checkpoint(path)
    module = _made(timm, name)
    state, notes = _renamed(module, checkpoint.tensors)
    options = _as_in(module, state)
    if options:
        module = _made(timm, name, options=options)
        notes += tuple(f"{option}={value} as the file has it" for option, value in options.items())
    changed = fill(module, state, path, f"timm:{shown(name)}")
    notes = (*checkpoint.kept_notes, *notes, *changed, f"weights from {path.name}")
    return module, options, notes, checkpoint.file


def _renamed(module: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights by timm's names, brought to them by timm's own function where they circulate by others."""
    if all(key in state for key in module.state_dict()):
        return state, ()
    bring = getattr(library(type(module).__module__), "checkpoint_filter_fn", None)
    if bring is None:
        return state, ()
    try:
        brought = dict(bring(dict(state), module))
    except NOT_ITS_FORM:
        return state, ()  # what does not fit is told of the file as it is
    own = module.state_dict()
    if sum(k in own for k in brought) <= sum(k in own for k in state):
        return state, ()
    return brought, (f"its names were brought to timm's by checkpoint_filter_fn of {type(module).__module__}",)


def _as_in(module: nn.Module, state: dict[str, Tensor]) -> dict[str, int]:
    """Arguments of a network that has the classes and input channels of a file; empty if those are the usual ones."""
    about, own, found = _about(module), module.state_dict(), {}
    first = about.get("first_conv")
    key = f"{first}.weight"
    usual, given = (list(t[key].shape) if key in t else [] for t in (own, state))
    if len(usual) == len(given) == 4 and usual[0] == given[0] and usual[1] != given[1]:
        found["in_chans"] = _scaled(given[1], usual[1], int((about.get("input_size") or (usual[1],))[0]))
        state = {k: v for k, v in state.items() if k != key}
    heads = about.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    if heads and not any(k.startswith(tuple(f"{h}." for h in heads)) for k in state):
        found["num_classes"] = 0
    elif (classes := other_classes(module, state)) is not None:
        found["num_classes"] = classes
    return found


def _scaled(has: int, usual: int, channels: int) -> int:
    """Channels of pictures where the first convolution has so many.

    Args:
        has: channels of that convolution.
        usual: those that it has in the network as timm makes it, where pictures have ``channels``. They are more where
            pixels are made into channels before it, as TResNet's are.
        channels: those of the pictures.
    """
    return has * channels // usual if usual % channels == 0 and has % (usual // channels) == 0 else has


def _first(module: nn.Module | None) -> nn.Conv2d | None:
    """The convolution that timm calls a network's first."""
    name = str(_about(module).get("first_conv")) if module is not None else ""
    found = dict(module.named_modules()).get(name) if module is not None else None
    return found if isinstance(found, nn.Conv2d) and found.groups == 1 else None


def _channels(timm: ModuleType, module: nn.Module, told: dict[str, Any]) -> int | None:
    """Channels that a network of a folder or repository takes, which its configuration need not tell."""
    first = _first(module)
    if first is None or first.in_channels == int(told["input_size"][0]):
        return None
    network = blank(lambda: timm.create_model(_about(module).get("architecture")))
    usual = _first(network)
    if network is None or usual is None:
        return first.in_channels
    return _scaled(first.in_channels, usual.in_channels, int(_about(network)["input_size"][0]))


def _input(module: nn.Module, told: dict[str, Any], channels: int | None) -> tuple[InputSpec, tuple[str, ...]]:
    """What a network takes in, and what of timm's preparation of pictures that does not hold.

    Args:
        module: the network.
        told: what ``timm.data.resolve_model_data_config`` gives.
        channels: that it takes, where they are not those that timm tells.
    """
    size = tuple(int(n) for n in told["input_size"])
    mean, std, notes = tuple(told["mean"]), tuple(told["std"]), []
    channels = channels or int(getattr(module, "in_chans", size[0]) or size[0])
    if len(mean) != channels or len(std) != channels:
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
        notes.append(f"mean and std are timm's for {size[0]} channels, averaged, because the file has {channels}")
    if len(size) != 3:
        raise ArgumentError(
            f"timm tells an input of {size}, which is no image; pass the module with input=InputSpec(…)"
        )
    mode, share = told.get("crop_mode", "center"), float(told.get("crop_pct") or 1.0)
    resize: Resize = "stretch" if mode == "squash" else "crop"
    scaled = (size[1] / share, size[2] / share) if mode == "squash" else min(size[1:]) / share
    note = cut_note("timm", scaled, (size[1], size[2]), str(told.get("interpolation", "bilinear")))
    if mode == "border":
        note = f"timm scales pictures as a whole into {size[1]} × {size[2]} and fills up the rest; here they are cut"
    return InputSpec((channels, *size[1:]), mean=mean, std=std, resize=resize), (*notes, *filter(None, [note]))
