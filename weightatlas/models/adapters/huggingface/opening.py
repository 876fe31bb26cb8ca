"""``hf:REPOSITORY`` or ``hf:FOLDER``: vision models of transformers, with their weights and the input they tell."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....errors import ArgumentError, LoadError
from ...files.checkpoint import file_hash, read_checkpoint
from ...files.memory import require_memory
from ...fitting import fill, other_classes, seeded
from ...opened import RANDOM, UNTRAINED, Opened
from ..importing import installed, library
from ..reaching import unreachable_hub
from .checks import check_configuration, failing, not_here, quiet
from .input import image_input, signal_input

CONFIG = "config.json"
#: Files of weights that a network has alone, in the order in which transformers looks for them.
WHOLE = ("model.safetensors", "pytorch_model.bin")
PARTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
#: A file that lacks more than this share of a network's weights is another network's.
MOST_RANDOM = 0.5


@dataclass(frozen=True)
class Place:
    """Where a network lies.

    Args:
        name: a repository's, or a folder's path.
        folder: whether it is a folder.
        revision: of a repository; ``None`` for the newest.
    """

    name: str
    folder: bool
    revision: str | None = None

    @property
    def shown(self) -> str:
        """What it is called in captions: a folder by its name, not by its place."""
        return f"hf:{os.path.basename(self.name) if self.folder else self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """What every function of transformers that reads it is given: no code of a repository is ever run."""
        return {"trust_remote_code": False, **({"revision": self.revision} if self.revision else {})}


def open_network(name: str, weights: str | None) -> Opened:
    """A vision model of transformers.

    Args:
        name: ``OWNER/REPOSITORY`` on the Hugging Face hub, ``OWNER/REPOSITORY@REVISION``, or a folder with config.json.
        weights: a file's path, :data:`RANDOM`, or ``None`` for those in the repository or folder.

    Raises:
        MissingPackageError: if transformers, or a library that a network needs, is missing or broken.
        ArgumentError: for networks that take no image or signal alone.
        LoadError: if it cannot be had, needs code of its own, or its weights do not fit.
    """
    place = _place(name)
    transformers = library("transformers")
    _check_reached(place, trained=weights is None)
    with quiet(transformers):
        with failing(place.name, "config.json", folder=place.folder):
            config = _configuration(transformers, place)
        made = _class(transformers, config, place)
        _check_size(made, config, place)
        with seeded():
            module, notes, file = _with_weights(made, config, place, weights)
        module, widened = _widened(module)
        spec, said = _input(transformers, made, module, config, place)
    commit = _commit(place)
    notes += (f"revision {commit} of {place.name}",) if commit else ()
    module = module.eval().requires_grad_(False)
    tensors = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    source = f"hf:{place.name}" if place.folder else ""
    return Opened(place.shown, module, spec, tensors, (*notes, *widened, *said), file, source=source)


def _place(name: str) -> Place:
    """A folder, or a repository of the hub."""
    folder = Path(name).expanduser()
    if name and folder.is_dir() and ((folder / CONFIG).is_file() or not REPOSITORY.fullmatch(name)):
        if not (folder / CONFIG).is_file():
            raise LoadError(
                f"{folder} has no {CONFIG}, which says what network it is; hf:FOLDER takes what save_pretrained() "
                "writes"
            )
        return Place(str(folder.absolute()), True)
    if folder.is_file():
        raise LoadError(f"{folder} is a file; hf: takes the folder that it lies in, with {CONFIG} and the weights")
    repository, at, revision = name.partition("@")
    if not REPOSITORY.fullmatch(repository) or repository.startswith(("~", ".")) or (at and not revision):
        raise LoadError(
            f"there is no folder {name!r}, and it is no name of a repository, which is OWNER/NAME or "
            "OWNER/NAME@REVISION"
        )
    return Place(repository, False, revision or None)


def _check_reached(place: Place, *, trained: bool) -> None:
    """Stops at once where transformers would try for half a minute to reach a hub that is not there."""
    if place.folder:
        return
    lacks = CONFIG if _cached(place, CONFIG) is None else "weights" if trained and _file(place) is None else ""
    why = unreachable_hub() if lacks else ""
    if why:
        name = f"{place.name}@{place.revision}" if place.revision else place.name
        raise LoadError(not_here(name, lacks, why))


def _configuration(transformers: Any, place: Place) -> Any:
    """What network it is, checked before anything is made from it."""
    told, _ = transformers.PretrainedConfig.get_config_dict(place.name, **place.options)
    check_configuration(told, place.name)
    return transformers.AutoConfig.from_pretrained(place.name, **place.options)


def _class(transformers: Any, config: Any, place: Place) -> type[nn.Module]:
    """The class that the configuration names, or its kind's plain model; one that takes an image or a signal alone."""
    names = [n for n in getattr(config, "architectures", None) or () if isinstance(n, str)]
    found = [getattr(transformers, n, None) for n in names if n.isidentifier()]
    fits = [c for c in found if isinstance(c, type) and issubclass(c, transformers.PreTrainedModel)]
    if names and not fits:
        raise LoadError(
            f"hf:{place.name} is a {names[0]}, which transformers {installed('transformers')} does not have; a newer "
            "release may: pip install --upgrade transformers"
        )
    if not fits:
        table = transformers.MODEL_MAPPING
        if type(config) not in table:
            raise LoadError(f'{CONFIG} of hf:{place.name} names no architecture; put "architectures" into it')
        kinds = table[type(config)]
        fits = list(kinds) if isinstance(kinds, list | tuple) else [kinds]
    made = fits[0]
    takes = getattr(made, "main_input_name", "")
    first = list(inspect.signature(made.forward).parameters.values())[1:]
    alone = all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in first[1:])
    if takes not in ("pixel_values", "input_values") or not first or first[0].name != takes or not alone:
        needs = ", ".join(p.name for p in first if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD) or takes
        raise ArgumentError(
            f"hf:{place.name} is a {made.__name__}, which takes {needs or 'several inputs'}; networks that take one "
            "image (pixel_values) or one signal (input_values) can be opened. Load the part that does, and pass that "
            "module to load() with input=InputSpec(…)"
        )
    return made


