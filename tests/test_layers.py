"""The table of layers: order, kinds, axes, who reads what, and that the module stays untouched."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import LoadError, UnknownNameError


def table(module: nn.Module, *shape: int) -> wa.Network:
    return wa.load(module, input=wa.InputSpec(shape=shape)).layers


class Varied(nn.Module):
    """Calls one ReLU three times, skips a module, and branches."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.second, self.first = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.side = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.relu(self.norm(self.first(x)))
        y = self.relu(self.other(self.second(y)))
        return self.relu(y + self.side(x))


def test_layers_come_in_order_of_their_outputs() -> None:
    layers = table(Varied(), 3, 8, 6)
    assert list(layers) == ["first", "norm", "relu", "second", "other", "relu#2", "side", "relu#3"]
    assert {layer.grid for layer in layers.values()} == {(8, 6)}
    assert {layer.units for layer in layers.values()} == {4}
    assert [layers[n].source for n in layers] == ["input", "first", "norm", "relu", "second", "other", "input", ""]
    assert [layers[n].norm for n in layers] == ["norm", "", "", "other", "", "", "", ""]
    assert layers["relu#2"].module_path == "relu"
    assert layers.notes == ("1 modules with weights never ran and are no layers: 'unused'",)
    with pytest.raises(UnknownNameError, match=r"no layer 'relu#4' in Varied; nearest: 'relu#3'"):
        layers["relu#4"]
    assert "unused" not in layers


def test_get_takes_a_default() -> None:
    layers = wa.load(nn.Sequential(nn.Conv2d(1, 2, 3)), input=wa.InputSpec(shape=(1, 5, 5))).layers
    assert layers.get("0") is layers["0"]
    assert layers.get("none") is None
    assert layers.get("none", 3) == 3


def test_children_come_before_what_holds_them() -> None:
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 2, 3)))
    layers = table(module, 3, 8, 8)
    assert list(layers) == ["0.0", "0.1", "0", "1.0", "1"]
    assert layers["0"].inside == ("0.0", "0.1")
    assert layers["1.0"].source == "0.1"
    assert [layer.parameters for layer in layers.values()] == [112, 0, 112, 74, 74]


def test_a_single_module_is_its_own_layer() -> None:
    layers = table(nn.Conv2d(3, 4, 3), 3, 8, 8)
    assert [(layer.kind, layer.units) for layer in layers.values()] == [("conv", 4)]


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(4, 4, 1), "conv"), (nn.Conv2d(4, 8, 1, groups=4), "depthwise conv"),
        (nn.Conv2d(4, 4, 1, groups=2), "grouped conv"), (nn.ConvTranspose2d(4, 4, 2), "transposed conv"),
        (nn.BatchNorm2d(4), "norm"), (nn.InstanceNorm2d(4), "norm"), (nn.GroupNorm(2, 4), "norm"),
        (nn.LayerNorm(8), "norm"), (nn.LocalResponseNorm(2), "norm"), (nn.RMSNorm(8), "norm"),
        (nn.ReLU6(), "activation"), (nn.GELU(), "activation"), (nn.Softmax(1), "activation"),
        (nn.MaxPool2d(2), "pool"), (nn.AdaptiveAvgPool2d(1), "pool"), (nn.Flatten(), "other"), (nn.Dropout(), "other"),
        (nn.Linear(8, 4), "linear"), (nn.Sequential(nn.ReLU()), "block"),
        (nn.MultiheadAttention(4, 2), "block"),
    ],
)  # fmt: skip
def test_kinds(module, kind: str) -> None:
    from weightatlas.network.table import kind_of

    assert kind_of(module) == kind


