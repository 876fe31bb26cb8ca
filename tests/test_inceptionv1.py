"""InceptionV1 from files of one random network in every form in which its weights circulate, against the published graph.

The published graph is stated a second time here, on TensorFlow's arrays and with elementary operations in double
precision; no published file was at hand.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
import torch
from graphwriting import constant, field, node, tensor
from jacobian import Truth, check_weights
from safetensors.torch import save_file
from torch.nn import functional

import weightatlas as wa
from weightatlas.errors import LoadError
from weightatlas.models.fitting import fits
from weightatlas.models.inceptionv1 import SPEC, weights
from weightatlas.models.inceptionv1.network import InceptionV1
from weightatlas.models.same import MaxPool2dSame

pytestmark = pytest.mark.usefixtures("one_thread")

#: Channels in, then of the six convolutions in the order of BRANCHES, then out; after Szegedy et al. and Lucid's records.
BLOCKS = {
    "mixed3a": (192, 64, 96, 128, 16, 32, 32, 256),
    "mixed3b": (256, 128, 128, 192, 32, 96, 64, 480),
    "mixed4a": (480, 192, 96, 204, 16, 48, 64, 508),
    "mixed4b": (508, 160, 112, 224, 24, 64, 64, 512),
    "mixed4c": (512, 128, 128, 256, 24, 64, 64, 512),
    "mixed4d": (512, 112, 144, 288, 32, 64, 64, 528),
    "mixed4e": (528, 256, 160, 320, 32, 128, 128, 832),
    "mixed5a": (832, 256, 160, 320, 48, 128, 128, 832),
    "mixed5b": (832, 384, 192, 384, 48, 128, 128, 1024),
}
BRANCHES = ("1x1", "3x3_bottleneck", "3x3", "5x5_bottleneck", "5x5", "pool_reduce")
CAPTUM = dict(
    zip(BRANCHES, ("conv_1x1", "conv_3x3_reduce", "conv_3x3", "conv_5x5_reduce", "conv_5x5", "pool_proj"), strict=True)
)
GRAPH = "tensorflow_inception_graph.pb"
FORMS = ("graph", "archive", "imported", "captum", "lucent", "own")


def graph_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the published graph's weights by its names, in its order."""
    sizes: dict[str, tuple[int, ...]] = {
        "conv2d0": (7, 7, 3, 64),
        "conv2d1": (1, 1, 64, 64),
        "conv2d2": (3, 3, 64, 192),
    }
    for block, (before, one, b3, three, b5, five, pool, _) in BLOCKS.items():
        made = ((before, one), (before, b3), (b3, three), (before, b5), (b5, five), (before, pool))
        for branch, (i, o) in zip(BRANCHES, made, strict=True):
            k = int(branch[0]) if branch in ("3x3", "5x5") else 1
            sizes[f"{block}_{branch}"] = (k, k, i, o)
    sizes["softmax2"] = (1024, 1008)
    return {f"{name}_{leaf}": s if leaf == "w" else s[-1:] for name, s in sizes.items() for leaf in "wb"}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Random weights as TensorFlow has them, scaled so that activations neither vanish nor grow."""
    rng = np.random.default_rng(5)
    found = {}
    for name, shape in graph_shapes().items():
        fan = math.prod(shape[:-1]) if len(shape) > 1 else 1
        scale = math.sqrt(2 / fan) if len(shape) > 1 else 0.1
        found[name] = (scale * rng.standard_normal(shape)).astype("f4")
    return found


def written(arrays: dict[str, np.ndarray], prefix: str = "") -> bytes:
    """A frozen graph as published: constants first, in three forms, then nodes that use them; auxiliary heads as well."""
    made = node(f"{prefix}input", "Placeholder", (), {"dtype": field(6, 1)})
    forms = ("content", "packed", "apart")
    aside = {name: np.ones(2, "f4") for i in "01" for name in (f"head{i}_bottleneck_w", f"nn{i}_b", f"softmax{i}_w")}
    for i, (name, array) in enumerate((arrays | aside).items()):
        form = forms[i % 3] if array.size < 2000 else forms[i % 2]
        made += constant(prefix + name, tensor(array, form), type_first=i % 5 > 0)
    for block in BLOCKS:
        made += constant(f"{prefix}{block}/concat_dim", tensor(np.array(3, "i4"), "packed"), kind=3)
        made += node(f"{prefix}{block}", "Concat", (f"{prefix}{block}/concat_dim",), {"N": field(3, 4)})
    return made + field(4, field(1, 9))


def to_pytorch(array: np.ndarray) -> torch.Tensor:
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(order)))


def states(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts by the names of both ports, with heads where those have them, and by our own."""
    stem = {"conv2d0": "conv1", "conv2d1": "conv2", "conv2d2": "conv3", "softmax2": "fc"}
    captum, lucent, own = {}, {}, {}
    for key, array in arrays.items():
        name, leaf = key[:-2], {"w": "weight", "b": "bias"}[key[-1]]
        block, _, branch = name.partition("_")
        value = to_pytorch(array)
        captum[f"{stem[name] if name in stem else f'{block}.{CAPTUM[branch]}'}.{leaf}"] = value
        lucent[f"{name}_pre_activation_matmul.{leaf}" if name == "softmax2" else f"{name}_pre_relu_conv.{leaf}"] = value
        own[f"{name}.{leaf}"] = value
    captum["aux1.loss_conv.weight"], captum["aux2.loss_fc.bias"] = torch.ones(2), torch.ones(2)
    return {"captum": captum, "lucent": lucent, "own": own}