def _check_size(made: type[nn.Module], config: Any, place: Place) -> None:
    """Makes the network without its numbers first: what would not fit into memory is not begun."""
    with failing(place.name, made.__name__, folder=place.folder), torch.device("meta"):
        try:
            empty = made(config)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" in str(error).lower():  # releases of transformers whose constructors look at numbers
                return
            raise
    numbers = sum(t.numel() for t in (*empty.parameters(), *empty.buffers()))
    path = Path(place.name) / CONFIG if place.folder else Path(place.name)
    require_memory(path, 4 * numbers, f"a {made.__name__} of {numbers:,} numbers")


def _with_weights(made: Any, config: Any, place: Place, weights: str | None) -> tuple[nn.Module, tuple[str, ...], str]:
    """The network with its weights, what is to be said of them, and their file."""
    if weights is None:
        return _pretrained(made, config, place)
    with failing(place.name, made.__name__, folder=place.folder):
        module = made(config)
    if weights == RANDOM:
        return module, (UNTRAINED,), ""
    path = Path(weights)
    checkpoint = read_checkpoint(path)
    module, notes = _as_many_classes(made, config, place, module, checkpoint.tensors)
    changed = fill(module, checkpoint.tensors, path, place.shown)
    notes = (*checkpoint.kept_notes, *notes, *changed, f"weights from {path.name}")
    return module, notes, checkpoint.file


