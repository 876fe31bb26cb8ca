"""The networks that other libraries offer by name, as their own registries tell: nothing is built or downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import ArgumentError, unknown_name
from ...records import AvailableModel
from ..listing import matches
from .importing import importing, library
from .torchvision import REFUSED

#: Files that hold weights in a repository of the hub, the preferred first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
#: The licence in what stands above a repository's card.
_LICENSE = re.compile(r"---\r?\n(?:(?!---).*\n)*?license: *[\"']?([\w.+-]+)")
CARD_CHARACTERS = 20_000
#: Tasks of transformers whose networks take an image alone, by the names of its tables of architectures.
VISION_TABLES = (
    "MODEL_FOR_IMAGE_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_BACKBONE_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
)


def list_networks(prefix: str, pattern: str) -> tuple[list[AvailableModel], list[str]]:
    """The networks of a library whose names are meant by a pattern, and notes on what could not be told.

    Args:
        prefix: ``"timm"``, ``"torchvision"`` or ``"hf"``.
        pattern: as in a shell, either case; the name of an architecture alone means all its weights.

    Raises:
        MissingPackageError: if the library is missing or broken.
        UnknownNameError: if it has no such network, with the nearest names.
        ArgumentError: for ``"onnx"``, whose networks are files.
    """
    if prefix == "onnx":
        raise ArgumentError(f"onnx:{pattern}: ONNX networks are files and have no list; weightatlas layers onnx:FILE")
    return {"timm": _timm, "torchvision": _torchvision, "hf": _huggingface}[prefix](pattern)


def _meant(what: str, pattern: str, names: Iterable[str], hint: str) -> list[str]:
    """The names, ``ARCHITECTURE`` or ``ARCHITECTURE.WEIGHTS``, that a pattern means."""
    known = list(names)
    found = [n for n in known if matches(n, pattern) or matches(n.partition(".")[0], pattern)]
    if not found:
        architectures = dict.fromkeys(n.partition(".")[0] for n in known)
        raise unknown_name(f"network of {what}", pattern, architectures, hint=hint)
    return found


def _timm(pattern: str) -> tuple[list[AvailableModel], list[str]]:
    timm = library("timm")
    with importing("timm"):
        published, architectures = timm.list_pretrained(), timm.list_models()
    bare = sorted(set(architectures) - {name.partition(".")[0] for name in published})
    names = _meant("timm", pattern, [*published, *bare], "weightatlas models 'timm:*' lists all")
    with importing("timm"):
        facts = {name: timm.get_pretrained_cfg(name) for name in set(names) - set(bare)}
    return [_timm_row(name, facts.get(name)) for name in names], []


def _timm_row(name: str, facts: Any) -> AvailableModel:
    if facts is None:
        note = 'no published weights; weights=FILE or weights="random"'
        return AvailableModel(f"timm:{name}", "network", "timm, architecture alone", note=note)
    hub = getattr(facts, "hf_hub_id", None)
    file = _in_hub(hub, facts.hf_hub_filename) if hub else _in_torch(facts.url)
    return AvailableModel(
        f"timm:{name}",
        "network",
        f"huggingface.co/{hub}" if hub else urlsplit(facts.url or "").netloc or "timm",
        size=file.stat().st_size if file else None,
        license=facts.license or "",
        ready=file is not None,
        where=str(file or ""),
    )


def _torchvision(pattern: str) -> tuple[list[AvailableModel], list[str]]:
    models = library("torchvision.models")
    offered: dict[str, Any] = {}
    with importing("torchvision"):
        for name in models.list_models():
            weights = list(models.get_model_weights(name))
            offered |= {f"{name}.{w.name}": w for w in weights} or {name: None}
    names = _meant("torchvision", pattern, offered, "weightatlas models 'torchvision:*' lists all")
    with importing("torchvision"):
        return [_torchvision_row(name, offered[name], models.get_model_builder) for name in names], []


def _torchvision_row(name: str, weights: Any, builder: Callable[[str], Any]) -> AvailableModel:
    # torchvision.models.detection.faster_rcnn: what it is for stands in the middle
    inner = builder(name.partition(".")[0]).__module__.split(".")[2:-1]
    file = _in_torch(weights.url) if weights else None
    meta = weights.meta if weights else {}
    told = meta.get("_file_size")  # megabytes
    refused = next((REFUSED[part] for part in inner if part in REFUSED), "")
    return AvailableModel(
        f"torchvision:{name}",
        "network",
        ", ".join(("torchvision", *inner)),
        size=file.stat().st_size if file else round(told * 1e6) if told else None,
        parameters=meta.get("num_params"),
        license=meta.get("license") or "",
        ready=file is not None and not refused,
        where=str(file or ""),
        note=f"cannot be opened: {refused.partition(';')[0]}" if refused else "" if weights else "no published weights",
    )


def _in_torch(url: str | None) -> Path | None:
    """A file that torch.hub downloaded from an address."""
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url or "").path).name)
    return file if url and file.is_file() else None


def _in_hub(repository: str, name: str | None) -> Path | None:
    """A repository's file of weights in the Hugging Face cache; no network is asked."""
    hub = library("huggingface_hub")
    with importing("huggingface_hub"):
        for file in (name,) if name else HUB_FILES:
            found = hub.try_to_load_from_cache(repository, file, cache_dir=_hub_folder())
            if isinstance(found, str):
                return Path(found)
    return None


