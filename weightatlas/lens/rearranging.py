"""Whether what a module reads is a layer's output, only rearranged: then contributions are exact on the layer's grid.

Two ways to find the places. Both tensors are one piece of memory that nothing wrote to in between: then their strides
tell. Or the layer's output is replaced by labels, and each label is looked for in what the module reads, twice:

    out    3 −1  2 −4     →  flatten, permute, pad, repeat  →  read   0 2 −4 3 −1     every label is still there,
    out   −2  4 −1  3     →  other labels and signs         →  read   0 −1 3 −2 4     and at the same place

A ReLU loses the negative ones, a pooling takes another place, a sum or scale gives other numbers. Labels are whole
numbers, which rounding and cutting off leave as they are. So what is at the places must also be what the layer really
gave on the image, and then numbers of all sizes that the type holds, to the last digit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..network import Network
from .taps import run_until, stop, tapped

NOWHERE = -1  # an element that is 0 whatever the layer gives: padding
FEW = 64  # elements; with fewer, chance is excluded by more rounds
ROUNDS = (2, 8)
COMMON = 10  # activations lie between 2⁻¹⁰ and 2¹⁰, as a rule


class Reading:
    """What a layer gave and what a module read in one run.

    Args:
        net, source, target: the layer, and the layer that the module makes.
        inputs: of the run, ``[1, *input shape]``.
    """

    def __init__(self, net: Network, source: str, target: str, inputs: Tensor) -> None:
        self.net, self.source, self.target, self.inputs = net, source, target, inputs

    def places(self) -> Tensor | None:
        """For each element that the module reads, its flat place in the layer's output.

        Elements that are padding have −1; ``None`` if what lies between does more than rearrange.
        """
        made: list[Tensor] = []
        versions: list[int] = []

        def keep(out: Tensor) -> None:
            made.extend((out, out.clone()))
            versions.append(out._version)

        read = self._read(keep)
        if not made or read is None or not made[0].is_floating_point():
            return None
        out, given = made[:2]
        if _memory(out) == _memory(read) and out._version == versions[0] and out.dtype == read.dtype:
            places = _by_memory(out, read)
        else:
            places = self._by_labels(out)
        if places is None or not _alike(read, given, places):
            return None
        return places if self._holds(out, places) else None

    def _holds(self, out: Tensor, places: Tensor) -> bool:
        """Whether numbers of any size arrive at their places as they are."""
        generator = torch.Generator().manual_seed(1)
        for _ in range(ROUNDS[out.numel() < FEW]):
            sent = _of_all_sizes(out, generator)
            read = self._read(lambda _, sent=sent: sent.clone())
            if read is None or not _alike(read, sent, places):
                return False
        return True

    def _read(self, take) -> Tensor | None:
        """What the module reads if a tap is at the layer's output."""
        found: list[Tensor] = []

        def ends(read: Tensor) -> None:
            found.append(read)
            stop()

        with torch.no_grad(), tapped(self.net, {self.source: take}, {self.target: ends}) as module:
            run_until(module, self.inputs)
        return found[0] if found else None

    def _by_labels(self, out: Tensor) -> Tensor | None:
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (out.numel(),), generator=generator) * 2 - 1
        found: Tensor | None = None
        for number in range(ROUNDS[out.numel() < FEW]):
            order = torch.randperm(out.numel(), generator=generator)
            places = self._round(out, order, signs * (-1) ** number)
            if places is None or (found is not None and not torch.equal(places, found)):
                return None
            found = places
        return found if found is not None and bool((found != NOWHERE).any()) else None

    def _round(self, out: Tensor, order: Tensor, signs: Tensor) -> Tensor | None:
        """Places by one set of labels: numbers written in as many digits as the type holds exactly."""
        count = out.numel()
        base = round(1 / torch.finfo(out.dtype).eps)  # whole numbers up to here are exact
        digits = max(math.ceil(math.log(max(count, 2), base)), 1)
        sign, label = None, torch.zeros(0, dtype=torch.int64)
        for digit in range(digits):
            written = (torch.div(order, base**digit, rounding_mode="floor") % base + 1) * signs
            labels = written.to(out.device, out.dtype).view(out.shape)
            read = self._read(lambda _, labels=labels: labels.clone())
            if read is None or not bool(read.isfinite().all()):
                return None
            read = read.double().cpu()
            if not bool((read == read.round()).all()) or bool((read.abs() > base).any()):
                return None
            if sign is not None and not torch.equal(sign, read.sign()):
                return None
            sign = read.sign()
            part = (read.abs().long() - 1).clamp_min(0) * base**digit
            label = part if digit == 0 else label + part
        if sign is None or bool((label >= count).any()):
            return None
        back = torch.empty_like(order)
        back[order] = torch.arange(count)
        places = back[label]
        padding = sign == 0
        if not torch.equal(signs[places][~padding].double(), sign[~padding]):
            return None
        return places.masked_fill(padding, NOWHERE)


def _of_all_sizes(out: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of both signs like a tensor: half of them of a size that is common, half of any that it holds."""
    limits = torch.finfo(out.dtype)
    count = out.numel()
    common = torch.rand(count, generator=generator, dtype=torch.float64) * 2 * COMMON - COMMON
    low, high = math.log2(limits.tiny) + 2, math.log2(limits.max) - 2
    widely = torch.rand(count, generator=generator, dtype=torch.float64) * (high - low) + low
    half, sign = torch.randint(0, 2, (2, count), generator=generator)
    size = torch.exp2(torch.where(half.bool(), common, widely))
    return (size * (2 * sign - 1)).to(out.dtype).view(out.shape).to(out.device)


def _alike(read: Tensor, sent: Tensor, places: Tensor) -> bool:
    """Whether what was read is what was sent, each at its place and to the last digit, and 0 elsewhere."""
    if read.shape != places.shape:
        return False
    kept = places != NOWHERE
    expected = sent.detach().cpu().reshape(-1)[places.clamp_min(0)]
    return torch.equal(read.detach().cpu().double(), expected.masked_fill(~kept, 0).double())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _by_memory(out: Tensor, read: Tensor) -> Tensor | None:
    """Places of elements that lie in the same memory."""
    if _memory(out) == 0:
        return None
    size = out.untyped_storage().nbytes() // out.element_size()
    cells = torch.arange(size)
    where = torch.full((size,), NOWHERE, dtype=torch.int64)
    mine = torch.as_strided(cells, out.shape, out.stride(), out.storage_offset())
    where[mine.reshape(-1)] = torch.arange(out.numel())
    places = where[torch.as_strided(cells, read.shape, read.stride(), read.storage_offset())]
    return places if bool((places != NOWHERE).all()) else None


def gathered(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """Values of what was read, summed at the places that they came from, in the layer's shape."""
    kept = places.reshape(-1) != NOWHERE
    out = torch.zeros(shape.numel(), dtype=values.dtype)
    out.index_add_(0, places.reshape(-1)[kept], values.detach().cpu().reshape(-1)[kept])
    return out.view(shape)
