"""The installed command, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

MODEL = "efficientnet_lite0"


def command(*words, env=None):
    program = Path(sys.executable).with_name("weightatlas")
    return subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, env=env, check=False)


@pytest.mark.slow
def test_the_installed_command(tmp_path):
    out = tmp_path / "stem.png"
    done = command("weights", MODEL, "conv_stem", "-o", out, "--units", "0-9")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(out) as opened:
        assert opened.width == 1440
        assert np.asarray(opened.convert("RGB")).std() > 10
    wrong = command("weights", MODEL, "conv_stem:3", "-o", out)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "Traceback" not in wrong.stderr


def test_a_terminal_that_lacks_letters(tmp_path):
    checkpoint = tmp_path / "three.pt"
    torch.save({f"{n}.weight": torch.randn(6, 6, 3, 3) for n in "abc"}, checkpoint)
    done = command("banding", checkpoint, env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert "a is listed apart" in done.stdout
