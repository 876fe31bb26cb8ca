"""The lines that make a figure again: they open the network as it was opened, weights and all."""

import os
import shlex

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import weightatlas as wa
from weightatlas.builder.commands import command
from weightatlas.cli import app
from weightatlas.network import Network

pytestmark = pytest.mark.usefixtures("one_thread")


def opened(source, weights=None, name="it"):
    """A network as ``load`` leaves it, whatever opened it."""
    net = Network(name, nn.Sequential(nn.Conv2d(3, 8, 3)), wa.InputSpec(shape=(3, 24, 24)), {})
    net.origin = (source, weights)
    return net


@pytest.mark.parametrize(
    ("source", "weights", "words"),
    [
        ("inceptionv1", None, "weightatlas weights inceptionv1 0 --units 0-2 -o f.svg"),
        ("inceptionv1", "random", "weightatlas weights inceptionv1 0 --weights random --units 0-2 -o f.svg"),
        ("inceptionv1", "HERE/a b.pth", "weightatlas weights inceptionv1 0 --weights 'a b.pth' --units 0-2 -o f.svg"),
        ("inceptionv1", "HERE/in/it.pb", "weightatlas weights inceptionv1 0 --weights in/it.pb --units 0-2 -o f.svg"),
        ("inceptionv1", "/else/it.pb", "weightatlas weights inceptionv1 0 --weights /else/it.pb --units 0-2 -o f.svg"),
        ("timm:resnet18", None, "weightatlas weights timm:resnet18 0 --units 0-2 -o f.svg"),
        ("timm:resnet18", "random", "weightatlas weights timm:resnet18 0 --weights random --units 0-2 -o f.svg"),
        ("onnx:-o.onnx", None, "weightatlas weights onnx:-o.onnx 0 --units 0-2 -o f.svg"),
        ("-x", "random", "weightatlas weights --weights random --units 0-2 -o f.svg -- -x 0"),
    ],
)
def test_commands_name_the_source_and_the_weights(source, weights, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = opened(source, weights and weights.replace("HERE", os.getcwd()), "resnet18")
    assert shlex.split(command(net, "weights", "0", {"units": range(3)}, "f.svg")) == shlex.split(words)


@pytest.mark.parametrize(
    ("weights", "call"), [(None, "wa.load('timm:x')"), ("random", "wa.load('timm:x', weights='random')")]
)
def test_lines_of_python_open_it_as_well(weights, call):
    recipe = wa.featurevis.Recipe(side=16, steps=1)
    line = command(opened("timm:x", weights), "features", "0", {"recipe": recipe}, "f.svg")
    assert line.startswith(f"wa.figure({call}, 'features', '0', recipe=wa.Recipe(")


def test_a_network_with_another_input_has_no_command(lite0):
    published = wa.load("efficientnet_lite0", input=wa.InputSpec(shape=(3, 96, 96)))
    assert command(published, "banding", None, {}, "f.svg") == "wa.figure(net, 'banding').save('f.svg')"
    assert command(lite0, "banding", None, {}, "f.svg") == "weightatlas banding efficientnet_lite0 -o f.svg"


def test_what_is_printed_runs(lite0, tmp_path, monkeypatch):
    state = lite0.module.state_dict()
    torch.save({**state, "conv_stem.weight": state["conv_stem.weight"].flip(-1)}, tmp_path / "turned.pth")
    monkeypatch.chdir(tmp_path)
    net = wa.load("efficientnet_lite0", weights="turned.pth")
    program, *words = shlex.split(command(net, "weights", "conv_stem", {"units": range(4)}, "f.svg"))
    assert program == "weightatlas"
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    drawn = (tmp_path / "f.svg").read_text()
    assert drawn == wa.figure(net, "weights", "conv_stem", units=range(4)).svg()
    assert drawn != wa.figure(lite0, "weights", "conv_stem", units=range(4)).svg()