@pytest.fixture(scope="module")
def files(arrays, tmp_path_factory):
    """One file for every form."""
    folder = tmp_path_factory.mktemp("weights")
    graph = written(arrays)
    names = {"graph": GRAPH, "archive": "inception5h.zip", "imported": "graph.pb", "own": "own.safetensors"}
    paths = {form: folder / names.get(form, f"{form}.pth") for form in FORMS}
    paths["graph"].write_bytes(graph)
    mean = constant("sub/y", tensor(np.array(117, "f4"), "packed"))
    paths["imported"].write_bytes(mean + written(dict(reversed(arrays.items())), "import/"))
    with zipfile.ZipFile(paths["archive"], "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        archive.writestr("imagenet_comp_graph_label_strings.txt", "dummy\nkit fox\n")
        archive.writestr("LICENSE", "Apache")
        archive.writestr(GRAPH, graph)
    for form, state in states(arrays).items():
        save_file(state, paths[form]) if form == "own" else torch.save(state, paths[form])
    return paths


@pytest.fixture(scope="module")
def net(files) -> wa.Network:
    return wa.load("inceptionv1", weights=files["graph"])


# --- the published graph, stated again


def padded(x: torch.Tensor, kernel: int, stride: int, fill: float) -> torch.Tensor:
    """TensorFlow's "SAME": the output has ⌈size / stride⌉ positions, the odd pixel is added behind."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=fill)


def windows(x: torch.Tensor, kernel: int, stride: int, fill: float) -> torch.Tensor:
    """``[N, C, H, W, kernel, kernel]``."""
    return padded(x, kernel, stride, fill).unfold(2, kernel, stride).unfold(3, kernel, stride)


def pooled(x: torch.Tensor, stride: int) -> torch.Tensor:
    return windows(x, 3, stride, -math.inf).amax((4, 5))


def normalised(x: torch.Tensor) -> torch.Tensor:
    """x / √(2 + 10⁻⁴ Σ x²) over the five channels on either side and the channel itself."""
    squares = functional.pad(x * x, (0, 0, 0, 0, 5, 5)).unfold(1, 11, 1).sum(4)
    return x / (2 + 1e-4 * squares) ** 0.5


class Restated(NamedTuple):
    arrays: dict[str, np.ndarray]

    def convolved(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        w, b = (torch.from_numpy(self.arrays[f"{name}_{leaf}"]).double() for leaf in "wb")
        patches = windows(x, w.shape[0], stride, 0)  # N C H W i j
        return torch.einsum("nchwij,ijco->nohw", patches, w).add(b[:, None, None]).clamp(min=0)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of the blocks, and the logits, for an image with 117 subtracted."""
        made = {}
        x = normalised(pooled(self.convolved(x.double(), "conv2d0", 2), 2))
        x = pooled(normalised(self.convolved(self.convolved(x, "conv2d1"), "conv2d2")), 2)
        for block in BLOCKS:
            x = pooled(x, 2) if block in ("mixed4a", "mixed5a") else x
            made[block] = x = torch.cat(
                [
                    self.convolved(x, f"{block}_1x1"),
                    self.convolved(self.convolved(x, f"{block}_3x3_bottleneck"), f"{block}_3x3"),
                    self.convolved(self.convolved(x, f"{block}_5x5_bottleneck"), f"{block}_5x5"),
                    self.convolved(pooled(x, 1), f"{block}_pool_reduce"),
                ],
                1,
            )
        w, b = (torch.from_numpy(self.arrays[f"softmax2_{leaf}"]).double() for leaf in "wb")
        return made | {"logits": x.mean((2, 3)) @ w + b}


def image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, height // 16, width // 16, generator=generator)
    return functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1) * 255 - 117


