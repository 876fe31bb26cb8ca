"""The examples run: the shapes are what they are called, and three lines open the network."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import weightatlas as wa

FILE = Path(__file__).parent.parent / "examples" / "own_network.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_network", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shapes_are_told_apart_by_what_they_are(example):
    images, kinds = example.shapes(400, torch.Generator().manual_seed(1))
    assert images.shape == (400, 1, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    assert set(kinds.tolist()) == {0, 1, 2, 3}
    # the bright pixels of a circle are all equally far from their middle; those of the others are not
    spread = {kind: [] for kind in range(4)}
    for image, kind in zip(images[:, 0].numpy(), kinds.tolist(), strict=True):
        places = np.argwhere(image > 0.75)
        away = np.linalg.norm(places - places.mean(0), axis=1)
        spread[kind].append(away.std() / away.mean())
    middle = [np.median(spread[kind]) for kind in range(4)]
    assert middle[0] < 0.6 * min(middle[1:])


def test_three_lines_open_the_network(example, monkeypatch, capsys, one_thread):
    monkeypatch.setattr(example, "STEPS", 70)
    module = example.trained()
    assert float(re.search(r"trained: ([\d.]+)%", capsys.readouterr().out)[1]) > 40  # a quarter by chance
    net = wa.load(module, input=wa.InputSpec(shape=(1, example.SIDE, example.SIDE)))
    assert net.layers["conv3"].receptive_field.size == (32, 32)
    lines = FILE.read_text().split("# The three lines")[1].splitlines()[1:]
    assert len([line for line in lines if line.strip()]) == 3
