"""What is refused before transformers makes anything, and its errors in sentences that say what to do."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ....errors import ArgumentError, LoadError, MissingPackageError, UnknownNameError
from ...quoting import named
from ..importing import installed, library

#: No number of a configuration is larger, not even a vocabulary, and no network has so many layers.
LARGEST, MOST_LAYERS = 10**7, 10**4
LAYERS = re.compile(r"depth|layers|blocks|stages|repeat", re.I)
DEEPEST = 20
HUB = "https://huggingface.co"
#: Characters of the library's words that are repeated.
MOST_WORDS = 300


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Neither progress nor advice nor warnings of transformers and the hub's client; all as it was behind it."""
    logging = transformers.utils.logging
    hub = library("huggingface_hub.utils")
    told = hub.logging.get_verbosity()
    level, bars, hub_bars = logging.get_verbosity(), logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    name = "DISABLE_SAFETENSORS_CONVERSION"  # else it asks the hub in the background to convert what is loaded
    before = os.environ.get(name)
    os.environ[name] = "1"
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    hub.disable_progress_bars()
    hub.logging.set_verbosity(logging.CRITICAL)  # it tells of every retry
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        hub.logging.set_verbosity(told)
        if bars:
            logging.enable_progress_bar()
        if not hub_bars:
            hub.enable_progress_bars()
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def check_configuration(told: dict[str, Any], name: str) -> None:
    """Stops at configurations that want code of their own, other numbers than these, or sizes that no network has.

    Args:
        told: what config.json holds.
        name: the repository's or folder's.

    Raises:
        LoadError: saying which entry.
    """
    own = told.get("auto_map")
    known = library("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    if own and told.get("model_type") not in known:
        raise LoadError(
            f"hf:{name} needs code of its own ({_some(own)}), and a repository's code is never run here. If you trust "
            "it, load the module yourself and pass it to load() with input=InputSpec(…)"
        )
    if told.get("quantization_config"):
        how = told["quantization_config"]
        how = how.get("quant_method", "quantised") if isinstance(how, dict) else "quantised"
        raise LoadError(f"hf:{name} holds quantised weights ({how}), which are not read; take the original repository")
    _check_entries(told, name, "config.json", 0)


def _some(own: Any) -> str:
    return ", ".join(str(v) for v in own.values())[:120] if isinstance(own, dict) else str(own)[:120]


def _check_entries(value: Any, name: str, entry: str, depth: int) -> None:
    if depth > DEEPEST:
        raise LoadError(f"config.json of hf:{name} is nested more than {DEEPEST} deep at {entry}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_entries(inner, name, str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_entries(inner, name, entry, depth + 1)
    elif isinstance(value, str) and "attn_implementation" in entry and "/" in value:
        raise LoadError(f"config.json of hf:{name} wants the code {value!r} for its attention; take that entry out")
    elif isinstance(value, int) and not isinstance(value, bool):
        most = MOST_LAYERS if LAYERS.search(entry) else LARGEST
        if abs(value) > most:
            raise LoadError(
                f"config.json of hf:{name} says {entry} = {value}, and no network has more than {most:,}; download it "
                "again"
            )


@contextmanager
def failing(name: str, what: str, *, folder: bool) -> Iterator[None]:
    """Whatever transformers stumbles over is told in a sentence.

    Args:
        name: the repository's or folder's.
        what: is being read or made.
        folder: whether it is a folder.

    Raises:
        LoadError, MissingPackageError: for any exception inside.
    """
    try:
        yield
    except (LoadError, ArgumentError, MissingPackageError, UnknownNameError):
        raise
    except ImportError as error:
        wanted = re.search(r"requires? the (\S+) library|pip install `?([\w-]+)|No module named '(\w+)", str(error))
        package = next((g for g in wanted.groups() if g), "") if wanted else ""
        say = f": pip install {package}" if package else f" ({named(error, MOST_WORDS)})"
        raise MissingPackageError(f"hf:{name} needs a package that is not installed{say}") from error
    except Exception as error:  # hubs, files of weights and constructors fail in any way they like
        raise LoadError(_told(name, what, folder, error)) from error


def _told(name: str, what: str, folder: bool, error: Exception) -> str:
    """What went wrong and what to do."""
    chain, link = [], error
    while link is not None and len(chain) < 20:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds, words = {type(e).__name__ for e in chain}, " ".join(str(e) for e in chain)
    foreign = re.search(r"GLOBAL ([\w.]+)", words)
    if foreign or "Weights only load failed" in words:
        wants = f"wants to run {foreign[1]}" if foreign else "is damaged or wants more than tensors"
        return (
            f"the weights of hf:{name} are a pickle that {wants}; only plain tensors are read, because a pickle can "
            "run any code. Take a repository with model.safetensors"
        )
    if not folder:
        if "GatedRepoError" in kinds or "gated repo" in words:
            return f"hf:{name} is gated: accept its terms at {HUB}/{name} and log in with `hf auth login`"
        if "RevisionNotFoundError" in kinds or "not a valid git identifier" in words:
            return f"hf:{name} has no such revision; {HUB}/{name}/commits/main lists them"
        if "RepositoryNotFoundError" in kinds or "not a valid model identifier" in words:
            return f"there is no repository {name} at {HUB}, or it is private: check the name, or `hf auth login`"
        if (
            kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError"}
            or "couldn't connect" in words
        ):
            hub = library("huggingface_hub.constants").ENDPOINT
            why = f"{hub} cannot be reached (HF_HUB_OFFLINE forbids it, or there is no connection)"
            return not_here(name, what, why)
    return f"transformers {installed('transformers')} cannot open {what} of hf:{name} ({named(error, MOST_WORDS)})"


def not_here(name: str, what: str, why: str) -> str:
    """Something of a repository that is neither in the cache nor to be had, and what to do.

    Args:
        name: the repository's, maybe with ``@REVISION``.
        what: is missing.
        why: it cannot be had.
    """
    cache = library("huggingface_hub.constants").HF_HUB_CACHE
    verb = "are" if what == "weights" else "is"
    repository, at, revision = name.partition("@")
    which = f"{repository} --revision {revision}" if at else name
    return (
        f"{what} of hf:{name} {verb} not in the cache {cache}, and {why}. Where there is a connection: hf download "
        f"{which} --local-dir FOLDER; then open hf:FOLDER"
    )
