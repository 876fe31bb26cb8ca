"""Measuring on images what every operator that is not linear does, per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional

from ..errors import ArgumentError
from ..graph import Graph, capture, operator_of
from ..network import Network
from ..records import Statistics
from .moments import is_pointwise, slopes
from .rules.linear import pair

BATCH = 8
PRODUCTS = {"mul", "mul_", "div", "div_"}
NORMS = {"layer_norm", "native_layer_norm", "rms_norm", "group_norm", "native_group_norm", "instance_norm"}
MAXIMA = {"max_pool1d", "max_pool2d", "max_pool1d_with_indices", "max_pool2d_with_indices"}


def measure(net: Network, images: Any, *, batch: int = BATCH) -> Statistics:
    """What the network's non-linear operators do on some images, per channel; it is kept as ``net.measured``.

    :func:`weightatlas.expanded_weights` then reads every non-linearity by its mean derivative on these images, and
    factors and norms that depend on the data by their mean values.

    Args:
        net: an open network with its architecture.
        images: as for :meth:`weightatlas.Network.preprocess`, or a float tensor ``[N, *input shape]`` that has been
            through it.
        batch: how many images are run at once.

    Returns:
        Means, deviations, firing rates and mean derivatives; they can be saved, loaded with ``Statistics.load`` and set
        as ``net.measured`` again.

    Raises:
        ArgumentError: for images that do not fit, or values that are not finite.
        GraphError: if the network cannot be captured.

    Example:
        >>> import numpy as np, weightatlas as wa
        >>> net = wa.load("efficientnet_lite0")
        >>> wa.measure(net, np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8))
        Statistics(efficientnet_lite0: 33 operators on 2 images)
        >>> net.measured = None
    """
    graph = capture(net)
    tensor = as_input(net, images)
    if not isinstance(batch, int) or batch < 1:
        raise ArgumentError(f"batch={batch!r} must be a number of images of at least 1")
    nodes = [n for n in graph.nodes if quantities(graph, n)]
    sums = Sums(graph)
    for start in range(0, len(tensor), batch):
        graph.run(tensor[start : start + batch], sums.visit, nodes)
    found = sums.means()
    bad = [name for name, values in found.items() if not np.isfinite(values).all()]
    if bad:
        raise ArgumentError(
            f"{len(bad)} of {len(found)} quantities are NaN or infinite on these images, first {bad[0]!r}"
        )
    lengths = np.array([values.size for values in found.values()], np.int64)
    values = np.concatenate([v.ravel() for v in found.values()]) if found else np.zeros(0)
    record = Statistics(tuple(found), lengths, values.astype(np.float32), len(tensor), net.provenance)
    net.measured = record
    return record


def as_input(net: Network, images: Any) -> Tensor:
    """Images as the network takes them, at least one, on its device and in its type.

    Raises:
        ArgumentError: for images that do not fit.
    """
    module, spec = net.require_module("running images")
    if not isinstance(images, Tensor):
        images = net.preprocess(images)
    if not images.is_floating_point() or tuple(images.shape[1:]) != tuple(spec.shape) or len(images) < 1:
        raise ArgumentError(
            f"a tensor of images must be float [N, {', '.join(map(str, spec.shape))}] with N ≥ 1, as net.preprocess "
            f"gives it; got {images.dtype} {tuple(images.shape)}"
        )
    if not bool(images.isfinite().all()):
        raise ArgumentError("the images hold NaN or infinite values")
    first = next((p for p in module.parameters() if p.is_floating_point()), images)
    return images.detach().to(first.device, first.dtype)


def quantities(graph: Graph, node: fx.Node) -> bool:
    """Whether there is something to measure at a node."""
    if node not in graph.dependent or node.op != "call_function":
        return False
    name = operator_of(node)
    if name in PRODUCTS:
        return len([a for a in node.args[:2] if a in graph.dependent]) == 2 or (
            name.startswith("div") and node.args[1] in graph.dependent
        )
    return is_pointwise(str(node.target)) or name in NORMS or name in MAXIMA


class Sums:
    """Sums over images and positions, in double precision."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def visit(self, node: fx.Node, value: Any, values: Mapping[fx.Node, Any]) -> None:
        """Adds what one batch does at a node."""
        if not quantities(self.graph, node):
            return
        name = operator_of(node)
        if name in PRODUCTS:
            self._product(node, values)
        elif name in NORMS:
            self._add(node, "inverse deviation", *inverse_deviation(node, values[node.args[0]]))  # pyright: ignore[reportArgumentType]
        elif name in MAXIMA:
            self._maximum(node, values[node.args[0]])  # pyright: ignore[reportArgumentType]
        else:
            self._activation(node, values)

    def _add(self, node: fx.Node, quantity: str, total: Tensor, count: int) -> None:
        name = f"{self.graph.address(node)}|{quantity}"
        before = self._sums.get(name)
        total = total.double().cpu()
        self._sums[name] = (total, count) if before is None else (before[0] + total, before[1] + count)

    def _over(self, node: fx.Node, source: fx.Node, quantity: str, values: Tensor) -> None:
        """Sums over all axes but the channels of the node that the values belong to."""
        axis = self.graph.channel_axes[source] + 1
        rest = [i for i in range(values.ndim) if i != axis]
        total = values.sum(rest, dtype=torch.float64)
        self._add(node, quantity, total, values.numel() // max(total.numel(), 1))

    def _activation(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        source: Any = node.args[0]
        z = values[source]
        rest = [values.get(a, a) if isinstance(a, fx.Node) else a for a in node.args[1:]]
        for quantity, each in (
            ("mean", z),
            ("square", z.double().square()),
            ("rate", z > 0),
            ("slope", slopes(str(node.target), z, rest, node.kwargs)),
        ):
            self._over(node, source, quantity, each)

    def _product(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        division = operator_of(node).startswith("div")
        for place, source in enumerate(node.args[:2]):
            if not isinstance(source, fx.Node) or source not in self.graph.dependent:
                continue
            inverse = division and place == 1
            value = values[source]
            self._over(node, source, f"{'divisor' if inverse else 'factor'} {place}", 1 / value if inverse else value)

    def _maximum(self, node: fx.Node, value: Tensor) -> None:
        """How often each element of the window is the largest."""
        n = 2 if "2d" in operator_of(node) else 1
        size, places = window_places(node, value, n)
        counts = functional.one_hot(places.long(), int(np.prod(size))).double()  # [N, C, *grid, elements]
        total = counts.sum([0, *range(2, 2 + n)])
        self._add(node, "shares", total.flatten(), places.numel() // value.shape[1])

    def means(self) -> dict[str, np.ndarray]:
        """Name → mean; squares become deviations."""
        found = {name: (total / count).numpy() for name, (total, count) in self._sums.items()}
        for name in [n for n in found if n.endswith("|square")]:
            base = name.removesuffix("square")
            with np.errstate(invalid="ignore", over="ignore"):  # infinite ones are told by name
                spread = found.pop(name) - found[base + "mean"] ** 2
            found[base + "deviation"] = np.sqrt(np.maximum(spread, 0))
        return found


def bound(node: fx.Node) -> dict[str, Any]:
    """An operator's arguments by name, defaults included."""
    schema = node.target._schema.arguments  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
    given: Iterable[tuple[str, Any]] = zip((a.name for a in schema), node.args, strict=False)
    return {**{a.name: a.default_value for a in schema}, **dict(given), **node.kwargs}


def inverse_deviation(node: fx.Node, value: Tensor) -> tuple[Tensor, int]:
    """Sum of 1 / deviation over images and positions, of each group of a group norm, and how many there were."""
    a = bound(node)
    name = operator_of(node)
    if "normalized_shape" in a:
        dims = list(range(value.ndim - len(a["normalized_shape"]), value.ndim))
        middle: Any = 0 if name == "rms_norm" else value.mean(dims, keepdim=True)
        eps = a["eps"] if a["eps"] is not None else torch.finfo(value.dtype).eps
        inverse = ((value - middle).square().mean(dims) + eps).rsqrt()
        return inverse.sum().view(1), inverse.numel()
    groups = int(a.get("num_groups") or a.get("group") or value.shape[1])
    parts = value.reshape(len(value), groups, -1)
    inverse = (parts.var(2, unbiased=False) + a["eps"]).rsqrt()
    return inverse.sum(0), len(value)


def largest_places(node: fx.Node, value: Tensor, n: int) -> Tensor:
    """Where the largest elements lie: flat places on the input's grid, ``[N, C, *grid]``."""
    a = bound(node)
    size = pair(a["kernel_size"], n)
    find: Callable[..., Any] = functional.max_pool2d if n == 2 else functional.max_pool1d
    return find(
        value,
        size,
        pair(a["stride"] or size, n),
        pair(a["padding"], n),
        pair(a["dilation"], n),
        bool(a["ceil_mode"]),
        return_indices=True,
    )[1]


def window_places(node: fx.Node, value: Tensor, n: int) -> tuple[tuple[int, ...], Tensor]:
    """The window's size, and which of its elements is the largest, ``[N, C, *grid]``."""
    a = bound(node)
    size = pair(a["kernel_size"], n)
    stride, padding, dilation = pair(a["stride"] or size, n), pair(a["padding"], n), pair(a["dilation"], n)
    flat = largest_places(node, value, n)
    width = value.shape[-1]
    axes = [flat // width, flat % width] if n == 2 else [flat]
    place = torch.zeros_like(flat)
    for i, position in enumerate(axes):
        shape = [-1 if k == i else 1 for k in range(n)]
        begin = (torch.arange(flat.shape[2 + i], device=flat.device) * stride[i] - padding[i]).view(shape)
        place = place * size[i] + (position - begin) // dilation[i]
    return size, place