@pytest.fixture(scope="module")
def truth(arrays) -> dict[str, torch.Tensor]:
    return Restated(arrays)(image(224, 224))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_logits_of_the_published_graph(files, net, truth, form: str) -> None:
    opened = wa.load("inceptionv1", weights=files[form])
    with torch.no_grad():
        logits = opened.module(image(224, 224))
    assert truth["logits"].std() > 0.1  # activations did not vanish on the way
    assert difference(logits, truth["logits"]) < 1e-5
    digest = hashlib.sha256(files[form].read_bytes()).hexdigest()
    assert opened.file == opened.provenance.file == f"{files[form].name} sha256:{digest}"
    told = " ".join(opened.notes)
    for word, forms in (
        ("auxiliary classifiers were left out (6 arrays", ("graph", "archive", "imported")),
        ("auxiliary classifiers were left out (2 arrays", ("captum",)),
        ("by TensorFlow's names: renamed and transposed", ("graph", "archive", "imported")),
        ("captum.optim's names", ("captum",)),
        ("lucent's names", ("lucent",)),
        ("the scope 'import/'", ("imported",)),
        ("not in the network's order; they were found by their names", ("imported",)),
        ("small constants were left out: sub/y", ("imported",)),
    ):
        assert (word in told) == (form in forms), word
    assert opened.weights_hash == net.weights_hash


def test_blocks_and_images_of_other_sizes(arrays, net, truth) -> None:
    """The graph is made for 224 pixels; at other sizes its paddings go on and its last mean is over all positions."""
    made: dict[str, torch.Tensor] = {}
    handles = [
        getattr(net.module, block).register_forward_hook(lambda _, __, out, block=block: made.update({block: out}))
        for block in BLOCKS
    ]
    expected = {224: truth, 225: Restated(arrays)(image(225, 234))}
    try:
        for size, shape in ((224, (224, 224)), (225, (225, 234))):
            with torch.no_grad():
                made["logits"] = net.module(image(*shape))
            assert made["mixed5b"].shape == (1, 1024, 7, 7) if size == 224 else (1, 1024, 8, 8)
            for name, found in made.items():
                assert difference(torch.relu(found), torch.relu(expected[size][name])) < 1e-5, (size, name)
    finally:
        for handle in handles:
            handle.remove()


def test_preprocessing_subtracts_117(net) -> None:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[0, 0, 0], pixels[0, 5, 7] = (255, 0, 117), (0, 118, 255)
    x = net.preprocess(pixels)
    assert x.shape == (1, 3, 224, 224)
    assert (x.min(), x.max()) == (-117, 138)
    assert x[0, :, 0, 0].tolist() == [138, -117, 0]
    assert x[0, :, 5, 7].tolist() == [-117, 1, 138]


# --- layers


