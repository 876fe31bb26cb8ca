"""What `weightatlas models` lists: our own networks, what other libraries offer, what is on this machine."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from huggingface_hub import constants as hub_constants
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.cli import app
from weightatlas.errors import ArgumentError, MissingPackageError, UnknownNameError
from weightatlas.models import FAMILIES, efficientnet_lite
from weightatlas.models.adapters import importing
from weightatlas.models.downloads import caching
from weightatlas.models.downloads.caching import VARIABLE
from weightatlas.records import AvailableModel, ModelTable


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path / "cache"


def run(*words: str):
    return CliRunner().invoke(app, ["models", *words])


def fails(*words: str) -> str:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def library(monkeypatch, name: str, **names: object) -> None:
    """Puts a stand-in for a library in its place."""
    module = ModuleType(name)
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def timm(monkeypatch) -> None:
    """What timm 1.0 tells of three networks: the fields of its PretrainedCfg."""
    hub = dict(url="https://example.org/a.pth", hf_hub_filename=None)
    facts = {
        "resnet18.a1_in1k": SimpleNamespace(**hub, hf_hub_id="timm/resnet18.a1_in1k", license="apache-2.0"),
        "resnet18.tv_in1k": SimpleNamespace(**hub, hf_hub_id="timm/resnet18.tv_in1k", license=None),
        "vgg11.tv_in1k": SimpleNamespace(
            url="https://download.example.org/vgg11-1234.pth?x=1", hf_hub_id=None, hf_hub_filename=None, license="mit"
        ),
    }
    library(
        monkeypatch,
        "timm",
        list_pretrained=lambda: list(facts),
        list_models=lambda: ["resnet18", "resnet18d", "vgg11"],
        get_pretrained_cfg=facts.__getitem__,
    )


@pytest.fixture
def torchvision(monkeypatch) -> None:
    """What torchvision 0.29 tells: enumerations of weights with an address and facts."""

    class Offered(Enum):
        IMAGENET1K_V1 = "one"
        IMAGENET1K_V2 = "two"

        @property
        def url(self) -> str:
            return f"https://download.example.org/models/resnet18-{self.value}.pth"

        @property
        def meta(self) -> dict:
            return {"num_params": 11_689_512, "_file_size": 44.661} | (
                {"license": "https://example.org/LICENSE"} if self.value == "two" else {}
            )

    offered = {"resnet18": Offered, "maskrcnn": Offered, "new": ()}
    places = {"maskrcnn": "torchvision.models.detection.mask_rcnn"}
    library(monkeypatch, "torchvision")
    library(
        monkeypatch,
        "torchvision.models",
        list_models=lambda: list(offered),
        get_model_weights=offered.__getitem__,
        get_model_builder=lambda name: SimpleNamespace(__module__=places.get(name, f"torchvision.models.{name}")),
    )


def hub_repository(
    folder: Path, name: str, config: dict | None, weights: bytes | None, card: str | None = None
) -> Path:
    """A repository as the Hugging Face cache keeps it."""
    repository = folder / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123456789abcdef"
    (repository / "refs").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    snapshot.mkdir(parents=True)
    content = {"config.json": None if config is None else json.dumps(config).encode(), "model.safetensors": weights}
    content["README.md"] = card and card.encode()
    for file, data in content.items():
        if data is not None:
            (repository / "blobs" / file).write_bytes(data)
            (snapshot / file).symlink_to(repository / "blobs" / file)
    return snapshot


class TestOverview:
    def test_our_own_networks_and_where_they_are(self, cache) -> None:
        table = wa.available_models()
        assert [name for name, m in table.items() if m.kind == "network"] == list(FAMILIES)
        lite0, inception = table["efficientnet_lite0"], table["inceptionv1"]
        assert lite0.ready
        assert Path(lite0.where) == efficientnet_lite.find_here()
        assert (lite0.size, lite0.license) == (Path(lite0.where).stat().st_size, "Apache-2.0")
        assert (inception.ready, inception.where, inception.size) == (False, "", 50_000_000)
        assert inception.note == "the first load downloads it"
        assert table.cache == str(cache)
        assert not cache.exists()
        assert repr(table) == "ModelTable(2 networks, 1 on this machine)"
        assert [m.name for m in table.values() if m.kind == "file"] == [
            "FILE.safetensors",
            "FILE.pth, .pt, .bin, .ckpt",
        ]

    def test_a_file_in_the_cache_is_seen_and_a_changed_one_said(self, cache) -> None:
        path = cache / "inceptionv1" / "tensorflow_inception_graph.pb"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1000)
        found = wa.available_models("inception*")["inceptionv1"]
        assert (found.ready, found.where, found.size, found.note) == (True, str(path), 1000, "")
        assert not (cache / "pins.json").exists()  # looking is no use
        caching.pin_file(path, "")
        path.write_bytes(b"y" * 1000)
        found = wa.available_models("inceptionv1")["inceptionv1"]
        assert (found.ready, found.where) == (False, "")
        assert "is not the file that it was at its first use" in found.note

    def test_libraries_are_there_or_say_how_to_come_by(self, monkeypatch) -> None:
        versions = {"transformers": "5.0", "onnx": "1.16"}
        monkeypatch.setattr(importing, "installed", lambda name: versions.get(name, ""))
        monkeypatch.setitem(sys.modules, "timm", None)  # none is imported for it
        table = wa.available_models()
        told = {m.name: (m.ready, m.where, m.note) for m in table.values() if m.kind == "library"}
        assert told == {
            "timm:NAME": (False, "", "pip install timm"),
            "torchvision:NAME": (False, "", "pip install torchvision"),
            "hf:REPOSITORY": (True, "transformers 5.0", "weightatlas models 'hf:*' lists them"),
            "onnx:FILE": (True, "onnx 1.16", ""),
        }
        assert list(wa.available_models("t*")) == ["timm:NAME", "torchvision:NAME"]
        assert list(wa.available_models("timm:")) == ["timm:NAME"]

    def test_no_home_is_a_note(self, monkeypatch) -> None:
        monkeypatch.setenv(VARIABLE, "~nobody-of-that-name")
        table = wa.available_models()
        assert table.cache == ""
        assert "names a home folder that there is not" in table.notes[0]
        assert "names a home folder that there is not" in table["inceptionv1"].note
        assert run().exit_code == 0

    def test_what_is_not_there(self) -> None:
        with pytest.raises(UnknownNameError, match=r"no model 'inception'; nearest: 'inceptionv1'. .*timm:\*"):
            wa.available_models("inception")
        with pytest.raises(UnknownNameError, match="no library 'tim'; nearest: 'timm'"):
            wa.available_models("tim:resnet*")
        with pytest.raises(ArgumentError, match=r"a pattern like 'timm:resnet\*', not a int"):
            wa.available_models(3)
        with pytest.raises(ArgumentError, match=r"have no list; weightatlas layers onnx:FILE"):
            wa.available_models("onnx:*")


@pytest.mark.usefixtures("timm")
class TestTimm:
    def test_all_weights_of_what_is_meant(self, tmp_path) -> None:
        (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
        kept = tmp_path / "torch" / "checkpoints" / "vgg11-1234.pth"
        kept.write_bytes(b"12345")
        snapshot = hub_repository(tmp_path, "timm/resnet18.a1_in1k", {}, b"123")
        table = wa.available_models("timm:*")
        assert list(table) == [
            "timm:resnet18.a1_in1k",
            "timm:resnet18.tv_in1k",
            "timm:vgg11.tv_in1k",
            "timm:resnet18d",
        ]
        a1, tv, vgg, bare = table.values()
        assert (a1.source, a1.license) == ("huggingface.co/timm/resnet18.a1_in1k", "apache-2.0")
        assert (a1.ready, a1.where, a1.size) == (True, str(snapshot / "model.safetensors"), 3)
        assert (tv.ready, tv.where, tv.size, tv.license) == (False, "", None, "")
        assert (vgg.ready, vgg.where, vgg.size, vgg.source) == (True, str(kept), 5, "download.example.org")
        assert not bare.ready
        assert bare.note.startswith("no published weights")
        assert repr(table) == "ModelTable(4 networks matching 'timm:*', 2 on this machine)"

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [("ResNet18", 2), ("resnet18*", 3), ("resnet18.tv*", 1), ("*.tv_in1k", 2), ("vgg?1", 1), ("resnet18[d]", 1)],
    )
    def test_patterns(self, pattern: str, found: int) -> None:
        assert len(wa.available_models(f"timm:{pattern}")) == found

    def test_no_such_network(self) -> None:
        with pytest.raises(UnknownNameError, match="no network of timm 'resnet81'; nearest: 'resnet18'"):
            wa.available_models("timm:resnet81")


@pytest.mark.usefixtures("torchvision")
def test_torchvision(tmp_path) -> None:
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "checkpoints" / "resnet18-two.pth").write_bytes(b"1234567")
    one, two, mask, _, new = wa.available_models("torchvision:*").values()
    assert (one.name, one.size, one.parameters) == ("torchvision:resnet18.IMAGENET1K_V1", 44_661_000, 11_689_512)
    assert (one.ready, one.license) == (False, "")
    assert (two.ready, two.size, two.license) == (True, 7, "https://example.org/LICENSE")
    assert mask.source == "torchvision, detection"
    assert mask.note.startswith("cannot be opened: takes lists of images")
    assert (new.name, new.note) == ("torchvision:new", "no published weights")


class TestHub:
    def test_what_the_cache_holds(self, tmp_path) -> None:
        config = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
        card = "---\ntags:\n- vision\nlicense: apache-2.0\n---\n# A network\n"
        snapshot = hub_repository(tmp_path, "microsoft/resnet-18", config, b"1" * 1000, card)
        hub_repository(tmp_path, "someone/vit", {"model_type": "vit"}, None, "---\n: [\n---\nlicense: none\n")
        hub_repository(tmp_path, "someone/words", {"model_type": "bert"}, b"1")
        hub_repository(tmp_path, "someone/nothing", None, b"1")
        (tmp_path / "hub" / "models--broken--one").mkdir()
        table = wa.available_models("hf:*")
        assert list(table) == ["hf:microsoft/resnet-18", "hf:someone/vit"]
        resnet, vit = table.values()
        assert (resnet.ready, resnet.where, resnet.size) == (True, str(snapshot), 1000)
        assert resnet.license == "apache-2.0"
        assert resnet.source == "huggingface.co/microsoft/resnet-18 (ResNetForImageClassification)"
        assert (vit.ready, vit.note, vit.license) == (False, "its weights are not in the cache", "")
        assert table.notes == (
            "1 folders of the Hugging Face cache are damaged",
            "2 repositories in the Hugging Face cache are not vision models",
        )
        assert list(wa.available_models("hf:Microsoft/*")) == ["hf:microsoft/resnet-18"]

    def test_nothing_there(self, tmp_path) -> None:
        assert "is not there yet" in wa.available_models("hf:*").notes[0]
        (tmp_path / "hub").mkdir()
        table = wa.available_models("hf:a/*")
        assert (len(table), len(table.notes)) == (0, 1)
        assert "has no vision model 'a/*'" in table.notes[0]
        assert "note: the Hugging Face cache" in run("hf:a/*").stdout


def test_several_libraries_at_once(timm, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    table = wa.available_models("t*:resnet18")
    assert list(table) == ["timm:resnet18.a1_in1k", "timm:resnet18.tv_in1k"]
    assert "torchvision" in table.notes[0]  # one that was not named may be missing
    with pytest.raises(UnknownNameError, match=r"no library has a network 'vgg99'.*no network of timm"):
        wa.available_models("t*:vgg99")


def test_a_library_that_was_asked_for_must_be_there(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match="pip install timm"):
        wa.available_models("timm:*")
    assert "pip install timm" in fails("timm:*")


class TestCommand:
    def test_table(self, cache) -> None:
        done = run()
        assert (done.exit_code, done.stderr) == (0, "")
        title, header, *rows = done.stdout.splitlines()
        assert title.strip() == "ModelTable(2 networks, 1 on this machine)"
        assert header.split("  ")[0].strip() == "name"
        assert rows[1].split()[0] == "inceptionv1"
        assert " 50 MB  Apache-2.0  no    the first load downloads it" in rows[1]
        assert rows[-1] == f"downloaded weights are kept in {cache}"

    def test_json(self, cache) -> None:
        found = json.loads(run("efficient*", "--json").stdout)
        assert (found["cache"], found["pattern"], found["notes"]) == (str(cache), "efficient*", [])
        assert found["models"] == wa.available_models("efficient*").to_dicts()
        assert found["models"][0]["name"] == "efficientnet_lite0"

    def test_forget(self, cache) -> None:
        path = cache / "inceptionv1" / "inception5h.pth"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        caching.pin_file(path, "")
        assert run("--forget", "inceptionv1").stdout.startswith(f"{path} is no longer held to its hash")
        assert json.loads((cache / "pins.json").read_text()) == {}
        assert run("--forget", "inceptionv1").stdout == "no file of inceptionv1 is pinned\n"
        assert "nearest: 'inceptionv1'" in fails("--forget", "inception")
        assert "--forget NAME goes alone" in fails("inceptionv1", "--forget", "inceptionv1")

    @pytest.mark.slow
    def test_a_narrow_terminal_goes_without_columns(self, cache) -> None:
        """In a terminal of 60 characters no line is longer, and what was left out is said."""
        script = "from weightatlas.cli import app; app(['models'])"
        outer, inner = pty.openpty()
        environment = os.environ | {"COLUMNS": "60", "TERM": "dumb"}
        process = subprocess.Popen([sys.executable, "-c", script], stdout=inner, stderr=inner, env=environment)
        os.close(inner)
        told = b""
        try:
            while piece := os.read(outer, 65536):
                told += piece
        except OSError:  # how a terminal ends
            pass
        os.close(outer)
        assert process.wait(60) == 0, told
        lines = told.decode().splitlines()
        rows = [line for line in lines if line.startswith((" efficientnet_lite0", " inceptionv1"))]
        assert len(rows) == 2
        assert all(len(line) <= 60 for line in rows)
        assert "Apache-2.0" in rows[0]
        left = "(left out for want of room: where, or what brings it, source; --json has everything)"
        assert left in lines  # and not the column of parameters, which is empty here


def test_the_home_folder_is_shown_as_a_tilde(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    homely = wa.figures.homely
    assert homely(f"{tmp_path}/.cache/w.bin") == "~/.cache/w.bin"
    assert homely(f"kept in {tmp_path}; and {tmp_path}/b") == f"kept in {tmp_path}; and ~/b"
    for other in (f"{tmp_path}s/w.bin", f"/mnt{tmp_path}/w.bin", f"~{tmp_path}/w"):
        assert homely(other) == other
    monkeypatch.setenv("HOME", "/")
    assert homely("/a/b") == "/a/b"
    monkeypatch.setenv("HOME", str(tmp_path))
    row = AvailableModel("a", "network", "x", ready=True, where=f"{tmp_path}/w.bin")
    assert wa.figures.model_cells(row)[-1] == "~/w.bin"
    assert row.where == f"{tmp_path}/w.bin"  # and --json has it whole


def test_the_hint_tells_every_form() -> None:
    from weightatlas.models import ADAPTERS, FORMS

    with pytest.raises(
        UnknownNameError, match=r"timm:NAME, torchvision:NAME, hf:REPOSITORY, hf:FOLDER, onnx:FILE, a path"
    ):
        wa.load("nothing_like_it")
    assert {form.partition(":")[0] for form in FORMS} == set(ADAPTERS)


def test_table_in_a_notebook_and_on_disk(tmp_path) -> None:
    rows = [
        AvailableModel("a<b>", "network", "from <i>", 1_500_000, 12, "mit", True, "/here", "it"),
        AvailableModel("onnx:FILE", "library", "files"),
    ]
    table = ModelTable(rows, "kept", notes=("one & two",))
    shown = table._repr_html_()
    assert "<code>a&lt;b&gt;</code>" in shown
    for cell in ("from &lt;i&gt;", "1.5 MB", "12", "mit", "yes", "/here; it"):
        assert f"<td>{cell}</td>" in shown
    assert "<p>one &amp; two</p>" in shown
    assert "Downloaded weights are kept in kept" in shown
    assert json.loads(table.save(tmp_path / "t.json").read_text())["models"] == table.to_dicts()
    assert table.get("x") is None
    assert "a<b>" in table
    with pytest.raises(UnknownNameError, match="nearest: 'onnx:FILE'"):
        table["onnx:FIL"]
