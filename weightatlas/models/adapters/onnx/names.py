"""Names of an ONNX graph's layers: those that the modules had which it was exported from, where the file tells them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

#: What stands behind a module's path in the name of one of its tensors.
LEAVES = re.compile(r"[./_](weights?|kernel|bias|gamma|beta|scale|running_mean|running_var|[wWbB])(_\w+|:\d+)?$")
#: Names of nodes that exporters make up: "123", "node_conv2d_3", "n12".
MADE_UP = re.compile(r"^(_?[\d_]*|(node|n|op|Op)_?\d+|node_\w+)$")
#: What exporters call an operator at the end of a node's name.
OPERATOR = re.compile(
    r"^(Fused)?(Conv(olution|\dd|Transpose|Integer|2DBackpropInput)?|DepthwiseConv\w*|depthwise|separable_conv\w*|MatMul\w*|"
    r"Gemm|Linear|Tensordot|Add|BiasAdd|BatchNorm\w*|FusedBatchNorm\w*|QLinear\w+|convolution|matmul|addmm)(_quant)?(_\d+)?$",
    re.I,
)
#: Where torch's newer exporter writes the modules that a node was made in.
SCOPES = "pkg.torch.onnx.name_scopes"


class Names:
    """Gives every layer a name of its own.

    Args:
        reserved: names that would be mistaken for something else.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.taken = set(reserved) | {"", "input"}
        self._counts: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name, or with a number behind it if another layer has it."""
        chosen, number = name, 2
        while chosen in self.taken:
            chosen, number = f"{name}_{number}", number + 1
        self.taken.add(chosen)
        return chosen

    def name(self, node: Any, tensors: Iterable[str], others: Iterable[str] = ()) -> str:
        """A new name for a layer.

        Args:
            node: that computes it.
            tensors: names of what it has in the file, most telling first.
            others: names that tell if neither those nor the node's does.
        """
        count = self._counts.get(node.op_type, 0)
        self._counts[node.op_type] = count + 1
        own = (of_scopes(node), of_node(node.name))
        for found in (*map(of_tensor, tensors), *own, *map(of_tensor, others)):
            if found:
                return self.unique(clean(found))
        return self.unique(clean(f"{node.op_type}_{count}"))


def of_tensor(name: str) -> str:
    """The module that a tensor belongs to; empty if its name does not tell.

    Example:
        >>> of_tensor("layer1.0.conv1.weight"), of_tensor("onnx::Conv_193"), of_tensor("dense/kernel:0")
        ('layer1.0.conv1', '', 'dense')
    """
    found = LEAVES.search(name)
    stem = name[: found.start()] if found else ""
    return "" if stem.startswith("onnx::") else stem.rstrip("._/")


def of_node(name: str) -> str:
    """The module that a node's name tells; empty if it tells none.

    Example:
        >>> of_node("/backbone/layer1/layer1.0/conv1/Conv"), of_node("model/conv1/Conv2D"), of_node("Conv_12")
        ('backbone.layer1.0.conv1', 'model.conv1', '')
    """
    parts = [p for p in name.split("/") if p]
    if parts and OPERATOR.match(parts[-1]):  # one: a module may be called so as well
        parts.pop()
    if parts and parts[-1] == "Tensordot":
        parts.pop()
    path: list[str] = []
    for part in parts:  # a container's child bears the container's name once more
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return "" if "/" not in name and MADE_UP.match(name) else ".".join(path)


def of_scopes(node: Any) -> str:
    """The module that torch's newer exporter noted with a node; empty without."""
    text = next((p.value for p in getattr(node, "metadata_props", ()) if p.key == SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if 0 < len(text) < 10_000 else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    names = (
        [s for s in scopes[:-1] if isinstance(s, str)] if isinstance(scopes, list) else []
    )  # the last is the operator
    return names[-1] if names else ""


def clean(name: str) -> str:
    """A name without what has another meaning in addresses: ``:`` before a unit, ``#`` before a call."""
    name = re.sub(r"[/\\]+", ".", name).strip(".")
    name = re.sub(r"[^\w.\-]", "_", name)
    return name if len(name) <= 200 else f"{name[:199]}…"