def _as_many_classes(
    made: Any, config: Any, place: Place, module: nn.Module, state: dict[str, Tensor]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with as many classes as a file has, where that is all that differs."""
    classes = other_classes(module, state)
    if classes is None or not hasattr(config, "num_labels"):
        return module, ()
    config = copy.deepcopy(config)
    with failing(place.name, made.__name__, folder=place.folder):
        config.num_labels = classes
        other = made(config)
    shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
    if any(shapes[key] != tensor.shape for key, tensor in state.items() if key in shapes):
        return module, ()  # it is not the classifier whose rows differ
    return other, (f"num_labels={classes} as the file has it",)


def _pretrained(made: Any, config: Any, place: Place) -> tuple[nn.Module, tuple[str, ...], str]:
    """The network with the weights that lie beside its configuration."""
    if place.folder and not any((Path(place.name) / n).is_file() for n in WHOLE + PARTS):
        raise LoadError(
            f"{place.name} has none of {', '.join(WHOLE + PARTS)}; put the weights beside {CONFIG}, give a file with "
            'weights=FILE (--weights FILE), or weights="random"'
        )
    with failing(place.name, "weights", folder=place.folder):
        module, told = made.from_pretrained(place.name, config=config, output_loading_info=True, **place.options)
    missing = sorted(k for k in told["missing_keys"] if k in dict(module.state_dict()))
    own = len(module.state_dict())
    extra = sorted(told["unexpected_keys"])
    if len(missing) > MOST_RANDOM * own:
        raise LoadError(
            f"the weights of hf:{place.name} do not fit {made.__name__}: they lack {len(missing)} of {own} "
            f"({_few(missing)})" + (f"; {len(extra)} are for something else ({_few(extra)})" if extra else "")
        )
    notes: tuple[str, ...] = ()
    if missing:
        notes += (f"{_few(missing)} {'is' if len(missing) == 1 else 'are'} not in the file and random (seed 0)",)
    if extra:
        notes += (f"{len(extra)} tensors of the file are no part of {made.__name__} and were left out: {_few(extra)}",)
    path = _file(place)
    if path is not None and path.name in PARTS:
        count = len(set(json.loads(path.read_bytes())["weight_map"].values()))
        notes += (f"weights from the {count} files that {path.name} lists; the SHA-256 told is the list's",)
    return module, notes, file_hash(path) if path else ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _file(place: Place) -> Path | None:
    """The file that the weights come from, or the one that lists them; ``None`` if neither is here."""
    names = [n for pair in zip(WHOLE, PARTS, strict=True) for n in pair]  # in the order in which transformers looks
    if place.folder:
        return next((p for p in (Path(place.name) / n for n in names) if p.is_file()), None)
    return next((p for p in (_cached(place, n) for n in names) if p is not None), None)


def _cached(place: Place, file: str) -> Path | None:
    """A repository's file in the hub's cache."""
    hub = library("huggingface_hub")
    folder = library("huggingface_hub.constants").HF_HUB_CACHE
    try:
        found = hub.try_to_load_from_cache(place.name, file, cache_dir=folder, revision=place.revision)
    except ValueError:  # no name of a repository: transformers tells
        return None
    return Path(found) if isinstance(found, str) else None


def _commit(place: Place) -> str:
    """The commit of a repository that was opened; empty for a folder."""
    path = None if place.folder else _cached(place, CONFIG)
    return path.parent.name if path is not None else ""


def _widened(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network in float32, and a note if it was in fewer bits."""
    kinds = {t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()} - {torch.float32}
    if not kinds:
        return module, ()
    names = ", ".join(sorted(str(k).removeprefix("torch.") for k in kinds))
    return module.float(), (f"weights are {names} in the file and were brought to float32",)


def _input(transformers: Any, made: Any, module: nn.Module, config: Any, place: Place) -> tuple[Any, tuple[str, ...]]:
    """What the network takes in, as the library's configuration of its preparation says."""
    with failing(place.name, "preprocessor_config.json", folder=place.folder):
        if made.main_input_name == "input_values":
            return signal_input(config)
        reader = library("transformers.models.auto.image_processing_auto")
        options = {"revision": place.revision} if place.revision else {}
        told = reader.get_image_processor_config(place.name, **options)
        return image_input(told, config, module)
