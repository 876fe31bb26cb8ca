"""Verifying an atlas, and removing what is broken so that a build makes it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import families
from .arrays import META, Group
from .contents import document_fault, group_fault, picture_fault
from .counting import counted
from .files import Files, UnreadableError
from .layout import MANIFEST, MODEL, PARTS, Place, connections_path, place_of, wall_path
from .manifest import checked_identity, migrated
from .pictures import decoded
from .places import open_files
from .sealing import MEND, parsed
from .walls import WALL


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Args:
        path: of the file.
        what: is wrong, in words.
        remove: files whose removal lets a build make them again; none for what nothing is removed for.
    """

    path: str
    what: str
    remove: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what if self.what.startswith(self.path) else f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        where: the atlas.
        files: number of files that were looked at.
        bytes: their size.
        problems: what is broken or missing.
        foreign: files that are none of an atlas's; they are left alone.
        removed: files that were removed.
    """

    where: str
    files: int
    bytes: int
    problems: tuple[Problem, ...] = ()
    foreign: tuple[str, ...] = ()
    removed: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __repr__(self) -> str:
        found = f"{len(self.problems)} problems" if len(self.problems) != 1 else "1 problem"
        gone = f", {len(self.removed)} files removed" if self.removed else ""
        return f"Report({self.where}: {self.files} files, {found}{gone})"


def check_atlas(path: str | Path | Files, repair: bool = False) -> Report:
    """Verifies every file of an atlas: checksums, shapes, pictures, completeness.

    Args:
        path: the folder or URL.
        repair: remove what is broken, so that a build makes it again. Nothing that people wrote is removed.

    Returns:
        A report; ``report.whole`` tells whether nothing is wrong, ``report.problems`` what is.

    Raises:
        StoreError: if there is no atlas, it is too new, or it cannot be listed.

    Example:
        >>> import weightatlas as wa
        >>> wa.check_atlas("atlas")  # doctest: +SKIP
        Report(atlas: 12563 files, 0 problems)
    """
    files = open_files(path)
    sizes = files.sizes()
    if MODEL not in sizes and MANIFEST not in sizes:
        raise StoreError(f"{files.where!r} is no atlas: it has neither {MODEL} nor {MANIFEST}")
    _check_schema(files)
    places = {path: place_of(path) for path in sizes}
    foreign = tuple(path for path, place in places.items() if place.kind == "foreign")
    problems = [_asking(problem) for problem in _documents(files, places)]
    own = _weights_hash(files, sizes, problems)
    problems += [*_pictures(files, places, own), *_groups(files, places, own)]
    problems += _missing(files, sizes, {p.path for p in problems})
    removed: list[str] = []
    if repair:
        for path in dict.fromkeys(p for problem in problems for p in problem.remove):
            if path in sizes:
                files.remove(path)
                removed.append(path)
    return Report(files.where, len(sizes), sum(sizes.values()), tuple(problems), foreign, tuple(removed))


def _check_schema(files: Files) -> None:
    """A newer schema is refused, not repaired; what cannot be read at all is found later."""
    for path in (MODEL, MANIFEST):
        data = files.read_if_there(path)
        try:
            found = parsed(data, path) if data is not None else None
        except StoreError:
            continue
        if found is not None and isinstance(found.get("schema"), int):
            migrated(found, files.where)


def _problem(path: str, error: StoreError, remove: tuple[str, ...]) -> Problem:
    """What is wrong with a file. One that merely cannot be read now may be whole, and stays."""
    return Problem(path, str(error).removesuffix(f"; {MEND}"), () if isinstance(error, UnreadableError) else remove)


def _documents(files: Files, places: dict[str, Place]) -> Iterator[Problem]:
    for path, place in places.items():
        remove = (path,)
        if place.document == "unit factors":  # which are made together
            remove = (path, connections_path(place.layer, place.source, "factors"))
        try:
            if place.kind == "document":
                found = parsed(files.read(path), path)
                if path in (MODEL, MANIFEST):
                    found = checked_identity(migrated(found, files.where), files.where)
                if fault := document_fault(place, found):
                    yield Problem(path, fault, remove)
            elif place.kind == "families":
                families.read(files)
        except StoreError as error:
            yield _problem(path, error, () if place.kind == "families" else remove)


def _asking(problem: Problem) -> Problem:
    """A problem; with that of the overview goes what whoever mends it must know."""
    if problem.path != MANIFEST:
        return problem
    what = f"{problem.what}. What was asked of the atlas stood only there: build with the same arguments again"
    return Problem(MANIFEST, what, problem.remove)


def _weights_hash(files: Files, sizes: dict[str, int], problems: list[Problem]) -> str:
    """Of the network that the atlas is of; ``""``, and a problem, if nothing tells."""
    broken = {p.path for p in problems}
    found = [
        parsed(files.read(path), path)["model"]["weights_hash"]
        for path in (MODEL, MANIFEST)
        if path in sizes and path not in broken
    ]
    if not found:
        what = f"neither it nor {MANIFEST} can be read, so nothing tells what network this is of; build anew elsewhere"
        problems[:] = [Problem(p.path, p.what, () if p.path in (MODEL, MANIFEST) else p.remove) for p in problems]
        problems.append(Problem(MODEL, what))
        return ""
    if found[0] != found[-1]:
        problems.append(Problem(MANIFEST, _foreign(found[-1], found[0]), (MANIFEST,)))
    return found[0]


def _foreign(found: str, own: str) -> str:
    return f"it is of the weights {found[:12]} …, not {own[:12]} …"


def _pictures(files: Files, places: dict[str, Place], weights_hash: str) -> Iterator[Problem]:
    for path, place in places.items():
        if place.kind not in ("picture", "wall"):
            continue
        remove = (path, wall_path(place.layer, place.recipe, WALL))  # so that the sheets are made again
        try:
            about = decoded(files.read(path), path)[1]
        except StoreError as error:
            yield _problem(path, error, remove)
            continue
        fault = picture_fault(place, about)
        if not fault and weights_hash and about.get("weights_hash", weights_hash) != weights_hash:
            fault = _foreign(str(about["weights_hash"]), weights_hash)
        if fault:
            yield Problem(path, fault, remove)


def _groups(files: Files, places: dict[str, Place], weights_hash: str) -> Iterator[Problem]:
    """Arrays: every group must be complete; what lies outside of one was left by a build that was killed."""
    inside: dict[str, set[str]] = {}
    for path, place in places.items():
        if place.kind in ("group", "array"):
            inside.setdefault(place.group, set()).add(path)
    for group, paths in inside.items():
        mark = f"{group}/{META}"
        if mark not in paths:
            continue  # unfinished: a build makes it, and nothing reads it
        try:
            opened = Group(files, group)
        except StoreError as error:
            yield _problem(mark, error, (mark,))
            continue
        fault, found = group_fault(places[mark], opened.attributes), _hash_of(opened)
        if not fault and found and weights_hash and found != weights_hash:
            fault = _foreign(found, weights_hash)
        if fault:
            yield Problem(mark, fault, (mark,))
            continue
        yield from _arrays(files, opened, paths)


def _arrays(files: Files, group: Group, paths: set[str]) -> Iterator[Problem]:
    mark = f"{group.path}/{META}"
    expected = {mark}
    for name in group.arrays:
        expected |= {f"{group.path}/{name}/{META}", *(f"{group.path}/{c}" for c in group.chunks(name))}
        try:
            group.check_array(name)
            group.whole(name)
        except StoreError as error:
            yield _problem(f"{group.path}/{name}", error, (mark,))
    for path in sorted(paths - expected):
        yield Problem(path, "it belongs to no array of its group", (path,))


def _hash_of(group: Group) -> str:
    fields: dict[str, Any] = group.attributes.get("weightatlas", {}).get("fields", {})
    return str(fields.get("provenance", {}).get("weights_hash", ""))


def _missing(files: Files, sizes: dict[str, int], broken: set[str]) -> Iterator[Problem]:
    """What the overview counts as made must be there; a build makes it again."""
    if MANIFEST not in sizes:
        yield _asking(Problem(MANIFEST, "it is missing; a build derives it from the rest"))
        return
    if MANIFEST in broken:
        return
    for path in counted(migrated(parsed(files.read(MANIFEST), MANIFEST), files.where)):
        if path in broken:
            continue
        if path not in sizes and not files.exists(path):  # a build may have made it since the files were listed
            yield Problem(path, "the overview counts it, but it is missing; a build makes it again")
        elif path.endswith(f"/{WALL}"):
            for sheet in parsed(files.read(path), path)["sheets"]:
                if sheet not in sizes:
                    yield Problem(sheet, f"{path} tells of it, but it is missing; a build makes it again", (path,))


def parts_in(sizes: dict[str, int]) -> list[str]:
    """Files of parts, which nothing needs once everything that reads them is made."""
    return [path for path in sizes if path.startswith(f"{PARTS}/")]
