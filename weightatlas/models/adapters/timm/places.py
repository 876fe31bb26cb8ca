"""Where timm's networks and weights lie: repositories of the Hugging Face hub, its cache, folders."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from ....errors import LoadError
from ...files.checkpoint import file_hash
from ..importing import library
from ..reaching import unreachable_hub

#: Prefixes of names that do not stand in timm's list: repositories of the Hub, folders.
HUB, FOLDER = ("hf-hub:", "hf_hub:"), "local-dir:"
#: What a repository calls its file of weights.
FILES = ("model.safetensors", "pytorch_model.bin")


def resolved(name: str) -> str:
    """A folder's name as it is from anywhere."""
    folder = name.removeprefix(FOLDER)
    if folder == name:
        return name
    if not os.path.isdir(folder):
        raise LoadError(f"there is no folder {folder}; timm:{FOLDER}FOLDER holds config.json and the weights")
    return FOLDER + os.path.abspath(folder)


def shown(name: str) -> str:
    """A name as captions have it: of a folder what it is called, not where it is."""
    return FOLDER + os.path.basename(os.path.abspath(name.removeprefix(FOLDER))) if name.startswith(FOLDER) else name


def unavailable(timm: ModuleType, name: str, why: str) -> str:
    """Weights that cannot be had, and what to do."""
    instead = 'give a file, weights=FILE (--weights FILE), or weights="random"'
    if name.startswith(HUB):  # which network it is stands there too
        instead = f"open a copy of the repository, timm:{FOLDER}FOLDER, or a network of timm's own list"
    return (
        f"timm cannot get {name} from {_address(timm, name)} ({why}). Without a connection: {instead}; what timm "
        f"downloaded once is found in {_cache()}, at once where HF_HUB_OFFLINE=1 is set"
    )


def check_reached(timm: ModuleType, name: str, *, trained: bool) -> None:
    """Stops at once where timm would try for most of a minute to reach a hub that is not there."""
    remote = name.startswith(HUB)
    if name.startswith(FOLDER) or not (trained or remote):
        return
    if remote:
        repository, files = name.partition(":")[2], ("config.json",)
        about: dict[str, Any] = {"hf_hub_id": repository}
        here = _cached(repository, files)
    else:
        facts = timm.get_pretrained_cfg(name)
        if not facts.hf_hub_id or os.environ.get("TIMM_USE_OLD_CACHE"):
            return  # those come from elsewhere
        about = {"hf_hub_id": facts.hf_hub_id, "hf_hub_filename": facts.hf_hub_filename}
        here = _file(about, name)
    why = "" if here else unreachable_hub()
    if why:
        raise LoadError(unavailable(timm, name, why))


def _address(timm: ModuleType, name: str) -> str:
    """Where weights come from."""
    for prefix in HUB:
        if name.startswith(prefix):
            return f"https://huggingface.co/{name.removeprefix(prefix)}"
    about = timm.get_pretrained_cfg(name)
    return f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else str(about.url or about.file)


def _cache() -> str:
    """The folder in which the Hub's files are kept."""
    return str(library("huggingface_hub.constants").HF_HUB_CACHE)


def file_of(about: dict[str, Any], name: str) -> str:
    """The name and hash of the file that timm has just read; empty where it does not tell which."""
    found = _file(about, name)
    return file_hash(Path(found)) if found else ""


def _file(about: dict[str, Any], name: str) -> str:
    """The file of weights in a folder or in the hub's cache; empty if it is not there."""
    files = tuple(filter(None, (about.get("hf_hub_filename"), *FILES)))  # in the order in which timm tries them
    if name.startswith(FOLDER):
        paths = (os.path.join(name.removeprefix(FOLDER), file) for file in files)
        return next(filter(os.path.isfile, paths), "")
    return _cached(str(about.get("hf_hub_id") or ""), files)


def _cached(repository: str, files: tuple[str, ...]) -> str:
    """The first of these files that the hub's cache has of ``OWNER/NAME`` or ``OWNER/NAME@REVISION``; or empty."""
    repository, _, revision = repository.partition("@")
    hub = library("huggingface_hub")
    for file in files if repository else ():
        try:
            found = hub.try_to_load_from_cache(repository, file, revision=revision or None)
        except ValueError:  # no name of a repository: timm tells
            return ""
        if isinstance(found, str) and os.path.isfile(found):
            return found
    return ""
