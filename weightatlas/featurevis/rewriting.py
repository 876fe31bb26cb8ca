"""What changes on the way through a network while pictures are made.

All of it acts on functions, whether modules or code call them, and only inside a ``with`` of the thread at hand: leaks
(:mod:`~weightatlas.featurevis.leaks`), padding that is left out (:mod:`~weightatlas.featurevis.interior`), and padding
that becomes part of the convolution after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..network import tensors_in
from .interior import inside, mapped
from .leaks import leaking
from .windows import CONVOLUTION, Axes, held_by, pair


class Rewriting(TorchFunctionMode):
    """Applies leaks, and leaves padding out of tensors that :func:`~.interior.hold` marks.

    Args:
        leak: share of the gradient that flat parts pass; 0 changes nothing.
        defer: whether zeros around a tensor that a convolution reads next become that convolution's own padding,
            which saves a copy. Until then the padded tensor has a shape and no values.
    """

    def __init__(self, leak: float = 0.0, defer: bool = False) -> None:
        super().__init__()
        self.leak, self.defer = leak, defer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, changed where it leaks or would pad."""
        kwargs = kwargs or {}
        if self.defer:
            later = [t for t in tensors_in((args, kwargs)) if hasattr(t, "_weightatlas_padding")]
            if later:
                return self._padded(func, args, kwargs, later)
        marked = [t for t in tensors_in((args, kwargs)) if held_by(t) is not None]
        if marked:
            return inside(func, args, kwargs, marked, self._plain)
        return self._plain(func, args, kwargs)

    def _plain(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function with its leak."""
        name = getattr(func, "__name__", "")
        if self.defer and name == "pad":
            even = _even_padding(args, kwargs)
            if even is not None:
                return _later(args[0], even)
        if self.leak and any(isinstance(a, Tensor) and a.requires_grad for a in args[:2]):
            changed = leaking(func, name, args, kwargs, self.leak)
            if changed is not None:
                return changed
        return func(*args, **kwargs)

    def _padded(self, func: Any, args: Any, kwargs: Any, later: Sequence[Tensor]) -> Any:
        """A function of tensors that have yet to be padded."""
        name = getattr(func, "__name__", "")
        if name in ("__get__", "size", "dim") and not isinstance(told := func(*args, **kwargs), Tensor):
            return told
        if name == "conv2d" and len(later) == 1 and args and args[0] is later[0]:
            given = {**dict(zip(CONVOLUTION, args, strict=False)), **kwargs}
            source, (y, x) = later[0]._weightatlas_padding  # pyright: ignore[reportAttributeAccessIssue]
            if not isinstance(given.get("padding", 0), str):
                own = pair(given.get("padding", 0))
                return torch.conv2d(**{**given, "input": source, "padding": (own[0] + y, own[1] + x)})
        args, kwargs = mapped((args, kwargs), _padded_now)
        return self._plain(func, args, kwargs)


def _even_padding(args: Any, kwargs: Any) -> Axes | None:
    """Rows and columns of zeros, if it is as many above as below and left as right."""
    given = {**dict(zip(("input", "pad", "mode", "value"), args, strict=False)), **kwargs}
    pads = list(given.get("pad", ()))
    if not isinstance(given.get("input"), Tensor) or given["input"].ndim != 4 or len(pads) != 4:
        return None
    zeros = given.get("mode", "constant") == "constant" and not given.get("value")
    return (pads[2], pads[0]) if zeros and pads[0] == pads[1] >= 0 and pads[2] == pads[3] >= 0 else None


def _later(tensor: Tensor, even: Axes) -> Tensor:
    n, c, h, w = tensor.shape
    stand_in = torch.empty((n, c, h + 2 * even[0], w + 2 * even[1]), dtype=tensor.dtype, device="meta")
    stand_in._weightatlas_padding = (tensor, even)  # pyright: ignore[reportAttributeAccessIssue]
    return stand_in


def _padded_now(value: Any) -> Any:
    waiting = getattr(value, "_weightatlas_padding", None)
    if waiting is None:
        return value
    tensor, (y, x) = waiting
    return functional.pad(tensor, (x, x, y, y))
