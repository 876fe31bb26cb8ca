"""Networks of timm, by its own names, with the weights and the input that its configuration tells."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ...errors import ArgumentError, LoadError, unknown_name
from ..files.checkpoint import file_hash, read_checkpoint
from ..fitting import fill
from ..opened import RANDOM, UNTRAINED, Opened
from ..spec import InputSpec, Resize
from .filling import cut_note, other_classes, seeded
from .importing import installed, library

#: Prefixes of names that do not stand in timm's list: repositories of the Hub, folders.
HUB, FOLDER = ("hf-hub:", "hf_hub:"), "local-dir:"
#: What a repository calls its file of weights.
FILES = ("model.safetensors", "pytorch_model.bin")
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
    full, notes = (_resolved(name), ()) if place else _listed(timm, name, trained=weights is None)
    file = ""
    with seeded():
        if weights is None:
            module = _made(timm, full, pretrained=True)
            notes, file = (*notes, _from(module, full)), _file_of(module, full)
        elif weights == RANDOM:
            module = _made(timm, full)
            notes += (UNTRAINED,)
        else:
            module, added, file = _filled(timm, full, Path(weights))
            notes += added
    spec, said = _input(module, prepared(module))
    module = module.eval().requires_grad_(False)
    source = "" if full == name else f"timm:{full}"
    return Opened(f"timm:{_shown(name)}", module, spec, dict(module.state_dict()), (*notes, *said), file, source=source)


def _resolved(name: str) -> str:
    """A folder's name as it is from anywhere."""
    folder = name.removeprefix(FOLDER)
    if folder == name:
        return name
    if not os.path.isdir(folder):
        raise LoadError(f"there is no folder {folder}; timm:{FOLDER}FOLDER holds config.json and the weights")
    return FOLDER + os.path.abspath(folder)


def _shown(name: str) -> str:
    """A name as captions have it: of a folder what it is called, not where it is."""
    return FOLDER + os.path.basename(os.path.abspath(name.removeprefix(FOLDER))) if name.startswith(FOLDER) else name


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
    base, _, tag = name.partition(".")
    if base not in timm.list_models():
        hint = "timm.list_models() lists them; timm:hf-hub:OWNER/REPOSITORY opens one of the Hub"
        raise unknown_name("timm model", base, timm.list_models(), hint=hint)
    tagged = timm.list_models(base + ".*", include_tags=True)
    if tag and name not in tagged:
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
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if name.startswith(FOLDER) or not (pretrained or name.startswith(HUB)):
            raise LoadError(f"timm cannot make {_shown(name)} ({words})") from error
        instead = 'give a file, weights=FILE (--weights FILE), or weights="random"'
        if name.startswith(HUB):  # which network it is stands there too
            instead = f"open a copy of the repository, timm:{FOLDER}FOLDER, or a network of timm's own list"
        raise LoadError(
            f"timm cannot get {name} from {_address(timm, name)} ({words}). Without a connection: {instead}; what timm "
            f"downloaded once is found in {_cache()}, at once where HF_HUB_OFFLINE=1 is set"
        ) from error


def _address(timm: ModuleType, name: str) -> str:
    """Where weights come from."""
    for prefix in HUB:
        if name.startswith(prefix):
            return f"https://huggingface.co/{name.removeprefix(prefix)}"
    about = timm.get_pretrained_cfg(name)
    return f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else str(about.url or about.file)


def _cache() -> str:
    """The folder in which the Hub's files are kept."""
    return str(library("huggingface_hub").constants.HF_HUB_CACHE)


def _from(module: nn.Module, name: str) -> str:
    """Which weights these are, in words."""
    about: dict[str, Any] = getattr(module, "pretrained_cfg", {})
    where = about.get("hf_hub_id") or about.get("url") or _shown(name)
    license = f", {about['license']}" if about.get("license") else ""
    return f"weights of {where}{license}, loaded by timm {installed('timm')}".rstrip()


def _file_of(module: nn.Module, name: str) -> str:
    """The name and hash of the file that timm has just read; empty where it does not tell which."""
    about: dict[str, Any] = getattr(module, "pretrained_cfg", {})
    repository, _, revision = str(about.get("hf_hub_id") or "").partition("@")
    for known in filter(None, (about.get("hf_hub_filename"), *FILES)):  # in the order in which timm tries them
        if name.startswith(FOLDER):
            found = os.path.join(name.removeprefix(FOLDER), known)
        elif repository:
            found = library("huggingface_hub").try_to_load_from_cache(repository, known, revision=revision or None)
        else:
            return ""
        if isinstance(found, str) and os.path.isfile(found):
            return file_hash(Path(found))
    return ""


def _filled(timm: ModuleType, name: str, path: Path) -> tuple[nn.Module, tuple[str, ...], str]:
    """A network with the weights of a file, as many classes and channels as that has, and what is to be said of it."""
    checkpoint = read_checkpoint(path)
    module = _made(timm, name)
    state, notes = _renamed(module, checkpoint.tensors)
    options = _as_in(module, state)
    if options:
        module = _made(timm, name, options=options)
        notes += tuple(f"{option}={value} as the file has it" for option, value in options.items())
    changed = fill(module, state, path, f"timm:{_shown(name)}")
    return module, (*checkpoint.kept_notes, *notes, *changed, f"weights from {path.name}"), checkpoint.file


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
    about: dict[str, Any] = getattr(module, "pretrained_cfg", {})
    own, found = module.state_dict(), {}
    first = about.get("first_conv")
    key = f"{first}.weight"
    usual, given = (list(t[key].shape) if key in t else [] for t in (own, state))
    if len(usual) == len(given) == 4 and usual[0] == given[0] and usual[1] != given[1]:
        found["in_chans"] = given[1]
        state = {k: v for k, v in state.items() if k != key}
    heads = about.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    if heads and not any(k.startswith(tuple(f"{h}." for h in heads)) for k in state):
        found["num_classes"] = 0
    elif (classes := other_classes(module, state)) is not None:
        found["num_classes"] = classes
    return found


def _input(module: nn.Module, told: dict[str, Any]) -> tuple[InputSpec, tuple[str, ...]]:
    """What a network takes in, and what of timm's preparation of pictures that does not hold.

    Args:
        module: the network.
        told: what ``timm.data.resolve_model_data_config`` gives.
    """
    size = tuple(int(n) for n in told["input_size"])
    mean, std, notes = tuple(told["mean"]), tuple(told["std"]), []
    channels = int(getattr(module, "in_chans", size[0]) or size[0])
    first = dict(module.named_modules()).get(str(getattr(module, "pretrained_cfg", {}).get("first_conv")))
    if isinstance(first, nn.Conv2d) and first.groups == 1:
        channels = first.in_channels
    if len(mean) != channels or len(std) != channels:
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
        notes.append(f"mean and std are timm's for {size[0]} channels, averaged, because the file has {channels}")
    if len(size) != 3:
        raise ArgumentError(
            f"timm tells an input of {size}, which is no image; pass the module with input=InputSpec(…)"
        )
    mode, share = told.get("crop_mode", "center"), float(told.get("crop_pct") or 1.0)
    resize: Resize = "stretch" if mode == "squash" else "crop"
    note = cut_note("timm", min(size[1:]) / share, (size[1], size[2]), str(told.get("interpolation", "bilinear")))
    if mode == "squash":
        note = note.replace("the short side", "both sides")
    elif mode == "border":
        note = f"timm scales pictures as a whole into {size[1]} × {size[2]} and fills up the rest; here they are cut"
    return InputSpec((channels, *size[1:]), mean=mean, std=std, resize=resize), (*notes, *filter(None, [note]))