def test_layers_have_the_articles_names_and_sizes(net) -> None:
    layers = net.layers
    grids = {"3": (28, 28), "4": (14, 14), "5": (7, 7)}
    for name, shape in graph_shapes().items():
        layer = layers[name[:-2]]
        if len(shape) == 4:
            assert (layer.kind, layer.units, layer.input_channels, layer.kernel) == (
                "conv",
                shape[3],
                shape[2],
                shape[:2],
            )
            assert (layers[f"{layer.name}_relu"].kind, layers[f"{layer.name}_relu"].units) == ("activation", shape[3])
    for block, (*_, out) in BLOCKS.items():
        assert (layers[block].units, layers[block].grid) == (out, grids[block[5]])
    assert [layers[f"conv2d{i}"].grid for i in range(3)] == [(112, 112), (56, 56), (56, 56)]
    assert [layers[f"maxpool{i}"].grid[0] for i in (0, 1, 4, 10)] == [56, 28, 14, 7]
    assert {layers[f"localresponsenorm{i}"].kind for i in (0, 1)} == {"norm"}
    assert {layers[n].kind for n in ("maxpool0", "mixed3a_pool", "avgpool0")} == {"pool"}
    assert (layers["softmax2"].kind, layers["softmax2"].units, layers["softmax2"].input_channels) == (
        "linear",
        1008,
        1024,
    )


def test_receptive_fields_are_where_a_pixel_without_a_value_is_felt(net) -> None:
    """What is not a number makes everything that reads it not a number."""
    pixel = (101, 118)
    x = torch.zeros(1, 3, 224, 224, dtype=torch.float64)
    x[0, 1, *pixel] = math.nan
    module = InceptionV1().double().eval()
    felt: dict[str, torch.Tensor] = {}
    names = ("conv2d0", "maxpool0", "conv2d2", "maxpool1", "mixed3a_5x5", "mixed3a", "mixed3b_3x3", "mixed3b")
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: felt.update({name: out.isnan().any(1)[0]})
        )
    with torch.no_grad():
        module(x)
    for name in names:
        field = net.layers[name].receptive_field
        expected = torch.ones(net.layers[name].grid, dtype=torch.bool)
        for axis in (0, 1):
            starts = torch.arange(expected.shape[axis]) * field.stride[axis] + field.offset[axis]
            inside = (starts <= pixel[axis]) & (pixel[axis] < starts + field.size[axis])
            expected &= inside[:, None] if axis == 0 else inside
        assert felt[name].any()
        assert torch.equal(felt[name], expected), name
    assert net.layers["mixed3b"].receptive_field.size == (91, 91)


@pytest.mark.slow
def test_expanded_weights_between_blocks_and_through_response_norms(net) -> None:
    truth = Truth(net)
    between = wa.expanded_weights(net, "mixed3a", "mixed3b", units=[0, 130, 342, 379, 479], gate="identity")
    assert (between.values.shape, between.origin) == ((5, 256, 5, 5), (-2, -2))
    check_weights(net, between, truth=truth, units=5)
    through = wa.expanded_weights(net, "conv2d0", "mixed3a_1x1", units=[0, 40], gate="identity")
    assert [r.module for r in through.replaced if "localresponsenorm" in r.module] == [
        "localresponsenorm0",
        "localresponsenorm1",
    ]
    check_weights(net, through, truth=truth)


# --- pooling with TensorFlow's padding


