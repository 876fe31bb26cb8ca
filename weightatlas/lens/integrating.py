"""Attributions through layers that are not linear, by captum: gradient × activation, integrals, conductance.

What is missing of a sum has two causes, which are told apart by one run with the source at its baseline:

    value − base  =  Σ contributions  +  what the integral misses  +  what came on paths around the source
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .probing import Probe

#: The integral is refined until it misses at most this share, with at most so many steps.
CLOSE, MOST_STEPS = 0.01, 512
#: Input values at a time that are run, over all steps of an integral.
AT_ONCE = 1 << 21
NEGLIGIBLE = 1e-5  # of the values: a change that is rounding, not a path


@dataclass(frozen=True)
class Found:
    """Contributions as a tensor ``[1, …]`` like the source's output.

    Args:
        values: the contributions.
        base: the target's value without them.
        steps: of the integral, 0 without one.
        notes: what is to be known of them.
    """

    values: Tensor
    base: float
    steps: int
    notes: tuple[str, ...]


def _captum() -> Any:
    """The library's methods; what its imports say of fonts and progress bars is not about us."""
    fonts = logging.getLogger("matplotlib.font_manager")
    before = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("captum.attr")
    finally:
        fonts.setLevel(before)


def gradient_times_activation(probe: Probe, inputs: Tensor, value: float) -> Found:
    """Gradient × activation; the base is the value with the source at 0 and everything else as it is."""
    method = _captum().LayerGradientXActivation(probe, probe.tap)
    values = _quietly(lambda: method.attribute(inputs))
    base = probe.value_with(inputs, torch.zeros((), dtype=inputs.dtype, device=inputs.device))
    return Found(values, base, 0, ())


def integrated_gradients(probe: Probe, inputs: Tensor, baseline: Tensor, value: float, steps: int) -> Found:
    """Integrated gradients of the source's output, from that on the baseline to that on the image."""
    method = _captum().LayerIntegratedGradients(probe, probe.tap, multiply_by_inputs=True)

    def once(count: int) -> Any:
        with probe.shared():
            return method.attribute(inputs, baseline, n_steps=count, internal_batch_size=_batch(inputs, count))

    base, around = _ends(probe, inputs, baseline)
    values, count, missing = _refined(once, steps, value - around, max(abs(value), abs(value - base)))
    return Found(values, base, count, _notes(steps, count, missing, around - base, value))


def conductance(probe: Probe, inputs: Tensor, baseline: Tensor, value: float, steps: int) -> Found:
    """Conductance of the source's units, along the straight line from the baseline to the image."""
    method = _captum().LayerConductance(probe, probe.tap)

    def once(count: int) -> Any:
        # one more evaluation than steps, and two at least at a time: captum takes differences of neighbours
        return method.attribute(inputs, baseline, n_steps=count, internal_batch_size=_batch(inputs, count + 1))

    base, around = _ends(probe, inputs, baseline)
    bypassed = abs(around - base) > NEGLIGIBLE * max(abs(value), abs(base), abs(around))
    wanted = None if bypassed else value - base
    values, count, missing = _refined(once, steps, wanted, max(abs(value), abs(value - base)))
    return Found(values, base, count, _notes(steps, count, missing, around - base if bypassed else 0.0, value))


def _batch(inputs: Tensor, count: int) -> int:
    """Steps that are run at once: as many as bounded memory allows."""
    return min(max(AT_ONCE // max(inputs.numel(), 1), 2), count)


def _ends(probe: Probe, inputs: Tensor, baseline: Tensor) -> tuple[float, float]:
    """The value on the baseline, and that on the image if only the source were as on the baseline."""
    source = probe.source_on(baseline)
    return probe.value_on(baseline), probe.value_with(inputs, source)


def _refined(once: Callable[[int], Any], steps: int, wanted: float | None, scale: float) -> tuple[Tensor, int, float]:
    """Values with as many steps as it takes for their sum to settle; how many, and what the sum still misses.

    Without a wanted sum, two numbers of steps must agree.
    """
    values = _quietly(lambda: once(steps))
    last = float(values.double().sum())
    while True:
        missing = abs(wanted - last) if wanted is not None else torch.inf
        if missing <= CLOSE * scale or 2 * steps > MOST_STEPS:
            return values, steps, missing
        more = _quietly(lambda count=2 * steps: once(count))
        steps *= 2
        values, before, last = more, last, float(more.double().sum())
        if wanted is None and abs(last - before) <= CLOSE * scale:
            return values, steps, abs(last - before)


def _notes(asked: int, steps: int, missing: float, around: float, value: float) -> tuple[str, ...]:
    notes = []
    if steps != asked:
        notes.append(f"{steps} steps instead of {asked}, as the sum had not settled to within {CLOSE:.0%}")
    if missing not in (0, torch.inf) and 2 * steps > MOST_STEPS:
        notes.append(f"the integral misses {missing:.2g} after {steps} steps")
    if abs(around) > NEGLIGIBLE * max(abs(value), abs(around)):
        notes.append(f"{around:.4g} of the residual came on paths around the source, which no source unit stands for")
    return tuple(notes)


def _quietly(run: Callable[[], Any]) -> Tensor:
    """What captum gives; it warns about inputs that it makes ready itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*required_grads has been set automatically.*")
        found = run()
    return (found[0] if isinstance(found, tuple) else found).detach()
