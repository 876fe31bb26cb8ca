"""An atlas of the embedded network for tests of the explorer, and the commands that serve it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import torch
from shortened import short_recipes

import weightatlas as wa

LAYERS = ["blocks.3.2", "blocks.4.0", "blocks.4.1", "blocks.4.2"]
UNITS = 10
PROGRAM = [sys.executable, "-c", "from weightatlas.cli import app; app()"]
PATIENCE = 90.0  # seconds


def build(net, folder, photos):
    """Four blocks, quick pictures of ten units each, of few steps, two photos."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = [photos["cat"], photos["astronaut"]]
        with short_recipes():
            wa.build(net, folder, layers=LAYERS, recipes="quick", units=range(UNITS), images=images)
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def served(*arguments, log: Path):
    """The address of ``weightatlas open …`` while it runs; it must end by itself when it is told to."""
    with log.open("w") as words:
        process = subprocess.Popen(
            [*PROGRAM, "open", *map(str, arguments), "--no-browser", "--port", "0"],
            stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield address(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if status:
        raise RuntimeError(f"weightatlas open ended with {status}: {log.read_text()}")


def address(process, log):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        match = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if match:
            return match[0]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"no address: {log.read_text()}")


@contextlib.contextmanager
def static(folder):
    """The address of ``python -m http.server`` over a folder."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+", line)[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def got(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)
