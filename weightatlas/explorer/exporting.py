"""``export_site``: the explorer of an atlas as a folder of files that any static host serves, and ``file://`` does not.

What is served and what is exported are the same bytes under the same paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArgumentError, StoreError
from ..records import atomic_write, is_temporary
from ..store import Atlas, Files, LocalFiles
from ..store.counting import counted
from ..store.layout import MANIFEST
from ..store.sealing import parsed
from .desk import site_about
from .reading import INDEX, SITE, is_own, is_shown, read_own, read_shown

ABOUT, NO_JEKYLL, ATLAS = "site.json", ".nojekyll", "atlas"
#: By its name in ``site.json`` an earlier export is known.
KIND = "weightatlas explorer"
NOTHING_LIVE = {"pictures": False, "weights": False, "families": False, "images": False}
WHY = "This is an exported copy. To compute what is missing: weightatlas open MODEL"


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Args:
        where: the folder.
        files, bytes: of the whole site.
        written, removed: files that were new or changed, and that were there before and are no more.
    """

    where: str
    files: int
    bytes: int
    written: int
    removed: int


def export_site(path: str | Path, output: str | Path) -> Exported:
    """The explorer of an atlas as a folder of files; an earlier export is brought up to date.

    Every file is whole at any moment, and the page itself comes last: an export that was interrupted is no site yet,
    and the same call completes it.

    Args:
        path: the folder or URL of an atlas.
        output: the folder of the site: new, empty, or an earlier export.

    Raises:
        ArgumentError: if the folder holds anything else, or lies in the atlas, or the atlas in it.
        StoreError: if there is no atlas, or it cannot be read.
        LoadError: if the site cannot be written.

    Example:
        >>> import weightatlas as wa
        >>> wa.export_site("atlas", "site")  # doctest: +SKIP
        Exported(where='site', files=1713, bytes=60180113, written=1713, removed=0)
    """
    atlas, root = Atlas(path), Path(output).expanduser()
    _check_apart(atlas.files, root)
    before = _before(root)
    files = bytes_ = written = 0
    kept = set()
    for name, data in _everything(atlas.files):
        kept.add(name)
        files, bytes_ = files + 1, bytes_ + len(data)
        if before.get(name) != len(data) or not _holds(root / name, data):
            atomic_write(root / name, data)
            written += 1
    gone = [name for name in before if name not in kept and _is_ours(name)]
    for name in gone:
        LocalFiles(root).remove(name)
    return Exported(str(root), files, bytes_, written, len(gone))


def _everything(files: Files) -> Iterator[tuple[str, bytes]]:
    """All files of a site and their content; what tells an export first, the page that makes it a site last."""
    about = {**site_about(files, False, NOTHING_LIVE, WHY, WHY), "kind": KIND}
    yield ABOUT, json.dumps(about).encode()
    yield NO_JEKYLL, b""
    for name in sorted(_names_below(SITE)):
        if is_own(name) and name != INDEX and (own := read_own(name)) is not None:
            yield name, own.data or b""
    overview = read_shown(files, MANIFEST)
    # listed later than the overview was read: all that it tells of is there
    listed = {name for name in files.sizes() if is_shown(name)}
    if overview is None or overview.data is None:
        raise StoreError(f"{files.where!r} has lost its {MANIFEST}; build the atlas again")
    if lost := sorted(set(counted(parsed(overview.data, MANIFEST))) - listed):
        raise StoreError(
            f"{files.where!r} tells of {len(lost)} files that are not there, such as {lost[0]}: `weightatlas check` "
            "tells more, and a build makes them"
        )
    for name in sorted(listed - {MANIFEST}):
        found = read_shown(files, name)
        if found is not None:  # a link that leads out of the atlas is none of its files
            yield f"{ATLAS}/{name}", found.data or b""
    yield f"{ATLAS}/{MANIFEST}", overview.data
    page = read_own(INDEX)
    if page is None:
        raise StoreError("this installation of weightatlas has no explorer: its index.html is missing; install it anew")
    yield INDEX, page.data or b""


def _names_below(root: Path) -> Iterator[str]:
    """Paths of all files and links below a folder."""
    for folder, _, names in os.walk(root):
        below = PurePosixPath(Path(folder).relative_to(root).as_posix())
        yield from (str(below / name) for name in names)


def _check_apart(files: Files, root: Path) -> None:
    """Neither may lie in the other.

    Raises:
        ArgumentError: if one does.
    """
    if not isinstance(files, LocalFiles):
        return
    atlas, site = os.path.realpath(files.root), os.path.realpath(root)
    if os.path.commonpath((atlas, site)) in (atlas, site):
        raise ArgumentError(
            f"the site {str(root)!r} and the atlas {files.where!r} must not lie in one another; give another folder"
        )


def _before(root: Path) -> dict[str, int]:
    """Files that are there from an earlier export, with their sizes.

    Raises:
        ArgumentError: if the folder holds anything else, or leads elsewhere.
    """
    if not root.exists():
        return {}
    if not root.is_dir():
        raise ArgumentError(f"{str(root)!r} is a file; a site needs a folder")
    if any(root.iterdir()) and not _is_export(root):
        raise ArgumentError(f"{str(root)!r} holds other files and is no earlier export; give a new or empty folder")
    for folder, inner, _ in os.walk(root):
        if links := [name for name in inner if (Path(folder) / name).is_symlink()]:
            raise ArgumentError(f"{str(Path(folder) / links[0])!r} leads elsewhere, and an export makes no such links")
    return {name: (root / name).lstat().st_size for name in _names_below(root)}


def _is_ours(name: str) -> bool:
    """Whether an export makes files of such a name, or was interrupted while it did; others are left alone."""
    first, _, rest = name.partition("/")
    folder, _, last = name.rpartition("/")
    unfinished = is_temporary(last) and (first in (ATLAS, "explorer") or not folder)
    return is_own(name) or unfinished or (first == ATLAS and is_shown(rest))


def _is_export(root: Path) -> bool:
    try:
        about: Any = json.loads((root / ABOUT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(about, dict) and about.get("kind") == KIND


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file, and no link, has this content."""
    try:
        return not path.is_symlink() and path.read_bytes() == data
    except OSError:
        return False