def test_pooling_is_the_maximum_of_what_is_there() -> None:
    generator = torch.Generator().manual_seed(0)
    tried = 0
    for height, width in ((7, 8), (9, 12), (1, 5), (10, 10), (3, 2)):
        for kernel, stride, dilation in (
            (3, 2, 1),
            (3, 1, 1),
            (2, 1, 1),
            (2, 2, 1),
            (1, 2, 1),
            (5, 3, 1),
            (3, 2, 2),
            ((2, 3), (1, 2), 1),
        ):
            x = torch.randn(1, 2, height, width, generator=generator) - 3  # zeros would win
            k, s = (np.broadcast_to(v, 2) for v in (kernel, stride))
            out = [math.ceil(n / step) for n, step in zip((height, width), s, strict=True)]
            expected = torch.empty(1, 2, *out)
            for place in np.ndindex(*out):
                inside = []
                for p, n, window, step, positions in zip(place, (height, width), k, s, out, strict=True):
                    total = max((positions - 1) * step + (window - 1) * dilation + 1 - n, 0)
                    at = p * step - total // 2 + np.arange(window) * dilation
                    inside.append(at[(at >= 0) & (at < n)])
                expected[:, :, place[0], place[1]] = x[:, :, inside[0]][:, :, :, inside[1]].amax((2, 3))
            torch.testing.assert_close(MaxPool2dSame(kernel, stride, dilation=dilation)(x), expected, rtol=0, atol=0)
            tried += 1
    assert tried == 40


@pytest.mark.parametrize("stride", [1, 2])
def test_at_the_border_the_average_of_a_pooling_counts_what_is_there(stride: int) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), MaxPool2dSame(3, stride))
    net = wa.load(module, input=wa.InputSpec(shape=(1, 10, 10)))
    last = math.ceil(10 / stride) - 1
    found = wa.expanded_weights(net, "0", "1", gate="identity", at=(last, last)).values
    np.testing.assert_allclose(found[0, 0], np.full((2, 2), 1 / 4), rtol=1e-6)


# --- files that do not fit


def without(state: dict, *names: str) -> dict:
    return {k: v for k, v in state.items() if k not in names}