def test_what_a_convolution_says_of_itself() -> None:
    module = nn.Sequential(
        nn.Conv2d(4, 8, (3, 5), stride=(2, 1), padding=(1, 4), dilation=(1, 2), groups=2),
        nn.ConvTranspose2d(8, 2, 4, 2, 1),
    )
    first, second = table(module, 4, 9, 12).values()
    assert (first.input_channels, first.kernel, first.stride, first.dilation, first.groups) == (
        4,
        (3, 5),
        (2, 1),
        (1, 2),
        2,
    )
    assert (first.origin, first.grid) == ((-1, -4), (5, 12))
    # transposed: out[t] reads in[(t + padding − j) / stride]; turned, its first element is j = 3
    assert (second.stride, second.dilation, second.origin) == ((0.5, 0.5), (0.5, 0.5), (-1, -1))
    assert second.grid == (10, 24)
    signal = next(iter(table(nn.Conv1d(2, 3, 5, stride=2, padding=1), 2, 11).values()))
    assert (signal.kernel, signal.stride, signal.origin, signal.grid) == ((1, 5), (1, 2), (0, -1), (1, 5))
    linear = next(iter(table(nn.Linear(7, 3), 7).values()))
    assert (linear.input_channels, linear.kernel, linear.units, linear.grid) == (7, (1, 1), 3, (1, 1))


class Fold(nn.Module):
    """A convolution whose output is read in a given way."""

    def __init__(self, read, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.read = nn.Conv2d(3, 4, 3), norm or nn.BatchNorm2d(4), read

    def forward(self, x):
        return self.read(self, self.conv(x))


@pytest.mark.parametrize(
    ("read", "norm"),
    [
        (lambda m, y: m.norm(y), "norm"),
        (lambda m, y: m.norm(functional.dropout(y, training=False)), "norm"),
        (lambda m, y: m.norm(y) + y, ""),
        (lambda m, y: (m.norm(y), y.relu()), ""),
        (lambda m, y: m.norm(y).add_(y.mean()), ""),
        (lambda m, y: m.norm(y.relu()), ""),
        (lambda m, y: m.norm(y * 2), ""),
        (lambda m, y: m.norm(y) + m.norm(y), ""),
        (lambda m, y: y, ""),
    ],
)
def test_norm_only_where_it_alone_reads(read, norm: str) -> None:
    assert table(Fold(read), 3, 8, 8)["conv"].norm == norm


def test_norm_must_scale_units() -> None:
    assert table(Fold(lambda m, y: m.norm(y), nn.GroupNorm(2, 4)), 3, 8, 8)["conv"].norm == ""
    # over tokens [N, L, C], batch norm scales positions, even where L equals C
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(9, 9), nn.BatchNorm1d(9))
    assert table(tokens, 9, 3, 3)["1"].norm == ""
    assert table(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), 5)["0"].norm == "1"


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        self.norm(self.conv(x))
        raise RuntimeError("the second half is missing")


