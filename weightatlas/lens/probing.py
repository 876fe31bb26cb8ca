"""The part of a network from its input to one unit, with a tap at the source that captum can take hold of.

image → … → source → [tap] → … → target[unit, y, x]
                  ↘ other paths ↗

Nothing before the tap is recorded for gradients, and what comes behind it gets a copy, so that operators in place
change nothing that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ArgumentError, WeightAtlasError
from ..network import Network
from .grids import as_maps, axes_of, is_input
from .taps import run_alone, run_until, stop, tapped


class Probe:
    """A function from images to one unit's values, for captum and for autograd.

    Args:
        net: an open network with its architecture.
        source: a layer, the network's input, or ``None`` for what the target's module reads.
        target: a layer.
        unit: its unit.
        before: take what the target's module reads at that place, not what it gives (its pre-activation).
        progress: called before every run; what it raises ends the computation.

    Attributes:
        tap: an identity through which the source passes.
        alone: what to do if the network takes no more than one image at a time.
    """

    def __init__(
        self, net: Network, source: str | None, target: str, unit: int, before: bool = False,
        progress: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.net, self.source, self.target, self.unit, self.before = net, source, target, unit, before
        self.progress = progress
        self.alone = "method='exact' and method='gradient' run one at a time"
        self.axes = axes_of(net, target)
        self.tap = nn.Identity()
        self.places: list[tuple[int, int]] = [(0, 0)]
        self._found: list[Tensor] = []
        self._passed = False
        self._share = self._plain = False
        self._clones = _without_inference(net)

    def at(self, *places: tuple[int, int]) -> Probe:
        """The same probe at other positions (y, x): one for all images, or one for each."""
        self.places = list(places)
        return self

    def __call__(self, inputs: Tensor) -> Tensor:
        """The unit's values ``[N]`` on inputs ``[N, *input shape]``.

        Raises:
            ArgumentError: if the source does not come before the target.
        """
        return self.run(inputs)

    def run(self, inputs: Tensor) -> Tensor:
        """As calling it."""
        if self.progress is not None:
            self.progress()
        if self._share and len(inputs) > 1 and bool((inputs == inputs[:1]).all()):
            found = self._once(inputs[:1], len(inputs))
            if found is not None:
                return found
        return self._values(inputs)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While this lasts, equal images are one image as far as the source, where the network allows that."""
        self._share = True
        try:
            yield
        finally:
            self._share = False

    def _once(self, image: Tensor, count: int) -> Tensor | None:
        """Values of an image whose source is replaced by ``count`` others; ``None`` if what follows cannot take them.

        What runs beside the source then meets it with a batch of 1, which most operators repeat. Where one does not, it
        fails, or the batch is gone at the target.
        """
        try:
            found = self._values(image)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            found = None
        if found is None or len(found) != count:
            self._share = False  # tell it once
            return None
        return found

    def _values(self, inputs: Tensor) -> Tensor:
        self._found, self._passed = [], False
        outputs, reads = self._takes()
        with torch.no_grad(), tapped(self.net, outputs, reads) as module:
            first = self._pass(inputs) if is_input(self.net, self.source) else inputs
            run_until(self._callable(module), first, self.alone, self._run_alone)
        if not self._passed or not self._found:
            raise self._unreached()
        found = self._found.pop()
        rows = torch.arange(len(found), device=found.device)
        y, x = (torch.tensor([p[i] for p in self.places], device=found.device) for i in (0, 1))
        with torch.enable_grad():
            return found[rows, self.unit, y.expand(len(found)), x.expand(len(found))]

    def _takes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What takes outputs, and what takes that which modules read."""
        outputs: dict[str, Any] = {}
        reads: dict[str, Any] = {}
        if self.before:
            reads[self.target] = self._take
        else:
            outputs[self.target] = self._take
        if self.source is None:
            reads[self.target] = self._pass
        elif not is_input(self.net, self.source):
            outputs[self.source] = self._pass
        return outputs, reads

    def _pass(self, out: Tensor) -> Tensor:
        """What the source gives, on its way on: from here on gradients are wanted, whatever was said outside."""
        self._passed = True
        if self._plain:
            return out
        torch.set_grad_enabled(True)
        return self.tap(out.detach()).clone()

    def _run_alone(self, module: Any, inputs: Tensor) -> None:
        """Runs the network with the source left as it is, to see whether it takes these inputs."""
        self._plain = True
        try:
            run_alone(module, inputs)
        finally:
            self._plain = False

    def _take(self, out: Tensor) -> None:
        self._found.append(as_maps(out, self.axes))
        stop()

    def _callable(self, module: nn.Module) -> Any:
        clones = self._clones
        if clones is None:
            return module
        return lambda inputs: functional_call(module, clones, (inputs,))

    def _unreached(self) -> ArgumentError:
        return ArgumentError(
            f"source {self.source!r} has not run when {self.target!r} is made: attributions lead from an earlier layer "
            f"to a later one. Did you mean source={self.target!r} and target='{self.source}:…'?"
        )

    @contextmanager
    def held(self, take: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """While this lasts, the source is seen, or replaced by what ``take`` gives."""

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            return take(output)

        handle = self.tap.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def gradient(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``[N]``, the source's output, and the gradients of each value by it, both ``[N, …]``.

        Raises:
            ArgumentError: if the target does not depend on the source, or cannot be differentiated.
        """
        seen: list[Tensor] = []

        def keep(out: Tensor) -> Tensor:
            if not out.is_floating_point():
                raise ArgumentError(
                    f"{self.source!r} gives {out.dtype}, which has no gradient; choose a layer behind it"
                )
            out = out.detach()
            if len(out) != len(inputs):  # shared: one image until here
                out = out.expand(len(inputs), *out.shape[1:]).clone()
            seen[:] = [out.requires_grad_()]
            return seen[0]

        with self.held(keep):
            values = self.run(inputs)
        name = self.source or f"input of {self.target}"
        found = torch.autograd.grad(values.sum(), seen, allow_unused=True) if values.requires_grad else [None]
        if found[0] is None:
            raise ArgumentError(
                f"{self.target!r} has no gradient by {name!r}: it does not depend on it, or something between is not "
                "differentiable or switches gradients off. wa.layer_graph(net) shows which layers feed which"
            )
        return values.detach(), seen[0].detach(), found[0]

    def value_on(self, inputs: Tensor) -> float:
        """The unit's value on an image."""
        return float(self.run(inputs).detach()[0])

    def value_with(self, inputs: Tensor, source: Tensor) -> float:
        """The unit's value on an image if the source were that, and everything else as it is."""
        with self.held(lambda out: source.to(out.dtype).expand_as(out)):
            return self.value_on(inputs)

    def source_on(self, inputs: Tensor) -> Tensor:
        """The source's output on an image."""
        seen: list[Tensor] = []
        with self.held(lambda out: seen.append(out.detach())):
            self.run(inputs)
        return seen[0]


@contextmanager
def in_place_told(source: str, target: str) -> Iterator[None]:
    """Tells what to do where torch refuses gradients, as an operator in place destroyed what they are made of.

    Raises:
        ArgumentError: instead of torch's own error.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, WeightAtlasError) or not ("inplace" in text or "in-place" in text):
            raise
        raise ArgumentError(
            f"{target!r} cannot be differentiated by {source!r}: an operator in place between them writes over numbers "
            "that gradients need. Let it make a new tensor (x = x + y instead of x += y, inplace=False), or give a "
            f"source behind it. torch says: {text.splitlines()[0]}"
        ) from error


def _without_inference(net: Network) -> dict[str, Tensor] | None:
    """Copies of all weights, where some were made in inference mode and could not take part in gradients."""
    module, _ = net.require_module("attributions")
    named = [*module.named_parameters(), *module.named_buffers()]
    if not any(t.is_inference() for _, t in named):
        return None
    return {name: t.detach().clone() for name, t in named}
