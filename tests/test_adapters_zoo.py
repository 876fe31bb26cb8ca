"""timm and torchvision: what their adapters make of names, configurations and files.

Against stand-ins (zoos.py) everywhere; where the libraries themselves can be imported, against these too.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys

import pytest
import torch
import zoos
from safetensors.torch import save_file

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, MissingPackageError, UnknownNameError
from weightatlas.models.adapters.importing import importing, library
from weightatlas.models.adapters.timm import places
from weightatlas.models.files import memory
from weightatlas.models.fitting import other_classes

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
UNTRAINED = "its weights are random (seed 0): nothing was learned"


def real(name):
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:  # torchvision on another build of torch
        pytest.skip(f"{name} cannot be imported here: {type(error).__name__}")


@pytest.fixture(params=["stand-in", "real"])
def timm(request, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if request.param == "stand-in":
        return zoos.put(monkeypatch, zoos.Timm())
    found = real("timm")
    if not found.is_model("test_resnet"):
        pytest.skip(f"timm {found.__version__} has no small networks for tests")
    return found


@pytest.fixture
def fake_timm(monkeypatch):
    monkeypatch.setattr(places, "unreachable_hub", lambda: "")
    return zoos.put(monkeypatch, zoos.Timm())


@pytest.fixture(params=["stand-in", "real"])
def torchvision(request, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return zoos.put(monkeypatch, zoos.Torchvision()) if request.param == "stand-in" else real("torchvision.models")


@pytest.fixture
def fake_torchvision(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return zoos.put(monkeypatch, zoos.Torchvision())


@pytest.fixture
def offline(monkeypatch):
    def refused(url, *args, **kwargs):
        raise OSError(f"no connection to {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)


def kept(tmp_path, state, name="squeezenet1_1-b8a52dc0.pth"):
    """A file in the cache of torch's hub."""
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / name)