BAD_GRAPHS = [
    (
        lambda a: without(a, "mixed3a_1x1_w"),
        r"^g.pb does not fit inceptionv1: it lacks 1 of 116 arrays: mixed3a_1x1_w \(here mixed3a_1x1.weight\)$",
    ),
    (
        lambda a: without(a, "mixed5b_5x5_b") | {"other_b": np.zeros(128, "f4")},
        r"lacks 1 of 116 arrays: mixed5b_5x5_b \(here mixed5b_5x5.bias\); other_b has the shape of the first, \[128\]; it has too many, 1: other_b",
    ),
    (
        lambda a: a | {"conv2d1_w": np.zeros((1, 1, 64, 32), "f4")},
        r"it has conv2d1_w \(here conv2d1.weight\) \[1, 1, 64, 32\] instead of \[1, 1, 64, 64\]$",
    ),
    (
        lambda a: {k: to_pytorch(v).numpy() for k, v in a.items()},
        r"conv2d0_w \(here conv2d0.weight\) \[64, 3, 7, 7\] instead of \[7, 7, 3, 64\], and 57 more alike: that is PyTorch's order of axes, already transposed.*conv2d0.weight, instead",
    ),
    (
        lambda a: {f"InceptionV3/{k}": v for k, v in a.items() if "mixed4" in k},
        r"g.pb is another network's: of InceptionV1's 116 arrays it has 0. Its names are InceptionV3/mixed4a_1x1_w, .*begin with .*conv2d0_w \(TensorFlow's\)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_GRAPHS)
def test_graphs_that_do_not_fit(arrays, tmp_path, change, message: str) -> None:
    small = {name: np.broadcast_to(array.flat[0], array.shape) for name, array in arrays.items()}
    content = b"".join(
        constant(name, tensor(array.flatten()[:1], "packed", sizes=array.shape))
        for name, array in change(small).items()
    )
    (tmp_path / "g.pb").write_bytes(content)
    with pytest.raises(LoadError, match=message):
        wa.load("inceptionv1", weights=tmp_path / "g.pb")


BAD_STATES = [
    ("captum", lambda s: without(s, "mixed4d.pool_proj.bias"), r"lacks 1 of 116 arrays: mixed4d.pool_proj.bias \(here mixed4d_pool_reduce.bias\)"),
    ("lucent", lambda s: s | {"conv2d0_pre_relu_bn.weight": torch.ones(64)}, "has too many, 1: conv2d0_pre_relu_bn.weight"),
    ("own", lambda s: s | {"softmax2.weight": torch.zeros(1000, 1024)}, r"it has softmax2.weight \[1000, 1024\] instead of \[1008, 1024\]$"),
    ("own", lambda s: s | {"conv2d0.weight": s["conv2d0.weight"].permute(2, 3, 1, 0)}, r"\[7, 7, 3, 64\] instead of \[64, 3, 7, 7\]: that is TensorFlow's order of axes.*conv2d0_w$"),
    ("own", lambda s: s | {"conv2d1.bias": torch.zeros(64, dtype=torch.int8)}, r"conv2d1.bias is torch.int8.*dequantise"),
    ("captum", lambda s: {"fc.weight": s["fc.weight"], "fc.bias": s["fc.bias"], "layer1.0.weight": torch.ones(3)}, "another network's: of InceptionV1's 116 arrays it has 2"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "change", "message"), BAD_STATES)
def test_state_dicts_that_do_not_fit(arrays, tmp_path, form: str, change, message: str) -> None:
    small = {k: v.flatten()[0].expand(v.shape) for k, v in states(arrays)[form].items()}  # files of a few bytes
    torch.save(change(small), tmp_path / "w.pth")
    with pytest.raises(LoadError, match=message):
        wa.load("inceptionv1", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("form", ["captum", "lucent", "own", "graph"])
def test_a_prefix_and_what_lies_without_it_are_no_obstacle(arrays, files, net, tmp_path, form: str) -> None:
    state = states(arrays).get(form) or {name: torch.from_numpy(array) for name, array in arrays.items()}
    content = {f"net.{k}": v for k, v in state.items()}
    torch.save({"state_dict": content | {"criterion.weight": torch.ones(8)}}, tmp_path / "w.ckpt")
    opened = wa.load("inceptionv1", weights=tmp_path / "w.ckpt")
    assert opened.weights_hash == net.weights_hash
    assert "the prefix 'net.' was taken off its names" in opened.notes
    assert "1 tensor without it was left out ('criterion.weight')" in opened.notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (lambda k: f"net.{k}", r"another network's.*it has 0.*Most of its names begin with 'net\.': take that off"),
        (
            lambda k: k.replace("mixed", "mixd"),
            r"another.*Nearest names of the same shape: 'mixd\w+\.\w+' for 'mixed\w+\.\w+'",
        ),
    ],
)
def test_names_that_are_nearly_right_are_told(arrays, tmp_path, name, message: str) -> None:
    small = {k: v.flatten()[0].expand(v.shape) for k, v in states(arrays)["own"].items()}
    torch.save({name(k): v for k, v in without(small, "mixed3a_1x1.bias").items()}, tmp_path / "w.pth")
    with pytest.raises(LoadError, match=message):
        wa.load("inceptionv1", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("form", ["captum", "own", "graph"])
def test_other_classes_are_those_of_the_file(arrays, net, truth, tmp_path, form: str) -> None:
    few = dict(arrays) | {"softmax2_w": arrays["softmax2_w"][:, 5:15], "softmax2_b": arrays["softmax2_b"][5:15]}
    path = tmp_path / ("w.pb" if form == "graph" else "w.pth")
    path.write_bytes(written(few)) if form == "graph" else torch.save(states(few)[form], path)
    opened = wa.load("inceptionv1", weights=path)
    assert "the file's softmax2 tells 10 classes apart, not 1008" in opened.notes
    with torch.no_grad():
        assert difference(opened.module(image(224, 224)), truth["logits"][:, 5:15]) < 1e-5
    assert opened.layers["softmax2"].units == 10
    with pytest.raises(LoadError, match=r"softmax2.weight is \(10, 1024\) instead of \(1008, 1024\)"):
        fits(SPEC, path)  # what was downloaded must be the published network


def test_names_are_brought_to_ours_once_and_for_all(arrays) -> None:
    for state in states(arrays).values():
        renamed = weights._own(state, "w.pth")[0]
        assert list(renamed) == list(InceptionV1().state_dict())
        assert list(weights._own(renamed, "w.pth")[0]) == list(renamed)


def test_half_precision_is_widened(arrays, net, tmp_path) -> None:
    torch.save({k: v.bfloat16() for k, v in states(arrays)["lucent"].items()}, tmp_path / "w.pth")
    found = wa.load("inceptionv1", weights=tmp_path / "w.pth").module.mixed4a_3x3.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, net.module.mixed4a_3x3.weight, rtol=2**-8, atol=0)


# --- files that are something else than their names say, and hostile ones


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_content_decides_what_a_file_is(files, net, tmp_path) -> None:
    for form, name in (
        ("graph", "weights.pth"),
        ("archive", "weights.pt"),
        ("captum", "weights.pb"),
        ("own", "weights.zip"),
    ):
        (tmp_path / name).symlink_to(files[form])
        assert wa.load("inceptionv1", weights=tmp_path / name).weights_hash == net.weights_hash, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pb", b"<html>404: Not Found</html>", "w.pb is not a frozen TensorFlow graph: it is a web page"),
        ("w.pb", b"", "w.pb is not a frozen TensorFlow graph: it has no nodes"),
        ("w.pb", field(1, 1) + field(2, b"x" * 40), "w.pb is not a frozen TensorFlow graph: .*SavedModel"),
        ("w.zip", b"PK\x03\x04" + b"x" * 60, "w.zip is not a readable zip archive, or it is truncated"),
        ("w.pth", b"PK\x03\x04" + b"x" * 60, "w.pth is not a readable"),
        ("w.pth", b"<html>404: Not Found</html>", "w.pth is "),
    ],
)
def test_files_that_are_something_else(tmp_path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=message):
        wa.load("inceptionv1", weights=tmp_path / name)
    with pytest.raises(LoadError, match="there is no file"):
        wa.load("inceptionv1", weights=tmp_path / f"no{name}")
    with pytest.raises(LoadError, match="is not a file"):
        wa.load("inceptionv1", weights=tmp_path)


