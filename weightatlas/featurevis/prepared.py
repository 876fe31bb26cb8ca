"""A private copy of a network, made ready for hundreds of steps: folded, frozen, stopped at the layers of interest."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WeightValuesError
from ..network import Network, sample_input
from .folding import fold, foldable
from .rewriting import Rewriting
from .windows import Held, NoInteriorError, held_by, hold

#: Largest difference to the network itself, relative to its largest output, that folding may bring.
FOLDING_ERROR = 1e-3
#: The same for leaving padding out: the same sums in another order.
INTERIOR_ERROR = 1e-4


#: How modules refuse tensors of another size, type or place than they were made for.
REFUSALS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)


class _Stop(BaseException):
    """All layers have been seen; not an Exception, so that no module's own handler catches it."""


@dataclass
class _Watch:
    """One thread's run: what is wanted, what has been seen, how often each module was called."""

    wanted: frozenset[str]
    seen: dict[str, Tensor]
    calls: dict[str, int]


class Prepared:
    """A network ready for many steps towards some of its layers.

    The copy shares the tensors that it does not change; the user's module is only read.

    Args:
        net: with a module and an image input.
        layers: the layers that will be asked for.
        device: where to run; default the module's own.

    Attributes:
        folded: how many batch norms became part of a convolution.
        interior: whether padding can be left out up to these layers, exactly.
        why_not: what stands in the way, if not.

    Raises:
        ArgumentError: for a network without image input, or that cannot be copied.
        UnknownNameError: for a layer that does not exist.
        WeightValuesError: if the layers' values are not finite on an example.
    """

    def __init__(self, net: Network, layers: Sequence[str], device: Any = None) -> None:
        module, spec = net.require_module("feature visualization")
        if len(spec.shape) != 3:
            raise ArgumentError(
                f"feature visualization makes images, but {net.name} takes inputs of shape {spec.shape}; "
                "expanded_weights and direct_weights read such a network"
            )
        self.name, self.spec = net.name, spec
        self.layers = tuple(dict.fromkeys(layers))
        for name in self.layers:
            check_layer(net, name)
        self._last = {n: net.layers[n].axes[-1:] == ("C",) and len(net.layers[n].axes) > 2 for n in self.layers}
        own = next((p.device for p in module.parameters()), torch.device("cpu"))
        self.device = _device(device) if device is not None else own
        self._local = threading.local()
        example = sample_input(module, spec).to(self.device, torch.float32)
        self._defer = False
        plain = self._copy(module)
        truth = self._finite(net, self._run(plain, example))
        self.folded = 0
        self._module = self._try_folding(module, net, plain, example, truth)
        self._defer = self._may_defer(example, truth)
        low, high = spec.value_range
        view = (1, -1, 1, 1)
        mean, std = (torch.tensor(v, dtype=torch.float32, device=self.device).view(view) for v in (spec.mean, spec.std))
        self._scale, self._shift = (high - low) / std, (low - mean) / std
        self.interior, self.why_not = self._try_interior(example, truth)

    def __call__(self, images: Tensor, leak: float = 0.0, held: Held | None = None) -> dict[str, Tensor]:
        """The layers' outputs ``[N, O, H, W]`` by name.

        Args:
            images: ``[N, C, H, W]`` with values 0 … 1, mapped to the network's value range and normalised here.
            leak: what flat parts of non-linearities pass backwards.
            held: with it padding is left out: the part of the network's own input grid that the images are.
        """
        x = images * self._scale + self._shift
        if x.is_cuda or x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        return {k: self._units_first(k, v) for k, v in self._run(self._module, x, leak, held).items()}

    def _units_first(self, name: str, output: Tensor) -> Tensor:
        """A layer's output as ``[N, O, H, W]``, whatever axes it has."""
        if self._last[name]:
            output = output.movedim(-1, 1)
        missing = 4 - output.ndim
        return output.reshape(*output.shape[:2], *[1] * missing, *output.shape[2:]) if missing > 0 else output

    def _run(self, module: nn.Module, x: Tensor, leak: float = 0.0, held: Held | None = None) -> dict[str, Tensor]:
        watch = _Watch(frozenset(self.layers), {}, {})
        self._local.watch = watch
        try:
            with Rewriting(leak, self._defer and held is None):
                module(hold(x, held) if held is not None else x)
        except _Stop:
            pass
        finally:
            self._local.watch = None
        missing = watch.wanted - watch.seen.keys()
        if missing:
            raise ArgumentError(f"{self.name} did not reach {sorted(missing)[0]!r} on images of {tuple(x.shape[1:])}")
        return watch.seen

    def _copy(self, module: nn.Module) -> nn.Module:
        """The module with tensors of its own where it is changed, frozen, and with a watch at the layers."""
        memo: dict[int, Any] = {}
        for m in module.modules():
            for tensor in (*m._parameters.values(), *m._buffers.values()):
                if tensor is not None:
                    memo[id(tensor)] = _frozen(tensor, self.device)
            for key in ("_forward_hooks", "_forward_pre_hooks"):  # a user's hooks stay the user's, and are run
                memo[id(getattr(m, key))] = getattr(m, key).copy()
        try:
            twin = copy.deepcopy(module, memo)
        except Exception as error:  # a module may hold anything: locks, files, tensors of a running graph
            raise ArgumentError(
                f"{type(module).__name__} cannot be copied ({first_line(error)}); pictures are made with a copy, "
                "so that your module stays as it is: give what stands in the way a __deepcopy__, or take it off"
            ) from error
        twin.eval()
        self._channels_last(twin)
        places = {name.split("#")[0] for name in self.layers}
        for name, m in twin.named_modules(remove_duplicate=False):
            if name in places:
                m.register_forward_hook(self._hook(name))
        return twin

    def _channels_last(self, twin: nn.Module) -> None:
        """Kernels in the order that convolutions like best."""
        if self.device.type in ("cpu", "cuda"):
            for m in twin.modules():
                if isinstance(m, nn.Conv2d):
                    m.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _hook(self, name: str) -> Any:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            watch: _Watch | None = getattr(self._local, "watch", None)
            if watch is None:
                return
            count = watch.calls[name] = watch.calls.get(name, 0) + 1
            address = name if count == 1 else f"{name}#{count}"
            if address in watch.wanted:
                watch.seen[address] = _first_tensor(output)
                if watch.seen.keys() == watch.wanted:
                    raise _Stop
                watch.seen[address] = _kept(watch.seen[address])  # a module after this one may write into it

        return leave

    def _finite(self, net: Network, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, values in seen.items():
            if not torch.isfinite(values).all():
                bad = [n for n, t in net.tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
                cause = f"{bad[0]!r} holds NaN or infinity" if bad else "no weight does, so it arises on the way"
                raise WeightValuesError(f"the values of {name!r} are not finite on an example; {cause}")
        return seen

    def _try_folding(
        self, module: nn.Module, net: Network, plain: nn.Module, example: Tensor, truth: Mapping[str, Tensor]
    ) -> nn.Module:
        """A copy with batch norms folded into the convolutions before them, if that gives the same values."""
        pairs = list(foldable(net, self.layers))
        if not pairs:
            return plain
        twin = self._copy(module)
        for conv, norm in pairs:
            fold(twin, conv, norm)
        self._channels_last(twin)
        with torch.no_grad():
            same = _same(self._run(twin, example), truth, FOLDING_ERROR)
        self.folded = len(pairs) if same else 0
        return twin if same else plain

    def _may_defer(self, example: Tensor, truth: Mapping[str, Tensor]) -> bool:
        """Whether explicit padding may be left to the convolution after it: tried on the example."""
        self._defer = True
        try:
            with torch.no_grad():
                return _same(self._run(self._module, example), truth, FOLDING_ERROR)
        except REFUSALS:  # code that looks into a tensor without values; the padding is then done where it stands
            return False
        finally:
            self._defer = False

    def _try_interior(self, example: Tensor, truth: Mapping[str, Tensor]) -> tuple[bool, str]:
        """Whether padding can be left out: tried on an example, against the network with its padding."""
        size = (example.shape[-2], example.shape[-1])
        try:
            with torch.no_grad():
                inner = self._run(self._module, example.clone(), held=Held((0, 0), size))
        except NoInteriorError as reason:
            return False, str(reason)
        except REFUSALS as error:  # whatever a module does with a tensor that is smaller than it says
            return False, first_line(error)
        for name, values in inner.items():
            part = held_by(values)
            if part is None or values.ndim != 4:
                return False, f"{name} has no grid of positions"
            y, x = part.crop
            cut = truth[name][..., y : y + values.shape[-2], x : x + values.shape[-1]]
            if not _same({name: values}, {name: cut}, INTERIOR_ERROR):
                return False, f"{name} without padding is not what it is inside the padding"
        return True, ""


def _device(name: Any) -> torch.device:
    """The device of that name, tried out."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" holds no values
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ArgumentError(f"device={name!r} cannot be used here: {first_line(error)}; try 'cpu'") from error
    return device


def check_layer(net: Network, name: str) -> None:
    """Refuses a layer without units.

    Raises:
        ArgumentError: saying what its output is.
    """
    layer = net.layers[name]
    if layer.units == 0:
        raise ArgumentError(f"{name!r} has no units: its output is not one tensor with a channel axis")
    if not layer.axes:
        raise ArgumentError(f"the axes of {name!r} are not known; is there a path from the input to it?")
    if layer.axes[:2] != ("N", "C") and layer.axes[-1:] != ("C",):
        raise ArgumentError(f"the axes {layer.axes} of {name!r} are not [N, C, …]; where are its units?")


def _frozen(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor's values without gradient; shared where type and device are right already."""
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    plain = tensor.detach().to(device, kind)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(plain, requires_grad=False)
    return plain.clone() if plain.data_ptr() == tensor.data_ptr() else plain  # a forward may count in a buffer


def _kept(tensor: Tensor) -> Tensor:
    """The tensor as it is now, with the part that it holds."""
    held = held_by(tensor)
    return tensor.clone() if held is None else hold(tensor.clone(), held)


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    return next(t for t in map(_first_tensor, values) if isinstance(t, Tensor))


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tolerance: float) -> bool:
    return all(
        a[k].shape == b[k].shape and bool((a[k] - b[k]).abs().max() <= tolerance * b[k].abs().max().clamp_min(1e-12))
        for k in a
    )
