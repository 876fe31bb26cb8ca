"""``--weights``: every command passes it on, the explorer's processes open the same network, atlases tell its origin."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zoos
from explorers import Command, request
from PIL import Image
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.builder.jobs.naming import public_origin
from weightatlas.builder.live import session as live
from weightatlas.builder.looking import session as looking
from weightatlas.cli import app, exploring
from weightatlas.errors import ArgumentError, LoadError, StoreError
from weightatlas.explorer import serving
from weightatlas.explorer.child import order
from weightatlas.explorer.desk import seen_by
from weightatlas.explorer.reopening import reopened

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = "efficientnet_lite0"
#: Every command that takes MODEL, with what it needs besides.
COMMANDS = {
    "layers": [], "weights": ["conv_stem", "-o", "x.svg"], "banding": [], "overview": ["-o", "x"], "graph": [],
    "expand": ["--from", "a", "--to", "b"], "explain": ["x.png"], "render": ["a", "-o", "x.svg"],
    "article": ["-o", "x"], "build": ["-o", "x"],
}  # fmt: skip


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def timm(monkeypatch):
    return zoos.put(monkeypatch, zoos.Timm())


@pytest.fixture(scope="module")
def untrained():
    return wa.load(MODEL, weights="random")


@pytest.fixture
def trained(tmp_path):
    """A file of weights for the stand-in of timm, with seven classes."""
    module = zoos.ResNetOfTimm(num_classes=7)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    return module


class TestCommands:
    @pytest.mark.parametrize("given", [(), ("--weights", "random"), ("--weights", "some/w.pth")])
    @pytest.mark.parametrize("command", [*COMMANDS, "figure", "build --dry-run"])
    def test_each_opens_the_network_with_them(self, command, given, monkeypatch):
        asked = []

        def load(source, **more):
            asked.append((source, more))
            raise LoadError("as far as this")

        monkeypatch.setattr(wa, "load", load)
        if command == "figure":
            words = ["figure", "weights", MODEL, "conv_stem", "-o", "x.svg"]
        else:
            name, *options = command.split()
            words = [name, MODEL, *COMMANDS[name], *options]
        done = run(*words, *given)
        assert (done.exit_code, done.stderr) == (2, "weightatlas: as far as this\n"), done.output
        assert asked == [(MODEL, {"weights": given[1]} if given else {})]

    def test_no_command_was_forgotten(self):
        from typer.main import get_command

        taking = {
            name
            for name, command in get_command(app).commands.items()
            if any(getattr(p, "metavar", None) in ("MODEL", "MODEL|DIR") for p in command.params)
        }
        assert taking == {*COMMANDS, "figure", "open"}
        for name in taking:
            assert any("--weights" in p.opts for p in get_command(app).commands[name].params), name

    def test_help_names_every_form_of_a_network(self):
        told = " ".join(run("layers", "--help").stdout.split())
        for form in (MODEL, "inceptionv1", "timm:NAME", "torchvision:NAME", "hf:REPO", "onnx:FILE", ".safetensors"):
            assert form in told
        assert "--weights FILE|random" in told

    def test_what_is_drawn_are_the_files_weights(self, timm, trained):
        done = run("layers", "timm:test_resnet", "--weights", "mine.pth", "--json")
        table = json.loads(done.stdout)
        assert next(row["units"] for row in table["layers"] if row["name"] == "fc") == 7
        assert "num_classes=7 as the file has it" in table["notes"]
        done = run("weights", "timm:test_resnet", "conv1.0", "--weights", "mine.pth", "-o", "w.svg")
        assert done.exit_code == 0, done.stderr
        assert "weights from mine.pth" in done.stdout.lower()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((MODEL, "--weights", "none.pth"), "there is no file none.pth"),
            (("mine.pth", "--weights", "mine.pth"), "mine.pth alone is a checkpoint"),
            (("timm:test_resnet", "--weights", "other.pth"), "other.pth does not fit timm:test_resnet"),
            (("timm:nothing_like_it",), "no timm model 'nothing_like_it'"),
        ],
    )
    def test_what_does_not_go_is_one_line(self, timm, trained, words, message):
        torch.save({"a": torch.ones(2)}, "other.pth")
        done = run("layers", *words)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert message in done.stderr

    def test_a_build_that_was_stopped_says_how_to_go_on_with_them(self, monkeypatch, lite0):
        monkeypatch.setattr(wa, "load", lambda source, **more: lite0)

        def stopped(*arguments, **more):
            raise KeyboardInterrupt

        monkeypatch.setattr(wa, "build", stopped)
        done = run("build", MODEL, "--weights", "my runs/w.pth", "-o", "a")
        assert done.exit_code == 130
        again = shlex.split(done.stderr.strip().rpartition("Go on with: ")[2])
        assert again[again.index("--weights") + 1] == "my runs/w.pth"


class TestOpen:
    @pytest.fixture
    def served(self, monkeypatch):
        given = []
        monkeypatch.setattr(wa, "serve", lambda path, **more: given.append((path, more)), raising=False)

        def opened(*words):
            done = run("open", *words)
            assert done.exit_code == 0, (done.output, done.exception)
            path, more = given[-1]
            return path, more["model"], more["weights"], done.stderr.splitlines()[-1].partition("weightatlas ")[2]

        return opened

    @pytest.mark.parametrize(
        ("words", "folder", "again"),
        [
            ([MODEL], f"{MODEL}-atlas", "open efficientnet_lite0-atlas goes on"),
            ([MODEL, "--weights", "random"], f"{MODEL}-random-atlas", "open efficientnet_lite0-random-atlas --weights random goes on"),
            ([MODEL, "--weights", "my runs/a b.pth"], f"{MODEL}-a-b-atlas", "open efficientnet_lite0-a-b-atlas --weights 'my runs/a b.pth' goes on"),
            (["timm:resnet18.a1_in1k"], "timm-resnet18.a1_in1k-atlas", "open timm:resnet18.a1_in1k -o timm-resnet18.a1_in1k-atlas goes on"),
            (["timm:hf-hub:timm/resnet18"], "timm-resnet18-atlas", "open timm:hf-hub:timm/resnet18 -o timm-resnet18-atlas goes on"),
            (["hf:microsoft/resnet-18"], "hf-resnet-18-atlas", "open hf:microsoft/resnet-18 -o hf-resnet-18-atlas goes on"),
            (["hf:./.my folder/"], "hf-.my-folder-atlas", "open 'hf:./.my folder/' -o hf-.my-folder-atlas goes on"),
            (["onnx:nets/a:b?.onnx"], "onnx-a-b-.onnx-atlas", "open 'onnx:nets/a:b?.onnx' -o onnx-a-b-.onnx-atlas goes on"),
            (["timm:x", "-o", "here"], "here", "open timm:x -o here goes on"),
        ],
    )  # fmt: skip
    def test_a_network_gets_a_folder_that_every_file_system_takes(self, served, words, folder, again):
        path, model, weights, told = served(*words)
        assert (path, model, told) == (folder, words[0], again)
        assert weights == (words[2] if "--weights" in words else None)

    def test_an_atlas_is_given_the_weights_it_does_not_hold(self, served, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "atlas.json").write_text("{}")
        assert served("a", "--weights", "w.pth") == ("a", None, "w.pth", "open a --weights w.pth goes on")

    def test_names_of_folders_hold_nothing_that_a_file_system_refuses(self):
        for source in ("timm:..", "hf:/", "C:\\x\\y", "a\x1bb", "..", "timm:" + "é*"):
            name = exploring._folder_of(source, 'w"?.pth')
            assert not set(name) & set('\\/:*?"<>|\x1b'), source
            assert not name.startswith(".")


class TestProcesses:
    def test_the_order_holds_both(self):
        assert order("a", "timm:x", "w.pth", None, None, None)["weights"] == "w.pth"
        assert order("a", "timm:x", None, None, None, None)["weights"] is None
        with pytest.raises(ArgumentError, match="weights= takes a file's path or 'random', not a int"):
            order("a", "timm:x", 3, None, None, None)

    def test_the_builder_opens_the_network_with_them(self, untrained, lite0, monkeypatch):
        monkeypatch.setattr(live, "use_threads", lambda count: None)
        hashes = {
            weights: live.Session(order("a", MODEL, weights, None, None, None), None, None).net.weights_hash
            for weights in (None, "random")
        }
        assert hashes == {None: lite0.weights_hash, "random": untrained.weights_hash}
        assert lite0.weights_hash != untrained.weights_hash

    def test_images_are_looked_at_with_them(self, untrained):
        about = {"name": MODEL, "weights_hash": untrained.weights_hash}
        manifest = {"model": about, "input": looking.as_json(untrained.input)}
        assert looking.opened(seen_by(manifest, MODEL, "random")).weights_hash == untrained.weights_hash
        with pytest.raises(StoreError, match="this atlas is of efficientnet_lite0 with the weights"):
            looking.opened(seen_by(manifest, MODEL))

    @pytest.mark.slow
    def test_an_untrained_network_is_shown_looked_at_and_opened_again(self, tmp_path, timm):
        """In processes of its own, to which timm is the stand-in: its network is captured in no time."""
        net = wa.load("timm:test_resnet", weights="random")
        (tmp_path / "site" / "timm").mkdir(parents=True)
        lines = "import sys, zoos", "sys.modules.update({m.__name__: m for m in zoos.Timm().modules()})"
        (tmp_path / "site" / "timm" / "__init__.py").write_text("\n".join(lines))
        paths = (tmp_path / "site", Path(zoos.__file__).parent, Path(wa.__file__).parents[1])
        words = ("--layers", "conv1.0", "--recipes", "quick", "--port", "0")
        drawn = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(drawn, "PNG")
        picture = drawn.getvalue()
        environment = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        for source in (["timm:test_resnet", "--weights", "random", "-o", "a"], ["a"]):
            with Command("open", *source, *words, cwd=tmp_path, env=environment) as command:
                command.address()
                about = request(command.port, "GET", "/atlas/atlas.json").json["model"]
                assert about["weights_hash"] == net.weights_hash
                assert about["origin"] == {"source": "timm:test_resnet", "weights": "random"}
                if source == ["a"]:  # where the atlas alone tells the network
                    seen = request(command.port, "POST", "/api/image", {"Content-Type": "image/png"}, picture)
                    assert seen.status == 200, seen.body
                while command.process.poll() is None:  # asked twice, it does not finish what it is making
                    command.process.send_signal(signal.SIGINT)
                    time.sleep(0.3)


class TestOrigin:
    def of(self, source, weights=None):
        net = wa.load(torch.nn.Conv2d(3, 2, 3), input=wa.InputSpec(shape=(3, 8, 8)))
        net.origin = (source, weights)
        return public_origin(net)

    @pytest.mark.parametrize(
        "source",
        [MODEL, "timm:resnet18.a1_in1k", "timm:hf-hub:timm/resnet18", "torchvision:resnet18.IMAGENET1K_V1", "hf:microsoft/resnet-18", "hf:microsoft/resnet-18@main"],
    )  # fmt: skip
    def test_names_that_mean_the_same_everywhere_are_kept(self, source):
        assert self.of(source) == {"source": source, "weights": None}

    @pytest.mark.parametrize("source", ["hf:/data/me/net", "hf:./net", "hf:../net", "timm:local-dir:/data/me", "onnx:a/b.onnx", "hf:C:\\me\\net", "hf:~/net"])  # fmt: skip
    def test_places_on_a_machine_are_not(self, source):
        assert self.of(source) == {"source": None, "weights": None}

    def test_files_are_told_by_their_names(self):
        assert self.of(MODEL, "/data/me/w.pth") == {"source": MODEL, "weights": "w.pth"}
        assert self.of(MODEL, "random") == {"source": MODEL, "weights": "random"}
        assert public_origin(wa.load(torch.nn.Conv2d(3, 2, 3), input=wa.InputSpec(shape=(3, 8, 8)))) is None

    def test_an_atlas_tells_it_and_nothing_of_the_machine(self, timm, trained, tmp_path):
        net = wa.load("timm:test_resnet", weights=tmp_path / "mine.pth")
        atlas = wa.build(net, "a", layers=["layer1"], recipes=[], only=["weights"])
        assert atlas.manifest["model"]["origin"] == {"source": "timm:test_resnet", "weights": "mine.pth"}
        assert atlas.manifest["model"]["name"] == "timm:test_resnet"
        for name in ("atlas.json", "model.json"):
            assert str(tmp_path) not in (tmp_path / "a" / name).read_text()
        assert wa.check_atlas("a").whole

    def manifest(self, **origin):
        return {"model": {"name": "shown", **({"origin": origin} if origin else {})}}

    def test_an_atlas_is_opened_by_its_origin_where_that_suffices(self):
        assert reopened(self.manifest(), "a", None) == ("shown", None, "")
        assert reopened(self.manifest(), "a", "w.pth") == ("shown", "w.pth", "")
        assert reopened(self.manifest(source="timm:x.y", weights=None), "a", None) == ("timm:x.y", None, "")
        assert reopened(self.manifest(source=MODEL, weights="random"), "a", None) == (MODEL, "random", "")
        assert reopened(self.manifest(source=MODEL, weights="w.pth"), "a", "here/w.pth") == (MODEL, "here/w.pth", "")

    def test_and_else_says_what_to_pass(self):
        why = reopened(self.manifest(source=MODEL, weights="my w.pth"), "the atlas", None)[2]
        assert why.endswith("weightatlas open 'the atlas' --weights 'FOLDER/my w.pth' names it again")
        why = reopened(self.manifest(source=None, weights=None), "a", None)[2]
        assert "shown, the network of this atlas, came from a folder" in why
        assert why.endswith("weightatlas open MODEL -o a names it again")
        assert "--weights FOLDER/w.pth -o a" in reopened(self.manifest(source=None, weights="w.pth"), "a", None)[2]

    @pytest.mark.parametrize(
        ("name", "told"),
        [("hf:my resnet", "'hf:FOLDER/my resnet'"), ("timm:local-dir:mine", "timm:local-dir:FOLDER/mine"), ("a.onnx", "onnx:FOLDER/a.onnx")],
    )  # fmt: skip
    def test_a_folder_that_nobody_tells_has_its_name_in_the_command(self, name, told):
        manifest = {"model": {"name": name, "origin": {"source": None, "weights": "w.pth"}}}
        assert f"weightatlas open {told} --weights FOLDER/w.pth -o a names it" in reopened(manifest, "a", None)[2]

    @pytest.mark.parametrize("given", [None, "mine.pth"])
    def test_an_atlas_whose_file_is_missing_is_shown_and_says_so(self, timm, trained, tmp_path, monkeypatch, given):
        net = wa.load("timm:test_resnet", weights=tmp_path / "mine.pth")
        wa.build(net, "a", layers=["layer1"], recipes=[], only=["weights"])
        runs = []

        class Run:
            def __init__(self, desk, asked, *rest):
                runs.append((desk, asked))

            async def until_ended(self, *rest):
                pass

        monkeypatch.setattr(serving, "Run", Run)
        wa.serve("a", weights=given, port=0, stop=threading.Event())
        desk, asked = runs[0]
        if given is None:
            assert asked is None
            assert desk.looker is None
            assert desk.about()["why"] == desk.about()["images"]["why"]
            assert desk.about()["why"].endswith("weightatlas open a --weights FOLDER/mine.pth names it again")
        else:
            assert (asked["model"], asked["weights"]) == ("timm:test_resnet", "mine.pth")
            assert desk.looker.order()["weights"] == "mine.pth"