def same(net, module):
    """Whether a network answers as a module does."""
    x = torch.randn(2, *net.input.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = net.module(x), module.eval()(x)
    assert ours.std() > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


class TestTimm:
    def test_an_untrained_network_is_timms_own_with_timms_input(self, timm):
        before = torch.random.get_rng_state()
        net = wa.load("timm:test_resnet", weights="random")
        assert torch.equal(torch.random.get_rng_state(), before)
        same(net, seeded(lambda: timm.create_model("test_resnet")))
        assert net.input == wa.InputSpec(shape=(3, 160, 160), mean=0.5, std=0.5, resize="crop")
        assert (net.name, net.notes[0], net.origin) == ("timm:test_resnet", UNTRAINED, ("timm:test_resnet", "random"))
        assert "168 pixels (bilinear) before it cuts 160 × 160" in net.notes[1]  # 160 / 0.95
        assert not net.module.training
        assert not any(p.requires_grad for p in net.module.parameters())
        assert "fc" in net.layers

    @pytest.mark.parametrize(
        "options", [{}, {"num_classes": 7}, {"in_chans": 1}, {"num_classes": 0}, {"num_classes": 5, "in_chans": 4}]
    )
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_a_file_says_how_many_classes_and_channels_there_are(self, timm, tmp_path, options, suffix):
        module = seeded(lambda: timm.create_model("test_resnet", **options))
        path = tmp_path / f"mine{suffix}"
        save_file(module.state_dict(), path) if suffix == ".safetensors" else torch.save(
            {"model": module.state_dict()}, path
        )
        net = wa.load("timm:test_resnet", weights=path)
        same(net, module)
        assert net.file.startswith(f"mine{suffix} sha256:")
        for name, value in options.items():
            assert f"{name}={value} as the file has it" in net.notes
        assert ("averaged" in " ".join(net.notes)) == ("in_chans" in options)
        assert len(net.input.mean) == net.input.channels == options.get("in_chans", 3)
        assert net.origin == ("timm:test_resnet", str(path))
        assert not any("in order of their names" in note for note in net.notes)  # a module has an order

    def test_channels_are_counted_in_the_picture_where_pixels_become_channels_first(self, timm, tmp_path):
        name = "test_tresnet" if isinstance(timm, zoos.Timm) else "tresnet_m"
        net = wa.load(f"timm:{name}", weights="random")
        assert net.input.shape[0] == len(net.input.mean) == 3
        module = seeded(lambda: timm.create_model(name, in_chans=1, num_classes=5))
        torch.save(module.state_dict(), tmp_path / "w.pth")
        folder = tmp_path / "kept"
        if isinstance(timm, zoos.Timm):
            folder.mkdir()
            kept = {"architecture": name, "model_args": {"in_chans": 1, "num_classes": 5}}
            (folder / "config.json").write_text(json.dumps(kept))
            save_file(module.state_dict(), folder / "model.safetensors")
        else:
            timm.models.save_for_hf(module, folder, safe_serialization=True)
        for net in (wa.load(f"timm:{name}", weights=tmp_path / "w.pth"), wa.load(f"timm:local-dir:{folder}")):
            assert net.input.shape[0] == len(net.input.mean) == 1
            same(net, module)

    def test_a_network_that_would_not_fit_into_memory_is_not_begun(self, timm, tmp_path, monkeypatch):
        monkeypatch.setattr(memory, "memory_free", lambda: 1000)
        torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
        size = r"timm:test_resnet: a network of [\d,]+ numbers takes .* of memory, and 1000 bytes are free"
        for weights in ("random", tmp_path / "w.pth"):
            with pytest.raises(LoadError, match=size.replace("1000 bytes", "(1000|1,000) bytes")):
                wa.load("timm:test_resnet", weights=weights)

    def test_a_file_of_another_network_is_told_in_a_line(self, timm, tmp_path):
        torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "a.pth")
        with pytest.raises(LoadError, match=r"a.pth does not fit timm:test_resnet: it lacks"):
            wa.load("timm:test_resnet", weights=tmp_path / "a.pth")
        with pytest.raises(LoadError, match="there is no file"):
            wa.load("timm:test_resnet", weights=tmp_path / "none.pth")

    def test_the_authors_names_are_brought_to_timms_by_timms_own_function(self, fake_timm, tmp_path):
        module = seeded(zoos.ResNetOfTimm)
        state = {k.replace("conv1.0.", "stem."): v for k, v in module.state_dict().items()}
        torch.save(state | {"authors.epoch": torch.ones(1)}, tmp_path / "w.pth")
        net = wa.load("timm:test_resnet", weights=tmp_path / "w.pth")
        same(net, module)
        assert "its names were brought to timm's by checkpoint_filter_fn of zoos" in net.notes

    def test_that_function_may_stumble_over_a_file(self, fake_timm, tmp_path, monkeypatch):
        monkeypatch.setattr(zoos, "checkpoint_filter_fn", lambda state, model: state["patch_embed"])
        torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "a.pth")
        with pytest.raises(LoadError, match="does not fit"):
            wa.load("timm:test_resnet", weights=tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("test_resnt", "no timm model 'test_resnt'; nearest: 'test_resnet'.*list_models"),
            ("", "no timm model ''"),
            ("test_resnet.r160", "weights of timm's test_resnet with the tag 'r160'; .*'r160_in1k'"),
            ("test_resnet.", "weights of timm's test_resnet with the tag ''; there are: .*'r160_in1k'"),
            ("local-dir:nowhere", "no folder nowhere; timm:local-dir:FOLDER"),
        ],
    )
    @pytest.mark.parametrize("weights", [None, "random"])
    def test_names_that_timm_does_not_have(self, timm, name, message, weights, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises((UnknownNameError, LoadError), match=message):
            wa.load(f"timm:{name}", weights=weights)

    def test_a_network_without_trained_weights_says_so_and_opens_untrained(self, timm):
        with pytest.raises(LoadError, match="no trained weights for test_maxvit; weights=FILE"):
            wa.load("timm:test_maxvit")
        if isinstance(timm, zoos.Timm):
            timm.cfgs["test_resnet"].insert(0, zoos._cfg("test_resnet", "untrained"))
            with pytest.raises(
                LoadError, match=r"for test_resnet; those of test_resnet.b_in1k, test_resnet.r160_in1k exist"
            ):
                wa.load("timm:test_resnet")
            assert wa.load("timm:test_maxvit", weights="random").module is not None

    def test_trained_weights_come_from_the_hub_with_their_tag(self, fake_timm):
        modules = {tag: zoos.ResNetOfTimm() for tag in ("r160_in1k", "b_in1k")}
        fake_timm.hub = {f"timm/test_resnet.{tag}": m.state_dict() for tag, m in modules.items()}
        for name, tag, opens in (
            ("test_resnet", "r160_in1k", "test_resnet.r160_in1k"),
            ("test_resnet.b_in1k", "b_in1k", "test_resnet.b_in1k"),
            ("test_resnet_old", "b_in1k", "test_resnet.b_in1k"),
        ):
            net = wa.load(f"timm:{name}")
            same(net, modules[tag])
            assert (net.name, net.origin) == (f"timm:{name}", (f"timm:{opens}", None))
            assert any(note.startswith(f"weights of timm/test_resnet.{tag}") for note in net.notes)
            same(wa.load(*net.origin[:1]), modules[tag])
        assert "timm calls test_resnet_old test_resnet.b_in1k now" in net.notes
        assert "apache-2.0" in " ".join(wa.load("timm:test_resnet").notes)

    def test_a_hub_that_cannot_be_reached(self, fake_timm):
        with pytest.raises(
            LoadError,
            match=r"from https://huggingface.co/timm/test_resnet.r160_in1k .*trying to locate.*--weights FILE.*random.*HF_HUB_OFFLINE",
        ):
            wa.load("timm:test_resnet")
        for weights in (None, "random"):  # which network it is stands there too
            with pytest.raises(
                LoadError, match=r"from https://huggingface.co/me/mine .*couldn't connect.*timm:local-dir:FOLDER"
            ):
                wa.load("timm:hf-hub:me/mine", weights=weights)

    def test_what_lies_in_the_hubs_cache_is_told_by_name_and_hash(self, fake_timm, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        module = zoos.ResNetOfTimm()
        fake_timm.hub["timm/test_resnet.r160_in1k"] = module.state_dict()
        assert wa.load("timm:test_resnet").file == ""
        place = tmp_path / "models--timm--test_resnet.r160_in1k"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("a" * 40)
        (place / "snapshots" / ("a" * 40)).mkdir(parents=True)
        save_file(module.state_dict(), place / "snapshots" / ("a" * 40) / "model.safetensors")
        assert wa.load("timm:test_resnet").file.startswith("model.safetensors sha256:")

    def test_a_folder_of_timms_own_opens_from_anywhere_and_tells_its_name_alone(self, timm, tmp_path, monkeypatch):
        module = seeded(lambda: timm.create_model("test_resnet"))
        folder = tmp_path / "mine"
        if isinstance(timm, zoos.Timm):
            folder.mkdir()
            save_file(module.state_dict(), folder / "model.safetensors")
        else:
            timm.models.save_for_hf(module, folder, safe_serialization=True)
        monkeypatch.chdir(tmp_path)
        net = wa.load("timm:local-dir:mine")
        same(net, module)
        assert (net.name, net.origin) == ("timm:local-dir:mine", (f"timm:local-dir:{folder}", None))
        assert net.file.startswith("model.safetensors sha256:")
        assert str(tmp_path) not in " ".join((net.name, net.file, *net.notes))

    def test_pictures_that_timm_stretches_are_stretched(self, fake_timm):
        net = wa.load("timm:test_squash", weights="random")
        assert (net.input.resize, net.notes) == ("stretch", (UNTRAINED,))
        fake_timm.cfgs["test_squash"][0].crop_pct = 0.9
        assert "scales both sides of pictures to 177" in wa.load("timm:test_squash", weights="random").notes[1]
        fake_timm.cfgs["test_squash"][0].crop_mode = "border"
        assert "fills up the rest; here they are cut" in wa.load("timm:test_squash", weights="random").notes[1]

    def test_whatever_a_constructor_says_is_told_in_a_sentence(self, fake_timm, monkeypatch):
        monkeypatch.setattr(sys.modules["timm"], "create_model", lambda *args, **more: 1 / 0)
        with pytest.raises(LoadError, match=r"timm cannot make test_resnet \(ZeroDivisionError: division by zero\)"):
            wa.load("timm:test_resnet", weights="random")

    @pytest.mark.parametrize("name", ["test_resnet", "hf-hub:me/mine"])
    def test_a_hub_that_is_not_there_is_told_before_timm_tries(self, monkeypatch, tmp_path, name):
        from huggingface_hub import constants

        fake = zoos.put(monkeypatch, zoos.Timm())
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(places, "unreachable_hub", lambda: "it is not there")
        monkeypatch.setattr(sys.modules["timm"], "create_model", lambda *args, **more: pytest.fail("timm tried"))
        with pytest.raises(
            LoadError, match=r"from https://huggingface.co/\S+ \(it is not there\). Without a connection"
        ):
            wa.load(f"timm:{name}")
        monkeypatch.setattr(sys.modules["timm"], "create_model", fake.create_model)
        assert wa.load("timm:test_resnet", weights="random").module is not None  # which needs none


class TestTorchvision:
    def test_an_untrained_network_is_torchvisions_own_with_its_input(self, torchvision):
        net = wa.load("torchvision:squeezenet1_1.IMAGENET1K_V1", weights="random")
        same(net, seeded(lambda: torchvision.get_model("squeezenet1_1", weights=None)))
        spec = wa.InputSpec(shape=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        assert (net.input, net.notes[0]) == (spec, UNTRAINED)
        assert "256 pixels (bilinear) before it cuts 224 × 224" in net.notes[1]

    def test_trained_weights_are_those_of_the_cache_told_by_name_and_hash(self, torchvision, tmp_path, offline):
        module = torchvision.get_model("squeezenet1_1", weights=None)
        kept(tmp_path, module.state_dict())
        net = wa.load("torchvision:SqueezeNet1_1.imagenet1k_v1")
        same(net, module)
        assert net.file.startswith("squeezenet1_1-b8a52dc0.pth sha256:")
        assert net.origin == ("torchvision:squeezenet1_1.IMAGENET1K_V1", None)
        assert "weights IMAGENET1K_V1 of torchvision, download.pytorch.org" in net.notes

    def test_torchvisions_own_choice_of_weights_is_written_down(self, fake_torchvision, tmp_path, offline):
        kept(tmp_path, zoos.SqueezeNet().state_dict(), "squeezenet1_1-2.pth")
        net = wa.load("torchvision:squeezenet1_1")
        assert net.origin == ("torchvision:squeezenet1_1.IMAGENET1K_V2", None)
        assert (net.input.grid, len(net.notes)) == ((176, 176), 1)  # prepared just as an InputSpec does it

    def test_a_file_that_wants_to_run_code_is_refused_before_torchvision_reads_it(self, torchvision, tmp_path, offline):
        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        kept(tmp_path, {"w": Bomb()})
        with pytest.raises(LoadError, match="UnpicklingError"):
            wa.load("torchvision:squeezenet1_1.IMAGENET1K_V1")
        assert not (tmp_path / "ran").exists()

    def test_without_a_connection(self, torchvision, offline):
        with pytest.raises(
            LoadError,
            match=r"https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth \(OSError: no connection.*--weights FILE.*checkpoints",
        ):
            wa.load("torchvision:squeezenet1_1.IMAGENET1K_V1")

    @pytest.mark.parametrize("classes", [1000, 6])
    def test_a_file_says_how_many_classes_there_are(self, torchvision, tmp_path, classes):
        module = torchvision.get_model("squeezenet1_1", weights=None, num_classes=classes)
        torch.save(module.state_dict(), tmp_path / "w.pth")
        net = wa.load("torchvision:squeezenet1_1", weights=tmp_path / "w.pth")
        same(net, module)
        assert (f"num_classes={classes} as the file has it" in net.notes) == (classes != 1000)
        assert net.file.startswith("w.pth sha256:")
        with pytest.raises(LoadError, match=r"w.pth does not fit torchvision:fcn_resnet50"):
            wa.load("torchvision:fcn_resnet50", weights=tmp_path / "w.pth")

    def test_a_network_that_would_not_fit_into_memory_is_not_begun(self, torchvision, monkeypatch):
        monkeypatch.setattr(memory, "memory_free", lambda: 1000)
        with pytest.raises(LoadError, match=r"torchvision:squeezenet1_1: a network of [\d,]+ numbers takes"):
            wa.load("torchvision:squeezenet1_1", weights="random")

    def test_modules_that_ask_a_file_for_its_version_are_told_their_own(self, torchvision, tmp_path):
        module = torchvision.get_model("mnasnet0_5", weights=None, num_classes=7)
        for state in (module.state_dict(), dict(module.state_dict())):  # the second lost it
            torch.save(state, tmp_path / "w.pth")
            same(wa.load("torchvision:mnasnet0_5", weights=tmp_path / "w.pth"), module)

    def test_whatever_a_constructor_says_is_told_in_a_sentence(self, fake_torchvision, monkeypatch):
        def make(error):
            def get_model(*words, **more):
                raise error

            monkeypatch.setattr(sys.modules["torchvision.models"], "get_model", get_model)

        make(ValueError("depth must be\neven\x1b[31m"))
        with pytest.raises(
            LoadError, match=r"torchvision cannot make bare \(ValueError: depth must be even\\x1b\[31m\)"
        ):
            wa.load("torchvision:bare", weights="random")
        make(ModuleNotFoundError("No module named 'scipy'", name="scipy"))
        with pytest.raises(MissingPackageError, match=r"torchvision.* needs the package scipy"):
            wa.load("torchvision:bare", weights="random")

    def test_a_file_says_which_heads_there_are(self, fake_torchvision, tmp_path):
        for module, name, note in (
            (zoos.GoogLeNet(aux_logits=False), "googlenet", "aux_logits=False as the file has it"),
            (zoos.GoogLeNet(num_classes=9), "googlenet", "num_classes=9 as the file has it"),
            (zoos.FCN(aux_loss=True), "fcn_resnet50", "aux_loss=True as the file has it"),
            (zoos.FCN(num_classes=4), "fcn_resnet50", "num_classes=4 as the file has it"),
        ):
            torch.save(module.state_dict(), tmp_path / "w.pth")
            net = wa.load(f"torchvision:{name}", weights=tmp_path / "w.pth")
            assert note in net.notes
            assert net.tensors.keys() == module.state_dict().keys()
            assert all(torch.equal(net.tensors[k], v) for k, v in module.state_dict().items())
            assert any("transform_input is off" in n for n in net.notes) == (name == "googlenet")

    def test_networks_that_answer_with_more_than_a_tensor_open(self, fake_torchvision):
        net = wa.load("torchvision:fcn_resnet50", weights="random")
        assert (net.input.grid, [*net.layers]) == ((520, 520), ["backbone", "classifier"])
        assert "cuts nothing" in net.notes[1]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("fasterrcnn", "lists of images and answers with boxes"),
            ("r3d_18", "takes clips of several frames"),
            ("raft_small", "takes two images at once"),
            (
                "quantized_squeezenet1_1",
                "packed as integers; open the network it was made from, torchvision:squeezenet1_1",
            ),
        ],
    )
    @pytest.mark.parametrize("weights", [None, "random", "w.pth"])
    def test_networks_that_take_no_single_image_are_refused(self, fake_torchvision, name, message, weights):
        with pytest.raises(ArgumentError, match=message):
            wa.load(f"torchvision:{name}", weights=weights)

    def test_each_of_torchvisions_parts_is_where_the_refusals_look_for_it(self):
        models = real("torchvision.models")
        parts = {models.get_model_builder(n).__module__.split(".")[2] for n in models.list_models()}
        assert parts >= {"detection", "video", "optical_flow", "quantization", "resnet"}

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "squeezenet1_0x",
                "no torchvision model 'squeezenet1_0x'; nearest: 'squeezenet1_1'|nearest: 'squeezenet1_0'",
            ),
            ("squeezenet1_1.", "weights of torchvision's squeezenet1_1 called ''; there are: 'IMAGENET1K_V1'"),
            ("squeezenet1_1.V9", "weights of torchvision's squeezenet1_1 called 'V9'; .*IMAGENET1K_V1"),
        ],
    )
    def test_names_that_torchvision_does_not_have(self, torchvision, name, message):
        with pytest.raises(UnknownNameError, match=message):
            wa.load(f"torchvision:{name}")

    def test_a_network_without_weights(self, fake_torchvision):
        with pytest.raises(LoadError, match="torchvision has no weights for bare; give weights=FILE"):
            wa.load("torchvision:bare")
        assert "224 × 224 pixels are assumed" in wa.load("torchvision:bare", weights="random").notes[1]