def test_hostile_archives(tmp_path, monkeypatch) -> None:
    def refused(path, message: str) -> None:
        with pytest.raises(LoadError, match=message):
            wa.load("inceptionv1", weights=path)

    refused(
        zipped(tmp_path / "none.zip", {"LICENSE": b"x"}),
        f"none.zip should hold one graph, {GRAPH}, and holds 0; in it: 'LICENSE'",
    )
    refused(zipped(tmp_path / "empty.zip", {}), "holds 0; in it: nothing")
    refused(zipped(tmp_path / "two.zip", {"a.pb": b"x", "b.pb": b"y"}), "holds 2; in it: 'a.pb', 'b.pb'")
    graph = node("input", "Placeholder")
    refused(
        zipped(tmp_path / "main.zip", {"a.pb": b"x", f"d/{GRAPH}": graph}),
        f"d/{GRAPH} in main.zip holds no floating-point",
    )
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 2**20)
    bomb = zipped(tmp_path / "bomb.zip", {GRAPH: b"\0" * (2**20 + 1)})
    assert bomb.stat().st_size < 5000
    refused(bomb, "bomb.zip unpacks to more than 1 MiB, .*unpack it and give the graph")
    whole = zipped(tmp_path / "w.zip", {GRAPH: np.random.default_rng(0).bytes(4000)}).read_bytes()
    lying = bytearray(bomb.read_bytes())  # the directory promises one byte
    lying[-22 - 46 - len(GRAPH) + 24 : -22 - 46 - len(GRAPH) + 28] = (1).to_bytes(4, "little")
    for content in (whole[:2000], whole[:60] + b"\xff" * 40 + whole[100:], bytes(lying)):
        (tmp_path / "w.zip").write_bytes(content)
        refused(tmp_path / "w.zip", "w.zip is not a readable zip archive|not a frozen TensorFlow graph")
    flags = bytearray(whole)
    flags[6] |= 1  # encrypted, by the member's own head and by the directory
    flags[whole.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "w.zip").write_bytes(flags)
    refused(tmp_path / "w.zip", "w.zip is not a readable zip archive.*encrypted")
