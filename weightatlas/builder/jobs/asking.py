"""The arguments of a build, checked, and the jobs that follow from them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ArgumentError, unknown_name
from ...lens import Photos, photos_from
from ...network import Network
from ...store import Files, Listing, open_files
from ...weights import checked_device
from ...weights.gates import checked_gate
from .job import Job
from .levels import is_captured
from .owner import Owner, found, owning
from .planning import KINDS, Plan, planned
from .request import STYLES, VARIANTS, Request, listed, requested
from .weighing import GATE_IMAGES


@dataclass
class Asked:
    """The arguments of a build, checked, and the plan that follows from them.

    Args:
        net, device, force: as given.
        files: of the atlas.
        request: what is asked now; ``None`` for what was ever asked.
        photos: images, if there are any.
        only: kinds of jobs and recipes; ``None`` for all.
        settings: ``seed`` and ``gate`` as given.
    """

    net: Network
    files: Files
    request: Request | None
    photos: Photos | None
    only: frozenset[str] | None
    settings: dict[str, Any]
    device: str | None
    force: bool

    @classmethod
    def of(
        cls, net: Network, path: Any, *, images: Any = None, layers: Any = None, units: Any = None,
        recipes: Any = None, pairs: Any = (), budget: Any = None, batch: Any = None, device: Any = None,
        only: Any = None, force: bool = False, seed: Any = None, gate: Any = None,
    ) -> Asked:  # fmt: skip
        """The arguments as :func:`build` takes them."""
        if not isinstance(net, Network):
            raise ArgumentError(f"an atlas is of a network that wa.load opened, not of {type(net).__name__}")
        if not isinstance(force, bool):
            raise ArgumentError(f"force={force!r} must be True or False")
        net.require_module("an atlas")
        if device is not None:
            checked_device(device)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise ArgumentError(f"seed={seed!r} must be an integer of at least 0")
        if gate is not None and (isinstance(gate, bool) or not isinstance(gate, str | int | float)):
            raise ArgumentError(f"an atlas keeps gate={gate!r} in its overview: give a name or a number")
        if gate is not None:
            checked_gate(gate)
        pairs = () if pairs is None else pairs
        pairs = listed(pairs, str, "pairs= takes pairs (source layer, target layer)")
        given = (layers, units, recipes, budget, batch, pairs or None)
        request = None
        if any(g is not None for g in given):
            request = requested(net, layers, units, recipes, pairs, budget, batch, device)
        photos, place = photos_from(net, images), None if device is None else str(device)
        files = open_files(path)
        return cls(net, files, request, photos, _kinds(only), {"seed": seed, "gate": gate}, place, force)

    def owner(self) -> Any:
        """The atlas, begun or found, and held."""
        return owning(self.net, self.files, self.settings, self._measured)

    def look(self) -> Owner:
        """The atlas as it lies there, or as it would be begun; nothing is written."""
        owner = found(self.net, self.files, self.settings, self._measured)
        self._check_readable(owner)
        return owner

    @property
    def _measured(self) -> bool:
        """Whether a new atlas has gates from statistics: given ones, or of images, for what can be captured."""
        return self.net.measured is not None or (self.photos is not None and is_captured(self.net))

    def plan(self, owner: Owner) -> tuple[Plan, list[Job]]:
        """All there is to be in this atlas, and the jobs of what is asked now."""
        request = self.request
        if request is None and not owner.requests:
            request = requested(self.net, device=self.device)
        owner.record(request, self.device)
        own = {name for r in owner.requests for name in r.own}
        for name in self.only or ():
            if name.startswith("own-") and name.partition(".")[0] not in own:
                raise unknown_name("recipe of this atlas", name, sorted(own))
        others = owner.others(self.photos)
        if others is not None and not self.force:
            raise others
        if self.photos is not None:
            owner.images = self.photos.to_dict()
        # what is asked now has jobs of its own, though it may be noted as part of something larger
        requests = [*owner.requests, *([] if request is None or request in owner.requests else [request])]
        plan = planned(self.net, requests, owner.settings, self.photos, owner.images is not None)
        now = list(plan.jobs) if request is None else plan.of(request)
        if others is not None:
            again = {job.name for job in now if self._named(job)}
            seen = {job.name for job in plan.jobs if _sees_images(job, again)}
            if not seen <= again:
                raise others
        return plan, now

    def _check_readable(self, owner: Owner) -> None:
        """Statistics that all weights are read from begin with images that can be read.

        Raises:
            LoadError: for the first that cannot.
        """
        if self.photos is not None and owner.settings.measured and self.net.measured is None and owner.images is None:
            for row in self.photos.spread(GATE_IMAGES):
                self.photos.tensor(self.net, [row])

    def selected(self, plan: Plan, jobs: Sequence[Job], exists: Container[str]) -> list[Job]:
        """Of some jobs those that are done now: what is missing of what is asked for, and of what that reads."""
        missing = {job.name: job for job in plan.missing(exists)}
        wanted = {job.name for job in jobs if job.name in missing and self._named(job)}
        for job in reversed(plan.jobs):
            if job.name in wanted:
                wanted |= {name for name in job.after if name in missing}
        return [job for name, job in missing.items() if name in wanted]

    def _named(self, job: Job) -> bool:
        variant = job.recipe.partition(".")[2]
        return self.only is None or bool({job.kind, job.recipe, variant} & self.only)

    def outdated(self, jobs: Sequence[Job], listing: Listing) -> list[str]:
        """What is taken away to be made again, but for statistics that could not be: their images are not here.

        Raises:
            ArgumentError: if these are asked for by name.
        """
        if not self.force:
            return []
        here = self.photos is not None or self.net.measured is not None
        if not here and self.only is not None and "statistics" in self.only:
            raise ArgumentError("statistics are measured on images; give them with images= to measure again")
        again = [job for job in jobs if self._named(job) and (here or job.kind != "statistics")]
        paths = (path for job in again for path in (*job.makes, *_walls(job, listing)))
        return [path for path in dict.fromkeys(paths) if path in listing]


def _kinds(only: Any) -> frozenset[str] | None:
    if only is None:
        return None
    named = listed(only, str, "only= takes kinds of jobs and recipes")
    known = [*KINDS, *STYLES, *VARIANTS, *(f"{s}.{v}" for s in STYLES for v in VARIANTS)]
    for name in named:
        if name not in known and not str(name).startswith("own-"):
            raise unknown_name("kind of job or recipe", str(name), known)
    if not named:
        raise ArgumentError("only= names nothing; leave it out for everything")
    return frozenset(named)


def _sees_images(job: Job, again: Container[str]) -> bool:
    """Whether what a job makes depends on the images, or on gates that are measured anew."""
    if job.kind in ("agreement", "examples"):
        return bool(job.layer)
    return "statistics" in again and bool(job.after)  # gates come first, and all that reads what was read by them later


def _walls(job: Job, listing: Listing) -> list[str]:
    """Sheets that show what is taken away."""
    if job.kind not in ("pictures", "examples") or not job.units:
        return []
    below = job.makes[0].replace("images/", "walls/", 1).rpartition("/")[0] + "/"
    return [path for path in listing.sizes if path.startswith(below)]