class Missing:
    """As if a package were not there."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class TestImporting:
    def package(self, monkeypatch, tmp_path, name, text, version="1.0"):
        """A package that is installed and whose import runs some text."""
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        for known in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, known)

    @pytest.mark.parametrize("name", ["timm", "torchvision", "hf"])
    def test_a_missing_library_says_how_to_install_it(self, monkeypatch, name):
        package = {"hf": "transformers"}.get(name, name)
        for known in [m for m in sys.modules if m.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setattr(sys, "meta_path", [Missing(package), *sys.meta_path])
        with pytest.raises(
            MissingPackageError, match=rf"the package {package} is not installed: pip install {package}$"
        ):
            wa.load(f"{name}:resnet18", weights="random")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "raise RuntimeError('operator torchvision::nms does not exist')",
                "RuntimeError: operator torchvision::nms does not",
            ),
            ("raise OSError('_C.so: undefined symbol: _ZN3c10')", "OSError: _C.so: undefined symbol"),
            ("raise ImportError('DLL load failed')", "ImportError: DLL load failed"),
            ("from json import nothing_such", "ImportError: cannot import name"),
        ],
    )
    def test_a_broken_torchvision_says_what_to_reinstall(self, monkeypatch, tmp_path, text, words):
        self.package(monkeypatch, tmp_path, "torchvision", text, "0.99")
        for _ in range(2):  # a second try says the same
            with pytest.raises(MissingPackageError) as caught:
                wa.load("torchvision:resnet18")
            told = str(caught.value)
            assert told.startswith(
                f"torchvision 0.99 is installed but does not load beside torch {torch.__version__}"[:60]
            )
            assert words in told
            assert "pip install --force-reinstall --no-cache-dir torch torchvision" in told

    def test_of_libraries_that_import_each_other_the_culprit_is_named(self, monkeypatch, tmp_path):
        self.package(monkeypatch, tmp_path, "torchvision", "raise RuntimeError('no operator ' + 'x' * 500)", "0.99")
        self.package(monkeypatch, tmp_path, "timm", "import torchvision", "1.9")
        with pytest.raises(
            MissingPackageError,
            match=r"timm 1.9 is installed .* because torchvision 0.99, which it imports, does not .*torch torchvision",
        ) as caught:
            wa.load("timm:resnet18")
        assert len(str(caught.value)) < 500

    def test_what_a_library_lacks_is_named(self, monkeypatch, tmp_path):
        self.package(monkeypatch, tmp_path, "timm", "import no_such_package.inner", "1.9")
        with pytest.raises(
            MissingPackageError, match=r"timm 1.9 needs the package no_such_package, .*: pip install timm"
        ):
            wa.load("timm:resnet18")

    def test_a_part_that_is_missing_does_not_make_the_library_missing(self, monkeypatch, tmp_path):
        self.package(monkeypatch, tmp_path, "timm", "", "0.1")
        with pytest.raises(MissingPackageError, match=r"timm 0.1 is installed but does not load .*--upgrade"):
            library("timm.data")

    def test_what_is_imported_late_is_told_alike(self, monkeypatch, tmp_path):
        text = "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ModuleNotFoundError('Could not import X') from e"
        self.package(monkeypatch, tmp_path, "torchvision", text, "0.99")
        with pytest.raises(MissingPackageError, match=r"onnx .* because torchvision 0.99"), importing("onnx"):
            importlib.import_module("torchvision")

    def test_an_interrupt_goes_through(self):
        with pytest.raises(KeyboardInterrupt), importing("timm"):
            raise KeyboardInterrupt


def test_other_classes_are_told_only_where_nothing_else_differs():
    ours = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 10))

    def of(a, b, c):
        return torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.Linear(b, c)).state_dict()

    assert other_classes(ours, of(3, 4, 10)) is None
    assert other_classes(ours, of(3, 4, 2)) == 2
    assert other_classes(ours, of(3, 5, 2)) is None
    assert other_classes(ours, of(2, 4, 2)) is None
    assert other_classes(ours, {}) is None