class Remembering(nn.Module):
    """Writes to a buffer and keeps its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), None
        self.register_buffer("row", torch.zeros(4), persistent=False)

    def forward(self, x):
        self.last = self.conv(x)
        self.row.copy_(self.last.mean((0, 2, 3)))
        return self.last + self.row[:, None, None]


@pytest.mark.parametrize("module", [Varied(), Failing(), Remembering()])
def test_the_module_is_left_untouched(module) -> None:
    module.train()
    module.conv.eval() if hasattr(module, "conv") else module.norm.eval()
    modes = [m.training for m in module.modules()]
    state, attributes = copy.deepcopy(module.state_dict()), [set(vars(m)) for m in module.modules()]
    net = wa.load(module, input=wa.InputSpec(shape=(3, 8, 8)))
    if isinstance(module, Failing):
        with pytest.raises(LoadError, match="second half"):
            _ = net.layers
    else:
        assert len(net.layers)
    assert [m.training for m in module.modules()] == modes
    assert [set(vars(m)) for m in module.modules()] == attributes
    for m in module.modules():
        assert not m._forward_hooks
        assert not m._forward_pre_hooks
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), key
    kept = [*module.parameters(), *module.buffers(), *(v for v in vars(module).values() if isinstance(v, torch.Tensor))]
    assert not [t for t in kept if hasattr(t, "_weightatlas_trace")]
    assert all(p.requires_grad for p in module.parameters())


def test_a_second_look_is_the_same_as_the_first() -> None:
    module = Remembering()
    first, second = (table(module, 3, 8, 8) for _ in range(2))
    assert list(first.values()) == list(second.values())


def test_constants_of_the_networks_own() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.conv, self.out = (
                nn.Parameter(torch.rand(1, 3, 8, 8)),
                nn.Conv2d(3, 4, 3),
                nn.Conv2d(4, 2, 1),
            )

        def forward(self, x):
            return self.out(self.conv(self.start) * x.mean())

    layers = table(Learned(), 3, 8, 8)
    assert (layers["conv"].units, layers["conv"].receptive_note) == (4, "not computed from the input")
    assert wa.direct_weights(wa.load(Learned(), input=wa.InputSpec(shape=(3, 8, 8))), "conv").values.shape == (
        4,
        3,
        3,
        3,
    )
    assert layers["out"].receptive_note != ""


def test_axes_that_occur_twice_are_no_grid() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Unflatten(2, (4, 2))

        def forward(self, x):
            return self.cut(x).sum()

    layer = table(Windows(), 3, 8, 8)["cut"]
    assert (layer.grid, layer.receptive_field) == (None, None)


def test_the_embedded_network(lite0) -> None:
    layers = lite0.layers
    assert list(layers)[:4] == ["conv_stem", "bn1", "act1", "blocks.0.0.conv_dw"]
    assert list(layers)[-3:] == ["global_pool", "flatten", "classifier"]
    kinds = [layer.kind for layer in layers.values()]
    assert (kinds.count("conv"), kinds.count("depthwise conv"), kinds.count("linear")) == (33, 16, 1)
    block = layers["blocks.4.1"]
    assert (block.kind, block.units, block.grid, block.source) == ("block", 112, (14, 14), "blocks.4.0")
    assert all(layers[n].norm for n in layers if layers[n].kind.endswith("conv"))
    assert layers["blocks.3.0.conv_dw"].origin == (0.0, 0.0)  # SAME at stride 2, even size: the odd pixel comes after
    assert layers["blocks.2.0.conv_dw"].origin == (-1.0, -1.0)
    assert not layers.notes
    rows = json.loads(layers.to_json())["layers"]
    assert [row["name"] for row in rows] == list(layers)


def test_a_checkpoint_shows_its_tensors(tmp_path) -> None:
    state = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 5, groups=8), nn.Conv1d(8, 4, 7)
    ).state_dict()
    state["head"], state["scalar"] = torch.rand(10, 4), torch.rand(())
    torch.save(state, tmp_path / "w.pth")
    layers = wa.load(tmp_path / "w.pth").layers
    facts = {
        n: (layer.kind, layer.units, layer.input_channels, layer.kernel, layer.groups) for n, layer in layers.items()
    }
    assert facts == {
        "0": ("conv", 8, 3, (3, 3), None),
        "2": ("depthwise conv", 8, 8, (5, 5), 8),
        "3": ("conv", 4, 8, (1, 7), None),
        "head": ("linear", 10, 4, (1, 1), None),
    }
    assert {(layer.grid, layer.receptive_field) for layer in layers.values()} == {(None, None)}
    with pytest.raises(UnknownNameError, match=r"nearest: '2'|there are: '0'"):
        layers["22"]


def test_a_refusal_that_ends_in_a_full_stop_gets_no_second_one() -> None:
    class Choosy(torch.nn.Module):
        def forward(self, x):
            raise ValueError("Input image size (64*64) doesn't match model (32*32).")

    net = wa.load(Choosy(), input=wa.InputSpec(shape=(3, 64, 64)))
    with pytest.raises(LoadError, match=r"doesn't match model \(32\*32\)\. Give the shape it was made for"):
        _ = net.layers
