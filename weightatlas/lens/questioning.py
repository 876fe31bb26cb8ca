"""One unit at one position of one image, and how what contributed to it is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WeightValuesError
from ..network import INPUT, Network
from ..records import Attributions
from ..weights import reads
from . import integrating
from .contributing import LINEAR, Contributions, contributions
from .grids import array, as_maps, axes_of, bounds, is_input, strongest
from .pictured import seen_box, shown
from .probing import Probe, in_place_told
from .rearranging import Reading, gathered
from .taps import path_of, run_until, stop, tapped

MEAN_COLOUR = "the mean colour: an input of 0 after normalisation"


@dataclass(frozen=True)
class Place:
    """A source for which contributions are exact: ``places`` is where the module's input lies in its output."""

    source: str | None
    name: str
    places: Tensor | None = None


class Question:
    """One unit at one position of one image, with what one run told of it.

    Args:
        net: an open network with its architecture.
        inputs: the image as the network takes it, ``[1, *input shape]``.
        layer, unit, at, source: as in :func:`weightatlas.attributions`, the unit's address taken apart.

    Raises:
        UnknownNameError, ArgumentError, WeightValuesError: as that.
    """

    def __init__(
        self, net: Network, inputs: Tensor, layer: str, unit: int, at: tuple[int, int] | None, source: str | None
    ) -> None:
        self.net, self.inputs, self.unit, self.given = net, inputs, unit, source
        self.layer = net.layers[layer]
        module, _ = net.require_module("attributions")
        self.module: nn.Module = module.get_submodule(path_of(net, layer))
        self.axes = axes_of(net, layer)
        if source is not None:
            self._check_source(source)
        self.read, out = self._run()
        self.map = array(as_maps(out, self.axes)[0, unit])
        self.at = self._position(at)
        self.value = float(as_maps(out, self.axes)[0, unit, self.at[0], self.at[1]])
        if not np.isfinite(self.value):
            raise WeightValuesError(f"{layer}:{unit} comes to {self.value} at {self.at} on this image")

    def _check_source(self, source: Any) -> None:
        if not isinstance(source, str):
            raise ArgumentError(f"source={source!r} must be the name of a layer, or 'input'")
        if source == self.layer.name:
            raise ArgumentError(f"source and target are both {source!r}; attributions lead from an earlier layer on")
        axes_of(self.net, source)

    def _run(self) -> tuple[Tensor | None, Tensor]:
        """What the target's module read, and what it gave."""
        read: list[Tensor] = []
        made: list[Tensor] = []

        def keep(out: Tensor) -> None:
            made.append(out.detach().clone())
            stop()

        name = self.layer.name
        taken = {name: lambda x: read.append(x.detach().clone())} if isinstance(self.module, LINEAR) else {}
        with torch.inference_mode(False), torch.no_grad(), tapped(self.net, {name: keep}, taken) as module:
            run_until(module, self.inputs)
        if not made:
            raise ArgumentError(f"{name!r} did not run on this image: what the network runs depends on its input")
        return (read[0] if read else None), made[0]

    def _position(self, at: Any) -> tuple[int, int]:
        h, w = self.map.shape
        if at is None:
            found = strongest(self.map)
            if found is None:
                raise WeightValuesError(f"{self.layer.name}:{self.unit} comes to no finite number on this image")
            return found
        try:
            y, x = (v.__index__() for v in at)
        except (TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(f"at={at!r} is no position (y, x) of {self.layer.name!r}") from error
        if not (0 <= y < h and 0 <= x < w):
            raise ArgumentError(f"at={at!r} lies outside the grid of {self.layer.name!r}, {h} × {w} from (0, 0)")
        return y, x

    # exact

    def answered_by_exact(self, insist: bool) -> Place | None:
        """The source for which contributions are exact; ``None`` if they are not for the one that was given.

        Raises:
            ArgumentError: instead of ``None``, if that is insisted on.
        """
        name = self.layer.name
        if self.read is None:
            if insist:
                raise ArgumentError(self._not_linear())
            return None
        own = self.layer.source
        known = own in self.net.layers or is_input(self.net, own)
        if self.given is None or self.given == own:
            named = known and self._same_axes(own)
            return Place(own if named else None, own if named else f"input of {name}")
        if not is_input(self.net, self.given):
            with torch.inference_mode(False):
                places = Reading(self.net, self.given, name, self.inputs).places()
            if places is not None:
                return Place(self.given, self.given, places)
        if insist:
            nearest = f"source={own!r}" if known else "source=None, which is its own input"
            raise ArgumentError(
                f"exact contributions to {name!r} are from what it reads, and that is not {self.given!r} alone, "
                f"unchanged; give {nearest}, or method='integrated_gradients'"
            )
        return None

    def _same_axes(self, source: str) -> bool:
        axes = self.net.layers[source].axes if source in self.net.layers else axes_of(self.net, source)
        return axes.count("C") == 1 and axes[:1] == ("N",)

    def _not_linear(self) -> str:
        name, layers = self.layer.name, self.net.layers
        inside = [n for n in self.layer.inside if layers[n].kernel is not None]
        near = inside[-1:] or [n for n in list(layers)[: list(layers).index(name)] if layers[n].kernel is not None][-1:]
        hint = f"of such a layer, for instance {near[0] + ':0'!r}, " if near else ""
        return (
            f"exact contributions are those through one convolution or linear layer; {name!r} is "
            f"{self.layer.type} ({self.layer.kind}). Give a target {hint}or method='integrated_gradients'"
        )

    def exact(self, place: Place, notes: tuple[str, ...]) -> Attributions:
        """Weight × activation."""
        if self.read is None:
            raise ArgumentError(self._not_linear())
        found = contributions(self.module, self.read, self.axes, self.unit, self.at)
        read, axes = self.read, self._input_axes() if place.source is None else axes_of(self.net, place.source)
        if place.places is not None and place.source is not None:
            read = Probe(self.net, place.source, self.layer.name, self.unit).source_on(self.inputs)
            laid = [gathered(t, place.places, read.shape) for t in (found.values, found.weights)]
            found = Contributions(laid[0], laid[1], found.base)
        maps = [array(as_maps(t, axes)[0]) for t in (found.values, read, found.weights)]
        if self.read.dtype in (torch.float16, torch.bfloat16):
            notes += (f"the network computes in {str(self.read.dtype).removeprefix('torch.')}: hence the residual",)
        return self._recorded(maps, place.name, "exact", found.base, "the bias alone", notes)

    def _input_axes(self) -> tuple[str, ...]:
        """The axes of what the module reads."""
        if self.read is None or isinstance(self.module, nn.Linear):
            return (*self.axes[:-1], "C")
        return ("N", "C", *("?", "y", "x")[5 - self.read.ndim :]) if self.read.ndim > 2 else ("N", "C")

    # through layers that are not linear

    def through(
        self, method: str, start: Tensor | None, steps: int, progress: Callable[[], None] | None = None
    ) -> Attributions:
        """By gradients of the whole way from the source."""
        source = self.given if self.given is not None else self._default()
        with torch.inference_mode(False), in_place_told(source or f"input of {self.layer.name}", self.layer.name):
            probe = Probe(self.net, source, self.layer.name, self.unit, progress=progress).at(self.at)
            return self._through(probe, source, method, start, steps)

    def _default(self) -> str | None:
        if self.read is None:
            return reads(self.net, self.layer.name)
        own = self.layer.source
        known = own in self.net.layers or is_input(self.net, own)
        return own if known and self._same_axes(own) else None

    def _through(self, probe: Probe, source: str | None, method: str, start: Tensor | None, steps: int) -> Attributions:
        axes = self._input_axes() if source is None else axes_of(self.net, source)
        _, activations, gradients = probe.gradient(self.inputs)
        begin = torch.zeros_like(self.inputs) if start is None else start
        words = MEAN_COLOUR if start is None else "the image that was given"
        if method == "gradient":
            words = "the source at 0, everything else as it is"
            found = integrating.gradient_times_activation(probe, self.inputs, self.value)
        elif method == "conductance":
            found = integrating.conductance(probe, self.inputs, begin, self.value, steps)
        else:
            found = integrating.integrated_gradients(probe, self.inputs, begin, self.value, steps)
        maps = [array(as_maps(t, axes)[0]) for t in (found.values, activations, gradients)]
        name = source if source is not None else f"input of {self.layer.name}"
        return self._recorded(maps, name, method, found.base, words, found.notes, found.steps)

    def _recorded(
        self,
        maps: list[np.ndarray],
        source: str,
        method: str,
        base: float,
        baseline: str,
        notes: tuple[str, ...],
        steps: int = 0,
    ) -> Attributions:
        values, activations, gradients = maps
        window = bounds(values, gradients)
        if window is None:
            window = (0, 0, *values.shape[1:])
            notes += ("the gradient is 0 everywhere: nothing in the source changes the target here",)
        _, spec = self.net.require_module("attributions")
        pixels = source == INPUT and is_input(self.net, source)
        return Attributions(
            values=values,
            activations=activations,
            gradients=gradients,
            source=source,
            target=self.layer.name,
            unit=self.unit,
            at=self.at,
            method=method,
            value=self.value,
            base=base,
            baseline=baseline,
            window=window,
            target_map=self.map,
            image=shown(self.net, self.inputs),
            box=seen_box(self.net, self.layer, self.at),
            steps=steps,
            channel_names=spec.channel_names if pixels or len(spec.shape) == 3 else (),
            provenance=self.net.provenance.noting(*notes),
        )