def _hub_folder() -> str:
    """Where the Hugging Face cache is on this machine."""
    return library("huggingface_hub.constants").HF_HUB_CACHE


def _huggingface(pattern: str) -> tuple[list[AvailableModel], list[str]]:
    hub = library("huggingface_hub")
    with importing("transformers"):
        tables = library("transformers.models.auto.modeling_auto")
        kinds = {kind for table in VISION_TABLES for kind in getattr(tables, table, ())}
    folder = _hub_folder()
    if not Path(folder).is_dir():
        return [], [f"the Hugging Face cache {folder} is not there yet; hf:REPOSITORY downloads into it"]
    with importing("huggingface_hub"):
        scanned = hub.scan_cache_dir(folder)
    notes = [f"{len(scanned.warnings)} folders of the Hugging Face cache are damaged"] if scanned.warnings else []
    repositories = {r.repo_id: r for r in scanned.repos if r.repo_type == "model"}
    rows = [_hub_row(r, kinds) for _, r in sorted(repositories.items()) if matches(r.repo_id, pattern)]
    found = [row for row in rows if row is not None]
    if len(found) < len(rows):
        notes.append(f"{len(rows) - len(found)} repositories in the Hugging Face cache are not vision models")
    if not found:
        notes.append(f"the Hugging Face cache {folder} has no vision model {pattern!r}; hf:REPOSITORY downloads one")
    return found, notes


def _hub_row(repository: Any, kinds: set[str]) -> AvailableModel | None:
    """A repository of the cache; ``None`` if its newest revision is no vision model that transformers knows."""
    revision = max(repository.revisions, key=lambda r: r.last_modified, default=None)
    if revision is None:
        return None
    files = {file.file_name: file for file in revision.files}
    try:
        config = json.loads(files["config.json"].file_path.read_bytes())
        kind = config.get("model_type")
    except (KeyError, OSError, ValueError, AttributeError):
        return None
    if kind not in kinds:
        return None
    weights = [f for f in files.values() if f.file_name.endswith((".safetensors", ".bin"))]
    names = config.get("architectures") or [kind]
    return AvailableModel(
        f"hf:{repository.repo_id}",
        "network",
        f"huggingface.co/{repository.repo_id} ({', '.join(str(n) for n in names)})",
        size=sum(f.size_on_disk for f in weights) or None,
        license=_card_license(files.get("README.md")),
        ready=bool(weights),
        where=str(revision.snapshot_path),
        note="" if weights else "its weights are not in the cache",
    )


def _card_license(card: Any) -> str:
    """The licence that a repository's card names, if the card is there."""
    if card is None:
        return ""
    try:
        with card.file_path.open(encoding="utf-8", errors="replace") as text:
            found = _LICENSE.match(text.read(CARD_CHARACTERS))
    except OSError:
        return ""
    return found[1] if found else ""
